//! Import: digests that were recorded elsewhere become manifests.
//!
//! # Invariants
//!
//! * The list is read to its end before anything is written; one bad line refuses it, and the first
//!   ones are named with their number.
//! * What was recorded here is never replaced.
//! * Memory holds one mailbox at a time, which is why its files must stand together.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tidegate_mail::{
    FingerprintKind, Import, ImportedLine, Mailbox, ManifestEntry, Store,
};

use super::{mailbox, mailboxes, open, settle, unreadable};
use crate::cli::{ImportDigest, ManifestImport};
use crate::console::{self, safe, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::findings::worker;
use crate::telemetry::Chain;

/// As many bad lines as a person reads before correcting the list.
const BAD_LINES_SHOWN_MAX: u64 = 100;

/// Carries out `tidegate manifest import`.
pub(crate) fn run(args: &ManifestImport) -> Outcome {
    let worker = worker(&args.mailboxes.config)?;
    let store = open(&worker)?;
    let mut known = Known::default();
    for found in mailboxes(&args.mailboxes, &worker)? {
        let found = found.map_err(|refusal| Failure::new(Exit::Failed, refusal))?;
        known.paths.insert(found.path);
    }
    let list = List { path: &args.list, kind: kind(args.digest), known: &known };
    let mut check = Check::default();
    let passed = list.each(&mut |line, item| {
        check.take(line, item);
        Ok(())
    })?;
    check.finish(&args.list)?;
    let mut adopt =
        Adopt { store: &store, current: None, taken: 0, kept: 0, messages: 0 };
    list.each(&mut |_, item| adopt.take(item))?;
    if passed.of_dbox > 0 {
        console::tell(format_args!(
            "{} files are of sdbox or mdbox, where a file is not a message: record those mailboxes \
             with `tidegate manifest make`",
            thousands(passed.of_dbox)
        ));
    }
    adopt.flush()?;
    settle(&store)?;
    console::data_line(format_args!(
        "imported {} messages of {} mailboxes; {} mailboxes were recorded here and stay as they are; \
         {} files are no messages of a known mailbox",
        thousands(adopt.messages),
        thousands(adopt.taken),
        thousands(adopt.kept),
        thousands(passed.files),
    ))?;
    Ok(Exit::Done)
}

fn kind(digest: ImportDigest) -> FingerprintKind {
    match digest {
        ImportDigest::Sha256 => FingerprintKind::Sha256,
        ImportDigest::Blake3 => FingerprintKind::Blake3,
    }
}

/// The mailboxes of the node, by their paths.
#[derive(Default)]
struct Known {
    paths: HashSet<Vec<u8>>,
}

impl Known {
    /// The mailbox that a file is in, and its path there.
    fn place<'p>(&self, path: &'p [u8]) -> Option<(&'p [u8], &'p [u8])> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        ends.map(|(at, _)| path.split_at(at))
            .find(|(head, _)| self.paths.contains(*head))
            .map(|(head, rest)| (head, rest.get(1..).unwrap_or_default()))
    }
}

/// A message of the list, or a line that is none.
type Item = Result<(Vec<u8>, ManifestEntry), String>;

struct List<'a> {
    path: &'a Path,
    kind: FingerprintKind,
    known: &'a Known,
}

impl List<'_> {
    /// Tells every message and every bad line with its number; what was neither.
    fn each(
        &self,
        tell: &mut dyn FnMut(u64, Item) -> Result<(), Failure>,
    ) -> Result<Passed, Failure> {
        let file = File::open(self.path).map_err(|error| unreadable(self.path, error))?;
        let mut passed = Passed::default();
        for (line, item) in (1..).zip(Import::begin(BufReader::new(file), self.kind)) {
            match item {
                Ok(ImportedLine { path, fingerprint }) => {
                    let message = self.known.place(&path).and_then(|(mailbox, rel)| {
                        let entry = ManifestEntry::of_maildir_file(rel, fingerprint)?;
                        Some((mailbox.to_vec(), entry))
                    });
                    match message {
                        Some(message) => tell(line, Ok(message))?,
                        None => passed.add(&path),
                    }
                }
                Err(error) => tell(line, Err(format!("cannot {}", Chain(&error))))?,
            }
        }
        Ok(passed)
    }
}

