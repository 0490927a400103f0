//! The node's owner: one thread that decides, records, applies and then acts.
//!
//! # Invariants
//!
//! * Inputs are taken one after the other by one thread; nothing else touches the state.
//! * What a batch of inputs changes is in the journal before anything outside sees it: before
//!   a mailbox opens, before a report leaves. Only closing is quicker: a mailbox is closed
//!   before its closing is recorded.
//! * A mailbox opens only while the lease runs, however long the journal took.
//! * A failed append or a broken store ends the process: everything acknowledged is on disk,
//!   and the next run starts from there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context as _;
use tidegate_admission::Doors;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{
    Claim, Holding, Lease, Outcome, ProbeTask, Record, Room, Settled,
};
use tidegate_core::inventory::Digest;
use tidegate_core::rollout::{JobReport, Orders, Vitals};
use tidegate_core::time::{Span, Timestamp};
use tidegate_journal::Journal;
use tidegate_mail::Mailbox;
use tidegate_wire::worker::{JobMailbox, NodeSettings};
use tidegate_wire::worker_record::{Entry, RolloutJoined, decode_entry, encode_entry};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::description::Description;
use crate::hands::{Done, Hands, Task};
use crate::herald::{Errand, Herald};
use crate::shown::NotShown;
use crate::store::{LetIn, MailStore, Telling, Told, shut_out};
use crate::tokens::Tokens;

/// How long the owner sleeps when nothing comes in: soaks end and tokens fill by time alone.
const TICK: Duration = Duration::from_millis(50);

/// The most inputs decided in one batch; they share one flush.
const BATCH_MAX: usize = 64;

/// The most mailboxes of one task for the hands: enough to share two flushes of the file
/// system, few enough that a stop is not kept waiting.
const PREPARE_TOGETHER: usize = 24;
const LOOK_TOGETHER: usize = 256;
const PROBE_TOGETHER: usize = 64;
const TELL_TOGETHER: usize = 64;

/// The most mailboxes that the mail system is told of in one turn: what the hands' pool
/// takes, and enough to re-close a node as fast as its mail system can.
const TELL_MAX: usize = 32 * TELL_TOGETHER;

/// The most facts in one report: they stay far below the size a message may have.
const FACTS_MAX: usize = 4_096;

/// A mailbox that could not be prepared for now is left alone for this long.
const DEFER: Span = Span::from_secs(2);

/// What findings are called that come from bytes that could not be read.
pub(crate) const UNREADABLE: &str = "unreadable";

/// How often the free space is asked for.
const MEASURE_EVERY: Span = Span::from_secs(2);

/// What can wake the owner.
#[derive(Debug)]
pub(crate) enum Input {
    /// The coordinator has given the node to this worker.
    Joined(Box<Joined>),
    /// The session is about to report.
    Beat(oneshot::Sender<Beat>),
    /// The coordinator has answered a report.
    Heard(Box<Heard>),
    /// A job's mailboxes.
    Described { job: JobNumber, mailboxes: Vec<JobMailbox> },
    /// Hands are done with something.
    Done(Box<Done>),
    /// Open mailboxes may stand higher; the owner's own reminder.
    Rise,
    /// The program shall stop.
    Stop,
}

/// The coordinator's welcome.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The rollout's name.
    pub(crate) rollout: Digest,
    /// What the policy says about work on a node.
    pub(crate) settings: NodeSettings,
}

/// What shall be told to the coordinator.
#[derive(Debug)]
pub(crate) struct Beat {
    /// The newest orders obeyed.
    pub(crate) orders_obeyed: u64,
    /// Facts not confirmed yet.
    pub(crate) reports: Vec<JobReport>,
    /// How the node feels.
    pub(crate) vitals: Vitals,
    /// The highest generation claimed.
    pub(crate) claimed_max: Generation,
    /// Jobs whose mailboxes must be fetched.
    pub(crate) fetch: Vec<JobNumber>,
}

/// The coordinator's answer to a report.
#[derive(Debug)]
pub(crate) struct Heard {
    /// What was reported and is now recorded.
    pub(crate) confirmed: Vec<JobReport>,
    /// The newest orders.
    pub(crate) orders: Orders,
    /// Until when they hold: counted from when the report was sent.
    pub(crate) until: Timestamp,
}

