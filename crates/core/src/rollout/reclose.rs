//! Re-closing: what a new generation takes back.
//!
//! # Invariants
//!
//! * Whatever may have opened since it was last heard of counts as open until the worker has
//!   said otherwise under the new generation.
//! * What is counted as closing of a re-closed part is what is counted as open of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Action, JobState, Phase, Rollout, Scope, Tally, ordinals};
use crate::fleet::{Generation, JobNumber, NodeNumber, Ordinal, WaveNumber};
use crate::mailbox::{Health, Level, MailboxState, Preparation};
use crate::plan::Job;
use crate::planted::{self, Bug};

impl Rollout {
    pub(super) fn apply_reclosed(
        &mut self,
        action: &Action,
        scope: Scope,
        generations: &[(JobNumber, Generation)],
    ) {
        self.take_back(scope, generations);
        match scope {
            Scope::Wave(wave) => {
                let state = self.wave_mut(wave);
                state.epoch += 1;
                state.allowed = Level::HELD;
                if !planted::is(Bug::StaleVerdict) {
                    state.passed = Level::HELD;
                }
                state.passed_at = action.at;
                state.held_back = true;
            }
            Scope::Node(node) => self.node_mut(node).held_back = true,
            Scope::Mailbox(mailbox) => {
                self.held_back.insert(mailbox);
            }
        }
        let wide = !matches!(scope, Scope::Mailbox(_));
        for (job, _) in generations.iter().filter(|_| wide) {
            self.job_mut(*job).dial_tone_since = None;
        }
        if wide && matches!(self.phase, Phase::Running | Phase::Finished { .. }) {
            self.phase = Phase::Paused(action.clone());
        }
    }

    /// Mailboxes of `wave` that are re-closed and not known to be closed yet.
    pub(super) fn closing_of_wave(&self, wave: WaveNumber) -> u32 {
        let planned = self.plan.waves().get(wave.index());
        let jobs =
            planned.map_or(0..0, |wave| wave.jobs.start as usize..wave.jobs.end as usize);
        let jobs = self.plan.jobs().get(jobs).unwrap_or_default().iter();
        let inside: u32 = jobs.map(|job| self.closing_beside(job)).sum();
        let tallies = self.wave(wave).tallies.iter();
        inside + tallies.map(|tally| self.closing_counted(wave, tally)).sum::<u32>()
    }

    /// Mailboxes that are re-closed and not known to be closed yet, by node.
    pub(super) fn closing_by_node(&self) -> Vec<u32> {
        let mut closing = vec![0; self.nodes.len()];
        let mut add = |node: NodeNumber, some: u32| {
            closing.get_mut(node.index()).into_iter().for_each(|count| *count += some);
        };
        for job in self.plan.jobs() {
            add(job.node, self.closing_beside(job));
        }
        for (number, wave) in (0..).map(WaveNumber::new).zip(&self.waves) {
            for tally in &wave.tallies {
                add(tally.node, self.closing_counted(number, tally));
            }
        }
        closing
    }

    /// Of those, the ones that are known to be open, where all of a wave on a node is re-closed.
    fn closing_counted(&self, wave: WaveNumber, tally: &Tally) -> u32 {
        if self.is_wide(wave, tally.node) && !self.tells_anew(tally.node) {
            tally.open() + tally.dial_tones()
        } else {
            0
        }
    }

    /// And the others of one job: on a node that tells anew, all that are re-closed.
    fn closing_beside(&self, planned: &Job) -> u32 {
        let job = self.job(planned.number);
        let is_wide = self.is_wide(planned.wave, planned.node);
        match (self.is_untold(planned), is_wide) {
            (true, true) => u32::from(planned.size),
            (true, false) => {
                let mut named: BTreeSet<Ordinal> = job.reclosed.clone();
                named.extend(self.held_back_of(planned.number));
                u32::try_from(named.len()).unwrap_or(u32::MAX)
            }
            (false, true) => job.may_be_inside(),
            (false, false) => job.closing(),
        }
    }

    /// Whether all of a wave on a node is re-closed, and not only single mailboxes.
    fn is_wide(&self, wave: WaveNumber, node: NodeNumber) -> bool {
        self.wave(wave).held_back
            || self.nodes.get(node.index()).is_some_and(|node| node.held_back)
    }

    /// Whether the node of a job has yet to tell anew what was on record of it before.
    pub(super) fn is_untold(&self, planned: &Job) -> bool {
        self.job(planned.number).leased_to.is_some() && self.tells_anew(planned.node)
    }

