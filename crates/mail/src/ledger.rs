//! Ledger: what one run on a mailbox found and decided.
//!
//! # Invariants
//!
//! * What an earlier run set aside stays listed until a good message stands under its name again.

use std::collections::{BTreeMap, BTreeSet};

use crate::doubt::{Doubt, DoubtKind};
use crate::manifest::{Manifest, ManifestEntry};
use crate::quarantine::SetAside;
use crate::reason::Reason;
use crate::survey::Survey;
use crate::walk::escape;

/// How many messages ended how. Every message that either side knew is in exactly one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Good where it was.
    pub intact: u64,
    /// Its bytes were replaced by the snapshot's.
    pub repaired: u64,
    /// Lost live and brought back.
    pub returned: u64,
    /// Good, and only live: it came after the snapshot.
    pub newer: u64,
    /// Gone on purpose, and left so.
    pub deleted: u64,
    /// Not served, bytes kept; all runs together.
    pub set_aside: u64,
    /// Listed, but no good bytes anywhere.
    pub lost: u64,
}

/// The books of one run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) counts: MessageCounts,
    pub(crate) doubts: Vec<Doubt>,
    entries: Vec<ManifestEntry>,
    good: BTreeSet<(String, String)>,
    /// Kept by earlier runs or by this one, by folder and name.
    kept: BTreeMap<(String, String), Vec<SetAside>>,
    lost: Vec<SetAside>,
}

impl Ledger {
    /// Opens the books with what earlier runs set aside.
    pub(crate) fn new(earlier: Vec<SetAside>) -> Self {
        let mut ledger = Self::default();
        for entry in earlier.into_iter().filter(|entry| entry.kept_at.is_some()) {
            let key = (entry.folder.clone(), entry.name.clone());
            ledger.kept.entry(key).or_default().push(entry);
        }
        ledger
    }

    pub(crate) fn kept(&mut self, newer: bool) {
        if newer {
            self.counts.newer += 1;
        } else {
            self.counts.intact += 1;
        }
    }

    /// Books a message that is served from now on.
    pub(crate) fn good(&mut self, entry: ManifestEntry) {
        self.good.insert((escape(&entry.folder), escape(&entry.name)));
        self.entries.push(entry);
    }

    /// Books a message that leaves the mail tree. `kept`: its size, and where it will be.
    pub(crate) fn set_aside(
        &mut self,
        (folder, name): (&[u8], &[u8]),
        uid: Option<u32>,
        reason: Reason,
        kept: Option<(u64, String)>,
    ) {
        let (folder, name) = (escape(folder), escape(name));
        let (size_bytes, kept_at) = kept.map_or((0, None), |(size, at)| (size, Some(at)));
        let entry = SetAside { folder, uid, name, size_bytes, reason, kept_at };
        let key = (entry.folder.clone(), entry.name.clone());
        let entries = self.kept.entry(key).or_default();
        entries.retain(|earlier| earlier.kept_at != entry.kept_at);
        entries.push(entry);
    }

    /// Books a message without good bytes anywhere.
    pub(crate) fn lost(
        &mut self,
        (folder, name): (&[u8], &[u8]),
        uid: Option<u32>,
        reason: Reason,
    ) {
        let (folder, name) = (escape(folder), escape(name));
        let entry = SetAside { folder, uid, name, size_bytes: 0, reason, kept_at: None };
        self.lost.push(entry);
    }

    /// Books a name that only the UID list has.
    ///
    /// Lists keep the names of deleted mail for a while; where a user was at work since the
    /// manifest, that is what happened.
    pub(crate) fn listed_only(
        &mut self,
        folder: &[u8],
        name: &[u8],
        uid: u32,
        served: bool,
    ) {
        if served {
            self.counts.deleted += 1;
        } else {
            self.lost((folder, name), Some(uid), Reason::Missing);
        }
    }

    pub(crate) fn doubt(
        &mut self,
        folder: &[u8],
        name: &[u8],
        uid: Option<u32>,
        kind: DoubtKind,
    ) {
        let (folder, name) = (escape(folder), escape(name));
        self.doubts.push(Doubt { folder, uid, name, kind });
    }

    /// Books links and the like outside the mail directories.
    pub(crate) fn odd_items(&mut self, live: Option<&Survey>) {
        for (folder, name) in live.into_iter().flat_map(|survey| &survey.odd) {
            self.doubt(folder, name, None, DoubtKind::OddItem);
        }
    }

    /// Closes the books: the manifest and everything that is not served.
    pub(crate) fn close(&mut self) -> (Manifest, Vec<SetAside>) {
        let good = &self.good;
        self.kept.retain(|key, _| !good.contains(key));
        let kept = &self.kept;
        self.lost.retain(|it| !kept.contains_key(&(it.folder.clone(), it.name.clone())));
        let mut set_aside: Vec<SetAside> =
            self.kept.values().flatten().chain(&self.lost).cloned().collect();
        set_aside.sort();
        let kept = set_aside.iter().filter(|entry| entry.kept_at.is_some()).count();
        self.counts.set_aside = kept as u64;
        self.counts.lost = (set_aside.len() - kept) as u64;
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort();
        (Manifest { entries }, set_aside)
    }
}
