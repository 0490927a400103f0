//! Chronicle: what the coordinator's journal says, read by somebody who does not trust it.
//!
//! # Invariants
//!
//! * Only what survives every crash is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_core::fleet::{Generation, JobNumber, WaveNumber};
use tidegate_core::gate::Evidence;
use tidegate_core::mailbox::Level;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Action, Record, Rollout, Scope};
use tidegate_core::time::Timestamp;
use tidegate_wire::record::{decode_plan_applied, decode_record};

/// Who freezes when a window ends.
const CALENDAR: &str = "the calendar";

/// What one wave was allowed and has passed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Climb {
    pub(crate) allowed: u8,
    pub(crate) allowed_at: Timestamp,
    pub(crate) passed: u8,
    pub(crate) passed_at: u64,
}

/// What the coordinator's journal says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) read: usize,
    pub(crate) applied_at: Option<Timestamp>,
    pub(crate) issued: u64,
    pub(crate) leased: BTreeMap<JobNumber, (u64, u64)>,
    pub(crate) climbs: Vec<Climb>,
    /// Reasons of all that operators did.
    pub(crate) reasons: BTreeSet<String>,
    pub(crate) over: bool,
    /// Who froze it, until somebody else thaws it.
    pub(crate) frozen: Option<String>,
    /// When a window last ended over a step.
    pub(crate) frozen_by_calendar_at: Option<Timestamp>,
    /// The wave at which the gate stopped everything, until that is re-closed.
    pub(crate) halted: Option<usize>,
    /// The wave, or nothing for all, that is hurried, and until when.
    pub(crate) hurried: Option<(Option<usize>, Timestamp)>,
    /// When each wave was last hurried no more.
    pub(crate) unhurried: BTreeMap<usize, Timestamp>,
}