    /// Gives jobs new generations, under which whatever of `scope` is open must be closed.
    pub(super) fn take_back(
        &mut self,
        scope: Scope,
        generations: &[(JobNumber, Generation)],
    ) {
        for (job, generation) in generations {
            let permitted = self.permitted_in(*job, scope);
            self.issue(*job, *generation);
            self.apply_facts(*job, &permitted);
            let open = self.open_in(*job, scope);
            self.job_mut(*job).reclosed.extend(open);
        }
    }

    /// A worker takes up `job` again. This journal may be an older one that was put back, and so
    /// may not know that what is re-closed was resumed and opened since: until that worker has
    /// told of it, it counts as open.
    pub(super) fn fear_open(&mut self, job: JobNumber) {
        let plan = Arc::clone(&self.plan);
        let Some(planned) = plan.jobs().get(job.index()) else { return };
        if self.job(job).leased_to.is_none() {
            return;
        }
        let wide = self.is_wide(planned.wave, planned.node);
        let members = (0..).map(Ordinal::new).zip(plan.members(job));
        let feared: Vec<Ordinal> = members
            .filter(|(_, mailbox)| wide || self.held_back.contains(mailbox))
            .map(|(ordinal, _)| ordinal)
            .collect();
        self.job_mut(job).reclosed.extend(feared);
    }

    /// Mailboxes of `scope` in `job` that stand open, or have a dial tone, as far as is known.
    fn open_in(&self, job: JobNumber, scope: Scope) -> Vec<Ordinal> {
        let named = self.named_in(scope);
        let JobState { states, .. } = self.job(job);
        ordinals(states)
            .filter(|(ordinal, state)| {
                let inside = state.is_open() || state.dial_tone;
                inside && named.is_none_or(|named| named == *ordinal)
            })
            .map(|(ordinal, _)| ordinal)
            .collect()
    }

    /// The one place that `scope` means within its job, if it means one.
    fn named_in(&self, scope: Scope) -> Option<Ordinal> {
        match scope {
            Scope::Mailbox(mailbox) => {
                self.plan.place(mailbox).map(|(_, ordinal)| ordinal)
            }
            Scope::Wave(_) | Scope::Node(_) => None,
        }
    }

    /// Mailboxes of `scope` in `job` that were permitted to open and are not known to be,
    /// as if they were.
    fn permitted_in(&self, job: JobNumber, scope: Scope) -> Vec<(Ordinal, MailboxState)> {
        let Some(planned) = self.plan.jobs().get(job.index()) else { return Vec::new() };
        let level = self.wave(planned.wave).allowed;
        let below = self.permitted_below(planned);
        let named = self.named_in(scope);
        let leased = self.job(job).leased_to.is_some();
        let dial_tone = leased && self.has_dial_tone(planned.wave, planned.node);
        let held = ordinals(&self.job(job).states).filter(|(ordinal, state)| {
            named.is_none_or(|named| named == *ordinal) && !state.is_open()
        });
        held.filter_map(|(ordinal, state)| {
            let quarantined = state.preparation == Preparation::Quarantined;
            if ordinal.get() < below && !quarantined {
                let (preparation, health) = (Preparation::Prepared, Health::Unproven);
                let dial_tone = false;
                let open = MailboxState { preparation, level, health, dial_tone };
                return Some((ordinal, open));
            }
            dial_tone
                .then_some((ordinal, MailboxState { dial_tone, ..MailboxState::HELD }))
        })
        .collect()
    }
}

impl JobState {
    /// Whether somebody may be in a mailbox.
    pub(super) fn is_inside(&self, ordinal: Ordinal, state: MailboxState) -> bool {
        state.is_open() || state.dial_tone || self.reclosed.contains(&ordinal)
    }

    /// Mailboxes that are re-closed and not known to be closed yet.
    fn closing(&self) -> u32 {
        u32::try_from(self.reclosed.len()).unwrap_or(u32::MAX)
    }

    /// Of those, the ones that are only feared to be open: a node's older state may hold open
    /// what is known to be closed.
    fn may_be_inside(&self) -> u32 {
        let feared = self.reclosed.iter().filter(|ordinal| {
            let state = self.states.get(ordinal.index());
            state.is_some_and(|it| !it.is_open() && !it.dial_tone)
        });
        u32::try_from(feared.count()).unwrap_or(u32::MAX)
    }
}
