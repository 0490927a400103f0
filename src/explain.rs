//! Explain: what the runbook's tables say about a word.
//!
//! The runbook is the one place where reason codes, alerts, metrics and settings are explained; a
//! test holds it against the codes that the program has.
//!
//! # Invariants
//!
//! * What is printed stands in the runbook of this version, word for word.
//! * It talks to nobody: it works while everything is down.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::cli::{Explain, TableOrJson};
use crate::complaint::{edits, is_slip};
use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::{json, say};
use crate::telemetry;

const RUNBOOK: &str = include_str!("../deploy/README.md");

/// Where exit codes are explained.
const README: &str = include_str!("../README.md");

/// More suggestions help nobody.
const SUGGESTIONS_MAX: usize = 6;

/// Words that begin with as many of the same letters may have been meant.
const SAME_BEGINNING: usize = 4;

/// Carries out `tidegate explain`.
pub(crate) fn run(args: &Explain) -> Outcome {
    let entries = entries(&args.word);
    if entries.is_empty() {
        let failure = Failure::text(
            Exit::Input,
            format!("the runbook's tables have no `{}`", console::safe(&args.word)),
        );
        return Err(failure.help(suggestion(&args.word)));
    }
    match args.output {
        TableOrJson::Json => console::data_line(value(&args.word, &entries))?,
        TableOrJson::Table => console::data(page(&args.word, &entries))?,
    }
    Ok(Exit::Done)
}

/// Whether a word is a code, which entries of the journal may have.
fn is_code(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| !entry.section.starts_with("Configuration reference"))
}

/// Every word that the tables have and that can be a code, once each.
pub(crate) fn codes() -> Vec<&'static str> {
    let is_code = |name: &&str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let mut codes = Vec::new();
    each_row(|section, _, row| {
        if section.first() != Some(&"Configuration reference") {
            let first = row.first().copied().unwrap_or_default();
            codes.extend(named(first).filter(is_code));
        }
    });
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// A row of the tables that is about codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Coded {
    /// The heading right above it.
    pub(crate) section: String,
    /// The codes.
    pub(crate) codes: Vec<&'static str>,
    /// What it says of them, line by line.
    pub(crate) lines: Vec<String>,
}

/// Chapters whose tables are about files and settings.
const NO_CODES: [&str; 2] = ["Before", "Configuration reference"];

/// Every row that is about codes, in the runbook's order.
pub(crate) fn coded() -> Vec<Coded> {
    let known = codes();
    let mut found = Vec::new();
    each_row(|section, titles, row| {
        let first = row.first().copied().unwrap_or_default();
        let codes: Vec<_> = named(first).filter(|name| known.contains(name)).collect();
        let is_about_files = section.first().is_some_and(|it| NO_CODES.contains(it));
        if codes.is_empty() || is_about_files {
            return;
        }
        let cells = titles.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty());
        let lines = cells.map(|(title, cell)| format!("{title}: {}", plain(cell)));
        found.push(Coded {
            section: section.last().copied().unwrap_or_default().to_owned(),
            codes,
            lines: lines.collect(),
        });
    });
    found
}

/// Every exit code and what it means, as README says.
pub(crate) fn exit_codes() -> impl Iterator<Item = (&'static str, String)> {
    let below = README.split("\n## Exit codes\n").nth(1).unwrap_or_default();
    let table = below.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = table.take_while(|line| line.starts_with('|')).map(cells);
    rows.filter_map(|row| Some((*row.first()?, plain(row.get(1)?))))
}

/// What the tables say of a code, line by line.
pub(crate) fn lines(code: &str) -> Vec<String> {
    let entries = entries(code);
    let about = entries.iter().filter(|it| !it.section.starts_with("Configuration"));
    let cells = about.flat_map(|entry| entry.cells.iter());
    let cells = cells.filter(|(_, cell)| !cell.is_empty());
    cells.map(|(title, cell)| format!("{title}: {}", plain(cell))).collect()
}

/// What to do about what has this code; nothing where the runbook has no advice.
pub(crate) fn advice(code: &str) -> Option<String> {
    let entries = entries(code);
    let advice = entries.iter().find_map(|entry| {
        let cells = entry.cells.iter();
        cells
            .filter(|(title, _)| title.starts_with("do") || *title == "what to do")
            .map(|it| it.1)
            .next()
    });
    advice.map(plain).filter(|advice| !advice.is_empty())
}

/// What the runbook says about a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// What counts without it.
    pub(crate) usual: Option<String>,
    /// What it is for.
    pub(crate) meaning: Option<String>,
}

