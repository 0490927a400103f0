//! Status: what a person or a program is told about a rollout, made from its state.
//!
//! # Invariants
//!
//! * Every number is counted from the same state that decides; nothing is estimated here but
//!   when waves will be done, and that says how sure it is.
//! * Whatever does not move says why, with its numbers.

use std::fmt;

use super::turn::Turn;
use super::{Emergency, Marks, Phase, RebuildStatus, Recount, Rollout, Scope, ordinals};
use crate::fleet::{
    Incarnation, JobNumber, MailboxNumber, NodeNumber, Ordinal, WaveNumber,
};
use crate::gate::{HoldReason, Judgement, Verdict};
use crate::mailbox::{Level, MailboxState};
use crate::plan::{Job, Plan};
use crate::planted::{self, Bug};
use crate::time::{MinuteOf, Span, Timestamp};

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
    /// How far a rebuild is; nothing if none is under way.
    pub rebuild: Option<RebuildStatus>,
    /// The emergency profile, while it is in force.
    pub emergency: Option<Emergency>,
}

/// A node that has missed so many reports in a row is not waited for any more.
const BEATS_MISSED_MAX: u64 = 3;

/// How far a stop has reached the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Nodes with a worker.
    pub nodes: u32,
    /// Nodes that have not acknowledged it and whose lease still runs.
    pub unacknowledged: Vec<NodeNumber>,
    /// Of these, nodes that are not heard any more.
    pub unreachable: Vec<NodeNumber>,
    /// Nodes that have not acknowledged it and stopped when their lease ended.
    pub lapsed: Vec<NodeNumber>,
    /// The most mailboxes that may still open on nodes that have not acknowledged it and
    /// whose lease still runs.
    pub may_still_open: u32,
}

/// What something waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The rollout was paused.
    Paused,
    /// The rollout was frozen.
    Frozen {
        /// Who did it.
        by: String,
        /// Why, as they said.
        reason: String,
    },
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
    /// A wave waits for its schedule.
    Scheduled {
        /// The wave.
        wave: String,
        /// The rung it may take then.
        rung: String,
        /// When, at the earliest.
        until: Timestamp,
    },
    /// The calendar does not let a wave begin now.
    Window {
        /// The wave.
        wave: String,
        /// The rung it would take.
        rung: String,
        /// When it may; nothing if at no time that is known.
        until: Option<Timestamp>,
        /// How long it takes, nine times in ten, if that can be told.
        takes: Option<Span>,
    },
    /// The calendar does not let anything begin on a node now.
    NodeWindow {
        /// The node.
        node: String,
        /// When it may; nothing if at no time that is known.
        until: Option<Timestamp>,
    },
    /// It was re-closed by name.
    MailboxHeldBack,
    /// The rollout is being rebuilt from what the nodes hold.
    Rebuilding {
        /// Nodes that have told everything.
        told: usize,
        /// Those that have not.
        missing: String,
    },
    /// The node has yet to tell what it holds.
    NodeRecounting(String),
    /// The node was left out of a rebuild.
    NodeLeftOut(String),
    /// A worker of the node was turned away that knew less than the node has told before.
    WorkerTooOld(String),
    /// The node's worker has obeyed or claimed more than this coordinator ever gave.
    JournalTooOld(String),
}

impl Why {
    /// The stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Frozen { .. } => "frozen",
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
            Self::Scheduled { .. } => "scheduled",
            Self::Window { .. } => "window",
            Self::NodeWindow { .. } => "node-window",
            Self::MailboxHeldBack => "mailbox-held-back",
            Self::Rebuilding { .. } => "rebuilding",
            Self::NodeRecounting(_) => "node-recounting",
            Self::NodeLeftOut(_) => "node-left-out",
            Self::WorkerTooOld(_) => "worker-too-old",
            Self::JournalTooOld(_) => "journal-too-old",
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
            Self::Frozen { .. }
            | Self::Scheduled { .. }
            | Self::Window { .. }
            | Self::NodeWindow { .. } => self.fmt_until(f),
            Self::MailboxHeldBack => f.write_str("re-closed; an operator can resume it"),
            Self::Rebuilding { told, missing } => {
                write!(
                    f,
                    "rebuilt from what the nodes hold: {told} have told everything, missing: \
                     {missing}; nothing opens until an operator resumes it"
                )
            }
            Self::NodeRecounting(node) => {
                write!(f, "node `{node}` has yet to tell what it holds")
            }
            Self::NodeLeftOut(node) => {
                write!(f, "node `{node}` was left out of the rebuild; accept it to go on")
            }
            Self::WorkerTooOld(node) => {
                write!(
                    f,
                    "the worker of node `{node}` was put back to an older state; accept it \
                     to have everything there verified anew"
                )
            }
            Self::JournalTooOld(node) => {
                write!(
                    f,
                    "node `{node}` knows orders or claims that this coordinator never gave: \
                     where most nodes do, an older journal was put back and the newest is \
                     needed; where only this one does, its worker is wrong"
                )
            }
        }
    }
}

