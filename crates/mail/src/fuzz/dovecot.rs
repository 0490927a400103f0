//! Dovecot: its dbox files, indexes, caches and lists of folders.
//!
//! # Invariants
//!
//! * An index that can be read can be written anew as a log that says the same.

use std::io::Cursor;

use super::{Chance, Crumbs, parts};
use crate::dbox::file::{Region, Scanner, WINDOW_BYTES};
use crate::index::cache::Cache;
use crate::index::{self, FolderState, Index, Kind, MapState, Reading, Record};
use crate::maildir::farewell::deleted_folders;

/// A subject is cut at the length of a line.
const SUBJECT_BYTES_MAX: usize = 998;

/// Beyond this, what is written may count to where it is not believed any more.
const MODSEQ_MAX: u64 = 1 << 47;

/// The flags that clients see.
const CLIENT_FLAGS: u8 = 0x1f;

/// A dbox file: `u.N` or `m.N`.
pub fn dbox(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let mut scanner =
        Scanner::open(Cursor::new(bytes), length).expect("memory can be read");
    let mut at = scanner.head().map_or(0, |head| head.size);
    assert!(at <= length);
    let regions = regions(&mut scanner);
    for region in &regions {
        if let Region::Message(message) = region {
            let whole = message.body + message.size < message.end;
            assert!(message.start < message.body && whole);
            let there = scanner.at(message.start).expect("memory can be read");
            assert_eq!(there.as_ref(), Ok(message), "it is where it was found");
        }
        let (start, end, _) = bounds(region);
        assert_eq!(start, at, "a gap");
        assert!(end > start, "an empty region");
        at = end;
    }
    assert_eq!(at, length, "the end is missing");

    let mut chance = Chance::of(bytes);
    let crumbs = Crumbs { bytes, at: 0, chance: chance.clone() };
    let mut scanner = Scanner::open(crumbs, length).expect("memory can be read");
    assert_eq!(self::regions(&mut scanner), regions, "pieces matter");
    let cut = chance.below(regions.len().max(1));
    if let Some(Region::Message(last)) = regions.get(cut) {
        let mut scanner =
            Scanner::open(Cursor::new(bytes), last.end).expect("memory can be read");
        let before = regions.get(..=cut).unwrap_or_default();
        let before: Vec<_> = before.iter().map(bounds).collect();
        let again: Vec<_> = self::regions(&mut scanner).iter().map(bounds).collect();
        assert_eq!(again, before, "what follows matters");
    }
    if chance.below(8) == 0 {
        check_search(bytes, &mut chance);
    }
}

/// A message is found wherever it stands: behind one byte that is none, or behind many.
fn check_search(bytes: &[u8], chance: &mut Chance) {
    let found = |before: usize| {
        let file = [&vec![0; before], bytes].concat();
        let mut scanner = Scanner::open(Cursor::new(&file), file.len() as u64)
            .expect("memory can be read");
        let bounds = regions(&mut scanner).iter().map(bounds).collect::<Vec<_>>();
        let messages = bounds.into_iter().filter(|(_, _, is_message)| *is_message);
        messages
            .map(|(start, end, _)| (start - before as u64, end - before as u64))
            .collect()
    };
    let near: Vec<(u64, u64)> = found(1);
    let Some((start, _)) = near.get(chance.below(near.len())) else { return };
    // Where the first window ends, one of them begins.
    let start = usize::try_from(*start).unwrap_or(usize::MAX);
    let before = (WINDOW_BYTES + 2).saturating_sub(start + chance.below(6)).max(1);
    assert_eq!(found(before), near, "its place matters");
}

fn regions<R: std::io::Read + std::io::Seek>(scanner: &mut Scanner<R>) -> Vec<Region> {
    let next = || scanner.next().expect("memory can be read");
    std::iter::from_fn(next).collect()
}

/// Where a region begins and ends, and whether it is a message.
fn bounds(region: &Region) -> (u64, u64, bool) {
    match region {
        Region::Message(message) => (message.start, message.end, true),
        Region::Damaged(damaged) => (damaged.start, damaged.end, false),
    }
}

/// `dovecot.index`, `dovecot.index.log` and `dovecot.index.log.2` of a folder, or those of a map.
pub fn index(bytes: &[u8]) {
    let Some(index) = read(bytes).last_known() else { return };
    let records: Vec<Record> = index.records().collect();
    assert_eq!(records.len(), index.len());
    assert!(records.is_sorted_by(|one, other| one.uid < other.uid));
    for record in &records {
        assert_eq!(index.holds(record.uid), Some(true), "it is below the next UID");
        assert_eq!(index.get(record.uid).as_ref(), Some(record));
        assert!(index.last_flags(record.uid).is_some());
    }
    for kind in [Kind::Sdbox, Kind::Mdbox] {
        check_folder(&index, &records, kind);
    }
    check_map(&index);
}

