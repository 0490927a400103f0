//! Dial: empty mailboxes at once, and their histories back before they open.
//!
//! # Invariants
//!
//! * Before the store is asked for an empty mailbox, the journal knows that it may have one.
//! * A history is put back only when nobody is in the mailbox: the doors are closed on disk, and the
//!   mail system has said so, where one is told.

use std::collections::BTreeSet;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Dial, DialStep, Lease, Record, Settled, Stamp, Switched};
use tidegate_core::mailbox::Preparation;
use tidegate_core::planted::{self, Bug};
use tidegate_core::rollout::{Finding, Grade, Grades, MessageTotals};
use tidegate_core::time::{Span, Timestamp};
use tidegate_mail::Mailbox;

use super::Node;
use super::results::DEFER;
use crate::hands::Task;
use crate::store::{Dialling, Switching};

/// The most mailboxes of one task: they share the flushes of the file system.
const DIAL_TOGETHER: usize = 64;

/// The most mailboxes on their way from a dial tone to being raised: so many are closed for the
/// moment, and a switch takes some flushes of the file system whatever their number.
pub(super) const SWITCHING_MAX: usize = 128;

/// The most mailboxes that are emptied in one turn: a few tasks for the hands.
pub(super) const DIAL_MAX: usize = 256;

/// How long deliveries may be under way where nobody can be asked: as long as one may take that was
/// admitted in the last moment.
const UNTOLD_GRACE: Span = Span::from_secs(10);

impl Node {
    /// What begins or ends by the owner's own reminder.
    pub(super) fn on_dial(&mut self, now: Timestamp) -> Vec<Record> {
        let lease = self.lease(now);
        let mut records = Vec::new();
        for (job, generation, ordinals) in std::mem::take(&mut self.hanging_up) {
            records.extend(self.holding.hung_up(job, generation, &ordinals, lease));
        }
        let busy = |job, ordinal| {
            self.busy.contains(job, ordinal) || self.herald.owes(job, ordinal)
        };
        records.extend(self.holding.dial_intents(lease, DIAL_MAX, &busy));
        records
    }

    /// Somebody may still be in these mailboxes.
    pub(super) fn owe_closed(&mut self, record: &Record, now: Timestamp) {
        let (Record::Closed { job, ordinals, .. }
        | Record::DialTone { job, step: DialStep::Ended, ordinals, .. }) = record
        else {
            return;
        };
        let was_dial_tone = matches!(record, Record::DialTone { .. });
        let waits = !planted::is(Bug::NoGrace);
        if was_dial_tone && !self.given.store.hears() && waits {
            let until = now + UNTOLD_GRACE;
            let places = ordinals.iter().map(|ordinal| ((*job, *ordinal), until));
            self.deferred.extend(places);
        }
        self.herald.owe(*job, ordinals);
        self.shut_out = !self.herald.owes_any();
    }

    /// A delivery may still be under way that was admitted before this program started, where
    /// nobody can be asked.
    pub(super) fn wait_for_deliveries(&mut self, now: Timestamp) {
        if self.given.store.hears() {
            return;
        }
        for (job, held) in self.holding.jobs() {
            let all = (0..).map(Ordinal::new).zip(held.states());
            let off = all.filter(|(ordinal, _)| held.dial(*ordinal) == Dial::Off);
            let places = off.map(|(ordinal, _)| ((job, ordinal), now + UNTOLD_GRACE));
            self.deferred.extend(places);
        }
    }

    /// Gives the hands what is to be dialled and switched.
    pub(super) fn dispatch_dial(
        &mut self,
        dial: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
        switch: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    ) {
        for (job, generation, ordinals) in dial {
            for some in ordinals.chunks(DIAL_TOGETHER) {
                let Some(chosen) = self.chosen(job, some) else { continue };
                self.give(job, some, Task::Dial { job, generation, chosen });
            }
        }
        for (job, generation, ordinals) in switch {
            for some in ordinals.chunks(DIAL_TOGETHER) {
                let mailboxes = self.verified(job, some);
                self.give(job, some, Task::Switch { job, generation, mailboxes });
            }
        }
    }

