//! Uidlist: `dovecot-uidlist`, version 3, and what it proves.
//!
//! # Invariants
//!
//! * A list that is whole is rewritten only to give new UIDs to mail that it has let go and that
//!   comes back.
//! * A rebuilt list keeps the UIDVALIDITY, the folder's GUID and every UID that either side knows,
//!   ascending, and starts new UIDs far above them: no UID is ever given twice.
//! * Silence of a damaged list proves nothing: only a name that a sound part of the list would have
//!   to hold, and does not, was deleted on purpose.
//! * Lists are read and written line by line: what stays in memory is in the folder's table.

use std::collections::HashSet;
use std::io::{self, BufRead, Read as _, Write};

use crate::index::{Index, LastFlags, Reading};
use crate::maildir::name::MailName;
use crate::maildir::survey::Sub;
use crate::maildir::table::{Row, Table};
use crate::manifest::number;
use crate::merge::Listing;
use crate::roots::Side;

/// How far above all known UIDs a rebuilt list begins: more than any folder can have given out
/// between its snapshot and the fault, and small beside the 32 bits of a UID.
pub(crate) const UID_GAP: u32 = 100_000;

/// A line, most of the time.
const LINE_BYTES: usize = 80;

/// Bytes of a line: a name of the file system's longest, and fields beside it.
const LINE_BYTES_MAX: u64 = 4096;

/// What a list says as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    header: Option<Header>,
    last_uid: u32,
    /// The first line that is not as Dovecot writes it came after this UID; nothing if all are.
    sound_until: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    uid_validity: u32,
    next_uid: u32,
    /// Further fields, the folder's GUID among them, each with its letter.
    fields: Vec<Vec<u8>>,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) uid: u32,
    /// Fields between the UID and the name, with their blanks.
    pub(crate) extra: &'a [u8],
    /// Base name.
    pub(crate) name: &'a [u8],
}

/// A list on its way in; whatever is not sound is left out and remembered as damage.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    source: R,
    line: Vec<u8>,
    summary: Summary,
}

/// What became of reading a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    /// It is longer than lines are, or the list ends inside it.
    Broken,
    End,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    pub(crate) fn new(source: R) -> Self {
        let mut reader = Self { source, line: Vec::new(), summary: Summary::default() };
        // A first line without its end may have lost digits of the UIDVALIDITY.
        if reader.read_line() == Line::Whole {
            reader.summary.header = Header::parse(&reader.line);
        }
        if reader.summary.header.is_none() {
            reader.summary.sound_until = Some(0);
        }
        reader
    }

    /// The folder's GUID.
    pub(crate) fn guid(&self) -> Option<&[u8]> {
        let fields = &self.summary.header.as_ref()?.fields;
        fields.iter().find_map(|field| field.strip_prefix(b"G"))
    }

    /// The folder's UIDVALIDITY.
    pub(crate) fn uid_validity(&self) -> Option<u32> {
        self.summary.uid_validity()
    }

    /// The next sound line.
    pub(crate) fn next(&mut self) -> Option<Entry<'_>> {
        loop {
            let line = self.read_line();
            if line == Line::End {
                return None;
            }
            let last = self.summary.last_uid;
            let parsed = Entry::parse(&self.line).map(|entry| entry.uid);
            match parsed {
                Some(uid) if line == Line::Whole && uid > last => {
                    self.summary.last_uid = uid;
                    break;
                }
                // Of two lines that are not in order either may be the wrong one.
                Some(_) | None => {
                    let before = parsed.map_or(last, |uid| last.min(uid - 1));
                    let until = self.summary.sound_until.unwrap_or(before);
                    self.summary.sound_until = Some(until.min(before));
                }
            }
        }
        Entry::parse(&self.line)
    }

    /// What the list says as a whole, once its lines are read.
    pub(crate) fn summary(self) -> Summary {
        self.summary
    }

    fn read_line(&mut self) -> Line {
        self.line.clear();
        let mut line = self.source.by_ref().take(LINE_BYTES_MAX);
        let read = line.read_until(b'\n', &mut self.line);
        match read {
            Ok(0) => Line::End,
            Ok(_) if self.line.pop_if(|byte| *byte == b'\n').is_some() => Line::Whole,
            // The rest of it is skipped with the lines after it, of which none can be believed.
            Ok(_) => {
                if self.skip_line().is_err() {
                    self.line.clear();
                }
                Line::Broken
            }
            // The disk does not give it: it ends here, and not as lists end.
            Err(_) => {
                let last = self.summary.last_uid;
                self.summary.sound_until.get_or_insert(last);
                Line::End
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let there = self.source.fill_buf()?;
            let end = there.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(there.len(), |at| at + 1);
            let done = end.is_some() || there.is_empty();
            self.source.consume(length);
            if done {
                return Ok(());
            }
        }
    }
}

