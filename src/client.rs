//! Client: the calls to a coordinator, and what its refusals mean for a command.
//!
//! # Invariants
//!
//! * A connection that cannot be made is tried again, and a verb under an id of its own is
//!   sent again, both only for seconds; no other call is repeated by itself, unless the
//!   coordinator had no room for it.
//! * Every call has a deadline.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tidegate_trace::Traced;
use tidegate_trust::{Road, check_url};
use tidegate_wire::v1;
use tidegate_wire::v1::desk_service_client::DeskServiceClient;
use tidegate_wire::v1::operator_service_client::OperatorServiceClient;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::cli;
use crate::console::safe;
use crate::exit::{Exit, Failure};
use crate::request::{is_unknown, until_known, until_there_is_room};
use crate::screens;
use crate::telemetry::Chain;

/// One attempt to connect: a coordinator answers within a fraction of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a command tries to connect: a coordinator that restarts is back by then.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a watcher tries to connect again before it gives up.
const RECONNECT_PATIENCE: Duration = Duration::from_mins(1);
/// How long one answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long an upload may take: millions of rows are read and planned anew.
const APPLY_TIMEOUT: Duration = Duration::from_mins(15);
/// The largest answer: a rollout with thousands of waves and nodes.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Entries of a list in one answer, the most there are.
pub(crate) const PAGE_SIZE: u32 = 1_000;
/// A stream is asked this often whether it is silent.
const SILENCE_TICK: Duration = Duration::from_secs(1);

/// A coordinator that answers.
#[derive(Clone)]
pub(crate) struct Client {
    url: String,
    progress: ProgressServiceClient<Traced<Channel>>,
    operator: OperatorServiceClient<Traced<Channel>>,
    desk: DeskServiceClient<Traced<Channel>>,
}

impl Client {
    /// Connects to a coordinator.
    ///
    /// # Errors
    ///
    /// [`Exit::Unreachable`] with what to do, after a few seconds of trying.
    pub(crate) async fn connect(to: &cli::Coordinator) -> Result<Self, Failure> {
        let (url, tls) = (to.url.as_str(), to.tls());
        check_url(url, tls.is_some()).map_err(|error| wrong_url(error.into()))?;
        let road = Road::new(tls).context("use your certificate");
        let road = road.map_err(|error| Failure::new(Exit::Config, error))?;
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|error| {
                let text = format!("`{url}` is no address of a coordinator");
                wrong_url(anyhow::Error::new(error).context(text))
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10));
        let connect =
            || async { road.connect(&endpoint).await.map_err(backoff::Error::transient) };
        let channel = backoff::future::retry(patience(CONNECT_PATIENCE), connect)
            .await
            .map_err(|error| unreachable(url, &Chain(&error).to_string()))?;
        let channel = Traced::new(channel);
        Ok(Self {
            url: url.to_owned(),
            progress: ProgressServiceClient::new(channel.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            operator: OperatorServiceClient::new(channel.clone()),
            desk: DeskServiceClient::new(channel),
        })
    }

    /// The whole rollout now.
    ///
    /// # Errors
    ///
    /// What the coordinator answered, as a failure of the command.
    pub(crate) async fn rollout(&mut self) -> Result<v1::Rollout, Failure> {
        let ask =
            async || self.progress.get_rollout(call(v1::GetRolloutRequest {})).await;
        match until_there_is_room(ask).await {
            Err(status) => Err(self.refused_or_waiting(&status).await),
            answer => self.open(answer),
        }
    }

    /// How the rollout stands, or that there is none yet.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`], but for want of a plan.
    pub(crate) async fn standing(&mut self) -> Result<Standing, Failure> {
        let ask =
            async || self.progress.get_rollout(call(v1::GetRolloutRequest {})).await;
        match until_there_is_room(ask).await {
            Err(status) if code_of(&status) == NO_PLAN => {
                let waiting = self.starting().await;
                let told = not_started(refused(&self.url, &status), &status, &waiting);
                Ok(Standing::NoPlan { waiting, told })
            }
            answer => Ok(Standing::Rollout(Box::new(self.open(answer)?))),
        }
    }

