//! Folders: one that only the mail server's own list remembers is not lost without a word.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/provider.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod provider;

use provider::{MAILDIR, OWNER, Provider, letter};
use tidegate_mail::{Mailbox, PrepareTask, Prepared, Reason, Store, StoreConfig};

/// The kinds of records of a log that are needed here, each as a change that has happened.
const APPEND: u32 = 0x1000_0002;
const EXTENSION: u32 = 0x1000_0040;
const EXTENSION_HEAD: u32 = 0x1000_0100;
const EXTENSION_RECORD: u32 = 0x1000_0200;

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn record(kind: u32, body: &[u8]) -> Vec<u8> {
    let size = (body.len() + 8).next_multiple_of(4);
    let mut record = vec![0x80, 0x80, 0x80, 0x80 | u8::try_from(size / 4).unwrap()];
    record.extend_from_slice(&kind.to_le_bytes());
    record.extend_from_slice(body);
    record.resize(size, 0);
    record
}

/// `dovecot.list.index.log` as Dovecot writes it, with one folder that has this GUID.
fn list_with(name: &str, guid: u8) -> Vec<u8> {
    let names = [b"\0\x01\0\0\0", name.as_bytes(), &[0]].concat();
    let size = u32::try_from(names.len()).unwrap();
    let introduction =
        [words(&[u32::MAX, 0, size, 0x4_001c, 0x4_0001]), b"list".to_vec()].concat();
    [
        words(&[0x28_0301, 77, 2, 0, 0, 88, 1, 0, 1, 0]),
        record(EXTENSION, &introduction),
        record(EXTENSION_HEAD, &[&words(&[size << 16]), &*names].concat()),
        record(APPEND, &words(&[1, 0])),
        record(
            EXTENSION_RECORD,
            &[words(&[1, 1, 0]), vec![guid; 16], words(&[9])].concat(),
        ),
    ]
    .concat()
}

/// A record of `dovecot.mailbox.log`: the folder with this GUID was deleted.
fn farewell(guid: u8) -> Vec<u8> {
    [vec![1, 0, 0, 0], vec![guid; 16], vec![7; 4]].concat()
}

fn prepare(provider: &Provider, served: bool) -> Prepared {
    let store = Store::open(StoreConfig {
        live: provider.root("live"),
        snapshot: Some(provider.root("snapshot")),
        work: provider.root("work"),
        file_size_max: 10_000_000,
    })
    .unwrap();
    store.claim(1, 3, "worker").unwrap();
    let mailbox = Mailbox {
        key: 7,
        address: OWNER.to_owned(),
        path: MAILDIR.as_bytes().to_vec(),
        served,
    };
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &[mailbox] };
    store.prepare(&task).unwrap().pop().unwrap().unwrap()
}

/// The folders that are listed as lost.
fn lost_folders(prepared: &Prepared) -> Vec<&str> {
    let folders = prepared.set_aside.iter().filter(|it| it.name.is_empty());
    folders
        .map(|it| {
            assert_eq!(it.reason(), Some(Reason::Missing));
            &*it.folder
        })
        .collect()
}

#[test]
fn a_folder_made_after_the_snapshot_and_lost_is_named_and_mail_moved_there_comes_back() {
    let provider = Provider::healthy();
    provider.write("live", "dovecot.list.index.log", &list_with("Projects", 5));
    provider.lose("live", "", &letter(3));
    provider.list("live", "", &[1, 2, 4, 5]);

    let first = prepare(&provider, false);
    let second = prepare(&provider, false);

    assert_eq!(lost_folders(&first), ["Projects"]);
    assert_eq!(lost_folders(&second), ["Projects"]);
    assert_eq!(first.counts.returned, 1);
    assert_eq!(provider.served("", &letter(3)), Some(letter(3).bytes));
}

#[test]
fn a_folder_that_was_deleted_or_renamed_or_is_there_is_not_lost() {
    let check = |name: &str, (served, deleted): (bool, Option<u8>), renamed: bool| {
        let provider = Provider::healthy();
        if served {
            prepare(&provider, false);
        }
        provider.write("live", "dovecot.list.index.log", &list_with(name, 5));
        if let Some(guid) = deleted {
            provider.write("live", "dovecot.mailbox.log", &farewell(guid));
        }
        if renamed {
            let list = format!("3 V9 N1 G{}\n", "05".repeat(16));
            provider.put("live", (".Renamed", "cur"), &letter(21), ":2,");
            provider.write("live", ".Renamed/dovecot-uidlist", list.as_bytes());
        }
        let prepared = prepare(&provider, served);
        lost_folders(&prepared).len()
    };
    assert_eq!(check("Projects", (false, Some(6)), false), 1);
    assert_eq!(check("Projects", (false, Some(5)), false), 0);
    assert_eq!(check("Projects", (false, None), true), 0);
    assert_eq!(check("Projects", (true, None), false), 0);
    assert_eq!(check("INBOX", (false, None), false), 0);
}
