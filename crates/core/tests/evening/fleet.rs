//! A fleet, its coordinator and the night's clock, for the evenings.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_core::fleet::{Generation, Incarnation, JobNumber, NodeNumber, Ordinal};
use tidegate_core::gate::{GatePolicy, Mode};
use tidegate_core::holding::{
    Claim, Holding, Lease, Look, Outcome, Probed, Room, Settled, Switched,
};
use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::plan::{Plan, plan};
use tidegate_core::policy::{Cohort, Delays, Growth, Notice, Policy, Rung, Selector};
use tidegate_core::rollout::{
    Account, Event, Finding, FindingKind, Grade, Grades, Join, MessageTotals, Operate,
    Origin, Phase, Record, Refusal, Rollout, Sync, Verb, Vitals,
};
use tidegate_core::time::{Span, Timestamp};

pub(crate) const BEAT: Span = Span::from_millis(500);
pub(crate) const SOAK: Span = Span::from_secs(5);

/// A fleet, its coordinator and the night's clock.
pub(crate) struct Evening {
    pub(crate) now: Timestamp,
    pub(crate) started: Timestamp,
    pub(crate) rollout: Rollout,
    pub(crate) records: Vec<Record>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) sick: BTreeSet<(NodeNumber, u32)>,
    pub(crate) cut: bool,
}

pub(crate) struct Worker {
    pub(crate) node: NodeNumber,
    pub(crate) incarnation: Incarnation,
    pub(crate) joined: bool,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) recorded: u64,
    pub(crate) holding: Holding,
    pub(crate) records: Vec<tidegate_core::holding::Record>,
    pub(crate) lease_until: Timestamp,
    pub(crate) plan: Arc<Plan>,
    /// Mailboxes that cannot be prepared.
    pub(crate) aside: BTreeSet<(JobNumber, Ordinal)>,
}

impl Evening {
    pub(crate) fn new(nodes: u16, mailboxes: u32) -> Self {
        Self::of(nodes, small_plan(nodes, mailboxes, small_policy()))
    }

    /// An evening of three nodes and 120 mailboxes under `policy`.
    pub(crate) fn under(policy: Policy) -> Self {
        Self::of(3, small_plan(3, 120, policy))
    }

    fn of(nodes: u16, plan: Plan) -> Self {
        let started = Timestamp::from_millis(1_700_000_000_000);
        let plan = Arc::new(plan);
        let workers = (0..nodes).map(|node| Worker::new(node, 1, &plan));
        Self {
            now: started,
            started,
            workers: workers.collect(),
            rollout: Rollout::new(plan, started, started),
            records: Vec::new(),
            sick: BTreeSet::new(),
            cut: false,
        }
    }

    pub(crate) fn until(&mut self, beats: u32, done: impl Fn(&Self) -> bool) {
        for _ in 0..beats {
            if done(self) {
                return;
            }
            self.pass(1);
        }
        let status = self.rollout.status(self.now);
        panic!("not within {beats} beats: {:?} {:?}", status.why, status.waves);
    }

    pub(crate) fn pass(&mut self, beats: u32) {
        for _ in 0..beats {
            self.now = self.now + BEAT;
            self.coordinate(&Event::Tick).unwrap();
            for index in 0..self.workers.len() {
                if !self.cut {
                    self.beat(index);
                }
                let (now, sick) = (self.now, &self.sick);
                self.workers[index].turn(now, sick);
            }
        }
    }

    pub(crate) fn beat(&mut self, index: usize) {
        let worker = &self.workers[index];
        if !worker.joined {
            let join = Join {
                node: format!("n{}", worker.node.get()),
                incarnation: worker.incarnation,
                claimed_max: worker.holding.generation_max(),
                orders_seen: 0,
                journaled: Some(worker.records.len() as u64),
                store_claimed: Generation::default(),
            };
            if self.coordinate(&Event::Join(join)).is_err() {
                return;
            }
            let worker = &mut self.workers[index];
            worker.joined = true;
            (worker.answered, worker.recorded) = (0, 0);
            worker.holding.forget_orders();
        }
        let worker = &mut self.workers[index];
        worker.sent += 1;
        let sync = worker.sync(worker.holding.report(50));
        if let Err(refusal) = self.coordinate(&Event::Sync(sync.clone())) {
            self.rollout.doubt(sync.node, &refusal);
            self.workers[index].joined = false;
            return;
        }
        self.rollout.hear(&sync, self.now);
        let orders = self.rollout.give(sync.node, sync.sequence);
        let lease = self.rollout.plan().policy().limits.lease;
        let worker = &mut self.workers[index];
        worker.answered = sync.sequence;
        worker.recorded = worker.recorded.max(orders.recorded);
        worker.lease_until = self.now + lease;
        worker.holding.confirmed(&sync.reports);
        worker.holding.hear(orders);
        let closings = worker.holding.closings(self.now);
        worker.remember(closings);
    }

