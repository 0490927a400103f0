//! Repair: from two surveys of a mailbox to the acts that make it whole.
//!
//! # Invariants
//!
//! * The same two sides always give the same acts; sides that agree give none.
//! * Every message known to either side ends in exactly one of the counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;

use super::case::{Case, Home};
use super::read::{read_case, read_snapshot};
use super::survey::{Folder, Survey, leave_out_others, survey};
use super::table::Row;
use super::{conflict, control, staging, twin, whereabouts};
use crate::digest::Digest;
use crate::ledger::Ledger;
use crate::manifest::ManifestEntry;
use crate::merge::Decision;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stage::Bench;
use crate::walk::escape;

/// So many different messages to one other address make it the owner's: a storm that swaps
/// bytes one by one does not hit one mailbox twice with the same neighbour's whole mail.
const ALIAS_MESSAGES_MIN: usize = 2;

/// Folders of one mailbox whose directories stay open from listing to reading: more than most
/// mailboxes have, few enough for the descriptors of many readers.
const FOLDERS_OPEN_MAX: usize = 8;

/// What was found out before this run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    /// The mailbox was open since its manifest, so that missing mail was deleted by its user.
    pub(super) served: bool,
}

/// Plans everything for one mailbox: stages bytes and acts on `bench`, outcomes in `ledger`.
pub(crate) fn plan(
    bench: &mut Bench<'_>,
    past: &crate::store::Past<'_>,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    let maildir = bench.path(b"");
    let mut live = survey((Side::Live, &bench.roots().live), &maildir)?;
    let mut snapshot = match &bench.roots().snapshot {
        Some(root) => survey((Side::Snapshot, root), &maildir)?,
        None => None,
    };
    leave_out_others(live.as_mut(), snapshot.as_mut());
    let home = match (&live, &snapshot) {
        (Some(side), _) | (None, Some(side)) => Home { meta: side.meta },
        (None, None) => return Err(Refusal::NotThere { path: escape(&maildir) }),
    };
    // A mailbox whose Maildir is gone was not emptied by its user.
    let served = past.served && live.is_some();
    ledger.odd_items(live.as_ref());
    let whole = live.is_none();
    // Of a Maildir that is gone all is put together, and nothing listed.
    let listed = live.as_ref().map_or(Some(0), |live| live.weight);
    let mut cases = cases(bench, (live, snapshot), home)?;
    if let Some(recorded) = past.recorded {
        let read = recorded.each(&mut |entry| remember(&mut cases, &entry));
        read.map_err(|source| {
            let path = format!("manifest of {}", escape(&maildir));
            Refusal::unreadable(path, source)
        })?;
    }
    let past = Past { served };
    if whole {
        staging::plan_maildir(bench, &mut cases, &maildir)?;
    } else {
        staging::plan_folders(bench, &mut cases, past)?;
    }
    for case in &mut cases {
        let served = case.was_served(past);
        read_case(bench, case, served)?;
    }
    let weights = cases.iter().map(Case::live_weight);
    let add = |sum: u128, weight: Option<u128>| Some(sum.wrapping_add(weight?));
    bench.weight = listed.and_then(|listed| weights.into_iter().try_fold(listed, add));
    let aliases = aliases(&cases);
    forgive(&mut cases, &aliases);
    for case in &mut cases {
        case.decide(past);
    }
    conflict::settle(bench, &mut cases)?;
    find_twins(bench, &mut cases)?;
    whereabouts::reconsider(bench, &mut cases, (past, &aliases))?;
    whereabouts::name_lost_folders(bench, &cases, (past, ledger))?;
    for index in 0..cases.len() {
        staging::stage_case(bench, &mut cases, index, (past, ledger))?;
    }
    control::recall(bench, &cases, ledger)
}

/// Pairs the folders of both sides: by name, else by GUID, as a renamed folder keeps its GUID. In
/// the order of their names.
fn cases(
    bench: &mut Bench<'_>,
    (live, snapshot): (Option<Survey>, Option<Survey>),
    home: Home,
) -> Result<Vec<Case>, Refusal> {
    let left = |side: &Option<Survey>| side.as_ref().map_or(0, |side| side.left);
    let mut left = [left(&live), left(&snapshot)];
    let live = live.map(|side| side.folders).unwrap_or_default();
    let deleted = control::deleted_folders(bench, live.get(&b""[..]))?;
    let mut snapshot = snapshot.map(|side| side.folders).unwrap_or_default();
    let mut orphans: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (name, folder) in snapshot.iter().filter(|(name, _)| !live.contains_key(*name)) {
        if let Some(guid) = control::guid(bench, Side::Snapshot, folder)? {
            orphans.insert(guid, name.clone());
        }
    }
    let mut cases = Vec::new();
    for (name, folder) in live {
        let other: Option<Folder> = match snapshot.remove(&name) {
            Some(same_name) => Some(same_name),
            None if orphans.is_empty() => None,
            None => control::guid(bench, Side::Live, &folder)?
                .and_then(|guid| orphans.remove(&guid))
                .and_then(|name| snapshot.remove(&name)),
        };
        add(&mut cases, Case::new(bench, (Some(folder), other), home, &mut left)?);
    }
    orphans.retain(|guid, _| deleted.contains(guid));
    let given_up: HashSet<Vec<u8>> = orphans.into_values().collect();
    for (name, folder) in snapshot {
        let mut case = Case::new(bench, (None, Some(folder)), home, &mut left)?;
        case.given_up = given_up.contains(&name);
        add(&mut cases, case);
    }
    cases.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(cases)
}

