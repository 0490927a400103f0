//! Rungs: the kinds of evidence on a message, strongest first.
//!
//! # Invariants
//!
//! * A rung's word never changes: reports of years are compared by it.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of kinds of evidence; its text is their words, strongest first: `dkim, size`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rungs(u16);

impl Rungs {
    /// No evidence.
    pub const NONE: Self = Self(0);
    /// The fingerprint recorded while the message was good.
    pub const MANIFEST: Self = Self(1);
    /// The hash of the body that a sender signed (RFC 6376 3.7).
    pub const DKIM: Self = Self(1 << 1);
    /// The checksum of compressed storage.
    pub const CHECKSUM: Self = Self(1 << 2);
    /// The size in name, list or header.
    pub const SIZE: Self = Self(1 << 3);
    /// The size with every line end as CRLF.
    pub const VIRTUAL_SIZE: Self = Self(1 << 4);
    /// Header, parts, dates and characters as mail has them, and no zeros.
    pub const STRUCTURE: Self = Self(1 << 5);
    /// Whom it was delivered to.
    pub const RECIPIENT: Self = Self(1 << 6);
    /// Live and snapshot have the same bytes.
    pub const AGREEMENT: Self = Self(1 << 7);
    /// The snapshot was taken before the fault; nothing better told.
    pub const SNAPSHOT: Self = Self(1 << 8);

    /// The same bytes stand under another name: whole, or written here by mistake.
    pub const ELSEWHERE: Self = Self(1 << 9);

    const WORDS: [(Self, &'static str); 10] = [
        (Self::MANIFEST, "manifest"),
        (Self::DKIM, "dkim"),
        (Self::CHECKSUM, "checksum"),
        (Self::SIZE, "size"),
        (Self::VIRTUAL_SIZE, "virtual size"),
        (Self::STRUCTURE, "structure"),
        (Self::RECIPIENT, "recipient"),
        (Self::AGREEMENT, "agreement"),
        (Self::SNAPSHOT, "snapshot"),
        (Self::ELSEWHERE, "elsewhere"),
    ];

    /// The set named by `word`; nothing if there is no such rung.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.into_iter().find(|it| it.1 == word).map(|it| it.0)
    }

    /// Stable words, strongest first.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().filter(move |it| self.contains(it.0)).map(|it| it.1)
    }

    /// Has all of `other`.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// There is no evidence.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// All but those of `other`.
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Itself, or nothing if `condition` is not met.
    pub(crate) fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for Rungs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Rungs {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for Rungs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.words().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Rungs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rungs({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_named_strongest_first_and_read_back() {
        let rungs = Rungs::SIZE | Rungs::VIRTUAL_SIZE | Rungs::DKIM;

        let text = rungs.to_string();
        let read = text.split(", ").filter_map(Rungs::from_word);

        assert_eq!(text, "dkim, size, virtual size");
        assert_eq!(read.fold(Rungs::NONE, Rungs::bitor), rungs);
        assert_eq!(Rungs::NONE.to_string(), "");
    }
}
