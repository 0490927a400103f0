//! Chart: what was found, check by check.
//!
//! # Invariants
//!
//! * What is not well says what was seen, what it means and what to do.
//! * Text made by others cannot steer a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::console::{Paint, Tone, safe};
use crate::screens::json;

/// All that was found so far.
#[derive(Debug, Default)]
pub(super) struct Chart {
    findings: Vec<Finding>,
}

/// The outcome of one check.
#[derive(Debug)]
struct Finding {
    check: Cow<'static, str>,
    state: State,
    seen: String,
    means: String,
    remedy: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

/// What is not well.
#[derive(Debug)]
pub(super) struct Trouble {
    seen: String,
    means: String,
    remedy: String,
}

impl Trouble {
    /// What was seen, what it means, and what to do.
    pub(super) fn new(
        seen: impl Into<String>,
        means: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { seen: seen.into(), means: means.into(), remedy: remedy.into() }
    }
}

impl Chart {
    /// This is well.
    pub(super) fn ok(
        &mut self,
        check: impl Into<Cow<'static, str>>,
        seen: impl Into<String>,
    ) {
        self.note(check.into(), State::Ok, Trouble::new(seen, "", ""));
    }

    /// This is doubtful.
    pub(super) fn warn(&mut self, check: impl Into<Cow<'static, str>>, trouble: Trouble) {
        self.note(check.into(), State::Warn, trouble);
    }

    /// This is wrong.
    pub(super) fn fail(&mut self, check: impl Into<Cow<'static, str>>, trouble: Trouble) {
        self.note(check.into(), State::Fail, trouble);
    }

    /// Takes over what was found elsewhere.
    pub(super) fn append(&mut self, mut other: Self) {
        self.findings.append(&mut other.findings);
    }

    /// Whether anything is wrong.
    pub(super) fn is_failed(&self) -> bool {
        self.count(State::Fail) > 0
    }

    /// For people.
    pub(super) fn table(&self, paint: Paint) -> String {
        let width = self.findings.iter().map(|it| it.check.len()).max().unwrap_or(0);
        let mut text = String::new();
        for Finding { check, state, seen, means, remedy } in &self.findings {
            let word = paint.paint(state.tone(), state.word());
            let _ = writeln!(text, "{word}  {check:width$}  {seen}");
            for (label, line) in [("means", means), ("do", remedy)] {
                if !line.is_empty() {
                    let _ = writeln!(text, "      {label:>width$}: {line}");
                }
            }
        }
        let [ok, warned, failed] =
            [State::Ok, State::Warn, State::Fail].map(|it| self.count(it));
        let _ = writeln!(text, "{ok} ok, {warned} doubtful, {failed} failed");
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let check = |Finding { check, state, seen, means, remedy }: &'_ Finding| Check {
            name: check.to_string(),
            state: state.code(),
            seen: seen.clone(),
            means: means.clone(),
            remedy: remedy.clone(),
        };
        json::value(&Checks {
            each: self.findings.iter().map(check).collect(),
            ok: self.count(State::Ok),
            warned: self.count(State::Warn),
            failed: self.count(State::Fail),
        })
    }

    /// The checks that are not well, for tests.
    #[cfg(test)]
    pub(super) fn troubles(&self) -> Vec<String> {
        let bad = self.findings.iter().filter(|it| it.state != State::Ok);
        bad.map(|it| format!("{} {}", it.state.word(), it.check)).collect()
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|it| it.state == state).count()
    }

    fn note(&mut self, check: Cow<'static, str>, state: State, trouble: Trouble) {
        let Trouble { seen, means, remedy } = trouble;
        debug_assert!(
            state == State::Ok || !remedy.is_empty(),
            "{check} says what to do"
        );
        let [seen, means, remedy] = [seen, means, remedy].map(|text| safe(&text));
        self.findings.push(Finding { check, state, seen, means, remedy });
    }
}

/// What a doctor has found.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.doctor/v1")]
pub(crate) struct Checks {
    /// Check by check.
    #[serde(rename = "checks")]
    each: Vec<Check>,
    /// How many are well.
    ok: usize,
    /// How many are doubtful.
    warned: usize,
    /// How many are wrong.
    failed: usize,
}

/// One check.
#[derive(Serialize, JsonSchema)]
struct Check {
    /// What was looked at.
    #[serde(rename = "check")]
    name: String,
    /// `ok`, `warn` or `fail`.
    #[schemars(extend("enum" = State::ALL.map(State::code)))]
    state: &'static str,
    /// What was seen.
    seen: String,
    /// What that means; empty where all is well.
    means: String,
    /// What to do; empty where all is well.
    #[serde(rename = "do")]
    remedy: String,
}

impl State {
    const ALL: [Self; 3] = [Self::Ok, Self::Warn, Self::Fail];

    /// For programs.
    fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok  ",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Warn => Tone::Warn,
            Self::Fail => Tone::Bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_is_not_well_says_what_it_means_and_what_to_do() {
        let mut chart = Chart::default();
        chart.ok("gate.imap", "asked first");
        chart.fail(
            "gate.pop3",
            Trouble::new("no passdb\x1b[2J", "people get in", "put it there"),
        );

        let table = chart.table(Paint::PLAIN);

        expect![[r"
            ok    gate.imap  asked first
            FAIL  gate.pop3  no passdb�[2J
                      means: people get in
                         do: put it there
            1 ok, 0 doubtful, 1 failed
        "]]
        .assert_eq(&table);
    }
}
