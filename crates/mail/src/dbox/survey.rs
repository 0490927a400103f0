//! Survey: the folders and files of one dbox mailbox, by name and stat alone.
//!
//! ```text
//! mailboxes/<folder>/dbox-Mails/     indexes, and in single-dbox the messages u.<UID>
//! storage/m.<number>                 multi-dbox: files of messages, and the map of them
//! subscriptions, dovecot.mailbox.log ...
//! ```
//!
//! # Invariants
//!
//! * Nothing is opened but directories; nothing is followed.
//! * What is no regular file is never taken for a message.

use std::collections::BTreeMap;

use rustix::io::Errno;

use crate::maildir::survey::ENTRIES_MAX;
use crate::manifest::number;
use crate::refusal::Refusal;
use crate::walk::{Kind, Meta, Seen, Tree, escape, join};

/// Folders in folders: more than any layout has, few enough for one file handle each.
const DEPTH_MAX: usize = 32;

/// Where the folders are.
pub(crate) const MAILBOXES: &[u8] = b"mailboxes";

/// What a folder has its files in; a directory without it is only on the way to others.
pub(crate) const MAILS: &[u8] = b"dbox-Mails";

/// Where multi-dbox has its messages.
pub(crate) const STORAGE: &[u8] = b"storage";

/// The directory of the inbox.
const INBOX: &[u8] = b"INBOX";

/// One mailbox as it stands.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The mailbox's own directory.
    pub(crate) meta: Meta,
    /// Folders by their directory below `mailboxes`.
    pub(crate) folders: BTreeMap<Vec<u8>, Folder>,
    /// The messages of multi-dbox.
    pub(crate) storage: Option<Files>,
    /// Regular files beside them.
    pub(crate) control: BTreeMap<Vec<u8>, Meta>,
    /// Links and other odd items: folder and name.
    pub(crate) odd: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One folder as it stands.
pub(crate) type Folder = Files;

/// Numbered files of messages, and the rest of their directory.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// `u.<UID>` or `m.<number>`.
    pub(crate) mails: BTreeMap<u32, Meta>,
    /// Other regular files.
    pub(crate) control: BTreeMap<Vec<u8>, Meta>,
    /// What has a message's name and is no regular file.
    pub(crate) odd_mails: Vec<(u32, Meta)>,
}

impl Files {
    /// Nothing of the mail server's is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.mails.is_empty() && self.control.is_empty() && self.odd_mails.is_empty()
    }
}

/// The directory of a folder's files, below the mailbox.
pub(crate) fn folder_path(folder: &[u8]) -> Vec<u8> {
    join(MAILBOXES, &join(folder, MAILS))
}

/// A folder's name as reports and manifests have it: empty is the inbox.
pub(crate) fn report_name(folder: &[u8]) -> &[u8] {
    if folder == INBOX { b"" } else { folder }
}

/// A folder's directory from its name in a manifest.
pub(crate) fn directory(reported: &[u8]) -> &[u8] {
    if reported.is_empty() { INBOX } else { reported }
}

/// The path of a message's file.
pub(crate) fn mail_path(folder: &[u8], uid: u32) -> Vec<u8> {
    join(&folder_path(folder), format!("u.{uid}").as_bytes())
}

/// The path of a file of multi-dbox.
pub(crate) fn storage_path(file: u32) -> Vec<u8> {
    join(STORAGE, format!("m.{file}").as_bytes())
}

/// Surveys the mailbox at `path` below `root`; nothing if it is not there.
pub(crate) fn survey(root: &Tree, path: &[u8]) -> Result<Option<Survey>, Refusal> {
    let home = match root.dir_if_there(path) {
        Ok(Some(home)) => home,
        Ok(None) => return Ok(None),
        Err(errno) => return Err(Refusal::read(path, errno)),
    };
    let meta = home.meta().map_err(|errno| Refusal::read(path, errno))?;
    let mut survey = Survey {
        meta,
        folders: BTreeMap::new(),
        storage: None,
        control: BTreeMap::new(),
        odd: Vec::new(),
    };
    let mut surveyor = Surveyor { path, left: ENTRIES_MAX };
    for seen in surveyor.list(&home, b"")? {
        match (seen.kind, &*seen.name) {
            (Kind::Directory, MAILBOXES) => {
                let dir = surveyor.open(&home, b"", MAILBOXES)?;
                surveyor.folders(&dir, b"", &mut survey, 0)?;
            }
            (Kind::Directory, STORAGE) => {
                let dir = surveyor.open(&home, b"", STORAGE)?;
                let files = surveyor.files(&dir, (STORAGE, b"m."), &mut survey.odd)?;
                survey.storage = Some(files);
            }
            (Kind::File, _) => {
                survey.control.insert(seen.name, seen.meta);
            }
            (kind, MAILBOXES | STORAGE | b"subscriptions") => {
                return Err(surveyor.out_of_place(&seen.name, kind));
            }
            (Kind::Link | Kind::Special, _) => survey.odd.push((Vec::new(), seen.name)),
            (Kind::Directory, _) => {}
        }
    }
    Ok(Some(survey))
}

