//! Faults: what goes wrong in an hour, drawn before it begins.
//!
//! # Invariants
//!
//! * Faults are a list with times, so that one can be left out and the rest stays.
//! * Nothing goes wrong after the fault phase.

use crate::chance::Chance;

/// A kind of fault, as it is counted and as it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    WorkerCrash,
    WorkerPause,
    Zombie,
    CoordinatorCrash,
    CoordinatorPause,
    Partition,
    OneWay,
    Swizzle,
    Noise,
    WallJump,
    ClockRate,
    DiskFull,
    AppendTrouble,
    SlowDisk,
    StoreError,
    StoreBusy,
    OddAnswers,
    Intruder,
    Sickness,
    TwinWorker,
    Operator,
    Race,
    PauseUnreachable,
    StopInCall,
    StuckHands,
    Impatient,
    DeafMail,
    Rot,
    LongDelay,
    StoreFull,
    ReadError,
    PowerCut,
    LostTail,
    OldJournal,
    OldMachine,
    OldCoordinator,
    JournalLost,
}

impl Kind {
    /// All of them: a run that never met one is none.
    pub(crate) const ALL: [Self; 37] = [
        Self::WorkerCrash,
        Self::WorkerPause,
        Self::Zombie,
        Self::CoordinatorCrash,
        Self::CoordinatorPause,
        Self::Partition,
        Self::OneWay,
        Self::Swizzle,
        Self::Noise,
        Self::WallJump,
        Self::ClockRate,
        Self::DiskFull,
        Self::AppendTrouble,
        Self::SlowDisk,
        Self::StoreError,
        Self::StoreBusy,
        Self::OddAnswers,
        Self::Intruder,
        Self::Sickness,
        Self::TwinWorker,
        Self::Operator,
        Self::Race,
        Self::PauseUnreachable,
        Self::StopInCall,
        Self::StuckHands,
        Self::Impatient,
        Self::DeafMail,
        Self::Rot,
        Self::LongDelay,
        Self::StoreFull,
        Self::ReadError,
        Self::PowerCut,
        Self::LostTail,
        Self::OldJournal,
        Self::OldMachine,
        Self::OldCoordinator,
        Self::JournalLost,
    ];
}

/// What an operator wants; parts by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Pause,
    Freeze,
    Thaw,
    Resume,
    Abort,
    RecloseWave(u64),
    RecloseNode(u64),
    RecloseMailbox(u64),
    ResumeWave(u64),
    ResumeNode(u64),
    ResumeMailbox(u64),
    /// One of those that are set aside, if there are any.
    Retry(u64),
    /// The wave that climbs.
    Expand,
    /// All waves, or one of them, are hurried.
    Emergency(u64),
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A worker dies and is started again.
    WorkerCrash {
        node: u64,
        down: u64,
    },
    /// A worker stops for a while and goes on as if nothing had been.
    WorkerPause {
        node: u64,
        stopped: u64,
    },
    CoordinatorCrash {
        down: u64,
    },
    CoordinatorPause {
        stopped: u64,
    },
    /// Nothing comes through, or nothing in one direction.
    Partition {
        node: u64,
        up: bool,
        down: bool,
        lasts: u64,
    },
    /// Links go one by one and come back in another order.
    Swizzle {
        step: u64,
        lasts: u64,
    },
    /// Messages are lost, late, doubled and overtaken, so many of a thousand.
    Noise {
        loss: u64,
        double: u64,
        delay: u64,
        lasts: u64,
    },
    /// Somebody sets a wall clock. Machine 0 is the coordinator's.
    WallJump {
        machine: u64,
        by: i64,
    },
    ClockRate {
        machine: u64,
        rate: i64,
        lasts: u64,
    },
    DiskFull {
        machine: u64,
        lasts: u64,
    },
    /// An append fails: 0 dies before, 1 after it is on disk, 2 and 3 fsync error, 4 torn.
    AppendTrouble {
        machine: u64,
        after: u64,
        how: u64,
    },
    SlowDisk {
        machine: u64,
        by: u64,
        lasts: u64,
    },
    StoreError {
        node: u64,
    },
    StoreBusy {
        node: u64,
        times: u64,
    },
    OddAnswers {
        node: u64,
        times: u64,
    },
    /// Somebody who is no worker touches a held mailbox: harms a message or only its stamp.
    Intruder {
        mailbox: u64,
        harm: bool,
    },
    /// An open mailbox cannot be read any more.
    Sickness {
        mailbox: u64,
        lasts: u64,
    },
    /// A second worker for a node, started from a copy of its disk.
    TwinWorker {
        node: u64,
        lives: u64,
    },
    Operator(Wish),
    /// Two operators want different things in the same instant.
    Race(Wish, Wish),
    /// Somebody pauses while a node cannot be reached.
    PauseUnreachable {
        node: u64,
        lasts: u64,
    },
    /// A worker stops with its next report on the way; the answer waits for it.
    StopInCall {
        node: u64,
        stopped: u64,
    },
    /// What hands have done is told so much later: the disk hangs, the heart beats on.
    StuckHands {
        node: u64,
        by: u64,
        lasts: u64,
    },
    /// An operator wants the same thing again while it is being done.
    Impatient {
        wish: Wish,
        after: u64,
    },
    /// The mail system does not shut out anybody for a while, and just then a node is re-closed.
    DeafMail {
        node: u64,
        lasts: u64,
    },
    /// A message in an open mailbox goes bad where it lies.
    Rot {
        mailbox: u64,
    },
    /// There is no room where the mail lies.
    StoreFull {
        node: u64,
        lasts: u64,
    },
    /// What is read next at the store cannot be read.
    ReadError {
        node: u64,
        times: u64,
    },
    /// A node loses its power, if it can be in the middle of restoring a mailbox.
    PowerCut {
        node: u64,
        after: u64,
        down: u64,
    },
    /// A node's journal is put back to what it was so many records ago: few are what a disk
    /// forgets that lies about flushes.
    OldJournal {
        node: u64,
        lost: u64,
        down: u64,
    },
    /// The coordinator's journal is put back to what it was so many records ago.
    OldCoordinator {
        lost: u64,
        down: u64,
    },
    /// The coordinator's journal is gone; the rollout is made again from what workers hold.
    JournalLost {
        down: u64,
    },
    /// A node is put back, with all its mail, to what it was so long ago.
    OldMachine {
        node: u64,
        age: u64,
        down: u64,
    },
}

