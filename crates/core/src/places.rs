//! Places: a set of mailboxes, by their jobs and their places within them, a bit each.
//!
//! # Invariants
//!
//! * A job of which nothing is in it takes no memory.

use std::collections::BTreeMap;

use crate::fleet::{JobNumber, Ordinal};

/// A set of mailboxes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    jobs: BTreeMap<JobNumber, Marks>,
    len: usize,
}

/// Places within one job: never none of them.
#[derive(Clone, Debug, Default)]
struct Marks {
    /// As long as anything ever needed.
    words: Vec<u64>,
    len: usize,
}

/// Mailboxes that one word tells of.
const WORD: u16 = 64;

impl Places {
    /// How many it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this one is in it.
    pub fn contains(&self, job: JobNumber, ordinal: Ordinal) -> bool {
        self.jobs.get(&job).is_some_and(|marks| marks.has(ordinal))
    }

    /// Adds one.
    pub fn insert(&mut self, job: JobNumber, ordinal: Ordinal) {
        let new = self.jobs.entry(job).or_default().set(ordinal);
        self.len += usize::from(new);
    }

    /// Takes one out.
    pub fn remove(&mut self, job: JobNumber, ordinal: Ordinal) {
        self.remove_all(job, [ordinal]);
    }

    /// Takes these of one job out.
    pub fn remove_all(
        &mut self,
        job: JobNumber,
        ordinals: impl IntoIterator<Item = Ordinal>,
    ) {
        let Some(marks) = self.jobs.get_mut(&job) else { return };
        let gone = ordinals.into_iter().filter(|ordinal| marks.unset(*ordinal)).count();
        self.len -= gone;
        if marks.len == 0 {
            self.jobs.remove(&job);
        }
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (JobNumber, Ordinal)> + '_ {
        let jobs = self.jobs.iter();
        jobs.flat_map(|(job, marks)| marks.iter().map(|ordinal| (*job, ordinal)))
    }
}

impl Extend<(JobNumber, Ordinal)> for Places {
    fn extend<I: IntoIterator<Item = (JobNumber, Ordinal)>>(&mut self, places: I) {
        let mut places = places.into_iter().peekable();
        // Those of a job mostly come together: it is looked for once.
        while let Some((job, first)) = places.next() {
            let marks = self.jobs.entry(job).or_default();
            self.len += usize::from(marks.set(first));
            while let Some((_, ordinal)) = places.next_if(|(next, _)| *next == job) {
                self.len += usize::from(marks.set(ordinal));
            }
        }
    }
}

impl FromIterator<(JobNumber, Ordinal)> for Places {
    fn from_iter<I: IntoIterator<Item = (JobNumber, Ordinal)>>(places: I) -> Self {
        let mut all = Self::default();
        all.extend(places);
        all
    }
}

impl Marks {
    fn has(&self, ordinal: Ordinal) -> bool {
        let (place, bit) = word(ordinal);
        self.words.get(place).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, ordinal: Ordinal) -> bool {
        let (place, bit) = word(ordinal);
        if self.words.len() <= place {
            self.words.resize(place + 1, 0);
        }
        let Some(word) = self.words.get_mut(place) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        self.len += usize::from(new);
        new
    }

    fn unset(&mut self, ordinal: Ordinal) -> bool {
        let (place, bit) = word(ordinal);
        let Some(word) = self.words.get_mut(place) else { return false };
        let old = *word & bit != 0;
        *word &= !bit;
        self.len -= usize::from(old);
        old
    }

    fn iter(&self) -> impl Iterator<Item = Ordinal> + '_ {
        let words = (0_u16..).zip(&self.words).filter(|(_, word)| **word != 0);
        words.flat_map(|(place, word)| {
            let bits = (0..WORD).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| Ordinal::new(place * WORD + bit))
        })
    }
}

/// Two jobs with the same places are the same, however much memory they once needed.
impl PartialEq for Marks {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Marks {}

/// Which word tells of a place, and which bit of it.
fn word(ordinal: Ordinal) -> (usize, u64) {
    (ordinal.index() / usize::from(WORD), 1 << (ordinal.get() % WORD))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_as_a_set_of_pairs(
            steps in proptest::collection::vec((any::<bool>(), 0..3_u32, 0..200_u16), 0..300)
        ) {
            let (mut places, mut set) = (Places::default(), BTreeSet::new());

            for (adds, job, ordinal) in steps {
                let (job, ordinal) = (JobNumber::new(job), Ordinal::new(ordinal));
                if adds {
                    places.insert(job, ordinal);
                    set.insert((job, ordinal));
                } else {
                    places.remove(job, ordinal);
                    set.remove(&(job, ordinal));
                }
                prop_assert_eq!(places.contains(job, ordinal), adds);
            }

            prop_assert_eq!(places.len(), set.len());
            prop_assert!(places.iter().eq(set.iter().copied()));
            prop_assert_eq!(places, set.into_iter().collect());
        }
    }
}
