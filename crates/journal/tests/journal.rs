//! The journal's promises: kept across processes, refused when damaged, ordered for each.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};
use tempfile::TempDir;
use tidegate_journal::{
    AppendError, Journal, Kind, OpenError, PAYLOAD_BYTES_MAX, export, verify,
};

#[test]
fn what_was_appended_comes_back_in_order_after_reopening() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path());
    assert_eq!(journal.append(&[b"a".to_vec(), b"b".to_vec()]).unwrap(), 2);
    assert_eq!(journal.append(&[]).unwrap(), 2);
    assert_eq!(journal.append(&[Vec::new()]).unwrap(), 3);
    let head = journal.head();
    drop(journal);

    let journal = open(dir.path());

    assert_eq!(journal.head(), head);
    assert!(!dir.path().join("db.kept").exists());
    assert_eq!(records(&journal), [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, vec![])]);
    assert_eq!(journal.append(&[b"d".to_vec()]).unwrap(), 4);
}

#[test]
fn a_payload_of_the_largest_size_is_kept_and_a_larger_one_refused() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path());
    let largest: Vec<u8> = (0..=252).cycle().take(PAYLOAD_BYTES_MAX).collect();

    journal.append(&[b"small".to_vec(), largest.clone()]).unwrap();
    let refused = journal.append(&[vec![0; PAYLOAD_BYTES_MAX + 1]]).unwrap_err();
    journal.append(&[b"after".to_vec()]).unwrap();
    drop(journal);

    assert!(matches!(refused, AppendError::TooLarge { .. }), "{refused}");
    let kept = records(&open(dir.path()));
    assert_eq!(kept.len(), 3);
    assert!(kept[1].1 == largest);
}

#[test]
fn a_second_opener_is_told_who_has_the_journal() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path());

    check_refused(
        Journal::open(dir.path(), &kind()),
        dir.path(),
        &expect!["open journal at `DIR`: process PID has it open; stop that one first"],
    );
    assert!(matches!(verify(dir.path()), Err(OpenError::Held { .. })));

    drop(first);
    open(dir.path());
}

#[test]
fn another_owner_and_a_newer_format_are_refused_but_an_older_one_is_not() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));

    check_refused(
        Journal::open(dir.path(), &Kind { name: "worker".to_owned(), ..kind() }),
        dir.path(),
        &expect![
            "open journal at `DIR` as the worker journal 07070707: it is the coordinator journal 07070707; choose another directory"
        ],
    );
    check_refused(
        Journal::open(dir.path(), &Kind { id: [8; 16], ..kind() }),
        dir.path(),
        &expect![
            "open journal at `DIR` as the coordinator journal 08080808: it is the coordinator journal 07070707; choose another directory"
        ],
    );
    check_refused(
        Journal::open(dir.path(), &Kind { format: 1, ..kind() }),
        dir.path(),
        &expect![
            "open journal at `DIR`: its format is 2, this program knows up to 1; use the newer program"
        ],
    );
    let newer = Journal::open(dir.path(), &Kind { format: 3, ..kind() }).unwrap();
    assert_eq!(newer.kind().format, 2);
}

#[test]
fn a_changed_value_is_named_with_what_is_safe_before_it() {
    let dir = three_records();
    tamper(dir.path(), |db| {
        let mut value = db.get(key(2)).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        db.insert(key(2), value).unwrap();
    });

    check_refused(
        Journal::open(dir.path(), &kind()),
        dir.path(),
        &expect![
            "open journal at `DIR`: record 2 cannot be trusted: its bytes do not match their checksum; record 1 is safe; nothing was thrown away, and `tidegate journal repair` saves what is safe"
        ],
    );
}

#[test]
fn a_missing_record_is_named() {
    let dir = three_records();
    tamper(dir.path(), |db| drop(db.remove(key(2)).unwrap()));

    check_refused(
        Journal::open(dir.path(), &kind()),
        dir.path(),
        &expect![
            "open journal at `DIR`: record 2 cannot be trusted: it is missing, record 3 comes next; record 1 is safe; nothing was thrown away, and `tidegate journal repair` saves what is safe"
        ],
    );
}

