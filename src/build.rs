//! Build: tells the program which commit it is built from; nothing where it is built from files alone.
//!
//! # Invariants
//!
//! * Equal sources without a repository give equal programs: neither time nor machine is in them.

use std::path::Path;
use std::process::Command;

/// Digits that tell commits apart.
const DIGITS: &str = "--short=12";

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=TIDEGATE_COMMIT");
    // Whoever builds from a copy of the files may say what they were.
    let given = std::env::var("TIDEGATE_COMMIT").ok().filter(|it| !it.is_empty());
    let commit = given.or_else(|| {
        // Written whenever the commit becomes another one.
        let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
        if Path::new(&log).exists() {
            println!("cargo::rerun-if-changed={log}");
        }
        // Not that of a repository around ours.
        let top = git(&["rev-parse", "--show-toplevel"])?;
        let is_ours = Path::new(&top) == std::env::current_dir().ok()?;
        git(&["rev-parse", DIGITS, "HEAD"]).filter(|_| is_ours)
    });
    let shown = commit.map_or(String::new(), |commit| format!(" ({commit})"));
    println!("cargo::rustc-env=TIDEGATE_BUILT_FROM={shown}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(done.stdout).ok()?.trim().to_owned();
    (done.status.success() && !said.is_empty()).then_some(said)
}
