//! A CSV file becomes an inventory, whole or not at all.
//!
//! # Invariants
//!
//! * A single bad row refuses the file: nothing is half imported.
//! * Every bad row is counted, and the first ones are named with line and reason.
//! * A quick way reads what has no quotes; it and the careful one give the same.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};
use thiserror::Error;
use tidegate_core::inventory::{Clash, Inventory, InventoryBuilder, Row, RowError};

/// As many as a person reads before correcting the export.
const BAD_ROWS_SHOWN_MAX: usize = 100;
/// Large enough that reading is not what takes the time.
const BUFFER_BYTES: usize = 256 * 1024;
/// Labels of a row that are kept without asking for memory; more are rare.
const FEW_LABELS: usize = 8;
/// The columns every file has; all others are labels.
const REQUIRED: [&str; 4] = ["address", "node", "tier", "path"];

/// What came of a file.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The inventory.
    pub(crate) inventory: Inventory,
    /// How many rows the file had, which is how many mailboxes there are.
    pub(crate) rows: u32,
}

/// A file cannot be imported. Nothing of it is.
#[derive(Debug, Error)]
pub(crate) enum InventoryFileError {
    /// It cannot be opened.
    #[error("open inventory `{file}`")]
    Open { file: String, source: io::Error },
    /// It cannot be read to its end.
    #[error("read inventory `{file}` near line {line}")]
    Read { file: String, line: u64, source: csv::Error },
    /// Its header is not one of an inventory.
    #[error("`{file}`: {problem}")]
    Header { file: String, problem: HeaderProblem },
    /// It has a header only.
    #[error("`{file}` has no rows")]
    NoRows { file: String },
    /// Some of its rows cannot be.
    #[error("{0}")]
    Rows(BadRows),
}

/// What is wrong with a header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderProblem {
    /// There is nothing.
    Empty,
    /// The file is UTF-16, as spreadsheets like to save it.
    Utf16,
    /// The header is not UTF-8.
    NotUtf8,
    /// The columns are separated by something else.
    Separator(char),
    /// Columns are missing.
    Missing { missing: Vec<&'static str>, found: Vec<String> },
    /// Two columns have one name.
    Twice(String),
    /// A column has no name.
    Unnamed { column: usize },
}

/// The rows that cannot be.
#[derive(Debug)]
pub(crate) struct BadRows {
    /// What the file is called.
    pub(crate) file: String,
    /// The first of them, in order.
    pub(crate) shown: Vec<BadRow>,
    /// How many there are in all.
    pub(crate) bad: u64,
    /// How many rows the file has.
    pub(crate) rows: u64,
}

/// A row that cannot be.
#[derive(Debug)]
pub(crate) struct BadRow {
    /// The line it begins on, from 1.
    pub(crate) line: u64,
    /// Why.
    pub(crate) why: BadRowReason,
}

/// Why a row cannot be.
#[derive(Debug)]
pub(crate) enum BadRowReason {
    /// Its address is on an earlier line already.
    AddressTwice { first_line: u64 },
    /// Its path is on an earlier line already, for the same node.
    PathTwice { first_line: u64 },
    /// It has more or fewer fields than the header.
    Fields { have: usize, want: usize },
    /// A quote in it is never closed, so all that follows belongs to it.
    OpenQuote,
    /// A field is not UTF-8.
    NotUtf8 { column: String },
    /// Anything else.
    Row(RowError),
}

/// Imports the file at `path`.
///
/// # Errors
///
/// [`InventoryFileError`]; nothing is imported then.
pub(crate) fn open<R: Read>(
    path: &Path,
    seen: impl FnOnce(File) -> R,
) -> Result<Imported, InventoryFileError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => read(&name, seen(file)),
        Err(source) => Err(InventoryFileError::Open { file: name, source }),
    }
}

