//! Dialogue: what a worker says to its coordinator, and what it makes of the answers.
//!
//! # Invariants
//!
//! * The lease is counted from before a report was sent, so it ends here before it ends at
//!   the coordinator.
//! * Whoever is refused for good and holds nothing stops; everybody else asks again.
//! * Who joins tells of every generation under which the store may be claimed by then.

use anyhow::Context as _;
use tidegate_core::fleet::{Generation, Incarnation, JobNumber};
use tidegate_core::planted::{self, Bug};
use tidegate_core::rollout::{Account, Join, Orders, Sync};
use tidegate_core::time::Timestamp;
use tidegate_wire::v1;
use tidegate_wire::worker::{Fetch, JobPart, Joined as Terms, Joining};
use tonic::{Code, Status};

use crate::node::{Beat, Heard, Input, Joined, Remembered};
use tidegate_clock::Clock;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) node: String,
    pub(crate) incarnation: Incarnation,
    pub(crate) remembered: Remembered,
    /// The mailbox that it delivers test mail to.
    pub(crate) canary: Option<String>,
}

/// One side of the talk between a worker and its coordinator.
#[derive(Debug)]
pub(crate) struct Dialogue {
    pub(crate) identity: Identity,
    clock: Clock,
    /// Reports sent so far.
    sent: u64,
    /// The newest report whose answer is in force; 0 if none is.
    answered: u64,
    /// The newest orders heard since it joined.
    orders_seen: u64,
    /// The newest report that is on record, as the coordinator has said since it joined.
    recorded: u64,
}

/// A report that was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    sync: Sync,
    at: Timestamp,
}

/// What a refused report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// This worker is not, or no longer, known.
    JoinAgain,
    /// The next beat may be answered as it is.
    Passing,
    /// Something is wrong that the next beat will not mend.
    Wrong,
}

impl Dialogue {
    /// Nothing was said yet.
    pub(crate) fn new(identity: Identity, clock: Clock) -> Self {
        Self { identity, clock, sent: 0, answered: 0, orders_seen: 0, recorded: 0 }
    }

    /// Asks to take up the node.
    pub(crate) fn join(&self) -> v1::JoinRequest {
        v1::JoinRequest::from(Joining {
            join: Join {
                node: self.identity.node.clone(),
                incarnation: self.identity.incarnation,
                claimed_max: self.identity.remembered.claimed_max,
                orders_seen: self.orders_seen,
                journaled: Some(self.identity.remembered.journaled),
                store_claimed: self.identity.remembered.store_claimed,
            },
            rollout: self.identity.remembered.rollout,
            clock: self.clock.now(),
            canary: self.identity.canary.clone(),
        })
    }

    /// The node was given to this worker, under these terms.
    pub(crate) fn joined(
        &mut self,
        answer: v1::JoinResponse,
    ) -> anyhow::Result<(Terms, Input)> {
        let terms =
            Terms::try_from(answer).context("understand the coordinator's welcome")?;
        self.identity.remembered.rollout = Some(terms.rollout);
        (self.answered, self.orders_seen, self.recorded) = (0, 0, 0);
        let (rollout, settings) = (terms.rollout, terms.settings.clone());
        Ok((terms, Input::Joined(Box::new(Joined { rollout, settings }))))
    }

    /// Whether asking to join again cannot help. Whoever holds mailboxes goes on answering
    /// for them, and asks again.
    pub(crate) fn is_refused_for_good(&self, status: &Status) -> bool {
        is_final(status) && self.identity.remembered.claimed_max == Generation::default()
    }

    /// Reports.
    pub(crate) fn report(
        &mut self,
        terms: &Terms,
        beat: Beat,
    ) -> (Sent, v1::SyncRequest) {
        let remembered = &mut self.identity.remembered;
        remembered.claimed_max = remembered.claimed_max.max(beat.claimed_max);
        remembered.journaled =
            remembered.journaled.max(beat.account.journaled.unwrap_or(0));
        self.sent += 1;
        let sync = Sync {
            node: terms.node,
            incarnation: self.identity.incarnation,
            sequence: self.sent,
            orders_obeyed: beat.orders_obeyed,
            claimed_max: beat.claimed_max,
            reports: beat.reports,
            vitals: beat.vitals,
            account: Some(Account {
                answered: self.answered,
                recorded: self.recorded,
                ..beat.account
            }),
        };
        let request = v1::SyncRequest::from(sync.clone());
        (Sent { sync, at: self.clock.now() }, request)
    }

    /// What was reported is recorded, and these are the orders.
    pub(crate) fn answered(
        &mut self,
        terms: &Terms,
        sent: Sent,
        answer: v1::SyncResponse,
    ) -> anyhow::Result<Input> {
        let orders = Orders::try_from(answer).context("understand the orders")?;
        let Sent { sync, at } = sent;
        self.answered = sync.sequence;
        self.orders_seen = self.orders_seen.max(orders.version);
        self.recorded = self.recorded.max(orders.recorded);
        // Hands may claim under these at any time, on record or not.
        let ordered = orders.jobs.iter().map(|order| order.generation).max();
        let remembered = &mut self.identity.remembered;
        remembered.store_claimed =
            remembered.store_claimed.max(ordered.unwrap_or_default());
        let at = if planted::is(Bug::LeaseFromAnswer) { self.clock.now() } else { at };
        let heard = Heard { confirmed: sync.reports, orders, until: at + terms.lease };
        Ok(Input::Heard(Box::new(heard)))
    }

