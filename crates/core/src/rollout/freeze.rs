//! Freeze: one stop for everything that a second person lets go of.
//!
//! # Invariants
//!
//! * Whoever froze a rollout does not thaw it, however they write their name.
//! * A frozen rollout is never resumed, and thawing does not resume it.
//! * Freezing needs nobody's leave and no reason, as every stop.

use super::{Action, Phase, Record, Refusal, Rollout, Why};
use crate::planted::{self, Bug};

impl Rollout {
    /// Who froze it, why and when; nothing while it is not frozen.
    pub fn frozen(&self) -> Option<&Action> {
        self.frozen.as_ref()
    }

    pub(super) fn on_freeze(&self, action: Action) -> Result<Vec<Record>, Refusal> {
        match self.frozen {
            Some(_) => Err(Refusal::Already { phase: "frozen" }),
            None => Ok(vec![Record::Frozen(action)]),
        }
    }

    pub(super) fn on_thaw(&self, action: Action) -> Result<Vec<Record>, Refusal> {
        let Some(frozen) = &self.frozen else { return Err(Refusal::NotFrozen) };
        if name(&frozen.by) == name(&action.by) {
            return Err(Refusal::SameHand { by: frozen.by.clone() });
        }
        Ok(vec![Record::Thawed(action)])
    }

    /// Refuses to let a frozen rollout go on.
    pub(super) fn check_thawed(&self) -> Result<(), Refusal> {
        match &self.frozen {
            Some(frozen) => Err(Refusal::Frozen { by: frozen.by.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn apply_frozen(&mut self, action: &Action) {
        self.frozen = Some(action.clone());
        if planted::is(Bug::FreezeOnPaper) {
            return;
        }
        match self.phase {
            Phase::Running | Phase::Finished { .. } => {
                self.phase = Phase::Paused(action.clone());
            }
            // Who stopped it before, and why, must be answered all the same.
            Phase::Paused(_) | Phase::Halted { .. } | Phase::Aborted(_) => {}
        }
    }

    pub(super) fn why_frozen(&self) -> Option<Why> {
        let Action { by, reason, .. } = self.frozen.as_ref()?;
        Some(Why::Frozen { by: by.clone(), reason: reason.clone() })
    }
}

/// Who froze a rollout of which this is the story, if nobody has thawed it since.
pub(super) fn in_story(story: &[Record]) -> Option<&Action> {
    let is_either = |it: &&Record| matches!(it, Record::Frozen(_) | Record::Thawed(_));
    let newest = story.iter().rev().find(is_either)?;
    if let Record::Frozen(action) = newest { Some(action) } else { None }
}

/// A name as it is compared.
fn name(by: &str) -> String {
    by.trim().to_lowercase()
}
