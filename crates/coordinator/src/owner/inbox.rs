//! How everybody else reaches the owner.
//!
//! # Invariants
//!
//! * Every wait for the owner ends: with its answer, or with a refusal.
//! * An answer has been made durable before it arrives.

use std::time::Duration;

use tidegate_core::gate::ShortName;
use tidegate_core::rollout::{Answer, Orders, Rollout, Sync};
use tidegate_core::time::Timestamp;
use tidegate_wire::worker::{Joined, Joining};
use tokio::sync::{mpsc, oneshot};

use super::{Applied, Intent, Proposal, Reply};
use crate::refused::Refused;

/// How long a caller waits: longer than a bad disk takes for a flush, shorter than people
/// wait.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Keeping the inventory of millions takes seconds on a slow disk.
const APPLY_WAIT_MAX: Duration = Duration::from_mins(5);

type To<T> = oneshot::Sender<Result<T, Refused>>;

/// What the owner is asked or told.
pub(crate) enum Message {
    /// Time has passed.
    Tick,
    /// A worker asks to take up its node.
    Join { joining: Joining, to: To<Joined> },
    /// A worker reports.
    Sync { sync: Box<Sync>, to: To<Orders> },
    /// An operator acts.
    Operate { intent: Intent, to: To<Answer> },
    /// An operator applies a plan.
    Apply { proposal: Box<Proposal>, to: To<Applied> },
    /// Somebody wants to know.
    Ask(Question),
    /// Somebody else's measurement, in millionths.
    External { name: ShortName, answer: i64 },
    /// Finish what has queued, then end.
    Stop,
}

/// Looks at the rollout and says how to answer.
type Question = Box<dyn FnOnce(Option<&Rollout>, Timestamp) -> Reply + Send>;

/// Hands messages to the owner; cheap to clone.
#[derive(Clone)]
pub(crate) struct Inbox {
    queue: mpsc::Sender<Message>,
}

impl Inbox {
    pub(super) fn new(queue: mpsc::Sender<Message>) -> Self {
        Self { queue }
    }

    /// Says that time has passed. A full inbox does not need to be told.
    pub(crate) fn tick(&self) {
        drop(self.queue.try_send(Message::Tick));
    }

    /// A worker asks to take up its node.
    pub(crate) async fn join(&self, joining: Joining) -> Result<Joined, Refused> {
        self.send(ANSWER_WAIT_MAX, |to| Message::Join { joining, to }).await?
    }

    /// A worker reports and asks for orders.
    pub(crate) async fn sync(&self, sync: Sync) -> Result<Orders, Refused> {
        let sync = Box::new(sync);
        self.send(ANSWER_WAIT_MAX, |to| Message::Sync { sync, to }).await?
    }

    /// An operator acts.
    pub(crate) async fn operate(&self, intent: Intent) -> Result<Answer, Refused> {
        self.send(ANSWER_WAIT_MAX, |to| Message::Operate { intent, to }).await?
    }

    /// An operator applies a plan.
    pub(crate) async fn apply(&self, proposal: Proposal) -> Result<Applied, Refused> {
        let proposal = Box::new(proposal);
        self.send(APPLY_WAIT_MAX, |to| Message::Apply { proposal, to }).await?
    }

    /// Asks something about the rollout.
    ///
    /// # Errors
    ///
    /// [`Refused::NoPlan`] before there is one; what `look` refuses.
    pub(crate) async fn ask<T, L>(&self, look: L) -> Result<T, Refused>
    where
        T: Send + 'static,
        L: FnOnce(&Rollout, Timestamp) -> Result<T, Refused> + Send + 'static,
    {
        let answer = self.send(ANSWER_WAIT_MAX, |to: To<T>| {
            Message::Ask(Box::new(move |rollout, now| {
                let answer = rollout.ok_or(Refused::NoPlan).and_then(|r| look(r, now));
                Box::new(move || drop(to.send(answer)))
            }))
        });
        answer.await?
    }

    /// Hands on the answer, in millionths, to the external question called `name`.
    pub(crate) async fn external(&self, name: ShortName, answer: i64) {
        // An owner that has ended judges nothing any more.
        drop(self.queue.send(Message::External { name, answer }).await);
    }

    /// Ends the owner after what has queued until now.
    pub(crate) async fn stop(&self) {
        // If it has ended already, so much the better.
        drop(self.queue.send(Message::Stop).await);
    }

    /// The same without waiting, for whom there is no time left.
    pub(crate) fn stop_now(&self) {
        drop(self.queue.try_send(Message::Stop));
    }

    async fn send<T>(
        &self,
        wait_max: Duration,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Refused> {
        let (to, answer) = oneshot::channel();
        let exchange = async {
            self.queue.send(message(to)).await.map_err(|_| Refused::Stopping)?;
            answer.await.map_err(|_| Refused::Stopping)
        };
        tokio::time::timeout(wait_max, exchange).await.unwrap_or(Err(Refused::Busy))
    }
}
