//! Rollout: one run of a plan, as the coordinator knows it.
//!
//! ```text
//!            ┌── pause ──▶ paused ── resume ──┐
//! running ◀──┴────────────────────────────────┘
//!    │  gate ──▶ halted ── reclose the wave, resume ──▶ running
//!    ├── abort ──▶ aborted
//!    └── every wave on top ──▶ finished
//! ```
//!
//! # Invariants
//!
//! * `decide` cannot change anything; `apply` is the only mutator of what is remembered.
//!   What is merely heard (`hear`) is forgotten at a restart and never opens anything.
//! * A wave is allowed a level only when it has passed the level below, and every wave
//!   before it has passed that level too and stands on the top or waits for its schedule
//!   alone. A level passes only by an Expand verdict that recomputes from its stored
//!   evidence, or because people answered for a Hold for want of samples, which does, too.
//! * A level with a delay is allowed no earlier than that after the level below was passed,
//!   whatever was restarted or stopped meanwhile.
//! * Generations only rise, and each is issued by exactly one record.
//! * A store that is claimed above all that was issued to its node fences that node only until
//!   its present worker has told of it: what is issued next is above that.
//! * Facts of an older generation, or of another run of a worker, change nothing.
//! * While the rollout is paused, halted or aborted, no order permits an opening.
//! * A wave is judged under the policy's emergency profile only while that is in force.
//! * A frozen rollout does not run: it is resumed only after somebody else than who froze it
//!   has thawed it.

mod calendar;
mod decide;
mod doubt;
mod emergency;
mod evidence;
mod finding;
mod forecast;
mod freeze;
mod grades;
mod grounds;
mod kept_back;
mod marks;
mod order;
mod outlook;
mod overridden;
mod packed;
mod permit;
mod rebuild;
mod receiving;
mod reclose;
mod record;
mod request;
mod shared;
mod snapshot;
mod stages;
mod status;
mod tally;
mod totals;
mod turn;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use emergency::{EMERGENCY_MAX, Emergency};
pub use finding::{Finding, FindingKind, Origin};
pub use forecast::Forecast;
pub use grades::{Grade, Grades};
pub use grounds::{Grounds, NotGrounds};
pub use kept_back::{KEPT_BACK_MAX, KeptBack};
pub use marks::Marks;
pub use order::{Order, Orders};
pub use outlook::{Known, Outlook};
pub use rebuild::{RebuildStatus, Recount};
pub use record::{
    Account, Action, Approval, Event, JobReport, Join, Operate, Record, Refusal, Scope,
    Step, Sync, Verb, Vitals,
};
pub use request::{Answer, Etag, NotAnEtag, REQUESTS_KEPT_MAX, RequestId};
pub use snapshot::{JobSnapshot, NodeSnapshot, Snapshot, SnapshotError, WaveSnapshot};
pub use status::{
    MailboxStatus, NodeCondition, NodeStatus, RolloutStatus, RungStatus, Stop,
    WaveCondition, WaveStatus, Why,
};
pub use totals::MessageTotals;

use crate::fleet::{Generation, Incarnation, JobNumber, MailboxNumber, NodeNumber};
use crate::fleet::{Ordinal, TierNumber, WaveNumber};
use crate::gate::{Evidence, HaltReason, IsolateReason, Pulses, ShortName};
use crate::mailbox::{Health, Level, MailboxState};
use crate::plan::Plan;
use crate::planted::{self, Bug};
use crate::time::Timestamp;
use doubt::Doubts;
use emergency::Emergencies;
use packed::{Packed, ordinals};
use permit::Given;
use rebuild::Found;
use request::Requests;
use stages::Stages;
use tally::Tally;
use window::{Answers, Window};

/// The most findings kept for one job; the worker keeps all of them.
pub const FINDINGS_PER_JOB_MAX: usize = 10_000;

/// Whether the rollout moves, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It goes on as far as the gate lets it.
    Running,
    /// Somebody stopped it.
    Paused(Action),
    /// The gate stopped it.
    Halted {
        /// Why.
        reason: HaltReason,
        /// The wave whose evidence tripped.
        wave: WaveNumber,
        /// The wave's epoch at that time; a reclose raises it.
        epoch: u32,
        /// When.
        at: Timestamp,
    },
    /// Somebody ended it.
    Aborted(Action),
    /// Every wave stands on the top of the ladder.
    Finished {
        /// When.
        at: Timestamp,
    },
}

