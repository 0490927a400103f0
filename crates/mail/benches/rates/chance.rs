//! Chance: the same dice on every machine (`SplitMix64`).

/// A stream of numbers from one seed.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`; 0 if there is none.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// A place in something of `length`.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A value by its table of (per 100,000, value), evenly in between.
    pub(crate) fn between_quantiles(&mut self, table: &[(u64, u64)]) -> u64 {
        let roll = self.below(100_000);
        for pair in table.windows(2) {
            let [(from, low), (to, high)] = pair else { continue };
            if roll < *to {
                return low + (high - low) * (roll - from) / (to - from);
            }
        }
        0
    }
}
