//! Case: one folder on both sides, and what becomes of its messages.
//!
//! # Invariants
//!
//! * Every message known to either side has exactly one fate.
//! * What is usual takes a byte; only what is not has a [`Choice`] and a [`Seen`] of its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::control;
use super::name::MailName;
use super::read::is_clean;
use super::repair::Past;
use super::survey::{Folder, Sub, list_mails};
use super::table::{Row, Table};
use super::uidlist::{Lists, Summary};
use crate::doubt::DoubtKind;
use crate::finding::{Cause, Finding};
use crate::judge::Findings;
use crate::merge::{self, Decision, Evidence, Listing, Verdict};
use crate::refusal::Refusal;
use crate::roots::{Like, Side};
use crate::stage::{Bench, Copying};
use crate::walk::{Meta, Tree, join};

/// Owner and modes for what has no live file to take them from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home {
    /// The live Maildir, or the snapshot's if the live one is gone.
    pub(super) meta: Meta,
}

impl Home {
    /// For a file brought back from the snapshot.
    pub(crate) fn file_like(self, snapshot: &Meta) -> Like {
        Like { uid: self.meta.uid, gid: self.meta.gid, ..Like::file(snapshot) }
    }

    /// For a file that neither side has.
    pub(crate) fn new_file(self) -> Like {
        Like { mode: self.meta.mode & 0o666, modified: None, ..Like::file(&self.meta) }
    }

    pub(super) fn dir(self) -> Like {
        Like { modified: None, ..Like::file(&self.meta) }
    }
}

/// One folder on both sides.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name live, or in the snapshot if it is lost.
    pub(crate) name: Vec<u8>,
    pub(crate) live: Option<Folder>,
    pub(crate) snapshot: Option<Folder>,
    pub(crate) home: Home,
    /// The mail server would refuse the folder for its index.
    pub(crate) index_broken: bool,
    /// Where the folder is put together if there is none live.
    pub(crate) tree: Option<PathBuf>,
    /// Its owner deleted the whole folder.
    pub(super) given_up: bool,
    pub(super) table: Table,
    /// `cur`, live and in the snapshot, as far as it is open since it was listed.
    pub(super) dirs: [Option<Tree>; 2],
    pub(super) lists: Lists,
    /// Files of which there is more to say than their size and digest.
    pub(super) seen: HashMap<(Side, Row), Seen>,
    pub(super) fates: Vec<Fate>,
    pub(super) choices: BTreeMap<Row, Choice>,
    /// What is staged already of messages that come back.
    pub(super) staged: HashMap<Row, PathBuf>,
    pub(super) doubts: Vec<Finding>,
    /// What its live files add to the mailbox's stamp, and how many of them were opened.
    pub(super) weight: u128,
    pub(super) opened: Row,
}

/// What reading a file has shown.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) findings: Findings,
    /// The file as it was then; nothing if it could not be opened.
    pub(super) meta: Option<Meta>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Neither side has a file of it.
    Listed,
    /// Good where it is.
    Intact,
    /// Good, and only live.
    Newer,
    /// Gone on purpose.
    Deleted,
    /// Anything else: it has a [`Choice`].
    Chosen,
}

/// What becomes of a message of which something must be done.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) decision: Decision,
    /// Case and row of the snapshot's file whose bytes repair it.
    pub(super) twin: Option<(usize, Row)>,
    /// It comes back although its folder's list has let it go: as new mail.
    pub(super) regained: bool,
}

/// Where a message that comes back stands: mail with flags is not new.
pub(super) fn returns_to(name: &[u8], sub: Sub) -> Sub {
    let flagged = !name.ends_with(b":2,") && name.contains(&b':');
    if flagged { Sub::Cur } else { sub }
}

