//! Promises: what must be true whatever happens, judged by what nobody in the model can see.
//!
//! # Invariants
//!
//! * A promise is judged in the step that may break it, by what is true and not by what
//!   anybody believes.

use std::fmt;

use crate::state::{Fact, Ledger, Phase, State, WAVES};

/// What must never be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Promise {
    /// I1: nothing is written into an open mailbox.
    Kept,
    /// I3: what opens is whole.
    VerifiedBeforeOpen,
    /// I4: a stale hand changes nothing.
    OneHand,
    /// I5: the second wave opens only when the first is healthy, and was not found bad.
    NoExpansion,
    /// I6: after a stop is effective nothing opens.
    StopStops,
    /// I6: after a re-close is known everywhere, nothing of it stands open until allowed.
    RecloseHolds,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "I1: a worker writes into an open mailbox",
            Self::VerifiedBeforeOpen => "I3: a mailbox opens that is not whole",
            Self::OneHand => "I4: a stale hand changes the store",
            Self::NoExpansion => "I5: the second wave may open, the first is not healthy",
            Self::StopStops => "I6: a mailbox opens after a stop is effective",
            Self::RecloseHolds => "I6: a mailbox opens that is known to be re-closed",
        })
    }
}

/// What really happened.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// The highest generation that was ever issued for each job.
    pub(crate) issued: [u8; WAVES],
    /// A worker has found it healthy since then.
    healthy: [bool; WAVES],
    /// The coordinator has been told that it is bad since then.
    bad: [bool; WAVES],
    /// It was open when it was re-closed, and has not been closed since.
    must_close: [bool; WAVES],
    /// It was re-closed, and the coordinator knows that it is closed.
    is_reclosed: [bool; WAVES],
    /// An operator could read that a stop is effective.
    stopped: bool,
    /// Who changed the store last: generation and run.
    changed_by: [(u8, u8); WAVES],
}

impl Seen {
    /// Every generation, or every run, that is in it.
    pub(crate) fn each_number(&mut self, f: &mut dyn FnMut(&mut u8), runs: bool) {
        for (generation, run) in &mut self.changed_by {
            f(if runs { run } else { generation });
        }
        if !runs {
            self.issued.iter_mut().for_each(f);
        }
    }
}

impl State {
    fn break_promise(&mut self, promise: Promise) {
        self.broken = self.broken.or(Some(promise));
    }

    /// A generation was issued for `job`.
    pub(crate) fn saw_issue(&mut self, job: usize, generation: u8) {
        let seen = &mut self.seen;
        seen.issued[job] = seen.issued[job].max(generation);
        (seen.healthy[job], seen.bad[job]) = (false, false);
    }

    /// An operator re-closed wave `job`.
    pub(crate) fn saw_reclose(&mut self, job: usize) {
        let is_open = self.is_open(job);
        let seen = &mut self.seen;
        (seen.healthy[job], seen.bad[job]) = (false, false);
        seen.must_close[job] |= is_open;
    }

    /// A worker noted that it is healthy.
    pub(crate) fn saw_healthy(&mut self, job: usize, generation: u8) {
        self.seen.healthy[job] |= generation == self.seen.issued[job];
    }

    /// The coordinator recorded a report.
    pub(crate) fn saw_told(&mut self, job: usize, generation: u8, told: Fact) {
        let is_bad = told.health == crate::state::Health::Failed;
        self.seen.bad[job] |= is_bad && generation == self.seen.issued[job];
    }

    /// An operator let the rollout go on.
    pub(crate) fn saw_resume(&mut self) {
        self.seen.stopped = false;
    }

    /// A wave was allowed to open.
    pub(crate) fn saw_allowed(&mut self, wave: usize) {
        self.seen.is_reclosed[wave] = false;
        let seen = &self.seen;
        let is_good = seen.healthy[0] && !seen.bad[0] && !seen.must_close[0];
        if wave > 0 && !is_good {
            self.break_promise(Promise::NoExpansion);
        }
    }

    /// The bytes of a mailbox are being changed by `run` under `generation`.
    pub(crate) fn saw_change(&mut self, job: usize, generation: u8, run: u8) {
        if self.is_open(job) {
            self.break_promise(Promise::Kept);
        }
        let (last, by) = self.seen.changed_by[job];
        if generation < last || generation == last && by != run {
            self.break_promise(Promise::OneHand);
        }
        let since = self.seen.changed_by[job].max((generation, run));
        self.seen.changed_by[job] = since;
    }

    /// Somebody works under a claim of its own from here on.
    pub(crate) fn saw_claim(&mut self, job: usize, generation: u8, run: u8) {
        if generation > self.seen.changed_by[job].0 {
            self.seen.changed_by[job] = (generation, run);
        }
    }

    /// A mailbox opens.
    pub(crate) fn saw_open(&mut self, job: usize) {
        let mailbox = &self.store[job];
        if !mailbox.good || mailbox.locked_by > 0 {
            self.break_promise(Promise::VerifiedBeforeOpen);
        }
        self.saw_standing(job);
        if self.seen.stopped {
            self.break_promise(Promise::StopStops);
        }
    }

    /// A mailbox is seen to stand open that was not before.
    pub(crate) fn saw_standing(&mut self, job: usize) {
        if self.seen.is_reclosed[job] {
            self.break_promise(Promise::RecloseHolds);
        }
    }

    /// What an operator can read after each step. `acknowledged`: a stop is effective when
    /// the node's worker says so.
    pub(crate) fn look_at_screens(&mut self, acknowledged: bool) {
        for job in 0..WAVES {
            self.seen.must_close[job] &= self.is_open(job);
        }
        let mut stopped = false;
        let mut reclosed = [false; WAVES];
        for program in self.programs.iter().flatten() {
            let Ledger { phase, run, stop_version, jobs, waves, .. } = &program.ledger;
            let heard = program.without_permit || program.obeyed >= *stop_version;
            stopped |= *phase != Phase::Running && (*run == 0 || heard || !acknowledged);
            for (told, (job, wave)) in reclosed.iter_mut().zip(jobs.iter().zip(waves)) {
                *told |= wave.held_back && !job.fact.open && !job.reclosed;
            }
        }
        self.seen.stopped |= stopped;
        for (seen, told) in self.seen.is_reclosed.iter_mut().zip(reclosed) {
            *seen |= told;
        }
    }
}