    /// Asks for the mailboxes of a job.
    pub(crate) fn fetch(&self, terms: &Terms, job: JobNumber) -> v1::FetchJobRequest {
        let (node, incarnation) = (terms.node, self.identity.incarnation);
        v1::FetchJobRequest::from(Fetch { node, incarnation, job })
    }
}

/// One more part of a job's description.
pub(crate) fn append(
    told: &mut JobPart,
    part: v1::FetchJobResponse,
) -> Result<(), Status> {
    told.append(JobPart::received(part)?);
    Ok(())
}

/// Whether the coordinator knows more of this node than its journal does.
pub(crate) fn is_too_old(status: &Status) -> bool {
    tidegate_code(status) == Some("worker-too-old")
}

/// What it means that a report was refused.
pub(crate) fn meaning(status: &Status) -> Meaning {
    match status.code() {
        Code::Aborted | Code::FailedPrecondition => Meaning::JoinAgain,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown
        | Code::ResourceExhausted => Meaning::Passing,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => Meaning::Wrong,
    }
}

/// The stable name of a refusal.
pub(crate) fn tidegate_code(status: &Status) -> Option<&str> {
    status.metadata().get("tidegate-code").and_then(|code| code.to_str().ok())
}

/// Whether asking again cannot help.
fn is_final(status: &Status) -> bool {
    let code = tidegate_code(status);
    let never = [Code::InvalidArgument, Code::Unimplemented, Code::PermissionDenied];
    // No plan yet is worth waiting for; a wrong name or an old journal is not.
    let refused = ["unknown-node", "journal-too-old", "other-rollout", "canary-in-plan"];
    never.contains(&status.code())
        || status.code() == Code::FailedPrecondition
            && code.is_some_and(|code| refused.contains(&code))
}

#[cfg(test)]
mod tests {
    use tidegate_core::fleet::NodeNumber;
    use tidegate_core::gate::PulseLimits;
    use tidegate_core::inventory::Digest;
    use tidegate_core::mailbox::Level;
    use tidegate_core::pace::PacePolicy;
    use tidegate_core::policy::Rung;
    use tidegate_core::rollout::{Order, Vitals};
    use tidegate_core::time::Span;
    use tidegate_wire::worker::{NodeNotice, NodeSettings};

    use super::*;

    #[test]
    fn whoever_joins_tells_of_claims_that_hands_may_have_made_since_it_has_started() {
        let mut dialogue = dialogue(Generation::new(4));
        let at_first = dialogue.join().store_generation_max;

        let (sent, _request) = dialogue.report(&terms(), beat());
        dialogue.answered(&terms(), sent, ordered(Generation::new(9))).unwrap();
        let (sent, _request) = dialogue.report(&terms(), beat());
        dialogue.answered(&terms(), sent, ordered(Generation::new(7))).unwrap();

        let join = dialogue.join();
        assert_eq!((at_first, join.store_generation_max), (4, 9));
        assert_eq!(join.claimed_generation_max, 3, "nothing else is on record");
    }

    fn dialogue(store_claimed: Generation) -> Dialogue {
        let remembered = Remembered {
            rollout: None,
            claimed_max: Generation::new(3),
            journaled: 2,
            store_claimed,
        };
        let (node, canary) = ("n1".to_owned(), None);
        let incarnation = Incarnation::new(7);
        let identity = Identity { node, incarnation, remembered, canary };
        Dialogue::new(identity, Clock::start())
    }

    fn beat() -> Beat {
        Beat {
            orders_obeyed: 0,
            reports: Vec::new(),
            account: Account::default(),
            vitals: Vitals::default(),
            claimed_max: Generation::new(3),
            fetch: Vec::new(),
        }
    }

    fn ordered(generation: Generation) -> v1::SyncResponse {
        let order = Order {
            job: JobNumber::new(0),
            generation,
            prepare: true,
            level: Level::HELD,
            open_below: 0,
            named: Some(Vec::new()),
            held_back: Vec::new(),
            dial_tone: false,
            soak: None,
        };
        v1::SyncResponse::from(Orders {
            version: 1,
            may_open: false,
            jobs: vec![order],
            open_millis_per_second: None,
            kept_back: None,
            recorded: 0,
        })
    }

    fn terms() -> Terms {
        let rung = Rung {
            name: "webmail".to_owned(),
            services: vec!["webmail".to_owned()],
            soak: None,
        };
        Terms {
            rollout: Digest::new([1; 32]),
            node: NodeNumber::new(0),
            lease: Span::from_secs(10),
            beat: Span::from_secs(2),
            settings: NodeSettings {
                ladder: vec![rung],
                soak: Span::from_secs(60),
                slow_after: Span::from_secs(1),
                open_per_second: 1,
                prepare_threads: 1,
                notice: NodeNotice::default(),
                dial_services: Vec::new(),
                pulse_limits: PulseLimits {
                    every: Span::from_secs(60),
                    limits: Default::default(),
                },
                pace: PacePolicy::DEFAULT,
            },
        }
    }
}
