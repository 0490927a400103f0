//! Frames: how a record lies in the store, and how it is known to be whole.
//!
//! A record is cut into values of at most [`VALUE_BYTES_MAX`]. Its key is its sequence and
//! the number of the part, big-endian, so that the store's order is the journal's order.
//! The first part opens with the frame: version, sequence, length, checksum, chain digest.
//!
//! # Invariants
//!
//! * A record's digest covers its payload and every record before it: exchanging, removing
//!   or reordering any of them breaks all digests from there on.
//! * Decoding never trusts a length it has read: it only compares it.

use std::fmt;

/// The longest payload of one record, in bytes. Records are facts, not files; the largest
/// are snapshots of packed state, a few megabytes for ten million mailboxes.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// The longest value handed to the store, in bytes: larger ones leave its log for files
/// of their own, which it never reclaims.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

/// What a frame's first byte says: its layout, and what kind of record this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// An ordinary record, or the header of a journal that was never compacted.
    Plain = 1,
    /// The header of a compacted journal: a base belongs to it.
    Based = 2,
    /// A record that stays when those around it are compacted.
    Story = 3,
}

impl Mark {
    /// The mark of record `sequence`.
    fn read(sequence: u64, byte: u8) -> Result<Self, Damage> {
        match (byte, sequence) {
            (1, _) => Ok(Self::Plain),
            (2, 0) => Ok(Self::Based),
            (3, 1..) => Ok(Self::Story),
            (version, _) => Err(Damage::Version { version }),
        }
    }
}

/// Version, sequence, length, checksum, digest.
const FRAME_BYTES: usize = 1 + 8 + 4 + 8 + 32;

/// The sequence and the part.
pub(crate) const KEY_BYTES: usize = 8 + 4;

/// The digest of a record and of all records before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The newest durable record: its sequence, and the digest of everything up to it.
///
/// Sequence 0 is the journal's own header; the first appended record is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The sequence of the newest record, 0 while there is none.
    pub sequence: u64,
    /// The chain of digests up to and including that record.
    pub digest: Digest,
}

impl Head {
    /// Before anything.
    pub(crate) const NONE: Self = Self { sequence: 0, digest: Digest([0; 32]) };

    /// The head after the journal's header, its record 0.
    pub(crate) fn of_header(payload: &[u8]) -> Self {
        Self { sequence: 0, digest: chain(Digest([0; 32]), payload) }
    }

    /// The head after one more record.
    pub(crate) fn after(self, payload: &[u8]) -> Self {
        Self { sequence: self.sequence + 1, digest: chain(self.digest, payload) }
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A key that no journal writes.
    #[error("something that no journal writes stands in its place")]
    ForeignKey,
    /// The record, and perhaps more, is not there.
    #[error("it is missing, record {found} comes next")]
    Missing {
        /// The record that stands in its place.
        found: u64,
    },
    /// A part of the record is not there.
    #[error("its part {part} is missing")]
    PartMissing {
        /// The number of the part, from 0.
        part: u32,
    },
    /// The record is too short to hold a frame.
    #[error("its frame is cut short")]
    FrameCut,
    /// The frame's layout is unknown.
    #[error("its frame has version {version}, which is not known here")]
    Version {
        /// The version found.
        version: u8,
    },
    /// Another record's frame stands here.
    #[error("it was written as record {found}")]
    Misplaced {
        /// The sequence in the frame.
        found: u64,
    },
    /// The payload is longer or shorter than it was.
    #[error("it holds {found} bytes instead of {expected}")]
    Length {
        /// Bytes present.
        found: u64,
        /// Bytes announced by the frame.
        expected: u64,
    },
    /// The payload has changed.
    #[error("its bytes do not match their checksum")]
    Checksum,
    /// The record does not continue the one before it.
    #[error("it does not continue the digest chain")]
    Chain,
    /// The note of what was compacted is damaged.
    #[error("the note of what was compacted is missing or damaged")]
    Base,
    /// A record of the story is missing or has changed.
    #[error("of the records kept up to it {found} are there and {expected} belong there")]
    Story {
        /// How many there are.
        found: u64,
        /// How many there were; if as many are there, one has been exchanged.
        expected: u64,
    },
    /// The snapshot is damaged.
    #[error("the snapshot of all records up to it is damaged")]
    Snapshot,
    /// The journal ends before a record that had been acknowledged.
    #[error(
        "it is missing with all up to record {witnessed}, though they were acknowledged"
    )]
    CutOff {
        /// The newest record known to have been durable.
        witnessed: u64,
    },
}

/// The key of one part of a record.
pub(crate) fn key(sequence: u64, part: u32) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (high, low) = key.split_at_mut(8);
    high.copy_from_slice(&sequence.to_be_bytes());
    low.copy_from_slice(&part.to_be_bytes());
    key
}

/// The sequence and part of a key, if it is one of ours.
pub(crate) fn parse_key(key: &[u8]) -> Option<(u64, u32)> {
    let (sequence, part) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*sequence), u32::from_be_bytes(part.try_into().ok()?)))
}

