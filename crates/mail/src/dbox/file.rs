//! Dbox file: the chain of messages in `u.N` and `m.N`.
//!
//! ```text
//! 2 M1e C6b020319\n              version, bytes of a message's head, time of creation (hexadecimal)
//! \x01\x02N          0000000000000D18\n    head of a message: bytes of its body
//! <body>
//! \n\x01\x03\n                   trailer: one letter and a value to a line
//! R6b020319\nVd4f\nG5125593b1903026b7e50000083ecc375\nBINBOX\n
//! \n
//! ```
//!
//! # Invariants
//!
//! * Regions follow one another without a gap from the file's head to its exact end, whatever is in it.
//! * A message is only what has a head, a body of the promised length and a trailer that ends.
//! * Bodies are not read here; memory does not grow with them.
//! * A search reads a small multiple of the file, whatever is in it.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};

use crate::judge::{Promise, fill};

/// A message's GUID: the same in every copy of it.
pub(crate) type Guid = [u8; 16];

/// The first line that Dovecot writes is 16 bytes long; a longer one than this is none.
const HEAD_LINE_BYTES_MAX: usize = 64;

/// Bytes of a message's head, as all versions of Dovecot write it.
const MESSAGE_HEAD_BYTES: usize = 30;

/// Where a message's head has the size of its body.
const SIZE_DIGITS: std::ops::Range<usize> = 13..29;

const MAGIC: &[u8] = b"\x01\x02N";
const TRAILER_MAGIC: &[u8] = b"\n\x01\x03\n";

/// Trailers are a few lines; one that goes on for longer than this never ends.
const TRAILER_BYTES_MAX: usize = 64 * 1024;

/// What is read for a trailer at first: those without external attachments fit.
const TRAILER_BYTES: usize = 512;

/// How much more is read each time that it is not enough.
const TRAILER_GROWTH: usize = 8;

/// How far behind damage the next message is looked for. Storage loses blocks, not as much as this;
/// a file with a longer hole has no end worth waiting for.
const SEARCH_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What is searched for the next message at once.
pub(crate) const WINDOW_BYTES: usize = 256 * 1024;

/// The first line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the line.
    pub(crate) size: u64,
    /// Seconds since 1970, when the file was made.
    pub(crate) created: u32,
}

/// One piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Region {
    /// A message whose frame is whole.
    Message(Message),
    /// Bytes that are no message.
    Damaged(Damaged),
}

/// A message in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Where its head begins.
    pub(crate) start: u64,
    /// Where its body begins.
    pub(crate) body: u64,
    /// Bytes of its body, as stored.
    pub(crate) size: u64,
    /// Where its trailer ends.
    pub(crate) end: u64,
    /// What Dovecot noted about it.
    pub(crate) trailer: Trailer,
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) damage: Damage,
}

/// What is wrong where a message should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The file's first line.
    FileHead,
    /// No head of a message.
    Head,
    /// The file ends inside the body.
    Cut {
        /// Bytes of the body that its head promises.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// No trailer behind the body, or one that does not end.
    Trailer {
        /// Bytes of the body before it.
        size: u64,
    },
}

/// What Dovecot noted about a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) guid: Option<Guid>,
    /// Bytes with every line ending in CRLF.
    pub(crate) virtual_size: Option<u64>,
    /// Bytes of the plain message, if it is compressed.
    pub(crate) plain_size: Option<u64>,
    /// Seconds since 1970.
    pub(crate) received: Option<u32>,
    /// The folder that it was delivered to (multi-dbox only).
    pub(crate) folder: Option<Box<[u8]>>,
    /// Parts of it are in other files.
    pub(crate) external: bool,
}

impl Message {
    /// What head and trailer promise of the message.
    pub(crate) fn promise(&self) -> Promise {
        let size = Some(self.trailer.plain_size.unwrap_or(self.size));
        Promise { size, virtual_size: self.trailer.virtual_size }
    }
}

/// Reads a file region by region.
#[derive(Debug)]
pub(crate) struct Scanner<R> {
    source: R,
    length: u64,
    at: u64,
    head: Option<Head>,
    /// The region before this one was damaged, and the search for this one has read it.
    found: Option<Message>,
    /// Where long trailers begin that are none: heads in the body of one message, which anybody can
    /// send, may all point there. They do not overlap, so that there are few beside what is in the file.
    endless: HashSet<u64>,
}

