//! A herd: clients that come again until they are served, and one node that serves them.
//!
//! A simulation of discrete events. The node serves one login after the other; a mailbox's
//! first login costs more than its later ones. A client waits for so long, leaves, and comes
//! again. Everything random comes from a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tidegate_core::pace::{Felt, Pace, PacePolicy, Population, Sense};

use crate::counted::Counted;
use tidegate_core::share::Ppm;
use tidegate_core::time::{Span, Timestamp};

/// What a herd and its node are like. Times in microseconds, work in thousandths of a warm
/// login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Herd {
    /// Mailboxes of the node.
    pub(crate) mailboxes: u32,
    /// Of these, in hundredths, those of which clients wait.
    pub(crate) active_percent: u32,
    /// Clients of each of these.
    pub(crate) connections: u32,
    /// Warm logins that the node serves in a second.
    pub(crate) capacity: u32,
    /// How long a client waits, and how soon one that was shed comes again.
    pub(crate) patience: u64,
    /// How soon one that was told "not yet" comes again.
    pub(crate) retry: u64,
    /// What the first login of a mailbox costs, in warm ones.
    pub(crate) cold_cost: u64,
}

/// The herd of the reference: 20,000 mailboxes, 42,000 warm logins' worth of work.
pub(crate) const REFERENCE: Herd = Herd {
    mailboxes: 20_000,
    active_percent: 35,
    connections: 3,
    capacity: 60,
    patience: 10_000_000,
    retry: 10_000_000,
    cold_cost: 4,
};

/// A second.
pub(crate) const SECOND: u64 = 1_000_000;

/// What saying "not yet" costs a node that does it itself, in thousandths of a warm login.
const REFUSAL: u64 = 20;

/// What the node's serving path does about clients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Door {
    /// Logins are not begun for clients that have gone.
    pub(crate) skips: bool,
    /// With more than half of the patience queued a client is turned away at once.
    pub(crate) sheds: bool,
    /// The node itself says "not yet", instead of a proxy before it.
    pub(crate) refuses_itself: bool,
    /// Clients wait longer and longer, up to this, instead of coming again at once.
    pub(crate) backoff_max: Option<u64>,
}

/// How mailboxes are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opening {
    /// All at once.
    AtOnce,
    /// At this rate, in thousandths of an active mailbox a second.
    Bucket(u64),
    /// By the real controller, which believes this of the node.
    Paced {
        /// The capacity it believes in; nothing if nobody has measured it.
        capacity: Option<u32>,
        /// What it believes of the users.
        population: Population,
        /// The hard limit.
        open_per_second: u32,
        /// From when on, and until when, what should be measured is not.
        blind: Option<(u64, u64)>,
        /// Whether it is told what can be counted, as a worker counts it.
        learns: bool,
    },
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Clients served, in thousandths of all.
    pub(crate) served_permille: u64,
    /// When 99 of 100 were.
    pub(crate) t99: Option<u64>,
    /// Work for clients that had gone, in hundredths of all.
    pub(crate) wasted_percent: u64,
    /// The longest 95th percentile of ten seconds.
    pub(crate) p95_max: u64,
    /// How often the rate changed its direction.
    pub(crate) turns: u32,
}

/// When nobody was served for so long nobody ever will be.
const COLLAPSED: u64 = 400 * SECOND;

/// How often the controller is asked for a batch.
const TURN: u64 = SECOND / 10;

/// How often the controller is told what clients felt.
const FEEL: u64 = 2 * SECOND;

/// How often it is told what was counted.
const LEARN: u64 = 10 * SECOND;

/// How far back what they felt goes.
const FELT_OVER: u64 = 10 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Comes(u32),
    Leaves(u32, u32),
    Done,
    Turn,
    Feel,
    Learn,
}

struct Client {
    served: bool,
    /// Counts its visits, so that what was planned for an earlier one is known as such.
    visit: u32,
    tries: u32,
}

struct Queued {
    client: Option<u32>,
    came: u64,
    work: u64,
}

