//! Shown: which raised mailboxes admission may not have shown to anybody yet.
//!
//! # Invariants
//!
//! * What is not known to have been shown is not shown before the coordinator has spoken.

use tidegate_core::fleet::Ordinal;
use tidegate_core::holding::{DialStep, Holding, Record};
use tidegate_core::places::Places;

/// What was raised from held since all doors were last known to be shown.
///
/// The program may have ended before anybody was let in; meanwhile a stop may have become
/// effective. So these doors wait for the coordinator's word like those just raised.
#[derive(Debug, Default)]
pub(crate) struct NotShown(pub(crate) Places);

impl NotShown {
    /// Notes a record about to be applied to `holding`.
    pub(crate) fn note(&mut self, record: &Record, holding: &Holding) {
        if let Record::DialTone { job, step: DialStep::Begun, ordinals, .. } = record {
            self.0.extend(ordinals.iter().map(|it| (*job, *it)));
        }
        let Record::Raised { job, ordinals, .. } = record else { return };
        let held = |ordinal: &&Ordinal| {
            let state = holding.job(*job).and_then(|held| held.state(**ordinal));
            state.is_some_and(|state| !state.is_open())
        };
        self.0.extend(ordinals.iter().filter(held).map(|it| (*job, *it)));
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::fleet::{Generation, JobNumber};
    use tidegate_core::holding::Settled;
    use tidegate_core::mailbox::Level;
    use tidegate_core::rollout::MessageTotals;
    use tidegate_core::time::Timestamp;

    use super::*;

    #[test]
    fn only_what_was_raised_from_held_and_not_shown_waits_after_a_restart() {
        let (job, generation, at) =
            (JobNumber::new(1), Generation::new(1), Timestamp::default());
        let settled = |ordinal| Settled {
            ordinal: Ordinal::new(ordinal),
            stamp: Some([1; 16]),
            totals: MessageTotals::default(),
            findings: Vec::new(),
        };
        let raised = |ordinal: u16, level: Level| {
            let ordinals = vec![Ordinal::new(ordinal)];
            Record::Raised { job, generation, level, ordinals, at }
        };
        let (description, mailboxes) = ([0; 32], 2);
        let mut holding = Holding::default();
        let claimed = Record::JobClaimed { job, generation, description, mailboxes, at };
        let mailboxes = (0..2).map(settled).collect();
        holding.apply(&claimed);
        holding.apply(&Record::Settled { job, generation, mailboxes, at });
        holding.apply(&raised(0, Level::FIRST));

        let mut not_shown = NotShown::default();
        for record in [raised(0, Level::FIRST.above()), raised(1, Level::FIRST)] {
            not_shown.note(&record, &holding);
            holding.apply(&record);
        }

        assert_eq!(not_shown.0, Places::from_iter([(job, Ordinal::new(1))]));
    }
}
