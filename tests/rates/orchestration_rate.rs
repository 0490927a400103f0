//! What orchestrating a rollout costs beside the mail: a coordinator and eight workers as
//! processes of their own, over loopback, with a mail store in which everything is right at once:
//! `cargo run --release --example orchestration_rate -- 1000000 [kill]`.
//!
//! With `kill` the coordinator is killed and started again when half of the mailboxes are open.
//! Seconds of the processor are those of all processes. The floor is a bare log to which as many
//! facts are written, a thousand a flush.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
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
use tonic::transport::{Channel, Endpoint};

/// Mailboxes when none are asked for.
const MAILBOXES: u32 = 100_000;

/// Workers, each a process with a node of its own.
const NODES: u32 = 8;

/// How often the rollout is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A rollout that opens nothing for so long stands still.
const PATIENCE: Duration = Duration::from_mins(1);

/// Facts that share a flush of the floor's log.
const FACTS_PER_FLUSH: usize = 1_000;

/// Facts of a mailbox: prepared, open, healthy.
const FACTS_PER_MAILBOX: u32 = 3;

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

fn main() -> anyhow::Result<()> {
    let runtime = |threads| {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(threads).enable_all().build().context("start the runtime")
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["coordinator", dir, listen] => {
            let config = tidegate_coordinator::Config {
                data_dir: dir.into(),
                listen: listen.parse()?,
                operators_listen: None,
                readers_listen: None,
                prometheus: None,
                compact_after_records: None,
            };
            let never = std::future::pending();
            runtime(2)?.block_on(tidegate_coordinator::run(config, never))
        }
        ["worker", dir, node, listen] => {
            let never = std::future::pending();
            runtime(1)?.block_on(tidegate_worker::run(worker(dir, node, listen), never))
        }
        [] => runtime(1)?.block_on(conduct(MAILBOXES, false)),
        [mailboxes] => runtime(1)?.block_on(conduct(mailboxes.parse()?, false)),
        [mailboxes, "kill"] => runtime(1)?.block_on(conduct(mailboxes.parse()?, true)),
        _ => bail!("give a number of mailboxes, and `kill` or nothing"),
    }
}

fn worker(dir: &str, node: &str, listen: &str) -> tidegate_worker::Config {
    let dir = PathBuf::from(dir);
    tidegate_worker::Config {
        node: node.to_owned(),
        coordinator: format!("http://{listen}"),
        state_dir: dir.join("state"),
        mail: Mail::Given(Arc::new(Costless)),
        work: dir.join("work"),
        admission_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
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

async fn conduct(mailboxes: u32, kills: bool) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let floor = bare_log(&dir.path().join("log"), mailboxes)?;
    let inventory = Arc::new(provider(mailboxes)?);
    let soak = (mailboxes / MAILBOXES_A_MILLISECOND).max(1);
    let policy_toml = POLICY.replace("SOAK", &soak.to_string());
    let policy = policy_file::parse("policy.toml", &policy_toml);
    let policy = policy.map_err(|error| anyhow::anyhow!("{error}"))?;
    let plan = tidegate_core::plan::plan(&inventory, &Arc::new(policy))?;

    let listen = free_address()?;
    let data = dir.path().join("coordinator");
    fs::create_dir(&data)?;
    let mut coordinator =
        Program::start(&["coordinator", &text(&data), &listen.to_string()])?;
    let channel = Endpoint::from_shared(format!("http://{listen}"))?.connect_lazy();
    let mut progress =
        ProgressServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    serving(&mut progress).await?;
    let began = Instant::now();
    apply(channel, &inventory, plan.digest().to_string(), policy_toml).await?;
    let applied = (began.elapsed(), coordinator.used()?);
    drop((plan, inventory));

    let began = Instant::now();
    let mut workers = Vec::new();
    for node in 0..NODES {
        let own = dir.path().join(node_name(node));
        fs::create_dir(&own)?;
        let words = ["worker", &text(&own), &node_name(node), &listen.to_string()];
        workers.push(Program::start(&words)?);
    }
    let mut watch = Watch { progress, newest: Seen::default(), moved: Instant::now() };
    let mut killed = Used::default();
    if kills {
        watch.until(|seen| seen.open >= mailboxes / 2).await?;
        killed = coordinator.used()?;
        let words = ["coordinator", &text(&data), &listen.to_string()];
        restart(&mut coordinator, &words, &mut watch).await?;
    }
    watch.until(|seen| seen.is_finished).await?;
    let took = began.elapsed();

    let used = coordinator.used()?.plus(killed);
    let by_workers =
        workers.iter().map(Program::used).collect::<anyhow::Result<Vec<_>>>()?;
    let by_workers = by_workers.into_iter().fold(Used::default(), Used::plus);
    let table = Table { mailboxes };
    println!("{mailboxes} mailboxes, {NODES} workers");
    println!(
        "{:>14} {:>8} {:>8} {:>10} {:>10} {:>10}",
        "", "s", "CPU s", "us each", "B kept", "B memory"
    );
    table.row("bare log", floor, Used::default());
    table.row("plan applied", applied.0, applied.1);
    let of_rollout = Used { cpu: used.cpu.saturating_sub(applied.1.cpu), ..used };
    table.row("coordinator", took, of_rollout);
    table.row("workers", took, by_workers);
    table.row("rollout", took, of_rollout.plus(by_workers));
    let rate = f64::from(mailboxes) / took.as_secs_f64();
    println!(
        "{rate:.0} mailboxes/s, {:.1} x the bare log",
        took.as_secs_f64() / floor.as_secs_f64()
    );
    Ok(())
}

/// Kills the coordinator, and tells how long nobody had one.
async fn restart(
    coordinator: &mut Program,
    words: &[&str],
    watch: &mut Watch,
) -> anyhow::Result<()> {
    let (open, at) = (watch.newest.open, Instant::now());
    coordinator.kill()?;
    *coordinator = Program::start(words)?;
    serving(&mut watch.progress).await?;
    let serves = at.elapsed().as_secs_f64();
    watch.until(|seen| seen.open > open).await?;
    let opens = at.elapsed().as_secs_f64();
    println!(
        "killed at {open} open: serving after {serves:.2} s, opening after {opens:.2} s"
    );
    Ok(())
}

/// What is written to a log, a thousand facts of a mailbox a flush.
fn bare_log(path: &Path, mailboxes: u32) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut log = File::create(path)?;
    let mut facts = Vec::new();
    for fact in 0..mailboxes * FACTS_PER_MAILBOX {
        facts.extend_from_slice(&u64::from(fact).to_le_bytes());
        if facts.len() == FACTS_PER_FLUSH * 8 {
            log.write_all(&facts)?;
            log.sync_data()?;
            facts.clear();
        }
    }
    fs::remove_file(path)?;
    Ok(began.elapsed())
}

