//! Nights: a coordinator and its workers against chance: lost, late and doubled messages,
//! crashes on both sides, operators who change their minds, mailboxes that change or sicken.
//! After every beat the promises hold; when chance rests, everything comes back.
//!
//! `TIDEGATE_SEED=7` replays one night, `TIDEGATE_NIGHTS=10000` lives through more of them.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stderr, reason = "a failing night says how to live it again")]
#![expect(clippy::panic, reason = "a failing test says what it saw")]
#![expect(clippy::indexing_slicing, reason = "fleets of known size")]

mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use tidegate_core::fleet::{
    Generation, JobNumber, MailboxNumber, NodeNumber, WaveNumber,
};
use tidegate_core::gate::{GatePolicy, Mode, Verdict, judge};
use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::mailbox::{Level, MailboxState};
use tidegate_core::plan::{Plan, plan};
use tidegate_core::policy::{Cohort, Delays, Growth, Notice, Policy, Rung, Selector};
use tidegate_core::rollout::{
    Event, Join, Known, NodeCondition, Operate, Phase, Record, Rollout, Scope, Sync, Verb,
};
use tidegate_core::time::{Span, Timestamp};
use worker::Worker;

const BEAT: Span = Span::from_millis(500);
const SOAK: Span = Span::from_secs(1);
const LEASE: Span = Span::from_secs(3);
const NODES: u16 = 3;
const LEVELS: u8 = 3;
const MAILBOXES: u32 = 36;

/// Beats of chance, and beats within which all must be well again afterwards.
const WILD_BEATS: u32 = 120;
const QUIET_BEATS: u32 = 600;

/// Seconds that the first cohort and the second wait before the upper rungs: nobody, the
/// first, both, and so long that the others are done before.
const DELAYS: [[u64; 2]; 4] = [[0, 0], [12, 0], [7, 4], [60, 1]];

/// A restart in so many is made from a snapshot as well: comparing takes its time.
const RESTORED_ONE_IN: u64 = 4;

/// As many as run within seconds.
const NIGHTS: u64 = 100;

#[test]
fn every_night_ends_and_breaks_no_promise() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let nights = number("TIDEGATE_NIGHTS").unwrap_or(NIGHTS);
    let seeds = number("TIDEGATE_SEED").map_or(0..nights, |seed| seed..seed + 1);
    let plans = DELAYS.map(|seconds| Arc::new(small_plan(seconds)));

    for seed in seeds {
        let chosen = usize::try_from(seed).unwrap() % plans.len();
        let plan = &plans[chosen];
        let lived = catch_unwind(AssertUnwindSafe(|| Night::new(seed, plan).live()));
        if let Err(panic) = lived {
            eprintln!("replay with TIDEGATE_SEED={seed}");
            resume_unwind(panic);
        }
    }
}

/// The fleet, what is on its way, and what has been promised to operators.
struct Night {
    chance: Chance,
    now: Timestamp,
    started: Timestamp,
    plan: Arc<Plan>,
    rollout: Rollout,
    records: Vec<Record>,
    issued: Generation,
    workers: Vec<Worker>,
    /// Requests on their way to a run of the coordinator; its connections die with it.
    requests: Vec<(u32, usize, Sync)>,
    run: u32,
    /// Nodes that this run of the coordinator has heard.
    heard: BTreeSet<NodeNumber>,
    /// The highest level that orders permitted, per job and generation.
    granted: BTreeMap<(JobNumber, Generation), Level>,
    /// What the waves were allowed and have passed, from the records alone.
    climbs: Vec<Climb>,
    stopped: bool,
    closed: BTreeSet<Scope>,
    closing: BTreeSet<Scope>,
    /// What readers are shown of mailboxes, as far as records have changed it.
    shown: BTreeMap<MailboxNumber, (MailboxState, bool)>,
    wild: bool,
}

impl Night {
    fn new(seed: u64, plan: &Arc<Plan>) -> Self {
        let started = Timestamp::from_millis(1_700_000_000_000);
        Self {
            chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: started,
            started,
            plan: Arc::clone(plan),
            rollout: Rollout::new(Arc::clone(plan), started, started),
            records: Vec::new(),
            issued: Generation::default(),
            workers: (0..NODES).map(|node| Worker::new(node, plan)).collect(),
            requests: Vec::new(),
            run: 0,
            heard: BTreeSet::new(),
            granted: BTreeMap::new(),
            climbs: vec![Climb::default(); plan.waves().len()],
            stopped: false,
            closed: BTreeSet::new(),
            shown: BTreeMap::new(),
            closing: BTreeSet::new(),
            wild: true,
        }
    }

