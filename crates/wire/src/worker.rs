//! The contract between a worker and its coordinator, checked.
//!
//! # Invariants
//!
//! * The columns of a report have equal lengths, and every state in them is a possible one.
//! * A report names each mailbox once, so that no news hide other news.
//! * Every number that is counted on from is at most [`COUNT_MAX`].
//! * Every place within a job is below [`JOB_MAILBOXES_MAX`].

use tidegate_core::fleet::{
    COUNT_MAX, Generation, Incarnation, JOB_MAILBOXES_MAX, JobNumber, NodeNumber, Ordinal,
};
use tidegate_core::gate::PulseLimits;
use tidegate_core::inventory::Digest;
use tidegate_core::mailbox::{Level, MailboxState};
use tidegate_core::pace::PacePolicy;
use tidegate_core::policy::{Policy, Rung, Soaks};
use tidegate_core::rollout::{
    Account, Finding, FindingKind, Grades, JobReport, Join, KeptBack, MessageTotals,
    Order, Orders, Origin, Sync,
};
use tidegate_core::share::Ppm;
use tidegate_core::time::{Span, Timestamp};

use crate::limits::{ORDERS_MAX, REPORT_FACTS_MAX, REPORTS_MAX};
use crate::protocol::{
    ProtocolError, bounded, digest, instant, narrow, present, timestamp,
};
use crate::v1;
use crate::vitals::{pace_policy, pulse_limits, tell_pace, tell_pulse_limits};

mod account;
mod job;
mod notice;

pub use job::{JobMailbox, JobPart};
pub use notice::NodeNotice;
pub(crate) use notice::window;

/// A worker that asks to take up its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The node, the run and the store's highest claim.
    pub join: Join,
    /// The rollout its journal belongs to; nothing for a new store.
    pub rollout: Option<Digest>,
    /// The worker's wall clock when it asked; for people, not for decisions.
    pub clock: Timestamp,
    /// Its own mailbox, which is open before every other, if it has one.
    pub canary: Option<String>,
}

/// The number of the contract between workers and coordinators. It rises when an older side
/// would misread a newer one.
pub const CONTRACT: u32 = 1;

/// A node taken up, and how to work on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The rollout, named by the digest of its plan.
    pub rollout: Digest,
    /// The node's number in it.
    pub node: NodeNumber,
    /// How long the lease lasts after a report was sent.
    pub lease: Span,
    /// How often to report.
    pub beat: Span,
    /// What the policy says about work on a node.
    pub settings: NodeSettings,
}

/// What the policy says about work on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The service ladder, lowest rung first; rung 1 is level 1.
    pub ladder: Vec<Rung>,
    /// How long an opened mailbox must stay healthy before it is mature.
    pub soak: Span,
    /// A probe that takes longer counts as slow.
    pub slow_after: Span,
    /// How many mailboxes the node opens in a second.
    pub open_per_second: u32,
    /// How many mailboxes are prepared at once.
    pub prepare_threads: u16,
    /// How held users are told to wait.
    pub notice: NodeNotice,
    /// The services that make a dial tone; empty if no cohort has one.
    pub dial_services: Vec<String>,
    /// When a minute of the node's mail system is a bad one.
    pub pulse_limits: PulseLimits,
    /// What the pace of opening is made from.
    pub pace: PacePolicy,
}

impl NodeSettings {
    /// How long an opened mailbox must stay healthy on each level.
    pub fn soaks(&self) -> Soaks {
        Soaks::of(&self.ladder, self.soak)
    }
}

/// A worker that asks for the mailboxes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The node.
    pub node: NodeNumber,
    /// The worker's run.
    pub incarnation: Incarnation,
    /// The job.
    pub job: JobNumber,
}

impl Joined {
    /// The answer to a worker that has taken up `node` of the rollout called `rollout`.
    pub fn new(rollout: Digest, node: NodeNumber, policy: &Policy) -> Self {
        Self {
            rollout,
            node,
            lease: policy.limits.lease,
            beat: policy.limits.beat,
            settings: NodeSettings {
                ladder: policy.ladder.clone(),
                soak: policy.gate.soak,
                slow_after: policy.gate.latency.slow_after,
                open_per_second: policy.limits.open_per_second,
                prepare_threads: policy.limits.prepare_threads,
                notice: NodeNotice::of(&policy.notice),
                dial_services: policy.dial_services().to_vec(),
                pulse_limits: policy.gate.signals.limits(),
                pace: policy.limits.pace,
            },
        }
    }
}