impl Phase {
    /// What the gate's evidence has stopped.
    fn halted(reason: HaltReason, evidence: &Evidence, at: Timestamp) -> Self {
        Self::Halted { reason, wave: evidence.wave, epoch: evidence.epoch, at }
    }
}

/// One run of a plan.
#[derive(Clone, Debug)]
pub struct Rollout {
    // What it was given.
    plan: Arc<Plan>,
    started_at: Timestamp,
    applied_under: Option<RequestId>,

    // What it remembers.
    phase: Phase,
    /// Who froze it, until somebody else thaws it.
    frozen: Option<Action>,
    emergencies: Emergencies,
    generation: Generation,
    orders_version: u64,
    /// The version of the orders that carry the newest stop.
    stop_version: u64,
    waves: Vec<WaveState>,
    nodes: Vec<NodeState>,
    jobs: Vec<JobState>,
    held_back: BTreeSet<MailboxNumber>,
    findings: BTreeMap<JobNumber, Vec<Finding>>,
    history: Vec<Record>,
    /// How many decisions the history has.
    decisions: u64,
    requests: Requests,
    /// Whether the state must be learnt from the nodes.
    rebuilding: bool,
    found: Found,

    // What it has merely heard since this program started.
    heard: Vec<Heard>,
    given: Vec<Given>,
    pulses: Vec<Window<Pulses>>,
    answers: Vec<Answers>,
    /// How many mailboxes each node has verified, of late.
    settled: Vec<Window<u32>>,
    awake_since: Timestamp,
    doubts: Doubts,
}

#[derive(Clone, Debug)]
struct WaveState {
    allowed: Level,
    allowed_at: Timestamp,
    /// When each level was allowed last, by level.
    since: [Timestamp; LEVELS],
    passed: Level,
    passed_at: Timestamp,
    epoch: u32,
    held_back: bool,
    tallies: Vec<Tally>,
}

/// Held, and every level a ladder may have.
const LEVELS: usize = Level::MAX.get() as usize + 1;

#[derive(Clone, Debug, Default)]
struct NodeState {
    incarnation: Option<Incarnation>,
    isolated: Option<IsolateReason>,
    held_back: bool,
    recount: Recount,
    /// The newest generation issued to one of its jobs.
    issued: Generation,
    /// The newest generation under which it has told anything.
    claimed: Generation,
    /// The newest report of its present run that told something.
    reported: u64,
    /// The most records that its journal had when it joined or told anything; when it joined,
    /// if it has told nothing.
    journaled: u64,
    /// What it tells to a rebuild is an older state that a person has accepted.
    is_older: bool,
}

#[derive(Clone, Debug)]
struct JobState {
    generation: Generation,
    leased_to: Option<Incarnation>,
    states: Packed,
    stages: Stages,
    /// Re-closed, and not yet known to be closed: ordered closed whatever else is allowed.
    reclosed: BTreeSet<Ordinal>,
    /// When its first dial tone was told of, since it was last re-closed.
    dial_tone_since: Option<Timestamp>,
    totals: MessageTotals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    at: Option<Timestamp>,
    /// Its present run has joined this program while nothing might open, or has asked for
    /// no orders yet: it holds no permit.
    without_permit: bool,
    /// A worker of it knew less than the node has told before.
    turned_away: bool,
    /// All that it holds was told to this program or is on record.
    told_all: bool,
    sequence: u64,
    orders_obeyed: u64,
    vitals: Vitals,
}

