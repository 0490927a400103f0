//! What a coordinator's journal holds, as bytes and back.
//!
//! # Invariants
//!
//! * A verdict is kept as its evidence only. Reading it judges that evidence again; a
//!   record whose evidence no longer leads to its verdict is an error, never a verdict.
//! * The bytes of a record read back are the record.

use prost::Message;
use tidegate_core::fleet::{
    Generation, Incarnation, JobNumber, MailboxNumber, NodeNumber, TierNumber, WaveNumber,
};
use tidegate_core::gate::{
    Evidence, ExternalEvidence, NodeEvidence, ShortName, TierEvidence,
};
use tidegate_core::inventory::Digest;
use tidegate_core::policy::Policy;
use tidegate_core::rollout::{Action, Approval, Record, RequestId, Scope};
use tidegate_core::share::Ppm;
use tidegate_core::time::Timestamp;

use crate::journal::v1 as past;
use crate::journal::v1::coordinator_record::Record as Kept;
use crate::protocol::{ProtocolError, narrow, present, request_id};
use crate::vitals::{pulses, tell_pulses};
use crate::worker::{incarnation, level, ppm};

mod action;
mod emergency;
mod facts;
mod rebuild;
mod verdict;

use action::{approval, keep_approval, tell_request};
use emergency::{emergency_begun, keep_emergency, keep_emergency_ended};
use facts::{facts_reported, keep_facts};
use rebuild::{
    keep_accepted, keep_claims, keep_found, keep_rebuilt, keep_recounted,
    mailboxes_found, node_accepted, node_recounted,
};
use verdict::{expanded, halted, node_isolated, overridden};

/// The journal's first record: which plan was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanApplied {
    /// The plan's digest.
    pub plan: Digest,
    /// The digest of the inventory, which lies beside the journal.
    pub inventory: Digest,
    /// The policy file's text.
    pub policy_toml: String,
    /// Who applied it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What the client calls its request, if it does.
    pub request: Option<RequestId>,
    /// The second person, where one was needed.
    pub approved: Option<Approval>,
}

/// Bytes that are no record of a coordinator, or none that may be believed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the bytes of any record.
    #[error("decode a record")]
    Decode {
        /// Why.
        source: prost::DecodeError,
    },
    /// A record with a field that cannot be.
    #[error("read a record")]
    Protocol {
        /// Which field.
        #[from]
        source: ProtocolError,
    },
    /// The evidence does not lead to the verdict.
    #[error("recompute the verdict `{kept}` of {wave}: its evidence says `{recomputed}`")]
    OtherVerdict {
        /// What the record says was decided.
        kept: &'static str,
        /// The wave.
        wave: WaveNumber,
        /// What the evidence says.
        recomputed: String,
    },
    /// A record about the plan where one about the rollout belongs, or the other way round.
    #[error("read a record: {expected} was expected here")]
    OutOfPlace {
        /// What was expected.
        expected: &'static str,
    },
}

/// The bytes of the journal's first record.
pub fn encode_plan_applied(applied: &PlanApplied) -> Vec<u8> {
    let kept = past::PlanApplied {
        plan_digest: applied.plan.bytes().to_vec(),
        inventory_digest: applied.inventory.bytes().to_vec(),
        policy_toml: applied.policy_toml.clone(),
        by: applied.by.clone(),
        at_millis: applied.at.millis(),
        request_id: tell_request(applied.request.as_ref()),
        approved: keep_approval(applied.approved.as_ref()),
    };
    past::CoordinatorRecord { record: Some(Kept::PlanApplied(kept)) }.encode_to_vec()
}

/// The journal's first record.
///
/// # Errors
///
/// [`RecordError`] when the bytes are another record or none.
pub fn decode_plan_applied(bytes: &[u8]) -> Result<PlanApplied, RecordError> {
    let Kept::PlanApplied(kept) = decode(bytes)? else {
        return Err(RecordError::OutOfPlace { expected: "the plan that was applied" });
    };
    Ok(PlanApplied {
        plan: digest("plan_digest", &kept.plan_digest)?,
        inventory: digest("inventory_digest", &kept.inventory_digest)?,
        policy_toml: kept.policy_toml,
        by: kept.by,
        at: Timestamp::from_millis(kept.at_millis),
        request: request_id(&kept.request_id)?,
        approved: kept.approved.map(approval),
    })
}

