//! Contract: what is said to the mail system's program and what it may answer.
//!
//! One JSON object per line in both directions, one line per mailbox; `deploy/README.md`
//! explains it to whoever writes such a program.
//!
//! # Invariants
//!
//! * An answer is about a mailbox that was asked about, and there is at most one for each.
//! * One line that cannot be understood spoils the whole call: a program that is wrong
//!   about one mailbox is not believed about its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidegate_core::fleet::Ordinal;
use tidegate_core::rollout::{Finding, FindingKind, MessageTotals, Origin};

/// The contract that is spoken here.
pub(crate) const PROTOCOL: u32 = 1;

/// A longer stamp is a mistake: digests and modification numbers are shorter.
const STAMP_BYTES_MAX: usize = 64;

/// The most findings told of one mailbox: so many fit a report and a record.
const FINDINGS_PER_MAILBOX_MAX: usize = 500;

/// Longer texts are cut: they are read by people, in tables.
const TEXT_BYTES_MAX: usize = 512;

/// Longer codes are a mistake: they are words for programs.
const CODE_BYTES_MAX: usize = 40;

/// What a program is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    /// Say what it can do.
    Capabilities,
    /// Read a mailbox to its last byte.
    Verify,
    /// Make a damaged mailbox whole.
    Repair,
    /// Look cheaply whether a mailbox has changed.
    Look,
    /// Let a mailbox's owner in.
    Open,
    /// Let nobody in.
    Close,
    /// Read an open mailbox as its owner would.
    Probe,
    /// Tell how the disk is.
    Stats,
}

impl Verb {
    /// The last argument of the call.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::Verify => "verify",
            Self::Repair => "repair",
            Self::Look => "look",
            Self::Open => "open",
            Self::Close => "close",
            Self::Probe => "probe",
            Self::Stats => "stats",
        }
    }
}

/// One line of what a program reads.
#[derive(Debug, Serialize)]
pub(crate) struct Ask<'a> {
    pub(crate) key: u64,
    pub(crate) address: &'a str,
    pub(crate) path: &'a str,
    pub(crate) job: u32,
    pub(crate) generation: u64,
    pub(crate) served: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) services: Option<&'a [String]>,
}

/// What a program says of itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capabilities {
    pub(crate) protocol: u32,
    pub(crate) verbs: BTreeSet<Verb>,
    #[serde(default)]
    pub(crate) name: String,
}

/// What a program says of the disk.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stats {
    pub(crate) disk_free_ppm: u32,
}

/// How a mailbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// It is as it should be, or was made so.
    Done,
    /// It must not be served as it is.
    Damaged,
    /// Nothing can be said or done now.
    Again,
    /// A probe could not read it.
    Unreadable,
}

/// What a program says of one mailbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) stamp: Option<[u8; 16]>,
    pub(crate) code: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) millis: Option<u64>,
    pub(crate) totals: MessageTotals,
    findings: Vec<RawFinding>,
}

impl Answer {
    /// What stands for a mailbox that a program left out when it said by its exit code
    /// that mailboxes are damaged.
    pub(crate) fn damaged() -> Self {
        Self {
            status: Status::Damaged,
            stamp: None,
            code: None,
            reason: None,
            millis: None,
            totals: MessageTotals::default(),
            findings: Vec::new(),
        }
    }

    /// The stable word and the reason, or those that stand for none.
    pub(crate) fn why(&self, otherwise: &str) -> (String, String) {
        let code = self.code.clone().unwrap_or_else(|| otherwise.to_owned());
        let reason = self.reason.clone();
        (code, reason.unwrap_or_else(|| "the mail system gives no reason".to_owned()))
    }

    /// What a person should know of its messages.
    pub(crate) fn findings(&self, ordinal: Ordinal) -> Vec<Finding> {
        let findings = self.findings.iter().take(FINDINGS_PER_MAILBOX_MAX);
        findings.map(|raw| raw.told(ordinal)).collect()
    }
}

