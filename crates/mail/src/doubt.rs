//! Doubt: what was decided without proof, for a person to know.
//!
//! # Invariants
//!
//! * A doubt never means that bytes are gone: whatever was decided against is kept.

use std::fmt;

/// One decision without proof, or one odd thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Folder, as in [`crate::SetAside`].
    pub folder: String,
    /// UID of the message, if it has one.
    pub uid: Option<u32>,
    /// Base name, or the name of the odd item; empty if the whole folder is meant.
    pub name: String,
    /// What is in doubt.
    pub kind: DoubtKind,
}

/// What is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoubtKind {
    /// Live and snapshot looked good and differed: the snapshot's bytes are served, the live ones kept.
    BothLookGood,
    /// It came back although its user may have deleted it.
    DeletionUnproved,
    /// It stood twice in the folder: one is served, the other kept.
    Twice,
    /// Repaired with the bytes of the message it was moved from.
    RepairedFromTwin,
    /// The UID list was rebuilt.
    UidlistRebuilt,
    /// The whole folder was brought back.
    FolderReturned,
    /// A damaged index was moved aside; the mail server builds it again.
    IndexDamaged,
    /// The index, and with it the count of changes (`HIGHESTMODSEQ`) of the folder, is gone: the mail
    /// server counts from the beginning, and mail programs that ask only for what changed since a
    /// count they remember may miss changed flags until they ask for everything.
    ModseqLost,
    /// A link, FIFO or other odd item outside the mail directories was left untouched.
    OddItem,
}

impl DoubtKind {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::BothLookGood => "both-look-good",
            Self::DeletionUnproved => "deletion-unproved",
            Self::Twice => "twice",
            Self::RepairedFromTwin => "repaired-from-twin",
            Self::UidlistRebuilt => "uidlist-rebuilt",
            Self::FolderReturned => "folder-returned",
            Self::IndexDamaged => "index-damaged",
            Self::ModseqLost => "modseq-lost",
            Self::OddItem => "odd-item",
        }
    }
}

impl fmt::Display for DoubtKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BothLookGood => "two versions looked good; the snapshot's is served",
            Self::DeletionUnproved => "it may have been deleted on purpose",
            Self::Twice => "it stood twice in the folder",
            Self::RepairedFromTwin => "repaired from the message it was moved from",
            Self::UidlistRebuilt => "the UID list was rebuilt",
            Self::FolderReturned => "the whole folder was brought back",
            Self::IndexDamaged => "a damaged index was moved aside",
            Self::ModseqLost => "its count of changes (HIGHESTMODSEQ) begins anew",
            Self::OddItem => "an odd item was left untouched",
        })
    }
}
