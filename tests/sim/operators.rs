//! Operators: people who pause, resume, re-close and abort, at once and again, and one patient
//! operator who puts everything right when the faults are over.
//!
//! # Invariants
//!
//! * A request that got no answer is sent again, word for word.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_coordinator::driven::Driven;
use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::gate::{HaltReason, Signal};
use tidegate_core::mailbox::Preparation;
use tidegate_core::rollout::{NodeCondition, Phase, Rollout, Scope, WaveCondition, Why};
use tidegate_core::time::Timestamp;
use tidegate_wire::hop::to_bytes;
use tidegate_wire::scope::ScopeName;
use tidegate_wire::v1;

use crate::coordinator::{From, Question, Rpc};
use crate::faults::Wish;
use crate::fleet::Fleet;
use crate::i7_durable;
use crate::worker::Answer;
use crate::world::{Checked, Event, World};

/// An operator waits so long for an answer, then asks again.
const RETRY: u64 = 8_000;

/// And gives up after so many times.
const TRIES: u32 = 5;

/// The patient one looks as often.
const LOOK: u64 = 12_000;

/// What people want.
#[derive(Default)]
pub(crate) struct Operators {
    asked: BTreeMap<u64, Request>,
    ids: u64,
}

impl Operators {
    /// Reasons of those who want to resume now.
    pub(crate) fn resumes(&self) -> impl Iterator<Item = String> + '_ {
        let resumes = self.asked.values().filter(|it| it.rpc == Rpc::Resume);
        resumes.map(|it| it.reason.clone())
    }
}

struct Request {
    rpc: Rpc,
    bytes: Vec<u8>,
    reason: String,
    tries: u32,
}

/// What somebody wants, in the words of a request.
struct Wanted {
    by: String,
    reason: String,
    wave: String,
    node: String,
    address: String,
    scope: Option<v1::Scope>,
    request_id: String,
}

impl Wanted {
    /// The request, if people make such requests.
    fn bytes(self, rpc: Rpc) -> Option<Vec<u8>> {
        let Self { by, reason, wave, node, address, scope, request_id } = self;
        Some(match rpc {
            Rpc::Pause => to_bytes(&v1::PauseRequest {
                by,
                reason,
                request_id,
                ..Default::default()
            }),
            Rpc::Freeze => to_bytes(&v1::FreezeRequest { by, reason, request_id }),
            Rpc::Thaw => to_bytes(&v1::ThawRequest {
                by,
                reason,
                request_id,
                ..Default::default()
            }),
            Rpc::Resume => to_bytes(&v1::ResumeRequest {
                by,
                reason,
                scope,
                request_id,
                ..Default::default()
            }),
            Rpc::Abort => to_bytes(&v1::AbortRequest {
                by,
                reason,
                request_id,
                ..Default::default()
            }),
            Rpc::Reclose => to_bytes(&v1::RecloseRequest {
                by,
                reason,
                scope,
                request_id,
                ..Default::default()
            }),
            Rpc::Retry => to_bytes(&v1::RetryRequest {
                by,
                reason,
                address,
                request_id,
                ..Default::default()
            }),
            Rpc::Accept => to_bytes(&v1::AcceptRequest {
                by,
                reason,
                node,
                request_id,
                ..Default::default()
            }),
            Rpc::Expand => to_bytes(&v1::ExpandRequest {
                by,
                reason,
                wave,
                request_id,
                ..Default::default()
            }),
            Rpc::Emergency => emergency(by, reason, wave, request_id),
            Rpc::Join | Rpc::Sync | Rpc::Fetch => return None,
        })
    }
}

fn emergency(by: String, reason: String, wave: String, request_id: String) -> Vec<u8> {
    to_bytes(&v1::BeginEmergencyRequest {
        by,
        reason,
        wave,
        lasts_seconds: EMERGENCY_SECONDS,
        request_id,
        ..Default::default()
    })
}

/// So short that its end is often met while a wave climbs.
const EMERGENCY_SECONDS: u32 = 180;