/// A line that breaks the contract.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of its output {what}")]
pub(crate) struct Nonsense {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAnswer {
    key: u64,
    status: Status,
    stamp: Option<String>,
    code: Option<String>,
    reason: Option<String>,
    millis: Option<u64>,
    #[serde(default)]
    messages: RawMessages,
    #[serde(default)]
    bytes_read: u64,
    #[serde(default)]
    findings: Vec<RawFinding>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMessages {
    intact: u64,
    repaired: u64,
    returned: u64,
    newer: u64,
    deleted: u64,
    set_aside: u64,
    lost: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFinding {
    kind: RawKind,
    code: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    folder: String,
    uid: Option<u32>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    size_bytes: u64,
    #[serde(default)]
    kept_at: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    SetAside,
    Lost,
    Doubt,
}

impl RawFinding {
    fn told(&self, ordinal: Ordinal) -> Finding {
        Finding {
            ordinal,
            kind: match self.kind {
                RawKind::SetAside => FindingKind::SetAside,
                RawKind::Lost => FindingKind::Lost,
                RawKind::Doubt => FindingKind::Doubt,
            },
            folder: text(&self.folder),
            uid: self.uid,
            name: text(&self.name),
            code: self.code.clone(),
            reason: text(&self.reason),
            size_bytes: self.size_bytes,
            kept_at: text(&self.kept_at),
            origin: Origin::default(),
        }
    }
}

/// Reads the answers to a call about the mailboxes with these keys.
pub(crate) fn answers(
    verb: Verb,
    output: &[u8],
    asked: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, Answer>, Nonsense> {
    let mut answers = BTreeMap::new();
    for (line, bytes) in lines(output) {
        let wrong = |what: String| Nonsense { line, what };
        let raw: RawAnswer = parse(line, bytes)?;
        let key = raw.key;
        if !asked.contains(&key) {
            return Err(wrong(format!("answers for {key}, which was not asked for")));
        }
        let answer = raw.check().map_err(wrong)?;
        let stamped = matches!(verb, Verb::Verify | Verb::Look);
        if stamped && answer.status == Status::Done && answer.stamp.is_none() {
            return Err(wrong("is `done` without a stamp".to_owned()));
        }
        if verb != Verb::Probe && answer.status == Status::Unreadable {
            return Err(wrong("is `unreadable`, which only a probe may say".to_owned()));
        }
        if answers.insert(key, answer).is_some() {
            return Err(wrong(format!("answers for {key} a second time")));
        }
    }
    Ok(answers)
}

/// Reads the one line that answers a question without mailboxes.
pub(crate) fn single<T: for<'de> Deserialize<'de>>(output: &[u8]) -> Result<T, Nonsense> {
    let mut lines = lines(output);
    let none = || Nonsense { line: 1, what: "is missing".to_owned() };
    let (line, bytes) = lines.next().ok_or_else(none)?;
    match lines.next() {
        None => parse(line, bytes),
        Some((line, _)) => Err(Nonsense { line, what: "is one too many".to_owned() }),
    }
}

fn lines(output: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = output.split(|byte| *byte == b'\n');
    (1..).zip(lines).filter(|(_, line)| !line.trim_ascii().is_empty())
}

fn parse<T: for<'de> Deserialize<'de>>(line: usize, bytes: &[u8]) -> Result<T, Nonsense> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Only what is wrong and where: the line itself may name somebody.
        let what = match error.classify() {
            serde_json::error::Category::Data => {
                format!("is not as it should be: {}", text(&without_values(&error)))
            }
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => {
                format!("is no JSON object (column {})", error.column())
            }
        };
        Nonsense { line, what }
    })
}

/// The error without what it quotes of the input, which may name somebody.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let (what, _) = text.rsplit_once(" at line ").unwrap_or((&text, ""));
    let unquoted: String = what
        .split('"')
        .enumerate()
        .map(|(at, part)| if at % 2 == 0 { part } else { "…" })
        .collect();
    let unnamed = match unquoted.split_once('`') {
        Some((before, after)) if before.starts_with("unknown") => {
            let (name, after) = after.split_once('`').unwrap_or((after, ""));
            let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let name = if word { name } else { "…" };
            format!("{before}`{name}`{after}")
        }
        Some(_) | None => unquoted,
    };
    format!("{unnamed} (column {})", error.column())
}

impl RawAnswer {
    fn check(self) -> Result<Answer, String> {
        let stamp = match &self.stamp {
            None => None,
            Some(stamp) if stamp.is_empty() || stamp.len() > STAMP_BYTES_MAX => {
                return Err(format!(
                    "has a stamp of {} bytes, should be 1 to {STAMP_BYTES_MAX}",
                    stamp.len()
                ));
            }
            Some(stamp) => Some(stamped(stamp)),
        };
        let codes = self.code.iter().chain(self.findings.iter().map(|it| &it.code));
        for code in codes {
            let plain =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if code.is_empty() || code.len() > CODE_BYTES_MAX || !code.chars().all(plain)
            {
                return Err(format!(
                    "has a code that is not 1 to {CODE_BYTES_MAX} of a-z, 0-9 and -"
                ));
            }
        }
        let messages = self.messages;
        Ok(Answer {
            status: self.status,
            stamp,
            code: self.code,
            reason: self.reason.as_deref().map(text),
            millis: self.millis,
            totals: MessageTotals {
                intact: messages.intact,
                repaired: messages.repaired,
                returned: messages.returned,
                newer: messages.newer,
                deleted: messages.deleted,
                set_aside: messages.set_aside,
                lost: messages.lost,
                bytes_read: self.bytes_read,
                ..MessageTotals::default()
            },
            findings: self.findings,
        })
    }
}

