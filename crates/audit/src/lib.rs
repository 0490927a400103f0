//! Who did and looked at what, so that nobody can change it unnoticed.
//!
//! ```text
//! audit.jsonl   record 1 ─▶ record 2 ─▶ … ─▶ record n        each has the digest of the one before
//!                                 │                 │
//! elsewhere                    anchor            anchor         the digest at that time, signed
//! ```
//!
//! The journal of the rollout is a chain, too, but is compacted, and looking at a mailbox decides
//! nothing: so people's calls have a log of their own, that is text and is never shortened.
//!
//! # Invariants
//!
//! * A record is written before its call is answered; nothing that was written is changed.
//! * An edit, a deletion and an exchange break the chain. A truncation and a rewriting of all of
//!   it are seen by the anchors, which is why those belong elsewhere: what has come since the
//!   newest anchor can be cut off unseen.
//! * No address of a mailbox is ever written: a pseudonym is, made with a key. Without the key
//!   nobody can tell any more whom it meant.

mod anchor;
mod log;
mod pseudonym;
mod syslog;
mod verify;

pub use anchor::{ANCHOR_EVERY_RECORDS, Anchor, PublicKey, SigningKey};
pub use log::{AuditError, Due, Head, Log, Note};
pub use pseudonym::Pseudonyms;
pub use syslog::tell_syslog;
pub use verify::{Finding, Verified, verify};

/// The name of the log in the coordinator's data directory.
pub const LOG_FILE: &str = "audit.jsonl";

/// A digest as people read it.
type Hex = String;

fn hex(hash: &blake3::Hash) -> Hex {
    hash.to_hex().to_string()
}

/// The digest before any record.
fn beginning() -> Hex {
    "0".repeat(64)
}
