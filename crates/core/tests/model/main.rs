//! A model of the protocol between coordinator and workers, searched to its end.
//!
//! The network is a set of messages that are never removed: each may come late, again, out of
//! order, or never. There is no clock, except where a size says that clocks are believed in: a
//! lease may end at any moment, and a worker whose lease has ended may act at any later time.
//! Programs are killed and started anew at any moment, the node loses power, somebody else
//! changes the mail, operators pause and re-close. With all rules no promise is broken, and from
//! every state a good end can be reached (L1). Without a rule, a search finds the shortest story
//! of what goes wrong, and prints it.
//!
//! Sizes: one node with up to two workers that have a journal each and one store between them;
//! one or two waves of one job of one mailbox; one or two coordinators. `TIDEGATE_MODEL=large`
//! searches larger ones (some ten million states). Both print with `-- --nocapture`.
//!
//! The trait is our own and some lines long: `stateright` would be for its trait alone, as its
//! search reports the last counterexample and not the shortest, and brings a web server and two
//! dozen crates with it.
//!
//! | step of the model | in the code |
//! |---|---|
//! | `StartProgram`, `KillProgram` | `coordinator::owner`: replay, then `Rollout::wake`; the journal's lock (R4) |
//! | record, `FlushProgram` | `coordinator::owner::Owner::settle`: one append, then replies (R3) |
//! | `Join` | `core::rollout::decide`: `on_join`, `check_issued`; `Rollout::apply_joined` |
//! | `Deliver` | `Rollout::on_sync`, `is_late` (S1, S2), `news` (R6), `leases`, `hear`; `Rollout::orders` (L1) |
//! | facts merged | `core::mailbox::MailboxState::merge` (R14); `Rollout::apply_facts` (C1) |
//! | a generation | `Rollout::issue` (R13) |
//! | `Tick` | `Rollout::on_tick`, `next_step`: judged and recorded from one state (R5) |
//! | `Operate`: pause, resume, re-close | `Rollout::on_operate`; `apply_reclosed` (R8, C1) |
//! | what operators read | `core::rollout::status`: `Rollout::stop` (E1) |
//! | `StartRun`, `KillRun` | `worker::node::recovery`, `Node::publish_all`; the store's lock; D1 see below |
//! | `SendReport` | `worker::session::Session::sync`, `core::holding::report` |
//! | `Hear` | the answer of that call (V2); `Holding::hear` (V1, R7), `closings` |
//! | `Claim` | `mail::claim::Claims::claim` (R1, R2), `Holding::claimed` |
//! | `BeginPreparing`, `GoOnPreparing` | `core::holding::work` (R2, R12); `mail::Store::prepare`, `finish` (R1, R11); `Holding::settled` |
//! | `Open` | `worker::files`: `look` (R1: `Store::stands`), `Store::stamp`, `Holding::looked` (R9, R10), `may_stand`; `worker::node::doors` |
//! | `Probe`, `ProveBad` | `Store::probe`, the mail system's complaints; `Holding::probed` |
//!
//! D1 is stricter here than in the code: a worker whose journal is older than its store's claims
//! shows what that journal says until the coordinator turns it away (`Node::shut_all`).
//!
//! Not in the model: permit windows, ladders of several levels, dial tones, isolation.
#![expect(clippy::indexing_slicing, reason = "two waves, two programs, two places")]
#![expect(clippy::print_stdout, reason = "what was searched is worth a look")]

mod coordinator;
mod numbers;
mod promises;
mod rules;
mod search;
mod state;
mod worker;

use std::fmt::Write as _;

use expect_test::expect;

use rules::{Rule, Rules};
use search::{Found, Protocol, search};
use state::{Answer, Left, Phase, Report, State};

/// How large a model is, and what it takes for granted.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    name: &'static str,
    /// One or two.
    waves: usize,
    /// Places for workers, each with a journal of its own, before the one store.
    places: usize,
    /// The lock of the store is believed in: one run at a time.
    one_run: bool,
    /// Clocks are believed in: a worker's lease ends before the coordinator's.
    clocks: bool,
    /// What hands do at the store happens at once: nobody could come between.
    quick_hands: bool,
    left: Left,
}

