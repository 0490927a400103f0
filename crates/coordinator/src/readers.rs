//! Serves readers: how far the rollout is.
//!
//! # Invariants
//!
//! * Nothing here changes anything.
//! * Every page and every look at the rollout is bounded, so that no reader slows a decision.
//! * A watcher gets the newest view, never a backlog.

mod lists;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::mailbox::Level;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{MailboxStatus, Rollout, RungStatus};
use tidegate_core::time::Timestamp;
use tidegate_wire::protocol::timestamp;
use tidegate_wire::v1;
use tidegate_wire::v1::progress_service_server::ProgressService;
use tidegate_wire::worker::NodeNotice;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::exchangers::Queues;
use crate::owner::{Inbox, Views, unknown};
use crate::refused::Refused;
use crate::view::{self, View};

/// At most five answers a second to each watcher.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

/// Without news a watcher hears this often that it is still watching.
const WATCH_SILENCE_MAX: Duration = Duration::from_secs(1);

/// Dashboards and terminals of a whole provider.
const WATCHERS_MAX: usize = 1_000;

/// Serves the readers' contract.
pub(crate) struct Readers {
    inbox: Inbox,
    views: Views,
    stopping: watch::Receiver<bool>,
    watchers: Arc<Semaphore>,
    queues: Queues,
}

impl Readers {
    /// The service that shows `views` and `queues` and asks `inbox`, until `stopping` says so.
    pub(crate) fn new(
        inbox: Inbox,
        views: Views,
        stopping: watch::Receiver<bool>,
        queues: Queues,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        Self { inbox, views, stopping, watchers, queues }
    }
}

#[tonic::async_trait]
impl ProgressService for Readers {
    type WatchRolloutStream = ReceiverStream<Result<v1::Rollout, Status>>;

    async fn get_rollout(
        &self,
        _request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let view = self.views.borrow().clone();
        let view = view.ok_or_else(no_rollout)?;
        Ok(Response::new(rollout(&view, &self.queues)))
    }