/// Imports what `from` reads; `name` is what errors call it.
///
/// # Errors
///
/// [`InventoryFileError`]; nothing is imported then.
pub(crate) fn read(
    name: &str,
    mut from: impl Read,
) -> Result<Imported, InventoryFileError> {
    let mut import: Option<Import> = None;
    let mut lines = 0;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut fields = Vec::new();
    loop {
        let free = u64::try_from(BUFFER_BYTES - buffer.len()).unwrap_or(0);
        let read = from.by_ref().take(free).read_to_end(&mut buffer);
        let read = read.map_err(|error| InventoryFileError::Read {
            file: name.to_owned(),
            line: lines + 1,
            source: error.into(),
        })?;
        let Some(text) = plain_lines(&buffer, read == 0) else { break };
        // The last line of a file may have no end of its own.
        let last = (!text.ends_with('\n')).then_some(text.len());
        let mut line_start = 0;
        let mut start = 0;
        for end in memchr::memchr2_iter(b',', b'\n', text.as_bytes()).chain(last) {
            fields.push(start - line_start..end - line_start);
            start = end + 1;
            if text.as_bytes().get(end) == Some(&b',') {
                continue;
            }
            let line = text.get(line_start..end).unwrap_or_default();
            line_start = start;
            lines += 1;
            match &mut import {
                _ if line.is_empty() => {}
                Some(import) => import.take_plain(line, &fields, lines),
                None => import = Some(Import::of_header(name, &one_record(line))?),
            }
            fields.clear();
        }
        let taken = text.len();
        buffer.drain(..taken);
    }
    let rest = io::Cursor::new(buffer).chain(from);
    read_carefully(name, rest, import, lines)
}

/// The whole lines at the start of `bytes`, if nothing in them needs care; `ended` says that
/// nothing follows.
fn plain_lines(bytes: &[u8], ended: bool) -> Option<&str> {
    let end = match memchr::memrchr(b'\n', bytes) {
        _ if ended => bytes.len(),
        Some(last) => last + 1,
        None => 0,
    };
    let lines = bytes.get(..end).filter(|lines| !lines.is_empty())?;
    let careful = memchr::memchr2(b'"', b'\r', lines).is_some()
        || lines.starts_with("\u{feff}".as_bytes());
    if careful { None } else { str::from_utf8(lines).ok() }
}

/// A line without quotes as a record.
fn one_record(line: &str) -> ByteRecord {
    line.split(',').collect()
}

/// Imports what `from` reads, behind `lines` lines of the file that are in `import`.
fn read_carefully(
    name: &str,
    from: impl Read,
    import: Option<Import>,
    lines: u64,
) -> Result<Imported, InventoryFileError> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(PlainLines::new(from));
    let mut record = ByteRecord::new();
    // Gives where the record ends, or nothing at the end.
    let mut next = |record: &mut ByteRecord| {
        let more = reader.read_byte_record(record);
        let (file, line) = (name.to_owned(), lines + reader.position().line());
        // Every line has its end, so only an open quote is ended by the file's.
        let end = RecordEnd { line_after: line, in_quotes: reader.get_ref().ended };
        let more =
            more.map_err(|source| InventoryFileError::Read { file, line, source })?;
        Ok(more.then_some(end))
    };

    let mut import = match import {
        Some(import) => import,
        None => {
            next(&mut record)?;
            Import::of_header(name, &record)?
        }
    };
    while let Some(end) = next(&mut record)? {
        import.take(&record, &end);
    }
    import.finish(name)
}

/// How a record ends.
struct RecordEnd {
    line_after: u64,
    /// It has run into the end of the file, for a quote that is never closed.
    in_quotes: bool,
}

/// Which column is what.
struct Header {
    columns: usize,
    required: [usize; 4],
    labels: Vec<(usize, String)>,
}