impl Case {
    /// Pairs both sides of a folder. `left`: the entries that both sides may still have.
    pub(super) fn new(
        bench: &mut Bench<'_>,
        (mut live, mut snapshot): (Option<Folder>, Option<Folder>),
        home: Home,
        left: &mut [usize; 2],
    ) -> Result<Self, Refusal> {
        let mut table = Table::default();
        let path = bench.path(b"");
        let [live_left, snapshot_left] = left;
        let mut dirs = [None, None];
        let [live_dir, snapshot_dir] = &mut dirs;
        if let Some(folder) = &mut live {
            let root = (&bench.roots().live, &*path);
            *live_dir = list_mails(root, (Side::Live, folder), &mut table, live_left)?;
        }
        if let Some((folder, root)) =
            snapshot.as_mut().zip(bench.roots().snapshot.as_ref())
        {
            let side = (Side::Snapshot, folder);
            *snapshot_dir = list_mails((root, &path), side, &mut table, snapshot_left)?;
        }
        let list = control::uidlist(bench, Side::Live, live.as_ref())?;
        let lost = Summary::lost;
        let live_list =
            list.map_or_else(lost, |it| Summary::read(it, Side::Live, &mut table));
        let list = control::uidlist(bench, Side::Snapshot, snapshot.as_ref())?;
        let snapshot_list = list.map(|it| Summary::read(it, Side::Snapshot, &mut table));
        let index = control::index(bench, live.as_ref())?;
        let index_broken = index.is_broken();
        let lists = Lists::new(live_list, snapshot_list, (&table, index));
        let name = live.as_ref().or(snapshot.as_ref()).map(|folder| folder.name.clone());
        Ok(Self {
            name: name.unwrap_or_default(),
            live,
            snapshot,
            home,
            index_broken,
            tree: None,
            given_up: false,
            table,
            dirs,
            lists,
            seen: HashMap::new(),
            fates: Vec::new(),
            choices: BTreeMap::new(),
            staged: HashMap::new(),
            doubts: Vec::new(),
            weight: 0,
            opened: 0,
        })
    }

    pub(crate) fn doubt(&mut self, kind: DoubtKind, name: &[u8], uid: Option<u32>) {
        self.doubts.push(Finding::new((&self.name, name), uid, Cause::Doubt(kind)));
    }

    /// Whether its user could have deleted what is missing, if the mailbox was open. Users do not
    /// delete mail directories.
    pub(super) fn may_be_deleted(&self) -> bool {
        let whole = |folder: &Folder| folder.has[..2] == [true, true];
        self.live.as_ref().is_none_or(whole)
    }

    /// Its user may have deleted what is missing.
    pub(super) fn was_served(&self, past: Past) -> bool {
        past.served && self.may_be_deleted()
    }

    /// The letters of live messages with the names of the keywords that they had last.
    pub(crate) fn seen_keywords(&self) -> Vec<(Vec<u8>, BTreeSet<Vec<u8>>)> {
        let seen = self.table.iter().filter_map(|row| {
            let slot = self.table.slot(Side::Live, row)?;
            let uid = self.lists.uid(&self.table, row);
            let keywords = self.lists.last_flags(uid)?.keywords?;
            let letters = self.table.suffix(slot).get(1..).unwrap_or_default().to_vec();
            Some((letters, keywords))
        });
        seen.collect()
    }

    /// What is known of a message that is missing live.
    pub(super) fn listing(&self, row: Row) -> Listing {
        if self.given_up {
            return Listing::Unlisted;
        }
        self.lists.listing(&self.table, row)
    }

    pub(super) fn side(&self, side: Side) -> Option<&Folder> {
        match side {
            Side::Live => self.live.as_ref(),
            Side::Snapshot => self.snapshot.as_ref(),
        }
    }

    /// The path in the mailbox of a message's file on one side.
    pub(super) fn rel(&self, side: Side, row: Row) -> Option<Vec<u8>> {
        let slot = self.table.slot(side, row)?;
        let folder = &self.side(side)?.name;
        Some(super::survey::mail_path(folder, slot.sub, &self.table.name(row, slot)))
    }

    pub(super) fn is_read(&self, side: Side, row: Row) -> bool {
        self.seen.contains_key(&(side, row)) || self.table.clean(side, row).is_some()
    }

