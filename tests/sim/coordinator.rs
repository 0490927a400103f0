//! Coordinator: its process on its machine, with the connections to it.
//!
//! # Invariants
//!
//! * Requests and answers are bytes on the way; what was asked of an earlier run gets no answer.
//! * What a program has decided but not recorded when it dies is gone.

use std::sync::Arc;
use std::task::Poll;

use tidegate_coordinator::driven::{Call, Driven, PlanFileError, Plans, Proposal};
use tidegate_core::plan::Plan;
use tidegate_core::time::Timestamp;
use tidegate_wire::hop::{from_bytes, to_bytes};
use tidegate_wire::record::PlanApplied;
use tidegate_wire::v1;
use tonic::Status;

use crate::disk::{Clock, SharedDisk};
use crate::fleet::Fleet;
use crate::worker::Answer;
use crate::world::{Checked, Event, World, broken};

/// The coordinator's machine.
pub(crate) struct Coordinator {
    pub(crate) driven: Option<Driven>,
    /// Rises with every start: connections die with a run.
    pub(crate) run: u32,
    pub(crate) frozen_until: u64,
    pub(crate) clock: Clock,
    pub(crate) disk: SharedDisk,
    calls: Vec<(From, Pending)>,
    /// Who applies the plan waits for it: what is given up is not done. Whether it was is seen in
    /// the journal.
    applying: Option<Call<()>>,
    ticking: bool,
    /// What its clock showed when somebody asked last.
    pub(crate) asked_at: Timestamp,
    /// Its journal is gone.
    pub(crate) lost: bool,
    /// Its journal is older than what workers know.
    pub(crate) outgrown: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Worker { run: u64, call: u64 },
    Operator { id: u64 },
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Join,
    Sync,
    Fetch,
    Pause,
    Freeze,
    Thaw,
    Resume,
    Abort,
    Reclose,
    Retry,
    Accept,
    Expand,
    Emergency,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) from: From,
    pub(crate) rpc: Rpc,
}

enum Pending {
    Join(Call<v1::JoinResponse>),
    Sync(Call<v1::SyncResponse>, Box<v1::SyncRequest>),
    Fetch(Call<Vec<v1::FetchJobResponse>>),
    Action(Call<v1::ActionResponse>),
    Refused(Status),
}

/// The one plan there is.
struct OnePlan(Arc<Plan>);

impl Plans for OnePlan {
    fn keep(&self, _plan: &Plan) -> Result<(), PlanFileError> {
        Ok(())
    }

    fn read(&self, applied: &PlanApplied) -> anyhow::Result<Arc<Plan>> {
        anyhow::ensure!(applied.plan == self.0.digest(), "it is another plan");
        Ok(Arc::clone(&self.0))
    }
}

impl Coordinator {
    pub(crate) fn new() -> Self {
        Self {
            driven: None,
            run: 0,
            frozen_until: 0,
            clock: Clock::new(0),
            disk: SharedDisk::default(),
            calls: Vec::new(),
            applying: None,
            ticking: false,
            asked_at: Timestamp::default(),
            lost: false,
            outgrown: false,
        }
    }
}

impl World {
    pub(crate) fn coordinator_start(&mut self) -> Checked {
        if self.coordinator.driven.is_some() {
            return Ok(());
        }
        self.show_time(None);
        let plan = Arc::clone(&self.fleet.plan);
        let it = &mut self.coordinator;
        let journal = it.disk.open(&it.clock.dial);
        let plans = Box::new(OnePlan(Arc::clone(&plan)));
        let time: Arc<_> = Arc::clone(&it.clock.dial) as _;
        it.run += 1;
        it.frozen_until = 0;
        let run = it.run;
        match Driven::recover(journal, plans, time) {
            Ok(driven) => it.driven = Some(driven),
            Err(error) => {
                return broken("I7", format!("coordinator cannot start: {error:#}"));
            }
        }
        self.oracle.coordinator_started(self.coordinator.driven.as_ref());
        self.story.mix(u64::from(run));
        self.story.tell(self.now, || format!("coordinator starts, run {run}"));
        self.coordinator.outgrown = false;
        let rebuild = self.coordinator.lost.then(|| "its disk is gone".to_owned());
        let applied =
            self.coordinator.driven.as_ref().and_then(Driven::rollout).is_some();
        if !applied && let Some(driven) = &self.coordinator.driven {
            let (by, policy_toml) = ("op".to_owned(), "name = \"sim\"".to_owned());
            let applying = driven.apply(Proposal {
                by,
                plan,
                policy_toml,
                request: None,
                rebuild,
                needs_second: false,
            });
            self.coordinator.applying = Some(applying);
        }
        if !self.coordinator.ticking {
            self.coordinator.ticking = true;
            self.after(0, Event::Tick);
        }
        Ok(())
    }

