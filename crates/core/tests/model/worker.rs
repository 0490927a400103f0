//! The node's side: `Holding`, the hands at the store, admission's doors, and the store itself.
//!
//! # Invariants
//!
//! * Each function is one turn of the owner or one act of a hand; whatever lies between two
//!   of them, anything else may happen in between.
//! * A worker's record is on disk before its effect, so what it holds survives its end.

use crate::Model;
use crate::rules::Rule;
use crate::state::{Answer, Fact, Hand, Health, Order, Report, Run, Stamp, State, WAVES};

impl Model {
    /// A program starts from its own journal and shows what that says is open.
    pub(crate) fn start_run(&self, state: &mut State, place: usize) -> Option<()> {
        let other = state.runs[1 - place].is_up();
        // The places are alike, so the first to be used is always the first.
        let unlike = place == 0 || state.begun > 0;
        if state.runs[place].is_up() || other && self.sizes.one_run || !unlike {
            return None;
        }
        state.begun += 1;
        state.runs[place].number = state.begun;
        for job in 0..WAVES {
            let stale = state.store[job].claim.0 > state.runs[place].held[job].generation;
            let held = &mut state.runs[place].held[job];
            if held.fact.open && stale && self.keeps(Rule::StaleDoorsShut) {
                held.fact = Fact::default();
                held.stamp = Stamp::None;
            } else if held.fact.open {
                state.saw_standing(job);
            }
        }
        Some(())
    }

    pub(crate) fn kill_run(state: &mut State, place: usize) -> Option<()> {
        if !state.runs[place].is_up() {
            return None;
        }
        state.left.kills = state.left.kills.checked_sub(1)?;
        Self::end_run(state, place);
        Some(())
    }

    fn end_run(state: &mut State, place: usize) {
        let number = state.runs[place].number;
        for mailbox in &mut state.store {
            if mailbox.locked_by == number {
                mailbox.locked_by = 0;
            }
        }
        state.runs[place].end();
    }

    /// Every program of the node ends; bytes that were not flushed are gone, though their
    /// names, sizes and times have stayed.
    pub(crate) fn cut_power(state: &mut State) -> Option<()> {
        state.left.power_cuts = state.left.power_cuts.checked_sub(1)?;
        for place in 0..state.runs.len() {
            Self::end_run(state, place);
        }
        for mailbox in &mut state.store {
            mailbox.good &= mailbox.flushed;
            mailbox.flushed = true;
        }
        Some(())
    }

    /// The beat: what is not told yet is told. What was told before is on the network still,
    /// and is told again by being delivered again.
    pub(crate) fn report(state: &mut State, place: usize) -> Option<()> {
        let run = &mut state.runs[place];
        if !run.joined || run.told {
            return None;
        }
        run.told = true;
        run.call += 1;
        let (number, call, obeyed) = (run.number, run.call, run.version);
        let facts = run.facts();
        state.send(Report { run: number, call, obeyed, facts });
        Some(())
    }

    /// Orders are heard, and what they do not allow is closed.
    pub(crate) fn hear(
        &self,
        state: &mut State,
        place: usize,
        answer: &Answer,
    ) -> Option<()> {
        let run = &mut state.runs[place];
        let mine = run.joined && run.number == answer.run;
        if !mine || self.keeps(Rule::AnswersToCalls) && run.call != answer.call {
            return None;
        }
        if self.keeps(Rule::OrdersInOrder) && answer.version < run.version {
            return None;
        }
        run.version = answer.version;
        run.may_open = answer.may_open;
        // Counted from when the report was sent.
        run.lease |= answer.call > run.ended;
        for job in 0..WAVES {
            let Some(order) = answer.orders[job] else { continue };
            let held = run.held[job].generation;
            if order.generation == held {
                run.pending[job] = None;
                run.orders[job] = Some(order);
                Self::close(run, job, order);
            } else if order.generation > held || !self.keeps(Rule::NewerClaims) {
                run.orders[job] = None;
                run.pending[job] = Some(order);
            }
        }
        if self.sizes.quick_hands {
            for job in 0..WAVES {
                let _nothing_to_claim = self.claim(state, place, job);
            }
        }
        Some(())
    }

