//! Age: for how long mail that could be delivered has waited, as a signal of each node.
//!
//! # Invariants
//!
//! * A minute counts once. Where there has never been an exchanger the signal has no source;
//!   while one of them is silent it is not measured, which is never taken for good: the oldest
//!   mail may wait there. A restart of this program changes nothing of that.
//! * Mail that waits too long is a bad minute, whoever else is silent.

use std::time::Instant;

use tidegate_core::fleet::NodeNumber;
use tidegate_core::gate::{PulseSignal, Pulses};
use tidegate_core::rollout::{Record, Rollout};
use tidegate_core::time::Timestamp;

use super::Queues;

const SIGNAL: PulseSignal = PulseSignal::QueueAge;

/// Counts the minutes of every node.
#[derive(Debug)]
pub(crate) struct QueueAge {
    queues: Queues,
    counted_at: Timestamp,
    nodes: Vec<Pulses>,
}

impl QueueAge {
    /// Counts what `queues` say.
    pub(crate) fn of(queues: Queues) -> Self {
        Self { queues, counted_at: Timestamp::default(), nodes: Vec::new() }
    }

    /// Counts a minute of all nodes of `rollout`, if one has passed.
    pub(crate) fn count(&mut self, rollout: &Rollout, now: Timestamp) {
        let plan = rollout.plan();
        let limits = plan.policy().gate.signals.limits();
        if now.since(self.counted_at) < limits.every {
            return;
        }
        self.counted_at = now;
        self.nodes.resize(plan.inventory().node_names().len(), Pulses::default());
        let was_measured = rollout.history().iter().any(is_measured);
        let waits = self.queues.waits(plan.digest(), was_measured, Instant::now());
        let Some(waits) = waits else {
            // Whoever had a source was forgotten by a person.
            self.nodes.fill(Pulses::default());
            return;
        };
        for (node, pulses) in (0..).map(NodeNumber::new).zip(&mut self.nodes) {
            let seconds = waits.seconds.get(&node).copied().unwrap_or_default();
            let limit = limits.limit(SIGNAL);
            if waits.is_whole || seconds > limit {
                pulses.note(SIGNAL, seconds, limit);
            } else {
                pulses.miss(SIGNAL);
            }
        }
    }

    /// Adds what `node` has shown to what its worker measures.
    pub(crate) fn add_to(&self, node: NodeNumber, pulses: &mut Pulses) {
        let shown = self.nodes.get(node.index());
        if let Some(shown) = shown.and_then(|shown| shown.get(SIGNAL)) {
            pulses.set(shown);
        }
    }
}

/// Whether a verdict was made from how long mail had waited.
fn is_measured(record: &Record) -> bool {
    let (Record::Expanded { evidence, .. }
    | Record::Overridden { evidence, .. }
    | Record::Halted { evidence, .. }) = record
    else {
        return false;
    };
    evidence.nodes.iter().any(|node| node.pulses.get(SIGNAL).is_some())
}
