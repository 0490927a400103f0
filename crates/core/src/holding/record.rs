//! What a worker remembers, and what its hands found.

use super::{DialStep, Stamp};
use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{Health, Level};
use crate::rollout::{Finding, KeptBack, MessageTotals};
use crate::time::Timestamp;

/// What a worker remembers. Replaying these, in order, is the only recovery.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A job was claimed at the store.
    JobClaimed {
        /// The job.
        job: JobNumber,
        /// The generation.
        generation: Generation,
        /// The digest of its description.
        description: [u8; 32],
        /// How many mailboxes it has.
        mailboxes: u16,
        /// When.
        at: Timestamp,
    },
    /// Mailboxes were verified, repaired and made durable, or set aside.
    Settled {
        /// The job.
        job: JobNumber,
        /// The generation.
        generation: Generation,
        /// One per mailbox.
        mailboxes: Vec<Settled>,
        /// When.
        at: Timestamp,
    },
    /// Mailboxes turned out to have changed since they were verified.
    Unsettled {
        /// The job.
        job: JobNumber,
        /// The generation.
        generation: Generation,
        /// Their places.
        ordinals: Vec<Ordinal>,
        /// When.
        at: Timestamp,
    },
    /// Mailboxes were raised: from this record on, admission lets their owners in.
    Raised {
        /// The job.
        job: JobNumber,
        /// The generation.
        generation: Generation,
        /// The level.
        level: Level,
        /// Their places.
        ordinals: Vec<Ordinal>,
        /// When.
        at: Timestamp,
    },
    /// Mailboxes were closed.
    Closed {
        /// The job.
        job: JobNumber,
        /// The generation whose order closed them.
        generation: Generation,
        /// Their places.
        ordinals: Vec<Ordinal>,
        /// When.
        at: Timestamp,
    },
    /// Dial tones of held mailboxes are intended, begun or ended.
    DialTone {
        /// The job.
        job: JobNumber,
        /// The generation.
        generation: Generation,
        /// Which of it.
        step: DialStep,
        /// Their places.
        ordinals: Vec<Ordinal>,
        /// When.
        at: Timestamp,
    },
    /// Histories are back in their places, with the mail of the dial tones in them.
    DialToneSwitched {
        /// The job.
        job: JobNumber,
        /// The generation.
        generation: Generation,
        /// One per mailbox.
        mailboxes: Vec<Switched>,
        /// When.
        at: Timestamp,
    },
    /// Persons have re-closed something, or resumed it; told to a coordinator that has lost its
    /// own memory.
    KeptBack {
        /// All that is re-closed and not resumed.
        kept_back: KeptBack,
        /// When.
        at: Timestamp,
    },
    /// Open mailboxes matured or failed.
    HealthNoted {
        /// The job.
        job: JobNumber,
        /// The generation.
        generation: Generation,
        /// Their places and health.
        healths: Vec<(Ordinal, Health)>,
        /// What a person should know of those that failed.
        findings: Vec<Finding>,
        /// When.
        at: Timestamp,
    },
}

/// A job claimed at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: JobNumber,
    /// The generation.
    pub generation: Generation,
    /// The digest of its description.
    pub description: [u8; 32],
    /// How many mailboxes it has.
    pub mailboxes: u16,
}

/// The result of verifying one mailbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The mailbox.
    pub ordinal: Ordinal,
    /// The stamp it was verified at; nothing when it was set aside as a whole.
    pub stamp: Option<Stamp>,
    /// Its messages.
    pub totals: MessageTotals,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// A mailbox whose history is back in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Switched {
    /// The mailbox.
    pub ordinal: Ordinal,
    /// Its stamp right afterwards.
    pub stamp: Stamp,
    /// Messages of the dial tone that are in the history now.
    pub imported: u64,
    /// What is not, for a person.
    pub findings: Vec<Finding>,
}

/// The result of a look at a held mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its stamp is this one.
    Stamp(Stamp),
    /// Its history lies beside an empty mailbox, with this stamp.
    Beside(Stamp),
    /// It cannot be looked at any more.
    Impossible,
}

/// The result of reading an open mailbox as a user would.
#[derive(Clone, Debug, PartialEq)]
pub struct Probed {
    /// The mailbox.
    pub ordinal: Ordinal,
    /// The level it stood on when the probe began.
    pub level: Level,
    /// Whether it had been open for the soak time.
    pub mature: bool,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of a probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It could be read, and was right.
    Read,
    /// It could not be read.
    Unreadable(Finding),
    /// It showed altered, foreign or lost mail.
    Altered(Finding),
}