/// What the owner is given.
pub(crate) struct Given {
    pub(crate) node: String,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    pub(crate) doors: Doors,
    pub(crate) descriptions_dir: PathBuf,
    pub(crate) store: Arc<dyn MailStore>,
    pub(crate) hands: Box<dyn Fn(&NodeSettings) -> Hands + Send>,
}

/// The owner.
pub(crate) struct Node {
    // What it was given.
    given: Given,

    // What comes in.
    inputs: Receiver<Input>,

    // What it remembers.
    holding: Holding,
    rollout: Option<Digest>,
    descriptions: BTreeMap<JobNumber, Arc<Description>>,

    // What goes out.
    hands: Option<Hands>,
    herald: Herald,

    // What it has merely seen since it started.
    settings: Option<NodeSettings>,
    fetched: BTreeMap<JobNumber, Arc<Description>>,
    claiming: BTreeSet<(JobNumber, Generation)>,
    busy: BTreeSet<(JobNumber, Ordinal)>,
    deferred: BTreeMap<(JobNumber, Ordinal), Timestamp>,
    lease_until: Timestamp,
    tokens: Tokens,
    vitals: Vitals,
    measured_at: Timestamp,
    preparing: usize,
    rising: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Raised on disk, not shown to anybody yet.
    unseen: BTreeSet<(JobNumber, Ordinal)>,
    /// Whether the journal knows that everything raised is shown.
    shown: bool,
}

impl Node {
    /// Replays the journal.
    pub(crate) fn recover(given: Given, inputs: Receiver<Input>) -> anyhow::Result<Self> {
        let now = given.clock.now();
        let mut node = Self {
            herald: Herald::new(given.store.hears()),
            given,
            inputs,
            holding: Holding::default(),
            rollout: None,
            descriptions: BTreeMap::new(),
            hands: None,
            settings: None,
            fetched: BTreeMap::new(),
            claiming: BTreeSet::new(),
            busy: BTreeSet::new(),
            deferred: BTreeMap::new(),
            lease_until: Timestamp::default(),
            tokens: Tokens::default(),
            vitals: Vitals::default(),
            measured_at: Timestamp::default(),
            preparing: 0,
            rising: Vec::new(),
            unseen: BTreeSet::new(),
            shown: true,
        };
        node.replay()?;
        node.owe_what_may_be_open()?;
        node.holding.wake(now);
        node.holding.forget_orders();
        node.publish_all();
        Ok(node)
    }

    fn replay(&mut self) -> anyhow::Result<()> {
        let mut entries = Vec::new();
        for entry in self.given.journal.replay() {
            entries.push(entry.context("read the journal")?.payload);
        }
        let mut not_shown = NotShown::default();
        for payload in entries {
            match decode_entry(&payload).context("understand the journal")? {
                Entry::Joined(joined) => {
                    anyhow::ensure!(
                        joined.node == self.given.node,
                        "this state belongs to node `{}`, not `{}`; check `node` in the \
                         configuration, or give this node a state directory of its own",
                        joined.node,
                        self.given.node
                    );
                    self.given.doors.set_ladder(ladder(&joined.ladder));
                    self.rollout = Some(joined.rollout);
                }
                Entry::Record(record) => {
                    if let Record::JobClaimed { job, description, .. } = &record {
                        self.describe(*job, *description)?;
                    }
                    not_shown.note(&record, &self.holding);
                    self.holding.apply(&record);
                }
                Entry::Shown(_) => not_shown = NotShown::default(),
            }
        }
        self.unseen = not_shown.0;
        self.shown = self.unseen.is_empty();
        Ok(())
    }

    fn describe(&mut self, job: JobNumber, digest: [u8; 32]) -> anyhow::Result<()> {
        if !self.descriptions.contains_key(&job) {
            let read = Description::read(&self.given.descriptions_dir, job, digest);
            let description =
                read.with_context(|| format!("read the mailboxes of {job}"))?;
            self.descriptions.insert(job, Arc::new(description));
        }
        Ok(())
    }

