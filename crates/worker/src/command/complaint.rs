//! Complaints: what the log hears of a mail system's program.
//!
//! # Invariants
//!
//! * No address and no path of a call gets into the log.
//! * Calls are made again every few seconds; what they say again is not logged again so soon.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Asked;
use super::contract::{Nonsense, Verb};
use super::run::{CallError, Said};

/// The same is told again after this long.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Lines that go to the log, of one call.
const LINES_MAX: usize = 20;

/// Characters of such a line.
const CHARS_MAX: usize = 300;

/// Why a call's answers do not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the program asks to be called again later")]
    Later,
    #[error("the program says that the mail system cannot be reached")]
    Unavailable,
    #[error("the program ended with {0}")]
    Ended(String),
    #[error("the program breaks the contract: {0}")]
    Nonsense(#[from] Nonsense),
    #[error("the program was not heard to the end")]
    Call(#[from] CallError),
    #[error("the lease has run out")]
    LeaseOver,
    #[error("the worker stops")]
    Stopping,
}

/// What was told last of each verb, and when.
#[derive(Debug, Default)]
pub(crate) struct Complaints(Mutex<BTreeMap<(Verb, Kind), (String, Instant)>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Trouble,
    Said,
}

impl Complaints {
    /// Says what kept a call from counting.
    pub(crate) fn trouble(&self, verb: Verb, mailboxes: usize, trouble: &Trouble) {
        let mut reason = trouble.to_string();
        let mut cause = trouble.source();
        while let Some(error) = cause {
            // Writing to a string cannot fail.
            let _ = write!(reason, ": {error}");
            cause = error.source();
        }
        if !self.is_news(verb, Kind::Trouble, &reason) {
            return;
        }
        let verb = verb.name();
        match trouble {
            Trouble::LeaseOver
            | Trouble::Stopping
            | Trouble::Call(CallError::Stopped { .. }) => {
                tracing::debug!(verb, reason, "a call was given up");
            }
            Trouble::Later | Trouble::Unavailable => {
                let action = "none: they are tried again";
                tracing::warn!(verb, mailboxes, reason, action, "mailboxes must wait");
            }
            Trouble::Ended(_) | Trouble::Nonsense(_) | Trouble::Call(_) => {
                let action =
                    "mend the program in [store]; until then its mailboxes stand still";
                let what = "the mail system's program is broken";
                tracing::error!(verb, mailboxes, reason, action, "{what}");
            }
        }
    }

    /// Says what a program wrote to stderr.
    pub(crate) fn said(&self, verb: Verb, said: &Said, asked: &[Asked<'_>]) {
        let text = String::from_utf8_lossy(&said.complaint);
        if text.trim().is_empty() || !self.is_news(verb, Kind::Said, &text) {
            return;
        }
        let verb = verb.name();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        for line in lines.take(LINES_MAX) {
            let line = unnamed(line, asked);
            if said.status.success() {
                tracing::info!(verb, line, "the mail system's program says");
            } else {
                tracing::warn!(verb, line, "the mail system's program says");
            }
        }
    }

    /// A call went well: the next trouble is news.
    pub(crate) fn forget(&self, verb: Verb) {
        self.told().remove(&(verb, Kind::Trouble));
    }

    fn is_news(&self, verb: Verb, kind: Kind, text: &str) -> bool {
        let now = Instant::now();
        let mut told = self.told();
        let known = told.get(&(verb, kind)).is_some_and(|(known, at)| {
            known == text && now.duration_since(*at) < TELL_AGAIN_AFTER
        });
        if !known {
            told.insert((verb, kind), (text.to_owned(), now));
        }
        !known
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<(Verb, Kind), (String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `line` with keys in place of the mailboxes that a call was about, and without anything
/// else that looks like an address.
pub(crate) fn unnamed(line: &str, asked: &[Asked<'_>]) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = line.chars().map(printable).collect();
    for (_, mailbox) in asked {
        let name = format!("mailbox {}", mailbox.key);
        let path = String::from_utf8_lossy(&mailbox.path);
        for known in [mailbox.address.as_str(), &*path] {
            if !known.is_empty() {
                line = line.replace(known, &name);
            }
        }
    }
    let words = line.split(' ').map(|word| if word.contains('@') { "…" } else { word });
    let unnamed = words.collect::<Vec<_>>().join(" ");
    unnamed.chars().take(CHARS_MAX).collect()
}
