//! Notice: in which language held users are told to wait, and until when.
//!
//! # Invariants
//!
//! * The slices of a window cover it without gaps, in the order of the waves.
//! * A slice is rounded outwards, so that it never promises more than the window did.

use std::fmt;

use crate::time::Timestamp;

/// How held users are told to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The language of users of whom no other is known.
    pub language: Language,
    /// The label of a mailbox that says its owner's language.
    pub language_label: String,
    /// The time zone in which windows are told, as `Europe/Rome`.
    pub zone: String,
}

/// A language in which users can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Language {
    /// `en`
    #[default]
    English,
    /// `it`
    Italian,
}

/// When mailboxes are expected back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The earliest.
    pub from: Timestamp,
    /// The latest.
    pub to: Timestamp,
}

/// People are told quarters of an hour; more would only look exact.
const QUARTER_MILLIS: u64 = 15 * 60 * 1_000;

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Italian];

    /// Its code.
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Italian => "it",
        }
    }

    /// The language of a tag such as `it`, `IT` or `it-CH`, if it is one of these.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let code = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| code.eq_ignore_ascii_case(language.code()))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Default for Notice {
    fn default() -> Self {
        Self {
            language: Language::default(),
            language_label: "language".to_owned(),
            zone: "UTC".to_owned(),
        }
    }
}

impl Window {
    /// The part for `size` mailboxes of `all`, after `before` others; in quarters of an hour.
    #[must_use]
    pub fn slice(self, before: u32, size: u32, all: u32) -> Self {
        let length = u128::from(self.to.since(self.from).millis());
        let at = |mailboxes: u32| {
            let part = length * u128::from(mailboxes) / u128::from(all.max(1));
            self.from.millis().saturating_add(u64::try_from(part).unwrap_or(u64::MAX))
        };
        let from = at(before) / QUARTER_MILLIS * QUARTER_MILLIS;
        let end = at(before.saturating_add(size).min(all));
        let to = end.div_ceil(QUARTER_MILLIS).saturating_mul(QUARTER_MILLIS);
        Self { from: Timestamp::from_millis(from), to: Timestamp::from_millis(to) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn a_window_is_divided_by_mailboxes_and_rounded_outwards() {
        let from = Timestamp::from_millis(1_769_324_400_000);
        let hours = |hours: u64| from + Span::from_secs(hours * 3_600);
        let minutes = |minutes: u64| from + Span::from_secs(minutes * 60);
        let window = Window { from, to: hours(10) };

        let slices = [(0, 100), (100, 300), (400, 600)]
            .map(|(before, size)| window.slice(before, size, 1_000));
        let odd = window.slice(1, 1, 1_000);

        assert_eq!(slices[0], Window { from, to: hours(1) });
        assert_eq!(slices[1], Window { from: hours(1), to: hours(4) });
        assert_eq!(slices[2], Window { from: hours(4), to: hours(10) });
        assert_eq!(odd, Window { from, to: minutes(15) });
    }

    #[test]
    fn a_language_is_known_by_any_of_its_tags() {
        let tags =
            ["it", "IT", "it-CH", " it_IT", "en-GB", "fr", ""].map(Language::of_tag);

        let (it, en) = (Some(Language::Italian), Some(Language::English));
        assert_eq!(tags, [it, it, it, it, en, None, None]);
    }
}
