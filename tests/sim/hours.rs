//! Hours: many seeds, on as many threads as the machine has, and what came of them.
//!
//! # Invariants
//!
//! * What a run reports does not depend on how its seeds were divided among threads.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_core::planted::{Bug, plant};

use crate::faults::Kind;
use crate::fleet::Fleet;
use crate::world::{Outcome, Script, Violation, World};

/// What came of many hours.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) seeds: u64,
    pub(crate) simulated: u64,
    /// Of all hours together.
    pub(crate) digest: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) faults: BTreeMap<Kind, u64>,
    /// Seeds that broke a promise, and which.
    pub(crate) broken: BTreeMap<u64, Violation>,
    /// Seeds whose second life was another.
    pub(crate) unstable: Vec<u64>,
}

/// Which hours are lived.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// A bug that is put back.
    pub(crate) bug: Option<Bug>,
    /// Every so many, an hour is lived twice.
    pub(crate) twice_every: u64,
    /// A promise that breaks ends nothing.
    pub(crate) goes_on: bool,
}

impl Span {
    /// No hour at all, and none twice.
    pub(crate) const ONCE: Self =
        Self { from: 0, to: 0, bug: None, twice_every: u64::MAX, goes_on: false };
}

/// Lives through the hours of these seeds; no further when a promise breaks, if they do not go on.
pub(crate) fn live_all(span: Span, fleets: &[Arc<Fleet>]) -> Sum {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let (next, end) = (AtomicU64::new(span.from), AtomicU64::new(span.to));
    std::thread::scope(|scope| {
        let hand = || scope.spawn(|| live_some(span, fleets, &next, &end));
        let hands: Vec<_> = (0..threads).map(|_| hand()).collect();
        let sums = hands.into_iter().map(|it| it.join().unwrap());
        sums.fold(Sum::default(), Sum::plus)
    })
}

fn live_some(
    span: Span,
    fleets: &[Arc<Fleet>],
    next: &AtomicU64,
    end: &AtomicU64,
) -> Sum {
    let mut sum = Sum::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end.load(Ordering::Relaxed) {
            return sum;
        }
        let script = Script::of(seed, fleets);
        let outcome = live_one(&script, span.bug);
        if seed.is_multiple_of(span.twice_every) && outcome.violation.is_none() {
            let again = live_one(&script, span.bug);
            if again.digest != outcome.digest {
                sum.unstable.push(seed);
            }
        }
        if outcome.violation.is_some() && !span.goes_on {
            end.fetch_min(seed, Ordering::Relaxed);
        }
        sum.add(seed, outcome);
    }
}

/// One hour, in which a panic is a broken promise too.
pub(crate) fn live_one(script: &Script, bug: Option<Bug>) -> Outcome {
    // Calls measure how long they wait, by a timer that never runs.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    plant(bug);
    let lived = catch_unwind(AssertUnwindSafe(|| World::live(script)));
    plant(None);
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let text = text.unwrap_or_else(|| "no message".to_owned());
        Outcome::broken(Violation { promise: "assertion in the program", text })
    })
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        // A sum, so that the order in which threads have lived them does not matter.
        self.digest = self.digest.wrapping_add(outcome.digest);
        for (what, count) in outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for (kind, count) in outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.broken.extend(outcome.violation.map(|it| (seed, it)));
    }

    fn plus(mut self, other: Self) -> Self {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.digest = self.digest.wrapping_add(other.digest);
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.broken.extend(other.broken);
        self.unstable.extend(other.unstable);
        self
    }
}
