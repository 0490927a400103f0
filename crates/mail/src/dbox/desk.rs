//! Desk: reading messages out of dbox files, and staging files made of pieces.
//!
//! # Invariants
//!
//! * A message is judged as a Maildir's is: what its head and trailer promise is what a name promises.
//! * A staged file is read again, and holds the messages that were decided on.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::dbox::file::{Damage, Damaged, Guid, Message, Region, Scanner};
use crate::digest::Digest;
use crate::judge::{BUFFER_BYTES, Depth, Findings, fill, judge};
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::{Act, Like, Side, dress};
use crate::stage::{Bench, Phase};
use crate::walk::{Meta, escape};

/// Zeros at the beginning of damage that tell of a lost block rather than of strange bytes.
const ZEROS_MIN: u64 = 4;

/// Zeros that are counted; holes can be larger than anybody can read.
const ZEROS_MAX: u64 = 64 * 1024 * 1024;

/// A bench, and what reading from it needs.
pub(crate) struct Desk<'b, 'a> {
    pub(crate) bench: &'b mut Bench<'a>,
    buffer: Vec<u8>,
}

/// A message in a file of its own.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) guid: Option<Guid>,
    /// Seconds since 1970.
    pub(crate) received: Option<u32>,
    /// Bytes of the message, as stored.
    pub(crate) size: u64,
    pub(crate) findings: Findings,
}

/// A piece of a file that is to be staged.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// Bytes made here.
    Bytes(Vec<u8>),
    /// Bytes of a file in the mailbox.
    Part { side: Side, rel: Vec<u8>, range: Range<u64> },
}

