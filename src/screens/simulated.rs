//! Simulated: how rehearsed rollouts ended, for people and for programs.
//!
//! # Invariants
//!
//! * What was assumed is said before what came of it.
//! * Of few rollouts no more is said than they show: the tenth and the ninetieth of a hundred
//!   are those of the rollouts that were played.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::fleet::NodeNumber;
use tidegate_core::plan::Plan;
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;
use tidegate_rehearsal::{Assumptions, Ending, Outcome};

use super::{Table, json, say};
use crate::console::{safe, thousands};

/// What was played.
#[derive(Debug)]
pub(crate) struct Simulated<'a> {
    /// Of which plan.
    pub(crate) plan: &'a Plan,
    /// Under which assumptions.
    pub(crate) assumptions: &'a Assumptions,
    /// From which seed on.
    pub(crate) seed: u64,
    /// How many rollouts were asked for.
    pub(crate) asked: u32,
    /// How they ended.
    pub(crate) endings: &'a [Ending],
}

/// The smallest, the tenth, the middle, the ninetieth and the largest of a hundred.
struct Spread<T>([T; 5]);

impl<T: Copy + Ord + Default> Spread<T> {
    fn of(mut values: Vec<T>) -> Option<Self> {
        values.sort_unstable();
        let last = values.len().checked_sub(1)?;
        let at = |percent: usize| {
            values.get((last * percent + 50) / 100).copied().unwrap_or_default()
        };
        Some(Self([0, 10, 50, 90, 100].map(at)))
    }
}

impl Simulated<'_> {
    fn kinds(&self) -> [(&'static str, Vec<&Ending>); 3] {
        let of = |wanted: fn(&Outcome) -> bool| {
            self.endings.iter().filter(|ending| wanted(&ending.outcome)).collect()
        };
        [
            ("finished", of(|it| matches!(it, Outcome::Finished))),
            ("halted", of(|it| matches!(it, Outcome::Halted { .. }))),
            ("stands still", of(|it| matches!(it, Outcome::Stands(_)))),
        ]
    }

    /// The halt that came first after the start of its rollout.
    fn first_halt(&self) -> Option<&Ending> {
        let halted =
            self.endings.iter().filter(|it| matches!(it.outcome, Outcome::Halted { .. }));
        halted.min_by_key(|ending| ending.took)
    }

    /// How often each node was isolated, the most often isolated first.
    fn isolated(&self) -> Vec<(&str, usize)> {
        let mut counts = vec![0; self.plan.inventory().node_names().len()];
        for node in self.endings.iter().flat_map(|ending| &ending.isolated) {
            if let Some(count) = counts.get_mut(node.index()) {
                *count += 1;
            }
        }
        let names = self.plan.inventory().node_names().iter().map(String::as_str);
        let mut isolated: Vec<(&str, usize)> =
            names.zip(counts).filter(|(_, count)| *count > 0).collect();
        isolated.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        isolated
    }

    fn node(&self, node: NodeNumber) -> &str {
        self.plan.inventory().node_names().get(node.index()).map_or("?", String::as_str)
    }
}

/// Whole minutes once they are many: nobody needs the seconds of a night.
fn rounded(span: Span) -> Span {
    const MINUTE: u64 = 60_000;
    let millis = span.millis();
    if millis < 10 * MINUTE {
        return Span::from_secs(millis / 1_000);
    }
    Span::from_millis((millis + MINUTE / 2) / MINUTE * MINUTE)
}

/// For people.
pub(crate) fn text(simulated: &Simulated<'_>) -> String {
    let Simulated { plan, assumptions, seed, asked, endings } = *simulated;
    let mut out = format!(
        "Simulated {}: {} mailboxes on {} nodes in {} waves, {} rollouts\n\nAssumed\n",
        safe(&plan.policy().name),
        thousands(plan.planned()),
        plan.inventory().node_names().len(),
        plan.waves().len(),
        endings.len(),
    );
    say!(
        out,
        "  a node verifies {} mailboxes a second, give or take {:.0} %, and for minutes {:.0} %\n  \
         slower; {} fail once open, {} are set aside\n",
        assumptions.prepares_per_second,
        assumptions.spread * 100.0,
        assumptions.drift * 100.0,
        assumptions.fails,
        assumptions.sets_aside,
    );
    for (number, node) in &assumptions.nodes {
        let fails = node.fails.map(|it| format!("{it} fail once open"));
        let slower = node.slower.map(|it| format!("{it} times slower"));
        let lost = node.lost_after.map(|it| format!("lost after {it}"));
        let all: Vec<String> = [fails, slower, lost].into_iter().flatten().collect();
        say!(out, "  {}: {}\n", safe(simulated.node(*number)), all.join(", "));
    }
    out.push('\n');
    out.push_str(&times(simulated));
    out.push('\n');
    out.push_str(&mailboxes(simulated));
    out.push('\n');
    out.push_str(&troubles(simulated));
    if endings.len() < usize::try_from(asked).unwrap_or(usize::MAX) {
        say!(out, "Only {} of {asked} rollouts: the time was up\n", endings.len());
    }
    say!(out, "Nothing has been changed. Again with `--seed {seed}`\n");
    out
}

