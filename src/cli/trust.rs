//! Command line: certificates, shown and made.
//!
//! # Invariants
//!
//! * A key is named by its file, never given itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Actor, Coordinator, PartKind, TableOrJson, WhichEmergency};

/// What you show to a coordinator on another machine.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Credentials {
    /// Your certificate; for `https://` coordinators.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CERTIFICATE", requires_all = ["key", "ca"])]
    pub(crate) certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_KEY", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// The authority that the coordinator's certificate comes from.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CA", requires = "certificate")]
    pub(crate) ca: Option<PathBuf>,
}

impl Coordinator {
    /// The one at `url`, to whom the certificate in `tls` is shown.
    pub(crate) fn at(url: String, tls: Option<tidegate_trust::Files>) -> Self {
        let credentials = tls.map_or_else(Credentials::default, |tls| Credentials {
            certificate: Some(tls.certificate),
            key: Some(tls.key),
            ca: Some(tls.ca),
        });
        Self { url, context: None, credentials }
    }

    /// What is shown to it, if all of it was named.
    pub(crate) fn tls(&self) -> Option<tidegate_trust::Files> {
        let Credentials { certificate, key, ca } = self.credentials.clone();
        let (certificate, key, ca) = (certificate?, key?, ca?);
        Some(tidegate_trust::Files {
            certificate,
            key,
            ca,
            trust_domain: None,
            denied: None,
        })
    }
}

/// What somebody else may do. Leave is used once, by anybody but whoever gave it, and is void as
/// soon as anything else is decided.
#[derive(Debug, Subcommand)]
pub(crate) enum Approve {
    /// To start the rollout of a plan, or to rebuild it.
    Apply {
        /// The digest that `tidegate plan` printed, or the file that it saved.
        plan: String,
        #[command(flatten)]
        args: ApproveArgs,
    },
    /// To resume.
    Resume {
        /// The kind of part; without it, the rollout itself.
        #[arg(value_enum, requires = "name")]
        part: Option<PartKind>,
        /// The part's name.
        name: Option<String>,
        /// The etag that you saw; void if anything was decided since.
        #[arg(long, value_name = "ETAG")]
        if_match: String,
        /// The evidence that you saw; void if anything worse became known since.
        #[arg(long, value_name = "NAME")]
        evidence: String,
        #[command(flatten)]
        args: ApproveArgs,
    },
    /// To let a wave pass that its gate holds for want of samples.
    Expand {
        /// The wave's name or number, as it was asked for.
        wave: String,
        /// The etag that you saw; void if anything was decided since.
        #[arg(long, value_name = "ETAG")]
        if_match: String,
        /// The evidence that you saw, of this hold: `waits:` of `tidegate status` names it.
        #[arg(long, value_name = "NAME")]
        evidence: String,
        #[command(flatten)]
        args: ApproveArgs,
    },
    /// To judge waves under the emergency profile.
    Emergency {
        #[command(flatten)]
        which: WhichEmergency,
        /// The etag that you saw; void if anything was decided since.
        #[arg(long, value_name = "ETAG")]
        if_match: String,
        /// The evidence that you saw: `waits:` of `tidegate status` names it.
        #[arg(long, value_name = "NAME")]
        evidence: String,
        #[command(flatten)]
        args: ApproveArgs,
    },
    /// To let a worker back in.
    Accept {
        /// The node.
        node: String,
        /// The etag that you saw; void if anything was decided since.
        #[arg(long, value_name = "ETAG")]
        if_match: String,
        /// The evidence that you saw; void if anything worse became known since.
        #[arg(long, value_name = "NAME")]
        evidence: String,
        #[command(flatten)]
        args: ApproveArgs,
    },
}

/// The log of who did and looked at what.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Read the log from first to last record, and compare it with what was anchored elsewhere.
    /// It may run while the coordinator does.
    Verify {
        /// The log: `audit.jsonl` in the coordinator's `data_dir`.
        log: PathBuf,
        /// Where it was anchored: the file of `[audit]`, or any program's log that has them.
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
        /// The public part of the key of `[audit]`: `audit.pub` of `tidegate init`.
        #[arg(long, value_name = "FILE", requires = "anchors")]
        key: Option<PathBuf>,
        /// How to show it.
        #[arg(short, long, value_enum, default_value = "table")]
        output: TableOrJson,
    },
}

/// Who gives leave, why, and for how long.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// Why, for the record.
    #[arg(long)]
    pub(crate) reason: String,
    /// For how long, at most a day.
    #[arg(long, value_name = "MINUTES", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    pub(crate) minutes: u32,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
}

/// The longest that a lab's certificate lasts.
const DAYS_MAX: i64 = 825;

/// Make an authority and certificates for a lab.
///
/// For a provider's own authority the runbook says which names certificates must have.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where: a new directory, which nobody else may read.
    pub(crate) dir: PathBuf,
    /// What stands in the certificates after `spiffe://`.
    #[arg(long, value_name = "NAME", default_value = "tidegate.example")]
    pub(crate) trust_domain: String,
    /// A host name or address under which the coordinator is called; once for each.
    #[arg(long, value_name = "HOST", default_values = ["localhost", "127.0.0.1"])]
    pub(crate) host: Vec<String>,
    /// A storage node, whose worker gets a certificate; once for each.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Vec<String>,
    /// A mail exchanger; once for each.
    #[arg(long, value_name = "NAME")]
    pub(crate) exchanger: Vec<String>,
    /// Somebody who reads how far it is; once for each, as for all that follow.
    #[arg(long, value_name = "NAME")]
    pub(crate) viewer: Vec<String>,
    /// Somebody who answers users.
    #[arg(long, value_name = "NAME")]
    pub(crate) desk: Vec<String>,
    /// Somebody who moves the rollout.
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: Vec<String>,
    /// Somebody who approves what an operator asks for.
    #[arg(long, value_name = "NAME")]
    pub(crate) approver: Vec<String>,
    /// How long they last.
    #[arg(
        long,
        default_value_t = 90,
        value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX)
    )]
    pub(crate) days: u32,
    /// Adds certificates to the authority that DIR has already; also for whom the files were taken
    /// away, the coordinator among them, to renew them.
    #[arg(long)]
    pub(crate) add: bool,
}
