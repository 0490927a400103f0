//! Machines: their clocks, and the disks that journals are on.
//!
//! # Invariants
//!
//! * What an append has returned is on the disk whatever happens; of one that failed it is
//!   chance whether it is.
//! * An append is kept whole or not at all, as the journal's frames see to.
//! * Who checks sees every record there ever was; programs see the newest snapshot, the story
//!   and what came after.
//! * Steady time never goes back; the wall clock does what it likes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_core::time::{Span, TimeSource, Timestamp};
use tidegate_journal::{
    AppendError, Compacted, Encode, Entry, Log, ReadError, StoreError,
};

/// What the wall clocks show at the beginning.
pub(crate) const EPOCH: u64 = 1_700_000_000_000;

/// A machine's time as its programs read it.
#[derive(Debug, Default)]
pub(crate) struct Dial {
    boot: AtomicU64,
    wall: AtomicU64,
}

impl TimeSource for Dial {
    fn since_boot(&self) -> Span {
        Span::from_millis(self.boot.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::Relaxed))
    }
}

/// A machine's clock: how it strays from true time.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) dial: Arc<Dial>,
    /// Parts in a million that it is too fast, or too slow.
    rate: i64,
    wall_off: i64,
    anchor: (u64, u64),
}

impl Clock {
    pub(crate) fn new(wall_off: i64) -> Self {
        let dial = Arc::new(Dial::default());
        let clock = Self { dial, rate: 0, wall_off, anchor: (0, 1_000_000) };
        clock.show(0);
        clock
    }

    /// Lets the machine's programs see the true time `now` as their clock shows it.
    pub(crate) fn show(&self, now: u64) {
        let boot = self.boot_at(now);
        self.dial.boot.fetch_max(boot, Ordering::Relaxed);
        let wall = (EPOCH + boot).saturating_add_signed(self.wall_off);
        self.dial.wall.store(wall, Ordering::Relaxed);
    }

    fn boot_at(&self, now: u64) -> u64 {
        let (then, boot) = self.anchor;
        let passed = now.saturating_sub(then);
        let strayed = i64::try_from(passed).unwrap_or_default() * self.rate / 1_000_000;
        boot + passed.saturating_add_signed(strayed)
    }

    /// From now on it strays so much.
    pub(crate) fn stray(&mut self, now: u64, rate: i64) {
        self.anchor = (now, self.boot_at(now));
        self.rate = rate;
    }

    /// The machine was switched off and on: time since boot begins anew.
    pub(crate) fn reboot(&mut self, now: u64) {
        let before = self.boot_at(now);
        self.anchor = (now, BOOTED);
        self.wall_off += i64::try_from(before).unwrap_or_default();
        self.wall_off -= i64::try_from(BOOTED).unwrap_or_default();
        self.dial.boot.store(BOOTED, Ordering::Relaxed);
        self.show(now);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_wall(&mut self, off: i64) {
        self.wall_off = off;
    }
}

/// Time since boot when programs start after a reboot.
const BOOTED: u64 = 20_000;

/// A snapshot of a journal.
#[derive(Clone, Debug)]
struct Base {
    covers: usize,
    snapshot: Arc<[u8]>,
    story: Arc<Vec<(u64, Arc<[u8]>)>>,
}

/// What will go wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The program dies in the append: before, or after it is on disk.
    Dies { kept: bool },
    /// The flush reports an error; nobody knows.
    FsyncError { kept: bool },
    /// Part of the append is written, then the power goes.
    Torn,
}

/// One journal's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    records: Vec<Arc<[u8]>>,
    /// How many there were after each append.
    ends: Vec<usize>,
    /// Snapshots so far; the newest is in force.
    bases: Vec<Base>,
    /// One that is being written, and after how many appends it is there.
    coming: Option<(u64, Base)>,
    /// So many records after one snapshot comes the next; never if it is 0.
    pub(crate) rhythm: usize,
    /// After so many further appends.
    trouble: Option<(u32, Trouble)>,
    pub(crate) full: bool,
    /// How long the next appends take.
    pub(crate) slow: u64,
    /// How long the appends took since somebody asked.
    waited: u64,
    /// What has happened since somebody asked.
    pub(crate) met: Vec<&'static str>,
    failed: bool,
}

impl Disk {
    /// The records that survive whatever happens now.
    pub(crate) fn records(&self) -> &[Arc<[u8]>] {
        &self.records
    }

    /// A copy of it for another machine.
    pub(crate) fn copy(&self) -> SharedDisk {
        let (records, bases) = (self.records.clone(), self.bases.clone());
        let (ends, rhythm) = (self.ends.clone(), self.rhythm);
        let copy = Self { records, ends, bases, rhythm, ..Self::default() };
        SharedDisk(Arc::new(Mutex::new(copy)))
    }

    /// What it was after so many records comes back, or after the append before.
    pub(crate) fn put_back(&mut self, records: usize) {
        self.ends.retain(|end| *end <= records);
        let records = self.ends.last().copied().unwrap_or_default();
        self.records.truncate(records);
        self.bases.retain(|base| base.covers <= records);
        self.coming = None;
    }

    pub(crate) fn plan(&mut self, after: u32, trouble: Trouble) {
        self.trouble = Some((after, trouble));
    }

    /// All is well from now on.
    pub(crate) fn mend(&mut self) {
        (self.trouble, self.full, self.slow) = (None, false, 0);
    }

    /// How long the appends since the last call have taken.
    pub(crate) fn take_waited(&mut self) -> u64 {
        std::mem::take(&mut self.waited)
    }

