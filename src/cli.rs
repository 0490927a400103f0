//! Command line: what can be asked for, and how.
//!
//! # Invariants
//!
//! * Verbs are commands, nouns are in configuration; what reads never changes anything.
//! * A wrong command line ends with 64 and changes nothing.

mod emergency;
mod form;
mod page;
mod planning;
mod reading;
mod settings;
mod trust;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_core::share::Ppm;

pub(crate) use emergency::{BeginEmergency, Emergency, EndEmergency, WhichEmergency};
pub(crate) use form::{Dialect, Form, Format};
pub(crate) use page::{Desk, DeskLookup, Notice, Said, StatusPage, StatusPageBuild};
pub(crate) use planning::{Apply, Beside, Inputs, Plan, Rebuild, Show, Start};
pub(crate) use reading::{
    Completions, Events, Explain, GateList, GateVerb, Mailbox, MailboxList, MailboxShow,
    Manual, NodeVerb, PartList, PreparationArg, Quarantine, QuarantineList,
    QuarantineRetry, Report, ReportBuild, ReportVerb, ReportVerify, Schema, Simulate,
    Status, Wait, Watch, WaveVerb, WhyOf,
};
pub(crate) use settings::{
    Config, ConfigCheck, ConfigFile, ConfigSchema, ConfigShow, FileKind,
};
pub(crate) use trust::{Approve, ApproveArgs, Audit, Credentials, Init};
pub(crate) use values::{Fault, Of};
use values::{fault, share};

/// Where a coordinator listens if nobody says otherwise.
pub(crate) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7443);

/// Its version, with the commit where it is built from one.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("TIDEGATE_BUILT_FROM"));

const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}{after-help}

Options:
{options}";

/// The verbs, by what they are for. A test holds it against the commands there are.
const VERBS: &str = "\
Try it:
  lab          Break a throwaway provider and watch it come back

Plan and start:
  plan         Show what would open, in which waves; changes nothing
  show         Show a saved plan, and whether it can still be started
  simulate     Play the whole rollout in virtual time; changes nothing
  start        Start the rollout of a saved plan, once
  apply        Plan and start in one step, for scripts

Watch:
  status       Show how far it is and what to do
  watch        Follow it live
  events       Show what happened, oldest first
  report       Sum up what came back and what did not; build and verify a proof of it
  wait         Wait until something is so
  why          Say why something waits, and what to do
  explain      Say what a word means and what to do
  wave         List the waves
  node         List the nodes
  gate         List what gates have counted, signal by signal
  mailbox      Look up mailboxes
  quarantine   List what was set aside for a person, have it tried again
  findings     Export everything found on a storage node
  desk         Say what a user may be told of a mailbox
  status-page  Write the public status page as static files
  notice       Show what the public would read, hold it against the records

Stop and go on:
  pause        Stop opening
  freeze       Stop opening until a second person thaws it
  thaw         Let go of a freeze of somebody else
  resume       Go on, or let a re-closed part open again
  reclose      Put opened mailboxes back behind admission
  expand       Let a wave pass that its gate holds for want of samples
  emergency    Judge waves under the emergency profile for some hours
  abort        End the rollout; what is open stays open
  approve      Give somebody else leave to start or to go on
  accept       Let a worker back in that was turned away
  rebuild      Make a rollout again whose journal is gone

Run:
  init         Make certificates for a lab
  coordinator  Run the coordinator
  worker       Run the worker of a storage node
  mx           Run beside a mail exchanger
  solo         Run both in one process, for one machine
  doctor       Check an installation; changes nothing
  config       Check, show or explain configuration files and policies
  journal      Check or export a journal
  audit        Check who did and looked at what
  manifest     Record what mailboxes hold while all is well
  schema       Print the JSON Schema of what programs are told
  completions  Print completions for a shell
  manual       Write the manual pages and the journal's catalogue

Exit status: 0 done, 1 failed, 2 stopped or changes, 3 refused, 4 stale, 5 timed out,
6 finished with mailboxes set aside or still held, 64 usage, 65 input,
69 coordinator unreachable, 70 fault of this program, 74 a disk is full or broken,
75 try later, 77 not allowed, 78 configuration, 130 Ctrl-C, 141 nobody reads.";

