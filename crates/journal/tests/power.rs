//! Power: what was acknowledged survives a power cut, and so does a compaction in its midst.
//!
//! A file system in a file, ext4 and xfs, is shut down without writing anything that was not
//! flushed, as a power cut would leave it, while a program appends and compacts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::print_stderr, reason = "says where it cannot be tried")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidegate_journal::{Journal, Kind, Rhythm, Snapshot};

/// Names the directory in which a child appends.
const CHILD_DIR: &str = "TIDEGATE_POWER_CHILD_DIR";

/// Cuts of each file system; `TIDEGATE_POWER_CUTS=200` for a night.
const CUTS: u64 = 6;

/// Room for either file system's log and a journal.
const IMAGE_BYTES: u64 = 400 << 20;

#[test]
fn a_power_cut_loses_nothing_acknowledged_on_ext4() {
    cut_again_and_again(&["mkfs.ext4", "-qF"]);
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_on_xfs() {
    cut_again_and_again(&["mkfs.xfs", "-qf"]);
}

fn cut_again_and_again(mkfs: &[&str]) {
    let dir = TempDir::new().unwrap();
    let Some(disk) = Disk::new(dir.path(), mkfs) else {
        eprintln!("not tried here: loop mounts, {mkfs:?} and xfs_io are needed");
        return;
    };
    let cuts =
        std::env::var("TIDEGATE_POWER_CUTS").map_or(CUTS, |it| it.parse().unwrap());
    let mut compacted = 0;
    for cut in 0..cuts {
        let acknowledged = append_until_cut(&disk, cut);

        let journal = Journal::open(&disk.journal(), &kind()).unwrap();
        let newest = journal.head().sequence;
        assert!(newest >= acknowledged, "cut {cut}: {acknowledged} was acknowledged");
        let snapshot = journal.snapshot().unwrap();
        let covered = snapshot.map_or(0, |snapshot| {
            assert_eq!(snapshot.snapshot, body(snapshot.records));
            snapshot.records
        });
        let tail: Vec<_> = journal.replay().map(|entry| entry.unwrap()).collect();
        let story: Vec<_> = journal.story().map(|entry| entry.unwrap()).collect();
        assert_eq!(tail.len() as u64, newest - covered);
        assert_eq!(story.len() as u64, covered / 10);
        for entry in tail.iter().chain(&story) {
            assert_eq!(entry.payload, payload(entry.sequence));
        }
        compacted = covered;
    }
    assert!(compacted > 0, "no compaction came to its end");
}

/// Runs the child until it has acknowledged a number of appends, then cuts the power.
/// Returns the newest acknowledgement read before the cut.
fn append_until_cut(disk: &Disk, cut: u64) -> u64 {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .args(["--exact", "child_appends_until_cut", "--nocapture"])
        .env(CHILD_DIR, disk.journal())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut numbers = lines.filter_map(|line| {
        line.unwrap().split_once("acknowledged ")?.1.parse::<u64>().ok()
    });
    let acknowledged =
        numbers.nth(20 + usize::try_from(cut * 37 % 100).unwrap()).unwrap();
    disk.cut();
    child.kill().unwrap();
    child.wait().unwrap();
    disk.come_back();
    acknowledged
}

/// Not a test by itself: the program that is cut off.
#[test]
fn child_appends_until_cut() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let journal = Journal::open(Path::new(&dir), &kind()).unwrap();
    let rhythm = Rhythm { records: 60, bytes: 1 };
    loop {
        let next = journal.head().sequence + 1;
        let payloads: Vec<_> = (next..next + 3).map(payload).collect();
        let last = journal.append(&payloads).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {last}").and_then(|()| out.flush()).unwrap();
        if journal.appender().wants_snapshot(rhythm) {
            let covers = journal.head();
            let is_story = |payload: &[u8]| payload.first() == Some(&1);
            let snapshot = Snapshot { covers, body: body(covers.sequence), is_story };
            journal.appender().compact(snapshot).unwrap();
        }
    }
}

/// A file system in a file, mounted.
struct Disk {
    image: std::path::PathBuf,
    at: std::path::PathBuf,
}

impl Disk {
    fn new(dir: &Path, mkfs: &[&str]) -> Option<Self> {
        let disk = Self { image: dir.join("image"), at: dir.join("mounted") };
        fs::create_dir(&disk.at).unwrap();
        File::create(&disk.image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let (program, options) = mkfs.split_first().unwrap();
        let made = run(program, options, &[disk.image.as_path()]);
        (run("xfs_io", &["-V"], &[]) && made && disk.mount()).then_some(disk)
    }

    fn journal(&self) -> std::path::PathBuf {
        self.at.join("journal")
    }

    fn mount(&self) -> bool {
        run("mount", &["-o", "loop"], &[self.image.as_path(), self.at.as_path()])
    }

    /// Nothing more reaches the disk, not even what the file system knows but has not written.
    fn cut(&self) {
        assert!(run("xfs_io", &["-x", "-c", "shutdown"], &[self.at.as_path()]));
    }

    fn come_back(&self) {
        // Until the last file of the program that was killed has been closed.
        let gone = (0..1_000).any(|_| run("umount", &[], &[self.at.as_path()]));
        assert!(gone && self.mount());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l"], &[self.at.as_path()]);
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(options).args(paths).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Every tenth record is of the story, every seventh is long.
fn payload(sequence: u64) -> Vec<u8> {
    let length = if sequence.is_multiple_of(7) { 6_000 } else { 50 };
    let mut payload = vec![u8::from(sequence.is_multiple_of(10))];
    payload.extend(sequence.to_be_bytes().into_iter().cycle().take(length));
    payload
}

fn body(records: u64) -> Vec<u8> {
    records.to_be_bytes().into_iter().cycle().take(100_000).collect()
}

fn kind() -> Kind {
    Kind { name: "power".to_owned(), format: 1, id: [0; 16] }
}
