//! The coordinator's side: `Rollout::decide` and `apply`, its journal, and who speaks to it.
//!
//! # Invariants
//!
//! * Each function is one stroke of the owner: decided from the program's memory, recorded,
//!   applied and answered together, unless the rule that joins them was taken away.

use crate::rules::Rule;
use crate::state::{Answer, Fact, Health, Job, Ledger, Order, Phase, Program, Report};
use crate::state::{State, WAVES};
use crate::{Model, Verb};

impl Model {
    /// A program starts from the journal: one at a time, as the journal's lock has it.
    pub(crate) fn start_program(&self, state: &mut State, at: usize) -> Option<()> {
        if state.programs[at].is_some() {
            return None;
        }
        let another = state.programs.iter().flatten().next().is_some();
        if another {
            if self.keeps(Rule::OneCoordinator) {
                return None;
            }
            state.left.failovers = state.left.failovers.checked_sub(1)?;
        }
        state.programs[at] = Some(Program::start(&state.disk));
        Some(())
    }

    pub(crate) fn kill_program(state: &mut State, at: usize) -> Option<()> {
        state.programs[at].take()?;
        state.left.crashes = state.left.crashes.checked_sub(1)?;
        Some(())
    }

    /// Without R3 what was decided reaches the journal at some later time.
    pub(crate) fn flush_program(&self, state: &mut State, at: usize) -> Option<()> {
        if self.keeps(Rule::RecordFirst) {
            return None;
        }
        state.disk = state.programs[at].as_ref()?.ledger.clone();
        Some(())
    }

    /// What a program has decided is recorded.
    fn record(&self, state: &mut State, at: usize) {
        if self.keeps(Rule::RecordFirst)
            && let Some(program) = &state.programs[at]
        {
            state.disk = program.ledger.clone();
        }
    }

    /// A run asks for the node, and is told that it has it.
    pub(crate) fn join(&self, state: &mut State, at: usize, place: usize) -> Option<()> {
        let run = state.runs[place].clone();
        if !run.is_up() || run.joined {
            return None;
        }
        let mut program = state.programs[at].take()?;
        let holder = program.ledger.run;
        let claimed = run.held.iter().map(|held| held.generation).max();
        let too_old = claimed > Some(program.ledger.issued);
        let alive =
            state.runs.iter().find(|other| other.number == holder && other.is_up());
        if too_old {
            state.programs[at] = Some(program);
            return None;
        }
        if let Some(alive) = alive
            && holder != run.number
        {
            let Some(left) = state.left.takeovers.checked_sub(1) else {
                state.programs[at] = Some(program);
                return None;
            };
            state.left.takeovers = left;
            // It was not heard for a lease, and counts its own from before it was heard.
            if self.sizes.clocks {
                let place = usize::from(state.runs[1].number == alive.number);
                state.runs[place].lease = false;
                state.runs[place].ended = state.runs[place].call;
            }
        }
        if holder != run.number {
            program.ledger.run = run.number;
            program.ledger.reported = 0;
            program.ledger.version += 1;
            (program.heard, program.obeyed, program.without_permit) = (0, 0, true);
            for job in 0..WAVES {
                if program.ledger.jobs[job].leased_to > 0 {
                    self.issue(&mut program.ledger, state, job);
                    program.ledger.jobs[job].leased_to = run.number;
                }
            }
        }
        state.programs[at] = Some(program);
        self.record(state, at);
        let run = &mut state.runs[place];
        run.joined = true;
        run.lease = true;
        run.version = 0;
        run.call += 1;
        run.told = false;
        run.ended = 0;
        run.may_open = false;
        run.orders = [None; WAVES];
        run.pending = [None; WAVES];
        Some(())
    }

