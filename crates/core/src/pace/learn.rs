//! Learning: what a node has shown of its users and of itself, in place of what was assumed.
//!
//! ```text
//! a, k   of opened mailboxes: how many had somebody come, and how often in one polling period
//! a w    its upper 95 % bound, from how much the mailboxes differ: (x - 1) + k if one came
//! x      the slower quarter of first reads against the faster quarter of later ones
//! R      how soon programs that were told to wait come again
//! C      what was served quickly proves it from below, what was served late from above
//! ```
//!
//! # Invariants
//!
//! * Few samples change nothing: what was assumed stays.
//! * A share of users is never believed below its upper bound.
//! * What is believed of the capacity falls when logins are late, and rises again only by
//!   what the node has served quickly, or little by little.

use std::collections::VecDeque;

use super::policy::{PacePolicy, Population};
use crate::share::Ppm;
use crate::time::Span;

/// What was counted on a node: of the crowd and of the retries all so far, of the rest what
/// is new since the last lesson.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    /// Mailboxes that opened as those do that open now, and had time to show who comes.
    pub crowd: Crowd,
    /// How soon programs come again that were told to wait.
    pub retries: Retries,
    /// Who logged in, if all of them were counted.
    pub logins: Option<Logins>,
    /// How long first reads of mailboxes took after they were let in, microseconds.
    pub first_reads_micros: Vec<u32>,
    /// How long later reads of the same mailboxes took, microseconds.
    pub later_reads_micros: Vec<u32>,
}

/// Sums over mailboxes whose programs have had time to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// All of them.
    pub opened: u32,
    /// Those of which a program came.
    pub users: u32,
    /// The connections these made in their first polling period.
    pub connections: u32,
    /// The sum of the squares of these, as users differ.
    pub connections_squared: u64,
}

/// How soon programs come again that were told to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// Mailboxes of which this was seen.
    pub mailboxes: u32,
    /// Nine in ten come again within this.
    pub within: Span,
}

/// Logins of a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logins {
    /// How long that was.
    pub over: Span,
    /// The first ones into mailboxes that were opened.
    pub first: u32,
    /// All others.
    pub again: u32,
}

/// What a pace is made from, as far as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceBasis {
    /// What the users are like; a measured share of active ones is its upper bound.
    pub population: Population,
    /// The mailboxes of which that was counted; 0 while it is assumed.
    pub counted: u32,
    /// Whether the cold cost was measured.
    pub is_cold_cost_measured: bool,
    /// How soon a program that was told to wait looks again.
    pub retry: Span,
    /// Whether that was measured.
    pub is_retry_measured: bool,
    /// Warm logins that the node serves in a second, if anything is known of it.
    pub capacity: Option<u32>,
    /// Whether that was measured.
    pub is_capacity_measured: bool,
    /// Warm logins that a million opened mailboxes are worth; the upper bound if counted.
    pub work_of_a_million: u64,
}

/// Fewer mailboxes say nothing about the others: with a hundred the bound of a share is at
/// most eight hundredths too high.
pub(super) const CROWD_MIN: u32 = 100;

/// Of fewer users the connections of each are assumed: one of them with many programs would
/// be taken for all.
const USERS_MIN: u32 = 10;

/// Of fewer mailboxes it is assumed how soon programs come again.
const RETRIES_MIN: u32 = 30;

/// Nobody looks sooner again, and nobody who is waited for later than this.
const RETRY_MIN: Span = Span::from_secs(10);
const RETRY_MAX: Span = Span::from_secs(30 * 60);

/// Of fewer reads of each kind it is assumed what the first one costs: a quarter of thirty
/// does not hang on one of them.
const READS_MIN: usize = 30;

/// Older reads are forgotten: a node is busier, or quicker, than it was.
const READS_KEPT: usize = 120;

/// Shorter times say more about chance than about a node.
const LOGINS_OVER_MIN: Span = Span::from_secs(5);

/// What a capacity that was seen under strain is raised by, whenever all that it permits was
/// served quickly: a twentieth, as fast as the rate itself.
const RELIEF_PART: u64 = 20;

/// What a node was seen to do raises what was stated of it to so many times that at most:
/// above, it is likelier that something was counted wrongly than that somebody was so modest.
const STATED_TIMES_MAX: u64 = 2;

/// The square of 1.645, in millionths: one in twenty lies above.
const Z_SQUARED: u128 = 2_706_000;

const MILLION: u128 = 1_000_000;

/// How a node fared while a lesson was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strain {
    /// Nobody can tell.
    Unknown,
    /// Logins took less than half of what programs wait.
    Calm,
    /// They took longer.
    Strained,
}

