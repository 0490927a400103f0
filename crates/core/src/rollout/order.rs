//! Orders: what a node shall hold, prepare and open, as levels that are sent again and again.
//!
//! # Invariants
//!
//! * Orders state what should be, never what to do next; a lost or repeated one does no harm.
//! * Within one generation the level of a job only rises; closing takes a new generation.
//! * At most `permit_window` mailboxes of a node may open beyond those known to be open, and
//!   each is named.
//! * A node that has yet to tell what it holds gets no order: nothing changes there.
//! * What was re-closed is ordered closed until it is known to be, whatever is allowed
//!   meanwhile.
//! * While the rollout is paused, halted or aborted, or a node is isolated, nothing more
//!   may open, and no dial tone begins.

use super::packed::Packed;
use super::{KeptBack, NodeState, Phase, Rollout, ordinals};
use crate::fleet::{Generation, JobNumber, NodeNumber, Ordinal, WaveNumber};
use crate::mailbox::{Health, Level, Preparation};
use crate::planted::{self, Bug};
use crate::time::Span;

/// What one node shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Rises with every change of what may be opened.
    pub version: u64,
    /// Whether mailboxes may be opened at all.
    pub may_open: bool,
    /// One per job the node holds.
    pub jobs: Vec<Order>,
    /// Its part of what all nodes together may open, thousandths of a mailbox in a second;
    /// nothing if there is no such limit.
    pub open_millis_per_second: Option<u32>,
    /// What persons have re-closed and not resumed, for the node to remember; nothing if it is
    /// to tell that itself, or the coordinator is too old to say.
    pub kept_back: Option<KeptBack>,
    /// The newest report of the node's present run of which something is on record; 0 if
    /// nothing is.
    pub recorded: u64,
}

/// What shall become of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The job.
    pub job: JobNumber,
    /// The lease.
    pub generation: Generation,
    /// Whether its mailboxes shall be verified and repaired.
    pub prepare: bool,
    /// The level its mailboxes may be raised to; mailboxes above it must be closed.
    pub level: Level,
    /// Only mailboxes with ordinals below this may be raised.
    pub open_below: u16,
    /// Of these only the ones named, ascending; all of them if the coordinator is too old to
    /// name any.
    pub named: Option<Vec<Ordinal>>,
    /// Mailboxes that must be closed, whatever the level; they have no dial tone either.
    pub held_back: Vec<Ordinal>,
    /// Whether its held mailboxes have a dial tone. As with levels, none begins while
    /// nothing may open, and what has begun stands until this is taken back.
    pub dial_tone: bool,
    /// How long its opened mailboxes must stay healthy, where that is shorter than usual.
    pub soak: Option<Span>,
}

impl Order {
    /// Whether this mailbox may be raised, as far as places go.
    pub fn permits(&self, ordinal: Ordinal) -> bool {
        let named = self.named.as_ref();
        ordinal.get() < self.open_below
            && named.is_none_or(|named| named.binary_search(&ordinal).is_ok())
    }
}

impl Rollout {
    /// The orders for `node`, for its present worker.
    pub fn orders(&self, node: NodeNumber) -> Orders {
        let state = self.nodes.get(node.index());
        let out = state.is_none_or(NodeState::is_out);
        let moving = matches!(self.phase, Phase::Running | Phase::Finished { .. })
            || planted::is(Bug::PauseOnPaper);
        let may_open = moving && !out;
        let jobs = self
            .plan
            .jobs_on(node)
            .filter(|job| self.is_held(node, job.number))
            .map(|job| self.order(job.number, may_open));
        let mut jobs: Vec<Order> = jobs.collect();
        self.name_permits(node, &mut jobs);
        Orders {
            version: self.orders_version,
            may_open,
            jobs,
            open_millis_per_second: self.part_of(node),
            kept_back: self.kept_back(node),
            recorded: state.map_or(0, |node| node.reported),
        }
    }

    /// Whether the present worker of `node` has orders for `job`.
    pub fn is_held(&self, node: NodeNumber, job: JobNumber) -> bool {
        let Some(state) = self.nodes.get(node.index()) else { return false };
        let planned = self.plan.jobs().get(job.index());
        let leased = self.jobs.get(job.index()).and_then(|job| job.leased_to);
        !state.recount.is_pending()
            && planned.is_some_and(|planned| planned.node == node)
            && leased.is_some()
            && leased == state.incarnation
    }

    fn order(&self, job: JobNumber, may_open: bool) -> Order {
        let state = self.job(job);
        let planned = self.plan.jobs().get(job.index()).expect("jobs are the plan's");
        let wave = self.wave(planned.wave);
        let node_held = self.nodes.get(planned.node.index()).is_none_or(|n| n.held_back);
        let isolated =
            self.nodes.get(planned.node.index()).is_none_or(|n| n.isolated.is_some());
        let level = if wave.held_back || node_held { Level::HELD } else { wave.allowed };
        let mut held_back = self.held_back_of(job);
        held_back.extend(&state.reclosed);
        held_back.sort_unstable();
        held_back.dedup();
        let open_below = if may_open { self.open_below(job, level) } else { 0 };
        let over = matches!(self.phase, Phase::Aborted(_) | Phase::Halted { .. });
        Order {
            job,
            generation: state.generation,
            prepare: !over && !isolated && !node_held && !wave.held_back,
            level,
            open_below,
            named: Some(Vec::new()),
            held_back,
            dial_tone: self.has_dial_tone(planned.wave, planned.node),
            soak: self.soak_of(planned.wave),
        }
    }

    /// Whether held mailboxes of `wave` on `node` have a dial tone, as far as nothing was
    /// re-closed.
    pub(super) fn has_dial_tone(&self, wave: WaveNumber, node: NodeNumber) -> bool {
        let node_held = self.nodes.get(node.index()).is_none_or(|node| node.held_back);
        self.plan.has_dial_tone(wave) && !self.wave(wave).held_back && !node_held
    }

    pub(super) fn held_back_of(&self, job: JobNumber) -> Vec<Ordinal> {
        if self.held_back.is_empty() {
            return Vec::new();
        }
        let places =
            self.held_back.iter().filter_map(|mailbox| self.plan.place(*mailbox));
        places.filter(|(of, _)| *of == job).map(|(_, ordinal)| ordinal).collect()
    }

    /// Up to where mailboxes of `job` may be raised to `level`, while anything may open.
    pub(super) fn open_below(&self, job: JobNumber, level: Level) -> u16 {
        if level == Level::HELD {
            return 0;
        }
        let state = self.job(job);
        if state.stages.below(level) <= self.plan.policy().limits.permit_window {
            return u16::try_from(state.states.len()).unwrap_or(u16::MAX);
        }
        self.permitted(&state.states, level, &self.held_back_of(job))
    }

    /// The end of the prefix of a job in which at most a window of mailboxes is still on
    /// its way to `level`.
    fn permitted(&self, states: &Packed, level: Level, held_back: &[Ordinal]) -> u16 {
        let window = self.plan.policy().limits.permit_window;
        let mut on_the_way = 0;
        for (ordinal, state) in ordinals(states) {
            let arrived = state.level >= level
                || state.health >= Health::Failed
                || state.preparation == Preparation::Quarantined
                || held_back.contains(&ordinal);
            on_the_way += u16::from(!arrived);
            if on_the_way > window && !planted::is(Bug::NoWindow) {
                return ordinal.get();
            }
        }
        u16::try_from(states.len()).unwrap_or(u16::MAX)
    }
}
