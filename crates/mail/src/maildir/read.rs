//! Read: the messages of a folder, each byte once.
//!
//! # Invariants
//!
//! * Where both sides have a message they are read together and compared byte by byte; a side that
//!   must be judged by itself is judged by everything that can be known of it.
//! * Files are read in the order of their inodes, which is nearly that of the disk; while the disk is
//!   slow, the next ones are asked for ahead.
//! * What is in memory at once is two buffers and the names of the folder.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Seek as _};
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::case::{Case, Seen};
use super::name::MailName;
use super::survey::{Sub, folder_path, mail_path};
use super::table::{Row, Slot};
use crate::crew::Crew;
use crate::digest::Fingerprint;
use crate::judge::{Depth, Findings, Promise, Scan, fill};
use crate::merge::Listing;
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stage::Bench;
use crate::stamp::weigh;
use crate::walk::{Meta, Tree, escape, join};

/// Messages asked for ahead of the one that is read: the queue depth from which disks give nearly
/// all they can.
const AHEAD_MAX: usize = 32;

/// A file that takes longer than this, and a nanosecond a byte, came from the disk and not from
/// memory.
const QUICK_FILE: Duration = Duration::from_micros(60);

/// Which files of a message are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Both,
    Live,
    Snapshot,
}

/// A message to be read, by the inode that it is read in the order of.
type Wish = (u64, Row, Want);

/// Reads what the decisions need: all live files, and those of the snapshot that can change
/// something. `served`: nothing that is missing comes back.
pub(super) fn read_case(
    bench: &mut Bench<'_>,
    case: &mut Case,
    served: bool,
) -> Result<(), Refusal> {
    settle_spares(bench, case)?;
    let mut wishes = Vec::new();
    for row in case.table.iter() {
        let unread = |side| {
            let slot = case.table.slot(side, row);
            slot.filter(|_| !case.is_read(side, row))
        };
        let wish = match (unread(Side::Live), unread(Side::Snapshot)) {
            (Some(live), Some(_)) if case.table.recorded(row).is_none() => {
                Some((live.inode, row, Want::Both))
            }
            (Some(live), _) => Some((live.inode, row, Want::Live)),
            (None, Some(snapshot)) if case.wants_snapshot(row, served) => {
                Some((snapshot.inode, row, Want::Snapshot))
            }
            (None, _) => None,
        };
        wishes.extend(wish);
    }
    Reader::new(case).read(bench, case, wishes)?;
    // What is not as it was recorded.
    let mut wishes = Vec::new();
    for row in case.table.iter() {
        let Some(recorded) = case.table.recorded(row) else { continue };
        let Some(slot) = case.table.slot(Side::Snapshot, row) else { continue };
        let live = case.findings(Side::Live, row);
        let differs = live.is_some_and(|live| {
            live.matches(&recorded) == Some(false) || live.storage_fault().is_some()
        });
        if differs && !case.is_read(Side::Snapshot, row) {
            wishes.push((slot.inode, row, Want::Snapshot));
        }
    }
    Reader::new(case).read(bench, case, wishes)?;
    let unsupported = |((side, row), seen): (&(Side, Row), &Seen)| {
        seen.findings.is_unsupported().then(|| case.rel(*side, *row)).flatten()
    };
    match case.seen.iter().find_map(unsupported) {
        None => Ok(()),
        Some(rel) => {
            let what = "mail that is encrypted, or compressed but by gzip or zstd,";
            Err(Refusal::Unsupported { path: escape(&bench.path(&rel)), what })
        }
    }
}

/// Reads the snapshot's files of these messages.
pub(super) fn read_snapshot(
    bench: &mut Bench<'_>,
    case: &mut Case,
    rows: &[Row],
) -> Result<(), Refusal> {
    let wishes = rows.iter().filter_map(|row| {
        let slot = case.table.slot(Side::Snapshot, *row)?;
        (!case.is_read(Side::Snapshot, *row)).then_some((
            slot.inode,
            *row,
            Want::Snapshot,
        ))
    });
    let wishes = wishes.collect();
    Reader::new(case).read(bench, case, wishes)
}

