//! Bugs put back on purpose: the simulator must find every one of them.

use std::process::Command;

use tidegate_core::planted::Bug;

use crate::hours::{Span, live_all};
use crate::{fleets, number};

/// Seeds within which a bug must be found.
const SEEDS_MAX: u64 = 4_000;

#[test]
fn every_planted_bug_is_found() {
    std::panic::set_hook(Box::new(|_| ()));
    let fleets = fleets();
    let to = number("TIDEGATE_SEEDS").unwrap_or(SEEDS_MAX).min(SEEDS_MAX);
    let mut missed = Vec::new();
    // One bug by its name, for whoever looks into it.
    let named = std::env::var("TIDEGATE_BUG").ok();
    let wanted =
        |bug: &Bug| named.as_ref().is_none_or(|named| *named == format!("{bug:?}"));
    for bug in Bug::ALL.into_iter().filter(wanted) {
        let span = Span { to, bug: Some(bug), ..Span::ONCE };
        match live_all(span, &fleets).broken.pop_first() {
            Some((seed, violation)) => {
                let seeds = seed + 1;
                let text: String = violation.text.chars().take(90).collect();
                eprintln!("  bug {bug:?}: {seeds} seeds, {}: {text}", violation.promise);
            }
            None => missed.push(bug),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not found within {to} seeds: {missed:?}");
}

#[test]
fn no_build_of_the_program_has_planted_bugs() {
    let told = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "tidegate", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p} [{f}]"])
        .output()
        .unwrap();

    let tree = String::from_utf8_lossy(&told.stdout);
    let core: Vec<&str> =
        tree.lines().filter(|line| line.starts_with("tidegate-core ")).collect();

    assert!(!core.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
    assert!(core.iter().all(|line| line.contains("[]")), "{core:?}");
}
