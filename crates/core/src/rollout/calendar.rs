//! Calendar: what may begin now, and what happens when a window ends.
//!
//! # Invariants
//!
//! * A step of a wave begins only while all rules that bear on it are open, and only if it is
//!   expected to be done, nine times in ten, before the first of them closes.
//! * A rule never lets anything open that would not open without it.
//! * A window that ends freezes at most once: what a second person has thawed goes on.

use super::forecast::{Ahead, Known, Z_90, span};
use super::{Action, Record, Rollout};
use crate::fleet::{JobNumber, NodeNumber, WaveNumber};
use crate::mailbox::Level;
use crate::planted::{self, Bug};
use crate::policy::calendar::{self, AtEnd, Rule};
use crate::time::{Span, Timestamp};

/// Who freezes when a window ends.
const CALENDAR: &str = "the calendar";

/// When something may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Now.
    Now,
    /// Then, or at no time that is known.
    Then(Option<Timestamp>),
}

impl Rollout {
    /// Whether there is any calendar.
    pub(super) fn has_calendar(&self) -> bool {
        !self.plan.policy().calendar.is_empty()
    }

    /// The rules that bear on a wave.
    fn rules_of(&self, wave: WaveNumber) -> impl Iterator<Item = &Rule> + Clone {
        let cohort = self.plan.cohort_of(wave).map(|cohort| cohort.name.as_str());
        let rules = self.plan.policy().calendar.iter();
        rules.filter(move |rule| {
            let bearing = &rule.bearing;
            let (cohorts, tiers) = (&bearing.cohorts, &bearing.tiers);
            !bearing.is_of_nodes()
                && (cohorts.is_empty() && tiers.is_empty()
                    || cohorts.iter().any(|name| Some(name.as_str()) == cohort)
                    || tiers.iter().any(|tier| self.has_tier(wave, tier)))
        })
    }

    /// The rules that bear on a node.
    fn rules_on(&self, node: NodeNumber) -> impl Iterator<Item = &Rule> + Clone {
        let name = self.node_name(node);
        let rules = self.plan.policy().calendar.iter();
        rules.filter(move |rule| rule.bearing.nodes.iter().any(|it| it == name))
    }

    fn has_tier(&self, wave: WaveNumber, tier: &str) -> bool {
        let names = self.plan.inventory().tier_names();
        let Some(place) = names.iter().position(|name| name == tier) else {
            return false;
        };
        self.wave(wave).tallies.iter().any(|tally| tally.counts_tier(place))
    }

    /// Whether a wave may take its next step now.
    pub(super) fn may_begin(
        &self,
        (wave, level): (WaveNumber, Level),
        now: Timestamp,
    ) -> Begin {
        if !self.has_calendar() {
            return Begin::Now;
        }
        let begins = self.begins(wave, now, self.step_takes(wave, level, now));
        if begins == Some(now) { Begin::Now } else { Begin::Then(begins) }
    }

    /// When a step of a wave that takes so long may begin, from `at` on; nothing if never.
    pub(super) fn begins(
        &self,
        wave: WaveNumber,
        at: Timestamp,
        takes: Option<Span>,
    ) -> Option<Timestamp> {
        if !self.has_calendar() {
            return Some(at);
        }
        let rules = self.rules_of(wave);
        match takes {
            Some(takes) => calendar::fits_at(&rules, at, takes),
            // Before a step has passed nobody can tell whether it fits.
            None => calendar::opens_at(&rules, at),
        }
    }

    /// When a step of a wave that has begun goes on, from `at` on: at once, unless a window has
    /// ended that holds it.
    pub(super) fn goes_on(&self, wave: WaveNumber, at: Timestamp) -> Option<Timestamp> {
        if !self.has_calendar() {
            return Some(at);
        }
        let hold = |rule: &&Rule| rule.at_end == AtEnd::Hold;
        calendar::opens_at(&self.rules_of(wave).filter(hold), at)
    }

    /// How long a step takes, nine times in ten; nothing before that can be told.
    pub(super) fn step_takes(
        &self,
        wave: WaveNumber,
        level: Level,
        now: Timestamp,
    ) -> Option<Span> {
        let known = Known::of(self)?;
        let ahead = self.step((wave, level), Ahead::default(), &known, now)?;
        Some(known.late(ahead))
    }

