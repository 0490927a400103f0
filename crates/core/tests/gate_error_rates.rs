//! The gate keeps the error rates it declares, measured over the real judge.
//!
//! Every run draws its mailboxes from a seeded generator, so that each number here is the
//! same on every machine.
#![expect(clippy::indexing_slicing, reason = "fleets of known size")]

use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::gate::{
    Evidence, Gate, GatePolicy, Lines, Look, Mode, NodeEvidence, Pulse, PulseSignal,
    SignalPolicy, Verdict,
};
use tidegate_core::mailbox::Level;
use tidegate_core::share::Ppm;
use tidegate_core::time::{Span, Timestamp};

#[test]
fn one_percent_against_five_keeps_its_error_rates() {
    keeps_its_error_rates([10_000, 50_000, 50_000, 50_000], 10);
}

#[test]
fn half_a_percent_against_two_keeps_its_error_rates() {
    keeps_its_error_rates([5_000, 20_000, 50_000, 50_000], 20);
}

#[test]
fn a_fifth_of_a_percent_against_one_keeps_its_error_rates() {
    keeps_its_error_rates([2_000, 10_000, 50_000, 10_000], 40);
}

#[test]
fn a_tenth_of_a_percent_against_one_keeps_its_error_rates() {
    keeps_its_error_rates([1_000, 10_000, 50_000, 10_000], 40);
}

#[test]
fn evidence_at_any_time_keeps_its_error_rates() {
    let rates = rates([10_000, 50_000, 50_000, 50_000]);
    let policy = GatePolicy { mode: Mode::EProcess, ..lone_signal(rates) };
    let gate = Gate::new(&policy, WaveNumber::new(0), Level::FIRST);
    let run = |rate, seed| one_wave(&gate, rate, 40, seed);

    let stopped = share(400, |seed| run(rates.p_ok, seed) == Ending::Halt);
    let passed = share(400, |seed| run(rates.p_bad, seed) == Ending::Expand);

    assert!(stopped <= rates.alpha.parts() + POINT, "stopped {stopped} ppm");
    assert!(passed <= rates.beta.parts() + POINT, "passed {passed} ppm");
}

#[test]
fn one_sick_node_of_forty_is_isolated_and_the_fleet_goes_on() {
    let fleet = Fleet::with_sick_nodes(40, 100, 1);

    let went_on = share(300, |seed| fleet.opens(seed) == (Ending::Expand, true));

    assert!(went_on >= 950_000, "went on in {went_on} ppm");
}

#[test]
fn one_sick_node_of_three_is_isolated_and_the_others_go_on() {
    let fleet = Fleet::with_sick_nodes(3, 1_000, 1);

    let went_on = share(500, |seed| fleet.opens(seed) == (Ending::Expand, true));

    assert!(went_on >= 900_000, "went on in {went_on} ppm");
}

#[test]
fn four_sick_nodes_of_forty_are_no_accident() {
    let fleet = Fleet::with_sick_nodes(40, 100, 4);

    let halted = share(200, |seed| fleet.opens(seed).0 == Ending::Halt);

    assert!(halted >= 990_000, "halted in {halted} ppm");
}

#[test]
fn a_fault_of_all_nodes_halts() {
    for (nodes, mailboxes) in [(40, 100), (3, 1_300)] {
        let fleet = Fleet { rates: vec![Ppm::new(30_000); nodes], mailboxes };

        let halted = share(300, |seed| fleet.opens(seed).0 == Ending::Halt);

        assert!(halted >= 990_000, "{nodes} nodes halted in {halted} ppm");
    }
}

#[test]
fn a_healthy_fleet_rarely_halts() {
    let fleet = Fleet::with_sick_nodes(40, 100, 0);

    let halted = share(300, |seed| fleet.opens(seed).0 == Ending::Halt);

    assert!(halted <= 3 * POINT, "halted in {halted} ppm");
}

#[test]
fn a_healthy_fleet_is_stopped_for_harm_less_than_once_in_a_hundred_days() {
    for nodes in [1, 4, 40] {
        let rates = GatePolicy::DEFAULT.signals.of(PulseSignal::Canary).rates;
        let day = |seed| sliding(&Minutes { nodes, rate: rates.p_ok, shown: DAY }, seed);

        let stopped = share(1_000, |seed| day(seed).is_some());

        assert!(stopped <= POINT, "{nodes} nodes stopped on {stopped} ppm of days");
    }
}