/// Of several files with one base name takes the one that is as recorded, else a good one, else the
/// longest, for more is cut than is added, else the one in `cur`.
fn settle_spares(bench: &mut Bench<'_>, case: &mut Case) -> Result<(), Refusal> {
    let spare = std::mem::take(&mut case.table.spare);
    if spare.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::new(case);
    for (side, row, slot) in spare {
        let Some(other) = case.table.slot(side, row) else { continue };
        if !case.is_read(side, row) {
            let seen = reader.judge(bench, case, (side, row, other))?;
            case.see(side, row, seen);
        }
        let seen = reader.judge(bench, case, (side, row, slot))?;
        let recorded = case.table.recorded(row);
        let rank = |findings: &Findings, slot: Slot| {
            let matches = |it: &Fingerprint| findings.matches(it) == Some(true);
            let as_recorded = recorded.as_ref().is_some_and(matches);
            let good = findings.fault().is_none();
            let (odd, length) = (findings.oddities, Reverse(findings.size));
            (!as_recorded, !good, odd, length, slot.sub, case.table.name(row, slot))
        };
        let taken = case.findings(side, row);
        let better =
            taken.is_some_and(|it| rank(&seen.findings, slot) < rank(&it, other));
        if better {
            case.table.set_slot(side, row, slot);
            case.see(side, row, seen);
        }
        case.table.spare.push((side, row, if better { other } else { slot }));
    }
    case.table.spare.retain(|(side, _, _)| *side == Side::Live);
    Ok(())
}

/// A file that is open, or what is to be said of it because it cannot be.
enum Opened {
    File(File, Meta),
    Not(Reason),
}

/// A message on its way through the reader.
struct Pending {
    row: Row,
    live: Option<Opened>,
    snapshot: Option<Opened>,
}

/// Reads messages of one folder.
struct Reader {
    /// The mail directories: live, then snapshot; `cur`, then `new`.
    dirs: [[Option<Tree>; 2]; 2],
    /// The folder's path in the mailbox, live and in the snapshot.
    folders: [Vec<u8>; 2],
    /// The paths of the live mail directories, below the mailbox.
    live_paths: [Vec<u8>; 2],
    /// What the live files that were opened add to the mailbox's stamp.
    weight: u128,
    opened: Row,
    /// The name of a file, used again for each.
    name: Vec<u8>,
}

impl Reader {
    fn new(case: &mut Case) -> Self {
        let name = |side| case.side(side).map(|it| it.name.clone()).unwrap_or_default();
        let folders = [name(Side::Live), name(Side::Snapshot)];
        let dirs = std::mem::take(&mut case.dirs).map(|cur| [cur, None]);
        let live_paths =
            [Sub::Cur, Sub::New].map(|sub| join(&folder_path(&folders[0]), sub.name()));
        Self { dirs, folders, live_paths, weight: 0, opened: 0, name: Vec::new() }
    }

    fn read(
        mut self,
        bench: &mut Bench<'_>,
        case: &mut Case,
        mut wishes: Vec<Wish>,
    ) -> Result<(), Refusal> {
        wishes.sort_unstable_by_key(|(inode, row, _)| (*inode, *row));
        let mut wishes = wishes.into_iter();
        let mut ahead: VecDeque<Pending> = VecDeque::new();
        let crew = &bench.roots().crew;
        loop {
            let cold = crew.is_cold();
            while ahead.len() < if cold { AHEAD_MAX } else { 1 } {
                let Some(wish) = wishes.next() else { break };
                let pending = self.open(bench, case, wish)?;
                if cold {
                    ask_for(&pending, crew);
                }
                ahead.push_back(pending);
            }
            let Some(pending) = ahead.pop_front() else {
                case.weight = case.weight.wrapping_add(self.weight);
                case.opened += self.opened;
                return Ok(());
            };
            take(bench, case, pending)?;
        }
    }

