//! Large mail: messages of more than one buffer come back like small ones, in one pass.
//!
//! # Invariants
//!
//! * Sizes lie on and beside the borders of what is read at once.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/provider.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod provider;

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use provider::{Letter, MAILDIR, OWNER, Provider, letter, named};
use tidegate_mail::{Mailbox, PrepareTask, Prepared, Reason, Store, StoreConfig};

/// What is read at once.
const BUFFER: usize = 128 * 1024;

fn mailbox() -> Mailbox {
    Mailbox {
        key: 7,
        address: OWNER.to_owned(),
        path: MAILDIR.as_bytes().to_vec(),
        served: false,
    }
}

/// Prepares twice: what is stamped the first time is what the second one reads.
fn prepare(provider: &Provider) -> Prepared {
    let store = Store::open(StoreConfig {
        live: provider.root("live"),
        snapshot: Some(provider.root("snapshot")),
        work: provider.root("work"),
        file_size_max: 10_000_000,
    })
    .unwrap();
    store.claim(1, 3, "worker").unwrap();
    let mailboxes = [mailbox()];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };
    let run = || store.prepare(&task).unwrap().pop().unwrap().unwrap();
    let first = run();
    assert_eq!(store.stamp(&mailboxes[0]).unwrap(), first.stamp);
    assert_eq!(run().stamp, first.stamp);
    assert_eq!(fs::read_dir(provider.root("work").join("staging")).unwrap().count(), 0);
    first
}

fn large(number: u32, size: usize) -> Letter {
    let mut bytes = format!("Delivered-To: {OWNER}\nSubject: {number}\n\n").into_bytes();
    let body = format!("{number}: one line of very many\n").into_bytes();
    bytes.extend(body.iter().cycle().take(size - bytes.len()));
    named(number, bytes)
}

/// A mailbox of large messages on the snapshot's side, and live too.
fn provider() -> (Provider, Vec<Letter>) {
    let provider = Provider::healthy();
    let sizes = [BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 3 * BUFFER + 77];
    let letters: Vec<Letter> =
        (21..).zip(sizes).map(|(number, size)| large(number, size)).collect();
    let mut list: Vec<(u32, String)> =
        (1..=5).map(|number| (number, letter(number).base)).collect();
    list.extend((21..).zip(&letters).map(|(uid, letter)| (uid, letter.base.clone())));
    for side in ["live", "snapshot"] {
        for letter in &letters {
            provider.put(side, ("", "cur"), letter, ":2,S");
        }
        provider.list_of(side, "", &list);
    }
    (provider, letters)
}

fn check_served(provider: &Provider, letters: &[Letter]) {
    for letter in letters {
        assert!(
            provider.served("", letter) == Some(letter.bytes.clone()),
            "{}",
            letter.base
        );
        let [live, snapshot] = ["live", "snapshot"].map(|side| {
            let path = provider.find(side, "", &letter.base).unwrap();
            let meta = fs::metadata(path).unwrap();
            (meta.mode(), meta.mtime(), meta.mtime_nsec(), meta.uid(), meta.size())
        });
        assert_eq!(live, snapshot);
    }
}

#[test]
fn large_messages_come_back_one_by_one() {
    let (provider, letters) = provider();
    for letter in &letters {
        provider.lose("live", "", letter);
    }

    let prepared = prepare(&provider);

    assert_eq!((prepared.counts.returned, prepared.counts.intact), (5, 8));
    check_served(&provider, &letters);
}

#[test]
fn large_messages_come_back_with_their_whole_mailbox() {
    let (provider, letters) = provider();
    fs::remove_dir_all(provider.root("live").join("example.org")).unwrap();

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts.returned, 13);
    check_served(&provider, &letters);
}

#[test]
fn a_large_message_that_turns_out_bad_on_its_way_back_is_not_served() {
    for whole in [false, true] {
        let (provider, letters) = provider();
        let mut bytes = letters[4].bytes.clone();
        bytes[2 * BUFFER..2 * BUFFER + 8192].fill(0);
        provider.damage("snapshot", "", &letters[4], &bytes);
        if whole {
            fs::remove_dir_all(provider.root("live").join("example.org")).unwrap();
        } else {
            provider.lose("live", "", &letters[4]);
        }

        let prepared = prepare(&provider);

        assert_eq!(prepared.counts.lost, 1);
        let reason = prepared.set_aside[0].reason().unwrap();
        assert!(matches!(reason, Reason::NulRun { length: 8192, .. }), "{reason}");
        assert_eq!(provider.served("", &letters[4]), None);
        check_served(&provider, &letters[..4]);
    }
}