impl Why {
    /// What passes with time, or by another hand.
    fn fmt_until(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Frozen { by, reason } = self {
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            return write!(f, "frozen by {by}: {reason}; somebody else must thaw it");
        }
        if let Self::Scheduled { wave, rung, until } = self {
            let until = MinuteOf(*until);
            return write!(
                f,
                "wave `{wave}` waits for its schedule until {until} ({rung})"
            );
        }
        if let Self::NodeWindow { node, until } = self {
            return write!(f, "node `{node}` waits for its window {}", Until(*until));
        }
        let Self::Window { wave, rung, until, takes } = self else { return Ok(()) };
        write!(f, "wave `{wave}` waits for its window {} ({rung}", Until(*until))?;
        match takes {
            Some(takes) => write!(f, "; it takes up to {takes} and must fit)"),
            None => f.write_str(")"),
        }
    }
}

/// When a window opens.
struct Until(Option<Timestamp>);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "until {}", MinuteOf(at)),
            None => f.write_str("and the calendar knows of none that it fits into"),
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
    /// It has passed a rung, and waits for its schedule or for waves before it.
    Between,
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
    /// When its schedule allows the next level, while it waits for that.
    pub due_at: Option<Timestamp>,
    /// When it will stand on the top of the ladder, as far as that can be told.
    pub done: Option<super::Forecast>,
    /// All its mailboxes.
    pub planned: u32,
    /// Verified and repaired.
    pub prepared: u32,
    /// Set aside.
    pub quarantined: u32,
    /// On any level above held.
    pub open: u32,
    /// Held ones that have a dial tone.
    pub dial_tones: u32,
    /// Re-closed, and not known to be closed yet; dial tones among them.
    pub closing: u32,
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
    /// Levels that it has passed in another way than by its usual gate.
    pub marks: Marks,
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
    /// It has yet to tell what it holds.
    Recounting,
    /// Left out of a rebuild.
    LeftOut,
    /// A worker of it was turned away that knew less than the node has told before.
    TurnedAway,
    /// Its worker has obeyed or claimed more than this coordinator ever gave.
    Ahead,
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
    /// Held ones that have a dial tone.
    pub dial_tones: u32,
    /// Re-closed, and not known to be closed yet; dial tones among them.
    pub closing: u32,
    /// Failed, integrity included.
    pub failed: u32,
    /// How it feels.
    pub vitals: super::Vitals,
    /// Whether its windows let nothing begin on it now.
    pub is_outside: bool,
    /// When they let something begin again, if that is known.
    pub opens_at: Option<Timestamp>,
}

/// One rung of the ladder, seen from a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RungStatus {
    /// Its services work; its wave was allowed them then.
    Open(Timestamp),
    /// Its wave was allowed them then; the mailbox follows.
    Opening(Timestamp),
    /// The schedule of its wave allows them then.
    Scheduled(Timestamp),
    /// They come later.
    Held,
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
    /// What of the ladder works for it, from the first rung on.
    pub rungs: Vec<RungStatus>,
    /// Since when it has been held with a dial tone, if it is: since those of its job began.
    pub dial_tone_since: Option<Timestamp>,
    /// Whether it is re-closed, and not known to be closed yet.
    pub closing: bool,
    /// What it waits for.
    pub why: Vec<Why>,
    /// What a person should know.
    pub findings: Vec<super::Finding>,
}

