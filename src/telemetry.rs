//! Telemetry: where a program's log goes, and how an error is told with all its causes.
//!
//! # Invariants
//!
//! * Logs go to stderr, or where stderr is systemd's journal, to that with all their fields;
//!   stdout is for data.
//! * Traces are sent where somebody names a collector for them, and else nowhere.
//! * An error is shown with its whole chain, each cause once.

mod journal;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::OnceLock;

use anyhow::Context as _;
use serde::Deserialize;
use tidegate_trace::{Program, Traces};
use tracing::Span;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::Log;
use crate::exit::{Exit, Failure};

use journal::Journal;
pub(crate) use journal::message_id;

/// The environment variable that overrides the configured filter.
pub(crate) const FILTER_VARIABLE: &str = "TIDEGATE_LOG";

/// The environment variable that names a collector of traces.
pub(crate) const TRACES_VARIABLE: &str = "TIDEGATE_TRACES";

/// As traces know it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Fields in systemd's journal where stderr leads there, else a line for people.
    #[default]
    Auto,
    /// A line for people.
    Text,
    /// An object a line, for collectors.
    Json,
}

/// The way to the collector of traces, while there is one.
static TRACES: OnceLock<Traces> = OnceLock::new();

/// Starts logging as `log` says, for example with the filter `info` or
/// `info,tidegate_worker=debug`, and sending traces, if a collector is named.
///
/// # Errors
///
/// When the filter, or the collector's address, cannot be understood.
pub(crate) fn start(log: &Log, program: &Program<'_>) -> anyhow::Result<()> {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| log.filter.clone());
    let filter = EnvFilter::try_new(&filter).map_err(|source| {
        anyhow::Error::new(source).context(format!("read log filter `{filter}`"))
    })?;
    // What is for the collector is not for the log.
    let not_traces = format!("{}=off", tidegate_trace::TARGET).parse();
    let filter = filter.add_directive(not_traces.context("leave traces out of the log")?);
    let collector = collector().or_else(|| log.traces.clone());
    let traces = collector.map(|collector| to(&collector, program)).transpose()?;
    let registry = tracing_subscriber::registry().with(traces.map(Traces::layer));
    if log.format == LogFormat::Auto
        && journal::is_stderr()
        && let Ok(journal) = Journal::connect()
    {
        let started = registry.with(journal.with_filter(filter)).try_init();
        return started.map_err(|source| anyhow::anyhow!("start logging: {source}"));
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Auto | LogFormat::Text => {
            registry.with(lines.with_ansi(false).with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            registry.with(lines.with_filter(filter)).try_init()
        }
    };
    started.map_err(|source| anyhow::anyhow!("start logging: {source}"))
}

/// The trace of a command that somebody has typed; none unless the environment names a collector.
///
/// # Errors
///
/// When the collector's address cannot be understood.
pub(crate) fn of_command(verbs: &str) -> Result<Span, Failure> {
    let Some(collector) = collector() else { return Ok(Span::none()) };
    let program = Program { name: "tidegate", version: VERSION, node: None };
    let started = to(&collector, &program).and_then(|traces| {
        let layers = tracing_subscriber::registry().with(traces.layer());
        layers.try_init().context("start traces")
    });
    started.map_err(|error| Failure::new(Exit::Usage, error))?;
    Ok(tidegate_trace::command(verbs))
}

/// Sends what is left of traces. Nothing is traced any more.
pub(crate) fn end() {
    if let Some(traces) = TRACES.get() {
        traces.end();
    }
}

fn collector() -> Option<String> {
    std::env::var(TRACES_VARIABLE).ok().filter(|it| !it.is_empty())
}

fn to(collector: &str, program: &Program<'_>) -> anyhow::Result<&'static Traces> {
    let traces = Traces::to(collector, program).context("send traces")?;
    Ok(TRACES.get_or_init(|| traces))
}

/// An error with all its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some libraries repeat their cause's words; people need them once.
            if !told.contains(&text) {
                write!(f, ": {text}")?;
            }
            told = text;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;

    #[test]
    fn a_chain_tells_every_cause_once() {
        let error = anyhow::anyhow!("no space").context("write `a`").context("write `a`");

        assert_eq!(Chain(error.as_ref()).to_string(), "write `a`: no space");
    }
}
