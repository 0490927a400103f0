//! Maildir: Maildir++ as Dovecot writes it.
//!
//! # Invariants
//!
//! * A message is its folder and base name; its flags are in its file's name.

mod case;
mod conflict;
mod control;
pub(crate) mod farewell;
pub(crate) mod keywords;
pub(crate) mod name;
mod read;
mod repair;
mod staging;
pub(crate) mod survey;
pub(crate) mod table;
pub(crate) mod twin;
pub(crate) mod uidlist;
mod whereabouts;

pub(crate) use repair::plan;
