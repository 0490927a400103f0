//! Journals: files that were cut, flipped or doubled are detected, never half-read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::account::tidegate;
use crate::dice::{Dice, rounds};
use crate::fleet::{self, Fleet, Ground, Which};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_corrupt_journal_is_refused_and_nothing_opens,
    a_damaged_journal_is_never_half_read,
];

/// Damages of one journal in the ordinary run.
const DAMAGES: u64 = 40;

/// What is done to a file, and how the table names it.
const WAYS: [(&str, Damage); 5] = [
    ("a journal's file is cut", cut),
    ("a bit of a journal's file is flipped", flip),
    ("a part of a journal's file is doubled", double),
    ("a part of a journal's file is all zeros", blank),
    ("a part of a journal's file is from elsewhere in it", misplace),
];

type Damage = fn(&[u8], &mut Dice) -> Vec<u8>;

fn a_corrupt_journal_is_refused_and_nothing_opens() {
    let mut fleet = Fleet::on(Ground::small(13));
    fleet.wait_for_openings();
    fleet.kill(Which::Coordinator);
    let db = fleet.coordinator_dir().join("journal/db");
    let mut bytes = fs::read(&db).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x5a;
        }
    }
    fs::write(&db, &bytes).unwrap();

    let said = fleet.fails_to_start(Which::Coordinator);

    assert!(said.contains("journal"), "{said}");
}

fn a_damaged_journal_is_never_half_read() {
    let (seed, mut dice) = Dice::thrown("a_damaged_journal");
    let mut fleet = Fleet::on(Ground::small(seed));
    fleet.finish();
    for which in fleet.all() {
        fleet.kill(which);
    }
    let journals =
        [fleet.coordinator_dir().join("journal"), fleet.state_dir(0).join("journal")];
    let mut seen: BTreeMap<&str, (u64, u64)> = BTreeMap::new();

    for journal in journals {
        let (whole, original) = tidegate(&["journal", "export"], &journal);
        assert!(whole, "{original}");
        for _ in 0..rounds(DAMAGES) {
            let (fault, damage) = dice.one_of(&WAYS);
            let copy = fleet.path("damaged");
            fleet::copy(&journal, &copy);
            let db = copy.join("db");
            let bytes = damage(&fs::read(&db).unwrap(), &mut dice);
            fs::write(&db, &bytes).unwrap();
            let detected = is_detected_or_harmless(&copy, &original, fault);
            let (injected, refused) = seen.entry(fault).or_default();
            *injected += 1;
            *refused += u64::from(detected);
            Faults::of(fault).one_survived();
            fs::remove_dir_all(&copy).unwrap();
        }
    }
    for (fault, (injected, refused)) in &seen {
        eprintln!("{fault}: {injected} times, refused {refused}, harmless otherwise");
    }
    let refused: u64 = seen.values().map(|(_, refused)| refused).sum();
    assert!(refused > 0, "no damage was ever found");
}

/// Whether the damage is refused. If not, it must have hit nothing: every record is there.
fn is_detected_or_harmless(journal: &Path, original: &str, fault: &str) -> bool {
    let (sound, said) = tidegate(&["journal", "verify"], journal);
    if !sound {
        assert!(said.contains("error"), "{fault}: refused without a word: {said}");
        return true;
    }
    let (whole, exported) = tidegate(&["journal", "export"], journal);
    assert!(whole, "{fault}: verified, and cannot be exported: {exported}");
    assert!(exported == original, "{fault}: verified, and other records came out");
    false
}

fn cut(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    bytes.iter().take(place(bytes, dice)).copied().collect()
}

fn flip(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (at, bit) = (place(bytes, dice), dice.below(8));
    let mut bytes = bytes.to_vec();
    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
    bytes
}

fn double(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (part, at) = (part(bytes, dice), place(bytes, dice));
    let mut bytes = bytes.to_vec();
    bytes.splice(at..at, part);
    bytes
}

fn blank(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let zeros = vec![0; part(bytes, dice).len()];
    overwrite(bytes, place(bytes, dice), &zeros)
}

fn misplace(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let part = part(bytes, dice);
    overwrite(bytes, place(bytes, dice), &part)
}

fn overwrite(bytes: &[u8], at: usize, part: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.iter_mut().skip(at).zip(part).for_each(|(byte, other)| *byte = *other);
    bytes
}

/// A place where the file is in use: the rest of it is zeros that nobody reads.
fn place(bytes: &[u8], dice: &mut Dice) -> usize {
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    usize::try_from(dice.below(used as u64)).unwrap()
}

fn part(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let length = usize::try_from(1 + dice.below(4_096)).unwrap();
    bytes.iter().skip(place(bytes, dice)).take(length).copied().collect()
}