    /// Closes what stands higher than its order allows.
    fn close(run: &mut Run, job: usize, order: Order) {
        let held = &mut run.held[job];
        if held.fact.open && (!order.open || order.held_back) {
            held.fact = Fact::default();
            held.stamp = Stamp::None;
        }
    }

    /// The store is claimed, and what the new generation does not allow is closed.
    pub(crate) fn claim(
        &self,
        state: &mut State,
        place: usize,
        job: usize,
    ) -> Option<()> {
        let number = state.runs[place].number;
        let order = state.runs[place].pending[job].filter(|_| number > 0)?;
        let mailbox = &mut state.store[job];
        let claim = (order.generation, number);
        if self.keeps(Rule::Fence) {
            if mailbox.locked_by > 0 && mailbox.locked_by != number {
                return None;
            }
            let refused = mailbox.claim != claim && mailbox.claim.0 >= order.generation;
            if refused {
                Self::end_run(state, place);
                return Some(());
            }
        }
        if self.keeps(Rule::ClaimFirst) {
            mailbox.claim = mailbox.claim.max(claim);
        }
        let run = &mut state.runs[place];
        run.pending[job] = None;
        run.orders[job] = Some(order);
        let held = &mut run.held[job];
        held.generation = order.generation;
        held.fact = match held.fact {
            Fact { open: true, .. } if self.keeps(Rule::OpenUntouched) => {
                Fact { health: Health::Unproven, ..held.fact }
            }
            Fact { open: true, .. } => Fact { prepared: false, ..held.fact },
            Fact { open: false, .. } => Fact::default(),
        };
        Self::close(run, job, order);
        state.saw_claim(job, order.generation, number);
        Some(())
    }

    /// Whether the claim on disk is this run's, at the generation it works under.
    fn holds(&self, state: &State, place: usize, job: usize, generation: u8) -> bool {
        let number = state.runs[place].number;
        let (claimed, by) = state.store[job].claim;
        let unclaimed = !self.keeps(Rule::ClaimFirst) && claimed <= generation;
        !self.keeps(Rule::Fence) || (claimed, by) == (generation, number) || unclaimed
    }

    /// Without the fence nobody waits for a lock either.
    fn is_locked(&self, state: &State, place: usize, job: usize) -> bool {
        let by = state.store[job].locked_by;
        self.keeps(Rule::Fence) && by > 0 && by != state.runs[place].number
    }

    /// A hand begins: it looks whether the mailbox is as it was verified, or reads all of it.
    pub(crate) fn begin_preparing(
        &self,
        state: &mut State,
        place: usize,
        job: usize,
    ) -> Option<()> {
        let run = &state.runs[place];
        let order = run.orders[job].filter(|_| run.is_up())?;
        let held = run.held[job];
        let idle = run.pending[job].is_none() && run.hands[job].is_none();
        let wanted = order.prepare && !order.held_back && !held.fact.prepared;
        if !idle || !wanted || self.is_locked(state, place, job) {
            return None;
        }
        let was_good = state.store[job].good;
        let run = &mut state.runs[place];
        if held.stamp == Stamp::Same {
            run.held[job].fact.prepared = true;
            return Some(());
        }
        run.held[job].stamp = Stamp::None;
        let generation = held.generation;
        let read = if was_good { Stamp::Same } else { Stamp::Changed };
        run.hands[job] = Some(Hand { generation, read, was_good, switching: false });
        if self.sizes.quick_hands {
            while self.go_on_preparing(state, place, job).is_some() {}
        }
        Some(())
    }

