//! What the journal costs: appending against a bare file on the same disk, space over a long
//! rollout, opening after many records, memory, and how long appends wait for a compaction.
//!
//! `cargo run --release -p tidegate-journal --example journal_figures [DIRECTORY]`
#![expect(clippy::print_stdout, reason = "a program for people at a console")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate_journal::{Journal, Kind, Rhythm, Snapshot};

/// How long each line of the rates is measured.
const MEASURE: Duration = Duration::from_secs(2);

/// A record of a batch of settled mailboxes, about.
const RECORD_BYTES: usize = 200;

/// Records of one append while a rollout is under way.
const GROUP: usize = 256;

/// One in so many records is of the story.
const STORY_ONE_IN: u64 = 4_096;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("journal-figures").tempdir_in(base)?;
    rates(dir.path())?;
    growth(dir.path())?;
    openings(dir.path())
}

/// Appends, as ratios to one record and one `fdatasync` at a time on a bare file.
fn rates(dir: &Path) -> Outcome<()> {
    let bare = bare_rate(File::create(dir.join("bare"))?)?;
    println!("bare write + fdatasync            {bare:>9.0} records/s   1.00");
    for (callers, records) in [(1, 1), (1, 64), (16, 1), (64, 1)] {
        let journal = dir.join(format!("journal-{callers}-{records}"));
        let rate = journal_rate(&journal, callers, records)?;
        let ratio = rate / bare;
        println!(
            "journal, {callers:>2} callers x {records:>2} records    {rate:>9.0} records/s   {ratio:.2}"
        );
    }
    Ok(())
}

/// Two million records, once with a snapshot in the usual rhythm and once without.
fn growth(dir: &Path) -> Outcome<()> {
    println!("\nrecords     payload MB   disk MB  ratio   memory MB   slowest append ms");
    for compacting in [true, false] {
        println!("{}", if compacting { "compacting itself" } else { "never compacted" });
        let path = dir.join(format!("growth-{compacting}"));
        let journal = Journal::open(&path, &kind())?;
        let last = if compacting { 2_000_000 } else { 500_000 };
        let (mut report_at, mut slowest) = (125_000, Duration::ZERO);
        while journal.head().sequence < last {
            let next = journal.head().sequence + 1;
            let group: Vec<_> = (next..next + GROUP as u64).map(record).collect();
            let started = Instant::now();
            journal.append(&group)?;
            slowest = slowest.max(started.elapsed());
            if compacting && journal.appender().wants_snapshot(Rhythm::USUAL) {
                compact(&journal)?;
            }
            if journal.head().sequence >= report_at {
                report_at *= 2;
                let records = journal.head().sequence;
                let payload = megabytes(records * RECORD_BYTES as u64);
                let disk = megabytes(size_of(&path)?);
                println!(
                    "{records:>9}  {payload:>10.1} {disk:>9.1} {:>6.2}  {:>10.0}  {:>18.1}",
                    disk / payload,
                    resident_megabytes(),
                    slowest.as_secs_f64() * 1_000.0
                );
                slowest = Duration::ZERO;
            }
        }
    }
    Ok(())
}

/// How long opening and reading takes after so many records, against a bare read of them.
fn openings(dir: &Path) -> Outcome<()> {
    println!("\nrecords    whole ms   compacted ms   ratio   lock after drop ms");
    for records in [10_000_u64, 100_000, 1_000_000] {
        let mut times = Vec::new();
        for compacting in [false, true] {
            let path = dir.join(format!("open-{records}-{compacting}"));
            let journal = Journal::open(&path, &kind())?;
            while journal.head().sequence < records {
                let next = journal.head().sequence + 1;
                let group: Vec<_> = (next..next + 4_096).map(record).collect();
                journal.append(&group)?;
                if compacting && journal.appender().wants_snapshot(Rhythm::USUAL) {
                    compact(&journal)?;
                }
            }
            await_compaction(&journal);
            if compacting {
                compact(&journal)?;
                await_compaction(&journal);
            }
            drop(journal);
            let started = Instant::now();
            let journal = Journal::open(&path, &kind())?;
            journal.snapshot()?;
            let read = journal.story().chain(journal.replay());
            for entry in read {
                entry?;
            }
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
            drop(journal);
            let started = Instant::now();
            drop(Journal::open(&path, &kind())?);
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
            fs::remove_dir_all(&path)?;
        }
        if let [whole, _, compacted, again] = times[..] {
            let ratio = compacted / whole;
            println!(
                "{records:>7}  {whole:>9.0}  {compacted:>12.0}  {ratio:>6.2}  {again:>18.0}"
            );
        }
    }
    Ok(())
}

/// A snapshot of a megabyte, as of a million mailboxes.
fn compact(journal: &Journal) -> Outcome<()> {
    let is_story = |payload: &[u8]| payload.first() == Some(&1);
    let covers = journal.head();
    journal.appender().compact(Snapshot { covers, body: vec![5; 1 << 20], is_story })?;
    Ok(())
}

fn await_compaction(journal: &Journal) {
    while journal.appender().is_compacting() {
        std::thread::yield_now();
    }
}

fn record(sequence: u64) -> Vec<u8> {
    let mut record = vec![u8::from(sequence.is_multiple_of(STORY_ONE_IN))];
    // Bytes that no file system makes smaller.
    let noise = (0_u64..).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ sequence);
    record.extend(noise.flat_map(u64::to_le_bytes).take(RECORD_BYTES - 1));
    record
}

/// One record, one `fdatasync`, again: what the disk allows a single writer.
fn bare_rate(mut file: File) -> std::io::Result<f64> {
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < MEASURE {
        file.write_all(&[7; RECORD_BYTES])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

fn journal_rate(dir: &Path, callers: usize, records: usize) -> Outcome<f64> {
    let journal = Journal::open(dir, &kind())?;
    let payloads = vec![vec![7; RECORD_BYTES]; records];
    let started = Instant::now();
    let counts = std::thread::scope(|scope| {
        let append = || {
            let mut count = 0_u32;
            while started.elapsed() < MEASURE && journal.append(&payloads).is_ok() {
                count += u32::try_from(records).unwrap_or(u32::MAX);
            }
            count
        };
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(append)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum::<u32>()
    });
    Ok(f64::from(counts) / started.elapsed().as_secs_f64())
}

fn kind() -> Kind {
    Kind { name: "figures".to_owned(), format: 1, id: [0; 16] }
}

fn size_of(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            size_of(&entry.path())?
        } else {
            std::os::unix::fs::MetadataExt::blocks(&entry.metadata()?) * 512
        };
    }
    Ok(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The memory of this program, as Linux counts it.
fn resident_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
