//! Cache: what `dovecot.index.cache` remembers of messages, so that one that is lost has a name.
//!
//! # Invariants
//!
//! * On any doubt about a message it says nothing of it.
//! * What is read for one message is bounded, whatever the file says.

use super::Index;
use super::log::offset;
use super::words::{array, long, size, word};

/// The format that caches have had since Dovecot 1.1; another one is not judged.
const MAJOR: u8 = 1;

/// Bytes of the head of the file, of a table of fields before its columns, and of a record.
const HEAD_BYTES: usize = 32;
const TABLE_BYTES: usize = 12;
const RECORD_BYTES: usize = 8;

/// Tables follow one another when fields are added; Dovecot writes the file anew after four.
const TABLES_MAX: usize = 64;

/// Header fields that clients ask for; Dovecot knows two dozen more.
const FIELDS_MAX: usize = 10_000;

/// Records of one message: one each time that a client asks for something new.
const RECORDS_MAX: usize = 256;

/// A line of a header is not longer (RFC 5322, 2.1.1), and a subject is there to be recognized.
const SUBJECT_BYTES_MAX: usize = 998;

/// The size of a field that says its size in each record.
const VARIABLE: u32 = u32::MAX;

/// A cache file.
pub(crate) struct Cache<'a> {
    bytes: &'a [u8],
    index_id: u32,
    sequence: u32,
    /// What each field is, and its size if it is always the same.
    fields: Vec<(Field, Option<usize>)>,
}

/// What the cache remembers of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cached {
    /// The subject as the message has it, on one line, perhaps cut.
    pub(crate) subject: Option<Vec<u8>>,
    /// When it was written, came, and was put into the folder, in seconds since 1970.
    pub(crate) sent: Option<u32>,
    pub(crate) received: Option<u32>,
    pub(crate) saved: Option<u32>,
    /// Bytes of the message, and if every line ended in CRLF.
    pub(crate) size: Option<u64>,
    pub(crate) virtual_size: Option<u64>,
    pub(crate) guid: Option<Vec<u8>>,
}

/// A field that is known here.
#[derive(Clone, Copy)]
enum Field {
    Subject,
    Envelope,
    Sent,
    Received,
    Saved,
    Size,
    VirtualSize,
    Parts,
    Guid,
    Other,
}

impl<'a> Cache<'a> {
    /// Nothing if it cannot be read.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head: [u8; HEAD_BYTES] = array(bytes, 0)?;
        if head.first() != Some(&MAJOR) {
            return None;
        }
        Some(Self {
            bytes,
            index_id: word(&head, 4)?,
            sequence: word(&head, 8)?,
            fields: fields(bytes, place(&head, 28)?)?,
        })
    }

    /// Whether the index's offsets are into this file.
    pub(crate) fn belongs_to(&self, index: &Index) -> bool {
        self.index_id == index.index_id && index.cache_sequence() == Some(self.sequence)
    }

    /// What is remembered of the message that an index has this offset for.
    pub(crate) fn fields(&self, offset: u32) -> Option<Cached> {
        let mut cached = Cached::default();
        let mut at = usize::try_from(offset).ok()?;
        for _ in 0..RECORDS_MAX {
            if at < HEAD_BYTES || !at.is_multiple_of(4) {
                return None;
            }
            let record_size = size(self.bytes, at + 4)?;
            let record = self.bytes.get(at..at.checked_add(record_size)?)?;
            self.read(record.get(RECORD_BYTES..)?, &mut cached)?;
            at = size(self.bytes, at)?;
            if at == 0 {
                return Some(cached);
            }
        }
        None
    }

    /// Reads one record; what is known already is newer.
    fn read(&self, mut record: &[u8], cached: &mut Cached) -> Option<()> {
        while !record.is_empty() {
            let (field, fixed) = *self.fields.get(size(record, 0)?)?;
            let (from, data_size) = match fixed {
                Some(fixed) => (4, fixed),
                None => (8, size(record, 4)?),
            };
            let data = record.get(from..data_size.checked_add(from)?)?;
            cached.learn(field, data);
            let next = (from + data_size).checked_next_multiple_of(4)?;
            record = record.get(next..)?;
        }
        Some(())
    }
}

impl Cached {
    fn learn(&mut self, field: Field, data: &[u8]) {
        let some = |number: Option<u32>| number.filter(|it| *it != 0);
        match field {
            Field::Subject => first(&mut self.subject, subject_of_header(data)),
            Field::Envelope => first(&mut self.subject, subject_of_envelope(data)),
            Field::Sent => first(&mut self.sent, some(word(data, 0))),
            Field::Received => first(&mut self.received, some(word(data, 0))),
            Field::Saved => first(&mut self.saved, some(word(data, 0))),
            Field::Size => first(&mut self.size, long(data, 0)),
            Field::VirtualSize => first(&mut self.virtual_size, long(data, 0)),
            Field::Parts => {
                let sum = |at| long(data, at)?.checked_add(long(data, at + 16)?);
                first(&mut self.size, sum(4));
                first(&mut self.virtual_size, sum(12));
            }
            Field::Guid => first(&mut self.guid, Some(data.to_vec())),
            Field::Other => {}
        }
    }
}

fn first<T>(known: &mut Option<T>, told: Option<T>) {
    if known.is_none() {
        *known = told;
    }
}