/// The bytes of a record.
pub fn encode_record(record: &Record) -> Vec<u8> {
    past::CoordinatorRecord { record: Some(keep(record)) }.encode_to_vec()
}

/// Whether these bytes of a record belong to the story of the rollout: all that is not about
/// single mailboxes or leases, and is kept for ever.
pub fn is_story(bytes: &[u8]) -> bool {
    const JOB_LEASED: u32 = 3;
    const FACTS_REPORTED: u32 = 4;
    const CLAIMS_FOUND: u32 = 21;
    const MAILBOXES_FOUND: u32 = 22;
    let not_story = [JOB_LEASED, FACTS_REPORTED, CLAIMS_FOUND, MAILBOXES_FOUND];
    let key = prost::encoding::decode_key(&mut &bytes[..]);
    key.is_ok_and(|(field, _)| !not_story.contains(&field))
}

/// A record from its bytes; a verdict is judged again under the gate of its level.
///
/// # Errors
///
/// [`RecordError`]: the journal must not be acted on.
pub fn decode_record(bytes: &[u8], policy: &Policy) -> Result<Record, RecordError> {
    match decode(bytes)? {
        Kept::PlanApplied(_) => {
            Err(RecordError::OutOfPlace { expected: "a record of the rollout" })
        }
        Kept::NodeJoined(kept) => Ok(Record::NodeJoined {
            node: node(kept.node)?,
            incarnation: incarnation(kept.incarnation)?,
            journaled: kept.journaled,
            at: Timestamp::from_millis(kept.at_millis),
        }),
        Kept::JobLeased(kept) => Ok(Record::JobLeased {
            job: JobNumber::new(kept.job),
            incarnation: incarnation(kept.incarnation)?,
            generation: generation(kept.generation)?,
            at: Timestamp::from_millis(kept.at_millis),
        }),
        Kept::FactsReported(kept) => facts_reported(kept),
        Kept::LevelAllowed(kept) => Ok(Record::LevelAllowed {
            wave: wave(kept.wave)?,
            level: level("level", kept.level)?,
            at: Timestamp::from_millis(kept.at_millis),
        }),
        Kept::Expanded(kept) => expanded(kept, policy),
        Kept::Overridden(kept) => overridden(kept, policy),
        Kept::EmergencyBegun(kept) => emergency_begun(kept),
        Kept::EmergencyEnded(kept) => Ok(Record::EmergencyEnded {
            by: kept.by.map(Action::try_from).transpose()?,
            at: Timestamp::from_millis(kept.at_millis),
        }),
        Kept::NodeIsolated(kept) => node_isolated(kept, policy),
        Kept::Halted(kept) => halted(kept, policy),
        Kept::Paused(kept) => Ok(Record::Paused(kept.try_into()?)),
        Kept::Frozen(kept) => Ok(Record::Frozen(kept.try_into()?)),
        Kept::Thawed(kept) => Ok(Record::Thawed(kept.try_into()?)),
        Kept::Resumed(kept) => Ok(Record::Resumed {
            action: present("action", kept.action)?.try_into()?,
            scope: kept.scope.map(scope).transpose()?,
        }),
        Kept::Aborted(kept) => Ok(Record::Aborted(kept.try_into()?)),
        Kept::Reclosed(kept) => reclosed(kept),
        Kept::Retried(kept) => Ok(Record::Retried {
            action: present("action", kept.action)?.try_into()?,
            mailbox: MailboxNumber::new(kept.mailbox),
            job: JobNumber::new(kept.job),
            generation: generation(kept.generation)?,
        }),
        Kept::Finished(kept) => {
            Ok(Record::Finished { at: Timestamp::from_millis(kept.at_millis) })
        }
        Kept::RebuildBegun(kept) => Ok(Record::RebuildBegun(kept.try_into()?)),
        Kept::ClaimsFound(kept) => Ok(Record::ClaimsFound {
            node: node(kept.node)?,
            claimed: Generation::new(kept.claimed),
            orders_seen: kept.orders_seen,
            at: Timestamp::from_millis(kept.at_millis),
        }),
        Kept::MailboxesFound(kept) => mailboxes_found(kept),
        Kept::NodeRecounted(kept) => node_recounted(kept),
        Kept::Rebuilt(kept) => Ok(Record::Rebuilt {
            left_out: kept.left_out.into_iter().map(node).collect::<Result<_, _>>()?,
            by: kept.by.map(Action::try_from).transpose()?,
            at: Timestamp::from_millis(kept.at_millis),
        }),
        Kept::NodeAccepted(kept) => node_accepted(kept),
    }
}

