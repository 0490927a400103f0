//! Live: a rollout as it moves: a frame to redraw, or one line for each change.
//!
//! # Invariants
//!
//! * A line is printed only when something changed that a person would act on or wait for.
//! * Progress that only grows is told at most every two seconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_wire::v1::{NodeState, Rollout, RolloutState, Wave, WaveState};

use super::diagnosis::{Diagnosis, level_name};
use super::status::{counts, head, node_word, signal_line, state_word, status};
use super::{at, brief, clock, percent, say};
use crate::console::{Paint, safe, thousands};

/// How often progress alone makes a line.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// How often all of it is summed up between the lines.
const SUM_EVERY: Duration = Duration::from_mins(1);

/// The whole screen, to be redrawn.
pub(crate) fn frame(rollout: &Rollout, silent: Option<Duration>, paint: Paint) -> String {
    let mut out = String::new();
    if let Some(silent) = silent {
        say!(out, "! RECONNECTING, last data {} s old\n", silent.as_secs());
    }
    out.push_str(&status(rollout, paint));
    out
}

/// What has been told so far.
#[derive(Default)]
pub(crate) struct Lines {
    state: Option<RolloutState>,
    effective: Option<bool>,
    waves: BTreeMap<u32, (WaveState, u32)>,
    nodes: BTreeMap<String, NodeState>,
    set_aside: u32,
    why: Vec<String>,
    why_at: Option<Instant>,
    counts: String,
    progress_at: Option<Instant>,
    is_summed_up: bool,
    summed_up_at: Option<Instant>,
}

impl Lines {
    /// Lines between which all of it is summed up in five.
    pub(crate) fn summed_up() -> Self {
        Self { is_summed_up: true, ..Self::default() }
    }

    /// The lines that tell what is new in `rollout`.
    pub(crate) fn news(&mut self, rollout: &Rollout, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        self.news_of_nodes(rollout, &mut lines);
        self.news_of_waves(rollout, &mut lines);
        self.news_of_state(rollout, &mut lines);
        let due = self.progress_at.is_none_or(|told| now - told >= PROGRESS_EVERY);
        let moved = counts(rollout) != self.counts;
        if due && moved && rollout.state() == RolloutState::Running {
            self.progress_at = Some(now);
            self.counts = counts(rollout);
            lines.push(counts(rollout));
        }
        self.news_of_why(rollout, now, &mut lines);
        let time = clock(at!(rollout.at_time));
        let news = lines.into_iter().map(|line| format!("{time}  {line}"));
        self.sum(rollout, now).into_iter().chain(news).collect()
    }

    /// The five lines, when they are due. What is told was heard just now.
    fn sum(&mut self, rollout: &Rollout, now: Instant) -> Vec<String> {
        let due = self.summed_up_at.is_none_or(|told| now - told >= SUM_EVERY);
        if !self.is_summed_up || !due {
            return Vec::new();
        }
        self.summed_up_at = Some(now);
        brief::lines(rollout, Duration::ZERO).into()
    }

    fn news_of_state(&mut self, rollout: &Rollout, lines: &mut Vec<String>) {
        let state = rollout.state();
        let effective = rollout.stop.as_ref().map(|stop| stop.effective);
        if self.state == Some(state) && self.effective == effective {
            return;
        }
        let first = self.state.is_none();
        self.state = Some(state);
        self.effective = effective;
        if first && state == RolloutState::Running {
            lines.insert(0, head(rollout, Paint::PLAIN));
            return;
        }
        let diagnosis = Diagnosis::of(rollout);
        lines.push(format!("{}: {}", state_word(state).0, diagnosis.details()));
        if state != RolloutState::Running {
            lines.push(format!("action: {}", diagnosis.action));
        }
    }

