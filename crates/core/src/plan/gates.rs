//! Gates: those of a plan's waves, their lines drawn when they are first needed.
//!
//! A gate is asked at every tick and for every view, over all waves that are open; drawing its
//! lines takes far longer than judging by them.
//!
//! # Invariants
//!
//! * The gate of a wave on a level is the same, whenever and however often it is asked for.

use std::sync::OnceLock;

use crate::gate::{Drawn, Evidence, Gate, GatePolicy};
use crate::mailbox::Level;
use crate::policy::Policy;

/// The gates of all waves on all levels.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    /// By level; then those of an emergency.
    policies: Vec<GatePolicy>,
    /// By wave and level, wave after wave, each twice.
    drawn: Vec<OnceLock<Box<Drawn>>>,
}

/// Held, and every level a ladder may have.
const LEVELS: usize = Level::MAX.get() as usize + 1;

impl Gates {
    /// Those of `waves` waves under `policy`, none drawn yet.
    pub(super) fn of(policy: &Policy, waves: usize) -> Self {
        let levels = || (0..=Level::MAX.get()).filter_map(Level::new);
        let gates = |hurried: bool| levels().map(move |it| policy.gate_for(it, hurried));
        let lines = std::iter::repeat_with(OnceLock::new);
        Self {
            policies: gates(false).chain(gates(true)).collect(),
            drawn: lines.take(waves * 2 * LEVELS).collect(),
        }
    }

    /// The gate of the wave and level of `evidence`; nothing for one that the plan does not have.
    pub(super) fn gate(&self, evidence: &Evidence) -> Option<Gate<'_>> {
        let Evidence { wave, level, hurried, .. } = *evidence;
        let place = usize::from(hurried) * LEVELS + level.index();
        let policy = self.policies.get(place)?;
        let drawn = self.drawn.get(wave.index() * 2 * LEVELS + place)?;
        let draw = || Box::new(Drawn::of(policy, wave, level));
        Some(Gate::with(policy, drawn.get_or_init(draw)))
    }
}
