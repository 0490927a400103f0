//! Instants, time zones and languages, as people write them in files.
//!
//! # Invariants
//!
//! * An instant is never read without its distance from UTC: it would mean another one on
//!   another machine.
//! * A time zone is one that this program knows.

use serde::de::{Deserialize, Deserializer, Error};
use tidegate_core::policy::Language;
use tidegate_core::time::Timestamp;

/// An instant: `"2026-01-25T08:00+01:00"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct InstantText(pub(super) Timestamp);

/// A language in which users can be told: `"it"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LanguageText(pub(super) Language);

/// A time zone: `"Europe/Rome"`.
#[derive(Clone, Debug)]
pub(super) struct ZoneText(pub(super) String);

fn instant(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.trim().parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

impl<'de> Deserialize<'de> for InstantText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let expected = "an instant such as \"2026-01-25T08:00+01:00\"";
        let wrong = || D::Error::custom(format!("`{text}` is not {expected}"));
        instant(&text).map(Self).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for LanguageText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let known = Language::ALL.map(|language| format!("`{language}`")).join(" and ");
        let wrong = || {
            D::Error::custom(format!("there are no texts in `{text}`, only in {known}"))
        };
        Language::of_tag(&text).map(Self).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for ZoneText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if jiff::tz::TimeZone::get(&text).is_err() {
            let wrong = format!("`{text}` is not a time zone such as \"Europe/Rome\"");
            return Err(D::Error::custom(wrong));
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_says_where_it_is_meant() {
        let millis = |text| instant(text).map(Timestamp::millis);

        let eight = Some(1_769_324_400_000);
        assert_eq!(millis("2026-01-25T08:00+01:00"), eight);
        assert_eq!(millis("2026-01-25 08:00:00+01:00"), eight);
        assert_eq!(millis("2026-01-25T07:00Z"), eight);
        for wrong in
            ["", "2026-01-25T08:00", "08:00", "2026-13-25T08:00Z", "1969-01-01T00:00Z"]
        {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
    }
}