impl Rollout {
    /// The whole rollout.
    pub fn status(&self, now: Timestamp) -> RolloutStatus {
        let waves: Vec<WaveStatus> = self
            .turns(now)
            .zip(self.forecasts(now))
            .zip(self.marks())
            .map(|(((wave, turn), done), marks)| WaveStatus {
                done,
                marks,
                ..self.wave_status(wave, turn, now)
            })
            .collect();
        let totals = self
            .jobs
            .iter()
            .fold(super::MessageTotals::default(), |sum, job| sum.plus(job.totals));
        RolloutStatus {
            at: now,
            phase: self.phase.clone(),
            stop: self.stop(now),
            why: self.why(&waves, now),
            waves,
            nodes: (0..self.nodes.len())
                .zip(self.closing_by_node())
                .map(|(index, closing)| NodeStatus {
                    closing,
                    ..self.node_status(index, now)
                })
                .collect(),
            totals,
            orders_version: self.orders_version,
            rebuild: self.rebuilding(),
            emergency: self.emergency().cloned(),
        }
    }

    /// The worker that has the node, if one has taken it up.
    pub fn worker_of(&self, node: NodeNumber) -> Option<Incarnation> {
        self.nodes.get(node.index()).and_then(|node| node.incarnation)
    }

    /// What is known of one mailbox; held if it is excluded.
    pub fn mailbox_state(&self, mailbox: MailboxNumber) -> MailboxState {
        let place = self.plan.place(mailbox);
        let state =
            place.and_then(|(job, ordinal)| self.job(job).states.get(ordinal.index()));
        state.unwrap_or_default()
    }

