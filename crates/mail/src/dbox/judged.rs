//! Judged: what reading a message has shown, in as little memory as most messages need.
//!
//! # Invariants
//!
//! * Of a good message nothing is kept but its digest and what stood for it.

use crate::digest::Digest;
use crate::judge::{Findings, Rungs};
use crate::reason::Reason;

/// What reading a message has shown, as small as most are.
#[derive(Debug, Clone)]
pub(crate) enum Judged {
    Good { digest: Digest, stood: Rungs },
    Other(Box<Findings>),
}

impl Judged {
    pub(crate) fn new(findings: Findings) -> Self {
        match findings.digest {
            Some(digest)
                if findings.faults.is_empty()
                    && findings.oddities == 0
                    && findings.fell == Rungs::NONE
                    && findings.seals.is_empty()
                    && findings.stranger.is_none() =>
            {
                Self::Good { digest, stood: findings.stood }
            }
            Some(_) | None => Self::Other(Box::new(findings)),
        }
    }

    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Good { digest, .. } => Some(*digest),
            Self::Other(findings) => findings.digest,
        }
    }

    /// Damaged, as far as this side alone can tell.
    pub(crate) fn fault(&self) -> Option<Reason> {
        match self {
            Self::Good { .. } => None,
            Self::Other(findings) => findings.fault(),
        }
    }

    /// The file is not good, whatever the bytes of the message are.
    pub(crate) fn has_fault(&mut self, fault: Reason) {
        let mut findings = self.findings();
        findings.faults.insert(0, fault);
        (findings.digest, findings.raw) = (None, None);
        *self = Self::new(findings);
    }

    pub(crate) fn findings(&self) -> Findings {
        match self {
            Self::Good { digest, stood } => {
                Findings { digest: Some(*digest), stood: *stood, ..Findings::default() }
            }
            Self::Other(findings) => (**findings).clone(),
        }
    }
}
