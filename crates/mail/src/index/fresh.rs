//! Fresh: a transaction log written anew that tells all of a folder or a map by itself, or one that goes
//! on with more messages.
//!
//! Dovecot needs no `dovecot.index` beside it: without one it replays the log. Whatever else of that
//! index is there (`dovecot.index`, `.backup`, `.log.2`, `.cache`) belongs to another one and must
//! have been moved away.
//!
//! # Invariants
//!
//! * The same state gives the same bytes.
//! * Modseqs only rise: it begins with the highest that clients were told, and every message in it is
//!   newer than that, so that clients ask for all flags once and for nothing else.
//! * All that it tells has happened: nothing is left for Dovecot to do at its next look.

use std::collections::BTreeMap;

use super::log::{
    APPEND, CLIENT_FLAGS, EXT_HEADER_UPDATE, EXT_INTRO, EXT_RECORD_UPDATE, EXTERNAL,
    HEAD_BYTES, HEADER_UPDATE, KEYWORD_UPDATE, MAJOR, MINOR, RECORD_HEAD_BYTES,
};
use super::state::{AT_FIRST_RECENT_UID, AT_LOG_TAIL, AT_NEXT_UID, AT_UID_VALIDITY};
use super::{MapEntry, Record};

/// The number that Dovecot gives to the first log of an index.
const SEQUENCE: u32 = 2;

/// The log was written by a machine whose low bytes come first.
const LITTLE_ENDIAN: u32 = 1;

/// Whether messages have POP3 UIDLs (1) or orders (2) of their own is not known: Dovecot looks.
pub(crate) const POP3_UNKNOWN: u8 = 3;

/// Changes skipped where it cannot be known how many clients were told of.
pub(crate) const MODSEQ_GAP: u64 = 100_000;

/// A size takes four times seven bits, in words.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// A new extension is told by its name.
const BY_NAME: u32 = u32::MAX;

/// What a map holds for itself: the highest number of a file, and how often it was rebuilt.
const MAP_HEAD_BYTES: usize = 8;

/// The extension does not become smaller.
const NO_SHRINK: u16 = 1;

/// What a folder's log is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FolderState {
    /// The number of the index, not zero; another one than before, so that no cache is taken for its.
    pub(crate) index_id: u32,
    /// When the log was made, in seconds since 1970.
    pub(crate) created: u32,
    pub(crate) uid_validity: u32,
    /// Raised if a record has a higher UID.
    pub(crate) next_uid: u32,
    /// Mail from this UID on has been shown to nobody yet.
    pub(crate) first_recent_uid: u32,
    /// What clients were told last. Dovecot will tell more than that.
    pub(crate) highest_modseq: u64,
    /// The folder's GUID.
    pub(crate) mailbox_guid: [u8; 16],
    /// The UIDVALIDITY of the map (mdbox).
    pub(crate) map_uid_validity: u32,
    /// As [`Index::dbox_flags`](super::Index::dbox_flags), or [`POP3_UNKNOWN`].
    pub(crate) dbox_flags: u8,
    /// Names of keywords, in the order in which Dovecot is to show them; those that are not among them
    /// come last.
    pub(crate) keywords: Vec<Vec<u8>>,
    /// The messages, by rising UID. Offsets into a cache do not count.
    pub(crate) records: Vec<Record>,
}

/// Whose folder it is; a Maildir needs only [`write_modseq`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sdbox,
    Mdbox,
}

/// What a map's log is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapState {
    /// The number of the index, not zero.
    pub(crate) index_id: u32,
    /// When the log was made, in seconds since 1970.
    pub(crate) created: u32,
    /// Folders name it in their own logs.
    pub(crate) uid_validity: u32,
    /// Raised if an entry has a higher UID.
    pub(crate) next_uid: u32,
    /// Raised if an entry is in a higher file.
    pub(crate) highest_file_id: u32,
    /// The messages, by rising UID in the map.
    pub(crate) entries: Vec<(u32, MapEntry)>,
}

/// The bytes of `dovecot.index.log` for a folder.
pub(crate) fn write_folder(state: &FolderState, kind: Kind) -> Vec<u8> {
    let mut log = Writer::begin(state.index_id, state.created, state.highest_modseq);
    log.word(AT_UID_VALIDITY, state.uid_validity);
    match kind {
        Kind::Sdbox => log.head(b"dbox-hdr", &dbox_head(state, 0)),
        Kind::Mdbox => log.head(b"mdbox-hdr", &dbox_head(state, state.map_uid_validity)),
    }
    log.folder_records(&state.records, kind, &state.keywords);
    let last = state.records.last().map_or(0, |it| it.uid);
    let next_uid = state.next_uid.max(last.saturating_add(1));
    log.word(AT_NEXT_UID, next_uid);
    log.word(AT_FIRST_RECENT_UID, state.first_recent_uid.clamp(1, next_uid));
    log.end()
}

