//! Rebuild: a rollout whose journal is gone, made again from what the workers hold.
//!
//! ```text
//! rebuild ─▶ every node tells what it holds ─▶ rebuilt, paused ─ resume ─▶ running
//!                └─ or is left out, by name, by whoever resumes ─ accept ─▶ tells ─▶ back
//! ```
//!
//! # Invariants
//!
//! * What a node tells counts from when it has joined this program: a report from before may leave out what
//!   somebody else has confirmed.
//! * While nodes tell, no order leaves: what is open stays open, what is closed stays closed,
//!   and every gate is closed.
//! * The first generation issued afterwards is above every claim that any node has told of.
//! * A wave is allowed the highest level that was seen in it. It has passed what a later wave
//!   could not have opened otherwise, and the level below its own; no more. What a node that
//!   was left out shows later raises that, and lowers nothing.
//! * Evidence on which the gate halts is judged before every mailbox has to prove itself anew.
//! * Whoever knows less than its node has told to the rebuild is turned away until a person
//!   accepts it, however often the node was left out.
//! * What is accepted from a worker put back to an older state is closed, whatever was known.
//! * What had been open and was found closed is held back until a person resumes it, and so is
//!   what a node remembers to have been re-closed before it had ever been open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::decide::with;
use super::permit::Given;
use super::{
    Action, JobReport, KeptBack, LEVELS, NodeState, Operate, Phase, Record, Refusal,
    Rollout, Scope, Sync, Verb, ordinals,
};
use crate::fleet::{Generation, Incarnation, JobNumber, NodeNumber, Ordinal, WaveNumber};
use crate::gate::Verdict;
use crate::mailbox::{Level, MailboxState};
use crate::time::{Span, Timestamp};

/// Whether a node has told what it holds, where that must be learnt from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recount {
    /// It is known.
    #[default]
    Done,
    /// It has not told everything yet.
    Awaited,
    /// It has told everything; others have not.
    Told,
    /// It was left out: a person must accept it before its worker is heard again.
    LeftOut,
}

impl Recount {
    /// Whether it is not a node like any other yet.
    pub fn is_pending(self) -> bool {
        self != Self::Done
    }
}

/// How far a rebuild is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuildStatus {
    /// Nodes that have told everything.
    pub told: usize,
    /// Nodes that have not.
    pub missing: Vec<NodeNumber>,
}

/// What was found while nodes tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Closed, and open at some time before.
    reclosed: BTreeSet<(JobNumber, Ordinal)>,
    /// What nodes remember that persons have re-closed and not resumed.
    kept_back: BTreeMap<NodeNumber, KeptBack>,
}

impl Rollout {
    /// How far the rebuild is; nothing if none is under way.
    pub fn rebuilding(&self) -> Option<RebuildStatus> {
        if !self.rebuilding {
            return None;
        }
        let (told, missing): (Vec<_>, Vec<_>) =
            self.telling().partition(|node| self.told_all(*node));
        Some(RebuildStatus { told: told.len(), missing })
    }

    fn telling(&self) -> impl Iterator<Item = NodeNumber> {
        let nodes = (0..).map(NodeNumber::new).take(self.nodes.len());
        nodes.filter(|node| self.tells(*node).is_some())
    }

    /// Whether a node has told everything, to this program.
    fn told_all(&self, node: NodeNumber) -> bool {
        let told = self.tells(node).is_some_and(|node| node.recount == Recount::Told);
        told && !self.must_join(node)
    }

    /// Remembers that a worker was turned away which knew less than its node has told before.
    ///
    /// Not journaled, as [`Rollout::hear`]: it asks again.
    pub fn turn_away(&mut self, node: NodeNumber) {
        if let Some(heard) = self.heard.get_mut(node.index()) {
            heard.turned_away = true;
        }
    }

    /// Remembers that the rightful run of `node` has joined again: whoever was turned away
    /// meanwhile is another one.
    ///
    /// Not journaled, as [`Rollout::hear`].
    pub fn welcome(&mut self, node: NodeNumber) {
        if let Some(heard) = self.heard.get_mut(node.index()) {
            heard.turned_away = false;
        }
    }

