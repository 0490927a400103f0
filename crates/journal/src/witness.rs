//! The witness: a second opinion on where the journal ends.
//!
//! A store that finds damage anywhere in its log takes all that follows for an unfinished
//! write and drops it without a word. The witness is a small file beside it that remembers the head
//! of the newest acknowledged append.
//!
//! # Invariants
//!
//! * The witness is written after the records are on disk: it is never ahead of them.
//! * It is not flushed with every append, so after a power loss it may lag, never lead.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::frame::{Digest, Head};

/// Sequence, digest, checksum.
const BYTES: usize = 8 + 32 + 8;

/// The open witness of a journal.
pub(crate) struct Witness(File);

impl Witness {
    /// Opens or creates the witness of the journal at `dir`; also says what it last saw.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Option<Head>)> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = options.open(dir.join("witness"))?;
        // Its name has to be on disk before the store's: see the rule for foreign files.
        File::open(dir)?.sync_all()?;
        let mut bytes = [0; BYTES];
        let seen = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self(file), seen))
    }

    /// Remembers that everything up to `head` is on disk.
    pub(crate) fn record(&self, head: Head) -> io::Result<()> {
        self.0.write_all_at(&encode(head), 0)
    }

    /// Makes the newest remembered head durable as well.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn encode(head: Head) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES);
    bytes.extend_from_slice(&head.sequence.to_be_bytes());
    bytes.extend_from_slice(&head.digest.0);
    let check = blake3::hash(&bytes);
    bytes.extend(check.as_bytes().iter().take(8));
    bytes
}

/// What the bytes say, unless a power loss has left something else there.
fn decode(bytes: &[u8; BYTES]) -> Option<Head> {
    let (sequence, rest) = bytes.split_first_chunk::<8>()?;
    let (digest, _) = rest.split_first_chunk::<32>()?;
    let head = Head { sequence: u64::from_be_bytes(*sequence), digest: Digest(*digest) };
    (encode(head) == bytes).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_witness_says_nothing() {
        let head = Head { sequence: 7, digest: Digest([9; 32]) };
        let whole: [u8; BYTES] = encode(head).try_into().unwrap();
        let mut flipped = whole;
        flipped[7] ^= 1;

        assert_eq!(decode(&whole), Some(head));
        assert_eq!(decode(&flipped), None);
        assert_eq!(decode(&[0; BYTES]), None);
    }
}
