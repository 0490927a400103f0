//! Dbox: the mail of a dial tone into a history of the same kind of dbox.
//!
//! # Invariants
//!
//! * An index of the history only gets records at its end, in a copy that is read before it counts; so
//!   UIDs, flags, counts of changes and offsets into caches stay.
//! * In sdbox a message's file is a link. In mdbox its bytes are copied into new files of the history's
//!   storage, so that the mail server never appends to a file of the store that is kept.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use super::round::{Round, View};
use crate::dbox::desk::{Desk, Piece};
use crate::dbox::file::{Guid, Scanner};
use crate::dbox::known::{FOLDER, Known, MAP, Trust};
use crate::dbox::survey::{
    Files, STORAGE, folder_path, mail_path, report_name, storage_path, survey,
};
use crate::digest::{Digest, to_hex};
use crate::format::Format;
use crate::index::{
    self, FolderState, Index, Kind, MapEntry, MapState, POP3_UNKNOWN, Reading, Record,
    extend_folder, extend_map, write_folder, write_map,
};
use crate::judge::Depth;
use crate::manifest::ManifestEntry;
use crate::refusal::Refusal;
use crate::roots::{Like, Side};
use crate::stage::Bench;
use crate::walk::{Meta, escape, join};

/// The flags that clients see.
const CLIENT_FLAGS: u8 = 0x1f;

/// One folder of one side, and what its index tells.
struct Shelf {
    files: Files,
    index: Option<Index>,
}

/// One side.
struct Store {
    home: Meta,
    folders: BTreeMap<Vec<u8>, Shelf>,
    storage: Option<Shelf>,
}

/// What the mailbox holds on one side.
pub(super) fn view(
    bench: &mut Bench<'_>,
    side: Side,
    format: Format,
) -> Result<View, Refusal> {
    let Some(store) = Store::read(bench, side)? else { return Ok(View::new()) };
    let mut view = View::new();
    for (name, shelf) in store.folders {
        let Some(index) = &shelf.index else { continue };
        let lines = index.records().filter_map(|it| {
            let size = shelf.files.mails.get(&it.uid).map(|meta| meta.size);
            let identity = match format {
                Format::Sdbox => size.map(|size| size.to_string()),
                Format::Maildir | Format::Mdbox => it.guid.map(|guid| to_hex(&guid)),
            };
            Some(line(&it, &identity?))
        });
        view.insert(report_name(&name).to_vec(), lines.collect());
    }
    Ok(view)
}

/// Plans the import of all that earlier rounds did not import.
pub(super) fn plan(round: &mut Round<'_, '_>, format: Format) -> Result<(), Refusal> {
    let path = round.bench.path(b"");
    let not_there = || Refusal::NotThere { path: escape(&path) };
    let history = Store::read(round.bench, Side::Live)?.ok_or_else(not_there)?;
    let dialled = Store::read(round.bench, Side::Snapshot)?.ok_or_else(not_there)?;
    let new = new_mail(round, &dialled);
    let map = match format {
        Format::Mdbox => bring_storage(round, (&history, &dialled), &new)?,
        Format::Maildir | Format::Sdbox => Brought::default(),
    };
    for (name, shelf) in &dialled.folders {
        let Some(index) = &shelf.index else { continue };
        let records = new.get(name).map(Vec::as_slice).unwrap_or_default();
        let before = history.folders.get(name);
        let is_new = before.is_none_or(|it| it.index.is_none());
        if records.is_empty() && !is_new {
            continue;
        }
        let to = Target {
            name,
            before: before.filter(|_| !is_new),
            index,
            home: &history.home,
        };
        to.place(round, (format, records), &map)?;
    }
    Ok(())
}

/// What no earlier round imported, by folder.
fn new_mail(round: &Round<'_, '_>, dialled: &Store) -> BTreeMap<Vec<u8>, Vec<Record>> {
    let mut new = BTreeMap::new();
    for (name, shelf) in &dialled.folders {
        let folder = report_name(name);
        let records = shelf.index.iter().flat_map(Index::records);
        let is_new = |it: &Record| !round.is_taken(folder, it.uid.to_string().as_bytes());
        let records: Vec<Record> = records.filter(is_new).collect();
        new.insert(name.clone(), records);
    }
    new
}

