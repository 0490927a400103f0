//! A worker of the night: it decides as the real one does, with hands that take their time
//! and a store that keeps only what a disk would.
//!
//! # Invariants
//!
//! * I3 and I4 are checked before anything is remembered, from what the store saw itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_core::fleet::{
    Generation, Incarnation, JobNumber, MailboxNumber, NodeNumber, Ordinal,
};
use tidegate_core::holding::{
    Claim, Dial, DialStep, HeldJob, Holding, Lease, Look, Outcome, ProbeTask, Probed,
    Record as Note, Room, Settled, Switched,
};
use tidegate_core::mailbox::{Level, MailboxState, Preparation};
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{
    Account, Finding, FindingKind, MessageTotals, Orders, Origin, Scope, Sync, Vitals,
};
use tidegate_core::time::Timestamp;

use crate::{Chance, LEASE, RESTORED_ONE_IN};

/// A worker as far as it decides, with hands that take their time.
pub(crate) struct Worker {
    pub(crate) node: NodeNumber,
    pub(crate) incarnation: Incarnation,
    pub(crate) plan: Arc<Plan>,
    pub(crate) store: Store,
    pub(crate) joined: bool,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) holding: Holding,
    pub(crate) notes: Vec<Note>,
    pub(crate) lease_until: Timestamp,
    pub(crate) old_orders: Vec<Orders>,
    pub(crate) silent: u64,
    tasks: Vec<Task>,
    busy: BTreeSet<(JobNumber, Ordinal)>,
}

/// What survives every restart of the worker.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) claims: BTreeMap<JobNumber, Generation>,
    pub(crate) stamps: BTreeMap<(JobNumber, Ordinal), u8>,
    pub(crate) sick: BTreeSet<(JobNumber, Ordinal)>,
    pub(crate) dead: BTreeSet<(JobNumber, Ordinal)>,
    /// Under which generation and at which stamp a mailbox was last verified.
    pub(crate) verified: BTreeMap<(JobNumber, Ordinal), (Generation, u8)>,
    /// Whose history lies beside an empty store.
    pub(crate) beside: BTreeSet<(JobNumber, Ordinal)>,
    /// The stamp right after a history was put back last.
    pub(crate) switched: BTreeMap<(JobNumber, Ordinal), u8>,
}

enum Task {
    Claim(JobNumber, Generation),
    Prepare(JobNumber, Generation, Vec<Ordinal>),
    Look(JobNumber, Generation, Vec<Ordinal>),
    Dial(JobNumber, Generation, Vec<Ordinal>),
    Switch(JobNumber, Generation, Vec<(Ordinal, u8)>),
    Probe(ProbeTask),
}

impl Worker {
    pub(crate) fn new(node: u16, plan: &Arc<Plan>) -> Self {
        let mut store = Store::default();
        let jobs = plan.jobs().iter().filter(|job| job.node.get() == node);
        // One mailbox of the node is beyond help.
        store.dead.extend(
            jobs.max_by_key(|job| job.number).map(|job| (job.number, Ordinal::new(0))),
        );
        Self {
            node: NodeNumber::new(node),
            incarnation: Incarnation::new(1),
            plan: Arc::clone(plan),
            store,
            joined: false,
            sent: 0,
            answered: 0,
            holding: Holding::default(),
            notes: Vec::new(),
            lease_until: Timestamp::default(),
            old_orders: Vec::new(),
            silent: 0,
            tasks: Vec::new(),
            busy: BTreeSet::new(),
        }
    }

    pub(crate) fn heal(&mut self) {
        self.silent = 0;
        self.store.sick.clear();
    }

    pub(crate) fn sicken(&mut self, chance: &mut Chance) {
        let jobs: Vec<JobNumber> = self.holding.jobs().map(|(job, _)| job).collect();
        if let Some(job) = chance.pick(&jobs) {
            let ordinal = u16::try_from(chance.below(4)).unwrap();
            self.store.sick.insert((*job, Ordinal::new(ordinal)));
        }
    }

