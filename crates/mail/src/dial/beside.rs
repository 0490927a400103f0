//! Beside: what a user has set up and is no mail: subscriptions, filters, access lists.
//!
//! It goes with the user into the dial tone, and what was changed there comes back.
//!
//! # Invariants
//!
//! * What was not changed during the dial tone stays in the history as it is.
//! * A link is copied as a link and never followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Uid};
use rustix::io::Errno;

use super::redo::below;
use super::round::Round;
use crate::refusal::Refusal;
use crate::roots::{Like, Roots, dress};
use crate::walk::{Kind, Meta, Tree, join};

/// Files and links of a mailbox that are its user's wishes.
const NAMES: [&[u8]; 5] = [
    SUBSCRIPTIONS,
    b".dovecot.sieve",
    b"dovecot.sieve",
    b"dovecot-acl",
    // To whom a vacation message was sent already.
    b".dovecot.lda-dupes",
];

/// Where filters are.
const DIRS: [&[u8]; 1] = [b"sieve"];

const SUBSCRIPTIONS: &[u8] = b"subscriptions";

/// A filter translated for the mail server, which makes it again.
const TRANSLATED: &[u8] = b".svbin";

/// Larger than any list of subscriptions or filter that mail servers take.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files of one user's filters; servers allow some dozens.
const ENTRIES_MAX: usize = 1000;

/// Directories in directories of filters.
const DEPTH_MAX: u32 = 4;

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Dir,
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// All of it, by its path in the mailbox, with owner and mode.
pub(super) type Items = BTreeMap<Vec<u8>, (Item, Meta)>;

/// Reads all of it; nothing if the mailbox is not there.
pub(super) fn collect(root: &Tree, path: &[u8]) -> Result<Items, Refusal> {
    let refuse = |errno| Refusal::read(path, errno);
    let mut items = Items::new();
    let Some(home) = root.dir_if_there(path).map_err(refuse)? else { return Ok(items) };
    for name in NAMES {
        if let Some((kind, meta)) = home.look(name).map_err(refuse)? {
            add(&home, (name, kind, meta), &mut items).map_err(refuse)?;
        }
    }
    for name in DIRS {
        match home.look(name) {
            Ok(Some((Kind::Directory, meta))) => {
                items.insert(name.to_vec(), (Item::Dir, meta));
                collect_dir(&home, (name, 0), &mut items).map_err(refuse)?;
            }
            Ok(_) => {}
            Err(errno) => return Err(refuse(errno)),
        }
    }
    Ok(items)
}

fn collect_dir(
    home: &Tree,
    (rel, depth): (&[u8], u32),
    items: &mut Items,
) -> Result<(), Errno> {
    if depth >= DEPTH_MAX {
        return Ok(());
    }
    let dir = home.dir(rel)?;
    for seen in dir.list(ENTRIES_MAX)? {
        let path = join(rel, &seen.name);
        if items.len() >= ENTRIES_MAX || seen.name.ends_with(TRANSLATED) {
            continue;
        }
        if seen.kind == Kind::Directory {
            items.insert(path.clone(), (Item::Dir, seen.meta));
            collect_dir(home, (&path, depth + 1), items)?;
        } else {
            add(home, (&path, seen.kind, seen.meta), items)?;
        }
    }
    Ok(())
}

fn add(
    home: &Tree,
    (path, kind, meta): (&[u8], Kind, Meta),
    items: &mut Items,
) -> Result<(), Errno> {
    let item = match kind {
        Kind::File if meta.size <= FILE_BYTES_MAX => {
            let (file, _) = home.file(path)?;
            let mut bytes = Vec::new();
            match file.take(FILE_BYTES_MAX).read_to_end(&mut bytes) {
                Ok(_) => Item::File(bytes),
                // The disk does not give it: the snapshot's may do.
                Err(_) => return Ok(()),
            }
        }
        Kind::Link => {
            let target = rustix::fs::readlinkat(home, path, Vec::new())?;
            Item::Link(target.into_bytes())
        }
        Kind::File | Kind::Directory | Kind::Special => return Ok(()),
    };
    items.insert(path.to_vec(), (item, meta));
    Ok(())
}

/// The live side's, and the snapshot's where that is missing or obviously damaged.
pub(super) fn best(live: Items, snapshot: Items) -> Items {
    let is_damaged = |item: &Item| matches!(item, Item::File(bytes) if bytes.is_empty() || bytes.contains(&0));
    let lost = live.is_empty();
    let mut items = live;
    for (path, (item, meta)) in snapshot {
        let better = match items.get(&path) {
            Some((live, _)) => is_damaged(live) && !is_damaged(&item),
            // Its user may have deleted a filter since.
            None => lost || path == SUBSCRIPTIONS,
        };
        if better {
            items.insert(path, (item, meta));
        }
    }
    items
}

