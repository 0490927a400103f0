//! Index: what `dovecot.index` and its transaction log tell of a folder.
//!
//! Both are Dovecot's own. They are read for evidence: which UIDs the folder held last, and with
//! which flags.
//!
//! # Invariants
//!
//! * They are never written and never brought back from a snapshot.
//! * What does not fit together to the last byte is no evidence, and no index either: Dovecot refuses
//!   a folder whose log ends inside a record.

use std::collections::{BTreeMap, BTreeSet};

/// The format both files have had since Dovecot 1.1; another one is not judged.
const INDEX_MAJOR: u8 = 7;
const LOG_MAJOR: u8 = 1;

/// Bytes of the head of an index that are needed here, and of a log's head in its first version.
const INDEX_HEAD_BYTES: usize = 120;
const LOG_HEAD_BYTES: usize = 24;

/// Bytes of a record's head in a log.
const RECORD_HEAD_BYTES: usize = 8;

/// UIDs of one folder that are counted; more are an attack or an accident.
const UIDS_MAX: usize = 10_000_000;

/// Kinds of records; those that delete have bits more, so that none is taken for one by accident.
const EXPUNGE: u32 = 0x1 | 0xcd90;
const APPEND: u32 = 0x2;
const FLAG_UPDATE: u32 = 0x4;
const HEADER_UPDATE: u32 = 0x20;
const KEYWORD_UPDATE: u32 = 0x400;
const KEYWORD_RESET: u32 = 0x800;
const EXPUNGE_GUID: u32 = 0x2000 | 0xcd90;
/// It has happened; otherwise somebody wishes it.
const EXTERNAL: u32 = 0x1000_0000;
const KIND_MASK: u32 = 0x0fff_ffff;

/// The record takes a keyword away instead of giving it.
const KEYWORD_REMOVED: u8 = 1;

/// Where the head of an index has what is needed here.
const AT_UID_VALIDITY: usize = 24;
const AT_NEXT_UID: usize = 28;

/// What a folder held when its index was last written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) uid_validity: u32,
    pub(crate) next_uid: u32,
    /// Flags by UID, as bits.
    flags: BTreeMap<u32, u8>,
    /// Names of keywords by UID, if the index could be read so far.
    keywords: Option<BTreeMap<u32, Words>>,
}

type Words = BTreeSet<Vec<u8>>;

/// What became of reading both files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There is nothing to be read, or not enough.
    Silent,
    /// Both fit together.
    Whole(Index),
    /// Dovecot would refuse the folder.
    Broken,
}

impl Reading {
    /// Reads both files of a folder as far as they are there.
    pub(crate) fn of(index: Option<&[u8]>, log: Option<&[u8]>) -> Self {
        let Some(log) = log else { return Self::Silent };
        let Some(log) = Log::parse(log) else { return Self::Broken };
        if log.major != LOG_MAJOR {
            return Self::Silent;
        }
        let base = match index {
            None if log.follows_another => return Self::Silent,
            None => Base { keywords: Some(BTreeMap::new()), ..Base::default() },
            Some(bytes) if bytes.first() != Some(&INDEX_MAJOR) => return Self::Silent,
            Some(bytes) => match Base::parse(bytes) {
                None => return Self::Broken,
                Some(base) if base.index_id != log.index_id => return Self::Silent,
                Some(base) if base.log_sequence != log.sequence => return Self::Silent,
                Some(base) if base.log_offset > log.end => return Self::Broken,
                Some(base) => base,
            },
        };
        base.replay(&log).map_or(Self::Broken, Self::Whole)
    }

    /// The evidence, if there is any that counts in this UIDVALIDITY.
    pub(crate) fn evidence(self, uid_validity: u32) -> Option<Index> {
        match self {
            Self::Whole(index) if index.uid_validity == uid_validity => Some(index),
            Self::Whole(_) | Self::Silent | Self::Broken => None,
        }
    }
}

