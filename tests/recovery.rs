//! Recovery: real processes, real files, real kill -9, and a recount that trusts nobody.
//!
//! # Invariants
//!
//! * A killed program is started again with the same command, nothing else.
//! * The recount reads the stores themselves and shares no code with the restorer.
//!
//! `TIDEGATE_RECOVERY_KILLS` sets how often the long test kills (default 12);
//! `TIDEGATE_SEED` replays one run.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stderr, reason = "a failing run must say how to replay it")]

#[path = "recovery/fleet.rs"]
mod fleet;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use fleet::{Fleet, Which, chance};

/// Kills in the ordinary run: every program dies a few times in every phase of its work.
const KILLS: u64 = 12;

/// Longest pause between two kills, milliseconds: a rollout of the test's size takes some
/// ten seconds.
const PAUSE_MILLIS_MAX: u64 = 700;

#[test]
fn kill_9_at_random_moments_loses_nothing_and_opens_nothing_twice() {
    let seed = number("TIDEGATE_SEED").unwrap_or_else(fresh_seed);
    let kills = number("TIDEGATE_RECOVERY_KILLS").unwrap_or(KILLS);
    eprintln!("replay with: TIDEGATE_SEED={seed} cargo recovery");
    let mut fleet = Fleet::start(seed);
    let mut rolls = seed;

    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(chance(&mut rolls) % PAUSE_MILLIS_MAX));
        let victim = Which::all()
            .into_iter()
            .nth(usize::try_from(chance(&mut rolls) % 4).unwrap());
        fleet.kill_and_restart(victim.unwrap());
        // A rollout that has finished early is the next kill's business as well.
        eprintln!("kill {kill}: {victim:?}");
    }
    let end = fleet.finish();

    fleet.recount(&end);
    fleet.never_opened_unverified_or_twice();
}

#[test]
fn without_a_coordinator_open_mailboxes_stay_open_and_nothing_more_opens() {
    let mut fleet = Fleet::start(7);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());

    fleet.kill(Which::Coordinator);
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    std::thread::sleep(fleet::LEASE);
    let later = fleet.admitted();

    assert!(!open.is_empty());
    assert_eq!(open, later);
    fleet.restart(Which::Coordinator);
    let end = fleet.finish();
    fleet.recount(&end);
}

#[test]
fn a_worker_that_slept_beyond_its_lease_does_no_harm() {
    let mut fleet = Fleet::start(8);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());

    fleet.signal(Which::Worker(0), rustix::process::Signal::STOP);
    std::thread::sleep(fleet::LEASE * 2);
    fleet.signal(Which::Worker(0), rustix::process::Signal::CONT);

    let end = fleet.finish();
    fleet.recount(&end);
    fleet.never_opened_unverified_or_twice();
    let log = fleet.log(Which::Worker(0));
    assert!(log.contains("it woke after its lease had run out"), "{log}");
}

#[test]
fn a_rollout_whose_journal_is_lost_is_rebuilt_from_the_workers_and_loses_nothing() {
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
    fleet.restart(Which::Coordinator);
    fleet.wait("the workers ask for a plan", |fleet| {
        [0, 1, 2]
            .map(|index| knocks(fleet, index))
            .iter()
            .zip(before)
            .any(|(n, b)| *n > b)
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
    let end = fleet.finish();
    fleet.recount(&end);
    fleet.never_opened_unverified_or_twice();
}

#[test]
fn a_worker_whose_disk_was_put_back_lets_nobody_in_until_it_is_accepted() {
    let mut fleet = Fleet::start(24);
    let node = "stor-01";
    let backup = fleet.coordinator_dir().with_extension("backup");
    fleet.wait("the worker has begun", |fleet| !fleet.admitted().is_empty());
    fleet.kill(Which::Worker(0));
    fleet::copy(&fleet.worker_dir(0), &backup);
    fleet.restart(Which::Worker(0));
    fleet.tidegate(&["reclose", "node", node, "--reason", "test", "--wait"], 0);
    fleet.kill(Which::Worker(0));

    std::fs::remove_dir_all(fleet.worker_dir(0)).unwrap();
    std::fs::rename(&backup, fleet.worker_dir(0)).unwrap();
    fleet.restart(Which::Worker(0));
    fleet.wait("it is turned away", |fleet| {
        fleet.log(Which::Worker(0)).contains("was put back to an older state")
    });
    fleet.wait("the status says so", |fleet| {
        fleet.tidegate(&["status"], 0).contains("turned-away")
    });

    fleet.tidegate(&["accept", node, "--reason", "that is the backup"], 0);
    fleet.tidegate(&["resume", "node", node, "--reason", "test"], 0);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    let end = fleet.finish();
    fleet.recount(&end);
}

#[test]
fn an_acknowledged_pause_opens_nothing_even_across_a_restart_of_everything() {
    let mut fleet = Fleet::start(9);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());

    fleet.tidegate(&["pause", "--reason", "test"], 0);
    let open = fleet.admitted();
    for which in Which::all() {
        fleet.kill_and_restart(which);
    }
    std::thread::sleep(fleet::LEASE * 2);
    let later = fleet.admitted();

    assert_eq!(open, later);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    let end = fleet.finish();
    fleet.recount(&end);
}

#[test]
fn an_abort_is_told_once_every_worker_obeys_and_leaves_open_what_is_open() {
    let fleet = Fleet::start(17);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());

    let said = fleet.tidegate(&["abort", "--yes", "--reason", "test"], 0);
    let open = fleet.admitted();
    std::thread::sleep(fleet::LEASE * 2);
    let later = fleet.admitted();

    assert!(said.contains("effective: no mailbox opens any more"), "{said}");
    assert!(!open.is_empty());
    assert!(open.len() < 90, "the abort came too late to show anything");
    assert_eq!(open, later);
}

