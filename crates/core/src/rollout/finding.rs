//! Findings: what a person should know about single mailboxes.
//!
//! # Invariants
//!
//! * A finding names nobody: the mailbox is its place in a job.

use std::fmt;

use crate::fleet::Ordinal;
use crate::time::Timestamp;

/// Something about one mailbox that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The mailbox within its job.
    pub ordinal: Ordinal,
    /// What kind: `set-aside`, `lost`, `doubt`, `quarantined`, `probe`.
    pub kind: FindingKind,
    /// The folder, empty for INBOX or the mailbox as a whole.
    pub folder: String,
    /// The message's UID, if known.
    pub uid: Option<u32>,
    /// The message's name in the store, empty for the mailbox as a whole.
    pub name: String,
    /// The reason's stable code.
    pub code: String,
    /// The reason in words.
    pub reason: String,
    /// Size of what was kept aside, bytes.
    pub size_bytes: u64,
    /// Where the bytes are, below the worker's directory `work`; empty if none are kept.
    pub kept_at: String,
    /// What else is known of the message.
    pub origin: Origin,
}

/// Where a message came from, and what stands in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// When it was received, if that is known.
    pub received_at: Option<Timestamp>,
    /// Whose bytes are served in its place, or why there are none, as a stable word; empty if
    /// that is not known.
    pub source: String,
    /// The evidence that decided, strongest first; empty if there was none.
    pub rungs: String,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A message beyond repair; its bytes are kept aside.
    SetAside,
    /// A message of which only the name is left.
    Lost,
    /// A decision that could not be proved.
    Doubt,
    /// The whole mailbox waits for a person.
    Quarantined,
    /// An opened mailbox failed its probe.
    Probe,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SetAside => "set-aside",
            Self::Lost => "lost",
            Self::Doubt => "doubt",
            Self::Quarantined => "quarantined",
            Self::Probe => "probe",
        })
    }
}
