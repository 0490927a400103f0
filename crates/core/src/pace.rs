//! Pace: how fast a node opens mailboxes, so that whoever is let in is also served.
//!
//! Letting all in at once collapses for good: the queue grows beyond what mail programs wait
//! for, and every login that is finished is for a program that has gone and comes again. So
//! mailboxes open in small batches, at a rate made from what the node can do:
//!
//! ```text
//! work of an active mailbox   w = x + k - 1         (its first login costs x warm ones)
//! rate                        A = (rho C - L) / (a w)
//! largest batch               b = (C - L) T / (2 a w)
//! ```
//!
//! and every ten seconds the rate follows what the node's users feel: up by a twentieth while
//! logins are quick (not as often where programs look seldom whether they may come in), down by half when they are slow, and to nothing when they are too late.
//!
//! # Invariants
//!
//! * Never above the hard limit, and never above 1.3 times the formula.
//! * What should be measured and is not never raises the rate, and lowers it slowly, to a
//!   quarter of what it would be unmeasured.
//! * What is not known is assumed as the policy says; what was counted takes its place, with a
//!   margin for how little that was.
//! * After it was halved the rate neither rises nor is halved again for a minute: it does not
//!   flap.
//! * No clock and no chance: batches come at jittered intervals, but the same calls give the
//!   same batches.

mod learn;
mod policy;
mod report;

use crate::share::Ppm;
use crate::time::{Span, Timestamp};
use learn::{Learnt, Strain};

pub use learn::{Crowd, Lesson, Logins, PaceBasis, Retries};
pub use policy::{PacePolicy, PacePolicyError, Population};
pub use report::{PaceReport, PaceWhy};

/// How often the rate follows what is felt.
const STEP: Span = Span::from_secs(10);

/// How long it stays after it was halved: until the clients that were kept waiting are served.
const COOLING: Span = Span::from_secs(60);

/// What the rate is raised by: a twentieth.
const RISE_PART: u64 = 20;

/// How often it is raised while programs look once whether they may come in, as far as the
/// formula goes. Above it, where only feeling leads, once: those whom a rise let in have
/// come before the next, or the rate would run away from what is felt of it.
const RISES_PER_RETRY: u64 = 6;

/// What the rate is lowered by at a step on which nothing is known: a fiftieth, so that a
/// lost source costs a tenth in a minute, and half in six.
const DECAY_PART: u64 = 50;

/// The formula may be wrong by as much, in percent.
const CEILING_PERCENT: u64 = 130;

/// Who fails to be served at once: one in a hundred is more than chance.
const SHED_MAX: Ppm = Ppm::new(10_000);

/// With so much of the time spent waiting for the disk, more load is not added.
const IO_PRESSURE_MAX: Ppm = Ppm::new(800_000);

/// The slowest that a pace which is not stopped becomes: one mailbox in ten seconds, or
/// nothing would ever show that the node has recovered.
const FLOOR: Rate = Rate(100);

/// How much of a second a batch is, unless the formula allows less at once.
const BATCH: Span = Span::from_millis(500);

/// How much an interval between batches may differ from its length, in millionths.
const JITTER: u64 = 250_000;

/// A felt node whose capacity nobody knows starts with this part of the hard limit, and one
/// that should be felt and is not comes down to it.
const UNKNOWN_START_PART: u64 = 4;

/// What is known of something that may be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sense<T> {
    /// Nobody measures it.
    #[default]
    Absent,
    /// It should be measured, and was not.
    Missing,
    /// Its newest value.
    Known(T),
}

/// What a node's users have felt in the last seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Felt {
    /// The 95th percentile of logins.
    pub login_p95: Sense<Span>,
    /// The 95th percentile of what mail programs ask.
    pub command_p95: Sense<Span>,
    /// The share of logins that were turned away or given up.
    pub shed: Sense<Ppm>,
    /// The share of time in which everything waited for the disk.
    pub io_pressure: Sense<Ppm>,
    /// Logins in a second.
    pub logins_per_second: Sense<u32>,
}

/// Thousandths of a mailbox in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Rate(u64);

/// The controller of one node.
#[derive(Clone, Debug)]
pub struct Pace {
    // What it was given.
    policy: PacePolicy,
    /// The hard limit.
    limit: Rate,
    salt: u64,