struct Run {
    herd: Herd,
    door: Door,
    opening: Opening,
    chance: Chance,
    now: u64,
    happenings: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    sequence: u64,
    clients: Vec<Client>,
    open: Vec<bool>,
    warm: Vec<bool>,
    /// Mailboxes in the order in which they open.
    order: Vec<u32>,
    opened: usize,
    queue: VecDeque<Queued>,
    queued_work: u64,
    serving: Option<Queued>,
    pace: Option<Pace>,
    /// Of the last seconds: when a login was done, and how long it took.
    logins: VecDeque<(u64, u64)>,
    shed: VecDeque<u64>,
    served: u64,
    served_at: u64,
    work_good: u64,
    work_wasted: u64,
    outcome: Outcome,
    rates: Rates,
    counted: Counted,
}

/// Where the rate stood last when it turned round, and which way it goes.
#[derive(Clone, Copy, Default)]
struct Rates {
    peak: u32,
    way: i8,
}

impl Herd {
    /// Lets the herd come to a node with this `door`, its mailboxes opened so.
    pub(crate) fn comes(self, door: Door, opening: Opening, seed: u64) -> Outcome {
        let mut run = Run::new(self, door, opening, seed);
        run.go();
        run.outcome
    }

    /// How long a node takes that never waits and wastes nothing.
    pub(crate) fn ideal(self) -> u64 {
        let work = u64::from(self.active()) * self.work_of_active();
        work * SECOND / u64::from(self.capacity)
    }

    fn active(self) -> u32 {
        self.mailboxes * self.active_percent / 100
    }

    fn work_of_active(self) -> u64 {
        self.cold_cost + u64::from(self.connections) - 1
    }

    /// What a controller knows that knows it exactly.
    pub(crate) fn population(self) -> Population {
        Population {
            active: Ppm::new(self.active_percent * 10_000),
            connections: u16::try_from(self.connections).unwrap_or(u16::MAX),
            cold_cost: u16::try_from(self.cold_cost).unwrap_or(u16::MAX),
        }
    }
}

impl Run {
    fn new(herd: Herd, door: Door, opening: Opening, seed: u64) -> Self {
        let mailboxes = usize::try_from(herd.mailboxes).expect("it fits");
        let clients = herd.active() * herd.connections;
        let mut chance = Chance(seed);
        let mut order: Vec<u32> = (0..herd.mailboxes).collect();
        for place in (1..mailboxes).rev() {
            let other = usize::try_from(chance.below(place as u64 + 1)).expect("it fits");
            order.swap(place, other);
        }
        let pace = match opening {
            Opening::Paced { capacity, population, open_per_second, .. } => {
                let policy = PacePolicy {
                    capacity,
                    population,
                    patience: Span::from_millis(herd.patience / 1_000),
                    retry: Span::from_millis(herd.retry / 1_000),
                    ..PacePolicy::DEFAULT
                };
                Some(Pace::new(policy, open_per_second, seed))
            }
            Opening::AtOnce | Opening::Bucket(_) => None,
        };
        let mut run = Self {
            herd,
            door,
            opening,
            chance,
            now: 0,
            happenings: BinaryHeap::new(),
            sequence: 0,
            clients: (0..clients)
                .map(|_| Client { served: false, visit: 0, tries: 0 })
                .collect(),
            open: vec![matches!(opening, Opening::AtOnce); mailboxes],
            warm: vec![false; mailboxes],
            order,
            opened: 0,
            queue: VecDeque::new(),
            queued_work: 0,
            serving: None,
            pace,
            logins: VecDeque::new(),
            shed: VecDeque::new(),
            served: 0,
            served_at: 0,
            work_good: 0,
            work_wasted: 0,
            outcome: Outcome {
                served_permille: 0,
                t99: None,
                wasted_percent: 0,
                p95_max: 0,
                turns: 0,
            },
            rates: Rates::default(),
            counted: Counted::new(mailboxes, herd.retry),
        };
        for client in 0..clients {
            let at = run.chance.below(herd.retry);
            run.plan(at, Happening::Comes(client));
        }
        if !matches!(opening, Opening::AtOnce) {
            run.plan(0, Happening::Turn);
        }
        if run.pace.is_some() {
            run.plan(0, Happening::Feel);
        }
        if matches!(opening, Opening::Paced { learns: true, .. }) {
            run.plan(LEARN, Happening::Learn);
        }
        run
    }