/// What the configuration reference says about `key` of the files of this kind.
pub(crate) fn setting(kind: &str, key: &str) -> Option<Setting> {
    let (chapter, key) = match (kind, key.split_once('.')) {
        // Both halves of solo.toml have chapters of their own.
        ("solo", Some((half @ ("coordinator" | "worker"), rest))) => (half, rest),
        ("solo", _) => ("coordinator", key),
        _ => (kind, key),
    };
    // What all programs have stands in the first chapter.
    setting_in(chapter, key).or_else(|| setting_in("coordinator", key))
}

fn setting_in(chapter: &str, key: &str) -> Option<Setting> {
    let mut found = None;
    each_row(|section, titles, row| {
        let in_chapter = section.first() == Some(&"Configuration reference")
            && section.get(1).is_some_and(|title| title.to_lowercase().contains(chapter));
        let first = row.first().copied().unwrap_or_default();
        if found.is_some() || !in_chapter || !names_setting(first, key) {
            return;
        }
        let cell = |wanted: &str| {
            let place = titles.iter().position(|title| title.contains(wanted))?;
            row.get(place).map(|cell| plain(cell)).filter(|cell| !cell.is_empty())
        };
        let meaning = row.last().map(|cell| plain(cell)).filter(|it| !it.is_empty());
        found = Some(Setting { usual: cell("default"), meaning });
    });
    found
}

/// Whether a first column such as `` `cohort[].name`, `.select` `` names this setting.
fn names_setting(cell: &str, key: &str) -> bool {
    let mut table = "";
    named(cell).any(|name| {
        let full = match name.strip_prefix('.') {
            Some(rest) => format!("{table}.{rest}"),
            None if name.contains('.') => {
                table = name.rsplit_once('.').map_or("", |(table, _)| table);
                name.to_owned()
            }
            None if table.is_empty() => name.to_owned(),
            None => format!("{table}.{name}"),
        };
        let general = full.strip_suffix(".SIGNAL.…").or_else(|| full.strip_suffix(".…"));
        full == key
            || key.strip_prefix(full.as_str()).is_some_and(|rest| rest.starts_with('.'))
            || general.is_some_and(|table| {
                key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
            })
    })
}

/// A row of a table.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// The headings above it.
    section: String,
    /// The column's title and its text, but for the first column.
    cells: Vec<(&'static str, &'static str)>,
    /// What the first column says besides the word.
    about: &'static str,
}

/// Everything that the tables say about `word`.
fn entries(word: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    each_row(|section, titles, row| {
        let first = row.first().copied().unwrap_or_default();
        if named(first).any(|name| name.eq_ignore_ascii_case(word)) {
            let cells =
                titles.iter().zip(row).skip(1).map(|(title, cell)| (*title, *cell));
            found.push(Entry {
                section: section.join(" > "),
                cells: cells.collect(),
                about: first,
            });
        }
    });
    found
}

