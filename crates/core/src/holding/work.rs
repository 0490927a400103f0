//! Work: what should be done next, derived from the state alone, so that a lost command is
//! simply derived again.

use std::collections::BTreeMap;

use super::{HeldJob, HeldMailbox, Holding, Lease, ordinals};
use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{Health, Level};
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
        soak: Span,
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
        for (number, job) in &self.jobs {
            let free = |ordinal: &Ordinal| !busy(*number, *ordinal);
            self.preparing(*number, job, &free, &mut room, &mut work);
            self.opening(*number, job, lease, &free, &mut room, &mut work);
            probing(*number, job, Soak { lease, soak }, &free, &mut room, &mut work);
        }
        work
    }

    fn preparing(
        &self,
        number: JobNumber,
        job: &HeldJob,
        free: &dyn Fn(&Ordinal) -> bool,
        room: &mut Room,
        work: &mut Work,
    ) {
        let wanted = job.order.as_ref().is_some_and(|order| order.prepare);
        if !wanted || self.pending.contains_key(&number) {
            return;
        }
        let waiting = |known: bool| {
            ordinals(&job.mailboxes)
                .filter(move |(_, m)| !m.state.is_settled() && m.stamp.is_some() == known)
                .map(|(ordinal, _)| ordinal)
        };
        let held_back = job.order.as_ref().map_or(&[][..], |order| &order.held_back);
        let chosen = |known, room: &mut usize| {
            let chosen: Vec<Ordinal> = waiting(known)
                .filter(|ordinal| free(ordinal) && !held_back.contains(ordinal))
                .take(*room)
                .collect();
            *room -= chosen.len();
            chosen
        };
        let recheck = chosen(true, &mut room.recheck);
        let prepare = chosen(false, &mut room.prepare);
        push(&mut work.recheck, number, job.generation, recheck);
        push(&mut work.prepare, number, job.generation, prepare);
    }

    fn opening(
        &self,
        number: JobNumber,
        job: &HeldJob,
        lease: Lease,
        free: &dyn Fn(&Ordinal) -> bool,
        room: &mut Room,
        work: &mut Work,
    ) {
        let mut chosen: BTreeMap<bool, Vec<Ordinal>> = BTreeMap::new();
        for (ordinal, mailbox) in ordinals(&job.mailboxes) {
            if room.open == 0 {
                break;
            }
            let wanted = !self.pending.contains_key(&number)
                && self.permits(job, ordinal, lease)
                && free(&ordinal)
                && may_rise(mailbox);
            if wanted {
                room.open -= 1;
                chosen.entry(mailbox.state.is_open()).or_default().push(ordinal);
            }
        }
        push(
            &mut work.open,
            number,
            job.generation,
            chosen.remove(&false).unwrap_or_default(),
        );
        push(
            &mut work.raise,
            number,
            job.generation,
            chosen.remove(&true).unwrap_or_default(),
        );
    }
}

/// A mature mailbox is read again after this many soak times: often enough to notice a node
/// that sickens later, seldom enough to cost next to nothing.
const WATCH_SOAKS: u64 = 8;

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
}

#[derive(Clone, Copy)]
struct Soak {
    lease: Lease,
    soak: Span,
}

/// An open mailbox rises further only once it was seen healthy where it stands.
fn may_rise(mailbox: &HeldMailbox) -> bool {
    !mailbox.state.is_open() || mailbox.state.health == Health::Healthy
}

fn probing(
    number: JobNumber,
    job: &HeldJob,
    soak: Soak,
    free: &dyn Fn(&Ordinal) -> bool,
    room: &mut Room,
    work: &mut Work,
) {
    for (ordinal, mailbox) in ordinals(&job.mailboxes) {
        if room.probe == 0 {
            break;
        }
        let now = soak.lease.now;
        let mature = now.since(mailbox.level_since) >= soak.soak;
        let unread =
            |span: Span| mailbox.probed_at.is_none_or(|at| now.since(at) >= span);
        let wanted = match mailbox.state.health {
            _ if !mailbox.state.is_open() => false,
            Health::Unproven => mature || mailbox.probed_at.is_none(),
            Health::Healthy => {
                unread(Span::from_millis(soak.soak.millis() * WATCH_SOAKS))
            }
            Health::Failed | Health::IntegrityFailed => false,
        };
        if wanted && free(&ordinal) {
            room.probe -= 1;
            work.probe.push(ProbeTask {
                job: number,
                generation: job.generation,
                ordinal,
                level: mailbox.state.level,
                mature,
            });
        }
    }
}

fn push(
    list: &mut Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    job: JobNumber,
    generation: Generation,
    ordinals: Vec<Ordinal>,
) {
    if !ordinals.is_empty() {
        list.push((job, generation, ordinals));
    }
}
