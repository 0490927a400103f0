//! Findings: what the mail store says of a mailbox, in the words of the rollout.
//!
//! # Invariants
//!
//! * A refusal that may pass by itself tells nothing: its mailbox is tried again.
//! * What is told of one mailbox is bounded; the list beside its manifest is not.

use tidegate_core::fleet::Ordinal;
use tidegate_core::holding::{ProbeTask, Settled};
use tidegate_core::rollout::{
    Finding, FindingKind, Grade, Grades, MessageTotals, Origin,
};
use tidegate_core::time::Timestamp;
use tidegate_mail::{FindingKind as Kind, Mailbox, Prepared, Refusal};

/// The most findings told of one mailbox: so many fit a report and a record. The list in the
/// store has all of them.
const FINDINGS_PER_MAILBOX_MAX: usize = 500;

/// What is told of a mailbox; nothing if it must be tried again, which may be `given_up`.
pub(crate) fn settled(
    (ordinal, mailbox): (Ordinal, &Mailbox),
    result: Result<Prepared, Refusal>,
    given_up: bool,
) -> Option<Settled> {
    match result {
        Ok(prepared) => Some(Settled {
            ordinal,
            stamp: Some(prepared.stamp.0),
            totals: totals(&prepared),
            findings: findings(ordinal, &prepared),
        }),
        Err(refusal) if is_temporary(&refusal) && !given_up => None,
        Err(refusal) => Some(Settled {
            ordinal,
            stamp: None,
            totals: MessageTotals {
                grades: Grades::one(Grade::Poor),
                ..MessageTotals::default()
            },
            findings: vec![Finding {
                ordinal,
                kind: FindingKind::Quarantined,
                folder: String::new(),
                uid: None,
                name: String::new(),
                code: refusal.code().to_owned(),
                reason: mailbox.unnamed(&refusal.to_string()),
                size_bytes: 0,
                kept_at: String::new(),
                origin: Origin::default(),
            }],
        }),
    }
}

/// Whether trying again later may succeed by itself.
pub(crate) fn is_temporary(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NoSpace { .. }
            | Refusal::Exhausted { .. }
            | Refusal::Changed { .. }
            | Refusal::Busy { .. }
            | Refusal::Fenced { .. }
    )
}

/// Whether a refusal that may pass by itself is about the mailbox, and not about the disk or
/// the claim.
pub(crate) fn is_its_own(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Changed { .. })
}

fn totals(prepared: &Prepared) -> MessageTotals {
    let counts = &prepared.counts;
    MessageTotals {
        intact: counts.intact,
        repaired: counts.repaired,
        returned: counts.returned,
        newer: counts.newer,
        deleted: counts.deleted,
        set_aside: counts.set_aside,
        lost: counts.lost,
        bytes_read: prepared.bytes_read,
        doubts: prepared.doubts.len() as u64,
        grades: Grades::one(grade(prepared.grade())),
    }
}

fn grade(grade: tidegate_mail::Grade) -> Grade {
    match grade {
        tidegate_mail::Grade::Perfect => Grade::Perfect,
        tidegate_mail::Grade::Good => Grade::Good,
        tidegate_mail::Grade::Investigate => Grade::Investigate,
        tidegate_mail::Grade::Poor => Grade::Poor,
    }
}

fn findings(ordinal: Ordinal, prepared: &Prepared) -> Vec<Finding> {
    let all = prepared.set_aside.iter().chain(&prepared.doubts);
    all.take(FINDINGS_PER_MAILBOX_MAX).map(|found| told(ordinal, found)).collect()
}

fn told(ordinal: Ordinal, found: &tidegate_mail::Finding) -> Finding {
    let received = found.received.and_then(|seconds| seconds.checked_mul(1_000));
    Finding {
        ordinal,
        kind: match found.kind() {
            Kind::SetAside => FindingKind::SetAside,
            Kind::Lost => FindingKind::Lost,
            Kind::Doubt => FindingKind::Doubt,
        },
        folder: found.folder.clone(),
        uid: found.uid,
        name: found.name.clone(),
        code: found.cause.code().to_owned(),
        reason: found.cause.to_string(),
        size_bytes: found.size_bytes.unwrap_or(0),
        kept_at: found.kept_at.clone().unwrap_or_default(),
        origin: Origin {
            received_at: received.map(Timestamp::from_millis),
            source: found.source.code().to_owned(),
            rungs: found.rungs.to_string(),
        },
    }
}

/// What a probe that failed tells.
pub(crate) fn alarm(task: ProbeTask, code: &str, reason: String) -> Finding {
    Finding {
        ordinal: task.ordinal,
        kind: FindingKind::Probe,
        folder: String::new(),
        uid: None,
        name: String::new(),
        code: code.to_owned(),
        reason,
        size_bytes: 0,
        kept_at: String::new(),
        origin: Origin::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_set_aside_as_a_whole_is_poor_and_one_that_must_wait_tells_nothing() {
        let ordinal = Ordinal::new(3);
        let path = "example.org/ann/Maildir".to_owned();

        let mailbox = Mailbox {
            key: 3,
            address: "ann@example.org".to_owned(),
            path: path.clone().into_bytes(),
            served: false,
        };
        let told =
            |refusal, given_up| settled((ordinal, &mailbox), Err(refusal), given_up);
        let settled_as =
            |refusal, given_up| told(refusal, given_up).map(|it| it.totals.grades);

        let poor = Some(Grades::one(Grade::Poor));
        let gone = Refusal::NotThere { path: path.clone() };
        assert_eq!(settled_as(gone, false), poor);
        let odd = Refusal::NotRegular { path: format!("{path}/cur") };
        let reasons = [Refusal::NotThere { path: path.clone() }, odd].map(|refusal| {
            let findings = told(refusal, false).unwrap().findings;
            findings.into_iter().map(|it| it.reason).collect::<String>()
        });
        assert!(reasons.iter().all(|reason| !reason.contains("ann")), "{reasons:?}");
        assert_eq!(reasons[0], "no mailbox at its path, live or in the snapshot");
        assert_eq!(settled_as(Refusal::NoSpace { path: path.clone() }, false), None);
        assert_eq!(settled_as(Refusal::Exhausted { path: path.clone() }, false), None);
        let changed = || Refusal::Changed { path: path.clone() };
        assert_eq!(settled_as(changed(), false), None);
        assert_eq!(settled_as(changed(), true), poor);
    }
}