    /// The process is gone, whatever it was at.
    pub(crate) fn coordinator_dies(&mut self, down: u64, why: &str) {
        if self.coordinator.driven.take().is_none() {
            return;
        }
        self.coordinator.calls.clear();
        self.coordinator.applying = None;
        self.coordinator.frozen_until = 0;
        self.story.count("coordinator restart");
        self.story.tell(self.now, || format!("coordinator ends: {why}"));
        self.after(down, Event::CoordinatorStart);
    }

    pub(crate) fn coordinator_tick(&mut self) -> Checked {
        self.after(self.fleet.beat / 2, Event::Tick);
        if let Some(driven) = &self.coordinator.driven {
            driven.tick();
        }
        self.coordinator_turn()?;
        self.check_what_is_shown()
    }

    /// A request has arrived.
    pub(crate) fn asked(
        &mut self,
        run: u32,
        question: Question,
        bytes: &[u8],
    ) -> Checked {
        if run != self.coordinator.run {
            return Ok(());
        }
        self.show_time(None);
        let Some(driven) = &self.coordinator.driven else { return Ok(()) };
        self.story.mix(self.now);
        self.story.mix_bytes(bytes);
        self.coordinator.asked_at = driven.now();
        let pending = take(driven, question.rpc, bytes);
        self.coordinator.calls.push((question.from, pending));
        self.coordinator_turn()
    }

    fn coordinator_turn(&mut self) -> Checked {
        self.show_time(None);
        let Some(driven) = &mut self.coordinator.driven else { return Ok(()) };
        let turned = driven.turn();
        let (waited, met) = {
            let mut disk = self.coordinator.disk.lock();
            (disk.take_waited(), std::mem::take(&mut disk.met))
        };
        for what in met {
            self.story.count(what);
        }
        self.coordinator.frozen_until =
            self.coordinator.frozen_until.max(self.now + waited);
        self.coordinator_has_recorded()?;
        if let Err(error) = turned {
            // Whoever has an answer now got it from a program that could not record it.
            for (from, mut pending) in std::mem::take(&mut self.coordinator.calls) {
                if let Some(answer) = self.poll(&from, &mut pending)? {
                    self.reply(from, answer);
                }
            }
            let down = 1_000 + self.people.below(20_000);
            self.coordinator_dies(down, &error.to_string());
            return Ok(());
        }
        let calls = std::mem::take(&mut self.coordinator.calls);
        for (from, mut pending) in calls {
            match self.poll(&from, &mut pending)? {
                Some(answer) => self.reply(from, answer),
                None => self.coordinator.calls.push((from, pending)),
            }
        }
        Ok(())
    }

    fn poll(
        &mut self,
        from: &From,
        pending: &mut Pending,
    ) -> Result<Option<Answer>, crate::world::Violation> {
        Ok(match pending {
            Pending::Refused(status) => Some(Answer::Refused(status.clone())),
            Pending::Join(call) => answer(call.poll(), |it| Answer::Message(bytes(&it))),
            Pending::Fetch(call) => answer(call.poll(), |parts| {
                Answer::Parts(parts.iter().map(bytes).collect())
            }),
            Pending::Action(call) => {
                let answer = answer(call.poll(), |it| Answer::Message(bytes(&it)));
                if let (Some(Answer::Message(_)), From::Operator { id }) = (&answer, from)
                {
                    self.action_is_acknowledged(*id)?;
                }
                answer
            }
            Pending::Sync(call, request) => match call.poll() {
                Poll::Pending => None,
                Poll::Ready(Err(status)) => {
                    self.report_was_refused(&status);
                    Some(Answer::Refused(status))
                }
                Poll::Ready(Ok(response)) => {
                    let told = bytes(&response);
                    self.report_is_acknowledged(std::mem::take(request), response)?;
                    Some(Answer::Message(told))
                }
            },
        })
    }

