//! Snapshots of a holding: all that its records have led to, in columns.
//!
//! # Invariants
//!
//! * A holding restored from a snapshot, to which the records behind it are applied, is the
//!   holding that a replay of all records gives, once it has been woken.
//! * Whatever a holding remembers is in its snapshot; what it has merely heard is not: a new
//!   field does not compile before that is decided.

use super::counts::Counts;
use super::{Dial, HeldJob, HeldMailbox, Holding, Stamp, ordinals};
use crate::fleet::{Generation, JobNumber, Ordinal};
use crate::mailbox::{MailboxState, NotAState};
use crate::rollout::{Finding, KeptBack, MessageTotals};
use crate::time::Timestamp;

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
    /// Their messages.
    pub totals: Vec<MessageTotals>,
    /// What a person should know, by mailbox.
    pub findings: Vec<(Ordinal, Finding)>,
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
        let Self {
            jobs,
            kept_back,
            kept_back_heard: _,
            orders_version: _,
            may_open: _,
            pending: _,
            unreported: _,
        } = self;
        let jobs = jobs.iter().map(|(job, held)| held.snapshot(*job));
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
            let all = ordinals(&held.mailboxes).map(|(ordinal, _)| (job, ordinal));
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
            fresh: _,
            unread_until: _,
        } = self;
        let mut snapshot = JobSnapshot {
            job,
            generation: *generation,
            description: *description,
            states: Vec::with_capacity(mailboxes.len()),
            stamps: Vec::with_capacity(mailboxes.len()),
            served: Vec::with_capacity(mailboxes.len()),
            dials: Vec::with_capacity(mailboxes.len()),
            totals: Vec::with_capacity(mailboxes.len()),
            findings: Vec::new(),
        };
        for (ordinal, mailbox) in ordinals(mailboxes) {
            let HeldMailbox {
                state,
                stamp,
                served,
                totals,
                findings,
                level_since: _,
                probed_at: _,
                dial,
                dial_refused: _,
            } = mailbox;
            snapshot.states.push(state.pack());
            snapshot.stamps.push(*stamp);
            snapshot.served.push(*served);
            snapshot.dials.push(*dial);
            snapshot.totals.push(*totals);
            let known = findings.iter().map(|finding| (ordinal, finding.clone()));
            snapshot.findings.extend(known);
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
            totals,
            findings,
        } = kept;
        let lengths = [stamps.len(), served.len(), dials.len(), totals.len()];
        if lengths.iter().any(|length| *length != states.len()) {
            return Err(SnapshotError::Columns { job });
        }
        let rows = states.into_iter().zip(stamps).zip(served).zip(dials).zip(totals);
        let mailboxes = rows.map(|((((byte, stamp), served), dial), totals)| {
            let state = MailboxState::unpack(byte)
                .map_err(|state| SnapshotError::State { job, state })?;
            Ok(HeldMailbox {
                state,
                stamp,
                served,
                totals,
                findings: Vec::new(),
                level_since: Timestamp::default(),
                probed_at: None,
                dial,
                dial_refused: false,
            })
        });
        let mut mailboxes = mailboxes.collect::<Result<Vec<_>, _>>()?;
        for (ordinal, finding) in findings {
            let mailbox = mailboxes.get_mut(ordinal.index());
            mailbox.ok_or(SnapshotError::Columns { job })?.findings.push(finding);
        }
        let each = mailboxes.iter().map(|mailbox| mailbox.totals);
        let totals = each.fold(MessageTotals::default(), MessageTotals::plus);
        Ok(Self {
            generation,
            description,
            counts: Counts::of(&mailboxes),
            mailboxes,
            totals,
            order: None,
            fresh: Vec::new(),
            unread_until: None,
        })
    }
}