fn decode(bytes: &[u8]) -> Result<Kept, RecordError> {
    let record = past::CoordinatorRecord::decode(bytes)
        .map_err(|source| RecordError::Decode { source })?;
    Ok(present("record", record.record)?)
}

fn reclosed(kept: past::Reclosed) -> Result<Record, RecordError> {
    Ok(Record::Reclosed {
        action: present("action", kept.action)?.try_into()?,
        scope: scope(present("scope", kept.scope)?)?,
        generations: issued(kept.jobs, kept.generations)?,
    })
}

fn issued(
    jobs: Vec<u32>,
    generations: Vec<u64>,
) -> Result<Vec<(JobNumber, Generation)>, ProtocolError> {
    if jobs.len() != generations.len() {
        let lengths = format!("{} for {}", generations.len(), jobs.len());
        return Err(ProtocolError::invalid("generations", &lengths));
    }
    let issued = jobs.into_iter().zip(generations).map(|(job, number)| {
        generation(number).map(|generation| (JobNumber::new(job), generation))
    });
    issued.collect()
}

fn keep_resumed(action: &Action, scope: Option<Scope>) -> Kept {
    let (action, scope) = (Some(action.into()), scope.map(keep_scope));
    Kept::Resumed(past::Resumed { action, scope })
}

fn keep_finished(at: Timestamp) -> Kept {
    Kept::Finished(past::Finished { at_millis: at.millis() })
}

fn keep_retried(
    action: &Action,
    mailbox: MailboxNumber,
    (job, generation): (JobNumber, Generation),
) -> Kept {
    Kept::Retried(past::Retried {
        action: Some(action.into()),
        mailbox: mailbox.get(),
        job: job.get(),
        generation: generation.get(),
    })
}

fn keep_reclosed(
    action: &Action,
    scope: Scope,
    generations: &[(JobNumber, Generation)],
) -> Kept {
    Kept::Reclosed(past::Reclosed {
        action: Some(action.into()),
        scope: Some(keep_scope(scope)),
        jobs: generations.iter().map(|(job, _)| job.get()).collect(),
        generations: generations.iter().map(|(_, issued)| issued.get()).collect(),
    })
}

