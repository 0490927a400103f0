//! Manual pages and completions, made from the command line itself, and what `journalctl -x` says.
//!
//! # Invariants
//!
//! * Every verb has a page; pages say the same as `--help`.
//! * Every setting of every file has its place on one page.

use std::fs;
use std::io;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::catalogue;
use crate::cli::{Cli, Completions, Manual};
use crate::exit::{Exit, Outcome};
use crate::settings;

/// Carries out `tidegate completions`.
pub(crate) fn completions(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(Exit::Done)
}

/// Carries out `tidegate manual`.
pub(crate) fn pages(args: &Manual) -> Outcome {
    let write = |dir: &std::path::Path| clap_mangen::generate_to(Cli::command(), dir);
    fs::metadata(&args.dir).with_context(|| format!("find `{}`", args.dir.display()))?;
    write(&args.dir).with_context(|| format!("write into `{}`", args.dir.display()))?;
    let files = args.dir.join("tidegate-config.5");
    fs::write(&files, settings::manual())
        .with_context(|| format!("write `{}`", files.display()))?;
    for (name, text) in catalogue::files() {
        let file = args.dir.join(name);
        fs::write(&file, text).with_context(|| format!("write `{}`", file.display()))?;
    }
    Ok(Exit::Done)
}
