//! Walk: reaching files beneath a root without ever leaving it.
//!
//! # Invariants
//!
//! * Every path is resolved by `openat2` beneath its root: no links, no magic links, no `..`, no other
//!   file system.
//! * Nothing is opened that could block or act by being opened: only regular files and directories.
//! * Names are bytes; they become text only for reports.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom};
use rustix::io::Errno;

/// Attempts when the kernel reports a rename racing with the resolution, or an interruption; more
/// means that somebody is moving directories about, and the mailbox is not ours to work on.
const RACE_ATTEMPTS_MAX: u32 = 10;

/// One request for names: a hundred and more of them, and small beside the buffers for mail.
const LIST_BYTES: usize = 16 * 1024;

/// Of a plain name: it stands in the directory, so that nothing can lead out but what it is.
const INSIDE: ResolveFlags = ResolveFlags::NO_SYMLINKS
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Of a path. What it leads to is looked up once more from there, a tenth of what opening costs.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(INSIDE);

/// A directory beneath which everything happens.
#[derive(Debug)]
pub(crate) struct Tree {
    fd: OwnedFd,
    /// It was listed before, and is at its end. No two threads list one of these at once.
    listed: AtomicBool,
    /// Whether files may be read without a note of it in their inodes: that is for their owner, and
    /// for root.
    leaves_times: Arc<AtomicBool>,
}

impl Tree {
    /// Opens a root named by the configuration; the path itself is trusted.
    pub(crate) fn root(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let (listed, leaves_times) = (AtomicBool::new(false), AtomicBool::new(true));
        Ok(Self { fd, listed, leaves_times: Arc::new(leaves_times) })
    }

    /// Opens the directory at `rel`; empty means this one.
    pub(crate) fn dir(&self, rel: &[u8]) -> Result<Self, Errno> {
        let rel = if rel.is_empty() { b"." } else { rel };
        let fd = self.open(rel, OFlags::DIRECTORY | OFlags::RDONLY)?;
        let leaves_times = Arc::clone(&self.leaves_times);
        Ok(Self { fd, listed: AtomicBool::new(false), leaves_times })
    }

    /// Opens the directory at `rel`, or nothing if it is not there.
    pub(crate) fn dir_if_there(&self, rel: &[u8]) -> Result<Option<Self>, Errno> {
        match self.dir(rel) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the regular file at `rel` for reading; anything else is `EISDIR`.
    pub(crate) fn file(&self, rel: &[u8]) -> Result<(File, Meta), Errno> {
        let fd = self.open_file(rel)?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::ISDIR);
        }
        Ok((File::from(fd), Meta::of(&stat)))
    }

    /// What stands directly in this directory, without following anything; `E2BIG` beyond `max`.
    pub(crate) fn list(&self, max: usize) -> Result<Vec<Seen>, Errno> {
        let mut seen = Vec::new();
        for name in self.names(max)? {
            if let Some((kind, meta)) = self.look(&name)? {
                seen.push(Seen { name, kind, meta });
            }
        }
        Ok(seen)
    }

    /// Shows every entry directly in this directory with its kind and inode, in the order of the disk,
    /// without asking more of the file system than the list itself; how many there were, `E2BIG`
    /// beyond `max`.
    pub(crate) fn each(
        &self,
        max: usize,
        mut visit: impl FnMut(&[u8], Kind, u64),
    ) -> Result<usize, Errno> {
        let mut count = 0;
        let mut buffer = [MaybeUninit::uninit(); LIST_BYTES];
        if self.listed.swap(true, Ordering::Relaxed) {
            rustix::fs::seek(&self.fd, SeekFrom::Start(0))?;
        }
        let mut list = RawDir::new(&self.fd, &mut buffer);
        while let Some(entry) = list.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            count += 1;
            if count > max {
                return Err(Errno::TOOBIG);
            }
            let told = entry.file_type();
            let kind = if told == FileType::Unknown {
                // Some file systems do not tell.
                self.look(name)?.map(|(kind, _)| kind)
            } else {
                Some(Kind::of_type(told))
            };
            if let Some(kind) = kind {
                visit(name, kind, entry.ino());
            }
        }
        Ok(count)
    }

    /// The names directly in this directory, in the order of the disk; `E2BIG` beyond `max`.
    pub(crate) fn names(&self, max: usize) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        self.each(max, |name, _, _| names.push(name.to_vec()))?;
        Ok(names)
    }

    /// What one name in this directory is; nothing if it is gone.
    pub(crate) fn look(&self, name: &[u8]) -> Result<Option<(Kind, Meta)>, Errno> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((Kind::of(stat.st_mode), Meta::of(&stat)))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// What this directory itself is.
    pub(crate) fn meta(&self) -> Result<Meta, Errno> {
        Ok(Meta::of(&rustix::fs::fstat(&self.fd)?))
    }

    fn open_file(&self, rel: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        if self.leaves_times.load(Ordering::Relaxed) {
            match self.open(rel, flags | OFlags::NOATIME) {
                Err(Errno::PERM) => self.leaves_times.store(false, Ordering::Relaxed),
                result => return result,
            }
        }
        self.open(rel, flags)
    }

    fn open(&self, rel: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        // Links are refused by the resolution itself, with an error of their own.
        let flags = flags | OFlags::CLOEXEC;
        let resolve = if is_plain(rel) { INSIDE } else { BENEATH };
        let (mut attempts, mut failed) = (0, false);
        loop {
            match rustix::fs::openat2(&self.fd, rel, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if attempts < RACE_ATTEMPTS_MAX => {
                    attempts += 1;
                }
                // A disk that comes back fails now and then. Without its copy in the snapshot a
                // message may look right that is not, so one error is not believed.
                Err(Errno::IO) if !failed => failed = true,
                result => return result,
            }
        }
    }
}

