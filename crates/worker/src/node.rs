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

mod dial;
mod dispatch;
mod doors;
mod estranged;
mod inbox;
mod recovery;
mod results;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate_admission::Doors;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::gate::Pulses;
use tidegate_core::holding::{DialStep, Holding, Lease, Record};
use tidegate_core::inventory::Digest;
use tidegate_core::mailbox::Level;
use tidegate_core::places::Places;
use tidegate_core::planted::{self, Bug};
use tidegate_core::rollout::{Account, Vitals};
use tidegate_core::time::Timestamp;
use tidegate_journal::Log;
use tidegate_watchdog::Watchdog;
use tidegate_wire::worker::NodeSettings;
use tidegate_wire::worker_record::{Entry, RolloutJoined, encode_entry};
use tokio::sync::watch;

pub(crate) use inbox::{Beat, Heard, Input, Joined, Remembered};
pub(crate) use results::UNREADABLE;

use crate::description::{Description, Shelf};
use crate::gauges::{self, Gauges};
use crate::hands::Hands;
use crate::herald::Herald;
use crate::pace::Pace;
use crate::store::MailStore;
use doors::ladder;
use estranged::Estranged;
use recovery::Unconfirmed;
use tidegate_clock::Clock;

/// How long the owner sleeps when nothing comes in: soaks end and openings fall due by time alone.
const TICK: Duration = Duration::from_millis(50);

/// The most inputs decided in one batch; they share one flush.
const BATCH_MAX: usize = 64;

/// No turn begins sooner after the one before: what comes in meanwhile shares its flush. Nobody
/// notices so short a time, and flushes are what a busy node's journal costs.
const TURN_EVERY: Duration = Duration::from_millis(4);

/// The most facts in one report: they stay far below the size a message may have.
pub(crate) const FACTS_MAX: usize = 4_096;

/// What the owner is given.
pub(crate) struct Given {
    pub(crate) node: String,
    pub(crate) clock: Clock,
    pub(crate) journal: Box<dyn Log>,
    pub(crate) doors: Doors,
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) store: Arc<dyn MailStore>,
    /// Starts hands, so many of them for preparing.
    pub(crate) hands: Box<dyn Fn(usize) -> Hands + Send>,
    /// Starts listening to the mail system; tells which signals have a source.
    pub(crate) listen: Box<dyn FnMut(&NodeSettings) -> Pulses + Send>,
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
    unconfirmed: Unconfirmed,

    // What goes out.
    hands: Option<Hands>,
    herald: Herald,

    // What it has merely seen since it started.
    settings: Option<NodeSettings>,
    fetched: BTreeMap<JobNumber, Arc<Description>>,
    claiming: BTreeSet<(JobNumber, Generation)>,
    busy: Places,
    deferred: BTreeMap<(JobNumber, Ordinal), Timestamp>,
    lease_until: Timestamp,
    pace: Pace,
    vitals: Vitals,
    /// When the mail system was last heard.
    pulses_at: Timestamp,
    measured_at: Timestamp,
    preparing: usize,
    rising: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    hanging_up: Vec<(JobNumber, Generation, Vec<Ordinal>)>,
    /// Raised on disk, not shown to anybody yet.
    unseen: Places,
    /// Whether the journal knows that everything raised is shown.
    shown: bool,
    /// Whether the journal knows that nobody is in what was closed.
    shut_out: bool,
    estranged: Estranged,
    /// The highest generation of a claim that lay at the store when it started, or of orders
    /// that it has heard since.
    store_claimed: Generation,
    /// Nothing came of some work: another may have claimed the store since.
    looks_for_claims: bool,
    /// When the owner last turned.
    turned_at: Timestamp,
    /// Who is shown how it is.
    shown_to: Option<watch::Sender<Option<Gauges>>>,
}

