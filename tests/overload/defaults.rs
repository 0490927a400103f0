//! Defaults: the same attacks on a server with tonic's defaults and on the coordinator.
//!
//! # Invariants
//!
//! * Both are attacked alike and at the same time, over plain TCP, where a stranger begins.
//! * Nothing is measured in time: the attack lasts until the coordinator has got rid of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use tidegate_wire::v1;
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tidegate_wire::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status};

use crate::deaf;
use crate::frames::{self, Attack};
use crate::scene::{Scene, joining, until};

/// Connections of an attack: fewer than strangers may have, so that none makes room for another.
const CONNECTIONS: usize = 200;

/// A message larger than any that the coordinator takes, and smaller than tonic's 4 MiB.
const LARGE_BYTES: usize = 1 << 20;

/// A server as tonic makes it where nobody says anything.
pub(crate) struct Defaults {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// How one of the two came through an attack.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) attack: &'static str,
    pub(crate) defaults: String,
    pub(crate) ours: String,
}

impl Defaults {
    /// Starts one that serves workers.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let service = WorkerServiceServer::new(Obliging);
            let server = Server::builder().add_service(service);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self { address, serving }
    }

    /// Attacks both.
    pub(crate) async fn beside(&self, scene: &Scene) -> Vec<Row> {
        let ours: SocketAddr = scene.address().parse().unwrap();
        let both = [self.address, ours];
        let row = |attack, [defaults, ours]: [String; 2]| Row { attack, defaults, ours };
        vec![
            row("200 connections that say nothing", held(both, &[]).await),
            row(
                "200 that speak HTTP/2 and then say nothing",
                held(both, &deaf::greeting()).await,
            ),
            row("calls at once that one connection may have", both.map(calls_at_once)),
            row("a message of 1 MiB", [send(both[0]).await, send(both[1]).await]),
            row("calls given up at once", frames::beside(both, Attack::RapidReset).await),
            row("headers without end", frames::beside(both, Attack::Continuations).await),
            row(
                "1,000 calls with unfinished messages",
                frames::beside(both, Attack::UnfinishedBodies).await,
            ),
            row(
                "pings without end and no call",
                frames::beside(both, Attack::Pings).await,
            ),
        ]
    }
}

impl Drop for Defaults {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// How many of so many connections that began with `words` each still holds once the
/// coordinator, which is the second, has none left.
async fn held(both: [SocketAddr; 2], words: &[u8]) -> [String; 2] {
    let mut crowds = both.map(|address| crowd(address, words));
    let [_, ours] = &mut crowds;
    until("the coordinator has dropped them", || {
        ours.retain_mut(|stream| !is_dropped(stream));
        ours.is_empty()
    })
    .await;
    crowds.map(|mut crowd| {
        crowd.retain_mut(|stream| !is_dropped(stream));
        format!("{} held", crowd.len())
    })
}

fn crowd(address: SocketAddr, words: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(words).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    (0..CONNECTIONS).map(connect).collect()
}

fn is_dropped(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1_024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// What a server says of how many calls it takes at once, in its first frame.
fn calls_at_once(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&deaf::greeting()).unwrap();
    let settings = deaf::settings(&mut stream);
    settings.get(&deaf::CALLS_MAX).map_or("no limit".to_owned(), u32::to_string)
}

async fn send(address: SocketAddr) -> String {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = WorkerServiceClient::new(endpoint.connect().await.unwrap());
    let large = joining(&"x".repeat(LARGE_BYTES), 1);
    let code = client.join(large).await.unwrap_err().code();
    // What a service says has been taken; what is too large never gets to one.
    let told = if code == Code::OutOfRange { "refused" } else { "taken" };
    told.to_owned()
}

/// Takes whatever comes, and does nothing.
struct Obliging;

#[tonic::async_trait]
impl WorkerService for Obliging {
    type FetchJobStream = tokio_stream::Empty<Result<v1::FetchJobResponse, Status>>;

    async fn join(
        &self,
        _request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        Err(Status::unimplemented("taken"))
    }

    async fn sync(
        &self,
        _request: Request<v1::SyncRequest>,
    ) -> Result<Response<v1::SyncResponse>, Status> {
        Err(Status::unimplemented("taken"))
    }

    async fn fetch_job(
        &self,
        _request: Request<v1::FetchJobRequest>,
    ) -> Result<Response<Self::FetchJobStream>, Status> {
        Err(Status::unimplemented("taken"))
    }
}