/// The protocol of one size under some rules.
#[derive(Clone, Copy, Debug)]
struct Model {
    sizes: Sizes,
    rules: Rules,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    StartProgram(usize),
    KillProgram(usize),
    FlushProgram(usize),
    Join(usize, usize),
    Deliver(usize, Report),
    Tick(usize),
    TrustOldVerdict(usize),
    Operate(usize, Verb),
    StartRun(usize),
    KillRun(usize),
    CutPower,
    SendReport(usize),
    Hear(usize, Answer),
    Claim(usize, usize),
    BeginPreparing(usize, usize),
    GoOnPreparing(usize, usize),
    Open(usize, usize),
    Probe(usize, usize),
    ProveBad(usize, usize),
    Damage(usize),
}

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Pause,
    Resume,
    Reclose(usize),
    ResumeWave(usize),
}

impl Model {
    fn keeps(&self, rule: Rule) -> bool {
        self.rules.keep(rule)
    }

    fn act(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::StartProgram(at) => self.start_program(state, at),
            Action::KillProgram(at) => Self::kill_program(state, at),
            Action::FlushProgram(at) => self.flush_program(state, at),
            Action::Join(at, place) => self.join(state, at, place),
            Action::Deliver(at, report) => self.deliver(state, at, report),
            Action::Tick(at) => self.tick(state, at),
            Action::TrustOldVerdict(at) => self.trust_old_verdict(state, at),
            Action::Operate(at, verb) => self.operate(state, at, verb),
            Action::StartRun(place) => self.start_run(state, place),
            Action::KillRun(place) => Self::kill_run(state, place),
            Action::CutPower => Self::cut_power(state),
            Action::SendReport(place) => Self::report(state, place),
            Action::Hear(place, answer) => self.hear(state, place, &answer),
            Action::Claim(place, job) => self.claim(state, place, job),
            Action::BeginPreparing(place, job) => self.begin_preparing(state, place, job),
            Action::GoOnPreparing(place, job) => self.go_on_preparing(state, place, job),
            Action::Open(place, job) => self.open(state, place, job),
            Action::Probe(place, job) => Self::probe(state, place, job, false),
            Action::ProveBad(place, job) => Self::probe(state, place, job, true),
            Action::Damage(job) => Self::damage(state, job),
        }
    }
}

impl Protocol for Model {
    type State = State;
    type Action = Action;

    fn begin(&self) -> State {
        State::new(self.sizes.left)
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = vec![Action::CutPower];
        for at in 0..state.programs.len() {
            actions.push(Action::StartProgram(at));
            if state.programs[at].is_none() {
                continue;
            }
            actions.extend([
                Action::KillProgram(at),
                Action::FlushProgram(at),
                Action::Tick(at),
                Action::TrustOldVerdict(at),
                Action::Operate(at, Verb::Pause),
                Action::Operate(at, Verb::Resume),
            ]);
            actions.extend((0..2).map(|place| Action::Join(at, place)));
            actions.extend(state.reports.iter().map(|it| Action::Deliver(at, *it)));
            for wave in 0..self.sizes.waves {
                actions.push(Action::Operate(at, Verb::Reclose(wave)));
                actions.push(Action::Operate(at, Verb::ResumeWave(wave)));
            }
        }
        for place in 0..self.sizes.places {
            actions.push(Action::StartRun(place));
            if !state.runs[place].is_up() {
                continue;
            }
            actions.extend([Action::KillRun(place), Action::SendReport(place)]);
            actions.extend(state.answers.iter().map(|it| Action::Hear(place, *it)));
            for job in 0..self.sizes.waves {
                actions.extend([
                    Action::Claim(place, job),
                    Action::BeginPreparing(place, job),
                    Action::GoOnPreparing(place, job),
                    Action::Open(place, job),
                    Action::Probe(place, job),
                    Action::ProveBad(place, job),
                ]);
            }
        }
        for job in 0..self.sizes.waves {
            actions.push(Action::Damage(job));
        }
        actions
    }