#[test]
fn a_reclosed_wave_is_held_by_admission_and_comes_back() {
    let fleet = Fleet::start(10);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());

    fleet.tidegate(&["reclose", "wave", "0", "--reason", "test", "--wait"], 0);
    let open = fleet.admitted();

    assert_eq!(open, BTreeSet::new());
    fleet.tidegate(&["resume", "wave", "0", "--reason", "test"], 0);
    fleet.tidegate(&["resume", "--reason", "test"], 0);
    let end = fleet.finish();
    fleet.recount(&end);
}

#[test]
fn a_second_worker_for_a_node_is_refused_wherever_it_starts() {
    let fleet = Fleet::start(11);

    let same_state = fleet.second_worker("same-state", |config| config);
    let same_store = fleet
        .second_worker("same-store", |config| config.replace("/state/", "/other-state/"));

    assert!(same_state.contains("journal"), "{same_state}");
    assert!(same_store.contains("store is held by"), "{same_store}");
}

#[test]
fn a_worker_of_an_unknown_node_is_told_the_names_there_are() {
    let fleet = Fleet::start(12);

    let refused = fleet.second_worker("unknown-node", |config| {
        let config = config.replace("node = \"stor-01\"", "node = \"stor-77\"");
        config.replace("/state/", "/other-state/").replace("/work\"", "/other-work\"")
    });

    assert!(refused.contains("stor-77") && refused.contains("`stor-01`"), "{refused}");
}

#[test]
fn a_corrupt_journal_is_refused_and_nothing_opens() {
    let mut fleet = Fleet::start(13);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());
    fleet.kill(Which::Coordinator);
    let db = fleet.coordinator_dir().join("journal/db");
    let mut bytes = std::fs::read(&db).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x5a;
        }
    }
    std::fs::File::create(&db).unwrap().write_all(&bytes).unwrap();

    let said = fleet.fails_to_start(Which::Coordinator);

    assert!(said.contains("journal"), "{said}");
}

#[test]
fn a_coordinator_that_has_lost_its_memory_closes_nobodys_door() {
    let mut fleet = Fleet::start(16);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());
    fleet.kill(Which::Coordinator);
    std::thread::sleep(fleet::LEASE);
    let open = fleet.admitted();
    let (dir, kept) =
        (fleet.coordinator_dir(), fleet.coordinator_dir().with_extension("kept"));
    std::fs::rename(&dir, &kept).unwrap();
    std::fs::create_dir(&dir).unwrap();

    fleet.restart(Which::Coordinator);
    std::thread::sleep(fleet::LEASE * 2);
    let later = fleet.admitted();
    fleet.kill(Which::Coordinator);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::rename(&kept, &dir).unwrap();

    assert_eq!(open, later);
    fleet.restart(Which::Coordinator);
    let end = fleet.finish();
    fleet.recount(&end);
}

#[test]
fn a_coordinator_restored_from_an_old_copy_leads_nobody() {
    let mut fleet = Fleet::start(16);
    let data = fleet.coordinator_dir();
    let (old, new) = (data.with_extension("old"), data.with_extension("new"));
    fleet.kill(Which::Coordinator);
    fleet::copy(&data, &old);
    fleet.restart(Which::Coordinator);
    fleet.wait("something is open", |fleet| !fleet.admitted().is_empty());
    fleet.tidegate(&["reclose", "wave", "0", "--reason", "test", "--wait"], 0);

    fleet.kill(Which::Coordinator);
    std::fs::rename(&data, &new).unwrap();
    std::fs::rename(&old, &data).unwrap();
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
    let end = fleet.finish();
    fleet.recount(&end);
}

#[test]
fn a_plan_applied_twice_is_refused_and_says_so() {
    let fleet = Fleet::start(14);

    let said = fleet.apply_again();

    assert!(said.contains("applied"), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let fleet = Fleet::start(15);

    let said = fleet.second_coordinator();

    assert!(said.contains(&fleet.coordinator_port().to_string()), "{said}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}
