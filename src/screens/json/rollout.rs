//! The rollout for programs: one document with everything that is known of it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::gate::{Standing, Verdict};
use tidegate_core::rollout::Grade;
use tidegate_wire::v1;

use super::{Why, reasons, value, when};
use crate::screens::diagnosis::{Diagnosis, level_name};
use crate::screens::marks::EmergencyShown;
use crate::screens::pace::PaceShown;
use crate::screens::queue::{ExchangerShown, QueueShown};
use crate::screens::schedule::{Finish, WindowShown};
use crate::screens::status::{node_word, state_word, wave_word, worst};
use crate::screens::{marks, pace, queue, schedule};

/// A rollout at one instant: what it waits for, and its waves and nodes with their counts.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.status/v1")]
pub(crate) struct RolloutShown<'a> {
    /// The digest of its plan; empty while none is applied.
    plan_digest: &'a str,
    /// The policy's name for it.
    name: &'a str,
    /// Whether it moves: `running`, `paused`, `halted`, `aborted`, `finished` and the like.
    #[schemars(extend("enum" = states()))]
    state: String,
    /// One line: how it is.
    status: String,
    /// One line: what to do.
    action: String,
    /// What it waits for.
    why: Vec<Why<'a>>,
    /// How far a stop has reached the nodes; null while running.
    stop: Option<Stop<'a>>,
    /// How far a rebuild is; null where none is under way.
    rebuild: Option<Rebuild<'a>>,
    /// When the plan was applied.
    start_time: Option<super::Time>,
    /// When this was true.
    at_time: Option<super::Time>,
    /// When it finished.
    finish_time: Option<super::Time>,
    /// The version of the newest orders to the nodes.
    orders_version: u64,
    /// Changes with every decision: for `--if-match`.
    etag: &'a str,
    /// Changes with everything that speaks against going on.
    evidence: &'a str,
    /// What waits for a second person.
    waiting: Vec<Waiting<'a>>,
    /// The emergency profile, while it is in force.
    emergency: Option<EmergencyShown<'a>>,
    /// The service ladder from its first step.
    ladder: Vec<Rung<'a>>,
    /// How held users are told to wait.
    notice: Option<Notice<'a>>,
    /// Mailboxes in waves.
    planned: u32,
    /// Mailboxes of the inventory that no wave contains.
    excluded: u32,
    /// In the order in which they open.
    waves: Vec<Wave<'a>>,
    /// By name.
    nodes: Vec<Node<'a>>,
    /// Mail exchangers that report their queues, by name.
    exchangers: Vec<ExchangerShown<'a>>,
    /// Messages of all prepared mailboxes.
    messages: Messages,
    /// Settled mailboxes by how well each came back.
    grades: Grades,
}

/// The state where no plan was applied yet.
pub(crate) const NO_PLAN: &str = "no-plan";

/// Every state that there is.
fn states() -> Vec<String> {
    let mut states = super::words(|it| state_word(it).0);
    states.push(NO_PLAN.to_owned());
    states
}

/// The rollout.
pub(crate) fn status(rollout: &v1::Rollout) -> Value {
    value(&RolloutShown::of(rollout, &Diagnosis::of(rollout)))
}

/// The same of a part of a rollout that was diagnosed as a whole.
pub(crate) fn diagnosed(rollout: &v1::Rollout, diagnosis: &Diagnosis) -> Value {
    value(&RolloutShown::of(rollout, diagnosis))
}

impl<'a> RolloutShown<'a> {
    /// `rollout` and what is to be said of it.
    pub(crate) fn of(rollout: &'a v1::Rollout, diagnosis: &Diagnosis) -> Self {
        let totals = rollout.totals.as_ref();
        Self {
            plan_digest: &rollout.plan_digest,
            name: &rollout.name,
            state: state_word(rollout.state()).0.to_lowercase(),
            status: diagnosis.status.clone(),
            action: diagnosis.action.clone(),
            why: reasons(&rollout.why),
            stop: rollout.stop.as_ref().map(Stop::of),
            rebuild: rollout
                .rebuild
                .as_ref()
                .map(|it| Rebuild { told: it.told, missing: &it.missing }),
            start_time: when!(rollout.start_time),
            at_time: when!(rollout.at_time),
            finish_time: when!(rollout.finish_time),
            orders_version: rollout.orders_version,
            etag: &rollout.etag,
            evidence: &rollout.evidence,
            waiting: rollout.waiting.iter().map(Waiting::of).collect(),
            emergency: rollout.emergency.as_ref().map(marks::shown),
            ladder: rollout.ladder.iter().map(Rung::of).collect(),
            notice: rollout
                .notice
                .as_ref()
                .map(|it| Notice { language: &it.language, zone: &it.zone }),
            planned: rollout.planned,
            excluded: rollout.excluded,
            waves: rollout.waves.iter().map(|it| Wave::of(rollout, it)).collect(),
            nodes: rollout.nodes.iter().map(Node::of).collect(),
            exchangers: queue::exchangers(&rollout.exchangers),
            messages: Messages::of(totals),
            grades: Grades::of(totals.and_then(|it| it.grades.as_ref())),
        }
    }
}

