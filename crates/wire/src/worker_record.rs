//! What a worker's journal holds, checked.
//!
//! # Invariants
//!
//! * What is encoded decodes to the same; anything else is an error, never a guess.

use prost::Message;
use tidegate_core::fleet::{Generation, JobNumber, MailboxNumber, Ordinal};
use tidegate_core::holding::{DialStep, Record, Settled, Stamp, Switched};
use tidegate_core::inventory::Digest;
use tidegate_core::mailbox::{Health, Level};
use tidegate_core::policy::{Language, Rung, Window};
use tidegate_core::rollout::Finding;
use tidegate_core::time::Timestamp;

use crate::journal::v1 as past;
use crate::journal::v1::worker_record::Record as Kept;
use crate::protocol::{ProtocolError, narrow, present};
use crate::v1;
use crate::worker::{JobMailbox, JobPart, NodeNotice, level};

/// A journal of a worker cannot be understood. It must not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerRecordError {
    /// The bytes are no record.
    #[error("read a record")]
    Decode {
        /// What is wrong with them.
        source: prost::DecodeError,
    },
    /// The record breaks its contract.
    #[error("read a record")]
    Broken(#[from] ProtocolError),
}

/// One entry of a worker's journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The worker joined a rollout; always the first.
    Joined(RolloutJoined),
    /// Something happened to its mailboxes.
    Record(Record),
    /// Admission lets in the owners of all mailboxes raised so far; when.
    Shown(Timestamp),
    /// The mail system has carried out every closing so far; when.
    ShutOut(Timestamp),
    /// A state that was put back has been accepted: somebody may be in any of its mailboxes;
    /// when.
    PutBack(Timestamp),
}

/// A rollout, and the ladder by which admission answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutJoined {
    /// The plan's digest.
    pub rollout: Digest,
    /// The node's name.
    pub node: String,
    /// The service ladder from its first step.
    pub ladder: Vec<Rung>,
    /// How held users are told to wait.
    pub notice: NodeNotice,
    /// The services that make a dial tone.
    pub dial_services: Vec<String>,
}

/// The bytes of an entry.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let kept = match entry {
        Entry::Joined(joined) => Kept::RolloutJoined(past::RolloutJoined {
            rollout: joined.rollout.to_string(),
            node: joined.node.clone(),
            ladder: joined.ladder.iter().cloned().map(v1::Rung::from).collect(),
            notice: Some(joined.notice.clone().into()),
            dial_services: joined.dial_services.clone(),
        }),
        Entry::Record(record) => keep(record),
        Entry::Shown(at) => Kept::DoorsShown(past::DoorsShown { at_millis: at.millis() }),
        Entry::ShutOut(at) => {
            let at_millis = at.millis();
            Kept::ClosingsCarriedOut(past::ClosingsCarriedOut { at_millis })
        }
        Entry::PutBack(at) => {
            Kept::StatePutBack(past::StatePutBack { at_millis: at.millis() })
        }
    };
    past::WorkerRecord { record: Some(kept) }.encode_to_vec()
}

/// Whether these bytes of an entry are kept for ever: which rollout the worker has joined.
pub fn is_story(bytes: &[u8]) -> bool {
    const ROLLOUT_JOINED: u32 = 1;
    let key = prost::encoding::decode_key(&mut &bytes[..]);
    key.is_ok_and(|(field, _)| field == ROLLOUT_JOINED)
}

