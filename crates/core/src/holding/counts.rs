//! Counts: how many mailboxes of a job ask for which kind of work, so that a job which asks for
//! none is not looked through.
//!
//! # Invariants
//!
//! * Counts follow every change of a mailbox; they are never journaled.

use super::Dial;
use super::mailbox::{HeldMailbox, Mailboxes};
use crate::mailbox::{Level, Preparation};

const LEVELS: usize = Level::MAX.get() as usize + 1;

/// How many mailboxes of a node are so; one may be counted as several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In jobs that it has claimed.
    pub claimed: u32,
    /// Not verified yet under their job's generation.
    pub waiting: u32,
    /// On any level above held.
    pub open: u32,
    /// Set aside for a person.
    pub set_aside: u32,
    /// With a dial tone, or with a history that is still to come back.
    pub dialled: u32,
}

impl Tally {
    /// Adds the mailboxes of one job.
    pub(super) fn add(&mut self, counts: &Counts) {
        let all: u32 = counts.on_level.iter().sum();
        let held = counts.on_level.first().copied().unwrap_or_default();
        self.claimed += all;
        self.waiting += counts.unverified + counts.unlooked;
        self.open += all - held;
        self.set_aside += counts.set_aside;
        self.dialled += counts.dialled;
    }
}

/// How many mailboxes of one job ask for what.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Waiting, and never verified.
    pub(super) unverified: u32,
    /// Waiting, and verified under an earlier generation.
    pub(super) unlooked: u32,
    /// Those that have a dial tone, or shall have their history back.
    pub(super) dialled: u32,
    /// Set aside for a person; they ask for nothing.
    set_aside: u32,
    on_level: [u32; LEVELS],
}

impl Counts {
    /// Those of these mailboxes.
    pub(super) fn of(mailboxes: &Mailboxes) -> Self {
        let mut counts = Self::default();
        for (_, mailbox) in mailboxes.iter() {
            counts.with(&mailbox);
        }
        counts
    }

    /// Counts one more.
    pub(super) fn with(&mut self, mailbox: &HeldMailbox) {
        self.each(mailbox, |count| *count += 1);
    }

    /// Counts one less.
    pub(super) fn without(&mut self, mailbox: &HeldMailbox) {
        self.each(mailbox, |count| {
            debug_assert!(*count > 0, "what is taken off was counted");
            *count = count.saturating_sub(1);
        });
    }

    /// Whether anything stands below `level`.
    pub(super) fn any_below(&self, level: Level) -> bool {
        self.on_level.iter().take(level.index()).any(|count| *count > 0)
    }

    /// The highest level that anything stands on.
    pub(super) fn highest(&self) -> Level {
        let highest = self.on_level.iter().rposition(|count| *count > 0);
        let level = highest.and_then(|level| u8::try_from(level).ok());
        level.and_then(Level::new).unwrap_or(Level::HELD)
    }

    fn each(&mut self, mailbox: &HeldMailbox, change: impl Fn(&mut u32)) {
        if !mailbox.state.is_settled() {
            let known = mailbox.stamp.is_some();
            change(if known { &mut self.unlooked } else { &mut self.unverified });
        }
        if mailbox.dial != Dial::None {
            change(&mut self.dialled);
        }
        if mailbox.state.preparation == Preparation::Quarantined {
            change(&mut self.set_aside);
        }
        if let Some(count) = self.on_level.get_mut(mailbox.state.level.index()) {
            change(count);
        }
    }
}