    /// Somebody touches a mailbox that is not open.
    pub(crate) fn change_something(&mut self, chance: &mut Chance) {
        if !chance.one_in(6) {
            return;
        }
        let held = self.holding.jobs().flat_map(|(job, held)| {
            let states = (0..).map(Ordinal::new).zip(held.states());
            states.filter(|(_, s)| !s.is_open()).map(move |(ordinal, _)| (job, ordinal))
        });
        let held: Vec<_> = held.collect();
        if let Some(key) = chance.pick(&held) {
            let stamp = self.store.stamps.entry(*key).or_default();
            *stamp = stamp.wrapping_add(1);
        }
    }

    pub(crate) fn restart(&mut self, now: Timestamp, chance: &mut Chance) {
        self.incarnation = Incarnation::new(self.incarnation.get() + 1);
        self.joined = false;
        self.sent = 0;
        self.answered = 0;
        self.lease_until = Timestamp::default();
        self.old_orders.clear();
        self.tasks.clear();
        self.busy.clear();
        self.holding = Holding::default();
        for note in &self.notes {
            self.holding.apply(note);
        }
        self.holding.wake(now);
        self.holding.forget_orders();
        if chance.one_in(RESTORED_ONE_IN) {
            self.check_restored(now, chance);
        }
    }

    /// I7: a snapshot taken anywhere and the notes behind it lead to what all notes lead to.
    fn check_restored(&self, now: Timestamp, chance: &mut Chance) {
        let cut = chance.below(self.notes.len() as u64 + 1);
        let (before, after) = self.notes.split_at(usize::try_from(cut).unwrap());
        let mut earlier = Holding::default();
        for note in before {
            earlier.apply(note);
        }
        let (jobs, kept_back) = earlier.snapshot();
        let mut restored = Holding::restore(jobs, kept_back).unwrap();
        for note in after {
            restored.apply(note);
        }
        restored.wake(now);
        restored.forget_orders();
        assert_eq!(format!("{restored:?}"), format!("{:?}", self.holding), "I7");
    }

    pub(crate) fn sync(&mut self) -> Sync {
        self.sent += 1;
        Sync {
            node: self.node,
            incarnation: self.incarnation,
            sequence: self.sent,
            orders_obeyed: self.holding.orders_obeyed(),
            claimed_max: self.holding.generation_max(),
            reports: self.holding.report(7),
            vitals: Vitals::default(),
            account: Some(Account { answered: self.answered, ..Account::default() }),
        }
    }

    pub(crate) fn heard(
        &mut self,
        request: &Sync,
        orders: Orders,
        stale: bool,
        sent: Timestamp,
    ) {
        self.lease_until = self.lease_until.max(sent + LEASE);
        self.answered = request.sequence;
        self.holding.confirmed(&request.reports);
        self.old_orders.push(orders.clone());
        self.holding.hear(orders);
        if stale {
            let place = self.old_orders.len() / 2;
            self.holding.hear(self.old_orders[place].clone());
        }
        let closings = self.holding.closings(sent);
        self.remember(closings, &mut Vec::new());
    }

    /// One turn of the owner; what it raised. It may crash before its journal is on disk.
    pub(crate) fn turn(
        &mut self,
        now: Timestamp,
        wild: bool,
        chance: &mut Chance,
    ) -> Vec<(JobNumber, Generation, Level)> {
        let lease = Lease { now, until: self.lease_until };
        let (durable, verified) = (self.notes.len(), self.store.verified.clone());
        let mut raised = Vec::new();
        let mut later = Vec::new();
        for task in std::mem::take(&mut self.tasks) {
            if wild && chance.one_in(3) {
                later.push(task);
            } else {
                self.carry_out(task, lease, &mut raised);
            }
        }
        self.tasks = later;
        self.ask_for_work(lease, &mut raised);
        if wild && chance.one_in(150) {
            self.notes.truncate(durable);
            self.store.verified = verified;
            self.restart(now, chance);
            return Vec::new();
        }
        raised
    }

