//! Pace: how many messages a second are handed back for one node.
//!
//! # Invariants
//!
//! * Never more than is permitted now; nothing is saved up for later beyond a tenth of a
//!   second.
//! * When more than a few come back undelivered the pace halves, down to a sixteenth, and it
//!   doubles again once they do not.

use super::Millis;

/// What may be saved up, milliseconds' worth.
const SAVED_MILLIS_MAX: u64 = 100;

/// The brake when it does not brake. Off by one sixteenth at its hardest: never so slow that
/// it stands still.
const NO_BRAKE: u64 = 16;

/// One message, in what is saved up: a message a second for a millisecond, braked by one of
/// sixteen parts, is 1.
const MESSAGE: u64 = 1_000 * NO_BRAKE;

/// Fewer than these say nothing about a node.
const CAME_BACK_MIN: u32 = 3;

/// More than one in so many coming back slows down.
const CAME_BACK_SHARE: u32 = 5;

/// One node's pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// How many sixteenths of what is permitted are used.
    brake: u64,
    /// What may be handed back at once; [`MESSAGE`] is one message.
    saved: u64,
    at: Millis,
    handed_back: u32,
    came_back: u32,
}

impl Pace {
    /// A pace that begins at `now`.
    pub(super) fn new(now: Millis) -> Self {
        Self { brake: NO_BRAKE, saved: 0, at: now, handed_back: 0, came_back: 0 }
    }

    /// Takes one message's worth, if there is, where `permitted` a second are.
    pub(super) fn spend(&mut self, permitted: u32, now: Millis) -> bool {
        let rate = u64::from(permitted).saturating_mul(self.brake);
        let passed = now.saturating_sub(self.at);
        self.at = now;
        let most = rate.saturating_mul(SAVED_MILLIS_MAX).max(MESSAGE);
        self.saved = self.saved.saturating_add(rate.saturating_mul(passed)).min(most);
        let may = rate > 0 && self.saved >= MESSAGE;
        if may {
            self.saved -= MESSAGE;
        }
        may
    }

    /// A message was handed back.
    pub(super) fn handed_back(&mut self) {
        self.handed_back = self.handed_back.saturating_add(1);
    }

    /// A message that was handed back is there again, deferred.
    pub(super) fn came_back(&mut self) {
        self.came_back = self.came_back.saturating_add(1);
    }

    /// A listing is complete: judges those handed back before it.
    pub(super) fn listed(&mut self) {
        let Self { handed_back, came_back, .. } = *self;
        let bad = came_back >= CAME_BACK_MIN
            && came_back.saturating_mul(CAME_BACK_SHARE) > handed_back;
        let brake = if bad { self.brake / 2 } else { self.brake * 2 };
        self.brake = brake.clamp(1, NO_BRAKE);
        (self.handed_back, self.came_back) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_and_little_is_saved_up() {
        let mut pace = Pace::new(0);
        let spent = |pace: &mut Pace, from: Millis, to: Millis| {
            (from..to).step_by(10).filter(|now| pace.spend(40, *now)).count()
        };

        let first = spent(&mut pace, 0, 10_000);
        let after_a_pause = spent(&mut pace, 60_000, 61_000);

        assert!((399..=401).contains(&first), "{first}");
        assert!((39..=45).contains(&after_a_pause), "{after_a_pause}");
        assert!(!Pace::new(0).spend(0, 1_000_000));
    }

    #[test]
    fn a_permission_of_less_than_ten_a_second_is_used() {
        let mut pace = Pace::new(0);

        let spent = (0..10_000).step_by(50).filter(|now| pace.spend(2, *now)).count();

        assert!((19..=21).contains(&spent), "{spent}");
    }

    #[test]
    fn messages_that_come_back_slow_it_down_and_good_ones_speed_it_up_again() {
        let mut pace = Pace::new(0);
        let mut listed = |came_back: u32| {
            (0..10).for_each(|_| pace.handed_back());
            (0..came_back).for_each(|_| pace.came_back());
            pace.listed();
            pace.brake
        };

        let brakes = [0, 2, 3, 10, 10, 10, 10, 0, 0].map(&mut listed);

        assert_eq!(brakes, [16, 16, 8, 4, 2, 1, 1, 2, 4]);
    }
}
