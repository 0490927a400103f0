//! A hash table of numbers over texts that live elsewhere.
//!
//! # Invariants
//!
//! * The order of its slots is never shown: answers depend on what is in it only.
//! * At most seven of eight slots are taken, so every search ends.

/// A slot nobody has taken.
const FREE: u32 = u32::MAX;

/// An odd number whose bits look like chance.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of some texts, taken together.
pub(super) fn hash(texts: &[&[u8]]) -> u64 {
    let mut hash = MIX;
    for text in texts {
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let length = u64::try_from(text.len()).unwrap_or(0);
        hash = fold(hash ^ u64::from_le_bytes(last));
        hash = fold(hash ^ length);
    }
    hash
}

/// Multiplies to twice the width and lays the halves over each other.
fn fold(hash: u64) -> u64 {
    let wide = u128::from(hash) * u128::from(MIX);
    let [low, high] = [wide, wide >> 64].map(|half| half & u128::from(u64::MAX));
    u64::try_from(low ^ high).unwrap_or(0)
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
        if (self.taken + 1) * 8 > self.slots.len() * 7 {
            self.grow();
        }
        self.take(tag(hash), number);
        self.taken += 1;
    }

    /// The finished index, with every number replaced by its new one.
    pub(super) fn finish(self, renumbered: &[u32]) -> Index {
        let renumber = |(_, number): (u32, u32)| {
            super::at(renumbered, number).copied().unwrap_or(FREE)
        };
        Index { slots: self.slots.into_iter().map(renumber).collect() }
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

/// A finished index: four bytes a slot.
#[derive(Clone, Debug)]
pub(super) struct Index {
    slots: Vec<u32>,
}

impl Index {
    /// The number under `hash` that is the `same`.
    pub(super) fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        probe(self.slots.len(), tag(hash))
            .map_while(|slot| self.slots.get(slot).filter(|number| **number != FREE))
            .find(|number| same(**number))
            .copied()
    }
}

/// The half of a hash that places it; slots are fewer than 2^32.
fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(0)
}

/// The slots to look at, in order; `slots` is a power of two or zero.
fn probe(slots: usize, tag: u32) -> impl Iterator<Item = usize> {
    let mask = slots.wrapping_sub(1);
    let start = super::index(tag) & mask;
    (0..slots).map(move |step| (start + step) & mask)
}
