//! Log: one transaction log file as Dovecot writes it, `dovecot.index.log` or its predecessor.
//!
//! # Invariants
//!
//! * Records are read up to the first byte that does not fit; where that is, is told.
//! * A transaction counts as a whole: one whose end is missing has not begun.
//! * The highest modseq is counted as Dovecot counts it (`mail_transaction_update_modseq`).

use super::words::{array, long, word};

/// The format that logs have had since Dovecot 1.1; another one is not judged.
pub(super) const MAJOR: u8 = 1;

/// Since this version changes that no client sees do not raise the modseq.
pub(super) const MINOR: u8 = 3;

/// Bytes of a log's head in its first version, and with all that it has had since.
const HEAD_BYTES_MIN: usize = 24;
pub(super) const HEAD_BYTES: usize = 40;

/// Bytes of a record's head.
pub(super) const RECORD_HEAD_BYTES: usize = 8;

/// Kinds of records; those that delete have bits more, so that none is taken for one by accident.
pub(super) const EXPUNGE: u32 = 0x1 | 0xcd90;
pub(super) const APPEND: u32 = 0x2;
pub(super) const FLAG_UPDATE: u32 = 0x4;
pub(super) const HEADER_UPDATE: u32 = 0x20;
pub(super) const EXT_INTRO: u32 = 0x40;
pub(super) const EXT_RESET: u32 = 0x80;
pub(super) const EXT_HEADER_UPDATE: u32 = 0x100;
pub(super) const EXT_RECORD_UPDATE: u32 = 0x200;
pub(super) const KEYWORD_UPDATE: u32 = 0x400;
pub(super) const KEYWORD_RESET: u32 = 0x800;
pub(super) const EXT_ATOMIC_INC: u32 = 0x1000;
pub(super) const EXPUNGE_GUID: u32 = 0x2000 | 0xcd90;
pub(super) const MODSEQ_UPDATE: u32 = 0x8000;
pub(super) const EXT_HEADER_UPDATE_LONG: u32 = 0x1_0000;
pub(super) const BOUNDARY: u32 = 0x8_0000;
pub(super) const ATTRIBUTE_UPDATE: u32 = 0x10_0000;
/// It has happened; otherwise somebody wishes it.
pub(super) const EXTERNAL: u32 = 0x1000_0000;
pub(super) const KIND_MASK: u32 = 0x0fff_ffff;

/// The flags that clients see; the others are Dovecot's own.
pub(super) const CLIENT_FLAGS: u8 = 0x1f;

/// One log file.
pub(super) struct Log<'a> {
    pub(super) head: LogHead,
    pub(super) records: Vec<LogRecord<'a>>,
    /// Where the last record ends that can be read.
    pub(super) end: usize,
    /// Nothing follows that cannot be read.
    pub(super) is_sound: bool,
}

/// What a log says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogHead {
    pub(super) major: u8,
    pub(super) minor: u8,
    pub(super) size: usize,
    pub(super) index_id: u32,
    pub(super) sequence: u32,
    /// The log that this one continues, or zero.
    pub(super) previous: u32,
    /// Where that one ended.
    pub(super) previous_end: usize,
    /// The modseq with which it begins; zero in very old logs.
    pub(super) initial_modseq: u64,
}

/// One record of a log.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogRecord<'a> {
    /// Where it begins.
    pub(super) at: usize,
    /// With [`EXTERNAL`] and other marks.
    pub(super) kind: u32,
    pub(super) body: &'a [u8],
}

