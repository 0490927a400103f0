//! Answerable: which holds a person may answer for.
//!
//! # Invariants
//!
//! * A person may answer for evidence that is scarce: too few samples, too few that have
//!   matured, a signal that lies between its lines. Never for evidence that is missing or bad:
//!   a worker, a node or a measurement that says nothing, and whatever has tripped.
//! * All reasons must be answerable, not only the first one.
//! * Where no mailbox has shown anything there is nothing to answer for.
//! * How many mailboxes could be prepared is never answered for, nor is an unfinished wave or
//!   one that has not soaked: these need work or time, and no opinion.

use std::fmt;

use super::verdict::{Escalation, HoldReason, Judgement, Signal, Standing, Verdict};
use crate::planted::{self, Bug};

/// Why nobody may answer for going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// The gate does not hold: this is its answer.
    NotHeld(Verdict),
    /// One of the gate's reasons.
    Reason(HoldReason),
    /// A signal has tripped.
    Tripped(Signal),
    /// Opened mailboxes lie on nodes that have been silent for too long.
    Unknown(u32),
    /// No opened mailbox has shown how it is.
    NothingShown,
}

impl fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeld(verdict) => write!(f, "{verdict}"),
            Self::Reason(reason) => write!(f, "{reason}"),
            Self::Tripped(signal) => write!(f, "{signal} tripped"),
            Self::Unknown(mailboxes) => {
                write!(f, "{mailboxes} opened mailboxes are on silent nodes")
            }
            Self::NothingShown => f.write_str("no opened mailbox has shown how it is"),
        }
    }
}

impl Judgement {
    /// Why nobody may answer for going on in spite of it; nothing if it is a hold for want of
    /// samples alone.
    pub fn unanswerable(&self) -> Option<Unanswerable> {
        let Verdict::Hold(reasons) = &self.verdict else {
            return Some(Unanswerable::NotHeld(self.verdict.clone()));
        };
        let forbids = reasons.iter().find(|reason| !reason.is_answerable());
        if let Some(reason) = forbids {
            return Some(Unanswerable::Reason(*reason));
        }
        let tripped = |standing: Standing| standing == Standing::Tripped;
        if let Some(bad) = self.numbers.iter().find(|it| tripped(it.standing)) {
            return Some(Unanswerable::Tripped(bad.signal));
        }
        if planted::is(Bug::AnswerForSilence) {
            return None;
        }
        if self.unknown > 0 {
            return Some(Unanswerable::Unknown(self.unknown));
        }
        let opening = self.numbers.iter().find(|it| it.signal == Signal::Opening);
        let shown = opening.is_some_and(|it| it.mature > it.failed);
        (!shown).then_some(Unanswerable::NothingShown)
    }
}

impl HoldReason {
    /// Whether a person may answer for going on in spite of it.
    pub fn is_answerable(&self) -> bool {
        match self {
            Self::TooFew { signal, .. }
            | Self::Undecided { signal, .. }
            | Self::NeedsPerson(
                Escalation::Undecided { signal, .. }
                | Escalation::Exhausted { signal, .. },
            ) => *signal != Signal::Preparation,
            Self::NodesShort { .. }
            | Self::TierShort { .. }
            | Self::OnlySynthetic { .. }
            | Self::Unproven { .. }
            // It says only for how long the others have held.
            | Self::NeedsPerson(Escalation::Overdue { .. }) => true,
            Self::WorkersSilent { .. } => planted::is(Bug::AnswerForSilence),
            Self::WaveUnfinished { .. }
            | Self::SoakRunning { .. }
            | Self::UnknownTooMany { .. }
            | Self::Slow { .. }
            | Self::Busy { .. }
            | Self::NotMeasured { .. }
            | Self::NoSource { .. }
            | Self::OutOfBounds { .. }
            | Self::NoAnswer { .. }
            | Self::DiskLow { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pulse::PulseSignal;
    use super::super::verdict::SignalNumbers;
    use super::*;
    use crate::fleet::NodeNumber;
    use crate::share::Ppm;
    use crate::time::Span;

    const SCARCE: HoldReason = HoldReason::OnlySynthetic { sessions: 0, need: 1 };
    const SILENT: HoldReason = HoldReason::WorkersSilent { fresh: 2, expected: 3 };

    fn held(reasons: Vec<HoldReason>) -> Judgement {
        let numbers = SignalNumbers {
            signal: Signal::Opening,
            failed: 1,
            opened: 9,
            mature: 9,
            pass_at: None,
            trip_at: 5,
            missing: 40,
            weight_millis: 0,
            standing: Standing::Open,
        };
        Judgement {
            verdict: Verdict::Hold(reasons),
            numbers: vec![numbers],
            unknown: 0,
            immature: 0,
            isolated: Vec::new(),
            unmeasured: Vec::new(),
        }
    }

    #[test]
    fn a_want_of_samples_is_answered_for() {
        let (signal, have, need) = (Signal::Opening, 9, 49);
        let waited = (Span::from_secs(9), Span::from_secs(8));
        let overdue = Escalation::Overdue { waited: waited.0, limit: waited.1 };
        let reasons = vec![
            SCARCE,
            HoldReason::TooFew { signal, have, need },
            HoldReason::NodesShort { mature: 1, need: 2 },
            HoldReason::Unproven { proven: 9, opened: 12 },
            HoldReason::NeedsPerson(overdue),
        ];

        assert_eq!(held(reasons).unanswerable(), None);
    }

    #[test]
    fn one_reason_that_is_no_want_of_samples_forbids_it_whatever_the_others_are() {
        let (signal, node) = (PulseSignal::Canary, NodeNumber::new(1));
        let (have, need) = (9, 49);
        let soak = Span::from_secs(60);
        let share = Ppm::new(1_000);
        let preparation = Signal::Preparation;
        let forbidding = [
            SILENT,
            HoldReason::WaveUnfinished {
                settled: 9,
                opened: 9,
                quarantined: 0,
                planned: 10,
            },
            HoldReason::SoakRunning { elapsed: Span::from_secs(1), soak },
            HoldReason::TooFew { signal: preparation, have, need },
            HoldReason::UnknownTooMany { unknown: 1, opened: 9, limit: share },
            HoldReason::Slow { slow: 9, probes: 9, limit: 1 },
            HoldReason::NotMeasured { signal, node, nodes: 1, silent: 3 },
            HoldReason::NoSource { signal, node, nodes: 1 },
            HoldReason::DiskLow { node, free: share, need: share },
        ];

        for reason in forbidding {
            let judgement = held(vec![SCARCE, reason]);
            assert_eq!(judgement.unanswerable(), Some(Unanswerable::Reason(reason)));
        }
    }

    #[test]
    fn what_tripped_or_is_unknown_or_shows_nothing_forbids_it_though_no_reason_says_so() {
        let mut tripped = held(vec![SCARCE]);
        tripped.numbers[0].standing = Standing::Tripped;
        let unknown = Judgement { unknown: 1, ..held(vec![SCARCE]) };
        let mut nothing = held(vec![SCARCE]);
        nothing.numbers[0].mature = nothing.numbers[0].failed;
        let expands = Judgement { verdict: Verdict::Expand, ..held(Vec::new()) };

        let why = [tripped, unknown, nothing, expands].map(|it| it.unanswerable());
        let opening = Some(Unanswerable::Tripped(Signal::Opening));
        let none = Some(Unanswerable::NothingShown);
        let not_held = Some(Unanswerable::NotHeld(Verdict::Expand));
        assert_eq!(why, [opening, Some(Unanswerable::Unknown(1)), none, not_held]);
    }
}
