//! The session: joins the coordinator, then reports and fetches orders at every beat.
//!
//! # Invariants
//!
//! * What could not be delivered is simply told again at the next beat.
//! * Whoever is refused for good and holds nothing stops; everybody else asks again, ever
//!   slower, and goes on answering for what is open.

mod dialogue;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use backoff::ExponentialBackoffBuilder;
use tidegate_core::fleet::JobNumber;
use tidegate_trace::{Place, Traced};
use tidegate_trust::Road;
use tidegate_wire::limits::{ANSWER_BYTES_MAX, SYNC_BYTES_MAX};
use tidegate_wire::v1;
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tidegate_wire::worker::{JobPart, Joined as Terms};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tracing::Span;

use crate::node::{Beat, FACTS_MAX, Input};
use dialogue::tidegate_code;
pub(crate) use dialogue::{
    Dialogue, Identity, Meaning, Sent, append, is_too_old, meaning,
};
use tidegate_clock::Clock;

/// No answer within this means the network or the coordinator is gone; the next beat tries
/// again. Shorter than any sensible lease.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A description may take this long on its way. Reports go on beside it, so that the lease
/// does; a network over which some hundred kilobytes take longer is none.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Joining is tried again at least this often: an engineer who has repaired something
/// should not wait.
const JOIN_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// The way to the owner.
pub(crate) type Owner = std::sync::mpsc::SyncSender<Input>;

/// The session of one worker.
pub(crate) struct Session {
    dialogue: Dialogue,
    owner: Owner,
    client: WorkerServiceClient<Traced<Channel>>,
    /// Orders that were heard and are not obeyed yet, where they are part of a trace.
    obeying: Option<(u64, Span)>,
    /// Descriptions on their way; one round at a time.
    fetching: JoinSet<()>,
    /// Whether answers come later than the lease lasts.
    is_too_slow: bool,
}

