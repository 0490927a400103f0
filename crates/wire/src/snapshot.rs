//! What snapshots in journals hold, as bytes and back.
//!
//! # Invariants
//!
//! * What is encoded decodes to the same; anything else is an error, never a guess.
//! * No length that was read is trusted before it has been compared.

mod columns;

use std::collections::BTreeMap;

use prost::Message;
use tidegate_core::fleet::{Generation, Incarnation, JobNumber, MailboxNumber, Ordinal};
use tidegate_core::holding::{self, Dial, Found, Stamp};
use tidegate_core::inventory::Digest;
use tidegate_core::rollout::{
    self, Finding, KeptBack, MessageTotals, NodeSnapshot, WaveSnapshot,
};
use tidegate_core::time::Timestamp;

use crate::journal::v1 as past;
use crate::protocol::{ProtocolError, narrow, present};
use crate::worker::{incarnation, level};
use columns::{keep_runs, keep_totals, runs, totals};

/// A snapshot cannot be understood. Nothing of its journal may be acted on.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are no snapshot.
    #[error("read a snapshot")]
    Decode {
        /// What is wrong with them.
        source: prost::DecodeError,
    },
    /// The snapshot breaks its contract.
    #[error("read a snapshot")]
    Broken(#[from] ProtocolError),
}

/// A coordinator's snapshot, and what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct OfRollout {
    /// The plan's digest.
    pub plan: Digest,
    /// When it was taken; no record that it covers is newer.
    pub at: Timestamp,
    /// What is remembered.
    pub rollout: rollout::Snapshot,
}

/// A worker's snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct OfNode {
    /// When it was taken.
    pub at: Timestamp,
    /// Its jobs.
    pub jobs: Vec<holding::JobSnapshot>,
    /// Raised from held, or given a dial tone, and not known to be shown to anybody.
    pub not_shown: Places,
    /// Closed, and somebody may still be in them.
    pub not_shut_out: Places,
    /// What persons have re-closed and not resumed.
    pub kept_back: KeptBack,
}

/// Mailboxes by job and place, ascending.
pub type Places = Vec<(JobNumber, Ordinal)>;

/// The bytes of a coordinator's snapshot.
pub fn encode_rollout(snapshot: &OfRollout) -> Vec<u8> {
    let OfRollout { plan, at, rollout } = snapshot;
    let rollout::Snapshot {
        story,
        phase_from,
        generation,
        orders_version,
        stop_version,
        waves,
        nodes,
        jobs,
        held_back,
        findings,
        requests,
    } = rollout;
    let lease = |job: &rollout::JobSnapshot| job.leased_to.map_or(0, Incarnation::get);
    let since = |at: Timestamp| at.millis().saturating_add(1);
    let dial_tones = jobs.iter().map(|job| job.dial_tone_since.map_or(0, since));
    let length = |job: &rollout::JobSnapshot| u32::try_from(job.states.len());
    let reclosed = (0..).zip(jobs).filter(|(_, job)| !job.reclosed.is_empty());
    let kept = past::CoordinatorSnapshot {
        plan_digest: plan.bytes().to_vec(),
        at_millis: at.millis(),
        story: *story,
        phase_from: *phase_from,
        generation: generation.get(),
        orders_version: *orders_version,
        stop_version: *stop_version,
        waves: waves.iter().map(keep_wave).collect(),
        nodes: nodes.iter().map(keep_node).collect(),
        job_generations: jobs.iter().map(|job| job.generation.get()).collect(),
        job_leases: jobs.iter().map(lease).collect(),
        job_mailboxes: jobs.iter().map(|it| length(it).unwrap_or(u32::MAX)).collect(),
        states: keep_runs(jobs.iter().flat_map(|job| job.states.iter().copied())),
        totals: Some(keep_totals(jobs.iter().map(|job| job.totals))),
        reclosed: reclosed
            .map(|(job, state)| past::JobPlaces {
                job,
                ordinals: state.reclosed.iter().map(|it| u32::from(it.get())).collect(),
            })
            .collect(),
        held_back: held_back.iter().map(|mailbox| mailbox.get()).collect(),
        findings: findings
            .iter()
            .map(|(job, known)| {
                keep_findings(*job, known.iter().map(|it| (it.ordinal, it)))
            })
            .collect(),
        dial_tones_since: dial_tones.collect(),
        request_decisions: requests.iter().map(|(number, _)| *number).collect(),
        request_orders: requests.iter().map(|(_, version)| *version).collect(),
    };
    kept.encode_to_vec()
}

