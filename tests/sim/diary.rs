//! Diary: what a node's journal says, read by somebody who does not trust its owner.
//!
//! It reads the records on the disk alone, with rules of its own that are simpler than the
//! worker's.
//!
//! # Invariants
//!
//! * Only what survives every crash is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_core::fleet::{JobNumber, Ordinal};
use tidegate_core::holding::{DialStep, Holding, Record, Stamp};
use tidegate_core::mailbox::Health;
use tidegate_wire::worker_record::{Entry, decode_entry};

/// What a node's journal says of one mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Under which generation, and at which stamp, it was verified last.
    pub(crate) verified: Option<(u64, Stamp)>,
    /// It was set aside under this generation.
    pub(crate) aside: Option<u64>,
    pub(crate) level: u8,
    pub(crate) health: u8,
    pub(crate) dial: bool,
    /// Its history may be beside.
    pub(crate) beside: bool,
}

/// What a node's journal says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diary {
    read: usize,
    pub(crate) claims: BTreeMap<JobNumber, u64>,
    pub(crate) noted: BTreeMap<(JobNumber, Ordinal), Noted>,
}

impl Diary {
    /// Reads what is new; the new records.
    pub(crate) fn read(&mut self, records: &[Arc<[u8]>]) -> Result<Vec<Record>, String> {
        if records.len() < self.read {
            *self = Self::default();
        }
        let mut new = Vec::new();
        for payload in &records[self.read..] {
            let entry = decode_entry(payload).map_err(|error| error.to_string())?;
            if let Entry::Record(record) = entry {
                self.note(&record)?;
                new.push(record);
            }
        }
        self.read = records.len();
        Ok(new)
    }

    pub(crate) fn of(&self, job: JobNumber, ordinal: Ordinal) -> Noted {
        self.noted.get(&(job, ordinal)).copied().unwrap_or_default()
    }

    fn note(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::JobClaimed { job, generation, mailboxes, .. } => {
                let before = self.claims.insert(*job, generation.get()).unwrap_or(0);
                if before >= generation.get() {
                    return Err(format!(
                        "{job} claimed at {before}, then at {generation}"
                    ));
                }
                for ordinal in (0..*mailboxes).map(Ordinal::new) {
                    let noted = self.noted.entry((*job, ordinal)).or_default();
                    (noted.health, noted.aside) = (0, None);
                }
            }
            Record::Settled { job, generation, mailboxes, .. } => {
                self.check_current(*job, generation.get(), "settled")?;
                for settled in mailboxes {
                    let noted = self.noted.entry((*job, settled.ordinal)).or_default();
                    let verified = settled.stamp.map(|stamp| (generation.get(), stamp));
                    noted.verified = verified;
                    noted.aside = settled.stamp.is_none().then_some(generation.get());
                }
            }
            Record::Unsettled { job, ordinals, .. } => {
                self.each(*job, ordinals, |noted| noted.verified = None);
            }
            Record::Raised { job, generation, level, ordinals, .. } => {
                self.check_current(*job, generation.get(), "raised")?;
                self.each(*job, ordinals, |noted| {
                    (noted.level, noted.health) = (level.get(), 0);
                });
            }
            Record::Closed { job, ordinals, .. } => {
                self.each(*job, ordinals, |noted| {
                    (noted.level, noted.health, noted.verified) = (0, 0, None);
                });
            }
            Record::DialTone { job, step, ordinals, .. } => {
                let on = *step == DialStep::Begun;
                let intended = *step == DialStep::Intended;
                self.each(*job, ordinals, |noted| {
                    (noted.dial, noted.beside) = (on, true);
                    if intended {
                        noted.verified = None;
                    }
                });
            }
            Record::DialToneSwitched { job, mailboxes, .. } => {
                for switched in mailboxes {
                    self.each(*job, &[switched.ordinal], |noted| {
                        (noted.dial, noted.beside) = (false, false);
                        let verified = noted.verified;
                        noted.verified = verified.map(|(g, _)| (g, switched.stamp));
                    });
                }
            }
            Record::KeptBack { .. } => {}
            Record::HealthNoted { job, generation, healths, .. } => {
                self.check_current(*job, generation.get(), "health noted")?;
                for (ordinal, health) in healths {
                    self.each(*job, &[*ordinal], |noted| noted.health = number(*health));
                }
            }
        }
        Ok(())
    }

    fn each(
        &mut self,
        job: JobNumber,
        ordinals: &[Ordinal],
        mut change: impl FnMut(&mut Noted),
    ) {
        for ordinal in ordinals {
            change(self.noted.entry((job, *ordinal)).or_default());
        }
    }

    fn check_current(
        &self,
        job: JobNumber,
        generation: u64,
        what: &str,
    ) -> Result<(), String> {
        let claimed = self.claims.get(&job).copied().unwrap_or(0);
        if claimed == generation {
            return Ok(());
        }
        Err(format!("{job}: {what} under generation {generation}, claimed is {claimed}"))
    }
}

/// What a worker's own code makes of the records on its disk, made further as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    read: usize,
    holding: Holding,
}

impl Memory {
    /// Goes on with what is new.
    pub(crate) fn further(&mut self, records: &[Arc<[u8]>]) -> &Holding {
        if records.len() < self.read {
            *self = Self::default();
        }
        for payload in &records[self.read..] {
            if let Ok(Entry::Record(record)) = decode_entry(payload) {
                self.holding.apply(&record);
            }
        }
        self.read = records.len();
        &self.holding
    }
}

/// Health as a number that rises as it gets worse.
pub(crate) fn number(health: Health) -> u8 {
    match health {
        Health::Unproven => 0,
        Health::Healthy => 1,
        Health::Failed => 2,
        Health::IntegrityFailed => 3,
    }
}
