//! Pauses: programs that stand still beyond their lease, and wake.

use rustix::process::Signal;

use crate::dice::{Dice, rounds};
use crate::fleet::{self, Fleet, Ground, Which};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_worker_that_slept_beyond_its_lease_does_no_harm,
    a_worker_that_slept_through_a_reclose_wakes_fenced,
    a_coordinator_that_slept_is_not_believed_before_it_has_caught_up,
];

fn a_worker_that_slept_beyond_its_lease_does_no_harm() {
    let faults = Faults::of("SIGSTOP of a worker beyond its lease");
    for _ in 0..rounds(1) {
        let (seed, mut dice) = Dice::thrown("slept_beyond_its_lease");
        let mut fleet = Fleet::on(Ground::small(seed));
        fleet.wait_for_openings();

        for _ in 0..2 {
            let sleeper = Which::Worker(usize::try_from(dice.below(2)).unwrap());
            fleet.signal(sleeper, Signal::STOP);
            std::thread::sleep(fleet::LEASE * 2);
            fleet.signal(sleeper, Signal::CONT);
            fleet.wait("it notices", |fleet| {
                fleet.log(sleeper).contains("it woke after its lease had run out")
            });
            faults.injected(1);
        }

        fleet.account(&faults);
        faults.survived(2);
    }
}

fn a_worker_that_slept_through_a_reclose_wakes_fenced() {
    let faults = Faults::of("SIGSTOP of a worker while its node is re-closed");
    let mut fleet = Fleet::on(Ground::small(21));
    fleet.wait("the node is open", |fleet| !fleet.admitted_on(0).is_empty());
    let node = fleet.provider().nodes.first().unwrap().name.clone();

    fleet.signal(Which::Worker(0), Signal::STOP);
    fleet.tidegate(&["reclose", "node", &node, "--reason", "test"], 0);
    std::thread::sleep(fleet::LEASE * 2);
    fleet.signal(Which::Worker(0), Signal::CONT);
    faults.injected(1);
    fleet.wait("the node is held", |fleet| fleet.admitted_on(0).is_empty());
    std::thread::sleep(fleet::LEASE);

    assert!(fleet.admitted_on(0).is_empty(), "an old order opened a mailbox");
    fleet.tidegate(&["resume", "node", &node, "--reason", "test"], 0);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    fleet.account(&faults);
    faults.survived(1);
}

fn a_coordinator_that_slept_is_not_believed_before_it_has_caught_up() {
    let faults = Faults::of("SIGSTOP of the coordinator beyond every lease");
    let mut fleet = Fleet::on(Ground::small(22));
    fleet.wait_for_openings();

    fleet.signal(Which::Coordinator, Signal::STOP);
    faults.injected(1);
    std::thread::sleep(fleet::LEASE * 2);
    let open = fleet.admitted();
    std::thread::sleep(fleet::LEASE);
    let later = fleet.admitted();
    fleet.signal(Which::Coordinator, Signal::CONT);

    assert!(!open.is_empty());
    assert_eq!(open, later, "something opened without a lease");
    fleet.account(&faults);
    faults.survived(1);
}
