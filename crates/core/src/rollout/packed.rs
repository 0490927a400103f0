//! Packed: the states of a job's mailboxes, a byte each.
//!
//! # Invariants
//!
//! * Only states are packed, so whatever is read back is one.

use crate::fleet::Ordinal;
use crate::mailbox::MailboxState;

/// States in the order of the ordinals.
#[derive(Clone, Debug)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// So many mailboxes, held and waiting.
    pub(super) fn held(mailboxes: usize) -> Self {
        Self(vec![MailboxState::HELD.pack(); mailboxes].into())
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The state at this index.
    pub(super) fn get(&self, index: usize) -> Option<MailboxState> {
        self.0.get(index).copied().map(unpack)
    }

    /// Puts another state in the place of the one that is returned.
    pub(super) fn replace(
        &mut self,
        index: usize,
        state: MailboxState,
    ) -> Option<MailboxState> {
        let byte = self.0.get_mut(index)?;
        Some(unpack(std::mem::replace(byte, state.pack())))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = MailboxState> + '_ {
        self.0.iter().copied().map(unpack)
    }

    /// Those with ordinals below `end`, each with its ordinal, but for stretches of one and the
    /// same state that nobody `looks_for`.
    pub(super) fn but_stretches(
        &self,
        end: u16,
        looks_for: impl Fn(MailboxState) -> bool,
    ) -> impl Iterator<Item = (Ordinal, MailboxState)> {
        let some = self.0.get(..usize::from(end)).unwrap_or(&self.0);
        let stretches = (0..).step_by(STRETCH).zip(some.chunks(STRETCH));
        let some = stretches.filter(move |(_, states)| {
            let first = states.first().copied().unwrap_or_default();
            // Looks at all of them: that takes less time than to stop at the first other one.
            let others = states.iter().fold(0, |others, it| others | (it ^ first));
            others != 0 || looks_for(unpack(first))
        });
        some.flat_map(|(begin, states)| {
            (begin..).map(Ordinal::new).zip(states.iter().copied().map(unpack))
        })
    }

    /// All of them, as they are packed.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// States that are looked at together: most of a job's stand where their neighbours do.
const STRETCH: usize = 64;

/// All of them, each with its ordinal.
pub(super) fn ordinals(
    states: &Packed,
) -> impl Iterator<Item = (Ordinal, MailboxState)> + '_ {
    (0..).map(Ordinal::new).zip(states.iter())
}

fn unpack(byte: u8) -> MailboxState {
    debug_assert!(MailboxState::unpack(byte).is_ok(), "only states are packed");
    STATES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The states of all bytes: whole jobs are looked through, mailbox by mailbox.
static STATES: [MailboxState; 256] = {
    let mut states = [MailboxState::HELD; 256];
    let mut rest: &mut [MailboxState] = &mut states;
    let mut byte: u8 = 0;
    while let Some((state, behind)) = rest.split_first_mut() {
        if let Ok(unpacked) = MailboxState::unpack(byte) {
            *state = unpacked;
        }
        rest = behind;
        byte = byte.wrapping_add(1);
    }
    states
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::{Health, Level, Preparation};

    #[test]
    fn nobody_who_is_looked_for_is_in_a_stretch_that_is_left_out() {
        let open = MailboxState {
            preparation: Preparation::Prepared,
            level: Level::FIRST,
            health: Health::Healthy,
            ..MailboxState::HELD
        };
        let looks_for = |state: MailboxState| !state.is_open();
        for held in [&[][..], &[0], &[63], &[64, 65], &[0, 127, 128, 199]] {
            let mut states = Packed::held(200);
            for at in (0..200).filter(|at| !held.contains(at)) {
                states.replace(at, open);
            }

            let found: Vec<usize> = states
                .but_stretches(u16::MAX, looks_for)
                .filter(|(_, state)| looks_for(*state))
                .map(|(ordinal, _)| ordinal.index())
                .collect();
            let seen = states.but_stretches(200, looks_for).count();
            let first = states.but_stretches(1, looks_for).count();

            assert_eq!(found, held);
            assert!(seen <= held.len() * STRETCH, "{seen} were looked at");
            assert_eq!(first, usize::from(held.first() == Some(&0)));
        }
    }
}
