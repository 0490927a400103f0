//! Mail store: what the hands work at, whatever the node's mail is kept in.
//!
//! # Invariants
//!
//! * A mailbox that is not in an answer has been decided nothing about: it is tried again.
//! * An error means that nothing more may be done by this process.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Look, Outcome, ProbeTask, Settled, Stamp, Switched};
use tidegate_core::mailbox::Level;
use tidegate_core::rollout::{Finding, FindingKind, Origin};
use tidegate_core::share::Ppm;
use tidegate_core::time::Timestamp;
use tidegate_mail::{Mailbox, Manifest};

/// The most mailboxes that a program is told of at once: enough to share its start, few enough
/// that a stop is not kept waiting.
const TELL_TOGETHER: usize = 64;

/// Mailboxes that are prepared at once: enough to share two flushes of the file system (twice as
/// many would save a hundredth of the CPU), few enough that a stop is not kept waiting.
const PREPARE_TOGETHER: usize = 24;

/// How long reads took, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The first of each mailbox since it was let in.
    pub first: Vec<u32>,
    /// All others of the same mailboxes.
    pub later: Vec<u32>,
}

/// One node's mail.
pub trait MailStore: Debug + Send + Sync {
    /// Fences the store: whoever claimed the job under a lower generation changes nothing
    /// from here on. Whether the claim stands; not if this worker has made a newer one.
    ///
    /// # Errors
    ///
    /// The store's: this process may do nothing more there.
    fn claim(&self, under: Under) -> anyhow::Result<bool>;

    /// The generations that its claims on disk name, by job; they outlive the journal.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn claimed(&self) -> anyhow::Result<BTreeMap<JobNumber, Generation>> {
        Ok(BTreeMap::new())
    }

    /// Verifies and repairs; what is returned is durable.
    ///
    /// # Errors
    ///
    /// The store's: this process may do nothing more there.
    fn prepare(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>>;

    /// Replaces held mailboxes by empty ones; their histories are worked on beside from then on.
    ///
    /// # Errors
    ///
    /// The store's: this process may do nothing more there.
    fn dial(
        &self,
        _under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Dialling)>> {
        let refused = mailboxes.iter().map(|(ordinal, _)| {
            let reason = "this mail store has no dial tone".to_owned();
            let why = quarantined(*ordinal, "no-dial-tone".to_owned(), reason);
            (*ordinal, Dialling::Refused(Box::new(why)))
        });
        Ok(refused.collect())
    }

    /// Puts histories back that are as they were verified, with all that has come in since, once
    /// nobody is in the mailboxes.
    ///
    /// # Errors
    ///
    /// The store's: this process may do nothing more there.
    fn switch(
        &self,
        _under: Under,
        mailboxes: Vec<(Ordinal, Mailbox, Stamp)>,
    ) -> anyhow::Result<Vec<(Ordinal, Switching)>> {
        // Nothing was ever put in their place.
        let done = mailboxes.into_iter().map(|(ordinal, _, stamp)| {
            let (imported, findings) = (0, Vec::new());
            (ordinal, Switching::Done(Switched { ordinal, stamp, imported, findings }))
        });
        Ok(done.collect())
    }

    /// Looks cheaply whether mailboxes are as they were when they were verified.
    fn look(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> Vec<(Ordinal, Look)>;

    /// Reads open mailboxes as their users would; with the time it took where it could.
    fn probe(
        &self,
        tasks: &[(ProbeTask, Mailbox)],
    ) -> Vec<(ProbeTask, Outcome, Option<Duration>)>;

    /// How long mailboxes took to be read as their users read them, since this was last asked.
    fn reads(&self) -> Reads {
        Reads::default()
    }

    /// The free share of what the mail lies on.
    fn free_share(&self) -> Option<Ppm>;

    /// Whether it is told when mailboxes open and close; otherwise admission is the only
    /// door.
    fn hears(&self) -> bool {
        false
    }

    /// Tells the mail system where mailboxes stand; a letting in only under a claim that
    /// no higher one has replaced.
    ///
    /// # Errors
    ///
    /// The store's: this process may do nothing more there.
    fn tell(
        &self,
        _telling: &Telling,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Told)>> {
        Ok(mailboxes.iter().map(|(ordinal, _)| (*ordinal, Told::Done)).collect())
    }

    /// How many mailboxes it wants to prepare at once.
    fn prepare_together(&self) -> usize {
        PREPARE_TOGETHER
    }

    /// The most mailboxes that it wants to be told of at once.
    fn tell_together(&self, _level: Level) -> usize {
        TELL_TOGETHER
    }

    /// The doors of these mailboxes have opened further: admission lets their owners in.
    fn opened(&self, _addresses: &[&str]) {}

    /// What a mailbox held when it was last verified, where that is known message by message.
    fn verified(&self, _mailbox: &Mailbox) -> Option<Manifest> {
        None
    }

    /// The UIDVALIDITY of each folder as the mail store itself has it, where that is known; by
    /// the folder's name in manifests.
    fn uid_validities(&self, _mailbox: &Mailbox) -> BTreeMap<Vec<u8>, u32> {
        BTreeMap::new()
    }

    /// Mailboxes that an earlier run may have told the mail system to let in.
    fn maybe_open(&self) -> Vec<LetIn> {
        Vec::new()
    }

    /// Ends whatever runs outside this process.
    fn stop(&self) {}
}

/// Claims as they are on disk, in the words of the rollout.
pub(crate) fn by_job(claimed: BTreeMap<u32, u64>) -> BTreeMap<JobNumber, Generation> {
    let named = claimed.into_iter();
    named.map(|(job, at)| (JobNumber::new(job), Generation::new(at))).collect()
}

/// Permission to work a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Under {
    /// The job.
    pub job: JobNumber,
    /// The generation it was claimed at.
    pub generation: Generation,
}

