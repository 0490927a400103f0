//! Fleet: a coordinator and eight workers as processes of their own, over loopback, with a mail
//! store in which everything is right at once. What the programs beside this one measure with.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tidegate_core::holding::{Look, Outcome, ProbeTask, Settled};
use tidegate_core::inventory::{Inventory, InventoryBuilder, Row};
use tidegate_core::rollout::{Grade, Grades, MessageTotals};
use tidegate_core::share::Ppm;
use tidegate_mail::Mailbox;
use tidegate_wire::limits::INVENTORY_ROWS_PER_MESSAGE;
use tidegate_wire::policy_file;
use tidegate_wire::v1;
use tidegate_wire::v1::operator_service_client::OperatorServiceClient;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_worker::driven::{MailStore, Under};
use tidegate_worker::{Mail, Notices};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// Workers, each a process with a node of its own.
pub(crate) const NODES: u32 = 8;

/// How the programs are installed.
const COORDINATOR: &str =
    include_str!("../../deploy/systemd/tidegate-coordinator.service");
const WORKER: &str = include_str!("../../deploy/systemd/tidegate-worker.service");

/// How often the rollout is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A rollout that opens nothing for so long stands still.
const PATIENCE: Duration = Duration::from_mins(1);

/// Mailboxes of a rollout for each millisecond of its soak: what is open is read again after
/// eight soaks, and a soak of nothing would measure that.
const MAILBOXES_A_MILLISECOND: u32 = 4_000;

/// Wide steps and short waits; `SOAK` is its soak in milliseconds.
const POLICY: &str = r#"
name = "rate"
[[ladder]]
name = "mail"
services = ["lmtp", "imap"]
[[cohort]]
name = "all"
select = { rest = true }
canary = 1_000
growth = "x100"
wave_max = 10_000_000
[gate]
soak = "SOAK ms"
disk_free_min = "0 %"
[limits]
prepare_ahead = 1_000_000
prepare_threads = 4
open_per_second = 1_000_000
permit_window = 4_096
lease = "30 s"
beat = "50 ms"
job_mailboxes = 4_096
"#;

/// What this process was started for by another one of the program, until it is killed.
pub(crate) fn role(words: &[&str]) -> Option<anyhow::Result<()>> {
    let never = std::future::pending();
    match words {
        ["coordinator", dir, listen] => {
            Some(runtime(2).and_then(|it| it.block_on(coordinate(dir, listen))))
        }
        ["worker", dir, node, listen] => {
            let config = worker(dir, node, listen);
            Some(
                runtime(1)
                    .and_then(|it| it.block_on(tidegate_worker::run(config, never))),
            )
        }
        _ => None,
    }
}

/// A runtime with so many threads.
pub(crate) fn runtime(threads: usize) -> anyhow::Result<Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(threads).enable_all().build().context("start the runtime")
}

async fn coordinate(dir: &str, listen: &str) -> anyhow::Result<()> {
    let config = tidegate_coordinator::Config {
        data_dir: dir.into(),
        listen: listen.parse()?,
        operators_listen: None,
        readers_listen: None,
        probe_listen: None,
        prometheus: None,
        tls: None,
        audit: tidegate_coordinator::AuditConfig::default(),
        webhooks: Vec::new(),
        compact_after_records: None,
    };
    tidegate_coordinator::run(config, std::future::pending()).await
}

fn worker(dir: &str, node: &str, listen: &str) -> tidegate_worker::Config {
    let dir = PathBuf::from(dir);
    tidegate_worker::Config {
        node: node.to_owned(),
        coordinator: format!("http://{listen}"),
        tls: None,
        state_dir: dir.join("state"),
        mail: Mail::Given(Arc::new(Costless)),
        work: dir.join("work"),
        admission_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        metrics_listen: None,
        dovecot: None,
        canary: None,
        notices: Notices::default(),
        compact_after_records: None,
    }
}

/// A mail store in which everything is right, and which keeps nothing.
#[derive(Debug)]
struct Costless;

impl MailStore for Costless {
    fn claim(&self, _: Under) -> anyhow::Result<bool> {
        Ok(true)
    }

