//! Preferences: what a person's own settings put in for words left out of the command line.
//!
//! ```toml
//! context = "night"                 # the one that counts where nobody names one
//!
//! [contexts.night]
//! coordinator = "https://coordinator.example:7443"
//! certificate = "anna.crt"          # paths from this file's directory
//! key = "anna.key"
//! ca = "ca.crt"
//! ```
//!
//! # Invariants
//!
//! * What stands on the command line counts first, then the environment, then a context.
//! * A context is taken whole or not at all: nobody's certificate goes to a coordinator that it
//!   was not written down with.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::OsStr;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use serde::Deserialize;

use crate::cli::Cli;
use crate::config::Text;
use crate::examples;
use crate::exit::{Exit, Failure};
use tidegate_trust::check_url;

/// How lists and answers are shown where nobody says.
const FORMAT: &str = "TIDEGATE_FORMAT";

/// What has a form, in every command that has one.
const OUTPUT: &str = "output";

/// What somebody asks for.
pub(crate) struct Asked {
    /// All of it.
    pub(crate) cli: Cli,
    /// Its verbs alone.
    pub(crate) verbs: String,
}

/// Why a command line does not count.
pub(crate) enum Refused {
    /// It is wrong, or it asked for help.
    Line(clap::Error),
    /// A person's own settings are.
    Settings(Failure),
}

/// Reads the command line.
///
/// # Errors
///
/// [`Refused`], which says what is wrong.
pub(crate) fn parse(line: Vec<OsString>) -> Result<Asked, Refused> {
    let line = as_a_flag(line);
    let command = with_format(Cli::command()).map_err(Refused::Settings)?;
    let command = examples::shown_in(command);
    let matches = command.clone().try_get_matches_from(&line).map_err(Refused::Line)?;
    let leaf = leaf(&matches);
    let chosen = chosen(leaf).map_err(Refused::Settings)?;
    let matches = match chosen {
        None => matches,
        Some(chosen) => {
            let line = with_context(line, chosen, |id| is_on_the_line(leaf, id));
            command.try_get_matches_from(line).map_err(Refused::Line)?
        }
    };
    let verbs = verbs(&matches);
    let cli = Cli::from_arg_matches(&matches).map_err(Refused::Line)?;
    Ok(Asked { cli, verbs })
}

/// `line`, where it asks for help as many programs are asked: `tidegate help wave list`.
fn as_a_flag(mut line: Vec<OsString>) -> Vec<OsString> {
    if line.get(1).is_some_and(|word| word == "help") {
        line.remove(1);
        line.push("--help".into());
    }
    line
}

/// The verbs of a command line, without anything that they are about: `wave list`.
fn verbs(matches: &ArgMatches) -> String {
    let Some((verb, below)) = matches.subcommand() else { return String::new() };
    let below = verbs(below);
    if below.is_empty() { verb.to_owned() } else { format!("{verb} {below}") }
}

/// What a coordinator is called by, and what is shown there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    coordinator: String,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
}

/// What a person has written down.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// Reads a person's settings as a command would, every context of them.
///
/// # Errors
///
/// [`Exit::Config`] when something is wrong, which is said.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let text = Text::read(path)?;
    let file: File = text.parse()?;
    let known: Vec<String> = file.contexts.keys().cloned().collect();
    if let Some(name) = file.context.filter(|name| !known.contains(name)) {
        return Err(unknown(&name, path, &known));
    }
    for (name, Context { coordinator, certificate, key, ca }) in &file.contexts {
        let wrong = |what: String| {
            Failure::text(Exit::Config, format!("context `{name}`: {what}"))
        };
        let given = [certificate, key, ca].into_iter().flatten();
        let some = given.clone().count();
        if !matches!(some, 0 | 3) {
            return Err(wrong("certificate, key and ca belong together".to_owned())
                .help("give all three, or none on the loopback"));
        }
        check_url(coordinator, some == 3).map_err(|error| wrong(format!("{error:#}")))?;
        for path in given.map(|path| text.beside(path)) {
            if !path.is_file() {
                return Err(wrong(format!("there is no `{}`", path.display())));
            }
        }
    }
    Ok(())
}

/// What was said to the innermost command.
fn leaf(mut matches: &ArgMatches) -> &ArgMatches {
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    matches
}

fn is_on_the_line(leaf: &ArgMatches, id: &str) -> bool {
    leaf.ids().any(|known| known == id)
        && leaf.value_source(id) == Some(ValueSource::CommandLine)
}

