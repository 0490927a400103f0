//! Serves everybody over one listener or several, until told to stop: gRPC, and pages over plain
//! HTTP where there are readers.
//!
//! # Invariants
//!
//! * Every connection, stream, message and wait has a limit; tonic's defaults have few.
//! * Workers, operators, readers and exchangers have room of their own, also on one listener.
//! * Stopping ends: watchers are told, calls may finish, then everything is cut.

mod connection;
mod descriptors;
mod hall;
mod pages;
mod patience;
mod sender;
mod turnstile;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_trust::Entrance;
use tidegate_wire::limits::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, SYNC_BYTES_MAX};
use tidegate_wire::v1::desk_service_server::DeskServiceServer;
use tidegate_wire::v1::exchanger_service_server::ExchangerServiceServer;
use tidegate_wire::v1::operator_service_server::OperatorServiceServer;
use tidegate_wire::v1::progress_service_server::ProgressServiceServer;
use tidegate_wire::v1::worker_service_server::WorkerServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::codegen::http;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::field::Empty;

use crate::Inside;
use crate::asked::Asked;
use crate::auditing::Audit;
use crate::desk::Desk;
use crate::exchangers::{Exchangers, Queues};
use crate::identity::Identity;
use crate::operators::Operators;
use crate::owner::{Inbox, Views};
use crate::readers::{Readers, Show};
use crate::workers::Workers;
pub(crate) use hall::Peer;
use hall::{Class, Hall};
use pages::Pages;
use turnstile::Turnstile;

/// Until a call's answer begins, and nothing else has ended it; an upload of millions of rows is
/// one call.
const CALL_TIME_MAX: Duration = Duration::from_mins(15);

/// Streams of one connection: watchers behind one proxy.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;

/// Bytes of a request's headers: ours have a few hundred.
const HEADER_BYTES_MAX: u32 = 8 << 10;

/// Bytes of uploads under way on one stream: enough to keep a fast upload busy.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of uploads under way on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// Streams that a client opens and gives up at once, before its connection is ended.
const RESETS_MAX: usize = 32;

/// Silent connections are asked this often whether they are alive, and given that long.
const KEEPALIVE: (Duration, Duration) =
    (Duration::from_secs(20), Duration::from_secs(10));

/// How often it is told that callers were turned away.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long calls may take to finish once stopping.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// Where callers come.
pub(crate) struct Listeners {
    /// Workers and exchangers, and everybody for whom there is no other.
    pub(crate) all: TcpListener,
    /// Operators, who also read.
    pub(crate) operators: Option<TcpListener>,
    /// Readers.
    pub(crate) readers: Option<TcpListener>,
    /// Whoever restarts and routes; they show nothing, and learn only whether it lives.
    pub(crate) probes: Option<TcpListener>,
    /// What everybody shows a certificate at, if they do.
    pub(crate) entrance: Option<Entrance>,
    /// Browsers.
    pub(crate) pages: Option<(TcpListener, MakePages)>,
}

/// Makes pages, of what they may ask.
pub(crate) type MakePages = Box<dyn FnOnce(Inside) -> axum::Router + Send>;

/// What the services are made of.
#[derive(Clone)]
pub(crate) struct Services {
    /// The way to the owner.
    pub(crate) inbox: Inbox,
    /// What readers see.
    pub(crate) views: Views,
    /// Turns true when everybody shall go.
    pub(crate) stopping: watch::Receiver<bool>,
    /// What waits in the queues of mail exchangers.
    pub(crate) queues: Queues,
    /// Where it is written down who does and looks at what.
    pub(crate) audit: Audit,
    /// Which data directory this is.
    pub(crate) identity: Identity,
    /// Who answers the desk.
    pub(crate) desk: Desk,
}

/// Whom a listener serves, besides readers of health and descriptions.
#[derive(Clone, Copy)]
struct Audience {
    workers: bool,
    operators: bool,
    readers: bool,
}

/// Serves until `stopping`, and a little longer for calls to finish.
///
/// # Errors
///
/// When a listener fails.
pub(crate) async fn serve(
    listeners: Listeners,
    services: Services,
) -> anyhow::Result<()> {
    let mut deadline = services.stopping.clone();
    let cut = async move {
        drop(deadline.wait_for(|stopping| *stopping).await);
        tokio::time::sleep(STOP_TIME_MAX).await;
    };
    // Neither is waited for again: the first to end, ends both.
    tokio::select! {
        served = serve_all(listeners, services) => served.context("serve"),
        () = cut => {
            tracing::warn!("some calls did not finish in time and were cut");
            Ok(())
        }
    }
}

