//! Makes broken mail providers to practise on, and counts what came back.
//!
//! [`build`] makes a provider: storage nodes with mail as Dovecot lays it out, a snapshot
//! taken while it was healthy, hours of life after that, and then a storm over the live
//! side. [`recount`] says, file by file, whether a restorer brought everything back. A
//! [`Saboteur`] makes trouble after opening.
//!
//! # Invariants
//!
//! * It shares no code with the restorer, so that one mistake cannot hide in both.
//! * A seed names a provider: no clock, no randomness but the seed's.
//! * What it asks can be done: a bit is flipped only where the snapshot still has the
//!   message. Without a second witness nobody can find a flipped bit.

mod chance;
mod kept;
mod ledger;
mod letters;
mod life;
mod people;
mod phrases;
mod provider;
mod recount;
mod saboteur;
mod shelve;
mod storm;
mod survey;
mod truth;

pub use provider::{DamageSummary, LabError, LabSpec, NodeDirs, Provider, build};
pub use recount::{Complaint, Listed, MailboxEnd, Recount, Told, recount};
pub use saboteur::Saboteur;
pub use truth::{
    Damage, Digest, Fate, FolderTruth, Held, MailboxTruth, MessageTruth, Truth,
};
