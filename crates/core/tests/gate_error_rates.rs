//! The gate keeps the error rates it declares, measured over the real judge.
//!
//! Every run draws its mailboxes from a seeded generator, so that each number here is the
//! same on every machine. `TIDEGATE_GATE_RUNS` asks for more runs than the usual 20,000 of each
//! kind; the table of what was measured is printed with `-- --nocapture`.
#![expect(clippy::indexing_slicing, reason = "fleets of known size")]
#![expect(clippy::print_stdout, reason = "the table is worth a look")]

use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::gate::{
    Bound, EXTERNAL_RATES, Evidence, ExternalEvidence, ExternalPolicy, Gate, GatePolicy,
    HoldReason, Lines, Look, Mode, NodeEvidence, Pulse, PulseSignal, ShortName,
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
fn the_default_opening_rates_hold_on_the_canary_and_on_every_growth_wave() {
    defaults_hold(Lone::Opening, 20);
}

#[test]
fn the_default_preparation_rates_hold_on_the_canary_and_on_every_growth_wave() {
    defaults_hold(Lone::Preparation, 10);
}

#[test]
fn the_default_latency_rates_hold_on_the_canary_and_on_every_growth_wave() {
    defaults_hold(Lone::Latency, 10);
}

#[test]
fn good_mailboxes_that_mature_late_neither_stop_a_healthy_wave_nor_excuse_a_bad_one() {
    let rates = GatePolicy::DEFAULT.opening;
    let policy = Lone::Opening.policy();
    let gate = Gate::new(&policy, WaveNumber::new(0), Level::FIRST);
    let run = |rate, seed| maturing_late(&gate, rate, seed);

    let stopped = share(runs(), |seed| run(rates.p_ok, seed) == Ending::Halt);
    let passed = share(runs(), |seed| run(rates.p_bad, seed) == Ending::Expand);

    keeps("opening, maturing late", rates, stopped, passed);
}

#[test]
fn evidence_at_any_time_keeps_its_error_rates() {
    let rates = rates([10_000, 50_000, 50_000, 50_000]);
    let policy = GatePolicy { mode: Mode::EProcess, ..lone_signal(rates) };
    let gate = Gate::new(&policy, WaveNumber::new(0), Level::FIRST);
    let run = |rate, seed| one_wave(&gate, Lone::Opening, (rate, 40), seed);

    let stopped = share(runs(), |seed| run(rates.p_ok, seed) == Ending::Halt);
    let passed = share(runs(), |seed| run(rates.p_bad, seed) == Ending::Expand);

    keeps("opening, e-process", rates, stopped, passed);
}

#[test]
fn the_breaker_leaves_healthy_nodes_alone_and_finds_sick_ones_within_a_hundred_mailboxes()
{
    let breaker = GatePolicy::DEFAULT.node_breaker;
    let lines = Lines::of(&breaker.rates);
    let broken = |rate, seed| {
        let (mut chance, mut failed) = (Chance::new(seed), 0);
        (1..=100).any(|opened| {
            failed += u32::from(chance.happens(rate));
            failed >= breaker.failures_min && lines.trips(opened, failed)
        })
    };

    let healthy = share(runs(), |seed| broken(breaker.rates.p_ok, seed));
    let sick = share(runs(), |seed| !broken(breaker.rates.p_bad, seed));

    keeps("node breaker", breaker.rates, healthy, sick);
}

#[test]
fn one_sick_node_of_forty_is_isolated_and_the_fleet_goes_on() {
    let fleet = Fleet::with_sick_nodes(40, 100, 1);

    for wave in FLEET_WAVES {
        let so = |seed| fleet.opens(wave, seed) == (Ending::Expand, true);
        let went_on = share(runs(), so);

        println!("1 of 40 sick, wave {wave}: isolated, goes on {}", percent(went_on));
        assert!(went_on >= 950_000, "wave {wave} went on in {went_on} ppm");
    }
}

#[test]
fn one_sick_node_of_three_is_isolated_and_the_others_go_on() {
    let fleet = Fleet::with_sick_nodes(3, 1_000, 1);

    let went_on = share(runs(), |seed| fleet.opens(0, seed) == (Ending::Expand, true));

    println!("1 of 3 sick: isolated, goes on {}", percent(went_on));
    assert!(went_on >= 900_000, "went on in {went_on} ppm");
}

#[test]
fn four_sick_nodes_of_forty_are_no_accident() {
    let fleet = Fleet::with_sick_nodes(40, 100, 4);

    let halted = share(runs(), |seed| fleet.opens(0, seed).0 == Ending::Halt);

    println!("4 of 40 sick: halts {}", percent(halted));
    assert!(halted >= 990_000, "halted in {halted} ppm");
}

#[test]
fn a_fault_of_all_nodes_halts() {
    for (nodes, mailboxes) in [(40, 100), (3, 1_300)] {
        let fleet = Fleet { rates: vec![Ppm::new(30_000); nodes], mailboxes };
        for wave in FLEET_WAVES {
            let halted = share(runs(), |seed| fleet.opens(wave, seed).0 == Ending::Halt);

            println!("all {nodes} at 3 %, wave {wave}: halts {}", percent(halted));
            assert!(halted >= 990_000, "{nodes} nodes halted in {halted} ppm");
        }
    }
}

#[test]
fn a_healthy_fleet_rarely_halts() {
    let fleet = Fleet::with_sick_nodes(40, 100, 0);

    let halted = share(runs(), |seed| fleet.opens(0, seed).0 == Ending::Halt);

    println!("40 healthy: halts {}", percent(halted));
    assert!(halted <= 3 * POINT, "halted in {halted} ppm");
}

#[test]
fn harm_stops_a_healthy_fleet_less_than_once_in_a_hundred_days() {
    for signal in PulseSignal::ALL.into_iter().filter(|it| it.halts()) {
        let rates = GatePolicy::DEFAULT.signals.of(signal).rates;
        for nodes in [1, 4, 40] {
            let fleet = Minutes { signal, nodes, rate: rates.p_ok, shown: DAY };

            let stopped = share(runs() / 10, |seed| sliding(&fleet, seed).is_some());

            println!("{signal}, {nodes} nodes: stopped {} of days", percent(stopped));
            assert!(stopped <= POINT, "{nodes} nodes stopped on {stopped} ppm of days");
        }
    }
}

#[test]
fn harm_stops_a_fleet_within_its_soak() {
    // Every third round of the canaries fails.
    let signal = PulseSignal::Canary;
    for (nodes, shown) in [(1, 30), (4, 10), (40, 3)] {
        let fleet = Minutes { signal, nodes, rate: Ppm::new(333_333), shown };

        let stopped = share(runs(), |seed| sliding(&fleet, seed).is_some());

        println!("{signal} every third minute, {nodes} nodes: {}", percent(stopped));
        assert!(stopped >= 950_000, "{nodes} nodes stopped in {stopped} ppm");
    }
}

#[test]
fn minutes_keep_their_error_rates_for_every_signal() {
    let mut known: Vec<(SignalPolicy, bool)> = Vec::new();
    for signal in PulseSignal::ALL {
        let rates = GatePolicy::DEFAULT.signals.of(signal).rates;
        // Signals with the same rates have the same lines.
        if known.contains(&(rates, signal.halts())) {
            continue;
        }
        known.push((rates, signal.halts()));
        for nodes in [1, 4, 40] {
            let of = |rate, shown| Minutes { signal, nodes, rate, shown };
            let (bad, good) = (of(rates.p_bad, SHOWN), of(rates.p_ok, 60));

            let passed = share(runs(), |seed| waits(&bad, seed).is_some());
            let waited = share(runs(), |seed| waits(&good, seed).is_none());

            println!(
                "{signal}, {nodes} nodes: bad passes {} within {SHOWN} minutes, \
                 good waits {} after an hour",
                percent(passed),
                percent(waited)
            );
            assert!(passed <= rates.beta.parts() + POINT, "{signal}: {passed} ppm");
            assert!(waited <= 5 * POINT + POINT, "{signal}: {waited} ppm waited");
        }
    }
}

#[test]
fn answers_of_others_keep_their_error_rates() {
    let rates = EXTERNAL_RATES;

    let passed = share(runs(), |seed| answers_pass(rates.p_bad, SHOWN, seed));
    let waited = share(runs(), |seed| !answers_pass(rates.p_ok, 60, seed));

    println!("external: bad passes {}, good waits {}", percent(passed), percent(waited));
    assert!(passed <= rates.beta.parts() + POINT, "passed {passed} ppm");
    assert!(waited <= 5 * POINT + POINT, "waited {waited} ppm");
}

/// Minutes for which a wave is looked at every minute while its gate holds.
const SHOWN: u32 = 120;

/// Waves on which fleets are tried: the canary, and growth waves whose share of `alpha` is
/// smaller and smaller.
const FLEET_WAVES: [u16; 3] = [0, 1, 9];

/// Where the default rates are tried: wave and level.
const LOOKS: [(u16, u8); 6] = [(0, 1), (0, 4), (1, 1), (3, 1), (9, 2), (40, 1)];

/// How many runs of each kind.
fn runs() -> u32 {
    let asked = std::env::var("TIDEGATE_GATE_RUNS").ok();
    asked.map_or(RUNS, |asked| asked.parse().expect("a number of runs"))
}

/// Checks and shows what was measured.
fn keeps(what: &str, rates: SignalPolicy, stopped: u32, passed: u32) {
    let SignalPolicy { alpha, beta, .. } = rates;
    println!(
        "{what}: stops {} ({alpha}), passes {} ({beta})",
        percent(stopped),
        percent(passed)
    );
    assert!(stopped <= alpha.parts() + POINT, "{what} stopped {stopped} ppm");
    assert!(passed <= beta.parts() + POINT, "{what} passed {passed} ppm");
}

fn percent(millionths: u32) -> String {
    format!("{:.2} %", f64::from(millionths) / 10_000.0)
}

/// A signal that decides alone.
#[derive(Clone, Copy, Debug)]
enum Lone {
    Opening,
    Preparation,
    Latency,
}

impl Lone {
    /// The default policy, but that what the other signals ask is met at once.
    fn policy(self) -> GatePolicy {
        let mut policy = GatePolicy { soak: Span::ZERO, ..GatePolicy::default() };
        policy.node_breaker.failures_min = u32::MAX;
        let easy = rates([10_000, 900_000, 10_000, 100_000]);
        let GatePolicy { opening, preparation, latency, .. } = &mut policy;
        for (signal, rates) in [
            (Self::Opening, opening),
            (Self::Preparation, preparation),
            (Self::Latency, &mut latency.rates),
        ] {
            if std::mem::discriminant(&signal) != std::mem::discriminant(&self) {
                *rates = easy;
            }
        }
        policy
    }

    fn rates(self) -> SignalPolicy {
        let GatePolicy { opening, preparation, latency, .. } = GatePolicy::DEFAULT;
        match self {
            Self::Opening => opening,
            Self::Preparation => preparation,
            Self::Latency => latency.rates,
        }
    }

    /// Adds a mailbox that this signal finds good or bad.
    fn show(self, node: &mut NodeEvidence, bad: bool) {
        match self {
            Self::Opening => node.show(bad),
            Self::Preparation if bad => {
                node.planned += 1;
                node.settled += 1;
                node.quarantined += 1;
            }
            Self::Preparation => node.show(false),
            Self::Latency => {
                node.show(false);
                node.probes += 1;
                node.probes_slow += u32::from(bad);
            }
        }
    }
}

/// Checks the default rates of one signal on the canary and on growth waves.
fn defaults_hold(lone: Lone, stride: u32) {
    let (rates, policy) = (lone.rates(), lone.policy());
    for (wave, level) in LOOKS {
        let level = Level::new(level).expect("a level");
        let gate = Gate::new(&policy, WaveNumber::new(wave), level);
        let run = |rate, seed| one_wave(&gate, lone, (rate, stride), seed);

        let stopped = share(runs(), |seed| run(rates.p_ok, seed) == Ending::Halt);
        let passed = share(runs(), |seed| run(rates.p_bad, seed) == Ending::Expand);

        keeps(&format!("{lone:?}, wave {wave} on {level}"), rates, stopped, passed);
    }
}

/// A wave whose good mailboxes mature when hundreds more are open, as with any soak.
fn maturing_late(gate: &Gate<'_>, rate: Ppm, seed: u32) -> Ending {
    const LATE: u32 = 500;
    let mut chance = Chance::new(seed);
    let mut evidence = evidence(1);
    let mut outcomes = std::collections::VecDeque::new();
    for samples in 1..=MAILBOXES_MAX {
        let failed = chance.happens(rate);
        outcomes.push_back(failed);
        let node = &mut evidence.nodes[0];
        node.planned += 1;
        node.settled += 1;
        node.opened += 1;
        node.failed += u32::from(failed);
        if samples > LATE {
            let matured = outcomes.pop_front().expect("it was opened");
            node.mature += u32::from(!matured);
        }
        evidence.planned = samples;
        if failed || samples % 20 == 0 {
            match gate.judge(&evidence, NOW).verdict {
                Verdict::Expand => return Ending::Expand,
                Verdict::Halt(_) => return Ending::Halt,
                Verdict::Hold(_) | Verdict::Isolate { .. } => {}
            }
        }
    }
    Ending::Neither
}

/// Whether answers that are bad at `rate`, one a minute, let a wave pass within so many
/// minutes: those of the last half hour, the newest of which must be good.
fn answers_pass(rate: Ppm, minutes: u32, seed: u32) -> bool {
    let signal = PulseSignal::LoginLatency;
    let look = Look { wave: WaveNumber::new(0), level: Level::FIRST, signals: 1 };
    let lines = Lines::at(&EXTERNAL_RATES, look);
    let name = ShortName::new("auth").expect("a name");
    let fleet = Minutes { signal, nodes: 1, rate, shown: minutes };
    windows(&fleet, seed).any(|(minute, shown)| {
        let bad: u32 = shown.iter().sum();
        let answers = u32::try_from(shown.len()).expect("it fits");
        let newest_is_bad = shown.last() == Some(&1);
        if newest_is_bad || !lines.passes(answers, bad) {
            return false;
        }
        let mut evidence = shown_well(1);
        evidence.allowed_at = before(minute);
        evidence.externals = vec![ExternalEvidence {
            name,
            answers,
            answers_bad: bad,
            latest: i64::from(newest_is_bad),
            answered_at: Some(NOW),
        }];
        let (every, age_max) = (Span::from_secs(60), Span::from_secs(120));
        let (query, bound, rates) = ("up".to_owned(), Bound::Max(0), EXTERNAL_RATES);
        let external = vec![ExternalPolicy { name, query, bound, every, age_max, rates }];
        let policy = GatePolicy { external, ..policy() };
        let gate = Gate::new(&policy, WaveNumber::new(0), Level::FIRST);
        gate.judge(&evidence, NOW).verdict == Verdict::Expand
    })
}

/// Minutes of a day.
const DAY: u32 = 24 * 60;

/// Minutes that count, by default.
const WINDOW: usize = 30;

/// A fleet whose minutes are bad at some rate.
struct Minutes {
    signal: PulseSignal,
    nodes: u32,
    rate: Ppm,
    shown: u32,
}

/// Looks at the minutes every minute, over the minutes that count, until the fleet stops.
/// Whenever the lines say that it trips, so must the judge.
fn sliding(fleet: &Minutes, seed: u32) -> Option<u32> {
    let lines = lines_of(fleet.signal);
    for (minute, shown) in windows(fleet, seed) {
        let bad: u32 = shown.iter().sum();
        let samples = u32::try_from(shown.len()).expect("it fits") * fleet.nodes;
        if lines.trips(samples, bad) {
            let verdict = judged_minutes(fleet, (minute, samples), bad);
            let stops = matches!(verdict, Verdict::Halt(_) | Verdict::Isolate { .. });
            assert!(stops, "the lines trip, the judge says {verdict}");
            return Some(minute);
        }
    }
    None
}

/// The lines of a signal of minutes on the canary.
fn lines_of(signal: PulseSignal) -> Lines {
    let signals = if signal.halts() { 3 } else { 1 };
    let look = Look { wave: WaveNumber::new(0), level: Level::FIRST, signals };
    Lines::at(&GatePolicy::DEFAULT.signals.of(signal).rates, look)
}

/// When a fleet may be followed as far as these minutes are concerned. The lines of the first
/// window say when the judge is worth asking.
fn waits(fleet: &Minutes, seed: u32) -> Option<u32> {
    let lines = lines_of(fleet.signal);
    for (minute, shown) in windows(fleet, seed) {
        let bad: u32 = shown.iter().sum();
        let samples = u32::try_from(shown.len()).expect("it fits") * fleet.nodes;
        if fleet.signal.halts() && lines.trips(samples, bad) {
            return None;
        }
        let asked = lines.passes(samples, bad);
        if asked && judged_minutes(fleet, (minute, samples), bad) == Verdict::Expand {
            return Some(minute);
        }
    }
    None
}

/// The bad minutes of the last half hour, after each minute.
fn windows(fleet: &Minutes, seed: u32) -> impl Iterator<Item = (u32, Vec<u32>)> {
    let mut chance = Chance::new(seed);
    let mut shown: Vec<u32> = Vec::new();
    let Minutes { nodes, rate, shown: minutes, .. } = *fleet;
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
fn judged_minutes(fleet: &Minutes, (minute, samples): (u32, u32), bad: u32) -> Verdict {
    let signal = fleet.signal;
    let mut evidence = shown_well(fleet.nodes);
    evidence.allowed_at = before(minute);
    let minutes = samples / fleet.nodes;
    for (place, node) in (0..).zip(&mut evidence.nodes) {
        let more = u32::from(place < bad % fleet.nodes);
        let minutes_bad = bad / fleet.nodes + more;
        let latest = 0;
        node.pulses.set(Pulse { signal, minutes, minutes_bad, latest, silent: 0 });
    }
    let policy = policy();
    Gate::new(&policy, WaveNumber::new(0), Level::FIRST).judge(&evidence, NOW).verdict
}

/// So many minutes ago.
fn before(minutes: u32) -> Timestamp {
    Timestamp::from_millis(NOW.millis() - u64::from(minutes) * 60_000)
}

/// A fleet of which every mailbox has matured.
fn shown_well(nodes: u32) -> Evidence {
    let mut evidence = evidence(u16::try_from(nodes).expect("fleets here are small"));
    evidence.planned = nodes * 1_000;
    for node in &mut evidence.nodes {
        let all = 1_000;
        (node.planned, node.settled, node.opened, node.mature) = (all, all, all, all);
    }
    evidence
}

/// One percentage point, in millionths: what so many runs can be off by chance.
const POINT: u32 = 10_000;

/// Runs per rate: the deviation of a share of 5 % is then 0.15 points.
const RUNS: u32 = 20_000;

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

    let line = |rate, seed| one_line(&lines, rate, seed);
    let wave = |rate, seed| one_wave(&gate, Lone::Opening, (rate, stride), seed);

    let line_stops = share(runs(), |seed| line(rates.p_ok, seed) == Ending::Halt);
    let line_passes = share(runs(), |seed| line(rates.p_bad, seed) == Ending::Expand);
    let stops = share(runs(), |seed| wave(rates.p_ok, seed) == Ending::Halt);
    let passes = share(runs(), |seed| wave(rates.p_bad, seed) == Ending::Expand);

    let what = format!("{} against {}", rates.p_ok, rates.p_bad);
    keeps(&format!("{what}, lines"), rates, line_stops, line_passes);
    keeps(&format!("{what}, judge"), rates, stops, passes);
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
///
/// The judge looks at every bad mailbox, and otherwise after each `stride`. A signal that can
/// only hold has stopped a wave when it trips.
fn one_wave(
    gate: &Gate<'_>,
    lone: Lone,
    (rate, stride): (Ppm, u32),
    seed: u32,
) -> Ending {
    let mut chance = Chance::new(seed);
    let mut evidence = evidence(1);
    for samples in 1..=MAILBOXES_MAX {
        let failed = chance.happens(rate);
        for node in &mut evidence.nodes {
            lone.show(node, failed);
        }
        evidence.planned = samples;
        if failed || samples % stride == 0 {
            match gate.judge(&evidence, NOW).verdict {
                Verdict::Expand => return Ending::Expand,
                Verdict::Halt(_) => return Ending::Halt,
                Verdict::Hold(reasons) if reasons.iter().any(is_slow) => {
                    return Ending::Halt;
                }
                Verdict::Hold(_) | Verdict::Isolate { .. } => {}
            }
        }
    }
    Ending::Neither
}

fn is_slow(reason: &HoldReason) -> bool {
    matches!(reason, HoldReason::Slow { .. })
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
    fn opens(&self, wave: u16, seed: u32) -> (Ending, bool) {
        let policy = policy();
        let gate = Gate::new(&policy, WaveNumber::new(wave), Level::FIRST);
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
    GatePolicy { soak: Span::ZERO, ..GatePolicy::default() }
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
