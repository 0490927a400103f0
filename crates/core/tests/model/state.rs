//! State: the coordinator's journal and programs, the network, a node's runs and its store.
//!
//! # Invariants
//!
//! * Numbers never wrap and never saturate: what could happen is bounded by how often faults
//!   and operators may strike.
//! * What `Seen` holds nobody in the model can read; only promises are judged by it.

use std::fmt;

use crate::promises::{Promise, Seen};

/// Waves, each with one job of one mailbox; of small sizes only the first is used.
pub(crate) const WAVES: usize = 2;

/// What is true of everything at one instant.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The coordinator's journal, replayed.
    pub(crate) disk: Ledger,
    pub(crate) programs: [Option<Program>; 2],
    /// Reports on the network, which never go away. Sorted.
    pub(crate) reports: Vec<Report>,
    /// Answers on the network; those that nobody can ever hear are left out. Sorted.
    pub(crate) answers: Vec<Answer>,
    /// Runs of workers begun so far.
    pub(crate) begun: u8,
    pub(crate) runs: [Run; 2],
    pub(crate) store: [Mailbox; WAVES],
    pub(crate) left: Left,
    pub(crate) seen: Seen,
    pub(crate) broken: Option<Promise>,
}

/// How often what nobody promises not to happen may happen yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    /// A worker is killed.
    pub(crate) kills: u8,
    /// The node loses power.
    pub(crate) power_cuts: u8,
    /// The coordinator is killed.
    pub(crate) crashes: u8,
    /// A coordinator is started beside another, where nothing forbids it.
    pub(crate) failovers: u8,
    /// A worker takes the node from one that still runs.
    pub(crate) takeovers: u8,
    /// Somebody else changes the bytes of a mailbox.
    pub(crate) damages: u8,
    /// An open mailbox proves bad for its user.
    pub(crate) sick: u8,
    /// An operator pauses.
    pub(crate) pauses: u8,
    /// An operator re-closes a wave.
    pub(crate) recloses: u8,
}

/// What the coordinator remembers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ledger {
    pub(crate) phase: Phase,
    pub(crate) version: u8,
    pub(crate) stop_version: u8,
    pub(crate) issued: u8,
    /// The node's run; 0 is none.
    pub(crate) run: u8,
    /// The newest report of this run that told something.
    pub(crate) reported: u8,
    pub(crate) jobs: [Job; WAVES],
    pub(crate) waves: [Wave; WAVES],
}

/// Whether the rollout moves.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Running,
    Paused,
    /// Until the wave was re-closed.
    Halted {
        reclosed: bool,
    },
}

/// A job of one mailbox, as the coordinator knows it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) generation: u8,
    /// The run it is leased to; 0 is none.
    pub(crate) leased_to: u8,
    pub(crate) fact: Fact,
    pub(crate) reclosed: bool,
}

/// A wave of one job.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wave {
    pub(crate) allowed: bool,
    pub(crate) passed: bool,
    pub(crate) held_back: bool,
}

/// What is told of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fact {
    pub(crate) prepared: bool,
    pub(crate) open: bool,
    pub(crate) health: Health,
}

/// What an open mailbox has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Health {
    #[default]
    Unproven,
    Healthy,
    Failed,
}

/// A running coordinator: what it remembers, and what it has heard since it started.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Program {
    pub(crate) ledger: Ledger,
    pub(crate) heard: u8,
    pub(crate) obeyed: u8,
    pub(crate) without_permit: bool,
    /// Without R5: the first wave was judged good at some time.
    pub(crate) judged: bool,
    /// Without L1: the orders that were sent already, by version and newest generation.
    pub(crate) sent: (u8, u8),
}

/// A worker's report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Report {
    pub(crate) run: u8,
    pub(crate) call: u8,
    pub(crate) obeyed: u8,
    pub(crate) facts: [(u8, Fact); WAVES],
}

/// The coordinator's answer to a report: its orders.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Answer {
    pub(crate) run: u8,
    pub(crate) call: u8,
    pub(crate) version: u8,
    pub(crate) may_open: bool,
    pub(crate) orders: [Option<Order>; WAVES],
}

/// What shall become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Order {
    pub(crate) generation: u8,
    pub(crate) prepare: bool,
    pub(crate) open: bool,
    pub(crate) held_back: bool,
}

/// A place for a worker: its own journal, and the program while it runs.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Run {
    /// The number of the run; 0 while none runs.
    pub(crate) number: u8,
    pub(crate) joined: bool,
    pub(crate) call: u8,
    /// What it has to tell was told in this call.
    pub(crate) told: bool,
    /// The newest call whose lease has ended.
    pub(crate) ended: u8,
    pub(crate) version: u8,
    pub(crate) may_open: bool,
    pub(crate) lease: bool,
    pub(crate) orders: [Option<Order>; WAVES],
    pub(crate) pending: [Option<Order>; WAVES],
    pub(crate) hands: [Option<Hand>; WAVES],
    /// Of which it has a record.
    pub(crate) held: [Held; WAVES],
}

/// What a worker remembers of a mailbox.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) generation: u8,
    pub(crate) fact: Fact,
    pub(crate) stamp: Stamp,
}

/// The stamp at which a mailbox was verified or read. A store never has a stamp again that
/// it had before, so it is only ever the present one or none of interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Stamp {
    #[default]
    None,
    Same,
    Changed,
}