#[test]
fn a_record_in_anothers_place_is_named() {
    let dir = three_records();
    tamper(dir.path(), |db| {
        let value = db.get(key(2)).unwrap().unwrap();
        db.insert(key(3), value).unwrap();
    });

    check_refused(
        Journal::open(dir.path(), &kind()),
        dir.path(),
        &expect![
            "open journal at `DIR`: record 3 cannot be trusted: it was written as record 2; records 1 to 2 are safe; nothing was thrown away, and `tidegate journal repair` saves what is safe"
        ],
    );
}

#[test]
fn a_record_exchanged_for_a_well_formed_one_breaks_the_chain() {
    let dir = three_records();
    let other = TempDir::new().unwrap();
    open(other.path()).append(&[b"x".to_vec(), b"y".to_vec()]).unwrap();
    let mut foreign = None;
    tamper(other.path(), |db| foreign = db.get(key(2)).unwrap());
    tamper(dir.path(), |db| drop(db.insert(key(2), foreign.take().unwrap()).unwrap()));

    check_refused(
        Journal::open(dir.path(), &kind()),
        dir.path(),
        &expect![
            "open journal at `DIR`: record 2 cannot be trusted: it does not continue the digest chain; record 1 is safe; nothing was thrown away, and `tidegate journal repair` saves what is safe"
        ],
    );
}

#[test]
fn acknowledged_records_cut_off_at_the_end_are_missed() {
    let dir = three_records();
    tamper(dir.path(), |db| {
        db.remove(key(2)).unwrap();
        db.remove(key(3)).unwrap();
    });

    check_refused(
        Journal::open(dir.path(), &kind()),
        dir.path(),
        &expect![
            "open journal at `DIR`: record 2 cannot be trusted: it is missing with all up to record 3, though they were acknowledged; record 1 is safe; nothing was thrown away, and `tidegate journal repair` saves what is safe"
        ],
    );
}

#[test]
fn bits_flipped_in_the_file_lose_no_record_in_silence_and_nothing_of_the_file() {
    let whole = three_records();
    let bytes = fs::read(whole.path().join("db")).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    for round in 0..40 {
        let dir = TempDir::new().unwrap();
        for name in ["conf", "witness"] {
            fs::copy(whole.path().join(name), dir.path().join(name)).unwrap();
        }
        let mut bytes = bytes.clone();
        bytes[used * round / 40] ^= 1 << (round % 8);
        fs::write(dir.path().join("db"), &bytes).unwrap();

        match Journal::open(dir.path(), &kind()) {
            Ok(journal) => assert_eq!(records(&journal).len(), 3, "round {round}"),
            Err(_) => {
                refused += 1;
                // The engine may have cleared what follows: what was found is still there.
                assert!(fs::read(dir.path().join("db.kept")).unwrap() == bytes);
            }
        }
    }
    assert!(refused > 0, "the engine drops what it cannot read, and nobody noticed");
}

#[test]
fn files_that_are_no_journal_are_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("conf"), b"nonsense").unwrap();
    fs::write(dir.path().join("db"), vec![0xA5; 4096]).unwrap();

    check_refused(
        Journal::open(dir.path(), &kind()),
        dir.path(),
        &expect![
            "open journal at `DIR`: the files there are not a journal's, or its `witness` is gone"
        ],
    );
    assert_eq!(fs::read(dir.path().join("db")).unwrap(), vec![0xA5; 4096]);
}

