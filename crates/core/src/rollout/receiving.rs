//! Receiving: which mailboxes mail may be handed to now.
//!
//! # Invariants
//!
//! * A mailbox that has been ordered closed takes no mail from that record on, long before
//!   its node has closed it.

use super::{Record, Rollout};
use crate::fleet::{JobNumber, MailboxNumber};

/// The service that brings mail to a mailbox, as mail servers call it.
const DELIVERY: &str = "lmtp";

impl Rollout {
    /// Whether mail may be handed to `mailbox`: it stands where delivery works, and has not
    /// been ordered closed.
    pub fn receives(&self, mailbox: MailboxNumber) -> bool {
        let Some((job, ordinal)) = self.plan.place(mailbox) else { return false };
        let Some(needed) = self.plan.policy().level_of(DELIVERY) else { return false };
        let job = self.job(job);
        let open = job.states.get(ordinal.index());
        open.is_some_and(|state| state.level.get() >= needed)
            && !job.reclosed.contains(&ordinal)
    }

    /// The mailboxes of which `record`, once applied, may have changed that.
    pub fn maybe_changed(&self, record: &Record) -> Vec<MailboxNumber> {
        let all = |job: JobNumber| self.plan.members(job).iter().copied();
        if let Record::FactsReported { job, facts, .. } = record {
            let members = self.plan.members(*job);
            let named = facts.iter().filter_map(|(at, _)| members.get(at.index()));
            named.copied().collect()
        } else if let Record::Reclosed { generations, .. } = record {
            generations.iter().flat_map(|(job, _)| all(*job)).collect()
        } else if let Record::JobLeased { job, .. } = record {
            all(*job).collect()
        } else {
            Vec::new()
        }
    }
}
