//! States: what is known of each mailbox, a byte each, for whoever asks.
//!
//! # Invariants
//!
//! * A byte is set by the rollout's owner, after what it follows from is durable.
//! * Reading them waits for nobody and holds nobody up.
//! * Of a mailbox that is not plain more is known than its state, and only the owner knows it.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use tidegate_core::fleet::MailboxNumber;
use tidegate_core::mailbox::MailboxState;
use tidegate_core::planted::{self, Bug};
use tidegate_core::rollout::{Record, Rollout};

/// What is known of all mailboxes of a plan.
#[derive(Debug)]
pub(crate) struct States(Box<[AtomicU8]>);

/// What is known of one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How far it is.
    pub(crate) state: MailboxState,
    /// Whether that is all that is known of it.
    pub(crate) plain: bool,
}

/// States of mailboxes that somebody looks for, by their bytes.
pub(crate) struct Wanted([bool; 256]);

impl Wanted {
    /// All that this is true of.
    pub(crate) fn of(wants: impl Fn(MailboxState) -> bool) -> Self {
        let mut bytes = 0..=u8::MAX;
        Self(std::array::from_fn(|_| {
            bytes.next().is_some_and(|it| wants(unpack(it).state))
        }))
    }
}

/// The bits of the level in a [`MailboxState`]: all 0 in a held one.
const LEVEL: u8 = 0b1_1100;

/// Marks an open mailbox that is not plain: only held ones have a dial tone.
const MARK_OPEN: u8 = 1 << 7;

/// Marks a held mailbox that is not plain: only open ones have health.
const MARK_HELD: u8 = 1 << 5;

impl States {
    /// What `rollout` knows of every mailbox.
    pub(crate) fn of(rollout: &Rollout) -> Self {
        let mailboxes = rollout.plan().inventory().mailboxes();
        let states = Self(mailboxes.map(|_| AtomicU8::new(0)).collect());
        rollout.show_all(|mailbox, state, plain| states.set(mailbox, state, plain));
        states
    }

    /// Looks again at what `records`, applied to `rollout` and durable, are about.
    pub(crate) fn follow(&self, rollout: &Rollout, records: &[Record]) {
        for record in records {
            if planted::is(Bug::StaleAnswers) && matches!(record, Record::Reclosed { .. })
            {
                continue;
            }
            rollout.show_changed(record, |mailbox, state, plain| {
                self.set(mailbox, state, plain);
            });
        }
    }

    /// What is known of `mailbox`; held if it is in no wave.
    pub(crate) fn seen(&self, mailbox: MailboxNumber) -> Seen {
        let byte = self.0.get(mailbox.index());
        unpack(byte.map_or(0, |byte| byte.load(Ordering::Relaxed)))
    }

    /// The first of `numbers` whose state is among those that are wanted.
    pub(crate) fn first(
        &self,
        numbers: Range<u32>,
        Wanted(wanted): &Wanted,
    ) -> Option<MailboxNumber> {
        let index = |number| MailboxNumber::new(number).index();
        let all = self.0.get(index(numbers.start)..index(numbers.end))?;
        let is_wanted = |byte: &AtomicU8| {
            let byte = usize::from(byte.load(Ordering::Relaxed));
            wanted.get(byte).copied().unwrap_or(false)
        };
        let place = all.iter().position(is_wanted)?;
        Some(MailboxNumber::new(numbers.start + u32::try_from(place).ok()?))
    }

    fn set(&self, mailbox: MailboxNumber, state: MailboxState, plain: bool) {
        if let Some(byte) = self.0.get(mailbox.index()) {
            byte.store(pack(Seen { state, plain }), Ordering::Relaxed);
        }
    }
}

fn pack(Seen { state, plain }: Seen) -> u8 {
    match (plain, state.is_open()) {
        (true, _) => state.pack(),
        (false, true) => state.pack() | MARK_OPEN,
        (false, false) => state.pack() | MARK_HELD,
    }
}

fn unpack(byte: u8) -> Seen {
    let mark = if byte & LEVEL == 0 { MARK_HELD } else { MARK_OPEN };
    // Only states were ever packed.
    let state = MailboxState::unpack(byte & !mark).unwrap_or_default();
    Seen { state, plain: byte & mark == 0 && !state.dial_tone }
}

#[cfg(test)]
mod tests {
    use tidegate_core::mailbox::{Level, Preparation};

    use super::*;

    #[test]
    fn every_state_is_read_as_it_was_set_plain_or_not() {
        let states = (0..=u8::MAX).filter_map(|byte| MailboxState::unpack(byte).ok());
        let each = states.flat_map(|state| [true, false].map(|plain| (state, plain)));
        let each = each.filter(|(state, plain)| !(*plain && state.dial_tone));

        let wrong: Vec<_> = each
            .map(|(state, plain)| Seen { state, plain })
            .filter(|seen| unpack(pack(*seen)) != *seen)
            .collect();

        assert_eq!(wrong, []);
    }

    #[test]
    fn the_first_one_that_is_wanted_is_found_and_nothing_behind_the_end() {
        let states = States((0..100).map(|_| AtomicU8::new(0)).collect());
        let open = MailboxState { level: Level::FIRST, ..MailboxState::HELD };
        let prepared = Preparation::Prepared;
        let open = MailboxState { preparation: prepared, ..open };
        states.set(MailboxNumber::new(40), open, true);
        states.set(MailboxNumber::new(70), open, false);
        let wanted = Wanted::of(MailboxState::is_open);

        let found = [0..100, 41..100, 41..70, 71..100, 90..200]
            .map(|numbers| states.first(numbers, &wanted).map(MailboxNumber::get));

        assert_eq!(found, [Some(40), Some(70), None, None, None]);
    }
}
