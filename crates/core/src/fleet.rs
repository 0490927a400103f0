//! Numbers that name things: one type per kind, so that they cannot be mixed up.
//!
//! # Invariants
//!
//! * Numbers are dense and given by the plan: the same inventory and policy give the same.
//! * A [`Generation`] is issued once, ever; a later one is always higher.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// The thing with this number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The number as an index.
            pub fn index(self) -> usize {
                usize::try_from(self.0).unwrap_or(usize::MAX)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

number!(
    /// A mailbox of the inventory, in its canonical order: by node name, then address.
    MailboxNumber(u32),
    "mailbox "
);
number!(
    /// A storage node, in the order of the names.
    NodeNumber(u16),
    "node "
);
number!(
    /// A tier of the inventory, in the order of the names.
    TierNumber(u8),
    "tier "
);
number!(
    /// A cohort, in the order of the policy.
    CohortNumber(u16),
    "cohort "
);
number!(
    /// A wave, in the order in which waves open; counted over all cohorts.
    WaveNumber(u16),
    "wave "
);
number!(
    /// A job: one wave's mailboxes on one node, or a part of them.
    JobNumber(u32),
    "job "
);
number!(
    /// The place of a mailbox within its job.
    Ordinal(u16),
    "#"
);
number!(
    /// The fencing number of a lease.
    Generation(u64),
    "generation "
);
number!(
    /// One run of a worker program, chosen at random when it starts.
    Incarnation(u64),
    "incarnation "
);

impl Generation {
    /// The generation issued after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The highest number of a generation, an order or a report that anybody may tell of. A
/// thousand a second do not get there in a thousand years, and whatever is counted on from it
/// stays far below the end of its type.
pub const COUNT_MAX: u64 = 1 << 48;

/// The most mailboxes one job may have: their states fit one journal record and their
/// descriptions a few messages.
pub const JOB_MAILBOXES_MAX: u16 = 4_096;
