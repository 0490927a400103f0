//! What the operator wants a gate to demand.
//!
//! # Invariants
//!
//! * A policy that passes [`GatePolicy::check`] gives finite lines: every logarithm in
//!   them exists, and the trip line lies above the pass line.
//! * The same policy has the same bytes and the same digest on every machine.

use std::fmt;

use thiserror::Error;

use crate::inventory::{Canon, Digest};
use crate::share::Ppm;
use crate::time::Span;

use super::eprocess::EProcess;
use super::external::{Bound, ExternalPolicy, ShortName};
use super::pulse::{PulseLimits, PulseSignal};
use super::sprt::Lines;

/// Everything a gate asks for before the next wave may open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatePolicy {
    /// How the opening signal is judged.
    pub mode: Mode,
    /// How long an opened mailbox must stay healthy before it counts as mature.
    pub soak: Span,
    /// Opened mailboxes that could not be read as their users would.
    pub opening: SignalPolicy,
    /// Settled mailboxes that had to be quarantined.
    pub preparation: SignalPolicy,
    /// Probes that were answered late.
    pub latency: LatencyPolicy,
    /// When one node is taken out before it stops the fleet.
    pub node_breaker: BreakerPolicy,
    /// How many nodes may be isolated in one rollout, whatever the fleet's size.
    pub isolated_nodes_max: u16,
    /// The share of the fleet that may be isolated, if that is more.
    pub isolated_share_max: Ppm,
    /// How long a node may be silent before its unproven mailboxes count as failed.
    pub unknown_after: Span,
    /// The share of opened mailboxes that may be unknown.
    pub unknown_max: Ppm,
    /// The share of the wave's nodes that must have mature mailboxes.
    pub nodes_min: Ppm,
    /// How many mailboxes of each tier must be mature, or 80 % of the tier if that is less.
    pub tier_mature_min: u32,
    /// How old the newest report of a node may be.
    pub report_age_max: Span,
    /// The share of its disk a node must have free.
    pub disk_free_min: Ppm,
    /// How many mailboxes must have been used by their own users; 0 if probes suffice.
    pub sessions_min: u32,
    /// How long a wave may be held before a person is asked.
    pub escalate_after: Span,
    /// What the mail system of each node is measured by.
    pub signals: SignalsPolicy,
    /// What others' measurements must say.
    pub external: Vec<ExternalPolicy>,
}

/// What is asked of the minutes of each node's mail system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalsPolicy {
    /// How long a minute is.
    pub every: Span,
    /// How long a minute counts.
    pub window: Span,
    /// For how many minutes a signal may not be measured before it holds.
    pub silent_max: u32,
    /// By [`PulseSignal::index`].
    pub each: [PulsePolicy; PulseSignal::COUNT],
}

/// What is asked of one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PulsePolicy {
    /// A minute above it is bad, in the signal's unit.
    pub limit: u32,
    /// How many minutes may be bad.
    pub rates: SignalPolicy,
    /// Whether every node must have a source for it.
    pub required: bool,
}

/// How the opening signal becomes a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Wald's sequential test of `p_ok` against `p_bad`: fewest samples on average.
    Sequential,
    /// Evidence against every rate above `p_ok` and below `p_bad`, valid at any time.
    EProcess,
    /// For waves too small for statistics: every mailbox must prove itself.
    EveryMailbox {
        /// How many of the wave's mailboxes may fail.
        failures_max: u32,
    },
}

/// The two rates a signal tells apart, and how often it may err.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalPolicy {
    /// The failure rate we are happy with.
    pub p_ok: Ppm,
    /// The failure rate that must not pass.
    pub p_bad: Ppm,
    /// How often a healthy run may be stopped by this signal, over all its waves.
    pub alpha: Ppm,
    /// How often a bad wave may pass.
    pub beta: Ppm,
}

/// When probes are slow, and how many may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LatencyPolicy {
    /// A probe that takes longer counts as slow.
    pub slow_after: Span,
    /// How many probes may be slow.
    pub rates: SignalPolicy,
}

/// When one node is isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerPolicy {
    /// What the mailboxes of one node may show.
    pub rates: SignalPolicy,
    /// A node with fewer failures is never isolated.
    pub failures_min: u32,
}

