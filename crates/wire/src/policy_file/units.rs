//! Numbers with their units, as people write them in files.
//!
//! # Invariants
//!
//! * A number whose unit matters is never read without it.
//! * What a value prints as is read as the same value.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use tidegate_core::policy::{Growth, Share};
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;

/// A span: `"15 min"`, `"30s"`, `"1 h 30 min"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanText(pub(super) Span);

/// A share: `"0.5 %"`, `"200 ppm"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PpmText(pub(super) Ppm);

/// Hash slots: `"0 % to 15 %"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShareText(pub(super) Share);

/// A growth: `"x3"`, `"x1.5"`, `3`, `1.5`.
#[derive(Clone, Copy, Debug)]
pub(super) struct GrowthText(pub(super) Growth);

/// One name, or a list of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(pub(super) Vec<String>);

/// Reads a span, if `text` is one: `90 min`, `1 h 30 min`, `250 ms`.
pub fn span(text: &str) -> Option<Span> {
    let mut rest = text.trim();
    let mut millis = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, char::is_alphabetic);
        let unit = match unit {
            "ms" => 1,
            "s" | "sec" => 1_000,
            "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        millis = number.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(millis)?;
        rest = after;
    }
    Some(Span::from_millis(millis))
}

/// Reads a share, if `text` is one.
pub(super) fn ppm(text: &str) -> Option<Ppm> {
    let text = text.trim();
    let parts = match (text.strip_suffix('%'), text.strip_suffix("ppm")) {
        (Some(percent), _) => decimal(percent.trim(), 4)?,
        (None, Some(parts)) => decimal(parts.trim(), 0)?,
        (None, None) => return None,
    };
    Some(Ppm::new(parts))
}

fn share(text: &str) -> Option<Share> {
    let (from, to) = text.split_once(" to ")?;
    Some(Share { from: ppm(from)?, to: ppm(to)? })
}

fn growth(text: &str) -> Option<Growth> {
    let text = text.trim();
    let number = text.strip_prefix('x').unwrap_or(text);
    decimal(number.trim(), 2).map(Growth::new)
}

/// A decimal number, in units of its last possible digit.
fn decimal(text: &str, digits: usize) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = part.trim_end_matches('0');
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(part) || part.len() > digits {
        return None;
    }
    format!("{whole}{part:0<digits$}").parse().ok()
}

fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !of(c)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    (taken, rest.trim_start())
}

/// Reads a text by `read`; numbers count as their text.
struct Text<T> {
    expected: &'static str,
    read: fn(&str) -> Option<T>,
    numbers: bool,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let wrong = || E::custom(format!("`{text}` is not {}", self.expected));
        (self.read)(text).ok_or_else(wrong)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.number(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.number(&number.to_string())
    }
}

impl<T> Text<T> {
    fn number<E: Error>(self, text: &str) -> Result<T, E> {
        let found = if self.numbers { (self.read)(text) } else { None };
        let no_unit = if self.numbers { "" } else { " (its unit is missing)" };
        let wrong = || E::custom(format!("`{text}` is not {}{no_unit}", self.expected));
        found.ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for SpanText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a time such as \"15 min\", \"30 s\" or \"250 ms\"";
        from.deserialize_any(Text { expected, read: span, numbers: false }).map(Self)
    }
}

impl<'de> Deserialize<'de> for PpmText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a share such as \"0.5 %\"";
        from.deserialize_any(Text { expected, read: ppm, numbers: false }).map(Self)
    }
}

impl<'de> Deserialize<'de> for ShareText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a range of shares such as \"0 % to 15 %\"";
        from.deserialize_any(Text { expected, read: share, numbers: false }).map(Self)
    }
}

impl<'de> Deserialize<'de> for GrowthText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a growth such as \"x3\" or 1.5";
        from.deserialize_any(Text { expected, read: growth, numbers: true }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }

        from.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_as_people_write_it() {
        let millis = |text| span(text).map(Span::millis);

        assert_eq!(millis("15 min"), Some(900_000));
        assert_eq!(millis("30s"), Some(30_000));
        assert_eq!(millis("250 ms"), Some(250));
        assert_eq!(millis("1 h 30 min"), Some(5_400_000));
        assert_eq!(millis("2d"), Some(172_800_000));
        for wrong in
            ["", "15", "min", "15 minutes", "-1 s", "1.5 h", "99999999999999999 d"]
        {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_share_is_read_exactly_or_not_at_all() {
        let parts = |text| ppm(text).map(Ppm::parts);

        assert_eq!(parts("0.5 %"), Some(5_000));
        assert_eq!(parts("100%"), Some(1_000_000));
        assert_eq!(parts("0.0001 %"), Some(1));
        assert_eq!(parts("20 ppm"), Some(20));
        for wrong in ["", "0.5", "%", ".5 %", "0.00001 %", "-1 %", "1e3 %"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_value_prints_as_is_read_as_the_same_value() {
        for parts in [0, 1, 12_340, 150_000, 1_000_000] {
            assert_eq!(ppm(&Ppm::new(parts).to_string()), Some(Ppm::new(parts)));
        }
        for hundredths in [100, 125, 150, 300, 1_000] {
            let printed = Growth::new(hundredths).to_string();
            assert_eq!(growth(&printed), Some(Growth::new(hundredths)));
        }
        for millis in [250, 12_000, 185_000, 7_800_000] {
            let printed = Span::from_millis(millis).to_string();
            assert_eq!(span(&printed), Some(Span::from_millis(millis)));
        }
    }
}
