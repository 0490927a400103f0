//! Maildir: Maildir++ as Dovecot writes it.
//!
//! # Invariants
//!
//! * A message is its folder and base name; its flags are in its file's name.

mod control;
pub(crate) mod farewell;
mod keywords;
pub(crate) mod name;
mod repair;
pub(crate) mod survey;
mod twin;
pub(crate) mod uidlist;

pub(crate) use repair::plan;
