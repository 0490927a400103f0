//! Acting: what the owner does about each kind of message.
//!
//! # Invariants
//!
//! * A refused message leaves no record and is not heard.
//! * The inventory is on disk before the record that names it is in the batch.

use std::sync::Arc;

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{
    Action, Answer, Approval, Etag, Event, Grounds, Operate, Orders, Record, Refusal,
    RequestId, Rollout, Scope, Step, Sync, Verb,
};
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::record::{PlanApplied, encode_plan_applied};
use tidegate_wire::scope::ScopeName;
use tidegate_wire::worker::{Joined, Joining};

use super::approvals::{Asking, Dear, Leave, ONE_MAILBOX, Seen};
use super::{EmergencyName, Owner, Published};
use crate::refused::Refused;

/// How many names an error lists; more would not be read.
const NAMES_SHOWN_MAX: usize = 12;

/// A plan that an operator wants carried out.
pub struct Proposal {
    /// Who.
    pub by: String,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The policy file that it came from.
    pub policy_toml: String,
    /// What the client calls its request.
    pub request: Option<RequestId>,
    /// Why the rollout shall be made again from what the workers hold; nothing for a new one.
    pub rebuild: Option<String>,
    /// Whether somebody else must have approved it.
    pub needs_second: bool,
}

/// A plan that is being carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    /// The plan, which is also the rollout's name.
    pub(crate) plan: Digest,
    /// Mailboxes in waves.
    pub(crate) mailboxes: u32,
    /// Waves.
    pub(crate) waves: u32,
}

impl Applied {
    /// What is told of `plan`.
    pub(crate) fn of(plan: &Plan) -> Self {
        Self {
            plan: plan.digest(),
            mailboxes: plan.planned(),
            waves: u32::try_from(plan.waves().len()).unwrap_or(u32::MAX),
        }
    }
}

/// What an operator wants, with parts as they name them.
pub(crate) struct Intent {
    /// Who.
    pub(crate) by: String,
    /// Why.
    pub(crate) reason: String,
    /// What.
    pub(crate) verb: NamedVerb,
    /// What the client calls its request.
    pub(crate) request: Option<RequestId>,
    /// The decisions that they knew of.
    pub(crate) seen: Option<Etag>,
    /// Nodes that a rebuild shall not wait for.
    pub(crate) without: Vec<String>,
    /// Whether somebody else must approve it if it is dear.
    pub(crate) needs_second: bool,
}

/// Leave that an approver wants to give, with parts as they name them.
pub(crate) struct Assent {
    /// Who and why.
    pub(crate) approval: Approval,
    /// What for.
    pub(crate) what: Named,
    /// The decisions that they knew of.
    pub(crate) seen: Option<Etag>,
    /// The evidence that they knew of.
    pub(crate) grounds: Option<Grounds>,
    /// For how long.
    pub(crate) lasts: Option<Span>,
}

/// What an approver gives leave for.
pub(crate) enum Named {
    /// To start, or rebuild, the rollout of this plan.
    Apply(Digest),
    /// A verb.
    Verb(NamedVerb),
}

/// A verb, with parts as operators name them.
pub(crate) enum NamedVerb {
    /// Open nothing more until resumed.
    Pause,
    /// Open nothing more until somebody else has thawed it.
    Freeze,
    /// Let go of a freeze.
    Thaw,
    /// Go on, or let a re-closed part go on.
    Resume(Option<ScopeName>),
    /// End the rollout.
    Abort,
    /// Put opened mailboxes back.
    Reclose(ScopeName),
    /// Have the mailbox of this address tried again.
    Retry(String),
    /// Let the worker of this node back in.
    Accept(String),
    /// Let this wave pass although its gate holds it.
    Expand(String),
    /// Put waves under the emergency profile.
    BeginEmergency(EmergencyName),
    /// Go back to the usual gates.
    EndEmergency,
}

/// Clocks further apart than this make journals and logs of two machines hard to compare.
const CLOCKS_APART_MAX: Span = Span::from_secs(2);

/// Nothing is decided by wall clocks, but people compare what they wrote.
fn warn_of_clocks(node: &str, theirs: Timestamp, ours: Timestamp) {
    let (ahead, behind) = (theirs.since(ours), ours.since(theirs));
    if ahead.max(behind) > CLOCKS_APART_MAX {
        tracing::warn!(
            node,
            ahead_millis = ahead.millis(),
            behind_millis = behind.millis(),
            "the worker's clock differs: times of its journal and log differ too; check its \
             time synchronisation"
        );
    }
}

/// Whether a user of the plan has this address.
fn is_planned(plan: &Plan, address: &str) -> bool {
    let mailbox = plan.inventory().find(address);
    mailbox.is_some_and(|mailbox| plan.place(mailbox).is_some())
}

