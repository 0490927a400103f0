//! Showing a saved plan: what it does, and whether it can still be started.
//!
//! # Invariants
//!
//! * It is shown whatever has become of its files and of the coordinator.
//! * What could not be asked is said to be unknown, never supposed.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::plan::WaveSummary;
use tidegate_wire::v1;

use super::make;
use super::saved::Saved;
use crate::cli::{self, TableOrJson};
use crate::client::Client;
use crate::console::{self, safe, thousands};
use crate::exit::{Exit, Outcome};
use crate::screens::{Table, json, say};

/// Carries out `tidegate show`.
pub(crate) async fn show(args: &cli::Show) -> Outcome {
    let saved = Saved::read(&args.file)?;
    let standing = match stale(&saved, args) {
        Some(why) => Standing::Stale(why),
        None => here(&saved, args).await,
    };
    match args.output {
        TableOrJson::Json => console::data_line(value(&saved, &standing))?,
        TableOrJson::Table => {
            let file = args.file.display().to_string();
            console::data(text(&saved, &standing, &file))?;
        }
    }
    Ok(Exit::Done)
}

/// Whether a saved plan can be started.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It can.
    Ready,
    /// Its files give another plan now, or none.
    Stale(String),
    /// It was started.
    Spent,
    /// The coordinator has another data directory than the one it was saved for, or another plan.
    Elsewhere(String),
    /// Nobody could be asked.
    Unknown(String),
}

impl Standing {
    /// Every word there is.
    const WORDS: [&'static str; 5] = ["ready", "stale", "spent", "elsewhere", "unknown"];

    fn word(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Stale(_) => "stale",
            Self::Spent => "spent",
            Self::Elsewhere(_) => "elsewhere",
            Self::Unknown(_) => "unknown",
        }
    }

    fn why(&self) -> &str {
        match self {
            Self::Ready => "it has not been started",
            Self::Spent => "it was started here",
            Self::Stale(why) | Self::Elsewhere(why) | Self::Unknown(why) => why,
        }
    }
}

/// Why its files do not give it any more.
fn stale(saved: &Saved, args: &cli::Show) -> Option<String> {
    match make(&saved.inputs(args.progress)) {
        Ok((plan, _)) if plan.digest() == saved.summary.plan => None,
        Ok((plan, _)) => {
            Some(format!("inventory or policy have changed: they give {}", plan.digest()))
        }
        Err(failure) => {
            let told = failure.to_string();
            let first = told.lines().next().unwrap_or_default();
            Some(format!("it cannot be planned again: {}", safe(first)))
        }
    }
}

/// What the coordinator says of it.
async fn here(saved: &Saved, args: &cli::Show) -> Standing {
    let asked = async { Client::connect(&args.coordinator).await?.plan().await };
    let v1::GetPlanResponse { plan, seen, .. } = match asked.await {
        Ok(here) => here,
        Err(failure) => {
            let told = failure.to_string();
            let told = told.lines().next().unwrap_or_default();
            let told = told.trim_start_matches("error: ");
            return Standing::Unknown(format!(
                "not known whether it was started: {told}"
            ));
        }
    };
    let ours = saved.summary.plan.to_string();
    match plan {
        Some(running) if running.plan_digest == ours => Standing::Spent,
        Some(running) => Standing::Elsewhere(format!(
            "this coordinator carries out plan {:.12}",
            running.plan_digest
        )),
        None if seen == saved.seen => Standing::Ready,
        None => Standing::Elsewhere(
            "it was saved for another coordinator or data directory".to_owned(),
        ),
    }
}

fn text(saved: &Saved, standing: &Standing, file: &str) -> String {
    let summary = &saved.summary;
    let mut out = format!(
        "Saved plan {:.12}  of {}  {}: {}\n\n",
        summary.plan.to_string(),
        saved.at,
        standing.word().to_uppercase(),
        standing.why()
    );
    let [inventory, policy] = saved.files();
    say!(
        out,
        "  inventory  {}\n  policy     {}\n\n",
        inventory.display(),
        policy.display()
    );
    let mut table = Table::new(&["WAVE", "WHO", "MAILBOXES", "NODES"], &[2, 3]);
    for wave in &summary.waves {
        let (mailboxes, nodes) = (thousands(wave.mailboxes), thousands(wave.nodes));
        table.row([safe(&wave.name), safe(&wave.who), mailboxes, nodes]);
    }
    out.push_str(&table.render("  "));
    out.push('\n');
    for rule in &summary.rules {
        say!(out, "  {}\n", safe(rule));
    }
    let planned: u32 = summary.waves.iter().map(|wave| wave.mailboxes).sum();
    say!(
        out,
        "\nPlan: {} waves to open, {} mailboxes, {} excluded. Nothing has been changed.\n",
        summary.waves.len(),
        thousands(planned),
        thousands(summary.excluded)
    );
    say!(out, "Digest {}\n", summary.plan);
    match standing {
        Standing::Ready | Standing::Unknown(_) => {
            say!(out, "Next   tidegate start {file}\n");
        }
        Standing::Stale(_) | Standing::Elsewhere(_) => {
            let (inventory, policy) = (inventory.display(), policy.display());
            say!(out, "Next   tidegate plan --inventory {inventory} --policy {policy} ");
            say!(out, "--out {file}\n");
        }
        Standing::Spent => say!(out, "Next   tidegate watch\n"),
    }
    out
}

/// The same for programs, `tidegate.shown-plan/v1`.
fn value(saved: &Saved, standing: &Standing) -> Value {
    let summary = &saved.summary;
    let [inventory, policy] = saved.files();
    let wave = |wave: &WaveSummary| ShownWave {
        name: wave.name.clone(),
        who: wave.who.clone(),
        mailboxes: wave.mailboxes,
        nodes: wave.nodes,
    };
    json::value(&ShownPlan {
        standing: standing.word(),
        why: standing.why(),
        saved_time: json::Time(saved.at.clone()),
        inventory,
        policy,
        plan_digest: summary.plan.to_string(),
        excluded: summary.excluded,
        rules: &summary.rules,
        waves: summary.waves.iter().map(wave).collect(),
    })
}

/// A saved plan, and whether it can still be started.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.shown-plan/v1")]
pub(crate) struct ShownPlan<'a> {
    /// `ready`, `stale`, `spent`, `elsewhere` or `unknown`.
    #[schemars(extend("enum" = Standing::WORDS))]
    standing: &'static str,
    /// Why it is.
    why: &'a str,
    /// When it was saved.
    saved_time: json::Time,
    /// The inventory that it was made of.
    inventory: &'a Path,
    /// The policy that it was made of.
    policy: &'a Path,
    /// Its digest.
    plan_digest: String,
    /// Mailboxes in no wave.
    excluded: u32,
    /// What it obeys, in words.
    rules: &'a [String],
    /// In the order in which they open.
    waves: Vec<ShownWave>,
}

/// A wave of a saved plan.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Wave")]
struct ShownWave {
    /// Its name.
    name: String,
    /// Whom it contains, in words.
    who: String,
    /// How many mailboxes.
    mailboxes: u32,
    /// On how many nodes.
    nodes: u32,
}

#[cfg(test)]
mod tests {
    use super::Standing;

    #[test]
    fn a_schema_has_every_word_that_is_said_of_a_saved_plan() {
        let why = String::new;
        let all = [
            Standing::Ready,
            Standing::Stale(why()),
            Standing::Spent,
            Standing::Elsewhere(why()),
            Standing::Unknown(why()),
        ];

        assert_eq!(all.each_ref().map(Standing::word), Standing::WORDS);
    }
}
