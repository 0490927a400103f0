//! Place: where a program keeps its files, as the kernel sees it.
//!
//! # Invariants
//!
//! * Nothing is left behind: what is tried on a file system is a file without a name.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};

use super::chart::{Chart, Trouble};

/// Below this share of a disk, room is doubtful: the gate holds at a twentieth.
const FREE_PERCENT_MIN: u64 = 10;

/// File systems that are on other machines, by their magic numbers: NFS, SMB (two), CIFS, 9P,
/// Ceph, Lustre, GFS2, OCFS2, AFS, Coda.
const NETWORK: [u64; 11] = [
    0x6969,
    0x517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x0102_1997,
    0x00c3_6400,
    0x0bd0_0bd0,
    0x0116_1970,
    0x7461_636f,
    0x5346_414f,
    0x7375_7245,
];

/// `tmpfs` and `ramfs`, which are empty after a restart.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// FUSE, which may be anything.
const FUSE: u64 = 0x6573_5546;

/// A directory that somebody keeps something in.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    /// What the check is called.
    pub(super) check: &'static str,
    /// Where.
    pub(super) path: &'a Path,
    /// Whether only its owner may look inside.
    pub(super) is_private: bool,
}

/// Whether a directory is there, and who may get in.
pub(super) fn directory(chart: &mut Chart, kept: Kept<'_>) -> Option<fs::Metadata> {
    let Kept { check, path, is_private } = kept;
    let name = path.display();
    let found = match fs::metadata(path) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => {
            let seen = format!("`{name}` is no directory");
            let remedy = "name a directory in the configuration";
            chart.fail(check, Trouble::new(seen, "the program does not start", remedy));
            return None;
        }
        Err(error) => {
            let seen = format!("`{name}`: {error}");
            let remedy = format!("install -d -m 0700 -o USER -g USER {name}");
            chart.fail(check, Trouble::new(seen, "the program does not start", remedy));
            return None;
        }
    };
    let mode = found.mode() & 0o7777;
    let seen = format!("`{name}`, mode {mode:04o}, owner {}", found.uid());
    if is_private && mode & 0o002 != 0 {
        let means = "everybody on this machine can change what it says";
        chart.fail(check, Trouble::new(seen, means, format!("chmod 0700 {name}")));
    } else if is_private && mode & 0o007 != 0 {
        let means = "everybody on this machine can look into it";
        chart.warn(check, Trouble::new(seen, means, format!("chmod 0700 {name}")));
    } else {
        chart.ok(check, seen);
    }
    Some(found)
}

/// Whether a journal can live on this file system.
pub(super) fn journal_disk(chart: &mut Chart, check: &'static str, path: &Path) {
    let name = path.display();
    let Some(magic) = magic(path) else { return };
    let elsewhere = "give it a directory on a local disk";
    if NETWORK.contains(&magic) {
        let seen = format!("`{name}` is on another machine (file system {magic:#x})");
        let means =
            "locks and flushes do not hold there: acknowledged records can be lost";
        return chart.fail(check, Trouble::new(seen, means, elsewhere));
    }
    if MEMORY.contains(&magic) {
        let seen = format!("`{name}` is in memory");
        let means = "after a restart of the machine nothing is known of any mailbox";
        return chart.fail(check, Trouble::new(seen, means, elsewhere));
    }
    if magic == FUSE {
        let seen = format!("`{name}` is on a FUSE file system");
        let means = "whether flushes hold there is its program's affair";
        return chart.warn(check, Trouble::new(seen, means, elsewhere));
    }
    chart.ok(check, format!("a local file system ({magic:#x})"));
}

/// Whether a disk has room, for bytes and for files.
pub(super) fn room(chart: &mut Chart, check: &'static str, path: &Path) {
    let name = path.display();
    let Ok(found) = rustix::fs::statvfs(path) else { return };
    let percent = |free: u64, all: u64| free.saturating_mul(100).checked_div(all);
    let bytes = percent(found.f_bavail, found.f_blocks).unwrap_or(100);
    // File systems that make inodes as they need them say that they have none.
    let files = percent(found.f_favail, found.f_files).unwrap_or(100);
    let free_gib = found.f_bavail.saturating_mul(found.f_frsize) >> 30;
    let seen = format!("{free_gib} GiB ({bytes} %) and {files} % of the inodes are free");
    if bytes.min(files) < FREE_PERCENT_MIN {
        let means = "below 5 % the gate holds; what is replaced is kept there";
        let remedy = format!("make room on the file system of {name}");
        return chart.warn(check, Trouble::new(seen, means, remedy));
    }
    chart.ok(check, seen);
}

