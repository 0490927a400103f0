//! Serves exchangers: who there is, who takes mail now, and what waits in their queues.
//!
//! # Invariants
//!
//! * A watcher compares what it was told with what is so now: it gets the newest state,
//!   never a backlog, and however slowly it reads, it holds up nobody but itself.
//! * Everything told is durable.
//! * While nodes tell what they hold, nobody is told who takes mail: exchangers go by what
//!   they were told last, as they do without a coordinator.

mod age;
mod drain;
mod known;
mod queues;
mod receiving;

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::plan::Plan;
use tidegate_wire::exchanger::{
    DirectoryHead, DoorChanges, QueueReport, Storage, Told, Watching,
};
use tidegate_wire::limits::{
    DIRECTORY_ROWS_PER_MESSAGE, DOOR_BYTES_PER_MESSAGE, DOOR_CHANGES_PER_MESSAGE,
};
use tidegate_wire::v1;
use tidegate_wire::v1::exchanger_service_server::ExchangerService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::caller::Caller;
use crate::owner::Views;
use crate::refused::Refused;
use crate::serve::Peer;
use crate::view::View;
pub(crate) use age::QueueAge;
pub(crate) use drain::Drain;
pub(crate) use queues::Queues;
pub(crate) use receiving::Receiving;

/// Mail exchangers of a whole provider. Each costs a bit per mailbox.
const EXCHANGERS_MAX: usize = 256;

/// How often a watcher looks for changes: an opening shall be felt within a second.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Without changes an exchanger hears this often that it is still told everything.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// An exchanger that takes nothing for so long is cut; it goes by what it was told, and asks
/// again.
const READS_WITHIN: Duration = Duration::from_secs(30);

/// Parts on their way to a watcher: one is sent while the next is made. Each has a few hundred
/// kilobytes, and nobody knows that it will be read.
const PARTS_MAX: usize = 2;

/// Serves the exchangers' contract.
pub(crate) struct Exchangers {
    views: Views,
    stopping: watch::Receiver<bool>,
    queues: Queues,
    watchers: Arc<Semaphore>,
}

impl Exchangers {
    /// The service that shows `views` and fills `queues`, until `stopping` says so.
    pub(crate) fn new(
        views: Views,
        stopping: watch::Receiver<bool>,
        queues: Queues,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(EXCHANGERS_MAX));
        Self { views, stopping, queues, watchers }
    }

    fn view(&self) -> Result<Arc<View>, Refused> {
        self.views.borrow().clone().ok_or(Refused::NoPlan)
    }
}

#[tonic::async_trait]
impl ExchangerService for Exchangers {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let caller = Caller::of(&request);
        let Watching { exchanger, holds } = Watching::try_from(request.into_inner())?;
        caller.is_exchanger(&exchanger)?;
        let view = self.view()?;
        if view.is_rebuilding() {
            return Err(Refused::Rebuilding.into());
        }
        let receiving = Arc::clone(view.receiving());
        let place = Arc::clone(&self.watchers).try_acquire_owned();
        let place =
            place.map_err(|_| Refused::TooManyWatchers { max: EXCHANGERS_MAX })?;
        let follows = holds != Some(receiving.plan().digest());
        tracing::info!(exchanger, directory_follows = follows, "an exchanger watches");
        let (to, messages) = mpsc::channel(PARTS_MAX);
        let watcher = Watcher {
            views: self.views.clone(),
            stopping: self.stopping.clone(),
            told: vec![0; receiving.words().len()],
            receiving,
            to,
            peer,
            watchers: Arc::clone(&self.watchers),
            _place: place,
        };
        tokio::spawn(watcher.run(follows));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn report_queue(
        &self,
        request: Request<v1::ReportQueueRequest>,
    ) -> Result<Response<v1::ReportQueueResponse>, Status> {
        let caller = Caller::of(&request);
        let report = QueueReport::try_from(request.into_inner())?;
        caller.is_exchanger(&report.exchanger)?;
        let (theirs, ours) = (report.plan, self.view()?.plan().digest());
        if theirs != ours {
            return Err(Refused::OtherRollout { theirs, ours }.into());
        }
        if !self.queues.take(report, std::time::Instant::now()) {
            return Err(Refused::TooManyWatchers { max: EXCHANGERS_MAX }.into());
        }
        Ok(Response::new(v1::ReportQueueResponse {}))
    }
}

/// Tells one exchanger everything, then what changes.
struct Watcher {
    views: Views,
    stopping: watch::Receiver<bool>,
    receiving: Arc<Receiving>,
    /// The doors as they were told.
    told: Vec<u64>,
    to: mpsc::Sender<Result<v1::WatchResponse, Status>>,
    peer: Option<Peer>,
    watchers: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

/// The exchanger has left.
struct Left;

impl Watcher {
    async fn run(mut self, follows: bool) {
        let (to, mut stopping) = (self.to.clone(), self.stopping.clone());
        // Cancel-safe: nothing that was begun is needed after either.
        tokio::select! {
            _left = self.tell_all(follows) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {
                // One that has left needs no farewell.
                drop(to.try_send(Err(Refused::Stopping.into())));
            }
            () = to.closed() => {}
        }
    }

