//! Plan: what would open, in which waves, who does not, and what to look at first.
//!
//! # Invariants
//!
//! * The same plan is the same text on every machine.
//! * Showing a plan changes nothing, and says so.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_core::gate::Mode;
use tidegate_core::plan::{Plan, Wave};
use tidegate_core::policy::{Cohort, Notice, Window};
use tidegate_core::time::Span;

use super::{Table, date, percent, schedule, windows};
use crate::console::{safe, thousands};

/// The plan for people, without what to type next.
pub(crate) fn text(plan: &Plan) -> String {
    let policy = plan.policy();
    let inventory = plan.inventory();
    let mut out = format!(
        "Plan {}  inventory {:.12}  policy {:.12}\n\n",
        safe(&policy.name),
        inventory.digest().to_string(),
        policy.digest().to_string()
    );
    let excluded = inventory.len() - plan.planned();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        out,
        "  {} mailboxes on {} nodes   {} in waves   {} excluded\n",
        thousands(inventory.len()),
        inventory.node_names().len(),
        thousands(plan.planned()),
        thousands(excluded)
    );
    out.push_str(&waves(plan));
    for (level, rung) in policy.ladder.iter().enumerate() {
        let _ = writeln!(
            out,
            "{}  level {} {}: {}; soak {}",
            if level == 0 { "\n  Each wave opens step by step:\n" } else { "" },
            level + 1,
            safe(&rung.name),
            safe(&rung.services.join(", ")),
            rung.soak.unwrap_or(policy.gate.soak)
        );
    }
    out.push_str(&schedule(plan));
    out.push_str(&windows::text(&plan.policy().calendar));
    let _ = writeln!(out, "\n  Gate before each step and each next wave: {}", gate(plan));
    if excluded > 0 {
        out.push_str("\n  Excluded, stay held:\n");
        for (reason, count) in plan.exclusions() {
            let _ = writeln!(out, "  - {:>12}  {}", thousands(count), safe(reason));
        }
    }
    let findings = plan.lint();
    if !findings.is_empty() {
        let _ = writeln!(out, "\n! {} to look at", findings.len());
        for finding in &findings {
            let _ =
                writeln!(out, "  !  {}  {}", finding.code(), safe(&finding.to_string()));
        }
    }
    let _ = writeln!(
        out,
        "\nPlan: {} waves to open, {} mailboxes. Nothing has been changed.",
        plan.waves().len(),
        thousands(plan.planned())
    );
    let _ = writeln!(out, "Digest {}", plan.digest());
    out
}

fn waves(plan: &Plan) -> String {
    let mut table = Table::new(
        &["WAVE", "", "WHO", "MAILBOXES", "SHARE", "NODES", "NEEDS"],
        &[3, 4, 5, 6],
    );
    let zone = &plan.policy().notice.zone;
    for wave in plan.waves() {
        table.row([
            format!("+ {}", wave.number.get()),
            safe(&wave.name),
            who(plan, wave),
            thousands(wave.size),
            percent(wave.size, plan.planned()),
            wave.by_node.len().to_string(),
            thousands(needs(plan, wave)),
        ]);
    }
    if plan.waves().iter().any(|wave| wave.expected.is_some()) {
        let window = |wave: &Wave| {
            wave.expected.map(|Window { from, to }| schedule::window(from, to, zone))
        };
        let cells = plan.waves().iter().map(|wave| window(wave).unwrap_or_default());
        table.column("EXPECTED", cells.collect());
    }
    table.render("  ")
}

/// What waits longer than its gate, what works at once, and what users are told.
fn schedule(plan: &Plan) -> String {
    let policy = plan.policy();
    let mut out = String::new();
    for cohort in &policy.cohorts {
        let delays = delays(plan, cohort);
        if !delays.is_empty() {
            let _ = writeln!(out, "  {}: {delays}", safe(&cohort.name));
        }
        if !cohort.dial_tone.is_empty() {
            let services = safe(&cohort.dial_tone.join(", "));
            let _ = writeln!(
                out,
                "  {}: dial tone of {services} on an empty store from the start",
                safe(&cohort.name)
            );
        }
    }
    let Notice { language, language_label, zone } = &policy.notice;
    let (label, zone) = (safe(language_label), safe(zone));
    if !out.is_empty() {
        out.insert_str(
            0,
            "\n  By schedule; waves behind climb as far as these have come:\n",
        );
    }
    let _ = writeln!(
        out,
        "\n  Held users are told in `{language}`, or as their label `{label}` says; \
         hours are those of {zone}"
    );
    out
}

