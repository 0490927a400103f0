//! Outlook: what bears on single mailboxes at one instant, beside what is known of each.
//!
//! Whoever has one, and the states of mailboxes, tells of each without looking at the rollout.
//!
//! # Invariants
//!
//! * It says of a mailbox what the rollout itself would have said at that instant.
//! * It is as large as the plan has waves, nodes and jobs, however many mailboxes there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::status::{why_scheduled, why_window};
use super::turn::Turn;
use super::{
    Finding, JobReport, LEVELS, MailboxStatus, NodeCondition, Phase, Record, Rollout,
    RungStatus, Scope, Why,
};
use crate::fleet::{JobNumber, MailboxNumber, NodeNumber, Ordinal, WaveNumber};
use crate::mailbox::{Level, MailboxState, Preparation};
use crate::plan::{Job, Plan};
use crate::time::{Span, Timestamp};

/// What bears on single mailboxes at one instant.
#[derive(Clone, Debug)]
pub struct Outlook {
    plan: Arc<Plan>,
    /// The top of the ladder.
    top: Level,
    /// What keeps all of them.
    stopped: Option<Why>,
    /// By number.
    waves: Vec<WaveOutlook>,
    /// By number.
    nodes: Vec<NodeOutlook>,
    /// Jobs of nodes that have yet to tell anew what was on record of them before.
    untold: BTreeSet<JobNumber>,
}

#[derive(Clone, Copy, Debug)]
struct WaveOutlook {
    allowed: Level,
    since: [Timestamp; LEVELS],
    turn: Turn,
    held_back: bool,
}

#[derive(Clone, Copy, Debug)]
struct NodeOutlook {
    condition: NodeCondition,
    silent: Span,
    held_back: bool,
}

/// What is known of one mailbox. Most are plain: nothing is known but their state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// How far it is.
    pub state: MailboxState,
    /// Whether it was re-closed by name.
    pub held_back: bool,
    /// Whether it was re-closed with others, and is not known to be closed yet.
    pub reclosed: bool,
    /// Since when those of its job have had a dial tone, if it has one.
    pub dial_tone_since: Option<Timestamp>,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

impl Known {
    /// Nothing but its state.
    pub fn plain(state: MailboxState) -> Self {
        Self { state, ..Self::default() }
    }
}

impl Outlook {
    /// The plan whose mailboxes these are.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// One mailbox, of which this is known.
    pub fn status(&self, mailbox: MailboxNumber, known: Known) -> MailboxStatus {
        let place = self.plan.place(mailbox);
        let job = place.and_then(|(job, _)| self.plan.jobs().get(job.index()));
        MailboxStatus {
            mailbox,
            place,
            wave: job.map(|job| job.wave),
            state: known.state,
            rungs: self.rungs(known.state, job),
            dial_tone_since: known.dial_tone_since,
            closing: job.is_some_and(|job| self.is_closing(&known, job)),
            why: job.map_or_else(Vec::new, |job| self.why(&known, job)),
            findings: known.findings,
        }
    }

    fn wave(&self, wave: WaveNumber) -> &WaveOutlook {
        self.waves.get(wave.index()).expect("waves are the plan's")
    }

    fn node(&self, node: NodeNumber) -> &NodeOutlook {
        self.nodes.get(node.index()).expect("nodes are the plan's")
    }

    /// Whether it is re-closed and not known to be closed yet.
    fn is_closing(&self, known: &Known, job: &Job) -> bool {
        let is_inside = known.state.is_open()
            || known.state.dial_tone
            || self.untold.contains(&job.number);
        let with_others = self.wave(job.wave).held_back || self.node(job.node).held_back;
        known.reclosed || is_inside && (with_others || known.held_back)
    }

