//! The view: what readers are shown of a rollout, made by its owner after each batch.
//!
//! # Invariants
//!
//! * A view shows only what is durable.
//! * Looking at a view never slows a decision.

use std::fmt::Write as _;
use std::sync::Arc;

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::gate::{Judgement, SignalNumbers, Verdict};
use tidegate_core::mailbox::{Level, MailboxState};
use tidegate_core::plan::Plan;
use tidegate_core::policy::Rung;
use tidegate_core::rollout::{
    Emergency, Etag, Grounds, Known, MailboxStatus, NodeCondition, NodeStatus, Outlook,
    Phase, RequestId, Rollout, RolloutStatus, Stop, WaveCondition, WaveStatus, Why,
};
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::exchanger::Storage;
use tidegate_wire::protocol::timestamp;
use tidegate_wire::v1;
use tidegate_wire::worker::NodeNotice;

use crate::exchangers::{Drain, Receiving};
use crate::names::with_names;
use crate::owner::{ONE_MAILBOX, Petition, Seen as SeenThen, command};
use crate::refused::NOT_APPROVED;
use crate::states::{Seen, States};

/// A rollout at one instant.
#[derive(Debug)]
pub(crate) struct View {
    plan: Arc<Plan>,
    started_at: Timestamp,
    applied_under: Option<RequestId>,
    was_rebuilt: bool,
    etag: Etag,
    status: RolloutStatus,
    outlook: Outlook,
    receiving: Arc<Receiving>,
    states: Arc<States>,
    grounds: Grounds,
    /// What waits for a second person, each with what speaks against it by now.
    waiting: Vec<(Grounds, Petition)>,
}

impl View {
    /// The view of `rollout` now, with what is kept of its mailboxes.
    pub(crate) fn of(
        rollout: &Rollout,
        (receiving, states): (Arc<Receiving>, Arc<States>),
        now: Timestamp,
    ) -> Self {
        Self {
            plan: Arc::clone(rollout.plan()),
            started_at: rollout.started_at(),
            applied_under: rollout.applied_under().cloned(),
            was_rebuilt: rollout.was_rebuilt(),
            etag: rollout.etag(),
            status: rollout.status(now),
            outlook: rollout.outlook(now),
            receiving,
            states,
            grounds: rollout.grounds(now),
            waiting: Vec::new(),
        }
    }

    /// The same, while this waits for a second person.
    pub(crate) fn waiting_for(self, waiting: Vec<(Grounds, Petition)>) -> Self {
        Self { waiting, ..self }
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Which mailboxes take mail; newer than the rest of the view.
    pub(crate) fn receiving(&self) -> &Arc<Receiving> {
        &self.receiving
    }

    /// What is known of one mailbox; newer than the rest of the view.
    pub(crate) fn seen(&self, mailbox: MailboxNumber) -> Seen {
        self.states.seen(mailbox)
    }

    /// What is known of all of them; newer than the rest of the view.
    pub(crate) fn states(&self) -> &States {
        &self.states
    }

    /// One mailbox of which no more is known than its state.
    pub(crate) fn plain(
        &self,
        mailbox: MailboxNumber,
        state: MailboxState,
    ) -> MailboxStatus {
        self.outlook.status(mailbox, Known::plain(state))
    }

    /// How the nodes are, as far as delivering to them goes.
    pub(crate) fn storages(&self) -> Vec<Storage> {
        let storage = |node: &NodeStatus| Storage {
            healthy: node.condition == NodeCondition::Working,
            deliveries_per_second: self.drain(node).per_second,
        };
        self.status.nodes.iter().map(storage).collect()
    }

    /// When this was true.
    pub(crate) fn at(&self) -> Timestamp {
        self.status.at
    }

    /// When the plan was applied.
    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Changes with every decision of a person and every stop by the gate.
    pub(crate) fn etag(&self) -> Etag {
        self.etag
    }

    /// Whether it was made again from what the workers hold.
    pub(crate) fn was_rebuilt(&self) -> bool {
        self.was_rebuilt
    }

    /// The request under which the plan was applied, if the client gave one.
    pub(crate) fn applied_under(&self) -> Option<&RequestId> {
        self.applied_under.as_ref()
    }

    /// Whether it is over for good. What has finished is still watched: it may halt when a
    /// node comes back late, and a person may re-close a part of it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status.phase, Phase::Aborted(_))
    }

