//! Notice: what a user is told who may not come in yet, in his language.
//!
//! # Invariants
//!
//! * A text says that the wait is temporary and that the password is right: nobody shall be
//!   brought to change it.
//! * A window is shown only as long as it is not over, and only in a known time zone: a
//!   wrong promise is worse than none.
//! * Texts are printable ASCII without `"` and `\`. IMAP allows no more, and the mail
//!   server's script reads the JSON by a simple pattern.

use std::collections::HashMap;
use std::str::FromStr;

use hyper::body::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What one user is told beyond the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notice {
    /// His language; nothing for the default one.
    pub language: Option<Language>,
    /// When his mailbox is expected back.
    pub back: Option<Window>,
}

/// What all users are told by default.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    /// The language of users of whom no other is known.
    pub default_language: Language,
    /// Where the hours of windows are meant; while it is unknown no window is shown.
    pub zone: Option<Zone>,
}

/// A language in which the texts exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// `en`
    #[default]
    English,
    /// `it`
    Italian,
}

/// From when to when something is expected, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// The earliest moment.
    pub from_unix: i64,
    /// The latest; nothing is shown after it.
    pub to_unix: i64,
}

/// A time zone such as `Europe/Rome`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// There is no such time zone.
#[derive(Debug, thiserror::Error)]
#[error("find time zone `{name}`; name one such as `Europe/Rome`")]
pub struct UnknownZone {
    name: String,
    source: jiff::Error,
}

/// There are no texts in this language.
#[derive(Debug, thiserror::Error)]
#[error("find texts in language `{label}`; there are `en` and `it`")]
pub struct UnknownLanguage {
    label: String,
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    /// Takes `it`, `IT` and `it-CH` alike.
    fn from_str(label: &str) -> Result<Self, UnknownLanguage> {
        let primary = label.split(['-', '_']).next().unwrap_or(label);
        match primary.to_ascii_lowercase().as_str() {
            "en" => Ok(Self::English),
            "it" => Ok(Self::Italian),
            _ => Err(UnknownLanguage { label: label.to_owned() }),
        }
    }
}

impl Notice {
    /// What the user is told, as words for people who want to read it too.
    pub fn text(self, notices: &Notices, now_unix: i64) -> String {
        let window = self.back.filter(|window| now_unix < window.to_unix);
        let hours = notices.zone.as_ref().zip(window);
        let hours = hours.and_then(|(zone, window)| Hours::new(zone, window));
        match self.language.unwrap_or(notices.default_language) {
            Language::English => english(hours),
            Language::Italian => italian(hours),
        }
    }
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Finds a time zone by its name in the IANA database: the system's, else our own copy.
    ///
    /// # Errors
    ///
    /// [`UnknownZone`] when neither has it.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        let zone = TimeZone::get(name);
        zone.map(Self).map_err(|source| UnknownZone { name: name.to_owned(), source })
    }
}

/// A window's place in [`Texts`].
pub(crate) type WindowNumber = u16;

/// Windows that are told apart: people are told quarters of an hour, and these are ten days of
/// them. To whom one more would be told none is.
pub(crate) const WINDOWS_MAX: WindowNumber = (1 << WINDOW_BITS) - 1;

/// Bits of a window's number, of which a mailbox keeps one.
pub(crate) const WINDOW_BITS: u32 = 10;

/// All texts in use, ready to be sent.
///
/// The windows of a rollout are few, those of its waves, so that a mailbox keeps a number.
#[derive(Debug)]
pub(crate) struct Texts {
    notices: Notices,
    plain: Bodies,
    windows: Vec<(Window, Bodies)>,
    numbers: HashMap<Window, WindowNumber>,
}

impl Texts {
    /// Replaces the defaults; windows keep their numbers.
    pub(crate) fn set_notices(&mut self, notices: Notices) {
        for (window, bodies) in &mut self.windows {
            *bodies = Bodies::new(notices.zone.as_ref(), Some(*window));
        }
        self.notices = notices;
    }

    /// The number of a window, which may be new. Nothing for one that ends before it
    /// begins, and when there are more windows than numbers.
    pub(crate) fn number(&mut self, window: Window) -> Option<WindowNumber> {
        if window.from_unix > window.to_unix {
            return None;
        }
        if let Some(number) = self.numbers.get(&window) {
            return Some(*number);
        }
        let number = WindowNumber::try_from(self.windows.len()).ok()?;
        if number >= WINDOWS_MAX {
            return None;
        }
        let bodies = Bodies::new(self.notices.zone.as_ref(), Some(window));
        self.windows.push((window, bodies));
        self.numbers.insert(window, number);
        debug_assert_eq!(self.numbers.len(), self.windows.len());
        Some(number)
    }

