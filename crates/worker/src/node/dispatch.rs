//! Dispatch: what the hands are given next, as far as they have room.
//!
//! # Invariants
//!
//! * A mailbox is in one hand at a time.

use std::sync::Arc;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{ProbeTask, Room};
use tidegate_core::mailbox::{Level, MailboxState};
use tidegate_core::time::{Span, Timestamp};

use super::Node;
use super::dial::{DIAL_MAX, SWITCHING_MAX};
use crate::description::Chosen;
use crate::hands::Task;
use crate::herald::Errand;
use crate::store::Telling;

/// The most mailboxes of one task for the hands: few enough that a stop is not kept waiting.
const LOOK_TOGETHER: usize = 256;
const PROBE_TOGETHER: usize = 64;

/// The most mailboxes that the hands are given in one turn to be opened or read: a turn flushes
/// the journal once, whatever it is about.
const OPEN_MAX: usize = 1_024;
const PROBE_MAX: usize = 1_024;

/// The most mailboxes that the mail system is told of in one turn: what the hands' pool takes,
/// and enough to re-close a node as fast as its mail system can.
const TELL_MAX: usize = 16_384;

/// The most tasks of telling in one turn: half of what their pool takes.
const TELL_TASKS_MAX: usize = 32;

/// How often the free space is asked for.
const MEASURE_EVERY: Span = Span::from_secs(2);

impl Node {
    /// Gives the hands what they have room for.
    pub(super) fn dispatch(&mut self, now: Timestamp) {
        let Some(settings) = self.settings.clone() else {
            return self.shut_out_before_joining(now);
        };
        self.deferred.retain(|_, until| *until > now);
        self.pace.fill(&settings, now);
        if self.pace.is_lesson_due(now) {
            let reads = self.given.store.reads();
            self.pace.learn(&settings, self.given.doors.visits(), reads, now);
        }
        let threads = usize::from(settings.prepare_threads).max(1);
        let together = self.given.store.prepare_together().max(1);
        let room = Room {
            // One batch beyond those in hand, so that no thread waits for the owner.
            prepare: (threads + 1).saturating_sub(self.preparing) * together,
            recheck: LOOK_TOGETHER,
            open: self.pace.whole().min(OPEN_MAX),
            probe: PROBE_MAX,
            dial: DIAL_MAX,
            switch: SWITCHING_MAX,
        };
        let (busy, deferred, herald) = (&self.busy, &self.deferred, &self.herald);
        let waits = |job, ordinal| {
            busy.contains(job, ordinal) || deferred.contains_key(&(job, ordinal))
        };
        let errands = self.errands();
        let soaks = settings.soaks();
        let lease = self.lease(now);
        let work = self.holding.work(lease, &soaks, room, &|job, ordinal| {
            waits(job, ordinal) || herald.owes(job, ordinal)
        });
        for errand in errands {
            self.send(errand);
        }
        for (job, generation) in work.claim {
            self.claim(job, generation);
        }
        for (job, generation, ordinals) in work.prepare {
            for some in ordinals.chunks(together) {
                let Some(chosen) = self.chosen(job, some) else { continue };
                if self.give(job, some, Task::Prepare { job, generation, chosen }) {
                    self.preparing += 1;
                }
            }
        }
        for (job, generation, ordinals) in work.recheck {
            let Some(chosen) = self.chosen(job, &ordinals) else { continue };
            self.give(job, &ordinals, Task::Look { job, generation, chosen });
        }
        for (job, generation, ordinals) in work.open {
            for some in ordinals.chunks(LOOK_TOGETHER) {
                let Some(chosen) = self.chosen(job, some) else { continue };
                if self.give(job, some, Task::Look { job, generation, chosen }) {
                    self.pace.spend(some.len());
                }
            }
        }
        self.probe(&work.probe);
        if now.since(self.measured_at) >= MEASURE_EVERY {
            self.measured_at = now;
            if let Some(hands) = &self.hands {
                // A full pool measures another time.
                let _full = hands.give(Task::Measure);
                let asks = self.looks_for_claims && hands.give(Task::Claims).is_ok();
                self.looks_for_claims &= !asks;
            }
        }
        self.dispatch_dial(work.dial, work.switch);
        self.hanging_up = work.hang_up;
        self.rising = work.raise;
    }

    /// The most mailboxes that the mail system is told of in one turn.
    pub(super) fn tell_most(&self) -> usize {
        let together = self.given.store.tell_together(Level::HELD);
        TELL_MAX.min(TELL_TASKS_MAX * together)
    }

    pub(super) fn claim(&mut self, job: JobNumber, generation: Generation) {
        let description = self.descriptions.get(&job).or_else(|| self.fetched.get(&job));
        let Some(description) = description.map(Arc::clone) else { return };
        if self.claiming.contains(&(job, generation)) {
            return;
        }
        let given = self.hands.as_ref().is_some_and(|hands| {
            hands.give(Task::Claim { job, generation, description }).is_ok()
        });
        if given {
            self.claiming.insert((job, generation));
        }
    }

    pub(super) fn probe(&mut self, tasks: &[ProbeTask]) {
        for some in tasks.chunks(PROBE_TOGETHER) {
            let jobs = some.chunk_by(|a, b| a.job == b.job).filter_map(|tasks| {
                let description = self.descriptions.get(&tasks.first()?.job)?;
                Some((Arc::clone(description), tasks.to_vec()))
            });
            let jobs = jobs.collect();
            let Some(hands) = &self.hands else { return };
            if hands.give(Task::Probe { jobs }).is_ok() {
                self.busy.extend(some.iter().map(|task| (task.job, task.ordinal)));
            }
        }
    }

    /// Lets the mail system be told; what the hands have no room for comes again.
    pub(super) fn send(&mut self, errand: Errand) {
        let Errand { under, level, ordinals, recorded } = errand;
        let rungs = self.settings.iter().flat_map(|settings| &settings.ladder);
        let services: Vec<String> =
            rungs.take(level.index()).flat_map(|rung| rung.services.clone()).collect();
        let held = self.holding.job(under.job);
        let is_open = |ordinal: &Ordinal| {
            held.and_then(|held| held.state(*ordinal)).is_some_and(MailboxState::is_open)
        };
        // An errand is either about held mailboxes or about open ones.
        let from_held = !ordinals.first().is_some_and(is_open);
        for some in ordinals.chunks(self.given.store.tell_together(level).max(1)) {
            let (services, until) = (services.clone(), self.lease_until);
            let telling = Telling { under, level, services, recorded, from_held, until };
            let Some(chosen) = self.chosen(under.job, some) else { continue };
            if self.give(under.job, some, Task::Tell { telling, chosen }) {
                let ordinals = some.to_vec();
                self.herald.sent(&Errand { under, level, ordinals, recorded });
            }
        }
    }

    /// These mailboxes of a job; nothing if it is not described.
    pub(super) fn chosen(&self, job: JobNumber, ordinals: &[Ordinal]) -> Option<Chosen> {
        let (held, description) = (self.holding.job(job)?, self.descriptions.get(&job)?);
        let places = ordinals.iter().map(|it| (*it, held.was_served(*it)));
        Some(Chosen::of(Arc::clone(description), places.collect()))
    }

    pub(super) fn give(
        &mut self,
        job: JobNumber,
        ordinals: &[Ordinal],
        task: Task,
    ) -> bool {
        let given = self.hands.as_ref().is_some_and(|hands| hands.give(task).is_ok());
        if given {
            self.busy.extend(ordinals.iter().map(|ordinal| (job, *ordinal)));
        }
        given
    }
}
