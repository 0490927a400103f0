//! A policy file becomes a policy, or an error that points at what is wrong.
//!
//! # Invariants
//!
//! * Unknown keys are refused: a misspelt limit must not become its default.
//! * A policy that comes out of here passes its own check.

mod calendar;
mod moments;
mod schema;
mod signals;
mod units;

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::{Deserialize as _, Deserializer};
use tidegate_core::gate::GatePolicyError;
use tidegate_core::pace::PacePolicyError;
use tidegate_core::policy::{Policy, PolicyError};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use schema::PolicyKeys;

pub use units::span;

/// A policy for a provider of any size, with every key explained.
pub const EXAMPLE: &str = include_str!("../../../deploy/config/policy.toml");

/// Names further apart than this were not meant.
const EDITS_MAX: usize = 3;

/// A policy file cannot be used. Prints with file, line, caret and help.
#[derive(Debug)]
pub struct PolicyFileError {
    file: String,
    text: String,
    at: Range<usize>,
    problem: String,
    help: Option<String>,
    source: Option<Box<PolicyError>>,
}

/// Reads the policy in `text`; `name` is what errors call the file.
///
/// # Errors
///
/// [`PolicyFileError`] for the first thing that is no TOML, no known key, no possible
/// value, or makes no sense together with the rest.
pub fn parse(name: &str, text: &str) -> Result<Policy, PolicyFileError> {
    let error = |at: Range<usize>, problem: String, help| PolicyFileError {
        file: name.to_owned(),
        text: text.to_owned(),
        at,
        problem,
        help,
        source: None,
    };
    let keys: PolicyKeys = toml::from_str(text).map_err(|cause| {
        let (problem, help) = explain(cause.message());
        error(cause.span().unwrap_or(0..0), problem, help)
    })?;
    if keys.has_idle_failures_max() {
        let problem = "`failures_max` counts only with `mode = \"every-mailbox\"`";
        let help = "the other modes have `p_ok` and `p_bad` instead";
        let at = locate(text, "gate.failures_max", false);
        return Err(error(at, problem.to_owned(), Some(help.to_owned())));
    }
    let policy = keys.into_policy();
    policy.check().map_err(|source| {
        let problem = problem_of(&source);
        let help = source.help().map(str::to_owned);
        let at = locate(text, &source.key(), source.is_about_the_key());
        PolicyFileError { source: Some(Box::new(source)), ..error(at, problem, help) }
    })?;
    Ok(policy)
}

/// Reads a policy from whatever `from` is and keeps nothing of it: so that `from` can find out which
/// keys a policy may have.
///
/// # Errors
///
/// What `from` says.
pub fn ask<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    PolicyKeys::deserialize(from).map(|_| ())
}

impl PolicyFileError {
    /// The error as a person reads it, in colour for a terminal.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let annotation = AnnotationKind::Primary.span(self.at.clone());
        let snippet = Snippet::source(self.text.as_str())
            .path(self.file.as_str())
            .annotation(annotation);
        let group = Level::ERROR.primary_title(self.problem.as_str()).element(snippet);
        let group = match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        renderer.render(&[group])
    }
}

impl fmt::Display for PolicyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for PolicyFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// What serde says, as we would say it, and what was probably meant.
fn explain(message: &str) -> (String, Option<String>) {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = ["unknown field", "unknown variant"];
    if !unknown.iter().any(|start| message.starts_with(start)) {
        let number = "expected a whole number";
        let said =
            message.replace("expected u32", number).replace("expected u16", number);
        return (said, None);
    }
    let Some(name) = quoted.next() else { return (message.to_owned(), None) };
    let known: Vec<&str> = quoted.collect();
    let nearest = known
        .iter()
        .map(|known| (edits(name, known), !known.starts_with(first_of(name)), *known))
        .min()
        .filter(|(edits, _, known)| *edits <= EDITS_MAX.min(known.len() / 2));
    let help = match nearest {
        Some((_, _, known)) => format!("did you mean `{known}`?"),
        None => format!("possible here: {}", known.join(", ")),
    };
    let what = if message.starts_with("unknown field") { "key" } else { "value" };
    (format!("unknown {what} `{name}`"), Some(help))
}

fn first_of(name: &str) -> char {
    name.chars().next().unwrap_or_default()
}

/// The gate's own words are better than that it cannot judge.
fn problem_of(error: &PolicyError) -> String {
    match std::error::Error::source(error) {
        Some(cause) if cause.is::<GatePolicyError>() || cause.is::<PacePolicyError>() => {
            cause.to_string()
        }
        Some(_) | None => error.to_string(),
    }
}

/// Where the value of a key is, or the key itself; if it is left out, where what it belongs
/// to begins.
fn locate(text: &str, key: &str, itself: bool) -> Range<usize> {
    let Ok(document) = DeTable::parse(text) else { return 0..0 };
    let mut steps = key.split('.');
    let Some(first) = steps.next() else { return 0..0 };
    let Some((name, mut value)) = document.get_ref().get_key_value(first) else {
        return 0..0;
    };
    let place = |key: Range<usize>, value| if itself { key } else { narrow(key, value) };
    let mut at = place(name.span(), value);
    for step in steps {
        let inner = match value.get_ref() {
            DeValue::Table(table) => table
                .get_key_value(step)
                .map(|(name, value)| (place(name.span(), value), value)),
            DeValue::Array(array) => {
                let place = step.parse::<usize>().ok();
                let value = place.and_then(|place| array.get(place));
                value.map(|value| (value.span(), value))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => None,
        };
        match inner {
            Some((span, inner)) => (at, value) = (span, inner),
            None => break,
        }
    }
    at
}

/// A plain value is shown itself; a table or a list by its key.
fn narrow(key: Range<usize>, value: &Spanned<DeValue<'_>>) -> Range<usize> {
    match value.get_ref() {
        DeValue::Table(_) | DeValue::Array(_) => key,
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => value.span(),
    }
}

/// How many letters must be put in, left out or replaced to make one name the other.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, left) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(other.chars()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            before = replaced.min(before + 1).min(diagonal + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
