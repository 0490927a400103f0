//! Gates: those of a plan's waves, their lines drawn when they are first needed.
//!
//! A gate is asked at every tick and for every view, over all waves that are open; drawing its
//! lines takes far longer than judging by them.
//!
//! # Invariants
//!
//! * The gate of a wave on a level is the same, whenever and however often it is asked for.

use std::sync::OnceLock;

use crate::fleet::WaveNumber;
use crate::gate::{Drawn, Gate, GatePolicy};
use crate::mailbox::Level;
use crate::policy::Policy;

/// The gates of all waves on all levels.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    /// By level.
    policies: Vec<GatePolicy>,
    /// By wave and level, wave after wave.
    drawn: Vec<OnceLock<Box<Drawn>>>,
}

/// Held, and every level a ladder may have.
const LEVELS: usize = Level::MAX.get() as usize + 1;

impl Gates {
    /// Those of `waves` waves under `policy`, none drawn yet.
    pub(super) fn of(policy: &Policy, waves: usize) -> Self {
        let levels = (0..=Level::MAX.get()).filter_map(Level::new);
        Self {
            policies: levels.map(|level| policy.gate_on(level)).collect(),
            drawn: std::iter::repeat_with(OnceLock::new).take(waves * LEVELS).collect(),
        }
    }

    /// The gate of `wave` on `level`; nothing for one that the plan does not have.
    pub(super) fn gate(&self, wave: WaveNumber, level: Level) -> Option<Gate<'_>> {
        let policy = self.policies.get(level.index())?;
        let drawn = self.drawn.get(wave.index() * LEVELS + level.index())?;
        let draw = || Box::new(Drawn::of(policy, wave, level));
        Some(Gate::with(policy, drawn.get_or_init(draw)))
    }
}
