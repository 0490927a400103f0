//! Pace: how fast each node lets people in and gets mail, why, and what that is made from.
//!
//! # Invariants
//!
//! * What was measured is told from what is assumed.

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_core::pace::{PaceReport, PaceWhy};
use tidegate_wire::v1::{Node, NodeState, Rollout};

use super::say;
use crate::console::{safe, thousands};

/// Nodes whose pace is explained; more would hide the rest of the screen.
const NODES_SHOWN: usize = 8;

/// What a node gets of queued mail: `50/s`; `-` where no mail exchanger has anything to do
/// with it.
pub(crate) fn drain(node: &Node) -> String {
    match node.drain_per_second {
        0 if node.drain_why.is_none() => "-".to_owned(),
        per_second => format!("{}/s", thousands(per_second)),
    }
}

/// A node's pace: `12.5/s rising`; `-` before it knows.
pub(crate) fn pace(node: &Node) -> String {
    let Some(pace) = node.vitals.as_ref().and_then(|vitals| vitals.pace.as_ref()) else {
        return "-".to_owned();
    };
    let (whole, tenths) =
        (pace.millis_per_second / 1_000, pace.millis_per_second / 100 % 10);
    let rest = if tenths > 0 { format!(".{tenths}") } else { String::new() };
    format!("{}{rest}/s {}", thousands(whole), safe(&pace.why))
}

/// Why nodes are as fast as they are, where something is measured or slows them down.
pub(crate) fn reasons(rollout: &Rollout) -> String {
    let mut out = String::new();
    let told: Vec<String> = rollout.nodes.iter().filter_map(explained).collect();
    told.iter().take(NODES_SHOWN).for_each(|lines| out.push_str(lines));
    if let Some(more) = told.len().checked_sub(NODES_SHOWN).filter(|more| *more > 0) {
        say!(out, "  … {more} more nodes: tidegate status -o json\n");
    }
    out
}

/// Nodes that let nobody in because those who are in wait too long.
pub(crate) fn stopped(rollout: &Rollout) -> Option<String> {
    let stopped = rollout.nodes.iter().filter(|node| {
        let works = node.state() == NodeState::Working;
        works && report(node).is_some_and(|pace| pace.why == PaceWhy::Stopped)
    });
    let names: Vec<String> = stopped.map(|node| safe(&node.name)).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn explained(node: &Node) -> Option<String> {
    let pace = report(node);
    let learned = |pace: &PaceReport| {
        pace.basis.is_some_and(|basis| {
            basis.counted > 0
                || basis.is_cold_cost_measured
                || basis.is_retry_measured
                || basis.is_capacity_measured
        })
    };
    let pace = pace.filter(|pace| pace.why != PaceWhy::Unfelt || learned(pace));
    let out = node.state() != NodeState::Working;
    let drain = node.drain_why.as_ref().filter(|_| !out);
    if out || pace.is_none() && drain.is_none() {
        return None;
    }
    let mut lines = String::new();
    if let Some(pace) = pace {
        say!(lines, "  pace of {}: {pace}\n", safe(&node.name));
        if let Some(basis) = pace.basis {
            say!(lines, "    made from: {basis}\n");
        }
    }
    if let Some(why) = drain {
        let (name, rate) = (safe(&node.name), thousands(node.drain_per_second));
        say!(lines, "  mail into {name}: {rate} a second: {}\n", safe(&why.text));
    }
    Some(lines)
}

fn report(node: &Node) -> Option<PaceReport> {
    let pace = node.vitals.as_ref()?.pace.clone()?;
    // A reason that only a newer coordinator knows is in the table all the same.
    PaceReport::try_from(pace).ok()
}

/// How fast a node opens, and why not faster or slower.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PaceShown<'a> {
    /// Thousandths of a mailbox in a second.
    millis_per_second: u32,
    /// Why not faster or slower.
    why: &'a str,
    /// The same in words.
    text: Option<String>,
    /// The newest 95th percentile of logins; 0 if none is known.
    login_p95_millis: u32,
    /// What it is made from.
    basis: Option<Basis>,
}