impl Header {
    fn new(record: &ByteRecord) -> Result<Self, HeaderProblem> {
        let bytes = record.as_slice();
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(HeaderProblem::Utf16);
        }
        if bytes.is_empty() {
            return Err(HeaderProblem::Empty);
        }
        let names = record.iter().map(|name| str::from_utf8(name).map(str::trim));
        let names: Vec<&str> =
            names.collect::<Result<_, _>>().map_err(|_| HeaderProblem::NotUtf8)?;
        if let [only] = names[..]
            && let Some(separator) = only.chars().find(|c| [';', '\t', '|'].contains(c))
        {
            return Err(HeaderProblem::Separator(separator));
        }
        for (column, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(HeaderProblem::Unnamed { column: column + 1 });
            }
            let same = |other: &&str| other.eq_ignore_ascii_case(name);
            if names.iter().take(column).any(same) {
                return Err(HeaderProblem::Twice((*name).to_owned()));
            }
        }
        Self::with_names(&names)
    }

    fn with_names(names: &[&str]) -> Result<Self, HeaderProblem> {
        let place = |column: &str| {
            names.iter().position(|name| name.eq_ignore_ascii_case(column))
        };
        let [Some(address), Some(node), Some(tier), Some(path)] = REQUIRED.map(place)
        else {
            let absent = |column: &&'static str| place(column).is_none();
            let missing = REQUIRED.into_iter().filter(absent).collect();
            let found = names.iter().map(|name| (*name).to_owned()).collect();
            return Err(HeaderProblem::Missing { missing, found });
        };
        let required = [address, node, tier, path];
        let labels = names.iter().enumerate();
        let labels = labels.filter(|(column, _)| !required.contains(column));
        Ok(Self {
            columns: names.len(),
            required,
            labels: labels.map(|(column, name)| (column, (*name).to_owned())).collect(),
        })
    }

    /// The name of the first column that is not UTF-8.
    fn not_utf8(&self, record: &ByteRecord) -> String {
        let bad = record.iter().position(|field| str::from_utf8(field).is_err());
        let mut required = REQUIRED.iter().zip(self.required);
        let required = required.find(|(_, column)| Some(*column) == bad);
        let label = self.labels.iter().find(|(column, _)| Some(*column) == bad);
        match (required, label) {
            (Some((name, _)), _) => (*name).to_owned(),
            (None, Some((_, name))) => name.clone(),
            (None, None) => "row".to_owned(),
        }
    }
}

/// A file on its way in.
struct Import {
    header: Header,
    builder: InventoryBuilder,
    lines: Lines,
    rows: u64,
    shown: Vec<BadRow>,
    bad: u64,
}

impl Import {
    fn of_header(name: &str, record: &ByteRecord) -> Result<Self, InventoryFileError> {
        let header = Header::new(record).map_err(|problem| {
            InventoryFileError::Header { file: name.to_owned(), problem }
        })?;
        Ok(Self {
            header,
            builder: InventoryBuilder::new(),
            lines: Lines::default(),
            rows: 0,
            shown: Vec::new(),
            bad: 0,
        })
    }

    /// Takes a line without quotes, whose fields are there.
    fn take_plain(&mut self, text: &str, fields: &[Range<usize>], line: u64) {
        self.rows += 1;
        let pushed = self.push(text, fields.len(), |column| fields.get(column).cloned());
        self.note(pushed, line);
    }

    fn take(&mut self, record: &ByteRecord, end: &RecordEnd) {
        self.rows += 1;
        // The record's own position is that of blank lines before it.
        let lines = record.as_slice().split(|byte| *byte == b'\n').count();
        let lines = lines.saturating_sub(usize::from(end.in_quotes));
        let line = end.line_after.saturating_sub(u64::try_from(lines).unwrap_or(1));
        let pushed = if end.in_quotes {
            Err(BadRowReason::OpenQuote)
        } else if record.len() == self.header.columns
            && str::from_utf8(record.as_slice()).is_err()
        {
            Err(BadRowReason::NotUtf8 { column: self.header.not_utf8(record) })
        } else {
            let text = str::from_utf8(record.as_slice()).unwrap_or_default();
            self.push(text, record.len(), |column| record.range(column))
        };
        self.note(pushed, line);
    }

    fn note(&mut self, pushed: Result<(), BadRowReason>, line: u64) {
        match pushed {
            Ok(()) => self.lines.add(self.builder.len() - 1, line),
            Err(why) => {
                self.bad += 1;
                if self.shown.len() < BAD_ROWS_SHOWN_MAX {
                    self.shown.push(BadRow { line, why });
                }
            }
        }
    }

