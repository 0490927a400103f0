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

use super::{Case, Past, forgive, read};
use crate::maildir::control;
use crate::merge::{self, Decision, Evidence};
use crate::digest::Digest;
use crate::maildir::name::MailName;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stage::Bench;
use crate::merge::Listing;

/// Turns deletions that are not proved after all into returns. `aliases`: the owner's.
pub(super) fn reconsider(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    (past, aliases): (&Past<'_>, &HashSet<Box<[u8]>>),
) -> Result<(), Refusal> {
    if past.served {
        return Ok(());
    }
    let lost = Lost::of(bench, cases)?;
    let doubted = lost.doubted(cases);
    let unread = doubted.iter().filter_map(|(at, index)| {
        let case = cases.get(*at)?;
        let snapshot = case.choices.get(*index)?.snapshot?;
        let inode = case.mail(Side::Snapshot, snapshot)?.meta.inode;
        let known = case.findings.contains_key(&(Side::Snapshot, snapshot));
        (!known).then_some((inode, *at, snapshot))
    });
    let unread = unread.collect();
    read(bench, cases, Side::Snapshot, unread)?;
    forgive(cases, aliases);
    let moved = moved(cases);
    for (at, index) in doubted {
        let Some(case) = cases.get_mut(at) else { continue };
        let decision = reconsidered(case, index, past, &moved);
        if let Some((decision, choice)) = decision.zip(case.choices.get_mut(index)) {
            choice.decision = decision;
            choice.regained = true;
        }
    }
    Ok(())
}

/// The return of a message, unless it was moved or has no good bytes.
fn reconsidered(
    case: &Case,
    index: usize,
    past: &Past<'_>,
    moved: &HashSet<Digest>,
) -> Option<Decision> {
    let choice = case.choices.get(index)?;
    let findings = case.findings.get(&(Side::Snapshot, choice.snapshot?))?;
    if findings.digest.is_some_and(|digest| moved.contains(&digest)) {
        return None;
    }
    let decision = merge::decide(&Evidence {
        live: None,
        snapshot: merge::Side::Read(findings),
        recorded: past.digest(&case.name, &choice.base).map(Into::into),
        listing: Listing::Unknown,
        served: false,
    })
    .decision;
    matches!(decision, Decision::Return { .. }).then_some(decision)
}

/// The bytes that stand good under names unknown to the snapshot.
fn moved(cases: &[Case]) -> HashSet<Digest> {
    let mut moved = HashSet::new();
    for case in cases {
        for choice in case.choices.iter().filter(|choice| choice.snapshot.is_none()) {
            let digest = match (choice.decision, choice.twin) {
                (Decision::SetAside(_), Some((origin, index))) => cases
                    .get(origin)
                    .and_then(|case| case.findings.get(&(Side::Snapshot, index))?.digest),
                (Decision::Newer | Decision::Intact, _) => choice
                    .live
                    .and_then(|index| case.findings.get(&(Side::Live, index))?.digest),
                (
                    Decision::SetAside(_)
                    | Decision::Repair { .. }
                    | Decision::Return { .. }
                    | Decision::Deleted
                    | Decision::Lost(_),
                    _,
                ) => None,
            };
            moved.extend(digest);
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
            let held: HashSet<&[u8]> =
                case.choices.iter().map(|choice| &*choice.base).collect();
            let listed = case.lists.newer().filter(|name| !held.contains(name));
            listed.for_each(|name| lost.name(name));
            for choice in &case.choices {
                let bad = matches!(choice.decision, Decision::SetAside(_));
                if bad && choice.snapshot.is_none() && choice.twin.is_none() {
                    lost.name(&choice.base);
                }
            }
        }
        lost.unknown_folder = lost_subscription(bench, cases)?;
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

    /// The messages whose deletion is not proved: case and index of the choice.
    fn doubted(&self, cases: &[Case]) -> Vec<(usize, usize)> {
        let mut doubted = Vec::new();
        for (at, case) in cases.iter().enumerate().filter(|(_, case)| !case.given_up) {
            let place = self.unknown_folder || self.folders.iter().any(|it| *it != at);
            for (index, choice) in case.choices.iter().enumerate() {
                let deleted = choice.decision == Decision::Deleted;
                let mail = choice.snapshot.and_then(|it| case.mail(Side::Snapshot, it));
                let fits = |size| place || self.fits(&choice.base, size);
                if deleted && mail.is_some_and(|mail| fits(mail.meta.size)) {
                    doubted.push((at, index));
                }
            }
        }
        doubted
    }

    /// Whether a message may be one of those that are known by name.
    fn fits(&self, base: &[u8], file_size: u64) -> bool {
        let name = MailName::parse(base);
        let size = name.size.unwrap_or(file_size);
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
    let before = control::subscribed(bench, Side::Snapshot, inbox.snapshot.as_ref())?;
    let now = control::subscribed(bench, Side::Live, inbox.live.as_ref())?;
    let is_there = |name: &Vec<u8>| cases.iter().any(|case| case.name == *name);
    Ok(now.difference(&before).any(|name| !is_there(name)))
}
