//! Folder: the same folder on both sides, and its index written anew.
//!
//! # Invariants
//!
//! * A folder is known by its GUID, so that a renamed one is found; where no GUID can be read, by name.
//! * An index is written anew only where Dovecot would refuse it, or would serve by it what is not good.
//! * UIDVALIDITY, GUID and UIDs stay; a next UID that cannot be known is far above all known ones.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::dbox::desk::Desk;
use crate::dbox::known::{FOLDER, Known, Trust};
use crate::dbox::memory::listed;
use crate::dbox::survey::{Folder, Survey, folder_path, report_name};
use crate::digest::to_hex;
use crate::doubt::DoubtKind;
use crate::index::{
    FolderState, Index, Kind, ListedFolder, POP3_UNKNOWN, Record, write_folder,
};
use crate::ledger::Ledger;
use crate::maildir::farewell::deleted_folders;
use crate::refusal::Refusal;
use crate::roots::{Act, Like, Side};
use crate::stage::Phase;
use crate::walk::{Meta, escape, join};

/// UIDs skipped where it cannot be known which were given: more than a folder gets between two
/// snapshots.
pub(crate) const UID_GAP: u32 = crate::maildir::uidlist::UID_GAP;

/// Changes skipped where it cannot be known how many clients were told of.
const MODSEQ_GAP: u64 = UID_GAP as u64;

/// What the name of a folder gets that comes back while another one has its name.
const SECOND_NAME: &[u8] = b"-restored";

/// Where the log of deleted folders is.
const MAILBOX_LOG: &[u8] = b"dovecot.mailbox.log";

/// One folder on both sides.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its directory from now on.
    pub(crate) name: Vec<u8>,
    pub(crate) live: Option<Folder>,
    /// Its directory in the snapshot, which may have had another name.
    pub(crate) snapshot: Option<(Vec<u8>, Folder)>,
    pub(crate) known: Known,
    pub(crate) known_once: Known,
    /// Its owner deleted it.
    pub(crate) given_up: bool,
}

/// Owner and modes for what has no live file to take them from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home {
    /// The live mailbox, or the snapshot's if the live one is gone.
    pub(crate) meta: Meta,
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

    fn dir(self) -> Like {
        Like { modified: None, ..Like::file(&self.meta) }
    }
}