    /// Whether it was made again from what the workers hold.
    pub fn was_rebuilt(&self) -> bool {
        self.history.iter().any(|record| matches!(record, Record::RebuildBegun(_)))
    }

    /// Begins a rebuild: nothing is known of any node.
    pub(super) fn apply_rebuild_begun(&mut self, action: &Action) {
        self.phase = Phase::Paused(action.clone());
        self.rebuilding = true;
        self.nodes.iter_mut().for_each(|node| node.recount = Recount::Awaited);
    }

    pub(super) fn apply_claims(
        &mut self,
        node: NodeNumber,
        claimed: Generation,
        orders_seen: u64,
    ) {
        self.generation = self.generation.max(claimed);
        let state = self.node_mut(node);
        state.issued = state.issued.max(claimed);
        self.orders_version = self.orders_version.max(orders_seen);
    }

    /// Takes a job over as it was found.
    pub(super) fn apply_found(
        &mut self,
        incarnation: Incarnation,
        report: &JobReport,
        reclosed: &[Ordinal],
        at: Timestamp,
    ) {
        let JobReport { job, generation, facts, totals, findings } = report;
        self.generation = self.generation.max(*generation);
        self.fear_older(*job);
        let state = self.job_mut(*job);
        debug_assert!(state.generation <= *generation, "claims only rise");
        state.generation = *generation;
        state.leased_to = Some(incarnation);
        self.found.reclosed.extend(reclosed.iter().map(|ordinal| (*job, *ordinal)));
        self.has_told(*job, *generation);
        self.apply_told(*job, facts, *totals, at);
        self.apply_findings(*job, facts, findings);
    }

    pub(super) fn apply_recounted(
        &mut self,
        node: NodeNumber,
        journaled: u64,
        kept_back: &KeptBack,
    ) {
        self.node_mut(node).recount = Recount::Told;
        self.has_journaled(node, journaled);
        // An older state that was accepted may remember less.
        self.found.kept_back.entry(node).or_default().join(kept_back);
    }

    pub(super) fn apply_rebuilt(&mut self, left_out: &[NodeNumber], at: Timestamp) {
        let whole = std::mem::take(&mut self.rebuilding);
        for (number, node) in (0..).map(NodeNumber::new).zip(&mut self.nodes) {
            node.is_older = false;
            node.recount = match node.recount {
                Recount::Awaited | Recount::Told if left_out.contains(&number) => {
                    Recount::LeftOut
                }
                Recount::Told => Recount::Done,
                other @ (Recount::Done | Recount::Awaited | Recount::LeftOut) => other,
            };
        }
        let found = std::mem::take(&mut self.found);
        if whole {
            self.derive_waves(at);
        } else {
            self.raise_waves(at);
        }
        self.hold_back_found(&found, whole);
        for (node, kept) in &found.kept_back {
            self.keep_back(*node, kept, whole, at);
        }
    }

    /// From the last wave to the first: what each has shown, and what later ones prove of it.
    fn derive_waves(&mut self, at: Timestamp) {
        let seen = self.seen();
        let mut proved = Level::HELD;
        for (wave, seen) in self.waves.iter_mut().zip(seen).rev() {
            let below = Level::new(seen.get().saturating_sub(1)).unwrap_or_default();
            wave.passed = proved.max(below);
            wave.allowed = seen.max(wave.passed);
            (wave.allowed_at, wave.passed_at) = (at, at);
            wave.since = [at; LEVELS];
            proved = proved.max(wave.allowed);
        }
    }

