//! The log: a line of JSON for each record, appended and never changed.
//!
//! # Invariants
//!
//! * Of a line that a crash has cut short nobody was told anything: it is taken away at the next
//!   start, and a record says so.
//! * After a failed write nothing more is written: nobody builds on half a line.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::anchor::{ANCHOR_EVERY_RECORDS, Anchor, SigningKey};
use crate::{Hex, beginning};

/// What ends what a digest is of.
pub(crate) const DIGEST_FIELD: &str = ",\"digest\":\"";

/// What somebody did or looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note<'a> {
    /// When, milliseconds since 1970.
    pub at_millis: u64,
    /// Who, by their certificate; `local` without one.
    pub who: &'a str,
    /// Their roles.
    pub roles: &'a [&'a str],
    /// What they called.
    pub call: &'a str,
    /// With what, without any address.
    pub about: &'a str,
    /// How it ended: `asked`, `done`, or the code of the refusal.
    pub outcome: &'a str,
}

/// A record as it is written, but for its digest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    pub(crate) sequence: u64,
    pub(crate) time: Cow<'a, str>,
    pub(crate) who: Cow<'a, str>,
    pub(crate) roles: Vec<Cow<'a, str>>,
    pub(crate) call: Cow<'a, str>,
    pub(crate) about: Cow<'a, str>,
    pub(crate) outcome: Cow<'a, str>,
    pub(crate) before: Cow<'a, str>,
}

/// The newest record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 before any.
    pub sequence: u64,
    /// The digest of it and of all before it.
    pub digest: Hex,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be opened, read or written.
    #[error("{what} the audit log `{}`", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The log.
        path: PathBuf,
        /// Why it cannot be.
        source: io::Error,
    },
    /// A write has failed earlier.
    #[error("the audit log failed earlier; start again once its disk is mended")]
    Failed,
}

/// An open log.
pub struct Log {
    path: PathBuf,
    file: Arc<File>,
    head: Head,
    anchored: u64,
    failed: bool,
    /// The line that was written last, in room for the next.
    line: Vec<u8>,
    /// The time that was written last: thousands of looks a second share theirs.
    time: (u64, String),
}

/// An anchor that is due, of all there was when it was drawn. Flushing it takes as long as the
/// disk does, and meanwhile the log can be written.
pub struct Due {
    path: PathBuf,
    file: Arc<File>,
    head: Head,
}

