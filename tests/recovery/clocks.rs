//! Clocks: the time of day jumps, goes back, or runs ten times as fast, under one program.

use std::fs;
use std::time::Duration;

use crate::dice::{Dice, rounds};
use crate::fleet::{Fleet, Ground, Which};
use crate::machine::{self, Need};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_coordinator_with_a_lying_clock_does_no_harm,
    a_worker_with_a_lying_clock_does_no_harm,
    a_worker_whose_every_clock_runs_fast_does_no_harm,
];

/// What lies about the time.
const LIAR: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Where the time of day jumps to.
const JUMPS: [&str; 6] = ["+3d", "-2h", "+0 x10", "-400d", "+1y", "+0"];

/// Between two jumps.
const PAUSE: Duration = Duration::from_millis(900);

fn a_coordinator_with_a_lying_clock_does_no_harm() {
    let faults = Faults::of("the coordinator's time of day jumps");
    for _ in 0..rounds(1) {
        lie(&faults, Which::Coordinator, "a_coordinator_with_a_lying_clock");
    }
}

fn a_worker_with_a_lying_clock_does_no_harm() {
    let faults = Faults::of("a worker's time of day jumps");
    for _ in 0..rounds(1) {
        lie(&faults, Which::Worker(0), "a_worker_with_a_lying_clock");
    }
}

fn lie(faults: &Faults, which: Which, test: &str) {
    if let Some(lack) = machine::lacks(&[Need::File(LIAR)]) {
        return faults.skipped(&lack);
    }
    let (seed, mut dice) = Dice::thrown(test);
    let mut fleet = Fleet::built(Ground::small(seed));
    let time = fleet.path("time");
    fs::write(&time, "+0").unwrap();
    let from = format!("FAKETIME_TIMESTAMP_FILE={}", time.display());
    let preload = format!("LD_PRELOAD={LIAR}");
    let steady = "FAKETIME_DONT_FAKE_MONOTONIC=1";
    fleet.run_by(which, &["env", &preload, &from, "FAKETIME_NO_CACHE=1", steady]);
    for which in fleet.all() {
        fleet.restart(which);
    }
    fleet.apply();

    for _ in 0..JUMPS.len() {
        std::thread::sleep(PAUSE);
        // Whole or not at all: the liar reads it all the time.
        let jump = dice.one_of(&JUMPS);
        fs::write(time.with_extension("new"), jump).unwrap();
        fs::rename(time.with_extension("new"), &time).unwrap();
        if dice.below(3) == 0 {
            fleet.kill_and_restart(which);
        }
        faults.injected(1);
    }

    fleet.account(faults);
    faults.survived(JUMPS.len() as u64);
}

fn a_worker_whose_every_clock_runs_fast_does_no_harm() {
    let faults = Faults::of("every clock of a worker runs ten times as fast");
    if let Some(lack) = machine::lacks(&[Need::File(LIAR)]) {
        return faults.skipped(&lack);
    }
    let mut fleet = Fleet::built(Ground::small(52));
    let preload = format!("LD_PRELOAD={LIAR}");
    fleet.run_by(Which::Worker(0), &["env", &preload, "FAKETIME=+0 x10"]);
    for which in fleet.all() {
        fleet.restart(which);
    }
    faults.injected(1);
    fleet.apply();

    fleet.account(&faults);
    faults.survived(1);
}
