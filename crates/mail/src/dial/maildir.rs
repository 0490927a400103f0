//! Maildir: the mail of a dial tone into a history of the same format.
//!
//! # Invariants
//!
//! * A message keeps its base name, and with it its GUID, size and date; its file is a link.
//! * Its UID is above all that the history's folder gave out; the order of arrival stays.
//! * A list of UIDs only gets lines at its end.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::round::{Round, View};
use crate::digest::Digest;
use crate::index::{self, Index};
use crate::judge::{Depth, judge};
use crate::maildir::keywords::Keywords;
use crate::maildir::name::MailName;
use crate::maildir::survey::{
    ENTRIES_MAX, Folder, Sub, folder_path, leave_out_others, mail_path, survey,
};
use crate::maildir::uidlist;
use crate::manifest::ManifestEntry;
use crate::refusal::Refusal;
use crate::roots::{Like, Side};
use crate::stage::Bench;
use crate::walk::{Kind, Meta, escape, join};

/// Why a message stays where it is.
const UNREADABLE: &str = "the disk does not give its bytes";

const UIDLIST: &[u8] = b"dovecot-uidlist";
const KEYWORDS: &[u8] = b"dovecot-keywords";

/// The size of the whole mailbox, by the Maildir++ quota extension; who finds none counts anew.
const SIZES: &[u8] = b"maildirsize";

/// A file of a mail directory.
#[derive(Debug, Clone)]
struct Letter {
    sub: Sub,
    name: Vec<u8>,
    /// In the folder's list, with the fields behind it.
    listed: Option<(u32, Vec<u8>)>,
}

/// One folder of one side.
struct Shelf {
    folder: Folder,
    list: Option<Vec<u8>>,
    letters: Vec<Letter>,
    /// What stands where messages do and is no file.
    odd: Vec<Vec<u8>>,
}

/// What the mailbox holds on one side.
pub(super) fn view(bench: &mut Bench<'_>, side: Side) -> Result<View, Refusal> {
    let shelves = shelves(bench, side)?;
    let lines = |shelf: Shelf| {
        let letters = shelf.letters.iter();
        letters
            .map(|it| line(it.listed.as_ref().map_or(0, |at| at.0), &it.name))
            .collect()
    };
    Ok(shelves.into_iter().map(|(name, shelf)| (name, lines(shelf))).collect())
}

/// Plans the import of all that earlier rounds did not import.
pub(super) fn plan(round: &mut Round<'_, '_>) -> Result<(), Refusal> {
    let mut history = shelves(round.bench, Side::Live)?;
    let before = round.intent.steps.len();
    for (name, dialled) in shelves(round.bench, Side::Snapshot)? {
        for odd in &dialled.odd {
            round.leave_out((&name, odd), "not a regular file");
        }
        match history.remove(&name) {
            Some(shelf) => extend(round, &name, (&shelf, &dialled))?,
            None => make(round, &name, &dialled)?,
        }
    }
    let changed = round.intent.steps.len() > before;
    let sizes = round.roots().live.dir(&round.bench.path(b""));
    let sizes = sizes.and_then(|home| home.look(SIZES));
    if changed && matches!(sizes, Ok(Some((Kind::File, _)))) {
        round.aside(SIZES);
    }
    Ok(())
}

/// Adds the messages of a folder to the same folder of the history.
fn extend(
    round: &mut Round<'_, '_>,
    name: &[u8],
    (shelf, dialled): (&Shelf, &Shelf),
) -> Result<(), Refusal> {
    let there: HashSet<&[u8]> =
        shelf.letters.iter().map(|it| MailName::parse(&it.name).base).collect();
    let mut words = Translation::read(round.bench, name, (shelf, dialled))?;
    let (mut new, mut names) = (Vec::new(), Vec::new());
    for letter in dialled.in_order() {
        let base = MailName::parse(&letter.name).base;
        if round.is_taken(name, base) {
            continue;
        }
        if there.contains(base) {
            round.leave_out((name, base), "the history has another message of that name");
            continue;
        }
        let Some(read) = read(round.bench, name, letter)? else {
            round.leave_out((name, base), UNREADABLE);
            continue;
        };
        let (here, lost) = words.name(&letter.name);
        if lost {
            round
                .leave_out((name, base), "imported without a keyword: no letter is left");
        }
        names.push((here, read));
        new.push(letter);
    }
    if new.is_empty() {
        return Ok(());
    }
    words.stage(round, name, shelf)?;
    for (letter, (here, _)) in new.iter().zip(&names) {
        let from = mail_path(name, letter.sub, &letter.name);
        round.put_link(&from, &mail_path(name, letter.sub, here))?;
    }
    let mut uid = 0;
    if let Some(list) = &shelf.list {
        let (bytes, first) = longer_list(round.bench, (name, shelf), (list, &new))?;
        uid = first;
        let like = shelf.folder.control.get(UIDLIST).map(plain);
        let like = like.map_or_else(|| beside_mail(round.bench, name), Ok);
        let to = join(&folder_path(name), UIDLIST);
        round.put_bytes(&bytes, (&to, like?), true)?;
    }
    for (letter, (here, read)) in new.iter().zip(names) {
        let base = MailName::parse(&letter.name).base;
        round.import(base, entry((name, base), uid, read), line(uid, &here));
        uid = uid.saturating_add(u32::from(uid > 0));
    }
    Ok(())
}

