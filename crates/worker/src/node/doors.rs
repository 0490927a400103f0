//! Doors: what admission is told, and when.
//!
//! # Invariants
//!
//! * A door opens only for what is on disk, and only while the lease runs.
//! * Closing waits for nothing.

use tidegate_admission::Standing;
use tidegate_core::fleet::{JobNumber, Ordinal};
use tidegate_core::holding::Record;

use super::Node;

impl Node {
    /// Closing does not wait for the disk: a closed door is always safe.
    pub(super) fn close_doors(&self, record: &Record) {
        if let Record::Closed { job, ordinals, .. } = record {
            self.set_doors(*job, ordinals, 0);
        }
    }

    /// Opens what was raised, if that is still permitted now that it is on disk; the rest
    /// waits for the next word of the coordinator.
    pub(super) fn open_doors(&mut self) {
        let lease = self.lease(self.given.clock.now());
        for (job, ordinal) in std::mem::take(&mut self.unseen) {
            let state = self.holding.job(job).and_then(|held| held.state(ordinal));
            let Some(state) = state.filter(|state| state.is_open()) else { continue };
            if self.holding.may_stand(job, ordinal, lease) {
                self.set_doors(job, &[ordinal], state.level.get());
            } else {
                self.unseen.insert((job, ordinal));
            }
        }
    }

    pub(super) fn set_doors(&self, job: JobNumber, ordinals: &[Ordinal], level: u8) {
        let Some(description) = self.descriptions.get(&job) else { return };
        let addresses =
            ordinals.iter().filter_map(|ordinal| description.address(*ordinal));
        let standing = Standing::Level(level);
        self.given.doors.set(addresses.map(|address| (address.into(), standing)));
    }

    pub(super) fn publish_all(&self) {
        let jobs: Vec<JobNumber> =
            self.holding.jobs().map(|(number, _)| number).collect();
        for job in jobs {
            self.publish(job);
        }
    }

    pub(super) fn publish(&self, job: JobNumber) {
        let (Some(held), Some(description)) =
            (self.holding.job(job), self.descriptions.get(&job))
        else {
            return;
        };
        let levels =
            (0..).map(Ordinal::new).zip(held.states()).filter_map(|(ordinal, s)| {
                if self.unseen.contains(&(job, ordinal)) {
                    return None;
                }
                description
                    .address(ordinal)
                    .map(|address| (address.into(), Standing::Level(s.level.get())))
            });
        self.given.doors.set(levels);
    }
}

pub(super) fn ladder(
    rungs: &[tidegate_core::policy::Rung],
) -> tidegate_admission::Ladder {
    let rungs = rungs.iter().map(|rung| tidegate_admission::Rung {
        name: rung.name.clone(),
        services: rung.services.clone(),
    });
    tidegate_admission::Ladder { rungs: rungs.collect() }
}
