//! Night: the coordinator's decisions, all nodes, and the clock between them.
//!
//! # Invariants
//!
//! * While anything may rise, time passes beat by beat, as reports and answers do; while nothing
//!   may, in steps that are still shorter than any lease and than evidence may be old.
//! * It ends: when the rollout does, when it was halted, or when it has stood still for longer
//!   than any schedule makes it.

use std::sync::Arc;

use fastrand::Rng;
use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::gate::{Bound, HaltReason};
use tidegate_core::mailbox::Level;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Event, Phase, Record, Rollout, Why};
use tidegate_core::time::{Span, Timestamp};

use crate::assume::Assumptions;
use crate::node::Node;

/// When every rehearsal begins; nothing depends on it.
const BEGINNING: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A rollout that takes no step for so long, beside what its schedule asks, waits for a person.
const PATIENCE: Span = Span::from_secs(24 * 60 * 60);

/// A whole rollout that is still being played.
#[derive(Debug)]
pub struct Night {
    plan: Arc<Plan>,
    rollout: Rollout,
    nodes: Vec<Node>,
    now: Timestamp,
    /// Whether anything may rise before the next report.
    moves: bool,
    /// When it last took a step.
    stepped_at: Timestamp,
    patience: Span,
    passed: Vec<Passed>,
    isolated: Vec<NodeNumber>,
}

/// How a rehearsal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// How long it took, from the start of the rollout.
    pub took: Span,
    /// When each wave passed each level, in that order.
    pub passed: Vec<Passed>,
    /// Mailboxes whose owners were let in.
    pub opened: u64,
    /// Of these, those that could not be read.
    pub harmed: u64,
    /// Nodes that the gate took out.
    pub isolated: Vec<NodeNumber>,
}

/// How a rehearsal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every wave stands on the top of the ladder.
    Finished,
    /// The gate stopped everything.
    Halted {
        /// Why.
        reason: HaltReason,
        /// The wave whose evidence tripped.
        wave: WaveNumber,
    },
    /// It waits for a person.
    Stands(
        /// For what.
        Vec<Why>,
    ),
}

/// A wave passed a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The wave.
    pub wave: WaveNumber,
    /// The level.
    pub level: Level,
    /// When, from the start of the rollout.
    pub after: Span,
}

/// Plays one whole rollout of `plan`.
pub fn rehearse(plan: &Arc<Plan>, assumptions: &Assumptions, seed: u64) -> Ending {
    let mut night = Night::new(plan, assumptions, seed);
    loop {
        if let Some(ending) = night.step() {
            return ending;
        }
    }
}

impl Night {
    /// A rollout of `plan` that has just been applied.
    pub fn new(plan: &Arc<Plan>, assumptions: &Assumptions, seed: u64) -> Self {
        let mut chance = Rng::with_seed(seed);
        let names = plan.inventory().node_names().iter().zip(0..);
        let nodes = names.map(|(_, number)| {
            let number = NodeNumber::new(number);
            let nature = assumptions.draw(number, &mut chance);
            Node::new(number, nature, chance.u64(..), plan, BEGINNING)
        });
        let delays = plan.policy().cohorts.iter().flat_map(|it| it.delays.values());
        let longest = delays.copied().max().unwrap_or(Span::ZERO);
        Self {
            nodes: nodes.collect(),
            rollout: Rollout::new(Arc::clone(plan), BEGINNING, BEGINNING),
            plan: Arc::clone(plan),
            now: BEGINNING,
            moves: true,
            stepped_at: BEGINNING,
            patience: Span::from_millis(PATIENCE.millis() + longest.millis()),
            passed: Vec::new(),
            isolated: Vec::new(),
        }
    }

    /// The rollout, as its coordinator knows it.
    pub fn rollout(&self) -> &Rollout {
        &self.rollout
    }

    /// The time there.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Lets time pass. Returns how it ended, when it has.
    pub fn step(&mut self) -> Option<Ending> {
        let limits = self.plan.policy().limits;
        self.now = self.now + if self.moves { limits.beat } else { self.quiet() };
        self.answer_questions();
        self.moves = false;
        self.decide(&Event::Tick);
        for index in 0..self.nodes.len() {
            self.beat(index, limits.lease);
        }
        let outcome = match self.rollout.phase() {
            Phase::Finished { .. } => Outcome::Finished,
            Phase::Halted { reason, wave, .. } => {
                Outcome::Halted { reason: *reason, wave: *wave }
            }
            Phase::Running | Phase::Paused(_) | Phase::Aborted(_) => {
                if self.now.since(self.stepped_at) < self.patience {
                    return None;
                }
                Outcome::Stands(self.rollout.status(self.now).why)
            }
        };
        Some(self.ending(outcome))
    }

    /// How long nothing can happen that would not wait for it.
    fn quiet(&self) -> Span {
        let policy = self.plan.policy();
        let thirds = [policy.limits.lease, policy.gate.report_age_max];
        let shortest =
            thirds.into_iter().map(|span| Span::from_millis(span.millis() / 3));
        shortest.min().unwrap_or(policy.limits.beat).max(policy.limits.beat)
    }

    /// Whoever is asked beside the nodes says that all is well.
    fn answer_questions(&mut self) {
        for external in &self.plan.policy().gate.external {
            let (Bound::Max(good) | Bound::Min(good)) = external.bound;
            self.rollout.hear_external(external.name, good, self.now);
        }
    }

    fn beat(&mut self, index: usize, lease: Span) {
        let since_start = self.now.since(BEGINNING);
        let Some(node) = self.nodes.get_mut(index) else { return };
        if node.is_lost(since_start) {
            return;
        }
        let names = self.plan.inventory().node_names();
        let name = names.get(index).map_or("", String::as_str);
        if let Some(join) = node.join(name) {
            self.decide(&Event::Join(join));
        }
        let Some(node) = self.nodes.get_mut(index) else { return };
        let event = Event::Sync(node.report(&self.plan, self.now));
        self.decide(&event);
        let Event::Sync(sync) = event else { return };
        self.rollout.hear(&sync, self.now);
        let orders = self.rollout.give(sync.node, sync.sequence);
        let Some(node) = self.nodes.get_mut(index) else { return };
        let may_rise = node.hear(&sync, orders, lease, self.now);
        node.turn(&self.plan, self.now, may_rise);
        self.moves |= may_rise;
    }

    fn decide(&mut self, event: &Event) {
        let step = self.rollout.decide(event, self.now);
        debug_assert_eq!(step.refusal, None, "nobody in a rehearsal breaks the protocol");
        for record in step.records {
            self.rollout.apply(&record);
            if let Record::Expanded { evidence, at } = &record {
                let (wave, level) = (evidence.wave, evidence.level);
                self.passed.push(Passed { wave, level, after: at.since(BEGINNING) });
            } else if let Record::NodeIsolated { node, .. } = &record {
                self.isolated.push(*node);
            } else if !matches!(record, Record::LevelAllowed { .. }) {
                continue;
            }
            self.stepped_at = self.now;
            self.moves = true;
        }
    }

    fn ending(&self, outcome: Outcome) -> Ending {
        let stood = matches!(outcome, Outcome::Stands(_));
        let at = if stood { self.stepped_at } else { self.now };
        Ending {
            outcome,
            took: at.since(BEGINNING),
            passed: self.passed.clone(),
            opened: self.nodes.iter().map(Node::opened).sum(),
            harmed: self.nodes.iter().map(Node::harmed).sum(),
            isolated: self.isolated.clone(),
        }
    }
}
