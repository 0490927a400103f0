//! Dovecot: the real one says whether a restored mailbox is the mailbox it was.
//!
//! `TIDEGATE_KINDS=sdbox,mdbox` judges these kinds of mailboxes alone; `TIDEGATE_MATRIX=<file>` names a
//! file for the table of damages and outcomes.
//!
//! # Invariants
//!
//! * Nothing of ours is asked what is right: an independent program looks over IMAP and POP3 before
//!   the damage and after the restoring, and compares.
//! * One mailbox of each kind lives; every damage meets a copy of its own.
//! * Without an installed Dovecot and Python these tests fail, and say what to install.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::ptr_arg,
    reason = "helpers of tests, a table for people, and changes that may change a length"
)]

#[path = "dovecot/clients.rs"]
mod clients;
#[path = "dovecot/damage.rs"]
mod damage;
#[path = "dovecot/judge.rs"]
mod judge;
#[path = "dovecot/kind.rs"]
mod kind;
#[path = "dovecot/life.rs"]
mod life;
#[path = "dovecot/matrix.rs"]
mod matrix;
#[path = "dovecot/practice.rs"]
mod practice;
#[path = "dovecot/race.rs"]
mod race;
#[path = "dovecot/server.rs"]
mod server;
#[path = "support/swap.rs"]
mod swap;

use std::fs;
use std::path::Path;

use kind::Kind;
use matrix::{Cell, Report, Trial};
use server::{Dovecot, Indexes, Site, User, copy, hand_over, open_directory};
use tidegate_lab::LabSpec;
use tidegate_mail::{Mailbox, PrepareTask, Prepared, Store, StoreConfig};

/// Mailboxes in one batch, as a worker would give them.
const BATCH: usize = 50;

#[test]
fn whatever_the_damage_mail_programs_find_their_mailbox_as_it_was() {
    let trials = std::thread::scope(|scope| {
        let trials = [Indexes::Logged, Indexes::Written]
            .map(|indexes| scope.spawn(move || try_all(indexes)));
        trials.map(|it| it.join().unwrap())
    });

    let report = Report::of(&trials);
    println!("{}", report.text);
    if let Some(path) = std::env::var_os("TIDEGATE_MATRIX") {
        fs::write(path, report.text).unwrap();
    }
    assert!(report.wrong.is_empty(), "\n{}\n", report.wrong.join("\n"));
}

/// Every damage to every kind of mailbox.
fn try_all(indexes: Indexes) -> Trial {
    let dir = open_directory();
    let (live, snapshot) = (dir.path().join("live"), dir.path().join("snapshot"));
    for root in [&live, &dir.path().join("work")] {
        fs::create_dir(root).unwrap();
    }
    hand_over(&live);
    let mut cells = Cell::all();
    let mut users = matrix::owners(&cells);
    let owners = users.len();
    users.extend(cells.iter().map(|it| it.user.clone()));
    let site = Site { dir: dir.path(), root: &live, indexes, users: &users };
    let before = live_on(site, &users[..owners], &snapshot);
    for cell in &cells {
        cell.put_in_place(&live, &snapshot);
        cell.damage(&live, &snapshot);
    }
    let prepared = prepare(dir.path(), &cells);
    let served: Vec<User> = served(&cells, &prepared);
    let dovecot = Dovecot::start(site);
    let after = judge::look(&dovecot, &served);
    let delivered: Vec<_> = served
        .iter()
        .map(|user| dovecot.deliver(&user.address, &life::letters(30..=30)))
        .collect();
    let later = judge::look(&dovecot, &served);
    let complaints = dovecot.stop();

    let mut questions = Vec::new();
    for (number, user) in served.iter().enumerate() {
        let owner = users.iter().position(|it| it.kind == user.kind).unwrap();
        let cell = cells.iter().position(|it| it.user == *user).unwrap();
        let said = &prepared[cell].as_ref().unwrap().prepared;
        let mut question = judge::question(&before[owner], &after[number], said);
        question["later"] = later[number].clone();
        questions.push(question);
    }
    let (outcomes, totals) = judge::compare(&questions);
    let mut seen = outcomes.into_iter().zip(delivered);
    for (cell, prepared) in cells.iter_mut().zip(&prepared) {
        match prepared {
            Ok(Settled { again, .. }) => {
                cell.see(seen.next().unwrap(), *again, &complaints);
            }
            Err(refusal) => cell.outcome = format!("REFUSED: {refusal}"),
        }
    }
    let of_nobody = complaints.iter().filter(|line| !line.contains("@example.org"));
    assert_eq!(of_nobody.count(), 0, "{complaints:?}");
    Trial { indexes, cells, totals }
}

