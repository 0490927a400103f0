//! The line of time: what each wave has done and when it will be done, as bars.
//!
//! # Invariants
//!
//! * All waves share one line; now is on it.

use tidegate_wire::v1;

use super::super::story::Stay;
use crate::windows::seconds;

/// The width of the whole line in a bar's units.
const WIDTH: i64 = 1_000;

/// The narrowest bar that is seen.
const SEEN_MIN: i64 = 6;

/// A part of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operations) struct Bar {
    /// Of what kind, as the stylesheet names it.
    pub(in crate::operations) kind: &'static str,
    /// Where it begins.
    pub(in crate::operations) x: i64,
    /// How wide it is.
    pub(in crate::operations) width: i64,
}

/// The line of a rollout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    from: i64,
    to: i64,
    now: i64,
}

impl Line {
    /// From the rollout's start to the last forecast.
    pub(super) fn of(rollout: &v1::Rollout, now: i64) -> Self {
        let from = seconds!(rollout.start_time).unwrap_or(now).min(now);
        let ends = rollout.waves.iter().filter_map(|wave| wave.finish.as_ref());
        let last = ends.filter_map(|it| seconds!(it.p90_time)).max().unwrap_or(now);
        Self { from, to: last.max(now).max(from + 60), now }
    }

    /// Its beginning.
    pub(super) const fn from(&self) -> i64 {
        self.from
    }

    /// Its end.
    pub(super) const fn to(&self) -> i64 {
        self.to
    }

    /// What there is of one wave, which has gone on for `stay` as far as its story is known.
    pub(super) fn bars(&self, wave: &v1::Wave, stay: Option<&Stay>) -> Vec<Bar> {
        let mut bars = Vec::new();
        let passed = wave.state() == v1::WaveState::Passed;
        if let Some(since) = seconds!(wave.allowed_time) {
            let kind = if passed { "passed" } else { "opening" };
            let from = stay.map_or(since, |it| it.from.min(since));
            let end = if passed { stay.map_or(since, |it| it.to) } else { self.now };
            bars.push(self.bar(kind, from, end));
        }
        if let Some(finish) = wave.finish.as_ref()
            && let Some(p10) = seconds!(finish.p10_time)
            && let Some(p90) = seconds!(finish.p90_time)
        {
            bars.push(self.bar("forecast", p10, p90));
            if let Some(p50) = seconds!(finish.p50_time) {
                bars.push(self.bar("middle", p50, p50));
            }
        }
        bars.push(self.bar("now", self.now, self.now));
        bars
    }

    fn bar(&self, kind: &'static str, from: i64, to: i64) -> Bar {
        let place = |at: i64| {
            let at = at.clamp(self.from, self.to);
            (at - self.from) * WIDTH / (self.to - self.from).max(1)
        };
        let x = place(from).min(WIDTH - SEEN_MIN);
        Bar { kind, x, width: (place(to) - x).max(SEEN_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_never_leaves_the_line_and_is_always_seen() {
        let line = Line { from: 0, to: 100, now: 50 };

        let bars = [
            line.bar("now", 50, 50),
            line.bar("now", 100, 100),
            line.bar("forecast", -5, 900),
        ];

        assert_eq!(bars.map(|bar| (bar.x, bar.width)), [(500, 6), (994, 6), (0, 1_000)]);
    }
}
