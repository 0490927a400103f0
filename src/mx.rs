//! `tidegate mx`: the program beside a mail exchanger.
//!
//! # Invariants
//!
//! * It may be killed at any moment: the mail is the mail server's, and what was told is told
//!   again.

use crate::cli::Daemon;
use crate::config::MxFile;
use crate::daemon::{ended, start_log, stop_asked};
use crate::exit::Outcome;

/// Carries out `tidegate mx`.
pub(crate) async fn run(args: &Daemon) -> Outcome {
    let file = MxFile::read(&args.config)?;
    start_log(&file.log, "tidegate-mx", None)?;
    let stop = stop_asked(args.stop_with_stdin, || ())?;
    ended(tidegate_exchanger::run(file.exchanger, stop).await)
}