impl From<Joining> for v1::JoinRequest {
    fn from(joining: Joining) -> Self {
        let Joining { join, rollout, clock, canary } = joining;
        let Join {
            incarnation, claimed_max, orders_seen, journaled, store_claimed, ..
        } = join;
        Self {
            node: join.node,
            incarnation: incarnation.get(),
            claimed_generation_max: claimed_max.get(),
            rollout: rollout.map(|digest| digest.to_string()).unwrap_or_default(),
            contract: CONTRACT,
            clock_millis: clock.millis(),
            canary: canary.unwrap_or_default(),
            orders_seen,
            journaled,
            store_generation_max: store_claimed.get(),
        }
    }
}

impl TryFrom<v1::JoinRequest> for Joining {
    type Error = ProtocolError;

    fn try_from(message: v1::JoinRequest) -> Result<Self, Self::Error> {
        if message.contract != CONTRACT {
            let theirs = message.contract;
            return Err(ProtocolError::OtherContract { theirs, ours: CONTRACT });
        }
        if message.node.is_empty() {
            return Err(ProtocolError::missing("node"));
        }
        let rollout = if message.rollout.is_empty() {
            None
        } else {
            Some(digest("rollout", &message.rollout)?)
        };
        let join = Join {
            node: message.node,
            incarnation: incarnation(message.incarnation)?,
            claimed_max: generation(message.claimed_generation_max)?,
            orders_seen: counted("orders_seen", message.orders_seen)?,
            journaled: message
                .journaled
                .map(|it| counted("journaled", it))
                .transpose()?,
            store_claimed: generation(message.store_generation_max)?,
        };
        let clock = Timestamp::from_millis(message.clock_millis);
        let canary = Some(message.canary).filter(|it| !it.is_empty());
        Ok(Self { join, rollout, clock, canary })
    }
}

impl From<Joined> for v1::JoinResponse {
    fn from(joined: Joined) -> Self {
        let NodeSettings { ladder, soak, slow_after, open_per_second, .. } =
            joined.settings;
        let NodeSettings { prepare_threads, pulse_limits, pace, .. } = joined.settings;
        let NodeSettings { notice, dial_services, .. } = joined.settings;
        Self {
            rollout: joined.rollout.to_string(),
            node_number: u32::from(joined.node.get()),
            lease_millis: joined.lease.millis(),
            beat_millis: joined.beat.millis(),
            settings: Some(v1::NodeSettings {
                ladder: ladder.into_iter().map(v1::Rung::from).collect(),
                soak_millis: soak.millis(),
                slow_after_millis: slow_after.millis(),
                open_per_second,
                prepare_threads: u32::from(prepare_threads),
                notice: Some(notice.into()),
                dial_services,
                pulse_limits: Some(tell_pulse_limits(&pulse_limits)),
                pace: Some(tell_pace(&pace)),
            }),
        }
    }
}

impl TryFrom<v1::JoinResponse> for Joined {
    type Error = ProtocolError;

    fn try_from(message: v1::JoinResponse) -> Result<Self, Self::Error> {
        let settings = present("settings", message.settings)?;
        if settings.ladder.is_empty() {
            return Err(ProtocolError::missing("settings.ladder"));
        }
        bounded("settings.ladder", settings.ladder.len(), Level::MAX.index())?;
        for (field, millis) in
            [("lease_millis", message.lease_millis), ("beat_millis", message.beat_millis)]
        {
            if millis == 0 {
                return Err(ProtocolError::missing(field));
            }
        }
        Ok(Self {
            rollout: digest("rollout", &message.rollout)?,
            node: node(message.node_number)?,
            lease: Span::from_millis(message.lease_millis),
            beat: Span::from_millis(message.beat_millis),
            settings: NodeSettings {
                ladder: settings.ladder.into_iter().map(Rung::from).collect(),
                soak: Span::from_millis(settings.soak_millis),
                slow_after: Span::from_millis(settings.slow_after_millis),
                open_per_second: settings.open_per_second,
                prepare_threads: narrow(
                    "settings.prepare_threads",
                    settings.prepare_threads,
                )?,
                notice: settings.notice.map(NodeNotice::from).unwrap_or_default(),
                dial_services: settings.dial_services,
                pulse_limits: pulse_limits(settings.pulse_limits)?,
                pace: pace_policy(settings.pace)?,
            },
        })
    }
}