/// An entry from its bytes.
///
/// # Errors
///
/// [`WorkerRecordError`]: the journal must not be acted on.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, WorkerRecordError> {
    let record = past::WorkerRecord::decode(bytes)
        .map_err(|source| WorkerRecordError::Decode { source })?;
    let record = match present("record", record.record)? {
        Kept::RolloutJoined(kept) => {
            return Ok(Entry::Joined(RolloutJoined {
                rollout: crate::protocol::digest("rollout", &kept.rollout)?,
                node: kept.node,
                ladder: kept.ladder.into_iter().map(Rung::from).collect(),
                notice: kept.notice.map(NodeNotice::from).unwrap_or_default(),
                dial_services: kept.dial_services,
            }));
        }
        Kept::JobClaimed(kept) => Record::JobClaimed {
            job: JobNumber::new(kept.job),
            generation: Generation::new(kept.generation),
            description: fixed("description_digest", &kept.description_digest)?,
            mailboxes: narrow("mailboxes", kept.mailboxes)?,
            at: Timestamp::from_millis(kept.at_millis),
        },
        Kept::MailboxesSettled(kept) => Record::Settled {
            job: JobNumber::new(kept.job),
            generation: Generation::new(kept.generation),
            mailboxes: kept
                .mailboxes
                .into_iter()
                .map(settled)
                .collect::<Result<_, ProtocolError>>()?,
            at: Timestamp::from_millis(kept.at_millis),
        },
        Kept::MailboxesUnsettled(kept) => Record::Unsettled {
            job: JobNumber::new(kept.job),
            generation: Generation::new(kept.generation),
            ordinals: ordinals(&kept.ordinals)?,
            at: Timestamp::from_millis(kept.at_millis),
        },
        Kept::LevelRaised(kept) => Record::Raised {
            job: JobNumber::new(kept.job),
            generation: Generation::new(kept.generation),
            level: raised_level(kept.level)?,
            ordinals: ordinals(&kept.ordinals)?,
            at: Timestamp::from_millis(kept.at_millis),
        },
        Kept::MailboxesClosed(kept) => Record::Closed {
            job: JobNumber::new(kept.job),
            generation: Generation::new(kept.generation),
            ordinals: ordinals(&kept.ordinals)?,
            at: Timestamp::from_millis(kept.at_millis),
        },
        Kept::HealthNoted(kept) => health_noted(kept)?,
        Kept::DialToneStep(kept) => dial_tone(&kept)?,
        Kept::DialTonesSwitched(kept) => dial_tones_switched(kept)?,
        Kept::ClosingsCarriedOut(kept) => {
            return Ok(Entry::ShutOut(Timestamp::from_millis(kept.at_millis)));
        }
        Kept::KeepingBack(kept) => Record::KeptBack {
            kept_back: present("kept_back", kept.kept_back)?.try_into()?,
            at: Timestamp::from_millis(kept.at_millis),
        },
        Kept::StatePutBack(kept) => {
            return Ok(Entry::PutBack(Timestamp::from_millis(kept.at_millis)));
        }
        Kept::DoorsShown(kept) => {
            return Ok(Entry::Shown(Timestamp::from_millis(kept.at_millis)));
        }
    };
    Ok(Entry::Record(record))
}

/// One mailbox of a description, its texts in the pieces that they are kept in.
#[derive(Clone, Copy, Debug)]
pub struct InPieces<'a> {
    /// Its number in the inventory.
    pub number: MailboxNumber,
    /// Its owner's address.
    pub address: [&'a str; 2],
    /// Its store below the node's mail root.
    pub path: [&'a str; 3],
    /// The language in which its owner is told to wait; nothing for the default.
    pub language: Option<Language>,
}

impl<'a> From<&'a JobMailbox> for InPieces<'a> {
    fn from(JobMailbox { number, address, path, language }: &'a JobMailbox) -> Self {
        let (address, path) = ([&**address, ""], [&**path, "", ""]);
        Self { number: *number, address, path, language: *language }
    }
}

/// The bytes of a job's description: what is kept beside the journal.
pub fn encode_description<'a>(
    mailboxes: impl Iterator<Item = InPieces<'a>>,
    expected: Option<Window>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut one = v1::JobMailbox::default();
    for InPieces { number, address, path, language } in mailboxes {
        one.number = number.get();
        one.address.clear();
        one.address.extend(address);
        one.path.clear();
        one.path.extend(path);
        one.language.clear();
        one.language.push_str(language.map_or("", |it| it.code()));
        prost::encoding::message::encode(MAILBOXES, &one, &mut bytes);
    }
    // Messages behind each other are one message, of which all lists go on.
    let expected = expected.map(v1::Window::from);
    let rest = v1::FetchJobResponse { mailboxes: Vec::new(), expected };
    bytes.extend(rest.encode_to_vec());
    bytes
}

/// The number of [`v1::FetchJobResponse::mailboxes`].
const MAILBOXES: u32 = 1;

/// A job's description from its bytes, older ones too.
///
/// # Errors
///
/// [`WorkerRecordError`]: the job must not be worked on.
pub fn decode_description(bytes: &[u8]) -> Result<JobPart, WorkerRecordError> {
    let kept = v1::FetchJobResponse::decode(bytes)
        .map_err(|source| WorkerRecordError::Decode { source })?;
    Ok(JobPart::whole(kept)?)
}

