//! The calendar of a policy file: windows by the clocks of a place, worked out into instants.
//!
//! # Invariants
//!
//! * An hour that the clocks leave out begins when they go on; one that they have twice counts the
//!   first time: a window is never longer than its hours say.
//! * Nothing is read from a clock: windows are worked out for the years that this program is for.

use jiff::civil::{Date, Time, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{Span as Days, Timestamp as Instant};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use tidegate_core::policy::Window;
use tidegate_core::policy::calendar::{AtEnd, Bearing, Rule};
use tidegate_core::time::Timestamp;

use super::moments::{InstantText, ZoneText};
use super::units::Names;

/// The years for which windows are worked out.
const FIRST: Date = date(2025, 1, 1);
const LAST: Date = date(2040, 12, 31);

/// One rule of the calendar.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleKeys {
    name: String,
    #[serde(default)]
    cohort: Names,
    #[serde(default)]
    tier: Names,
    #[serde(default)]
    node: Names,
    zone: Option<ZoneText>,
    #[serde(default)]
    days: Vec<DayText>,
    hours: Option<HoursText>,
    frozen: Option<FrozenKeys>,
    at_end: Option<AtEndKey>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct FrozenKeys {
    from: InstantText,
    to: InstantText,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AtEndKey {
    Finish,
    Hold,
    Freeze,
}

/// A day of the week, or several: `"mon"`, `"sat"`.
struct DayText(Weekday);

/// Hours of a day: `"22:00 to 06:00"`.
struct HoursText {
    from: Time,
    to: Time,
}

impl RuleKeys {
    /// The rule; clocks are those of `zone` where it names none.
    pub(super) fn into_rule(self, zone: &str) -> Rule {
        let zone = self.zone.map_or_else(|| zone.to_owned(), |zone| zone.0);
        let at_end = match self.at_end {
            Some(AtEndKey::Finish) | None => AtEnd::Finish,
            Some(AtEndKey::Hold) => AtEnd::Hold,
            Some(AtEndKey::Freeze) => AtEnd::Freeze,
        };
        let days: Vec<Weekday> = self.days.into_iter().map(|day| day.0).collect();
        let (words, opens, spans) = match (self.hours, self.frozen) {
            (_, Some(FrozenKeys { from, to })) => {
                let (from, to) = (from.0, to.0);
                let words = format!("frozen {} {}", from.millis(), to.millis());
                (words, false, vec![Window { from, to }])
            }
            (Some(hours), None) => {
                let words = hours.words(&zone, &days);
                (words, true, hours.work_out(&zone, &days))
            }
            // Whole days by the clocks of the zone.
            (None, None) => {
                let midnight = HoursText { from: Time::midnight(), to: Time::midnight() };
                let words = midnight.words(&zone, &days);
                (words, true, midnight.work_out(&zone, &days))
            }
        };
        let bearing =
            Bearing { cohorts: self.cohort.0, tiers: self.tier.0, nodes: self.node.0 };
        Rule { name: self.name, bearing, words, opens, at_end, spans }
    }
}

impl HoursText {
    fn words(&self, zone: &str, days: &[Weekday]) -> String {
        let days: Vec<String> =
            days.iter().map(|day| day.to_monday_one_offset().to_string()).collect();
        format!("hours {} {} {zone} {}", self.from, self.to, days.join(" "))
    }

    /// The instants that they mean, those that touch joined.
    fn work_out(&self, zone: &str, days: &[Weekday]) -> Vec<Window> {
        let Ok(zone) = TimeZone::get(zone) else { return Vec::new() };
        let mut spans: Vec<Window> = Vec::new();
        let mut day = FIRST;
        while day <= LAST {
            let next = day.saturating_add(Days::new().days(1));
            if days.is_empty() || days.contains(&day.weekday()) {
                let ends = if self.to <= self.from { next } else { day };
                let from = instant(day, self.from, &zone);
                let to = instant(ends, self.to, &zone);
                match spans.last_mut().filter(|last| last.to >= from) {
                    Some(last) => last.to = last.to.max(to),
                    // An hour that the clocks left out.
                    None if to <= from => {}
                    None => spans.push(Window { from, to }),
                }
            }
            day = next;
        }
        spans
    }
}

/// When the clocks of `zone` show this: the first time, or when they go on behind it.
fn instant(day: Date, time: Time, zone: &TimeZone) -> Timestamp {
    let at = zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible();
    let millis = at.unwrap_or(Instant::UNIX_EPOCH).as_millisecond();
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

impl<'de> Deserialize<'de> for DayText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let day = match text.trim().to_lowercase().as_str() {
            "mon" => Weekday::Monday,
            "tue" => Weekday::Tuesday,
            "wed" => Weekday::Wednesday,
            "thu" => Weekday::Thursday,
            "fri" => Weekday::Friday,
            "sat" => Weekday::Saturday,
            "sun" => Weekday::Sunday,
            _ => {
                let wrong = format!("`{text}` is not a day such as \"mon\"");
                return Err(D::Error::custom(wrong));
            }
        };
        Ok(Self(day))
    }
}

impl<'de> Deserialize<'de> for HoursText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || {
            D::Error::custom(format!("`{text}` is not hours such as \"22:00 to 06:00\""))
        };
        let (begin, end) = text.split_once(" to ").ok_or_else(wrong)?;
        let time = |text: &str| match text.trim() {
            "24:00" => Some(Time::midnight()),
            text => Time::strptime("%H:%M", text).ok(),
        };
        let (from, to) = time(begin).zip(time(end)).ok_or_else(wrong)?;
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_follows_the_clocks_of_its_zone_through_both_changes() {
        let night = hours("22:00", "06:00");

        // The night of 2026-03-28 has an hour less, that of 2026-10-24 an hour more.
        let spring = around(&night, "2026-03-28T23:00:00Z", &[]);
        let summer = around(&night, "2026-07-01T23:00:00Z", &[]);
        let autumn = around(&night, "2026-10-24T23:00:00Z", &[]);

        assert_eq!(spring, "2026-03-28T21:00:00Z to 2026-03-29T04:00:00Z");
        assert_eq!(summer, "2026-07-01T20:00:00Z to 2026-07-02T04:00:00Z");
        assert_eq!(autumn, "2026-10-24T20:00:00Z to 2026-10-25T05:00:00Z");
    }

    #[test]
    fn hours_that_the_clocks_leave_out_or_have_twice_make_no_window_longer() {
        let gap = hours("02:30", "04:00");
        let lost = hours("02:10", "02:50");
        let twice = hours("01:00", "02:30");

        assert_eq!(
            around(&gap, "2026-03-29T01:45:00Z", &[]),
            "2026-03-29T01:30:00Z to 2026-03-29T02:00:00Z"
        );
        assert_eq!(
            around(&lost, "2026-03-29T01:20:00Z", &[]),
            "2026-03-29T01:10:00Z to 2026-03-29T01:50:00Z"
        );
        assert_eq!(
            around(&twice, "2026-10-25T00:00:00Z", &[]),
            "2026-10-24T23:00:00Z to 2026-10-25T00:30:00Z"
        );
    }

    #[test]
    fn whole_days_join_and_only_the_named_ones_count() {
        let days = hours("00:00", "24:00");
        let weekend = [Weekday::Saturday, Weekday::Sunday];

        assert_eq!(
            around(&days, "2026-01-24T12:00:00Z", &weekend),
            "2026-01-23T23:00:00Z to 2026-01-25T23:00:00Z"
        );
        assert_eq!(days.work_out("Europe/Rome", &[]).len(), 1);
    }

    fn hours(from: &str, to: &str) -> HoursText {
        let time = |text: &str| match text {
            "24:00" => Time::midnight(),
            text => Time::strptime("%H:%M", text).unwrap(),
        };
        HoursText { from: time(from), to: time(to) }
    }

    /// The window of Rome in which `at` is.
    fn around(hours: &HoursText, at: &str, days: &[Weekday]) -> String {
        let millis = at.parse::<Instant>().unwrap().as_millisecond();
        let at = Timestamp::from_millis(u64::try_from(millis).unwrap());
        let spans = hours.work_out("Europe/Rome", days);
        let found = spans.iter().find(|span| span.from <= at && at < span.to).unwrap();
        let [from, to] = [found.from, found.to].map(|it| {
            Instant::from_millisecond(i64::try_from(it.millis()).unwrap()).unwrap()
        });
        format!("{from} to {to}")
    }
}