    /// Takes the row whose fields are these parts of `text`.
    fn push(
        &mut self,
        text: &str,
        have: usize,
        part: impl Fn(usize) -> Option<Range<usize>>,
    ) -> Result<(), BadRowReason> {
        let Header { columns: want, required, labels: keys } = &self.header;
        if have != *want {
            return Err(BadRowReason::Fields { have, want: *want });
        }
        let field =
            |column| part(column).and_then(|part| text.get(part)).unwrap_or_default();
        let (mut few, mut many) = ([("", ""); FEW_LABELS], Vec::new());
        let labels = match few.get_mut(..keys.len()) {
            Some(labels) => labels,
            None => {
                many.resize(keys.len(), ("", ""));
                many.as_mut_slice()
            }
        };
        for (label, (column, key)) in labels.iter_mut().zip(keys) {
            *label = (key, trimmed(field(*column)));
        }
        let [address, node, tier, path] = required.map(field);
        let row = Row {
            address: trimmed(address),
            node: trimmed(node),
            tier: trimmed(tier),
            path,
            labels,
        };
        self.builder.push(row).map_err(BadRowReason::Row)
    }

    fn finish(mut self, name: &str) -> Result<Imported, InventoryFileError> {
        let (file, rows) = (name.to_owned(), self.builder.len());
        let inventory = match std::mem::take(&mut self.builder).finish() {
            Ok(inventory) if self.bad == 0 => inventory,
            Ok(_) => return Err(self.refused(file)),
            Err(clashes) => {
                clashes.iter().for_each(|clash| self.add(clash));
                return Err(self.refused(file));
            }
        };
        if rows == 0 {
            return Err(InventoryFileError::NoRows { file });
        }
        Ok(Imported { inventory, rows })
    }

    fn add(&mut self, Clash { row, error }: &Clash) {
        let why = if let RowError::DuplicateAddress { first_row } = *error {
            BadRowReason::AddressTwice { first_line: self.lines.of(first_row) }
        } else if let RowError::DuplicatePath { first_row } = *error {
            BadRowReason::PathTwice { first_line: self.lines.of(first_row) }
        } else {
            BadRowReason::Row(error.clone())
        };
        self.bad += 1;
        self.shown.push(BadRow { line: self.lines.of(*row), why });
    }

    fn refused(mut self, file: String) -> InventoryFileError {
        self.shown.sort_by_key(|bad| bad.line);
        self.shown.truncate(BAD_ROWS_SHOWN_MAX);
        let Self { shown, bad, rows, .. } = self;
        InventoryFileError::Rows(BadRows { file, shown, bad, rows })
    }
}

/// A field without the white space around it, which hardly any has.
fn trimmed(field: &str) -> &str {
    let bytes = field.as_bytes();
    let visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    if visible(bytes.first()) && visible(bytes.last()) { field } else { field.trim() }
}

/// The line of each row: where the distance between the two changes.
#[derive(Default)]
struct Lines(Vec<(u32, u64)>);

impl Lines {
    fn add(&mut self, row: u32, line: u64) {
        let ahead = line.saturating_sub(row.into());
        if self.0.last().is_none_or(|(_, before)| *before != ahead) {
            self.0.push((row, ahead));
        }
    }

    fn of(&self, row: u32) -> u64 {
        let after = self.0.partition_point(|(from, _)| *from <= row);
        let found = after.checked_sub(1).and_then(|place| self.0.get(place));
        found.map_or(0, |(_, ahead)| ahead + u64::from(row))
    }
}

/// Bytes whose every line ends in a line feed, so that lines can be counted.
struct PlainLines<R> {
    from: R,
    after_return: bool,
    last: u8,
    /// The end was met: nobody asks for it before the last line's own end.
    ended: bool,
}

impl<R: Read> PlainLines<R> {
    fn new(from: R) -> Self {
        Self { from, after_return: false, last: b'\n', ended: false }
    }

    /// Makes line feeds of all line ends in place, and says how many bytes are left.
    fn plain(&mut self, bytes: &mut [u8]) -> usize {
        if !self.after_return && !bytes.contains(&b'\r') {
            return bytes.len();
        }
        let mut kept = 0;
        for place in 0..bytes.len() {
            let Some(byte) = bytes.get(place).copied() else { break };
            let second = self.after_return && byte == b'\n';
            self.after_return = byte == b'\r';
            if second {
                continue;
            }
            if let Some(slot) = bytes.get_mut(kept) {
                *slot = if self.after_return { b'\n' } else { byte };
            }
            kept += 1;
        }
        kept
    }
}