    /// Mailboxes of `scope` that are still open as far as is known, or have a dial tone, or may
    /// be open in the older state of a node, or on a node that has yet to tell anew what was on
    /// record before: zero once a reclose has reached every mailbox.
    pub fn still_open(&self, scope: Scope) -> u32 {
        let jobs = self.plan.jobs().iter();
        let open = |planned: &Job| {
            let job = self.job(planned.number);
            let all = self.is_untold(planned);
            let states = ordinals(&job.states);
            let open = states.filter(|(at, state)| all || job.is_inside(*at, *state));
            open.count()
        };
        let count: usize = match scope {
            Scope::Wave(wave) => jobs.filter(|job| job.wave == wave).map(open).sum(),
            Scope::Node(node) => jobs.filter(|job| job.node == node).map(open).sum(),
            Scope::Mailbox(mailbox) => {
                self.plan.place(mailbox).map_or(0, |(number, ordinal)| {
                    let job = self.job(number);
                    let planned = self.plan.jobs().get(number.index());
                    let all = planned.is_some_and(|it| self.is_untold(it));
                    let state = job.states.get(ordinal.index());
                    usize::from(state.is_some_and(|it| all || job.is_inside(ordinal, it)))
                })
            }
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn stop(&self, now: Timestamp) -> Option<Stop> {
        if matches!(self.phase, Phase::Running | Phase::Finished { .. }) {
            return None;
        }
        let limits = &self.plan.policy().limits;
        let beat = limits.beat.millis();
        let unreachable_after = Span::from_millis(beat.saturating_mul(BEATS_MISSED_MAX));
        let mut stop = Stop::default();
        for (number, (node, heard)) in
            (0..).map(NodeNumber::new).zip(self.nodes.iter().zip(&self.heard))
        {
            // One that is to tell what it holds may still obey orders of the lost journal.
            if node.incarnation.is_none() && node.recount != Recount::Awaited {
                continue;
            }
            stop.nodes += 1;
            if planted::is(Bug::AckPauseEarly)
                || heard.without_permit
                || heard.orders_obeyed >= self.stop_version
            {
                continue;
            }
            let silent = now.since(self.heard_at(number));
            if silent >= limits.lease {
                stop.lapsed.push(number);
                continue;
            }
            stop.unacknowledged.push(number);
            if silent >= unreachable_after {
                stop.unreachable.push(number);
            }
            let here = self.may_still_open_on(number);
            stop.may_still_open = stop.may_still_open.saturating_add(here);
        }
        Some(stop)
    }

    fn why(&self, waves: &[WaveStatus], now: Timestamp) -> Vec<Why> {
        match &self.phase {
            Phase::Paused(_) => {
                let rebuilding = self.rebuilding().map(|rebuild| {
                    let RebuildStatus { told, missing } = rebuild;
                    let names = missing.iter().map(|node| self.node_name(*node));
                    let missing = names.collect::<Vec<_>>().join(", ");
                    Why::Rebuilding { told, missing }
                });
                let frozen = self.why_frozen();
                let stopped = rebuilding.or(frozen.is_none().then_some(Why::Paused));
                return stopped.into_iter().chain(frozen).collect();
            }
            Phase::Halted { reason, .. } => {
                let halted = Why::Halted(reason.to_string());
                return std::iter::once(halted).chain(self.why_frozen()).collect();
            }
            Phase::Aborted(_) => return vec![Why::Aborted],
            Phase::Finished { .. } => return vec![Why::Finished],
            Phase::Running => {}
        }
        let mut why = Vec::new();
        let mut scheduled: Option<(Timestamp, Why)> = None;
        let mut first = true;
        for (wave, turn) in self.turns(now) {
            match turn {
                Turn::HeldBack if first => {
                    return vec![Why::WaveHeldBack(self.wave_name(wave).to_owned())];
                }
                // What holds the first one holds all; of the others only what does not pass
                // by itself is worth a word.
                Turn::Climbing => {
                    let holds = holds(waves.get(wave.index()));
                    let told = holds.iter().filter(|hold| first || hold.needs_person());
                    why.extend(told.copied().map(Why::Gate));
                }
                Turn::Scheduled(level, due) => {
                    if scheduled.as_ref().is_none_or(|(soonest, _)| due < *soonest) {
                        scheduled =
                            Some((due, why_scheduled(&self.plan, wave, level, due)));
                    }
                    continue;
                }
                Turn::Outside(level, until) => {
                    let takes = self.step_takes(wave, level, now);
                    why.push(why_window(&self.plan, (wave, level), until, takes));
                    continue;
                }
                Turn::Passed | Turn::Waits => continue,
                Turn::HeldBack | Turn::Next(_) => {}
            }
            first = false;
        }
        why.extend(scheduled.map(|(_, why)| why));
        why.extend(self.nodes_outside(now).map(|(node, until)| {
            let node = self.node_name(node).to_owned();
            Why::NodeWindow { node, until }
        }));
        why
    }

    fn grades(&self, wave: WaveNumber) -> super::Grades {
        let planned = self.plan.waves().get(wave.index());
        let jobs =
            planned.map_or(0..0, |wave| wave.jobs.start as usize..wave.jobs.end as usize);
        let jobs = self.jobs.get(jobs).unwrap_or_default();
        let each = jobs.iter().map(|job| job.totals.grades);
        each.fold(super::Grades::default(), super::Grades::plus)
    }

    fn wave_status(&self, number: WaveNumber, turn: Turn, now: Timestamp) -> WaveStatus {
        let wave = self.wave(number);
        let sum =
            |count: &dyn Fn(&super::Tally) -> u32| wave.tallies.iter().map(count).sum();
        let quarantined = sum(&|t| t.quarantined());
        let settled: u32 = sum(&|t| t.settled());
        let judgement = (wave.allowed > Level::HELD)
            .then(|| self.plan.judge(&self.evidence(number, now), now));
        let condition = match turn {
            Turn::HeldBack => WaveCondition::HeldBack,
            Turn::Passed => WaveCondition::Passed,
            Turn::Climbing => WaveCondition::Opening,
            _ if wave.allowed == Level::HELD => WaveCondition::Waiting,
            Turn::Next(_) => WaveCondition::Opening,
            Turn::Scheduled(..) | Turn::Outside(..) | Turn::Waits => {
                WaveCondition::Between
            }
        };
        let due_at = match turn {
            Turn::Scheduled(_, due) => Some(due),
            Turn::Outside(_, opens) => opens,
            Turn::HeldBack
            | Turn::Passed
            | Turn::Climbing
            | Turn::Next(_)
            | Turn::Waits => None,
        };
        WaveStatus {
            wave: number,
            condition,
            allowed: wave.allowed,
            passed: wave.passed,
            allowed_at: wave.allowed_at,
            due_at,
            done: None,
            planned: sum(&|t| t.planned()),
            prepared: settled - quarantined,
            quarantined,
            open: sum(&|t| t.open()),
            dial_tones: sum(&|t| t.dial_tones()),
            closing: self.closing_of_wave(number),
            opened: sum(&|t| t.opened(wave.allowed)),
            mature: sum(&|t| t.mature(wave.allowed)),
            failed: sum(&|t| t.failed() + t.integrity_failed()),
            grades: self.grades(number),
            judgement,
            marks: Marks::default(),
        }
    }

    /// What a node does.
    pub(super) fn node_condition(
        &self,
        number: NodeNumber,
        now: Timestamp,
    ) -> NodeCondition {
        let state = self.nodes.get(number.index());
        let heard = self.heard.get(number.index());
        let turned_away = heard.is_some_and(|heard| heard.turned_away);
        let lease = self.plan.policy().limits.lease;
        match state {
            Some(_) if self.is_ahead(number) => NodeCondition::Ahead,
            Some(_) if turned_away && self.at_work(number, now).is_none() => {
                NodeCondition::TurnedAway
            }
            Some(node) if node.recount == Recount::LeftOut => NodeCondition::LeftOut,
            Some(_) if self.tells_anew(number) => NodeCondition::Recounting,
            Some(node) if node.incarnation.is_some() && node.recount.is_pending() => {
                NodeCondition::Recounting
            }
            Some(node) if node.held_back => NodeCondition::HeldBack,
            Some(node) if node.isolated.is_some() => NodeCondition::Isolated,
            Some(node) if node.incarnation.is_none() => NodeCondition::NoWorker,
            Some(_) if now.since(self.heard_at(number)) > lease => NodeCondition::Silent,
            Some(_) => NodeCondition::Working,
            None => NodeCondition::NoWorker,
        }
    }

    fn node_status(&self, index: usize, now: Timestamp) -> NodeStatus {
        let number =
            NodeNumber::new(u16::try_from(index).expect("nodes are numbered in 16 bits"));
        let heard = self.heard.get(index).copied().unwrap_or_default();
        let tallies =
            || self.waves.iter().flat_map(|w| &w.tallies).filter(|t| t.node == number);
        let quarantined: u32 = tallies().map(super::Tally::quarantined).sum();
        let outside = self.nodes_outside(now).find(|(node, _)| *node == number);
        NodeStatus {
            node: number,
            condition: self.node_condition(number, now),
            heard_at: heard.at,
            planned: tallies().map(super::Tally::planned).sum(),
            prepared: tallies().map(super::Tally::settled).sum::<u32>() - quarantined,
            quarantined,
            open: tallies().map(super::Tally::open).sum(),
            dial_tones: tallies().map(super::Tally::dial_tones).sum(),
            closing: 0,
            failed: tallies().map(|t| t.failed() + t.integrity_failed()).sum(),
            vitals: heard.vitals,
            is_outside: outside.is_some(),
            opens_at: outside.and_then(|(_, opens)| opens),
        }
    }
}

/// What `wave` waits for until it may take `level`.
pub(super) fn why_scheduled(
    plan: &Plan,
    wave: WaveNumber,
    level: Level,
    until: Timestamp,
) -> Why {
    let name = plan.waves().get(wave.index()).map(|wave| wave.name.clone());
    let rung = plan.policy().rung(level).map(|rung| rung.name.clone());
    let (wave, rung) = (name.unwrap_or_default(), rung.unwrap_or_default());
    Why::Scheduled { wave, rung, until }
}

/// Why a wave may not begin with a level that the calendar does not let it begin with.
pub(super) fn why_window(
    plan: &Plan,
    (wave, level): (WaveNumber, Level),
    until: Option<Timestamp>,
    takes: Option<Span>,
) -> Why {
    let name = plan.waves().get(wave.index()).map(|wave| wave.name.clone());
    let rung = plan.policy().rung(level).map(|rung| rung.name.clone());
    let (wave, rung) = (name.unwrap_or_default(), rung.unwrap_or_default());
    let takes = takes.map(|takes| Span::from_secs(takes.millis() / 1_000));
    Why::Window { wave, rung, until, takes }
}

/// Why the gate holds a wave that climbs.
fn holds(wave: Option<&WaveStatus>) -> &[HoldReason] {
    let judgement = wave.and_then(|wave| wave.judgement.as_ref());
    match judgement.map(|judgement| &judgement.verdict) {
        Some(Verdict::Hold(reasons)) => reasons,
        Some(Verdict::Expand | Verdict::Isolate { .. } | Verdict::Halt(_)) | None => &[],
    }
}
