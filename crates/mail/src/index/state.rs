//! State: what an index and the records of its logs add up to.
//!
//! # Invariants
//!
//! * A record that Dovecot would refuse is refused, and nothing after the refused part counts.
//! * What an extension holds is kept only where somebody here reads it.
//! * The work is bounded: records that would touch too many messages in all are refused.

use std::collections::BTreeMap;

use super::log::{
    APPEND, EXPUNGE, EXPUNGE_GUID, EXT_ATOMIC_INC, EXT_HEADER_UPDATE,
    EXT_HEADER_UPDATE_LONG, EXT_INTRO, EXT_RECORD_UPDATE, EXT_RESET, FLAG_UPDATE,
    HEADER_UPDATE, KEYWORD_RESET, KEYWORD_UPDATE, KIND_MASK, LogRecord,
};
use super::words::{half, padded, size, word};

/// Bytes of the head of an index.
pub(super) const HEAD_BYTES: usize = 120;

/// Where the head has what is needed here.
pub(super) const AT_UID_VALIDITY: usize = 24;
pub(super) const AT_NEXT_UID: usize = 28;
pub(super) const AT_FIRST_RECENT_UID: usize = 48;
pub(super) const AT_LOG_TAIL: usize = 64;

/// UIDs of one folder that are counted, as many as entries of a Maildir; more are an attack or an
/// accident.
pub(super) const UIDS_MAX: usize = 2_000_000;

/// Messages that all records of a log may touch together: a large folder fifty times over, and
/// about a second of work.
const TOUCHES_MAX: usize = 100_000_000;

/// Dovecot itself knows about a dozen and a half.
const EXTENSIONS_MAX: usize = 256;

/// As Dovecot bounds the data that an extension keeps for the whole folder.
const EXTENSION_HEAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Dovecot refuses names longer than this.
const EXTENSION_NAME_BYTES_MAX: usize = 64;

/// Keywords are bits of every record; no client has so many names.
pub(super) const KEYWORDS_MAX: usize = 4096;

/// The record takes a keyword away instead of giving it.
const KEYWORD_REMOVED: u8 = 1;

/// The name of the extension that holds keywords.
pub(super) const KEYWORDS: &[u8] = b"keywords";

/// The number of an extension that is given by name.
const BY_NAME: u32 = u32::MAX;

/// Bytes of the words before the name in an introduction of an extension.
const INTRO_BYTES: usize = 20;

/// The extension does not become smaller.
const NO_SHRINK: u16 = 1;

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) head: [u8; HEAD_BYTES],
    pub(super) mails: BTreeMap<u32, Mail>,
    pub(super) extensions: Vec<Extension>,
    /// Names of keywords in the order of their bits; nothing if they could not be read.
    pub(super) words: Option<Vec<Vec<u8>>>,
    current: Current,
    touches: usize,
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mail {
    pub(super) flags: u8,
    /// Numbers of keywords, in order.
    pub(super) words: Vec<u16>,
    pub(super) cache: [u8; 4],
    pub(super) mdbox: [u8; 8],
    pub(super) guid: [u8; 16],
    /// What only maps and lists of folders have.
    pub(super) rare: Option<Box<Rare>>,
}

/// What a map says of a message, or a list of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rare {
    pub(super) map: [u8; 12],
    pub(super) references: [u8; 2],
    pub(super) list: [u8; 28],
    pub(super) status: [u8; 16],
}

/// Something that an index holds beside flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) name: Vec<u8>,
    pub(super) reset_id: u32,
    /// What it holds for the whole folder.
    pub(super) head: Vec<u8>,
    pub(super) slot: Option<Slot>,
}

/// Where an extension's data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Cache,
    Mdbox,
    Guid,
    Map,
    References,
    List,
    Status,
}

/// The extension that records are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    None,
    /// It was reset since: only another reset counts.
    Stale(usize),
    Open {
        extension: usize,
        record_size: usize,
    },
}

impl State {
    pub(super) fn new() -> Self {
        let mut state = Self {
            head: [0; HEAD_BYTES],
            mails: BTreeMap::new(),
            extensions: Vec::new(),
            words: Some(Vec::new()),
            current: Current::None,
            touches: 0,
        };
        for at in [AT_NEXT_UID, AT_FIRST_RECENT_UID] {
            state.set_head(at, &1_u32.to_le_bytes());
        }
        state
    }