impl Session {
    /// A session that will talk to the coordinator at `url`, reached by `road`.
    pub(crate) fn new(
        (url, road): (&str, &Road),
        identity: Identity,
        clock: Clock,
        owner: Owner,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| {
                format!("`coordinator` is `{url}`, should be like http://host:7443")
            })?
            .connect_timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        let client = WorkerServiceClient::new(Traced::new(road.channel(&endpoint)))
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(SYNC_BYTES_MAX);
        Ok(Self {
            dialogue: Dialogue::new(identity, clock),
            owner,
            client,
            obeying: None,
            fetching: JoinSet::new(),
            is_too_slow: false,
        })
    }

    /// Joins and beats until refused for good.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let (terms, input) = self.join().await?;
            self.tell(input)?;
            tracing::info!(node = self.dialogue.identity.node, "joined");
            let end = self.beat_until_refused(&terms).await?;
            tracing::warn!(reason = end.message(), "must join again");
        }
    }

    async fn join(&mut self) -> anyhow::Result<(Terms, Input)> {
        let patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100))
            .with_max_interval(JOIN_INTERVAL_MAX)
            .with_max_elapsed_time(None)
            .build();
        let attempt = || async {
            let mut client = self.client.clone();
            let mut request = Request::new(self.dialogue.join());
            request.set_timeout(CALL_TIMEOUT);
            let joined = client.join(request).await.map_err(|status| {
                if self.dialogue.is_refused_for_good(&status) {
                    backoff::Error::permanent(status)
                } else {
                    backoff::Error::transient(status)
                }
            });
            joined.map(tonic::Response::into_inner)
        };
        let mut told = String::new();
        let notify = |status: Status, _| {
            // The same refusal may have other numbers in it each time.
            let about = tidegate_code(&status).unwrap_or_else(|| status.message());
            if is_too_old(&status) {
                // An owner that has gone ends the session elsewhere.
                let _gone = self.owner.send(Input::TurnedAway);
            }
            if told != about {
                tracing::warn!(code = ?status.code(), reason = status.message(), "cannot join yet");
                about.clone_into(&mut told);
            }
        };
        let joined = backoff::future::retry_notify(patience, attempt, notify)
            .await
            .map_err(|status| anyhow::anyhow!("{}", status.message()))
            .context("join the coordinator")?;
        self.dialogue.joined(joined)
    }

    async fn beat_until_refused(&mut self, terms: &Terms) -> anyhow::Result<Status> {
        let millis = terms.beat.millis().max(BEAT_MILLIS_MIN);
        let mut beats = tokio::time::interval(Duration::from_millis(millis));
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let (reply, told) = oneshot::channel();
            self.tell(Input::Beat(reply))?;
            let beat = told.await.context("the owner has gone")?;
            let unknown = beat.fetch.clone();
            let facts: usize = beat.reports.iter().map(|it| it.facts.len()).sum();
            let is_full = facts >= FACTS_MAX;
            match self.sync(terms, beat).await? {
                // What did not fit is told at once.
                Ok(()) if is_full => beats.reset_immediately(),
                Ok(()) => {}
                Err(status) => match meaning(&status) {
                    Meaning::JoinAgain => return Ok(status),
                    Meaning::Passing => {
                        tracing::debug!(code = ?status.code(), reason = status.message(), "no answer");
                    }
                    Meaning::Wrong => {
                        tracing::warn!(code = ?status.code(), reason = status.message(), "a report was refused");
                    }
                },
            }
            self.fetch_some(terms, &unknown);
        }
    }

    /// Fetches descriptions beside the reports: over a slow network they take longer than a
    /// lease may wait.
    fn fetch_some(&mut self, terms: &Terms, jobs: &[JobNumber]) {
        while self.fetching.try_join_next().is_some() {}
        if jobs.is_empty() || !self.fetching.is_empty() {
            return;
        }
        let requests = jobs.iter().map(|job| (*job, self.dialogue.fetch(terms, *job)));
        let requests = requests.collect();
        self.fetching.spawn(fetch(self.client.clone(), self.owner.clone(), requests));
    }

    async fn sync(
        &mut self,
        terms: &Terms,
        beat: Beat,
    ) -> anyhow::Result<Result<(), Status>> {
        let obeyed = beat.orders_obeyed;
        self.obeying.take_if(|(version, _)| *version <= obeyed);
        let (sent, request) = self.dialogue.report(terms, beat);
        let mut request = Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let asked = Instant::now();
        let answered = self.client.sync(request).await;
        let is_late = |status: &Status| meaning(status) == Meaning::Passing;
        if answered.as_ref().err().is_none_or(is_late) {
            self.notice_slowness(
                asked.elapsed(),
                Duration::from_millis(terms.lease.millis()),
            );
        }
        let answer = match answered {
            Ok(answer) => answer,
            Err(status) => return Ok(Err(status)),
        };
        let origin = Place::in_metadata(answer.metadata());
        let answer = answer.into_inner();
        self.notice_orders(origin, answer.version);
        let heard = self.dialogue.answered(terms, sent, answer)?;
        self.tell(heard)?;
        Ok(Ok(()))
    }

    /// Goes on with the trace that orders are part of, until they are obeyed.
    fn notice_orders(&mut self, origin: Option<Place>, version: u64) {
        let is_new = self.obeying.as_ref().is_none_or(|(heard, _)| *heard < version);
        if let Some(origin) = origin.filter(|_| is_new) {
            let span = origin.obeying(&self.dialogue.identity.node, version);
            self.obeying = Some((version, span));
        }
    }

    /// Says once that nothing can open, and why.
    fn notice_slowness(&mut self, took: Duration, lease: Duration) {
        let is_too_slow = took >= lease;
        if is_too_slow && !self.is_too_slow {
            tracing::warn!(
                took_millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                lease_millis = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
                action = "mend the network, or apply a policy with a longer lease",
                "the coordinator's answers take longer than the lease lasts: nothing opens"
            );
        }
        self.is_too_slow = is_too_slow;
    }

    fn tell(&self, input: Input) -> anyhow::Result<()> {
        self.owner.send(input).map_err(|_| anyhow::anyhow!("the owner has gone"))
    }
}

/// Fetches one description after the other, until one does not come: the next beat asks again.
async fn fetch(
    mut client: WorkerServiceClient<Traced<Channel>>,
    owner: Owner,
    requests: Vec<(JobNumber, v1::FetchJobRequest)>,
) {
    for (job, request) in requests {
        let mut request = Request::new(request);
        request.set_timeout(FETCH_TIMEOUT);
        let mut told = JobPart::default();
        let fetched = async {
            let mut parts = client.fetch_job(request).await?.into_inner();
            while let Some(part) = parts.message().await? {
                append(&mut told, part)?;
            }
            Ok::<_, Status>(())
        };
        let late = |_| Status::deadline_exceeded("the description did not come in time");
        let fetched = tokio::time::timeout(FETCH_TIMEOUT, fetched).await;
        if let Err(status) = fetched.map_err(late).flatten() {
            tracing::debug!(%job, reason = status.message(), "cannot fetch");
            return;
        }
        if owner.send(Input::Described { job, told }).is_err() {
            // The owner has gone; the session ends by itself.
            return;
        }
    }
}

/// A beat shorter than this would only cost.
const BEAT_MILLIS_MIN: u64 = 20;
