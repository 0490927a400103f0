//! Pressure: how hard a machine and the disk under the mail are working.
//!
//! Formats: <https://docs.kernel.org/accounting/psi.html>,
//! <https://docs.kernel.org/admin-guide/iostats.html>.
//!
//! # Invariants
//!
//! * What the kernel does not tell is nothing, never zero: a machine without these files is
//!   neither idle nor broken.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{major, minor};

/// The kernel's numbers, below `/proc`.
#[derive(Debug, Clone)]
pub struct Kernel {
    proc: PathBuf,
}

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Disks.
    Io,
    /// Memory.
    Memory,
    /// Processors.
    Cpu,
}

/// How much tasks wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// When at least one task waited.
    pub some: Share,
    /// When all of them did, and nothing was done; not every kernel has it for processors.
    pub full: Option<Share>,
}

/// A share of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Of the last ten seconds, in percent.
    pub avg10_percent: f64,
    /// Since the machine started.
    pub total: Duration,
}

/// A disk, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    major: u32,
    minor: u32,
}

/// What a disk has done since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskCounters {
    /// Reads, writes and flushes that were completed.
    pub operations: u64,
    /// Milliseconds that they took, together.
    pub waited_ms: u64,
    /// Milliseconds in which the disk had anything to do.
    pub busy_ms: u64,
}

/// What a disk has done between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskWork {
    /// Reads, writes and flushes that were completed.
    pub operations: u64,
    /// How long one of them took, from being queued to its end; nothing when there was none.
    pub await_ms: Option<f64>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc") }
    }
}

impl Kernel {
    /// What `proc` tells; tests have their own.
    pub fn below(proc: &Path) -> Self {
        Self { proc: proc.to_owned() }
    }

    /// How much tasks wait for a resource.
    pub fn pressure(&self, resource: Resource) -> Option<Pressure> {
        let name = match resource {
            Resource::Io => "io",
            Resource::Memory => "memory",
            Resource::Cpu => "cpu",
        };
        let text = fs::read_to_string(self.proc.join("pressure").join(name)).ok()?;
        let line = |kind| text.lines().find_map(|line| Share::parse(line, kind));
        Some(Pressure { some: line("some")?, full: line("full") })
    }

    /// The disk that a directory lies on, if the kernel counts it.
    pub fn disk_of(&self, directory: &Path) -> Option<Disk> {
        let device = fs::metadata(directory).ok()?.dev();
        let disk = Disk { major: major(device), minor: minor(device) };
        if self.counters(disk).is_some() {
            return Some(disk);
        }
        // Some file systems, like btrfs, have a number of their own; their source is a disk.
        let mounts = fs::read_to_string(self.proc.join("self/mountinfo")).ok()?;
        let number = format!("{}:{}", disk.major, disk.minor);
        let source = mounts.lines().find_map(|line| {
            let (mount, file_system) = line.split_once(" - ")?;
            let found = mount.split(' ').nth(2) == Some(number.as_str());
            found.then(|| file_system.split(' ').nth(1)).flatten()
        })?;
        let device = fs::metadata(source).ok()?.rdev();
        let disk = Disk { major: major(device), minor: minor(device) };
        self.counters(disk).map(|_| disk)
    }

    /// What a disk has done.
    pub fn counters(&self, disk: Disk) -> Option<DiskCounters> {
        let text = fs::read_to_string(self.proc.join("diskstats")).ok()?;
        text.lines().find_map(|line| DiskCounters::parse(line, disk))
    }
}

impl Share {
    /// `some avg10=0.22 avg60=0.17 avg300=1.11 total=58761459`
    fn parse(line: &str, kind: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some(kind) {
            return None;
        }
        let (mut avg10_percent, mut total) = (None, None);
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => avg10_percent = value.parse().ok(),
                "total" => total = value.parse().ok().map(Duration::from_micros),
                _ => {}
            }
        }
        Some(Self { avg10_percent: avg10_percent?, total: total? })
    }
}

