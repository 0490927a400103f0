//! Receiving: which mailboxes mail may be handed to now.
//!
//! # Invariants
//!
//! * A mailbox that has been ordered closed takes no mail from that record on, long before
//!   its node has closed it.

use super::{JobReport, JobState, Record, Rollout, Scope};
use crate::fleet::{JobNumber, MailboxNumber, Ordinal};

/// The service that brings mail to a mailbox, as mail servers call it.
const DELIVERY: &str = "lmtp";

/// How mail is handed to the mailboxes of one job.
struct Delivery<'a> {
    members: &'a [MailboxNumber],
    job: &'a JobState,
    /// The level on which delivery works.
    needed: u8,
    /// Whether held mailboxes take mail.
    to_dial_tone: bool,
}

impl Rollout {
    /// Whether mail may be handed to `mailbox`: it stands where delivery works or has a dial
    /// tone, and has not been ordered closed.
    ///
    /// A node that has not begun a dial tone yet puts deliveries off by itself.
    pub fn receives(&self, mailbox: MailboxNumber) -> bool {
        let Some((job, ordinal)) = self.plan.place(mailbox) else { return false };
        let delivery = self.delivery(job);
        delivery.is_some_and(|it| it.reaches(mailbox, ordinal, self))
    }

    /// Shows of every mailbox that is in a wave whether mail may be handed to it.
    pub fn show_receiving(&self, mut show: impl FnMut(MailboxNumber, bool)) {
        for job in self.plan.jobs() {
            self.show_deliveries(job.number, &mut show);
        }
    }

    /// Shows the same of each mailbox of which `record`, once applied, may have changed that.
    pub fn show_receiving_changed(
        &self,
        record: &Record,
        mut show: impl FnMut(MailboxNumber, bool),
    ) {
        if let Record::FactsReported { job, facts, .. } = record {
            let Some(delivery) = self.delivery(*job) else { return };
            for (ordinal, _) in facts {
                if let Some(mailbox) = delivery.members.get(ordinal.index()) {
                    show(*mailbox, delivery.reaches(*mailbox, *ordinal, self));
                }
            }
        } else if let Record::Reclosed { generations, .. } = record {
            for (job, _) in generations {
                self.show_deliveries(*job, &mut show);
            }
        } else if let Record::JobLeased { job, .. }
        | Record::Retried { job, .. }
        | Record::MailboxesFound { report: JobReport { job, .. }, .. } = record
        {
            self.show_deliveries(*job, &mut show);
        } else if let Record::NodeAccepted { node, .. } = record {
            for job in self.plan.jobs_on(*node) {
                self.show_deliveries(job.number, &mut show);
            }
        } else if let Record::Rebuilt { .. } = record {
            // What each wave is allowed, and what is held back, was found out just now.
            self.show_receiving(show);
        } else if let Record::Resumed { scope: Some(scope), .. } = record {
            // Where a part was re-closed its dial tone begins anew.
            let jobs = self.plan.jobs().iter().filter(|job| match scope {
                Scope::Wave(wave) => job.wave == *wave,
                Scope::Node(node) => job.node == *node,
                Scope::Mailbox(mailbox) => {
                    self.plan.place(*mailbox).is_some_and(|(of, _)| of == job.number)
                }
            });
            for job in jobs.filter(|job| self.plan.has_dial_tone(job.wave)) {
                self.show_deliveries(job.number, &mut show);
            }
        }
    }

    fn show_deliveries(
        &self,
        job: JobNumber,
        show: &mut impl FnMut(MailboxNumber, bool),
    ) {
        let Some(delivery) = self.delivery(job) else { return };
        for (ordinal, mailbox) in (0..).map(Ordinal::new).zip(delivery.members) {
            show(*mailbox, delivery.reaches(*mailbox, ordinal, self));
        }
    }

    /// How mail is handed to mailboxes of `number`; nothing where no level brings any.
    fn delivery(&self, number: JobNumber) -> Option<Delivery<'_>> {
        let needed = self.plan.policy().level_of(DELIVERY)?;
        let (job, members) = (self.job(number), self.plan.members(number));
        let to_dial_tone = self.delivers_to_dial_tone(number);
        Some(Delivery { members, job, needed, to_dial_tone })
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
}

impl Delivery<'_> {
    /// Whether mail may be handed to this mailbox of the job.
    fn reaches(
        &self,
        mailbox: MailboxNumber,
        ordinal: Ordinal,
        rollout: &Rollout,
    ) -> bool {
        let state = self.job.states.get(ordinal.index()).unwrap_or_default();
        let receives = if state.is_open() {
            state.level.get() >= self.needed
        } else {
            self.to_dial_tone && !rollout.held_back.contains(&mailbox)
        };
        receives && !self.job.reclosed.contains(&ordinal)
    }
}
