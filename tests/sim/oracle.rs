//! Oracle: what truly happened, remembered to judge whether the promises hold.
//!
//! It looks at what is on disks, at what leaves programs, at doors and at the mail itself. What
//! programs think of themselves it only compares with that.
//!
//! # Invariants
//!
//! * Every promise is judged in a file of its own; here it is only remembered and called.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_coordinator::driven::Driven;
use tidegate_core::fleet::{JobNumber, NodeNumber, Ordinal};
use tidegate_core::holding::{DialStep, Record as Note};
use tidegate_core::mailbox::Preparation;
use tidegate_core::rollout::{Orders, Phase, Record, Scope, Sync};
use tidegate_core::time::Timestamp;
use tidegate_wire::v1;
use tonic::Status;

use crate::chronicle::{Chronicle, Replay};
use crate::diary::{Diary, Memory, number};
use crate::fleet::Fleet;
use crate::mailroom::Touch;
use crate::worker::Worker;
use crate::world::{Checked, Event, Violation, World, broken};
use crate::{
    i1_kept, i2_nothing_destroyed, i3_verified, i4_one_hand, i5_evidence, i6_stop,
    i7_durable, i8_everyone, i9_right_person, i10_accounted,
};

/// What is remembered of one mailbox.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// How far its doors stand open.
    pub(crate) level: u8,
    pub(crate) dial: bool,
    /// How far they stood open since that was last recorded to be over: what was closed and not
    /// recorded when the program died stands open again.
    pub(crate) stood: (u8, bool),
    /// The highest level since it was closed last.
    pub(crate) risen: u8,
    /// Under which generation it was noted healthy, and where.
    pub(crate) proven: Option<(u64, u8)>,
    /// Under which generation the coordinator has been told that it is bad.
    pub(crate) told_bad: Option<u64>,
}

/// Who has a node, on record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) incarnation: u64,
    /// When its newest report arrived, in true time.
    pub(crate) heard: u64,
    sequence: u64,
}

impl Holder {
    /// One that has not been heard for long.
    pub(crate) fn silent(incarnation: u64) -> Self {
        Self { incarnation, heard: 0, sequence: 0 }
    }
}

/// What truly happened.
pub(crate) struct Oracle {
    pub(crate) chronicle: Chronicle,
    pub(crate) replay: Replay,
    pub(crate) diaries: Vec<Diary>,
    pub(crate) memories: Vec<Memory>,
    pub(crate) seen: Vec<Seen>,
    /// What orders have permitted, per job and generation: level and number of mailboxes.
    pub(crate) granted: BTreeMap<(JobNumber, u64), (u8, u16)>,
    /// When each node was last heard by this run of the coordinator, by its clock.
    pub(crate) heard: BTreeMap<NodeNumber, Timestamp>,
    /// The holder of each node on record, and when it was heard last, in true time.
    pub(crate) holders: BTreeMap<NodeNumber, Holder>,
    /// Since when a stop is shown as effective.
    pub(crate) stopped: Option<u64>,
    /// Re-closed parts that are shown as closed.
    pub(crate) closed: BTreeSet<Scope>,
    pub(crate) closing: BTreeSet<Scope>,
    /// Of these, the ones that had somebody in them.
    going_back: BTreeSet<Scope>,
}

impl Oracle {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        Self {
            chronicle: Chronicle::new(&fleet.plan),
            replay: Replay::default(),
            diaries: vec![Diary::default(); fleet.nodes.len()],
            memories: vec![Memory::default(); fleet.nodes.len()],
            seen: vec![Seen::default(); fleet.places.len()],
            granted: BTreeMap::new(),
            heard: BTreeMap::new(),
            holders: BTreeMap::new(),
            stopped: None,
            closed: BTreeSet::new(),
            closing: BTreeSet::new(),
            going_back: BTreeSet::new(),
        }
    }

    pub(crate) fn coordinator_started(&mut self, _driven: Option<&Driven>) {
        self.heard.clear();
        self.replay = Replay::default();
    }
}

