//! The session: joins the coordinator, then reports and fetches orders at every beat.
//!
//! # Invariants
//!
//! * The lease is counted from before a report was sent, so it ends here before it ends at
//!   the coordinator.
//! * What could not be delivered is simply told again at the next beat.
//! * Whoever is refused for good and holds nothing stops; everybody else asks again, ever
//!   slower, and goes on answering for what is open.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use backoff::ExponentialBackoffBuilder;
use tidegate_core::fleet::{Generation, Incarnation, JobNumber};
use tidegate_core::inventory::Digest;
use tidegate_core::rollout::{Join, Orders, Sync};
use tidegate_wire::limits::{ANSWER_BYTES_MAX, SYNC_BYTES_MAX};
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tidegate_wire::v1::{FetchJobRequest, JoinRequest, SyncRequest};
use tidegate_wire::worker::{Fetch, JobPart, Joined as Terms, Joining};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::clock::Clock;
use crate::node::{Beat, Heard, Input, Joined};

/// No answer within this means the network or the coordinator is gone; the next beat tries
/// again. Shorter than any sensible lease.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Fetching descriptions may take this share of a lease between two reports, so that the
/// lease goes on however slow the network is.
const FETCH_SHARE_OF_LEASE: u32 = 3;

/// Joining is tried again at least this often: an engineer who has repaired something
/// should not wait.
const JOIN_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) node: String,
    pub(crate) incarnation: Incarnation,
    pub(crate) rollout: Option<Digest>,
    pub(crate) claimed_max: Generation,
}

/// The way to the owner.
pub(crate) type Owner = std::sync::mpsc::SyncSender<Input>;

/// The session of one worker.
pub(crate) struct Session {
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    pub(crate) owner: Owner,
    /// Reports sent so far.
    sent: u64,
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
        Ok(Self { identity, clock, owner, sent: 0, client })
    }

    /// Joins and beats until refused for good.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            let terms = self.join().await?;
            self.identity.rollout = Some(terms.rollout);
            self.tell(Input::Joined(Box::new(Joined {
                rollout: terms.rollout,
                settings: terms.settings.clone(),
            })))?;
            tracing::info!(node = self.identity.node, "joined");
            let end = self.beat_until_refused(&terms).await?;
            tracing::warn!(reason = end.message(), "must join again");
        }
    }

    async fn join(&self) -> anyhow::Result<Terms> {
        let patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100))
            .with_max_interval(JOIN_INTERVAL_MAX)
            .with_max_elapsed_time(None)
            .build();
        // Whoever holds mailboxes goes on answering for them, and asks again.
        let holds_mail = self.identity.claimed_max > Generation::default();
        let attempt = || async {
            let mut client = self.client.clone();
            let mut request = Request::new(JoinRequest::from(Joining {
                join: Join {
                    node: self.identity.node.clone(),
                    incarnation: self.identity.incarnation,
                    claimed_max: self.identity.claimed_max,
                },
                rollout: self.identity.rollout,
                clock: self.clock.now(),
            }));
            request.set_timeout(CALL_TIMEOUT);
            let joined = client.join(request).await.map_err(|status| {
                if is_final(&status) && !holds_mail {
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
            if told != about {
                tracing::warn!(code = ?status.code(), reason = status.message(), "cannot join yet");
                about.clone_into(&mut told);
            }
        };
        let joined = backoff::future::retry_notify(patience, attempt, notify)
            .await
            .map_err(|status| anyhow::anyhow!("{}", status.message()))
            .context("join the coordinator")?;
        Terms::try_from(joined).context("understand the coordinator's welcome")
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
            self.identity.claimed_max = self.identity.claimed_max.max(beat.claimed_max);
            match self.sync(terms, beat).await? {
                Ok(()) => {}
                Err(status) if must_join_again(&status) => return Ok(status),
                Err(status) if is_passing(&status) => {
                    tracing::debug!(code = ?status.code(), reason = status.message(), "no answer");
                }
                Err(status) => {
                    tracing::warn!(code = ?status.code(), reason = status.message(), "a report was refused");
                }
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
        let sent = self.clock.now();
        self.sent += 1;
        let sync = Sync {
            node: terms.node,
            incarnation: self.identity.incarnation,
            sequence: self.sent,
            orders_obeyed: beat.orders_obeyed,
            claimed_max: beat.claimed_max,
            reports: beat.reports,
            vitals: beat.vitals,
        };
        let mut request = Request::new(SyncRequest::from(sync.clone()));
        request.set_timeout(CALL_TIMEOUT);
        let answer = match self.client.sync(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Ok(Err(status)),
        };
        let orders = Orders::try_from(answer).context("understand the orders")?;
        let heard = Heard { confirmed: sync.reports, orders, until: sent + terms.lease };
        self.tell(Input::Heard(Box::new(heard)))?;
        Ok(Ok(()))
    }

    async fn fetch(
        &mut self,
        terms: &Terms,
        job: JobNumber,
        within: Duration,
    ) -> anyhow::Result<()> {
        let mut request = Request::new(FetchJobRequest::from(Fetch {
            node: terms.node,
            incarnation: self.identity.incarnation,
            job,
        }));
        request.set_timeout(within);
        let mut told = JobPart::default();
        let fetched = async {
            let mut parts = self.client.fetch_job(request).await?.into_inner();
            while let Some(part) = parts.message().await? {
                told.append(JobPart::received(part)?);
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

/// Whether this worker is not, or no longer, known.
fn must_join_again(status: &Status) -> bool {
    matches!(status.code(), Code::Aborted | Code::FailedPrecondition)
}

/// Whether the next beat may be answered as it is.
fn is_passing(status: &Status) -> bool {
    let codes =
        [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Unknown];
    codes.contains(&status.code())
}

/// The stable name of a refusal.
fn tidegate_code(status: &Status) -> Option<&str> {
    status.metadata().get("tidegate-code").and_then(|code| code.to_str().ok())
}

/// Whether asking again cannot help.
fn is_final(status: &Status) -> bool {
    let code = tidegate_code(status);
    let never = [Code::InvalidArgument, Code::Unimplemented, Code::PermissionDenied];
    // No plan yet is worth waiting for; a wrong name or an old journal is not.
    let refused = ["unknown-node", "journal-too-old", "other-rollout"];
    never.contains(&status.code())
        || status.code() == Code::FailedPrecondition
            && code.is_some_and(|code| refused.contains(&code))
}
