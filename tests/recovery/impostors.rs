//! Impostors: second workers, unknown nodes, lost memories and old copies are refused.

use std::collections::BTreeSet;

use crate::fleet::{self, Fleet, Ground, Which};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_second_worker_for_a_node_is_refused_wherever_it_starts,
    a_worker_of_an_unknown_node_is_told_the_names_there_are,
    a_coordinator_that_has_lost_its_memory_closes_nobodys_door,
    a_coordinator_restored_from_an_old_copy_leads_nobody,
    a_port_in_use_is_named,
];

fn a_second_worker_for_a_node_is_refused_wherever_it_starts() {
    let fleet = Fleet::on(Ground::small(11));

    let same_state = fleet.second_worker("same-state", |config| config);
    let same_store = fleet
        .second_worker("same-store", |config| config.replace("/state/", "/other-state/"));

    assert!(same_state.contains("journal"), "{same_state}");
    assert!(same_store.contains("store is held by"), "{same_store}");
}

fn a_worker_of_an_unknown_node_is_told_the_names_there_are() {
    let fleet = Fleet::on(Ground::small(12));

    let refused = fleet.second_worker("unknown-node", |config| {
        let config = config.replace("node = \"stor-01\"", "node = \"stor-77\"");
        config.replace("/state/", "/other-state/").replace("/work\"", "/other-work\"")
    });

    assert!(refused.contains("stor-77") && refused.contains("`stor-01`"), "{refused}");
}

fn a_coordinator_that_has_lost_its_memory_closes_nobodys_door() {
    let faults = Faults::of("the coordinator's journal is gone, then found again");
    let mut fleet = Fleet::start(16);
    fleet.wait_for_openings();
    fleet.kill(Which::Coordinator);
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    let (dir, kept) =
        (fleet.coordinator_dir(), fleet.coordinator_dir().with_extension("kept"));
    std::fs::rename(&dir, &kept).unwrap();
    std::fs::create_dir(&dir).unwrap();
    faults.injected(1);

    fleet.restart(Which::Coordinator);
    std::thread::sleep(fleet::LEASE * 2);
    let later = fleet.admitted();
    fleet.kill(Which::Coordinator);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::rename(&kept, &dir).unwrap();

    assert_eq!(open, later);
    fleet.restart(Which::Coordinator);
    fleet.account(&faults);
    faults.survived(1);
}

fn a_coordinator_restored_from_an_old_copy_leads_nobody() {
    let faults = Faults::of("the coordinator's journal is an old copy");
    let mut fleet = Fleet::start(16);
    let data = fleet.coordinator_dir();
    let (old, new) = (data.with_extension("old"), data.with_extension("new"));
    fleet.kill(Which::Coordinator);
    fleet::copy(&data, &old);
    fleet.restart(Which::Coordinator);
    fleet.wait_for_openings();
    fleet.tidegate(&["reclose", "wave", "0", "--reason", "test", "--wait"], 0);

    fleet.kill(Which::Coordinator);
    std::fs::rename(&data, &new).unwrap();
    std::fs::rename(&old, &data).unwrap();
    faults.injected(1);
    fleet.restart(Which::Coordinator);
    fleet.wait("its workers refuse it", |fleet| {
        fleet.log(Which::Worker(0)).contains("older than the fleet")
    });
    std::thread::sleep(fleet::LEASE);

    assert_eq!(fleet.admitted(), BTreeSet::new());
    fleet.kill(Which::Coordinator);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&new, &data).unwrap();
    fleet.restart(Which::Coordinator);
    fleet.wait("it listens", |fleet| fleet.tidegate_ok(&["status"]));
    fleet.tidegate(&["resume", "wave", "0", "--reason", "test"], 0);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    fleet.account(&faults);
    faults.survived(1);
}

fn a_port_in_use_is_named() {
    let fleet = Fleet::on(Ground::small(15));

    let said = fleet.second_coordinator();

    assert!(said.contains(fleet.coordinator_address()), "{said}");
}
