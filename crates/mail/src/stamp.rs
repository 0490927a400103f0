//! Stamp: has anything in a mailbox changed since it was prepared?
//!
//! # Invariants
//!
//! * Only names and stats are read; nothing is opened but directories, nothing is followed.
//! * Any message added, removed, renamed or written gives another stamp.

use std::cell::RefCell;
use std::collections::BTreeSet;

use rustix::io::Errno;

use crate::digest::Digester;
use crate::maildir::survey::{ENTRIES_MAX, Sub};
use crate::refusal::Refusal;
use crate::roots::Act;
use crate::walk::{Kind, Meta, Reach, Tree, join};

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

thread_local! {
    /// A name and its numbers, used again for each.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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
    LINE.with_borrow_mut(|line| {
        line.clear();
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
        u128::from_be_bytes(Digester::of(line))
    })
}

/// The stamp of a mailbox as it was read, on its way through the acts that change it.
///
/// What else changes since it was read shows: it is in the mailbox and not in the stamp.
pub(crate) struct Followed<'a> {
    root: Reach<'a>,
    /// The mailbox, below the root.
    path: &'a [u8],
    sum: u128,
    /// What the acts change, below the mailbox.
    touched: BTreeSet<Vec<u8>>,
}

impl<'a> Followed<'a> {
    /// Takes out of `sum`, which was read, what `acts` will change; nothing if that cannot be told.
    /// `tree_dirs`: the directories of trees that will be moved in, below the mailbox; the files in
    /// them are in the sum.
    pub(crate) fn begin(
        (root, path): (&'a Tree, &'a [u8]),
        sum: u128,
        (acts, tree_dirs): (&[Act], Vec<Vec<u8>>),
    ) -> Option<Self> {
        let root = Reach::new(root);
        let mut followed = Self { root, path, sum, touched: BTreeSet::new() };
        let mut asked = BTreeSet::new();
        for act in acts {
            match act {
                Act::Put { dir, name, replaces, .. } => {
                    asked.insert(followed.below(dir)?);
                    followed.take_out((dir, name), replaces.as_ref())?;
                }
                Act::Aside { dir, name, meta, .. } => {
                    asked.insert(followed.below(dir)?);
                    followed.take_out((dir, name), Some(meta))?;
                }
                Act::Touch { dir, name } => {
                    asked.insert(followed.below(&join(dir, name))?);
                }
                Act::Record { .. } => {}
                // The mailbox itself, or one of its folders; its files are in the sum.
                Act::PutTree { path, .. } => {
                    if !followed.below(path)?.is_empty() {
                        asked.insert(Vec::new());
                    }
                }
                Act::MakeDir { path: dir, .. } => {
                    // One above the mailbox is none of its own.
                    path.strip_prefix(&**dir)?.strip_prefix(b"/")?;
                }
            }
        }
        for entry in asked {
            let weight = followed.weigh_now(&entry)?;
            followed.sum = followed.sum.wrapping_sub(weight);
            followed.touched.insert(entry);
        }
        followed.touched.extend(tree_dirs);
        followed.root.leave();
        Some(followed)
    }

    /// The stamp after the acts; nothing if it cannot be told.
    pub(crate) fn end(mut self) -> Option<Stamp> {
        let mut sum = self.sum;
        for entry in std::mem::take(&mut self.touched) {
            sum = sum.wrapping_add(self.weigh_now(&entry)?);
        }
        Some(Stamp(sum.to_be_bytes()))
    }

    fn take_out(
        &mut self,
        (dir, name): (&[u8], &[u8]),
        meta: Option<&Meta>,
    ) -> Option<()> {
        let dir = self.below(dir)?;
        if let Some(meta) = meta {
            self.sum = self.sum.wrapping_sub(weigh(&dir, name, meta));
        }
        self.touched.insert(join(&dir, name));
        Some(())
    }

    fn below(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = path.strip_prefix(self.path)?;
        if rest.is_empty() {
            Some(Vec::new())
        } else {
            Some(rest.strip_prefix(b"/")?.to_vec())
        }
    }

    /// What one entry adds to the stamp as it is now.
    fn weigh_now(&mut self, entry: &[u8]) -> Option<u128> {
        if entry.is_empty() {
            let meta = self.root.dir(self.path).ok()?.meta().ok()?;
            return Some(weigh(b"", b"", &meta));
        }
        let (dir, name) = match entry.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (entry.get(..at)?, entry.get(at + 1..)?),
            None => (&b""[..], entry),
        };
        let folder = dir.is_empty() || dir.starts_with(b".") && !dir.contains(&b'/');
        let mail = is_mails(dir) && counts(name);
        if !folder && !mail {
            return None;
        }
        let found = self.root.dir(&join(self.path, dir)).ok()?.look(name).ok()?;
        Some(found.map_or(0, |(_, meta)| weigh(dir, name, &meta)))
    }
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
