//! The clock of a program: the wall clock once, the time since boot added from then on.
//!
//! Leases, soaks and records go by it.
//!
//! # Invariants
//!
//! * Within one run it never goes back, whatever is done to the wall clock.
//! * Put forward to the newest record that was replayed, it never shows less.
//! * It goes on while the machine sleeps: what was heard before is as old as it is, and a lease
//!   ends on time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tidegate_core::planted::{self, Bug};
use tidegate_core::time::{Span, TimeSource, Timestamp};

/// Tells the time of decisions and records.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<dyn TimeSource>,
    began_at: Timestamp,
    began: Span,
}

impl Clock {
    /// A clock that reads the wall clock now.
    pub fn start() -> Self {
        Self::of(Arc::new(Machine))
    }

    /// The same on another source than this machine.
    pub fn of(source: Arc<dyn TimeSource>) -> Self {
        Self { began_at: source.wall(), began: source.since_boot(), source }
    }

    /// The same clock, put forward if it shows less than `at`.
    #[must_use]
    pub fn not_before(self, at: Timestamp) -> Self {
        let behind = at.since(self.now());
        Self { began_at: self.began_at + behind, ..self }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        if planted::is(Bug::WallClock) {
            return self.source.wall();
        }
        let (now, began) = (self.source.since_boot(), self.began);
        self.began_at + Span::from_millis(now.millis().saturating_sub(began.millis()))
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
    fn it_starts_at_the_wall_clock_and_does_not_go_back() {
        let clock = Clock::start();

        let (first, second) = (clock.now(), clock.now());

        let wall = millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert!(first <= second);
        assert!(second.millis().abs_diff(wall) < 1_000);
    }

    #[test]
    fn the_clock_is_never_behind_what_was_recorded() {
        let clock = Clock::start();
        let recorded = clock.now() + Span::from_secs(3_600);

        let moved = clock.clone().not_before(recorded);

        assert!(moved.now() >= recorded);
        assert!(clock.not_before(Timestamp::default()).now() < recorded);
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
