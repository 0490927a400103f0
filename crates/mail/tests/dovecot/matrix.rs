//! Matrix: every kind of mailbox, every damage, every side, and what came of it.
//!
//! # Invariants
//!
//! * The table holds what was seen, not what was wanted; what differs from the wanted fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value};

use crate::damage::{Place, Row, Side, rows};
use crate::kind::Kind;
use crate::server::{Indexes, User, copy};

/// One cell: a mailbox of its own.
pub(crate) struct Cell {
    pub(crate) user: User,
    row: &'static Row,
    place: Place,
    wanted: &'static str,
    pub(crate) outcome: String,
}

impl Cell {
    /// All cells of the kinds asked for.
    pub(crate) fn all() -> Vec<Self> {
        let asked = std::env::var("TIDEGATE_KINDS").ok();
        let is_asked = |kind: &Kind| {
            let names = asked.as_ref().map(|names| names.split(','));
            names.is_none_or(|mut names| names.any(|name| name == kind.name()))
        };
        let mut cells = Vec::new();
        for kind in Kind::ALL.into_iter().filter(is_asked) {
            for row in rows(kind) {
                for &(place, wanted) in row.cells {
                    let address = format!("u{:04}@example.org", cells.len());
                    let user = User { address, kind };
                    let outcome = String::new();
                    cells.push(Self { user, row, place, wanted, outcome });
                }
            }
        }
        cells
    }

    /// Gives it a copy of its kind's mailbox on both sides.
    pub(crate) fn put_in_place(&self, live: &Path, snapshot: &Path) {
        let home = |address: &str| {
            let (name, domain) = address.split_once('@').unwrap();
            Path::new(domain).join(name)
        };
        for root in [live, snapshot] {
            let from = root.join(home(&self.user.kind.owner()));
            copy(&from, &root.join(home(&self.user.address)));
        }
    }

    pub(crate) fn damage(&self, live: &Path, snapshot: &Path) {
        let side = |root: &Path| Side(root.join(self.user.path()));
        self.place.damage(self.row.act, &side(live), &side(snapshot));
    }

    /// Notes what mail programs saw, and what the server had to say about this mailbox.
    pub(crate) fn see(
        &mut self,
        (outcome, delivered): (String, Result<(), String>),
        again: Option<&str>,
        complaints: &[String],
    ) {
        self.outcome = outcome;
        if let Some(again) = again {
            write!(self.outcome, ", {again}").unwrap();
        }
        if let Err(answer) = delivered {
            write!(self.outcome, ", DELIVERY REFUSED: {answer}").unwrap();
        }
        let about = complaints.iter().filter(|it| it.contains(&self.user.address));
        let about: Vec<_> = about.collect();
        if let Some(first) = about.first() {
            write!(self.outcome, ", {} lines in the log: {first}", about.len()).unwrap();
        }
    }

    fn title(&self) -> (Kind, &'static str, &'static str) {
        (self.user.kind, self.row.damage, self.place.name())
    }
}

/// The owners whose mailboxes are copied.
pub(crate) fn owners(cells: &[Cell]) -> Vec<User> {
    let mut kinds: Vec<Kind> = cells.iter().map(|it| it.user.kind).collect();
    kinds.dedup();
    kinds.into_iter().map(|kind| User { address: kind.owner(), kind }).collect()
}

/// All cells with one way of keeping indexes.
pub(crate) struct Trial {
    pub(crate) indexes: Indexes,
    pub(crate) cells: Vec<Cell>,
    pub(crate) totals: Map<String, Value>,
}

/// The table, the totals, and the cells that ended otherwise than wanted.
pub(crate) struct Report {
    pub(crate) text: String,
    pub(crate) wrong: Vec<String>,
}

impl Report {
    /// Of trials with the same cells.
    pub(crate) fn of(trials: &[Trial]) -> Self {
        let mut text = String::from(
            "| format | damage | side | outcome over IMAP and POP3 |\n|---|---|---|---|\n",
        );
        let mut wrong = Vec::new();
        let cells = trials.first().map_or(&[][..], |it| &it.cells);
        for (number, cell) in cells.iter().enumerate() {
            let (kind, damage, side) = cell.title();
            let (kind, outcome) = (kind.name(), outcome(trials, number));
            writeln!(text, "| {kind} | {damage} | {side} | {outcome} |").unwrap();
            if outcome != cell.wanted {
                let wanted = cell.wanted;
                wrong.push(format!("{kind}, {damage}, {side}: {outcome}, not {wanted}"));
            }
        }
        writeln!(text, "\nCompared: {}.", totals(trials)).unwrap();
        Self { text, wrong }
    }
}

/// What came of one cell, and what else where indexes are kept otherwise.
fn outcome(trials: &[Trial], number: usize) -> String {
    let mut text = String::new();
    for trial in trials {
        let outcome = &trial.cells[number].outcome;
        if text.is_empty() {
            text.clone_from(outcome);
        } else if text != *outcome {
            let indexes = format!("{:?}", trial.indexes).to_lowercase();
            write!(text, "; indexes {indexes}: {outcome}").unwrap();
        }
    }
    text
}

fn totals(trials: &[Trial]) -> String {
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in trials.iter().flat_map(|it| &it.totals) {
        *totals.entry(what).or_default() += count.as_u64().unwrap();
    }
    let totals: Vec<String> =
        totals.iter().map(|(what, count)| format!("{count} {what}")).collect();
    totals.join(", ")
}
