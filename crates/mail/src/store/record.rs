//! Record: what mailboxes hold while all is well, and whether they still do.
//!
//! # Invariants
//!
//! * No mail is changed: a mailbox is planned like one that is prepared, and nothing is carried out.
//! * What was recorded of a message stays recorded for as long as the message is listed and not as it
//!   was: recording again after damage forgets nothing.
//! * Manifests are read and written line by line, so that memory does not grow with the mailbox.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use crate::digest::Fingerprint;
use crate::finding::Finding;
use crate::format::Format;
use crate::judge::BUFFER_BYTES;
use crate::ledger::Ledger;
use crate::maildir::name::MailName;
use crate::manifest::{Manifest, ManifestEntry, ManifestLineError, ManifestReader};
use crate::refusal::Refusal;
use crate::spool::{Earlier, Place, Spool, Spooled};
use crate::stage::Bench;
use crate::walk::escape;

use super::{FlushFailed, Mailbox, Past, Store, check_path, examine, manifest_path};

/// The generation that names what is staged while recording: no claim has it.
const NO_GENERATION: u64 = 0;

/// What was recorded of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Messages in its manifest.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// BLAKE3 of its manifest.
    pub digest: [u8; 32],
    /// Messages that are not good; one of them is in the manifest only if it was before.
    pub faulty: u64,
}

/// A mailbox held against its manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// As they were recorded.
    pub intact: u64,
    /// Good, and not recorded: they came later, or were moved.
    pub newer: u64,
    /// Recorded, and neither there nor listed: deleted or moved, or lost together with their list.
    pub gone: u64,
    /// Bad, or listed without bytes.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Records what a mailbox holds, without changing any mail. Durable after [`Store::settle`].
    ///
    /// The store should have been opened without a snapshot: what only that has is not held.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it cannot be worked on; what was recorded before stands.
    pub fn record(&self, mailbox: &Mailbox) -> Result<Recorded, Refusal> {
        let to = self.manifest_of(mailbox)?;
        let unreadable = |source| unreadable(mailbox, source);
        let before = Earlier::open(&to).map_err(unreadable)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut bench = self.bench(mailbox, &mut buffer);
        let (now, bad) = self.rehearse(mailbox, &mut bench, before.as_ref())?;
        let digest = now.digest;
        match now.place {
            Place::Memory(bytes) => bench.write_own(&bytes, &to)?,
            Place::File(staged) => {
                let written = self.roots.record(&staged, &to);
                written.map_err(|error| Refusal::write(b"manifest", error))?;
            }
        }
        self.clear(mailbox, &mut bench);
        let mut recorded =
            Recorded { messages: 0, bytes: 0, digest, faulty: bad.len() as u64 };
        for entry in entries(&to).map_err(unreadable)? {
            let entry = entry.map_err(io::Error::other).map_err(unreadable)?;
            recorded.messages += 1;
            recorded.bytes = recorded.bytes.saturating_add(entry.size_bytes);
        }
        Ok(recorded)
    }

    /// Holds a mailbox against what was recorded of it; nothing if nothing was.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it cannot be worked on.
    pub fn compare(&self, mailbox: &Mailbox) -> Result<Option<Compared>, Refusal> {
        let manifest = self.manifest_of(mailbox)?;
        let unreadable = |source| unreadable(mailbox, source);
        let before = Earlier::open(&manifest).map_err(unreadable)?;
        if before.is_none() {
            return Ok(None);
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut bench = self.bench(mailbox, &mut buffer);
        let (now, findings) = self.rehearse(mailbox, &mut bench, before.as_ref())?;
        let now: Box<dyn Read> = match now.place {
            Place::Memory(bytes) => Box::new(Cursor::new(bytes)),
            Place::File(staged) => Box::new(File::open(staged).map_err(unreadable)?),
        };
        let mut compared = Compared { findings, ..Compared::default() };
        let before = entries(&manifest).map_err(unreadable)?;
        let now = ManifestReader::begin(BufReader::new(now));
        compared.count(before, now).map_err(io::Error::other).map_err(unreadable)?;
        self.clear(mailbox, &mut bench);
        Ok(Some(compared))
    }

    /// Takes over what was recorded elsewhere, unless something was recorded here already; whether
    /// it was taken. Durable after [`Store::settle`].
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it cannot be written or what there is cannot be read.
    pub fn adopt(
        &self,
        mailbox: &Mailbox,
        mut entries: Vec<ManifestEntry>,
    ) -> Result<bool, Refusal> {
        let to = self.manifest_of(mailbox)?;
        if to.try_exists().map_err(|source| unreadable(mailbox, source))? {
            return Ok(false);
        }
        entries.sort();
        let mut bench = self.bench(mailbox, &mut []);
        bench.write_own(&Manifest { entries }.to_bytes(), &to)?;
        self.clear(mailbox, &mut bench);
        Ok(true)
    }

    /// Makes everything recorded so far durable.
    ///
    /// # Errors
    ///
    /// [`FlushFailed`]: it must all be recorded again.
    pub fn settle(&self) -> Result<(), FlushFailed> {
        self.flush()
    }

    fn manifest_of(&self, mailbox: &Mailbox) -> Result<PathBuf, Refusal> {
        check_path(&mailbox.path)?;
        Ok(manifest_path(&self.roots, mailbox.key))
    }

    fn bench<'a>(&'a self, mailbox: &'a Mailbox, buffer: &'a mut [u8]) -> Bench<'a> {
        Bench::new(self.roots_of(mailbox), mailbox, NO_GENERATION, buffer)
    }

    /// What the mailbox would hold if it were prepared now, with what was recorded of messages that
    /// would not be served; and those.
    fn rehearse(
        &self,
        mailbox: &Mailbox,
        bench: &mut Bench<'_>,
        before: Option<&Earlier>,
    ) -> Result<(Spooled, Vec<Finding>), Refusal> {
        self.check_dial(mailbox)?;
        let format = Format::of(bench.roots(), &mailbox.path)?;
        let manifest = match format {
            Format::Maildir => None,
            Format::Sdbox | Format::Mdbox => self
                .manifest(mailbox.key)
                .map_err(|error| unreadable(mailbox, error.source))?,
        };
        let past = Past { recorded: before, manifest: manifest.as_ref(), served: false };
        let spool = Spool::new(bench.next_staged());
        let mut ledger = Ledger::new(Vec::new(), false, spool);
        examine(bench, format, &past, &mut ledger)?;
        let mut bad = ledger.close();
        for finding in &mut bad {
            // It stays where it is.
            finding.kept_at = None;
        }
        if let Some(before) = before.filter(|_| !bad.is_empty()) {
            let names: HashSet<(&str, &str)> =
                bad.iter().map(|it| (&*it.folder, &*it.name)).collect();
            let kept = before.each(&mut |entry| {
                if names.contains(&(&*escape(&entry.folder), &*escape(&entry.name))) {
                    ledger.good(entry);
                }
            });
            kept.map_err(|source| unreadable(mailbox, source))?;
        }
        let spooled = ledger.manifest();
        let spooled = spooled.map_err(|error| Refusal::write(b"manifest", error))?;
        Ok((spooled, bad))
    }

    /// Removes what the rehearsal has made ready, links to live files among it. What stays is
    /// removed by the next one.
    fn clear(&self, mailbox: &Mailbox, bench: &mut Bench<'_>) {
        let _ = self.roots.discard(&bench.take_staged());
        for bin in ["kept", "quarantine"] {
            let of_all = self.roots.work.join(bin).join(format!("g{NO_GENERATION}"));
            let _ = self.roots.clear_own_dir(&of_all.join(mailbox.key.to_string()));
        }
    }
}

