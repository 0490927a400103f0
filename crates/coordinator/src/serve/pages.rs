//! Pages over plain HTTP, beside gRPC on the same address: `/metrics` for Prometheus, `/livez` and
//! `/readyz` for whoever restarts and routes.
//!
//! # Invariants
//!
//! * Whoever asks is a reader, with a reader's places, and is cut as one.
//! * The coordinator is alive while whoever owns the rollout takes questions; restarting it would
//!   not help one that only has too much to do.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::timeout;

use super::hall::{Class, Kind, Peer};
use super::turnstile::Answer;
use tidegate_trust::asked_for;

use crate::asked::Asked;
use crate::auditing::Audit;
use crate::metrics;
use crate::owner::{Inbox, Views};
use crate::readers::Show;
use crate::refused::Refused;

/// Who is ready answers at once, even on a busy disk.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// As the specification of `OpenMetrics` has it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What pages are made from.
#[derive(Clone)]
pub(super) struct Pages {
    /// The way to the owner, for whoever asks whether it lives.
    pub(super) inbox: Inbox,
    /// What readers see.
    pub(super) views: Views,
    /// How they see it.
    pub(super) show: Arc<Show>,
    /// How long their questions take.
    pub(super) asked: Asked,
}

/// All pages.
pub(super) fn routes(pages: Pages) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(pages.clone())
        .merge(Router::new().route("/livez", get(live)).route("/readyz", get(ready)))
        .layer(from_fn_with_state(Audit::none(), enter))
        .with_state(pages.inbox)
}

/// Whether it lives and is ready, and nothing else.
pub(super) fn probes(inbox: Inbox) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .layer(from_fn_with_state(Audit::none(), enter))
        .with_state(inbox)
}

/// Other pages, with the places of whoever asks for them; whoever sends a form that is not for
/// them is noted.
pub(super) fn behind_turnstile(pages: Router, audit: Audit) -> Router {
    pages.layer(from_fn_with_state(audit, enter))
}

/// What an answer without an end is asked for by.
const WATCH: &str = "/live";

/// A refused form is taken up to this length and for this time: who is still sending loses the
/// answer over HTTP/2.
const REFUSED_BYTES_MAX: usize = 16 << 10;
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// What a request is: forms are what operators send, and those that stop have places that nothing
/// else takes.
fn kind_of(request: &Request) -> (Class, Kind) {
    match (request.method().is_safe(), request.uri().path()) {
        (true, WATCH) => (Class::Reader, Kind::Watch),
        (true, _) => (Class::Reader, Kind::Usual),
        (false, "/pause" | "/freeze" | "/reclose") => (Class::Operator, Kind::Stop),
        (false, _) => (Class::Operator, Kind::Usual),
    }
}

async fn metrics(State(Pages { views, show, asked, .. }): State<Pages>) -> Response {
    let view = views.borrow().clone();
    let rollout = view.map(|view| show.rollout(&view));
    let page = metrics::page(rollout.as_deref(), &asked);
    ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response()
}

async fn live(State(inbox): State<Inbox>) -> (StatusCode, String) {
    match inbox.ask(|_, _| Ok(())).await {
        Err(refused @ (Refused::Busy | Refused::Stopping)) => unavailable(&refused),
        Ok(()) | Err(_) => (StatusCode::OK, "alive\n".to_owned()),
    }
}

async fn ready(State(inbox): State<Inbox>) -> (StatusCode, String) {
    match timeout(READY_WITHIN, inbox.ask(|_, _| Ok(()))).await {
        Ok(Ok(()) | Err(Refused::NoPlan)) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(refused)) => unavailable(&refused),
        Err(_) => unavailable(&Refused::Busy),
    }
}

fn unavailable(refused: &Refused) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{refused}\n"))
}

/// The turnstile of pages: whoever finds no room is refused before anything is done.
async fn enter(State(audit): State<Audit>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned().ok_or(Refused::Stopping);
    let sends = !request.method().is_safe();
    let (class, kind) = kind_of(&request);
    let allowed = peer.and_then(|peer| {
        let path = request.uri().path();
        peer.caller().may_see(path, sends).inspect_err(|refused| {
            if sends {
                // It was refused, so nothing depends on its being written.
                drop(audit.note(peer.caller(), (asked_for(path), ""), refused.name()));
            }
        })?;
        peer.begin(class, kind)
    });
    let call = match allowed {
        Ok(call) => call,
        Err(refused @ Refused::NotAllowed { .. }) => {
            let rest = to_bytes(request.into_body(), REFUSED_BYTES_MAX);
            // Whatever it is, it is thrown away.
            drop(timeout(REFUSED_WITHIN, rest).await);
            return (StatusCode::FORBIDDEN, format!("{refused}\n")).into_response();
        }
        Err(refused) => return unavailable(&refused).into_response(),
    };
    request.extensions_mut().insert(call.receiving());
    let answer = next.run(request).await;
    call.answers();
    answer.map(|body| Body::new(Answer { body, _call: call }))
}
