//! Findings: what reading a message once has shown.
//!
//! # Invariants
//!
//! * Digest, sizes and faults are of the plain message, however it is stored.

use crate::digest::{Digest, Fingerprint};
use crate::judge::{Promise, Rungs};
use crate::reason::Reason;

/// What reading a message once has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Digest of all bytes; nothing if they could not be read.
    pub(crate) digest: Option<Digest>,
    /// Digest of the bytes as they are stored: another one where they are compressed.
    pub(crate) raw: Option<Digest>,
    /// Bytes.
    pub(crate) size: u64,
    /// Bytes as they are stored.
    pub(crate) raw_size: u64,
    /// Bytes if every bare LF were CRLF.
    pub(crate) virtual_size: u64,
    /// Signs of damage, the most telling first.
    pub(crate) faults: Vec<Reason>,
    /// Signs that are odd but occur in real mail.
    pub(crate) oddities: u32,
    /// Evidence for it.
    pub(crate) stood: Rungs,
    /// Evidence against it.
    pub(crate) fell: Rungs,
    /// The hashes that senders signed of its body; where it was looked at deeply.
    pub(crate) seals: Vec<Seal>,
    /// What was asked for besides: of the stored bytes, and of the plain ones where those differ.
    pub(crate) fingerprints: Vec<Fingerprint>,
    /// Of its `Message-ID`, where it was looked at deeply: other ones are of other messages.
    pub(crate) message_id: Option<Digest>,
    /// Whom it was delivered to last, if to nobody who looks like the owner.
    pub(crate) stranger: Option<Box<[u8]>>,
    /// Of its header, if it was delivered to a stranger: one message under two names, cut to
    /// two sizes, has one.
    pub(crate) header: Option<Digest>,
}

/// A signed hash of a message's body, or of its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    /// As it was signed.
    pub(crate) hash: [u8; 32],
    /// The body has it.
    pub(crate) holds: bool,
    /// It is of the whole body, not of its beginning.
    pub(crate) whole: bool,
}

impl Findings {
    /// Findings on a file that cannot be or must not be read.
    pub(crate) fn unread(reason: Reason) -> Self {
        Self { faults: vec![reason], ..Self::default() }
    }

    /// Damaged, as far as this side alone can tell.
    pub(crate) fn fault(&self) -> Option<Reason> {
        self.faults.first().copied()
    }

    /// Damaged although the other side has the very same bytes.
    ///
    /// Two sides do not fall ill alike: a wrong `W=`, a foreign recipient or a strange beginning
    /// that both have was there before the fault. Sizes and zeros are never real.
    pub(crate) fn fault_though_identical(&self) -> Option<Reason> {
        self.faults.iter().copied().find(|reason| !self.may_be_old(*reason))
    }

    /// What is wrong with the way it is stored, though its plain bytes may be whole: a mail server
    /// does not give them.
    pub(crate) fn storage_fault(&self) -> Option<Reason> {
        let stored = |reason: &Reason| {
            matches!(reason, Reason::BrokenCompression { .. } | Reason::BadChecksum)
        };
        self.faults.iter().copied().find(stored)
    }

    /// Damaged in a way in which `other`, which has other bytes, is not.
    pub(crate) fn fault_beside(&self, other: &Self) -> Option<Reason> {
        let alike = |reason| {
            self.may_be_old(reason)
                && other.faults.contains(&reason)
                && (reason != Reason::ForeignBytes || self.has_the_stranger_of(other))
        };
        self.faults.iter().copied().find(|reason| !alike(*reason))
    }

    /// Both name one stranger as the recipient of one message, of which `other` has as many bytes
    /// as it should: then the stranger was there before the fault. Two sides may well have got
    /// bytes of the same stranger, but not both in the message's own size.
    fn has_the_stranger_of(&self, other: &Self) -> bool {
        let of_size = |reason: &Reason| {
            matches!(
                reason,
                Reason::Truncated { .. } | Reason::TooLong { .. } | Reason::Empty
            )
        };
        self.stranger == other.stranger
            && self.is_named_like(other)
            && !other.faults.iter().any(of_size)
    }

