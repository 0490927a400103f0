//! Telemetry: where a program's log goes, and how an error is told with all its causes.
//!
//! # Invariants
//!
//! * Logs go to stderr, or where stderr is systemd's journal, to that with all their fields;
//!   stdout is for data.
//! * An error is shown with its whole chain, each cause once.

mod journal;

use std::error::Error;
use std::fmt;
use std::io;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use journal::Journal;
pub(crate) use journal::message_id;

/// The environment variable that overrides the configured filter.
const FILTER_VARIABLE: &str = "TIDEGATE_LOG";

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

/// Starts logging with the filter `log`, for example `info` or
/// `info,tidegate_worker=debug`.
///
/// # Errors
///
/// When the filter cannot be understood.
pub(crate) fn start(log: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| log.to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|source| {
        anyhow::Error::new(source).context(format!("read log filter `{filter}`"))
    })?;
    if format == LogFormat::Auto
        && journal::is_stderr()
        && let Ok(journal) = Journal::connect()
    {
        let started =
            tracing_subscriber::registry().with(filter).with(journal).try_init();
        return started.map_err(|source| anyhow::anyhow!("start logging: {source}"));
    }
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|source| anyhow::anyhow!("start logging: {source}"))
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
