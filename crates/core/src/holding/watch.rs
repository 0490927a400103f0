//! Watch: when mailboxes of a job are to be read next, block by block, so that a look for those
//! whose time has come passes over few others.
//!
//! # Invariants
//!
//! * No mailbox of a block is to be read before the block's time. Where that time is not known it
//!   is the beginning of time.

use std::ops::Range;

use crate::fleet::Ordinal;
use crate::time::Timestamp;

/// Mailboxes of a block: looked through in less time than a list of them would take to keep.
const BLOCK: u16 = 64;

/// When the block is to be looked through whose time is not known.
const AT_ONCE: Timestamp = Timestamp::from_millis(0);

/// The next times of a job's mailboxes.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    blocks: Box<[Timestamp]>,
    /// No block's time is before this.
    soonest: Timestamp,
}

impl Watch {
    /// Nothing is known yet of so many mailboxes.
    pub(super) fn new(mailboxes: usize) -> Self {
        let blocks = vec![AT_ONCE; mailboxes.div_ceil(usize::from(BLOCK))].into();
        Self { blocks, soonest: AT_ONCE }
    }

    /// Forgets all times.
    pub(super) fn forget(&mut self) {
        self.blocks.fill(AT_ONCE);
        self.soonest = AT_ONCE;
    }

    /// This one's time has changed.
    pub(super) fn changed(&mut self, ordinal: Ordinal) {
        if let Some(block) = self.blocks.get_mut(ordinal.index() / usize::from(BLOCK)) {
            *block = AT_ONCE;
            self.soonest = AT_ONCE;
        }
    }

    /// Has `look` go through the places of each block whose time has come, some of which the last
    /// one may not have, and say its next time, until it says nothing: then that block and those
    /// behind it are left as they are.
    pub(super) fn look(
        &mut self,
        now: Timestamp,
        mut look: impl FnMut(Range<u16>) -> Option<Timestamp>,
    ) {
        if self.soonest > now {
            return;
        }
        let firsts = (0..).step_by(usize::from(BLOCK));
        let blocks = self.blocks.iter_mut().zip(firsts);
        for (block, first) in blocks.filter(|(block, _)| **block <= now) {
            let Some(next) = look(first..first.saturating_add(BLOCK)) else { break };
            *block = next;
        }
        let soonest = self.blocks.iter().min();
        self.soonest = soonest.copied().unwrap_or(Timestamp::from_millis(u64::MAX));
    }
}
