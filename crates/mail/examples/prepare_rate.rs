//! How fast mailboxes are prepared, against a bare read of the same files:
//! `prepare_rate DIR [MAILBOXES]`.
//!
//! # Invariants
//!
//! * Both sides read the same files in the same run, with two threads, from a warm cache; so the
//!   ratio says what comparing, hashing and bookkeeping cost, whatever the disk.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_lab::{LabSpec, Provider, build};
use tidegate_mail::{Mailbox, PrepareTask, Store, StoreConfig};

/// Mailboxes of one call, as a worker takes them.
const BATCH: usize = 50;

/// Threads that read or prepare.
const HANDS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root: PathBuf = arguments.next().ok_or("which directory?")?.into();
    let mailboxes = arguments.next().map_or(Ok(1_500), |number| number.parse())?;
    let spec = LabSpec { mailboxes, nodes: 1, ..LabSpec::default() };
    let provider = build(&root, &spec, &mut |_| {})?;
    let home = provider.nodes.first().ok_or("no node")?;

    let mut files = Vec::new();
    for side in [&home.live, &home.snapshot] {
        mails(side, &mut files)?;
    }
    bare_read(&files)?;
    let (bare, bytes) = bare_read(&files)?;
    tell("bare read", &files, bytes, bare);
    let work = root.join("rate-work");
    fs::create_dir_all(&work)?;
    let (live, snapshot) = (home.live.clone(), Some(home.snapshot.clone()));
    let store =
        Store::open(StoreConfig { live, snapshot, work, file_size_max: 1 << 30 })?;
    for what in ["first prepare", "prepare again"] {
        let (took, bytes) = prepare(&store, &provider)?;
        tell(what, &files, bytes, took);
        println!(
            "  {:.2} of the bare read's rate",
            bare.as_secs_f64() / took.as_secs_f64()
        );
    }
    Ok(())
}

fn tell(what: &str, files: &[PathBuf], bytes: u64, took: Duration) {
    let count = u32::try_from(files.len()).map_or(0.0, f64::from);
    let mib = u32::try_from(bytes >> 20).map_or(0.0, f64::from);
    println!(
        "{what}: {count} files, {mib} MiB read in {took:.2?}: {:.0} files/s, {:.0} MiB/s",
        count / took.as_secs_f64(),
        mib / took.as_secs_f64()
    );
}

/// The files in `cur` and `new` at any depth.
fn mails(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let holds_mail = dir.ends_with("cur") || dir.ends_with("new");
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            mails(&entry.path(), found)?;
        } else if kind.is_file() && holds_mail {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn bare_read(files: &[PathBuf]) -> std::io::Result<(Duration, u64)> {
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        let read = || -> std::io::Result<()> {
            let mut buffer = vec![0; 128 << 10];
            while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut file = File::open(path)?;
                loop {
                    let length = file.read(&mut buffer)?;
                    bytes.fetch_add(length as u64, Ordering::Relaxed);
                    if length == 0 {
                        break;
                    }
                }
            }
            Ok(())
        };
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(read)).collect();
        let failed = |_| std::io::Error::other("a thread panicked");
        hands.into_iter().try_for_each(|hand| hand.join().map_err(failed)?)
    })?;
    Ok((start.elapsed(), bytes.into_inner()))
}

/// Prepares every mailbox in batches; the time, and the bytes of mail read.
fn prepare(
    store: &Store,
    provider: &Provider,
) -> Result<(Duration, u64), Box<dyn Error>> {
    let (job, generation, holder) = (1, 1, "rate");
    store.claim(job, generation, holder)?;
    let mailboxes: Vec<Mailbox> = (1..)
        .zip(&provider.truth.mailboxes)
        .map(|(key, mailbox)| Mailbox {
            key,
            address: mailbox.address.clone(),
            path: mailbox.path.clone().into_bytes(),
            served: false,
        })
        .collect();
    let batches: Vec<&[Mailbox]> = mailboxes.chunks(BATCH).collect();
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        let work = || {
            while let Some(mailboxes) = batches.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let task = PrepareTask { job, generation, holder, mailboxes };
                for prepared in store.prepare(&task)?.into_iter().flatten() {
                    bytes.fetch_add(prepared.bytes_read, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(work)).collect();
        let failed = |_| Box::<dyn Error>::from("a thread panicked");
        let join = |result: thread::Result<Result<(), tidegate_mail::FlushFailed>>| {
            result.map_err(failed)?.map_err(Box::<dyn Error>::from)
        };
        hands.into_iter().try_for_each(|hand| join(hand.join()))
    })?;
    Ok((start.elapsed(), bytes.into_inner()))
}
