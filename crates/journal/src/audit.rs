//! Audit: checks a journal, writes it out, and saves the sound part of a damaged one.
//!
//! # Invariants
//!
//! * The journal looked at is not changed by a single byte: what is opened is a copy, because
//!   the storage engine clears what it cannot read.
//! * Nothing is created where no journal is.
//! * A damaged record ends what is trusted; what is readable behind it is never taken for more
//!   than that.
//! * Repair writes a new journal and never over anything.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::Base;
use crate::frame::{Damage, Digest, Head, Mark};
use crate::journal::{Kind, OpenError, Opened, Read};
use crate::lock::Lock;
use crate::replay::{self, Records};
use crate::store::{Batch, Store, StoreError};
use crate::witness::Witness;

/// Bytes of a repaired journal that are written together.
const BATCH_BYTES: usize = 1 << 20;

/// The version of what an export's lines mean.
pub const EXPORT_SCHEMA: &str = "tidegate.journal.export/1";

/// What a check of a whole journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose journal it is.
    pub kind: Kind,
    /// Its newest record.
    pub head: Head,
    /// The bytes of all payloads together.
    pub payload_bytes: u64,
    /// What was compacted.
    pub compacted: Option<Covered>,
}

/// What a snapshot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covered {
    /// It covers the records from 1 to this one.
    pub records: u64,
    /// So many of them were kept.
    pub story: u64,
    /// The length of the snapshot.
    pub snapshot_bytes: u64,
}

