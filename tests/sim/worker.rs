//! Worker: its process on its node, its session, and its hands.
//!
//! # Invariants
//!
//! * A process that died comes back with nothing but its disk.
//! * An answer that comes after its call was given up is not heard, as on a connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_core::fleet::{Incarnation, JobNumber};
use tidegate_wire::hop::{from_bytes, to_bytes};
use tidegate_worker::driven::{
    self, Driven, Kind, Next, Outstanding, Parts, Work, Worked,
};
use tonic::Status;

use crate::coordinator::{From, Question, Rpc};
use crate::world::{Checked, Event, World, broken};

/// A call is given up after so long.
const CALL_TIMEOUT: u64 = 2_000;

/// Joining is tried again after this, then twice as long each time, up to the maximum; more or
/// less by half, as workers do.
const JOIN_AGAIN: u64 = 100;
const JOIN_AGAIN_MAX: u64 = 2_000;

/// A worker with nothing to do looks at the time as often.
const IDLE: u64 = 7_000;

/// One with something to do looks again so soon.
const BUSY: u64 = 300;

/// How long before and after the end of its lease it is awake, and how often it looks then.
const LEASE_ENDS: u64 = 1_000;
const AWAKE: u64 = 400;

/// One run of a worker.
pub(crate) struct Worker {
    pub(crate) node: usize,
    pub(crate) driven: Driven,
    pub(crate) frozen_until: u64,
    /// A second one, on a copy of the disk.
    pub(crate) is_twin: bool,
    /// When its newest answered report was sent, in true time.
    pub(crate) heard_sent: Option<u64>,
    pub(crate) incarnation: u64,
    joined: bool,
    /// How often it has tried in vain.
    knocked: u32,
    session: u64,
    beat: u64,
    calls: BTreeMap<u64, Waiting>,
    calls_made: u64,
    turn_at: u64,
    /// Records on the disk when doors were looked at last, and the time before.
    pub(crate) looked_at: (usize, usize),
    pub(crate) turns: u64,
    /// It stops for so long when its next report is on its way.
    pub(crate) stops_in_call: Option<u64>,
}

#[expect(clippy::large_enum_variant, reason = "one call of each run at a time")]
enum Waiting {
    Join,
    Sync(Outstanding, u64, Vec<(JobNumber, Vec<u8>)>),
    Fetch(JobNumber),
}

/// An answer on its way.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Message(Arc<[u8]>),
    Parts(Vec<Arc<[u8]>>),
    Refused(Status),
}

type Descriptions = BTreeMap<(JobNumber, [u8; 32]), Vec<u8>>;

/// Descriptions of jobs on a node's disk, and the note that it was turned away.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    descriptions: Mutex<Descriptions>,
    turned_away: AtomicBool,
}

impl Shelf {
    /// The same with the note as it was.
    pub(crate) fn put_back(&self, turned_away: bool) {
        self.turned_away.store(turned_away, Ordering::Relaxed);
    }

    pub(crate) fn has_note(&self) -> bool {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// What is found on a copy of the disk.
    fn copied(&self) -> Self {
        let kept = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptions = Mutex::new(kept.clone());
        Self { descriptions, turned_away: AtomicBool::new(self.has_note()) }
    }
}

impl driven::Shelf for Shelf {
    fn keep(&self, job: JobNumber, digest: [u8; 32], bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert((job, digest), bytes.to_vec());
        Ok(())
    }

    fn read(&self, job: JobNumber, digest: [u8; 32]) -> io::Result<Vec<u8>> {
        let kept = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(job, digest)).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn note_turned_away(&self, turned_away: bool) -> io::Result<()> {
        self.put_back(turned_away);
        Ok(())
    }

