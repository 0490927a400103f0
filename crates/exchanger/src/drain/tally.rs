//! Tally: what a listing has counted, by wave, and what was handed back in the last seconds.
//!
//! # Invariants
//!
//! * A message counts once for each wave it has recipients in.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::time::Timestamp;
use tidegate_wire::exchanger::WaveQueue;

use super::Millis;
use crate::view::View;

/// What one listing counts.
#[derive(Debug)]
pub(super) struct Tally {
    waves: Vec<Counts>,
    elsewhere: u64,
    /// For how long mail that could be delivered has waited, at most.
    waits: BTreeMap<NodeNumber, Millis>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    messages: u64,
    recipients: u64,
    open_recipients: u64,
    oldest_unix: Option<i64>,
    left: u64,
    /// Messages that can or will be delivered now.
    waiting: u64,
}

impl Tally {
    /// Nothing is counted.
    pub(super) fn new(waves: usize) -> Self {
        let waves = vec![Counts::default(); waves];
        Self { waves, elsewhere: 0, waits: BTreeMap::new() }
    }

    /// Counts a message for the waves of its recipients.
    pub(super) fn count(
        &mut self,
        arrived_unix: i64,
        recipients: &[MailboxNumber],
        view: &View,
    ) {
        let mut waves = BTreeSet::new();
        for mailbox in recipients {
            let Some(wave) = view.directory().wave(*mailbox) else { continue };
            let Some(counts) = self.waves.get_mut(wave.index()) else { continue };
            counts.recipients += 1;
            counts.open_recipients += u64::from(view.receives(*mailbox));
            if waves.insert(wave) {
                counts.messages += 1;
                let oldest = counts.oldest_unix.unwrap_or(i64::MAX);
                counts.oldest_unix = Some(oldest.min(arrived_unix));
            }
        }
        self.elsewhere += u64::from(waves.is_empty());
    }

    /// A message for `waves` can or will be delivered now, to these nodes, for each of which it
    /// has waited so long.
    pub(super) fn wait(
        &mut self,
        waves: &BTreeSet<WaveNumber>,
        waits: impl Iterator<Item = (NodeNumber, Millis)>,
    ) {
        self.each(waves, |counts| counts.waiting += 1);
        for (node, since) in waits {
            let longest = self.waits.entry(node).or_default();
            *longest = (*longest).max(since);
        }
    }

    /// For how many seconds mail that could be delivered has waited, `later` than it was
    /// counted.
    pub(super) fn waits(&self, later: Millis) -> Vec<(NodeNumber, u32)> {
        let seconds = |wait: Millis| wait.saturating_add(later) / 1_000;
        let seconds = |wait: Millis| u32::try_from(seconds(wait)).unwrap_or(u32::MAX);
        self.waits.iter().map(|(node, wait)| (*node, seconds(*wait))).collect()
    }

    /// A message for `waves` is left to the mail server.
    pub(super) fn leave(&mut self, waves: &BTreeSet<WaveNumber>) {
        self.each(waves, |counts| counts.left += 1);
    }

    fn each(&mut self, waves: &BTreeSet<WaveNumber>, what: impl Fn(&mut Counts)) {
        for wave in waves {
            self.waves.get_mut(wave.index()).map(&what);
        }
    }

    /// By wave, how many messages can or will be delivered now.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u64> + '_ {
        self.waves.iter().map(|counts| counts.waiting)
    }

    /// Messages to nobody in a wave.
    pub(super) fn elsewhere(&self) -> u64 {
        self.elsewhere
    }

    /// What was counted for one wave.
    pub(super) fn of(&self, wave: WaveNumber) -> WaveQueue {
        let counts = self.waves.get(wave.index()).copied().unwrap_or_default();
        let instant = |unix: i64| {
            let millis = u64::try_from(unix).unwrap_or_default().saturating_mul(1_000);
            Timestamp::from_millis(millis)
        };
        WaveQueue {
            wave,
            messages: counts.messages,
            recipients: counts.recipients,
            open_recipients: counts.open_recipients,
            oldest_at: counts.oldest_unix.map(instant),
            flushed: 0,
            flushed_per_second: 0,
            left: counts.left,
        }
    }
}

/// Seconds over which a rate is told.
const RECENT: usize = 10;

/// How many happened in each of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Recent {
    second: u64,
    counts: [u32; RECENT],
}

impl Recent {
    /// Counts one now.
    pub(super) fn count(&mut self, now: Millis) {
        let second = now / 1_000;
        let passed = second.saturating_sub(self.second);
        for step in 1..=passed.min(RECENT as u64) {
            if let Some(slot) = self.counts.get_mut(slot_of(self.second + step)) {
                *slot = 0;
            }
        }
        self.second = self.second.max(second);
        if let Some(slot) = self.counts.get_mut(slot_of(second)) {
            *slot = slot.saturating_add(1);
        }
    }

    /// How many a second; one when it was less than one and not none.
    pub(super) fn per_second(&self, now: Millis) -> u32 {
        let second = now / 1_000;
        let recent = (0..RECENT as u64).filter_map(|ago| {
            let then = second.checked_sub(ago)?;
            (then <= self.second && then + RECENT as u64 > self.second)
                .then(|| self.counts.get(slot_of(then)).copied())?
        });
        let sum: u32 = recent.fold(0, u32::saturating_add);
        sum.div_ceil(u32::try_from(RECENT).unwrap_or(u32::MAX))
    }
}

fn slot_of(second: u64) -> usize {
    usize::try_from(second % RECENT as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_over_the_last_ten_seconds() {
        let mut recent = Recent::default();
        for now in (0..20_000).step_by(25) {
            recent.count(now);
        }

        assert_eq!(recent.per_second(19_990), 40);
        assert_eq!(recent.per_second(25_000), 16);
        assert_eq!(recent.per_second(60_000), 0);
        recent.count(60_000);
        assert_eq!(recent.per_second(60_000), 1);
    }
}
