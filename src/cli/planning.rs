//! Planning: the arguments of what plans and of what starts a plan.
//!
//! # Invariants
//!
//! * What shows a plan changes nothing but the file that it is told to write.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::{Actor, Asked, Coordinator, Progress, TableOrJson};

/// The two files a plan is made of.
#[derive(Clone, Debug, Args)]
pub(crate) struct Inputs {
    /// The user base: CSV with a header `address,node,tier,path` and further columns.
    #[arg(long, value_name = "FILE")]
    pub(crate) inventory: PathBuf,
    /// What shall happen: TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    #[command(flatten)]
    pub(crate) progress: Progress,
}

/// What a plan is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// The plan that the coordinator carries out.
    Rollout,
    /// A saved plan.
    Saved(PathBuf),
}

impl FromStr for Beside {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "rollout" => Self::Rollout,
            file => Self::Saved(file.into()),
        })
    }
}

/// Show what would open; changes nothing.
///
/// It talks to the coordinator only with `--out` and with `--beside rollout`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Saves the plan in FILE for `tidegate start`, which starts it once: not after inventory or
    /// policy have changed, and not where anything was started since. Over a plan that was saved
    /// there before, only the difference is shown.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Shows only what differs from the plan saved in FILE; `rollout`: from the one that the
    /// coordinator carries out.
    #[arg(long, value_name = "FILE")]
    pub(crate) beside: Option<Beside>,
    /// Shows all of it, whatever it could be compared with.
    #[arg(long, conflicts_with = "beside")]
    pub(crate) whole: bool,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    /// Ends with 2 when there is something to open; in a comparison, when something differs.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Show a saved plan, and whether it can still be started; changes nothing.
///
/// It asks the coordinator whether the plan was started; where that cannot be reached, it says so.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// What `tidegate plan --out FILE` has saved.
    pub(crate) file: PathBuf,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    #[command(flatten)]
    pub(crate) progress: Progress,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Start the rollout of a saved plan, once.
///
/// Refuses with 4 a plan that is spent, or stale: its inventory or policy has changed, it was
/// saved for another data directory, or another plan was started here since.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// What `tidegate plan --out FILE` has saved.
    pub(crate) file: PathBuf,
    /// Does not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) progress: Progress,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// Plan and start in one step, for scripts; `--plan` names the plan that was seen. People save a
/// plan with `tidegate plan --out FILE` and start that.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// The digest that `tidegate plan` printed; refuses if the files give another plan.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) plan: Option<String>,
    /// Does not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// Make a rollout again whose journal is gone: into an empty data directory, with the very
/// inventory and policy that were applied. It is paused until every node has told what it holds
/// and somebody resumes it.
#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    #[command(flatten)]
    pub(crate) apply: Apply,
    /// Why, for the record.
    #[arg(long)]
    pub(crate) reason: String,
}
