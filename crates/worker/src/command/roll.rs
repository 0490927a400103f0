//! Roll: the mailboxes that the mail system may let their owners into.
//!
//! # Invariants
//!
//! * A mailbox is on the roll, on disk, before the mail system is told to let anybody in.
//! * It leaves the roll only when the mail system has said that nobody gets in any more.
//!
//! One JSON object per line, appended. A last line without an end was never acted on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidegate_core::fleet::{Generation, JobNumber};
use tidegate_core::mailbox::Level;
use tidegate_mail::Mailbox;

use crate::store::{LetIn, Under};

/// The file's name in the work directory.
const FILE: &str = "open";

/// The roll of one work directory.
#[derive(Debug)]
pub(crate) struct Roll {
    file: File,
    open: BTreeMap<u64, LetIn>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Line {
    Open(Open),
    Closed { key: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    key: u64,
    address: String,
    path: String,
    level: u8,
    job: u32,
    generation: u64,
}

impl Roll {
    /// Reads the roll in `work` and writes it anew, without what has been closed.
    pub(crate) fn open(work: &Path) -> io::Result<Self> {
        let path = work.join(FILE);
        let mut open = BTreeMap::new();
        match fs::read(&path) {
            Ok(bytes) => read(&bytes, &mut open).map_err(|line| {
                let text = format!("line {line} of `{}` is damaged", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let staged = path.with_extension("new");
        let mut file = File::create(&staged)?;
        file.write_all(&lines(open.values().map(opened))?)?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        File::open(work)?.sync_all()?;
        Ok(Self { file, open })
    }

    /// Who is on it.
    pub(crate) fn all(&self) -> Vec<LetIn> {
        self.open.values().cloned().collect()
    }

    /// Notes, durably, that mailboxes may be open as far as `level`, if that is further
    /// than noted.
    pub(crate) fn may_open(
        &mut self,
        under: Under,
        level: Level,
        mailboxes: &[&Mailbox],
    ) -> io::Result<()> {
        let higher = |it: &&&Mailbox| {
            self.open.get(&it.key).is_none_or(|noted| noted.level < level)
        };
        let higher: Vec<&Mailbox> = mailboxes.iter().filter(higher).copied().collect();
        if higher.is_empty() {
            return Ok(());
        }
        self.stands(under, level, &higher)?;
        self.file.sync_data()
    }

    /// Notes that mailboxes are open as far as `level` and no further. Forgotten in a
    /// crash they are only told once more.
    pub(crate) fn stands(
        &mut self,
        under: Under,
        level: Level,
        mailboxes: &[&Mailbox],
    ) -> io::Result<()> {
        let open = mailboxes.iter();
        let open: Vec<LetIn> =
            open.map(|it| LetIn { under, level, mailbox: (*it).clone() }).collect();
        self.file.write_all(&lines(open.iter().map(opened))?)?;
        self.open.extend(open.into_iter().map(|it| (it.mailbox.key, it)));
        Ok(())
    }

    /// Takes mailboxes off it. Forgotten in a crash they are only closed once more.
    pub(crate) fn closed(&mut self, keys: &[u64]) -> io::Result<()> {
        let gone: Vec<u64> =
            keys.iter().copied().filter(|key| self.open.remove(key).is_some()).collect();
        self.file.write_all(&lines(gone.into_iter().map(|key| Line::Closed { key }))?)
    }
}

fn opened(it: &LetIn) -> Line {
    Line::Open(Open {
        key: it.mailbox.key,
        address: it.mailbox.address.clone(),
        path: String::from_utf8_lossy(&it.mailbox.path).into_owned(),
        level: it.level.get(),
        job: it.under.job.get(),
        generation: it.under.generation.get(),
    })
}

fn lines(lines: impl Iterator<Item = Line>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, &line)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads whole lines; the error is the number of the first that is damaged.
fn read(bytes: &[u8], open: &mut BTreeMap<u64, LetIn>) -> Result<(), usize> {
    let mut rest = bytes;
    let mut number: usize = 0;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        number += 1;
        match serde_json::from_slice(line).map_err(|_| number)? {
            Line::Closed { key } => {
                open.remove(&key);
            }
            Line::Open(Open { key, address, path, level, job, generation }) => {
                let level = Level::new(level).ok_or(number)?;
                let under = Under {
                    job: JobNumber::new(job),
                    generation: Generation::new(generation),
                };
                let path = path.into_bytes();
                let mailbox = Mailbox { key, address, path, served: true };
                open.insert(key, LetIn { under, level, mailbox });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(key: u64) -> Mailbox {
        let (address, path) = (format!("u{key}@example.org"), vec![b'a']);
        Mailbox { key, address, path, served: true }
    }

    fn under() -> Under {
        Under { job: JobNumber::new(3), generation: Generation::new(4) }
    }

    fn let_in(key: u64, level: Level) -> LetIn {
        LetIn { under: under(), level, mailbox: mailbox(key) }
    }

    #[test]
    fn who_may_be_open_is_known_after_a_crash_in_the_middle_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut roll = Roll::open(dir.path()).unwrap();
        roll.may_open(under(), Level::FIRST, &[&mailbox(1), &mailbox(2)]).unwrap();
        roll.may_open(under(), Level::FIRST.above(), &[&mailbox(2)]).unwrap();
        roll.closed(&[1, 9]).unwrap();
        drop(roll);
        let path = dir.path().join(FILE);
        let mut torn = fs::read(&path).unwrap();
        torn.extend(b"{\"open\":{\"key\":5,");
        fs::write(&path, torn).unwrap();

        let mut roll = Roll::open(dir.path()).unwrap();

        assert_eq!(roll.all(), [let_in(2, Level::FIRST.above())]);
        roll.may_open(under(), Level::FIRST, &[&mailbox(7)]).unwrap();
        let keys = |roll: &Roll| roll.open.keys().copied().collect::<Vec<_>>();
        assert_eq!(keys(&Roll::open(dir.path()).unwrap()), [2, 7]);
    }

    #[test]
    fn a_damaged_roll_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{\"closed\":{\"key\":1}}\nnonsense\n").unwrap();

        let refused = Roll::open(dir.path()).unwrap_err().to_string();

        assert!(refused.contains("line 2"), "{refused}");
    }
}
