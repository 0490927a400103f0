//! Permits: which mailboxes a node may open next, by name, and how many may still open.
//!
//! A node obeys the newest answer that it has heard, and no two reports of a run are on their
//! way at once. So when a report comes in that says which answer its worker goes by, only that
//! answer and the one to this report can ever be acted on.
//!
//! # Invariants
//!
//! * All permits of a node that may be acted on are together at most `permit_window`, and each
//!   names a mailbox that is known to be prepared.
//! * What a node may still open is what was named to it and is not known to be open: a count,
//!   never a guess from clocks.
//! * After a restart of this program a node gets no permit before it has said that it goes by
//!   an answer of this run.

use std::collections::BTreeSet;

use super::{NodeState, Order, Orders, Rollout};
use crate::fleet::{JobNumber, NodeNumber, Ordinal};
use crate::mailbox::{Health, Level, MailboxState, Preparation};
use crate::places::Places;
use crate::plan::Job;
use crate::planted::{self, Bug};

/// Mailboxes and the level that each may be raised to.
type Names = Vec<(JobNumber, Ordinal, Level)>;

/// What the answers to one node permit, as far as they may be acted on.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    knowledge: Knowledge,
    /// By the number of the report that was answered.
    answers: Vec<(u64, Names)>,
}

/// Whether this program knows which answers a node may act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Knowledge {
    /// All of them.
    #[default]
    All,
    /// It may go by an answer of an earlier run of this program.
    NotYet,
    /// Its worker is too old to tell.
    Never,
}

impl Given {
    /// Nothing is known of what the node goes by.
    pub(super) fn after_restart() -> Self {
        Self { knowledge: Knowledge::NotYet, answers: Vec::new() }
    }

    /// The node goes by the answer to this report of its; by none if that is 0.
    pub(super) fn hear(&mut self, answered: Option<u64>) {
        let Some(answered) = answered else {
            self.knowledge = Knowledge::Never;
            return self.answers.clear();
        };
        self.answers.retain(|(report, _)| *report == answered);
        if answered == 0 || !self.answers.is_empty() {
            self.knowledge = Knowledge::All;
        }
    }
}

impl Rollout {
    /// The orders for `node` in answer to its report of this number, which it may act on from
    /// now on.
    ///
    /// Not journaled: see [`Rollout::hear`].
    pub fn give(&mut self, node: NodeNumber, report: u64) -> Orders {
        let mut orders = self.orders(node);
        let heard = self.heard.get(node.index()).map(|heard| heard.sequence);
        let told = self.nodes.get(node.index()).map(|node| node.reported);
        if heard.max(told).is_some_and(|newest| report < newest) {
            // Whoever sent it has asked again since.
            orders.jobs.iter_mut().for_each(|order| order.named = Some(Vec::new()));
            return orders;
        }
        let named = orders.jobs.iter().flat_map(|order| {
            let names = order.named.iter().flatten();
            names.map(|ordinal| (order.job, *ordinal, order.level))
        });
        let names: Names = named.collect();
        if let Some(given) = self.given.get_mut(node.index())
            && given.knowledge != Knowledge::Never
        {
            given.answers.push((report, names));
        }
        orders
    }

    /// Names the mailboxes that may be raised now.
    pub(super) fn name_permits(&self, node: NodeNumber, orders: &mut [Order]) {
        let Some(given) = self.given.get(node.index()) else { return };
        let window = usize::from(self.plan.policy().limits.permit_window);
        let window = if planted::is(Bug::NoWindow) { usize::MAX } else { window };
        let mut outstanding = self.outstanding(node);
        let mut room = match given.knowledge {
            Knowledge::All | Knowledge::Never => window.saturating_sub(outstanding.len()),
            Knowledge::NotYet => 0,
        };
        for order in orders {
            let mut named = Vec::new();
            let stages = &self.job(order.job).stages;
            let none_rise = stages.below(order.level) == 0 && stages.shut() == 0
                || self.is_shut(order.job, self.heard_at(node));
            if none_rise || room == 0 && outstanding.is_empty() {
                order.named = Some(named);
                continue;
            }
            let states = &self.job(order.job).states;
            let risers = states
                .but_stretches(order.open_below, |state| is_fit(state, order.level))
                .filter(|(ordinal, state)| {
                    is_fit(*state, order.level)
                        && order.held_back.binary_search(ordinal).is_err()
                });
            for (ordinal, state) in risers {
                let before =
                    state.level < order.level && outstanding.contains(order.job, ordinal);
                outstanding.remove(order.job, ordinal);
                if before || room > 0 {
                    room -= usize::from(!before);
                    named.push(ordinal);
                }
                if room == 0 && outstanding.is_empty() {
                    break;
                }
            }
            order.named = Some(named);
        }
    }

