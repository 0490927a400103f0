//! Turns: which wave may climb now, and what each of the others waits for.
//!
//! Waves climb one after the other. But a wave that only waits for its schedule does not keep
//! those behind it waiting: they climb as far as it has come. So a cohort may get its mail
//! programs an hour after webmail, while the webmail of the next waves goes on.
//!
//! # Invariants
//!
//! * At most one wave may take a level at any time: the first one that nothing keeps back.
//! * A wave that climbs, that its gate holds, or that was re-closed, lets nobody behind it
//!   take a level; what they were allowed before they keep.
//! * No wave takes a level that a wave before it has not passed, nor one that the calendar does
//!   not let it begin with.

use super::calendar::Begin;
use super::{Rollout, WaveState};
use crate::fleet::WaveNumber;
use crate::mailbox::Level;
use crate::planted::{self, Bug};
use crate::time::Timestamp;

/// What one wave does, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It stands on the top.
    Passed,
    /// It was re-closed.
    HeldBack,
    /// It is allowed a level that it has not passed yet.
    Climbing,
    /// It may take this level now.
    Next(Level),
    /// Its schedule allows this level then.
    Scheduled(Level, Timestamp),
    /// The calendar lets it begin with this level then, or at no time that is known.
    Outside(Level, Option<Timestamp>),
    /// Waves before it come first.
    Waits,
}

impl Turn {
    /// Whether nobody behind it may take a level.
    fn keeps_others(self) -> bool {
        match self {
            Self::HeldBack | Self::Climbing | Self::Next(_) => true,
            Self::Passed | Self::Scheduled(..) | Self::Outside(..) | Self::Waits => false,
        }
    }
}

impl Rollout {
    /// What each wave does, in order.
    pub(super) fn turns(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (WaveNumber, Turn)> + '_ {
        let (mut free, mut ceiling) = (true, self.top());
        (0..).map(WaveNumber::new).zip(&self.waves).map(move |(number, wave)| {
            let turn = self.turn(number, free.then_some(ceiling), now);
            free &= !turn.keeps_others();
            ceiling = ceiling.min(wave.passed);
            (number, turn)
        })
    }

    /// The last wave whose turn has come: what runs ahead is behind it.
    pub(super) fn reached(&self, now: Timestamp) -> Option<WaveNumber> {
        let mut turns = self.turns(now);
        turns.find(|(_, turn)| turn.keeps_others()).map(|(wave, _)| wave)
    }

    /// The turn of a wave before which all have come as far as `ceiling`; nothing if one of
    /// them keeps it.
    fn turn(&self, number: WaveNumber, ceiling: Option<Level>, now: Timestamp) -> Turn {
        let WaveState { allowed, passed, passed_at, held_back, .. } = *self.wave(number);
        if held_back {
            return Turn::HeldBack;
        }
        if allowed > passed {
            return Turn::Climbing;
        }
        if passed == self.top() {
            return Turn::Passed;
        }
        let level = passed.above();
        let due = passed_at + self.plan.delay(number, level);
        if now < due && !planted::is(Bug::NoDelay) {
            Turn::Scheduled(level, due)
        } else if ceiling >= Some(level) || planted::is(Bug::JumpTheQueue) {
            match self.may_begin((number, level), now) {
                Begin::Now => Turn::Next(level),
                Begin::Then(opens) => Turn::Outside(level, opens),
            }
        } else {
            Turn::Waits
        }
    }
}
