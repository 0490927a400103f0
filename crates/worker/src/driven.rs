//! Driven: a worker that somebody else turns, with time, journal, store and connection of his.
//!
//! It is the very owner, dialogue and hands of a running worker; only no thread runs, and
//! nothing waits.
//!
//! # Invariants
//!
//! * Whatever an error comes from, the worker has ended.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context as _;
use tidegate_admission::{Doors, Ladder, Standing};
use tidegate_core::fleet::{Generation, Incarnation, JobNumber};
use tidegate_core::gate::Pulses;
use tidegate_core::holding::Holding;
use tidegate_core::time::{Span, TimeSource};
use tidegate_journal::Log;
use tidegate_wire::v1;
use tidegate_wire::worker::{JobPart, Joined as Terms};
use tokio::sync::oneshot;
use tonic::Status;

use crate::hands::{Done, Hand, Hands, Task};
use crate::node::{Given, Input, Node};
use crate::session::{Dialogue, Identity, Meaning, Sent, append, is_too_old, meaning};
use tidegate_clock::Clock;

pub use crate::description::Shelf;
pub use crate::store::{
    Dialling, LetIn, MailStore, Reads, Switching, Telling, Told, Under,
};

/// As many tasks as all pools of hands take together.
const TASKS_MAX: usize = 320;

/// Inputs of one turn, as of a running owner.
const BATCH_MAX: usize = 64;

/// What a worker is made of.
pub struct Parts {
    /// The node's name.
    pub node: String,
    /// Its run.
    pub incarnation: Incarnation,
    /// Where it remembers.
    pub journal: Box<dyn Log>,
    /// Where it keeps descriptions of jobs.
    pub shelf: Arc<dyn Shelf>,
    /// The mail.
    pub store: Arc<dyn MailStore>,
    /// The machine's time.
    pub time: Arc<dyn TimeSource>,
}

/// A worker that somebody else turns.
pub struct Driven {
    node: Node,
    doors: Doors,
    dialogue: Dialogue,
    terms: Option<Terms>,
    hand: Hand,
    tasks: Receiver<Task>,
    inputs: Vec<Input>,
    /// Held, so that the node does not think it is alone.
    _inbox: SyncSender<Input>,
}

/// A piece of work at the store that waits for a hand.
pub struct Work(Task);

/// What came of a piece of work.
pub struct Worked(Done);

/// Which kind of work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Claiming a job.
    Claim,
    /// Verifying and repairing.
    Prepare,
    /// Looking and reading.
    Quick,
    /// Asking for the free space, or for the claims.
    Measure,
    /// Dial tones.
    Dial,
    /// Telling the mail system.
    Tell,
}

/// A report on its way, and what should be fetched after it.
pub struct Report {
    /// What goes out.
    pub request: v1::SyncRequest,
    /// Jobs whose mailboxes are not known.
    pub fetch: Vec<(JobNumber, v1::FetchJobRequest)>,
    /// What must be known when the answer comes.
    pub sent: Outstanding,
}

/// A report without its answer.
pub struct Outstanding(Sent);

/// What becomes of a worker that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It joins again.
    Join,
    /// It goes on with the next beat.
    Beat,
    /// It ends.
    End,
}

impl Driven {
    /// What the journal has left.
    ///
    /// # Errors
    ///
    /// Whatever cannot be trusted, as when a worker starts.
    pub fn recover(parts: Parts) -> anyhow::Result<Self> {
        let Parts { node, incarnation, journal, shelf, store, time } = parts;
        let clock = Clock::of(time);
        let doors = Doors::new(Ladder::default());
        let (queue, tasks) = sync_channel(TASKS_MAX);
        let (inbox, inputs) = sync_channel(1);
        let given = Given {
            node: node.clone(),
            clock: clock.clone(),
            journal,
            doors: doors.clone(),
            shelf: Arc::clone(&shelf),
            store: Arc::clone(&store),
            hands: Box::new(move |_| Hands::driven(&queue)),
            listen: Box::new(|_| Pulses::default()),
        };
        let owner = Node::recover(given, inputs)?;
        let remembered = owner.remembered();
        let identity = Identity { node, incarnation, remembered, canary: None };
        Ok(Self {
            node: owner,
            doors,
            dialogue: Dialogue::new(identity, clock),
            terms: None,
            hand: Hand { store, shelf },
            tasks,
            inputs: Vec::new(),
            _inbox: inbox,
        })
    }

    /// One turn of the owner with all that has come in.
    ///
    /// # Errors
    ///
    /// Going on would be unsafe: the worker has ended.
    pub fn turn(&mut self) -> anyhow::Result<()> {
        let mut inputs = std::mem::take(&mut self.inputs);
        while inputs.len() > BATCH_MAX {
            let later = inputs.split_off(BATCH_MAX);
            self.node.turn(std::mem::replace(&mut inputs, later))?;
        }
        self.node.turn(inputs).map(drop)
    }