    /// Whoever may be let in and is held on record was being let in when the program ended.
    fn owe_what_may_be_open(&mut self) -> anyhow::Result<()> {
        let mut let_in: BTreeMap<u64, LetIn> = self
            .given
            .store
            .maybe_open()
            .into_iter()
            .map(|it| (it.mailbox.key, it))
            .collect();
        if let_in.is_empty() {
            return Ok(());
        }
        for (job, description) in &self.descriptions {
            let Some(held) = self.holding.job(*job) else { continue };
            for (ordinal, state) in (0..).map(Ordinal::new).zip(held.states()) {
                let mailbox = description.mailbox(ordinal, true);
                let known = mailbox.and_then(|it| let_in.remove(&it.key));
                if known.is_some_and(|known| known.level > state.level) {
                    self.herald.owe(*job, &[ordinal]);
                }
            }
        }
        shut_out(&*self.given.store, let_in.into_values())
    }

    /// The rollout of the journal, and the highest generation claimed under it.
    pub(crate) fn remembered(&self) -> (Option<Digest>, Generation) {
        (self.rollout, self.holding.generation_max())
    }

    /// Runs until told to stop, or until going on would be unsafe.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        loop {
            let mut batch = Vec::new();
            match self.inputs.recv_timeout(TICK) {
                Ok(input) => batch.push(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while batch.len() < BATCH_MAX
                && let Ok(input) = self.inputs.try_recv()
            {
                batch.push(input);
            }
            if !self.turn(batch)? {
                return Ok(());
            }
        }
    }

    /// One turn of the loop: decide and apply everything, record it, then act.
    fn turn(&mut self, batch: Vec<Input>) -> anyhow::Result<bool> {
        let now = self.given.clock.now();
        let mut entries = Vec::new();
        let mut beats = Vec::new();
        let mut records = Vec::new();
        if !self.shown && self.unseen.is_empty() {
            self.shown = true;
            entries.push(encode_entry(&Entry::Shown(now)));
        }
        for input in std::iter::once(Input::Rise).chain(batch) {
            let decided = match input {
                Input::Rise => self.on_rise(now),
                Input::Stop => return Ok(false),
                Input::Beat(reply) => {
                    beats.push(reply);
                    Vec::new()
                }
                Input::Joined(joined) => {
                    entries.extend(self.on_joined(*joined)?);
                    Vec::new()
                }
                Input::Heard(heard) => self.on_heard(*heard, now),
                Input::Described { job, mailboxes } => {
                    self.fetched.insert(job, Arc::new(Description::new(mailboxes)));
                    Vec::new()
                }
                Input::Done(done) => self.on_done(*done, now)?,
            };
            for record in decided {
                self.close_doors(&record);
                if let Record::Closed { job, ordinals, .. } = &record {
                    self.herald.owe(*job, ordinals);
                }
                self.holding.apply(&record);
                let entry = Entry::Record(record);
                entries.push(encode_entry(&entry));
                records.push(entry);
            }
        }
        if !entries.is_empty() {
            self.given.journal.append(&entries).context("record what happened")?;
        }
        for entry in &records {
            if let Entry::Record(record) = entry {
                self.act(record);
            }
        }
        self.open_doors();
        for reply in beats {
            // A session that has gone away asks again by itself.
            let _gone = reply.send(self.beat());
        }
        self.dispatch(now);
        Ok(true)
    }

    fn on_joined(&mut self, joined: Joined) -> anyhow::Result<Option<Vec<u8>>> {
        self.holding.forget_orders();
        self.herald.forget_orders();
        let entry = match &self.rollout {
            Some(rollout) => {
                anyhow::ensure!(
                    *rollout == joined.rollout,
                    "this state belongs to rollout {rollout}, the coordinator runs {}",
                    joined.rollout
                );
                None
            }
            None => Some(encode_entry(&Entry::Joined(RolloutJoined {
                rollout: joined.rollout,
                node: self.given.node.clone(),
                ladder: joined.settings.ladder.clone(),
            }))),
        };
        self.given.doors.set_ladder(ladder(&joined.settings.ladder));
        if self.hands.is_none() {
            self.hands = Some((self.given.hands)(&joined.settings));
        }
        self.rollout = Some(joined.rollout);
        self.settings = Some(joined.settings);
        Ok(entry)
    }

    /// Open mailboxes rise without a look: their users change them all the time.
    fn on_rise(&mut self, now: Timestamp) -> Vec<Record> {
        let lease = self.lease(now);
        let rising = std::mem::take(&mut self.rising);
        let raised = rising.into_iter().filter_map(|(job, generation, ordinals)| {
            self.tokens.spend(ordinals.len());
            self.holding.raised(job, generation, &ordinals, lease)
        });
        let records = raised.collect();
        self.tell_first(records)
    }