/// A folder of the history that gets messages.
struct Target<'a> {
    name: &'a [u8],
    /// As it is in the history, if it is there.
    before: Option<&'a Shelf>,
    /// The dial tone's index of it.
    index: &'a Index,
    home: &'a Meta,
}

impl Target<'_> {
    fn place(
        &self,
        round: &mut Round<'_, '_>,
        (format, records): (Format, &[Record]),
        map: &Brought,
    ) -> Result<(), Refusal> {
        let folder = report_name(self.name);
        if self.before.is_none() {
            round.intent.made += 1;
            self.make_dirs(round);
        }
        let known = self.before.and_then(|it| it.index.as_ref());
        let mut next_uid = known.map(|index| index.next_uid);
        let mut placed = Vec::new();
        for record in records {
            // A folder that is new keeps the UIDs that it has.
            let uid = next_uid.unwrap_or(record.uid);
            let old = record.uid.to_string();
            let new = Record { uid, cache_offset: None, ..record.clone() };
            let (new, identity, read) = match format {
                Format::Sdbox => match self.link(round, record.uid, uid)? {
                    Some((size, read)) => (new, size.to_string(), read),
                    None => {
                        let why = "its file is not there, or no whole message is in it";
                        round.leave_out((folder, old.as_bytes()), why);
                        continue;
                    }
                },
                Format::Maildir | Format::Mdbox => {
                    let at = record.map_uid.and_then(|old| map.uids.get(&old));
                    let Some((map_uid, read)) = at else {
                        let why = "its bytes are not where the map has them";
                        round.leave_out((folder, old.as_bytes()), why);
                        continue;
                    };
                    let (map_uid, guid) = (Some(*map_uid), Some(read.guid));
                    (Record { map_uid, guid, ..new }, to_hex(&read.guid), *read)
                }
            };
            let entry = read.entry(folder, uid);
            round.import(old.as_bytes(), entry, line(&new, &identity));
            next_uid = next_uid.map(|uid| uid.saturating_add(1));
            placed.push(new);
        }
        if placed.is_empty() && self.before.is_some() {
            return Ok(());
        }
        self.stage_log(round, format, (&placed, map))
    }

    /// Plans the file of a message under its new UID; its bytes with all around them, and what they are.
    fn link(
        &self,
        round: &mut Round<'_, '_>,
        old: u32,
        new: u32,
    ) -> Result<Option<(u64, Read)>, Refusal> {
        let rel = mail_path(self.name, old);
        let path = round.bench.path(&rel);
        let tree = round.roots().tree(Side::Snapshot);
        let found = tree.and_then(|tree| tree.file(&path).ok());
        let Some((_, meta)) = found else { return Ok(None) };
        let mut desk = Desk::new(round.bench);
        let mail = desk.read_single((Side::Snapshot, &rel), &meta, Depth::Quick)?;
        let read = mail.guid.zip(mail.findings.digest);
        let Some((guid, digest)) = read else { return Ok(None) };
        round.put_link(&rel, &mail_path(self.name, new))?;
        Ok(Some((meta.size, Read { guid, size: mail.size, digest })))
    }

    /// Plans the directories of a folder that the history has not.
    fn make_dirs(&self, round: &mut Round<'_, '_>) {
        let whole = folder_path(self.name);
        let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([whole.len()]).collect();
        for end in ends {
            let rel = whole.get(..end).unwrap_or(&whole);
            let path = round.bench.path(rel);
            if matches!(round.roots().live.dir_if_there(&path), Ok(Some(_))) {
                continue;
            }
            let tree = round.roots().tree(Side::Snapshot);
            let meta = tree.and_then(|tree| tree.dir(&path).ok()?.meta().ok());
            round.make_dir(rel, &meta.unwrap_or(*self.home));
        }
    }

    /// Plans the log of the folder: the one that it has, longer, or one of its own.
    fn stage_log(
        &self,
        round: &mut Round<'_, '_>,
        format: Format,
        (placed, map): (&[Record], &Brought),
    ) -> Result<(), Refusal> {
        let kind = if format == Format::Sdbox { Kind::Sdbox } else { Kind::Mdbox };
        let dir = folder_path(self.name);
        let Some(Shelf { files, index: Some(before) }) = self.before else {
            let bytes = write_folder(&self.state(placed, map), kind);
            let like = Like { mode: self.home.mode & 0o666, ..plain(self.home) };
            return round.put_bytes(
                &bytes,
                (&join(&dir, b"dovecot.index.log"), like),
                false,
            );
        };
        let wanted = before.len() + placed.len();
        let write = |log| extend_folder(log, placed, kind);
        stage_longer(round, (&dir, FOLDER, files), write, |index| {
            let agrees = |it: &Record| {
                index.get(it.uid).is_some_and(|now| {
                    (now.flags & CLIENT_FLAGS, now.map_uid, now.keywords)
                        == (it.flags & CLIENT_FLAGS, it.map_uid, it.keywords.clone())
                })
            };
            index.len() == wanted && placed.iter().all(agrees)
        })
    }

    fn state(&self, placed: &[Record], map: &Brought) -> FolderState {
        let index = self.index;
        FolderState {
            index_id: index.index_id,
            created: index.index_id,
            uid_validity: index.uid_validity,
            next_uid: index.next_uid,
            first_recent_uid: index.first_recent_uid,
            highest_modseq: index.highest_modseq,
            mailbox_guid: index.mailbox_guid().unwrap_or_default(),
            map_uid_validity: map.uid_validity,
            dbox_flags: index.dbox_flags().unwrap_or(POP3_UNKNOWN),
            keywords: index.keyword_names().to_vec(),
            records: placed.to_vec(),
        }
    }
}

