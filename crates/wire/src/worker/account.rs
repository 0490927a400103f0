//! How a report stands to others, and what persons keep back, checked.
//!
//! # Invariants
//!
//! * Every list is bounded, and every number is one that there can be.

use tidegate_core::fleet::{JobNumber, WaveNumber};
use tidegate_core::rollout::{Account, KEPT_BACK_MAX, KeptBack};

use super::{counted, generation, ordinal};
use crate::limits::{REPORT_FACTS_MAX, REPORTS_MAX};
use crate::protocol::{ProtocolError, bounded, narrow};
use crate::v1;

/// As many waves as there are numbers.
const WAVES_MAX: usize = 1 << 16;

impl From<Account> for v1::Account {
    fn from(account: Account) -> Self {
        let Account { answered, recorded, untold, reclosed, .. } = account;
        let Account { journaled, kept_back, store_claimed, .. } = account;
        let reclosed = reclosed.into_iter().map(|(job, ordinals)| v1::Reclosed {
            job: job.get(),
            ordinals: ordinals.into_iter().map(|it| u32::from(it.get())).collect(),
        });
        let kept_back = kept_back.as_ref().map(v1::KeptBack::from);
        let reclosed = reclosed.collect();
        Self {
            answered,
            untold,
            reclosed,
            journaled,
            kept_back,
            recorded,
            store_generation_max: store_claimed.get(),
        }
    }
}

impl TryFrom<v1::Account> for Account {
    type Error = ProtocolError;

    fn try_from(message: v1::Account) -> Result<Self, Self::Error> {
        let v1::Account { answered, untold, reclosed, journaled, .. } = message;
        let v1::Account { kept_back, recorded, store_generation_max, .. } = message;
        bounded("account.reclosed", reclosed.len(), REPORTS_MAX)?;
        let reclosed = reclosed.into_iter().map(|v1::Reclosed { job, ordinals }| {
            bounded("reclosed.ordinals", ordinals.len(), REPORT_FACTS_MAX)?;
            let ordinals = ordinals.into_iter().map(ordinal).collect::<Result<_, _>>()?;
            Ok((JobNumber::new(job), ordinals))
        });
        let reclosed = reclosed.collect::<Result<_, ProtocolError>>()?;
        let journaled = journaled.map(|it| counted("journaled", it)).transpose()?;
        let kept_back = kept_back.map(KeptBack::try_from).transpose()?;
        let store_claimed = generation(store_generation_max)?;
        Ok(Self {
            answered,
            recorded,
            untold,
            reclosed,
            journaled,
            kept_back,
            store_claimed,
        })
    }
}

impl From<&KeptBack> for v1::KeptBack {
    fn from(kept: &KeptBack) -> Self {
        let KeptBack { node, waves, mailboxes } = kept;
        Self {
            node: *node,
            waves: waves.iter().map(|wave| u32::from(wave.get())).collect(),
            jobs: mailboxes.iter().map(|(job, _)| job.get()).collect(),
            ordinals: mailboxes.iter().map(|(_, it)| u32::from(it.get())).collect(),
        }
    }
}

impl TryFrom<v1::KeptBack> for KeptBack {
    type Error = ProtocolError;

    fn try_from(message: v1::KeptBack) -> Result<Self, ProtocolError> {
        let v1::KeptBack { node, waves, jobs, ordinals } = message;
        bounded("kept_back.waves", waves.len(), WAVES_MAX)?;
        bounded("kept_back.ordinals", ordinals.len(), KEPT_BACK_MAX)?;
        if jobs.len() != ordinals.len() {
            let lengths = format!("{} for {}", jobs.len(), ordinals.len());
            return Err(ProtocolError::invalid("kept_back.jobs", &lengths));
        }
        let waves = waves.into_iter().map(|wave| narrow("kept_back.waves", wave));
        let waves = waves.map(|wave| wave.map(WaveNumber::new));
        let places = jobs.into_iter().map(JobNumber::new).zip(ordinals);
        let places = places.map(|(job, place)| Ok((job, ordinal(place)?)));
        Ok(Self {
            node,
            waves: waves.collect::<Result<_, _>>()?,
            mailboxes: places.collect::<Result<_, ProtocolError>>()?,
        })
    }
}