    fn live(mut self) {
        for _ in 0..WILD_BEATS {
            self.disturb();
            self.beat();
        }
        self.wild = false;
        self.workers.iter_mut().for_each(Worker::heal);
        for _ in 0..QUIET_BEATS {
            if self.is_well() {
                return;
            }
            self.put_right();
            self.beat();
        }
        let status = self.rollout.status(self.now);
        let waves =
            status.waves.iter().map(|w| (w.condition, w.allowed, w.passed, w.open));
        let waves: Vec<_> = waves.collect();
        let (phase, why) = (&status.phase, &status.why);
        let (closing, nodes) = (&self.closing, &status.nodes);
        panic!(
            "not well after the night: {phase:?} {why:?} {waves:?} {closing:?} {nodes:#?}"
        );
    }

    fn is_well(&self) -> bool {
        if matches!(self.rollout.phase(), Phase::Aborted(_)) {
            let stop = self.rollout.status(self.now).stop;
            return stop.is_some_and(|stop| stop.unacknowledged.is_empty());
        }
        let quarantined: usize = self.workers.iter().map(|w| w.store.dead.len()).sum();
        let open: usize = self.workers.iter().map(Worker::open).sum();
        let known: u32 = self.rollout.status(self.now).waves.iter().map(|w| w.open).sum();
        matches!(self.rollout.phase(), Phase::Finished { .. })
            && open + quarantined == self.plan.planned() as usize
            && known as usize == open
    }

    /// One thing that goes wrong or that somebody wants, often nothing.
    fn disturb(&mut self) {
        let (wave, node) = (self.chance.below(3), self.chance.below(u64::from(NODES)));
        let mailbox = self.chance.below(u64::from(MAILBOXES));
        let wave = Scope::Wave(WaveNumber::new(u16::try_from(wave).unwrap()));
        let one = Scope::Mailbox(MailboxNumber::new(u32::try_from(mailbox).unwrap()));
        let index = usize::try_from(node).unwrap();
        let node = Scope::Node(NodeNumber::new(u16::try_from(node).unwrap()));
        match self.chance.below(60) {
            0 => self.restart_coordinator(),
            1 | 2 => self.workers[index].restart(self.now, &mut self.chance),
            3 => self.operate(Verb::Pause),
            4..=6 => self.operate(Verb::Resume(None)),
            7 => self.operate(Verb::Reclose(wave)),
            8 | 9 => self.operate(Verb::Resume(Some(wave))),
            10 => self.operate(Verb::Reclose(node)),
            11 | 12 => self.operate(Verb::Resume(Some(node))),
            13 | 14 => self.operate(Verb::Reclose(one)),
            15 => self.operate(Verb::Resume(Some(one))),
            16 | 17 => self.workers[index].silent = self.chance.below(12),
            18 | 19 => self.workers[index].sicken(&mut self.chance),
            20 if self.chance.one_in(20) => self.operate(Verb::Abort),
            // Nobody can tell them apart from a pause that is obeyed.
            21 | 22 => {
                self.workers[index].silent = 12;
                self.operate(Verb::Pause);
            }
            _ => {}
        }
        for worker in &mut self.workers {
            worker.change_something(&mut self.chance);
        }
    }

    /// What a patient operator does until all is well.
    fn put_right(&mut self) {
        let still_open = |night: &Self, scope| night.rollout.still_open(scope) > 0;
        if let Phase::Halted { wave, .. } = self.rollout.phase() {
            let wave = Scope::Wave(*wave);
            if !still_open(self, wave) {
                self.operate(Verb::Resume(None));
            }
            let halted = matches!(self.rollout.phase(), Phase::Halted { .. });
            if halted && !self.closing.contains(&wave) {
                self.operate(Verb::Reclose(wave));
            }
            return;
        }
        for index in 0..NODES {
            let node = Scope::Node(NodeNumber::new(index));
            let status = &self.rollout.status(self.now).nodes[usize::from(index)];
            if status.condition == NodeCondition::Isolated
                && !self.closing.contains(&node)
            {
                self.operate(Verb::Reclose(node));
            }
        }
        for scope in self.closing.clone() {
            if !still_open(self, scope) {
                self.operate(Verb::Resume(Some(scope)));
            }
        }
        if self.closing.is_empty() {
            self.operate(Verb::Resume(None));
        }
    }

