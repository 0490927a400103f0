//! Trouble: how faults are brought about, and how they end.
//!
//! # Invariants
//!
//! * A fault that cannot happen just now does not happen; it is not put off.

use crate::disk::Trouble;
use crate::faults::{Fault, Wish};
use crate::fleet::RECEIVE;
use crate::i1_kept::lost_in_a_move;
use crate::mailroom::Letter;
use crate::world::{Checked, Event, HOUR, Noise, Over, World};

impl World {
    pub(crate) fn fault(&mut self, at: usize) -> Checked {
        let fault = self.faults[at].fault;
        self.story.tell(self.now, || format!("FAULT {at}: {fault:?}"));
        self.story.mix(at as u64);
        match fault {
            Fault::WorkerCrash { node, down } => {
                if let Some(run) = self.nodes[self.node(node)].run {
                    self.worker_dies(run, down, "killed");
                }
            }
            Fault::WorkerPause { node, stopped } => {
                let until = self.now + stopped;
                let run = self.nodes[self.node(node)].run;
                if let Some(worker) = run.and_then(|run| self.workers.get_mut(&run)) {
                    worker.frozen_until = worker.frozen_until.max(until);
                }
                if let (Some(run), 0) = (run, stopped % 2) {
                    let after = self.fleet.lease + 10_000;
                    self.after(after, Event::TakeOver { run });
                }
            }
            Fault::CoordinatorCrash { down } => self.coordinator_dies(down, "killed"),
            Fault::CoordinatorPause { stopped } => {
                let until = self.now + stopped;
                let frozen = &mut self.coordinator.frozen_until;
                *frozen = (*frozen).max(until);
            }
            Fault::Partition { node, up, down, lasts } => {
                self.cut(self.node(node), (up, down), lasts);
            }
            Fault::Swizzle { step, lasts } => self.swizzle(step, lasts),
            Fault::Noise { loss, double, delay, lasts } => {
                self.noise = Noise { loss, double, delay };
                self.after(lasts, Event::Over(Over::Noise));
            }
            Fault::Operator(wish) => self.wish(wish),
            Fault::Race(one, other) => {
                self.wish(one);
                self.wish(other);
            }
            Fault::PauseUnreachable { node, lasts } => {
                self.cut(self.node(node), (true, true), lasts);
                self.wish(Wish::Pause);
                self.story.count("pause with an unreachable node");
            }
            Fault::Impatient { wish, after } => {
                self.wish(wish);
                self.after(after, Event::Wish(wish));
            }
            Fault::StopInCall { node, stopped } => {
                let run = self.nodes[self.node(node)].run;
                if let Some(worker) = run.and_then(|run| self.workers.get_mut(&run)) {
                    worker.stops_in_call = Some(stopped);
                }
            }
            Fault::OldCoordinator { lost, down } => {
                return self.old_coordinator(lost, down);
            }
            Fault::JournalLost { down } => return self.journal_lost(down),
            other => return self.machine_fault(other),
        }
        Ok(())
    }

    fn machine_fault(&mut self, fault: Fault) -> Checked {
        match fault {
            Fault::WallJump { machine, by } => {
                let machine = self.machine(machine);
                self.clock(machine).set_wall(by);
                self.show_time(machine.checked_sub(1));
            }
            Fault::ClockRate { machine, rate, lasts } => {
                let (machine, now) = (self.machine(machine), self.now);
                self.clock(machine).stray(now, rate);
                self.after(lasts, Event::Over(Over::Rate { machine }));
            }
            Fault::DiskFull { machine, lasts } => {
                let machine = self.machine(machine);
                self.disk(machine).lock().full = true;
                self.after(lasts, Event::Over(Over::Full { machine }));
            }
            Fault::AppendTrouble { machine, after, how } => {
                let trouble = match how {
                    0 => Trouble::Dies { kept: false },
                    1 => Trouble::Dies { kept: true },
                    2 => Trouble::FsyncError { kept: false },
                    3 => Trouble::FsyncError { kept: true },
                    _ => Trouble::Torn,
                };
                let machine = self.machine(machine);
                let after = u32::try_from(after).unwrap_or_default();
                self.disk(machine).lock().plan(after, trouble);
            }
            Fault::SlowDisk { machine, by, lasts } => {
                let machine = self.machine(machine);
                self.disk(machine).lock().slow = by;
                self.after(lasts, Event::Over(Over::Slow { machine }));
            }
            other => return self.store_fault(other),
        }
        Ok(())
    }