    /// Whether nothing further of `job` may open now, because of a window that has ended.
    pub(super) fn is_shut(&self, job: JobNumber, now: Timestamp) -> bool {
        if !self.has_calendar() || planted::is(Bug::HoldNothing) {
            return false;
        }
        let Some(planned) = self.plan.jobs().get(job.index()) else { return false };
        let holds = |rule: &&Rule| rule.at_end == AtEnd::Hold;
        let wave = self.rules_of(planned.wave).filter(holds);
        // What is going to be frozen is shut from then on, not from when that is recorded.
        let overrun = self.overrun(planned.wave, now);
        if calendar::open_until(wave, now).is_none() || overrun.is_some() {
            return true;
        }
        let rules = self.rules_on(planned.node);
        let begun = self.has_begun(job);
        let bound = rules.filter(|rule| !begun || holds(rule));
        match calendar::open_until(bound, now) {
            None => true,
            Some(until) => {
                !begun && self.job_takes(job).is_some_and(|it| now + it > until)
            }
        }
    }

    /// Whether some of `job` stand on the level that its wave is allowed.
    fn has_begun(&self, job: JobNumber) -> bool {
        let Some(planned) = self.plan.jobs().get(job.index()) else { return false };
        let level = self.wave(planned.wave).allowed;
        let states = &self.job(job).states;
        level > Level::HELD && states.iter().any(|state| state.level >= level)
    }

    /// How long it takes to open what is left of `job`, nine times in ten.
    fn job_takes(&self, job: JobNumber) -> Option<Span> {
        let planned = self.plan.jobs().get(job.index())?;
        let level = self.wave(planned.wave).allowed;
        let left = self.job(job).stages.below(level);
        let known = Known::of(self)?;
        let seconds = self.time(planned.node, u32::from(left))?;
        Some(known.late_work(seconds))
    }

    /// Nodes on which nothing may begin now, and when it may.
    pub(super) fn nodes_outside(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (NodeNumber, Option<Timestamp>)> + '_ {
        let nodes = (0..).map(NodeNumber::new).take(self.nodes.len());
        let nodes = nodes.filter(|_| self.has_calendar());
        nodes.filter_map(move |node| {
            let rules = self.rules_on(node);
            let closed = calendar::open_until(rules.clone(), now).is_none();
            closed.then(|| (node, calendar::opens_at(&rules, now)))
        })
    }

    /// The freeze that a window brings which has ended over a step that was not done.
    pub(super) fn freeze_at_end(&self, now: Timestamp) -> Option<Record> {
        if !self.has_calendar() || self.frozen.is_some() {
            return None;
        }
        let mut waves = (0..).map(WaveNumber::new).take(self.waves.len());
        waves.find_map(|wave| {
            let rule = self.overrun(wave, now)?;
            let (window, wave) = (&rule.name, self.wave_name(wave));
            let reason = format!("the window `{window}` has ended over wave `{wave}`");
            let by = CALENDAR.to_owned();
            Some(Record::Frozen(Action {
                by,
                reason,
                at: now,
                request: None,
                approved: None,
            }))
        })
    }

    /// The window that freezes everything by having ended over a step of this wave.
    fn overrun(&self, number: WaveNumber, now: Timestamp) -> Option<&Rule> {
        let wave = self.wave(number);
        if wave.allowed <= wave.passed || planted::is(Bug::EndUnseen) {
            return None;
        }
        let rules = self.rules_of(number).filter(|it| it.at_end == AtEnd::Freeze);
        let mut ended = rules.filter(|rule| rule.open_until(now).is_none());
        ended.find(|rule| {
            let closed = rule.closed_at(now).unwrap_or_default();
            // What was begun outside of it, or has been frozen for it, is a person's will.
            wave.allowed_at < closed && !self.was_frozen_since(closed)
        })
    }

    fn was_frozen_since(&self, since: Timestamp) -> bool {
        self.history.iter().rev().any(|record| {
            matches!(record, Record::Frozen(action) if action.by == CALENDAR && action.at >= since)
        })
    }
}

impl Known {
    /// How long something takes, nine times in ten.
    pub(super) fn late(&self, ahead: Ahead) -> Span {
        span(
            ahead
                .total(self.experience.factor * (Z_90 * self.experience.deviation).exp()),
        )
    }

    fn late_work(&self, seconds: f64) -> Span {
        span(seconds * self.experience.factor * (Z_90 * self.experience.deviation).exp())
    }
}