/// Hands every part of the record at `head` to `put`, in order.
pub(crate) fn encode(
    head: Head,
    mark: Mark,
    payload: &[u8],
    put: &mut dyn FnMut([u8; KEY_BYTES], Vec<u8>),
) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let (first, rest) =
        payload.split_at(payload.len().min(VALUE_BYTES_MAX - FRAME_BYTES));

    let mut value = Vec::with_capacity(FRAME_BYTES + first.len());
    value.push(mark as u8);
    value.extend_from_slice(&head.sequence.to_be_bytes());
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(&checksum(payload));
    value.extend_from_slice(&head.digest.0);
    value.extend_from_slice(first);
    put(key(head.sequence, 0), value);
    for (part, bytes) in (1..).zip(rest.chunks(VALUE_BYTES_MAX)) {
        put(key(head.sequence, part), bytes.to_vec());
    }
}

/// A record's first part, taken apart; nothing in it is believed yet.
pub(crate) struct Frame {
    mark: Mark,
    length: u32,
    checksum: [u8; 8],
    digest: Digest,
}

impl Frame {
    /// Takes the first part of record `sequence` apart into its frame and its payload bytes.
    pub(crate) fn split(sequence: u64, value: &[u8]) -> Result<(Self, &[u8]), Damage> {
        let (&version, rest) = value.split_first().ok_or(Damage::FrameCut)?;
        let mark = Mark::read(sequence, version)?;
        let (found, rest) = rest.split_first_chunk::<8>().ok_or(Damage::FrameCut)?;
        let found = u64::from_be_bytes(*found);
        if found != sequence {
            return Err(Damage::Misplaced { found });
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(Damage::FrameCut)?;
        let (checksum, rest) = rest.split_first_chunk::<8>().ok_or(Damage::FrameCut)?;
        let (digest, rest) = rest.split_first_chunk::<32>().ok_or(Damage::FrameCut)?;
        let frame = Self {
            mark,
            length: u32::from_be_bytes(*length),
            checksum: *checksum,
            digest: Digest(*digest),
        };
        Ok((frame, rest))
    }

    /// What kind of record it is.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// How many parts the record has, the first included.
    pub(crate) fn parts(&self) -> u32 {
        let length = self.length as usize;
        let rest = length.saturating_sub(VALUE_BYTES_MAX - FRAME_BYTES);
        1 + u32::try_from(rest.div_ceil(VALUE_BYTES_MAX)).unwrap_or(u32::MAX)
    }

    /// Checks a whole payload against the frame and the record before it.
    pub(crate) fn check(
        &self,
        payload: &[u8],
        before: Option<Head>,
    ) -> Result<Head, Damage> {
        self.check_alone(0, payload)?;
        let head =
            before.map_or_else(|| Head::of_header(payload), |head| head.after(payload));
        if head.digest != self.digest {
            return Err(Damage::Chain);
        }
        Ok(head)
    }

    /// Checks a whole payload of which the record before is gone. That its digest is right
    /// only the story's can tell.
    pub(crate) fn check_alone(
        &self,
        sequence: u64,
        payload: &[u8],
    ) -> Result<Head, Damage> {
        if payload.len() as u64 != u64::from(self.length) {
            let (found, expected) = (payload.len() as u64, u64::from(self.length));
            return Err(Damage::Length { found, expected });
        }
        if checksum(payload) != self.checksum {
            return Err(Damage::Checksum);
        }
        Ok(Head { sequence, digest: self.digest })
    }
}

fn chain(before: Digest, payload: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0);
    hasher.update(payload);
    Digest(*hasher.finalize().as_bytes())
}

/// The first eight bytes of the payload's own digest: tells a changed payload from a
/// broken chain.
fn checksum(payload: &[u8]) -> [u8; 8] {
    let digest = blake3::hash(payload);
    let (first, _) =
        digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    *first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_any_length_comes_back_from_its_parts() {
        let edge = VALUE_BYTES_MAX - FRAME_BYTES;
        for length in [0, 1, edge - 1, edge, edge + 1, edge + VALUE_BYTES_MAX, 100_000] {
            let payload: Vec<u8> = (0..=250).cycle().take(length).collect();

            let parts = parts_of(&payload);

            let (frame, first) = Frame::split(0, &parts[0]).unwrap();
            let whole = [first, &parts[1..].concat()].concat();
            assert_eq!(parts.len(), frame.parts() as usize, "{length}");
            assert!(parts.iter().all(|part| part.len() <= VALUE_BYTES_MAX));
            assert_eq!(frame.check(&whole, None), Ok(Head::of_header(&payload)));
            assert_eq!(whole, payload);
        }
    }

    #[test]
    fn any_flipped_bit_of_a_record_is_noticed() {
        let value = parts_of(b"wave 3 opened").remove(0);
        for bit in 0..value.len() * 8 {
            let mut value = value.clone();
            value[bit / 8] ^= 1 << (bit % 8);

            let read = Frame::split(0, &value)
                .and_then(|(frame, payload)| frame.check(payload, None));

            assert!(read.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn keys_sort_as_records_do() {
        let mut keys = [key(1, 0), key(256, 0), key(1, 256), key(0, 9), key(1, 2)];
        keys.sort_unstable();

        let read: Vec<_> = keys.iter().filter_map(|key| parse_key(key)).collect();

        assert_eq!(read, [(0, 9), (1, 0), (1, 2), (1, 256), (256, 0)]);
    }

    fn parts_of(payload: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        encode(Head::of_header(payload), Mark::Plain, payload, &mut |_, value| {
            parts.push(value);
        });
        parts
    }
}