    /// Nodes that had been left out have told: what they show, and what that proves of waves
    /// before. What was re-closed since then is closed there too.
    fn raise_waves(&mut self, at: Timestamp) {
        let seen = self.seen();
        let mut proved = Level::HELD;
        for (wave, seen) in self.waves.iter_mut().zip(seen).rev() {
            if wave.held_back || wave.epoch > 0 {
                continue;
            }
            let below = Level::new(seen.get().saturating_sub(1)).unwrap_or_default();
            let passed = wave.passed.max(proved).max(below);
            if passed > wave.passed {
                (wave.passed, wave.passed_at) = (passed, at);
            }
            let (before, allowed) = (wave.allowed, wave.allowed.max(seen).max(passed));
            if allowed > before {
                (wave.allowed, wave.allowed_at) = (allowed, at);
                let levels = wave.since.iter_mut().take(allowed.index() + 1);
                levels.skip(before.index() + 1).for_each(|since| *since = at);
                proved = proved.max(allowed);
            }
        }
    }

    /// The highest level of a mailbox in each wave.
    fn seen(&self) -> Vec<Level> {
        let waves = (0..).map(WaveNumber::new).take(self.waves.len());
        waves.map(|wave| self.highest(wave)).collect()
    }

    /// The highest level of a mailbox in `wave`.
    fn highest(&self, wave: WaveNumber) -> Level {
        let jobs = self.plan.jobs().iter().filter(|job| job.wave == wave);
        let states = jobs.flat_map(|job| self.job(job.number).states.iter());
        states.map(|state| state.level).max().unwrap_or_default()
    }

    /// Holds back what was found closed after it had been open: as a whole wave or a whole
    /// node where nothing else of it is open, one by one elsewhere. A wave that others have
    /// gone on with meanwhile is not held back for the sake of one node.
    fn hold_back_found(&mut self, found: &Found, whole: bool) {
        let mut by_wave: BTreeMap<WaveNumber, Vec<(NodeNumber, JobNumber, Ordinal)>> =
            BTreeMap::new();
        for (number, ordinal) in &found.reclosed {
            let Some(job) = self.plan.jobs().get(number.index()) else { continue };
            by_wave.entry(job.wave).or_default().push((job.node, *number, *ordinal));
        }
        for (wave, closed) in by_wave {
            let untouched = whole || self.wave(wave).allowed == Level::HELD;
            if untouched && self.highest(wave) == Level::HELD {
                let state = self.wave_mut(wave);
                state.held_back = true;
                (state.allowed, state.passed) = (Level::HELD, Level::HELD);
                continue;
            }
            for (node, job, ordinal) in closed {
                if !self.has_open(node) {
                    self.node_mut(node).held_back = true;
                } else if let Some(mailbox) = self.plan.members(job).get(ordinal.index())
                {
                    self.held_back.insert(*mailbox);
                }
            }
        }
    }

    fn has_open(&self, node: NodeNumber) -> bool {
        let tallies = self.waves.iter().flat_map(|wave| &wave.tallies);
        tallies.filter(|tally| tally.node == node).any(|tally| tally.open() > 0)
    }

    /// Whether a node is to tell what it holds, and may believe that it has: what it told before
    /// this program started may be lost, and whoever joins again tells everything.
    pub(super) fn must_join(&self, node: NodeNumber) -> bool {
        self.tells(node).is_some()
            && self.heard.get(node.index()).is_none_or(|heard| heard.at.is_none())
    }

    /// Whether a report of such a node is no part of all that it tells: it was sent before the
    /// node joined, and goes by an answer that this program has not given or by a shorter journal.
    pub(super) fn must_tell_all(&self, sync: &Sync) -> bool {
        let Some(state) = self.tells(sync.node) else { return false };
        let answered = self.heard.get(sync.node.index()).map_or(0, |it| it.sequence);
        let is_from_before = sync.account.as_ref().is_some_and(|account| {
            account.answered > answered
                || account.journaled.is_some_and(|records| records < state.journaled)
        });
        self.must_join(sync.node) || is_from_before
    }

    fn tells(&self, node: NodeNumber) -> Option<&NodeState> {
        let tells =
            |node: &&NodeState| matches!(node.recount, Recount::Awaited | Recount::Told);
        self.nodes.get(node.index()).filter(tells)
    }

