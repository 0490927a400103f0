//! The journal: opened and checked once, then appended to.
//!
//! # Invariants
//!
//! * An open journal has been read from its first record to its last, and every one is whole.
//! * A journal belongs to one owner: its header says which, and nobody else opens it.
//! * Everything that opening created or repaired is on disk before the first append.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::compaction::Rhythm;
use crate::frame::{Damage, Head};
use crate::kept::Kept;
use crate::lock::{Lock, LockError};
use crate::replay::{self, ReadError, Records, Replay};
use crate::store::{Store, StoreError};
use crate::witness::Witness;
use crate::writer::{AppendError, Appender, Contents};

/// An open journal; this program is the only one that has it.
pub struct Journal {
    kind: Kind,
    rhythm: Rhythm,
    db: sled::Db,
    appender: Appender,
    writer: Option<JoinHandle<()>>,
    /// Dropped last: whoever takes it next finds the store closed.
    _lock: Arc<Lock>,
}

/// What a number of records have led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// How many: the snapshot covers the records from 1 to this one.
    pub records: u64,
    /// The bytes that their owner has made of them.
    pub snapshot: Vec<u8>,
}

/// Whose journal it is, written into its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// What keeps the journal, for example `coordinator`.
    pub name: String,
    /// The owner's own version of what records mean. A journal of a newer format is
    /// refused, one of an older format is opened: see [`Journal::kind`].
    pub format: u32,
    /// Which of several owners of this name, for example a digest of the node's name;
    /// zeros where there is only one.
    pub id: [u8; 16],
}

/// A journal could not be opened. No record was written; if it is damaged, its file as it
/// was found is kept beside it, because the storage engine clears what it cannot read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory cannot be created or used.
    #[error("open journal at `{}`", .dir.display())]
    Io {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no journal there.
    #[error("open journal at `{}`: there is none", .dir.display())]
    Absent {
        /// Where.
        dir: PathBuf,
    },
    /// Something else lies there.
    #[error(
        "open journal at `{}`: the files there are not a journal's, or its `witness` is gone",
        .dir.display()
    )]
    Foreign {
        /// Where.
        dir: PathBuf,
    },
    /// Another program has it open.
    #[error(
        "open journal at `{}`: process {holder} has it open; stop that one first",
        .dir.display()
    )]
    Held {
        /// Where.
        dir: PathBuf,
        /// Its process number, as far as known.
        holder: String,
    },
    /// A copy of its file cannot be made; nothing was touched.
    #[error(
        "open journal at `{}`: make room for a copy of it, kept until it has been read",
        .dir.display()
    )]
    Keep {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error(
        "open journal at `{}` as {expected}: it is {found}; choose another directory",
        .dir.display()
    )]
    OtherKind {
        /// Where.
        dir: PathBuf,
        /// Who wanted to open it.
        expected: Kind,
        /// Whose it is.
        found: Kind,
    },
    /// A newer version of the program has written it.
    #[error(
        "open journal at `{}`: its format is {found}, this program knows up to {known}; \
         use the newer program",
        .dir.display()
    )]
    NewerFormat {
        /// Where.
        dir: PathBuf,
        /// The format in its header.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// A record is damaged or missing. Nothing of the journal is used.
    #[error(
        "open journal at `{}`: record {sequence} cannot be trusted: {what}; {}; \
         nothing was thrown away, and `tidegate journal repair` saves what is safe",
        .dir.display(), Safe(*.sequence, *.what)
    )]
    Corrupt {
        /// Where.
        dir: PathBuf,
        /// The first record that cannot be trusted; all before it are safe.
        sequence: u64,
        /// What is wrong with it.
        what: Damage,
    },
    /// The storage engine cannot read its own files, or failed.
    #[error("open journal at `{}`; its file as found stays beside it", .dir.display())]
    Store {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// Says which part of a damaged journal is safe.
struct Safe(u64, Damage);

impl fmt::Display for Safe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(sequence, what) = self;
        if matches!(what, Damage::Snapshot | Damage::Story { .. } | Damage::Base) {
            return f.write_str("what was compacted is lost with it");
        }
        match sequence {
            0 | 1 => write!(f, "no record before it"),
            2 => write!(f, "record 1 is safe"),
            sequence => write!(f, "records 1 to {} are safe", sequence - 1),
        }
    }
}