    fn ask_for_work(
        &mut self,
        lease: Lease,
        raised: &mut Vec<(JobNumber, Generation, Level)>,
    ) {
        let room =
            Room { prepare: 6, recheck: 6, open: 1, probe: 50, dial: 4, switch: 3 };
        let intents = self
            .holding
            .dial_intents(lease, 4, &|job, ordinal| self.busy.contains(&(job, ordinal)));
        self.remember(intents, raised);
        let (busy, soaks) = (&self.busy, self.plan.policy().soaks());
        let work = self
            .holding
            .work(lease, &soaks, room, &|job, ordinal| busy.contains(&(job, ordinal)));
        for (job, generation) in work.claim {
            self.tasks.push(Task::Claim(job, generation));
        }
        for (job, generation, ordinals) in work.prepare {
            self.busy.extend(ordinals.iter().map(|ordinal| (job, *ordinal)));
            self.tasks.push(Task::Prepare(job, generation, ordinals));
        }
        for (job, generation, ordinals) in work.recheck.into_iter().chain(work.open) {
            self.busy.extend(ordinals.iter().map(|ordinal| (job, *ordinal)));
            self.tasks.push(Task::Look(job, generation, ordinals));
        }
        for (job, generation, ordinals) in work.raise {
            let note = self.holding.raised(job, generation, &ordinals, lease);
            self.remember(note, raised);
        }
        for (job, generation, ordinals) in work.hang_up {
            let note = self.holding.hung_up(job, generation, &ordinals, lease);
            self.remember(note, raised);
        }
        for (job, generation, ordinals) in work.dial {
            self.busy.extend(ordinals.iter().map(|ordinal| (job, *ordinal)));
            self.tasks.push(Task::Dial(job, generation, ordinals));
        }
        for (job, generation, ordinals) in work.switch {
            let held = self.holding.job(job).unwrap();
            let verified =
                |it: &Ordinal| held.verified_at(*it).map(|stamp| (*it, stamp[0]));
            let verified: Vec<_> = ordinals.iter().filter_map(verified).collect();
            self.busy.extend(ordinals.iter().map(|ordinal| (job, *ordinal)));
            self.tasks.push(Task::Switch(job, generation, verified));
        }
        for task in work.probe {
            self.busy.insert((task.job, task.ordinal));
            self.tasks.push(Task::Probe(task));
        }
    }

    fn carry_out(
        &mut self,
        task: Task,
        lease: Lease,
        raised: &mut Vec<(JobNumber, Generation, Level)>,
    ) {
        let now = lease.now;
        let notes = match task {
            Task::Claim(job, generation) => {
                let held = self.store.claims.entry(job).or_default();
                if *held > generation {
                    return;
                }
                *held = generation;
                let mailboxes = self.plan.jobs()[job.index()].size;
                let claim = Claim { job, generation, description: [0; 32], mailboxes };
                self.holding.claimed(claim, now)
            }
            Task::Prepare(job, generation, ordinals) => {
                self.free(job, &ordinals);
                if self.store.claims.get(&job) != Some(&generation) {
                    return;
                }
                let results = ordinals.iter().map(|o| self.verify(job, *o)).collect();
                let note = self.holding.settled(job, generation, results, now);
                note.into_iter().collect()
            }
            Task::Look(job, generation, ordinals) => {
                self.free(job, &ordinals);
                let looks: Vec<(Ordinal, Look)> =
                    ordinals.iter().map(|o| (*o, self.look(job, *o))).collect();
                self.holding.looked(job, generation, &looks, lease)
            }
            Task::Probe(task) => self.probe(task, now),
            Task::Dial(job, generation, ordinals) => {
                self.free(job, &ordinals);
                if self.store.claims.get(&job) != Some(&generation) {
                    return;
                }
                for ordinal in &ordinals {
                    if self.store.beside.insert((job, *ordinal)) {
                        self.touch(job, *ordinal);
                    }
                }
                let note = self.holding.dialled(job, generation, &ordinals, lease);
                note.into_iter().collect()
            }
            Task::Switch(job, generation, verified) => {
                let ordinals: Vec<Ordinal> = verified.iter().map(|(it, _)| *it).collect();
                self.free(job, &ordinals);
                if self.store.claims.get(&job) != Some(&generation) {
                    return;
                }
                self.switch(job, generation, verified, now)
            }
        };
        self.remember(notes, raised);
    }

