//! Planning: `plan` shows what would happen, `apply` sends it to the coordinator.
//!
//! # Invariants
//!
//! * `plan` is pure: it reads two files and talks to nobody.
//! * `apply` starts only the plan that the operator has seen, and asks before it does.

use std::fs;
use std::sync::Arc;

use tidegate_core::inventory::{FullRow, Inventory};
use tidegate_core::plan::Plan;
use tidegate_wire::limits::{INVENTORY_BYTES_PER_MESSAGE, INVENTORY_ROWS_PER_MESSAGE};
use tidegate_wire::{policy_file, v1};

use crate::cli::{self, Inputs, TableOrJson};
use crate::client::Client;
use crate::console::{self, safe, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::operate::id;
use crate::{inventory_file, screens};

/// Digits that are enough to name a plan on the command line.
const DIGEST_DIGITS_MIN: usize = 12;

/// Carries out `tidegate plan`.
pub(crate) fn plan(args: &cli::Plan) -> Outcome {
    let (plan, _) = make(&args.inputs)?;
    match args.output {
        TableOrJson::Json => console::data_line(screens::plan::value(&plan))?,
        TableOrJson::Table => {
            console::data(screens::plan::text(&plan))?;
            console::data_line(format_args!(
                "Next   {}",
                apply_command(&args.inputs, &plan)
            ))?;
        }
    }
    Ok(if args.detailed_exitcode { Exit::Changes } else { Exit::Done })
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
    if !args.yes && !console::can_ask() {
        return Err(Failure::text(Exit::Usage, "nobody is there to confirm")
            .help("on a terminal this asks; for scripts add `--yes`"));
    }
    let (plan, policy_toml) = make(&args.inputs)?;
    check_digest(args, &plan)?;
    let mut client = Client::connect(&args.coordinator).await?;
    if !args.yes {
        confirm(&plan)?;
    }
    let what = Begin { by: args.actor.name(), request_id: id(&args.asked), rebuild };
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
    let imported = inventory_file::open(&inputs.inventory)
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
    };
    let header = v1::ApplyRequest { part: Some(v1::apply_request::Part::Header(header)) };
    let rows = Portions { inventory: Arc::clone(plan.inventory()), next: 0 };
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

fn confirm(plan: &Plan) -> Result<(), Failure> {
    let name = safe(&plan.policy().name);
    console::tell(screens::plan::text(plan).replace(" Nothing has been changed.", ""));
    let question = format!("Type the policy's name, `{name}`, to start: ");
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

/// The rows of an inventory in messages of bounded size.
#[derive(Clone)]
struct Portions {
    inventory: Arc<Inventory>,
    next: u32,
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