impl ManifestEntry {
    /// The entry of the Maildir file at `rel`, below its mailbox; nothing if no message is there. Its
    /// size is the one in the name, or 0.
    pub fn of_maildir_file(rel: &[u8], fingerprint: Fingerprint) -> Option<Self> {
        let mut parts = rel.rsplitn(3, |byte| *byte == b'/');
        let (file, sub) = (parts.next()?, parts.next()?);
        let folder = match parts.next() {
            None => &b""[..],
            Some(folder) => folder.strip_prefix(b".").filter(|it| !it.contains(&b'/'))?,
        };
        let name = MailName::parse(file);
        let is_message = matches!(sub, b"cur" | b"new") && !file.is_empty();
        is_message.then(|| Self {
            folder: folder.to_vec(),
            name: name.base.to_vec(),
            uid: None,
            size_bytes: name.size.unwrap_or(0),
            fingerprint,
        })
    }
}

impl Compared {
    /// Counts what two manifests have in common; both are sorted.
    fn count<A: io::BufRead, B: io::BufRead>(
        &mut self,
        mut before: ManifestReader<A>,
        mut now: ManifestReader<B>,
    ) -> Result<(), ManifestLineError> {
        let bad: HashSet<(&str, &str)> =
            self.findings.iter().map(|it| (&*it.folder, &*it.name)).collect();
        let is_bad = |it: &ManifestEntry| {
            bad.contains(&(&*escape(&it.folder), &*escape(&it.name)))
        };
        let (mut intact, mut newer, mut gone) = (0, 0, 0);
        let (mut one, mut other) = (before.next().transpose()?, now.next().transpose()?);
        loop {
            let order = match (&one, &other) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => {
                    (&one.folder, &one.name).cmp(&(&other.folder, &other.name))
                }
            };
            match order {
                Ordering::Less => gone += 1,
                Ordering::Equal => {
                    intact += u64::from(!one.as_ref().is_some_and(is_bad));
                }
                Ordering::Greater => newer += 1,
            }
            if order != Ordering::Greater {
                one = before.next().transpose()?;
            }
            if order != Ordering::Less {
                other = now.next().transpose()?;
            }
        }
        (self.intact, self.newer, self.gone) = (intact, newer, gone);
        Ok(())
    }
}

fn entries(path: &Path) -> io::Result<ManifestReader<BufReader<File>>> {
    Ok(ManifestReader::begin(BufReader::new(File::open(path)?)))
}

fn unreadable(mailbox: &Mailbox, source: io::Error) -> Refusal {
    let path = format!("manifest of mailbox {}", escape(&mailbox.path));
    Refusal::unreadable(path, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_file_tells_folder_and_name_of_its_message() {
        let told = |rel: &str| {
            let entry = ManifestEntry::of_maildir_file(
                rel.as_bytes(),
                Fingerprint::Blake3([1; 32]),
            )?;
            Some((escape(&entry.folder), escape(&entry.name), entry.size_bytes))
        };
        let some = |folder: &str, name: &str, size| {
            Some((folder.to_owned(), name.to_owned(), size))
        };

        assert_eq!(told("cur/1.a,S=7:2,S"), some("", "1.a,S=7", 7));
        assert_eq!(told(".Sent.2024/new/1.b"), some("Sent.2024", "1.b", 0));
        assert_eq!(told("tmp/1.a"), None);
        assert_eq!(told("dovecot-uidlist"), None);
        assert_eq!(told(".Sent/dovecot-uidlist"), None);
        assert_eq!(told("a/b/cur/1.a"), None);
        assert_eq!(told("cur/"), None);
    }
}
