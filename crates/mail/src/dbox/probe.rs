//! Probe: reading a dbox mailbox that is open, as the mail server would.
//!
//! # Invariants
//!
//! * A message is found as the mail server finds it: by UID in the folder's index, then by the map.
//! * Under a UID that its folder no longer has, or that has another message by now, nothing is wrong.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;

use rustix::io::Errno;

use crate::dbox::desk::{Mail, examine_at};
use crate::dbox::known::{FOLDER, MAP};
use crate::dbox::survey::{STORAGE, directory, folder_path, mail_path, storage_path};
use crate::digest::from_hex;
use crate::format::Format;
use crate::index::{self, Index, Reading};
use crate::manifest::ManifestEntry;
use crate::probe::{Probe, Target};
use crate::reason::Reason;
use crate::walk::{Tree, escape, join};

/// Index files larger than this are not read by a probe: a folder of a million messages has half.
const INDEX_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The mail server may write an index while it is read; it does not do so three times in a row.
const ATTEMPTS_MAX: u32 = 3;

/// A mailbox whose indexes could be read.
pub(crate) struct Reader<'a> {
    target: &'a Target<'a>,
    home: Tree,
    indexes: HashMap<&'a [u8], Index>,
    /// Of multi-dbox.
    map: Option<Index>,
}

impl<'a> Reader<'a> {
    /// Reads the indexes of all folders that were recorded and are there.
    pub(crate) fn open(target: &'a Target<'a>, format: Format) -> Result<Self, Probe> {
        let home = target.root.dir(target.path);
        let home = home.map_err(|errno| unreadable(b"", errno))?;
        let entries = &target.manifest.entries;
        let folders: BTreeSet<&[u8]> = entries.iter().map(|it| &*it.folder).collect();
        let mut indexes = HashMap::new();
        for folder in folders {
            let dir = folder_path(directory(folder));
            if let Some(index) = read_index(&home, &dir, FOLDER)? {
                indexes.insert(folder, index);
            }
        }
        let map = match format {
            Format::Mdbox => read_index(&home, STORAGE, MAP)?,
            Format::Maildir | Format::Sdbox => None,
        };
        if format == Format::Mdbox && map.is_none() && !entries.is_empty() {
            return Err(unreadable(STORAGE, Errno::NOENT));
        }
        Ok(Self { target, home, indexes, map })
    }

    /// Reads one message; whether it is still there.
    pub(crate) fn message(&self, entry: &ManifestEntry) -> Result<bool, Probe> {
        let index = self.indexes.get(&*entry.folder);
        let Some((index, uid)) = index.zip(entry.uid) else { return Ok(false) };
        if index.holds(uid) != Some(true) {
            return Ok(false);
        }
        let (rel, start) = match &self.map {
            None => (mail_path(directory(&entry.folder), uid), None),
            Some(map) => {
                let record = index.get(uid);
                let map_uid = record.and_then(|record| record.map_uid);
                let place = map_uid.and_then(|map_uid| map.map_entry(map_uid));
                let lost = || Probe::Unreadable { what: what(entry) };
                let place = place.ok_or_else(lost)?;
                (storage_path(place.file_id), Some(u64::from(place.offset)))
            }
        };
        let (file, meta) = match self.home.file(&rel) {
            Ok(found) => found,
            // Expunged this moment, or moved into another file by a purge.
            Err(Errno::NOENT) if self.is_gone_by_now(entry, uid)? => return Ok(false),
            Err(errno) => return Err(unreadable(&rel, errno)),
        };
        let owner = self.target.owner;
        let mail = examine_at(&file, (start, meta.size), owner);
        let mail = mail.map_err(|error| Probe::Unreadable {
            what: format!("{}: {error}", escape(&rel)),
        })?;
        self.compare(&mail, entry)
    }

    fn compare(&self, mail: &Mail, entry: &ManifestEntry) -> Result<bool, Probe> {
        let findings = &mail.findings;
        let recorded = findings.matches(&entry.fingerprint) == Some(true);
        if recorded && mail.guid == from_hex(&entry.name) {
            return Ok(true);
        }
        if findings.faults.contains(&Reason::ForeignBytes) {
            return Err(Probe::Foreign);
        }
        // Another message under the UID: the folder was made anew, unless it is one of ours.
        let entries = &self.target.manifest.entries;
        let guid = mail.guid.filter(|guid| from_hex(&entry.name) != Some(*guid));
        let ours = |guid| {
            entries
                .iter()
                .any(|it| it.folder == entry.folder && from_hex(&it.name) == Some(guid))
        };
        match guid {
            Some(guid) if findings.fault().is_none() && !ours(guid) => Ok(false),
            Some(_) | None => Err(Probe::Altered { what: what(entry) }),
        }
    }

    fn is_gone_by_now(&self, entry: &ManifestEntry, uid: u32) -> Result<bool, Probe> {
        let dir = folder_path(directory(&entry.folder));
        let now = read_index(&self.home, &dir, FOLDER)?;
        Ok(self.map.is_some() || now.is_none_or(|index| index.holds(uid) != Some(true)))
    }
}

fn what(entry: &ManifestEntry) -> String {
    escape(&join(directory(&entry.folder), &entry.name))
}

/// An index that the mail server would read; nothing if there is none.
fn read_index(home: &Tree, dir: &[u8], prefix: &[u8]) -> Result<Option<Index>, Probe> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let Some(reading) = read_once(home, dir, prefix)? else { return Ok(None) };
        let last = attempts >= ATTEMPTS_MAX;
        match reading {
            Reading::Stale(_) | Reading::Silent | Reading::Broken(_) if !last => {}
            Reading::Whole(index) | Reading::Stale(index) => return Ok(Some(index)),
            Reading::Silent | Reading::Broken(_) => {
                let what = format!("{}: broken index", escape(dir));
                return Err(Probe::Unreadable { what });
            }
        }
    }
}

/// An index as it is this moment; nothing if there is none.
pub(crate) fn read_once(
    home: &Tree,
    dir: &[u8],
    prefix: &[u8],
) -> Result<Option<Reading>, Probe> {
    let file = |end: &[u8]| {
        let rel = join(dir, &[prefix, end].concat());
        match home.file(&rel) {
            Ok((file, _)) => {
                read(file).map(Some).map_err(|errno| unreadable(&rel, errno))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(unreadable(&rel, errno)),
        }
    };
    let (index, older) = (file(b"")?, file(b".log.2")?);
    let log = file(b".log")?;
    let is_there = index.is_some() || log.is_some();
    let read = || index::read(index.as_deref(), log.as_deref(), older.as_deref());
    Ok(is_there.then(read))
}

fn read(file: File) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let read = file.take(INDEX_BYTES_MAX).read_to_end(&mut bytes);
    read.map(|_| bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn unreadable(what: &[u8], errno: Errno) -> Probe {
    let error = std::io::Error::from(errno);
    Probe::Unreadable { what: format!("{}: {error}", escape(what)) }
}