impl<'b, 'a> Desk<'b, 'a> {
    pub(crate) fn new(bench: &'b mut Bench<'a>) -> Self {
        Self { bench, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Reads a file that holds one message.
    pub(crate) fn read_single(
        &mut self,
        (side, rel): (Side, &[u8]),
        meta: &Meta,
        depth: Depth,
    ) -> Result<Mail, Refusal> {
        let limit = self.bench.roots().file_size_max;
        if meta.size > limit {
            return Ok(Mail::bad(Reason::TooLarge { found: meta.size, limit }));
        }
        let file = match self.bench.open_mail((side, rel)) {
            Err(Refusal::Unreadable { .. }) => return Ok(Mail::bad(Reason::Unreadable)),
            result => result?,
        };
        self.bench.bytes_read += meta.size;
        let owner = self.bench.owner();
        match examine(&file, meta.size, (owner, depth), &mut self.buffer) {
            Ok(Examined::Mail(mail)) => Ok(*mail),
            Ok(Examined::Unsupported(what)) => {
                Err(Refusal::Unsupported { path: escape(&self.bench.path(rel)), what })
            }
            Err(_) => Ok(Mail::bad(Reason::Unreadable)),
        }
    }

    /// Reads the body of one message of an open file.
    pub(crate) fn read_body(
        &mut self,
        file: &File,
        message: &Message,
        depth: Depth,
    ) -> Result<Findings, &'static str> {
        self.bench.bytes_read += message.size;
        let owner = self.bench.owner();
        let judged = judge_body(file, message, (owner, depth), &mut self.buffer);
        let findings = judged.unwrap_or_else(|_| Findings::unread(Reason::Unreadable));
        supported(message, &findings).map(|()| findings)
    }

    /// Stages a copy of a file that holds one message, which must have the digest.
    pub(crate) fn stage_single(
        &mut self,
        (side, rel): (Side, &[u8]),
        (meta, digest): (&Meta, Option<Digest>),
        like: Like,
    ) -> Result<PathBuf, Refusal> {
        let part = Piece::Part { side, rel: rel.to_vec(), range: 0..meta.size };
        let staged = self.stage_pieces(&[part], like)?;
        let owner = self.bench.owner();
        let check = |path: &Path, buffer: &mut [u8]| {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            examine(&file, length, (owner, Depth::Quick), buffer)
        };
        match check(&staged, &mut self.buffer) {
            Ok(Examined::Mail(mail)) if mail.findings.digest == digest => Ok(staged),
            Ok(_) => Err(Refusal::Changed { path: escape(&self.bench.path(rel)) }),
            Err(error) => Err(Refusal::write(&self.bench.path(rel), error)),
        }
    }

    /// Stages a file made of pieces.
    pub(crate) fn stage_pieces(
        &mut self,
        pieces: &[Piece],
        like: Like,
    ) -> Result<PathBuf, Refusal> {
        let staged = self.bench.next_staged();
        let made = self.bench.roots().create(&staged, None);
        let mut to = made.map_err(|error| Refusal::write(b"staging", error))?;
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => to.write_all(bytes),
                Piece::Part { side, rel, range } => {
                    let from = self.bench.open_mail((*side, rel))?;
                    copy(&from, range, &mut to, &mut self.buffer)
                }
            }
            .map_err(|error| Refusal::write(b"staging", error))?;
        }
        dress(&to, like).map_err(|error| Refusal::write(b"staging", error))?;
        Ok(staged)
    }

    /// Puts staged bytes among those that are not served, at once; where, below the work directory.
    pub(crate) fn keep(
        &mut self,
        staged: &Path,
        (label, name): (&[u8], &str),
    ) -> Result<String, Refusal> {
        let to = self.bench.dir_in("quarantine", label)?.join(name);
        let roots = self.bench.roots();
        roots
            .record(staged, &to)
            .map_err(|error| Refusal::write(b"quarantine", error))?;
        let below = to.strip_prefix(&roots.work).unwrap_or(&to);
        Ok(escape(below.as_os_str().as_bytes()))
    }

    /// Plans staged bytes under a live name; what stands there is kept first.
    pub(crate) fn put(
        &mut self,
        phase: Phase,
        (label, rel): (&[u8], &[u8]),
        live: Option<&Meta>,
        staged: PathBuf,
    ) -> Result<(), Refusal> {
        if let Some(meta) = live {
            return self.bench.replace(phase, (label, rel), meta, staged);
        }
        let at = rel.iter().rposition(|byte| *byte == b'/');
        let (dir, name) = match at {
            Some(at) => rel.split_at(at),
            None => (&b""[..], rel),
        };
        let name = name.strip_prefix(b"/").unwrap_or(name).to_vec();
        let dir = self.bench.path(dir);
        self.bench.act(phase, Act::Put { staged, dir, name, replaces: None });
        Ok(())
    }
}

impl Mail {
    fn bad(reason: Reason) -> Self {
        let findings = Findings::unread(reason);
        Self { guid: None, received: None, size: 0, findings }
    }

    /// What is around the message is damaged: whatever its bytes are, the file is not good.
    fn has_fault(&mut self, fault: Reason) {
        self.findings.faults.insert(0, fault);
        (self.findings.digest, self.findings.raw) = (None, None);
    }
}

/// Why a piece of a file is no message.
pub(crate) fn reason(file: &File, damaged: &Damaged) -> Reason {
    let at = match damaged.damage {
        Damage::Cut { expected, found } => return Reason::Truncated { expected, found },
        Damage::FileHead | Damage::Head => damaged.start,
        Damage::Trailer { size } => damaged.start + MESSAGE_HEAD + size,
    };
    let length = zeros(file, at..damaged.end).unwrap_or(0);
    match damaged.damage {
        _ if length >= ZEROS_MIN => Reason::NulRun { offset: at, length },
        Damage::Trailer { size } if damaged.end <= at + TRAILER_MIN => {
            Reason::Truncated { expected: size + TRAILER_MIN, found: size }
        }
        Damage::FileHead | Damage::Head | Damage::Trailer { .. } | Damage::Cut { .. } => {
            Reason::NoHeader
        }
    }
}

/// Bytes of a message's head.
const MESSAGE_HEAD: u64 = 30;

/// A trailer is not shorter than its first line and its last.
const TRAILER_MIN: u64 = 5;

