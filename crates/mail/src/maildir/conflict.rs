//! Conflict: two versions of a message that both look good, told apart by what stands elsewhere.
//!
//! # Invariants
//!
//! * Where the versions differ in one small place, or only in their length, one of them is the other with
//!   a fault in it: the one that stands elsewhere too is whole.
//! * Where they have different names or little in common, one of them is another message that was written
//!   in this one's place: the one that stands elsewhere too.
//! * Without such a witness, or with one for both, nothing changes.
//! * That the snapshot's bytes are another message's leaves a doubt: it may have been copied.

use std::collections::HashSet;

use super::case::{Case, Choice, Fate};
use super::table::Row;
use crate::digest::Digest;
use crate::doubt::DoubtKind;
use crate::finding::{Cause, Finding, Source};
use crate::judge::{BUFFER_BYTES, Rungs, fill};
use crate::merge::Decision;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stage::Bench;

/// The pieces that are compared: the smallest that disks lose.
const SECTOR_BYTES: usize = 512;

/// A flipped bit or two are a fault in a message of any size.
const FLIPPED_BYTES_MAX: u64 = 2;

/// So many pieces must a message have for one of them to be a small part of it.
const PIECES_MIN: u64 = 4;

/// Decides doubtful repairs for which there is a witness: first for the snapshot's bytes, which then bear
/// witness themselves.
pub(super) fn settle(bench: &mut Bench<'_>, cases: &mut [Case]) -> Result<(), Refusal> {
    for side in [Side::Snapshot, Side::Live] {
        let doubtful = Decision::Repair { doubtful: true };
        let mut conflicts = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            let choices = case.choices.iter();
            let rows = choices.filter(|(_, choice)| choice.decision == doubtful);
            conflicts.extend(rows.map(|(row, _)| (at, *row)));
        }
        if conflicts.is_empty() {
            return Ok(());
        }
        let good = good(cases, side);
        for (at, row) in conflicts {
            if let Some(case) = cases.get_mut(at) {
                settle_for(bench, case, (side, row), &good)?;
            }
        }
    }
    Ok(())
}

/// Decides for one side, if there is a witness for that.
fn settle_for(
    bench: &Bench<'_>,
    case: &mut Case,
    (side, row): (Side, Row),
    good: &HashSet<Digest>,
) -> Result<(), Refusal> {
    let known = |side| {
        let digest = case.findings(side, row).and_then(|it| it.digest);
        digest.is_some_and(|it| good.contains(&it) || bench.stands_elsewhere(it))
    };
    let (live, snapshot) = (known(Side::Live), known(Side::Snapshot));
    if live == snapshot {
        return Ok(());
    }
    let difference = difference(bench, case, row)?;
    let Some(fault) = difference.and_then(|it| it.is_fault()) else { return Ok(()) };
    if (live == fault) != (side == Side::Live) {
        return Ok(());
    }
    let rungs = case.table.rungs(row) | Rungs::ELSEWHERE;
    case.table.set_rungs(row, rungs);
    if side == Side::Snapshot {
        let decision = Decision::Repair { doubtful: false };
        case.choose(row, Choice { decision, twin: None, regained: false });
        return Ok(());
    }
    case.settle(row, Fate::Intact);
    if !fault {
        // The owner may have copied the snapshot's message, and the live one may be one more.
        let uid = case.lists.uid(&case.table, row);
        let cause = Cause::Doubt(DoubtKind::BothLookGood);
        let mut doubt = Finding::new((&case.name, case.table.base(row)), uid, cause);
        (doubt.source, doubt.rungs) = (Source::Live, rungs);
        case.doubts.push(doubt);
    }
    Ok(())
}

/// The bytes of the mailbox's messages of which there is no doubt. To speak against live bytes they must
/// stand on both sides: in the snapshot alone, two messages may have changed places.
fn good(cases: &[Case], side: Side) -> HashSet<Digest> {
    let mut good = HashSet::new();
    for case in cases {
        for row in case.table.iter() {
            let decision = case.choices.get(&row).map(|choice| choice.decision);
            let back = matches!(
                decision,
                Some(Decision::Repair { doubtful: false } | Decision::Return { .. })
            );
            let from = match case.fate(row) {
                Fate::Intact | Fate::Newer => Side::Live,
                Fate::Deleted => Side::Snapshot,
                Fate::Chosen if back => Side::Snapshot,
                Fate::Listed | Fate::Chosen => continue,
            };
            // What came since may be a copy that its owner made.
            if side == Side::Snapshot && case.fate(row) != Fate::Intact {
                continue;
            }
            let findings = case.findings(from, row);
            good.extend(
                findings.filter(|it| it.fault().is_none()).and_then(|it| it.digest),
            );
        }
    }
    good
}

/// How two versions of a message differ.
#[derive(Debug, Default)]
struct Difference {
    bytes: u64,
    same: u64,
    /// Bytes that only the longer one has; they differ too.
    beyond: u64,
    /// The first and last piece that differ.
    pieces: Option<(u64, u64)>,
    other_message: bool,
}

