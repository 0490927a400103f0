//! Control: the small files beside the messages of a folder.
//!
//! # Invariants
//!
//! * A readable live file wins and stays as it is, but for keywords that returning mail needs.
//! * Index files belong to the mail server, which builds them again: they are never brought back,
//!   and moved aside only when damaged; but its count of changes goes on.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use super::case::Case;
use super::farewell;
use super::keywords::Keywords;
use super::survey::{Folder, folder_path};
use super::uidlist;
use crate::doubt::DoubtKind;
use crate::finding::Finding;
use crate::index::folders::ListedFolder;
use crate::index::{self, Index, MODSEQ_GAP, Reading, write_modseq};
use crate::ledger::Ledger;
use crate::recall::{CACHE_BYTES_MAX, Memory};
use crate::refusal::Refusal;
use crate::roots::{Act, Like, Side};
use crate::stage::{Bench, Phase};
use crate::walk::{Meta, escape, join};

const UIDLIST: &[u8] = b"dovecot-uidlist";
const INDEX: &[u8] = b"dovecot.index";
const INDEX_LOG: &[u8] = b"dovecot.index.log";
const OLDER_INDEX_LOG: &[u8] = b"dovecot.index.log.2";
const CACHE: &[u8] = b"dovecot.index.cache";
const LIST: &[u8] = b"dovecot.list.index";
const LIST_LOG: &[u8] = b"dovecot.list.index.log";
const OLDER_LIST_LOG: &[u8] = b"dovecot.list.index.log.2";
const KEYWORDS: &[u8] = b"dovecot-keywords";
const MAILBOX_LOG: &[u8] = b"dovecot.mailbox.log";
const SUBSCRIPTIONS: &[u8] = b"subscriptions";

/// Files that mail servers open by name; anything else in their place stops the work.
pub(crate) const MUST_BE_FILES: [&[u8]; 3] = [UIDLIST, KEYWORDS, SUBSCRIPTIONS];

/// Bytes at the head of an index that are never all zero in a good one: version and sizes.
const INDEX_HEAD_BYTES: usize = 64;

/// Opens one side's list.
pub(crate) fn uidlist(
    bench: &mut Bench<'_>,
    side: Side,
    folder: Option<&Folder>,
) -> Result<Option<impl BufRead + use<>>, Refusal> {
    let Some(folder) = folder else { return Ok(None) };
    let rel = join(&folder_path(&folder.name), UIDLIST);
    let file = bench.open_control(side, &rel, folder.control.get(UIDLIST))?;
    Ok(file.map(BufReader::new))
}

/// The GUID of a folder, by one side's list.
pub(crate) fn guid(
    bench: &mut Bench<'_>,
    side: Side,
    folder: &Folder,
) -> Result<Option<Vec<u8>>, Refusal> {
    let list = uidlist(bench, side, Some(folder))?;
    Ok(list.and_then(|list| uidlist::Reader::new(list).guid().map(<[u8]>::to_vec)))
}

/// Reads the live folder's index and its logs.
pub(crate) fn index(
    bench: &mut Bench<'_>,
    folder: Option<&Folder>,
) -> Result<Reading, Refusal> {
    index_on(bench, Side::Live, folder)
}

fn index_on(
    bench: &mut Bench<'_>,
    side: Side,
    folder: Option<&Folder>,
) -> Result<Reading, Refusal> {
    let mut file = |name| read(bench, side, folder, name);
    let (index, log) = (file(INDEX)?, file(INDEX_LOG)?);
    let reading = index::read(index.as_deref(), log.as_deref(), None);
    // The log before that is rarely needed.
    if matches!(reading, Reading::Whole(_)) {
        return Ok(reading);
    }
    let older = file(OLDER_INDEX_LOG)?;
    Ok(match older {
        Some(older) => index::read(index.as_deref(), log.as_deref(), Some(&older)),
        None => reading,
    })
}

/// Reads one side's index, its log, and the log before that.
fn index_files(
    bench: &mut Bench<'_>,
    side: Side,
    folder: Option<&Folder>,
) -> Result<[Option<Vec<u8>>; 3], Refusal> {
    let mut file = |name| read(bench, side, folder, name);
    Ok([file(INDEX)?, file(INDEX_LOG)?, file(OLDER_INDEX_LOG)?])
}

