//! Origin: which trace the newest orders come from, so that workers go on with it.
//!
//! # Invariants
//!
//! * Nothing is decided by it: without traces it is empty, and lost it harms nobody.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_trace::Place;

/// Where the newest orders come from.
#[derive(Clone, Default)]
pub(crate) struct Origin(Arc<Mutex<Option<(u64, Place)>>>);

impl Origin {
    /// The orders of this version come from the call that is being served, if that is traced.
    pub(crate) fn note(&self, version: u64) {
        if let Some(place) = Place::here() {
            let mut origin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *origin = Some((version, place));
        }
    }

    /// Where orders come from that a worker hears which obeyed older ones.
    pub(crate) fn of_orders(&self, heard: u64, obeyed: u64) -> Option<Place> {
        let origin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, place) = origin.as_ref()?;
        (obeyed < *version && *version <= heard).then(|| place.clone())
    }
}
