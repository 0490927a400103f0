//! Base: from where the records of a compacted journal go on.
//!
//! A journal is compacted by a snapshot: bytes in which its owner has put all that a number
//! of records, from the first on, have led to. These records are then dropped, all but the
//! story: those that the owner wants to keep for ever.
//!
//! # Invariants
//!
//! * Base and header change in one batch: a journal is compacted, or it is not.
//! * The base names the digest of everything up to its snapshot, so the chain goes on
//!   behind it as if nothing had been dropped.
//! * Snapshot and story are under digests of their own: neither can change, lose a part or
//!   come from another journal without being noticed.

use crate::frame::{self, Digest, Head, KEY_BYTES};

/// Sequences of records lie below this; snapshots have the sequence that they cover, with
/// this bit set, so that they come behind all records.
pub(crate) const SNAPSHOTS: u64 = 1 << 63;

/// The one layout there has been.
const VERSION: u8 = 1;

/// Version; sequence and digest of the head; records and digest of the story; bytes and
/// digest of the snapshot; checksum.
const BYTES: usize = 1 + 8 + 32 + 8 + 32 + 8 + 32 + 8;

/// What the snapshot of a journal covers, and how it and the story are known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// The newest record that the snapshot covers.
    pub(crate) head: Head,
    /// What was kept of the records covered.
    pub(crate) story: Story,
    /// How long the snapshot is.
    pub(crate) snapshot_bytes: u64,
    /// The digest of its bytes.
    pub(crate) snapshot: Digest,
}

/// Records that are kept for ever, as a running digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Story {
    /// How many.
    pub(crate) records: u64,
    /// Of each and its place, and of those before it.
    pub(crate) digest: Digest,
}

impl Story {
    /// Nothing kept yet.
    pub(crate) const EMPTY: Self = Self { records: 0, digest: Digest([0; 32]) };

    /// With one more record.
    pub(crate) fn after(self, head: Head, payload: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.digest.0);
        hasher.update(&head.sequence.to_be_bytes());
        hasher.update(&head.digest.0);
        hasher.update(payload);
        let digest = Digest(*hasher.finalize().as_bytes());
        Self { records: self.records + 1, digest }
    }
}

impl Base {
    /// Where it lies: behind everything.
    pub(crate) fn key() -> [u8; KEY_BYTES] {
        frame::key(u64::MAX, 0)
    }

    /// The values that its snapshot's bytes are cut into, and where they lie.
    pub(crate) fn parts<'a>(
        &self,
        body: &'a [u8],
    ) -> impl Iterator<Item = ([u8; KEY_BYTES], &'a [u8])> + use<'a> {
        let of_it = SNAPSHOTS | self.head.sequence;
        let parts = (0..).zip(body.chunks(frame::VALUE_BYTES_MAX));
        parts.map(move |(part, value)| (frame::key(of_it, part), value))
    }

    /// Its bytes, bound to the journal whose header has this digest.
    pub(crate) fn encode(&self, header: Digest) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.head.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.head.digest.0);
        bytes.extend_from_slice(&self.story.records.to_be_bytes());
        bytes.extend_from_slice(&self.story.digest.0);
        bytes.extend_from_slice(&self.snapshot_bytes.to_be_bytes());
        bytes.extend_from_slice(&self.snapshot.0);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header.0);
        hasher.update(&bytes);
        bytes.extend(hasher.finalize().as_bytes().iter().take(8));
        bytes
    }

    /// What the bytes say, if they are the base of the journal whose header has this digest.
    pub(crate) fn decode(bytes: &[u8], header: Digest) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let (records, rest) = rest.split_first_chunk::<8>()?;
        let (story, rest) = rest.split_first_chunk::<32>()?;
        let (snapshot_bytes, rest) = rest.split_first_chunk::<8>()?;
        let (snapshot, _) = rest.split_first_chunk::<32>()?;
        let (sequence, digest) = (u64::from_be_bytes(*sequence), Digest(*digest));
        let (records, story) = (u64::from_be_bytes(*records), Digest(*story));
        let base = Self {
            head: Head { sequence, digest },
            story: Story { records, digest: story },
            snapshot_bytes: u64::from_be_bytes(*snapshot_bytes),
            snapshot: Digest(*snapshot),
        };
        (*version == VERSION && base.encode(header) == bytes).then_some(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_comes_back_for_its_own_journal_and_no_flipped_bit_goes_unnoticed() {
        let header = Head::of_header(b"mine").digest;
        let head = Head::of_header(b"mine").after(b"one");
        let story = Story::EMPTY.after(head, b"one");
        let base = Base { head, story, snapshot_bytes: 7, snapshot: Digest([3; 32]) };
        let bytes = base.encode(header);

        assert_eq!(Base::decode(&bytes, header), Some(base));
        assert_eq!(Base::decode(&bytes, Head::of_header(b"other").digest), None);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Base::decode(&bytes, header), None, "bit {bit}");
        }
    }
}