impl DiskCounters {
    /// `254 0 vda 68 0 4650 26 ...`: reads, merged, sectors, ms; writes, merged, sectors, ms;
    /// now in flight, ms busy, ms weighted; discards (4); flushes, ms.
    fn parse(line: &str, disk: Disk) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let number = |word: Option<&str>| word?.parse::<u32>().ok();
        let here = Disk { major: number(words.next())?, minor: number(words.next())? };
        if here != disk {
            return None;
        }
        let fields: Vec<u64> =
            words.skip(1).map(str::parse).collect::<Result<_, _>>().ok()?;
        let field = |at: usize| fields.get(at).copied();
        // Kernels before 5.5 do not count flushes.
        let (flushes, flush_ms) = (field(15).unwrap_or(0), field(16).unwrap_or(0));
        Some(Self {
            operations: field(0)? + field(4)? + flushes,
            waited_ms: field(3)? + field(7)? + flush_ms,
            busy_ms: field(9)?,
        })
    }

    /// What was done since an earlier reading. Counters that went back, as some do when they
    /// overflow, count for nothing.
    pub fn since(self, earlier: Self) -> DiskWork {
        let operations = self.operations.saturating_sub(earlier.operations);
        let waited = self.waited_ms.saturating_sub(earlier.waited_ms);
        let operations_u32 = u32::try_from(operations).unwrap_or(u32::MAX);
        let waited_u32 = u32::try_from(waited).unwrap_or(u32::MAX);
        let await_ms =
            (operations > 0).then(|| f64::from(waited_u32) / f64::from(operations_u32));
        DiskWork { operations, await_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood_and_missing_ones_are_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Kernel::below(dir.path());
        fs::create_dir(dir.path().join("pressure")).unwrap();
        let io = "some avg10=1.91 avg60=3.34 avg300=4.23 total=1848181324\n\
                  full avg10=0.00 avg60=1.00 avg300=2.12 total=790667037\n";
        fs::write(dir.path().join("pressure/io"), io).unwrap();

        let io = kernel.pressure(Resource::Io).unwrap();

        assert!((io.some.avg10_percent - 1.91).abs() < 1e-9);
        assert_eq!(io.some.total, Duration::from_micros(1_848_181_324));
        assert_eq!(io.full.unwrap().total, Duration::from_micros(790_667_037));
        assert_eq!(kernel.pressure(Resource::Memory), None);
        assert_eq!(kernel.disk_of(dir.path()), None);
    }

    #[test]
    fn a_disk_is_as_slow_as_its_operations_are() {
        let disk = Disk { major: 254, minor: 0 };
        let line = |reads, read_ms, writes, write_ms, flushes, flush_ms| {
            format!(
                " 254       0 vda {reads} 9 70 {read_ms} {writes} 5 80 {write_ms} 0 33 44 \
                 0 0 0 0 {flushes} {flush_ms}"
            )
        };
        let read = |line: &str| DiskCounters::parse(line, disk).unwrap();
        let before = read(&line(10, 20, 30, 40, 2, 6));
        let after = read(&line(20, 120, 40, 140, 7, 56));

        let work = after.since(before);

        assert_eq!((work.operations, before.busy_ms), (25, 33));
        assert!((work.await_ms.unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(after.since(after).await_ms, None);
        assert_eq!(before.since(after).operations, 0);
        let old = " 254 0 vda 1 2 3 4 5 6 7 8 9 10 11";
        assert_eq!(read(old).operations, 6);
        assert_eq!(DiskCounters::parse(old, Disk { major: 8, minor: 0 }), None);
    }

    #[test]
    fn this_machine_answers_or_says_nothing() {
        let kernel = Kernel::default();
        if let Some(disk) = kernel.disk_of(Path::new("/")) {
            let counters = kernel.counters(disk).unwrap();
            assert!(counters.operations > 0);
        }
        if let Some(io) = kernel.pressure(Resource::Io) {
            assert!((0.0..=100.0).contains(&io.some.avg10_percent));
        }
    }
}
