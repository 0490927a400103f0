//! Machines: their clocks, and the disks that journals are on.
//!
//! # Invariants
//!
//! * What an append has returned is on the disk whatever happens; of one that failed it is
//!   chance whether it is.
//! * An append is kept whole or not at all, as the journal's frames see to.
//! * Steady time never goes back; the wall clock does what it likes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_core::time::{Span, TimeSource, Timestamp};
use tidegate_journal::{AppendError, Entry, Log, ReadError, StoreError};

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

    /// Somebody sets the wall clock.
    pub(crate) fn set_wall(&mut self, off: i64) {
        self.wall_off = off;
    }
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

    /// What was put away comes back.
    pub(crate) fn restore(&mut self, records: Vec<Arc<[u8]>>) {
        self.records = records;
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
        self.records.extend(payloads.iter().map(|it| Arc::from(it.as_slice())));
        self.waited += self.slow;
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
            self.records.extend(payloads.iter().map(|it| Arc::from(it.as_slice())));
        }
        self.failed = true;
        self.met.push(what);
        let source = Arc::new(StoreError::Sync(std::io::Error::other(what)));
        Err(AppendError::Failed { count: payloads.len(), after, source })
    }

    fn newest(&self) -> u64 {
        self.records.len() as u64
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
        self.lock().failed = false;
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
        let records = self.disk.lock().records.clone();
        let entries = records
            .into_iter()
            .zip(1..)
            .map(|(payload, sequence)| Ok(Entry { sequence, payload: payload.to_vec() }));
        Box::new(entries)
    }

    fn newest(&self) -> u64 {
        self.disk.lock().newest()
    }
}
