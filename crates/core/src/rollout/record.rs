//! What happens to a rollout, what is remembered of it, and what is refused.

use crate::fleet::{Generation, Incarnation, JobNumber, MailboxNumber, NodeNumber};
use crate::fleet::{Ordinal, WaveNumber};
use crate::gate::{Evidence, HaltReason, IsolateReason, Pulses};
use crate::mailbox::{Level, MailboxState};
use crate::pace::PaceReport;
use crate::share::Ppm;
use crate::time::{Span, Timestamp};

use super::{Etag, Finding, KeptBack, MessageTotals, RequestId};

/// What a coordinator remembers. Replaying these, in order, is the only recovery.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A worker took up its node.
    NodeJoined {
        /// The node.
        node: NodeNumber,
        /// The run of the worker.
        incarnation: Incarnation,
        /// How many records its journal had; 0 from a worker that is too old to tell.
        journaled: u64,
        /// When.
        at: Timestamp,
    },
    /// A job was given to the worker of its node; the generation is issued by this record.
    JobLeased {
        /// The job.
        job: JobNumber,
        /// The worker's run.
        incarnation: Incarnation,
        /// The fencing number of this lease.
        generation: Generation,
        /// When.
        at: Timestamp,
    },
    /// A worker reported facts about a job under its current generation.
    FactsReported {
        /// The job.
        job: JobNumber,
        /// The lease under which they were found.
        generation: Generation,
        /// The report's place among those of the worker's run: older ones that come late,
        /// even after a restart of the coordinator, are told by it.
        sequence: u64,
        /// How many records the worker's journal had; 0 if it is too old to tell.
        journaled: u64,
        /// States of the mailboxes of which something is new, after merging.
        facts: Vec<(Ordinal, MailboxState)>,
        /// Messages of the job so far.
        totals: MessageTotals,
        /// All that a person should know about these mailboxes; it replaces what was told
        /// of them before.
        findings: Vec<Finding>,
        /// When.
        at: Timestamp,
    },
    /// A wave was allowed to open a level.
    LevelAllowed {
        /// The wave.
        wave: WaveNumber,
        /// The level.
        level: Level,
        /// When.
        at: Timestamp,
    },
    /// The gate let a wave pass a level. Recomputes from its evidence.
    Expanded {
        /// What was known.
        evidence: Evidence,
        /// When.
        at: Timestamp,
    },
    /// Somebody let a wave pass a level although its gate held it. Recomputes from its evidence:
    /// it was a hold for want of samples.
    Overridden {
        /// Who, why, when.
        action: Action,
        /// What was known.
        evidence: Evidence,
    },
    /// The gate took one node out. Recomputes from its evidence.
    NodeIsolated {
        /// The node.
        node: NodeNumber,
        /// Why.
        reason: IsolateReason,
        /// What was known.
        evidence: Evidence,
        /// When.
        at: Timestamp,
    },
    /// The gate stopped the rollout. Recomputes from its evidence.
    Halted {
        /// Why.
        reason: HaltReason,
        /// What was known.
        evidence: Evidence,
        /// When.
        at: Timestamp,
    },
    /// Somebody paused the rollout.
    Paused(Action),
    /// Somebody froze the rollout: it is paused, and nobody resumes it before somebody else has
    /// thawed it.
    Frozen(Action),
    /// Somebody else than who froze the rollout let go of that; it stays paused.
    Thawed(Action),
    /// Somebody let the rollout, or a part of it that was re-closed, go on.
    Resumed {
        /// Who, why, when.
        action: Action,
        /// The part; nothing for the rollout itself.
        scope: Option<Scope>,
    },
    /// Somebody ended the rollout; what is open stays open.
    Aborted(Action),
    /// Somebody put waves under the policy's emergency profile.
    EmergencyBegun {
        /// Who, why, when.
        action: Action,
        /// The wave; nothing for all.
        wave: Option<WaveNumber>,
        /// Until when, at the latest.
        until: Timestamp,
    },
    /// The emergency profile is no longer in force.
    EmergencyEnded {
        /// Who ended it; nobody if its time was up.
        by: Option<Action>,
        /// When.
        at: Timestamp,
    },
    /// Somebody put opened mailboxes back behind admission.
    Reclosed {
        /// Who, why, when.
        action: Action,
        /// The part.
        scope: Scope,
        /// The new generations of the jobs it touches.
        generations: Vec<(JobNumber, Generation)>,
    },
    /// Somebody had a mailbox that was set aside as a whole verified and repaired anew.
    Retried {
        /// Who, why, when.
        action: Action,
        /// The mailbox.
        mailbox: MailboxNumber,
        /// Its job.
        job: JobNumber,
        /// The new generation of that.
        generation: Generation,
    },
    /// Every wave stands on the top of the ladder.
    Finished {
        /// When.
        at: Timestamp,
    },
    /// The journal before this one is gone: everything must be learnt from the nodes.
    RebuildBegun(Action),
    /// A node told that its store has been claimed higher than anything was issued to it, as far
    /// as this journal knows.
    ClaimsFound {
        /// The node.
        node: NodeNumber,
        /// The highest generation.
        claimed: Generation,
        /// The newest orders that its worker has obeyed.
        orders_seen: u64,
        /// When.
        at: Timestamp,
    },
    /// A node whose state must be learnt told of mailboxes of one job.
    MailboxesFound {
        /// The worker's run.
        incarnation: Incarnation,
        /// How many records its journal had; 0 if it is too old to tell.
        journaled: u64,
        /// What it told, of mailboxes of which something is new.
        report: JobReport,
        /// Those that had been open at some time and are closed.
        reclosed: Vec<Ordinal>,
        /// When.
        at: Timestamp,
    },
    /// A node whose state must be learnt has told all of it.
    NodeRecounted {
        /// The node.
        node: NodeNumber,
        /// How many records its worker's journal had; 0 if that is too old to tell.
        journaled: u64,
        /// What it remembers that persons have re-closed and not resumed.
        kept_back: KeptBack,
        /// When.
        at: Timestamp,
    },
    /// What the nodes told is the state from here on.
    Rebuilt {
        /// Nodes that somebody left out.
        left_out: Vec<NodeNumber>,
        /// Who ended it, where no record beside it says so.
        by: Option<Action>,
        /// When.
        at: Timestamp,
    },
    /// Somebody let the worker of a node back in that had been turned away.
    NodeAccepted {
        /// Who, why, when.
        action: Action,
        /// The node.
        node: NodeNumber,
        /// The new generations of its jobs, under which everything is closed first.
        generations: Vec<(JobNumber, Generation)>,
    },
}

