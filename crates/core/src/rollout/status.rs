//! Status: what a person or a program is told about a rollout, made from its state.
//!
//! # Invariants
//!
//! * Every number is counted from the same state that decides; nothing is estimated here.
//! * Whatever does not move says why, with its numbers.

use std::fmt;

use super::{Phase, Rollout, Scope};
use crate::fleet::{
    Incarnation, JobNumber, MailboxNumber, NodeNumber, Ordinal, WaveNumber,
};
use crate::gate::{HoldReason, Judgement, Verdict, judge};
use crate::mailbox::{Level, MailboxState};
use crate::plan::Job;
use crate::time::{Span, Timestamp};

/// The whole rollout at one instant.
#[derive(Clone, Debug)]
pub struct RolloutStatus {
    /// When this was true.
    pub at: Timestamp,
    /// Whether it moves.
    pub phase: Phase,
    /// How far a stop has reached the nodes; nothing while running or finished.
    pub stop: Option<Stop>,
    /// What it waits for.
    pub why: Vec<Why>,
    /// In the order in which they open.
    pub waves: Vec<WaveStatus>,
    /// In the order of their names.
    pub nodes: Vec<NodeStatus>,
    /// Messages of all prepared mailboxes.
    pub totals: super::MessageTotals,
    /// The version of the newest orders.
    pub orders_version: u64,
}

/// How far a stop has reached the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Nodes that have not acknowledged it and whose lease still runs.
    pub unacknowledged: Vec<NodeNumber>,
    /// The most mailboxes that may still open on them.
    pub may_still_open: u32,
}

/// What something waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The rollout was paused.
    Paused,
    /// The gate halted it.
    Halted(String),
    /// It was ended.
    Aborted,
    /// It is complete.
    Finished,
    /// The gate holds.
    Gate(HoldReason),
    /// A wave was re-closed and waits for a person.
    WaveHeldBack(String),
    /// A node was re-closed and waits for a person.
    NodeHeldBack(String),
    /// A node was isolated by the gate.
    NodeIsolated(String),
    /// No worker has taken up the node.
    NoWorker(String),
    /// The node's worker is silent.
    WorkerSilent(String, Span),
    /// A mailbox is set aside for a person.
    Quarantined,
    /// Mailboxes of the wave are still being verified.
    Preparing(u32),
    /// Its wave has not been allowed to open yet.
    WaveWaits(String),
    /// It was re-closed by name.
    MailboxHeldBack,
}

impl Why {
    /// The stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Halted(_) => "halted",
            Self::Aborted => "aborted",
            Self::Finished => "finished",
            Self::Gate(reason) => reason.code(),
            Self::WaveHeldBack(_) => "wave-held-back",
            Self::NodeHeldBack(_) => "node-held-back",
            Self::NodeIsolated(_) => "node-isolated",
            Self::NoWorker(_) => "no-worker",
            Self::WorkerSilent(..) => "worker-silent",
            Self::Quarantined => "quarantined",
            Self::Preparing(_) => "preparing",
            Self::WaveWaits(_) => "wave-waits",
            Self::MailboxHeldBack => "mailbox-held-back",
        }
    }
}

impl fmt::Display for Why {
    /// One line: what is waited for, its numbers, and who can end it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("paused; an operator can resume it"),
            Self::Halted(reason) => {
                write!(f, "halted by the gate: {reason}; re-close the wave, then resume")
            }
            Self::Aborted => f.write_str("aborted; what is open stays open"),
            Self::Finished => f.write_str("finished"),
            Self::Gate(reason) => reason.fmt(f),
            Self::WaveHeldBack(wave) => {
                write!(f, "wave `{wave}` was re-closed; an operator can resume it")
            }
            Self::NodeHeldBack(node) => {
                write!(f, "node `{node}` was re-closed; an operator can resume it")
            }
            Self::NodeIsolated(node) => {
                write!(f, "the gate isolated node `{node}`; an operator can resume it")
            }
            Self::NoWorker(node) => {
                write!(f, "no worker has taken up node `{node}`; start one there")
            }
            Self::WorkerSilent(node, silent) => {
                write!(f, "the worker of node `{node}` has been silent for {silent}")
            }
            Self::Quarantined => f.write_str("set aside; a person must look at it"),
            Self::Preparing(1) => f.write_str("not yet verified"),
            Self::Preparing(mailboxes) => {
                write!(f, "{mailboxes} mailboxes not yet verified")
            }
            Self::WaveWaits(wave) => {
                write!(
                    f,
                    "wave `{wave}` may not open this level yet; earlier steps come first"
                )
            }
            Self::MailboxHeldBack => f.write_str("re-closed; an operator can resume it"),
        }
    }
}

