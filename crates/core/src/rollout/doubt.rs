//! Doubt: workers say that they have obeyed or claimed more than this coordinator ever gave.
//!
//! Then this journal is an older one that was put back, or that worker is wrong. Nothing here
//! can tell which, so a person must.
//!
//! ```text
//! said ─ on record: paused ─ a person resumes without it ─▶ overruled: it is refused alone
//! ```
//!
//! # Invariants
//!
//! * One worker's word is enough to stop every opening, and that stop is on record: it outlives
//!   restarts, and what is decided afterwards cannot outgrow it.
//! * It stops nothing else: whatever a person stops or takes back, and what other workers tell,
//!   is taken as ever.
//! * Whoever said so is not heard before a person has resumed the rollout, and nobody resumes it
//!   by mistake: every node that said so must be named.

use std::collections::BTreeMap;

use super::{Action, Operate, Phase, Record, Refusal, Rollout};
use crate::fleet::NodeNumber;
use crate::time::Timestamp;

/// Who has paused, where no person has.
const COORDINATOR: &str = "tidegate";

/// What workers said about the age of this journal, since this program started.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    said: BTreeMap<NodeNumber, (Standing, Refusal)>,
}

/// What became of a worker's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not on record yet.
    New,
    /// The rollout is paused because of it.
    Recorded,
    /// A person has resumed the rollout since.
    Overruled,
}

impl Doubts {
    /// The pause that is on record now is because of all of them, if it is because of any.
    pub(super) fn recorded(&mut self, action: &Action) {
        if action.by == COORDINATOR {
            self.stand(Standing::New, Standing::Recorded);
        }
    }

    /// A person has let the rollout go on.
    pub(super) fn overruled(&mut self) {
        self.stand(Standing::Recorded, Standing::Overruled);
    }

    /// The worker of `node` agrees by now.
    pub(super) fn forget(&mut self, node: NodeNumber) {
        self.said.remove(&node);
    }

    fn stand(&mut self, from: Standing, to: Standing) {
        let all = self.said.values_mut().map(|(standing, _)| standing);
        all.filter(|it| **it == from).for_each(|it| *it = to);
    }
}

impl Rollout {
    /// Remembers that the worker of `node` says that this journal is older than the fleet, if
    /// `refusal` is of that kind. Whether that is news: then the next tick pauses the rollout,
    /// and nothing else is decided before it.
    ///
    /// Not journaled, as [`Rollout::hear`]; the pause is.
    pub fn doubt(&mut self, node: NodeNumber, refusal: &Refusal) -> bool {
        let too_old = matches!(
            refusal,
            Refusal::JournalTooOld { .. } | Refusal::OrdersTooOld { .. }
        );
        if !too_old || self.doubts.said.contains_key(&node) {
            return false;
        }
        let is_known = self.is_paused_by_doubt();
        let standing = if is_known { Standing::Recorded } else { Standing::New };
        self.doubts.said.insert(node, (standing, refusal.clone()));
        true
    }

    /// Whether the worker of `node` says that this journal is older than the fleet.
    pub(super) fn is_ahead(&self, node: NodeNumber) -> bool {
        self.doubts.said.contains_key(&node)
    }

    /// Refuses a worker that said so, until a person has resumed the rollout.
    pub(super) fn check_doubted(&self, node: NodeNumber) -> Result<(), Refusal> {
        match self.doubts.said.get(&node) {
            Some((Standing::New | Standing::Recorded, refusal)) => Err(refusal.clone()),
            Some((Standing::Overruled, _)) | None => Ok(()),
        }
    }

    pub(super) fn apply_paused(&mut self, action: &Action) {
        self.phase = Phase::Paused(action.clone());
        self.doubts.recorded(action);
    }

    /// What must be on record before anything else is decided.
    pub(super) fn unrecorded_doubt(&self) -> Option<&Refusal> {
        match self.phase {
            // Nothing opens; whoever resumes it is told next.
            Phase::Halted { .. } | Phase::Aborted(_) => return None,
            Phase::Running | Phase::Paused(_) | Phase::Finished { .. } => {}
        }
        let mut said = self.doubts.said.values();
        let new = said.find(|(standing, _)| *standing == Standing::New);
        new.map(|(_, refusal)| refusal)
    }

    /// The pause that records it.
    pub(super) fn pause_in_doubt(refusal: &Refusal, at: Timestamp) -> Record {
        let reason = format!(
            "{refusal}; but if no other node says so, its worker is wrong: stop it, then \
             resume without it"
        );
        Record::Paused(Action { by: COORDINATOR.to_owned(), reason, at, request: None })
    }

    /// Whoever lets a rollout go on that was paused in doubt says which nodes are wrong.
    pub(super) fn check_overruled(&self, operate: &Operate) -> Result<(), Refusal> {
        if !self.is_paused_by_doubt() {
            return Ok(());
        }
        let open = self.doubts.said.iter();
        let open = open.filter(|(_, (standing, _))| *standing != Standing::Overruled);
        let all = open.clone().all(|(node, _)| operate.without.contains(node));
        if all && !operate.without.is_empty() {
            return Ok(());
        }
        let names = open.map(|(node, _)| format!("`{}`", self.node_name(*node)));
        let names: Vec<String> = names.collect();
        let nodes = if names.is_empty() {
            "the node that `tidegate events` names".to_owned()
        } else {
            names.join(", ")
        };
        Err(Refusal::InDoubt { nodes })
    }

    fn is_paused_by_doubt(&self) -> bool {
        matches!(&self.phase, Phase::Paused(action) if action.by == COORDINATOR)
    }
}
