//! Roots: the three trees of a node and the acts that change them.
//!
//! # Invariants
//!
//! * Every change to any tree goes through here.
//! * A live name is only ever replaced by a rename of complete, flushed bytes, and only while the
//!   file under it is the one that was judged.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid,
};
use rustix::fs::{UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use crate::crew::Crew;
use crate::elsewhere::Elsewhere;
use crate::refusal::Refusal;
use crate::walk::{Meta, Reach, Tree, join};

/// The trees of one node.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) live: Tree,
    pub(crate) snapshot: Option<Tree>,
    /// Ours alone; its paths are trusted.
    pub(crate) work: PathBuf,
    pub(crate) file_size_max: u64,
    pub(crate) elsewhere: Arc<Elsewhere>,
    pub(crate) crew: Arc<Crew>,
    /// How many names for staged files were given out; none is given twice.
    pub(crate) staged: Arc<AtomicU64>,
    pub(crate) fuse: Arc<Fuse>,
}

/// Which tree is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    Live,
    Snapshot,
}

/// Owner, mode and time that a new file gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Like {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Option<(i64, u32)>,
}

impl Like {
    pub(crate) fn file(meta: &Meta) -> Self {
        let modified = Some(meta.modified);
        Self { mode: meta.mode, uid: meta.uid, gid: meta.gid, modified }
    }
}

/// One change to the live tree (or, for a record, to ours), carried out after the first flush.
#[derive(Debug)]
pub(crate) enum Act {
    /// A missing directory.
    MakeDir { path: Vec<u8>, like: Like },
    /// Complete bytes under a live name; the file replaced, if any, has been kept.
    Put { staged: PathBuf, dir: Vec<u8>, name: Vec<u8>, replaces: Option<Meta> },
    /// A complete directory under a live name that is free.
    PutTree { staged: PathBuf, path: Vec<u8> },
    /// A live file out of the mail tree.
    Aside { dir: Vec<u8>, name: Vec<u8>, meta: Meta, to: PathBuf },
    /// A directory's time set to now: its files are to be looked at again.
    Touch { dir: Vec<u8>, name: Vec<u8> },
    /// Bytes into a file of our own.
    Record { staged: PathBuf, to: PathBuf },
}

impl Act {
    /// What was made ready for it.
    pub(crate) fn staged(&self) -> Option<&Path> {
        match self {
            Self::Put { staged, .. }
            | Self::PutTree { staged, .. }
            | Self::Record { staged, .. } => Some(staged),
            Self::MakeDir { .. } | Self::Aside { .. } | Self::Touch { .. } => None,
        }
    }
}

impl Roots {
    /// The same node with other trees, which are compared and changed like the mail itself.
    pub(crate) fn with(&self, live: Tree, snapshot: Option<Tree>) -> Self {
        Self {
            live,
            snapshot,
            work: self.work.clone(),
            file_size_max: self.file_size_max,
            elsewhere: Arc::clone(&self.elsewhere),
            crew: Arc::clone(&self.crew),
            staged: Arc::clone(&self.staged),
            fuse: Arc::clone(&self.fuse),
        }
    }

    pub(crate) fn tree(&self, side: Side) -> Option<&Tree> {
        match side {
            Side::Live => Some(&self.live),
            Side::Snapshot => self.snapshot.as_ref(),
        }
    }

    /// Carries out one act, in the live tree that `live` reaches. Doing it again after a crash is the
    /// caller's plan, made anew.
    pub(crate) fn carry_out(
        &self,
        act: &Act,
        live: &mut Reach<'_>,
    ) -> Result<(), Refusal> {
        match act {
            Act::MakeDir { path, like } => {
                self.make_dir(path, *like).map_err(|error| Refusal::write(path, error))
            }
            Act::Put { staged, dir, name, replaces } => self
                .put(staged, (live, dir, name), replaces.as_ref())
                .map_err(|error| Refusal::write(&join(dir, name), error)),
            Act::PutTree { staged, path } => {
                self.put_tree(staged, path).map_err(|error| Refusal::write(path, error))
            }
            Act::Aside { dir, name, meta, to } => self
                .aside((live, dir, name), meta, to)
                .map_err(|error| Refusal::write(&join(dir, name), error)),
            Act::Touch { dir, name } => self
                .touch(dir, name)
                .map_err(|error| Refusal::write(&join(dir, name), error)),
            Act::Record { staged, to } => self
                .record(staged, to)
                .map_err(|error| Refusal::write(to.as_os_str().as_bytes(), error)),
        }
    }

