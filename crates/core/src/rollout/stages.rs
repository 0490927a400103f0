//! Stages: how many mailboxes of a job are still to come, kept while states change, so that a
//! job of which none is is not looked through.
//!
//! # Invariants
//!
//! * Counts are only moved from one state to another, never set.

use super::LEVELS;
use crate::mailbox::{Health, Level, MailboxState, Preparation};

/// Mailboxes of one job by how far they have come.
#[derive(Clone, Debug)]
pub(super) struct Stages {
    /// Those that may rise further, by level.
    climbing: [u16; LEVELS],
    /// Those that are neither open nor set aside.
    shut: u16,
}

impl Stages {
    /// So many mailboxes, held and waiting.
    pub(super) fn held(mailboxes: usize) -> Self {
        let mailboxes = u16::try_from(mailboxes).unwrap_or(u16::MAX);
        let mut climbing = [0; LEVELS];
        if let Some(held) = climbing.first_mut() {
            *held = mailboxes;
        }
        Self { climbing, shut: mailboxes }
    }

    /// One mailbox was `old` and is `new`.
    pub(super) fn shift(&mut self, old: MailboxState, new: MailboxState) {
        for (state, comes) in [(old, false), (new, true)] {
            let by = |count: &mut u16| {
                let counted =
                    if comes { count.checked_add(1) } else { count.checked_sub(1) };
                debug_assert!(counted.is_some(), "what goes was counted");
                *count = counted.unwrap_or(*count);
            };
            if is_climbing(state) {
                let level = self.climbing.get_mut(state.level.index());
                level.into_iter().for_each(by);
            }
            if !state.is_open() && state.preparation != Preparation::Quarantined {
                by(&mut self.shut);
            }
        }
    }

    /// How many have yet to arrive on `level`.
    pub(super) fn below(&self, level: Level) -> u16 {
        self.climbing.iter().take(level.index()).sum()
    }

    /// How many are neither open nor set aside.
    pub(super) fn shut(&self) -> u16 {
        self.shut
    }
}

/// Whether it may come to a higher level.
fn is_climbing(state: MailboxState) -> bool {
    state.health < Health::Failed && state.preparation != Preparation::Quarantined
}