/// Who did something, why and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The operator's name as given by the client.
    pub by: String,
    /// The reason as given.
    pub reason: String,
    /// When it was recorded.
    pub at: Timestamp,
    /// What the client calls its request, if it does.
    pub request: Option<RequestId>,
    /// The second person, where one was needed.
    pub approved: Option<Approval>,
}

/// The word of a second person, by whose leave something was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Their name, which is not that of whoever did it.
    pub by: String,
    /// Why they gave it.
    pub reason: String,
}

/// A part of a rollout that can be re-closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A wave.
    Wave(WaveNumber),
    /// All mailboxes of a node.
    Node(NodeNumber),
    /// One mailbox.
    Mailbox(MailboxNumber),
}

/// What can happen to a rollout.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "an event is decided where it is made; nobody keeps many"
)]
pub enum Event {
    /// A worker asks to take up its node.
    Join(Join),
    /// A worker reports and asks for orders.
    Sync(Sync),
    /// An operator wants something.
    Operate(Operate),
    /// Time has passed.
    Tick,
}

/// A worker that asks to take up its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The node's name.
    pub node: String,
    /// The worker's run.
    pub incarnation: Incarnation,
    /// The highest generation its store has been claimed at.
    pub claimed_max: Generation,
    /// The newest orders that this run of it has obeyed; 0 if it has heard none.
    pub orders_seen: u64,
    /// How many records its journal has ever had; nothing from a worker that is too old to
    /// tell.
    pub journaled: Option<u64>,
    /// The highest generation that is kept beside the mail, which outlives the journal, or may
    /// be by now.
    pub store_claimed: Generation,
}