impl Summary {
    /// Of a list that is not there.
    pub(crate) fn lost() -> Self {
        Self { sound_until: Some(0), ..Self::default() }
    }

    /// Reads one side's list into the folder's table.
    pub(crate) fn read(source: impl BufRead, side: Side, table: &mut Table) -> Self {
        let mut reader = Reader::new(source);
        while let Some(entry) = reader.next() {
            table.set_uid(side, entry.name, entry.uid);
        }
        reader.summary()
    }

    /// The next UID; the header may be old.
    fn next_uid(&self) -> u32 {
        let header = self.header.as_ref().map_or(1, |header| header.next_uid);
        header.max(self.last_uid.saturating_add(1))
    }

    fn uid_validity(&self) -> Option<u32> {
        self.header.as_ref().map(|header| header.uid_validity)
    }
}

impl Header {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.strip_prefix(b"3 ")?.split(|byte| *byte == b' ');
        let mut header = Self { uid_validity: 0, next_uid: 1, fields: Vec::new() };
        for field in &mut fields {
            match field.split_first() {
                Some((b'V', value)) => header.uid_validity = number(value)?,
                Some((b'N', value)) => header.next_uid = number(value)?,
                Some((_, value)) if field.iter().all(u8::is_ascii_graphic) => {
                    let _ = value;
                    header.fields.push(field.to_vec());
                }
                Some(_) | None => return None,
            }
        }
        (header.uid_validity > 0).then_some(header)
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        write!(to, "3 V{} N{}", self.uid_validity, self.next_uid)?;
        for field in &self.fields {
            to.write_all(b" ")?;
            to.write_all(field)?;
        }
        to.write_all(b"\n")
    }
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        if memchr::memchr(0, line).is_some() {
            return None;
        }
        let colons = memchr::memchr_iter(b':', line);
        let mut ends = colons.filter_map(|at| at.checked_sub(1));
        let at = ends.find(|at| line.get(*at) == Some(&b' '))?;
        let (head, tail) = line.split_at_checked(at)?;
        let name = MailName::base_of(tail.get(2..)?);
        let digits = head.split(|byte| *byte == b' ').next()?;
        let uid: u32 = number(digits)?;
        // Behind each UID is a next one.
        let is_uid = 0 < uid && uid < u32::MAX;
        if !is_uid || name.is_empty() || name.contains(&b'/') {
            return None;
        }
        let extra = head.get(digits.len()..)?;
        Some(Self { uid, extra, name })
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        write!(to, "{}", self.uid)?;
        to.write_all(self.extra)?;
        to.write_all(b" :")?;
        to.write_all(self.name)?;
        to.write_all(b"\n")
    }
}