    fn news_of_waves(&mut self, rollout: &Rollout, lines: &mut Vec<String>) {
        for wave in &rollout.waves {
            let now = (wave.state(), wave.level);
            let before = self.waves.insert(wave.number, now);
            if before == Some(now)
                || (before.is_none() && wave.state() == WaveState::Waiting)
            {
                continue;
            }
            lines.push(wave_line(rollout, wave));
        }
        let set_aside = rollout.waves.iter().map(|wave| wave.quarantined).sum();
        if set_aside > self.set_aside {
            lines.push(format!(
                "quarantine: {} mailboxes set aside (tidegate quarantine list)",
                thousands(set_aside)
            ));
        }
        self.set_aside = set_aside;
    }

    fn news_of_nodes(&mut self, rollout: &Rollout, lines: &mut Vec<String>) {
        for node in &rollout.nodes {
            let state = node.state();
            let before = self.nodes.insert(node.name.clone(), state);
            if before == Some(state) {
                continue;
            }
            lines.push(format!(
                "NODE {} {}: {} of {} open, {} failed",
                safe(&node.name),
                node_word(state).0,
                thousands(node.open),
                thousands(node.planned),
                thousands(node.failed)
            ));
        }
    }

    /// Reasons change with every number in them, so only their codes make a line, and not
    /// more often than progress does.
    fn news_of_why(&mut self, rollout: &Rollout, now: Instant, lines: &mut Vec<String>) {
        let due = self.why_at.is_none_or(|told| now - told >= PROGRESS_EVERY);
        let codes: Vec<String> = rollout.why.iter().map(|why| why.code.clone()).collect();
        if rollout.state() != RolloutState::Running || codes == self.why || !due {
            return;
        }
        self.why = codes;
        self.why_at = Some(now);
        if !rollout.why.is_empty() {
            let texts: Vec<String> =
                rollout.why.iter().map(|why| safe(&why.text)).collect();
            lines.push(format!("waits: {}", texts.join("; ")));
        }
    }
}

/// A wave that has passed a rung and waits for its schedule, or for others.
fn between_line(rollout: &Rollout, wave: &Wave) -> String {
    let mut line = format!(
        "wave {} has passed {}: {} of {} open",
        safe(&wave.name),
        level_name(rollout, wave.passed),
        thousands(wave.open),
        thousands(wave.planned)
    );
    if wave.due_time.is_some() {
        let next = level_name(rollout, wave.passed + 1);
        say!(line, "; {next} by schedule at {}", clock(at!(wave.due_time)));
    } else {
        line.push_str("; it goes on after the waves before it");
    }
    line
}

/// A wave that has just changed.
fn wave_line(rollout: &Rollout, wave: &Wave) -> String {
    let name = safe(&wave.name);
    match wave.state() {
        WaveState::Waiting | WaveState::Unspecified => format!("wave {name} waits"),
        WaveState::HeldBack => format!("wave {name} is re-closed"),
        WaveState::Between => between_line(rollout, wave),
        WaveState::Opening => {
            let mut line = format!(
                "wave {name} may open for {}: {} mailboxes, {} prepared ({})",
                level_name(rollout, wave.level),
                thousands(wave.planned),
                thousands(wave.prepared),
                percent(wave.prepared, wave.planned),
            );
            if wave.passed > 0 {
                say!(line, "; passed {}", level_name(rollout, wave.passed));
            }
            line
        }
        WaveState::Passed => {
            let gate = wave.gate.as_ref().and_then(|gate| {
                gate.signals.iter().find(|signal| signal.name == "opening")
            });
            let numbers = gate.map_or_else(String::new, |signal| {
                format!(
                    "; gate {}",
                    signal_line(signal).split_whitespace().collect::<Vec<_>>().join(" ")
                )
            });
            format!(
                "wave {name} passed: {} of {} open, {} failed, {} set aside{numbers}",
                thousands(wave.open),
                thousands(wave.planned),
                thousands(wave.failed),
                thousands(wave.quarantined)
            )
        }
    }
}