    fn was_turned_away(&self) -> io::Result<bool> {
        Ok(self.has_note())
    }
}

impl World {
    pub(crate) fn worker_start(&mut self, node: usize) -> Checked {
        if self.nodes[node].run.is_some() {
            return Ok(());
        }
        let disk = self.nodes[node].disk.clone();
        match self.start_on(node, &disk, false) {
            Ok(run) => {
                self.nodes[node].run = Some(run);
                self.node_has_recorded(node)?;
                self.after_turn(run, Ok(()))?;
                self.worker_joins(run)
            }
            // Then it is started again, until the mail system does.
            Err(error) if format!("{error:#}").contains("does not close them") => {
                self.story.count("mail system keeps a worker from starting");
                self.after(5_000, Event::WorkerStart { node });
                Ok(())
            }
            Err(error) => {
                broken("I7", format!("worker of n{node} cannot start: {error:#}"))
            }
        }
    }

    /// Starts a process on a disk.
    pub(crate) fn start_on(
        &mut self,
        node: usize,
        disk: &crate::disk::SharedDisk,
        is_twin: bool,
    ) -> anyhow::Result<u64> {
        self.show_time(Some(node));
        self.runs += 1;
        let run = self.runs;
        let incarnation = self.people.next() | 1;
        let it = &self.nodes[node];
        let driven = Driven::recover(Parts {
            node: self.fleet.nodes[node].clone(),
            incarnation: Incarnation::new(incarnation),
            journal: disk.open(&it.clock.dial),
            shelf: if is_twin { Arc::new(it.shelf.copied()) } else { it.shelf.clone() },
            store: it
                .room
                .open(format!("{incarnation:016x}"), Arc::clone(&it.clock.dial)),
            time: Arc::clone(&it.clock.dial) as _,
        })?;
        let worker = Worker {
            node,
            driven,
            frozen_until: 0,
            is_twin,
            heard_sent: None,
            incarnation,
            joined: false,
            knocked: 0,
            session: 0,
            beat: self.fleet.beat,
            calls: BTreeMap::new(),
            calls_made: 0,
            turn_at: u64::MAX,
            looked_at: (usize::MAX, usize::MAX),
            turns: 0,
            stops_in_call: None,
        };
        self.workers.insert(run, worker);
        self.story.mix(run);
        self.story.tell(self.now, || format!("n{node}: worker starts, run {run}"));
        Ok(run)
    }

    /// The process is gone, whatever it was at.
    pub(crate) fn worker_dies(&mut self, run: u64, down: u64, why: &str) {
        let Some(worker) = self.workers.remove(&run) else { return };
        let node = worker.node;
        self.story.tell(self.now, || format!("n{node}: worker run {run} ends: {why}"));
        if self.nodes[node].run == Some(run) {
            self.nodes[node].run = None;
            self.story.count("worker restart");
            self.after(down, Event::WorkerStart { node });
        }
    }

    pub(crate) fn worker_end(&mut self, run: u64) -> Checked {
        self.worker_dies(run, 1_000, "stopped");
        Ok(())
    }

    pub(crate) fn worker_turn(&mut self, run: u64) -> Checked {
        let (now, Some(worker)) = (self.now, self.workers.get_mut(&run)) else {
            return Ok(());
        };
        if worker.turn_at > now {
            return Ok(());
        }
        self.turn(run)
    }

    fn turn(&mut self, run: u64) -> Checked {
        let Some(node) = self.workers.get(&run).map(|it| it.node) else { return Ok(()) };
        self.show_time(Some(node));
        let turned = self.workers.get_mut(&run).map(|it| it.driven.turn());
        self.after_turn(run, turned.unwrap_or(Ok(())))
    }

