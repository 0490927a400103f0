//! Known: what the index of a folder, or of the map, tells on one side.
//!
//! # Invariants
//!
//! * A log that tells all by itself is believed, whatever stands beside it: files of another index
//!   are left from before it, and are moved away.

use crate::dbox::desk::Desk;
use crate::dbox::survey::Files;
use crate::index::{self, Index, ListedFolder, Reading};
use crate::merge::Listing;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::walk::{Meta, join};

/// The names that the files of an index begin with.
pub(crate) const FOLDER: &[u8] = b"dovecot.index";
pub(crate) const MAP: &[u8] = b"dovecot.map.index";

/// Where each kind of file has the number of its index.
const AT_ID_INDEX: usize = 16;
const AT_ID_LOG: usize = 4;
const AT_ID_CACHE: usize = 4;

/// How much an index tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trust {
    /// There is none, or nothing of it can be read.
    Nothing,
    /// What was true once.
    Once,
    /// Everything.
    Whole,
}

/// What an index tells.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) trust: Trust,
    pub(crate) index: Option<Index>,
    /// What the mail server's list of folders says of it.
    pub(crate) listed: Option<ListedFolder>,
    /// Its files were there and cannot be read to their end.
    pub(crate) damaged: bool,
    /// Files that belong to another index.
    pub(crate) stale: Vec<(Vec<u8>, Meta)>,
}

impl Known {
    /// Of a folder or map that is not there.
    pub(crate) fn nothing() -> Self {
        let (trust, stale) = (Trust::Nothing, Vec::new());
        Self { trust, index: None, listed: None, damaged: false, stale }
    }

    /// Reads the index of which the files begin with `prefix`, in the directory `dir`.
    pub(crate) fn read(
        desk: &mut Desk<'_, '_>,
        side: Side,
        (dir, prefix): (&[u8], &[u8]),
        files: &Files,
    ) -> Result<Self, Refusal> {
        let mut file = |end: &[u8]| {
            let name = [prefix, end].concat();
            desk.bench.control(side, &join(dir, &name), files.control.get(&name))
        };
        let (index, log, older) = (file(b"")?, file(b".log")?, file(b".log.2")?);
        let cache = file(b".cache")?;
        let mut reading = index::read(index.as_deref(), log.as_deref(), older.as_deref());
        if !matches!(reading, Reading::Whole(_)) {
            let alone = index::read(None, log.as_deref(), None);
            if matches!(alone, Reading::Whole(_)) {
                reading = alone;
            }
        }
        let trust = match &reading {
            Reading::Whole(index) if index.uid_validity != 0 => Trust::Whole,
            Reading::Stale(_) => Trust::Once,
            Reading::Broken(broken) if broken.before.is_some() => Trust::Once,
            Reading::Whole(_) | Reading::Silent | Reading::Broken(_) => Trust::Nothing,
        };
        let there = index.is_some() || log.is_some();
        let damaged = there && trust != Trust::Whole;
        let known = reading.last_known().filter(|index| index.uid_validity != 0);
        let trust = if known.is_some() { trust } else { Trust::Nothing };
        let mut stale = Vec::new();
        if let Some(known) = known.as_ref().filter(|_| trust == Trust::Whole) {
            for (end, bytes, at) in [
                (&b""[..], &index, AT_ID_INDEX),
                (b".log.2", &older, AT_ID_LOG),
                (b".cache", &cache, AT_ID_CACHE),
            ] {
                let name = [prefix, end].concat();
                let id = bytes.as_ref().and_then(|bytes| {
                    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
                });
                if let (Some(bytes), Some(meta)) = (bytes, files.control.get(&name))
                    && id != Some(known.index_id)
                    && !bytes.is_empty()
                {
                    stale.push((name, *meta));
                }
            }
        }
        Ok(Self { trust, index: known, listed: None, damaged, stale })
    }

    /// Nothing, if it is not the map that folders name: the mail server lost that one.
    pub(crate) fn unless_another(self, named: Option<u32>) -> Self {
        let another =
            named.is_some() && self.uid_validity().is_some_and(|it| Some(it) != named);
        if another { Self { damaged: true, ..Self::nothing() } } else { self }
    }

    /// Nothing, if the mail server lost the index and has begun an empty one since.
    pub(crate) fn unless_begun_anew(self, once: &Self) -> Self {
        let empty = |index: &Index| index.len() == 0 && index.next_uid <= 1;
        let begun = self.index.as_ref().is_some_and(empty)
            && once.uid_validity().is_some_and(|it| Some(it) != self.uid_validity());
        if begun { Self { damaged: true, ..Self::nothing() } } else { self }
    }

    /// What it says of a UID. `has_file`: its message is there.
    pub(crate) fn listing(&self, uid: u32, has_file: bool) -> Listing {
        let holds = self.index.as_ref().and_then(|index| index.holds(uid));
        match (self.trust, holds) {
            (Trust::Whole, Some(true)) => Listing::Listed,
            (Trust::Once, Some(true)) if has_file => Listing::Listed,
            (Trust::Whole | Trust::Once, Some(false)) => Listing::Unlisted,
            (Trust::Once, Some(true)) | (_, None) | (Trust::Nothing, Some(_)) => {
                Listing::Unknown
            }
        }
    }

    /// The folder's GUID, from its index or else from the list of folders.
    pub(crate) fn guid(&self) -> Option<[u8; 16]> {
        let own = self.index.as_ref().and_then(Index::mailbox_guid);
        own.or_else(|| self.listed.as_ref()?.guid)
    }

    /// The folder's UIDVALIDITY, from its index or else from the list of folders.
    pub(crate) fn uid_validity(&self) -> Option<u32> {
        let own = self.index.as_ref().map(|index| index.uid_validity);
        own.or_else(|| self.listed.as_ref()?.uid_validity)
    }

    /// The next UID as far as it is known.
    pub(crate) fn next_uid(&self) -> Option<u32> {
        let own = self.index.as_ref().map(|index| index.next_uid);
        own.max(self.listed.as_ref().and_then(|listed| listed.next_uid))
    }
}