/// The context that counts for this command line, if any.
fn chosen(leaf: &ArgMatches) -> Result<Option<(String, Context)>, Failure> {
    if !leaf.ids().any(|id| id == "url") {
        return Ok(None);
    }
    let named = leaf.try_get_one::<String>("context").ok().flatten().cloned();
    let on_the_line = |id: &str| leaf.value_source(id) == Some(ValueSource::CommandLine);
    if on_the_line("context") && on_the_line("url") {
        let text = "`--context` and `--coordinator` name a coordinator each";
        return Err(Failure::text(Exit::Usage, text).help("give one of them"));
    }
    let is_url_left_out = leaf.value_source("url") == Some(ValueSource::DefaultValue);
    if !is_url_left_out && !is_on_the_line(leaf, "context") {
        return Ok(None);
    }
    let Some(path) = file() else {
        return match named {
            None => Ok(None),
            Some(name) => Err(unknown(&name, Path::new("config.toml"), &[])),
        };
    };
    if !path.exists() && named.is_none() {
        return Ok(None);
    }
    let text = Text::read(&path)?;
    let mut file: File = text.parse()?;
    let Some(name) = named.or(file.context) else { return Ok(None) };
    let known: Vec<String> = file.contexts.keys().cloned().collect();
    let context =
        file.contexts.remove(&name).ok_or_else(|| unknown(&name, &path, &known))?;
    let beside = |it: Option<PathBuf>| it.map(|it| text.beside(&it));
    let Context { coordinator, certificate, key, ca } = context;
    let (certificate, key, ca) = (beside(certificate), beside(key), beside(ca));
    Ok(Some((name, Context { coordinator, certificate, key, ca })))
}

fn unknown(name: &str, file: &Path, known: &[String]) -> Failure {
    let text = format!("no context `{name}` in `{}`", file.display());
    let help = match known {
        [] => "a table `[contexts.NAME]` there says which coordinator it is".to_owned(),
        known => format!("it has {}", known.join(", ")),
    };
    Failure::text(Exit::Config, text).help(help)
}

/// Where a person's settings are.
fn file() -> Option<PathBuf> {
    let given = |name: &str| env::var_os(name).filter(|it| !it.is_empty());
    let base = given("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(given("HOME")?).join(".config")))?;
    Some(base.join("tidegate/config.toml"))
}

/// `line` with what a context says, where the line does not say it itself.
fn with_context(
    mut line: Vec<OsString>,
    (name, context): (String, Context),
    is_on_it: impl Fn(&str) -> bool,
) -> Vec<OsString> {
    let Context { coordinator, certificate, key, ca } = context;
    let path = |it: Option<PathBuf>| it.map(PathBuf::into_os_string);
    let said = [
        ("context", "--context", Some(name.into())),
        ("url", "--coordinator", Some(coordinator.into())),
        ("certificate", "--certificate", path(certificate)),
        ("key", "--key", path(key)),
        ("ca", "--ca", path(ca)),
    ];
    let said = said.into_iter().filter(|(id, ..)| !is_on_it(id));
    let said = said.filter_map(|(_, flag, value)| Some([flag.into(), value?]));
    let said: Vec<OsString> = said.flatten().collect();
    // What stands behind `--` is no option.
    let end = line.iter().position(|word| word == "--").unwrap_or(line.len());
    line.splice(end..end, said);
    line
}

/// `command` with the form that the environment wants, wherever there is such a form.
fn with_format(command: Command) -> Result<Command, Failure> {
    let Some(format) = env::var_os(FORMAT).filter(|it| !it.is_empty()) else {
        return Ok(command);
    };
    let format = format.to_string_lossy().into_owned();
    let known = ["table", "wide", "json", "jsonl", "csv", "name"];
    if !known.contains(&format.as_str()) {
        let text = format!("{FORMAT} is `{format}`");
        let help = format!("it can be {}", known.join(", "));
        return Err(Failure::text(Exit::Usage, text).help(help));
    }
    Ok(everywhere(command, &|command| {
        let has = command.get_arguments().any(|arg| {
            let forms = arg.get_possible_values();
            arg.get_id() == OUTPUT && forms.iter().any(|it| it.get_name() == format)
        });
        if !has {
            return command;
        }
        command.mut_arg(OUTPUT, |arg| arg.default_value(OsStr::from(format.clone())))
    }))
}

/// `command` and all below it, changed.
fn everywhere(command: Command, change: &dyn Fn(Command) -> Command) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |below| everywhere(below, change))
    });
    change(command)
}