/// One percent.
const PERCENT: u32 = 10_000;

/// One full polling cycle of a phone's mail program: until then nobody may have looked.
const SOAK: Span = Span::from_secs(15 * 60);

/// Half a percent of mailboxes has trouble on any day; two percent is an incident. A bad wave
/// must be caught in 99 of 100 cases, a healthy run may be stopped once in 20.
const OPENING: SignalPolicy = SignalPolicy {
    p_ok: Ppm::new(PERCENT / 2),
    p_bad: Ppm::new(2 * PERCENT),
    alpha: Ppm::new(5 * PERCENT),
    beta: Ppm::new(PERCENT),
};

/// A quarantined mailbox stays shut and loses nothing, so more of them can be borne than of
/// those that fail open; 5 % are more than people can look after.
const PREPARATION: SignalPolicy = SignalPolicy {
    p_ok: Ppm::new(PERCENT),
    p_bad: Ppm::new(5 * PERCENT),
    alpha: Ppm::new(5 * PERCENT),
    beta: Ppm::new(5 * PERCENT),
};

/// What users feel, as for any service level: 1 % of slow reads is life, 5 % is a complaint;
/// a mail program shows its spinner after about two seconds.
const LATENCY: LatencyPolicy =
    LatencyPolicy { slow_after: Span::from_secs(2), rates: PREPARATION };

/// A sick node shows itself within a dozen mailboxes; a healthy one among hundreds of nodes
/// must not be taken for sick, hence the small alpha. One failure proves nothing.
const NODE_BREAKER: BreakerPolicy = BreakerPolicy {
    rates: SignalPolicy {
        p_ok: Ppm::new(PERCENT),
        p_bad: Ppm::new(15 * PERCENT),
        alpha: Ppm::new(PERCENT / 10),
        beta: Ppm::new(PERCENT),
    },
    failures_min: 2,
};

/// More sick nodes than this, or than 5 % of a large fleet, are no accident of single nodes.
const ISOLATED_NODES_MAX: u16 = 2;

/// See [`ISOLATED_NODES_MAX`].
const ISOLATED_SHARE_MAX: Ppm = Ppm::new(5 * PERCENT);

/// Long enough to restart a machine and check its disks.
const UNKNOWN_AFTER: Span = Span::from_secs(10 * 60);

/// As many as the opening signal calls bad: more could hide a bad wave.
const UNKNOWN_MAX: Ppm = Ppm::new(2 * PERCENT);

/// A fault that lives on every fifth node would show on one that was looked at.
const NODES_MIN: Ppm = Ppm::new(80 * PERCENT);

/// Thirty mailboxes without failure say that fewer than one in ten of the tier fails.
const TIER_MATURE_MIN: u32 = 30;

/// Several beats of a worker, so that one lost message holds nothing.
const REPORT_AGE_MAX: Span = Span::from_secs(30);

/// Repairs keep what they replace; below this a node runs full while doing so.
const DISK_FREE_MIN: Ppm = Ppm::new(5 * PERCENT);

/// Twice the time a wave takes to open and to soak.
const ESCALATE_AFTER: Span = Span::from_secs(60 * 60);

/// A busy node is a reason to wait, and 15 minutes of one node must suffice to say that it is
/// not: one bad minute in fifty is life, one in four is a node that cannot follow. Looked at
/// every minute for two hours, such a node passes in three of 100 cases.
const BUSY: SignalPolicy = SignalPolicy {
    p_ok: Ppm::new(2 * PERCENT),
    p_bad: Ppm::new(25 * PERCENT),
    alpha: Ppm::new(5 * PERCENT),
    beta: Ppm::new(3 * PERCENT),
};

/// Harm that users see stops everything, so it must be beyond doubt: looked at all day long a
/// healthy fleet is stopped once in a hundred days, hence the small alpha.
const HARM: SignalPolicy = SignalPolicy {
    p_ok: Ppm::new(PERCENT),
    p_bad: Ppm::new(20 * PERCENT),
    alpha: Ppm::new(PERCENT / 100),
    beta: Ppm::new(5 * PERCENT),
};