impl World {
    /// Somebody wants something.
    pub(crate) fn wish(&mut self, wish: Wish) {
        let waves = self.fleet.plan.waves().len() as u64;
        let (nodes, mailboxes) = (self.nodes.len(), self.fleet.places.len());
        let wave =
            |at: u64| Scope::Wave(WaveNumber::new(u16::try_from(at % waves).unwrap()));
        let node = |at: u64| Scope::Node(Fleet::node_number(index(at, nodes)));
        let mailbox =
            |at: u64| Scope::Mailbox(self.fleet.places[index(at, mailboxes)].mailbox);
        let (rpc, scope) = match wish {
            Wish::Pause => (Rpc::Pause, None),
            Wish::Freeze => (Rpc::Freeze, None),
            Wish::Thaw => (Rpc::Thaw, None),
            Wish::Resume => (Rpc::Resume, None),
            Wish::Abort => (Rpc::Abort, None),
            Wish::RecloseWave(at) => (Rpc::Reclose, Some(wave(at))),
            Wish::RecloseNode(at) => (Rpc::Reclose, Some(node(at))),
            Wish::RecloseMailbox(at) => (Rpc::Reclose, Some(mailbox(at))),
            Wish::ResumeWave(at) => (Rpc::Resume, Some(wave(at))),
            Wish::ResumeNode(at) => (Rpc::Resume, Some(node(at))),
            Wish::ResumeMailbox(at) => (Rpc::Resume, Some(mailbox(at))),
            Wish::Retry(at) => {
                (Rpc::Retry, Some(self.set_aside(at).unwrap_or(mailbox(at))))
            }
            Wish::Expand => (Rpc::Expand, Some(self.climbing())),
            Wish::Emergency(at) if at % 3 == 0 => (Rpc::Emergency, None),
            Wish::Emergency(at) => (Rpc::Emergency, Some(wave(at))),
        };
        self.operate(rpc, scope);
    }

    pub(crate) fn operate(&mut self, rpc: Rpc, scope: Option<Scope>) {
        self.operators.ids += 1;
        let id = self.operators.ids;
        let (by, reason) = (format!("op-{}", id % 3), format!("wish {id}"));
        let address = match scope {
            Some(Scope::Mailbox(mailbox)) => {
                self.fleet.plan.inventory().address(mailbox).to_owned()
            }
            Some(Scope::Wave(_) | Scope::Node(_)) | None => String::new(),
        };
        let (wave, node) = match scope {
            Some(Scope::Wave(wave)) => (wave.get().to_string(), String::new()),
            Some(Scope::Node(node)) => {
                (String::new(), self.fleet.nodes[node.index()].clone())
            }
            Some(Scope::Mailbox(_)) | None => (String::new(), String::new()),
        };
        let scope = scope.map(|scope| v1::Scope::from(self.named(scope)));
        self.story.tell(self.now, || format!("{by}: {rpc:?} {scope:?} ({reason})"));
        let told = reason.clone();
        let request_id = format!("request-{id}");
        let wanted = Wanted { by, reason, wave, node, address, scope, request_id };
        let Some(bytes) = wanted.bytes(rpc) else { return };
        let request = Request { rpc, bytes, reason: told, tries: 0 };
        self.operators.asked.insert(id, request);
        self.send_wish(id);
    }

    /// A mailbox that the coordinator knows to be set aside: the first from number `at` on.
    fn set_aside(&self, at: u64) -> Option<Scope> {
        let rollout = self.coordinator.driven.as_ref()?.rollout()?;
        let (now, places) = (Timestamp::default(), &self.fleet.places);
        let from = places.iter().cycle().skip(index(at, places.len())).take(places.len());
        let mut mailboxes = from.map(|place| place.mailbox);
        let found = mailboxes.find(|it| {
            rollout.mailbox_status(*it, now).state.preparation == Preparation::Quarantined
        });
        found.map(Scope::Mailbox)
    }

    /// The wave that is opened just now, as the records say; else the first.
    fn climbing(&self) -> Scope {
        let climbs = &self.oracle.chronicle.climbs;
        let at = climbs.iter().position(|it| it.allowed > it.passed).unwrap_or(0);
        Scope::Wave(WaveNumber::new(u16::try_from(at).unwrap()))
    }

    fn named(&self, scope: Scope) -> ScopeName {
        match scope {
            Scope::Wave(wave) => {
                ScopeName::Wave(self.fleet.plan.waves()[wave.index()].name.clone())
            }
            Scope::Node(node) => ScopeName::Node(self.fleet.nodes[node.index()].clone()),
            Scope::Mailbox(mailbox) => ScopeName::Mailbox(
                self.fleet.plan.inventory().address(mailbox).to_owned(),
            ),
        }
    }

