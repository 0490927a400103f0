//! Follow: hears from the coordinator who there is and who takes mail, again after every
//! silence.
//!
//! # Invariants
//!
//! * A new directory takes the old one's place only when everything of it has been told.
//! * A stream that is silent for longer than the coordinator ever is, is given up.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tidegate_trust::Road;
use tidegate_wire::exchanger::{DirectoryHead, DoorChanges, Told, Watching};
use tidegate_wire::limits::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX};
use tidegate_wire::v1;
use tidegate_wire::v1::exchanger_service_client::ExchangerServiceClient;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::directory::{Builder, DirectoryError};
use crate::drainer;
use crate::view::{Newest, View};

/// No connection within this means the network or the coordinator is gone.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// The coordinator says something at least every second.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// An engineer who has repaired something should not wait longer.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How often what waits in the queue is reported.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// A client of the coordinator at `url`, reached by `road`.
pub(crate) fn client(
    url: &str,
    road: &Road,
) -> anyhow::Result<ExchangerServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| {
        format!("`coordinator` is `{url}`, should be like http://host:7443")
    })?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIME_MAX)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Ok(ExchangerServiceClient::new(road.channel(&endpoint))
        .max_decoding_message_size(ANSWER_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX))
}

/// Follows the coordinator.
pub(crate) struct Follower {
    /// The way to it.
    pub(crate) client: ExchangerServiceClient<Channel>,
    /// Who follows.
    pub(crate) exchanger: String,
    /// Where what it says is shown.
    pub(crate) newest: Newest,
    /// Who is told of openings, if the queue is drained.
    pub(crate) drain: Option<drainer::Told>,
}

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the coordinator says: {0}")]
    Refused(String),
    #[error("the coordinator is silent")]
    Silent,
    #[error("the coordinator ended the stream")]
    Over,
    #[error("the coordinator tells things out of order")]
    OutOfOrder,
    #[error("the coordinator tells no directory")]
    Directory(#[from] DirectoryError),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Refused(format!("{:?}: {}", status.code(), status.message()))
    }
}

impl Follower {
    /// Follows for as long as it is polled.
    pub(crate) async fn run(mut self) {
        let mut patience = patience();
        let mut said = String::new();
        loop {
            let ended = self.follow(&mut patience).await;
            let why = crate::chain(&ended);
            if why == said {
                tracing::debug!(why, "the coordinator is not followed");
            } else {
                tracing::warn!(
                    why,
                    "the coordinator is not followed; tried again and again"
                );
                said = why;
            }
            sleep(patience.next_backoff().unwrap_or(PAUSE_MAX)).await;
        }
    }

    async fn follow(&mut self, patience: &mut ExponentialBackoff) -> Ended {
        let known = self.newest.view();
        let holds = known.as_ref().map(|view| view.directory().plan());
        let watching = Watching { exchanger: self.exchanger.clone(), holds };
        let request = Request::new(v1::WatchRequest::from(watching));
        let stream = match timeout(SILENCE_MAX, self.client.watch(request)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(status)) => return status.into(),
            Err(_) => return Ended::Silent,
        };
        let mut stream = stream.into_inner();
        let mut hearing =
            Hearing { known, building: None, target: None, complete: false };
        loop {
            let told = match timeout(SILENCE_MAX, stream.message()).await {
                Ok(Ok(Some(message))) => Told::try_from(message).map_err(Status::from),
                Ok(Ok(None)) => return Ended::Over,
                Ok(Err(status)) => return status.into(),
                Err(_) => return Ended::Silent,
            };
            let heard =
                told.map_err(Ended::from).and_then(|told| self.hear(&mut hearing, told));
            if let Err(ended) = heard {
                return ended;
            }
            if hearing.complete {
                patience.reset();
                self.newest.heard(Duration::ZERO);
            }
        }
    }

    fn hear(&self, hearing: &mut Hearing, told: Told) -> Result<(), Ended> {
        match told {
            Told::Directory(head) => hearing.begin(head)?,
            Told::Mailboxes(mailboxes) => {
                let builder = hearing.building.as_mut().ok_or(Ended::OutOfOrder)?;
                for (address, wave) in mailboxes {
                    builder.push(&address, wave)?;
                }
            }
            Told::Doors { first, bits } => {
                let opened = hearing.target()?.set_run(first, &bits);
                self.opened(hearing, &opened);
            }
            Told::DoorChanges(DoorChanges { opened, held }) => {
                let view = hearing.target()?;
                for (mailboxes, open) in [(&held, false), (&opened, true)] {
                    for mailbox in mailboxes {
                        view.set(*mailbox, open);
                    }
                }
                self.opened(hearing, &opened);
            }
            Told::Storages(storages) => hearing.target()?.set_storages(storages),
            Told::Complete => {
                let view = Arc::clone(hearing.target()?);
                hearing.complete = true;
                let mailboxes = view.directory().len();
                if hearing.is_known() {
                    tracing::info!(mailboxes, "followed again");
                    return Ok(());
                }
                let bytes = view.directory().bytes();
                tracing::info!(mailboxes, bytes, "everything has been told");
                self.newest.replace(Arc::clone(&view));
                if let Some(drain) = &self.drain {
                    drain.begin(view);
                }
            }
        }
        Ok(())
    }

    /// Tells the drain, if it drains into this view already.
    fn opened(&self, hearing: &Hearing, opened: &[tidegate_core::fleet::MailboxNumber]) {
        if let Some(drain) = &self.drain
            && !opened.is_empty()
            && (hearing.complete || hearing.is_known())
        {
            drain.opened(opened);
        }
    }
}

/// What has been heard of one stream.
struct Hearing {
    /// The view that others look at.
    known: Option<Arc<View>>,
    building: Option<Builder>,
    /// The view that is being told.
    target: Option<Arc<View>>,
    complete: bool,
}

impl Hearing {
    fn begin(&mut self, head: DirectoryHead) -> Result<(), Ended> {
        if head.follows {
            self.building = Some(Builder::new(head)?);
        } else {
            let known = self.known.clone();
            let known = known.filter(|view| view.directory().plan() == head.plan);
            self.target = Some(known.ok_or(Ended::OutOfOrder)?);
        }
        Ok(())
    }

    /// The view that is being told, once its directory is whole.
    fn target(&mut self) -> Result<&Arc<View>, Ended> {
        if let Some(builder) = self.building.take() {
            self.target = Some(Arc::new(View::held(Arc::new(builder.finish()?))));
        }
        self.target.as_ref().ok_or(Ended::OutOfOrder)
    }

    /// Whether others look at the view that is being told.
    fn is_known(&self) -> bool {
        let both = self.known.as_ref().zip(self.target.as_ref());
        both.is_some_and(|(known, target)| Arc::ptr_eq(known, target))
    }
}

fn patience() -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(100))
        .with_max_interval(PAUSE_MAX)
        .with_max_elapsed_time(None)
        .build()
}

/// Reports what waits in the queue for as long as it is polled.
pub(crate) async fn report(
    mut client: ExchangerServiceClient<Channel>,
    exchanger: String,
    drain: drainer::Told,
) {
    loop {
        sleep(REPORT_EVERY).await;
        let Some(report) = drain.report(&exchanger) else { continue };
        let mut request = Request::new(v1::ReportQueueRequest::from(report));
        request.set_timeout(REPORT_EVERY);
        if let Err(status) = client.report_queue(request).await {
            let (code, why) = (status.code(), status.message());
            tracing::debug!(?code, why, "what waits could not be reported");
        }
    }
}
