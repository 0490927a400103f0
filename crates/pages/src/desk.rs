//! The desk: ready sentences about one mailbox, for who answers its user.
//!
//! # Invariants
//!
//! * A window, never a minute; the same as on the public page, or narrower.
//! * Every answer has every part, whatever is known.
//! * Nothing is said of what was lost: that is verified first, and told by others.

use jiff::tz::TimeZone;
use tidegate_wire::v1;

use crate::texts::{Language, Texts};
use crate::windows::{Turn, seconds};

/// What may be told of one mailbox, in one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The state for programs.
    pub code: &'static str,
    /// The state in words.
    pub state: String,
    /// When it is its turn.
    pub window: String,
    /// What works of each rung.
    pub services: String,
    /// What to ask before anything is told.
    pub verify: String,
    /// What to say.
    pub say: String,
    /// What not to say.
    pub do_not_say: String,
    /// What to do if it does not come true.
    pub escalate: String,
}

impl Answer {
    /// What may be told of `found`, part of `rollout`.
    pub fn of(found: &v1::LookUpResponse, rollout: &v1::Rollout, texts: &Texts) -> Self {
        let zone = found.notice.as_ref().map_or("UTC", |it| it.zone.as_str());
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        let now = seconds!(found.at_time).unwrap_or_default();
        let turns = Turn::of_waves(rollout);
        let wave = usize::try_from(found.wave).unwrap_or(usize::MAX);
        let turn = match found.state() {
            v1::DeskState::Open => Turn::Back,
            v1::DeskState::Held | v1::DeskState::Opening => {
                match turns.get(wave).copied().unwrap_or(Turn::Unknown) {
                    // Its wave has passed, and it has not: nobody knows when.
                    Turn::Back => Turn::Unknown,
                    turn @ (Turn::Within(_) | Turn::Unknown) => turn,
                }
            }
            v1::DeskState::Unspecified
            | v1::DeskState::NoAnswer
            | v1::DeskState::SetAside => Turn::Unknown,
        };
        let window = turn.words(texts, &zone, Some(now));
        let (code, state, say) = sentences(found.state(), turn);
        Self {
            code,
            state: texts.say(state),
            services: services(found, texts),
            verify: texts.say("desk-verify"),
            say: texts.say_with(say, &[("window", &window)]),
            do_not_say: texts.say("desk-do-not-say"),
            escalate: texts.say("desk-escalate"),
            window,
        }
    }

    /// A state as a stable word.
    pub fn word(state: v1::DeskState) -> &'static str {
        sentences(state, Turn::Unknown).0
    }

    /// The language in which a user is spoken to.
    pub fn language(found: &v1::LookUpResponse) -> Language {
        let notice = found.notice.as_ref();
        let code = notice.map_or("", |notice| notice.language.as_str());
        Language::of_code(code).unwrap_or(Language::English)
    }
}

/// The state for programs, and the names of its texts.
fn sentences(
    state: v1::DeskState,
    turn: Turn,
) -> (&'static str, &'static str, &'static str) {
    let known = matches!(turn, Turn::Within(_));
    match state {
        v1::DeskState::Unspecified | v1::DeskState::NoAnswer => {
            ("no-answer", "desk-state-no-answer", "desk-say-no-answer")
        }
        v1::DeskState::Held if known => ("held", "desk-state-held", "desk-say-held"),
        v1::DeskState::Held => ("held", "desk-state-held", "desk-say-held-unknown"),
        v1::DeskState::Opening if known => {
            ("opening", "desk-state-opening", "desk-say-opening")
        }
        v1::DeskState::Opening => {
            ("opening", "desk-state-opening", "desk-say-opening-unknown")
        }
        v1::DeskState::Open => ("open", "desk-state-open", "desk-say-open"),
        v1::DeskState::SetAside => {
            ("set-aside", "desk-state-set-aside", "desk-say-set-aside")
        }
    }
}

fn services(found: &v1::LookUpResponse, texts: &Texts) -> String {
    let rungs = found.rungs.iter().map(|rung| {
        let name = format!("surface-{}", rung.name);
        let name = if texts.has(&name) { texts.say(&name) } else { rung.name.clone() };
        let state = match rung.state() {
            // What its wave may do does not open it.
            _ if found.state() == v1::DeskState::SetAside => texts.say("cell-closed"),
            v1::RungState::Open => texts.say("cell-open"),
            v1::RungState::Opening => texts.say("cell-opening"),
            v1::RungState::Unspecified
            | v1::RungState::Scheduled
            | v1::RungState::Held => texts.say("cell-later"),
        };
        format!("{name}: {state}")
    });
    rungs.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_every_part_and_names_no_minute() {
        let rollout = v1::Rollout::default();
        for state in [
            v1::DeskState::NoAnswer,
            v1::DeskState::Held,
            v1::DeskState::Opening,
            v1::DeskState::Open,
            v1::DeskState::SetAside,
        ] {
            for language in Language::ALL {
                let mut found = v1::LookUpResponse::default();
                found.set_state(state);

                let answer = Answer::of(&found, &rollout, &Texts::of(language));

                let parts = [
                    &answer.state,
                    &answer.window,
                    &answer.verify,
                    &answer.say,
                    &answer.do_not_say,
                    &answer.escalate,
                ];
                assert!(parts.iter().all(|part| !part.is_empty()), "{answer:?}");
                assert!(!answer.say.contains("desk-"), "{answer:?}");
                assert!(!answer.say.contains(|c: char| c.is_ascii_digit()), "{answer:?}");
            }
        }
    }
}
