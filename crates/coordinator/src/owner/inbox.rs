//! How everybody else reaches the owner.
//!
//! # Invariants
//!
//! * Every wait for the owner ends: with its answer, or with a refusal.
//! * Nobody waits for a place: a full lane refuses at once.
//! * An answer has been made durable before it arrives.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::fleet::{Incarnation, NodeNumber};
use tidegate_core::gate::ShortName;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Answer, Orders, Refusal, Rollout, Sync};
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::worker::{Joined, Joining};
use tokio::sync::{oneshot, watch};

use super::lanes::{Lane, Lanes};
use super::origin::Origin;
use super::{Applied, Assent, Intent, NamedVerb, Petition, Proposal, Reply};
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
    /// A second person gives leave.
    Approve { assent: Assent, to: To<Span> },
    /// An operator applies a plan.
    Apply { proposal: Box<Proposal>, to: To<Applied> },
    /// Somebody wants to know.
    Ask(Question),
    /// Somebody else's measurement, in millionths.
    External { name: ShortName, answer: i64 },
}

impl Message {
    /// Whether nobody waits for what would be moved. Stopping and closing are right all the same;
    /// what a worker says is true whoever listens, and makes its next call quick.
    pub(super) fn was_given_up(&self) -> bool {
        match self {
            Self::Operate { intent, to } => {
                to.is_closed() && !matches!(intent.lane(), Lane::Stop | Lane::Close)
            }
            Self::Approve { to, .. } => to.is_closed(),
            Self::Apply { to, .. } => to.is_closed(),
            Self::Tick
            | Self::Join { .. }
            | Self::Sync { .. }
            | Self::Ask(_)
            | Self::External { .. } => false,
        }
    }
}

impl Intent {
    /// Where it waits.
    const fn lane(&self) -> Lane {
        match self.verb {
            NamedVerb::Pause | NamedVerb::Freeze | NamedVerb::Abort => Lane::Stop,
            NamedVerb::Reclose(_) => Lane::Close,
            NamedVerb::Resume(_)
            | NamedVerb::Thaw
            | NamedVerb::Retry(_)
            | NamedVerb::Accept(_)
            | NamedVerb::BeginEmergency(_)
            | NamedVerb::EndEmergency
            | NamedVerb::Expand(_) => Lane::Verb,
        }
    }
}

/// Who works which node, for the border: made durable before anybody sees it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) plan: Arc<Plan>,
    pub(super) workers: Vec<Option<Incarnation>>,
}

impl Known {
    /// Refuses whoever is not the node's worker, as the owner would.
    fn check(&self, node: NodeNumber, incarnation: Incarnation) -> Result<(), Refused> {
        let worker = self.workers.get(node.index()).copied().flatten();
        if worker == Some(incarnation) {
            return Ok(());
        }
        let node = self.plan.inventory().node_name(node).to_owned();
        Err(Refusal::NotTheWorker { node, incarnation }.into())
    }
}

/// The newest of it; nothing before a plan was applied.
pub(super) type WhoIsKnown = watch::Receiver<Option<Arc<Known>>>;

/// Starts that wait for a second person.
pub(super) type WhoStarts = watch::Receiver<Vec<Petition>>;

/// Workers of unknown nodes share the places of a node that no plan has.
const STRANGERS: NodeNumber = NodeNumber::new(u16::MAX);

/// Looks at the rollout and says how to answer.
type Question = Box<dyn FnOnce(Option<&Rollout>, Timestamp) -> Reply + Send>;

/// Hands messages to the owner; cheap to clone.
#[derive(Clone)]
pub(crate) struct Inbox {
    entrance: Arc<Entrance>,
    known: WhoIsKnown,
    /// Starts that wait for a second person, while there is no rollout.
    starting: WhoStarts,
    /// Which trace the newest orders come from.
    pub(crate) origin: Origin,
}