    fn step(&self, state: &State, action: &Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, *action)?;
        next.look_at_screens(self.keeps(Rule::StopAcknowledged));
        let stops = self.sizes.left.pauses + self.sizes.left.recloses > 0;
        for (run, before) in next.runs.iter_mut().zip(&state.runs) {
            let same =
                run.held == before.held && (run.version == before.version || !stops);
            run.told &= same;
        }
        next.forget_messages(
            self.keeps(Rule::AnswersToCalls),
            self.keeps(Rule::ReportsInOrder) && self.keeps(Rule::OneCoordinator),
        );
        next.renumber();
        (next != *state).then_some(next)
    }

    fn broken(&self, state: &State) -> Option<String> {
        state.broken.map(|promise| promise.to_string())
    }

    /// Everything is open and has passed, or the gate has stopped for a person.
    fn is_good_end(&self, state: &State) -> bool {
        let waves = 0..self.sizes.waves;
        let open = |job: usize| state.disk.waves[job].passed && state.is_open(job);
        waves.into_iter().all(open) || matches!(state.disk.phase, Phase::Halted { .. })
    }
}

#[test]
fn with_all_rules_every_promise_holds_and_a_good_end_stays_in_reach() {
    let mut table = String::new();
    for sizes in SIZES.iter().chain(if is_large() { &LARGE[..] } else { &[] }) {
        let found = look(*sizes, &[]);
        assert!(found.exhausted, "{} is too large", sizes.name);
        assert!(found.story.is_none(), "{}: {}", sizes.name, told(&found));
        let Found { states, depth, .. } = found;
        let _ =
            writeln!(table, "{:<16}{states:>9} states, {depth} steps deep", sizes.name);
    }
    println!("{table}");
}