/// A worker's regular report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The node.
    pub node: NodeNumber,
    /// The worker's run.
    pub incarnation: Incarnation,
    /// Rises with every report of a run: one that comes after a newer one is not heard.
    pub sequence: u64,
    /// The newest orders it obeys.
    pub orders_obeyed: u64,
    /// The highest generation its store has been claimed at.
    pub claimed_max: Generation,
    /// Facts per job.
    pub reports: Vec<JobReport>,
    /// How it feels.
    pub vitals: Vitals,
    /// How this report stands to others; nothing from a worker that is too old to tell.
    pub account: Option<Account>,
}

/// How a report stands to what was told before, and to what is still to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The newest report whose answer it goes by; 0 if it goes by none.
    pub answered: u64,
    /// The newest report of its run that the coordinator has said to have on record, since it
    /// joined; 0 if it has said so of none.
    pub recorded: u64,
    /// Facts that the coordinator has not confirmed and that are not in this report.
    pub untold: u32,
    /// Mailboxes of the report that were open at some time and are closed, by job.
    pub reclosed: Vec<(JobNumber, Vec<Ordinal>)>,
    /// How many records the worker's journal has ever had; nothing if it is too old to tell.
    pub journaled: Option<u64>,
    /// What persons have re-closed and not resumed, as far as the worker remembers; nothing
    /// once the coordinator has said it, and from a worker that is too old to remember.
    pub kept_back: Option<KeptBack>,
    /// The highest generation that the store was claimed at when this run started, or in orders
    /// that it has heard since.
    pub store_claimed: Generation,
}

/// Facts about one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// The job.
    pub job: JobNumber,
    /// The lease it works under.
    pub generation: Generation,
    /// States of mailboxes, not necessarily all.
    pub facts: Vec<(Ordinal, MailboxState)>,
    /// Messages of the whole job so far.
    pub totals: MessageTotals,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// How a node feels, newest value each; not journaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Probes of opened mailboxes since the worker started.
    pub probes: u32,
    /// Of these, slower than the policy's limit.
    pub probes_slow: u32,
    /// Free share of the live file system.
    pub disk_free: Option<Ppm>,
    /// Median latency of the newest probes, microseconds.
    pub probe_micros: u32,
    /// Mailboxes that could not be read since the worker started, preparing or probing.
    pub read_errors: u32,
    /// How often the worker was kept from acting since it started: by a newer claim at the
    /// store, or because it woke after its lease had run out.
    pub fenced: u32,
    /// What its mail system has shown, minute by minute, since the worker started.
    pub pulses: Pulses,
    /// How fast it opens mailboxes now, and why; nothing before it knows.
    pub pace: Option<PaceReport>,
}

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operate {
    /// The operator.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What.
    pub verb: Verb,
    /// What the client calls its request: asked twice under one id, it is done once.
    pub request: Option<RequestId>,
    /// The decisions that the operator knew of; anything is known if they do not say.
    pub seen: Option<Etag>,
    /// Nodes that a rebuild shall not wait for; with [`Verb::Pause`] it ends without them and
    /// stays stopped.
    pub without: Vec<NodeNumber>,
    /// The second person, where one was needed.
    pub approved: Option<Approval>,
}

impl Operate {
    /// `by` wants `verb` because of `reason`, once, however the rollout stands.
    pub fn new(by: String, reason: String, verb: Verb) -> Self {
        let (request, seen, without, approved) = (None, None, Vec::new(), None);
        Self { by, reason, verb, request, seen, without, approved }
    }
}