/// Files that are no messages of a known mailbox.
#[derive(Default)]
struct Passed {
    files: u64,
    /// Of these: where Dovecot keeps messages in a format of its own.
    of_dbox: u64,
}

impl Passed {
    fn add(&mut self, path: &[u8]) {
        self.files += 1;
        let mut parts = path.rsplit(|byte| *byte == b'/');
        let file = parts.next().unwrap_or_default();
        let dir = parts.next().unwrap_or_default();
        let is_sdbox = dir == b"dbox-Mails" && file.starts_with(b"u.");
        let is_mdbox = dir == b"storage" && file.starts_with(b"m.");
        self.of_dbox += u64::from(is_sdbox || is_mdbox);
    }
}

/// The first reading.
#[derive(Default)]
struct Check {
    messages: u64,
    bad: u64,
    current: Option<Vec<u8>>,
    seen: HashSet<u64>,
}

impl Check {
    fn take(&mut self, line: u64, item: Item) {
        let bad = match item {
            Err(text) => text,
            Ok((mailbox, _)) if self.current.as_ref() == Some(&mailbox) => {
                self.messages += 1;
                return;
            }
            Ok((mailbox, _)) => {
                self.messages += 1;
                let is_new = self.seen.insert(Mailbox::key_of(&mailbox));
                let path = safe(&String::from_utf8_lossy(&mailbox));
                self.current = Some(mailbox);
                if is_new {
                    return;
                }
                format!("line {line}: the files of `{path}` do not stand together")
            }
        };
        self.bad += 1;
        if self.bad <= BAD_LINES_SHOWN_MAX {
            console::tell(bad);
        }
    }

    fn finish(&self, list: &Path) -> Result<(), Failure> {
        let list = list.display();
        if self.bad > 0 {
            let text = format!(
                "`{list}`: {} bad lines; nothing is imported",
                thousands(self.bad)
            );
            let help = "a line is a digest, two blanks and a path below the mail root; \
                        `LC_ALL=C sort -k 2` puts the files of a mailbox together";
            return Err(Failure::text(Exit::Input, text).help(help));
        }
        if self.messages == 0 {
            let text = format!("`{list}` has no message of a mailbox of this node");
            let help = "paths begin below the mail root, and only Maildirs count: make the list \
                        with `cd LIVE && find . -type f -exec sha256sum {} +`; for sdbox and mdbox \
                        use `tidegate manifest make`";
            return Err(Failure::text(Exit::Input, text).help(help));
        }
        Ok(())
    }
}

/// The second reading.
struct Adopt<'a> {
    store: &'a Store,
    current: Option<(Vec<u8>, Vec<ManifestEntry>)>,
    taken: u64,
    kept: u64,
    messages: u64,
}

impl Adopt<'_> {
    fn take(&mut self, item: Item) -> Result<(), Failure> {
        let Ok((path, entry)) = item else {
            return Err(Failure::text(
                Exit::Failed,
                "the list changed while it was read",
            ));
        };
        if let Some((current, entries)) = &mut self.current
            && *current == path
        {
            entries.push(entry);
            return Ok(());
        }
        self.flush()?;
        self.current = Some((path, vec![entry]));
        Ok(())
    }

    /// Writes the manifest of the mailbox that is complete.
    fn flush(&mut self) -> Result<(), Failure> {
        let Some((path, entries)) = self.current.take() else { return Ok(()) };
        let messages = entries.len() as u64;
        let adopted = self.store.adopt(&mailbox(String::new(), path), entries);
        if adopted.map_err(|refusal| Failure::new(Exit::Failed, refusal))? {
            self.taken += 1;
            self.messages += messages;
        } else {
            self.kept += 1;
        }
        Ok(())
    }
}