    /// A report arrives, for the first time or again, and is answered with orders.
    pub(crate) fn deliver(
        &self,
        state: &mut State,
        at: usize,
        report: Report,
    ) -> Option<()> {
        let mut program = state.programs[at].take()?;
        if program.ledger.run != report.run {
            state.programs[at] = Some(program);
            // Refused: whoever still waits for this answer must join again.
            let asks = |run: &&mut crate::state::Run| {
                run.joined && (run.number, run.call) == (report.run, report.call)
            };
            state.runs.iter_mut().find(asks)?.joined = false;
            return Some(());
        }
        let newest = program.heard.max(program.ledger.reported);
        let late = self.keeps(Rule::ReportsInOrder) && report.call < newest;
        if !late {
            for job in 0..self.sizes.waves {
                self.hear_fact(&mut program.ledger, state, job, &report);
            }
            for job in 0..self.sizes.waves {
                // Nothing is prepared ahead, so that the second comes when it is its turn.
                let due = job == 0 || program.ledger.waves[0].passed;
                if due && program.ledger.jobs[job].leased_to == 0 {
                    self.issue(&mut program.ledger, state, job);
                    program.ledger.jobs[job].leased_to = report.run;
                }
            }
            program.heard = program.heard.max(report.call);
            program.obeyed = program.obeyed.max(report.obeyed);
            program.without_permit &= program.ledger.is_stopped();
        }
        let answer = Self::orders(&program.ledger, &report);
        let newest = (program.ledger.version, program.ledger.issued);
        let again = program.sent == newest;
        if self.keeps(Rule::Levels) {
            state.answer(answer);
        } else if !again {
            program.sent = newest;
            state.answer(answer);
        }
        state.programs[at] = Some(program);
        self.record(state, at);
        Some(())
    }

    /// What is new of one job.
    fn hear_fact(
        &self,
        ledger: &mut Ledger,
        state: &mut State,
        at: usize,
        report: &Report,
    ) {
        let (generation, told) = report.facts[at];
        let job = &mut ledger.jobs[at];
        let current = job.generation == generation && job.leased_to == report.run;
        if !current && self.keeps(Rule::CurrentReports) || generation == 0 {
            return;
        }
        let sticks =
            self.keeps(Rule::BadSticks) && job.fact.health == Health::Failed && told.open;
        let health = if sticks { Health::Failed } else { told.health };
        let fact = Fact { health, ..told };
        if fact == job.fact {
            return;
        }
        job.fact = fact;
        if self.keeps(Rule::OrderRecorded) {
            ledger.reported = ledger.reported.max(report.call);
        }
        if !told.open && job.reclosed {
            job.reclosed = false;
            ledger.version += 1;
        }
        state.saw_told(at, generation, told);
    }

    /// A job gets a new generation: nothing that was known of its health counts any more.
    fn issue(&self, ledger: &mut Ledger, state: &mut State, at: usize) {
        ledger.issued += 1;
        let job = &mut ledger.jobs[at];
        job.generation = ledger.issued;
        job.fact = match job.fact {
            Fact { open: true, .. } if self.keeps(Rule::HealthAnew) => {
                Fact { health: Health::Unproven, ..job.fact }
            }
            Fact { open: true, .. } => job.fact,
            Fact { open: false, .. } => Fact::default(),
        };
        state.saw_issue(at, ledger.issued);
    }

    fn orders(ledger: &Ledger, report: &Report) -> Answer {
        let may_open = !ledger.is_stopped();
        let halted = matches!(ledger.phase, Phase::Halted { .. });
        let mut orders = [None; WAVES];
        for (order, (job, wave)) in
            orders.iter_mut().zip(ledger.jobs.iter().zip(&ledger.waves))
        {
            let Job { generation, leased_to, reclosed, .. } = *job;
            *order = (leased_to == report.run).then_some(Order {
                generation,
                prepare: !halted && !wave.held_back,
                open: wave.allowed && !wave.held_back,
                held_back: reclosed,
            });
        }
        let Report { run, call, .. } = *report;
        Answer { run, call, version: ledger.version, may_open, orders }
    }

