//! Verify: whether a log is what it was.
//!
//! # Invariants
//!
//! * It reads and changes nothing.
//! * Every finding names the record; after a break the check goes on from what is there, so that
//!   one edit is told once.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use crate::anchor::{Anchor, PublicKey};
use crate::log::{DIGEST_FIELD, parse};
use crate::{Hex, beginning};

/// More would not be read.
const FINDINGS_MAX: usize = 100;

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A line is no record.
    #[error("line {line} is no record")]
    NoRecord {
        /// The line, from 1.
        line: u64,
    },
    /// A record has other bytes than it was written with.
    #[error("record {sequence} was edited: its digest is that of other bytes")]
    Edited {
        /// The record.
        sequence: u64,
    },
    /// Another record stands where this one should.
    #[error(
        "record {expected} should come, {found} does: records were deleted, inserted or exchanged"
    )]
    OutOfPlace {
        /// Whose place it is.
        expected: u64,
        /// Who stands there.
        found: u64,
    },
    /// A record does not continue the one before it.
    #[error(
        "record {sequence} does not continue the one before it: something before it was edited, deleted or exchanged"
    )]
    Unlinked {
        /// The record.
        sequence: u64,
    },
    /// The log ends before something that is known of it elsewhere.
    #[error(
        "the log ends with record {newest}, but record {anchored} was anchored: it was truncated"
    )]
    Truncated {
        /// Its last record.
        newest: u64,
        /// The newest that is known elsewhere.
        anchored: u64,
    },
    /// A record is not the one that is known elsewhere.
    #[error("record {sequence} is not the one that was anchored: the log was rewritten")]
    Rewritten {
        /// The record.
        sequence: u64,
    },
    /// An anchor was not made with the key.
    #[error(
        "the anchor of record {sequence} was not signed with this key; it proves nothing"
    )]
    FalseAnchor {
        /// The record that it is of.
        sequence: u64,
    },
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records in the log.
    pub records: u64,
    /// The digest of the last one.
    pub digest: Hex,
    /// Anchors that were believed.
    pub anchors: u64,
    /// The newest record of which one is.
    pub anchored: u64,
    /// What is wrong, at most a hundred.
    pub findings: Vec<Finding>,
}

/// Checks the log at `path` by itself, and against the anchors in `anchors`: lines that have an
/// anchor in them. With a `key` only those are believed that were signed with its private part.
///
/// # Errors
///
/// The file system's.
pub fn verify(
    path: &Path,
    anchors: Option<&Path>,
    key: Option<&PublicKey>,
) -> io::Result<Verified> {
    let mut findings = Vec::new();
    let mut known = Vec::new();
    if let Some(path) = anchors {
        for line in BufReader::new(File::open(path)?).lines() {
            known.extend(Anchor::find(&line?));
        }
    }
    known.retain(|anchor| {
        let believed = key.is_none_or(|key| anchor.is_of(key));
        if !believed {
            findings.push(Finding::FalseAnchor { sequence: anchor.sequence });
        }
        believed
    });
    known.sort_by_key(|anchor| anchor.sequence);
    let (newest, digest) = check_chain(path, &known, &mut findings)?;
    let anchored = known.last().map_or(0, |anchor| anchor.sequence);
    if anchored > newest {
        findings.push(Finding::Truncated { newest, anchored });
    }
    findings.truncate(FINDINGS_MAX);
    let anchors = known.len() as u64;
    Ok(Verified { records: newest, digest, anchors, anchored, findings })
}

/// Reads the log from its first line to its last. Returns the last record's number and digest.
fn check_chain(
    path: &Path,
    known: &[Anchor],
    findings: &mut Vec<Finding>,
) -> io::Result<(u64, Hex)> {
    let (mut newest, mut before) = (0, beginning());
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let Some((record, digest)) = parse(&line) else {
            findings.push(Finding::NoRecord { line: number });
            continue;
        };
        let sequence = record.sequence;
        if digest_of(&line).as_ref() != Some(&digest) {
            findings.push(Finding::Edited { sequence });
        }
        if sequence != newest + 1 {
            findings.push(Finding::OutOfPlace { expected: newest + 1, found: sequence });
        } else if record.before != before {
            findings.push(Finding::Unlinked { sequence });
        }
        let anchors = known.iter().filter(|anchor| anchor.sequence == sequence);
        if anchors.clone().any(|anchor| anchor.digest != digest) {
            findings.push(Finding::Rewritten { sequence });
        }
        (newest, before) = (sequence, digest);
    }
    Ok((newest, before))
}

/// The digest that the bytes of a line have.
fn digest_of(line: &[u8]) -> Option<Hex> {
    let text = std::str::from_utf8(line).ok()?;
    let (body, _) = text.rsplit_once(DIGEST_FIELD)?;
    Some(crate::hex(&blake3::hash(body.as_bytes())))
}
