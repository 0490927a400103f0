//! Control: the small files beside the folders.
//!
//! # Invariants
//!
//! * A readable live file wins and stays as it is.
//! * Caches that the mail server builds again are never brought back, and moved aside only when
//!   damaged.

use std::collections::BTreeMap;

use crate::dbox::desk::Desk;
use crate::dbox::folder::Home;
use crate::dbox::survey::Survey;
use crate::doubt::DoubtKind;
use crate::ledger::Ledger;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stage::Phase;
use crate::walk::Meta;

const SUBSCRIPTIONS: &[u8] = b"subscriptions";
const UID_VALIDITY: &[u8] = b"dovecot-uidvalidity";

/// The list of folders, which the mail server builds again.
const LIST_INDEX: &[u8] = b"dovecot.list.index";

/// Bytes at the head of an index that are never all zero in a good one: version and sizes.
const INDEX_HEAD_BYTES: usize = 64;

/// Where what leaves the mailbox's own directory is kept.
const LABEL: &[u8] = b".control";

/// Plans the return of lost control files, and damaged ones out of the way.
pub(crate) fn stage(
    desk: &mut Desk<'_, '_>,
    (live, snapshot): (Option<&Survey>, Option<&Survey>),
    (home, ledger): (Home, &mut Ledger),
) -> Result<(), Refusal> {
    let empty = BTreeMap::new();
    let live = live.map_or(&empty, |survey| &survey.control);
    let snapshot = snapshot.map_or(&empty, |survey| &survey.control);
    let has_validity = live.keys().any(|name| name.starts_with(UID_VALIDITY));
    for (name, meta) in snapshot {
        let lost = match &**name {
            SUBSCRIPTIONS => subscriptions_lost(desk, live, meta)?,
            name => name.starts_with(UID_VALIDITY) && !has_validity,
        };
        let bytes = if lost {
            desk.bench.control(Side::Snapshot, name, Some(meta))?
        } else {
            None
        };
        if let Some(bytes) = bytes {
            let staged = desk.bench.stage_bytes(&bytes, Some(home.file_like(meta)))?;
            desk.put(Phase::Messages, (LABEL, name), live.get(name), staged)?;
        }
    }
    for (name, meta) in live {
        if name.starts_with(LIST_INDEX)
            && meta.size > 0
            && desk.bench.begins_with_zeros(name, INDEX_HEAD_BYTES).unwrap_or(false)
        {
            desk.bench.aside("kept", (LABEL, name), meta)?;
            ledger.doubt(b"", name, None, DoubtKind::IndexDamaged);
        }
    }
    Ok(())
}

/// The snapshot's list is whole, and the live one is gone or damaged.
fn subscriptions_lost(
    desk: &mut Desk<'_, '_>,
    live: &BTreeMap<Vec<u8>, Meta>,
    snapshot: &Meta,
) -> Result<bool, Refusal> {
    let mut damaged = |side, meta| {
        let bytes = desk.bench.control(side, SUBSCRIPTIONS, meta)?;
        let bytes = bytes.unwrap_or_default();
        Ok(bytes.is_empty() || bytes.contains(&0))
    };
    let lost = damaged(Side::Live, live.get(SUBSCRIPTIONS))?;
    Ok(lost && !damaged(Side::Snapshot, Some(snapshot))?)
}
