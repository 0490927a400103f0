//! Swap: somebody exchanges a directory for a link to the outside, again and again.
//!
//! # Invariants
//!
//! * What stands outside is watched by the kernel: opening it is seen, not only changing it.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, RenameFlags};

/// Enough for the swaps to fall between any two steps of the walk.
pub(crate) const ATTEMPTS: u32 = 20;

/// What every file outside holds.
pub(crate) const SECRET: &[u8] = b"Subject: secret\n\nNobody's business.\n";

/// Words of it that stand nowhere else.
pub(crate) const SECRET_WORDS: &str = "Nobody's business";

/// How attempts end while a directory is a link at times.
const ENDS: [&str; 5] =
    ["prepared", "symbolic-link", "changed", "leaves-root", "not-regular"];

/// A directory that looks like any of those that it is swapped for.
pub(crate) struct Outside {
    dir: tempfile::TempDir,
    mail: PathBuf,
    watch: OwnedFd,
}

impl Outside {
    /// Inside `parent`, with these directories, and in each of them files with these names.
    pub(crate) fn inside(parent: &Path, directories: &[&str], names: &[String]) -> Self {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let mail = dir.path().join("mail");
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let all = WatchFlags::OPEN
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE;
        for directory in directories {
            let directory = mail.join(directory);
            fs::create_dir_all(&directory).unwrap();
            for name in names {
                fs::write(directory.join(name), SECRET).unwrap();
            }
        }
        for directory in directories {
            inotify::add_watch(&watch, mail.join(directory), all).unwrap();
        }
        Self { dir, mail, watch }
    }

    /// Calls `work` while `place` goes to and fro between what it is and a link to the outside; fails
    /// if an attempt ends as none may, or if somebody was outside.
    pub(crate) fn swapped_for(
        &self,
        place: &Path,
        mut work: impl FnMut() -> &'static str,
    ) {
        let is_over = Flag::default();
        let (swaps, mut ends) = (AtomicU32::new(0), BTreeMap::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                let link = self.dir.path().join("link");
                symlink(&self.mail, &link).unwrap();
                while !is_over.is_raised() {
                    exchange(place, &link);
                    exchange(place, &link);
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _over = is_over.raised_at_the_end();
            for _ in 0..ATTEMPTS {
                *ends.entry(work()).or_insert(0) += 1;
            }
        });
        let place = place.display();
        let unknown = ends.keys().find(|end| !ENDS.contains(end));
        assert_eq!(unknown, None, "{place}: {ends:?}");
        assert!(swaps.into_inner() > 0, "{place}");
        assert_eq!(self.events(), 0, "{place}: somebody was outside");
        fs::read_dir(&self.mail).unwrap();
        assert_ne!(self.events(), 0, "the watch sees what happens");
    }

    fn events(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.watch, &mut buffer);
        let mut events = 0;
        while reader.next().is_ok() {
            events += 1;
        }
        events
    }
}

fn exchange(one: &Path, other: &Path) {
    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// Ends the other thread, also when this one panics.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Raised when the value goes.
    pub(crate) fn raised_at_the_end(&self) -> Raise<'_> {
        Raise(self)
    }
}

/// Raises a flag when it goes.
pub(crate) struct Raise<'a>(&'a Flag);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}
