//! Node: a worker's decisions over a mail store that exists only as chances.
//!
//! # Invariants
//!
//! * What the worker remembers comes from its records alone, as in the real one.
//! * A lost node neither reports nor changes anything.

use fastrand::Rng;
use tidegate_core::fleet::{Incarnation, JobNumber, NodeNumber, Ordinal};
use tidegate_core::gate::PulseSignal;
use tidegate_core::holding::{
    Claim, Holding, Lease, Look, Outcome, Probed, Record, Room, Settled, Switched, Work,
};
use tidegate_core::mailbox::{Health, Level};
use tidegate_core::pace::Pace;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{
    Account, Finding, FindingKind, Grade, Grades, Join, MessageTotals, Orders, Origin,
    Sync, Vitals,
};
use tidegate_core::share::Ppm;
use tidegate_core::time::{Span, Timestamp};

use crate::assume::{DRIFT_EVERY, Nature, belongs, normal};

/// As many facts as a worker tells at once.
const FACTS_MAX: usize = 10_000;

/// As many as a worker gives its hands in one turn, of each kind.
const ROOM_MAX: usize = 4_096;

/// How often the pace is asked: batches are due every half second.
const FILL_EVERY: Span = Span::from_millis(250);

/// Nothing has changed in a store that is not there.
const STAMP: [u8; 16] = [7; 16];

/// One storage node and its worker.
#[derive(Debug)]
pub(crate) struct Node {
    // What it was given.
    number: NodeNumber,
    nature: Nature,
    seed: u64,
    required: Vec<PulseSignal>,

    // What the worker knows.
    holding: Holding,
    pace: Pace,
    joined: bool,
    sent: u64,
    answered: u64,
    recorded: u64,
    records: u64,
    lease_until: Timestamp,
    vitals: Vitals,

    // What of the night has passed.
    filled_at: Timestamp,
    /// Mailboxes that it could have verified and has not, and a part of one.
    prepares: f64,
    noted_at: Timestamp,
    opened: u64,
    chance: Rng,
    drifted_at: Timestamp,
    /// The logarithm of what its speed is divided by is this far from zero.
    drift: f64,
    /// What it may open by the policy or its part of the whole, thousandths in a second.
    limit: u64,
}

impl Node {
    pub(crate) fn new(
        number: NodeNumber,
        nature: Nature,
        seed: u64,
        plan: &Plan,
        now: Timestamp,
    ) -> Self {
        let policy = plan.policy();
        let limits = policy.limits;
        let mut pace = Pace::new(limits.pace, limits.open_per_second, seed);
        let whole = u64::from(limits.open_per_second) * 1_000;
        pace.limit_to(slowed(whole, nature.slower));
        let each = &policy.gate.signals.each;
        let required = PulseSignal::ALL.into_iter().filter(|signal| {
            each.get(signal.index()).is_some_and(|policy| policy.required)
        });
        Self {
            number,
            nature,
            seed,
            required: required.collect(),
            holding: Holding::default(),
            pace,
            joined: false,
            sent: 0,
            answered: 0,
            recorded: 0,
            records: 0,
            lease_until: now,
            vitals: Vitals { disk_free: Some(Ppm::WHOLE), ..Vitals::default() },
            filled_at: now,
            prepares: 0.0,
            noted_at: now,
            opened: 0,
            chance: Rng::with_seed(seed),
            drifted_at: now,
            drift: 0.0,
            limit: whole,
        }
    }

    /// Whether it has fallen silent for good, so long after the start.
    pub(crate) fn is_lost(&self, since_start: Span) -> bool {
        self.nature.lost_after.is_some_and(|after| since_start >= after)
    }

    /// What it asks to join with, if it has not.
    pub(crate) fn join(&mut self, name: &str) -> Option<Join> {
        if self.joined {
            return None;
        }
        self.joined = true;
        self.holding.forget_orders();
        Some(Join {
            node: name.to_owned(),
            incarnation: Incarnation::new(1),
            claimed_max: self.holding.generation_max(),
            orders_seen: 0,
            journaled: Some(self.records),
            store_claimed: self.holding.generation_max(),
        })
    }

