//! Reasons to stop a wave, or to take one node out of it.
//!
//! # Invariants
//!
//! * Integrity comes first and counts isolated nodes too.
//! * A node is isolated only while fewer than half of the fleet and no more than the policy
//!   allows are; otherwise everything stops.

use crate::fleet::NodeNumber;

use super::Gate;
use super::evidence::Evidence;
use super::policy::{GatePolicy, Mode};
use super::pool::{Pool, PoolNode};
use super::signal::Count;
use super::verdict::{
    HaltReason, IsolateReason, Signal, SignalNumbers, Standing, Verdict,
};

/// One failure does not make a node an outlier.
const OUTLIER_FAILURES_MIN: u32 = 2;

impl Gate<'_> {
    /// The verdict that outranks waiting, if there is one.
    pub(super) fn reason_to_stop(
        &self,
        evidence: &Evidence,
        pool: &Pool<'_>,
        numbers: &[SignalNumbers],
    ) -> Option<Verdict> {
        let budget = Budget::of(evidence, pool, self.policy);
        integrity(evidence)
            .or_else(|| self.broken_node(pool, &budget))
            .or_else(|| self.tripped_signal(pool, numbers, &budget))
    }

    /// The node whose own failures crossed the breaker's line the furthest.
    fn broken_node(&self, pool: &Pool<'_>, budget: &Budget) -> Option<Verdict> {
        let failures_min = self.policy.node_breaker.failures_min;
        let mut broken = 0;
        let mut worst: Option<(i64, NodeNumber, Count)> = None;
        for node in &pool.nodes {
            let count = node.count(Signal::Opening);
            let Count { failed, opened, .. } = count;
            if failed < failures_min || !self.drawn.breaker.trips(opened, failed) {
                continue;
            }
            broken += 1;
            let weight = self.drawn.breaker.weight_millis(opened, failed);
            if worst.is_none_or(|(most, ..)| weight > most) {
                worst = Some((weight, node.evidence.node, count));
            }
        }

        let (_, node, Count { failed, opened, .. }) = worst?;
        if let Some(reason) = budget.exceeded_by(broken, node) {
            return Some(Verdict::Halt(reason));
        }
        let limit = self.drawn.breaker.trip_at(opened).max(failures_min);
        Some(Verdict::Isolate {
            node,
            why: IsolateReason::Breaker { failed, opened, limit },
        })
    }

    /// The first signal that tripped and may halt.
    fn tripped_signal(
        &self,
        pool: &Pool<'_>,
        numbers: &[SignalNumbers],
        budget: &Budget,
    ) -> Option<Verdict> {
        let halts =
            |n: &&SignalNumbers| n.standing == Standing::Tripped && n.signal.halts();
        let SignalNumbers { signal, failed, opened, trip_at, .. } =
            *numbers.iter().find(halts)?;
        if let Some((node, why)) = self.outlier(pool, signal)
            && budget.exceeded_by(1, node).is_none()
        {
            return Some(Verdict::Isolate { node, why });
        }
        Some(Verdict::Halt(match (self.policy.mode, signal) {
            (Mode::EveryMailbox { failures_max: limit }, Signal::Opening) => {
                HaltReason::TooManyFailures { failed, limit }
            }
            _ => HaltReason::Tripped { signal, failed, samples: opened, limit: trip_at },
        }))
    }

    /// The node that alone explains why `signal` tripped: it trips by itself, has two thirds
    /// of all failures, and without it the others do not trip. With few nodes the pool
    /// would otherwise stop a fleet for one sick node.
    fn outlier(
        &self,
        pool: &Pool<'_>,
        signal: Signal,
    ) -> Option<(NodeNumber, IsolateReason)> {
        let test = self.test(signal);
        let all = pool.count(signal);
        let explains = |node: &&PoolNode<'_>| {
            let count = node.count(signal);
            count.failed >= OUTLIER_FAILURES_MIN
                && u64::from(count.failed) * 3 >= u64::from(all.failed) * 2
                && test.trips(count)
                && !test.trips(all.without(count))
        };
        let node = pool.nodes.iter().find(explains)?;
        let Count { failed, opened: samples, .. } = node.count(signal);
        let failed_all = all.failed;
        let why = IsolateReason::Outlier { signal, failed, samples, failed_all };
        Some((node.evidence.node, why))
    }
}

/// Altered, foreign or lost mail on any node.
fn integrity(evidence: &Evidence) -> Option<Verdict> {
    let mut bad = evidence.nodes.iter().filter(|node| node.integrity_failed > 0);
    let first = bad.next()?;
    let mailboxes = bad.fold(first.integrity_failed, |sum, node| {
        sum.saturating_add(node.integrity_failed)
    });
    Some(Verdict::Halt(HaltReason::Integrity { node: first.node, mailboxes }))
}

/// How many nodes are isolated, and how many may be.
struct Budget {
    isolated: u32,
    limit: u32,
}

impl Budget {
    fn of(evidence: &Evidence, pool: &Pool<'_>, policy: &GatePolicy) -> Self {
        let listed = u32::try_from(evidence.nodes.len()).unwrap_or(u32::MAX);
        let fleet = u32::from(evidence.fleet_nodes).max(listed);
        Self {
            isolated: u32::try_from(pool.isolated.len()).unwrap_or(u32::MAX),
            limit: policy.isolated_max(fleet),
        }
    }

    /// Why `more` nodes, `node` among them, cannot be isolated, if they cannot.
    fn exceeded_by(&self, more: u32, node: NodeNumber) -> Option<HaltReason> {
        let isolated = self.isolated.saturating_add(more);
        let limit = self.limit;
        (isolated > limit).then_some(HaltReason::TooManyNodesIsolated {
            node,
            isolated,
            limit,
        })
    }
}