impl Journal {
    /// Opens or creates the journal at `dir`, takes it for this program alone and checks
    /// every record.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; a person has to decide, trying again helps only with `Held`.
    pub fn open(dir: &Path, kind: &Kind) -> Result<Self, OpenError> {
        create(dir).map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
        let opened = Opened::take(dir)?;
        let store_error = |source| OpenError::Store { dir: dir.to_owned(), source };
        let (kind, contents) = match opened.read(dir, &mut |_, _| ())? {
            Some(read) => (admit(dir, kind, read.kind)?, read.contents),
            None => {
                let head = begin(&opened.store, kind).map_err(store_error)?;
                let (base, tail_bytes, leftovers) = (None, 0, false);
                (kind.clone(), Contents { head, base, tail_bytes, leftovers })
            }
        };
        let (head, base) = (contents.head, contents.base);
        let witnessed = opened.witness.record(head).map_err(StoreError::Sync);
        witnessed.and_then(|()| opened.store.settle(dir)).map_err(store_error)?;

        let db = opened.store.reader();
        let lock = Arc::new(opened.lock);
        let (appender, writer) =
            Appender::start(opened.store, opened.witness, contents, Arc::clone(&lock))
                .map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
        let compacted = base.map_or(0, |base| base.head.sequence);
        let records = head.sequence;
        tracing::info!(dir = %dir.display(), records, compacted, "journal opened");
        let (rhythm, writer) = (Rhythm::USUAL, Some(writer));
        Ok(Self { kind, rhythm, db, appender, writer, _lock: lock })
    }

    /// The same, which wants a snapshot in this rhythm.
    #[must_use]
    pub fn compacted_in(mut self, rhythm: Rhythm) -> Self {
        self.rhythm = rhythm;
        self
    }

    /// When it wants a snapshot.
    pub(crate) fn rhythm(&self) -> Rhythm {
        self.rhythm
    }

    /// The kind in the journal's header: its format may be older than what was asked for.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Reads the newest snapshot, checking it again: what all records up to some have led
    /// to. Nothing if the journal was never compacted.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; then use nothing of the journal.
    pub fn snapshot(&self) -> Result<Option<Compacted>, ReadError> {
        let Some(base) = replay::header(&self.db)?.and_then(|header| header.base) else {
            return Ok(None);
        };
        let snapshot = replay::snapshot(&self.db, &base)?;
        Ok(Some(Compacted { records: base.head.sequence, snapshot }))
    }

    /// Reads what was kept of the records that the snapshot covers, in order, checking each
    /// again. Meant for the start, before anything is appended.
    pub fn story(&self) -> Replay<'_> {
        Replay::story(&self.db)
    }

    /// Reads all records behind the snapshot, or all if there is none, in order, checking
    /// each again. Meant for the start, before anything is appended.
    pub fn replay(&self) -> Replay<'_> {
        Replay::tail(&self.db, self.head().sequence)
    }

    /// Appends `payloads` in order as one whole and waits until they are on disk. Returns
    /// the sequence of the last of them, or of the newest record if there are none.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; all but `TooLarge` mean that the program must stop.
    pub fn append(&self, payloads: &[Vec<u8>]) -> Result<u64, AppendError> {
        self.appender.append(payloads)
    }

    /// A handle for appending from other threads. It outlives the journal, but only to
    /// refuse.
    pub fn appender(&self) -> Appender {
        self.appender.clone()
    }

    /// The newest durable record.
    pub fn head(&self) -> Head {
        self.appender.head()
    }
}

impl Drop for Journal {
    /// Closes the journal: what has queued is still written, and the next open finds the
    /// store free. A store that has stopped answering is left behind, still locked.
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take()
            && self.appender.close()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} journal ", self.name)?;
        self.id.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A journal's files, held but not yet served.
pub(crate) struct Opened {
    pub(crate) store: Store,
    witness: Witness,
    /// What the witness has seen last.
    pub(crate) seen: Option<Head>,
    kept: Option<Kept>,
    /// Dropped last: whoever takes it next finds the store closed.
    lock: Lock,
}

/// What a journal was found to hold.
pub(crate) struct Read {
    pub(crate) kind: Kind,
    pub(crate) contents: Contents,
}

