//! World: one fleet in one thread, from one seed.
//!
//! ```text
//! faults ─┐                ┌─▶ coordinator (its owner and services)
//! time ───┼─▶ one queue ───┼─▶ workers (their owners, dialogues and hands)
//! network ┘                └─▶ letters, operators, oracle
//! ```
//!
//! # Invariants
//!
//! * Nothing happens but by the queue, in the order of time; ties go by who was first.
//! * A program that is frozen does nothing; what comes for it waits, and comes in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use tidegate_core::fleet::JobNumber;
use tidegate_worker::driven::{Work, Worked};

use crate::chance::Chance;
use crate::coordinator::{Coordinator, Question};
use crate::disk::{Clock, SharedDisk};
use crate::faults::{self, Kind, Planned, Wish};
use crate::fleet::Fleet;
use crate::mailroom::SharedRoom;
use crate::operators::Operators;
use crate::oracle::Oracle;
use crate::story::Story;
use crate::worker::{Answer, Worker};

/// The hour, and how long faults go on in it.
pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const FAULTS_END: u64 = 1_800_000;

/// By then everything must have come back.
pub(crate) const PATIENCE: u64 = 4 * HOUR;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) promise: &'static str,
    pub(crate) text: String,
}

/// Whether all promises hold.
pub(crate) type Checked = Result<(), Violation>;

/// A broken promise.
pub(crate) fn broken(promise: &'static str, text: String) -> Checked {
    Err(Violation { promise, text })
}

/// What may happen.
pub(crate) enum Event {
    Fault(usize),
    /// A fault ends.
    Over(Over),
    Tick,
    CoordinatorStart,
    /// A request arrives at a run of the coordinator.
    Asked {
        run: u32,
        question: Question,
        bytes: Arc<[u8]>,
    },
    WorkerStart {
        node: usize,
    },
    WorkerEnd {
        run: u64,
    },
    /// Somebody starts another worker where one is frozen.
    TakeOver {
        run: u64,
    },
    Turn {
        run: u64,
    },
    Join {
        run: u64,
    },
    Beat {
        run: u64,
        session: u64,
    },
    Late {
        run: u64,
        call: u64,
    },
    Answered {
        run: u64,
        call: u64,
        answer: Answer,
    },
    Work {
        run: u64,
        work: Work,
    },
    Worked {
        run: u64,
        worked: Worked,
    },
    OperatorActs,
    /// Somebody wants something.
    Wish(Wish),
    /// Somebody sees what becomes of a machine that was put back.
    Mend,
    OperatorHears {
        id: u64,
        answer: Answer,
    },
    OperatorRetries {
        id: u64,
    },
    Letter,
    Lands {
        mailbox: usize,
        id: u32,
        admitted: u64,
    },
    Audit,
    Quiet,
}

/// How a fault ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Over {
    Link {
        node: usize,
    },
    Noise,
    Rate {
        machine: usize,
    },
    Full {
        machine: usize,
    },
    Slow {
        machine: usize,
    },
    Sick {
        mailbox: usize,
    },
    Stuck {
        node: usize,
    },
    StoreFull {
        node: usize,
    },
    /// A node that was not restoring anything loses its power now.
    Power {
        node: usize,
    },
    /// A node is put back to its image.
    Image {
        node: usize,
        down: u64,
    },
    Deaf {
        node: usize,
    },
}

/// When something happens, in which order among others of that time, and its place among all
/// that will: events are large, and a queue moves what is in it.
type Due = (u64, u64, usize);

/// A storage node and its machine.
pub(crate) struct Node {
    pub(crate) clock: Clock,
    pub(crate) disk: SharedDisk,
    pub(crate) shelf: Arc<crate::worker::Shelf>,
    pub(crate) room: SharedRoom,
    /// The run that mail servers ask.
    pub(crate) run: Option<u64>,
    pub(crate) link: Link,
    /// How much later than usual hands say what they have done.
    pub(crate) stuck: u64,
    /// How long it is off when its power goes.
    pub(crate) off: u64,
    pub(crate) image: Option<crate::past::Image>,
    /// It was put back, and nobody can know it yet.
    pub(crate) unaware: bool,
    /// It was put back, and its mail system has not been told yet who is held.
    pub(crate) untold: bool,
}

/// What comes through between a node and the coordinator.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) up_cut: bool,
    pub(crate) down_cut: bool,
}

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noise {
    pub(crate) loss: u64,
    pub(crate) double: u64,
    pub(crate) delay: u64,
}