impl Fault {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::WorkerCrash { .. } => Kind::WorkerCrash,
            Self::WorkerPause { stopped, .. } if stopped > 60_000 => Kind::Zombie,
            Self::WorkerPause { .. } => Kind::WorkerPause,
            Self::CoordinatorCrash { .. } => Kind::CoordinatorCrash,
            Self::CoordinatorPause { .. } => Kind::CoordinatorPause,
            Self::Partition { up: true, down: true, .. } => Kind::Partition,
            Self::Partition { .. } => Kind::OneWay,
            Self::Swizzle { .. } => Kind::Swizzle,
            Self::Noise { delay, .. } if delay > LONG => Kind::LongDelay,
            Self::Noise { .. } => Kind::Noise,
            Self::WallJump { .. } => Kind::WallJump,
            Self::ClockRate { .. } => Kind::ClockRate,
            Self::DiskFull { .. } => Kind::DiskFull,
            Self::AppendTrouble { .. } => Kind::AppendTrouble,
            Self::SlowDisk { .. } => Kind::SlowDisk,
            Self::StoreError { .. } => Kind::StoreError,
            Self::StoreBusy { .. } => Kind::StoreBusy,
            Self::OddAnswers { .. } => Kind::OddAnswers,
            Self::Intruder { .. } => Kind::Intruder,
            Self::Sickness { .. } => Kind::Sickness,
            Self::TwinWorker { .. } => Kind::TwinWorker,
            Self::Operator(_) => Kind::Operator,
            Self::Race(..) => Kind::Race,
            Self::PauseUnreachable { .. } => Kind::PauseUnreachable,
            Self::StopInCall { .. } => Kind::StopInCall,
            Self::StuckHands { .. } => Kind::StuckHands,
            Self::Impatient { .. } => Kind::Impatient,
            Self::DeafMail { .. } => Kind::DeafMail,
            Self::Rot { .. } => Kind::Rot,
            Self::StoreFull { .. } => Kind::StoreFull,
            Self::ReadError { .. } => Kind::ReadError,
            Self::PowerCut { .. } => Kind::PowerCut,
            Self::OldJournal { lost, .. } if lost <= TAIL => Kind::LostTail,
            Self::OldJournal { .. } => Kind::OldJournal,
            Self::OldMachine { .. } => Kind::OldMachine,
            Self::OldCoordinator { .. } => Kind::OldCoordinator,
            Self::JournalLost { .. } => Kind::JournalLost,
        }
    }
}

/// A fault and its hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) at: u64,
    pub(crate) fault: Fault,
}

/// Delays above this outlast every lease's beats.
const LONG: u64 = 20_000;

/// So many records are a tail.
const TAIL: u64 = 4;

/// Seconds in milliseconds.
fn secs(chance: &mut Chance, from: u64, to: u64) -> u64 {
    chance.between(from * 1_000, to * 1_000)
}

/// What goes wrong in the hour of `seed`, until `end`.
pub(crate) fn draw(seed: u64, end: u64) -> Vec<Planned> {
    let mut chance = Chance::of(seed, 2);
    // Some hours are calm, some wild; an hour has some of all kinds and much of few.
    let every = [20_000, 40_000, 90_000, 240_000][chance.index(4)];
    let favourite = chance.below(KINDS);
    let mut planned = Vec::new();
    let mut at = chance.below(every * 2);
    while at < end {
        let kind = if chance.one_in(4) { favourite } else { chance.below(KINDS) };
        planned.push(Planned { at, fault: one(kind, &mut chance) });
        at += chance.between(every / 10, every * 2);
    }
    planned
}

/// What [`one`] tells apart.
const KINDS: u64 = 53;

