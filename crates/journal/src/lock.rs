//! The lock of a journal: one program at a time, and the second is told who has it.
//!
//! # Invariants
//!
//! * The lock is the kernel's: it ends with its program, however that ends.
//! * It ends with its drop, even while a program that is just being started still has a copy
//!   of the open file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Holds a journal for this program until dropped.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "cannot unlock a journal");
        }
    }
}

/// A journal could not be locked.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another program has it, or this one has it already.
    Held { holder: String },
    /// The lock file could not be used.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock of the journal at `dir` without waiting.
    pub(crate) fn take(dir: &Path) -> Result<Self, LockError> {
        let open = || {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true);
            options.open(dir.join("lock"))
        };
        let mut file = open().map_err(LockError::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                sign(&mut file).map_err(LockError::Io)?;
                Ok(Self(file))
            }
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // Only a courtesy: the lock counts, not what is written in it.
                let read = file.take(20).read_to_string(&mut holder);
                let known = read.is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim() } else { "unknown" };
                Err(LockError::Held { holder: holder.to_owned() })
            }
            Err(error) => Err(LockError::Io(error.into())),
        }
    }
}

/// Writes our process number into the lock, for whoever comes second.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