impl Index {
    /// Whether the folder held this UID; nothing if it was never given.
    pub(crate) fn holds(&self, uid: u32) -> Option<bool> {
        (uid < self.next_uid).then(|| self.flags.contains_key(&uid))
    }

    /// The flags and keywords of a UID that is there.
    pub(crate) fn last_flags(&self, uid: u32) -> Option<LastFlags> {
        let bits = self.flags.get(&uid)?;
        let letters = [(16, b'D'), (2, b'F'), (1, b'R'), (8, b'S'), (4, b'T')];
        let set = letters.into_iter().filter(|(bit, _)| bits & bit != 0);
        let letters = set.map(|(_, letter)| letter).collect();
        let names = |keywords: &BTreeMap<_, Words>| {
            keywords.get(&uid).cloned().unwrap_or_default()
        };
        let keywords = self.keywords.as_ref().map(names);
        Some(LastFlags { letters, keywords })
    }
}

/// The flags and keywords that a message had last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastFlags {
    /// As letters of a Maildir name.
    pub(crate) letters: Vec<u8>,
    /// Names, if the index could be read so far.
    pub(crate) keywords: Option<Words>,
}

/// A log that ends where its last record ends.
struct Log<'a> {
    major: u8,
    index_id: u32,
    sequence: u32,
    /// It continues another log.
    follows_another: bool,
    /// Where each record begins, with its kind and body.
    records: Vec<(usize, u32, &'a [u8])>,
    end: usize,
}

impl<'a> Log<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head_size = usize::from(u16::from_le_bytes(array(bytes, 2)?));
        let mut log = Self {
            major: *bytes.first()?,
            index_id: word(bytes, 4)?,
            sequence: word(bytes, 8)?,
            follows_another: word(bytes, 12)? != 0,
            records: Vec::new(),
            end: head_size,
        };
        // Dovecot marks a log as corrupted by taking its number away.
        if head_size < LOG_HEAD_BYTES || bytes.len() < head_size || log.index_id == 0 {
            return None;
        }
        while log.end < bytes.len() {
            let size = record_size(u32::from_be_bytes(array(bytes, log.end)?))?;
            let record = bytes.get(log.end..log.end.checked_add(size)?)?;
            let body = record.get(RECORD_HEAD_BYTES..)?;
            log.records.push((log.end, word(record, 4)?, body));
            log.end += size;
        }
        Some(log)
    }
}

/// Sizes are written in words, seven bits to a byte, each byte marked.
fn record_size(written: u32) -> Option<usize> {
    if written & 0x8080_8080 != 0x8080_8080 {
        return None;
    }
    let bytes = written.to_be_bytes().map(|byte| u32::from(byte & 0x7f));
    let words = bytes.into_iter().fold(0, |size, byte| size << 7 | byte);
    usize::try_from(words << 2).ok()
}

/// The state that the index file holds; the log goes on from it.
#[derive(Default)]
struct Base {
    index_id: u32,
    log_sequence: u32,
    log_offset: usize,
    head: Vec<u8>,
    flags: BTreeMap<u32, u8>,
    keywords: Option<BTreeMap<u32, Words>>,
}