/// Calls `take` for every row with the headings above it and the titles of its columns.
fn each_row(mut take: impl FnMut(&[&'static str], &[&'static str], &[&'static str])) {
    let mut section: Vec<&str> = Vec::new();
    let mut titles: Vec<&str> = Vec::new();
    let mut in_code = false;
    for line in RUNBOOK.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code {
            // Not ours to read.
        } else if let Some(title) = line.strip_prefix("## ") {
            section = vec![title];
        } else if let Some(title) = line.strip_prefix("### ") {
            section.truncate(1);
            section.push(title);
        } else if !line.starts_with('|') {
            titles.clear();
        } else if titles.is_empty() {
            titles = cells(line);
        } else if !line.starts_with("|---") {
            take(&section, &titles, &cells(line));
        }
    }
}

/// The cells of a row; a bar between backticks is part of a word.
fn cells(line: &'static str) -> Vec<&'static str> {
    let (mut cells, mut start, mut in_word) = (Vec::new(), 1, false);
    for (at, letter) in line.char_indices().skip(1) {
        match letter {
            '`' => in_word = !in_word,
            '|' if !in_word => {
                cells.push(line.get(start..at).unwrap_or_default().trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    cells
}

/// The words between backticks.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A cell without links.
fn plain(cell: &str) -> String {
    let mut out = String::new();
    let mut rest = cell;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((text, target, behind)) =
            after.split_once("](").and_then(|(text, link)| {
                let (target, behind) = link.split_once(')')?;
                Some((text, target, behind))
            })
        else {
            break;
        };
        out.push_str(before);
        out.push_str(text);
        if let Some(title) = heading(target) {
            out.push_str(" (see \"");
            out.push_str(title);
            out.push_str("\")");
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// The heading that a link within the runbook leads to.
fn heading(target: &str) -> Option<&'static str> {
    let anchor = target.strip_prefix('#')?;
    let headings = RUNBOOK.lines().filter_map(|line| {
        line.strip_prefix("### ").or_else(|| line.strip_prefix("## "))
    });
    headings.into_iter().find(|title| anchor_of(title) == anchor)
}

fn anchor_of(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The sections that an entry leads to, with their text.
fn led_to(entries: &[Entry]) -> Vec<(&'static str, String)> {
    let cells =
        entries.iter().flat_map(|entry| entry.cells.iter().map(|(_, cell)| *cell));
    let links = cells.flat_map(|cell| cell.split("](").skip(1));
    let titles = links.filter_map(|link| heading(link.split(')').next()?));
    let mut sections: Vec<(&str, String)> = Vec::new();
    for title in titles {
        if sections.iter().all(|(known, _)| *known != title) {
            sections.push((title, text_of(title)));
        }
    }
    sections
}

/// The text below a heading, up to the next one.
fn text_of(title: &str) -> String {
    let below =
        RUNBOOK.lines().skip_while(|line| line.trim_start_matches('#').trim() != title);
    let mut in_code = false;
    let text = below.skip(1).take_while(|line| {
        in_code ^= line.starts_with("```");
        in_code || !line.starts_with('#')
    });
    text.collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn page(word: &str, entries: &[Entry]) -> String {
    let mut out = format!("{word}\n");
    for entry in entries {
        say!(out, "\n  {}\n", entry.section);
        if named(entry.about).count() > 1
            || entry.about.trim_matches('`').len() > word.len()
        {
            say!(out, "    {}\n", plain(entry.about));
        }
        for (title, cell) in entry.cells.iter().filter(|(_, cell)| !cell.is_empty()) {
            say!(out, "    {title}: {}\n", plain(cell));
        }
    }
    if is_code(entries) {
        let id = telemetry::message_id(word);
        say!(out, "\n  In the journal: journalctl MESSAGE_ID={id}\n");
    }
    for (title, text) in led_to(entries) {
        say!(out, "\n{title}\n\n");
        for line in text.lines() {
            say!(out, "  {}\n", plain(line));
        }
    }
    out
}

fn value(word: &str, entries: &[Entry]) -> Value {
    let entry = |entry: &Entry| {
        let cells = entry.cells.iter();
        let says = cells.map(|(title, cell)| ((*title).to_owned(), plain(cell)));
        Explained { section: entry.section.clone(), says: says.collect() }
    };
    let led_to = led_to(entries);
    let see = led_to.iter();
    json::value(&Explanation {
        word,
        message_id: is_code(entries).then(|| telemetry::message_id(word)),
        entries: entries.iter().map(entry).collect(),
        see: see
            .map(|(title, text)| Passage { title: (*title).into(), text: text.clone() })
            .collect(),
    })
}

/// What a word means, and what to do.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.explain/v1")]
pub(crate) struct Explanation<'a> {
    /// The word.
    word: &'a str,
    /// The id of its messages in the journal, where it is a reason code.
    message_id: Option<String>,
    /// What the runbook's tables say of it.
    entries: Vec<Explained>,
    /// Passages of the runbook that they lead to.
    see: Vec<Passage>,
}

/// A row of a table of the runbook.
#[derive(Serialize, JsonSchema)]
struct Explained {
    /// The section that it stands in.
    section: String,
    /// Its cells, by their columns' titles.
    says: BTreeMap<String, String>,
}

/// A passage of the runbook.
#[derive(Serialize, JsonSchema)]
struct Passage {
    /// Its title.
    title: String,
    /// What it says.
    text: String,
}

/// What may have been meant.
fn suggestion(word: &str) -> String {
    let word = word.to_lowercase();
    let beginning: String = word.chars().take(SAME_BEGINNING).collect();
    let mut near = Vec::new();
    each_row(|_, _, row| {
        let names = row.first().into_iter().flat_map(|first| named(first));
        for name in names.filter(|name| !name.contains(' ')) {
            let known = name.to_lowercase();
            let is_near = known.contains(&word)
                || known.starts_with(&beginning)
                || is_slip(&word, &known) && edits(&word, &known) <= word.len() / 3;
            if is_near && !near.contains(&name) {
                near.push(name);
            }
        }
    });
    near.sort_by_key(|name| edits(&word, &name.to_lowercase()));
    near.truncate(SUGGESTIONS_MAX);
    if near.is_empty() {
        return "give a code as `tidegate status -o json` shows it, an alert, a metric, or a \
                setting of a configuration file"
            .to_owned();
    }
    format!("did you mean `{}`?", near.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Where codes are given to what people and programs are shown, and in which function.
    const CODES: [(&str, &str); 10] = [
        ("crates/core/src/rollout/status.rs", "fn code("),
        ("crates/core/src/rollout/record.rs", "fn code("),
        ("crates/core/src/gate/verdict.rs", "fn code("),
        ("crates/core/src/pace/report.rs", "fn code("),
        ("crates/coordinator/src/events.rs", "fn code("),
        ("crates/coordinator/src/refused.rs", "fn name("),
        ("crates/coordinator/src/exchangers/drain.rs", "fn code("),
        ("crates/mail/src/reason.rs", "fn code("),
        ("crates/mail/src/refusal.rs", "fn code("),
        ("crates/mail/src/doubt.rs", "fn code("),
    ];

    /// All codes of a file.
    fn codes(file: &str, function: &str) -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(path).unwrap();
        let bodies = text.split(function).skip(1);
        let bodies =
            bodies.map(|body| body.split("\n    }\n").next().unwrap_or_default());
        let arms = bodies
            .flat_map(|body| body.lines().filter_map(|line| line.split_once("=> \"")));
        arms.filter_map(|(_, code)| Some(code.split_once('"')?.0.to_owned())).collect()
    }

    #[test]
    fn the_runbook_explains_every_code_that_the_program_has() {
        for (file, function) in CODES {
            let codes = codes(file, function);
            assert!(codes.len() > 2, "{file}: {codes:?}");
            let missing: Vec<_> =
                codes.iter().filter(|code| entries(code).is_empty()).collect();
            assert!(
                missing.is_empty(),
                "deploy/README.md does not explain {missing:?} of {file}"
            );
        }
    }

    #[test]
    fn a_code_is_explained_with_the_section_that_it_leads_to() {
        let page = page("worker-silent", &entries("worker-silent"));

        assert!(page.contains("has not been heard for longer than its lease"), "{page}");
        assert!(page.contains("a node is silent (see \"A node is silent\")"), "{page}");
        assert!(page.contains("\nA node is silent\n\n  "), "{page}");
        assert!(!page.contains("]("), "{page}");
    }

    #[test]
    fn alerts_metrics_and_settings_are_explained_too() {
        for word in
            ["TidegateHalted", "tidegate_node_state", "limits.pace.capacity", "Perfect"]
        {
            assert!(!entries(word).is_empty(), "{word}");
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_those_that_may_be_meant() {
        assert!(suggestion("worker-silence").contains("`worker-silent`"));
        assert!(suggestion("pased").starts_with("did you mean `paused`"));
        assert!(suggestion("haltet").starts_with("did you mean `halted`"));
        assert!(suggestion("zzz").contains("tidegate status -o json"));
    }

    #[test]
    fn every_exit_code_stands_in_the_readme() {
        let told: Vec<&str> =
            exit_codes().flat_map(|(codes, _)| codes.split(", ")).collect();
        let source = include_str!("exit.rs").split("fn code(self)").nth(1).unwrap();
        let arms = source.lines().filter_map(|line| line.split_once(" => "));
        let codes = arms.filter_map(|(_, code)| code.strip_suffix(','));

        assert_eq!(told, codes.collect::<Vec<_>>());
    }

    #[test]
    fn a_bar_within_a_word_divides_no_cell() {
        assert_eq!(cells("| `a|b` | c | |"), ["`a|b`", "c", ""]);
    }

    #[test]
    fn every_code_that_receivers_are_told_of_is_one_of_the_program_and_is_explained() {
        let known: Vec<String> =
            CODES.iter().flat_map(|(file, function)| codes(file, function)).collect();

        for (code, _) in tidegate_coordinator::FACTS {
            assert!(known.iter().any(|it| it == code), "{code}");
            assert!(!entries(code).is_empty(), "{code} is not explained");
        }
    }

    #[test]
    fn every_code_that_something_waits_for_has_advice() {
        for code in codes("crates/core/src/rollout/status.rs", "fn code(") {
            assert!(advice(&code).is_some(), "{code}");
        }
    }
}