    /// What of the ladder works for it.
    fn rungs(&self, state: MailboxState, job: Option<&Job>) -> Vec<RungStatus> {
        let ladder = (1..=self.top.get()).filter_map(Level::new);
        let Some(job) = job else { return ladder.map(|_| RungStatus::Held).collect() };
        let wave = self.wave(job.wave);
        let since =
            |level: Level| wave.since.get(level.index()).copied().unwrap_or_default();
        let rung = |level: Level| match wave.turn {
            _ if level <= state.level => RungStatus::Open(since(level)),
            _ if level <= wave.allowed => RungStatus::Opening(since(level)),
            Turn::Scheduled(next, due) if next == level => RungStatus::Scheduled(due),
            Turn::Outside(next, Some(opens)) if next == level => {
                RungStatus::Scheduled(opens)
            }
            Turn::Scheduled(..)
            | Turn::Outside(..)
            | Turn::Passed
            | Turn::HeldBack
            | Turn::Climbing
            | Turn::Next(_)
            | Turn::Waits => RungStatus::Held,
        };
        ladder.map(rung).collect()
    }

    /// What it waits for.
    fn why(&self, known: &Known, job: &Job) -> Vec<Why> {
        let state = known.state;
        if state.level == self.top {
            return Vec::new();
        }
        let mut why = Vec::new();
        if state.preparation == Preparation::Quarantined {
            why.push(Why::Quarantined);
        }
        if known.held_back {
            why.push(Why::MailboxHeldBack);
        }
        why.extend(self.why_node(job.node));
        why.extend(self.why_wave(job.wave, state.level));
        why.extend(self.stopped.clone());
        if !state.is_settled() {
            why.push(Why::Preparing(1));
        }
        why
    }

    fn why_node(&self, number: NodeNumber) -> Option<Why> {
        let NodeOutlook { condition, silent, .. } = *self.node(number);
        let name = || self.plan.inventory().node_name(number).to_owned();
        match condition {
            NodeCondition::NoWorker => Some(Why::NoWorker(name())),
            NodeCondition::Silent => Some(Why::WorkerSilent(name(), silent)),
            NodeCondition::Isolated => Some(Why::NodeIsolated(name())),
            NodeCondition::HeldBack => Some(Why::NodeHeldBack(name())),
            NodeCondition::Recounting => Some(Why::NodeRecounting(name())),
            NodeCondition::LeftOut => Some(Why::NodeLeftOut(name())),
            NodeCondition::TurnedAway => Some(Why::WorkerTooOld(name())),
            NodeCondition::Ahead => Some(Why::JournalTooOld(name())),
            NodeCondition::Working => None,
        }
    }

    fn why_wave(&self, number: WaveNumber, level: Level) -> Option<Why> {
        let wave = self.wave(number);
        let planned = self.plan.waves().get(number.index());
        let name = || planned.map_or_else(String::new, |wave| wave.name.clone());
        match wave.turn {
            Turn::HeldBack => Some(Why::WaveHeldBack(name())),
            _ if wave.allowed > level => None,
            Turn::Scheduled(next, due) => {
                Some(why_scheduled(&self.plan, number, next, due))
            }
            Turn::Outside(next, until) => {
                Some(why_window(&self.plan, (number, next), until, None))
            }
            Turn::Passed | Turn::Climbing | Turn::Next(_) | Turn::Waits => {
                Some(Why::WaveWaits(name()))
            }
        }
    }
}

impl Rollout {
    /// What bears on single mailboxes now.
    pub fn outlook(&self, now: Timestamp) -> Outlook {
        let waves = self.turns(now).map(|(number, turn)| {
            let wave = self.wave(number);
            let (allowed, since) = (wave.allowed, wave.since);
            WaveOutlook { allowed, since, turn, held_back: wave.held_back }
        });
        let nodes = (0..).map(NodeNumber::new).zip(&self.nodes);
        let nodes = nodes.map(|(number, node)| NodeOutlook {
            condition: self.node_condition(number, now),
            silent: now.since(self.heard_at(number)),
            held_back: node.held_back,
        });
        let untold = self.plan.jobs().iter().filter(|job| self.is_untold(job));
        Outlook {
            plan: Arc::clone(&self.plan),
            top: self.top(),
            stopped: match &self.phase {
                Phase::Paused(_) => Some(self.why_frozen().unwrap_or(Why::Paused)),
                Phase::Halted { reason, .. } => Some(Why::Halted(reason.to_string())),
                Phase::Aborted(_) => Some(Why::Aborted),
                Phase::Running | Phase::Finished { .. } => None,
            },
            waves: waves.collect(),
            nodes: nodes.collect(),
            untold: untold.map(|job| job.number).collect(),
        }
    }