/// How far a stop has reached the nodes.
#[derive(Serialize, JsonSchema)]
struct Stop<'a> {
    /// Whether every node obeys it.
    effective: bool,
    /// Nodes that have not acknowledged it and whose lease still runs.
    unacknowledged: &'a [String],
    /// The most mailboxes that may still open on them.
    may_still_open: u32,
    /// Nodes with a worker.
    nodes: u32,
    /// Of the unacknowledged, nodes that are not heard any more.
    unreachable: &'a [String],
    /// Nodes that have not acknowledged it and stopped when their lease ended.
    lapsed: &'a [String],
}

impl<'a> Stop<'a> {
    fn of(stop: &'a v1::Stop) -> Self {
        Self {
            effective: stop.effective,
            unacknowledged: &stop.unacknowledged,
            may_still_open: stop.may_still_open,
            nodes: stop.nodes,
            unreachable: &stop.unreachable,
            lapsed: &stop.lapsed,
        }
    }
}

/// How far a rebuild is from what the nodes hold.
#[derive(Serialize, JsonSchema)]
struct Rebuild<'a> {
    /// Nodes that have told everything.
    told: u32,
    /// Nodes that have not.
    missing: &'a [String],
}

/// Something that waits for a second person.
#[derive(Serialize, JsonSchema)]
struct Waiting<'a> {
    /// Who asks for it.
    by: &'a str,
    /// What, as on the command line.
    what: &'a str,
    /// Why.
    reason: &'a str,
    /// What an approver types after `tidegate approve`; empty where it would name an address.
    approve: &'a str,
    /// Since when.
    asked_time: Option<super::Time>,
    /// Until when.
    until_time: Option<super::Time>,
    /// Whether anything worse has become known since.
    evidence_changed: bool,
}

impl<'a> Waiting<'a> {
    fn of(waiting: &'a v1::Waiting) -> Self {
        Self {
            by: &waiting.by,
            what: &waiting.what,
            reason: &waiting.reason,
            approve: &waiting.command,
            asked_time: when!(waiting.asked_time),
            until_time: when!(waiting.until_time),
            evidence_changed: waiting.evidence_changed,
        }
    }
}

/// A step of the service ladder.
#[derive(Serialize, JsonSchema)]
struct Rung<'a> {
    /// Its name.
    name: &'a str,
    /// Its services.
    services: &'a [String],
    /// How long an opened mailbox must stay healthy on it.
    soak_millis: Option<u64>,
}

impl<'a> Rung<'a> {
    fn of(rung: &'a v1::Rung) -> Self {
        let v1::Rung { name, services, soak_millis, .. } = rung;
        Self { name, services, soak_millis: *soak_millis }
    }
}

/// How held users are told to wait.
#[derive(Serialize, JsonSchema)]
struct Notice<'a> {
    /// In which language.
    language: &'a str,
    /// By the clocks of which zone.
    zone: &'a str,
}