#[test]
fn each_necessary_rule_is_missed_when_it_is_taken_away() {
    let mut table = String::new();
    for (rules, size) in MISSED {
        let sizes = SIZES.iter().find(|it| it.name.starts_with(size)).expect("a size");
        let found = look(*sizes, rules);
        let names: Vec<String> = rules.iter().map(ToString::to_string).collect();
        let names = names.join(" and ");
        println!("without {names}, {}: {}", sizes.name, told(&found));
        let Some(story) = &found.story else {
            panic!("nobody misses {names} in {}", sizes.name);
        };
        let (steps, states) = (story.steps.len(), found.states);
        let _ = writeln!(
            table,
            "{names}: {steps} steps, {states} states ({size}): {}",
            story.end
        );
    }
    expect![[r"
        R1 Fence: 14 steps, 1748 states (A1): I4: a stale hand changes the store
        R2 ClaimFirst: 14 steps, 1747 states (A1): I4: a stale hand changes the store
        R3 RecordFirst: 12 steps, 11691 states (A4): I6: a mailbox opens that is known to be re-closed
        R4 OneCoordinator: 10 steps, 12227 states (A3): I6: a mailbox opens that is known to be re-closed
        R5 FreshVerdict: 16 steps, 1557 states (B1): I5: the second wave may open, the first is not healthy
        R6 CurrentReports: 11 steps, 1380 states (A3): I6: a mailbox opens that is known to be re-closed
        R8 RecloseIssues: 11 steps, 1369 states (A3): I6: a mailbox opens that is known to be re-closed
        R9 OwnVerified: 8 steps, 95 states (A1): I3: a mailbox opens that is not whole
        R10 StampLooked: 12 steps, 374 states (A5): I3: a mailbox opens that is not whole
        R11 FlushFirst: 19 steps, 2128 states (A5): I3: a mailbox opens that is not whole
        R12 OpenUntouched: 21 steps, 2729 states (A5): I1: a worker writes into an open mailbox
        R13 HealthAnew: 17 steps, 11303 states (B2): I5: the second wave may open, the first is not healthy
        S1 ReportsInOrder: 18 steps, 7410 states (B1): I5: the second wave may open, the first is not healthy
        S2 OrderRecorded: 20 steps, 7836 states (B1): I5: the second wave may open, the first is not healthy
        C1 ReclosedUntilKnown: 19 steps, 18249 states (B2): I5: the second wave may open, the first is not healthy
        D1 StaleDoorsShut: 19 steps, 60888 states (A6): I6: a mailbox opens that is known to be re-closed
        E1 StopAcknowledged: 9 steps, 617 states (A7): I6: a mailbox opens after a stop is effective
        L1 Levels: 11 steps, 41659 states (A1): no good end can be reached any more
        R14 BadSticks and S1 ReportsInOrder: 16 steps, 3665 states (B1): I5: the second wave may open, the first is not healthy
        V1 OrdersInOrder and V2 AnswersToCalls: 13 steps, 10398 states (A7): I6: a mailbox opens after a stop is effective
        R7 NewerClaims and R1 Fence: 14 steps, 1748 states (A1): I4: a stale hand changes the store
    "]].assert_eq(&table);
}

#[test]
fn what_stands_in_the_second_line_is_not_missed_alone() {
    for (rule, names) in SECOND_LINE {
        for sizes in SIZES.iter().filter(|it| names.contains(&&it.name[..2])) {
            let found = look(*sizes, &[rule]);
            println!("without {rule}, {}: {} states", sizes.name, found.states);
            assert!(found.exhausted, "{rule} in {} is too large", sizes.name);
            assert!(found.story.is_none(), "{rule}: {}", told(&found));
        }
    }
}

#[test]
fn every_rule_is_taken_away_somewhere() {
    let tried: Vec<Rule> = MISSED
        .iter()
        .flat_map(|(rules, _)| *rules)
        .chain(SECOND_LINE.iter().map(|(rule, _)| rule))
        .copied()
        .collect();

    let untried: Vec<Rule> =
        Rule::ALL.into_iter().filter(|rule| !tried.contains(rule)).collect();

    assert_eq!(untried, []);
}

/// More states than this do not fit the memory of a small machine.
const STATES_MAX: usize = 30_000_000;

fn look(sizes: Sizes, without: &[Rule]) -> Found<Action> {
    search(&Model { sizes, rules: Rules::without(without) }, STATES_MAX)
}

fn is_large() -> bool {
    std::env::var("TIDEGATE_MODEL").is_ok_and(|size| size == "large")
}

/// The story of `found`, a step in a line.
fn told(found: &Found<Action>) -> String {
    let Found { states, story, .. } = found;
    let Some(story) = story else { return format!("{states} states, nothing") };
    let mut text = format!("{states} states, {} steps: {}", story.steps.len(), story.end);
    for (number, step) in (1..).zip(&story.steps) {
        let _ = write!(text, "\n{number:>4}. {step:?}");
    }
    text
}

/// Rules that are necessary, alone or where the other one of a pair does not help out, and a
/// size that shows it.
const MISSED: [(&[Rule], &str); 21] = [
    (&[Rule::Fence], "A1"),
    (&[Rule::ClaimFirst], "A1"),
    (&[Rule::RecordFirst], "A4"),
    (&[Rule::OneCoordinator], "A3"),
    (&[Rule::FreshVerdict], "B1"),
    (&[Rule::CurrentReports], "A3"),
    (&[Rule::RecloseIssues], "A3"),
    (&[Rule::OwnVerified], "A1"),
    (&[Rule::StampLooked], "A5"),
    (&[Rule::FlushFirst], "A5"),
    (&[Rule::OpenUntouched], "A5"),
    (&[Rule::HealthAnew], "B2"),
    (&[Rule::ReportsInOrder], "B1"),
    (&[Rule::OrderRecorded], "B1"),
    (&[Rule::ReclosedUntilKnown], "B2"),
    (&[Rule::StaleDoorsShut], "A6"),
    (&[Rule::StopAcknowledged], "A7"),
    (&[Rule::Levels], "A1"),
    (&[Rule::BadSticks, Rule::ReportsInOrder], "B1"),
    (&[Rule::OrdersInOrder, Rule::AnswersToCalls], "A7"),
    (&[Rule::NewerClaims, Rule::Fence], "A1"),
];

/// Rules that others stand in for, and sizes that are searched quickly without them.
const SECOND_LINE: [(Rule, &[&str]); 3] = [
    (Rule::NewerClaims, &["A1", "A5", "A7", "B1"]),
    (Rule::BadSticks, &["A5", "B1"]),
    (Rule::OrdersInOrder, &["A1", "A5", "B1"]),
];

const NOTHING: Left = Left {
    kills: 0,
    power_cuts: 0,
    crashes: 0,
    failovers: 1,
    takeovers: 0,
    damages: 0,
    sick: 0,
    pauses: 0,
    recloses: 0,
};

const SIZES: [Sizes; 10] = [
    Sizes {
        name: "A1 zombies",
        waves: 1,
        places: 2,
        one_run: false,
        clocks: false,
        quick_hands: false,
        left: Left { takeovers: 1, ..NOTHING },
    },
    Sizes {
        name: "A2 zombies",
        waves: 1,
        places: 2,
        one_run: false,
        clocks: false,
        quick_hands: true,
        left: Left { takeovers: 1, kills: 1, ..NOTHING },
    },
    Sizes {
        name: "A3 re-close",
        waves: 1,
        places: 2,
        one_run: true,
        clocks: false,
        quick_hands: true,
        left: Left { kills: 1, recloses: 1, ..NOTHING },
    },
    Sizes {
        name: "A4 re-close",
        waves: 1,
        places: 1,
        one_run: true,
        clocks: false,
        quick_hands: true,
        left: Left { crashes: 1, recloses: 1, ..NOTHING },
    },
    Sizes {
        name: "A5 store",
        waves: 1,
        places: 1,
        one_run: true,
        clocks: false,
        quick_hands: false,
        left: Left { power_cuts: 1, damages: 1, ..NOTHING },
    },
    Sizes {
        name: "A6 old journal",
        waves: 1,
        places: 2,
        one_run: true,
        clocks: false,
        quick_hands: true,
        left: Left { kills: 2, recloses: 1, ..NOTHING },
    },
    Sizes {
        name: "A7 pause",
        waves: 1,
        places: 1,
        one_run: true,
        clocks: true,
        quick_hands: true,
        left: Left { pauses: 1, crashes: 1, ..NOTHING },
    },
    Sizes {
        name: "A8 pause",
        waves: 1,
        places: 2,
        one_run: true,
        clocks: true,
        quick_hands: true,
        left: Left { pauses: 1, kills: 1, ..NOTHING },
    },
    Sizes {
        name: "B1 two waves",
        waves: 2,
        places: 1,
        one_run: true,
        clocks: false,
        quick_hands: true,
        left: Left { sick: 1, crashes: 1, ..NOTHING },
    },
    Sizes {
        name: "B2 two waves",
        waves: 2,
        places: 1,
        one_run: true,
        clocks: false,
        quick_hands: true,
        left: Left { sick: 1, recloses: 1, ..NOTHING },
    },
];

/// More of everything.
const LARGE: [Sizes; 6] = [
    Sizes {
        name: "A2 large",
        left: Left { takeovers: 1, kills: 1, ..NOTHING },
        ..SIZES[0]
    },
    Sizes {
        name: "A3 large",
        left: Left { kills: 1, crashes: 1, recloses: 1, ..NOTHING },
        ..SIZES[2]
    },
    Sizes {
        name: "A5 large",
        left: Left { power_cuts: 2, damages: 2, kills: 1, recloses: 1, ..NOTHING },
        ..SIZES[4]
    },
    Sizes {
        name: "A8 large",
        one_run: false,
        left: Left { pauses: 1, takeovers: 1, ..NOTHING },
        ..SIZES[7]
    },
    Sizes {
        name: "B1 large",
        left: Left { sick: 1, recloses: 1, crashes: 1, ..NOTHING },
        ..SIZES[8]
    },
    Sizes {
        name: "B2 large",
        left: Left { sick: 1, recloses: 1, kills: 1, ..NOTHING },
        ..SIZES[8]
    },
];
