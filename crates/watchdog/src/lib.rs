//! Tells whoever supervises a program how it is: systemd, in the protocol of `sd_notify(3)`.
//!
//! # Invariants
//!
//! * The watchdog is fed by the loop that does the work, from within: when that stands still, so
//!   does the feeding, and the program is started again.
//! * Without a supervisor nothing is done, and a supervisor that does not listen hinders nobody.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Where the supervisor listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Feeding comes so many times within the time that the supervisor allows, so that one long turn
/// of the loop is no reason to end it.
const MEALS: u32 = 3;

/// What the program is doing is told this often, for `systemctl status`.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// How often somebody has asked how the program is.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Somebody asks how the program is: each of its loops says so in the log, at its next turn.
pub fn ask() {
    ASKED.fetch_add(1, Ordering::Relaxed);
}

/// The watchdog of one loop.
#[derive(Debug)]
pub struct Watchdog {
    /// How often it is fed; nothing where nobody supervises.
    every: Option<Duration>,
    /// Whether it must be fed, besides being told.
    bites: bool,
    fed: Option<Instant>,
    /// Of [`ask`], what was answered. A loop that begins after somebody has asked answers, too.
    answered: u64,
}

impl Watchdog {
    /// The one that the environment asks for: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` for this
    /// process.
    pub fn from_environment() -> Self {
        let allowed = sd_notify::watchdog_enabled();
        let supervised = env::var_os(SOCKET).is_some();
        Self {
            every: supervised.then(|| every(allowed)),
            bites: allowed.is_some(),
            fed: None,
            answered: 0,
        }
    }

    /// Whether somebody has asked since this was called last.
    pub fn was_asked(&mut self) -> bool {
        let asked = ASKED.load(Ordering::Relaxed);
        std::mem::replace(&mut self.answered, asked) != asked
    }

    /// Feeds it if it is time, and says what the program is doing. Costs nothing otherwise.
    pub fn feed(&mut self, status: impl FnOnce() -> String) {
        let Some(every) = self.every else { return };
        let now = Instant::now();
        if self.fed.is_some_and(|fed| now.duration_since(fed) < every) {
            return;
        }
        self.fed = Some(now);
        let status = status();
        let said = NotifyState::Status(&status);
        if self.bites {
            tell(&[NotifyState::Watchdog, said]);
        } else {
            tell(&[said]);
        }
    }
}

/// The program serves now; what it needs to start has been read and found right.
pub fn ready() {
    if env::var_os(SOCKET).is_some() {
        tell(&[NotifyState::Ready]);
    }
}

/// The program has begun to end.
pub fn stopping() {
    if env::var_os(SOCKET).is_some() {
        tell(&[NotifyState::Stopping]);
    }
}

fn every(allowed: Option<Duration>) -> Duration {
    allowed.map_or(STATUS_EVERY, |allowed| STATUS_EVERY.min(allowed / MEALS))
}

fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::debug!(%error, "the supervisor does not listen");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_several_times_within_what_is_allowed() {
        assert_eq!(every(Some(Duration::from_secs(3))), Duration::from_secs(1));
        assert_eq!(every(Some(Duration::from_mins(1))), STATUS_EVERY);
        assert_eq!(every(None), STATUS_EVERY);
    }

    #[test]
    fn without_a_supervisor_nobody_asks_for_a_status() {
        let mut watchdog = Watchdog { every: None, bites: false, fed: None, answered: 0 };

        watchdog.feed(|| unreachable!("nobody supervises"));
    }

    #[test]
    fn each_loop_answers_once_when_somebody_asks() {
        let [mut one, mut other] = [(); 2].map(|()| Watchdog::from_environment());
        assert!(!one.was_asked());

        ask();

        assert!(one.was_asked() && other.was_asked());
        assert!(
            Watchdog::from_environment().was_asked(),
            "whoever begins later answers, too"
        );
        assert!(!one.was_asked() && !other.was_asked());
    }

    #[test]
    fn it_is_not_fed_more_often_than_needed() {
        let every = Some(Duration::from_mins(1));
        let mut watchdog = Watchdog { every, bites: false, fed: None, answered: 0 };
        let mut asked = 0;

        for _ in 0..10 {
            watchdog.feed(|| {
                asked += 1;
                String::new()
            });
        }

        assert_eq!(asked, 1);
    }
}