impl<'a> Log<'a> {
    /// Nothing if not even its head can be read, or Dovecot has marked it as corrupted.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head = LogHead::parse(bytes)?;
        let mut log = Self { head, records: Vec::new(), end: head.size, is_sound: false };
        // A log of another format says only so much.
        if head.major != MAJOR {
            return Some(log);
        }
        let mut at = head.size;
        // The end of the transaction that has begun, and the records before it.
        let mut open: Option<(usize, usize)> = None;
        while let Some(record) = LogRecord::read(bytes, at) {
            if record.kind & KIND_MASK == BOUNDARY {
                let size =
                    word(record.body, 0).and_then(|size| usize::try_from(size).ok());
                let end = size.and_then(|size| at.checked_add(size));
                let Some(end) = end.filter(|end| *end <= bytes.len()) else { break };
                open = Some((end, log.records.len()));
            }
            at = record.end();
            log.records.push(record);
            if open.is_none_or(|(end, _)| at >= end) {
                open = None;
                log.end = at;
            }
        }
        if let Some((_, count)) = open {
            log.records.truncate(count);
        }
        log.is_sound = log.end == bytes.len();
        Some(log)
    }

    /// The modseq after the last record.
    pub(super) fn highest_modseq(&self) -> u64 {
        let mut modseq = self.head.initial_modseq;
        for record in &self.records {
            record.raise(&mut modseq, self.head.minor);
        }
        modseq
    }
}

impl LogHead {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let size = usize::from(u16::from_le_bytes(array(bytes, 2)?));
        // Dovecot marks a log as corrupted by taking its number away.
        let index_id = word(bytes, 4).filter(|id| *id != 0)?;
        if size < HEAD_BYTES_MIN || bytes.len() < size {
            return None;
        }
        let modseq = if size >= HEAD_BYTES_MIN + 8 { long(bytes, 24)? } else { 0 };
        Some(Self {
            major: *bytes.first()?,
            minor: *bytes.get(1)?,
            size,
            index_id,
            sequence: word(bytes, 8)?,
            previous: word(bytes, 12)?,
            previous_end: usize::try_from(word(bytes, 16)?).ok()?,
            initial_modseq: modseq,
        })
    }
}

impl<'a> LogRecord<'a> {
    fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        let size = offset(u32::from_be_bytes(array(bytes, at)?))?;
        let record = bytes.get(at..at.checked_add(size)?)?;
        let body = record.get(RECORD_HEAD_BYTES..)?;
        Some(Self { at, kind: word(record, 4)?, body })
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> usize {
        self.at + RECORD_HEAD_BYTES + self.body.len()
    }

    /// Whether it is a change that has happened.
    pub(super) fn is_external(&self) -> bool {
        self.kind & EXTERNAL != 0
    }

    fn raise(&self, modseq: &mut u64, minor: u8) {
        let kind = self.kind & KIND_MASK;
        if *modseq == 0 {
            // Counting begins with the first word of it.
            let starts = kind == EXT_INTRO && self.body.get(20..26) == Some(b"modseq");
            *modseq = u64::from(starts);
            return;
        }
        let counts = match kind {
            EXPUNGE | EXPUNGE_GUID => self.is_external(),
            APPEND | KEYWORD_UPDATE | KEYWORD_RESET | ATTRIBUTE_UPDATE => true,
            FLAG_UPDATE => minor < MINOR || self.body.chunks_exact(12).any(is_seen),
            MODSEQ_UPDATE => {
                let given = self.body.chunks_exact(12).filter_map(|it| long(it, 4));
                *modseq = given.fold(*modseq, u64::max);
                false
            }
            _ => false,
        };
        *modseq = modseq.saturating_add(u64::from(counts));
    }
}

/// Whether clients see this change of flags.
fn is_seen(update: &[u8]) -> bool {
    let byte = |at: usize| update.get(at).copied().unwrap_or_default();
    (byte(8) | byte(9)) & CLIENT_FLAGS != 0 || byte(10) != 0
}

/// Sizes and offsets are written in words, seven bits to a byte, each byte marked.
pub(super) fn offset(written: u32) -> Option<usize> {
    if written & 0x8080_8080 != 0x8080_8080 {
        return None;
    }
    let bytes = written.to_be_bytes().map(|byte| u32::from(byte & 0x7f));
    let words = bytes.into_iter().fold(0, |size, byte| size << 7 | byte);
    usize::try_from(words << 2).ok()
}
