//! How fast a journal takes durable records, against a bare file on the same disk.
//!
//! `cargo run --release -p tidegate-journal --example append_rate [DIRECTORY]`
#![expect(clippy::print_stdout, reason = "a program for people at a console")]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidegate_journal::{Journal, Kind};

/// How long each line is measured.
const MEASURE: Duration = Duration::from_secs(2);

/// A record of a batch of settled mailboxes, about.
const RECORD_BYTES: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("append-rate").tempdir_in(base)?;

    let bare = bare_rate(File::create(dir.path().join("bare"))?)?;
    println!("bare write + fdatasync            {bare:>9.0} records/s   1.00");
    for (callers, records) in [(1, 1), (1, 64), (16, 1), (64, 1)] {
        let journal = dir.path().join(format!("journal-{callers}-{records}"));
        let rate = journal_rate(&journal, callers, records)?;
        let ratio = rate / bare;
        println!(
            "journal, {callers:>2} callers x {records:>2} records    {rate:>9.0} records/s   {ratio:.2}"
        );
    }
    Ok(())
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

fn journal_rate(
    dir: &std::path::Path,
    callers: usize,
    records: usize,
) -> Result<f64, Box<dyn Error>> {
    let kind = Kind { name: "rate".to_owned(), format: 1, id: [0; 16] };
    let journal = Journal::open(dir, &kind)?;
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