    /// What follows from a report of a node that tells what it holds.
    pub(super) fn on_recount(&self, sync: &Sync, now: Timestamp) -> Vec<Record> {
        let mut records = Vec::new();
        let Some(node) = self.nodes.get(sync.node.index()) else { return records };
        let at_store = sync.account.as_ref().map(|account| account.store_claimed);
        let claimed = sync.claimed_max.max(at_store.unwrap_or_default());
        if claimed > node.issued {
            let (node, orders_seen) = (sync.node, 0);
            records.push(Record::ClaimsFound { node, claimed, orders_seen, at: now });
        }
        let found = sync.reports.iter().filter_map(|it| self.found(sync, it, now));
        records.extend(found);
        let told_all = sync.account.as_ref().filter(|account| account.untold == 0);
        if let Some(account) = told_all.filter(|_| node.recount == Recount::Awaited) {
            let told = account.kept_back.as_ref();
            let told = told.map(|told| self.known_of(sync.node, told));
            let (node, kept_back) = (sync.node, told.unwrap_or_default());
            let journaled = account.journaled.unwrap_or(0);
            records.push(Record::NodeRecounted { node, journaled, kept_back, at: now });
        }
        records
    }

    /// What of a report is news of what a node holds.
    fn found(&self, sync: &Sync, report: &JobReport, now: Timestamp) -> Option<Record> {
        let job = self.jobs.get(report.job.index())?;
        let planned = self.plan.jobs().get(report.job.index())?;
        if planned.node != sync.node || report.generation < job.generation {
            return None;
        }
        let known = job.leased_to == Some(sync.incarnation)
            && job.generation == report.generation;
        let facts = report.facts.iter().filter(|(ordinal, state)| {
            job.states.get(ordinal.index()).is_some_and(|known| known != *state)
        });
        let facts: Vec<(Ordinal, MailboxState)> = facts.copied().collect();
        let account = sync.account.iter().flat_map(|account| &account.reclosed);
        let reclosed = account.filter(|(of, _)| *of == report.job);
        let places = 0..job.states.len();
        let reclosed: Vec<Ordinal> = reclosed
            .flat_map(|(_, ordinals)| ordinals)
            .filter(|ordinal| places.contains(&ordinal.index()))
            .copied()
            .collect();
        let same = known && facts.is_empty() && job.totals == report.totals;
        (!same || !reclosed.is_empty()).then(|| Record::MailboxesFound {
            incarnation: sync.incarnation,
            journaled: sync.account.as_ref().and_then(|it| it.journaled).unwrap_or(0),
            report: JobReport { facts, ..report.clone() },
            reclosed,
            at: now,
        })
    }

    /// What follows when the last node has told what it holds.
    pub(super) fn on_recounted(&self, now: Timestamp) -> Option<Vec<Record>> {
        let mut telling = self.telling().peekable();
        let complete =
            telling.peek().is_some() && telling.all(|node| self.told_all(node));
        complete.then(|| self.rebuilt(Vec::new(), None, now))
    }

    /// Ends the rebuild and fences every job that was found.
    fn rebuilt(
        &self,
        left_out: Vec<NodeNumber>,
        by: Option<Action>,
        now: Timestamp,
    ) -> Vec<Record> {
        let told = |number: NodeNumber| {
            let node = self.nodes.get(number.index());
            let is_left_out = left_out.contains(&number);
            node.filter(|node| node.recount == Recount::Told && !is_left_out)
        };
        let jobs = self.plan.jobs().iter();
        let held = jobs.filter(|job| self.job(job.number).leased_to.is_some());
        let held = held.filter_map(|job| {
            told(job.node)?.incarnation.map(|incarnation| (job.number, incarnation))
        });
        let leases = self.generations().zip(held);
        let leases = leases.map(|(generation, (job, incarnation))| Record::JobLeased {
            job,
            incarnation,
            generation,
            at: now,
        });
        let leases: Vec<Record> = leases.collect();
        let rebuilt = Record::Rebuilt { left_out, by, at: now };
        // The leases reset what mailboxes have shown.
        let halted = self.halt_found(&rebuilt, now);
        std::iter::once(rebuilt).chain(halted).chain(leases).collect()
    }