/// All that was learned.
#[derive(Clone, Debug)]
pub(super) struct Learnt {
    assumed: PacePolicy,
    crowd: Crowd,
    retries: Retries,
    first_reads: VecDeque<u32>,
    later_reads: VecDeque<u32>,
    /// The most that was served quickly, thousandths of a warm login in a second.
    proved: u64,
    /// What was served while logins were late, as far as it is still believed.
    strained: Option<u64>,
    strain: Strain,
}

impl Learnt {
    /// Nothing but what `assumed` says.
    pub(super) fn nothing(assumed: PacePolicy) -> Self {
        Self {
            assumed,
            crowd: Crowd::default(),
            retries: Retries::default(),
            first_reads: VecDeque::new(),
            later_reads: VecDeque::new(),
            proved: 0,
            strained: None,
            strain: Strain::Unknown,
        }
    }

    /// Learns from `lesson`, in which the node fared so.
    pub(super) fn take(&mut self, lesson: &Lesson, strain: Strain) {
        (self.crowd, self.retries) = (lesson.crowd, lesson.retries);
        // A queue adds as much to a warm read as to a cold one, and would hide what that costs.
        if strain == Strain::Calm {
            keep(&mut self.first_reads, &lesson.first_reads_micros);
            keep(&mut self.later_reads, &lesson.later_reads_micros);
        }
        if let Some(logins) = lesson.logins.filter(|it| it.over >= LOGINS_OVER_MIN) {
            self.follow_capacity(logins, strain);
        }
        self.strain = strain;
    }

    /// Forgets who came: others come now.
    pub(super) fn forget_crowd(&mut self) {
        self.crowd = Crowd::default();
    }

    /// All that the capacity permits was served quickly: it may be more.
    pub(super) fn relieve(&mut self) {
        if let Some(strained) = &mut self.strained {
            *strained += strained.div_ceil(RELIEF_PART);
            let assumed = self.assumed.capacity.map(|it| u64::from(it) * 1_000);
            if assumed.is_some_and(|assumed| *strained >= assumed) {
                self.strained = None;
            }
        }
    }

    /// What follows for the pace.
    pub(super) fn basis(&self) -> PaceBasis {
        let cold_cost = self.cold_cost();
        let assumed = self.assumed.population;
        let x = cold_cost.unwrap_or(assumed.cold_cost);
        let counted = if self.crowd.is_enough() { self.crowd.opened } else { 0 };
        let population = if counted > 0 {
            self.crowd.population(x, assumed.connections)
        } else {
            Population { cold_cost: x, ..assumed }
        };
        let work = population.work_of_a_million();
        let work_of_a_million =
            if counted > 0 { self.crowd.work_of_a_million(x).max(work) } else { work };
        let retry = self.retry();
        let capacity = self.capacity();
        PaceBasis {
            population,
            counted,
            is_cold_cost_measured: cold_cost.is_some(),
            retry: retry.unwrap_or(self.assumed.retry),
            is_retry_measured: retry.is_some(),
            capacity: capacity.or(self.assumed.capacity),
            is_capacity_measured: capacity.is_some(),
            work_of_a_million,
        }
    }

    fn retry(&self) -> Option<Span> {
        let Retries { mailboxes, within } = self.retries;
        (mailboxes >= RETRIES_MIN).then(|| within.clamp(RETRY_MIN, RETRY_MAX))
    }

    /// What a first read costs, in later ones: its slower quarter against their faster one.
    fn cold_cost(&self) -> Option<u16> {
        let slow = quartile(&self.first_reads, 3)?;
        let quick = quartile(&self.later_reads, 1)?.max(1);
        let times = slow.saturating_add(quick / 2) / quick;
        Some(u16::try_from(times).unwrap_or(u16::MAX).max(1))
    }

    /// The capacity, where it is another than assumed.
    fn capacity(&self) -> Option<u32> {
        let assumed = self.assumed.capacity.map(|it| u64::from(it) * 1_000);
        let least = match (assumed, self.strained) {
            (Some(assumed), Some(strained)) => assumed.min(strained),
            (Some(known), None) | (None, Some(known)) => known,
            // What was served is not all that could be.
            (None, None) => return None,
        };
        let believed = assumed.map_or(u64::MAX, |stated| stated * STATED_TIMES_MAX);
        let millis = least.max(self.proved.min(believed));
        if Some(millis) == assumed {
            return None;
        }
        Some(u32::try_from(millis / 1_000).unwrap_or(u32::MAX).max(1))
    }

