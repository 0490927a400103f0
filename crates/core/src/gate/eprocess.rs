//! E-processes: evidence that holds at any stopping time, without a guess of the exact rate.
//!
//! # Invariants
//!
//! * An e-value starts at 1 and grows only by evidence; it exceeds `1 / alpha` with a chance
//!   of at most `alpha` while the rate is not above `p_ok`, however often one looks. The
//!   same holds for `beta` and `p_bad`.
//! * Logarithms are rounded to 2^-32 before they are compared, in integers.

#![expect(
    clippy::cast_possible_truncation,
    reason = "logarithms of e-values of u32 counts are far below 2^63 in fixed point"
)]

use super::beta::{ln, ln_beta_below};
use super::policy::SignalPolicy;
use super::sprt::{Lines, Look};

/// Two one-sided e-processes with uniform priors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EProcess {
    p_ok: f64,
    p_bad: f64,
    /// ln(1 / alpha), in fixed point.
    to_trip: i64,
    /// ln(1 / beta), in fixed point.
    to_pass: i64,
}

impl EProcess {
    /// The processes that spend all of `alpha` on one look.
    pub fn of(policy: &SignalPolicy) -> Self {
        let alpha = f64::from(policy.clamped().alpha.parts()) / MILLION;
        Self::derive(policy, -ln(alpha))
    }

    /// The processes of one `look`, so that false alarms over all looks stay below `alpha`.
    pub fn at(policy: &SignalPolicy, look: Look) -> Self {
        let alpha = f64::from(policy.clamped().alpha.parts()) / MILLION;
        let wave = f64::from(look.wave.get()) + 1.0;
        let levels = f64::from(1_u32 << look.level.get());
        let signals = f64::from(look.signals.max(1));
        let spent = alpha * SIX_BY_PI_SQUARED / (wave * wave * levels * signals);
        Self::derive(policy, -ln(spent))
    }

    fn derive(policy: &SignalPolicy, to_trip: f64) -> Self {
        let policy = policy.clamped();
        Self {
            p_ok: f64::from(policy.p_ok.parts()) / MILLION,
            p_bad: f64::from(policy.p_bad.parts()) / MILLION,
            to_trip: fixed(to_trip),
            to_pass: fixed(-ln(f64::from(policy.beta.parts()) / MILLION)),
        }
    }

    /// Whether `failed` of `samples` prove the rate above `p_ok`.
    pub fn trips(&self, samples: u32, failed: u32) -> bool {
        self.bad(samples, failed) >= self.to_trip
    }

    /// Whether `failed` of `samples` prove the rate below `p_bad`, and not above `p_ok`.
    pub fn passes(&self, samples: u32, failed: u32) -> bool {
        self.good(samples, failed) >= self.to_pass && !self.trips(samples, failed)
    }

    /// The fewest failures that trip among `samples`; one more than `samples` if none do.
    pub fn trip_at(&self, samples: u32) -> u32 {
        first(samples.saturating_add(1), |failed| self.trips(samples, failed))
    }

    /// The most failures that pass among `samples`, if even none would.
    pub fn pass_at(&self, samples: u32) -> Option<u32> {
        first(samples.saturating_add(1), |failed| !self.passes(samples, failed))
            .checked_sub(1)
    }

    /// The samples with which `failed` would pass.
    pub fn samples_to_pass(&self, failed: u32) -> u32 {
        let good = |samples: u32| self.good(samples, failed) >= self.to_pass;
        let mut most = failed.max(64);
        while !good(most) && most < SAMPLES_MAX {
            most = most.saturating_mul(2);
        }
        first(most, good)
    }

    /// ln of the evidence that the rate is above `p_ok`, in thousandths.
    pub fn weight_millis(&self, samples: u32, failed: u32) -> i64 {
        self.bad(samples, failed).saturating_mul(1_000) >> FRACTION_BITS
    }

