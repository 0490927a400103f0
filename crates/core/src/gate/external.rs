//! External signals: what somebody else's measurements say about the fleet.
//!
//! # Invariants
//!
//! * An answer that is missing, too old or no number is no answer, and never a good one.
//! * Numbers are kept as millionths, so that judging them again gives the same.

use std::fmt;

use crate::time::{Span, Timestamp};

use super::policy::SignalPolicy;

/// A short name, kept in place so that reasons stay plain values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortName {
    bytes: [u8; Self::BYTES_MAX],
    length: u8,
}

impl ShortName {
    /// The longest name.
    pub const BYTES_MAX: usize = 31;

    /// The name `text`, if it is one: lower-case letters, digits and hyphens.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = !text.is_empty() && text.bytes().all(|b| plain(b) || b == b'-');
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).ok()?;
        is_name.then_some(Self { bytes, length })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A question to a Prometheus server that the gate waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExternalPolicy {
    /// What people call it.
    pub name: ShortName,
    /// The question, in `PromQL`; its answer is one number.
    pub query: String,
    /// Which answers are good.
    pub bound: Bound,
    /// How often it is asked.
    pub every: Span,
    /// How old the newest answer may be.
    pub age_max: Span,
    /// How many answers may be bad.
    pub rates: SignalPolicy,
}

/// Which answers are good, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// At most this.
    Max(i64),
    /// At least this.
    Min(i64),
}

impl Bound {
    /// A measured number in millionths; nothing for what is none (NaN, infinities), or too
    /// large to be counted in millionths.
    pub fn millionths(number: f64) -> Option<i64> {
        let millionths = (number * 1e6).round();
        // Far inside of what 64 bits hold, and every one of them exact.
        let fits = millionths.abs() <= 9e15;
        #[expect(clippy::cast_possible_truncation, reason = "it fits, as just asked")]
        fits.then_some(millionths as i64)
    }

    /// Whether `answer`, in millionths, is a bad one.
    pub fn is_broken_by(self, answer: i64) -> bool {
        match self {
            Self::Max(max) => answer > max,
            Self::Min(min) => answer < min,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max(max) => write!(f, "at most {}", Millionths(*max)),
            Self::Min(min) => write!(f, "at least {}", Millionths(*min)),
        }
    }
}

/// Millionths, printed as a decimal number with as many digits as it needs.
pub(super) struct Millionths(pub(super) i64);

impl fmt::Display for Millionths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) =
            (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{rest:06}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// What the answers to one question have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternalEvidence {
    /// Whose.
    pub name: ShortName,
    /// Answers.
    pub answers: u32,
    /// Of these, those out of bounds.
    pub answers_bad: u32,
    /// The newest one, in millionths.
    pub latest: i64,
    /// When it came, if one did.
    pub answered_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let name = |text| ShortName::new(text).map(|name| name.to_string());

        assert_eq!(name("auth-db-2"), Some("auth-db-2".to_owned()));
        for wrong in ["", "Auth", "a b", "é", "a-name-of-thirty-two-characters-x"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bounds_print_as_they_are_written() {
        let shown = [Bound::Max(350_000), Bound::Min(-2_000_000), Bound::Max(1)]
            .map(|bound| bound.to_string());

        assert_eq!(shown, ["at most 0.35", "at least -2", "at most 0.000001"]);
    }
}
