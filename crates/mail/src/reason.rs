//! Reason: why a message is not served.
//!
//! # Invariants
//!
//! * Every reason has a stable code and at most two numbers; both together are the reason, so it
//!   can be written to the index of what was set aside and read back.

use std::fmt;

/// Why a message (or an odd item in its place) was set aside, or is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The file has no bytes.
    Empty,
    /// Fewer bytes than its name promises.
    Truncated {
        /// Bytes that the name promises.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// More bytes than its name promises.
    TooLong {
        /// Bytes that the name promises.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The number of lines does not fit the name: content was replaced.
    WrongVirtualSize {
        /// Virtual size that the name promises.
        expected: u64,
        /// Virtual size of the bytes that are there.
        found: u64,
    },
    /// Bytes were replaced by zeros.
    NulRun {
        /// Where the longest run begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// The compressed bytes cannot be unpacked, or are followed by others.
    BrokenCompression {
        /// Plain bytes that could be unpacked before.
        found: u64,
    },
    /// Unpacked bytes are not those whose checksum was stored with them.
    BadChecksum,
    /// Compressed in a way that is not known here.
    UnknownCompression,
    /// Encrypted by the mail server.
    Encrypted,
    /// Delivered to somebody else: another user's bytes.
    ForeignBytes,
    /// Does not begin like a message but with binary bytes.
    NoHeader,
    /// Larger than the store's limit, and therefore never read.
    TooLarge {
        /// Bytes of the file.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The disk did not give the bytes.
    Unreadable,
    /// Not the bytes whose digest was recorded while the message was good.
    Altered,
    /// Damaged live and in the snapshot.
    BothSidesBad,
    /// A link, FIFO, socket, device or directory where a message should be.
    NotRegular,
    /// Listed by the mailbox, and no bytes anywhere.
    Missing,
}

impl Reason {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated { .. } => "truncated",
            Self::TooLong { .. } => "too-long",
            Self::WrongVirtualSize { .. } => "wrong-virtual-size",
            Self::NulRun { .. } => "nul-run",
            Self::BrokenCompression { .. } => "broken-compression",
            Self::BadChecksum => "bad-checksum",
            Self::UnknownCompression => "unknown-compression",
            Self::Encrypted => "encrypted",
            Self::ForeignBytes => "foreign-bytes",
            Self::NoHeader => "no-header",
            Self::TooLarge { .. } => "too-large",
            Self::Unreadable => "unreadable",
            Self::Altered => "altered",
            Self::BothSidesBad => "both-sides-bad",
            Self::NotRegular => "not-regular",
            Self::Missing => "missing",
        }
    }

    /// The two numbers of the reason; zeros where it has none.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        match *self {
            Self::Truncated { expected, found }
            | Self::TooLong { expected, found }
            | Self::WrongVirtualSize { expected, found } => (expected, found),
            Self::NulRun { offset, length } => (offset, length),
            Self::TooLarge { found, limit } => (found, limit),
            Self::BrokenCompression { found } => (found, 0),
            Self::Empty
            | Self::BadChecksum
            | Self::UnknownCompression
            | Self::Encrypted
            | Self::ForeignBytes
            | Self::NoHeader
            | Self::Unreadable
            | Self::Altered
            | Self::BothSidesBad
            | Self::NotRegular
            | Self::Missing => (0, 0),
        }
    }

    /// The reason with this code and these numbers.
    pub(crate) fn from_code(code: &str, numbers: (u64, u64)) -> Option<Self> {
        let (first, second) = numbers;
        Some(match code {
            "empty" => Self::Empty,
            "truncated" => Self::Truncated { expected: first, found: second },
            "too-long" => Self::TooLong { expected: first, found: second },
            "wrong-virtual-size" => {
                Self::WrongVirtualSize { expected: first, found: second }
            }
            "nul-run" => Self::NulRun { offset: first, length: second },
            "broken-compression" => Self::BrokenCompression { found: first },
            "bad-checksum" => Self::BadChecksum,
            "unknown-compression" => Self::UnknownCompression,
            "encrypted" => Self::Encrypted,
            "foreign-bytes" => Self::ForeignBytes,
            "no-header" => Self::NoHeader,
            "too-large" => Self::TooLarge { found: first, limit: second },
            "unreadable" => Self::Unreadable,
            "altered" => Self::Altered,
            "both-sides-bad" => Self::BothSidesBad,
            "not-regular" => Self::NotRegular,
            "missing" => Self::Missing,
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::Truncated { expected, found } => {
                write!(f, "truncated: {found} of {expected} bytes are there")
            }
            Self::TooLong { expected, found } => {
                write!(f, "too long: {found} bytes, its name says {expected}")
            }
            Self::WrongVirtualSize { expected, found } => {
                write!(
                    f,
                    "content replaced: virtual size {found}, its name says {expected}"
                )
            }
            Self::NulRun { offset, length } => {
                write!(f, "{length} zero bytes at offset {offset}")
            }
            Self::BrokenCompression { found } => {
                write!(f, "compression broken: {found} bytes can be unpacked")
            }
            Self::BadChecksum => f.write_str("unpacked, it has another checksum"),
            Self::UnknownCompression => f.write_str("compressed in an unknown way"),
            Self::Encrypted => f.write_str("encrypted by the mail server"),
            Self::ForeignBytes => f.write_str("delivered to somebody else"),
            Self::NoHeader => f.write_str("does not begin like a message"),
            Self::TooLarge { found, limit } => {
                write!(f, "{found} bytes, more than the limit of {limit}")
            }
            Self::Unreadable => f.write_str("the disk does not give its bytes"),
            Self::Altered => f.write_str("not the bytes recorded when it was good"),
            Self::BothSidesBad => f.write_str("damaged live and in the snapshot"),
            Self::NotRegular => f.write_str("not a regular file"),
            Self::Missing => f.write_str("listed, but no bytes anywhere"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_being_written_down() {
        let all = [
            Reason::Empty,
            Reason::Truncated { expected: 2, found: 1 },
            Reason::TooLong { expected: 1, found: 2 },
            Reason::WrongVirtualSize { expected: 3, found: 4 },
            Reason::NulRun { offset: 512, length: 4096 },
            Reason::BrokenCompression { found: 7 },
            Reason::BadChecksum,
            Reason::UnknownCompression,
            Reason::Encrypted,
            Reason::ForeignBytes,
            Reason::NoHeader,
            Reason::TooLarge { found: 9, limit: 8 },
            Reason::Unreadable,
            Reason::Altered,
            Reason::BothSidesBad,
            Reason::NotRegular,
            Reason::Missing,
        ];

        for reason in all {
            assert_eq!(Reason::from_code(reason.code(), reason.numbers()), Some(reason));
        }
    }
}
