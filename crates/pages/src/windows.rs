//! Windows: when a wave's mailboxes come back, in whole hours, as people are told.
//!
//! # Invariants
//!
//! * A window is a promise: it is as wide as the forecast's band and whole hours make it, never a
//!   minute.
//! * What the public page, the desk and a held user are told comes from the same windows.
//! * While nothing moves, nothing is promised.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use tidegate_core::time::Timestamp;
use tidegate_wire::v1;

use crate::texts::Texts;

/// An hour, in seconds.
const HOUR: i64 = 3_600;

/// From when to when something is expected, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// The earliest.
    pub from: i64,
    /// The latest.
    pub to: i64,
}

/// When mailboxes are back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// They are.
    Back,
    /// Within this window.
    Within(Window),
    /// Nobody can say yet.
    Unknown,
}

impl Turn {
    /// When each wave is back, in the order of their numbers.
    pub fn of_waves(rollout: &v1::Rollout) -> Vec<Self> {
        let mut turns = Vec::with_capacity(rollout.waves.len());
        let mut earliest = seconds!(rollout.at_time);
        for wave in &rollout.waves {
            turns.push(Self::of_wave(rollout, wave, earliest));
            let before = wave.finish.as_ref().and_then(|it| seconds!(it.p10_time));
            earliest = before.or(earliest);
        }
        turns
    }

    /// When all of these are back.
    pub fn of_all(turns: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::Back;
        for turn in turns {
            all = match (all, turn) {
                (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
                (Self::Back, other) | (other, Self::Back) => other,
                (Self::Within(one), Self::Within(other)) => {
                    let from = one.from.min(other.from);
                    Self::Within(Window { from, to: one.to.max(other.to) })
                }
            };
        }
        all
    }

    fn of_wave(rollout: &v1::Rollout, wave: &v1::Wave, earliest: Option<i64>) -> Self {
        if wave.state() == v1::WaveState::Passed {
            return Self::Back;
        }
        let held_back = wave.state() == v1::WaveState::HeldBack;
        if rollout.state() != v1::RolloutState::Running || held_back {
            return Self::Unknown;
        }
        let now = seconds!(rollout.at_time).unwrap_or_default();
        let told = wave.expected.as_ref().and_then(|it| {
            let from = seconds!(it.from_time)?;
            Some(Window { from, to: seconds!(it.to_time)? })
        });
        let band = wave.finish.as_ref().and_then(|it| {
            let p10 = seconds!(it.p10_time)?;
            Some(Window { from: p10, to: seconds!(it.p90_time)? })
        });
        let window = match (told, band) {
            // What was promised is kept as it was, unless it would not be held.
            (Some(told), Some(band)) => Window {
                from: if told.to < band.from { band.from } else { told.from },
                to: told.to.max(band.to),
            },
            (Some(told), None) => told,
            // Some of them are back as soon as the wave before lets it begin.
            (None, Some(band)) => {
                Window { from: earliest.unwrap_or(now).min(band.from), to: band.to }
            }
            (None, None) => return Self::Unknown,
        };
        if window.to <= now {
            return Self::Unknown;
        }
        Self::Within(Window { from: window.from.max(now), to: window.to }.whole_hours())
    }

    /// As people are told, by the clocks of `zone`; on the day of `today`, if they read it then.
    pub fn words(self, texts: &Texts, zone: &TimeZone, today: Option<i64>) -> String {
        match self {
            Self::Back => texts.say("turn-back"),
            Self::Unknown => texts.say("turn-unknown"),
            Self::Within(window) => window.words(texts, zone, today),
        }
    }
}

impl Window {
    /// The window with whole hours around it.
    #[must_use]
    pub fn whole_hours(self) -> Self {
        let from = self.from.div_euclid(HOUR) * HOUR;
        let to = (self.to + HOUR - 1).div_euclid(HOUR) * HOUR;
        Self { from, to: to.max(from + HOUR) }
    }

    fn words(self, texts: &Texts, zone: &TimeZone, today: Option<i64>) -> String {
        let (from, to) = (local(zone, self.from), local(zone, self.to));
        let today = today.map(|now| local(zone, now).date());
        // Midnight ends the day before.
        let last = local(zone, self.to - 1).date();
        let (begin, end) = (clock(from), clock(to));
        if from.date() == last {
            let day = day_word(texts, from.date(), today);
            return texts.say_with(
                "window-day",
                &[("day", &day), ("from", &begin), ("to", &end)],
            );
        }
        let (day1, day2) =
            (day_word(texts, from.date(), today), day_word(texts, to.date(), today));
        let variables =
            [("day1", &*day1), ("from", &begin), ("day2", &day2), ("to", &end)];
        texts.say_with("window-days", &variables)
    }
}

/// A moment as people are told: `26 gennaio, 07:10`.
pub fn moment(texts: &Texts, zone: &TimeZone, at: i64) -> String {
    moment_of(texts, local(zone, at))
}

/// A moment by any clock, as people are told.
pub(crate) fn moment_of(texts: &Texts, at: DateTime) -> String {
    let day = day_word(texts, at.date(), None);
    texts.say_with("moment", &[("day", &day), ("clock", &clock(at))])
}

/// An instant of the wire in seconds since 1970; nothing where there is none.
macro_rules! seconds {
    ($field:expr) => {
        $crate::windows::unix($field.as_ref().and_then(tidegate_wire::protocol::instant))
    };
}
pub(crate) use seconds;

/// In seconds since 1970.
pub(crate) fn unix(at: Option<Timestamp>) -> Option<i64> {
    i64::try_from(at?.millis() / 1_000).ok()
}

fn local(zone: &TimeZone, at: i64) -> DateTime {
    let at = jiff::Timestamp::from_second(at).unwrap_or_default();
    zone.to_datetime(at)
}

fn clock(at: DateTime) -> String {
    format!("{:02}:{:02}", at.hour(), at.minute())
}

/// `oggi`, `domani`, or `26 gennaio`.
fn day_word(texts: &Texts, day: Date, today: Option<Date>) -> String {
    if today == Some(day) {
        return texts.say("today");
    }
    if today.and_then(|it| it.tomorrow().ok()) == Some(day) {
        return texts.say("tomorrow");
    }
    let month = texts.say(&format!("month-{}", day.month()));
    texts.say_with("date", &[("day", &day.day().to_string()), ("month", &month)])
}
