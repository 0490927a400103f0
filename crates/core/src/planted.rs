//! Planted: bugs put back on purpose, so that the simulator can show that it finds them.
//!
//! # Invariants
//!
//! * Without the feature `planted`, which only tests enable, no bug is ever in force and the
//!   questions about it compile to nothing.
//! * A thread has at most one bug at a time.

/// A bug that can be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Time is read from the wall clock.
    WallClock,
    /// The coordinator answers, then records.
    ReplyBeforeRecord,
    /// A small batch of the coordinator is not recorded at all.
    SkipFlush,
    /// The coordinator forgets the newest record when it starts.
    ForgetOnReplay,
    /// A worker forgets closings when it starts.
    WorkerForgets,
    /// A worker opens doors, then records.
    ActBeforeRecord,
    /// The coordinator takes reports of older generations.
    IgnoreGeneration,
    /// A worker takes what was done under older generations.
    WorkerIgnoresGeneration,
    /// Mailboxes without outcome count as mature.
    UnknownIsGood,
    /// A start counts as having heard everybody.
    SilenceIsConsent,
    /// A halt is resumed without re-closing its wave.
    ResumeClearsHalt,
    /// What a wave passed before it was re-closed counts afterwards.
    StaleVerdict,
    /// Re-closing takes no new generation.
    RecloseInPlace,
    /// The newest generation is issued again.
    ReissueGeneration,
    /// A worker that was permitted once goes by that whatever it hears later.
    StaleOrders,
    /// A stop is called effective before all nodes have said so.
    AckPauseEarly,
    /// Orders permit openings while the rollout is paused.
    PauseOnPaper,
    /// Bad health is overwritten by later good.
    BadHeals,
    /// A node is given to a second worker while the first has it.
    TwoIncarnations,
    /// A mailbox is opened that was not verified.
    OpenBeforeVerify,
    /// A mailbox is opened whatever the last look has found.
    OpenWithoutStamp,
    /// A worker opens after its lease is over.
    KeepPermits,
    /// A lease is counted from when the answer came.
    LeaseFromAnswer,
    /// An open mailbox is restored.
    RestoreIntoOpen,
    /// All mailboxes of a job are permitted at once.
    NoWindow,
    /// A wave does not wait for those before it.
    JumpTheQueue,
    /// A wave does not wait for its schedule.
    NoDelay,
    /// What was reported counts as confirmed though it has changed since.
    ConfirmAll,
    /// Doors are not closed with the mailbox.
    DoorsStayOpen,
    /// After a restart doors open that nobody has seen open.
    ShowAtOnce,
    /// A history is put back while mail is on its way in.
    NoGrace,
    /// A mailbox is opened while its history is beside.
    OpenBeside,
    /// What the mail system still lets in is reported as closed.
    TellNobody,
    /// Readers are shown mailboxes as they were before they were re-closed.
    StaleAnswers,
    /// Orders permit openings after a window that holds has ended.
    HoldNothing,
    /// A freeze is on record, and the rollout runs.
    FreezeOnPaper,
    /// A window that ends over a step freezes nothing.
    EndUnseen,
    /// People may answer for what a silent worker has not said.
    AnswerForSilence,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 38] = [
        Self::WallClock,
        Self::ReplyBeforeRecord,
        Self::SkipFlush,
        Self::ForgetOnReplay,
        Self::WorkerForgets,
        Self::ActBeforeRecord,
        Self::IgnoreGeneration,
        Self::WorkerIgnoresGeneration,
        Self::UnknownIsGood,
        Self::SilenceIsConsent,
        Self::ResumeClearsHalt,
        Self::StaleVerdict,
        Self::RecloseInPlace,
        Self::ReissueGeneration,
        Self::StaleOrders,
        Self::AckPauseEarly,
        Self::PauseOnPaper,
        Self::BadHeals,
        Self::TwoIncarnations,
        Self::OpenBeforeVerify,
        Self::OpenWithoutStamp,
        Self::KeepPermits,
        Self::LeaseFromAnswer,
        Self::RestoreIntoOpen,
        Self::NoWindow,
        Self::JumpTheQueue,
        Self::NoDelay,
        Self::ConfirmAll,
        Self::DoorsStayOpen,
        Self::ShowAtOnce,
        Self::NoGrace,
        Self::OpenBeside,
        Self::TellNobody,
        Self::StaleAnswers,
        Self::HoldNothing,
        Self::FreezeOnPaper,
        Self::EndUnseen,
        Self::AnswerForSilence,
    ];
}

/// Whether `bug` is in force on this thread.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use chosen::{is, plant};

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether `bug` is in force on this thread.
    #[inline]
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Puts a bug in force on this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}