fn keep(record: &Record) -> Kept {
    match record {
        Record::NodeJoined { node, incarnation, journaled, at } => {
            Kept::NodeJoined(past::NodeJoined {
                node: u32::from(node.get()),
                incarnation: incarnation.get(),
                journaled: *journaled,
                at_millis: at.millis(),
            })
        }
        Record::JobLeased { job, incarnation, generation, at } => {
            keep_leased(*job, *incarnation, *generation, *at)
        }
        Record::FactsReported { sequence, journaled, .. } => {
            keep_facts(record, *sequence, *journaled)
        }
        Record::LevelAllowed { wave, level, at } => {
            Kept::LevelAllowed(past::LevelAllowed {
                wave: u32::from(wave.get()),
                level: u32::from(level.get()),
                at_millis: at.millis(),
            })
        }
        Record::Expanded { evidence, at } => {
            let (evidence, at_millis) = (Some(keep_evidence(evidence)), at.millis());
            Kept::Expanded(past::Expanded { evidence, at_millis })
        }
        Record::Overridden { action, evidence } => Kept::Overridden(past::Overridden {
            action: Some(action.into()),
            evidence: Some(keep_evidence(evidence)),
        }),
        Record::EmergencyBegun { action, wave, until } => {
            keep_emergency(action, *wave, *until)
        }
        Record::EmergencyEnded { by, at } => keep_emergency_ended(by.as_ref(), *at),
        Record::NodeIsolated { node, reason: _, evidence, at } => {
            let (evidence, at_millis) = (Some(keep_evidence(evidence)), at.millis());
            let node = u32::from(node.get());
            Kept::NodeIsolated(past::NodeIsolated { node, evidence, at_millis })
        }
        Record::Halted { reason: _, evidence, at } => {
            let (evidence, at_millis) = (Some(keep_evidence(evidence)), at.millis());
            Kept::Halted(past::Halted { evidence, at_millis })
        }
        Record::Paused(action) => Kept::Paused(action.into()),
        Record::Frozen(action) => Kept::Frozen(action.into()),
        Record::Thawed(action) => Kept::Thawed(action.into()),
        Record::Resumed { action, scope } => keep_resumed(action, *scope),
        Record::Aborted(action) => Kept::Aborted(action.into()),
        Record::Reclosed { action, scope, generations } => {
            keep_reclosed(action, *scope, generations)
        }
        Record::Retried { action, mailbox, job, generation } => {
            keep_retried(action, *mailbox, (*job, *generation))
        }
        Record::Finished { at } => keep_finished(*at),
        Record::RebuildBegun(action) => Kept::RebuildBegun(action.into()),
        Record::ClaimsFound { node, claimed, orders_seen, at } => {
            keep_claims(*node, *claimed, *orders_seen, *at)
        }
        Record::MailboxesFound { incarnation, journaled, report, reclosed, at } => {
            keep_found(*incarnation, *journaled, report, reclosed, *at)
        }
        Record::NodeRecounted { node, journaled, kept_back, at } => {
            keep_recounted(*node, *journaled, kept_back, *at)
        }
        Record::Rebuilt { left_out, by, at } => keep_rebuilt(left_out, by.as_ref(), *at),
        Record::NodeAccepted { action, node, generations } => {
            keep_accepted(action, *node, generations)
        }
    }
}

fn keep_leased(
    job: JobNumber,
    incarnation: Incarnation,
    generation: Generation,
    at: Timestamp,
) -> Kept {
    Kept::JobLeased(past::JobLeased {
        job: job.get(),
        incarnation: incarnation.get(),
        generation: generation.get(),
        at_millis: at.millis(),
    })
}

fn keep_scope(scope: Scope) -> past::Scope {
    let part = match scope {
        Scope::Wave(wave) => past::scope::Part::Wave(u32::from(wave.get())),
        Scope::Node(node) => past::scope::Part::Node(u32::from(node.get())),
        Scope::Mailbox(mailbox) => past::scope::Part::Mailbox(mailbox.get()),
    };
    past::Scope { part: Some(part) }
}

fn scope(kept: past::Scope) -> Result<Scope, ProtocolError> {
    match present("scope.part", kept.part)? {
        past::scope::Part::Wave(number) => wave(number).map(Scope::Wave),
        past::scope::Part::Node(number) => node(number).map(Scope::Node),
        past::scope::Part::Mailbox(number) => {
            Ok(Scope::Mailbox(MailboxNumber::new(number)))
        }
    }
}

fn keep_evidence(evidence: &Evidence) -> past::Evidence {
    past::Evidence {
        wave: u32::from(evidence.wave.get()),
        level: u32::from(evidence.level.get()),
        epoch: evidence.epoch,
        allowed_at_millis: evidence.allowed_at.millis(),
        planned: evidence.planned,
        nodes: evidence.nodes.iter().map(keep_node).collect(),
        tiers: evidence.tiers.iter().map(keep_tier).collect(),
        fleet_nodes: u32::from(evidence.fleet_nodes),
        isolated_before: evidence
            .isolated_before
            .iter()
            .map(|node| u32::from(node.get()))
            .collect(),
        watched_from_millis: evidence.watched_from.millis(),
        externals: evidence.externals.iter().map(keep_external).collect(),
        hurried: evidence.hurried,
    }
}

fn keep_external(evidence: &ExternalEvidence) -> past::ExternalEvidence {
    let ExternalEvidence { name, answers, answers_bad, latest, answered_at } = evidence;
    past::ExternalEvidence {
        name: name.to_string(),
        answers: *answers,
        answers_bad: *answers_bad,
        latest_millionths: *latest,
        answered_at_millis: answered_at.map(Timestamp::millis),
    }
}