    fn beat(&mut self) {
        self.now = self.now + BEAT;
        self.coordinate(&Event::Tick);
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            worker.silent = worker.silent.saturating_sub(1);
            if worker.silent == 0 {
                self.join(index);
                let request = self.workers[index].sync();
                self.requests.push((self.run, index, request));
            }
        }
        self.deliver();
        for index in 0..self.workers.len() {
            let raised = self.workers[index].turn(self.now, self.wild, &mut self.chance);
            self.check_raised(&raised);
        }
        self.check();
    }

    fn join(&mut self, index: usize) {
        let worker = &self.workers[index];
        if worker.joined {
            return;
        }
        let join = Join {
            node: format!("n{}", worker.node.get()),
            incarnation: worker.incarnation,
            claimed_max: worker.holding.generation_max(),
            orders_seen: 0,
            journaled: None,
            store_claimed: Generation::default(),
        };
        if self.coordinate(&Event::Join(join)) && !self.goes_wrong(4) {
            let worker = &mut self.workers[index];
            worker.joined = true;
            worker.holding.forget_orders();
            worker.answered = 0;
            worker.old_orders.clear();
        }
    }

    /// Requests arrive late, twice, never or in another order; so do answers.
    fn deliver(&mut self) {
        let mut later = Vec::new();
        let mut requests = std::mem::take(&mut self.requests);
        while !requests.is_empty() {
            let place =
                if self.wild { self.chance.below(requests.len() as u64) } else { 0 };
            let (run, index, request) = requests.remove(usize::try_from(place).unwrap());
            if run != self.run || self.goes_wrong(8) {
                continue;
            }
            if self.goes_wrong(5) {
                later.push((run, index, request));
                continue;
            }
            if self.goes_wrong(8) {
                later.push((run, index, request.clone()));
            }
            self.answer(index, &request);
        }
        self.requests = later;
    }

    fn answer(&mut self, index: usize, request: &Sync) {
        if self.goes_wrong(60) {
            return self.restart_coordinator();
        }
        let taken = self.coordinate(&Event::Sync(request.clone()));
        let worker = &mut self.workers[index];
        if !taken {
            if request.incarnation == worker.incarnation {
                worker.joined = false;
            }
            return;
        }
        self.rollout.hear(request, self.now);
        self.heard.insert(request.node);
        let orders = self.rollout.give(request.node, request.sequence);
        for order in &orders.jobs {
            let level = if orders.may_open { order.level } else { Level::HELD };
            let granted = self.granted.entry((order.job, order.generation)).or_default();
            *granted = level.max(*granted);
        }
        let is_newest =
            request.incarnation == worker.incarnation && request.sequence == worker.sent;
        if !is_newest || !worker.joined || self.goes_wrong(8) {
            return;
        }
        let stale = self.goes_wrong(4);
        let now = self.now;
        self.workers[index].heard(request, orders, stale, now);
    }

    fn coordinate(&mut self, event: &Event) -> bool {
        let step = self.rollout.decide(event, self.now);
        for record in step.records {
            self.check_record(&record);
            self.rollout.apply(&record);
            self.rollout.show_changed(&record, |mailbox, state, plain| {
                self.shown.insert(mailbox, (state, plain));
            });
            self.records.push(record);
        }
        step.refusal.is_none()
    }

    fn operate(&mut self, verb: Verb) {
        let (by, reason) = ("op".to_owned(), "night".to_owned());
        if !self.coordinate(&Event::Operate(Operate::new(by, reason, verb))) {
            return;
        }
        match verb {
            Verb::Pause | Verb::Abort | Verb::Accept(_) => {}
            Verb::Resume(None) => self.stopped = false,
            Verb::Resume(Some(scope)) => {
                self.closing.remove(&scope);
                self.closed.remove(&scope);
            }
            Verb::Reclose(scope) => {
                self.closing.insert(scope);
            }
        }
    }

    /// I10: what readers are shown, record by record, is all that is known.
    fn check_shown(&self) {
        self.rollout.show_all(|mailbox, state, plain| {
            let known = self.rollout.known(mailbox);
            assert_eq!(plain, known == Known::plain(state), "{known:?} is all there is");
            let shown = self.shown.get(&mailbox).copied();
            assert_eq!(shown.unwrap_or((MailboxState::HELD, true)), (state, plain));
        });
    }

    fn restart_coordinator(&mut self) {
        self.check_shown();
        let alive = self.rollout.snapshot();
        self.rollout = Rollout::new(Arc::clone(&self.plan), self.started, self.now);
        for record in &self.records {
            self.rollout.apply(record);
        }
        self.rollout.wake(self.now);
        assert_eq!(alive, self.rollout.snapshot(), "I7: a replay gives what was there");
        if self.chance.one_in(RESTORED_ONE_IN) {
            self.check_restored();
        }
        self.heard.clear();
        self.run += 1;
    }

    /// I7: a snapshot taken anywhere, the story up to it and the records behind it lead to
    /// the very rollout that all records lead to.
    fn check_restored(&mut self) {
        let cut = self.chance.below(self.records.len() as u64 + 1);
        let (before, after) = self.records.split_at(usize::try_from(cut).unwrap());
        let mut earlier = Rollout::new(Arc::clone(&self.plan), self.started, self.now);
        for record in before {
            earlier.apply(record);
        }
        let Some(snapshot) = earlier.snapshot() else { return };
        let (plan, story) = (Arc::clone(&self.plan), earlier.history().to_vec());
        let mut restored = Rollout::restore(plan, self.started, snapshot, story).unwrap();
        for record in after {
            restored.apply(record);
        }
        restored.wake(self.now);
        let restored = restored.under(self.rollout.applied_under().cloned());
        assert_eq!(restored.snapshot(), self.rollout.snapshot(), "I7");
        assert_eq!(restored.history(), self.rollout.history(), "I7");
        assert_eq!(restored.etag(), self.rollout.etag(), "I7");
        let now = self.now;
        let status = |rollout: &Rollout| format!("{:?}", rollout.status(now));
        assert_eq!(status(&restored), status(&self.rollout), "I7");
        for wave in (0..).map(WaveNumber::new).take(self.plan.waves().len()) {
            assert_eq!(restored.evidence(wave), self.rollout.evidence(wave), "I7");
        }
        for node in (0..NODES).map(NodeNumber::new) {
            assert_eq!(restored.orders(node), self.rollout.orders(node), "I7");
        }
    }

    fn goes_wrong(&mut self, one_in: u64) -> bool {
        self.wild && self.chance.one_in(one_in)
    }

    fn check_record(&mut self, record: &Record) {
        match record {
            Record::JobLeased { generation, .. } => self.check_issued(*generation),
            Record::Reclosed { generations, scope, .. } => {
                for (_, issued) in generations {
                    self.check_issued(*issued);
                }
                if let Scope::Wave(wave) = scope {
                    self.climbs[wave.index()] = Climb::default();
                }
            }
            Record::LevelAllowed { wave, level, at } => {
                self.check_allowed(*wave, *level, *at);
                self.climbs[wave.index()].allowed = *level;
            }
            Record::Expanded { evidence, at } => {
                let gate = self.plan.policy().gate_on(evidence.level);
                assert_eq!(judge(evidence, &gate, *at).verdict, Verdict::Expand, "I5");
                let climb = &mut self.climbs[evidence.wave.index()];
                (climb.passed, climb.passed_at) = (evidence.level, *at);
                for node in evidence.nodes.iter().filter(|node| !node.isolated) {
                    assert!(self.heard.contains(&node.node), "I5: silence expanded");
                }
            }
            // A new run begins with nothing proven: to have been heard is enough.
            Record::NodeJoined { node, .. } => {
                self.heard.insert(*node);
            }
            Record::FactsReported { .. }
            | Record::NodeIsolated { .. }
            | Record::Halted { .. }
            | Record::Paused(_)
            | Record::Resumed { .. }
            | Record::Aborted(_)
            | Record::RebuildBegun(_)
            | Record::ClaimsFound { .. }
            | Record::MailboxesFound { .. }
            | Record::NodeRecounted { .. }
            | Record::Rebuilt { .. }
            | Record::NodeAccepted { .. }
            | Record::Finished { .. } => {}
        }
    }

    /// I5 as the records tell it: nothing early, nothing out of order, and whoever is passed
    /// on the way waits for a schedule: its own, or that of one before it.
    fn check_allowed(&self, wave: WaveNumber, level: Level, at: Timestamp) {
        let due = |wave: WaveNumber, climb: &Climb, level| {
            climb.passed_at + self.plan.delay(wave, level)
        };
        let own = &self.climbs[wave.index()];
        assert_eq!(own.passed.above(), level, "I5: {wave} skips to {level}");
        assert!(at >= due(wave, own, level), "I5: {wave} takes {level} too early");
        let mut lowest = Level::new(LEVELS).unwrap();
        let before = (0..).map(WaveNumber::new).zip(&self.climbs).take(wave.index());
        for (number, climb) in before {
            let next = climb.passed.above();
            let on_top = climb.passed.get() == LEVELS;
            let scheduled = at < due(number, climb, next) || next > lowest;
            assert!(climb.passed >= level, "I5: {wave} takes {level} before {number}");
            assert!(climb.allowed == climb.passed, "I5: {number} has not passed yet");
            assert!(on_top || scheduled, "I5: {number} was overtaken by {wave}");
            lowest = lowest.min(climb.passed);
        }
    }

    fn check_issued(&mut self, generation: Generation) {
        assert!(self.issued < generation, "I4: {generation} was issued before");
        self.issued = generation;
    }

    fn check_raised(&self, raised: &[(JobNumber, Generation, Level)]) {
        for (job, generation, level) in raised {
            let granted = self.granted.get(&(*job, *generation)).copied();
            // A dial tone, which its cohort has from the start.
            let dial_tone = *level == Level::HELD;
            assert!(
                dial_tone || granted >= Some(*level),
                "I5: {job} {generation} {level} {granted:?}"
            );
            assert!(!self.stopped, "I6: {job} opened after an effective stop");
        }
    }

    fn check(&mut self) {
        let status = self.rollout.status(self.now);
        if status.stop.as_ref().is_some_and(|stop| stop.unacknowledged.is_empty()) {
            self.stopped = true;
        }
        for scope in &self.closing {
            if self.rollout.still_open(*scope) == 0 {
                self.closed.insert(*scope);
            }
        }
        for worker in &self.workers {
            worker.check_closed(&self.closed);
        }
        let planned: u32 = status.waves.iter().map(|wave| wave.planned).sum();
        assert_eq!(planned, self.plan.planned(), "I8");
        for wave in &status.waves {
            assert!(wave.prepared + wave.quarantined <= wave.planned, "I8: {wave:?}");
            assert!(wave.open <= wave.prepared, "I8: {wave:?}");
        }
        let by_wave: u32 = status.waves.iter().map(|wave| wave.open).sum();
        let by_node: u32 = status.nodes.iter().map(|node| node.open).sum();
        assert_eq!(by_wave, by_node, "I8");
    }
}