/// A list with more messages at its end, and the UID of the first of them; nothing if it is not whole.
///
/// `next_uid`: none below it is free. `more`: the fields between UID and name, and the base name.
pub(crate) fn extended(
    list: &[u8],
    next_uid: u32,
    more: &[(&[u8], &[u8])],
) -> Option<(Vec<u8>, u32)> {
    let mut reader = Reader::new(list);
    while reader.next().is_some() {}
    let summary = reader.summary();
    let first = summary.next_uid().max(next_uid);
    let mut header = summary.header.filter(|_| summary.sound_until.is_none())?;
    header.next_uid = first.checked_add(u32::try_from(more.len()).ok()?)?;
    let mut whole = Vec::with_capacity(list.len() + LINE_BYTES * (more.len() + 1));
    header.write(&mut whole).ok()?;
    let end = list.iter().position(|byte| *byte == b'\n')?;
    whole.extend_from_slice(list.get(end + 1..)?);
    for (uid, (extra, name)) in (first..).zip(more) {
        Entry { uid, extra, name }.write(&mut whole).ok()?;
    }
    Some((whole, first))
}

/// Mail servers list what they move to `cur`.
fn was_seen(table: &Table, row: Row) -> bool {
    table.slot(Side::Snapshot, row).is_none_or(|slot| slot.sub == Sub::Cur)
}

/// The two lists of one folder, read together.
#[derive(Debug)]
pub(crate) struct Lists {
    live: Summary,
    snapshot: Option<Summary>,
    /// Both count in the same UIDVALIDITY, as far as both are readable.
    same_validity: bool,
    /// What the live index knows of these UIDs.
    index: Option<Index>,
}

impl Lists {
    /// Weighs the live list against the snapshot's, the files that are there live, and the live
    /// index.
    pub(crate) fn new(
        mut live: Summary,
        snapshot: Option<Summary>,
        (table, index): (&Table, Reading),
    ) -> Self {
        let validity = snapshot.as_ref().and_then(Summary::uid_validity);
        let same_validity = match (live.uid_validity(), validity) {
            (Some(live), Some(snapshot)) => live == snapshot,
            (_, None) | (None, Some(_)) => true,
        };
        if let Some(snapshot) = snapshot.as_ref().filter(|_| same_validity) {
            let contradicts = |row: &Row| {
                let is_there = table.slot(Side::Live, *row).is_some();
                is_there && table.uid(Side::Live, *row).is_none()
            };
            let contradiction = table.iter().filter(contradicts);
            let contradiction = contradiction
                .filter_map(|row| table.uid(Side::Snapshot, row))
                .min()
                .map(|uid| uid.saturating_sub(1));
            let went_back =
                (live.next_uid() < snapshot.next_uid()).then_some(live.last_uid);
            live.sound_until =
                [live.sound_until, contradiction, went_back].into_iter().flatten().min();
        }
        let validity = live.uid_validity().or(validity);
        let index = validity.and_then(|validity| index.evidence(validity));
        Self { live, snapshot, same_validity, index }
    }

    /// What is known of a message that the snapshot has and the live folder has not.
    pub(crate) fn listing(&self, table: &Table, row: Row) -> Listing {
        if table.uid(Side::Live, row).is_some() {
            return Listing::Listed;
        }
        if !self.same_validity {
            return Listing::Unknown;
        }
        let headless = self.live.header.is_none();
        match (table.uid(Side::Snapshot, row), self.live.sound_until) {
            (Some(uid), _) if headless => self.listing_by_index(uid),
            (None, _) if headless => Listing::Unknown,
            (Some(uid), Some(sound_until)) if uid <= sound_until => Listing::Unlisted,
            (Some(_), None) => Listing::Unlisted,
            // What was in `cur` was seen, and so it was in a list.
            (None, None) if !self.snapshot_is_sound() && was_seen(table, row) => {
                Listing::Unlisted
            }
            (Some(uid), Some(_)) => self.listing_by_index(uid),
            (None, _) => Listing::Unknown,
        }
    }

    /// What the index says where the list is silent.
    fn listing_by_index(&self, uid: u32) -> Listing {
        match self.index.as_ref().and_then(|index| index.holds(uid)) {
            Some(true) => Listing::Listed,
            Some(false) => Listing::Unlisted,
            None => Listing::Unknown,
        }
    }

    /// The flags that a message had last, if the index knows.
    pub(crate) fn last_flags(&self, uid: Option<u32>) -> Option<LastFlags> {
        self.index.as_ref()?.last_flags(uid?)
    }

