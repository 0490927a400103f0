//! Why a caller was turned away, as a status that says what to do.
//!
//! # Invariants
//!
//! * Every refusal has a stable code, sent as the metadata `tidegate-code`.
//! * A refused call has changed nothing.
//! * Who is turned away for want of room is told what is full and when to try again.

use std::time::Duration;

use tidegate_core::fleet::JobNumber;
use tidegate_core::inventory::Digest;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Grounds, Record, Refusal};
use tidegate_core::time::Timestamp;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::events;
use crate::names::with_names;
use crate::plan_files::PlanFileError;

/// How soon whoever found no place tries again: batches take less.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Tells gRPC's own retries the same, in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The code of what waits for a second person.
pub(crate) const NOT_APPROVED: &str = "not-approved";

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It is not for this caller.
    #[error("{who} may not do this: {why}")]
    NotAllowed {
        /// Who asks.
        who: String,
        /// What they would need, or are.
        why: String,
    },
    /// It cannot be written down who asks.
    #[error(
        "the audit log cannot be written, so nothing is done but stopping and closing"
    )]
    NotAudited,
    /// A second person has not given leave.
    #[error("a second person must approve it: `tidegate approve {command}`{}", Own(*.own))]
    NotApproved {
        /// What they type.
        command: String,
        /// Whether whoever asks has given leave themselves.
        own: bool,
    },
    /// More is known against it than whoever gives leave has seen.
    #[error(
        "the evidence has changed since you looked (it was {seen}, now {found}): look at what \
         went wrong, then approve on what there is"
    )]
    Worse { seen: Grounds, found: Grounds },
    /// Nothing to work on yet.
    #[error("no plan has been applied yet")]
    NoPlan,
    /// The worker's journal belongs to another rollout.
    #[error(
        "this worker's journal belongs to rollout {theirs}, here runs {ours}; \
         give the worker a new state directory"
    )]
    OtherRollout { theirs: Digest, ours: Digest },
    /// The worker would open a user's mailbox before it is verified, and write into it.
    #[error(
        "the canary of node {node} is the mailbox of a user in the plan, and a canary is open \
         before all others; name another address in [canary] of worker.toml, one that is in no \
         inventory"
    )]
    CanaryInPlan { node: String },
    /// The job is not this worker's.
    #[error("{job} is not held by this worker")]
    NotItsJob { job: JobNumber },
    /// The rollout forbids it.
    #[error("{text}")]
    Rollout {
        /// Why.
        refusal: Refusal,
        /// The same for people, with the plan's names.
        text: String,
    },
    /// A name that the plan does not know.
    #[error("no {what} `{name}` in this plan{known}")]
    Unknown { what: &'static str, name: String, known: String },
    /// An address that the plan does not know; it is not repeated, for refusals are logged.
    #[error("no mailbox of this plan has that address")]
    UnknownMailbox,
    /// This very plan was applied before.
    #[error("this plan was applied at {}; see `tidegate status`", Instant(*.at))]
    AppliedBefore { at: Timestamp },
    /// Another plan was applied before.
    #[error(
        "this coordinator carries out plan {ours}; a coordinator has one rollout: \
         start another with a new data directory"
    )]
    AnotherPlan { ours: Digest },
    /// This very plan was saved, and started.
    #[error("this saved plan is spent: it was started at {}", Instant(*.at))]
    Spent { at: Timestamp },
    /// Another plan was started since this one was saved.
    #[error(
        "stale: since this plan was saved, plan {ours} was started here, at {}; a coordinator \
         has one rollout",
        Instant(*.at)
    )]
    Overtook { ours: Digest, at: Timestamp },
    /// The plan was saved for another data directory.
    #[error(
        "stale: this plan was saved for another coordinator or data directory, and may be spent \
         there"
    )]
    SavedElsewhere,
    /// What was seen is not what would be done.
    #[error(
        "stale: inventory or policy changed since plan {seen}; run plan again \
         (it would be {found} now)"
    )]
    Stale { seen: Digest, found: Digest },
    /// Workers hold claims of this very plan: its journal is gone.
    #[error(
        "workers hold mailboxes of this plan already ({nodes}), so its rollout had begun and \
         its journal is gone; restore the newest journal, or if there is none, make it again \
         from what they hold: `tidegate rebuild`"
    )]
    HasBegun { nodes: String },
    /// Somebody else is applying a plan just now.
    #[error("another plan is being applied; try again in a moment")]
    ApplyUnderWay,
    /// An upload was left in the middle.
    #[error("no further part of the upload came for {} s; nothing was applied", .waited.as_secs())]
    UploadStalled { waited: Duration },
    /// What came in breaks a rule that the caller can mend.
    #[error("{text}")]
    Wrong { code: &'static str, text: String },
    /// The inventory could not be kept.
    #[error("cannot keep the inventory: {}", chain(.0))]
    NotKept(#[from] PlanFileError),
    /// Who takes mail is not known yet.
    #[error(
        "the rollout is made again from what the workers hold; who takes mail is told once \
         every node has told what it holds or was left out"
    )]
    Rebuilding,
    /// More watchers than are served at once.
    #[error("{max} watchers are served already; try again later")]
    TooManyWatchers { max: usize },
    /// One agent asks more than calls can be answered.
    #[error("{max} look-ups within an hour are enough for calls; try again later")]
    AskedTooOften { max: u32 },
    /// A watcher takes no answers.
    #[error("the answers of this watch were not read in time; watch again")]
    TooSlow,
    /// More of this waits already than is let wait.
    #[error(
        "the coordinator has too much to do: {max} {what} wait already; try again in {} s",
        TRY_AGAIN_AFTER.as_secs()
    )]
    Full { what: &'static str, max: usize },
    /// A newer report of the same worker has come before this one was read.
    #[error("a newer report of this worker waits already; nothing is lost")]
    Overtaken,
    /// The coordinator did not get round to it.
    #[error(
        "the coordinator is busy; whether it was done is not known, ask for the status"
    )]
    Busy,
    /// Its caller stops listening now.
    #[error(
        "the time that the call was given is over; whether it was done is not known, ask for \
         the status"
    )]
    Late,
    /// The coordinator is ending.
    #[error("the coordinator is stopping; try again when it is back")]
    Stopping,
}

