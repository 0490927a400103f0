//! A coordinator on loopback, an operator, and workers that do as they are told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_coordinator::{Config, address_file, run};
use tidegate_core::fleet::{Generation, Incarnation, JobNumber, NodeNumber, Ordinal};
use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::mailbox::{Health, Level, MailboxState, Preparation};
use tidegate_core::plan::{Plan, plan};
use tidegate_core::rollout::{
    Finding, FindingKind, JobReport, Join, MessageTotals, Orders, Origin, Sync, Vitals,
};
use tidegate_core::share::Ppm;
use tidegate_core::time::Timestamp;
use tidegate_journal::{Journal, Kind};
use tidegate_wire::v1::operator_service_client::OperatorServiceClient;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tidegate_wire::worker::{Fetch, JobPart, Joined, Joining};
use tidegate_wire::{policy_file, v1};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at something that shall change.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Every mailbox must prove itself; quick beats, no soak.
pub(crate) const POLICY: &str = r#"
name = "evening"
hash_seed = "evening"

[[ladder]]
name = "webmail"
services = ["lmtp", "webmail"]

[[ladder]]
name = "apps"
services = ["imap"]

[[exclude]]
reason = "moved away"
select = { tier = ["gone"] }

[[cohort]]
name = "all"
select = { rest = true }
canary = 4
growth = "x4"
wave_max = 100

[gate]
mode = "every-mailbox"
failures_max = 0
soak = "50 ms"
report_age_max = "10 s"
unknown_after = "20 s"

[limits]
permit_window = 3
lease = "2 s"
beat = "50 ms"
job_mailboxes = 5
"#;

/// A coordinator that runs in this process.
pub(crate) struct Coordinator {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
    channel: Channel,
}

impl Coordinator {
    /// Starts one on `dir` and waits until it serves.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_asking(dir, None).await
    }

    /// Starts one that may ask the Prometheus server at `prometheus`.
    pub(crate) async fn start_asking(dir: &Path, prometheus: Option<String>) -> Self {
        Self::start_with(Config { prometheus, ..Self::config(dir) }).await
    }

    /// What a coordinator on `dir` is started with.
    pub(crate) fn config(dir: &Path) -> Config {
        let listen = "127.0.0.1:0".parse().unwrap();
        Config {
            data_dir: dir.to_owned(),
            listen,
            operators_listen: None,
            readers_listen: None,
            probe_listen: None,
            prometheus: None,
            tls: None,
            audit: tidegate_coordinator::AuditConfig::default(),
            webhooks: Vec::new(),
            compact_after_records: None,
        }
    }

    /// Starts one with this configuration and waits until it serves.
    pub(crate) async fn start_with(config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let dir = config.data_dir.clone();
        let task = tokio::spawn(run(config, async { drop(stopped.await) }));
        let channel = until("the coordinator serves", async || {
            assert!(!task.is_finished(), "the coordinator did not start");
            // The file of a killed one may still be there.
            let address = std::fs::read_to_string(address_file(&dir)).ok()?;
            let endpoint = Endpoint::from_shared(format!("http://{}", address.trim()));
            endpoint.unwrap().connect().await.ok()
        });
        let channel = channel.await;
        Self { stop: Some(stop), task, channel }
    }

    /// Starts one where another has been killed, once that one has let go.
    pub(crate) async fn start_again(dir: &Path) -> Self {
        let kind = Kind { name: "coordinator".to_owned(), format: 1, id: [0; 16] };
        until("the journal is free", async || {
            Journal::open(&dir.join("journal"), &kind).ok().map(drop)
        })
        .await;
        Self::start(dir).await
    }

    /// Lets calls finish and ends.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        drop(self.channel);
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Ends at once, in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }

    pub(crate) fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.channel.clone())
    }

    pub(crate) fn reader(&self) -> ProgressServiceClient<Channel> {
        ProgressServiceClient::new(self.channel.clone())
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The rollout as readers see it.
    pub(crate) async fn rollout(&self) -> v1::Rollout {
        self.reader().get_rollout(v1::GetRolloutRequest {}).await.unwrap().into_inner()
    }

    /// Applies `rows` under [`POLICY`] as an operator would.
    pub(crate) async fn apply(&self, rows: Vec<v1::InventoryRow>) -> Plan {
        self.apply_under(POLICY, rows).await
    }

    /// Applies `rows` under another policy.
    pub(crate) async fn apply_under(
        &self,
        policy: &str,
        rows: Vec<v1::InventoryRow>,
    ) -> Plan {
        let plan = plan_under(policy, &rows);
        let mut parts = upload(&plan.digest().to_string(), rows);
        let first = parts.first_mut().and_then(|part| part.part.as_mut());
        if let Some(v1::apply_request::Part::Header(header)) = first {
            policy.clone_into(&mut header.policy_toml);
        }
        self.operator().apply(tokio_stream::iter(parts)).await.unwrap();
        plan
    }
}

