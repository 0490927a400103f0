//! Head: what a message's header tells of whose it is and whether it is one.
//!
//! # Invariants
//!
//! * A header is kept up to a limit, however large the message.

use std::borrow::Cow;

use memchr::memchr;

use crate::digest::{Digest, Digester};

/// Longer headers are judged by their beginning: lists of some thousand recipients fit.
pub(super) const HEADER_BYTES_MAX: usize = 256 * 1024;

/// Bytes looked at together; nearly all headers are in one or two.
const STEP_BYTES: usize = 4096;

/// Bytes of the first line that must look like text.
const HEAD_BYTES: usize = 64;

/// A header on its way in.
#[derive(Debug, Default)]
pub(super) struct Header<'a> {
    /// All of it with its line ends, without the empty line.
    pub(super) bytes: Cow<'a, [u8]>,
    /// Its empty line was seen.
    pub(super) ended: bool,
    /// Where the line that is coming in begins.
    line: usize,
}

impl<'a> Header<'a> {
    /// The header of a message that is all at hand, and what follows it.
    pub(super) fn of(mail: &'a [u8]) -> (Self, &'a [u8]) {
        let kept = mail.get(..HEADER_BYTES_MAX).unwrap_or(mail);
        let mut header = Self { bytes: Cow::Borrowed(kept), ..Self::default() };
        let end = header.find_end();
        if end.is_some() {
            header.bytes = Cow::Borrowed(kept.get(..header.line).unwrap_or_default());
            header.ended = true;
        }
        (header, mail.get(end.unwrap_or(kept.len())..).unwrap_or_default())
    }

    /// Nothing more belongs to it, or nothing more is kept.
    pub(super) fn is_done(&self) -> bool {
        self.ended || self.bytes.len() >= HEADER_BYTES_MAX
    }

    /// Takes in the next bytes as far as they belong to it; what follows it.
    pub(super) fn add<'b>(&mut self, chunk: &'b [u8]) -> &'b [u8] {
        let mut rest = chunk;
        while !rest.is_empty() && !self.is_done() {
            let before = self.bytes.len();
            let length = rest.len().min(STEP_BYTES).min(HEADER_BYTES_MAX - before);
            let (step, more) = rest.split_at(length);
            self.bytes.to_mut().extend_from_slice(step);
            rest = more;
            if let Some(end) = self.find_end() {
                let body = end.saturating_sub(before);
                rest = chunk
                    .get(chunk.len() - rest.len() - length + body..)
                    .unwrap_or_default();
                self.bytes.to_mut().truncate(self.line);
                self.ended = true;
            }
        }
        rest
    }

    /// Looks at the lines that are whole now; where the body begins.
    fn find_end(&mut self) -> Option<usize> {
        loop {
            let rest = self.bytes.get(self.line..)?;
            let length = memchr(b'\n', rest)?;
            let line = rest.get(..length)?;
            if line.is_empty() || line == b"\r" {
                return Some(self.line + length + 1);
            }
            self.line += length + 1;
        }
    }
}

/// What a header shows.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Does not begin like text.
    pub(super) binary: bool,
    /// Whom it was delivered to last, if to nobody who looks like the owner.
    pub(super) stranger: Option<Box<[u8]>>,
    /// Whether it was delivered to the owner, as far as it says so.
    pub(super) ours: Option<bool>,
    /// Of all of it, if it was delivered to a stranger.
    pub(super) digest: Option<Digest>,
    /// Begins with a field.
    pub(super) begins: bool,
    /// Ends with an empty line.
    pub(super) ends: bool,
}

impl Head {
    /// Whose mail it is tells nothing where the owner is not known: an empty `owner`.
    pub(super) fn read(header: &Header<'_>, owner: &str) -> Self {
        let mut head = Self { ends: header.ended, ..Self::default() };
        let (owner, mut ours) = (Person::of(owner.as_bytes()), false);
        let mut last = None;
        for (index, line) in lines(&header.bytes).enumerate() {
            if index == 0 {
                head.begins = is_field(line) || is_mbox_line(line);
                head.binary = line.iter().take(HEAD_BYTES).copied().any(is_binary);
            }
            let recipient = value_of(line, b"delivered-to:");
            if let Some(address) = recipient.filter(|_| !owner.is_nobody()) {
                let recipient = Person::of(address);
                ours |= recipient.is(owner);
                last.get_or_insert(recipient);
            }
        }
        head.ours = last.map(|_| ours);
        head.stranger = last.filter(|_| !ours).map(Person::to_bytes);
        head.digest = head.stranger.as_ref().map(|_| {
            let mut hasher = Digester::default();
            lines(&header.bytes).for_each(|line| hasher.update(line));
            hasher.finish()
        });
        head
    }
}

