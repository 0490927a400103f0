//! Serves readers: how far the rollout is.
//!
//! # Invariants
//!
//! * Nothing here changes anything.
//! * What is asked most is answered from the view and the states, without the owner. Every page
//!   and every look at the rollout is bounded, so that no reader slows a decision.
//! * A watcher gets the newest view, never a backlog; one that does not read is told and cut.

mod lists;
mod tiers;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::fleet::MailboxNumber;
use tidegate_core::mailbox::Level;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{MailboxStatus, Rollout, RungStatus};
use tidegate_wire::protocol::timestamp;
use tidegate_wire::v1;
use tidegate_wire::v1::progress_service_server::ProgressService;
use tidegate_wire::worker::NodeNotice;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status};

use crate::auditing::Audit;
use crate::caller::Caller;
use crate::exchangers::Queues;
use crate::identity::Identity;
use crate::owner::{Inbox, Views};
use crate::refused::Refused;
use crate::serve::Peer;
use crate::states::Seen;
use crate::view::{self, View};

/// At most five answers a second to each watcher, while there are few.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

/// With more watchers than this each gets fewer answers, so that all together cost no more.
const WATCHERS_FEW: usize = 200;

/// Without news a watcher hears this often that it is still watching.
const WATCH_SILENCE_MAX: Duration = Duration::from_secs(1);

/// A watcher that takes nothing for so long is told that it is too slow, and is watched for
/// no longer.
const WATCHER_READS_WITHIN: Duration = Duration::from_secs(10);

/// One that has not even taken that by then is cut.
const WATCHER_GOES_WITHIN: Duration = Duration::from_secs(20);

/// Dashboards and terminals of a whole provider.
const WATCHERS_MAX: usize = 1_000;

/// Mailboxes that the owner is asked about at once: a fraction of a millisecond of its time.
const ASKED_TOGETHER_MAX: usize = 100;

/// Searches of readers that may take processors at the same time; others wait.
const SEARCHES_MAX: usize = 2;

/// How a look at one mailbox is called on the audit log, and how it ends.
const LOOK: &str = "look-up";
const SHOWN: &str = "shown";

/// Serves the readers' contract.
pub struct Readers {
    inbox: Inbox,
    views: Views,
    stopping: watch::Receiver<bool>,
    watchers: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    show: Arc<Show>,
    audit: Audit,
    identity: Identity,
}

impl Readers {
    /// The service that shows `views` and asks `inbox`, until `stopping` says so.
    pub(crate) fn new(
        inbox: Inbox,
        views: Views,
        (stopping, audit): (watch::Receiver<bool>, Audit),
        show: Arc<Show>,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(WATCHERS_MAX));
        let searches = Arc::new(Semaphore::new(SEARCHES_MAX));
        let identity = Identity::none();
        Self { inbox, views, stopping, watchers, searches, show, audit, identity }
    }

    /// The same in the data directory that is told apart so.
    pub(crate) fn of(self, identity: Identity) -> Self {
        Self { identity, ..self }
    }

    /// There is none; and whoever goes on asking until there is one learns that it is ending.
    fn no_rollout(&self) -> Status {
        if *self.stopping.borrow() {
            return Refused::Stopping.into();
        }
        Refused::NoPlan.status(Code::NotFound)
    }

    fn view(&self) -> Result<Arc<View>, Refused> {
        self.views.borrow().clone().ok_or(Refused::NoPlan)
    }

    /// Writes down that somebody lists something, at its first page.
    fn list(&self, caller: &Caller, what: &str, page: &str) -> Result<(), Refused> {
        if page.is_empty() {
            self.audit.note(caller, ("list", what), SHOWN)
        } else {
            Ok(())
        }
    }

    /// What is known of this one. The owner is asked only where a state is not all of it.
    async fn tell_one(
        &self,
        view: &View,
        number: MailboxNumber,
    ) -> Result<v1::Mailbox, Refused> {
        let Seen { state, plain } = view.seen(number);
        let status = if plain {
            view.plain(number, state)
        } else {
            let look =
                move |rollout: &Rollout, now| Ok(rollout.mailbox_status(number, now));
            self.inbox.ask(look).await?
        };
        Ok(mailbox(view.plan(), &status))
    }

    /// What is known of each of these. The owner is asked only where a state is not all of it.
    async fn tell(
        &self,
        view: &View,
        mailboxes: Vec<MailboxNumber>,
    ) -> Result<Vec<v1::Mailbox>, Refused> {
        let seen: Vec<Seen> = mailboxes.iter().map(|it| view.seen(*it)).collect();
        let rest = mailboxes.iter().zip(&seen).filter(|(_, seen)| !seen.plain);
        let rest: Vec<MailboxNumber> = rest.map(|(mailbox, _)| *mailbox).collect();
        let mut known = Vec::with_capacity(rest.len());
        for some in rest.chunks(ASKED_TOGETHER_MAX).map(<[MailboxNumber]>::to_vec) {
            let look = move |rollout: &Rollout, now| {
                let outlook = rollout.outlook(now);
                let known = some.iter().map(|it| outlook.status(*it, rollout.known(*it)));
                Ok(known.collect::<Vec<_>>())
            };
            known.extend(self.inbox.ask(look).await?);
        }
        let mut known = known.into_iter();
        let told = mailboxes.into_iter().zip(seen).filter_map(|(number, seen)| {
            let status =
                if seen.plain { view.plain(number, seen.state) } else { known.next()? };
            Some(mailbox(view.plan(), &status))
        });
        Ok(told.collect())
    }
}

