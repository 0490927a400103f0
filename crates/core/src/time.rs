//! Instants and spans as plain numbers; the clock itself is somebody else's.

use std::fmt;
use std::ops::{Add, Sub};

/// What shells make their clocks from: a machine, or a simulated one.
pub trait TimeSource: fmt::Debug + Send + Sync {
    /// Steady time: it never goes back, whatever is done to the wall clock.
    fn since_boot(&self) -> Span;

    /// What the wall clock shows. Wrong at times, and set at any time.
    fn wall(&self) -> Timestamp;
}

/// Milliseconds since the Unix epoch, as the shell's steady clock counts them.
///
/// The shell takes the wall clock once at start and adds monotonic time, so within one
/// run it never goes back. Decisions only compare instants of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The span since `earlier`, zero if that lies in the future.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;

    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// A span of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A span of `seconds` seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// Milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Span {
    /// As people say it: `250 ms`, `12 s`, `3 min 5 s`, `2 h 10 min`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0) => write!(f, "{} ms", self.0),
            (0, 0, s) => write!(f, "{s} s"),
            (0, m, 0) => write!(f, "{m} min"),
            (0, m, s) => write!(f, "{m} min {s} s"),
            (h, 0, _) => write!(f, "{h} h"),
            (h, m, _) => write!(f, "{h} h {m} min"),
        }
    }
}

/// An instant's minute as people read it: `2026-01-26 14:00 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinuteOf(pub Timestamp);

impl fmt::Display for MinuteOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.millis() / 60_000;
        let (year, month, day) = civil(minutes / 1_440);
        let (hour, minute) = (minutes / 60 % 24, minutes % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }
}

/// Year, month and day of the day `days` after 1970-01-01, in the Gregorian calendar.
///
/// Counts from a first of March, so that the leap day ends a year: Hinnant's algorithm.
fn civil(days: u64) -> (u64, u64, u64) {
    const FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    const FOUR_CENTURIES: u64 = 146_097;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let (era, of_era) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{MinuteOf, Span, Timestamp};

    #[test]
    fn a_minute_prints_with_its_day() {
        let shown = [0, 951_782_400, 1_709_251_199, 1_769_436_840, 4_102_444_800]
            .map(|secs| MinuteOf(Timestamp::from_millis(secs * 1_000)).to_string());

        let days = [
            "1970-01-01 00:00 UTC",
            "2000-02-29 00:00 UTC",
            "2024-02-29 23:59 UTC",
            "2026-01-26 14:14 UTC",
            "2100-01-01 00:00 UTC",
        ];
        assert_eq!(shown, days);
    }

    #[test]
    fn a_span_prints_as_people_say_it() {
        let shown = [250, 12_000, 60_000, 185_000, 7_800_000]
            .map(|millis| Span::from_millis(millis).to_string());

        assert_eq!(shown, ["250 ms", "12 s", "1 min", "3 min 5 s", "2 h 10 min"]);
    }
}
