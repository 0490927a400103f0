//! Difference: what a plan changes beside an older one, and nothing else.
//!
//! # Invariants
//!
//! * Every line begins with a sign that says what it is without colour: `=`, `+`, `~`, `-`.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::plan::{Difference, Summary, WaveChange, WaveSummary};

use super::{json, say};
use crate::console::{safe, thousands};
use crate::planning::Older;

/// What is shown of a new plan beside an older one.
pub(crate) struct Shown<'a> {
    /// The policy's name.
    pub(crate) name: &'a str,
    /// The new plan.
    pub(crate) now: &'a Summary,
    /// The older one.
    pub(crate) older: &'a Older,
    /// How they differ.
    pub(crate) difference: &'a Difference,
}

impl Shown<'_> {
    /// The difference for people, without what to type next.
    pub(crate) fn text(&self) -> String {
        let Self { name, now, older, difference } = self;
        let before = &older.summary;
        let mut out = format!(
            "Plan {}  {:.12} beside {}, {:.12}\n\n",
            safe(name),
            now.plan.to_string(),
            safe(&older.name),
            before.plan.to_string()
        );
        for wave in &difference.waves {
            out.push_str(&line(wave));
        }
        let rules = difference.rules_gone.iter().map(|rule| ('-', rule));
        let rules = rules.chain(difference.rules_new.iter().map(|rule| ('+', rule)));
        for (sign, rule) in rules {
            say!(out, "  {sign} {}\n", safe(rule));
        }
        if let Some((before, now)) = difference.excluded {
            say!(out, "  ~ excluded: {} → {}\n", thousands(before), thousands(now));
        }
        if difference.policy_otherwise {
            say!(out, "  ~ the policy differs in what this list does not show\n");
        }
        let Counts { added, changed, removed, same } = self.counts();
        say!(
            out,
            "\nPlan: {added} to add, {changed} changed, {removed} removed, {same} as before. \
             Nothing has been changed.\n"
        );
        say!(out, "Digest {}\n", now.plan);
        out
    }

    /// The difference for programs, `tidegate.plan-difference/v1`.
    pub(crate) fn value(&self) -> Value {
        let Self { name, now, older, difference } = self;
        let changes = difference.waves.iter().map(WaveFate::of).collect();
        let Counts { added, changed, removed, same } = self.counts();
        json::value(&PlanDifference {
            name,
            digest: now.plan.to_string(),
            beside: &older.name,
            beside_digest: older.summary.plan.to_string(),
            differs: !difference.is_none(),
            added,
            changed,
            removed,
            same,
            waves: changes,
            rules_gone: &difference.rules_gone,
            rules_new: &difference.rules_new,
            excluded: difference.excluded.map(|(before, now)| Excluded { before, now }),
            policy_otherwise: difference.policy_otherwise,
        })
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for wave in &self.difference.waves {
            *match wave {
                WaveChange::Same(_) => &mut counts.same,
                WaveChange::Added(_) => &mut counts.added,
                WaveChange::Changed { .. } => &mut counts.changed,
                WaveChange::Removed(_) => &mut counts.removed,
            } += 1;
        }
        counts
    }
}

#[derive(Default)]
struct Counts {
    added: u32,
    changed: u32,
    removed: u32,
    same: u32,
}

fn line(wave: &WaveChange) -> String {
    let plain = |sign: char, wave: &WaveSummary| {
        let (name, who) = (safe(&wave.name), safe(&wave.who));
        format!("  {sign} {name}: {who}, {} mailboxes\n", thousands(wave.mailboxes))
    };
    match wave {
        WaveChange::Same(wave) => {
            let name = safe(&wave.name);
            format!("  = {name}: {} mailboxes, as before\n", thousands(wave.mailboxes))
        }
        WaveChange::Added(wave) => plain('+', wave),
        WaveChange::Removed(wave) => plain('-', wave),
        WaveChange::Changed { before, now } => {
            let mut changes = Vec::new();
            if before.who != now.who {
                changes.push(format!("{} → {}", safe(&before.who), safe(&now.who)));
            }
            if before.mailboxes == now.mailboxes {
                let mailboxes = thousands(now.mailboxes);
                changes.push(format!("{mailboxes} mailboxes, not the same ones"));
            } else {
                changes.push(format!(
                    "{} → {} mailboxes",
                    thousands(before.mailboxes),
                    thousands(now.mailboxes)
                ));
            }
            if before.nodes != now.nodes {
                changes.push(format!("{} → {} nodes", before.nodes, now.nodes));
            }
            format!("  ~ {}: {}\n", safe(&now.name), changes.join(", "))
        }
    }
}

/// What a new plan changes beside an older one.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.plan-difference/v1")]
pub(crate) struct PlanDifference<'a> {
    /// The policy's name for the rollout.
    name: &'a str,
    /// The digest of the new plan.
    digest: String,
    /// What it is compared with, in words.
    beside: &'a str,
    /// The digest of that.
    beside_digest: String,
    /// Whether there is any difference.
    differs: bool,
    /// Waves that are new.
    added: u32,
    /// Waves that are otherwise.
    changed: u32,
    /// Waves that are gone.
    removed: u32,
    /// Waves that are as before.
    same: u32,
    /// Wave by wave.
    waves: Vec<WaveFate<'a>>,
    /// Rules in words that hold no more.
    rules_gone: &'a [String],
    /// Rules in words that are new.
    rules_new: &'a [String],
    /// Excluded mailboxes; null where their number is as before.
    excluded: Option<Excluded>,
    /// Whether the policy differs in anything that is not said here.
    policy_otherwise: bool,
}

/// What becomes of a wave.
#[derive(Serialize, JsonSchema)]
struct WaveFate<'a> {
    /// `same`, `added`, `changed` or `removed`.
    change: &'static str,
    /// As it was; missing where it is as before or new.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<PlannedWave<'a>>,
    /// As it is now; missing where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<PlannedWave<'a>>,
}

impl<'a> WaveFate<'a> {
    fn of(change: &'a WaveChange) -> Self {
        let (change, before, now) = match change {
            WaveChange::Same(wave) => ("same", None, Some(wave)),
            WaveChange::Added(wave) => ("added", None, Some(wave)),
            WaveChange::Changed { before, now } => ("changed", Some(before), Some(now)),
            WaveChange::Removed(wave) => ("removed", Some(wave), None),
        };
        Self {
            change,
            before: before.map(PlannedWave::of),
            now: now.map(PlannedWave::of),
        }
    }
}

/// How many mailboxes are excluded.
#[derive(Serialize, JsonSchema)]
struct Excluded {
    /// By the older plan.
    before: u32,
    /// By the new one.
    now: u32,
}

/// A wave of a plan in brief.
#[derive(Serialize, JsonSchema)]
struct PlannedWave<'a> {
    /// Its name.
    name: &'a str,
    /// Whom it contains, in words.
    who: &'a str,
    /// How many.
    mailboxes: u32,
    /// On how many nodes.
    nodes: u32,
    /// The digest of its mailboxes.
    members_digest: String,
}

impl<'a> PlannedWave<'a> {
    fn of(wave: &'a WaveSummary) -> Self {
        Self {
            name: &wave.name,
            who: &wave.who,
            mailboxes: wave.mailboxes,
            nodes: wave.nodes,
            members_digest: wave.members.to_string(),
        }
    }
}