    /// Books what reading a file has shown.
    pub(super) fn see(&mut self, side: Side, row: Row, seen: Seen) {
        let findings = &seen.findings;
        let other = match side {
            Side::Live => Side::Snapshot,
            Side::Snapshot => Side::Live,
        };
        let bytes = findings.digest.map(|digest| (findings.size, digest));
        let told = self.table.recognize(row, findings);
        let fits =
            told && self.table.clean(other, row).is_none_or(|it| Some(it) == bytes);
        // What the snapshot's file has as it is stored is needed once it is copied.
        let plain = side == Side::Live || findings.raw == findings.digest;
        match bytes.filter(|_| is_clean(findings) && fits && plain) {
            Some(bytes) => {
                let stood = findings.stood;
                self.seen.remove(&(side, row));
                self.table.set_clean(side, row, bytes);
                self.table.set_rungs(row, stood);
            }
            None => {
                self.seen.insert((side, row), seen);
            }
        }
    }

    /// Books what reading two files that are the same to the last byte has shown.
    pub(super) fn see_both(&mut self, row: Row, live: Seen, snapshot: Meta) {
        let findings = &live.findings;
        let told = self.table.recognize(row, findings);
        if let Some(digest) = findings.digest.filter(|_| told && is_clean(findings)) {
            let (bytes, stood) = ((findings.size, digest), findings.stood);
            self.table.set_clean(Side::Live, row, bytes);
            self.table.set_clean(Side::Snapshot, row, bytes);
            self.table.set_rungs(row, stood);
            return;
        }
        let twin = Seen { findings: live.findings.clone(), meta: Some(snapshot) };
        self.seen.insert((Side::Live, row), live);
        self.seen.insert((Side::Snapshot, row), twin);
    }