/// A journal could not be exported; what was written until then is its safe part.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The journal cannot be opened or is damaged.
    #[error("export journal")]
    Open(#[from] OpenError),
    /// The export cannot be written.
    #[error("write the export")]
    Write(#[source] io::Error),
}

/// A damaged journal could not be repaired. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It cannot be looked at.
    #[error("repair journal at `{}`", .dir.display())]
    Open {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: Box<OpenError>,
    },
    /// It is whole.
    #[error("repair journal at `{}`: it is whole", .dir.display())]
    Whole {
        /// Where.
        dir: PathBuf,
    },
    /// What everything else stands on is damaged.
    #[error("repair journal at `{}`: nothing of it can be trusted: {what}", .dir.display())]
    Nothing {
        /// Where.
        dir: PathBuf,
        /// What is wrong with it.
        what: Damage,
    },
    /// There is something where the new journal would be.
    #[error("write a repaired journal to `{}`: there is something already", .to.display())]
    Occupied {
        /// Where.
        to: PathBuf,
    },
    /// The new journal cannot be written; what is there of it is none.
    #[error("write a repaired journal to `{}`", .to.display())]
    Write {
        /// Where.
        to: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// What a repair keeps and loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Whose journal it is.
    pub kind: Kind,
    /// The newest record that is kept, with all before it.
    pub keeps: Head,
    /// What is wrong with the next one.
    pub damage: Damage,
    /// The newest record that there was, as far as anything tells.
    pub newest_known: u64,
    /// Where the new journal is, or would be.
    pub to: PathBuf,
}

impl Repair {
    /// How many records are lost, at least: the last ones may have left no trace.
    pub fn lost_min(&self) -> u64 {
        self.newest_known.saturating_sub(self.keeps.sequence)
    }
}

/// Reads the journal at `dir` from first to last record and checks each.
///
/// # Errors
///
/// [`OpenError`], among others if a program has the journal open.
pub fn verify(dir: &Path) -> Result<Verified, OpenError> {
    let inspected = Inspected::take(dir)?;
    let mut payload_bytes = 0;
    let count = &mut |_, payload: &[u8]| payload_bytes += payload.len() as u64;
    let read = inspected.best(dir)?.opened.read(dir, count)?;
    let read = read.ok_or_else(|| absent(dir))?;
    Ok(Verified { payload_bytes, ..verified(read) })
}

/// Checks the journal at `dir` and writes lines of JSON: first one about the journal, to which
/// `about` may add members, given its kind and its first record; then one for each record,
/// and one for the snapshot. Digests and payloads are in hexadecimal. Behind a damaged record
/// those that can still be read follow, marked as not trusted.
///
/// # Errors
///
/// [`ExportError`]; the trusted lines written until then are safe records.
pub fn export(
    dir: &Path,
    about: &dyn Fn(&Kind, &[u8]) -> String,
    out: &mut dyn Write,
) -> Result<Verified, ExportError> {
    let inspected = Inspected::take(dir)?;
    let files = inspected.best(dir)?;
    let mut first = None;
    let kind = files.kind(dir)?;
    let mut lines = Lines { out, written: Ok(()) };
    let mut payload_bytes = 0;
    let read = files.opened.read(dir, &mut |head, payload| {
        payload_bytes += payload.len() as u64;
        if first.is_none() {
            first = Some(());
            lines.put(&opening(&kind, &about(&kind, payload)));
        }
        lines.put(&line(head, payload, true));
    });
    if first.is_none() {
        lines.put(&opening(&kind, &about(&kind, &[])));
    }
    if let Ok(Some(read)) = &read
        && let Some(base) = &read.contents.base
        && let Ok(body) = replay::snapshot(&files.opened.store.reader(), base)
    {
        lines.put(&snapshot_line(base, &body));
    }
    if let Err(OpenError::Corrupt { sequence, .. }) = &read {
        files.beyond(*sequence, &mut |head, payload| {
            lines.put(&line(head, payload, false));
        });
    }
    lines.end().map_err(ExportError::Write)?;
    let read = read?.ok_or_else(|| absent(dir))?;
    Ok(Verified { payload_bytes, ..verified(read) })
}

/// What a repair of the journal at `dir` would do. Writes nothing but a copy that is removed.
///
/// # Errors
///
/// [`RepairError`], [`RepairError::Whole`] if there is nothing to do.
pub fn look_at_repair(dir: &Path) -> Result<Repair, RepairError> {
    let open = |error| RepairError::Open { dir: dir.to_owned(), source: Box::new(error) };
    let inspected = Inspected::take(dir).map_err(open)?;
    let files = inspected.best(dir).map_err(open)?;
    files.look_at_repair(dir)
}

/// Writes what can be trusted of the damaged journal at `dir` to a new journal beside it.
///
/// # Errors
///
/// [`RepairError`]; the damaged journal is as it was in any case.
pub fn repair(dir: &Path) -> Result<Repair, RepairError> {
    let open = |error| RepairError::Open { dir: dir.to_owned(), source: Box::new(error) };
    let inspected = Inspected::take(dir).map_err(open)?;
    let files = inspected.best(dir).map_err(open)?;
    let repair = files.look_at_repair(dir)?;
    let to = repair.to.clone();
    if fs::create_dir(&to).is_err() {
        return Err(RepairError::Occupied { to });
    }
    let written = files.write_to(&repair);
    written.map_err(|source| RepairError::Write { to, source })?;
    Ok(repair)
}

/// A private copy of a journal's files, gone when dropped. The journal stays locked.
struct Inspected {
    copies: Vec<PathBuf>,
    _lock: Lock,
}

impl Inspected {
    fn take(dir: &Path) -> Result<Self, OpenError> {
        if !dir.join("db").is_file() && !dir.join("db.kept").is_file() {
            return Err(absent(dir));
        }
        if !dir.join("witness").is_file() {
            return Err(OpenError::Foreign { dir: dir.to_owned() });
        }
        let io_error = |source| OpenError::Io { dir: dir.to_owned(), source };
        let lock = Opened::lock(dir)?;
        let mut inspected = Self { copies: Vec::new(), _lock: lock };
        // What an earlier start has found, and what it has made of it.
        for data in ["db.kept", "db"] {
            if dir.join(data).is_file() {
                let copy = dir.join(format!("inspected.{data}"));
                inspected.copies.push(copy.clone());
                copy_of(dir, data, &copy).map_err(io_error)?;
            }
        }
        Ok(inspected)
    }

    /// The copy of which most can be trusted.
    fn best(&self, dir: &Path) -> Result<Files, OpenError> {
        let mut best: Option<(u64, Files)> = None;
        let mut refused = None;
        for copy in &self.copies {
            match Opened::take_copy(copy, dir) {
                Ok(opened) => {
                    let files = Files { opened };
                    let trusted = match files.opened.read(dir, &mut |_, _| ()) {
                        Ok(_) => u64::MAX,
                        Err(OpenError::Corrupt { sequence, .. }) => sequence,
                        Err(_) => 0,
                    };
                    if best.as_ref().is_none_or(|(known, _)| *known < trusted) {
                        best = Some((trusted, files));
                    }
                }
                Err(error) => refused = Some(error),
            }
        }
        match (best, refused) {
            (Some((_, files)), _) => Ok(files),
            (None, refused) => Err(refused.unwrap_or_else(|| absent(dir))),
        }
    }
}

impl Drop for Inspected {
    fn drop(&mut self) {
        for copy in &self.copies {
            if let Err(error) = fs::remove_dir_all(copy) {
                tracing::warn!(%error, copy = %copy.display(), "cannot remove a copy");
            }
        }
    }
}

/// A copy of a journal, open.
struct Files {
    opened: Opened,
}

impl Files {
    fn kind(&self, dir: &Path) -> Result<Kind, OpenError> {
        let corrupt =
            |what| OpenError::Corrupt { dir: dir.to_owned(), sequence: 0, what };
        match replay::header(&self.opened.store.reader()) {
            Ok(Some(header)) => {
                Kind::decode(&header.payload).ok_or(corrupt(Damage::FrameCut))
            }
            Ok(None) => Err(match self.opened.seen {
                Some(seen) => corrupt(Damage::CutOff { witnessed: seen.sequence }),
                None => absent(dir),
            }),
            Err(error) => Err(error.at(dir)),
        }
    }

    fn look_at_repair(&self, dir: &Path) -> Result<Repair, RepairError> {
        let mut keeps = None;
        let read = self.opened.read(dir, &mut |head, _| keeps = Some(head));
        let (sequence, what) = match read {
            Ok(_) => return Err(RepairError::Whole { dir: dir.to_owned() }),
            Err(OpenError::Corrupt { sequence, what, .. }) => (sequence, what),
            Err(error) => {
                let source = Box::new(error);
                return Err(RepairError::Open { dir: dir.to_owned(), source });
            }
        };
        let nothing = || RepairError::Nothing { dir: dir.to_owned(), what };
        let header = replay::header(&self.opened.store.reader()).ok().flatten();
        let header = header.ok_or_else(nothing)?;
        let kind = Kind::decode(&header.payload).ok_or_else(nothing)?;
        let from = header.base.map_or(header.head, |base| base.head);
        // What was compacted stands or falls as a whole.
        let stands = header.base.is_none_or(|base| {
            sequence > base.head.sequence
                && replay::snapshot(&self.opened.store.reader(), &base).is_ok()
        });
        if !stands || sequence == 0 {
            return Err(nothing());
        }
        let keeps = keeps.filter(|head| head.sequence > from.sequence).unwrap_or(from);
        let witnessed = self.opened.seen.map_or(0, |seen| seen.sequence);
        let mut newest_known = witnessed.max(keeps.sequence);
        self.beyond(sequence, &mut |head, _| {
            newest_known = newest_known.max(head.sequence);
        });
        let to = with_suffix(dir, ".repaired");
        Ok(Repair { kind, keeps, damage: what, newest_known, to })
    }

    /// Shows the records from `sequence` on that are whole by themselves.
    fn beyond(&self, sequence: u64, look: &mut dyn FnMut(Head, &[u8])) {
        let db = self.opened.store.reader();
        let mut next = sequence;
        while let Some((head, payload)) = replay::whole_from(&db, next) {
            look(head, &payload);
            next = head.sequence + 1;
        }
    }

    fn write_to(&self, repair: &Repair) -> Result<(), StoreError> {
        let (witness, _) = Witness::open(&repair.to).map_err(StoreError::Sync)?;
        let store = Store::open(&repair.to)?;
        let db = self.opened.store.reader();
        let Ok(Some(header)) = replay::header(&db) else {
            return Err(StoreError::Changed);
        };
        let mut copy = Copy { store: &store, batch: Batch::default(), bytes: 0 };
        let mark = if header.base.is_some() { Mark::Based } else { Mark::Plain };
        copy.record(header.head, mark, &header.payload)?;
        if let Some(base) = &header.base {
            let body = replay::snapshot(&db, base).map_err(|_| StoreError::Changed)?;
            copy.snapshot(base, header.head.digest, &body)?;
        }
        let covered = header.base.map_or(0, |base| base.head.sequence);
        for found in Records::new(&db, repair.keeps.sequence).skip(1) {
            let Ok(found) = found else { break };
            let of_story = found.head.sequence <= covered;
            let mark = if of_story { Mark::Story } else { Mark::Plain };
            copy.record(found.head, mark, &found.payload)?;
        }
        copy.end()?;
        witness.record(repair.keeps).map_err(StoreError::Sync)?;
        witness.sync().map_err(StoreError::Sync)?;
        store.settle(&repair.to)
    }
}

/// Writes a new store, some at a time.
struct Copy<'a> {
    store: &'a Store,
    batch: Batch,
    bytes: usize,
}

