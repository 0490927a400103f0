//! Sim: a coordinator and its workers in one thread, against chance, for hours without end.
//!
//! The very programs run: the coordinator's services, inbox and owner, the workers' dialogues,
//! owners and hands. Time, network, disks, processes and people are simulated, and the mail lies in a
//! model of the store. After a phase of faults comes a quiet one in which everything must come back.
//!
//! `TIDEGATE_SEED=7 cargo test -p tidegate-sim every_hour -- --nocapture` lives through one hour
//! again and tells its story; `TIDEGATE_SEEDS=1000000` lives through more hours than usual, from
//! seed `TIDEGATE_FROM` on, and with `TIDEGATE_GO_ON=1` one that breaks a promise ends nothing.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stderr, reason = "figures and stories are for people")]
#![expect(clippy::unnecessary_wraps, reason = "every turn may break a promise")]
#![expect(clippy::indexing_slicing, reason = "fleets of known size")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an oracle looks at a few records each"
)]

mod bugs;
mod chance;
mod chronicle;
mod coordinator;
mod diary;
mod disk;
mod faults;
mod fleet;
mod hours;
mod i10_accounted;
mod i1_kept;
mod i2_nothing_destroyed;
mod i3_verified;
mod i4_one_hand;
mod i5_evidence;
mod i6_stop;
mod i7_durable;
mod i8_everyone;
mod i9_right_person;
mod mailroom;
mod operators;
mod oracle;
mod past;
mod shrink;
mod story;
mod trouble;
mod worker;
mod world;

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use faults::Kind;
use fleet::Fleet;
use hours::{Span, Sum, live_all, live_one};
use shrink::shrink;
use world::{HOUR, Outcome, Script};

/// Hours of the ordinary run.
const SEEDS: u64 = 20_000;

/// Fewer hours need not have met everything.
const SEEDS_ALL: u64 = 300;

/// Every so many, an hour is lived twice and must be the same.
const TWICE_EVERY: u64 = 100;

/// Who never met one of these has not been tested.
const SOMETIMES: [&str; 51] = [
    "old coordinator",
    "old coordinator refused",
    "old coordinator in a rebuild",
    "put back before it told",
    "put back after it told",
    "journal lost",
    "rebuilt",
    "compaction",
    "compaction interrupted",
    "power cut",
    "power cut in a restore",
    "store full",
    "read error",
    "old journal",
    "old machine",
    "old worker refused",
    "node accepted",
    "died in append",
    "deaf mail system",
    "hands stuck",
    "message gone bad",
    "stopped in a call",
    "fenced zombie",
    "failover",
    "rollback",
    "duplicate open",
    "fenced at the store",
    "coordinator restart",
    "worker restart",
    "reclose",
    "retry",
    "retry beside open mailboxes",
    "expansion",
    "halt",
    "isolation",
    "finished",
    "abort",
    "quarantine",
    "changed after verification",
    "report of an older generation",
    "message lost",
    "message doubled",
    "fsync error",
    "torn append",
    "disk full",
    "slow append",
    "store error",
    "pause with an unreachable node",
    "effective stop",
    "second worker refused",
    "dial tone",
];

#[test]
fn every_hour_ends_well_and_breaks_no_promise() {
    let fleets = Fleet::all();
    if let Some(seed) = number("TIDEGATE_SEED") {
        return tell(&Script { telling: true, ..Script::of(seed, &fleets) });
    }
    let seeds = number("TIDEGATE_SEEDS").unwrap_or(SEEDS);
    let began = Instant::now();
    let from = number("TIDEGATE_FROM").unwrap_or(0);
    let goes_on = std::env::var_os("TIDEGATE_GO_ON").is_some();
    let span =
        Span { from, to: from + seeds, bug: None, twice_every: TWICE_EVERY, goes_on };

    let sum = live_all(span, &fleets);

    figures(&sum, began);
    for (seed, violation) in &sum.broken {
        eprintln!("  seed {seed} breaks {}: {}", violation.promise, violation.text);
    }
    if let Some((seed, violation)) = sum.broken.first_key_value() {
        let (script, outcome) = shrink(&Script::of(*seed, &fleets), None);
        eprintln!("seed {seed} needs {} faults:", script.faults.len());
        print(&outcome);
        panic!(
            "{}: {}; replay with TIDEGATE_SEED={seed}",
            violation.promise, violation.text
        );
    }
    assert!(sum.unstable.is_empty(), "lived twice, not the same: {:?}", sum.unstable);
    let never = SOMETIMES.iter().filter(|what| !sum.counts.contains_key(**what));
    let never: Vec<_> = never.collect();
    assert!(never.is_empty() || seeds < SEEDS_ALL, "never met: {never:?}");
    let missing = Kind::ALL.iter().filter(|kind| !sum.faults.contains_key(kind));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty() || seeds < SEEDS_ALL, "never injected: {missing:?}");
}

/// Hours whose digests are compared with those of other processes.
const COMPARED: u64 = 24;

/// Asks a process to print them.
const DIGESTS: &str = "TIDEGATE_DIGESTS";

#[test]
fn other_processes_live_the_same_hours() {
    let fleets = Fleet::all();
    let digests = || {
        let hours = (0..COMPARED).map(|seed| live_one(&Script::of(seed, &fleets), None));
        hours.map(|hour| format!("digest {:016x}", hour.digest)).collect::<Vec<_>>()
    };
    if std::env::var_os(DIGESTS).is_some() {
        return digests().iter().for_each(|line| eprintln!("{line}"));
    }
    let other = || {
        let told = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "other_processes_live_the_same_hours", "--nocapture"])
            .env(DIGESTS, "1")
            .output()
            .unwrap();
        let text = String::from_utf8(told.stderr).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("digest "));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };

    let (one, another) = (other(), other());

    assert_eq!(one, digests());
    assert_eq!(one, another);
    assert_eq!(one.len() as u64, COMPARED);
}

fn tell(script: &Script) {
    let outcome = live_one(script, None);
    print(&outcome);
    assert_eq!(outcome.violation, None, "seed {}", script.seed);
}

fn print(outcome: &Outcome) {
    outcome.lines.iter().for_each(|line| eprintln!("{line}"));
}

fn figures(sum: &Sum, began: Instant) {
    let hours = sum.simulated / HOUR;
    let seconds = began.elapsed().as_secs().max(1);
    eprintln!(
        "{} seeds, {hours} simulated hours in {seconds} seconds: {} hours a second",
        sum.seeds,
        hours / seconds
    );
    let faults: u64 = sum.faults.values().sum();
    eprintln!("  {faults} faults, digest of all hours {:016x}", sum.digest);
    for (kind, count) in &sum.faults {
        eprintln!("  fault {kind:?}: {count}");
    }
    for (what, count) in &sum.counts {
        eprintln!("  sometimes {what}: {count}");
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// All fleets, for tests of their own.
fn fleets() -> Vec<Arc<Fleet>> {
    Fleet::all()
}
