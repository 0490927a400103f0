//! Bounds of a rate at 95 % confidence, for showing and for sizing waves.
//!
//! # Invariants
//!
//! * No verdict comes from here: whoever tests a bound after every report halts a third of
//!   all healthy runs.
//! * Bounds are rounded away from the estimate, to a millionth.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares are cut to 0..=1 before they are cast"
)]

use crate::share::Ppm;

use super::beta::chance_below;

/// One-sided bounds: the rate lies above `lower` with 95 % confidence, and below `upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The lower bound.
    pub lower: Ppm,
    /// The upper bound.
    pub upper: Ppm,
}

impl Interval {
    /// Wilson's score interval: cheap, slightly optimistic without failures.
    pub fn wilson(failed: u32, samples: u32) -> Self {
        if samples == 0 {
            return Self::UNKNOWN;
        }
        let n = f64::from(samples);
        let rate = f64::from(failed.min(samples)) / n;
        let square = Z * Z / n;
        let middle = rate + square / 2.0;
        let width = Z * (rate * (1.0 - rate) / n + square / (4.0 * n)).sqrt();
        Self {
            lower: Ppm::new(millionths((middle - width) / (1.0 + square)).floor() as u32),
            upper: Ppm::new(millionths((middle + width) / (1.0 + square)).ceil() as u32),
        }
    }

    /// The exact interval of Clopper and Pearson: what may be said of a rate.
    pub fn exact(failed: u32, samples: u32) -> Self {
        if samples == 0 {
            return Self::UNKNOWN;
        }
        let failed = failed.min(samples);
        let (k, whole) = (f64::from(failed), f64::from(samples - failed));
        let upper = first_share(|share| {
            failed == samples || chance_below(share, k + 1.0, whole) >= CONFIDENCE
        });
        let beyond = first_share(|share| {
            failed == 0 || chance_below(share, k, whole + 1.0) >= 1.0 - CONFIDENCE
        });
        Self {
            lower: Ppm::new(beyond.saturating_sub(1)),
            upper: Ppm::new(if failed == samples { 1_000_000 } else { upper }),
        }
    }

    /// What is known of a rate without samples.
    const UNKNOWN: Self = Self { lower: Ppm::ZERO, upper: Ppm::WHOLE };
}

/// How sure a bound is.
const CONFIDENCE: f64 = 0.95;

/// The 95 % point of the normal distribution.
const Z: f64 = 1.645;

fn millionths(share: f64) -> f64 {
    share.clamp(0.0, 1.0) * 1_000_000.0
}

/// The smallest number of millionths, above none, for which `is` holds; all if for none.
fn first_share(is: impl Fn(f64) -> bool) -> u32 {
    let (mut low, mut high) = (1, 1_000_000);
    while low < high {
        let middle = u32::midpoint(low, high);
        if is(f64::from(middle) / 1_000_000.0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::Interval;
    use crate::share::Ppm;

    const ONE_PERCENT: Ppm = Ppm::new(10_000);

    #[test]
    fn wilson_shows_one_percent_after_268_good_samples_and_not_after_267() {
        assert!(Interval::wilson(0, 268).upper <= ONE_PERCENT);
        assert!(Interval::wilson(0, 267).upper > ONE_PERCENT);
    }

    #[test]
    fn the_exact_bound_shows_one_percent_after_299_good_samples_and_not_after_298() {
        assert!(Interval::exact(0, 299).upper <= ONE_PERCENT);
        assert!(Interval::exact(0, 298).upper > ONE_PERCENT);
    }

    #[test]
    fn exact_bounds_need_the_published_samples() {
        let rates = [(50_000, 59), (20_000, 149), (5_000, 598), (1_000, 2_995)];
        for (rate, samples) in rates {
            assert!(Interval::exact(0, samples).upper <= Ppm::new(rate));
            assert!(Interval::exact(0, samples - 1).upper > Ppm::new(rate));
        }
        let failures = [(1, 473), (2, 628), (3, 773), (4, 913), (5, 1_049)];
        for (failed, samples) in failures {
            assert!(Interval::exact(failed, samples).upper <= ONE_PERCENT);
            assert!(Interval::exact(failed, samples - 1).upper > ONE_PERCENT);
        }
    }

    #[test]
    fn bounds_of_nothing_and_of_everything_stay_within_the_whole() {
        let nothing = Interval { lower: Ppm::ZERO, upper: Ppm::WHOLE };

        assert_eq!(Interval::exact(0, 0), nothing);
        assert_eq!(Interval::wilson(0, 0), nothing);
        assert_eq!(Interval::exact(0, 59).lower, Ppm::ZERO);
        assert_eq!(Interval::exact(59, 59).upper, Ppm::WHOLE);
        assert!(Interval::exact(59, 59).lower > Ppm::new(949_000));
    }
}