/// The bytes of a folder's log that goes on with more messages, as Dovecot itself goes on: all that
/// stands in it stays, offsets into a cache too. `log`: whole to its last byte. The UIDs of `more` rise,
/// from the next UID on.
pub(crate) fn extend_folder(log: Vec<u8>, more: &[Record], kind: Kind) -> Vec<u8> {
    let mut log = Writer { bytes: log };
    log.folder_records(more, kind, &[]);
    log.bytes
}

/// The bytes of a map's log that goes on with more messages. `log`: whole to its last byte.
pub(crate) fn extend_map(
    log: Vec<u8>,
    more: &[(u32, MapEntry)],
    highest_file_id: u32,
) -> Vec<u8> {
    let mut log = Writer { bytes: log };
    log.map_records(more, &highest_file_id.to_le_bytes());
    log.bytes
}

/// The bytes of `dovecot.index.log` for a folder of a Maildir, of which the list of UIDs is there:
/// Dovecot takes UIDs and flags from there, and only counts on.
pub(crate) fn write_modseq(index_id: u32, created: u32, highest_modseq: u64) -> Vec<u8> {
    Writer::begin(index_id, created, highest_modseq).end()
}

/// The bytes of `dovecot.map.index.log`.
pub(crate) fn write_map(state: &MapState) -> Vec<u8> {
    let mut log = Writer::begin(state.index_id, state.created, 1);
    let entries = || state.entries.iter();
    let highest = entries().map(|(_, entry)| entry.file_id).max().unwrap_or_default();
    let last = state.entries.last().map_or(0, |(uid, _)| *uid);
    log.word(AT_UID_VALIDITY, state.uid_validity);
    let head = [state.highest_file_id.max(highest), 0].map(u32::to_le_bytes).concat();
    log.map_records(&state.entries, &head);
    log.word(AT_NEXT_UID, state.next_uid.max(last.saturating_add(1)));
    log.end()
}

/// How often the folder was rebuilt, or the map that it goes with; its GUID; flags.
fn dbox_head(state: &FolderState, first: u32) -> Vec<u8> {
    let mut head = first.to_le_bytes().to_vec();
    head.extend_from_slice(&state.mailbox_guid);
    head.extend_from_slice(&[state.dbox_flags, 0, 0, 0]);
    head
}

/// How much an extension holds for each message, how it is aligned, and for the whole folder.
#[derive(Clone, Copy)]
struct Shape {
    size: u16,
    align: u16,
    head: usize,
}

