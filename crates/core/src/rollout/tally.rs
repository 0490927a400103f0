//! Counts of mailbox states, kept while states change.
//!
//! # Invariants
//!
//! * A cell's counts always add up to the mailboxes it was given.
//! * Counts are only moved from one state to another, never set.

use crate::fleet::{NodeNumber, TierNumber};
use crate::mailbox::{Health, Level, MailboxState, Preparation};
use crate::planted::{self, Bug};

const LEVELS: usize = Level::MAX.get() as usize + 1;
const HEALTHS: usize = 4;

/// How many mailboxes of one wave on one node are in which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    /// The node.
    pub(super) node: NodeNumber,
    waiting: u32,
    quarantined: u32,
    prepared: [[u32; HEALTHS]; LEVELS],
    /// Held with a dial tone, whatever else.
    dial_tones: u32,
    tiers: Vec<TierTally>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TierTally {
    planned: u32,
    quarantined: u32,
    mature: u32,
}

impl Tally {
    /// No mailboxes of `node` yet, of so many tiers.
    pub(super) fn new(node: NodeNumber, tiers: usize) -> Self {
        Self {
            node,
            waiting: 0,
            quarantined: 0,
            prepared: [[0; HEALTHS]; LEVELS],
            dial_tones: 0,
            tiers: vec![TierTally::default(); tiers],
        }
    }

    /// Whether it has mailboxes of the tier at this place.
    pub(super) fn counts_tier(&self, place: usize) -> bool {
        self.tiers.get(place).is_some_and(|tier| tier.planned > 0)
    }

    /// Counts one more mailbox of `tier`, held and waiting.
    pub(super) fn add(&mut self, tier: TierNumber) {
        self.waiting += 1;
        if let Some(tier) = self.tiers.get_mut(tier.index()) {
            tier.planned += 1;
        }
    }

    /// Moves one mailbox of `tier` from state `old` to state `new`.
    pub(super) fn shift(
        &mut self,
        tier: TierNumber,
        old: MailboxState,
        new: MailboxState,
    ) {
        let from = self.cell(old);
        debug_assert!(*from > 0, "no mailbox was counted as {old:?}");
        *from = from.saturating_sub(1);
        *self.cell(new) += 1;
        let toned = |state: MailboxState| u32::from(state.dial_tone && !state.is_open());
        self.dial_tones = (self.dial_tones + toned(new)).saturating_sub(toned(old));
        if let Some(tier) = self.tiers.get_mut(tier.index()) {
            tier.quarantined += u32::from(new.preparation == Preparation::Quarantined);
            tier.quarantined -= u32::from(old.preparation == Preparation::Quarantined);
            tier.mature += u32::from(new.health == Health::Healthy);
            tier.mature -= u32::from(old.health == Health::Healthy);
        }
    }

    /// Of `tier`: mailboxes that can mature, and those that have.
    pub(super) fn maturing(&self, tier: TierNumber) -> (u32, u32) {
        self.tiers
            .get(tier.index())
            .map_or((0, 0), |tier| (tier.planned - tier.quarantined, tier.mature))
    }

    /// All mailboxes.
    pub(super) fn planned(&self) -> u32 {
        self.waiting + self.settled()
    }

    /// Prepared or quarantined.
    pub(super) fn settled(&self) -> u32 {
        self.quarantined + self.prepared.iter().map(all).sum::<u32>()
    }

    /// Set aside for a person.
    pub(super) fn quarantined(&self) -> u32 {
        self.quarantined
    }

    /// On any level above held.
    pub(super) fn open(&self) -> u32 {
        self.prepared.iter().skip(1).map(all).sum()
    }

    /// Held with a dial tone.
    pub(super) fn dial_tones(&self) -> u32 {
        self.dial_tones
    }

    /// On `level` or above, or failed below it: a failed mailbox is not raised further, but
    /// has had its chance and counts on every level.
    pub(super) fn opened(&self, level: Level) -> u32 {
        let above: u32 = self.prepared.iter().skip(level.index()).map(all).sum();
        above + self.bad_below(level)
    }