    fn snapshot_is_sound(&self) -> bool {
        self.snapshot.as_ref().is_some_and(|list| list.sound_until.is_none())
    }

    /// The UID of a message, live first.
    pub(crate) fn uid(&self, table: &Table, row: Row) -> Option<u32> {
        let before = || table.uid(Side::Snapshot, row).filter(|_| self.same_validity);
        table.uid(Side::Live, row).or_else(before)
    }

    /// Every line of the live list is as Dovecot writes it, and none is missing.
    pub(crate) fn is_sound(&self) -> bool {
        self.live.sound_until.is_none()
    }

    /// The folder may have held newer mail that nothing names any more. `in_snapshot`: the folder
    /// was there; if it had no list then, its mail server writes none.
    pub(crate) fn may_hide_a_loss(&self, in_snapshot: bool) -> bool {
        !self.is_sound() && (self.snapshot.is_some() || !in_snapshot)
    }

    /// Whether a list has to be put in place of a damaged one, or of one that has let go what comes
    /// back (`regained`); not if no side knows the UIDVALIDITY.
    pub(crate) fn needs_rebuilding(&self, regained: bool) -> bool {
        let header = self.live.header.as_ref().or_else(|| self.base()?.header.as_ref());
        (!self.is_sound() || regained) && header.is_some()
    }

    /// The snapshot's list, if its UIDs count.
    fn base(&self) -> Option<&Summary> {
        self.snapshot.as_ref().filter(|_| self.same_validity)
    }

