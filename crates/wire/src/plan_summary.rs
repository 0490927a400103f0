//! A plan in brief, on its way to whoever plans again.
//!
//! # Invariants
//!
//! * What came in has digests in it, or is refused.

use tidegate_core::plan::{Summary, WaveSummary};

use crate::protocol::{ProtocolError, digest};
use crate::v1;

impl From<&Summary> for v1::PlanSummary {
    fn from(summary: &Summary) -> Self {
        let waves = summary.waves.iter().map(|wave| v1::PlanWave {
            name: wave.name.clone(),
            who: wave.who.clone(),
            mailboxes: wave.mailboxes,
            nodes: wave.nodes,
            members_digest: wave.members.to_string(),
        });
        Self {
            plan_digest: summary.plan.to_string(),
            inventory_digest: summary.inventory.to_string(),
            policy_digest: summary.policy.to_string(),
            rules: summary.rules.clone(),
            excluded: summary.excluded,
            waves: waves.collect(),
        }
    }
}

impl TryFrom<v1::PlanSummary> for Summary {
    type Error = ProtocolError;

    fn try_from(message: v1::PlanSummary) -> Result<Self, Self::Error> {
        let waves = message.waves.into_iter().map(|wave| {
            Ok(WaveSummary {
                name: wave.name,
                who: wave.who,
                mailboxes: wave.mailboxes,
                nodes: wave.nodes,
                members: digest("members_digest", &wave.members_digest)?,
            })
        });
        Ok(Self {
            plan: digest("plan_digest", &message.plan_digest)?,
            inventory: digest("inventory_digest", &message.inventory_digest)?,
            policy: digest("policy_digest", &message.policy_digest)?,
            rules: message.rules,
            excluded: message.excluded,
            waves: waves.collect::<Result<_, ProtocolError>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::inventory::Digest;

    use super::*;

    #[test]
    fn a_summary_survives_the_way_and_one_without_digests_is_refused() {
        let wave = WaveSummary {
            name: "rest-1".to_owned(),
            who: "everybody left".to_owned(),
            mailboxes: 7,
            nodes: 2,
            members: Digest::new([4; 32]),
        };
        let summary = Summary {
            plan: Digest::new([1; 32]),
            inventory: Digest::new([2; 32]),
            policy: Digest::new([3; 32]),
            rules: vec!["gate".to_owned()],
            excluded: 5,
            waves: vec![wave],
        };

        let arrived = Summary::try_from(v1::PlanSummary::from(&summary));
        let empty = Summary::try_from(v1::PlanSummary::default());

        assert_eq!(arrived, Ok(summary));
        assert!(empty.is_err());
    }
}