async fn serve_all(listeners: Listeners, services: Services) -> anyhow::Result<()> {
    let Listeners { all, operators, readers, probes, pages, entrance } = listeners;
    let everybody = operators.is_none();
    let of_all = Audience { workers: true, operators: everybody, readers: everybody };
    let of_operators = Audience { workers: false, operators: true, readers: true };
    let of_readers = Audience { workers: false, operators: false, readers: true };
    let listeners = [
        Some((all, of_all)),
        operators.map(|it| (it, of_operators)),
        readers.map(|it| (it, of_readers)),
    ];
    let listeners: Vec<_> = listeners.into_iter().flatten().collect();
    let others = usize::from(pages.is_some()) + usize::from(probes.is_some());
    let each = descriptors::most() / (listeners.len() + others);
    let (mut serving, mut telling) = (JoinSet::new(), JoinSet::new());
    let mut routers = Vec::new();
    for (listener, audience) in listeners {
        let router = router(services.clone(), audience).await?;
        routers.push((listener, router, entrance.clone()));
    }
    if let Some((listener, make)) = pages {
        routers.push((listener, pages_router(services.clone(), make), entrance));
    }
    if let Some(listener) = probes {
        // Who restarts it has no certificate, and learns nothing but that it lives.
        routers.push((listener, probes_router(services.inbox.clone()), None));
    }
    for (listener, router, entrance) in routers {
        let hall = Hall::new(each);
        telling.spawn(tell(Arc::clone(&hall)));
        let mut stopping = services.stopping.clone();
        let stopped = async move {
            // Without a sender there is nobody left to serve for.
            drop(stopping.wait_for(|stopping| *stopping).await);
        };
        let arrivals = connection::arrivals(listener, entrance, hall);
        serving.spawn(router.serve_with_incoming_shutdown(arrivals, stopped));
    }
    while let Some(served) = serving.join_next().await {
        served??;
    }
    Ok(())
}

/// Tells who was turned away, for as long as it is polled.
async fn tell(hall: Arc<Hall>) {
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        for (class, refused, cut) in hall.turned_away() {
            tracing::warn!(?class, refused, cut, "callers were turned away");
        }
    }
}

async fn router(services: Services, audience: Audience) -> anyhow::Result<Router> {
    let Services { inbox, views, stopping, queues, audit, identity, desk } = services;
    let Audience { workers, operators, readers } = audience;
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(Turnstile::new(Class::Reader, health));
    if workers {
        let service = WorkerServiceServer::new(Workers::new(inbox.clone()))
            .max_decoding_message_size(SYNC_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
        routes = routes.add_service(Turnstile::of_workers(service, inbox.clone()));
        reporter.set_serving::<WorkerServiceServer<Workers>>().await;
        let (views, stopping) = (views.clone(), stopping.clone());
        let exchangers = Exchangers::new(views, stopping, queues.clone());
        let service = ExchangerServiceServer::new(exchangers)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
        routes = routes.add_service(Turnstile::new(Class::Exchanger, service));
        reporter.set_serving::<ExchangerServiceServer<Exchangers>>().await;
    }
    if operators {
        let operators = Operators::new(inbox.clone(), views.clone(), audit.clone())
            .of(identity.clone());
        let service = OperatorServiceServer::new(operators)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
        let turnstile = Turnstile::of_operators(service, audit.clone());
        routes = routes.add_service(turnstile);
        reporter.set_serving::<OperatorServiceServer<Operators>>().await;
    }
    if readers {
        let show = Arc::new(Show::new(queues));
        let asked = Asked::default();
        let pages = Pages {
            inbox: inbox.clone(),
            views: views.clone(),
            show: Arc::clone(&show),
            asked: asked.clone(),
        };
        let beside = std::mem::take(routes.axum_router_mut());
        *routes.axum_router_mut() = beside.merge(pages::routes(pages));
        let readers = Readers::new(inbox, views, (stopping, audit.clone()), show);
        let readers = readers.of(identity);
        routes = routes.add_service(of_desk(desk, audit.clone()));
        reporter.set_serving::<DeskServiceServer<Desk>>().await;
        let service = ProgressServiceServer::new(readers)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
        routes = routes.add_service(Turnstile::of_readers(service, asked, audit));
        reporter.set_serving::<ProgressServiceServer<Readers>>().await;
    }
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tidegate_wire::DESCRIPTORS)
    };
    let reflection = describe().build_v1().context("describe the services")?;
    // Python's tools and older ones know only this one.
    let reflection_before =
        describe().build_v1alpha().context("describe the services as before")?;
    let routes = routes
        .add_service(Turnstile::new(Class::Reader, reflection))
        .add_service(Turnstile::new(Class::Reader, reflection_before));
    Ok(server().accept_http1(readers).add_routes(routes))
}

/// The desk, with a reader's places.
fn of_desk(desk: Desk, audit: Audit) -> Turnstile<DeskServiceServer<Desk>> {
    let service = DeskServiceServer::new(desk)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    Turnstile::of_desk(service, audit)
}

/// Pages for browsers, behind the turnstile of all pages.
fn pages_router(services: Services, make: MakePages) -> Router {
    let Services { inbox, views, stopping, queues, audit, desk, .. } = services;
    let show = Arc::new(Show::new(queues));
    let operators = Operators::new(inbox.clone(), views.clone(), audit.clone());
    // Pages count findings and name nobody: that is no look at single mailboxes.
    let readers = Readers::new(inbox, views, (stopping, Audit::none()), show);
    let routes = make(Inside { readers, operators, desk });
    let routes = pages::behind_turnstile(routes, audit);
    server().accept_http1(true).add_routes(Routes::from(routes))
}

/// Whether it lives, for whoever restarts and routes.
fn probes_router(inbox: Inbox) -> Router {
    server().accept_http1(true).add_routes(Routes::from(pages::probes(inbox)))
}

fn server() -> Server {
    let (ask_after, give_up_after) = KEEPALIVE;
    Server::builder()
        .trace_fn(span)
        .timeout(CALL_TIME_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(ask_after))
        .http2_keepalive_timeout(Some(give_up_after))
}

/// The span of a call. What identifies its subject is filled in by who serves it; nothing
/// that names a mailbox ever is.
fn span(request: &http::Request<()>) -> tracing::Span {
    tracing::info_span!(
        "call",
        method = request.uri().path(),
        node_id = Empty,
        job_id = Empty,
        generation = Empty
    )
}
