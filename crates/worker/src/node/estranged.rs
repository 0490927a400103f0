//! Estranged: the coordinator knows more of this node than its journal does.
//!
//! ```text
//! turned away ─ all doors shut, noted beside the claims ─▶ a restart starts shut, too
//!      └─ accepted, put back on record ─ orders obeyed ─▶ doors by the journal, note removed
//! ```
//!
//! # Invariants
//!
//! * Doors are shut before anything is written, and the note is written before anything else
//!   is done.
//! * While the note is there nobody is let in, whatever the journal says, over any number of
//!   restarts: not before the coordinator has accepted the node and its orders are obeyed.
//! * Shutting people out needs nobody's permission, and nobody to be reached but the mail
//!   system.

use std::collections::BTreeSet;

use anyhow::Context as _;
use tidegate_admission::Standing;
use tidegate_core::fleet::{JobNumber, Ordinal};
use tidegate_core::holding::HeldJob;
use tidegate_core::mailbox::{Level, MailboxState};
use tidegate_core::time::Timestamp;

use super::Node;
use super::recovery::everywhere;
use crate::herald::Errand;
use crate::store::{Telling, Told};

/// What the journal is not trusted in.
#[derive(Debug, Default)]
pub(super) struct Estranged {
    /// The coordinator knows more of this node than the journal does: nobody is let in.
    pub(super) turned_away: bool,
    /// Whether the shelf has the note that it was turned away.
    noted: bool,
    /// Jobs of which the journal may be an older state: shut until they have orders.
    pub(super) doubted: BTreeSet<JobNumber>,
    /// Of these, mailboxes that the mail system shuts out although they are open on record.
    pub(super) kept_out: BTreeSet<(JobNumber, Ordinal)>,
}

/// Threads that prepare before the node was joined: nothing is, but every pool has one.
const HEAVY_BEFORE_JOINING: usize = 1;

impl Node {
    /// A node that was turned away still is, whatever its journal says by now.
    pub(super) fn remember_being_turned_away(&mut self) -> anyhow::Result<()> {
        let noted = self.given.shelf.was_turned_away();
        self.estranged.noted = noted.context("look whether this node was turned away")?;
        if self.estranged.noted {
            self.shut_all();
        }
        Ok(())
    }

    /// What the journal knows is older than what the coordinator does: nobody is let in until
    /// a person has decided.
    pub(super) fn shut_all(&mut self) {
        if !std::mem::replace(&mut self.estranged.turned_away, true) {
            self.shut_every_door();
            tracing::error!(
                action = "tidegate accept, if the older state is meant",
                "this node was put back to an older state: nobody is let in"
            );
        }
        if self.estranged.noted {
            return;
        }
        match self.given.shelf.note_turned_away(true) {
            Ok(()) => self.estranged.noted = true,
            // It is tried again when it is turned away again; ending would forget the doors.
            Err(error) => tracing::error!(
                %error,
                action = "make room in, or mend, the directory `work`; do not restart",
                "cannot note that nobody may be let in: a restart would show the older state"
            ),
        }
    }

    fn shut_every_door(&mut self) {
        self.estranged.doubted.extend(self.holding.jobs().map(|(job, _)| job));
        for (job, description) in &self.descriptions {
            let all: Vec<Ordinal> = (0..description.len()).map(Ordinal::new).collect();
            self.set_doors(*job, &all, Standing::Level(0));
        }
        // Later runs may have let in more than this journal knows of.
        for (job, ordinal) in everywhere(&self.holding) {
            self.herald.owe(job, &[ordinal]);
        }
    }

    /// Shows what stands in jobs that may be an older state, once they go by orders: these
    /// were obeyed before, and what they close is closed.
    pub(super) fn trust_what_is_ordered(&mut self) {
        if self.estranged.turned_away
            || self.estranged.doubted.is_empty() && !self.estranged.noted
        {
            return;
        }
        let is_ordered =
            |job: &JobNumber| self.holding.job(*job).is_some_and(HeldJob::is_ordered);
        let ordered: Vec<JobNumber> =
            self.estranged.doubted.iter().copied().filter(is_ordered).collect();
        for job in ordered {
            self.estranged.doubted.remove(&job);
            self.estranged.kept_out.retain(|(of, _)| *of != job);
            self.publish(job);
        }
        if self.estranged.noted && self.estranged.doubted.is_empty() {
            self.estranged.noted = false;
            if let Err(error) = self.given.shelf.note_turned_away(false) {
                tracing::warn!(
                    %error,
                    action = "remove the file `turned-away` in the directory `work`",
                    "a restart will let nobody in until its orders are obeyed"
                );
            }
        }
    }

    /// Shuts out who must be, also before the coordinator has been reached.
    pub(super) fn shut_out_before_joining(&mut self, now: Timestamp) {
        if !self.herald.owes_any() {
            return;
        }
        self.deferred.retain(|_, until| *until > now);
        let mut errands = self.errands();
        errands.retain(|errand| errand.level == Level::HELD);
        if !errands.is_empty() && self.hands.is_none() {
            self.hands = Some((self.given.hands)(HEAVY_BEFORE_JOINING));
        }
        for errand in errands {
            self.send(errand);
        }
    }

    /// What the mail system is to be told now. Of what may be an older state nobody is let in,
    /// and whoever is in is shut out.
    pub(super) fn errands(&self) -> Vec<Errand> {
        let (holding, doubted) = (&self.holding, &self.estranged.doubted);
        let waits = |job, ordinal| {
            self.busy.contains(job, ordinal)
                || self.deferred.contains_key(&(job, ordinal))
        };
        let is_open = |job, ordinal| {
            let state = holding.job(job).and_then(|held| held.state(ordinal));
            state.is_some_and(MailboxState::is_open)
        };
        let waits_shut = |job, ordinal| {
            waits(job, ordinal) || doubted.contains(&job) && is_open(job, ordinal)
        };
        let most = self.tell_most();
        let mut errands = self.herald.errands(holding, most, &waits_shut);
        if !doubted.is_empty() {
            let is_told = |job, ordinal| {
                waits(job, ordinal)
                    || !doubted.contains(&job)
                    || !is_open(job, ordinal)
                    || self.estranged.kept_out.contains(&(job, ordinal))
            };
            let kept_out = self.herald.errands(holding, most, &is_told);
            errands.extend(
                kept_out.into_iter().map(|it| Errand { level: Level::HELD, ..it }),
            );
        }
        errands
    }

    /// Remembers whom the mail system shuts out although the journal has them open.
    pub(super) fn note_kept_out(&mut self, telling: &Telling, told: &[(Ordinal, Told)]) {
        let job = telling.under.job;
        if telling.level == Level::HELD && self.estranged.doubted.contains(&job) {
            let done = told.iter().filter(|(_, told)| *told == Told::Done);
            self.estranged.kept_out.extend(done.map(|(ordinal, _)| (job, *ordinal)));
        }
    }
}