#[tonic::async_trait]
impl ProgressService for Readers {
    type WatchRolloutStream = Answers;

    async fn get_rollout(
        &self,
        _request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::Rollout>, Status> {
        let view = self.views.borrow().clone();
        let view = view.ok_or_else(|| self.no_rollout())?;
        Ok(Response::new(self.show.rollout(&view).as_ref().clone()))
    }

    async fn watch_rollout(
        &self,
        request: Request<v1::WatchRolloutRequest>,
    ) -> Result<Response<Self::WatchRolloutStream>, Status> {
        if self.views.borrow().is_none() {
            return Err(self.no_rollout());
        }
        let place = Arc::clone(&self.watchers).try_acquire_owned();
        let place = place.map_err(|_| Refused::TooManyWatchers { max: WATCHERS_MAX })?;
        let (to, messages) = mpsc::channel(PARTS_MAX);
        let watcher = Watcher {
            views: self.views.clone(),
            stopping: self.stopping.clone(),
            show: Arc::clone(&self.show),
            peer: request.extensions().get::<Peer>().cloned(),
            to,
            watchers: Arc::clone(&self.watchers),
            _place: place,
        };
        tokio::spawn(watcher.run());
        Ok(Response::new(Box::new(ReceiverStream::new(messages).map(told))))
    }

    async fn get_mailbox(
        &self,
        request: Request<v1::GetMailboxRequest>,
    ) -> Result<Response<v1::Mailbox>, Status> {
        let view = self.view()?;
        let caller = Caller::of(&request);
        let address = request.into_inner().address;
        // Whoever asks for somebody who is not there is written down as well.
        let about = self.audit.pseudonym(&address);
        self.audit.note(&caller, (LOOK, &about), SHOWN)?;
        let found = view.plan().inventory().find(&address);
        let found = found.ok_or(Refused::UnknownMailbox)?;
        Ok(Response::new(self.tell_one(&view, found).await?))
    }

    async fn list_mailboxes(
        &self,
        request: Request<v1::ListMailboxesRequest>,
    ) -> Result<Response<v1::ListMailboxesResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.list(&caller, "mailboxes", &request.page_token)?;
        let wanted = lists::WantedMailboxes::try_from(request)?;
        let view = self.view()?;
        let turn = Arc::clone(&self.searches).acquire_owned().await;
        let shared = Arc::clone(&view);
        // Looking through millions keeps a thread busy: one that serves nobody else.
        let search = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            wanted.search(&shared)
        });
        let lists::Found { mailboxes, next } =
            search.await.map_err(|_| Refused::Stopping)??;
        Ok(Response::new(v1::ListMailboxesResponse {
            mailboxes: self.tell(&view, mailboxes).await?,
            next_page_token: next.map_or_else(String::new, |next| next.to_string()),
        }))
    }

    async fn list_findings(
        &self,
        request: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.list(&caller, "findings", &request.page_token)?;
        let wanted = lists::WantedFindings::try_from(request)?;
        let plan = Arc::clone(self.view()?.plan());
        let look = move |rollout: &Rollout, _| wanted.look(rollout);
        let found = self.inbox.ask(look).await?;
        Ok(Response::new(found.told(&plan)))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let page = lists::Page::try_from(request.into_inner())?;
        let plan = Arc::clone(self.view()?.plan());
        let look = move |rollout: &Rollout, _| Ok(lists::Story::of(rollout, &page));
        let story = self.inbox.ask(look).await?;
        Ok(Response::new(story.told(&plan)))
    }

    async fn list_tiers(
        &self,
        _request: Request<v1::ListTiersRequest>,
    ) -> Result<Response<v1::ListTiersResponse>, Status> {
        let view = self.view()?;
        let turn = Arc::clone(&self.searches).acquire_owned().await;
        // As for lists: every mailbox is looked at.
        let count = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            tiers::tiers(view.plan(), view.states())
        });
        Ok(Response::new(count.await.map_err(|_| Refused::Stopping)?))
    }

    async fn get_plan(
        &self,
        _request: Request<v1::GetPlanRequest>,
    ) -> Result<Response<v1::GetPlanResponse>, Status> {
        let view = self.views.borrow().clone();
        let seen = self.identity.seen(view.as_deref());
        let Some(view) = view else {
            let waiting = self.inbox.starting().iter().map(view::starts).collect();
            let plan = None;
            return Ok(Response::new(v1::GetPlanResponse { seen, plan, waiting }));
        };
        let turn = Arc::clone(&self.searches).acquire_owned().await;
        // As for lists: every mailbox is looked at.
        let brief = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            v1::PlanSummary::from(&view.plan().summary())
        });
        let plan = Some(brief.await.map_err(|_| Refused::Stopping)?);
        Ok(Response::new(v1::GetPlanResponse { seen, plan, waiting: Vec::new() }))
    }
}

