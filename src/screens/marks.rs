//! Marks: what people answer for, beside what gates have judged.
//!
//! # Invariants
//!
//! * A wave that did not pass by its usual gate is never shown as if it had.

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_wire::v1::{Emergency, Rollout, Wave};

use super::diagnosis::level_name;
use super::json::{Time, when};
use super::{clock, instant, say};
use crate::console::safe;

/// A line for each wave that passed a level in another way than by its usual gate.
pub(crate) fn lines(rollout: &Rollout) -> String {
    let mut text = String::new();
    for wave in &rollout.waves {
        if let Some(marks) = of(rollout, wave) {
            say!(text, "  {}: {marks}\n", safe(&wave.name));
        }
    }
    text
}

/// `webmail overridden by people; mail passed under the emergency profile`.
pub(crate) fn of(rollout: &Rollout, wave: &Wave) -> Option<String> {
    let names = |levels: &[u32]| {
        let names = levels.iter().map(|level| level_name(rollout, *level));
        names.collect::<Vec<_>>().join(", ")
    };
    let overridden = (!wave.overridden.is_empty())
        .then(|| format!("{} overridden by people", names(&wave.overridden)));
    let hurried = (!wave.hurried.is_empty())
        .then(|| format!("{} passed under the emergency profile", names(&wave.hurried)));
    let both: Vec<String> = overridden.into_iter().chain(hurried).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// The emergency profile in force: for what, until when, and who answers for it.
pub(crate) fn emergency(emergency: &Emergency) -> String {
    let Emergency { by, approved_by, reason, wave, until_time, .. } = emergency;
    let until = until_time.as_ref().and_then(instant).map_or_else(String::new, clock);
    let scope = match wave.as_str() {
        "" => "all waves".to_owned(),
        wave => format!("wave {}", safe(wave)),
    };
    let approved = match approved_by.as_str() {
        "" => String::new(),
        by => format!(", approved by {}", safe(by)),
    };
    format!(
        "{scope} until {until}, by {}{approved} ({}); `tidegate emergency end` ends it",
        safe(by),
        safe(reason)
    )
}

/// The same for programs.
pub(crate) fn shown(emergency: &Emergency) -> EmergencyShown<'_> {
    EmergencyShown {
        by: &emergency.by,
        approved_by: &emergency.approved_by,
        reason: &emergency.reason,
        wave: &emergency.wave,
        from_time: when!(emergency.from_time),
        until_time: when!(emergency.until_time),
    }
}

/// Waves are judged under the policy's emergency profile.
#[derive(Serialize, JsonSchema)]
pub(crate) struct EmergencyShown<'a> {
    /// Who began it.
    by: &'a str,
    /// By whose leave; empty where nobody's was needed.
    approved_by: &'a str,
    /// Why.
    reason: &'a str,
    /// The wave's name; empty for all.
    wave: &'a str,
    /// Since when.
    from_time: Option<Time>,
    /// Until when, at the latest.
    until_time: Option<Time>,
}

#[cfg(test)]
mod tests {
    use tidegate_core::time::Timestamp;
    use tidegate_wire::protocol::timestamp;
    use tidegate_wire::v1::Rung;

    use super::*;

    #[test]
    fn a_wave_that_people_answer_for_says_so_and_others_say_nothing() {
        let rung = |name: &str| Rung { name: name.into(), ..Rung::default() };
        let wave = |name: &str| Wave { name: name.into(), ..Wave::default() };
        let waves = vec![
            wave("canary-1"),
            Wave { overridden: vec![1], hurried: vec![1, 2], ..wave("rest-1") },
        ];
        let ladder = vec![rung("webmail"), rung("mail")];
        let rollout = Rollout { waves, ladder, ..Rollout::default() };

        assert_eq!(
            lines(&rollout),
            "  rest-1: webmail overridden by people; webmail, mail passed under the emergency \
             profile\n"
        );
    }

    #[test]
    fn an_emergency_says_for_what_until_when_and_who_answers_for_it() {
        let until = Timestamp::from_millis(1_769_324_400_000);
        let one = Emergency {
            by: "anna".into(),
            approved_by: "berta".into(),
            reason: "elections".into(),
            wave: "canary-1".into(),
            until_time: Some(timestamp(until)),
            ..Emergency::default()
        };

        assert_eq!(
            emergency(&one),
            "wave canary-1 until 07:00:00 UTC, by anna, approved by berta (elections); \
             `tidegate emergency end` ends it"
        );
    }
}