    async fn watch_rollout(
        &self,
        _request: Request<v1::WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        if self.views.borrow().is_none() {
            return Err(no_rollout());
        }
        let place = Arc::clone(&self.watchers).try_acquire_owned();
        let place = place.map_err(|_| Refused::TooManyWatchers { max: WATCHERS_MAX })?;
        let (to, messages) = mpsc::channel(1);
        let watcher = Watcher {
            views: self.views.clone(),
            stopping: self.stopping.clone(),
            queues: self.queues.clone(),
            to,
            _place: place,
        };
        tokio::spawn(watcher.run());
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn get_mailbox(
        &self,
        request: Request<v1::GetMailboxRequest>,
    ) -> Result<Response<v1::Mailbox>, Status> {
        let address = request.into_inner().address;
        let look = move |rollout: &Rollout, now| {
            let found = rollout.plan().inventory().find(&address);
            let found =
                found.ok_or_else(|| unknown("mailbox", &address, [] as [&str; 0]))?;
            Ok(mailbox(rollout.plan(), &rollout.mailbox_status(found, now)))
        };
        Ok(Response::new(self.inbox.ask(look).await?))
    }

    async fn list_mailboxes(
        &self,
        request: Request<v1::ListMailboxesRequest>,
    ) -> Result<Response<v1::ListMailboxesResponse>, Status> {
        let wanted = lists::WantedMailboxes::try_from(request.into_inner())?;
        let look = move |rollout: &Rollout, now: Timestamp| wanted.page(rollout, now);
        Ok(Response::new(self.inbox.ask(look).await?))
    }

    async fn list_findings(
        &self,
        request: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        let wanted = lists::WantedFindings::try_from(request.into_inner())?;
        let look = move |rollout: &Rollout, _| wanted.page(rollout);
        Ok(Response::new(self.inbox.ask(look).await?))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let page = lists::Page::try_from(request.into_inner())?;
        let look = move |rollout: &Rollout, _| Ok(lists::events(rollout, &page));
        Ok(Response::new(self.inbox.ask(look).await?))
    }
}

fn no_rollout() -> Status {
    Refused::NoPlan.status(Code::NotFound)
}

/// The rollout as readers get it.
fn rollout(view: &View, queues: &Queues) -> v1::Rollout {
    let mut rollout = view.message();
    queues.show_in(&mut rollout, Instant::now());
    rollout
}

/// One mailbox as readers get it.
fn mailbox(plan: &Plan, status: &MailboxStatus) -> v1::Mailbox {
    let row = plan.inventory().row(status.mailbox);
    let exclusion = plan.exclusion(status.mailbox).map(|why| plan.reason(why).to_owned());
    let wave = status.wave.and_then(|wave| plan.waves().get(wave.index()));
    v1::Mailbox {
        address: row.address.to_owned(),
        node: row.node.to_owned(),
        tier: row.tier.to_owned(),
        path: row.path.to_owned(),
        wave: wave.map_or_else(String::new, |wave| wave.name.clone()),
        excluded: exclusion.unwrap_or_default(),
        preparation: lists::preparation(status.state.preparation).into(),
        level: u32::from(status.state.level.get()),
        services: services(plan, status.state.level),
        health: lists::health(status.state.health).into(),
        why: status.why.iter().map(|why| view::why(why, plan)).collect(),
        findings: status.findings.iter().cloned().map(v1::Finding::from).collect(),
        rungs: rungs(plan, &status.rungs),
        dial_tone: status.dial_tone_since.is_some(),
        closing: status.closing,
        dial_tone_time: status.dial_tone_since.map(timestamp),
        dial_services: plan.policy().dial_services().to_vec(),
        notice: Some(notice(plan, status)),
        expected: wave.and_then(|wave| wave.expected).map(v1::Window::from),
    }
}

/// How the mailbox's user is told to wait.
fn notice(plan: &Plan, status: &MailboxStatus) -> v1::Notice {
    let NodeNotice { language, zone } = NodeNotice::of(&plan.policy().notice);
    let language = plan.language(status.mailbox).unwrap_or(language);
    NodeNotice { language, zone }.into()
}

/// What of the ladder works.
fn rungs(plan: &Plan, states: &[RungStatus]) -> Vec<v1::MailboxRung> {
    let rungs = plan.policy().ladder.iter().zip(states).map(|(rung, status)| {
        let (state, time) = match status {
            RungStatus::Open(since) => (v1::RungState::Open, Some(*since)),
            RungStatus::Opening(since) => (v1::RungState::Opening, Some(*since)),
            RungStatus::Scheduled(due) => (v1::RungState::Scheduled, Some(*due)),
            RungStatus::Held => (v1::RungState::Held, None),
        };
        v1::MailboxRung {
            name: rung.name.clone(),
            services: rung.services.clone(),
            state: state.into(),
            time: time.map(timestamp),
        }
    });
    rungs.collect()
}

/// What works on `level`: its rung's services and those below.
fn services(plan: &Plan, level: Level) -> Vec<String> {
    let rungs = plan.policy().ladder.iter().take(level.index());
    rungs.flat_map(|rung| rung.services.iter().cloned()).collect()
}

/// Follows the views for one reader.
struct Watcher {
    views: Views,
    stopping: watch::Receiver<bool>,
    queues: Queues,
    to: mpsc::Sender<Result<v1::Rollout, Status>>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    async fn run(mut self) {
        let mut told = v1::Rollout::default();
        let mut silent_since = tokio::time::Instant::now();
        loop {
            let Some(view) = self.views.borrow_and_update().clone() else { return };
            let news = rollout(&view, &self.queues);
            let is_news = v1::Rollout { at_time: told.at_time, ..news.clone() } != told;
            if is_news || silent_since.elapsed() >= WATCH_SILENCE_MAX {
                told = news.clone();
                silent_since = tokio::time::Instant::now();
                if self.to.send(Ok(news)).await.is_err() || view.is_over() {
                    return;
                }
            }
            // Cancel-safe, all of them: each only waits for a state.
            tokio::select! {
                () = self.to.closed() => return,
                _ = self.stopping.wait_for(|stopping| *stopping) => break,
                () = next(&mut self.views) => {}
            }
        }
        // A reader that has left needs no farewell.
        drop(self.to.try_send(Err(Refused::Stopping.into())));
    }
}

/// Waits until there may be a newer view, but not less than a watcher's pause.
async fn next(views: &mut Views) {
    tokio::time::sleep(WATCH_PAUSE).await;
    // An owner that has ended is followed by `stopping`.
    if views.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
