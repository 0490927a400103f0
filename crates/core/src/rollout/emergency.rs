//! Emergency: for some hours waves prove themselves in less time, because people answer for it.
//!
//! ```text
//! usual gates ─ begun by two people ─▶ emergency profile ─ time is up, ended, any decision ─▶ usual gates
//! ```
//!
//! # Invariants
//!
//! * It is the policy's own profile, named before the plan was started; nobody makes one up.
//! * It shortens the soak and trips sooner. What shows altered, lost or foreign mail, silence, what is not
//!   measured and everything else stops or holds as before.
//! * It ends by itself within a day, and with any decision of a person and any stop by the gate:
//!   whoever wants it still says so anew, on what is known then.
//! * What was judged under it says so in its evidence, for good.
//! * What counts as proven under it has not proven itself under the usual gate: when it ends,
//!   the soak of the waves that it hurried begins anew.

use super::{Action, Record, Refusal, Rollout};
use crate::fleet::WaveNumber;
use crate::time::{Span, Timestamp};

/// The longest emergency: by then the people who answer for it have been relieved.
pub const EMERGENCY_MAX: Span = Span::from_secs(24 * 60 * 60);

/// The emergency profile in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// Who began it, by whose leave, why and when.
    pub action: Action,
    /// The wave; nothing for all.
    pub wave: Option<WaveNumber>,
    /// Until when, at the latest.
    pub until: Timestamp,
}

impl Emergency {
    fn is_for(&self, wave: WaveNumber) -> bool {
        covers(self.wave, wave)
    }
}

/// What there is and was of emergencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Emergencies {
    present: Option<Emergency>,
    /// For which wave, or for all, the newest one ended when.
    ended: Vec<(Option<WaveNumber>, Timestamp)>,
}

impl Emergencies {
    /// Those of a rollout of which this is the story.
    pub(super) fn in_story(story: &[Record]) -> Self {
        let mut emergencies = Self::default();
        for record in story {
            emergencies.note(record);
        }
        emergencies
    }

    /// Remembers what `record` begins or ends.
    pub(super) fn note(&mut self, record: &Record) {
        if let Record::EmergencyEnded { at, .. } = record {
            self.end(*at);
        } else if let Some(at) = record.decided_at() {
            self.end(at);
        }
        if let Record::EmergencyBegun { action, wave, until } = record {
            let (action, wave, until) = (action.clone(), *wave, *until);
            self.present = Some(Emergency { action, wave, until });
        }
    }

    fn end(&mut self, at: Timestamp) {
        let Some(Emergency { wave, .. }) = self.present.take() else { return };
        self.ended.retain(|(of, _)| *of != wave);
        self.ended.push((wave, at));
    }

    /// When the newest one that hurried `wave` ended.
    fn ended_for(&self, wave: WaveNumber) -> Option<Timestamp> {
        let ended = self.ended.iter().filter(|(of, _)| covers(*of, wave));
        ended.map(|(_, at)| *at).max()
    }
}

/// Whether what is for `of`, or for all, is for `wave`.
fn covers(of: Option<WaveNumber>, wave: WaveNumber) -> bool {
    of.is_none_or(|of| of == wave)
}

impl Rollout {
    /// The emergency profile, while it is in force.
    pub fn emergency(&self) -> Option<&Emergency> {
        self.emergencies.present.as_ref()
    }

    /// Whether `wave` climbs under the emergency profile.
    pub fn is_hurried(&self, wave: WaveNumber) -> bool {
        let state = self.wave(wave);
        let climbs = state.allowed > state.passed;
        climbs && self.emergency().is_some_and(|it| it.is_for(wave))
    }

    /// Under which profile `wave` is judged at `now`, and since when it soaks.
    pub(super) fn watch(&self, wave: WaveNumber, now: Timestamp) -> (bool, Timestamp) {
        let from = self.wave(wave).allowed_at;
        let from = from.max(self.emergencies.ended_for(wave).unwrap_or(from));
        match self.emergency().filter(|_| self.is_hurried(wave)) {
            Some(emergency) if now >= emergency.until => (false, now),
            Some(_) => (true, from),
            None => (false, from),
        }
    }

    /// How long an opened mailbox of `wave` must stay healthy where it stands, if it is not as
    /// long as the policy says.
    pub(super) fn soak_of(&self, wave: WaveNumber) -> Option<Span> {
        let level = self.wave(wave).allowed;
        self.is_hurried(wave).then(|| self.plan.policy().gate_for(level, true).soak)
    }

    pub(super) fn on_begin_emergency(
        &self,
        action: Action,
        (wave, lasts): (Option<WaveNumber>, Span),
        now: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        if wave.is_some_and(|wave| wave.index() >= self.waves.len()) {
            return Err(Refusal::NoSuch { what: "wave".to_owned() });
        }
        if self.plan.policy().emergency.is_none() {
            return Err(Refusal::NoEmergencyProfile);
        }
        if lasts == Span::ZERO || lasts > EMERGENCY_MAX {
            return Err(Refusal::EmergencySpan { lasts, max: EMERGENCY_MAX });
        }
        self.check_thawed()?;
        self.check_running()?;
        if self.emergency().is_some() {
            return Err(Refusal::Already { phase: "under its emergency profile" });
        }
        self.check_no_stop(now)?;
        Ok(vec![Record::EmergencyBegun { action, wave, until: now + lasts }])
    }

    pub(super) fn on_end_emergency(
        &self,
        action: Action,
        at: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        match self.emergency() {
            Some(_) => Ok(vec![Record::EmergencyEnded { by: Some(action), at }]),
            None => Err(Refusal::NoEmergency),
        }
    }

    /// What ends an emergency whose time is up.
    pub(super) fn lapse(&self, at: Timestamp) -> Option<Record> {
        let emergency = self.emergency().filter(|it| at >= it.until)?;
        debug_assert!(emergency.until.since(emergency.action.at) <= EMERGENCY_MAX);
        Some(Record::EmergencyEnded { by: None, at })
    }
}