/// The GUIDs of the folders that were deleted on purpose. `inbox`: the live one.
pub(crate) fn deleted_folders(
    bench: &mut Bench<'_>,
    inbox: Option<&Folder>,
) -> Result<HashSet<Vec<u8>>, Refusal> {
    let log = read(bench, Side::Live, inbox, MAILBOX_LOG)?;
    Ok(log.map(|log| farewell::deleted_folders(&log)).unwrap_or_default())
}

/// The folders that the mail server's own list has. `inbox`: the live one.
pub(crate) fn listed_folders(
    bench: &mut Bench<'_>,
    inbox: Option<&Folder>,
) -> Result<Vec<ListedFolder>, Refusal> {
    let mut file = |name| read(bench, Side::Live, inbox, name);
    let [list, log, older] = [file(LIST)?, file(LIST_LOG)?, file(OLDER_LIST_LOG)?];
    let list = index::read(list.as_deref(), log.as_deref(), older.as_deref());
    Ok(list.last_known().and_then(|list| list.folders()).unwrap_or_default())
}

/// The folders that the owner has subscribed to, on one side. `inbox`: that side's.
///
/// The file is a list of names, since version 2 (after a head of two lines) with a TAB where the
/// folder has a dot.
pub(crate) fn subscribed(
    bench: &mut Bench<'_>,
    side: Side,
    inbox: Option<&Folder>,
) -> Result<HashSet<Vec<u8>>, Refusal> {
    let bytes = read(bench, side, inbox, SUBSCRIPTIONS)?.unwrap_or_default();
    if bytes.contains(&0) {
        return Ok(HashSet::new());
    }
    let lines = bytes.split(|byte| *byte == b'\n');
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with(b"V\t"));
    let folder = |name: &[u8]| -> Vec<u8> {
        let dot = |byte: &u8| if matches!(byte, b'\t' | b'/') { b'.' } else { *byte };
        name.iter().map(dot).collect()
    };
    Ok(names.map(folder).filter(|name| name != b"INBOX").collect())
}

/// Adds what the mail server's caches still know of messages that are not served.
pub(crate) fn recall(
    bench: &mut Bench<'_>,
    cases: &[Case],
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    let by_folder = |one: &&mut Finding, other: &&mut Finding| one.folder == other.folder;
    let mut unserved: Vec<&mut Finding> = ledger.unserved().collect();
    unserved.sort_by(|one, other| one.folder.cmp(&other.folder));
    let cases: HashMap<String, &Case> =
        cases.iter().map(|case| (escape(&case.name), case)).collect();
    for findings in unserved.chunk_by_mut(by_folder) {
        let case = findings.first().and_then(|finding| cases.get(&finding.folder));
        let Some(case) = case else { continue };
        let mut validity = None;
        for (side, folder) in [(Side::Live, &case.live), (Side::Snapshot, &case.snapshot)]
        {
            let Some(folder) = folder else { continue };
            let Some((index, cache)) = cached(bench, side, folder)? else { continue };
            // Elsewhere a UID means another message.
            let is_same =
                *validity.get_or_insert(index.uid_validity) == index.uid_validity;
            let memory = Memory::new(&index, &cache).filter(|_| is_same);
            let Some(memory) = memory else { continue };
            for finding in findings.iter_mut() {
                memory.tell(finding);
            }
        }
    }
    Ok(())
}

/// A folder's index and cache on one side, as far as the index can be read.
fn cached(
    bench: &mut Bench<'_>,
    side: Side,
    folder: &Folder,
) -> Result<Option<(Index, Vec<u8>)>, Refusal> {
    let cache = folder.control.get(CACHE).filter(|meta| meta.size <= CACHE_BYTES_MAX);
    if cache.is_none() {
        return Ok(None);
    }
    let cache = read(bench, side, Some(folder), CACHE)?;
    let index = index_on(bench, side, Some(folder))?.last_known();
    Ok(index.zip(cache))
}

/// The keyword tables of a folder while its mail is put together.
#[derive(Debug)]
pub(crate) struct KeywordTables {
    kept: Keywords,
    snapshot: Keywords,
    changed: bool,
}

impl KeywordTables {
    /// Reads both tables; the live one if readable, else the snapshot's, is the one kept.
    pub(crate) fn read(bench: &mut Bench<'_>, case: &Case) -> Result<Self, Refusal> {
        let parse = |bytes: Option<Vec<u8>>| bytes.as_deref().and_then(Keywords::parse);
        let live = parse(read(bench, Side::Live, case.live.as_ref(), KEYWORDS)?);
        let snapshot =
            parse(read(bench, Side::Snapshot, case.snapshot.as_ref(), KEYWORDS)?)
                .unwrap_or_default();
        let usable = live.filter(|live| !live.is_empty() || snapshot.is_empty());
        let (mut changed, lost) = (false, usable.is_none());
        let mut kept = usable.unwrap_or_else(|| snapshot.clone());
        if lost {
            kept.learn(&case.seen_keywords());
            changed = !kept.is_empty();
        }
        Ok(Self { kept, snapshot, changed })
    }

