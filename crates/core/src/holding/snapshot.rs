//! Snapshots of a holding: all that its records have led to, in columns.
//!
//! # Invariants
//!
//! * A holding restored from a snapshot, to which the records behind it are applied, is the
//!   holding that a replay of all records gives, once it has been woken.
//! * Whatever a holding remembers is in its snapshot; what it has merely heard is not: a new
//!   field does not compile before that is decided.

use std::sync::Arc;

use super::counts::Counts;
use super::mailbox::{HeldMailbox, Mailboxes};
use super::watch::Watch;
use super::{Dial, Found, HeldJob, Holding, Stamp};
use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{MailboxState, NotAState};
use crate::rollout::{KeptBack, MessageTotals};

/// What is remembered of a job. The columns are as long as the job has mailboxes.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSnapshot {
    /// The job.
    pub job: JobNumber,
    /// The generation it was claimed at.
    pub generation: Generation,
    /// The digest of its description.
    pub description: [u8; 32],
    /// States, packed: see [`MailboxState::pack`].
    pub states: Vec<u8>,
    /// The stamps they were verified at.
    pub stamps: Vec<Option<Stamp>>,
    /// Whether they have been open since they were first verified.
    pub served: Vec<bool>,
    /// Their dial tones.
    pub dials: Vec<Dial>,
    /// What was found of them.
    pub found: Vec<Found>,
}

/// A job as it was when it was copied, which costs next to nothing: it shares its mailboxes with
/// the holding until they change.
#[derive(Clone, Debug)]
pub struct JobCopy {
    job: JobNumber,
    held: HeldJob,
}

impl JobCopy {
    /// What is remembered of it.
    pub fn snapshot(&self) -> JobSnapshot {
        self.held.snapshot(self.job)
    }
}

/// A snapshot that no holding makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A column is longer or shorter than the others.
    #[error("restore a snapshot: the columns of {job} differ in length")]
    Columns {
        /// The job.
        job: JobNumber,
    },
    /// A mailbox in a state that cannot be.
    #[error("restore a snapshot: {state} of {job}")]
    State {
        /// The job.
        job: JobNumber,
        /// What is there.
        state: NotAState,
    },
}

impl Holding {
    /// All that is remembered: of jobs, and what persons keep back.
    pub fn snapshot(&self) -> (Vec<JobSnapshot>, KeptBack) {
        let (jobs, kept_back) = self.copy();
        (jobs.iter().map(JobCopy::snapshot).collect(), kept_back)
    }

    /// The same, of which snapshots can be made later.
    pub fn copy(&self) -> (Vec<JobCopy>, KeptBack) {
        let Self {
            jobs,
            kept_back,
            kept_back_heard: _,
            orders_version: _,
            may_open: _,
            pending: _,
            unreported: _,
        } = self;
        let jobs = jobs.iter().map(|(job, held)| {
            let held = HeldJob { order: None, ..held.clone() };
            JobCopy { job: *job, held }
        });
        (jobs.collect(), kept_back.clone())
    }

    /// The holding as a snapshot left it. Records behind it are to be applied next.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] when no holding makes such a snapshot.
    pub fn restore(
        jobs: Vec<JobSnapshot>,
        kept_back: KeptBack,
    ) -> Result<Self, SnapshotError> {
        let mut holding = Self { kept_back, ..Self::default() };
        for kept in jobs {
            let job = kept.job;
            let held = HeldJob::restore(kept)?;
            let all = held.mailboxes.iter().map(|(ordinal, _)| (job, ordinal));
            holding.unreported.extend(all);
            holding.jobs.insert(job, held);
        }
        Ok(holding)
    }
}

impl HeldJob {
    fn snapshot(&self, job: JobNumber) -> JobSnapshot {
        let Self {
            generation,
            description,
            mailboxes,
            counts: _,
            totals: _,
            order: _,
            watch: _,
        } = self;
        let mut snapshot = JobSnapshot {
            job,
            generation: *generation,
            description: *description,
            states: Vec::with_capacity(mailboxes.len()),
            stamps: Vec::with_capacity(mailboxes.len()),
            served: Vec::with_capacity(mailboxes.len()),
            dials: Vec::with_capacity(mailboxes.len()),
            found: Vec::with_capacity(mailboxes.len()),
        };
        for (ordinal, mailbox) in mailboxes.iter() {
            let HeldMailbox {
                state,
                stamp,
                served,
                dial,
                dial_refused: _,
                since: _,
                was_read: _,
            } = mailbox;
            snapshot.states.push(state.pack());
            snapshot.stamps.push(stamp);
            snapshot.served.push(served);
            snapshot.dials.push(dial);
            snapshot.found.push(mailboxes.found(ordinal));
        }
        snapshot
    }

    fn restore(kept: JobSnapshot) -> Result<Self, SnapshotError> {
        let JobSnapshot {
            job,
            generation,
            description,
            states,
            stamps,
            served,
            dials,
            found,
        } = kept;
        let lengths = [stamps.len(), served.len(), dials.len(), found.len()];
        if lengths.iter().any(|length| *length != states.len()) {
            return Err(SnapshotError::Columns { job });
        }
        let count = states.len();
        let rows = states.into_iter().zip(stamps).zip(served).zip(dials).zip(found);
        let mut mailboxes = Mailboxes::new(count);
        let mut totals = MessageTotals::default();
        for (ordinal, row) in (0..).map(Ordinal::new).zip(rows) {
            let ((((byte, stamp), served), dial), found) = row;
            let state = MailboxState::unpack(byte)
                .map_err(|state| SnapshotError::State { job, state })?;
            // Older programs kept it.
            let stamp = stamp.filter(|_| !state.is_open());
            let mailbox =
                HeldMailbox { state, stamp, served, dial, ..HeldMailbox::default() };
            mailboxes.set(ordinal, mailbox);
            totals = totals.plus(found.totals());
            mailboxes.set_found(ordinal, found);
        }
        Ok(Self {
            generation,
            description,
            counts: Counts::of(&mailboxes),
            watch: Watch::new(mailboxes.len()),
            mailboxes: Arc::new(mailboxes),
            totals,
            order: None,
        })
    }
}