/// One wave. Counts are mailboxes.
#[derive(Serialize, JsonSchema)]
struct Wave<'a> {
    /// Its number.
    number: u32,
    /// Its name.
    name: &'a str,
    /// What it does.
    #[schemars(extend("enum" = super::words(|it| wave_word(it).1)))]
    state: &'static str,
    /// The level it is allowed; 0 is held.
    level: u32,
    /// What that level is called.
    level_name: String,
    /// The highest level that it has passed.
    passed: u32,
    /// All of it.
    planned: u32,
    /// Verified and repaired.
    prepared: u32,
    /// Set aside.
    quarantined: u32,
    /// On any level above held.
    open: u32,
    /// Re-closed, and not known to be closed yet.
    closing: u32,
    /// On the allowed level or above.
    opened: u32,
    /// Open for the soak of the allowed level, and healthy.
    mature: u32,
    /// Failed, integrity included.
    failed: u32,
    /// Its settled mailboxes by how well each came back.
    grades: Grades,
    /// The worst of them.
    #[schemars(extend("enum" = super::or_null(Grade::ALL.map(Grade::code))))]
    worst_grade: Option<&'static str>,
    /// The gate's present verdict on the allowed level; null while it waits.
    gate: Option<Gate<'a>>,
    /// When the level was allowed.
    allowed_time: Option<super::Time>,
    /// When its schedule allows the next one.
    due_time: Option<super::Time>,
    /// When it will stand on the top of the ladder; null where that cannot be told.
    finish: Option<Finish>,
    /// How long it waits before rungs of the ladder.
    delays: Vec<Delay<'a>>,
    /// When its mailboxes are expected back, as their users are told.
    expected: Option<WindowShown>,
    /// Whether its held mailboxes have a dial tone.
    dial_tone: bool,
    /// Levels that it has passed although its gate held it.
    overridden: &'a [u32],
    /// Levels that it has passed under the emergency profile.
    hurried: &'a [u32],
    /// What waits for it in the queues of the mail exchangers; null when nobody reports.
    queue: Option<QueueShown>,
}

impl<'a> Wave<'a> {
    fn of(rollout: &v1::Rollout, wave: &'a v1::Wave) -> Self {
        Self {
            number: wave.number,
            name: &wave.name,
            state: wave_word(wave.state()).1,
            level: wave.level,
            level_name: level_name(rollout, wave.level),
            passed: wave.passed,
            planned: wave.planned,
            prepared: wave.prepared,
            quarantined: wave.quarantined,
            open: wave.open,
            closing: wave.closing,
            opened: wave.opened,
            mature: wave.mature,
            failed: wave.failed,
            grades: Grades::of(wave.grades.as_ref()),
            worst_grade: worst(wave.grades.as_ref()).map(Grade::code),
            gate: wave.gate.as_ref().map(Gate::of),
            allowed_time: when!(wave.allowed_time),
            due_time: when!(wave.due_time),
            finish: schedule::finish_shown(wave.finish.as_ref()),
            delays: wave
                .delays
                .iter()
                .map(|it| Delay { rung: &it.rung, delay_millis: it.delay_millis })
                .collect(),
            expected: schedule::window_shown(wave.expected.as_ref()),
            dial_tone: wave.dial_tone,
            overridden: &wave.overridden,
            hurried: &wave.hurried,
            queue: wave.queue.as_ref().map(queue::shown),
        }
    }
}

/// How long a wave waits before a rung.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Delay<'a> {
    /// The rung's name.
    pub(crate) rung: &'a str,
    /// Counted from when it passed the rung below.
    pub(crate) delay_millis: u64,
}

/// What a gate says.
#[derive(Serialize, JsonSchema)]
struct Gate<'a> {
    /// `expand`, `hold`, `isolate` or `halt`.
    #[schemars(extend("enum" = Verdict::CODES))]
    verdict: &'a str,
    /// Why.
    reasons: Vec<Why<'a>>,
    /// Its numbers, signal by signal.
    signals: Vec<Signal<'a>>,
    /// Signals that no node has a source for.
    unmeasured: &'a [String],
}

impl<'a> Gate<'a> {
    fn of(gate: &'a v1::Gate) -> Self {
        Self {
            verdict: &gate.verdict,
            reasons: reasons(&gate.reasons),
            signals: gate.signals.iter().map(Signal::of).collect(),
            unmeasured: &gate.unmeasured,
        }
    }
}

/// One signal of a gate, with the lines its count is held against.
#[derive(Serialize, JsonSchema)]
struct Signal<'a> {
    /// Its name.
    name: &'a str,
    /// `passed`, `open` (between the lines) or `tripped`.
    #[schemars(extend("enum" = Standing::ALL.map(Standing::code)))]
    standing: &'a str,
    /// Failures.
    failed: u32,
    /// Samples for the line that trips: everything opened.
    opened: u32,
    /// Samples for the line that passes: everything that has shown its outcome.
    mature: u32,
    /// The most failures that pass now; null if not even none would.
    pass_at: Option<u32>,
    /// The fewest failures that trip now.
    trip_at: u32,
    /// Further good samples needed to pass if no more fail.
    missing: u32,
    /// Whether it need not pass: it can only stop the wave.
    only_stops: bool,
}

impl<'a> Signal<'a> {
    fn of(signal: &'a v1::Signal) -> Self {
        Self {
            name: &signal.name,
            standing: &signal.standing,
            failed: signal.failed,
            opened: signal.opened,
            mature: signal.mature,
            pass_at: signal.pass_at,
            trip_at: signal.trip_at,
            missing: signal.missing,
            only_stops: signal.only_stops,
        }
    }
}