#[test]
fn callers_at_once_each_keep_their_own_order() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path());

    std::thread::scope(|scope| {
        for caller in 0..8_u8 {
            let appender = journal.appender();
            scope.spawn(move || {
                let mut last = 0;
                for turn in 0..50_u8 {
                    let sequence =
                        appender.append(&[vec![caller, turn, 0], vec![caller, turn, 1]]);
                    let sequence = sequence.unwrap();
                    assert!(sequence > last);
                    last = sequence;
                }
            });
        }
    });

    let records = records(&journal);
    assert_eq!(records.len(), 800);
    for caller in 0..8_u8 {
        let turns = records.iter().filter(|(_, payload)| payload[0] == caller);
        let turns: Vec<_> = turns.map(|(_, payload)| (payload[1], payload[2])).collect();
        assert!(turns.is_sorted() && turns.len() == 100, "{caller}");
    }
}

#[test]
fn an_appender_that_outlives_its_journal_is_refused() {
    let dir = TempDir::new().unwrap();
    let journal = open(dir.path());
    let appender = journal.appender();
    drop(journal);

    let refused = appender.append(&[b"late".to_vec()]);

    assert!(matches!(refused, Err(AppendError::Closed)), "{refused:?}");
    assert_eq!(open(dir.path()).head().sequence, 0);
}

#[test]
fn an_export_is_one_line_for_each_record() {
    let dir = three_records();
    let mut out = Vec::new();

    let about = |kind: &Kind, first: &[u8]| {
        format!(",\"begins\":\"{}-{}\"", kind.format, String::from_utf8_lossy(first))
    };
    let verified = export(dir.path(), &about, &mut out).unwrap();

    assert_eq!((verified.head.sequence, verified.payload_bytes), (3, 11));
    assert_eq!(verified, verify(dir.path()).unwrap());
    expect![[r#"
        {"schema":"tidegate.journal.export/1","journal":"coordinator","id":"07070707070707070707070707070707","format":2,"begins":"2-one"}
        {"sequence":1,"length":3,"digest":"269e06ce3077","payload":"6f6e65"}
        {"sequence":2,"length":3,"digest":"5fda12e47131","payload":"74776f"}
        {"sequence":3,"length":5,"digest":"fd9da463803f","payload":"7468726565"}
    "#]]
    .assert_eq(&shorten_digests(&String::from_utf8(out).unwrap()));
}

#[test]
fn there_is_nothing_to_verify_where_no_journal_is() {
    let dir = TempDir::new().unwrap();

    let absent = verify(dir.path());

    assert!(matches!(absent, Err(OpenError::Absent { .. })), "{absent:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn kind() -> Kind {
    Kind { name: "coordinator".to_owned(), format: 2, id: [7; 16] }
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir, &kind()).unwrap()
}

fn three_records() -> TempDir {
    let dir = TempDir::new().unwrap();
    let payloads = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()];
    open(dir.path()).append(&payloads).unwrap();
    dir
}

fn records(journal: &Journal) -> Vec<(u64, Vec<u8>)> {
    journal
        .replay()
        .map(|entry| entry.map(|e| (e.sequence, e.payload)).unwrap())
        .collect()
}

/// The key of a record's first part.
fn key(sequence: u64) -> Vec<u8> {
    [&sequence.to_be_bytes()[..], &[0; 4]].concat()
}

/// Changes a closed journal behind its back.
fn tamper(dir: &Path, change: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(dir).flush_every_ms(None).open().unwrap();
    change(&db);
    db.flush().unwrap();
}

fn check_refused(result: Result<Journal, OpenError>, dir: &Path, expected: &Expect) {
    let error = result.map(|_| "opened").unwrap_err().to_string();
    let error = error.replace(dir.to_str().unwrap(), "DIR");
    expected.assert_eq(&error.replace(&std::process::id().to_string(), "PID"));
}

fn shorten_digests(lines: &str) -> String {
    let shorten = |line: &str| {
        let Some(at) = line.find("\"digest\":\"").map(|at| at + 10) else {
            return format!("{line}\n");
        };
        format!("{}{}\n", &line[..at + 12], &line[at + 64..])
    };
    lines.lines().map(shorten).collect()
}