    // What it remembers.
    learnt: Learnt,
    /// What follows from that.
    basis: PaceBasis,
    rate: Rate,
    why: PaceWhy,
    /// The rate at which it was stopped, while it is.
    stopped_at: Option<Rate>,
    cooling_until: Timestamp,
    risen_at: Option<Timestamp>,
    felt: Felt,
    felt_at: Option<Timestamp>,
    /// Logins of users who are in already, thousandths in a second.
    load: u64,

    // The batches.
    step_at: Option<Timestamp>,
    spent_in_step: u64,
    batch_at: Timestamp,
    batches: u64,
    granted: u64,
}

/// What a step makes of what was felt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Unfelt,
    Blind,
    Quick,
    Even,
    Slow,
    Late,
}

impl Pace {
    /// The pace of a node that may open `open_per_second` mailboxes at the very most. Nodes
    /// with different `salt` do not open their batches at the same instants.
    pub fn new(policy: PacePolicy, open_per_second: u32, salt: u64) -> Self {
        let learnt = Learnt::nothing(policy);
        let mut pace = Self {
            policy,
            basis: learnt.basis(),
            learnt,
            limit: Rate(u64::from(open_per_second) * 1_000),
            salt,
            rate: Rate::default(),
            why: PaceWhy::Unfelt,
            stopped_at: None,
            cooling_until: Timestamp::default(),
            risen_at: None,
            felt: Felt::default(),
            felt_at: None,
            load: 0,
            step_at: None,
            spent_in_step: 0,
            batch_at: Timestamp::default(),
            batches: 0,
            granted: 0,
        };
        pace.rate = pace.formula().unwrap_or(pace.limit).min(pace.limit);
        pace
    }

    /// Sets the hard limit, in thousandths of a mailbox in a second; what is above it comes
    /// down at once.
    pub fn limit_to(&mut self, millis_per_second: u64) {
        if self.limit == Rate(millis_per_second) {
            return;
        }
        self.limit = Rate(millis_per_second);
        self.rate = self.rate.min(self.ceiling());
        if self.mood(None) == Mood::Unfelt {
            self.rate = self.unfelt_rate();
        }
    }

    /// Learns from what was counted since the last lesson.
    pub fn learn(&mut self, lesson: &Lesson, now: Timestamp) {
        let strain = match self.mood(Some(now)) {
            Mood::Unfelt | Mood::Blind => Strain::Unknown,
            Mood::Quick | Mood::Even => Strain::Calm,
            Mood::Slow | Mood::Late => Strain::Strained,
        };
        self.learnt.take(lesson, strain);
        self.follow_basis();
    }

    /// Others come in from now on than those who were counted: the next level opens.
    pub fn begin_anew(&mut self) {
        self.learnt.forget_crowd();
        self.follow_basis();
        if !self.felt.is_unfelt() {
            self.rate = self.rate.min(self.start());
        }
    }

    fn follow_basis(&mut self) {
        self.basis = self.learnt.basis();
        self.rate = self.rate.min(self.ceiling());
    }

    /// What a felt node starts with.
    fn start(&self) -> Rate {
        let unknown = Rate(self.limit.0 / UNKNOWN_START_PART).max(FLOOR);
        self.formula().unwrap_or(unknown).min(self.limit)
    }

    /// Remembers what the node's users feel now.
    pub fn feel(&mut self, felt: &Felt, now: Timestamp) {
        let first = self.felt.is_unfelt() && !felt.is_unfelt();
        self.felt = *felt;
        self.felt_at = Some(now);
        if first && self.formula().is_none() {
            self.rate = self.start();
        }
        // Too late is not waited for until the next step.
        if self.mood(Some(now)) == Mood::Late {
            self.stop();
        }
    }

    /// Grants what has become due by `now`.
    pub fn fill(&mut self, now: Timestamp) {
        let step_at = *self.step_at.get_or_insert(now + STEP);
        if now >= step_at {
            self.step(now);
            self.step_at = Some(now + STEP);
            self.spent_in_step = 0;
        }
        if self.stopped_at.is_some() || self.rate == Rate::default() {
            self.granted = 0;
            return;
        }
        if now >= self.batch_at {
            let batch = self.batch();
            self.granted = batch;
            let interval = self.interval(batch);
            // What nobody asked for in time is not saved up.
            let due = self.batch_at + interval;
            self.batch_at = if due > now { due } else { now + interval };
            self.batches = self.batches.wrapping_add(1);
        }
    }