    /// What follows from a turn of a worker's owner: what it has recorded and shown is looked at,
    /// and its hands take their work.
    fn after_turn(&mut self, run: u64, turned: anyhow::Result<()>) -> Checked {
        let Some(worker) = self.workers.get(&run) else { return Ok(()) };
        let (node, is_twin) = (worker.node, worker.is_twin);
        if !is_twin {
            let (waited, met) = {
                let mut disk = self.nodes[node].disk.lock();
                (disk.take_waited(), std::mem::take(&mut disk.met))
            };
            for what in met {
                self.story.count(what);
            }
            if let Some(worker) = self.workers.get_mut(&run) {
                worker.frozen_until = worker.frozen_until.max(self.now + waited);
            }
            self.node_has_recorded(node)?;
            self.look_at_doors(run)?;
        }
        if let Err(error) = turned {
            let text = format!("{error:#}");
            if text.contains("is claimed at") {
                self.story.count("fenced worker");
            }
            let down = 1_000 + self.people.below(20_000);
            self.worker_dies(run, down, &text);
            return Ok(());
        }
        let mut given = 0;
        while let Some(work) = self.workers.get_mut(&run).and_then(|it| it.driven.work())
        {
            if work.kind() == Kind::Measure {
                // What it finds is told with the next turn.
                if let Some(worker) = self.workers.get_mut(&run) {
                    let worked = worker.driven.carry_out(work);
                    worker.driven.worked(worked);
                }
                continue;
            }
            given += 1;
            let begins = self.time_of(work.kind());
            self.after(begins, Event::Work { run, work });
        }
        let idle = if given > 0 { BUSY } else { IDLE };
        let (now, lease) = (self.now, self.fleet.lease);
        if let Some(worker) = self.workers.get_mut(&run)
            && let at = worker.looks_again(now, idle, lease)
            && (worker.turn_at <= self.now || worker.turn_at > at)
        {
            worker.turn_at = at;
            self.at(at, Event::Turn { run });
        }
        Ok(())
    }

    fn time_of(&mut self, kind: Kind) -> u64 {
        match kind {
            Kind::Claim => self.hands.between(5, 200),
            Kind::Prepare => self.hands.between(300, 9_000),
            Kind::Quick | Kind::Measure => self.hands.between(1, 60),
            Kind::Dial => self.hands.between(20, 700),
            Kind::Tell => self.hands.between(5, 900),
        }
    }

    pub(crate) fn hand_works(&mut self, run: u64, work: Work) -> Checked {
        let Some(node) = self.workers.get(&run).map(|it| it.node) else { return Ok(()) };
        self.show_time(Some(node));
        let Some(worker) = self.workers.get(&run) else { return Ok(()) };
        let worked = worker.driven.carry_out(work);
        self.look_at_touches(node)?;
        if self.nodes[node].room.lock().is_cut {
            self.power_goes(node);
            return Ok(());
        }
        // What was done may be told late: a hand has to get the processor too.
        let late = self.hands.one_in(8);
        let lasts =
            if late { self.hands.between(100, 6_000) } else { self.hands.between(1, 40) };
        let stuck = self.nodes[node].stuck;
        if stuck > 0 {
            self.story.count("hands stuck");
        }
        let lasts = lasts + stuck;
        self.after(lasts, Event::Worked { run, worked });
        Ok(())
    }

    pub(crate) fn hand_is_done(&mut self, run: u64, worked: Worked) -> Checked {
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        worker.driven.worked(worked);
        self.turn(run)
    }

    pub(crate) fn worker_joins(&mut self, run: u64) -> Checked {
        let Some(node) = self.workers.get(&run).map(|it| it.node) else { return Ok(()) };
        self.show_time(Some(node));
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        if worker.joined {
            return Ok(());
        }
        let request = to_bytes(&worker.driven.join());
        let call = worker.called(Waiting::Join);
        self.call(run, call, Rpc::Join, request);
        Ok(())
    }

    /// Whoever has waited for the disk calls only then.
    fn call(&mut self, run: u64, call: u64, rpc: Rpc, request: Vec<u8>) {
        let Some(worker) = self.workers.get(&run) else { return };
        let cut = self.nodes[worker.node].link.up_cut && !worker.is_twin;
        self.ask(Question { from: From::Worker { run, call }, rpc }, request, cut);
        self.after(self.waits_for_disk(run) + CALL_TIMEOUT, Event::Late { run, call });
    }

    /// How long a worker still waits for its disk before it goes on: what it is about to say
    /// leaves no earlier.
    pub(crate) fn waits_for_disk(&self, run: u64) -> u64 {
        let frozen_until = self.workers.get(&run).map_or(0, |it| it.frozen_until);
        frozen_until.saturating_sub(self.now)
    }