impl<R: Read> Read for PlainLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.from.read(buffer)?;
            if count == 0 {
                let Some(first) = buffer.first_mut().filter(|_| self.last != b'\n')
                else {
                    self.ended = true;
                    return Ok(0);
                };
                (*first, self.last) = (b'\n', b'\n');
                return Ok(1);
            }
            let kept = self.plain(buffer.get_mut(..count).unwrap_or_default());
            if let Some(last) = buffer.get(..kept).and_then(<[u8]>::last) {
                self.last = *last;
                return Ok(kept);
            }
        }
    }
}

impl fmt::Display for HeaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("the file is empty; its first line must be a header")
            }
            Self::Utf16 => f.write_str("the file is UTF-16; save it as UTF-8"),
            Self::NotUtf8 => f.write_str("the header is not UTF-8"),
            Self::Separator(separator) => write!(
                f,
                "the columns are separated by {separator:?}, must be separated by commas"
            ),
            Self::Missing { missing, found } => write!(
                f,
                "the header lacks `{}`; it has `{}`",
                missing.join("`, `"),
                found.join("`, `")
            ),
            Self::Twice(name) => write!(f, "the header has the column `{name}` twice"),
            Self::Unnamed { column } => {
                write!(f, "column {column} of the header has no name")
            }
        }
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, shown, bad, rows } = self;
        write!(f, "`{file}`: {bad} of {rows} rows are refused, nothing is imported")?;
        for BadRow { line, why } in shown {
            write!(f, "\n  line {line}: {why}")?;
        }
        let more = bad - u64::try_from(shown.len()).unwrap_or(*bad).min(*bad);
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        Ok(())
    }
}