impl From<Rung> for v1::Rung {
    fn from(Rung { name, services, soak }: Rung) -> Self {
        Self { name, services, soak_millis: soak.map(Span::millis) }
    }
}

impl From<v1::Rung> for Rung {
    fn from(v1::Rung { name, services, soak_millis }: v1::Rung) -> Self {
        Self { name, services, soak: soak_millis.map(Span::from_millis) }
    }
}

impl From<Sync> for v1::SyncRequest {
    fn from(sync: Sync) -> Self {
        Self {
            node_number: u32::from(sync.node.get()),
            incarnation: sync.incarnation.get(),
            sequence: sync.sequence,
            orders_obeyed: sync.orders_obeyed,
            claimed_generation_max: sync.claimed_max.get(),
            reports: sync.reports.into_iter().map(v1::JobReport::from).collect(),
            vitals: Some(sync.vitals.into()),
            account: sync.account.map(v1::Account::from),
        }
    }
}

impl TryFrom<v1::SyncRequest> for Sync {
    type Error = ProtocolError;

    fn try_from(message: v1::SyncRequest) -> Result<Self, Self::Error> {
        bounded("reports", message.reports.len(), REPORTS_MAX)?;
        let reports = message.reports.into_iter().map(JobReport::try_from);
        Ok(Self {
            node: node(message.node_number)?,
            incarnation: incarnation(message.incarnation)?,
            sequence: counted("sequence", message.sequence)?,
            orders_obeyed: counted("orders_obeyed", message.orders_obeyed)?,
            claimed_max: generation(message.claimed_generation_max)?,
            reports: reports.collect::<Result<_, _>>()?,
            vitals: present("vitals", message.vitals)?.try_into()?,
            account: message.account.map(Account::try_from).transpose()?,
        })
    }
}

impl From<JobReport> for v1::JobReport {
    fn from(report: JobReport) -> Self {
        let JobReport { job, generation, facts, totals, findings } = report;
        Self {
            job: job.get(),
            generation: generation.get(),
            ordinals: facts.iter().map(|(ordinal, _)| u32::from(ordinal.get())).collect(),
            states: facts.iter().map(|(_, state)| state.pack()).collect(),
            totals: Some(totals.into()),
            findings: findings.into_iter().map(v1::Finding::from).collect(),
        }
    }
}

impl TryFrom<v1::JobReport> for JobReport {
    type Error = ProtocolError;

