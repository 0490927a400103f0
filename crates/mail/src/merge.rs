//! Merge: which version of a message is the message.
//!
//! # Invariants
//!
//! * Pure: everything it needs is in [`Evidence`].
//! * Evidence counts in this order: the fingerprint recorded while the message was good; a signed
//!   hash that one side's body has and the other's, signed alike, has not; sizes and content
//!   judged on each side; any signed hash or sound checksum that only one side has; structure;
//!   the snapshot, which was taken before the fault.
//! * A seal is of a body, or of whatever was stored: it shows that the other side is bad, never
//!   that a fault is none.
//! * No good bytes on any side are ever given up for damaged ones.

use std::cmp::Ordering;

use crate::digest::Fingerprint;
use crate::judge::{Findings, Rungs};
use crate::reason::Reason;

/// All that is known of one message: one base name in one folder.
#[derive(Debug, Clone)]
pub(crate) struct Evidence<'a> {
    /// The live file.
    pub(crate) live: Option<&'a Findings>,
    /// The snapshot's file.
    pub(crate) snapshot: Side<'a>,
    /// What the mailbox's manifest has of it.
    pub(crate) recorded: Option<Fingerprint>,
    /// What the UID lists say, if it is missing live.
    pub(crate) listing: Listing,
    /// The mailbox was open since its manifest was made, so that its user may have deleted mail.
    pub(crate) served: bool,
}

/// What lists and indexes say of a message that is missing live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    /// The live side still lists it: it was lost.
    Listed,
    /// A sound live side has let it go: it was deleted.
    Unlisted,
    /// The live side cannot tell.
    Unknown,
}

/// What is known of the snapshot's file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side<'a> {
    /// There is none.
    Absent,
    /// It is there, and reading it would not change the decision.
    Unread,
    /// It was read.
    Read(&'a Findings),
}

/// What becomes of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The live file is good.
    Intact,
    /// The live file is good and the snapshot does not know it.
    Newer,
    /// The snapshot's bytes under the live file's name.
    Repair {
        /// Both looked good.
        doubtful: bool,
    },
    /// The snapshot's file, lost live.
    Return {
        /// It may have been deleted on purpose.
        doubtful: bool,
    },
    /// Missing on purpose.
    Deleted,
    /// The live file is bad and no good bytes are known under its name.
    SetAside(Reason),
    /// No bytes live, and none that are good in the snapshot.
    Lost(Reason),
}

/// A decision and what it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    /// Evidence for the bytes that are served; or, if none are, against those that are not.
    pub(crate) rungs: Rungs,
}

impl Verdict {
    fn new(decision: Decision, rungs: Rungs) -> Self {
        Self { decision, rungs }
    }

    fn deleted() -> Self {
        Self::new(Decision::Deleted, Rungs::NONE)
    }
}

/// Decides one message.
pub(crate) fn decide(evidence: &Evidence<'_>) -> Verdict {
    match evidence.live {
        Some(live) => decide_recorded(evidence, live)
            .unwrap_or_else(|| decide_present(evidence.snapshot, live)),
        None => decide_missing(evidence),
    }
}

/// What the manifest says; nothing if it does not know the message.
fn decide_recorded(evidence: &Evidence<'_>, live: &Findings) -> Option<Verdict> {
    let recorded = &evidence.recorded?;
    let in_live = live.matches(recorded)?;
    let manifest = Rungs::MANIFEST;
    if in_live && live.storage_fault().is_none() {
        let newer = matches!(evidence.snapshot, Side::Absent);
        let decision = if newer { Decision::Newer } else { Decision::Intact };
        return Some(Verdict::new(decision, manifest | live.stood));
    }
    if let Side::Read(snapshot) = evidence.snapshot
        && snapshot.matches(recorded)?
        && snapshot.storage_fault().is_none()
    {
        let repair = Decision::Repair { doubtful: false };
        return Some(Verdict::new(repair, manifest | snapshot.stood));
    }
    // Where both sides agree against a list made elsewhere, the list is of something else.
    let ours = matches!(recorded, Fingerprint::Xxh3(_));
    if let Side::Read(snapshot) = evidence.snapshot
        && !ours
        && live.raw.is_some()
        && live.raw == snapshot.raw
    {
        return None;
    }
    let reason = live.fault().unwrap_or(Reason::Altered);
    Some(Verdict::new(Decision::SetAside(reason), manifest | live.fell))
}

