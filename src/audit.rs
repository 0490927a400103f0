//! Audit: whether the log of who did and looked at what is as it was written.
//!
//! # Invariants
//!
//! * Nothing is changed.
//! * What cannot be seen without anchors is said.

use std::path::Path;

use anyhow::Context as _;
use tidegate_audit::{PublicKey, verify};

use crate::cli::Audit;
use crate::console::{self, thousands};
use crate::exit::{Exit, Failure, Outcome};

/// Carries out `tidegate audit`.
pub(crate) fn run(verb: &Audit) -> Outcome {
    match verb {
        Audit::Verify { log, anchors, key } => {
            check(log, anchors.as_deref(), key.as_deref())
        }
    }
}

fn check(log: &Path, anchors: Option<&Path>, key: Option<&Path>) -> Outcome {
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
    let verified = verify(log, anchors, key.as_ref())
        .with_context(|| format!("read `{}` and its anchors", log.display()))
        .map_err(input)?;
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
    console::data_line(match (anchors, unanchored) {
        (None, _) => {
            "no anchors: a rewriting of all of it, or a cut at its end, would not be \
                      seen; name them with --anchors"
                .to_owned()
        }
        (Some(_), 0) => {
            format!("{} anchors, the newest of its last record", verified.anchors)
        }
        (Some(_), more) => format!(
            "{} anchors, the newest of record {}; a cut within the {more} after it would not be \
             seen",
            verified.anchors,
            thousands(verified.anchored)
        ),
    })?;
    if verified.findings.is_empty() {
        console::data_line("all sound")?;
        return Ok(Exit::Done);
    }
    Ok(Exit::Failed)
}