    /// A refusal; where there is no plan yet, with who waits to start one.
    async fn refused_or_waiting(&self, status: &Status) -> Failure {
        let failure = refused(&self.url, status);
        if code_of(status) != NO_PLAN {
            return failure;
        }
        not_started(failure, status, &self.starting().await)
    }

    /// Who waits to start a plan; nobody where that cannot be told.
    async fn starting(&self) -> Vec<v1::Waiting> {
        let plan = self.progress.clone().get_plan(call(v1::GetPlanRequest {})).await;
        // Whatever is the matter now: what was asked for has its answer.
        plan.map(|plan| plan.into_inner().waiting).unwrap_or_default()
    }

    /// What a user may be told of a mailbox.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn look_up(
        &mut self,
        request: v1::LookUpRequest,
    ) -> Result<v1::LookUpResponse, Failure> {
        let answer = self.desk.look_up(call(request)).await;
        self.open(answer)
    }

    /// What plan it carries out, and how its data directory stands.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn plan(&mut self) -> Result<v1::GetPlanResponse, Failure> {
        let ask = async || self.progress.get_plan(call(v1::GetPlanRequest {})).await;
        let answer = until_there_is_room(ask).await;
        self.open(answer)
    }

    /// How far each tier is.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn tiers(&mut self) -> Result<v1::ListTiersResponse, Failure> {
        let ask = async || self.progress.list_tiers(call(v1::ListTiersRequest {})).await;
        let answer = until_there_is_room(ask).await;
        self.open(answer)
    }

    /// One mailbox.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn mailbox(
        &mut self,
        address: &str,
    ) -> Result<v1::Mailbox, Failure> {
        let request = v1::GetMailboxRequest { address: address.to_owned() };
        let ask = async || self.progress.get_mailbox(call(request.clone())).await;
        let answer = until_there_is_room(ask).await;
        self.open(answer)
    }

    /// All mailboxes that fit `filter`, page after page.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`], or what `take` returns.
    pub(crate) async fn mailboxes(
        &mut self,
        filter: v1::ListMailboxesRequest,
        take: &mut dyn FnMut(v1::Mailbox) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut request = v1::ListMailboxesRequest { page_size: PAGE_SIZE, ..filter };
        loop {
            let ask = async || self.progress.list_mailboxes(call(request.clone())).await;
            let answer = until_there_is_room(ask).await;
            let page = self.open(answer)?;
            page.mailboxes.into_iter().try_for_each(&mut *take)?;
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
    }

    /// All findings that fit `filter`, page after page.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`], or what `take` returns.
    pub(crate) async fn findings(
        &mut self,
        filter: v1::ListFindingsRequest,
        take: &mut dyn FnMut(v1::MailboxFinding) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut request = v1::ListFindingsRequest { page_size: PAGE_SIZE, ..filter };
        loop {
            let ask = async || self.progress.list_findings(call(request.clone())).await;
            let answer = until_there_is_room(ask).await;
            let page = self.open(answer)?;
            page.findings.into_iter().try_for_each(&mut *take)?;
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
    }

    /// All events, oldest first, page after page.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`], or what `take` returns.
    pub(crate) async fn events(
        &mut self,
        take: &mut dyn FnMut(v1::Event) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut token = String::new();
        loop {
            let page = self.events_page(token).await?;
            page.events.into_iter().try_for_each(&mut *take)?;
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            token = page.next_page_token;
        }
    }

    /// The page of events that `token` stands for; the first if it is empty.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn events_page(
        &mut self,
        token: String,
    ) -> Result<v1::ListEventsResponse, Failure> {
        let request = v1::ListEventsRequest { page_size: PAGE_SIZE, page_token: token };
        let ask = async || self.progress.list_events(call(request.clone())).await;
        let answer = until_there_is_room(ask).await;
        self.open(answer)
    }

    /// Uploads and starts a plan.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn apply(
        &mut self,
        parts: impl Iterator<Item = v1::ApplyRequest> + Clone + Send + 'static,
    ) -> Result<v1::ApplyResponse, Failure> {
        let answer = until_known(async || {
            let mut request = Request::new(tokio_stream::iter(parts.clone()));
            request.set_timeout(APPLY_TIMEOUT);
            self.operator.apply(request).await
        });
        answer.await.map_err(|status| acted(&self.url, &status))
    }

    /// Stops opening.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn pause(
        &mut self,
        request: v1::PauseRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.pause(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Stops opening until somebody else thaws it.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn freeze(
        &mut self,
        request: v1::FreezeRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.freeze(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Lets go of a freeze.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn thaw(
        &mut self,
        request: v1::ThawRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.thaw(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Goes on.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn resume(
        &mut self,
        request: v1::ResumeRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.resume(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Ends the rollout.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn abort(
        &mut self,
        request: v1::AbortRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.abort(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Lets the worker of a node back in.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn accept(
        &mut self,
        request: v1::AcceptRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.accept(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Lets a wave pass that its gate holds.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn expand(
        &mut self,
        request: v1::ExpandRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.expand(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Puts waves under the emergency profile.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn begin_emergency(
        &mut self,
        request: v1::BeginEmergencyRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.begin_emergency(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Goes back to the usual gates.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn end_emergency(
        &mut self,
        request: v1::EndEmergencyRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.end_emergency(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Gives somebody else leave.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn approve(
        &mut self,
        request: v1::ApproveRequest,
    ) -> Result<v1::ApproveResponse, Failure> {
        let answer = self.operator.approve(call(request)).await;
        self.open(answer)
    }

    /// Puts a part back behind admission.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn reclose(
        &mut self,
        request: v1::RecloseRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.reclose(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    /// Has a mailbox tried again that was set aside.
    ///
    /// # Errors
    ///
    /// As for [`Self::rollout`].
    pub(crate) async fn retry(
        &mut self,
        request: v1::RetryRequest,
    ) -> Result<v1::ActionResponse, Failure> {
        let ask = async || self.operator.retry(call(request.clone())).await;
        until_known(ask).await.map_err(|status| acted(&self.url, &status))
    }

    fn open<T>(&self, answer: Result<tonic::Response<T>, Status>) -> Result<T, Failure> {
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| refused(&self.url, &status))
    }
}

/// What a watcher sees next.
pub(crate) enum Seen {
    /// The rollout as it is now.
    Rollout(Box<v1::Rollout>),
    /// Nothing for this long; the connection is being made again.
    Silence(Duration),
    /// It is over; nothing more will come.
    Over,
}

/// Watches a rollout, across restarts of the coordinator.
pub(crate) struct Watcher {
    client: Client,
    stream: Option<Streaming<v1::Rollout>>,
    heard: Instant,
    over: bool,
    patience: Option<Duration>,
}

impl Watcher {
    /// Watches what `client` is connected to.
    pub(crate) fn new(client: Client) -> Self {
        let patience = Some(RECONNECT_PATIENCE);
        Self { client, stream: None, heard: Instant::now(), over: false, patience }
    }

    /// Waits without end for a coordinator that is away: somebody looks and can leave.
    pub(crate) fn without_end(self) -> Self {
        Self { patience: None, ..self }
    }

    /// Whether the coordinator can be heard.
    pub(crate) const fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Waits for the next news. Nothing is lost if the wait is given up.
    ///
    /// # Errors
    ///
    /// When the coordinator refuses, or cannot be reached for a minute.
    pub(crate) async fn next(&mut self) -> Result<Seen, Failure> {
        if self.over {
            return Ok(Seen::Over);
        }
        let Some(stream) = &mut self.stream else { return self.connect().await };
        match timeout(SILENCE_TICK, stream.message()).await {
            Ok(Ok(Some(rollout))) => {
                self.heard = Instant::now();
                // After an abort the nodes have yet to obey.
                let obeyed = rollout.stop.as_ref().is_none_or(|stop| stop.effective);
                self.over = is_over(&rollout) && obeyed;
                Ok(Seen::Rollout(Box::new(rollout)))
            }
            Ok(Ok(None)) => self.lose(None),
            Ok(Err(status)) => self.lose(Some(&status)),
            Err(_) => Ok(Seen::Silence(self.heard.elapsed())),
        }
    }

    async fn connect(&mut self) -> Result<Seen, Failure> {
        // A deadline would end the stream itself, so only the answer's beginning has one.
        let request = Request::new(v1::WatchRolloutRequest {});
        match timeout(SILENCE_TICK, self.client.progress.watch_rollout(request)).await {
            Ok(Ok(response)) => self.stream = Some(response.into_inner()),
            Ok(Err(status)) => {
                if code_of(&status) == NO_PLAN {
                    return Err(self.client.refused_or_waiting(&status).await);
                }
                let seen = self.lose(Some(&status))?;
                tokio::time::sleep(SILENCE_TICK / 4).await;
                return Ok(seen);
            }
            Err(_) => {}
        }
        Ok(Seen::Silence(self.heard.elapsed()))
    }

    fn lose(&mut self, status: Option<&Status>) -> Result<Seen, Failure> {
        self.stream = None;
        let silent = self.heard.elapsed();
        let Some(status) = status else { return Ok(Seen::Silence(silent)) };
        // Also one that had no room, or found us too slow.
        let connection_lost = matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::ResourceExhausted
        );
        if connection_lost && self.patience.is_none_or(|limit| silent < limit) {
            return Ok(Seen::Silence(silent));
        }
        Err(refused(&self.client.url, status))
    }
}

/// How a coordinator stands.
pub(crate) enum Standing {
    /// It carries out a plan.
    Rollout(Box<v1::Rollout>),
    /// It has none yet.
    NoPlan {
        /// Who waits to start one.
        waiting: Vec<v1::Waiting>,
        /// That there is none, for whoever needs one.
        told: Failure,
    },
}

/// That there is no plan, with who waits to start one.
fn not_started(failure: Failure, status: &Status, waiting: &[v1::Waiting]) -> Failure {
    if waiting.is_empty() {
        return failure;
    }
    let waits: Vec<String> = waiting.iter().map(screens::status::waits).collect();
    let text = format!("{}; waits: {}", safe(status.message()), waits.join("; "));
    Failure::text(Exit::Refused, text)
}

/// Whether nothing more will happen by itself, ever.
pub(crate) fn is_over(rollout: &v1::Rollout) -> bool {
    match rollout.state() {
        v1::RolloutState::Finished | v1::RolloutState::Aborted => true,
        v1::RolloutState::Unspecified
        | v1::RolloutState::Running
        | v1::RolloutState::Paused
        | v1::RolloutState::Halted => false,
    }
}

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn patience(limit: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(100))
        .with_max_interval(Duration::from_secs(1))
        .with_max_elapsed_time(Some(limit))
        .build()
}

fn wrong_url(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Usage, error).help(
        "`http://127.0.0.1:7443` on the coordinator's own machine; else `https://HOST:7443` with \
         --certificate, --key and --ca, or TIDEGATE_CERTIFICATE, TIDEGATE_KEY and TIDEGATE_CA",
    )
}

fn unreachable(url: &str, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, anyhow!("cannot reach the coordinator at {url}: {why}"))
        .help("is it running? `tidegate coordinator --config …`; or name it with `--coordinator`")
}

/// Whether the connection ended before anything was answered.
fn is_cut(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

fn cut_off(url: &str) -> Failure {
    let failure = Failure::text(
        Exit::Unreachable,
        format!("{url} has ended the connection without an answer"),
    );
    if url.starts_with("http://") {
        return failure
            .help("has it just ended, or does it want `https://` and a certificate?");
    }
    failure.help(
        "is the certificate of the authority that the coordinator believes, and not run out?",
    )
}

/// What the failure of a verb means for the command.
fn acted(url: &str, status: &Status) -> Failure {
    let failure = refused(url, status);
    if !is_unknown(status) {
        return failure;
    }
    failure.help(
        "it is not known whether it was done: see `tidegate status`, or give the same \
         command again",
    )
}

/// What a refusal means for the command.
fn refused(url: &str, status: &Status) -> Failure {
    let exit = match status.code() {
        Code::Unavailable => return unreachable(url, status.message()),
        // It says nothing to whoever shows a certificate of another authority, or none.
        Code::Cancelled | Code::Unknown | Code::Internal if is_cut(status) => {
            return cut_off(url);
        }
        Code::Unimplemented if status.message().is_empty() => {
            return Failure::text(Exit::Failed, format!("{url} does not serve this")).help(
                "operators and readers may have addresses of their own (`operators_listen`, \
                 `readers_listen` in coordinator.toml); or is it of another version than \
                 this program?",
            );
        }
        Code::DeadlineExceeded => {
            return unreachable(url, "it did not answer in time");
        }
        Code::FailedPrecondition | Code::AlreadyExists => Exit::Refused,
        Code::NotFound if code_of(status) == NO_PLAN => Exit::Refused,
        Code::Internal if [NOT_KEPT, NOT_AUDITED].contains(&code_of(status)) => {
            Exit::NotKept
        }
        Code::Aborted => Exit::Stale,
        Code::InvalidArgument | Code::NotFound => Exit::Input,
        Code::ResourceExhausted => Exit::Later,
        Code::PermissionDenied | Code::Unauthenticated => Exit::NotAllowed,
        Code::Internal | Code::Unknown | Code::DataLoss => Exit::Bug,
        Code::Ok | Code::Cancelled | Code::OutOfRange | Code::Unimplemented => {
            Exit::Failed
        }
    };
    let failure = Failure::text(exit, status.message());
    if let Some(help) = help_for(code_of(status)) {
        return failure.help(help);
    }
    match (exit, status.code()) {
        (Exit::Stale, _) => {
            failure.help("run `tidegate plan` again and apply what it prints")
        }
        (Exit::Bug, _) => failure.help("the coordinator's log has more"),
        (_, Code::Unimplemented) => {
            failure.help("is the coordinator of the same version as this program?")
        }
        (_, _) => failure,
    }
}

/// The coordinator's code for a question or verb before any plan was applied.
const NO_PLAN: &str = "no-plan";

/// The coordinator's code when its disk does not take a plan's inventory.
const NOT_KEPT: &str = "inventory-not-kept";

/// The coordinator's code when it cannot write down who asks.
const NOT_AUDITED: &str = "not-audited";

/// The stable code of a refusal; empty if it has none.
fn code_of(status: &Status) -> &str {
    let code = status.metadata().get("tidegate-code");
    code.and_then(|code| code.to_str().ok()).unwrap_or_default()
}

/// What to do about a refusal with this stable code, where its text does not say all.
fn help_for(code: &str) -> Option<&'static str> {
    Some(match code {
        NO_PLAN => {
            "tidegate plan --inventory … --policy … --out FILE; then tidegate start FILE"
        }
        NOT_AUDITED => "make room on the coordinator's disk, then start it again",
        NOT_KEPT => "make room on the coordinator's disk, then apply it again",
        "applied-before" | "plan-spent" => {
            "nothing is left to do: follow it with `tidegate watch`"
        }
        "halt-stands" => {
            "all in order: tidegate reclose wave WAVE --reason '…'; \
             tidegate resume wave WAVE --reason '…'; tidegate resume --reason '…'"
        }
        "isolation-stands" => {
            "all in order: tidegate reclose node NODE --reason '…'; \
             tidegate resume node NODE --reason '…'; tidegate resume --reason '…'"
        }
        "has-begun" => "tidegate rebuild --inventory … --policy … --reason '…'",
        "nothing-to-accept" | "node-at-work" | "in-doubt" => {
            "see the nodes: tidegate status"
        }
        "not-recounted" => {
            "tidegate status shows who has told; `tidegate resume --without NODE` leaves one out"
        }
        "frozen" | "same-hand" => {
            "somebody else: tidegate thaw --reason '…'; then tidegate resume --reason '…'"
        }
        "not-held" | "hold-stands" | "not-running" => {
            "see what it waits for: tidegate status"
        }
        "not-held-back" => "see what is held back: tidegate status",
        "conflict" => "look again (tidegate status), then decide anew",
        "evidence-changed" => {
            "look at `tidegate status`, then approve on the evidence that it shows"
        }
        "not-approved" => "then give the same command again; what waits: tidegate status",
        "already" | "rollout-over" | "not-frozen" | "no-emergency" => {
            "see how it stands: tidegate status"
        }
        _ => return None,
    })
}
