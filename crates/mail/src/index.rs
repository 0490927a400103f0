//! Index: what `dovecot.index` and its transaction logs tell of a folder, and such a log written anew.
//!
//! All of them are Dovecot's own. They are read for evidence: which UIDs the folder held last, and
//! with which flags; in dbox also which message each of them is, and where.
//!
//! # Invariants
//!
//! * They are never brought back from a snapshot, and never patched: where one is needed that Dovecot
//!   accepts, a log is written anew, with nothing before it. Only mail that came during a dial tone is
//!   added at the end of a whole one, in a copy.
//! * What does not fit together to the last byte is no index: Dovecot refuses a folder whose log ends
//!   inside a record. What its sound beginning says can still be read, and is marked as such.
//! * Any bytes can be read, in bounded memory and time.

mod base;
pub(crate) mod cache;
pub(crate) mod folders;
mod fresh;
mod log;
#[cfg(test)]
mod proof;
mod state;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use base::Base;
pub(crate) use folders::ListedFolder;
pub(crate) use fresh::{
    FolderState, Kind, MODSEQ_GAP, MapState, POP3_UNKNOWN, extend_folder, extend_map,
    write_folder, write_map, write_modseq,
};
use log::Log;
use state::{
    AT_FIRST_RECENT_UID, AT_NEXT_UID, AT_UID_VALIDITY, Extension, Mail, Rare, State,
};
use words::{array, half, long, word};

/// Changes that a folder can have had; a higher count is damage, and clients take only 63 bits.
const MODSEQ_MAX: u64 = 1 << 48;

/// Names of keywords.
pub(crate) type Words = BTreeSet<Vec<u8>>;

/// What a folder held when its index was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "Dovecot calls that number so")]
pub(crate) struct Index {
    pub(crate) uid_validity: u32,
    pub(crate) next_uid: u32,
    /// Mail from this UID on has been shown to nobody yet.
    pub(crate) first_recent_uid: u32,
    /// What clients were told last (RFC 7162); zero if Dovecot has not counted, or cannot have.
    pub(crate) highest_modseq: u64,
    /// The number that index, logs and cache have in common.
    pub(crate) index_id: u32,
    mails: BTreeMap<u32, Mail>,
    extensions: Vec<Extension>,
    /// Names of keywords by number, if the index could be read so far.
    words: Option<Vec<Vec<u8>>>,
}

/// What an index says of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) uid: u32,
    /// As bits: 1 answered, 2 flagged, 4 deleted, 8 seen, 16 draft; above them Dovecot's own.
    pub(crate) flags: u8,
    /// Names of its keywords; none if they cannot be read.
    pub(crate) keywords: Words,
    /// The message's UID in the map (mdbox).
    pub(crate) map_uid: Option<u32>,
    /// When it came into this folder, in seconds since 1970 (mdbox).
    pub(crate) save_date: Option<u32>,
    /// The message's GUID (mdbox).
    pub(crate) guid: Option<[u8; 16]>,
    /// Where `dovecot.index.cache` begins to speak of it.
    pub(crate) cache_offset: Option<u32>,
}

/// Where a map says that a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapEntry {
    /// The number in the name of the file, `m.<file_id>`.
    pub(crate) file_id: u32,
    /// Where its head begins there.
    pub(crate) offset: u32,
    /// Bytes from its head to the end of its metadata.
    pub(crate) size: u32,
    /// Folders that hold it; with none, a purge takes it away.
    pub(crate) refcount: u16,
}

/// The flags and keywords that a message had last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastFlags {
    /// As letters of a Maildir name.
    pub(crate) letters: Vec<u8>,
    /// Names, if the index could be read so far.
    pub(crate) keywords: Option<Words>,
}

/// What became of reading the files of one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There is nothing to be read, or not enough.
    Silent,
    /// All fit together.
    Whole(Index),
    /// The log that goes on from the index is gone or belongs to another one: what the index says
    /// was true once.
    Stale(Index),
    /// Dovecot would refuse the folder.
    Broken(Broken),
}

/// Files that Dovecot would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// What the sound beginning says; the folder has changed since.
    pub(crate) before: Option<Index>,
    pub(crate) file: IndexFile,
    /// The first byte of the file that cannot be read.
    pub(crate) offset: usize,
}

