//! Board: the screen of `tidegate watch`: what it remembers, and what keys make of it.
//!
//! # Invariants
//!
//! * The age of the data is always on it; what is old is never shown as live.
//! * Only pausing is always there. Whatever else acts, acts only while armed, and asks for a reason.
//! * What is wrong is a sign and a word; colour only repeats it.
//! * It reads no clock: times are those of the coordinator, ages are told to it.

mod draw;
mod panels;
mod sheet;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::v1::{Event, MailboxFinding, Rollout, Wave};

use super::at;
use super::diagnosis::current;
use crate::console::Paint;
pub(crate) use sheet::Signs;

/// For how long actions stay armed: nobody leaves a desk armed for the night.
const ARMED_FOR: Duration = Duration::from_mins(1);
/// Seconds over which the rate is taken.
const RATE_SECONDS: u64 = 60;
/// Samples kept for the rate and its line: at two in a second, ten minutes.
const SAMPLES_MAX: usize = 1_200;
/// The longest reason or filter that can be typed.
const INPUT_MAX: usize = 200;

/// What the coordinator shall be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To stop opening, for this reason.
    Pause(String),
    /// To go on, for this reason.
    Resume(String),
    /// To put this wave back behind admission, for this reason.
    Reclose {
        /// The wave's name.
        wave: String,
        /// Why.
        reason: String,
    },
    /// What was set aside for a person.
    Findings,
    /// Nothing: the screen is left.
    Leave,
    /// Nothing: Ctrl-C.
    Interrupt,
}

/// Which part of the screen is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Overview,
    Wave,
    Gates,
    Nodes,
    Events,
    Quarantine,
    Help,
}

/// What is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Input {
    what: Asking,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    Pause,
    Resume,
    Reclose,
    Filter,
    Word,
}

/// Who looks, and what they may do here.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    /// Their name, as it goes on record.
    pub(crate) name: String,
    /// Whether actions beside pausing can be armed.
    pub(crate) may_act: bool,
}

/// The screen.
pub(crate) struct Board {
    viewer: Viewer,
    signs: Signs,
    paint: Paint,
    rollout: Option<Box<Rollout>>,
    connected: bool,
    age: Duration,
    samples: VecDeque<(Timestamp, u32)>,
    events: Vec<Event>,
    findings: Option<Vec<MailboxFinding>>,
    view: View,
    selected: Option<usize>,
    scroll: usize,
    filter: String,
    input: Option<Input>,
    told: Option<String>,
    armed: Option<Duration>,
    frozen: bool,
}

impl Board {
    /// An empty screen.
    pub(crate) fn new(viewer: Viewer, signs: Signs, paint: Paint) -> Self {
        Self {
            viewer,
            signs,
            paint,
            rollout: None,
            connected: true,
            age: Duration::ZERO,
            samples: VecDeque::new(),
            events: Vec::new(),
            findings: None,
            view: View::Overview,
            selected: None,
            scroll: 0,
            filter: String::new(),
            input: None,
            told: None,
            armed: None,
            frozen: false,
        }
    }

    /// Takes the newest state. While frozen it is only counted.
    pub(crate) fn take(&mut self, rollout: Box<Rollout>) {
        let open = rollout.waves.iter().map(|wave| wave.open).sum();
        self.samples.push_back((at!(rollout.at_time), open));
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.connected = true;
        if !self.frozen {
            self.rollout = Some(rollout);
            self.age = Duration::ZERO;
        }
    }

    /// Takes the story so far.
    pub(crate) fn take_events(&mut self, events: &[Event]) {
        self.events = events.to_vec();
    }

    /// Takes what was set aside.
    pub(crate) fn take_findings(&mut self, findings: Vec<MailboxFinding>) {
        self.findings = Some(findings);
    }

    /// Says something to whoever looks, until the next key.
    pub(crate) fn tell(&mut self, text: String) {
        self.told = Some(text);
    }

    /// Says how old the newest state is, and whether more can come.
    pub(crate) fn passes(&mut self, age: Duration, connected: bool, span: Duration) {
        self.age = if self.frozen { self.age + span } else { age };
        self.connected = connected;
        self.armed = self.armed.and_then(|left| left.checked_sub(span));
    }

    /// Who looks.
    pub(crate) fn viewer(&self) -> &str {
        &self.viewer.name
    }

    /// What is shown now.
    pub(crate) fn rollout(&self) -> Option<&Rollout> {
        self.rollout.as_deref()
    }