    /// `other` is shown to have the body that this one's own signature is of, and this one has not.
    pub(crate) fn is_disproved_by(&self, other: &Self) -> bool {
        let holds = |hash| other.seals.iter().any(|seal| seal.hash == hash && seal.holds);
        let mut broken = self.seals.iter().filter(|seal| !seal.holds);
        broken.any(|seal| holds(seal.hash))
    }

    /// Both name themselves, and differently: one has the place of the other.
    pub(crate) fn is_another_than(&self, other: &Self) -> bool {
        self.message_id.zip(other.message_id).is_some_and(|(one, other)| one != other)
    }

    /// Both name themselves, and alike: they are versions of one message.
    pub(crate) fn is_named_like(&self, other: &Self) -> bool {
        self.message_id.is_some() && self.message_id == other.message_id
    }

    /// Whether it has this fingerprint; nothing if it was not made of it.
    pub(crate) fn matches(&self, recorded: &Fingerprint) -> Option<bool> {
        if let Fingerprint::Xxh3(digest) = recorded {
            return Some(self.digest == Some(*digest));
        }
        let alike = |it: &&Fingerprint| it.kind() == recorded.kind();
        let mut made = self.fingerprints.iter().filter(alike).peekable();
        if self.digest.is_some() && made.peek().is_none() {
            return None;
        }
        Some(made.any(|it| it == recorded))
    }

    /// Nothing can be told of such messages: they are encrypted, or compressed in an unknown way.
    pub(crate) fn is_unsupported(&self) -> bool {
        self.faults
            .iter()
            .any(|it| matches!(it, Reason::Encrypted | Reason::UnknownCompression))
    }

    /// Whom it was delivered to, if that is its only fault.
    pub(crate) fn only_stranger(&self) -> Option<&[u8]> {
        let only = self.faults == [Reason::ForeignBytes];
        self.stranger.as_deref().filter(|_| only)
    }

    /// The recipient turned out to be another address of the owner.
    pub(crate) fn forgive_stranger(&mut self) {
        self.faults.retain(|reason| *reason != Reason::ForeignBytes);
        self.fell = self.fell.without(Rungs::RECIPIENT);
        self.stood |= Rungs::RECIPIENT;
    }

    /// Sets the rungs that seals, sizes, structure and recipient give.
    pub(super) fn climb(&mut self, promise: Promise, ours: Option<bool>) {
        let size = promise.size.map(|size| size == self.size);
        let virtual_size = promise.virtual_size.map(|size| size == self.virtual_size);
        let damaged = self.faults.iter().any(|it| matches!(it, Reason::NulRun { .. }));
        let structure = Some(self.oddities == 0 && !damaged);
        let proves = |seal: &Seal| seal.holds && seal.whole;
        let signed = match &*self.seals {
            [] => None,
            seals if seals.iter().any(proves) => Some(true),
            // The beginning that was signed is there; of the rest nobody knows.
            seals if seals.iter().any(|seal| seal.holds) => None,
            _ => Some(false),
        };
        for (rung, stands) in [
            (Rungs::DKIM, signed),
            (Rungs::SIZE, size),
            (Rungs::VIRTUAL_SIZE, virtual_size),
            (Rungs::STRUCTURE, structure),
            (Rungs::RECIPIENT, ours),
        ] {
            self.stood |= rung.when(stands == Some(true));
            self.fell |= rung.when(stands == Some(false));
        }
    }

    /// May be no damage but how the message always was.
    fn may_be_old(&self, reason: Reason) -> bool {
        match reason {
            Reason::WrongVirtualSize { .. } => {
                !self.faults.contains(&Reason::ForeignBytes)
            }
            Reason::ForeignBytes => !self.has_wrong_virtual_size(),
            Reason::NoHeader => true,
            Reason::Empty
            | Reason::Truncated { .. }
            | Reason::TooLong { .. }
            | Reason::NulRun { .. }
            | Reason::BrokenCompression { .. }
            | Reason::BadChecksum
            | Reason::UnknownCompression
            | Reason::Encrypted
            | Reason::TooLarge { .. }
            | Reason::Unreadable
            | Reason::Altered
            | Reason::BothSidesBad
            | Reason::NotRegular
            | Reason::Missing => false,
        }
    }

    fn has_wrong_virtual_size(&self) -> bool {
        self.faults.iter().any(|reason| matches!(reason, Reason::WrongVirtualSize { .. }))
    }
}