    /// Links a live file into `to`, so that its bytes stay when its name gets others.
    pub(crate) fn keep(&self, at: (&[u8], &[u8]), to: &Path) -> io::Result<()> {
        self.keep_at((&self.live.dir(at.0)?, at.1), to)
    }

    /// The same for a file in a directory of the live tree.
    pub(crate) fn keep_at(&self, at: (&Tree, &[u8]), to: &Path) -> io::Result<()> {
        self.fuse.burn()?;
        match rustix::fs::linkat(at.0, at.1, CWD, to, AtFlags::empty()) {
            Ok(()) => Ok(()),
            // The same file is kept already: a crash came after this link.
            Err(Errno::EXIST) if is_kept(at, to)? => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A new file of our own, to be filled and then given its owner, mode and time. `like`: what these
    /// will be, if that is known: a mode that is right from the beginning need not be set.
    pub(crate) fn create(&self, path: &Path, like: Option<Like>) -> io::Result<File> {
        self.fuse.burn()?;
        let mode = like.map_or(0o600, |like| like.mode & 0o777);
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
    }

    /// The same in a directory of our own that is open; what is in the file can be read too.
    pub(crate) fn create_in(
        &self,
        (dir, name): (&OwnedFd, &OsStr),
        like: Option<Like>,
    ) -> io::Result<File> {
        self.fuse.burn()?;
        let mode = Mode::from_raw_mode(like.map_or(0o600, |like| like.mode & 0o777));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(dir, name, flags, mode)?.into())
    }

    /// Makes a directory of our own and those above it, as far as they are not there.
    pub(crate) fn make_own_dirs(&self, path: &Path) -> io::Result<()> {
        self.fuse.burn()?;
        match (fs::create_dir(path), path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                self.make_own_dirs(parent)?;
                if_not_there(fs::create_dir(path))
            }
            (made, _) => if_not_there(made),
        }
    }

    /// A directory of our own that will be one of the mail tree.
    pub(crate) fn make_own_dir(&self, path: &Path, like: Like) -> io::Result<()> {
        self.fuse.burn()?;
        fs::create_dir(path)?;
        dress(&File::open(path)?, like).map(|_| ())
    }

    /// A name for a staged file or tree: nothing of this process has or had it, and what an earlier
    /// one left was removed when the store was opened.
    pub(crate) fn staged(&self, generation: u64) -> PathBuf {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        self.work.join("staging").join(format!("g{generation}-{number}"))
    }