/// A file of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexFile {
    /// `dovecot.index`.
    Index,
    /// `dovecot.index.log`.
    Log,
    /// `dovecot.index.log.2`, which the log continues.
    OlderLog,
}

/// Reads `dovecot.index`, `dovecot.index.log` and `dovecot.index.log.2` as far as they are there.
///
/// Maps (`dovecot.map.index`) and lists of folders (`dovecot.list.index`) are indexes as well.
pub(crate) fn read(
    index: Option<&[u8]>,
    log: Option<&[u8]>,
    older_log: Option<&[u8]>,
) -> Reading {
    let parsed = index.map(Base::parse);
    let is_foreign =
        index.is_some_and(|bytes| bytes.first().is_some_and(|it| *it != base::MAJOR));
    let base = if is_foreign { None } else { parsed.flatten() };
    let Some(bytes) = log else {
        return base.map_or(Reading::Silent, |base| Reading::Stale(base.into_index(0)));
    };
    let older = older_log.and_then(Log::parse).filter(|it| it.head.major == log::MAJOR);
    let Some(log) = Log::parse(bytes) else {
        let before = Chain { base, older, log: None }.replay().map(|it| it.index);
        return Reading::broken(before, IndexFile::Log, 0);
    };
    if log.head.major != log::MAJOR || is_foreign {
        return Reading::Silent;
    }
    let index_is_broken = index.is_some() && base.is_none();
    let log_is_sound = log.is_sound;
    let (end, chain) = (log.end, Chain { base, older, log: Some(log) });
    let Some(told) = chain.replay() else {
        return match index_is_broken {
            true => Reading::broken(None, IndexFile::Index, 0),
            false if log_is_sound => Reading::Silent,
            false => Reading::broken(None, IndexFile::Log, end),
        };
    };
    match told.stop {
        _ if index_is_broken => Reading::broken(Some(told.index), IndexFile::Index, 0),
        Stop::At(file, offset) => Reading::broken(Some(told.index), file, offset),
        Stop::Stranger => Reading::Stale(told.index),
        Stop::End => Reading::Whole(told.index),
    }
}

impl Reading {
    fn broken(before: Option<Index>, file: IndexFile, offset: usize) -> Self {
        Self::Broken(Broken { before, file, offset })
    }

    /// Whether Dovecot would refuse the folder.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Broken(_))
    }

    /// The evidence, if there is any that counts in this UIDVALIDITY.
    pub(crate) fn evidence(self, uid_validity: u32) -> Option<Index> {
        match self {
            Self::Whole(index) if index.uid_validity == uid_validity => Some(index),
            Self::Whole(_) | Self::Stale(_) | Self::Silent | Self::Broken(_) => None,
        }
    }

    /// Whatever is known, though the folder may have changed since.
    pub(crate) fn last_known(self) -> Option<Index> {
        match self {
            Self::Whole(index) | Self::Stale(index) => Some(index),
            Self::Broken(broken) => broken.before,
            Self::Silent => None,
        }
    }
}

impl Index {
    /// Whether the folder held this UID; nothing if it was never given.
    pub(crate) fn holds(&self, uid: u32) -> Option<bool> {
        (uid < self.next_uid).then(|| self.mails.contains_key(&uid))
    }

    /// The flags and keywords of a UID that is there.
    pub(crate) fn last_flags(&self, uid: u32) -> Option<LastFlags> {
        let mail = self.mails.get(&uid)?;
        let letters = [(16, b'D'), (2, b'F'), (1, b'R'), (8, b'S'), (4, b'T')];
        let set = letters.into_iter().filter(|(bit, _)| mail.flags & bit != 0);
        let letters = set.map(|(_, letter)| letter).collect();
        let keywords = self.words.as_ref().map(|words| named(mail, words));
        Some(LastFlags { letters, keywords })
    }