    fn send_wish(&mut self, id: u64) {
        let Some(request) = self.operators.asked.get_mut(&id) else { return };
        request.tries += 1;
        let (rpc, bytes) = (request.rpc, request.bytes.clone());
        self.ask(Question { from: From::Operator { id }, rpc }, bytes, false);
        self.after(RETRY, Event::OperatorRetries { id });
    }

    pub(crate) fn operator_retries(&mut self, id: u64) -> Checked {
        let Some(request) = self.operators.asked.get(&id) else { return Ok(()) };
        if request.tries >= TRIES {
            self.operators.asked.remove(&id);
        } else {
            self.story.count("operator retry");
            self.send_wish(id);
        }
        Ok(())
    }

    pub(crate) fn operator_hears(&mut self, id: u64, answer: Answer) -> Checked {
        if self.operators.asked.remove(&id).is_some()
            && let Answer::Refused(status) = answer
        {
            self.story.count("operator refused");
            self.story.tell(self.now, || format!("wish {id} is refused: {status}"));
        }
        Ok(())
    }

    /// The coordinator says that it is done.
    pub(crate) fn action_is_acknowledged(&mut self, id: u64) -> Checked {
        let Some(request) = self.operators.asked.get(&id) else { return Ok(()) };
        i7_durable::check_action(self, &request.reason.clone())
    }

    /// The patient one, until all is well.
    pub(crate) fn operator_acts(&mut self) -> Checked {
        self.after(LOOK, Event::OperatorActs);
        if self.coordinator.outgrown || self.is_in_doubt() {
            return self.mend();
        }
        if !self.operators.asked.is_empty() {
            return Ok(());
        }
        if let Some((rpc, scope)) = self.next_step() {
            self.operate(rpc, scope);
        }
        Ok(())
    }

    /// A node that is shown to wait until somebody accepts it.
    pub(crate) fn turned_away(&self) -> Option<NodeNumber> {
        let shown = self.coordinator.driven.as_ref()?.shown()?;
        let mut nodes = (0..).map(Fleet::node_number).zip(&shown.nodes);
        let found = nodes.find(|(_, it)| it.state() == v1::NodeState::TurnedAway);
        found.map(|(node, _)| node)
    }

    /// What a patient operator does next.
    fn next_step(&self) -> Option<(Rpc, Option<Scope>)> {
        let rollout = self.coordinator.driven.as_ref()?.rollout()?;
        if let Some(node) = self.turned_away() {
            return Some((Rpc::Accept, Some(Scope::Node(node))));
        }
        if rollout.rebuilding().is_some() {
            return None;
        }
        if rollout.frozen().is_some() && !matches!(rollout.phase(), Phase::Aborted(_)) {
            // Under another name each time, until it is a second person.
            return Some((Rpc::Thaw, None));
        }
        let closing = &held_back(rollout);
        let still_open = |scope: Scope| rollout.still_open(scope) > 0;
        let status = rollout.status(Timestamp::default());
        if let Phase::Halted { wave, epoch, .. } = rollout.phase() {
            let scope = Scope::Wave(*wave);
            let reclosed = rollout.evidence(*wave, status.at).epoch > *epoch;
            return match reclosed {
                false => Some((Rpc::Reclose, Some(scope))),
                true if still_open(scope) => None,
                true => Some((Rpc::Resume, None)),
            };
        }
        for (node, state) in status.nodes.iter().enumerate() {
            let scope = Scope::Node(Fleet::node_number(node));
            if state.condition == NodeCondition::Isolated && !closing.contains(&scope) {
                return Some((Rpc::Reclose, Some(scope)));
            }
        }
        if let Some(scope) = closing.iter().find(|scope| !still_open(**scope)) {
            return Some((Rpc::Resume, Some(*scope)));
        }
        let paused = matches!(rollout.phase(), Phase::Paused(_));
        (closing.is_empty() && paused).then_some((Rpc::Resume, None))
    }