#[test]
fn harm_stops_a_fleet_within_its_soak() {
    // Every third round of the canaries fails.
    for (nodes, minutes) in [(1, 30), (4, 10), (40, 3)] {
        let rate = Ppm::new(333_333);

        let stopped = share(1_000, |seed| {
            sliding(&Minutes { nodes, rate, shown: minutes }, seed).is_some()
        });

        assert!(stopped >= 950_000, "{nodes} nodes stopped in {stopped} ppm");
    }
}

#[test]
fn a_busy_fleet_does_not_pass_and_a_quick_one_is_not_kept_waiting() {
    let rates = GatePolicy::DEFAULT.signals.of(PulseSignal::LoginLatency).rates;
    for nodes in [1, 4, 40] {
        let of = |rate, shown| Minutes { nodes, rate, shown };
        let busy = of(rates.p_bad, 120);
        let quick = of(rates.p_ok, 60);

        let passed = share(2_000, |seed| waits(&busy, seed).is_some());
        let waited = share(1_000, |seed| waits(&quick, seed).is_none());

        assert!(passed <= 5 * POINT + POINT / 2, "{nodes} nodes passed {passed} ppm");
        assert!(waited <= rates.alpha.parts(), "{nodes} nodes waited {waited} ppm");
    }
}

/// Minutes of a day.
const DAY: u32 = 24 * 60;

/// Minutes that count, by default.
const WINDOW: usize = 30;

/// A fleet whose minutes are bad at some rate.
struct Minutes {
    nodes: u32,
    rate: Ppm,
    shown: u32,
}

/// Looks at the canaries every minute, over the minutes that count, until the fleet stops.
/// Whenever the lines say that it trips, so must the judge.
fn sliding(fleet: &Minutes, seed: u32) -> Option<u32> {
    let rates = GatePolicy::DEFAULT.signals.of(PulseSignal::Canary).rates;
    let look = Look { wave: WaveNumber::new(0), level: Level::FIRST, signals: 3 };
    let lines = Lines::at(&rates, look);
    for (minute, shown) in windows(fleet, seed) {
        let bad: u32 = shown.iter().sum();
        let samples = u32::try_from(shown.len()).expect("it fits") * fleet.nodes;
        if lines.trips(samples, bad) {
            let verdict = judged_minutes(fleet, PulseSignal::Canary, samples, bad);
            let stops = matches!(verdict, Verdict::Halt(_) | Verdict::Isolate { .. });
            assert!(stops, "the lines trip, the judge says {verdict}");
            return Some(minute);
        }
    }
    None
}

/// When a fleet may be followed as far as its logins are concerned.
fn waits(fleet: &Minutes, seed: u32) -> Option<u32> {
    let rates = GatePolicy::DEFAULT.signals.of(PulseSignal::LoginLatency).rates;
    let look = Look { wave: WaveNumber::new(0), level: Level::FIRST, signals: 1 };
    let lines = Lines::at(&rates, look);
    let passes = |(minute, shown): (u32, Vec<u32>)| {
        let bad: u32 = shown.iter().sum();
        let samples = u32::try_from(shown.len()).expect("it fits") * fleet.nodes;
        let passes = lines.passes(samples, bad);
        passes.then(|| {
            let verdict = judged_minutes(fleet, PulseSignal::LoginLatency, samples, bad);
            assert_eq!(verdict, Verdict::Expand, "the lines pass");
            minute
        })
    };
    windows(fleet, seed).find_map(passes)
}

/// The bad minutes of the last half hour, after each minute.
fn windows(fleet: &Minutes, seed: u32) -> impl Iterator<Item = (u32, Vec<u32>)> {
    let mut chance = Chance::new(seed);
    let mut shown: Vec<u32> = Vec::new();
    let Minutes { nodes, rate, shown: minutes } = *fleet;
    (1..=minutes).map(move |minute| {
        let bad = (0..nodes).filter(|_| chance.happens(rate)).count();
        shown.push(u32::try_from(bad).expect("it fits"));
        if shown.len() > WINDOW {
            shown.remove(0);
        }
        (minute, shown.clone())
    })
}

