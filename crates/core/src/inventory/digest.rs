//! The name of a value by its content.
//!
//! # Invariants
//!
//! * Every part is written with its length, so that no two values share their bytes.

use std::fmt;

/// What an inventory, a policy or a plan is named by: BLAKE3 of its canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest written as 64 hexadecimal digits, if `text` is one.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16));
        f.write_str(&digits.collect::<String>())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Canonical bytes on their way into a digest.
pub(crate) struct Canon {
    hasher: blake3::Hasher,
    pending: Vec<u8>,
}

impl Canon {
    /// As many bytes as the hasher digests at full speed.
    const PENDING_MAX: usize = 64 * 1024;

    /// Starts the bytes of one kind of value; the kind carries the version of its layout.
    pub(crate) fn of(kind: &str) -> Self {
        let mut canon = Self {
            hasher: blake3::Hasher::new(),
            pending: Vec::with_capacity(Self::PENDING_MAX + 1_024),
        };
        canon.text(kind);
        canon
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: impl Into<u64>) {
        self.bytes(&number.into().to_le_bytes());
    }

    /// Adds a length.
    pub(crate) fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).unwrap_or(u64::MAX));
    }

    /// Adds a text with its length.
    pub(crate) fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes(text.as_bytes());
    }

    /// Adds texts with their number.
    pub(crate) fn texts(&mut self, texts: &[String]) {
        self.length(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    /// Adds bytes whose length is known from what came before.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= Self::PENDING_MAX {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
    }

    /// The digest of all that was added.
    pub(crate) fn finish(mut self) -> Digest {
        self.hasher.update(&self.pending);
        Digest(*self.hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::{Canon, Digest};

    #[test]
    fn a_digest_survives_its_text() {
        let digest = Canon::of("test").finish();

        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("12"), None);
    }

    #[test]
    fn moving_a_letter_between_two_texts_changes_the_digest() {
        let digest = |left: &str, right: &str| {
            let mut canon = Canon::of("test");
            canon.text(left);
            canon.text(right);
            canon.finish()
        };

        assert_ne!(digest("ab", "c"), digest("a", "bc"));
    }
}
