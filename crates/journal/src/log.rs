//! Log: what an owner asks of its journal, so that a simulated disk can stand in for it.
//!
//! # Invariants
//!
//! * What `append` has returned survives every crash; after an error nobody knows, and the
//!   owner stops.
//! * A log that never takes a snapshot is a whole one: the methods about them may be left out.

use crate::journal::{Compacted, Journal};
use crate::replay::{Entry, ReadError};
use crate::writer::AppendError;

/// A sequence of records that survives a crash.
pub trait Log: Send {
    /// Appends `payloads` in order as one whole and waits until they are on disk.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; all but `TooLarge` mean that the program must stop.
    fn append(&self, payloads: &[Vec<u8>]) -> Result<u64, AppendError>;

    /// Shows every record that is durable now and not covered by the snapshot, in order,
    /// checked again.
    fn replay(&self) -> Box<dyn Iterator<Item = Result<Entry, ReadError>> + '_>;

    /// The sequence of the newest durable record.
    fn newest(&self) -> u64;

    /// The newest snapshot, if there is one.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; then nothing of the log may be used.
    fn snapshot(&self) -> Result<Option<Compacted>, ReadError> {
        Ok(None)
    }

    /// Shows what was kept of the records that the snapshot covers, in order.
    fn story(&self) -> Box<dyn Iterator<Item = Result<Entry, ReadError>> + '_> {
        Box::new(std::iter::empty())
    }

    /// Whether it is time for a snapshot.
    fn wants_snapshot(&self) -> bool {
        false
    }

    /// Takes a snapshot of all that is durable now. `encode` may be called later and on
    /// another thread, and whether a snapshot comes of it is nobody's concern.
    fn compact(&self, is_story: fn(&[u8]) -> bool, encode: Encode) {
        let _ = (is_story, encode);
    }
}

/// Makes a snapshot's bytes from a copy of the owner's state.
pub type Encode = Box<dyn FnOnce() -> Vec<u8> + Send>;

impl Log for Journal {
    fn append(&self, payloads: &[Vec<u8>]) -> Result<u64, AppendError> {
        Self::append(self, payloads)
    }

    fn replay(&self) -> Box<dyn Iterator<Item = Result<Entry, ReadError>> + '_> {
        Box::new(Self::replay(self))
    }

    fn newest(&self) -> u64 {
        self.head().sequence
    }

    fn snapshot(&self) -> Result<Option<Compacted>, ReadError> {
        Self::snapshot(self)
    }

    fn story(&self) -> Box<dyn Iterator<Item = Result<Entry, ReadError>> + '_> {
        Box::new(Self::story(self))
    }

    fn wants_snapshot(&self) -> bool {
        self.appender().wants_snapshot(self.rhythm())
    }

    fn compact(&self, is_story: fn(&[u8]) -> bool, encode: Encode) {
        self.appender().compact_later(self.head(), is_story, encode);
    }
}
