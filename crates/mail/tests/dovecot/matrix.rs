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
        let is_asked = |kind: &Kind| match &asked {
            Some(names) => names.split(',').any(|name| name == kind.name()),
            None => Kind::JUDGED.contains(kind),
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
        complaints: &[String],
    ) {
        self.outcome = outcome;
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

impl Trial {
    /// Cells that ended otherwise than wanted.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let wrong = self.cells.iter().filter(|it| it.outcome != it.wanted);
        let tell = |it: &Cell| {
            let (kind, damage, side) = it.title();
            let (kind, indexes) = (kind.name(), self.indexes);
            let (seen, wanted) = (&it.outcome, it.wanted);
            format!("{kind} {indexes:?}, {damage}, {side}: {seen}, not {wanted}")
        };
        wrong.map(tell).collect()
    }
}

/// The table and the totals.
pub(crate) fn report(trials: &[Trial]) -> String {
    let mut text = String::from(
        "| format | damage | side | outcome over IMAP and POP3 |\n|---|---|---|---|\n",
    );
    let [first, rest @ ..] = trials else { return text };
    for (number, cell) in first.cells.iter().enumerate() {
        let (kind, damage, side) = cell.title();
        let mut outcome = cell.outcome.clone();
        for other in rest {
            let theirs = &other.cells[number].outcome;
            if *theirs != outcome {
                write!(outcome, "; indexes {:?}: {theirs}", other.indexes).unwrap();
            }
        }
        let kind = kind.name();
        writeln!(text, "| {kind} | {damage} | {side} | {outcome} |").unwrap();
    }
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for (what, count) in trials.iter().flat_map(|it| &it.totals) {
        *totals.entry(what).or_default() += count.as_u64().unwrap();
    }
    let totals: Vec<String> =
        totals.iter().map(|(what, count)| format!("{count} {what}")).collect();
    writeln!(text, "\nCompared: {}.", totals.join(", ")).unwrap();
    text
}
