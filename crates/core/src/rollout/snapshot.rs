//! Snapshots of a rollout: all that its records have led to, in columns.
//!
//! # Invariants
//!
//! * A rollout restored from a snapshot and the story, to which the records behind it are
//!   applied, is the rollout that a replay of all records gives.
//! * Whatever a rollout remembers is in its snapshot, in the story, or counted anew: a new
//!   field does not compile before that is decided.
//! * What a verdict has led to is taken from its record in the story, never from bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::emergency::Emergencies;
use super::freeze;
use super::{Finding, JobState, LEVELS, NodeState, Phase, Rollout, WaveState};
use super::{MessageTotals, Record, Recount};
use crate::fleet::{Generation, Incarnation, JobNumber, MailboxNumber, Ordinal};
use crate::gate::IsolateReason;
use crate::mailbox::{Level, MailboxState, NotAState};
use crate::plan::Plan;
use crate::time::Timestamp;

/// What a rollout remembers besides its plan and its story.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Records of the story that had been told by then.
    pub story: u64,
    /// The place in the story of the record that stopped or ended the rollout; nothing while
    /// it moves.
    pub phase_from: Option<u64>,
    /// The newest generation issued.
    pub generation: Generation,
    /// The version of the orders.
    pub orders_version: u64,
    /// The version of the orders that carry the newest stop.
    pub stop_version: u64,
    /// By number.
    pub waves: Vec<WaveSnapshot>,
    /// By number.
    pub nodes: Vec<NodeSnapshot>,
    /// By number.
    pub jobs: Vec<JobSnapshot>,
    /// Mailboxes put back one by one, ascending.
    pub held_back: Vec<MailboxNumber>,
    /// What a person should know, by job.
    pub findings: Vec<(JobNumber, Vec<Finding>)>,
    /// Decisions asked for under ids of their own, oldest first, by their number, each with
    /// the version of the orders that carry it.
    pub requests: Vec<(u64, u64)>,
}

/// What is remembered of a wave. Its counts follow from its mailboxes.
#[derive(Clone, Debug, PartialEq)]
pub struct WaveSnapshot {
    /// The level it is allowed.
    pub allowed: Level,
    /// Since when.
    pub allowed_at: Timestamp,
    /// When each level was allowed last, from held on.
    pub since: Vec<Timestamp>,
    /// The level it has passed.
    pub passed: Level,
    /// Since when.
    pub passed_at: Timestamp,
    /// Rises when it is re-closed.
    pub epoch: u32,
    /// Whether it was re-closed and not resumed.
    pub held_back: bool,
}

/// What is remembered of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeSnapshot {
    /// The run of its worker.
    pub incarnation: Option<Incarnation>,
    /// The place in the story of the record that isolated it.
    pub isolated_from: Option<u64>,
    /// Whether it was re-closed and not resumed.
    pub held_back: bool,
    /// Whether a rebuild left it out, and nobody has accepted it since.
    pub left_out: bool,
    /// The newest generation issued to one of its jobs.
    pub issued: Generation,
    /// The newest generation under which it has told anything.
    pub claimed: Generation,
    /// The newest report of its present run that brought facts.
    pub reported: u64,
    /// The most records that its worker's journal had when it joined or told anything.
    pub journaled: u64,
}

/// What is remembered of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSnapshot {
    /// Its newest generation.
    pub generation: Generation,
    /// The run that it is leased to.
    pub leased_to: Option<Incarnation>,
    /// Its mailboxes, packed: see [`MailboxState::pack`].
    pub states: Vec<u8>,
    /// Mailboxes that were re-closed and are not known to be closed, ascending.
    pub reclosed: Vec<Ordinal>,
    /// When its first dial tone was told of, since it was last re-closed.
    pub dial_tone_since: Option<Timestamp>,
    /// Its messages.
    pub totals: MessageTotals,
}

/// A snapshot is not of this rollout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// There are more or fewer of something than there should be.
    #[error("restore a snapshot: it has {found} {what}, expected are {expected}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A mailbox in a state that cannot be.
    #[error("restore a snapshot: {state} of {job}")]
    State {
        /// The job.
        job: JobNumber,
        /// What is there.
        state: NotAState,
    },
    /// The story does not say what the snapshot refers to.
    #[error("restore a snapshot: record {place} of the story is not about {what}")]
    Story {
        /// The record's place in the story.
        place: u64,
        /// What it should be about.
        what: &'static str,
    },
}