    fn follow_capacity(&mut self, logins: Logins, strain: Strain) {
        let measured = self.cold_cost();
        let rate = |cold_cost: u16| {
            let work =
                u64::from(logins.first) * u64::from(cold_cost) + u64::from(logins.again);
            work * 1_000_000 / logins.over.millis().max(1)
        };
        match strain {
            Strain::Unknown => {}
            // Without a measure of it a first login proves no more than any other.
            Strain::Calm => self.proved = self.proved.max(rate(measured.unwrap_or(1))),
            Strain::Strained => {
                let x = measured.unwrap_or(self.assumed.population.cold_cost);
                let served = rate(x);
                let before = self.strained.filter(|_| self.strain == Strain::Strained);
                self.strained = Some(served.max(before.unwrap_or(0)).max(1_000));
                if served < self.proved {
                    // It was quicker once.
                    self.proved = u64::midpoint(self.proved, served);
                }
            }
        }
    }
}

impl Crowd {
    /// Whether there are enough mailboxes to say anything of the others.
    pub fn is_enough(&self) -> bool {
        self.opened >= CROWD_MIN && self.users <= self.opened
    }

    /// What the users are like: the share of active ones is its upper 95 % bound.
    ///
    /// Count after the slowest programs have polled: who has not come yet is no proof.
    fn population(&self, cold_cost: u16, connections_assumed: u16) -> Population {
        let each = self.connections.div_ceil(self.users.max(1)).max(1);
        let each = u16::try_from(each).unwrap_or(u16::MAX);
        let few = self.users < USERS_MIN;
        Population {
            active: self.active(),
            connections: if few { each.max(connections_assumed) } else { each },
            cold_cost,
        }
    }

    /// Wilson's upper bound of the share of active mailboxes.
    fn active(&self) -> Ppm {
        let (n, k) = (u128::from(self.opened), u128::from(self.users));
        let spread =
            (Z_SQUARED * (4 * k * (n - k) * MILLION / n.max(1) + Z_SQUARED)).isqrt();
        let upper = (2 * k * MILLION + Z_SQUARED + spread) * MILLION
            / (2 * (n * MILLION + Z_SQUARED));
        let active = u32::try_from(upper).unwrap_or(u32::MAX);
        Ppm::new(active.clamp(1, Ppm::WHOLE.parts()))
    }

    /// The upper 95 % bound of the warm logins that a million mailboxes are worth.
    fn work_of_a_million(&self, cold_cost: u16) -> u64 {
        let n = u128::from(self.opened.max(2));
        let extra = u128::from(cold_cost.max(1)) - 1;
        let (users, connections) = (u128::from(self.users), u128::from(self.connections));
        let sum = extra * users + connections;
        let squares = extra * extra * users
            + 2 * extra * connections
            + u128::from(self.connections_squared);
        let apart = (squares * n).saturating_sub(sum * sum);
        let variance = Z_SQUARED * MILLION * apart / (n * n * (n - 1));
        let bound = sum * MILLION / n + variance.isqrt();
        u64::try_from(bound).unwrap_or(u64::MAX)
    }
}

fn keep(reads: &mut VecDeque<u32>, new: &[u32]) {
    reads.extend(new);
    let many = reads.len().saturating_sub(READS_KEPT);
    reads.drain(..many);
}