    fn open(
        &mut self,
        bench: &Bench<'_>,
        case: &Case,
        (_, row, want): Wish,
    ) -> Result<Pending, Refusal> {
        let mut one = |side| {
            let slot = case.table.slot(side, row);
            slot.map(|slot| self.open_file(bench, case, (side, row, slot))).transpose()
        };
        let live = if want == Want::Snapshot { None } else { one(Side::Live)? };
        let snapshot = if want == Want::Live { None } else { one(Side::Snapshot)? };
        Ok(Pending { row, live, snapshot })
    }

    fn open_file(
        &mut self,
        bench: &Bench<'_>,
        case: &Case,
        (side, row, slot): (Side, Row, Slot),
    ) -> Result<Opened, Refusal> {
        let (at, folder) = match side {
            Side::Live => (0, &self.folders[0]),
            Side::Snapshot => (1, &self.folders[1]),
        };
        let sub = usize::from(slot.sub != Sub::Cur);
        self.name.clear();
        for part in case.table.name_parts(row, slot) {
            self.name.extend_from_slice(part);
        }
        let name = &*self.name;
        let refuse = |errno| {
            let path = bench.path(&mail_path(folder, slot.sub, name));
            Refusal::read(&path, errno)
        };
        let dir = self.dirs.get_mut(at).and_then(|dirs| dirs.get_mut(sub));
        let Some(dir) = dir else { return Err(refuse(Errno::NOENT)) };
        if dir.is_none() {
            let path = bench.path(&join(&folder_path(folder), slot.sub.name()));
            let root = bench.roots().tree(side).ok_or_else(|| refuse(Errno::NOENT))?;
            *dir = Some(root.dir(&path).map_err(refuse)?);
        }
        let Some(dir) = dir else { return Err(refuse(Errno::NOENT)) };
        let limit = bench.roots().file_size_max;
        let opened = dir.file(name).map_err(refuse);
        if let (Side::Live, Ok((_, meta))) = (side, &opened) {
            let dir = self.live_paths.get(sub).map(|it| &**it).unwrap_or_default();
            self.weight = self.weight.wrapping_add(weigh(dir, name, meta));
            self.opened += 1;
        }
        match opened {
            Ok((_, meta)) if meta.size > limit => {
                Ok(Opened::Not(Reason::TooLarge { found: meta.size, limit }))
            }
            Ok((file, meta)) => Ok(Opened::File(file, meta)),
            Err(Refusal::Unreadable { .. }) => Ok(Opened::Not(Reason::Unreadable)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Opens and judges one file by itself.
    fn judge(
        &mut self,
        bench: &mut Bench<'_>,
        case: &Case,
        (side, row, slot): (Side, Row, Slot),
    ) -> Result<Seen, Refusal> {
        Ok(match self.open_file(bench, case, (side, row, slot))? {
            Opened::File(mut file, meta) => {
                let wish = Wished::deep(case, row);
                let findings = judge_file(bench, wish, (&mut file, meta.size));
                Seen { findings, meta: Some(meta) }
            }
            Opened::Not(reason) => {
                Seen { findings: Findings::unread(reason), meta: None }
            }
        })
    }
}

/// Reads what is open of a message and books what is seen.
fn take(bench: &mut Bench<'_>, case: &mut Case, pending: Pending) -> Result<(), Refusal> {
    let row = pending.row;
    let deep = Wished::deep(case, row);
    let (mut live, mut snapshot) = match (pending.live, pending.snapshot) {
        (Some(Opened::File(live, meta)), Some(Opened::File(snapshot, other))) => {
            let (mut live, mut snapshot) = (live, snapshot);
            if meta.size == other.size {
                let wish = Wished { depth: Depth::Glance, ..deep };
                let files = (&mut live, &mut snapshot);
                let same = watch(bench, |bench| compare(bench, wish, files, meta.size));
                if let Ok(Some(findings)) = same {
                    let findings = if is_clean(&findings) {
                        findings
                    } else {
                        rejudge(bench, deep, (&mut live, meta.size))
                    };
                    let seen = Seen { findings, meta: Some(meta) };
                    case.see_both(row, seen, other);
                    return Ok(());
                }
            }
            (Some(Opened::File(live, meta)), Some(Opened::File(snapshot, other)))
        }
        (Some(live), Some(snapshot)) => (Some(live), Some(snapshot)),
        (Some(Opened::File(mut file, meta)), None) => {
            // Nothing else speaks for it, unless its digest was recorded.
            let recorded = deep.recorded;
            let depth = if recorded.is_some() { Depth::Glance } else { Depth::Deep };
            let wish = Wished { depth, ..deep };
            let mut findings =
                watch(bench, |bench| judge_file(bench, wish, (&mut file, meta.size)));
            let unlike = |it: &Fingerprint| findings.matches(it) != Some(true);
            if recorded.as_ref().is_some_and(|it| unlike(it) || !is_clean(&findings)) {
                let wish = Wished { depth: Depth::Quick, ..wish };
                findings = rejudge(bench, wish, (&mut file, meta.size));
            }
            case.see(Side::Live, row, Seen { findings, meta: Some(meta) });
            return Ok(());
        }
        (None, Some(Opened::File(mut file, meta))) => {
            return take_back(bench, case, row, (&mut file, meta));
        }
        (live, snapshot) => (live, snapshot),
    };
    let differ = live.is_some() && snapshot.is_some();
    for (side, opened) in [(Side::Live, &mut live), (Side::Snapshot, &mut snapshot)] {
        let seen = match opened {
            None => continue,
            Some(Opened::File(file, meta)) => {
                let findings = rejudge(bench, deep, (file, meta.size));
                Seen { findings, meta: Some(*meta) }
            }
            Some(Opened::Not(reason)) => {
                Seen { findings: Findings::unread(*reason), meta: None }
            }
        };
        if differ {
            // All that is known of either weighs.
            case.seen.insert((side, row), seen);
        } else {
            case.see(side, row, seen);
        }
    }
    Ok(())
}

/// Reads the snapshot's file of a message that is missing live, and makes it ready at once where it
/// comes back if it is good: its bytes are read a single time.
fn take_back(
    bench: &mut Bench<'_>,
    case: &mut Case,
    row: Row,
    (file, meta): (&mut File, Meta),
) -> Result<(), Refusal> {
    let found = if meta.size < bench.buffer().len() as u64 {
        take_small_back(bench, case, row, (file, &meta))?
    } else {
        take_large_back(bench, case, row, (file, &meta))?
    };
    let findings = match found {
        Some(findings) => findings,
        None => rejudge(bench, Wished::deep(case, row), (file, meta.size)),
    };
    case.see(Side::Snapshot, row, Seen { findings, meta: Some(meta) });
    Ok(())
}

/// One that the buffer holds, from memory; nothing if more is to be known of it.
fn take_small_back(
    bench: &mut Bench<'_>,
    case: &mut Case,
    row: Row,
    (file, meta): (&mut File, &Meta),
) -> Result<Option<Findings>, Refusal> {
    let filled = watch(bench, |bench| {
        let filled = fill_file(file, bench.buffer(), meta.size).ok();
        bench.bytes_read += filled.map_or(0, |length| length as u64);
        filled
    });
    let Some(length) = filled.filter(|length| *length as u64 == meta.size) else {
        return Ok(None);
    };
    let wish = Wished { depth: Depth::Quick, ..Wished::deep(case, row) };
    let scan = wish.scan(bench);
    let findings = scan.whole(bench.buffer().get(..length).unwrap_or_default());
    if !is_clean(&findings) {
        return Ok(None);
    }
    if case.comes_back(row, &findings) {
        case.stage_back(bench, row, (length, file, meta))?;
    }
    Ok(Some(findings))
}

/// A larger one, written while it is judged; nothing if more is to be known of it.
fn take_large_back(
    bench: &mut Bench<'_>,
    case: &mut Case,
    row: Row,
    (file, meta): (&mut File, &Meta),
) -> Result<Option<Findings>, Refusal> {
    if !case.is_missed(row) {
        return Ok(None);
    }
    let mut copy = case.begin_back(bench, row, (file, meta))?;
    let wish = Wished { depth: Depth::Quick, ..Wished::deep(case, row) };
    let (mut scan, mut left_over) = (wish.scan(bench), meta.size);
    let whole = loop {
        let length = watch(bench, |bench| {
            let from = copy.shared().unwrap_or(&mut *file);
            let length = fill_file(from, bench.buffer(), left_over).ok();
            bench.bytes_read += length.map_or(0, |length| length as u64);
            length
        });
        let Some(length) = length.filter(|length| *length as u64 <= left_over) else {
            break false;
        };
        left_over -= length as u64;
        scan.add(bench.buffer().get(..length).unwrap_or_default());
        bench.go_on_copying(&mut copy, length)?;
        if length < bench.buffer().len() {
            break left_over == 0;
        }
    };
    let findings = whole.then(|| scan.finish()).filter(is_clean);
    match &findings {
        Some(findings) if case.comes_back(row, findings) => {
            let staged = bench.end_copy(copy, file)?;
            case.staged.insert(row, staged);
        }
        Some(_) | None => bench.give_up_copy(&copy)?,
    }
    Ok(findings)
}

/// Reads something, and books whether it had to be waited for. While the disk is known to be slow that
/// is known of each file already.
fn watch<T>(bench: &mut Bench<'_>, read: impl FnOnce(&mut Bench<'_>) -> T) -> T {
    let crew = &bench.roots().crew;
    if crew.is_cold() {
        return read(bench);
    }
    let (started, before) = (Instant::now(), bench.bytes_read);
    let result = read(bench);
    let quick = QUICK_FILE + Duration::from_nanos(bench.bytes_read - before);
    crew.saw(started.elapsed() > quick);
    result
}

/// Compares both files of a message; what is found if they are the same to the last byte.
fn compare(
    bench: &mut Bench<'_>,
    wish: Wished,
    files: (&mut File, &mut File),
    size: u64,
) -> io::Result<Option<Findings>> {
    let (scan, mut read) = (wish.scan(bench), 0);
    let half = bench.buffer().len() / 2;
    let Some(halves) = bench.buffer().split_at_mut_checked(half) else { return Ok(None) };
    let found = compare_in(halves, scan, files, (size, &mut read));
    bench.bytes_read += read;
    found
}

/// The same in two buffers. `read`: the bytes of both sides.
fn compare_in(
    (left, right): (&mut [u8], &mut [u8]),
    mut scan: Scan<'_>,
    (live, snapshot): (&mut File, &mut File),
    (size, read): (u64, &mut u64),
) -> io::Result<Option<Findings>> {
    let (mut left_over, mut first) = (size, true);
    loop {
        let length = fill_file(live, left, left_over)?;
        let other = fill_file(snapshot, right, left_over)?;
        *read += (length + other) as u64;
        left_over = left_over.saturating_sub(length as u64);
        let piece = left.get(..length).unwrap_or_default();
        if piece != right.get(..other).unwrap_or_default() {
            return Ok(None);
        }
        let last = length < left.len();
        if first && last {
            return Ok(Some(scan.whole(piece)));
        }
        scan.add(piece);
        if last {
            return Ok(Some(scan.finish()));
        }
        first = false;
    }
}

/// Fills the buffer as far as a file goes of which `left_over` bytes are expected. A regular file gives
/// less than is asked for only at its end, so that the end need not be asked for once more.
fn fill_file(file: &mut File, buffer: &mut [u8], left_over: u64) -> io::Result<usize> {
    let first = match file.read(buffer) {
        Ok(first) if first as u64 == left_over && first < buffer.len() => {
            return Ok(first);
        }
        Ok(first) => first,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        Err(error) => return Err(error),
    };
    Ok(first + fill(file, buffer.get_mut(first..).unwrap_or_default())?)
}

/// How a message is to be judged.
#[derive(Debug, Clone, Copy)]
struct Wished {
    promise: Promise,
    depth: Depth,
    /// What its fingerprint should be.
    recorded: Option<Fingerprint>,
}

impl Wished {
    /// By everything that can be known of it.
    fn deep(case: &Case, row: Row) -> Self {
        let promise = MailName::parse(case.table.base(row)).promise();
        Self { promise, depth: Depth::Deep, recorded: case.table.recorded(row) }
    }

    fn scan<'a>(self, bench: &Bench<'a>) -> Scan<'a> {
        let limit = bench.roots().file_size_max;
        let scan = Scan::new(self.promise, bench.owner(), self.depth).limit(limit);
        match self.recorded {
            Some(recorded) => scan.fingerprint(recorded.kind()),
            None => scan,
        }
    }
}

