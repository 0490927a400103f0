//! Brief: a rollout in five lines, for pipes and for terminals too small for more.
//!
//! # Invariants
//!
//! * It is always five lines, and the first says how old the data is.

use std::time::Duration;

use tidegate_core::time::Timestamp;
use tidegate_wire::v1::{Node, NodeState, Rollout, Signal, Wave, WaveState};

use super::diagnosis::{Diagnosis, current, level_name};
use super::status::{counts, node_word, signal_line, state_word};
use super::{ago, at, clock, schedule};
use crate::console::{safe, thousands};

/// Name, state, time and age; counts; status; gate; nodes.
pub(crate) fn lines(rollout: &Rollout, age: Duration) -> [String; 5] {
    [head(rollout, age), counted(rollout), status(rollout), gate(rollout), nodes(rollout)]
}

fn head(rollout: &Rollout, age: Duration) -> String {
    format!(
        "{} {}  {}  data {} s old",
        safe(&rollout.name),
        state_word(rollout.state()).0,
        clock(at!(rollout.at_time)),
        age.as_secs()
    )
}

fn counted(rollout: &Rollout) -> String {
    let done = schedule::done(rollout).map(|done| format!("; done {done}"));
    format!("{}{}", counts(rollout), done.unwrap_or_default())
}

fn status(rollout: &Rollout) -> String {
    let diagnosis = Diagnosis::of(rollout);
    format!("{}; do: {}", diagnosis.status, diagnosis.action)
}

fn gate(rollout: &Rollout) -> String {
    let judged = rollout.waves.iter().find(|wave| wave.gate.is_some() && is_judged(wave));
    let Some((wave, gate)) = judged.and_then(|wave| Some((wave, wave.gate.as_ref()?)))
    else {
        return match current(rollout) {
            Some(wave) => format!("gate: not asked yet of {}", safe(&wave.name)),
            None => "gate: no wave is left to judge".to_owned(),
        };
    };
    let place = |signal: &&Signal| nearness(signal);
    let nearest = gate.signals.iter().min_by_key(place).map(signal_line);
    let nearest =
        nearest.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let reason = gate.reasons.first().map(|why| safe(&why.text));
    let text = reason.or(nearest).map_or_else(String::new, |text| format!(": {text}"));
    format!(
        "gate: {} of {} at {}{text}",
        safe(&gate.verdict),
        safe(&wave.name),
        level_name(rollout, wave.level)
    )
}

/// Whether the gate is asked of a wave now.
pub(crate) fn is_judged(wave: &Wave) -> bool {
    match wave.state() {
        WaveState::Opening | WaveState::HeldBack => true,
        WaveState::Unspecified
        | WaveState::Waiting
        | WaveState::Between
        | WaveState::Passed => false,
    }
}

/// Signals in the order in which somebody should look at them: tripped, open, passed.
pub(crate) fn nearness(signal: &Signal) -> (u8, u32) {
    let standing = match signal.standing.as_str() {
        "tripped" => 0,
        "passed" => 2,
        _ => 1,
    };
    (standing, signal.trip_at.saturating_sub(signal.failed))
}

fn nodes(rollout: &Rollout) -> String {
    let works = |node: &&Node| node.state() == NodeState::Working;
    let working = rollout.nodes.iter().filter(works).count();
    let all = rollout.nodes.len();
    let Some(node) = rollout.nodes.iter().find(|node| !works(node)) else {
        return format!("nodes: {working} of {all} work");
    };
    let others = all - working - 1;
    let others = if others > 0 { format!("; and {others} more") } else { String::new() };
    format!(
        "nodes: {working} of {all} work; {}{others}",
        trouble(node, at!(rollout.at_time))
    )
}

/// A node that does not work, since when, and what that means for its mailboxes.
fn trouble(node: &Node, now: Timestamp) -> String {
    let heard = node.heard_time.as_ref().and_then(super::instant);
    let heard = heard.map_or_else(String::new, |at| format!(", heard {}", ago(at, now)));
    let held = node.planned.saturating_sub(node.open).saturating_sub(node.quarantined);
    let (name, word) = (safe(&node.name), node_word(node.state()).0);
    format!("{name} {word}{heard}: {} of its mailboxes are held", thousands(held))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidegate_wire::v1::{Gate, RolloutState, Why};

    use super::*;

    #[test]
    fn five_lines_say_how_far_it_is_and_what_does_not_move() {
        let why = Why { code: "soak-running".into(), text: "soaked 1 s of 2 s".into() };
        let gate = Gate { verdict: "hold".into(), reasons: vec![why], ..Gate::default() };
        let wave = Wave {
            name: "canary-1".into(),
            state: WaveState::Opening.into(),
            planned: 200,
            opened: 50,
            open: 50,
            gate: Some(gate),
            ..Wave::default()
        };
        let silent = NodeState::Silent.into();
        let node = |name: &str, state| Node {
            name: name.into(),
            planned: 100,
            open: 25,
            state,
            ..Node::default()
        };
        let rollout = Rollout {
            name: "practice".into(),
            state: RolloutState::Running.into(),
            waves: vec![wave],
            nodes: vec![
                node("stor-01", NodeState::Working.into()),
                node("stor-02", silent),
            ],
            planned: 200,
            ..Rollout::default()
        };

        let shown = lines(&rollout, Duration::from_secs(14)).join("\n");

        expect![[r"
            practice RUNNING  00:00:00 UTC  data 14 s old
            50 of 200 open (25.0 %), 0 prepared, 0 set aside, 0 failed
            silent: stor-02; open mailboxes there stay open; do: is the worker running there, and can it reach the coordinator?
            gate: hold of canary-1 at held: soaked 1 s of 2 s
            nodes: 1 of 2 work; stor-02 silent: 75 of its mailboxes are held
        "]]
        .assert_eq(&format!("{shown}\n"));
    }
}
