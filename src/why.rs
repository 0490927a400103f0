//! Why: the reasons of one part of a rollout, each with what to do.
//!
//! # Invariants
//!
//! * Reasons come from the coordinator; advice comes from the runbook.

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_wire::v1::{Node, NodeState, Rollout, Wave, WaveState, Why};

use crate::cli::{PartKind, TableOrJson, WhyOf};
use crate::client::Client;
use crate::console::{self, safe};
use crate::exit::{Exit, Failure, Outcome};
use crate::explain;
use crate::screens::{json, say};

/// Carries out `tidegate why`.
pub(crate) async fn run(args: &WhyOf) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let name = args.name.as_deref().unwrap_or_default();
    let reasons = match args.part {
        None => client.rollout().await?.why,
        Some(PartKind::Mailbox) => client.mailbox(name).await?.why,
        Some(PartKind::Wave) => of_wave(&client.rollout().await?, name)?,
        Some(PartKind::Node) => of_node(&client.rollout().await?, name)?,
    };
    match args.output {
        TableOrJson::Json => console::data_line(json::value(&Reasons {
            why: reasons.iter().map(Reason::of).collect(),
        }))?,
        TableOrJson::Table => console::data(lines(&reasons))?,
    }
    Ok(Exit::Done)
}

/// Why something waits.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.why/v1")]
pub(crate) struct Reasons<'a> {
    /// Every reason; empty where nothing keeps it waiting.
    why: Vec<Reason<'a>>,
}

/// A reason, and what to do.
#[derive(Serialize, JsonSchema)]
struct Reason<'a> {
    /// A stable code: `tidegate explain CODE`.
    code: &'a str,
    /// One line with its numbers.
    text: &'a str,
    /// What to do, as the runbook says; null where nothing is to be done.
    #[serde(rename = "do")]
    advice: Option<String>,
}

impl<'a> Reason<'a> {
    fn of(why: &'a Why) -> Self {
        let advice = explain::advice(&why.code);
        Self { code: &why.code, text: &why.text, advice }
    }
}

fn lines(reasons: &[Why]) -> String {
    if reasons.is_empty() {
        return "nothing keeps it waiting\n".to_owned();
    }
    let mut out = String::new();
    for why in reasons {
        say!(out, "{} ({})\n", safe(&why.text), safe(&why.code));
        if let Some(advice) = explain::advice(&why.code) {
            say!(out, "  do: {advice}\n");
        }
    }
    say!(out, "more: tidegate explain CODE\n");
    out
}

/// Why a wave stands where it stands: first what stops everything.
fn of_wave(rollout: &Rollout, name: &str) -> Result<Vec<Why>, Failure> {
    let find = |wave: &&Wave| wave.name == name || wave.number.to_string() == name;
    let names = rollout.waves.iter().map(|wave| wave.name.as_str());
    let wave = rollout
        .waves
        .iter()
        .find(find)
        .ok_or_else(|| Failure::unknown("wave", name, names))?;
    let mut reasons: Vec<Why> =
        rollout.why.iter().filter(|why| stops_everything(why)).cloned().collect();
    match wave.state() {
        WaveState::HeldBack => {
            reasons.push(reason("wave-held-back", "the wave was re-closed"));
        }
        WaveState::Between | WaveState::Waiting => {
            let timed = timed(rollout, &["window", "scheduled"], &wave.name);
            if !timed.is_empty() {
                reasons.extend(timed);
            } else if wave.state() == WaveState::Between {
                reasons.push(reason(
                    "scheduled",
                    "it has passed a rung, and waits for its schedule or for waves before it",
                ));
            } else {
                let text = "earlier waves or lower rungs come first";
                reasons.push(reason("wave-waits", text));
            }
        }
        WaveState::Passed | WaveState::Opening | WaveState::Unspecified => {}
    }
    reasons.extend(wave.gate.iter().flat_map(|gate| gate.reasons.clone()));
    Ok(reasons)
}

/// Why a node does not work, or does less than it could.
fn of_node(rollout: &Rollout, name: &str) -> Result<Vec<Why>, Failure> {
    let names = rollout.nodes.iter().map(|node| node.name.as_str());
    let node = rollout.nodes.iter().find(|node| node.name == name);
    let node = node.ok_or_else(|| Failure::unknown("node", name, names))?;
    let mut reasons: Vec<Why> =
        rollout.why.iter().filter(|why| stops_everything(why)).cloned().collect();
    reasons.extend(of_state(node));
    reasons.extend(timed(rollout, &["node-window"], name));
    if node
        .vitals
        .as_ref()
        .and_then(|vitals| vitals.pace.as_ref())
        .is_some_and(|pace| pace.why == "stopped")
    {
        reasons.push(reason("stopped", "logins are too late, nothing opens on it"));
    }
    reasons.extend(node.drain_why.clone());
    Ok(reasons)
}

fn of_state(node: &Node) -> Option<Why> {
    let (code, text) = match node.state() {
        NodeState::Working | NodeState::Unspecified => return None,
        NodeState::NoWorker => ("no-worker", "no worker has taken it up"),
        NodeState::Silent => ("worker-silent", "its worker is not heard"),
        NodeState::Isolated => ("node-isolated", "the gate took it out"),
        NodeState::HeldBack => ("node-held-back", "it was re-closed"),
        NodeState::Recounting => ("node-recounting", "it has yet to tell what it holds"),
        NodeState::LeftOut => ("node-left-out", "it was left out of a rebuild"),
        NodeState::TurnedAway => {
            ("worker-too-old", "a worker that knew less than it has told was turned away")
        }
        NodeState::Ahead => (
            "journal-too-old",
            "its worker knows orders or claims that were never given here",
        ),
    };
    Some(reason(code, text))
}

/// What the coordinator says of this part that waits for the clock, with its time.
fn timed(rollout: &Rollout, codes: &[&str], part: &str) -> Vec<Why> {
    let named = format!("`{part}`");
    let of_it =
        |why: &&Why| codes.contains(&why.code.as_str()) && why.text.contains(&named);
    rollout.why.iter().filter(of_it).cloned().collect()
}

/// Whether nothing opens anywhere because of this.
fn stops_everything(why: &Why) -> bool {
    matches!(why.code.as_str(), "paused" | "frozen" | "halted" | "aborted" | "rebuilding")
}

fn reason(code: &str, text: &str) -> Why {
    Why { code: code.to_owned(), text: text.to_owned() }
}
