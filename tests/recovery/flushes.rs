//! Flushes: the kernel says once that a flush has failed, and pretends the next time that all
//! is well. Whoever asks again believes in bytes that are gone.

use std::collections::BTreeSet;
use std::fs;

use crate::dice::{Dice, rounds};
use crate::fleet::{Fleet, Ground, Which};
use crate::machine::{self, Need};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_coordinator_whose_flush_failed_stops_says_so_and_never_asks_again,
    a_worker_whose_flush_failed_stops_says_so_and_never_asks_again,
    a_coordinator_whose_disk_is_broken_for_good_ends_each_time_it_is_started,
    a_worker_whose_disk_is_broken_for_good_ends_each_time_and_lets_nobody_in,
];

/// What a program ends with whose journal cannot be kept.
const NOT_KEPT: i32 = 74;

/// How often a broken one is started.
const STARTS: u64 = 3;

/// Whatever writes to a file or makes it durable.
const WRITES: &str =
    "write,pwrite64,writev,pwritev,fsync,fdatasync,syncfs,sync_file_range";

/// Failed flushes of one rollout.
const FAILURES: u64 = 4;

/// The latest flush of a run that fails.
const LATEST: u64 = 12;

const FLUSHES: &str = "fsync,fdatasync,syncfs";

fn a_coordinator_whose_flush_failed_stops_says_so_and_never_asks_again() {
    let faults = Faults::of("EIO of a flush: coordinator");
    fail(&faults, Which::Coordinator, "a_coordinator_whose_flush_failed");
}

fn a_worker_whose_flush_failed_stops_says_so_and_never_asks_again() {
    let faults = Faults::of("EIO of a flush: worker");
    fail(&faults, Which::Worker(0), "a_worker_whose_flush_failed");
}

fn fail(faults: &Faults, which: Which, test: &str) {
    if let Some(lack) = machine::lacks(&[Need::Tool("strace", "-V")]) {
        return faults.skipped(&lack);
    }
    for _ in 0..rounds(1) {
        let (seed, mut dice) = Dice::thrown(test);
        let mut fleet = Fleet::on(Ground::small(seed));
        let mut failed = 0;
        for round in 0..FAILURES {
            let trace = fleet.path(&format!("flushes-{round}"));
            let nth = 1 + dice.below(LATEST);
            let inject = format!("inject={FLUSHES}:error=EIO:when={nth}");
            let trace_to = trace.to_str().unwrap().to_owned();
            let calls = format!("trace={FLUSHES}");
            fleet.run_by(
                which,
                &[
                    "strace", "-D", "-f", "-y", "-o", &trace_to, "-e", &calls, "-e",
                    &inject,
                ],
            );
            let said_before = fleet.log(which).len();
            fleet.kill_and_restart(which);
            // A run that needs fewer flushes than that has nothing to fail.
            fleet.wait("it ends, or the rollout does", |fleet| {
                was_hit(&trace) || is_over(fleet)
            });
            if !was_hit(&trace) {
                continue;
            }
            let status = fleet.ends(which);
            let log = fleet.log(which);
            let said = log.get(said_before..).unwrap_or_default();
            eprintln!("flush {nth} of {which:?} failed: {status}");
            assert!(!status.success(), "it went on: {said}");
            assert!(said.contains("ERROR") || said.contains("error"), "{said}");
            assert_eq!(asked_again(&trace), BTreeSet::new(), "flush {nth}: {said}");
            failed += 1;
            faults.injected(1);
        }

        fleet.run_by(which, &[]);
        fleet.kill_and_restart(which);
        fleet.account(faults);
        faults.survived(failed);
    }
}

fn a_coordinator_whose_disk_is_broken_for_good_ends_each_time_it_is_started() {
    let faults = Faults::of("EIO of every write for good: coordinator");
    broken_for_good(&faults, Which::Coordinator);
}

fn a_worker_whose_disk_is_broken_for_good_ends_each_time_and_lets_nobody_in() {
    let faults = Faults::of("EIO of every write for good: worker");
    broken_for_good(&faults, Which::Worker(0));
}

fn broken_for_good(faults: &Faults, which: Which) {
    if let Some(lack) = machine::lacks(&[Need::Tool("strace", "-V")]) {
        return faults.skipped(&lack);
    }
    let mut fleet = Fleet::on(Ground::small(61));
    fleet.wait_for_openings();
    let journal = match which {
        Which::Coordinator => fleet.coordinator_dir(),
        Which::Worker(index) => fleet.state_dir(index),
    };
    let db = journal.join("journal/db").to_str().unwrap().to_owned();
    let trace = fleet.path("broken").to_str().unwrap().to_owned();
    let (calls, inject) =
        (format!("trace={WRITES}"), format!("inject={WRITES}:error=EIO"));
    fleet.run_by(
        which,
        &["strace", "-D", "-f", "-o", &trace, "-P", &db, "-e", &calls, "-e", &inject],
    );

    fleet.kill(which);
    for start in 0..STARTS {
        fleet.restart(which);
        let status = fleet.ends(which);
        let log = fleet.log(which);
        assert_eq!(status.code(), Some(NOT_KEPT), "start {start}: {}", fleet.logs());
        assert!(log.contains("Input/output error"), "{log}");
        faults.injected(1);
    }
    if let Which::Worker(index) = which {
        assert_eq!(fleet.admitted_on(index), BTreeSet::new(), "nobody answers: held");
        assert!(!fleet.admitted_on(1 - index).is_empty(), "the others go on");
    }

    fleet.run_by(which, &[]);
    fleet.restart(which);
    fleet.account(faults);
    faults.survived(STARTS);
}

/// Not if nobody answers: it may be ending right now.
fn is_over(fleet: &Fleet) -> bool {
    let (code, said) = fleet.run(&["status", "-o", "json"]);
    code == Some(0) && said.contains("\"finished\"")
}

fn was_hit(trace: &std::path::Path) -> bool {
    fs::read_to_string(trace).is_ok_and(|trace| trace.contains("(INJECTED)"))
}

/// Open files that were flushed with success after a flush of them had failed. The storage engine
/// flushes once more by a handle of its own when it is dropped; nobody believes that one.
fn asked_again(trace: &std::path::Path) -> BTreeSet<String> {
    let trace = fs::read_to_string(trace).unwrap();
    let mut failed = BTreeSet::new();
    let mut again = BTreeSet::new();
    for line in trace.lines() {
        let Some(file) = line.split(['(', ')']).nth(1) else { continue };
        if line.contains("(INJECTED)") {
            failed.insert(file.to_owned());
        } else if failed.contains(file) && line.contains("= 0") {
            again.insert(file.to_owned());
        }
    }
    again
}
