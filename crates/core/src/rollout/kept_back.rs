//! Kept back: what persons have re-closed and not resumed, as far as one node is concerned.
//!
//! Nodes are told of it and remember it, so that a rollout that must be made again from what
//! they hold forgets no re-close, not even of what had never been open.
//!
//! # Invariants
//!
//! * A node that has yet to tell what it remembers is not told anything that would replace it.
//! * What any node remembers is closed when a rollout is made again, and stays so until a
//!   person resumes it; what was resumed while a node was away may be among it.

use super::Rollout;
use crate::fleet::{JobNumber, NodeNumber, Ordinal, WaveNumber};
use crate::mailbox::Level;
use crate::time::Timestamp;

/// The most mailboxes that a node is told of: persons re-close them one by one.
pub const KEPT_BACK_MAX: usize = 16_384;

/// What persons have re-closed and not resumed, as far as one node is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptBack {
    /// The node as a whole.
    pub node: bool,
    /// Waves, ascending, whether the node has a part of them or not.
    pub waves: Vec<WaveNumber>,
    /// Mailboxes of the node, ascending, at most [`KEPT_BACK_MAX`].
    pub mailboxes: Vec<(JobNumber, Ordinal)>,
}

impl KeptBack {
    /// Adds what another state of the node remembers.
    pub(super) fn join(&mut self, other: &Self) {
        let Self { node, waves, mailboxes } = other;
        self.node |= node;
        self.waves.extend(waves);
        self.waves.sort_unstable();
        self.waves.dedup();
        self.mailboxes.extend(mailboxes);
        self.mailboxes.sort_unstable();
        self.mailboxes.dedup();
    }
}

impl Rollout {
    /// What `node` shall remember; nothing if it has yet to tell that itself.
    pub(super) fn kept_back(&self, node: NodeNumber) -> Option<KeptBack> {
        let state = self.nodes.get(node.index())?;
        if state.recount.is_pending() {
            return None;
        }
        let waves = (0..).map(WaveNumber::new).zip(&self.waves);
        let waves = waves.filter(|(_, wave)| wave.held_back).map(|(number, _)| number);
        let places = self.held_back.iter().filter_map(|it| self.plan.place(*it));
        let here = places.filter(|(job, _)| self.is_on(*job, node));
        let mut mailboxes: Vec<(JobNumber, Ordinal)> = here.take(KEPT_BACK_MAX).collect();
        mailboxes.sort_unstable();
        Some(KeptBack { node: state.held_back, waves: waves.collect(), mailboxes })
    }

    /// Of what a node tells that it remembers, what this plan has.
    pub(super) fn known_of(&self, node: NodeNumber, told: &KeptBack) -> KeptBack {
        let KeptBack { node: whole, waves, mailboxes } = told;
        let waves = waves.iter().filter(|wave| wave.index() < self.waves.len());
        let mailboxes = mailboxes.iter().filter(|(job, ordinal)| {
            self.is_on(*job, node) && self.plan.members(*job).len() > ordinal.index()
        });
        KeptBack {
            node: *whole,
            waves: waves.copied().collect(),
            mailboxes: mailboxes.copied().collect(),
        }
    }

    /// Keeps closed what `node` remembers. `whole` if every node has told anew; otherwise a
    /// wave that others have gone on with stays closed on this node alone.
    pub(super) fn keep_back(
        &mut self,
        node: NodeNumber,
        kept: &KeptBack,
        whole: bool,
        at: Timestamp,
    ) {
        self.node_mut(node).held_back |= kept.node;
        for wave in &kept.waves {
            let state = self.wave_mut(*wave);
            if whole || state.allowed == Level::HELD {
                (state.held_back, state.passed_at) = (true, at);
                (state.allowed, state.passed) = (Level::HELD, Level::HELD);
            } else if !state.held_back {
                self.keep_back_part(*wave, node);
            }
        }
        for (job, ordinal) in &kept.mailboxes {
            self.held_back.extend(self.plan.members(*job).get(ordinal.index()));
        }
    }

    fn keep_back_part(&mut self, wave: WaveNumber, node: NodeNumber) {
        let plan = std::sync::Arc::clone(&self.plan);
        let jobs = plan.jobs().iter();
        let part = jobs.filter(|job| job.wave == wave && job.node == node);
        for job in part {
            self.held_back.extend(plan.members(job.number));
        }
    }

    fn is_on(&self, job: JobNumber, node: NodeNumber) -> bool {
        self.plan.jobs().get(job.index()).is_some_and(|job| job.node == node)
    }
}
