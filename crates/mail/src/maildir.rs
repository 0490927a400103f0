//! Maildir: Maildir++ as Dovecot writes it.
//!
//! # Invariants
//!
//! * A message is its folder and base name; its flags are in its file's name.

mod case;
mod control;
mod farewell;
mod keywords;
pub(crate) mod name;
mod repair;
mod read;
mod staging;
pub(crate) mod survey;
mod table;
mod twin;
mod uidlist;
mod whereabouts;

pub(crate) use repair::plan;