/// What the mail system is told of some mailboxes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Under which permission.
    pub under: Under,
    /// Where they stand; held means that nobody may be let in.
    pub level: Level,
    /// The services that come with the level.
    pub services: Vec<String>,
    /// Whether the level is on record already; otherwise it is recorded when it was told.
    pub recorded: bool,
    /// Whether they are held on record.
    pub from_held: bool,
    /// When a letting in must have ended.
    pub until: Timestamp,
}

/// What came of emptying one mailbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Dialling {
    /// The empty one stands, durably.
    Done,
    /// There will be none.
    Refused(Box<Finding>),
}

/// What came of putting one history back.
#[derive(Clone, Debug, PartialEq)]
pub enum Switching {
    /// It is in its place, durably.
    Done(Switched),
    /// It is not as it was verified; nothing was done.
    Changed,
    /// It will not be done until a person has looked.
    Refused(Finding),
}

/// What the mail system made of it, for one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It has been done.
    Done,
    /// It will not be done until a person has looked.
    Refused {
        /// A stable word for programs.
        code: String,
        /// Why.
        reason: String,
    },
    /// It has not been done yet, and nothing has been done: ask again.
    NotYet,
    /// It may have been done or not.
    Unknown,
}

/// A mailbox that the mail system may let its owner into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetIn {
    /// Under which permission it was told.
    pub under: Under,
    /// How far at most.
    pub level: Level,
    /// The mailbox.
    pub mailbox: Mailbox,
}

/// What is told of a mailbox that waits for a person.
pub(crate) fn quarantined(ordinal: Ordinal, code: String, reason: String) -> Finding {
    Finding {
        ordinal,
        kind: FindingKind::Quarantined,
        folder: String::new(),
        uid: None,
        name: String::new(),
        code,
        reason,
        size_bytes: 0,
        kept_at: String::new(),
        origin: Origin::default(),
    }
}

/// Shuts out mailboxes that this journal knows nothing of, so that they do not stay open
/// behind everybody's back.
pub(crate) fn shut_out(
    store: &dyn MailStore,
    unknown: impl Iterator<Item = LetIn>,
) -> anyhow::Result<()> {
    for LetIn { under, mailbox, .. } in unknown {
        let (level, services) = (Level::HELD, Vec::new());
        let until = Timestamp::default();
        let (recorded, from_held) = (true, true);
        let telling = Telling { under, level, services, recorded, from_held, until };
        let told = store.tell(&telling, &[(Ordinal::new(0), mailbox)])?;
        anyhow::ensure!(
            told.iter().all(|(_, told)| *told == Told::Done),
            "mailboxes are open that this journal does not know, and the mail system does \
             not close them; the log says why"
        );
    }
    Ok(())
}
