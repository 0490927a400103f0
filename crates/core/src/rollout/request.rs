//! Requests: what operators asked for under ids of their own, and how each was answered.
//!
//! # Invariants
//!
//! * A request that is on record is never carried out again: whoever asks again under its id
//!   gets the same answer.
//! * What is remembered comes from records alone, so a restart forgets none of it; it is
//!   bounded by [`REQUESTS_KEPT_MAX`].
//! * An etag changes with every decision of a person and every stop by the gate, and with
//!   nothing else: what the plan does by itself is no reason to ask anybody again.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;

use super::{Action, Operate, Record, Refusal, Rollout, Verb};
use crate::fleet::NodeNumber;
use crate::time::Timestamp;

/// The most requests remembered. A retry comes within minutes; so many verbs are the work of
/// many evenings.
pub const REQUESTS_KEPT_MAX: usize = 1_024;

/// The most decisions that a conflict tells of; more would not be read.
const CHANGES_TOLD_MAX: usize = 3;

/// What a client calls one of its requests, however often it sends it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The longest id: four times what a random one needs.
    pub const BYTES_MAX: usize = 64;

    /// The id written so: printable ASCII without spaces, not empty, not too long.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && plain).then(|| Self(text.into()))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Which decisions somebody knew of: their number, and of which rollout they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag {
    /// Decisions on record.
    pub decisions: u64,
    /// When the rollout began, so that nobody means another one.
    pub begun: Timestamp,
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.decisions, self.begun.millis())
    }
}

/// Text that is no etag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no etag; `tidegate status` shows the present one")]
pub struct NotAnEtag;

impl FromStr for Etag {
    type Err = NotAnEtag;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (decisions, begun) = text.split_once('-').ok_or(NotAnEtag)?;
        let decisions = decisions.parse().map_err(|_| NotAnEtag)?;
        let begun = u64::from_str_radix(begun, 16).map_err(|_| NotAnEtag)?;
        let etag = Self { decisions, begun: Timestamp::from_millis(begun) };
        // One spelling only: what is compared as text elsewhere must be equal, too.
        if etag.to_string() == text { Ok(etag) } else { Err(NotAnEtag) }
    }
}

/// What an operator is answered when it is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The version of the orders that carry it.
    pub orders_version: u64,
    /// The rollout's etag right afterwards.
    pub etag: Etag,
}

/// A request on record.
#[derive(Clone, Debug)]
struct Known {
    action: Action,
    verb: Verb,
    /// The nodes without which it ended a rebuild.
    left_out: Vec<NodeNumber>,
    answer: Answer,
}

/// The requests on record, newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    known: BTreeMap<RequestId, Known>,
    order: VecDeque<RequestId>,
}

impl Requests {
    fn note(&mut self, id: RequestId, known: Known) {
        if self.order.len() >= REQUESTS_KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.known.insert(id, known);
    }

    /// The decisions that were asked for under ids, oldest first, by their number, each with
    /// the version of the orders that carry it.
    pub(super) fn snapshot(&self) -> Vec<(u64, u64)> {
        let Self { known, order } = self;
        let answers = order.iter().filter_map(|id| known.get(id));
        let version = |answer: &Answer| (answer.etag.decisions, answer.orders_version);
        answers.map(|known| version(&known.answer)).collect()
    }
}

