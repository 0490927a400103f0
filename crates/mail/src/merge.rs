//! Merge: which version of a message is the message.
//!
//! # Invariants
//!
//! * Pure: everything it needs is in [`Evidence`].
//! * Evidence counts in this order: the digest recorded while the message was good; sizes and
//!   content judged on each side; the snapshot, which was taken before the fault.
//! * No good bytes on any side are ever given up for damaged ones.

use crate::digest::Digest;
use crate::judge::Findings;
use crate::reason::Reason;

/// All that is known of one message: one base name in one folder.
#[derive(Debug, Clone)]
pub(crate) struct Evidence<'a> {
    /// The live file.
    pub(crate) live: Option<&'a Findings>,
    /// The snapshot's file.
    pub(crate) snapshot: Side<'a>,
    /// The digest in the mailbox's manifest.
    pub(crate) recorded: Option<Digest>,
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

/// Decides one message.
pub(crate) fn decide(evidence: &Evidence<'_>) -> Decision {
    match evidence.live {
        Some(live) => decide_present(evidence, live),
        None => decide_missing(evidence),
    }
}

fn decide_present(evidence: &Evidence<'_>, live: &Findings) -> Decision {
    if let Some(recorded) = evidence.recorded {
        return decide_recorded(evidence, live, recorded);
    }
    let snapshot = match evidence.snapshot {
        Side::Absent | Side::Unread => {
            return live.fault().map_or(Decision::Newer, Decision::SetAside);
        }
        Side::Read(snapshot) => snapshot,
    };
    if live.digest.is_some() && live.digest == snapshot.digest {
        return match live.fault_though_identical() {
            Some(reason) => Decision::SetAside(reason),
            None => Decision::Intact,
        };
    }
    match (live.fault(), snapshot.fault()) {
        (None, Some(_)) => Decision::Intact,
        (Some(_), None) => Decision::Repair { doubtful: false },
        (Some(_), Some(_)) => Decision::SetAside(Reason::BothSidesBad),
        (None, None) if live.oddities < snapshot.oddities => Decision::Intact,
        (None, None) => Decision::Repair { doubtful: true },
    }
}

fn decide_recorded(
    evidence: &Evidence<'_>,
    live: &Findings,
    recorded: Digest,
) -> Decision {
    let in_snapshot = match evidence.snapshot {
        Side::Absent => None,
        Side::Unread => Some(None),
        Side::Read(snapshot) => Some(snapshot.digest),
    };
    if live.digest == Some(recorded) {
        return if in_snapshot.is_some() { Decision::Intact } else { Decision::Newer };
    }
    if in_snapshot == Some(Some(recorded)) {
        return Decision::Repair { doubtful: false };
    }
    Decision::SetAside(live.fault().unwrap_or(Reason::Altered))
}

fn decide_missing(evidence: &Evidence<'_>) -> Decision {
    if evidence.served {
        return Decision::Deleted;
    }
    let findings = match (evidence.snapshot, evidence.listing) {
        (Side::Absent, _) => return Decision::Lost(Reason::Missing),
        (Side::Unread, _) | (Side::Read(_), Listing::Unlisted) => {
            return Decision::Deleted;
        }
        (Side::Read(findings), Listing::Listed | Listing::Unknown) => findings,
    };
    let recorded = findings.digest.is_some() && findings.digest == evidence.recorded;
    match findings.fault() {
        Some(reason) if !recorded => Decision::Lost(reason),
        Some(_) | None => {
            Decision::Return { doubtful: evidence.listing == Listing::Unknown }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = [1; 16];
    const B: Digest = [2; 16];
    const NUL: Reason = Reason::NulRun { offset: 0, length: 512 };

    fn good(digest: Digest) -> Findings {
        Findings { digest: Some(digest), ..Findings::default() }
    }

    fn bad(digest: Digest, reason: Reason) -> Findings {
        Findings { digest: Some(digest), faults: vec![reason], ..Findings::default() }
    }

    fn odd(digest: Digest) -> Findings {
        Findings { digest: Some(digest), oddities: 1, ..Findings::default() }
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
            recorded,
            listing,
            served,
        };
        assert_eq!(decide(&evidence), expected, "{evidence:?}");
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
}