    /// Writes the list that [`Lists::needs_rebuilding`], from both lists once more; the final UIDs
    /// by row, zero where there is none.
    ///
    /// `present`: messages that are or come back there. `regained`: those of them, in the order of
    /// their names, that the live list has let go. These get new UIDs: mail programs know the old
    /// ones as gone. A name that no list can hold gets none.
    pub(crate) fn rebuild(
        &self,
        (live, snapshot): (Option<impl BufRead>, Option<impl BufRead>),
        (table, present, regained): (&Table, &dyn Fn(Row) -> bool, &[Row]),
        to: &mut impl Write,
    ) -> io::Result<Vec<u32>> {
        let mut uids = vec![0; usize::try_from(table.len()).unwrap_or(0)];
        let header = self.live.header.clone();
        let Some(mut header) = header.or_else(|| self.base()?.header.clone()) else {
            return Ok(uids);
        };
        let mut next = self.live.next_uid().max(self.base().map_or(1, Summary::next_uid));
        if self.is_sound() {
            next = next.max(self.index.as_ref().map_or(1, |index| index.next_uid));
        } else {
            next = next.saturating_sub(1).saturating_add(UID_GAP);
        }
        let count = u32::try_from(regained.len()).unwrap_or(u32::MAX);
        header.next_uid = next.saturating_add(count);
        header.write(to)?;
        let new: HashSet<Row> = regained.iter().copied().collect();
        let wanted = |entry: &Entry<'_>| {
            let uid = entry.uid;
            let unheard = self.live.sound_until.is_some_and(|until| uid > until)
                && self.listing_by_index(uid) != Listing::Unlisted;
            let Some(row) = table.find(entry.name) else { return false };
            let known = table.uid(Side::Live, row).is_some();
            (unheard || present(row)) && !known && !new.contains(&row)
        };
        let mut put = |entry: &Entry<'_>| {
            let at = table.find(entry.name).and_then(|row| usize::try_from(row).ok());
            if let Some(uid) = at.and_then(|at| uids.get_mut(at)) {
                *uid = entry.uid;
            }
            entry.write(to)
        };
        let mut live = live.map(Reader::new);
        let mut before = snapshot.filter(|_| self.base().is_some()).map(Reader::new);
        let mut older = before.as_mut().and_then(Reader::next);
        while let Some(entry) = live.as_mut().and_then(Reader::next) {
            while let Some(old) = older.filter(|old| old.uid < entry.uid) {
                if wanted(&old) {
                    put(&old)?;
                }
                older = before.as_mut().and_then(Reader::next);
            }
            if older.is_some_and(|old| old.uid == entry.uid) {
                older = before.as_mut().and_then(Reader::next);
            }
            put(&entry)?;
        }
        while let Some(old) = older {
            if wanted(&old) {
                put(&old)?;
            }
            older = before.as_mut().and_then(Reader::next);
        }
        for row in regained {
            let name = table.base(*row);
            // Dovecot lists no such names, and has no such UIDs.
            if next == u32::MAX || name.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
                continue;
            }
            put(&Entry { uid: next, extra: b"", name })?;
            next = next.saturating_add(1);
        }
        Ok(uids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &[u8] = b"3 V1795293977 N1 Gf0102b\n1 :a,S=1\n2 P0001 :b,S=2\n4 :c\n";

    /// Both lists with their table.
    struct Both<'a> {
        live: Option<&'a [u8]>,
        snapshot: Option<&'a [u8]>,
        table: Table,
        lists: Lists,
    }

    impl<'a> Both<'a> {
        fn new(
            live: impl Into<Option<&'a [u8]>>,
            snapshot: impl Into<Option<&'a [u8]>>,
        ) -> Self {
            let (live, snapshot) = (live.into(), snapshot.into());
            let mut table = Table::default();
            let mut read = |side, list: Option<&[u8]>| {
                list.map(|list| Summary::read(list, side, &mut table))
            };
            let there = read(Side::Live, live).unwrap_or_else(Summary::lost);
            let before = read(Side::Snapshot, snapshot);
            let lists = Lists::new(there, before, (&table, Reading::Silent));
            Self { live, snapshot, table, lists }
        }

        fn listing(&self, name: &[u8]) -> Listing {
            let mut table = Table::default();
            let row = self.table.find(name).unwrap_or_else(|| table.row(name));
            let table = if table.len() > 0 { &table } else { &self.table };
            self.lists.listing(table, row)
        }

        fn rebuilt(&self) -> Option<String> {
            let mut text = Vec::new();
            self.lists.needs_rebuilding(false).then(|| {
                let rows = (&self.table, &(|_| false) as &dyn Fn(Row) -> bool, &[][..]);
                self.lists.rebuild((self.live, self.snapshot), rows, &mut text).unwrap();
                String::from_utf8(text).unwrap()
            })
        }
    }

    fn summary(list: &[u8]) -> Summary {
        Summary::read(list, Side::Live, &mut Table::default())
    }

    #[test]
    fn a_list_as_dovecot_writes_it_is_whole_and_an_old_next_uid_is_raised() {
        let list = summary(LIST);

        assert_eq!(list.sound_until, None);
        assert_eq!(list.next_uid(), 5);
        assert_eq!(Reader::new(LIST).guid(), Some(&b"f0102b"[..]));
    }

    #[test]
    fn a_list_cut_in_a_line_is_sound_until_the_line_before() {
        let list = summary(&LIST[..LIST.len() - 2]);

        assert_eq!(list.sound_until, Some(2));
        assert_eq!(list.last_uid, 2);
    }

    #[test]
    fn a_uid_that_jumped_ahead_proves_no_deletion_of_those_it_hides() {
        let jumped = &b"3 V1795293977 N1 Gf0102b\n9 :a,S=1\n2 P0001 :b,S=2\n4 :c\n"[..];

        let list = summary(jumped);

        assert_eq!((list.sound_until, list.last_uid), (Some(1), 9));
        assert_eq!(Both::new(jumped, LIST).listing(b"c"), Listing::Unknown);
    }

    #[test]
    fn a_line_without_end_is_no_line_and_costs_no_memory() {
        let mut list = LIST.to_vec();
        list.extend(std::iter::repeat_n(b'9', 1_000_000));
        list.extend_from_slice(b"\n9 :d\n");

        let mut reader = Reader::new(&list[..]);
        let mut uids = Vec::new();
        while let Some(entry) = reader.next() {
            uids.push(entry.uid);
        }

        assert_eq!(uids, [1, 2, 4, 9]);
        assert!(reader.line.capacity() < 10_000);
        assert_eq!(reader.summary().sound_until, Some(4));
    }

    #[test]
    fn a_list_cut_in_its_first_line_tells_no_uidvalidity() {
        let both = Both::new(&b"3 V1795"[..], LIST);

        assert!(both.rebuilt().unwrap().starts_with("3 V1795293977 N100004 "));
    }

    #[test]
    fn a_name_let_go_by_a_whole_list_was_deleted_and_a_listed_one_was_lost() {
        let both = Both::new(&b"3 V1795293977 N5 Gf\n1 :a,S=1\n4 :c\n"[..], LIST);

        assert_eq!(both.listing(b"b,S=2"), Listing::Unlisted);
        assert_eq!(both.listing(b"a,S=1"), Listing::Listed);
        assert_eq!(both.rebuilt(), None);
    }

    #[test]
    fn a_list_cut_at_a_line_end_is_seen_by_its_next_uid() {
        let both = Both::new(&b"3 V1795293977 N1 Gf\n2 :b,S=2\n"[..], LIST);

        assert_eq!(both.listing(b"a,S=1"), Listing::Unlisted);
        assert_eq!(both.listing(b"c"), Listing::Unknown);
        assert_eq!(both.rebuilt().unwrap(), "3 V1795293977 N100004 Gf\n2 :b,S=2\n4 :c\n");
    }

    #[test]
    fn a_lost_list_is_rebuilt_from_the_snapshot_with_a_gap() {
        let both = Both::new(None, LIST);

        assert_eq!(both.listing(b"a,S=1"), Listing::Unknown);
        assert_eq!(
            both.rebuilt().unwrap(),
            "3 V1795293977 N100004 Gf0102b\n1 :a,S=1\n2 P0001 :b,S=2\n4 :c\n"
        );
    }

    #[test]
    fn a_rebuilt_list_is_whole() {
        let once = Both::new(&b"\0\0\0\0"[..], LIST);
        let again = once.rebuilt().unwrap();

        let twice = Both::new(again.as_bytes(), LIST);

        assert_eq!(twice.rebuilt(), None);
    }

    #[test]
    fn uids_of_another_validity_are_not_used() {
        let both = Both::new(&b"3 V7 N2 Gx\n1 :z\n"[..], LIST);
        let row = both.table.find(b"a,S=1").unwrap();

        assert_eq!(both.listing(b"a,S=1"), Listing::Unknown);
        assert_eq!(both.lists.uid(&both.table, row), None);
    }

    #[test]
    fn a_message_never_listed_was_never_deleted() {
        let both = Both::new(LIST, LIST);

        assert_eq!(both.listing(b"arrived-before-the-snapshot"), Listing::Unknown);
    }

    #[test]
    fn without_any_uidvalidity_nothing_is_invented() {
        assert_eq!(Both::new(None, None).rebuilt(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_parsed(live: Vec<u8>, snapshot: Vec<u8>) {
            let _ = Both::new(&live[..], &snapshot[..]).rebuilt();
        }

        #[test]
        fn a_written_list_reads_back(
            uids in prop::collection::btree_set(1_u32..1_000_000, 0..40),
            validity in 1_u32..u32::MAX,
        ) {
            let fields = vec![b"Gabc".to_vec()];
            let header = Header { uid_validity: validity, next_uid: 1, fields };
            let mut text = Vec::new();
            header.write(&mut text).unwrap();
            for uid in &uids {
                let extra: &[u8] = if uid % 3 == 0 { b" W12" } else { b"" };
                let name = format!("{uid}.x,S=1").into_bytes();
                Entry { uid: *uid, extra, name: &name }.write(&mut text).unwrap();
            }
            let mut reader = Reader::new(&text[..]);
            let mut read = Vec::new();
            while let Some(entry) = reader.next() {
                read.push(entry.uid);
            }
            prop_assert!(read.iter().eq(&uids));
            let summary = reader.summary();
            prop_assert_eq!(summary.header, Some(header));
            prop_assert_eq!(summary.sound_until, None);
        }
    }
}