/// What every signal starts from.
const SIGNALS: SignalsPolicy = SignalsPolicy {
    every: Span::from_secs(60),
    // Twice the soak: what was long ago neither excuses the present nor burdens it.
    window: Span::from_secs(30 * 60),
    // As many failed measurements in a row as others grant before they give up.
    silent_max: 4,
    // In the order of [`PulseSignal::ALL`].
    each: [
        // Half of the ten seconds that a mail program waits: then queues feed on themselves.
        busy(5_000),
        // A mail program shows its spinner after about two seconds.
        busy(2_000),
        // Commands are refused for good reasons too (no such folder), but not every twentieth.
        harm(50_000),
        // Far from the minutes that a mail exchanger waits, far above a slow flush.
        busy(5_000),
        // Full mailboxes refuse on any day; every twentieth delivery is a wrong user map.
        harm(50_000),
        // Every one names damage that a user has met.
        busy(0),
        // Thrice what a busy rotating disk needs.
        busy(100),
        // Preparing ahead alone makes disks busy; this is when users' reads do not get through.
        busy(900_000),
        // Twice what 20,000 mailboxes keep open with three connections for each active one.
        busy(40_000),
        // Not one round of the canary.
        harm(0),
        // A round takes a tenth of a second; fifty times that is a node in trouble.
        busy(5_000),
        // Mail for an open mailbox is on its way within minutes.
        busy(30 * 60),
    ],
};

const fn busy(limit: u32) -> PulsePolicy {
    PulsePolicy { limit, rates: BUSY, required: false }
}

const fn harm(limit: u32) -> PulsePolicy {
    PulsePolicy { limit, rates: HARM, required: false }
}

/// What an external signal may show if nobody says otherwise.
pub const EXTERNAL_RATES: SignalPolicy = BUSY;

/// At most this much of a tier must be mature, however small it is.
pub(super) const TIER_SHARE_MAX: Ppm = Ppm::new(80 * PERCENT);

impl Default for GatePolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A policy under which no gate makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GatePolicyError {
    /// `p_ok` is nothing: then the first failure would have to halt, as integrity does.
    #[error("{rates}: p_ok must be above 0 %")]
    OkIsNothing {
        /// Whose rates.
        rates: Rates,
    },
    /// `p_bad` is the whole or more.
    #[error("{rates}: p_bad is {p_bad}, must be below 100 %")]
    BadIsEverything {
        /// Whose rates.
        rates: Rates,
        /// The rate.
        p_bad: Ppm,
    },
    /// The rate we are happy with is not below the one that must not pass.
    #[error("{rates}: p_ok is {p_ok}, must be below p_bad, which is {p_bad}")]
    RatesCross {
        /// Whose rates.
        rates: Rates,
        /// The rate we are happy with.
        p_ok: Ppm,
        /// The rate that must not pass.
        p_bad: Ppm,
    },
    /// A chance of erring is nothing, or no better than tossing a coin.
    #[error("{rates}: {name} is {value}, must be above 0 % and below 50 %")]
    ErrorRate {
        /// Whose rates.
        rates: Rates,
        /// `alpha` or `beta`.
        name: &'static str,
        /// Its value.
        value: Ppm,
    },
    /// A share is more than the whole.
    #[error("{name} is {value}, must be at most 100 %")]
    ShareTooLarge {
        /// The key.
        name: &'static str,
        /// Its value.
        value: Ppm,
    },
    /// A node silent for so long counts as failed before it counts as silent.
    #[error(
        "unknown_after is {unknown_after}, must be at least report_age_max, \
             which is {report_age_max}"
    )]
    UnknownBeforeSilent {
        /// When silent nodes' mailboxes become unknown.
        unknown_after: Span,
        /// When a node is silent.
        report_age_max: Span,
    },
    /// No report could ever be fresh.
    #[error("report_age_max must be above zero")]
    NoReportIsFresh,
    /// A minute is too short to be measured, or longer than it counts.
    #[error(
        "signals.every is {every}, must be at least {min} and at most signals.window, which is {window}"
    )]
    Minute {
        /// How long a minute is.
        every: Span,
        /// The shortest possible one.
        min: Span,
        /// How long a minute counts.
        window: Span,
    },
    /// A question that is asked too often, or whose answers are never young enough.
    #[error(
        "external `{name}`: every is {every}, must be at least {min} and at most age_max, which is {age_max}"
    )]
    ExternalAge {
        /// Its place in the list.
        of: usize,
        /// Whose.
        name: ShortName,
        /// How often it is asked.
        every: Span,
        /// The most often possible.
        min: Span,
        /// How old an answer may be.
        age_max: Span,
    },
    /// Two signals have one name.
    #[error("external `{name}`: the name is taken already")]
    ExternalTwice {
        /// Its place in the list.
        place: usize,
        /// The name.
        name: ShortName,
    },
    /// A question that asks nothing.
    #[error("external `{name}`: the query is empty")]
    ExternalEmpty {
        /// Its place in the list.
        place: usize,
        /// Whose.
        name: ShortName,
    },
}

