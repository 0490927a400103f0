//! A coordinator that says what the test wants, over the real contract.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_core::fleet::{MailboxNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_wire::exchanger::{
    DirectoryHead, DoorChanges, QueueReport, Storage, Told, Watching,
};
use tidegate_wire::v1;
use tidegate_wire::v1::exchanger_service_server::{
    ExchangerService, ExchangerServiceServer,
};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// How often it looks for changes, as the real one.
const LOOK: Duration = Duration::from_millis(100);

/// Who there is: address, node, wave.
pub(crate) const MAILBOXES: [(&str, u16); 4] = [
    ("anna@example.org", 0),
    ("bert@example.org", 0),
    ("carla@example.org", 1),
    ("dora@example.org", 1),
];

/// A coordinator on loopback.
pub(crate) struct Coordinator {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct State {
    open: BTreeSet<u32>,
    storages: Vec<Storage>,
    report: Option<QueueReport>,
    directories_told: u32,
}

impl Coordinator {
    /// Starts one at a free port; everybody is held.
    pub(crate) fn start() -> Self {
        let storage = Storage { healthy: true, deliveries_per_second: 50 };
        let state = State { storages: vec![storage], ..State::default() };
        let mut coordinator = Self {
            state: Arc::new(Mutex::new(state)),
            address: "127.0.0.1:0".parse().unwrap(),
            runtime: None,
            stop: None,
        };
        coordinator.resume();
        coordinator
    }

    /// Starts it again, at the same port.
    pub(crate) fn resume(&mut self) {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(self.address));
        let listener = listener.unwrap();
        self.address = listener.local_addr().unwrap();
        let service = Service { state: Arc::clone(&self.state) };
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Server::builder()
            .add_service(ExchangerServiceServer::new(service))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                drop(stopped.await);
            });
        runtime.spawn(served);
        (self.runtime, self.stop) = (Some(runtime), Some(stop));
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn open(&self, address: &str) {
        self.state.lock().unwrap().open.insert(number(address));
    }

    pub(crate) fn hold(&self, address: &str) {
        self.state.lock().unwrap().open.remove(&number(address));
    }

    /// What the exchanger has last reported.
    pub(crate) fn report(&self) -> Option<QueueReport> {
        self.state.lock().unwrap().report.clone()
    }

    /// How often all mailboxes had to be told.
    pub(crate) fn directories_told(&self) -> u32 {
        self.state.lock().unwrap().directories_told
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop();
    }
}

fn number(address: &str) -> u32 {
    let at = MAILBOXES.iter().position(|(of, _)| *of == address).unwrap();
    u32::try_from(at).unwrap()
}

struct Service {
    state: Arc<Mutex<State>>,
}

#[tonic::async_trait]
impl ExchangerService for Service {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watching = Watching::try_from(request.into_inner())?;
        let follows = watching.holds != Some(plan());
        let (to, parts) = mpsc::channel(8);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            for told in beginning(&state, follows) {
                if to.send(Ok(told.into())).await.is_err() {
                    return;
                }
            }
            let mut told = state.lock().unwrap().open.clone();
            loop {
                tokio::time::sleep(LOOK).await;
                let (open, storages) = {
                    let state = state.lock().unwrap();
                    (state.open.clone(), state.storages.clone())
                };
                let numbers = |of: &BTreeSet<u32>, but: &BTreeSet<u32>| {
                    of.difference(but).copied().map(MailboxNumber::new).collect()
                };
                let changes = DoorChanges {
                    opened: numbers(&open, &told),
                    held: numbers(&told, &open),
                };
                told = open;
                for news in [Told::DoorChanges(changes), Told::Storages(storages)] {
                    if to.send(Ok(news.into())).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(parts)))
    }

    async fn report_queue(
        &self,
        request: Request<v1::ReportQueueRequest>,
    ) -> Result<Response<v1::ReportQueueResponse>, Status> {
        let report = QueueReport::try_from(request.into_inner())?;
        self.state.lock().unwrap().report = Some(report);
        Ok(Response::new(v1::ReportQueueResponse {}))
    }
}

fn beginning(state: &Mutex<State>, follows: bool) -> Vec<Told> {
    let mut state = state.lock().unwrap();
    let head = DirectoryHead {
        plan: plan(),
        waves: vec!["canary".to_owned(), "rest".to_owned()],
        nodes: vec![("n1".to_owned(), u32::try_from(MAILBOXES.len()).unwrap())],
        follows,
    };
    let mut told = vec![Told::Directory(head)];
    if follows {
        state.directories_told += 1;
        let wave = |(address, wave): (&str, u16)| {
            (address.to_owned(), Some(WaveNumber::new(wave)))
        };
        told.push(Told::Mailboxes(MAILBOXES.map(wave).to_vec()));
    }
    let bits = state.open.iter().fold(0, |bits, number| bits | 1 << number);
    told.push(Told::Doors { first: MailboxNumber::new(0), bits: vec![bits] });
    told.push(Told::Storages(state.storages.clone()));
    told.push(Told::Complete);
    told
}

fn plan() -> Digest {
    Digest::new([7; 32])
}