impl Opened {
    /// Locks and opens the files at `dir`, which exists.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let io_error = |source| OpenError::Io { dir: dir.to_owned(), source };
        let lock = Self::lock(dir)?;
        // The witness comes first into a new journal's directory, so a store without one
        // is not ours, and the engine would take what it cannot read for empty space.
        if dir.join("db").exists() && !dir.join("witness").exists() {
            return Err(OpenError::Foreign { dir: dir.to_owned() });
        }
        let (witness, seen) = Witness::open(dir).map_err(io_error)?;
        let kept = Kept::take(dir)
            .map_err(|source| OpenError::Keep { dir: dir.to_owned(), source })?;
        let store = Store::open(dir)
            .map_err(|source| OpenError::Store { dir: dir.to_owned(), source })?;
        Ok(Self { store, witness, seen, kept: Some(kept), lock })
    }

    /// Locks and opens `files`, which are a copy of those at `dir`.
    pub(crate) fn take_copy(files: &Path, dir: &Path) -> Result<Self, OpenError> {
        let lock = Self::lock(files)?;
        let (witness, seen) = Witness::open(files)
            .map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
        let store = Store::open(files)
            .map_err(|source| OpenError::Store { dir: dir.to_owned(), source })?;
        Ok(Self { store, witness, seen, kept: None, lock })
    }

    /// Takes the lock of the journal at `dir`.
    pub(crate) fn lock(dir: &Path) -> Result<Lock, OpenError> {
        Lock::take(dir).map_err(|error| match error {
            LockError::Held { holder } => OpenError::Held { dir: dir.to_owned(), holder },
            LockError::Io(source) => OpenError::Io { dir: dir.to_owned(), source },
        })
    }

    /// Reads and checks everything, showing each record but the header to `look`;
    /// `None` if the journal was never begun.
    pub(crate) fn read(
        &self,
        dir: &Path,
        look: &mut dyn FnMut(Head, &[u8]),
    ) -> Result<Option<Read>, OpenError> {
        let read = self.walk(dir, look)?;
        let released = self.kept.as_ref().map_or(Ok(()), Kept::release);
        released.map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
        Ok(read)
    }

    fn walk(
        &self,
        dir: &Path,
        look: &mut dyn FnMut(Head, &[u8]),
    ) -> Result<Option<Read>, OpenError> {
        let failed = |error: ReadError| error.at(dir);
        let corrupt = |sequence, what| failed(ReadError::Corrupt { sequence, what });
        if self.store.is_empty() && self.seen.is_none() {
            return Ok(None);
        }
        let db = self.store.reader();
        let cut_off = |sequence| match self.seen {
            Some(seen) if seen.sequence >= sequence => {
                Err(corrupt(sequence, Damage::CutOff { witnessed: seen.sequence }))
            }
            _ => Ok(()),
        };
        let Some(header) = replay::header(&db).map_err(failed)? else {
            cut_off(0)?;
            return Ok(None);
        };
        let kind = Kind::decode(&header.payload).ok_or(corrupt(0, Damage::FrameCut))?;
        let base = header.base;
        let head = base.map_or(header.head, |base| base.head);
        let mut contents = Contents { head, base, tail_bytes: 0, leftovers: false };
        self.check_seen(head).map_err(failed)?;

        let mut records = Records::new(&db, u64::MAX);
        for found in records.by_ref() {
            let found = found.map_err(failed)?;
            let sequence = found.head.sequence;
            if sequence == 0 {
                continue;
            }
            look(found.head, &found.payload);
            if base.is_none_or(|base| sequence > base.head.sequence) {
                self.check_seen(found.head).map_err(failed)?;
                contents.head = found.head;
                contents.tail_bytes += found.payload.len() as u64;
            }
        }
        cut_off(contents.head.sequence + 1)?;
        let behind = replay::check_behind(&db, base.as_ref(), contents.head.sequence);
        contents.leftovers = behind.map_err(failed)? | records.found_leftovers();
        if let Some(base) = &base {
            replay::snapshot(&db, base).map_err(failed)?;
        }
        Ok(Some(Read { kind, contents }))
    }

    /// Checks that `head` is the one that the witness has seen, if it has seen that one.
    fn check_seen(&self, head: Head) -> Result<(), ReadError> {
        let (sequence, what) = (head.sequence, Damage::Chain);
        let differs =
            self.seen.is_some_and(|seen| seen.sequence == sequence && seen != head);
        if differs { Err(ReadError::Corrupt { sequence, what }) } else { Ok(()) }
    }
}

impl Kind {
    /// The header's payload: format, id, name.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.format.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first_chunk::<4>()?;
        let (id, name) = rest.split_first_chunk::<16>()?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        Some(Self { name, format: u32::from_be_bytes(*format), id: *id })
    }
}

/// Checks that a journal found is the one meant.
fn admit(dir: &Path, expected: &Kind, found: Kind) -> Result<Kind, OpenError> {
    if (&found.name, &found.id) != (&expected.name, &expected.id) {
        let (dir, expected) = (dir.to_owned(), expected.clone());
        return Err(OpenError::OtherKind { dir, expected, found });
    }
    if found.format > expected.format {
        let (found, known) = (found.format, expected.format);
        return Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known });
    }
    Ok(found)
}

/// Writes the header of a new journal.
fn begin(store: &Store, kind: &Kind) -> Result<Head, StoreError> {
    let payload = kind.encode();
    let head = Head::of_header(&payload);
    store.commit([(head, payload.as_slice())].into_iter())?;
    Ok(head)
}

/// Creates the journal's directory, for its owner's eyes only: records name mailboxes.
fn create(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}
