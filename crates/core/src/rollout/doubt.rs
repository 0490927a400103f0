//! Doubt: workers say that they have obeyed or claimed more than this coordinator ever gave, or
//! that more of their reports were on record than are.
//!
//! In the first case this journal is an older one that was put back, or that worker is wrong.
//! Nothing here can tell which, so a person must. In the second it is an older one that lacks
//! nothing but what nodes told, which they tell anew.
//!
//! ```text
//! said ─ on record: paused ─ a person resumes without it ─▶ overruled: it is refused alone
//! reports lost ─ on record: paused ─ told anew ─ a person resumes
//! ```
//!
//! # Invariants
//!
//! * Nothing opens before what was lost has been told anew, or a person has said not to wait.
//! * One worker's word is enough to stop every opening, and that stop is on record: it outlives
//!   restarts, and what is decided afterwards cannot outgrow it.
//! * It stops nothing else: whatever a person stops or takes back, and what other workers tell,
//!   is taken as ever.
//! * Whoever said so is not heard before a person has resumed the rollout, and nobody resumes it
//!   by mistake: every node that said so must be named.

use std::collections::BTreeMap;

use super::{Action, Operate, Phase, Record, Refusal, Rollout, Sync};
use crate::fleet::NodeNumber;
use crate::time::Timestamp;

/// Who has paused, where no person has.
const COORDINATOR: &str = "tidegate";

/// Who has paused until nodes have told anew what is not on record any more.
const RECOUNT: &str = "tidegate, for a recount";

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
        for (standing, refusal) in self.said.values_mut() {
            let is_it =
                action.by == COORDINATOR || action.by == RECOUNT && is_told_anew(refusal);
            if is_it && *standing == Standing::New {
                *standing = Standing::Recorded;
            }
        }
    }

    /// A person has let the rollout go on.
    pub(super) fn overruled(&mut self) {
        let all = self.said.values_mut().map(|(standing, _)| standing);
        let recorded = all.filter(|it| **it == Standing::Recorded);
        recorded.for_each(|it| *it = Standing::Overruled);
    }

    /// The worker of `node` agrees by now, and may have told all that it holds.
    pub(super) fn agrees(&mut self, node: NodeNumber, told_all: bool) {
        let waits = |(_, refusal): &(Standing, Refusal)| is_told_anew(refusal);
        if told_all || !self.said.get(&node).is_some_and(waits) {
            self.said.remove(&node);
        }
    }
}

/// Whether what `refusal` is about is mended when the node tells anew.
fn is_told_anew(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::ReportsLost { .. })
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
            Refusal::JournalTooOld { .. }
                | Refusal::OrdersTooOld { .. }
                | Refusal::ReportsLost { .. }
        );
        if !too_old || self.doubts.said.contains_key(&node) {
            return false;
        }
        let is_known = self.is_paused_by(COORDINATOR)
            || is_told_anew(refusal) && self.is_paused_by(RECOUNT);
        let standing = if is_known { Standing::Recorded } else { Standing::New };
        self.doubts.said.insert(node, (standing, refusal.clone()));
        true
    }

    /// Whether the worker of `node` says that this journal is older than the fleet.
    pub(super) fn is_ahead(&self, node: NodeNumber) -> bool {
        self.doubts.said.get(&node).is_some_and(|(_, it)| !is_told_anew(it))
    }

    /// Whether the worker of `node` tells anew what is not on record any more.
    pub(super) fn tells_anew(&self, node: NodeNumber) -> bool {
        self.doubts.said.get(&node).is_some_and(|(_, it)| is_told_anew(it))
    }

    /// Reports that a worker was told to be on record, and that are not, belong to a newer
    /// journal.
    pub(super) fn check_recorded(&self, sync: &Sync) -> Result<(), Refusal> {
        let told = sync.account.as_ref().map_or(0, |account| account.recorded);
        let recorded = self.nodes.get(sync.node.index()).map_or(0, |node| node.reported);
        if told <= recorded {
            return Ok(());
        }
        let node = self.node_name(sync.node).to_owned();
        Err(Refusal::ReportsLost { node, told, recorded })
    }

    /// Refuses a worker that said so, until a person has resumed the rollout.
    pub(super) fn check_doubted(&self, node: NodeNumber) -> Result<(), Refusal> {
        match self.doubts.said.get(&node) {
            Some((_, refusal)) if is_told_anew(refusal) => Ok(()),
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
        let said = self.doubts.said.values();
        let new = said.filter(|(standing, _)| *standing == Standing::New);
        // What a person must decide comes before what mends itself.
        new.map(|(_, refusal)| refusal).min_by_key(|refusal| is_told_anew(refusal))
    }

    /// The pause that records it.
    pub(super) fn pause_in_doubt(refusal: &Refusal, at: Timestamp) -> Record {
        let (by, reason) = if is_told_anew(refusal) {
            (RECOUNT, refusal.to_string())
        } else {
            let reason = format!(
                "{refusal}; but if no other node says so, its worker is wrong: stop it, then \
                 resume without it"
            );
            (COORDINATOR, reason)
        };
        let (by, request, approved) = (by.to_owned(), None, None);
        Record::Paused(Action { by, reason, at, request, approved })
    }

    /// Whoever lets a rollout go on that was paused in doubt says which nodes are wrong.
    pub(super) fn check_overruled(&self, operate: &Operate) -> Result<(), Refusal> {
        if !self.is_paused_by(COORDINATOR) {
            return Ok(());
        }
        let open = self.doubts.said.iter().filter(|(_, (standing, refusal))| {
            *standing != Standing::Overruled && !is_told_anew(refusal)
        });
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

    /// Whoever lets a rollout go on that was paused because reports were lost waits until
    /// every worker has told anew, or says for which nodes not to wait.
    pub(super) fn check_told_anew(&self, operate: &Operate) -> Result<(), Refusal> {
        let stopped = self.is_paused_by(RECOUNT);
        let missing = self.nodes.iter().zip(0..).filter_map(|(node, number)| {
            let number = NodeNumber::new(number);
            let heard = self.heard.get(number.index())?;
            let late = stopped && node.incarnation.is_some() && !heard.told_all;
            let waits = late || self.tells_anew(number);
            (waits && !operate.without.contains(&number))
                .then(|| format!("`{}`", self.node_name(number)))
        });
        let missing = missing.collect::<Vec<_>>().join(", ");
        if missing.is_empty() { Ok(()) } else { Err(Refusal::NotRecounted { missing }) }
    }

    fn is_paused_by(&self, who: &str) -> bool {
        matches!(&self.phase, Phase::Paused(action) if action.by == who)
    }
}
