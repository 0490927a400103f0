//! Floods: clients that misbehave for as long as the scene lasts.
//!
//! # Invariants
//!
//! * A flood ends with the value that stands for it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::mailbox::MailboxState;
use tidegate_core::rollout::{JobReport, MessageTotals};
use tidegate_wire::v1;
use tidegate_wire::v1::operator_service_client::OperatorServiceClient;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, yield_now};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::deaf;
use crate::scene::{OPERATOR, Scene, Taken, Way, joining, report, until};

/// What is answered to bytes that are no message, or one that breaks a rule.
pub(crate) const MALFORMED: &[Code] = &[Code::Internal, Code::InvalidArgument];

/// What is answered to workers of nodes that are in no plan.
pub(crate) const UNKNOWN: &[Code] = &[Code::FailedPrecondition];

/// Connections of a flood.
const CONNECTIONS: usize = 12;

/// Calls under way on each.
const CALLS: usize = 8;

/// A watcher that was let go comes again after this time, as people and their tools do.
const COMES_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Calls of one deaf client.
const DEAF_CALLS: u32 = 8;

/// A report of a mad worker: a hundred kilobytes or more.
const REPORTS: u32 = 50;
const FACTS: u16 = 400;

/// Clients that go on until this is dropped.
pub(crate) struct Flood {
    seen: Arc<Seen>,
    clients: JoinSet<()>,
    size: usize,
}

/// What they saw.
#[derive(Default)]
struct Seen {
    refused: AtomicU64,
    ended: AtomicUsize,
    codes: Mutex<BTreeSet<i32>>,
    answers: Mutex<Vec<u64>>,
}

impl Seen {
    fn hear<T>(&self, answer: Result<T, Status>) {
        if let Err(status) = answer {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.codes.lock().unwrap().insert(status.code() as i32);
        }
    }
}

impl Flood {
    fn new() -> Self {
        Self { seen: Arc::default(), clients: JoinSet::new(), size: 0 }
    }

    /// Watchers, each with a connection of its own.
    pub(crate) async fn of_watchers(scene: &Scene, watchers: usize) -> Self {
        let mut flood = Self::new();
        flood.size = watchers;
        flood.seen.answers.lock().unwrap().resize(watchers, 0);
        for number in 0..watchers {
            let mut client = ProgressServiceClient::new(scene.channel().await);
            let seen = Arc::clone(&flood.seen);
            flood.clients.spawn(async move {
                let request = v1::WatchRolloutRequest {};
                let mut answers =
                    client.watch_rollout(request).await.unwrap().into_inner();
                while answers.message().await.unwrap().is_some() {
                    *seen.answers.lock().unwrap().get_mut(number).unwrap() += 1;
                }
            });
        }
        flood
    }

    /// Watches without end: whoever is let go before it could say so comes again. Counts
    /// itself in `watching` while it is answered.
    pub(crate) async fn watch(connection: Channel, watching: Arc<AtomicUsize>) {
        let mut client = ProgressServiceClient::new(connection);
        loop {
            // Whoever is not taken in waits here.
            let answers = client.watch_rollout(v1::WatchRolloutRequest {}).await;
            if let Ok(answers) = answers {
                watching.fetch_add(1, Ordering::Relaxed);
                let mut answers = answers.into_inner();
                while let Ok(Some(_)) = answers.message().await {}
                watching.fetch_sub(1, Ordering::Relaxed);
            }
            tokio::time::sleep(COMES_AGAIN_AFTER).await;
        }
    }

    /// Waits until every watcher has had so many answers.
    pub(crate) async fn until_all_have_seen(&self, scene: &Scene, answers: u64) {
        until("every watcher is answered", || {
            let all = self.seen.answers.lock().unwrap();
            all.iter().all(|seen| *seen >= answers)
        })
        .await;
        assert_eq!(self.clients.len(), self.size, "{}", scene.log());
    }

    /// Clients that call and take no byte of an answer: half of them watch, half ask.
    pub(crate) fn of_deaf_readers(scene: &Scene, readers: usize) -> Self {
        let mut flood = Self::new();
        for reader in 0..readers {
            let (seen, address) = (Arc::clone(&flood.seen), scene.address().to_owned());
            let files = scene.is_secured().then(|| scene.certificate_of(OPERATOR));
            flood.clients.spawn(async move {
                let method =
                    if reader % 2 == 0 { "WatchRollout" } else { "ListMailboxes" };
                let path = format!("/tidegate.v1.ProgressService/{method}");
                let tcp = TcpStream::connect(address).await.unwrap();
                match files {
                    None => deaf::call(tcp, &path, DEAF_CALLS).await,
                    Some(files) => {
                        let tls = deaf::encrypted(tcp, &files).await.unwrap();
                        deaf::call(tls, &path, DEAF_CALLS).await;
                    }
                }
                seen.ended.fetch_add(1, Ordering::Relaxed);
            });
        }
        flood
    }

