//! Totals: messages by what became of them.
//!
//! # Invariants
//!
//! * Sums and differences saturate: what a worker tells must not stop anybody.

use super::Grades;

/// Messages by what became of them, summed over prepared mailboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageTotals {
    /// Verified and right as they were.
    pub intact: u64,
    /// Bytes replaced from the snapshot.
    pub repaired: u64,
    /// Lost on the live side and brought back.
    pub returned: u64,
    /// Newer than the snapshot, good, kept.
    pub newer: u64,
    /// Deleted by their owner after the snapshot; the deletion was honoured.
    pub deleted: u64,
    /// Beyond repair, bytes kept aside.
    pub set_aside: u64,
    /// Known by name only; no side holds any bytes.
    pub lost: u64,
    /// Bytes read while verifying.
    pub bytes_read: u64,
    /// Decisions without proof, and odd things found.
    pub doubts: u64,
    /// The mailboxes that these messages are of, by how well each came back.
    pub grades: Grades,
}

impl MessageTotals {
    /// The sum of both, as far as numbers go: what a worker tells must not stop anybody.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            intact: self.intact.saturating_add(other.intact),
            repaired: self.repaired.saturating_add(other.repaired),
            returned: self.returned.saturating_add(other.returned),
            newer: self.newer.saturating_add(other.newer),
            deleted: self.deleted.saturating_add(other.deleted),
            set_aside: self.set_aside.saturating_add(other.set_aside),
            lost: self.lost.saturating_add(other.lost),
            bytes_read: self.bytes_read.saturating_add(other.bytes_read),
            doubts: self.doubts.saturating_add(other.doubts),
            grades: self.grades.plus(other.grades),
        }
    }

    /// What is left of these without `part` of them.
    #[must_use]
    pub fn minus(self, part: Self) -> Self {
        Self {
            intact: self.intact.saturating_sub(part.intact),
            repaired: self.repaired.saturating_sub(part.repaired),
            returned: self.returned.saturating_sub(part.returned),
            newer: self.newer.saturating_sub(part.newer),
            deleted: self.deleted.saturating_sub(part.deleted),
            set_aside: self.set_aside.saturating_sub(part.set_aside),
            lost: self.lost.saturating_sub(part.lost),
            bytes_read: self.bytes_read.saturating_sub(part.bytes_read),
            doubts: self.doubts.saturating_sub(part.doubts),
            grades: self.grades.minus(part.grades),
        }
    }

    /// Messages served after restoring.
    pub fn served(self) -> u64 {
        [self.repaired, self.returned, self.newer]
            .into_iter()
            .fold(self.intact, u64::saturating_add)
    }
}