impl Refused {
    /// What the core refused about a rollout of `plan`.
    pub(crate) fn by_rollout(refusal: Refusal, plan: &Plan) -> Self {
        let text = if let Refusal::Conflict { seen, now, changes } = &refusal {
            conflict(&seen.to_string(), &now.to_string(), changes, plan)
        } else {
            with_names(&refusal.to_string(), plan)
        };
        Self::Rollout { refusal, text }
    }

    /// The stable name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => "not-allowed",
            Self::NotAudited => "not-audited",
            Self::NotApproved { .. } => "not-approved",
            Self::Worse { .. } => "evidence-changed",
            Self::NoPlan => "no-plan",
            Self::OtherRollout { .. } => "other-rollout",
            Self::CanaryInPlan { .. } => "canary-in-plan",
            Self::NotItsJob { .. } => "not-its-job",
            Self::Rollout { refusal, .. } => refusal.code(),
            Self::Unknown { .. } | Self::UnknownMailbox => "unknown-name",
            Self::AppliedBefore { .. } => "applied-before",
            Self::AnotherPlan { .. } => "another-plan",
            Self::Spent { .. } => "plan-spent",
            Self::Stale { .. } | Self::Overtook { .. } | Self::SavedElsewhere => {
                "stale-plan"
            }
            Self::HasBegun { .. } => "has-begun",
            Self::ApplyUnderWay => "apply-under-way",
            Self::UploadStalled { .. } => "upload-stalled",
            Self::Wrong { code, .. } => code,
            Self::NotKept(_) => "inventory-not-kept",
            Self::Rebuilding => "rebuilding",
            Self::TooManyWatchers { .. } => "too-many-watchers",
            Self::AskedTooOften { .. } => "asked-too-often",
            Self::Full { .. } => "too-much",
            Self::TooSlow => "too-slow",
            Self::Overtaken => "overtaken",
            Self::Busy => "busy",
            Self::Late => "deadline-over",
            Self::Stopping => "stopping",
        }
    }

    /// The refusal under the code that a contract promises for it.
    pub(crate) fn status(&self, code: Code) -> Status {
        let mut status = Status::new(code, self.to_string());
        let name = MetadataValue::from_static(self.name());
        status.metadata_mut().insert("tidegate-code", name);
        if code == Code::ResourceExhausted {
            let millis = u64::try_from(TRY_AGAIN_AFTER.as_millis()).unwrap_or(u64::MAX);
            status.metadata_mut().insert(PUSHBACK, millis.into());
        }
        status
    }

    fn code(&self) -> Code {
        match self {
            Self::NotAllowed { .. } => Code::PermissionDenied,
            Self::NotApproved { .. }
            | Self::NoPlan
            | Self::OtherRollout { .. }
            | Self::CanaryInPlan { .. }
            | Self::NotItsJob { .. }
            | Self::HasBegun { .. }
            | Self::AnotherPlan { .. } => Code::FailedPrecondition,
            Self::Rollout { refusal, .. } => code_of(refusal),
            Self::Unknown { .. } | Self::UnknownMailbox => Code::NotFound,
            Self::AppliedBefore { .. } => Code::AlreadyExists,
            Self::Stale { .. }
            | Self::Worse { .. }
            | Self::Spent { .. }
            | Self::Overtook { .. }
            | Self::SavedElsewhere
            | Self::ApplyUnderWay => Code::Aborted,
            Self::Wrong { .. } => Code::InvalidArgument,
            Self::NotKept(_) | Self::NotAudited => Code::Internal,
            Self::TooManyWatchers { .. }
            | Self::AskedTooOften { .. }
            | Self::TooSlow
            | Self::Full { .. }
            | Self::Overtaken => Code::ResourceExhausted,
            Self::Busy | Self::Late | Self::UploadStalled { .. } => {
                Code::DeadlineExceeded
            }
            Self::Rebuilding | Self::Stopping => Code::Unavailable,
        }
    }
}