    /// Mailboxes with the stamps that they were verified at.
    fn verified(
        &self,
        job: JobNumber,
        ordinals: &[Ordinal],
    ) -> Vec<(Ordinal, Mailbox, Stamp)> {
        let Some(held) = self.holding.job(job) else { return Vec::new() };
        let Some(chosen) = self.chosen(job, ordinals) else { return Vec::new() };
        let stamped = chosen.mailboxes().into_iter().filter_map(|(ordinal, mailbox)| {
            Some((ordinal, mailbox, held.verified_at(ordinal)?))
        });
        stamped.collect()
    }

    /// What to remember of mailboxes that the store was asked to empty.
    pub(super) fn on_dialled(
        &mut self,
        (job, generation): (JobNumber, Generation),
        tried: &[Ordinal],
        results: Vec<(Ordinal, Dialling)>,
        lease: Lease,
    ) -> Vec<Record> {
        self.rest(job, tried, results.iter().map(|(ordinal, _)| *ordinal), lease.now);
        let mut done = Vec::new();
        for (ordinal, dialling) in results {
            match dialling {
                Dialling::Done => done.push(ordinal),
                Dialling::Refused(why) => {
                    tracing::warn!(
                        %job, %ordinal, code = why.code,
                        "no dial tone is possible; the mailbox waits for its wave"
                    );
                    self.holding.cannot_dial(job, ordinal);
                }
            }
        }
        self.holding.dialled(job, generation, &done, lease).into_iter().collect()
    }

    /// What to remember of mailboxes whose histories the store was asked to put back.
    pub(super) fn on_switched(
        &mut self,
        (job, generation): (JobNumber, Generation),
        tried: &[Ordinal],
        results: Vec<(Ordinal, Switching)>,
        now: Timestamp,
    ) -> Vec<Record> {
        self.rest(job, tried, results.iter().map(|(ordinal, _)| *ordinal), now);
        let mut done: Vec<Switched> = Vec::new();
        let (mut changed, mut refused) = (Vec::new(), Vec::new());
        for (ordinal, switching) in results {
            match switching {
                Switching::Done(switched) => done.push(switched),
                Switching::Changed => changed.push(ordinal),
                Switching::Refused(why) => refused.push(why),
            }
        }
        let is_prepared = |ordinal: &Ordinal| {
            let held = self.holding.job(job);
            let held = held.filter(|held| held.generation() == generation);
            let state = held.and_then(|held| held.state(*ordinal));
            state.is_some_and(|it| {
                it.preparation == Preparation::Prepared && !it.is_open()
            })
        };
        changed.retain(is_prepared);
        refused.retain(|why| is_prepared(&why.ordinal));
        let at = now;
        let mut records: Vec<Record> =
            self.holding.switched(job, generation, done, now).into_iter().collect();
        if !changed.is_empty() {
            records.push(Record::Unsettled { job, generation, ordinals: changed, at });
        }
        if !refused.is_empty() {
            let mailboxes = refused.into_iter().map(set_aside).collect();
            records.push(Record::Settled { job, generation, mailboxes, at });
        }
        records
    }

    /// Takes mailboxes out of the hands; those without an answer are left alone for a while.
    pub(super) fn rest(
        &mut self,
        job: JobNumber,
        tried: &[Ordinal],
        answered: impl Iterator<Item = Ordinal> + Clone,
        now: Timestamp,
    ) {
        self.busy.remove_all(job, tried.iter().copied());
        if answered.clone().eq(tried.iter().copied()) {
            return;
        }
        let answered: BTreeSet<Ordinal> = answered.collect();
        let unanswered = tried.iter().filter(|ordinal| !answered.contains(*ordinal));
        let deferred = unanswered.map(|ordinal| ((job, *ordinal), now + DEFER));
        self.deferred.extend(deferred);
    }
}

/// A mailbox that waits for a person.
fn set_aside(why: Finding) -> Settled {
    Settled {
        ordinal: why.ordinal,
        stamp: None,
        totals: MessageTotals {
            grades: Grades::one(Grade::Poor),
            ..MessageTotals::default()
        },
        findings: vec![why],
    }
}