    /// Whether everything has come back as far as it can.
    pub(crate) fn is_well(&self) -> bool {
        let rollout = self.coordinator.driven.as_ref().and_then(|it| it.rollout());
        let Some(rollout) = rollout.filter(|_| self.quiet) else { return false };
        if matches!(rollout.phase(), Phase::Aborted(_)) {
            let shown = self.coordinator.driven.as_ref().and_then(Driven::shown);
            return shown.and_then(|it| it.stop).is_none_or(|stop| stop.effective);
        }
        if let Phase::Halted { reason, wave, .. } = rollout.phase() {
            return self.is_beyond_help(reason, *wave);
        }
        let open = self.oracle.seen.iter().filter(|it| it.level > 0).count();
        let aside = self.fleet.places.iter().filter(|place| {
            let diary = &self.oracle.diaries[place.node];
            diary.of(place.job, place.ordinal).aside.is_some()
        });
        let known: u32 = rollout
            .plan()
            .jobs()
            .iter()
            .map(|job| rollout.still_open(Scope::Wave(job.wave)))
            .sum();
        matches!(rollout.phase(), Phase::Finished { .. })
            && open + aside.count() == self.fleet.places.len()
            && known > 0
    }

    /// Whether a worker has said that the coordinator's journal is older than the fleet, and
    /// everything waits for a person because of that.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let rollout = self.coordinator.driven.as_ref().and_then(|it| it.rollout());
        let phase = rollout.map(Rollout::phase);
        matches!(phase, Some(Phase::Paused(action)) if action.by == "tidegate")
    }

    /// Whether so much of a wave truly cannot be restored that its gate rightly stops there, with
    /// everything before it open: a person must decide.
    fn is_beyond_help(&self, reason: &HaltReason, wave: WaveNumber) -> bool {
        let HaltReason::Tripped { signal: Signal::Preparation, limit, .. } = reason
        else {
            return false;
        };
        let mut dead = 0;
        for (at, place) in self.fleet.places.iter().enumerate() {
            let room = self.nodes[place.node].room.lock();
            let is_dead = room.boxes.get(&place.key).is_some_and(|it| it.dead);
            dead += u32::from(is_dead && self.fleet.wave(at) == wave.index());
            let is_open = self.oracle.seen[at].level > 0;
            if !is_open && !is_dead && self.fleet.wave(at) < wave.index() {
                return false;
            }
        }
        dead >= *limit
    }

    /// What keeps everything from coming back.
    pub(crate) fn what_is_wrong(&self) -> String {
        let Some(rollout) = self.coordinator.driven.as_ref().and_then(|it| it.rollout())
        else {
            return "there is no coordinator".to_owned();
        };
        let status = rollout.status(Timestamp::default());
        let waves =
            status.waves.iter().map(|w| (w.condition, w.allowed, w.passed, w.open));
        let waves: Vec<_> = waves.collect();
        let nodes: Vec<_> = status.nodes.iter().map(|n| (n.condition, n.open)).collect();
        let doors: Vec<u8> = self.oracle.seen.iter().map(|it| it.level).collect();
        let closing = &self.oracle.closing;
        format!(
            "not well in the end: {:?}, why {:?}, waves {waves:?}, nodes {nodes:?}, \
             closing {closing:?}, doors {doors:?}",
            status.phase, status.why
        )
    }
}

/// What people have re-closed and not resumed, as everybody can see.
pub(crate) fn held_back(rollout: &Rollout) -> BTreeSet<Scope> {
    let now = Timestamp::default();
    let status = rollout.status(now);
    let waves = (0..).map(WaveNumber::new).zip(&status.waves);
    let waves = waves.filter(|(_, it)| it.condition == WaveCondition::HeldBack);
    let nodes = (0..).map(Fleet::node_number).zip(&status.nodes);
    let nodes = nodes.filter(|(_, it)| it.condition == NodeCondition::HeldBack);
    let mut scopes: BTreeSet<Scope> = waves.map(|(it, _)| Scope::Wave(it)).collect();
    scopes.extend(nodes.map(|(it, _)| Scope::Node(it)));
    let everybody = (0..rollout.plan().inventory().len()).map(MailboxNumber::new);
    let held = everybody.filter(|it| {
        rollout.mailbox_status(*it, now).why.contains(&Why::MailboxHeldBack)
    });
    scopes.extend(held.map(Scope::Mailbox));
    scopes
}

fn index(at: u64, end: usize) -> usize {
    usize::try_from(at % end as u64).unwrap()
}
