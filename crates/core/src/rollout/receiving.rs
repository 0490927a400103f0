//! Receiving: which mailboxes mail may be handed to now.
//!
//! # Invariants
//!
//! * A mailbox that has been ordered closed takes no mail from that record on, long before
//!   its node has closed it.

use super::{JobReport, Record, Rollout, Scope};
use crate::fleet::{JobNumber, MailboxNumber};

/// The service that brings mail to a mailbox, as mail servers call it.
const DELIVERY: &str = "lmtp";

impl Rollout {
    /// Whether mail may be handed to `mailbox`: it stands where delivery works or has a dial
    /// tone, and has not been ordered closed.
    ///
    /// A node that has not begun a dial tone yet puts deliveries off by itself.
    pub fn receives(&self, mailbox: MailboxNumber) -> bool {
        let Some(needed) = self.plan.policy().level_of(DELIVERY) else { return false };
        let Some((number, ordinal)) = self.plan.place(mailbox) else { return false };
        let job = self.job(number);
        let state = job.states.get(ordinal.index()).copied().unwrap_or_default();
        let receives = if state.is_open() {
            state.level.get() >= needed
        } else {
            self.delivers_to_dial_tone(number) && !self.held_back.contains(&mailbox)
        };
        receives && !job.reclosed.contains(&ordinal)
    }

    /// Whether held mailboxes of `job` take mail.
    fn delivers_to_dial_tone(&self, job: JobNumber) -> bool {
        let services = self.plan.policy().dial_services();
        services.iter().any(|service| service == DELIVERY)
            && self.job(job).leased_to.is_some()
            && self
                .plan
                .jobs()
                .get(job.index())
                .is_some_and(|job| self.has_dial_tone(job.wave, job.node))
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
        } else if let Record::JobLeased { job, .. }
        | Record::MailboxesFound { report: JobReport { job, .. }, .. } = record
        {
            all(*job).collect()
        } else if let Record::NodeAccepted { node, .. } = record {
            self.plan.inventory().on_node(*node).map(MailboxNumber::new).collect()
        } else if let Record::Rebuilt { .. } = record {
            // What each wave is allowed, and what is held back, was found out just now.
            self.plan.inventory().mailboxes().collect()
        } else if let Record::Resumed { scope: Some(scope), .. } = record {
            // Where a part was re-closed its dial tone begins anew.
            let jobs = self.plan.jobs().iter().filter(|job| match scope {
                Scope::Wave(wave) => job.wave == *wave,
                Scope::Node(node) => job.node == *node,
                Scope::Mailbox(mailbox) => {
                    self.plan.place(*mailbox).is_some_and(|(of, _)| of == job.number)
                }
            });
            let toned = jobs.filter(|job| self.plan.has_dial_tone(job.wave));
            toned.flat_map(|job| all(job.number)).collect()
        } else {
            Vec::new()
        }
    }
}