/// The value that so many quarters of `reads` do not exceed, if there are enough of them.
fn quartile(reads: &VecDeque<u32>, quarters: usize) -> Option<u32> {
    if reads.len() < READS_MIN {
        return None;
    }
    let mut sorted: Vec<u32> = reads.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() * quarters / 4).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSUMED: PacePolicy = PacePolicy { capacity: Some(60), ..PacePolicy::DEFAULT };

    #[test]
    fn few_samples_leave_what_was_assumed() {
        let mut learnt = Learnt::nothing(ASSUMED);
        let before = learnt.basis();

        learnt.take(
            &Lesson {
                crowd: crowd(99, 10, 3),
                retries: Retries { mailboxes: 29, within: Span::from_secs(60) },
                first_reads_micros: vec![8_000; 29],
                later_reads_micros: vec![2_000; 29],
                ..Lesson::default()
            },
            Strain::Calm,
        );

        assert_eq!(learnt.basis(), before);
        assert_eq!(before.population, Population::UNKNOWN);
        assert_eq!((before.counted, before.capacity), (0, Some(60)));
    }

    #[test]
    fn a_counted_crowd_keeps_a_margin_that_shrinks_with_samples() {
        let basis = |opened, users| {
            let mut learnt = Learnt::nothing(ASSUMED);
            let crowd = crowd(opened, users, 3);
            learnt.take(&Lesson { crowd, ..Lesson::default() }, Strain::Unknown);
            learnt.basis()
        };

        let [few, many] = [basis(100, 35), basis(10_000, 3_500)];

        assert!((420_000..440_000).contains(&few.population.active.parts()), "{few:?}");
        assert!((350_000..360_000).contains(&many.population.active.parts()), "{many:?}");
        assert_eq!((many.population.connections, many.counted), (3, 10_000));
        // (10 - 1) + 3 warm logins for each of 35 in a hundred.
        assert!((4_200_000..4_300_000).contains(&many.work_of_a_million), "{many:?}");
    }

    #[test]
    fn users_who_differ_widen_the_bound_of_the_work() {
        let alike = Crowd { connections_squared: 3_500 * 9, ..crowd(10_000, 3_500, 3) };
        // The same sum, by one in a hundred with three hundred connections.
        let unlike = Crowd { connections_squared: 35 * 90_000, ..alike };

        let [alike, unlike] = [alike, unlike].map(|it| it.work_of_a_million(1));

        assert!(alike < 1_080_000, "{alike}");
        assert!(unlike > 1_300_000, "{unlike}");
    }

    #[test]
    fn nobody_who_came_is_no_proof_that_nobody_will() {
        let mut learnt = Learnt::nothing(ASSUMED);
        learnt
            .take(&Lesson { crowd: crowd(100, 0, 0), ..Lesson::default() }, Strain::Calm);

        let PaceBasis { population, work_of_a_million, .. } = learnt.basis();

        assert!((20_000..40_000).contains(&population.active.parts()), "{population:?}");
        assert_eq!(population.connections, 4);
        assert!(work_of_a_million > 300_000, "{work_of_a_million}");
    }

    #[test]
    fn a_first_read_costs_as_many_later_ones_as_it_takes_longer() {
        let mut learnt = Learnt::nothing(ASSUMED);
        let lesson = Lesson {
            first_reads_micros: (0..40).map(|n| 8_000 + n * 100).collect(),
            later_reads_micros: (0..40).map(|n| 3_000 + n * 100).collect(),
            ..Lesson::default()
        };
        learnt.take(&lesson, Strain::Strained);
        assert!(!learnt.basis().is_cold_cost_measured, "a queue hides it");

        learnt.take(&lesson, Strain::Calm);

        let basis = learnt.basis();
        assert!(basis.is_cold_cost_measured);
        assert_eq!(basis.population.cold_cost, 3);
    }

    #[test]
    fn late_logins_show_the_capacity_and_quick_ones_raise_it_again() {
        let mut learnt = Learnt::nothing(ASSUMED);
        let logins = |again: u32| Lesson {
            logins: Some(Logins { over: Span::from_secs(10), first: 0, again }),
            ..Lesson::default()
        };
        let shown = |learnt: &Learnt| {
            let basis = learnt.basis();
            (basis.capacity, basis.is_capacity_measured)
        };

        learnt.take(&logins(200), Strain::Calm);
        assert_eq!(shown(&learnt), (Some(60), false));
        learnt.take(&logins(400), Strain::Strained);
        learnt.take(&logins(300), Strain::Strained);
        assert_eq!(shown(&learnt), (Some(40), true), "the best of one strain");
        learnt.relieve();
        assert_eq!(shown(&learnt), (Some(42), true));
        learnt.take(&logins(500), Strain::Calm);
        assert_eq!(shown(&learnt), (Some(50), true));
        (0..10).for_each(|_| learnt.relieve());
        assert_eq!(shown(&learnt), (Some(60), false));
        learnt.take(&logins(700), Strain::Calm);
        assert_eq!(shown(&learnt), (Some(70), true), "it can do more than was assumed");
        learnt.take(&logins(9_000), Strain::Calm);
        assert_eq!(shown(&learnt), (Some(120), true), "twice of it is believed at most");
    }

    #[test]
    fn a_capacity_that_nobody_knows_is_known_once_logins_were_late() {
        let mut learnt = Learnt::nothing(PacePolicy::DEFAULT);
        let logins = Some(Logins { over: Span::from_secs(10), first: 10, again: 100 });
        let lesson = Lesson { logins, ..Lesson::default() };

        learnt.take(&lesson, Strain::Calm);
        assert_eq!(learnt.basis().capacity, None);

        learnt.take(&lesson, Strain::Strained);
        assert_eq!(learnt.basis().capacity, Some(20));
    }

    #[test]
    fn programs_come_again_as_soon_as_they_were_seen_to() {
        let mut learnt = Learnt::nothing(ASSUMED);
        let retries = |secs| Retries { mailboxes: 30, within: Span::from_secs(secs) };
        let mut learned = |secs| {
            let retries = retries(secs);
            learnt.take(&Lesson { retries, ..Lesson::default() }, Strain::Unknown);
            learnt.basis().retry.millis() / 1_000
        };

        assert_eq!([learned(90), learned(1), learned(9_000)], [90, 10, 1_800]);
    }

    fn crowd(opened: u32, users: u32, each: u32) -> Crowd {
        let connections = users * each;
        let connections_squared = u64::from(users * each * each);
        Crowd { opened, users, connections, connections_squared }
    }
}