    /// Of `records` those that need not wait for the mail system; the others come when it
    /// has been told.
    fn tell_first(&mut self, mut records: Vec<Record>) -> Vec<Record> {
        for errand in self.herald.take(&mut records) {
            self.send(errand);
        }
        records
    }

    fn on_heard(&mut self, heard: Heard, now: Timestamp) -> Vec<Record> {
        self.lease_until = self.lease_until.max(heard.until);
        self.holding.confirmed(&heard.confirmed);
        self.holding.hear(heard.orders);
        self.holding.closings(now)
    }

    fn on_done(&mut self, done: Done, now: Timestamp) -> anyhow::Result<Vec<Record>> {
        let lease = Lease { now, until: self.lease_until };
        let records = match done {
            Done::Broken(error) => return Err(error),
            Done::Measured(share) => {
                self.vitals.disk_free = share;
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
                self.claiming.remove(&(job, generation));
                Vec::new()
            }
            Done::Settled { job, generation, tried, results } => {
                self.preparing = self.preparing.saturating_sub(1);
                for ordinal in &tried {
                    self.busy.remove(&(job, *ordinal));
                    if !results.iter().any(|result| result.ordinal == *ordinal) {
                        self.deferred.insert((job, *ordinal), now + DEFER);
                    }
                }
                self.count_read_errors(&results);
                self.holding.settled(job, generation, results, now).into_iter().collect()
            }
            Done::Looked { job, generation, tried, looks } => {
                for ordinal in &tried {
                    self.busy.remove(&(job, *ordinal));
                    if !looks.iter().any(|(looked, _)| looked == ordinal) {
                        self.deferred.insert((job, *ordinal), now + DEFER);
                    }
                }
                let records = self.holding.looked(job, generation, &looks, lease);
                self.tell_first(records)
            }
            Done::Told { telling, told } => self.on_told(&telling, &told, lease),
            Done::Probed { tried, results } => {
                for task in &tried {
                    self.busy.remove(&(task.job, task.ordinal));
                    if !results.iter().any(|(probed, ..)| probed == task) {
                        self.deferred.insert((task.job, task.ordinal), now + DEFER);
                    }
                }
                self.on_probed(results, now)
            }
        };
        Ok(records)
    }

    fn on_told(
        &mut self,
        telling: &Telling,
        told: &[(Ordinal, Told)],
        lease: Lease,
    ) -> Vec<Record> {
        let job = telling.under.job;
        for (ordinal, told) in told {
            self.busy.remove(&(job, *ordinal));
            if *told != Told::Done {
                self.deferred.insert((job, *ordinal), lease.now + DEFER);
            }
        }
        self.herald.told(telling, told, &mut self.holding, lease)
    }

    fn count_read_errors(&mut self, results: &[Settled]) {
        let unreadable = |result: &&Settled| {
            result.findings.iter().any(|finding| finding.code == UNREADABLE)
        };
        let count = results.iter().filter(unreadable).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.vitals.read_errors = self.vitals.read_errors.saturating_add(count);
    }

