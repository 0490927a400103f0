//! Work: what should be done next, derived from the state alone, so that a lost command is
//! simply derived again.

use std::collections::BTreeMap;

use super::mailbox::HeldMailbox;
use super::watch::Watch;
use super::{Dial, HeldJob, Holding, Lease};
use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{Health, Level};
use crate::planted::{self, Bug};
use crate::policy::Soaks;
use crate::rollout::Order;
use crate::time::{Span, Timestamp};

/// What should be done next. Every list is bounded by what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Jobs to claim at the store, with their generation.
    pub claim: Vec<(JobNumber, Generation)>,
    /// Mailboxes verified under an earlier generation, to be looked at again.
    pub recheck: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Mailboxes to verify and repair.
    pub prepare: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Held mailboxes to look at and then raise.
    pub open: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Open mailboxes to raise further.
    pub raise: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Open mailboxes to read.
    pub probe: Vec<ProbeTask>,
    /// Held mailboxes to be replaced by empty ones, for a dial tone.
    pub dial: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Mailboxes whose dial tone must end before they are raised.
    pub hang_up: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Mailboxes whose history must be put back before they are raised.
    pub switch: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
}

/// An open mailbox to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeTask {
    /// The job.
    pub job: JobNumber,
    /// The generation.
    pub generation: Generation,
    /// The mailbox.
    pub ordinal: Ordinal,
    /// The level it stands on.
    pub level: Level,
    /// Whether it has been open for the soak time.
    pub mature: bool,
}