    pub(super) fn head_word(&self, at: usize) -> u32 {
        word(&self.head, at).unwrap_or_default()
    }

    pub(super) fn extension(&self, name: &[u8]) -> Option<&Extension> {
        self.extensions.iter().find(|it| it.name == name)
    }

    /// Applies one record; nothing if Dovecot would refuse it.
    pub(super) fn apply(&mut self, record: &LogRecord<'_>) -> Option<()> {
        let body = record.body;
        match record.kind & KIND_MASK {
            APPEND => self.append(body)?,
            // Without the mark it is a wish, which nobody has granted yet.
            EXPUNGE if record.is_external() => {
                for range in body.chunks_exact(8) {
                    self.expunge(word(range, 0)?, word(range, 4)?)?;
                }
            }
            EXPUNGE_GUID if record.is_external() => {
                for gone in body.chunks_exact(20) {
                    let uid = word(gone, 0)?;
                    self.expunge(uid, uid)?;
                }
            }
            FLAG_UPDATE => self.update_flags(body)?,
            KEYWORD_UPDATE => self.update_keywords(body)?,
            KEYWORD_RESET => {
                for range in body.chunks_exact(8) {
                    let range = (word(range, 0)?, word(range, 4)?);
                    self.touch(range, |mail| mail.words.clear())?;
                }
            }
            HEADER_UPDATE => self.update_head(body)?,
            EXT_INTRO => self.introduce(body)?,
            EXT_RESET => self.reset(body)?,
            EXT_HEADER_UPDATE => self.update_extension_head(body, 2)?,
            EXT_HEADER_UPDATE_LONG => self.update_extension_head(body, 4)?,
            EXT_RECORD_UPDATE => self.update_records(body)?,
            EXT_ATOMIC_INC => self.count(body)?,
            _ => {}
        }
        Some(())
    }

    /// Changes the messages of a range of UIDs, and counts them.
    fn touch(
        &mut self,
        (first, last): (u32, u32),
        change: impl Fn(&mut Mail),
    ) -> Option<()> {
        for (_, mail) in self.mails.range_mut(first..=last.max(first)) {
            self.touches += 1;
            change(mail);
        }
        self.touches += 1;
        (self.touches <= TOUCHES_MAX).then_some(())
    }

    fn append(&mut self, body: &[u8]) -> Option<()> {
        for record in body.chunks_exact(8) {
            let uid = word(record, 0)?;
            // UIDs only rise, and none is given twice.
            if uid == 0 || uid < self.head_word(AT_NEXT_UID) {
                return None;
            }
            let (flags, next_uid) = (*record.get(4)?, uid.checked_add(1)?);
            self.mails.insert(uid, Mail { flags, ..Mail::default() });
            self.set_head(AT_NEXT_UID, &next_uid.to_le_bytes());
        }
        (self.mails.len() <= UIDS_MAX).then_some(())
    }

    fn expunge(&mut self, first: u32, last: u32) -> Option<()> {
        self.touch((first, last), |_| ())?;
        let gone: Vec<u32> =
            self.mails.range(first..=last.max(first)).map(|(uid, _)| *uid).collect();
        for uid in gone {
            self.mails.remove(&uid);
        }
        Some(())
    }

    fn update_flags(&mut self, body: &[u8]) -> Option<()> {
        for update in body.chunks_exact(12) {
            let range = (word(update, 0)?, word(update, 4)?);
            let (add, remove) = (*update.get(8)?, *update.get(9)?);
            self.touch(range, |mail| mail.flags = mail.flags & !remove | add)?;
        }
        Some(())
    }

    /// Whether added or removed, the length of the name, the name, and ranges of UIDs.
    fn update_keywords(&mut self, body: &[u8]) -> Option<()> {
        let added = *body.first()? != KEYWORD_REMOVED;
        let size = usize::from(half(body, 2)?);
        let name = body.get(4..size + 4).filter(|name| !name.is_empty())?;
        let ranges = body.get((size + 4).next_multiple_of(4)..)?;
        if self.extension(KEYWORDS).is_none() {
            self.add_extension(Extension::new(KEYWORDS))?;
        }
        let Some(words) = &mut self.words else { return Some(()) };
        let known = words.iter().position(|word| word == name);
        let number = u16::try_from(known.unwrap_or(words.len())).ok()?;
        if known.is_none() {
            words.push(name.to_vec());
        }
        (words.len() <= KEYWORDS_MAX).then_some(())?;
        for range in ranges.chunks_exact(8) {
            let range = (word(range, 0)?, word(range, 4)?);
            self.touch(range, |mail| mail.set_word(number, added))?;
        }
        Some(())
    }

