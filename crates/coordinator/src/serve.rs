//! Serves everybody over one listener, until told to stop.
//!
//! # Invariants
//!
//! * Every connection, stream, message and wait has a limit; tonic's defaults have few.
//! * Stopping ends: watchers are told, calls may finish, then everything is cut.

use std::io;
use std::time::Duration;

use anyhow::Context;
use tidegate_wire::limits::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, SYNC_BYTES_MAX};
use tidegate_wire::v1::exchanger_service_server::ExchangerServiceServer;
use tidegate_wire::v1::operator_service_server::OperatorServiceServer;
use tidegate_wire::v1::progress_service_server::ProgressServiceServer;
use tidegate_wire::v1::worker_service_server::WorkerServiceServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::codegen::http;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tracing::field::Empty;

use crate::exchangers::{Exchangers, Queues};
use crate::operators::Operators;
use crate::owner::{Inbox, Views};
use crate::readers::Readers;
use crate::workers::Workers;

/// Until a call's answer begins; an upload of millions of rows is one call. Shorter waits
/// inside are bounded where they happen.
const CALL_TIME_MAX: Duration = Duration::from_mins(15);

/// Calls under way on one connection; a worker has two, a dashboard a few.
const CALLS_PER_CONNECTION_MAX: usize = 64;

/// Streams of one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;

/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Bytes of uploads under way on one stream: enough to keep a fast upload busy.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes of uploads under way on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Silent connections are asked this often whether they are alive, and given that long.
const KEEPALIVE: (Duration, Duration) =
    (Duration::from_secs(20), Duration::from_secs(10));

/// How long nobody new is taken in when that has just failed, for example because no file
/// descriptor is left: the next attempt would fail as well, and attempts cost a processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long calls may take to finish once stopping.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// What the services are made of.
pub(crate) struct Services {
    /// The way to the owner.
    pub(crate) inbox: Inbox,
    /// What readers see.
    pub(crate) views: Views,
    /// Turns true when everybody shall go.
    pub(crate) stopping: watch::Receiver<bool>,
    /// What waits in the queues of mail exchangers.
    pub(crate) queues: Queues,
}

/// Serves until `stopping`, and a little longer for calls to finish.
///
/// # Errors
///
/// When the listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    services: Services,
) -> anyhow::Result<()> {
    let mut stopping = services.stopping.clone();
    let mut deadline = services.stopping.clone();
    let router = router(services).await?;
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(Duration::from_mins(1)))
        .then(after_a_pause_unless_accepted);
    let stopped = async move {
        // Without a sender there is nobody left to serve for.
        drop(stopping.wait_for(|stopping| *stopping).await);
    };
    let served = router.serve_with_incoming_shutdown(incoming, stopped);
    let cut = async move {
        drop(deadline.wait_for(|stopping| *stopping).await);
        tokio::time::sleep(STOP_TIME_MAX).await;
    };
    // Neither is waited for again: the first to end, ends both.
    tokio::select! {
        served = served => served.context("serve"),
        () = cut => {
            tracing::warn!("some calls did not finish in time and were cut");
            Ok(())
        }
    }
}

async fn after_a_pause_unless_accepted(
    accepted: io::Result<TcpStream>,
) -> io::Result<TcpStream> {
    if accepted.is_err() {
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
    accepted
}

async fn router(services: Services) -> anyhow::Result<Router> {
    let Services { inbox, views, stopping, queues } = services;
    let workers = WorkerServiceServer::new(Workers::new(inbox.clone()))
        .max_decoding_message_size(SYNC_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let operators =
        OperatorServiceServer::new(Operators::new(inbox.clone(), views.clone()))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
    let exchangers = Exchangers::new(views.clone(), stopping.clone(), queues.clone());
    let exchangers = ExchangerServiceServer::new(exchangers)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX);
    let readers =
        ProgressServiceServer::new(Readers::new(inbox, views, stopping, queues))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(ANSWER_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<WorkerServiceServer<Workers>>().await;
    reporter.set_serving::<OperatorServiceServer<Operators>>().await;
    reporter.set_serving::<ProgressServiceServer<Readers>>().await;
    reporter.set_serving::<ExchangerServiceServer<Exchangers>>().await;
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tidegate_wire::DESCRIPTORS)
    };
    let reflection = describe().build_v1().context("describe the services")?;
    // Python's tools and older ones know only this one.
    let reflection_before =
        describe().build_v1alpha().context("describe the services as before")?;
    let (ask_after, give_up_after) = KEEPALIVE;
    Ok(Server::builder()
        .trace_fn(span)
        .timeout(CALL_TIME_MAX)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .load_shed(true)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(ask_after))
        .http2_keepalive_timeout(Some(give_up_after))
        .add_service(workers)
        .add_service(operators)
        .add_service(readers)
        .add_service(exchangers)
        .add_service(health)
        .add_service(reflection)
        .add_service(reflection_before))
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