const PARTS: [&str; 5] = ["LEAST", "P10", "P50", "P90", "MOST"];

fn times(simulated: &Simulated<'_>) -> String {
    let header = ["ENDS", "ROLLOUTS"].into_iter().chain(PARTS);
    let header: Vec<&str> = header.collect();
    let mut table = Table::new(&header, &[1, 2, 3, 4, 5, 6]);
    for (kind, endings) in simulated.kinds() {
        let took: Vec<Span> = endings.iter().map(|ending| ending.took).collect();
        let Some(Spread(parts)) = Spread::of(took) else { continue };
        let [least, p10, p50, p90, most] = parts.map(|it| rounded(it).to_string());
        let count = endings.len().to_string();
        table.row([kind.to_owned(), count, least, p10, p50, p90, most]);
    }
    table.render("  ")
}

fn mailboxes(simulated: &Simulated<'_>) -> String {
    let header = ["MAILBOXES"].into_iter().chain(PARTS);
    let header: Vec<&str> = header.collect();
    let mut table = Table::new(&header, &[1, 2, 3, 4, 5]);
    let opened: Vec<u64> = simulated.endings.iter().map(|it| it.opened).collect();
    let harmed: Vec<u64> = simulated.endings.iter().map(|it| it.harmed).collect();
    for (kind, counts) in [("let in", opened), ("harmed", harmed)] {
        let Some(Spread(parts)) = Spread::of(counts) else { continue };
        let [least, p10, p50, p90, most] = parts.map(thousands);
        table.row([kind.to_owned(), least, p10, p50, p90, most]);
    }
    table.render("  ")
}

fn troubles(simulated: &Simulated<'_>) -> String {
    let mut out = String::new();
    match simulated.first_halt() {
        Some(Ending { outcome: Outcome::Halted { reason, wave }, took, .. }) => {
            let waves = simulated.plan.waves();
            let name = waves.get(wave.index()).map_or("?", |wave| wave.name.as_str());
            let after = rounded(*took);
            say!(out, "First halt  after {after} in wave {}: {reason}\n", safe(name));
        }
        Some(_) | None => out.push_str("First halt  none\n"),
    }
    let runs = simulated.endings.len();
    for (node, times) in simulated.isolated() {
        say!(out, "Isolated    {} in {times} of {runs} rollouts\n", safe(node));
    }
    let stands = simulated.endings.iter().find_map(|ending| match &ending.outcome {
        Outcome::Stands(why) => Some((ending.took, why)),
        Outcome::Finished | Outcome::Halted { .. } => None,
    });
    if let Some((took, why)) = stands {
        say!(out, "Stands still since {}, for a person:\n", rounded(took));
        for why in why {
            say!(out, "  - {}\n", safe(&why.to_string()));
        }
    }
    out
}

/// For programs.
pub(crate) fn value(simulated: &Simulated<'_>) -> Value {
    let Simulated { plan, assumptions, seed, asked, endings } = *simulated;
    let nodes = assumptions.nodes.iter().map(|(number, node)| AssumedNode {
        node: simulated.node(*number),
        fails_ppm: node.fails.map(Ppm::parts),
        slower: node.slower,
        lost_after_millis: node.lost_after.map(Span::millis),
    });
    json::value(&Simulation {
        plan: plan.digest().to_string(),
        mailboxes: plan.planned(),
        seed,
        asked,
        assumed: Assumed {
            prepares_per_second: assumptions.prepares_per_second,
            spread: assumptions.spread,
            drift: assumptions.drift,
            fails_ppm: assumptions.fails.parts(),
            sets_aside_ppm: assumptions.sets_aside.parts(),
            nodes: nodes.collect(),
        },
        rollouts: endings.iter().map(|it| Played::of(simulated, it)).collect(),
    })
}

