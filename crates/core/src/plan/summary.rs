//! A plan in brief: what is compared when a plan is made again.
//!
//! # Invariants
//!
//! * It names nobody: who is in a wave is a digest of theirs.
//! * Two plans with equal summaries bring the same mailboxes back in the same waves under the
//!   same policy.

use super::{Plan, Wave};
use crate::fleet::{JobNumber, MailboxNumber};
use crate::gate::Mode;
use crate::inventory::{Canon, Digest};
use crate::policy::Policy;

/// What a plan does, in brief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The plan's digest.
    pub plan: Digest,
    /// The inventory's digest.
    pub inventory: Digest,
    /// The policy's digest.
    pub policy: Digest,
    /// How waves open, a line for each rule.
    pub rules: Vec<String>,
    /// Mailboxes that no wave contains.
    pub excluded: u32,
    /// The waves, in the order in which they open.
    pub waves: Vec<WaveSummary>,
}

/// What a wave is, in brief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaveSummary {
    /// Its name.
    pub name: String,
    /// Whom its cohort selects.
    pub who: String,
    /// How many mailboxes it has.
    pub mailboxes: u32,
    /// On how many nodes.
    pub nodes: u32,
    /// The digest of who is in it, and where each is stored.
    pub members: Digest,
}

/// How a plan differs from an older one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Difference {
    /// Waves, in the order in which they open now; those that are gone come last.
    pub waves: Vec<WaveChange>,
    /// Rules that are gone.
    pub rules_gone: Vec<String>,
    /// Rules that are new.
    pub rules_new: Vec<String>,
    /// Excluded mailboxes before and now, where that has changed.
    pub excluded: Option<(u32, u32)>,
    /// The policy differs in something that is none of these.
    pub policy_otherwise: bool,
}

/// What became of a wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaveChange {
    /// It is what it was.
    Same(WaveSummary),
    /// It is new.
    Added(WaveSummary),
    /// It is another one under its old name.
    Changed {
        /// What it was.
        before: WaveSummary,
        /// What it is.
        now: WaveSummary,
    },
    /// It is gone.
    Removed(WaveSummary),
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        let same = self.waves.iter().all(|wave| matches!(wave, WaveChange::Same(_)));
        let Self { rules_gone, rules_new, excluded, policy_otherwise, .. } = self;
        same && rules_gone.is_empty()
            && rules_new.is_empty()
            && excluded.is_none()
            && !policy_otherwise
    }
}

impl Summary {
    /// How this plan differs from `before`.
    pub fn since(&self, before: &Self) -> Difference {
        let old = |name: &str| before.waves.iter().find(|wave| wave.name == name);
        let new = |name: &str| self.waves.iter().any(|wave| wave.name == name);
        let waves = self.waves.iter().map(|wave| match old(&wave.name) {
            None => WaveChange::Added(wave.clone()),
            Some(before) if before == wave => WaveChange::Same(wave.clone()),
            Some(before) => {
                WaveChange::Changed { before: before.clone(), now: wave.clone() }
            }
        });
        let gone = before.waves.iter().filter(|wave| !new(&wave.name));
        let waves = waves.chain(gone.cloned().map(WaveChange::Removed)).collect();
        let without = |rules: &[String], others: &[String]| {
            let rest = rules.iter().filter(|rule| !others.contains(rule));
            rest.cloned().collect::<Vec<_>>()
        };
        let rules_gone = without(&before.rules, &self.rules);
        let rules_new = without(&self.rules, &before.rules);
        let told = !rules_gone.is_empty() || !rules_new.is_empty();
        Difference {
            waves,
            policy_otherwise: !told && before.policy != self.policy,
            rules_gone,
            rules_new,
            excluded: (before.excluded != self.excluded)
                .then_some((before.excluded, self.excluded)),
        }
    }
}

impl Plan {
    /// What it does, in brief. Reads every mailbox.
    pub fn summary(&self) -> Summary {
        let waves = self.waves().iter().map(|wave| WaveSummary {
            name: wave.name.clone(),
            who: self
                .cohort_of(wave.number)
                .map_or_else(String::new, |cohort| cohort.select.to_string()),
            mailboxes: wave.size,
            nodes: u32::try_from(wave.by_node.len()).unwrap_or(u32::MAX),
            members: self.members_digest(wave),
        });
        Summary {
            plan: self.digest(),
            inventory: self.inventory().digest(),
            policy: self.policy().digest(),
            rules: rules(self.policy()),
            excluded: self.inventory().len().saturating_sub(self.planned()),
            waves: waves.collect(),
        }
    }

