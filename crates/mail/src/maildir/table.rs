//! Table: the messages of one folder, on both sides, in columns.
//!
//! # Invariants
//!
//! * One row per base name, whatever knows it: a file of either side, or either list.
//! * A message costs its name and about a hundred bytes, so that a million of them fit; what is
//!   special about few is kept elsewhere.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use hashbrown::HashTable;

use crate::digest::{Digest, Fingerprint};
use crate::judge::{Findings, Rungs};
use crate::maildir::name::MailName;
use crate::maildir::survey::Sub;
use crate::roots::Side;

/// Messages that a table has room for from its first one on: those of a small folder.
const ROWS_FIRST: usize = 16;

/// Bytes of a base name, most of the time.
const NAME_BYTES: usize = 56;

/// A message of a table.
pub(crate) type Row = u32;

/// Where a message's file is on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) inode: u64,
    /// What follows the base name, as a number of the table.
    suffix: u32,
    pub(crate) sub: Sub,
}

/// Size and digest of a message.
pub(crate) type Bytes = (u64, Digest);

/// What is known of a side's file without a word more: it is read and nothing is wrong with it.
#[derive(Debug, Clone, Copy, Default)]
struct Clean {
    live: bool,
    snapshot: bool,
}

/// The messages of one folder.
#[derive(Debug, Default)]
pub(crate) struct Table {
    text: Vec<u8>,
    ends: Vec<u32>,
    rows: HashTable<Row>,
    hasher: RandomState,
    suffixes: Vec<Box<[u8]>>,
    suffix_numbers: HashMap<Box<[u8]>, u32>,
    live: Vec<Option<Slot>>,
    snapshot: Vec<Option<Slot>>,
    /// Further files of the same base name.
    pub(crate) spare: Vec<(Side, Row, Slot)>,
    /// UIDs in the lists, live and snapshot; zero is none.
    uids: Vec<[u32; 2]>,
    bytes: Vec<Bytes>,
    clean: Vec<Clean>,
    /// What the bytes, or the decision, stand on.
    rungs: Vec<Rungs>,
    /// Digests of the mailbox's manifest, if there is one.
    recorded: Vec<Option<Digest>>,
    /// Fingerprints that others made.
    imported: HashMap<Row, Fingerprint>,
}

impl Table {
    pub(crate) fn len(&self) -> Row {
        Row::try_from(self.ends.len()).unwrap_or(Row::MAX)
    }

    pub(crate) fn iter(&self) -> std::ops::Range<Row> {
        0..self.len()
    }

    /// Makes room for so many more messages, so that growing copies nothing.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.text.reserve(count.saturating_mul(NAME_BYTES));
        self.ends.reserve_exact(count);
        let (names, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        self.rows.reserve(count, |row| hasher.hash_one(text(names, ends, *row)));
        self.live.reserve_exact(count);
        self.snapshot.reserve_exact(count);
        self.uids.reserve_exact(count);
        self.bytes.reserve_exact(count);
        self.clean.reserve_exact(count);
        self.rungs.reserve_exact(count);
    }

    /// All rows in the order of their names.
    pub(crate) fn sorted(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.iter().collect();
        rows.sort_unstable_by(|left, right| self.base(*left).cmp(self.base(*right)));
        rows
    }

    /// The row of a base name, made if need be.
    pub(crate) fn row(&mut self, base: &[u8]) -> Row {
        let hash = self.hasher.hash_one(base);
        let found =
            self.rows.find(hash, |row| text(&self.text, &self.ends, *row) == base);
        if let Some(row) = found {
            return *row;
        }
        let row = self.len();
        if row == 0 {
            self.reserve(ROWS_FIRST);
        }
        self.text.extend_from_slice(base);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.live.push(None);
        self.snapshot.push(None);
        self.uids.push([0; 2]);
        self.bytes.push(Bytes::default());
        self.clean.push(Clean::default());
        self.rungs.push(Rungs::NONE);
        let (all, ends, hasher) = (&self.text, &self.ends, &self.hasher);
        self.rows.insert_unique(hash, row, |row| hasher.hash_one(text(all, ends, *row)));
        row
    }

