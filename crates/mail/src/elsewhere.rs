//! Elsewhere: whether the bytes of a message stand in another mailbox of the node too.
//!
//! # Invariants
//!
//! * Memory is bounded: what was seen long ago is forgotten. So it only ever adds evidence; that bytes
//!   are not known here proves nothing.
//! * A mailbox is never its own witness.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;

/// Messages remembered: those of some thousand mailboxes, in 8 MiB.
const PLACES: usize = 1 << 20;

/// Bits of an entry that name the mailbox; two mailboxes that share them are taken for one.
const MAILBOX_BITS: u32 = 24;

/// Spreads mailboxes, whose keys are often small numbers, over those bits: 2^64 by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The bytes of messages that were found good lately, and the mailboxes they were found in.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// Each a part of a digest, which with the place is 60 bits of it, and of the mailbox's key; zero is
    /// none. Whoever writes last is remembered. Made when the first message comes.
    places: OnceLock<Box<[AtomicU64]>>,
}

impl Elsewhere {
    /// Remembers a good message of a mailbox.
    pub(crate) fn remember(&self, digest: Digest, mailbox: u64) {
        let all = || (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        let (entry, place) = locate(digest, mailbox);
        if let Some(slot) = self.places.get_or_init(all).get(place) {
            slot.store(entry, Ordering::Relaxed);
        }
    }

    /// Another mailbox has such a message.
    pub(crate) fn knows(&self, digest: Digest, mailbox: u64) -> bool {
        let (entry, place) = locate(digest, mailbox);
        let slot = self.places.get().and_then(|places| places.get(place));
        let found = slot.map_or(0, |slot| slot.load(Ordering::Relaxed));
        found != entry && found >> MAILBOX_BITS == entry >> MAILBOX_BITS
    }
}

/// How a message of a mailbox is remembered, and where.
fn locate(digest: Digest, mailbox: u64) -> (u64, usize) {
    let [high, low] = [0, 8].map(|at| {
        let half = digest.get(at..).and_then(|rest| rest.first_chunk());
        u64::from_be_bytes(half.copied().unwrap_or_default())
    });
    let place = usize::try_from(low % PLACES as u64).unwrap_or(0);
    let mailbox = mailbox.wrapping_mul(SPREAD) >> (u64::BITS - MAILBOX_BITS);
    // No message is remembered as none.
    let name = (high >> MAILBOX_BITS).max(1);
    (name << MAILBOX_BITS | mailbox, place)
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
    #[test]
    fn mailboxes_with_neighbouring_keys_are_witnesses_for_each_other() {
        let (elsewhere, mail) = (Elsewhere::default(), Digester::of(b"a message"));
        elsewhere.remember(mail, 500);

        let strange = (0..1000).filter(|key| !elsewhere.knows(mail, *key));

        assert_eq!(strange.collect::<Vec<_>>(), [500]);
    }
}
