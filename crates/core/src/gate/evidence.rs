//! What a wave has shown so far.
//!
//! # Invariants
//!
//! * Evidence is counts of facts, never of reports: a report told twice changes nothing.
//! * The same evidence has the same bytes, whatever the order of its nodes and tiers.

use std::cmp::Reverse;

use crate::fleet::{NodeNumber, TierNumber, WaveNumber};
use crate::inventory::Digest;
use crate::mailbox::Level;
use crate::share::Ppm;
use crate::time::Timestamp;

use super::external::ExternalEvidence;
use super::pulse::{Pulse, Pulses};

/// What one wave has shown on one level.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Evidence {
    /// The wave.
    pub wave: WaveNumber,
    /// The level it is judged on.
    pub level: Level,
    /// Rises when the wave is reclosed; what an earlier epoch showed is not in here.
    pub epoch: u32,
    /// When the wave was allowed to open on this level; later if it was hurried and is no more.
    pub allowed_at: Timestamp,
    /// Whether it is judged under the policy's emergency profile.
    pub hurried: bool,
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
    /// What others' measurements have said, ascending by name.
    pub externals: Vec<ExternalEvidence>,
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
    /// What its mail system has shown since the wave was allowed, as far as it still counts.
    pub pulses: Pulses,
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

impl Evidence {
    /// In canonical order: nodes, tiers and isolated nodes ascending, each once. Of two
    /// accounts of one node the later report counts.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut evidence = self.clone();
        let nodes = &mut evidence.nodes;
        nodes.sort_unstable_by_key(|node| (node.node, Reverse(node.reported_at), *node));
        nodes.dedup_by_key(|node| node.node);
        evidence.tiers.sort_unstable_by_key(|tier| (tier.tier, Reverse(*tier)));
        evidence.tiers.dedup_by_key(|tier| tier.tier);
        evidence.isolated_before.sort_unstable();
        evidence.isolated_before.dedup();
        let externals = &mut evidence.externals;
        externals.sort_unstable_by_key(|it| (it.name, Reverse(it.answered_at), *it));
        externals.dedup_by_key(|external| external.name);
        evidence
    }

    /// Whether it is in canonical order: what a rollout counts always is.
    pub(super) fn is_canonical(&self) -> bool {
        let Self { nodes, tiers, isolated_before, externals, .. } = self;
        nodes.is_sorted_by(|one, next| one.node < next.node)
            && tiers.is_sorted_by(|one, next| one.tier < next.tier)
            && isolated_before.is_sorted_by(|one, next| one < next)
            && externals.is_sorted_by(|one, next| one.name < next.name)
    }

    /// Its canonical bytes: fixed widths, the highest byte first, lists after their lengths.
    ///
    /// Evidence without pulses and externals has the bytes of the first layout, which knew
    /// neither: what was named before is named so still.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { wave, level, epoch, allowed_at, watched_from, .. } = *self;
        let Self { nodes, tiers, isolated_before, externals, .. } = &self.canonical();
        let felt = nodes.iter().any(|node| !node.pulses.is_empty());
        let layout = match (self.hurried, felt || !externals.is_empty()) {
            (true, _) => LAYOUT_HURRIED,
            (false, true) => LAYOUT,
            (false, false) => LAYOUT_FIRST,
        };
        let mut bytes = vec![layout, level.get()];
        bytes.extend(wave.get().to_be_bytes());
        bytes.extend(self.fleet_nodes.to_be_bytes());
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(allowed_at.millis().to_be_bytes());
        bytes.extend(watched_from.millis().to_be_bytes());
        bytes.extend(self.planned.to_be_bytes());
        bytes.extend(length(nodes));
        for node in nodes {
            node.write(&mut bytes);
        }
        bytes.extend(length(tiers));
        for tier in tiers {
            bytes.push(tier.tier.get());
            bytes.extend(tier.planned.to_be_bytes());
            bytes.extend(tier.mature.to_be_bytes());
        }
        bytes.extend(length(isolated_before));
        for node in isolated_before {
            bytes.extend(node.get().to_be_bytes());
        }
        if layout != LAYOUT_FIRST {
            for node in nodes {
                node.write_pulses(&mut bytes);
            }
            bytes.extend(length(externals));
            for external in externals {
                write_external(external, &mut bytes);
            }
        }
        bytes
    }

    /// Its name: BLAKE3 of its canonical bytes.
    pub fn root(&self) -> Digest {
        Digest::new(*blake3::hash(&self.to_bytes()).as_bytes())
    }
}

/// The layout of the canonical bytes; another one gets another number.
const LAYOUT: u8 = 2;

/// The same, of what was judged under the emergency profile.
const LAYOUT_HURRIED: u8 = 3;

/// The layout before mail systems were measured.
const LAYOUT_FIRST: u8 = 1;

/// A node that has not reported yet, or cannot tell its free disk; no real value is as high.
const ABSENT: u64 = u64::MAX;

fn write_external(external: &ExternalEvidence, bytes: &mut Vec<u8>) {
    let ExternalEvidence { name, answers, answers_bad, latest, answered_at } = external;
    bytes.extend(length(name.as_str().as_bytes()));
    bytes.extend(name.as_str().bytes());
    bytes.extend(answers.to_be_bytes());
    bytes.extend(answers_bad.to_be_bytes());
    bytes.extend(latest.to_be_bytes());
    bytes.extend(answered_at.map_or(ABSENT, Timestamp::millis).to_be_bytes());
}

fn length<T>(list: &[T]) -> [u8; 8] {
    u64::try_from(list.len()).unwrap_or(u64::MAX).to_be_bytes()
}

impl NodeEvidence {
    /// Opened mailboxes without outcome.
    pub(super) fn unproven(&self) -> u32 {
        let known = self.mature.saturating_add(self.failed);
        self.opened.saturating_sub(known.saturating_add(self.integrity_failed))
    }

    /// Mailboxes that are not set aside.
    pub(super) fn openable(&self) -> u32 {
        self.planned.saturating_sub(self.quarantined)
    }

    fn write_pulses(&self, bytes: &mut Vec<u8>) {
        let pulses: Vec<Pulse> = self.pulses.iter().collect();
        bytes.extend(length(&pulses));
        for Pulse { signal, minutes, minutes_bad, latest, silent } in pulses {
            bytes.push(u8::try_from(signal.index()).unwrap_or(u8::MAX));
            let counts = [minutes, minutes_bad, latest, silent];
            bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.node.get().to_be_bytes());
        bytes.push(u8::from(self.isolated));
        let counts = [
            self.planned,
            self.settled,
            self.quarantined,
            self.opened,
            self.mature,
            self.failed,
            self.integrity_failed,
            self.sessions,
            self.probes,
            self.probes_slow,
        ];
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        let reported_at = self.reported_at.map_or(ABSENT, Timestamp::millis);
        let disk_free = self.disk_free.map_or(ABSENT, |free| u64::from(free.parts()));
        bytes.extend(reported_at.to_be_bytes());
        bytes.extend(disk_free.to_be_bytes());
    }
}
