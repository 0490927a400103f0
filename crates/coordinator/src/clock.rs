//! The clock: the wall clock once, monotonic time from then on.
//!
//! # Invariants
//!
//! * Within one run it never goes back, whatever is done to the wall clock.
//! * It never starts before the newest record that was replayed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::planted::{self, Bug};
use tidegate_core::time::{Span, TimeSource, Timestamp};

/// Tells the time of decisions and records.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    source: Arc<dyn TimeSource>,
    began_at: Timestamp,
    began: Span,
}

impl Clock {
    /// A clock that reads the wall clock now.
    pub(crate) fn start() -> Self {
        Self::of(Arc::new(Machine(Instant::now())))
    }

    /// The same on another source than this machine.
    pub(crate) fn of(source: Arc<dyn TimeSource>) -> Self {
        Self { began_at: source.wall(), began: source.since_boot(), source }
    }

    /// The same clock, put forward if it shows less than `at`.
    #[must_use]
    pub(crate) fn not_before(self, at: Timestamp) -> Self {
        let behind = at.since(self.now());
        Self { began_at: self.began_at + behind, ..self }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        if planted::is(Bug::WallClock) {
            return self.source.wall();
        }
        let (now, began) = (self.source.since_boot(), self.began);
        self.began_at + Span::from_millis(now.millis().saturating_sub(began.millis()))
    }
}

/// The machine this runs on.
#[derive(Debug)]
struct Machine(Instant);

impl TimeSource for Machine {
    fn since_boot(&self) -> Span {
        Span::from_millis(millis(self.0.elapsed()))
    }

    fn wall(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(millis(wall))
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

        let moved = clock.clone().not_before(recorded);

        assert!(moved.now() >= recorded);
        assert!(clock.not_before(Timestamp::default()).now() < recorded);
    }
}