/// What the world shows to the oracle.
impl World {
    /// New records are on the coordinator's disk.
    pub(crate) fn coordinator_has_recorded(&mut self) -> Checked {
        let plan = std::sync::Arc::clone(&self.fleet.plan);
        let new = {
            let disk = self.coordinator.disk.lock();
            let known = self.oracle.chronicle.read;
            for payload in disk.records().iter().skip(known) {
                self.story.mix_bytes(payload);
            }
            let read = self.oracle.chronicle.read(disk.records(), &plan);
            read.map_err(|text| Violation { promise: "I7 durable", text })?
        };
        for record in new {
            self.story
                .tell(self.now, || format!("coordinator records {}", brief(&record)));
            i4_one_hand::check_issued(self, &record)?;
            i5_evidence::check_record(self, &record)?;
            self.follow(&record);
            self.oracle.chronicle.note(&record);
        }
        Ok(())
    }

    fn follow(&mut self, record: &Record) {
        match record {
            Record::NodeJoined { node, incarnation, at, .. } => {
                let (incarnation, heard) = (incarnation.get(), self.now);
                let before = self.oracle.holders.get(node).map(|it| it.incarnation);
                let lives = |worker: &Worker| Some(worker.incarnation) == before;
                if before != Some(incarnation) && self.workers.values().any(lives) {
                    self.story.count("failover");
                }
                let holder = Holder { incarnation, heard, sequence: 0 };
                self.oracle.holders.insert(*node, holder);
                self.oracle.heard.insert(*node, *at);
            }
            Record::Resumed { scope: None, .. } => self.oracle.stopped = None,
            Record::Resumed { scope: Some(scope), .. } => {
                self.oracle.closing.remove(scope);
                self.oracle.closed.remove(scope);
                self.oracle.closed.retain(|it| !overlap(&self.fleet, *it, *scope));
            }
            Record::Reclosed { scope, .. } => {
                self.story.count("reclose");
                self.oracle.closing.insert(*scope);
                let is_open = |at: usize| self.oracle.seen[at].level > 0;
                if self.fleet.members(*scope).into_iter().any(is_open) {
                    self.oracle.going_back.insert(*scope);
                }
            }
            Record::NodeAccepted { .. } => self.story.count("node accepted"),
            Record::Retried { job, .. } => {
                self.story.count("retry");
                let mut places = self.fleet.places.iter().zip(&self.oracle.seen);
                if places.any(|(place, seen)| place.job == *job && seen.level > 0) {
                    self.story.count("retry beside open mailboxes");
                }
            }
            Record::Rebuilt { .. } => self.is_rebuilt(),
            Record::Halted { .. } => self.story.count("halt"),
            Record::NodeIsolated { .. } => self.story.count("isolation"),
            Record::Expanded { .. } => self.story.count("expansion"),
            Record::Overridden { .. } => self.story.count("override"),
            Record::EmergencyBegun { .. } => self.story.count("emergency"),
            Record::EmergencyEnded { .. } => self.story.count("emergency over"),
            Record::Finished { .. } => self.story.count("finished"),
            Record::Paused(_) => self.story.count("pause"),
            Record::Frozen(_) => self.story.count("freeze"),
            Record::Thawed(_) => self.story.count("thaw"),
            Record::Aborted(_) => self.story.count("abort"),
            Record::RebuildBegun(_)
            | Record::ClaimsFound { .. }
            | Record::MailboxesFound { .. }
            | Record::NodeRecounted { .. }
            | Record::JobLeased { .. }
            | Record::FactsReported { .. }
            | Record::LevelAllowed { .. } => {}
        }
    }

    /// New records are on a node's disk.
    pub(crate) fn node_has_recorded(&mut self, node: usize) -> Checked {
        let new = {
            let disk = self.nodes[node].disk.lock();
            self.oracle.diaries[node]
                .read(disk.records())
                .map_err(|text| Violation { promise: "I4 one hand", text })?
        };
        for record in new {
            self.story
                .tell(self.now, || format!("n{node} records {}", brief_note(&record)));
            self.follow_note(node, &record);
        }
        Ok(())
    }