    fn go(&mut self) {
        let all = self.clients.len() as u64;
        while let Some(Reverse((at, _, happening))) = self.happenings.pop() {
            if at > self.served_at + COLLAPSED || self.served == all {
                break;
            }
            self.now = at;
            match happening {
                Happening::Comes(client) => self.comes(client),
                Happening::Leaves(client, visit) => self.leaves(client, visit),
                Happening::Done => self.done(),
                Happening::Turn => self.turn(),
                Happening::Feel => self.feel(),
                Happening::Learn => self.learn(),
            }
            self.serve();
        }
        self.outcome.served_permille = self.served * 1_000 / all;
        let work = (self.work_good + self.work_wasted).max(1);
        self.outcome.wasted_percent = self.work_wasted * 100 / work;
    }

    fn plan(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.happenings.push(Reverse((at, self.sequence, happening)));
    }

    fn mailbox(&self, client: u32) -> usize {
        usize::try_from(client / self.herd.connections).expect("it fits")
    }

    fn client(&mut self, client: u32) -> &mut Client {
        &mut self.clients[usize::try_from(client).expect("it fits")]
    }

    fn comes(&mut self, client: u32) {
        let mailbox = self.mailbox(client);
        let limit = u64::from(self.herd.capacity) * self.herd.patience / 1_000 / 2;
        self.counted.asked(mailbox, self.now);
        if !self.open[mailbox] {
            self.refuse(client, self.herd.retry);
        } else if self.door.sheds && self.queued_work > limit {
            self.shed.push_back(self.now);
            self.refuse(client, self.herd.patience);
        } else {
            let one = self.client(client);
            one.visit += 1;
            let visit = one.visit;
            let work = if self.warm[mailbox] { 1 } else { self.herd.cold_cost } * 1_000;
            self.enqueue(Some(client), work);
            self.plan(self.now + self.herd.patience, Happening::Leaves(client, visit));
        }
    }

    fn refuse(&mut self, client: u32, wait: u64) {
        if self.door.refuses_itself {
            self.enqueue(None, REFUSAL);
        }
        let wait = self.wait(client).unwrap_or(wait);
        self.plan(self.now + wait, Happening::Comes(client));
    }

    /// How long a client that backs off stays away: full jitter over twice as long each time.
    fn wait(&mut self, client: u32) -> Option<u64> {
        let max = self.door.backoff_max?;
        let first = self.herd.patience;
        let one = self.client(client);
        one.tries += 1;
        let longest = (first << one.tries.min(16)).min(max);
        Some(self.chance.below(longest))
    }

    fn enqueue(&mut self, client: Option<u32>, work: u64) {
        self.queue.push_back(Queued { client, came: self.now, work });
        self.queued_work += work;
    }

    fn leaves(&mut self, client: u32, visit: u32) {
        let one = self.client(client);
        if one.served || one.visit != visit {
            return;
        }
        one.visit += 1;
        let wait = self.wait(client).unwrap_or(0);
        self.plan(self.now + wait, Happening::Comes(client));
    }

    /// Begins the next login, if none is being served.
    fn serve(&mut self) {
        while self.serving.is_none()
            && let Some(mut next) = self.queue.pop_front()
        {
            self.queued_work -= next.work;
            if let Some(client) = next.client {
                let gone = self.now > next.came + self.herd.patience;
                if self.door.skips && (gone || self.client(client).served) {
                    continue;
                }
                let cold = !self.warm[self.mailbox(client)];
                next.work = if cold { self.herd.cold_cost } else { 1 } * 1_000;
                if self.door.skips {
                    // It is being served: it stays.
                    self.client(client).visit += 1;
                }
            }
            let took = next.work * 1_000 / u64::from(self.herd.capacity);
            self.plan(self.now + took, Happening::Done);
            self.serving = Some(next);
        }
    }

    fn done(&mut self) {
        let Some(Queued { client: Some(client), came, work }) = self.serving.take()
        else {
            return;
        };
        let mailbox = self.mailbox(client);
        let first = !std::mem::replace(&mut self.warm[mailbox], true);
        // A probe that reads a mailbox on a node that is not busy takes as long as the login.
        self.counted.served(first, work * 1_000 / u64::from(self.herd.capacity));
        let there = self.door.skips || self.now <= came + self.herd.patience;
        if self.pace.is_some() {
            self.logins.push_back((self.now, self.now - came));
        }
        let one = self.client(client);
        if one.served || !there {
            self.work_wasted += work;
            return;
        }
        one.served = true;
        one.visit += 1;
        self.work_good += work;
        self.served += 1;
        self.served_at = self.now;
        if self.served * 100 >= self.clients.len() as u64 * 99 {
            self.outcome.t99.get_or_insert(self.now);
        }
    }

