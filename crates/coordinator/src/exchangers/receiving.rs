//! Receiving: which mailboxes take mail now, a bit each.
//!
//! # Invariants
//!
//! * The bits are set by the rollout's owner, after what they follow from is durable.
//! * Reading them waits for nobody and holds nobody up.
//! * A bit may be read older than the version; it is then read again at the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_core::fleet::MailboxNumber;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Record, Rollout};

/// Mailboxes in one word.
const WORD: usize = 64;

/// Which mailboxes of a plan take mail now.
#[derive(Debug)]
pub(crate) struct Receiving {
    plan: Arc<Plan>,
    words: Box<[AtomicU64]>,
    /// Rises after bits have changed.
    version: AtomicU64,
}

impl Receiving {
    /// What `rollout` says of every mailbox.
    pub(crate) fn of(rollout: &Rollout) -> Self {
        let plan = Arc::clone(rollout.plan());
        let words = plan.inventory().mailboxes().len().div_ceil(WORD);
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        let receiving = Self { plan, words, version: AtomicU64::new(0) };
        rollout.show_receiving(|mailbox, receives| {
            receiving.set(mailbox, receives);
        });
        receiving
    }

    /// The plan whose mailboxes these are.
    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Looks again at what `records`, applied to `rollout` and durable, are about.
    pub(crate) fn follow(&self, rollout: &Rollout, records: &[Record]) {
        let mut changed = false;
        for record in records {
            rollout.show_receiving_changed(record, |mailbox, receives| {
                changed |= self.set(mailbox, receives);
            });
        }
        if changed {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// A number that is another one when bits have changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All bits, 64 mailboxes in a word, the lowest first.
    pub(crate) fn words(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    /// The bit of one mailbox.
    pub(crate) fn has(&self, mailbox: MailboxNumber) -> bool {
        let word = self.words.get(mailbox.index() / WORD);
        let word = word.map_or(0, |word| word.load(Ordering::Relaxed));
        word & 1 << (mailbox.index() % WORD) != 0
    }

    /// Sets a bit; whether it was another one before.
    fn set(&self, mailbox: MailboxNumber, receives: bool) -> bool {
        let Some(word) = self.words.get(mailbox.index() / WORD) else { return false };
        let bit = 1 << (mailbox.index() % WORD);
        let before = if receives {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
        (before & bit != 0) != receives
    }
}