    /// Where it is cut off for a person, in mean samples of the sequential test with the
    /// same rates; there is no closed form of its own mean, which is some 15 % larger.
    pub(super) fn mean_samples(policy: &SignalPolicy) -> u32 {
        let mean = Lines::of(policy).mean_samples();
        mean.saturating_add(mean.div_ceil(6))
    }

    fn bad(&self, samples: u32, failed: u32) -> i64 {
        let (failed, whole) = counts(samples, failed);
        let above = ln_beta_below(1.0 - self.p_ok, whole + 1.0, failed + 1.0);
        fixed(above - ln(1.0 - self.p_ok) - ln_likelihood(self.p_ok, failed, whole))
    }

    fn good(&self, samples: u32, failed: u32) -> i64 {
        let (failed, whole) = counts(samples, failed);
        let below = ln_beta_below(self.p_bad, failed + 1.0, whole + 1.0);
        fixed(below - ln(self.p_bad) - ln_likelihood(self.p_bad, failed, whole))
    }
}

/// All parts of a share.
const MILLION: f64 = 1_000_000.0;

/// See [`Lines`], whose looks share alpha in the same way.
const SIX_BY_PI_SQUARED: f64 = 0.607_927;

/// Bits behind the point of a compared logarithm: the eleven digits on which the arithmetic
/// agrees with the truth, and fewer than it has.
const FRACTION_BITS: u32 = 32;

/// More samples are never asked for: no provider has as many mailboxes.
const SAMPLES_MAX: u32 = 1 << 30;

/// The failed and the others of `samples`.
fn counts(samples: u32, failed: u32) -> (f64, f64) {
    (f64::from(failed), f64::from(samples.saturating_sub(failed)))
}

fn ln_likelihood(rate: f64, failed: f64, whole: f64) -> f64 {
    failed * ln(rate) + whole * ln(1.0 - rate)
}

fn fixed(nats: f64) -> i64 {
    (nats * 4_294_967_296.0).floor() as i64
}

/// The first number below `end` for which `is` holds, where it holds for all later ones too;
/// `end` if for none.
fn first(end: u32, is: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if is(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::EProcess;
    use crate::gate::SignalPolicy;
    use crate::share::Ppm;

    fn process(p_ok: u32, p_bad: u32, beta: u32) -> EProcess {
        EProcess::of(&SignalPolicy {
            p_ok: Ppm::new(p_ok),
            p_bad: Ppm::new(p_bad),
            alpha: Ppm::new(50_000),
            beta: Ppm::new(beta),
        })
    }

    #[test]
    fn two_percent_is_refuted_by_224_good_samples_and_not_by_223() {
        let process = process(5_000, 20_000, 50_000);

        assert!(process.passes(224, 0));
        assert!(!process.passes(223, 0));
        assert_eq!(process.samples_to_pass(0), 224);
    }

    #[test]
    fn one_percent_needs_the_published_samples() {
        assert_eq!(process(2_000, 10_000, 50_000).samples_to_pass(0), 449);
        assert_eq!(process(2_000, 10_000, 10_000).samples_to_pass(0), 644);
    }

    #[test]
    fn half_a_percent_is_refuted_by_the_published_failures() {
        let process = process(5_000, 20_000, 50_000);

        for (failed, samples) in [(2, 16), (3, 41), (4, 78), (5, 124)] {
            assert!(process.trips(samples, failed));
            assert!(!process.trips(samples + 1, failed));
            assert_eq!(process.trip_at(samples), failed);
        }
    }

    #[test]
    fn the_printed_lines_are_where_the_verdict_changes() {
        let process = process(5_000, 20_000, 50_000);

        for samples in (0..4_000).step_by(331) {
            let trip = process.trip_at(samples);
            assert!(trip > samples || process.trips(samples, trip));
            assert!(!process.trips(samples, trip - 1));
            match process.pass_at(samples) {
                Some(pass) => {
                    assert!(process.passes(samples, pass));
                    assert!(!process.passes(samples, pass + 1));
                }
                None => assert!(!process.passes(samples, 0)),
            }
        }
    }
}
