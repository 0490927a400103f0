//! Pace: how many mailboxes may open now, so that the node's users are served as they come.
//!
//! # Invariants
//!
//! * Before the coordinator has said how fast, nothing may open.
//! * What is felt before that is not lost.

use tidegate_core::pace::{self, Felt, PaceReport};
use tidegate_core::time::Timestamp;
use tidegate_wire::worker::NodeSettings;

/// The pace of this node.
#[derive(Debug)]
pub(crate) struct Pace {
    salt: u64,
    controller: Option<pace::Pace>,
    /// The node's part of what all nodes together may open, thousandths in a second.
    part: Option<u32>,
    felt: Option<(Felt, Timestamp)>,
}

impl Pace {
    /// The pace of `node`, which knows no limits yet. Nodes of different names open their
    /// batches at different instants.
    pub(crate) fn of(node: &str) -> Self {
        let digest = blake3::hash(node.as_bytes());
        let first = digest.as_bytes().iter().take(8);
        let salt = first.fold(0, |salt, byte| salt << 8 | u64::from(*byte));
        Self { salt, controller: None, part: None, felt: None }
    }

    /// Grants what has become due by `now`.
    pub(crate) fn fill(&mut self, settings: &NodeSettings, now: Timestamp) {
        let own = settings.open_per_second;
        let controller = self
            .controller
            .get_or_insert_with(|| pace::Pace::new(settings.pace, own, self.salt));
        if let Some((felt, at)) = self.felt.take() {
            controller.feel(&felt, at);
        }
        let limit = u64::from(own) * 1_000;
        controller.limit_to(self.part.map_or(limit, |part| limit.min(u64::from(part))));
        controller.fill(now);
    }

    /// How many mailboxes may open now.
    pub(crate) fn whole(&self) -> usize {
        self.controller.as_ref().map_or(0, pace::Pace::whole)
    }

    /// Takes off what is being opened.
    pub(crate) fn spend(&mut self, openings: usize) {
        if let Some(controller) = &mut self.controller {
            controller.spend(openings);
        }
    }

    /// Remembers what the node's users feel now.
    pub(crate) fn feel(&mut self, felt: &Felt, now: Timestamp) {
        match &mut self.controller {
            Some(controller) => controller.feel(felt, now),
            None => self.felt = Some((*felt, now)),
        }
    }

    /// Remembers how much of what all nodes may open this one may, thousandths in a second.
    pub(crate) fn take_part(&mut self, open_millis_per_second: Option<u32>) {
        self.part = open_millis_per_second;
    }

    /// How fast it is, and why.
    pub(crate) fn report(&self) -> Option<PaceReport> {
        self.controller.as_ref().map(pace::Pace::report)
    }
}
