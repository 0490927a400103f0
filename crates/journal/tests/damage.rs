//! Damage: whatever happens to a journal's files, it is noticed, nothing is half read, and what
//! is safe can be saved.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::indexing_slicing, reason = "files of known size")]

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidegate_journal::{
    Damage, Journal, Kind, OpenError, RepairError, Snapshot, export, look_at_repair,
    repair, verify,
};

/// Bits that are flipped together at every place: one, two far apart, all.
const FLIPS: [u8; 3] = [0x01, 0x82, 0xff];

/// The store's file has room for more; what follows its end by so much is looked at, too.
const BEHIND_THE_END: usize = 64;

#[test]
fn every_byte_of_a_small_journal_flipped_in_three_ways_loses_nothing_in_silence() {
    let whole = Sample::new(&["one", "two", "three"]);
    let (mut refused, mut harmless) = (0, 0);
    for place in 0..whole.used {
        for flip in FLIPS {
            let mut bytes = whole.bytes.clone();
            bytes[place] ^= flip;
            match whole.with(&bytes).contents() {
                Ok(found) => {
                    assert_eq!(found, whole.contents, "{flip:#04x} at {place}");
                    harmless += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > harmless, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_journal_cut_anywhere_loses_nothing_in_silence() {
    let whole = Sample::new(&["one", "two", "three"]);
    let mut refused = 0;
    for length in (0..whole.used + BEHIND_THE_END).rev() {
        match whole.with(&whole.bytes[..length]).contents() {
            Ok(found) => assert_eq!(found, whole.contents, "cut to {length}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > whole.used / 2, "{refused}");
}

#[test]
fn a_compacted_journal_with_a_flipped_byte_loses_nothing_in_silence() {
    let whole = Sample::compacted();
    let mut refused = 0;
    // A prime step, so that in the end all kinds of places are met.
    for place in (0..whole.used).step_by(97) {
        let mut bytes = whole.bytes.clone();
        bytes[place] ^= FLIPS[place % 3];
        match whole.with(&bytes).contents() {
            Ok(found) => assert_eq!(found, whole.contents, "at {place}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}

#[test]
fn pages_that_are_zeroed_exchanged_or_doubled_are_noticed() {
    const PAGE: usize = 512;
    let whole = Sample::compacted();
    let pages = whole.used / PAGE;
    for page in 0..pages {
        let (here, there) = (page * PAGE, (page * 7 + 3) % pages * PAGE);
        let mut zeroed = whole.bytes.clone();
        zeroed[here..here + PAGE].fill(0);
        let mut doubled = whole.bytes.clone();
        doubled.copy_within(there..there + PAGE, here);
        let mut exchanged = doubled.clone();
        exchanged[there..there + PAGE].copy_from_slice(&whole.bytes[here..here + PAGE]);
        for (how, bytes) in [("zero", zeroed), ("double", doubled), ("swap", exchanged)] {
            if let Ok(found) = whole.with(&bytes).contents() {
                assert_eq!(found, whole.contents, "{how} {page}");
            }
        }
    }
}

#[test]
fn a_repair_saves_the_good_prefix_and_says_what_is_lost() {
    let dir = Sample::new(&["one", "two", "three", "four"]).written();
    tamper(&dir, |db| drop(db.remove(key(3)).unwrap()));
    let before = files(&dir.path);

    let planned = look_at_repair(&dir.path).unwrap();
    let repaired = repair(&dir.path).unwrap();
    let again = repair(&dir.path);

    assert_eq!(planned, repaired);
    assert_eq!((repaired.keeps.sequence, repaired.newest_known), (2, 4));
    assert_eq!(repaired.damage, Damage::Missing { found: 4 });
    assert_eq!(files(&dir.path), before, "the damaged journal is as it was");
    assert!(matches!(again, Err(RepairError::Occupied { .. })));
    let journal = Journal::open(&repaired.to, &kind()).unwrap();
    assert_eq!(journal.head(), repaired.keeps);
    assert_eq!(read(&journal), ["one", "two"]);
    journal.append(&[b"instead".to_vec()]).unwrap();
}

#[test]
fn a_repaired_journal_keeps_its_snapshot_and_its_story() {
    let dir = Sample::compacted().written();
    let last = verify(&dir.path).unwrap().head.sequence;
    tamper(&dir, |db| drop(db.remove(key(last - 1)).unwrap()));

    let repaired = repair(&dir.path).unwrap();

    let verified = verify(&repaired.to).unwrap();
    assert_eq!(verified.head.sequence, last - 2);
    assert_eq!(verified.compacted.map(|it| (it.records, it.story)), Some((40, 4)));
    let journal = Journal::open(&repaired.to, &kind()).unwrap();
    assert_eq!(journal.snapshot().unwrap().unwrap().snapshot, body());
    assert_eq!(journal.story().count(), 4);
}

#[test]
fn a_damaged_snapshot_or_story_is_named_and_nothing_is_repaired_on_top_of_it() {
    let snapshot_key = [&((1_u64 << 63) + 40).to_be_bytes()[..], &[0, 0, 0, 1]].concat();
    let base_key = [&[0xff; 8][..], &[0; 4]].concat();
    let broken: [(&str, Vec<u8>); 4] = [
        ("the snapshot of all records up to it is damaged", snapshot_key),
        ("of the records kept up to it 3 are there and 4 belong there", key(20)),
        ("the note of what was compacted is missing or damaged", base_key),
        ("it is missing, record 10 comes next", key(0)),
    ];
    for (said, key) in broken {
        let dir = Sample::compacted().written();
        tamper(&dir, |db| drop(db.remove(&key).unwrap().unwrap()));

        let refused = verify(&dir.path).unwrap_err().to_string();
        let unrepaired = repair(&dir.path).unwrap_err();

        assert!(refused.contains(said), "{refused}");
        assert!(matches!(unrepaired, RepairError::Nothing { .. }), "{unrepaired}");
    }
}

#[test]
fn an_export_of_a_damaged_journal_shows_what_is_behind_the_damage_without_trust() {
    let dir = Sample::new(&["one", "two", "three"]).written();
    tamper(&dir, |db| drop(db.remove(key(2)).unwrap()));
    let before = files(&dir.path);
    let mut out = Vec::new();

    let refused = export(&dir.path, &|_, _| String::new(), &mut out);

    assert!(refused.is_err());
    let lines = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].starts_with(r#"{"sequence":1,"length":3"#), "{}", lines[1]);
    assert!(lines[2].starts_with(r#"{"sequence":3,"trusted":false"#), "{}", lines[2]);
    assert_eq!(files(&dir.path), before, "nothing was changed");
}

#[test]
fn a_repair_looks_at_the_file_as_it_was_before_a_start_cleared_it() {
    let whole = Sample::new(&["one", "two", "three"]);
    let mut best = 0;
    for place in (0..whole.used).rev().step_by(13) {
        let mut bytes = whole.bytes.clone();
        bytes[place] ^= 0x10;
        let dir = whole.with(&bytes);
        if Journal::open(&dir.path, &kind()).is_ok() {
            continue;
        }
        if let Ok(found) = look_at_repair(&dir.path) {
            best = best.max(found.keeps.sequence);
            assert_eq!(found.newest_known, 3, "the witness remembers");
        }
    }
    assert!(best < 3, "what is whole needs no repair");
}

#[test]
fn a_journal_of_the_first_format_opens_goes_on_and_is_compacted() {
    let dir = Files::new();
    write_in_first_format(&dir, &["one", "two", "three"]);

    let journal = Journal::open(&dir.path, &kind()).unwrap();
    assert_eq!(read(&journal), ["one", "two", "three"]);
    journal.append(&[b"four".to_vec()]).unwrap();
    compact(&journal, |payload| payload == b"two");
    drop(journal);

    let journal = Journal::open(&dir.path, &kind()).unwrap();
    assert_eq!(journal.head().sequence, 4);
    let story: Vec<_> = journal.story().map(|it| it.unwrap().sequence).collect();
    assert_eq!(story, [2]);
}

/// What a journal hands out: snapshot, story and tail.
type Contents = (Option<Vec<u8>>, Vec<Vec<u8>>, Vec<Vec<u8>>);

/// The files of a whole journal, and what is in it.
struct Sample {
    small: Vec<(String, Vec<u8>)>,
    bytes: Vec<u8>,
    used: usize,
    contents: Contents,
}

/// A directory with a journal in it.
struct Files {
    _dir: TempDir,
    path: PathBuf,
}

impl Sample {
    fn new(records: &[&str]) -> Self {
        let dir = Files::new();
        let journal = Journal::open(&dir.path, &kind()).unwrap();
        let records = records.iter().map(|record| record.as_bytes().to_vec());
        journal.append(&records.collect::<Vec<_>>()).unwrap();
        drop(journal);
        Self::of(&dir)
    }

    /// Forty records under a snapshot, one in ten of them kept, and five behind.
    fn compacted() -> Self {
        let dir = Files::new();
        let journal = Journal::open(&dir.path, &kind()).unwrap();
        let record = |at: usize| vec![u8::from(at.is_multiple_of(10)); 20 + at];
        journal.append(&(1..=40).map(record).collect::<Vec<_>>()).unwrap();
        compact(&journal, |payload| payload[0] == 1);
        journal.append(&(41..=45).map(record).collect::<Vec<_>>()).unwrap();
        drop(journal);
        Self::of(&dir)
    }

    fn of(dir: &Files) -> Self {
        let contents = dir.contents().unwrap();
        let bytes = fs::read(dir.path.join("db")).unwrap();
        let used = 1 + bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let small = ["conf", "witness"]
            .map(|name| (name.to_owned(), fs::read(dir.path.join(name)).unwrap()));
        Self { small: small.into(), bytes, used, contents }
    }

    fn with(&self, bytes: &[u8]) -> Files {
        let dir = Files::new();
        for (name, bytes) in &self.small {
            fs::write(dir.path.join(name), bytes).unwrap();
        }
        fs::write(dir.path.join("db"), bytes).unwrap();
        dir
    }

    fn written(&self) -> Files {
        self.with(&self.bytes)
    }
}

impl Files {
    /// In memory where that is possible: thousands of journals are opened.
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let dir = dir.unwrap();
        let path = dir.path().join("journal");
        fs::create_dir(&path).unwrap();
        Self { _dir: dir, path }
    }

    fn contents(&self) -> Result<Contents, OpenError> {
        let journal = Journal::open(&self.path, &kind())?;
        let payloads = |entries: tidegate_journal::Replay<'_>| {
            entries.map(|entry| entry.unwrap().payload).collect()
        };
        let snapshot = journal.snapshot().unwrap().map(|compacted| compacted.snapshot);
        Ok((snapshot, payloads(journal.story()), payloads(journal.replay())))
    }
}

/// Writes a journal as programs did before journals could be compacted.
fn write_in_first_format(dir: &Files, records: &[&str]) {
    let Kind { name, format, id } = kind();
    let header = [&format.to_be_bytes()[..], &id, name.as_bytes()].concat();
    let payloads = [&header[..]].into_iter();
    let payloads = payloads.chain(records.iter().map(|record| record.as_bytes()));
    let mut last = ([0; 8], [0; 32]);
    let db = sled::Config::new().path(&dir.path).flush_every_ms(None).open().unwrap();
    for (sequence, payload) in (0_u64..).zip(payloads) {
        let digest = *blake3::hash(&[&last.1[..], payload].concat()).as_bytes();
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let check: Vec<u8> = blake3::hash(payload).as_bytes()[..8].to_vec();
        last = (sequence.to_be_bytes(), digest);
        let value = [&[1], &last.0[..], &length, &check, &digest, payload].concat();
        db.insert(key(sequence), value).unwrap();
    }
    db.flush().unwrap();
    let witness = [&last.0[..], &last.1].concat();
    let check: Vec<u8> = blake3::hash(&witness).as_bytes()[..8].to_vec();
    fs::write(dir.path.join("witness"), [&witness[..], &check].concat()).unwrap();
}

fn compact(journal: &Journal, is_story: fn(&[u8]) -> bool) {
    let snapshot = Snapshot { covers: journal.head(), body: body(), is_story };
    assert!(journal.appender().compact(snapshot).unwrap());
    while journal.appender().is_compacting() {
        std::thread::yield_now();
    }
}

fn body() -> Vec<u8> {
    (0..=255).cycle().take(5_000).collect()
}

fn read(journal: &Journal) -> Vec<String> {
    let text = |entry: tidegate_journal::Entry| String::from_utf8(entry.payload).unwrap();
    journal.replay().map(|entry| text(entry.unwrap())).collect()
}

/// Every file that matters, by name.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .filter(|entry| entry.path().is_file() && entry.file_name() != "lock")
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The key of a record's first part.
fn key(sequence: u64) -> Vec<u8> {
    [&sequence.to_be_bytes()[..], &[0; 4]].concat()
}

/// Changes a closed journal behind its back.
fn tamper(dir: &Files, change: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(&dir.path).flush_every_ms(None).open().unwrap();
    change(&db);
    db.flush().unwrap();
}

fn kind() -> Kind {
    Kind { name: "coordinator".to_owned(), format: 2, id: [7; 16] }
}