    /// What it tells.
    pub(crate) fn report(&mut self, plan: &Plan, now: Timestamp) -> Sync {
        self.sent += 1;
        self.note_minutes(plan, now);
        self.vitals.pace = Some(self.pace.report());
        let reports = self.holding.report(FACTS_MAX);
        Sync {
            node: self.number,
            incarnation: Incarnation::new(1),
            sequence: self.sent,
            orders_obeyed: self.holding.orders_obeyed(),
            claimed_max: self.holding.generation_max(),
            account: Some(Account {
                answered: self.answered,
                recorded: self.recorded,
                journaled: Some(self.records),
                ..self.holding.account(&reports)
            }),
            reports,
            vitals: self.vitals,
        }
    }

    /// Every signal that the policy asks for is measured, and quiet.
    fn note_minutes(&mut self, plan: &Plan, now: Timestamp) {
        let every = plan.policy().gate.signals.every;
        while !self.required.is_empty() && now.since(self.noted_at) >= every {
            self.noted_at = self.noted_at + every;
            for signal in &self.required {
                self.vitals.pulses.note(*signal, 0, 0);
            }
        }
    }

    /// Hears the answer to `sync`. Returns whether anything may rise now.
    pub(crate) fn hear(
        &mut self,
        sync: &Sync,
        orders: Orders,
        lease: Span,
        now: Timestamp,
    ) -> bool {
        let named = |order: &tidegate_core::rollout::Order| {
            order.named.as_ref().is_some_and(|named| !named.is_empty())
        };
        let moves = orders.may_open && orders.jobs.iter().any(named);
        self.answered = sync.sequence;
        self.recorded = self.recorded.max(orders.recorded);
        self.lease_until = now + lease;
        if let Some(part) = orders.open_millis_per_second {
            self.limit = u64::from(part);
        }
        self.pace.limit_to(slowed(self.limit, self.slower()));
        self.holding.confirmed(&sync.reports);
        self.holding.hear(orders);
        let closings = self.holding.closings(now);
        self.remember(closings);
        moves
    }

    /// How many times slower than others it is now.
    fn slower(&self) -> f64 {
        self.nature.slower * self.drift.abs().exp()
    }

    /// Becomes slower or faster for a while.
    fn drift(&mut self, now: Timestamp) {
        while now.since(self.drifted_at) >= DRIFT_EVERY {
            self.drifted_at = self.drifted_at + DRIFT_EVERY;
            let fresh = self.nature.drift * normal(&mut self.chance);
            // Half of the variance is new: it stays what it is over all.
            self.drift = (self.drift + fresh) * std::f64::consts::FRAC_1_SQRT_2;
        }
    }

    /// Does what can be done until `now`.
    pub(crate) fn turn(&mut self, plan: &Plan, now: Timestamp, may_rise: bool) {
        let lease = Lease { now, until: self.lease_until };
        let open = if may_rise { self.grants(now) } else { 0 };
        let seconds = secs(now.since(self.filled_at));
        self.filled_at = now;
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let most = ROOM_MAX as f64;
        self.drift(now);
        let speed = self.nature.prepares_per_second / self.drift.abs().exp();
        self.prepares = (self.prepares + seconds * speed).min(most);
        #[expect(clippy::cast_possible_truncation, reason = "at most some thousands")]
        #[expect(clippy::cast_sign_loss, reason = "time does not run backwards")]
        let prepare = self.prepares as usize;
        let room = Room {
            prepare,
            recheck: ROOM_MAX,
            open,
            probe: ROOM_MAX,
            dial: ROOM_MAX,
            switch: ROOM_MAX,
        };
        let intents = self.holding.dial_intents(lease, ROOM_MAX, &|_, _| false);
        self.remember(intents);
        let soaks = plan.policy().soaks();
        let work = self.holding.work(lease, &soaks, room, &|_, _| false);
        self.carry_out(plan, work, lease);
    }

    /// How many mailboxes the pace grants until `now`.
    fn grants(&mut self, now: Timestamp) -> usize {
        let mut granted = 0;
        let mut at = self.filled_at.max(now - LATE);
        while at < now {
            at = (at + FILL_EVERY).min(now);
            self.pace.fill(at);
            let whole = self.pace.whole();
            self.pace.spend(whole);
            granted += whole;
        }
        granted
    }