    fn append(&mut self, payloads: &[Vec<u8>]) -> Result<u64, AppendError> {
        if self.failed {
            return Err(AppendError::Poisoned);
        }
        if payloads.is_empty() {
            return Ok(self.newest());
        }
        if self.full {
            return self.fail("disk full", false, payloads);
        }
        match self.trouble {
            Some((0, trouble)) => {
                self.trouble = None;
                match trouble {
                    Trouble::Dies { kept } => self.fail("died in append", kept, payloads),
                    Trouble::FsyncError { kept } => {
                        self.fail("fsync error", kept, payloads)
                    }
                    Trouble::Torn => self.fail("torn append", false, payloads),
                }
            }
            Some((left, trouble)) => {
                self.trouble = Some((left - 1, trouble));
                self.keep(payloads)
            }
            None => self.keep(payloads),
        }
    }

    fn keep(&mut self, payloads: &[Vec<u8>]) -> Result<u64, AppendError> {
        self.take(payloads);
        self.waited += self.slow;
        match self.coming.take() {
            Some((0, base)) => {
                self.bases.push(base);
                self.met.push("compaction");
            }
            Some((left, base)) => self.coming = Some((left - 1, base)),
            None => {}
        }
        if self.slow > 0 {
            self.met.push("slow append");
        }
        Ok(self.newest())
    }

    fn fail(
        &mut self,
        what: &'static str,
        kept: bool,
        payloads: &[Vec<u8>],
    ) -> Result<u64, AppendError> {
        let after = self.newest();
        if kept {
            self.take(payloads);
        }
        self.failed = true;
        self.met.push(what);
        let source = Arc::new(StoreError::Sync(std::io::Error::other(what)));
        Err(AppendError::Failed { count: payloads.len(), after, source })
    }

    fn take(&mut self, payloads: &[Vec<u8>]) {
        self.records.extend(payloads.iter().map(|it| Arc::from(it.as_slice())));
        self.ends.push(self.records.len());
    }

    fn newest(&self) -> u64 {
        self.records.len() as u64
    }

    /// How many records the snapshot in force covers.
    fn covered(&self) -> usize {
        self.bases.last().map_or(0, |base| base.covers)
    }

    fn begin_snapshot(&mut self, is_story: fn(&[u8]) -> bool, snapshot: Vec<u8>) {
        let before = self.bases.last();
        let mut story = before.map_or_else(Vec::new, |base| base.story.to_vec());
        let since = (1_u64..).zip(&self.records).skip(self.covered());
        let since = since.filter(|(_, payload)| is_story(payload));
        story.extend(since.map(|(sequence, payload)| (sequence, Arc::clone(payload))));
        let (covers, story) = (self.records.len(), Arc::new(story));
        let takes = self.newest() % 4;
        self.coming = Some((takes, Base { covers, snapshot: snapshot.into(), story }));
    }
}

/// A disk that programs, which come and go, share.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal as a program opens it.
    pub(crate) fn open(&self, dial: &Arc<Dial>) -> Box<dyn Log> {
        let mut disk = self.lock();
        disk.failed = false;
        if disk.coming.take().is_some() {
            disk.met.push("compaction interrupted");
        }
        drop(disk);
        Box::new(Journal { disk: self.clone(), dial: Arc::clone(dial) })
    }
}

/// A journal on a simulated disk.
struct Journal {
    disk: SharedDisk,
    dial: Arc<Dial>,
}

impl Log for Journal {
    fn append(&self, payloads: &[Vec<u8>]) -> Result<u64, AppendError> {
        let mut disk = self.disk.lock();
        let appended = disk.append(payloads);
        // Whoever waits for the disk finds the clock advanced.
        self.dial.boot.fetch_add(disk.slow, Ordering::Relaxed);
        appended
    }

    fn replay(&self) -> Box<dyn Iterator<Item = Result<Entry, ReadError>> + '_> {
        let disk = self.disk.lock();
        let entries = (1..).zip(&disk.records).skip(disk.covered());
        let entries: Vec<(u64, Arc<[u8]>)> =
            entries.map(|(sequence, payload)| (sequence, Arc::clone(payload))).collect();
        entries_of(entries)
    }

    fn newest(&self) -> u64 {
        self.disk.lock().newest()
    }

    fn snapshot(&self) -> Result<Option<Compacted>, ReadError> {
        let disk = self.disk.lock();
        let compacted = disk.bases.last().map(|base| Compacted {
            records: base.covers as u64,
            snapshot: base.snapshot.to_vec(),
        });
        Ok(compacted)
    }

    fn story(&self) -> Box<dyn Iterator<Item = Result<Entry, ReadError>> + '_> {
        let disk = self.disk.lock();
        entries_of(disk.bases.last().map_or_else(Vec::new, |base| base.story.to_vec()))
    }

    fn wants_snapshot(&self) -> bool {
        let disk = self.disk.lock();
        let behind = disk.records.len() - disk.covered();
        disk.rhythm > 0 && disk.coming.is_none() && behind >= disk.rhythm
    }

    fn compact(&self, is_story: fn(&[u8]) -> bool, encode: Encode) {
        let snapshot = encode();
        self.disk.lock().begin_snapshot(is_story, snapshot);
    }
}

fn entries_of(
    entries: Vec<(u64, Arc<[u8]>)>,
) -> Box<dyn Iterator<Item = Result<Entry, ReadError>>> {
    let entries = entries.into_iter();
    Box::new(
        entries
            .map(|(sequence, payload)| Ok(Entry { sequence, payload: payload.to_vec() })),
    )
}