impl Copy<'_> {
    fn record(
        &mut self,
        head: Head,
        mark: Mark,
        payload: &[u8],
    ) -> Result<(), StoreError> {
        self.batch.record(head, mark, payload);
        self.wrote(payload.len())
    }

    fn snapshot(
        &mut self,
        base: &Base,
        header: Digest,
        body: &[u8],
    ) -> Result<(), StoreError> {
        self.batch.put(Base::key(), base.encode(header));
        for (key, value) in base.parts(body) {
            self.batch.put(key, value.to_vec());
            self.wrote(value.len())?;
        }
        Ok(())
    }

    fn wrote(&mut self, bytes: usize) -> Result<(), StoreError> {
        self.bytes += bytes;
        if self.bytes >= BATCH_BYTES { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.store.write(std::mem::take(&mut self.batch))
    }
}

fn verified(read: Read) -> Verified {
    let contents = read.contents;
    let compacted = contents.base.map(|base| Covered {
        records: base.head.sequence,
        story: base.story.records,
        snapshot_bytes: base.snapshot_bytes,
    });
    let payload_bytes = contents.tail_bytes;
    Verified { kind: read.kind, head: contents.head, payload_bytes, compacted }
}

fn absent(dir: &Path) -> OpenError {
    OpenError::Absent { dir: dir.to_owned() }
}