    /// Whether nodes have yet to tell what they hold, so that nobody knows who takes mail.
    pub(crate) fn is_rebuilding(&self) -> bool {
        self.status.rebuild.is_some()
    }

    /// Says all of it in the log, for whoever asks on the machine itself.
    pub(crate) fn log(&self) {
        tracing::info!(what = self.line(), "status");
        for why in &self.status.why {
            tracing::info!(code = why.code(), what = %why, "status: it waits");
        }
        for wave in &self.status.waves {
            let WaveStatus { condition, planned, prepared, quarantined, open, .. } = wave;
            let name = self.plan.waves().get(wave.wave.index());
            tracing::info!(
                wave_id = wave.wave.get(),
                wave = name.map_or("?", |wave| wave.name.as_str()),
                state = ?condition,
                level = wave.allowed.get(),
                planned,
                prepared,
                quarantined,
                open,
                failed = wave.failed,
                "status of a wave"
            );
        }
        for node in &self.status.nodes {
            let NodeStatus { condition, planned, prepared, quarantined, open, .. } = node;
            tracing::info!(
                node_id = node.node.get(),
                node = self.plan.inventory().node_name(node.node),
                state = ?condition,
                planned,
                prepared,
                quarantined,
                open,
                failed = node.failed,
                "status of a node"
            );
        }
    }

    /// The view on one line, for whoever supervises the program.
    pub(crate) fn line(&self) -> String {
        let waves = &self.status.waves;
        let sum = |count: fn(&WaveStatus) -> u32| waves.iter().map(count).sum::<u32>();
        let state = match self.status.phase {
            Phase::Running => "running",
            Phase::Paused(_) => "paused",
            Phase::Halted { .. } => "halted",
            Phase::Aborted(_) => "aborted",
            Phase::Finished { .. } => "finished",
        };
        let nodes = &self.status.nodes;
        let works = |node: &&NodeStatus| node.condition == NodeCondition::Working;
        format!(
            "{state}: {} of {} open, {} prepared, {} set aside; {} of {} nodes at work",
            sum(|wave| wave.open),
            self.plan.planned(),
            sum(|wave| wave.prepared),
            sum(|wave| wave.quarantined),
            nodes.iter().filter(works).count(),
            nodes.len(),
        )
    }

    /// The view as readers get it.
    pub(crate) fn message(&self) -> v1::Rollout {
        let Self { plan, started_at, etag, status, .. } = self;
        let finish_time = match status.phase {
            Phase::Finished { at } => Some(timestamp(at)),
            Phase::Running
            | Phase::Paused(_)
            | Phase::Halted { .. }
            | Phase::Aborted(_) => None,
        };
        v1::Rollout {
            plan_digest: plan.digest().to_string(),
            name: plan.policy().name.clone(),
            state: state(&status.phase).into(),
            why: self.why(),
            stop: status.stop.as_ref().and_then(|stop| self.stop(stop)),
            waves: status.waves.iter().map(|wave| self.wave(wave)).collect(),
            nodes: status.nodes.iter().map(|node| self.node(node)).collect(),
            totals: Some(status.totals.into()),
            start_time: Some(timestamp(*started_at)),
            at_time: Some(timestamp(status.at)),
            orders_version: status.orders_version,
            ladder: ladder(plan),
            notice: Some(NodeNotice::of(&plan.policy().notice).into()),
            planned: plan.planned(),
            excluded: u32::try_from(plan.excluded().len()).unwrap_or(u32::MAX),
            finish_time,
            exchangers: Vec::new(),
            etag: etag.to_string(),
            evidence: self.grounds.to_string(),
            waiting: self.waiting.iter().map(|(now, it)| self.waits(it, *now)).collect(),
            emergency: status.emergency.as_ref().map(|it| self.emergency(it)),
            rebuild: status.rebuild.as_ref().map(|rebuild| v1::Rebuild {
                told: u32::try_from(rebuild.told).unwrap_or(u32::MAX),
                missing: rebuild.missing.iter().map(|it| self.node_name(*it)).collect(),
            }),
        }
    }