/// Rollouts that were played in virtual time.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.simulation/v1")]
pub(crate) struct Simulation<'a> {
    /// The plan's digest.
    plan: String,
    /// Mailboxes in waves.
    mailboxes: u32,
    /// What chance began with.
    seed: u64,
    /// How many rollouts were asked for.
    asked: u32,
    /// What was supposed.
    assumed: Assumed<'a>,
    /// Those that were played.
    rollouts: Vec<Played<'a>>,
}

/// What was supposed of the fleet.
#[derive(Serialize, JsonSchema)]
struct Assumed<'a> {
    /// Mailboxes that a node verifies and repairs in a second.
    prepares_per_second: f64,
    /// How much nodes differ from that, as a share.
    spread: f64,
    /// How much slower a node becomes for minutes at a time, as a share.
    drift: f64,
    /// The share of mailboxes that cannot be read once open, in millionths.
    fails_ppm: u32,
    /// The share of mailboxes that are set aside, in millionths.
    sets_aside_ppm: u32,
    /// Nodes of which something else was supposed.
    nodes: Vec<AssumedNode<'a>>,
}

/// What was supposed of one node.
#[derive(Serialize, JsonSchema)]
struct AssumedNode<'a> {
    /// Its name.
    node: &'a str,
    /// The share of its mailboxes that cannot be read once open, in millionths.
    fails_ppm: Option<u32>,
    /// How many times slower it is.
    slower: Option<f64>,
    /// How long after the start it falls silent.
    lost_after_millis: Option<u64>,
}

/// One rollout that was played.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Rollout")]
struct Played<'a> {
    /// `finished`, `halted` or `stands-still`.
    outcome: &'static str,
    /// How long it took.
    took_millis: u64,
    /// Mailboxes whose owners were let in.
    mailboxes_let_in: u64,
    /// Of these, those that could not be read.
    mailboxes_harmed: u64,
    /// Why it halted, if it did.
    halt: Option<PlayedHalt<'a>>,
    /// What it stands still for, if it does.
    waits_for: Vec<PlayedWhy>,
    /// Nodes that the gate took out.
    isolated: Vec<&'a str>,
    /// When each wave passed each level.
    passed: Vec<PlayedStep<'a>>,
}

/// Why a rollout halted.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Halt")]
struct PlayedHalt<'a> {
    /// The wave whose evidence tripped.
    wave: Option<&'a str>,
    /// A stable code: `tidegate explain CODE`.
    code: &'static str,
    /// One line with its numbers.
    reason: String,
}

/// What a rollout waits for.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Why")]
struct PlayedWhy {
    /// A stable code: `tidegate explain CODE`.
    code: &'static str,
    /// One line with its numbers.
    reason: String,
}

/// A wave that passed a level.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Passed")]
struct PlayedStep<'a> {
    /// The wave.
    wave: Option<&'a str>,
    /// The level.
    level: u8,
    /// How long after the start.
    after_millis: u64,
}

impl<'a> Played<'a> {
    fn of(simulated: &'a Simulated<'a>, ending: &Ending) -> Self {
        let waves = simulated.plan.waves();
        let wave_name = |wave: tidegate_core::fleet::WaveNumber| {
            waves.get(wave.index()).map(|wave| wave.name.as_str())
        };
        let (outcome, halt, waits_for) = match &ending.outcome {
            Outcome::Finished => ("finished", None, Vec::new()),
            Outcome::Halted { reason, wave } => {
                let (wave, reason, code) =
                    (wave_name(*wave), reason.to_string(), reason.code());
                ("halted", Some(PlayedHalt { wave, code, reason }), Vec::new())
            }
            Outcome::Stands(why) => {
                let why = why
                    .iter()
                    .map(|why| PlayedWhy { code: why.code(), reason: why.to_string() });
                ("stands-still", None, why.collect())
            }
        };
        let passed = ending.passed.iter().map(|passed| PlayedStep {
            wave: wave_name(passed.wave),
            level: passed.level.get(),
            after_millis: passed.after.millis(),
        });
        Self {
            outcome,
            took_millis: ending.took.millis(),
            mailboxes_let_in: ending.opened,
            mailboxes_harmed: ending.harmed,
            halt,
            waits_for,
            isolated: ending.isolated.iter().map(|node| simulated.node(*node)).collect(),
            passed: passed.collect(),
        }
    }
}