fn decide_present(snapshot: Side<'_>, live: &Findings) -> Verdict {
    let snapshot = match snapshot {
        Side::Absent | Side::Unread => {
            return match live.fault() {
                None => Verdict::new(Decision::Newer, live.stood),
                Some(reason) => Verdict::new(Decision::SetAside(reason), live.fell),
            };
        }
        Side::Read(snapshot) => snapshot,
    };
    let same = live.digest.is_some() && live.digest == snapshot.digest;
    if same && live.raw == snapshot.raw {
        return match live.fault_though_identical() {
            None => Verdict::new(Decision::Intact, Rungs::AGREEMENT | live.stood),
            Some(reason) => Verdict::new(Decision::SetAside(reason), live.fell),
        };
    }
    let bad = |it: &Findings, other| {
        it.fault_beside(other).is_some() || it.is_disproved_by(other)
    };
    let intact = Verdict::new(Decision::Intact, live.stood);
    let repair = Verdict::new(Decision::Repair { doubtful: false }, snapshot.stood);
    match (bad(live, snapshot), bad(snapshot, live)) {
        (false, true) => intact,
        (true, false) => repair,
        (true, true) => {
            let against = live.fell | snapshot.fell;
            Verdict::new(Decision::SetAside(Reason::BothSidesBad), against)
        }
        (false, false) if same => {
            Verdict::new(Decision::Intact, Rungs::AGREEMENT | live.stood)
        }
        (false, false) => match preferred(live, snapshot) {
            Some(Preferred::Live) => intact,
            Some(Preferred::Snapshot) => repair,
            None => {
                let rungs = Rungs::SNAPSHOT | snapshot.stood;
                Verdict::new(Decision::Repair { doubtful: true }, rungs)
            }
        },
    }
}

enum Preferred {
    Live,
    Snapshot,
}

/// Of two versions that both may be the message, the one that the strongest evidence that tells
/// them apart is for.
fn preferred(live: &Findings, snapshot: &Findings) -> Option<Preferred> {
    // A seal of one message tells nothing of another one in its place, and a structure nothing either.
    if live.is_another_than(snapshot) {
        return None;
    }
    let seals = [Rungs::DKIM, Rungs::CHECKSUM];
    for rung in seals.into_iter().filter(|_| live.is_named_like(snapshot)) {
        match (live.stood.contains(rung), snapshot.stood.contains(rung)) {
            (true, false) => return Some(Preferred::Live),
            (false, true) => return Some(Preferred::Snapshot),
            (true, true) | (false, false) => {}
        }
    }
    match live.oddities.cmp(&snapshot.oddities) {
        Ordering::Less => Some(Preferred::Live),
        Ordering::Greater => Some(Preferred::Snapshot),
        Ordering::Equal => None,
    }
}

