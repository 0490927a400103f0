//! What nodes told during a rebuild, and whom somebody let back in, as bytes and back.
//!
//! # Invariants
//!
//! * The bytes of a record read back are the record.

use tidegate_core::fleet::{Generation, Incarnation, JobNumber, NodeNumber, Ordinal};
use tidegate_core::rollout::{Action, JobReport, KeptBack, Record};
use tidegate_core::time::Timestamp;

use super::{Kept, RecordError, issued, node};
use crate::journal::v1 as past;
use crate::protocol::{ProtocolError, present};
use crate::worker::{incarnation, ordinal};

pub(super) fn mailboxes_found(kept: past::MailboxesFound) -> Result<Record, RecordError> {
    let reclosed = kept.reclosed.into_iter().map(ordinal);
    Ok(Record::MailboxesFound {
        incarnation: incarnation(kept.incarnation)?,
        journaled: kept.journaled,
        report: present("report", kept.report)?.try_into()?,
        reclosed: reclosed.collect::<Result<_, ProtocolError>>()?,
        at: Timestamp::from_millis(kept.at_millis),
    })
}

pub(super) fn node_accepted(kept: past::NodeAccepted) -> Result<Record, RecordError> {
    Ok(Record::NodeAccepted {
        action: present("action", kept.action)?.try_into()?,
        node: node(kept.node)?,
        generations: issued(kept.jobs, kept.generations)?,
    })
}

pub(super) fn node_recounted(kept: past::NodeRecounted) -> Result<Record, RecordError> {
    // Absent in journals of older programs, to which nobody told it.
    let kept_back = kept.kept_back.map(KeptBack::try_from).transpose()?;
    Ok(Record::NodeRecounted {
        node: node(kept.node)?,
        journaled: kept.journaled,
        kept_back: kept_back.unwrap_or_default(),
        at: Timestamp::from_millis(kept.at_millis),
    })
}

pub(super) fn keep_claims(
    node: NodeNumber,
    claimed: Generation,
    orders_seen: u64,
    at: Timestamp,
) -> Kept {
    Kept::ClaimsFound(past::ClaimsFound {
        node: u32::from(node.get()),
        claimed: claimed.get(),
        orders_seen,
        at_millis: at.millis(),
    })
}

pub(super) fn keep_found(
    incarnation: Incarnation,
    journaled: u64,
    report: &JobReport,
    reclosed: &[Ordinal],
    at: Timestamp,
) -> Kept {
    Kept::MailboxesFound(past::MailboxesFound {
        incarnation: incarnation.get(),
        report: Some(report.clone().into()),
        reclosed: reclosed.iter().map(|ordinal| u32::from(ordinal.get())).collect(),
        at_millis: at.millis(),
        journaled,
    })
}

pub(super) fn keep_accepted(
    action: &Action,
    node: NodeNumber,
    generations: &[(JobNumber, Generation)],
) -> Kept {
    Kept::NodeAccepted(past::NodeAccepted {
        action: Some(action.into()),
        node: u32::from(node.get()),
        jobs: generations.iter().map(|(job, _)| job.get()).collect(),
        generations: generations.iter().map(|(_, issued)| issued.get()).collect(),
    })
}

pub(super) fn keep_recounted(
    node: NodeNumber,
    journaled: u64,
    kept_back: &KeptBack,
    at: Timestamp,
) -> Kept {
    let (node, at_millis) = (u32::from(node.get()), at.millis());
    let kept_back = Some(kept_back.into());
    Kept::NodeRecounted(past::NodeRecounted { node, at_millis, kept_back, journaled })
}

pub(super) fn keep_rebuilt(
    left_out: &[NodeNumber],
    by: Option<&Action>,
    at: Timestamp,
) -> Kept {
    let left_out = left_out.iter().map(|node| u32::from(node.get())).collect();
    let by = by.map(past::Action::from);
    Kept::Rebuilt(past::Rebuilt { left_out, at_millis: at.millis(), by })
}