/// What the judge says of an otherwise healthy fleet with so many bad minutes, spread.
fn judged_minutes(
    fleet: &Minutes,
    signal: PulseSignal,
    samples: u32,
    bad: u32,
) -> Verdict {
    let nodes = u16::try_from(fleet.nodes).expect("fleets here are small");
    let mut evidence = evidence(nodes);
    evidence.planned = fleet.nodes * 1_000;
    let minutes = samples / fleet.nodes;
    for (place, node) in (0..).zip(&mut evidence.nodes) {
        (0..1_000).for_each(|_| node.show(false));
        let more = u32::from(place < bad % fleet.nodes);
        let minutes_bad = bad / fleet.nodes + more;
        let latest = 0;
        node.pulses.set(Pulse { signal, minutes, minutes_bad, latest, silent: 0 });
    }
    let policy = policy();
    Gate::new(&policy, WaveNumber::new(0), Level::FIRST).judge(&evidence, NOW).verdict
}

/// One percentage point, in millionths: what so many runs can be off by chance.
const POINT: u32 = 10_000;

/// Runs per rate: the deviation of a share of 5 % is then 0.3 points.
const RUNS: u32 = 5_000;

/// A wave without verdict after so many mailboxes stays without.
const MAILBOXES_MAX: u32 = 20_000;

/// When everything was opened, and when it is judged.
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Checks `p_ok`, `p_bad`, `alpha` and `beta` in millionths: the lines with all of alpha, and
/// the judge, which spends a part of it. The judge looks at every failure and otherwise
/// every `stride` mailboxes.
fn keeps_its_error_rates(millionths: [u32; 4], stride: u32) {
    let rates = rates(millionths);
    let lines = Lines::of(&rates);
    let policy = lone_signal(rates);
    let gate = Gate::new(&policy, WaveNumber::new(0), Level::HELD);

    let errors = [
        share(RUNS, |seed| one_line(&lines, rates.p_ok, seed) == Ending::Halt),
        share(RUNS, |seed| one_line(&lines, rates.p_bad, seed) == Ending::Expand),
        share(RUNS, |seed| one_wave(&gate, rates.p_ok, stride, seed) == Ending::Halt),
        share(RUNS, |seed| one_wave(&gate, rates.p_bad, stride, seed) == Ending::Expand),
    ];

    let [line_stops, line_passes, judge_stops, judge_passes] = errors;
    assert!(line_stops <= rates.alpha.parts() + POINT, "lines stop {errors:?}");
    assert!(line_passes <= rates.beta.parts() + POINT, "lines pass {errors:?}");
    assert!(judge_stops <= rates.alpha.parts() + POINT, "judge stops {errors:?}");
    assert!(judge_passes <= rates.beta.parts() + POINT, "judge passes {errors:?}");
}

/// Where a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Expand,
    Halt,
    Neither,
}

/// Mailboxes one after the other, looked at after each, until a line is crossed.
fn one_line(lines: &Lines, rate: Ppm, seed: u32) -> Ending {
    let mut chance = Chance::new(seed);
    let mut failed = 0;
    for samples in 1..=MAILBOXES_MAX {
        failed += u32::from(chance.happens(rate));
        if lines.trips(samples, failed) {
            return Ending::Halt;
        }
        if lines.passes(samples, failed) {
            return Ending::Expand;
        }
    }
    Ending::Neither
}

/// A wave on one node that grows mailbox by mailbox until the judge decides.
fn one_wave(gate: &Gate<'_>, rate: Ppm, stride: u32, seed: u32) -> Ending {
    let mut chance = Chance::new(seed);
    let mut evidence = evidence(1);
    for samples in 1..=MAILBOXES_MAX {
        let failed = chance.happens(rate);
        for node in &mut evidence.nodes {
            node.show(failed);
        }
        evidence.planned = samples;
        if failed || samples % stride == 0 {
            match gate.judge(&evidence, NOW).verdict {
                Verdict::Expand => return Ending::Expand,
                Verdict::Halt(_) => return Ending::Halt,
                Verdict::Hold(_) | Verdict::Isolate { .. } => {}
            }
        }
    }
    Ending::Neither
}

/// Nodes with the rates at which their mailboxes fail.
struct Fleet {
    rates: Vec<Ppm>,
    mailboxes: u32,
}

impl Fleet {
    /// `sick` of `nodes` fail 30 % of their mailboxes, the others 0.4 %.
    fn with_sick_nodes(nodes: usize, mailboxes: u32, sick: usize) -> Self {
        let mut rates = vec![Ppm::new(300_000); sick];
        rates.resize(nodes, Ppm::new(4_000));
        Self { rates, mailboxes }
    }

