//! Policy: what the operator wants.
//!
//! # Invariants
//!
//! * A policy that passes [`Policy::check`] can be planned for any inventory, or the plan
//!   says with numbers what cannot be.
//! * The same policy has the same digest on every machine.

pub mod calendar;
mod check;
mod emergency;
mod ladder;
mod notice;

use std::collections::BTreeMap;
use std::fmt;

use crate::fleet::JOB_MAILBOXES_MAX;
use crate::gate::GatePolicy;
use crate::inventory::{Canon, Digest};
use crate::pace::PacePolicy;
use crate::share::Ppm;
use crate::time::Span;

pub use check::{Named, PolicyError, ScheduleProblem, SelectorProblem};
pub use emergency::EmergencyProfile;
pub use ladder::{Delays, Rung, Soaks};
pub use notice::{Language, Notice, Window};

/// Cohorts, wave sizes, service ladder, gate and limits of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What people call it.
    pub name: String,
    /// The service ladder, lowest rung first; rung 1 is level 1.
    pub ladder: Vec<Rung>,
    /// Who comes when. The first cohort that selects a mailbox has it.
    pub cohorts: Vec<Cohort>,
    /// Who does not come at all, before any cohort is asked.
    pub exclude: Vec<Exclude>,
    /// What must be shown before the next wave opens.
    pub gate: GatePolicy,
    /// How fast and how far ahead nodes work.
    pub limits: Limits,
    /// How held users are told to wait.
    pub notice: Notice,
    /// When anything may begin to open; at any time if it is empty.
    pub calendar: Vec<calendar::Rule>,
    /// How waves may be hurried when people answer for it; they may not if it is absent.
    pub emergency: Option<EmergencyProfile>,
    /// Changes who falls into which hash slot.
    pub hash_seed: String,
}

/// A slice of the user base, and the waves it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    /// What people call it.
    pub name: String,
    /// Who is in it.
    pub select: Selector,
    /// The size of its first wave.
    pub canary: u32,
    /// How much larger each wave is than the one before.
    pub growth: Growth,
    /// The largest wave.
    pub wave_max: u32,
    /// How long its waves wait before a rung, counted from when they passed the one below.
    pub delays: Delays,
    /// When its mailboxes are expected back.
    pub expected: Option<Window>,
    /// Services that work on an empty store from the start, while the mailbox is held;
    /// empty for none.
    pub dial_tone: Vec<String>,
}

/// Mailboxes that stay held, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclude {
    /// The reason, for people.
    pub reason: String,
    /// Who.
    pub select: Selector,
}

/// Who is meant: everybody who fits all that is given; of a list, any one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selector {
    /// Tiers, by name.
    pub tiers: Vec<String>,
    /// Domains of the address, in lower case.
    pub domains: Vec<String>,
    /// Nodes, by name.
    pub nodes: Vec<String>,
    /// Values of labels, by key.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Hash slots.
    pub share: Option<Share>,
    /// Everybody left; stands alone, and last.
    pub rest: bool,
}

/// The hash slots from `from` up to, without, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The first slot.
    pub from: Ppm,
    /// The slot after the last.
    pub to: Ppm,
}

/// How much larger the next wave is, in hundredths: `Growth::new(300)` is threefold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Growth(u32);

/// How fast and how far ahead nodes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many mailboxes a node may have prepared or in preparation, and not yet open.
    pub prepare_ahead: u32,
    /// How many threads of a node prepare.
    pub prepare_threads: u16,
    /// How many mailboxes a node opens in a second.
    pub open_per_second: u32,
    /// How many mailboxes a worker may open on one permission.
    pub permit_window: u16,
    /// How long a worker may go on without hearing from the coordinator.
    pub lease: Span,
    /// How often a worker reports.
    pub beat: Span,
    /// The largest job.
    pub job_mailboxes: u16,
    /// How a node's pace of opening follows what its users feel.
    pub pace: PacePolicy,
    /// How many mailboxes all nodes together open in a second, if they share something.
    pub open_per_second_total: Option<u32>,
}

impl Policy {
    /// Its name by content.
    pub fn digest(&self) -> Digest {
        let Self { name, ladder, cohorts, exclude, gate, limits, hash_seed, .. } = self;
        let calendar = &self.calendar;
        let mut canon = Canon::of("tidegate policy 1");
        canon.text(name);
        canon.length(ladder.len());
        for Rung { name, services, .. } in ladder {
            canon.text(name);
            canon.texts(services);
        }
        canon.length(cohorts.len());
        for Cohort { name, select, canary, growth, wave_max, .. } in cohorts {
            canon.text(name);
            select.write(&mut canon);
            canon.number(*canary);
            canon.number(growth.0);
            canon.number(*wave_max);
        }
        canon.length(exclude.len());
        for Exclude { reason, select } in exclude {
            canon.text(reason);
            select.write(&mut canon);
        }
        write_gate(gate, &mut canon);
        limits.write(&mut canon);
        canon.text(hash_seed);
        self.write_schedule(&mut canon);
        if !calendar.is_empty() {
            canon.text("calendar");
            canon.length(calendar.len());
            for rule in calendar {
                rule.write(&mut canon);
            }
        }
        if let Some(profile) = self.emergency {
            profile.write(&mut canon);
        }
        canon.finish()
    }

