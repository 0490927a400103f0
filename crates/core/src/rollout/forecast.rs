//! Forecast: when each wave will stand on the top of the ladder, from what has been seen.
//!
//! ```text
//! a step = waits that the policy fixes (schedule, soak) + work (verify what is left, then open it)
//! work   = the slowest node's mailboxes over its speed, as it reports and as was counted
//! ```
//!
//! Work took longer or shorter in the steps that have passed than their nodes' speeds say now: by
//! how much, and how evenly, corrects the middle and widens the band. Of few steps little is
//! believed: a prior counts as much as some of them.
//!
//! # Invariants
//!
//! * A step begins no earlier than a window is open that it fits, as it will when it comes to it.
//! * Nothing is forecast of what a person must act on first, nor before a step has passed and every
//!   node that has work left has shown how fast it is.
//! * A forecast decides nothing.

use super::{NodeState, Phase, Record, Rollout, Tally, WaveState};
use crate::fleet::{NodeNumber, WaveNumber};
use crate::mailbox::Level;
use crate::time::{Span, Timestamp};

/// How long what was counted of a node says how fast it is: nights are not even.
pub(super) const COUNTED_FOR: Span = Span::from_secs(30 * 60);

/// A speed counted over less than this is none.
const COUNTED_MIN: Span = Span::from_secs(60);

/// Steps that the prior counts for.
const PRIOR_STEPS: f64 = 2.0;

/// The standard deviation of the logarithm of what work takes, before anything is seen.
const PRIOR_DEVIATION: f64 = 0.15;

/// The newest steps tell most; older ones were those of another hour.
const STEPS_MAX: usize = 12;

/// Work is never known better than this, however even the last steps were.
const DEVIATION_MIN: f64 = 0.03;

/// A step that took this much longer or shorter waited for something else.
const RATIO_MAX: f64 = 2.0;

/// Half of four fifths of a normal distribution, in standard deviations.
pub(super) const Z_90: f64 = 1.281_6;

/// Beats between the last mailbox and the verdict: it is opened, told of, judged.
const BEATS_PER_STEP: u64 = 3;

/// When a wave will stand on the top of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Earlier in one of ten cases.
    pub p10: Timestamp,
    /// As often earlier as later.
    pub p50: Timestamp,
    /// Later in one of ten cases.
    pub p90: Timestamp,
}

/// Time from now on, seconds: what is fixed, and what depends on how fast work goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    fixed: f64,
    work: f64,
}

impl Ahead {
    pub(super) fn total(self, factor: f64) -> f64 {
        self.fixed + self.work * factor
    }

    fn plus(self, fixed: f64, work: f64) -> Self {
        Self { fixed: self.fixed + fixed, work: self.work + work }
    }
}

/// A wave on its way, in seconds from now on.
#[derive(Clone, Copy, Debug)]
struct Climb {
    passed: Level,
    passed_after: f64,
}

/// How much longer work takes than speeds say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Experience {
    pub(super) factor: f64,
    pub(super) deviation: f64,
}

/// What steps are reckoned from.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) experience: Experience,
    /// See [`Rollout::verified_after`].
    verified_after: Vec<Option<f64>>,
}

impl Known {
    /// What is known of `rollout`; nothing before a step has passed.
    pub(super) fn of(rollout: &Rollout) -> Option<Self> {
        let experience = rollout.experience()?;
        Some(Self { experience, verified_after: rollout.verified_after() })
    }
}

impl Rollout {
    /// When each wave will stand on the top of the ladder; nothing where that cannot be told, and
    /// where it does already.
    pub fn forecasts(&self, now: Timestamp) -> Vec<Option<Forecast>> {
        let mut forecasts = vec![None; self.waves.len()];
        let moves = matches!(self.phase, Phase::Running) && !self.rebuilding;
        let Some(known) = Known::of(self).filter(|_| moves) else { return forecasts };
        let experience = known.experience;
        let mut climbs: Vec<Climb> =
            self.waves.iter().map(|wave| climb(wave, now)).collect();
        let mut ahead = Ahead::default();
        // A step of a wave is waited for once and taken once: nothing here may go on for ever.
        for _ in 0..2 * self.waves.len() * self.top().index() {
            let time = ahead.total(experience.factor);
            let Some((number, begins)) = self.next_climb(&climbs, time, &known, now)
            else {
                break;
            };
            if begins > time {
                ahead = ahead.plus(begins - time, 0.0);
                continue;
            }
            let Some(climb) = climbs.get_mut(number.index()) else { break };
            let level = climb.passed.above();
            let Some(next) = self.step((number, level), ahead, &known, now) else {
                break;
            };
            ahead = next;
            *climb =
                Climb { passed: level, passed_after: ahead.total(experience.factor) };
            if let Some(slot) =
                forecasts.get_mut(number.index()).filter(|_| level == self.top())
            {
                *slot = Some(forecast(ahead, experience, now));
            }
        }
        forecasts
    }