    fn on_probed(
        &mut self,
        results: Vec<(ProbeTask, tidegate_core::holding::Probed, Option<Duration>)>,
        now: Timestamp,
    ) -> Vec<Record> {
        let slow_after = self
            .settings
            .as_ref()
            .map_or(u64::MAX, |settings| settings.slow_after.millis());
        let mut latencies = Vec::new();
        let mut by_job: BTreeMap<(JobNumber, Generation), Vec<_>> = BTreeMap::new();
        for (task, probed, latency) in results {
            self.vitals.probes += 1;
            let slow =
                latency.is_none_or(|took| took.as_millis() > u128::from(slow_after));
            self.vitals.probes_slow += u32::from(slow);
            let unreadable = matches!(probed.outcome, Outcome::Unreadable(_));
            self.vitals.read_errors += u32::from(unreadable);
            latencies.extend(latency);
            by_job.entry((task.job, task.generation)).or_default().push(probed);
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

    /// Closing does not wait for the disk: a closed door is always safe.
    fn close_doors(&self, record: &Record) {
        if let Record::Closed { job, ordinals, .. } = record {
            self.set_doors(*job, ordinals, 0);
        }
    }

    /// What follows from a record that is on disk.
    fn act(&mut self, record: &Record) {
        match record {
            Record::Raised { job, level, ordinals, .. } => {
                self.unseen.extend(ordinals.iter().map(|ordinal| (*job, *ordinal)));
                self.shown = false;
                tracing::info!(%job, %level, mailboxes = ordinals.len(), "mailboxes raised");
            }
            Record::Closed { job, ordinals, .. } => {
                tracing::info!(%job, mailboxes = ordinals.len(), "mailboxes closed");
            }
            Record::JobClaimed { job, generation, mailboxes, .. } => {
                self.fetched.remove(job);
                self.publish(*job);
                tracing::info!(%job, %generation, mailboxes, "job claimed");
            }
            Record::Settled { job, mailboxes, .. } => {
                let aside = mailboxes.iter().filter(|m| m.stamp.is_none()).count();
                tracing::info!(%job, mailboxes = mailboxes.len(), aside, "mailboxes settled");
            }
            Record::Unsettled { job, ordinals, .. } => {
                tracing::warn!(%job, mailboxes = ordinals.len(), "mailboxes had changed");
            }
            Record::HealthNoted { job, healths, .. } => {
                tracing::debug!(%job, mailboxes = healths.len(), "health noted");
            }
        }
    }

    /// Opens what was raised, if that is still permitted now that it is on disk; the rest
    /// waits for the next word of the coordinator.
    fn open_doors(&mut self) {
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

    fn set_doors(&self, job: JobNumber, ordinals: &[Ordinal], level: u8) {
        let Some(description) = self.descriptions.get(&job) else { return };
        let addresses =
            ordinals.iter().filter_map(|ordinal| description.address(*ordinal));
        self.given.doors.set(addresses.map(|address| (address.into(), level)));
    }

    fn publish_all(&self) {
        let jobs: Vec<JobNumber> =
            self.holding.jobs().map(|(number, _)| number).collect();
        for job in jobs {
            self.publish(job);
        }
    }

    fn publish(&self, job: JobNumber) {
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
                    .map(|address| (address.into(), s.level.get()))
            });
        self.given.doors.set(levels);
    }

    fn beat(&mut self) -> Beat {
        let lease = self.lease(self.given.clock.now());
        let nothing = Room::default();
        let claims = self.holding.work(lease, Span::ZERO, nothing, &|_, _| false).claim;
        let unknown = claims.into_iter().map(|(job, _)| job).filter(|job| {
            !self.descriptions.contains_key(job) && !self.fetched.contains_key(job)
        });
        Beat {
            orders_obeyed: self.herald.obeyed(&self.holding, lease),
            reports: self.herald.withhold(self.holding.report(FACTS_MAX)),
            vitals: self.vitals,
            claimed_max: self.holding.generation_max(),
            fetch: unknown.collect(),
        }
    }

    fn lease(&self, now: Timestamp) -> Lease {
        Lease { now, until: self.lease_until }
    }

    /// Gives the hands what they have room for.
    fn dispatch(&mut self, now: Timestamp) {
        let Some(settings) = self.settings.clone() else { return };
        self.deferred.retain(|_, until| *until > now);
        self.tokens.fill(settings.open_per_second, now);
        let threads = usize::from(settings.prepare_threads).max(1);
        let room = Room {
            // One batch beyond those in hand, so that no thread waits for the owner.
            prepare: (threads + 1).saturating_sub(self.preparing) * PREPARE_TOGETHER,
            recheck: LOOK_TOGETHER,
            open: self.tokens.whole().min(LOOK_TOGETHER),
            probe: PROBE_TOGETHER * 2,
        };
        let (busy, deferred, herald) = (&self.busy, &self.deferred, &self.herald);
        let waits = |job, ordinal| {
            busy.contains(&(job, ordinal)) || deferred.contains_key(&(job, ordinal))
        };
        let errands = herald.errands(&self.holding, TELL_MAX, &waits);
        let soak = settings.soak;
        let work = self.holding.work(self.lease(now), soak, room, &|job, ordinal| {
            waits(job, ordinal) || herald.owes(job, ordinal)
        });
        for errand in errands {
            self.send(errand);
        }
        for (job, generation) in work.claim {
            self.claim(job, generation);
        }
        for (job, generation, ordinals) in work.prepare {
            for some in ordinals.chunks(PREPARE_TOGETHER) {
                let mailboxes = self.mailboxes(job, some);
                if self.give(job, some, Task::Prepare { job, generation, mailboxes }) {
                    self.preparing += 1;
                }
            }
        }
        for (job, generation, ordinals) in work.recheck {
            let mailboxes = self.mailboxes(job, &ordinals);
            self.give(job, &ordinals, Task::Look { job, generation, mailboxes });
        }
        for (job, generation, ordinals) in work.open {
            let mailboxes = self.mailboxes(job, &ordinals);
            if self.give(job, &ordinals, Task::Look { job, generation, mailboxes }) {
                self.tokens.spend(ordinals.len());
            }
        }
        self.probe(&work.probe);
        if now.since(self.measured_at) >= MEASURE_EVERY {
            self.measured_at = now;
            if let Some(hands) = &self.hands {
                // A full pool measures another time.
                let _full = hands.give(Task::Measure);
            }
        }
        self.rising = work.raise;
    }

    fn claim(&mut self, job: JobNumber, generation: Generation) {
        let description = self.descriptions.get(&job).or_else(|| self.fetched.get(&job));
        let Some(description) = description.map(Arc::clone) else { return };
        if self.claiming.contains(&(job, generation)) {
            return;
        }
        let given = self.hands.as_ref().is_some_and(|hands| {
            hands.give(Task::Claim { job, generation, description }).is_ok()
        });
        if given {
            self.claiming.insert((job, generation));
        }
    }

    fn probe(&mut self, tasks: &[ProbeTask]) {
        for some in tasks.chunks(PROBE_TOGETHER) {
            let with_mailboxes = some.iter().filter_map(|task| {
                let mailbox =
                    self.descriptions.get(&task.job)?.mailbox(task.ordinal, true)?;
                Some((*task, mailbox))
            });
            let tasks: Vec<(ProbeTask, Mailbox)> = with_mailboxes.collect();
            let Some(hands) = &self.hands else { return };
            if hands.give(Task::Probe { tasks }).is_ok() {
                self.busy.extend(some.iter().map(|task| (task.job, task.ordinal)));
            }
        }
    }

    /// Lets the mail system be told; what the hands have no room for comes again.
    fn send(&mut self, errand: Errand) {
        let Errand { under, level, ordinals, recorded } = errand;
        let rungs = self.settings.iter().flat_map(|settings| &settings.ladder);
        let services: Vec<String> =
            rungs.take(level.index()).flat_map(|rung| rung.services.clone()).collect();
        for some in ordinals.chunks(TELL_TOGETHER) {
            let (services, until) = (services.clone(), self.lease_until);
            let telling = Telling { under, level, services, recorded, until };
            let mailboxes = self.mailboxes(under.job, some);
            if self.give(under.job, some, Task::Tell { telling, mailboxes }) {
                let ordinals = some.to_vec();
                self.herald.sent(&Errand { under, level, ordinals, recorded });
            }
        }
    }

    fn mailboxes(&self, job: JobNumber, ordinals: &[Ordinal]) -> Vec<(Ordinal, Mailbox)> {
        let (Some(held), Some(description)) =
            (self.holding.job(job), self.descriptions.get(&job))
        else {
            return Vec::new();
        };
        let known = ordinals.iter().filter_map(|ordinal| {
            let served = held.was_served(*ordinal);
            description.mailbox(*ordinal, served).map(|mailbox| (*ordinal, mailbox))
        });
        known.collect()
    }

    fn give(&mut self, job: JobNumber, ordinals: &[Ordinal], task: Task) -> bool {
        let given = self.hands.as_ref().is_some_and(|hands| hands.give(task).is_ok());
        if given {
            self.busy.extend(ordinals.iter().map(|ordinal| (job, *ordinal)));
        }
        given
    }
}

fn ladder(rungs: &[tidegate_core::policy::Rung]) -> tidegate_admission::Ladder {
    let rungs = rungs.iter().map(|rung| tidegate_admission::Rung {
        name: rung.name.clone(),
        services: rung.services.clone(),
    });
    tidegate_admission::Ladder { rungs: rungs.collect() }
}
