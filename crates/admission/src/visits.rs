//! Visits: of how many mailboxes that open somebody comes, how often, and how soon those come
//! again that were told to wait.
//!
//! A login into an open mailbox is a visit once its password was right: whoever guesses
//! passwords does not come. While a mailbox is held nobody's password is looked at, and every
//! attempt counts. Deliveries, administration and the mail server's own questions are none.
//!
//! # Invariants
//!
//! * All mailboxes are judged at the same age, two polling periods after they opened: who has
//!   come would else be counted before who has not.
//! * Memory is bounded: what does not fit is not watched, and then logins are called
//!   incomplete.
//! * Only sums leave; nobody learns from here who came. Addresses are not kept, only numbers made
//!   of them with a key of this run.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::doors::lower_case;

/// Milliseconds since the program started.
type Millis = u64;

/// An address: that two of all that are watched share one is less likely than one in billions.
type Number = u64;

/// Questions of one mailbox within so short a time are one visit: a program opens several
/// connections at once.
const VISIT: Millis = 5_000;

/// Until somebody says how often programs look: as the pace assumes.
const PERIOD: Duration = Duration::from_mins(5);

/// Maps that are locked apart, so that nobody who asks waits for a count of all.
const SHARDS: usize = 16;

/// Open mailboxes that are watched at once in one shard: in all, those that a node opens in two
/// polling periods at a hundred a second, in some megabytes.
const WATCHED_MAX: usize = 4_096;

/// Held mailboxes that are watched in one shard: two thousand in all tell how soon programs
/// come again.
const HELD_MAX: usize = 128;

/// With more than so many judged in one shard older ones count half: users who come at night
/// are others than those of the day.
const JUDGED_MAX: u32 = 1_250;

/// Periods that are remembered of mailboxes that have opened since, in one shard.
const PERIODS_MAX: usize = 64;

/// Watches who comes.
#[derive(Debug)]
pub struct Visits {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    began: Instant,
    period_millis: AtomicU64,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of mailboxes that came to the level asked for, all so far.
    pub crowd: Crowd,
    /// Held mailboxes of which somebody came, watched for two periods at least.
    pub waiting: u32,
    /// Of nine in ten of these somebody came again within this.
    pub came_again_within: Duration,
    /// First logins into mailboxes since they opened, new since the last count.
    pub first: u32,
    /// All other logins that were admitted, new since the last count.
    pub again: u32,
    /// Whether every mailbox that opened was watched, so that first logins are known as such.
    pub is_complete: bool,
}

/// Sums over mailboxes whose time to come is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crowd {
    /// All of them.
    pub opened: u32,
    /// Those of which somebody came.
    pub users: u32,
    /// Their logins within one period of the first.
    pub connections: u32,
    /// The sum of the squares of these.
    pub connections_squared: u64,
}

#[derive(Debug, Default)]
struct Shard {
    people: HashMap<Number, Person>,
    held: usize,
    crowds: BTreeMap<u8, Crowd>,
    periods: VecDeque<Millis>,
    first: u32,
    again: u32,
    is_incomplete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Person {
    since: Millis,
    /// When somebody came, if that is counted: while held the newest visit, while open the first
    /// login.
    came: Millis,
    /// Visits while held, connections while open; none if nobody came.
    count: u32,
    /// 0 is held.
    level: u8,
}

impl Default for Visits {
    fn default() -> Self {
        let period = u64::try_from(PERIOD.as_millis()).unwrap_or(u64::MAX);
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            began: Instant::now(),
            period_millis: AtomicU64::new(period),
        }
    }
}

impl Visits {
    /// Says how long the slowest program that counts waits before it looks again.
    pub fn set_period(&self, period: Duration) {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
        self.period_millis.store(millis, Ordering::Relaxed);
    }

    /// Watches a sample of mailboxes that are held: how soon their programs come again.
    pub fn held(&self, addresses: impl IntoIterator<Item = impl AsRef<str>>) {
        self.held_at(addresses, self.now());
    }

