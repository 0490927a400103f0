//! Hash tables of numbers over texts that live elsewhere.
//!
//! # Invariants
//!
//! * What is shown depends on what is in a table, never on the order of its making.
//! * Every search ends.

/// A slot nobody has taken.
pub(super) const FREE: u32 = u32::MAX;

/// Five slots for four numbers: searches look at three slots on average.
const SLOTS_FOR_FOUR: u64 = 5;

/// An odd number whose bits look like chance.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a text.
pub(super) fn hash(text: &[u8]) -> u64 {
    let mut hash = MIX;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let length = u64::try_from(text.len()).unwrap_or(0);
    hash = fold(hash ^ u64::from_le_bytes(last));
    fold(hash ^ length)
}

/// Multiplies to twice the width and lays the halves over each other.
fn fold(hash: u64) -> u64 {
    let wide = u128::from(hash) * u128::from(MIX);
    let [low, high] = [wide, wide >> 64].map(|half| half & u128::from(u64::MAX));
    u64::try_from(low ^ high).unwrap_or(0)
}

/// The half of a hash that places it.
pub(super) fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(0)
}

/// A tag and a number in one word, in the order of the tags.
pub(super) fn tagged(tag: u32, number: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(number)
}

/// The tag and the number of a word.
pub(super) fn parts(tagged: u64) -> (u32, u32) {
    let low = u32::try_from(tagged & u64::from(u32::MAX)).unwrap_or(0);
    (tag(tagged), low)
}

/// A growing index; remembers half of each hash so that growing reads no text.
#[derive(Default)]
pub(super) struct GrowingIndex {
    slots: Vec<(u32, u32)>,
    taken: usize,
}

impl GrowingIndex {
    /// The number under `hash` that is the `same`.
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        probe(self.slots.len(), tag)
            .map_while(|slot| self.slots.get(slot).filter(|(_, number)| *number != FREE))
            .find(|(taken, number)| *taken == tag && same(*number))
            .map(|(_, number)| *number)
    }

    /// Adds a number that is not in it yet.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        // At most seven of eight slots are taken.
        if (self.taken + 1) * 8 > self.slots.len() * 7 {
            self.grow();
        }
        self.take(tag(hash), number);
        self.taken += 1;
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![(0, FREE); slots]);
        for (tag, number) in old {
            if number != FREE {
                self.take(tag, number);
            }
        }
    }

    fn take(&mut self, tag: u32, number: u32) {
        for slot in probe(self.slots.len(), tag) {
            if let Some(free) = self.slots.get_mut(slot).filter(|slot| slot.1 == FREE) {
                *free = (tag, number);
                return;
            }
        }
    }
}

/// The slots to look at, in order; `slots` is a power of two or zero.
fn probe(slots: usize, tag: u32) -> impl Iterator<Item = usize> {
    let mask = slots.wrapping_sub(1);
    let start = super::index(tag) & mask;
    (0..slots).map(move |step| (start + step) & mask)
}

/// A finished index: four bytes a slot, numbers in the order of their tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// How many slots tags are spread over.
    spread: u64,
    /// Those, and a few more for what did not fit at the end.
    slots: Vec<u32>,
}

impl Index {
    /// The index of numbers under their tags, in their order.
    pub(super) fn of(sorted: &[u64]) -> Self {
        let count = u64::try_from(sorted.len()).unwrap_or(u64::MAX);
        let mut index = Self { spread: Self::spread(count), slots: Vec::new() };
        index.slots.reserve_exact(super::wide(index.spread) + 64);
        for word in sorted {
            let (tag, number) = parts(*word);
            let start = index.start(tag);
            if index.slots.len() < start {
                index.slots.resize(start, FREE);
            }
            index.slots.push(number);
        }
        index
    }

    /// The index with these slots, for `count` numbers.
    pub(super) fn with_slots(count: u32, slots: Vec<u32>) -> Self {
        Self { spread: Self::spread(u64::from(count)), slots }
    }

    pub(super) fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The number under `hash` that is the `same`.
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let from = self.slots.get(self.start(tag(hash))..)?;
        from.iter().take_while(|slot| **slot != FREE).find(|slot| same(**slot)).copied()
    }

    fn spread(count: u64) -> u64 {
        count.saturating_mul(SLOTS_FOR_FOUR) / 4 + 1
    }

    fn start(&self, tag: u32) -> usize {
        super::wide(u64::from(tag).saturating_mul(self.spread) >> 32)
    }
}
