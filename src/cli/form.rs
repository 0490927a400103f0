//! Forms: in which one a list is shown, and for which spreadsheet.
//!
//! # Invariants
//!
//! * A dialect changes how a table is written, never what is in it.

use clap::{Args, ValueEnum};

/// How a list is shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Form {
    /// How to show them.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Which program CSV is for.
    #[arg(long, value_enum, default_value = "standard")]
    pub(crate) dialect: Dialect,
}

/// How a list is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The same with all there is to say; wants a wide terminal.
    Wide,
    /// One document.
    Json,
    /// An object a line.
    Jsonl,
    /// For spreadsheets: RFC 4180, with a header.
    Csv,
    /// A name a line.
    Name,
}

impl Format {
    /// Whether lines beside it, on stderr, help whoever reads it.
    pub(crate) fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// How tables for spreadsheets are written. Numbers are whole, so that none has a decimal sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// RFC 4180: commas.
    #[default]
    Standard,
    /// Excel as it is set in Italy: semicolons, and a mark that says that it is UTF-8.
    ExcelIt,
}

impl Dialect {
    /// What it is called.
    pub(crate) fn word(self) -> Option<String> {
        self.to_possible_value().map(|it| it.get_name().to_owned())
    }

    /// What a table begins with.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Standard => "",
            Self::ExcelIt => "\u{feff}",
        }
    }

    /// What writes its rows.
    pub(crate) fn csv(self) -> csv::WriterBuilder {
        let mut builder = csv::WriterBuilder::new();
        builder.delimiter(self.delimiter());
        builder
    }

    /// What stands between its cells.
    pub(crate) fn delimiter(self) -> u8 {
        match self {
            Self::Standard => b',',
            Self::ExcelIt => b';',
        }
    }
}
