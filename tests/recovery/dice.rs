//! Dice: seeds, chances, and how many rounds are played.
//!
//! # Invariants
//!
//! * The same seed gives the same choices; when they fall is the machine's affair.

use std::hash::{BuildHasher, RandomState};

/// A small generator.
pub(crate) struct Dice(u64);

impl Dice {
    /// New dice, or those of `TIDEGATE_SEED`; says how to play again.
    pub(crate) fn thrown(test: &str) -> (u64, Self) {
        let seed = number("TIDEGATE_SEED").unwrap_or_else(fresh);
        eprintln!("replay with: TIDEGATE_SEED={seed} cargo recovery {test}");
        (seed, Self(seed))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let at = usize::try_from(self.below(choices.len() as u64)).unwrap();
        *choices.get(at).unwrap()
    }
}

/// How many rounds, when the ordinary run has `ordinary`.
pub(crate) fn rounds(ordinary: u64) -> u64 {
    ordinary * soak().unwrap_or(1)
}

/// How many times the ordinary run, if more is asked for.
pub(crate) fn soak() -> Option<u64> {
    number("TIDEGATE_SOAK").filter(|times| *times > 0)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fresh() -> u64 {
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}
