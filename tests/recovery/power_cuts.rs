//! Power cuts: a file system stops taking writes at one moment, without a flush, and comes back
//! with what was on it.
//!
//! # Invariants
//!
//! * Only what was read before the cut counts as acknowledged.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::dice::{Dice, rounds};
use crate::fleet::{Fleet, Ground, Which};
use crate::machine::{self, Disk, Need};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    an_ext4_without_power_has_all_that_was_acknowledged,
    an_xfs_without_power_has_all_that_was_acknowledged,
];

/// Cuts of one rollout.
const CUTS: u64 = 8;

/// Longest pause before a cut, milliseconds: long enough for new leases and their work.
const PAUSE_MILLIS_MAX: u64 = 2_500;

const PARTS: [Part; 3] = [Part::Coordinator, Part::Worker, Part::Mail];

/// What has lost its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Coordinator,
    Worker,
    Mail,
}

fn an_ext4_without_power_has_all_that_was_acknowledged() {
    cut_power(
        "ext4",
        [
            "power cut: ext4, coordinator's journal",
            "power cut: ext4, worker's journal",
            "power cut: ext4, mail store",
        ],
    );
}

fn an_xfs_without_power_has_all_that_was_acknowledged() {
    cut_power(
        "xfs",
        [
            "power cut: xfs, coordinator's journal",
            "power cut: xfs, worker's journal",
            "power cut: xfs, mail store",
        ],
    );
}

fn cut_power(kind: &str, names: [&'static str; 3]) {
    let faults = names.map(Faults::of);
    let tool = if kind == "xfs" { "mkfs.xfs" } else { "mkfs.ext4" };
    let needs = [Need::Root, Need::Tool("xfs_io", "-V"), Need::Tool(tool, "-V")];
    for _ in 0..rounds(1) {
        let disks = match machine::lacks(&needs) {
            Some(lack) => Err(lack),
            None => disks(kind),
        };
        match disks {
            Ok(disks) => cut_one_rollout(&disks, &faults),
            Err(lack) => return faults.iter().for_each(|fault| fault.skipped(&lack)),
        }
    }
}

fn disks(kind: &str) -> Result<[Disk; 3], String> {
    Ok([Disk::image(kind)?, Disk::image(kind)?, Disk::image(kind)?])
}

fn cut_one_rollout(disks: &[Disk; 3], faults: &[Faults; 3]) {
    let (seed, mut dice) = Dice::thrown("without_power");
    let [coordinator, state, mail] = disks;
    let mut fleet = Fleet::on(Ground {
        coordinator: Some(coordinator.path("data")),
        state: Some(state.path("state")),
        provider: Some(mail.path("provider")),
        ..Ground::small(seed)
    });
    let mut cuts = [0; 3];

    let first = dice.below(3);
    for cut in 0..CUTS {
        std::thread::sleep(Duration::from_millis(dice.below(PAUSE_MILLIS_MAX)));
        let at = usize::try_from((first + cut) % 3).unwrap();
        let known = Known::read(&fleet);
        let part = *PARTS.get(at).unwrap();
        eprintln!(
            "power cut of {part:?}: {} prepared, {} open",
            known.prepared.len(),
            known.admitted.len()
        );
        disks.get(at).unwrap().cut();
        let victims = victims(part, &fleet);
        for which in &victims {
            fleet.kill(*which);
        }
        disks.get(at).unwrap().power_on();
        known.is_on_disk(part, &fleet, faults.get(at).unwrap());
        for which in victims {
            fleet.restart(which);
        }
        known.is_kept(&fleet);
        faults.get(at).unwrap().injected(1);
        *cuts.get_mut(at).unwrap() += 1;
    }

    fleet.account(faults.last().unwrap());
    for (faults, cuts) in faults.iter().zip(cuts) {
        faults.survived(cuts);
    }
}

/// Who has files open on the disk.
fn victims(part: Part, fleet: &Fleet) -> Vec<Which> {
    match part {
        Part::Coordinator => vec![Which::Coordinator],
        Part::Worker => vec![Which::Worker(0)],
        Part::Mail => {
            fleet.all().into_iter().filter(|it| *it != Which::Coordinator).collect()
        }
    }
}

/// What was told to somebody outside.
struct Known {
    prepared: BTreeSet<String>,
    admitted: BTreeSet<String>,
    events: Vec<String>,
}

impl Known {
    fn read(fleet: &Fleet) -> Self {
        fleet.wait("the coordinator answers", |it| it.tidegate_ok(&["status"]));
        let (prepared, admitted) = (fleet.prepared(), fleet.admitted());
        Self { prepared, admitted, events: events(fleet) }
    }

    /// Whether the disk holds it, before any program has touched it.
    fn is_on_disk(&self, part: Part, fleet: &Fleet, faults: &Faults) {
        match part {
            Part::Coordinator => {}
            Part::Worker => {
                fleet.journal_keeps(0, (&self.prepared, &self.admitted), faults);
            }
            Part::Mail => fleet.account_midway(&self.prepared, faults),
        }
    }

    /// What was told is still true with everybody back; who must prove himself first does.
    fn is_kept(&self, fleet: &Fleet) {
        fleet.wait("the coordinator answers", |it| it.tidegate_ok(&["status"]));
        let now = events(fleet);
        let kept = now.get(..self.events.len());
        assert_eq!(kept, Some(&*self.events), "acknowledged events are gone");
        fleet.wait("whoever was let in is let in again", |fleet| {
            self.admitted.is_subset(&fleet.admitted())
        });
    }
}

/// What has happened so far, as operators are told.
fn events(fleet: &Fleet) -> Vec<String> {
    let said = fleet.tidegate(&["events", "-o", "jsonl"], 0);
    said.lines().map(str::to_owned).collect()
}