impl Owner {
    pub(super) fn join(
        &mut self,
        joining: Joining,
        now: Timestamp,
    ) -> Result<Joined, Refused> {
        let Joining { join, rollout: theirs, clock, canary } = joining;
        let Some(rollout) = &self.rollout else {
            self.knocking.hear(&join, theirs, now);
            return Err(Refused::NoPlan);
        };
        let ours = rollout.plan().digest();
        if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
            return Err(Refused::OtherRollout { theirs, ours });
        }
        let node = rollout.node_named(&join.node)?;
        if canary.is_some_and(|canary| is_planned(rollout.plan(), &canary)) {
            return Err(Refused::CanaryInPlan { node: join.node });
        }
        warn_of_clocks(&join.node, clock, now);
        let joined = Joined::new(ours, node, rollout.plan().policy());
        let step = rollout.decide(&Event::Join(join), now);
        if let (Some(refusal), Some(rollout)) = (&step.refusal, &mut self.rollout) {
            if matches!(
                refusal,
                Refusal::WorkerTooOld { .. } | Refusal::WorkerJournalTooOld { .. }
            ) {
                rollout.turn_away(node);
            }
            // A store that another rollout has claimed says nothing of this journal.
            if theirs.is_some() {
                self.doubt(node, refusal, now);
            }
        } else if let Some(rollout) = &mut self.rollout {
            rollout.welcome(node);
        }
        self.carry_out(step)?;
        Ok(joined)
    }

    pub(super) fn sync(
        &mut self,
        mut sync: Sync,
        now: Timestamp,
    ) -> Result<Orders, Refused> {
        self.queue_age.add_to(sync.node, &mut sync.vitals.pulses);
        let rollout = self.rollout.as_mut().ok_or(Refused::NoPlan)?;
        let event = Event::Sync(sync);
        let step = rollout.decide(&event, now);
        let Event::Sync(sync) = event else { return Err(Refused::NoPlan) };
        if step.refusal.is_none() {
            // Only the node's own worker is heard.
            rollout.hear(&sync, now);
        }
        if let Some(refusal) = &step.refusal {
            self.doubt(sync.node, refusal, now);
        }
        self.carry_out(step)?;
        let rollout = self.rollout.as_mut().ok_or(Refused::NoPlan)?;
        Ok(rollout.give(sync.node, sync.sequence))
    }

    pub(super) fn operate(
        &mut self,
        intent: Intent,
        now: Timestamp,
    ) -> Result<Answer, Refused> {
        let rollout = self.rollout.as_ref().ok_or(Refused::NoPlan)?;
        let dear = intent.needs_second.then(|| dear(&intent.verb)).flatten();
        let verb = find_verb(rollout, intent.verb)?;
        let Intent { by, reason, request, seen, without, .. } = intent;
        let without = without.iter().map(|name| find_node(rollout, name));
        let without = without.collect::<Result<Vec<NodeNumber>, Refused>>()?;
        let mut operate = Operate {
            request: request.clone(),
            seen,
            without,
            ..Operate::new(by, reason, verb)
        };
        let mut step = rollout.decide(&Event::Operate(operate.clone()), now);
        // Nobody is asked to approve what would be refused, or was done already.
        if let Some(what) = dear.filter(|_| !step.records.is_empty()) {
            let grounds = rollout.grounds_of(verb, now);
            let seen = Seen { etag: rollout.etag(), grounds };
            let is_one = matches!(verb, Verb::Resume(Some(Scope::Mailbox(_))));
            // Whoever sees what waits may not see addresses.
            let shown = if is_one { ONE_MAILBOX } else { &what };
            let asking =
                Asking { by: &operate.by, reason: &operate.reason, text: &what, shown };
            let taken = self.approvals.take(Dear::Act(verb, seen), &asking, now);
            // What waits is shown at once, to whoever is asked to approve it.
            let taken = taken.inspect_err(|_| self.published = Published::default());
            operate.approved = Some(taken?);
            step = rollout.decide(&Event::Operate(operate), now);
        }
        self.carry_out(step)?;
        let rollout = self.rollout.as_ref().ok_or(Refused::NoPlan)?;
        Ok(rollout.answer_to(request.as_ref()))
    }

    pub(super) fn apply_plan(
        &mut self,
        proposal: Proposal,
        now: Timestamp,
    ) -> Result<Applied, Refused> {
        let Proposal { by, plan, policy_toml, request, rebuild, needs_second } = proposal;
        if let Some(rollout) = &self.rollout {
            let same = rollout.plan().digest() == plan.digest();
            let again = answer_again(rollout, request.as_ref(), rebuild.is_some());
            if let Some(answer) = again.filter(|_| same) {
                return answer;
            }
            return Err(refuse_second(rollout, plan.digest()));
        }
        if rebuild.is_none() {
            self.knocking.refuse_new(plan.digest(), now)?;
        }
        let approved = if needs_second {
            let digest = plan.digest();
            let text = format!("apply {digest}");
            let asking = Asking { by: &by, reason: "", text: &text, shown: &text };
            Some(self.approvals.take(Dear::Apply(digest), &asking, now)?)
        } else {
            None
        };
        self.plans.keep(&plan)?;
        let applied = PlanApplied {
            plan: plan.digest(),
            inventory: plan.inventory().digest(),
            policy_toml,
            by,
            at: now,
            request: request.clone(),
            approved: approved.clone(),
        };
        self.payloads.push(encode_plan_applied(&applied));
        let told = Applied::of(&plan);
        let (rollout_id, by) = (applied.plan, applied.by);
        let (mailboxes, waves) = (told.mailboxes, told.waves);
        tracing::info!(%rollout_id, by, mailboxes, waves, "plan taken");
        self.rollout = Some(Rollout::new(plan, now, now).under(request));
        if let Some(reason) = rebuild {
            // In the batch of the plan: neither is ever on disk without the other.
            let action = Action { by, reason, at: now, request: None, approved };
            self.remember(vec![Record::RebuildBegun(action)]);
        }
        Ok(told)
    }

    /// A second person gives leave. Returns for how long.
    pub(super) fn approve(
        &mut self,
        assent: Assent,
        now: Timestamp,
    ) -> Result<Span, Refused> {
        let Assent { approval, what, seen, grounds, lasts } = assent;
        if approval.reason.trim().is_empty() {
            return Err(Refusal::ReasonMissing.into());
        }
        let dear = match what {
            Named::Apply(digest) => Dear::Apply(digest),
            Named::Verb(verb) => {
                let rollout = self.rollout.as_ref().ok_or(Refused::NoPlan)?;
                let verb = find_verb(rollout, verb)?;
                let grounds_now = rollout.grounds_of(verb, now);
                let found = Seen { etag: rollout.etag(), grounds: grounds_now };
                if let Some(seen) = seen.filter(|seen| *seen != found.etag) {
                    let (now, changes) = (found.etag, Vec::new());
                    let refusal = Refusal::Conflict { seen, now, changes };
                    return Err(Refused::by_rollout(refusal, rollout.plan()));
                }
                if let Some(seen) = grounds.filter(|seen| *seen != found.grounds) {
                    return Err(Refused::Worse { seen, found: found.grounds });
                }
                Dear::Act(verb, found)
            }
        };
        Ok(self.approvals.give(Leave { approval, dear, lasts }, now))
    }

    /// Pauses the rollout when a worker's word shows that the journal may be older than the
    /// fleet.
    fn doubt(&mut self, node: NodeNumber, refusal: &Refusal, now: Timestamp) {
        let Some(rollout) = &mut self.rollout else { return };
        if !rollout.doubt(node, refusal) {
            return;
        }
        tracing::error!(
            %refusal,
            action = "look at `tidegate status`: where most nodes say so, put the newest journal \
                      back; where one says so, stop its worker and resume without it",
            "this journal may be older than the fleet: nothing opens until a person resumes"
        );
        self.tick(now);
    }

    fn carry_out(&mut self, step: Step) -> Result<(), Refused> {
        if let Some(refusal) = step.refusal {
            let rollout = self.rollout.as_ref().ok_or(Refused::NoPlan)?;
            return Err(Refused::by_rollout(refusal, rollout.plan()));
        }
        self.remember(step.records);
        Ok(())
    }
}

