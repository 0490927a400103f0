//! Asked: how long readers' questions take, by method, for the page of metrics.
//!
//! # Invariants
//!
//! * A question takes from when its call begins until its answer is made; what its way through
//!   the connection takes is not part of it, nor what a slow reader takes.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// The methods that answer once.
const METHODS: [&str; 6] = [
    "GetRollout",
    "GetMailbox",
    "ListMailboxes",
    "ListFindings",
    "ListEvents",
    "ListTiers",
];

/// Six a decade, from what one mailbox takes to what nobody waits for.
const SECONDS: [f64; 31] = [
    1e-5, 1.5e-5, 2e-5, 3e-5, 5e-5, 7e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 7e-4, 1e-3,
    1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3, 1e-2, 1.5e-2, 2e-2, 3e-2, 5e-2, 7e-2, 0.1, 0.15, 0.2,
    0.3, 0.5, 0.7, 1.0,
];

/// How long questions of each method take; cheap to clone, all clones are one.
pub(crate) type Series = Family<Label, Histogram, fn() -> Histogram>;

/// The method.
pub(crate) type Label = [(&'static str, &'static str); 1];

/// How long questions take; cheap to clone, all clones are one.
#[derive(Clone)]
pub(crate) struct Asked(Series);

impl Default for Asked {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(SECONDS)))
    }
}

impl Asked {
    /// The name by which the method at the end of `path` is counted, if it is.
    pub(crate) fn method(path: &str) -> Option<&'static str> {
        let name = path.rsplit('/').next()?;
        METHODS.into_iter().find(|method| *method == name)
    }

    /// A question has been answered.
    pub(crate) fn note(&self, method: &'static str, took: Duration) {
        self.0.get_or_create(&[("method", method)]).observe(took.as_secs_f64());
    }

    /// For the page.
    pub(crate) fn series(&self) -> Series {
        self.0.clone()
    }
}