/// A place in the file, written as sizes in logs are.
fn place(bytes: &[u8], at: usize) -> Option<usize> {
    offset(array(bytes, at).map(u32::from_be_bytes)?)
}

/// The newest table of fields: where the next table is, sizes, then columns, and names.
fn fields(bytes: &[u8], mut at: usize) -> Option<Vec<(Field, Option<usize>)>> {
    let mut table: &[u8] = &[];
    for _ in 0..TABLES_MAX {
        if at == 0 {
            break;
        }
        table = bytes.get(at..at.checked_add(size(bytes, at + 4)?)?)?;
        // Nothing, if there is none.
        at = place(bytes, at).unwrap_or(0);
    }
    let count = size(table, 8).filter(|count| *count <= FIELDS_MAX)?;
    let sizes = table.get(TABLE_BYTES + 4 * count..)?;
    let names = table.get(TABLE_BYTES + (4 + 4 + 1 + 1) * count..)?;
    let names: Vec<&[u8]> = names.split(|byte| *byte == 0).take(count).collect();
    let sizes = sizes.chunks_exact(4).take(count);
    let fields = names.into_iter().zip(sizes).map(|(name, size)| {
        let size = word(size, 0).filter(|size| *size != VARIABLE);
        (Field::named(name), size.and_then(|size| usize::try_from(size).ok()))
    });
    let fields: Vec<_> = fields.collect();
    (fields.len() == count).then_some(fields)
}

impl Field {
    fn named(name: &[u8]) -> Self {
        match &*name.to_ascii_lowercase() {
            b"hdr.subject" => Self::Subject,
            b"imap.envelope" => Self::Envelope,
            b"date.sent" => Self::Sent,
            b"date.received" => Self::Received,
            b"date.save" => Self::Saved,
            b"size.physical" => Self::Size,
            b"size.virtual" => Self::VirtualSize,
            b"mime.parts" => Self::Parts,
            b"guid" => Self::Guid,
            _ => Self::Other,
        }
    }
}

/// Numbers of lines, zero, and the lines themselves.
fn subject_of_header(data: &[u8]) -> Option<Vec<u8>> {
    let lines = data.chunks_exact(4).position(|number| number == [0; 4])?;
    let text = data.get(4 * (lines + 1)..)?;
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some(on_one_line(text.get(colon + 1..)?))
}

/// The date and the subject come first, each quoted, counted, or absent.
fn subject_of_envelope(data: &[u8]) -> Option<Vec<u8>> {
    let (_, rest) = string(data)?;
    let (subject, _) = string(rest.strip_prefix(b" ")?)?;
    Some(on_one_line(&subject?))
}

/// One string of IMAP (RFC 3501, 4.3), nothing for `NIL`, and what follows.
fn string(text: &[u8]) -> Option<(Option<Vec<u8>>, &[u8])> {
    if let Some(rest) = text.strip_prefix(b"NIL") {
        return Some((None, rest));
    }
    if let Some(counted) = text.strip_prefix(b"{") {
        let end = counted.iter().position(|byte| *byte == b'}')?;
        let count = str::from_utf8(counted.get(..end)?).ok()?.parse::<usize>().ok()?;
        let rest = counted.get(end + 1..)?.strip_prefix(b"\r\n")?;
        let (text, rest) = rest.split_at_checked(count)?;
        return Some((Some(text.to_vec()), rest));
    }
    let mut rest = text.strip_prefix(b"\"")?;
    let mut out = Vec::new();
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        match byte {
            b'"' => return Some((Some(out), rest)),
            b'\\' => {
                let (byte, behind) = rest.split_first()?;
                out.push(*byte);
                rest = behind;
            }
            other => out.push(*other),
        }
    }
}

fn on_one_line(text: &[u8]) -> Vec<u8> {
    let line = text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0));
    let line: Vec<u8> = line.copied().take(SUBJECT_BYTES_MAX).collect();
    line.trim_ascii().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subject_is_read_from_a_header_or_an_envelope() {
        let header = [&3_u32.to_le_bytes()[..], &[0; 4], b"Subject: one\r\n two\r\n"];
        assert_eq!(subject_of_header(&header.concat()).unwrap(), b"one two");

        let subject = |text: &[u8]| subject_of_envelope(text);
        assert_eq!(subject(b"\"Mon\" \"a \\\"b\\\"\" ()").unwrap(), b"a \"b\"");
        assert_eq!(subject(b"NIL {3}\r\nx\xc3\xa9 NIL").unwrap(), b"x\xc3\xa9");
        assert_eq!(subject(b"\"Mon\" NIL ()"), None);
        assert_eq!(subject(b"\"Mon\" {99}\r\nshort"), None);
    }

    #[test]
    fn a_chain_of_records_that_never_ends_says_nothing() {
        let mut bytes = vec![0; 48];
        bytes[32..40].copy_from_slice(&[32, 0, 0, 0, 8, 0, 0, 0]);
        let cache = Cache { bytes: &bytes, index_id: 1, sequence: 1, fields: Vec::new() };

        assert_eq!(cache.fields(32), None);
        assert_eq!(cache.fields(33), None);
        assert_eq!(cache.fields(u32::MAX - 3), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>, offset: u32) {
            if let Some(cache) = Cache::parse(&bytes) {
                let _ = cache.fields(offset);
            }
        }
    }
}