    /// Mailboxes that `node` may open by an answer it may act on, and that are not known to
    /// be open.
    fn outstanding(&self, node: NodeNumber) -> Places {
        let given = self.given.get(node.index());
        let names = given.iter().flat_map(|given| &given.answers);
        let names = names.flat_map(|(_, names)| names);
        let open = names.filter(|(job, ordinal, level)| {
            let state = self.job(*job).states.get(ordinal.index());
            state.is_some_and(|state| !has_arrived(state, *level))
        });
        open.map(|(job, ordinal, _)| (*job, *ordinal)).collect()
    }

    /// The most mailboxes that may open on `node` while it has not heard of a stop.
    pub(super) fn may_still_open_on(&self, node: NodeNumber) -> u32 {
        let state = self.nodes.get(node.index());
        if state.is_some_and(|it| it.incarnation.is_none() && it.recount.is_pending()) {
            return self.may_open_unheard(node);
        }
        let jobs = self.plan.jobs_on(node);
        let (toned, others): (Vec<&Job>, Vec<&Job>) = jobs.partition(|job| {
            let leased = self.job(job.number).leased_to.is_some();
            leased && self.has_dial_tone(job.wave, node)
        });
        // For each of these a dial tone may begin at any time.
        let held = toned.iter().flat_map(|job| self.job(job.number).states.iter());
        let held = held.filter(|state| !state.is_open()).count();
        let knows = self.given.get(node.index()).map(|given| given.knowledge);
        let named = match knows {
            Some(Knowledge::All) => {
                let toned: BTreeSet<JobNumber> =
                    toned.iter().map(|job| job.number).collect();
                let others = self.outstanding(node);
                others.iter().filter(|(job, _)| !toned.contains(job)).count()
            }
            Some(Knowledge::NotYet | Knowledge::Never) | None => {
                others.iter().map(|job| self.permitted_in_prefix(job)).sum()
            }
        };
        u32::try_from(held.saturating_add(named)).unwrap_or(u32::MAX)
    }

    /// The most mailboxes that may open on a node of which nothing is known: as many as any
    /// answer names, and those that may have a dial tone.
    fn may_open_unheard(&self, node: NodeNumber) -> u32 {
        let jobs = self.plan.jobs_on(node);
        let (toned, others): (Vec<&Job>, Vec<&Job>) =
            jobs.partition(|job| self.plan.has_dial_tone(job.wave));
        let sum =
            |jobs: Vec<&Job>| jobs.iter().map(|job| u32::from(job.size)).sum::<u32>();
        let window = u32::from(self.plan.policy().limits.permit_window);
        sum(toned).saturating_add(sum(others).min(window))
    }

    /// The most mailboxes of `job` that any answer since its lease can have permitted.
    fn permitted_in_prefix(&self, job: &Job) -> usize {
        let below = usize::from(self.permitted_below(job));
        let states = self.job(job.number).states.iter().take(below);
        let allowed = self.wave(job.wave).allowed;
        states.filter(|state| !has_arrived(*state, allowed)).count()
    }

    /// The end of the part of `job` in which mailboxes were permitted to open, on the level
    /// that is allowed or on the one that was before.
    pub(super) fn permitted_below(&self, job: &Job) -> u16 {
        let wave = self.wave(job.wave);
        let levels = [wave.allowed, wave.passed];
        let below = levels.map(|level| self.open_below(job.number, level));
        below.into_iter().max().unwrap_or(0)
    }
}

impl NodeState {
    /// Whether it takes no part: nothing opens on it, and it is in no statistics.
    pub(super) fn is_out(&self) -> bool {
        self.isolated.is_some() || self.held_back || self.recount.is_pending()
    }
}

/// Whether nothing of a permit to `level` is left.
fn has_arrived(state: MailboxState, level: Level) -> bool {
    state.level >= level
        || state.health >= Health::Failed
        || state.preparation == Preparation::Quarantined
}

/// Whether a worker could raise it to `level` at once, unless it was re-closed.
fn is_fit(state: MailboxState, level: Level) -> bool {
    let proven = !state.is_open() || state.health == Health::Healthy;
    proven && state.preparation == Preparation::Prepared && state.level < level
}
