//! Lanes: what waits for the owner, the urgent before the rest.
//!
//! ```text
//! stop ─┐
//! close ─┤
//! own ───┤  rounds: each lane has turns, the first with something to do and a turn left
//! report ┼──────────────────────────────────────────────────────────────▶ the owner
//! join ──┤
//! fetch ─┤
//! verb ──┤
//! question ┘
//! ```
//!
//! # Invariants
//!
//! * Nothing waits without a limit, and whoever finds a lane full is refused at once: nobody
//!   waits for a place.
//! * The urgent goes first, and no lane starves: in one round each has its turns.
//! * Of each node's worker one report waits: the newest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tidegate_core::fleet::NodeNumber;

use super::Message;
use crate::refused::Refused;

/// What messages wait in, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Operators who stop: pause, abort.
    Stop,
    /// Operators who close what is open.
    Close,
    /// Time, and what was measured elsewhere.
    Own,
    /// Workers' reports.
    Report,
    /// Workers that take up a node.
    Join,
    /// Workers that fetch a job.
    Fetch,
    /// Operators who want anything else.
    Verb,
    /// Readers.
    Question,
}

/// How a lane is served.
struct Rule {
    lane: Lane,
    /// What waits in it, for people who are refused.
    what: &'static str,
    /// The most messages that wait.
    waiting_max: usize,
    /// The most of them for one node.
    per_node_max: usize,
    /// Messages of one round.
    turns: usize,
}

/// A round is a batch of the owner's at most, so that what is urgent waits for one batch.
/// Stopping needs few places: any pause will do, and the next one asks again.
const RULES: [Rule; 8] = [
    rule(Lane::Stop, "stops", (64, 64), 32),
    rule(Lane::Close, "re-closings", (64, 64), 16),
    rule(Lane::Own, "measurements", (64, 64), 16),
    // One of each node, however many nodes a plan has.
    rule(Lane::Report, "reports", (65_536, 1), 128),
    rule(Lane::Join, "workers that join", (4_096, 4), 16),
    rule(Lane::Fetch, "descriptions of jobs", (4_096, 4), 16),
    rule(Lane::Verb, "operators", (64, 64), 8),
    rule(Lane::Question, "readers' questions", (256, 256), 16),
];

const fn rule(
    lane: Lane,
    what: &'static str,
    (waiting_max, per_node_max): (usize, usize),
    turns: usize,
) -> Rule {
    Rule { lane, what, waiting_max, per_node_max, turns }
}

/// The way from everybody to the owner.
pub(super) struct Lanes {
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    /// In the order of [`RULES`].
    lanes: [Waiting; RULES.len()],
    /// Time has passed; told once, however often it was said.
    tick: bool,
    /// Nothing more is taken in.
    ending: bool,
}

/// One lane.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<(Option<NodeNumber>, Message)>,
    per_node: BTreeMap<NodeNumber, usize>,
    /// Turns left in this round.
    turns: usize,
}

impl Waiting {
    fn put(
        &mut self,
        rule: &Rule,
        node: Option<NodeNumber>,
        message: Message,
    ) -> Result<(), Refused> {
        let of_node =
            node.map_or(0, |node| self.per_node.get(&node).copied().unwrap_or(0));
        let (waiting, max) = if of_node >= rule.per_node_max {
            (of_node, rule.per_node_max)
        } else {
            (self.messages.len(), rule.waiting_max)
        };
        if waiting >= max {
            return Err(Refused::Full { what: rule.what, max });
        }
        if let Some(node) = node {
            *self.per_node.entry(node).or_default() += 1;
        }
        self.messages.push_back((node, message));
        Ok(())
    }

    fn take(&mut self) -> Option<Message> {
        let (node, message) = self.messages.pop_front()?;
        if let Some(node) = node
            && let Some(of_node) = self.per_node.get_mut(&node)
        {
            *of_node -= 1;
            if *of_node == 0 {
                self.per_node.remove(&node);
            }
        }
        Some(message)
    }