/// An empty data directory.
pub(crate) fn data_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Mailboxes of two nodes, and one that is excluded.
pub(crate) fn rows(count: usize) -> Vec<v1::InventoryRow> {
    let row = |number: usize| v1::InventoryRow {
        address: format!("user{number:02}@a.it"),
        node: format!("n{}", number % 2 + 1),
        tier: if number == 0 { "gone" } else { "free" }.to_owned(),
        path: format!("a.it/user{number:02}"),
        labels: BTreeMap::from([("country".to_owned(), "it".to_owned())])
            .into_iter()
            .collect(),
    };
    (0..=count).map(row).collect()
}

/// What the operator's own machine plans.
pub(crate) fn plan_of(rows: &[v1::InventoryRow]) -> Plan {
    plan_under(POLICY, rows)
}

fn plan_under(policy: &str, rows: &[v1::InventoryRow]) -> Plan {
    let mut builder = InventoryBuilder::new();
    for row in rows {
        let labels: Vec<(&str, &str)> = row
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let v1::InventoryRow { address, node, tier, path, .. } = row;
        builder.push(Row { address, node, tier, path, labels: &labels }).unwrap();
    }
    let policy = policy_file::parse("evening.toml", policy).unwrap();
    plan(&builder.finish().unwrap().into(), &policy.into()).unwrap()
}

/// The parts of an upload.
pub(crate) fn upload(digest: &str, rows: Vec<v1::InventoryRow>) -> Vec<v1::ApplyRequest> {
    let header = v1::ApplyHeader {
        by: "ann".to_owned(),
        plan_digest: digest.to_owned(),
        policy_toml: POLICY.to_owned(),
        ..Default::default()
    };
    let header = v1::apply_request::Part::Header(header);
    let rows = v1::apply_request::Part::Rows(v1::InventoryRows { rows });
    [header, rows].map(|part| v1::ApplyRequest { part: Some(part) }).into()
}

/// A worker that prepares and opens at once what its orders allow.
pub(crate) struct Worker {
    pub(crate) client: WorkerServiceClient<Channel>,
    pub(crate) joined: Joined,
    pub(crate) incarnation: Incarnation,
    pub(crate) orders: Orders,
    pub(crate) jobs: BTreeMap<JobNumber, Job>,
    /// What it finds when it prepares.
    pub(crate) quarantine_first: bool,
}

/// A job as its worker sees it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) generation: Generation,
    pub(crate) states: Vec<MailboxState>,
    findings: Vec<Finding>,
}

impl Worker {
    /// Takes up `node`.
    pub(crate) async fn join(
        coordinator: &Coordinator,
        node: &str,
        incarnation: u64,
    ) -> Result<Self, Status> {
        let mut client = coordinator.workers();
        let incarnation = Incarnation::new(incarnation);
        let join = Join {
            node: node.to_owned(),
            incarnation,
            claimed_max: Generation::new(0),
            orders_seen: 0,
            journaled: None,
            store_claimed: Generation::default(),
        };
        let clock = Timestamp::default();
        let joining = Joining { join, rollout: None, clock, canary: None };
        let joined = client.join(v1::JoinRequest::from(joining)).await?.into_inner();
        Ok(Self {
            client,
            joined: joined.try_into().unwrap(),
            incarnation,
            orders: Orders {
                version: 0,
                may_open: false,
                jobs: Vec::new(),
                open_millis_per_second: None,
                kept_back: None,
                recorded: 0,
            },
            jobs: BTreeMap::new(),
            quarantine_first: false,
        })
    }

    /// The same worker, after the coordinator has come back.
    pub(crate) fn reconnect(&mut self, coordinator: &Coordinator) {
        self.client = coordinator.workers();
    }

    /// Reports, takes orders and carries them out.
    pub(crate) async fn beat(&mut self) {
        self.report().await.unwrap();
        self.obey().await;
    }

    /// Reports and takes orders, but does not carry them out.
    pub(crate) async fn report(&mut self) -> Result<(), Status> {
        let sync = self.sync();
        let orders = self.client.sync(v1::SyncRequest::from(sync)).await?.into_inner();
        self.orders = orders.try_into().unwrap();
        Ok(())
    }

    /// Reports `sync`, whatever it says.
    pub(crate) async fn tell(&mut self, sync: Sync) -> Result<(), Status> {
        self.client.sync(v1::SyncRequest::from(sync)).await.map(drop)
    }

