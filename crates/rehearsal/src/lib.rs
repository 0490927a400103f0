//! Rehearsal: a whole rollout in virtual time, before anybody depends on it.
//!
//! The coordinator's decisions, the workers' and the pace of opening are the production code of
//! `tidegate-core`; what is played is the mail store below them and the network between them:
//! how fast a node verifies, which mailboxes fail when they are read, when a node is lost.
//!
//! ```text
//! plan + assumptions + seed ─▶ rehearse ─▶ how it ended, when, and who was harmed
//! ```
//!
//! # Invariants
//!
//! * The same plan, assumptions and seed give the same ending, on every machine.
//! * Nothing is read or written, and nobody is asked: no clock, no files, no network.
//! * Nothing decides here: what opens, holds and halts is what would open, hold and halt.

mod assume;
mod night;
mod node;

pub use assume::{Assumptions, DRIFT_EVERY, NodeAssumptions};
pub use night::{Ending, Night, Outcome, Passed, rehearse};
