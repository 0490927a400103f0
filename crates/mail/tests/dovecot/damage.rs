//! Damage: what a broken storage does to a mailbox of Dovecot's, and what comes of it.
//!
//! # Invariants
//!
//! * Damage is done with Dovecot stopped, to files alone.

#[path = "damage/compressed.rs"]
mod compressed;
#[path = "damage/maildir.rs"]
mod maildir;
#[path = "damage/mdbox.rs"]
mod mdbox;
#[path = "damage/sdbox.rs"]
mod sdbox;

use std::fs;
use std::path::{Path, PathBuf};

use crate::kind::Kind;

/// One damage, done to one or both sides, and its outcomes.
pub(crate) struct Row {
    /// What is done, as a phrase.
    pub(crate) damage: &'static str,
    pub(crate) act: Act,
    pub(crate) cells: &'static [Cell],
}

/// Where it is done, and what mail programs see afterwards, compared with before.
pub(crate) type Cell = (Place, &'static str);

/// Something done to one side of a mailbox.
pub(crate) type Act = fn(&Side);

/// The sides that an act is done to.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Live,
    Snapshot,
    /// Both, in the same place.
    Both,
    /// The live side, and another act to the snapshot.
    Apart(Act),
}

impl Place {
    /// As it stands in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Snapshot => "snapshot",
            Self::Both => "both",
            Self::Apart(_) => "both, elsewhere",
        }
    }

    /// Does an act to a mailbox's sides.
    pub(crate) fn damage(self, act: Act, live: &Side, snapshot: &Side) {
        match self {
            Self::Live => act(live),
            Self::Snapshot => act(snapshot),
            Self::Both => {
                act(live);
                act(snapshot);
            }
            Self::Apart(other) => {
                act(live);
                other(snapshot);
            }
        }
    }
}

/// What is as it was.
const SAME: &str = "18 same";

/// The damages that a kind of mailbox meets.
pub(crate) fn rows(kind: Kind) -> impl Iterator<Item = &'static Row> {
    let parts: &[&[Row]] = match kind {
        Kind::Maildir => &[maildir::ROWS],
        Kind::MaildirGzip => {
            &[compressed::MAILDIR, compressed::GZIP, compressed::MAILDIR_SAVED]
        }
        Kind::MaildirZstd => &[compressed::MAILDIR, compressed::MAILDIR_SAVED],
        Kind::MaildirSqueezed => {
            &[compressed::MAILDIR, compressed::GZIP, compressed::MAILDIR_SQUEEZED]
        }
        Kind::Sdbox => &[sdbox::ROWS],
        Kind::SdboxGzip => &[compressed::SDBOX],
        Kind::Mdbox => &[mdbox::ROWS],
        Kind::MdboxPurged => &[mdbox::PURGED],
        Kind::MdboxZstd => &[compressed::MDBOX],
    };
    parts.iter().copied().flatten()
}

/// One side of a mailbox: the directory that holds it.
pub(crate) struct Side(pub(crate) PathBuf);

impl Side {
    /// Removes a file or a directory with all in it.
    fn lose(&self, path: &str) {
        let path = self.0.join(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    /// Removes every file, at any depth, whose name begins so.
    fn lose_all(&self, prefix: &str) {
        let mut directories = vec![self.0.clone()];
        while let Some(directory) = directories.pop() {
            for path in entries(&directory) {
                let name = path.file_name().unwrap().to_str().unwrap();
                if path.is_dir() {
                    directories.push(path);
                } else if name.starts_with(prefix) {
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }

    /// Puts a link to somewhere else in the place of a file or directory.
    fn replace_by_link(&self, path: &str) {
        self.lose(path);
        std::os::unix::fs::symlink("/etc", self.0.join(path)).unwrap();
    }

    fn replace_by_pipe(&self, path: &str) {
        self.lose(path);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let (at, kind) = (rustix::fs::CWD, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(at, self.0.join(path), kind, mode, 0).unwrap();
    }

    /// Writes over a file; nothing happens to one that Dovecot has not written yet.
    fn change(&self, path: &str, change: impl Fn(&mut Vec<u8>)) {
        let path = self.0.join(path);
        if path.exists() {
            overwrite(&path, change);
        }
    }
}

/// A hole behind the end, as a broken file system leaves it; `TIDEGATE_LONG=1` makes it 10 GB.
fn enlarge(path: &Path) {
    let is_long = std::env::var_os("TIDEGATE_LONG").is_some();
    let size = if is_long { 10_000_000_000 } else { 200_000_000 };
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(size).unwrap();
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn overwrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn halve(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

fn zero(bytes: &mut Vec<u8>) {
    bytes.fill(0);
}

/// Where a part stands in a whole.
fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}