    /// The owner's tick: the gate judges, then the next wave may open.
    pub(crate) fn tick(&self, state: &mut State, at: usize) -> Option<()> {
        let mut program = state.programs[at].clone()?;
        let ledger = &mut program.ledger;
        if ledger.is_stopped() {
            return None;
        }
        let mut allowed = None;
        let judged = (0..self.sizes.waves).find(|it| {
            let (wave, fact) = (ledger.waves[*it], ledger.jobs[*it].fact);
            let passes = fact.health == Health::Healthy && !wave.passed;
            wave.allowed && fact.open && (fact.health == Health::Failed || passes)
        });
        if let Some(wave) = judged {
            if ledger.jobs[wave].fact.health == Health::Failed {
                ledger.phase = Phase::Halted { reclosed: false };
                ledger.version += 1;
                ledger.stop_version = ledger.version;
            } else {
                ledger.waves[wave].passed = true;
                ledger.version += 1;
            }
        } else {
            let next = (0..self.sizes.waves).find(|it| !ledger.waves[*it].passed)?;
            let wave = &mut ledger.waves[next];
            if wave.allowed || wave.held_back {
                return None;
            }
            wave.allowed = true;
            ledger.version += 1;
            allowed = Some(next);
        }
        program.judged |= judged == Some(0) && program.ledger.waves[0].passed;
        if self.keeps(Rule::FreshVerdict) {
            program.judged = false;
        }
        state.programs[at] = Some(program);
        self.record(state, at);
        if let Some(wave) = allowed {
            state.saw_allowed(wave);
        }
        Some(())
    }

    /// Without R5: the second wave is allowed because the first was good once.
    pub(crate) fn trust_old_verdict(&self, state: &mut State, at: usize) -> Option<()> {
        let program = state.programs[at].as_mut()?;
        if !program.judged || self.sizes.waves < 2 || program.ledger.waves[1].allowed {
            return None;
        }
        program.judged = false;
        program.ledger.waves[1].allowed = true;
        program.ledger.version += 1;
        self.record(state, at);
        state.saw_allowed(1);
        Some(())
    }

    /// An operator's verb, acknowledged when it is recorded.
    pub(crate) fn operate(&self, state: &mut State, at: usize, verb: Verb) -> Option<()> {
        let mut program = state.programs[at].take()?;
        let done = match verb {
            Verb::Pause => Self::pause(&mut program, state),
            Verb::Resume => Self::resume(&mut program, state),
            Verb::Reclose(wave) => self.reclose(&mut program.ledger, state, wave),
            Verb::ResumeWave(wave) => {
                let wave = &mut program.ledger.waves[wave];
                let held_back = std::mem::take(&mut wave.held_back);
                program.ledger.version += u8::from(held_back);
                held_back.then_some(())
            }
        };
        state.programs[at] = Some(program);
        done?;
        self.record(state, at);
        Some(())
    }

    fn pause(program: &mut Program, state: &mut State) -> Option<()> {
        let ledger = &mut program.ledger;
        if ledger.is_stopped() {
            return None;
        }
        state.left.pauses = state.left.pauses.checked_sub(1)?;
        ledger.phase = Phase::Paused;
        ledger.version += 1;
        ledger.stop_version = ledger.version;
        Some(())
    }

    fn resume(program: &mut Program, state: &mut State) -> Option<()> {
        let ledger = &mut program.ledger;
        let may =
            matches!(ledger.phase, Phase::Paused | Phase::Halted { reclosed: true });
        if !may {
            return None;
        }
        ledger.phase = Phase::Running;
        ledger.version += 1;
        program.without_permit = false;
        state.saw_resume();
        Some(())
    }

    fn reclose(&self, ledger: &mut Ledger, state: &mut State, at: usize) -> Option<()> {
        if !ledger.waves[at].allowed {
            return None;
        }
        state.left.recloses = state.left.recloses.checked_sub(1)?;
        let job = &mut ledger.jobs[at];
        if job.leased_to > 0 {
            // It may have opened since it was last heard of.
            job.fact = if job.fact.open {
                job.fact
            } else {
                Fact { prepared: true, open: true, health: Health::Unproven }
            };
            if self.keeps(Rule::RecloseIssues) {
                self.issue(ledger, state, at);
            }
            ledger.jobs[at].reclosed = self.keeps(Rule::ReclosedUntilKnown);
        }
        state.saw_reclose(at);
        ledger.waves[at] =
            crate::state::Wave { allowed: false, passed: false, held_back: true };
        ledger.phase = match ledger.phase {
            Phase::Halted { .. } => Phase::Halted { reclosed: true },
            Phase::Running | Phase::Paused => Phase::Paused,
        };
        ledger.version += 1;
        ledger.stop_version = ledger.version;
        Some(())
    }
}
