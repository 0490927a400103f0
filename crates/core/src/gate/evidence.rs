//! What a wave has shown so far.
//!
//! # Invariants
//!
//! * Evidence is counts of facts, never of reports: a report told twice changes nothing.
//! * The same evidence has the same bytes, whatever the order of its nodes and tiers.

use crate::fleet::{NodeNumber, TierNumber, WaveNumber};
use crate::mailbox::Level;
use crate::share::Ppm;
use crate::time::Timestamp;

/// What one wave has shown on one level.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Evidence {
    /// The wave.
    pub wave: WaveNumber,
    /// The level it is judged on.
    pub level: Level,
    /// Rises when the wave is reclosed; what an earlier epoch showed is not in here.
    pub epoch: u32,
    /// When the wave was allowed to open on this level.
    pub allowed_at: Timestamp,
    /// Since when reports could arrive: the start of the program that collects them.
    ///
    /// After a restart nobody has reported yet; no mailbox is unknown for that alone.
    pub watched_from: Timestamp,
    /// Mailboxes of the wave, on all its nodes.
    pub planned: u32,
    /// The wave's nodes, ascending.
    pub nodes: Vec<NodeEvidence>,
    /// The wave's tiers, ascending.
    pub tiers: Vec<TierEvidence>,
    /// Nodes of the whole fleet.
    pub fleet_nodes: u16,
    /// Nodes isolated in the whole rollout so far, ascending.
    pub isolated_before: Vec<NodeNumber>,
}

/// What the wave's mailboxes on one node have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeEvidence {
    /// The node.
    pub node: NodeNumber,
    /// Whether it was isolated; then it counts for integrity only.
    pub isolated: bool,
    /// The wave's mailboxes on it.
    pub planned: u32,
    /// Of these, prepared or quarantined.
    pub settled: u32,
    /// Of the settled, quarantined.
    pub quarantined: u32,
    /// Of the prepared, opened on this level or above.
    pub opened: u32,
    /// Of the opened, healthy for the soak time.
    pub mature: u32,
    /// Of the opened, those that could not be read as a user would.
    pub failed: u32,
    /// Of the opened, those that showed altered, foreign or lost mail; not among the failed.
    pub integrity_failed: u32,
    /// Of the opened, those used by their own users.
    pub sessions: u32,
    /// Probes answered or given up.
    pub probes: u32,
    /// Of the probes, those slower than the policy's limit.
    pub probes_slow: u32,
    /// When its newest report arrived, if one did.
    pub reported_at: Option<Timestamp>,
    /// The free share of its disk, if the store can tell.
    pub disk_free: Option<Ppm>,
}

/// What the wave's mailboxes of one tier have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TierEvidence {
    /// The tier.
    pub tier: TierNumber,
    /// Its mailboxes that can mature: in the wave, on nodes not isolated, not quarantined.
    pub planned: u32,
    /// Of these, mature.
    pub mature: u32,
}
