//! Approve: a second person gives leave for what is dear.
//!
//! # Invariants
//!
//! * Leave names what it is for, and what its giver saw; it is for nothing else.

use tidegate_wire::v1::approve_request::What;
use tidegate_wire::v1::{ApproveRequest, ApproveResume};

use crate::cli::{Approve, ApproveArgs, PartKind};
use crate::client::Client;
use crate::console;
use crate::exit::{Exit, Outcome};
use crate::operate::scope_of;

/// Carries out `tidegate approve`.
pub(crate) async fn run(verb: &Approve) -> Outcome {
    let (what, etag, args) = named(verb);
    let mut client = Client::connect(&args.coordinator).await?;
    let request = ApproveRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        what: Some(what),
        etag,
        valid_seconds: args.minutes * 60,
    };
    let given = client.approve(request).await?;
    console::data_line(format_args!(
        "approved for {} min, once, for anybody else",
        given.valid_seconds / 60
    ))?;
    Ok(Exit::Done)
}

/// What is approved, what its giver saw, and the rest.
fn named(verb: &Approve) -> (What, String, &ApproveArgs) {
    match verb {
        Approve::Apply { plan, args } => (What::Apply(plan.clone()), String::new(), args),
        Approve::Resume { part, name, if_match, args } => {
            let part: Option<(PartKind, &str)> = part.zip(name.as_deref());
            let scope = part.map(|(kind, name)| scope_of(kind, name));
            (What::Resume(ApproveResume { scope }), if_match.clone(), args)
        }
        Approve::Accept { node, if_match, args } => {
            (What::Accept(node.clone()), if_match.clone(), args)
        }
    }
}
