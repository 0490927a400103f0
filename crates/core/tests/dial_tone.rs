//! Dial tone: what a worker holds of it, order by order.
//!
//! # Invariants
//!
//! * Whatever is remembered is applied to a second holding too, which must agree: replaying is all
//!   that recovery does.

use std::fmt::Write as _;

use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{
    Claim, Dial, Holding, Lease, Look, Record, Room, Settled, Switched, Work,
};
use tidegate_core::mailbox::Level;
use tidegate_core::policy::Soaks;
use tidegate_core::rollout::{MessageTotals, Order, Orders};
use tidegate_core::time::{Span, Timestamp};

const JOB: JobNumber = JobNumber::new(1);
const BOTH: [Ordinal; 2] = [Ordinal::new(0), Ordinal::new(1)];
const STAMP: [u8; 16] = [7; 16];
const SWITCHED: [u8; 16] = [8; 16];

/// A worker with two mailboxes, and one that only reads its journal.
struct Worker {
    holding: Holding,
    reader: Holding,
    version: u64,
    generation: Generation,
}

impl Worker {
    /// Two mailboxes that have a dial tone.
    fn dialled() -> Self {
        let mut worker = Self::ordered(&|order| order.dial_tone = true);
        worker.intend();
        worker.dial();
        worker
    }

    fn ordered(change: &dyn Fn(&mut Order)) -> Self {
        let (holding, reader) = (Holding::default(), Holding::default());
        let generation = Generation::new(0);
        let mut worker = Self { holding, reader, version: 0, generation };
        worker.order(1, true, change);
        worker
    }

    /// Hears an order, and claims the job if the generation is new.
    fn order(&mut self, generation: u64, may_open: bool, change: &dyn Fn(&mut Order)) {
        self.version += 1;
        let mut order = Order {
            job: JOB,
            generation: Generation::new(generation),
            prepare: true,
            level: Level::HELD,
            open_below: 2,
            named: None,
            held_back: Vec::new(),
            dial_tone: false,
            soak: None,
        };
        change(&mut order);
        self.generation = order.generation;
        let (version, jobs) = (self.version, vec![order]);
        let open_millis_per_second = None;
        let kept_back = None;
        let recorded = 0;
        let orders = Orders {
            version,
            may_open,
            open_millis_per_second,
            jobs,
            kept_back,
            recorded,
        };
        self.holding.hear(orders);
        let (generation, mailboxes) = (self.generation, 2);
        let claim = Claim { job: JOB, generation, description: [0; 32], mailboxes };
        let mut records = self.holding.claimed(claim, now());
        records.extend(self.holding.closings(now()));
        self.apply(records);
    }

    fn apply(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            self.holding.apply(&record);
            self.reader.apply(&record);
        }
        for ordinal in BOTH {
            let held = |holding: &Holding| {
                holding.job(JOB).map(|job| (job.dial(ordinal), job.state(ordinal)))
            };
            assert_eq!(held(&self.holding), held(&self.reader));
        }
    }

    fn intend(&mut self) {
        let intents = self.holding.dial_intents(lease(), 9, &|_, _| false);
        self.apply(intents);
    }

    fn dial(&mut self) {
        let begun = self.holding.dialled(JOB, self.generation, &BOTH, lease());
        self.apply(begun);
    }

    fn prepare(&mut self) {
        let settled = |ordinal| Settled {
            ordinal,
            stamp: Some(STAMP),
            totals: MessageTotals::default(),
            findings: Vec::new(),
        };
        let results = BOTH.map(settled).into();
        let settled = self.holding.settled(JOB, self.generation, results, now());
        self.apply(settled);
    }

    fn hang_up(&mut self) {
        let ended = self.holding.hung_up(JOB, self.generation, &BOTH, lease());
        self.apply(ended);
    }

    fn switch(&mut self) {
        let switched = |ordinal| {
            let (imported, findings) = (3, Vec::new());
            Switched { ordinal, stamp: SWITCHED, imported, findings }
        };
        let results = BOTH.map(switched).into();
        let record = self.holding.switched(JOB, self.generation, results, now());
        self.apply(record);
    }

    fn look(&mut self, look: Look) {
        let looks = BOTH.map(|ordinal| (ordinal, look));
        let records = self.holding.looked(JOB, self.generation, &looks, lease());
        self.apply(records);
    }

    /// What is to be done, and how the mailboxes stand.
    fn shows(&mut self) -> String {
        let room = Room { prepare: 9, recheck: 9, open: 9, probe: 0, dial: 9, switch: 9 };
        let soaks = Soaks::everywhere(Span::ZERO);
        let Work { recheck, prepare, open, dial, hang_up, switch, .. } =
            self.holding.work(lease(), &soaks, room, &|_, _| false);
        let mut text = String::new();
        let held = self.holding.job(JOB).expect("it is claimed");
        for ordinal in BOTH {
            let state = held.state(ordinal).expect("it is the job's");
            let rings = self.holding.may_ring(JOB, ordinal, lease());
            let rings = if rings { " rings" } else { "" };
            let tone = held.dial(ordinal);
            write!(text, "{:?} {} {tone:?}{rings}; ", state.preparation, state.level)
                .expect("memory takes text");
        }
        for (name, work) in [
            ("recheck", recheck),
            ("prepare", prepare),
            ("open", open),
            ("dial", dial),
            ("hang up", hang_up),
            ("switch", switch),
        ] {
            let count: usize = work.iter().map(|(.., ordinals)| ordinals.len()).sum();
            if count > 0 {
                write!(text, "{name} {count}; ").expect("memory takes text");
            }
        }
        text.trim_end_matches("; ").to_owned()
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1)
}

