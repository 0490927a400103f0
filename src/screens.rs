//! Screens: what people and programs are shown, made from the coordinator's answers.
//!
//! # Invariants
//!
//! * Nothing here asks or changes anything: from a message to text.
//! * Text and JSON are made from the same message and cannot disagree.

pub(crate) mod board;
pub(crate) mod brief;
pub(crate) mod diagnosis;
pub(crate) mod difference;
pub(crate) mod held;
pub(crate) mod json;
pub(crate) mod live;
pub(crate) mod marks;
pub(crate) mod pace;
pub(crate) mod plan;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod simulated;
pub(crate) mod single;
pub(crate) mod status;
pub(crate) mod windows;

use std::fmt::Write as _;

pub(crate) use tidegate_core::time::MinuteOf;
use tidegate_core::time::{Span, Timestamp};
pub(crate) use tidegate_wire::protocol::instant;

/// Columns of text, each as wide as its widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [usize],
}

impl Table {
    /// A table with this header; the columns in `right` hold numbers.
    pub(crate) fn new(header: &[&str], right: &'static [usize]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()], right }
    }

    /// Adds a column.
    pub(crate) fn column(&mut self, header: &str, cells: Vec<String>) {
        let cells = std::iter::once(header.to_owned()).chain(cells);
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.push(cell);
        }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Leaves out those of the last columns that say nothing in any row.
    pub(crate) fn leave_out(&mut self, headers: &[&str]) {
        for header in headers {
            let at = |row: &Vec<String>| row.iter().position(|cell| cell == header);
            let Some(column) = self.rows.first().and_then(at) else { continue };
            let cells = self.rows.iter().skip(1).filter_map(|row| row.get(column));
            if cells.clone().all(|cell| matches!(cell.as_str(), "-" | "0")) {
                for row in self.rows.iter_mut().filter(|row| row.len() > column) {
                    row.remove(column);
                }
            }
        }
    }

    /// The table as lines, each beginning with `indent`.
    pub(crate) fn render(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                // Writing to a string cannot fail.
                let _ = if self.right.contains(&column) {
                    write!(line, "{gap}{cell:>width$}")
                } else {
                    write!(line, "{gap}{cell:<width$}")
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// An instant as `2026-01-26T06:14:09Z`.
pub(crate) fn date(at: Timestamp) -> String {
    let millis = i64::try_from(at.millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis / 1_000 * 1_000)
        .map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}

/// An instant's time of day, `06:14:09 UTC`.
pub(crate) fn clock(at: Timestamp) -> String {
    let seconds = at.millis() / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// How long ago `at` was, seen from `now`.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    let span = now.since(at);
    let whole = Span::from_secs(span.millis() / 1_000);
    if whole == Span::ZERO { "now".to_owned() } else { format!("{whole} ago") }
}

/// A share in percent with one digit.
pub(crate) fn percent(part: u32, whole: u32) -> String {
    let tenths = u64::from(part) * 1_000 / u64::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Appends to a text, which cannot fail.
macro_rules! say {
    ($out:expr, $($text:tt)+) => {{
        use std::fmt::Write as _;
        let _ = write!($out, $($text)+);
    }};
}
pub(crate) use say;

/// An instant of the wire; zero where there is none.
macro_rules! at {
    ($field:expr) => {
        $field.as_ref().and_then($crate::screens::instant).unwrap_or_default()
    };
}
pub(crate) use at;

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{Table, percent};

    #[test]
    fn a_table_aligns_words_left_and_numbers_right() {
        let mut table = Table::new(&["WAVE", "SIZE"], &[1]);
        table.row(["canary".to_owned(), "7".to_owned()]);
        table.row(["rest".to_owned(), "1,200".to_owned()]);

        expect![[r"
            WAVE     SIZE
            canary      7
            rest    1,200
        "]]
        .assert_eq(&table.render(""));
    }

    #[test]
    fn a_column_that_says_nothing_of_any_row_is_left_out() {
        let mut table = Table::new(&["NODE", "OPEN", "UNREADABLE", "DRAIN"], &[1, 2, 3]);
        for (node, unreadable) in [("stor-01", "0"), ("stor-02", "3")] {
            table.row([node, "12", unreadable, "-"].map(str::to_owned));
        }

        table.leave_out(&["UNREADABLE", "DRAIN"]);

        expect![[r"
            NODE     OPEN  UNREADABLE
            stor-01    12           0
            stor-02    12           3
        "]]
        .assert_eq(&table.render(""));
    }

    #[test]
    fn a_percentage_has_one_digit_and_nothing_of_nothing_is_nothing() {
        assert_eq!(
            [percent(1, 3), percent(3, 3), percent(0, 0)],
            ["33.3 %", "100.0 %", "0.0 %"]
        );
    }
}