    /// Mature on `level`, or raised above it.
    pub(super) fn mature(&self, level: Level) -> u32 {
        let above: u32 = self.prepared.iter().skip(level.index() + 1).map(all).sum();
        let bad_above: u32 = self.prepared.iter().skip(level.index() + 1).map(bad).sum();
        let here =
            self.prepared.get(level.index()).map_or(0, |row| count(row, Health::Healthy));
        let unproven = self.prepared.get(level.index());
        if planted::is(Bug::UnknownIsGood) {
            let unproven = unproven.map_or(0, |row| count(row, Health::Unproven));
            return above - bad_above + here + unproven;
        }
        above - bad_above + here
    }

    /// Open mailboxes that could not be read as a user would.
    pub(super) fn failed(&self) -> u32 {
        self.prepared.iter().map(|row| count(row, Health::Failed)).sum()
    }

    /// Open mailboxes that showed altered, foreign or lost mail.
    pub(super) fn integrity_failed(&self) -> u32 {
        self.prepared.iter().map(|row| count(row, Health::IntegrityFailed)).sum()
    }

    fn bad_below(&self, level: Level) -> u32 {
        self.prepared.iter().take(level.index()).map(bad).sum()
    }

    fn cell(&mut self, state: MailboxState) -> &mut u32 {
        match state.preparation {
            Preparation::Waiting => &mut self.waiting,
            Preparation::Quarantined => &mut self.quarantined,
            Preparation::Prepared => self
                .prepared
                .get_mut(state.level.index())
                .and_then(|row| row.get_mut(column(state.health)))
                .expect("levels and healths are bounded by their types"),
        }
    }
}

/// Whether a mailbox in `state` is one of those that [`Tally::opened`] counts.
pub(super) fn is_opened(state: MailboxState, level: Level) -> bool {
    let bad = state.health >= Health::Failed;
    state.preparation == Preparation::Prepared && (state.level >= level || bad)
}

/// Whether a mailbox in `state` is one of those that [`Tally::mature`] counts.
pub(super) fn is_mature(state: MailboxState, level: Level) -> bool {
    let bad = state.health >= Health::Failed;
    let here = state.level == level && state.health == Health::Healthy;
    state.preparation == Preparation::Prepared && (here || state.level > level && !bad)
}

fn column(health: Health) -> usize {
    match health {
        Health::Unproven => 0,
        Health::Healthy => 1,
        Health::Failed => 2,
        Health::IntegrityFailed => 3,
    }
}

fn all(row: &[u32; HEALTHS]) -> u32 {
    let [unproven, healthy, failed, integrity_failed] = *row;
    unproven + healthy + failed + integrity_failed
}

fn count(row: &[u32; HEALTHS], health: Health) -> u32 {
    row.get(column(health)).copied().unwrap_or(0)
}

fn bad(row: &[u32; HEALTHS]) -> u32 {
    count(row, Health::Failed) + count(row, Health::IntegrityFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(level: u8, health: Health) -> MailboxState {
        let level = Level::new(level).expect("a small level");
        let preparation = Preparation::Prepared;
        MailboxState { preparation, level, health, dial_tone: false }
    }

    #[test]
    fn a_failed_mailbox_counts_as_opened_on_every_later_level() {
        let tier = TierNumber::new(0);
        let mut tally = Tally::new(NodeNumber::new(0), 1);
        (0..3).for_each(|_| tally.add(tier));

        tally.shift(tier, MailboxState::HELD, open(1, Health::Failed));
        tally.shift(tier, MailboxState::HELD, open(2, Health::Healthy));
        let second = Level::FIRST.above();

        assert_eq!(tally.planned(), 3);
        assert_eq!(tally.opened(second), 2);
        assert_eq!(tally.mature(second), 1);
        assert_eq!(tally.mature(Level::FIRST), 1);
        assert_eq!(tally.failed(), 1);
        assert_eq!(tally.maturing(tier), (3, 1));
    }
}