/// One fleet.
pub(crate) struct World {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) now: u64,
    pub(crate) quiet: bool,
    queue: BinaryHeap<Reverse<Due>>,
    coming: Vec<Option<Event>>,
    free: Vec<usize>,
    order: u64,
    /// For the network, for hands, for people.
    pub(crate) network: Chance,
    pub(crate) hands: Chance,
    pub(crate) people: Chance,
    pub(crate) faults: Vec<Planned>,
    pub(crate) coordinator: Coordinator,
    pub(crate) nodes: Vec<Node>,
    pub(crate) workers: BTreeMap<u64, Worker>,
    pub(crate) runs: u64,
    pub(crate) noise: Noise,
    pub(crate) operators: Operators,
    pub(crate) oracle: Oracle,
    pub(crate) letters: u32,
    pub(crate) story: Story,
    pub(crate) finished_at: Option<u64>,
}

/// How one hour is lived.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) faults: Vec<Planned>,
    pub(crate) telling: bool,
}

impl Script {
    /// The hour of `seed`, with all its faults.
    pub(crate) fn of(seed: u64, fleets: &[Arc<Fleet>]) -> Self {
        let mut chance = Chance::of(seed, 1);
        let fleet = Arc::clone(&fleets[chance.index(fleets.len())]);
        Self { seed, fleet, faults: faults::draw(seed, FAULTS_END), telling: false }
    }
}

/// What came of an hour.
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) digest: u64,
    pub(crate) simulated: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) faults: BTreeMap<Kind, u64>,
    pub(crate) lines: Vec<String>,
}

impl Outcome {
    /// An hour that ended at once.
    pub(crate) fn broken(violation: Violation) -> Self {
        let (counts, faults, lines) = Default::default();
        let (digest, simulated) = (0, 0);
        Self { violation: Some(violation), digest, simulated, counts, faults, lines }
    }
}

impl World {
    /// Lives through the hour, and on until all is well.
    pub(crate) fn live(script: &Script) -> Outcome {
        let mut world = Self::new(script);
        let violation = world.run().err();
        if let Some(violation) = &violation {
            let (now, violation) = (world.now, violation.clone());
            world.story.tell(now, || {
                format!("BROKEN {}: {}", violation.promise, violation.text)
            });
        }
        let mut faults = BTreeMap::new();
        for planned in world.faults.iter().filter(|it| it.at <= world.now) {
            *faults.entry(planned.fault.kind()).or_default() += 1;
        }
        Outcome {
            violation,
            digest: world.story.digest(),
            simulated: world.now,
            counts: std::mem::take(&mut world.story.counts),
            faults,
            lines: world.story.into_lines(),
        }
    }

