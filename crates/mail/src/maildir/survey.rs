//! Survey: the folders and files of one Maildir, without opening any.
//!
//! # Invariants
//!
//! * Nothing is opened but directories; nothing is followed. Messages are known by name and inode alone
//!   until they are read.
//! * What is no regular file is never taken for a message.

use std::collections::{BTreeMap, HashSet};

use rustix::io::Errno;

use crate::maildir::control;
use crate::maildir::table::Table;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stamp::{counts, is_deep, weigh};
use crate::walk::{Kind, Meta, Tree, join};

/// Entries of one mailbox; beyond this it is no mailbox but an attack or an accident.
pub(crate) const ENTRIES_MAX: usize = 2_000_000;

/// A directory of more bytes is counted before it is listed.
const LARGE_BYTES: u64 = 1 << 20;

/// One Maildir as it stands.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The Maildir's own directory.
    pub(crate) meta: Meta,
    /// Folders, and directories that may have been some, by name without the leading dot; empty is the
    /// inbox.
    pub(crate) folders: BTreeMap<Vec<u8>, Folder>,
    /// Links and other odd items outside the mail directories: folder and name.
    pub(crate) odd: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many entries its mail directories may have.
    pub(crate) left: usize,
    /// What all that was listed adds to the mailbox's stamp; nothing if not all of it was.
    pub(crate) weight: Option<u128>,
}

/// One folder as it stands.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Its name on this side; a renamed folder has another one on the other side.
    pub(crate) name: Vec<u8>,
    pub(crate) has: [bool; 3],
    /// What stands in `cur` or `new` and is no regular file.
    pub(crate) odd: Vec<(Sub, Vec<u8>)>,
    /// Regular files beside the mail directories.
    pub(crate) control: BTreeMap<Vec<u8>, Meta>,
}

/// The directories of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sub {
    Cur,
    New,
    Tmp,
}

impl Sub {
    pub(crate) const ALL: [Self; 3] = [Self::Cur, Self::New, Self::Tmp];

    pub(crate) fn name(self) -> &'static [u8] {
        match self {
            Self::Cur => b"cur",
            Self::New => b"new",
            Self::Tmp => b"tmp",
        }
    }
}

/// The path of a folder below its Maildir, and where what leaves it is kept.
pub(crate) fn folder_path(folder: &[u8]) -> Vec<u8> {
    if folder.is_empty() { Vec::new() } else { [b".", folder].concat() }
}

/// The path of something in a mail directory, below the Maildir.
pub(crate) fn mail_path(folder: &[u8], sub: Sub, name: &[u8]) -> Vec<u8> {
    join(&folder_path(folder), &join(sub.name(), name))
}

/// Surveys the Maildir at `path` below `root`, one side's; nothing if it is not there.
pub(crate) fn survey(
    (side, root): (Side, &Tree),
    path: &[u8],
) -> Result<Option<Survey>, Refusal> {
    let maildir = match root.dir_if_there(path) {
        Ok(Some(maildir)) => maildir,
        Ok(None) => return Ok(None),
        Err(errno) => return Err(Refusal::read(path, errno)),
    };
    let meta = maildir.meta().map_err(|errno| Refusal::read(path, errno))?;
    let weight = weigh(b"", b"", &meta);
    let mut surveyor = Surveyor { path, side, left: ENTRIES_MAX, weight };
    let (folders, odd) = (BTreeMap::new(), Vec::new());
    let mut survey = Survey { meta, folders, odd, left: 0, weight: None };
    let top = surveyor.list(&maildir, b"")?;
    let deep = top.iter().any(|seen| is_deep(&seen.name));
    for seen in top.iter().filter(|seen| is_folder_name(&seen.name)) {
        let name = seen.name.get(1..).unwrap_or_default();
        match seen.kind {
            Kind::Directory => {
                let dir = maildir.dir(&seen.name);
                let dir = dir.map_err(|errno| surveyor.refusal(&seen.name, errno))?;
                let entries = surveyor.list(&dir, &seen.name)?;
                let folder = surveyor.folder(name, entries, &mut survey.odd)?;
                survey.folders.insert(name.to_vec(), folder);
            }
            Kind::Link | Kind::Special => {
                survey.odd.push((Vec::new(), seen.name.clone()));
            }
            Kind::File => {}
        }
    }
    let top = top.into_iter().filter(|seen| !is_folder_name(&seen.name)).collect();
    let inbox = surveyor.folder(b"", top, &mut survey.odd)?;
    survey.folders.insert(Vec::new(), inbox);
    survey.left = surveyor.left;
    survey.weight = (!deep).then_some(surveyor.weight);
    Ok(Some(survey))
}

/// Leaves out the directories that are no folders. One that has lost all that made it a folder is
/// live one still: nothing can be put in its place.
pub(crate) fn leave_out_others(live: Option<&mut Survey>, snapshot: Option<&mut Survey>) {
    let mut known = HashSet::new();
    if let Some(snapshot) = snapshot {
        snapshot.folders.retain(|_, folder| folder.is_folder());
        known.extend(snapshot.folders.keys());
    }
    if let Some(live) = live {
        live.folders.retain(|name, folder| folder.is_folder() || known.contains(name));
    }
}

