//! Talks to Dovecot, Postfix and the kernel in their own protocols.
//!
//! # Invariants
//!
//! * It knows no rollout, no levels and nothing of ours: what an answer means for opening a
//!   mailbox is decided elsewhere.
//! * Every call blocks, and ends by its deadline.
//! * What a server answers is bounded before it is read.

pub mod canary;
mod conversation;
pub mod doveadm;
pub mod imap;
pub mod lmtp;
pub mod log;
pub mod metrics;
pub mod pressure;
pub mod queue;
pub mod reader;
pub mod reception;
pub mod socketmap;

pub use conversation::{ConversationError, ConversationFault};