    fn emergency(&self, emergency: &Emergency) -> v1::Emergency {
        let Emergency { action, wave, until } = emergency;
        let waves = self.plan.waves();
        let wave = wave.and_then(|wave| waves.get(wave.index()));
        let approved = action.approved.as_ref();
        v1::Emergency {
            by: action.by.clone(),
            approved_by: approved.map_or_else(String::new, |it| it.by.clone()),
            reason: action.reason.clone(),
            wave: wave.map_or_else(String::new, |wave| wave.name.clone()),
            from_time: Some(timestamp(action.at)),
            until_time: Some(timestamp(*until)),
        }
    }

    /// What it waits for; nodes only where the waves have nothing to say.
    fn why(&self) -> Vec<v1::Why> {
        let Self { plan, status, .. } = self;
        let mut reasons: Vec<v1::Why> =
            status.why.iter().map(|reason| why(reason, plan)).collect();
        if reasons.is_empty() {
            let waiting = status.nodes.iter().filter_map(|node| self.why_node(node));
            reasons.extend(waiting.map(|reason| why(&reason, plan)));
        }
        let asked = self.waiting.iter().map(|(_, it)| v1::Why {
            code: NOT_APPROVED.to_owned(),
            text: format!("{} asks to {}", it.by, it.what),
        });
        reasons.extend(asked);
        reasons
    }

    /// What waits for a second person; whoever gives leave does so on what is known now.
    fn waits(&self, waiting: &Petition, against: Grounds) -> v1::Waiting {
        let Petition { by, what, reason, grounds, at, .. } = waiting;
        let seen = SeenThen { etag: self.etag, grounds: against };
        let is_one = what == ONE_MAILBOX;
        v1::Waiting {
            by: by.clone(),
            what: what.clone(),
            reason: reason.clone(),
            command: if is_one { String::new() } else { command(what, Some(seen)) },
            asked_time: Some(timestamp(*at)),
            until_time: Some(timestamp(waiting.until())),
            evidence_changed: *grounds != Some(against),
            evidence: against.to_string(),
        }
    }

    fn drain(&self, node: &NodeStatus) -> Drain {
        Drain::into(node, &self.plan.policy().gate.signals.limits())
    }

    fn why_node(&self, node: &NodeStatus) -> Option<Why> {
        let name = self.node_name(node.node);
        match node.condition {
            NodeCondition::NoWorker => Some(Why::NoWorker(name)),
            NodeCondition::Isolated => Some(Why::NodeIsolated(name)),
            NodeCondition::HeldBack => Some(Why::NodeHeldBack(name)),
            NodeCondition::Silent => {
                let heard = node.heard_at.unwrap_or(self.started_at);
                Some(Why::WorkerSilent(name, self.status.at.since(heard)))
            }
            NodeCondition::Recounting => Some(Why::NodeRecounting(name)),
            NodeCondition::LeftOut => Some(Why::NodeLeftOut(name)),
            NodeCondition::TurnedAway => Some(Why::WorkerTooOld(name)),
            NodeCondition::Ahead => Some(Why::JournalTooOld(name)),
            NodeCondition::Working => None,
        }
    }

    /// A finished rollout has nothing to stop.
    fn stop(&self, stop: &Stop) -> Option<v1::Stop> {
        if matches!(self.status.phase, Phase::Finished { .. }) {
            return None;
        }
        let names = |nodes: &[NodeNumber]| -> Vec<String> {
            nodes.iter().map(|node| self.node_name(*node)).collect()
        };
        Some(v1::Stop {
            effective: stop.unacknowledged.is_empty(),
            unacknowledged: names(&stop.unacknowledged),
            may_still_open: stop.may_still_open,
            nodes: stop.nodes,
            unreachable: names(&stop.unreachable),
            lapsed: names(&stop.lapsed),
        })
    }