    /// The halt that follows from what was found, once that counts.
    fn halt_found(&self, rebuilt: &Record, now: Timestamp) -> Option<Record> {
        if matches!(self.phase, Phase::Halted { .. } | Phase::Aborted(_)) {
            return None;
        }
        let mut after = self.clone();
        after.apply(rebuilt);
        let waves = (0..).map(WaveNumber::new).take(after.waves.len());
        let mut open = waves.filter(|wave| after.wave(*wave).allowed > Level::HELD);
        open.find_map(|wave| {
            let evidence = after.evidence(wave, now);
            let Verdict::Halt(reason) = self.plan.judge(&evidence, now).verdict else {
                return None;
            };
            Some(Record::Halted { reason, evidence, at: now })
        })
    }

    /// Ends a rebuild without the nodes that are named, and leaves the rollout as stopped as
    /// it is.
    pub(super) fn pause_without(
        &self,
        operate: &Operate,
        action: Action,
        now: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        let mut ended = self.end_rebuild(operate, now)?;
        if matches!(self.phase, Phase::Paused(_)) {
            return Ok(with(ended, vec![Record::Paused(action)]));
        }
        if let Some(Record::Rebuilt { by, .. }) = ended.first_mut() {
            *by = Some(action);
        }
        Ok(ended)
    }

    /// Whether `operate` ends a rebuild, and nothing else.
    pub(super) fn ends_rebuild_paused(&self, operate: &Operate) -> bool {
        self.rebuilding && operate.verb == Verb::Pause && !operate.without.is_empty()
    }

    /// Nothing can be said of a node that has not told what it holds. A wave may be re-closed
    /// all the same: its part there is closed as soon as the node is back.
    pub(super) fn check_told(&self, scope: Scope) -> Result<(), Refusal> {
        let names = |nodes: &[NodeNumber]| {
            let names = nodes.iter().map(|node| self.node_name(*node));
            names.collect::<Vec<_>>().join(", ")
        };
        if let Some(rebuild) = self.rebuilding() {
            return Err(Refusal::NotRecounted { missing: names(&rebuild.missing) });
        }
        let node = match scope {
            Scope::Wave(_) => None,
            Scope::Node(node) => Some(node),
            Scope::Mailbox(mailbox) => {
                let job = self.plan.place(mailbox).map(|(job, _)| job);
                let job = job.and_then(|job| self.plan.jobs().get(job.index()));
                job.map(|job| job.node)
            }
        };
        let Some(node) = node else { return Ok(()) };
        match self.nodes.get(node.index()).map(|node| node.recount) {
            Some(Recount::LeftOut) => Err(Refusal::LeftOut { node: names(&[node]) }),
            Some(Recount::Awaited | Recount::Told) => {
                Err(Refusal::NotRecounted { missing: names(&[node]) })
            }
            Some(Recount::Done) | None => Ok(()),
        }
    }

    /// What must be recorded before the rollout may be resumed: nothing unless nodes have yet
    /// to tell what they hold.
    pub(super) fn end_rebuild(
        &self,
        operate: &Operate,
        now: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        let Some(rebuild) = self.rebuilding() else { return Ok(Vec::new()) };
        let (left_out, missing): (Vec<NodeNumber>, Vec<NodeNumber>) =
            rebuild.missing.iter().partition(|node| operate.without.contains(node));
        if missing.is_empty() {
            return Ok(self.rebuilt(left_out, None, now));
        }
        let nodes: Vec<String> =
            missing.iter().map(|node| format!("`{}`", self.node_name(*node))).collect();
        Err(Refusal::NotRecounted { missing: nodes.join(", ") })
    }

