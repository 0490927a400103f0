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
use tidegate_wire::limits::{ANSWER_BYTES_MAX, SYNC_BYTES_MAX};
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tidegate_wire::worker::{JobPart, Joined as Terms};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::clock::Clock;
use crate::node::{Beat, Input};
use dialogue::tidegate_code;
pub(crate) use dialogue::{
    Dialogue, Identity, Meaning, Sent, append, is_too_old, meaning,
};

/// No answer within this means the network or the coordinator is gone; the next beat tries
/// again. Shorter than any sensible lease.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Fetching descriptions may take this share of a lease between two reports, so that the
/// lease goes on however slow the network is.
const FETCH_SHARE_OF_LEASE: u32 = 3;

/// Joining is tried again at least this often: an engineer who has repaired something
/// should not wait.
const JOIN_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// The way to the owner.
pub(crate) type Owner = std::sync::mpsc::SyncSender<Input>;

/// The session of one worker.
pub(crate) struct Session {
    dialogue: Dialogue,
    owner: Owner,
    client: WorkerServiceClient<Channel>,
}

impl Session {
    /// A session that will talk to the coordinator at `url`.
    pub(crate) fn new(
        url: &str,
        identity: Identity,
        clock: Clock,
        owner: Owner,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(url.to_owned())
            .with_context(|| {
                format!("`coordinator` is `{url}`, should be like http://host:7443")
            })?
            .connect_timeout(CALL_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .keep_alive_while_idle(true);
        let client = WorkerServiceClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(SYNC_BYTES_MAX);
        Ok(Self { dialogue: Dialogue::new(identity, clock), owner, client })
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
        let mut beat = tokio::time::interval(Duration::from_millis(millis));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            let (reply, told) = oneshot::channel();
            self.tell(Input::Beat(reply))?;
            let beat = told.await.context("the owner has gone")?;
            let unknown = beat.fetch.clone();
            match self.sync(terms, beat).await? {
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
            self.fetch_some(terms, &unknown).await?;
        }
    }

    async fn fetch_some(
        &mut self,
        terms: &Terms,
        jobs: &[JobNumber],
    ) -> anyhow::Result<()> {
        let lease = Duration::from_millis(terms.lease.millis());
        let until = Instant::now() + lease / FETCH_SHARE_OF_LEASE;
        for job in jobs {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.fetch(terms, *job, left).await?;
        }
        Ok(())
    }

    async fn sync(
        &mut self,
        terms: &Terms,
        beat: Beat,
    ) -> anyhow::Result<Result<(), Status>> {
        let (sent, request) = self.dialogue.report(terms, beat);
        let mut request = Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let answer = match self.client.sync(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        let heard = self.dialogue.answered(terms, sent, answer)?;
        self.tell(heard)?;
        Ok(Ok(()))
    }

    async fn fetch(
        &mut self,
        terms: &Terms,
        job: JobNumber,
        within: Duration,
    ) -> anyhow::Result<()> {
        let mut request = Request::new(self.dialogue.fetch(terms, job));
        request.set_timeout(within);
        let mut told = JobPart::default();
        let fetched = async {
            let mut parts = self.client.fetch_job(request).await?.into_inner();
            while let Some(part) = parts.message().await? {
                append(&mut told, part)?;
            }
            Ok::<_, Status>(())
        };
        let late = |_| Status::deadline_exceeded("the description did not come in time");
        let fetched = tokio::time::timeout(within, fetched).await;
        match fetched.map_err(late).flatten() {
            Ok(()) => self.tell(Input::Described { job, told }),
            Err(status) => {
                tracing::debug!(%job, reason = status.message(), "cannot fetch");
                Ok(())
            }
        }
    }

    fn tell(&self, input: Input) -> anyhow::Result<()> {
        self.owner.send(input).map_err(|_| anyhow::anyhow!("the owner has gone"))
    }
}

/// A beat shorter than this would only cost.
const BEAT_MILLIS_MIN: u64 = 20;
