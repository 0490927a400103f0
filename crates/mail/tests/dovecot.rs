//! Dovecot: the real one says whether a restored mailbox is the mailbox it was.
//!
//! # Invariants
//!
//! * Nothing of ours is asked what is right: views over IMAP and POP3 before the damage and after
//!   the restoring are compared.
//! * Without an installed Dovecot these tests fail, and say what to install.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, and a table for people"
)]

#[path = "dovecot/clients.rs"]
mod clients;
#[path = "dovecot/damage.rs"]
mod damage;
#[path = "dovecot/life.rs"]
mod life;
#[path = "dovecot/practice.rs"]
mod practice;
#[path = "dovecot/server.rs"]
mod server;
#[path = "dovecot/view.rs"]
mod view;

use std::fs;
use std::path::Path;

use damage::{CASES, Maildir, Sides};
use server::{Dovecot, Indexes, copy, hand_over, open_directory};
use tidegate_lab::LabSpec;
use tidegate_mail::{Mailbox, PrepareTask, Prepared, Store, StoreConfig};
use view::{Outcome, View};

#[test]
fn whatever_the_damage_mail_programs_find_their_mailbox_as_it_was() {
    judge(Indexes::Logged);
}

#[test]
fn it_is_the_same_where_dovecot_has_written_its_indexes() {
    judge(Indexes::Written);
}

fn judge(indexes: Indexes) {
    let dir = open_directory();
    let (live, snapshot) = (dir.path().join("live"), dir.path().join("snapshot"));
    for root in [&live, &dir.path().join("work")] {
        fs::create_dir(root).unwrap();
    }
    hand_over(&live);
    let users: Vec<String> =
        (1..=CASES.len()).map(|number| format!("user{number:02}@example.org")).collect();

    let dovecot = Dovecot::start(dir.path(), &live, indexes);
    for user in &users {
        life::begin(&dovecot, user);
    }
    assert_eq!(dovecot.stop(), [""; 0]);
    copy(&live, &snapshot);
    let dovecot = Dovecot::start(dir.path(), &live, indexes);
    for user in &users {
        life::go_on(&dovecot, user);
    }
    let before: Vec<View> = users.iter().map(|user| View::of(&dovecot, user)).collect();
    assert_eq!(dovecot.stop(), [""; 0]);
    let written = |user| live.join(path(user)).join("dovecot.index").exists();
    for (user, case) in users.iter().zip(CASES) {
        assert_eq!(written(user), indexes == Indexes::Written);
        let maildir = |root: &Path| Maildir(root.join(path(user)));
        (case.act)(&Sides { live: maildir(&live), snapshot: maildir(&snapshot) });
    }
    let prepared = prepare(dir.path(), &users);
    let dovecot = Dovecot::start(dir.path(), &live, indexes);
    let after: Vec<View> = users.iter().map(|user| View::of(&dovecot, user)).collect();
    for user in &users {
        dovecot.deliver(user, &life::letters(30..=30));
    }
    let later: Vec<View> = users.iter().map(|user| View::of(&dovecot, user)).collect();
    let complaints = dovecot.stop();

    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let named = &prepared[number].set_aside;
        let mut outcome = Outcome::of(&before[number], &after[number], named);
        let user = &users[number];
        for complaint in complaints.iter().filter(|line| line.contains(user)) {
            println!("  {complaint}");
            outcome.add("lines in the log");
        }
        let outcome = outcome.to_string();
        println!("{:<70} {outcome}", case.damage);
        if outcome != case.outcome {
            wrong.push(format!("{}: {outcome}, not {}", case.damage, case.outcome));
        }
        let newest = later[number].folders["INBOX"].messages.keys().last().copied();
        if newest != Some(after[number].folders["INBOX"].next) {
            wrong.push(format!("{}: no new mail in the inbox", case.damage));
        }
    }
    let of_nobody = complaints.iter().filter(|line| !line.contains("@example.org"));
    assert_eq!(of_nobody.count(), 0, "{complaints:?}");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_practice_provider_is_one_that_dovecot_could_have_written() {
    let dir = open_directory();
    let root = dir.path().join("provider");
    let spec = LabSpec { mailboxes: 12, nodes: 1, messages: 20, seed: 7, damage: 0 };
    let provider = tidegate_lab::build(&root, &spec, &mut |_| {}).unwrap();
    let live = &provider.nodes[0].live;
    hand_over(&root);

    let dovecot = Dovecot::start(dir.path(), live, Indexes::Logged);
    let views: Vec<View> = provider
        .truth
        .mailboxes
        .iter()
        .map(|mailbox| View::of(&dovecot, &mailbox.address))
        .collect();
    let complaints = dovecot.stop();

    assert_eq!(complaints, [""; 0]);
    for (mailbox, view) in provider.truth.mailboxes.iter().zip(&views) {
        let (seen, wanted) = (practice::seen(view), practice::wanted(mailbox, live));
        let difference = practice::difference(&seen, &wanted);
        assert_eq!(difference, None, "in {}", mailbox.path);
    }
}

/// Below the mail root.
fn path(user: &str) -> String {
    let (name, domain) = user.split_once('@').unwrap();
    format!("{domain}/{name}/Maildir")
}

/// Prepares all mailboxes, and once more to see that nothing is left to do.
fn prepare(dir: &Path, users: &[String]) -> Vec<Prepared> {
    let store = Store::open(StoreConfig {
        live: dir.join("live"),
        snapshot: Some(dir.join("snapshot")),
        work: dir.join("work"),
        file_size_max: 10_000_000,
    })
    .unwrap();
    store.claim(1, 1, "worker").unwrap();
    let mailbox = |(key, user): (u64, &String)| Mailbox {
        key,
        address: user.clone(),
        path: path(user).into_bytes(),
        served: false,
    };
    let mailboxes: Vec<Mailbox> = (1..).zip(users).map(mailbox).collect();
    let task =
        PrepareTask { job: 1, generation: 1, holder: "worker", mailboxes: &mailboxes };
    let prepare = || -> Vec<Prepared> {
        store.prepare(&task).unwrap().into_iter().map(Result::unwrap).collect()
    };
    let first = prepare();
    for (once, again) in first.iter().zip(prepare()) {
        assert_eq!((again.counts.repaired, again.counts.returned), (0, 0));
        assert_eq!(again.stamp, once.stamp);
        assert_eq!(again.set_aside, once.set_aside);
    }
    first
}
