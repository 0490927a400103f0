//! The steady clock: the wall clock taken once, then the time since boot added.
//!
//! # Invariants
//!
//! * It never goes back while the program runs, whatever is done to the wall clock.
//! * It goes on while the machine sleeps: a lease ends on time on a suspended machine too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tidegate_core::time::Timestamp;

/// A clock that leases and soaks are measured by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Duration,
    since: Duration,
}

impl Clock {
    /// Starts from the wall clock.
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall, since: since_boot() }
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.wall + since_boot().saturating_sub(self.since);
        Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Time since the machine was started, sleep included.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_the_wall_clock_and_does_not_go_back() {
        let clock = Clock::start();

        let (first, second) = (clock.now(), clock.now());

        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        assert!(first <= second);
        assert!(u128::from(second.millis()).abs_diff(wall) < 1_000);
    }
}