/// A log while it is written.
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn begin(index_id: u32, created: u32, modseq: u64) -> Self {
        let [size_low, size_high] = u16::try_from(HEAD_BYTES).unwrap_or(0).to_le_bytes();
        let mut bytes = vec![MAJOR, MINOR, size_low, size_high];
        for number in [index_id, SEQUENCE, 0, 0, created] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&modseq.max(1).to_le_bytes());
        bytes.extend_from_slice(&LITTLE_ENDIAN.to_le_bytes());
        bytes.resize(HEAD_BYTES, 0);
        Self { bytes }
    }

    /// Says that there is nothing left to do up to here.
    fn end(mut self) -> Vec<u8> {
        let size = self.bytes.len() + RECORD_HEAD_BYTES + 8;
        self.word(AT_LOG_TAIL, u32::try_from(size).unwrap_or(u32::MAX));
        self.bytes
    }

    fn record(&mut self, kind: u32, body: &[u8]) {
        let size = (body.len() + RECORD_HEAD_BYTES).next_multiple_of(4);
        self.bytes.extend_from_slice(&offset(size));
        self.bytes.extend_from_slice(&(kind | EXTERNAL).to_le_bytes());
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A record, in as many as it takes, of `entries`.
    fn chunks(
        &mut self,
        kind: u32,
        prefix: &[u8],
        entries: impl Iterator<Item = Vec<u8>>,
    ) {
        let mut body = prefix.to_vec();
        for entry in entries {
            if body.len() + entry.len() > RECORD_BYTES_MAX {
                self.record(kind, &body);
                body.truncate(prefix.len());
            }
            body.extend_from_slice(&entry);
        }
        if body.len() > prefix.len() {
            self.record(kind, &body);
        }
    }

    /// A number in the head of the index.
    fn word(&mut self, at: usize, value: u32) {
        let at = u16::try_from(at).unwrap_or(u16::MAX);
        let place = [at.to_le_bytes(), 4_u16.to_le_bytes()].concat();
        self.record(HEADER_UPDATE, &[&*place, &value.to_le_bytes()].concat());
    }

    /// All that a folder says of messages. `keywords`: which of them come first.
    fn folder_records(&mut self, records: &[Record], kind: Kind, keywords: &[Vec<u8>]) {
        self.append(records.iter().map(|it| (it.uid, it.flags & CLIENT_FLAGS)));
        if kind == Kind::Mdbox {
            let mdbox = |it: &Record| {
                let words = [it.map_uid, it.save_date].map(Option::unwrap_or_default);
                (it.uid, words.map(u32::to_le_bytes).concat())
            };
            self.records(
                b"mdbox",
                Shape { size: 8, align: 4, head: 0 },
                records.iter().map(mdbox),
            );
            let guid = |it: &Record| Some((it.uid, it.guid?.to_vec()));
            let guids = records.iter().filter_map(guid);
            self.records(b"guid", Shape { size: 16, align: 1, head: 0 }, guids);
        }
        let mut words: BTreeMap<&[u8], Vec<u32>> = BTreeMap::new();
        for record in records {
            for word in &record.keywords {
                words.entry(word).or_default().push(record.uid);
            }
        }
        for word in keywords {
            if let Some(uids) = words.remove(&**word) {
                self.keyword(word, &uids);
            }
        }
        for (word, uids) in words {
            self.keyword(word, &uids);
        }
    }

    /// All that a map says of messages. `head`: the first bytes of what it holds for itself.
    fn map_records(&mut self, entries: &[(u32, MapEntry)], head: &[u8]) {
        let entries = || entries.iter();
        let shape = Shape { size: 12, align: 4, head: MAP_HEAD_BYTES };
        self.introduce(b"map", shape);
        self.patch_head(head);
        self.append(entries().map(|(uid, _)| (*uid, 0)));
        let place = |(uid, it): &(u32, MapEntry)| {
            (*uid, [it.file_id, it.offset, it.size].map(u32::to_le_bytes).concat())
        };
        self.records(b"map", shape, entries().map(place));
        let references =
            |(uid, it): &(u32, MapEntry)| (*uid, it.refcount.to_le_bytes().to_vec());
        let shape = Shape { size: 2, align: 2, head: 0 };
        self.records(b"ref", shape, entries().map(references));
    }

    fn append(&mut self, mails: impl Iterator<Item = (u32, u8)>) {
        let entry =
            |(uid, flags): (u32, u8)| [uid.to_le_bytes(), [flags, 0, 0, 0]].concat();
        self.chunks(APPEND, &[], mails.map(entry));
    }

    fn introduce(&mut self, name: &[u8], shape: Shape) {
        let head = u32::try_from(shape.head).unwrap_or(0);
        let name_size = u16::try_from(name.len()).unwrap_or(0);
        let mut body = [BY_NAME, 0, head].map(u32::to_le_bytes).concat();
        for number in [shape.size, shape.align, NO_SHRINK, name_size] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(name);
        self.record(EXT_INTRO, &body);
    }

    /// What an extension holds for the whole folder, and nothing for messages.
    fn head(&mut self, name: &[u8], data: &[u8]) {
        self.introduce(name, Shape { size: 0, align: 0, head: data.len() });
        self.patch_head(data);
    }

    fn patch_head(&mut self, data: &[u8]) {
        let size = u16::try_from(data.len()).unwrap_or(0).to_le_bytes();
        self.record(EXT_HEADER_UPDATE, &[&[0, 0], &size[..], data].concat());
    }

    /// What an extension holds for messages.
    fn records(
        &mut self,
        name: &[u8],
        shape: Shape,
        records: impl Iterator<Item = (u32, Vec<u8>)>,
    ) {
        let mut records = records.peekable();
        if records.peek().is_none() {
            return;
        }
        self.introduce(name, shape);
        let entry = |(uid, data): (u32, Vec<u8>)| {
            let mut entry = [&uid.to_le_bytes()[..], &data].concat();
            entry.resize(entry.len().next_multiple_of(4), 0);
            entry
        };
        self.chunks(EXT_RECORD_UPDATE, &[], records.map(entry));
    }

    /// Gives a keyword to messages, by ranges of UIDs.
    fn keyword(&mut self, name: &[u8], uids: &[u32]) {
        let Ok(size) = u16::try_from(name.len()) else { return };
        let mut prefix = [&[0, 0], &size.to_le_bytes()[..], name].concat();
        prefix.resize(prefix.len().next_multiple_of(4), 0);
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &uid in uids {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
                Some(_) | None => ranges.push((uid, uid)),
            }
        }
        let entry = |(first, last): (u32, u32)| {
            [first.to_le_bytes(), last.to_le_bytes()].concat()
        };
        self.chunks(KEYWORD_UPDATE, &prefix, ranges.into_iter().map(entry));
    }
}