    /// Opens what is due.
    fn turn(&mut self) {
        let due = match (self.opening, &mut self.pace) {
            (Opening::Bucket(rate), _) => {
                // The bucket counts active mailboxes, as the reference does.
                let all = rate * (self.now / 1_000) / 1_000_000 * 100;
                let due = all / u64::from(self.herd.active_percent);
                usize::try_from(due).expect("it fits").saturating_sub(self.opened)
            }
            (Opening::Paced { .. }, Some(pace)) => {
                let now = at(self.now);
                pace.fill(now);
                let due = pace.whole().min(self.order.len() - self.opened);
                pace.spend(due);
                due
            }
            (Opening::AtOnce | Opening::Paced { .. }, _) => 0,
        };
        let until = (self.opened + due).min(self.order.len());
        for mailbox in &self.order[self.opened..until] {
            let mailbox = usize::try_from(*mailbox).expect("it fits");
            self.open[mailbox] = true;
            self.counted.opened(mailbox, self.now);
        }
        self.opened = until;
        self.watch_rate();
        if self.opened < self.order.len() {
            self.plan(self.now + TURN, Happening::Turn);
        }
    }

    /// Tells the controller what was counted.
    fn learn(&mut self) {
        let lesson = self.counted.lesson(self.now, LEARN);
        if let Some(pace) = &mut self.pace {
            pace.learn(&lesson, at(self.now));
        }
        if self.opened < self.order.len() {
            self.plan(self.now + LEARN, Happening::Learn);
        }
    }

    /// Counts how often the rate turns round by a tenth or more.
    fn watch_rate(&mut self) {
        let Some(pace) = &self.pace else { return };
        let rate = pace.report().millis_per_second;
        let Rates { peak, way } = self.rates;
        if way >= 0 && rate > peak || way <= 0 && rate < peak {
            self.rates.peak = rate;
        }
        let apart = u64::from(rate.abs_diff(peak)) * 10;
        if apart >= u64::from(rate.max(peak)) && rate != peak {
            let now = if rate > peak { 1 } else { -1 };
            self.outcome.turns += u32::from(way != 0 && now != way);
            self.rates = Rates { peak: rate, way: now };
        }
    }

    /// Tells the controller what the clients of the last seconds felt.
    fn feel(&mut self) {
        let from = self.now.saturating_sub(FELT_OVER);
        while self.logins.front().is_some_and(|(when, _)| *when < from) {
            self.logins.pop_front();
        }
        while self.shed.front().is_some_and(|when| *when < from) {
            self.shed.pop_front();
        }
        let mut took: Vec<u64> = self.logins.iter().map(|(_, took)| *took).collect();
        took.sort_unstable();
        let p95 = took.get(took.len() * 95 / 100).copied().unwrap_or(0);
        self.outcome.p95_max = self.outcome.p95_max.max(p95);
        let (shed, done) = (self.shed.len(), took.len());
        let share = u32::try_from(shed * 1_000_000 / (shed + done).max(1));
        let per_second = done as u64 * SECOND / FELT_OVER.min(self.now.max(SECOND));
        let felt = Felt {
            login_p95: Sense::Known(Span::from_millis(p95 / 1_000)),
            shed: Sense::Known(Ppm::new(share.expect("a share"))),
            logins_per_second: Sense::Known(u32::try_from(per_second).expect("it fits")),
            ..Felt::default()
        };
        let blind = match self.opening {
            Opening::Paced { blind: Some((from, to)), .. } => {
                (from..to).contains(&self.now)
            }
            Opening::Paced { .. } | Opening::AtOnce | Opening::Bucket(_) => false,
        };
        let felt = if blind {
            Felt { login_p95: Sense::Missing, shed: Sense::Missing, ..felt }
        } else {
            felt
        };
        if let Some(pace) = &mut self.pace {
            pace.feel(&felt, at(self.now));
        }
        if self.opened < self.order.len() {
            self.plan(self.now + FEEL, Happening::Feel);
        }
    }
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000) + Span::from_millis(micros / 1_000)
}

/// Splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end.max(1)
    }
}