impl Node {
    /// Replays the journal.
    pub(crate) fn recover(given: Given, inputs: Receiver<Input>) -> anyhow::Result<Self> {
        let now = given.clock.now();
        let mut node = Self {
            herald: Herald::new(given.store.hears()),
            pace: Pace::of(&given.node),
            given,
            inputs,
            holding: Holding::default(),
            rollout: None,
            descriptions: BTreeMap::new(),
            unconfirmed: Unconfirmed::default(),
            hands: None,
            settings: None,
            fetched: BTreeMap::new(),
            claiming: BTreeSet::new(),
            busy: Places::default(),
            deferred: BTreeMap::new(),
            lease_until: Timestamp::default(),
            vitals: Vitals::default(),
            pulses_at: Timestamp::default(),
            measured_at: Timestamp::default(),
            preparing: 0,
            rising: Vec::new(),
            hanging_up: Vec::new(),
            unseen: Places::default(),
            shown: true,
            shut_out: true,
            estranged: Estranged::default(),
            store_claimed: Generation::default(),
            looks_for_claims: false,
            turned_at: now,
            shown_to: None,
        };
        node.replay()?;
        node.doubt_what_is_older()?;
        node.remember_being_turned_away()?;
        node.owe_what_may_be_open()?;
        node.wait_for_deliveries(now);
        node.holding.wake(now);
        node.holding.forget_orders();
        node.publish_all();
        Ok(node)
    }

    /// The same, which leaves its gauges there.
    pub(crate) fn shown_to(mut self, to: watch::Sender<Option<Gauges>>) -> Self {
        self.shown_to = Some(to);
        self
    }

    /// Leaves its gauges for whoever looks.
    fn show(&self) {
        let Some(to) = &self.shown_to else { return };
        let at = self.given.clock.now();
        to.send_replace(Some(Gauges {
            at,
            lease: self.lease_until.since(at),
            turned_away: self.estranged.turned_away,
            jobs: self.holding.jobs().count(),
            tally: self.holding.tally(),
            in_hand: self.busy.len(),
            vitals: Vitals { pace: self.pace.report(), ..self.vitals },
        }));
    }

    /// What outlives a run.
    pub(crate) fn remembered(&self) -> Remembered {
        Remembered {
            rollout: self.rollout,
            claimed_max: self.holding.generation_max(),
            journaled: self.given.journal.newest(),
            store_claimed: self.store_claimed,
        }
    }

    /// What it holds, for whoever turns it.
    pub(crate) fn holding(&self) -> &Holding {
        &self.holding
    }

