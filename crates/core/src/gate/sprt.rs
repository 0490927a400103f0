//! The sequential probability ratio test: two straight lines over the counted samples.
//!
//! ```text
//! failures │        trip  ╱
//!          │           ╱    hold    ╱
//!          │        ╱            ╱
//!          │     ╱            ╱   pass
//!          └──╱────────────╱──────────── samples
//! ```
//!
//! # Invariants
//!
//! * The trip line lies above the pass line; between them nothing is decided.
//! * Comparing is exact integer arithmetic; only the four constants of the lines are
//!   rounded, to 2^-56, and the same on every machine.

use crate::fleet::WaveNumber;
use crate::mailbox::Level;
use crate::share::Ppm;

use super::logarithm::{FRACTION_BITS, Nats, count, div_ceil, ln};
use super::policy::SignalPolicy;

/// The lines of one signal, as weights of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// What a failure adds to the suspicion that the rate is bad.
    per_failure: Nats,
    /// What every sample takes from it.
    per_sample: Nats,
    /// The suspicion that trips.
    to_trip: Nats,
    /// The trust, which is suspicion below zero, that passes.
    to_pass: Nats,
    /// The samples needed on average at `p_ok`.
    mean: u32,
}

/// One of all the looks among which a run's false alarms are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The wave.
    pub wave: WaveNumber,
    /// The level it is judged on.
    pub level: Level,
    /// How many signals may stop the run.
    pub signals: u8,
}

impl Lines {
    /// The lines that spend all of `alpha` on one look.
    pub fn of(policy: &SignalPolicy) -> Self {
        let alpha = parts(policy.clamped().alpha);
        Self::derive(policy, Chance { part: alpha, whole: MILLION })
    }

    /// The lines of one `look`, so that false alarms over all looks stay below `alpha`.
    pub fn at(policy: &SignalPolicy, look: Look) -> Self {
        Self::derive(policy, Chance::spent(policy.clamped().alpha, look))
    }

    /// The lines of a look so late that it spends nothing: no wave needs more to pass.
    pub fn at_last(policy: &SignalPolicy) -> Self {
        Self::derive(policy, Chance { part: 1, whole: u128::MAX >> 1 })
    }

    fn derive(policy: &SignalPolicy, alpha: Chance) -> Self {
        let SignalPolicy { p_ok, p_bad, beta, .. } = policy.clamped();
        let (ok, bad, beta) = (parts(p_ok), parts(p_bad), parts(beta));
        let per_failure = ln(bad * (MILLION - ok)) - ln(ok * (MILLION - bad));
        let per_sample = ln(MILLION - ok) - ln(MILLION - bad);
        let to_trip = ln(MILLION - beta) - ln(MILLION) + ln(alpha.whole) - ln(alpha.part);
        let to_pass =
            ln(alpha.whole - alpha.part) - ln(alpha.whole) + ln(MILLION) - ln(beta);

        let drift = per_sample - per_failure * i128::from(p_ok.parts()) / 1_000_000;
        let wrong = alpha.in_fixed_point();
        let right = (1 << CHANCE_BITS) - wrong;
        let travelled = (right * to_pass - wrong * to_trip) >> CHANCE_BITS;
        let mean = count(div_ceil(travelled, drift.max(1)));
        Self { per_failure, per_sample, to_trip, to_pass, mean }
    }

    /// Whether `failed` of `samples` prove the rate bad.
    pub fn trips(&self, samples: u32, failed: u32) -> bool {
        self.suspicion(samples, failed) >= self.to_trip
    }

    /// Whether `failed` of `samples` prove the rate good enough.
    pub fn passes(&self, samples: u32, failed: u32) -> bool {
        -self.suspicion(samples, failed) >= self.to_pass
    }

    /// The fewest failures that trip among `samples`.
    pub fn trip_at(&self, samples: u32) -> u32 {
        let line = self.to_trip + i128::from(samples) * self.per_sample;
        count(div_ceil(line, self.per_failure))
    }

    /// The most failures that pass among `samples`, if even none would.
    pub fn pass_at(&self, samples: u32) -> Option<u32> {
        let line = i128::from(samples) * self.per_sample - self.to_pass;
        (line >= 0).then(|| count(line / self.per_failure))
    }

    /// The samples with which `failed` would pass.
    pub fn samples_to_pass(&self, failed: u32) -> u32 {
        let trust = self.to_pass + i128::from(failed) * self.per_failure;
        count(div_ceil(trust, self.per_sample))
    }

    /// The samples needed on average at `p_ok` (Wald's approximation).
    pub fn mean_samples(&self) -> u32 {
        self.mean
    }

    /// The suspicion in thousandths of a natural logarithm.
    pub fn weight_millis(&self, samples: u32, failed: u32) -> i64 {
        let millis = (self.suspicion(samples, failed) * 1_000) >> FRACTION_BITS;
        i64::try_from(millis).unwrap_or(i64::MAX)
    }

    /// The slope, in millionths of a failure per sample, rounded.
    pub fn slope_millionths(&self) -> u32 {
        self.in_failures(self.per_sample)
    }

    /// The intercept of the pass line below zero, in millionths of a failure, rounded.
    pub fn pass_intercept_millionths(&self) -> u32 {
        self.in_failures(self.to_pass)
    }

    /// The intercept of the trip line, in millionths of a failure, rounded.
    pub fn trip_intercept_millionths(&self) -> u32 {
        self.in_failures(self.to_trip)
    }

