//! Doctor: looks at a whole installation before people depend on it, and says what is well,
//! what is doubtful, and what is wrong, with what to do.
//!
//! # Invariants
//!
//! * It changes nothing: it logs in as nobody who gets in, names recipients without a message,
//!   and reads files.
//! * No secret is ever shown: of a secret's file, only who may read it.
//! * What could not be looked at is doubtful, never well.

mod chart;
mod coordinator;
mod doveconf;
mod gate;
mod hops;
mod place;
mod postfix;
mod reader;
mod replies;
mod worker;

use std::path::Path;

use crate::cli::{self, TableOrJson};
use crate::config::{CoordinatorFile, MxFile, SoloFile, WorkerFile};
use crate::console::{self, Paint};
use crate::exit::{Exit, Failure, Outcome};
use chart::Chart;
pub(crate) use chart::Checks;
use hops::Nodes;

/// Carries out `tidegate doctor`.
pub(crate) async fn run(args: &cli::Doctor) -> Outcome {
    let mut chart = Chart::default();
    match Kind::of(&args.config)? {
        Kind::Worker => {
            let file = WorkerFile::read(&args.config)?;
            worker::secrets(&mut chart, &args.config, &file.worker);
            worker::node(&mut chart, &file.worker);
            let to = cli::Coordinator::at(file.coordinator, file.tls);
            let nodes = worker::coordinator(&mut chart, &to).await;
            if let Nodes::Planned(_) = nodes {
                worker::canary(&mut chart, &file.worker, &to).await;
            }
        }
        Kind::Coordinator => {
            let file = CoordinatorFile::read(&args.config)?;
            coordinator::look(&mut chart, &file.coordinator);
        }
        Kind::Solo => {
            let file = SoloFile::read(&args.config)?;
            worker::secrets(&mut chart, &args.config, &file.worker);
            coordinator::look(&mut chart, &file.coordinator);
            worker::node(&mut chart, &file.worker);
        }
        Kind::Exchanger => {
            let file = MxFile::read(&args.config)?;
            let exchanger = &file.exchanger;
            let to = cli::Coordinator::at(
                exchanger.coordinator.clone(),
                exchanger.tls.clone(),
            );
            let nodes = worker::coordinator(&mut chart, &to).await;
            postfix::look(&mut chart, &file.exchanger, &nodes, args);
        }
    }
    match args.output {
        TableOrJson::Json => console::data_line(chart.json())?,
        TableOrJson::Table => console::data(chart.table(Paint::for_stdout()))?,
    }
    Ok(if chart.is_failed() { Exit::Failed } else { Exit::Done })
}

/// Whose configuration a file is.
enum Kind {
    Worker,
    Coordinator,
    Solo,
    Exchanger,
}

impl Kind {
    /// By the keys that only one of them has. A file that cannot be read is a worker's, whose
    /// reader says what is wrong with it.
    fn of(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        let has = |key: &str| table.contains_key(key);
        if has("worker") && has("coordinator") {
            return Ok(Self::Solo);
        }
        if has("data_dir") {
            return Ok(Self::Coordinator);
        }
        if has("next_hop") {
            return Ok(Self::Exchanger);
        }
        if has("node") || table.is_empty() {
            return Ok(Self::Worker);
        }
        let text = format!("`{}` is the configuration of no program", path.display());
        Err(Failure::text(Exit::Config, text)
            .help("give worker.toml, mx.toml, coordinator.toml or solo.toml"))
    }
}
