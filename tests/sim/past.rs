//! Past: machines that are put back to what they were, and those that lose their power.
//!
//! # Invariants
//!
//! * An image is of one moment: its journal and its mail are of the same.
//! * Of what is in an image nothing was lost; what came later is nobody's to keep.
//! * Whoever checks forgets what was put back, too: it is judged by what is on the disk now.

use std::collections::BTreeMap;

use tidegate_core::rollout::{Phase, Record, Rollout, Scope};
use tidegate_core::time::Timestamp;

use crate::chronicle::Chronicle;
use crate::coordinator::Rpc;
use crate::diary::{Diary, Memory};
use crate::mailroom::Box_;
use crate::operators::held_back;
use crate::oracle::Holder;
use crate::world::{Checked, Event, Over, Violation, World};

/// A node as it was.
pub(crate) struct Image {
    records: usize,
    boxes: BTreeMap<u64, Box_>,
    claims: BTreeMap<u32, (u64, String)>,
    turned_away: bool,
}

/// Whoever is not restoring anything when its power shall go loses it after this.
const POWER_MAX: u64 = 15_000;

/// Whoever makes a rollout again takes so long to move the old journal away.
const MEND: u64 = 10_000;

impl World {
    /// The power of a node goes while somebody restores there, or soon.
    pub(crate) fn power_will_go(&mut self, node: usize, after: u64, down: u64) {
        self.nodes[node].off = down;
        self.nodes[node].room.lock().cut = Some(after + 1);
        self.after(POWER_MAX, Event::Over(Over::Power { node }));
    }

    /// The power of a node has gone, if it shall: everything on it ends in this instant.
    pub(crate) fn power_goes(&mut self, node: usize) {
        let mut room = self.nodes[node].room.lock();
        let is_due = room.cut.take().is_some();
        let in_the_middle = std::mem::take(&mut room.is_cut);
        drop(room);
        if !is_due && !in_the_middle {
            return;
        }
        let what = if in_the_middle { "power cut in a restore" } else { "power cut" };
        self.story.count(what);
        let runs: Vec<u64> = self
            .workers
            .iter()
            .filter(|(_, it)| it.node == node)
            .map(|(run, _)| *run)
            .collect();
        let down = self.nodes[node].off;
        for run in runs {
            self.worker_dies(run, down, what);
        }
        let now = self.now;
        self.nodes[node].clock.reboot(now);
    }

    /// A node's journal is put back; its mail stays as it is.
    pub(crate) fn old_journal(&mut self, node: usize, lost: u64, down: u64) -> Checked {
        self.count_in_rebuild(node);
        let records = self.nodes[node].disk.lock().records().len();
        let lost = usize::try_from(lost).unwrap_or_default();
        self.story.count("old journal");
        self.put_back(node, records.saturating_sub(lost), down)
    }

    /// An image of a node is made, to which it is put back later.
    pub(crate) fn image(&mut self, node: usize, age: u64, down: u64) {
        if self.nodes[node].image.is_some() {
            return;
        }
        let records = self.nodes[node].disk.lock().records().len();
        let room = self.nodes[node].room.lock();
        let (boxes, claims) = (room.boxes.clone(), room.claims.clone());
        drop(room);
        let turned_away = self.nodes[node].shelf.has_note();
        let image = Image { records, boxes, claims, turned_away };
        self.nodes[node].image = Some(image);
        self.after(age, Event::Over(Over::Image { node, down }));
    }

    /// A node is put back to its image with all its mail.
    pub(crate) fn old_machine(&mut self, node: usize, down: u64) -> Checked {
        let Some(image) = self.nodes[node].image.take() else { return Ok(()) };
        if self.quiet || self.nodes[node].disk.lock().records().len() < image.records {
            return Ok(());
        }
        self.count_in_rebuild(node);
        self.nodes[node].shelf.put_back(image.turned_away);
        let mut room = self.nodes[node].room.lock();
        let before = std::mem::replace(&mut room.boxes, image.boxes);
        room.claims = image.claims;
        for (key, it) in before {
            if let Some(now) = room.boxes.get_mut(&key) {
                now.arriving = it.arriving;
            }
        }
        drop(room);
        self.story.count("old machine");
        (self.nodes[node].unaware, self.nodes[node].untold) = (true, true);
        self.put_back(node, image.records, down)
    }

    /// The coordinator's journal is put back.
    pub(crate) fn old_coordinator(&mut self, lost: u64, down: u64) -> Checked {
        let records = self.coordinator.disk.lock().records().len();
        let left = records.saturating_sub(usize::try_from(lost).unwrap_or_default());
        if left == 0 || self.coordinator.driven.is_none() {
            return Ok(());
        }
        self.story.count("old coordinator");
        self.after(down + self.fleet.lease * 3, Event::Mend);
        self.coordinator_goes_back(left, down)
    }

    /// The coordinator's journal is gone, and somebody knows it.
    pub(crate) fn journal_lost(&mut self, down: u64) -> Checked {
        if self.coordinator.driven.is_none() {
            return Ok(());
        }
        self.story.count("journal lost");
        self.coordinator_goes_back(0, down)
    }