    /// The hand goes on: it finds that nothing needs changing, or begins to switch, or ends.
    pub(crate) fn go_on_preparing(
        &self,
        state: &mut State,
        place: usize,
        job: usize,
    ) -> Option<()> {
        let run = &state.runs[place];
        let hand = run.hands[job]?;
        let number = run.number;
        if self.is_locked(state, place, job) {
            return None;
        }
        if !self.holds(state, place, job, hand.generation) && !hand.switching {
            state.runs[place].hands[job] = None;
            return Some(());
        }
        if hand.was_good && !hand.switching {
            Self::settle(state, place, job, hand.read);
            return Some(());
        }
        if !hand.switching {
            state.saw_change(job, hand.generation, number);
            let mailbox = &mut state.store[job];
            mailbox.claim = mailbox.claim.max((hand.generation, number));
            (mailbox.good, mailbox.locked_by) = (false, number);
            state.change(job);
            state.runs[place].hands[job] = Some(Hand { switching: true, ..hand });
            return Some(());
        }
        let mailbox = &mut state.store[job];
        (mailbox.good, mailbox.locked_by) = (true, 0);
        mailbox.flushed = self.keeps(Rule::FlushFirst);
        state.change(job);
        Self::settle(state, place, job, Stamp::Same);
        Some(())
    }

    /// The result of a hand is recorded, unless the generation has changed meanwhile.
    fn settle(state: &mut State, place: usize, job: usize, stamp: Stamp) {
        let run = &mut state.runs[place];
        let hand = run.hands[job].take();
        let held = &mut run.held[job];
        let current = hand.is_some_and(|hand| hand.generation == held.generation);
        if current && !held.fact.prepared {
            held.fact.prepared = true;
            held.stamp = stamp;
        }
    }

    /// A last look, the record, and the door.
    pub(crate) fn open(&self, state: &mut State, place: usize, job: usize) -> Option<()> {
        let run = &state.runs[place];
        let order = run.orders[job].filter(|_| run.is_up())?;
        let held = run.held[job];
        let permitted = run.may_open
            && (run.lease || !self.sizes.clocks)
            && order.generation == held.generation
            && order.open
            && !order.held_back
            && run.pending[job].is_none()
            && run.hands[job].is_none()
            && !held.fact.open;
        let verified = held.fact.prepared || !self.keeps(Rule::OwnVerified);
        if !permitted || !verified || self.is_locked(state, place, job) {
            return None;
        }
        if !self.holds(state, place, job, held.generation) {
            return None;
        }
        let unchanged = held.stamp == Stamp::Same
            || held.stamp == Stamp::None && !self.keeps(Rule::OwnVerified);
        let held = &mut state.runs[place].held[job];
        if self.keeps(Rule::StampLooked) && !unchanged {
            held.fact = Fact::default();
            held.stamp = Stamp::None;
            return Some(());
        }
        held.fact = Fact { prepared: true, open: true, health: Health::Unproven };
        state.saw_open(job);
        Some(())
    }

    /// An open mailbox is read as its user would, or shows its user that it is bad.
    pub(crate) fn probe(
        state: &mut State,
        place: usize,
        job: usize,
        sick: bool,
    ) -> Option<()> {
        let good = state.store[job].good;
        let run = &mut state.runs[place];
        let held = &mut run.held[job];
        if run.number == 0 || !held.fact.open || held.fact.health == Health::Failed {
            return None;
        }
        let generation = held.generation;
        if sick || !good {
            if sick {
                state.left.sick = state.left.sick.checked_sub(1)?;
            }
            held.fact.health = Health::Failed;
        } else if held.fact.health == Health::Unproven {
            held.fact.health = Health::Healthy;
            state.saw_healthy(job, generation);
        } else {
            return None;
        }
        Some(())
    }

    /// Somebody who keeps to no rule damages a mailbox that is closed.
    pub(crate) fn damage(state: &mut State, job: usize) -> Option<()> {
        if state.is_open(job) {
            return None;
        }
        state.left.damages = state.left.damages.checked_sub(1)?;
        state.store[job].good = false;
        state.change(job);
        Some(())
    }
}