/// Plans a log that goes on, once it is read as it should be.
fn stage_longer(
    round: &mut Round<'_, '_>,
    (dir, prefix, files): (&[u8], &[u8], &Files),
    write: impl Fn(Vec<u8>) -> Vec<u8>,
    agrees: impl Fn(&Index) -> bool,
) -> Result<(), Refusal> {
    let log = join(dir, &[prefix, b".log"].concat());
    let mut file = |end: &[u8]| {
        let name = [prefix, end].concat();
        round.bench.control(Side::Live, &join(dir, &name), files.control.get(&name))
    };
    let (index, old, older) = (file(b"")?, file(b".log")?, file(b".log.2")?);
    let unsound = || Refusal::Unsupported {
        path: escape(&log),
        what: "an index that cannot be written on in a history that should be prepared",
    };
    let old = old.ok_or_else(unsound)?;
    let bytes = write(old);
    let reading = index::read(index.as_deref(), Some(&bytes), older.as_deref());
    let read = match reading {
        // What belongs to another index was left out of account before, too.
        Reading::Whole(index) => Some(index),
        Reading::Silent | Reading::Stale(_) | Reading::Broken(_) => {
            match index::read(None, Some(&bytes), None) {
                Reading::Whole(index) => Some(index),
                Reading::Silent | Reading::Stale(_) | Reading::Broken(_) => None,
            }
        }
    };
    if !read.is_some_and(|index| agrees(&index)) {
        return Err(unsound());
    }
    let meta = files.control.get(&[prefix, b".log"].concat());
    let like = meta.map(plain).ok_or_else(unsound)?;
    round.put_bytes(&bytes, (&log, like), true)
}

/// A message of the dial tone that was read.
#[derive(Clone, Copy)]
struct Read {
    guid: Guid,
    size: u64,
    digest: Digest,
}

impl Read {
    fn entry(self, folder: &[u8], uid: u32) -> ManifestEntry {
        ManifestEntry {
            folder: folder.to_vec(),
            name: to_hex(&self.guid).into_bytes(),
            uid: Some(uid),
            size_bytes: self.size,
            fingerprint: self.digest.into(),
        }
    }
}

/// What the history's storage got.
#[derive(Default)]
struct Brought {
    /// UIDs in the map and what was read, by the UID in the dial tone's map.
    uids: HashMap<u32, (u32, Read)>,
    /// Of the history's map.
    uid_validity: u32,
}

