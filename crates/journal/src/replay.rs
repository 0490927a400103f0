//! Replay: the records of a journal, first to last, each checked as it is read.
//!
//! # Invariants
//!
//! * A record is handed out only if it is whole and continues the one before it; of what
//!   was compacted only the story is left, and is handed out if each record is whole.
//! * The first damaged record ends the replay with an error; nothing follows it.
//! * Everything that lies in a store is accounted for: what no journal writes is an error.

use std::marker::PhantomData;
use std::path::Path;

use crate::base::{Base, SNAPSHOTS, Story};
use crate::frame::{self, Damage, Digest, Frame, Head, Mark, PAYLOAD_BYTES_MAX};
use crate::journal::OpenError;
use crate::store::{StoreError, quietly};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place: 1 for the first appended record, then one more each.
    pub sequence: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// A record could not be read. All records handed out before are safe; use none behind it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record is damaged, or not the one that was written.
    #[error("read record {sequence}: {what}")]
    Corrupt {
        /// The first record that cannot be trusted.
        sequence: u64,
        /// What is wrong with it.
        what: Damage,
    },
    /// The store failed while reading the record.
    #[error("read record {sequence}")]
    Store {
        /// The record being read.
        sequence: u64,
        /// Why.
        source: StoreError,
    },
}

impl ReadError {
    /// Why the journal at `dir` cannot be opened.
    pub(crate) fn at(self, dir: &Path) -> OpenError {
        let dir = dir.to_owned();
        match self {
            Self::Corrupt { sequence, what } => {
                OpenError::Corrupt { dir, sequence, what }
            }
            Self::Store { source, .. } => OpenError::Store { dir, source },
        }
    }
}

/// The records of a journal in order; see [`crate::Journal::replay`].
pub struct Replay<'a> {
    records: Result<Records, Option<ReadError>>,
    /// A journal cannot be closed while it is being read.
    journal: PhantomData<&'a sled::Db>,
}

impl<'a> Replay<'a> {
    /// What was kept of the records that the snapshot of a store covers.
    pub(crate) fn story(db: &'a sled::Db) -> Self {
        Self { records: Ok(Records::new(db, 0)), journal: PhantomData }
    }

    /// The records of a store from the snapshot, if there is one, up to sequence `last`.
    pub(crate) fn tail(db: &'a sled::Db, last: u64) -> Self {
        let records = header(db).map(|header| match header {
            Some(Header { head, base, .. }) => {
                Records::after(db, base.map_or(head, |base| base.head), last)
            }
            None => Records::new(db, last),
        });
        Self { records: records.map_err(Some), journal: PhantomData }
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let records = match &mut self.records {
            Ok(records) => records,
            Err(error) => return error.take().map(Err),
        };
        let found = records.find(|found| match found {
            Ok(found) => found.head.sequence > 0,
            Err(_) => true,
        });
        let entry =
            |Found { head, payload, .. }| Entry { sequence: head.sequence, payload };
        found.map(|found| found.map(entry))
    }
}

/// A journal's record 0, and what belongs to it.
pub(crate) struct Header {
    pub(crate) head: Head,
    pub(crate) payload: Vec<u8>,
    pub(crate) base: Option<Base>,
}

/// The header of a store; nothing if it was never begun.
pub(crate) fn header(db: &sled::Db) -> Result<Option<Header>, ReadError> {
    Records::new(db, 0).header()
}

/// A record as it lies in a store.
pub(crate) struct Found {
    pub(crate) head: Head,
    pub(crate) mark: Mark,
    pub(crate) payload: Vec<u8>,
}

/// All records of a store, the journal's header (record 0) included.
pub(crate) struct Records {
    db: sled::Db,
    parts: sled::Iter,
    waiting: Option<Part>,
    last: u64,
    /// The newest record read, or the one that the next must continue.
    head: Option<Head>,
    /// While the story is read: where it ends, and what of it was found.
    base: Option<Base>,
    story: Story,
    leftovers: bool,
    ended: bool,
}

type Part = (sled::IVec, sled::IVec);

impl Records {
    /// Reads the records up to sequence `last`, and what is left of those compacted.
    pub(crate) fn new(db: &sled::Db, last: u64) -> Self {
        // No lower bound: a foreign key before our first must not hide.
        let parts = db.range(..frame::key(SNAPSHOTS, 0));
        Self::over(db, parts, None, last)
    }

