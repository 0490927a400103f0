//! Listing: one list, in any of the forms that lists have.
//!
//! # Invariants
//!
//! * All forms come from the same row and cannot disagree.
//! * A spreadsheet never takes a value for a formula, and no name steers the terminal.
//! * Rows are written as they come; nothing holds them all, but a table that is aligned.

use std::io::{self, StdoutLock, Write as _};

use serde_json::Value;

use crate::cli::{Dialect, Form, Format};
use crate::console::safe;
use crate::exit::Failure;
use crate::screens::Table;

/// What can be listed.
pub(crate) trait Listed {
    /// The schema of the list as one document.
    const LIST: &'static str;
    /// The columns for spreadsheets.
    const COLUMNS: &'static [&'static str];

    /// The row for programs, with its own schema.
    fn value(&self) -> Value;
    /// The row for people.
    fn line(&self) -> String;
    /// The same with all there is to say.
    fn wide(&self) -> String;
    /// The row for spreadsheets.
    fn cells(&self) -> Vec<String>;
    /// What it is called, alone.
    fn name(&self) -> String;
}

/// A list on its way to stdout.
pub(crate) struct Listing {
    out: io::BufWriter<StdoutLock<'static>>,
    form: Form,
    /// Rows so far.
    pub(crate) rows: u64,
}

impl Listing {
    /// Begins a list.
    ///
    /// # Errors
    ///
    /// When stdout cannot be written.
    pub(crate) fn begin<T: Listed>(form: Form) -> Result<Self, Failure> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        match form.output {
            Format::Csv => {
                write!(out, "{}", form.dialect.mark())?;
                csv_line(&mut out, form.dialect, T::COLUMNS)?;
            }
            Format::Json => write!(out, "{{\"schema\":\"{}\",\"items\":[", T::LIST)?,
            Format::Table | Format::Wide | Format::Jsonl | Format::Name => {}
        }
        Ok(Self { out, form, rows: 0 })
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// As for [`Self::begin`].
    pub(crate) fn row<T: Listed>(&mut self, row: &T) -> Result<(), Failure> {
        let first = self.rows == 0;
        self.rows += 1;
        match self.form.output {
            Format::Table => writeln!(self.out, "{}", row.line())?,
            Format::Wide => writeln!(self.out, "{}", row.wide())?,
            Format::Json if first => write!(self.out, "\n{}", row.value())?,
            Format::Json => write!(self.out, ",\n{}", row.value())?,
            Format::Jsonl => writeln!(self.out, "{}", row.value())?,
            Format::Csv => csv_line(&mut self.out, self.form.dialect, &row.cells())?,
            Format::Name => writeln!(self.out, "{}", safe(&row.name()))?,
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// As for [`Self::begin`].
    pub(crate) fn end(mut self) -> Result<u64, Failure> {
        if self.form.output == Format::Json {
            writeln!(self.out, "\n]}}")?;
        }
        self.out.flush()?;
        Ok(self.rows)
    }
}

/// Lists `rows` with `table` for people, whose columns are aligned.
///
/// # Errors
///
/// When stdout cannot be written.
pub(crate) fn list<T: Listed>(
    form: Form,
    rows: &[T],
    table: impl FnOnce(bool) -> Table,
) -> Result<(), Failure> {
    let mut listing = Listing::begin::<T>(form)?;
    match form.output {
        Format::Table | Format::Wide if rows.is_empty() => {
            writeln!(listing.out, "none")?;
        }
        Format::Table | Format::Wide => {
            let table = table(form.output == Format::Wide);
            write!(listing.out, "{}", table.render(""))?;
        }
        Format::Json | Format::Jsonl | Format::Csv | Format::Name => {
            rows.iter().try_for_each(|row| listing.row(row))?;
        }
    }
    listing.end()?;
    Ok(())
}

fn csv_line<T: AsRef<[u8]>>(
    out: &mut impl io::Write,
    dialect: Dialect,
    row: &[T],
) -> io::Result<()> {
    let mut line = dialect.csv().from_writer(out);
    line.write_record(row)?;
    line.flush()
}