fn keep(record: &Record) -> Kept {
    match record {
        Record::KeptBack { kept_back, at } => Kept::KeepingBack(past::KeepingBack {
            kept_back: Some(kept_back.into()),
            at_millis: at.millis(),
        }),
        Record::JobClaimed { job, generation, description, mailboxes, at } => {
            Kept::JobClaimed(past::JobClaimed {
                job: job.get(),
                generation: generation.get(),
                description_digest: description.to_vec(),
                mailboxes: u32::from(*mailboxes),
                at_millis: at.millis(),
            })
        }
        Record::Settled { job, generation, mailboxes, at } => {
            Kept::MailboxesSettled(past::MailboxesSettled {
                job: job.get(),
                generation: generation.get(),
                mailboxes: mailboxes.iter().map(keep_settled).collect(),
                at_millis: at.millis(),
            })
        }
        Record::Unsettled { job, generation, ordinals, at } => {
            Kept::MailboxesUnsettled(past::MailboxesUnsettled {
                job: job.get(),
                generation: generation.get(),
                ordinals: keep_ordinals(ordinals),
                at_millis: at.millis(),
            })
        }
        Record::Raised { job, generation, level, ordinals, at } => {
            Kept::LevelRaised(past::LevelRaised {
                job: job.get(),
                generation: generation.get(),
                level: u32::from(level.get()),
                ordinals: keep_ordinals(ordinals),
                at_millis: at.millis(),
            })
        }
        Record::Closed { job, generation, ordinals, at } => {
            Kept::MailboxesClosed(past::MailboxesClosed {
                job: job.get(),
                generation: generation.get(),
                ordinals: keep_ordinals(ordinals),
                at_millis: at.millis(),
            })
        }
        Record::DialTone { job, generation, step, ordinals, at } => {
            Kept::DialToneStep(past::DialToneStep {
                job: job.get(),
                generation: generation.get(),
                step: keep_dial_step(*step),
                ordinals: keep_ordinals(ordinals),
                at_millis: at.millis(),
            })
        }
        Record::DialToneSwitched { job, generation, mailboxes, at } => {
            Kept::DialTonesSwitched(past::DialTonesSwitched {
                job: job.get(),
                generation: generation.get(),
                mailboxes: mailboxes.iter().map(keep_switched).collect(),
                at_millis: at.millis(),
            })
        }
        Record::HealthNoted { job, generation, healths, findings, at } => {
            keep_health_noted((*job, *generation), healths, findings, *at)
        }
    }
}

fn keep_health_noted(
    (job, generation): (JobNumber, Generation),
    healths: &[(Ordinal, Health)],
    findings: &[Finding],
    at: Timestamp,
) -> Kept {
    let (places, healths): (Vec<u32>, Vec<u8>) = healths
        .iter()
        .map(|(ordinal, health)| (u32::from(ordinal.get()), keep_health(*health)))
        .unzip();
    Kept::HealthNoted(past::HealthNoted {
        job: job.get(),
        generation: generation.get(),
        ordinals: places,
        healths,
        findings: findings.iter().cloned().map(v1::Finding::from).collect(),
        at_millis: at.millis(),
    })
}

fn dial_tone(kept: &past::DialToneStep) -> Result<Record, ProtocolError> {
    Ok(Record::DialTone {
        job: JobNumber::new(kept.job),
        generation: Generation::new(kept.generation),
        step: dial_step(kept.step)?,
        ordinals: ordinals(&kept.ordinals)?,
        at: Timestamp::from_millis(kept.at_millis),
    })
}

fn dial_tones_switched(kept: past::DialTonesSwitched) -> Result<Record, ProtocolError> {
    let mailboxes = kept.mailboxes.into_iter().map(switched);
    Ok(Record::DialToneSwitched {
        job: JobNumber::new(kept.job),
        generation: Generation::new(kept.generation),
        mailboxes: mailboxes.collect::<Result<_, ProtocolError>>()?,
        at: Timestamp::from_millis(kept.at_millis),
    })
}

fn keep_dial_step(step: DialStep) -> u32 {
    match step {
        DialStep::Intended => 1,
        DialStep::Begun => 2,
        DialStep::Ended => 3,
    }
}

fn health_noted(kept: past::HealthNoted) -> Result<Record, ProtocolError> {
    if kept.ordinals.len() != kept.healths.len() {
        let lengths = format!("{} for {}", kept.healths.len(), kept.ordinals.len());
        return Err(ProtocolError::invalid("healths", &lengths));
    }
    let healths = ordinals(&kept.ordinals)?.into_iter().zip(kept.healths);
    let findings = kept.findings.into_iter().map(Finding::try_from);
    Ok(Record::HealthNoted {
        job: JobNumber::new(kept.job),
        generation: Generation::new(kept.generation),
        healths: healths
            .map(|(ordinal, byte)| Ok((ordinal, health(byte)?)))
            .collect::<Result<_, ProtocolError>>()?,
        findings: findings.collect::<Result<_, _>>()?,
        at: Timestamp::from_millis(kept.at_millis),
    })
}

