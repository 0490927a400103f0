//! Driven: a coordinator that somebody else turns, with time, journal and connections of his.
//!
//! Requests go through the very services, inbox and owner that a running coordinator has; only
//! nobody listens, no thread runs, and nothing waits.
//!
//! # Invariants
//!
//! * An answer is there only after the turn that made everything it says durable.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidegate_core::fleet::MailboxNumber;
use tidegate_core::mailbox::MailboxState;
use tidegate_core::rollout::Rollout;
use tidegate_core::time::{TimeSource, Timestamp};
use tidegate_journal::{AppendError, Log};
use tidegate_wire::v1;
use tidegate_wire::v1::operator_service_server::OperatorService;
use tidegate_wire::v1::worker_service_server::WorkerService;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status};

use crate::auditing::Audit;
use crate::exchangers::Queues;
use crate::operators::Operators;
use crate::owner::{Inbox, Owner, Views};
use crate::past;
use crate::workers::Workers;
use tidegate_clock::Clock;

pub use crate::owner::Proposal;
pub use crate::past::Plans;
pub use crate::plan_files::{FileKind, PlanFileError};

/// A coordinator that somebody else turns.
pub struct Driven {
    owner: Owner,
    inbox: Inbox,
    workers: Arc<Workers>,
    operators: Arc<Operators>,
    views: Views,
}

/// What readers are shown of one mailbox, beside the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownOf {
    /// Its state.
    pub state: MailboxState,
    /// Whether that is all there is to say of it.
    pub plain: bool,
    /// Whether exchangers are told that mail may be handed to it.
    pub receives: bool,
}

/// A request on its way.
pub struct Call<T>(Pin<Box<dyn Future<Output = Result<T, Status>>>>);

impl<T: 'static> Call<T> {
    fn new(future: impl Future<Output = Result<T, Status>> + 'static) -> Self {
        let mut call = Self(Box::pin(future));
        // The first poll hands it to the owner; it cannot have an answer yet, unless it is
        // refused at the border.
        match call.poll() {
            Poll::Ready(answer) => Self(Box::pin(std::future::ready(answer))),
            Poll::Pending => call,
        }
    }

    /// The answer, if there is one by now.
    pub fn poll(&mut self) -> Poll<Result<T, Status>> {
        self.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl Driven {
    /// What `journal` has left, on a clock made from `time`.
    ///
    /// Calls need the context of a Tokio runtime with a timer, which is never run.
    ///
    /// # Errors
    ///
    /// Whatever cannot be trusted, as when a coordinator starts.
    pub fn recover(
        journal: Box<dyn Log>,
        plans: Box<dyn Plans>,
        time: Arc<dyn TimeSource>,
    ) -> anyhow::Result<Self> {
        let past = past::replay(journal, plans, Clock::of(time))?;
        let (owner, inbox, views) = Owner::new(past, Queues::default());
        let workers = Arc::new(Workers::new(inbox.clone()));
        let operators =
            Arc::new(Operators::new(inbox.clone(), views.clone(), Audit::none()));
        Ok(Self { owner, inbox, workers, operators, views })
    }

    /// Takes up all that has come in, as the owner's thread does.
    ///
    /// # Errors
    ///
    /// The journal's; nobody has heard of what could not be recorded, and the program ends.
    pub fn turn(&mut self) -> Result<(), AppendError> {
        while let Some(first) = self.owner.waiting() {
            self.owner.turn(first)?;
        }
        Ok(())
    }

    /// The rollout, for whoever checks it.
    pub fn rollout(&self) -> Option<&Rollout> {
        self.owner.rollout()
    }

    /// What its clock shows, for whoever checks it.
    pub fn now(&self) -> Timestamp {
        self.owner.now()
    }

    /// What readers are shown; nothing before a plan was applied.
    pub fn shown(&self) -> Option<v1::Rollout> {
        self.views.borrow().as_ref().map(|view| view.message())
    }

    /// What readers are shown of one mailbox. Nothing before a plan was applied.
    pub fn shown_of(&self, mailbox: MailboxNumber) -> Option<ShownOf> {
        let view = self.views.borrow();
        let view = view.as_ref()?;
        let seen = view.seen(mailbox);
        let receives = view.receiving().has(mailbox);
        Some(ShownOf { state: seen.state, plain: seen.plain, receives })
    }

    /// Says that time has passed.
    pub fn tick(&self) {
        self.inbox.tick();
    }

    /// An operator applies a plan.
    pub fn apply(&self, plan: Proposal) -> Call<()> {
        let inbox = self.inbox.clone();
        Call::new(async move {
            inbox.apply(plan).await?;
            Ok(())
        })
    }

    /// A worker asks to take up its node.
    pub fn join(&self, request: v1::JoinRequest) -> Call<v1::JoinResponse> {
        let service = Arc::clone(&self.workers);
        Call::new(async move { message(service.join(Request::new(request)).await) })
    }

    /// A worker reports.
    pub fn sync(&self, request: v1::SyncRequest) -> Call<v1::SyncResponse> {
        let service = Arc::clone(&self.workers);
        Call::new(async move { message(service.sync(Request::new(request)).await) })
    }

    /// A worker fetches a job, in parts.
    pub fn fetch(&self, request: v1::FetchJobRequest) -> Call<Vec<v1::FetchJobResponse>> {
        let service = Arc::clone(&self.workers);
        Call::new(async move {
            let parts = service.fetch_job(Request::new(request)).await?.into_inner();
            let parts: Vec<Result<v1::FetchJobResponse, Status>> = parts.collect().await;
            parts.into_iter().collect()
        })
    }

    /// An operator pauses.
    pub fn pause(&self, request: v1::PauseRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.pause(Request::new(request)).await) })
    }

    /// An operator freezes.
    pub fn freeze(&self, request: v1::FreezeRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.freeze(Request::new(request)).await) })
    }

    /// An operator thaws.
    pub fn thaw(&self, request: v1::ThawRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.thaw(Request::new(request)).await) })
    }

    /// An operator resumes.
    pub fn resume(&self, request: v1::ResumeRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.resume(Request::new(request)).await) })
    }

    /// An operator ends the rollout.
    pub fn abort(&self, request: v1::AbortRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.abort(Request::new(request)).await) })
    }

    /// An operator puts mailboxes back.
    pub fn reclose(&self, request: v1::RecloseRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.reclose(Request::new(request)).await) })
    }
}

impl Driven {
    /// An operator has a mailbox tried again that was set aside.
    pub fn retry(&self, request: v1::RetryRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.retry(Request::new(request)).await) })
    }

    /// An operator lets a worker back in.
    pub fn accept(&self, request: v1::AcceptRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.accept(Request::new(request)).await) })
    }

    /// An operator puts waves under the emergency profile.
    pub fn begin_emergency(
        &self,
        request: v1::BeginEmergencyRequest,
    ) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(
            async move { message(service.begin_emergency(Request::new(request)).await) },
        )
    }

    /// An operator lets a wave pass that its gate holds.
    pub fn expand(&self, request: v1::ExpandRequest) -> Call<v1::ActionResponse> {
        let service = Arc::clone(&self.operators);
        Call::new(async move { message(service.expand(Request::new(request)).await) })
    }
}

fn message<T>(answer: Result<Response<T>, Status>) -> Result<T, Status> {
    answer.map(Response::into_inner)
}
