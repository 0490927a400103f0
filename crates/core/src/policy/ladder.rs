//! Ladder: in which steps services come back, how long each is watched, who waits longer.
//!
//! # Invariants
//!
//! * Every rung has its own gate, which differs from the others by its soak alone; in an
//!   emergency by what the profile says.
//! * A delay counts from the moment at which the rung below was passed, per wave.

use std::collections::BTreeMap;

use super::{Cohort, Policy};
use crate::gate::{Evidence, GatePolicy};
use crate::mailbox::Level;
use crate::time::Span;

/// One step of the service ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// What people call it.
    pub name: String,
    /// The services that work from this step on.
    pub services: Vec<String>,
    /// How long an opened mailbox must stay healthy on it; nothing for the gate's soak.
    pub soak: Option<Span>,
}

/// How long an opened mailbox must stay healthy on each level before it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soaks {
    /// From the first level on.
    by_level: Vec<Span>,
    /// On levels that have none of their own.
    otherwise: Span,
}

impl Rung {
    /// Mail is taken in, then read in the browser, then by mail programs; then the rest.
    pub fn default_ladder() -> Vec<Self> {
        let rung = |name: &str, services: &[&str]| Self {
            name: name.to_owned(),
            services: services.iter().map(|service| (*service).to_owned()).collect(),
            soak: None,
        };
        vec![
            rung("receive", &["lmtp"]),
            rung("webmail", &["webmail"]),
            rung("mail", &["imap", "pop3", "submission"]),
            rung("accessories", &["sieve"]),
        ]
    }
}

impl Soaks {
    /// The soaks of `ladder` under a gate that asks for `otherwise`.
    pub fn of(ladder: &[Rung], otherwise: Span) -> Self {
        let by_level = ladder.iter().map(|rung| rung.soak.unwrap_or(otherwise));
        Self { by_level: by_level.collect(), otherwise }
    }

    /// The same soak on every level.
    pub fn everywhere(soak: Span) -> Self {
        Self { by_level: Vec::new(), otherwise: soak }
    }

    /// The soak on `level`.
    pub fn on(&self, level: Level) -> Span {
        let rung = level.index().checked_sub(1);
        rung.and_then(|rung| self.by_level.get(rung)).copied().unwrap_or(self.otherwise)
    }
}

impl Policy {
    /// The rung of the ladder, counted from 1, from which on `service` works.
    pub fn level_of(&self, service: &str) -> Option<u8> {
        let offers = |rung: &Rung| rung.services.iter().any(|name| name == service);
        let place = self.ladder.iter().position(offers)?;
        u8::try_from(place + 1).ok()
    }

    /// The rung of `level`; nothing for held.
    pub fn rung(&self, level: Level) -> Option<&Rung> {
        self.ladder.get(level.index().checked_sub(1)?)
    }

    /// How long an opened mailbox must stay healthy on each level.
    pub fn soaks(&self) -> Soaks {
        Soaks::of(&self.ladder, self.gate.soak)
    }

    /// The gate of `level`: that of the policy with the soak of its rung. Who soaks longer
    /// may be held longer before a person is asked.
    pub fn gate_on(&self, level: Level) -> GatePolicy {
        let Some(soak) = self.rung(level).and_then(|rung| rung.soak) else {
            return self.gate.clone();
        };
        let more = soak.millis().saturating_sub(self.gate.soak.millis());
        let escalate_after = self.gate.escalate_after.millis().saturating_add(more);
        let escalate_after = Span::from_millis(escalate_after);
        GatePolicy { soak, escalate_after, ..self.gate.clone() }
    }

    /// The same, under the emergency profile if it is `hurried` and there is one.
    pub fn gate_for(&self, level: Level, hurried: bool) -> GatePolicy {
        let gate = self.gate_on(level);
        match self.emergency.filter(|_| hurried) {
            Some(profile) => profile.hurry(gate),
            None => gate,
        }
    }

    /// The gate that `evidence` is judged under.
    pub fn gate_of(&self, evidence: &Evidence) -> GatePolicy {
        self.gate_for(evidence.level, evidence.hurried)
    }

    /// The services of the dial tone, for all cohorts that have one.
    pub fn dial_services(&self) -> &[String] {
        let mut cohorts = self.cohorts.iter().map(|cohort| cohort.dial_tone.as_slice());
        cohorts.find(|services| !services.is_empty()).unwrap_or_default()
    }
}

impl Cohort {
    /// How long after the rung before it a wave of this cohort may take `rung`, at the
    /// earliest.
    pub fn delay(&self, rung: &Rung) -> Span {
        self.delays.get(&rung.name).copied().unwrap_or(Span::ZERO)
    }

    /// Whether it comes as the policy says for everybody.
    pub(super) fn is_plain(&self) -> bool {
        self.delays.is_empty() && self.expected.is_none() && self.dial_tone.is_empty()
    }
}

/// Delays by the rung's name.
pub type Delays = BTreeMap<String, Span>;