fn one(kind: u64, chance: &mut Chance) -> Fault {
    let node = chance.below(1_000);
    let machine = chance.below(1_000);
    let c = chance;
    match kind {
        0 | 1 => Fault::WorkerCrash { node, down: secs(c, 1, 90) },
        2 => Fault::WorkerPause { node, stopped: secs(c, 1, 30) },
        3 | 4 => Fault::WorkerPause { node, stopped: secs(c, 61, 200) },
        5 | 6 => Fault::CoordinatorCrash { down: secs(c, 1, 90) },
        7 => Fault::CoordinatorPause { stopped: secs(c, 1, 120) },
        8 => Fault::Partition { node, up: true, down: true, lasts: secs(c, 5, 300) },
        9 | 10 => {
            let up = c.one_in(2);
            Fault::Partition { node, up, down: !up, lasts: secs(c, 5, 200) }
        }
        11 => Fault::Swizzle { step: secs(c, 1, 20), lasts: secs(c, 20, 120) },
        12 | 13 => Fault::Noise {
            loss: c.below(300),
            double: c.below(300),
            delay: c.below(20_000),
            lasts: secs(c, 20, 240),
        },
        14 => {
            let by = i64::try_from(c.below(7_200_000)).unwrap() - 3_600_000;
            Fault::WallJump { machine, by }
        }
        15 => {
            let rate = i64::try_from(c.below(2_000)).unwrap() - 1_000;
            Fault::ClockRate { machine, rate, lasts: secs(c, 60, 900) }
        }
        16 => Fault::DiskFull { machine, lasts: secs(c, 5, 120) },
        17..=19 => Fault::AppendTrouble { machine, after: c.below(8), how: c.below(5) },
        20 => {
            Fault::SlowDisk { machine, by: c.between(50, 40_000), lasts: secs(c, 5, 60) }
        }
        21 => Fault::StoreError { node },
        22 => Fault::StoreBusy { node, times: c.between(1, 6) },
        23 => Fault::OddAnswers { node, times: c.between(1, 12) },
        24 => Fault::Intruder { mailbox: node, harm: c.one_in(2) },
        25 => Fault::Sickness { mailbox: node, lasts: secs(c, 30, 300) },
        26 => Fault::TwinWorker { node, lives: secs(c, 10, 200) },
        27..=30 => Fault::Operator(wish(c)),
        31 | 32 => Fault::Race(wish(c), wish(c)),
        33 => Fault::PauseUnreachable { node, lasts: secs(c, 20, 200) },
        34 | 35 => Fault::StopInCall { node, stopped: secs(c, 20, 200) },
        36 | 37 => {
            Fault::StuckHands { node, by: secs(c, 2, 70), lasts: secs(c, 20, 200) }
        }
        38 | 39 => Fault::Impatient { wish: closing(c), after: secs(c, 1, 30) },
        40 => Fault::DeafMail { node, lasts: secs(c, 20, 120) },
        41 => Fault::Rot { mailbox: node },
        42 => Fault::Noise {
            loss: 0,
            double: c.below(600),
            delay: secs(c, 21, 200),
            lasts: secs(c, 10, 120),
        },
        43 => Fault::StoreFull { node, lasts: secs(c, 5, 120) },
        44 => Fault::ReadError { node, times: c.between(1, 6) },
        45..=47 => Fault::PowerCut { node, after: c.below(8), down: secs(c, 20, 120) },
        48 => Fault::OldJournal { node, lost: c.between(1, TAIL), down: secs(c, 1, 90) },
        49 => Fault::OldJournal {
            node,
            lost: c.between(TAIL + 1, 60),
            down: secs(c, 1, 90),
        },
        50 => Fault::OldCoordinator { lost: c.between(1, 60), down: secs(c, 1, 90) },
        51 => Fault::JournalLost { down: secs(c, 1, 90) },
        _ => Fault::OldMachine { node, age: secs(c, 20, 600), down: secs(c, 1, 90) },
    }
}

/// Somebody closes a part.
fn closing(chance: &mut Chance) -> Wish {
    let which = chance.below(1_000);
    match chance.below(4) {
        0 => Wish::RecloseWave(which),
        1 => Wish::RecloseMailbox(which),
        _ => Wish::RecloseNode(which),
    }
}

fn wish(chance: &mut Chance) -> Wish {
    let which = chance.below(1_000);
    match chance.below(29) {
        0..=2 => Wish::Pause,
        3 => Wish::Expand,
        4..=8 => Wish::Resume,
        9 => Wish::Emergency(which),
        10 => Wish::RecloseWave(which),
        11 => Wish::RecloseNode(which),
        12..=14 => Wish::RecloseMailbox(which),
        15..=17 => Wish::ResumeWave(which),
        18..=20 => Wish::ResumeNode(which),
        21 | 22 => Wish::ResumeMailbox(which),
        24 => Wish::Freeze,
        25 | 26 => Wish::Thaw,
        27 | 28 => Wish::Retry(which),
        _ if chance.one_in(12) => Wish::Abort,
        _ => Wish::Pause,
    }
}
