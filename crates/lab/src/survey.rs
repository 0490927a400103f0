//! Survey: what lies in a mailbox on disk now, read without any trust.
//!
//! # Invariants
//!
//! * No link is followed and nothing but regular files is opened.
//! * A file or directory that vanishes meanwhile counts as absent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::provider::LabError;
use crate::truth::Digest;

/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 * 1024;
/// No list of the lab is longer than this; a longer one is not read to its end.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// A mailbox.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// By name; `""` is the INBOX.
    pub(crate) folders: BTreeMap<String, Folder>,
}

/// A folder.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    /// By base name.
    pub(crate) files: BTreeMap<String, Vec<Mail>>,
    /// What lies in `cur` or `new` and is no regular file.
    pub(crate) odd: Vec<String>,
    pub(crate) list: Option<List>,
    /// Keyword names by letter.
    keywords: BTreeMap<char, String>,
}

/// A message's file.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) digest: Digest,
    pub(crate) mtime: i64,
    /// Its system flags, in alphabetical order.
    pub(crate) flags: String,
    /// Its keyword letters.
    pub(crate) letters: String,
}

/// A uidlist.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) uid_validity: u32,
    header_next: u32,
    pub(crate) entries: Vec<(u32, String)>,
    uids: BTreeMap<String, u32>,
    /// What no uidlist may have.
    pub(crate) faults: Vec<String>,
}

/// Reads the mailbox at `maildir`; an absent one is empty.
pub(crate) fn mailbox(maildir: &Path) -> Result<Survey, LabError> {
    let mut survey = Survey::default();
    let entries = match read_dir(maildir) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(survey),
        Err(error) => return Err(LabError::file("read", maildir)(error)),
    };
    survey.folders.insert(String::new(), folder(maildir)?);
    for entry in entries {
        let Some(name) = entry.strip_prefix('.') else { continue };
        let path = maildir.join(&entry);
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            survey.folders.insert(name.to_owned(), folder(&path)?);
        }
    }
    Ok(survey)
}

/// The digest of a regular file, or `None` when it is something else or gone.
pub(crate) fn digest(path: &Path) -> io::Result<Option<(Digest, i64)>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer =
        vec![0; BUFFER_BYTES.min(usize::try_from(meta.len()).unwrap_or(0) + 1)];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(Some((Digest(*hasher.finalize().as_bytes()), meta.mtime())))
}

impl Survey {
    /// The digests of everything in it.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        let files = self.folders.values().flat_map(|folder| folder.files.values());
        files.flatten().map(|mail| mail.digest)
    }
}

impl Folder {
    /// The keyword names of `letters`, and how many have none.
    pub(crate) fn words(&self, letters: &str) -> (Vec<&str>, usize) {
        let words: Vec<&str> = letters
            .chars()
            .filter_map(|letter| self.keywords.get(&letter))
            .map(String::as_str)
            .collect();
        let unnamed = letters.chars().count() - words.len();
        (words, unnamed)
    }
}

impl List {
    /// Reads a version 3 uidlist; `None` when its header is unreadable.
    fn parse(text: &str) -> Option<Self> {
        let (header, lines) = text.split_once('\n')?;
        let mut list = Self::default();
        let mut fields = header.split(' ');
        if fields.next() != Some("3") {
            return None;
        }
        for field in fields {
            if let Some(number) = field.strip_prefix('V') {
                list.uid_validity = number.parse().ok()?;
            } else if let Some(number) = field.strip_prefix('N') {
                list.header_next = number.parse().ok()?;
            }
        }
        if list.uid_validity == 0 {
            return None;
        }
        let mut last = 0;
        for line in lines.lines() {
            let parsed = line.split_once(" :").and_then(|(fields, name)| {
                let uid: u32 = fields.split(' ').next()?.parse().ok()?;
                Some((uid, name.split(':').next().unwrap_or(name).to_owned()))
            });
            let Some((uid, name)) = parsed else {
                list.faults
                    .push(format!("uidlist has the line `{}`", line.escape_debug()));
                continue;
            };
            if uid <= last {
                list.faults.push(format!("uidlist has UID {uid} after {last}"));
            }
            last = last.max(uid);
            if list.uids.insert(name.clone(), uid).is_some() {
                list.faults.push(format!("uidlist has {name} twice"));
            }
            list.entries.push((uid, name));
        }
        if !lines.is_empty() && !lines.ends_with('\n') {
            list.faults.push("uidlist ends within a line".to_owned());
        }
        Some(list)
    }

    pub(crate) fn uid(&self, name: &str) -> Option<u32> {
        self.uids.get(name).copied()
    }

    /// The UID that comes next: the header may be old.
    pub(crate) fn next_uid(&self) -> u32 {
        let last = self.entries.iter().map(|(uid, _)| *uid).max().unwrap_or(0);
        self.header_next.max(last.saturating_add(1))
    }
}

fn folder(path: &Path) -> Result<Folder, LabError> {
    let mut folder = Folder::default();
    for place in ["cur", "new"] {
        let place = path.join(place);
        let names = match read_dir(&place) {
            Ok(names) => names,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(LabError::file("read", &place)(error)),
        };
        for name in names {
            let path = place.join(&name);
            let mail = digest(&path).map_err(LabError::file("read", &path))?;
            let Some((digest, mtime)) = mail else {
                folder.odd.push(name);
                continue;
            };
            let (base, suffix) = name.split_once(':').unwrap_or((&name, ""));
            let marks = suffix.strip_prefix("2,").unwrap_or("");
            let flags = marks.chars().filter(char::is_ascii_uppercase).collect();
            let letters = marks.chars().filter(char::is_ascii_lowercase).collect();
            let mail = Mail { digest, mtime, flags, letters };
            folder.files.entry(base.to_owned()).or_default().push(mail);
        }
    }
    folder.list =
        small_file(&path.join("dovecot-uidlist"))?.as_deref().and_then(List::parse);
    let keywords = small_file(&path.join("dovecot-keywords"))?.unwrap_or_default();
    folder.keywords = keywords
        .lines()
        .filter_map(|line| {
            let (number, word) = line.split_once(' ')?;
            let number: u8 = number.parse().ok()?;
            (number < 26).then(|| (char::from(b'a' + number), word.to_owned()))
        })
        .collect();
    Ok(folder)
}

fn read_dir(path: &Path) -> io::Result<Vec<String>> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let entries = fs::read_dir(path)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn small_file(path: &Path) -> Result<Option<String>, LabError> {
    let read = || -> io::Result<Option<String>> {
        let Some(file) = open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(LIST_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    };
    read().map_err(LabError::file("read", path))
}

/// Opens a regular file; `None` when it is anything else or gone.
fn open(path: &Path) -> io::Result<Option<File>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_header_does_not_lower_the_next_uid() {
        let list = List::parse("3 V7 N1 Gabc\n4 :a,S=1\n9 W4 :b,S=2\n").unwrap();

        assert_eq!((list.uid_validity, list.next_uid()), (7, 10));
        assert_eq!((list.uid("b,S=2"), list.faults.len()), (Some(9), 0));
    }

    #[test]
    fn a_broken_list_says_so() {
        let list = List::parse("3 V7 N1 Gabc\n4 :a\n4 :b\nrubbish\n6 :a").unwrap();

        assert_eq!(list.faults.len(), 4, "{:?}", list.faults);
        assert_eq!(List::parse("\0\0\0\0"), None);
    }
}