    /// Patches of the head: where, how much, and the bytes, in words.
    fn update_head(&mut self, mut body: &[u8]) -> Option<()> {
        let (uid_validity, next_uid) =
            (self.head_word(AT_UID_VALIDITY), self.head_word(AT_NEXT_UID));
        while !body.is_empty() {
            let (at, size) = (usize::from(half(body, 0)?), usize::from(half(body, 2)?));
            self.set_head(at, body.get(4..size + 4)?);
            body = body.get((size + 4).next_multiple_of(4)..).unwrap_or_default();
        }
        // UIDs are not given again, unless the folder begins anew.
        let same = self.head_word(AT_UID_VALIDITY) == uid_validity;
        if same && self.head_word(AT_NEXT_UID) < next_uid {
            self.set_head(AT_NEXT_UID, &next_uid.to_le_bytes());
        }
        Some(())
    }

    fn set_head(&mut self, at: usize, patch: &[u8]) {
        if let Some(place) = self.head.get_mut(at..at + patch.len()) {
            place.copy_from_slice(patch);
        }
    }

    pub(super) fn add_extension(&mut self, extension: Extension) -> Option<usize> {
        self.extensions.push(extension);
        (self.extensions.len() <= EXTENSIONS_MAX).then_some(self.extensions.len() - 1)
    }

    /// Says which extension the next records are about.
    fn introduce(&mut self, body: &[u8]) -> Option<()> {
        let (number, reset_id, head_size) =
            (word(body, 0)?, word(body, 4)?, size(body, 8)?);
        let record_size = usize::from(half(body, 12)?);
        let keeps_size = half(body, 16)? & NO_SHRINK != 0;
        let name = body.get(INTRO_BYTES..INTRO_BYTES + usize::from(half(body, 18)?))?;
        if head_size > EXTENSION_HEAD_BYTES_MAX || name.len() > EXTENSION_NAME_BYTES_MAX {
            return None;
        }
        let known = if number == BY_NAME {
            if name.is_empty() {
                return None;
            }
            self.extensions.iter().position(|it| it.name == name)
        } else {
            Some(usize::try_from(number).ok()?)
        };
        let index = match known {
            Some(index) => index,
            None => {
                let extension = Extension { reset_id, ..Extension::new(name) };
                self.add_extension(extension)?
            }
        };
        let extension = self.extensions.get_mut(index)?;
        if extension.reset_id != reset_id {
            self.current = Current::Stale(index);
            return Some(());
        }
        let shrinks = head_size.next_multiple_of(8) < extension.head.len();
        if !(shrinks && keeps_size) {
            extension.head.resize(head_size, 0);
        }
        self.current = Current::Open { extension: index, record_size };
        Some(())
    }

    fn reset(&mut self, body: &[u8]) -> Option<()> {
        let (reset_id, preserves) = (word(body, 0)?, *body.get(4)? != 0);
        let (Current::Stale(index) | Current::Open { extension: index, .. }) =
            self.current
        else {
            return None;
        };
        let extension = self.extensions.get_mut(index)?;
        extension.reset_id = reset_id;
        if preserves {
            return Some(());
        }
        extension.head.fill(0);
        let slot = extension.slot;
        self.touch((0, u32::MAX), |mail| {
            if let Some(place) = slot.and_then(|slot| mail.place(slot)) {
                place.fill(0);
            }
        })
    }