    /// The letter here for a letter of the snapshot.
    pub(crate) fn translate(&mut self, letter: u8) -> Option<u8> {
        let before = self.kept.clone();
        let here = self.kept.adopt(&self.snapshot, letter);
        self.changed |= self.kept != before;
        here
    }

    /// The letter here for a keyword.
    pub(crate) fn letter_of(&mut self, keyword: &[u8]) -> Option<u8> {
        let before = self.kept.clone();
        let here = self.kept.letter_of(keyword);
        self.changed |= self.kept != before;
        here
    }

    /// Plans the table's way to disk if it changed.
    pub(crate) fn stage(self, bench: &mut Bench<'_>, case: &Case) -> Result<(), Refusal> {
        if !self.changed {
            return Ok(());
        }
        put(bench, case, (Phase::Keywords, KEYWORDS), &self.kept.to_bytes())
    }
}

/// Plans a rebuilt list's way to disk.
///
/// A mail server that finds `cur` as it left it trusts its index, and shows UIDs that the list no
/// longer has as mails without bytes. A new time on `cur` makes it look.
pub(crate) fn stage_uidlist(
    bench: &mut Bench<'_>,
    case: &Case,
    write: &mut dyn FnMut(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Refusal> {
    if case.tree.is_none() {
        let dir = bench.path(&folder_path(&case.name));
        bench.act(Phase::Messages, Act::Touch { dir, name: b"cur".to_vec() });
    }
    put_with(bench, case, (Phase::Uidlists, UIDLIST), write)
}

/// Plans the return of the other control files, and damaged indexes out of the way.
pub(crate) fn stage_others(
    bench: &mut Bench<'_>,
    case: &mut Case,
) -> Result<(), Refusal> {
    let names: Vec<Vec<u8>> = case
        .snapshot
        .iter()
        .flat_map(|folder| folder.control.keys())
        .filter(|name| is_wanted(name, case.live.as_ref()))
        .cloned()
        .collect();
    for name in names {
        let there = case.live.as_ref().is_some_and(|it| it.control.contains_key(&name));
        if there && !is_damaged_subscriptions(bench, case, &name)? {
            continue;
        }
        let bytes = read(bench, Side::Snapshot, case.snapshot.as_ref(), &name)?;
        if let Some(bytes) = bytes.filter(|bytes| !there || !is_damaged_list(bytes)) {
            put(bench, case, (Phase::Keywords, &name), &bytes)?;
        }
    }
    stage_damaged_indexes(bench, case)
}

/// Files of the snapshot that a folder cannot be without.
fn is_wanted(name: &[u8], live: Option<&Folder>) -> bool {
    let Some(live) = live else {
        return !name.starts_with(b"dovecot.") && name != UIDLIST && name != KEYWORDS;
    };
    let validity = b"dovecot-uidvalidity";
    let has_validity = || live.control.keys().any(|name| name.starts_with(validity));
    match name {
        SUBSCRIPTIONS => true,
        b"maildirfolder" => !live.control.contains_key(name),
        name => name.starts_with(validity) && !has_validity(),
    }
}

fn is_damaged_subscriptions(
    bench: &mut Bench<'_>,
    case: &Case,
    name: &[u8],
) -> Result<bool, Refusal> {
    if name != SUBSCRIPTIONS {
        return Ok(false);
    }
    let live = read(bench, Side::Live, case.live.as_ref(), name)?;
    Ok(live.is_none_or(|live| is_damaged_list(&live)))
}

fn is_damaged_list(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes.contains(&0)
}

/// Moves damaged indexes out of the way, and lets the count of changes go on where it is lost.
fn stage_damaged_indexes(bench: &mut Bench<'_>, case: &mut Case) -> Result<(), Refusal> {
    let indexes: Vec<(Vec<u8>, Meta)> = case
        .live
        .iter()
        .flat_map(|folder| &folder.control)
        .filter(|(name, meta)| name.starts_with(b"dovecot.") && meta.size > 0)
        .map(|(name, meta)| (name.clone(), *meta))
        .collect();
    let counts = |name: &[u8]| name == INDEX || name == INDEX_LOG;
    let counted = |folder: &Option<Folder>| {
        folder.as_ref().is_some_and(|it| it.control.keys().any(|name| counts(name)))
    };
    let mut count_lost = counted(&case.snapshot) && !counted(&case.live);
    let mut damaged = Vec::new();
    for (name, _) in &indexes {
        let rel = join(&folder_path(&case.name), name);
        let broken = case.index_broken && name.starts_with(INDEX);
        if broken || bench.begins_with_zeros(&rel, INDEX_HEAD_BYTES).unwrap_or(false) {
            case.doubt(DoubtKind::IndexDamaged, name, None);
            count_lost |= counts(name);
            damaged.push(name);
        }
    }
    let log = if count_lost { log_that_counts_on(bench, case)? } else { None };
    for (name, meta) in &indexes {
        // Nothing of the old index fits a new log, which takes the place of the old one.
        let is_left = log.is_some() && name.starts_with(INDEX);
        let is_replaced = log.is_some() && name == INDEX_LOG;
        if (is_left || damaged.contains(&name)) && !is_replaced {
            let rel = join(&folder_path(&case.name), name);
            bench.aside("kept", (&folder_path(&case.name), &rel), meta)?;
        }
    }
    match log {
        Some(log) => put(bench, case, (Phase::Uidlists, INDEX_LOG), &log)?,
        None if count_lost => case.doubt(DoubtKind::ModseqLost, b"", None),
        None => {}
    }
    Ok(())
}

/// A log that goes on above all that clients can have been told; nothing if that is not known.
fn log_that_counts_on(
    bench: &mut Bench<'_>,
    case: &Case,
) -> Result<Option<Vec<u8>>, Refusal> {
    let mut known: Option<Index> = None;
    for (side, folder) in [(Side::Live, &case.live), (Side::Snapshot, &case.snapshot)] {
        let [index, log, older] = index_files(bench, side, folder.as_ref())?;
        for index in [index.as_deref(), None] {
            let told = index::read(index, log.as_deref(), older.as_deref()).last_known();
            let is_more = |told: &Index| {
                known.as_ref().is_none_or(|it| it.highest_modseq < told.highest_modseq)
            };
            known = told.filter(is_more).or(known);
        }
    }
    let known = known.filter(|index| index.highest_modseq > 0);
    Ok(known.map(|index| {
        // Another number, so that no cache is taken for one of this index.
        let index_id = index.index_id.checked_add(1).unwrap_or(1);
        write_modseq(index_id, index.index_id, index.highest_modseq + MODSEQ_GAP)
    }))
}

fn read(
    bench: &mut Bench<'_>,
    side: Side,
    folder: Option<&Folder>,
    name: &[u8],
) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(folder) = folder else { return Ok(None) };
    let rel = join(&folder_path(&folder.name), name);
    bench.control(side, &rel, folder.control.get(name))
}

/// Plans bytes under the name of a control file, keeping what stands there.
fn put(
    bench: &mut Bench<'_>,
    case: &Case,
    at: (Phase, &[u8]),
    bytes: &[u8],
) -> Result<(), Refusal> {
    put_with(bench, case, at, &mut |to| to.write_all(bytes))
}

/// Plans what `write` writes under the name of a control file, keeping what stands there.
fn put_with(
    bench: &mut Bench<'_>,
    case: &Case,
    (phase, name): (Phase, &[u8]),
    write: &mut dyn FnMut(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Refusal> {
    let control = |folder: &Option<Folder>| {
        folder.as_ref().and_then(|folder| folder.control.get(name).copied())
    };
    let live = control(&case.live);
    let like = match (live, control(&case.snapshot)) {
        (Some(live), _) => Like { modified: None, ..Like::file(&live) },
        (None, Some(snapshot)) => case.home.file_like(&snapshot),
        (None, None) => case.home.new_file(),
    };
    if let Some(tree) = &case.tree {
        return bench.stage_with(&tree.join(OsStr::from_bytes(name)), Some(like), write);
    }
    let staged = bench.next_staged();
    bench.stage_with(&staged, Some(like), write)?;
    let rel = join(&folder_path(&case.name), name);
    match live {
        Some(meta) => {
            bench.dress_staged(&staged, (Side::Live, &rel))?;
            bench.replace(phase, (&folder_path(&case.name), &rel), &meta, staged)
        }
        None => {
            let dir = bench.path(&folder_path(&case.name));
            let name = name.to_vec();
            bench.act(phase, Act::Put { staged, dir, name, replaces: None });
            Ok(())
        }
    }
}