    /// What came later to policies; one that says nothing of it keeps its older name.
    fn write_schedule(&self, canon: &mut Canon) {
        let Self { ladder, cohorts, notice, .. } = self;
        let plain = ladder.iter().all(|rung| rung.soak.is_none())
            && cohorts.iter().all(Cohort::is_plain)
            && *notice == Notice::default();
        if plain {
            return;
        }
        canon.text("schedule");
        for Rung { soak, .. } in ladder {
            canon.number(soak.is_some());
            canon.number(soak.unwrap_or(Span::ZERO).millis());
        }
        for Cohort { delays, expected, dial_tone, .. } in cohorts {
            canon.length(delays.len());
            for (rung, delay) in delays {
                canon.text(rung);
                canon.number(delay.millis());
            }
            canon.number(expected.is_some());
            if let Some(Window { from, to }) = expected {
                canon.number(from.millis());
                canon.number(to.millis());
            }
            canon.texts(dial_tone);
        }
        let Notice { language, language_label, zone } = notice;
        canon.text(language.code());
        canon.text(language_label);
        canon.text(zone);
    }
}

impl Selector {
    /// Everybody left.
    pub fn everybody() -> Self {
        Self { rest: true, ..Self::default() }
    }

    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn write(&self, canon: &mut Canon) {
        let Self { tiers, domains, nodes, labels, share, rest } = self;
        canon.texts(tiers);
        canon.texts(domains);
        canon.texts(nodes);
        canon.length(labels.len());
        for (key, values) in labels {
            canon.text(key);
            canon.texts(values);
        }
        canon.number(share.is_some());
        if let Some(Share { from, to }) = share {
            canon.number(from.parts());
            canon.number(to.parts());
        }
        canon.number(*rest);
    }
}

impl fmt::Display for Selector {
    /// As a person would say it: `tier free, share 0 % to 15 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rest {
            return f.write_str("everybody left");
        }
        let mut parts = Vec::new();
        let lists =
            [("tier", &self.tiers), ("domain", &self.domains), ("node", &self.nodes)];
        for (what, names) in lists {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(" or ")));
            }
        }
        for (key, values) in &self.labels {
            parts.push(format!("{key} {}", values.join(" or ")));
        }
        if let Some(Share { from, to }) = self.share {
            parts.push(format!("share {from} to {to}"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl Growth {
    /// A growth of this many hundredths.
    pub const fn new(hundredths: u32) -> Self {
        Self(hundredths)
    }

    /// The hundredths.
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// The size after `size`: larger by the growth, rounded down, and never less.
    #[must_use]
    pub fn after(self, size: u32) -> u32 {
        let grown = u64::from(size) * u64::from(self.0) / 100;
        u32::try_from(grown).unwrap_or(u32::MAX).max(size)
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "x{whole}"),
            (whole, rest) if rest % 10 == 0 => write!(f, "x{whole}.{}", rest / 10),
            (whole, rest) => write!(f, "x{whole}.{rest:02}"),
        }
    }
}

impl Limits {
    fn write(&self, canon: &mut Canon) {
        canon.number(self.prepare_ahead);
        canon.number(self.prepare_threads);
        canon.number(self.open_per_second);
        canon.number(self.permit_window);
        canon.number(self.lease.millis());
        canon.number(self.beat.millis());
        canon.number(self.job_mailboxes);
        self.pace.write(canon);
        if let Some(total) = self.open_per_second_total {
            canon.text("open_per_second_total");
            canon.number(total);
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Hours of opening at the default pace, so that opening never waits for disks.
            prepare_ahead: 500_000,
            // A few disks' worth; more only makes them seek.
            prepare_threads: 4,
            // What a node's caches take in while clients synchronise again.
            open_per_second: 20,
            // What may still open after a stop was asked for.
            permit_window: 64,
            // Longer than a coordinator needs to restart.
            lease: Span::from_secs(30),
            // A stop takes a beat to reach every node.
            beat: Span::from_secs(2),
            job_mailboxes: JOB_MAILBOXES_MAX,
            pace: PacePolicy::DEFAULT,
            open_per_second_total: None,
        }
    }
}

fn write_gate(gate: &GatePolicy, canon: &mut Canon) {
    canon.bytes(gate.digest().bytes());
}
