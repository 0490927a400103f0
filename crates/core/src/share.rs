//! Shares of a whole, without floats.

use std::fmt;

/// A share of a whole, in parts per million: `Ppm::new(1_000)` is 0.1 %.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ppm(u32);

impl Ppm {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const WHOLE: Self = Self(1_000_000);

    /// A share of `parts` millionths.
    pub const fn new(parts: u32) -> Self {
        Self(parts)
    }

    /// The millionths.
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// The smallest whole number that is at least this share of `whole`.
    pub fn of_at_least(self, whole: u32) -> u32 {
        let parts = (u64::from(whole) * u64::from(self.0)).div_ceil(1_000_000);
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    /// The share `part` has of `whole`, rounded down; zero of nothing.
    pub fn ratio(part: u32, whole: u32) -> Self {
        if whole == 0 {
            return Self::ZERO;
        }
        let parts = u64::from(part) * 1_000_000 / u64::from(whole);
        Self(u32::try_from(parts).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Ppm {
    /// As a percentage with as many digits as it needs: `0.5 %`, `30 %`, `0.0001 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / 10_000;
        let rest = self.0 % 10_000;
        if rest == 0 {
            return write!(f, "{whole} %");
        }
        let digits = format!("{rest:04}");
        write!(f, "{whole}.{} %", digits.trim_end_matches('0'))
    }
}

impl fmt::Debug for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Ppm;

    #[test]
    fn a_share_prints_as_a_percentage() {
        let shown = [0, 1, 5_000, 12_340, 300_000, 1_000_000]
            .map(|parts| Ppm::new(parts).to_string());

        assert_eq!(shown, ["0 %", "0.0001 %", "0.5 %", "1.234 %", "30 %", "100 %"]);
    }

    #[test]
    fn a_share_of_a_number_rounds_up() {
        assert_eq!(Ppm::new(800_000).of_at_least(3), 3);
        assert_eq!(Ppm::new(10_000).of_at_least(1), 1);
        assert_eq!(Ppm::ZERO.of_at_least(7), 0);
    }
}
