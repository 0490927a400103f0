//! Journal: checks, exports and repairs a journal that no program has open.
//!
//! # Invariants
//!
//! * No record is changed; a repair writes a new journal beside the damaged one.
//! * An export that ends with 0 is whole; otherwise its lines are the safe part.

use std::io::{self, BufWriter};
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_journal::{ExportError, Kind, Repair, RepairError, Verified};
use tidegate_wire::record::decode_plan_applied;
use tidegate_wire::worker_record::{Entry, decode_entry};

use crate::cli::{Journal, TableOrJson};
use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::json;

/// Carries out `tidegate journal`.
pub(crate) fn run(verb: &Journal) -> Outcome {
    match verb {
        Journal::Verify { dir, output } => verify(dir, *output),
        Journal::Export { dir } => export(dir),
        Journal::Repair { dir, yes } => repair(dir, *yes),
    }
}

fn verify(dir: &Path, output: TableOrJson) -> Outcome {
    let verified = tidegate_journal::verify(dir)
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    match output {
        TableOrJson::Json => {
            console::data_line(json::value(&SoundJournal::of(&verified)))?;
        }
        TableOrJson::Table => {
            console::data_line(format_args!(
                "{}: {}",
                dir.display(),
                summary(&verified)
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// A journal of which every record was read and found right.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.sound-journal/v1")]
pub(crate) struct SoundJournal {
    /// Whose it is: `coordinator`, `worker` or another program's.
    kind: String,
    /// The version of its records' format.
    format: u32,
    /// How many records it has, with those that were compacted.
    records: u64,
    /// The digest of the newest of them and of all before it.
    digest: String,
    /// The bytes of what is still there of them.
    payload_bytes: u64,
    /// The records from the first to this one are compacted to a snapshot.
    compacted: Option<u64>,
}

impl SoundJournal {
    fn of(verified: &Verified) -> Self {
        Self {
            kind: verified.kind.name.clone(),
            format: verified.kind.format,
            records: verified.head.sequence,
            digest: verified.head.digest.to_string(),
            payload_bytes: verified.payload_bytes,
            compacted: verified.compacted.map(|covered| covered.records),
        }
    }
}

fn export(dir: &Path) -> Outcome {
    let mut out = BufWriter::new(io::stdout().lock());
    let verified =
        tidegate_journal::export(dir, &plan_of, &mut out).map_err(|error| {
            let help = match &error {
                ExportError::Open(_) => {
                    "the lines above, if any, are the journal's safe part"
                }
                ExportError::Write(_) => "the journal itself is not the cause",
            };
            Failure::new(Exit::Failed, error).help(help)
        })?;
    drop(out);
    console::tell(summary(&verified));
    Ok(Exit::Done)
}

/// The plan of a journal, as a member of a JSON object; nothing if it has none yet.
fn plan_of(kind: &Kind, first: &[u8]) -> String {
    let applied = || decode_plan_applied(first).ok().map(|applied| applied.plan);
    let joined = || match decode_entry(first) {
        Ok(Entry::Joined(joined)) => Some(joined.rollout),
        Ok(
            Entry::Record(_) | Entry::Shown(_) | Entry::ShutOut(_) | Entry::PutBack(_),
        )
        | Err(_) => None,
    };
    let plan = if kind.name == "worker" { joined() } else { applied() };
    plan.map_or(String::new(), |plan| format!(",\"plan\":\"{plan}\""))
}

fn repair(dir: &Path, yes: bool) -> Outcome {
    let failed = |error: RepairError| {
        let help = match &error {
            RepairError::Whole { .. } => "nothing to do",
            RepairError::Nothing { .. } => {
                "put back a backup; without one, what the journal knew has to be found anew"
            }
            RepairError::Occupied { .. } => "move what is there away first",
            RepairError::Open { .. } => "the directory is as it was",
            RepairError::Write { .. } => {
                "the damaged journal is as it was; remove what was written of the new one"
            }
        };
        let exit = match &error {
            RepairError::Whole { .. } | RepairError::Occupied { .. } => Exit::Refused,
            RepairError::Write { .. } => Exit::NotKept,
            RepairError::Nothing { .. } | RepairError::Open { .. } => Exit::Failed,
        };
        Failure::new(exit, error).help(help)
    };
    if !yes {
        let planned = tidegate_journal::look_at_repair(dir).map_err(failed)?;
        show(dir, &planned, "would be kept")?;
        console::data_line("Nothing has been written.")?;
        let error =
            anyhow::anyhow!("repair journal at `{}`: not asked to", dir.display());
        return Err(Failure::new(Exit::Refused, error)
            .help("keep a copy of the directory, then add `--yes`"));
    }
    let repaired = tidegate_journal::repair(dir).map_err(failed)?;
    show(dir, &repaired, "kept")?;
    let to = repaired.to.display();
    console::data_line(format_args!(
        "The sound part is in {to}; {} is as it was. To go on with it:",
        dir.display()
    ))?;
    console::data_line(format_args!(
        "  mv {} {}.damaged && mv {to} {}",
        dir.display(),
        dir.display(),
        dir.display()
    ))?;
    Ok(Exit::Done)
}

/// Says what a repair keeps, what it loses, and what follows from that.
fn show(dir: &Path, repair: &Repair, kept: &str) -> Result<(), Failure> {
    let (last, lost) = (repair.keeps.sequence, repair.keeps.sequence + 1);
    console::data_line(format_args!(
        "{}: {}; record {lost}: {}",
        dir.display(),
        repair.kind,
        repair.damage
    ))?;
    console::data_line(format_args!(
        "{kept}: records 1 to {}, newest digest {}",
        console::thousands(last),
        repair.keeps.digest
    ))?;
    if repair.lost_min() > 0 {
        console::data_line(format_args!(
            "lost: records {} to {}, and whatever came after without leaving a trace",
            console::thousands(lost),
            console::thousands(repair.newest_known)
        ))?;
    } else {
        console::data_line("lost: whatever came after without leaving a trace")?;
    }
    console::data_line(follows(&repair.kind))?;
    Ok(())
}

/// What whoever goes on with a repaired journal must know.
fn follows(kind: &Kind) -> &'static str {
    if kind.name == "worker" {
        "what follows: mailboxes whose records are lost are verified anew; whoever was let in \
         by a lost record is shut out when the worker starts, and let in again by the plan"
    } else {
        "what follows: decisions of the lost records are forgotten, pauses and stops too: look \
         at `tidegate status` first; a worker that has claimed a lease of a lost record is \
         refused (`journal-too-old`), so nothing opens there that nobody remembers"
    }
}

fn summary(verified: &Verified) -> String {
    let compacted = verified.compacted.map_or(String::new(), |covered| {
        format!(
            " (1 to {} compacted: {} kept, a snapshot of {} bytes)",
            console::thousands(covered.records),
            console::thousands(covered.story),
            console::thousands(covered.snapshot_bytes)
        )
    });
    format!(
        "{} records{compacted} of the {} (format {}), {} bytes, all sound; newest digest {}",
        console::thousands(verified.head.sequence),
        verified.kind.name,
        verified.kind.format,
        console::thousands(verified.payload_bytes),
        verified.head.digest,
    )
}