/// Sizes are written in words, seven bits to a byte, each byte marked.
fn offset(size: usize) -> [u8; 4] {
    let words = size / 4;
    [21, 14, 7, 0].map(|shift| 0x80 | u8::try_from(words >> shift & 0x7f).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::{Index, Reading, Words, read};
    use super::*;
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;

    fn whole(log: &[u8]) -> Index {
        let Reading::Whole(index) = read(None, Some(log), None) else {
            panic!("not whole");
        };
        index
    }

    fn words() -> impl Strategy<Value = Words> {
        btree_set("[$a-c]{1,3}".prop_map(String::into_bytes), 0..4)
    }

    /// What a folder of dbox says of a message; zeros say nothing.
    fn record() -> impl Strategy<Value = Record> {
        (0_u8..32, words(), any::<[u32; 2]>(), any::<[u8; 16]>()).prop_map(
            |(flags, keywords, [map_uid, save_date], guid)| Record {
                flags,
                keywords,
                map_uid: Some(map_uid.max(1)),
                save_date: Some(save_date.max(1)),
                guid: Some(guid).filter(|guid| *guid != [0; 16]),
                ..Record::default()
            },
        )
    }

    fn folder() -> impl Strategy<Value = FolderState> {
        let records = btree_map(1..1_000_000_u32, record(), 0..40);
        (records, any::<[u8; 16]>(), 1..1_u64 << 40).prop_map(
            |(records, guid, modseq)| {
                let last = records.keys().next_back().copied().unwrap_or(0);
                FolderState {
                    index_id: 77,
                    created: 88,
                    uid_validity: 99,
                    next_uid: last + 7,
                    first_recent_uid: last + 1,
                    highest_modseq: modseq,
                    mailbox_guid: guid,
                    map_uid_validity: 111,
                    dbox_flags: 1,
                    keywords: Vec::new(),
                    records: records
                        .into_iter()
                        .map(|(uid, record)| Record { uid, ..record })
                        .collect(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_of_a_folder_is_read_again(state in folder()) {
            let index = whole(&write_folder(&state, Kind::Mdbox));

            prop_assert_eq!(index.uid_validity, state.uid_validity);
            prop_assert_eq!(index.next_uid, state.next_uid);
            prop_assert_eq!(index.first_recent_uid, state.first_recent_uid);
            prop_assert!(index.highest_modseq >= state.highest_modseq);
            prop_assert_eq!(index.map_uid_validity(), Some(state.map_uid_validity));
            prop_assert_eq!(index.dbox_flags(), Some(state.dbox_flags));
            let guid = Some(state.mailbox_guid).filter(|guid| *guid != [0; 16]);
            prop_assert_eq!(index.mailbox_guid(), guid);
            prop_assert_eq!(index.records().collect::<Vec<_>>(), state.records);
        }

        #[test]
        fn what_is_written_of_a_map_is_read_again(
            entries in btree_map(1..1_000_000_u32, (1..9_u32, any::<[u32; 2]>(), any::<u16>()), 0..40),
        ) {
            let entries = entries.into_iter().map(|(uid, (file_id, [offset, size], refcount))| {
                (uid, MapEntry { file_id, offset, size, refcount })
            });
            let entries: Vec<_> = entries.collect();
            let state = MapState {
                index_id: 77,
                created: 88,
                uid_validity: 99,
                next_uid: 2_000_000,
                highest_file_id: 9,
                entries: entries.clone(),
            };

            let index = whole(&write_map(&state));

            prop_assert_eq!(index.uid_validity, 99);
            prop_assert_eq!(index.next_uid, 2_000_000);
            prop_assert_eq!(index.highest_file_id(), Some(9));
            prop_assert_eq!(index.map_entries().collect::<Vec<_>>(), entries);
        }

        #[test]
        fn any_damage_to_a_log_can_be_read(
            state in folder(),
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut log = write_folder(&state, Kind::Mdbox);
            for (at, byte) in damage {
                let at = at.index(log.len());
                log[at] = byte;
            }
            let known = read(None, Some(&log), None).last_known();
            let _ = known.map(|index| index.records().count() + index.map_entries().count());
        }
    }

    #[test]
    fn many_messages_take_many_records_and_are_all_read_again() {
        let record = |uid| Record {
            uid,
            keywords: if uid % 2 == 0 {
                Words::from([b"even".to_vec()])
            } else {
                Words::new()
            },
            map_uid: Some(uid),
            save_date: Some(1),
            guid: Some([7; 16]),
            ..Record::default()
        };
        let state = FolderState {
            index_id: 1,
            created: 1,
            uid_validity: 1,
            next_uid: 1,
            first_recent_uid: 1,
            highest_modseq: 1,
            mailbox_guid: [1; 16],
            map_uid_validity: 1,
            dbox_flags: POP3_UNKNOWN,
            keywords: Vec::new(),
            records: (1..=90_000).map(record).collect(),
        };

        let index = whole(&write_folder(&state, Kind::Mdbox));

        assert!(index.records().eq(state.records));
        assert_eq!(index.next_uid, 90_001);
    }
}