    fn prepare(
        &self,
        _: Under,
        mailboxes: Vec<(tidegate_core::fleet::Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>> {
        let settled = mailboxes.into_iter().map(|(ordinal, _)| Settled {
            ordinal,
            stamp: Some([7; 16]),
            totals: MessageTotals {
                intact: 1,
                grades: Grades::one(Grade::Perfect),
                ..MessageTotals::default()
            },
            findings: Vec::new(),
        });
        Ok(settled.collect())
    }

    fn prepare_together(&self) -> usize {
        256
    }

    fn look(
        &self,
        _: Under,
        mailboxes: &[(tidegate_core::fleet::Ordinal, Mailbox)],
    ) -> Vec<(tidegate_core::fleet::Ordinal, Look)> {
        mailboxes.iter().map(|(ordinal, _)| (*ordinal, Look::Stamp([7; 16]))).collect()
    }

    fn probe(
        &self,
        tasks: &[(ProbeTask, Mailbox)],
    ) -> Vec<(ProbeTask, Outcome, Option<Duration>)> {
        let read = |task| (task, Outcome::Read, Some(Duration::from_millis(1)));
        tasks.iter().map(|(task, _)| read(*task)).collect()
    }

    fn free_share(&self) -> Option<Ppm> {
        Some(Ppm::WHOLE)
    }
}

/// A plan for so many mailboxes, with all that it is applied with.
pub(crate) struct Provider {
    inventory: Arc<Inventory>,
    policy_toml: String,
    plan_digest: String,
}

impl Provider {
    /// A provider of so many mailboxes.
    pub(crate) fn of(mailboxes: u32) -> anyhow::Result<Self> {
        let inventory = Arc::new(inventory(mailboxes)?);
        let soak = (mailboxes / MAILBOXES_A_MILLISECOND).max(1);
        let policy_toml = POLICY.replace("SOAK", &soak.to_string());
        let policy = policy_file::parse("policy.toml", &policy_toml);
        let policy = policy.map_err(|error| anyhow::anyhow!("{error}"))?;
        let plan = tidegate_core::plan::plan(&inventory, &Arc::new(policy))?;
        Ok(Self { plan_digest: plan.digest().to_string(), inventory, policy_toml })
    }

    /// Applies the plan.
    pub(crate) async fn apply(&self, channel: Channel) -> anyhow::Result<()> {
        let header = v1::ApplyHeader {
            by: "rate".to_owned(),
            plan_digest: self.plan_digest.clone(),
            policy_toml: self.policy_toml.clone(),
            request_id: "rate".to_owned(),
            rebuild: false,
            reason: String::new(),
            seen: String::new(),
        };
        let header = v1::apply_request::Part::Header(header);
        let parts = std::iter::once(header).chain(rows(&self.inventory));
        let parts = parts.map(|part| v1::ApplyRequest { part: Some(part) });
        let mut operator = OperatorServiceClient::new(channel);
        operator.apply(tokio_stream::iter(parts)).await.context("apply the plan")?;
        Ok(())
    }
}

fn rows(
    inventory: &Arc<Inventory>,
) -> impl Iterator<Item = v1::apply_request::Part> + Send + use<> {
    let numbers: Vec<_> = inventory.mailboxes().collect();
    let inventory = Arc::clone(inventory);
    let portions = numbers.len().div_ceil(INVENTORY_ROWS_PER_MESSAGE);
    (0..portions).map(move |portion| {
        let numbers =
            numbers.chunks(INVENTORY_ROWS_PER_MESSAGE).nth(portion).unwrap_or_default();
        let rows = numbers.iter().map(|number| inventory.row(*number)).map(|row| {
            v1::InventoryRow {
                address: row.address.to_owned(),
                node: row.node.to_owned(),
                tier: row.tier.to_owned(),
                path: row.path,
                labels: std::collections::HashMap::default(),
            }
        });
        v1::apply_request::Part::Rows(v1::InventoryRows { rows: rows.collect() })
    })
}

fn inventory(mailboxes: u32) -> anyhow::Result<Inventory> {
    let mut builder = InventoryBuilder::new();
    for number in 0..mailboxes {
        let address = address(number);
        let path = format!("provider{}.example/user.{number:x}", number % 7);
        let node = node_name(number % NODES);
        let row = Row {
            address: &address,
            node: &node,
            tier: "free",
            path: &path,
            labels: &[],
        };
        builder.push(row)?;
    }
    builder.finish().map_err(|clashes| anyhow::anyhow!("{clashes:?}"))
}

/// The address of a mailbox.
pub(crate) fn address(number: u32) -> String {
    format!("user.{number:x}@provider{}.example", number % 7)
}

fn node_name(node: u32) -> String {
    format!("stor-{node:02}")
}

/// A path, to be given to another process.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Where nobody listens.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Starts a worker for every node, with its files below `dir`.
pub(crate) fn start_workers(
    dir: &Path,
    listen: SocketAddr,
) -> anyhow::Result<Vec<Program>> {
    let mut workers = Vec::new();
    for node in 0..NODES {
        let own = dir.join(node_name(node));
        fs::create_dir(&own)?;
        let words = ["worker", &text(&own), &node_name(node), &listen.to_string()];
        workers.push(Program::start(&words)?);
    }
    Ok(workers)
}

/// A connection to whoever listens there, now or later.
pub(crate) fn connection(listen: SocketAddr) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{listen}"))?
        .tcp_nodelay(true)
        .connect_lazy())
}