    /// Removes what is left of staged files and trees.
    pub(crate) fn discard(&self, staged: &[PathBuf]) -> io::Result<()> {
        for path in staged {
            self.fuse.burn()?;
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                    fs::remove_dir_all(path)?;
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes a directory of our own, if it is there.
    pub(crate) fn clear_own_dir(&self, path: &Path) -> io::Result<()> {
        self.fuse.burn()?;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Renames within our own tree.
    pub(crate) fn record(&self, staged: &Path, to: &Path) -> io::Result<()> {
        self.fuse.burn()?;
        fs::rename(staged, to)
    }

    /// Makes everything written so far durable.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.fuse.burn()?;
        Ok(rustix::fs::syncfs(&self.live)?)
    }

    fn make_dir(&self, path: &[u8], like: Like) -> io::Result<()> {
        let (parent, name) = split(path);
        self.fuse.burn()?;
        let parent = self.live.dir(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let dir = parent.dir(name)?;
        dress_dir(&dir, like)
    }

    fn put(
        &self,
        staged: &Path,
        (live, dir, name): (&mut Reach<'_>, &[u8], &[u8]),
        replaces: Option<&Meta>,
    ) -> io::Result<()> {
        self.fuse.burn()?;
        let dir = live.dir(dir)?;
        let flags = match replaces {
            Some(judged) => {
                unchanged(dir, name, judged)?;
                RenameFlags::empty()
            }
            None => RenameFlags::NOREPLACE,
        };
        Ok(rustix::fs::renameat_with(CWD, staged, dir, name, flags)?)
    }

    fn put_tree(&self, staged: &Path, path: &[u8]) -> io::Result<()> {
        self.fuse.burn()?;
        let (parent, name) = split(path);
        let parent = self.live.dir(parent)?;
        let flags = RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(CWD, staged, &parent, name, flags)?)
    }

    fn touch(&self, dir: &[u8], name: &[u8]) -> io::Result<()> {
        self.fuse.burn()?;
        let dir = self.live.dir(dir)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        Ok(rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn aside(
        &self,
        (live, dir, name): (&mut Reach<'_>, &[u8], &[u8]),
        judged: &Meta,
        to: &Path,
    ) -> io::Result<()> {
        self.fuse.burn()?;
        let dir = live.dir(dir)?;
        unchanged(dir, name, judged)?;
        Ok(rustix::fs::renameat_with(dir, name, CWD, to, RenameFlags::NOREPLACE)?)
    }
}

fn if_not_there(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// The file at `at` and the one kept at `to` are one file.
pub(crate) fn is_kept(at: (&Tree, &[u8]), to: &Path) -> io::Result<bool> {
    let kept = rustix::fs::statat(CWD, to, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(at.0.look(at.1)?.is_some_and(|(_, meta)| meta.inode == kept.st_ino))
}

fn unchanged(dir: &Tree, name: &[u8], judged: &Meta) -> io::Result<()> {
    match dir.look(name)? {
        Some((_, now)) if now.same_bytes_as(judged) => Ok(()),
        Some(_) | None => Err(Errno::NOENT.into()),
    }
}

/// Parent and last part of a relative path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => {
            let (parent, name) = path.split_at(at);
            (parent, name.get(1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

/// Gives a complete file its owner, mode and time, in the order that keeps all three; what it is then.
pub(crate) fn dress(file: &File, like: Like) -> io::Result<Meta> {
    if let Some((seconds, nanoseconds)) = like.modified {
        let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(file, &times)?;
    }
    let now = rustix::fs::fstat(file)?;
    let gets_owner = (now.st_uid, now.st_gid) != (like.uid, like.gid);
    if gets_owner {
        rustix::fs::fchown(
            file,
            Some(Uid::from_raw(like.uid)),
            Some(Gid::from_raw(like.gid)),
        )?;
    }
    let gets_mode = gets_owner || now.st_mode & 0o7777 != like.mode;
    if gets_mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(like.mode))?;
    }
    Ok(Meta::of(&if gets_mode { rustix::fs::fstat(file)? } else { now }))
}

fn dress_dir(dir: &Tree, like: Like) -> io::Result<()> {
    let now = dir.meta()?;
    if (now.uid, now.gid) != (like.uid, like.gid) {
        rustix::fs::fchown(
            dir,
            Some(Uid::from_raw(like.uid)),
            Some(Gid::from_raw(like.gid)),
        )?;
    }
    if now.mode != like.mode {
        rustix::fs::fchmod(dir, Mode::from_raw_mode(like.mode))?;
    }
    Ok(())
}

/// Stops all changes after a number of them, as a crash would; it burns only in tests.
#[derive(Debug, Default)]
pub(crate) struct Fuse {
    #[cfg(test)]
    left: std::sync::Mutex<Option<u64>>,
    /// Only one change fails.
    #[cfg(test)]
    once: std::sync::atomic::AtomicBool,
}

impl Fuse {
    /// From here on, `acts` more changes happen and then none.
    #[cfg(test)]
    pub(crate) fn light(&self, acts: Option<u64>) {
        *self.left.lock().unwrap() = acts;
        self.once.store(false, Ordering::Relaxed);
    }

    /// From here on, `acts` more changes happen, one does not, and then all do.
    #[cfg(test)]
    pub(crate) fn flicker(&self, acts: u64) {
        self.light(Some(acts));
        self.once.store(true, Ordering::Relaxed);
    }

    /// Acts that may still happen.
    #[cfg(test)]
    pub(crate) fn left(&self) -> Option<u64> {
        *self.left.lock().unwrap()
    }

    #[cfg(test)]
    pub(crate) fn burn(&self) -> io::Result<()> {
        let mut left = self.left.lock().unwrap();
        match &mut *left {
            Some(0) => {
                if self.once.load(Ordering::Relaxed) {
                    *left = None;
                }
                Err(io::Error::other("stopped by a test"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "burns only in tests"
    )]
    pub(crate) fn burn(&self) -> io::Result<()> {
        Ok(())
    }
}
