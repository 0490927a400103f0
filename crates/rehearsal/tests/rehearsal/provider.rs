//! A small provider, for rehearsals.

use std::sync::Arc;

use tidegate_core::gate::{GatePolicy, Mode};
use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::plan::{Plan, plan};
use tidegate_core::policy::{
    Cohort, Delays, Growth, Limits, Notice, Policy, Rung, Selector,
};

pub(crate) const NODES: u16 = 10;
pub(crate) const MAILBOXES: u32 = 4_000;

/// A provider of free mailboxes under `policy`.
pub(crate) fn plan_of(policy: Policy) -> Arc<Plan> {
    let mut builder = InventoryBuilder::new();
    for number in 0..MAILBOXES {
        let (address, path) = (format!("u{number}@example.org"), format!("u{number}"));
        let node = format!("stor-{:02}", number % u32::from(NODES));
        let row = Row {
            address: &address,
            node: &node,
            tier: "free",
            path: &path,
            labels: &[],
        };
        builder.push(row).unwrap();
    }
    Arc::new(plan(&Arc::new(builder.finish().unwrap()), &Arc::new(policy)).unwrap())
}

/// Seven waves and two rungs, with failures counted one by one.
pub(crate) fn policy() -> Policy {
    let mut gate = GatePolicy::DEFAULT;
    gate.mode = Mode::Sequential;
    let rung = |name: &str, service: &str| Rung {
        name: name.to_owned(),
        services: vec![service.to_owned()],
        soak: None,
    };
    Policy {
        name: "rehearsal".to_owned(),
        ladder: vec![rung("webmail", "webmail"), rung("apps", "imap")],
        cohorts: vec![Cohort {
            name: "all".to_owned(),
            select: Selector::everybody(),
            canary: 500,
            growth: Growth::new(110),
            wave_max: 600,
            delays: Delays::new(),
            expected: None,
            dial_tone: Vec::new(),
        }],
        exclude: Vec::new(),
        gate,
        limits: Limits::default(),
        notice: Notice::default(),
        calendar: Vec::new(),
        emergency: None,
        hash_seed: "rehearsal".to_owned(),
    }
}