impl Rollout {
    /// All that is remembered but the plan and the story. Nothing while nodes tell what they
    /// hold: what was found until then is only in their records.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let Self {
            plan: _,
            started_at: _,
            applied_under: _,
            phase,
            // The story says who froze it.
            frozen: _,
            // And of emergencies.
            emergencies: _,
            generation,
            orders_version,
            stop_version,
            waves,
            nodes,
            jobs,
            held_back,
            findings,
            history,
            decisions: _,
            requests,
            rebuilding,
            found: _,
            heard: _,
            given: _,
            pulses: _,
            settled: _,
            answers: _,
            awake_since: _,
            doubts: _,
        } = self;
        // What is found while nodes tell what they hold is soon told.
        let telling =
            |node: &NodeState| matches!(node.recount, Recount::Awaited | Recount::Told);
        if *rebuilding || nodes.iter().any(telling) {
            return None;
        }
        let phase_from = match phase {
            Phase::Running => None,
            Phase::Paused(_)
            | Phase::Halted { .. }
            | Phase::Aborted(_)
            | Phase::Finished { .. } => {
                Some(last(history, &|it| phase_of(it).as_ref() == Some(phase))?)
            }
        };
        let nodes = (0..).zip(nodes).map(|(number, node)| node.snapshot(number, history));
        let known = findings.iter().map(|(job, known)| (*job, known.clone()));
        Some(Snapshot {
            story: count(history.len()),
            phase_from,
            generation: *generation,
            orders_version: *orders_version,
            stop_version: *stop_version,
            waves: waves.iter().map(WaveState::snapshot).collect(),
            nodes: nodes.collect::<Option<_>>()?,
            jobs: jobs.iter().map(JobState::snapshot).collect(),
            held_back: held_back.iter().copied().collect(),
            findings: known.collect(),
            requests: requests.snapshot(),
        })
    }

    /// The rollout of `plan`, applied at `started_at`, as a snapshot and the story up to it
    /// left it. Records behind it are to be applied next.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] when they are not of one rollout.
    pub fn restore(
        plan: Arc<Plan>,
        started_at: Timestamp,
        snapshot: Snapshot,
        story: Vec<Record>,
    ) -> Result<Self, SnapshotError> {
        let Snapshot {
            story: told,
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
        } = snapshot;
        let mut rollout = Self::new(plan, started_at, started_at);
        expect(
            "records of the story",
            story.len(),
            told.try_into().unwrap_or(usize::MAX),
        )?;
        expect("waves", waves.len(), rollout.waves.len())?;
        expect("nodes", nodes.len(), rollout.nodes.len())?;
        expect("jobs", jobs.len(), rollout.jobs.len())?;

        rollout.phase = match phase_from {
            None => Phase::Running,
            Some(place) => {
                let phase = at(&story, place).and_then(phase_of);
                let what = "what stopped the rollout";
                phase.ok_or(SnapshotError::Story { place, what })?
            }
        };
        for (state, kept) in rollout.waves.iter_mut().zip(waves) {
            state.restore(kept)?;
        }
        for ((number, state), kept) in (0..).zip(&mut rollout.nodes).zip(nodes) {
            *state = NodeState::restore(number, kept, &story)?;
        }
        for (number, kept) in (0..).map(JobNumber::new).zip(jobs) {
            rollout.restore_job(number, kept)?;
        }
        rollout.frozen = freeze::in_story(&story).cloned();
        rollout.emergencies = Emergencies::in_story(&story);
        rollout.held_back = held_back.into_iter().collect();
        rollout.findings = findings.into_iter().collect::<BTreeMap<_, _>>();
        rollout.generation = generation;
        rollout.orders_version = orders_version;
        rollout.stop_version = stop_version;
        rollout.history = story;
        let (place, what) = (told, "a request that is remembered");
        let known = rollout.restore_requests(&requests);
        known.ok_or(SnapshotError::Story { place, what })?;
        Ok(rollout)
    }

    fn restore_job(
        &mut self,
        job: JobNumber,
        kept: JobSnapshot,
    ) -> Result<(), SnapshotError> {
        let JobSnapshot {
            generation,
            leased_to,
            states,
            reclosed,
            dial_tone_since,
            totals,
        } = kept;
        expect("mailboxes of a job", states.len(), self.job(job).states.len())?;
        let unpack = |(ordinal, byte): (u16, u8)| match MailboxState::unpack(byte) {
            Ok(state) => Ok((Ordinal::new(ordinal), state)),
            Err(state) => Err(SnapshotError::State { job, state }),
        };
        let held = MailboxState::HELD.pack();
        let changed = (0..).zip(states).filter(|(_, byte)| *byte != held);
        let facts: Vec<_> = changed.map(unpack).collect::<Result<_, _>>()?;
        // Counts what the waves count.
        self.apply_facts(job, &facts);
        let state = self.job_mut(job);
        state.generation = generation;
        state.leased_to = leased_to;
        state.reclosed = reclosed.into_iter().collect();
        state.dial_tone_since = dial_tone_since;
        state.totals = totals;
        Ok(())
    }
}

impl WaveState {
    fn snapshot(&self) -> WaveSnapshot {
        let Self {
            allowed,
            allowed_at,
            since,
            passed,
            passed_at,
            epoch,
            held_back,
            tallies: _,
        } = self;
        WaveSnapshot {
            allowed: *allowed,
            allowed_at: *allowed_at,
            since: since.to_vec(),
            passed: *passed,
            passed_at: *passed_at,
            epoch: *epoch,
            held_back: *held_back,
        }
    }

