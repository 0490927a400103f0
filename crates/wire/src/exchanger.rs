//! The contract between an exchanger and the coordinator, checked.
//!
//! # Invariants
//!
//! * Both columns of a part of the directory have equal lengths.
//! * A wave that is named in a report is named once.

use std::collections::BTreeSet;

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_core::time::Timestamp;

use crate::limits::{
    DIRECTORY_ROWS_PER_MESSAGE, DOOR_BYTES_PER_MESSAGE, DOOR_CHANGES_PER_MESSAGE,
    EXCHANGER_BYTES_MAX,
};
use crate::protocol::{
    ProtocolError, bounded, digest, instant, narrow, present, timestamp,
};
use crate::v1;
use crate::v1::watch_response::Part;

/// The number of the contract between exchangers and coordinators. It rises when an older
/// side would misread a newer one.
pub const CONTRACT: u32 = 1;

/// Waves are numbered in 16 bits, and nodes too.
const NAMES_MAX: usize = 1 << 16;

/// An exchanger that wants to know everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Its own name.
    pub exchanger: String,
    /// The plan whose directory it holds.
    pub holds: Option<Digest>,
}

/// One thing that an exchanger is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Who there is.
    Directory(DirectoryHead),
    /// Mailboxes of the directory, each with its wave.
    Mailboxes(Vec<(String, Option<WaveNumber>)>),
    /// Whether a run of mailboxes takes mail, a bit each, the lowest first.
    Doors {
        /// The first mailbox of the run.
        first: MailboxNumber,
        /// The bits.
        bits: Vec<u8>,
    },
    /// Mailboxes whose doors have changed.
    DoorChanges(DoorChanges),
    /// How the nodes are, in the order of the directory.
    Storages(Vec<Storage>),
    /// Everything has been told.
    Complete,
}

/// Who there is, before the mailboxes themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryHead {
    /// The plan.
    pub plan: Digest,
    /// The names of its waves.
    pub waves: Vec<String>,
    /// The nodes, each with how many mailboxes it has.
    pub nodes: Vec<(String, u32)>,
    /// Whether the mailboxes follow.
    pub follows: bool,
}

/// Mailboxes whose doors have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorChanges {
    /// Those that take mail now.
    pub opened: Vec<MailboxNumber>,
    /// Those that take none now.
    pub held: Vec<MailboxNumber>,
}

/// How a node is, as far as delivering to it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// Whether it is to be delivered to at all.
    pub healthy: bool,
    /// Messages a second that this exchanger may have delivered to it.
    pub deliveries_per_second: u32,
}

/// What waits in an exchanger's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReport {
    /// The exchanger.
    pub exchanger: String,
    /// The plan whose waves these are.
    pub plan: Digest,
    /// When the queue was last listed completely.
    pub listed_at: Timestamp,
    /// Waves with something to say.
    pub waves: Vec<WaveQueue>,
    /// Messages to nobody in a wave.
    pub elsewhere_messages: u64,
    /// Nodes for which mail waits that could be delivered, and for how many seconds the
    /// longest of it does.
    pub nodes: Vec<(NodeNumber, u32)>,
}

/// What waits for one wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaveQueue {
    /// The wave.
    pub wave: WaveNumber,
    /// Messages with a recipient in it.
    pub messages: u64,
    /// Recipients in it.
    pub recipients: u64,
    /// Of these, those whose mailbox takes mail.
    pub open_recipients: u64,
    /// When the oldest arrived.
    pub oldest_at: Option<Timestamp>,
    /// Messages handed back for delivery since the exchanger started.
    pub flushed: u64,
    /// The same over the last seconds, each second.
    pub flushed_per_second: u32,
    /// Messages left to the mail server's own schedule.
    pub left: u64,
}

impl From<Watching> for v1::WatchRequest {
    fn from(watching: Watching) -> Self {
        let Watching { exchanger, holds } = watching;
        let plan_digest = holds.map(|digest| digest.to_string()).unwrap_or_default();
        Self { exchanger, contract: CONTRACT, plan_digest }
    }
}

