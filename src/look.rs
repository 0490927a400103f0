//! Looking: commands that ask the coordinator once and show the answer.
//!
//! # Invariants
//!
//! * Nothing here changes anything.
//! * Lists are fetched page by page, and written as they come.

use std::io::{self, BufWriter, Write as _};

use tidegate_core::time::Timestamp;
use tidegate_wire::v1;

use crate::cli::{
    Events, ListFormat, LiveFormat, MailboxFormat, MailboxList, MailboxShow,
    PreparationArg, QuarantineList, Report, Status, TableOrJson,
};
use crate::client::Client;
use crate::console::{self, Paint};
use crate::exit::{Exit, Failure, Outcome};
use crate::screens;
use crate::screens::diagnosis::Diagnosis;
use crate::screens::held::Held;
use crate::screens::single::{self, FindingCounts};

/// Carries out `tidegate status`.
pub(crate) async fn status(args: &Status) -> Outcome {
    let rollout = Client::connect(&args.coordinator).await?.rollout().await?;
    match args.output {
        TableOrJson::Json => console::data_line(screens::json::status(&rollout))?,
        TableOrJson::Table => {
            console::data(screens::status::status(&rollout, Paint::for_stdout()))?;
        }
    }
    Ok(if args.test { Diagnosis::of(&rollout).test } else { Exit::Done })
}

/// Carries out `tidegate mailbox show`.
pub(crate) async fn mailbox(args: &MailboxShow) -> Outcome {
    let mailbox =
        Client::connect(&args.coordinator).await?.mailbox(&args.address).await?;
    match args.output {
        TableOrJson::Json => console::data_line(screens::json::mailbox(&mailbox, now()))?,
        TableOrJson::Table => console::data(single::mailbox(&mailbox, now()))?,
    }
    Ok(Exit::Done)
}

/// Carries out `tidegate mailbox list`.
pub(crate) async fn mailboxes(args: &MailboxList) -> Outcome {
    let preparation =
        args.bytes.map_or(v1::Preparation::Unspecified, |bytes| match bytes {
            PreparationArg::Waiting => v1::Preparation::Waiting,
            PreparationArg::Prepared => v1::Preparation::Prepared,
            PreparationArg::Quarantined => v1::Preparation::Quarantined,
        });
    let filter = v1::ListMailboxesRequest {
        node: args.node.clone(),
        wave: args.wave.clone(),
        preparation: preparation.into(),
        open: (args.open || args.held).then_some(args.open),
        ..Default::default()
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if args.output == MailboxFormat::Csv {
        csv_line(&mut out, &single::MAILBOX_HEADER)?;
    }
    let now = now();
    let mut listed: u64 = 0;
    let mut write = |mailbox: v1::Mailbox| -> Result<(), Failure> {
        listed += 1;
        match args.output {
            MailboxFormat::Table => writeln!(out, "{}", single::mailbox_line(&mailbox))?,
            MailboxFormat::Jsonl => {
                writeln!(out, "{}", screens::json::mailbox(&mailbox, now))?;
            }
            MailboxFormat::Csv => csv_line(&mut out, &single::mailbox_row(&mailbox))?,
            MailboxFormat::Name => writeln!(out, "{}", console::safe(&mailbox.address))?,
        }
        Ok(())
    };
    Client::connect(&args.coordinator).await?.mailboxes(filter, &mut write).await?;
    out.flush()?;
    if args.output == MailboxFormat::Table {
        console::tell(format_args!("{} mailboxes", console::thousands(listed)));
    }
    Ok(Exit::Done)
}

/// The wall clock; windows that are over are not told.
fn now() -> Timestamp {
    let millis = jiff::Timestamp::now().as_millisecond();
    Timestamp::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// Carries out `tidegate quarantine list`.
pub(crate) async fn quarantine(args: &QuarantineList) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let filter =
        v1::ListFindingsRequest { node: args.node.clone(), ..Default::default() };
    let mut listed: u64 = 0;
    let mut told = FindingCounts::default();
    let mut out = BufWriter::new(io::stdout().lock());
    if args.output == ListFormat::Csv {
        csv_line(&mut out, &single::FINDING_HEADER)?;
    }
    let mut write = |found: v1::MailboxFinding| -> Result<(), Failure> {
        if !single::is_set_aside(&found) {
            return Ok(());
        }
        listed += 1;
        told.add(found.finding.as_ref().map(v1::Finding::kind).unwrap_or_default());
        match args.output {
            ListFormat::Table => writeln!(out, "{}", single::finding_line(&found, true))?,
            ListFormat::Jsonl => writeln!(out, "{}", screens::json::finding(&found))?,
            ListFormat::Csv => csv_line(&mut out, &single::finding_row(&found))?,
        }
        Ok(())
    };
    client.findings(filter, &mut write).await?;
    out.flush()?;
    if args.output == ListFormat::Table {
        console::tell(format_args!("{} set aside", console::thousands(listed)));
    }
    if args.node.is_empty() {
        tell_of_untold(told, &client.rollout().await?);
    }
    Ok(Exit::Done)
}

/// Says how much of what was set aside stands only in the lists on the nodes.
fn tell_of_untold(told: FindingCounts, rollout: &v1::Rollout) {
    let totals = rollout.totals.unwrap_or_default();
    let totals = v1::MessageTotals { doubts: 0, ..totals };
    let (_, untold) = told.completed(Some(&totals));
    if untold > 0 {
        console::tell(format_args!(
            "{} more on the nodes: tidegate findings export --config worker.toml",
            console::thousands(untold)
        ));
    }
}

/// Carries out `tidegate events`.
pub(crate) async fn events(args: &Events) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut write = |event: v1::Event| -> Result<(), Failure> {
        match args.output {
            LiveFormat::Table => writeln!(out, "{}", single::event_line(&event))?,
            LiveFormat::Jsonl => writeln!(out, "{}", screens::json::event(&event))?,
        }
        Ok(())
    };
    client.events(&mut write).await?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Carries out `tidegate report`.
pub(crate) async fn report(args: &Report) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let rollout = client.rollout().await?;
    let found = count_findings(&mut client).await?;
    match args.output {
        TableOrJson::Json => console::data_line(single::report_value(&rollout, found))?,
        TableOrJson::Table => {
            console::data(single::report(&rollout, found, Paint::for_stdout()))?;
        }
    }
    Ok(ending(&rollout))
}

/// How a rollout that is looked at has ended, if it has.
pub(crate) fn ending(rollout: &v1::Rollout) -> Exit {
    match rollout.state() {
        v1::RolloutState::Finished if Held::of(rollout).all() > 0 => Exit::SetAside,
        v1::RolloutState::Unspecified
        | v1::RolloutState::Running
        | v1::RolloutState::Paused
        | v1::RolloutState::Halted
        | v1::RolloutState::Aborted
        | v1::RolloutState::Finished => Exit::Done,
    }
}

/// Counts all findings by kind.
///
/// # Errors
///
/// What the coordinator answered.
pub(crate) async fn count_findings(
    client: &mut Client,
) -> Result<FindingCounts, Failure> {
    let mut counts = FindingCounts::default();
    let mut take = |found: v1::MailboxFinding| -> Result<(), Failure> {
        if let Some(finding) = &found.finding {
            counts.add(finding.kind());
        }
        Ok(())
    };
    client.findings(v1::ListFindingsRequest::default(), &mut take).await?;
    Ok(counts)
}

fn csv_line<T: AsRef<[u8]>>(out: &mut impl io::Write, row: &[T]) -> io::Result<()> {
    let mut line = csv::Writer::from_writer(out);
    line.write_record(row)?;
    line.flush()
}
