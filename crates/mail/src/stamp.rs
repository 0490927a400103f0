//! Stamp: has anything in a mailbox changed since it was prepared?
//!
//! # Invariants
//!
//! * Only names and stats are read; nothing is opened but directories, nothing is followed.
//! * Any message added, removed, renamed or written gives another stamp.

use rustix::io::Errno;

use crate::digest::Digester;
use crate::maildir::survey::{ENTRIES_MAX, Sub};
use crate::refusal::Refusal;
use crate::walk::{Kind, Meta, Tree, join};

/// Of names, inodes, sizes, modes and times of everything in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(pub [u8; 16]);

/// Folders in folders: deeper ones are not worked on either.
const DEPTH_MAX: u32 = 40;

/// Where dbox has its folders, one in another, and its messages.
const MAILBOXES: &[u8] = b"mailboxes";
const STORAGE: &[u8] = b"storage";

/// Where a Maildir has its messages; `tmp` is of no account.
const MAILS: [Sub; 2] = [Sub::Cur, Sub::New];

/// A name and its numbers, most of the time.
const LINE_BYTES: usize = 192;

/// Stamps the mailbox at `path` below `root`.
pub(crate) fn stamp(root: &Tree, path: &[u8]) -> Result<Stamp, Refusal> {
    let home = root.dir(path).map_err(|errno| match errno {
        Errno::NOENT => Refusal::NotThere { path: crate::walk::escape(path) },
        errno => Refusal::read(path, errno),
    })?;
    let meta = home.meta().map_err(|errno| Refusal::read(path, errno))?;
    let sum = weigh(b"", b"", &meta);
    let mut stamper = Stamper { sum, left: ENTRIES_MAX, path };
    stamper.dir(&home, b"", (0, false))?;
    Ok(Stamp(stamper.sum.to_be_bytes()))
}

/// What one entry adds to the stamp of its mailbox. `dir`: below the mailbox.
pub(crate) fn weigh(dir: &[u8], name: &[u8], meta: &Meta) -> u128 {
    let mut line = Vec::with_capacity(LINE_BYTES);
    for text in [dir, name] {
        line.extend_from_slice(&(text.len() as u64).to_le_bytes());
        line.extend_from_slice(text);
    }
    for number in [meta.inode, meta.size, u64::from(meta.mode)] {
        line.extend_from_slice(&number.to_le_bytes());
    }
    for (seconds, nanoseconds) in [meta.modified, meta.changed] {
        line.extend_from_slice(&seconds.to_le_bytes());
        line.extend_from_slice(&nanoseconds.to_le_bytes());
    }
    u128::from_be_bytes(Digester::of(&line))
}

/// A top directory whose contents are all stamped, whatever they are.
pub(crate) fn is_deep(name: &[u8]) -> bool {
    name == STORAGE || name == MAILBOXES
}

/// Whether an entry of a mail directory counts: mail servers skip hidden files.
pub(crate) fn counts(name: &[u8]) -> bool {
    !name.starts_with(b".")
}

/// Whether a path is that of a folder's `cur` or `new`.
fn is_mails(rel: &[u8]) -> bool {
    let last = rel.rsplit(|byte| *byte == b'/').next();
    MAILS.into_iter().any(|sub| last == Some(sub.name()))
}

struct Stamper<'a> {
    /// Of the digests of all entries, so that their order does not count and none must be kept.
    sum: u128,
    left: usize,
    path: &'a [u8],
}

impl Stamper<'_> {
    /// Stamps a directory. `deep`: whatever is in it belongs to the mailbox.
    fn dir(
        &mut self,
        dir: &Tree,
        rel: &[u8],
        (depth, deep): (u32, bool),
    ) -> Result<(), Refusal> {
        let path = self.path;
        let refuse = |errno| match errno {
            Errno::TOOBIG => Refusal::TooManyEntries { entries_max: ENTRIES_MAX },
            errno => Refusal::read(&join(path, rel), errno),
        };
        if depth > DEPTH_MAX {
            return Err(refuse(Errno::TOOBIG));
        }
        let in_mails = !deep && is_mails(rel);
        let (mut below, mut failed) = (Vec::new(), None);
        let count = dir.each(self.left, |name, kind, _| {
            if in_mails && !counts(name) {
                return;
            }
            match dir.look(name) {
                Ok(Some((_, meta))) => {
                    self.sum = self.sum.wrapping_add(weigh(rel, name, &meta));
                }
                Ok(None) => {}
                Err(errno) => failed = Some(errno),
            }
            let top = depth == 0;
            let folder = top && (name.starts_with(b".") || name == STORAGE);
            let mails = MAILS.into_iter().any(|sub| sub.name() == name);
            let folders = deep || top && name == MAILBOXES;
            if kind == Kind::Directory
                && (folder || mails || folders)
                && (deep || !in_mails)
            {
                below.push((name.to_vec(), folders));
            }
        });
        let count = count.map_err(refuse)?;
        if let Some(errno) = failed {
            return Err(refuse(errno));
        }
        self.left = self.left.saturating_sub(count);
        for (name, folders) in below {
            let rel = join(rel, &name);
            let dir = dir.dir(&name).map_err(|errno| Refusal::read(&rel, errno))?;
            self.dir(&dir, &rel, (depth + 1, folders))?;
        }
        Ok(())
    }
}