/// Whether reading mail writes to the disk.
pub(super) fn access_times(chart: &mut Chart, path: &Path) {
    let Ok(found) = rustix::fs::statvfs(path) else { return };
    let flags = found.f_flag;
    if flags.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RELATIME) {
        return chart
            .ok("worker.atime", "reading mail does not write to the disk each time");
    }
    let trouble = Trouble::new(
        format!("`{}` is mounted with access times", path.display()),
        "verifying reads all mail, and each read writes",
        "mount it with noatime",
    );
    chart.warn("worker.atime", trouble);
}

/// Whether the snapshot cannot be written.
pub(super) fn read_only(chart: &mut Chart, path: &Path) {
    let flags = rustix::fs::statvfs(path).map(|it| it.f_flag);
    if flags.is_ok_and(|it| it.contains(StatVfsMountFlags::RDONLY)) {
        return chart.ok("worker.snapshot", format!("`{}`, read only", path.display()));
    }
    let trouble = Trouble::new(
        format!("`{}` could be written", path.display()),
        "it is the last good copy, and a slip of somebody's destroys it",
        "mount it read-only (mount -o remount,ro,bind)",
    );
    chart.warn("worker.snapshot", trouble);
}

/// Whether copies share their bytes, which is a trait and not a fault.
pub(super) fn sharing(chart: &mut Chart, path: &Path) {
    let seen = match shares(path) {
        Ok(()) => "copies share their bytes (reflink)",
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOTTY) => {
            "copies take room of their own (no reflink)"
        }
        Err(_) => "whether copies share their bytes cannot be told from here",
    };
    chart.ok("worker.reflink", seen);
}

/// Clones a file without a name into another one.
fn shares(dir: &Path) -> rustix::io::Result<()> {
    let nameless = || -> rustix::io::Result<OwnedFd> {
        rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR | Mode::WUSR)
    };
    let (from, to) = (nameless()?, nameless()?);
    rustix::io::write(&from, &[7; 4096])?;
    rustix::fs::ioctl_ficlone(&to, &from)
}

/// Whether a program has the lock of its journal now, and which one. The lock itself is left
/// alone: a program that starts at this moment would find it taken.
pub(super) fn lock(chart: &mut Chart, check: &'static str, dir: &Path) {
    let path = dir.join("journal/lock");
    let found = match fs::metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return chart.ok(check, "there is none yet: the first start makes it");
        }
        Err(error) => {
            let seen = format!("`{}`: {error}", path.display());
            let means = "it is not known whether the program could open it";
            let remedy = "run this as the program's own user, or as root";
            return chart.fail(check, Trouble::new(seen, means, remedy));
        }
    };
    match process_of(&found) {
        Some(process) => chart.ok(check, format!("in use by process {process}")),
        None => chart.ok(check, "no program has it open now"),
    }
}

/// The process that has the journal in this directory open.
pub(super) fn journal_process(dir: &Path) -> Option<String> {
    process_of(&fs::metadata(dir.join("journal/lock")).ok()?)
}

fn process_of(lock: &fs::Metadata) -> Option<String> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let found = locks.lines().find_map(|line| holder(line, lock.ino()));
    found.map(str::to_owned)
}

/// The process of `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`, if it is about this file.
fn holder(line: &str, inode: u64) -> Option<&str> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let is_ours = words.next()? == "FLOCK" && words.nth(1)? == "WRITE";
    let (process, place) = (words.next()?, words.next()?);
    (is_ours && place.rsplit(':').next()?.parse() == Ok(inode)).then_some(process)
}

fn magic(path: &Path) -> Option<u64> {
    let found = rustix::fs::statfs(path).ok()?;
    // The kernel's numbers have 32 bits; some machines extend the sign.
    Some(u64::from_ne_bytes(found.f_type.to_ne_bytes()) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::holder;

    #[test]
    fn whoever_has_a_file_is_found_in_the_list_of_locks() {
        let line = "3: FLOCK  ADVISORY  WRITE 4711 fe:00:131074 0 EOF";

        assert_eq!(holder(line, 131_074), Some("4711"));
        assert_eq!(holder(line, 131_075), None);
        assert_eq!(holder(&line.replace("FLOCK", "POSIX"), 131_074), None);
    }
}
