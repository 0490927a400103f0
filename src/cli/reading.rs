//! What commands that read are asked: they change nothing.
//!
//! # Invariants
//!
//! * Every one says how to show it, for people and for programs, where there is more than one way.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use tidegate_core::share::Ppm;
use tidegate_core::time::Span;

use super::values::{Of, of_share, of_span, of_times, positive, seconds, share};
use super::{
    Actor, Asked, Coordinator, Dialect, Form, Inputs, LiveFormat, PartKind, Progress,
    Seen, TableOrJson,
};
use crate::condition::Condition;

/// Show how far it is and what to do.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    /// Ends with 2 when it is stopped and needs a person, with 4 when that cannot be told.
    #[arg(long)]
    pub(crate) test: bool,
    /// Shows only the waves and nodes that need somebody, and ends with 1 if there are any.
    #[arg(short = 'x', long, conflicts_with = "test")]
    pub(crate) trouble: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Play the whole rollout in virtual time, by the code that decides the real one; changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// A share of mailboxes cannot be read once it is open: `0.2%` of all, `stor-17=30%` of one
    /// node. May be given several times.
    #[arg(long = "fail", value_name = "[NODE=]SHARE", value_parser = of_share)]
    pub(crate) fails: Vec<Of<Ppm>>,
    /// A node verifies and opens so many times slower: `stor-03=4x`. May be given several times.
    #[arg(long = "slow", value_name = "NODE=TIMES", value_parser = of_times)]
    pub(crate) slow: Vec<Of<f64>>,
    /// A node falls silent for good so long after the start: `stor-09=3h`. May be given several
    /// times.
    #[arg(long = "lose", value_name = "NODE=TIME", value_parser = of_span)]
    pub(crate) lost: Vec<Of<Span>>,
    /// The share of mailboxes that are set aside for a person when they are verified.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    pub(crate) set_aside: Ppm,
    /// How many mailboxes a node verifies and repairs in a second: the speed of its disk over
    /// twice the size of a mailbox.
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = positive)]
    pub(crate) prepare_rate: f64,
    /// How much nodes differ from that by chance, up or down.
    #[arg(long, value_name = "SHARE", default_value = "20%", value_parser = share)]
    pub(crate) spread: Ppm,
    /// How much slower a node becomes for minutes at a time, by chance.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    pub(crate) drift: Ppm,
    /// How many rollouts to play.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) runs: u32,
    /// Begins no further one after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) within: Duration,
    /// What chance begins with: the same number gives the same rollouts.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
}

/// Follow it live.
///
/// On a terminal it is a screen, and `?` lists its keys; elsewhere five lines, once a minute, and a
/// line for each change between them.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: LiveFormat,
    /// Returns when this is so: as for `tidegate wait --for`.
    #[arg(long, value_name = "CONDITION")]
    pub(crate) until: Option<Condition>,
    /// Gives up after so many seconds, with 5.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Lets keys of the screen resume and re-close, once they are armed; pausing needs nothing.
    #[arg(long, visible_alias = "armed")]
    pub(crate) allow_actions: bool,
    /// Draws the screen with ASCII alone.
    #[arg(long)]
    pub(crate) ascii: bool,
    /// Prints lines on a terminal too.
    #[arg(long)]
    pub(crate) no_tui: bool,
    /// Keeps what is shown in FILE, which must not be there yet.
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub(crate) record: Option<PathBuf>,
    /// Shows a recording again; asks no coordinator.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["until", "timeout", "allow_actions"])]
    pub(crate) replay: Option<PathBuf>,
    /// How many times faster to show it.
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = positive, requires = "replay")]
    pub(crate) speed: f64,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Show what happened, oldest first.
#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Sum up what came back and what did not.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Report {
    #[command(subcommand)]
    pub(crate) verb: Option<ReportVerb>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// A report that others can verify.
#[derive(Debug, Subcommand)]
pub(crate) enum ReportVerb {
    /// Write down, when the rollout is over, what was restored and lost, when and by whom.
    Build(Box<ReportBuild>),
    /// Say whether a report is as it was built. It asks no coordinator.
    Verify(ReportVerify),
}

