//! Gate: may the next wave open?
//!
//! # Invariants
//!
//! * Silence is not consent: a missing report holds the gate, never opens it.
//! * The question is whether the failure rate is proved below `p_bad`, not whether it is
//!   proved different from something: thin data never pass.
//! * One integrity failure on any node, isolated or not, halts before anything else. Then
//!   nodes that explain the trouble are isolated, while that is allowed; then tripped
//!   signals halt; then reasons to wait hold; only what is left expands.
//! * A busy node is a reason to wait. What users see as harm, mail that cannot be delivered
//!   or read, is a reason to stop.
//! * What should be measured and is not holds; what nobody measures is named.
//! * A failed mailbox counts at once, a good one only when it is mature.
//! * Stopping may infer from little; expanding needs everything that the policy asks for.
//! * No clock and no chance: the same evidence, policy and instant give the same judgement.
//!
//! Verdicts are latched by whoever keeps them; this only says what the evidence says now.
//!
//! Each signal may stop a healthy run with a chance of `alpha`, and that over all its waves and
//! levels: wave w may spend `6 / (π² w²)` of it, half as much on each further level, shared
//! between the signals that halt. `beta` is not shared: every bad wave must be caught.
//! Pulses that halt have such promises of their own, made for a window of minutes.
//! Minutes and answers are forgotten after their window, so that a gate that holds looks at ever
//! new ones, each time with a new chance to err: from the second window on, passing asks for
//! more, so that `beta` holds for hours of looking.
//! A reclosed wave opens again only because a person wants it; its promise starts anew.

mod answerable;
mod beta;
mod eprocess;
pub mod evidence;
pub mod external;
mod hold;
mod interval;
mod logarithm;
pub mod policy;
mod pool;
pub mod pulse;
mod record;
mod signal;
mod sprt;
mod stop;
pub mod verdict;

use std::borrow::Cow;

use crate::fleet::WaveNumber;
use crate::mailbox::Level;
use crate::share::Ppm;
use crate::time::{Span, Timestamp};

use pool::Pool;
use signal::{Count, Test};

pub use answerable::Unanswerable;
pub use eprocess::EProcess;
pub use evidence::{Evidence, NodeEvidence, TierEvidence};
pub use external::{Bound, ExternalEvidence, ExternalPolicy, ShortName};
pub use interval::Interval;
pub use policy::{
    BreakerPolicy, EXTERNAL_RATES, GatePolicy, GatePolicyError, LatencyPolicy, Mode,
    PulsePolicy, Rates, SignalPolicy, SignalsPolicy,
};
pub use pulse::{Pulse, PulseLimits, PulseSignal, PulseUnit, Pulses};
pub use record::{RecordError, VerdictRecord};
pub use sprt::{Lines, Look};
pub use verdict::{
    Escalation, HaltReason, HoldReason, IsolateReason, Judgement, Signal, SignalNumbers,
    Standing, Verdict,
};

/// Judges one wave on one level.
pub fn judge(evidence: &Evidence, policy: &GatePolicy, now: Timestamp) -> Judgement {
    Gate::new(policy, evidence.wave, evidence.level).judge(evidence, now)
}

/// The gate of one wave on one level, its lines drawn: for whoever judges it often.
#[derive(Clone, Debug)]
pub struct Gate<'p> {
    policy: &'p GatePolicy,
    drawn: Cow<'p, Drawn>,
}

/// The lines of one wave on one level: they cost more than a judgement, and never change.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    look: Look,
    opening: Test,
    preparation: Test,
    latency: Test,
    breaker: Lines,
}

/// Signals that can halt a run: opening and preparation share its false alarms. Latency
/// only holds, and what it holds goes on when the probes are quick again.
const HALTING_SIGNALS: u8 = 2;

/// Pulses that can halt a run share false alarms of their own: what is measured of mail
/// systems leaves the lines of the others where they are.
const HALTING_PULSES: u8 = 3;

/// A look after the first window may err this many times more seldom: the looks of the next
/// hour and a half have then together no more chance than the first window has (measured).
const LATER_LOOKS: u32 = 8;

impl Drawn {
    /// Draws the lines of `wave` on `level`.
    pub(crate) fn of(policy: &GatePolicy, wave: WaveNumber, level: Level) -> Self {
        let look = Look { wave, level, signals: HALTING_SIGNALS };
        Self {
            look,
            opening: Test::opening(policy.mode, &policy.opening, look),
            preparation: Test::sequential(&policy.preparation, look),
            latency: Test::sequential(&policy.latency.rates, look),
            breaker: Lines::of(&policy.node_breaker.rates),
        }
    }
}

impl<'p> Gate<'p> {
    /// Draws the lines of `wave` on `level`.
    pub fn new(policy: &'p GatePolicy, wave: WaveNumber, level: Level) -> Self {
        Self { policy, drawn: Cow::Owned(Drawn::of(policy, wave, level)) }
    }

