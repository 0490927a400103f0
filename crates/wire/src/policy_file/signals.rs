//! The keys about what is measured: signals of mail systems, others' measurements, the pace.
//!
//! # Invariants
//!
//! * A limit is written in its signal's unit: a time, a share or a number.
//! * A question has one bound, not two and not none.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use tidegate_core::gate::{
    Bound, EXTERNAL_RATES, ExternalPolicy, PulseSignal, ShortName, SignalPolicy,
    SignalsPolicy,
};
use tidegate_core::pace::PacePolicy;
use tidegate_core::time::Span;

use super::schema::{RateKeys, set, set_ppm, set_span};
use super::units::{PpmText, SpanText};

/// As often as node signals are measured.
const ASKED_EVERY: Span = Span::from_secs(60);

/// Three questions may go unanswered before it holds.
const ANSWER_AGE_MAX: Span = Span::from_secs(180);

/// `[gate.signals]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignalsKeys {
    every: Option<SpanText>,
    window: Option<SpanText>,
    silent_max: Option<u32>,
    login_latency: Option<PulseKeys<SpanText>>,
    command_latency: Option<PulseKeys<SpanText>>,
    command_errors: Option<PulseKeys<PpmText>>,
    delivery_latency: Option<PulseKeys<SpanText>>,
    delivery_refusals: Option<PulseKeys<PpmText>>,
    storage_errors: Option<PulseKeys<u32>>,
    disk_latency: Option<PulseKeys<SpanText>>,
    io_pressure: Option<PulseKeys<PpmText>>,
    connections: Option<PulseKeys<u32>>,
    canary: Option<PulseKeys<u32>>,
    canary_latency: Option<PulseKeys<SpanText>>,
    queue_age: Option<PulseKeys<SpanText>>,
}

/// `[gate.signals.<name>]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PulseKeys<L> {
    limit: Option<L>,
    required: Option<bool>,
    p_ok: Option<PpmText>,
    p_bad: Option<PpmText>,
    alpha: Option<PpmText>,
    beta: Option<PpmText>,
}

impl SignalsKeys {
    pub(super) fn apply(self, signals: &mut SignalsPolicy) {
        set_span(&mut signals.every, self.every);
        set_span(&mut signals.window, self.window);
        set(&mut signals.silent_max, self.silent_max);
        let millis = |text: SpanText| number(text.0.millis());
        let seconds = |text: SpanText| number(text.0.millis() / 1_000);
        let parts = |text: PpmText| text.0.parts();
        let count = |count: u32| count;
        let (times, shares, counts) = (
            [
                (PulseSignal::LoginLatency, self.login_latency),
                (PulseSignal::CommandLatency, self.command_latency),
                (PulseSignal::DeliveryLatency, self.delivery_latency),
                (PulseSignal::DiskLatency, self.disk_latency),
                (PulseSignal::CanaryLatency, self.canary_latency),
            ],
            [
                (PulseSignal::CommandErrors, self.command_errors),
                (PulseSignal::DeliveryRefusals, self.delivery_refusals),
                (PulseSignal::IoPressure, self.io_pressure),
            ],
            [
                (PulseSignal::StorageErrors, self.storage_errors),
                (PulseSignal::Connections, self.connections),
                (PulseSignal::Canary, self.canary),
            ],
        );
        for (signal, keys) in times {
            apply(keys, signal, signals, millis);
        }
        apply(self.queue_age, PulseSignal::QueueAge, signals, seconds);
        for (signal, keys) in shares {
            apply(keys, signal, signals, parts);
        }
        for (signal, keys) in counts {
            apply(keys, signal, signals, count);
        }
    }
}

fn apply<L>(
    keys: Option<PulseKeys<L>>,
    signal: PulseSignal,
    signals: &mut SignalsPolicy,
    in_unit: impl Fn(L) -> u32,
) {
    let (Some(keys), Some(policy)) = (keys, signals.of_mut(signal)) else { return };
    let PulseKeys { limit, required, p_ok, p_bad, alpha, beta } = keys;
    set(&mut policy.limit, limit.map(in_unit));
    set(&mut policy.required, required);
    RateKeys { p_ok, p_bad, alpha, beta }.apply(&mut policy.rates);
}

fn number(large: u64) -> u32 {
    u32::try_from(large).unwrap_or(u32::MAX)
}

/// `[[gate.external]]`.
#[derive(Deserialize)]
#[serde(try_from = "ExternalKeys")]
pub(super) struct External(pub(super) ExternalPolicy);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExternalKeys {
    name: NameText,
    query: String,
    max: Option<NumberText>,
    min: Option<NumberText>,
    every: Option<SpanText>,
    age_max: Option<SpanText>,
    p_ok: Option<PpmText>,
    p_bad: Option<PpmText>,
    alpha: Option<PpmText>,
    beta: Option<PpmText>,
}

impl TryFrom<ExternalKeys> for External {
    type Error = &'static str;

    fn try_from(keys: ExternalKeys) -> Result<Self, Self::Error> {
        let ExternalKeys { name, query, max, min, every, age_max, .. } = keys;
        let bound = match (max, min) {
            (Some(max), None) => Bound::Max(max.0),
            (None, Some(min)) => Bound::Min(min.0),
            (None, None) => {
                return Err("one of `max` and `min` says which answers are good");
            }
            (Some(_), Some(_)) => {
                return Err("`max` and `min` together; ask two questions");
            }
        };
        let mut rates: SignalPolicy = EXTERNAL_RATES;
        let ExternalKeys { p_ok, p_bad, alpha, beta, .. } = keys;
        RateKeys { p_ok, p_bad, alpha, beta }.apply(&mut rates);
        let every = every.map_or(ASKED_EVERY, |every| every.0);
        let age_max = age_max.map_or(ANSWER_AGE_MAX.max(every), |age| age.0);
        Ok(Self(ExternalPolicy { name: name.0, query, bound, every, age_max, rates }))
    }
}

/// A name of lower-case letters, digits and hyphens.
struct NameText(ShortName);

impl<'de> Deserialize<'de> for NameText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let max = ShortName::BYTES_MAX;
        let wrong = || {
            D::Error::custom(format!(
                "`{text}` is no name: lower-case letters, digits and `-`, at most {max}"
            ))
        };
        ShortName::new(&text).map(Self).ok_or_else(wrong)
    }
}

/// A number, in millionths.
struct NumberText(i64);

impl<'de> Deserialize<'de> for NumberText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = NumberText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: Error>(self, whole: i64) -> Result<NumberText, E> {
                let millionths = whole.checked_mul(1_000_000);
                millionths.map(NumberText).ok_or_else(|| E::custom("too large a number"))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<NumberText, E> {
                let millionths = Bound::millionths(number);
                millionths.map(NumberText).ok_or_else(|| E::custom("too large a number"))
            }
        }

        from.deserialize_any(Number)
    }
}

/// `[limits.pace]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PaceKeys {
    patience: Option<SpanText>,
    retry: Option<SpanText>,
    load: Option<PpmText>,
    capacity: Option<u32>,
    active: Option<PpmText>,
    connections: Option<u16>,
    cold_cost: Option<u16>,
}

impl PaceKeys {
    pub(super) fn apply(self, pace: &mut PacePolicy) {
        set_span(&mut pace.patience, self.patience);
        set_span(&mut pace.retry, self.retry);
        set_ppm(&mut pace.load, self.load);
        set(&mut pace.capacity, self.capacity.map(Some));
        set_ppm(&mut pace.population.active, self.active);
        set(&mut pace.population.connections, self.connections);
        set(&mut pace.population.cold_cost, self.cold_cost);
    }
}
