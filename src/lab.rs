//! Lab: breaks a throwaway provider, brings it back with real programs, and counts.
//!
//! # Invariants
//!
//! * The programs are those of `tidegate coordinator` and `tidegate worker`, as processes of
//!   their own, reached only through the public contract.
//! * It ends with 0 only if the independent recount is clean and the rollout ended as the
//!   fault demands.
//! * Whatever way it ends, no program of it is left running, and no directory that it was not
//!   told to keep is left; only SIGKILL leaves one.

mod fleet;
mod outcome;
mod trouble;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tidegate_core::plan::Plan;
use tidegate_lab::{LabSpec, Provider};
use tidegate_wire::v1::{Rollout, RolloutState};
use tokio::time::timeout;

use crate::cli::{self, Coordinator, Fault, Inputs, Lab, LiveFormat, ProgressForm};
use crate::client::{Client, Seen, Watcher};
use crate::console::{self, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::request::fresh_id;
use crate::watch::Display;
use crate::{look, planning};
use fleet::Fleet;
use trouble::Trouble;

/// The policy for as many mailboxes as statistics need.
const POLICY: &str = include_str!("../deploy/config/lab-policy.toml");
/// The policy for fewer.
const POLICY_SMALL: &str = include_str!("../deploy/config/lab-policy-small.toml");
/// Soaks, leases and a slow machine, whatever the size.
const PATIENCE: Duration = Duration::from_mins(3);
/// Reading, repairing and probing a mailbox on a slow machine.
const PATIENCE_PER_MAILBOX: Duration = Duration::from_millis(60);
/// Who applies the lab's plan.
const BY: &str = "lab";

/// Carries out `tidegate lab`.
pub(crate) async fn run(args: &Lab) -> Outcome {
    check_fault(args)?;
    let home = Home::take(args.keep.as_deref())?;
    let stop = crate::daemon::stop_asked(false, || ())?;
    tokio::select! {
        // Giving up the performance kills its programs: they are its own.
        outcome = Box::pin(perform(args, &home.path)) => outcome,
        () = stop => {
            console::tell("stopped; its programs are stopped, too");
            Ok(Exit::Interrupted)
        }
    }
}

async fn perform(args: &Lab, home: &Path) -> Outcome {
    let begun = Instant::now();
    let provider = build(args, home).await?;
    console::data(provider.damage_summary())?;
    console::data_line(format_args!("built in {}\n", seconds(begun)))?;

    let (inputs, plan, policy_toml) = plan(&provider, home)?;
    console::data_line(format_args!(
        "plan: {} waves, {} mailboxes, {} excluded (tidegate plan --inventory {} --policy {})",
        plan.waves().len(),
        thousands(plan.planned()),
        plan.excluded().len(),
        inputs.inventory.display(),
        inputs.policy.display()
    ))?;

    let rolled = Instant::now();
    let mut fleet = Fleet::new(home);
    let url = fleet.start(&provider.nodes).await?;
    let mut client = Client::connect(&Coordinator::at(url.clone(), None)).await?;
    let (by, request_id, rebuild) = (BY.to_owned(), fresh_id(), None);
    let saved_for = String::new();
    let progress = ProgressForm::None;
    let what = planning::Begin { by, request_id, rebuild, saved_for, progress };
    planning::send(&mut client, &plan, policy_toml, what).await?;
    console::data_line(format_args!(
        "applied; look at it from elsewhere with `tidegate status --coordinator {url}`\n"
    ))?;
    let mut trouble = Trouble::new(args, &provider);
    let end = follow(args, &client, &mut fleet, &mut trouble).await?;
    let took = seconds(rolled);

    let counts = look::count_findings(&mut client).await?;
    let report =
        crate::screens::single::report(&end, counts, console::Paint::for_stdout());
    console::data(format_args!("\n{report}\n"))?;
    fleet.stop_workers().await;
    let told = outcome::ask(&mut client).await?;
    fleet.stop().await;
    trouble.undo().context("undo the sabotage")?;

    let counted = Instant::now();
    let recount =
        tokio::task::spawn_blocking(move || tidegate_lab::recount(&provider, &told))
            .await
            .context("recount")?
            .context("recount")?;
    console::data_line("recount, by a checker that shares no code with the restorer")?;
    console::data_line(&recount)?;
    console::data_line(format_args!(
        "rollout {took}, recount {}, all {}; peak memory: {}",
        seconds(counted),
        seconds(begun),
        fleet.memory()
    ))?;
    outcome::judge(args, &end, &recount, &trouble)
}

/// Follows the rollout to its end, while programs are looked after and trouble is made.
async fn follow(
    args: &Lab,
    client: &Client,
    fleet: &mut Fleet,
    trouble: &mut Trouble,
) -> Result<Box<Rollout>, Failure> {
    let limit = PATIENCE + PATIENCE_PER_MAILBOX * args.mailboxes;
    let mut display = Display::for_stdout(LiveFormat::Table)?;
    let watched = async {
        tokio::select! {
            // The two share nothing: whichever ends, the other is done with.
            end = watch(client.clone(), &mut display) => end,
            failure = trouble.tend(client.clone(), fleet) => Err(failure),
        }
    };
    let ended = timeout(limit, watched).await;
    display.close();
    ended.unwrap_or_else(|_| {
        let text = format!("the rollout has not ended after {} s", limit.as_secs());
        Err(Failure::text(Exit::Failed, text).help(format!(
            "run it again with `--keep DIR` and look at the logs there; seed {}",
            args.seed
        )))
    })
}

async fn watch(client: Client, display: &mut Display) -> Result<Box<Rollout>, Failure> {
    let mut watcher = Watcher::new(client);
    loop {
        match watcher.next().await? {
            Seen::Rollout(rollout) => {
                display.show(&rollout, None)?;
                if has_ended(&rollout) {
                    return Ok(rollout);
                }
            }
            Seen::Silence(_) => {}
            Seen::Over => {
                return Err(Failure::text(Exit::Failed, "the rollout was over before"));
            }
        }
    }
}

/// Whether nobody in the lab would move it any more.
fn has_ended(rollout: &Rollout) -> bool {
    match rollout.state() {
        RolloutState::Finished | RolloutState::Aborted | RolloutState::Halted => true,
        RolloutState::Unspecified | RolloutState::Running | RolloutState::Paused => false,
    }
}

async fn build(args: &Lab, home: &Path) -> Result<Provider, Failure> {
    let spec = LabSpec {
        mailboxes: args.mailboxes,
        nodes: args.nodes,
        messages: args.messages,
        seed: args.seed,
        damage: args.damage.parts(),
    };
    console::data_line(format_args!(
        "building a provider: {} mailboxes on {} nodes, about {} messages each, seed {}, in {}",
        thousands(spec.mailboxes),
        spec.nodes,
        spec.messages,
        spec.seed,
        home.display()
    ))?;
    let root = home.join("provider");
    let built = tokio::task::spawn_blocking(move || {
        tidegate_lab::build(&root, &spec, &mut |line| {
            console::tell(format_args!("  {line}"));
        })
    });
    Ok(built.await.context("build the provider")?.context("build the provider")?)
}

/// Plans with the lab's policy, or with that for small providers if there are too few
/// mailboxes for statistics.
fn plan(provider: &Provider, home: &Path) -> Result<(Inputs, Plan, String), Failure> {
    let inputs = Inputs {
        inventory: provider.inventory_csv.clone(),
        policy: home.join("policy.toml"),
        progress: cli::Progress { form: ProgressForm::None },
    };
    fs::write(&inputs.policy, POLICY).context("write the policy")?;
    if let Ok((plan, text)) = planning::make(&inputs) {
        return Ok((inputs, plan, text));
    }
    fs::write(&inputs.policy, POLICY_SMALL).context("write the policy")?;
    let (plan, text) = planning::make(&inputs)?;
    Ok((inputs, plan, text))
}

/// Refuses a fault on a node that will not be there.
fn check_fault(args: &Lab) -> Result<(), Failure> {
    let Fault::Node { name, .. } = &args.fault else { return Ok(()) };
    let names: Vec<String> =
        (1..=args.nodes).map(|node| format!("stor-{node:02}")).collect();
    if names.contains(name) {
        return Ok(());
    }
    Err(Failure::text(Exit::Usage, format!("there will be no node `{name}`"))
        .help(format!("the nodes are {}", names.join(", "))))
}

fn seconds(since: Instant) -> String {
    let millis = since.elapsed().as_millis();
    format!("{}.{} s", millis / 1_000, millis / 100 % 10)
}

/// The directory that holds everything; removed at the end unless it is to be kept.
struct Home {
    path: PathBuf,
    temporary: bool,
}

impl Drop for Home {
    /// Waits for the end: whoever ends the lab's terminal, container or process group right
    /// after the lab would else be left with what was not removed yet.
    fn drop(&mut self) {
        if !self.temporary {
            return;
        }
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).arg(&self.path);
            // A second Ctrl-C is not for it.
            command.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
            command.status().is_ok_and(|status| status.success())
        };
        // Damage takes rights away, and only root removes a directory that he may not write.
        let removed = run("rm", &["-rf"])
            || (run("chmod", &["-R", "u+rwX"]) && run("rm", &["-rf"]));
        if !removed {
            let path = self.path.display();
            console::tell(format_args!("remove the lab's directory by hand: {path}"));
        }
    }
}

impl Home {
    fn take(keep: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = keep else {
            let dir =
                TempDir::with_prefix("tidegate-lab-").context("make a directory")?;
            return Ok(Self { path: dir.keep(), temporary: true });
        };
        let name = path.display();
        fs::create_dir_all(path).with_context(|| format!("create `{name}`"))?;
        let path = fs::canonicalize(path).with_context(|| format!("find `{name}`"))?;
        let mut present =
            fs::read_dir(&path).with_context(|| format!("read `{name}`"))?;
        if present.next().is_some() {
            let text = format!("`{name}` is not empty");
            return Err(
                Failure::text(Exit::Usage, text).help("name an empty or a new directory")
            );
        }
        Ok(Self { path, temporary: false })
    }
}
