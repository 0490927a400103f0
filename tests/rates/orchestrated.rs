//! Orchestrated: a whole rollout over loopback, and what its programs have used for it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate_wire::v1;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tonic::transport::Channel;

use crate::fleet::{self, Program, Provider, Used, Watch};

/// For how long single mailboxes are asked for, one after the other.
const ASKED_FOR: Duration = Duration::from_millis(500);

/// What a rollout has taken.
pub(crate) struct Orchestrated {
    /// Reading the rows and planning them, before anything is sent.
    pub(crate) planned: Used,
    /// From the first row that was sent to the plan's being durable.
    pub(crate) applying: Duration,
    /// The coordinator's, until then.
    pub(crate) applied: Used,
    /// From the workers' start to the end.
    pub(crate) took: Duration,
    /// The coordinator's since then, all its runs together.
    pub(crate) coordinator: Used,
    /// All workers'.
    pub(crate) workers: Used,
    /// How it came back, if it was killed.
    pub(crate) restart: Option<Restart>,
    /// The coordinator's for a question for one mailbox, in microseconds.
    pub(crate) question: f64,
}

/// How a coordinator that was killed in the middle came back.
#[derive(Clone, Copy)]
pub(crate) struct Restart {
    /// How many were open.
    pub(crate) open: u32,
    /// After the kill.
    pub(crate) serves: Duration,
    /// What it used for that.
    pub(crate) cpu: Duration,
    /// After the kill.
    pub(crate) opens: Duration,
}

/// Rolls out so many mailboxes with their files below `dir`; the coordinator is killed in the
/// middle if that is said.
pub(crate) async fn orchestrate(
    dir: &Path,
    mailboxes: u32,
    kills: bool,
) -> anyhow::Result<Orchestrated> {
    let before = Used::of(std::process::id())?;
    let provider = Provider::of(mailboxes)?;
    let planned = Used::of(std::process::id())?;
    let planned = Used { cpu: planned.cpu.saturating_sub(before.cpu), ..planned };

    let listen = fleet::free_address()?;
    let data = dir.join("coordinator");
    fs::create_dir(&data)?;
    let data = fleet::text(&data);
    let words = ["coordinator", data.as_str(), &listen.to_string()];
    let mut coordinator = Program::start(&words)?;
    let channel = fleet::connection(listen)?;
    let mut progress =
        ProgressServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    fleet::serving(&mut progress).await?;
    let began = Instant::now();
    provider.apply(channel).await?;
    let (applying, applied) = (began.elapsed(), coordinator.used()?);
    drop(provider);

    let began = Instant::now();
    let workers = fleet::start_workers(dir, listen)?;
    let mut watch = Watch::of(progress);
    let (mut killed, mut restart) = (Used::default(), None);
    if kills {
        watch.until(|seen| seen.open >= mailboxes / 2).await?;
        // Its memory is given back before that of the next run is taken.
        killed = Used { memory: 0, ..coordinator.used()? };
        restart = Some(kill(&mut coordinator, &words, listen, &mut watch).await?);
    }
    watch.until(|seen| seen.is_finished).await?;
    let took = began.elapsed();

    let used = coordinator.used()?.plus(killed);
    let by_workers =
        workers.iter().map(Program::used).collect::<anyhow::Result<Vec<_>>>()?;
    drop(workers);
    Ok(Orchestrated {
        planned,
        applying,
        applied,
        took,
        coordinator: Used { cpu: used.cpu.saturating_sub(applied.cpu), ..used },
        workers: by_workers.into_iter().fold(Used::default(), Used::plus),
        restart,
        question: ask(watch.progress, &coordinator, mailboxes).await?,
    })
}

/// Kills the coordinator, and tells how long nobody had one.
async fn kill(
    coordinator: &mut Program,
    words: &[&str],
    listen: SocketAddr,
    watch: &mut Watch,
) -> anyhow::Result<Restart> {
    let (open, at) = (watch.newest.open, Instant::now());
    coordinator.kill()?;
    *coordinator = Program::start(words)?;
    // The old connection would fail in another way than one to nobody does.
    watch.progress = ProgressServiceClient::new(fleet::connection(listen)?)
        .max_decoding_message_size(64 << 20);
    fleet::serving(&mut watch.progress).await?;
    let (serves, cpu) = (at.elapsed(), coordinator.used()?.cpu);
    watch.until(|seen| seen.open > open || seen.is_finished).await?;
    Ok(Restart { open, serves, cpu, opens: at.elapsed() })
}

/// What a question for one mailbox costs the coordinator, in microseconds of CPU.
async fn ask(
    mut reader: ProgressServiceClient<Channel>,
    coordinator: &Program,
    mailboxes: u32,
) -> anyhow::Result<f64> {
    let (before, began) = (coordinator.used()?, Instant::now());
    let (mut asked, mut chance) = (0_u32, 1_u32);
    while began.elapsed() < ASKED_FOR {
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let address = fleet::address((chance >> 4) % mailboxes);
        let request = v1::GetMailboxRequest { address };
        reader.get_mailbox(request).await.context("ask for a mailbox")?;
        asked += 1;
    }
    let cpu = coordinator.used()?.cpu.saturating_sub(before.cpu);
    Ok(cpu.as_secs_f64() * 1e6 / f64::from(asked.max(1)))
}
