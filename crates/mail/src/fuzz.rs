//! Fuzz: what must hold of every parser, whatever the bytes.
//!
//! One function for each target: for the bounded run beside them, and for long runs that are guided by
//! coverage (`crates/mail/fuzz`). Not part of the program.
//!
//! # Invariants
//!
//! * A target depends on nothing but its bytes: the same ones always end the same way.
//! * A target asks for more than that nothing panics: pieces do not matter, what is written reads back,
//!   regions have no gaps, and where there is a second way to the same answer it is gone too.

#[cfg(test)]
mod bounded;
mod dovecot;
mod maildir;
mod message;
#[cfg(test)]
mod mutation;
mod records;

use std::io::{self, Read, Seek, SeekFrom};

pub use dovecot::{cache, dbox, folders, index};
pub use maildir::{keywords, name, uidlist};
pub use message::{dkim, message, mime, packed};
pub use records::{findings, import, manifest};

use crate::digest::Digester;

/// A length that says that there is no such file.
const NO_FILE: usize = 0xffff;

/// Three files in one: two lengths, and the files; the third is the rest.
///
/// Where the lengths do not fit, files are shorter: a cut is a case like any other.
fn parts(bytes: &[u8]) -> (Option<&[u8]>, Option<&[u8]>, &[u8]) {
    let Some((lengths, rest)) = bytes.split_at_checked(4) else {
        return (None, None, bytes);
    };
    let mut lengths = lengths.chunks_exact(2).map(|it| match *it {
        [low, high] => usize::from(u16::from_le_bytes([low, high])),
        _ => NO_FILE,
    });
    let (one, rest) = part(lengths.next(), rest);
    let (other, rest) = part(lengths.next(), rest);
    (one, other, rest)
}

fn part(length: Option<usize>, bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match length {
        Some(length) if length != NO_FILE => {
            let (part, rest) = bytes.split_at(length.min(bytes.len()));
            (Some(part), rest)
        }
        Some(_) | None => (None, bytes),
    }
}

/// Chance, the same one for the same bytes.
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    fn of(bytes: &[u8]) -> Self {
        Self(
            Digester::of(bytes)
                .iter()
                .fold(1, |all, byte| all << 5 ^ all >> 3 ^ u64::from(*byte)),
        )
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`, or zero.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    /// A length, mostly small, at least 1.
    fn length(&mut self) -> usize {
        let most = 1 << self.below(10);
        1 + self.below(most)
    }
}

/// The bytes in pieces, some of them empty.
fn pieces<'a>(bytes: &'a [u8], chance: &mut Chance) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let length = chance.length().min(rest.len());
        let (piece, more) = rest.split_at(length);
        if chance.below(16) == 0 {
            pieces.push(&b""[..]);
        }
        pieces.push(piece);
        rest = more;
    }
    pieces
}

/// A file of which every read gives as much as it likes.
struct Crumbs<'a> {
    bytes: &'a [u8],
    at: u64,
    chance: Chance,
}

impl Read for Crumbs<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        let rest = self.bytes.get(at..).unwrap_or_default();
        let length = self.chance.length().min(rest.len()).min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest).take(length) {
            *to = *from;
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Crumbs<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(at) => self.at = at,
            SeekFrom::End(_) | SeekFrom::Current(_) => {
                return Err(io::Error::from(io::ErrorKind::Unsupported));
            }
        }
        Ok(self.at)
    }
}