fn decide_missing(evidence: &Evidence<'_>) -> Verdict {
    if evidence.served {
        return Verdict::deleted();
    }
    let findings = match (evidence.snapshot, evidence.listing) {
        (Side::Absent, _) => {
            return Verdict::new(Decision::Lost(Reason::Missing), Rungs::NONE);
        }
        (Side::Unread, _) | (Side::Read(_), Listing::Unlisted) => {
            return Verdict::deleted();
        }
        (Side::Read(findings), Listing::Listed | Listing::Unknown) => findings,
    };
    let recorded = evidence.recorded.and_then(|recorded| findings.matches(&recorded));
    let doubtful = evidence.listing == Listing::Unknown;
    let back = Decision::Return { doubtful };
    match (recorded, findings.fault()) {
        (Some(true), _) => Verdict::new(back, Rungs::MANIFEST | findings.stood),
        (Some(false) | None, Some(reason)) => {
            Verdict::new(Decision::Lost(reason), findings.fell)
        }
        (Some(false), None) => {
            Verdict::new(Decision::Lost(Reason::Altered), Rungs::MANIFEST | findings.fell)
        }
        (None, None) => Verdict::new(back, Rungs::SNAPSHOT | findings.stood),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::judge::Seal;

    const A: Digest = [1; 16];
    const B: Digest = [2; 16];
    const NUL: Reason = Reason::NulRun { offset: 0, length: 512 };

    /// The names of both sides' messages are alike.
    const ID: Option<Digest> = Some([9; 16]);

    fn good(digest: Digest) -> Findings {
        Findings { digest: Some(digest), message_id: ID, ..Findings::default() }
    }

    fn bad(digest: Digest, reason: Reason) -> Findings {
        Findings { digest: Some(digest), faults: vec![reason], ..Findings::default() }
    }

    fn odd(digest: Digest) -> Findings {
        Findings { oddities: 1, ..good(digest) }
    }

    fn check(
        live: impl Into<Option<Findings>>,
        snapshot: impl Into<Option<Findings>>,
        expected: Decision,
    ) {
        let evidence = (None, Listing::Listed, false);
        check_with(live, snapshot, evidence, expected);
    }

    fn check_with(
        live: impl Into<Option<Findings>>,
        snapshot: impl Into<Option<Findings>>,
        (recorded, listing, served): (Option<Digest>, Listing, bool),
        expected: Decision,
    ) {
        let (live, snapshot) = (live.into(), snapshot.into());
        let evidence = Evidence {
            live: live.as_ref(),
            snapshot: snapshot.as_ref().map_or(Side::Absent, Side::Read),
            recorded: recorded.map(Fingerprint::from),
            listing,
            served,
        };
        assert_eq!(decide(&evidence).decision, expected, "{evidence:?}");
    }

    #[test]
    fn both_sides_present_are_decided_by_their_faults() {
        let repair = |doubtful| Decision::Repair { doubtful };
        let wrong_w = Reason::WrongVirtualSize { expected: 1, found: 2 };

        check(Some(good(A)), Some(good(A)), Decision::Intact);
        check(Some(bad(A, NUL)), Some(good(B)), repair(false));
        check(Some(good(A)), Some(bad(B, NUL)), Decision::Intact);
        check(Some(good(A)), Some(good(B)), repair(true));
        check(Some(good(A)), Some(odd(B)), Decision::Intact);
        check(
            Some(bad(A, NUL)),
            Some(bad(B, NUL)),
            Decision::SetAside(Reason::BothSidesBad),
        );
        check(Some(bad(A, NUL)), Some(bad(A, NUL)), Decision::SetAside(NUL));
        check(Some(bad(A, wrong_w)), Some(bad(A, wrong_w)), Decision::Intact);
        check(
            Some(bad(A, Reason::ForeignBytes)),
            Some(bad(A, Reason::ForeignBytes)),
            Decision::Intact,
        );
        check(Some(good(A)), None, Decision::Newer);
        check(Some(bad(A, NUL)), None, Decision::SetAside(NUL));
    }

    #[test]
    fn whole_bytes_in_a_broken_store_of_them_are_stored_again() {
        let stored = |raw, faults| Findings { raw: Some(raw), faults, ..good(A) };
        let broken = || stored(B, vec![Reason::BadChecksum]);
        let repair = Decision::Repair { doubtful: false };
        let recorded = (Some(A), Listing::Listed, false);

        check(Some(broken()), Some(stored(A, Vec::new())), repair);
        check(Some(stored(A, Vec::new())), Some(broken()), Decision::Intact);
        check(Some(stored(A, Vec::new())), Some(stored(B, Vec::new())), Decision::Intact);
        check_with(Some(broken()), Some(stored(A, Vec::new())), recorded, repair);
    }

    #[test]
    fn both_sides_together_outrank_a_list_made_elsewhere() {
        let listed = |other| Findings {
            raw: Some(A),
            fingerprints: vec![Fingerprint::Sha256([other; 32])],
            ..good(A)
        };
        let decide = |snapshot: Option<&Findings>| {
            let evidence = Evidence {
                live: Some(&listed(1)),
                snapshot: snapshot.map_or(Side::Absent, Side::Read),
                recorded: Some(Fingerprint::Sha256([9; 32])),
                listing: Listing::Listed,
                served: false,
            };
            decide(&evidence).decision
        };

        assert_eq!(decide(Some(&listed(1))), Decision::Intact);
        assert_eq!(decide(None), Decision::SetAside(Reason::Altered));
    }

    #[test]
    fn a_missing_message_comes_back_unless_its_deletion_is_proved() {
        let back = |doubtful| Decision::Return { doubtful };

        check(None, Some(good(A)), back(false));
        check(None, Some(bad(A, NUL)), Decision::Lost(NUL));
        check(None, None, Decision::Lost(Reason::Missing));
        let unknown = (None, Listing::Unknown, false);
        check_with(None, Some(good(A)), unknown, back(true));
        let unlisted = (None, Listing::Unlisted, false);
        check_with(None, Some(good(A)), unlisted, Decision::Deleted);
    }

    #[test]
    fn a_recorded_digest_outranks_everything() {
        let recorded = (Some(A), Listing::Listed, false);

        check_with(Some(bad(A, NUL)), Some(good(B)), recorded, Decision::Intact);
        check_with(
            Some(good(B)),
            Some(good(A)),
            recorded,
            Decision::Repair { doubtful: false },
        );
        check_with(
            Some(good(B)),
            Some(good(B)),
            recorded,
            Decision::SetAside(Reason::Altered),
        );
        check_with(
            None,
            Some(bad(A, NUL)),
            recorded,
            Decision::Return { doubtful: false },
        );
    }

    #[test]
    fn what_is_missing_after_the_mailbox_was_open_was_deleted_by_its_user() {
        let served = (Some(A), Listing::Listed, true);

        check_with(None, Some(good(A)), served, Decision::Deleted);
    }

    const HASH: [u8; 32] = [7; 32];

    fn sealed(digest: Digest, hash: [u8; 32], holds: bool) -> Findings {
        let stood = Rungs::DKIM.when(holds);
        Findings { seals: vec![Seal { hash, holds, whole: true }], stood, ..good(digest) }
    }

    fn sound(digest: Digest) -> Findings {
        Findings { stood: Rungs::CHECKSUM, ..good(digest) }
    }

    /// Either way round: `better` is taken from whichever side has it, and on what it stands.
    fn check_better(better: &Findings, worse: &Findings, rungs: Rungs) {
        let evidence = |live, snapshot| Evidence {
            live: Some(live),
            snapshot: Side::Read(snapshot),
            recorded: None,
            listing: Listing::Listed,
            served: false,
        };
        let repair = Decision::Repair { doubtful: false };
        assert_eq!(
            decide(&evidence(better, worse)),
            Verdict::new(Decision::Intact, rungs)
        );
        assert_eq!(decide(&evidence(worse, better)), Verdict::new(repair, rungs));
    }

    #[test]
    fn rung_manifest_outranks_seals_sizes_and_snapshot() {
        let (live, snapshot) = (bad(A, NUL), sealed(B, HASH, true));
        let evidence = Evidence {
            live: Some(&live),
            snapshot: Side::Read(&snapshot),
            recorded: Some(Fingerprint::Xxh3(A)),
            listing: Listing::Listed,
            served: false,
        };

        let kept = decide(&evidence);
        let neither = decide(&Evidence { recorded: Some([3; 16].into()), ..evidence });

        assert_eq!(kept, Verdict::new(Decision::Intact, Rungs::MANIFEST));
        assert_eq!(neither, Verdict::new(Decision::SetAside(NUL), Rungs::MANIFEST));
    }

    #[test]
    fn rung_manifest_of_another_maker_counts_where_it_was_made_of_both_sides() {
        let imported = Fingerprint::Sha256([9; 32]);
        let with = |fingerprint| Findings { fingerprints: vec![fingerprint], ..good(A) };
        let other = Findings { digest: Some(B), ..with(Fingerprint::Sha256([8; 32])) };
        let decided = |live: &Findings, snapshot: &Findings| {
            let (live, snapshot) = (Some(live), Side::Read(snapshot));
            let recorded = Some(imported);
            let listing = Listing::Listed;
            decide(&Evidence { live, snapshot, recorded, listing, served: false })
                .decision
        };

        assert_eq!(decided(&with(imported), &other), Decision::Intact);
        assert_eq!(
            decided(&other, &with(imported)),
            Decision::Repair { doubtful: false }
        );
        assert_eq!(decided(&other, &other), Decision::SetAside(Reason::Altered));
        assert_eq!(decided(&good(A), &good(B)), Decision::Repair { doubtful: true });
    }

    #[test]
    fn rung_manifest_condemns_the_only_copy_of_a_lost_message() {
        let recorded = (Some(A), Listing::Listed, false);

        check_with(None, Some(good(B)), recorded, Decision::Lost(Reason::Altered));
    }

    #[test]
    fn rung_dkim_disproves_the_side_whose_own_signature_fails() {
        check_better(&sealed(A, HASH, true), &sealed(B, HASH, false), Rungs::DKIM);
    }

    #[test]
    fn rung_dkim_prefers_the_only_side_whose_signature_holds() {
        check_better(&sealed(A, HASH, true), &odd(B), Rungs::DKIM);
        check_better(&sealed(A, HASH, true), &good(B), Rungs::DKIM);
    }

    #[test]
    fn rung_dkim_is_mute_where_lists_have_changed_the_body() {
        let doubtful = Decision::Repair { doubtful: true };

        check(sealed(A, HASH, false), sealed(B, HASH, false), doubtful);
        check(sealed(A, HASH, false), good(B), doubtful);
        check(sealed(A, HASH, true), sealed(B, [8; 32], true), doubtful);
    }

    #[test]
    fn rung_dkim_does_not_excuse_another_whole_message_or_a_damaged_header() {
        let foreign =
            Findings { faults: vec![Reason::ForeignBytes], ..sealed(A, HASH, true) };
        let zeroed = Findings { faults: vec![NUL], ..sealed(A, HASH, true) };

        check(foreign, good(B), Decision::Repair { doubtful: false });
        check(zeroed, sealed(B, HASH, false), Decision::SetAside(Reason::BothSidesBad));
    }

    #[test]
    fn rung_dkim_and_checksum_do_not_prefer_another_message_in_its_place() {
        let named = |id: Digest, findings| Findings { message_id: Some(id), ..findings };
        let doubtful = Decision::Repair { doubtful: true };

        check(named(A, sealed(A, HASH, true)), named(B, good(B)), doubtful);
        check(named(A, sound(A)), named(B, good(B)), doubtful);
        check(named(A, good(A)), named(B, odd(B)), doubtful);
        check(Findings { message_id: None, ..sealed(A, HASH, true) }, good(B), doubtful);
        check(named(A, sealed(A, HASH, true)), named(A, good(B)), Decision::Intact);
    }

    #[test]
    fn rung_checksum_prefers_the_only_side_that_has_a_sound_one() {
        check_better(&sound(A), &good(B), Rungs::CHECKSUM);
        check_better(&sound(A), &odd(B), Rungs::CHECKSUM);
        check(sound(A), sound(B), Decision::Repair { doubtful: true });
    }

    #[test]
    fn rung_checksum_that_fails_is_a_fault() {
        check_better(&sound(A), &bad(B, Reason::BadChecksum), Rungs::CHECKSUM);
        check(bad(A, Reason::BadChecksum), None, Decision::SetAside(Reason::BadChecksum));
    }

    #[test]
    fn rung_size_decides_against_a_checksum_of_something_else() {
        let size = Findings { stood: Rungs::SIZE, ..good(A) };
        let cut = Reason::Truncated { expected: 9, found: 1 };

        check_better(&size, &bad(B, cut), Rungs::SIZE);
        check_better(&size, &Findings { faults: vec![cut], ..sound(B) }, Rungs::SIZE);
    }

    #[test]
    fn rung_virtual_size_decides_unless_both_sides_have_it_wrong_alike() {
        let wrong = |found| Reason::WrongVirtualSize { expected: 1, found };
        let right = Findings { stood: Rungs::VIRTUAL_SIZE, ..good(A) };
        let both = |live, snapshot| Findings { faults: vec![live, snapshot], ..good(B) };

        check_better(&right, &bad(B, wrong(2)), Rungs::VIRTUAL_SIZE);
        check_better(&bad(A, wrong(2)), &both(wrong(2), NUL), Rungs::NONE);
        check(
            bad(A, wrong(2)),
            bad(B, wrong(3)),
            Decision::SetAside(Reason::BothSidesBad),
        );
    }

    #[test]
    fn rung_structure_decides_where_nothing_stronger_does() {
        check_better(&good(A), &odd(B), Rungs::NONE);
    }

    #[test]
    fn rung_recipient_decides_unless_both_sides_have_the_same_stranger() {
        let to = |digest, stranger: &[u8], faults: &[Reason]| Findings {
            stranger: Some(stranger.into()),
            faults: faults.to_vec(),
            ..good(digest)
        };
        let foreign = Reason::ForeignBytes;

        check_better(&good(A), &to(B, b"otto", &[foreign]), Rungs::NONE);
        check_better(
            &to(A, b"x", &[foreign]),
            &to(B, b"x", &[NUL, foreign]),
            Rungs::NONE,
        );
        let aside = Decision::SetAside(Reason::BothSidesBad);
        check(to(A, b"x", &[foreign]), to(B, b"y", &[foreign]), aside);
        // Bytes of one stranger on both sides, here of the right size and there not.
        let long = Reason::TooLong { expected: 3_000, found: 4_000 };
        check(to(A, b"x", &[foreign]), to(B, b"x", &[long, foreign]), aside);
        let another =
            Findings { message_id: Some([8; 16]), ..to(B, b"x", &[NUL, foreign]) };
        check(to(A, b"x", &[foreign]), another, aside);
    }

    #[test]
    fn rung_agreement_names_all_that_the_bytes_stand_on() {
        let both = Findings { stood: Rungs::SIZE | Rungs::RECIPIENT, ..good(A) };
        let verdict = decide_present(Side::Read(&both), &both);

        assert_eq!(verdict.rungs.to_string(), "size, recipient, agreement");
    }

    #[test]
    fn rung_snapshot_is_the_last_and_leaves_a_doubt() {
        let verdict = decide_present(Side::Read(&good(B)), &good(A));

        let repair = Decision::Repair { doubtful: true };
        assert_eq!(verdict, Verdict::new(repair, Rungs::SNAPSHOT));
    }
}