    /// Patches of an extension's head: where and how much in `width` bytes each, and the bytes.
    fn update_extension_head(&mut self, mut body: &[u8], width: usize) -> Option<()> {
        let index = match self.current {
            Current::None => return None,
            Current::Stale(_) => return Some(()),
            Current::Open { extension, .. } => extension,
        };
        let head = &mut self.extensions.get_mut(index)?.head;
        let number = |body: &[u8], at| match width {
            2 => half(body, at).map(usize::from),
            _ => size(body, at),
        };
        while !body.is_empty() {
            let (at, size) = (number(body, 0)?, number(body, width)?);
            let end = size.checked_add(2 * width)?;
            let patch = body.get(2 * width..end)?;
            head.get_mut(at..at.checked_add(size)?)?.copy_from_slice(patch);
            body = body.get(end.checked_next_multiple_of(4)?..).unwrap_or_default();
        }
        Some(())
    }

    fn update_records(&mut self, body: &[u8]) -> Option<()> {
        let (index, record_size) = match self.current {
            Current::None => return None,
            Current::Stale(_) => return Some(()),
            Current::Open { extension, record_size } => (extension, record_size),
        };
        let slot = self.extensions.get(index)?.slot;
        for update in body.chunks_exact((record_size + 4).next_multiple_of(4)) {
            let uid = word(update, 0)?;
            if uid == 0 || uid >= self.head_word(AT_NEXT_UID) {
                return None;
            }
            let data = update.get(4..record_size + 4)?;
            if let Some(slot) = slot {
                self.touch((uid, uid), |mail| mail.set(slot, data))?;
            }
        }
        Some(())
    }

    /// Adds to numbers; only numbers of references are read here.
    fn count(&mut self, body: &[u8]) -> Option<()> {
        let index = match self.current {
            Current::None => return None,
            Current::Stale(_) => return Some(()),
            Current::Open { extension, .. } => extension,
        };
        if self.extensions.get(index)?.slot != Some(Slot::References) {
            return Some(());
        }
        for change in body.chunks_exact(8) {
            let (uid, difference) = (word(change, 0)?, word(change, 4)?.cast_signed());
            let Some(mail) = self.mails.get_mut(&uid) else { continue };
            let rare = mail.rare.get_or_insert_default();
            let before = i32::from(u16::from_le_bytes(rare.references));
            let after = u16::try_from(before.checked_add(difference)?).ok()?;
            rare.references = after.to_le_bytes();
        }
        Some(())
    }
}

impl Extension {
    pub(super) fn new(name: &[u8]) -> Self {
        let slot = match name {
            b"cache" => Some(Slot::Cache),
            b"mdbox" => Some(Slot::Mdbox),
            b"guid" => Some(Slot::Guid),
            b"map" => Some(Slot::Map),
            b"ref" => Some(Slot::References),
            b"list" => Some(Slot::List),
            b"msgs" => Some(Slot::Status),
            _ => None,
        };
        Self { name: name.to_vec(), reset_id: 0, head: Vec::new(), slot }
    }
}

impl Slot {
    fn is_rare(self) -> bool {
        match self {
            Self::Cache | Self::Mdbox | Self::Guid => false,
            Self::Map | Self::References | Self::List | Self::Status => true,
        }
    }
}

impl Mail {
    /// Keeps what an extension holds for this message, as far as its place goes.
    pub(super) fn set(&mut self, slot: Slot, data: &[u8]) {
        let data: [u8; 28] = padded(data);
        if slot.is_rare() {
            self.rare.get_or_insert_default();
        }
        for (to, from) in self.place(slot).into_iter().flatten().zip(data) {
            *to = from;
        }
    }

    fn place(&mut self, slot: Slot) -> Option<&mut [u8]> {
        let rare = self.rare.as_deref_mut();
        match slot {
            Slot::Cache => Some(&mut self.cache),
            Slot::Mdbox => Some(&mut self.mdbox),
            Slot::Guid => Some(&mut self.guid),
            Slot::Map => rare.map(|rare| &mut rare.map[..]),
            Slot::References => rare.map(|rare| &mut rare.references[..]),
            Slot::List => rare.map(|rare| &mut rare.list[..]),
            Slot::Status => rare.map(|rare| &mut rare.status[..]),
        }
    }

    fn set_word(&mut self, number: u16, is_set: bool) {
        match (self.words.binary_search(&number), is_set) {
            (Err(at), true) => self.words.insert(at, number),
            (Ok(at), false) => drop(self.words.remove(at)),
            (Ok(_), true) | (Err(_), false) => {}
        }
    }
}