    /// Which wave takes the next step, and when, as turns go; nothing when all are on top, or wait
    /// for a person.
    fn next_climb(
        &self,
        climbs: &[Climb],
        time: f64,
        known: &Known,
        now: Timestamp,
    ) -> Option<(WaveNumber, f64)> {
        let mut ceiling = self.top();
        let mut scheduled: Option<(WaveNumber, f64)> = None;
        for (number, (wave, climb)) in
            (0..).map(WaveNumber::new).zip(self.waves.iter().zip(climbs))
        {
            if wave.held_back {
                break;
            }
            if climb.passed == self.top() {
                continue;
            }
            let level = climb.passed.above();
            let from = |seconds: f64| now + span(seconds);
            if wave.allowed >= level {
                let goes_on = secs(self.goes_on(number, from(time))?.since(now));
                return Some((number, time.max(goes_on)));
            }
            let due = climb.passed_after + secs(self.plan.delay(number, level));
            let may = due.max(time);
            let takes = self.takes((number, level), may, known, now);
            let begins = secs(self.begins(number, from(may), takes)?.since(now));
            let due = if begins > may { begins } else { due };
            if due <= time && level <= ceiling {
                return Some((number, time));
            }
            if due > time && scheduled.is_none_or(|(_, first)| due < first) {
                scheduled = Some((number, due));
            }
            ceiling = ceiling.min(climb.passed);
        }
        scheduled
    }

    /// How long a step takes that begins in so many seconds, nine times in ten; nothing where there
    /// is no window that it must fit.
    fn takes(
        &self,
        step: (WaveNumber, Level),
        from: f64,
        known: &Known,
        now: Timestamp,
    ) -> Option<Span> {
        if !self.has_calendar() {
            return None;
        }
        let before = Ahead { fixed: from, work: 0.0 };
        let Ahead { fixed, work } = self.step(step, before, known, now)?;
        Some(known.late(Ahead { fixed: fixed - from, work }))
    }

    /// What is ahead when a wave has taken one more step.
    pub(super) fn step(
        &self,
        (number, level): (WaveNumber, Level),
        mut ahead: Ahead,
        known: &Known,
        now: Timestamp,
    ) -> Option<Ahead> {
        let wave = self.wave(number);
        let Experience { factor, .. } = known.experience;
        let opening = self.raising(wave, |tally| tally.opened(level))?;
        let hurried = wave.allowed == level && self.is_hurried(number);
        let soak = secs(self.plan.policy().gate_for(level, hurried).soak);
        if wave.allowed >= level && opening == 0.0 {
            // All are there, and soak already.
            let all = self.raising(wave, |_| 0)? * factor;
            let since = secs(now.since(wave.allowed_at));
            return Some(ahead.plus((soak + all - since).max(0.0), self.beats()));
        }
        if level == Level::FIRST {
            // Opening waits for the slowest disk, and how fast that is was counted itself.
            let opens = ahead.total(factor) + opening * factor;
            let verified = (*known.verified_after.get(number.index())?)?;
            let missing = (verified - opens).max(0.0);
            ahead = ahead.plus(0.0, missing / factor);
        }
        Some(ahead.plus(soak, opening + self.beats()))
    }

    /// Seconds in which the slowest node raises what is left of a wave beside what is `there`.
    fn raising(&self, wave: &WaveState, there: impl Fn(&Tally) -> u32) -> Option<f64> {
        let mut slowest: f64 = 0.0;
        for tally in wave.tallies.iter().filter(|tally| !self.is_out(tally.node)) {
            let all = tally.planned() - tally.quarantined();
            let left = all.saturating_sub(there(tally));
            slowest = slowest.max(self.time(tally.node, left)?);
        }
        Some(slowest)
    }

    /// Seconds in which a node raises so many.
    pub(super) fn time(&self, node: NodeNumber, mailboxes: u32) -> Option<f64> {
        if mailboxes == 0 {
            return Some(0.0);
        }
        let limits = self.plan.policy().limits;
        let pace = self.heard.get(node.index()).and_then(|heard| heard.vitals.pace);
        let pace = pace.map_or(f64::from(limits.open_per_second), |pace| {
            f64::from(pace.millis_per_second) / 1_000.0
        });
        let permits = f64::from(limits.permit_window) / secs(limits.beat).max(0.001);
        let speed = pace.min(permits);
        (speed > 0.0).then(|| f64::from(mailboxes) / speed)
    }

