//! Dial tone: held mailboxes that stand open, empty, for some services while their history is beside.
//!
//! ```text
//! none ─ intended ─▶ off ─ the store has an empty mailbox ─▶ on
//! on ─ taken back, or about to open ─▶ off, nobody in ─ history put back, mail imported ─▶ none
//! ```
//!
//! # Invariants
//!
//! * The store is asked for an empty mailbox only after that was remembered, so that whoever may have
//!   one is never raised before its history is back.
//! * A dial tone begins as a mailbox is raised: by an order of the present generation, while the lease
//!   runs; it ends as a mailbox is closed.
//! * A mailbox is raised from held only when it has none.

use std::sync::Arc;

use super::mailbox::HeldMailbox;
use super::{Found, HeldJob, Holding, Lease, Record, Switched, alike};
use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{Level, MailboxState, Preparation};
use crate::rollout::Order;
use crate::time::Timestamp;

/// A mailbox's dial tone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dial {
    /// It has none; its history is where it belongs.
    #[default]
    None,
    /// Nobody is in it, and its history may be beside.
    Off,
    /// Its owner has the services of the dial tone.
    On,
}

/// What happened to dial tones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialStep {
    /// The store is about to be asked for empty mailboxes.
    Intended,
    /// They stand: from this record on, admission lets their owners in.
    Begun,
    /// They were closed.
    Ended,
}

impl DialStep {
    /// Where it leads.
    fn dial(self) -> Dial {
        match self {
            Self::Intended | Self::Ended => Dial::Off,
            Self::Begun => Dial::On,
        }
    }
}

impl HeldJob {
    /// The dial tone of one mailbox.
    pub fn dial(&self, ordinal: Ordinal) -> Dial {
        self.mailboxes.get(ordinal).map_or(Dial::None, |mailbox| mailbox.dial)
    }

    /// The stamp that a mailbox was last verified at.
    pub fn verified_at(&self, ordinal: Ordinal) -> Option<super::Stamp> {
        self.mailboxes.get(ordinal)?.stamp
    }

    /// Dial tones that the order takes back.
    pub(super) fn hanging_up(
        &self,
        job: JobNumber,
        order: &Order,
        at: Timestamp,
    ) -> Option<Record> {
        if self.counts.dialled == 0 {
            return None;
        }
        let on = self.mailboxes.iter().filter(|(ordinal, mailbox)| {
            let taken_back = !order.dial_tone || order.held_back.contains(ordinal);
            mailbox.dial == Dial::On && taken_back
        });
        let ordinals = on.map(|(ordinal, _)| ordinal).collect();
        step(job, order.generation, (DialStep::Ended, ordinals), at)
    }
}

impl Holding {
    /// What to remember before the store is asked for empty mailboxes: those that shall have a dial
    /// tone and have none, at most `most`. `busy` tells mailboxes that hands are on.
    pub fn dial_intents(
        &self,
        lease: Lease,
        most: usize,
        busy: &dyn Fn(JobNumber, Ordinal) -> bool,
    ) -> Vec<Record> {
        let mut left = most;
        let jobs = self.jobs.iter().filter(|(number, held)| {
            let wanted = held.order.as_ref().is_some_and(|order| order.dial_tone);
            wanted && !self.pending.contains_key(number)
        });
        let records = jobs.filter_map(|(number, held)| {
            let none = held.mailboxes.iter().filter(|(ordinal, mailbox)| {
                mailbox.dial == Dial::None
                    && !mailbox.served
                    && self.may_dial(held, *ordinal, lease)
                    && !busy(*number, *ordinal)
            });
            let ordinals: Vec<Ordinal> =
                none.map(|(ordinal, _)| ordinal).take(left).collect();
            left -= ordinals.len();
            step(*number, held.generation, (DialStep::Intended, ordinals), lease.now)
        });
        records.collect()
    }

    /// What to remember when empty mailboxes stand: the ones whose dial tone is still permitted.
    pub fn dialled(
        &self,
        job: JobNumber,
        generation: Generation,
        ordinals: &[Ordinal],
        lease: Lease,
    ) -> Option<Record> {
        let held = self.of_generation(job, generation)?;
        let permitted = |ordinal: &&Ordinal| {
            held.dial(**ordinal) == Dial::Off && self.may_dial(held, **ordinal, lease)
        };
        let ordinals = ordinals.iter().filter(permitted).copied().collect();
        step(job, generation, (DialStep::Begun, ordinals), lease.now)
    }

