//! What is known of one mailbox during a rollout, packed into a byte.
//!
//! ```text
//! held ─▶ preparing ─▶ prepared | quarantined
//! prepared ─▶ open(level 1) ─▶ … ─▶ open(top)        any open ─▶ held by reclose
//! ```
//!
//! # Invariants
//!
//! * A state with a level above [`Level::HELD`] is prepared.
//! * Only a held mailbox has a dial tone.
//! * Health is about the current level and generation; it is [`Health::Unproven`] while held.
//! * Within a generation bad health is sticky: see [`MailboxState::merge`].

use std::fmt;

use crate::planted::{self, Bug};

/// The step of the service ladder a mailbox stands on; 0 is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Level(u8);

impl Level {
    /// Below the first step: nobody gets in.
    pub const HELD: Self = Self(0);
    /// The first step of the ladder.
    pub const FIRST: Self = Self(1);
    /// The highest level a ladder may have: it fits three bits of a [`MailboxState`].
    pub const MAX: Self = Self(7);

    /// The level with this number, if a ladder may have it.
    pub const fn new(number: u8) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The step above, saturating at [`Level::MAX`].
    #[must_use]
    pub fn above(self) -> Self {
        Self((self.0 + 1).min(Self::MAX.0))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {}", self.0)
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far the bytes of a mailbox are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Preparation {
    /// Not yet verified under the current generation.
    #[default]
    Waiting,
    /// Verified and repaired, durably.
    Prepared,
    /// Set aside for a person, with a reason and all its bytes kept.
    Quarantined,
}

/// What an opened mailbox has shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Health {
    /// Not long enough open to tell.
    #[default]
    Unproven,
    /// Mature: open for the soak time, read successfully, no alarm.
    Healthy,
    /// Could not be read as a user would read it.
    Failed,
    /// Showed altered, foreign or lost mail.
    IntegrityFailed,
}

/// Preparation, level, health and dial tone of one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct MailboxState {
    /// How far its bytes are.
    pub preparation: Preparation,
    /// The level it stands on.
    pub level: Level,
    /// What it has shown on this level.
    pub health: Health,
    /// Whether its owner is let into an empty store while it is held.
    pub dial_tone: bool,
}

/// A byte that is no [`MailboxState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAState(
    /// The byte.
    pub u8,
);

impl fmt::Display for NotAState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} is no mailbox state", self.0)
    }
}

impl std::error::Error for NotAState {}

impl MailboxState {
    /// Held, nothing known.
    pub const HELD: Self = Self {
        preparation: Preparation::Waiting,
        level: Level::HELD,
        health: Health::Unproven,
        dial_tone: false,
    };

    /// Whether nothing more happens to its bytes by itself.
    pub fn is_settled(self) -> bool {
        self.preparation != Preparation::Waiting
    }

    /// Whether anybody gets in.
    pub fn is_open(self) -> bool {
        self.level > Level::HELD
    }

    /// What is known after `news` of the same generation, where bad news stay.
    #[must_use]
    pub fn merge(self, news: Self) -> Self {
        let stays = !planted::is(Bug::BadHeals);
        let health = if self.health >= Health::Failed && news.level > Level::HELD && stays
        {
            self.health.max(news.health)
        } else {
            news.health
        };
        Self { health, ..news }
    }

    /// As a byte: bits 0–1 preparation, 2–4 level, 5–6 health, 7 dial tone.
    pub fn pack(self) -> u8 {
        let preparation = match self.preparation {
            Preparation::Waiting => 0,
            Preparation::Prepared => 1,
            Preparation::Quarantined => 2,
        };
        let health = match self.health {
            Health::Unproven => 0,
            Health::Healthy => 1,
            Health::Failed => 2,
            Health::IntegrityFailed => 3,
        };
        let dial_tone = u8::from(self.dial_tone);
        preparation | self.level.get() << 2 | health << 5 | dial_tone << 7
    }

    /// From a byte.
    ///
    /// # Errors
    ///
    /// [`NotAState`] when a field has no such value, or an unprepared mailbox would be open,
    /// or a held one would have health, or an open one a dial tone.
    pub const fn unpack(byte: u8) -> Result<Self, NotAState> {
        let state = Self::of_packed(byte);
        let held = state.level.0 == Level::HELD.0;
        if byte & 0b11 == 0b11
            || held && !matches!(state.health, Health::Unproven)
            || !held
                && (!matches!(state.preparation, Preparation::Prepared)
                    || state.dial_tone)
        {
            return Err(NotAState(byte));
        }
        Ok(state)
    }

    /// The state that this program has packed into a byte.
    pub(crate) const fn of_packed(byte: u8) -> Self {
        let preparation = match byte & 0b11 {
            0 => Preparation::Waiting,
            1 => Preparation::Prepared,
            _ => Preparation::Quarantined,
        };
        let health = match byte >> 5 & 0b11 {
            0 => Health::Unproven,
            1 => Health::Healthy,
            2 => Health::Failed,
            _ => Health::IntegrityFailed,
        };
        let level = Level(byte >> 2 & 0b111);
        Self { preparation, level, health, dial_tone: byte >> 7 == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_its_byte_and_every_other_byte_is_refused() {
        let states = (0..=u8::MAX).filter_map(|byte| MailboxState::unpack(byte).ok());

        let kept = states.map(|state| MailboxState::unpack(state.pack()) == Ok(state));

        assert_eq!(kept.filter(|same| *same).count(), 2 * (2 + 1) + 7 * 4);
    }

    #[test]
    fn bad_news_stay_until_the_mailbox_is_held_again() {
        let open = |health| MailboxState {
            preparation: Preparation::Prepared,
            level: Level::FIRST,
            health,
            dial_tone: false,
        };

        let later = open(Health::Failed).merge(open(Health::Healthy));
        let closed = open(Health::Failed).merge(MailboxState::HELD);

        assert_eq!(later, open(Health::Failed));
        assert_eq!(closed, MailboxState::HELD);
    }
}