struct Surveyor<'a> {
    path: &'a [u8],
    left: usize,
}

impl Surveyor<'_> {
    /// The folders in and below a directory.
    fn folders(
        &mut self,
        dir: &Tree,
        name: &[u8],
        survey: &mut Survey,
        depth: usize,
    ) -> Result<(), Refusal> {
        if depth > DEPTH_MAX {
            let path = escape(&join(self.path, &join(MAILBOXES, name)));
            return Err(Refusal::Unsupported { path, what: "a folder that deep" });
        }
        let rel = join(MAILBOXES, name);
        for seen in self.list(dir, &rel)? {
            match (seen.kind, seen.name == MAILS && !name.is_empty()) {
                (Kind::Directory, true) => {
                    let mails = self.open(dir, &rel, MAILS)?;
                    let at = join(&rel, MAILS);
                    let files = self.files(&mails, (&at, b"u."), &mut survey.odd)?;
                    survey.folders.insert(name.to_vec(), files);
                }
                (Kind::Directory, false) => {
                    let below = self.open(dir, &rel, &seen.name)?;
                    self.folders(&below, &join(name, &seen.name), survey, depth + 1)?;
                }
                (kind, true) => {
                    return Err(self.out_of_place(&join(&rel, MAILS), kind));
                }
                (Kind::Link | Kind::Special, false) => {
                    survey.odd.push((name.to_vec(), seen.name));
                }
                (Kind::File, false) => {}
            }
        }
        Ok(())
    }

    fn files(
        &mut self,
        dir: &Tree,
        (rel, prefix): (&[u8], &[u8]),
        odd: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Files, Refusal> {
        let mut files = Files::default();
        for Seen { name, kind, meta } in self.list(dir, rel)? {
            // Mail servers open indexes by name; a link there would lead them away.
            let index = name.starts_with(b"dovecot.");
            match (kind, name.strip_prefix(prefix).and_then(plain_number)) {
                (Kind::File, Some(number)) => {
                    files.mails.insert(number, meta);
                }
                (Kind::File, None) => {
                    files.control.insert(name, meta);
                }
                (_, Some(number)) => files.odd_mails.push((number, meta)),
                (kind, None) if index => {
                    return Err(self.out_of_place(&join(rel, &name), kind));
                }
                (Kind::Directory, None) => {}
                (Kind::Link | Kind::Special, None) => odd.push((rel.to_vec(), name)),
            }
        }
        Ok(files)
    }

    fn open(&self, dir: &Tree, rel: &[u8], name: &[u8]) -> Result<Tree, Refusal> {
        dir.dir(name).map_err(|errno| self.refusal(&join(rel, name), errno))
    }

    fn list(&mut self, dir: &Tree, rel: &[u8]) -> Result<Vec<Seen>, Refusal> {
        let seen = dir.list(self.left).map_err(|errno| self.refusal(rel, errno))?;
        self.left = self.left.saturating_sub(seen.len());
        Ok(seen)
    }

    /// Something odd where the mail server would open a directory or file.
    fn out_of_place(&self, rel: &[u8], kind: Kind) -> Refusal {
        self.refusal(rel, if kind == Kind::Link { Errno::LOOP } else { Errno::NOTDIR })
    }

    fn refusal(&self, rel: &[u8], errno: Errno) -> Refusal {
        if errno == Errno::TOOBIG {
            return Refusal::TooManyEntries { entries_max: ENTRIES_MAX };
        }
        Refusal::read(&join(self.path, rel), errno)
    }
}

/// A number as Dovecot writes it, so that no two names have the same one.
fn plain_number(digits: &[u8]) -> Option<u32> {
    number(digits).filter(|_| digits.first() != Some(&b'0'))
}