impl TryFrom<v1::WatchRequest> for Watching {
    type Error = ProtocolError;

    fn try_from(message: v1::WatchRequest) -> Result<Self, Self::Error> {
        if message.contract != CONTRACT {
            return Err(ProtocolError::invalid("contract", &message.contract));
        }
        let exchanger = exchanger(message.exchanger)?;
        let plan = message.plan_digest;
        let holds =
            (!plan.is_empty()).then(|| digest("plan_digest", &plan)).transpose()?;
        Ok(Self { exchanger, holds })
    }
}

fn exchanger(name: String) -> Result<String, ProtocolError> {
    if name.trim().is_empty() {
        return Err(ProtocolError::missing("exchanger"));
    }
    bounded("exchanger", name.len(), EXCHANGER_BYTES_MAX)?;
    Ok(name)
}

impl From<Told> for v1::WatchResponse {
    fn from(told: Told) -> Self {
        let part = match told {
            Told::Directory(head) => Part::Directory(head.into()),
            Told::Mailboxes(mailboxes) => {
                let number = |wave: Option<WaveNumber>| {
                    wave.map_or(0, |wave| u32::from(wave.get()) + 1)
                };
                let (addresses, waves) = mailboxes
                    .into_iter()
                    .map(|(address, wave)| (address, number(wave)))
                    .unzip();
                Part::DirectoryPart(v1::DirectoryPart { addresses, waves })
            }
            Told::Doors { first, bits } => {
                Part::Doors(v1::Doors { first: first.get(), bits })
            }
            Told::DoorChanges(changes) => {
                let numbers = |mailboxes: Vec<MailboxNumber>| {
                    mailboxes.into_iter().map(MailboxNumber::get).collect()
                };
                Part::DoorChanges(v1::DoorChanges {
                    opened: numbers(changes.opened),
                    held: numbers(changes.held),
                })
            }
            Told::Storages(storages) => {
                let storages = storages.into_iter().map(|storage| v1::Storage {
                    healthy: storage.healthy,
                    deliveries_per_second: storage.deliveries_per_second,
                });
                Part::Storages(v1::Storages { storages: storages.collect() })
            }
            Told::Complete => Part::Complete(v1::Complete {}),
        };
        Self { part: Some(part) }
    }
}

impl From<DirectoryHead> for v1::Directory {
    fn from(head: DirectoryHead) -> Self {
        let node = |(name, mailboxes)| v1::DirectoryNode { name, mailboxes };
        Self {
            plan_digest: head.plan.to_string(),
            waves: head.waves,
            nodes: head.nodes.into_iter().map(node).collect(),
            follows: head.follows,
        }
    }
}

impl TryFrom<v1::WatchResponse> for Told {
    type Error = ProtocolError;

    fn try_from(message: v1::WatchResponse) -> Result<Self, Self::Error> {
        Ok(match present("part", message.part)? {
            Part::Directory(head) => Self::Directory(head.try_into()?),
            Part::DirectoryPart(part) => Self::Mailboxes(mailboxes(part)?),
            Part::Doors(v1::Doors { first, bits }) => {
                bounded("doors.bits", bits.len(), DOOR_BYTES_PER_MESSAGE)?;
                Self::Doors { first: MailboxNumber::new(first), bits }
            }
            Part::DoorChanges(v1::DoorChanges { opened, held }) => {
                let changes = opened.len() + held.len();
                bounded("door_changes", changes, DOOR_CHANGES_PER_MESSAGE)?;
                let numbers = |numbers: Vec<u32>| {
                    numbers.into_iter().map(MailboxNumber::new).collect()
                };
                Self::DoorChanges(DoorChanges {
                    opened: numbers(opened),
                    held: numbers(held),
                })
            }
            Part::Storages(v1::Storages { storages }) => {
                bounded("storages", storages.len(), NAMES_MAX)?;
                let storages = storages.into_iter().map(|storage| Storage {
                    healthy: storage.healthy,
                    deliveries_per_second: storage.deliveries_per_second,
                });
                Self::Storages(storages.collect())
            }
            Part::Complete(v1::Complete {}) => Self::Complete,
        })
    }
}