impl Record {
    /// Who decided it, and what they asked for, if a person did.
    pub fn asked(&self) -> Option<(&Action, Verb)> {
        match self {
            Self::Paused(action) => Some((action, Verb::Pause)),
            Self::Frozen(action) => Some((action, Verb::Freeze)),
            Self::Thawed(action) => Some((action, Verb::Thaw)),
            Self::Resumed { action, scope } => Some((action, Verb::Resume(*scope))),
            Self::Aborted(action) => Some((action, Verb::Abort)),
            Self::Reclosed { action, scope, .. } => Some((action, Verb::Reclose(*scope))),
            Self::Retried { action, mailbox, .. } => {
                Some((action, Verb::Retry(*mailbox)))
            }
            Self::NodeAccepted { action, node, .. } => {
                Some((action, Verb::Accept(*node)))
            }
            Self::Overridden { action, evidence } => {
                Some((action, Verb::Expand(evidence.wave)))
            }
            Self::EmergencyBegun { action, wave, until } => {
                let lasts = until.since(action.at);
                Some((action, Verb::BeginEmergency { wave: *wave, lasts }))
            }
            Self::EmergencyEnded { by, .. } => {
                by.as_ref().map(|by| (by, Verb::EndEmergency))
            }
            // Whoever resumes has a record of its own.
            Self::Rebuilt { by, .. } => by.as_ref().map(|by| (by, Verb::Pause)),
            Self::RebuildBegun(_)
            | Self::ClaimsFound { .. }
            | Self::MailboxesFound { .. }
            | Self::NodeRecounted { .. }
            | Self::NodeJoined { .. }
            | Self::JobLeased { .. }
            | Self::FactsReported { .. }
            | Self::LevelAllowed { .. }
            | Self::Expanded { .. }
            | Self::NodeIsolated { .. }
            | Self::Halted { .. }
            | Self::Finished { .. } => None,
        }
    }

    /// Whether it is part of the story, and not about single mailboxes.
    pub(super) fn is_told(&self) -> bool {
        !matches!(
            self,
            Self::FactsReported { .. }
                | Self::JobLeased { .. }
                | Self::ClaimsFound { .. }
                | Self::MailboxesFound { .. }
        )
    }

    /// Whether nodes must acknowledge it before it is effective.
    pub(super) fn is_stop(&self) -> bool {
        matches!(
            self,
            Self::Paused(_)
                | Self::Frozen(_)
                | Self::Aborted(_)
                | Self::Halted { .. }
                | Self::Reclosed { .. }
                | Self::RebuildBegun(_)
                | Self::NodeAccepted { .. }
        )
    }

    /// When it was decided, if it is a decision of a person or a stop by the gate.
    pub(super) fn decided_at(&self) -> Option<Timestamp> {
        if let Some((action, _)) = self.asked() {
            return Some(action.at);
        }
        if let Self::NodeIsolated { at, .. }
        | Self::Halted { at, .. }
        | Self::Rebuilt { at, .. } = self
        {
            return Some(*at);
        }
        None
    }

    /// Whether it is a decision of a person, or a stop by the gate.
    pub fn is_decision(&self) -> bool {
        self.decided_at().is_some()
    }
}

impl Rollout {
    /// Which decisions are on record.
    pub fn etag(&self) -> Etag {
        Etag { decisions: self.decisions, begun: self.started_at }
    }

    /// What whoever asked under `request` is answered: what they were answered before, or
    /// how it stands now.
    pub fn answer_to(&self, request: Option<&RequestId>) -> Answer {
        let known = request.and_then(|id| self.requests.known.get(id));
        known.map_or_else(|| self.answer(), |known| known.answer)
    }

    fn answer(&self) -> Answer {
        Answer { orders_version: self.orders_version, etag: self.etag() }
    }

    /// Whether this very request is on record already.
    ///
    /// # Errors
    ///
    /// [`Refusal::RequestReused`] when something else was asked for under its id.
    pub(super) fn was_asked(&self, operate: &Operate) -> Result<bool, Refusal> {
        let Some(id) = &operate.request else { return Ok(false) };
        let Some(known) = self.requests.known.get(id) else { return Ok(false) };
        let Action { by, reason, .. } = &known.action;
        let named = known.left_out.iter().all(|node| operate.without.contains(node));
        if named
            && (by, reason, known.verb) == (&operate.by, &operate.reason, operate.verb)
        {
            return Ok(true);
        }
        Err(Refusal::RequestReused { request: id.clone() })
    }

    /// Whether nobody has decided anything since the operator looked.
    pub(super) fn check_seen(&self, operate: &Operate) -> Result<(), Refusal> {
        let Some(seen) = operate.seen else { return Ok(()) };
        let now = self.etag();
        // A stop is right whatever else has happened.
        if seen == now || matches!(operate.verb, Verb::Pause | Verb::Freeze) {
            return Ok(());
        }
        // What was seen may be another rollout, or a future that an older journal has lost.
        let knows = seen.begun == now.begun && seen.decisions <= now.decisions;
        let since = if knows { seen.decisions } else { 0 };
        let since = usize::try_from(since).unwrap_or(usize::MAX);
        let decisions = self.history.iter().filter(|record| record.is_decision());
        let mut changes: Vec<Record> = decisions.skip(since).cloned().collect();
        let older = changes.len().saturating_sub(CHANGES_TOLD_MAX);
        changes.drain(..older);
        Err(Refusal::Conflict { seen, now, changes })
    }

