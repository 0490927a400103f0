//! What the operator wants a gate to demand.
//!
//! # Invariants
//!
//! * A policy that passes [`GatePolicy::check`] gives finite lines: every logarithm in
//!   them exists, and the trip line lies above the pass line.
//! * The same policy has the same bytes and the same digest on every machine.

use crate::share::Ppm;
use crate::time::Span;

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
