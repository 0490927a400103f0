//! Replay: the records of a journal, first to last, each checked as it is read.
//!
//! # Invariants
//!
//! * A record is handed out only if it is whole and continues the one before it.
//! * The first damaged record ends the replay with an error; nothing follows it.

use std::marker::PhantomData;

use crate::frame::{self, Damage, Frame, Head, PAYLOAD_BYTES_MAX};
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

/// The records of a journal in order; see [`crate::Journal::replay`].
pub struct Replay<'a> {
    records: Records,
    header_read: bool,
    /// A journal cannot be closed while it is being read.
    journal: PhantomData<&'a sled::Db>,
}

impl<'a> Replay<'a> {
    /// Reads the records up to sequence `last` of a store.
    pub(crate) fn new(db: &'a sled::Db, last: u64) -> Self {
        let records = Records::new(db, last);
        Self { records, header_read: false, journal: PhantomData }
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.header_read {
            self.header_read = true;
            if let Err(error) = self.records.next()? {
                return Some(Err(error));
            }
        }
        let record = self.records.next()?;
        Some(record.map(|(head, payload)| Entry { sequence: head.sequence, payload }))
    }
}

/// All records of a store, the journal's header (record 0) included.
pub(crate) struct Records {
    parts: sled::Iter,
    last: u64,
    head: Option<Head>,
    ended: bool,
}

type Part = (sled::IVec, sled::IVec);

impl Records {
    /// Reads the records up to sequence `last`.
    pub(crate) fn new(db: &sled::Db, last: u64) -> Self {
        // No upper bound in the range: a foreign key behind our last must not hide.
        Self { parts: db.iter(), last, head: None, ended: false }
    }

    fn read(&mut self, sequence: u64) -> Result<Option<(Head, Vec<u8>)>, ReadError> {
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
        let (frame, first) = Frame::split(sequence, &value).map_err(corrupt)?;
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
        let head = frame.check(&payload, self.head).map_err(corrupt)?;
        Ok(Some((head, payload)))
    }

    fn part(&mut self, sequence: u64) -> Result<Option<Part>, ReadError> {
        quietly(|| Ok(self.parts.next().transpose()?))
            .map_err(|source| ReadError::Store { sequence, source })
    }
}

impl Iterator for Records {
    type Item = Result<(Head, Vec<u8>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let sequence = self.head.map_or(0, |head| head.sequence + 1);
        if self.ended || sequence > self.last {
            return None;
        }
        let record = self.read(sequence).transpose();
        match &record {
            Some(Ok((head, _))) => self.head = Some(*head),
            Some(Err(_)) | None => self.ended = true,
        }
        record
    }
}
