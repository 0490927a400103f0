//! Journal: checks and exports a journal that no program has open.
//!
//! # Invariants
//!
//! * No record is changed.
//! * An export that ends with 0 is whole; otherwise its lines are the safe part.

use std::io::{self, BufWriter};
use std::path::Path;

use tidegate_journal::{ExportError, Verified};

use crate::cli::Journal;
use crate::console;
use crate::exit::{Exit, Failure, Outcome};

/// Carries out `tidegate journal`.
pub(crate) fn run(verb: &Journal) -> Outcome {
    match verb {
        Journal::Verify { dir } => verify(dir),
        Journal::Export { dir } => export(dir),
    }
}

fn verify(dir: &Path) -> Outcome {
    let verified = tidegate_journal::verify(dir)
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    console::data_line(format_args!("{}: {}", dir.display(), summary(&verified)))?;
    Ok(Exit::Done)
}

fn export(dir: &Path) -> Outcome {
    let mut out = BufWriter::new(io::stdout().lock());
    let verified = tidegate_journal::export(dir, &mut out).map_err(|error| {
        let help = match &error {
            ExportError::Open(_) => {
                "the lines above, if any, are the journal's safe part"
            }
            ExportError::Write(_) => "the journal itself is not the cause",
        };
        Failure::new(Exit::Failed, error).help(help)
    })?;
    drop(out);
    console::tell(summary(&verified));
    Ok(Exit::Done)
}

fn summary(verified: &Verified) -> String {
    format!(
        "{} records of the {} (format {}), {} bytes, all sound; newest digest {}",
        console::thousands(verified.head.sequence),
        verified.kind.name,
        verified.kind.format,
        console::thousands(verified.payload_bytes),
        verified.head.digest,
    )
}