impl GatePolicyError {
    /// The key that must change, below the gate's.
    pub fn key(&self) -> String {
        match self {
            Self::OkIsNothing { rates } | Self::RatesCross { rates, .. } => {
                rates.key("p_ok")
            }
            Self::BadIsEverything { rates, .. } => rates.key("p_bad"),
            Self::ErrorRate { rates, name, .. } => rates.key(name),
            Self::ShareTooLarge { name, .. } => (*name).to_owned(),
            Self::UnknownBeforeSilent { .. } => "unknown_after".to_owned(),
            Self::NoReportIsFresh => "report_age_max".to_owned(),
            Self::Minute { .. } => "signals.every".to_owned(),
            Self::ExternalAge { of, .. } => format!("external.{of}.every"),
            Self::ExternalTwice { place, .. } => format!("external.{place}.name"),
            Self::ExternalEmpty { place, .. } => format!("external.{place}.query"),
        }
    }
}

impl Rates {
    fn key(self, of: &str) -> String {
        match self {
            Self::External { place, .. } => format!("external.{place}.{of}"),
            Self::Pulse(signal) => {
                format!("signals.{}.{of}", signal.code().replace('-', "_"))
            }
            Self::Opening | Self::Preparation | Self::Latency | Self::NodeBreaker => {
                format!("{self}.{of}")
            }
        }
    }
}

/// Whose rates are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rates {
    /// [`GatePolicy::opening`].
    Opening,
    /// [`GatePolicy::preparation`].
    Preparation,
    /// [`GatePolicy::latency`].
    Latency,
    /// [`GatePolicy::node_breaker`].
    NodeBreaker,
    /// [`GatePolicy::signals`].
    Pulse(PulseSignal),
    /// [`GatePolicy::external`].
    External {
        /// Its place in the list.
        place: usize,
        /// Its name.
        name: ShortName,
    },
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("opening"),
            Self::Preparation => f.write_str("preparation"),
            Self::Latency => f.write_str("latency"),
            Self::NodeBreaker => f.write_str("node_breaker"),
            Self::Pulse(signal) => write!(f, "signals.{signal}"),
            Self::External { name, .. } => write!(f, "external `{name}`"),
        }
    }
}

impl GatePolicy {
    /// What a large provider should start from.
    pub const DEFAULT: Self = Self {
        mode: Mode::Sequential,
        soak: SOAK,
        opening: OPENING,
        preparation: PREPARATION,
        latency: LATENCY,
        node_breaker: NODE_BREAKER,
        isolated_nodes_max: ISOLATED_NODES_MAX,
        isolated_share_max: ISOLATED_SHARE_MAX,
        unknown_after: UNKNOWN_AFTER,
        unknown_max: UNKNOWN_MAX,
        nodes_min: NODES_MIN,
        tier_mature_min: TIER_MATURE_MIN,
        report_age_max: REPORT_AGE_MAX,
        disk_free_min: DISK_FREE_MIN,
        sessions_min: 0,
        escalate_after: ESCALATE_AFTER,
        signals: SIGNALS,
        external: Vec::new(),
    };

