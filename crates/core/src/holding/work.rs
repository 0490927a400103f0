//! Work: what should be done next, derived from the state alone, so that a lost command is
//! simply derived again.

use std::collections::BTreeMap;

use super::{Dial, HeldJob, HeldMailbox, Holding, Lease, ordinals};
use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{Health, Level};
use crate::planted::{self, Bug};
use crate::policy::Soaks;
use crate::time::Span;

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
    /// What should be done next, no more than `room` for each kind.
    ///
    /// `busy` tells mailboxes that hands are already on.
    pub fn work(
        &self,
        lease: Lease,
        soaks: &Soaks,
        mut room: Room,
        busy: &dyn Fn(JobNumber, Ordinal) -> bool,
    ) -> Work {
        let mut work = Work {
            claim: self
                .pending
                .iter()
                .map(|(job, order)| (*job, order.generation))
                .collect(),
            ..Work::default()
        };
        room.switch = room.switch.saturating_sub(self.switching(lease));
        for (number, held) in &self.jobs {
            let free = |ordinal: Ordinal| !busy(*number, ordinal);
            let job = Asked { number: *number, held, lease, soaks, free: &free };
            if !self.pending.contains_key(number) {
                self.preparing(&job, &mut room, &mut work);
                self.opening(&job, &mut room, &mut work);
                self.dialling(&job, &mut room, &mut work);
            }
            probing(&job, &mut room, &mut work);
        }
        work
    }

    /// How many mailboxes are between their dial tone and being raised.
    fn switching(&self, lease: Lease) -> usize {
        let jobs = self.jobs.values().map(|held| {
            let off = ordinals(&held.mailboxes).filter(|(ordinal, mailbox)| {
                mailbox.dial == Dial::Off && self.allows(held, *ordinal, lease)
            });
            off.count()
        });
        jobs.sum()
    }

    fn dialling(&self, job: &Asked<'_>, room: &mut Room, work: &mut Work) {
        let (mut dial, mut hang_up, mut switch) = (Vec::new(), Vec::new(), Vec::new());
        for (ordinal, mailbox) in ordinals(&job.held.mailboxes) {
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
            let chosen: Vec<Ordinal> = ordinals(&job.held.mailboxes)
                .filter(|(_, m)| {
                    let open = planted::is(Bug::RestoreIntoOpen) && m.state.is_open();
                    let known = m.stamp.is_some() == known;
                    !m.state.is_settled() && known || open && !known
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
        push(&mut work.recheck, job, chosen(true, &mut room.recheck));
        push(&mut work.prepare, job, chosen(false, &mut room.prepare));
    }

    fn opening(&self, job: &Asked<'_>, room: &mut Room, work: &mut Work) {
        let mut chosen: BTreeMap<bool, Vec<Ordinal>> = BTreeMap::new();
        for (ordinal, mailbox) in ordinals(&job.held.mailboxes) {
            if room.open == 0 {
                break;
            }
            let wanted = self.permits(job.held, ordinal, job.lease)
                && (job.free)(ordinal)
                && may_rise(mailbox);
            if wanted {
                room.open -= 1;
                chosen.entry(mailbox.state.is_open()).or_default().push(ordinal);
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

/// An open mailbox rises further only once it was seen healthy where it stands.
fn may_rise(mailbox: &HeldMailbox) -> bool {
    !mailbox.state.is_open() || mailbox.state.health == Health::Healthy
}

fn probing(job: &Asked<'_>, room: &mut Room, work: &mut Work) {
    let now = job.lease.now;
    for (ordinal, mailbox) in ordinals(&job.held.mailboxes) {
        if room.probe == 0 {
            break;
        }
        let soak = job.soaks.on(mailbox.state.level);
        let watch = Span::from_millis(soak.millis().saturating_mul(WATCH_SOAKS));
        let watch = watch.max(WATCH_MIN);
        let mature = now.since(mailbox.level_since) >= soak;
        let wanted = match mailbox.state.health {
            _ if !mailbox.state.is_open() => false,
            Health::Unproven => mature || mailbox.probed_at.is_none(),
            Health::Failed | Health::IntegrityFailed if planted::is(Bug::BadHeals) => {
                true
            }
            // One that could not be read may show altered mail too, which is worse.
            Health::Healthy | Health::Failed => {
                mailbox.probed_at.is_none_or(|at| now.since(at) >= watch)
            }
            Health::IntegrityFailed => false,
        };
        if wanted && (job.free)(ordinal) {
            room.probe -= 1;
            work.probe.push(ProbeTask {
                job: job.number,
                generation: job.held.generation,
                ordinal,
                level: mailbox.state.level,
                mature,
            });
        }
    }
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