    /// Watches mailboxes that have opened to `level` just now.
    pub fn opened(
        &self,
        addresses: impl IntoIterator<Item = impl AsRef<str>>,
        level: u8,
    ) {
        self.opened_at(addresses, level, self.now());
    }

    /// Watches mailboxes no more.
    pub fn closed(&self, addresses: impl IntoIterator<Item = impl AsRef<str>>) {
        for address in addresses {
            self.with(address.as_ref(), Shard::forget);
        }
    }

    /// Somebody asks to log in to a mailbox, and was `admitted` or told to wait.
    pub(crate) fn asked(&self, address: &str, admitted: bool) {
        self.asked_at(address, admitted, self.now());
    }

    /// What was counted of mailboxes that came to `level`. Logins are told once.
    pub fn count(&self, level: u8) -> Counted {
        self.count_at(level, self.now())
    }

    fn held_at(&self, addresses: impl IntoIterator<Item = impl AsRef<str>>, now: Millis) {
        // Most of a large node's come when there are enough.
        if self.shards.iter().all(|shard| lock(shard).held >= HELD_MAX) {
            return;
        }
        for address in addresses {
            self.with(address.as_ref(), |shard, number| {
                if shard.held < HELD_MAX && !shard.people.contains_key(&number) {
                    shard.held += 1;
                    shard.people.insert(number, Person::new(0, now));
                }
            });
        }
    }

    fn opened_at(
        &self,
        addresses: impl IntoIterator<Item = impl AsRef<str>>,
        level: u8,
        now: Millis,
    ) {
        let period = self.period();
        let numbers = addresses.into_iter().map(|it| self.number(it.as_ref()));
        let mut numbers: Vec<Number> = numbers.collect();
        numbers.sort_unstable_by_key(|number| Self::index(*number));
        for some in numbers.chunk_by(|a, b| Self::index(*a) == Self::index(*b)) {
            let index = some.first().map_or(0, |number| Self::index(*number));
            let Some(shard) = self.shards.get(index) else { continue };
            lock(shard).opened(some, level, (period, now));
        }
    }

    fn asked_at(&self, address: &str, admitted: bool, now: Millis) {
        let period = self.period();
        self.with(address, |shard, number| {
            let person = shard.people.get_mut(&number);
            let first = match person {
                Some(person) if person.level == 0 && !admitted => {
                    person.waits(now);
                    return;
                }
                Some(person) if person.level > 0 && admitted => person.comes(period, now),
                Some(_) | None => false,
            };
            if admitted {
                let count = if first { &mut shard.first } else { &mut shard.again };
                *count = count.saturating_add(1);
            }
        });
    }