    fn restore(&mut self, kept: WaveSnapshot) -> Result<(), SnapshotError> {
        let WaveSnapshot {
            allowed,
            allowed_at,
            since,
            passed,
            passed_at,
            epoch,
            held_back,
        } = kept;
        expect("levels of a wave", since.len(), LEVELS)?;
        self.since.copy_from_slice(&since);
        (self.allowed, self.allowed_at) = (allowed, allowed_at);
        (self.passed, self.passed_at) = (passed, passed_at);
        (self.epoch, self.held_back) = (epoch, held_back);
        Ok(())
    }
}

impl NodeState {
    /// What is remembered of node `number`, of which `history` tells.
    fn snapshot(&self, number: u16, history: &[Record]) -> Option<NodeSnapshot> {
        let Self {
            incarnation,
            isolated,
            held_back,
            recount,
            issued,
            claimed,
            reported,
            journaled,
            is_older: _,
        } = self;
        let isolated_from = match isolated {
            None => None,
            Some(why) => {
                let is_it =
                    |record: &Record| isolation_of(record) == Some((number, *why));
                Some(last(history, &is_it)?)
            }
        };
        Some(NodeSnapshot {
            incarnation: *incarnation,
            isolated_from,
            held_back: *held_back,
            left_out: *recount == Recount::LeftOut,
            issued: *issued,
            claimed: *claimed,
            reported: *reported,
            journaled: *journaled,
        })
    }

    fn restore(
        number: u16,
        kept: NodeSnapshot,
        story: &[Record],
    ) -> Result<Self, SnapshotError> {
        let NodeSnapshot {
            incarnation,
            isolated_from,
            held_back,
            left_out,
            issued,
            claimed,
            reported,
            journaled,
        } = kept;
        let recount = if left_out { Recount::LeftOut } else { Recount::Done };
        let isolated = match isolated_from {
            None => None,
            Some(place) => {
                let why = at(story, place).and_then(isolation_of);
                let why = why.filter(|(node, _)| *node == number);
                let what = "the node that it isolated";
                let why = why.ok_or(SnapshotError::Story { place, what })?;
                Some(why.1)
            }
        };
        Ok(Self {
            incarnation,
            isolated,
            held_back,
            recount,
            issued,
            claimed,
            reported,
            journaled,
            is_older: false,
        })
    }
}

impl JobState {
    fn snapshot(&self) -> JobSnapshot {
        let Self {
            generation,
            leased_to,
            states,
            stages: _,
            reclosed,
            dial_tone_since,
            totals,
        } = self;
        JobSnapshot {
            generation: *generation,
            leased_to: *leased_to,
            states: states.bytes().to_vec(),
            reclosed: reclosed.iter().copied().collect(),
            dial_tone_since: *dial_tone_since,
            totals: *totals,
        }
    }
}

/// The phase that a record leads to, if it stops or ends the rollout.
fn phase_of(record: &Record) -> Option<Phase> {
    match record {
        Record::Paused(action)
        | Record::Frozen(action)
        | Record::RebuildBegun(action)
        | Record::Reclosed { action, .. } => Some(Phase::Paused(action.clone())),
        Record::Halted { reason, evidence, at } => {
            Some(Phase::halted(*reason, evidence, *at))
        }
        Record::Aborted(action) => Some(Phase::Aborted(action.clone())),
        Record::Finished { at } => Some(Phase::Finished { at: *at }),
        Record::NodeJoined { .. }
        | Record::Retried { .. }
        | Record::JobLeased { .. }
        | Record::FactsReported { .. }
        | Record::LevelAllowed { .. }
        | Record::Expanded { .. }
        | Record::Overridden { .. }
        | Record::EmergencyBegun { .. }
        | Record::EmergencyEnded { .. }
        | Record::NodeIsolated { .. }
        | Record::Resumed { .. }
        | Record::ClaimsFound { .. }
        | Record::MailboxesFound { .. }
        | Record::NodeRecounted { .. }
        | Record::Rebuilt { .. }
        | Record::Thawed(_)
        | Record::NodeAccepted { .. } => None,
    }
}

/// The node that a record isolates, and why.
fn isolation_of(record: &Record) -> Option<(u16, IsolateReason)> {
    if let Record::NodeIsolated { node, reason, .. } = record {
        return Some((node.get(), *reason));
    }
    None
}

/// The place of the last record of the story that is so.
fn last(story: &[Record], is_it: &dyn Fn(&Record) -> bool) -> Option<u64> {
    let place = story.iter().rposition(is_it);
    debug_assert!(place.is_some(), "the story says what has happened");
    place.map(count)
}

fn at(story: &[Record], place: u64) -> Option<&Record> {
    story.get(usize::try_from(place).ok()?)
}

fn count(length: usize) -> u64 {
    length as u64
}

fn expect(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), SnapshotError> {
    if found == expected {
        return Ok(());
    }
    Err(SnapshotError::Count { what, found, expected })
}