/// What whoever applied `rollout` under this request is answered when they ask again; nothing
/// if it was applied under another.
pub(crate) fn answer_again(
    rollout: &Rollout,
    request: Option<&RequestId>,
    rebuilds: bool,
) -> Option<Result<Applied, Refused>> {
    let request = request.filter(|id| rollout.applied_under() == Some(*id))?;
    if rollout.was_rebuilt() == rebuilds {
        return Some(Ok(Applied::of(rollout.plan())));
    }
    Some(Err(Refusal::RequestReused { request: request.clone() }.into()))
}

/// Why a plan is not applied when there is a rollout already.
pub(crate) fn refuse_second(rollout: &Rollout, digest: Digest) -> Refused {
    let ours = rollout.plan().digest();
    if ours == digest {
        Refused::AppliedBefore { at: rollout.started_at() }
    } else {
        Refused::AnotherPlan { ours }
    }
}

/// What a second person gives leave for, as on the command line; nothing if nobody needs any:
/// stopping and closing are cheap.
fn dear(verb: &NamedVerb) -> Option<String> {
    match verb {
        NamedVerb::Pause
        | NamedVerb::Freeze
        | NamedVerb::Thaw
        | NamedVerb::Abort
        | NamedVerb::EndEmergency
        | NamedVerb::Retry(_)
        | NamedVerb::Reclose(_) => None,
        NamedVerb::Resume(None) => Some("resume".to_owned()),
        NamedVerb::Resume(Some(scope)) => {
            let (kind, name) = match scope {
                ScopeName::Wave(name) => ("wave", name),
                ScopeName::Node(name) => ("node", name),
                ScopeName::Mailbox(name) => ("mailbox", name),
            };
            Some(format!("resume {kind} {name}"))
        }
        NamedVerb::Accept(node) => Some(format!("accept {node}")),
        NamedVerb::Expand(wave) => Some(format!("expand {wave}")),
        NamedVerb::BeginEmergency(name) => Some(name.to_string()),
    }
}