fn keep_settled(settled: &Settled) -> past::Settled {
    past::Settled {
        ordinal: u32::from(settled.ordinal.get()),
        quarantined: settled.stamp.is_none(),
        stamp: settled.stamp.map_or(Vec::new(), |stamp| stamp.to_vec()),
        totals: Some(settled.totals.into()),
        findings: settled.findings.iter().cloned().map(v1::Finding::from).collect(),
    }
}

fn settled(kept: past::Settled) -> Result<Settled, ProtocolError> {
    let stamp: Option<Stamp> =
        if kept.quarantined { None } else { Some(fixed("stamp", &kept.stamp)?) };
    let findings = kept.findings.into_iter().map(Finding::try_from);
    Ok(Settled {
        ordinal: Ordinal::new(narrow("ordinal", kept.ordinal)?),
        stamp,
        totals: present("totals", kept.totals)?.into(),
        findings: findings.collect::<Result<_, _>>()?,
    })
}

fn keep_switched(switched: &Switched) -> past::Switched {
    past::Switched {
        ordinal: u32::from(switched.ordinal.get()),
        stamp: switched.stamp.to_vec(),
        imported: switched.imported,
        findings: switched.findings.iter().cloned().map(v1::Finding::from).collect(),
    }
}

fn switched(kept: past::Switched) -> Result<Switched, ProtocolError> {
    let findings = kept.findings.into_iter().map(Finding::try_from);
    Ok(Switched {
        ordinal: Ordinal::new(narrow("ordinal", kept.ordinal)?),
        stamp: fixed("stamp", &kept.stamp)?,
        imported: kept.imported,
        findings: findings.collect::<Result<_, _>>()?,
    })
}

fn dial_step(number: u32) -> Result<DialStep, ProtocolError> {
    match number {
        1 => Ok(DialStep::Intended),
        2 => Ok(DialStep::Begun),
        3 => Ok(DialStep::Ended),
        other => Err(ProtocolError::invalid("step", &other)),
    }
}

fn keep_ordinals(ordinals: &[Ordinal]) -> Vec<u32> {
    ordinals.iter().map(|ordinal| u32::from(ordinal.get())).collect()
}

fn ordinals(kept: &[u32]) -> Result<Vec<Ordinal>, ProtocolError> {
    kept.iter().map(|place| narrow("ordinals", *place).map(Ordinal::new)).collect()
}

fn keep_health(health: Health) -> u8 {
    match health {
        Health::Unproven => 0,
        Health::Healthy => 1,
        Health::Failed => 2,
        Health::IntegrityFailed => 3,
    }
}

fn health(byte: u8) -> Result<Health, ProtocolError> {
    match byte {
        1 => Ok(Health::Healthy),
        2 => Ok(Health::Failed),
        3 => Ok(Health::IntegrityFailed),
        other => Err(ProtocolError::invalid("healths", &other)),
    }
}

fn raised_level(number: u32) -> Result<Level, ProtocolError> {
    match level("level", number)? {
        Level::HELD => Err(ProtocolError::invalid("level", &number)),
        raised => Ok(raised),
    }
}