/// Write a report: a directory that proves what a rollout has brought back.
///
/// It names people: treat it like mail. Whoever keeps its digest elsewhere, or signs it, can show
/// later that nothing of it was changed.
#[derive(Debug, Args)]
pub(crate) struct ReportBuild {
    /// Where: a new directory.
    pub(crate) dir: PathBuf,
    /// The log of who did and looked at what: `audit.jsonl` in the coordinator's `data_dir`.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,
    /// The coordinator's journal, as `tidegate journal export` wrote it.
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// All findings of a node, as `tidegate findings export` wrote them; once for each node.
    #[arg(long, value_name = "FILE")]
    pub(crate) findings: Vec<PathBuf>,
    /// When the outage began, as you declare it: `2026-01-22T23:04:00+01:00`. Says how long each
    /// tier waited for each service.
    #[arg(long, value_name = "TIME")]
    pub(crate) outage_start: Option<jiff::Timestamp>,
    /// Rules in TOML of who is owed what. Says for each mailbox what it waited and is owed.
    #[arg(long, value_name = "FILE", requires = "outage_start")]
    pub(crate) compensation: Option<PathBuf>,
    /// Which program `outage.csv` and `compensation.csv` are for.
    #[arg(long, value_enum, default_value = "standard", requires = "outage_start")]
    pub(crate) dialect: Dialect,
    /// The file of the public status page: what was said in public becomes part of it.
    #[arg(long, value_name = "FILE")]
    pub(crate) said: Option<PathBuf>,
    /// Signs it with this private key (Ed25519, PEM): `audit.key` of `tidegate init`, or your own.
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_with: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Say whether a report is as it was built, and whether its sums are those of its rows.
///
/// Ends with 0 when all is sound, with 1 when anything is not.
#[derive(Debug, Args)]
pub(crate) struct ReportVerify {
    /// The report's directory.
    pub(crate) dir: PathBuf,
    /// The digest that `report build` printed, kept apart from the report.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) digest: Option<String>,
    /// The public part of the key that it was signed with.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Plans again from this inventory and policy, and compares digests.
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub(crate) inventory: Option<PathBuf>,
    /// The policy for that.
    #[arg(long, value_name = "FILE", requires = "inventory")]
    pub(crate) policy: Option<PathBuf>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    #[command(flatten)]
    pub(crate) progress: Progress,
}

/// Look up one mailbox.
#[derive(Debug, Subcommand)]
pub(crate) enum Mailbox {
    /// List mailboxes of the inventory, in its order.
    List(MailboxList),
    /// Show one mailbox: how far it is, why it waits, what was found.
    Show(MailboxShow),
}

/// Show one mailbox.
#[derive(Debug, Args)]
pub(crate) struct MailboxShow {
    /// Its owner's address.
    pub(crate) address: String,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// How far the bytes of a mailbox are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PreparationArg {
    /// Not yet verified.
    Waiting,
    /// Verified and repaired.
    Prepared,
    /// Set aside for a person.
    Quarantined,
}

/// List mailboxes.
#[derive(Debug, Args)]
pub(crate) struct MailboxList {
    #[command(flatten)]
    pub(crate) form: Form,
    /// Only this node.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) node: String,
    /// Only this wave.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) wave: String,
    /// Only those so far.
    #[arg(long, value_enum)]
    pub(crate) bytes: Option<PreparationArg>,
    /// Only those that are open for something.
    #[arg(long, conflicts_with = "held")]
    pub(crate) open: bool,
    /// Only those that are not.
    #[arg(long)]
    pub(crate) held: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Look at the waves.
#[derive(Debug, Subcommand)]
pub(crate) enum WaveVerb {
    /// List the waves, in the order in which they open.
    List(PartList),
}

/// Look at the nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// List the nodes, by name.
    List(PartList),
}

/// Look at the gates.
#[derive(Debug, Subcommand)]
pub(crate) enum GateVerb {
    /// List what each signal of each wave's gate has counted, and where it passes and trips.
    List(GateList),
}

/// List the signals of gates.
#[derive(Debug, Args)]
pub(crate) struct GateList {
    /// Only of this wave: its name or number.
    pub(crate) wave: Option<String>,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// List parts of the rollout.
///
/// With `-x` it ends with 1 when there is one to list.
#[derive(Debug, Args)]
pub(crate) struct PartList {
    #[command(flatten)]
    pub(crate) form: Form,
    /// Only those that need somebody: nodes that do not work, waves that are re-closed, or that
    /// the gate stops.
    #[arg(short = 'x', long)]
    pub(crate) trouble: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// List what was set aside, and have mailboxes tried again.
#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// List mailboxes and messages that wait for a person, with the reason.
    List(QuarantineList),
    /// Have a mailbox that was set aside as a whole verified and repaired anew.
    Retry(QuarantineRetry),
}

/// Have a mailbox tried again that was set aside as a whole, once its cause is mended.
///
/// It is verified and repaired anew, and opens with its wave if it is whole then. Held mailboxes of
/// its job are looked at again with it. Whatever is set aside anew is listed again.
#[derive(Debug, Args)]
pub(crate) struct QuarantineRetry {
    /// Its owner's address.
    pub(crate) address: String,
    /// What was mended, for the record.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) seen: Seen,
}

/// List what was set aside.
#[derive(Debug, Args)]
pub(crate) struct QuarantineList {
    #[command(flatten)]
    pub(crate) form: Form,
    /// Only this node.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Wait until something is so, for scripts.
///
/// Ends with 0 when it is so, with 5 when the time is over, with 2 when the gate has stopped the
/// rollout meanwhile, and with 1 when it is over and so it cannot come any more.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// `finished`; a state of the rollout (`paused`); `wave=NAME:STATE` (`opening`, `passed`, or
    /// `open` once a mailbox of it is); `node=NAME:STATE` (`working`); `gate=WAVE:VERDICT` (`hold`).
    #[arg(long = "for", value_name = "CONDITION")]
    pub(crate) condition: Condition,
    /// Gives up after so many seconds, with 5.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Say why something waits, and what to do.
#[derive(Debug, Args)]
pub(crate) struct WhyOf {
    /// The kind of part; without it, the rollout itself.
    #[arg(value_enum, requires = "name")]
    pub(crate) part: Option<PartKind>,
    /// The part's name.
    pub(crate) name: Option<String>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
}

/// Say what a word means and what to do: a reason code, an alert, a metric, a setting. It talks to
/// nobody.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The word, as it was shown.
    pub(crate) word: String,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Write the manual pages, and the journal's catalogue of messages.
#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// Into this directory, which must be there.
    pub(crate) dir: PathBuf,
}

/// Print the JSON Schema of what commands print with `-o json` and `-o jsonl`.
///
/// Every document names its own in the field `schema`. A schema only grows: new fields may come,
/// none is renamed or dropped under the same version.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Of which document: `tidegate.status/v1`, or `status`. Without it, lists all there are.
    pub(crate) name: Option<String>,
    /// Writes each into a file of its own in this directory, which must be there, and those of
    /// configuration files too.
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    pub(crate) to: Option<PathBuf>,
}