/// What speaks by now against something that waits for a second person.
pub(super) fn against(rollout: &Rollout, what: &str, now: Timestamp) -> Grounds {
    let wave = what.strip_prefix("expand ").map(str::to_owned).map(NamedVerb::Expand);
    let emergency = || EmergencyName::in_text(what).map(NamedVerb::BeginEmergency);
    let verb = wave.or_else(emergency).and_then(|it| find_verb(rollout, it).ok());
    verb.map_or_else(|| rollout.grounds(now), |verb| rollout.grounds_of(verb, now))
}

fn find_verb(rollout: &Rollout, verb: NamedVerb) -> Result<Verb, Refused> {
    Ok(match verb {
        NamedVerb::Pause => Verb::Pause,
        NamedVerb::Freeze => Verb::Freeze,
        NamedVerb::Thaw => Verb::Thaw,
        NamedVerb::Resume(None) => Verb::Resume(None),
        NamedVerb::Resume(Some(name)) => Verb::Resume(Some(find_scope(rollout, &name)?)),
        NamedVerb::Abort => Verb::Abort,
        NamedVerb::Reclose(name) => Verb::Reclose(find_scope(rollout, &name)?),
        NamedVerb::Retry(address) => Verb::Retry(find_mailbox(rollout.plan(), &address)?),
        NamedVerb::Accept(name) => Verb::Accept(find_node(rollout, &name)?),
        NamedVerb::Expand(name) => Verb::Expand(find_wave(rollout.plan(), &name)?),
        NamedVerb::BeginEmergency(EmergencyName { wave, lasts }) => {
            let wave = wave.map(|name| find_wave(rollout.plan(), &name)).transpose()?;
            Verb::BeginEmergency { wave, lasts }
        }
        NamedVerb::EndEmergency => Verb::EndEmergency,
    })
}

/// The part of the rollout that an operator means.
fn find_scope(rollout: &Rollout, name: &ScopeName) -> Result<Scope, Refused> {
    match name {
        ScopeName::Wave(name) => find_wave(rollout.plan(), name).map(Scope::Wave),
        ScopeName::Node(name) => find_node(rollout, name).map(Scope::Node),
        ScopeName::Mailbox(address) => {
            find_mailbox(rollout.plan(), address).map(Scope::Mailbox)
        }
    }
}

fn find_node(rollout: &Rollout, name: &str) -> Result<NodeNumber, Refused> {
    let inventory = rollout.plan().inventory();
    let node = inventory.find_node(name);
    node.ok_or_else(|| unknown("node", name, inventory.node_names()))
}

/// The wave called or numbered so.
pub(crate) fn find_wave(plan: &Plan, name: &str) -> Result<WaveNumber, Refused> {
    let waves = plan.waves();
    let named = waves.iter().find(|wave| wave.name == name);
    let number: Option<u16> = name.parse().ok();
    let numbered = || waves.iter().find(|wave| Some(wave.number.get()) == number);
    let found = named.or_else(numbered).map(|wave| wave.number);
    found.ok_or_else(|| unknown("wave", name, waves.iter().map(|wave| &wave.name)))
}

fn find_mailbox(plan: &Plan, address: &str) -> Result<MailboxNumber, Refused> {
    let found = plan.inventory().find(address);
    let mailbox = found.ok_or(Refused::UnknownMailbox)?;
    if plan.place(mailbox).is_none() {
        let what = "mailbox in any wave".to_owned();
        return Err(Refusal::NoSuch { what }.into());
    }
    Ok(mailbox)
}

/// A name that the plan does not know, with those that it does.
pub(crate) fn unknown<N: AsRef<str>>(
    what: &'static str,
    name: &str,
    names: impl IntoIterator<Item = N>,
) -> Refused {
    let mut names = names.into_iter();
    let shown: Vec<String> = names
        .by_ref()
        .take(NAMES_SHOWN_MAX)
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    let more = if names.next().is_some() { " …" } else { "" };
    let known = if shown.is_empty() {
        String::new()
    } else {
        format!("; there are {}{more}", shown.join(", "))
    };
    Refused::Unknown { what, name: name.to_owned(), known }
}
