//! Approvals: what a second person has given leave for, and what waits for one.
//!
//! ```text
//! asked for ─▶ waits ─▶ approved by somebody else ─▶ asked for again ─▶ done, on record with both
//! ```
//!
//! # Invariants
//!
//! * Leave is for one thing: a plan by its digest, or a verb on the decisions that the approver
//!   saw. Any other decision, its use, the end of its time and a restart make it void.
//! * Nobody uses the leave that they have given themselves, whatever roles they have.
//! * What was used is in the record of what was done; nothing else of it is needed after a crash.

use tidegate_core::inventory::Digest;
use tidegate_core::rollout::{Approval, Etag, Verb};
use tidegate_core::time::{Span, Timestamp};

use crate::refused::Refused;

/// Leave that is given and waits to be used; more is the work of nobody's evening.
const GIVEN_MAX: usize = 64;

/// What is shown as waiting.
const WAITING_MAX: usize = 16;

/// Whoever has asked longer ago has gone.
const WAITING_AGE_MAX: Span = Span::from_secs(60 * 60);

/// For how long leave is given if nobody says.
const USUAL: Span = Span::from_secs(15 * 60);

/// For how long it is given at most.
const LONGEST: Span = Span::from_secs(24 * 60 * 60);

/// What leave is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dear {
    /// To start the rollout of this plan, or to rebuild it.
    Apply(Digest),
    /// To do this to a rollout of which these decisions are known.
    Act(Verb, Etag),
}

/// Leave that somebody gives.
#[derive(Clone, Debug)]
pub(crate) struct Leave {
    /// Who and why.
    pub(crate) approval: Approval,
    /// What for.
    pub(crate) dear: Dear,
    /// For how long; nothing for the usual time.
    pub(crate) lasts: Option<Span>,
}

/// Something that waits for a second person.
#[derive(Clone, Debug)]
struct Waiting {
    dear: Dear,
    by: String,
    /// What they asked for, and the command that gives leave for it.
    text: String,
    at: Timestamp,
}

/// All leave that is given, and all that waits for some.
#[derive(Clone, Debug, Default)]
pub(super) struct Approvals {
    given: Vec<(Leave, Timestamp)>,
    waiting: Vec<Waiting>,
}

impl Approvals {
    /// Somebody gives leave. Returns for how long.
    pub(super) fn give(&mut self, leave: Leave, now: Timestamp) -> Span {
        let lasts = leave.lasts.unwrap_or(USUAL).min(LONGEST);
        self.given.retain(|(given, until)| {
            let same = given.dear == leave.dear && given.approval.by == leave.approval.by;
            *until > now && !same
        });
        if self.given.len() >= GIVEN_MAX {
            self.given.remove(0);
        }
        self.given.push((leave, now + lasts));
        lasts
    }

    /// Uses up the leave that somebody else than `by` has given for `dear`; else it waits. It is
    /// refused with `text`, and told to whoever looks as `shown`, which has no address.
    ///
    /// # Errors
    ///
    /// [`Refused::NotApproved`].
    pub(super) fn take(
        &mut self,
        dear: Dear,
        by: &str,
        (text, shown): (&str, &str),
        now: Timestamp,
    ) -> Result<Approval, Refused> {
        let fits = |(leave, until): &(Leave, Timestamp)| {
            leave.dear == dear && *until > now && leave.approval.by != by
        };
        if let Some(place) = self.given.iter().position(fits) {
            self.waiting.retain(|waiting| waiting.dear != dear);
            return Ok(self.given.swap_remove(place).0.approval);
        }
        let own = self.given.iter().any(|(leave, until)| {
            leave.dear == dear && *until > now && leave.approval.by == by
        });
        self.waiting.retain(|it| it.dear != dear || it.by != by);
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.remove(0);
        }
        let waiting =
            Waiting { dear, by: by.to_owned(), text: shown.to_owned(), at: now };
        self.waiting.push(waiting);
        Err(Refused::NotApproved { text: text.to_owned(), own })
    }

    /// What waits for a second person, for people; what the decisions since have made pointless
    /// is none of it.
    pub(super) fn waiting(&self, etag: Etag, now: Timestamp) -> Vec<String> {
        let stands = |it: &&Waiting| {
            let is_current = match it.dear {
                Dear::Apply(_) => false,
                Dear::Act(_, seen) => seen == etag,
            };
            is_current && now.since(it.at) <= WAITING_AGE_MAX
        };
        let told = self.waiting.iter().filter(stands);
        told.map(|it| format!("{} asks {}", it.by, it.text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn etag(decisions: u64) -> Etag {
        Etag { decisions, begun: Timestamp::from_millis(1) }
    }

    fn leave(by: &str, dear: Dear) -> Leave {
        let approval = Approval { by: by.to_owned(), reason: "seen".to_owned() };
        Leave { approval, dear, lasts: None }
    }

    fn resume(decisions: u64) -> Dear {
        Dear::Act(Verb::Resume(None), etag(decisions))
    }

    #[test]
    fn leave_is_used_once_and_by_somebody_else() {
        let mut approvals = Approvals::default();
        approvals.give(leave("berta", resume(3)), NOW);

        assert!(approvals.take(resume(3), "berta", ("", ""), NOW).is_err());
        let taken = approvals.take(resume(3), "anna", ("", ""), NOW).unwrap();
        assert_eq!(taken.by, "berta");
        assert!(approvals.take(resume(3), "anna", ("", ""), NOW).is_err());
    }

    #[test]
    fn leave_is_for_what_was_seen_and_for_nothing_else() {
        let mut approvals = Approvals::default();
        approvals.give(leave("berta", resume(3)), NOW);
        approvals.give(leave("berta", Dear::Apply(Digest::new([1; 32]))), NOW);

        assert!(approvals.take(resume(4), "anna", ("", ""), NOW).is_err());
        let other = Dear::Apply(Digest::new([2; 32]));
        assert!(approvals.take(other, "anna", ("", ""), NOW).is_err());
    }

    #[test]
    fn leave_ends_with_its_time() {
        let mut approvals = Approvals::default();
        let lasts = approvals.give(leave("berta", resume(3)), NOW);

        assert_eq!(lasts, USUAL);
        assert!(approvals.take(resume(3), "anna", ("", ""), NOW + USUAL).is_err());
        let forever = Span::from_secs(u64::MAX / 10_000);
        let long = Leave { lasts: Some(forever), ..leave("berta", resume(3)) };
        assert_eq!(approvals.give(long, NOW), LONGEST);
    }

    #[test]
    fn what_waits_is_told_until_something_else_is_decided() {
        let mut approvals = Approvals::default();
        let refused = approvals
            .take(resume(3), "anna", ("to resume", "to resume"), NOW)
            .unwrap_err();

        assert!(refused.to_string().contains("to resume"), "{refused}");
        assert_eq!(approvals.waiting(etag(3), NOW), ["anna asks to resume"]);
        assert!(approvals.waiting(etag(4), NOW).is_empty());
    }
}
