//! The store below a journal: sled, made durable and kept from taking us down.
//!
//! # Invariants
//!
//! * A commit is one batch, one flush and one `fdatasync` of sled's file, in this order:
//!   sled's own flush does not reach the disk.
//! * sled is flushed by its caller's thread alone; its asynchronous flush can stop for good.
//! * A panic inside sled becomes an error and prints nothing.

use std::any::Any;
use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::frame::{self, Head, KEY_BYTES, Mark};

/// sled's page cache, in bytes: a journal is read once and then only grows. Each of sled's 256
/// parts of it still has room for a page of the longest values; with more, a worker of a million
/// mailboxes takes some megabytes more and nothing becomes faster.
const CACHE_BYTES: u64 = 16 << 20;

/// How often sled writes in the background, in milliseconds: longer lets its memory grow,
/// shorter slows appends.
const BACKGROUND_FLUSH_MS: u64 = 500;

/// How long to wait for sled's own lock once ours is held: a store that was just closed by
/// this program lets go of its file a moment later.
const ENGINE_LOCK_WAIT: Duration = Duration::from_secs(5);

/// How often to look whether sled's lock is free.
const ENGINE_LOCK_POLL: Duration = Duration::from_millis(5);

/// The store failed; whether what was being written is kept is not known.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage engine reported an error.
    #[error("use the storage engine")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The storage engine panicked, as it does on files it cannot understand.
    #[error("use the storage engine, which gave up with `{0}`")]
    Panicked(String),
    /// The store does not hold any more what was written to it.
    #[error("find in the storage engine what was written to it")]
    Changed,
    /// A file could not be made durable.
    #[error("make the store durable")]
    Sync(#[source] io::Error),
}

impl StoreError {
    /// Whether the file system refused to read or write: a person must look at the disk.
    pub fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Sync(_) => true,
            Self::Engine(error) => {
                matches!(error.downcast_ref(), Some(sled::Error::Io(_)))
                    && !is_locked(error.as_ref())
            }
            Self::Panicked(_) | Self::Changed => false,
        }
    }
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

/// An open store.
pub(crate) struct Store {
    db: sled::Db,
    data: File,
}

impl Store {
    /// Opens or creates the store at `dir`, whose lock the caller holds.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(BACKGROUND_FLUSH_MS));
        let started = Instant::now();
        let db = loop {
            match quietly(|| Ok(config.open()?)) {
                Err(StoreError::Engine(error))
                    if is_locked(error.as_ref())
                        && started.elapsed() < ENGINE_LOCK_WAIT =>
                {
                    std::thread::sleep(ENGINE_LOCK_POLL);
                }
                opened => break opened?,
            }
        };
        let data = File::open(dir.join("db")).map_err(StoreError::Sync)?;
        Ok(Self { db, data })
    }

    /// A second handle for reading.
    pub(crate) fn reader(&self) -> sled::Db {
        self.db.clone()
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    /// Writes records, each with the head that it makes, and waits until they are on disk.
    pub(crate) fn commit<'a>(
        &self,
        records: impl Iterator<Item = (Head, &'a [u8])>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (head, payload) in records {
            batch.record(head, Mark::Plain, payload);
        }
        self.write(batch)
    }

    /// Carries out a batch, whole or not at all, and waits until it is on disk.
    pub(crate) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        quietly(|| {
            self.db.apply_batch(batch.0)?;
            self.db.flush()?;
            Ok(())
        })?;
        self.data.sync_data().map_err(StoreError::Sync)
    }

    /// Makes everything durable that opening may have created: files, their directories and
    /// the name of the journal itself.
    pub(crate) fn settle(&self, dir: &Path) -> Result<(), StoreError> {
        quietly(|| Ok(self.db.flush().map(drop)?))?;
        sync_tree(dir).and_then(|()| sync_parent(dir)).map_err(StoreError::Sync)
    }
}

/// Changes of a store that happen together.
#[derive(Default)]
pub(crate) struct Batch(sled::Batch);

impl Batch {
    /// Puts a record, with all its parts.
    pub(crate) fn record(&mut self, head: Head, mark: Mark, payload: &[u8]) {
        frame::encode(head, mark, payload, &mut |key, value| self.put(key, value));
    }

    /// Puts one value.
    pub(crate) fn put(&mut self, key: [u8; KEY_BYTES], value: Vec<u8>) {
        self.0.insert(&key[..], value);
    }

    /// Removes one value.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

/// Runs a piece of sled, turning its panics into errors without a word on stderr.
pub(crate) fn quietly<T>(
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });

    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.unwrap_or_else(|panic| Err(StoreError::Panicked(text_of(panic.as_ref()))))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}

/// Whether sled found its file locked; it says so in words only.
fn is_locked(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<sled::Error>().and_then(|error| match error {
        sled::Error::Io(error) => Some(error),
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => None,
    });
    io.is_some_and(|error| error.to_string().starts_with("could not acquire lock"))
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            match File::open(entry.path()) {
                Ok(file) => file.sync_all()?,
                // sled replaces its own small files while it runs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    File::open(dir)?.sync_all()
}

fn sync_parent(dir: &Path) -> io::Result<()> {
    let dir = fs::canonicalize(dir)?;
    dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