fn mailboxes(
    part: v1::DirectoryPart,
) -> Result<Vec<(String, Option<WaveNumber>)>, ProtocolError> {
    let v1::DirectoryPart { addresses, waves } = part;
    bounded("directory_part", addresses.len(), DIRECTORY_ROWS_PER_MESSAGE)?;
    if addresses.len() != waves.len() {
        return Err(ProtocolError::invalid("directory_part.waves", &waves.len()));
    }
    let wave = |number: u32| {
        let wave = number.checked_sub(1).map(|wave| narrow("directory_part.waves", wave));
        Ok(wave.transpose()?.map(WaveNumber::new))
    };
    let each = addresses.into_iter().zip(waves);
    each.map(|(address, number)| Ok((address, wave(number)?))).collect()
}

impl TryFrom<v1::Directory> for DirectoryHead {
    type Error = ProtocolError;

    fn try_from(message: v1::Directory) -> Result<Self, Self::Error> {
        bounded("directory.waves", message.waves.len(), NAMES_MAX)?;
        bounded("directory.nodes", message.nodes.len(), NAMES_MAX)?;
        let nodes = message.nodes.into_iter().map(|node| (node.name, node.mailboxes));
        Ok(Self {
            plan: digest("directory.plan_digest", &message.plan_digest)?,
            waves: message.waves,
            nodes: nodes.collect(),
            follows: message.follows,
        })
    }
}

impl From<QueueReport> for v1::ReportQueueRequest {
    fn from(report: QueueReport) -> Self {
        let wave = |queue: WaveQueue| v1::WaveQueue {
            wave: queue.wave.get().into(),
            messages: queue.messages,
            recipients: queue.recipients,
            open_recipients: queue.open_recipients,
            oldest_time: queue.oldest_at.map(timestamp),
            flushed: queue.flushed,
            flushed_per_second: queue.flushed_per_second,
            left: queue.left,
        };
        let node = |(node, waits_seconds): (NodeNumber, u32)| v1::NodeQueue {
            node: node.get().into(),
            waits_seconds,
        };
        Self {
            exchanger: report.exchanger,
            plan_digest: report.plan.to_string(),
            listed_time: Some(timestamp(report.listed_at)),
            waves: report.waves.into_iter().map(wave).collect(),
            elsewhere_messages: report.elsewhere_messages,
            nodes: report.nodes.into_iter().map(node).collect(),
        }
    }
}

impl TryFrom<v1::ReportQueueRequest> for QueueReport {
    type Error = ProtocolError;

    fn try_from(message: v1::ReportQueueRequest) -> Result<Self, Self::Error> {
        bounded("waves", message.waves.len(), NAMES_MAX)?;
        let waves: Vec<WaveQueue> = message
            .waves
            .into_iter()
            .map(WaveQueue::try_from)
            .collect::<Result<_, _>>()?;
        let mut named = BTreeSet::new();
        if let Some(twice) = waves.iter().find(|queue| !named.insert(queue.wave)) {
            return Err(ProtocolError::invalid("waves.wave", &twice.wave));
        }
        bounded("nodes", message.nodes.len(), NAMES_MAX)?;
        let node = |queue: v1::NodeQueue| {
            let node = NodeNumber::new(narrow("nodes.node", queue.node)?);
            Ok((node, queue.waits_seconds))
        };
        let nodes = message.nodes.into_iter().map(node);
        let nodes = nodes.collect::<Result<_, ProtocolError>>()?;
        let listed = present("listed_time", message.listed_time)?;
        Ok(Self {
            exchanger: exchanger(message.exchanger)?,
            plan: digest("plan_digest", &message.plan_digest)?,
            listed_at: present("listed_time", instant(&listed))?,
            waves,
            elsewhere_messages: message.elsewhere_messages,
            nodes,
        })
    }
}

