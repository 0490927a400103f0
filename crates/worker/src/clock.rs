//! The steady clock: the wall clock taken once, then the time since boot added.
//!
//! # Invariants
//!
//! * It never goes back while the program runs, whatever is done to the wall clock.
//! * It goes on while the machine sleeps: a lease ends on time on a suspended machine too.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tidegate_core::planted::{self, Bug};
use tidegate_core::time::{Span, TimeSource, Timestamp};

/// A clock that leases and soaks are measured by.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    source: Arc<dyn TimeSource>,
    wall: Timestamp,
    since: Span,
}

impl Clock {
    /// Starts from the wall clock.
    pub(crate) fn start() -> Self {
        Self::of(Arc::new(Machine))
    }

    /// The same on another source than this machine.
    pub(crate) fn of(source: Arc<dyn TimeSource>) -> Self {
        Self { wall: source.wall(), since: source.since_boot(), source }
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        if planted::is(Bug::WallClock) {
            return self.source.wall();
        }
        let (now, since) = (self.source.since_boot(), self.since);
        self.wall + Span::from_millis(now.millis().saturating_sub(since.millis()))
    }
}

/// The machine this runs on.
#[derive(Debug)]
struct Machine;

impl TimeSource for Machine {
    /// Time since the machine was started, sleep included.
    fn since_boot(&self) -> Span {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
        Span::from_millis(seconds * 1_000 + nanos / 1_000_000)
    }

    fn wall(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
    }
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

    /// What a machine that slept for a day has: the time since boot is ahead of the time that
    /// it was awake.
    #[test]
    #[expect(clippy::print_stderr, reason = "the other process tells by it")]
    fn it_counts_the_time_that_the_machine_sleeps() {
        const TELL: &str = "TIDEGATE_TELL_BOOT_TIME";
        const DAY: u64 = 24 * 3_600 * 1_000;
        if std::env::var_os(TELL).is_some() {
            return eprintln!("since boot: {}", Machine.since_boot().millis());
        }
        let slept = std::process::Command::new("unshare")
            .args(["--fork", "--time", "--boottime", "86400"])
            .arg(std::env::current_exe().unwrap())
            .args(["it_counts_the_time_that_the_machine_sleeps", "--nocapture"])
            .env(TELL, "1")
            .output();
        let here = Machine.since_boot().millis();
        let said = slept.map(|it| String::from_utf8_lossy(&it.stderr).into_owned());
        let said = said.unwrap_or_default();
        let line = said.lines().find_map(|line| line.strip_prefix("since boot: "));
        let Some(there) = line.and_then(|line| line.parse::<u64>().ok()) else {
            return eprintln!("skipped: this machine pretends no sleep: {said}");
        };

        assert!(there + 3_600_000 > here + DAY, "{there} there, {here} here");
    }
}
