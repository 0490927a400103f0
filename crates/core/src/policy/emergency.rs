//! The emergency profile: how much sooner waves may prove themselves when people answer for it.
//!
//! # Invariants
//!
//! * A gate under the profile soaks no longer and trips no later than without it; it stops for
//!   damaged mail, silence and what is not measured exactly as before.

use super::{Policy, PolicyError};
use crate::gate::{GatePolicy, SignalPolicy};
use crate::inventory::Canon;
use crate::share::Ppm;
use crate::time::Span;

/// What the policy says of emergencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmergencyProfile {
    /// No rung soaks longer.
    pub soak: Span,
    /// The chance to stop a good wave is at least this on every signal; nothing to leave it.
    pub alpha: Option<Ppm>,
}

impl EmergencyProfile {
    /// `gate` under the profile.
    pub(super) fn hurry(self, gate: GatePolicy) -> GatePolicy {
        let mut gate = GatePolicy { soak: gate.soak.min(self.soak), ..gate };
        let Some(alpha) = self.alpha else { return gate };
        let raise = |rates: &mut SignalPolicy| rates.alpha = rates.alpha.max(alpha);
        raise(&mut gate.opening);
        raise(&mut gate.preparation);
        raise(&mut gate.latency.rates);
        gate.external.iter_mut().for_each(|external| raise(&mut external.rates));
        gate
    }

    pub(super) fn write(self, canon: &mut Canon) {
        canon.text("emergency");
        canon.number(self.soak.millis());
        canon.number(self.alpha.map_or(0, Ppm::parts));
    }
}

impl Policy {
    pub(super) fn check_emergency(&self) -> Result<(), PolicyError> {
        let Some(EmergencyProfile { soak, alpha }) = self.emergency else {
            return Ok(());
        };
        let longest = self.ladder.iter().filter_map(|rung| rung.soak).max();
        let usual = longest.unwrap_or(self.gate.soak).max(self.gate.soak);
        if soak == Span::ZERO || soak >= usual {
            return Err(PolicyError::EmergencySoak { soak, usual });
        }
        match alpha {
            Some(alpha) if alpha == Ppm::ZERO || alpha.parts() >= 500_000 => {
                Err(PolicyError::EmergencyAlpha { alpha })
            }
            Some(_) | None => Ok(()),
        }
    }
}