    /// The row of a base name, if there is one.
    pub(crate) fn find(&self, base: &[u8]) -> Option<Row> {
        let hash = self.hasher.hash_one(base);
        self.rows.find(hash, |row| text(&self.text, &self.ends, *row) == base).copied()
    }

    /// Takes in a file of one side.
    pub(crate) fn add(&mut self, side: Side, (sub, name): (Sub, &[u8]), inode: u64) {
        let base = MailName::base_of(name);
        let row = self.row(base);
        let suffix = self.suffix_number(name.get(base.len()..).unwrap_or_default());
        let slot = Slot { inode, suffix, sub };
        match self.place(side, row) {
            Some(place @ None) => *place = Some(slot),
            Some(Some(_)) | None => self.spare.push((side, row, slot)),
        }
    }

    fn suffix_number(&mut self, suffix: &[u8]) -> u32 {
        // Most mail of a folder has been read, and nothing else.
        if self.suffixes.first().is_some_and(|first| **first == *suffix) {
            return 0;
        }
        if let Some(number) = self.suffix_numbers.get(suffix) {
            return *number;
        }
        let number = u32::try_from(self.suffixes.len()).unwrap_or(u32::MAX);
        self.suffixes.push(suffix.into());
        self.suffix_numbers.insert(suffix.into(), number);
        number
    }

    pub(crate) fn base(&self, row: Row) -> &[u8] {
        text(&self.text, &self.ends, row)
    }

    pub(crate) fn slot(&self, side: Side, row: Row) -> Option<Slot> {
        let column = match side {
            Side::Live => &self.live,
            Side::Snapshot => &self.snapshot,
        };
        column.get(index(row)).copied().flatten()
    }

    /// Takes another file as the one of this row.
    pub(crate) fn set_slot(&mut self, side: Side, row: Row, slot: Slot) {
        if let Some(place) = self.place(side, row) {
            *place = Some(slot);
        }
    }

    fn place(&mut self, side: Side, row: Row) -> Option<&mut Option<Slot>> {
        let column = match side {
            Side::Live => &mut self.live,
            Side::Snapshot => &mut self.snapshot,
        };
        column.get_mut(index(row))
    }

    /// Either side has a file.
    pub(crate) fn is_held(&self, row: Row) -> bool {
        self.slot(Side::Live, row).is_some() || self.slot(Side::Snapshot, row).is_some()
    }

    /// The file's name, with its flags.
    pub(crate) fn name(&self, row: Row, slot: Slot) -> Vec<u8> {
        self.name_parts(row, slot).concat()
    }

    /// The same in two parts.
    pub(crate) fn name_parts(&self, row: Row, slot: Slot) -> [&[u8]; 2] {
        [self.base(row), self.suffix(slot)]
    }

    /// What follows the base name: nothing, or a colon and flags.
    pub(crate) fn suffix(&self, slot: Slot) -> &[u8] {
        self.suffixes.get(index(slot.suffix)).map(|it| &**it).unwrap_or_default()
    }

    /// The UID in one side's list.
    pub(crate) fn uid(&self, side: Side, row: Row) -> Option<u32> {
        let [live, snapshot] = self.uids.get(index(row)).copied().unwrap_or_default();
        let uid = match side {
            Side::Live => live,
            Side::Snapshot => snapshot,
        };
        (uid > 0).then_some(uid)
    }

    /// Takes in a line of a list.
    pub(crate) fn set_uid(&mut self, side: Side, base: &[u8], uid: u32) {
        let row = self.row(base);
        if let Some([live, snapshot]) = self.uids.get_mut(index(row)) {
            match side {
                Side::Live => *live = uid,
                Side::Snapshot => *snapshot = uid,
            }
        }
    }