    /// How many mailboxes may open now.
    pub fn whole(&self) -> usize {
        usize::try_from(self.granted).unwrap_or(usize::MAX)
    }

    /// Takes off what is being opened.
    pub fn spend(&mut self, openings: usize) {
        let openings = u64::try_from(openings).unwrap_or(u64::MAX);
        self.granted = self.granted.saturating_sub(openings);
        self.spent_in_step = self.spent_in_step.saturating_add(openings);
    }

    /// How fast it is, and why.
    pub fn report(&self) -> PaceReport {
        let rate = if self.stopped_at.is_some() { Rate::default() } else { self.rate };
        let millis = match self.felt.login_p95 {
            Sense::Known(p95) => u32::try_from(p95.millis()).unwrap_or(u32::MAX),
            Sense::Absent | Sense::Missing => 0,
        };
        PaceReport {
            millis_per_second: u32::try_from(rate.0).unwrap_or(u32::MAX),
            why: self.why,
            login_p95_millis: millis,
            basis: Some(self.basis),
        }
    }

    /// Follows what was felt since the last step.
    fn step(&mut self, now: Timestamp) {
        self.follow_load();
        let mood = self.mood(Some(now));
        if let Some(before) = self.stopped_at {
            if matches!(mood, Mood::Quick | Mood::Even) {
                self.stopped_at = None;
                self.rate = Rate(before.0 / 2).max(FLOOR);
                self.cooling_until = now + COOLING;
                self.why = PaceWhy::Cooling;
            }
            return;
        }
        let cooling = now < self.cooling_until;
        self.why = match mood {
            Mood::Late => return self.stop(),
            Mood::Unfelt => PaceWhy::Unfelt,
            Mood::Blind => PaceWhy::Blind,
            Mood::Slow | Mood::Quick | Mood::Even if cooling => PaceWhy::Cooling,
            Mood::Slow => PaceWhy::Slowed,
            Mood::Quick if self.is_used() => PaceWhy::Rising,
            Mood::Quick | Mood::Even => PaceWhy::Steady,
        };
        let Rate(rate) = self.rate;
        match self.why {
            PaceWhy::Unfelt => self.rate = self.unfelt_rate(),
            PaceWhy::Slowed => {
                self.rate = Rate(rate / 2);
                self.cooling_until = now + COOLING;
            }
            PaceWhy::Blind => {
                let least = self.unfelt_rate().0 / UNKNOWN_START_PART;
                let lower = rate - rate.div_ceil(DECAY_PART);
                self.rate = Rate(lower.max(least.min(rate)));
            }
            PaceWhy::Rising if self.may_rise(now) => {
                self.rate = Rate(rate + self.rise());
                self.risen_at = Some(now);
            }
            PaceWhy::Rising
            | PaceWhy::Steady
            | PaceWhy::Cooling
            | PaceWhy::AtCeiling
            | PaceWhy::Stopped => {}
        }
        let ceiling = self.ceiling();
        if self.rate >= ceiling && self.why == PaceWhy::Rising {
            self.why = PaceWhy::AtCeiling;
            self.learnt.relieve();
            self.basis = self.learnt.basis();
        }
        self.rate = self.rate.max(FLOOR).min(ceiling);
    }

    fn stop(&mut self) {
        self.stopped_at.get_or_insert(self.rate);
        self.granted = 0;
        self.why = PaceWhy::Stopped;
    }