fn read(bytes: &[u8]) -> Reading {
    let (index, log, older) = parts(bytes);
    index::read(index, log, Some(older).filter(|it| !it.is_empty()))
}

fn check_folder(index: &Index, records: &[Record], kind: Kind) {
    let state = FolderState {
        index_id: 7,
        created: 1_700_000_000,
        uid_validity: index.uid_validity,
        next_uid: index.next_uid,
        first_recent_uid: index.first_recent_uid,
        highest_modseq: index.highest_modseq,
        mailbox_guid: index.mailbox_guid().unwrap_or([7; 16]),
        map_uid_validity: index.map_uid_validity().unwrap_or_default(),
        dbox_flags: index.dbox_flags().unwrap_or_default(),
        keywords: index.keyword_names().to_vec(),
        records: records.to_vec(),
    };
    let log = index::write_folder(&state, kind);
    let again = index::read(None, Some(&log), None).evidence(index.uid_validity);
    let again = again.expect("what is written is whole");
    let written = records.iter().map(|record| Record {
        flags: record.flags & CLIENT_FLAGS,
        map_uid: record.map_uid.filter(|_| kind == Kind::Mdbox),
        save_date: record.save_date.filter(|_| kind == Kind::Mdbox),
        guid: record.guid.filter(|_| kind == Kind::Mdbox),
        cache_offset: None,
        ..record.clone()
    });
    assert!(again.records().eq(written), "what is written reads back");
    assert_eq!(again.next_uid, state.next_uid);
    assert_eq!(again.mailbox_guid(), Some(state.mailbox_guid));
    let rises = again.highest_modseq >= state.highest_modseq;
    assert!(rises || state.highest_modseq > MODSEQ_MAX, "modseqs only rise");
}

fn check_map(index: &Index) {
    let entries: Vec<_> = index.map_entries().collect();
    let state = MapState {
        index_id: 7,
        created: 1_700_000_000,
        uid_validity: index.uid_validity,
        next_uid: index.next_uid,
        highest_file_id: index.highest_file_id().unwrap_or_default(),
        entries,
    };
    let log = index::write_map(&state);
    let again = index::read(None, Some(&log), None).evidence(index.uid_validity);
    let again = again.expect("what is written is whole");
    assert!(again.map_entries().eq(state.entries), "what is written reads back");
    assert!(again.highest_file_id() >= Some(state.highest_file_id));
}

/// `dovecot.index.cache`.
pub fn cache(bytes: &[u8]) {
    let Some(cache) = Cache::parse(bytes) else { return };
    let named = bytes.chunks_exact(4).filter_map(|word| word.try_into().ok());
    let named = named.map(u32::from_le_bytes);
    let places = (0..4096).step_by(4).chain(named.take(1024)).chain([u32::MAX, 33]);
    for cached in places.filter_map(|at| cache.fields(at)) {
        let is_line = |subject: &Vec<u8>| {
            subject.len() <= SUBJECT_BYTES_MAX && !subject.contains(&b'\n')
        };
        assert!(cached.subject.as_ref().is_none_or(is_line));
        assert!(cached.guid.is_none_or(|guid| guid.len() <= bytes.len()));
    }
}

/// `dovecot.list.index` and its logs; the last of them is read as a `dovecot.mailbox.log` too.
pub fn folders(bytes: &[u8]) {
    let folders = read(bytes).last_known().and_then(|list| list.folders());
    for folder in folders.unwrap_or_default() {
        let is_name = |name: &Vec<u8>| {
            let bad = name.is_empty() || [&b"."[..], b".."].contains(&&**name);
            !bad && name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0)
        };
        assert!(!folder.path.is_empty() && folder.path.iter().all(is_name));
        assert!(folder.dbox().len() < 4096, "paths are bounded");
        assert!(!folder.maildir().contains(&b'/'), "it leads nowhere else");
        let digits = folder.guid_digits();
        assert!(digits.is_none_or(|digits| digits.len() == 32));
    }
    let (_, _, log) = parts(bytes);
    let deleted = deleted_folders(log);
    assert!(deleted.len() <= log.len() / 24);
    let is_guid = |guid: &Vec<u8>| guid.len() == 32 && guid.is_ascii();
    assert!(deleted.iter().all(is_guid));
}
