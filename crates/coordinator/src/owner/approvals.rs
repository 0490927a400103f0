//! Approvals: what a second person has given leave for, and what waits for one.
//!
//! ```text
//! asked for ─▶ waits ─▶ approved by somebody else ─▶ asked for again ─▶ done, on record with both
//! ```
//!
//! # Invariants
//!
//! * Leave is for one thing: a plan by its digest, or a verb on the decisions and on the evidence
//!   that the approver saw. Any other decision, anything worse that becomes known, its use, the
//!   end of its time and a restart make it void.
//! * Nobody uses the leave that they have given themselves, whatever roles they have.
//! * What was used is in the record of what was done; nothing else of it is needed after a crash.
//!   What waits is kept beside the journal, so that an approver who comes after it still sees it.

mod asked;

use tidegate_core::inventory::Digest;
use tidegate_core::rollout::{Approval, Etag, Grounds, Verb};
use tidegate_core::time::{Span, Timestamp};

use crate::refused::Refused;
pub(crate) use asked::{Asked, Petition};

/// Leave that is given and waits to be used; more is the work of nobody's evening.
const GIVEN_MAX: usize = 64;

/// For how long leave is given if nobody says.
const USUAL: Span = Span::from_secs(15 * 60);

/// For how long it is given at most.
const LONGEST: Span = Span::from_secs(24 * 60 * 60);

/// What is shown of a mailbox that waits: whoever sees it may not see addresses.
pub(crate) const ONE_MAILBOX: &str = "resume one mailbox";

/// What somebody knew of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The decisions.
    pub(crate) etag: Etag,
    /// What speaks against going on.
    pub(crate) grounds: Grounds,
}

/// What leave is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dear {
    /// To start the rollout of this plan, or to rebuild it.
    Apply(Digest),
    /// To do this to a rollout of which this is known.
    Act(Verb, Seen),
}

impl Dear {
    const fn seen(self) -> Option<Seen> {
        match self {
            Self::Apply(_) => None,
            Self::Act(_, seen) => Some(seen),
        }
    }
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

/// Who asks for something, and how it is told.
pub(super) struct Asking<'a> {
    /// Who.
    pub(super) by: &'a str,
    /// Why.
    pub(super) reason: &'a str,
    /// What, as on the command line.
    pub(super) text: &'a str,
    /// The same without addresses.
    pub(super) shown: &'a str,
}

/// All leave that is given, and all that waits for some.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    given: Vec<(Leave, Timestamp)>,
    asked: Asked,
}

impl Approvals {
    /// No leave yet, while this waits for some.
    pub(super) const fn after(asked: Asked) -> Self {
        Self { given: Vec::new(), asked }
    }

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

    /// Uses up the leave that somebody else has given for `dear`; else it waits.
    ///
    /// # Errors
    ///
    /// [`Refused::NotApproved`].
    pub(super) fn take(
        &mut self,
        dear: Dear,
        asking: &Asking<'_>,
        now: Timestamp,
    ) -> Result<Approval, Refused> {
        let Asking { by, reason, text, shown } = *asking;
        let fits = |(leave, until): &(Leave, Timestamp)| {
            leave.dear == dear && *until > now && leave.approval.by != by
        };
        if let Some(place) = self.given.iter().position(fits) {
            self.asked.done(by, shown);
            return Ok(self.given.swap_remove(place).0.approval);
        }
        let own = self.given.iter().any(|(leave, until)| {
            leave.dear == dear && *until > now && leave.approval.by == by
        });
        let seen = dear.seen();
        self.asked.add(Petition {
            by: by.to_owned(),
            what: shown.to_owned(),
            reason: reason.to_owned(),
            etag: seen.map(|seen| seen.etag),
            grounds: seen.map(|seen| seen.grounds),
            at: now,
        });
        let command = command(text, seen);
        Err(Refused::NotApproved { command, own })
    }

    /// Starts that wait for a second person, before there is a rollout.
    pub(super) fn starting(&self, now: Timestamp) -> Vec<Petition> {
        self.asked.starting(now)
    }