    pub(crate) fn worker_beats(&mut self, run: u64, session: u64) -> Checked {
        let Some(worker) = self.workers.get(&run) else { return Ok(()) };
        if worker.session != session || !worker.joined {
            return Ok(());
        }
        let (node, beat) = (worker.node, worker.beat);
        self.show_time(Some(node));
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let report = match worker.driven.report() {
            Ok(report) => report,
            Err(error) => return self.after_turn(run, Err(error)),
        };
        self.after_turn(run, Ok(()))?;
        self.after(beat, Event::Beat { run, session });
        let Some(report) = report else { return Ok(()) };
        let fetch = report.fetch.iter().map(|(job, it)| (*job, to_bytes(it))).collect();
        let request = to_bytes(&report.request);
        self.report_leaves(run, report.request)?;
        let sent = self.now + self.waits_for_disk(run);
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let call = worker.called(Waiting::Sync(report.sent, sent, fetch));
        let stops = worker.stops_in_call.take();
        self.call(run, call, Rpc::Sync, request);
        if let (Some(stopped), Some(worker)) = (stops, self.workers.get_mut(&run)) {
            worker.frozen_until = worker.frozen_until.max(sent + stopped);
            self.story.count("stopped in a call");
        }
        Ok(())
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn worker_waits_no_longer(&mut self, run: u64, call: u64) -> Checked {
        let retry = self.knocks_again(run);
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let given_up = worker.calls.remove(&call);
        if !worker.joined && matches!(given_up, Some(Waiting::Join)) {
            self.after(retry, Event::Join { run });
        }
        Ok(())
    }

    pub(crate) fn worker_hears(
        &mut self,
        run: u64,
        call: u64,
        answer: Answer,
    ) -> Checked {
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let node = worker.node;
        let Some(waiting) = worker.calls.remove(&call) else { return Ok(()) };
        self.show_time(Some(node));
        match (waiting, answer) {
            (Waiting::Join, Answer::Message(bytes)) => self.is_joined(run, &bytes),
            (Waiting::Join, Answer::Refused(status)) => self.is_not_joined(run, &status),
            (Waiting::Sync(sent, at, fetch), Answer::Message(bytes)) => {
                self.has_orders(run, (sent, at), &bytes)?;
                for (job, request) in fetch {
                    let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
                    let call = worker.called(Waiting::Fetch(job));
                    self.call(run, call, Rpc::Fetch, request);
                }
                Ok(())
            }
            (Waiting::Sync(..), Answer::Refused(status)) => self.is_refused(run, &status),
            (Waiting::Fetch(job), Answer::Parts(parts)) => {
                let parts = parts.iter().filter_map(|part| from_bytes(part).ok());
                let parts = parts.collect();
                if let Some(worker) = self.workers.get_mut(&run) {
                    worker.driven.fetched(job, parts);
                }
                self.turn(run)
            }
            (Waiting::Join | Waiting::Sync(..), Answer::Parts(_))
            | (Waiting::Fetch(_), Answer::Message(_) | Answer::Refused(_)) => Ok(()),
        }
    }

    fn is_joined(&mut self, run: u64, bytes: &[u8]) -> Checked {
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let Ok(answer) = from_bytes(bytes) else { return Ok(()) };
        if let Err(error) = worker.driven.joined(answer) {
            return self.after_turn(run, Err(error));
        }
        worker.joined = true;
        worker.knocked = 0;
        worker.session += 1;
        let (session, node) = (worker.session, worker.node);
        self.story.tell(self.now, || format!("n{node}: run {run} has joined"));
        self.turn(run)?;
        self.after(0, Event::Beat { run, session });
        Ok(())
    }

    /// After how long a worker that could not join tries again.
    fn knocks_again(&mut self, run: u64) -> u64 {
        let tries = self.workers.get_mut(&run).filter(|it| !it.joined).map_or(0, |it| {
            it.knocked = it.knocked.saturating_add(1);
            it.knocked
        });
        let patience = (JOIN_AGAIN << tries.min(8)).min(JOIN_AGAIN_MAX);
        patience / 2 + self.people.below(patience)
    }

    fn is_not_joined(&mut self, run: u64, status: &Status) -> Checked {
        let retry = self.knocks_again(run);
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let (node, is_twin, next) =
            (worker.node, worker.is_twin, worker.driven.not_joined(status));
        self.count_refusal(status, is_twin);
        let code = status.message().chars().take(80).collect::<String>();
        if !code.contains("already has a worker") {
            self.story
                .tell(self.now, || format!("n{node}: run {run} cannot join: {code}"));
        }
        match next {
            Next::End => self.worker_dies(run, 20_000, "refused for good"),
            Next::Join | Next::Beat => self.after(retry, Event::Join { run }),
        }
        if is_too_old(status) {
            // Doors move without a record.
            if let Some(worker) = self.workers.get_mut(&run) {
                worker.looked_at = (usize::MAX, usize::MAX);
            }
            self.turn(run)?;
            // Another run that is shut out says nothing of the doors of this one.
            if self.nodes[node].run == Some(run) {
                self.nodes[node].unaware = false;
            }
        }
        Ok(())
    }

    fn is_refused(&mut self, run: u64, status: &Status) -> Checked {
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let (node, is_twin) = (worker.node, worker.is_twin);
        if worker.driven.refused(status) == Next::Join {
            worker.joined = false;
            worker.session += 1;
            worker.calls.clear();
            self.after(100, Event::Join { run });
        }
        self.count_refusal(status, is_twin);
        self.story.tell(self.now, || format!("n{node}: run {run} is refused: {status}"));
        Ok(())
    }

    fn has_orders(
        &mut self,
        run: u64,
        (sent, at): (Outstanding, u64),
        bytes: &[u8],
    ) -> Checked {
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let Ok(answer) = from_bytes(bytes) else { return Ok(()) };
        let (node, is_twin) = (worker.node, worker.is_twin);
        if !is_twin {
            self.orders_arrive(node, &answer);
        }
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        if let Err(error) = worker.driven.answered(sent, answer) {
            return self.after_turn(run, Err(error));
        }
        worker.heard_sent = worker.heard_sent.max(Some(at));
        if self.nodes[node].run == Some(run) {
            self.node_is_aware(node);
        }
        self.turn(run)
    }

    fn count_refusal(&mut self, status: &Status, is_twin: bool) {
        let code = status.metadata().get("tidegate-code");
        match code.and_then(|code| code.to_str().ok()) {
            Some("node-taken") if is_twin => self.story.count("second worker refused"),
            Some("node-taken") => self.story.count("node taken"),
            Some("not-the-worker") => self.story.count("fenced zombie"),
            Some("journal-too-old") => {
                self.coordinator.outgrown = true;
                self.story.count("old coordinator refused");
            }
            Some("worker-too-old") => self.story.count("old worker refused"),
            _ => self.story.count("other refusal"),
        }
    }
}

/// Whether the coordinator knows more of the node than its worker does.
fn is_too_old(status: &Status) -> bool {
    let code = status.metadata().get("tidegate-code");
    code.and_then(|code| code.to_str().ok()) == Some("worker-too-old")
}

impl Worker {
    /// When its owner looks at the time again. A running one does so many times a second; here
    /// only when its lease ends, so that it is awake then.
    fn looks_again(&self, now: u64, idle: u64, lease: u64) -> u64 {
        let ends = self.heard_sent.unwrap_or(0) + lease;
        let (from, to) = (ends.saturating_sub(LEASE_ENDS), ends + LEASE_ENDS);
        if now >= from && now < to {
            now + AWAKE.min(idle)
        } else {
            {
                let next = now + idle;
                if now < from { next.min(from) } else { next }
            }
        }
    }

    fn called(&mut self, waiting: Waiting) -> u64 {
        self.calls_made += 1;
        self.calls.insert(self.calls_made, waiting);
        self.calls_made
    }
}