fn is_folder_name(name: &[u8]) -> bool {
    name.len() > 1 && name.starts_with(b".")
}

/// Lists the mail directories of a folder into its table; its `cur`, still open. `left`: how many
/// entries they may have.
pub(crate) fn list_mails(
    (root, path): (&Tree, &[u8]),
    (side, folder): (Side, &mut Folder),
    table: &mut Table,
    left: &mut usize,
) -> Result<Option<Tree>, Refusal> {
    let mut cur = None;
    for (sub, has) in Sub::ALL.into_iter().zip(folder.has) {
        if !has || sub == Sub::Tmp {
            continue;
        }
        let at = join(path, &join(&folder_path(&folder.name), sub.name()));
        let refuse = |errno| refusal(&at, errno);
        let dir = root.dir(&at).map_err(refuse)?;
        if table.len() == 0 && dir.meta().map_err(refuse)?.size > LARGE_BYTES {
            table.reserve(dir.each(*left, |_, _, _| {}).map_err(refuse)?);
        }
        let odd = &mut folder.odd;
        let count = dir.each(*left, |name, kind, inode| match kind {
            // Mail servers skip hidden files.
            _ if !counts(name) => {}
            Kind::File => table.add(side, (sub, name), inode),
            Kind::Directory | Kind::Link | Kind::Special => {
                odd.push((sub, name.to_vec()));
            }
        });
        *left = left.saturating_sub(count.map_err(refuse)?);
        if sub == Sub::Cur {
            cur = Some(dir);
        }
    }
    Ok(cur)
}

fn refusal(path: &[u8], errno: Errno) -> Refusal {
    if errno == Errno::TOOBIG {
        return Refusal::TooManyEntries { entries_max: ENTRIES_MAX };
    }
    Refusal::read(path, errno)
}

impl Folder {
    fn is_folder(&self) -> bool {
        self.name.is_empty()
            || self.has.contains(&true)
            || self.control.contains_key(&b"dovecot-uidlist"[..])
            || self.control.contains_key(&b"maildirfolder"[..])
    }
}

/// What stands in a directory beside the mail.
struct Entry {
    name: Vec<u8>,
    kind: Kind,
    /// Nothing of what only the live side's stamp would need.
    meta: Option<Meta>,
}

struct Surveyor<'a> {
    path: &'a [u8],
    side: Side,
    left: usize,
    weight: u128,
}

impl Surveyor<'_> {
    fn folder(
        &mut self,
        name: &[u8],
        entries: Vec<Entry>,
        odd: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Folder, Refusal> {
        let mut folder = Folder {
            name: name.to_vec(),
            has: [false; 3],
            odd: Vec::new(),
            control: BTreeMap::new(),
        };
        for seen in entries {
            let slot = Sub::ALL.into_iter().zip(&mut folder.has);
            let sub = slot.into_iter().find(|(sub, _)| sub.name() == seen.name);
            match (sub, seen.kind) {
                (Some((_, has)), Kind::Directory) => *has = true,
                (Some(_), kind) => return Err(self.odd_in_place(name, &seen, kind)),
                (None, Kind::File) => {
                    folder.control.extend(seen.meta.map(|meta| (seen.name, meta)));
                }
                (None, kind) if control::MUST_BE_FILES.contains(&&*seen.name) => {
                    return Err(self.odd_in_place(name, &seen, kind));
                }
                (None, Kind::Link | Kind::Special) => {
                    odd.push((name.to_vec(), seen.name));
                }
                (None, Kind::Directory) => {}
            }
        }
        Ok(folder)
    }

    fn list(&mut self, dir: &Tree, rel: &[u8]) -> Result<Vec<Entry>, Refusal> {
        let mut entries = Vec::new();
        let count = dir.each(self.left, |name, kind, _| {
            entries.push(Entry { name: name.to_vec(), kind, meta: None });
        });
        let count = count.map_err(|errno| self.refusal(rel, errno))?;
        self.left = self.left.saturating_sub(count);
        let mut seen = Vec::with_capacity(entries.len());
        for Entry { name, kind, .. } in entries {
            if self.side == Side::Snapshot && kind == Kind::Directory {
                seen.push(Entry { name, kind, meta: None });
                continue;
            }
            let found = dir.look(&name).map_err(|errno| self.refusal(rel, errno))?;
            let Some((kind, meta)) = found else { continue };
            self.weight = self.weight.wrapping_add(weigh(rel, &name, &meta));
            seen.push(Entry { name, kind, meta: Some(meta) });
        }
        Ok(seen)
    }

    /// Something odd where the mail server would open a directory or file.
    fn odd_in_place(&self, folder: &[u8], seen: &Entry, kind: Kind) -> Refusal {
        let rel = join(&folder_path(folder), &seen.name);
        let errno = if kind == Kind::Link { Errno::LOOP } else { Errno::NOTDIR };
        self.refusal(&rel, errno)
    }

    fn refusal(&self, rel: &[u8], errno: Errno) -> Refusal {
        refusal(&join(self.path, rel), errno)
    }
}