/// The way in; when nobody can use it any more, the owner ends.
struct Entrance(Arc<Lanes>);

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Inbox {
    pub(super) fn new(
        lanes: Arc<Lanes>,
        (known, starting): (WhoIsKnown, WhoStarts),
    ) -> Self {
        let entrance = Arc::new(Entrance(lanes));
        Self { entrance, known, starting, origin: Origin::default() }
    }

    /// Says that time has passed.
    pub(crate) fn tick(&self) {
        self.entrance.0.tick();
    }

    /// A worker asks to take up its node.
    pub(crate) async fn join(&self, joining: Joining) -> Result<Joined, Refused> {
        let node = match self.known.borrow().as_deref() {
            Some(known) => known.plan.inventory().find_node(&joining.join.node),
            None => None,
        };
        let place = Place { lane: Lane::Join, node: Some(node.unwrap_or(STRANGERS)) };
        self.send(place, ANSWER_WAIT_MAX, |to| Message::Join { joining, to }).await?
    }

    /// A worker reports and asks for orders. Only the node's own worker gets as far as to the
    /// owner.
    pub(crate) async fn sync(&self, sync: Sync) -> Result<Orders, Refused> {
        self.check(sync.node, sync.incarnation)?;
        let place = Place { lane: Lane::Report, node: Some(sync.node) };
        let sync = Box::new(sync);
        self.send(place, ANSWER_WAIT_MAX, |to| Message::Sync { sync, to }).await?
    }

    /// An operator acts.
    pub(crate) async fn operate(&self, intent: Intent) -> Result<Answer, Refused> {
        let place = Place { lane: intent.lane(), node: None };
        self.send(place, ANSWER_WAIT_MAX, |to| Message::Operate { intent, to }).await?
    }

    /// A second person gives leave; returns for how long.
    pub(crate) async fn approve(&self, assent: Assent) -> Result<Span, Refused> {
        let place = Place { lane: Lane::Verb, node: None };
        self.send(place, ANSWER_WAIT_MAX, |to| Message::Approve { assent, to }).await?
    }

    /// An operator applies a plan.
    pub(crate) async fn apply(&self, proposal: Proposal) -> Result<Applied, Refused> {
        let proposal = Box::new(proposal);
        let place = Place { lane: Lane::Verb, node: None };
        self.send(place, APPLY_WAIT_MAX, |to| Message::Apply { proposal, to }).await?
    }

    /// A reader asks something about the rollout.
    ///
    /// # Errors
    ///
    /// [`Refused::NoPlan`] before there is one; what `look` refuses.
    pub(crate) async fn ask<T, L>(&self, look: L) -> Result<T, Refused>
    where
        T: Send + 'static,
        L: FnOnce(&Rollout, Timestamp) -> Result<T, Refused> + Send + 'static,
    {
        self.ask_at(Place { lane: Lane::Question, node: None }, look).await
    }

    /// The worker of `node` asks something about the rollout.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`], and if it is not that worker.
    pub(crate) async fn ask_for<T, L>(
        &self,
        (node, incarnation): (NodeNumber, Incarnation),
        look: L,
    ) -> Result<T, Refused>
    where
        T: Send + 'static,
        L: FnOnce(&Rollout, Timestamp) -> Result<T, Refused> + Send + 'static,
    {
        self.check(node, incarnation)?;
        self.ask_at(Place { lane: Lane::Fetch, node: Some(node) }, look).await
    }

    /// Hands on the answer, in millionths, to the external question called `name`.
    pub(crate) fn external(&self, name: ShortName, answer: i64) {
        // An owner that has ended judges nothing any more; one that is busy is told again.
        let message = Message::External { name, answer };
        drop(self.entrance.0.put(Lane::Own, None, message));
    }

    /// Starts that wait for a second person; what waits later is on the view.
    pub(crate) fn starting(&self) -> Vec<Petition> {
        self.starting.borrow().clone()
    }

    /// Ends the owner after what has queued until now.
    pub(crate) fn stop(&self) {
        self.entrance.0.end();
    }

    /// Whether it is the node's worker who calls.
    ///
    /// # Errors
    ///
    /// What whoever is not is answered.
    pub(crate) fn check(
        &self,
        node: NodeNumber,
        incarnation: Incarnation,
    ) -> Result<(), Refused> {
        self.known.borrow().as_deref().ok_or(Refused::NoPlan)?.check(node, incarnation)
    }

    /// Whether `is_right` says so of the name of a node; nobody is refused before there are names.
    ///
    /// # Errors
    ///
    /// What `is_right` says.
    pub(crate) fn is_for(
        &self,
        node: NodeNumber,
        is_right: impl Fn(&str) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let known = self.known.borrow();
        let Some(known) = known.as_deref() else { return Ok(()) };
        if node.index() >= known.workers.len() {
            return Ok(());
        }
        is_right(known.plan.inventory().node_name(node))
    }

    async fn ask_at<T, L>(&self, place: Place, look: L) -> Result<T, Refused>
    where
        T: Send + 'static,
        L: FnOnce(&Rollout, Timestamp) -> Result<T, Refused> + Send + 'static,
    {
        let answer = self.send(place, ANSWER_WAIT_MAX, |to: To<T>| {
            Message::Ask(Box::new(move |rollout, now| {
                if to.is_closed() {
                    // Nobody waits for it any more.
                    return Box::new(|| ());
                }
                let answer = rollout.ok_or(Refused::NoPlan).and_then(|r| look(r, now));
                Box::new(move || drop(to.send(answer)))
            }))
        });
        answer.await?
    }

    async fn send<T>(
        &self,
        place: Place,
        wait_max: Duration,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Refused> {
        let (to, answer) = oneshot::channel();
        self.entrance.0.put(place.lane, place.node, message(to))?;
        match tokio::time::timeout(wait_max, answer).await {
            Ok(answer) => answer.map_err(|_| Refused::Stopping),
            Err(_) => Err(Refused::Busy),
        }
    }
}

/// Where a message waits.
#[derive(Clone, Copy)]
struct Place {
    lane: Lane,
    node: Option<NodeNumber>,
}