/// Reads the message of a file, or the one that begins at a place of it.
pub(crate) fn examine_at(
    file: &File,
    (start, length): (Option<u64>, u64),
    owner: &str,
) -> io::Result<Mail> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let Some(start) = start else {
        return match examine(file, length, (owner, Depth::Quick), &mut buffer)? {
            Examined::Mail(mail) => Ok(*mail),
            Examined::Unsupported(what) => Err(io::Error::other(what)),
        };
    };
    match Scanner::open(file, length)?.at(start)? {
        Ok(message) => {
            let findings =
                judge_body(file, &message, (owner, Depth::Quick), &mut buffer)?;
            let (guid, received) = (message.trailer.guid, message.trailer.received);
            Ok(Mail { guid, received, size: message.size, findings })
        }
        Err(_) => Ok(Mail::bad(Reason::NoHeader)),
    }
}

enum Examined {
    Mail(Box<Mail>),
    Unsupported(&'static str),
}

fn examine(
    file: &File,
    length: u64,
    (owner, depth): (&str, Depth),
    buffer: &mut [u8],
) -> io::Result<Examined> {
    let mut scanner = Scanner::open(file, length)?;
    let message = match scanner.next()? {
        None => return Ok(Examined::Mail(Box::new(Mail::bad(Reason::Empty)))),
        Some(Region::Damaged(damaged)) => {
            let mut mail = Mail::bad(reason(file, &damaged));
            if let Some(Region::Message(message)) = scanner.next()? {
                mail.guid = message.trailer.guid;
                mail.received = message.trailer.received;
            }
            return Ok(Examined::Mail(Box::new(mail)));
        }
        Some(Region::Message(message)) => message,
    };
    let findings = judge_body(file, &message, (owner, depth), buffer)?;
    if let Err(what) = supported(&message, &findings) {
        return Ok(Examined::Unsupported(what));
    }
    let (guid, received) = (message.trailer.guid, message.trailer.received);
    let mut mail = Mail { guid, received, size: message.size, findings };
    if message.end != length {
        mail.has_fault(Reason::TooLong { expected: message.end, found: length });
    }
    Ok(Examined::Mail(Box::new(mail)))
}

fn judge_body(
    mut file: &File,
    message: &Message,
    (owner, depth): (&str, Depth),
    buffer: &mut [u8],
) -> io::Result<Findings> {
    file.seek(SeekFrom::Start(message.body))?;
    let mut body = file.take(message.size);
    let mut findings = judge(&mut body, message.promise(), owner, depth, buffer)?;
    if message.trailer.guid.is_none() {
        findings.faults.push(Reason::NoHeader);
    }
    Ok(findings)
}

/// What cannot be judged must not be called damaged.
fn supported(message: &Message, findings: &Findings) -> Result<(), &'static str> {
    if message.trailer.external {
        return Err("mail with attachments in other files");
    }
    if findings.is_unsupported() {
        return Err("encrypted mail, or mail compressed in an unknown way,");
    }
    Ok(())
}

/// Zeros at the beginning of a range.
fn zeros(mut file: &File, range: Range<u64>) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut count = 0;
    file.seek(SeekFrom::Start(range.start))?;
    let mut rest = file.take(range.end.saturating_sub(range.start));
    loop {
        let filled = fill(&mut rest, &mut buffer)?;
        let bytes = buffer.get(..filled).unwrap_or_default();
        let run = bytes.iter().take_while(|byte| **byte == 0).count();
        count += run as u64;
        if run < BUFFER_BYTES || count >= ZEROS_MAX {
            return Ok(count);
        }
    }
}

fn copy(
    mut from: &File,
    range: &Range<u64>,
    to: &mut File,
    buffer: &mut [u8],
) -> io::Result<()> {
    from.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end.saturating_sub(range.start);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..most).unwrap_or_default();
        let filled = fill(&mut from, chunk)?;
        if filled == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(chunk.get(..filled).unwrap_or_default())?;
        left = left.saturating_sub(filled as u64);
    }
    Ok(())
}
