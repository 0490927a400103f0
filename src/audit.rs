//! Audit: whether the log of who did and looked at what is as it was written.
//!
//! # Invariants
//!
//! * Nothing is changed.
//! * What cannot be seen without anchors is said.

use std::path::Path;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_audit::{PublicKey, Verified, verify};

use crate::cli::{Audit, TableOrJson};
use crate::console::{self, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::json;

/// Carries out `tidegate audit`.
pub(crate) fn run(verb: &Audit) -> Outcome {
    match verb {
        Audit::Verify { log, anchors, key, output } => {
            let verified = check(log, anchors.as_deref(), key.as_deref())?;
            match output {
                TableOrJson::Json => {
                    console::data_line(json::value(&VerifiedAudit::of(&verified)))?;
                }
                TableOrJson::Table => tell(log, anchors.is_some(), &verified)?,
            }
            Ok(if verified.findings.is_empty() { Exit::Done } else { Exit::Failed })
        }
    }
}

/// What a check of an audit log has found.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.verified-audit/v1")]
pub(crate) struct VerifiedAudit {
    /// Whether nothing is wrong.
    sound: bool,
    /// How many records it has.
    records: u64,
    /// The digest of the newest of them and of all before it.
    digest: String,
    /// How many anchors were compared.
    anchors: u64,
    /// The newest record that is anchored; a cut after it would not be seen.
    anchored: u64,
    /// What is wrong, in words; at most a hundred.
    wrong: Vec<String>,
}

impl VerifiedAudit {
    fn of(verified: &Verified) -> Self {
        Self {
            sound: verified.findings.is_empty(),
            records: verified.records,
            digest: verified.digest.clone(),
            anchors: verified.anchors,
            anchored: verified.anchored,
            wrong: verified.findings.iter().map(ToString::to_string).collect(),
        }
    }
}

fn check(
    log: &Path,
    anchors: Option<&Path>,
    key: Option<&Path>,
) -> Result<Verified, Failure> {
    let read = |path: &Path| {
        PublicKey::read(path)
            .with_context(|| format!("read the key `{}`", path.display()))
    };
    let input = |error| Failure::new(Exit::Input, error);
    let key = key.map(read).transpose().map_err(input)?;
    if let Some(anchors) = anchors.filter(|it| !it.exists()) {
        let error = anyhow::anyhow!("there are no anchors at `{}`", anchors.display());
        return Err(input(error).help(
            "the first is written a minute after the first record, or when the coordinator ends; \
             until then verify without --anchors",
        ));
    }
    verify(log, anchors, key.as_ref())
        .with_context(|| format!("read `{}` and its anchors", log.display()))
        .map_err(input)
}

fn tell(log: &Path, has_anchors: bool, verified: &Verified) -> Result<(), Failure> {
    for finding in &verified.findings {
        console::data_line(finding)?;
    }
    console::data_line(format_args!(
        "{}: {} records, newest digest {}",
        log.display(),
        thousands(verified.records),
        verified.digest
    ))?;
    let unanchored = verified.records.saturating_sub(verified.anchored);
    console::data_line(match (has_anchors, unanchored) {
        (false, _) => {
            "no anchors: a rewriting of all of it, or a cut at its end, would not be \
                      seen; name them with --anchors"
                .to_owned()
        }
        (true, 0) => {
            format!("{} anchors, the newest of its last record", verified.anchors)
        }
        (true, more) => format!(
            "{} anchors, the newest of record {}; a cut within the {more} after it would not be \
             seen",
            verified.anchors,
            thousands(verified.anchored)
        ),
    })?;
    if verified.findings.is_empty() {
        console::data_line("all sound")?;
    }
    Ok(())
}