/// Users whose mailboxes were prepared; nobody else is let in.
fn served(cells: &[Cell], prepared: &[Result<Settled, String>]) -> Vec<User> {
    let prepared = cells.iter().zip(prepared).filter(|(_, it)| it.is_ok());
    prepared.map(|(cell, _)| cell.user.clone()).collect()
}

/// Lets one mailbox of each kind live up to the fault, with a snapshot taken on the way; what mail
/// programs see in the end.
fn live_on(site: Site<'_>, owners: &[User], snapshot: &Path) -> Vec<judge::View> {
    let dovecot = Dovecot::start(site);
    for owner in owners {
        life::begin(&dovecot, &owner.address);
    }
    assert_eq!(dovecot.stop(), [""; 0]);
    copy(site.root, snapshot);
    for owner in owners.iter().filter(|it| it.kind == Kind::MaildirSqueezed) {
        life::squeeze(&site.root.join(owner.path()));
    }
    let dovecot = Dovecot::start(site);
    for owner in owners {
        life::go_on(&dovecot, &owner.address);
        if owner.kind == Kind::MdboxPurged {
            dovecot.doveadm(&["purge", "-u", &owner.address]);
        }
    }
    let before = judge::look(&dovecot, owners);
    assert_eq!(dovecot.stop(), [""; 0]);
    before
}

#[test]
fn a_practice_provider_is_one_that_dovecot_could_have_written() {
    let dir = open_directory();
    let root = dir.path().join("provider");
    let spec = LabSpec { mailboxes: 12, nodes: 1, messages: 20, seed: 7, damage: 0 };
    let provider = tidegate_lab::build(&root, &spec, &mut |_| {}).unwrap();
    let live = &provider.nodes[0].live;
    hand_over(&root);
    let mailboxes = provider.truth.mailboxes.iter();
    let users: Vec<User> = mailboxes
        .map(|it| User { address: it.address.clone(), kind: Kind::Maildir })
        .collect();

    let indexes = Indexes::Logged;
    let dovecot =
        Dovecot::start(Site { dir: dir.path(), root: live, indexes, users: &users });
    let views = judge::look(&dovecot, &users);
    let complaints = dovecot.stop();

    assert_eq!(complaints, [""; 0]);
    for (mailbox, view) in provider.truth.mailboxes.iter().zip(&views) {
        let (seen, wanted) = (practice::seen(view), practice::wanted(mailbox, live));
        let difference = practice::difference(&seen, &wanted);
        assert_eq!(difference, None, "in {}", mailbox.path);
    }
}

/// The store of a site: `live`, `snapshot` and `work` below its directory.
fn open_store(dir: &Path) -> Store {
    Store::open(StoreConfig {
        live: dir.join("live"),
        snapshot: Some(dir.join("snapshot")),
        work: dir.join("work"),
        file_size_max: 10_000_000,
    })
    .unwrap()
}

/// A mailbox that was prepared.
struct Settled {
    prepared: Prepared,
    /// What a second time still found to do, if anything.
    again: Option<&'static str>,
}

/// Prepares all mailboxes, and once more to see that nothing is left to do.
fn prepare(dir: &Path, cells: &[Cell]) -> Vec<Result<Settled, String>> {
    let store = open_store(dir);
    store.claim(1, 1, "worker").unwrap();
    let mailbox = |(key, cell): (u64, &Cell)| Mailbox {
        key,
        address: cell.user.kind.owner(),
        path: cell.user.path().into_bytes(),
        served: false,
    };
    let mailboxes: Vec<Mailbox> = (1..).zip(cells).map(mailbox).collect();
    let prepare = || -> Vec<Result<Prepared, String>> {
        let batches = mailboxes.chunks(BATCH).flat_map(|mailboxes| {
            let task = PrepareTask { job: 1, generation: 1, holder: "worker", mailboxes };
            store.prepare(&task).unwrap()
        });
        batches.map(|it| it.map_err(|refusal| refusal.code().to_owned())).collect()
    };
    let first = prepare();
    let both = first.into_iter().zip(prepare());
    let settle = |(once, again): (Result<Prepared, _>, Result<Prepared, _>)| {
        let (prepared, again): (_, Prepared) = (once?, again?);
        let work = again.counts.repaired + again.counts.returned;
        let all = [
            (work > 0, "REPAIRED ONCE MORE"),
            (again.stamp != prepared.stamp, "ANOTHER STAMP"),
            (again.set_aside != prepared.set_aside, "ANOTHER LIST"),
        ];
        let again = all.into_iter().find(|(is_so, _)| *is_so).map(|(_, what)| what);
        Ok(Settled { prepared, again })
    };
    both.map(settle).collect()
}
