//! Search: every state that a protocol can reach, the nearest first.
//!
//! # Invariants
//!
//! * States are met in the order of their distance, so the first broken one that is met is
//!   among the nearest: its story is a shortest one.
//! * A broken state is not gone on from.
//! * States are told apart by 128 bits of a cryptographic digest of all that is in them.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// What can happen, and what must not.
pub(crate) trait Protocol {
    type State: Clone + Hash;
    type Action: Clone + Debug;

    /// Where everything begins.
    fn begin(&self) -> Self::State;

    /// What may happen next; not all of it needs to change anything.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    /// What becomes of `state`; nothing if it stays as it is.
    fn step(&self, state: &Self::State, action: &Self::Action) -> Option<Self::State>;

    /// The promise that is broken, if one is.
    fn broken(&self, state: &Self::State) -> Option<String>;

    /// Whether the story may end here.
    fn is_good_end(&self, state: &Self::State) -> bool;
}

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Found<A> {
    /// Different states.
    pub(crate) states: usize,
    /// Steps to the farthest of them.
    pub(crate) depth: u32,
    /// Whether there was room for all of them.
    pub(crate) exhausted: bool,
    /// The shortest way to a broken promise; if none is broken, to a state from which no good
    /// end can be reached.
    pub(crate) story: Option<Story<A>>,
}

/// A way, and what is at its end.
#[derive(Debug)]
pub(crate) struct Story<A> {
    pub(crate) steps: Vec<A>,
    pub(crate) end: String,
}

/// Searches at most `states_max` states.
pub(crate) fn search<P: Protocol>(protocol: &P, states_max: usize) -> Found<P::Action> {
    let mut graph = Graph { known: HashMap::new(), came: Vec::new(), edges: Vec::new() };
    let mut good = Vec::new();
    let mut waiting = VecDeque::new();
    let begin = protocol.begin();
    graph.enter(&begin, None);
    good.push(protocol.is_good_end(&begin));
    waiting.push_back((0_u32, begin));
    let mut exhausted = true;
    let mut violation = None;
    'search: while let Some((from, state)) = waiting.pop_front() {
        for action in protocol.actions(&state) {
            let Some(next) = protocol.step(&state, &action) else { continue };
            if graph.came.len() >= states_max {
                exhausted = false;
                break 'search;
            }
            let Some(number) = graph.enter(&next, Some((from, action))) else { continue };
            if let Some(end) = protocol.broken(&next) {
                violation = Some(Story { steps: graph.way_to(number), end });
                break 'search;
            }
            good.push(protocol.is_good_end(&next));
            waiting.push_back((number, next));
        }
    }
    let stuck = || if exhausted { graph.stuck(&good) } else { None };
    let story = violation.or_else(stuck);
    Found { states: graph.came.len(), depth: graph.depth(), exhausted, story }
}

/// What has been met.
struct Graph<A> {
    known: HashMap<u128, u32>,
    came: Vec<Came<A>>,
    edges: Vec<(u32, u32)>,
}

/// How a state was met first.
struct Came<A> {
    depth: u32,
    by: Option<(u32, A)>,
}

impl<A: Clone> Graph<A> {
    /// The number of `state` if it is new.
    fn enter<S: Hash>(&mut self, state: &S, by: Option<(u32, A)>) -> Option<u32> {
        let new = u32::try_from(self.came.len()).expect("fewer states than fit memory");
        let number = *self.known.entry(digest(state)).or_insert(new);
        if let Some((from, _)) = &by {
            self.edges.push((*from, number));
        }
        if number != new {
            return None;
        }
        let depth =
            by.as_ref().map_or(0, |(from, _)| self.came[*from as usize].depth + 1);
        self.came.push(Came { depth, by });
        Some(new)
    }

    fn depth(&self) -> u32 {
        self.came.iter().map(|came| came.depth).max().unwrap_or_default()
    }

    fn way_to(&self, number: u32) -> Vec<A> {
        let mut steps = Vec::new();
        let mut at = number;
        while let Some((from, action)) = &self.came[at as usize].by {
            steps.push(action.clone());
            at = *from;
        }
        steps.reverse();
        steps
    }

    /// The shortest way to a state that no good one can be reached from.
    fn stuck(&self, good: &[bool]) -> Option<Story<A>> {
        let mut back: Vec<u32> = vec![0; self.came.len() + 1];
        for (_, to) in &self.edges {
            back[*to as usize + 1] += 1;
        }
        for place in 1..back.len() {
            back[place] += back[place - 1];
        }
        let mut free = back.clone();
        let mut before = vec![0_u32; self.edges.len()];
        for (from, to) in &self.edges {
            let place = &mut free[*to as usize];
            before[*place as usize] = *from;
            *place += 1;
        }
        let mut fine = good.to_vec();
        let mut left: Vec<usize> = (0..fine.len()).filter(|it| fine[*it]).collect();
        while let Some(state) = left.pop() {
            for from in &before[back[state] as usize..back[state + 1] as usize] {
                let from = *from as usize;
                if !fine[from] {
                    fine[from] = true;
                    left.push(from);
                }
            }
        }
        let lost = fine.iter().position(|fine| !fine)?;
        let number = u32::try_from(lost).ok()?;
        let end = "no good end can be reached any more".to_owned();
        Some(Story { steps: self.way_to(number), end })
    }
}

fn digest(state: &impl Hash) -> u128 {
    let mut bytes = Bytes(Vec::with_capacity(512));
    state.hash(&mut bytes);
    let digest = blake3::hash(&bytes.0);
    let (first, _) = digest.as_bytes().split_at(16);
    u128::from_le_bytes(first.try_into().expect("sixteen bytes"))
}

/// A hasher that keeps what it is told, for one that is told everything at once.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn write_u8(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Lengths and variants here are far below 256.
    fn write_usize(&mut self, number: usize) {
        debug_assert!(number < 256);
        self.0.push(number.to_le_bytes()[0]);
    }

    fn write_isize(&mut self, number: isize) {
        debug_assert!((0..256).contains(&number));
        self.0.push(number.to_le_bytes()[0]);
    }

    fn finish(&self) -> u64 {
        self.0.len() as u64
    }
}