    /// What goes wrong with mail, and with who works on it.
    fn store_fault(&mut self, fault: Fault) -> Checked {
        match fault {
            Fault::StoreError { node } => {
                self.nodes[self.node(node)].room.lock().errors += 1;
            }
            Fault::StoreBusy { node, times } => {
                let times = u32::try_from(times).unwrap_or_default();
                self.nodes[self.node(node)].room.lock().busy += times;
            }
            Fault::OddAnswers { node, times } => {
                let times = u32::try_from(times).unwrap_or_default();
                self.nodes[self.node(node)].room.lock().odd += times;
            }
            Fault::Intruder { mailbox, harm } => self.intruder(mailbox, harm),
            Fault::Sickness { mailbox, lasts } => {
                let mailbox = self.mailbox(mailbox);
                self.sicken(mailbox, true);
                self.after(lasts, Event::Over(Over::Sick { mailbox }));
            }
            Fault::TwinWorker { node, lives } => {
                return self.twin(self.node(node), lives);
            }
            Fault::StuckHands { node, by, lasts } => {
                let node = self.node(node);
                self.nodes[node].stuck = by;
                self.after(lasts, Event::Over(Over::Stuck { node }));
            }
            Fault::DeafMail { node, lasts } => {
                let at = self.node(node);
                self.nodes[at].room.lock().deaf = true;
                self.after(lasts, Event::Over(Over::Deaf { node: at }));
                self.wish(Wish::RecloseNode(node));
            }
            Fault::Rot { mailbox } => self.rot(mailbox),
            Fault::StoreFull { node, lasts } => {
                let node = self.node(node);
                self.nodes[node].room.lock().full = true;
                self.after(lasts, Event::Over(Over::StoreFull { node }));
            }
            Fault::ReadError { node, times } => {
                let times = u32::try_from(times).unwrap_or_default();
                self.nodes[self.node(node)].room.lock().unreadable += times;
            }
            Fault::PowerCut { node, after, down } => {
                self.power_will_go(self.node(node), after, down);
            }
            Fault::OldJournal { node, lost, down } => {
                return self.old_journal(self.node(node), lost, down);
            }
            Fault::OldMachine { node, age, down } => {
                self.image(self.node(node), age, down);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn over(&mut self, over: Over) -> Checked {
        match over {
            Over::Link { node } => self.nodes[node].link = crate::world::Link::default(),
            Over::Noise => self.noise = Noise::default(),
            Over::Rate { machine } => {
                let now = self.now;
                self.clock(machine).stray(now, 0);
            }
            Over::Full { machine } => self.disk(machine).lock().full = false,
            Over::Slow { machine } => self.disk(machine).lock().slow = 0,
            Over::Sick { mailbox } => self.sicken(mailbox, false),
            Over::Stuck { node } => self.nodes[node].stuck = 0,
            Over::StoreFull { node } => self.nodes[node].room.lock().full = false,
            Over::Power { node } => self.power_goes(node),
            Over::Image { node, down } => return self.old_machine(node, down),
            Over::Deaf { node } => self.nodes[node].room.lock().deaf = false,
        }
        Ok(())
    }

    /// The faults are over; from now on everything must come back.
    pub(crate) fn all_faults_end(&mut self) -> Checked {
        self.quiet = true;
        self.story.tell(self.now, || "the faults are over".to_owned());
        self.noise = Noise::default();
        for machine in 0..=self.nodes.len() {
            let now = self.now;
            self.clock(machine).stray(now, 0);
            self.disk(machine).lock().mend();
        }
        for node in &mut self.nodes {
            node.link = crate::world::Link::default();
            node.stuck = 0;
            let mut room = node.room.lock();
            (room.errors, room.busy, room.odd) = (0, 0, 0);
            (room.deaf, room.full, room.unreadable) = (false, false, 0);
            room.cut = None;
            room.boxes.values_mut().for_each(|mailbox| mailbox.sick = false);
        }
        self.after(0, Event::OperatorActs);
        Ok(())
    }

    fn cut(&mut self, node: usize, (up, down): (bool, bool), lasts: u64) {
        self.nodes[node].link = crate::world::Link { up_cut: up, down_cut: down };
        self.after(lasts, Event::Over(Over::Link { node }));
    }

    /// Links go one by one, and come back in another order.
    fn swizzle(&mut self, step: u64, lasts: u64) {
        for node in 0..self.nodes.len() {
            let turn = self.people.below(self.nodes.len() as u64);
            let begin = step * node as u64;
            let _ = begin;
            self.cut(node, (true, true), lasts + step * turn);
        }
    }

    /// A second worker is started for a node, on a copy of its disk. It is ended before the first
    /// one's lease could be over.
    fn twin(&mut self, node: usize, lives: u64) -> Checked {
        let reachable = !self.nodes[node].link.up_cut && self.noise.loss == 0;
        let awake =
            self.nodes[node].run.and_then(|run| self.workers.get(&run)).is_some_and(
                |worker| worker.frozen_until <= self.now && worker.heard_sent.is_some(),
            );
        if !reachable || !awake || self.coordinator.driven.is_none() {
            return Ok(());
        }
        let disk = self.nodes[node].disk.lock().copy();
        let Ok(run) = self.start_on(node, &disk, true) else { return Ok(()) };
        self.story.count("second worker");
        self.after(lives.min(self.fleet.beat), Event::WorkerEnd { run });
        self.worker_joins(run)
    }

    /// Somebody has given up on a frozen worker, and starts another on a copy of its disk that
    /// lies beside the same mail. When the first one wakes, it knows nothing of that.
    pub(crate) fn take_over(&mut self, run: u64) -> Checked {
        let Some(worker) = self.workers.get_mut(&run) else { return Ok(()) };
        let node = worker.node;
        if worker.frozen_until <= self.now || self.nodes[node].run != Some(run) {
            return Ok(());
        }
        worker.is_twin = true;
        let disk = self.nodes[node].disk.lock().copy();
        // The first one's has been taken away from it.
        self.nodes[node].disk.lock().full = true;
        self.nodes[node].disk = disk;
        self.nodes[node].run = None;
        self.story.count("zombie");
        self.story.tell(self.now, || format!("n{node}: run {run} is given up"));
        let ends = self.people.between(60_000, 300_000);
        self.after(ends, Event::WorkerEnd { run });
        self.worker_start(node)
    }

    /// Somebody who is no worker touches a mailbox that nobody is in.
    fn intruder(&mut self, mailbox: u64, harm: bool) {
        let at = self.mailbox(mailbox);
        let seen = self.oracle.seen[at];
        if seen.level > 0 || seen.dial {
            return;
        }
        let place = &self.fleet.places[at];
        let mut room = self.nodes[place.node].room.lock();
        room.now = self.now;
        room.change(place.key, |it| {
            let copies: Vec<u32> = it
                .snapshot
                .iter()
                .filter(|copy| copy.sound)
                .map(|copy| copy.id)
                .collect();
            let place = it.beside.as_mut().unwrap_or(&mut it.live);
            if let Some(letter) = place.iter_mut().find(|it| copies.contains(&it.id))
                && harm
            {
                letter.sound = false;
            }
        });
    }

    /// A message that somebody can read goes bad, and nothing else changes with it.
    fn rot(&mut self, mailbox: u64) {
        let at = self.mailbox(mailbox);
        let place = &self.fleet.places[at];
        let mut room = self.nodes[place.node].room.lock();
        let Some(it) = room.boxes.get_mut(&place.key) else { return };
        let open = self.oracle.seen[at].level > 0 && it.beside.is_none();
        let copies = &it.snapshot;
        let has_copy = |id: u32| copies.iter().any(|copy| copy.id == id && copy.sound);
        let whole = it.live.iter_mut().find(|letter| letter.sound && has_copy(letter.id));
        if let Some(letter) = whole.filter(|_| open) {
            letter.sound = false;
            it.rotten.insert(letter.id);
            self.story.count("message gone bad");
        }
    }

    fn sicken(&mut self, at: usize, sick: bool) {
        let place = &self.fleet.places[at];
        if let Some(it) = self.nodes[place.node].room.lock().boxes.get_mut(&place.key) {
            it.sick = sick;
        }
    }

    /// A message comes for somebody; it is let in if the doors say so.
    pub(crate) fn letter_comes(&mut self) -> Checked {
        let pause = self.people.between(4_000, 40_000);
        if self.now < HOUR {
            self.after(pause, Event::Letter);
        }
        let mailbox = self.people.index(self.fleet.places.len());
        let place = &self.fleet.places[mailbox];
        let run = self.nodes[place.node].run;
        let admitted = run.and_then(|run| self.workers.get(&run)).is_some_and(|worker| {
            worker.frozen_until <= self.now
                && worker.driven.admits(RECEIVE, &place.address)
        });
        if !admitted {
            self.story.count("letter waits");
            return Ok(());
        }
        self.story.count("letter let in");
        self.letters += 1;
        let (id, admitted) = (self.letters, self.now);
        let lasts = self.people.below(8_000);
        let place = &self.fleet.places[mailbox];
        if let Some(it) = self.nodes[place.node].room.lock().boxes.get_mut(&place.key) {
            it.arriving += 1;
        }
        self.after(lasts, Event::Lands { mailbox, id, admitted });
        Ok(())
    }

    pub(crate) fn letter_lands(
        &mut self,
        mailbox: usize,
        id: u32,
        admitted: u64,
    ) -> Checked {
        let place = &self.fleet.places[mailbox];
        let owner = u32::try_from(mailbox).unwrap_or_default();
        let mut room = self.nodes[place.node].room.lock();
        room.now = self.now;
        let moved_at = room.boxes.get(&place.key).map_or(0, |it| it.moved_at);
        room.change(place.key, |it| {
            it.arriving -= 1;
            it.live.push(Letter { id, owner, sound: true });
            it.due.insert(id);
            it.ever.insert(id);
        });
        drop(room);
        if moved_at > admitted { lost_in_a_move(mailbox, id) } else { Ok(()) }
    }

    fn node(&self, node: u64) -> usize {
        usize::try_from(node % self.nodes.len() as u64).unwrap_or_default()
    }

    fn mailbox(&self, mailbox: u64) -> usize {
        usize::try_from(mailbox % self.fleet.places.len() as u64).unwrap_or_default()
    }

    /// Machine 0 is the coordinator's.
    fn machine(&self, machine: u64) -> usize {
        usize::try_from(machine % (self.nodes.len() as u64 + 1)).unwrap_or_default()
    }

    fn clock(&mut self, machine: usize) -> &mut crate::disk::Clock {
        match machine.checked_sub(1) {
            Some(node) => &mut self.nodes[node].clock,
            None => &mut self.coordinator.clock,
        }
    }

    fn disk(&self, machine: usize) -> &crate::disk::SharedDisk {
        match machine.checked_sub(1) {
            Some(node) => &self.nodes[node].disk,
            None => &self.coordinator.disk,
        }
    }
}
