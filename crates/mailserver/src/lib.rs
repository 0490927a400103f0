//! Talks to Dovecot, Postfix and the kernel in their own protocols.
//!
//! # Invariants
//!
//! * It knows no rollout, no levels and nothing of ours: what an answer means for opening a
//!   mailbox is decided elsewhere.
//! * Every call blocks, and ends by its deadline.
//! * What a server answers is bounded before it is read.

pub mod doveadm;
pub mod queue;