    fn try_from(message: v1::JobReport) -> Result<Self, Self::Error> {
        bounded("ordinals", message.ordinals.len(), REPORT_FACTS_MAX)?;
        if message.ordinals.len() != message.states.len() {
            let lengths =
                format!("{} for {}", message.states.len(), message.ordinals.len());
            return Err(ProtocolError::invalid("states", &lengths));
        }
        if !message.ordinals.is_sorted_by(|one, next| one < next) {
            return Err(ProtocolError::invalid("ordinals", "not ascending"));
        }
        let facts =
            message.ordinals.into_iter().zip(message.states).map(|(place, byte)| {
                let state = MailboxState::unpack(byte)
                    .map_err(|wrong| ProtocolError::invalid("states", &wrong))?;
                Ok((ordinal(place)?, state))
            });
        Ok(Self {
            job: JobNumber::new(message.job),
            generation: generation(message.generation)?,
            facts: facts.collect::<Result<_, ProtocolError>>()?,
            totals: present("totals", message.totals)?.into(),
            findings: message
                .findings
                .into_iter()
                .map(Finding::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<MessageTotals> for v1::MessageTotals {
    fn from(totals: MessageTotals) -> Self {
        let MessageTotals { intact, repaired, returned, newer, .. } = totals;
        let MessageTotals { deleted, set_aside, lost, bytes_read, doubts, .. } = totals;
        let grades = Some(v1::Grades::from(totals.grades));
        Self {
            intact,
            repaired,
            returned,
            newer,
            deleted,
            set_aside,
            lost,
            bytes_read,
            doubts,
            grades,
        }
    }
}

impl From<v1::MessageTotals> for MessageTotals {
    fn from(totals: v1::MessageTotals) -> Self {
        let v1::MessageTotals { intact, repaired, returned, newer, .. } = totals;
        let v1::MessageTotals { deleted, set_aside, lost, bytes_read, doubts, .. } =
            totals;
        let grades = totals.grades.unwrap_or_default().into();
        Self {
            intact,
            repaired,
            returned,
            newer,
            deleted,
            set_aside,
            lost,
            bytes_read,
            doubts,
            grades,
        }
    }
}

impl From<Grades> for v1::Grades {
    fn from(grades: Grades) -> Self {
        let Grades { perfect, good, investigate, poor } = grades;
        Self { perfect, good, investigate, poor }
    }
}

impl From<v1::Grades> for Grades {
    fn from(grades: v1::Grades) -> Self {
        let v1::Grades { perfect, good, investigate, poor } = grades;
        Self { perfect, good, investigate, poor }
    }
}

impl From<Finding> for v1::Finding {
    fn from(finding: Finding) -> Self {
        Self {
            ordinal: u32::from(finding.ordinal.get()),
            kind: v1::FindingKind::from(finding.kind).into(),
            folder: finding.folder,
            uid: finding.uid.unwrap_or(0),
            name: finding.name,
            code: finding.code,
            reason: finding.reason,
            size_bytes: finding.size_bytes,
            kept_at: finding.kept_at,
            received_time: finding.origin.received_at.map(timestamp),
            source: finding.origin.source,
            rungs: finding.origin.rungs,
        }
    }
}

impl TryFrom<v1::Finding> for Finding {
    type Error = ProtocolError;

    fn try_from(message: v1::Finding) -> Result<Self, Self::Error> {
        Ok(Self {
            ordinal: ordinal(message.ordinal)?,
            kind: message.kind().try_into()?,
            folder: message.folder,
            uid: (message.uid > 0).then_some(message.uid),
            name: message.name,
            code: message.code,
            reason: message.reason,
            size_bytes: message.size_bytes,
            kept_at: message.kept_at,
            origin: Origin {
                received_at: message.received_time.as_ref().and_then(instant),
                source: message.source,
                rungs: message.rungs,
            },
        })
    }
}

impl From<FindingKind> for v1::FindingKind {
    fn from(kind: FindingKind) -> Self {
        match kind {
            FindingKind::SetAside => Self::SetAside,
            FindingKind::Lost => Self::Lost,
            FindingKind::Doubt => Self::Doubt,
            FindingKind::Quarantined => Self::Quarantined,
            FindingKind::Probe => Self::Probe,
        }
    }
}

impl TryFrom<v1::FindingKind> for FindingKind {
    type Error = ProtocolError;

    fn try_from(kind: v1::FindingKind) -> Result<Self, Self::Error> {
        match kind {
            v1::FindingKind::Unspecified => Err(ProtocolError::missing("kind")),
            v1::FindingKind::SetAside => Ok(Self::SetAside),
            v1::FindingKind::Lost => Ok(Self::Lost),
            v1::FindingKind::Doubt => Ok(Self::Doubt),
            v1::FindingKind::Quarantined => Ok(Self::Quarantined),
            v1::FindingKind::Probe => Ok(Self::Probe),
        }
    }
}

impl From<Orders> for v1::SyncResponse {
    fn from(orders: Orders) -> Self {
        Self {
            version: orders.version,
            may_open: orders.may_open,
            jobs: orders.jobs.into_iter().map(v1::Order::from).collect(),
            open_millis_per_second: orders.open_millis_per_second,
            kept_back: orders.kept_back.as_ref().map(v1::KeptBack::from),
            recorded: orders.recorded,
        }
    }
}

impl TryFrom<v1::SyncResponse> for Orders {
    type Error = ProtocolError;

    fn try_from(message: v1::SyncResponse) -> Result<Self, Self::Error> {
        bounded("jobs", message.jobs.len(), ORDERS_MAX)?;
        let jobs = message.jobs.into_iter().map(Order::try_from);
        Ok(Self {
            version: message.version,
            may_open: message.may_open,
            jobs: jobs.collect::<Result<_, _>>()?,
            open_millis_per_second: message.open_millis_per_second,
            kept_back: message.kept_back.map(KeptBack::try_from).transpose()?,
            recorded: message.recorded,
        })
    }
}

impl From<Order> for v1::Order {
    fn from(order: Order) -> Self {
        Self {
            job: order.job.get(),
            generation: order.generation.get(),
            prepare: order.prepare,
            level: u32::from(order.level.get()),
            open_below: u32::from(order.open_below),
            held_back: order.held_back.into_iter().map(|o| u32::from(o.get())).collect(),
            dial_tone: order.dial_tone,
            soak_millis: order.soak.map(Span::millis),
            names: order.named.is_some(),
            named: order
                .named
                .into_iter()
                .flatten()
                .map(|o| u32::from(o.get()))
                .collect(),
        }
    }
}

impl TryFrom<v1::Order> for Order {
    type Error = ProtocolError;

    fn try_from(message: v1::Order) -> Result<Self, Self::Error> {
        if message.generation == 0 {
            return Err(ProtocolError::missing("generation"));
        }
        let held_back = message.held_back.into_iter().map(ordinal);
        if !message.named.is_sorted_by(|one, next| one < next) {
            return Err(ProtocolError::invalid("named", "not ascending"));
        }
        let named = message.named.into_iter().map(ordinal).collect::<Result<_, _>>()?;
        Ok(Self {
            job: JobNumber::new(message.job),
            generation: Generation::new(message.generation),
            prepare: message.prepare,
            level: level("level", message.level)?,
            open_below: narrow("open_below", message.open_below)?,
            held_back: held_back.collect::<Result<_, _>>()?,
            dial_tone: message.dial_tone,
            soak: message.soak_millis.map(Span::from_millis),
            named: message.names.then_some(named),
        })
    }
}

impl From<Fetch> for v1::FetchJobRequest {
    fn from(fetch: Fetch) -> Self {
        Self {
            node_number: u32::from(fetch.node.get()),
            incarnation: fetch.incarnation.get(),
            job: fetch.job.get(),
        }
    }
}

impl TryFrom<v1::FetchJobRequest> for Fetch {
    type Error = ProtocolError;

    fn try_from(message: v1::FetchJobRequest) -> Result<Self, Self::Error> {
        Ok(Self {
            node: node(message.node_number)?,
            incarnation: incarnation(message.incarnation)?,
            job: JobNumber::new(message.job),
        })
    }
}

pub(crate) fn node(number: u32) -> Result<NodeNumber, ProtocolError> {
    narrow("node_number", number).map(NodeNumber::new)
}

/// A number that is counted on from.
fn counted(field: &'static str, number: u64) -> Result<u64, ProtocolError> {
    if number > COUNT_MAX {
        return Err(ProtocolError::invalid(field, &number));
    }
    Ok(number)
}

fn generation(number: u64) -> Result<Generation, ProtocolError> {
    counted("generation", number).map(Generation::new)
}

/// A run of a worker; 0 is what a forgotten field would say.
pub(crate) fn incarnation(number: u64) -> Result<Incarnation, ProtocolError> {
    if number == 0 {
        return Err(ProtocolError::missing("incarnation"));
    }
    Ok(Incarnation::new(number))
}

pub(crate) fn level(field: &'static str, number: u32) -> Result<Level, ProtocolError> {
    let level = u8::try_from(number).ok().and_then(Level::new);
    level.ok_or_else(|| ProtocolError::invalid(field, &number))
}

pub(crate) fn ppm(parts: u32) -> Result<Ppm, ProtocolError> {
    if parts > Ppm::WHOLE.parts() {
        return Err(ProtocolError::invalid("disk_free_ppm", &parts));
    }
    Ok(Ppm::new(parts))
}

pub(crate) fn ordinal(place: u32) -> Result<Ordinal, ProtocolError> {
    let place = u16::try_from(place).ok().filter(|place| *place < JOB_MAILBOXES_MAX);
    // Every fact comes this way: the error is made where there is one.
    let beyond = || ProtocolError::invalid("ordinal", "beyond any job");
    place.map(Ordinal::new).ok_or_else(beyond)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::fleet::WaveNumber;
    use tidegate_core::rollout::Vitals;

    #[test]
    fn a_number_that_nobody_can_have_counted_to_is_refused() {
        let far: [fn(&mut v1::SyncRequest); 4] = [
            |message| message.sequence = u64::MAX,
            |message| message.orders_obeyed = COUNT_MAX + 1,
            |message| message.claimed_generation_max = u64::MAX,
            |message| message.reports[0].generation = u64::MAX,
        ];
        for change in far {
            let mut message = v1::SyncRequest::from(sync());
            change(&mut message);
            assert!(Sync::try_from(message).is_err());
        }
    }

    #[test]
    fn a_report_survives_the_way() {
        let sync = sync();

        let arrived = Sync::try_from(v1::SyncRequest::from(sync.clone()));

        assert_eq!(arrived, Ok(sync));
    }

    #[test]
    fn orders_survive_the_way() {
        let orders = Orders {
            version: 7,
            may_open: true,
            jobs: vec![Order {
                job: JobNumber::new(3),
                generation: Generation::new(9),
                prepare: true,
                level: Level::FIRST,
                open_below: 64,
                named: Some(vec![Ordinal::new(2), Ordinal::new(7)]),
                held_back: vec![Ordinal::new(5)],
                dial_tone: true,
                soak: Some(Span::from_secs(5)),
            }],
            open_millis_per_second: Some(2_500),
            kept_back: Some(kept_back()),
            recorded: 17,
        };

        let arrived = Orders::try_from(v1::SyncResponse::from(orders.clone()));

        assert_eq!(arrived, Ok(orders));
    }

    #[test]
    fn columns_of_unequal_length_are_refused() {
        let mut message = v1::SyncRequest::from(sync());
        message.reports[0].states.pop();

        let refused = Sync::try_from(message).unwrap_err();

        assert_eq!(refused.to_string(), "field `states` cannot be `1 for 2`");
    }

    #[test]
    fn a_mailbox_told_of_twice_is_refused() {
        let mut message = v1::SyncRequest::from(sync());
        message.reports[0].ordinals[0] = 8;

        let refused = Sync::try_from(message).unwrap_err();

        assert_eq!(refused.to_string(), "field `ordinals` cannot be `not ascending`");
    }

    #[test]
    fn an_open_mailbox_that_was_never_prepared_is_refused() {
        let mut message = v1::SyncRequest::from(sync());
        message.reports[0].states[0] = 0b0000_0100;

        let refused = Sync::try_from(message).unwrap_err();

        let expected = "field `states` cannot be `0x04 is no mailbox state`";
        assert_eq!(refused.to_string(), expected);
    }

    #[test]
    fn what_is_not_said_is_refused() {
        let message = v1::SyncRequest { incarnation: 0, ..sync().into() };
        let finding = v1::Finding { kind: 0, ..v1::Finding::default() };

        assert_eq!(
            Sync::try_from(message),
            Err(ProtocolError::Missing { field: "incarnation" })
        );
        assert_eq!(
            Finding::try_from(finding),
            Err(ProtocolError::Missing { field: "kind" })
        );
    }

    fn sync() -> Sync {
        let open = MailboxState::unpack(0b0000_0101).unwrap();
        Sync {
            node: NodeNumber::new(2),
            incarnation: Incarnation::new(77),
            sequence: 12,
            orders_obeyed: 4,
            claimed_max: Generation::new(9),
            reports: vec![JobReport {
                job: JobNumber::new(3),
                generation: Generation::new(9),
                facts: vec![
                    (Ordinal::new(0), MailboxState::HELD),
                    (Ordinal::new(8), open),
                ],
                totals: MessageTotals {
                    intact: 20,
                    lost: 1,
                    doubts: 2,
                    grades: Grades { perfect: 1, poor: 1, ..Grades::default() },
                    ..MessageTotals::default()
                },
                findings: vec![Finding {
                    ordinal: Ordinal::new(8),
                    kind: FindingKind::Lost,
                    folder: "Sent".to_owned(),
                    uid: Some(4),
                    name: "1.M1P1.host,S=10".to_owned(),
                    code: "gone".to_owned(),
                    reason: "neither side holds it".to_owned(),
                    size_bytes: 0,
                    kept_at: String::new(),
                    origin: Origin {
                        received_at: Some(Timestamp::from_millis(1_600_000_000_000)),
                        source: "none-no-copy".to_owned(),
                        rungs: "dkim, size".to_owned(),
                    },
                }],
            }],
            vitals: Vitals {
                probes: 3,
                probes_slow: 1,
                disk_free: Some(Ppm::new(400_000)),
                probe_micros: 900,
                read_errors: 2,
                ..Vitals::default()
            },
            account: Some(Account {
                answered: 4,
                recorded: 3,
                untold: 5,
                reclosed: vec![(JobNumber::new(3), vec![Ordinal::new(1)])],
                journaled: Some(12),
                kept_back: Some(kept_back()),
                store_claimed: Generation::new(14),
            }),
        }
    }

    fn kept_back() -> KeptBack {
        let waves = vec![WaveNumber::new(0), WaveNumber::new(u16::MAX)];
        let mailboxes = vec![(JobNumber::new(3), Ordinal::new(1))];
        KeptBack { node: true, waves, mailboxes }
    }
}
