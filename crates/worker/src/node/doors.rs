//! Doors: what admission is told, and when.
//!
//! # Invariants
//!
//! * A door opens only for what is on disk, and only while the lease runs.
//! * Closing waits for nothing, and whoever is inside is shut out.
//! * Of what may be an older state nothing is shown as open before orders for it were obeyed.

use tidegate_admission::{Notices, Standing, Zone};
use tidegate_core::fleet::{JobNumber, Ordinal};
use tidegate_core::holding::{Dial, DialStep, Record};
use tidegate_core::planted::{self, Bug};
use tidegate_core::policy::{Language, Notice};
use tidegate_core::time::Timestamp;
use tidegate_wire::worker::NodeNotice;

use super::Node;

impl Node {
    /// Closing does not wait for the disk: a closed door is always safe.
    pub(super) fn close_doors(&self, record: &Record) {
        let (Record::Closed { job, ordinals, .. }
        | Record::DialTone { job, step: DialStep::Ended, ordinals, .. }) = record
        else {
            return;
        };
        if planted::is(Bug::DoorsStayOpen) {
            return;
        }
        self.set_doors(*job, ordinals, Standing::Level(0));
        let Some(description) = self.descriptions.get(job) else { return };
        let addresses = ordinals.iter().filter_map(|it| description.address(*it));
        self.given.doors.visits().closed(addresses);
    }

    /// Opens what was raised, if that is still permitted now that it is on disk; the rest
    /// waits for the next word of the coordinator.
    pub(super) fn open_doors(&mut self) {
        if self.estranged.turned_away {
            return;
        }
        let lease = self.lease(self.given.clock.now());
        // A text for each of thousands would cost more than all else that is done to open them.
        let (mut texts, mut ends) = (String::new(), Vec::new());
        for (job, ordinal) in std::mem::take(&mut self.unseen).iter() {
            let Some(standing) = self.standing(job, ordinal) else { continue };
            let permitted = match standing {
                Standing::Level(0) => continue,
                Standing::Level(_) => self.holding.may_stand(job, ordinal, lease),
                Standing::DialTone => self.holding.may_ring(job, ordinal, lease),
            };
            if permitted && !self.estranged.doubted.contains(&job) {
                let description = self.descriptions.get(&job);
                let told = description.and_then(|it| it.tell(ordinal, &mut texts));
                ends.extend(told.map(|()| (texts.len(), standing)));
            } else {
                self.unseen.insert(job, ordinal);
            }
        }
        if ends.is_empty() {
            return;
        }
        let begins = std::iter::once(0).chain(ends.iter().map(|(end, _)| *end));
        let opened = begins.zip(&ends).filter_map(|(begin, (end, standing))| {
            Some((texts.get(begin..*end)?, *standing))
        });
        let opened: Vec<(&str, Standing)> = opened.collect();
        self.given.doors.set(opened.iter().copied());
        for some in opened.chunk_by(|(_, a), (_, b)| a == b) {
            if let Some((_, Standing::Level(level))) = some.first() {
                let addresses = some.iter().map(|(address, _)| address);
                self.given.doors.visits().opened(addresses, *level);
            }
        }
        let addresses: Vec<&str> = opened.iter().map(|(address, _)| *address).collect();
        self.given.store.opened(&addresses);
    }

    /// Where a mailbox stands on record.
    fn standing(&self, job: JobNumber, ordinal: Ordinal) -> Option<Standing> {
        let held = self.holding.job(job)?;
        Some(match held.dial(ordinal) {
            Dial::On => Standing::DialTone,
            Dial::Off | Dial::None => Standing::Level(held.state(ordinal)?.level.get()),
        })
    }

    /// Where it may be shown to stand.
    fn shown(&self, job: JobNumber, ordinal: Ordinal) -> Option<Standing> {
        let standing = self.standing(job, ordinal)?;
        let is_shut = self.estranged.turned_away || self.estranged.doubted.contains(&job);
        Some(if is_shut { Standing::Level(0) } else { standing })
    }

    pub(super) fn set_doors(
        &self,
        job: JobNumber,
        ordinals: &[Ordinal],
        standing: Standing,
    ) {
        let Some(description) = self.descriptions.get(&job) else { return };
        let addresses =
            ordinals.iter().filter_map(|ordinal| description.address(*ordinal));
        self.given.doors.set(addresses.map(|address| (address, standing)));
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
        let back = description.expected().map(|window| tidegate_admission::Window {
            from_unix: unix_seconds(window.from),
            to_unix: unix_seconds(window.to),
        });
        let all = (0..description.len()).map(Ordinal::new);
        let mailboxes = all.filter_map(|it| {
            let is_seen = !self.unseen.contains(job, it);
            let standing = if is_seen { self.shown(job, it) } else { None };
            let language = description.language(it).map(told_in);
            let notice = tidegate_admission::Notice { language, back };
            description.address(it).map(|address| (address, standing, notice))
        });
        self.given.doors.describe(mailboxes);
        let held = (0..).map(Ordinal::new).zip(held.states()).filter_map(|(it, _)| {
            let is_held = self.standing(job, it)? == Standing::Level(0);
            description.address(it).filter(|_| is_held)
        });
        self.given.doors.visits().held(held);
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