/// Brings the mailboxes of a broken mail provider back, wave by wave.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version = VERSION,
    help_template = TEMPLATE,
    after_help = VERBS,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Break a throwaway provider and watch it come back.
    Lab(Lab),
    /// Show what would open, in which waves; changes nothing.
    Plan(Plan),
    /// Show a saved plan, and whether it can still be started; changes nothing.
    Show(Show),
    /// Play the whole rollout in virtual time; changes nothing.
    Simulate(Simulate),
    /// Start the rollout of a saved plan, once.
    Start(Start),
    /// Plan and start in one step, for scripts.
    Apply(Apply),
    /// Show how far it is and what to do.
    Status(Status),
    /// Follow it live.
    Watch(Watch),
    /// Show what happened, oldest first.
    Events(Events),
    /// Sum up what came back and what did not.
    Report(Report),
    /// Wait until something is so.
    Wait(Wait),
    /// Say why something waits, and what to do.
    Why(WhyOf),
    /// Say what a word means and what to do: a reason code, an alert, a metric, a setting.
    Explain(Explain),
    /// List the waves.
    #[command(subcommand)]
    Wave(WaveVerb),
    /// List the nodes.
    #[command(subcommand)]
    Node(NodeVerb),
    /// List what gates have counted, signal by signal.
    #[command(subcommand)]
    Gate(GateVerb),
    /// Look up mailboxes.
    #[command(subcommand)]
    Mailbox(Mailbox),
    /// List what was set aside for a person, and have mailboxes tried again.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Export everything found on a storage node.
    #[command(subcommand)]
    Findings(Findings),
    /// Say what a user may be told of a mailbox.
    #[command(subcommand)]
    Desk(Desk),
    /// Write the public status page as static files.
    #[command(subcommand)]
    StatusPage(StatusPage),
    /// Show what the public would read just now, and hold it against the records.
    #[command(subcommand)]
    Notice(Notice),
    /// Stop opening.
    Pause(Pause),
    /// Stop opening until a second person thaws it.
    Freeze(Freeze),
    /// Let go of a freeze of somebody else; the rollout stays paused.
    Thaw(Thaw),
    /// Go on, or let a re-closed part open again.
    Resume(Resume),
    /// Put opened mailboxes back behind admission, keeping all that arrived.
    Reclose(Reclose),
    /// Let a wave pass the level that it stands on although its gate holds it for want of samples.
    Expand(Expand),
    /// Judge waves under the emergency profile of the policy for some hours, or no longer.
    #[command(subcommand)]
    Emergency(Emergency),
    /// End the rollout; what is open stays open.
    Abort(Abort),
    /// Give somebody else leave to start or to go on.
    #[command(subcommand)]
    Approve(Approve),
    /// Let a worker back in that was turned away, because its node was put back to an older
    /// state or was left out of a rebuild.
    Accept(Accept),
    /// Make a rollout again, from what the workers hold, whose journal is gone.
    Rebuild(Rebuild),
    /// Make an authority and certificates for a lab.
    Init(Init),
    /// Run the coordinator.
    Coordinator(Daemon),
    /// Run the worker of a storage node.
    Worker(Daemon),
    /// Run beside a mail exchanger: say where mail goes now, and drain its queue.
    Mx(Daemon),
    /// Run coordinator and one worker in one process, for one machine.
    Solo(Daemon),
    /// Check a whole installation, and say what to do; changes nothing.
    Doctor(Doctor),
    /// Check, show or explain configuration files and policies.
    #[command(subcommand)]
    Config(Config),
    /// Check, export or repair a journal.
    #[command(subcommand)]
    Journal(Journal),
    /// Check the log of who did and looked at what.
    #[command(subcommand)]
    Audit(Audit),
    /// Record what mailboxes hold while all is well.
    #[command(subcommand)]
    Manifest(Manifest),
    /// Print the JSON Schema of what commands print with `-o json` and `-o jsonl`.
    Schema(Schema),
    /// Print completions for a shell.
    Completions(Completions),
    /// Write the manual pages, and the journal's catalogue.
    Manual(Manual),
}

/// Which coordinator to talk to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Coordinator {
    /// The coordinator's address.
    #[arg(
        long = "coordinator",
        value_name = "URL",
        env = "TIDEGATE_COORDINATOR",
        default_value = "http://127.0.0.1:7443"
    )]
    pub(crate) url: String,
    /// The context of `~/.config/tidegate/config.toml` that names coordinator and certificate.
    #[arg(long, value_name = "NAME", env = "TIDEGATE_CONTEXT")]
    pub(crate) context: Option<String>,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
}

impl fmt::Display for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.context {
            Some(name) => write!(f, "{name} ({})", self.url),
            None => f.write_str(&self.url),
        }
    }
}

/// Who acts.
#[derive(Clone, Debug, Args)]
pub(crate) struct Actor {
    /// Your name, for the record; your login name if you give none.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
}

impl Actor {
    /// Who it is, for the record.
    pub(crate) fn name(&self) -> String {
        let login = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
        self.by.clone().or_else(login).unwrap_or_else(|| "unknown".to_owned())
    }
}