/// Copies the files of the journal at `dir` to `copy`, with `data` as its store.
fn copy_of(dir: &Path, data: &str, copy: &Path) -> io::Result<()> {
    if copy.exists() {
        // Of a program that was killed.
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir(copy)?;
    fs::copy(dir.join(data), copy.join("db"))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = ["db", "db.kept", "db.kept.part", "lock"];
        let skip = ours.iter().any(|ours| name == *ours);
        if entry.file_type()?.is_file() && !skip {
            fs::copy(entry.path(), copy.join(&name))?;
        }
    }
    Ok(())
}

/// `dir` with something at the end of its name.
fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.components().as_path().as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Lines on their way out, until one cannot be written.
struct Lines<'a> {
    out: &'a mut dyn Write,
    written: io::Result<()>,
}

impl Lines<'_> {
    fn put(&mut self, line: &str) {
        if self.written.is_ok() {
            self.written = self.out.write_all(line.as_bytes());
        }
    }

    fn end(self) -> io::Result<()> {
        self.written.and_then(|()| self.out.flush())
    }
}

fn opening(kind: &Kind, about: &str) -> String {
    let Kind { name, format, id } = kind;
    let id = hexadecimal(id);
    format!(
        "{{\"schema\":\"{EXPORT_SCHEMA}\",\"journal\":\"{name}\",\"id\":\"{id}\",\
         \"format\":{format}{about}}}\n"
    )
}

fn snapshot_line(base: &Base, body: &[u8]) -> String {
    let (sequence, length) = (base.head.sequence, body.len());
    let (head, digest, body) = (base.head.digest, base.snapshot, hexadecimal(body));
    format!(
        "{{\"snapshot_of\":{sequence},\"head\":\"{head}\",\"length\":{length},\
         \"digest\":\"{digest}\",\"snapshot\":\"{body}\"}}\n"
    )
}

fn line(head: Head, payload: &[u8], trusted: bool) -> String {
    let Head { sequence, digest } = head;
    let (length, payload) = (payload.len(), hexadecimal(payload));
    let trusted = if trusted { "" } else { "\"trusted\":false," };
    format!(
        "{{\"sequence\":{sequence},{trusted}\"length\":{length},\
         \"digest\":\"{digest}\",\"payload\":\"{payload}\"}}\n"
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