/// A repair under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hand {
    pub(crate) generation: u8,
    /// The stamp of what it has read.
    pub(crate) read: Stamp,
    pub(crate) was_good: bool,
    pub(crate) switching: bool,
}

/// A mailbox in the node's store.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mailbox {
    /// The claim on disk: generation and run.
    pub(crate) claim: (u8, u8),
    /// Whether its bytes are what they should be.
    pub(crate) good: bool,
    /// Whether a power cut would leave them so.
    pub(crate) flushed: bool,
    /// Whose switch is under way: the run that holds the mailbox's lock.
    pub(crate) locked_by: u8,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, call, obeyed, facts } = self;
        write!(f, "run {run}, call {call}, obeys {obeyed}")?;
        for (generation, Fact { prepared, open, health }) in facts {
            let stands = match (prepared, open) {
                (_, true) => "open",
                (true, false) => "prepared",
                (false, false) => "held",
            };
            if *generation > 0 {
                write!(f, ", g{generation} {stands} {health:?}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, call, version, may_open, orders } = self;
        write!(f, "run {run}, call {call}, version {version}, may open {may_open}")?;
        for Order { generation, prepare, open, held_back } in orders.iter().flatten() {
            let (prepare, open) = (u8::from(*prepare), u8::from(*open));
            let back = u8::from(*held_back);
            write!(f, ", g{generation} prepare {prepare} open {open} back {back}")?;
        }
        Ok(())
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Running,
            version: 1,
            stop_version: 1,
            issued: 0,
            run: 0,
            reported: 0,
            jobs: [Job::default(); WAVES],
            waves: [Wave::default(); WAVES],
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.phase != Phase::Running
    }
}

impl Program {
    /// A program that has replayed `disk` and heard nobody.
    pub(crate) fn start(disk: &Ledger) -> Self {
        Self {
            ledger: disk.clone(),
            heard: 0,
            obeyed: 0,
            without_permit: false,
            judged: false,
            sent: (0, 0),
        }
    }
}

impl Run {
    pub(crate) fn is_up(&self) -> bool {
        self.number > 0
    }

    /// The program ends; the journal stays.
    pub(crate) fn end(&mut self) {
        *self = Self { held: self.held, ..Self::default() };
    }

    /// What it reports.
    pub(crate) fn facts(&self) -> [(u8, Fact); WAVES] {
        self.held.map(|held| (held.generation, held.fact))
    }
}

impl State {
    /// Everything before anything has happened: damaged mailboxes, one coordinator, no worker.
    pub(crate) fn new(left: Left) -> Self {
        let disk = Ledger::new();
        let mailbox = Mailbox { claim: (0, 0), good: false, flushed: true, locked_by: 0 };
        Self {
            programs: [Some(Program::start(&disk)), None],
            disk,
            reports: Vec::new(),
            answers: Vec::new(),
            begun: 0,
            runs: [Run::default(), Run::default()],
            store: [mailbox; WAVES],
            left,
            seen: Seen::default(),
            broken: None,
        }
    }

    /// Puts a report on the network.
    pub(crate) fn send(&mut self, report: Report) {
        if let Err(place) = self.reports.binary_search(&report) {
            self.reports.insert(place, report);
        }
    }

    /// Puts an answer on the network.
    pub(crate) fn answer(&mut self, answer: Answer) {
        if let Err(place) = self.answers.binary_search(&answer) {
            self.answers.insert(place, answer);
        }
    }

    /// Leaves out what nobody can hear any more, or what would change nothing.
    ///
    /// Of answers those whose asker has ended, or has asked again since where answers belong
    /// to calls. Of reports those of a run that has ended and that no journal knows as the
    /// node's; and, where no coordinator can start anew and order is kept, those that come
    /// after a newer one.
    pub(crate) fn forget_messages(&mut self, belong_to_calls: bool, in_order: bool) {
        let runs = [&self.runs[0], &self.runs[1]].map(|run| (run.number, run.call));
        let is_known = |run: u8| {
            let mut programs = self.programs.iter().flatten();
            let running = runs.iter().any(|(number, _)| *number == run);
            running || self.disk.run == run || programs.any(|it| it.ledger.run == run)
        };
        self.answers.retain(|it| {
            let mut asked = runs.iter().filter(|(number, _)| *number == it.run);
            asked.any(|(_, call)| !belong_to_calls || *call == it.call)
        });
        let restarts = self.left.crashes > 0;
        let is_late = |it: &Report| {
            let mut programs = self.programs.iter().flatten();
            programs.any(|one| {
                let heard = if restarts { 0 } else { one.heard };
                one.ledger.run == it.run && it.call < heard.max(one.ledger.reported)
            })
        };
        let tells_late = |it: &Report| belong_to_calls && in_order && is_late(it);
        self.reports.retain(|it| is_known(it.run) && !tells_late(it));
    }

    /// Somebody has changed the bytes of a mailbox.
    pub(crate) fn change(&mut self, job: usize) {
        for run in &mut self.runs {
            let stamps = run.hands[job].iter_mut().map(|hand| &mut hand.read);
            for stamp in stamps.chain([&mut run.held[job].stamp]) {
                if *stamp == Stamp::Same {
                    *stamp = Stamp::Changed;
                }
            }
        }
    }

    /// Whether the mailbox stands open for anybody.
    pub(crate) fn is_open(&self, job: usize) -> bool {
        self.runs.iter().any(|run| run.is_up() && run.held[job].fact.open)
    }
}