impl Log {
    /// Opens the log at `path`, or begins one.
    ///
    /// # Errors
    ///
    /// [`AuditError::File`].
    pub fn open(path: &Path, at_millis: u64) -> Result<Self, AuditError> {
        let failed =
            |what| move |source| AuditError::File { what, path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let file = options.create(true).read(true).append(true).mode(0o600).open(path);
        let file = file.map_err(failed("open"))?;
        let (head, whole, torn) = last(&file).map_err(failed("read"))?;
        if torn > 0 {
            file.set_len(whole).map_err(failed("mend"))?;
        }
        let (path, anchored) = (path.to_owned(), head.sequence);
        let mut log = Self {
            path,
            file: Arc::new(file),
            head,
            anchored,
            failed: false,
            line: Vec::new(),
            time: (0, written(0)),
        };
        let about = if torn > 0 {
            format!("{torn} bytes of a line cut short")
        } else {
            String::new()
        };
        let (who, call, outcome, about) = ("tidegate", "start", "done", about.as_str());
        log.note(Note { at_millis, who, call, about, outcome, ..Note::default() })?;
        Ok(log)
    }

    /// Records something.
    ///
    /// # Errors
    ///
    /// [`AuditError`]; then nothing more is recorded.
    pub fn note(&mut self, note: Note<'_>) -> Result<(), AuditError> {
        if self.failed {
            return Err(AuditError::Failed);
        }
        let Note { at_millis, who, roles, call, about, outcome } = note;
        let Self { path, file, head, line, time, .. } = self;
        if time.0 != at_millis {
            *time = (at_millis, written(at_millis));
        }
        let sequence = head.sequence + 1;
        let record = Record {
            sequence,
            time: Cow::Borrowed(&time.1),
            who: who.into(),
            roles: roles.iter().copied().map(Cow::Borrowed).collect(),
            call: call.into(),
            about: about.into(),
            outcome: outcome.into(),
            before: Cow::Borrowed(&head.digest),
        };
        let failed =
            |source| AuditError::File { what: "write", path: path.clone(), source };
        line.clear();
        serde_json::to_writer(&mut *line, &record)
            .map_err(|error| failed(error.into()))?;
        // The brace that ends it comes behind the digest.
        line.pop();
        let digest = crate::hex(&blake3::hash(line));
        for part in [DIGEST_FIELD, &digest, "\"}\n"] {
            line.extend_from_slice(part.as_bytes());
        }
        if let Err(error) = (&**file).write_all(line) {
            let error = failed(error);
            self.failed = true;
            return Err(error);
        }
        self.head = Head { sequence, digest };
        Ok(())
    }

    /// Whether so much has come since the last anchor that there should be one.
    pub fn wants_anchor(&self) -> bool {
        self.head.sequence - self.anchored >= ANCHOR_EVERY_RECORDS
    }

    /// An anchor of all there is, once it is on disk; nothing if nothing has come since the last.
    ///
    /// # Errors
    ///
    /// [`AuditError::File`].
    pub fn anchor(
        &mut self,
        at_millis: u64,
        key: Option<&SigningKey>,
    ) -> Result<Option<Anchor>, AuditError> {
        let Some(due) = self.due() else { return Ok(None) };
        let anchor = due.flush(at_millis, key)?;
        self.anchored(&anchor);
        Ok(Some(anchor))
    }

    /// The anchor of all there is; nothing if nothing has come since the last.
    pub fn due(&self) -> Option<Due> {
        let Self { path, file, head, anchored, .. } = self;
        (head.sequence != *anchored).then(|| Due {
            path: path.clone(),
            file: Arc::clone(file),
            head: head.clone(),
        })
    }

    /// Takes note of an anchor that was given.
    pub fn anchored(&mut self, anchor: &Anchor) {
        self.anchored = self.anchored.max(anchor.sequence);
    }
}

impl Due {
    /// The anchor, once all that it is of is on disk.
    ///
    /// # Errors
    ///
    /// [`AuditError::File`].
    pub fn flush(
        self,
        at_millis: u64,
        key: Option<&SigningKey>,
    ) -> Result<Anchor, AuditError> {
        let Self { path, file, head } = self;
        file.sync_data().map_err(|source| {
            let what = "flush";
            AuditError::File { what, path, source }
        })?;
        Ok(Anchor::new(&head, at_millis, key))
    }
}

/// The newest record, where the last whole line ends, and how many bytes stand behind it.
fn last(file: &File) -> io::Result<(Head, u64, u64)> {
    let (mut lines, mut whole) = (0, 0);
    let (mut newest, mut line) = (Vec::new(), Vec::new());
    let mut reader = BufReader::new(file);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if line.last() == Some(&b'\n') {
            lines += 1;
            whole += length;
            std::mem::swap(&mut newest, &mut line);
            continue;
        }
        // A line that somebody has damaged is found by whoever verifies; the chain goes on.
        let head = match parse(&newest) {
            Some((record, digest)) => Head { sequence: record.sequence, digest },
            None => Head { sequence: lines, digest: beginning() },
        };
        return Ok((head, whole, length));
    }
}

/// A line's record and digest.
pub(crate) fn parse(line: &[u8]) -> Option<(Record<'static>, Hex)> {
    let text = std::str::from_utf8(line).ok()?.trim_end();
    let (body, digest) = text.rsplit_once(DIGEST_FIELD)?;
    let digest = digest.strip_suffix("\"}")?;
    let record = serde_json::from_str(&format!("{body}}}")).ok()?;
    Some((record, digest.to_owned()))
}

/// A time as people write it.
pub(crate) fn written(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| format!("{millis} ms"), |time| format!("{time:.3}"))
}
