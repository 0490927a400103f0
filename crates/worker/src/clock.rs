//! The steady clock: the wall clock taken once, then monotonic time added.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_core::time::Timestamp;

/// A clock that never goes back while the program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Duration,
    since: Instant,
}

impl Clock {
    /// Starts from the wall clock.
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall, since: Instant::now() }
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.wall + self.since.elapsed();
        Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}