/// The stable name of a refusal that is on its way out; the name of its status if it has none.
pub(crate) fn code_of_status(status: &Status) -> &str {
    let name = status.metadata().get("tidegate-code").and_then(|name| name.to_str().ok());
    name.unwrap_or_else(|| status.code().description())
}

fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NodeTaken { .. }
        | Refusal::NotTheWorker { .. }
        | Refusal::ReportsLost { .. }
        | Refusal::Conflict { .. } => Code::Aborted,
        Refusal::NoSuch { .. } => Code::NotFound,
        Refusal::SameHand { .. } => Code::PermissionDenied,
        Refusal::ReasonMissing
        | Refusal::RequestReused { .. }
        | Refusal::EmergencySpan { .. }
        | Refusal::Impossible { .. } => Code::InvalidArgument,
        Refusal::UnknownNode { .. }
        | Refusal::OrdersTooOld { .. }
        | Refusal::WorkerTooOld { .. }
        | Refusal::WorkerJournalTooOld { .. }
        | Refusal::LeftOut { .. }
        | Refusal::NotSetAside
        | Refusal::NothingToAccept { .. }
        | Refusal::NodeAtWork { .. }
        | Refusal::InDoubt { .. }
        | Refusal::NotRecounted { .. }
        | Refusal::JournalTooOld { .. }
        | Refusal::Over { .. }
        | Refusal::Already { .. }
        | Refusal::NotHeldBack { .. }
        | Refusal::Frozen { .. }
        | Refusal::NotFrozen
        | Refusal::HaltStands { .. }
        | Refusal::NotHeld { .. }
        | Refusal::HoldStands { .. }
        | Refusal::NotRunning { .. }
        | Refusal::NoEmergencyProfile
        | Refusal::NoEmergency
        | Refusal::IsolationStands { .. } => Code::FailedPrecondition,
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        Self::Rollout { refusal, text }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        refused.status(refused.code())
    }
}

/// Who has decided what since an operator looked.
fn conflict(seen: &str, now: &str, changes: &[Record], plan: &Plan) -> String {
    let told = changes.iter().map(|record| {
        format!("{} at {}", events::Told::new(record, plan), Instant(events::at(record)))
    });
    let told: Vec<String> = told.collect();
    format!(
        "the rollout was changed since you looked (etag {seen}, now {now}): {}; nothing \
         was done",
        told.join("; ")
    )
}

/// Why one's own leave does not help.
struct Own(bool);

impl std::fmt::Display for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 {
            f.write_str("; nobody approves what they ask for themselves")
        } else {
            Ok(())
        }
    }
}

/// An instant as people write it: `2026-11-21T23:18:15Z`.
struct Instant(Timestamp);

impl std::fmt::Display for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = i64::try_from(self.0.millis() / 1_000).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_second(seconds) {
            Ok(instant) => write!(f, "{instant}"),
            Err(_) => write!(f, "{} ms", self.0.millis()),
        }
    }
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
