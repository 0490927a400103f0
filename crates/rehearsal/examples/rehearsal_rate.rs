//! How long a rehearsal takes: `cargo run --release --example rehearsal_rate -- 9000000 [40]`, a
//! number of mailboxes and one of nodes.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::sync::Arc;
use std::time::Instant;

use tidegate_core::fleet::NodeNumber;
use tidegate_core::gate::GatePolicy;
use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::plan::{Plan, plan};
use tidegate_core::policy::{
    Cohort, Delays, Growth, Limits, Notice, Policy, Rung, Selector,
};
use tidegate_core::share::Ppm;
use tidegate_rehearsal::{Assumptions, rehearse};

/// Mailboxes and nodes when none are asked for.
const MAILBOXES: u32 = 100_000;
const NODES: u32 = 40;

/// As many mailboxes as a node verifies in a second.
const PREPARES_PER_SECOND: f64 = 10.0;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse().ok());
    let mailboxes = numbers.next().flatten().unwrap_or(MAILBOXES);
    let nodes = numbers.next().flatten().unwrap_or(NODES);
    let began = Instant::now();
    let plan = Arc::new(provider(mailboxes, nodes));
    println!("planned in {:.1} s: {} waves", secs(began), plan.waves().len());
    let healthy =
        Assumptions { spread: 0.2, ..Assumptions::healthy(PREPARES_PER_SECOND) };
    let mut sick = healthy.clone();
    sick.of(NodeNumber::new(17)).fails = Some(Ppm::new(300_000));
    sick.of(NodeNumber::new(3)).slower = Some(4.0);
    for (what, assumptions) in [("healthy", healthy), ("one sick, one slow", sick)] {
        let began = Instant::now();
        let ending = rehearse(&plan, &assumptions, 1);
        println!(
            "{what}: {:.1} s; {:?} after {}, {} let in, {} harmed, isolated {:?}",
            secs(began),
            ending.outcome,
            ending.took,
            ending.opened,
            ending.harmed,
            ending.isolated
        );
    }
}

fn secs(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

fn provider(mailboxes: u32, nodes: u32) -> Plan {
    let mut builder = InventoryBuilder::new();
    for number in 0..mailboxes {
        let address = format!("user.{number:x}@provider{}.example", number % 7);
        let path = format!("provider{}.example/user.{number:x}", number % 7);
        let node = format!("stor-{:02}", number % nodes);
        let tier = if number % 20 == 0 { "business" } else { "free" };
        let row = Row { address: &address, node: &node, tier, path: &path, labels: &[] };
        builder.push(row).expect("the row is well formed");
    }
    let inventory = builder.finish().expect("nothing clashes");
    plan(&Arc::new(inventory), &Arc::new(policy())).expect("the policy fits")
}

fn policy() -> Policy {
    let rung = |name: &str, services: &[&str]| Rung {
        name: name.to_owned(),
        services: services.iter().map(|it| (*it).to_owned()).collect(),
        soak: None,
    };
    Policy {
        name: "rehearsal".to_owned(),
        ladder: vec![rung("webmail", &["webmail"]), rung("apps", &["imap", "pop3"])],
        cohorts: vec![Cohort {
            name: "all".to_owned(),
            select: Selector::everybody(),
            canary: 5_000,
            growth: Growth::new(300),
            wave_max: 1_000_000,
            delays: Delays::new(),
            expected: None,
            dial_tone: Vec::new(),
        }],
        exclude: Vec::new(),
        gate: GatePolicy::DEFAULT,
        limits: Limits::default(),
        notice: Notice::default(),
        calendar: Vec::new(),
        emergency: None,
        hash_seed: "rehearsal".to_owned(),
    }
}