/// The history's list with more messages at its end, and the first new UID.
fn longer_list(
    bench: &mut Bench<'_>,
    (name, shelf): (&[u8], &Shelf),
    (list, new): (&[u8], &[&Letter]),
) -> Result<(Vec<u8>, u32), Refusal> {
    let known = read_index(bench, name, &shelf.folder)?;
    let next_uid = known.map_or(1, |index| index.next_uid);
    let more = new.iter().map(|it| {
        let extra = it.listed.as_ref().map_or(&b""[..], |(_, extra)| extra);
        (extra, MailName::parse(&it.name).base)
    });
    let more: Vec<(&[u8], &[u8])> = more.collect();
    uidlist::extended(list, next_uid, &more).ok_or_else(|| Refusal::Unsupported {
        path: escape(&bench.path(&join(&folder_path(name), UIDLIST))),
        what: "a damaged list of UIDs in a history that should be prepared",
    })
}

/// What the history's index says of a folder.
fn read_index(
    bench: &mut Bench<'_>,
    name: &[u8],
    folder: &Folder,
) -> Result<Option<Index>, Refusal> {
    let mut file = |file: &[u8]| {
        let rel = join(&folder_path(name), file);
        bench.control(Side::Live, &rel, folder.control.get(file))
    };
    let (index, log) = (file(b"dovecot.index")?, file(b"dovecot.index.log")?);
    let older = file(b"dovecot.index.log.2")?;
    Ok(index::read(index.as_deref(), log.as_deref(), older.as_deref()).last_known())
}

/// Makes a folder that the history has not, as it is.
fn make(round: &mut Round<'_, '_>, name: &[u8], dialled: &Shelf) -> Result<(), Refusal> {
    round.intent.made += 1;
    let folder = folder_path(name);
    for dir in
        [&folder, &join(&folder, b"cur"), &join(&folder, b"new"), &join(&folder, b"tmp")]
    {
        let path = round.bench.path(dir);
        let tree = round.roots().tree(Side::Snapshot);
        let meta = tree.and_then(|tree| tree.dir(&path).ok()?.meta().ok());
        let meta =
            meta.map_or_else(|| dir_meta(round.bench, Side::Snapshot, name), Ok)?;
        round.make_dir(dir, &meta);
    }
    for letter in dialled.in_order() {
        let base = MailName::parse(&letter.name).base;
        let Some(read) = read(round.bench, name, letter)? else {
            round.leave_out((name, base), UNREADABLE);
            continue;
        };
        let path = mail_path(name, letter.sub, &letter.name);
        round.put_link(&path, &path)?;
        let uid = letter.listed.as_ref().map_or(0, |(uid, _)| *uid);
        round.import(base, entry((name, base), uid, read), line(uid, &letter.name));
    }
    for (file, meta) in &dialled.folder.control {
        if file.starts_with(b"dovecot.") {
            continue;
        }
        let rel = join(&folder, file);
        let bytes = round.bench.control(Side::Snapshot, &rel, Some(meta))?;
        if let Some(bytes) = bytes {
            round.put_bytes(&bytes, (&rel, plain(meta)), false)?;
        }
    }
    Ok(())
}

impl Shelf {
    /// The messages as they came.
    fn in_order(&self) -> Vec<&Letter> {
        let mut letters: Vec<&Letter> = self.letters.iter().collect();
        let last = u32::MAX;
        letters.sort_by_key(|it| {
            let uid = it.listed.as_ref().map_or(last, |(uid, _)| *uid);
            (uid, MailName::parse(&it.name).delivered_at(), &it.name)
        });
        letters
    }
}

/// A folder's directory on one side.
fn dir_meta(bench: &Bench<'_>, side: Side, name: &[u8]) -> Result<Meta, Refusal> {
    let path = bench.path(&folder_path(name));
    let tree = bench.roots().tree(side);
    let tree = tree.ok_or_else(|| Refusal::NotThere { path: escape(&path) })?;
    let dir = tree.dir(&path).and_then(|dir| dir.meta());
    dir.map_err(|errno| Refusal::read(&path, errno))
}

/// Owner and mode for a file beside the messages of the history.
fn beside_mail(bench: &Bench<'_>, name: &[u8]) -> Result<Like, Refusal> {
    let meta = dir_meta(bench, Side::Live, name)?;
    Ok(Like { mode: meta.mode & 0o666, ..plain(&meta) })
}

