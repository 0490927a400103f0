//! The past: the journal and the inventory beside it, read once at the start.
//!
//! # Invariants
//!
//! * The rollout of today is the replay of yesterday's records, or of those behind a snapshot
//!   that all before have led to; there is no other way to it.
//! * A plan that is not byte for byte the one that was applied is not carried out.
//! * Nothing is served before everything has been read and checked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use tidegate_core::plan::Plan;
use tidegate_core::planted::{self, Bug};
use tidegate_core::rollout::Rollout;
use tidegate_core::time::Timestamp;
use tidegate_journal::{Entry, Journal, Kind, Log, ReadError, Rhythm};
use tidegate_wire::policy_file;
use tidegate_wire::record::{PlanApplied, decode_plan_applied, decode_record, is_story};
use tidegate_wire::snapshot::{OfRollout, decode_rollout, encode_rollout};

use crate::owner::Asked;
use crate::plan_files::{Ahead, PlanFileError};
use crate::{events, plan_files};
use tidegate_clock::Clock;

/// The meaning of the records that this program writes.
const FORMAT: u32 = 1;

/// The file in a data directory that has what waits for a second person.
const ASKED: &str = "waiting.json";

/// What was found in a data directory.
pub(crate) struct Past {
    /// Where plans are kept.
    pub(crate) plans: Box<dyn Plans>,
    /// The journal, held by this program alone.
    pub(crate) journal: Box<dyn Log>,
    /// The rollout as its records left it; nothing if no plan was applied.
    pub(crate) rollout: Option<Rollout>,
    /// A clock that goes on where the records end.
    pub(crate) clock: Clock,
    /// What waits for a second person.
    pub(crate) asked: Asked,
}

/// Keeps plans beside the journal.
pub trait Plans: Send {
    /// Makes a plan durable, with its inventory.
    ///
    /// # Errors
    ///
    /// The file system's; then no record may name it.
    fn keep(&self, plan: &Plan) -> Result<(), PlanFileError>;

    /// The plan that was applied.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is another one.
    fn read(&self, applied: &PlanApplied) -> anyhow::Result<Arc<Plan>>;
}

/// Reads everything in `dir`, which is created if it is not there; from now on its journal is
/// compacted after so many records, if that is said.
///
/// # Errors
///
/// Whatever cannot be trusted; nothing was changed, and a person has to decide.
pub(crate) fn recover(
    dir: &Path,
    clock: Clock,
    compact_after: Option<u64>,
) -> anyhow::Result<Past> {
    let kind = Kind { name: "coordinator".to_owned(), format: FORMAT, id: [0; 16] };
    let ahead = Ahead::begin(dir);
    let mut journal = Journal::open(&dir.join("journal"), &kind)?;
    if let Some(records) = compact_after {
        journal = journal.compacted_in(Rhythm { records, ..Rhythm::USUAL });
    }
    let plans = PlanFiles { dir: dir.to_owned(), ahead: Mutex::new(Some(ahead)) };
    let past = replay(Box::new(journal), Box::new(plans), clock)
        .with_context(|| format!("go on with what is in `{}`", dir.display()))?;
    Ok(Past { asked: Asked::kept_in(dir.join(ASKED)), ..past })
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
    if let Some(compacted) = journal.snapshot()? {
        let records = compacted.records;
        let read = || format!("restore the snapshot of {records} records");
        let snapshot = decode_rollout(&compacted.snapshot).with_context(read)?;
        newest = snapshot.at;
        let story = journal.story();
        rollout = Some(restore(snapshot, story, &*plans).with_context(read)?);
    }
    for entry in journal.replay() {
        let Entry { sequence, payload } = entry?;
        if planted::is(Bug::ForgetOnReplay) && sequence == journal.newest() {
            continue;
        }
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
    Ok(Past { plans, journal, rollout, clock, asked: Asked::default() })
}

/// The rollout as a snapshot and the story up to it left it.
fn restore(
    snapshot: OfRollout,
    mut story: impl Iterator<Item = Result<Entry, ReadError>>,
    plans: &dyn Plans,
) -> anyhow::Result<Rollout> {
    let first = story.next().context("find which plan was applied")??;
    let applied = decode_plan_applied(&first.payload)?;
    ensure!(
        snapshot.plan == applied.plan,
        "the snapshot is of plan {}, the journal of plan {}",
        snapshot.plan,
        applied.plan
    );
    let plan = plans.read(&applied)?;
    let records = story.map(|entry| {
        let Entry { sequence, payload } = entry?;
        decode_record(&payload, plan.policy())
            .with_context(|| format!("read record {sequence} of the journal"))
    });
    let records = records.collect::<anyhow::Result<Vec<_>>>()?;
    let rollout =
        Rollout::restore(Arc::clone(&plan), applied.at, snapshot.rollout, records)?;
    Ok(rollout.under(applied.request))
}

/// Begins a snapshot of `rollout`, of which everything is durable, if it is time for one. The
/// rollout is only copied here; the rest happens in the background.
pub(crate) fn compact(journal: &dyn Log, rollout: &Rollout, at: Timestamp) {
    if !journal.wants_snapshot() {
        return;
    }
    if let Some(copy) = rollout.snapshot() {
        let snapshot = OfRollout { plan: rollout.plan().digest(), at, rollout: copy };
        journal.compact(is_story, Box::new(move || encode_rollout(&snapshot)));
    }
}

/// Plans in files beside the journal.
struct PlanFiles {
    dir: PathBuf,
    /// What is being read of them already.
    ahead: Mutex<Option<Ahead>>,
}

impl Plans for PlanFiles {
    fn keep(&self, plan: &Plan) -> Result<(), PlanFileError> {
        plan_files::write(&self.dir, plan)
    }

    fn read(&self, applied: &PlanApplied) -> anyhow::Result<Arc<Plan>> {
        let (dir, digest) = (&self.dir, applied.inventory);
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (inventory, plan) = ahead.map_or((None, None), Ahead::end);
        let inventory = match inventory.filter(|ahead| ahead.digest() == digest) {
            Some(ahead) => ahead,
            None => plan_files::read_inventory(dir, digest)?,
        };
        let policy = policy_file::parse("policy in the journal", &applied.policy_toml)
            .context(
                "read the policy that was applied; use the program that applied it",
            )?;
        let (inventory, policy) = (Arc::new(inventory), Arc::new(policy));
        let digest = applied.plan;
        let plan = match plan.filter(|ahead| ahead.digest() == digest) {
            Some(ahead) => ahead,
            None => plan_files::read_plan(dir, digest)?,
        };
        let plan = plan_files::whole_plan(dir, digest, plan, (&inventory, &policy))?;
        Ok(Arc::new(plan))
    }
}