/// Writes all of it into a directory of our own.
pub(super) fn write(roots: &Roots, items: &Items, to: &Path) -> io::Result<()> {
    for (path, (item, meta)) in items {
        let (at, like) = (below(to, path), Like::file(meta));
        match item {
            Item::Dir => roots.make_own_dir(&at, Like { modified: None, ..like })?,
            Item::File(bytes) => {
                let mut file = roots.create(&at, None)?;
                file.write_all(bytes)?;
                dress(&file, like)?;
            }
            Item::Link(target) => symlink(roots, target, (&at, like))?,
        }
    }
    Ok(())
}

/// Makes a link, which is not followed.
pub(super) fn symlink(
    roots: &Roots,
    target: &[u8],
    (at, like): (&Path, Like),
) -> io::Result<()> {
    roots.fuse.burn()?;
    match fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    rustix::fs::symlinkat(target, CWD, at)?;
    let (uid, gid) = (Uid::from_raw(like.uid), Gid::from_raw(like.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chownat(CWD, at, Some(uid), Some(gid), flags)?)
}

/// Plans what was changed during the dial tone into the history. `carried`: as it went there.
pub(super) fn plan(
    round: &mut Round<'_, '_>,
    carried: &Items,
    (dialled, history): (&Items, &Items),
) -> Result<(), Refusal> {
    for (path, (item, meta)) in dialled {
        if carried.get(path).is_some_and(|(before, _)| before == item) {
            continue;
        }
        let there = history.get(path).map(|(item, _)| item);
        let merged = match (item, path == SUBSCRIPTIONS) {
            (Item::File(now), true) => {
                let text = |items: &Items| match items.get(path) {
                    Some((Item::File(bytes), _)) => bytes.clone(),
                    Some(_) | None => Vec::new(),
                };
                Item::File(merge(&text(carried), now, &text(history)))
            }
            _ => item.clone(),
        };
        if there == Some(&merged) {
            continue;
        }
        let like = Like::file(meta);
        match (&merged, there) {
            (Item::Dir, None) => round.make_dir(path, meta),
            (Item::Dir, Some(_)) | (_, Some(Item::Dir)) => {
                round.leave_out((b"", path), "a directory has its name in the history");
            }
            (Item::File(bytes), there) => {
                round.put_bytes(bytes, (path, like), there.is_some())?;
            }
            (Item::Link(target), there) => {
                round.put_symlink(target, (path, like), there.is_some())?;
            }
        }
    }
    for (path, (item, _)) in carried {
        let is_same = history.get(path).is_some_and(|(there, _)| there == item);
        // Only a filter that is switched off leaves; a list that is gone says nothing.
        let switched_off = matches!(item, Item::Link(_) | Item::File(_));
        if !dialled.contains_key(path) && is_same && switched_off && path != SUBSCRIPTIONS
        {
            round.aside(path);
        }
    }
    Ok(())
}

/// Subscriptions of the history, with what was added and without what was taken away meanwhile.
fn merge(carried: &[u8], now: &[u8], history: &[u8]) -> Vec<u8> {
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let lines = bytes.split(|byte| *byte == b'\n');
        lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let is_name = |line: &&Vec<u8>| !line.starts_with(b"V\t");
    let newest = now;
    let (carried, now, history) = (lines(carried), lines(now), lines(history));
    // A list of another version writes names otherwise: the newest one wins.
    let version =
        |lines: &[Vec<u8>]| lines.first().is_some_and(|it| it.starts_with(b"V\t"));
    if history.is_empty() || version(&history) != version(&now) {
        return newest.to_vec();
    }
    let is_now: BTreeSet<&Vec<u8>> = now.iter().collect();
    let gone: BTreeSet<&Vec<u8>> =
        carried.iter().filter(is_name).filter(|it| !is_now.contains(it)).collect();
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut text = Vec::new();
    for line in history.iter().chain(&now).filter(|it| !gone.contains(it)) {
        if seen.insert(line.clone()) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
    }
    if version(&now) {
        // The head of version 2 ends with an empty line.
        let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(0) + 1;
        text.insert(end.min(text.len()), b'\n');
    }
    text
}

/// The tree below a directory of our own, if it is there.
pub(super) fn own_tree(path: &Path) -> io::Result<Option<Tree>> {
    match File::open(path) {
        Ok(_) => Tree::root(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_both_are_joined_and_what_was_dropped_stays_dropped() {
        let merged = merge(b"Sent\nOld\n", b"Sent\nNew\n", b"Sent\nOld\nArchive.2024\n");
        assert_eq!(merged, b"Sent\nArchive.2024\nNew\n");

        let second =
            merge(b"V\t2\n\nSent\n", b"V\t2\n\nSent\nA\tB\n", b"V\t2\n\nSent\nC\n");
        assert_eq!(second, b"V\t2\n\nSent\nC\nA\tB\n");

        assert_eq!(merge(b"", b"New\n", b""), b"New\n");
    }
}