    /// Reads the records that follow `head`, up to sequence `last`.
    pub(crate) fn after(db: &sled::Db, head: Head, last: u64) -> Self {
        let parts = db.range(frame::key(head.sequence + 1, 0)..frame::key(SNAPSHOTS, 0));
        Self::over(db, parts, Some(head), last)
    }

    fn over(db: &sled::Db, parts: sled::Iter, head: Option<Head>, last: u64) -> Self {
        Self {
            db: db.clone(),
            parts,
            waiting: None,
            last,
            head,
            base: None,
            story: Story::EMPTY,
            leftovers: false,
            ended: false,
        }
    }

    /// Whether records lie in the store that were compacted and should have been dropped.
    pub(crate) fn found_leftovers(&self) -> bool {
        self.leftovers
    }

    /// Reads the header.
    fn header(mut self) -> Result<Option<Header>, ReadError> {
        let Some(found) = self.read(0)? else { return Ok(None) };
        let Found { head, payload, .. } = found;
        Ok(Some(Header { head, payload, base: self.base }))
    }

    /// Reads the record behind the newest.
    fn read(&mut self, sequence: u64) -> Result<Option<Found>, ReadError> {
        let corrupt = |what| ReadError::Corrupt { sequence, what };
        let Some((key, value)) = self.part(sequence)? else {
            return Ok(None);
        };
        match frame::parse_key(&key) {
            Some((found, 0)) if found == sequence => {}
            Some((found, _)) if found == sequence => {
                return Err(corrupt(Damage::PartMissing { part: 0 }));
            }
            Some((found, _)) => return Err(corrupt(Damage::Missing { found })),
            None => return Err(corrupt(Damage::ForeignKey)),
        }
        let (frame, payload) = self.whole(sequence, &value)?;
        let head = frame.check(&payload, self.head).map_err(corrupt)?;
        if frame.mark() == Mark::Based {
            let base = self.base(head.digest)?;
            self.base = Some(base.ok_or(corrupt(Damage::Base))?);
        }
        Ok(Some(Found { head, mark: frame.mark(), payload }))
    }

    /// Reads the next record of the story; nothing when it has ended as it should.
    fn read_story(&mut self, base: Base) -> Result<Option<Found>, ReadError> {
        while let Some((key, value)) = self.part(base.head.sequence)? {
            let found = frame::parse_key(&key);
            let Some((sequence, part)) = found else {
                let (sequence, what) = (base.head.sequence, Damage::ForeignKey);
                return Err(ReadError::Corrupt { sequence, what });
            };
            if sequence > base.head.sequence {
                self.waiting = Some((key, value));
                break;
            }
            let corrupt = |what| ReadError::Corrupt { sequence, what };
            // What is behind a first part that was dropped will be dropped as well.
            let (frame, _) = match part {
                0 => Frame::split(sequence, &value).map_err(corrupt)?,
                1.. => {
                    self.leftovers = true;
                    continue;
                }
            };
            if frame.mark() == Mark::Story {
                let (frame, payload) = self.whole(sequence, &value)?;
                let head = frame.check_alone(sequence, &payload).map_err(corrupt)?;
                self.story = self.story.after(head, &payload);
                return Ok(Some(Found { head, mark: Mark::Story, payload }));
            }
            self.leftovers = true;
        }
        if self.story == base.story {
            return Ok(None);
        }
        let (found, expected) = (self.story.records, base.story.records);
        let (sequence, what) = (base.head.sequence, Damage::Story { found, expected });
        Err(ReadError::Corrupt { sequence, what })
    }

    /// All parts of record `sequence` together, the first of which is `value`.
    fn whole(
        &mut self,
        sequence: u64,
        value: &[u8],
    ) -> Result<(Frame, Vec<u8>), ReadError> {
        let corrupt = |what| ReadError::Corrupt { sequence, what };
        let (frame, first) = Frame::split(sequence, value).map_err(corrupt)?;
        let mut payload = first.to_vec();
        for part in 1..frame.parts() {
            let found = self
                .part(sequence)?
                .filter(|(key, _)| frame::parse_key(key) == Some((sequence, part)));
            let (_, value) = found.ok_or(corrupt(Damage::PartMissing { part }))?;
            payload.extend_from_slice(&value);
            if payload.len() > PAYLOAD_BYTES_MAX {
                let found = payload.len() as u64;
                let expected = PAYLOAD_BYTES_MAX as u64;
                return Err(corrupt(Damage::Length { found, expected }));
            }
        }
        Ok((frame, payload))
    }

