//! The operations page: what goes on, why, and the button that stops it.
//!
//! # Invariants
//!
//! * It reads without scripts; with them it renews itself and never takes the focus.
//! * Whatever changes something is asked for with a secret that only the page itself knows, from
//!   the page's own origin.
//! * Nothing is loaded from elsewhere, and nothing inline is carried out.

mod board;
mod deeds;
mod door;
mod lookup;
mod story;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Form, Query, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, extract::DefaultBodyLimit};
use serde::Deserialize;
use tidegate_wire::v1;
use tidegate_wire::v1::desk_service_server::DeskService;
use tidegate_wire::v1::operator_service_server::OperatorService;
use tidegate_wire::v1::progress_service_server::ProgressService;
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request as Call, Status};

use crate::texts::{Language, Texts};
use crate::visitor::{Role, Visitor, WhoSent};
use board::{Board, Deed, Detail, WaitingRow};
pub use door::Door;
use story::Story;
#[cfg(test)]
pub(crate) use story::{is_told, nameless};

/// A page that is looked at is renewed at most this often: people read no faster.
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a form: a reason and a few names.
const FORM_BYTES_MAX: usize = 16 << 10;

/// The longest reason that the form takes; the contract has its own limit.
const REASON_CHARS_MAX: usize = 400;

/// The code of a coordinator without a rollout.
const NO_PLAN: &str = "no-plan";

/// Who may stop: everybody who moves anything.
const PAUSERS: &[Role] = &[Role::Operator, Role::Approver];

/// Who may let it go on, and put parts of it back.
const RESUMERS: &[Role] = &[Role::Operator];

/// Who may look single mailboxes up.
const LOOKERS: &[Role] = &[Role::Desk, Role::Operator];

/// Who may give leave.
const APPROVERS: &[Role] = &[Role::Approver];

/// What the pages are served from.
pub struct House<R, O, D> {
    /// Who answers readers.
    pub readers: R,
    /// Who does what operators want.
    pub operators: O,
    /// Who answers the desk.
    pub desk: D,
    /// Who sent a request.
    pub who_sent: WhoSent,
    /// Under which names the page is served.
    pub door: Door,
}

/// What all pages share.
struct Rooms<R, O, D> {
    house: House<R, O, D>,
    story: Story,
}

impl<R: ProgressService, O: OperatorService, D: DeskService> House<R, O, D> {
    /// The pages.
    pub fn routes(self) -> Router {
        let door = self.door.clone();
        let rooms = Arc::new(Rooms { house: self, story: Story::default() });
        Router::new()
            .route("/", get(look))
            .route("/live", get(live))
            .route("/pause", post(pause))
            .route("/resume", post(resume))
            .route("/freeze", post(deeds::freeze))
            .route("/reclose", post(deeds::reclose))
            .route("/approve", post(deeds::approve))
            .route("/desk", get(lookup::form).post(lookup::look_up))
            .with_state(rooms)
            // Browsers ask for a picture; there is none.
            .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
            .route("/assets/operations.css", get(stylesheet))
            .route("/assets/operations.js", get(script))
            .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
            .layer(from_fn_with_state(door, door::only_by_name))
            .layer(from_fn(harden))
    }
}

/// How the page is looked at.
#[derive(Debug, Default, Deserialize)]
struct Look {
    lang: Option<String>,
    said: Option<String>,
}

/// The page itself.
#[derive(Template)]
#[template(path = "operations.html")]
struct Page<'a> {
    texts: &'a Texts,
    board: &'a Option<Board>,
    /// What waits for a second person before there is a rollout.
    starts: &'a [WaitingRow],
    /// What waits for one at all.
    waiting: &'a [WaitingRow],
    etag: &'a str,
    visitor: Visitor,
    token: &'a str,
    request_id: String,
    said: Option<String>,
    refused: Option<Detail>,
}

impl Page<'_> {
    /// Whether something waits that whoever looks may give leave for.
    fn can_be_approved(&self) -> bool {
        self.waiting.iter().any(|it| it.can_be_approved_by(&self.visitor))
    }
}

/// The parts that are renewed: how it is now, and all the rest below the commands.
#[derive(Template)]
#[template(path = "live.html")]
struct Live<'a> {
    texts: &'a Texts,
    board: &'a Option<Board>,
    starts: &'a [WaitingRow],
}

async fn look<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    Query(query): Query<Look>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let texts = Texts::of(language(query.lang.as_deref(), &headers));
    let said = match query.said.as_deref() {
        Some("paused") => Some(texts.say("said-paused")),
        Some("resumed") => Some(texts.say("said-resumed")),
        Some("frozen") => Some(texts.say("said-frozen")),
        Some("reclosed") => Some(texts.say("said-reclosed")),
        Some("approved") => Some(texts.say("said-approved")),
        Some(_) | None => None,
    };
    rooms.page(&texts, request.extensions(), (said, None)).await
}