/// The fields of a header: name, and value with the ends of its lines.
pub(super) fn fields(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = header;
    let field = move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            let line = rest.get(end..).unwrap_or_default();
            end += memchr(b'\n', line).map_or(line.len(), |at| at + 1);
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, more) = rest.split_at_checked(end)?;
        rest = more;
        Some(field)
    };
    std::iter::from_fn(field).filter_map(|field| {
        let (name, value) = field.split_at_checked(memchr(b':', field)?)?;
        Some((name.trim_ascii_end(), value.get(1..)?))
    })
}

/// The lines of a header without their ends.
pub(super) fn lines(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, more) = match memchr(b'\n', rest) {
            Some(at) => (rest.get(..at)?, rest.get(at + 1..)?),
            None => (rest, &b""[..]),
        };
        rest = more;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

fn is_binary(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\r' | 0x1b | 0x0c)
}

pub(super) fn is_field(line: &[u8]) -> bool {
    line.iter()
        .position(|byte| *byte == b':')
        .and_then(|colon| line.get(..colon))
        .is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
}

fn is_mbox_line(line: &[u8]) -> bool {
    line.starts_with(b"From ") || line.starts_with(b">From ")
}

fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let (name, value) = line.split_at_checked(field.len())?;
    name.eq_ignore_ascii_case(field).then(|| value.trim_ascii())
}

/// An address as it names a person: without brackets, case and `+detail`.
#[derive(Debug, Clone, Copy)]
struct Person<'a> {
    local: &'a [u8],
    /// With its `@`.
    domain: &'a [u8],
}

impl<'a> Person<'a> {
    fn of(address: &'a [u8]) -> Self {
        let address = address.strip_prefix(b"<").unwrap_or(address);
        let address = address.strip_suffix(b">").unwrap_or(address);
        let at = address.iter().rposition(|byte| *byte == b'@').unwrap_or(address.len());
        let (local, domain) = address.split_at(at);
        let local = local.split(|byte| *byte == b'+').next().unwrap_or(local);
        Self { local, domain }
    }

    fn is_nobody(self) -> bool {
        self.local.is_empty() && self.domain.is_empty()
    }

    fn is(self, other: Self) -> bool {
        self.local.eq_ignore_ascii_case(other.local)
            && self.domain.eq_ignore_ascii_case(other.domain)
    }

    fn to_bytes(self) -> Box<[u8]> {
        [self.local, self.domain].concat().to_ascii_lowercase().into_boxed_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_at_its_first_empty_line_however_it_comes_in() {
        let check = |mail: &[u8], header: &[u8], body: &[u8]| {
            for size in 1..=mail.len() {
                let (mut kept, mut rest) = (Header::default(), Vec::new());
                mail.chunks(size)
                    .for_each(|chunk| rest.extend_from_slice(kept.add(chunk)));
                assert_eq!((&*kept.bytes, &*rest), (header, body), "pieces of {size}");
            }
            let (whole, rest) = Header::of(mail);
            assert_eq!((&*whole.bytes, rest), (header, body));
        };

        check(b"a: b\n\nbody\n\n", b"a: b\n", b"body\n\n");
        check(b"a: b\r\nc: d\r\n\r\nbody", b"a: b\r\nc: d\r\n", b"body");
        check(b"\nbody", b"", b"body");
        check(b"a: b\nc", b"a: b\nc", b"");
    }

    #[test]
    fn fields_are_names_and_values_over_several_lines() {
        let header = b"A: b\n c\r\n\td\nno field\n E :f";

        let found: Vec<(&[u8], &[u8])> = fields(header).collect();

        assert_eq!(
            found,
            [(&b"A"[..], &b" b\n c\r\n\td\n"[..]), (b"no field\n E", b"f")]
        );
    }

    #[test]
    fn a_header_without_end_is_kept_up_to_the_limit() {
        let mut header = Header::default();

        for _ in 0..100 {
            header.add(&[b'x'; 10_000]);
        }

        assert_eq!(header.bytes.len(), HEADER_BYTES_MAX);
        assert!(!header.ended && header.is_done());
    }
}
