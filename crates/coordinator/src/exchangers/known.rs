//! Known: the exchangers that have ever reported, a name in each line of a file.
//!
//! # Invariants
//!
//! * A name stays until a person takes its line out; silence and restarts do not forget it.
//! * A file that cannot be written loses nothing while the program runs: it is tried again.
//! * The file that is there is believed, also when it is empty; one that has gone is not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Who has reported.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where the names are kept; nothing where nothing is kept.
    file: Option<PathBuf>,
    /// As they stand in the file.
    names: BTreeSet<String>,
    /// Whether there is a file, or has been one.
    is_kept: bool,
    /// Whether the file lacks a name.
    is_unsaved: bool,
}

impl Known {
    /// Those whose names stand in `file`.
    pub(super) fn in_file(file: PathBuf) -> io::Result<Self> {
        let names = read(&file)?;
        let is_kept = names.is_some();
        let names = names.unwrap_or_default();
        Ok(Self { file: Some(file), names, is_kept, is_unsaved: false })
    }

    /// Whether nobody is known.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether there is a file that says who there is.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Whether this one has reported.
    pub(super) fn knows(&self, exchanger: &str) -> bool {
        self.names.contains(&line(exchanger))
    }

    /// Whether all known ones are among `exchangers`.
    pub(super) fn are_all_in(&self, exchangers: &[&str]) -> bool {
        self.not_in(exchangers).next().is_none()
    }

    /// Those that are not among `exchangers`.
    pub(super) fn not_in(&self, exchangers: &[&str]) -> impl Iterator<Item = &str> {
        let others: BTreeSet<String> = exchangers.iter().map(|it| line(it)).collect();
        self.names.iter().filter(move |name| !others.contains(*name)).map(String::as_str)
    }

    /// Remembers that this one has reported; `false` if that would make more than `max`.
    pub(super) fn note(&mut self, exchanger: &str, max: usize) -> bool {
        let name = line(exchanger);
        let is_new = !self.names.contains(&name);
        if is_new {
            // What a person has just taken out must not come back with it.
            self.forget_removed();
            if self.names.len() >= max {
                return false;
            }
            self.names.insert(name);
        }
        if is_new || self.is_unsaved {
            self.save();
        }
        true
    }

    /// Forgets those whose lines were taken out of the file.
    pub(super) fn forget_removed(&mut self) {
        let Some(file) = self.file.as_deref().filter(|_| !self.is_unsaved) else {
            return;
        };
        match read(file) {
            Ok(Some(kept)) => {
                self.is_kept = true;
                let removed = self.names.difference(&kept).cloned();
                for name in removed.collect::<Vec<_>>() {
                    tracing::info!(exchanger = name, "an exchanger was forgotten");
                    self.names.remove(&name);
                }
            }
            // Nobody is forgotten by accident.
            Ok(None) => self.is_unsaved = !self.names.is_empty(),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot read who the exchangers are"
            ),
        }
    }

    fn save(&mut self) {
        let Some(file) = &self.file else { return };
        let saved = write(file, &self.names);
        if let Err(error) = &saved
            && !self.is_unsaved
        {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "cannot keep who the exchangers are; tried again and again"
            );
        }
        self.is_kept |= saved.is_ok();
        self.is_unsaved = saved.is_err();
    }
}

/// A name as it stands in the file.
fn line(exchanger: &str) -> String {
    exchanger.trim().escape_debug().to_string()
}

fn read(file: &Path) -> io::Result<Option<BTreeSet<String>>> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            Ok(Some(lines.map(ToOwned::to_owned).collect()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes all names, so that a reader finds the old ones or the new ones.
fn write(file: &Path, names: &BTreeSet<String>) -> io::Result<()> {
    let staged = file.with_extension("tmp");
    let mut kept = File::create(&staged)?;
    for name in names {
        writeln!(kept, "{name}")?;
    }
    kept.sync_all()?;
    fs::rename(&staged, file)?;
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_that_has_gone_forgets_nobody_and_is_written_again() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("exchangers");
        let mut known = Known::in_file(file.clone()).unwrap();
        assert!(known.note("mx1", 2) && known.note("odd\nname", 2));
        assert!(!known.note("mx3", 2), "too many");

        fs::remove_file(&file).unwrap();
        known.forget_removed();
        assert!(known.knows("mx1") && known.note("mx1", 2));

        assert_eq!(fs::read_to_string(&file).unwrap(), "mx1\nodd\\nname\n");
        assert!(Known::in_file(file).unwrap().knows("odd\nname"));
    }
}