/// Under which id something is asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asked {
    /// What to call this request; the same one under the same id is done once. A random id if
    /// you give none.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
}

/// How it is shown how far something is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Progress {
    /// How to show how far it is, on stderr.
    #[arg(long = "progress", value_name = "HOW", value_enum, default_value = "auto")]
    pub(crate) form: ProgressForm,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// A bar on a terminal, elsewhere a line every ten seconds.
    Auto,
    /// A bar.
    Bar,
    /// A line every ten seconds, and one at the end.
    Counter,
    /// Not at all.
    None,
}

/// What must not have changed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Seen {
    /// Refuses with 4 if anybody has decided anything since `tidegate status` showed this etag;
    /// without it, since this command began.
    #[arg(long, value_name = "ETAG")]
    pub(crate) if_match: Option<String>,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableOrJson {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// For people or for programs, as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LiveFormat {
    /// For people.
    Table,
    /// An object a line.
    Jsonl,
}

/// Break a throwaway provider and watch it come back.
#[derive(Clone, Debug, Args)]
pub(crate) struct Lab {
    /// How many mailboxes.
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) mailboxes: u32,
    /// Over how many storage nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) nodes: u32,
    /// Mean messages for each mailbox.
    #[arg(long, default_value_t = 20)]
    pub(crate) messages: u32,
    /// Equal seeds make equal providers.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The share of live messages that the storm hits.
    #[arg(long, value_name = "SHARE", default_value = "8%", value_parser = share)]
    pub(crate) damage: Ppm,
    /// Builds in DIR, which must be empty, and leaves everything there.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// What goes wrong later: `none`, `node:NAME=SHARE` (opened mailboxes of a node fail),
    /// `all=SHARE` (of every node), `kill=TIMES` (a program dies by kill -9 and comes back).
    #[arg(long, default_value = "none", value_parser = fault)]
    pub(crate) fault: Fault,
}

/// Let a worker back in that was turned away.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The node.
    pub(crate) node: String,
    /// Why, for the record.
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

/// Let a wave pass the level that it stands on although its gate holds it for want of samples.
/// Never where a worker is silent, a node is missing or anything has tripped.
#[derive(Debug, Args)]
pub(crate) struct Expand {
    /// The wave's name or number.
    pub(crate) wave: String,
    /// Why, for the record.
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

/// Everything found on a storage node.
#[derive(Debug, Subcommand)]
pub(crate) enum Findings {
    /// Write the complete lists of this node, which no report cuts short. Run it on the node,
    /// beside the worker or without it.
    Export(FindingsExport),
}

/// Export everything found on a storage node.
#[derive(Debug, Args)]
pub(crate) struct FindingsExport {
    /// The worker's configuration, or that of `solo`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// How to write it.
    #[arg(
        short,
        long = "output",
        visible_alias = "format",
        value_enum,
        default_value = "jsonl"
    )]
    pub(crate) output: ExportFormat,
    /// Which program CSV is for.
    #[arg(long, value_enum, default_value = "standard")]
    pub(crate) dialect: Dialect,
    /// Only this mailbox.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mailbox: Option<String>,
    /// Only mailboxes of this grade or a worse one.
    #[arg(long, value_enum)]
    pub(crate) grade: Option<GradeArg>,
}

/// For programs or for spreadsheets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// An object a line.
    Jsonl,
    /// For spreadsheets: RFC 4180, with a header.
    Csv,
}

/// How well a mailbox came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GradeArg {
    /// All mail is there; harmless doubts.
    Good,
    /// All mail is there; decisions to look at.
    Investigate,
    /// Some mail is not served.
    Poor,
}

/// What mailboxes hold, recorded while all is well.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifest {
    /// Read mailboxes and record a digest of every message; changes no mail. The worker must not
    /// be running.
    Make(NodeMailboxes),
    /// Take over digests recorded elsewhere, as `sha256sum` and `b3sum` write them, of Maildirs.
    /// The worker must not be running.
    ///
    /// Not of sdbox and mdbox: there a file is not a message. A file of sdbox has Dovecot's own
    /// header and metadata around the message, and one of mdbox has many messages and is written
    /// anew by a purge, so that the digest of a file says nothing that stays true of a message.
    /// Use `tidegate manifest make` for them, which records each message under its GUID.
    Import(ManifestImport),
    /// Compare mailboxes with what was recorded of them; changes nothing. The worker must not be
    /// running.
    Verify(NodeMailboxes),
}

/// Which mailboxes of a storage node.
#[derive(Debug, Args)]
pub(crate) struct NodeMailboxes {
    /// The worker's configuration, or that of `solo`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The user base: only the mailboxes of this node in it. Without it, every mailbox found
    /// below the mail root.
    #[arg(long, value_name = "FILE")]
    pub(crate) inventory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) progress: Progress,
}