impl<R: ProgressService, O: OperatorService, D: DeskService> Rooms<R, O, D> {
    async fn page(
        &self,
        texts: &Texts,
        sender: &Extensions,
        (said, refused): (Option<String>, Option<Detail>),
    ) -> Response {
        let board = self.board(texts, sender).await.ok();
        let starts = match &board {
            Some(_) => Vec::new(),
            None => self.starts(texts, sender).await,
        };
        let (waiting, etag) =
            board.as_ref().map_or((&starts, ""), |it| (&it.waiting, it.etag.as_str()));
        let code = if refused.is_some() { StatusCode::CONFLICT } else { StatusCode::OK };
        let page = Page {
            texts,
            board: &board,
            starts: &starts,
            waiting,
            etag,
            visitor: (self.house.who_sent)(sender),
            token: self.house.door.token(),
            request_id: door::random_id(),
            said,
            refused,
        };
        shown(&page, code)
    }

    /// The texts for whoever sent a form of ours; else what they are answered.
    fn admitted(
        &self,
        headers: &HeaderMap,
        (lang, token): (&str, &str),
    ) -> Result<Texts, Box<Response>> {
        let texts = Texts::of(language(Some(lang), headers));
        match self.house.door.admits(headers, token) {
            Ok(()) => Ok(texts),
            Err(refused) => {
                let refused = (StatusCode::FORBIDDEN, texts.say(refused.text()));
                Err(Box::new(refused.into_response()))
            }
        }
    }

    async fn board(&self, texts: &Texts, sender: &Extensions) -> Result<Board, Status> {
        let call = call(sender, v1::GetRolloutRequest {});
        let rollout = self.house.readers.get_rollout(call).await?.into_inner();
        self.story.follow(&self.house.readers, sender).await;
        Ok(Board::of(&rollout, &self.story.told(), texts))
    }

    /// Who waits to start, before there is a rollout; nobody where that cannot be told.
    async fn starts(&self, texts: &Texts, sender: &Extensions) -> Vec<WaitingRow> {
        let call = call(sender, v1::GetPlanRequest {});
        match self.house.readers.get_plan(call).await {
            Ok(plan) => WaitingRow::all_of(&plan.into_inner().waiting, texts),
            Err(_) => Vec::new(),
        }
    }
}

/// A page as it is answered.
fn shown(page: &impl Template, code: StatusCode) -> Response {
    match page.render() {
        Ok(page) => (code, Html(page)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The page as it changes, for whoever has it open.
async fn live<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    Query(query): Query<Look>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let texts = Texts::of(language(query.lang.as_deref(), &headers));
    let sender = request.extensions().clone();
    let watch = call(&sender, v1::WatchRolloutRequest {});
    let rollouts = match rooms.house.readers.watch_rollout(watch).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if code(&status) == NO_PLAN => {
            let events = until_started(rooms, texts, sender);
            return Sse::new(events).keep_alive(KeepAlive::default()).into_response();
        }
        Err(status) => {
            return (code_of(&status), status.message().to_owned()).into_response();
        }
    };
    let events = renewals(rooms, texts, sender, rollouts);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// One event for each change, and none sooner than people can read.
fn renewals<R: ProgressService, O: OperatorService, D: DeskService>(
    rooms: Arc<Rooms<R, O, D>>,
    texts: Texts,
    sender: Extensions,
    rollouts: R::WatchRolloutStream,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let rollouts = rollouts.take_while(Result::is_ok).filter_map(Result::ok);
    rollouts.throttle(RENEW_EVERY).then(move |rollout| {
        let (rooms, texts, sender) = (Arc::clone(&rooms), texts.clone(), sender.clone());
        async move {
            rooms.story.follow(&rooms.house.readers, &sender).await;
            let board = Board::of(&rollout, &rooms.story.told(), &texts);
            Ok(Live { texts: &texts, board: &Some(board), starts: &[] }.event())
        }
    })
}

/// Who waits to start, again and again until there is a rollout: then browsers come again.
fn until_started<R: ProgressService, O: OperatorService, D: DeskService>(
    rooms: Arc<Rooms<R, O, D>>,
    texts: Texts,
    sender: Extensions,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let looks = IntervalStream::new(tokio::time::interval(RENEW_EVERY));
    let events = looks.then(move |_| {
        let (rooms, texts, sender) = (Arc::clone(&rooms), texts.clone(), sender.clone());
        async move {
            let waits = match rooms.board(&texts, &sender).await {
                Ok(_) => false,
                Err(status) => code(&status) == NO_PLAN,
            };
            let starts = rooms.starts(&texts, &sender).await;
            waits.then(|| Live { texts: &texts, board: &None, starts: &starts }.event())
        }
    });
    events.take_while(Option::is_some).filter_map(|event| event.map(Ok))
}

impl Live<'_> {
    fn event(&self) -> Event {
        let page = self.render().unwrap_or_default().replace(['\n', '\r'], " ");
        Event::default().event("board").data(page)
    }
}

/// What a form sends.
#[derive(Debug, Deserialize)]
struct Asked {
    token: String,
    /// A part of the rollout, or what waits; nothing where the form is about all of it.
    #[serde(default)]
    what: String,
    request_id: String,
    #[serde(default)]
    by: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    etag: String,
    #[serde(default)]
    lang: String,
}

async fn pause<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(asked): Form<Asked>,
) -> Response {
    let texts = match rooms.admitted(&headers, (&asked.lang, &asked.token)) {
        Ok(texts) => texts,
        Err(refused) => return *refused,
    };
    let by = acts_as(&(rooms.house.who_sent)(&extensions), &asked.by);
    let message = v1::PauseRequest {
        by,
        reason: short(&asked.reason),
        request_id: asked.request_id,
        without: Vec::new(),
    };
    let answer = rooms.house.operators.pause(call(&extensions, message)).await;
    rooms.answered(&texts, &extensions, answer.map(drop), "paused").await
}

