//! Numbers: generations, versions, runs and calls, told apart only by what they are compared
//! with.
//!
//! # Invariants
//!
//! * Two states become one only if every comparison in the model comes out the same in both:
//!   numbers keep their order, zero stays zero, and a new number is above all there are.

use crate::state::{Order, State};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Generation,
    Version,
    Run,
    /// Of the reports of one run.
    Call(u8),
}

/// The numbers in use, one bit each.
#[derive(Clone, Copy, Default)]
struct Used([u64; KINDS]);

/// Generations, versions, runs, and calls of as many runs as a model begins.
const KINDS: usize = 16;

impl Used {
    fn place(kind: Kind) -> usize {
        match kind {
            Kind::Generation => 0,
            Kind::Version => 1,
            Kind::Run => 2,
            Kind::Call(run) => 3 + usize::from(run),
        }
    }

    /// How many of the numbers in use are at most `number`, which is one of them.
    fn rank(&self, kind: Kind, number: u8) -> u8 {
        let lower = self.0[Self::place(kind)] & (u64::MAX >> (63 - number)) & !1;
        u8::try_from(lower.count_ones()).expect("there are 64")
    }
}

impl State {
    /// Counts everything anew, without gaps.
    pub(crate) fn renumber(&mut self) {
        let mut used = Used::default();
        self.each_number(&mut |kind, number| {
            used.0[Used::place(kind)] |= 1 << *number;
        });
        self.each_number(&mut |kind, number| *number = used.rank(kind, *number));
        self.reports.sort_unstable();
        self.answers.sort_unstable();
    }

    fn each_number(&mut self, f: &mut dyn FnMut(Kind, &mut u8)) {
        let Self { disk, programs, reports, answers, runs, store, seen, .. } = self;
        let ledgers = programs.iter_mut().flatten().map(|it| &mut it.ledger);
        for ledger in std::iter::once(disk).chain(ledgers) {
            f(Kind::Version, &mut ledger.version);
            f(Kind::Version, &mut ledger.stop_version);
            f(Kind::Call(ledger.run), &mut ledger.reported);
            f(Kind::Generation, &mut ledger.issued);
            for job in &mut ledger.jobs {
                f(Kind::Generation, &mut job.generation);
                f(Kind::Run, &mut job.leased_to);
            }
        }
        for program in programs.iter_mut().flatten() {
            f(Kind::Version, &mut program.obeyed);
            f(Kind::Call(program.ledger.run), &mut program.heard);
            f(Kind::Version, &mut program.sent.0);
            f(Kind::Generation, &mut program.sent.1);
        }
        for report in reports {
            f(Kind::Call(report.run), &mut report.call);
            f(Kind::Version, &mut report.obeyed);
            for (generation, _) in &mut report.facts {
                f(Kind::Generation, generation);
            }
            f(Kind::Run, &mut report.run);
        }
        for answer in answers {
            f(Kind::Call(answer.run), &mut answer.call);
            f(Kind::Version, &mut answer.version);
            each_order(&mut answer.orders, f);
            f(Kind::Run, &mut answer.run);
        }
        for run in runs {
            f(Kind::Call(run.number), &mut run.call);
            f(Kind::Call(run.number), &mut run.ended);
            f(Kind::Version, &mut run.version);
            each_order(&mut run.orders, f);
            each_order(&mut run.pending, f);
            for hand in run.hands.iter_mut().flatten() {
                f(Kind::Generation, &mut hand.generation);
            }
            for held in &mut run.held {
                f(Kind::Generation, &mut held.generation);
            }
            f(Kind::Run, &mut run.number);
        }
        for mailbox in store {
            f(Kind::Generation, &mut mailbox.claim.0);
            f(Kind::Run, &mut mailbox.claim.1);
            f(Kind::Run, &mut mailbox.locked_by);
        }
        seen.each_number(&mut |generation| f(Kind::Generation, generation), false);
        seen.each_number(&mut |run| f(Kind::Run, run), true);
        // After what is counted for it.
        let ledgers = programs.iter_mut().flatten().map(|it| &mut it.ledger);
        for ledger in std::iter::once(&mut self.disk).chain(ledgers) {
            f(Kind::Run, &mut ledger.run);
        }
        f(Kind::Run, &mut self.begun);
    }
}

fn each_order(orders: &mut [Option<Order>], f: &mut dyn FnMut(Kind, &mut u8)) {
    for order in orders.iter_mut().flatten() {
        f(Kind::Generation, &mut order.generation);
    }
}
