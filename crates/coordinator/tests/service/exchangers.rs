//! Exchangers: who there is, who takes mail, and what they report.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_core::fleet::{MailboxNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_core::time::Timestamp;
use tidegate_wire::exchanger::{DirectoryHead, QueueReport, Told, Watching, WaveQueue};
use tidegate_wire::v1;
use tidegate_wire::v1::exchanger_service_client::ExchangerServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::fleet::{Coordinator, Worker, data_dir, rows, until, work_until};

#[tokio::test(flavor = "multi_thread")]
async fn an_exchanger_learns_who_there_is_and_follows_every_opening_and_reclose() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let before = Watched::begin(&coordinator, None).await.err();
    let plan = coordinator.apply(rows(20)).await;
    let mut watched = Watched::begin(&coordinator, None).await.unwrap();
    watched.until(|watched| watched.complete).await;

    assert_eq!(before.map(|refused| refused.code()), Some(Code::FailedPrecondition));
    let head = watched.head.clone().unwrap();
    assert_eq!((head.plan, head.follows), (plan.digest(), true));
    assert_eq!(head.waves, ["all-1", "all-2"]);
    assert_eq!(head.nodes, [("n1".to_owned(), 11), ("n2".to_owned(), 10)]);
    assert_eq!(watched.mailboxes.len(), 21);
    let excluded = watched.mailboxes.iter().filter(|(_, wave)| wave.is_none());
    assert_eq!(excluded.map(|(it, _)| it.as_str()).collect::<Vec<_>>(), ["user00@a.it"]);
    assert_eq!(watched.open.len(), 0);

    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let finished = |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    let workers = &mut [&mut one, &mut two];
    work_until(&coordinator, workers, "it is finished", finished).await;
    let opened = Instant::now();
    watched.until(|watched| watched.open.len() == 20).await;
    assert!(opened.elapsed() < Duration::from_secs(1), "{:?}", opened.elapsed());
    assert!(watched.storages.iter().all(|storage| storage.healthy));

    // The workers do nothing more: mail is held back before any of them has closed.
    reclose_node(&coordinator, "n2").await;
    let reclosed = Instant::now();
    watched.until(|watched| watched.open.len() == 10).await;
    assert!(reclosed.elapsed() < Duration::from_secs(1), "{:?}", reclosed.elapsed());

    let mut again = Watched::begin(&coordinator, Some(plan.digest())).await.unwrap();
    again.until(|again| again.complete).await;
    assert_eq!((again.mailboxes.len(), &again.open), (0, &watched.open));
    coordinator.stop().await;
    assert!(again.end().await.is_some_and(|end| end.code() == Code::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_queues_is_shown_with_its_wave_and_not_for_another_plan() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let plan = coordinator.apply(rows(20)).await;
    let oldest = Timestamp::from_millis(1_795_300_000_000);
    let report = QueueReport {
        exchanger: "mx1".to_owned(),
        plan: plan.digest(),
        listed_at: Timestamp::from_millis(1_795_302_000_000),
        waves: vec![WaveQueue {
            wave: WaveNumber::new(1),
            messages: 1_234,
            recipients: 1_300,
            oldest_at: Some(oldest),
            ..WaveQueue::default()
        }],
        elsewhere_messages: 3,
        nodes: Vec::new(),
    };
    let other = QueueReport { plan: Digest::new([7; 32]), ..report.clone() };

    let mut client = ExchangerServiceClient::new(coordinator.channel());
    client.report_queue(v1::ReportQueueRequest::from(report)).await.unwrap();
    let refused = client.report_queue(v1::ReportQueueRequest::from(other)).await;

    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let rollout = coordinator.rollout().await;
    let queues: Vec<_> = rollout
        .waves
        .iter()
        .map(|wave| wave.queue.map(|queue| (queue.messages, queue.oldest_time.is_some())))
        .collect();
    assert_eq!(queues, [None, Some((1_234, true))]);
    let exchanger = rollout.exchangers.first().unwrap();
    assert_eq!((exchanger.name.as_str(), exchanger.messages), ("mx1", 1_237));
}

/// What an exchanger has been told.
pub(crate) struct Watched {
    stream: Streaming<v1::WatchResponse>,
    head: Option<DirectoryHead>,
    mailboxes: Vec<(String, Option<WaveNumber>)>,
    pub(crate) open: BTreeSet<MailboxNumber>,
    storages: Vec<tidegate_wire::exchanger::Storage>,
    pub(crate) complete: bool,
}

impl Watched {
    pub(crate) async fn begin(
        coordinator: &Coordinator,
        holds: Option<Digest>,
    ) -> Result<Self, Status> {
        let mut client: ExchangerServiceClient<Channel> =
            ExchangerServiceClient::new(coordinator.channel());
        let watching = Watching { exchanger: "mx1".to_owned(), holds };
        let stream = client.watch(v1::WatchRequest::from(watching)).await?.into_inner();
        Ok(Self {
            stream,
            head: None,
            mailboxes: Vec::new(),
            open: BTreeSet::new(),
            storages: Vec::new(),
            complete: false,
        })
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            let message = self.stream.message().await.unwrap();
            self.hear(message.unwrap().try_into().unwrap());
        }
    }

    /// How the stream ends.
    async fn end(&mut self) -> Option<Status> {
        until("the stream ends", async || match self.stream.message().await {
            Ok(Some(_)) => None,
            Ok(None) => Some(None),
            Err(status) => Some(Some(status)),
        })
        .await
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Directory(head) => self.head = Some(head),
            Told::Mailboxes(mailboxes) => self.mailboxes.extend(mailboxes),
            Told::Doors { first, bits } => {
                let numbers = (first.get()..)
                    .zip(bits.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit)));
                let open = numbers.filter(|(_, bit)| bit & 1 == 1);
                self.open.extend(open.map(|(number, _)| MailboxNumber::new(number)));
            }
            Told::DoorChanges(changes) => {
                self.open.extend(changes.opened);
                changes.held.iter().for_each(|held| {
                    self.open.remove(held);
                });
            }
            Told::Storages(storages) => self.storages = storages,
            Told::Complete => self.complete = true,
        }
    }
}

async fn reclose_node(coordinator: &Coordinator, node: &str) {
    let scope = tidegate_wire::scope::ScopeName::Node(node.to_owned());
    let request = v1::RecloseRequest {
        by: "ann".to_owned(),
        reason: "smoke".to_owned(),
        scope: Some(scope.into()),
        ..Default::default()
    };
    coordinator.operator().reclose(request).await.unwrap();
}