    /// Puts back the histories that are as they were verified.
    fn switch(
        &mut self,
        job: JobNumber,
        generation: Generation,
        verified: Vec<(Ordinal, u8)>,
        now: Timestamp,
    ) -> Vec<Note> {
        let (mut done, mut changed) = (Vec::new(), Vec::new());
        for (ordinal, stamp) in verified {
            let key = (job, ordinal);
            if self.store.beside.contains(&key) {
                let dial = self.holding.job(job).map(|held| held.dial(ordinal));
                assert_eq!(dial, Some(Dial::Off), "{job} {ordinal}: somebody is inside");
                if self.stamp(job, ordinal) != stamp {
                    changed.push(ordinal);
                    continue;
                }
                self.store.beside.remove(&key);
                self.touch(job, ordinal);
                self.store.switched.insert(key, self.stamp(job, ordinal));
            }
            let stamp = self.store.switched.get(&key).copied().unwrap_or(stamp);
            let (stamp, imported, findings) = ([stamp; 16], 0, Vec::new());
            done.push(Switched { ordinal, stamp, imported, findings });
        }
        let prepared = |it: &Ordinal| {
            let state = self.state(job, *it);
            state.preparation == Preparation::Prepared && !state.is_open()
        };
        changed.retain(prepared);
        let at = now;
        let ordinals = changed;
        let unsettled = (!ordinals.is_empty()).then_some(Note::Unsettled {
            job,
            generation,
            ordinals,
            at,
        });
        self.holding
            .switched(job, generation, done, now)
            .into_iter()
            .chain(unsettled)
            .collect()
    }

    fn look(&self, job: JobNumber, ordinal: Ordinal) -> Look {
        let stamp = [self.stamp(job, ordinal); 16];
        let beside = self.store.beside.contains(&(job, ordinal));
        if beside { Look::Beside(stamp) } else { Look::Stamp(stamp) }
    }

    fn touch(&mut self, job: JobNumber, ordinal: Ordinal) {
        let stamp = self.store.stamps.entry((job, ordinal)).or_default();
        *stamp = stamp.wrapping_add(1);
    }

    fn verify(&self, job: JobNumber, ordinal: Ordinal) -> Settled {
        let alive = !self.store.dead.contains(&(job, ordinal));
        let stamp = alive.then(|| [self.stamp(job, ordinal); 16]);
        let totals = MessageTotals { intact: 1, ..MessageTotals::default() };
        Settled { ordinal, stamp, totals, findings: Vec::new() }
    }

    fn probe(&mut self, task: ProbeTask, now: Timestamp) -> Vec<Note> {
        self.free(task.job, &[task.ordinal]);
        let outcome = if self.store.sick.contains(&(task.job, task.ordinal)) {
            Outcome::Unreadable(unreadable(task.ordinal))
        } else {
            Outcome::Read
        };
        let ProbeTask { job, generation, ordinal, level, mature } = task;
        let probed = vec![Probed { ordinal, level, mature, outcome }];
        self.holding.probed(job, generation, probed, now).into_iter().collect()
    }

    fn free(&mut self, job: JobNumber, ordinals: &[Ordinal]) {
        self.busy.retain(|(of, ordinal)| *of != job || !ordinals.contains(ordinal));
    }

    fn stamp(&self, job: JobNumber, ordinal: Ordinal) -> u8 {
        self.store.stamps.get(&(job, ordinal)).copied().unwrap_or_default()
    }

    fn remember(
        &mut self,
        notes: impl IntoIterator<Item = Note>,
        raised: &mut Vec<(JobNumber, Generation, Level)>,
    ) {
        for note in notes {
            self.check_note(&note, raised);
            self.holding.apply(&note);
            self.notes.push(note);
        }
    }