    /// What is known of a side's file that was read.
    pub(super) fn findings(&self, side: Side, row: Row) -> Option<Cow<'_, Findings>> {
        if let Some(seen) = self.seen.get(&(side, row)) {
            return Some(Cow::Borrowed(&seen.findings));
        }
        let (size, digest) = self.table.clean(side, row)?;
        let (digest, stood) = (Some(digest), self.table.rungs(row));
        let (raw, rest) = (digest, Findings::default());
        Some(Cow::Owned(Findings { digest, raw, size, raw_size: size, stood, ..rest }))
    }

    /// Whether a message of the snapshot comes back if it is good.
    pub(super) fn is_missed(&self, row: Row) -> bool {
        let missing = self.table.slot(Side::Live, row).is_none();
        missing && self.listing(row) != Listing::Unlisted
    }

    /// Whether a message of the snapshot that is good comes back, whatever else is found.
    pub(super) fn comes_back(&self, row: Row, findings: &Findings) -> bool {
        let recorded = self.table.recorded(row);
        let altered = recorded.is_some_and(|it| findings.matches(&it) == Some(false));
        !altered && self.is_missed(row)
    }

    pub(super) fn decide(&mut self, past: Past) {
        let served = self.was_served(past);
        let (mut fates, mut choices) = (Vec::new(), BTreeMap::new());
        for row in self.table.iter() {
            let verdict = self.decide_row(row, served);
            if let Some(verdict) = verdict {
                self.table.set_rungs(row, verdict.rungs);
            }
            let fate = match verdict.map(|verdict| verdict.decision) {
                None => Fate::Listed,
                Some(Decision::Intact) => Fate::Intact,
                Some(Decision::Newer) => Fate::Newer,
                Some(Decision::Deleted) => Fate::Deleted,
                Some(decision) => {
                    let choice = Choice { decision, twin: None, regained: false };
                    choices.insert(row, choice);
                    Fate::Chosen
                }
            };
            fates.push(fate);
        }
        (self.fates, self.choices) = (fates, choices);
    }

    fn decide_row(&self, row: Row, served: bool) -> Option<Verdict> {
        if !self.table.is_held(row) {
            return None;
        }
        let live = self.findings(Side::Live, row);
        let snapshot = self.findings(Side::Snapshot, row);
        let evidence = Evidence {
            live: live.as_deref(),
            snapshot: match (&snapshot, self.table.slot(Side::Snapshot, row)) {
                (Some(findings), _) => merge::Side::Read(findings),
                (None, Some(_)) => merge::Side::Unread,
                (None, None) => merge::Side::Absent,
            },
            recorded: self.table.recorded(row),
            listing: self.listing(row),
            served,
        };
        Some(merge::decide(&evidence))
    }

    /// What its live files add to the mailbox's stamp; nothing if not all of them were read once, and
    /// nothing else stands among them.
    pub(super) fn live_weight(&self) -> Option<u128> {
        let live =
            self.table.iter().filter(|row| self.table.slot(Side::Live, *row).is_some());
        let all = live.count() == usize::try_from(self.opened).unwrap_or(usize::MAX);
        let odd = self.live.as_ref().is_some_and(|live| !live.odd.is_empty());
        (all && !odd && self.table.spare.is_empty()).then_some(self.weight)
    }

    pub(super) fn fate(&self, row: Row) -> Fate {
        let at = usize::try_from(row).unwrap_or(usize::MAX);
        self.fates.get(at).copied().unwrap_or(Fate::Listed)
    }

    /// Takes another decision on a message.
    pub(super) fn choose(&mut self, row: Row, choice: Choice) {
        let at = usize::try_from(row).unwrap_or(usize::MAX);
        if let Some(fate) = self.fates.get_mut(at) {
            *fate = Fate::Chosen;
            self.choices.insert(row, choice);
        }
    }

    /// Nothing is to be done about a message after all.
    pub(super) fn settle(&mut self, row: Row, fate: Fate) {
        let at = usize::try_from(row).unwrap_or(usize::MAX);
        if let Some(place) = self.fates.get_mut(at) {
            *place = fate;
            self.choices.remove(&row);
        }
    }

    /// The message stands, or will stand, in the folder.
    pub(super) fn is_present(&self, row: Row) -> bool {
        let returns = self
            .choices
            .get(&row)
            .is_some_and(|it| matches!(it.decision, Decision::Return { .. }));
        returns || self.table.slot(Side::Live, row).is_some()
    }

    /// Makes a message ready to come back, from the bytes in the bench's buffer.
    pub(super) fn stage_back(
        &mut self,
        bench: &mut Bench<'_>,
        row: Row,
        (length, source, meta): (usize, &File, &Meta),
    ) -> Result<(), Refusal> {
        let to = self.place_of(bench, row);
        bench.stage_buffer((length, source), self.home.file_like(meta), &to)?;
        self.staged.insert(row, to);
        Ok(())
    }

    /// Begins to make a message ready to come back that is larger than the bench's buffer.
    pub(super) fn begin_back(
        &mut self,
        bench: &mut Bench<'_>,
        row: Row,
        (source, meta): (&File, &Meta),
    ) -> Result<Copying, Refusal> {
        let to = self.place_of(bench, row);
        bench.begin_copy(source, self.home.file_like(meta), to)
    }

    /// Where a message that comes back is made ready.
    fn place_of(&self, bench: &mut Bench<'_>, row: Row) -> PathBuf {
        self.place_in_tree(row).unwrap_or_else(|| bench.next_staged())
    }

    /// Where a message of a folder that is put together anew has its place: under its own name.
    pub(super) fn place_in_tree(&self, row: Row) -> Option<PathBuf> {
        let tree = self.tree.as_ref()?;
        let slot = self.table.slot(Side::Snapshot, row)?;
        let name = self.table.name(row, slot);
        let rel = join(returns_to(&name, slot.sub).name(), &name);
        Some(tree.join(std::ffi::OsStr::from_bytes(&rel)))
    }

    /// The sizes that a name promises.
    pub(super) fn sizes(&self, row: Row) -> Option<(u64, u64)> {
        let name = MailName::parse(self.table.base(row));
        name.size.zip(name.virtual_size)
    }
}
