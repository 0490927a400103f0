//! Shared: how much each node may open of what all of them may together.
//!
//! Nodes share directories, proxies and mail exchangers that no node can measure alone. What
//! these bear is given in the policy and divided anew with every orders.
//!
//! # Invariants
//!
//! * The parts of all nodes that open are together at most the whole, once each has heard
//!   its newest orders.
//! * A node that has nothing to open, is silent, or opens nothing because its own users wait,
//!   leaves its part to the others.

use super::Rollout;
use crate::fleet::NodeNumber;
use crate::mailbox::Level;
use crate::pace::PaceWhy;
use crate::time::Timestamp;

impl Rollout {
    /// Thousandths of a mailbox that `node` may open in a second, if all nodes together have
    /// a limit.
    pub(super) fn part_of(&self, node: NodeNumber) -> Option<u32> {
        let total = self.plan.policy().limits.open_per_second_total?;
        let nodes = (0..).map(NodeNumber::new).take(self.nodes.len());
        let others = nodes.filter(|other| *other != node && self.takes_part(*other));
        let opening = u32::try_from(others.count()).unwrap_or(u32::MAX).saturating_add(1);
        Some(total.saturating_mul(1_000) / opening)
    }

    /// Whether `node` opens mailboxes now, or would if it were told to.
    fn takes_part(&self, node: NodeNumber) -> bool {
        let (Some(state), Some(heard)) =
            (self.nodes.get(node.index()), self.heard.get(node.index()))
        else {
            return false;
        };
        let newest = self.heard.iter().filter_map(|heard| heard.at).max();
        let lease = self.plan.policy().limits.lease;
        let is_silent =
            |at: Timestamp| newest.is_some_and(|newest| newest.since(at) > lease);
        let stopped = heard.vitals.pace.is_some_and(|pace| pace.why == PaceWhy::Stopped);
        let out = state.is_out();
        let here = heard.at.is_some_and(|at| !is_silent(at));
        here && !out && !stopped && self.has_to_open(node)
    }

    /// Whether a wave that may open has mailboxes on `node` that are not open yet.
    fn has_to_open(&self, node: NodeNumber) -> bool {
        let open = self.waves.iter().filter(|wave| wave.allowed > Level::HELD);
        let mut tallies = open.flat_map(|wave| {
            let here = wave.tallies.iter().filter(|tally| tally.node == node);
            here.map(|tally| (tally, wave.allowed))
        });
        tallies.any(|(tally, level)| {
            tally.opened(level) < tally.planned().saturating_sub(tally.quarantined())
        })
    }
}
