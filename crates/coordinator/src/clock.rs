//! The clock: the wall clock once, monotonic time from then on.
//!
//! # Invariants
//!
//! * Within one run it never goes back, whatever is done to the wall clock.
//! * It never starts before the newest record that was replayed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::time::{Span, Timestamp};

/// Tells the time of decisions and records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began_at: Timestamp,
    began: Instant,
}

impl Clock {
    /// A clock that reads the wall clock now.
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began_at: Timestamp::from_millis(millis(wall)), began: Instant::now() }
    }

    /// The same clock, put forward if it shows less than `at`.
    #[must_use]
    pub(crate) fn not_before(self, at: Timestamp) -> Self {
        let behind = at.since(self.now());
        Self { began_at: self.began_at + behind, ..self }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        self.began_at + Span::from_millis(millis(self.began.elapsed()))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_never_behind_what_was_recorded() {
        let clock = Clock::start();
        let recorded = clock.now() + Span::from_secs(3_600);

        let moved = clock.not_before(recorded);

        assert!(moved.now() >= recorded);
        assert!(clock.not_before(Timestamp::default()).now() < recorded);
    }
}