impl<R: Read + Seek> Scanner<R> {
    /// Begins at the head of a file of `length` bytes.
    pub(crate) fn open(source: R, length: u64) -> io::Result<Self> {
        let (head, found, endless) = (None, None, HashSet::new());
        let mut scanner = Self { source, length, at: 0, head, found, endless };
        let mut line = [0; HEAD_LINE_BYTES_MAX];
        let filled = scanner.read_at(0, &mut line)?;
        scanner.head = parse_head(line.get(..filled).unwrap_or_default());
        scanner.at = scanner.head.map_or(0, |head| head.size);
        Ok(scanner)
    }

    /// The file's first line, if it is whole.
    pub(crate) fn head(&self) -> Option<Head> {
        self.head
    }

    /// The next region; nothing at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Region>> {
        if let Some(message) = self.found.take() {
            self.at = message.end;
            return Ok(Some(Region::Message(message)));
        }
        if self.at >= self.length {
            return Ok(None);
        }
        let damage = if self.at == 0 {
            Damage::FileHead
        } else {
            match self.message_at(self.at)? {
                Ok(message) => {
                    self.at = message.end;
                    return Ok(Some(Region::Message(message)));
                }
                Err(damage) => damage,
            }
        };
        let start = self.at;
        self.found = self.search(start + 1)?;
        let end = self.found.as_ref().map_or(self.length, |message| message.start);
        self.at = end;
        Ok(Some(Region::Damaged(Damaged { start, end, damage })))
    }

    /// The message that begins at a place.
    pub(crate) fn at(&mut self, start: u64) -> io::Result<Result<Message, Damage>> {
        self.message_at(start)
    }

    /// The first message that begins at `from` or later.
    fn search(&mut self, mut from: u64) -> io::Result<Option<Message>> {
        let mut window = vec![0; WINDOW_BYTES];
        let to = from.saturating_add(SEARCH_BYTES_MAX);
        while from < to {
            let filled = self.read_at(from, &mut window)?;
            let bytes = window.get(..filled).unwrap_or_default();
            let places: Vec<usize> = memchr::memmem::find_iter(bytes, MAGIC).collect();
            for place in places {
                if let Ok(message) = self.message_at(from + place as u64)? {
                    return Ok(Some(message));
                }
            }
            if filled < WINDOW_BYTES {
                return Ok(None);
            }
            from += (WINDOW_BYTES - MAGIC.len() + 1) as u64;
        }
        Ok(None)
    }

    fn message_at(&mut self, start: u64) -> io::Result<Result<Message, Damage>> {
        let mut head = [0; MESSAGE_HEAD_BYTES];
        let filled = self.read_at(start, &mut head)?;
        let Some(size) = parse_message_head(head.get(..filled).unwrap_or_default())
        else {
            return Ok(Err(Damage::Head));
        };
        let body = start + MESSAGE_HEAD_BYTES as u64;
        let rest = self.length.saturating_sub(body);
        if size > rest {
            return Ok(Err(Damage::Cut { expected: size, found: rest }));
        }
        Ok(match self.trailer_at(body + size)? {
            Some((trailer, end)) => Ok(Message { start, body, size, end, trailer }),
            None => Err(Damage::Trailer { size }),
        })
    }

    /// A trailer, and where it ends.
    fn trailer_at(&mut self, at: u64) -> io::Result<Option<(Trailer, u64)>> {
        if self.endless.contains(&at) {
            return Ok(None);
        }
        let mut bytes = vec![0; TRAILER_BYTES];
        loop {
            let filled = self.read_at(at, &mut bytes)?;
            match parse_trailer(bytes.get(..filled).unwrap_or_default()) {
                Ok((trailer, length)) => return Ok(Some((trailer, at + length as u64))),
                Err(Flaw::Open)
                    if filled == bytes.len() && filled < TRAILER_BYTES_MAX =>
                {
                    let more = (filled * TRAILER_GROWTH).min(TRAILER_BYTES_MAX);
                    bytes.resize(more, 0);
                }
                Err(Flaw::Open | Flaw::Odd) => break,
            }
        }
        if bytes.len() > TRAILER_BYTES {
            self.endless.insert(at);
        }
        Ok(None)
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.length.saturating_sub(at);
        let most = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
        self.source.seek(SeekFrom::Start(at))?;
        fill(&mut self.source, buffer.get_mut(..most).unwrap_or_default())
    }
}