/// Names something that stands directly in a directory.
fn is_plain(rel: &[u8]) -> bool {
    rel != b".." && !rel.contains(&b'/')
}

/// A directory beneath a root, open until another one is asked for: what is done one after the other
/// is mostly done in one directory.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    root: &'a Tree,
    last: Option<(Vec<u8>, Tree)>,
}

impl<'a> Reach<'a> {
    /// Nothing is open yet.
    pub(crate) fn new(root: &'a Tree) -> Self {
        Self { root, last: None }
    }

    /// From here on, what is asked for is looked for anew.
    pub(crate) fn leave(&mut self) {
        self.last = None;
    }

    /// The directory at `rel`.
    pub(crate) fn dir(&mut self, rel: &[u8]) -> Result<&Tree, Errno> {
        if self.last.as_ref().is_none_or(|(path, _)| path != rel) {
            self.last = Some((rel.to_vec(), self.root.dir(rel)?));
        }
        self.last.as_ref().map(|(_, dir)| dir).ok_or(Errno::NOENT)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One entry of a directory.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) meta: Meta,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Link,
    /// FIFO, socket, device.
    Special,
}

impl Kind {
    fn of(mode: u32) -> Self {
        Self::of_type(FileType::from_raw_mode(mode))
    }

    fn of_type(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Link,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Self::Special,
        }
    }
}

/// What the file system knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, u32),
    /// Seconds and nanoseconds.
    pub(crate) changed: (i64, u32),
}

impl Meta {
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        }
    }

    /// Still the bytes that were judged, as far as a stat can tell.
    pub(crate) fn same_bytes_as(&self, other: &Self) -> bool {
        (self.inode, self.size, self.modified)
            == (other.inode, other.size, other.modified)
    }
}

fn nanoseconds(raw: u64) -> u32 {
    u32::try_from(raw).unwrap_or(0)
}

/// Bytes of a name as text: valid UTF-8 stays, control characters, backslashes and other bytes
/// become `\xNN`, so that the text is unambiguous and fits on one line.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                let mut buffer = [0; 4];
                push_escaped(&mut text, character.encode_utf8(&mut buffer).as_bytes());
            } else {
                text.push(character);
            }
        }
        push_escaped(&mut text, chunk.invalid());
    }
    text
}

/// The bytes that [`escape`] made such a text of.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        bytes.extend(u8::from_str_radix(digits, 16));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    use std::fmt::Write as _;
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Joins two relative paths of bytes.
pub(crate) fn join(left: &[u8], right: &[u8]) -> Vec<u8> {
    match (left.is_empty(), right.is_empty()) {
        (true, _) => right.to_vec(),
        (_, true) => left.to_vec(),
        (false, false) => [left, b"/", right].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_seen_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("away")).unwrap();
        let tree = Tree::root(dir.path()).unwrap();

        assert_eq!(tree.look(b"away").unwrap().unwrap().0, Kind::Link);
        assert_eq!(tree.dir(b"away").unwrap_err(), Errno::LOOP);
        assert_eq!(tree.file(b"away/passwd").unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn a_path_that_leaves_the_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::root(dir.path()).unwrap();

        assert_eq!(tree.dir(b"..").unwrap_err(), Errno::XDEV);
        assert_eq!(tree.file(b"/etc/passwd").unwrap_err(), Errno::XDEV);
    }

    #[test]
    fn escaped_names_are_one_line_and_unambiguous() {
        assert_eq!(escape(b"plain,S=1"), "plain,S=1");
        assert_eq!(escape(b"a\tb\\\xff"), "a\\x09b\\x5c\\xff");
        assert_eq!(escape("ä".as_bytes()), "ä");
        for bytes in [&b"plain,S=1"[..], b"a\tb\\\xff", "ä".as_bytes(), b""] {
            assert_eq!(unescape(&escape(bytes)), bytes);
        }
    }
}