    /// Runs until told to stop, or until going on would be unsafe.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let mut watchdog = Watchdog::from_environment();
        let mut turned = Instant::now();
        let mut shown: Option<Instant> = None;
        loop {
            if shown.is_none_or(|at| at.elapsed() >= gauges::EVERY) {
                self.show();
                shown = Some(Instant::now());
            }
            watchdog.feed(|| self.line());
            if watchdog.was_asked() {
                self.log_status();
            }
            let mut batch = Vec::new();
            match self.inputs.recv_timeout(TICK) {
                Ok(input) => batch.push(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            std::thread::sleep(TURN_EVERY.saturating_sub(turned.elapsed()));
            turned = Instant::now();
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

    /// What it is doing, on one line, for whoever supervises the program.
    fn line(&self) -> String {
        let now = self.given.clock.now();
        let lease = self.lease_until.since(now).millis();
        let has_lease = match (self.rollout, lease) {
            (None, _) => "knows no rollout".to_owned(),
            (Some(_), 0) => {
                "no lease: opens nothing, answers for what is open".to_owned()
            }
            (Some(_), millis) => format!("lease {} s", millis.div_ceil(1_000)),
        };
        let jobs = self.holding.jobs().count();
        format!("{has_lease}; {jobs} jobs, {} mailboxes in hand", self.busy.len())
    }

    /// Says in the log how everything is, for whoever asks on the machine itself.
    fn log_status(&self) {
        tracing::info!(what = self.line(), "status");
        let held = self.holding.tally();
        tracing::info!(
            claimed = held.claimed,
            waiting = held.waiting,
            open = held.open,
            set_aside = held.set_aside,
            "status of the node"
        );
        for (job, held) in self.holding.jobs() {
            let (job_id, generation) = (job.get(), held.generation().get());
            tracing::info!(job_id, generation, "status of a job");
        }
    }

    /// One turn of the loop: decide and apply everything, record it, then act.
    pub(crate) fn turn(&mut self, batch: Vec<Input>) -> anyhow::Result<bool> {
        let now = self.given.clock.now();
        self.notice_sleep(now);
        let mut entries = Vec::new();
        let mut beats = Vec::new();
        let mut records = Vec::new();
        if !self.shown && self.unseen.is_empty() {
            self.shown = true;
            entries.push(self.noted(&Entry::Shown(now)));
        }
        // Its length tells whether a journal was put back: before somebody has looked at it,
        // it does not grow.
        let is_known = self.settings.is_some() && !self.estranged.turned_away;
        if is_known && !self.shut_out && !self.herald.owes_any() {
            self.shut_out = true;
            entries.push(self.noted(&Entry::ShutOut(now)));
        }
        for input in std::iter::once(Input::Rise).chain(batch) {
            let decided = match input {
                Input::Rise => {
                    let mut records = self.on_rise(now);
                    records.extend(self.on_dial(now));
                    records
                }
                Input::Stop => return Ok(false),
                Input::TurnedAway => {
                    self.shut_all();
                    Vec::new()
                }
                Input::Beat(reply) => {
                    beats.push(reply);
                    Vec::new()
                }
                Input::Joined(joined) => {
                    entries.extend(self.on_joined(*joined)?);
                    Vec::new()
                }
                Input::Heard(heard) => self.on_heard(*heard, now),
                Input::Described { job, told } => {
                    self.fetched.insert(job, Arc::new(Description::new(&told)));
                    Vec::new()
                }
                Input::Done(done) => self.on_done(*done, now)?,
                Input::Felt(heard) => self.on_felt(*heard, now),
            };
            for record in decided {
                self.close_doors(&record);
                self.owe_closed(&record, now);
                let entry = Entry::Record(record);
                entries.push(self.noted(&entry));
                if let Entry::Record(record) = &entry {
                    self.holding.apply(record);
                }
                records.push(entry);
            }
        }
        if planted::is(Bug::ActBeforeRecord) {
            self.act_all(&records);
        }
        if !entries.is_empty() {
            self.given.journal.append(&entries).context("record what happened")?;
        }
        self.compact(now);
        self.act_all(&records);
        for reply in beats {
            // A session that has gone away asks again by itself.
            let _gone = reply.send(self.beat());
        }
        self.dispatch(now);
        Ok(true)
    }

    /// The bytes of an entry about to be recorded and applied.
    fn noted(&mut self, entry: &Entry) -> Vec<u8> {
        self.unconfirmed.note(entry, &self.holding);
        encode_entry(entry)
    }

    fn act_all(&mut self, records: &[Entry]) {
        for entry in records {
            if let Entry::Record(record) = entry {
                self.act(record);
            }
        }
        self.trust_what_is_ordered();
        self.open_doors();
    }

    fn on_joined(&mut self, joined: Joined) -> anyhow::Result<Option<Vec<u8>>> {
        self.check_given_up()?;
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
                notice: joined.settings.notice.clone(),
                dial_services: joined.settings.dial_services.clone(),
            }))),
        };
        self.given.doors.set_ladder(ladder(&joined.settings.ladder));
        self.give_notice(&joined.settings.notice, &joined.settings.dial_services);
        if self.settings.is_none() {
            // Those that shut people out before end when they have.
            let threads = usize::from(joined.settings.prepare_threads);
            self.hands = Some((self.given.hands)(threads));
            self.vitals.pulses = (self.given.listen)(&joined.settings);
            self.pulses_at = self.given.clock.now();
        }
        let put_back = std::mem::take(&mut self.estranged.turned_away);
        let entry = entry.or_else(|| {
            // Only now: while it is turned away, its journal must not grow.
            put_back.then(|| self.noted(&Entry::PutBack(self.given.clock.now())))
        });
        self.rollout = Some(joined.rollout);
        self.settings = Some(joined.settings);
        Ok(entry)
    }

    /// Open mailboxes rise without a look: their users change them all the time.
    fn on_rise(&mut self, now: Timestamp) -> Vec<Record> {
        let lease = self.lease(now);
        let rising = std::mem::take(&mut self.rising);
        let raised = rising.into_iter().filter_map(|(job, generation, ordinals)| {
            self.pace.spend(ordinals.len());
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
        self.pace.take_part(heard.orders.open_millis_per_second);
        let levels = heard.orders.jobs.iter().map(|order| order.level);
        self.pace.open_up_to(levels.max().unwrap_or(Level::HELD));
        let ordered = heard.orders.jobs.iter().map(|order| order.generation).max();
        self.store_claimed = self.store_claimed.max(ordered.unwrap_or_default());
        self.holding.hear(heard.orders);
        self.holding.closings(now)
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
            Record::DialTone { job, step, ordinals, .. } => {
                if *step == DialStep::Begun {
                    self.unseen.extend(ordinals.iter().map(|ordinal| (*job, *ordinal)));
                    self.shown = false;
                }
                let mailboxes = ordinals.len();
                tracing::info!(%job, ?step, mailboxes, "dial tone");
            }
            Record::DialToneSwitched { job, mailboxes, .. } => {
                let imported: u64 = mailboxes.iter().map(|it| it.imported).sum();
                let mailboxes = mailboxes.len();
                tracing::info!(%job, mailboxes, imported, "histories are back");
            }
            Record::KeptBack { kept_back, .. } => {
                let (waves, mailboxes) =
                    (kept_back.waves.len(), kept_back.mailboxes.len());
                tracing::info!(node = kept_back.node, waves, mailboxes, "kept back");
            }
            Record::HealthNoted { job, healths, .. } => {
                tracing::debug!(%job, mailboxes = healths.len(), "health noted");
            }
        }
    }

    fn beat(&mut self) -> Beat {
        let lease = self.lease(self.given.clock.now());
        let claims = self.holding.claims();
        let unknown = claims.map(|(job, _)| job).filter(|job| {
            !self.descriptions.contains_key(job) && !self.fetched.contains_key(job)
        });
        let unknown = unknown.collect();
        let reports = self.holding.report(FACTS_MAX);
        let reports = self.herald.withhold(reports, &self.estranged.kept_out);
        Beat {
            orders_obeyed: self.herald.obeyed(&self.holding, lease),
            account: Account {
                journaled: Some(self.given.journal.newest()),
                store_claimed: self.store_claimed,
                ..self.holding.account(&reports)
            },
            reports,
            vitals: Vitals {
                pace: self.pace.report(),
                pulses: self.pulses(lease.now),
                ..self.vitals
            },
            claimed_max: self.holding.generation_max(),
            fetch: unknown,
        }
    }

    /// What the mail system has shown. Of minutes in which whoever listens says nothing at all
    /// nothing is known.
    fn pulses(&self, now: Timestamp) -> Pulses {
        let every = self.settings.as_ref().map_or(0, |it| it.pulse_limits.every.millis());
        let minutes = now.since(self.pulses_at).millis() / every.max(1);
        let missed = u32::try_from(minutes.saturating_sub(1)).unwrap_or(u32::MAX);
        self.vitals.pulses.unheard_for(missed)
    }

    fn lease(&self, now: Timestamp) -> Lease {
        Lease { now, until: self.lease_until }
    }
}
