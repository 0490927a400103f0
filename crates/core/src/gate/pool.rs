//! The wave's statistics, over the nodes that are not isolated.
//!
//! # Invariants
//!
//! * An isolated node is in none of the sums.
//! * Failures are never more than samples, whatever was reported.

use crate::fleet::NodeNumber;
use crate::time::Timestamp;

use super::evidence::{Evidence, NodeEvidence};
use super::external::{ExternalEvidence, ShortName};
use super::policy::GatePolicy;
use super::pulse::PulseSignal;
use super::signal::Count;
use super::verdict::Signal;

/// What the nodes that are not isolated have shown together.
#[derive(Clone, Debug)]
pub(super) struct Pool<'e> {
    /// These nodes.
    pub(super) nodes: Vec<PoolNode<'e>>,
    /// All isolated ones of the rollout, ascending.
    pub(super) isolated: Vec<NodeNumber>,
    pub(super) planned: u32,
    pub(super) settled: u32,
    pub(super) quarantined: u32,
    pub(super) opened: u32,
    pub(super) sessions: u32,
    /// Opened mailboxes without outcome.
    pub(super) unproven: u32,
    /// Of these, those on nodes silent for too long.
    pub(super) unknown: u32,
    /// What others' measurements have said.
    externals: &'e [ExternalEvidence],
}

/// One node of the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolNode<'e> {
    /// What it has shown.
    pub(super) evidence: &'e NodeEvidence,
    /// Its unknown mailboxes.
    unknown: u32,
}

impl<'e> Pool<'e> {
    /// Counts `evidence` as it is at `now`.
    pub(super) fn of(
        evidence: &'e Evidence,
        policy: &GatePolicy,
        now: Timestamp,
    ) -> Self {
        let mut isolated = evidence.isolated_before.clone();
        isolated.extend(
            evidence.nodes.iter().filter(|node| node.isolated).map(|node| node.node),
        );
        isolated.sort_unstable();
        isolated.dedup();

        let is_isolated =
            |node: &&NodeEvidence| isolated.binary_search(&node.node).is_ok();
        let out = evidence.nodes.iter().filter(is_isolated);
        let planned_out = sum(out.map(|node| node.planned));
        let nodes: Vec<_> = evidence
            .nodes
            .iter()
            .filter(|node| !is_isolated(node))
            .map(|node| {
                let heard = node.reported_at.unwrap_or(evidence.allowed_at);
                let silent = now.since(heard.max(evidence.watched_from));
                let unknown =
                    if silent > policy.unknown_after { node.unproven() } else { 0 };
                PoolNode { evidence: node, unknown }
            })
            .collect();

        let listed = sum(nodes.iter().map(|node| node.evidence.planned));
        let total =
            |of: fn(&NodeEvidence) -> u32| sum(nodes.iter().map(|n| of(n.evidence)));
        Self {
            isolated,
            planned: listed.max(evidence.planned.saturating_sub(planned_out)),
            settled: total(|node| node.settled),
            quarantined: total(|node| node.quarantined),
            opened: total(|node| node.opened),
            sessions: total(|node| node.sessions),
            unproven: total(NodeEvidence::unproven),
            unknown: sum(nodes.iter().map(|node| node.unknown)),
            nodes,
            externals: &evidence.externals,
        }
    }

    /// Whether some node has a source for `signal`.
    pub(super) fn measures(&self, signal: PulseSignal) -> bool {
        self.nodes.iter().any(|node| node.evidence.pulses.get(signal).is_some())
    }

    /// How many nodes have a source for `signal`.
    pub(super) fn sources(&self, signal: PulseSignal) -> u32 {
        let with =
            self.nodes.iter().filter(|node| node.evidence.pulses.get(signal).is_some());
        u32::try_from(with.count()).unwrap_or(u32::MAX)
    }

    /// What the measurement called `name` has said.
    pub(super) fn external(&self, name: ShortName) -> Option<&ExternalEvidence> {
        self.externals.iter().find(|external| external.name == name)
    }

    /// What was counted of `signal` on all nodes.
    pub(super) fn count(&self, signal: Signal) -> Count {
        if let Signal::External(name) = signal {
            return self.external(name).map_or(Count::default(), |external| {
                Count::of(external.answers, external.answers_bad)
            });
        }
        let counts = self.nodes.iter().map(|node| node.count(signal));
        counts.fold(Count::default(), Count::plus)
    }

    /// Whether nothing more of the wave will open.
    pub(super) fn is_finished(&self) -> bool {
        self.settled >= self.planned
            && self.opened >= self.planned.saturating_sub(self.quarantined)
    }
}

impl PoolNode<'_> {
    /// What was counted of `signal` on this node.
    pub(super) fn count(&self, signal: Signal) -> Count {
        let node = self.evidence;
        match signal {
            Signal::Opening => {
                let failed = sum([node.failed, node.integrity_failed, self.unknown]);
                let mature = node.mature.saturating_add(failed);
                Count { failed, opened: node.opened.max(mature), mature }
            }
            Signal::Preparation => {
                let settled = node.settled.max(node.quarantined);
                Count { failed: node.quarantined, opened: settled, mature: settled }
            }
            Signal::Latency => Count::of(node.probes, node.probes_slow),
            Signal::Pulse(signal) => {
                node.pulses.get(signal).map_or(Count::default(), |pulse| {
                    Count::of(pulse.minutes, pulse.minutes_bad)
                })
            }
            // Said of the fleet, not of a node.
            Signal::External(_) => Count::default(),
        }
    }
}

fn sum(counts: impl IntoIterator<Item = u32>) -> u32 {
    counts.into_iter().fold(0, u32::saturating_add)
}
