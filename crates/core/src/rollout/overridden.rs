//! Overridden: a wave goes on although its gate holds it, because people answer for it.
//!
//! # Invariants
//!
//! * Only a hold for want of samples is overridden, at the instant at which it is asked for, and
//!   what was known then is on record with whoever answers for it. Read back, it must still be
//!   such a hold.
//! * Nothing is overridden while the rollout does not run, nor while any wave that is open
//!   would be halted, or one of its nodes isolated.
//! * It lets one wave pass the level that it stands on, and nothing else: schedules, windows and
//!   the gates of what follows are as before, and a re-closed wave must be judged anew.

use super::{Action, Phase, Record, Refusal, Rollout};
use crate::fleet::WaveNumber;
use crate::gate::{Evidence, Unanswerable, Verdict};
use crate::mailbox::Level;
use crate::time::Timestamp;

impl Rollout {
    /// Whether `wave` climbs, and its gate holds it now for want of samples alone, so that
    /// people may answer for going on.
    pub fn is_overridable(&self, wave: WaveNumber, now: Timestamp) -> bool {
        wave.index() < self.waves.len() && self.overridable(wave, now).is_ok()
    }

    pub(super) fn on_expand(
        &self,
        action: Action,
        wave: WaveNumber,
        now: Timestamp,
    ) -> Result<Vec<Record>, Refusal> {
        if wave.index() >= self.waves.len() {
            return Err(Refusal::NoSuch { what: "wave".to_owned() });
        }
        let evidence = self.overridable(wave, now)?;
        Ok(vec![Record::Overridden { action, evidence }])
    }

    /// What is known of `wave`, if its hold may be overridden.
    fn overridable(&self, wave: WaveNumber, now: Timestamp) -> Result<Evidence, Refusal> {
        self.check_thawed()?;
        self.check_running()?;
        let state = self.wave(wave);
        if state.held_back || state.allowed <= state.passed {
            return Err(Refusal::NotHeld { wave: self.wave_name(wave).to_owned() });
        }
        self.check_no_stop(now)?;
        let evidence = self.evidence(wave, now);
        let name = self.wave_name(wave).to_owned();
        match self.plan.judge(&evidence, now).unanswerable() {
            None => Ok(evidence),
            Some(Unanswerable::NotHeld(_)) => Err(Refusal::NotHeld { wave: name }),
            Some(why) => Err(Refusal::HoldStands { wave: name, reason: why.to_string() }),
        }
    }

    /// Refuses to hurry on what stands still.
    pub(super) fn check_running(&self) -> Result<(), Refusal> {
        let phase = match &self.phase {
            Phase::Running => return Ok(()),
            Phase::Paused(_) => "paused",
            Phase::Halted { .. } => "halted",
            Phase::Aborted(_) => "aborted",
            Phase::Finished { .. } => "finished",
        };
        Err(Refusal::NotRunning { phase })
    }

    /// Refuses while a verdict that stops something only waits to be recorded.
    pub(super) fn check_no_stop(&self, now: Timestamp) -> Result<(), Refusal> {
        let waves = (0..).map(WaveNumber::new).take(self.waves.len());
        for wave in waves.filter(|wave| self.wave(*wave).allowed > Level::HELD) {
            let verdict = self.plan.judge(&self.evidence(wave, now), now).verdict;
            if matches!(verdict, Verdict::Halt(_) | Verdict::Isolate { .. }) {
                let wave = self.wave_name(wave).to_owned();
                return Err(Refusal::HoldStands { wave, reason: verdict.to_string() });
            }
        }
        Ok(())
    }
}