    /// Asks to take up the node.
    pub fn join(&self) -> v1::JoinRequest {
        self.dialogue.join()
    }

    /// The node was given to this worker, which beats so often and has so long a lease.
    ///
    /// # Errors
    ///
    /// The answer cannot be understood: the worker has ended.
    pub fn joined(&mut self, answer: v1::JoinResponse) -> anyhow::Result<(Span, Span)> {
        let (terms, input) = self.dialogue.joined(answer)?;
        self.inputs.push(input);
        let (beat, lease) = (terms.beat, terms.lease);
        self.terms = Some(terms);
        Ok((beat, lease))
    }

    /// What a worker does whose joining was refused.
    pub fn not_joined(&mut self, status: &Status) -> Next {
        if is_too_old(status) {
            self.inputs.push(Input::TurnedAway);
        }
        if self.dialogue.is_refused_for_good(status) { Next::End } else { Next::Join }
    }

    /// A turn of the owner, and the report that it makes.
    ///
    /// # Errors
    ///
    /// As [`Driven::turn`].
    pub fn report(&mut self) -> anyhow::Result<Option<Report>> {
        let (reply, mut told) = oneshot::channel();
        self.inputs.push(Input::Beat(reply));
        self.turn()?;
        let Some(terms) = &self.terms else { return Ok(None) };
        let beat = told.try_recv().context("a turn answers its beat")?;
        let fetch = beat.fetch.iter().map(|job| (*job, self.dialogue.fetch(terms, *job)));
        let fetch = fetch.collect();
        let (sent, request) = self.dialogue.report(terms, beat);
        Ok(Some(Report { request, fetch, sent: Outstanding(sent) }))
    }

    /// What was reported is recorded, and these are the orders.
    ///
    /// # Errors
    ///
    /// The answer cannot be understood: the worker has ended.
    pub fn answered(
        &mut self,
        sent: Outstanding,
        answer: v1::SyncResponse,
    ) -> anyhow::Result<()> {
        let Some(terms) = &self.terms else { return Ok(()) };
        self.inputs.push(self.dialogue.answered(terms, sent.0, answer)?);
        Ok(())
    }

    /// What a worker does whose report was refused.
    pub fn refused(&self, status: &Status) -> Next {
        match meaning(status) {
            Meaning::JoinAgain => Next::Join,
            Meaning::Passing | Meaning::Wrong => Next::Beat,
        }
    }

    /// The mailboxes of a job have come.
    pub fn fetched(&mut self, job: JobNumber, parts: Vec<v1::FetchJobResponse>) {
        let mut told = JobPart::default();
        if parts.into_iter().try_for_each(|part| append(&mut told, part)).is_ok() {
            self.inputs.push(Input::Described { job, told });
        }
    }

    /// Work that waits for a hand.
    pub fn work(&mut self) -> Option<Work> {
        self.tasks.try_recv().ok().map(Work)
    }

    /// Does a piece of work, as a hand does.
    pub fn carry_out(&self, work: Work) -> Worked {
        Worked(self.hand.carry_out(work.0))
    }

    /// Brings what came of a piece of work.
    pub fn worked(&mut self, worked: Worked) {
        self.inputs.push(Input::Done(Box::new(worked.0)));
    }

    /// How far admission lets the owner of this address in: a level, and whether there is a
    /// dial tone.
    pub fn standing(&self, address: &str) -> (u8, bool) {
        match self.doors.standing(address) {
            Some(Standing::Level(level)) => (level, false),
            Some(Standing::DialTone) => (0, true),
            None => (0, false),
        }
    }

    /// Whether admission lets a service of this address through now.
    pub fn admits(&self, service: &str, address: &str) -> bool {
        self.doors.answer(service, address) == tidegate_admission::Answer::Online
    }

    /// What it holds, for whoever checks it.
    pub fn holding(&self) -> &Holding {
        self.node.holding()
    }

    /// The highest generation that it has claimed.
    pub fn claimed_max(&self) -> Generation {
        self.node.remembered().claimed_max
    }
}

impl Work {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Task::Claim { .. } => Kind::Claim,
            Task::Prepare { .. } => Kind::Prepare,
            Task::Look { .. } | Task::Probe { .. } => Kind::Quick,
            Task::Measure | Task::Claims => Kind::Measure,
            Task::Dial { .. } | Task::Switch { .. } => Kind::Dial,
            Task::Tell { .. } => Kind::Tell,
        }
    }
}