    /// The messages that are there, by UID.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.mails.iter().map(|(uid, mail)| self.record(*uid, mail))
    }

    /// One message, if it is there.
    pub(crate) fn get(&self, uid: u32) -> Option<Record> {
        Some(self.record(uid, self.mails.get(&uid)?))
    }

    /// How many messages are there.
    pub(crate) fn len(&self) -> usize {
        self.mails.len()
    }

    fn record(&self, uid: u32, mail: &Mail) -> Record {
        let some = |number: u32| (number != 0).then_some(number);
        Record {
            uid,
            flags: mail.flags,
            keywords: named(mail, self.keyword_names()),
            map_uid: word(&mail.mdbox, 0).and_then(some),
            save_date: word(&mail.mdbox, 4).and_then(some),
            guid: (mail.guid != [0; 16]).then_some(mail.guid),
            cache_offset: word(&mail.cache, 0).and_then(some),
        }
    }

    /// The names of all keywords that the folder has had, in Dovecot's order; none if they cannot be
    /// read.
    pub(crate) fn keyword_names(&self) -> &[Vec<u8>] {
        self.words.as_deref().unwrap_or_default()
    }

    /// The folder's GUID, which dbox keeps only here.
    pub(crate) fn mailbox_guid(&self) -> Option<[u8; 16]> {
        let guid = array(self.dbox_head()?, 4)?;
        (guid != [0; 16]).then_some(guid)
    }

    /// The UIDVALIDITY of the map that this folder goes with (mdbox).
    pub(crate) fn map_uid_validity(&self) -> Option<u32> {
        word(self.head(b"mdbox-hdr")?, 0).filter(|it| *it != 0)
    }

    /// Whether messages may have a POP3 UIDL (1) or order (2) of their own, as bits (dbox).
    pub(crate) fn dbox_flags(&self) -> Option<u8> {
        self.dbox_head()?.get(20).copied()
    }

    /// The `dovecot.index.cache` that offsets into it are for, by its sequence.
    pub(crate) fn cache_sequence(&self) -> Option<u32> {
        self.extension(b"cache").map(|it| it.reset_id)
    }

    /// Where the map says that a message is, by its UID in the map.
    pub(crate) fn map_entry(&self, map_uid: u32) -> Option<MapEntry> {
        let rare = self.mails.get(&map_uid)?.rare.as_deref()?;
        let entry = MapEntry {
            file_id: word(&rare.map, 0)?,
            offset: word(&rare.map, 4)?,
            size: word(&rare.map, 8)?,
            refcount: half(&rare.references, 0)?,
        };
        (entry.file_id != 0).then_some(entry)
    }

    /// All of a map, by UID in the map.
    pub(crate) fn map_entries(&self) -> impl Iterator<Item = (u32, MapEntry)> + '_ {
        self.mails.keys().filter_map(|uid| Some((*uid, self.map_entry(*uid)?)))
    }

    /// The highest number of a file that the map has given.
    pub(crate) fn highest_file_id(&self) -> Option<u32> {
        word(self.head(b"map")?, 0)
    }

    fn dbox_head(&self) -> Option<&[u8]> {
        self.head(b"dbox-hdr").or_else(|| self.head(b"mdbox-hdr"))
    }

    fn head(&self, name: &[u8]) -> Option<&[u8]> {
        self.extension(name).map(|it| &*it.head)
    }

    fn extension(&self, name: &[u8]) -> Option<&Extension> {
        self.extensions.iter().find(|it| it.name == name)
    }
}

fn named(mail: &Mail, words: &[Vec<u8>]) -> Words {
    let numbers = mail.words.iter();
    numbers.filter_map(|number| words.get(usize::from(*number)).cloned()).collect()
}

impl Base {
    fn into_index(self, highest_modseq: u64) -> Index {
        index(self.state, self.index_id, highest_modseq)
    }
}

fn index(state: State, index_id: u32, highest_modseq: u64) -> Index {
    let last = state.mails.last_key_value().map_or(0, |(uid, _)| *uid);
    let modseq = state.extension(b"modseq").and_then(|it| long(&it.head, 0));
    Index {
        uid_validity: state.head_word(AT_UID_VALIDITY),
        next_uid: state.head_word(AT_NEXT_UID).max(last.saturating_add(1)),
        first_recent_uid: state.head_word(AT_FIRST_RECENT_UID),
        highest_modseq: [highest_modseq, modseq.unwrap_or_default()]
            .into_iter()
            .filter(|modseq| *modseq <= MODSEQ_MAX)
            .max()
            .unwrap_or_default(),
        index_id,
        mails: state.mails,
        extensions: state.extensions,
        words: state.words,
    }
}