/// `2 M<hexadecimal> C<hexadecimal>`; other version numbers and sizes are not known.
fn parse_head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let rest = bytes.get(..end)?.strip_prefix(b"2 M")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let (size, created) = rest.split_at_checked(space)?;
    let created = created.strip_prefix(b" C")?;
    // Later versions may say more behind it.
    let created = created.split(|byte| *byte == b' ').next()?;
    (hex(size)? == MESSAGE_HEAD_BYTES as u64).then_some(())?;
    let created = u32::try_from(hex(created)?).ok()?;
    Some(Head { size: end as u64 + 1, created })
}

/// The size of the body.
fn parse_message_head(head: &[u8]) -> Option<u64> {
    let framed = head.starts_with(MAGIC) && head.get(SIZE_DIGITS.end) == Some(&b'\n');
    hex(head.get(SIZE_DIGITS).filter(|_| framed)?)
}

/// Why bytes are no trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// It may be one that goes on behind them.
    Open,
    Odd,
}

/// What a trailer says, and its length.
fn parse_trailer(bytes: &[u8]) -> Result<(Trailer, usize), Flaw> {
    let mut rest = bytes.strip_prefix(TRAILER_MAGIC).ok_or(Flaw::Odd)?;
    let mut trailer = Trailer::default();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Flaw::Open)?;
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        let Some((key, value)) = line.split_first() else {
            return Ok((trailer, bytes.len() - rest.len()));
        };
        trailer.note(*key, value).ok_or(Flaw::Odd)?;
    }
}

impl Trailer {
    /// Takes in a line; nothing if it cannot be one.
    fn note(&mut self, key: u8, value: &[u8]) -> Option<()> {
        match key {
            b'G' => self.guid = Some(guid(value)?),
            b'V' => self.virtual_size = Some(hex(value)?),
            b'Z' => self.plain_size = Some(hex(value)?),
            b'R' => self.received = Some(u32::try_from(hex(value)?).ok()?),
            b'B' => self.folder = Some(value.into()),
            b'X' => self.external = true,
            // POP3 names and whatever later versions note.
            key if key.is_ascii_alphabetic() => {}
            _ => return None,
        }
        Some(())
    }
}

fn guid(digits: &[u8]) -> Option<Guid> {
    crate::digest::from_hex(digits)
}

