//! Recovery: real processes, real files, real faults, and a recount that trusts nobody.
//!
//! # Invariants
//!
//! * A program that has died is started again with the same command, nothing else.
//! * After every fault each message is counted twice: by the lab, and by `checker.py`, which
//!   shares no code with anything here and audits the journals as well.
//! * A fault that this machine cannot inject is named as skipped; it never counts as survived.
//!
//! `TIDEGATE_SOAK=n` makes n times as many rounds, and every round where some are picked;
//! `TIDEGATE_SEED` replays one run. The end of the output is the table of faults.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stderr, reason = "a failing run must say how to replay it")]

#[path = "recovery/account.rs"]
mod account;
#[path = "recovery/clocks.rs"]
mod clocks;
#[path = "recovery/compactions.rs"]
mod compactions;
#[path = "recovery/dice.rs"]
mod dice;
#[path = "recovery/fleet.rs"]
mod fleet;
#[path = "recovery/flushes.rs"]
mod flushes;
#[path = "recovery/full_disks.rs"]
mod full_disks;
#[path = "recovery/impostors.rs"]
mod impostors;
#[path = "recovery/journals.rs"]
mod journals;
#[path = "recovery/kills.rs"]
mod kills;
#[path = "recovery/lost_memories.rs"]
mod lost_memories;
#[path = "recovery/machine.rs"]
mod machine;
#[path = "recovery/networks.rs"]
mod networks;
#[path = "recovery/orders.rs"]
mod orders;
#[path = "recovery/pauses.rs"]
mod pauses;
#[path = "recovery/power_cuts.rs"]
mod power_cuts;
#[path = "recovery/scarcity.rs"]
mod scarcity;
#[path = "recovery/syscalls.rs"]
mod syscalls;
#[path = "recovery/tally.rs"]
mod tally;
#[path = "recovery/watchmen.rs"]
mod watchmen;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A test and its sentence.
type Test = (&'static str, fn());

/// Every test, by kind of fault.
const FILES: [&[Test]; 15] = [
    kills::TESTS,
    compactions::TESTS,
    pauses::TESTS,
    orders::TESTS,
    impostors::TESTS,
    lost_memories::TESTS,
    journals::TESTS,
    power_cuts::TESTS,
    full_disks::TESTS,
    networks::TESTS,
    flushes::TESTS,
    syscalls::TESTS,
    clocks::TESTS,
    scarcity::TESTS,
    watchmen::TESTS,
];

/// Fleets that run side by side: most of their time is waiting for leases and soaks.
const FLEETS_AT_ONCE: usize = 3;

/// Names tests by their functions.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test as fn())),*] };
}
pub(crate) use tests;

fn main() -> ExitCode {
    if let Some(restored) = syscalls::restore_if_asked() {
        return restored;
    }
    if let Some(compacted) = compactions::compact_if_asked() {
        return compacted;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(FLEETS_AT_ONCE);
    let trials = FILES.into_iter().flatten().map(|(name, test)| {
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    });
    let end = libtest_mimic::run(&arguments, trials.collect());
    tally::show();
    end.exit_code()
}