impl Rollout {
    /// A rollout of `plan`, applied at `started_at`, of which nothing has happened yet.
    ///
    /// `now` is when this program woke up: silence is counted from here, not from what an
    /// earlier run of the program heard.
    pub fn new(plan: Arc<Plan>, started_at: Timestamp, now: Timestamp) -> Self {
        let tiers = plan.inventory().tier_names().len();
        let waves = plan.waves().iter().map(|wave| WaveState {
            allowed: Level::HELD,
            allowed_at: started_at,
            since: [started_at; LEVELS],
            passed: Level::HELD,
            passed_at: started_at,
            epoch: 0,
            held_back: false,
            tallies: wave
                .by_node
                .iter()
                .map(|(node, _)| Tally::new(*node, tiers))
                .collect(),
        });
        let jobs = plan.jobs().iter().map(|job| {
            let members = plan.members(job.number).len();
            JobState {
                generation: Generation::default(),
                leased_to: None,
                states: Packed::held(members),
                stages: Stages::held(members),
                reclosed: BTreeSet::new(),
                dial_tone_since: None,
                totals: MessageTotals::default(),
            }
        });
        let mut waves: Vec<WaveState> = waves.collect();
        count_planned(&plan, &mut waves);
        let nodes = plan.inventory().node_names().len();
        Self {
            started_at,
            applied_under: None,
            phase: Phase::Running,
            frozen: None,
            emergencies: Emergencies::default(),
            generation: Generation::default(),
            orders_version: 1,
            stop_version: 1,
            waves,
            nodes: vec![NodeState::default(); nodes],
            jobs: jobs.collect(),
            held_back: BTreeSet::new(),
            findings: BTreeMap::new(),
            history: Vec::new(),
            decisions: 0,
            requests: Requests::default(),
            rebuilding: false,
            found: Found::default(),
            heard: vec![Heard::default(); nodes],
            given: vec![Given::default(); nodes],
            pulses: vec![Window::default(); nodes],
            settled: vec![Window::default(); nodes],
            answers: (plan.policy().gate.external.iter())
                .map(|external| Answers::none(external.name, external.bound))
                .collect(),
            awake_since: now,
            doubts: Doubts::default(),
            plan,
        }
    }

    /// The same, applied under this request of a client.
    #[must_use]
    pub fn under(self, request: Option<RequestId>) -> Self {
        Self { applied_under: request, ..self }
    }