impl Holding {
    /// Jobs to claim at the store, with their generation.
    pub fn claims(&self) -> impl Iterator<Item = (JobNumber, Generation)> + '_ {
        self.pending.iter().map(|(job, order)| (*job, order.generation))
    }

    /// What should be done next, no more than `room` for each kind. Remembers only where there
    /// is nothing to look for.
    ///
    /// `busy` tells mailboxes that hands are already on.
    pub fn work(
        &mut self,
        lease: Lease,
        soaks: &Soaks,
        mut room: Room,
        busy: &dyn Fn(JobNumber, Ordinal) -> bool,
    ) -> Work {
        let mut work = Work { claim: self.claims().collect(), ..Work::default() };
        room.switch = room.switch.saturating_sub(self.switching(lease));
        let mut jobs = std::mem::take(&mut self.jobs);
        for (number, held) in &mut jobs {
            let mut watch = std::mem::take(&mut held.watch);
            let free = |ordinal: Ordinal| !busy(*number, ordinal);
            let job = Asked { number: *number, held, lease, soaks, free: &free };
            if !self.pending.contains_key(number) {
                self.preparing(&job, &mut room, &mut work);
                self.opening(&job, &mut room, &mut work);
                self.dialling(&job, &mut room, &mut work);
            }
            probing(&job, &mut watch, &mut room, &mut work);
            held.watch = watch;
        }
        self.jobs = jobs;
        work
    }

    /// How many mailboxes are between their dial tone and being raised.
    fn switching(&self, lease: Lease) -> usize {
        let dialled = self.jobs.values().filter(|held| held.counts.dialled > 0);
        let jobs = dialled.map(|held| {
            let off = held.mailboxes.iter().filter(|(ordinal, mailbox)| {
                mailbox.dial == Dial::Off && self.allows(held, *ordinal, lease)
            });
            off.count()
        });
        jobs.sum()
    }

    fn dialling(&self, job: &Asked<'_>, room: &mut Room, work: &mut Work) {
        if job.held.counts.dialled == 0 {
            return;
        }
        let (mut dial, mut hang_up, mut switch) = (Vec::new(), Vec::new(), Vec::new());
        for (ordinal, mailbox) in job.held.mailboxes.iter() {
            if mailbox.dial == Dial::None || !(job.free)(ordinal) {
                continue;
            }
            let allowed = self.allows(job.held, ordinal, job.lease);
            match mailbox.dial {
                Dial::Off if allowed => switch.push(ordinal),
                Dial::On if allowed && room.switch > 0 => {
                    room.switch -= 1;
                    hang_up.push(ordinal);
                }
                Dial::Off
                    if room.dial > 0 && self.may_dial(job.held, ordinal, job.lease) =>
                {
                    room.dial -= 1;
                    dial.push(ordinal);
                }
                Dial::Off | Dial::On | Dial::None => {}
            }
        }
        push(&mut work.dial, job, dial);
        push(&mut work.hang_up, job, hang_up);
        push(&mut work.switch, job, switch);
    }

    fn preparing(&self, job: &Asked<'_>, room: &mut Room, work: &mut Work) {
        let Some(order) = job.held.order.as_ref().filter(|order| order.prepare) else {
            return;
        };
        // First the empty mailbox: what is verified must not move.
        let is_dialled_first = |ordinal: Ordinal, mailbox: &HeldMailbox| {
            let comes = mailbox.dial == Dial::Off
                || mailbox.dial == Dial::None && !mailbox.served;
            comes && self.may_dial(job.held, ordinal, job.lease)
        };
        let chosen = |known: bool, room: &mut usize| {
            let chosen: Vec<Ordinal> = job
                .held
                .mailboxes
                .iter()
                .filter(|(_, m)| {
                    let into_open = planted::is(Bug::RestoreIntoOpen) && !known;
                    let waits = !m.state.is_settled() && m.stamp.is_some() == known;
                    waits || into_open && m.state.is_open()
                })
                .filter(|(ordinal, m)| !is_dialled_first(*ordinal, m))
                .map(|(ordinal, _)| ordinal)
                .filter(|ordinal| {
                    (job.free)(*ordinal) && !order.held_back.contains(ordinal)
                })
                .take(*room)
                .collect();
            *room -= chosen.len();
            chosen
        };
        let into_open = planted::is(Bug::RestoreIntoOpen);
        if job.held.counts.unlooked > 0 && room.recheck > 0 {
            push(&mut work.recheck, job, chosen(true, &mut room.recheck));
        }
        if (job.held.counts.unverified > 0 || into_open) && room.prepare > 0 {
            push(&mut work.prepare, job, chosen(false, &mut room.prepare));
        }
    }

    fn opening(&self, job: &Asked<'_>, room: &mut Room, work: &mut Work) {
        let asks = |order: &&Order| job.held.counts.any_below(order.level);
        let Some(order) = job.held.order.as_ref().filter(asks) else { return };
        if room.open == 0 {
            return;
        }
        let mut chosen: BTreeMap<bool, Vec<Ordinal>> = BTreeMap::new();
        let mut choose = |ordinal: Ordinal, mailbox: &HeldMailbox| {
            let here = mailbox.dial == Dial::None || planted::is(Bug::OpenBeside);
            let wanted = here
                && self.allows_named(job.held, ordinal, job.lease)
                && may_rise(mailbox)
                && (job.free)(ordinal);
            if wanted {
                room.open -= 1;
                chosen.entry(mailbox.state.is_open()).or_default().push(ordinal);
            }
            room.open > 0
        };
        match &order.named {
            Some(named) => {
                let below = named.iter().take_while(|it| it.get() < order.open_below);
                for ordinal in below {
                    let mailbox = job.held.mailboxes.get(*ordinal);
                    if mailbox.is_some_and(|mailbox| !choose(*ordinal, &mailbox)) {
                        break;
                    }
                }
            }
            None => {
                let below = usize::from(order.open_below);
                for (ordinal, mailbox) in job.held.mailboxes.iter().take(below) {
                    if !choose(ordinal, &mailbox) {
                        break;
                    }
                }
            }
        }
        push(&mut work.open, job, chosen.remove(&false).unwrap_or_default());
        push(&mut work.raise, job, chosen.remove(&true).unwrap_or_default());
    }
}

/// One job, and how its work is asked for.
struct Asked<'a> {
    number: JobNumber,
    held: &'a HeldJob,
    lease: Lease,
    soaks: &'a Soaks,
    free: &'a dyn Fn(Ordinal) -> bool,
}

impl Asked<'_> {
    /// How long an opened mailbox must stay healthy on `level`.
    fn soak(&self, level: Level) -> Span {
        let usual = self.soaks.on(level);
        let ordered = self.held.order.as_ref().and_then(|order| order.soak);
        ordered.map_or(usual, |ordered| ordered.min(usual))
    }
}