fn lease() -> Lease {
    Lease { now: now(), until: Timestamp::from_millis(9) }
}

#[track_caller]
fn check(worker: &mut Worker, expected: &str) {
    assert_eq!(worker.shows(), expected);
}

#[test]
fn a_mailbox_is_emptied_before_it_is_prepared_and_its_history_back_before_it_opens() {
    let mut worker = Worker::ordered(&|order| order.dial_tone = true);
    check(&mut worker, "Waiting level 0 None; Waiting level 0 None");

    worker.intend();
    check(&mut worker, "Waiting level 0 Off; Waiting level 0 Off; dial 2");
    worker.dial();
    check(&mut worker, "Waiting level 0 On rings; Waiting level 0 On rings; prepare 2");
    worker.prepare();
    check(&mut worker, "Prepared level 0 On rings; Prepared level 0 On rings");

    worker.order(1, true, &|order| {
        order.dial_tone = true;
        order.level = Level::FIRST;
    });
    check(&mut worker, "Prepared level 0 On rings; Prepared level 0 On rings; hang up 2");
    worker.look(Look::Beside(STAMP));
    check(&mut worker, "Prepared level 0 On rings; Prepared level 0 On rings; hang up 2");
    worker.hang_up();
    check(&mut worker, "Prepared level 0 Off; Prepared level 0 Off; switch 2");
    worker.look(Look::Beside(STAMP));
    worker.look(Look::Stamp(STAMP));
    check(&mut worker, "Prepared level 0 Off; Prepared level 0 Off; switch 2");
    worker.switch();
    check(&mut worker, "Prepared level 0 None; Prepared level 0 None; open 2");
    worker.look(Look::Stamp(SWITCHED));
    check(&mut worker, "Prepared level 1 None; Prepared level 1 None");
    let totals = worker.holding.job(JOB).map(tidegate_core::holding::HeldJob::totals);
    assert_eq!(totals.map(|totals| totals.newer), Some(6));
}

#[test]
fn a_pause_lets_dial_tones_stand_and_begins_none() {
    let mut worker = Worker::ordered(&|order| order.dial_tone = true);
    worker.intend();
    worker.order(1, false, &|order| order.dial_tone = true);
    worker.dial();
    check(&mut worker, "Waiting level 0 Off; Waiting level 0 Off; prepare 2");

    worker.order(1, true, &|order| order.dial_tone = true);
    worker.dial();
    worker.order(1, false, &|order| order.dial_tone = true);
    check(&mut worker, "Waiting level 0 On; Waiting level 0 On; prepare 2");
}

#[test]
fn a_reclose_ends_dial_tones_and_they_begin_again_when_it_is_lifted() {
    let mut worker = Worker::dialled();
    worker.prepare();

    worker.order(2, true, &|order| order.prepare = false);
    check(&mut worker, "Waiting level 0 Off; Waiting level 0 Off");

    worker.order(2, true, &|order| order.dial_tone = true);
    check(&mut worker, "Waiting level 0 Off; Waiting level 0 Off; dial 2");
    worker.dial();
    check(&mut worker, "Waiting level 0 On rings; Waiting level 0 On rings; recheck 2");
    worker.look(Look::Beside(STAMP));
    check(&mut worker, "Prepared level 0 On rings; Prepared level 0 On rings");
}

#[test]
fn one_mailbox_is_taken_out_of_its_dial_tone_alone() {
    let mut worker = Worker::dialled();

    worker.order(1, true, &|order| {
        order.dial_tone = true;
        order.held_back = vec![Ordinal::new(1)];
    });

    check(&mut worker, "Waiting level 0 On rings; Waiting level 0 Off; prepare 1");
}

#[test]
fn a_store_that_knows_of_a_dial_tone_outranks_a_journal_that_does_not() {
    let mut worker = Worker::ordered(&|order| order.level = Level::FIRST);
    worker.prepare();
    check(&mut worker, "Prepared level 0 None; Prepared level 0 None; open 2");

    worker.look(Look::Beside(STAMP));

    check(&mut worker, "Waiting level 0 Off; Waiting level 0 Off; prepare 2");
    worker.prepare();
    worker.switch();
    worker.look(Look::Stamp(SWITCHED));
    check(&mut worker, "Prepared level 1 None; Prepared level 1 None");
}

#[test]
fn what_has_been_open_gets_no_dial_tone_and_one_that_is_refused_is_prepared_without() {
    let mut worker = Worker::ordered(&|order| order.level = Level::FIRST);
    worker.prepare();
    worker.look(Look::Stamp(STAMP));
    worker.order(2, true, &|order| order.dial_tone = true);
    worker.intend();
    check(&mut worker, "Waiting level 0 None; Waiting level 0 None; prepare 2");

    let mut worker = Worker::ordered(&|order| order.dial_tone = true);
    worker.intend();
    for ordinal in BOTH {
        worker.holding.cannot_dial(JOB, ordinal);
    }
    check(&mut worker, "Waiting level 0 Off; Waiting level 0 Off; prepare 2");
    assert_eq!(worker.holding.job(JOB).map(|job| job.dial(BOTH[0])), Some(Dial::Off));
}
