//! Knocking: workers that asked to join before there was a plan.
//!
//! # Invariants
//!
//! * A plan whose mailboxes workers hold already is not begun anew: its generations would be
//!   issued twice, and every wave would be closed.
//! * What is remembered is bounded, and forgotten a minute after a worker has asked last.

use std::collections::BTreeMap;

use tidegate_core::fleet::Generation;
use tidegate_core::inventory::Digest;
use tidegate_core::rollout::Join;
use tidegate_core::time::{Span, Timestamp};

use crate::refused::Refused;

/// The most workers remembered: no plan has more nodes that matter here.
const WORKERS_MAX: usize = 4_096;

/// Workers ask every few seconds.
const HEARD_AGE_MAX: Span = Span::from_secs(60);

/// How many names an error lists; more would not be read.
const NAMES_SHOWN_MAX: usize = 12;

/// Workers that hold mailboxes of a rollout, by the node's name.
#[derive(Debug, Default)]
pub(super) struct Knocking {
    workers: BTreeMap<String, (Digest, Timestamp)>,
}

impl Knocking {
    /// Remembers a worker that holds mailboxes of `rollout`.
    pub(super) fn hear(&mut self, join: &Join, rollout: Option<Digest>, now: Timestamp) {
        self.workers.retain(|_, (_, at)| now.since(*at) <= HEARD_AGE_MAX);
        let holds = join.claimed_max > Generation::default();
        if let Some(rollout) = rollout.filter(|_| holds)
            && self.workers.len() < WORKERS_MAX
        {
            self.workers.insert(join.node.clone(), (rollout, now));
        }
    }

    /// Refuses to begin `plan` if workers hold mailboxes of it.
    pub(super) fn refuse_new(&self, plan: Digest, now: Timestamp) -> Result<(), Refused> {
        let holds = |(of, at): &(Digest, Timestamp)| {
            *of == plan && now.since(*at) <= HEARD_AGE_MAX
        };
        let nodes = self.workers.iter().filter(|(_, worker)| holds(worker));
        let names = nodes.map(|(node, _)| format!("`{node}`"));
        let names: Vec<String> = names.take(NAMES_SHOWN_MAX).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Refused::HasBegun { nodes: names.join(", ") })
    }
}
