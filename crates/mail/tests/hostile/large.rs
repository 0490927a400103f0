//! Large: more files than anybody has, and larger ones.
//!
//! `TIDEGATE_LONG=1 cargo test --release -p tidegate-mail --test hostile large` takes the sizes of the
//! promise: a folder of a million files, a file of 10 GB.
//!
//! # Invariants
//!
//! * Memory follows what is in flight, not what there is; the kernel says how much it was.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use tidegate_mail::{Reason, Store, StoreConfig};

use crate::child::Child;
use crate::provider::{MAILDIR, Provider, letter};
use crate::{config, prepare, prepare_at};

/// Names of one file: file systems allow 65,000.
const NAMES_MAX: u64 = 30_000;

/// Memory for a mailbox of any size: what a million messages may take.
const MEMORY_KIB_MAX: u64 = 200 * 1024;

fn is_long() -> bool {
    std::env::var_os("TIDEGATE_LONG").is_some()
}

#[test]
fn a_folder_of_very_many_files_is_prepared_in_bounded_memory() {
    let Some(_child) =
        Child::of("large::a_folder_of_very_many_files_is_prepared_in_bounded_memory")
    else {
        return;
    };
    let count = if is_long() { 1_000_000 } else { 20_000 };
    let provider = Provider::healthy();
    let sides = ["live", "snapshot"].map(|side| provider.at(side, "cur"));
    thread::scope(|scope| {
        for cur in &sides {
            scope.spawn(|| fill(cur, count));
        }
    });
    let damaged = sides[0].join("1700000007.M1P1.host,S=22,W=25:2,S");
    fs::remove_file(&damaged).unwrap();
    fs::write(damaged, b"").unwrap();
    let before = memory_kib();

    let began = Instant::now();
    let prepared = prepare(&provider).unwrap();

    assert_eq!((prepared.counts.intact, prepared.counts.repaired), (count + 7, 1));
    let (seconds, memory) = (began.elapsed().as_secs(), memory_kib());
    println!("{count} files: {seconds} s, {memory} KiB at most, {before} KiB before");
    assert!(memory < MEMORY_KIB_MAX, "{memory} KiB");
}

/// Puts so many small messages into a directory. A few files have all the names: what a test needs is
/// many entries, and links are made and removed sooner.
fn fill(cur: &Path, count: u64) {
    let mut file = PathBuf::new();
    for number in 0..count {
        let path = cur.join(format!("17{number:08}.M1P1.host,S=22,W=25:2,S"));
        if number % NAMES_MAX == 0 {
            fs::write(&path, b"Subject: small\n\nsmall\n").unwrap();
            file = path;
        } else {
            fs::hard_link(&file, path).unwrap();
        }
    }
}

#[test]
fn a_very_large_file_is_read_in_bounded_memory_or_not_at_all() {
    let Some(_child) =
        Child::of("large::a_very_large_file_is_read_in_bounded_memory_or_not_at_all")
    else {
        return;
    };
    let size: u64 = if is_long() { 10_000_000_000 } else { 300_000_000 };
    let provider = Provider::healthy();
    let path = provider.find("live", "", &letter(1).base).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    let name = format!("1795000070.M70P1.host,S={size},W={size}:2,S");
    File::create(provider.at("live", "cur").join(name)).unwrap().set_len(size).unwrap();

    let began = Instant::now();
    let (unread, read) = {
        let unread = prepare(&provider).unwrap();
        let config = StoreConfig { file_size_max: u64::MAX, ..config(&provider) };
        let path = provider.find("live", "", &letter(2).base).unwrap();
        File::options().write(true).open(path).unwrap().set_len(size).unwrap();
        let store = Store::open(config).unwrap();
        (unread, prepare_at(&store, MAILDIR).unwrap())
    };

    assert_eq!((unread.counts.repaired, unread.counts.set_aside), (1, 1));
    let reason = unread.set_aside[0].reason().unwrap();
    assert!(matches!(reason, Reason::TooLarge { .. }), "{reason}");
    assert!(unread.bytes_read < 1_000_000, "{} bytes were read", unread.bytes_read);
    assert_eq!(read.counts.repaired, 1);
    let (seconds, memory) = (began.elapsed().as_secs(), memory_kib());
    println!("{size} bytes: {seconds} s, {memory} KiB at most");
    assert!(memory < MEMORY_KIB_MAX, "{memory} KiB");
}

/// The most memory that this process has had.
fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