/// A coordinator's snapshot from its bytes.
///
/// # Errors
///
/// [`SnapshotError`]: the journal must not be acted on.
pub fn decode_rollout(bytes: &[u8]) -> Result<OfRollout, SnapshotError> {
    let kept = past::CoordinatorSnapshot::decode(bytes)
        .map_err(|source| SnapshotError::Decode { source })?;
    let plan = fixed("plan_digest", &kept.plan_digest).map(Digest::new)?;
    let at = Timestamp::from_millis(kept.at_millis);
    let jobs = jobs(&kept)?;
    if kept.request_decisions.len() != kept.request_orders.len() {
        let count = kept.request_orders.len();
        return Err(ProtocolError::invalid("request_orders", &count).into());
    }
    let requests = kept.request_decisions.into_iter().zip(kept.request_orders);
    let findings = kept.findings.into_iter().map(|kept| {
        let job = JobNumber::new(kept.job);
        let known = findings(kept)?.into_iter().map(|(_, finding)| finding);
        Ok((job, known.collect()))
    });
    let rollout = rollout::Snapshot {
        story: kept.story,
        phase_from: kept.phase_from,
        generation: Generation::new(kept.generation),
        orders_version: kept.orders_version,
        stop_version: kept.stop_version,
        waves: kept.waves.into_iter().map(wave).collect::<Result<_, _>>()?,
        nodes: kept.nodes.into_iter().map(node).collect::<Result<_, _>>()?,
        jobs,
        held_back: kept.held_back.into_iter().map(MailboxNumber::new).collect(),
        findings: findings.collect::<Result<_, ProtocolError>>()?,
        requests: requests.collect(),
    };
    Ok(OfRollout { plan, at, rollout })
}

fn jobs(
    kept: &past::CoordinatorSnapshot,
) -> Result<Vec<rollout::JobSnapshot>, ProtocolError> {
    let count = kept.job_mailboxes.len();
    let lengths = [&kept.job_generations, &kept.job_leases, &kept.dial_tones_since];
    if lengths.iter().any(|column| column.len() != count) {
        return Err(ProtocolError::invalid("job_mailboxes", &count));
    }
    let mailboxes: Vec<u16> = (kept.job_mailboxes.iter())
        .map(|length| narrow("job_mailboxes", *length))
        .collect::<Result<_, _>>()?;
    let all = mailboxes.iter().map(|length| usize::from(*length)).sum();
    let states = runs("states", &kept.states, all)?;
    let totals = totals(kept.totals.as_ref(), count)?;
    let (mut states, mut totals) = (states.as_slice(), totals.into_iter());
    let columns = mailboxes.iter().zip(&kept.job_generations).zip(&kept.job_leases);
    let mut jobs = Vec::with_capacity(count);
    for (((length, generation), lease), since) in columns.zip(&kept.dial_tones_since) {
        let (own, rest) = states
            .split_at_checked(usize::from(*length))
            .ok_or_else(|| ProtocolError::invalid("states", &states.len()))?;
        states = rest;
        jobs.push(rollout::JobSnapshot {
            generation: Generation::new(*generation),
            leased_to: some_incarnation(*lease)?,
            states: own.to_vec(),
            reclosed: Vec::new(),
            dial_tone_since: since.checked_sub(1).map(Timestamp::from_millis),
            totals: totals.next().unwrap_or_default(),
        });
    }
    for places in &kept.reclosed {
        let index = usize::try_from(places.job).unwrap_or(usize::MAX);
        let job = jobs.get_mut(index);
        let job = job.ok_or_else(|| ProtocolError::invalid("reclosed", &places.job))?;
        job.reclosed = ordinals(&places.ordinals)?;
    }
    Ok(jobs)
}

