//! Planning: `plan` shows what would happen and saves it, `start` and `apply` send it to the
//! coordinator.
//!
//! # Invariants
//!
//! * `plan` changes nothing but the file that it is told to write, and talks to nobody unless it
//!   saves a plan or compares one with the coordinator's.
//! * Only the plan that the operator has seen is started, and not before they were asked.
//! * A saved plan is started once.

mod saved;
mod show;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tidegate_core::inventory::{FullRow, Inventory};
use tidegate_core::plan::Plan;
use tidegate_wire::limits::{INVENTORY_BYTES_PER_MESSAGE, INVENTORY_ROWS_PER_MESSAGE};
use tidegate_wire::{policy_file, v1};

use crate::cli::{self, Beside, Inputs, ProgressForm, TableOrJson};
use crate::client::Client;
use crate::console::{self, safe, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::operate::id;
use crate::progress::{self, Progress};
use crate::{inventory_file, screens};
pub(crate) use saved::Older;
use saved::Saved;
pub(crate) use show::{ShownPlan, show};

/// Digits that are enough to name a plan on the command line.
const DIGEST_DIGITS_MIN: usize = 12;

/// Carries out `tidegate plan`.
pub(crate) async fn plan(args: &cli::Plan) -> Outcome {
    let (plan, _) = make(&args.inputs)?;
    let mut here = None;
    if args.out.is_some() || args.beside == Some(Beside::Rollout) {
        here = Some(Client::connect(&args.coordinator).await?.plan().await?);
    }
    let older = older(args, here.as_ref())?;
    let differs = match &older {
        Some(older) if !args.whole => show_difference(args, &plan, older)?,
        Some(_) | None => {
            match args.output {
                TableOrJson::Json => console::data_line(screens::plan::value(&plan))?,
                TableOrJson::Table => console::data(screens::plan::text(&plan))?,
            }
            true
        }
    };
    let next = match (&args.out, here) {
        (Some(out), Some(here)) => {
            if let Some(running) = here.plan {
                return Err(not_saved(&running));
            }
            Saved::of(&plan, &args.inputs, here.seen)?.write(out)?;
            let out = out.display();
            console::tell(format_args!(
                "saved {out}: spent once, void if the inventory or the policy changes"
            ));
            format!("tidegate start {out}")
        }
        (None | Some(_), _) => apply_command(&args.inputs, &plan),
    };
    if args.output == TableOrJson::Table {
        console::data_line(format_args!("Next   {next}"))?;
    }
    let changes = args.detailed_exitcode && differs;
    Ok(if changes { Exit::Changes } else { Exit::Done })
}

/// What the new plan is compared with, and what that is called.
fn older(
    args: &cli::Plan,
    here: Option<&v1::GetPlanResponse>,
) -> Result<Option<Older>, Failure> {
    let running = || {
        let plan = here.and_then(|here| here.plan.clone());
        plan.map(Older::of_rollout).transpose()
    };
    match (&args.beside, &args.out) {
        (Some(Beside::Saved(file)), _) => Saved::read(file).map(|it| Some(it.older())),
        (None, Some(out)) if out.exists() => Saved::read(out).map(|it| Some(it.older())),
        (Some(Beside::Rollout) | None, _) => running(),
    }
}

fn show_difference(
    args: &cli::Plan,
    plan: &Plan,
    older: &Older,
) -> Result<bool, Failure> {
    let now = plan.summary();
    let difference = now.since(&older.summary);
    let name = plan.policy().name.as_str();
    let shown =
        screens::difference::Shown { name, now: &now, older, difference: &difference };
    match args.output {
        TableOrJson::Json => console::data_line(shown.value())?,
        TableOrJson::Table => console::data(shown.text())?,
    }
    Ok(!difference.is_none())
}

/// Where a rollout runs, no other plan can be started.
fn not_saved(running: &v1::PlanSummary) -> Failure {
    let text = format!(
        "not saved: this coordinator carries out plan {:.12}, and a coordinator has one rollout",
        running.plan_digest
    );
    Failure::text(Exit::Refused, text).help(
        "plan it for another data directory; `tidegate status` shows what runs here",
    )
}

/// Carries out `tidegate start`.
pub(crate) async fn start(args: &cli::Start) -> Outcome {
    check_can_ask(args.yes)?;
    let saved = Saved::read(&args.file)?;
    let (plan, policy_toml) = make(&saved.inputs(args.progress))?;
    if plan.digest() != saved.summary.plan {
        let file = args.file.display();
        let text = format!(
            "stale: the inventory or the policy has changed since `{file}` was saved; now the \
             plan is {}",
            plan.digest()
        );
        let again = plan_command(&saved.inputs(args.progress), &args.file);
        return Err(Failure::text(Exit::Stale, text)
            .help(format!("this shows what differs, and saves it anew: {again}")));
    }
    let mut client = Client::connect(&args.coordinator).await?;
    if !args.yes {
        confirm(&plan, &args.coordinator)?;
    }
    let what = Begin {
        by: args.actor.name(),
        request_id: id(&args.asked),
        rebuild: None,
        saved_for: saved.seen,
        progress: args.progress.form,
    };
    let applied = send(&mut client, &plan, policy_toml, what).await?;
    begun(&plan, &applied)
}

/// The digest of the plan that is saved in `file`.
///
/// # Errors
///
/// [`Exit::Input`] when no plan is.
pub(crate) fn digest_in(file: &Path) -> Result<String, Failure> {
    Saved::read(file).map(|saved| saved.summary.plan.to_string())
}

/// Says that a rollout has begun, and how to follow it.
fn begun(plan: &Plan, applied: &v1::ApplyResponse) -> Outcome {
    console::data_line(format_args!(
        "Applied {}: {} mailboxes in {} waves. Plan {}",
        safe(&plan.policy().name),
        thousands(applied.mailboxes),
        applied.waves,
        applied.plan_digest
    ))?;
    console::data_line("Next   tidegate watch")?;
    Ok(Exit::Done)
}

fn check_can_ask(yes: bool) -> Result<(), Failure> {
    if yes || console::can_ask() {
        return Ok(());
    }
    Err(Failure::text(Exit::Usage, "nobody is there to confirm")
        .help("on a terminal this asks; for scripts add `--yes`"))
}

/// Carries out `tidegate apply`.
pub(crate) async fn apply(args: &cli::Apply) -> Outcome {
    begin(args, None).await
}

/// Carries out `tidegate rebuild`.
pub(crate) async fn rebuild(args: &cli::Rebuild) -> Outcome {
    begin(&args.apply, Some(args.reason.clone())).await
}

async fn begin(args: &cli::Apply, rebuild: Option<String>) -> Outcome {
    check_can_ask(args.yes)?;
    let (plan, policy_toml) = make(&args.inputs)?;
    check_digest(args, &plan)?;
    let mut client = Client::connect(&args.coordinator).await?;
    if !args.yes {
        confirm(&plan, &args.coordinator)?;
    }
    let what = Begin {
        by: args.actor.name(),
        request_id: id(&args.asked),
        rebuild,
        saved_for: String::new(),
        progress: args.inputs.progress.form,
    };
    let is_rebuild = what.rebuild.is_some();
    let applied = send(&mut client, &plan, policy_toml, what).await?;
    if is_rebuild {
        console::data_line(format_args!(
            "Rebuilding {} from what the workers hold: paused, and nothing changes until \
             every node has told. Plan {}",
            safe(&plan.policy().name),
            applied.plan_digest
        ))?;
        console::data_line(
            "What had been re-closed before it was ever open is not known any more: re-close \
             it again before you resume",
        )?;
        console::data_line("Next   tidegate status")?;
        console::data_line("then   tidegate resume --reason '…'")?;
        return Ok(Exit::Done);
    }
    begun(&plan, &applied)
}

/// Reads both files and plans. Returns the plan and the policy's text.
///
/// # Errors
///
/// [`Exit::Input`] with all that is wrong.
pub(crate) fn make(inputs: &Inputs) -> Result<(Plan, String), Failure> {
    let policy_name = inputs.policy.display().to_string();
    let policy_toml = fs::read_to_string(&inputs.policy).map_err(|source| {
        let context = format!("read policy `{policy_name}`");
        Failure::new(Exit::Input, anyhow::Error::new(source).context(context))
            .help("`deploy/config/policy.toml` is a commented example")
    })?;
    let policy = policy_file::parse(&policy_name, &policy_toml)
        .map_err(|error| Failure::complete(Exit::Input, error))?;
    let imported = inventory_file::open(&inputs.inventory, |it| {
        progress::reading(it, inputs.progress.form)
    })
    .map_err(|error| Failure::new(Exit::Input, error))?;
    let (rows, name) = (thousands(imported.rows), inputs.inventory.display());
    console::tell(format_args!("read {rows} rows from {name}"));
    let plan =
        tidegate_core::plan::plan(&Arc::new(imported.inventory), &Arc::new(policy))
            .map_err(|refusal| {
                let help = refusal.help();
                Failure::new(Exit::Input, refusal).help(help)
            })?;
    Ok((plan, policy_toml))
}

/// Who begins a rollout, and how.
pub(crate) struct Begin {
    /// Who.
    pub(crate) by: String,
    /// What the request is called.
    pub(crate) request_id: String,
    /// Why it is made again from what the workers hold; nothing for a new one.
    pub(crate) rebuild: Option<String>,
    /// What the coordinator said of itself when the plan was saved; empty if it was not.
    pub(crate) saved_for: String,
    /// How it is shown how far it is.
    pub(crate) progress: ProgressForm,
}

/// Uploads and starts a plan.
///
/// # Errors
///
/// What the coordinator answered.
pub(crate) async fn send(
    client: &mut Client,
    plan: &Plan,
    policy_toml: String,
    what: Begin,
) -> Result<v1::ApplyResponse, Failure> {
    let header = v1::ApplyHeader {
        by: what.by,
        plan_digest: plan.digest().to_string(),
        policy_toml,
        request_id: what.request_id,
        rebuild: what.rebuild.is_some(),
        reason: what.rebuild.unwrap_or_default(),
        seen: what.saved_for,
    };
    let header = v1::ApplyRequest { part: Some(v1::apply_request::Part::Header(header)) };
    let total = Some(plan.inventory().len().into());
    let progress = Progress::begin(what.progress, "Sending", (total, "rows"));
    let progress = Arc::new(progress);
    let rows = Portions { inventory: Arc::clone(plan.inventory()), next: 0, progress };
    client.apply(std::iter::once(header).chain(rows)).await
}

fn check_digest(args: &cli::Apply, plan: &Plan) -> Result<(), Failure> {
    let Some(seen) = &args.plan else { return Ok(()) };
    let digest = plan.digest().to_string();
    if seen.len() < DIGEST_DIGITS_MIN {
        let text = format!("`{seen}` is too short for a plan's digest");
        return Err(Failure::text(Exit::Usage, text)
            .help(format!("give at least {DIGEST_DIGITS_MIN} digits")));
    }
    if digest.starts_with(&seen.to_lowercase()) {
        return Ok(());
    }
    let text = format!(
        "stale: inventory or policy changed since plan {seen}; now it is {digest}"
    );
    Err(Failure::text(Exit::Stale, text).help("run `tidegate plan` again and look at it"))
}

fn confirm(plan: &Plan, at: &cli::Coordinator) -> Result<(), Failure> {
    let name = safe(&plan.policy().name);
    console::tell(screens::plan::text(plan).replace(" Nothing has been changed.", ""));
    let question = format!("Type the policy's name, `{name}`, to start at {at}: ");
    let answer = console::ask(question)?;
    if answer == name {
        return Ok(());
    }
    Err(Failure::text(Exit::Failed, "not confirmed; nothing has been changed"))
}

fn apply_command(inputs: &Inputs, plan: &Plan) -> String {
    format!(
        "tidegate apply --inventory {} --policy {} --plan {}",
        inputs.inventory.display(),
        inputs.policy.display(),
        plan.digest()
    )
}

fn plan_command(inputs: &Inputs, out: &Path) -> String {
    format!(
        "tidegate plan --inventory {} --policy {} --out {}",
        inputs.inventory.display(),
        inputs.policy.display(),
        out.display()
    )
}

/// The rows of an inventory in messages of bounded size.
#[derive(Clone)]
struct Portions {
    inventory: Arc<Inventory>,
    next: u32,
    progress: Arc<Progress>,
}

impl Iterator for Portions {
    type Item = v1::ApplyRequest;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        while self.next < self.inventory.len()
            && rows.len() < INVENTORY_ROWS_PER_MESSAGE
            && bytes < INVENTORY_BYTES_PER_MESSAGE
        {
            let row =
                self.inventory.row(tidegate_core::fleet::MailboxNumber::new(self.next));
            let labels = row.labels.iter().map(|(key, value)| key.len() + value.len());
            bytes += row.address.len() + row.path.len() + row.node.len() + row.tier.len();
            bytes += labels.sum::<usize>();
            rows.push(message(row));
            self.next += 1;
        }
        self.progress.add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        let part = v1::apply_request::Part::Rows(v1::InventoryRows { rows });
        match &part {
            v1::apply_request::Part::Rows(rows) if rows.rows.is_empty() => None,
            v1::apply_request::Part::Rows(_) | v1::apply_request::Part::Header(_) => {
                Some(v1::ApplyRequest { part: Some(part) })
            }
        }
    }
}

fn message(row: FullRow<'_>) -> v1::InventoryRow {
    let labels = row.labels.into_iter();
    v1::InventoryRow {
        address: row.address.to_owned(),
        node: row.node.to_owned(),
        tier: row.tier.to_owned(),
        path: row.path,
        labels: labels.map(|(key, value)| (key.to_owned(), value.into_owned())).collect(),
    }
}