/// Judges a file from its beginning.
fn rejudge(
    bench: &mut Bench<'_>,
    wish: Wished,
    (file, size): (&mut File, u64),
) -> Findings {
    match file.rewind() {
        Ok(()) => judge_file(bench, wish, (file, size)),
        Err(_) => Findings::unread(Reason::Unreadable),
    }
}

/// Judges what a file holds. `size`: what it should be by the file system.
fn judge_file(
    bench: &mut Bench<'_>,
    wish: Wished,
    (file, size): (&mut File, u64),
) -> Findings {
    let limit = bench.roots().file_size_max;
    let (mut scan, mut read) = (wish.scan(bench), 0);
    loop {
        let buffer = bench.buffer();
        let full = buffer.len();
        let Ok(length) = fill_file(file, buffer, size.saturating_sub(read)) else {
            return Findings::unread(Reason::Unreadable);
        };
        let piece = buffer.get(..length).unwrap_or_default();
        if read == 0 && length < full {
            let findings = scan.whole(piece);
            bench.bytes_read += length as u64;
            return findings;
        }
        scan.add(piece);
        read += length as u64;
        bench.bytes_read += length as u64;
        // It may grow while it is read; more than the limit tells.
        if length < full || read > limit {
            return scan.finish();
        }
    }
}

/// Nothing is to be said of it but its size and digest.
pub(super) fn is_clean(findings: &Findings) -> bool {
    findings.faults.is_empty() && findings.stranger.is_none()
}

/// Asks the disk for a message's bytes ahead of reading them, unless memory has them.
fn ask_for(pending: &Pending, crew: &Crew) {
    for opened in [&pending.live, &pending.snapshot].into_iter().flatten() {
        let Opened::File(file, _) = opened else { continue };
        let mut first = [0];
        let first = &mut [IoSliceMut::new(&mut first)];
        let there = rustix::io::preadv2(file, first, 0, ReadWriteFlags::NOWAIT).is_ok();
        crew.saw(!there);
        if !there {
            // Without it the bytes only come later.
            let _ = rustix::fs::fadvise(file, 0, None, Advice::WillNeed);
        }
    }
}

impl Case {
    /// Whether the snapshot's file of a message can change anything, now that all is known that is
    /// live. `served`: what is missing was deleted.
    fn wants_snapshot(&self, row: Row, served: bool) -> bool {
        let there = self.table.slot(Side::Live, row).is_some();
        there || (!served && self.listing(row) != Listing::Unlisted)
    }
}
