//! Serves workers: join, sync, fetch a job.
//!
//! # Invariants
//!
//! * An answer leaves only after everything it says is durable.
//! * A worker speaks for the node that its certificate names, and for no other.
//! * A job is described only to the worker that holds it.

use std::sync::Arc;

use tidegate_core::fleet::JobNumber;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Refusal, Rollout, Sync};
use tidegate_wire::limits::JOB_MAILBOXES_PER_MESSAGE;
use tidegate_wire::v1;
use tidegate_wire::v1::worker_service_server::WorkerService;
use tidegate_wire::worker::{Fetch, JobMailbox, JobPart, Joining};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tracing::Span;

use crate::caller::Caller;
use crate::owner::Inbox;
use crate::refused::Refused;
use crate::serve::Peer;

/// Serves the workers' contract.
pub(crate) struct Workers {
    inbox: Inbox,
}

impl Workers {
    /// The service that hands everything to `inbox`.
    pub(crate) fn new(inbox: Inbox) -> Self {
        Self { inbox }
    }
}

type Described =
    Box<dyn Stream<Item = Result<v1::FetchJobResponse, Status>> + Send + Unpin>;

#[tonic::async_trait]
impl WorkerService for Workers {
    type FetchJobStream = Described;

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let caller = Caller::of(&request);
        let joining = Joining::try_from(request.into_inner())?;
        caller.works_for(&joining.join.node)?;
        let joined = self.inbox.join(joining).await?;
        Ok(Response::new(joined.into()))
    }

    async fn sync(
        &self,
        request: Request<v1::SyncRequest>,
    ) -> Result<Response<v1::SyncResponse>, Status> {
        let (peer, caller) =
            (request.extensions().get::<Peer>().cloned(), Caller::of(&request));
        let sync = Sync::try_from(request.into_inner())?;
        let (node, obeyed) = (sync.node, sync.orders_obeyed);
        Span::current().record("node_id", node.get());
        self.inbox.is_for(node, |name| caller.works_for(name))?;
        let orders = self.inbox.sync(sync).await?;
        if let Some(peer) = peer {
            peer.is_worker_of(node);
        }
        let origin = self.inbox.origin.of_orders(orders.version, obeyed);
        let mut answer = Response::new(orders.into());
        if let Some(origin) = origin {
            origin.tell(answer.metadata_mut());
        }
        Ok(answer)
    }

    async fn fetch_job(
        &self,
        request: Request<v1::FetchJobRequest>,
    ) -> Result<Response<Described>, Status> {
        let caller = Caller::of(&request);
        let fetch = Fetch::try_from(request.into_inner())?;
        self.inbox.is_for(fetch.node, |name| caller.works_for(name))?;
        Span::current().record("node_id", fetch.node.get());
        Span::current().record("job_id", fetch.job.get());
        let look = move |rollout: &Rollout, _| plan_of_holder(rollout, fetch);
        let who = (fetch.node, fetch.incarnation);
        let plan = self.inbox.ask_for(who, look).await?;
        let parts = description(plan, fetch.job);
        Ok(Response::new(Box::new(tokio_stream::iter(parts))))
    }
}

/// The plan, for the worker that holds the job it asks for.
fn plan_of_holder(rollout: &Rollout, fetch: Fetch) -> Result<Arc<Plan>, Refused> {
    if rollout.worker_of(fetch.node) != Some(fetch.incarnation) {
        let node = rollout.plan().inventory().node_name(fetch.node).to_owned();
        let incarnation = fetch.incarnation;
        return Err(Refusal::NotTheWorker { node, incarnation }.into());
    }
    if !rollout.is_held(fetch.node, fetch.job) {
        return Err(Refused::NotItsJob { job: fetch.job });
    }
    Ok(Arc::clone(rollout.plan()))
}

/// The job's mailboxes in parts, each made when it is sent.
fn description(
    plan: Arc<Plan>,
    job: JobNumber,
) -> impl Iterator<Item = Result<v1::FetchJobResponse, Status>> + Send {
    let wave = plan.jobs().get(job.index()).map(|job| job.wave);
    let wave = wave.and_then(|wave| plan.waves().get(wave.index()));
    let expected = wave.and_then(|wave| wave.expected);
    let parts = plan.members(job).len().div_ceil(JOB_MAILBOXES_PER_MESSAGE);
    (0..parts).map(move |part| {
        let members = plan.members(job).chunks(JOB_MAILBOXES_PER_MESSAGE).nth(part);
        let mailboxes = members.unwrap_or_default().iter().map(|number| {
            let inventory = plan.inventory();
            let address = inventory.address(*number).to_owned();
            let path = inventory.path(*number);
            let language = plan.language(*number);
            JobMailbox { number: *number, address, path, language }
        });
        Ok(JobPart { mailboxes: mailboxes.collect(), expected }.into())
    })
}
