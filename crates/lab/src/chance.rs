//! Chance: repeatable dice, so that a seed names a whole provider.
//!
//! # Invariants
//!
//! * The same seed and subject give the same throws on every machine.
//! * Two subjects share no dice: one mailbox can be built without the others.

/// Parts per million in a whole.
const WHOLE_PPM: u64 = 1_000_000;

/// A stream of throws (`SplitMix64`: small, quick, and good enough to break mail with).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Dice for one subject: what it is about, and which one.
    pub(crate) fn new(seed: u64, subject: &str, number: u64) -> Self {
        let mut dice = Self(seed ^ 0x7469_6465_6761_7465);
        for byte in subject.bytes() {
            dice.0 ^= u64::from(byte);
            dice.throw();
        }
        dice.0 ^= number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17);
        dice.throw();
        dice
    }

    /// Any number.
    pub(crate) fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.throw().checked_rem(end).unwrap_or(0)
    }

    /// A number from `first` to `last`, both included.
    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True in `ppm` of a million cases.
    pub(crate) fn hits(&mut self, ppm: u32) -> bool {
        self.below(WHOLE_PPM) < u64::from(ppm)
    }

    /// A position in something `length` long; 0 when it is empty.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        let end = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.below(end)).unwrap_or(0)
    }

    /// One of `choices`, or `fallback` when there are none.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T], fallback: T) -> T {
        choices.get(self.index(choices.len())).copied().unwrap_or(fallback)
    }

    /// Puts `items` in an order of its own.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_subject_throws_the_same() {
        let mut first = Chance::new(7, "mailbox", 3);
        let mut second = Chance::new(7, "mailbox", 3);
        let mut other = Chance::new(7, "mailbox", 4);

        let throws: Vec<u64> = (0..5).map(|_| first.throw()).collect();

        assert_eq!(throws, (0..5).map(|_| second.throw()).collect::<Vec<_>>());
        assert_ne!(throws, (0..5).map(|_| other.throw()).collect::<Vec<_>>());
    }

    #[test]
    fn a_share_is_met_roughly() {
        let mut dice = Chance::new(1, "share", 0);

        let hits = (0..100_000).filter(|_| dice.hits(80_000)).count();

        assert!((7_500..8_500).contains(&hits), "{hits}");
    }
}