    /// The name of who is in `wave`, whatever numbers they have.
    fn members_digest(&self, wave: &Wave) -> Digest {
        let inventory = self.inventory();
        let jobs = wave.jobs.clone().map(JobNumber::new);
        let members = jobs.flat_map(|job| self.members(job).iter().copied());
        let mut members: Vec<MailboxNumber> = members.collect();
        // The order of the inventory, which is the same whatever else is in it.
        members.sort_unstable();
        let mut canon = Canon::of("tidegate wave members 1");
        canon.length(members.len());
        for member in members {
            canon.text(inventory.address(member));
            canon.text(inventory.node_name(inventory.node(member)));
            canon.text(&inventory.path(member));
        }
        canon.finish()
    }
}

/// How waves open under `policy`, a line for each rule.
fn rules(policy: &Policy) -> Vec<String> {
    let gate = &policy.gate;
    let ladder = policy.ladder.iter().map(|rung| {
        let (services, soak) = (rung.services.join(", "), rung.soak.unwrap_or(gate.soak));
        format!("step `{}`: {services}; soak {soak}", rung.name)
    });
    let judged = match gate.mode {
        Mode::EveryMailbox { failures_max } => {
            format!("gate: every mailbox, at most {failures_max} may fail")
        }
        Mode::Sequential => format!(
            "gate: sequential test of {} against {} failing",
            gate.opening.p_ok, gate.opening.p_bad
        ),
        Mode::EProcess => format!(
            "gate: e-process of {} against {} failing",
            gate.opening.p_ok, gate.opening.p_bad
        ),
    };
    let delays = policy.cohorts.iter().flat_map(|cohort| {
        let delays = cohort.delays.iter();
        delays.map(|(rung, delay)| {
            format!("cohort `{}`: `{rung}` {delay} after the step below", cohort.name)
        })
    });
    let limits = &policy.limits;
    let pace = format!("each node opens at most {}/s", limits.open_per_second);
    let total = limits.open_per_second_total;
    let total = total.map(|total| format!("all nodes together open at most {total}/s"));
    let mut rules: Vec<String> = ladder.collect();
    rules.push(judged);
    rules.extend(delays);
    rules.push(pace);
    rules.extend(total);
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(name: &str, members: u8) -> WaveSummary {
        WaveSummary {
            name: name.to_owned(),
            who: "everybody left".to_owned(),
            mailboxes: 7,
            nodes: 2,
            members: Digest::new([members; 32]),
        }
    }

    fn summary(waves: &[(&str, u8)], rules: &[&str], policy: u8) -> Summary {
        Summary {
            plan: Digest::new([0; 32]),
            inventory: Digest::new([1; 32]),
            policy: Digest::new([policy; 32]),
            rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            excluded: 3,
            waves: waves.iter().map(|(name, members)| wave(name, *members)).collect(),
        }
    }

    #[test]
    fn an_equal_plan_differs_in_nothing() {
        let plan = summary(&[("a", 1), ("b", 2)], &["gate"], 2);

        assert!(plan.since(&plan).is_none());
    }

    #[test]
    fn a_wave_is_new_gone_or_another_one_under_its_name() {
        let before = summary(&[("a", 1), ("b", 2), ("c", 3)], &["gate"], 2);
        let now = summary(&[("a", 1), ("b", 9), ("d", 4)], &["gate"], 2);

        let difference = now.since(&before);

        assert_eq!(
            difference.waves,
            [
                WaveChange::Same(wave("a", 1)),
                WaveChange::Changed { before: wave("b", 2), now: wave("b", 9) },
                WaveChange::Added(wave("d", 4)),
                WaveChange::Removed(wave("c", 3)),
            ]
        );
        assert!(!difference.is_none());
    }

    #[test]
    fn a_policy_that_differs_in_no_rule_of_the_list_differs_all_the_same() {
        let before = summary(&[("a", 1)], &["gate"], 2);

        let otherwise = summary(&[("a", 1)], &["gate"], 3).since(&before);
        let told = summary(&[("a", 1)], &["another gate"], 3).since(&before);

        assert!(otherwise.policy_otherwise && !otherwise.is_none());
        assert!(!told.policy_otherwise && !told.is_none());
        assert_eq!(told.rules_gone, ["gate"]);
        assert_eq!(told.rules_new, ["another gate"]);
    }
}