/// The operator's verbs on a running rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Open nothing more until resumed.
    Pause,
    /// Open nothing more until somebody else has thawed it.
    Freeze,
    /// Let go of a freeze of somebody else; the rollout stays paused.
    Thaw,
    /// Go on; with a scope, let a re-closed part be verified and opened again.
    Resume(Option<Scope>),
    /// End the rollout; what is open stays open.
    Abort,
    /// Put opened mailboxes back behind admission.
    Reclose(Scope),
    /// Have a mailbox that was set aside as a whole verified and repaired anew.
    Retry(MailboxNumber),
    /// Let the worker of a node back in that was turned away, whatever it holds.
    Accept(NodeNumber),
    /// Let a wave pass the level that it stands on although its gate holds it.
    Expand(WaveNumber),
    /// Put a wave, or all, under the policy's emergency profile for so long.
    BeginEmergency {
        /// The wave; nothing for all.
        wave: Option<WaveNumber>,
        /// For how long.
        lasts: Span,
    },
    /// Go back to the policy's usual gates.
    EndEmergency,
}

/// What follows from an event.
#[derive(Debug, Default)]
pub struct Step {
    /// To be journaled, then applied, in order.
    pub records: Vec<Record>,
    /// Why the event was refused, if it was; then there are no records.
    pub refusal: Option<Refusal>,
}

