//! The keys of a policy file.
//!
//! # Invariants
//!
//! * A key that is not here is refused.
//! * What is left out has the value that `deploy/config/policy.toml` shows.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_core::gate::{GatePolicy, Mode, SignalPolicy};
use tidegate_core::policy::{
    Cohort, EmergencyProfile, Exclude, Growth, Limits, Notice, Policy, Rung, Selector,
    Window,
};
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;

use super::calendar::RuleKeys;
use super::moments::{InstantText, LanguageText, ZoneText};
use super::signals::{External, PaceKeys, SignalsKeys};
use super::units::{GrowthText, Names, PpmText, ShareText, SpanText};

/// Twice what the default gate needs, so that it decides early.
const CANARY: u32 = 1_000;
/// Threefold: from a thousand to nine million in nine waves.
const GROWTH: Growth = Growth::new(300);
/// What a country's help desks can bear if a wave goes wrong.
const WAVE_MAX: u32 = 500_000;

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyKeys {
    name: String,
    hash_seed: Option<String>,
    #[serde(default)]
    ladder: Vec<RungKeys>,
    #[serde(default)]
    cohort: Vec<CohortKeys>,
    #[serde(default)]
    exclude: Vec<ExcludeKeys>,
    #[serde(default)]
    gate: GateKeys,
    #[serde(default)]
    limits: LimitKeys,
    #[serde(default)]
    notice: NoticeKeys,
    #[serde(default)]
    calendar: Vec<RuleKeys>,
    emergency: Option<EmergencyKeys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmergencyKeys {
    soak: SpanText,
    alpha: Option<PpmText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RungKeys {
    name: String,
    services: Names,
    soak: Option<SpanText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CohortKeys {
    name: String,
    select: SelectKeys,
    canary: Option<u32>,
    growth: Option<GrowthText>,
    wave_max: Option<u32>,
    #[serde(default)]
    delay: BTreeMap<String, SpanText>,
    expected: Option<WindowKeys>,
    #[serde(default)]
    dial_tone: Names,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowKeys {
    from: InstantText,
    to: InstantText,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoticeKeys {
    language: Option<LanguageText>,
    language_label: Option<String>,
    zone: Option<ZoneText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExcludeKeys {
    reason: String,
    select: SelectKeys,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectKeys {
    #[serde(default)]
    tier: Names,
    #[serde(default)]
    domain: Names,
    #[serde(default)]
    node: Names,
    #[serde(default)]
    label: BTreeMap<String, Names>,
    share: Option<ShareText>,
    #[serde(default)]
    rest: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModeKey {
    Sequential,
    EProcess,
    EveryMailbox,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GateKeys {
    mode: Option<ModeKey>,
    failures_max: Option<u32>,
    soak: Option<SpanText>,
    #[serde(default)]
    opening: RateKeys,
    #[serde(default)]
    preparation: RateKeys,
    #[serde(default)]
    latency: LatencyKeys,
    #[serde(default)]
    node_breaker: BreakerKeys,
    isolated_nodes_max: Option<u16>,
    isolated_share_max: Option<PpmText>,
    unknown_after: Option<SpanText>,
    unknown_max: Option<PpmText>,
    nodes_min: Option<PpmText>,
    tier_mature_min: Option<u32>,
    report_age_max: Option<SpanText>,
    disk_free_min: Option<PpmText>,
    sessions_min: Option<u32>,
    escalate_after: Option<SpanText>,
    #[serde(default)]
    signals: SignalsKeys,
    #[serde(default)]
    external: Vec<External>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateKeys {
    pub(super) p_ok: Option<PpmText>,
    pub(super) p_bad: Option<PpmText>,
    pub(super) alpha: Option<PpmText>,
    pub(super) beta: Option<PpmText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LatencyKeys {
    slow_after: Option<SpanText>,
    p_ok: Option<PpmText>,
    p_bad: Option<PpmText>,
    alpha: Option<PpmText>,
    beta: Option<PpmText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BreakerKeys {
    failures_min: Option<u32>,
    p_ok: Option<PpmText>,
    p_bad: Option<PpmText>,
    alpha: Option<PpmText>,
    beta: Option<PpmText>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitKeys {
    prepare_ahead: Option<u32>,
    prepare_threads: Option<u16>,
    open_per_second: Option<u32>,
    permit_window: Option<u16>,
    lease: Option<SpanText>,
    beat: Option<SpanText>,
    job_mailboxes: Option<u16>,
    open_per_second_total: Option<u32>,
    #[serde(default)]
    pace: PaceKeys,
}

impl PolicyKeys {
    /// Whether `failures_max` is given to a gate that does not count failures so.
    pub(super) fn has_idle_failures_max(&self) -> bool {
        let every = matches!(self.gate.mode, Some(ModeKey::EveryMailbox));
        self.gate.failures_max.is_some() && !every
    }

    /// The policy these keys mean.
    pub(super) fn into_policy(self) -> Policy {
        let rung = |keys: RungKeys| Rung {
            name: keys.name,
            services: keys.services.0,
            soak: keys.soak.map(|soak| soak.0),
        };
        let ladder: Vec<Rung> = self.ladder.into_iter().map(rung).collect();
        let exclude = |keys: ExcludeKeys| Exclude {
            reason: keys.reason,
            select: keys.select.into_selector(),
        };
        let notice = self.notice.into_notice();
        let rule = |keys: RuleKeys| keys.into_rule(&notice.zone);
        Policy {
            calendar: self.calendar.into_iter().map(rule).collect(),
            hash_seed: self.hash_seed.unwrap_or_else(|| self.name.clone()),
            name: self.name,
            ladder: if ladder.is_empty() { Rung::default_ladder() } else { ladder },
            cohorts: self.cohort.into_iter().map(CohortKeys::into_cohort).collect(),
            exclude: self.exclude.into_iter().map(exclude).collect(),
            gate: self.gate.into_gate(),
            limits: self.limits.into_limits(),
            notice,
            emergency: self.emergency.map(|keys| EmergencyProfile {
                soak: keys.soak.0,
                alpha: keys.alpha.map(|alpha| alpha.0),
            }),
        }
    }
}

impl CohortKeys {
    fn into_cohort(self) -> Cohort {
        Cohort {
            name: self.name,
            select: self.select.into_selector(),
            canary: self.canary.unwrap_or(CANARY),
            growth: self.growth.map_or(GROWTH, |growth| growth.0),
            wave_max: self.wave_max.unwrap_or(WAVE_MAX),
            delays: self.delay.into_iter().map(|(rung, span)| (rung, span.0)).collect(),
            expected: self
                .expected
                .map(|WindowKeys { from, to }| Window { from: from.0, to: to.0 }),
            dial_tone: self.dial_tone.0,
        }
    }
}

impl NoticeKeys {
    fn into_notice(self) -> Notice {
        let mut notice = Notice::default();
        set(&mut notice.language, self.language.map(|language| language.0));
        set(&mut notice.language_label, self.language_label);
        set(&mut notice.zone, self.zone.map(|zone| zone.0));
        notice
    }
}

impl SelectKeys {
    fn into_selector(self) -> Selector {
        let Self { tier, domain, node, label, share, rest } = self;
        Selector {
            tiers: tier.0,
            domains: domain.0.iter().map(|name| name.to_lowercase()).collect(),
            nodes: node.0,
            labels: label.into_iter().map(|(key, values)| (key, values.0)).collect(),
            share: share.map(|share| share.0),
            rest,
        }
    }
}

impl GateKeys {
    fn into_gate(self) -> GatePolicy {
        let mut gate = GatePolicy::default();
        let failures_max = self.failures_max.unwrap_or(0);
        gate.mode = match self.mode {
            None => gate.mode,
            Some(ModeKey::Sequential) => Mode::Sequential,
            Some(ModeKey::EProcess) => Mode::EProcess,
            Some(ModeKey::EveryMailbox) => Mode::EveryMailbox { failures_max },
        };
        set_span(&mut gate.soak, self.soak);
        self.opening.apply(&mut gate.opening);
        self.preparation.apply(&mut gate.preparation);
        self.latency.apply(&mut gate);
        self.node_breaker.apply(&mut gate);
        set(&mut gate.isolated_nodes_max, self.isolated_nodes_max);
        set_ppm(&mut gate.isolated_share_max, self.isolated_share_max);
        set_span(&mut gate.unknown_after, self.unknown_after);
        set_ppm(&mut gate.unknown_max, self.unknown_max);
        set_ppm(&mut gate.nodes_min, self.nodes_min);
        set(&mut gate.tier_mature_min, self.tier_mature_min);
        set_span(&mut gate.report_age_max, self.report_age_max);
        set_ppm(&mut gate.disk_free_min, self.disk_free_min);
        set(&mut gate.sessions_min, self.sessions_min);
        set_span(&mut gate.escalate_after, self.escalate_after);
        self.signals.apply(&mut gate.signals);
        gate.external = self.external.into_iter().map(|external| external.0).collect();
        gate
    }
}

impl RateKeys {
    pub(super) fn apply(self, rates: &mut SignalPolicy) {
        set_ppm(&mut rates.p_ok, self.p_ok);
        set_ppm(&mut rates.p_bad, self.p_bad);
        set_ppm(&mut rates.alpha, self.alpha);
        set_ppm(&mut rates.beta, self.beta);
    }
}

impl LatencyKeys {
    fn apply(self, gate: &mut GatePolicy) {
        let Self { slow_after, p_ok, p_bad, alpha, beta } = self;
        set_span(&mut gate.latency.slow_after, slow_after);
        RateKeys { p_ok, p_bad, alpha, beta }.apply(&mut gate.latency.rates);
    }
}

impl BreakerKeys {
    fn apply(self, gate: &mut GatePolicy) {
        let Self { failures_min, p_ok, p_bad, alpha, beta } = self;
        set(&mut gate.node_breaker.failures_min, failures_min);
        RateKeys { p_ok, p_bad, alpha, beta }.apply(&mut gate.node_breaker.rates);
    }
}

impl LimitKeys {
    fn into_limits(self) -> Limits {
        let mut limits = Limits::default();
        set(&mut limits.prepare_ahead, self.prepare_ahead);
        set(&mut limits.prepare_threads, self.prepare_threads);
        set(&mut limits.open_per_second, self.open_per_second);
        set(&mut limits.permit_window, self.permit_window);
        set_span(&mut limits.lease, self.lease);
        set_span(&mut limits.beat, self.beat);
        set(&mut limits.job_mailboxes, self.job_mailboxes);
        limits.open_per_second_total = self.open_per_second_total;
        self.pace.apply(&mut limits.pace);
        limits
    }
}

pub(super) fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

pub(super) fn set_span(value: &mut Span, given: Option<SpanText>) {
    set(value, given.map(|given| given.0));
}

pub(super) fn set_ppm(value: &mut Ppm, given: Option<PpmText>) {
    set(value, given.map(|given| given.0));
}
