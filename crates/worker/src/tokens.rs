//! Tokens: how many mailboxes may open now, so that a node's caches can follow.
//!
//! # Invariants
//!
//! * Never more than a second's worth is saved up.

use tidegate_core::time::Timestamp;

/// Openings saved up, in thousandths of a mailbox.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    millis: u64,
    at: Timestamp,
}

impl Tokens {
    /// Adds what the time since the last call allows, at most a second's worth.
    pub(crate) fn fill(&mut self, per_second: u32, now: Timestamp) {
        let per_second = u64::from(per_second);
        let gained = now.since(self.at).millis().saturating_mul(per_second);
        self.millis = self.millis.saturating_add(gained).min(per_second * 1_000);
        self.at = now;
    }

    /// How many mailboxes may open now.
    pub(crate) fn whole(&self) -> usize {
        usize::try_from(self.millis / 1_000).unwrap_or(usize::MAX)
    }

    /// Takes off what is being opened.
    pub(crate) fn spend(&mut self, openings: usize) {
        let spent = u64::try_from(openings).unwrap_or(u64::MAX).saturating_mul(1_000);
        self.millis = self.millis.saturating_sub(spent);
    }
}
