//! What is kept of a verdict, so that anybody can come to it again.
//!
//! # Invariants
//!
//! * Judging the kept evidence under the named policy at the kept time gives the kept
//!   judgement, on any machine and in any later year.
//! * The same evidence has the same bytes, whatever the order of its nodes and tiers.

use thiserror::Error;

use crate::inventory::Digest;
use crate::time::Timestamp;

use super::evidence::Evidence;
use super::policy::GatePolicy;
use super::verdict::Judgement;

/// A verdict with everything it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerdictRecord {
    /// What the wave had shown, in canonical order.
    pub evidence: Evidence,
    /// The name of the policy it was judged under.
    pub policy: Digest,
    /// When it was judged.
    pub decided_at: Timestamp,
    /// The verdict and its numbers.
    pub judgement: Judgement,
}

/// A record that does not prove its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It was judged under another policy.
    #[error("recompute a verdict of policy {kept} under policy {given}")]
    OtherPolicy {
        /// The policy it names.
        kept: Digest,
        /// The policy at hand.
        given: Digest,
    },
    /// The evidence does not lead to the verdict.
    #[error("recompute `{}`: the evidence says `{}`", kept.verdict, recomputed.verdict)]
    OtherVerdict {
        /// The judgement it holds.
        kept: Box<Judgement>,
        /// The judgement its evidence gives.
        recomputed: Box<Judgement>,
    },
}

impl VerdictRecord {
    /// Judges `evidence` and keeps all that was needed for it.
    pub fn judge(evidence: &Evidence, policy: &GatePolicy, now: Timestamp) -> Self {
        let evidence = evidence.canonical();
        let judgement = super::judge(&evidence, policy, now);
        Self { evidence, policy: policy.digest(), decided_at: now, judgement }
    }

    /// Judges the kept evidence again.
    pub fn recompute(&self, policy: &GatePolicy) -> Judgement {
        super::judge(&self.evidence, policy, self.decided_at)
    }

    /// Checks that the kept evidence leads to the kept judgement.
    ///
    /// # Errors
    ///
    /// Either error means that the verdict must not be acted on.
    pub fn verify(&self, policy: &GatePolicy) -> Result<(), RecordError> {
        let given = policy.digest();
        if given != self.policy {
            return Err(RecordError::OtherPolicy { kept: self.policy, given });
        }
        let recomputed = self.recompute(policy);
        if recomputed != self.judgement {
            let kept = Box::new(self.judgement.clone());
            return Err(RecordError::OtherVerdict {
                kept,
                recomputed: Box::new(recomputed),
            });
        }
        Ok(())
    }

    /// The name of the evidence by its content.
    pub fn evidence_root(&self) -> Digest {
        self.evidence.root()
    }
}
