//! One signal's test: where failures and samples stand.
//!
//! # Invariants
//!
//! * Failures count early and successes late: the trip line sees everything opened, the
//!   pass line only what has shown its outcome, so both keep their error rates.
//! * Counting a sample twice, or more failures than samples, never helps to pass.

use super::eprocess::EProcess;
use super::policy::{Mode, SignalPolicy};
use super::sprt::{Lines, Look};
use super::verdict::{Signal, SignalNumbers, Standing};

/// How a signal is decided.
#[derive(Clone, Debug)]
pub(super) struct Test {
    kind: Kind,
    /// Samples after which an open question goes to a person.
    samples_max: u32,
}

#[derive(Clone, Debug)]
enum Kind {
    Sequential(Lines),
    EProcess(EProcess),
    Every { failures_max: u32 },
}

/// What was counted of one signal, on one node or on all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Failures, with the unknown ones.
    pub(super) failed: u32,
    /// Samples for the trip line.
    pub(super) opened: u32,
    /// Samples for the pass line.
    pub(super) mature: u32,
}

/// A signal without verdict is cut off at so many times the samples it needs on average.
const MEANS_MAX: u32 = 3;

impl Test {
    /// The sequential test of `rates`.
    pub(super) fn sequential(rates: &SignalPolicy, look: Look) -> Self {
        let lines = Lines::at(rates, look);
        let samples_max = lines.mean_samples().saturating_mul(MEANS_MAX);
        Self { kind: Kind::Sequential(lines), samples_max }
    }

    /// The test of the opening signal that `mode` asks for.
    pub(super) fn opening(mode: Mode, rates: &SignalPolicy, look: Look) -> Self {
        match mode {
            Mode::Sequential => Self::sequential(rates, look),
            Mode::EProcess => Self {
                kind: Kind::EProcess(EProcess::at(rates, look)),
                samples_max: EProcess::mean_samples(rates).saturating_mul(MEANS_MAX),
            },
            Mode::EveryMailbox { failures_max } => {
                Self { kind: Kind::Every { failures_max }, samples_max: u32::MAX }
            }
        }
    }

    pub(super) fn samples_max(&self) -> u32 {
        self.samples_max
    }

    pub(super) fn trips(&self, count: Count) -> bool {
        let Count { failed, opened, .. } = count;
        match &self.kind {
            Kind::Sequential(lines) => lines.trips(opened, failed),
            Kind::EProcess(process) => process.trips(opened, failed),
            Kind::Every { failures_max } => failed > *failures_max,
        }
    }

    fn passes(&self, count: Count) -> bool {
        let Count { failed, mature, .. } = count;
        match &self.kind {
            Kind::Sequential(lines) => lines.passes(mature, failed),
            Kind::EProcess(process) => process.passes(mature, failed),
            Kind::Every { failures_max } => mature > 0 && failed <= *failures_max,
        }
    }

    /// Where `count` stands, with the lines it stands between.
    pub(super) fn numbers(&self, signal: Signal, count: Count) -> SignalNumbers {
        let Count { failed, opened, mature } = count;
        let (pass_at, trip_at, need, weight_millis) = match &self.kind {
            Kind::Sequential(lines) => (
                lines.pass_at(mature),
                lines.trip_at(opened),
                lines.samples_to_pass(failed),
                lines.weight_millis(opened, failed),
            ),
            Kind::EProcess(process) => (
                process.pass_at(mature),
                process.trip_at(opened),
                process.samples_to_pass(failed),
                process.weight_millis(opened, failed),
            ),
            Kind::Every { failures_max } => {
                (Some(*failures_max), failures_max.saturating_add(1), 1, 0)
            }
        };
        let standing = if self.trips(count) {
            Standing::Tripped
        } else if self.passes(count) {
            Standing::Passed
        } else {
            Standing::Open
        };
        let missing = need.saturating_sub(mature);
        SignalNumbers {
            signal,
            failed,
            opened,
            mature,
            pass_at,
            trip_at,
            missing,
            weight_millis,
            standing,
        }
    }

    /// The samples without which not even zero failures pass.
    pub(super) fn n_min(&self) -> u32 {
        match &self.kind {
            Kind::Sequential(lines) => lines.samples_to_pass(0),
            Kind::EProcess(process) => process.samples_to_pass(0),
            Kind::Every { .. } => 1,
        }
    }
}

impl Count {
    /// `bad` of `samples`, all of which have shown their outcome.
    pub(super) fn of(samples: u32, bad: u32) -> Self {
        let samples = samples.max(bad);
        Self { failed: bad, opened: samples, mature: samples }
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            failed: self.failed.saturating_add(other.failed),
            opened: self.opened.saturating_add(other.opened),
            mature: self.mature.saturating_add(other.mature),
        }
    }

    /// All but `part`, which is in it.
    pub(super) fn without(self, part: Self) -> Self {
        Self {
            failed: self.failed.saturating_sub(part.failed),
            opened: self.opened.saturating_sub(part.opened),
            mature: self.mature.saturating_sub(part.mature),
        }
    }
}