/// The bytes of a worker's snapshot. `more` jobs stand behind its own: they are made one by
/// one, since all of them at once take as much memory as the node itself.
pub fn encode_node(
    snapshot: &OfNode,
    more: impl IntoIterator<Item = holding::JobSnapshot>,
) -> Vec<u8> {
    let OfNode { at, jobs, not_shown, not_shut_out, kept_back } = snapshot;
    let empty = past::WorkerSnapshot::default;
    // The bytes of parts behind each other are those of the whole.
    let mut bytes =
        past::WorkerSnapshot { at_millis: at.millis(), ..empty() }.encode_to_vec();
    let mut add = |job: &holding::JobSnapshot| {
        let jobs = vec![keep_held(job)];
        bytes.extend(past::WorkerSnapshot { jobs, ..empty() }.encode_to_vec());
    };
    jobs.iter().for_each(&mut add);
    more.into_iter().for_each(|job| add(&job));
    let rest = past::WorkerSnapshot {
        not_shown: keep_places(not_shown),
        not_shut_out: keep_places(not_shut_out),
        kept_back: Some(kept_back.into()),
        ..empty()
    };
    bytes.extend(rest.encode_to_vec());
    bytes.shrink_to_fit();
    bytes
}

/// A worker's snapshot from its bytes.
///
/// # Errors
///
/// [`SnapshotError`]: the journal must not be acted on.
pub fn decode_node(bytes: &[u8]) -> Result<OfNode, SnapshotError> {
    let kept = past::WorkerSnapshot::decode(bytes)
        .map_err(|source| SnapshotError::Decode { source })?;
    Ok(OfNode {
        at: Timestamp::from_millis(kept.at_millis),
        jobs: kept.jobs.into_iter().map(held).collect::<Result<_, _>>()?,
        not_shown: places(&kept.not_shown)?,
        not_shut_out: places(&kept.not_shut_out)?,
        // Absent in snapshots of older programs, which remembered none.
        kept_back: kept
            .kept_back
            .map(KeptBack::try_from)
            .transpose()?
            .unwrap_or_default(),
    })
}

fn keep_held(snapshot: &holding::JobSnapshot) -> past::HeldJobSnapshot {
    let holding::JobSnapshot {
        job,
        generation,
        description,
        states,
        stamps,
        served,
        dials,
        found,
    } = snapshot;
    let marks = stamps.iter().zip(served).zip(dials).map(|((stamp, served), dial)| {
        let dial: u8 = match dial {
            Dial::None => 0,
            Dial::Off => 1,
            Dial::On => 2,
        };
        u8::from(stamp.is_some()) | u8::from(*served) << 1 | dial << 2
    });
    let each = (0..).map(Ordinal::new).zip(found);
    let findings =
        each.flat_map(|(at, found)| found.findings().iter().map(move |it| (at, it)));
    past::HeldJobSnapshot {
        job: job.get(),
        generation: generation.get(),
        description_digest: description.to_vec(),
        mailboxes: u32::try_from(states.len()).unwrap_or(u32::MAX),
        states: keep_runs(states.iter().copied()),
        marks: keep_runs(marks),
        stamps: stamps.iter().flatten().flatten().copied().collect(),
        totals: Some(keep_totals(found.iter().map(Found::totals))),
        findings: Some(keep_findings(*job, findings)),
    }
}