impl TryFrom<v1::WaveQueue> for WaveQueue {
    type Error = ProtocolError;

    fn try_from(message: v1::WaveQueue) -> Result<Self, Self::Error> {
        Ok(Self {
            wave: WaveNumber::new(narrow("waves.wave", message.wave)?),
            messages: message.messages,
            recipients: message.recipients,
            open_recipients: message.open_recipients,
            oldest_at: message.oldest_time.as_ref().and_then(instant),
            flushed: message.flushed,
            flushed_per_second: message.flushed_per_second,
            left: message.left,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_told_survives_the_way() {
        let told = [
            Told::Directory(DirectoryHead {
                plan: plan(),
                waves: vec!["canary".to_owned()],
                nodes: vec![("n1".to_owned(), 7)],
                follows: true,
            }),
            Told::Mailboxes(vec![
                ("anna@example.org".to_owned(), Some(WaveNumber::new(0))),
                ("bob@example.org".to_owned(), None),
            ]),
            Told::Doors { first: MailboxNumber::new(64), bits: vec![1, 128] },
            Told::DoorChanges(DoorChanges {
                opened: vec![MailboxNumber::new(3)],
                held: vec![MailboxNumber::new(4)],
            }),
            Told::Storages(vec![Storage { healthy: true, deliveries_per_second: 40 }]),
            Told::Complete,
        ];

        for told in told {
            let message = v1::WatchResponse::from(told.clone());
            assert_eq!(Told::try_from(message), Ok(told));
        }
    }

    #[test]
    fn a_report_survives_the_way() {
        let report = report();

        let arrived = QueueReport::try_from(v1::ReportQueueRequest::from(report.clone()));

        assert_eq!(arrived, Ok(report));
    }

    #[test]
    fn a_wave_is_reported_once() {
        let mut message = v1::ReportQueueRequest::from(report());
        message.waves.extend(message.waves.clone());

        let refused = QueueReport::try_from(message);

        assert_eq!(refused, Err(ProtocolError::invalid("waves.wave", "wave 2")));
    }

    #[test]
    fn columns_of_unequal_length_are_refused() {
        let part = v1::DirectoryPart { addresses: vec!["a@b".to_owned()], waves: vec![] };
        let message = v1::WatchResponse { part: Some(Part::DirectoryPart(part)) };

        assert!(Told::try_from(message).is_err());
        assert!(Told::try_from(v1::WatchResponse { part: None }).is_err());
    }

    #[test]
    fn a_watcher_has_a_name_and_the_same_contract() {
        let watching = Watching { exchanger: "mx1".to_owned(), holds: Some(plan()) };
        let message = v1::WatchRequest::from(watching.clone());
        let newer = v1::WatchRequest { contract: 2, ..message.clone() };
        let nameless = v1::WatchRequest { exchanger: " ".to_owned(), ..message.clone() };

        assert_eq!(Watching::try_from(message), Ok(watching));
        assert_eq!(
            Watching::try_from(newer),
            Err(ProtocolError::invalid("contract", "2"))
        );
        assert_eq!(
            Watching::try_from(nameless),
            Err(ProtocolError::missing("exchanger"))
        );
    }

    fn report() -> QueueReport {
        QueueReport {
            exchanger: "mx1".to_owned(),
            plan: plan(),
            listed_at: Timestamp::from_millis(1_795_302_123_456),
            waves: vec![WaveQueue {
                wave: WaveNumber::new(2),
                messages: 1_234,
                recipients: 1_300,
                open_recipients: 20,
                oldest_at: Some(Timestamp::from_millis(1_795_300_000_000)),
                flushed: 80,
                flushed_per_second: 40,
                left: 1,
            }],
            elsewhere_messages: 5,
            nodes: vec![(NodeNumber::new(3), 70)],
        }
    }

    fn plan() -> Digest {
        Digest::from_hex(&"5a".repeat(32)).unwrap()
    }
}
