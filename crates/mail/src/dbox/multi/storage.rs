//! Storage: the messages in all files `m.N` of one side.
//!
//! # Invariants
//!
//! * Memory grows with the number of messages, not with their bytes or names.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use crate::dbox::desk::{Desk, reason};
use crate::dbox::file::{Damaged, Guid, Head, Message, Region, Scanner};
use crate::dbox::survey::{Files, storage_path};
use crate::judge::Findings;
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::walk::{Meta, escape};

/// All messages of one side.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    pub(crate) files: BTreeMap<u32, StorageFile>,
    /// By file and place in it.
    pub(crate) held: Vec<Held>,
    /// Places in `held`, by GUID.
    by_guid: Vec<(Guid, usize)>,
    folders: Vec<Box<[u8]>>,
}

/// One file.
#[derive(Debug)]
pub(crate) struct StorageFile {
    pub(crate) meta: Meta,
    pub(crate) head: Option<Head>,
    pub(crate) damaged: Vec<Damaged>,
}

/// A message in a file.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) file: u32,
    pub(crate) message: Message,
    /// The folder that it was delivered to, among those of the storage.
    folder: Option<usize>,
}

impl Storage {
    /// Reads heads and trailers of all files of one side.
    pub(crate) fn scan(
        desk: &mut Desk<'_, '_>,
        side: Side,
        files: Option<&Files>,
    ) -> Result<Self, Refusal> {
        let mut storage = Self::default();
        let mut names: HashMap<Box<[u8]>, usize> = HashMap::new();
        for (number, meta) in files.into_iter().flat_map(|files| &files.mails) {
            let rel = storage_path(*number);
            let file = match desk.bench.open_mail((side, &rel)) {
                // What the disk does not give is lost.
                Err(Refusal::Unreadable { .. }) => continue,
                result => result?,
            };
            if storage.scan_file((*number, meta), &file, &mut names).is_err() {
                storage.files.remove(number);
                storage.held.retain(|held| held.file != *number);
            }
            if storage
                .held
                .iter()
                .rev()
                .take_while(|it| it.file == *number)
                .any(|it| it.message.trailer.external)
            {
                let what = "mail with attachments in other files";
                let path = escape(&desk.bench.path(&rel));
                return Err(Refusal::Unsupported { path, what });
            }
        }
        let mut folders: Vec<_> = names.into_iter().collect();
        folders.sort_by_key(|(_, number)| *number);
        storage.folders = folders.into_iter().map(|(name, _)| name).collect();
        let guids = storage.held.iter().enumerate();
        storage.by_guid = guids
            .filter_map(|(place, held)| Some((held.message.trailer.guid?, place)))
            .collect();
        storage.by_guid.sort_unstable();
        Ok(storage)
    }

    fn scan_file(
        &mut self,
        (number, meta): (u32, &Meta),
        file: &File,
        names: &mut HashMap<Box<[u8]>, usize>,
    ) -> std::io::Result<()> {
        let mut scanner = Scanner::open(file, meta.size)?;
        let mut seen =
            StorageFile { meta: *meta, head: scanner.head(), damaged: Vec::new() };
        while let Some(region) = scanner.next()? {
            match region {
                Region::Damaged(damaged) => seen.damaged.push(damaged),
                Region::Message(mut message) => {
                    let name = message.trailer.folder.take();
                    let next = names.len();
                    let folder = name.map(|name| *names.entry(name).or_insert(next));
                    self.held.push(Held { file: number, message, folder });
                }
            }
        }
        self.files.insert(number, seen);
        Ok(())
    }

    /// Where a message is among those held, if there is one with this GUID.
    pub(crate) fn find(&self, guid: &Guid) -> Option<usize> {
        let at = self.by_guid.partition_point(|(other, _)| other < guid);
        self.by_guid.get(at).filter(|(other, _)| other == guid).map(|(_, place)| *place)
    }

    /// Where the message is that begins at a place of a file.
    pub(crate) fn at(&self, file: u32, start: u64) -> Option<usize> {
        let key = |held: &Held| (held.file, held.message.start);
        self.held.binary_search_by_key(&(file, start), key).ok()
    }

    /// The messages of one file, with their places among those held.
    pub(crate) fn in_file(&self, file: u32) -> impl Iterator<Item = (usize, &Held)> {
        let from = self.held.partition_point(|held| held.file < file);
        let held = self.held.iter().enumerate().skip(from);
        held.take_while(move |(_, held)| held.file == file)
    }

    /// What damaged bytes at a place of a file are, and the range of them.
    pub(crate) fn damage_at(&self, file: u32, start: u64) -> Option<Damaged> {
        let damaged = &self.files.get(&file)?.damaged;
        let behind = damaged.partition_point(|it| it.start <= start);
        let last = damaged.get(behind.checked_sub(1)?)?;
        (start < last.end).then_some(*last)
    }

    /// The folder that a message was delivered to.
    pub(crate) fn folder(&self, place: usize) -> Option<&[u8]> {
        let number = self.held.get(place)?.folder?;
        self.folders.get(number).map(|name| &**name)
    }

    pub(crate) fn guid(&self, place: usize) -> Option<Guid> {
        self.held.get(place)?.message.trailer.guid
    }
}

/// Reads messages in the order in which they stand.
pub(crate) struct BodyReader {
    side: Side,
    open: Option<(u32, File)>,
}

impl BodyReader {
    pub(crate) fn new(side: Side) -> Self {
        Self { side, open: None }
    }

    /// Judges the message at a place among those held.
    pub(crate) fn judge(
        &mut self,
        desk: &mut Desk<'_, '_>,
        held: &Held,
        depth: crate::judge::Depth,
    ) -> Result<Findings, Refusal> {
        let rel = storage_path(held.file);
        let limit = desk.bench.roots().file_size_max;
        if held.message.size > limit {
            let found = held.message.size;
            return Ok(Findings::unread(Reason::TooLarge { found, limit }));
        }
        let file = match self.open.take().filter(|(number, _)| *number == held.file) {
            Some((_, file)) => file,
            None => desk.bench.open_mail((self.side, &rel))?,
        };
        let findings = desk.read_body(&file, &held.message, depth);
        self.open = Some((held.file, file));
        let path = || escape(&desk.bench.path(&rel));
        findings.map_err(|what| Refusal::Unsupported { path: path(), what })
    }

    /// Why there is no message where one should be.
    pub(crate) fn reason(
        &self,
        desk: &Desk<'_, '_>,
        file: u32,
        damaged: &Damaged,
    ) -> Result<Reason, Refusal> {
        let file = desk.bench.open_mail((self.side, &storage_path(file)))?;
        Ok(reason(&file, damaged))
    }
}
