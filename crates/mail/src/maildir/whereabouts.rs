//! Whereabouts: what is gone from its folder may have been moved to a place that was lost.
//!
//! A move leaves the same trace in the folder it began in as a deletion. Where the mailbox has lost
//! a place that the message may have been moved to, its absence proves nothing, and the snapshot's
//! message comes back where it was: better a deleted mail back than a mail lost.
//!
//! # Invariants
//!
//! * A message that stands good elsewhere in the mailbox, under a name that the snapshot does not
//!   know, has been moved: it does not come back too.
//! * Where what was lost is known by name, only messages of its size come back.
//! * Nothing comes back to a mailbox that was open since: what is gone there, its user deleted.

use std::collections::HashSet;

use super::case::{Case, Choice, Fate};
use super::control;
use super::name::MailName;
use super::read::read_snapshot;
use super::repair::{Past, forgive};
use super::table::Row;
use crate::digest::Digest;
use crate::index::folders::ListedFolder;
use crate::ledger::Ledger;
use crate::merge::{self, Decision, Evidence, Listing};
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stage::Bench;

/// Turns deletions that are not proved after all into returns. `aliases`: the owner's.
pub(super) fn reconsider(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    (past, aliases): (Past, &HashSet<Box<[u8]>>),
) -> Result<(), Refusal> {
    if past.served {
        return Ok(());
    }
    let lost = Lost::of(bench, cases)?;
    let mut doubted = Vec::new();
    for (at, case) in cases.iter_mut().enumerate() {
        let rows = lost.doubted(at, case);
        read_snapshot(bench, case, &rows)?;
        doubted.push(rows);
    }
    if doubted.iter().all(Vec::is_empty) {
        return Ok(());
    }
    forgive(cases, aliases);
    let moved = moved(cases);
    for (case, rows) in cases.iter_mut().zip(doubted) {
        for row in rows {
            if let Some(decision) = reconsidered(case, row, &moved) {
                case.choose(row, Choice { decision, twin: None, regained: true });
            }
        }
    }
    Ok(())
}

/// The return of a message, unless it was moved or has no good bytes.
fn reconsidered(case: &Case, row: Row, moved: &HashSet<Digest>) -> Option<Decision> {
    let findings = case.findings(Side::Snapshot, row)?;
    if findings.digest.is_some_and(|digest| moved.contains(&digest)) {
        return None;
    }
    let decision = merge::decide(&Evidence {
        live: None,
        snapshot: merge::Side::Read(&findings),
        recorded: case.table.recorded(row),
        listing: Listing::Unknown,
        served: false,
    })
    .decision;
    matches!(decision, Decision::Return { .. }).then_some(decision)
}

/// The bytes that stand good under names unknown to the snapshot.
fn moved(cases: &[Case]) -> HashSet<Digest> {
    let mut moved = HashSet::new();
    let digest = |at: usize, side, row| {
        cases.get(at).and_then(|case: &Case| case.findings(side, row)?.digest)
    };
    for (at, case) in cases.iter().enumerate() {
        for row in case.table.iter() {
            if case.table.slot(Side::Snapshot, row).is_some() {
                continue;
            }
            match case.fate(row) {
                Fate::Newer | Fate::Intact => moved.extend(digest(at, Side::Live, row)),
                Fate::Chosen => {
                    let twin = case.choices.get(&row).and_then(|choice| choice.twin);
                    moved.extend(
                        twin.and_then(|(at, row)| digest(at, Side::Snapshot, row)),
                    );
                }
                Fate::Listed | Fate::Deleted => {}
            }
        }
    }
    moved
}

/// What a live mailbox has lost since its snapshot, as far as it can be told.
#[derive(Debug, Default)]
struct Lost {
    /// Folders of which nobody can say what they held: indexes of cases.
    folders: Vec<usize>,
    /// A folder that no case is about was lost.
    unknown_folder: bool,
    /// `S=` and `W=` of newer mail that is known by name.
    sizes: HashSet<(u64, u64)>,
    /// `S=` of such mail whose `W=` is not known.
    sizes_alone: HashSet<u64>,
    /// Newer mail of unknown size was lost.
    any_size: bool,
}