/// Digests recorded elsewhere.
#[derive(Debug, Args)]
pub(crate) struct ManifestImport {
    #[command(flatten)]
    pub(crate) mailboxes: NodeMailboxes,
    /// What the digests are; nothing in the list tells.
    #[arg(long, value_enum)]
    pub(crate) digest: ImportDigest,
    /// The list: a digest and a path below the mail root on each line, the files of one mailbox
    /// together.
    pub(crate) list: PathBuf,
}

/// What digests made elsewhere are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportDigest {
    /// SHA-256, of `sha256sum`.
    Sha256,
    /// BLAKE3, of `b3sum`.
    Blake3,
}

/// Stop opening.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Why, for the record.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Returns when the stop is recorded, before every node obeys it.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// A node that a rebuild shall not wait for: it ends, paused; once for each.
    #[arg(long, value_name = "NODE")]
    pub(crate) without: Vec<String>,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// Stop opening until a second person thaws it. Nobody resumes it before that.
#[derive(Debug, Args)]
pub(crate) struct Freeze {
    /// Why, for the record.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Returns when the stop is recorded, before every node obeys it.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// Let go of a freeze of somebody else; the rollout stays paused until it is resumed.
#[derive(Debug, Args)]
pub(crate) struct Thaw {
    /// Why, for the record.
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

/// The kinds of parts a rollout has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PartKind {
    /// A wave, by name or number.
    Wave,
    /// A node, by name.
    Node,
    /// A mailbox, by address.
    Mailbox,
}

/// Go on, or let a re-closed part open again.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// The kind of part; without it, the rollout itself goes on.
    #[arg(value_enum, requires = "name")]
    pub(crate) part: Option<PartKind>,
    /// The part's name.
    pub(crate) name: Option<String>,
    /// A node that a rebuild shall not wait for, or whose doubt about the journal is wrong; once
    /// for each.
    #[arg(long, value_name = "NODE")]
    pub(crate) without: Vec<String>,
    /// Why, for the record.
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

/// Put opened mailboxes back behind admission.
#[derive(Debug, Args)]
pub(crate) struct Reclose {
    /// The kind of part.
    #[arg(value_enum)]
    pub(crate) part: PartKind,
    /// The part's name.
    pub(crate) name: String,
    /// Why, for the record.
    #[arg(long)]
    pub(crate) reason: String,
    /// Waits until none of it is open.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) seen: Seen,
}

/// End the rollout.
#[derive(Debug, Args)]
pub(crate) struct Abort {
    /// Why, for the record.
    #[arg(long)]
    pub(crate) reason: String,
    /// Does not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) coordinator: Coordinator,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) seen: Seen,
}

/// A program that runs until it is stopped.
#[derive(Debug, Args)]
pub(crate) struct Daemon {
    /// Its configuration: TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Stops when stdin ends, so that it cannot outlive who started it.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// Check a whole installation, and say what to do; changes nothing.
///
/// Ends with 0 when nothing is wrong, though something may be doubtful, and with 1 when a check
/// has failed.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// `worker.toml`, `mx.toml`, `coordinator.toml` or `solo.toml`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// How to show it.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: TableOrJson,
    /// On a mail exchanger: a mailbox that is held, to try with. It gets no mail.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) held: Option<String>,
    /// On a mail exchanger: where Postfix takes mail.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:25")]
    pub(crate) smtp: SocketAddr,
}

/// Check or export a journal that no program has open.
#[derive(Debug, Subcommand)]
pub(crate) enum Journal {
    /// Read a journal from first to last record and check each.
    Verify {
        /// The journal's directory.
        dir: PathBuf,
        /// How to show it.
        #[arg(short, long, value_enum, default_value = "table")]
        output: TableOrJson,
    },
    /// Write a journal as one line of JSON for each record.
    Export {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// Save the sound part of a damaged journal to a new one beside it.
    Repair {
        /// The journal's directory.
        dir: PathBuf,
        /// Write it; without this only what would be kept and lost is shown.
        #[arg(long)]
        yes: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Cli, VERBS};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_every_verb_and_no_other() {
        let named: Vec<&str> = VERBS
            .lines()
            .take_while(|line| !line.starts_with("Exit status"))
            .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
            .collect();
        let mut missing: Vec<String> = Cli::command()
            .get_subcommands()
            .map(|verb| verb.get_name().to_owned())
            .collect();
        let count = missing.len();
        missing.retain(|verb| !named.contains(&verb.as_str()));

        assert_eq!((missing, named.len()), (Vec::new(), count));
    }
}