impl Base {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let size = |at| usize::try_from(word(bytes, at)?).ok();
        let (head_size, record_size) = (size(4)?, size(8)?);
        let count = size(32)?;
        let records = bytes.get(head_size..)?;
        if head_size < INDEX_HEAD_BYTES || record_size < 5 || count > UIDS_MAX {
            return None;
        }
        let mut flags = BTreeMap::new();
        let mut keywords = Some(BTreeMap::new());
        let table = KeywordBits::find(bytes.get(..head_size)?);
        for record in records.chunks_exact(record_size).take(count) {
            let uid = word(record, 0)?;
            flags.insert(uid, *record.get(4)?);
            keywords = keywords.zip(table.as_ref()).map(|(mut keywords, table)| {
                keywords.insert(uid, table.read(record));
                keywords
            });
        }
        (flags.len() == count && word(bytes, 16)? != 0).then_some(())?;
        Some(Self {
            index_id: word(bytes, 16)?,
            log_sequence: word(bytes, 60)?,
            log_offset: size(68)?,
            head: bytes.get(..INDEX_HEAD_BYTES)?.to_vec(),
            flags,
            keywords,
        })
    }

    fn replay(mut self, log: &Log<'_>) -> Option<Index> {
        self.head.resize(INDEX_HEAD_BYTES, 0);
        for (at, kind, body) in &log.records {
            if *at >= self.log_offset {
                self.apply(*kind, body)?;
            }
        }
        let uid_validity = word(&self.head, AT_UID_VALIDITY)?;
        let last = self.flags.last_key_value().map_or(0, |(uid, _)| *uid);
        let next_uid = word(&self.head, AT_NEXT_UID)?.max(last.saturating_add(1));
        let mut keywords = self.keywords;
        if let Some(keywords) = &mut keywords {
            keywords
                .retain(|uid, words| !words.is_empty() && self.flags.contains_key(uid));
        }
        Some(Index { uid_validity, next_uid, flags: self.flags, keywords })
    }

    fn apply(&mut self, kind: u32, body: &[u8]) -> Option<()> {
        match kind & KIND_MASK {
            APPEND => {
                for record in body.chunks_exact(8) {
                    self.flags.insert(word(record, 0)?, *record.get(4)?);
                }
                (self.flags.len() <= UIDS_MAX).then_some(())?;
            }
            // Without the mark it is a wish, which nobody has granted yet.
            EXPUNGE if kind & EXTERNAL != 0 => {
                for range in body.chunks_exact(8) {
                    self.remove(word(range, 0)?, word(range, 4)?);
                }
            }
            EXPUNGE_GUID if kind & EXTERNAL != 0 => {
                for record in body.chunks_exact(20) {
                    self.flags.remove(&word(record, 0)?);
                }
            }
            FLAG_UPDATE => {
                for update in body.chunks_exact(12) {
                    let (first, last) = (word(update, 0)?, word(update, 4)?);
                    let (add, remove) = (*update.get(8)?, *update.get(9)?);
                    for (_, flags) in self.flags.range_mut(first..=last.max(first)) {
                        *flags = *flags & !remove | add;
                    }
                }
            }
            KEYWORD_UPDATE => self.update_keywords(body)?,
            KEYWORD_RESET => {
                for range in body.chunks_exact(8) {
                    let (first, last) = (word(range, 0)?, word(range, 4)?);
                    let keywords = self.keywords.iter_mut();
                    keywords
                        .for_each(|it| it.retain(|uid, _| *uid < first || *uid > last));
                }
            }
            HEADER_UPDATE => self.update_head(body)?,
            _ => {}
        }
        Some(())
    }

    fn remove(&mut self, first: u32, last: u32) {
        self.flags.retain(|uid, _| *uid < first || *uid > last);
    }

    /// Whether added or removed, the length of the name, the name, and ranges of UIDs.
    fn update_keywords(&mut self, body: &[u8]) -> Option<()> {
        let added = *body.first()? != KEYWORD_REMOVED;
        let size = usize::from(u16::from_le_bytes(array(body, 2)?));
        let name = body.get(4..size + 4)?;
        let ranges = body.get((size + 4).next_multiple_of(4)..)?;
        let Some(keywords) = &mut self.keywords else { return Some(()) };
        for range in ranges.chunks_exact(8) {
            let (first, last) = (word(range, 0)?, word(range, 4)?);
            for (uid, _) in self.flags.range(first..=last.max(first)) {
                let words = keywords.entry(*uid).or_default();
                if added {
                    words.insert(name.to_vec());
                } else {
                    words.remove(name);
                }
            }
        }
        Some(())
    }

    /// Patches of the head: where, how much, and the bytes, in words.
    fn update_head(&mut self, mut body: &[u8]) -> Option<()> {
        while !body.is_empty() {
            let at = usize::from(u16::from_le_bytes(array(body, 0)?));
            let size = usize::from(u16::from_le_bytes(array(body, 2)?));
            let patch = body.get(4..size + 4)?;
            if let Some(place) = self.head.get_mut(at..at + size) {
                place.copy_from_slice(patch);
            }
            body = body.get((size + 4).next_multiple_of(4)..).unwrap_or_default();
        }
        Some(())
    }
}