    fn count_at(&self, level: u8, now: Millis) -> Counted {
        let period = self.period();
        let mut counted = Counted { is_complete: true, ..Counted::default() };
        let mut periods = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.judge(period, now);
            if let Some(crowd) = shard.crowds.get(&level) {
                counted.crowd = counted.crowd.plus(*crowd);
            }
            periods.extend(&shard.periods);
            let held = shard.people.values().filter(|it| it.level == 0);
            periods.extend(held.filter_map(|it| it.period(period, now)));
            counted.first =
                counted.first.saturating_add(std::mem::take(&mut shard.first));
            counted.again =
                counted.again.saturating_add(std::mem::take(&mut shard.again));
            counted.is_complete &= !std::mem::take(&mut shard.is_incomplete);
        }
        periods.sort_unstable();
        counted.waiting = u32::try_from(periods.len()).unwrap_or(u32::MAX);
        let within = periods.get(periods.len() * 9 / 10).copied().unwrap_or(0);
        counted.came_again_within = Duration::from_millis(within);
        counted
    }

    fn with<T>(
        &self,
        address: &str,
        change: impl FnOnce(&mut Shard, Number) -> T,
    ) -> Option<T> {
        let number = self.number(address);
        let shard = self.shards.get(Self::index(number))?;
        Some(change(&mut lock(shard), number))
    }

    fn number(&self, address: &str) -> Number {
        self.hasher.hash_one(lower_case(address))
    }

    /// Which shard watches it.
    fn index(number: Number) -> usize {
        usize::try_from(number % SHARDS as u64).unwrap_or_default()
    }

    fn period(&self) -> Millis {
        self.period_millis.load(Ordering::Relaxed)
    }

    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Shard {
    fn forget(&mut self, number: Number) -> Option<Person> {
        let person = self.people.remove(&number)?;
        self.held -= usize::from(person.level == 0);
        Some(person)
    }

    /// Watches mailboxes of this shard that have opened.
    fn opened(&mut self, numbers: &[Number], level: u8, (period, now): (Millis, Millis)) {
        // Nearly all are new here while many open. Looking for all of them first waits for
        // memory once, not for each.
        if self.is_full() && !numbers.iter().any(|it| self.people.contains_key(it)) {
            self.is_incomplete |= !numbers.is_empty();
            return;
        }
        for number in numbers {
            let before = self.forget(*number);
            self.keep_period(before.and_then(|it| it.period(period, now)));
            if self.is_full() {
                self.is_incomplete = true;
            } else {
                self.people.insert(*number, Person::new(level, now));
            }
        }
    }

    /// Whether no more open mailboxes are watched.
    fn is_full(&self) -> bool {
        self.people.len() - self.held >= WATCHED_MAX
    }

    fn keep_period(&mut self, period: Option<Millis>) {
        self.periods.extend(period);
        let many = self.periods.len().saturating_sub(PERIODS_MAX);
        self.periods.drain(..many);
    }

    /// Counts those whose time to come is over, and watches them no more.
    fn judge(&mut self, period: Millis, now: Millis) {
        let crowds = &mut self.crowds;
        self.people.retain(|_, person| {
            let age = now.saturating_sub(person.since);
            if person.level == 0 || age < period.saturating_mul(2) {
                return true;
            }
            let crowd = crowds.entry(person.level).or_default();
            *crowd = crowd.plus(Crowd {
                opened: 1,
                users: u32::from(person.count > 0),
                connections: person.count,
                connections_squared: u64::from(person.count).saturating_pow(2),
            });
            if crowd.opened >= JUDGED_MAX {
                *crowd = crowd.half();
            }
            false
        });
    }
}

impl Person {
    fn new(level: u8, now: Millis) -> Self {
        Self { since: now, came: 0, count: 0, level }
    }

    /// Somebody is told to wait.
    fn waits(&mut self, now: Millis) {
        if self.count == 0 || now > self.came.saturating_add(VISIT) {
            self.came = now;
            self.count = self.count.saturating_add(1);
        }
    }

    /// Somebody is admitted; whether he is the first.
    fn comes(&mut self, period: Millis, now: Millis) -> bool {
        let is_first = self.count == 0;
        if is_first {
            self.came = now;
        }
        if now.saturating_sub(self.came) <= period {
            self.count = self.count.saturating_add(1);
        }
        is_first
    }

    /// How long somebody waited from visit to visit while held, if he was watched long enough.
    fn period(&self, period: Millis, now: Millis) -> Option<Millis> {
        let watched = now.saturating_sub(self.since);
        let long = self.level == 0 && watched >= period.saturating_mul(2);
        (long && self.count > 0).then(|| watched / u64::from(self.count))
    }
}

impl Crowd {
    fn plus(self, other: Self) -> Self {
        Self {
            opened: self.opened.saturating_add(other.opened),
            users: self.users.saturating_add(other.users),
            connections: self.connections.saturating_add(other.connections),
            connections_squared: self
                .connections_squared
                .saturating_add(other.connections_squared),
        }
    }