fn held(kept: past::HeldJobSnapshot) -> Result<holding::JobSnapshot, ProtocolError> {
    let mailboxes: u16 = narrow("mailboxes", kept.mailboxes)?;
    let count = usize::from(mailboxes);
    let marks = runs("marks", &kept.marks, count)?;
    let (stamps, rest) = kept.stamps.as_chunks::<16>();
    let stamped = marks.iter().filter(|mark| **mark & 1 == 1).count();
    if stamps.len() != stamped || !rest.is_empty() {
        return Err(ProtocolError::invalid("stamps", &kept.stamps.len()));
    }
    let mut stamps = stamps.iter().copied();
    let mut next =
        |mark: u8| -> Option<Stamp> { if mark & 1 == 1 { stamps.next() } else { None } };
    let dial = |mark: &u8| match mark >> 2 {
        0 => Ok(Dial::None),
        1 => Ok(Dial::Off),
        2 => Ok(Dial::On),
        other => Err(ProtocolError::invalid("marks", &other)),
    };
    Ok(holding::JobSnapshot {
        job: JobNumber::new(kept.job),
        generation: Generation::new(kept.generation),
        description: fixed("description_digest", &kept.description_digest)?,
        states: runs("states", &kept.states, count)?,
        stamps: marks.iter().map(|mark| next(*mark)).collect(),
        served: marks.iter().map(|mark| mark & 2 == 2).collect(),
        dials: marks.iter().map(dial).collect::<Result<_, _>>()?,
        found: found(
            totals(kept.totals.as_ref(), count)?,
            findings(present("findings", kept.findings)?)?,
        )?,
    })
}

/// What was found of each mailbox, from both columns.
fn found(
    totals: Vec<MessageTotals>,
    findings: Vec<(Ordinal, Finding)>,
) -> Result<Vec<Found>, ProtocolError> {
    let mut lists: BTreeMap<usize, Vec<Finding>> = BTreeMap::new();
    for (ordinal, finding) in findings {
        if ordinal.index() >= totals.len() {
            return Err(ProtocolError::invalid("findings.ordinals", &ordinal));
        }
        lists.entry(ordinal.index()).or_default().push(finding);
    }
    let each = totals.into_iter().enumerate();
    let found =
        each.map(|(at, totals)| Found::of(totals, lists.remove(&at).unwrap_or_default()));
    Ok(found.collect())
}

fn keep_wave(snapshot: &WaveSnapshot) -> past::WaveSnapshot {
    let WaveSnapshot { allowed, allowed_at, since, passed, passed_at, epoch, held_back } =
        snapshot;
    past::WaveSnapshot {
        allowed: u32::from(allowed.get()),
        allowed_at_millis: allowed_at.millis(),
        since_millis: since.iter().map(|at| at.millis()).collect(),
        passed: u32::from(passed.get()),
        passed_at_millis: passed_at.millis(),
        epoch: *epoch,
        held_back: *held_back,
    }
}

fn wave(kept: past::WaveSnapshot) -> Result<WaveSnapshot, ProtocolError> {
    Ok(WaveSnapshot {
        allowed: level("allowed", kept.allowed)?,
        allowed_at: Timestamp::from_millis(kept.allowed_at_millis),
        since: kept.since_millis.into_iter().map(Timestamp::from_millis).collect(),
        passed: level("passed", kept.passed)?,
        passed_at: Timestamp::from_millis(kept.passed_at_millis),
        epoch: kept.epoch,
        held_back: kept.held_back,
    })
}

fn keep_node(snapshot: &NodeSnapshot) -> past::NodeSnapshot {
    let NodeSnapshot {
        incarnation,
        isolated_from,
        held_back,
        left_out,
        issued,
        claimed,
        reported,
        journaled,
    } = snapshot;
    past::NodeSnapshot {
        incarnation: incarnation.map_or(0, Incarnation::get),
        isolated_from: *isolated_from,
        held_back: *held_back,
        left_out: *left_out,
        issued: issued.get(),
        claimed: claimed.get(),
        reported: *reported,
        journaled: *journaled,
    }
}

fn node(kept: past::NodeSnapshot) -> Result<NodeSnapshot, ProtocolError> {
    Ok(NodeSnapshot {
        incarnation: some_incarnation(kept.incarnation)?,
        isolated_from: kept.isolated_from,
        held_back: kept.held_back,
        left_out: kept.left_out,
        issued: Generation::new(kept.issued),
        claimed: Generation::new(kept.claimed),
        reported: kept.reported,
        journaled: kept.journaled,
    })
}

fn some_incarnation(number: u64) -> Result<Option<Incarnation>, ProtocolError> {
    if number == 0 { Ok(None) } else { incarnation(number).map(Some) }
}