    /// Takes in what a manifest says.
    pub(crate) fn set_recorded(&mut self, base: &[u8], fingerprint: Fingerprint) {
        let row = self.row(base);
        let Fingerprint::Xxh3(digest) = fingerprint else {
            self.imported.insert(row, fingerprint);
            return;
        };
        self.record_digest(row, digest);
    }

    pub(crate) fn recorded(&self, row: Row) -> Option<Fingerprint> {
        let ours = self.recorded.get(index(row)).copied().flatten();
        ours.map(Into::into).or_else(|| self.imported.get(&row).copied())
    }

    /// Puts our own digest in the place of another maker's fingerprint where these bytes have it;
    /// whether our own digest tells all from here on.
    pub(crate) fn recognize(&mut self, row: Row, findings: &Findings) -> bool {
        let Some(imported) = self.imported.get(&row) else { return true };
        let matches = findings.matches(imported) == Some(true);
        match findings.digest.filter(|_| matches) {
            Some(digest) => {
                self.record_digest(row, digest);
                self.imported.remove(&row);
                true
            }
            None => false,
        }
    }

    fn record_digest(&mut self, row: Row, digest: Digest) {
        let at = index(row);
        if self.recorded.len() <= at {
            self.recorded.resize(at + 1, None);
        }
        if let Some(recorded) = self.recorded.get_mut(at) {
            *recorded = Some(digest);
        }
    }

    pub(crate) fn set_rungs(&mut self, row: Row, rungs: Rungs) {
        if let Some(place) = self.rungs.get_mut(index(row)) {
            *place = rungs;
        }
    }

    pub(crate) fn rungs(&self, row: Row) -> Rungs {
        self.rungs.get(index(row)).copied().unwrap_or_default()
    }

    /// Books a file that was read and has nothing wrong.
    pub(crate) fn set_clean(&mut self, side: Side, row: Row, bytes: Bytes) {
        if let Some(clean) = self.clean.get_mut(index(row)) {
            match side {
                Side::Live => clean.live = true,
                Side::Snapshot => clean.snapshot = true,
            }
        }
        if let Some(place) = self.bytes.get_mut(index(row)) {
            *place = bytes;
        }
    }

    /// Size and digest of a file that was read and has nothing wrong.
    pub(crate) fn clean(&self, side: Side, row: Row) -> Option<Bytes> {
        let clean = self.clean.get(index(row)).copied().unwrap_or_default();
        let is_clean = match side {
            Side::Live => clean.live,
            Side::Snapshot => clean.snapshot,
        };
        self.bytes.get(index(row)).copied().filter(|_| is_clean)
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn text<'a>(text: &'a [u8], ends: &[u32], row: Row) -> &'a [u8] {
    let at = index(row);
    let start = at.checked_sub(1).and_then(|before| ends.get(before)).copied();
    let end = ends.get(at).copied().unwrap_or(0);
    text.get(index(start.unwrap_or(0))..index(end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_row_whoever_knows_it() {
        let mut table = Table::default();
        table.add(Side::Live, (Sub::Cur, b"1.a,S=3:2,S"), 7);
        table.add(Side::Snapshot, (Sub::New, b"1.a,S=3"), 8);
        table.set_uid(Side::Live, b"1.a,S=3", 5);
        table.set_uid(Side::Live, b"0.b", 6);

        let row = table.find(b"1.a,S=3").unwrap();
        let live = table.slot(Side::Live, row).unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(table.name(row, live), b"1.a,S=3:2,S");
        assert_eq!(table.uid(Side::Live, row), Some(5));
        assert_eq!(table.uid(Side::Snapshot, row), None);
        assert_eq!(table.sorted(), [1, 0]);
    }

    #[test]
    fn a_second_file_of_a_name_is_spare() {
        let mut table = Table::default();
        table.add(Side::Live, (Sub::Cur, b"1.a:2,S"), 7);
        table.add(Side::Live, (Sub::New, b"1.a"), 8);

        assert_eq!(table.spare.len(), 1);
        assert_eq!(table.slot(Side::Live, 0).unwrap().inode, 7);
    }
}