    /// Looks for values under which no gate makes sense.
    ///
    /// # Errors
    ///
    /// The first such value, in the order of the fields. A policy with one must not be used.
    pub fn check(&self) -> Result<(), GatePolicyError> {
        self.opening.check(Rates::Opening)?;
        self.preparation.check(Rates::Preparation)?;
        self.latency.rates.check(Rates::Latency)?;
        self.node_breaker.rates.check(Rates::NodeBreaker)?;
        let shares = [
            ("isolated_share_max", self.isolated_share_max),
            ("unknown_max", self.unknown_max),
            ("nodes_min", self.nodes_min),
            ("disk_free_min", self.disk_free_min),
        ];
        for (name, value) in shares {
            if value > Ppm::WHOLE {
                return Err(GatePolicyError::ShareTooLarge { name, value });
            }
        }
        if self.report_age_max == Span::ZERO {
            return Err(GatePolicyError::NoReportIsFresh);
        }
        if self.unknown_after < self.report_age_max {
            return Err(GatePolicyError::UnknownBeforeSilent {
                unknown_after: self.unknown_after,
                report_age_max: self.report_age_max,
            });
        }
        self.signals.check()?;
        self.check_external()
    }

    fn check_external(&self) -> Result<(), GatePolicyError> {
        for (place, external) in self.external.iter().enumerate() {
            let ExternalPolicy { name, every, age_max, rates, .. } = external;
            let (name, every, age_max) = (*name, *every, *age_max);
            rates.check(Rates::External { place, name })?;
            let earlier = self.external.iter().take(place);
            let taken = ["opening", "preparation", "latency"].contains(&name.as_str())
                || PulseSignal::named(name.as_str()).is_some();
            if taken || earlier.into_iter().any(|earlier| earlier.name == name) {
                return Err(GatePolicyError::ExternalTwice { place, name });
            }
            if external.query.trim().is_empty() {
                return Err(GatePolicyError::ExternalEmpty { place, name });
            }
            if every < EVERY_MIN || every > age_max {
                let min = EVERY_MIN;
                let of = place;
                return Err(GatePolicyError::ExternalAge {
                    of,
                    name,
                    every,
                    min,
                    age_max,
                });
            }
        }
        Ok(())
    }

    /// The samples without which no wave, however late, can pass; 0 where every mailbox
    /// must prove itself.
    pub fn n_min(&self) -> u32 {
        let opening = match self.mode {
            Mode::EveryMailbox { .. } => return 0,
            Mode::Sequential => Lines::at_last(&self.opening).samples_to_pass(0),
            Mode::EProcess => EProcess::of(&self.opening).samples_to_pass(0),
        };
        let samples = |rates| Lines::at_last(rates).samples_to_pass(0);
        opening.max(samples(&self.preparation)).max(samples(&self.latency.rates))
    }

    /// The mailboxes a wave should have: half as many again as it needs when none fails, so
    /// that a few failures, quarantined mailboxes or an isolated node do not strand it.
    pub fn wave_min(&self) -> u32 {
        let n_min = self.n_min();
        n_min.saturating_add(n_min.div_ceil(2))
    }

    /// The name of this policy by its content.
    pub fn digest(&self) -> Digest {
        let mut canon = Canon::of("tidegate gate policy 1");
        let (mode, failures_max) = match self.mode {
            Mode::Sequential => (0_u32, 0),
            Mode::EProcess => (1, 0),
            Mode::EveryMailbox { failures_max } => (2, failures_max),
        };
        canon.number(mode);
        canon.number(failures_max);
        canon.number(self.soak.millis());
        self.opening.write(&mut canon);
        self.preparation.write(&mut canon);
        canon.number(self.latency.slow_after.millis());
        self.latency.rates.write(&mut canon);
        self.node_breaker.rates.write(&mut canon);
        canon.number(self.node_breaker.failures_min);
        canon.number(self.isolated_nodes_max);
        canon.number(self.isolated_share_max.parts());
        canon.number(self.unknown_after.millis());
        canon.number(self.unknown_max.parts());
        canon.number(self.nodes_min.parts());
        canon.number(self.tier_mature_min);
        canon.number(self.report_age_max.millis());
        canon.number(self.disk_free_min.parts());
        canon.number(self.sessions_min);
        canon.number(self.escalate_after.millis());
        // What a policy does not mention leaves its name as it always was.
        if self.signals != SIGNALS {
            self.signals.write(&mut canon);
        }
        for external in &self.external {
            external.write(&mut canon);
        }
        canon.finish()
    }