    /// I3 and I4, where they must hold: before anything is remembered.
    fn check_note(
        &mut self,
        note: &Note,
        raised: &mut Vec<(JobNumber, Generation, Level)>,
    ) {
        match note {
            Note::JobClaimed { job, generation, .. } => {
                let before = self.holding.job(*job).map(HeldJob::generation);
                assert!(before < Some(*generation), "I4: claimed again: {note:?}");
            }
            Note::Settled { job, generation, mailboxes, .. } => {
                self.check_current(*job, *generation);
                for settled in mailboxes {
                    let key = (*job, settled.ordinal);
                    match settled.stamp {
                        Some(stamp) => {
                            self.store.verified.insert(key, (*generation, stamp[0]))
                        }
                        None => self.store.verified.remove(&key),
                    };
                }
            }
            Note::DialTone { job, generation, step, ordinals, .. } => {
                if *step != DialStep::Ended {
                    self.check_current(*job, *generation);
                }
                let open = |it: &&Ordinal| self.state(*job, **it).is_open();
                assert_eq!(ordinals.iter().find(open), None, "{job}: an open dial tone");
                if *step == DialStep::Begun {
                    raised.push((*job, *generation, Level::HELD));
                }
            }
            Note::DialToneSwitched { job, generation, mailboxes, .. } => {
                self.check_current(*job, *generation);
                for it in mailboxes {
                    let key = (*job, it.ordinal);
                    assert!(!self.store.beside.contains(&key), "{job} {}", it.ordinal);
                    let prepared =
                        self.state(*job, it.ordinal).preparation == Preparation::Prepared;
                    if prepared {
                        self.store.verified.insert(key, (*generation, it.stamp[0]));
                    }
                }
            }
            Note::Raised { job, generation, level, ordinals, .. } => {
                self.check_current(*job, *generation);
                for ordinal in ordinals {
                    let beside = self.store.beside.contains(&(*job, *ordinal));
                    assert!(!beside, "{job} {ordinal} opens without its history");
                    let state = self.state(*job, *ordinal);
                    let now = (*generation, self.stamp(*job, *ordinal));
                    let verified = self.store.verified.get(&(*job, *ordinal));
                    assert!(
                        state.is_open() || verified == Some(&now),
                        "I3: {job} {ordinal}"
                    );
                }
                raised.push((*job, *generation, *level));
            }
            Note::Unsettled { job, generation, .. }
            | Note::HealthNoted { job, generation, .. } => {
                self.check_current(*job, *generation);
            }
            Note::Closed { .. } | Note::KeptBack { .. } => {}
        }
    }

    fn check_current(&self, job: JobNumber, generation: Generation) {
        let held = self.holding.job(job).map(HeldJob::generation);
        assert_eq!(held, Some(generation), "I4: {job}");
    }

    pub(crate) fn check_closed(&self, closed: &BTreeSet<Scope>) {
        for scope in closed {
            for (job, held) in self.holding.jobs() {
                let members = self.plan.members(job);
                let places = (0..).map(Ordinal::new);
                for ((mailbox, state), it) in
                    members.iter().zip(held.states()).zip(places)
                {
                    let named = covers(&self.plan, *scope, job, *mailbox);
                    assert!(
                        !named || !state.is_open() && held.dial(it) != Dial::On,
                        "I6: {scope:?}: {mailbox} is open"
                    );
                }
            }
        }
    }

    fn state(&self, job: JobNumber, ordinal: Ordinal) -> MailboxState {
        let held = self.holding.job(job).unwrap();
        held.states().nth(ordinal.index()).unwrap()
    }

    pub(crate) fn open(&self) -> usize {
        let states = self.holding.jobs().flat_map(|(_, job)| job.states());
        states.filter(|state| state.is_open()).count()
    }
}

fn covers(plan: &Plan, scope: Scope, job: JobNumber, mailbox: MailboxNumber) -> bool {
    let job = &plan.jobs()[job.index()];
    match scope {
        Scope::Wave(wave) => job.wave == wave,
        Scope::Node(node) => job.node == node,
        Scope::Mailbox(named) => named == mailbox,
    }
}

fn unreadable(ordinal: Ordinal) -> Finding {
    Finding {
        ordinal,
        kind: FindingKind::Probe,
        folder: String::new(),
        uid: None,
        name: String::new(),
        code: "unreadable".to_owned(),
        reason: "no such directory".to_owned(),
        size_bytes: 0,
        kept_at: String::new(),
        origin: Origin::default(),
    }
}