    fn carry_out(&mut self, plan: &Plan, work: Work, lease: Lease) {
        let now = lease.now;
        for (job, generation) in work.claim {
            let mailboxes = plan.jobs().get(job.index()).map_or(0, |job| job.size);
            let claim = Claim { job, generation, description: [0; 32], mailboxes };
            let claimed = self.holding.claimed(claim, now);
            self.remember(claimed);
        }
        for (job, generation, ordinals) in work.prepare {
            #[expect(clippy::cast_precision_loss, reason = "some thousands")]
            let done = ordinals.len() as f64;
            self.prepares -= done;
            let results = ordinals.into_iter().map(|it| self.verify(plan, job, it));
            let results = results.collect();
            let record = self.holding.settled(job, generation, results, now);
            self.remember(record);
        }
        for (job, generation, ordinals) in work.recheck.into_iter().chain(work.open) {
            let looks = ordinals.into_iter().map(|ordinal| (ordinal, Look::Stamp(STAMP)));
            let looks: Vec<_> = looks.collect();
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
            let results = ordinals.into_iter().map(|ordinal| Switched {
                ordinal,
                stamp: STAMP,
                imported: 0,
                findings: Vec::new(),
            });
            let record = self.holding.switched(job, generation, results.collect(), now);
            self.remember(record);
        }
        for (job, generation, ordinals) in work.raise {
            let record = self.holding.raised(job, generation, &ordinals, lease);
            self.remember(record);
        }
        let tasks =
            work.probe.chunk_by(|a, b| (a.job, a.generation) == (b.job, b.generation));
        for tasks in tasks {
            let Some(first) = tasks.first() else { continue };
            let results = tasks.iter().map(|task| Probed {
                ordinal: task.ordinal,
                level: task.level,
                mature: task.mature,
                outcome: self.read(plan, task.job, task.ordinal),
            });
            let results = results.collect();
            let record = self.holding.probed(first.job, first.generation, results, now);
            self.remember(record);
        }
    }

    fn remember(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            if let Record::Raised { level: Level::FIRST, ordinals, .. } = &record {
                self.opened += ordinals.len() as u64;
            }
            self.holding.apply(&record);
            self.records += 1;
        }
    }

    fn verify(&self, plan: &Plan, job: JobNumber, ordinal: Ordinal) -> Settled {
        let mailbox = number(plan, job, ordinal);
        let aside = belongs(self.seed ^ ASIDE, mailbox, self.nature.sets_aside);
        let grade = if aside { Grade::Poor } else { Grade::Perfect };
        let grades = Grades::one(grade);
        Settled {
            ordinal,
            stamp: (!aside).then_some(STAMP),
            totals: MessageTotals { grades, ..MessageTotals::default() },
            findings: Vec::new(),
        }
    }

    fn read(&self, plan: &Plan, job: JobNumber, ordinal: Ordinal) -> Outcome {
        let mailbox = number(plan, job, ordinal);
        if !belongs(self.seed ^ FAILS, mailbox, self.nature.fails) {
            return Outcome::Read;
        }
        Outcome::Unreadable(Finding {
            ordinal,
            kind: FindingKind::Probe,
            folder: String::new(),
            uid: None,
            name: String::new(),
            code: "unreadable".to_owned(),
            reason: "assumed".to_owned(),
            size_bytes: 0,
            kept_at: String::new(),
            origin: Origin::default(),
        })
    }

    /// Mailboxes that it has let anybody into.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Mailboxes whose owners were let in and could not read them.
    pub(crate) fn harmed(&self) -> u64 {
        let states = self.holding.jobs().flat_map(|(_, job)| job.states());
        let harmed = states.filter(|state| state.health >= Health::Failed);
        harmed.count() as u64
    }
}

/// Fates that come to different mailboxes.
const FAILS: u64 = 0x6661_696c;
const ASIDE: u64 = 0x6173_6964;

/// What was not asked of the pace for so long is not made up for.
const LATE: Span = Span::from_secs(10);

/// The mailbox in its place.
fn number(plan: &Plan, job: JobNumber, ordinal: Ordinal) -> u64 {
    let mailbox = plan.members(job).get(ordinal.index());
    mailbox.map_or(0, |mailbox| u64::from(mailbox.get()))
}

/// A rate on a node so many times slower.
fn slowed(millis_per_second: u64, slower: f64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "rates are some thousands")]
    let slowed = millis_per_second as f64 / slower;
    #[expect(clippy::cast_possible_truncation, reason = "not more than it was")]
    #[expect(clippy::cast_sign_loss, reason = "rates are positive")]
    let slowed = slowed as u64;
    slowed.max(1)
}

fn secs(span: Span) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "nights are short")]
    let millis = span.millis() as f64;
    millis / 1_000.0
}
