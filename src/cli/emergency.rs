//! Command line: emergencies.
//!
//! # Invariants
//!
//! * An emergency has an end.

use clap::{Args, Subcommand};

use super::{Actor, Asked, Coordinator, Seen};

/// The emergency profile of the policy: waves soak shorter. What shows damaged mail stops the
/// rollout all the same.
#[derive(Debug, Subcommand)]
pub(crate) enum Emergency {
    /// Judge waves under it. With certificates, a second person approves.
    Begin(BeginEmergency),
    /// Go back to the usual gates before its time is up.
    End(EndEmergency),
}

/// Judge waves under the emergency profile. Any decision of a person and any stop by the gate
/// ends it.
#[derive(Debug, Args)]
pub(crate) struct BeginEmergency {
    #[command(flatten)]
    pub(crate) what: WhichEmergency,
    /// Why, for the record.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) seen: Seen,
}

/// For what, and for how long.
#[derive(Clone, Debug, Args)]
pub(crate) struct WhichEmergency {
    /// For how long, at most a day.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=1_440))]
    pub(crate) lasts: u32,
    /// For this wave alone, by name or number; without it, for all.
    #[arg(long, value_name = "WAVE")]
    pub(crate) wave: Option<String>,
}

impl WhichEmergency {
    /// For how long, seconds.
    pub(crate) fn lasts_seconds(&self) -> u32 {
        self.lasts.saturating_mul(60)
    }
}

/// Go back to the usual gates. The soak of waves that were hurried begins anew.
#[derive(Debug, Args)]
pub(crate) struct EndEmergency {
    /// Why, for the record.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
}
