//! Audit: checks a journal and writes it out, for people and for whoever comes after.
//!
//! # Invariants
//!
//! * Nothing is created where no journal is, and no record is changed.
//! * An export ends with an error if the journal is damaged; what was written until then
//!   is its safe part.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use crate::frame::{Digest, Head};
use crate::journal::{Kind, OpenError, Opened};

/// What a check of a whole journal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose journal it is.
    pub kind: Kind,
    /// Its newest record.
    pub head: Head,
    /// The bytes of all payloads together.
    pub payload_bytes: u64,
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

/// Reads the journal at `dir` from first to last record and checks each.
///
/// # Errors
///
/// [`OpenError`], among others if a program has the journal open.
pub fn verify(dir: &Path) -> Result<Verified, OpenError> {
    walk(dir, &mut |_, _| ())
}

/// Checks the journal at `dir` and writes one line of JSON for each record: its sequence,
/// length, chain digest and payload, the last two in hexadecimal.
///
/// # Errors
///
/// [`ExportError`]; the lines written until then are safe records.
pub fn export(dir: &Path, out: &mut dyn Write) -> Result<Verified, ExportError> {
    let mut written = Ok(());
    let verified = walk(dir, &mut |head, payload| {
        if written.is_ok() {
            written = out.write_all(line(head.sequence, head.digest, payload).as_bytes());
        }
    });
    written.and_then(|()| out.flush()).map_err(ExportError::Write)?;
    Ok(verified?)
}

fn walk(dir: &Path, look: &mut dyn FnMut(Head, &[u8])) -> Result<Verified, OpenError> {
    let absent = || OpenError::Absent { dir: dir.to_owned() };
    if !dir.join("db").is_file() {
        return Err(absent());
    }
    let mut payload_bytes = 0;
    let read = Opened::take(dir)?.read(dir, &mut |head, payload| {
        payload_bytes += payload.len() as u64;
        look(head, payload);
    })?;
    let read = read.ok_or_else(absent)?;
    let (kind, head) = (read.kind, read.contents.head);
    Ok(Verified { kind, head, payload_bytes })
}

fn line(sequence: u64, digest: Digest, payload: &[u8]) -> String {
    let length = payload.len();
    let mut line = format!(
        "{{\"sequence\":{sequence},\"length\":{length},\"digest\":\"{digest}\",\"payload\":\""
    );
    line.reserve(length * 2 + 3);
    for byte in payload {
        // Writing to a string cannot fail.
        let _ = write!(line, "{byte:02x}");
    }
    line.push_str("\"}\n");
    line
}