    fn follow_note(&mut self, node: usize, record: &Note) {
        self.story.mix(node as u64);
        match record {
            Note::Raised { job, level, ordinals, .. } => {
                for ordinal in ordinals {
                    let seen = self.seen_mut(*job, *ordinal);
                    seen.risen = seen.risen.max(level.get());
                }
            }
            Note::Closed { job, ordinals, .. } => {
                for ordinal in ordinals {
                    let seen = self.seen_mut(*job, *ordinal);
                    (seen.risen, seen.proven) = (0, None);
                    seen.stood.0 = 0;
                }
            }
            Note::HealthNoted { job, generation, healths, .. } => {
                for (ordinal, health) in healths {
                    let level = self.oracle.diaries[node].of(*job, *ordinal).level;
                    let healthy = number(*health) == 1;
                    let seen = self.seen_mut(*job, *ordinal);
                    // What it has shown before, the coordinator may know and not more.
                    if healthy {
                        seen.proven = Some((generation.get(), level));
                    }
                }
            }
            Note::Settled { mailboxes, .. } => {
                if mailboxes.iter().any(|it| it.stamp.is_none()) {
                    self.story.count("quarantine");
                }
            }
            Note::Unsettled { .. } => self.story.count("changed after verification"),
            Note::DialTone { job, step, ordinals, .. } => {
                self.story.count("dial tone");
                for ordinal in ordinals.iter().filter(|_| *step == DialStep::Ended) {
                    self.seen_mut(*job, *ordinal).stood.1 = false;
                }
            }
            Note::JobClaimed { .. }
            | Note::DialToneSwitched { .. }
            | Note::KeptBack { .. } => {}
        }
    }

    fn seen_mut(&mut self, job: JobNumber, ordinal: Ordinal) -> &mut Seen {
        let at = self.fleet.by_place[&(job, ordinal)];
        &mut self.oracle.seen[at]
    }

    /// How far a worker's doors stand open, after each of its turns.
    pub(crate) fn look_at_doors(&mut self, run: u64) -> Checked {
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let node = worker.node;
        // Doors move with records, or in the turn after; now and then they are looked at anyway.
        let records = self.nodes[node].disk.lock().records().len();
        worker.turns += 1;
        if worker.looked_at == (records, records) && worker.turns % 8 != 0 {
            return Ok(());
        }
        worker.looked_at = (worker.looked_at.1, records);
        for at in 0..self.fleet.places.len() {
            if self.fleet.places[at].node != node {
                continue;
            }
            let Some(worker) = self.workers.get(&run) else { return Ok(()) };
            let (level, dial) = worker.driven.standing(&self.fleet.places[at].address);
            let before = self.oracle.seen[at];
            if (level, dial) == (before.level, before.dial) {
                continue;
            }
            self.story.mix(at as u64 * 16 + u64::from(level) * 2 + u64::from(dial));
            let again = level <= before.stood.0 && (!dial || before.stood.1);
            let opens = level > before.level || dial && !before.dial;
            if opens && !again && !self.nodes[node].unaware {
                self.opens(run, at, level, dial)?;
            }
            let seen = &mut self.oracle.seen[at];
            (seen.level, seen.dial) = (level, dial);
            seen.stood = (seen.stood.0.max(level), seen.stood.1 || dial);
        }
        i6_stop::check_closed(self)
    }

    fn opens(&mut self, run: u64, at: usize, level: u8, dial: bool) -> Checked {
        self.story.tell(self.now, || {
            format!(
                "u{at} opens to level {level}{}",
                if dial { ", dial tone" } else { "" }
            )
        });
        i3_verified::check_opening(self, run, at, level)?;
        i4_one_hand::check_opening(self, run, at)?;
        i5_evidence::check_opening(self, at, level)?;
        i6_stop::check_opening(self, run, at)?;
        i7_durable::check_opening(self, at, level, dial)?;
        i1_kept::check_opening(self, at, level)
    }

