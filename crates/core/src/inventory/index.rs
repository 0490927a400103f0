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
    let length = u64::try_from(text.len()).unwrap_or(0);
    hash = fold(hash ^ tail(text, rest));
    fold(hash ^ length)
}

/// The `rest` of a text, fewer than eight bytes, as the low bytes of a word.
fn tail(text: &[u8], rest: &[u8]) -> u64 {
    match text.last_chunk::<8>() {
        Some(last) if !rest.is_empty() => {
            u64::from_le_bytes(*last) >> (8 * (8 - rest.len()))
        }
        Some(_) => 0,
        None => match (rest.first_chunk(), rest.last_chunk()) {
            (Some(first), Some(last)) => {
                let [first, last] =
                    [*first, *last].map(u32::from_le_bytes).map(u64::from);
                first | last << (8 * (rest.len() - 4))
            }
            (None | Some(_), None | Some(_)) => {
                rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
            }
        },
    }
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

/// Parts of a column of tags that are sorted within the nearest cache.
const SORTED_TOGETHER: usize = 4_096;
/// Memory is not written in more places at once without waiting for its tables.
const PARTS_BITS_MAX: u32 = 11;

/// Tags with their numbers, in the order of the tags; asks for all of them twice.
pub(crate) fn in_order_of_tags<T: Iterator<Item = u32>>(
    count: usize,
    tags: impl Fn() -> T,
) -> Vec<u64> {
    let parts = (count / SORTED_TOGETHER).max(1);
    let bits = parts.ilog2().min(PARTS_BITS_MAX);
    let part = |tag: u32| super::wide(u64::from(tag) >> (32 - bits));
    let mut ends = vec![0_usize; 1 << bits];
    for tag in tags() {
        if let Some(count) = ends.get_mut(part(tag)) {
            *count += 1;
        }
    }
    let mut start = 0;
    for end in &mut ends {
        (start, *end) = (start + *end, start);
    }
    let mut sorted = vec![0; count];
    for (number, tag) in (0_u32..).zip(tags()) {
        let Some(place) = ends.get_mut(part(tag)) else { continue };
        if let Some(slot) = sorted.get_mut(*place) {
            *slot = tagged(tag, number);
        }
        *place += 1;
    }
    let mut rest = sorted.as_mut_slice();
    let mut start = 0;
    for end in ends {
        let (part, later) = std::mem::take(&mut rest).split_at_mut(end - start);
        part.sort_unstable();
        (rest, start) = (later, end);
    }
    sorted
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
        for slot in probe(self.slots.len(), tag) {
            match self.slots.get(slot) {
                None | Some((_, FREE)) => return None,
                Some((taken, number)) if *taken == tag && same(*number) => {
                    return Some(*number);
                }
                Some(_) => {}
            }
        }
        None
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