    fn node_name(&self, node: NodeNumber) -> String {
        self.plan.inventory().node_name(node).to_owned()
    }

    fn wave(&self, wave: &WaveStatus) -> v1::Wave {
        let allowed = wave.allowed > Level::HELD;
        let planned = self.plan.waves().get(wave.wave.index());
        v1::Wave {
            number: u32::from(wave.wave.get()),
            name: wave_name(&self.plan, wave),
            state: wave_state(wave.condition).into(),
            level: u32::from(wave.allowed.get()),
            passed: u32::from(wave.passed.get()),
            planned: wave.planned,
            prepared: wave.prepared,
            quarantined: wave.quarantined,
            open: wave.open,
            opened: if allowed { wave.opened } else { 0 },
            mature: if allowed { wave.mature } else { 0 },
            failed: wave.failed,
            gate: wave.judgement.as_ref().map(|judgement| gate(judgement, &self.plan)),
            allowed_time: allowed.then(|| timestamp(wave.allowed_at)),
            grades: Some(wave.grades.into()),
            due_time: wave.due_at.map(timestamp),
            finish: wave.done.map(|done| v1::Forecast {
                p10_time: Some(timestamp(done.p10)),
                p50_time: Some(timestamp(done.p50)),
                p90_time: Some(timestamp(done.p90)),
            }),
            delays: delays(&self.plan, wave.wave),
            expected: planned.and_then(|wave| wave.expected).map(v1::Window::from),
            dial_tone: self.plan.has_dial_tone(wave.wave),
            queue: None,
            dial_tones: wave.dial_tones,
            closing: wave.closing,
            overridden: levels(&wave.marks.overridden),
            hurried: levels(&wave.marks.hurried),
        }
    }

    fn node(&self, node: &NodeStatus) -> v1::Node {
        let drain = self.drain(node);
        v1::Node {
            name: self.node_name(node.node),
            state: node_state(node.condition).into(),
            heard_time: node.heard_at.map(timestamp),
            planned: node.planned,
            prepared: node.prepared,
            quarantined: node.quarantined,
            open: node.open,
            failed: node.failed,
            vitals: Some(node.vitals.into()),
            drain_per_second: drain.per_second,
            drain_why: drain.why.map(|why| v1::Why {
                code: why.code().to_owned(),
                text: why.to_string(),
            }),
            dial_tones: node.dial_tones,
            closing: node.closing,
            outside_window: node.is_outside,
            window_time: node.opens_at.map(timestamp),
        }
    }
}

fn levels(levels: &[Level]) -> Vec<u32> {
    levels.iter().map(|level| u32::from(level.get())).collect()
}

/// The ladder with the soak of every rung.
fn ladder(plan: &Plan) -> Vec<v1::Rung> {
    let otherwise = plan.policy().gate.soak;
    let rungs = plan.policy().ladder.iter().cloned();
    let soaked = |rung: Rung| Rung { soak: rung.soak.or(Some(otherwise)), ..rung };
    rungs.map(soaked).map(v1::Rung::from).collect()
}

/// How long `wave` waits before rungs.
fn delays(plan: &Plan, wave: WaveNumber) -> Vec<v1::RungDelay> {
    let Some(cohort) = plan.cohort_of(wave) else { return Vec::new() };
    let delayed = plan.policy().ladder.iter().map(|rung| (rung, cohort.delay(rung)));
    let delayed = delayed.filter(|(_, delay)| *delay > Span::ZERO);
    delayed
        .map(|(rung, delay)| v1::RungDelay {
            rung: rung.name.clone(),
            delay_millis: delay.millis(),
        })
        .collect()
}