fn provider(mailboxes: u32) -> anyhow::Result<Inventory> {
    let mut builder = InventoryBuilder::new();
    for number in 0..mailboxes {
        let address = format!("user.{number:x}@provider{}.example", number % 7);
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

fn node_name(node: u32) -> String {
    format!("stor-{node:02}")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn apply(
    channel: Channel,
    inventory: &Arc<Inventory>,
    plan_digest: String,
    policy_toml: String,
) -> anyhow::Result<()> {
    let header = v1::ApplyHeader {
        by: "rate".to_owned(),
        plan_digest,
        policy_toml,
        request_id: "rate".to_owned(),
        rebuild: false,
        reason: String::new(),
    };
    let header = v1::apply_request::Part::Header(header);
    let numbers: Vec<_> = inventory.mailboxes().collect();
    let inventory = Arc::clone(inventory);
    let portions = numbers.len().div_ceil(INVENTORY_ROWS_PER_MESSAGE);
    let portions = (0..portions).map(move |portion| {
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
    });
    let parts = std::iter::once(header).chain(portions);
    let parts = parts.map(|part| v1::ApplyRequest { part: Some(part) });
    let mut operator = OperatorServiceClient::new(channel);
    operator.apply(tokio_stream::iter(parts)).await.context("apply the plan")?;
    Ok(())
}

/// Waits until the coordinator answers, whatever it says.
async fn serving(progress: &mut ProgressServiceClient<Channel>) -> anyhow::Result<()> {
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
struct Seen {
    open: u32,
    is_finished: bool,
}

/// Looks how far it is.
struct Watch {
    progress: ProgressServiceClient<Channel>,
    newest: Seen,
    moved: Instant,
}

impl Watch {
    async fn until(&mut self, holds: impl Fn(Seen) -> bool) -> anyhow::Result<()> {
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
struct Program(Child);

impl Program {
    fn start(words: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        Ok(Self(command.args(words).spawn().context("start a process")?))
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    fn used(&self) -> anyhow::Result<Used> {
        let about =
            |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.0.id()));
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
        Ok(Used {
            cpu: Duration::from_millis(ticks * 1_000 / hertz.max(1)),
            memory: number(&about("status")?, "VmRSS:") << 10,
            kept: number(&about("io")?, "write_bytes:"),
        })
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
struct Used {
    cpu: Duration,
    /// Bytes.
    memory: u64,
    /// Bytes that went to the disk.
    kept: u64,
}

impl Used {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
            kept: self.kept + other.kept,
        }
    }
}

struct Table {
    mailboxes: u32,
}

impl Table {
    fn row(&self, what: &str, took: Duration, used: Used) {
        let Used { cpu, memory, kept } = used;
        println!(
            "{what:>14} {:>8.2} {:>8.2} {:>10.2} {:>10} {:>10}",
            took.as_secs_f64(),
            cpu.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / f64::from(self.mailboxes),
            kept / u64::from(self.mailboxes),
            memory / u64::from(self.mailboxes),
        );
    }
}