/// Why something was not done. Nothing has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The node is not in the plan.
    #[error("no node `{node}` in this plan; its nodes are {known}")]
    UnknownNode {
        /// As named by the worker.
        node: String,
        /// The plan's nodes.
        known: String,
    },
    /// Another worker has the node.
    #[error(
        "node `{node}` already has a worker ({holder}), heard {heard_millis} ms ago; \
         stop it, or wait until its lease of {lease_millis} ms has run out"
    )]
    NodeTaken {
        /// The node.
        node: String,
        /// The other worker's run.
        holder: Incarnation,
        /// Milliseconds since it was heard.
        heard_millis: u64,
        /// The lease, milliseconds.
        lease_millis: u64,
    },
    /// The worker is not, or no longer, the one of its node.
    #[error(
        "{incarnation} is not the worker of node `{node}` any more; it must join again"
    )]
    NotTheWorker {
        /// The node.
        node: String,
        /// The worker's run.
        incarnation: Incarnation,
    },
    /// The store has been claimed at a generation this coordinator never issued.
    #[error(
        "node `{node}` was claimed at {claimed}, but this coordinator has issued only \
         {issued}: its journal is older than the fleet; restore the newest journal, or if \
         there is none, start with an empty data directory and `tidegate rebuild`"
    )]
    JournalTooOld {
        /// The node.
        node: String,
        /// The worker's highest claim.
        claimed: Generation,
        /// The coordinator's newest for this node.
        issued: Generation,
    },
    /// A worker has obeyed orders that this coordinator never gave.
    #[error(
        "node `{node}` has obeyed orders {obeyed}, but this coordinator has given only \
         {given}: its journal is older than the fleet; restore the newest journal, or if \
         there is none, start with an empty data directory and `tidegate rebuild`"
    )]
    OrdersTooOld {
        /// The node.
        node: String,
        /// The newest orders that the worker has obeyed.
        obeyed: u64,
        /// The coordinator's newest.
        given: u64,
    },
    /// A worker was told that more of its reports were on record than are.
    #[error(
        "this coordinator told node `{node}` that its report {told} was on record, but the \
         newest on record is {recorded}: an older copy of its journal was put back, without \
         what nodes had told since; they tell all of it anew, then `tidegate resume`"
    )]
    ReportsLost {
        /// The node.
        node: String,
        /// The newest that the worker was told of.
        told: u64,
        /// The newest on record.
        recorded: u64,
    },
    /// The worker knows less than it has told before.
    #[error(
        "the worker of node `{node}` knows of claims up to {claimed}, but has told of \
         {told} before: its journal or its disk was put back to an older state; if that is \
         meant, `tidegate accept {node}` closes its mailboxes and verifies them anew"
    )]
    WorkerTooOld {
        /// The node.
        node: String,
        /// The worker's highest claim.
        claimed: Generation,
        /// The highest one it has told facts under.
        told: Generation,
    },
    /// A worker's journal has fewer records than it had when it last told facts.
    #[error(
        "the journal of the worker of node `{node}` has {records} records and had {told} \
         before: it or its disk was put back to an older state; if that is meant, \
         `tidegate accept {node}` closes its mailboxes and verifies them anew"
    )]
    WorkerJournalTooOld {
        /// The node.
        node: String,
        /// Records that there are.
        records: u64,
        /// Records that there were.
        told: u64,
    },
    /// The node was left out of a rebuild.
    #[error(
        "node `{node}` was left out when the rollout was rebuilt; `tidegate accept {node}` \
         takes it back as it stands"
    )]
    LeftOut {
        /// The node.
        node: String,
    },
    /// A number that nobody can have counted to.
    #[error(
        "{count} is no number of an order, a claim or a report: its sender is damaged; \
         nothing of what it says was taken"
    )]
    Impossible {
        /// The number.
        count: u64,
    },
    /// Only what was set aside as a whole can be tried again.
    #[error("that mailbox is not set aside; only mailboxes that are can be tried again")]
    NotSetAside,
    /// No worker of the node has been turned away.
    #[error("no worker of node `{node}` was turned away; nothing to accept")]
    NothingToAccept {
        /// The node.
        node: String,
    },
    /// The node's own worker is heard: whoever was turned away is another one.
    #[error(
        "node `{node}` has a worker at work ({holder}), heard {heard_millis} ms ago; whoever \
         was turned away is another run: stop that one; to have it instead, stop the one at \
         work, wait {lease_millis} ms and accept again"
    )]
    NodeAtWork {
        /// The node.
        node: String,
        /// The run that has it.
        holder: Incarnation,
        /// Milliseconds since it was heard.
        heard_millis: u64,
        /// The lease, milliseconds.
        lease_millis: u64,
    },
    /// A worker says that this journal is older than the fleet.
    #[error(
        "paused because of {nodes}, which knows orders or claims that this coordinator never \
         gave: where most nodes do, put the newest journal back; where only these do, stop \
         their workers and resume without them (`--without NODE`, each)"
    )]
    InDoubt {
        /// The nodes.
        nodes: String,
    },
    /// Nodes have yet to tell what they hold.
    #[error(
        "not every node has told what it holds; missing: {missing}; wait for them, or leave \
         them out with `--without`"
    )]
    NotRecounted {
        /// The nodes.
        missing: String,
    },
    /// The rollout is over.
    #[error("the rollout is {phase}; only parts of it can still be re-closed")]
    Over {
        /// `finished` or `aborted`.
        phase: &'static str,
    },
    /// The rollout is in that state already.
    #[error("the rollout is {phase} already")]
    Already {
        /// The state.
        phase: &'static str,
    },
    /// Nothing to resume.
    #[error("{what} is not held back; nothing to resume")]
    NotHeldBack {
        /// The scope.
        what: String,
    },
    /// The gate does not hold the wave: there is nothing to override.
    #[error(
        "{wave} is not held by its gate now; `tidegate why wave {wave}` tells what it waits for"
    )]
    NotHeld {
        /// The wave.
        wave: String,
    },
    /// The gate holds for a reason that nobody may answer for.
    #[error(
        "{wave} is held by what nobody may override: {reason}; only a want of samples can be"
    )]
    HoldStands {
        /// The wave.
        wave: String,
        /// The gate's reason.
        reason: String,
    },
    /// The rollout stands still.
    #[error("the rollout is {phase}; nothing is hurried on before it runs")]
    NotRunning {
        /// The state.
        phase: &'static str,
    },
    /// The policy says nothing of emergencies.
    #[error(
        "the policy of this plan has no emergency profile (`[emergency]`); its gates stay as \
         they are"
    )]
    NoEmergencyProfile,
    /// An emergency is for hours, not for days.
    #[error("an emergency lasts {lasts}, must be above zero and at most {max}")]
    EmergencySpan {
        /// What was asked for.
        lasts: Span,
        /// The longest.
        max: Span,
    },
    /// Nothing to end.
    #[error("the emergency profile is not in force; nothing to end")]
    NoEmergency,
    /// Somebody else has to thaw it first.
    #[error(
        "the rollout was frozen by {by}; somebody else must thaw it first \
         (`tidegate thaw --reason`), then it can be resumed"
    )]
    Frozen {
        /// Who.
        by: String,
    },
    /// Who froze it does not thaw it.
    #[error("{by} froze the rollout; a second person must thaw it")]
    SameHand {
        /// Who.
        by: String,
    },
    /// Nothing to thaw.
    #[error("the rollout is not frozen; nothing to thaw")]
    NotFrozen,
    /// A halt is not waited out.
    #[error(
        "the gate halted the rollout at {wave}: {reason}; re-close that wave first \
         (`tidegate reclose wave {wave_index}`), then resume"
    )]
    HaltStands {
        /// The wave.
        wave: String,
        /// Its number.
        wave_index: u16,
        /// The gate's reason.
        reason: String,
    },
    /// An isolation is not waited out.
    #[error(
        "node `{node}` was isolated by the gate; re-close it first \
         (`tidegate reclose node {node}`), so that its mailboxes prove themselves anew"
    )]
    IsolationStands {
        /// The node.
        node: String,
    },
    /// The scope names nothing of this plan.
    #[error("no such {what} in this plan")]
    NoSuch {
        /// Which kind of thing.
        what: String,
    },
    /// Somebody has decided something since the operator looked. What was asked for was not
    /// done.
    #[error(
        "the rollout was changed since you looked (etag {seen}, now {now}); look again and \
         decide anew"
    )]
    Conflict {
        /// What the operator knew of.
        seen: Etag,
        /// What there is.
        now: Etag,
        /// The newest decisions that they did not know of, oldest first.
        changes: Vec<Record>,
    },
    /// The id belongs to something else that was asked for.
    #[error(
        "request `{request}` was something else; every request needs an id of its own"
    )]
    RequestReused {
        /// The id.
        request: RequestId,
    },
    /// A reason is part of the record.
    #[error("a reason is required: the record must say why")]
    ReasonMissing,
}

