//! Verdicts as they are kept: as their evidence, which is judged again when it is read.

use tidegate_core::gate::{Evidence, Verdict, judge};
use tidegate_core::policy::Policy;
use tidegate_core::rollout::{Action, Record};
use tidegate_core::time::Timestamp;

use super::{RecordError, evidence, node};
use crate::journal::v1 as past;
use crate::protocol::present;

pub(super) fn expanded(
    kept: past::Expanded,
    policy: &Policy,
) -> Result<Record, RecordError> {
    let evidence = evidence(present("evidence", kept.evidence)?)?;
    let at = Timestamp::from_millis(kept.at_millis);
    match judge(&evidence, &policy.gate_of(&evidence), at).verdict {
        Verdict::Expand => Ok(Record::Expanded { evidence, at }),
        other @ (Verdict::Hold(_) | Verdict::Isolate { .. } | Verdict::Halt(_)) => {
            Err(other_verdict("expand", &evidence, &other))
        }
    }
}

/// It must still be a hold that people may answer for.
pub(super) fn overridden(
    kept: past::Overridden,
    policy: &Policy,
) -> Result<Record, RecordError> {
    let action: Action = present("action", kept.action)?.try_into()?;
    let evidence = evidence(present("evidence", kept.evidence)?)?;
    let judgement = judge(&evidence, &policy.gate_of(&evidence), action.at);
    match judgement.unanswerable() {
        None => Ok(Record::Overridden { action, evidence }),
        Some(_) => Err(other_verdict("overridden", &evidence, &judgement.verdict)),
    }
}

pub(super) fn node_isolated(
    kept: past::NodeIsolated,
    policy: &Policy,
) -> Result<Record, RecordError> {
    let evidence = evidence(present("evidence", kept.evidence)?)?;
    let at = Timestamp::from_millis(kept.at_millis);
    let named = node(kept.node)?;
    match judge(&evidence, &policy.gate_of(&evidence), at).verdict {
        Verdict::Isolate { node, why } if node == named => {
            Ok(Record::NodeIsolated { node, reason: why, evidence, at })
        }
        other @ (Verdict::Expand
        | Verdict::Hold(_)
        | Verdict::Isolate { .. }
        | Verdict::Halt(_)) => Err(other_verdict("isolate", &evidence, &other)),
    }
}

pub(super) fn halted(kept: past::Halted, policy: &Policy) -> Result<Record, RecordError> {
    let evidence = evidence(present("evidence", kept.evidence)?)?;
    let at = Timestamp::from_millis(kept.at_millis);
    match judge(&evidence, &policy.gate_of(&evidence), at).verdict {
        Verdict::Halt(reason) => Ok(Record::Halted { reason, evidence, at }),
        other @ (Verdict::Expand | Verdict::Hold(_) | Verdict::Isolate { .. }) => {
            Err(other_verdict("halt", &evidence, &other))
        }
    }
}

fn other_verdict(
    kept: &'static str,
    evidence: &Evidence,
    recomputed: &Verdict,
) -> RecordError {
    let recomputed = recomputed.to_string();
    RecordError::OtherVerdict { kept, wave: evidence.wave, recomputed }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{every_mailbox, healthy};
    use super::super::{decode_record, encode_record};
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_795_302_000_000);

    #[test]
    fn a_hold_for_want_of_samples_is_read_as_overridden_and_nothing_else_is() {
        let mut policy = every_mailbox();
        policy.gate.sessions_min = 1;
        let action = Action {
            by: "ann".to_owned(),
            reason: "nobody is awake".to_owned(),
            at: AT,
            request: None,
            approved: None,
        };
        let read = |evidence: Evidence| {
            let record = Record::Overridden { action: action.clone(), evidence };
            let read = decode_record(&encode_record(&record), &policy);
            read.map(|read| assert_eq!(read, record)).map_err(|error| error.to_string())
        };
        let held = healthy();
        let mut silent = held.clone();
        silent.nodes[0].reported_at = None;
        let mut failed = held.clone();
        failed.nodes[0].integrity_failed = 1;

        assert_eq!(read(held), Ok(()));
        let refused = decode_record(
            &encode_record(&Record::Overridden {
                action: action.clone(),
                evidence: healthy(),
            }),
            &every_mailbox(),
        );
        assert!(refused.unwrap_err().to_string().contains("its evidence says `expand`"));
        for (evidence, says) in [(silent, "hold: "), (failed, "halt: ")] {
            let refused = read(evidence).unwrap_err();
            let verdict =
                "recompute the verdict `overridden` of wave 0: its evidence says";
            assert!(refused.starts_with(&format!("{verdict} `{says}")), "{refused}");
        }
    }
}
