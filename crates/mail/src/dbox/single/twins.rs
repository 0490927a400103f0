//! Twins: repairing a moved message from the place it was moved from.
//!
//! Moving links the file into the other folder, so that the snapshot's file at the old place is the
//! same to the last byte.
//!
//! # Invariants
//!
//! * Nothing counts as proof but the same GUID, or bytes that agree wherever they are not lost.
//! * If different messages agree alike, none is taken.

use std::collections::BTreeMap;

use crate::dbox::desk::{Desk, Mail};
use crate::dbox::single::Plan;
use crate::dbox::survey::mail_path;
use crate::judge::Depth;
use crate::maildir::twin::agrees;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::walk::Meta;

/// Files looked at for one damaged message. Most differ in their first bytes.
const CANDIDATES_MAX: usize = 1000;

/// A message's file in the snapshot, in the folder it was moved from.
#[derive(Debug, Clone)]
pub(super) struct Twin {
    pub(super) path: Vec<u8>,
    pub(super) meta: Meta,
}

/// The files of the snapshot that are in no place live, by size.
type Candidates = BTreeMap<u64, Vec<Twin>>;

/// Looks for the origin of bad messages that only the live side has.
pub(super) fn find(
    desk: &mut Desk<'_, '_>,
    folders: &mut [Plan<'_>],
) -> Result<(), Refusal> {
    let bad: Vec<(usize, u32)> = folders
        .iter()
        .enumerate()
        .flat_map(|(at, folder)| folder.bad_alone().map(move |uid| (at, uid)))
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    let mut candidates = Candidates::new();
    for folder in &*folders {
        for (path, meta) in folder.moved_away() {
            candidates.entry(meta.size).or_default().push(Twin { path, meta });
        }
    }
    for (at, uid) in bad {
        let Some(folder) = folders.get_mut(at) else { continue };
        if let Some((twin, mail)) = find_one(desk, folder, uid, &candidates)? {
            folder.take_twin(uid, twin, mail);
        }
    }
    Ok(())
}

fn find_one(
    desk: &mut Desk<'_, '_>,
    folder: &Plan<'_>,
    uid: u32,
    candidates: &Candidates,
) -> Result<Option<(Twin, Mail)>, Refusal> {
    let Some((live, meta)) = folder.live_file(uid) else { return Ok(None) };
    let path = mail_path(folder.folder(), uid);
    let mut found: Option<(Twin, Mail)> = None;
    let all = candidates.range(meta.size..).flat_map(|(_, twins)| twins);
    for twin in all.take(CANDIDATES_MAX) {
        let mut damaged = desk.bench.open_mail((Side::Live, &path))?;
        let mut whole = desk.bench.open_mail((Side::Snapshot, &twin.path))?;
        let agree = agrees(&mut damaged, &mut whole).unwrap_or(false);
        if !agree && live.guid.is_none() {
            continue;
        }
        let at = (Side::Snapshot, &*twin.path);
        let mail = desk.read_single(at, &twin.meta, Depth::Quick)?;
        let same = agree || live.guid == mail.guid;
        if !same || mail.findings.fault().is_some() {
            continue;
        }
        match &found {
            Some((_, other)) if other.findings.digest != mail.findings.digest => {
                return Ok(None);
            }
            Some(_) => {}
            None => found = Some((twin.clone(), mail)),
        }
    }
    Ok(found)
}