    /// Opens one wave, node after node in turn, and judges after each failure. Says how it
    /// ends and whether the first node was isolated.
    fn opens(&self, seed: u32) -> (Ending, bool) {
        let policy = policy();
        let gate = Gate::new(&policy, WaveNumber::new(0), Level::FIRST);
        let mut chance = Chance::new(seed);
        let nodes = u16::try_from(self.rates.len()).expect("fleets here are small");
        let mut evidence = evidence(nodes);
        evidence.planned = u32::from(nodes) * self.mailboxes;
        for node in &mut evidence.nodes {
            node.planned = self.mailboxes;
            node.settled = self.mailboxes;
        }

        for mailbox in 0..self.mailboxes * u32::from(nodes) {
            let place = usize::try_from(mailbox % u32::from(nodes)).expect("it fits");
            let node = &mut evidence.nodes[place];
            let failed = chance.happens(self.rates[place]);
            if node.isolated {
                continue;
            }
            node.opened += 1;
            node.failed += u32::from(failed);
            node.mature += u32::from(!failed);
            if failed && judged(&gate, &mut evidence) == Ending::Halt {
                return (Ending::Halt, evidence.nodes[0].isolated);
            }
        }
        (judged(&gate, &mut evidence), evidence.nodes[0].isolated)
    }
}

/// What the judge says once every node that it takes out is out.
fn judged(gate: &Gate<'_>, evidence: &mut Evidence) -> Ending {
    loop {
        match gate.judge(evidence, NOW).verdict {
            Verdict::Expand => return Ending::Expand,
            Verdict::Halt(_) => return Ending::Halt,
            Verdict::Hold(_) => return Ending::Neither,
            Verdict::Isolate { node, .. } => {
                evidence.nodes[node.index()].isolated = true;
                evidence.isolated_before.push(node);
            }
        }
    }
}

/// Adds a mailbox that has failed or matured.
trait Show {
    fn show(&mut self, failed: bool);
}

impl Show for NodeEvidence {
    fn show(&mut self, failed: bool) {
        self.planned += 1;
        self.settled += 1;
        self.opened += 1;
        self.failed += u32::from(failed);
        self.mature += u32::from(!failed);
    }
}

fn evidence(nodes: u16) -> Evidence {
    let node = |number| NodeEvidence {
        node: NodeNumber::new(number),
        reported_at: Some(NOW),
        ..NodeEvidence::default()
    };
    Evidence {
        allowed_at: NOW,
        nodes: (0..nodes).map(node).collect(),
        fleet_nodes: nodes,
        ..Evidence::default()
    }
}

/// The default policy for a wave that has soaked.
fn policy() -> GatePolicy {
    let rates = rates([5_000, 20_000, 50_000, 10_000]);
    GatePolicy { soak: Span::ZERO, opening: rates, ..GatePolicy::default() }
}

/// A policy under which the opening signal alone decides, on a single node.
fn lone_signal(opening: SignalPolicy) -> GatePolicy {
    let mut policy = GatePolicy { opening, ..policy() };
    policy.node_breaker.failures_min = u32::MAX;
    // Passes after a handful of settled mailboxes.
    policy.preparation = rates([10_000, 900_000, 10_000, 100_000]);
    policy
}

fn rates([p_ok, p_bad, alpha, beta]: [u32; 4]) -> SignalPolicy {
    let [p_ok, p_bad, alpha, beta] = [p_ok, p_bad, alpha, beta].map(Ppm::new);
    SignalPolicy { p_ok, p_bad, alpha, beta }
}

/// How many of `runs` seeds are `so`, in millionths.
fn share(runs: u32, so: impl Fn(u32) -> bool) -> u32 {
    let count = (0..runs).filter(|seed| so(*seed)).count();
    let count = u32::try_from(count).expect("no more than the runs");
    Ppm::ratio(count, runs).parts()
}

/// Splitmix64.
struct Chance(u64);

impl Chance {
    fn new(seed: u32) -> Self {
        Self(u64::from(seed) << 32 | 0x9e37_79b9)
    }

    fn happens(&mut self, rate: Ppm) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % 1_000_000 < u64::from(rate.parts())
    }
}
