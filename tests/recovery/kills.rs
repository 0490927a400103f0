//! Kills: programs die by kill -9 at random moments, and come back.

use std::time::Duration;

use crate::dice::{Dice, rounds};
use crate::fleet::{self, Fleet, Which};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    kill_9_at_random_moments_loses_nothing_and_opens_nothing_twice,
    without_a_coordinator_open_mailboxes_stay_open_and_nothing_more_opens,
];

/// Kills of one rollout: every program dies a few times in every phase of its work.
const KILLS: u64 = 12;

/// Longest pause between two kills, milliseconds: a rollout of the test's size takes some
/// ten seconds.
const PAUSE_MILLIS_MAX: u64 = 700;

fn kill_9_at_random_moments_loses_nothing_and_opens_nothing_twice() {
    let faults = Faults::of("kill -9 of a program at a random moment");
    for _ in 0..rounds(1) {
        let (seed, mut dice) = Dice::thrown("kill_9_at_random_moments");
        let mut fleet = Fleet::start(seed);

        for kill in 0..KILLS {
            let pause = Duration::from_millis(dice.below(PAUSE_MILLIS_MAX));
            std::thread::sleep(pause);
            let victim = dice.one_of(&fleet.all());
            // A rollout that has finished early is the next kill's business as well.
            fleet.kill_and_restart(victim);
            eprintln!("kill {kill}: {victim:?}");
            faults.injected(1);
        }

        fleet.account(&faults);
        faults.survived(KILLS);
    }
}

fn without_a_coordinator_open_mailboxes_stay_open_and_nothing_more_opens() {
    let faults = Faults::of("the coordinator is away for two leases");
    let mut fleet = Fleet::start(7);
    fleet.wait_for_openings();

    fleet.kill(Which::Coordinator);
    faults.injected(1);
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    std::thread::sleep(fleet::LEASE);
    let later = fleet.admitted();

    assert!(!open.is_empty());
    assert_eq!(open, later);
    fleet.restart(Which::Coordinator);
    fleet.account(&faults);
    faults.survived(1);
}