/// The mail system's stamp, as the worker keeps it.
fn stamped(stamp: &str) -> [u8; 16] {
    let mut short = [0; 16];
    let mut hasher = blake3::Hasher::new();
    hasher.update(stamp.as_bytes());
    hasher.finalize_xof().fill(&mut short);
    short
}

/// A text for people: one line, not too long.
fn text(raw: &str) -> String {
    let line = raw.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut bytes = 0;
    let fits = line.take_while(|c| {
        bytes += c.len_utf8();
        bytes <= TEXT_BYTES_MAX
    });
    fits.collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn an_answer_is_read_with_all_that_may_be_in_it() {
        let line = br#"{"key": 7, "status": "done", "stamp": "v1:abc", "bytes_read": 12,
            "messages": {"intact": 3, "lost": 1}, "findings": [{"kind": "lost",
            "code": "missing", "folder": "Sent", "uid": 9, "reason": "no\nbytes"}]}"#;
        let line: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\n').collect();

        let read = answers(Verb::Verify, &line, &BTreeSet::from([7])).unwrap();

        let answer = read.get(&7).unwrap();
        assert_eq!(answer.stamp, Some(stamped("v1:abc")));
        let (intact, lost) = (answer.totals.intact, answer.totals.lost);
        assert_eq!((intact, lost, answer.totals.bytes_read), (3, 1, 12));
        let findings = answer.findings(Ordinal::new(2));
        let finding = findings.first().unwrap();
        assert_eq!((finding.kind, finding.uid), (FindingKind::Lost, Some(9)));
        assert_eq!(finding.reason, "no bytes");
    }

    #[test]
    fn nothing_said_is_nothing_answered() {
        assert!(answers(Verb::Probe, b"\n \n", &BTreeSet::from([7])).unwrap().is_empty());
    }

    #[test]
    fn whatever_breaks_the_contract_is_named_without_naming_a_user() {
        let check = |output: &str, expected: &Expect| {
            let refused = answers(Verb::Close, output.as_bytes(), &BTreeSet::from([7]))
                .unwrap_err();
            expected.assert_eq(&refused.to_string());
        };
        check(
            "ok anna@example.org",
            &expect!["line 1 of its output is no JSON object (column 1)"],
        );
        check(
            r#"{"key": 7, "status": "fine for anna@example.org"}"#,
            &expect![
                "line 1 of its output is not as it should be: unknown variant `…`, expected one of `done`, `damaged`, `again`, `unreadable` (column 48)"
            ],
        );
        check(
            r#"{"key": 7, "status": "done", "stmap": "x"}"#,
            &expect![
                "line 1 of its output is not as it should be: unknown field `stmap`, expected one of `key`, `status`, `stamp`, `code`, `reason`, `millis`, `messages`, `bytes_read`, `findings` (column 36)"
            ],
        );
        check(
            r#"{"key": 8, "status": "done"}"#,
            &expect!["line 1 of its output answers for 8, which was not asked for"],
        );
        check(
            "{\"key\": 7, \"status\": \"done\"}\n\n{\"key\": 7, \"status\": \"again\"}",
            &expect!["line 3 of its output answers for 7 a second time"],
        );
        check(
            &format!(r#"{{"key": 7, "status": "done", "stamp": "{}"}}"#, "x".repeat(65)),
            &expect!["line 1 of its output has a stamp of 65 bytes, should be 1 to 64"],
        );
        check(
            r#"{"key": 7, "status": "damaged", "code": "Anna's"}"#,
            &expect![
                "line 1 of its output has a code that is not 1 to 40 of a-z, 0-9 and -"
            ],
        );
        check(
            r#"{"key": 7}"#,
            &expect![
                "line 1 of its output is not as it should be: missing field `status` (column 10)"
            ],
        );
    }

    #[test]
    fn a_question_without_mailboxes_has_one_line_for_an_answer() {
        let told = |output: &str| {
            single::<Stats>(output.as_bytes())
                .map(|stats| stats.disk_free_ppm)
                .map_err(|nonsense| nonsense.line)
        };

        assert_eq!(told("{\"disk_free_ppm\": 5}\n"), Ok(5));
        assert_eq!(told(""), Err(1));
        assert_eq!(told("{\"disk_free_ppm\": 5}\n{}"), Err(2));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let long = "ä".repeat(TEXT_BYTES_MAX);

        assert_eq!(text(&long).len(), TEXT_BYTES_MAX);
        assert_eq!(text("a\tb\u{7f}"), "a b ");
    }
}
