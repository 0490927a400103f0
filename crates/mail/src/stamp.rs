//! Stamp: has anything in a mailbox changed since it was prepared?
//!
//! # Invariants
//!
//! * Only names and stats are read; nothing is opened but directories, nothing is followed.
//! * Any message added, removed, renamed or written gives another stamp.

use rustix::io::Errno;

use crate::maildir::survey::{ENTRIES_MAX, Sub};
use crate::refusal::Refusal;
use crate::walk::{Kind, Meta, Seen, Tree, join};

/// A digest over names, inodes, sizes and times of everything in a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp(pub [u8; 16]);

/// Folders in folders: deeper ones are not worked on either.
const DEPTH_MAX: u32 = 40;

/// Where dbox has its folders, one in another, and its messages.
const MAILBOXES: &[u8] = b"mailboxes";
const STORAGE: &[u8] = b"storage";

/// Stamps the mailbox at `path` below `root`.
pub(crate) fn stamp(root: &Tree, path: &[u8]) -> Result<Stamp, Refusal> {
    let home = root.dir(path).map_err(|errno| match errno {
        Errno::NOENT => Refusal::NotThere { path: crate::walk::escape(path) },
        errno => Refusal::read(path, errno),
    })?;
    let mut stamper = Stamper { hasher: blake3::Hasher::new(), left: ENTRIES_MAX, path };
    stamper.dir(&home, b"", (0, false))?;
    let mut stamp = [0; 16];
    stamper.hasher.finalize_xof().fill(&mut stamp);
    Ok(Stamp(stamp))
}

struct Stamper<'a> {
    hasher: blake3::Hasher,
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
        if depth > DEPTH_MAX {
            return Err(Refusal::TooManyEntries { entries_max: ENTRIES_MAX });
        }
        let refuse = |errno| match errno {
            Errno::TOOBIG => Refusal::TooManyEntries { entries_max: ENTRIES_MAX },
            errno => Refusal::read(&join(self.path, rel), errno),
        };
        let mut entries = dir.list(self.left).map_err(refuse)?;
        let meta = dir.meta().map_err(refuse)?;
        self.left = self.left.saturating_sub(entries.len());
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        self.entry(rel, &meta);
        for Seen { name, kind, meta } in &entries {
            self.entry(name, meta);
            let top = depth == 0;
            let folder = top && (name.starts_with(b".") || name == STORAGE);
            let mails = Sub::ALL.iter().any(|sub| sub.name() == name);
            let folders = deep || top && name == MAILBOXES;
            if *kind == Kind::Directory && (folder || mails || folders) {
                let rel = join(rel, name);
                match dir.dir(name) {
                    Ok(below) => self.dir(&below, &rel, (depth + 1, folders))?,
                    Err(errno) => return Err(Refusal::read(&rel, errno)),
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &[u8], meta: &Meta) {
        self.hasher.update(&(name.len() as u64).to_le_bytes());
        self.hasher.update(name);
        for number in [meta.inode, meta.size, u64::from(meta.mode)] {
            self.hasher.update(&number.to_le_bytes());
        }
        for (seconds, nanoseconds) in [meta.modified, meta.changed] {
            self.hasher.update(&seconds.to_le_bytes());
            self.hasher.update(&nanoseconds.to_le_bytes());
        }
    }
}