/// The files of an index, as far as each can be read.
struct Chain<'a> {
    base: Option<Base>,
    older: Option<Log<'a>>,
    log: Option<Log<'a>>,
}

/// What they add up to.
struct Told {
    index: Index,
    stop: Stop,
}

/// Why it is not more.
enum Stop {
    /// It is all.
    End,
    /// The log does not go on from here.
    Stranger,
    /// Something cannot be read.
    At(IndexFile, usize),
}

impl Chain<'_> {
    /// Goes through the logs from where the index stands, or else from the beginning.
    fn replay(self) -> Option<Told> {
        let Self { base, older, log } = self;
        let index_id = match (&base, &log, &older) {
            (Some(base), _, _) => base.index_id,
            (None, Some(log), _) | (None, None, Some(log)) => log.head.index_id,
            (None, None, None) => return None,
        };
        let logs = [(IndexFile::OlderLog, &older), (IndexFile::Log, &log)];
        let logs = logs.map(|(file, log)| {
            let log = log.as_ref().filter(|log| log.head.index_id == index_id);
            (file, log)
        });
        // Where the story begins that is told so far.
        let mut position = base.as_ref().map(|base| (base.log_sequence, base.log_offset));
        let mut state = base.map_or_else(State::new, |base| base.state);
        let (mut modseq, mut stop) = (0, Stop::Stranger);
        for (file, log) in logs {
            let from = log.and_then(|log| start(position, log));
            let Some((log, from)) = log.zip(from) else {
                stop = Stop::Stranger;
                continue;
            };
            modseq = log.highest_modseq();
            let refused =
                log.records.iter().find(|it| it.at >= from && state.apply(it).is_none());
            stop = match refused {
                Some(record) => Stop::At(file, record.at),
                None if from > log.end || !log.is_sound => Stop::At(file, log.end),
                None => Stop::End,
            };
            if matches!(stop, Stop::At(..)) {
                break;
            }
            position = Some((log.head.sequence, log.end));
        }
        let is_told = position.is_some() || matches!(stop, Stop::At(..));
        is_told.then(|| Told { index: index(state, index_id, modseq), stop })
    }
}

/// Where to go on in a log, if it is the one to go on with.
fn start(position: Option<(u32, usize)>, log: &Log<'_>) -> Option<usize> {
    match position {
        None => (log.head.previous == 0).then_some(log.head.size),
        Some((sequence, offset)) if sequence == log.head.sequence => Some(offset),
        Some(position) => {
            let continues = position == (log.head.previous, log.head.previous_end);
            continues.then_some(log.head.size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::log::{
        APPEND, EXPUNGE, EXTERNAL, FLAG_UPDATE, HEADER_UPDATE, KEYWORD_UPDATE, MAJOR,
        RECORD_HEAD_BYTES,
    };
    use super::state::HEAD_BYTES as INDEX_HEAD_BYTES;
    use super::*;
    use proptest::prelude::*;

    const VALIDITY: u32 = 1_795_293_977;

    fn of(index: Option<&[u8]>, log: Option<&[u8]>) -> Reading {
        read(index, log, None)
    }

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
            [&[MAJOR, 3, 24, 0], &words(&[77, 2, 0, 0, 0])[..]].concat(),
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
        let first = u32::from(base::MAJOR) | 120 << 16;
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
        of(index, Some(log)).evidence(VALIDITY).unwrap()
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

        assert!(of(None, Some(&log[..log.len() - 4])).is_broken());
        assert!(of(None, Some(&[0; 99])).is_broken());
        assert!(of(Some(&index(end + 4)), Some(&log)).is_broken());
        assert!(of(Some(&index(end)[..190]), Some(&log)).is_broken());
    }

    #[test]
    fn files_that_do_not_belong_together_and_other_validities_say_nothing() {
        let log = log();
        let mut other = index(0);
        other[16] = 78;

        assert!(matches!(of(Some(&other), Some(&log)), Reading::Stale(_)));
        assert_eq!(of(Some(&other), Some(&log)).evidence(VALIDITY), None);
        assert_eq!(of(None, None), Reading::Silent);
        assert_eq!(of(None, Some(&log)).evidence(VALIDITY + 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(index: Vec<u8>, log: Vec<u8>) {
            let _ = of(Some(&index), Some(&log));
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
            let _ = of(Some(&index), Some(&log));
        }
    }
}
