//! Inbox: what wakes the owner, and what it answers.

use tidegate_core::fleet::{Generation, JobNumber};
use tidegate_core::inventory::Digest;
use tidegate_core::rollout::{Account, JobReport, Orders, Vitals};
use tidegate_core::time::Timestamp;
use tidegate_wire::worker::{JobPart, NodeSettings};
use tokio::sync::oneshot;

use crate::hands::Done;
use crate::signals;

/// What can wake the owner.
#[derive(Debug)]
pub(crate) enum Input {
    /// The coordinator has given the node to this worker.
    Joined(Box<Joined>),
    /// The coordinator knows more of this node than its journal does.
    TurnedAway,
    /// The session is about to report.
    Beat(oneshot::Sender<Beat>),
    /// The coordinator has answered a report.
    Heard(Box<Heard>),
    /// A job's mailboxes.
    Described { job: JobNumber, told: JobPart },
    /// Hands are done with something.
    Done(Box<Done>),
    /// How the mail system feels.
    Felt(Box<signals::Heard>),
    /// Open mailboxes may stand higher; the owner's own reminder.
    Rise,
    /// The program shall stop.
    Stop,
}

/// What a worker knows of the runs before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    /// The rollout of the journal.
    pub(crate) rollout: Option<Digest>,
    /// The highest generation claimed under it.
    pub(crate) claimed_max: Generation,
    /// How many records the journal has ever had.
    pub(crate) journaled: u64,
    /// The highest generation that the store is claimed at, or may be: orders have told of it.
    pub(crate) store_claimed: Generation,
}

/// The coordinator's welcome.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The rollout's name.
    pub(crate) rollout: Digest,
    /// What the policy says about work on a node.
    pub(crate) settings: NodeSettings,
}

/// What shall be told to the coordinator.
#[derive(Debug)]
pub(crate) struct Beat {
    /// The newest orders obeyed.
    pub(crate) orders_obeyed: u64,
    /// Facts not confirmed yet.
    pub(crate) reports: Vec<JobReport>,
    /// How they stand to what else is to be told.
    pub(crate) account: Account,
    /// How the node feels.
    pub(crate) vitals: Vitals,
    /// The highest generation claimed.
    pub(crate) claimed_max: Generation,
    /// Jobs whose mailboxes must be fetched.
    pub(crate) fetch: Vec<JobNumber>,
}

/// The coordinator's answer to a report.
#[derive(Debug)]
pub(crate) struct Heard {
    /// What was reported and is now recorded.
    pub(crate) confirmed: Vec<JobReport>,
    /// The newest orders.
    pub(crate) orders: Orders,
    /// Until when they hold: counted from when the report was sent.
    pub(crate) until: Timestamp,
}