async fn resume<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(asked): Form<Asked>,
) -> Response {
    let texts = match rooms.admitted(&headers, (&asked.lang, &asked.token)) {
        Ok(texts) => texts,
        Err(refused) => return *refused,
    };
    let by = acts_as(&(rooms.house.who_sent)(&extensions), &asked.by);
    let message = v1::ResumeRequest {
        by,
        reason: short(&asked.reason),
        request_id: asked.request_id,
        etag: asked.etag,
        scope: None,
        without: Vec::new(),
    };
    let answer = rooms.house.operators.resume(call(&extensions, message)).await;
    rooms.answered(&texts, &extensions, answer.map(drop), "resumed").await
}

impl<R: ProgressService, O: OperatorService, D: DeskService> Rooms<R, O, D> {
    /// Back to the page, with what came of it. A form that is sent again does nothing twice: it
    /// has a request id.
    async fn answered(
        &self,
        texts: &Texts,
        sender: &Extensions,
        answer: Result<(), Status>,
        said: &str,
    ) -> Response {
        match answer {
            Ok(()) => {
                let lang = texts.language().code();
                Redirect::to(&format!("/?lang={lang}&said={said}")).into_response()
            }
            Err(status) => {
                let refused = Some(Detail::of(code(&status), status.message(), texts));
                self.page(texts, sender, (None, refused)).await
            }
        }
    }
}

/// The coordinator's own code of a refusal.
fn code(status: &Status) -> &str {
    let code = status.metadata().get("tidegate-code");
    code.and_then(|code| code.to_str().ok()).unwrap_or_default()
}

/// Under which name somebody acts: their certificate's, or what they say where nobody has one.
fn acts_as(visitor: &Visitor, said: &str) -> String {
    let said = said.trim();
    let said = if said.is_empty() { "local" } else { said };
    visitor.name.clone().unwrap_or_else(|| said.to_owned())
}

fn short(reason: &str) -> String {
    reason.trim().chars().take(REASON_CHARS_MAX).collect()
}

/// A call within the house, in the sender's name.
fn call<T>(sender: &Extensions, message: T) -> Call<T> {
    Call::from_parts(tonic::metadata::MetadataMap::new(), sender.clone(), message)
}

/// The language somebody asked for, or their browser's.
fn language(asked: Option<&str>, headers: &HeaderMap) -> Language {
    let accepted = || {
        let header = headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
        Language::accepted(header)
    };
    asked.and_then(Language::of_code).or_else(accepted).unwrap_or(Language::English)
}

fn code_of(status: &Status) -> StatusCode {
    match status.code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
        Code::ResourceExhausted | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn stylesheet() -> impl IntoResponse {
    let css = include_str!("../assets/operations.css");
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], css)
}

async fn script() -> impl IntoResponse {
    let js = include_str!("../assets/operations.js");
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], js)
}

/// What browsers are told of every answer.
const TOLD: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
         img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    // Without a referrer forms would not say where they come from.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

async fn harden(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    for (name, value) in TOLD {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