    /// Remembers the requests of a snapshot; the history has been told. `None` if it does
    /// not tell of them.
    pub(super) fn restore_requests(&mut self, kept: &[(u64, u64)]) -> Option<()> {
        let decided: Vec<_> =
            self.history.iter().filter(|record| record.is_decision()).collect();
        let begun = self.started_at;
        let mut requests = Requests::default();
        for (decisions, orders_version) in kept {
            let place = usize::try_from(decisions.checked_sub(1)?).ok()?;
            let (action, verb) = decided.get(place)?.asked()?;
            let id = action.request.clone()?;
            let etag = Etag { decisions: *decisions, begun };
            let answer = Answer { orders_version: *orders_version, etag };
            let before = place.checked_sub(1).and_then(|place| decided.get(place));
            let both = [decided.get(place), before];
            let left_out = left_out_by(both.map(Option::<&&Record>::copied), action);
            let action = action.clone();
            requests.note(id, Known { action, verb, left_out, answer });
        }
        self.decisions = decided.len() as u64;
        self.requests = requests;
        Some(())
    }

    /// Remembers what was decided, after `record` has been applied.
    pub(super) fn note_decision(&mut self, record: &Record) {
        self.emergencies.note(record);
        if !record.is_decision() {
            return;
        }
        self.decisions += 1;
        if let Some((action, verb)) = record.asked()
            && let Some(id) = &action.request
        {
            let answer = self.answer();
            let before = self.history.iter().rev().skip(1).find(|it| it.is_decision());
            let left_out = left_out_by([Some(record), before], action);
            let action = action.clone();
            self.requests.note(id.clone(), Known { action, verb, left_out, answer });
        }
    }
}

/// The nodes without which `action` ended a rebuild, by its decision and the one before.
fn left_out_by(decisions: [Option<&Record>; 2], action: &Action) -> Vec<NodeNumber> {
    let left_out = decisions.into_iter().flatten().find_map(|record| {
        let Record::Rebuilt { left_out, at, .. } = record else { return None };
        (*at == action.at).then_some(left_out)
    });
    left_out.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_has_one_spelling() {
        let etag = Etag { decisions: 7, begun: Timestamp::from_millis(0x1a2b) };

        assert_eq!(etag.to_string().parse(), Ok(etag));
        for wrong in ["", "7", "7-", "07-1a2b", "7-1A2B", "7-1a2b ", "-1-1a2b"] {
            assert_eq!(wrong.parse::<Etag>(), Err(NotAnEtag), "{wrong}");
        }
    }

    #[test]
    fn the_oldest_request_is_forgotten_when_there_are_too_many() {
        let mut requests = Requests::default();
        let etag = Etag { decisions: 0, begun: Timestamp::default() };
        let id = |number: usize| RequestId::new(&number.to_string()).unwrap();

        for number in 0..=REQUESTS_KEPT_MAX {
            let (by, reason, at) = ("ann".to_owned(), String::new(), etag.begun);
            let (request, approved) = (Some(id(number)), None);
            let action = Action { by, reason, at, request, approved };
            let answer = Answer { orders_version: 1, etag };
            let (verb, left_out) = (Verb::Pause, Vec::new());
            requests.note(id(number), Known { action, verb, left_out, answer });
        }

        assert_eq!(requests.known.len(), REQUESTS_KEPT_MAX);
        assert!(!requests.known.contains_key(&id(0)));
        assert!(requests.known.contains_key(&id(1)));
    }

    #[test]
    fn an_id_is_printable_and_short() {
        assert!(RequestId::new(&"x".repeat(RequestId::BYTES_MAX)).is_some());
        for wrong in ["", "a b", "a\n", "ä"] {
            assert_eq!(RequestId::new(wrong), None);
        }
        assert_eq!(RequestId::new(&"x".repeat(RequestId::BYTES_MAX + 1)), None);
    }
}