/// Where an index has the keywords of each record, as one bit per name.
#[derive(Default)]
struct KeywordBits {
    offset: usize,
    names: Vec<Vec<u8>>,
}

impl KeywordBits {
    /// Looks among the extensions behind the head for the one of keywords; nothing if they cannot
    /// be read.
    fn find(head: &[u8]) -> Option<Self> {
        let half = |at| Some(usize::from(u16::from_le_bytes(array(head, at)?)));
        let mut at = half(2)?.next_multiple_of(8);
        while at < head.len() {
            let size = usize::try_from(word(head, at)?).ok()?;
            let (offset, name_size) = (half(at + 8)?, half(at + 14)?);
            let name = head.get(at + 16..at + 16 + name_size)?;
            let data = (at + 16 + name_size).next_multiple_of(8);
            if name == b"keywords" {
                let names = keyword_names(head.get(data..data.checked_add(size)?)?)?;
                return Some(Self { offset, names });
            }
            at = data.checked_add(size)?.checked_next_multiple_of(8)?;
        }
        Some(Self::default())
    }

    fn read(&self, record: &[u8]) -> Words {
        let is_set = |index: usize| {
            let byte = record.get(self.offset + index / 8);
            byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
        };
        let names = self.names.iter().enumerate();
        names.filter(|(index, _)| is_set(*index)).map(|(_, name)| name.clone()).collect()
    }
}