    fn new(script: &Script) -> Self {
        let fleet = Arc::clone(&script.fleet);
        let mut chance = Chance::of(script.seed, 3);
        let mut letters = 0;
        let hears = chance.one_in(3);
        let nodes = (0..fleet.nodes.len()).map(|node| {
            let mut room = fleet.room(node, &mut chance, &mut letters);
            room.hears = hears;
            let shared = SharedRoom::default();
            *shared.lock() = room;
            Node {
                clock: Clock::new(0),
                disk: SharedDisk::default(),
                shelf: Arc::default(),
                room: shared,
                run: None,
                link: Link::default(),
                stuck: 0,
                off: 0,
                image: None,
                unaware: false,
                untold: false,
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let mut rhythms = Chance::of(script.seed, 7);
        for node in &nodes {
            node.disk.lock().rhythm = rhythm(&mut rhythms);
        }
        let coordinator = Coordinator::new();
        coordinator.disk.lock().rhythm = rhythm(&mut rhythms);
        let mut world = Self {
            now: 0,
            quiet: false,
            queue: BinaryHeap::new(),
            coming: Vec::new(),
            free: Vec::new(),
            order: 0,
            network: Chance::of(script.seed, 4),
            hands: Chance::of(script.seed, 5),
            people: Chance::of(script.seed, 6),
            faults: script.faults.clone(),
            coordinator,
            nodes,
            workers: BTreeMap::new(),
            runs: 0,
            noise: Noise::default(),
            operators: Operators::default(),
            oracle: Oracle::new(&fleet),
            letters,
            story: Story::new(script.telling),
            finished_at: None,
            fleet,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for at in 0..self.faults.len() {
            self.at(self.faults[at].at, Event::Fault(at));
        }
        self.at(0, Event::CoordinatorStart);
        for node in 0..self.nodes.len() {
            self.at(100, Event::WorkerStart { node });
        }
        self.at(1_000, Event::Letter);
        self.at(300_000, Event::Audit);
        self.at(FAULTS_END, Event::Quiet);
    }

    fn run(&mut self) -> Checked {
        while let Some(Reverse((at, _, place))) = self.queue.pop() {
            debug_assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.free.push(place);
            let Some(event) = self.coming[place].take() else { continue };
            if self.now > HOUR && self.is_well() {
                self.finished_at = Some(self.now);
                return self.last_look();
            }
            if self.now > PATIENCE {
                return broken("L liveness", self.what_is_wrong());
            }
            self.happens(event)?;
        }
        broken("L liveness", "nothing happens any more".to_owned())
    }

    /// Lets something happen at `at`.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        let place = self.free.pop().unwrap_or(self.coming.len());
        if place == self.coming.len() {
            self.coming.push(Some(event));
        } else {
            self.coming[place] = Some(event);
        }
        self.queue.push(Reverse((at.max(self.now), self.order, place)));
    }

    /// Lets something happen after so many milliseconds.
    pub(crate) fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now + millis, event);
    }

    fn happens(&mut self, event: Event) -> Checked {
        match self.frozen_until(&event) {
            Some(until) if until > self.now => {
                // What lies in the socket is read before anybody says that it is late.
                let late = u64::from(matches!(event, Event::Late { .. }));
                self.at(until + late, event);
                return Ok(());
            }
            _ => {}
        }
        match event {
            Event::Fault(at) => self.fault(at),
            Event::Over(over) => self.over(over),
            Event::Tick => self.coordinator_tick(),
            Event::CoordinatorStart => self.coordinator_start(),
            Event::Asked { run, question, bytes } => self.asked(run, question, &bytes),
            Event::WorkerStart { node } => self.worker_start(node),
            Event::WorkerEnd { run } => self.worker_end(run),
            Event::TakeOver { run } => self.take_over(run),
            Event::Turn { run } => self.worker_turn(run),
            Event::Join { run } => self.worker_joins(run),
            Event::Beat { run, session } => self.worker_beats(run, session),
            Event::Late { run, call } => self.worker_waits_no_longer(run, call),
            Event::Answered { run, call, answer } => self.worker_hears(run, call, answer),
            Event::Work { run, work } => self.hand_works(run, work),
            Event::Worked { run, worked } => self.hand_is_done(run, worked),
            Event::OperatorActs => self.operator_acts(),
            Event::Mend => self.mend(),
            Event::Wish(wish) => {
                self.wish(wish);
                Ok(())
            }
            Event::OperatorHears { id, answer } => self.operator_hears(id, answer),
            Event::OperatorRetries { id } => self.operator_retries(id),
            Event::Letter => self.letter_comes(),
            Event::Lands { mailbox, id, admitted } => {
                self.letter_lands(mailbox, id, admitted)
            }
            Event::Audit => self.audit(),
            Event::Quiet => self.all_faults_end(),
        }
    }

    /// Until when the program that an event is for does nothing.
    fn frozen_until(&self, event: &Event) -> Option<u64> {
        match event {
            Event::Tick | Event::Asked { .. } => Some(self.coordinator.frozen_until),
            Event::Turn { run }
            | Event::Join { run }
            | Event::Beat { run, .. }
            | Event::Late { run, .. }
            | Event::Answered { run, .. }
            | Event::Work { run, .. }
            | Event::Worked { run, .. } => {
                self.workers.get(run).map(|it| it.frozen_until)
            }
            Event::Fault(_)
            | Event::Over(_)
            | Event::CoordinatorStart
            | Event::WorkerStart { .. }
            | Event::WorkerEnd { .. }
            | Event::TakeOver { .. }
            | Event::OperatorActs
            | Event::Wish(_)
            | Event::Mend
            | Event::OperatorHears { .. }
            | Event::OperatorRetries { .. }
            | Event::Letter
            | Event::Lands { .. }
            | Event::Audit
            | Event::Quiet => None,
        }
    }

    /// When the copies of a message arrive that leaves now: none, one or two.
    pub(crate) fn travel(&mut self, is_cut: bool) -> Vec<u64> {
        if is_cut {
            self.story.count("message into a cut");
            return Vec::new();
        }
        let Noise { loss, double, delay } = self.noise;
        if loss > 0 && self.network.in_thousand(loss) {
            self.story.count("message lost");
            return Vec::new();
        }
        let mut arrivals = vec![self.now + self.delay(delay)];
        if double > 0 && self.network.in_thousand(double) {
            self.story.count("message doubled");
            arrivals.push(self.now + self.delay(delay) + 1);
        }
        arrivals
    }

    fn delay(&mut self, delay: u64) -> u64 {
        1 + self.network.below(20) + self.network.below(delay + 1)
    }

    /// Lets every program of a node, or of the coordinator, see the time.
    pub(crate) fn show_time(&self, node: Option<usize>) {
        match node {
            Some(node) => {
                self.nodes[node].clock.show(self.now);
                self.nodes[node].room.lock().now = self.now;
            }
            None => self.coordinator.clock.show(self.now),
        }
    }

    /// A job by its number.
    pub(crate) fn node_of(&self, job: JobNumber) -> usize {
        self.fleet.plan.jobs()[job.index()].node.index()
    }
}

/// After how many records a journal is compacted: often, seldom or never.
fn rhythm(chance: &mut Chance) -> usize {
    [0, 12, 40, 90][chance.index(4)]
}
