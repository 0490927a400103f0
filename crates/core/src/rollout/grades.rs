//! Grades: how many mailboxes came back how well.
//!
//! # Invariants
//!
//! * A mailbox counts once, when it is settled; what is not settled has no grade yet.
//! * The worst grade decides what is shown of several mailboxes.

use std::fmt;

/// How well a mailbox came back; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing had to change, or everything came back with proof.
    Perfect,
    /// All mail is there; only harmless doubts.
    Good,
    /// All mail is there; a person should look at a decision.
    Investigate,
    /// Some mail is not served, or none of it.
    Poor,
}

impl Grade {
    /// All grades, the best first.
    pub const ALL: [Self; 4] = [Self::Perfect, Self::Good, Self::Investigate, Self::Poor];

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

/// Mailboxes by grade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grades {
    /// [`Grade::Perfect`].
    pub perfect: u32,
    /// [`Grade::Good`].
    pub good: u32,
    /// [`Grade::Investigate`].
    pub investigate: u32,
    /// [`Grade::Poor`].
    pub poor: u32,
}

impl Grades {
    /// One mailbox.
    pub fn one(grade: Grade) -> Self {
        let mut grades = Self::default();
        *match grade {
            Grade::Perfect => &mut grades.perfect,
            Grade::Good => &mut grades.good,
            Grade::Investigate => &mut grades.investigate,
            Grade::Poor => &mut grades.poor,
        } = 1;
        grades
    }

    /// The sum of both, as far as numbers go.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            perfect: self.perfect.saturating_add(other.perfect),
            good: self.good.saturating_add(other.good),
            investigate: self.investigate.saturating_add(other.investigate),
            poor: self.poor.saturating_add(other.poor),
        }
    }

    /// What is left of these without `part` of them.
    #[must_use]
    pub fn minus(self, part: Self) -> Self {
        Self {
            perfect: self.perfect.saturating_sub(part.perfect),
            good: self.good.saturating_sub(part.good),
            investigate: self.investigate.saturating_sub(part.investigate),
            poor: self.poor.saturating_sub(part.poor),
        }
    }

    /// The worst grade among them; nothing if there are none.
    pub fn worst(self) -> Option<Grade> {
        let counts = [
            (self.poor, Grade::Poor),
            (self.investigate, Grade::Investigate),
            (self.good, Grade::Good),
            (self.perfect, Grade::Perfect),
        ];
        counts.into_iter().find(|(count, _)| *count > 0).map(|(_, grade)| grade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_poor_mailbox_makes_the_worst_of_many_poor() {
        let many = (0..99)
            .fold(Grades::default(), |sum, _| sum.plus(Grades::one(Grade::Perfect)));

        assert_eq!(many.worst(), Some(Grade::Perfect));
        assert_eq!(many.plus(Grades::one(Grade::Poor)).worst(), Some(Grade::Poor));
        assert_eq!(Grades::default().worst(), None);
        assert!(Grade::Perfect < Grade::Poor);
    }
}
