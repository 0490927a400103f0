//! Found: what was found of one mailbox, in as little room as most of them need.
//!
//! Of nine in ten there is nothing to tell but how many messages were right.
//!
//! # Invariants
//!
//! * What is put in comes out again, whichever way it is kept.

use crate::rollout::{Finding, Grade, Grades, MessageTotals};

/// Messages of one mailbox, and what a person should know of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Found {
    /// It was not verified yet.
    #[default]
    Nothing,
    /// All its messages are right as they were.
    Perfect {
        /// How many.
        messages: u32,
        /// Bytes read while verifying.
        bytes_read: u64,
    },
    /// Anything else.
    More(Box<More>),
}

/// All that can be told of a mailbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct More {
    totals: MessageTotals,
    findings: Vec<Finding>,
}

impl Found {
    /// These.
    pub fn of(totals: MessageTotals, findings: Vec<Finding>) -> Self {
        let more = |findings| Self::More(Box::new(More { totals, findings }));
        let Ok(messages) = u32::try_from(totals.intact) else { return more(findings) };
        let perfect = perfect(messages, totals.bytes_read);
        if !findings.is_empty() {
            more(findings)
        } else if totals == perfect {
            Self::Perfect { messages, bytes_read: totals.bytes_read }
        } else if totals == MessageTotals::default() {
            Self::Nothing
        } else {
            more(findings)
        }
    }

    /// Its messages.
    pub fn totals(&self) -> MessageTotals {
        match self {
            Self::Nothing => MessageTotals::default(),
            Self::Perfect { messages, bytes_read } => perfect(*messages, *bytes_read),
            Self::More(more) => more.totals,
        }
    }

    /// What a person should know of it.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Nothing | Self::Perfect { .. } => &[],
            Self::More(more) => &more.findings,
        }
    }

    /// Adds what a person should know of it.
    pub fn note(&mut self, findings: impl IntoIterator<Item = Finding>) {
        let totals = self.totals();
        self.change(totals, findings);
    }

    /// So many newer messages have come to it, and this a person should know.
    pub fn import(&mut self, messages: u64, findings: &[Finding]) {
        let mut totals = self.totals();
        totals.newer = totals.newer.saturating_add(messages);
        self.change(totals, findings.iter().cloned());
    }

    fn change(&mut self, totals: MessageTotals, more: impl IntoIterator<Item = Finding>) {
        let mut findings = match std::mem::take(self) {
            Self::Nothing | Self::Perfect { .. } => Vec::new(),
            Self::More(more) => more.findings,
        };
        findings.extend(more);
        *self = Self::of(totals, findings);
    }
}

fn perfect(messages: u32, bytes_read: u64) -> MessageTotals {
    MessageTotals {
        intact: messages.into(),
        bytes_read,
        grades: Grades::one(Grade::Perfect),
        ..MessageTotals::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_again() {
        let perfect = perfect(7, 9_000);
        let repaired = MessageTotals { repaired: 1, ..perfect };
        let many = MessageTotals { intact: u64::MAX, ..perfect };
        let ungraded = MessageTotals { grades: Grades::default(), ..perfect };

        for totals in [MessageTotals::default(), perfect, repaired, many, ungraded] {
            let found = Found::of(totals, Vec::new());
            assert_eq!(found.totals(), totals);
            assert_eq!(found.findings(), []);
        }
    }

    #[test]
    fn a_mailbox_without_findings_takes_two_words() {
        assert_eq!(size_of::<Found>(), 16);
        assert!(matches!(Found::of(perfect(7, 9), Vec::new()), Found::Perfect { .. }));
    }

    #[test]
    fn newer_mail_is_added_to_what_was_found() {
        let mut found = Found::of(perfect(7, 9_000), Vec::new());

        found.import(3, &[]);
        found.import(0, &[]);

        assert_eq!(found.totals(), MessageTotals { newer: 3, ..perfect(7, 9_000) });
    }
}
