//! Plan: what would open, in which waves, who does not, and what to look at first.
//!
//! # Invariants
//!
//! * The same plan is the same text on every machine.
//! * Showing a plan changes nothing, and says so.

use std::cmp::Reverse;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::fleet::{NodeNumber, TierNumber};
use tidegate_core::gate::Mode;
use tidegate_core::plan::{Plan, Wave};
use tidegate_core::policy::{Cohort, Notice, Window};
use tidegate_core::time::Span;

use super::json::{self, Delay};
use super::schedule::WindowShown;
use super::windows::RuleShown;
use super::{Table, percent, schedule, windows};
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
        "  {} mailboxes on {} nodes   {} in waves   {} excluded",
        thousands(inventory.len()),
        inventory.node_names().len(),
        thousands(plan.planned()),
        thousands(excluded)
    );
    out.push_str(&busiest(plan));
    out.push('\n');
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

/// The node with the most mailboxes, which is most likely done last; nothing of a single one.
fn busiest(plan: &Plan) -> String {
    let inventory = plan.inventory();
    let names = inventory.node_names();
    let count = |(number, name)| (inventory.on_node(NodeNumber::new(number)).len(), name);
    // Of those that have as many the first by name.
    let most = (0_u16..).zip(names).map(count).min_by_key(|(count, _)| Reverse(*count));
    let Some((count, name)) = most.filter(|_| names.len() > 1) else {
        return String::new();
    };
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let share = percent(count, inventory.len());
    format!("  most on {}: {}, {share}\n", safe(name), thousands(count))
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
    json::value(&PlanShown {
        name: &policy.name,
        digest: plan.digest().to_string(),
        inventory_digest: inventory.digest().to_string(),
        policy_digest: policy.digest().to_string(),
        mailboxes: inventory.len(),
        planned: plan.planned(),
        nodes: inventory.node_names(),
        ladder: policy
            .ladder
            .iter()
            .map(|rung| PlannedRung {
                name: &rung.name,
                services: &rung.services,
                soak_millis: rung.soak.unwrap_or(policy.gate.soak).millis(),
            })
            .collect(),
        notice: PlannedNotice {
            language: policy.notice.language.code(),
            language_label: &policy.notice.language_label,
            zone: &policy.notice.zone,
        },
        dial_services: policy.dial_services(),
        calendar: windows::shown(&policy.calendar),
        waves: plan.waves().iter().map(|wave| PlannedWave::of(plan, wave)).collect(),
        excluded: plan
            .exclusions()
            .iter()
            .map(|(reason, mailboxes)| Exclusion { reason, mailboxes: *mailboxes })
            .collect(),
        findings: plan
            .lint()
            .iter()
            .map(|finding| Hint { code: finding.code(), text: finding.to_string() })
            .collect(),
    })
}

/// A plan: who opens in which wave, and under which policy.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.plan/v1")]
pub(crate) struct PlanShown<'a> {
    /// The policy's name for the rollout.
    name: &'a str,
    /// The plan's digest: the same files give the same on every machine.
    digest: String,
    /// The inventory's digest.
    inventory_digest: String,
    /// The policy's digest.
    policy_digest: String,
    /// Mailboxes of the inventory.
    mailboxes: u32,
    /// Of these, mailboxes in waves.
    planned: u32,
    /// The nodes of the inventory.
    nodes: &'a [String],
    /// The service ladder from its first step.
    ladder: Vec<PlannedRung<'a>>,
    /// How held users are told to wait.
    notice: PlannedNotice<'a>,
    /// Services of a dial tone.
    dial_services: &'a [String],
    /// When a step may begin.
    calendar: Vec<RuleShown<'a>>,
    /// In the order in which they open.
    waves: Vec<PlannedWave<'a>>,
    /// Mailboxes in no wave.
    excluded: Vec<Exclusion<'a>>,
    /// What a person should look at before starting it.
    findings: Vec<Hint>,
}

/// A step of the service ladder.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Rung")]
struct PlannedRung<'a> {
    /// Its name.
    name: &'a str,
    /// Its services.
    services: &'a [String],
    /// How long an opened mailbox must stay healthy on it.
    soak_millis: u64,
}

/// How held users are told to wait.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Notice")]
struct PlannedNotice<'a> {
    /// In which language, where a mailbox says nothing else.
    language: &'static str,
    /// The label of the inventory that says which.
    language_label: &'a str,
    /// By the clocks of which zone.
    zone: &'a str,
}

/// A wave of a plan.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Wave")]
struct PlannedWave<'a> {
    /// Its number.
    number: u16,
    /// Its name.
    name: &'a str,
    /// Whom it contains, in words.
    who: String,
    /// How many mailboxes.
    mailboxes: u32,
    /// How many of them must prove themselves before it passes.
    needs: u32,
    /// How long it waits before rungs of the ladder.
    delays: Vec<Delay<'a>>,
    /// When its mailboxes are expected back, as their users are told.
    expected: Option<WindowShown>,
    /// Whether its held mailboxes have a dial tone.
    dial_tone: bool,
    /// How many of its mailboxes are on each node.
    nodes: Vec<Share<'a>>,
    /// How many of its mailboxes are of each tier.
    tiers: Vec<Share<'a>>,
}

/// A part of a wave.
#[derive(Serialize, JsonSchema)]
struct Share<'a> {
    /// The node or tier.
    name: &'a str,
    /// How many mailboxes.
    mailboxes: u32,
}

/// Mailboxes in no wave.
#[derive(Serialize, JsonSchema)]
struct Exclusion<'a> {
    /// Why.
    reason: &'a str,
    /// How many.
    mailboxes: u32,
}

/// Something to look at.
#[derive(Serialize, JsonSchema)]
struct Hint {
    /// A stable code: `tidegate explain CODE`.
    code: &'static str,
    /// One line with its numbers.
    text: String,
}

impl<'a> PlannedWave<'a> {
    fn of(plan: &'a Plan, wave: &'a Wave) -> Self {
        let (inventory, policy) = (plan.inventory(), plan.policy());
        let delays = policy.ladder.iter().filter_map(|rung| {
            let delay = plan.cohort_of(wave.number)?.delays.get(&rung.name)?;
            Some(Delay { rung: &rung.name, delay_millis: delay.millis() })
        });
        let node = |(node, mailboxes): &'a (NodeNumber, u32)| Share {
            name: inventory.node_name(*node),
            mailboxes: *mailboxes,
        };
        let tier = |(tier, mailboxes): &'a (TierNumber, u32)| Share {
            name: inventory.tier_name(*tier),
            mailboxes: *mailboxes,
        };
        Self {
            number: wave.number.get(),
            name: &wave.name,
            who: who(plan, wave),
            mailboxes: wave.size,
            needs: needs(plan, wave),
            delays: delays.collect(),
            expected: wave.expected.map(|Window { from, to }| WindowShown {
                from_time: from.into(),
                to_time: to.into(),
            }),
            dial_tone: plan.has_dial_tone(wave.number),
            nodes: wave.by_node.iter().map(node).collect(),
            tiers: wave.by_tier.iter().map(tier).collect(),
        }
    }
}
