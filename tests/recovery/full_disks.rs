//! Full disks: no room is left, a program says so and stops or waits, and goes on when there
//! is room again.

use crate::fleet::{self, Fleet, Ground, Which};
use crate::machine::{self, Disk, Need};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_coordinator_without_room_stops_says_so_and_goes_on_when_there_is_some,
    a_worker_without_room_stops_says_so_and_goes_on_when_there_is_some,
    a_mail_store_without_room_opens_nothing_wrong_and_goes_on_when_there_is_some,
];

/// What a program ends with when it cannot keep its records.
const NOT_KEPT: i32 = 74;

fn a_coordinator_without_room_stops_says_so_and_goes_on_when_there_is_some() {
    let faults = Faults::of("disk full: coordinator's journal");
    let Some(disk) = disk(&faults) else { return };
    let mut fleet =
        Fleet::on(Ground { coordinator: Some(disk.path("data")), ..Ground::small(31) });
    fleet.wait_for_openings();

    stops_and_goes_on(&mut fleet, &disk, Which::Coordinator, &faults);
}

fn a_worker_without_room_stops_says_so_and_goes_on_when_there_is_some() {
    let faults = Faults::of("disk full: worker's journal");
    let Some(disk) = disk(&faults) else { return };
    let mut fleet =
        Fleet::on(Ground { state: Some(disk.path("state")), ..Ground::small(32) });
    fleet.wait("the node is open", |fleet| !fleet.admitted_on(0).is_empty());

    stops_and_goes_on(&mut fleet, &disk, Which::Worker(0), &faults);
}

fn stops_and_goes_on(fleet: &mut Fleet, disk: &Disk, which: Which, faults: &Faults) {
    disk.fill();
    faults.injected(1);
    let status = fleet.ends(which);
    assert_eq!(status.code(), Some(NOT_KEPT), "{}", fleet.logs());
    let said = fleet.log(which);
    assert!(said.contains("No space left"), "{said}");
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    std::thread::sleep(fleet::LEASE);
    if which == Which::Coordinator {
        assert_eq!(fleet.admitted(), open, "something opened without a coordinator");
    }

    disk.free();
    fleet.restart(which);
    fleet.account(faults);
    faults.survived(1);
}

fn a_mail_store_without_room_opens_nothing_wrong_and_goes_on_when_there_is_some() {
    let faults = Faults::of("disk full: mail store and work directory");
    let Some(disk) = disk(&faults) else { return };
    let mut fleet = Fleet::built(Ground {
        provider: Some(disk.path("provider")),
        ..Ground::small(33)
    });
    disk.fill();
    faults.injected(1);
    for which in fleet.all() {
        fleet.restart(which);
    }
    fleet.apply();
    fleet.wait("a worker says so", |fleet| {
        let said = fleet.log(Which::Worker(0)) + &fleet.log(Which::Worker(1));
        said.contains("no-space") || said.contains("No space left")
    });
    std::thread::sleep(fleet::LEASE);
    fleet.account_midway(&fleet.prepared(), &faults);

    disk.free();
    // One that could not even keep a claim has stopped.
    fleet.restart_ended();
    fleet.account(&faults);
    faults.survived(1);
}

fn disk(faults: &Faults) -> Option<Disk> {
    let disk = match machine::lacks(&[Need::Root]) {
        Some(lack) => Err(lack),
        None => Disk::in_memory(),
    };
    disk.map_err(|lack| faults.skipped(&lack)).ok()
}