    async fn tell_all(&mut self, follows: bool) -> Result<(), Left> {
        let plan = Arc::clone(self.receiving.plan());
        self.tell(Told::Directory(head(&plan, follows))).await?;
        if follows {
            self.tell_directory(&plan).await?;
        }
        let mut version = self.receiving.version();
        self.tell_doors().await?;
        let mut storages = self.storages();
        self.tell(Told::Storages(storages.clone())).await?;
        self.tell(Told::Complete).await?;
        let mut silent_since = Instant::now();
        loop {
            sleep(LOOK_PAUSE).await;
            let newest = self.receiving.version();
            if newest != version {
                version = newest;
                self.tell_changes().await?;
            }
            let news = self.storages();
            if news != storages || silent_since.elapsed() >= SILENCE_MAX {
                storages = news;
                silent_since = Instant::now();
                self.tell(Told::Storages(storages.clone())).await?;
            }
        }
    }

    async fn tell(&self, told: Told) -> Result<(), Left> {
        match timeout(READS_WITHIN, self.to.send(Ok(told.into()))).await {
            Ok(sent) => sent.map_err(|_| Left),
            Err(_) => {
                tracing::warn!("an exchanger that reads nothing was cut");
                if let Some(peer) = &self.peer {
                    peer.cut();
                }
                Err(Left)
            }
        }
    }

    async fn tell_directory(&self, plan: &Plan) -> Result<(), Left> {
        let mailboxes = plan.inventory().len();
        let step = u32::try_from(DIRECTORY_ROWS_PER_MESSAGE).unwrap_or(u32::MAX);
        let mut first = 0;
        while first < mailboxes {
            let end = first.saturating_add(step).min(mailboxes);
            let rows = (first..end).map(MailboxNumber::new).map(|mailbox| {
                (plan.inventory().address(mailbox).to_owned(), wave_of(plan, mailbox))
            });
            self.tell(Told::Mailboxes(rows.collect())).await?;
            first = end;
        }
        Ok(())
    }

    async fn tell_doors(&mut self) -> Result<(), Left> {
        self.told = self.receiving.words();
        let words = DOOR_BYTES_PER_MESSAGE / size_of::<u64>();
        let mut first = 0;
        for run in self.told.chunks(words) {
            let bits = run.iter().flat_map(|word| word.to_le_bytes()).collect();
            let told = Told::Doors { first: MailboxNumber::new(first), bits };
            self.tell(told).await?;
            let mailboxes = run.len().saturating_mul(64);
            first = first.saturating_add(u32::try_from(mailboxes).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Tells the difference between what was told and what is so now.
    async fn tell_changes(&mut self) -> Result<(), Left> {
        let now = self.receiving.words();
        let mut changes = DoorChanges::default();
        for (first, (told, now)) in (0_u32..).step_by(64).zip(self.told.iter().zip(&now))
        {
            let mut differ = told ^ now;
            while differ != 0 {
                let bit = differ.trailing_zeros();
                let mailbox = MailboxNumber::new(first.saturating_add(bit));
                let opened = now >> bit & 1 != 0;
                if opened { &mut changes.opened } else { &mut changes.held }
                    .push(mailbox);
                differ &= differ - 1;
            }
            if changes.opened.len() + changes.held.len() + 64 > DOOR_CHANGES_PER_MESSAGE {
                self.tell(Told::DoorChanges(std::mem::take(&mut changes))).await?;
            }
        }
        if changes != DoorChanges::default() {
            self.tell(Told::DoorChanges(changes)).await?;
        }
        self.told = now;
        Ok(())
    }

    /// How the nodes are; what they take is divided among all who watch.
    fn storages(&self) -> Vec<Storage> {
        let watching = EXCHANGERS_MAX.saturating_sub(self.watchers.available_permits());
        let watching = u32::try_from(watching).unwrap_or(u32::MAX).max(1);
        let view = self.views.borrow().clone();
        let all = view.map_or_else(Vec::new, |view| view.storages());
        let share = |storage: Storage| {
            let deliveries_per_second = storage.deliveries_per_second.div_ceil(watching);
            Storage { deliveries_per_second, ..storage }
        };
        all.into_iter().map(share).collect()
    }
}

fn head(plan: &Plan, follows: bool) -> DirectoryHead {
    let inventory = plan.inventory();
    let nodes = inventory.node_names().iter().zip(0..).map(|(name, number)| {
        let mailboxes = inventory.on_node(NodeNumber::new(number)).len();
        (name.clone(), u32::try_from(mailboxes).unwrap_or(u32::MAX))
    });
    DirectoryHead {
        plan: plan.digest(),
        waves: plan.waves().iter().map(|wave| wave.name.clone()).collect(),
        nodes: nodes.collect(),
        follows,
    }
}

fn wave_of(plan: &Plan, mailbox: MailboxNumber) -> Option<WaveNumber> {
    let (job, _) = plan.place(mailbox)?;
    plan.jobs().get(job.index()).map(|job| job.wave)
}