    /// Clients that have lost their connection.
    pub(crate) fn ended(&self) -> usize {
        self.seen.ended.load(Ordering::Relaxed)
    }

    /// The largest reports, from many connections, for `taken`.
    pub(crate) fn of_reports(scene: &Scene, taken: Taken) -> Self {
        let facts = (0..FACTS).map(|it| (Ordinal::new(it), MailboxState::default()));
        let facts: Vec<_> = facts.collect();
        let reports = (0..REPORTS).map(|job| {
            v1::JobReport::from(JobReport {
                job: JobNumber::new(job),
                generation: Generation::default(),
                facts: facts.clone(),
                totals: MessageTotals::default(),
                findings: Vec::new(),
            })
        });
        let reports: Arc<Vec<v1::JobReport>> = Arc::new(reports.collect());
        Self::of(scene, move |channel, number| {
            let mut message = report(taken, number, 0);
            message.reports.clone_from(reports.as_ref());
            async move { WorkerServiceClient::new(channel).sync(message).await.map(drop) }
        })
    }

    /// Reports that are larger than any may be.
    pub(crate) fn of_oversized(scene: &Scene) -> Self {
        Self::of(scene, |channel, number| async move {
            let node = "x".repeat(2 << 20);
            WorkerServiceClient::new(channel).join(joining(&node, number)).await.map(drop)
        })
    }

    /// Bytes that are no reports.
    pub(crate) fn of_malformed(scene: &Scene) -> Self {
        Self::of(scene, |channel, number| async move {
            let mut client = tonic::client::Grpc::new(channel);
            client.ready().await.map_err(|_| Status::unknown("not ready"))?;
            let path = PathAndQuery::from_static("/tidegate.v1.WorkerService/Sync");
            let codec: ProstCodec<v1::JoinRequest, v1::SyncResponse> =
                ProstCodec::default();
            let request = Request::new(joining("stor-01", number));
            client.unary(request, path, codec).await.map(drop)
        })
    }

    /// Workers of nodes that are in no plan.
    pub(crate) fn of_unknown_nodes(scene: &Scene) -> Self {
        Self::of(scene, |channel, number| async move {
            let joining = joining(&format!("stor-{}", 1_000 + number), number);
            WorkerServiceClient::new(channel).join(joining).await.map(drop)
        })
    }

    /// Operators who resume without end: each makes a record.
    pub(crate) fn of_resumptions(scene: &Scene) -> Self {
        Self::of(scene, |channel, number| async move {
            let mut client = OperatorServiceClient::new(channel);
            let (by, reason) = ("bob".to_owned(), "why not".to_owned());
            if number.is_multiple_of(2) {
                let request = v1::PauseRequest { by, reason, ..Default::default() };
                return client.pause(request).await.map(drop);
            }
            let request = v1::ResumeRequest { by, reason, ..Default::default() };
            client.resume(request).await.map(drop)
        })
    }

    /// Readers who ask without end.
    pub(crate) fn of_questions(scene: &Scene) -> Self {
        Self::at(&scene.for_readers(), |channel, _| async move { ask(channel).await })
    }

    fn of<F>(
        scene: &Scene,
        call: impl Fn(Channel, u64) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        Self::at(&scene.endpoint(), call)
    }

    fn at<F>(way: &Way, call: impl Fn(Channel, u64) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let mut flood = Self::new();
        let call = Arc::new(call);
        let number = Arc::new(AtomicU64::new(1));
        for _ in 0..CONNECTIONS {
            let channel = way.connect_lazy();
            for _ in 0..CALLS {
                let (channel, call) = (channel.clone(), Arc::clone(&call));
                let (seen, number) = (Arc::clone(&flood.seen), Arc::clone(&number));
                flood.clients.spawn(async move {
                    loop {
                        let number = number.fetch_add(1, Ordering::Relaxed);
                        seen.hear(call(channel.clone(), number).await);
                        // Once the scene ends every call fails at once: then this is where it ends.
                        yield_now().await;
                    }
                });
            }
        }
        flood
    }

    /// Waits until so many calls were refused.
    pub(crate) async fn until_refused(&self, calls: u64) {
        until("calls are refused", || self.seen.refused.load(Ordering::Relaxed) >= calls)
            .await;
    }

    /// Why they were refused.
    pub(crate) fn codes(&self) -> Vec<Code> {
        self.seen.codes.lock().unwrap().iter().map(|code| Code::from(*code)).collect()
    }
}

/// A reader's question.
pub(crate) async fn ask(channel: Channel) -> Result<(), Status> {
    let request = v1::ListMailboxesRequest { page_size: 1_000, ..Default::default() };
    ProgressServiceClient::new(channel).list_mailboxes(request).await.map(drop)
}
