//! Refusal: why a mailbox as a whole cannot be worked on.
//!
//! # Invariants
//!
//! * Paths in messages are relative to the mail root and escaped.
//! * A refused mailbox has lost nothing; trying again after the cause is gone is safe.

use std::io;

use rustix::io::Errno;

use crate::walk::escape;

/// A mailbox cannot be prepared or looked at.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Neither the live store nor the snapshot has it.
    #[error("no mailbox at `{path}`, live or in the snapshot")]
    NotThere {
        /// The mailbox's path.
        path: String,
    },
    /// A link stands where a directory or control file should be.
    #[error("`{path}` is or goes through a symbolic link")]
    SymbolicLink {
        /// The link, or a path through it.
        path: String,
    },
    /// Something that is no directory or no regular file stands in its place.
    #[error("`{path}` is not what should stand there")]
    NotRegular {
        /// The item.
        path: String,
    },
    /// The path leads out of its root or onto another file system.
    #[error("`{path}` leaves its root")]
    LeavesRoot {
        /// The path.
        path: String,
    },
    /// The path is empty, absolute, too deep, too long, or has `.` or `..` in it.
    #[error("`{path}` is not a plain path below the mail root")]
    BadPath {
        /// The path.
        path: String,
    },
    /// Something could not be read.
    #[error("read `{path}`")]
    Unreadable {
        /// What.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something could not be written, kept or moved.
    #[error("write `{path}`")]
    Unwritable {
        /// What.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file system is full.
    #[error("no space left to write `{path}`")]
    NoSpace {
        /// What was to be written.
        path: String,
    },
    /// No file descriptor or no memory is left. That says nothing about the mailbox: try again.
    #[error("too few file descriptors or too little memory to open `{path}`")]
    Exhausted {
        /// What was to be opened.
        path: String,
    },
    /// Stored in a way that is not supported; nothing was touched.
    #[error("`{path}`: {what} is not supported")]
    Unsupported {
        /// Where it was seen.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The mailbox has more entries than the limit.
    #[error("more than {entries_max} entries in the mailbox")]
    TooManyEntries {
        /// The limit.
        entries_max: usize,
    },
    /// The mailbox changed while it was worked on. Try again.
    #[error("`{path}` changed during the work")]
    Changed {
        /// What changed.
        path: String,
    },
    /// The mailbox is being worked on already, or stands twice in the batch.
    #[error("`{path}` is being worked on already")]
    Busy {
        /// The mailbox's path.
        path: String,
    },
    /// The job was not claimed under this generation by this holder.
    #[error("job {job} is not claimed under generation {generation} by this holder")]
    Fenced {
        /// The job.
        job: u32,
        /// The generation that the caller believed in.
        generation: u64,
    },
}

impl Refusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotThere { .. } => "not-there",
            Self::SymbolicLink { .. } => "symbolic-link",
            Self::NotRegular { .. } => "not-regular",
            Self::LeavesRoot { .. } => "leaves-root",
            Self::BadPath { .. } => "bad-path",
            Self::Unreadable { .. } => "unreadable",
            Self::Unwritable { .. } => "unwritable",
            Self::NoSpace { .. } => "no-space",
            Self::Exhausted { .. } => "exhausted",
            Self::Unsupported { .. } => "unsupported",
            Self::TooManyEntries { .. } => "too-many-entries",
            Self::Changed { .. } => "changed",
            Self::Busy { .. } => "busy",
            Self::Fenced { .. } => "fenced",
        }
    }

    pub(crate) fn read(path: &[u8], errno: Errno) -> Self {
        let path_text = escape(path);
        match errno {
            Errno::LOOP => Self::SymbolicLink { path: path_text },
            Errno::XDEV => Self::LeavesRoot { path: path_text },
            Errno::ISDIR | Errno::NOTDIR | Errno::NXIO => {
                Self::NotRegular { path: path_text }
            }
            Errno::NOENT | Errno::AGAIN | Errno::INTR => {
                Self::Changed { path: path_text }
            }
            other => Self::unreadable(path_text, other.into()),
        }
    }

    /// `source` has kept `path`, in words, from being read.
    pub(crate) fn unreadable(path: String, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Self::Exhausted { path },
            Some(_) | None => Self::Unreadable { path, source },
        }
    }

    pub(crate) fn write(path: &[u8], source: io::Error) -> Self {
        let text = escape(path);
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace { path: text },
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                Self::Exhausted { path: text }
            }
            Some(Errno::LOOP) => Self::SymbolicLink { path: text },
            Some(Errno::XDEV) => Self::LeavesRoot { path: text },
            Some(Errno::NOENT | Errno::EXIST) => Self::Changed { path: text },
            Some(Errno::NOTDIR | Errno::ISDIR) => Self::NotRegular { path: text },
            Some(_) | None => Self::Unwritable { path: text, source },
        }
    }
}