    /// Seconds in which all nodes have verified each wave, and what comes before it; nothing where
    /// a node with work left has not shown how fast it is.
    fn verified_after(&self) -> Vec<Option<f64>> {
        let mut left = vec![0_u32; self.nodes.len()];
        let waves = self.waves.iter().map(|wave| {
            let mut slowest: f64 = 0.0;
            for tally in wave.tallies.iter().filter(|tally| !self.is_out(tally.node)) {
                let left = left.get_mut(tally.node.index())?;
                *left += tally.planned() - tally.settled();
                if *left > 0 {
                    let speed = self.settles_per_second(tally.node)?;
                    slowest = slowest.max(f64::from(*left) / speed);
                }
            }
            Some(slowest)
        });
        waves.collect()
    }

    /// How many mailboxes a node has verified in a second lately.
    fn settles_per_second(&self, node: NodeNumber) -> Option<f64> {
        let ((begin, before), (end, newest)) = self.settled.get(node.index())?.ends()?;
        let (span, settled) = (end.since(begin), newest.saturating_sub(before));
        (span >= COUNTED_MIN && settled > 0).then(|| f64::from(settled) / secs(span))
    }

    /// Counts what `node` has verified, for [`Rollout::forecasts`].
    pub(super) fn count_settled(&mut self, node: NodeNumber, now: Timestamp) {
        let tallies = self.waves.iter().flat_map(|wave| &wave.tallies);
        let of_node = tallies.filter(|tally| tally.node == node);
        let settled: u32 = of_node.map(Tally::settled).sum();
        if let Some(window) = self.settled.get_mut(node.index()) {
            window.note(settled, now, COUNTED_FOR);
        }
    }

    /// What the steps that have passed say of work; nothing before one has.
    fn experience(&self) -> Option<Experience> {
        let mut logarithms = Vec::new();
        let mut passed = false;
        let mut began: Option<(WaveNumber, Level, Timestamp)> = None;
        for record in &self.history {
            if let Record::LevelAllowed { wave, level, at } = record {
                began = Some((*wave, *level, *at));
            } else if record.is_stop() {
                began = None;
            }
            // How long people took to answer for a wave says nothing of work.
            let Record::Expanded { evidence, at } = record else { continue };
            passed = true;
            let (wave, level) = (evidence.wave, evidence.level);
            let begun = began.filter(|it| (it.0, it.1) == (wave, level));
            // On the first rung it may have waited for what was not verified yet.
            let tells = level > Level::FIRST || self.top() == Level::FIRST;
            let Some((_, _, from)) = begun.filter(|_| tells) else { continue };
            let soak = secs(self.plan.policy().gate_of(evidence).soak);
            let expected = self.raising(self.wave(wave), |_| 0)? + self.beats();
            let took = (secs(at.since(from)) - soak).max(0.5 * self.beats());
            let ratio = (took / expected).clamp(1.0 / RATIO_MAX, RATIO_MAX);
            logarithms.push(ratio.ln());
        }
        let newest = logarithms.len().saturating_sub(STEPS_MAX);
        let logarithms = logarithms.get(newest..).filter(|_| passed)?;
        #[expect(clippy::cast_precision_loss, reason = "a dozen")]
        let steps = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / (steps + PRIOR_STEPS);
        let squares = logarithms.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
        let prior = PRIOR_STEPS * PRIOR_DEVIATION.powi(2);
        let variance = (squares + prior) / (steps + PRIOR_STEPS);
        let deviation = variance.sqrt().max(DEVIATION_MIN);
        Some(Experience { factor: mean.exp(), deviation })
    }

    fn is_out(&self, node: NodeNumber) -> bool {
        self.nodes.get(node.index()).is_none_or(NodeState::is_out)
    }

    /// Seconds between the last mailbox of a step and its verdict.
    fn beats(&self) -> f64 {
        let beat = self.plan.policy().limits.beat;
        secs(Span::from_millis(beat.millis() * BEATS_PER_STEP))
    }
}

fn climb(wave: &WaveState, now: Timestamp) -> Climb {
    let passed_after = -secs(now.since(wave.passed_at));
    Climb { passed: wave.passed, passed_after }
}

fn forecast(ahead: Ahead, experience: Experience, now: Timestamp) -> Forecast {
    let Experience { factor, deviation } = experience;
    let at = |z: f64| now + span(ahead.total(factor * (z * deviation).exp()));
    Forecast { p10: at(-Z_90), p50: at(0.0), p90: at(Z_90) }
}

/// So many seconds.
pub(super) fn span(seconds: f64) -> Span {
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    #[expect(clippy::cast_sign_loss, reason = "no work takes less than no time")]
    let millis = (seconds.max(0.0) * 1_000.0) as u64;
    Span::from_millis(millis)
}

fn secs(span: Span) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "nights are short")]
    let millis = span.millis() as f64;
    millis / 1_000.0
}