/// Plans copies of the messages of multi-dbox in new files, and the map of them.
fn bring_storage(
    round: &mut Round<'_, '_>,
    (history, dialled): (&Store, &Store),
    new: &BTreeMap<Vec<u8>, Vec<Record>>,
) -> Result<Brought, Refusal> {
    let known = history.storage.as_ref().and_then(|it| it.index.as_ref());
    let theirs = dialled.storage.as_ref().and_then(|it| it.index.as_ref());
    let validity = known.or(theirs).map(|index| index.uid_validity);
    let mut brought =
        Brought { uid_validity: validity.unwrap_or(0), ..Brought::default() };
    let Some(theirs) = theirs else { return Ok(brought) };
    let mut uses: BTreeMap<u32, u16> = BTreeMap::new();
    for map_uid in new.values().flatten().filter_map(|record| record.map_uid) {
        let count = uses.entry(map_uid).or_default();
        *count = count.saturating_add(1);
    }
    let mut by_file: BTreeMap<u32, Vec<(u32, MapEntry)>> = BTreeMap::new();
    for (map_uid, uses) in uses {
        if let Some(entry) = theirs.map_entry(map_uid) {
            let entry = MapEntry { refcount: uses, ..entry };
            by_file.entry(entry.file_id).or_default().push((map_uid, entry));
        }
    }
    let mut next_uid = known.map_or(1, |index| index.next_uid);
    let mut file = highest_file(history);
    let mut entries = Vec::new();
    for (old_file, wanted) in by_file {
        let copied = copy_file(round, (old_file, file + 1), (&wanted, history))?;
        file += u32::from(!copied.is_empty());
        for (old, entry, read) in copied {
            brought.uids.insert(old, (next_uid, read));
            entries.push((next_uid, entry));
            next_uid = next_uid.saturating_add(1);
        }
    }
    stage_map(round, history, (&entries, file, brought.uid_validity))?;
    Ok(brought)
}

/// The highest number of a file that the history has, or has given.
fn highest_file(history: &Store) -> u32 {
    let Some(storage) = &history.storage else { return 0 };
    let there = storage.files.mails.keys().next_back().copied();
    let known = storage.index.as_ref();
    let given = known.and_then(Index::highest_file_id);
    let named = known.into_iter().flat_map(Index::map_entries);
    let named = named.map(|(_, entry)| entry.file_id).max();
    [there, given, named].into_iter().flatten().max().unwrap_or(0)
}

/// Plans a new file of the messages that are wanted of one; where each of them is then.
fn copy_file(
    round: &mut Round<'_, '_>,
    (old, new): (u32, u32),
    (wanted, history): (&[(u32, MapEntry)], &Store),
) -> Result<Vec<(u32, MapEntry, Read)>, Refusal> {
    let rel = storage_path(old);
    let Ok(file) = round.bench.open_mail((Side::Snapshot, &rel)) else {
        return Ok(Vec::new());
    };
    let failed = |source| Refusal::unreadable(escape(&rel), source);
    let length = file.metadata().map_err(failed)?.len();
    let mut scanner = Scanner::open(&file, length).map_err(failed)?;
    let Some(head) = scanner.head() else { return Ok(Vec::new()) };
    let (mut pieces, mut at) = (Vec::new(), head.size);
    let part = |range| Piece::Part { side: Side::Snapshot, rel: rel.clone(), range };
    pieces.push(part(0..head.size));
    let mut copied = Vec::new();
    for (map_uid, entry) in wanted {
        let message = scanner.at(u64::from(entry.offset)).map_err(failed)?;
        let Ok(message) = message else { continue };
        let size = message.end.saturating_sub(message.start);
        let guid = message.trailer.guid.filter(|_| size == u64::from(entry.size));
        let judged = Desk::new(round.bench).read_body(&file, &message, Depth::Quick);
        let digest = judged.ok().and_then(|it| it.digest);
        if let (Some((guid, digest)), Ok(offset)) = (guid.zip(digest), u32::try_from(at))
        {
            pieces.push(part(message.start..message.end));
            let entry = MapEntry { file_id: new, offset, ..*entry };
            let read = Read { guid, size: message.size, digest };
            copied.push((*map_uid, entry, read));
            at += size;
        }
    }
    if !copied.is_empty() {
        let like = like_of_storage(history, &file)?;
        let staged = Desk::new(round.bench).stage_pieces(&pieces, like)?;
        round.put_staged(&staged, &storage_path(new))?;
    }
    Ok(copied)
}

