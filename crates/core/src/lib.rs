//! Decides: inventory, policy, plan, gate, rollout.
//!
//! # Invariants
//!
//! * Nothing here reads a clock, a disk or a network, starts a task or writes a log:
//!   the same calls give the same answers on every machine.
//! * `decide` cannot change anything; `apply` is the only mutator and returns nothing.
//! * Every refusal and every wait is a value that says why, with its numbers.

pub mod fleet;
pub mod gate;
pub mod holding;
pub mod inventory;
pub mod mailbox;
pub mod pace;
pub mod places;
pub mod plan;
pub mod planted;
pub mod policy;
pub mod rollout;
pub mod share;
pub mod stored;
pub mod time;