/// A count, as many pairs of something unused and a name's place, then names that end in zeros.
fn keyword_names(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let count = usize::try_from(word(data, 0)?).ok()?;
    let places = data.get(4..count.checked_mul(8)?.checked_add(4)?)?;
    let text = data.get(4 + places.len()..)?;
    let name = |place: &[u8]| {
        let from = usize::try_from(word(place, 4)?).ok()?;
        Some(text.get(from..)?.split(|byte| *byte == 0).next()?.to_vec())
    };
    places.chunks_exact(8).map(name).collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A number as the machines write it that Dovecot runs on.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALIDITY: u32 = 1_795_293_977;

    fn words(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let words = u32::try_from((body.len() + RECORD_HEAD_BYTES) / 4).unwrap();
        let [_, _, _, low] = words.to_be_bytes();
        assert!(words < 0x80);
        let size = [0x80, 0x80, 0x80, low | 0x80];
        [&size, &kind.to_le_bytes()[..], body].concat()
    }

    /// A log of UIDs 1 to 4: 2 was deleted, somebody wants to delete 3, 4 is seen and flagged.
    fn log() -> Vec<u8> {
        let validity = [&[24, 0, 4, 0], &VALIDITY.to_le_bytes()[..]].concat();
        [
            [&[LOG_MAJOR, 3, 24, 0], &words(&[77, 2, 0, 0, 0])[..]].concat(),
            record(HEADER_UPDATE | EXTERNAL, &validity),
            record(APPEND | EXTERNAL, &words(&[1, 0, 2, 8, 3, 0, 4, 8])),
            record(EXPUNGE | EXTERNAL, &words(&[2, 2])),
            record(EXPUNGE, &words(&[3, 3])),
            record(FLAG_UPDATE, &words(&[4, 4, 2])),
            record(
                KEYWORD_UPDATE,
                &[b"\0\0\x05\0$Work\0\0\0", &words(&[4, 5])[..]].concat(),
            ),
        ]
        .concat()
    }

    /// An index of UIDs 1, 5 and 6, up to date with the log until `offset`.
    fn index(offset: u32) -> Vec<u8> {
        let first = u32::from(INDEX_MAJOR) | 120 << 16;
        let mut head = words(&[first, 168, 12, 0, 77, 0, VALIDITY, 9, 3]);
        head.resize(60, 0);
        head.extend_from_slice(&words(&[2, 0, offset]));
        head.resize(INDEX_HEAD_BYTES, 0);
        head.extend_from_slice(&words(&[18, 0, 8 | 1 << 16, 1 | 8 << 16]));
        head.extend_from_slice(b"keywords");
        head.extend_from_slice(&words(&[1, 0, 0]));
        head.extend_from_slice(b"$Junk\0");
        head.resize(168, 0);
        [head, words(&[1, 0, 0, 5, 1, 0, 6, 16, 1])].concat()
    }

    fn evidence(index: Option<&[u8]>, log: &[u8]) -> Index {
        Reading::of(index, Some(log)).evidence(VALIDITY).unwrap()
    }

    #[test]
    fn a_log_tells_which_uids_are_there_which_were_deleted_and_which_never_given() {
        let index = evidence(None, &log());

        let held: Vec<_> = (1..=5).map(|uid| index.holds(uid)).collect();
        let expected = [Some(true), Some(false), Some(true), Some(true), None];
        assert_eq!(held, expected);
        let keywords = Some(BTreeSet::from([b"$Work".to_vec()]));
        let last_flags = LastFlags { letters: b"FS".to_vec(), keywords };
        assert_eq!(index.last_flags(4), Some(last_flags));
        assert_eq!(index.last_flags(2), None);
    }

    #[test]
    fn an_index_counts_with_what_the_log_has_beyond_it() {
        let log = log();
        let end = u32::try_from(log.len()).unwrap();

        let all = evidence(Some(&index(end)), &log);
        let tail = evidence(Some(&index(end - 48)), &log);

        let keywords = |index: &Index| index.last_flags(5).unwrap().keywords.unwrap();
        assert_eq!(keywords(&tail), BTreeSet::from([b"$Work".to_vec()]));
        assert_eq!(keywords(&all), BTreeSet::new());
        assert_eq!(all.holds(4), Some(false));
        let keywords = Some(BTreeSet::from([b"$Junk".to_vec()]));
        let last_flags = LastFlags { letters: b"D".to_vec(), keywords };
        assert_eq!(all.last_flags(6), Some(last_flags));
        assert_eq!(all.next_uid, 9);
    }

    #[test]
    fn a_log_that_ends_inside_a_record_is_broken_and_so_is_one_shorter_than_its_index_says()
     {
        let log = log();
        let end = u32::try_from(log.len()).unwrap();

        assert_eq!(Reading::of(None, Some(&log[..log.len() - 4])), Reading::Broken);
        assert_eq!(Reading::of(None, Some(&[0; 99])), Reading::Broken);
        assert_eq!(Reading::of(Some(&index(end + 4)), Some(&log)), Reading::Broken);
        assert_eq!(Reading::of(Some(&index(end)[..190]), Some(&log)), Reading::Broken);
    }

    #[test]
    fn files_that_do_not_belong_together_and_other_validities_say_nothing() {
        let log = log();
        let mut other = index(0);
        other[16] = 78;

        assert_eq!(Reading::of(Some(&other), Some(&log)), Reading::Silent);
        assert_eq!(Reading::of(None, None), Reading::Silent);
        assert_eq!(Reading::of(None, Some(&log)).evidence(VALIDITY + 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(index: Vec<u8>, log: Vec<u8>) {
            let _ = Reading::of(Some(&index), Some(&log));
        }

        #[test]
        fn any_flipped_byte_can_be_read(at in 0_usize..400, byte: u8) {
            let (mut index, mut log) = (index(24), log());
            if let Some(place) = index.get_mut(at) {
                *place = byte;
            }
            if let Some(place) = log.get_mut(at) {
                *place = byte;
            }
            let _ = Reading::of(Some(&index), Some(&log));
        }
    }
}