impl Chronicle {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { climbs: vec![Climb::default(); plan.waves().len()], ..Self::default() }
    }

    /// Reads what is new; the new records.
    pub(crate) fn read(
        &mut self,
        records: &[Arc<[u8]>],
        plan: &Plan,
    ) -> Result<Vec<Record>, String> {
        if records.len() < self.read {
            *self = Self::new(plan);
        }
        let mut new = Vec::new();
        for payload in &records[self.read..] {
            if self.applied_at.is_none() {
                let applied =
                    decode_plan_applied(payload).map_err(|error| error.to_string())?;
                self.applied_at = Some(applied.at);
                let passed_at = applied.at.millis();
                self.climbs.iter_mut().for_each(|climb| climb.passed_at = passed_at);
            } else {
                new.push(
                    decode_record(payload, plan.policy())
                        .map_err(|error| error.to_string())?,
                );
            }
        }
        self.read = records.len();
        Ok(new)
    }

    fn count_from(&mut self, at: Timestamp) {
        for climb in &mut self.climbs {
            (climb.allowed_at, climb.passed_at) = (at, at.millis());
        }
    }

    fn has_frozen(&mut self, action: &Action) {
        self.frozen = Some(action.by.clone());
        if action.by == CALENDAR {
            self.frozen_by_calendar_at = Some(action.at);
        }
        self.reasons.insert(action.reason.clone());
    }

    /// Goes on with one record.
    pub(crate) fn note(&mut self, record: &Record) {
        self.note_hurry(record);
        self.note_rest(record);
    }

    fn note_rest(&mut self, record: &Record) {
        match record {
            Record::JobLeased { job, incarnation, generation, .. } => {
                self.issued = self.issued.max(generation.get());
                self.leased.insert(*job, (generation.get(), incarnation.get()));
            }
            Record::Reclosed { action, scope, generations } => {
                self.reasons.insert(action.reason.clone());
                self.reissue(generations);
                if let Scope::Wave(wave) = scope {
                    self.halted = self.halted.filter(|it| *it != wave.index());
                    let passed_at = action.at.millis();
                    self.climbs[wave.index()] = Climb { passed_at, ..Climb::default() };
                }
            }
            Record::Retried { action, job, generation, .. } => {
                self.reasons.insert(action.reason.clone());
                self.reissue(&[(*job, *generation)]);
            }
            Record::LevelAllowed { wave, level, at } => {
                let climb = &mut self.climbs[wave.index()];
                (climb.allowed, climb.allowed_at) = (level.get(), *at);
            }
            Record::Expanded { evidence, at } => self.has_passed(evidence, *at),
            Record::Overridden { action, evidence } => {
                self.reasons.insert(action.reason.clone());
                self.has_passed(evidence, action.at);
            }
            Record::Frozen(action) => self.has_frozen(action),
            Record::Thawed(action) => {
                let by = self.frozen.take();
                assert!(
                    by.is_some_and(|by| by != action.by),
                    "I6: a second person thaws"
                );
                self.reasons.insert(action.reason.clone());
            }
            Record::Resumed { scope: None, action } => {
                assert_eq!(self.frozen, None, "I6: what is frozen is not resumed");
                self.reasons.insert(action.reason.clone());
            }
            Record::Paused(action) | Record::Resumed { action, .. } => {
                self.reasons.insert(action.reason.clone());
            }
            Record::Aborted(action) => {
                self.reasons.insert(action.reason.clone());
                self.over = true;
            }
            Record::Halted { evidence, .. } => self.halted = Some(evidence.wave.index()),
            Record::NodeAccepted { action, generations, .. } => {
                self.reasons.insert(action.reason.clone());
                self.reissue(generations);
            }
            Record::ClaimsFound { claimed, .. } => {
                self.issued = self.issued.max(claimed.get());
            }
            Record::MailboxesFound { incarnation, report, .. } => {
                let generation = report.generation.get();
                self.issued = self.issued.max(generation);
                self.leased.insert(report.job, (generation, incarnation.get()));
            }
            Record::Rebuilt { at, .. } => self.count_from(*at),
            Record::RebuildBegun(_)
            | Record::NodeRecounted { .. }
            | Record::NodeJoined { .. }
            | Record::FactsReported { .. }
            | Record::NodeIsolated { .. }
            | Record::EmergencyBegun { .. }
            | Record::EmergencyEnded { .. }
            | Record::Finished { .. } => {}
        }
    }

    /// Any decision ends an emergency, and so does its time.
    fn note_hurry(&mut self, record: &Record) {
        let ended = match record {
            Record::EmergencyEnded { at, .. }
            | Record::NodeIsolated { at, .. }
            | Record::Halted { at, .. }
            | Record::Rebuilt { at, .. } => Some(*at),
            other => other.asked().map(|(action, _)| action.at),
        };
        if let Some(at) = ended
            && let Some((wave, _)) = self.hurried.take()
        {
            let waves = wave.map_or(0..self.climbs.len(), |wave| wave..wave + 1);
            self.unhurried.extend(waves.map(|wave| (wave, at)));
        }
        if let Record::EmergencyBegun { action, wave, until } = record {
            self.reasons.insert(action.reason.clone());
            self.hurried = Some((wave.map(WaveNumber::index), *until));
        }
    }

    fn has_passed(&mut self, evidence: &Evidence, at: Timestamp) {
        let climb = &mut self.climbs[evidence.wave.index()];
        (climb.passed, climb.passed_at) = (evidence.level.get(), at.millis());
    }

    /// Whoever holds these jobs holds them under new generations.
    fn reissue(&mut self, generations: &[(JobNumber, Generation)]) {
        for (job, generation) in generations {
            self.issued = self.issued.max(generation.get());
            let holder = self.leased.get(job).map_or(0, |(_, holder)| *holder);
            self.leased.insert(*job, (generation.get(), holder));
        }
    }

    /// What waves were allowed and have passed is as this rollout says: it was derived, not
    /// decided.
    pub(crate) fn take_waves(&mut self, rollout: &Rollout) {
        let status = rollout.status(Timestamp::default());
        for (climb, wave) in self.climbs.iter_mut().zip(&status.waves) {
            (climb.allowed, climb.passed) = (wave.allowed.get(), wave.passed.get());
        }
    }

    /// The rollout as its records alone make it.
    pub(crate) fn replay(
        records: &[Arc<[u8]>],
        plan: &Arc<Plan>,
        now: Timestamp,
    ) -> Option<Rollout> {
        let (first, rest) = records.split_first()?;
        let applied = decode_plan_applied(first).ok()?;
        let mut rollout = Rollout::new(Arc::clone(plan), applied.at, now);
        for payload in rest {
            rollout.apply(&decode_record(payload, plan.policy()).ok()?);
        }
        Some(rollout)
    }
}

/// The rollout as the records on the disk alone make it, made further as they come.
#[derive(Default)]
pub(crate) struct Replay {
    rollout: Option<Rollout>,
    records: usize,
}

impl Replay {
    /// Goes on with what is new.
    pub(crate) fn further(
        &mut self,
        records: &[Arc<[u8]>],
        plan: &Arc<Plan>,
    ) -> Option<&Rollout> {
        let new = records.get(self.records..);
        self.records = records.len();
        let (Some(rollout), Some(new)) = (&mut self.rollout, new) else {
            self.rollout = Chronicle::replay(records, plan, Timestamp::default());
            return self.rollout.as_ref();
        };
        for payload in new {
            rollout.apply(&decode_record(payload, plan.policy()).ok()?);
        }
        self.rollout.as_ref()
    }
}

/// The level above.
pub(crate) fn above(level: u8) -> Level {
    Level::new(level + 1).unwrap_or(Level::MAX)
}