    /// Takes a key, and says what it asks of the coordinator.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        self.told = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c')
        {
            return Some(Wish::Interrupt);
        }
        match self.input.take() {
            Some(input) => self.typed(input, key.code),
            None => self.pressed(key.code),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "terminals have many keys, and most mean nothing here"
    )]
    fn typed(&mut self, mut input: Input, key: KeyCode) -> Option<Wish> {
        match key {
            KeyCode::Esc => {
                if input.what == Asking::Filter {
                    self.filter.clear();
                }
                return None;
            }
            KeyCode::Enter => return self.entered(&input),
            KeyCode::Backspace => {
                input.text.pop();
            }
            KeyCode::Char(letter)
                if !letter.is_control() && input.text.len() < INPUT_MAX =>
            {
                input.text.push(letter);
            }
            _ => {}
        }
        if input.what == Asking::Filter {
            self.filter.clone_from(&input.text);
            self.scroll = 0;
        }
        self.input = Some(input);
        None
    }

    fn entered(&mut self, input: &Input) -> Option<Wish> {
        let reason = input.text.trim().to_owned();
        match input.what {
            Asking::Filter => None,
            Asking::Word => self.said(&reason),
            Asking::Pause => Some(Wish::Pause(reason)),
            Asking::Resume | Asking::Reclose if reason.is_empty() => {
                self.tell("nothing was done: this needs a reason".to_owned());
                None
            }
            Asking::Resume => Some(Wish::Resume(reason)),
            Asking::Reclose => {
                let wave = self.wave()?.name.clone();
                Some(Wish::Reclose { wave, reason })
            }
        }
    }

    /// Takes a word that was typed after `:`, as in many editors.
    fn said(&mut self, word: &str) -> Option<Wish> {
        match word {
            "" => None,
            "q" | "q!" | "qa" | "quit" | "x" | "exit" => Some(Wish::Leave),
            _ => {
                self.tell("`:q` leaves; every other key is on ?".to_owned());
                None
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "terminals have many keys, and most mean nothing here"
    )]
    fn pressed(&mut self, key: KeyCode) -> Option<Wish> {
        match key {
            KeyCode::Char('p') => self.ask(Asking::Pause),
            KeyCode::Char('P') => return Some(Wish::Pause(String::new())),
            KeyCode::Char('/') => self.ask(Asking::Filter),
            KeyCode::Char(':') => self.ask(Asking::Word),
            KeyCode::Char('r') => self.act(Asking::Resume),
            KeyCode::Char('c') => self.act(Asking::Reclose),
            KeyCode::Char('a') if self.viewer.may_act => {
                self.armed = if self.armed.is_some() { None } else { Some(ARMED_FOR) };
            }
            KeyCode::Char('f') => self.frozen = !self.frozen,
            KeyCode::Char('g') => self.turn(View::Gates),
            KeyCode::Char('n') => self.turn(View::Nodes),
            KeyCode::Char('e') => self.turn(View::Events),
            KeyCode::Char('?') => self.turn(View::Help),
            KeyCode::Char('q') => {
                self.turn(View::Quarantine);
                return Some(Wish::Findings);
            }
            KeyCode::Char('x') => return Some(Wish::Leave),
            KeyCode::Enter => self.turn(View::Wave),
            KeyCode::Esc => {
                self.filter.clear();
                self.turn(View::Overview);
            }
            KeyCode::Up => self.step(false, 1),
            KeyCode::Down => self.step(true, 1),
            KeyCode::PageUp => self.step(false, 10),
            KeyCode::PageDown => self.step(true, 10),
            _ => {}
        }
        None
    }

    fn ask(&mut self, what: Asking) {
        let text =
            if what == Asking::Filter { self.filter.clone() } else { String::new() };
        self.input = Some(Input { what, text });
    }

    fn act(&mut self, what: Asking) {
        match (self.viewer.may_act, self.armed) {
            (false, _) => self.tell(
                "read-only: start with --allow-actions to do that; p always pauses"
                    .to_owned(),
            ),
            (true, None) => self.tell("not armed: a arms for 60 s".to_owned()),
            (true, Some(_)) => self.ask(what),
        }
    }

    fn turn(&mut self, view: View) {
        self.view = if self.view == view { View::Overview } else { view };
        self.scroll = 0;
    }

    fn step(&mut self, down: bool, by: usize) {
        match self.view {
            View::Overview | View::Wave | View::Gates => {
                let count = self.rollout().map_or(0, |rollout| rollout.waves.len());
                let now = self.place();
                let next = if down { now + by } else { now.saturating_sub(by) };
                self.selected = Some(next.min(count.saturating_sub(1)));
            }
            View::Nodes | View::Events | View::Quarantine | View::Help => {
                self.scroll =
                    if down { self.scroll + by } else { self.scroll.saturating_sub(by) };
            }
        }
    }

    /// Where the wave stands that is looked at: the selected one, or the one that moves.
    fn place(&self) -> usize {
        let Some(rollout) = self.rollout() else { return 0 };
        let last = rollout.waves.len().saturating_sub(1);
        let moves = current(rollout).map(|wave| wave.number);
        let moves = rollout.waves.iter().position(|wave| Some(wave.number) == moves);
        self.selected.or(moves).unwrap_or(last).min(last)
    }

    fn wave(&self) -> Option<&Wave> {
        self.rollout()?.waves.get(self.place())
    }

    /// Mailboxes opened in a second over the last minute, if there is that much to see.
    fn rate(&self) -> Option<u64> {
        let (now, open) = *self.samples.back()?;
        let from = now - Span::from_secs(RATE_SECONDS);
        let (since, before) = *self.samples.iter().find(|(at, _)| *at >= from)?;
        let seconds = now.since(since).millis() / 1_000;
        let opened = u64::from(open.saturating_sub(before));
        opened.checked_div(seconds)
    }

    /// How many were opened in each of the last `count` stretches of five seconds.
    fn strides(&self, count: usize) -> Vec<u32> {
        const STRIDE_SECONDS: u64 = 5;
        let Some((now, _)) = self.samples.back() else { return Vec::new() };
        let open_at = |seconds: u64| {
            let at = *now - Span::from_secs(seconds);
            let before = self.samples.iter().rev().find(|(sampled, _)| *sampled <= at);
            before.or(self.samples.front()).map_or(0, |(_, open)| *open)
        };
        let strides = (0..u64::try_from(count).unwrap_or(0)).rev();
        let opened = strides.map(|stride| {
            let later = open_at(stride * STRIDE_SECONDS);
            later.saturating_sub(open_at((stride + 1) * STRIDE_SECONDS))
        });
        opened.collect()
    }
}