/// How many mailboxes of each kind of work may be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// To verify and repair.
    pub prepare: usize,
    /// To look at again.
    pub recheck: usize,
    /// To open or raise.
    pub open: usize,
    /// To read.
    pub probe: usize,
    /// To be replaced by empty ones.
    pub dial: usize,
    /// To be on the way from their dial tone to being raised, all together.
    pub switch: usize,
}

/// A mature mailbox is read again after this many soak times: often enough to notice a node
/// that sickens later, seldom enough to cost next to nothing.
const WATCH_SOAKS: u64 = 8;

/// And no more often than this: a rung without a soak would be read without end.
const WATCH_MIN: Span = Span::from_secs(5);

/// Mailboxes of a block are read together: no later than so small a part of the soak behind their
/// time, and never later than a moment. Each time, all of the block are looked through.
const TOGETHER_PART: u64 = 64;
const TOGETHER_MAX: Span = Span::from_secs(10);

/// An open mailbox rises further only once it was seen healthy where it stands.
fn may_rise(mailbox: &HeldMailbox) -> bool {
    !mailbox.state.is_open() || mailbox.state.health == Health::Healthy
}

/// Asks for what is to be read now.
fn probing(job: &Asked<'_>, watch: &mut Watch, room: &mut Room, work: &mut Work) {
    let now = job.lease.now;
    watch.look(now, |places| {
        let (mut next, mut left_over) = (Timestamp::from_millis(u64::MAX), false);
        let mut together = TOGETHER_MAX;
        for ordinal in places.map(Ordinal::new) {
            let Some(mailbox) = job.held.mailboxes.get(ordinal) else { break };
            let Some(due) = due(job, &mailbox) else { continue };
            if room.probe == 0 {
                return None;
            }
            let soak = job.soak(mailbox.state.level);
            together = together.min(Span::from_millis(soak.millis() / TOGETHER_PART));
            if due > now {
                next = next.min(due);
            } else {
                left_over = true;
                ask(job, ordinal, &mailbox, room, work);
            }
        }
        Some(if left_over { now } else { next.max(now + together) })
    });
}

/// When an open mailbox is to be read next.
fn due(job: &Asked<'_>, mailbox: &HeldMailbox) -> Option<Timestamp> {
    if !mailbox.state.is_open() {
        return None;
    }
    let soak = job.soak(mailbox.state.level);
    let watch = Span::from_millis(soak.millis().saturating_mul(WATCH_SOAKS));
    let watch = watch.max(WATCH_MIN);
    match (mailbox.state.health, mailbox.was_read) {
        (Health::Failed | Health::IntegrityFailed, _) if planted::is(Bug::BadHeals) => {
            Some(job.lease.now)
        }
        (Health::Unproven, true) => Some(mailbox.since + soak),
        // One that could not be read may show altered mail too, which is worse.
        (Health::Healthy | Health::Failed, true) => Some(mailbox.since + watch),
        (Health::Unproven | Health::Healthy | Health::Failed, false) => {
            Some(job.lease.now)
        }
        (Health::IntegrityFailed, _) => None,
    }
}

/// Asks for one mailbox to be read, where there is room and no hand on it.
fn ask(
    job: &Asked<'_>,
    ordinal: Ordinal,
    mailbox: &HeldMailbox,
    room: &mut Room,
    work: &mut Work,
) {
    if room.probe == 0 || !(job.free)(ordinal) {
        return;
    }
    room.probe -= 1;
    // Whatever has shown how it is has been here for the soak time, or need not have been.
    let soak = job.soak(mailbox.state.level);
    let is_mature =
        mailbox.state.health != Health::Unproven || job.lease.now >= mailbox.since + soak;
    work.probe.push(ProbeTask {
        job: job.number,
        generation: job.held.generation,
        ordinal,
        level: mailbox.state.level,
        mature: is_mature,
    });
}

fn push(
    list: &mut Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    job: &Asked<'_>,
    ordinals: Vec<Ordinal>,
) {
    if !ordinals.is_empty() {
        list.push((job.number, job.held.generation, ordinals));
    }
}