/// Waits until the coordinator answers, whatever it says.
pub(crate) async fn serving(
    progress: &mut ProgressServiceClient<Channel>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let answer = progress.get_rollout(v1::GetRolloutRequest {}).await;
        match answer {
            Err(status) if status.code() == tonic::Code::Unavailable => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        ensure!(began.elapsed() < PATIENCE, "the coordinator does not answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How far a rollout is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) open: u32,
    pub(crate) is_finished: bool,
}

/// Looks how far it is.
pub(crate) struct Watch {
    pub(crate) progress: ProgressServiceClient<Channel>,
    pub(crate) newest: Seen,
    moved: Instant,
}

impl Watch {
    /// Nothing has been seen yet.
    pub(crate) fn of(progress: ProgressServiceClient<Channel>) -> Self {
        Self { progress, newest: Seen::default(), moved: Instant::now() }
    }

    /// Looks until it is as far as that.
    pub(crate) async fn until(
        &mut self,
        holds: impl Fn(Seen) -> bool,
    ) -> anyhow::Result<()> {
        while !holds(self.newest) {
            tokio::time::sleep(LOOK_EVERY).await;
            let rollout =
                self.progress.get_rollout(v1::GetRolloutRequest {}).await?.into_inner();
            let seen = Seen {
                open: rollout.waves.iter().map(|wave| wave.open).sum(),
                is_finished: rollout.state() == v1::RolloutState::Finished,
            };
            if seen.open != self.newest.open {
                self.moved = Instant::now();
            }
            self.newest = seen;
            let state = rollout.state();
            let halted =
                matches!(state, v1::RolloutState::Halted | v1::RolloutState::Aborted);
            let stands = self.moved.elapsed() > PATIENCE;
            ensure!(
                !halted && !stands,
                "{state:?} at {} open: {:?}",
                seen.open,
                rollout.why
            );
        }
        Ok(())
    }
}

/// A process of this program.
pub(crate) struct Program(Child);

impl Program {
    /// Starts it, in the environment that its unit gives it.
    pub(crate) fn start(words: &[&str]) -> anyhow::Result<Self> {
        let unit = if words.first() == Some(&"worker") { WORKER } else { COORDINATOR };
        let lines = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
        let variables = lines.filter_map(|variable| variable.split_once('='));
        Self::run(Command::new(std::env::current_exe()?).args(words).envs(variables))
    }

    /// Starts another program.
    pub(crate) fn run(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().context("start a process")?))
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it has used by now.
    pub(crate) fn used(&self) -> anyhow::Result<Used> {
        Used::of(self.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have gone.
        drop(self.kill());
    }
}

/// What processes have used.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    /// Of all its threads.
    pub(crate) cpu: Duration,
    /// Bytes.
    pub(crate) memory: u64,
    /// Bytes that went to the disk.
    pub(crate) kept: u64,
}

impl Used {
    /// What the process with this number has used by now.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let about = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
        let number = |text: &str, key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let first = line.and_then(|line| line.split_whitespace().next());
            first.and_then(|it| it.parse().ok()).unwrap_or(0)
        };
        let stat = about("stat")?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|it| it.parse::<u64>().ok()).sum();
        let hertz = rustix::param::clock_ticks_per_second();
        Ok(Self {
            cpu: Duration::from_millis(ticks * 1_000 / hertz.max(1)),
            memory: number(&about("status")?, "VmRSS:") << 10,
            kept: number(&about("io")?, "write_bytes:"),
        })
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
            kept: self.kept + other.kept,
        }
    }
}