    /// The gate whose lines were drawn before from the same policy.
    pub(crate) fn with(policy: &'p GatePolicy, drawn: &'p Drawn) -> Self {
        Self { policy, drawn: Cow::Borrowed(drawn) }
    }

    /// Judges what the wave has shown by `now`.
    ///
    /// `evidence` is about the wave and the level whose lines were drawn.
    pub fn judge(&self, evidence: &Evidence, now: Timestamp) -> Judgement {
        let ordered =
            if evidence.is_canonical() { None } else { Some(evidence.canonical()) };
        let evidence = ordered.as_ref().unwrap_or(evidence);
        let pool = Pool::of(evidence, self.policy, now);
        let elapsed = now.since(evidence.allowed_at);
        let numbers: Vec<SignalNumbers> = self
            .signals(&pool)
            .map(|signal| {
                let numbers = self.test(signal).numbers(signal, pool.count(signal));
                self.later(numbers, &pool, elapsed)
            })
            .collect();

        let stop = self.reason_to_stop(evidence, &pool, &numbers);
        let verdict = stop.unwrap_or_else(|| {
            let reasons = self.reasons_to_hold(evidence, &pool, &numbers, now);
            if reasons.is_empty() { Verdict::Expand } else { Verdict::Hold(reasons) }
        });

        let immature = pool.unproven.saturating_sub(pool.unknown);
        let unmeasured = PulseSignal::ALL.into_iter();
        let unmeasured = unmeasured.filter(|signal| !pool.measures(*signal)).collect();
        let Pool { unknown, isolated, .. } = pool;
        Judgement { verdict, numbers, unknown, immature, isolated, unmeasured }
    }

    /// What is counted: always the mailboxes, of the pulses those that have a source, and
    /// every external one that the policy names, answered or not.
    fn signals(&self, pool: &Pool<'_>) -> impl Iterator<Item = Signal> {
        let pulses = PulseSignal::ALL.into_iter();
        let pulses = pulses.filter(|signal| pool.measures(*signal)).map(Signal::Pulse);
        let external = self.policy.external.iter().map(|it| Signal::External(it.name));
        [Signal::Opening, Signal::Preparation, Signal::Latency]
            .into_iter()
            .chain(pulses)
            .chain(external)
    }

    /// What `numbers` say when more than a window has passed since the wave was allowed.
    ///
    /// A window in which nothing was bad passes in any case: more cannot be shown.
    fn later(
        &self,
        numbers: SignalNumbers,
        pool: &Pool<'_>,
        elapsed: Span,
    ) -> SignalNumbers {
        let SignalsPolicy { every, window, .. } = self.policy.signals;
        let (rates, every, sources) = match numbers.signal {
            Signal::Opening | Signal::Preparation | Signal::Latency => return numbers,
            Signal::Pulse(pulse) => {
                (self.policy.signals.of(pulse).rates, every, pool.sources(pulse))
            }
            Signal::External(name) => {
                let named = self.policy.external.iter().find(|it| it.name == name);
                let Some(external) = named else { return numbers };
                (external.rates, external.every, 1)
            }
        };
        if numbers.standing == Standing::Tripped || elapsed <= window {
            return numbers;
        }
        let beta = Ppm::new((rates.beta.parts() / LATER_LOOKS).max(1));
        let test = Test::sequential(&SignalPolicy { beta, ..rates }, self.drawn.look);
        let minutes = window.millis() / every.millis().max(1);
        let most = minutes.saturating_sub(1).saturating_mul(u64::from(sources));
        if u64::from(test.n_min()) > most {
            return numbers;
        }
        let SignalNumbers { signal, failed, opened, mature, .. } = numbers;
        let later = test.numbers(signal, Count { failed, opened, mature });
        let standing = match later.standing {
            Standing::Passed => Standing::Passed,
            Standing::Open | Standing::Tripped => Standing::Open,
        };
        let SignalNumbers { pass_at, missing, .. } = later;
        SignalNumbers { pass_at, missing, standing, ..numbers }
    }

    /// How `signal` is judged. Lines of pulses are drawn when they are needed: few waves
    /// have all of them.
    fn test(&self, signal: Signal) -> Cow<'_, Test> {
        match signal {
            Signal::Opening => Cow::Borrowed(&self.drawn.opening),
            Signal::Preparation => Cow::Borrowed(&self.drawn.preparation),
            Signal::Latency => Cow::Borrowed(&self.drawn.latency),
            Signal::Pulse(pulse) => {
                let signals = if pulse.halts() { HALTING_PULSES } else { 1 };
                let look = Look { signals, ..self.drawn.look };
                let rates = self.policy.signals.of(pulse).rates;
                Cow::Owned(Test::sequential(&rates, look))
            }
            Signal::External(name) => {
                let named = self.policy.external.iter().find(|it| it.name == name);
                let rates = named.map_or(EXTERNAL_RATES, |it| it.rates);
                Cow::Owned(Test::sequential(
                    &rates,
                    Look { signals: 1, ..self.drawn.look },
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests;
