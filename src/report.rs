//! Report: a directory that proves, without Tidegate's machines, what a rollout brought back,
//! what is lost, when and by whom.
//!
//! ```text
//! summary.txt     for people: how long, what came back, who decided what, made from the others
//! proof.json      what it is of, and the digest of every other file; `proof.sig` signs its bytes
//! report.json     the sums: tidegate.report/v1
//! mailboxes.csv   one row for each mailbox of the inventory, also for those in no wave
//! findings.csv    what is lost or set aside, by name, as far as the coordinator knows it
//! events.jsonl    what happened, and who did it: tidegate.event/v1
//! audit.jsonl     who did and looked at what, if it was given; its chain is checked again
//! journal.jsonl   every record, if it was given
//! outage.csv      how long each tier waited for each rung, if it was said when the outage began
//! compensation.csv  what each mailbox waited and is owed by compensation.toml, if that was given
//! words.csv       what was said in public, if that was given
//! nodes/*.jsonl   findings of nodes, if they were given: tidegate.finding/v1
//! ```
//!
//! # Invariants
//!
//! * It is made of answers between which nothing has moved, or it is not made.
//! * Verifying asks nobody and changes nothing, and believes no sum that it can count itself.
//! * Nothing is written over.

mod build;
mod outage;
mod summary;
mod verify;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cli::ReportVerb;
use crate::exit::Outcome;
pub(crate) use verify::Verification;

/// The file that names all others.
const PROOF: &str = "proof.json";

/// The file that signs it.
const SIGNATURE: &str = "proof.sig";

/// The sums.
const SUMS: &str = "report.json";

/// The rows.
const MAILBOXES: &str = "mailboxes.csv";

/// What is lost or set aside.
const FINDINGS: &str = "findings.csv";

/// What happened.
const EVENTS: &str = "events.jsonl";

/// Who did and looked at what.
const AUDIT: &str = "audit.jsonl";

/// Every record.
const JOURNAL: &str = "journal.jsonl";

/// How long each tier waited.
const OUTAGE: &str = "outage.csv";

/// Who is owed what.
const RULES: &str = "compensation.toml";

/// What each mailbox waited and is owed.
const COMPENSATION: &str = "compensation.csv";

/// What was said in public.
const WORDS: &str = "words.csv";

/// What people read first.
const SUMMARY: &str = "summary.txt";

/// Where findings of nodes are.
const NODES: &str = "nodes";

/// What a signature of a proof says before its digest, so that it is of nothing else.
const SIGNED: &str = "tidegate report proof v1";

/// Carries out `tidegate report build` and `verify`.
pub(crate) async fn run(verb: &ReportVerb) -> Outcome {
    match verb {
        ReportVerb::Build(args) => build::run(args).await,
        ReportVerb::Verify(args) => verify::run(args),
    }
}

/// What a report is of, and the digests of its files.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.proof/v1")]
pub(crate) struct Proof {
    /// When it was built.
    built_time: String,
    /// Who built it.
    built_by: String,
    /// The program's version.
    version: String,
    /// The policy's name for the rollout.
    name: String,
    /// How the rollout ended: `finished` or `aborted`.
    state: String,
    /// The digest of its plan.
    plan_digest: String,
    /// The digest of its inventory.
    inventory_digest: String,
    /// The digest of its policy.
    policy_digest: String,
    /// The head of the audit log, if that is part of it.
    audit: Option<Head>,
    /// The head of the coordinator's journal, if that is part of it.
    journal: Option<Head>,
    /// When the outage began, as a person declared it.
    outage_start_time: Option<String>,
    /// For which program `outage.csv` and `compensation.csv` are written; commas where none is named.
    #[serde(default)]
    dialect: Option<String>,
    /// Every other file, by name.
    files: Vec<Member>,
}

/// The newest record of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Head")]
struct Head {
    /// Its number.
    records: u64,
    /// The digest of it and of all before it.
    digest: String,
}

/// A file of a report.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "File")]
struct Member {
    /// Its name below the report's directory.
    name: String,
    /// Its length.
    bytes: u64,
    /// The SHA-256 of its bytes: `sha256sum` gives the same.
    sha256: String,
}
