//! Who did something, why, and by whose leave, as journals keep it.
//!
//! # Invariants
//!
//! * What is not there was not needed: journals from before second persons are read as they were
//!   meant.

use tidegate_core::rollout::{Action, Approval, RequestId};
use tidegate_core::time::Timestamp;

use crate::journal::v1 as past;
use crate::protocol::{ProtocolError, request_id};

impl From<&Action> for past::Action {
    fn from(Action { by, reason, at, request, approved }: &Action) -> Self {
        Self {
            by: by.clone(),
            reason: reason.clone(),
            at_millis: at.millis(),
            request_id: tell_request(request.as_ref()),
            approved: keep_approval(approved.as_ref()),
        }
    }
}

impl TryFrom<past::Action> for Action {
    type Error = ProtocolError;

    fn try_from(kept: past::Action) -> Result<Self, Self::Error> {
        let past::Action { by, reason, at_millis, request_id: request, approved } = kept;
        let (at, request) = (Timestamp::from_millis(at_millis), request_id(&request)?);
        Ok(Self { by, reason, at, request, approved: approved.map(approval) })
    }
}

pub(super) fn tell_request(request: Option<&RequestId>) -> String {
    request.map_or_else(String::new, |id| id.as_str().to_owned())
}

pub(super) fn keep_approval(approval: Option<&Approval>) -> Option<past::Approval> {
    let keep = |Approval { by, reason }: &Approval| past::Approval {
        by: by.clone(),
        reason: reason.clone(),
    };
    approval.map(keep)
}

pub(super) fn approval(past::Approval { by, reason }: past::Approval) -> Approval {
    Approval { by, reason }
}