impl Lost {
    fn of(bench: &mut Bench<'_>, cases: &[Case]) -> Result<Self, Refusal> {
        let mut lost = Self::default();
        for (at, case) in cases.iter().enumerate().filter(|(_, case)| !case.given_up) {
            if case.live.is_none() || case.lists.may_hide_a_loss(case.snapshot.is_some())
            {
                lost.folders.push(at);
            }
            for row in case.table.iter() {
                let listed = case.table.uid(Side::Live, row).is_some()
                    && case.table.uid(Side::Snapshot, row).is_none();
                if listed && !case.table.is_held(row) {
                    lost.name(case.table.base(row));
                }
            }
            for (row, choice) in &case.choices {
                let bad = matches!(choice.decision, Decision::SetAside(_));
                let alone = case.table.slot(Side::Snapshot, *row).is_none();
                if bad && alone && choice.twin.is_none() {
                    lost.name(case.table.base(*row));
                }
            }
        }
        lost.unknown_folder =
            lost_subscription(bench, cases)? || !lost_folders(bench, cases)?.is_empty();
        Ok(lost)
    }

    fn name(&mut self, name: &[u8]) {
        let name = MailName::parse(name);
        match (name.size, name.virtual_size) {
            (Some(size), Some(virtual_size)) => {
                self.sizes.insert((size, virtual_size));
            }
            (Some(size), None) => {
                self.sizes_alone.insert(size);
            }
            (None, _) => self.any_size = true,
        }
    }

    /// The messages of a case whose deletion is not proved.
    fn doubted(&self, at: usize, case: &Case) -> Vec<Row> {
        if case.given_up {
            return Vec::new();
        }
        let place = self.unknown_folder || self.folders.iter().any(|it| *it != at);
        let doubted = |row: &Row| {
            let deleted = case.fate(*row) == Fate::Deleted;
            deleted && (place || self.fits(case.table.base(*row)))
        };
        case.table.iter().filter(doubted).collect()
    }

    /// Whether a message may be one of those that are known by name.
    fn fits(&self, base: &[u8]) -> bool {
        let name = MailName::parse(base);
        // A message whose name tells no size may be any of them.
        let Some(size) = name.size else {
            return self.any_size
                || !self.sizes.is_empty()
                || !self.sizes_alone.is_empty();
        };
        let both = match name.virtual_size {
            Some(virtual_size) => self.sizes.contains(&(size, virtual_size)),
            None => self.sizes.iter().any(|(known, _)| *known == size),
        };
        both || self.any_size || self.sizes_alone.contains(&size)
    }
}

/// Whether the owner has subscribed to a folder since the snapshot that is not there.
fn lost_subscription(bench: &mut Bench<'_>, cases: &[Case]) -> Result<bool, Refusal> {
    let Some(inbox) = cases.iter().find(|case| case.name.is_empty()) else {
        return Ok(false);
    };
    let mut now = control::subscribed(bench, Side::Live, inbox.live.as_ref())?;
    now.retain(|name| cases.iter().all(|case| case.name != *name));
    if now.is_empty() {
        return Ok(false);
    }
    let before = control::subscribed(bench, Side::Snapshot, inbox.snapshot.as_ref())?;
    Ok(!now.is_subset(&before))
}

/// Lists the folders that nobody can bring back; in a mailbox that was open since, they are its
/// user's.
pub(super) fn name_lost_folders(
    bench: &mut Bench<'_>,
    cases: &[Case],
    (past, ledger): (Past, &mut Ledger),
) -> Result<(), Refusal> {
    if past.served {
        return Ok(());
    }
    for folder in lost_folders(bench, cases)? {
        ledger.lost((&folder.maildir(), b""), None, Reason::Missing);
    }
    Ok(())
}

/// The folders that the mail server knew and of which nothing is anywhere.
///
/// A folder that was renamed still has its GUID, and one that was deleted has left it behind.
pub(super) fn lost_folders(
    bench: &mut Bench<'_>,
    cases: &[Case],
) -> Result<Vec<ListedFolder>, Refusal> {
    let inbox = cases.iter().find(|case| case.name.is_empty());
    let inbox = inbox.and_then(|case| case.live.as_ref());
    let mut lost = control::listed_folders(bench, inbox)?;
    lost.retain(|folder| {
        let name = folder.maildir();
        cases.binary_search_by(|case| case.name.cmp(&name)).is_err()
    });
    if lost.is_empty() {
        return Ok(lost);
    }
    let mut known = control::deleted_folders(bench, inbox)?;
    for case in cases {
        for (side, folder) in [(Side::Live, &case.live), (Side::Snapshot, &case.snapshot)]
        {
            if let Some(folder) = folder {
                known.extend(control::guid(bench, side, folder)?);
            }
        }
    }
    let is_unknown = |guid| !known.contains(&guid);
    lost.retain(|folder| folder.guid_digits().is_some_and(is_unknown));
    Ok(lost)
}
