//! Reports: the newest state of every mailbox that the coordinator has not confirmed.
//!
//! # Invariants
//!
//! * A report states facts, so telling it twice does no harm.
//! * A mailbox leaves the list only when what was confirmed is still its state.

use super::mailbox::HeldMailbox;
use super::{Dial, Holding};
use crate::fleet::{JobNumber, Ordinal};
use crate::mailbox::MailboxState;
use crate::planted::{self, Bug};
use crate::rollout::{Account, JobReport};

/// The most findings in one report: with texts of some hundred bytes they stay well below
/// the size a message may have.
const FINDINGS_PER_REPORT_MAX: usize = 500;

/// The most jobs in one report: a message has a place for so many.
const JOBS_PER_REPORT_MAX: usize = 1_024;

impl HeldMailbox {
    /// What is told of it.
    fn fact(self) -> MailboxState {
        MailboxState { dial_tone: self.dial == Dial::On, ..self.state }
    }
}

impl Holding {
    /// Facts not confirmed yet, at most `most` mailboxes.
    pub fn report(&self, most: usize) -> Vec<JobReport> {
        let mut chosen: Vec<(JobNumber, Vec<Ordinal>)> = Vec::new();
        let (mut held, mut findings) = (None, 0);
        for (job, ordinal) in self.unreported.iter().take(most) {
            let begins = chosen.last().is_none_or(|(last, _)| *last != job);
            if begins {
                held = self.jobs.get(&job);
            }
            findings += held.map_or(0, |held| held.mailboxes.findings(ordinal).len());
            if findings > FINDINGS_PER_REPORT_MAX && !chosen.is_empty() {
                break;
            }
            if begins {
                if chosen.len() == JOBS_PER_REPORT_MAX {
                    break;
                }
                chosen.push((job, Vec::new()));
            }
            if let Some((_, ordinals)) = chosen.last_mut() {
                ordinals.push(ordinal);
            }
        }
        let reports = chosen.into_iter().filter_map(|(number, ordinals)| {
            let job = self.jobs.get(&number)?;
            let told = ordinals.iter().filter_map(|ordinal| {
                job.mailboxes.get(*ordinal).map(|mailbox| (*ordinal, mailbox.fact()))
            });
            Some(JobReport {
                job: number,
                generation: job.generation,
                facts: told.collect(),
                totals: job.totals(),
                findings: ordinals
                    .iter()
                    .flat_map(|ordinal| {
                        let findings = job.mailboxes.findings(*ordinal).iter();
                        findings.take(FINDINGS_PER_REPORT_MAX).cloned()
                    })
                    .collect(),
            })
        });
        reports.collect()
    }

    /// Takes confirmed facts off the list, unless they have changed since.
    pub fn confirmed(&mut self, reports: &[JobReport]) {
        for report in reports {
            let Some(job) = self.jobs.get(&report.job) else { continue };
            if job.generation != report.generation {
                continue;
            }
            let confirmed = report.facts.iter().filter(|(ordinal, state)| {
                let now = job.mailboxes.get(*ordinal).map(HeldMailbox::fact);
                now == Some(*state) || planted::is(Bug::ConfirmAll)
            });
            let ordinals = confirmed.map(|(ordinal, _)| *ordinal);
            self.unreported.remove_all(report.job, ordinals);
        }
    }

    /// How `reports` stand to what else is to be told.
    pub fn account(&self, reports: &[JobReport]) -> Account {
        let told: usize = reports.iter().map(|report| report.facts.len()).sum();
        let untold = self.unreported.len().saturating_sub(told);
        let reclosed = reports.iter().map(|report| {
            let job = self.jobs.get(&report.job);
            let places = report.facts.iter().map(|(ordinal, _)| *ordinal);
            let closed = places.filter(|ordinal| {
                let mailbox = job.and_then(|job| job.mailboxes.get(*ordinal));
                mailbox.is_some_and(|it| it.served && !it.state.is_open())
            });
            (report.job, closed.collect::<Vec<Ordinal>>())
        });
        Account {
            answered: 0,
            recorded: 0,
            untold: u32::try_from(untold).unwrap_or(u32::MAX),
            reclosed: reclosed.filter(|(_, closed)| !closed.is_empty()).collect(),
            journaled: None,
            kept_back: self.kept_back_heard.is_none().then(|| self.kept_back.clone()),
            store_claimed: self.generation_max(),
        }
    }

    /// Whether anything waits to be confirmed.
    pub fn has_news(&self) -> bool {
        !self.unreported.is_empty()
    }
}