    pub(crate) fn coordinate(&mut self, event: &Event) -> Result<(), Refusal> {
        let step = self.rollout.decide(event, self.now);
        for record in step.records {
            self.rollout.apply(&record);
            self.records.push(record);
        }
        step.refusal.map_or(Ok(()), Err)
    }

    pub(crate) fn operate(&mut self, verb: Verb, reason: &str) -> Result<(), Refusal> {
        let (by, reason) = ("op".to_owned(), reason.to_owned());
        self.coordinate(&Event::Operate(Operate::new(by, reason, verb)))
    }

    pub(crate) fn restart_coordinator(&mut self) {
        let plan = Arc::clone(self.rollout.plan());
        self.rollout = Rollout::new(plan, self.started, self.now);
        for record in &self.records {
            self.rollout.apply(record);
        }
        self.rollout.wake(self.now);
    }

    pub(crate) fn restart_worker(&mut self, index: usize) {
        let old = &self.workers[index];
        let mut new = Worker::new(old.node.get(), old.incarnation.get() + 10, &old.plan);
        for record in &old.records {
            new.holding.apply(record);
        }
        new.records.clone_from(&old.records);
        new.holding.wake(self.now);
        new.holding.forget_orders();
        self.workers[index] = new;
    }

    pub(crate) fn open(&self) -> usize {
        let states = self.workers.iter().flat_map(|w| w.holding.jobs());
        states.flat_map(|(_, job)| job.states()).filter(|state| state.is_open()).count()
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.rollout.phase(), Phase::Finished { .. })
    }

    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.rollout.phase(), Phase::Running)
    }

    pub(crate) fn story<T>(&self, pick: impl Fn(&Record) -> Option<T>) -> Vec<T> {
        self.records.iter().filter_map(pick).collect()
    }

    pub(crate) fn settled(&self) -> usize {
        let states = self.workers.iter().flat_map(|w| w.holding.jobs());
        states.flat_map(|(_, job)| job.states()).filter(|s| s.is_settled()).count()
    }

    /// Whether so many levels have been allowed.
    pub(crate) fn story_has(&self, levels: usize) -> bool {
        let allowed = |r: &Record| matches!(r, Record::LevelAllowed { .. }).then_some(());
        self.story(allowed).len() > levels
    }
}

impl Worker {
    pub(crate) fn new(node: u16, incarnation: u64, plan: &Arc<Plan>) -> Self {
        Self {
            node: NodeNumber::new(node),
            incarnation: Incarnation::new(incarnation),
            joined: false,
            sent: 0,
            answered: 0,
            recorded: 0,
            holding: Holding::default(),
            records: Vec::new(),
            lease_until: Timestamp::default(),
            plan: Arc::clone(plan),
            aside: BTreeSet::new(),
        }
    }

    pub(crate) fn sync(&self, reports: Vec<tidegate_core::rollout::JobReport>) -> Sync {
        Sync {
            node: self.node,
            incarnation: self.incarnation,
            sequence: self.sent,
            orders_obeyed: self.holding.orders_obeyed(),
            claimed_max: self.holding.generation_max(),
            account: Some(Account {
                answered: self.answered,
                recorded: self.recorded,
                journaled: Some(self.records.len() as u64),
                ..self.holding.account(&reports)
            }),
            reports,
            vitals: Vitals::default(),
        }
    }

    pub(crate) fn remember(
        &mut self,
        records: impl IntoIterator<Item = tidegate_core::holding::Record>,
    ) {
        for record in records {
            self.holding.apply(&record);
            self.records.push(record);
        }
    }

