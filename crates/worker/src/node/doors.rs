//! Doors: what admission is told, and when.
//!
//! # Invariants
//!
//! * A door opens only for what is on disk, and only while the lease runs.
//! * Closing waits for nothing.

use tidegate_admission::{Notices, Standing, Zone};
use tidegate_core::fleet::{JobNumber, Ordinal};
use tidegate_core::holding::Record;
use tidegate_core::policy::{Language, Notice};
use tidegate_core::time::Timestamp;
use tidegate_wire::worker::NodeNotice;

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
        let mut opened = Vec::new();
        for (job, ordinal) in std::mem::take(&mut self.unseen) {
            let state = self.holding.job(job).and_then(|held| held.state(ordinal));
            let Some(state) = state.filter(|state| state.is_open()) else { continue };
            if self.holding.may_stand(job, ordinal, lease) {
                self.set_doors(job, &[ordinal], state.level.get());
                opened.extend(self.address(job, ordinal));
            } else {
                self.unseen.insert((job, ordinal));
            }
        }
        if !opened.is_empty() {
            self.given.store.opened(opened);
        }
    }

    pub(super) fn set_doors(&self, job: JobNumber, ordinals: &[Ordinal], level: u8) {
        let Some(description) = self.descriptions.get(&job) else { return };
        let addresses =
            ordinals.iter().filter_map(|ordinal| description.address(*ordinal));
        let standing = Standing::Level(level);
        self.given.doors.set(addresses.map(|address| (address.into(), standing)));
    }

    fn address(&self, job: JobNumber, ordinal: Ordinal) -> Option<Box<str>> {
        self.descriptions.get(&job)?.address(ordinal).map(Into::into)
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
        // After its level: describing an unknown mailbox holds it.
        let back = description.expected().map(|window| tidegate_admission::Window {
            from_unix: unix_seconds(window.from),
            to_unix: unix_seconds(window.to),
        });
        let all = (0..description.len()).map(Ordinal::new);
        let notices = all.filter_map(|ordinal| {
            let language = description.language(ordinal).map(told_in);
            let notice = tidegate_admission::Notice { language, back };
            description.address(ordinal).map(|address| (address.into(), notice))
        });
        self.given.doors.describe(notices);
    }

    /// Tells held users what the rollout says; as the node's configuration says where the
    /// rollout says nothing.
    pub(super) fn give_notice(&self, notice: &NodeNotice, dial_services: &[String]) {
        self.given.doors.set_dial_services(dial_services.to_vec());
        if *notice == NodeNotice::default()
            || *notice == NodeNotice::of(&Notice::default())
        {
            return;
        }
        let zone = match Zone::named(&notice.zone) {
            Ok(zone) => Some(zone),
            Err(error) => {
                let action = "install the package tzdata on this node";
                tracing::warn!(%error, action, "held users are told no hours");
                None
            }
        };
        let default_language = told_in(notice.language);
        self.given.doors.set_notices(Notices { default_language, zone });
    }
}

fn told_in(language: Language) -> tidegate_admission::Language {
    match language {
        Language::English => tidegate_admission::Language::English,
        Language::Italian => tidegate_admission::Language::Italian,
    }
}

fn unix_seconds(at: Timestamp) -> i64 {
    i64::try_from(at.millis() / 1_000).unwrap_or(i64::MAX)
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
