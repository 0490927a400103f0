//! Findings: exports the complete lists that a node keeps of what was found in its mailboxes.
//!
//! # Invariants
//!
//! * Nothing is changed, and nothing is left out: a list that cannot be read ends the export.
//! * The columns and fields only grow; `deploy/README.md` tells what each means.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde_json::Value;
use tidegate_core::time::Timestamp;
use tidegate_mail::{Finding, FindingList, Grade};
use tidegate_worker::{Files, Mail};

use crate::cli::{Dialect, ExportFormat, Findings, FindingsExport, GradeArg};
use crate::config::{SoloFile, Worker, WorkerFile};
use crate::console::{self, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::single::guard;
use crate::screens::{date, json};

/// The columns of the CSV, in their order.
const HEADER: [&str; 18] = [
    "address",
    "node",
    "path",
    "grade",
    "kind",
    "folder",
    "uid",
    "name",
    "received_time",
    "size_bytes",
    "code",
    "first_number",
    "second_number",
    "reason",
    "source",
    "rungs",
    "subject",
    "kept_at",
];

/// Carries out `tidegate findings`.
pub(crate) fn run(verb: &Findings) -> Outcome {
    match verb {
        Findings::Export(args) => export(args),
    }
}

/// The worker that a configuration is of: `worker.toml`, or the table of it in `solo.toml`.
///
/// # Errors
///
/// [`Exit::Config`] with a message that shows the place.
pub(crate) fn worker(config: &Path) -> Result<Worker, Failure> {
    let text = std::fs::read_to_string(config).unwrap_or_default();
    let table: Option<toml::Table> = text.parse().ok();
    if table.is_some_and(|table| table.contains_key("worker")) {
        return Ok(SoloFile::read(config)?.worker);
    }
    Ok(WorkerFile::read(config)?.worker)
}

/// The files that the node's mail is kept in.
///
/// # Errors
///
/// [`Exit::Config`] if it is kept behind a program.
pub(crate) fn files(worker: &Worker) -> Result<&Files, Failure> {
    match &worker.mail {
        Mail::Files(files) => Ok(files),
        Mail::Command(_) | Mail::Given(_) => {
            let text = "the mail of this node is kept behind a program, not in files";
            let help = "`tidegate quarantine list` has what the program tells of it";
            Err(Failure::text(Exit::Config, text).help(help))
        }
    }
}

fn export(args: &FindingsExport) -> Outcome {
    let worker = worker(&args.config)?;
    files(&worker)?;
    let lists = FindingList::all_in(&worker.work).map_err(|error| {
        let context = format!("read work directory `{}`", worker.work.display());
        Failure::new(Exit::Config, anyhow::Error::new(error).context(context))
            .help("it is `work` in the configuration, as the worker uses it")
    })?;
    let wanted = args.grade.map_or(Grade::Good, grade);
    let mut told = Told::default();
    let mut known = false;
    let mut out = Out::new(args.output, args.dialect)?;
    for list in lists {
        let list = list.map_err(|error| {
            Failure::new(Exit::Failed, error).help(
                "what was written before it is right; restore the file from a backup",
            )
        })?;
        let grade = list.grade();
        let named = args.mailbox.as_ref();
        if named.is_some_and(|it| !it.eq_ignore_ascii_case(&list.address)) {
            continue;
        }
        known = true;
        if grade < wanted {
            continue;
        }
        told.add(grade, list.findings.len());
        for finding in &list.findings {
            out.write(&worker.node, &list, finding)?;
        }
    }
    out.finish()?;
    match &args.mailbox {
        Some(mailbox) if !known => check_mailbox(&worker, mailbox)?,
        Some(_) | None => {}
    }
    console::tell(told.sentence());
    Ok(Exit::Done)
}

/// Nothing was found in `mailbox`; does the node have it at all?
fn check_mailbox(worker: &Worker, mailbox: &str) -> Result<(), Failure> {
    if tidegate_worker::has_mailbox(&worker.state_dir, mailbox)? {
        return Ok(());
    }
    let text =
        format!("no job and no finding of this node names the mailbox `{mailbox}`");
    Err(Failure::text(Exit::Input, text)
        .help("`tidegate mailbox show ADDRESS` says which node has it"))
}

fn grade(arg: GradeArg) -> Grade {
    match arg {
        GradeArg::Good => Grade::Good,
        GradeArg::Investigate => Grade::Investigate,
        GradeArg::Poor => Grade::Poor,
    }
}

/// How much was exported.
#[derive(Default)]
struct Told {
    findings: u64,
    good: u64,
    investigate: u64,
    poor: u64,
}

impl Told {
    fn add(&mut self, grade: Grade, findings: usize) {
        self.findings += findings as u64;
        match grade {
            Grade::Perfect => {}
            Grade::Good => self.good += 1,
            Grade::Investigate => self.investigate += 1,
            Grade::Poor => self.poor += 1,
        }
    }

    fn sentence(&self) -> String {
        format!(
            "{} findings in {} mailboxes: {} poor, {} to investigate, {} good",
            thousands(self.findings),
            thousands(self.poor + self.investigate + self.good),
            thousands(self.poor),
            thousands(self.investigate),
            thousands(self.good),
        )
    }
}

enum Out {
    Jsonl(BufWriter<io::StdoutLock<'static>>),
    Csv(Box<csv::Writer<BufWriter<io::StdoutLock<'static>>>>),
}

impl Out {
    fn new(format: ExportFormat, dialect: Dialect) -> Result<Self, Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        match format {
            ExportFormat::Jsonl => Ok(Self::Jsonl(out)),
            ExportFormat::Csv => {
                let terminator = csv::Terminator::CRLF;
                write!(out, "{}", dialect.mark())?;
                let mut csv = dialect.csv().terminator(terminator).from_writer(out);
                csv.write_record(HEADER).map_err(io::Error::from)?;
                Ok(Self::Csv(Box::new(csv)))
            }
        }
    }

    fn write(
        &mut self,
        node: &str,
        list: &FindingList,
        finding: &Finding,
    ) -> Result<(), Failure> {
        match self {
            Self::Jsonl(out) => writeln!(out, "{}", value(node, list, finding))?,
            Self::Csv(csv) => {
                csv.write_record(row(node, list, finding)).map_err(io::Error::from)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Jsonl(mut out) => out.flush(),
            Self::Csv(mut csv) => csv.flush(),
        }
    }
}

fn received(finding: &Finding) -> Option<String> {
    finding.received.map(|it| date(Timestamp::from_millis(it.saturating_mul(1_000))))
}

/// A finding for programs, `tidegate.finding/v1`; the same fields as in the lists of the
/// coordinator.
fn value(node: &str, list: &FindingList, finding: &Finding) -> Value {
    let (first, second) = finding.cause.numbers();
    json::value(&json::Finding {
        address: &list.address,
        node,
        path: Some(String::from_utf8_lossy(&list.path).into_owned()),
        grade: Some(list.grade().code()),
        kind: finding.kind().code(),
        folder: &finding.folder,
        uid: finding.uid,
        name: &finding.name,
        received_time: received(finding).map(json::Time),
        size_bytes: finding.size_bytes,
        code: finding.cause.code(),
        numbers: Some([first, second]),
        reason: finding.cause.to_string(),
        source: Some(finding.source.code()),
        rungs: finding.rungs.words().collect(),
        subject: finding.subject.as_deref(),
        kept_at: finding.kept_at.as_deref(),
    })
}

/// A finding for spreadsheets, in the order of [`HEADER`].
fn row(node: &str, list: &FindingList, finding: &Finding) -> [String; 18] {
    let (first, second) = finding.cause.numbers();
    let number = |it: Option<u64>| it.map_or_else(String::new, |it| it.to_string());
    let text = |it: &Option<String>| guard(it.as_deref().unwrap_or_default());
    [
        guard(&list.address),
        guard(node),
        guard(&String::from_utf8_lossy(&list.path)),
        list.grade().code().to_owned(),
        finding.kind().code().to_owned(),
        guard(&finding.folder),
        number(finding.uid.map(u64::from)),
        guard(&finding.name),
        received(finding).unwrap_or_default(),
        number(finding.size_bytes),
        finding.cause.code().to_owned(),
        first.to_string(),
        second.to_string(),
        guard(&finding.cause.to_string()),
        finding.source.code().to_owned(),
        finding.rungs.to_string(),
        text(&finding.subject),
        text(&finding.kept_at),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_mail::{Cause, Reason, Rungs, Source};
    use tidegate_wire::v1::{self, MailboxFinding};

    use super::*;

    #[test]
    fn a_finding_has_the_same_fields_from_the_coordinator_and_from_the_node() {
        let finding = Finding {
            folder: String::new(),
            name: "1.host".to_owned(),
            uid: None,
            cause: Cause::Bad(Reason::Empty),
            received: None,
            size_bytes: None,
            source: Source::NoCopy,
            rungs: Rungs::default(),
            subject: None,
            kept_at: None,
        };
        let findings = vec![finding.clone()];
        let (address, path) = ("anna@example.org".to_owned(), b"anna".to_vec());
        let list = FindingList { address: address.clone(), path, findings };
        let told = v1::Finding {
            kind: v1::FindingKind::Lost.into(),
            name: "1.host".to_owned(),
            code: finding.cause.code().to_owned(),
            reason: finding.cause.to_string(),
            source: finding.source.code().to_owned(),
            ..v1::Finding::default()
        };
        let node = "stor-01".to_owned();
        let told = MailboxFinding { address, node, finding: Some(told) };

        let from_node = value("stor-01", &list, &finding);
        let from_coordinator = json::finding(&told);

        let fields = |value: &Value| -> BTreeSet<String> {
            value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect()
        };
        assert_eq!(fields(&from_node), fields(&from_coordinator));
        let only_the_node_knows = ["path", "grade", "numbers", "subject"];
        for (name, value) in from_coordinator.as_object().into_iter().flatten() {
            if !only_the_node_knows.contains(&name.as_str()) {
                assert_eq!(Some(value), from_node.get(name), "{name}");
            }
        }
    }
}
