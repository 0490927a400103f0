//! Rules: what the protocol keeps to, each of which can be taken away.
//!
//! # Invariants
//!
//! * A model with all rules is the protocol as it is built, but for D1 (see `main`).

use std::fmt;

/// One rule of the protocol. Where it is kept in the code: see the table in `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// R1: claim, switch, open and close compare with the claim at the store.
    Fence,
    /// R2: the store is claimed before the first read.
    ClaimFirst,
    /// R3: the coordinator's records are on disk before anything of them leaves.
    RecordFirst,
    /// R4: one coordinator at a time has the journal.
    OneCoordinator,
    /// R5: the gate judges the state that its record is made part of.
    FreshVerdict,
    /// R6: reports of another generation or another run change nothing.
    CurrentReports,
    /// R7: a job is claimed only at a newer generation.
    NewerClaims,
    /// R8: re-closing takes a new generation.
    RecloseIssues,
    /// R9: a worker opens only what it has itself verified under the generation.
    OwnVerified,
    /// R10: the stamp is compared when opening.
    StampLooked,
    /// R11: data are flushed before "verified" is recorded.
    FlushFirst,
    /// R12: what is open is not prepared.
    OpenUntouched,
    /// R13: health counts for one generation only.
    HealthAnew,
    /// R14: bad news stick.
    BadSticks,
    /// S1: a report that comes after a newer one is not heard.
    ReportsInOrder,
    /// S2: the place of the newest report that told something is recorded with it.
    OrderRecorded,
    /// V1: older orders than those obeyed are ignored.
    OrdersInOrder,
    /// V2: an answer is heard by the call it belongs to alone.
    AnswersToCalls,
    /// C1: what was re-closed is ordered closed until it is known to be.
    ReclosedUntilKnown,
    /// D1: a worker that starts shows nothing open that its store has a newer claim of.
    StaleDoorsShut,
    /// E1: a stop is called effective when it was acknowledged.
    StopAcknowledged,
    /// L1: orders are levels and sent again with every answer.
    Levels,
}

impl Rule {
    /// All of them.
    pub(crate) const ALL: [Self; 22] = [
        Self::Fence,
        Self::ClaimFirst,
        Self::RecordFirst,
        Self::OneCoordinator,
        Self::FreshVerdict,
        Self::CurrentReports,
        Self::NewerClaims,
        Self::RecloseIssues,
        Self::OwnVerified,
        Self::StampLooked,
        Self::FlushFirst,
        Self::OpenUntouched,
        Self::HealthAnew,
        Self::BadSticks,
        Self::ReportsInOrder,
        Self::OrderRecorded,
        Self::OrdersInOrder,
        Self::AnswersToCalls,
        Self::ReclosedUntilKnown,
        Self::StaleDoorsShut,
        Self::StopAcknowledged,
        Self::Levels,
    ];

    /// As the books call it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Fence => "R1",
            Self::ClaimFirst => "R2",
            Self::RecordFirst => "R3",
            Self::OneCoordinator => "R4",
            Self::FreshVerdict => "R5",
            Self::CurrentReports => "R6",
            Self::NewerClaims => "R7",
            Self::RecloseIssues => "R8",
            Self::OwnVerified => "R9",
            Self::StampLooked => "R10",
            Self::FlushFirst => "R11",
            Self::OpenUntouched => "R12",
            Self::HealthAnew => "R13",
            Self::BadSticks => "R14",
            Self::ReportsInOrder => "S1",
            Self::OrderRecorded => "S2",
            Self::OrdersInOrder => "V1",
            Self::AnswersToCalls => "V2",
            Self::ReclosedUntilKnown => "C1",
            Self::StaleDoorsShut => "D1",
            Self::StopAcknowledged => "E1",
            Self::Levels => "L1",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self:?}", self.code())
    }
}

/// Which rules are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    kept: u32,
}

impl Rules {
    /// All but these.
    pub(crate) fn without(rules: &[Rule]) -> Self {
        let gone = rules.iter().fold(0, |gone, rule| gone | 1 << *rule as u32);
        Self { kept: !gone }
    }

    /// Whether `rule` is kept.
    pub(crate) fn keep(self, rule: Rule) -> bool {
        self.kept & 1 << rule as u32 != 0
    }
}