    /// What the felt values ask for; nothing fresh after a few steps is nothing at all.
    fn mood(&self, now: Option<Timestamp>) -> Mood {
        let Felt { login_p95, command_p95, shed, io_pressure, .. } = self.felt;
        if self.felt.is_unfelt() {
            return Mood::Unfelt;
        }
        let stale = match (now, self.felt_at) {
            (Some(now), Some(at)) => now.since(at).millis() > 3 * STEP.millis(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let patience = self.policy.patience.millis();
        let above = |part: u64| {
            let is = |sense| matches!(sense, Sense::Known(p95) if part * Span::millis(p95) > patience);
            is(login_p95) || is(command_p95)
        };
        let turned_away = |max: Ppm| matches!(shed, Sense::Known(share) if share > max);
        if stale {
            return Mood::Blind;
        }
        if above(1) {
            return Mood::Late;
        }
        if above(2) || turned_away(SHED_MAX) {
            return Mood::Slow;
        }
        if self.felt.misses_something() {
            return Mood::Blind;
        }
        let busy = matches!(io_pressure, Sense::Known(share) if share > IO_PRESSURE_MAX);
        if above(4) || turned_away(Ppm::ZERO) || busy { Mood::Even } else { Mood::Quick }
    }

    /// What it rises by: as much again while those who come were counted, and the formula
    /// gives twice as much; else a twentieth.
    fn rise(&self) -> u64 {
        let Rate(rate) = self.rate;
        let counted = self.basis.counted > 0;
        let far = self.formula().is_some_and(|Rate(formula)| formula >= 2 * rate);
        if counted && far { rate } else { rate.div_ceil(RISE_PART) }
    }

    /// Whether those have come whom the last rise let in.
    fn may_rise(&self, now: Timestamp) -> bool {
        let beyond = self.formula().is_some_and(|formula| self.rate >= formula);
        let rises = if beyond { 1 } else { RISES_PER_RETRY };
        let apart = (self.basis.retry.millis() / rises).max(STEP.millis());
        self.risen_at.is_none_or(|at| now.since(at).millis() >= apart)
    }

    /// Whether enough was opened in this step to say that the node bears the rate.
    fn is_used(&self) -> bool {
        self.spent_in_step * 1_000 * 2 >= self.rate.0 * (STEP.millis() / 1_000)
    }

    /// What the users who are in already log in for: all logins but those of this step's
    /// openings, over a minute.
    fn follow_load(&mut self) {
        let Sense::Known(logins) = self.felt.logins_per_second else { return };
        let Population { active, connections, .. } = self.basis.population;
        let per_mailbox = u64::from(active.parts()) * u64::from(connections);
        let own = self.spent_in_step * per_mailbox / (STEP.millis() / 1_000) / 1_000;
        let others = (u64::from(logins) * 1_000).saturating_sub(own);
        self.load = (self.load * 5 + others) / 6;
    }

    fn ceiling(&self) -> Rate {
        let by_formula = self.formula().map(|rate| Rate(rate.0 * CEILING_PERCENT / 100));
        by_formula.unwrap_or(self.limit).min(self.limit)
    }

    fn unfelt_rate(&self) -> Rate {
        self.formula().unwrap_or(self.limit).min(self.limit)
    }

    /// The rate that the node's capacity allows, if that is known.
    fn formula(&self) -> Option<Rate> {
        let capacity = u64::from(self.basis.capacity?);
        let usable = capacity * u64::from(self.policy.load.parts()) / 1_000;
        let free = usable.saturating_sub(self.load);
        Some(Rate(free * 1_000_000 / self.basis.work_of_a_million.max(1)).max(FLOOR))
    }

    /// How many mailboxes may come in at one instant: so many that half of the patience
    /// suffices to serve them.
    fn batch_max(&self) -> u64 {
        let Some(capacity) = self.basis.capacity else { return u64::MAX };
        let free = (u64::from(capacity) * 1_000).saturating_sub(self.load);
        let in_patience = free * self.policy.patience.millis() / 1_000 / 2;
        (in_patience * 1_000 / self.basis.work_of_a_million.max(1)).max(1)
    }

    fn batch(&self) -> u64 {
        let wanted = self.rate.0 * BATCH.millis() / 1_000_000;
        wanted.max(1).min(self.batch_max())
    }

    /// How long `batch` lasts, give or take a quarter.
    fn interval(&self, batch: u64) -> Span {
        let even = batch * 1_000_000 / self.rate.0.max(1);
        let chance = mix(self.salt ^ self.batches) % (2 * JITTER + 1);
        Span::from_millis((even * (1_000_000 - JITTER + chance) / 1_000_000).max(1))
    }
}

impl Felt {
    /// Whether nobody measures anything that the pace follows.
    fn is_unfelt(&self) -> bool {
        let Self { login_p95, command_p95, shed, io_pressure, .. } = self;
        *login_p95 == Sense::Absent
            && *command_p95 == Sense::Absent
            && *shed == Sense::Absent
            && *io_pressure == Sense::Absent
    }

    fn misses_something(&self) -> bool {
        self.login_p95 == Sense::Missing
            || self.command_p95 == Sense::Missing
            || self.shed == Sense::Missing
            || self.io_pressure == Sense::Missing
    }
}

/// Spreads numbers so that neighbours have nothing in common (splitmix64).
fn mix(number: u64) -> u64 {
    let mut word =
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;
