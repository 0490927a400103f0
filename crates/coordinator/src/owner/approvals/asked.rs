//! Asked: what waits for a second person, kept in a file so that a restart loses none of it.
//!
//! # Invariants
//!
//! * What waits is told, never carried out: a file that cannot be read or written costs a line on
//!   a screen, and no more. Leave itself is never kept.
//! * There is no address in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_core::rollout::{Etag, Grounds};
use tidegate_core::time::{Span, Timestamp};

/// What is kept; more would not be read.
const WAITING_MAX: usize = 16;

/// Whoever has asked longer ago has gone.
const WAITING_AGE_MAX: Span = Span::from_secs(60 * 60);

/// Something that waits for a second person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Petition {
    /// Who asks.
    pub(crate) by: String,
    /// What for, as on the command line, without addresses.
    pub(crate) what: String,
    /// Why.
    pub(crate) reason: String,
    /// The decisions that there were; nothing where there was no rollout yet.
    pub(crate) etag: Option<Etag>,
    /// What spoke against it.
    pub(crate) grounds: Option<Grounds>,
    /// Since when.
    pub(crate) at: Timestamp,
}

impl Petition {
    /// Until when.
    pub(crate) fn until(&self) -> Timestamp {
        self.at + WAITING_AGE_MAX
    }
}

/// All that waits, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: Vec<Petition>,
    /// Where it is kept; nowhere where nothing restarts.
    file: Option<PathBuf>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Kept {
    by: String,
    what: String,
    reason: String,
    etag: String,
    evidence: String,
    at_millis: u64,
}

impl Asked {
    /// What `file` says, and from now on is kept there.
    pub(crate) fn kept_in(file: PathBuf) -> Self {
        let waiting = match read(&file) {
            Ok(waiting) => waiting,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "cannot read what waits for a second person; whoever waits asks again"
                );
                Vec::new()
            }
        };
        Self { waiting, file: Some(file) }
    }

    /// Somebody waits; what they asked for before under the same name is replaced.
    pub(super) fn add(&mut self, asks: Petition) {
        let now = asks.at;
        self.waiting.retain(|it| {
            (&it.by, &it.what) != (&asks.by, &asks.what) && it.until() > now
        });
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.remove(0);
        }
        self.waiting.push(asks);
        self.keep();
    }

    /// What `by` asked for is done.
    pub(super) fn done(&mut self, by: &str, what: &str) {
        let before = self.waiting.len();
        self.waiting.retain(|it| (&*it.by, &*it.what) != (by, what));
        if self.waiting.len() < before {
            self.keep();
        }
    }

    /// Starts that wait still, before there is a rollout.
    pub(super) fn starting(&self, now: Timestamp) -> Vec<Petition> {
        let starts = |it: &&Petition| it.etag.is_none() && it.until() > now;
        self.waiting.iter().filter(starts).cloned().collect()
    }

    /// What waits still; what the decisions since have made pointless is none of it.
    pub(super) fn standing(&self, etag: Etag, now: Timestamp) -> Vec<Petition> {
        let stands = |it: &&Petition| it.etag == Some(etag) && it.until() > now;
        self.waiting.iter().filter(stands).cloned().collect()
    }

    fn keep(&self) {
        let Some(file) = &self.file else { return };
        if let Err(error) = write(file, &self.waiting) {
            tracing::warn!(
                %error,
                "cannot keep what waits for a second person; a restart forgets it"
            );
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<Petition>> {
    let kept: Vec<Kept> = serde_json::from_slice(&fs::read(file)?)?;
    let waiting = kept.into_iter().map(|it| Petition {
        by: it.by,
        what: it.what,
        reason: it.reason,
        etag: it.etag.parse().ok(),
        grounds: it.evidence.parse().ok(),
        at: Timestamp::from_millis(it.at_millis),
    });
    Ok(waiting.collect())
}

fn write(file: &Path, waiting: &[Petition]) -> io::Result<()> {
    let told = |it: &Petition| Kept {
        by: it.by.clone(),
        what: it.what.clone(),
        reason: it.reason.clone(),
        etag: it.etag.map_or_else(String::new, |etag| etag.to_string()),
        evidence: it.grounds.map_or_else(String::new, |grounds| grounds.to_string()),
        at_millis: it.at.millis(),
    };
    let kept: Vec<Kept> = waiting.iter().map(told).collect();
    let staged = file.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut open = options.open(&staged)?;
    open.write_all(&serde_json::to_vec(&kept)?)?;
    open.sync_all()?;
    fs::rename(&staged, file)?;
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn etag() -> Etag {
        Etag { decisions: 3, begun: Timestamp::from_millis(1) }
    }

    fn asks(by: &str, what: &str) -> Petition {
        let (by, what, reason) = (by.to_owned(), what.to_owned(), "looked".to_owned());
        let grounds = "00112233445566778899aabb".parse().ok();
        Petition { by, what, reason, etag: Some(etag()), grounds, at: NOW }
    }

    #[test]
    fn what_waits_survives_a_restart_and_a_file_of_nonsense_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("waiting.json");
        let mut asked = Asked::kept_in(file.clone());
        asked.add(asks("anna", "resume"));
        asked.add(asks("anna", "accept stor-01"));
        asked.done("anna", "accept stor-01");

        let again = Asked::kept_in(file.clone()).standing(etag(), NOW);
        fs::write(&file, "no json").unwrap();
        let nonsense = Asked::kept_in(file).standing(etag(), NOW);

        assert_eq!(again, [asks("anna", "resume")]);
        assert_eq!(nonsense, []);
    }

    #[test]
    fn nobody_waits_for_ever_nor_twice_for_the_same() {
        let mut asked = Asked::default();
        asked.add(asks("anna", "resume"));
        asked.add(asks("anna", "resume"));

        assert_eq!(asked.standing(etag(), NOW).len(), 1);
        assert_eq!(asked.standing(etag(), NOW + WAITING_AGE_MAX), []);
        for user in 0..2 * WAITING_MAX {
            asked.add(asks(&user.to_string(), "resume"));
        }
        assert_eq!(asked.standing(etag(), NOW).len(), WAITING_MAX);
    }
}
