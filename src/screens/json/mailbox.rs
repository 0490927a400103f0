//! Mailboxes, what was found in them, and what happened, for programs.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::time::Timestamp;
use tidegate_mail::Grade;
use tidegate_wire::v1;

use super::{
    Time, Why, health_word, kind_word, preparation_word, reasons, some, value, when,
};
use crate::screens::schedule::{self, WindowShown};
use crate::screens::single::received;

/// One mailbox at one instant.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.mailbox/v1")]
pub(crate) struct Mailbox<'a> {
    /// Its owner's address.
    address: &'a str,
    /// The node that stores it.
    node: &'a str,
    /// Its tier.
    tier: &'a str,
    /// Its store below the node's mail root.
    path: &'a str,
    /// Its wave's name; null when it is excluded.
    wave: Option<&'a str>,
    /// Why it is in no wave, if it is not.
    excluded: Option<&'a str>,
    /// How far its bytes are: `waiting`, `prepared` or `quarantined`.
    #[schemars(extend("enum" = super::words(super::preparation_word)))]
    preparation: &'static str,
    /// The level it stands on; 0 is held.
    level: u32,
    /// Services that admit its owner now.
    services: &'a [String],
    /// What it has shown on this level.
    #[schemars(extend("enum" = super::words(super::health_word)))]
    health: &'static str,
    /// What of the ladder works for it, from the first rung on.
    rungs: Vec<Rung<'a>>,
    /// Whether it is held with a dial tone.
    dial_tone: bool,
    /// Whether it is re-closed and not known to be closed yet.
    closing: bool,
    /// Since when it has had its dial tone.
    dial_tone_since: Option<Time>,
    /// The services of that.
    dial_services: &'a [String],
    /// In which language its user is told to wait.
    language: Option<&'a str>,
    /// When it is expected back, as its user is told.
    expected: Option<WindowShown>,
    /// What its user is told.
    told: Option<String>,
    /// What it waits for.
    why: Vec<Why<'a>>,
    /// What a person should know.
    findings: Vec<Found<'a>>,
}

/// A rung of the ladder, seen from a mailbox.
#[derive(Serialize, JsonSchema)]
struct Rung<'a> {
    /// Its name.
    name: &'a str,
    /// Its services.
    services: &'a [String],
    /// Whether they work: `open`, `opening`, `scheduled` or `held`.
    #[schemars(extend("enum" = super::words(schedule::rung_word)))]
    state: &'static str,
    /// When the wave was allowed them, or when its schedule allows them.
    time: Option<Time>,
}

/// One mailbox.
pub(crate) fn mailbox(mailbox: &v1::Mailbox, now: Timestamp) -> Value {
    value(&Mailbox {
        address: &mailbox.address,
        node: &mailbox.node,
        tier: &mailbox.tier,
        path: &mailbox.path,
        wave: some(&mailbox.wave),
        excluded: some(&mailbox.excluded),
        preparation: preparation_word(mailbox.preparation()),
        level: mailbox.level,
        services: &mailbox.services,
        health: health_word(mailbox.health()),
        rungs: mailbox.rungs.iter().map(Rung::of).collect(),
        dial_tone: mailbox.dial_tone,
        closing: mailbox.closing,
        dial_tone_since: when!(mailbox.dial_tone_time),
        dial_services: &mailbox.dial_services,
        language: mailbox.notice.as_ref().map(|notice| notice.language.as_str()),
        expected: schedule::window_shown(mailbox.expected.as_ref()),
        told: schedule::told(mailbox, now),
        why: reasons(&mailbox.why),
        findings: mailbox.findings.iter().map(Found::of).collect(),
    })
}

impl<'a> Rung<'a> {
    fn of(rung: &'a v1::MailboxRung) -> Self {
        Self {
            name: &rung.name,
            services: &rung.services,
            state: schedule::rung_word(rung.state()),
            time: when!(rung.time),
        }
    }
}