impl Difference {
    fn add(&mut self, at: u64, (left, right): (&[u8], &[u8])) {
        let pairs = left.iter().zip(right);
        let same = pairs.filter(|(left, right)| left == right).count();
        self.same += same as u64;
        let differ = left.len().max(right.len()) - same;
        self.bytes += differ as u64;
        self.beyond += left.len().abs_diff(right.len()) as u64;
        if differ > 0 {
            let (first, _) = self.pieces.unwrap_or((at, at));
            self.pieces = Some((first, at));
        }
    }

    /// One version is the other with a fault in it (`true`), or another message (`false`); nothing
    /// if that cannot be told.
    fn is_fault(&self) -> Option<bool> {
        let all = self.bytes + self.same;
        let one_piece = self.pieces.is_some_and(|(first, last)| first == last);
        let small = one_piece && all >= PIECES_MIN * SECTOR_BYTES as u64;
        let is_cut = self.bytes == self.beyond && self.same > 0;
        if self.bytes <= FLIPPED_BYTES_MAX || small || is_cut {
            return Some(true);
        }
        (self.other_message || self.same < self.bytes).then_some(false)
    }
}

/// Compares both versions of a message; nothing if they cannot be read.
fn difference(
    bench: &Bench<'_>,
    case: &Case,
    row: Row,
) -> Result<Option<Difference>, Refusal> {
    let (live, snapshot) = (case.rel(Side::Live, row), case.rel(Side::Snapshot, row));
    let Some((live, snapshot)) = live.zip(snapshot) else { return Ok(None) };
    let mut live = bench.open_mail((Side::Live, &live))?;
    let mut snapshot = bench.open_mail((Side::Snapshot, &snapshot))?;
    let (mut left, mut right) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let findings = |side| case.findings(side, row);
    let both = findings(Side::Live).zip(findings(Side::Snapshot));
    let other_message = both.is_some_and(|(live, other)| live.is_another_than(&other));
    let mut difference = Difference { other_message, ..Difference::default() };
    let mut at = 0;
    loop {
        let read = (fill(&mut live, &mut left), fill(&mut snapshot, &mut right));
        let (Ok(length), Ok(other)) = read else { return Ok(None) };
        let (left_bytes, right_bytes) = (left.get(..length), right.get(..other));
        let (Some(left_bytes), Some(right_bytes)) = (left_bytes, right_bytes) else {
            return Ok(None);
        };
        let (mut lefts, mut rights) =
            (left_bytes.chunks(SECTOR_BYTES), right_bytes.chunks(SECTOR_BYTES));
        loop {
            let (left, right) = (lefts.next(), rights.next());
            if left.is_none() && right.is_none() {
                break;
            }
            let pair = (left.unwrap_or_default(), right.unwrap_or_default());
            difference.add(at, pair);
            at += 1;
        }
        if length.min(other) < left.len() {
            return Ok(Some(difference));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(named: bool, (left, right): (&[u8], &[u8]), expected: Option<bool>) {
        let mut difference = Difference { other_message: named, ..Difference::default() };
        let piece = |bytes: &[u8], at: usize| {
            bytes.chunks(SECTOR_BYTES).nth(at).unwrap_or_default().to_vec()
        };
        for at in 0..left.len().max(right.len()).div_ceil(SECTOR_BYTES) {
            difference.add(at as u64, (&piece(left, at), &piece(right, at)));
        }
        assert_eq!(difference.is_fault(), expected);
    }

    fn mail(id: &str) -> Vec<u8> {
        let line = "a line that all messages have, for they are of one template\n";
        format!("Message-Id: <{id}@example.org>\n\n{}", line.repeat(60)).into_bytes()
    }

    #[test]
    fn a_flipped_bit_or_a_piece_written_over_is_a_fault() {
        let (whole, mut flipped, mut over) = (mail("1"), mail("1"), mail("1"));
        flipped[700] ^= 4;
        over[1024..1536].fill(b'x');

        check(false, (&whole, &flipped), Some(true));
        check(false, (&whole, &over), Some(true));
        check(false, (b"short", b"shOrt"), Some(true));
    }

    #[test]
    fn a_cut_is_a_fault_however_little_is_left() {
        let whole = mail("1");
        let padded = [&whole[..600], &vec![0; whole.len() - 600]].concat();

        check(false, (&whole, &whole[..600]), Some(true));
        check(false, (&whole[..600], &whole), Some(true));
        check(false, (&whole, &padded), Some(false));
    }

    #[test]
    fn another_name_or_other_bytes_are_another_message() {
        let mut other = mail("2222");
        other[3000] ^= 1;

        check(true, (&mail("1111"), &other), Some(false));
        let bytes = vec![b'x'; mail("1").len()];
        check(false, (&mail("1"), &bytes), Some(false));
    }

    #[test]
    fn what_differs_here_and_there_may_be_either() {
        let (whole, mut spread) = (mail("1"), mail("1"));
        spread.iter_mut().skip(100).step_by(200).for_each(|byte| *byte ^= 1);

        check(false, (&whole, &spread), None);
    }
}
