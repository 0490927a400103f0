//! What orchestrating a rollout costs beside the mail: a coordinator and eight workers as
//! processes of their own, over loopback, with a mail store in which everything is right at once:
//! `cargo run --release --example orchestration_rate -- 1000000 [kill]`.
//!
//! With `kill` the coordinator is killed and started again when half of the mailboxes are open.
//! Seconds of the processor are those of all processes. The floor is a bare log to which as many
//! facts are written, a thousand a flush.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod fleet;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use fleet::{NODES, Program, Provider, Used, Watch};
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;

/// Mailboxes when none are asked for.
const MAILBOXES: u32 = 100_000;

/// Facts that share a flush of the floor's log.
const FACTS_PER_FLUSH: usize = 1_000;

/// Facts of a mailbox: prepared, open, healthy.
const FACTS_PER_MAILBOX: u32 = 3;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(played) = fleet::role(&words) {
        return played;
    }
    let (mailboxes, kills) = match words.as_slice() {
        [] => (MAILBOXES, false),
        [mailboxes] => (mailboxes.parse()?, false),
        [mailboxes, "kill"] => (mailboxes.parse()?, true),
        _ => bail!("give a number of mailboxes, and `kill` or nothing"),
    };
    fleet::runtime(1)?.block_on(conduct(mailboxes, kills))
}

async fn conduct(mailboxes: u32, kills: bool) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let floor = bare_log(&dir.path().join("log"), mailboxes)?;
    let provider = Provider::of(mailboxes)?;

    let listen = fleet::free_address()?;
    let data = dir.path().join("coordinator");
    fs::create_dir(&data)?;
    let mut coordinator =
        Program::start(&["coordinator", &fleet::text(&data), &listen.to_string()])?;
    let channel = fleet::connection(listen)?;
    let mut progress =
        ProgressServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    fleet::serving(&mut progress).await?;
    let began = Instant::now();
    provider.apply(channel).await?;
    let applied = (began.elapsed(), coordinator.used()?);
    drop(provider);

    let began = Instant::now();
    let workers = fleet::start_workers(dir.path(), listen)?;
    let mut watch = Watch::of(progress);
    let mut killed = Used::default();
    if kills {
        watch.until(|seen| seen.open >= mailboxes / 2).await?;
        killed = coordinator.used()?;
        let words = ["coordinator", &fleet::text(&data), &listen.to_string()];
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
    fleet::serving(&mut watch.progress).await?;
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