impl fmt::Display for BadRowReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressTwice { first_line } => {
                write!(f, "the address is on line {first_line} already")
            }
            Self::PathTwice { first_line } => {
                write!(f, "the path on this node is on line {first_line} already")
            }
            Self::Fields { have, want } => {
                write!(f, "the row has {have} fields, the header {want}")
            }
            Self::OpenQuote => f.write_str("a quote is opened and never closed"),
            Self::NotUtf8 { column } => write!(f, "the {column} is not UTF-8"),
            Self::Row(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[test]
    fn columns_come_in_any_order_and_further_ones_are_labels() {
        let text = "Tier,path,size_bytes,Address,node,country\n\
                    free,a/Maildir,7, A@b.it ,n1,it\n\
                    paid,c/Maildir,,c@b.it,n1,\n";

        let imported = read("users.csv", text.as_bytes()).unwrap();

        assert_eq!(imported.rows, 2);
        let first = imported.inventory.rows().next().unwrap();
        assert_eq!(
            (first.address, first.tier, first.path.as_str()),
            ("a@b.it", "free", "a/Maildir")
        );
        let labels = [("country", "it".into()), ("size_bytes", "7".into())];
        assert_eq!(first.labels, labels);
        assert!(imported.inventory.rows().nth(1).unwrap().labels.is_empty());
    }

    #[test]
    fn a_byte_order_mark_crlf_and_quotes_change_nothing() {
        let plain = "address,node,tier,path\na@b.it,n1,free,a b\nc@b.it,n1,free,c\n";
        let dressed = "\u{feff}address,node,tier,path\r\n\"a@b.it\",n1,\"free\",\"a b\"\r\n\
                       c@b.it,n1,free,c";

        let plain = read("a", plain.as_bytes()).unwrap();
        let dressed = read("b", dressed.as_bytes()).unwrap();

        assert_eq!(plain.inventory.digest(), dressed.inventory.digest());
    }

    #[test]
    fn every_bad_row_is_named_with_its_line_and_nothing_is_imported() {
        let text = b"address,node,tier,path,size_bytes\r\n\
            a@b.it,n1,free,a,1\r\n\
            A@B.it,n1,free,b,1\r\n\
            \r\n\
            c@b.it,n1,free,../c,1\r\n\
            d@b.it,n1,free,a,1\r\n\
            d@b.it,n2,free,a,1\r\n\
            e@b.it,n1,free,e\r\n\
            f@b.it,n1,free,f,large\r\n\
            \"g\n@b.it\",n1,free,g,1\r\n\
            h\xff@b.it,n1,free,h,1\r\n\
            nobody,n1,free,i,1\r\n";

        check(
            text,
            &expect![[r"
                `users.csv`: 9 of 10 rows are refused, nothing is imported
                  line 3: the address is on line 2 already
                  line 5: the path leads outside the mail root (it is absolute or has a `..`)
                  line 6: the path on this node is on line 2 already
                  line 7: the address is on line 6 already
                  line 8: the row has 4 fields, the header 5
                  line 9: `size_bytes` is `large`, which is not a whole number
                  line 10: the address has a control character in it
                  line 12: the address is not UTF-8
                  line 13: the address is not of the form local@domain
            "]],
        );
    }

    #[test]
    fn a_quote_that_is_never_closed_is_named_where_its_row_begins() {
        let text = "address,node,tier,path,note\n\
                    a@b.it,n1,free,a,\"well, closed\"\n\
                    c@b.it,n1,free,c,\"open\n\
                    d@b.it,n1,free,d,\n";

        for text in [text, text.trim_end()] {
            let error = read("users.csv", text.as_bytes()).err().unwrap().to_string();

            assert!(
                error.ends_with("line 3: a quote is opened and never closed"),
                "{error}"
            );
        }
        let closed = text.replace("\"open", "open");
        assert!(read("users.csv", closed.trim_end().as_bytes()).is_ok());
    }

    #[test]
    fn lines_are_counted_the_same_whatever_ends_them() {
        let text = "address,node,tier,path\n\nbad,n,t,p\n\"b\nc\",n,t,p\nlast,n,t,p";

        let errors = ["\n", "\r\n", "\r"].map(|end| {
            let text = text.replace('\n', end);
            read("users.csv", text.as_bytes()).unwrap_err().to_string()
        });

        let lines = errors[0].lines().skip(1).map(|line| line.split(':').next().unwrap());
        assert_eq!(lines.collect::<Vec<_>>(), ["  line 3", "  line 4", "  line 6"]);
        assert_eq!(errors[0], errors[1]);
        assert_eq!(errors[0], errors[2]);
    }

    #[test]
    fn of_many_bad_rows_the_first_hundred_are_shown() {
        let rows = "x,n1,free,a\n".repeat(250);
        let text = format!("address,node,tier,path\n{rows}");

        let error = read("users.csv", text.as_bytes()).unwrap_err().to_string();

        assert_eq!(error.lines().count(), 102);
        assert!(error.starts_with("`users.csv`: 250 of 250 rows are refused"));
        assert!(error.ends_with("\n  and 150 more"));
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        check(
            b"",
            &expect![[r"
            `users.csv`: the file is empty; its first line must be a header
        "]],
        );
        check(
            b"address,node,tier,path\n",
            &expect![[r"
            `users.csv` has no rows
        "]],
        );
        check(
            b"adress,node,tier,path\n",
            &expect![[r"
            `users.csv`: the header lacks `address`; it has `adress`, `node`, `tier`, `path`
        "]],
        );
        check(
            b"address;node;tier;path\n",
            &expect![[r"
            `users.csv`: the columns are separated by ';', must be separated by commas
        "]],
        );
        check(
            b"address,node,tier,path,Node\n",
            &expect![[r"
            `users.csv`: the header has the column `Node` twice
        "]],
        );
        check(
            b"address,node,tier,path,\n",
            &expect![[r"
            `users.csv`: column 5 of the header has no name
        "]],
        );
        check(
            b"\xff\xfea\0d\0",
            &expect![[r"
            `users.csv`: the file is UTF-16; save it as UTF-8
        "]],
        );
        check(
            b"address,node,tier,path,caf\xe9\n",
            &expect![[r"
            `users.csv`: the header is not UTF-8
        "]],
        );
        check(
            b"a@b.it,n1,free,a\n",
            &expect![[r"
            `users.csv`: the header lacks `address`, `node`, `tier`, `path`; it has `a@b.it`, `n1`, `free`, `a`
        "]],
        );
    }

    #[test]
    fn a_file_that_is_not_there_says_which() {
        let error = open(Path::new("/nowhere/users.csv"), |file| file).unwrap_err();

        assert_eq!(error.to_string(), "open inventory `/nowhere/users.csv`");
    }

    fn check(text: &[u8], expected: &Expect) {
        let error = read("users.csv", text).unwrap_err();

        expected.assert_eq(&format!("{error}\n"));
    }
}
