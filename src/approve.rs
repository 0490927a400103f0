//! Approve: a second person gives leave for what is dear.
//!
//! # Invariants
//!
//! * Leave names what it is for, and what its giver saw; it is for nothing else.

use std::path::Path;

use tidegate_wire::v1::approve_request::What;
use tidegate_wire::v1::{ApproveEmergency, ApproveRequest, ApproveResume};

use crate::cli::{Approve, ApproveArgs, PartKind};
use crate::client::Client;
use crate::exit::{Exit, Failure, Outcome};
use crate::operate::scope_of;
use crate::{console, planning};

/// Carries out `tidegate approve`.
pub(crate) async fn run(verb: &Approve) -> Outcome {
    let Named { what, etag, evidence, args } = named(verb)?;
    let mut client = Client::connect(&args.coordinator).await?;
    let request = ApproveRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        what: Some(what),
        etag,
        evidence,
        valid_seconds: args.minutes * 60,
    };
    let given = client.approve(request).await?;
    console::data_line(format_args!(
        "approved for {} min, once, for anybody else",
        given.valid_seconds / 60
    ))?;
    Ok(Exit::Done)
}

/// What is approved, and on what.
struct Named<'a> {
    what: What,
    etag: String,
    evidence: String,
    args: &'a ApproveArgs,
}

/// What is approved, what its giver saw, and the rest.
fn named(verb: &Approve) -> Result<Named<'_>, Failure> {
    Ok(match verb {
        Approve::Apply { plan, args } => {
            let file = Path::new(plan);
            let digest =
                if file.is_file() { planning::digest_in(file)? } else { plan.clone() };
            let (what, nothing) = (What::Apply(digest), String::new());
            Named { what, etag: nothing.clone(), evidence: nothing, args }
        }
        Approve::Resume { part, name, if_match, evidence, args } => {
            let part: Option<(PartKind, &str)> = part.zip(name.as_deref());
            let scope = part.map(|(kind, name)| scope_of(kind, name));
            let what = What::Resume(ApproveResume { scope });
            Named { what, etag: if_match.clone(), evidence: evidence.clone(), args }
        }
        Approve::Expand { wave, if_match, evidence, args } => {
            let what = What::Expand(wave.clone());
            Named { what, etag: if_match.clone(), evidence: evidence.clone(), args }
        }
        Approve::Emergency { which, if_match, evidence, args } => {
            let what = What::Emergency(ApproveEmergency {
                wave: which.wave.clone().unwrap_or_default(),
                lasts_seconds: which.lasts_seconds(),
            });
            Named { what, etag: if_match.clone(), evidence: evidence.clone(), args }
        }
        Approve::Accept { node, if_match, evidence, args } => {
            let what = What::Accept(node.clone());
            Named { what, etag: if_match.clone(), evidence: evidence.clone(), args }
        }
    })
}