/// What a pace is made from: measured, or assumed as the policy says.
#[derive(Serialize, JsonSchema)]
struct Basis {
    /// The share of mailboxes of which a program comes when they open, in millionths.
    active_ppm: u32,
    /// The connections that each of these opens.
    connections: u32,
    /// Opened mailboxes of which these two were counted; 0 while they are assumed.
    counted: u32,
    /// How many warm logins the first one costs.
    cold_cost: u32,
    /// Whether that was measured.
    cold_cost_measured: bool,
    /// How soon a program that was told to wait looks again.
    retry_millis: u64,
    /// Whether that was measured.
    retry_measured: bool,
    /// Warm logins that the node serves in a second; null if nothing is known of it.
    capacity: Option<u32>,
    /// Whether that was measured.
    capacity_measured: bool,
    /// Warm logins that a million opened mailboxes are worth.
    work_of_a_million: u64,
}

/// The pace for programs.
pub(crate) fn shown(node: &Node) -> Option<PaceShown<'_>> {
    let pace = node.vitals.as_ref()?.pace.as_ref()?;
    Some(PaceShown {
        millis_per_second: pace.millis_per_second,
        why: &pace.why,
        text: report(node).map(|report| report.to_string()),
        login_p95_millis: pace.login_p95_millis,
        basis: pace.basis.as_ref().map(|basis| Basis {
            active_ppm: basis.active_ppm,
            connections: basis.connections,
            counted: basis.counted,
            cold_cost: basis.cold_cost,
            cold_cost_measured: basis.cold_cost_measured,
            retry_millis: basis.retry_millis,
            retry_measured: basis.retry_measured,
            capacity: basis.capacity,
            capacity_measured: basis.capacity_measured,
            work_of_a_million: basis.work_of_a_million,
        }),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use tidegate_wire::v1::{Pace, PaceBasis, Vitals, Why};

    use super::*;

    #[test]
    fn a_pace_says_why_and_what_of_it_was_measured() {
        let late = Why { code: "stopped".into(), text: "logins are too late".into() };
        let nodes = vec![
            node("stor-01", Some(rising())),
            Node {
                drain_per_second: 4,
                drain_why: Some(late),
                ..node("stor-02", Some(stopped_pace()))
            },
            node("stor-03", Some(Pace { why: "unfelt".into(), ..Pace::default() })),
            node("stor-04", None),
        ];
        let rollout = Rollout { nodes, ..Rollout::default() };

        expect![[r"
            nodes
              pace of stor-01: 12.55 mailboxes a second: logins are quick, becoming faster (95 % within 400 ms)
                made from: at most 35.9 % come, 3 connections each (counted of 1200); a first login costs 4 (measured); programs look every 5 min (assumed); capacity unknown
              pace of stor-02: 0 mailboxes a second: logins are too late, nothing opens (95 % within 11000 ms)
              mail into stor-02: 4 a second: logins are too late
        "]]
        .assert_eq(&format!("nodes\n{}", reasons(&rollout)));
        let cells = rollout.nodes.iter().map(|it| (pace(it), drain(it)));
        let cells: Vec<String> = cells.map(|(a, b)| format!("{b} {a}")).collect();
        assert_eq!(
            cells,
            ["50/s 12.5/s rising", "4/s 0/s stopped", "50/s 0/s unfelt", "50/s -"]
        );
        assert_eq!(stopped(&rollout).as_deref(), Some("stor-02"));
    }

    #[test]
    fn programs_get_all_numbers_of_a_pace() {
        let pace = node("stor-01", Some(rising()));
        let value = crate::screens::json::value(&shown(&pace));

        assert_eq!(value["why"], "rising");
        assert_eq!(value["basis"]["counted"], 1_200);
        assert_eq!(value["basis"]["retry_measured"], false);
    }

    fn rising() -> Pace {
        Pace {
            millis_per_second: 12_550,
            why: "rising".into(),
            login_p95_millis: 400,
            basis: Some(PaceBasis {
                active_ppm: 359_000,
                connections: 3,
                counted: 1_200,
                cold_cost: 4,
                cold_cost_measured: true,
                retry_millis: 300_000,
                work_of_a_million: 2_154_000,
                ..PaceBasis::default()
            }),
        }
    }

    fn stopped_pace() -> Pace {
        Pace { why: "stopped".into(), login_p95_millis: 11_000, ..Pace::default() }
    }

    fn node(name: &str, pace: Option<Pace>) -> Node {
        let vitals = Vitals { pace, ..Vitals::default() };
        Node {
            name: name.into(),
            state: NodeState::Working.into(),
            vitals: Some(vitals),
            drain_per_second: 50,
            ..Node::default()
        }
    }
}