/// What a wave does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaveCondition {
    /// Earlier waves come first; its mailboxes may be prepared already.
    Waiting,
    /// Mailboxes are being raised, or their health is awaited.
    Opening,
    /// It stands on the top of the ladder.
    Passed,
    /// Re-closed.
    HeldBack,
}

/// One wave at one instant.
#[derive(Clone, Debug)]
pub struct WaveStatus {
    /// The wave.
    pub wave: WaveNumber,
    /// What it does.
    pub condition: WaveCondition,
    /// The level it may open, and whether that level has passed.
    pub allowed: Level,
    /// The level it has passed.
    pub passed: Level,
    /// When the level was allowed.
    pub allowed_at: Timestamp,
    /// All its mailboxes.
    pub planned: u32,
    /// Verified and repaired.
    pub prepared: u32,
    /// Set aside.
    pub quarantined: u32,
    /// On any level above held.
    pub open: u32,
    /// On the allowed level or above.
    pub opened: u32,
    /// Mature on the allowed level.
    pub mature: u32,
    /// Failed, integrity included.
    pub failed: u32,
    /// Settled mailboxes by how well each came back.
    pub grades: super::Grades,
    /// The gate's present view of it, once it may open.
    pub judgement: Option<Judgement>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeCondition {
    /// No worker has joined since the rollout began.
    NoWorker,
    /// Heard lately.
    Working,
    /// Not heard for longer than its lease.
    Silent,
    /// Taken out by the gate.
    Isolated,
    /// Re-closed by a person.
    HeldBack,
}

/// One node at one instant.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeNumber,
    /// What it does.
    pub condition: NodeCondition,
    /// When it was last heard, if since this program started.
    pub heard_at: Option<Timestamp>,
    /// Its mailboxes in the plan.
    pub planned: u32,
    /// Verified and repaired.
    pub prepared: u32,
    /// Set aside.
    pub quarantined: u32,
    /// On any level above held.
    pub open: u32,
    /// Failed, integrity included.
    pub failed: u32,
    /// How it feels.
    pub vitals: super::Vitals,
}

/// One mailbox at one instant.
#[derive(Clone, Debug)]
pub struct MailboxStatus {
    /// The mailbox.
    pub mailbox: MailboxNumber,
    /// Its place; nothing if it is excluded.
    pub place: Option<(JobNumber, Ordinal)>,
    /// Its wave.
    pub wave: Option<WaveNumber>,
    /// What is known.
    pub state: MailboxState,
    /// What it waits for.
    pub why: Vec<Why>,
    /// What a person should know.
    pub findings: Vec<super::Finding>,
}

impl Rollout {
    /// The whole rollout.
    pub fn status(&self, now: Timestamp) -> RolloutStatus {
        let waves: Vec<WaveStatus> =
            (0..self.waves.len()).map(|index| self.wave_status(index, now)).collect();
        let totals = self
            .jobs
            .iter()
            .fold(super::MessageTotals::default(), |sum, job| sum.plus(job.totals));
        RolloutStatus {
            at: now,
            phase: self.phase.clone(),
            stop: self.stop(now),
            why: self.why(&waves),
            waves,
            nodes: (0..self.nodes.len())
                .map(|index| self.node_status(index, now))
                .collect(),
            totals,
            orders_version: self.orders_version,
        }
    }

    /// The worker that has the node, if one has taken it up.
    pub fn worker_of(&self, node: NodeNumber) -> Option<Incarnation> {
        self.nodes.get(node.index()).and_then(|node| node.incarnation)
    }

    /// What is known of one mailbox; held if it is excluded.
    pub fn mailbox_state(&self, mailbox: MailboxNumber) -> MailboxState {
        let place = self.plan.place(mailbox);
        let state = place.and_then(|(job, ordinal)| {
            self.job(job).states.get(ordinal.index()).copied()
        });
        state.unwrap_or_default()
    }

