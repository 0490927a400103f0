//! Shrink: from an hour that breaks a promise to a short one that still breaks it.
//!
//! # Invariants
//!
//! * What is left out is left out of the same list: the seed and the rest stay as they were.
//! * The same promise must break, or it would be another story.

use tidegate_core::planted::Bug;

use crate::faults::Planned;
use crate::hours::live_one;
use crate::world::{Outcome, Script};

/// Lives after which the shortest so far must do.
const LIVES_MAX: usize = 60;

/// The same hour with as few faults as break the same promise, and its story.
pub(crate) fn shrink(script: &Script, bug: Option<Bug>) -> (Script, Outcome) {
    let mut lives = 0;
    let promise = live_one(script, bug).violation.map(|it| it.promise);
    let mut still_breaks = |faults: &[Planned]| {
        lives += 1;
        let shorter = Script { faults: faults.to_vec(), ..script.clone() };
        lives <= LIVES_MAX
            && live_one(&shorter, bug).violation.map(|it| it.promise) == promise
    };
    let mut faults = script.faults.clone();
    leave_out_kinds(&mut faults, &mut still_breaks);
    leave_out_runs(&mut faults, &mut still_breaks);
    let shortest = Script { faults, telling: true, ..script.clone() };
    let outcome = live_one(&shortest, bug);
    (shortest, outcome)
}

fn leave_out_kinds(
    faults: &mut Vec<Planned>,
    still_breaks: &mut dyn FnMut(&[Planned]) -> bool,
) {
    let mut kinds: Vec<_> = faults.iter().map(|it| it.fault.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let others = faults.iter().filter(|it| it.fault.kind() != kind);
        let others: Vec<Planned> = others.copied().collect();
        if others.len() < faults.len() && still_breaks(&others) {
            *faults = others;
        }
    }
}

fn leave_out_runs(
    faults: &mut Vec<Planned>,
    still_breaks: &mut dyn FnMut(&[Planned]) -> bool,
) {
    let mut length = faults.len() / 2;
    while length > 0 {
        let mut from = 0;
        while from < faults.len() {
            let mut others = faults.clone();
            others.drain(from..(from + length).min(faults.len()));
            if still_breaks(&others) {
                *faults = others;
            } else {
                from += length;
            }
        }
        length /= 2;
    }
}
