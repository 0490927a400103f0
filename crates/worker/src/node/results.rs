//! Results: what the owner makes of what its hands bring back.
//!
//! # Invariants
//!
//! * A mailbox that an answer does not speak of is left alone for a while, and tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Claim, Lease, Outcome, ProbeTask, Probed, Record, Settled};
use tidegate_core::mailbox::Health;
use tidegate_core::time::{Span, Timestamp};

use tidegate_mailserver::log::{Complaint, ComplaintKind};

use super::Node;
use crate::findings::alarm;
use crate::hands::Done;
use crate::signals::Heard;
use crate::store::{Telling, Told};

/// A mailbox that could not be prepared for now is left alone for this long.
pub(super) const DEFER: Span = Span::from_secs(2);

/// A closing under way is asked about this often: it costs nothing.
const TELL_AGAIN: Span = Span::from_millis(500);

/// The owner turns many times a second: whoever has not for so long was stopped, or waited for
/// a disk.
const SLEEP_MIN: Span = Span::from_millis(500);

/// What findings are called that come from bytes that could not be read.
pub(crate) const UNREADABLE: &str = "unreadable";

impl Node {
    pub(super) fn on_done(
        &mut self,
        done: Done,
        now: Timestamp,
    ) -> anyhow::Result<Vec<Record>> {
        let lease = Lease { now, until: self.lease_until };
        self.looks_for_claims |= done.is_in_vain();
        let records = match done {
            Done::Broken(error) => return Err(error),
            Done::Measured(share) => {
                self.vitals.disk_free = share;
                Vec::new()
            }
            Done::Found(claimed) => {
                self.check_claimed(claimed.unwrap_or_default())?;
                Vec::new()
            }
            Done::Claimed { job, generation, description } => {
                self.claiming.remove(&(job, generation));
                let (digest, mailboxes) = (description.digest, description.len());
                self.descriptions.insert(job, description);
                let claim = Claim { job, generation, description: digest, mailboxes };
                self.holding.claimed(claim, now)
            }
            Done::Overtaken { job, generation } => {
                self.note_fenced("a newer claim of the store came first");
                self.claiming.remove(&(job, generation));
                Vec::new()
            }
            Done::Settled { job, generation, tried, results } => {
                self.preparing = self.preparing.saturating_sub(1);
                self.rest(job, &tried, results.iter().map(|it| it.ordinal), now);
                self.count_read_errors(&results);
                self.holding.settled(job, generation, results, now).into_iter().collect()
            }
            Done::Looked { job, generation, tried, looks } => {
                self.rest(job, &tried, looks.iter().map(|(it, _)| *it), now);
                let records = self.holding.looked(job, generation, &looks, lease);
                self.tell_first(records)
            }
            Done::Dialled { job, generation, tried, results } => {
                self.on_dialled((job, generation), &tried, results, lease)
            }
            Done::Switched { job, generation, tried, results } => {
                self.on_switched((job, generation), &tried, results, now)
            }
            Done::Told { telling, told } => self.on_told(&telling, &told, lease),
            Done::Probed { tried, results } => {
                self.rest_probed(&tried, results.iter().map(|(task, ..)| *task), now);
                self.on_probed(results, now)
            }
        };
        Ok(records)
    }

    /// Takes mailboxes that were to be read out of the hands; those without an answer are left
    /// alone for a while.
    fn rest_probed(
        &mut self,
        tried: &[ProbeTask],
        probed: impl Iterator<Item = ProbeTask> + Clone,
        now: Timestamp,
    ) {
        for tasks in tried.chunk_by(|a, b| a.job == b.job) {
            let Some(first) = tasks.first() else { continue };
            self.busy.remove_all(first.job, tasks.iter().map(|task| task.ordinal));
        }
        if probed.clone().eq(tried.iter().copied()) {
            return;
        }
        let mut probed: Vec<ProbeTask> = probed.collect();
        probed.sort_unstable();
        let unread = tried.iter().filter(|task| probed.binary_search(task).is_err());
        let deferred = unread.map(|task| ((task.job, task.ordinal), now + DEFER));
        self.deferred.extend(deferred);
    }

    /// Counts that this worker was kept from acting.
    pub(super) fn note_fenced(&mut self, why: &str) {
        self.vitals.fenced = self.vitals.fenced.saturating_add(1);
        tracing::warn!(fenced = self.vitals.fenced, why, "fenced");
    }

    /// Whoever sleeps beyond its lease has lost it: what was permitted is not done any more.
    pub(super) fn notice_sleep(&mut self, now: Timestamp) {
        let slept = now.since(self.turned_at) > SLEEP_MIN;
        if slept && self.turned_at < self.lease_until && self.lease_until <= now {
            self.holding.suspend();
            self.note_fenced("it woke after its lease had run out");
        }
        self.turned_at = now;
    }