/// A number in hexadecimal digits of either case.
fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::io::Cursor;

    const HEAD: &[u8] = b"2 M1e C6b020319\n";

    fn message(number: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x01\x02N          ".to_vec();
        bytes.extend_from_slice(format!("{:016X}\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        let guid = format!("{number:02x}").repeat(16);
        let trailer =
            format!("\n\x01\x03\nR6b020319\nV{:x}\nG{guid}\nBINBOX\n\n", body.len());
        bytes.extend_from_slice(trailer.as_bytes());
        bytes
    }

    /// A file of three messages, and where each begins.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = HEAD.to_vec();
        let mut starts = Vec::new();
        for number in 1..=3 {
            starts.push(bytes.len());
            bytes.extend(message(number, &vec![b'a' + number; 1000]));
        }
        (bytes, starts)
    }

    fn regions(bytes: &[u8]) -> Vec<Region> {
        let length = bytes.len() as u64;
        let mut scanner = Scanner::open(Cursor::new(bytes), length).unwrap();
        let mut regions = Vec::new();
        while let Some(region) = scanner.next().unwrap() {
            regions.push(region);
        }
        regions
    }

    /// Messages as the first byte of their GUID; damage as it is.
    fn show(bytes: &[u8]) -> Vec<Result<u8, Damage>> {
        let show = |region| match region {
            Region::Message(message) => Ok(message.trailer.guid.unwrap()[0]),
            Region::Damaged(damaged) => Err(damaged.damage),
        };
        regions(bytes).into_iter().map(show).collect()
    }

    #[test]
    fn a_whole_file_is_its_messages() {
        let (bytes, starts) = file();

        let found = regions(&bytes);

        let Region::Message(second) = &found[1] else { panic!("{found:?}") };
        assert_eq!(show(&bytes), [Ok(1), Ok(2), Ok(3)]);
        assert_eq!((second.start, second.size), (starts[1] as u64, 1000));
        assert_eq!(second.end, starts[2] as u64);
        assert_eq!(second.trailer.folder.as_deref(), Some(&b"INBOX"[..]));
        assert_eq!(second.promise().virtual_size, Some(1000));
    }

    #[test]
    fn the_messages_behind_damage_are_found_again() {
        let (whole, starts) = file();
        let zeroed = |range: std::ops::Range<usize>| {
            let mut bytes = whole.clone();
            bytes[range].fill(0);
            show(&bytes)
        };
        let second = starts[1];

        assert_eq!(zeroed(0..40), [Err(Damage::FileHead), Ok(2), Ok(3)]);
        assert_eq!(zeroed(0..4), [Err(Damage::FileHead), Ok(1), Ok(2), Ok(3)]);
        let cut_trailer = Damage::Trailer { size: 1000 };
        assert_eq!(zeroed(second - 40..second), [Err(cut_trailer), Ok(2), Ok(3)]);
        assert_eq!(zeroed(second..second + 2), [Ok(1), Err(Damage::Head), Ok(3)]);
        assert_eq!(zeroed(second - 40..second + 40), [Err(cut_trailer), Ok(3)]);
    }

    #[test]
    fn a_cut_file_has_what_is_before_the_cut() {
        let (whole, starts) = file();

        let cut = show(&whole[..starts[2] + 130]);

        assert_eq!(cut, [Ok(1), Ok(2), Err(Damage::Cut { expected: 1000, found: 100 })]);
        assert_eq!(show(b""), []);
        assert_eq!(show(HEAD), []);
    }

    #[test]
    fn heads_that_all_point_to_one_endless_trailer_cost_little() {
        struct Counted<'a>(Cursor<&'a [u8]>, &'a Cell<usize>);
        impl Read for Counted<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.0.read(buffer)?;
                self.1.set(self.1.get() + read);
                Ok(read)
            }
        }
        impl Seek for Counted<'_> {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        let (mut bytes, heads) = (HEAD.to_vec(), 2000);
        for left in (0..heads).rev() {
            let size = left * MESSAGE_HEAD_BYTES;
            bytes
                .extend_from_slice(format!("\x01\x02N{:10}{size:016X}\n", "").as_bytes());
        }
        bytes.extend_from_slice(TRAILER_MAGIC);
        bytes.extend_from_slice(&b"Aaaaaaaaa\n".repeat(10_000));
        let (read, length) = (Cell::new(0), bytes.len() as u64);

        let mut scanner =
            Scanner::open(Counted(Cursor::new(&bytes), &read), length).unwrap();

        let damage = Damage::Trailer { size: (heads as u64 - 1) * 30 };
        let whole = Damaged { start: 16, end: length, damage };
        assert_eq!(scanner.next().unwrap(), Some(Region::Damaged(whole)));
        assert!(read.get() < 4 * bytes.len(), "{} of {}", read.get(), bytes.len());
    }

    #[test]
    fn attachments_kept_elsewhere_are_noticed() {
        let mut bytes = HEAD.to_vec();
        let plain = message(1, b"Subject: a\n\nb\n");
        bytes.extend_from_slice(&plain[..plain.len() - 1]);
        bytes.extend_from_slice(b"X1 2 B 3 /a\n\n");

        let found = regions(&bytes);

        let Region::Message(message) = &found[0] else { panic!("{found:?}") };
        assert!(message.trailer.external);
    }

    proptest! {
        #[test]
        fn any_bytes_are_regions_without_a_gap(mut bytes: Vec<u8>, whole: bool, at: usize, cut: usize) {
            if whole {
                let (file, _) = file();
                let at = at % file.len();
                bytes = [&file[..at], &bytes, &file[at.max(cut % file.len())..]].concat();
            }
            let mut at = None;
            for region in regions(&bytes) {
                let (start, end) = match region {
                    Region::Message(message) => (message.start, message.end),
                    Region::Damaged(damaged) => (damaged.start, damaged.end),
                };
                prop_assert!(at.is_none_or(|at| at == start) && end > start);
                at = Some(end);
            }
            prop_assert!(at.is_none_or(|at| at == bytes.len() as u64));
        }
    }
}
