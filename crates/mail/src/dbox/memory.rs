//! Memory: what only the mail server's own files still know of a mailbox.
//!
//! # Invariants
//!
//! * Only the list of findings grows by it; nothing is decided by it.

use std::collections::{HashMap, HashSet};

use crate::dbox::desk::Desk;
use crate::dbox::folder::Case;
use crate::dbox::known::{FOLDER, Known};
use crate::dbox::survey::{Files, Survey, folder_path};
use crate::finding::Finding;
use crate::index::{self, ListedFolder};
use crate::ledger::Ledger;
use crate::reason::Reason;
use crate::recall::{CACHE_BYTES_MAX, Memory};
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::walk::{escape, join};

/// The files of the mail server's list of folders.
const LISTS: [&[u8]; 3] =
    [b"dovecot.list.index", b"dovecot.list.index.log", b"dovecot.list.index.log.2"];

/// Names the folders of which nothing is anywhere. In a mailbox that was open since, they are its
/// user's. `returned`: the folders that get their messages back from elsewhere.
pub(crate) fn name_lost_folders(
    cases: &[Case],
    returned: &HashSet<usize>,
    ledger: &mut Ledger,
) {
    for (at, case) in cases.iter().enumerate() {
        if case.is_name_only() && !returned.contains(&at) {
            ledger.lost((case.report_name(), b""), None, Reason::Missing);
        }
    }
}

/// The folders that the mail server's list names on one side.
pub(crate) fn listed(
    desk: &mut Desk<'_, '_>,
    (side, survey): (Side, Option<&Survey>),
) -> Result<Vec<ListedFolder>, Refusal> {
    let mut files = Vec::new();
    for name in LISTS {
        let meta = survey.and_then(|survey| survey.control.get(name));
        files.push(desk.bench.control(side, name, meta)?);
    }
    let [list, log, older] = &*files else { return Ok(Vec::new()) };
    let list = index::read(list.as_deref(), log.as_deref(), older.as_deref());
    Ok(list.last_known().and_then(|list| list.folders()).unwrap_or_default())
}

/// Adds what caches know of messages that are not served.
pub(crate) fn recall(
    desk: &mut Desk<'_, '_>,
    cases: &[Case],
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    let by_folder = |one: &&mut Finding, other: &&mut Finding| one.folder == other.folder;
    let mut unserved: Vec<&mut Finding> = ledger.unserved().collect();
    unserved.sort_by(|one, other| one.folder.cmp(&other.folder));
    let cases: HashMap<String, &Case> =
        cases.iter().map(|case| (escape(case.report_name()), case)).collect();
    for findings in unserved.chunk_by_mut(by_folder) {
        let case = findings.first().and_then(|finding| cases.get(&finding.folder));
        let Some(case) = case else { continue };
        let live = case.live.as_ref().map(|files| (&*case.name, files));
        let once = case.snapshot.as_ref().map(|(name, files)| (&**name, files));
        tell(desk, (Side::Live, live, &case.known), findings)?;
        if case.shares_uids() {
            tell(desk, (Side::Snapshot, once, &case.known_once), findings)?;
        }
    }
    Ok(())
}

/// Adds what one side's cache of a folder knows.
fn tell(
    desk: &mut Desk<'_, '_>,
    (side, folder, known): (Side, Option<(&[u8], &Files)>, &Known),
    findings: &mut [&mut Finding],
) -> Result<(), Refusal> {
    let Some(((dir, files), index)) = folder.zip(known.index.as_ref()) else {
        return Ok(());
    };
    let name = [FOLDER, b".cache"].concat();
    let meta = files.control.get(&name).filter(|meta| meta.size <= CACHE_BYTES_MAX);
    let rel = join(&folder_path(dir), &name);
    let cache = desk.bench.control(side, &rel, meta)?;
    let memory = cache.as_deref().and_then(|cache| Memory::new(index, cache));
    if let Some(memory) = memory {
        for finding in findings {
            memory.tell(finding);
        }
    }
    Ok(())
}
