//! Story: what happened, as a digest always, and in words for whoever wants to read it.
//!
//! # Invariants
//!
//! * The digest covers every event with its time and its bytes: equal digests mean equal runs.

use std::collections::{BTreeMap, VecDeque};

/// Lines that a story keeps: the last ones tell how it ended.
const LINES_MAX: usize = 400;

/// What happened in one run.
pub(crate) struct Story {
    digest: u64,
    telling: bool,
    lines: VecDeque<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Story {
    pub(crate) fn new(telling: bool) -> Self {
        Self { digest: 0, telling, lines: VecDeque::new(), counts: BTreeMap::new() }
    }

    /// Makes a number part of the digest.
    pub(crate) fn mix(&mut self, number: u64) {
        let mixed =
            (self.digest.rotate_left(23) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.digest = mixed ^ (mixed >> 29);
    }

    /// Makes bytes part of the digest.
    pub(crate) fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.mix(u64::from_be_bytes(*word));
        }
        self.mix(rest.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }

    /// Counts something that must have been met.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Tells something.
    pub(crate) fn tell(&mut self, now: u64, line: impl FnOnce() -> String) {
        if !self.telling {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        let (minutes, millis) = (now / 60_000, now % 60_000);
        let (secs, millis) = (millis / 1_000, millis % 1_000);
        self.lines.push_back(format!("{minutes:3}:{secs:02}.{millis:03}  {}", line()));
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