    /// The request under which the plan was applied, if the client gave one.
    pub fn applied_under(&self) -> Option<&RequestId> {
        self.applied_under.as_ref()
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// When the plan was applied.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Whether it moves.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Every record that is not about single mailboxes, in order: what a person would call
    /// the story of the rollout.
    pub fn history(&self) -> &[Record] {
        &self.history
    }

    /// What a person should know about single mailboxes of `job`.
    pub fn findings(&self, job: JobNumber) -> &[Finding] {
        self.findings.get(&job).map_or(&[], Vec::as_slice)
    }

    /// Wakes up at `now` after replaying records: nobody has been heard yet, and silence is
    /// counted from here.
    ///
    /// Call once after the replay.
    pub fn wake(&mut self, now: Timestamp) {
        self.awake_since = now;
        self.heard.fill(Heard::default());
        self.given.fill(Given::after_restart());
        if planted::is(Bug::SilenceIsConsent) {
            self.heard.fill(Heard { at: Some(now), ..Heard::default() });
        }
        self.pulses.iter_mut().for_each(Window::clear);
        self.settled.iter_mut().for_each(Window::clear);
        self.answers.iter_mut().for_each(Answers::forget);
    }

    /// Remembers what a worker's report says about the worker itself.
    ///
    /// Not journaled: it only makes nodes count as heard, and a restart forgets it. What
    /// another run than the node's present one says is not heard.
    pub fn hear(&mut self, sync: &Sync, now: Timestamp) {
        let present = self.nodes.get(sync.node.index()).and_then(|node| node.incarnation);
        if present != Some(sync.incarnation) || self.is_late(sync) {
            return;
        }
        let still = !matches!(self.phase, Phase::Running | Phase::Finished { .. });
        // What is told of an older generation is not taken up, and is told again under the new one.
        let taken_up = sync.reports.iter().all(|report| {
            let job = self.jobs.get(report.job.index());
            job.is_some_and(|job| job.generation <= report.generation)
        });
        if let Some(heard) = self.heard.get_mut(sync.node.index()) {
            heard.at = Some(now);
            // The rightful run is back.
            heard.turned_away = false;
            heard.told_all =
                taken_up && sync.account.as_ref().is_none_or(|it| it.untold == 0);
            self.doubts.agrees(sync.node, heard.told_all);
            heard.sequence = sync.sequence;
            heard.without_permit &= still;
            heard.orders_obeyed = heard.orders_obeyed.max(sync.orders_obeyed);
            heard.vitals = sync.vitals;
        }
        if let Some(given) = self.given.get_mut(sync.node.index()) {
            given.hear(sync.account.as_ref().map(|account| account.answered));
        }
        let length = self.plan.policy().gate.signals.window;
        if let Some(window) = self.pulses.get_mut(sync.node.index()) {
            window.note(sync.vitals.pulses, now, length);
        }
        self.count_settled(sync.node, now);
    }

    /// Remembers the answer, in millionths, to the external question called `name`. One that
    /// is no number is not an answer, and is not told here.
    ///
    /// Not journaled, as [`Rollout::hear`]; what a verdict is made from is.
    pub fn hear_external(&mut self, name: ShortName, answer: i64, now: Timestamp) {
        let length = self.plan.policy().gate.signals.window;
        if let Some(answers) = self.answers.iter_mut().find(|it| it.name() == name) {
            answers.hear(answer, now, length);
        }
    }

    /// Whether a newer report of the same run has been heard already, or has told something
    /// before this program started.
    fn is_late(&self, sync: &Sync) -> bool {
        let heard = self.heard.get(sync.node.index()).map(|heard| heard.sequence);
        let told = self.nodes.get(sync.node.index()).map(|node| node.reported);
        heard.max(told).is_some_and(|newest| sync.sequence < newest)
    }

    /// Makes `record` part of the state. The only mutator of what is remembered.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::NodeJoined { node, incarnation, journaled, at } => {
                self.apply_joined(*node, *incarnation, *journaled, *at);
            }
            Record::JobLeased { job, incarnation, generation, .. } => {
                self.issue(*job, *generation);
                self.fear_open(*job);
                self.job_mut(*job).leased_to = Some(*incarnation);
            }
            Record::FactsReported {
                job,
                generation,
                sequence,
                journaled,
                facts,
                totals,
                findings,
                at,
            } => {
                self.has_told(*job, *generation);
                self.apply_reported(*job, *sequence, *journaled);
                self.apply_told(*job, facts, *totals, *at);
                self.apply_findings(*job, facts, findings);
            }
            Record::LevelAllowed { wave, level, at } => {
                self.apply_allowed(*wave, *level, *at);
            }
            Record::Expanded { evidence, at } => self.apply_expanded(evidence, *at),
            Record::Overridden { action, evidence } => {
                self.apply_expanded(evidence, action.at);
            }
            Record::NodeIsolated { node, reason, .. } => self.isolate(*node, *reason),
            Record::Halted { reason, evidence, at } => {
                self.phase = Phase::halted(*reason, evidence, *at);
            }
            Record::Paused(action) => self.apply_paused(action),
            Record::Frozen(action) => self.apply_frozen(action),
            Record::Thawed(_) => self.frozen = None,
            Record::Resumed { scope, .. } => self.apply_resumed(*scope),
            Record::Aborted(action) => self.phase = Phase::Aborted(action.clone()),
            Record::EmergencyBegun { .. } | Record::EmergencyEnded { .. } => {}
            Record::Reclosed { action, scope, generations } => {
                self.apply_reclosed(action, *scope, generations);
            }
            Record::Retried { job, generation, .. } => self.issue(*job, *generation),
            Record::Finished { at } => self.phase = Phase::Finished { at: *at },
            Record::RebuildBegun(action) => self.apply_rebuild_begun(action),
            Record::ClaimsFound { node, claimed, orders_seen, .. } => {
                self.apply_claims(*node, *claimed, *orders_seen);
            }
            Record::MailboxesFound { incarnation, journaled, report, reclosed, at } => {
                self.apply_found(*incarnation, report, reclosed, *at);
                self.apply_reported(report.job, 0, *journaled);
            }
            Record::NodeRecounted { node, journaled, kept_back, .. } => {
                self.apply_recounted(*node, *journaled, kept_back);
            }
            Record::Rebuilt { left_out, at, .. } => self.apply_rebuilt(left_out, *at),
            Record::NodeAccepted { node, generations, .. } => {
                self.apply_accepted(*node, generations);
            }
        }
        if record.is_told() {
            self.history.push(record.clone());
            self.orders_version += 1;
        }
        if record.is_stop() {
            self.stop_version = self.orders_version;
        }
        self.note_decision(record);
    }

    fn apply_joined(
        &mut self,
        node: NodeNumber,
        incarnation: Incarnation,
        journaled: u64,
        at: Timestamp,
    ) {
        self.has_journaled(node, journaled);
        let state = self.node_mut(node);
        if state.claimed == Generation::default() {
            // Nobody has told anything from a longer one.
            state.journaled = journaled;
        }
        let unheard = state.incarnation.is_none();
        (state.incarnation, state.reported) = (Some(incarnation), 0);
        state.recount_again();
        let recounts = state.recount.is_pending();
        if let Some(given) = self.given.get_mut(node.index()) {
            // A new run goes by no answer; one that is taken up anew may go by an older one.
            *given = if unheard { Given::after_restart() } else { Given::default() };
        }
        if let Some(heard) = self.heard.get_mut(node.index()) {
            let at = Some(at.max(self.awake_since));
            // Until it says otherwise, what was measured by the run before is missed.
            let pulses = heard.vitals.pulses.sources();
            let vitals = Vitals { pulses, ..Vitals::default() };
            let without_permit = !recounts;
            *heard = Heard { at, without_permit, vitals, ..Heard::default() };
        }
        // A new run counts from nothing.
        let (at, length) =
            (at.max(self.awake_since), self.plan.policy().gate.signals.window);
        if let Some(window) = self.pulses.get_mut(node.index()) {
            window.clear();
            window.note(Pulses::default(), at, length);
        }
    }

    fn isolate(&mut self, node: NodeNumber, reason: IsolateReason) {
        self.node_mut(node).isolated = Some(reason);
    }

    fn apply_reported(&mut self, job: JobNumber, sequence: u64, journaled: u64) {
        let Some(planned) = self.plan.jobs().get(job.index()) else { return };
        let node = planned.node;
        let state = self.node_mut(node);
        state.reported = state.reported.max(sequence);
        self.has_journaled(node, journaled);
    }

    /// The journal of the worker of `node` has had so many records.
    fn has_journaled(&mut self, node: NodeNumber, records: u64) {
        let state = self.node_mut(node);
        state.journaled = state.journaled.max(records);
    }

    fn apply_expanded(&mut self, evidence: &Evidence, at: Timestamp) {
        let level = evidence.level;
        let state = self.wave_mut(evidence.wave);
        debug_assert!(state.passed < level, "a level passes once");
        (state.passed, state.passed_at) = (level, at);
    }

    fn apply_allowed(&mut self, wave: WaveNumber, level: Level, at: Timestamp) {
        debug_assert!(
            self.waves.iter().take(wave.index()).all(|before| before.passed >= level),
            "a wave before has not passed"
        );
        let delay = self.plan.delay(wave, level);
        let state = self.wave_mut(wave);
        debug_assert_eq!(state.passed.above(), level, "levels are climbed one by one");
        debug_assert!(at >= state.passed_at + delay, "a delay is kept");
        state.allowed = level;
        state.allowed_at = at;
        if let Some(since) = state.since.get_mut(level.index()) {
            *since = at;
        }
    }

    fn apply_resumed(&mut self, scope: Option<Scope>) {
        match scope {
            None => {
                debug_assert!(self.frozen.is_none(), "a frozen rollout is thawed first");
                self.phase = Phase::Running;
                self.doubts.overruled();
                self.heard.iter_mut().for_each(|heard| heard.without_permit = false);
            }
            Some(Scope::Wave(wave)) => self.wave_mut(wave).held_back = false,
            Some(Scope::Node(node)) => {
                let state = self.node_mut(node);
                state.held_back = false;
                state.isolated = None;
            }
            Some(Scope::Mailbox(mailbox)) => {
                self.held_back.remove(&mailbox);
            }
        }
    }

    /// Gives `job` a new generation: what was known of its health counts no more, and what
    /// was prepared must be looked at again. What a person should know stays until each
    /// mailbox is told of anew: nobody shall miss it meanwhile.
    fn issue(&mut self, job: JobNumber, generation: Generation) {
        debug_assert!(self.generation < generation, "generations only rise");
        self.generation = generation;
        if let Some(planned) = self.plan.jobs().get(job.index()) {
            let node = planned.node;
            self.node_mut(node).issued = generation;
        }
        self.job_mut(job).generation = generation;
        let reset: Vec<(Ordinal, MailboxState)> = ordinals(&self.job(job).states)
            .map(|(ordinal, state)| {
                let kept = if state.is_open() {
                    MailboxState { health: Health::Unproven, ..state }
                } else {
                    MailboxState { dial_tone: state.dial_tone, ..MailboxState::HELD }
                };
                (ordinal, kept)
            })
            .collect();
        // Nobody has told anything: what may be open still may.
        let reclosed = std::mem::take(&mut self.job_mut(job).reclosed);
        self.apply_facts(job, &reset);
        self.job_mut(job).reclosed = reclosed;
    }

    fn apply_told(
        &mut self,
        job: JobNumber,
        facts: &[(Ordinal, MailboxState)],
        totals: MessageTotals,
        at: Timestamp,
    ) {
        self.apply_facts(job, facts);
        let state = self.job_mut(job);
        state.totals = totals;
        if facts.iter().any(|(_, mailbox)| mailbox.dial_tone) {
            state.dial_tone_since.get_or_insert(at);
        }
    }

    /// The node of `job` has told something under this generation.
    fn has_told(&mut self, job: JobNumber, generation: Generation) {
        if let Some(planned) = self.plan.jobs().get(job.index()) {
            let node = planned.node;
            let claimed = &mut self.node_mut(node).claimed;
            *claimed = generation.max(*claimed);
        }
    }

    fn apply_facts(&mut self, job: JobNumber, facts: &[(Ordinal, MailboxState)]) {
        let plan = Arc::clone(&self.plan);
        let Some(planned) = plan.jobs().get(job.index()) else { return };
        let members = plan.members(job);
        let state = self.jobs.get_mut(job.index()).expect("jobs are the plan's");
        let wave =
            self.waves.get_mut(planned.wave.index()).expect("waves are the plan's");
        let tally = wave
            .tallies
            .iter_mut()
            .find(|tally| tally.node == planned.node)
            .expect("a wave counts every node it has jobs on");
        // Tiers lie all over the memory: asked for together, they come together.
        let tier_of = |mailbox: &MailboxNumber| plan.inventory().tier(*mailbox);
        let tiers: Vec<Option<TierNumber>> =
            facts.iter().map(|(it, _)| members.get(it.index()).map(tier_of)).collect();
        for ((ordinal, new), tier) in facts.iter().zip(tiers) {
            let (Some(old), Some(tier)) =
                (state.states.replace(ordinal.index(), *new), tier)
            else {
                continue;
            };
            tally.shift(tier, old, *new);
            state.stages.shift(old, *new);
            // Orders that still closed it must not be taken for new ones later.
            let closed = !new.is_open() && !new.dial_tone;
            self.orders_version += u64::from(closed && state.reclosed.remove(ordinal));
        }
    }

    /// What is told of a mailbox replaces what was told of it before.
    fn apply_findings(
        &mut self,
        job: JobNumber,
        facts: &[(Ordinal, MailboxState)],
        told: &[Finding],
    ) {
        let known = self.findings.entry(job).or_default();
        if !known.is_empty() {
            let retold: BTreeSet<Ordinal> = facts.iter().map(|(it, _)| *it).collect();
            known.retain(|finding| !retold.contains(&finding.ordinal));
        }
        let room = FINDINGS_PER_JOB_MAX.saturating_sub(known.len());
        known.extend(told.iter().take(room).cloned());
    }

    fn out_of_service(&self) -> Vec<NodeNumber> {
        let nodes =
            self.nodes.iter().zip(0..).filter(|(node, _)| node.isolated.is_some());
        nodes.map(|(_, number)| NodeNumber::new(number)).collect()
    }

    /// The top of the ladder.
    fn top(&self) -> Level {
        let rungs = u8::try_from(self.plan.policy().ladder.len()).unwrap_or(u8::MAX);
        Level::new(rungs).unwrap_or(Level::MAX)
    }

    fn wave(&self, wave: WaveNumber) -> &WaveState {
        self.waves.get(wave.index()).expect("waves are the plan's")
    }

    fn wave_mut(&mut self, wave: WaveNumber) -> &mut WaveState {
        self.waves.get_mut(wave.index()).expect("waves are the plan's")
    }

    fn node_mut(&mut self, node: NodeNumber) -> &mut NodeState {
        self.nodes.get_mut(node.index()).expect("nodes are the plan's")
    }

    fn job(&self, job: JobNumber) -> &JobState {
        self.jobs.get(job.index()).expect("jobs are the plan's")
    }

    fn job_mut(&mut self, job: JobNumber) -> &mut JobState {
        self.jobs.get_mut(job.index()).expect("jobs are the plan's")
    }
}

fn count_planned(plan: &Plan, waves: &mut [WaveState]) {
    for job in plan.jobs() {
        let wave = waves.get_mut(job.wave.index()).expect("waves are the plan's");
        let tally = wave
            .tallies
            .iter_mut()
            .find(|tally| tally.node == job.node)
            .expect("a wave counts every node it has jobs on");
        for mailbox in plan.members(job.number) {
            tally.add(plan.inventory().tier(*mailbox));
        }
    }
}