    fn half(self) -> Self {
        Self {
            opened: self.opened / 2,
            users: self.users / 2,
            connections: self.connections / 2,
            connections_squared: self.connections_squared / 2,
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Whoever panicked left single numbers, each of them whole.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Millis = 60_000;

    #[test]
    fn mailboxes_are_judged_two_periods_after_they_opened_whoever_came() {
        let visits = visits();
        visits.opened_at(["ann@example.org", "BOB@example.org", "eve@example.org"], 2, 0);
        visits.opened_at(["late@example.org"], 2, MINUTE);
        for at in [30_000, 30_100, 31_000, 80_000, 95_000] {
            visits.asked_at("Ann@example.org", true, at);
        }
        visits.asked_at("bob@example.org", true, 70_000);

        let early = visits.count_at(2, 2 * MINUTE - 1);
        let counted = visits.count_at(2, 2 * MINUTE);

        assert_eq!(early.crowd, Crowd::default());
        assert_eq!((early.first, early.again, early.is_complete), (2, 4, true));
        // Of Ann's logins the last came later than one period after her first.
        let connections_squared = 16 + 1;
        let expected = Crowd { opened: 3, users: 2, connections: 5, connections_squared };
        assert_eq!(counted.crowd, expected);
        assert_eq!((counted.first, counted.again), (0, 0), "told once");
        assert_eq!(visits.count_at(1, 2 * MINUTE).crowd, Crowd::default());
        assert_eq!(visits.count_at(2, 3 * MINUTE).crowd.opened, 4);
    }

    #[test]
    fn what_rises_counts_on_the_level_it_came_to_and_what_closes_on_none() {
        let visits = visits();
        visits.opened_at(["ann@example.org", "bob@example.org"], 1, 0);
        visits.opened_at(["ann@example.org"], 2, MINUTE);
        visits.closed(["BOB@example.org"]);

        let opened = |level| visits.count_at(level, 5 * MINUTE).crowd.opened;

        assert_eq!([opened(1), opened(2)], [0, 1]);
    }

    #[test]
    fn those_who_wait_show_how_soon_they_come_again() {
        let visits = visits();
        visits.held_at(["ann@example.org", "bob@example.org", "eve@example.org"], 0);
        for at in [0, 20_000, 40_000, 60_000, 80_000, 100_000] {
            // Two connections at once are one visit.
            visits.asked_at("ann@example.org", false, at);
            visits.asked_at("ann@example.org", false, at + 200);
        }
        visits.asked_at("bob@example.org", false, 50_000);

        let early = visits.count_at(1, MINUTE);
        let counted = visits.count_at(1, 2 * MINUTE);

        assert_eq!(early.waiting, 0);
        assert_eq!(counted.waiting, 2, "of one nobody came");
        assert_eq!(counted.came_again_within, Duration::from_mins(2));
        visits.opened_at(["bob@example.org", "eve@example.org"], 1, 2 * MINUTE);
        assert_eq!(visits.count_at(1, 3 * MINUTE).waiting, 2, "remembered");
    }

    #[test]
    fn more_than_can_be_watched_are_called_incomplete_once() {
        let visits = visits();
        let all: Vec<String> = (0..SHARDS * WATCHED_MAX + SHARDS * 400)
            .map(|n| format!("user{n}@example.org"))
            .collect();

        visits.opened_at(all.iter().map(String::as_str), 1, 0);

        assert!(!visits.count_at(1, 0).is_complete);
        assert!(visits.count_at(1, 0).is_complete);
        let watched: usize =
            visits.shards.iter().map(|shard| lock(shard).people.len()).sum();
        assert!(watched <= SHARDS * WATCHED_MAX);
    }

    #[test]
    fn newer_mailboxes_count_more_than_old_ones() {
        let visits = visits();
        let names = |from: usize| {
            (from..from + 40_000).map(|n| format!("u{n}@example.org")).collect::<Vec<_>>()
        };
        let (old, new) = (names(0), names(100_000));
        visits.opened_at(old.iter().map(String::as_str), 1, 0);
        visits.count_at(1, 2 * MINUTE);
        visits.opened_at(new.iter().map(String::as_str), 1, 3 * MINUTE);
        for user in &new {
            visits.asked_at(user, true, 3 * MINUTE);
        }

        let Crowd { opened, users, .. } = visits.count_at(1, 6 * MINUTE).crowd;

        assert!(opened <= u32::try_from(SHARDS).unwrap() * JUDGED_MAX, "{opened}");
        assert!(users * 10 > opened * 9, "{users} of {opened}");
    }

    fn visits() -> Visits {
        let visits = Visits::default();
        visits.set_period(Duration::from_mins(1));
        visits
    }
}