    /// What to remember when mailboxes are about to open, so that their dial tone ends.
    pub fn hung_up(
        &self,
        job: JobNumber,
        generation: Generation,
        ordinals: &[Ordinal],
        lease: Lease,
    ) -> Option<Record> {
        let held = self.of_generation(job, generation)?;
        let permitted = |ordinal: &&Ordinal| {
            held.dial(**ordinal) == Dial::On && self.allows(held, **ordinal, lease)
        };
        let ordinals = ordinals.iter().filter(permitted).copied().collect();
        step(job, generation, (DialStep::Ended, ordinals), lease.now)
    }

    /// What to remember when histories are back in their places.
    pub fn switched(
        &self,
        job: JobNumber,
        generation: Generation,
        mailboxes: Vec<Switched>,
        now: Timestamp,
    ) -> Option<Record> {
        let held = self.of_generation(job, generation)?;
        let off = |it: &Switched| held.dial(it.ordinal) == Dial::Off;
        let mailboxes: Vec<Switched> = mailboxes.into_iter().filter(off).collect();
        let at = now;
        (!mailboxes.is_empty()).then_some(Record::DialToneSwitched {
            job,
            generation,
            mailboxes,
            at,
        })
    }

    /// The store will not have an empty mailbox here: nothing is asked again before a restart.
    pub fn cannot_dial(&mut self, job: JobNumber, ordinal: Ordinal) {
        let held = self.jobs.get_mut(&job);
        let Some(mailboxes) = held.map(|job| Arc::make_mut(&mut job.mailboxes)) else {
            return;
        };
        if let Some(mailbox) = mailboxes.get(ordinal) {
            mailboxes.set(ordinal, HeldMailbox { dial_refused: true, ..mailbox });
        }
    }

    /// Whether a dial tone may be let seen now: its beginning was recorded, but recording may have
    /// taken longer than the lease, or than the permission lasted.
    pub fn may_ring(&self, job: JobNumber, ordinal: Ordinal, lease: Lease) -> bool {
        let Some(held) = self.jobs.get(&job) else { return false };
        let Some(order) = &held.order else { return false };
        self.may_open
            && lease.is_valid()
            && order.dial_tone
            && !order.held_back.contains(&ordinal)
            && held.dial(ordinal) == Dial::On
    }

    /// Whether the mailbox shall have a dial tone now: not if it may be raised instead.
    pub(super) fn may_dial(
        &self,
        held: &HeldJob,
        ordinal: Ordinal,
        lease: Lease,
    ) -> bool {
        let Some(order) = &held.order else { return false };
        let Some(mailbox) = held.mailboxes.get(ordinal) else { return false };
        self.may_open
            && lease.is_valid()
            && order.dial_tone
            && order.generation == held.generation
            && !order.held_back.contains(&ordinal)
            && !mailbox.state.is_open()
            && !mailbox.dial_refused
            && !self.allows(held, ordinal, lease)
    }

    pub(super) fn of_generation(
        &self,
        job: JobNumber,
        generation: Generation,
    ) -> Option<&HeldJob> {
        self.jobs.get(&job).filter(|held| held.generation == generation)
    }

    pub(super) fn apply_dial(
        &mut self,
        job: JobNumber,
        ordinals: &[Ordinal],
        to: DialStep,
    ) {
        self.change(job, alike(ordinals), |mailbox, _, ()| mailbox.take_dial(to.dial()));
    }
}

impl HeldMailbox {
    fn take_dial(&mut self, dial: Dial) {
        debug_assert!(!self.state.is_open(), "an open mailbox has no dial tone");
        if self.dial == Dial::None {
            // What was verified moves.
            self.state = MailboxState::HELD;
            self.stamp = None;
        }
        self.dial = dial;
    }

    pub(super) fn switch(&mut self, found: &mut Found, switched: &Switched) {
        debug_assert_eq!(self.dial, Dial::Off, "nobody is in what is switched");
        self.dial = Dial::None;
        if self.state.preparation == Preparation::Prepared {
            self.stamp = Some(switched.stamp);
        } else {
            self.state = MailboxState::HELD;
            self.stamp = None;
        }
        found.import(switched.imported, &switched.findings);
        debug_assert_eq!(self.state.level, Level::HELD);
    }
}

fn step(
    job: JobNumber,
    generation: Generation,
    (step, ordinals): (DialStep, Vec<Ordinal>),
    at: Timestamp,
) -> Option<Record> {
    (!ordinals.is_empty()).then_some(Record::DialTone {
        job,
        generation,
        step,
        ordinals,
        at,
    })
}