fn keep_findings<'a>(
    job: JobNumber,
    known: impl Iterator<Item = (Ordinal, &'a Finding)>,
) -> past::JobFindings {
    let (ordinals, findings) =
        known.map(|(at, it)| (u32::from(at.get()), it.clone().into())).unzip();
    past::JobFindings { job: job.get(), ordinals, findings }
}

fn findings(kept: past::JobFindings) -> Result<Vec<(Ordinal, Finding)>, ProtocolError> {
    if kept.ordinals.len() != kept.findings.len() {
        return Err(ProtocolError::invalid("findings.ordinals", &kept.ordinals.len()));
    }
    let known = kept.findings.into_iter().map(Finding::try_from);
    let pairs = ordinals(&kept.ordinals)?.into_iter().zip(known);
    pairs.map(|(ordinal, finding)| Ok((ordinal, finding?))).collect()
}

fn keep_places(places: &Places) -> Vec<past::JobPlaces> {
    let mut kept: Vec<past::JobPlaces> = Vec::new();
    for (job, ordinal) in places {
        let ordinal = u32::from(ordinal.get());
        match kept.last_mut().filter(|last| last.job == job.get()) {
            Some(last) => last.ordinals.push(ordinal),
            None => {
                kept.push(past::JobPlaces { job: job.get(), ordinals: vec![ordinal] });
            }
        }
    }
    kept
}

fn places(kept: &[past::JobPlaces]) -> Result<Places, ProtocolError> {
    let mut places = Vec::new();
    for of_job in kept {
        let job = JobNumber::new(of_job.job);
        places.extend(ordinals(&of_job.ordinals)?.into_iter().map(|at| (job, at)));
    }
    Ok(places)
}

fn ordinals(kept: &[u32]) -> Result<Vec<Ordinal>, ProtocolError> {
    kept.iter().map(|place| narrow("ordinals", *place).map(Ordinal::new)).collect()
}

