//! Outcome: what the product claims about every mailbox, and whether all is well.
//!
//! # Invariants
//!
//! * Claims come from the public contract, as any client would ask.
//! * Well means: the recount is clean and the rollout ended as the fault demands.

use std::collections::BTreeMap;

use tidegate_lab::{Listed, MailboxEnd, Recount, Told};
use tidegate_wire::v1::{
    FindingKind, ListFindingsRequest, ListMailboxesRequest, Mailbox, MailboxFinding,
    NodeState, Preparation, Rollout, RolloutState,
};

use super::trouble::{Trouble, check_happened};
use crate::cli::{Fault, Lab};
use crate::client::Client;
use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::diagnosis::nodes_in;
use crate::screens::status::state_word;

/// Asks what the product claims about every mailbox.
///
/// # Errors
///
/// What the coordinator answered.
pub(super) async fn ask(client: &mut Client) -> Result<Told, Failure> {
    let mut states = BTreeMap::new();
    let mut take = |mailbox: Mailbox| -> Result<(), Failure> {
        let end = match mailbox.preparation() {
            Preparation::Prepared => MailboxEnd::Restored,
            Preparation::Quarantined => MailboxEnd::SetAside,
            Preparation::Waiting | Preparation::Unspecified => MailboxEnd::Untouched,
        };
        states.insert(mailbox.address, end);
        Ok(())
    };
    client.mailboxes(ListMailboxesRequest::default(), &mut take).await?;
    let mut set_aside = Vec::new();
    let mut list = |found: MailboxFinding| -> Result<(), Failure> {
        let Some(finding) = found.finding else { return Ok(()) };
        match finding.kind() {
            FindingKind::SetAside | FindingKind::Lost => set_aside.push(Listed {
                address: found.address,
                folder: finding.folder,
                name: finding.name,
                reason: finding.reason,
            }),
            FindingKind::Unspecified
            | FindingKind::Doubt
            | FindingKind::Quarantined
            | FindingKind::Probe => {}
        }
        Ok(())
    };
    client.findings(ListFindingsRequest::default(), &mut list).await?;
    Ok(Told { states, set_aside })
}

/// Whether all is well; says so, and how to see it again.
///
/// # Errors
///
/// What is not well.
pub(super) fn judge(
    args: &Lab,
    end: &Rollout,
    recount: &Recount,
    trouble: &Trouble,
) -> Outcome {
    let again = again(args);
    console::data_line(format_args!("again    {again}"))?;
    check_happened(&args.fault, trouble)?;
    check_end(&args.fault, end)?;
    if !recount.is_clean() {
        return Err(Failure::text(Exit::Failed, "the recount is not clean: see above")
            .help(format!("keep everything with `{again} --keep DIR`")));
    }
    console::data_line(match &args.fault {
        Fault::None => "clean: nothing lost, altered, duplicated or misplaced".to_owned(),
        Fault::Node { name, .. } => format!(
            "clean: {} mailboxes of {name} failed after opening; it was isolated, the others \
             went on, nothing was lost",
            trouble.broken
        ),
        Fault::All { .. } => format!(
            "clean: {} mailboxes failed after opening; the rollout halted, nothing was lost",
            trouble.broken
        ),
        Fault::Kill { .. } => format!(
            "clean: {} programs were killed with SIGKILL and came back; nothing was lost",
            trouble.kills
        ),
    })?;
    Ok(Exit::Done)
}

fn check_end(fault: &Fault, end: &Rollout) -> Result<(), Failure> {
    let isolated = nodes_in(end, NodeState::Isolated);
    let (state, node) = match fault {
        Fault::None | Fault::Kill { .. } => (RolloutState::Finished, None),
        Fault::Node { name, .. } => (RolloutState::Finished, Some(name.clone())),
        Fault::All { .. } => (RolloutState::Halted, isolated.clone()),
    };
    if end.state() == state && isolated == node {
        return Ok(());
    }
    let told = |node: Option<String>| node.unwrap_or_else(|| "no node".to_owned());
    Err(Failure::text(
        Exit::Failed,
        format!(
            "the rollout ended {} with {} isolated; expected {} with {}",
            state_word(end.state()).0,
            told(isolated),
            state_word(state).0,
            told(node)
        ),
    ))
}

/// The command that does the same again.
fn again(args: &Lab) -> String {
    let fault = match &args.fault {
        Fault::None => String::new(),
        Fault::Node { name, share } => format!(" --fault 'node:{name}={share}'"),
        Fault::All { share } => format!(" --fault 'all={share}'"),
        Fault::Kill { times } => format!(" --fault kill={times}"),
    };
    format!(
        "tidegate lab --mailboxes {} --nodes {} --messages {} --seed {} --damage '{}'{fault}",
        args.mailboxes, args.nodes, args.messages, args.seed, args.damage
    )
}
