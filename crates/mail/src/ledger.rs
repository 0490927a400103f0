//! Ledger: what one run on a mailbox found and decided.
//!
//! # Invariants
//!
//! * What an earlier run set aside stays listed until a good message stands under its name again.
//! * What an earlier run decided without proof stays listed.
//! * A message that an earlier run wanted to set aside, and died before it did, is listed once.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use crate::doubt::DoubtKind;
use crate::finding::{Cause, Finding, FindingKind, Source};
use crate::maildir::survey::Survey;
use crate::manifest::ManifestEntry;
use crate::reason::Reason;
use crate::spool::{Spool, Spooled};
use crate::walk::{escape, unescape};

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
pub(crate) struct Ledger {
    pub(crate) counts: MessageCounts,
    pub(crate) doubts: Vec<Finding>,
    /// Doubts of earlier runs that no later one sees again.
    remembered: Vec<Finding>,
    manifest: Spool,
    /// Set aside or lost in earlier runs or in this one, by folder and name.
    unserved: BTreeMap<(String, String), Vec<Finding>>,
    /// Where earlier runs wanted to put something, and nothing is.
    missing: HashSet<String>,
}

impl Ledger {
    /// Opens the books with what earlier runs found.
    ///
    /// What they found lost is found again, except where the mailbox was open since: then it would
    /// pass for deleted by its user, and so it stays listed.
    ///
    /// `manifest`: where messages go that are served.
    pub(crate) fn new(earlier: Vec<Finding>, served: bool, manifest: Spool) -> Self {
        let mut ledger = Self {
            counts: MessageCounts::default(),
            doubts: Vec::new(),
            remembered: Vec::new(),
            manifest,
            unserved: BTreeMap::new(),
            missing: HashSet::new(),
        };
        let (doubts, earlier): (Vec<_>, Vec<_>) =
            earlier.into_iter().partition(|entry| entry.doubt().is_some());
        let remembered = |it: &Finding| it.doubt().is_some_and(DoubtKind::is_remembered);
        ledger.remembered = doubts.into_iter().filter(remembered).collect();
        for finding in earlier.into_iter().filter(|it| served || it.kept_at.is_some()) {
            ledger.book(finding);
        }
        ledger
    }

    /// Looks which of the messages that earlier runs listed are where they were to be kept.
    pub(crate) fn look_for_kept(&mut self, work: &Path) {
        let kept = self.unserved.values().flatten().filter_map(|it| it.kept_at.as_ref());
        let is_missing = |at: &&String| {
            let path = work.join(OsString::from_vec(unescape(at)));
            path.symlink_metadata().is_err_and(|it| it.kind() == io::ErrorKind::NotFound)
        };
        self.missing = kept.filter(is_missing).cloned().collect();
    }

    pub(crate) fn kept(&mut self, newer: bool) {
        if newer {
            self.counts.newer += 1;
        } else {
            self.counts.intact += 1;
        }
    }

    /// Books a message that is served from now on: sorted by folder and name, as far as may be.
    pub(crate) fn good(&mut self, entry: ManifestEntry) {
        if !self.unserved.is_empty() {
            self.unserved.remove(&(escape(&entry.folder), escape(&entry.name)));
        }
        self.manifest.add(entry);
    }

    /// Books a message that leaves the mail tree. `kept`: its size, and where it will be.
    pub(crate) fn set_aside(
        &mut self,
        at: (&[u8], &[u8]),
        uid: Option<u32>,
        reason: Reason,
        kept: Option<(u64, String)>,
    ) -> &mut Finding {
        let mut finding = Finding::new(at, uid, Cause::Bad(reason));
        if let Some((size, kept_at)) = kept {
            finding.size_bytes = Some(size);
            finding.kept_at = Some(kept_at);
        }
        self.book(finding)
    }

    /// Books a message without good bytes anywhere.
    pub(crate) fn lost(
        &mut self,
        at: (&[u8], &[u8]),
        uid: Option<u32>,
        reason: Reason,
    ) -> &mut Finding {
        let mut finding = Finding::new(at, uid, Cause::Bad(reason));
        if reason != Reason::Missing {
            finding.source = Source::CopyDamaged;
        }
        self.book(finding)
    }

    /// Books a finding; whoever knows more than its name tells may add that.
    fn book(&mut self, finding: Finding) -> &mut Finding {
        let list = if finding.kind() == FindingKind::Doubt {
            &mut self.doubts
        } else {
            let key = (finding.folder.clone(), finding.name.clone());
            let list = self.unserved.entry(key).or_default();
            // What is known of it by now is known better.
            list.retain(|earlier| earlier.kept_at != finding.kept_at);
            list
        };
        list.push(finding);
        list.last_mut().expect("it was just pushed")
    }

    /// Books a message gone on purpose, unless it is known to be gone for another reason.
    pub(crate) fn deleted(&mut self, (folder, name): (&[u8], &[u8])) {
        if !self.unserved.contains_key(&(escape(folder), escape(name))) {
            self.counts.deleted += 1;
        }
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
            self.deleted((folder, name));
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
    ) -> &mut Finding {
        self.book(Finding::new((folder, name), uid, Cause::Doubt(kind)))
    }

    /// Books links and the like outside the mail directories.
    pub(crate) fn odd_items(&mut self, live: Option<&Survey>) {
        for (folder, name) in live.into_iter().flat_map(|survey| &survey.odd) {
            self.doubt(folder, name, None, DoubtKind::OddItem);
        }
    }

    /// Everything decided without proof, by this run and by earlier ones.
    pub(crate) fn take_doubts(&mut self) -> Vec<Finding> {
        let mut doubts = std::mem::take(&mut self.doubts);
        doubts.append(&mut self.remembered);
        let key = |it: &Finding| (it.folder.clone(), it.name.clone(), it.cause);
        // Stable: where both know of it, this run knows better.
        doubts.sort_by_cached_key(key);
        doubts.dedup_by(|one, other| one.is_about(other) && one.cause == other.cause);
        doubts
    }

    /// What is not served, for whoever knows more of it than names tell.
    pub(crate) fn unserved(&mut self) -> impl Iterator<Item = &mut Finding> {
        self.unserved.values_mut().flatten()
    }

    /// Closes the books: everything that is not served.
    pub(crate) fn close(&mut self) -> Vec<Finding> {
        let mut set_aside = Vec::new();
        for (_, mut findings) in std::mem::take(&mut self.unserved) {
            let is_kept = |it: &Finding| it.kept_at.is_some();
            let is_there = |it: &Finding| {
                it.kept_at.as_ref().is_some_and(|at| !self.missing.contains(at))
            };
            if findings.iter().any(is_there) {
                findings.retain(is_there);
            } else if findings.iter().any(is_kept) {
                findings.retain(is_kept);
            }
            set_aside.append(&mut findings);
        }
        set_aside.sort();
        let kept = set_aside.iter().filter(|entry| entry.kept_at.is_some()).count();
        self.counts.set_aside = kept as u64;
        self.counts.lost = (set_aside.len() - kept) as u64;
        set_aside
    }

    /// Completes the manifest of everything that is served.
    pub(crate) fn manifest(self) -> io::Result<Spooled> {
        self.manifest.end()
    }
}
