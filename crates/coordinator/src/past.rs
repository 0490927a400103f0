//! The past: the journal and the inventory beside it, read once at the start.
//!
//! # Invariants
//!
//! * The rollout of today is the replay of yesterday's records; there is no other way to it.
//! * A plan that does not come out as it did when it was applied is not carried out.
//! * Nothing is served before everything has been read and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tidegate_core::inventory::Inventory;
use tidegate_core::plan::{self, Plan};
use tidegate_core::rollout::Rollout;
use tidegate_core::time::Timestamp;
use tidegate_journal::{Entry, Journal, Kind, Log};
use tidegate_wire::policy_file;
use tidegate_wire::record::{PlanApplied, decode_plan_applied, decode_record};

use crate::clock::Clock;
use crate::inventory_file::InventoryFileError;
use crate::{events, inventory_file};

/// The meaning of the records that this program writes.
const FORMAT: u32 = 1;

/// What was found in a data directory.
pub(crate) struct Past {
    /// Where inventories are kept.
    pub(crate) plans: Box<dyn Plans>,
    /// The journal, held by this program alone.
    pub(crate) journal: Box<dyn Log>,
    /// The rollout as its records left it; nothing if no plan was applied.
    pub(crate) rollout: Option<Rollout>,
    /// A clock that goes on where the records end.
    pub(crate) clock: Clock,
}

/// Keeps what a plan is made from beside the journal.
pub trait Plans: Send {
    /// Makes an inventory durable.
    ///
    /// # Errors
    ///
    /// The file system's; then no record may name it.
    fn keep(&self, inventory: &Inventory) -> Result<(), InventoryFileError>;

    /// The plan that was applied, made again.
    ///
    /// # Errors
    ///
    /// It cannot be made, or does not come out as it did.
    fn read(&self, applied: &PlanApplied) -> anyhow::Result<Arc<Plan>>;
}

/// Reads everything in `dir`, which is created if it is not there.
///
/// # Errors
///
/// Whatever cannot be trusted; nothing was changed, and a person has to decide.
pub(crate) fn recover(dir: &Path, clock: Clock) -> anyhow::Result<Past> {
    let kind = Kind { name: "coordinator".to_owned(), format: FORMAT, id: [0; 16] };
    let journal = Journal::open(&dir.join("journal"), &kind)?;
    let plans = InventoryFiles(dir.to_owned());
    replay(Box::new(journal), Box::new(plans), clock)
        .with_context(|| format!("go on with what is in `{}`", dir.display()))
}

/// Replays everything in `journal`.
///
/// # Errors
///
/// Whatever cannot be trusted; nothing was changed, and a person has to decide.
pub(crate) fn replay(
    journal: Box<dyn Log>,
    plans: Box<dyn Plans>,
    clock: Clock,
) -> anyhow::Result<Past> {
    let mut newest = Timestamp::default();
    let mut rollout: Option<Rollout> = None;
    for entry in journal.replay() {
        let Entry { sequence, payload } = entry?;
        let read = || format!("replay record {sequence} of the journal");
        match &mut rollout {
            None => {
                let applied = decode_plan_applied(&payload).with_context(read)?;
                newest = applied.at;
                let plan = plans.read(&applied)?;
                let new = Rollout::new(plan, applied.at, clock.now());
                rollout = Some(new.under(applied.request));
            }
            Some(rollout) => {
                let policy = rollout.plan().policy();
                let record = decode_record(&payload, policy).with_context(read)?;
                newest = newest.max(events::at(&record));
                rollout.apply(&record);
            }
        }
    }
    if let Some(rollout) = &rollout {
        let (rollout_id, records) = (rollout.plan().digest(), journal.newest());
        tracing::info!(%rollout_id, records, "rollout recovered");
    }
    let clock = clock.not_before(newest);
    if let Some(rollout) = &mut rollout {
        rollout.wake(clock.now());
    }
    Ok(Past { plans, journal, rollout, clock })
}

/// Inventories in files beside the journal.
struct InventoryFiles(PathBuf);

impl Plans for InventoryFiles {
    fn keep(&self, inventory: &Inventory) -> Result<(), InventoryFileError> {
        inventory_file::write(&self.0, inventory)
    }

    fn read(&self, applied: &PlanApplied) -> anyhow::Result<Arc<Plan>> {
        let inventory = inventory_file::read(&self.0, applied.inventory)?;
        let policy = policy_file::parse("policy in the journal", &applied.policy_toml)
            .context(
                "read the policy that was applied; use the program that applied it",
            )?;
        let plan = plan::plan(&Arc::new(inventory), &Arc::new(policy))
            .context("plan again what was applied; use the program that applied it")?;
        check_same(&plan, applied)?;
        Ok(Arc::new(plan))
    }
}

fn check_same(plan: &Plan, applied: &PlanApplied) -> anyhow::Result<()> {
    if plan.digest() != applied.plan {
        bail!(
            "the plan that was applied is {}, but planning again gives {}: this program \
             plans differently from the one that applied it; nothing was changed and what \
             is open stays open; go on with the program that applied it",
            applied.plan,
            plan.digest()
        );
    }
    Ok(())
}
