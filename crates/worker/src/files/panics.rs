//! Panics: which mailboxes have brought a hand down, remembered over restarts, so that one of
//! them does not end the program for ever.
//!
//! # Invariants
//!
//! * Only a panic counts: whoever is killed or loses power in the middle has shown nothing.
//! * Whoever has been there when a hand panicked is tried alone from then on, so that no
//!   other mailbox is counted with it twice.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts of panics, in a directory with a file for each mailbox.
#[derive(Debug)]
pub(super) struct Panics {
    dir: PathBuf,
    counts: Mutex<BTreeMap<u64, u32>>,
}

impl Panics {
    /// What earlier runs have noted in `dir`, which need not be there.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        let mut counts = BTreeMap::new();
        match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    let name = entry.file_name();
                    let key = name.to_str().and_then(key_of);
                    let Some(key) = key else { continue };
                    let count = fs::read_to_string(entry.path())?;
                    // A note that was not written to its end is one of a panic all the same.
                    counts.insert(key, count.trim().parse().unwrap_or(1));
                }
            }
        }
        Ok(Self { dir, counts: Mutex::new(counts) })
    }

    /// How often a hand has panicked at this mailbox.
    pub(super) fn of(&self, key: u64) -> u32 {
        self.counts().get(&key).copied().unwrap_or(0)
    }

    /// Does `work` at these mailboxes; a panic is noted, and goes on.
    pub(super) fn watch<T>(&self, keys: &[u64], work: impl FnOnce() -> T) -> T {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            for key in keys {
                self.note(*key);
            }
            resume_unwind(panic)
        })
    }

    /// The mailbox has been worked on to the end.
    pub(super) fn forget(&self, key: u64) {
        if self.counts().remove(&key).is_none() {
            return;
        }
        if let Err(error) = fs::remove_file(self.dir.join(name_of(key))) {
            tracing::warn!(%error, "an old note of a panic stays");
        }
    }

    fn note(&self, key: u64) {
        let mut counts = self.counts();
        let count = counts.entry(key).or_default();
        *count = count.saturating_add(1);
        let path = self.dir.join(name_of(key));
        let kept = fs::create_dir_all(&self.dir)
            .and_then(|()| fs::write(path, count.to_string()));
        if let Err(error) = kept {
            tracing::error!(%error, "a panic at a mailbox cannot be noted");
        }
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<u64, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the note of a mailbox is called.
pub(super) fn name_of(key: u64) -> String {
    format!("{key:016x}")
}

fn key_of(name: &str) -> Option<u64> {
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_remembered_by_the_next_run_until_the_mailbox_has_been_worked_on() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Panics::open(dir.path().join("panics")).unwrap();
        let bad = |panics: &Panics, keys: &[u64]| {
            let attempt =
                || panics.watch(keys, || panic!("a message that no one foresaw"));
            assert!(catch_unwind(AssertUnwindSafe(attempt)).is_err());
        };

        bad(&open(), &[7, 8]);
        bad(&open(), &[7]);
        let panics = open();
        let counts = [7, 8, 9].map(|key| panics.of(key));
        assert_eq!(panics.watch(&[8], || "fine"), "fine");
        panics.forget(8);

        assert_eq!(counts, [2, 1, 0]);
        assert_eq!([7, 8].map(|key| open().of(key)), [2, 0]);
    }
}