    fn in_failures(&self, weight: Nats) -> u32 {
        count((weight * 1_000_000 + self.per_failure / 2) / self.per_failure)
    }

    fn suspicion(&self, samples: u32, failed: u32) -> Nats {
        i128::from(failed) * self.per_failure - i128::from(samples) * self.per_sample
    }
}

/// All parts of a share.
const MILLION: u128 = 1_000_000;

/// Bits of a chance in fixed point: with the 62 bits of a weight they fit an `i128`.
const CHANCE_BITS: u32 = 40;

/// 6/π² in millionths, rounded down: the sum of 1/w² over all waves is π²/6.
const SIX_BY_PI_SQUARED: u128 = 607_927;

/// A probability too small for parts per million.
#[derive(Clone, Copy)]
struct Chance {
    part: u128,
    whole: u128,
}

impl Chance {
    /// The share of `alpha` that one look may spend: `6 / (π² w²)` of it for wave w, half as
    /// much for each further level, an equal share for each signal. Summed over any number
    /// of waves and levels and over the signals that is less than `alpha`.
    fn spent(alpha: Ppm, look: Look) -> Self {
        let wave = u128::from(look.wave.get()) + 1;
        let signals = u128::from(look.signals.max(1));
        Self {
            part: parts(alpha) * SIX_BY_PI_SQUARED,
            whole: ((MILLION * MILLION * wave * wave) << look.level.get()) * signals,
        }
    }

    fn in_fixed_point(self) -> i128 {
        i128::try_from((self.part << CHANCE_BITS) / self.whole).unwrap_or(0)
    }
}

fn parts(share: Ppm) -> u128 {
    u128::from(share.parts())
}

#[cfg(test)]
mod tests {
    use super::{Lines, Look};
    use crate::fleet::WaveNumber;
    use crate::gate::SignalPolicy;
    use crate::mailbox::Level;
    use crate::share::Ppm;

    /// All four rates in hundredths of a percent.
    fn rates([p_ok, p_bad, alpha, beta]: [u32; 4]) -> SignalPolicy {
        let share = |hundredths: u32| Ppm::new(hundredths * 100);
        SignalPolicy {
            p_ok: share(p_ok),
            p_bad: share(p_bad),
            alpha: share(alpha),
            beta: share(beta),
        }
    }

    #[test]
    fn half_a_percent_against_two_has_the_published_lines() {
        let lines = Lines::of(&rates([50, 200, 500, 500]));

        assert_eq!((lines.slope_millionths() + 5) / 10, 1_084);
        assert_eq!((lines.pass_intercept_millionths() + 500) / 1_000, 2_101);
        assert_eq!((lines.trip_intercept_millionths() + 500) / 1_000, 2_101);
        assert_eq!(lines.samples_to_pass(0), 194);
    }

    #[test]
    fn a_fifth_of_a_percent_against_one_has_the_published_lines() {
        let lines = Lines::of(&rates([20, 100, 500, 100]));

        assert_eq!((lines.slope_millionths() + 5) / 10, 498);
        assert_eq!((lines.pass_intercept_millionths() + 500) / 1_000, 2_815);
        assert_eq!((lines.trip_intercept_millionths() + 500) / 1_000, 1_846);
        assert_eq!(lines.samples_to_pass(0), 566);
    }

    #[test]
    fn every_published_gate_needs_its_published_samples() {
        let table = [
            ([100, 500, 500, 500], 72),
            ([50, 200, 500, 500], 194),
            ([20, 100, 500, 100], 566),
            ([10, 100, 500, 100], 504),
        ];

        let needed =
            table.map(|(policy, _)| Lines::of(&rates(policy)).samples_to_pass(0));

        assert_eq!(needed, table.map(|(_, published)| published));
    }

    #[test]
    fn the_printed_lines_are_where_the_verdict_changes() {
        let lines = Lines::of(&rates([50, 200, 500, 100]));

        for samples in (0..5_000).step_by(7) {
            let trip = lines.trip_at(samples);
            assert!(lines.trips(samples, trip));
            assert!(!lines.trips(samples, trip - 1));
            match lines.pass_at(samples) {
                Some(pass) => {
                    assert!(lines.passes(samples, pass));
                    assert!(!lines.passes(samples, pass + 1));
                    assert!(lines.samples_to_pass(pass) <= samples);
                }
                None => assert!(!lines.passes(samples, 0)),
            }
        }
    }

    #[test]
    fn later_looks_ask_more_before_they_trip_and_little_more_before_they_pass() {
        let policy = rates([50, 200, 500, 100]);
        let look = |wave, level| Look {
            wave: WaveNumber::new(wave),
            level: Level::new(level).unwrap(),
            signals: 2,
        };
        let lines = [
            Lines::of(&policy),
            Lines::at(&policy, look(0, 1)),
            Lines::at(&policy, look(0, 2)),
            Lines::at(&policy, look(9, 1)),
            Lines::at(&policy, look(u16::MAX, 7)),
            Lines::at_last(&policy),
        ];

        let trip = lines.map(|lines| lines.trip_at(1_000));
        let pass = lines.map(|lines| lines.samples_to_pass(0));

        assert_eq!(trip, [13, 15, 15, 18, 34, 74]);
        assert_eq!(pass, [300, 303, 303, 304, 304, 304]);
    }
}
