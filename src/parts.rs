//! Parts: the waves and the nodes of a rollout, listed.
//!
//! # Invariants
//!
//! * Nothing here changes anything.
//! * What is listed and what `status -o json` says is the same.

use std::io::{self, Write as _};

use serde_json::{Value, json};
use tidegate_wire::v1::{Node, NodeState, Rollout, Wave, WaveState};

use crate::cli::{MailboxFormat, PartList};
use crate::client::Client;
use crate::console::{Paint, safe};
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::diagnosis::level_name;
use crate::screens::status::{self, node_word, wave_word};

/// Carries out `tidegate wave list`.
pub(crate) async fn waves(args: &PartList) -> Outcome {
    let mut rollout = Client::connect(&args.coordinator).await?.rollout().await?;
    rollout.waves.retain(|wave| !args.trouble || is_stopped(wave));
    let rows = rollout.waves.iter().map(|wave| {
        json!({
            "schema": "tidegate.wave/v1",
            "name": wave.name,
            "number": wave.number,
            "state": wave_word(wave.state()).1,
            "level": level_name(&rollout, wave.level),
            "planned": wave.planned,
            "prepared": wave.prepared,
            "open": wave.open,
            "mature": wave.mature,
            "failed": wave.failed,
            "quarantined": wave.quarantined,
            "verdict": wave.gate.as_ref().map(|gate| gate.verdict.clone()),
        })
    });
    let rows: Vec<Value> = rows.collect();
    list(args, &rows, &rollout, status::waves)
}

/// Carries out `tidegate node list`.
pub(crate) async fn nodes(args: &PartList) -> Outcome {
    let mut rollout = Client::connect(&args.coordinator).await?.rollout().await?;
    let works = |node: &Node| node.state() == NodeState::Working;
    rollout.nodes.retain(|node| !args.trouble || !works(node));
    let rows = rollout.nodes.iter().map(|node| {
        json!({
            "schema": "tidegate.node/v1",
            "name": node.name,
            "state": node_word(node.state()).0,
            "planned": node.planned,
            "prepared": node.prepared,
            "open": node.open,
            "failed": node.failed,
            "quarantined": node.quarantined,
        })
    });
    let rows: Vec<Value> = rows.collect();
    list(args, &rows, &rollout, status::nodes)
}

/// Whether somebody must do something about a wave.
fn is_stopped(wave: &Wave) -> bool {
    let verdict = wave.gate.as_ref().map_or("", |gate| gate.verdict.as_str());
    wave.state() == WaveState::HeldBack || ["halt", "isolate"].contains(&verdict)
}

fn list(
    args: &PartList,
    rows: &[Value],
    rollout: &Rollout,
    table: fn(&Rollout, Paint) -> String,
) -> Outcome {
    let mut out = io::stdout().lock();
    match args.output {
        MailboxFormat::Table if rows.is_empty() => writeln!(out, "none")?,
        MailboxFormat::Table => write!(out, "{}", table(rollout, Paint::for_stdout()))?,
        MailboxFormat::Jsonl => rows.iter().try_for_each(|row| writeln!(out, "{row}"))?,
        MailboxFormat::Name => {
            let names = rows.iter().filter_map(|row| row.get("name")?.as_str());
            for name in names {
                writeln!(out, "{}", safe(name))?;
            }
        }
        MailboxFormat::Csv => sheet(&mut out, rows)?,
    }
    out.flush()?;
    Ok(if args.trouble && !rows.is_empty() { Exit::Failed } else { Exit::Done })
}

/// The rows for spreadsheets, with a header.
fn sheet(out: &mut impl io::Write, rows: &[Value]) -> Result<(), Failure> {
    let mut lines = csv::Writer::from_writer(out);
    let told = |row: &Value| row.as_object().cloned().unwrap_or_default();
    let kept = |name: &&String| *name != "schema";
    if let Some(first) = rows.first() {
        let header: Vec<String> = told(first).keys().filter(kept).cloned().collect();
        lines.write_record(&header).map_err(io::Error::from)?;
    }
    for row in rows {
        let cells = told(row);
        let cells = cells.iter().filter(|(name, _)| kept(name));
        let cells: Vec<String> = cells
            .map(|(_, value)| {
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            })
            .collect();
        lines.write_record(&cells).map_err(io::Error::from)?;
    }
    lines.flush()?;
    Ok(())
}