/// One answer on its way to a watcher, and its farewell.
const PARTS_MAX: usize = 2;

/// Answers to a watcher; each is made when it can be sent.
type Answers = Box<dyn Stream<Item = Result<v1::Rollout, Status>> + Send + Unpin>;

fn told(news: Result<Arc<v1::Rollout>, Refused>) -> Result<v1::Rollout, Status> {
    Ok(news?.as_ref().clone())
}

/// What all watchers are shown, made once for all of them.
pub(crate) struct Show {
    queues: Queues,
    newest: Mutex<Option<Made>>,
}

struct Made {
    of: Arc<View>,
    at: Instant,
    shown: Shown,
}

/// The rollout as readers get it.
#[derive(Clone)]
struct Shown {
    rollout: Arc<v1::Rollout>,
    /// Rises when more than the time has changed.
    news: u64,
}

impl Show {
    /// Shows `queues` beside the view.
    pub(crate) fn new(queues: Queues) -> Self {
        Self { queues, newest: Mutex::default() }
    }

    /// The rollout as readers get it.
    pub(crate) fn rollout(&self, view: &Arc<View>) -> Arc<v1::Rollout> {
        self.shown(view).rollout
    }

    fn shown(&self, view: &Arc<View>) -> Shown {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(made) = newest.as_ref()
            && Arc::ptr_eq(&made.of, view)
            && now.duration_since(made.at) < WATCH_PAUSE
        {
            return made.shown.clone();
        }
        let mut rollout = view.message();
        self.queues.show_in(&mut rollout, now);
        let before = newest.as_ref().map(|made| &made.shown);
        let news = before.map_or(1, |before| {
            before.news + u64::from(is_news(&mut rollout, &before.rollout))
        });
        let shown = Shown { rollout: Arc::new(rollout), news };
        *newest = Some(Made { of: Arc::clone(view), at: now, shown: shown.clone() });
        shown
    }
}

