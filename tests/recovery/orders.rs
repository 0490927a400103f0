//! Orders: what an operator was told has happened stays so, whatever dies.

use std::collections::BTreeSet;

use crate::fleet::{self, Fleet};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    an_acknowledged_pause_opens_nothing_even_across_a_restart_of_everything,
    an_abort_is_told_once_every_worker_obeys_and_leaves_open_what_is_open,
    a_reclosed_wave_is_held_by_admission_and_comes_back,
    a_plan_applied_twice_is_refused_and_says_so,
];

fn an_acknowledged_pause_opens_nothing_even_across_a_restart_of_everything() {
    let faults = Faults::of("kill -9 of every program after an acknowledged pause");
    let mut fleet = Fleet::start(9);
    fleet.wait_for_openings();

    fleet.tidegate(&["pause", "--reason", "test"], 0);
    let open = fleet.admitted();
    for which in fleet.all() {
        fleet.kill_and_restart(which);
        faults.injected(1);
    }
    std::thread::sleep(fleet::LEASE * 2);
    let later = fleet.admitted();

    assert_eq!(open, later);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    fleet.account(&faults);
    faults.survived(fleet.all().len() as u64);
}

fn an_abort_is_told_once_every_worker_obeys_and_leaves_open_what_is_open() {
    let fleet = Fleet::start(17);
    fleet.wait_for_openings();

    let said = fleet.tidegate(&["abort", "--yes", "--reason", "test"], 0);
    let open = fleet.admitted();
    std::thread::sleep(fleet::LEASE * 2);
    let later = fleet.admitted();

    assert!(said.contains("effective: no mailbox opens any more"), "{said}");
    assert!(!open.is_empty());
    assert!(open.len() < 90, "the abort came too late to show anything");
    assert_eq!(open, later);
}

fn a_reclosed_wave_is_held_by_admission_and_comes_back() {
    let faults = Faults::of("an opened wave is re-closed");
    let mut fleet = Fleet::start(10);
    fleet.wait_for_openings();

    fleet.tidegate(&["reclose", "wave", "0", "--reason", "test", "--wait"], 0);
    let open = fleet.admitted();
    faults.injected(1);

    assert_eq!(open, BTreeSet::new());
    fleet.tidegate(&["resume", "wave", "0", "--reason", "test"], 0);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    fleet.account(&faults);
    faults.survived(1);
}

fn a_plan_applied_twice_is_refused_and_says_so() {
    let fleet = Fleet::start(14);

    let said = fleet.apply_again();

    assert!(said.contains("applied"), "{said}");
}
