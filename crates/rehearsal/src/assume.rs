//! Assumptions: what nobody knows before the rollout, and a rehearsal must be told.
//!
//! # Invariants
//!
//! * What is the same for every node is said once; nodes differ by chance and by name.

use std::collections::BTreeMap;

use fastrand::Rng;
use tidegate_core::fleet::NodeNumber;
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;

/// What is assumed of all nodes, and of single ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumptions {
    /// How many mailboxes a node verifies and repairs in a second.
    pub prepares_per_second: f64,
    /// How much nodes differ from that by chance: the standard deviation of the logarithm of
    /// a node's speed. 0.2 is about a fifth up or down.
    pub spread: f64,
    /// How much slower a node becomes for a while, by chance: the standard deviation of the
    /// logarithm of what its speed is divided by. It changes every [`DRIFT_EVERY`], and half of it
    /// stays.
    pub drift: f64,
    /// The share of mailboxes that cannot be read once they are open.
    pub fails: Ppm,
    /// The share of mailboxes that are set aside for a person when they are verified.
    pub sets_aside: Ppm,
    /// What is assumed of single nodes beside that.
    pub nodes: BTreeMap<NodeNumber, NodeAssumptions>,
}

/// How often a node's speed changes.
pub const DRIFT_EVERY: Span = Span::from_secs(10 * 60);

/// What is assumed of one node.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct NodeAssumptions {
    /// The share of its mailboxes that cannot be read once they are open, in place of the
    /// share of all nodes.
    pub fails: Option<Ppm>,
    /// How many times slower than the others it verifies and opens.
    pub slower: Option<f64>,
    /// After how long it falls silent for good, counted from the start of the rollout.
    pub lost_after: Option<Span>,
}

/// What one node turned out to be in one rehearsal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Nature {
    pub(crate) prepares_per_second: f64,
    pub(crate) slower: f64,
    pub(crate) drift: f64,
    pub(crate) fails: Ppm,
    pub(crate) sets_aside: Ppm,
    pub(crate) lost_after: Option<Span>,
}

impl Assumptions {
    /// A fleet of which nothing bad is known, whose nodes verify so many mailboxes in a second.
    pub fn healthy(prepares_per_second: f64) -> Self {
        Self {
            prepares_per_second,
            spread: 0.0,
            drift: 0.0,
            fails: Ppm::ZERO,
            sets_aside: Ppm::ZERO,
            nodes: BTreeMap::new(),
        }
    }

    /// What is assumed of `node` alone, to be changed.
    pub fn of(&mut self, node: NodeNumber) -> &mut NodeAssumptions {
        self.nodes.entry(node).or_default()
    }

    /// Draws what `node` is.
    pub(crate) fn draw(&self, node: NodeNumber, chance: &mut Rng) -> Nature {
        let named = self.nodes.get(&node).copied().unwrap_or_default();
        let speed = (self.spread * normal(chance)).exp();
        let slower = named.slower.unwrap_or(1.0).max(f64::MIN_POSITIVE);
        Nature {
            prepares_per_second: self.prepares_per_second * speed / slower,
            slower,
            drift: self.drift,
            fails: named.fails.unwrap_or(self.fails),
            sets_aside: self.sets_aside,
            lost_after: named.lost_after,
        }
    }
}

/// A number from the standard normal distribution, by the method of Box and Muller (Annals of
/// Mathematical Statistics 29, 1958).
pub(crate) fn normal(chance: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - chance.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * chance.f64()).cos()
}

/// Whether `subject` belongs to so large a share, always the same under one `seed`.
pub(crate) fn belongs(seed: u64, subject: u64, share: Ppm) -> bool {
    if share == Ppm::ZERO {
        return false;
    }
    let mut chance = Rng::with_seed(seed ^ subject.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    chance.u32(0..Ppm::WHOLE.parts()) < share.parts()
}