/// What one wave was allowed and has passed.
#[derive(Clone, Default)]
struct Climb {
    allowed: Level,
    passed: Level,
    passed_at: Timestamp,
}

/// Three small waves on three nodes, three rungs with soaks of their own, every mailbox must
/// prove itself; the first wave is a cohort of its own. Some nights have dial tones.
fn small_plan(delays: [u64; 2]) -> Plan {
    let mut inventory = InventoryBuilder::default();
    for index in 0..MAILBOXES {
        let (address, path) = (format!("u{index}@example.org"), format!("u{index}"));
        let node = format!("n{}", index % u32::from(NODES));
        let row = Row {
            address: &address,
            node: &node,
            tier: if index % 6 == 0 { "business" } else { "free" },
            path: &path,
            labels: &[],
        };
        inventory.push(row).unwrap();
    }
    // On the nights of long delays.
    let has_dial_tone = delays.iter().any(|seconds| *seconds > 10);
    let mut gate = GatePolicy::DEFAULT;
    gate.mode = Mode::EveryMailbox { failures_max: 2 };
    gate.soak = SOAK;
    let rung = |name: &str, soak: Option<u64>| Rung {
        name: name.to_owned(),
        services: vec![name.to_owned()],
        soak: soak.map(Span::from_secs),
    };
    let cohort = |name: &str, select, canary, [webmail, mail]: [u64; 2]| {
        let delays = [("webmail", webmail), ("mail", mail)];
        let delays = delays.map(|(rung, secs)| (rung.to_owned(), Span::from_secs(secs)));
        Cohort {
            name: name.to_owned(),
            select,
            canary,
            growth: Growth::new(200),
            wave_max: 20,
            delays: Delays::from(delays),
            expected: None,
            dial_tone: if has_dial_tone {
                vec!["receive".to_owned()]
            } else {
                Vec::new()
            },
        }
    };
    let first = Selector { tiers: vec!["business".to_owned()], ..Selector::default() };
    let [one, two] = delays;
    let limits = tidegate_core::policy::Limits {
        permit_window: 6,
        lease: LEASE,
        beat: BEAT,
        prepare_ahead: 4,
        ..Default::default()
    };
    let policy = Policy {
        name: "night".to_owned(),
        ladder: vec![
            rung("receive", Some(0)),
            rung("webmail", None),
            rung("mail", Some(2)),
        ],
        cohorts: vec![
            cohort("business", first, 6, [0, one]),
            cohort("all", Selector::everybody(), 10, [two / 2, two]),
        ],
        exclude: Vec::new(),
        gate,
        limits,
        notice: Notice::default(),
        hash_seed: "night".to_owned(),
    };
    plan(&Arc::new(inventory.finish().unwrap()), &Arc::new(policy)).unwrap()
}

/// Chance that can be had again: xorshift.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let place = self.below(from.len().max(1) as u64);
        from.get(usize::try_from(place).unwrap())
    }
}