/// How long the waves of `cohort` wait before rungs.
fn delays(plan: &Plan, cohort: &Cohort) -> String {
    let ladder = &plan.policy().ladder;
    let names: Vec<&str> = ladder.iter().map(|rung| rung.name.as_str()).collect();
    let delayed = ladder.iter().map(|rung| (rung.name.as_str(), cohort.delay(rung)));
    let delayed: Vec<_> = delayed.filter(|(_, delay)| *delay > Span::ZERO).collect();
    schedule::delays(&names, &delayed)
}

fn who(plan: &Plan, wave: &Wave) -> String {
    let cohort = plan.policy().cohorts.get(wave.cohort.index());
    cohort.map_or_else(String::new, |cohort| safe(&cohort.select.to_string()))
}

/// How many mailboxes must prove themselves before the gate can let the next wave open.
fn needs(plan: &Plan, wave: &Wave) -> u32 {
    let gate = &plan.policy().gate;
    match gate.mode {
        Mode::EveryMailbox { .. } => wave.size,
        Mode::Sequential | Mode::EProcess => gate.n_min().min(wave.size),
    }
}

fn gate(plan: &Plan) -> String {
    let gate = &plan.policy().gate;
    let soak = gate.soak;
    match gate.mode {
        Mode::EveryMailbox { failures_max } => format!(
            "every mailbox must stay healthy for {soak}, at most {failures_max} may fail"
        ),
        Mode::Sequential => format!(
            "sequential test of {} against {} failing, soak {soak}",
            gate.opening.p_ok, gate.opening.p_bad
        ),
        Mode::EProcess => format!(
            "e-process of {} against {} failing, soak {soak}",
            gate.opening.p_ok, gate.opening.p_bad
        ),
    }
}

/// The plan for programs, `tidegate.plan/v1`.
pub(crate) fn value(plan: &Plan) -> Value {
    let inventory = plan.inventory();
    let policy = plan.policy();
    json!({
        "schema": "tidegate.plan/v1",
        "name": policy.name,
        "digest": plan.digest().to_string(),
        "inventory_digest": inventory.digest().to_string(),
        "policy_digest": policy.digest().to_string(),
        "mailboxes": inventory.len(),
        "planned": plan.planned(),
        "nodes": inventory.node_names(),
        "ladder": policy.ladder.iter().map(|rung| json!({
            "name": rung.name,
            "services": rung.services,
            "soak_millis": rung.soak.unwrap_or(policy.gate.soak).millis(),
        })).collect::<Vec<_>>(),
        "notice": json!({
            "language": policy.notice.language.code(),
            "language_label": policy.notice.language_label,
            "zone": policy.notice.zone,
        }),
        "dial_services": policy.dial_services(),
        "calendar": windows::value(&policy.calendar),
        "waves": plan.waves().iter().map(|wave| wave_value(plan, wave)).collect::<Vec<_>>(),
        "excluded": plan.exclusions().iter().map(|(reason, mailboxes)| json!({
            "reason": reason, "mailboxes": mailboxes,
        })).collect::<Vec<_>>(),
        "findings": plan.lint().iter().map(|finding| json!({
            "code": finding.code(), "text": finding.to_string(),
        })).collect::<Vec<_>>(),
    })
}

fn wave_value(plan: &Plan, wave: &Wave) -> Value {
    let (inventory, policy) = (plan.inventory(), plan.policy());
    let nodes = wave.by_node.iter();
    let tiers = wave.by_tier.iter();
    json!({
        "number": wave.number.get(),
        "name": wave.name,
        "who": who(plan, wave),
        "mailboxes": wave.size,
        "needs": needs(plan, wave),
        "delays": policy.ladder.iter().filter_map(|rung| {
            let delay = plan.cohort_of(wave.number)?.delays.get(&rung.name)?;
            Some(json!({ "rung": rung.name, "delay_millis": delay.millis() }))
        }).collect::<Vec<_>>(),
        "expected": wave.expected.map(|Window { from, to }| json!({
            "from_time": date(from), "to_time": date(to),
        })),
        "dial_tone": plan.has_dial_tone(wave.number),
        "nodes": nodes.map(|(node, mailboxes)| json!({
            "name": inventory.node_name(*node), "mailboxes": mailboxes,
        })).collect::<Vec<_>>(),
        "tiers": tiers.map(|(tier, mailboxes)| json!({
            "name": inventory.tier_name(*tier), "mailboxes": mailboxes,
        })).collect::<Vec<_>>(),
    })
}
