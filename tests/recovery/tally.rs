//! Tally: the table of faults at the end.
//!
//! # Invariants
//!
//! * A fault counts as survived only after everything has been counted and agreed.
//! * What could not be injected is in the table too, with the reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What is known of every fault, in the order of their names.
static TABLE: Mutex<BTreeMap<&str, Line>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Line {
    injected: u64,
    survived: u64,
    counted: u64,
    lost: u64,
    skipped: Option<String>,
}

/// The faults of one test; those that are not reported as survived were not.
pub(crate) struct Faults(&'static str);

impl Faults {
    /// Faults of this name.
    pub(crate) fn of(fault: &'static str) -> Self {
        change(fault, |_| ());
        Self(fault)
    }

    /// So many were injected.
    pub(crate) fn injected(&self, count: u64) {
        change(self.0, |line| line.injected += count);
    }

    /// So many of them did no harm.
    pub(crate) fn survived(&self, count: u64) {
        change(self.0, |line| line.survived += count);
    }

    /// One was injected and did no harm.
    pub(crate) fn one_survived(&self) {
        self.injected(1);
        self.survived(1);
    }

    /// So many messages were counted, and so many of them are not as they must be.
    pub(crate) fn counted(&self, messages: u64, lost: u64) {
        change(self.0, |line| {
            line.counted += messages;
            line.lost += lost;
        });
    }

    /// This machine cannot do it.
    pub(crate) fn skipped(&self, why: &str) {
        eprintln!("SKIPPED: {}: {why}", self.0);
        change(self.0, |line| line.skipped = Some(why.to_owned()));
    }
}

/// Prints the table.
pub(crate) fn show() {
    let table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if table.is_empty() {
        return;
    }
    eprintln!(
        "{:<58}{:>9}{:>9}{:>10}{:>6}",
        "fault", "injected", "survived", "messages", "lost"
    );
    for (fault, line) in table.iter() {
        if let Some(why) = &line.skipped {
            eprintln!("{fault:<58}  SKIPPED: {why}");
        }
        if line.injected > 0 || line.skipped.is_none() {
            let Line { injected, survived, counted, lost, .. } = line;
            eprintln!("{fault:<58}{injected:>9}{survived:>9}{counted:>10}{lost:>6}");
        }
    }
}

fn change(fault: &'static str, change: impl FnOnce(&mut Line)) {
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    change(table.entry(fault).or_default());
}
