//! Gate: may the next wave open?
//!
//! # Invariants
//!
//! * Silence is not consent: a missing report holds the gate, never opens it.
//! * `Halt` outranks `Isolate`, `Isolate` outranks `Hold`, and `Hold` outranks `Expand`.

pub mod evidence;
pub mod policy;
pub mod verdict;
