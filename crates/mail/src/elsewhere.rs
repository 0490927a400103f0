//! Elsewhere: whether the bytes of a message stand in another mailbox of the node too.
//!
//! # Invariants
//!
//! * Memory is bounded: what was seen long ago is forgotten. So it only ever adds evidence; that bytes
//!   are not known here proves nothing.
//! * A mailbox is never its own witness.

use std::sync::{Mutex, PoisonError};

use crate::digest::Digest;

/// Messages remembered: those of some thousand mailboxes, in 16 MiB.
const PLACES: usize = 1 << 20;

/// Parts with a lock of their own, so that readers seldom wait for each other.
const PARTS: usize = 32;

/// The bytes of messages that were found good lately, and the mailboxes they were found in.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// Half a digest and the mailbox's key; made when the first message comes.
    parts: [Mutex<Vec<(u64, u64)>>; PARTS],
}

impl Elsewhere {
    /// Remembers a good message of a mailbox.
    pub(crate) fn remember(&self, digest: Digest, mailbox: u64) {
        let (name, part, place) = locate(digest);
        let Some(part) = self.parts.get(part) else { return };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if part.is_empty() {
            *part = vec![(0, 0); PLACES / PARTS];
        }
        if let Some(entry) = part.get_mut(place) {
            *entry = (name, mailbox);
        }
    }

    /// Another mailbox has such a message.
    pub(crate) fn knows(&self, digest: Digest, mailbox: u64) -> bool {
        let (name, part, place) = locate(digest);
        let Some(part) = self.parts.get(part) else { return false };
        let part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.get(place).is_some_and(|entry| entry.0 == name && entry.1 != mailbox)
    }
}

/// What a digest is remembered by, its part, and the place there.
fn locate(digest: Digest) -> (u64, usize, usize) {
    let [high, low] = [0, 8].map(|at| {
        let half = digest.get(at..).and_then(|rest| rest.first_chunk());
        u64::from_be_bytes(half.copied().unwrap_or_default())
    });
    let place = usize::try_from(low % PLACES as u64).unwrap_or(0);
    (high.max(1), place % PARTS, place / PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digester;

    #[test]
    fn a_mailbox_is_no_witness_for_itself() {
        let (elsewhere, mail) = (Elsewhere::default(), Digester::of(b"a message"));

        assert!(!elsewhere.knows(mail, 1));
        elsewhere.remember(mail, 1);

        assert!(!elsewhere.knows(mail, 1));
        assert!(elsewhere.knows(mail, 2));
        assert!(!elsewhere.knows(Digester::of(b"another"), 2));
    }
}