/// One storage node. Counts are mailboxes unless said otherwise.
#[derive(Serialize, JsonSchema)]
struct Node<'a> {
    /// Its name.
    name: &'a str,
    /// What it does.
    #[schemars(extend("enum" = super::words(|it| node_word(it).0)))]
    state: &'static str,
    /// When it was last heard; null if not since the coordinator started.
    heard_time: Option<super::Time>,
    /// All of its mailboxes in the plan.
    planned: u32,
    /// Verified and repaired.
    prepared: u32,
    /// Set aside.
    quarantined: u32,
    /// On any level above held.
    open: u32,
    /// Re-closed, and not known to be closed yet.
    closing: u32,
    /// Failed, integrity included.
    failed: u32,
    /// Probes of the last while; null while no worker reports, as with all that follow.
    probes: Option<u32>,
    /// Of these, slow ones.
    probes_slow: Option<u32>,
    /// Reads that the disk has failed.
    read_errors: Option<u32>,
    /// Acts that were refused because the lease was not its own any more.
    fenced: Option<u32>,
    /// How long a probe takes.
    probe_micros: Option<u32>,
    /// What is free on its disk, in millionths.
    disk_free_ppm: Option<u32>,
    /// How fast it opens, and what that follows from.
    pace: Option<PaceShown<'a>>,
    /// Whether its windows let nothing begin on it now.
    outside_window: bool,
    /// When they let something begin again.
    window_time: Option<super::Time>,
    /// Messages a second that it gets out of the queues of all mail exchangers.
    drain_per_second: u32,
    /// Why it does not get more.
    drain_why: Option<Why<'a>>,
}

impl<'a> Node<'a> {
    fn of(node: &'a v1::Node) -> Self {
        let vitals = node.vitals.as_ref();
        Self {
            name: &node.name,
            state: node_word(node.state()).0,
            heard_time: when!(node.heard_time),
            planned: node.planned,
            prepared: node.prepared,
            quarantined: node.quarantined,
            open: node.open,
            closing: node.closing,
            failed: node.failed,
            probes: vitals.map(|it| it.probes),
            probes_slow: vitals.map(|it| it.probes_slow),
            read_errors: vitals.map(|it| it.read_errors),
            fenced: vitals.map(|it| it.fenced),
            probe_micros: vitals.map(|it| it.probe_micros),
            disk_free_ppm: vitals.and_then(|it| it.disk_free_ppm),
            pace: pace::shown(node),
            outside_window: node.outside_window,
            window_time: when!(node.window_time),
            drain_per_second: node.drain_per_second,
            drain_why: node.drain_why.as_ref().map(Why::of),
        }
    }
}

/// Messages by what became of them.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Messages {
    /// Right as they were.
    intact: u64,
    /// Repaired from the snapshot.
    repaired: u64,
    /// Lost and brought back.
    returned: u64,
    /// Newer than the snapshot, kept.
    newer: u64,
    /// Deleted by their owner, and stay deleted.
    deleted: u64,
    /// Beyond repair, bytes kept aside.
    set_aside: u64,
    /// Lost, known by name only.
    lost: u64,
    /// Bytes read to find that out.
    bytes_read: u64,
    /// Decisions that could not be proved.
    doubts: u64,
}

impl Messages {
    /// The sums of `totals`, all zero where there are none yet.
    pub(crate) fn of(totals: Option<&v1::MessageTotals>) -> Self {
        let totals = totals.copied().unwrap_or_default();
        Self {
            intact: totals.intact,
            repaired: totals.repaired,
            returned: totals.returned,
            newer: totals.newer,
            deleted: totals.deleted,
            set_aside: totals.set_aside,
            lost: totals.lost,
            bytes_read: totals.bytes_read,
            doubts: totals.doubts,
        }
    }
}

/// Settled mailboxes by how well each came back.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Grades {
    /// Nothing had to be done.
    perfect: u32,
    /// Everything is there again.
    good: u32,
    /// Something could not be proved.
    investigate: u32,
    /// Something is lost, or it was set aside as a whole.
    poor: u32,
}

impl Grades {
    /// The counts of `grades`, all zero where there are none yet.
    pub(crate) fn of(grades: Option<&v1::Grades>) -> Self {
        let v1::Grades { perfect, good, investigate, poor } =
            grades.copied().unwrap_or_default();
        Self { perfect, good, investigate, poor }
    }
}
