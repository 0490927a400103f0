//! What mailboxes are made of: read, judge, compare, repair.
//!
//! A [`Store`] is one node's mail: a live root, a snapshot taken while all was well, and a work
//! directory of our own beside them. [`Store::prepare`] compares both sides of a mailbox (Maildir++
//! as Dovecot writes it) and makes the live one whole, durably, without destroying anything.
//!
//! Knows files. No network, no tasks, no rollout.
//!
//! # Invariants
//!
//! * A message is its folder and base name. The same name means the same bytes; where sides
//!   differ, one is damaged, and evidence decides which.
//! * Nothing live is replaced or moved before it is kept in the work directory.
//! * What cannot be made good is listed and not served.
//! * A crash at any point, and the same call again, give the same mailbox.
//! * No path leaves its root; no link is followed; nothing but regular files is read.
//!
//! # The work directory
//!
//! ```text
//! lock                              held while a store is open; the process in it
//! claims/<job>                      generation and holder, with a checksum
//! staging/g<generation>/<key>/      bytes on their way in; worthless after a crash
//! kept/<key>/g<generation>/<folder>/        what was replaced
//! quarantine/<key>/g<generation>/<folder>/  what is not served
//! quarantine/<key>/index            the list of it
//! manifests/<key>                   what the mailbox holds
//! ```
//!
//! `<folder>` is `INBOX` or the folder's directory, such as `.Archive.2024`.
//!
//! # The manifest
//!
//! Text. The first line is `tidegate-manifest 1`; then one line per message, sorted by folder and
//! name, five fields with one TAB between them: folder (empty is the inbox, no leading dot), UID or
//! `-`, base name, size in bytes, BLAKE3 of the bytes in hexadecimal. In folder and name, `%` and
//! every byte that is not a visible ASCII character are `%XX`.
//!
//! The list of what is not served is built alike: `tidegate-quarantine 1`, then folder, UID or
//! `-`, base name, size, reason, two numbers of the reason, and where the bytes are.

mod claim;
mod control;
#[cfg(test)]
mod crash;
mod doubt;
mod farewell;
mod index;
mod keywords;
mod ledger;
mod manifest;
mod merge;
mod message;
mod name;
mod probe;
mod quarantine;
mod reason;
mod refusal;
mod repair;
mod roots;
mod stage;
mod stamp;
mod store;
mod survey;
mod twin;
mod uidlist;
mod walk;

pub use claim::ClaimError;
pub use doubt::{Doubt, DoubtKind};
pub use ledger::MessageCounts;
pub use manifest::{Manifest, ManifestEntry};
pub use probe::Probe;
pub use quarantine::SetAside;
pub use reason::Reason;
pub use refusal::Refusal;
pub use stamp::Stamp;
pub use store::{
    FlushFailed, Mailbox, ManifestError, PrepareTask, Prepared, Store, StoreConfig,
    StoreError,
};
