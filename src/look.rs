//! Looking: commands that ask the coordinator once and show the answer.
//!
//! # Invariants
//!
//! * Nothing here changes anything.
//! * Lists are fetched page by page, and written as they come.

use serde_json::Value;
use tidegate_core::time::Timestamp;
use tidegate_wire::protocol::timestamp;
use tidegate_wire::v1;

use crate::cli::{
    Events, MailboxList, MailboxShow, PreparationArg, QuarantineList, Report, Status,
    TableOrJson,
};
use crate::client::{Client, Standing};
use crate::console::{self, Paint};
use crate::exit::{Exit, Failure, Outcome};
use crate::listing::{Listed, Listing};
use crate::parts;
use crate::report;
use crate::screens;
use crate::screens::diagnosis::Diagnosis;
use crate::screens::held::Held;
use crate::screens::single::{self, FindingCounts};

/// Carries out `tidegate status`.
pub(crate) async fn status(args: &Status) -> Outcome {
    let rollout = match Client::connect(&args.coordinator).await?.standing().await? {
        Standing::Rollout(rollout) => *rollout,
        Standing::NoPlan { waiting, told } => return not_started(args, waiting, told),
    };
    if args.trouble {
        return trouble(args, rollout);
    }
    match args.output {
        TableOrJson::Json => console::data_line(screens::json::status(&rollout))?,
        TableOrJson::Table => {
            console::data(screens::status::status(&rollout, Paint::for_stdout()))?;
        }
    }
    Ok(if args.test { Diagnosis::of(&rollout).test } else { Exit::Done })
}

/// Shows that there is no plan yet: people are told so, programs get the document that they know,
/// with nothing in it but what waits.
fn not_started(args: &Status, waiting: Vec<v1::Waiting>, told: Failure) -> Outcome {
    if args.output == TableOrJson::Table {
        return Err(told);
    }
    let needs_somebody = !waiting.is_empty();
    let diagnosis = Diagnosis::of_no_plan(&waiting);
    let at_time = Some(timestamp(now()));
    let rollout = v1::Rollout { waiting, at_time, ..Default::default() };
    let mut value = screens::json::diagnosed(&rollout, &diagnosis);
    if let Some(state) = value.get_mut("state") {
        *state = Value::from(screens::json::NO_PLAN);
    }
    console::data_line(value)?;
    Ok(match (args.test, args.trouble) {
        (true, _) => diagnosis.test,
        (false, true) if needs_somebody => Exit::Failed,
        (false, _) => Exit::Done,
    })
}

/// Shows only what needs somebody.
fn trouble(args: &Status, mut rollout: v1::Rollout) -> Outcome {
    let diagnosis = Diagnosis::of(&rollout);
    rollout.waves.retain(parts::is_stopped);
    rollout.nodes.retain(parts::is_out);
    let is_well = diagnosis.test == Exit::Done
        && rollout.waves.is_empty()
        && rollout.nodes.is_empty();
    match args.output {
        TableOrJson::Json => {
            console::data_line(screens::json::diagnosed(&rollout, &diagnosis))?;
        }
        TableOrJson::Table => {
            let paint = Paint::for_stdout();
            console::data(screens::status::trouble(&rollout, &diagnosis, paint))?;
        }
    }
    Ok(if is_well { Exit::Done } else { Exit::Failed })
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
    let mut client = Client::connect(&args.coordinator).await?;
    let mut listing = Listing::begin::<MailboxRow>(args.form)?;
    let now = now();
    let mut write = |mailbox| listing.row(&MailboxRow { mailbox, now });
    client.mailboxes(filter, &mut write).await?;
    let listed = listing.end()?;
    if args.form.output.is_for_people() {
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
    let mut told = FindingCounts::default();
    let mut listing = Listing::begin::<v1::MailboxFinding>(args.form)?;
    let mut write = |found: v1::MailboxFinding| -> Result<(), Failure> {
        if !single::is_set_aside(&found) {
            return Ok(());
        }
        told.add(found.finding.as_ref().map(v1::Finding::kind).unwrap_or_default());
        listing.row(&found)
    };
    client.findings(filter, &mut write).await?;
    let listed = listing.end()?;
    if args.form.output.is_for_people() {
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
    let mut listing = Listing::begin::<v1::Event>(args.form)?;
    client.events(&mut |event| listing.row(&event)).await?;
    listing.end()?;
    Ok(Exit::Done)
}

/// Carries out `tidegate report`.
pub(crate) async fn report(args: &Report) -> Outcome {
    if let Some(verb) = &args.verb {
        return report::run(verb).await;
    }
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

/// A mailbox of a list, and when it was asked for.
struct MailboxRow {
    mailbox: v1::Mailbox,
    now: Timestamp,
}

impl Listed for MailboxRow {
    const LIST: &'static str = "tidegate.mailbox-list/v1";
    const COLUMNS: &'static [&'static str] = &single::MAILBOX_HEADER;

    fn value(&self) -> Value {
        screens::json::mailbox(&self.mailbox, self.now)
    }

    fn line(&self) -> String {
        single::mailbox_line(&self.mailbox)
    }

    fn wide(&self) -> String {
        single::mailbox_wide(&self.mailbox)
    }

    fn cells(&self) -> Vec<String> {
        single::mailbox_row(&self.mailbox).into()
    }

    fn name(&self) -> String {
        self.mailbox.address.clone()
    }
}

impl Listed for v1::MailboxFinding {
    const LIST: &'static str = "tidegate.finding-list/v1";
    const COLUMNS: &'static [&'static str] = &single::FINDING_HEADER;

    fn value(&self) -> Value {
        screens::json::finding(self)
    }

    fn line(&self) -> String {
        single::finding_line(self, true)
    }

    fn wide(&self) -> String {
        single::finding_wide(self)
    }

    fn cells(&self) -> Vec<String> {
        single::finding_row(self).into()
    }

    /// Its mailbox: what is set aside is looked after mailbox by mailbox.
    fn name(&self) -> String {
        self.address.clone()
    }
}

impl Listed for v1::Event {
    const LIST: &'static str = "tidegate.event-list/v1";
    const COLUMNS: &'static [&'static str] = &single::EVENT_HEADER;

    fn value(&self) -> Value {
        screens::json::event(self)
    }

    fn line(&self) -> String {
        single::event_line(self)
    }

    fn wide(&self) -> String {
        single::event_wide(self)
    }

    fn cells(&self) -> Vec<String> {
        single::event_row(self).into()
    }

    fn name(&self) -> String {
        self.code.clone()
    }
}
