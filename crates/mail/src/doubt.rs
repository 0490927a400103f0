//! Doubt: what was decided without proof, for a person to know.
//!
//! # Invariants
//!
//! * A doubt never means that bytes are gone: whatever was decided against is kept.

use std::fmt;

use crate::finding::Source;
use crate::grade::Grade;

/// What is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DoubtKind {
    /// Live and snapshot looked good and differed: the snapshot's bytes are served and the live ones
    /// kept; or the live ones are, as the finding's source says, and the snapshot still has its own.
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
    /// All kinds.
    pub(crate) const ALL: [Self; 9] = [
        Self::BothLookGood,
        Self::DeletionUnproved,
        Self::Twice,
        Self::RepairedFromTwin,
        Self::UidlistRebuilt,
        Self::FolderReturned,
        Self::IndexDamaged,
        Self::ModseqLost,
        Self::OddItem,
    ];

    /// Good if it is harmless: nobody has to look whether the decision was right.
    pub fn grade(self) -> Grade {
        match self {
            Self::BothLookGood | Self::DeletionUnproved | Self::OddItem => {
                Grade::Investigate
            }
            Self::Twice
            | Self::RepairedFromTwin
            | Self::UidlistRebuilt
            | Self::FolderReturned
            | Self::IndexDamaged
            | Self::ModseqLost => Grade::Good,
        }
    }

    /// Whether it tells of something done once, which a later run no longer sees; otherwise every
    /// run finds it again for as long as it is there.
    pub(crate) fn is_remembered(self) -> bool {
        match self {
            Self::BothLookGood
            | Self::DeletionUnproved
            | Self::Twice
            | Self::RepairedFromTwin
            | Self::UidlistRebuilt
            | Self::FolderReturned
            | Self::IndexDamaged
            | Self::ModseqLost => true,
            Self::OddItem => false,
        }
    }

    /// Whose bytes are served.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::BothLookGood | Self::DeletionUnproved | Self::FolderReturned => {
                Source::Snapshot
            }
            Self::RepairedFromTwin => Source::OtherName,
            Self::Twice
            | Self::UidlistRebuilt
            | Self::IndexDamaged
            | Self::ModseqLost
            | Self::OddItem => Source::Live,
        }
    }

    /// The kind with this code.
    pub(crate) fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

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
