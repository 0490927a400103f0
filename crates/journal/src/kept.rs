//! Kept: the store's file as it was found, until all of it has been read.
//!
//! A store that finds damage in its log clears what follows, whole or not, while it opens.
//! So a copy is made first. It goes when every record has proved whole, and stays for a
//! person to look at when one has not.
//!
//! # Invariants
//!
//! * A copy under its final name is complete.
//! * A copy that is there already is not replaced: the first one saw most.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A copy of the store's file.
pub(crate) struct Kept(PathBuf);

impl Kept {
    /// Copies the store's file at `dir`, if there is one, unless a copy is there already.
    pub(crate) fn take(dir: &Path) -> io::Result<Self> {
        let (kept, part) = (dir.join("db.kept"), dir.join("db.kept.part"));
        let data = dir.join("db");
        if data.exists() && !kept.exists() {
            fs::copy(data, &part)?;
            fs::rename(part, &kept)?;
        }
        Ok(Self(kept))
    }

    /// Removes the copy: the store has been read and is whole.
    pub(crate) fn release(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
