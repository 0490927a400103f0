//! What commands for the public page and the desk are asked.
//!
//! # Invariants
//!
//! * They change nothing of a rollout.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Actor, Coordinator, TableOrJson};

/// The public status page.
#[derive(Debug, Subcommand)]
pub(crate) enum StatusPage {
    /// Write the page as static files, to be served from somewhere else. Run it every few minutes;
    /// a page that is not renewed says so by itself.
    Build(StatusPageBuild),
}

/// Write the public status page.
#[derive(Debug, Args)]
pub(crate) struct StatusPageBuild {
    /// Into this directory, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) said: Said,
}

/// What the public page is made of.
#[derive(Debug, Args)]
pub(crate) struct Said {
    /// What you say about the page: TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) site: PathBuf,
    /// A directory with `it.ftl` and `en.ftl` that change texts of ours.
    #[arg(long, value_name = "DIR")]
    pub(crate) texts: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// What the public is told of, and how that is shown.
#[derive(Debug, Args)]
pub(crate) struct NoticeOf {
    #[command(flatten)]
    pub(crate) said: Said,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
}

/// What the public is told.
#[derive(Debug, Subcommand)]
pub(crate) enum Notice {
    /// Show what the public would read just now, in each language; writes nothing.
    Preview(NoticeOf),
    /// Hold every sentence against the records. Ends with 1, and names them all, where any claims
    /// more than they support; the page is not written then.
    Lint(NoticeOf),
}

/// The support desk.
#[derive(Debug, Subcommand)]
pub(crate) enum Desk {
    /// Say how one mailbox is, as far as its user may be told. Counted and logged.
    Lookup(DeskLookup),
}

/// Look one mailbox up for its user.
#[derive(Debug, Args)]
pub(crate) struct DeskLookup {
    /// The user's address.
    pub(crate) address: String,
    /// The ticket of the call.
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: String,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
}
