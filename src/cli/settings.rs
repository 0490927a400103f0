//! What `tidegate config` is asked.
//!
//! # Invariants
//!
//! * It reads files and starts nothing.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::TableOrJson;

/// Check, show or explain configuration files and policies.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Read a file as the program would, and point at what is wrong. Ends with 0, or with 65.
    Check(ConfigCheck),
    /// Show every setting of a file as it counts.
    Show(ConfigShow),
    /// Show every setting that a kind of file may have, as the program reads it.
    Schema(ConfigSchema),
}

/// Check a file.
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    #[command(flatten)]
    pub(crate) of: ConfigFile,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
}

/// A file, and what it is for.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The file.
    pub(crate) file: PathBuf,
    /// What it is for, where its name does not say so.
    #[arg(long = "as", value_enum)]
    pub(crate) kind: Option<FileKind>,
}

/// Show every setting of a file.
#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    #[command(flatten)]
    pub(crate) of: ConfigFile,
    /// Says where each value comes from: a line of the file, the environment, or the default.
    #[arg(long)]
    pub(crate) origin: bool,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
}

/// Show what a kind of file may have.
#[derive(Debug, Args)]
pub(crate) struct ConfigSchema {
    /// The kind of file.
    #[arg(value_enum)]
    pub(crate) kind: FileKind,
    /// A table for people, or a JSON Schema.
    #[arg(short, long, value_enum, default_value = "json")]
    pub(crate) output: TableOrJson,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileKind {
    /// `coordinator.toml`
    Coordinator,
    /// `worker.toml`
    Worker,
    /// `mx.toml`
    Mx,
    /// `solo.toml`
    Solo,
    /// A policy.
    Policy,
    /// `config.toml` of a person: the contexts of the command line.
    Contexts,
}

impl FileKind {
    /// All that a rollout goes by.
    pub(crate) const ALL: [Self; 5] =
        [Self::Coordinator, Self::Worker, Self::Mx, Self::Solo, Self::Policy];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Mx => "mx",
            Self::Solo => "solo",
            Self::Policy => "policy",
            Self::Contexts => "contexts",
        }
    }
}