    /// The answer to a mail server that asks for somebody who is held.
    pub(crate) fn held(
        &self,
        language: Option<Language>,
        window: Option<WindowNumber>,
        now_unix: i64,
    ) -> Bytes {
        let shown = window
            .and_then(|number| self.windows.get(usize::from(number)))
            .filter(|(window, _)| now_unix < window.to_unix);
        let bodies = shown.map_or(&self.plain, |(_, bodies)| bodies);
        bodies.of(language.unwrap_or(self.notices.default_language))
    }
}

impl Default for Texts {
    fn default() -> Self {
        let (windows, numbers) = (Vec::new(), HashMap::new());
        Self {
            notices: Notices::default(),
            plain: Bodies::new(None, None),
            windows,
            numbers,
        }
    }
}

/// One text in all languages, as the bodies of answers.
#[derive(Debug)]
struct Bodies {
    english: Bytes,
    italian: Bytes,
}

impl Bodies {
    fn new(zone: Option<&Zone>, window: Option<Window>) -> Self {
        let hours = zone.zip(window).and_then(|(zone, window)| Hours::new(zone, window));
        let body = |text: String| {
            debug_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            debug_assert!(!text.contains(['"', '\\']));
            Bytes::from(format!(r#"{{"state":"held","reason":"[UNAVAILABLE] {text}"}}"#))
        };
        Self { english: body(english(hours)), italian: body(italian(hours)) }
    }

    fn of(&self, language: Language) -> Bytes {
        match language {
            Language::English => self.english.clone(),
            Language::Italian => self.italian.clone(),
        }
    }
}

/// A window on the clocks of a place.
#[derive(Debug, Clone, Copy)]
struct Hours {
    from: DateTime,
    to: DateTime,
}

impl Hours {
    /// Nothing for a moment that no calendar has.
    fn new(zone: &Zone, window: Window) -> Option<Self> {
        let on_the_clock = |unix: i64| {
            Timestamp::from_second(unix).ok().map(|moment| zone.0.to_datetime(moment))
        };
        let (from, to) = (on_the_clock(window.from_unix)?, on_the_clock(window.to_unix)?);
        Some(Self { from, to })
    }

    fn on_one_day(&self) -> bool {
        self.from.date() == self.to.date()
    }
}

fn english(hours: Option<Hours>) -> String {
    let back = match hours {
        None => "will be back soon".to_owned(),
        Some(hours) if hours.on_one_day() => {
            let (from, to) = (clock(hours.from), clock(hours.to));
            let day = day(hours.from, &MONTHS_ENGLISH);
            format!("is expected back between {from} and {to} on {day}")
        }
        Some(Hours { from, to }) => format!(
            "is expected back between {} on {} and {} on {}",
            clock(from),
            day(from, &MONTHS_ENGLISH),
            clock(to),
            day(to, &MONTHS_ENGLISH)
        ),
    };
    format!("Your mailbox is being restored and {back}. Your password has not changed.")
}

/// Worded so that no letter needs an accent.
fn italian(hours: Option<Hours>) -> String {
    let back = match hours {
        None => "torna presto in servizio".to_owned(),
        Some(hours) if hours.on_one_day() => {
            let (from, to) = (clock(hours.from), clock(hours.to));
            let day = day(hours.from, &MONTHS_ITALIAN);
            format!(
                "il ritorno in servizio si prevede tra le ore {from} e le {to} del {day}"
            )
        }
        Some(Hours { from, to }) => format!(
            "il ritorno in servizio si prevede tra le ore {} del {} e le {} del {}",
            clock(from),
            day(from, &MONTHS_ITALIAN),
            clock(to),
            day(to, &MONTHS_ITALIAN)
        ),
    };
    format!(
        "Stiamo ripristinando la casella di posta: {back}. La password resta la stessa."
    )
}

fn clock(moment: DateTime) -> String {
    format!("{:02}:{:02}", moment.hour(), moment.minute())
}

fn day(moment: DateTime, months: &[&str; 12]) -> String {
    let month = usize::from(moment.month().unsigned_abs()).saturating_sub(1);
    format!("{} {}", moment.day(), months.get(month).copied().unwrap_or_default())
}

const MONTHS_ENGLISH: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const MONTHS_ITALIAN: [&str; 12] = [
    "gennaio",
    "febbraio",
    "marzo",
    "aprile",
    "maggio",
    "giugno",
    "luglio",
    "agosto",
    "settembre",
    "ottobre",
    "novembre",
    "dicembre",
];

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// 2026-01-25 14:00 in Rome.
    const AFTERNOON: i64 = 1_769_346_000;
    const HOUR: i64 = 3_600;
    const BEFORE: i64 = AFTERNOON - HOUR;

    #[test]
    fn without_a_window_the_wait_has_no_end_but_the_password_is_right() {
        check(
            Notice::default(),
            &expect![
                "Your mailbox is being restored and will be back soon. Your password has not changed."
            ],
        );
        check(
            Notice { language: Some(Language::Italian), back: None },
            &expect![
                "Stiamo ripristinando la casella di posta: torna presto in servizio. La password resta la stessa."
            ],
        );
    }

    #[test]
    fn a_window_is_told_by_the_clocks_of_the_place() {
        let back = Some(Window { from_unix: AFTERNOON, to_unix: AFTERNOON + 4 * HOUR });
        check(
            Notice { language: None, back },
            &expect![
                "Your mailbox is being restored and is expected back between 14:00 and 18:00 on 25 January. Your password has not changed."
            ],
        );
        check(
            Notice { language: Some(Language::Italian), back },
            &expect![
                "Stiamo ripristinando la casella di posta: il ritorno in servizio si prevede tra le ore 14:00 e le 18:00 del 25 gennaio. La password resta la stessa."
            ],
        );
    }

    #[test]
    fn a_window_over_midnight_names_both_days() {
        let back = Some(Window {
            from_unix: AFTERNOON + 9 * HOUR,
            to_unix: AFTERNOON + 12 * HOUR,
        });
        check(
            Notice { language: None, back },
            &expect![
                "Your mailbox is being restored and is expected back between 23:00 on 25 January and 02:00 on 26 January. Your password has not changed."
            ],
        );
        check(
            Notice { language: Some(Language::Italian), back },
            &expect![
                "Stiamo ripristinando la casella di posta: il ritorno in servizio si prevede tra le ore 23:00 del 25 gennaio e le 02:00 del 26 gennaio. La password resta la stessa."
            ],
        );
    }

    #[test]
    fn a_window_that_is_over_is_not_shown() {
        let mut texts = in_rome();
        let window = Window { from_unix: AFTERNOON, to_unix: AFTERNOON + HOUR };
        let number = texts.number(window);

        let shown = |now| texts.held(None, number, now) != texts.held(None, None, now);

        assert!(shown(AFTERNOON + HOUR - 1));
        assert!(!shown(AFTERNOON + HOUR));
    }

    #[test]
    fn a_window_that_makes_no_sense_is_not_shown() {
        let mut texts = in_rome();

        assert_eq!(texts.number(Window { from_unix: 1, to_unix: 0 }), None);
        let never = texts.number(Window { from_unix: i64::MIN, to_unix: i64::MAX });
        assert_eq!(texts.held(None, never, BEFORE), texts.held(None, None, BEFORE));
    }

    #[test]
    fn hours_wait_for_a_zone_and_follow_it() {
        let mut texts = Texts::default();
        let window = Window { from_unix: AFTERNOON, to_unix: AFTERNOON + HOUR };
        let number = texts.number(window);
        assert_eq!(texts.held(None, number, BEFORE), texts.held(None, None, BEFORE));

        let zone = Some(Zone::UTC);
        texts.set_notices(Notices { default_language: Language::English, zone });

        let body = texts.held(None, number, BEFORE);
        assert!(String::from_utf8_lossy(&body).contains("between 13:00 and 14:00"));
        assert_eq!(texts.number(window), number);
    }

    #[test]
    fn there_are_no_more_windows_than_numbers() {
        let mut texts = Texts::default();
        let window = |n: i64| Window { from_unix: n, to_unix: n };

        let all = i64::from(WINDOWS_MAX);
        assert!((0..all).all(|n| texts.number(window(n)).is_some()));

        assert_eq!(texts.number(window(all)), None);
        assert_eq!(texts.number(window(7)), Some(7));
    }

    #[test]
    fn languages_go_by_their_labels() {
        let named = |label: &str| label.parse::<Language>().ok();

        assert_eq!(named("it"), Some(Language::Italian));
        assert_eq!(named("EN_us"), Some(Language::English));
        assert_eq!(named("italiano"), None);
        assert_eq!(named(""), None);
    }

    #[test]
    fn zones_go_by_their_names() {
        assert!(Zone::named("Europe/Rome").is_ok());
        let error = Zone::named("Europe/Roma").unwrap_err().to_string();
        expect!["find time zone `Europe/Roma`; name one such as `Europe/Rome`"]
            .assert_eq(&error);
    }

    fn check(notice: Notice, expected: &Expect) {
        let mut texts = in_rome();
        let number = notice.back.and_then(|window| texts.number(window));
        let body = texts.held(notice.language, number, BEFORE);
        let body = String::from_utf8(body.to_vec()).unwrap();
        let text = body
            .strip_prefix(r#"{"state":"held","reason":"[UNAVAILABLE] "#)
            .and_then(|rest| rest.strip_suffix(r#""}"#));
        expected.assert_eq(text.unwrap());
    }

    fn in_rome() -> Texts {
        let mut texts = Texts::default();
        let zone = Some(Zone::named("Europe/Rome").unwrap());
        texts.set_notices(Notices { default_language: Language::English, zone });
        texts
    }
}