    /// The place of the report of this node that waits.
    fn report_of(&mut self, node: NodeNumber) -> Option<&mut Message> {
        self.per_node.get(&node)?;
        let mut waiting = self.messages.iter_mut();
        waiting.find(|(of, _)| *of == Some(node)).map(|(_, message)| message)
    }
}

impl Lanes {
    /// Lanes in which nothing waits.
    pub(super) fn new() -> Arc<Self> {
        let lanes = std::array::from_fn(|_| Waiting::default());
        let state = State { lanes, tick: false, ending: false };
        Arc::new(Self { state: Mutex::new(state), news: Condvar::new() })
    }

    /// Says that time has passed.
    pub(super) fn tick(&self) {
        self.lock().tick = true;
        self.news.notify_one();
    }

    /// Lets `message` wait, for `node` if it has to do with one.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`], [`Refused::Overtaken`] or [`Refused::Stopping`], at once.
    pub(super) fn put(
        &self,
        lane: Lane,
        node: Option<NodeNumber>,
        message: Message,
    ) -> Result<(), Refused> {
        let overtaken = {
            let mut state = self.lock();
            if state.ending {
                return Err(Refused::Stopping);
            }
            let lanes = state.lanes.iter_mut().zip(&RULES);
            let found = lanes.into_iter().find(|(_, rule)| rule.lane == lane);
            let Some((waiting, rule)) = found else { return Err(Refused::Stopping) };
            match node.filter(|_| lane == Lane::Report) {
                Some(node) => match waiting.report_of(node) {
                    Some(older) => Some(overtake(older, message)),
                    None => waiting.put(rule, Some(node), message).map(|()| None)?,
                },
                None => waiting.put(rule, node, message).map(|()| None)?,
            }
        };
        self.news.notify_one();
        if let Some(Message::Sync { to, .. }) = overtaken {
            // Whoever has stopped waiting has told it again.
            drop(to.send(Err(Refused::Overtaken)));
        }
        Ok(())
    }

    /// The next message; nothing when there will be none. Blocks.
    pub(super) fn next(&self) -> Option<Message> {
        let mut state = self.lock();
        loop {
            if let Some(message) = state.take() {
                return Some(message);
            }
            if state.ending {
                return None;
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What waits, without waiting for it.
    pub(super) fn waiting(&self) -> Option<Message> {
        self.lock().take()
    }

    /// Takes nothing more in; what waits is still served.
    pub(super) fn end(&self) {
        self.lock().ending = true;
        self.news.notify_all();
    }

    /// Nobody serves any more; whoever waits is told so.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.ending = true;
        let left = std::mem::take(&mut state.lanes);
        drop(state);
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<Message> {
        self.take_in_round().or_else(|| {
            for (waiting, rule) in self.lanes.iter_mut().zip(&RULES) {
                waiting.turns = rule.turns;
            }
            self.take_in_round()
        })
    }

    fn take_in_round(&mut self) -> Option<Message> {
        for (waiting, rule) in self.lanes.iter_mut().zip(&RULES) {
            if waiting.turns == 0 {
                continue;
            }
            let told = rule.lane == Lane::Own && std::mem::take(&mut self.tick);
            let message = if told { Some(Message::Tick) } else { waiting.take() };
            if message.is_some() {
                waiting.turns -= 1;
                return message;
            }
        }
        None
    }
}

/// Lets the newer of two reports wait, and gives the other one. A report tells everything that
/// is not confirmed, so the newer one says all that the older one says.
fn overtake(waiting: &mut Message, message: Message) -> Message {
    let sequence = |it: &Message| match it {
        Message::Sync { sync, .. } => Some((sync.incarnation, sync.sequence)),
        Message::Tick
        | Message::Join { .. }
        | Message::Operate { .. }
        | Message::Approve { .. }
        | Message::Apply { .. }
        | Message::Ask(_)
        | Message::External { .. } => None,
    };
    let is_older = match (sequence(&message), sequence(waiting)) {
        (Some((of, theirs)), Some((by, ours))) => of == by && theirs < ours,
        _ => false,
    };
    if is_older { message } else { std::mem::replace(waiting, message) }
}

#[cfg(test)]
mod tests;
