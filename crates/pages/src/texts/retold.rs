//! Retold: what the coordinator says in its own words, said in a language of the pages.
//!
//! # Invariants
//!
//! * Numbers, names and what people typed are taken over; only the words around them change.
//! * A sentence is retold whole or not at all: half of it in each language helps nobody.

use std::sync::LazyLock;

use jiff::civil::DateTime;

use super::{Language, Texts};

/// Sentences within sentences: a reason in a halt in a story. Deeper there is nothing.
const DEPTH_MAX: usize = 3;

/// Places of names and of what people typed: no figures, even where they look like some.
const NAMES: [&str; 18] = [
    "approver", "because", "by", "changes", "command", "grounds", "level", "name",
    "names", "node", "nodes", "reason", "request", "roles", "rung", "tier", "wave",
    "who",
];

/// How long a moment is, as the coordinator writes it: `2026-01-26 14:00`.
const MOMENT_CHARS: usize = 16;

/// The place of a whole sentence of the gate's inside another one.
const SENTENCE: &str = "gate";

impl Texts {
    /// What the coordinator says under `code`, in this language; nothing if it is not known.
    pub fn retold(&self, code: &str, said: &str) -> Option<String> {
        match self.language {
            Language::English => Some(said.to_owned()),
            Language::Italian => self.retold_as(&format!("told-{code}"), said, 0),
        }
    }

    /// Whether what the coordinator says under `code` has nothing of its own in it, no number and
    /// no name, so that a sentence for the code says as much.
    pub fn says_no_more(&self, code: &str, said: &str) -> bool {
        let name = format!("told-{code}");
        let named = OURS.iter().filter(|it| it.is_called(&name));
        { named }.any(|it| it.read(said).is_some_and(|found| found.is_empty()))
    }

    /// A signal's name in words; one of a site's own stays as it is.
    pub fn signal(&self, name: &str) -> String {
        self.retold_as("word-signal", name, 0).unwrap_or_else(|| name.to_owned())
    }

    /// What somebody asks a second person for, in words.
    pub fn asked(&self, what: &str) -> String {
        let retold = match self.language {
            Language::English => None,
            Language::Italian => self.retold_as("word-asked", what, 0),
        };
        retold.unwrap_or_else(|| what.to_owned())
    }

    fn retold_as(&self, name: &str, said: &str, depth: usize) -> Option<String> {
        let called = |it: &&Pattern| it.is_called(name);
        let fits = |it: &Pattern| Some((it.name, it.read(said)?));
        let (name, found) = OURS.iter().filter(called).find_map(fits)?;
        self.filled(name, &found, depth)
    }

    /// The text called `name`, with what was found for its places.
    fn filled(&self, name: &str, found: &[(&str, &str)], depth: usize) -> Option<String> {
        let mut variables = Vec::with_capacity(found.len());
        for (place, value) in found {
            variables.push((*place, self.part(place, value, depth + 1)?));
        }
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(place, value)| (*place, value.as_str())).collect();
        Some(self.say_with(name, &variables))
    }

    fn part(&self, place: &str, value: &str, depth: usize) -> Option<String> {
        if depth > DEPTH_MAX {
            return None;
        }
        if place == SENTENCE {
            let sentences = OURS.iter().filter(|it| it.name.starts_with("told-"));
            let fits = |it: &Pattern| Some((it.name, it.read(value)?));
            let (name, found) = { sentences }.find_map(fits)?;
            return self.filled(name, &found, depth);
        }
        let retold = self.retold_as(&format!("word-{place}"), value, depth);
        Some(match retold {
            Some(retold) => retold,
            None if NAMES.contains(&place) => value.to_owned(),
            None => self.figure(value),
        })
    }

    /// A number or a moment as the language writes it; whatever else stays.
    fn figure(&self, value: &str) -> String {
        if let Some((at, zone)) = value.split_at_checked(MOMENT_CHARS)
            && let Ok(at) = DateTime::strptime("%Y-%m-%d %H:%M", at)
        {
            return crate::windows::moment_of(self, at) + zone;
        }
        let (number, unit) = match value.split_once(' ') {
            Some((number, unit)) => (number, format!(" {unit}")),
            None => (value, String::new()),
        };
        let is_whole = |it: &str| it.bytes().all(|byte| byte.is_ascii_digit());
        match number.split_once('.') {
            Some((whole, rest)) if is_whole(whole) && is_whole(rest) => {
                let comma = match self.language {
                    Language::Italian => ',',
                    Language::English => '.',
                };
                format!("{whole}{comma}{rest}{unit}")
            }
            Some(_) => value.to_owned(),
            None => number
                .parse()
                .map_or_else(|_| value.to_owned(), |it| self.number(it) + &unit),
        }
    }
}

/// A sentence of the coordinator's: words, and places between them.
struct Pattern {
    name: &'static str,
    /// What comes before the first place.
    begins: &'static str,
    /// Each place, with the words up to the next one.
    places: Vec<(&'static str, &'static str)>,
}

/// All of them, as the English file has them.
static OURS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let lines = Language::English.source().lines();
    let told =
        lines.filter(|line| line.starts_with("told-") || line.starts_with("word-"));
    told.filter_map(|line| line.split_once(" = "))
        .map(|(name, text)| Pattern::of(name, text))
        .collect()
});

impl Pattern {
    fn of(name: &'static str, text: &'static str) -> Self {
        let mut parts = text.split("{ $");
        let begins = parts.next().unwrap_or_default();
        let places = parts.filter_map(|part| part.split_once(" }")).collect();
        Self { name, begins, places }
    }

    /// Whether it is `name`, or one of several: `name-2`.
    fn is_called(&self, name: &str) -> bool {
        let rest = self.name.strip_prefix(name);
        let number = rest.map(|rest| rest.strip_prefix('-').unwrap_or(rest));
        number.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// What stands in its places; nothing if `said` is another sentence.
    fn read<'a>(&self, said: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
        let mut rest = said.strip_prefix(self.begins)?;
        let mut found = Vec::with_capacity(self.places.len());
        let Some(((last, ends), before)) = self.places.split_last() else {
            return rest.is_empty().then_some(found);
        };
        for (place, words) in before {
            let (value, after) = rest.split_once(words)?;
            found.push((*place, value));
            rest = after;
        }
        found.push((*last, rest.strip_suffix(ends)?));
        found.iter().all(|(_, value)| !value.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests;