    /// One mailbox.
    pub fn mailbox_status(
        &self,
        mailbox: MailboxNumber,
        now: Timestamp,
    ) -> MailboxStatus {
        let place = self.plan.place(mailbox);
        let job = place.and_then(|(job, _)| self.plan.jobs().get(job.index()));
        let state = self.mailbox_state(mailbox);
        let findings = place.map_or(Vec::new(), |(job, ordinal)| {
            self.findings(job).iter().filter(|f| f.ordinal == ordinal).cloned().collect()
        });
        let mut why = Vec::new();
        if let Some(job) = job {
            why = self.why_mailbox(mailbox, state, job, now);
        }
        MailboxStatus {
            mailbox,
            place,
            wave: job.map(|job| job.wave),
            state,
            why,
            findings,
        }
    }

    /// Mailboxes of `scope` that are still open as far as is known: zero once a reclose has
    /// reached every mailbox.
    pub fn still_open(&self, scope: Scope) -> u32 {
        let open =
            |states: &[MailboxState]| states.iter().filter(|s| s.is_open()).count();
        let jobs = self.plan.jobs().iter();
        let count: usize = match scope {
            Scope::Wave(wave) => jobs
                .filter(|job| job.wave == wave)
                .map(|job| open(&self.job(job.number).states))
                .sum(),
            Scope::Node(node) => jobs
                .filter(|job| job.node == node)
                .map(|job| open(&self.job(job.number).states))
                .sum(),
            Scope::Mailbox(mailbox) => {
                self.plan.place(mailbox).map_or(0, |(job, ordinal)| {
                    self.job(job)
                        .states
                        .get(ordinal.index())
                        .map_or(0, |s| usize::from(s.is_open()))
                })
            }
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn stop(&self, now: Timestamp) -> Option<Stop> {
        if matches!(self.phase, Phase::Running | Phase::Finished { .. }) {
            return None;
        }
        let lease = self.plan.policy().limits.lease;
        let unacknowledged: Vec<NodeNumber> = (0..)
            .map(NodeNumber::new)
            .zip(self.nodes.iter().zip(&self.heard))
            .filter(|(number, (node, heard))| {
                node.incarnation.is_some()
                    && !heard.without_permit
                    && heard.orders_obeyed < self.stop_version
                    && now.since(self.heard_at(*number)) < lease
            })
            .map(|(number, _)| number)
            .collect();
        let jobs = self.plan.jobs().iter();
        let jobs = jobs.filter(|job| {
            unacknowledged.contains(&job.node)
                && self.wave(job.wave).allowed > Level::HELD
        });
        let window = u32::from(self.plan.policy().limits.permit_window);
        let may_still_open = jobs
            .map(|job| {
                let level = self.wave(job.wave).allowed;
                let below =
                    self.job(job.number).states.iter().filter(|s| s.level < level);
                u32::try_from(below.count()).unwrap_or(u32::MAX).min(window)
            })
            .sum();
        Some(Stop { unacknowledged, may_still_open })
    }

    fn why(&self, waves: &[WaveStatus]) -> Vec<Why> {
        match &self.phase {
            Phase::Paused(_) => return vec![Why::Paused],
            Phase::Halted { reason, .. } => return vec![Why::Halted(reason.to_string())],
            Phase::Aborted(_) => return vec![Why::Aborted],
            Phase::Finished { .. } => return vec![Why::Finished],
            Phase::Running => {}
        }
        let Some(current) = self.current_wave() else { return Vec::new() };
        if self.wave(current).held_back {
            return vec![Why::WaveHeldBack(self.wave_name(current).to_owned())];
        }
        let judgement =
            waves.get(current.index()).and_then(|wave| wave.judgement.as_ref());
        match judgement.map(|judgement| &judgement.verdict) {
            Some(Verdict::Hold(reasons)) => {
                reasons.iter().copied().map(Why::Gate).collect()
            }
            Some(Verdict::Expand | Verdict::Isolate { .. } | Verdict::Halt(_)) | None => {
                Vec::new()
            }
        }
    }

    fn grades(&self, wave: WaveNumber) -> super::Grades {
        let planned = self.plan.waves().get(wave.index());
        let jobs =
            planned.map_or(0..0, |wave| wave.jobs.start as usize..wave.jobs.end as usize);
        let jobs = self.jobs.get(jobs).unwrap_or_default();
        let each = jobs.iter().map(|job| job.totals.grades);
        each.fold(super::Grades::default(), super::Grades::plus)
    }

    fn wave_status(&self, index: usize, now: Timestamp) -> WaveStatus {
        let number =
            WaveNumber::new(u16::try_from(index).expect("waves are numbered in 16 bits"));
        let wave = self.wave(number);
        let sum =
            |count: &dyn Fn(&super::Tally) -> u32| wave.tallies.iter().map(count).sum();
        let quarantined = sum(&|t| t.quarantined());
        let settled: u32 = sum(&|t| t.settled());
        let judgement = (wave.allowed > Level::HELD)
            .then(|| judge(&self.evidence(number), &self.plan.policy().gate, now));
        let condition = if wave.held_back {
            WaveCondition::HeldBack
        } else if wave.allowed == Level::HELD {
            WaveCondition::Waiting
        } else if wave.passed == self.top() {
            WaveCondition::Passed
        } else {
            WaveCondition::Opening
        };
        WaveStatus {
            wave: number,
            condition,
            allowed: wave.allowed,
            passed: wave.passed,
            allowed_at: wave.allowed_at,
            planned: sum(&|t| t.planned()),
            prepared: settled - quarantined,
            quarantined,
            open: sum(&|t| t.open()),
            opened: sum(&|t| t.opened(wave.allowed)),
            mature: sum(&|t| t.mature(wave.allowed)),
            failed: sum(&|t| t.failed() + t.integrity_failed()),
            grades: self.grades(number),
            judgement,
        }
    }

    fn node_status(&self, index: usize, now: Timestamp) -> NodeStatus {
        let number =
            NodeNumber::new(u16::try_from(index).expect("nodes are numbered in 16 bits"));
        let state = self.nodes.get(index);
        let heard = self.heard.get(index).copied().unwrap_or_default();
        let lease = self.plan.policy().limits.lease;
        let condition = match state {
            Some(node) if node.held_back => NodeCondition::HeldBack,
            Some(node) if node.isolated.is_some() => NodeCondition::Isolated,
            Some(node) if node.incarnation.is_none() => NodeCondition::NoWorker,
            Some(_) if now.since(self.heard_at(number)) > lease => NodeCondition::Silent,
            Some(_) => NodeCondition::Working,
            None => NodeCondition::NoWorker,
        };
        let tallies =
            || self.waves.iter().flat_map(|w| &w.tallies).filter(|t| t.node == number);
        let quarantined: u32 = tallies().map(super::Tally::quarantined).sum();
        NodeStatus {
            node: number,
            condition,
            heard_at: heard.at,
            planned: tallies().map(super::Tally::planned).sum(),
            prepared: tallies().map(super::Tally::settled).sum::<u32>() - quarantined,
            quarantined,
            open: tallies().map(super::Tally::open).sum(),
            failed: tallies().map(|t| t.failed() + t.integrity_failed()).sum(),
            vitals: heard.vitals,
        }
    }

    fn why_mailbox(
        &self,
        mailbox: MailboxNumber,
        state: MailboxState,
        job: &Job,
        now: Timestamp,
    ) -> Vec<Why> {
        let (wave, node) = (job.wave, job.node);
        if state.level == self.top() {
            return Vec::new();
        }
        let mut why = Vec::new();
        if state.preparation == crate::mailbox::Preparation::Quarantined {
            why.push(Why::Quarantined);
        }
        if self.held_back.contains(&mailbox) {
            why.push(Why::MailboxHeldBack);
        }
        let node_status = self.node_status(node.index(), now);
        let name = self.node_name(node).to_owned();
        match node_status.condition {
            NodeCondition::NoWorker => why.push(Why::NoWorker(name)),
            NodeCondition::Silent => {
                why.push(Why::WorkerSilent(name, now.since(self.heard_at(node))));
            }
            NodeCondition::Isolated => why.push(Why::NodeIsolated(name)),
            NodeCondition::HeldBack => why.push(Why::NodeHeldBack(name)),
            NodeCondition::Working => {}
        }
        let waves = self.wave(wave);
        if waves.held_back {
            why.push(Why::WaveHeldBack(self.wave_name(wave).to_owned()));
        } else if waves.allowed <= state.level {
            why.push(Why::WaveWaits(self.wave_name(wave).to_owned()));
        }
        match &self.phase {
            Phase::Paused(_) => why.push(Why::Paused),
            Phase::Halted { reason, .. } => why.push(Why::Halted(reason.to_string())),
            Phase::Aborted(_) => why.push(Why::Aborted),
            Phase::Running | Phase::Finished { .. } => {}
        }
        if !state.is_settled() {
            why.push(Why::Preparing(1));
        }
        why
    }
}