    /// One mailbox.
    pub fn mailbox_status(
        &self,
        mailbox: MailboxNumber,
        now: Timestamp,
    ) -> MailboxStatus {
        self.outlook(now).status(mailbox, self.known(mailbox))
    }

    /// What is known of one mailbox.
    pub fn known(&self, mailbox: MailboxNumber) -> Known {
        let Some((number, ordinal)) = self.plan.place(mailbox) else {
            return Known::default();
        };
        let job = self.job(number);
        let state = job.states.get(ordinal.index()).unwrap_or_default();
        let findings = self.findings(number).iter().filter(|it| it.ordinal == ordinal);
        let since = || job.dial_tone_since.unwrap_or(self.started_at);
        Known {
            state,
            held_back: self.held_back.contains(&mailbox),
            reclosed: job.reclosed.contains(&ordinal),
            dial_tone_since: state.dial_tone.then(since),
            findings: findings.cloned().collect(),
        }
    }

    /// Shows the state of each mailbox of which `record`, once applied, may have changed what is
    /// known; and whether that is all that is known of it.
    pub fn show_changed(
        &self,
        record: &Record,
        mut show: impl FnMut(MailboxNumber, MailboxState, bool),
    ) {
        if let Record::FactsReported { job, facts, findings, .. } = record {
            // What was known of these before has been replaced.
            let found = set(findings);
            let told = facts.iter().map(|(at, _)| *at).chain(found.iter().copied());
            self.show_some(*job, told, &found, &mut show);
        } else if let Record::JobLeased { job, .. }
        | Record::Retried { job, .. }
        | Record::MailboxesFound { report: JobReport { job, .. }, .. } = record
        {
            self.show_job(*job, &mut show);
        } else if let Record::Reclosed { scope, generations, .. } = record {
            for (job, _) in generations {
                self.show_job(*job, &mut show);
            }
            self.show_named(*scope, &mut show);
        } else if let Record::Resumed { scope: Some(scope), .. } = record {
            self.show_named(*scope, &mut show);
        } else if let Record::NodeAccepted { node, .. } = record {
            // While a rollout is made again none of them has a new generation yet.
            for job in self.plan.jobs_on(*node) {
                self.show_job(job.number, &mut show);
            }
        } else if let Record::Rebuilt { .. } = record {
            self.show_all(show);
        }
    }

    /// Shows the state of every mailbox that is in a wave, and whether that is all that is known
    /// of it.
    pub fn show_all(&self, mut show: impl FnMut(MailboxNumber, MailboxState, bool)) {
        for job in self.plan.jobs() {
            self.show_job(job.number, &mut show);
        }
    }

    fn show_named(
        &self,
        scope: Scope,
        show: &mut impl FnMut(MailboxNumber, MailboxState, bool),
    ) {
        let Scope::Mailbox(mailbox) = scope else { return };
        if let Some((job, ordinal)) = self.plan.place(mailbox) {
            let found = set(self.findings(job));
            self.show_some(job, std::iter::once(ordinal), &found, show);
        }
    }

    fn show_job(
        &self,
        job: JobNumber,
        show: &mut impl FnMut(MailboxNumber, MailboxState, bool),
    ) {
        let places = (0..).map(Ordinal::new).zip(self.plan.members(job));
        let found = set(self.findings(job));
        self.show_some(job, places.map(|(ordinal, _)| ordinal), &found, show);
    }

    fn show_some(
        &self,
        number: JobNumber,
        ordinals: impl Iterator<Item = Ordinal>,
        found: &BTreeSet<Ordinal>,
        show: &mut impl FnMut(MailboxNumber, MailboxState, bool),
    ) {
        let (job, members) = (self.job(number), self.plan.members(number));
        for at in ordinals {
            let (Some(mailbox), Some(state)) =
                (members.get(at.index()), job.states.get(at.index()))
            else {
                continue;
            };
            let plain = !state.dial_tone
                && !found.contains(&at)
                && !job.reclosed.contains(&at)
                && !self.held_back.contains(mailbox);
            show(*mailbox, state, plain);
        }
    }
}

/// The mailboxes that these are about.
fn set(findings: &[Finding]) -> BTreeSet<Ordinal> {
    findings.iter().map(|finding| finding.ordinal).collect()
}
