//! Facts: what of a rollout a person should know, by reason code.
//!
//! # Invariants
//!
//! * Every fact has a code of the one table of reason codes, and the advice that stands there.
//! * A fact's text is made of numbers and of names of waves and nodes; what an address could hide
//!   in is left out.

use tidegate_wire::v1::{self, NodeState, RolloutState, WaveState};

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A person must act: nothing goes on, or mail is in doubt.
    Critical,
    /// Somebody should look today.
    Warning,
    /// For the record.
    Info,
}

impl Severity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

use Severity::{Critical, Info, Warning};

/// What is told, by reason code, and how urgent it is. What is not here is only waiting, and is
/// told by nobody.
pub const FACTS: &[(&str, Severity)] = &[
    ("halted", Critical),
    ("paused", Warning),
    ("frozen", Warning),
    ("aborted", Warning),
    ("finished", Info),
    ("rebuilding", Warning),
    ("node-isolated", Critical),
    ("node-held-back", Warning),
    ("node-recounting", Warning),
    ("node-left-out", Warning),
    ("worker-silent", Critical),
    ("worker-too-old", Critical),
    ("journal-too-old", Critical),
    ("wave-held-back", Warning),
    ("quarantined", Warning),
    // What the gate holds for that does not pass by itself.
    ("workers-silent", Warning),
    ("unknown-too-many", Warning),
    ("slow", Warning),
    ("busy", Warning),
    ("not-measured", Warning),
    ("no-source", Warning),
    ("out-of-bounds", Warning),
    ("no-answer", Warning),
    ("disk-low", Critical),
    ("only-synthetic", Warning),
    ("needs-person", Critical),
    // A wave stands on the top of the ladder: it ended.
    ("expanded", Info),
];

/// The code of a wave that ended.
pub(super) const ENDED: &str = "expanded";

/// What a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// The whole rollout.
    Rollout,
    /// A wave, by name.
    Wave(String),
    /// A node, by name.
    Node(String),
}

/// Something that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    pub(super) about: About,
    /// One line with its numbers.
    pub(super) text: String,
}

impl Fact {
    pub(super) fn new(code: &str, about: About, text: &str) -> Option<Self> {
        let (code, severity) = FACTS.iter().find(|(known, _)| *known == code)?;
        Some(Self { code, severity: *severity, about, text: plain(text) })
    }
}

/// All that is so, and that a person should know.
pub(super) fn facts(rollout: &v1::Rollout) -> Vec<Fact> {
    let mut facts = Vec::new();
    facts.extend(state(rollout));
    for why in &rollout.why {
        // The state's own words were typed by people, and nodes' and waves' come below.
        if why.code == "rebuilding" {
            facts.extend(Fact::new(&why.code, About::Rollout, &why.text));
        }
    }
    for wave in &rollout.waves {
        let about = || About::Wave(wave.name.clone());
        if wave.state() == WaveState::HeldBack {
            let text = format!("wave {} was re-closed", wave.name);
            facts.extend(Fact::new("wave-held-back", about(), &text));
        }
        if wave.quarantined > 0 {
            let (set_aside, all) = (wave.quarantined, wave.planned);
            let text = format!(
                "{set_aside} of {all} mailboxes of wave {} are set aside",
                wave.name
            );
            facts.extend(Fact::new("quarantined", about(), &text));
        }
        let gate = wave.gate.iter().filter(|gate| gate.verdict == "hold");
        for why in gate.flat_map(|gate| &gate.reasons) {
            let text = format!("the gate of wave {} holds: {}", wave.name, why.text);
            facts.extend(Fact::new(&why.code, about(), &text));
        }
    }
    facts.extend(rollout.nodes.iter().filter_map(node));
    facts
}

/// The waves that stand on the top of the ladder.
pub(super) fn ended(rollout: &v1::Rollout) -> impl Iterator<Item = Fact> {
    let waves = rollout.waves.iter().filter(|wave| wave.state() == WaveState::Passed);
    waves.filter_map(|wave| {
        let v1::Wave { name, open, planned, failed, quarantined, .. } = wave;
        let text = format!(
            "wave {name} has ended: {open} of {planned} open, {failed} failed, {quarantined} \
             set aside"
        );
        Fact::new(ENDED, About::Wave(name.clone()), &text)
    })
}

fn state(rollout: &v1::Rollout) -> Option<Fact> {
    let (code, text) = match rollout.state() {
        RolloutState::Halted => ("halted", "the gate has halted the rollout"),
        RolloutState::Paused if rollout.why.iter().any(|why| why.code == "frozen") => {
            ("frozen", "the rollout is frozen: a second person must thaw it")
        }
        RolloutState::Paused => ("paused", "the rollout is paused"),
        RolloutState::Aborted => ("aborted", "the rollout was aborted"),
        RolloutState::Finished => {
            ("finished", "every wave stands on the top of the ladder")
        }
        RolloutState::Running | RolloutState::Unspecified => return None,
    };
    Fact::new(code, About::Rollout, text)
}

fn node(node: &v1::Node) -> Option<Fact> {
    let name = &node.name;
    let (code, text) = match node.state() {
        NodeState::Silent => ("worker-silent", "its worker is not heard any more"),
        NodeState::Isolated => ("node-isolated", "the gate has taken it out"),
        NodeState::HeldBack => ("node-held-back", "it was re-closed"),
        NodeState::Recounting => ("node-recounting", "it has yet to tell what it holds"),
        NodeState::LeftOut => ("node-left-out", "it was left out of the rebuild"),
        NodeState::TurnedAway => {
            ("worker-too-old", "its worker was put back and turned away")
        }
        NodeState::Ahead => {
            ("journal-too-old", "its worker knows more than this coordinator")
        }
        NodeState::NoWorker | NodeState::Working | NodeState::Unspecified => return None,
    };
    Fact::new(code, About::Node(name.clone()), &format!("node {name}: {text}"))
}

/// The text without words in which an address could stand.
pub(super) fn plain(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.contains('@') { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(code: &str, text: &str) -> v1::Why {
        v1::Why { code: code.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn what_waits_as_planned_is_told_to_nobody() {
        let gate = v1::Gate {
            verdict: "hold".to_owned(),
            reasons: vec![why("soak-running", "7 have yet to prove themselves")],
            ..v1::Gate::default()
        };
        let wave = v1::Wave {
            name: "rest-1".to_owned(),
            gate: Some(gate),
            ..Default::default()
        };
        let rollout = v1::Rollout {
            state: RolloutState::Running.into(),
            why: vec![why("scheduled", "at 07:09")],
            waves: vec![wave],
            ..Default::default()
        };

        assert_eq!(facts(&rollout), []);
    }

    #[test]
    fn what_people_typed_and_what_could_be_an_address_is_left_out() {
        let frozen = why("frozen", "frozen by giulia: anna@example.org complains");
        let wave = v1::Wave {
            name: "only anna@example.org".to_owned(),
            planned: 3,
            quarantined: 2,
            ..Default::default()
        };
        let rollout = v1::Rollout {
            state: RolloutState::Paused.into(),
            why: vec![frozen],
            waves: vec![wave],
            ..Default::default()
        };

        let texts: Vec<String> = facts(&rollout).into_iter().map(|it| it.text).collect();

        assert_eq!(
            texts,
            [
                "the rollout is frozen: a second person must thaw it",
                "2 of 3 mailboxes of wave only … are set aside",
            ]
        );
    }
}
