//! Bounded: every target on every seed file, and on some thousand others made of them by chance.
//!
//! Each run takes other chances and tells them where one fails. `TIDEGATE_FUZZ_SEED` begins with a
//! number, `TIDEGATE_FUZZ_RUNS` takes so many from there on.
//!
//! # Invariants
//!
//! * An input follows from its number: a failure is lived again with the command that it prints.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::mutation::mutated;

/// What one target takes in a debug build: a second or two.
const RUNS: u64 = 4_000;

/// Where seed files are, a directory for each target.
const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds");

#[test]
fn any_bytes_are_a_uid_list() {
    run("uidlist", "any_bytes_are_a_uid_list", super::uidlist);
}

#[test]
fn any_bytes_are_a_file_name() {
    run("name", "any_bytes_are_a_file_name", super::name);
}

#[test]
fn any_bytes_are_a_table_of_keywords() {
    run("keywords", "any_bytes_are_a_table_of_keywords", super::keywords);
}

#[test]
fn any_bytes_are_a_dbox_file() {
    run("dbox", "any_bytes_are_a_dbox_file", super::dbox);
}

#[test]
fn any_bytes_are_an_index() {
    run("index", "any_bytes_are_an_index", super::index);
}

#[test]
fn any_bytes_are_a_cache() {
    run("cache", "any_bytes_are_a_cache", super::cache);
}

#[test]
fn any_bytes_are_a_list_of_folders() {
    run("folders", "any_bytes_are_a_list_of_folders", super::folders);
}

#[test]
fn any_bytes_are_a_message() {
    run("message", "any_bytes_are_a_message", super::message);
}

#[test]
fn any_bytes_are_a_compressed_message() {
    run("packed", "any_bytes_are_a_compressed_message", super::packed);
}

#[test]
fn any_bytes_are_a_signed_body() {
    run("dkim", "any_bytes_are_a_signed_body", super::dkim);
}

#[test]
fn any_bytes_are_a_body_of_several_parts() {
    run("mime", "any_bytes_are_a_body_of_several_parts", super::mime);
}

#[test]
fn any_bytes_are_a_manifest() {
    run("manifest", "any_bytes_are_a_manifest", super::manifest);
}

#[test]
fn any_bytes_are_a_list_of_digests() {
    run("import", "any_bytes_are_a_list_of_digests", super::import);
}

#[test]
fn any_bytes_are_a_list_of_findings() {
    run("findings", "any_bytes_are_a_list_of_findings", super::findings);
}

fn run(target: &str, test: &str, check: fn(&[u8])) {
    let mut paths: Vec<_> = fs::read_dir(Path::new(SEEDS).join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let first = setting("TIDEGATE_FUZZ_SEED").unwrap_or_else(by_clock);
    let runs = setting("TIDEGATE_FUZZ_RUNS").unwrap_or(RUNS);
    for (path, bytes) in paths.iter().zip(&seeds) {
        lived(check, bytes, &format!("the seed file {}", path.display()));
    }
    for seed in (first..).take(usize::try_from(runs).unwrap()) {
        let command = format!(
            "TIDEGATE_FUZZ_SEED={seed} TIDEGATE_FUZZ_RUNS=1 cargo test -p tidegate-mail {test}"
        );
        lived(check, &mutated(&seeds, seed), &command);
    }
}

/// Tells how to live a failure again, with the bytes for a file of their own among the seeds.
#[expect(clippy::print_stderr, reason = "a failure says how to live it again")]
fn lived(check: fn(&[u8]), bytes: &[u8], how: &str) {
    let ended = catch_unwind(AssertUnwindSafe(|| check(bytes)));
    if let Err(panic) = ended {
        eprintln!("again: {how}\nbytes: b\"{}\"", bytes.escape_ascii());
        resume_unwind(panic);
    }
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Other chances each time, so that every run of the tests finds a little more.
fn by_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() << 20
}