    /// How many nodes of a fleet of `fleet_nodes` may be isolated in one rollout: always
    /// fewer than half, or those left would not be the fleet any more.
    pub fn isolated_max(&self, fleet_nodes: u32) -> u32 {
        let share = u64::from(fleet_nodes) * u64::from(self.isolated_share_max.parts());
        let share = u32::try_from(share / 1_000_000).unwrap_or(u32::MAX);
        let minority = fleet_nodes.saturating_sub(1) / 2;
        share.max(u32::from(self.isolated_nodes_max)).min(minority)
    }
}

/// Measuring or asking more often shows nothing new and costs the nodes.
const EVERY_MIN: Span = Span::from_millis(100);

impl SignalsPolicy {
    /// What is asked of `signal`.
    pub fn of(&self, signal: PulseSignal) -> PulsePolicy {
        let policy = self.each.get(signal.index()).copied();
        policy.unwrap_or(PulsePolicy { limit: 0, rates: BUSY, required: false })
    }

    /// What is asked of `signal`, to change it.
    pub fn of_mut(&mut self, signal: PulseSignal) -> Option<&mut PulsePolicy> {
        self.each.get_mut(signal.index())
    }

    /// What a worker must know to count minutes.
    pub fn limits(&self) -> PulseLimits {
        PulseLimits { every: self.every, limits: self.each.map(|policy| policy.limit) }
    }

    fn check(&self) -> Result<(), GatePolicyError> {
        let Self { every, window, .. } = *self;
        if every < EVERY_MIN || every > window {
            return Err(GatePolicyError::Minute { every, min: EVERY_MIN, window });
        }
        for signal in PulseSignal::ALL {
            self.of(signal).rates.check(Rates::Pulse(signal))?;
        }
        Ok(())
    }

    fn write(&self, canon: &mut Canon) {
        canon.text("signals");
        canon.number(self.every.millis());
        canon.number(self.window.millis());
        canon.number(self.silent_max);
        for signal in PulseSignal::ALL {
            let PulsePolicy { limit, rates, required } = self.of(signal);
            canon.number(limit);
            rates.write(canon);
            canon.number(required);
        }
    }
}

impl ExternalPolicy {
    fn write(&self, canon: &mut Canon) {
        let Self { name, query, bound, every, age_max, rates } = self;
        canon.text("external");
        canon.text(name.as_str());
        canon.text(query);
        let (kind, bound) = match bound {
            Bound::Max(max) => (0_u32, max),
            Bound::Min(min) => (1, min),
        };
        canon.number(kind);
        canon.bytes(&bound.to_le_bytes());
        canon.number(every.millis());
        canon.number(age_max.millis());
        rates.write(canon);
    }
}

impl SignalPolicy {
    /// The nearest rates with which lines can be drawn. Those that pass
    /// [`GatePolicy::check`] stay as they are.
    pub(super) fn clamped(self) -> Self {
        let clamp =
            |share: Ppm, min: u32, max: u32| Ppm::new(share.parts().clamp(min, max));
        let p_ok = clamp(self.p_ok, 1, 999_998);
        Self {
            p_ok,
            p_bad: clamp(self.p_bad, p_ok.parts() + 1, 999_999),
            alpha: clamp(self.alpha, 1, 499_999),
            beta: clamp(self.beta, 1, 499_999),
        }
    }

    fn check(self, rates: Rates) -> Result<(), GatePolicyError> {
        let Self { p_ok, p_bad, alpha, beta } = self;
        if p_ok == Ppm::ZERO {
            return Err(GatePolicyError::OkIsNothing { rates });
        }
        if p_ok >= p_bad {
            return Err(GatePolicyError::RatesCross { rates, p_ok, p_bad });
        }
        if p_bad >= Ppm::WHOLE {
            return Err(GatePolicyError::BadIsEverything { rates, p_bad });
        }
        for (name, value) in [("alpha", alpha), ("beta", beta)] {
            if value == Ppm::ZERO || value.parts() >= 500_000 {
                return Err(GatePolicyError::ErrorRate { rates, name, value });
            }
        }
        Ok(())
    }

    fn write(self, canon: &mut Canon) {
        for share in [self.p_ok, self.p_bad, self.alpha, self.beta] {
            canon.number(share.parts());
        }
    }
}
