//! Probe: reading an open mailbox as its user's mail program would.
//!
//! # Invariants
//!
//! * A message that the user moved or deleted is never a failure.
//! * A message that is there and is not what was recorded always is.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::dbox::probe::Reader;
use crate::format::Format;
use crate::judge::{BUFFER_BYTES, Depth, Findings, judge};
use crate::maildir::name::MailName;
use crate::maildir::survey::{ENTRIES_MAX, Sub, folder_path};
use crate::manifest::{Manifest, ManifestEntry};
use crate::reason::Reason;
use crate::walk::{Tree, escape, join};

/// Messages tried for one that is still there; users delete their newest mail first.
const CANDIDATES_MAX: u64 = 8;

/// What a reader met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Folders and messages could be read, and are what was recorded.
    Healthy {
        /// Time for everything.
        latency: Duration,
    },
    /// Something could not be read.
    Unreadable {
        /// What, below the Maildir, and why.
        what: String,
    },
    /// A message is not what was recorded.
    Altered {
        /// Which.
        what: String,
    },
    /// A message is not what was recorded and belongs to somebody else.
    Foreign,
}

/// What is read.
pub(crate) struct Target<'a> {
    pub(crate) root: &'a Tree,
    pub(crate) path: &'a [u8],
    pub(crate) owner: &'a str,
    pub(crate) manifest: &'a Manifest,
}

impl Target<'_> {
    /// Lists the folders, then reads the newest message and one by chance.
    pub(crate) fn probe(&self, seed: u64) -> Probe {
        let started = Instant::now();
        let read = match Format::on(self.root, self.path) {
            Ok(Some(format @ (Format::Sdbox | Format::Mdbox))) => self.dbox(format, seed),
            // What is wrong with its directory is said by who reads it.
            Ok(Some(Format::Maildir) | None) | Err(_) => self.maildir(seed),
        };
        match read {
            Ok(()) => Probe::Healthy { latency: started.elapsed() },
            Err(failure) => failure,
        }
    }

    fn folders(&self) -> Result<(), Probe> {
        let maildir = self.root.dir(self.path).map_err(|errno| unreadable(b"", errno))?;
        let names = maildir.names(ENTRIES_MAX).map_err(|errno| unreadable(b"", errno))?;
        folder(&maildir, b"")?;
        for name in names.iter().filter(|name| name.starts_with(b".")) {
            match maildir.dir(name) {
                Ok(dir) if is_mail_folder(&dir) => folder(&dir, name)?,
                Ok(_) | Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => {}
                Err(errno) => return Err(unreadable(name, errno)),
            }
        }
        Ok(())
    }

    fn maildir(&self, seed: u64) -> Result<(), Probe> {
        self.folders()?;
        let entries = self.manifest.entries.iter();
        let newest = entries.max_by_key(|it| MailName::parse(&it.name).delivered_at());
        self.messages(seed, newest, |entry| self.message(entry))
    }

    fn dbox(&self, format: Format, seed: u64) -> Result<(), Probe> {
        let reader = Reader::open(self, format)?;
        let newest = self.manifest.entries.iter().max_by_key(|entry| entry.uid);
        self.messages(seed, newest, |entry| reader.message(entry))
    }

    /// Reads the newest message, and one by chance that is still there.
    fn messages(
        &self,
        seed: u64,
        newest: Option<&ManifestEntry>,
        read: impl Fn(&ManifestEntry) -> Result<bool, Probe>,
    ) -> Result<(), Probe> {
        let entries = &self.manifest.entries;
        if let Some(newest) = newest {
            read(newest)?;
        }
        for attempt in 0..CANDIDATES_MAX {
            let chance =
                blake3::hash(&[seed.to_le_bytes(), attempt.to_le_bytes()].concat());
            let bytes = chance.as_bytes().first_chunk().copied().unwrap_or_default();
            let count = (entries.len() as u64).max(1);
            let index = usize::try_from(u64::from_le_bytes(bytes) % count);
            let entry = index.ok().and_then(|index| entries.get(index));
            match entry.map(&read) {
                None | Some(Ok(true)) => return Ok(()),
                Some(Ok(false)) => {}
                Some(Err(failure)) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Reads one message; whether it is still there.
    fn message(&self, entry: &ManifestEntry) -> Result<bool, Probe> {
        let folder = join(self.path, &folder_path(&entry.folder));
        for sub in [Sub::Cur, Sub::New] {
            let Ok(dir) = self.root.dir(&join(&folder, sub.name())) else { continue };
            let names = dir.names(ENTRIES_MAX).unwrap_or_default();
            let is_it = |name: &&Vec<u8>| MailName::parse(name).base == entry.name;
            if let Some(name) = names.iter().find(is_it) {
                let what = join(&folder_path(&entry.folder), name);
                return match dir.file(name) {
                    Ok((file, _)) => self.compare(file, entry, &what).map(|()| true),
                    // Renamed this moment: its flags changed.
                    Err(Errno::NOENT) => Ok(false),
                    Err(errno) => Err(unreadable(&what, errno)),
                };
            }
        }
        Ok(false)
    }

    fn compare(
        &self,
        mut file: std::fs::File,
        entry: &ManifestEntry,
        what: &[u8],
    ) -> Result<(), Probe> {
        let promise = MailName::parse(&entry.name).promise();
        let mut buffer = vec![0; BUFFER_BYTES];
        let findings: Findings =
            judge(&mut file, promise, self.owner, Depth::Quick, &mut buffer).map_err(
                |error| Probe::Unreadable { what: format!("{}: {error}", escape(what)) },
            )?;
        if findings.matches(&entry.fingerprint) == Some(true) {
            Ok(())
        } else if findings.faults.contains(&Reason::ForeignBytes) {
            Err(Probe::Foreign)
        } else {
            Err(Probe::Altered { what: escape(what) })
        }
    }
}

/// A folder's `cur` and `new` must be readable.
fn folder(folder: &Tree, rel: &[u8]) -> Result<(), Probe> {
    for sub in [Sub::Cur, Sub::New] {
        let names = folder.dir(sub.name()).and_then(|dir| dir.names(ENTRIES_MAX));
        names.map_err(|errno| unreadable(&join(rel, sub.name()), errno))?;
    }
    Ok(())
}

/// A directory with none of the mail directories is no folder, unless it has lost them.
fn is_mail_folder(dir: &Tree) -> bool {
    let has = |name: &[u8]| matches!(dir.look(name), Ok(Some(_)));
    [&b"cur"[..], b"new", b"tmp", b"dovecot-uidlist"].into_iter().any(has)
}

fn unreadable(what: &[u8], errno: Errno) -> Probe {
    let error = std::io::Error::from(errno);
    Probe::Unreadable { what: format!("{}: {error}", escape(what)) }
}