    fn reply(&mut self, from: From, answer: Answer) {
        let leaves = self.coordinator.frozen_until.saturating_sub(self.now);
        match from {
            From::Operator { id } => {
                let event = Event::OperatorHears { id, answer };
                self.after(leaves + 10, event);
            }
            From::Worker { run, call } => {
                let Some(worker) = self.workers.get(&run) else { return };
                let cut = self.nodes[worker.node].link.down_cut && !worker.is_twin;
                for arrival in self.travel(cut) {
                    let answer = answer.clone();
                    self.at(arrival + leaves, Event::Answered { run, call, answer });
                }
            }
        }
    }

    /// Sends a request to the present run of the coordinator.
    pub(crate) fn ask(&mut self, question: Question, bytes: Vec<u8>, is_cut: bool) {
        let leaves = match question.from {
            From::Worker { run, .. } => self.waits_for_disk(run),
            From::Operator { .. } => 0,
        };
        let (run, bytes): (_, Arc<[u8]>) = (self.coordinator.run, bytes.into());
        for arrival in self.travel(is_cut) {
            let bytes = Arc::clone(&bytes);
            self.at(arrival + leaves, Event::Asked { run, question, bytes });
        }
    }

    /// The node's number in the plan.
    pub(crate) fn number(node: usize) -> tidegate_core::fleet::NodeNumber {
        Fleet::node_number(node)
    }
}

fn take(driven: &Driven, rpc: Rpc, bytes: &[u8]) -> Pending {
    let refused = |error| Pending::Refused(Status::from(error));
    match rpc {
        Rpc::Join => {
            from_bytes(bytes).map_or_else(refused, |it| Pending::Join(driven.join(it)))
        }
        Rpc::Sync => from_bytes(bytes).map_or_else(refused, |it: v1::SyncRequest| {
            Pending::Sync(driven.sync(it.clone()), Box::new(it))
        }),
        Rpc::Fetch => {
            from_bytes(bytes).map_or_else(refused, |it| Pending::Fetch(driven.fetch(it)))
        }
        Rpc::Pause => {
            from_bytes(bytes).map_or_else(refused, |it| Pending::Action(driven.pause(it)))
        }
        Rpc::Freeze => from_bytes(bytes)
            .map_or_else(refused, |it| Pending::Action(driven.freeze(it))),
        Rpc::Thaw => {
            from_bytes(bytes).map_or_else(refused, |it| Pending::Action(driven.thaw(it)))
        }
        Rpc::Resume => from_bytes(bytes)
            .map_or_else(refused, |it| Pending::Action(driven.resume(it))),
        Rpc::Retry => {
            from_bytes(bytes).map_or_else(refused, |it| Pending::Action(driven.retry(it)))
        }
        Rpc::Abort => {
            from_bytes(bytes).map_or_else(refused, |it| Pending::Action(driven.abort(it)))
        }
        Rpc::Accept => from_bytes(bytes)
            .map_or_else(refused, |it| Pending::Action(driven.accept(it))),
        Rpc::Emergency => from_bytes(bytes)
            .map_or_else(refused, |it| Pending::Action(driven.begin_emergency(it))),
        Rpc::Expand => from_bytes(bytes)
            .map_or_else(refused, |it| Pending::Action(driven.expand(it))),
        Rpc::Reclose => from_bytes(bytes)
            .map_or_else(refused, |it| Pending::Action(driven.reclose(it))),
    }
}

fn answer<T>(
    polled: Poll<Result<T, Status>>,
    make: impl FnOnce(T) -> Answer,
) -> Option<Answer> {
    match polled {
        Poll::Pending => None,
        Poll::Ready(Ok(message)) => Some(make(message)),
        Poll::Ready(Err(status)) => Some(Answer::Refused(status)),
    }
}

fn bytes<M: Message>(message: &M) -> Arc<[u8]> {
    message.bytes()
}

/// Messages that answers are made of.
trait Message {
    fn bytes(&self) -> Arc<[u8]>;
}

macro_rules! message {
    ($($name:ident),*) => {
        $(impl Message for v1::$name {
            fn bytes(&self) -> Arc<[u8]> {
                to_bytes(self).into()
            }
        })*
    };
}

message!(JoinResponse, SyncResponse, FetchJobResponse, ActionResponse);