    pub(crate) fn turn(&mut self, now: Timestamp, sick: &BTreeSet<(NodeNumber, u32)>) {
        let lease = Lease { now, until: self.lease_until };
        let room =
            Room { prepare: 10, recheck: 10, open: 10, probe: 100, dial: 10, switch: 10 };
        let intents = self.holding.dial_intents(lease, 10, &|_, _| false);
        self.remember(intents);
        let soaks = self.plan.policy().soaks();
        let work = self.holding.work(lease, &soaks, room, &|_, _| false);
        for (job, generation) in work.claim {
            let mailboxes = self.plan.jobs()[job.index()].size;
            let claim = Claim { job, generation, description: [0; 32], mailboxes };
            let claimed = self.holding.claimed(claim, now);
            self.remember(claimed);
        }
        for (job, generation, ordinals) in work.prepare {
            let results = ordinals.into_iter().map(|ordinal| {
                let aside = self.aside.contains(&(job, ordinal));
                let Settled { stamp, .. } = settled(ordinal);
                Settled { stamp: stamp.filter(|_| !aside), ..settled(ordinal) }
            });
            let results = results.collect();
            let record = self.holding.settled(job, generation, results, now);
            self.remember(record);
        }
        for (job, generation, ordinals) in work.recheck.into_iter().chain(work.open) {
            let looks: Vec<_> = ordinals
                .into_iter()
                .map(|ordinal| (ordinal, Look::Stamp([7; 16])))
                .collect();
            let records = self.holding.looked(job, generation, &looks, lease);
            self.remember(records);
        }
        for (job, generation, ordinals) in work.dial {
            let record = self.holding.dialled(job, generation, &ordinals, lease);
            self.remember(record);
        }
        for (job, generation, ordinals) in work.hang_up {
            let record = self.holding.hung_up(job, generation, &ordinals, lease);
            self.remember(record);
        }
        for (job, generation, ordinals) in work.switch {
            let results = ordinals.into_iter().map(|ordinal| {
                let (stamp, imported, findings) = ([7; 16], 0, Vec::new());
                Switched { ordinal, stamp, imported, findings }
            });
            let record = self.holding.switched(job, generation, results.collect(), now);
            self.remember(record);
        }
        for (job, generation, ordinals) in work.raise {
            let record = self.holding.raised(job, generation, &ordinals, lease);
            self.remember(record);
        }
        for task in work.probe {
            let bad = sick.contains(&(self.node, u32::from(task.ordinal.get())));
            let outcome = if bad && task.mature {
                Outcome::Unreadable(unreadable(task.ordinal))
            } else {
                Outcome::Read
            };
            let (ordinal, level, mature) = (task.ordinal, task.level, task.mature);
            let probed = vec![Probed { ordinal, level, mature, outcome }];
            let record = self.holding.probed(task.job, task.generation, probed, now);
            self.remember(record);
        }
    }
}

pub(crate) fn settled(ordinal: Ordinal) -> Settled {
    let grade = if ordinal.get() == 0 { Grade::Investigate } else { Grade::Perfect };
    let grades = Grades::one(grade);
    let totals = MessageTotals { intact: 1, grades, ..MessageTotals::default() };
    Settled { ordinal, stamp: Some([7; 16]), totals, findings: Vec::new() }
}

pub(crate) fn unreadable(ordinal: Ordinal) -> Finding {
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

/// A provider one fifth of whose customers are businesses.
fn small_plan(nodes: u16, mailboxes: u32, policy: Policy) -> Plan {
    let mut inventory = InventoryBuilder::default();
    for index in 0..mailboxes {
        let (address, path) = (format!("u{index}@example.org"), format!("u{index}"));
        let node = format!("n{}", index % u32::from(nodes));
        let row = Row {
            address: &address,
            node: &node,
            tier: if index % 5 == 0 { "business" } else { "free" },
            path: &path,
            labels: &[],
        };
        inventory.push(row).unwrap();
    }
    plan(&Arc::new(inventory.finish().unwrap()), &Arc::new(policy)).unwrap()
}

/// Three waves of 40 mailboxes a node at most; every mailbox must prove itself.
pub(crate) fn small_policy() -> Policy {
    let mut gate = GatePolicy::DEFAULT;
    gate.mode = Mode::EveryMailbox { failures_max: 2 };
    gate.soak = SOAK;
    let rung = |name: &str, service: &str| Rung {
        name: name.to_owned(),
        services: vec![service.to_owned()],
        soak: None,
    };
    let limits = tidegate_core::policy::Limits { permit_window: 5, ..Default::default() };
    Policy {
        name: "evening".to_owned(),
        ladder: vec![rung("webmail", "webmail"), rung("apps", "imap")],
        cohorts: vec![Cohort {
            name: "all".to_owned(),
            select: Selector::everybody(),
            canary: 12,
            growth: Growth::new(300),
            wave_max: 72,
            delays: Delays::new(),
            expected: None,
            dial_tone: Vec::new(),
        }],
        exclude: Vec::new(),
        gate,
        limits,
        notice: Notice::default(),
        calendar: Vec::new(),
        emergency: None,
        hash_seed: "evening".to_owned(),
    }
}
