//! Any other mail system: a rollout over the mbox example, with real processes.
//!
//! # Invariants
//!
//! * What is open is read from the mail system's own flags, not from Tidegate.
//! * What mailboxes should hold is known from how they were built.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

#[path = "command_store/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::fs;

use site::{Site, Trouble};
use tidegate_wire::v1::Preparation;

#[test]
fn damaged_mbox_files_come_back_and_whoever_cannot_be_let_in_waits_with_a_reason() {
    let mut site = Site::new(40);
    for (index, trouble) in [
        (1, Trouble::Zeros),
        (2, Trouble::Truncated),
        (3, Trouble::Missing),
        (4, Trouble::BothSides),
        (5, Trouble::NotLetIn),
        (6, Trouble::Newer),
    ] {
        site.make(index, trouble);
    }
    site.start();

    let end = site.finish();

    for mailbox in &end {
        let aside = [site.address(4), site.address(5)].contains(&mailbox.address);
        let expected =
            if aside { Preparation::Quarantined } else { Preparation::Prepared };
        assert_eq!(mailbox.preparation(), expected, "{mailbox:?}\n{}", site.logs());
        assert_eq!(mailbox.level, if aside { 0 } else { 2 }, "{mailbox:?}");
    }
    let open: BTreeSet<String> = (0..40)
        .filter(|index| ![4, 5].contains(index))
        .map(|index| site.address(index))
        .collect();
    assert_eq!(site.let_in(), open);
    let flag = site.flag(1);
    assert!(flag.contains("\"level\": 2") && flag.contains("imap"), "{flag}");
    for index in (0..40).filter(|index| *index != 4) {
        assert_eq!(site.live(index), site.right(index), "mailbox {index}");
    }
    let listed = site.tidegate(&["quarantine", "list"], 0);
    assert!(listed.contains("does not have its digest any more"), "{listed}");
    assert!(listed.contains("a directory stands in the flag's place"), "{listed}");
    assert_eq!(site.kept_aside(), 2, "zeros and truncated; the missing one left nothing");
}

#[test]
fn a_reclose_is_acknowledged_when_the_mail_system_has_shut_everybody_out() {
    let mut site = Site::new(40);
    site.start();
    site.wait("somebody is let in", |site| !site.let_in().is_empty());

    site.tidegate(&["reclose", "node", "stor-0", "--reason", "test", "--wait"], 0);

    let open = site.let_in();
    assert!(open.iter().all(|address| site.node_of(address) == 1), "{open:?}");
    let visitor = b"From late\nSubject: late\n\nit came while all was shut\n";
    let path = site.live_path(0);
    let mut content = site.live(0);
    content.extend(visitor);
    fs::write(&path, &content).unwrap();
    site.tidegate(&["resume", "node", "stor-0", "--reason", "test"], 0);
    site.tidegate(&["resume", "--reason", "test"], 0);
    site.finish();
    assert_eq!(site.let_in().len(), 40, "{}", site.logs());
    assert_eq!(site.live(0), content);
}

#[test]
fn while_the_mail_system_cannot_be_reached_nothing_proceeds_and_then_everything_does() {
    let mut site = Site::new(12);
    site.hide_gate(true);
    site.start();

    site.wait("both workers say why", |site| {
        site.worker_logs().iter().all(|log| log.contains("cannot be reached"))
    });

    let settled = site.mailboxes();
    assert!(settled.iter().all(|it| it.preparation() == Preparation::Waiting));
    site.hide_gate(false);
    site.finish();
    assert_eq!(site.let_in().len(), 12);
    for log in site.worker_logs() {
        assert!(!log.contains('@'), "a log names a user: {log}");
    }
}

#[test]
fn whoever_is_let_in_is_on_record_whatever_is_killed() {
    let mut site = Site::new(40);
    site.start();
    for round in 0..6 {
        // By then more are open than before, or all.
        let open = site.let_in().len();
        site.wait("more are let in", |site| {
            site.let_in().len() > open || site.has_finished()
        });
        site.kill_and_restart(round % 2);
    }

    let end = site.finish();

    assert!(end.iter().all(|mailbox| mailbox.level == 2), "{end:?}");
    assert_eq!(site.let_in().len(), 40);
    assert!(site.reported_open().is_subset(&site.let_in()));
}

#[test]
fn a_worker_that_has_lost_its_journal_shuts_out_who_is_open_before_it_verifies_again() {
    let mut site = Site::new(12);
    site.start();
    site.finish();
    assert_eq!(site.let_in().len(), 12);

    site.kill(0);
    site.forget_state(0);
    site.restart(0);

    site.wait("the first node's owners are shut out", |site| {
        site.let_in().iter().all(|address| site.node_of(address) == 1)
    });
    site.wait("the coordinator has turned it away", |site| {
        site.worker_logs().iter().any(|log| log.contains("put back to an older state"))
    });
    assert_eq!(site.let_in().len(), 6, "nothing happens before somebody has decided");
    site.tidegate(&["accept", "stor-0", "--reason", "its journal is lost"], 0);
    site.wait("they are let in again", |site| site.let_in().len() == 12);
}

#[test]
fn a_pause_that_was_acknowledged_lets_nobody_in_behind_its_back() {
    let mut site = Site::new(40);
    site.start();
    site.wait("somebody is let in", |site| !site.let_in().is_empty());

    site.tidegate(&["pause", "--reason", "test"], 0);
    let open = site.let_in();
    site.kill_and_restart(0);
    site.kill_and_restart(1);
    site.wait("both workers are back", |site| {
        site.worker_logs().iter().all(|log| log.matches(" joined").count() == 2)
    });

    assert!(site.let_in().is_subset(&open), "somebody was let in after the pause");
    assert!(open.len() < 40, "the pause came too late to show anything");
    site.tidegate(&["resume", "--reason", "test"], 0);
    site.finish();
    assert_eq!(site.let_in().len(), 40);
}