fn add(cases: &mut Vec<Case>, mut case: Case) {
    if cases.len() >= FOLDERS_OPEN_MAX {
        case.dirs = [None, None];
    }
    cases.push(case);
}

/// Takes into the tables what a manifest says.
fn remember(cases: &mut [Case], entry: &ManifestEntry) {
    let case = cases.binary_search_by(|case| case.name.cmp(&entry.folder));
    if let Some(case) = case.ok().and_then(|at| cases.get_mut(at)) {
        case.table.set_recorded(&entry.name, entry.fingerprint);
    }
}

/// Messages told apart by base name and header.
type Letters = HashSet<(Vec<u8>, Option<Digest>)>;

/// The owner's other addresses.
///
/// Storage faults swap messages one by one; an address that several whole and different
/// messages of a mailbox were delivered to is an alias or a collected account.
fn aliases(cases: &[Case]) -> HashSet<Box<[u8]>> {
    let mut seen: HashMap<Box<[u8]>, Letters> = HashMap::new();
    for case in cases {
        for ((_, row), it) in &case.seen {
            if let Some(address) = it.findings.only_stranger() {
                let letter = (case.table.base(*row).to_vec(), it.findings.header);
                seen.entry(address.into()).or_default().insert(letter);
            }
        }
    }
    seen.retain(|_, mails| {
        let names: HashSet<&[u8]> =
            mails.iter().map(|(base, _)| base.as_slice()).collect();
        let headers: HashSet<_> = mails.iter().map(|(_, header)| header).collect();
        names.len().min(headers.len()) >= ALIAS_MESSAGES_MIN
    });
    seen.into_keys().collect()
}

/// Forgives recipients who are the owner under another address.
pub(super) fn forgive(cases: &mut [Case], aliases: &HashSet<Box<[u8]>>) {
    for seen in cases.iter_mut().flat_map(|case| case.seen.values_mut()) {
        let findings = &mut seen.findings;
        if findings.stranger.as_ref().is_some_and(|it| aliases.contains(it)) {
            findings.forgive_stranger();
        }
    }
}

/// Looks for the origin of bad messages that only the live side has.
fn find_twins(bench: &mut Bench<'_>, cases: &mut [Case]) -> Result<(), Refusal> {
    let mut bad = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        for (row, choice) in &case.choices {
            let alone = case.table.slot(Side::Snapshot, *row).is_none();
            if alone && matches!(choice.decision, Decision::SetAside(_)) {
                bad.push((at, *row));
            }
        }
    }
    if bad.is_empty() {
        return Ok(());
    }
    let origins = origins(cases);
    for (at, row) in bad {
        let found = find_twin(bench, cases, (at, row), &origins)?;
        let choice = cases.get_mut(at).and_then(|case| case.choices.get_mut(&row));
        if let Some(choice) = choice {
            choice.twin = found;
        }
    }
    Ok(())
}

type Origins = HashMap<(u64, u64), Vec<(usize, Row)>>;

/// The snapshot's messages that are not in their place live, by both sizes.
fn origins(cases: &[Case]) -> Origins {
    let mut origins = Origins::new();
    for (at, case) in cases.iter().enumerate() {
        for row in case.table.iter() {
            let there = case.table.slot(Side::Live, row).is_some();
            if there || case.table.slot(Side::Snapshot, row).is_none() {
                continue;
            }
            if let Some(sizes) = case.sizes(row) {
                origins.entry(sizes).or_default().push((at, row));
            }
        }
    }
    origins
}

fn find_twin(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    (at, row): (usize, Row),
    origins: &Origins,
) -> Result<Option<(usize, Row)>, Refusal> {
    let sizes = cases.get(at).and_then(|case| case.sizes(row));
    let mut found: Option<((usize, Row), Digest)> = None;
    let candidates = sizes.and_then(|sizes| origins.get(&sizes)).into_iter().flatten();
    for (origin, mail) in candidates.copied() {
        let Some(case) = cases.get_mut(origin) else { continue };
        read_snapshot(bench, case, &[mail])?;
        let Some(findings) = case.findings(Side::Snapshot, mail) else { continue };
        let Some(digest) = findings.digest.filter(|_| findings.fault().is_none()) else {
            continue;
        };
        let whole = open(bench, cases, (origin, mail), Side::Snapshot)?;
        let damaged = open(bench, cases, (at, row), Side::Live)?;
        let Some((mut whole, mut damaged)) = whole.zip(damaged) else { continue };
        if !twin::agrees(&mut damaged, &mut whole).unwrap_or(false) {
            continue;
        }
        match found {
            Some((_, other)) if other != digest => return Ok(None),
            Some(_) => {}
            None => found = Some(((origin, mail), digest)),
        }
    }
    Ok(found.map(|(place, _)| place))
}

fn open(
    bench: &Bench<'_>,
    cases: &[Case],
    (at, row): (usize, Row),
    side: Side,
) -> Result<Option<File>, Refusal> {
    let rel = cases.get(at).and_then(|case| case.rel(side, row));
    rel.map(|rel| bench.open_mail((side, &rel))).transpose()
}