    fn coordinator_goes_back(&mut self, records: usize, down: u64) -> Checked {
        self.coordinator_dies(down, "put back");
        let disk = self.coordinator.disk.clone();
        disk.lock().put_back(records);
        let records = disk.lock().records().len();
        self.coordinator.lost = records == 0;
        let plan = std::sync::Arc::clone(&self.fleet.plan);
        let mut chronicle = Chronicle::new(&plan);
        let oracle = &mut self.oracle;
        oracle.holders.clear();
        oracle.closing.clear();
        let known = chronicle.read(disk.lock().records(), &plan);
        let known = known.map_err(|text| Violation { promise: "I7 durable", text })?;
        for record in known {
            if let Record::NodeJoined { node, incarnation, .. } = &record {
                oracle.holders.insert(*node, Holder::silent(incarnation.get()));
            }
            match &record {
                Record::Reclosed { scope, .. } => {
                    oracle.closing.insert(*scope);
                }
                Record::Resumed { scope: Some(scope), .. } => {
                    oracle.closing.remove(scope);
                }
                _ => {}
            }
            chronicle.note(&record);
        }
        // What was re-closed later, nobody can know of whom it had not reached.
        oracle.closed.retain(|scope| oracle.closing.contains(scope));
        let rollout =
            Chronicle::replay(disk.lock().records(), &plan, Timestamp::default());
        let rebuilding = rollout.as_ref().is_none_or(|it| it.rebuilding().is_some());
        if let Some(rollout) = rollout {
            chronicle.take_waves(&rollout);
            if matches!(rollout.phase(), Phase::Running | Phase::Finished { .. }) {
                // Nor can anybody know of a stop that is on no record any more.
                oracle.stopped = None;
            }
        }
        oracle.chronicle = chronicle;
        if rebuilding && records > 0 {
            self.story.count("old coordinator in a rebuild");
        }
        Ok(())
    }

    /// A rollout was made again from what workers hold: whoever resumes it starts from what is
    /// held back now.
    pub(crate) fn is_rebuilt(&mut self) {
        let driven = self.coordinator.driven.as_ref();
        let Some(rollout) = driven.and_then(|it| it.rollout()) else { return };
        self.story.count("rebuilt");
        // Resuming ends it, and is not on record if there was nothing else to resume.
        self.oracle.chronicle.reasons.extend(self.operators.resumes());
        self.oracle.chronicle.take_waves(rollout);
        self.oracle.closing = held_back(rollout);
        self.oracle.closed.clear();
        self.oracle.stopped = None;
    }

    /// Somebody looks after machines that were put back: accepts nodes, and makes the rollout
    /// again if its journal is older than what workers know.
    pub(crate) fn mend(&mut self) -> Checked {
        let outgrown = self.coordinator.outgrown || self.is_in_doubt();
        if outgrown && self.coordinator.driven.is_some() {
            return self.journal_lost(MEND);
        }
        if let Some(node) = self.turned_away() {
            self.operate(Rpc::Accept, Some(Scope::Node(node)));
        }
        Ok(())
    }

    /// A node hears orders: from now on everybody knows that it was put back.
    pub(crate) fn node_is_aware(&mut self, node: usize) {
        if !self.nodes[node].untold {
            self.nodes[node].unaware = false;
            return;
        }
        let closed = self.oracle.closed.iter().flat_map(|it| self.fleet.members(*it));
        let room = self.nodes[node].room.lock();
        let mut here = closed.filter(|at| self.fleet.places[*at].node == node);
        let let_in = here.any(|at| {
            let seen = self.oracle.seen[at];
            let it = room.boxes.get(&self.fleet.places[at].key);
            seen.level > 0 || seen.dial || it.is_some_and(|it| it.let_in.0 > 0)
        });
        drop(room);
        (self.nodes[node].unaware, self.nodes[node].untold) = (let_in, let_in);
    }

    /// Whether a node has told, or is about to, when it is put back.
    fn count_in_rebuild(&mut self, node: usize) {
        let rollout = self.coordinator.driven.as_ref().and_then(|it| it.rollout());
        let Some(rebuild) = rollout.and_then(Rollout::rebuilding) else { return };
        let told = !rebuild.missing.contains(&Self::number(node));
        self.story.count(if told {
            "put back after it told"
        } else {
            "put back before it told"
        });
    }

    fn put_back(&mut self, node: usize, records: usize, down: u64) -> Checked {
        let runs = self.workers.iter().filter(|(_, it)| it.node == node);
        let runs: Vec<u64> = runs.map(|(run, _)| *run).collect();
        for run in runs {
            self.worker_dies(run, down, "put back");
        }
        let mend = down + self.fleet.lease + self.people.between(60_000, 400_000);
        self.after(mend, Event::Mend);
        let disk = self.nodes[node].disk.clone();
        disk.lock().put_back(records);
        let mut diary = Diary::default();
        if let Err(text) = diary.read(disk.lock().records()) {
            return crate::world::broken("I4 one hand", text);
        }
        for (at, place) in self.fleet.places.iter().enumerate() {
            if place.node != node {
                continue;
            }
            let noted = diary.of(place.job, place.ordinal);
            let seen = &mut self.oracle.seen[at];
            (seen.level, seen.dial) = (0, false);
            (seen.stood, seen.risen) = ((noted.level, noted.dial), noted.level);
        }
        self.oracle.diaries[node] = diary;
        self.oracle.memories[node] = Memory::default();
        Ok(())
    }
}