    /// What waits for a second person; what the decisions since have made pointless is none of
    /// it.
    pub(super) fn waiting(&self, etag: Etag, now: Timestamp) -> Vec<Petition> {
        self.asked.standing(etag, now)
    }
}

/// What an approver types after `tidegate approve` for what was asked for, having seen this.
pub(crate) fn command(what: &str, seen: Option<Seen>) -> String {
    let seen = seen.map_or_else(String::new, |Seen { etag, grounds }| {
        format!(" --if-match {etag} --evidence {grounds}")
    });
    format!("{what}{seen} --reason '…'")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    const GROUNDS: &str = "00112233445566778899aabb";

    fn etag(decisions: u64) -> Etag {
        Etag { decisions, begun: Timestamp::from_millis(1) }
    }

    fn leave(by: &str, dear: Dear) -> Leave {
        let approval = Approval { by: by.to_owned(), reason: "seen".to_owned() };
        Leave { approval, dear, lasts: None }
    }

    fn resume(decisions: u64) -> Dear {
        let (etag, grounds) = (etag(decisions), GROUNDS.parse().unwrap());
        Dear::Act(Verb::Resume(None), Seen { etag, grounds })
    }

    fn asks(by: &str) -> Asking<'_> {
        Asking { by, reason: "looked", text: "resume", shown: "resume" }
    }

    #[test]
    fn leave_is_used_once_and_by_somebody_else() {
        let mut approvals = Approvals::default();
        approvals.give(leave("berta", resume(3)), NOW);

        assert!(approvals.take(resume(3), &asks("berta"), NOW).is_err());
        let taken = approvals.take(resume(3), &asks("anna"), NOW).unwrap();
        assert_eq!(taken.by, "berta");
        assert!(approvals.take(resume(3), &asks("anna"), NOW).is_err());
    }

    #[test]
    fn leave_is_for_what_was_seen_and_for_nothing_else() {
        let mut approvals = Approvals::default();
        approvals.give(leave("berta", resume(3)), NOW);
        approvals.give(leave("berta", Dear::Apply(Digest::new([1; 32]))), NOW);

        assert!(approvals.take(resume(4), &asks("anna"), NOW).is_err());
        let grounds = "ff112233445566778899aabb".parse().unwrap();
        let worse = Dear::Act(Verb::Resume(None), Seen { etag: etag(3), grounds });
        assert!(approvals.take(worse, &asks("anna"), NOW).is_err());
        let other = Dear::Apply(Digest::new([2; 32]));
        assert!(approvals.take(other, &asks("anna"), NOW).is_err());
        assert!(approvals.take(resume(3), &asks("anna"), NOW).is_ok());
    }

    #[test]
    fn leave_ends_with_its_time() {
        let mut approvals = Approvals::default();
        let lasts = approvals.give(leave("berta", resume(3)), NOW);

        assert_eq!(lasts, USUAL);
        assert!(approvals.take(resume(3), &asks("anna"), NOW + USUAL).is_err());
        let forever = Span::from_secs(u64::MAX / 10_000);
        let long = Leave { lasts: Some(forever), ..leave("berta", resume(3)) };
        assert_eq!(approvals.give(long, NOW), LONGEST);
    }

    #[test]
    fn what_waits_is_told_until_something_else_is_decided_or_it_is_done() {
        let mut approvals = Approvals::default();
        let refused = approvals.take(resume(3), &asks("anna"), NOW).unwrap_err();

        let command = format!("approve resume --if-match 3-1 --evidence {GROUNDS}");
        assert!(refused.to_string().contains(&command), "{refused}");
        let waiting = approvals.waiting(etag(3), NOW);
        assert_eq!((waiting[0].by.as_str(), waiting.len()), ("anna", 1));
        assert_eq!(approvals.waiting(etag(4), NOW), []);
        approvals.give(leave("berta", resume(3)), NOW);
        approvals.take(resume(3), &asks("anna"), NOW).unwrap();
        assert_eq!(approvals.waiting(etag(3), NOW), []);
    }
}
