//! What a person should look at before starting.
//!
//! # Invariants
//!
//! * A finding never makes a plan wrong; what does is refused.
//! * Codes never change: scripts know them.

use std::collections::BTreeSet;
use std::fmt;

use super::{Exclusion, Plan};
use crate::inventory::Inventory;
use crate::policy::Selector;
use crate::share::Ppm;

/// A wave larger than this share of all mailboxes is hardly a step.
const STEP_MAX: Ppm = Ppm::new(500_000);

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Mailboxes stay held that nobody excluded.
    NoCohort {
        /// How many.
        mailboxes: u32,
    },
    /// A cohort of nobody.
    SelectsNobody {
        /// Its name.
        cohort: String,
    },
    /// A selector names something the inventory does not have.
    UnknownName {
        /// The cohort's name, or the reason of the exclusion.
        of: String,
        /// What kind of thing.
        kind: NameKind,
        /// Its name.
        name: String,
    },
    /// One wave is most of the user base.
    LargeStep {
        /// The wave's name.
        wave: String,
        /// What is planned before it.
        before: Ppm,
        /// What is planned with it.
        after: Ppm,
    },
    /// The first wave of a cohort says nothing about some of its nodes.
    NodesUnseen {
        /// The wave's name.
        wave: String,
        /// How many nodes it is on.
        seen: u32,
        /// How many nodes the cohort is on.
        of: u32,
    },
}

/// A kind of name in a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A tier.
    Tier,
    /// A domain.
    Domain,
    /// A node.
    Node,
    /// A label's key.
    Label,
}

impl Finding {
    /// Its stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCohort { .. } => "TG0101",
            Self::SelectsNobody { .. } => "TG0102",
            Self::UnknownName { .. } => "TG0103",
            Self::LargeStep { .. } => "TG0104",
            Self::NodesUnseen { .. } => "TG0105",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCohort { mailboxes } => {
                write!(f, "{mailboxes} mailboxes stay held: no cohort selects them")
            }
            Self::SelectsNobody { cohort } => {
                write!(f, "cohort `{cohort}` selects nobody")
            }
            Self::UnknownName { of, kind, name } => {
                write!(f, "`{of}` names the {kind} `{name}`, which nobody has")
            }
            Self::LargeStep { wave, before, after } => {
                write!(f, "wave `{wave}` jumps from {before} of all mailboxes to {after}")
            }
            Self::NodesUnseen { wave, seen, of } => {
                write!(f, "first wave `{wave}` is on {seen} of its cohort's {of} nodes")
            }
        }
    }
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tier => "tier",
            Self::Domain => "domain",
            Self::Node => "node",
            Self::Label => "label",
        })
    }
}

/// All findings, the most important first.
pub(super) fn lint(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unmatched =
        plan.excluded.iter().filter(|excluded| excluded.why == Exclusion::NoCohort);
    let mailboxes = super::count(unmatched.count());
    if mailboxes > 0 {
        findings.push(Finding::NoCohort { mailboxes });
    }
    names(plan, &mut findings);
    let served: BTreeSet<_> = plan.waves.iter().map(|wave| wave.cohort.index()).collect();
    for (place, cohort) in plan.policy.cohorts.iter().enumerate() {
        if !served.contains(&place) {
            findings.push(Finding::SelectsNobody { cohort: cohort.name.clone() });
        }
    }
    steps(plan, &mut findings);
    findings
}

fn names(plan: &Plan, findings: &mut Vec<Finding>) {
    let inventory = &plan.inventory;
    let mut selectors: Vec<(&str, &Selector)> = Vec::new();
    let policy = &plan.policy;
    selectors.extend(policy.exclude.iter().map(|e| (e.reason.as_str(), &e.select)));
    selectors.extend(policy.cohorts.iter().map(|c| (c.name.as_str(), &c.select)));
    let mut unknown_domains = wanted_domains(&selectors);
    if !unknown_domains.is_empty() {
        for mailbox in inventory.mailboxes() {
            unknown_domains.remove(inventory.domain(mailbox));
        }
    }
    for (of, select) in selectors {
        let mut unknown = |kind, name: &String| {
            let (of, name) = (of.to_owned(), name.clone());
            findings.push(Finding::UnknownName { of, kind, name });
        };
        let (tiers, nodes) = (inventory.tier_names(), inventory.node_names());
        absent(&select.tiers, tiers).for_each(|name| unknown(NameKind::Tier, name));
        absent(&select.nodes, nodes).for_each(|name| unknown(NameKind::Node, name));
        let known = |key: &&String| inventory.label_keys().any(|known| known == *key);
        let labels = select.labels.keys().filter(|key| !known(key));
        labels.for_each(|name| unknown(NameKind::Label, name));
        let domains = select.domains.iter();
        domains
            .filter(|name| unknown_domains.contains(&name.to_lowercase()))
            .for_each(|name| unknown(NameKind::Domain, name));
    }
}

fn wanted_domains(selectors: &[(&str, &Selector)]) -> BTreeSet<String> {
    let domains = selectors.iter().flat_map(|(_, select)| &select.domains);
    domains.map(|domain| domain.to_lowercase()).collect()
}

fn absent<'a>(
    chosen: &'a [String],
    known: &'a [String],
) -> impl Iterator<Item = &'a String> {
    chosen.iter().filter(|name| known.binary_search(name).is_err())
}

fn steps(plan: &Plan, findings: &mut Vec<Finding>) {
    let all = Inventory::len(&plan.inventory);
    let mut planned = 0;
    for wave in &plan.waves {
        let before = Ppm::ratio(planned, all);
        planned += wave.size;
        let after = Ppm::ratio(planned, all);
        if Ppm::ratio(wave.size, all) > STEP_MAX {
            findings.push(Finding::LargeStep { wave: wave.name.clone(), before, after });
        }
        if wave.step == 1 {
            let cohort = plan.waves.iter().filter(|other| other.cohort == wave.cohort);
            let nodes: BTreeSet<_> =
                cohort.flat_map(|other| &other.by_node).map(|(node, _)| *node).collect();
            let (seen, of) =
                (super::count(wave.by_node.len()), super::count(nodes.len()));
            if seen < of {
                findings.push(Finding::NodesUnseen { wave: wave.name.clone(), seen, of });
            }
        }
    }
}