    /// What hands have done at a node's store.
    pub(crate) fn look_at_touches(&mut self, node: usize) -> Checked {
        let (touches, met) = {
            let mut room = self.nodes[node].room.lock();
            (std::mem::take(&mut room.touches), std::mem::take(&mut room.met))
        };
        for what in met {
            self.story.count(what);
        }
        for touch in touches {
            match touch {
                Touch::Claimed { job, generation } => {
                    self.story.mix(u64::from(job) << 32 | generation);
                }
                Touch::Fenced { job, generation, claimed } => {
                    self.story.count("fenced at the store");
                    self.story.tell(self.now, || {
                        format!("n{node}: job {job} at {generation} fenced by {claimed}")
                    });
                }
                Touch::Changed { key, job, what, .. } => {
                    i9_right_person::check_touch(self, key, job)?;
                    i2_nothing_destroyed::check_touch(self, key, what)?;
                }
                Touch::LetIn { key, generation, level, .. } => {
                    i6_stop::check_let_in(self, key, generation, level)?;
                }
            }
        }
        Ok(())
    }

    /// A worker's report leaves: everything in it must be on its disk.
    pub(crate) fn report_leaves(
        &mut self,
        run: u64,
        request: v1::SyncRequest,
    ) -> Checked {
        let Some(worker) = self.workers.get(&run).filter(|it| !it.is_twin) else {
            return Ok(());
        };
        let node = worker.node;
        let sync = Sync::try_from(request);
        let sync = sync.map_err(|error| Violation {
            promise: "I10 accounted",
            text: format!("a report that cannot be understood: {error}"),
        })?;
        i7_durable::check_report(self, node, &sync)
    }

    /// The coordinator has answered a report.
    pub(crate) fn report_is_acknowledged(
        &mut self,
        request: v1::SyncRequest,
        response: v1::SyncResponse,
    ) -> Checked {
        let (Ok(sync), Ok(orders)) =
            (Sync::try_from(request), Orders::try_from(response))
        else {
            return broken(
                "I10 accounted",
                "orders that cannot be understood".to_owned(),
            );
        };
        i7_durable::check_orders(self, &orders)?;
        self.hear(&sync);
        i5_evidence::check_window(self, &orders)?;
        i6_stop::check_permits(self, &orders)?;
        for order in &orders.jobs {
            let generation = order.generation.get();
            let granted = self.oracle.granted.entry((order.job, generation)).or_default();
            if orders.may_open {
                granted.0 = granted.0.max(order.level.get());
                granted.1 = granted.1.max(order.open_below);
            }
            i5_evidence::check_grant(
                self,
                order.job,
                order.level.get(),
                orders.may_open,
            )?;
        }
        Ok(())
    }

    /// Orders reach a worker: some may tell it to open what is open by then.
    pub(crate) fn orders_arrive(&mut self, node: usize, orders: &v1::SyncResponse) {
        let diary = &self.oracle.diaries[node];
        let again = orders.jobs.iter().any(|order| {
            let job = JobNumber::new(order.job);
            let current = diary.claims.get(&job) == Some(&order.generation);
            let opened = |ordinal: &u32| {
                let ordinal = u16::try_from(*ordinal).map(Ordinal::new);
                let noted = ordinal.map(|ordinal| diary.of(job, ordinal).level);
                noted.is_ok_and(|level| u32::from(level) >= order.level)
            };
            current && order.level > 0 && order.named.iter().any(opened)
        });
        if orders.may_open && again {
            self.story.count("duplicate open");
        }
    }