    pub(super) fn on_told(
        &mut self,
        telling: &Telling,
        told: &[(Ordinal, Told)],
        lease: Lease,
    ) -> Vec<Record> {
        let job = telling.under.job;
        for (ordinal, told) in told {
            self.busy.remove(job, *ordinal);
            let pause = match told {
                Told::Done => continue,
                Told::NotYet if telling.recorded => TELL_AGAIN,
                Told::NotYet | Told::Unknown | Told::Refused { .. } => DEFER,
            };
            self.deferred.insert((job, *ordinal), lease.now + pause);
        }
        self.note_kept_out(telling, told);
        self.herald.told(telling, told, &mut self.holding, lease)
    }

    pub(super) fn count_read_errors(&mut self, results: &[Settled]) {
        let unreadable = |result: &&Settled| {
            result.findings.iter().any(|finding| finding.code == UNREADABLE)
        };
        let count = results.iter().filter(unreadable).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.vitals.read_errors = self.vitals.read_errors.saturating_add(count);
    }

    pub(super) fn on_probed(
        &mut self,
        results: Vec<(ProbeTask, Probed, Option<Duration>)>,
        now: Timestamp,
    ) -> Vec<Record> {
        let slow_after = self
            .settings
            .as_ref()
            .map_or(u64::MAX, |settings| settings.slow_after.millis());
        let mut latencies = Vec::with_capacity(results.len());
        let mut by_job: Vec<((JobNumber, Generation), Vec<Probed>)> = Vec::new();
        for (task, probed, latency) in results {
            let (job, generation) = (task.job, task.generation);
            // Told long ago: it says nothing new of the node.
            let failed = self.holding.job(job).and_then(|it| it.state(task.ordinal));
            if failed.is_none_or(|state| state.health < Health::Failed) {
                self.vitals.probes += 1;
                let slow =
                    latency.is_none_or(|took| took.as_millis() > u128::from(slow_after));
                self.vitals.probes_slow += u32::from(slow);
                let unreadable = matches!(probed.outcome, Outcome::Unreadable(_));
                self.vitals.read_errors += u32::from(unreadable);
                latencies.extend(latency);
            }
            match by_job.last_mut() {
                Some((last, all)) if *last == (job, generation) => all.push(probed),
                Some(_) | None => by_job.push(((job, generation), vec![probed])),
            }
        }
        latencies.sort_unstable();
        if let Some(median) = latencies.get(latencies.len() / 2) {
            self.vitals.probe_micros =
                u32::try_from(median.as_micros()).unwrap_or(u32::MAX);
        }
        let noted = by_job.into_iter().filter_map(|((job, generation), probed)| {
            self.holding.probed(job, generation, probed, now)
        });
        noted.collect()
    }

    /// What the mail system feels goes to the pace and the vitals; whoever it complains about
    /// has failed.
    pub(super) fn on_felt(&mut self, heard: Heard, now: Timestamp) -> Vec<Record> {
        let Heard { felt, pulses, complaints } = heard;
        if let Some(felt) = felt {
            self.pace.feel(&felt, now);
        }
        if let Some(pulses) = pulses {
            self.vitals.pulses = pulses;
            self.pulses_at = now;
        }
        let mut failed: BTreeMap<(JobNumber, Generation), BTreeMap<Ordinal, Probed>> =
            BTreeMap::new();
        for complaint in complaints {
            let Some(code) = harm(complaint.kind) else { continue };
            for task in self.open_mailboxes_of(&complaint) {
                let outcome =
                    Outcome::Unreadable(alarm(task, code, complaint.text.clone()));
                let ProbeTask { job, generation, ordinal, level, mature } = task;
                let probed = Probed { ordinal, level, mature, outcome };
                let of_job = failed.entry((job, generation)).or_default();
                of_job.entry(ordinal).or_insert(probed);
            }
        }
        let noted = failed.into_iter().filter_map(|((job, generation), probed)| {
            let probed = probed.into_values().collect();
            self.holding.probed(job, generation, probed, now)
        });
        noted.collect()
    }

    fn open_mailboxes_of(&self, complaint: &Complaint) -> Vec<ProbeTask> {
        let Some(user) = &complaint.user else { return Vec::new() };
        let jobs = self.descriptions.iter().filter_map(|(job, description)| {
            let ordinal = description.ordinal(user)?;
            let held = self.holding.job(*job)?;
            let state = held.state(ordinal).filter(|state| state.is_open())?;
            let (job, generation, level) = (*job, held.generation(), state.level);
            Some(ProbeTask { job, generation, ordinal, level, mature: false })
        });
        jobs.collect()
    }
}

/// What a complaint is called if it is about harm that a user sees.
fn harm(kind: ComplaintKind) -> Option<&'static str> {
    match kind {
        ComplaintKind::Corrupted => Some("dovecot-corrupted"),
        ComplaintKind::Lost => Some("dovecot-lost"),
        ComplaintKind::BrokenSize => Some("dovecot-broken-size"),
        ComplaintKind::Panic => Some("dovecot-panic"),
        ComplaintKind::UnknownUser => Some("dovecot-unknown-user"),
        ComplaintKind::Fatal | ComplaintKind::Exhausted => None,
    }
}