/// A start that waits for a second person, as readers get it: nothing speaks against it yet.
pub(crate) fn starts(waiting: &Petition) -> v1::Waiting {
    v1::Waiting {
        by: waiting.by.clone(),
        what: waiting.what.clone(),
        reason: waiting.reason.clone(),
        command: command(&waiting.what, None),
        asked_time: Some(timestamp(waiting.at)),
        until_time: Some(timestamp(waiting.until())),
        evidence_changed: false,
        evidence: String::new(),
    }
}

/// Room for what something waits for: thousands are told a second.
const WHY_BYTES: usize = 128;

/// What something waits for, as readers get it.
pub(crate) fn why(why: &Why, plan: &Plan) -> v1::Why {
    let mut text = String::with_capacity(WHY_BYTES);
    // A string takes whatever is written into it.
    let _always = write!(text, "{why}");
    v1::Why { code: why.code().to_owned(), text: with_names(&text, plan) }
}

fn wave_name(plan: &Plan, wave: &WaveStatus) -> String {
    plan.waves().get(wave.wave.index()).map_or_else(String::new, |wave| wave.name.clone())
}

fn state(phase: &Phase) -> v1::RolloutState {
    match phase {
        Phase::Running => v1::RolloutState::Running,
        Phase::Paused(_) => v1::RolloutState::Paused,
        Phase::Halted { .. } => v1::RolloutState::Halted,
        Phase::Aborted(_) => v1::RolloutState::Aborted,
        Phase::Finished { .. } => v1::RolloutState::Finished,
    }
}

fn wave_state(condition: WaveCondition) -> v1::WaveState {
    match condition {
        WaveCondition::Waiting => v1::WaveState::Waiting,
        WaveCondition::Opening => v1::WaveState::Opening,
        WaveCondition::Passed => v1::WaveState::Passed,
        WaveCondition::HeldBack => v1::WaveState::HeldBack,
        WaveCondition::Between => v1::WaveState::Between,
    }
}

fn node_state(condition: NodeCondition) -> v1::NodeState {
    match condition {
        NodeCondition::NoWorker => v1::NodeState::NoWorker,
        NodeCondition::Working => v1::NodeState::Working,
        NodeCondition::Silent => v1::NodeState::Silent,
        NodeCondition::Isolated => v1::NodeState::Isolated,
        NodeCondition::HeldBack => v1::NodeState::HeldBack,
        NodeCondition::Recounting => v1::NodeState::Recounting,
        NodeCondition::LeftOut => v1::NodeState::LeftOut,
        NodeCondition::TurnedAway => v1::NodeState::TurnedAway,
        NodeCondition::Ahead => v1::NodeState::Ahead,
    }
}

fn gate(judgement: &Judgement, plan: &Plan) -> v1::Gate {
    let reason = |code: &str, text: String| v1::Why {
        code: code.to_owned(),
        text: with_names(&text, plan),
    };
    let reasons = match &judgement.verdict {
        Verdict::Expand => Vec::new(),
        Verdict::Hold(reasons) => {
            reasons.iter().map(|hold| reason(hold.code(), hold.to_string())).collect()
        }
        Verdict::Isolate { why, .. } => vec![reason(why.code(), why.to_string())],
        Verdict::Halt(halt) => vec![reason(halt.code(), halt.to_string())],
    };
    v1::Gate {
        verdict: judgement.verdict.code().to_owned(),
        reasons,
        signals: judgement.numbers.iter().map(|it| signal(it, plan)).collect(),
        unmeasured: judgement.unmeasured.iter().map(|it| it.code().to_owned()).collect(),
        overridable: judgement.unanswerable().is_none(),
    }
}

fn signal(numbers: &SignalNumbers, plan: &Plan) -> v1::Signal {
    v1::Signal {
        name: numbers.signal.code().to_owned(),
        failed: numbers.failed,
        opened: numbers.opened,
        mature: numbers.mature,
        pass_at: numbers.pass_at,
        trip_at: numbers.trip_at,
        missing: numbers.missing,
        standing: numbers.standing.code().to_owned(),
        only_stops: !plan.policy().gate.must_pass(numbers),
    }
}