    fn hear(&mut self, sync: &Sync) {
        let at = Timestamp::from_millis(u64::MAX);
        self.oracle.heard.insert(sync.node, at);
        if let Some(holder) = self.oracle.holders.get_mut(&sync.node)
            && holder.incarnation == sync.incarnation.get()
            && holder.sequence < sync.sequence
        {
            (holder.heard, holder.sequence) = (self.now, sync.sequence);
        }
        for report in &sync.reports {
            let leased = self.oracle.chronicle.leased.get(&report.job);
            if leased != Some(&(report.generation.get(), sync.incarnation.get())) {
                self.story.count("report of an older generation");
                continue;
            }
            for (ordinal, state) in &report.facts {
                if state.preparation == Preparation::Prepared && number(state.health) > 1
                {
                    self.seen_mut(report.job, *ordinal).told_bad =
                        Some(report.generation.get());
                }
            }
        }
    }

    pub(crate) fn report_was_refused(&mut self, _status: &Status) {
        self.story.count("report refused");
    }

    /// What operators see, after each tick.
    pub(crate) fn check_what_is_shown(&mut self) -> Checked {
        let Some(driven) = &self.coordinator.driven else { return Ok(()) };
        let Some(rollout) = driven.rollout() else { return Ok(()) };
        if rollout.rebuilding().is_some() {
            // Nothing is known yet.
            return i6_stop::check_closed(self);
        }
        let moving = matches!(rollout.phase(), Phase::Running | Phase::Finished { .. });
        let closed: Vec<Scope> = self
            .oracle
            .closing
            .iter()
            .filter(|scope| rollout.still_open(**scope) == 0 && self.is_heard(**scope))
            .copied()
            .collect();
        if moving {
            self.oracle.stopped = None;
        } else if let Some(stop) = driven.shown().and_then(|shown| shown.stop) {
            if stop.effective && self.oracle.stopped.is_none() {
                self.oracle.stopped = Some(self.now);
                self.story.tell(self.now, || "the stop is shown as effective".to_owned());
                self.story.count("effective stop");
            }
            if !stop.effective {
                self.story.count("stop waits for a node");
            }
        }
        for scope in closed {
            if self.oracle.going_back.remove(&scope) {
                self.story.count("rollback");
            }
            if self.oracle.closed.insert(scope) {
                self.story.tell(self.now, || format!("{scope:?} is shown as closed"));
            }
        }
        i6_stop::check_closed(self)
    }

    /// Whether every node of a part has been heard since the coordinator was put back, if it was:
    /// what it knew before is of another day.
    fn is_heard(&self, scope: Scope) -> bool {
        self.fleet.members(scope).into_iter().all(|at| {
            let node = Self::number(self.fleet.places[at].node);
            self.oracle.holders.get(&node).is_some_and(|it| it.heard > 0)
        })
    }

    /// Everything is counted and compared.
    pub(crate) fn audit(&mut self) -> Checked {
        self.after(300_000, Event::Audit);
        self.look_at_everything()
    }

    /// The last look, when all is well.
    pub(crate) fn last_look(&mut self) -> Checked {
        self.look_at_everything()?;
        i1_kept::check_end(self)
    }

    fn look_at_everything(&mut self) -> Checked {
        i1_kept::check_all(self)?;
        i2_nothing_destroyed::check_all(self)?;
        i8_everyone::check(self)?;
        i9_right_person::check_all(self)?;
        i10_accounted::check(self)
    }
}

/// Whether two parts have mailboxes in common.
fn overlap(fleet: &Fleet, one: Scope, other: Scope) -> bool {
    let members: BTreeSet<usize> = fleet.members(one).into_iter().collect();
    fleet.members(other).iter().any(|at| members.contains(at))
}

/// A record in a line.
fn brief(record: &Record) -> String {
    let mut text = format!("{record:?}");
    text.truncate(text.char_indices().nth(200).map_or(text.len(), |(at, _)| at));
    text
}

fn brief_note(record: &Note) -> String {
    let mut text = format!("{record:?}");
    text.truncate(text.char_indices().nth(160).map_or(text.len(), |(at, _)| at));
    text
}
