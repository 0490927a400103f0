//! Lost memories: a journal that is gone is rebuilt from the workers', and one that was put back
//! is accepted by a person.

use crate::fleet::{self, Fleet, Which};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_rollout_whose_journal_is_lost_is_rebuilt_from_the_workers_and_loses_nothing,
    a_worker_whose_disk_was_put_back_lets_nobody_in_until_it_is_accepted,
    a_worker_put_back_while_a_rollout_is_rebuilt_is_refused_after_it_told,
];

fn a_rollout_whose_journal_is_lost_is_rebuilt_from_the_workers_and_loses_nothing() {
    let faults = Faults::of("the coordinator's journal is gone for good");
    let mut fleet = Fleet::start(23);
    fleet.wait("something is open", |fleet| fleet.admitted().len() > 5);
    fleet.kill(Which::Coordinator);
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    let knocks = |fleet: &Fleet, index| {
        let log = fleet.log(Which::Worker(index));
        log.matches("no plan has been applied yet").count()
    };
    let before = [0, 1, 2].map(|index| knocks(&fleet, index));

    std::fs::remove_dir_all(fleet.coordinator_dir()).unwrap();
    faults.injected(1);
    fleet.restart(Which::Coordinator);
    fleet.wait("the workers ask for a plan", |fleet| {
        let now = [0, 1, 2].map(|index| knocks(fleet, index));
        now.iter().zip(before).any(|(now, before)| *now > before)
    });
    let refused = fleet.apply_again();
    let (inventory, policy) = fleet.inputs();
    let files = ["--inventory", &inventory, "--policy", &policy];
    let why = ["rebuild", "--yes", "--reason", "the disk is gone"];
    fleet.tidegate(&[&why[..], &files[..]].concat(), 0);
    fleet.wait("every node has told what it holds", |fleet| {
        fleet.tidegate(&["status", "-o", "json"], 0).contains("\"rebuild\":null")
    });
    let told = fleet.admitted();

    assert!(refused.contains("tidegate rebuild"), "{refused}");
    assert!(!open.is_empty());
    assert_eq!(told, open);
    fleet.tidegate(&["resume", "--reason", "all nodes have told"], 0);
    fleet.account(&faults);
    faults.survived(1);
}

fn a_worker_whose_disk_was_put_back_lets_nobody_in_until_it_is_accepted() {
    let faults = Faults::of("a worker's journal is an old copy");
    let mut fleet = Fleet::start(24);
    let node = "stor-01";
    let backup = fleet.coordinator_dir().with_extension("backup");
    fleet.wait("the worker has begun", |fleet| !fleet.admitted().is_empty());
    fleet.kill(Which::Worker(0));
    fleet::copy(&fleet.state_dir(0), &backup);
    fleet.restart(Which::Worker(0));
    fleet.tidegate(&["reclose", "node", node, "--reason", "test", "--wait"], 0);
    fleet.kill(Which::Worker(0));

    std::fs::remove_dir_all(fleet.state_dir(0)).unwrap();
    std::fs::rename(&backup, fleet.state_dir(0)).unwrap();
    faults.injected(1);
    fleet.restart(Which::Worker(0));
    fleet.wait("it is turned away", |fleet| {
        fleet.log(Which::Worker(0)).contains("was put back to an older state")
    });
    fleet.wait("the status says so", |fleet| {
        fleet.tidegate(&["status"], 0).contains("turned-away")
    });
    // Nor does a restart, with nobody to ask, show what that copy had open.
    fleet.kill(Which::Coordinator);
    fleet.kill(Which::Worker(0));
    let said =
        |fleet: &Fleet| fleet.log(Which::Worker(0)).matches("nobody is let in").count();
    let before = said(&fleet);
    fleet.restart(Which::Worker(0));
    fleet.wait("it knows that it was turned away", |fleet| said(fleet) > before);
    let _ended = std::fs::remove_file(fleet.state_dir(0).join("admission-address"));
    fleet.kill_and_restart(Which::Worker(0));
    fleet.wait("it answers", |fleet| fleet.answers_on(0));
    assert_eq!(fleet.admitted_on(0), std::collections::BTreeSet::new());
    fleet.restart(Which::Coordinator);
    fleet.wait("the status says so again", |fleet| {
        fleet.run(&["status"]).1.contains("turned-away")
    });

    fleet.tidegate(&["accept", node, "--reason", "that is the backup"], 0);
    fleet.tidegate(&["resume", "node", node, "--reason", "test"], 0);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    fleet.account(&faults);
    faults.survived(1);
}

fn a_worker_put_back_while_a_rollout_is_rebuilt_is_refused_after_it_told() {
    let faults = Faults::of("a worker's disk is put back while a rollout is rebuilt");
    let mut fleet = Fleet::start(25);
    let (node, last) = ("stor-01", Which::Worker(2));
    let backup = fleet.coordinator_dir().with_extension("backup");
    fleet.wait("the worker has begun", |fleet| !fleet.admitted_on(0).is_empty());
    fleet.kill(Which::Worker(0));
    fleet::copy(&fleet.state_dir(0), &backup);
    let raised =
        |fleet: &Fleet| fleet.log(Which::Worker(0)).matches("mailboxes raised").count();
    let early = raised(&fleet);
    fleet.restart(Which::Worker(0));
    fleet.wait("it has opened more", |fleet| raised(fleet) > early);
    fleet.kill(Which::Coordinator);
    fleet.kill(last);

    // The coordinator's journal is gone, and one node is late.
    std::fs::remove_dir_all(fleet.coordinator_dir()).unwrap();
    fleet.restart(Which::Coordinator);
    let (inventory, policy) = fleet.inputs();
    let files = ["--inventory", &inventory, "--policy", &policy];
    let why = ["rebuild", "--yes", "--reason", "the disk is gone"];
    fleet.wait("the coordinator answers", |fleet| {
        fleet.run(&[&why[..], &files[..]].concat()).0 == Some(0)
    });
    fleet.wait("all but one have told", |fleet| missing(fleet) == ["stor-03"]);
    let told = fleet.admitted_on(0);

    // The node's machine is put back to before it told.
    fleet.kill(Which::Worker(0));
    std::fs::remove_dir_all(fleet.state_dir(0)).unwrap();
    std::fs::rename(&backup, fleet.state_dir(0)).unwrap();
    faults.injected(1);
    std::thread::sleep(fleet::LEASE);
    fleet.restart(Which::Worker(0));
    fleet.wait("it is turned away", |fleet| {
        fleet.log(Which::Worker(0)).contains("was put back to an older state")
    });
    assert_eq!(missing(&fleet), ["stor-03"], "what it had told is known still");
    assert!(!told.is_empty());

    // A person lets it in while the rollout is still being made again; the late node comes.
    fleet.tidegate(&["accept", node, "--reason", "that is the backup"], 0);
    fleet.restart(last);
    fleet.wait("every node has told what it holds", |fleet| {
        fleet.tidegate(&["status", "-o", "json"], 0).contains("\"rebuild\":null")
    });
    fleet.tidegate(&["resume", "--reason", "all nodes have told"], 0);
    fleet.account(&faults);
    faults.survived(1);
}

/// The nodes that a rebuild waits for.
fn missing(fleet: &Fleet) -> Vec<String> {
    let told = fleet.tidegate(&["status", "-o", "json"], 0);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let missing = told.pointer("/rebuild/missing").and_then(|it| it.as_array());
    let missing = missing.cloned().unwrap_or_default();
    missing.iter().filter_map(|node| node.as_str().map(str::to_owned)).collect()
}
