//! Crash: stopping after every single change, and running again.

use super::{Mailbox, PrepareTask, Store, StoreConfig, StoreError};
use provider::{Letter, MAILDIR, OWNER, Provider, letter};

#[path = "../tests/support/provider.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod provider;

fn open(provider: &Provider) -> Store {
    loop {
        let opened = Store::open(StoreConfig {
            live: provider.root("live"),
            snapshot: Some(provider.root("snapshot")),
            work: provider.root("work"),
            file_size_max: 10_000_000,
        });
        match opened {
            // Another test starts a program this moment, and the child still has our files.
            Err(StoreError::Held { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

const HOLDER: &str = "worker";

/// Prepares the mailbox once; whether the store can go on, and whether the mailbox is prepared.
fn try_to_prepare(store: &Store) -> Option<bool> {
    let (address, path) = (OWNER.to_owned(), MAILDIR.as_bytes().to_vec());
    let mailboxes = [Mailbox { key: 7, address, path, served: false }];
    let task =
        PrepareTask { job: 1, generation: 3, holder: HOLDER, mailboxes: &mailboxes };
    Some(store.prepare(&task).ok()?.iter().all(Result::is_ok))
}

/// Prepares the mailbox, all changes stopping after `acts`; the acts that were left.
fn prepare(provider: &Provider, acts: u64) -> u64 {
    let store = open(provider);
    store.claim(1, 3, HOLDER).unwrap();
    store.fuse().light(Some(acts));
    let finished = try_to_prepare(&store).unwrap_or(false);
    let left = store.fuse().left().unwrap();
    assert!(finished || left == 0, "refused for another reason");
    left
}

/// One of every damage.
fn damaged() -> Provider {
    let provider = Provider::healthy();
    provider.damage("live", "", &letter(1), &letter(1).bytes[..700]);
    provider.lose("live", "", &letter(2));
    provider.damage("live", "", &letter(3), b"");
    provider.damage("snapshot", "", &letter(3), b"");
    provider.put("live", ("", "new"), &letter(4), "");
    let cut = Letter { bytes: letter(7).bytes[..50].to_vec(), ..letter(7) };
    provider.put("live", ("", "new"), &cut, "");
    provider.put("snapshot", ("", "cur"), &letter(6), ":2,Sb");
    provider.list("snapshot", "", &[1, 2, 3, 4, 5, 6]);
    provider.write("live", "dovecot-uidlist", &[0; 99]);
    provider.write("live", "dovecot-keywords", b"0 $Other\n");
    provider.write("live", "dovecot.index", &[0; 99]);
    std::fs::remove_dir_all(provider.at("live", ".Archive.2024")).unwrap();
    std::os::unix::fs::symlink("/etc", provider.at("live", "cur/link")).unwrap();
    provider
}

#[test]
fn a_crash_after_any_change_and_another_run_give_the_same_mailbox() {
    let whole = damaged();
    let before: Vec<Vec<u8>> = whole.tree("live").into_values().collect();
    let changes = u64::MAX - prepare(&whole, u64::MAX);
    let expected = whole.tree("live");
    let listed = open(&whole).findings(7).unwrap();
    assert!(changes > 30, "{changes}");

    for stop in 0..changes {
        let provider = damaged();
        prepare(&provider, stop);
        let now: Vec<Vec<u8>> = provider.tree("live").into_values().collect();
        let kept = |bytes: &Vec<u8>| now.contains(bytes) || provider.keeps(bytes);
        assert!(before.iter().all(kept), "destroyed after {stop} changes");

        prepare(&provider, u64::MAX);

        assert_eq!(provider.tree("live"), expected, "after {stop} changes");
        assert_eq!(open(&provider).findings(7).unwrap(), listed, "after {stop}");
    }
}

#[test]
fn a_change_that_fails_and_another_run_of_the_same_store_give_the_same_mailbox() {
    let whole = damaged();
    let changes = u64::MAX - prepare(&whole, u64::MAX);
    let (expected, listed) = (whole.tree("live"), open(&whole).findings(7).unwrap());
    let mut resumed = 0;

    for stop in 0..changes {
        let provider = damaged();
        let mut store = open(&provider);
        store.claim(1, 3, HOLDER).unwrap();
        store.fuse().flicker(stop);
        let first = try_to_prepare(&store);
        if first.is_none() {
            drop(store);
            store = open(&provider);
            store.claim(1, 3, HOLDER).unwrap();
        }
        let intents =
            || provider.root("work").join("intents").read_dir().unwrap().count();
        resumed += usize::from(intents() > 0);

        assert_eq!(try_to_prepare(&store), Some(true), "after {stop} changes");

        assert_eq!(provider.tree("live"), expected, "after {stop} changes");
        assert_eq!(store.findings(7).unwrap(), listed, "after {stop}");
        drop(store);
        prepare(&provider, u64::MAX);
        assert_eq!(provider.tree("live"), expected, "after {stop} changes");
        assert_eq!(intents(), 0, "after {stop} changes");
    }
    assert!(resumed > 10, "{resumed}");
}

#[test]
fn a_failed_flush_is_never_tried_again() {
    let provider = damaged();
    let store = open(&provider);
    store.claim(1, 3, HOLDER).unwrap();
    store.fuse().light(Some(0));
    assert!(try_to_prepare(&store).is_none());

    store.fuse().light(None);

    assert!(try_to_prepare(&store).is_none());
}