    /// What it would report now.
    pub(crate) fn sync(&self) -> Sync {
        let reports = self.jobs.iter().map(|(number, job)| JobReport {
            job: *number,
            generation: job.generation,
            facts: (0..).map(Ordinal::new).zip(job.states.iter().copied()).collect(),
            totals: MessageTotals {
                intact: 10 * u64::try_from(job.states.len()).unwrap(),
                ..MessageTotals::default()
            },
            findings: job.findings.clone(),
        });
        let probes = self.jobs.values().map(Job::open).sum();
        Sync {
            node: self.joined.node,
            incarnation: self.incarnation,
            sequence: 0,
            orders_obeyed: self.obeyed(),
            claimed_max: Generation::default(),
            reports: reports.collect(),
            vitals: Vitals {
                probes,
                probes_slow: 0,
                disk_free: Some(Ppm::new(500_000)),
                probe_micros: 700,
                read_errors: 0,
                ..Vitals::default()
            },
            account: None,
        }
    }

    fn obeyed(&self) -> u64 {
        self.orders.version
    }

    async fn obey(&mut self) {
        for order in self.orders.jobs.clone() {
            if !self.jobs.contains_key(&order.job) {
                let told = self.fetch(order.job).await.unwrap();
                let states = vec![MailboxState::HELD; told.mailboxes.len()];
                let generation = order.generation;
                let job = Job { generation, states, findings: Vec::new() };
                self.jobs.insert(order.job, job);
            }
            let quarantine_first = self.quarantine_first;
            let job = self.jobs.get_mut(&order.job).unwrap();
            if job.generation != order.generation {
                job.generation = order.generation;
                job.states.fill(MailboxState::HELD);
            }
            if order.prepare {
                job.prepare(quarantine_first);
            }
            if self.orders.may_open {
                let held_back = |place| order.held_back.contains(&Ordinal::new(place));
                for (place, state) in (0..order.open_below).zip(&mut job.states) {
                    if state.preparation == Preparation::Prepared
                        && state.level < order.level
                        && !held_back(place)
                    {
                        state.level = state.level.above();
                        state.health = Health::Healthy;
                    }
                }
            }
        }
    }

    /// The mailboxes of one of its jobs.
    pub(crate) async fn fetch(&mut self, job: JobNumber) -> Result<JobPart, Status> {
        let fetch = Fetch { node: self.joined.node, incarnation: self.incarnation, job };
        let mut parts =
            self.client.fetch_job(v1::FetchJobRequest::from(fetch)).await?.into_inner();
        let mut told = JobPart::default();
        while let Some(part) = parts.message().await? {
            told.append(JobPart::received(part).unwrap());
        }
        Ok(told)
    }

    /// Mailboxes that are open here.
    pub(crate) fn open(&self) -> u32 {
        self.jobs.values().map(Job::open).sum()
    }

    pub(crate) fn node(&self) -> NodeNumber {
        self.joined.node
    }
}

impl Job {
    fn open(&self) -> u32 {
        u32::try_from(self.states.iter().filter(|state| state.is_open()).count()).unwrap()
    }

    fn prepare(&mut self, quarantine_first: bool) {
        for (place, state) in self.states.iter_mut().enumerate() {
            if state.is_settled() {
                continue;
            }
            let set_aside = quarantine_first && place == 0;
            state.preparation =
                if set_aside { Preparation::Quarantined } else { Preparation::Prepared };
            if set_aside {
                self.findings.push(finding());
            }
        }
    }
}

fn finding() -> Finding {
    Finding {
        ordinal: Ordinal::new(0),
        kind: FindingKind::Quarantined,
        folder: String::new(),
        uid: None,
        name: String::new(),
        code: "unreadable".to_owned(),
        reason: "the store cannot be read".to_owned(),
        size_bytes: 0,
        kept_at: String::new(),
        origin: Origin::default(),
    }
}

/// Waits until `look` sees something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = tokio::time::Instant::now();
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    loop {
        looks.tick().await;
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "still waiting until {what}");
    }
}

/// Lets all of `workers` work until the rollout is as wanted.
pub(crate) async fn work_until(
    coordinator: &Coordinator,
    workers: &mut [&mut Worker],
    what: &str,
    wanted: impl Fn(&v1::Rollout) -> bool,
) -> v1::Rollout {
    until(what, async || {
        for worker in workers.iter_mut() {
            worker.beat().await;
        }
        Some(coordinator.rollout().await).filter(|rollout| wanted(rollout))
    })
    .await
}

/// The code and the first line of a refusal, with the stable name.
pub(crate) fn refusal(status: &Status) -> (Code, String, String) {
    let name = status.metadata().get("tidegate-code").map(|name| name.to_str().unwrap());
    let line = status.message().lines().next().unwrap_or_default();
    (status.code(), name.unwrap_or_default().to_owned(), line.to_owned())
}

/// The top of [`POLICY`]'s ladder.
pub(crate) const TOP: Level = match Level::new(2) {
    Some(top) => top,
    None => Level::MAX,
};
