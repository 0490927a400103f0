//! Grade: how well a mailbox came back, in one word.
//!
//! # Invariants
//!
//! * A grade is a pure function of the findings: the same list always has the same grade.
//! * The worst finding decides; many harmless ones never add up to a bad one.

use std::fmt;

use crate::finding::Finding;

/// How well a mailbox came back; the best first, so that the worst of several is their maximum.
///
/// | grade | means | findings |
/// |---|---|---|
/// | perfect | nothing had to change, or all came back with proof | none |
/// | good | all mail is there; something small begins anew | harmless doubts |
/// | investigate | all mail is there; a decision should be looked at | any other doubt |
/// | poor | some message is not served | set aside or lost |
///
/// Which doubts are harmless stands at [`crate::DoubtKind::grade`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// Nothing to tell.
    #[default]
    Perfect,
    /// Only harmless doubts.
    Good,
    /// Doubts that a person should look at.
    Investigate,
    /// Mail that is not served.
    Poor,
}

impl Grade {
    /// All grades, the best first.
    pub const ALL: [Self; 4] = [Self::Perfect, Self::Good, Self::Investigate, Self::Poor];

    /// The grade of a mailbox with these findings.
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        findings.into_iter().map(Finding::grade).max().unwrap_or_default()
    }

    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Perfect => "perfect",
            Self::Good => "good",
            Self::Investigate => "investigate",
            Self::Poor => "poor",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doubt::DoubtKind;
    use crate::finding::Cause;
    use crate::reason::Reason;

    fn check(causes: &[Cause], expected: Grade) {
        let found = |cause: &Cause| Finding::new((b"", b"1.a"), None, *cause);
        let findings: Vec<Finding> = causes.iter().map(found).collect();
        assert_eq!(Grade::of(&findings), expected, "{causes:?}");
    }

    #[test]
    fn the_worst_finding_decides_the_grade() {
        let doubt = Cause::Doubt;

        check(&[], Grade::Perfect);
        check(&[doubt(DoubtKind::Twice), doubt(DoubtKind::ModseqLost)], Grade::Good);
        let unproved = doubt(DoubtKind::DeletionUnproved);
        check(&[doubt(DoubtKind::Twice), unproved], Grade::Investigate);
        check(&[unproved, Cause::Bad(Reason::Missing)], Grade::Poor);
    }

    #[test]
    fn the_table_of_doubts_is_the_one_that_is_told() {
        let table: Vec<String> = DoubtKind::ALL
            .iter()
            .map(|kind| format!("{}: {}\n", kind.code(), kind.grade()))
            .collect();

        expect_test::expect![[r"
            both-look-good: investigate
            deletion-unproved: investigate
            twice: good
            repaired-from-twin: good
            uidlist-rebuilt: good
            folder-returned: good
            index-damaged: good
            modseq-lost: good
            odd-item: investigate
        "]]
        .assert_eq(&table.concat());
    }
}
