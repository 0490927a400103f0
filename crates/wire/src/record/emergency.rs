//! Emergencies as journals keep them.
//!
//! # Invariants
//!
//! * An emergency longer than any that is ever begun is an error, never one that holds.

use tidegate_core::fleet::WaveNumber;
use tidegate_core::rollout::{Action, EMERGENCY_MAX, Record};
use tidegate_core::time::Timestamp;

use super::{Kept, RecordError, wave};
use crate::journal::v1 as past;
use crate::protocol::{ProtocolError, present};

pub(super) fn keep_emergency(
    action: &Action,
    wave: Option<WaveNumber>,
    until: Timestamp,
) -> Kept {
    Kept::EmergencyBegun(past::EmergencyBegun {
        action: Some(action.into()),
        wave: wave.map(|wave| u32::from(wave.get())),
        until_millis: until.millis(),
    })
}

pub(super) fn keep_emergency_ended(by: Option<&Action>, at: Timestamp) -> Kept {
    let (by, at_millis) = (by.map(Into::into), at.millis());
    Kept::EmergencyEnded(past::EmergencyEnded { by, at_millis })
}

pub(super) fn emergency_begun(kept: past::EmergencyBegun) -> Result<Record, RecordError> {
    let action: Action = present("action", kept.action)?.try_into()?;
    let until = Timestamp::from_millis(kept.until_millis);
    if until.since(action.at) > EMERGENCY_MAX {
        let lasts = until.since(action.at).to_string();
        return Err(ProtocolError::invalid("until_millis", &lasts).into());
    }
    let wave = kept.wave.map(wave).transpose()?;
    Ok(Record::EmergencyBegun { action, wave, until })
}
