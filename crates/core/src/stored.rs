//! Stored: numbers and texts as bytes, in large portions, with a digest of them.
//!
//! Numbers have the lowest byte first.
//!
//! # Invariants
//!
//! * What is read is as long as it says, or an error; a length that lies asks for no more memory
//!   than there are bytes.

use std::io::{self, Read};

use crate::inventory::Digest;

/// As many bytes as the hasher digests at full speed.
pub(crate) const PORTION_BYTES: usize = 256 << 10;

/// These bytes are not what was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// They cannot be read, or there are too few.
    #[error("read its bytes")]
    Read(#[source] io::Error),
    /// They are something else.
    #[error("it does not begin as this program writes it")]
    Magic,
    /// A part is not what it should be.
    #[error("its {part} are damaged")]
    Part {
        /// Which part.
        part: &'static str,
    },
    /// More follows.
    #[error("something follows its end")]
    Longer,
}

/// Numbers with how many there are.
pub(crate) fn numbered(
    numbers: &[u32],
    portion: &mut Vec<u8>,
    to: &mut impl FnMut(&[u8]),
) {
    to(&u32::try_from(numbers.len()).unwrap_or(u32::MAX).to_le_bytes());
    u32s(numbers, portion, to);
}

/// Numbers, one after the other.
pub(crate) fn u32s(numbers: &[u32], portion: &mut Vec<u8>, to: &mut impl FnMut(&[u8])) {
    for numbers in numbers.chunks(PORTION_BYTES / 4) {
        portion.resize(numbers.len() * 4, 0);
        let (words, _) = portion.as_chunks_mut();
        words.iter_mut().zip(numbers).for_each(|(word, it)| *word = it.to_le_bytes());
        to(portion);
    }
}

/// Long numbers, one after the other.
pub(crate) fn u64s(numbers: &[u64], portion: &mut Vec<u8>, to: &mut impl FnMut(&[u8])) {
    for numbers in numbers.chunks(PORTION_BYTES / 8) {
        portion.resize(numbers.len() * 8, 0);
        let (words, _) = portion.as_chunks_mut();
        words.iter_mut().zip(numbers).for_each(|(word, it)| *word = it.to_le_bytes());
        to(portion);
    }
}

/// Bytes on their way in.
pub(crate) struct Source<'a, R> {
    from: &'a mut R,
    /// How many there still are.
    left: usize,
    hasher: blake3::Hasher,
    portion: Vec<u8>,
}

impl<'a, R: Read> Source<'a, R> {
    /// Reads from `from`, which has `bytes` bytes.
    pub(crate) fn new(from: &'a mut R, bytes: u64) -> Self {
        let left = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self { from, left, hasher: blake3::Hasher::new(), portion: Vec::new() }
    }

    /// The digest of all that was read since the last one.
    pub(crate) fn digest(&mut self) -> Digest {
        let digest = Digest::new(*self.hasher.finalize().as_bytes());
        self.hasher.reset();
        digest
    }

    /// Reads the first bytes, which must be these.
    pub(crate) fn magic(&mut self, magic: &[u8]) -> Result<(), Damage> {
        if self.bytes(magic.len())? == magic { Ok(()) } else { Err(Damage::Magic) }
    }

    /// Whether everything was read.
    pub(crate) fn end(&self) -> Result<(), Damage> {
        if self.left == 0 { Ok(()) } else { Err(Damage::Longer) }
    }

    /// How many follow.
    pub(crate) fn count(&mut self) -> Result<usize, Damage> {
        let count = self.u32s(1)?;
        Ok(count.first().map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX)))
    }

    /// As many numbers as said.
    pub(crate) fn u32s(&mut self, count: usize) -> Result<Vec<u32>, Damage> {
        let mut numbers = Vec::with_capacity(count.min(self.left / 4));
        self.portions(count.saturating_mul(4), |bytes| {
            let (words, _) = bytes.as_chunks();
            numbers.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
        })?;
        Ok(numbers)
    }

    /// As many numbers as said.
    pub(crate) fn u64s(&mut self, count: usize) -> Result<Vec<u64>, Damage> {
        let mut numbers = Vec::with_capacity(count.min(self.left / 8));
        self.portions(count.saturating_mul(8), |bytes| {
            let (words, _) = bytes.as_chunks();
            numbers.extend(words.iter().map(|word| u64::from_le_bytes(*word)));
        })?;
        Ok(numbers)
    }

    /// As many bytes as said.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Damage> {
        let mut all = Vec::with_capacity(count.min(self.left));
        self.portions(count, |bytes| all.extend_from_slice(bytes))?;
        Ok(all)
    }

    /// Reads as many bytes as said, in portions of whole words.
    fn portions(
        &mut self,
        bytes: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Damage> {
        let mut left = bytes;
        let mut portion = std::mem::take(&mut self.portion);
        while left > 0 {
            portion.resize(left.min(PORTION_BYTES), 0);
            self.exactly(&mut portion)?;
            self.hasher.update(&portion);
            take(&portion);
            left -= portion.len();
        }
        self.portion = portion;
        Ok(())
    }

    /// Fills `bytes`, of which the digest knows nothing.
    pub(crate) fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), Damage> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            let short = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(Damage::Read(short));
        };
        self.left = left;
        self.from.read_exact(bytes).map_err(Damage::Read)
    }
}
