//! What orchestrating a rollout costs beside the mail: a coordinator and eight workers as
//! processes of their own, over loopback, with a mail store in which everything is right at once:
//! `cargo run --release --example orchestration_rate -- 1000000 [kill]`.
//!
//! With `kill` the coordinator is killed and started again when half of the mailboxes are open.
//! Seconds of the processor are those of all processes. The floor is a bare log to which as many
//! facts are written, a thousand a flush.
//!
//! `… -- curve deploy/growth.svg` does so for ten thousand to nine million mailboxes and draws
//! what each of them costs.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod curve;
mod fleet;
mod orchestrated;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use curve::Curve;
use fleet::{NODES, Used};
use orchestrated::{Orchestrated, Restart, orchestrate};

/// Mailboxes when none are asked for.
const MAILBOXES: u32 = 100_000;

/// Mailboxes of the curve's points.
const POINTS: [u32; 4] = [10_000, 100_000, 1_000_000, 9_000_000];

/// Mailboxes of a rollout of which nearly everything is what any rollout costs.
const HARDLY_ANY: u32 = 1_000;

/// The panels of the curve.
const CPU: &str = "CPU a mailbox, microseconds";
const MEMORY: &str = "memory a mailbox, bytes";
const ONCE: &str = "CPU of the coordinator, once";

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
        ["curve", svg] => return fleet::runtime(1)?.block_on(draw(Path::new(svg))),
        [] => (MAILBOXES, false),
        [mailboxes] => (mailboxes.parse()?, false),
        [mailboxes, "kill"] => (mailboxes.parse()?, true),
        _ => bail!("give a number of mailboxes, and `kill` or nothing; or `curve FILE`"),
    };
    fleet::runtime(1)?.block_on(conduct(mailboxes, kills))
}

async fn conduct(mailboxes: u32, kills: bool) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let floor = bare_log(&dir.path().join("log"), mailboxes)?;
    let done = orchestrate(dir.path(), mailboxes, kills).await?;
    if let Some(Restart { open, serves, cpu, opens }) = done.restart {
        println!(
            "killed at {open} open: serving after {:.2} s and {:.2} s of CPU, opening after {:.2} s",
            serves.as_secs_f64(),
            cpu.as_secs_f64(),
            opens.as_secs_f64(),
        );
    }
    let Orchestrated { took, coordinator, workers, .. } = done;
    let table = Table { mailboxes };
    println!("{mailboxes} mailboxes, {NODES} workers");
    println!(
        "{:>14} {:>8} {:>8} {:>10} {:>10} {:>10}",
        "", "s", "CPU s", "us each", "B kept", "B memory"
    );
    table.row("bare log", floor, Used::default());
    table.row("plan applied", done.applying, done.applied);
    table.row("coordinator", took, coordinator);
    table.row("workers", took, workers);
    table.row("rollout", took, coordinator.plus(workers));
    let rate = f64::from(mailboxes) / took.as_secs_f64();
    println!(
        "{rate:.0} mailboxes/s, {:.1} x the bare log; a question for one of them {:.0} us",
        took.as_secs_f64() / floor.as_secs_f64(),
        done.question,
    );
    Ok(())
}

/// Draws what a mailbox costs, whatever their number.
async fn draw(svg: &Path) -> anyhow::Result<()> {
    let (fixed, _) = point(HARDLY_ANY).await?;
    let mut curve = Curve::default();
    for mailboxes in POINTS {
        let (done, restart) = point(mailboxes).await?;
        let each = |of: fn(&Orchestrated) -> Used| {
            let (all, fixed) = (of(&done), of(&fixed));
            let memory = all.memory.saturating_sub(fixed.memory) / 1_024;
            let memory = f64::from(u32::try_from(memory).unwrap_or(u32::MAX)) * 1_024.0;
            let cpu = all.cpu.saturating_sub(fixed.cpu).as_secs_f64() * 1e6;
            (cpu / f64::from(mailboxes), memory / f64::from(mailboxes))
        };
        let (coordinator, workers) = (each(|it| it.coordinator), each(|it| it.workers));
        let of_restart = restart.map_or(0.0, |it| it.cpu.as_secs_f64() * 1e3);
        let values = [
            (CPU, "plan it", each(|it| it.planned).0),
            (CPU, "apply the plan", each(|it| it.applied).0),
            (CPU, "coordinator", coordinator.0),
            (CPU, "workers", workers.0),
            (MEMORY, "coordinator", coordinator.1),
            (MEMORY, "workers", workers.1),
            (ONCE, "a restart, ms", of_restart),
            (ONCE, "a question, us", done.question),
        ];
        println!("{mailboxes} mailboxes");
        for (panel, name, value) in values {
            println!("{panel:>30} {name:>16} {value:>10.2}");
            curve.add((panel, name), mailboxes, value);
        }
    }
    Ok(fs::write(svg, curve.svg())?)
}

/// One point of the curve: a rollout, and how a coordinator that is killed in the middle of
/// another one comes back.
async fn point(mailboxes: u32) -> anyhow::Result<(Orchestrated, Option<Restart>)> {
    let done = orchestrate(tempfile::tempdir()?.path(), mailboxes, false).await?;
    let killed = orchestrate(tempfile::tempdir()?.path(), mailboxes, true).await?;
    Ok((done, killed.restart))
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
