//! Saved plans: a plan in a file, to be started once.
//!
//! The file names inventory and policy and says what the plan was; it holds no mailbox.
//!
//! # Invariants
//!
//! * A file is complete, or it is not there under its name.
//! * Only a saved plan is ever written over.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tidegate_core::plan::{Plan, Summary};
use tidegate_wire::v1;

use crate::cli::{Inputs, Progress};
use crate::exit::{Exit, Failure};

/// What such a file is called inside.
const SCHEMA: &str = "tidegate.saved-plan/v1";

/// No plan in brief is nearly as long: waves by the ten thousands.
const BYTES_MAX: u64 = 64 << 20;

/// A plan that was saved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    inventory: PathBuf,
    policy: PathBuf,
    /// What the coordinator said of itself then.
    pub(crate) seen: String,
    /// When it was saved.
    pub(crate) at: String,
    /// What the plan does.
    pub(crate) summary: Summary,
}

/// A plan that a new one is compared with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Older {
    /// What it is called: `the one saved at …`.
    pub(crate) name: String,
    /// What it does.
    pub(crate) summary: Summary,
}

impl Older {
    /// The plan that a coordinator carries out.
    ///
    /// # Errors
    ///
    /// When what came is no plan.
    pub(crate) fn of_rollout(plan: v1::PlanSummary) -> Result<Self, Failure> {
        let summary = Summary::try_from(plan).context("read the coordinator's plan")?;
        Ok(Self { name: "the one that is carried out here".to_owned(), summary })
    }
}

impl Saved {
    /// `plan` of `inputs`, for the coordinator that says this of itself.
    ///
    /// # Errors
    ///
    /// When it cannot be told where the files are.
    pub(crate) fn of(
        plan: &Plan,
        inputs: &Inputs,
        seen: String,
    ) -> Result<Self, Failure> {
        let full = |path: &Path| {
            let name = || format!("find `{}`", path.display());
            fs::canonicalize(path).with_context(name)
        };
        let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (inventory, policy) = (full(&inputs.inventory)?, full(&inputs.policy)?);
        Ok(Self { inventory, policy, seen, at, summary: plan.summary() })
    }

    /// The files it was made of.
    pub(crate) fn inputs(&self, progress: Progress) -> Inputs {
        let [inventory, policy] = self.files();
        Inputs { inventory: inventory.clone(), policy: policy.clone(), progress }
    }

    /// Inventory and policy, as files.
    pub(crate) fn files(&self) -> [&PathBuf; 2] {
        [&self.inventory, &self.policy]
    }

    /// The same as what a newer one is compared with.
    pub(crate) fn older(self) -> Older {
        let name = format!("the one saved at {}", self.at);
        Older { name, summary: self.summary }
    }

    /// Reads a saved plan.
    ///
    /// # Errors
    ///
    /// [`Exit::Input`] when the file is not there, or is none.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let read = || {
            let length = fs::metadata(path)?.len();
            if length > BYTES_MAX {
                return Err(io::Error::other("it is too long for a saved plan"));
            }
            fs::read_to_string(path)
        };
        let name = format!("read the saved plan `{}`", path.display());
        let kept = read().map_err(anyhow::Error::new);
        let kept = kept.and_then(|text| Ok(serde_json::from_str::<Kept>(&text)?));
        kept.and_then(Kept::saved).context(name).map_err(|error| {
            Failure::new(Exit::Input, error).help("`tidegate plan --out FILE` writes one")
        })
    }

    /// Writes it to `path`, over a saved plan or nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was there before is still there then.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        if path.exists() {
            Self::read(path)
                .map_err(|failure| failure.help("name a file that is not there yet"))?;
        }
        let mut staged = path.as_os_str().to_owned();
        staged.push(".tmp");
        let write = || {
            let mut file = File::create(&staged)?;
            serde_json::to_writer_pretty(&mut file, &Kept::of(self))?;
            writeln!(file)?;
            file.sync_all()?;
            fs::rename(&staged, path)
        };
        write().with_context(|| format!("write `{}`", path.display()))?;
        Ok(())
    }
}

/// How it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    schema: String,
    saved_time: String,
    inventory: PathBuf,
    policy: PathBuf,
    seen: String,
    plan_digest: String,
    inventory_digest: String,
    policy_digest: String,
    rules: Vec<String>,
    excluded: u32,
    waves: Vec<KeptWave>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptWave {
    name: String,
    who: String,
    mailboxes: u32,
    nodes: u32,
    members_digest: String,
}

impl Kept {
    fn of(saved: &Saved) -> Self {
        let summary = v1::PlanSummary::from(&saved.summary);
        let waves = summary.waves.into_iter().map(|wave| {
            let v1::PlanWave { name, who, mailboxes, nodes, members_digest } = wave;
            KeptWave { name, who, mailboxes, nodes, members_digest }
        });
        Self {
            schema: SCHEMA.to_owned(),
            saved_time: saved.at.clone(),
            inventory: saved.inventory.clone(),
            policy: saved.policy.clone(),
            seen: saved.seen.clone(),
            plan_digest: summary.plan_digest,
            inventory_digest: summary.inventory_digest,
            policy_digest: summary.policy_digest,
            rules: summary.rules,
            excluded: summary.excluded,
            waves: waves.collect(),
        }
    }

    fn saved(self) -> anyhow::Result<Saved> {
        anyhow::ensure!(self.schema == SCHEMA, "it is a `{}`", self.schema);
        // Without it, nothing would keep the plan from being started twice.
        anyhow::ensure!(!self.seen.is_empty(), "it does not say for which coordinator");
        let waves = self.waves.into_iter().map(|wave| {
            let KeptWave { name, who, mailboxes, nodes, members_digest } = wave;
            v1::PlanWave { name, who, mailboxes, nodes, members_digest }
        });
        let summary = Summary::try_from(v1::PlanSummary {
            plan_digest: self.plan_digest,
            inventory_digest: self.inventory_digest,
            policy_digest: self.policy_digest,
            rules: self.rules,
            excluded: self.excluded,
            waves: waves.collect(),
        })?;
        Ok(Saved {
            inventory: self.inventory,
            policy: self.policy,
            seen: self.seen,
            at: self.saved_time,
            summary,
        })
    }
}
