//! Planted: bugs put back on purpose, so that the simulator can show that it finds them.
//!
//! # Invariants
//!
//! * Without the feature `planted`, which only tests enable, no bug is ever in force and the
//!   questions about it compile to nothing.
//! * A thread has at most one bug at a time.

/// A bug that can be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Time is read from the wall clock.
    WallClock,
}

/// Whether `bug` is in force on this thread.
#[cfg(not(feature = "planted"))]
#[inline]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use chosen::{is, plant};

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether `bug` is in force on this thread.
    #[inline]
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Puts a bug in force on this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }
}