fn external(kept: &past::ExternalEvidence) -> Result<ExternalEvidence, ProtocolError> {
    let name = ShortName::new(&kept.name)
        .ok_or_else(|| ProtocolError::invalid("externals.name", &kept.name))?;
    Ok(ExternalEvidence {
        name,
        answers: kept.answers,
        answers_bad: kept.answers_bad,
        latest: kept.latest_millionths,
        answered_at: kept.answered_at_millis.map(Timestamp::from_millis),
    })
}

fn evidence(kept: past::Evidence) -> Result<Evidence, ProtocolError> {
    Ok(Evidence {
        wave: wave(kept.wave)?,
        level: level("level", kept.level)?,
        epoch: kept.epoch,
        allowed_at: Timestamp::from_millis(kept.allowed_at_millis),
        watched_from: Timestamp::from_millis(kept.watched_from_millis),
        planned: kept.planned,
        nodes: kept.nodes.into_iter().map(node_evidence).collect::<Result<_, _>>()?,
        tiers: kept.tiers.into_iter().map(tier_evidence).collect::<Result<_, _>>()?,
        fleet_nodes: narrow("fleet_nodes", kept.fleet_nodes)?,
        isolated_before: kept
            .isolated_before
            .into_iter()
            .map(node)
            .collect::<Result<_, _>>()?,
        externals: kept.externals.iter().map(external).collect::<Result<_, _>>()?,
        hurried: kept.hurried,
    })
}

fn keep_node(evidence: &NodeEvidence) -> past::NodeEvidence {
    past::NodeEvidence {
        node: u32::from(evidence.node.get()),
        isolated: evidence.isolated,
        planned: evidence.planned,
        settled: evidence.settled,
        quarantined: evidence.quarantined,
        opened: evidence.opened,
        mature: evidence.mature,
        failed: evidence.failed,
        integrity_failed: evidence.integrity_failed,
        probes: evidence.probes,
        probes_slow: evidence.probes_slow,
        reported_at_millis: evidence.reported_at.map(Timestamp::millis),
        disk_free_ppm: evidence.disk_free.map(Ppm::parts),
        sessions: evidence.sessions,
        pulses: tell_pulses(&evidence.pulses),
    }
}

fn node_evidence(kept: past::NodeEvidence) -> Result<NodeEvidence, ProtocolError> {
    Ok(NodeEvidence {
        node: node(kept.node)?,
        isolated: kept.isolated,
        planned: kept.planned,
        settled: kept.settled,
        quarantined: kept.quarantined,
        opened: kept.opened,
        mature: kept.mature,
        failed: kept.failed,
        integrity_failed: kept.integrity_failed,
        sessions: kept.sessions,
        probes: kept.probes,
        probes_slow: kept.probes_slow,
        reported_at: kept.reported_at_millis.map(Timestamp::from_millis),
        disk_free: kept.disk_free_ppm.map(ppm).transpose()?,
        pulses: pulses(kept.pulses)?,
    })
}

fn keep_tier(evidence: &TierEvidence) -> past::TierEvidence {
    let TierEvidence { tier, planned, mature } = *evidence;
    past::TierEvidence { tier: u32::from(tier.get()), planned, mature }
}

fn tier_evidence(kept: past::TierEvidence) -> Result<TierEvidence, ProtocolError> {
    let past::TierEvidence { tier, planned, mature } = kept;
    Ok(TierEvidence { tier: TierNumber::new(narrow("tier", tier)?), planned, mature })
}

fn wave(number: u32) -> Result<WaveNumber, ProtocolError> {
    narrow("wave", number).map(WaveNumber::new)
}

fn node(number: u32) -> Result<NodeNumber, ProtocolError> {
    narrow("node", number).map(NodeNumber::new)
}

/// A fencing number; 0 is never issued.
fn generation(number: u64) -> Result<Generation, ProtocolError> {
    if number == 0 {
        return Err(ProtocolError::missing("generation"));
    }
    Ok(Generation::new(number))
}

fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, ProtocolError> {
    let bytes = <[u8; 32]>::try_from(bytes);
    bytes.map(Digest::new).map_err(|_| ProtocolError::invalid(field, "of another length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::fleet::Ordinal;
    use tidegate_core::gate::{PulseSignal, Verdict, judge};
    use tidegate_core::mailbox::{Level, MailboxState};
    use tidegate_core::rollout::{JobReport, KeptBack, MessageTotals};

    const AT: Timestamp = Timestamp::from_millis(1_795_302_000_000);

    #[test]
    fn every_record_survives_its_bytes() {
        let policy = every_mailbox();

        for record in records(&policy).into_iter().chain(records_of_a_rebuild()) {
            let again = decode_record(&encode_record(&record), &policy).unwrap();

            assert_eq!(again, record);
        }
    }

    #[test]
    fn the_story_is_all_but_facts_and_leases() {
        for record in records(&every_mailbox()) {
            let is_about_mailboxes =
                matches!(record, Record::FactsReported { .. } | Record::JobLeased { .. });

            assert_eq!(is_story(&encode_record(&record)), !is_about_mailboxes);
        }
        assert!(!is_story(&[]));
    }

    #[test]
    fn a_verdict_that_its_evidence_does_not_give_is_an_error() {
        let mut evidence = healthy();
        evidence.nodes[0].integrity_failed = 1;
        let forged = Record::Expanded { evidence, at: AT };

        let refused = decode_record(&encode_record(&forged), &every_mailbox());

        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("recompute the verdict `expand` of wave 0: its evi"));
    }

    #[test]
    fn a_verdict_is_recomputed_with_the_soak_of_its_level() {
        let mut evidence = healthy();
        evidence.allowed_at = AT - tidegate_core::time::Span::from_secs(2_999);
        let early = Record::Expanded { evidence, at: AT };

        let refused = decode_record(&encode_record(&early), &every_mailbox());

        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("soaked 49 min 59 s of 50 min"), "{refused}");
    }

    #[test]
    fn the_first_record_is_not_read_as_another() {
        let applied = PlanApplied {
            plan: Digest::new([1; 32]),
            inventory: Digest::new([2; 32]),
            policy_toml: "name = \"x\"".to_owned(),
            by: "ann".to_owned(),
            at: AT,
            request: RequestId::new("r-0"),
            approved: Some(Approval { by: "bea".to_owned(), reason: "seen".to_owned() }),
        };
        let bytes = encode_plan_applied(&applied);

        assert_eq!(decode_plan_applied(&bytes).unwrap(), applied);
        assert!(decode_record(&bytes, &every_mailbox()).is_err());
        assert!(
            decode_plan_applied(&encode_record(&Record::Finished { at: AT })).is_err()
        );
    }

    fn records_of_a_rebuild() -> Vec<Record> {
        let action = || Action {
            by: "ann".to_owned(),
            reason: "why".to_owned(),
            at: AT,
            request: None,
            approved: None,
        };
        vec![
            Record::RebuildBegun(action()),
            Record::ClaimsFound {
                node: NodeNumber::new(1),
                claimed: Generation::new(8),
                orders_seen: 30,
                at: AT,
            },
            Record::MailboxesFound {
                incarnation: Incarnation::new(9),
                journaled: 43,
                report: JobReport {
                    job: JobNumber::new(3),
                    generation: Generation::new(7),
                    facts: Vec::new(),
                    totals: MessageTotals::default(),
                    findings: Vec::new(),
                },
                reclosed: vec![Ordinal::new(0), Ordinal::new(4)],
                at: AT,
            },
            Record::NodeRecounted {
                node: NodeNumber::new(1),
                journaled: 44,
                kept_back: KeptBack { node: true, ..KeptBack::default() },
                at: AT,
            },
            Record::Rebuilt { left_out: vec![NodeNumber::new(2)], by: None, at: AT },
            Record::Rebuilt { left_out: Vec::new(), by: Some(action()), at: AT },
            Record::NodeAccepted {
                action: action(),
                node: NodeNumber::new(2),
                generations: vec![(JobNumber::new(3), Generation::new(9))],
            },
        ]
    }

    fn records(policy: &Policy) -> Vec<Record> {
        let action = || Action {
            by: "ann".to_owned(),
            reason: "why".to_owned(),
            at: AT,
            request: RequestId::new("r-1"),
            approved: Some(Approval { by: "bea".to_owned(), reason: "yes".to_owned() }),
        };
        let job = JobNumber::new(4);
        let generation = Generation::new(7);
        let mut bad = healthy();
        bad.nodes[0].integrity_failed = 1;
        let Verdict::Halt(reason) = judge(&bad, &policy.gate, AT).verdict else {
            panic!("an integrity failure halts")
        };
        vec![
            Record::NodeJoined {
                node: NodeNumber::new(1),
                incarnation: Incarnation::new(5),
                journaled: 41,
                at: AT,
            },
            Record::JobLeased {
                job,
                incarnation: Incarnation::new(5),
                generation,
                at: AT,
            },
            Record::FactsReported {
                job,
                generation,
                sequence: 7,
                journaled: 42,
                facts: vec![(Ordinal::new(3), MailboxState::unpack(1).unwrap())],
                totals: MessageTotals { newer: 3, ..MessageTotals::default() },
                findings: Vec::new(),
                at: AT,
            },
            Record::LevelAllowed {
                wave: WaveNumber::new(2),
                level: Level::FIRST,
                at: AT,
            },
            Record::Expanded { evidence: healthy(), at: AT },
            Record::Expanded { evidence: measured(), at: AT },
            Record::Halted { reason, evidence: bad, at: AT },
            Record::Paused(action()),
            Record::Frozen(action()),
            Record::Thawed(action()),
            Record::Resumed {
                action: action(),
                scope: Some(Scope::Mailbox(MailboxNumber::new(9))),
            },
            Record::Resumed { action: action(), scope: None },
            Record::Aborted(action()),
            Record::Reclosed {
                action: action(),
                scope: Scope::Wave(WaveNumber::new(1)),
                generations: vec![(job, Generation::new(8))],
            },
            Record::Retried {
                action: action(),
                mailbox: MailboxNumber::new(9),
                job,
                generation: Generation::new(9),
            },
            Record::Finished { at: AT },
        ]
    }

    pub(super) fn every_mailbox() -> Policy {
        let text = r#"
            name = "small"
            gate = { mode = "every-mailbox", soak = "1 s" }
            [[ladder]]
            name = "mail"
            services = "imap"
            soak = "50 min"
            [[cohort]]
            name = "all"
            select.rest = true
        "#;
        crate::policy_file::parse("small.toml", text).unwrap()
    }

    /// As healthy, with a mail system that is measured and a question that was answered.
    fn measured() -> Evidence {
        let mut evidence = healthy();
        for node in &mut evidence.nodes {
            node.pulses.note(PulseSignal::Canary, 0, 0);
            node.pulses.note(PulseSignal::QueueAge, 60, 30);
        }
        evidence.externals = vec![ExternalEvidence {
            name: ShortName::new("auth-db").unwrap(),
            answers: 9,
            answers_bad: 1,
            latest: -350_000,
            answered_at: Some(AT),
        }];
        evidence
    }

    #[test]
    fn a_journal_from_before_mail_systems_were_measured_is_read_as_it_was_meant() {
        let before = past::Evidence {
            level: 1,
            allowed_at_millis: 5,
            nodes: vec![past::NodeEvidence {
                planned: 4,
                ..past::NodeEvidence::default()
            }],
            ..past::Evidence::default()
        };

        let evidence = evidence(before).unwrap();

        assert!(evidence.nodes[0].pulses.is_empty());
        assert!(evidence.externals.is_empty());
        assert_eq!(evidence.to_bytes().first(), Some(&1));
    }

    /// One node whose four mailboxes have all matured.
    pub(super) fn healthy() -> Evidence {
        let allowed_at = AT - tidegate_core::time::Span::from_secs(3_000);
        Evidence {
            wave: WaveNumber::new(0),
            level: Level::FIRST,
            epoch: 0,
            allowed_at,
            watched_from: allowed_at,
            planned: 4,
            nodes: vec![NodeEvidence {
                node: NodeNumber::new(0),
                planned: 4,
                settled: 4,
                opened: 4,
                mature: 4,
                probes: 200,
                reported_at: Some(AT),
                disk_free: Some(Ppm::new(500_000)),
                ..NodeEvidence::default()
            }],
            tiers: vec![TierEvidence { tier: TierNumber::new(0), planned: 4, mature: 4 }],
            fleet_nodes: 1,
            isolated_before: Vec::new(),
            externals: Vec::new(),
            hurried: false,
        }
    }
}