fn fixed<const LENGTH: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; LENGTH], ProtocolError> {
    let wrong = format!("{} bytes", bytes.len());
    bytes.try_into().map_err(|_| ProtocolError::invalid(field, &wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::mailbox::Level;
    use tidegate_core::rollout::{FindingKind, Grades, JobSnapshot, Origin};

    #[test]
    fn a_coordinators_snapshot_survives_its_bytes() {
        let snapshot = of_rollout();

        let bytes = encode_rollout(&snapshot);

        assert_eq!(decode_rollout(&bytes).unwrap(), snapshot);
    }

    #[test]
    fn a_workers_snapshot_survives_its_bytes() {
        let snapshot = of_node();

        let bytes = encode_node(&snapshot, []);

        assert_eq!(decode_node(&bytes).unwrap(), snapshot);
    }

    #[test]
    fn a_snapshot_cut_anywhere_is_an_error_or_another_snapshot_but_no_panic() {
        let (rollout, node) =
            (encode_rollout(&of_rollout()), encode_node(&of_node(), []));
        for length in 0..rollout.len() {
            let cut = decode_rollout(rollout.get(..length).unwrap());
            assert!(cut.ok() != Some(of_rollout()), "{length}");
        }
        for length in 0..node.len() {
            let cut = decode_node(node.get(..length).unwrap());
            assert!(cut.ok() != Some(of_node()), "{length}");
        }
    }

    #[test]
    fn millions_of_mailboxes_in_the_same_state_take_a_few_bytes_each_job() {
        let mut snapshot = of_rollout();
        let job =
            JobSnapshot { states: vec![1; 4_096], ..snapshot.rollout.jobs[0].clone() };
        snapshot.rollout.jobs = vec![job; 2_200];

        let bytes = encode_rollout(&snapshot).len();

        assert!(bytes < 9_011_200 / 64, "{bytes} bytes for 9 million mailboxes");
    }

    fn of_rollout() -> OfRollout {
        let at = |millis: u64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let job = |states: Vec<u8>, leased_to| JobSnapshot {
            generation: Generation::new(7),
            leased_to,
            states,
            reclosed: Vec::new(),
            dial_tone_since: None,
            totals: MessageTotals { intact: 9, ..MessageTotals::default() },
        };
        let mut jobs = vec![
            job(vec![0, 0, 1, 1, 5, 5, 5, 0x80], Some(Incarnation::new(u64::MAX))),
            job(Vec::new(), None),
            job(vec![2; 4_096], Some(Incarnation::new(1))),
        ];
        jobs[2].reclosed = vec![Ordinal::new(0), Ordinal::new(4_095)];
        jobs[2].dial_tone_since = Some(at(0));
        jobs[2].totals = every_total();
        let wave = WaveSnapshot {
            allowed: Level::FIRST,
            allowed_at: at(1),
            since: (0..8).map(at).collect(),
            passed: Level::HELD,
            passed_at: at(2),
            epoch: 3,
            held_back: true,
        };
        let node = |incarnation, isolated_from, held_back| NodeSnapshot {
            incarnation,
            isolated_from,
            held_back,
            left_out: held_back,
            issued: Generation::new(6),
            claimed: Generation::new(5),
            reported: 44,
            journaled: 45,
        };
        let rollout = rollout::Snapshot {
            story: 12,
            phase_from: Some(0),
            generation: Generation::new(8),
            orders_version: 77,
            stop_version: 76,
            waves: vec![wave.clone(), WaveSnapshot { held_back: false, ..wave }],
            nodes: vec![
                node(None, None, false),
                node(Some(Incarnation::new(2)), Some(0), true),
            ],
            jobs,
            held_back: vec![MailboxNumber::new(0), MailboxNumber::new(u32::MAX)],
            findings: vec![
                (JobNumber::new(0), vec![finding(3), finding(3)]),
                (JobNumber::new(1), Vec::new()),
            ],
            requests: vec![(1, 3), (9, 70)],
        };
        OfRollout { plan: Digest::new([7; 32]), at: at(9), rollout }
    }

    fn of_node() -> OfNode {
        let many = MessageTotals { intact: u64::MAX, ..MessageTotals::default() };
        let held = holding::JobSnapshot {
            job: JobNumber::new(5),
            generation: Generation::new(3),
            description: [9; 32],
            states: vec![0, 1, 5, 2],
            stamps: vec![None, Some([1; 16]), Some([2; 16]), None],
            served: vec![false, true, true, false],
            dials: vec![Dial::On, Dial::None, Dial::None, Dial::Off],
            found: vec![
                Found::Nothing,
                Found::of(every_total(), vec![finding(1), finding(0)]),
                Found::Perfect { messages: 7, bytes_read: 9_000 },
                Found::of(many, Vec::new()),
            ],
        };
        let places = |jobs: &[(u32, u16)]| {
            let place =
                |(job, at): &(u32, u16)| (JobNumber::new(*job), Ordinal::new(*at));
            jobs.iter().map(place).collect()
        };
        OfNode {
            at: Timestamp::from_millis(5),
            jobs: vec![held],
            not_shown: places(&[(5, 0), (5, 3), (6, 0)]),
            not_shut_out: places(&[(1, 9)]),
            kept_back: KeptBack { node: true, ..KeptBack::default() },
        }
    }

    fn every_total() -> MessageTotals {
        MessageTotals {
            intact: 1,
            repaired: 2,
            returned: 3,
            newer: 4,
            deleted: 5,
            set_aside: 6,
            lost: 7,
            bytes_read: u64::MAX,
            doubts: 8,
            grades: Grades { perfect: 9, good: 10, investigate: 11, poor: 12 },
        }
    }

    fn finding(ordinal: u16) -> Finding {
        Finding {
            ordinal: Ordinal::new(ordinal),
            kind: FindingKind::Doubt,
            folder: "Entw&APw-rfe".to_owned(),
            uid: Some(9),
            name: "1.M2P3.host,S=4,W=5".to_owned(),
            code: "both-plausible".to_owned(),
            reason: "both plausible".to_owned(),
            size_bytes: 2,
            kept_at: String::new(),
            origin: Origin::default(),
        }
    }
}