    fn base(&self, header: Digest) -> Result<Option<Base>, ReadError> {
        let value = quietly(|| Ok(self.db.get(Base::key())?))
            .map_err(|source| ReadError::Store { sequence: 0, source })?;
        Ok(value.and_then(|value| Base::decode(&value, header)))
    }

    fn part(&mut self, sequence: u64) -> Result<Option<Part>, ReadError> {
        if let Some(part) = self.waiting.take() {
            return Ok(Some(part));
        }
        quietly(|| Ok(self.parts.next().transpose()?))
            .map_err(|source| ReadError::Store { sequence, source })
    }

    fn advance(&mut self) -> Result<Option<Found>, ReadError> {
        if let Some(base) = self.base {
            if let Some(found) = self.read_story(base)? {
                return Ok(Some(found));
            }
            self.base = None;
            self.head = Some(base.head);
        }
        let sequence = self.head.map_or(0, |head| head.sequence + 1);
        if sequence > self.last {
            return Ok(None);
        }
        let found = self.read(sequence)?;
        if let Some(found) = &found {
            self.head = Some(found.head);
        }
        Ok(found)
    }
}

impl Iterator for Records {
    type Item = Result<Found, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let found = self.advance().transpose();
        self.ended = !matches!(found, Some(Ok(_)));
        found
    }
}

/// The next record from `sequence` on that is whole by itself, whatever is before it.
pub(crate) fn whole_from(db: &sled::Db, sequence: u64) -> Option<(Head, Vec<u8>)> {
    let parts = db.range(frame::key(sequence, 0)..frame::key(SNAPSHOTS, 0));
    let mut tried = sequence;
    for key in parts.keys() {
        let key = quietly(|| Ok(key?)).ok()?;
        let Some((sequence, 0)) = frame::parse_key(&key) else { continue };
        if sequence < tried {
            continue;
        }
        tried = sequence + 1;
        let mut records = Records::after(db, Head { sequence, ..Head::NONE }, sequence);
        records.parts = db.range(frame::key(sequence, 0)..frame::key(sequence + 1, 0));
        let value = records.part(sequence).ok()??.1;
        let Ok((frame, payload)) = records.whole(sequence, &value) else { continue };
        if let Ok(head) = frame.check_alone(sequence, &payload) {
            return Some((head, payload));
        }
    }
    None
}

/// The bytes of the snapshot of `base`, checked.
pub(crate) fn snapshot(db: &sled::Db, base: &Base) -> Result<Vec<u8>, ReadError> {
    let sequence = base.head.sequence;
    let store_error = |source| ReadError::Store { sequence, source };
    let of_it = SNAPSHOTS | sequence;
    let parts = db.range(frame::key(of_it, 0)..=frame::key(of_it, u32::MAX));
    let mut body = Vec::new();
    for (part, number) in parts.zip(0..) {
        let (key, value) = quietly(|| Ok(part?)).map_err(store_error)?;
        let whole = body.len() as u64 + value.len() as u64 <= base.snapshot_bytes;
        if !whole || frame::parse_key(&key) != Some((of_it, number)) {
            return Err(ReadError::Corrupt { sequence, what: Damage::Snapshot });
        }
        body.extend_from_slice(&value);
    }
    if blake3::hash(&body).as_bytes() != &base.snapshot.0 {
        return Err(ReadError::Corrupt { sequence, what: Damage::Snapshot });
    }
    Ok(body)
}

/// Checks that behind the records up to `last` there is nothing but what belongs to `base`;
/// says whether something waits there to be dropped.
pub(crate) fn check_behind(
    db: &sled::Db,
    base: Option<&Base>,
    last: u64,
) -> Result<bool, ReadError> {
    let sequence = last + 1;
    let mut leftovers = false;
    let current = base.map(|base| SNAPSHOTS | base.head.sequence);
    for part in db.range(frame::key(SNAPSHOTS, 0)..).keys() {
        let key = quietly(|| Ok(part?))
            .map_err(|source| ReadError::Store { sequence, source })?;
        match frame::parse_key(&key) {
            Some((u64::MAX, 0)) if base.is_some() => {}
            Some((u64::MAX, _)) | None => {
                return Err(ReadError::Corrupt { sequence, what: Damage::ForeignKey });
            }
            Some((of_it, _)) => leftovers |= Some(of_it) != current,
        }
    }
    Ok(leftovers)
}
