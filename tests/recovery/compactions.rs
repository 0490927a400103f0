//! Compactions: programs die while their journals are compacted, and go on from snapshots.

use crate::dice::{Dice, rounds};
use crate::fleet::{self, Fleet, Ground, Which};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    kill_9_while_journals_are_compacted_loses_nothing_and_opens_nothing_twice,
    whoever_goes_on_from_a_snapshot_has_its_doors_open_and_has_forgotten_nothing,
];

/// Records between two compactions: so few that one is nearly always under way.
const RECORDS: u64 = 8;

/// Kills of one rollout, of the coordinator and of a worker in turns.
const KILLS: usize = 12;

/// Longest pause between two kills, milliseconds.
const PAUSE_MILLIS_MAX: u64 = 500;

/// Who dies.
const VICTIMS: [Which; 2] = [Which::Coordinator, Which::Worker(0)];

fn kill_9_while_journals_are_compacted_loses_nothing_and_opens_nothing_twice() {
    let faults = Faults::of("kill -9 while journals are compacted");
    for _ in 0..rounds(1) {
        let (seed, mut dice) = Dice::thrown("kill_9_while_journals_are_compacted");
        let mut fleet = Fleet::on(often_compacted(seed));

        for victim in VICTIMS.into_iter().cycle().take(KILLS) {
            let pause = dice.below(PAUSE_MILLIS_MAX);
            std::thread::sleep(std::time::Duration::from_millis(pause));
            fleet.kill_and_restart(victim);
            faults.injected(1);
        }

        fleet.finish();
        for victim in VICTIMS {
            fleet.kill_and_restart(victim);
            fleet.wait("it goes on from a snapshot", |fleet| {
                covered(&fleet.log(victim)) > 0
            });
        }
        fleet.account(&faults);
        faults.survived(KILLS as u64);
    }
}

fn whoever_goes_on_from_a_snapshot_has_its_doors_open_and_has_forgotten_nothing() {
    let faults = Faults::of("a restart from a snapshot, doors open");
    let mut fleet = Fleet::on(often_compacted(41));
    fleet.wait("doors are open on both nodes", |fleet| {
        (0..2).all(|node| fleet.admitted_on(node).len() > 3)
    });

    // Of a worker, with nobody to ask.
    fleet.kill(Which::Coordinator);
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    fleet.kill_and_restart(Which::Worker(0));
    fleet.wait("its doors stand as before", |fleet| fleet.admitted() == open);
    assert!(covered(&fleet.log(Which::Worker(0))) > 0, "{}", fleet.logs());
    faults.injected(1);

    // Of the coordinator, while the rollout goes on.
    fleet.restart(Which::Coordinator);
    fleet.wait("more doors open", |fleet| fleet.admitted().len() > open.len());
    fleet.kill_and_restart(Which::Coordinator);
    faults.injected(1);
    fleet.wait("it answers", |fleet| fleet.tidegate_ok(&["status"]));
    assert!(covered(&fleet.log(Which::Coordinator)) > 0, "{}", fleet.logs());
    let still = fleet.admitted();
    assert!(still.is_superset(&open), "{open:?} were open, {still:?} are");

    fleet.account(&faults);
    faults.survived(2);
}

fn often_compacted(seed: u64) -> Ground {
    Ground { compact_after: Some(RECORDS), ..Ground::small(seed) }
}

/// How many records the snapshot stood for that a program went on from last.
fn covered(log: &str) -> u64 {
    let opened = log.lines().rev().find(|line| line.contains("journal opened"));
    let covered = opened.and_then(|line| line.split("compacted=").nth(1));
    let digits = covered.map(|rest| rest.split_whitespace().next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
