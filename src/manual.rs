//! Manual pages and completions, made from the command line itself, and what `journalctl -x` says.
//!
//! # Invariants
//!
//! * Every verb has a page; pages say the same as `--help`.
//! * Every setting of every file has its place on one page, and so has every code.

use std::fs;
use std::io;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use crate::cli::{Cli, Completions, Manual};
use crate::exit::{Exit, Outcome};
use crate::screens::say;
use crate::{catalogue, examples, explain, settings};

/// Carries out `tidegate completions`.
pub(crate) fn completions(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(Exit::Done)
}

/// Carries out `tidegate manual`.
pub(crate) fn pages(args: &Manual) -> Outcome {
    fs::metadata(&args.dir).with_context(|| format!("find `{}`", args.dir.display()))?;
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    verbs(&command, "", &mut pages)?;
    pages.push(("tidegate-config.5".to_owned(), settings::manual()));
    pages.push(("tidegate-codes.7".to_owned(), codes()));
    let catalogues = catalogue::files().map(|(name, text)| (name.to_owned(), text));
    for (name, text) in pages.into_iter().chain(catalogues) {
        let file = args.dir.join(name);
        fs::write(&file, text).with_context(|| format!("write `{}`", file.display()))?;
    }
    Ok(Exit::Done)
}

/// Adds the page of a verb and those of all below it.
fn verbs(command: &Command, verb: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        let verb = format!("{verb} {}", below.get_name()).trim_start().to_owned();
        verbs(below, &verb, pages)?;
    }
    let version = concat!("tidegate ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).source(version).manual("Tidegate");
    let mut text = Vec::new();
    page.render(&mut text)?;
    let mut text = String::from_utf8(text).map_err(io::Error::other)?;
    if !verb.is_empty() {
        text.push_str(".SH EXAMPLES\n");
        for (line, does) in examples::of(verb) {
            say!(text, ".TP\n\\fB{}\\fR\n{}\n", roff(line), roff(does));
        }
    }
    text.push_str(".SH EXIT STATUS\nA code means one thing in every command.\n");
    for (code, means) in explain::exit_codes() {
        say!(text, ".TP\n\\fB{}\\fR\n{}\n", roff(code), roff(&means));
    }
    text.push_str(
        ".SH SEE ALSO\n\\fBtidegate\\fR(1), \\fBtidegate\\-codes\\fR(7), \
         \\fBtidegate\\-config\\fR(5), /usr/share/doc/tidegate/runbook.md\n",
    );
    pages.push((page.get_filename(), text));
    Ok(())
}

/// A file's name, and what is in it.
type Page = (String, String);

/// The page of every code that is ever shown: what it means, and what to do.
fn codes() -> String {
    let mut page = ".TH tidegate-codes 7\n.SH NAME\ntidegate-codes \\- what tidegate says, word \
                    by word: states, gates, refusals, events\n.SH DESCRIPTION\nThe tables of \
                    the runbook. tidegate explain prints one of them with the passage that it \
                    leads to.\n"
        .to_owned();
    let mut section = String::new();
    for coded in explain::coded() {
        if coded.section != section {
            section = coded.section;
            say!(page, ".SH {}\n", roff(&section.to_uppercase()));
        }
        say!(page, ".TP\n\\fB{}\\fR\n", roff(&coded.codes.join(", ")));
        let lines: Vec<String> = coded.lines.iter().map(|line| roff(line)).collect();
        say!(page, "{}\n", lines.join("\n.br\n"));
    }
    page
}

/// Text that roff takes for nothing else.
pub(crate) fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_says_how_it_ends_and_every_verb_what_to_type() {
        let mut command = Cli::command();
        command.build();
        let mut pages = Vec::new();
        verbs(&command, "", &mut pages).unwrap();

        assert!(pages.len() > 60, "{}", pages.len());
        for (name, text) in &pages {
            let ends = text.split(".SH EXIT STATUS\n").nth(1).unwrap_or_default();
            assert!(ends.contains("\\fB69\\fR\nthe coordinator"), "{name}: {text}");
            let shows = text.split(".SH EXAMPLES\n").nth(1).unwrap_or_default();
            assert!(name == "tidegate.1" || shows.starts_with(".TP"), "{name}: {text}");
        }
    }

    #[test]
    fn every_code_has_its_place_on_the_page_of_codes() {
        let page = codes();

        for code in ["worker-silent", "too-few", "paused", "not-approved", "nul-run"] {
            assert!(page.contains(&roff(code)), "{code}");
        }
        assert!(!page.contains("DOVECOT\n"), "no code is in that chapter");
        assert!(page.contains("\n.SH THE GATE HOLDS\n"), "{page}");
    }
}