/// Something that a person should know of a mailbox.
#[derive(Serialize, JsonSchema)]
struct Found<'a> {
    /// `set-aside`, `lost`, `doubt`, `quarantined` or `probe`.
    #[schemars(extend("enum" = super::words(super::kind_word)))]
    kind: &'static str,
    /// The folder; empty for a mailbox as a whole.
    folder: &'a str,
    /// The message's UID, where it is known.
    uid: Option<u32>,
    /// The name of the message's file.
    name: &'a str,
    /// A stable code of why: `tidegate explain CODE`.
    code: &'a str,
    /// The same in words, with its numbers.
    reason: &'a str,
    /// The message's size, where it is known.
    size_bytes: Option<u64>,
    /// Where its bytes are kept on the node.
    kept_at: Option<&'a str>,
    /// When the message arrived.
    received_time: Option<Time>,
    /// Which side its bytes came from.
    source: Option<&'a str>,
    /// What the decision stood on, strongest first.
    rungs: Vec<&'a str>,
}

impl<'a> Found<'a> {
    fn of(finding: &'a v1::Finding) -> Self {
        let rungs = finding.rungs.split(", ").filter(|it| !it.is_empty());
        Self {
            kind: kind_word(finding.kind()),
            folder: &finding.folder,
            uid: (finding.uid != 0).then_some(finding.uid),
            name: &finding.name,
            code: &finding.code,
            reason: &finding.reason,
            size_bytes: (finding.size_bytes != 0).then_some(finding.size_bytes),
            kept_at: some(&finding.kept_at),
            received_time: received(finding).map(Time),
            source: some(&finding.source),
            rungs: rungs.collect(),
        }
    }
}

/// A finding with its mailbox: from the coordinator's lists, and from those on the nodes, which
/// alone know `path`, `grade`, `numbers` and `subject`.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.finding/v1")]
pub(crate) struct Finding<'a> {
    /// The mailbox's address.
    pub(crate) address: &'a str,
    /// The node that stores it.
    pub(crate) node: &'a str,
    /// Its store below the node's mail root.
    pub(crate) path: Option<String>,
    /// How well the mailbox came back.
    #[schemars(extend("enum" = super::or_null(Grade::ALL.map(Grade::code))))]
    pub(crate) grade: Option<&'static str>,
    /// `set-aside`, `lost`, `doubt`, `quarantined` or `probe`.
    #[schemars(extend("enum" = super::words(super::kind_word)))]
    pub(crate) kind: &'static str,
    /// The folder; empty for a mailbox as a whole.
    pub(crate) folder: &'a str,
    /// The message's UID, where it is known.
    pub(crate) uid: Option<u32>,
    /// The name of the message's file.
    pub(crate) name: &'a str,
    /// When the message arrived.
    pub(crate) received_time: Option<Time>,
    /// The message's size, where it is known.
    pub(crate) size_bytes: Option<u64>,
    /// A stable code of why: `tidegate explain CODE`.
    pub(crate) code: &'a str,
    /// The numbers of the reason.
    pub(crate) numbers: Option<[u64; 2]>,
    /// The reason in words, with its numbers.
    pub(crate) reason: String,
    /// Which side its bytes came from.
    pub(crate) source: Option<&'a str>,
    /// What the decision stood on, strongest first.
    pub(crate) rungs: Vec<&'a str>,
    /// The message's subject, where it is known.
    pub(crate) subject: Option<&'a str>,
    /// Where its bytes are kept on the node.
    pub(crate) kept_at: Option<&'a str>,
}

/// A finding of the coordinator's lists.
pub(crate) fn finding(found: &v1::MailboxFinding) -> Value {
    let finding = found.finding.clone().unwrap_or_default();
    let Found {
        kind,
        folder,
        uid,
        name,
        code,
        reason,
        size_bytes,
        kept_at,
        received_time,
        source,
        rungs,
    } = Found::of(&finding);
    value(&Finding {
        address: &found.address,
        node: &found.node,
        path: None,
        grade: None,
        kind,
        folder,
        uid,
        name,
        received_time,
        size_bytes,
        code,
        numbers: None,
        reason: reason.to_owned(),
        source,
        rungs,
        subject: None,
        kept_at,
    })
}

/// Something that happened to the rollout.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.event/v1")]
pub(crate) struct Event<'a> {
    /// When.
    time: Option<Time>,
    /// A stable code of what it is.
    code: &'a str,
    /// One line for people.
    text: &'a str,
    /// Who did it; null when the program did.
    by: Option<&'a str>,
}

/// An event.
pub(crate) fn event(event: &v1::Event) -> Value {
    let time = when!(event.time);
    let v1::Event { code, text, by, .. } = event;
    value(&Event { time, code, text, by: some(by) })
}
