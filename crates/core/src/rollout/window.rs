//! Windows: where counts that only rise stood some time ago.
//!
//! # Invariants
//!
//! * What was counted before the window began, or before it was first heard of, is not in it.
//! * A window remembers a bounded number of stands, however often it is told.

use std::collections::VecDeque;

use crate::gate::{Bound, ExternalEvidence, Pulses, ShortName};
use crate::time::{Span, Timestamp};

/// Stands remembered of one window; it begins at most so much of its length too early.
const STANDS: u64 = 30;

/// Where counts stood, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Window<T> {
    stands: VecDeque<(Timestamp, T)>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { stands: VecDeque::new() }
    }
}

impl<T: Copy> Window<T> {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.stands.clear();
    }

    /// Remembers that the counts stand at `now` where `stand` says.
    pub(super) fn note(&mut self, stand: T, now: Timestamp, length: Span) {
        let step = length.millis() / STANDS;
        let newest = self.stands.back().map(|(at, _)| *at);
        if newest.is_none_or(|at| now.since(at).millis() >= step) {
            self.stands.push_back((now, stand));
        }
        let begin = now - length;
        while self.stands.get(1).is_some_and(|(at, _)| *at <= begin) {
            self.stands.pop_front();
        }
    }

    /// The oldest and the newest stand.
    pub(super) fn ends(&self) -> Option<((Timestamp, T), (Timestamp, T))> {
        Some((*self.stands.front()?, *self.stands.back()?))
    }

    /// Where the counts stood at `from`, or when they were first heard of.
    pub(super) fn at(&self, from: Timestamp) -> Option<T> {
        let before = self.stands.iter().rev().find(|(at, _)| *at <= from);
        before.or(self.stands.front()).map(|(_, stand)| *stand)
    }
}

impl Window<Pulses> {
    /// What has been shown since `from`, if it stands at `newest` now.
    pub(super) fn since(&self, from: Timestamp, newest: &Pulses) -> Pulses {
        let stood = self.at(from).unwrap_or(*newest);
        newest.since(&stood)
    }
}

/// What the answers to one question have said since this program started.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// Whose.
    name: ShortName,
    /// Which are good.
    bound: Bound,
    /// All of them, and the bad ones.
    counts: (u32, u32),
    /// The newest.
    latest: i64,
    answered_at: Option<Timestamp>,
    window: Window<(u32, u32)>,
}

impl Answers {
    /// None yet.
    pub(super) fn none(name: ShortName, bound: Bound) -> Self {
        let window = Window::default();
        Self { name, bound, counts: (0, 0), latest: 0, answered_at: None, window }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Self::none(self.name, self.bound);
    }

    /// Whose answers they are.
    pub(super) fn name(&self) -> ShortName {
        self.name
    }

    /// Counts one more.
    pub(super) fn hear(&mut self, answer: i64, now: Timestamp, length: Span) {
        self.window.note(self.counts, now, length);
        let bad = u32::from(self.bound.is_broken_by(answer));
        let (answers, answers_bad) = self.counts;
        self.counts = (answers.saturating_add(1), answers_bad.saturating_add(bad));
        self.latest = answer;
        self.answered_at = Some(now);
    }

    /// What they have said since `from`.
    pub(super) fn since(&self, from: Timestamp) -> ExternalEvidence {
        let (answers, bad) = self.counts;
        let (answers_then, bad_then) = self.window.at(from).unwrap_or_default();
        ExternalEvidence {
            name: self.name,
            answers: answers.saturating_sub(answers_then),
            answers_bad: bad.saturating_sub(bad_then),
            latest: self.latest,
            answered_at: self.answered_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Span = Span::from_secs(30 * 60);

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000) + Span::from_secs(minutes * 60)
    }

    #[test]
    fn what_was_counted_before_is_not_in_the_window() {
        let mut window = Window::default();
        for minute in 0..120_u32 {
            window.note(minute, at(u64::from(minute)), WINDOW);
        }

        assert!(window.stands.len() < 35);
        assert_eq!(window.at(at(100)), Some(100));
        assert_eq!(window.at(at(10)), Some(89));
    }

    #[test]
    fn a_late_listener_counts_from_when_it_first_heard() {
        let mut window = Window::default();
        window.note(500, at(50), WINDOW);
        window.note(510, at(60), WINDOW);

        assert_eq!(window.at(at(0)), Some(500));
    }

    #[test]
    fn answers_are_counted_from_where_the_wave_began() {
        let name = ShortName::new("auth-db").unwrap();
        let mut answers = Answers::none(name, Bound::Max(1_000_000));
        for minute in 0..60 {
            let answer = if minute < 45 { 2_000_000 } else { 500_000 };
            answers.hear(answer, at(minute), WINDOW);
        }

        let said = answers.since(at(50));

        assert_eq!((said.answers, said.answers_bad, said.latest), (10, 0, 500_000));
        assert_eq!(said.answered_at, Some(at(59)));
    }
}