fn fixed<const LENGTH: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; LENGTH], ProtocolError> {
    let wrong = format!("{} bytes", bytes.len());
    bytes.try_into().map_err(|_| ProtocolError::invalid(field, &wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::JobMailbox;
    use tidegate_core::fleet::{MailboxNumber, WaveNumber};
    use tidegate_core::policy::{Language, Window};
    use tidegate_core::rollout::{FindingKind, KeptBack, MessageTotals, Origin};
    use tidegate_core::time::Span;

    #[test]
    fn every_entry_survives_its_bytes() {
        let (job, generation) = (JobNumber::new(3), Generation::new(7));
        let at = Timestamp::from_millis(1_700_000_000_000);
        let places = || vec![Ordinal::new(0), Ordinal::new(4_095)];
        let finding = Finding {
            ordinal: Ordinal::new(1),
            kind: FindingKind::SetAside,
            folder: "Entw&APw-rfe".to_owned(),
            uid: Some(9),
            name: "1.M2P3.host,S=4,W=5".to_owned(),
            code: "truncated".to_owned(),
            reason: "truncated".to_owned(),
            size_bytes: 2,
            kept_at: "quarantine/7/g3/Entw%26APw-rfe/1.M2P3".to_owned(),
            origin: Origin::default(),
        };
        let settled = |stamp| Settled {
            ordinal: Ordinal::new(1),
            stamp,
            totals: MessageTotals { intact: 5, ..MessageTotals::default() },
            findings: vec![finding.clone()],
        };
        let records = [
            Record::JobClaimed {
                job,
                generation,
                description: [1; 32],
                mailboxes: 4_096,
                at,
            },
            Record::Settled {
                job,
                generation,
                mailboxes: vec![settled(Some([2; 16])), settled(None)],
                at,
            },
            Record::Unsettled { job, generation, ordinals: places(), at },
            Record::Raised {
                job,
                generation,
                level: Level::FIRST,
                ordinals: places(),
                at,
            },
            Record::Closed { job, generation, ordinals: places(), at },
            Record::KeptBack { kept_back: kept_back(), at },
            Record::HealthNoted {
                job,
                generation,
                healths: vec![(Ordinal::new(1), Health::Failed)],
                findings: vec![finding.clone()],
                at,
            },
        ];
        let entries = records.into_iter().map(Entry::Record).chain([
            Entry::Joined(joined()),
            Entry::Shown(at),
            Entry::ShutOut(at),
            Entry::PutBack(at),
        ]);

        for entry in entries {
            let decoded = decode_entry(&encode_entry(&entry)).expect("its own bytes");

            assert_eq!(decoded, entry);
        }
    }

    fn kept_back() -> KeptBack {
        let mailboxes = vec![(JobNumber::new(2), Ordinal::new(9))];
        KeptBack { node: false, waves: vec![WaveNumber::new(4)], mailboxes }
    }

    #[test]
    fn dial_tones_survive_their_bytes() {
        let (job, generation) = (JobNumber::new(3), Generation::new(7));
        let at = Timestamp::from_millis(1_700_000_000_000);
        let (ordinal, stamp) = (Ordinal::new(1), [4; 16]);
        let (imported, findings) = (6, Vec::new());
        let mailboxes = vec![Switched { ordinal, stamp, imported, findings }];
        let switched = Record::DialToneSwitched { job, generation, mailboxes, at };
        let steps = [DialStep::Intended, DialStep::Begun, DialStep::Ended].map(|step| {
            let ordinals = vec![Ordinal::new(0), ordinal];
            Record::DialTone { job, generation, step, ordinals, at }
        });

        for record in steps.into_iter().chain([switched]) {
            let entry = Entry::Record(record);
            assert_eq!(
                decode_entry(&encode_entry(&entry)).expect("its own bytes"),
                entry
            );
        }
    }

    #[test]
    fn a_description_survives_its_bytes_and_an_older_one_says_less() {
        let (from, to) =
            (Timestamp::from_millis(900_000), Timestamp::from_millis(1_800_000));
        let mailbox = |language| JobMailbox {
            number: MailboxNumber::new(7),
            address: "ann@example.org".to_owned(),
            path: "ann".to_owned(),
            language,
        };
        let told = JobPart {
            mailboxes: vec![mailbox(Some(Language::Italian)), mailbox(None)],
            expected: Some(Window { from, to }),
        };
        let older = [10, 24, 8, 7, 18, 15];
        let older = [&older[..], b"ann@example.org", &[26, 3], b"ann"].concat();

        let bytes_of = |told: &JobPart| {
            let mailboxes = told.mailboxes.iter().map(InPieces::from);
            encode_description(mailboxes, told.expected)
        };
        let again = decode_description(&bytes_of(&told)).expect("its own bytes");
        let old = decode_description(&older).expect("the bytes of an older program");

        assert_eq!(again, told);
        assert_eq!(old, JobPart { mailboxes: vec![mailbox(None)], expected: None });
        assert_eq!(bytes_of(&old), older);
        assert_eq!(bytes_of(&told), v1::FetchJobResponse::from(told).encode_to_vec());
    }

    #[test]
    fn a_raise_to_held_is_no_record() {
        let raised = past::LevelRaised { job: 1, generation: 1, ..Default::default() };
        let bytes = past::WorkerRecord { record: Some(Kept::LevelRaised(raised)) };

        let error =
            decode_entry(&bytes.encode_to_vec()).expect_err("level 0 raises nothing");

        assert!(matches!(error, WorkerRecordError::Broken(_)));
    }
    fn joined() -> RolloutJoined {
        RolloutJoined {
            rollout: Digest::new([7; 32]),
            node: "stor-01".to_owned(),
            ladder: vec![Rung {
                name: "apps".to_owned(),
                services: vec!["imap".to_owned()],
                soak: Some(Span::from_secs(60)),
            }],
            notice: NodeNotice {
                language: Language::Italian,
                zone: "Europe/Rome".to_owned(),
            },
            dial_services: vec!["lmtp".to_owned()],
        }
    }
}