/// Owner and mode for a file of the history's storage.
fn like_of_storage(history: &Store, file: &File) -> Result<Like, Refusal> {
    let files = history.storage.iter().flat_map(|it| it.files.mails.values());
    let mode = match files.last() {
        Some(meta) => meta.mode,
        None => {
            let stat = rustix::fs::fstat(file);
            stat.map_err(|errno| Refusal::read(STORAGE, errno))?.st_mode & 0o7777
        }
    };
    let home = &history.home;
    Ok(Like { mode, uid: home.uid, gid: home.gid, modified: None })
}

fn stage_map(
    round: &mut Round<'_, '_>,
    history: &Store,
    (entries, highest_file_id, uid_validity): (&[(u32, MapEntry)], u32, u32),
) -> Result<(), Refusal> {
    if entries.is_empty() {
        return Ok(());
    }
    let known = history.storage.as_ref().and_then(|it| Some((it, it.index.as_ref()?)));
    if let Some((Shelf { files, .. }, before)) = known {
        let wanted = before.len() + entries.len();
        let write = |log| extend_map(log, entries, highest_file_id);
        return stage_longer(round, (STORAGE, MAP, files), write, |index| {
            let agrees = |(uid, it): &(u32, MapEntry)| index.map_entry(*uid) == Some(*it);
            index.len() == wanted
                && index.highest_file_id() >= Some(highest_file_id)
                && entries.iter().all(agrees)
        });
    }
    let home = &history.home;
    if history.storage.is_none() {
        round.make_dir(STORAGE, home);
    }
    let state = MapState {
        index_id: uid_validity.max(1),
        created: uid_validity.max(1),
        uid_validity,
        next_uid: 1,
        highest_file_id,
        entries: entries.to_vec(),
    };
    let like = Like { mode: home.mode & 0o666, ..plain(home) };
    let rel = join(STORAGE, &[MAP, b".log"].concat());
    round.put_bytes(&write_map(&state), (&rel, like), false)
}

impl Store {
    /// Reads one side; nothing if the mailbox is not there.
    fn read(bench: &mut Bench<'_>, side: Side) -> Result<Option<Self>, Refusal> {
        let path = bench.path(b"");
        let Some(tree) = bench.roots().tree(side) else { return Ok(None) };
        let Some(found) = survey(tree, &path)? else { return Ok(None) };
        let mut desk = Desk::new(bench);
        let mut folders = BTreeMap::new();
        for (name, files) in found.folders {
            if !files.is_empty() {
                let at = (&*folder_path(&name), FOLDER);
                let shelf = Shelf::read(&mut desk, side, at, files)?;
                folders.insert(name, shelf);
            }
        }
        let storage = match found.storage {
            Some(files) => Some(Shelf::read(&mut desk, side, (STORAGE, MAP), files)?),
            None => None,
        };
        Ok(Some(Self { home: found.meta, folders, storage }))
    }
}

impl Shelf {
    fn read(
        desk: &mut Desk<'_, '_>,
        side: Side,
        (dir, prefix): (&[u8], &[u8]),
        files: Files,
    ) -> Result<Self, Refusal> {
        let known = Known::read(desk, side, (dir, prefix), &files)?;
        match known.trust {
            Trust::Whole => Ok(Self { files, index: known.index }),
            Trust::Nothing if !known.damaged && files.mails.is_empty() => {
                Ok(Self { files, index: None })
            }
            Trust::Nothing | Trust::Once => {
                let what = match side {
                    Side::Live => "a damaged index in a history that should be prepared",
                    Side::Snapshot => "dial-tone mail under a damaged index",
                };
                let path = escape(&desk.bench.path(&join(dir, prefix)));
                Err(Refusal::Unsupported { path, what })
            }
        }
    }
}

/// A message as views show it.
fn line(record: &Record, identity: &str) -> Vec<u8> {
    let flags = record.flags & CLIENT_FLAGS;
    let mut line = format!("{} {identity} {flags}", record.uid).into_bytes();
    for word in &record.keywords {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    line
}

fn plain(meta: &Meta) -> Like {
    Like { modified: None, ..Like::file(meta) }
}