/// One mailbox as readers get it.
pub(crate) fn mailbox(plan: &Plan, status: &MailboxStatus) -> v1::Mailbox {
    let inventory = plan.inventory();
    let number = status.mailbox;
    let exclusion = plan.exclusion(status.mailbox).map(|why| plan.reason(why).to_owned());
    let wave = status.wave.and_then(|wave| plan.waves().get(wave.index()));
    v1::Mailbox {
        address: inventory.address(number).to_owned(),
        node: inventory.node_name(inventory.node(number)).to_owned(),
        tier: inventory.tier_name(inventory.tier(number)).to_owned(),
        path: inventory.path(number),
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

/// How users are told to wait of whom nothing else is known.
pub(crate) fn default_notice(plan: &Plan) -> v1::Notice {
    NodeNotice::of(&plan.policy().notice).into()
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
    show: Arc<Show>,
    peer: Option<Peer>,
    to: mpsc::Sender<Result<Arc<v1::Rollout>, Refused>>,
    watchers: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    async fn run(mut self) {
        // Kept free for the farewell.
        let Ok(farewell) = self.to.clone().reserve_owned().await else { return };
        let mut told = 0;
        let mut silent_since = tokio::time::Instant::now();
        loop {
            let Some(view) = self.views.borrow_and_update().clone() else { return };
            let Shown { rollout, news } = self.show.shown(&view);
            if news != told || silent_since.elapsed() >= WATCH_SILENCE_MAX {
                told = news;
                silent_since = tokio::time::Instant::now();
                match timeout(WATCHER_READS_WITHIN, self.to.send(Ok(rollout))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => {
                        farewell.send(Err(Refused::TooSlow));
                        return self.let_go().await;
                    }
                }
                if view.is_over() {
                    return;
                }
            }
            // Cancel-safe, all of them: each only waits for a state.
            tokio::select! {
                () = self.to.closed() => return,
                _ = self.stopping.wait_for(|stopping| *stopping) => break,
                () = next(&mut self.views, pause(&self.watchers)) => {}
            }
        }
        // A reader that has left needs no farewell.
        farewell.send(Err(Refused::Stopping));
    }

    /// Waits a little for a reader that was told to go, then cuts its connection: nothing else
    /// ends an answer that is not taken.
    async fn let_go(self) {
        let left = timeout(WATCHER_GOES_WITHIN, self.to.closed()).await;
        if left.is_err() {
            tracing::warn!("a watcher that reads nothing was cut");
            if let Some(peer) = self.peer {
                peer.cut();
            }
        }
    }
}

/// Whether more than the time has changed.
fn is_news(now: &mut v1::Rollout, before: &v1::Rollout) -> bool {
    let at = std::mem::replace(&mut now.at_time, before.at_time);
    let is_news = now != before;
    now.at_time = at;
    is_news
}

/// How long a watcher rests after an answer: the longer, the more of them there are.
fn pause(watchers: &Semaphore) -> Duration {
    let watching = WATCHERS_MAX.saturating_sub(watchers.available_permits());
    let times = u32::try_from(watching.div_ceil(WATCHERS_FEW)).unwrap_or(u32::MAX);
    WATCH_PAUSE.saturating_mul(times.max(1))
}

/// Waits until there may be a newer view, but not less than a watcher's pause. Where many rest
/// longer there is one by then: whoever owns the rollout shall not have to wake them all.
async fn next(views: &mut Views, pause: Duration) {
    tokio::time::sleep(pause).await;
    if pause > WATCH_PAUSE {
        return;
    }
    // An owner that has ended is followed by `stopping`.
    if views.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
