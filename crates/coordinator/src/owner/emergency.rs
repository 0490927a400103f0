//! An emergency as operators name it, and as it stands on a line that an approver may type.
//!
//! # Invariants
//!
//! * What is written of it can be read again, and means the same.

use std::fmt;

use tidegate_core::time::Span;

/// Which emergency somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmergencyName {
    /// The wave; nothing for all.
    pub(crate) wave: Option<String>,
    /// For how long.
    pub(crate) lasts: Span,
}

/// The command line's unit.
const MINUTE_MILLIS: u64 = 60_000;

impl EmergencyName {
    /// The one that `text` names.
    pub(crate) fn in_text(text: &str) -> Option<Self> {
        let lasts = text.strip_prefix("emergency --lasts ")?;
        let (minutes, wave) = match lasts.split_once(" --wave ") {
            Some((minutes, wave)) => (minutes, Some(wave.to_owned())),
            None => (lasts, None),
        };
        let minutes: u64 = minutes.parse().ok()?;
        let lasts = Span::from_millis(minutes.checked_mul(MINUTE_MILLIS)?);
        Some(Self { wave, lasts })
    }
}

impl fmt::Display for EmergencyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "emergency --lasts {}", self.lasts.millis().div_ceil(MINUTE_MILLIS))?;
        self.wave.as_ref().map_or(Ok(()), |wave| write!(f, " --wave {wave}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let lasts = Span::from_secs(90 * 60);
        for wave in [None, Some("canary-1".to_owned()), Some("a --wave b".to_owned())] {
            let name = EmergencyName { wave, lasts };

            assert_eq!(EmergencyName::in_text(&name.to_string()), Some(name));
        }
        for wrong in ["", "emergency", "emergency --lasts x", "emergency --wave a"] {
            assert_eq!(EmergencyName::in_text(wrong), None, "{wrong}");
        }
    }
}