/// Reads all folders of one side; none if the mailbox is not there.
fn shelves(
    bench: &mut Bench<'_>,
    side: Side,
) -> Result<BTreeMap<Vec<u8>, Shelf>, Refusal> {
    let (roots, path) = (bench.roots(), bench.path(b""));
    let Some(tree) = roots.tree(side) else { return Ok(BTreeMap::new()) };
    let Some(mut found) = survey((Side::Live, tree), &path)? else {
        return Ok(BTreeMap::new());
    };
    leave_out_others(Some(&mut found), None);
    let (mut shelves, mut left) = (BTreeMap::new(), ENTRIES_MAX);
    for (name, folder) in found.folders {
        let meta = folder.control.get(UIDLIST);
        let list = bench.control(side, &join(&folder_path(&name), UIDLIST), meta)?;
        let mut shelf = Shelf { folder, list, letters: Vec::new(), odd: Vec::new() };
        let uids = listed(shelf.list.as_deref().unwrap_or_default());
        for (sub, has) in Sub::ALL.into_iter().zip(shelf.folder.has) {
            if !has || sub == Sub::Tmp {
                continue;
            }
            let at = join(&path, &join(&folder_path(&name), sub.name()));
            let refuse = |errno| Refusal::read(&at, errno);
            let dir = tree.dir(&at).map_err(refuse)?;
            let count = dir.each(left, |name, kind, _| match kind {
                _ if !crate::stamp::counts(name) => {}
                Kind::File => {
                    let listed = uids.get(MailName::parse(name).base).cloned();
                    shelf.letters.push(Letter { sub, name: name.to_vec(), listed });
                }
                Kind::Directory | Kind::Link | Kind::Special => {
                    shelf.odd.push(name.to_vec());
                }
            });
            left = left.saturating_sub(count.map_err(refuse)?);
        }
        shelves.insert(name, shelf);
    }
    Ok(shelves)
}

/// The size of a message and the digest of its bytes; nothing if the disk does not give them.
fn read(
    bench: &mut Bench<'_>,
    folder: &[u8],
    letter: &Letter,
) -> Result<Option<(u64, Digest)>, Refusal> {
    let rel = mail_path(folder, letter.sub, &letter.name);
    let mut file = match bench.open_mail((Side::Snapshot, &rel)) {
        Err(Refusal::Unreadable { .. }) => return Ok(None),
        file => file?,
    };
    let promise = MailName::parse(&letter.name).promise();
    let owner = bench.owner();
    let read = judge(&mut file, promise, owner, Depth::Quick, bench.buffer()).ok();
    Ok(read.and_then(|it| Some((it.size, it.digest?))))
}

fn entry(
    (folder, name): (&[u8], &[u8]),
    uid: u32,
    (size_bytes, digest): (u64, Digest),
) -> ManifestEntry {
    let (folder, name) = (folder.to_vec(), name.to_vec());
    let uid = (uid != 0).then_some(uid);
    ManifestEntry { folder, name, uid, size_bytes, fingerprint: digest.into() }
}

/// UIDs and what stands behind them, by base name.
fn listed(list: &[u8]) -> HashMap<Vec<u8>, (u32, Vec<u8>)> {
    let mut reader = uidlist::Reader::new(list);
    let mut listed = HashMap::new();
    while let Some(entry) = reader.next() {
        listed.insert(entry.name.to_vec(), (entry.uid, entry.extra.to_vec()));
    }
    listed
}

/// A message as views show it: its UID, and its name with its flags.
fn line(uid: u32, name: &[u8]) -> Vec<u8> {
    [format!("{uid} ").as_bytes(), name].concat()
}

fn plain(meta: &Meta) -> Like {
    Like { modified: None, ..Like::file(meta) }
}

/// From the dial tone's letters for keywords to the history's.
struct Translation {
    here: Keywords,
    there: Keywords,
    changed: bool,
}

impl Translation {
    fn read(
        bench: &mut Bench<'_>,
        name: &[u8],
        (shelf, dialled): (&Shelf, &Shelf),
    ) -> Result<Self, Refusal> {
        let rel = join(&folder_path(name), KEYWORDS);
        let mut table = |side, shelf: &Shelf| {
            let bytes = bench.control(side, &rel, shelf.folder.control.get(KEYWORDS))?;
            Ok(bytes.and_then(|bytes| Keywords::parse(&bytes)).unwrap_or_default())
        };
        let here = table(Side::Live, shelf)?;
        Ok(Self { here, there: table(Side::Snapshot, dialled)?, changed: false })
    }

    /// The name in the history, and whether a keyword was lost on the way.
    fn name(&mut self, name: &[u8]) -> (Vec<u8>, bool) {
        let mut lost = false;
        let named = MailName::parse(name).with_flags(None, |letter| {
            let before = self.here.clone();
            let here = self.here.adopt(&self.there, letter);
            self.changed |= self.here != before;
            lost |= here.is_none();
            here
        });
        (named, lost)
    }

    fn stage(
        self,
        round: &mut Round<'_, '_>,
        name: &[u8],
        shelf: &Shelf,
    ) -> Result<(), Refusal> {
        if !self.changed {
            return Ok(());
        }
        let live = shelf.folder.control.get(KEYWORDS);
        let like = live.or_else(|| shelf.folder.control.get(UIDLIST)).map(plain);
        let like = match like {
            Some(like) => like,
            None => beside_mail(round.bench, name)?,
        };
        let rel = join(&folder_path(name), KEYWORDS);
        round.put_bytes(&self.here.to_bytes(), (&rel, like), live.is_some())
    }
}