    /// Lets the worker of `node` back in, whatever it holds.
    pub(super) fn on_accept(
        &self,
        action: Action,
        node: NodeNumber,
        now: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        let state = self.nodes.get(node.index());
        let state = state.ok_or_else(|| Refusal::NoSuch { what: "node".to_owned() })?;
        let turned_away =
            self.heard.get(node.index()).is_some_and(|heard| heard.turned_away);
        let taken_back = match state.recount {
            Recount::LeftOut => Vec::new(),
            Recount::Done if turned_away => {
                self.check_unheard(node, now)?;
                let jobs = self.plan.jobs().iter().filter(|job| job.node == node);
                let leased = jobs.filter(|job| self.job(job.number).leased_to.is_some());
                self.generations().zip(leased).map(|(g, job)| (job.number, g)).collect()
            }
            // It is closed under the generations that end the rebuild.
            Recount::Awaited | Recount::Told if turned_away => {
                self.check_unheard(node, now)?;
                Vec::new()
            }
            Recount::Done | Recount::Awaited | Recount::Told => {
                let node = self.node_name(node).to_owned();
                return Err(Refusal::NothingToAccept { node });
            }
        };
        Ok(vec![Record::NodeAccepted { action, node, generations: taken_back }])
    }

    /// A worker that is heard keeps its node, whoever else has been turned away.
    fn check_unheard(&self, node: NodeNumber, now: Timestamp) -> Result<(), Refusal> {
        match self.at_work(node, now) {
            Some((holder, silent)) => Err(Refusal::NodeAtWork {
                node: self.node_name(node).to_owned(),
                holder,
                heard_millis: silent.millis(),
                lease_millis: self.plan.policy().limits.lease.millis(),
            }),
            None => Ok(()),
        }
    }

    /// The run that has `node` and was heard within its lease, and how long ago that was.
    pub(super) fn at_work(
        &self,
        node: NodeNumber,
        now: Timestamp,
    ) -> Option<(Incarnation, Span)> {
        let holder = self.worker_of(node)?;
        let silent = now.since(self.heard_at(node));
        (silent < self.plan.policy().limits.lease).then_some((holder, silent))
    }

    pub(super) fn apply_accepted(
        &mut self,
        node: NodeNumber,
        generations: &[(JobNumber, Generation)],
    ) {
        if let Some(heard) = self.heard.get_mut(node.index()) {
            heard.turned_away = false;
        }
        let state = self.node_mut(node);
        // Whoever held it is not its worker any more.
        state.incarnation = None;
        let was_left_out = state.recount == Recount::LeftOut;
        if !was_left_out {
            (state.claimed, state.journaled) = (Generation::default(), 0);
        }
        state.is_older |= matches!(state.recount, Recount::Awaited | Recount::Told);
        if state.recount.is_pending() {
            state.recount = Recount::Awaited;
        }
        let is_older = state.is_older;
        if let Some(given) = self.given.get_mut(node.index()) {
            *given = Given::after_restart();
        }
        self.take_back(Scope::Node(node), generations);
        for (job, _) in generations {
            self.fear_all(*job);
        }
        let plan = Arc::clone(&self.plan);
        let here = plan.jobs().iter().filter(|job| is_older && job.node == node);
        for job in here {
            if self.job(job.number).leased_to.is_some() {
                self.fear_all(job.number);
            }
        }
    }

    /// An older state may hold open what is known to be closed.
    fn fear_all(&mut self, job: JobNumber) {
        let state = self.job_mut(job);
        let all: Vec<Ordinal> = ordinals(&state.states).map(|(it, _)| it).collect();
        state.reclosed.extend(all);
    }

    /// What only an older state has told of is closed as well.
    fn fear_older(&mut self, job: JobNumber) {
        let planned = self.plan.jobs().get(job.index());
        let node = planned.and_then(|job| self.nodes.get(job.node.index()));
        let is_older = node.is_some_and(|node| node.is_older);
        if is_older && self.job(job).leased_to.is_none() {
            self.fear_all(job);
        }
    }
}

impl NodeState {
    /// A worker joins: what its run before has told may have changed.
    pub(super) fn recount_again(&mut self) {
        if self.recount == Recount::Told {
            self.recount = Recount::Awaited;
        }
    }
}