impl Refusal {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownNode { .. } => "unknown-node",
            Self::NodeTaken { .. } => "node-taken",
            Self::NotTheWorker { .. } => "not-the-worker",
            Self::JournalTooOld { .. } | Self::OrdersTooOld { .. } => "journal-too-old",
            Self::WorkerTooOld { .. } | Self::WorkerJournalTooOld { .. } => {
                "worker-too-old"
            }
            Self::ReportsLost { .. } => "reports-lost",
            Self::LeftOut { .. } => "left-out",
            Self::Impossible { .. } => "impossible-number",
            Self::NotSetAside => "not-set-aside",
            Self::NothingToAccept { .. } => "nothing-to-accept",
            Self::NodeAtWork { .. } => "node-at-work",
            Self::InDoubt { .. } => "in-doubt",
            Self::NotRecounted { .. } => "not-recounted",
            Self::Over { .. } => "rollout-over",
            Self::Already { .. } => "already",
            Self::NotHeldBack { .. } => "not-held-back",
            Self::NotHeld { .. } => "not-held",
            Self::HoldStands { .. } => "hold-stands",
            Self::NotRunning { .. } => "not-running",
            Self::NoEmergencyProfile => "no-emergency-profile",
            Self::EmergencySpan { .. } => "emergency-span",
            Self::NoEmergency => "no-emergency",
            Self::Frozen { .. } => "frozen",
            Self::SameHand { .. } => "same-hand",
            Self::NotFrozen => "not-frozen",
            Self::HaltStands { .. } => "halt-stands",
            Self::IsolationStands { .. } => "isolation-stands",
            Self::NoSuch { .. } => "no-such",
            Self::Conflict { .. } => "conflict",
            Self::RequestReused { .. } => "request-reused",
            Self::ReasonMissing => "reason-missing",
        }
    }
}