/// Pairs the folders of both sides.
pub(crate) fn cases(
    desk: &mut Desk<'_, '_>,
    live: Option<&mut Survey>,
    snapshot: Option<&mut Survey>,
) -> Result<Vec<Case>, Refusal> {
    let deleted = deleted(desk, live.as_deref())?;
    let mut once = read_side(desk, Side::Snapshot, snapshot)?;
    once.retain(|(_, folder, _)| folder.is_some());
    let mut now = read_side(desk, Side::Live, live)?;
    let is_deleted = |known: &Known| {
        known.guid().is_some_and(|guid| deleted.contains(to_hex(&guid).as_bytes()))
    };
    now.retain(|(_, folder, known)| folder.is_some() || !is_deleted(known));
    let guids = now.iter().filter_map(|(name, _, known)| Some((known.guid()?, name)));
    let by_guid: HashMap<_, _> = guids.map(|(guid, name)| (guid, name.clone())).collect();
    let mut partners: BTreeMap<Vec<u8>, Read> = BTreeMap::new();
    let mut alone = Vec::new();
    for (name, folder, known) in once {
        match known.guid().and_then(|guid| by_guid.get(&guid)) {
            Some(now) if !partners.contains_key(now) => {
                partners.insert(now.clone(), (name, folder, known));
            }
            Some(_) | None => alone.push((name, folder, known)),
        }
    }
    let names: HashSet<Vec<u8>> = now.iter().map(|(name, ..)| name.clone()).collect();
    let mut cases = Vec::new();
    for (name, folder, known_once) in alone {
        let given_up = is_deleted(&known_once);
        if !given_up && names.contains(&name) && !partners.contains_key(&name) {
            partners.insert(name.clone(), (name, folder, known_once));
            continue;
        }
        let taken = !given_up && names.contains(&name);
        let new = if taken { [&*name, SECOND_NAME].concat() } else { name.clone() };
        let snapshot = folder.map(|folder| (name, folder));
        let known = Known::nothing();
        cases.push(Case { name: new, live: None, snapshot, known, known_once, given_up });
    }
    for (name, folder, known) in now {
        let (snapshot, known_once) = match partners.remove(&name) {
            Some((name, folder, known)) => (folder.map(|folder| (name, folder)), known),
            None => (None, Known::nothing()),
        };
        let known = known.unless_begun_anew(&known_once);
        let live = folder;
        cases.push(Case { name, live, snapshot, known, known_once, given_up: false });
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(cases)
}

/// A folder's directory, its files unless they are gone, and what its index tells.
type Read = (Vec<u8>, Option<Folder>, Known);

/// Takes the folders out of a survey, and reads their indexes.
fn read_side(
    desk: &mut Desk<'_, '_>,
    side: Side,
    survey: Option<&mut Survey>,
) -> Result<Vec<Read>, Refusal> {
    let listed = listed(desk, (side, survey.as_deref()))?;
    let mut listed: HashMap<Vec<u8>, ListedFolder> =
        listed.into_iter().map(|folder| (folder.dbox(), folder)).collect();
    let mut read = Vec::new();
    for (name, folder) in
        survey.map(|it| std::mem::take(&mut it.folders)).unwrap_or_default()
    {
        // A directory with nothing in it is what a crash leaves on the way to a folder.
        if !folder.is_empty() {
            let at = (&*folder_path(&name), FOLDER);
            let mut known = Known::read(desk, side, at, &folder)?;
            known.listed = listed.remove(&name);
            read.push((name, Some(folder), known));
        }
    }
    for (name, folder) in listed {
        let known = Known { listed: Some(folder), ..Known::nothing() };
        read.push((name, None, known));
    }
    read.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(read)
}

/// The GUIDs of folders that were deleted on purpose, in hexadecimal.
fn deleted(
    desk: &mut Desk<'_, '_>,
    live: Option<&Survey>,
) -> Result<HashSet<Vec<u8>>, Refusal> {
    let meta = live.and_then(|live| live.control.get(MAILBOX_LOG));
    let log = desk.bench.control(Side::Live, MAILBOX_LOG, meta)?;
    Ok(deleted_folders(&log.unwrap_or_default()))
}

impl Case {
    /// Nothing is left of it but its name in the list of folders.
    pub(crate) fn is_name_only(&self) -> bool {
        self.live.is_none() && self.snapshot.is_none()
    }

    /// Its name in reports and manifests.
    pub(crate) fn report_name(&self) -> &[u8] {
        report_name(&self.name)
    }

    /// Where what leaves it is kept.
    pub(crate) fn label(&self) -> Vec<u8> {
        join(&self.name, b"dbox-Mails")
    }

    /// Whether a UID means the same message on both sides.
    pub(crate) fn shares_uids(&self) -> bool {
        let (now, once) = (self.known.uid_validity(), self.known_once.uid_validity());
        now.is_none() || once.is_none() || now == once
    }

    /// What the live index says of a message, or else the snapshot's under the UID that it has there.
    pub(crate) fn record(&self, uid: u32, once: Option<u32>) -> Option<Record> {
        let now = self.known.index.as_ref().and_then(|index| index.get(uid));
        now.or_else(|| self.known_once.index.as_ref()?.get(once?))
    }

    /// The next UID that is surely free.
    pub(crate) fn next_uid(&self, uid_max: u32) -> u32 {
        let known = [&self.known, &self.known_once];
        let known = known.into_iter().filter_map(Known::next_uid);
        let next = known.max().unwrap_or(1).max(uid_max.saturating_add(1));
        match self.known.trust {
            Trust::Whole => self.known.index.as_ref().map_or(next, |it| it.next_uid),
            Trust::Once | Trust::Nothing => next.saturating_add(UID_GAP),
        }
    }

    /// What the log written anew is to say; nothing if no UIDVALIDITY is known.
    pub(crate) fn state(&self, records: Vec<Record>, created: u32) -> FolderState {
        let either = self.known.index.as_ref().or(self.known_once.index.as_ref());
        let both = [&self.known, &self.known_once];
        let both = || both.into_iter().filter_map(|it| it.index.as_ref());
        let modseq = both().map(|index| index.highest_modseq).max().unwrap_or(1);
        let uid_max = records.last().map_or(0, |record| record.uid);
        let guid = self.known.guid().or_else(|| self.known_once.guid());
        let uid_validity = self.known_once.uid_validity().unwrap_or(created);
        let mut state = FolderState {
            index_id: 0,
            created,
            uid_validity: self.known.uid_validity().unwrap_or(uid_validity),
            next_uid: self.next_uid(uid_max),
            first_recent_uid: either.map_or(0, |index| index.first_recent_uid),
            highest_modseq: match self.known.trust {
                Trust::Whole => modseq,
                Trust::Once | Trust::Nothing => modseq.saturating_add(MODSEQ_GAP),
            },
            mailbox_guid: guid.unwrap_or_else(|| new_guid(&self.name, created)),
            map_uid_validity: 0,
            dbox_flags: both().find_map(Index::dbox_flags).unwrap_or(POP3_UNKNOWN),
            keywords: both().flat_map(Index::keyword_names).cloned().collect(),
            records,
        };
        state.index_id = index_id(&self.name, &state, &self.known);
        state
    }

    /// There is no index, and nothing for one.
    pub(crate) fn is_blank(&self, empty: bool) -> bool {
        let nothing = |known: &Known| known.trust == Trust::Nothing && !known.damaged;
        empty && nothing(&self.known) && nothing(&self.known_once)
    }

    /// Plans the directories of a folder that is gone.
    pub(crate) fn stage_dirs(
        &self,
        desk: &mut Desk<'_, '_>,
        home: Home,
    ) -> Result<(), Refusal> {
        if self.live.is_some() {
            return Ok(());
        }
        make_dirs(desk, &folder_path(&self.name), home)
    }

    /// Plans a log written anew, then the rest of the old index out of the way.
    pub(crate) fn stage_index(
        &self,
        desk: &mut Desk<'_, '_>,
        (state, kind, phase): (&FolderState, Kind, Phase),
        (home, ledger): (Home, &mut Ledger),
    ) -> Result<(), Refusal> {
        let bytes = write_folder(state, kind);
        let dir = folder_path(&self.name);
        let control = self.live.as_ref().map(|it| &it.control);
        stage_log(desk, phase, (&dir, FOLDER, &self.label()), control, (&bytes, home))?;
        if self.live.is_none() {
            ledger.doubt(self.report_name(), b"", None, DoubtKind::FolderReturned);
        } else if self.known.damaged {
            ledger.doubt(self.report_name(), b"", None, DoubtKind::IndexDamaged);
        } else if self.known.trust != Trust::Whole {
            ledger.doubt(self.report_name(), b"", None, DoubtKind::UidlistRebuilt);
        }
        Ok(())
    }

    /// Plans what a crash has left of another index out of the way.
    pub(crate) fn stage_stale(&self, desk: &mut Desk<'_, '_>) -> Result<(), Refusal> {
        let dir = folder_path(&self.name);
        for (name, meta) in &self.known.stale {
            desk.bench.aside("kept", (&self.label(), &join(&dir, name)), meta)?;
        }
        Ok(())
    }
}

/// Plans bytes as the log of an index, and its other files out of the way behind it.
///
/// In this order: whatever a crash leaves, the log tells all by itself.
pub(crate) fn stage_log(
    desk: &mut Desk<'_, '_>,
    phase: Phase,
    (dir, prefix, label): (&[u8], &[u8], &[u8]),
    control: Option<&BTreeMap<Vec<u8>, Meta>>,
    (bytes, home): (&[u8], Home),
) -> Result<(), Refusal> {
    let log = [prefix, b".log"].concat();
    let live = control.and_then(|control| control.get(&log));
    let like = match live {
        Some(meta) => Like { modified: None, ..Like::file(meta) },
        None => home.new_file(),
    };
    let staged = desk.bench.stage_bytes(bytes, Some(like))?;
    desk.put(phase, (label, &join(dir, &log)), live, staged)?;
    for (name, meta) in control.into_iter().flatten() {
        if name.starts_with(prefix) && *name != log {
            desk.bench.aside("kept", (label, &join(dir, name)), meta)?;
        }
    }
    Ok(())
}

/// Plans the directories down to one below the mailbox, as far as they are not there.
pub(crate) fn make_dirs(
    desk: &mut Desk<'_, '_>,
    rel: &[u8],
    home: Home,
) -> Result<(), Refusal> {
    let whole = desk.bench.path(rel);
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let ends: Vec<usize> = ends.map(|(at, _)| at).chain([whole.len()]).collect();
    for end in ends {
        let path = whole.get(..end).unwrap_or(&whole);
        let there = desk.bench.roots().live.dir_if_there(path);
        if there.map_err(|errno| Refusal::read(path, errno))?.is_some() {
            continue;
        }
        let snapshot = desk.bench.roots().snapshot.as_ref();
        let meta = snapshot.and_then(|root| root.dir(path).ok()?.meta().ok());
        let like = meta.map_or(home.dir(), |meta| Like {
            uid: home.meta.uid,
            gid: home.meta.gid,
            modified: None,
            ..Like::file(&meta)
        });
        desk.bench.act(Phase::Directories, Act::MakeDir { path: path.to_vec(), like });
    }
    Ok(())
}

/// Another number than that of the index before it, and the same for the same state.
fn index_id(name: &[u8], state: &FolderState, known: &Known) -> u32 {
    let before = known.index.as_ref().map_or(0, |index| index.index_id);
    let text = format!(
        "{} {before} {} {} {}",
        escape(name),
        state.next_uid,
        state.highest_modseq,
        state.records.len()
    );
    new_number(text.as_bytes(), before)
}

/// A number made of some bytes, not zero and not that of before.
pub(crate) fn new_number(bytes: &[u8], before: u32) -> u32 {
    let digest = crate::digest::Digester::of(bytes);
    let word = digest.first_chunk().copied().map_or(0, u32::from_le_bytes);
    // As a time, as Dovecot makes it: not negative.
    let number = (word & 0x7fff_ffff).max(1);
    if number == before { number ^ 2 } else { number }
}

/// A GUID for a folder of which none is known.
fn new_guid(name: &[u8], created: u32) -> [u8; 16] {
    crate::digest::Digester::of(&[name, &created.to_le_bytes()].concat())
}
