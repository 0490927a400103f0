//! What a worker can count of the herd: who asks, how often, and who is let in.

use tidegate_core::pace::{Crowd, Lesson, Logins, Retries};
use tidegate_core::time::Span;

/// Questions within so short a time are one visit. Microseconds.
const VISIT: u64 = 5_000_000;

/// Reads of each kind in one lesson.
const READS_MAX: usize = 20;

/// Counts as the admission of a worker does.
pub(crate) struct Counted {
    people: Vec<Person>,
    /// The polling period in which connections count.
    period: u64,
    crowd: Crowd,
    periods: Vec<u64>,
    first: u32,
    again: u32,
    first_reads: Vec<u32>,
    later_reads: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Person {
    opened_at: Option<u64>,
    is_judged: bool,
    visits: u64,
    visited_at: u64,
    first_at: Option<u64>,
    connections: u32,
}

impl Counted {
    /// Nobody has asked for any of so many mailboxes.
    pub(crate) fn new(mailboxes: usize, period: u64) -> Self {
        Self {
            people: vec![Person::default(); mailboxes],
            period,
            crowd: Crowd::default(),
            periods: Vec::new(),
            first: 0,
            again: 0,
            first_reads: Vec::new(),
            later_reads: Vec::new(),
        }
    }

    /// Somebody asks for a mailbox.
    pub(crate) fn asked(&mut self, mailbox: usize, now: u64) {
        let person = &mut self.people[mailbox];
        if person.opened_at.is_none() {
            if person.visits == 0 || now > person.visited_at + VISIT {
                person.visits += 1;
                person.visited_at = now;
            }
            return;
        }
        let first = *person.first_at.get_or_insert(now);
        if now <= first + self.period {
            person.connections += 1;
        }
    }

    /// A mailbox has opened.
    pub(crate) fn opened(&mut self, mailbox: usize, now: u64) {
        let person = &mut self.people[mailbox];
        person.opened_at = Some(now);
        if person.visits > 0 && now >= 2 * self.period {
            self.periods.push(now / person.visits);
        }
    }

    /// A login was served, in so many microseconds.
    pub(crate) fn served(&mut self, first: bool, took: u64) {
        let took = u32::try_from(took).unwrap_or(u32::MAX);
        let (count, reads) = if first {
            (&mut self.first, &mut self.first_reads)
        } else {
            (&mut self.again, &mut self.later_reads)
        };
        *count += 1;
        if reads.len() < READS_MAX {
            reads.push(took);
        }
    }

    /// What is told after such a time.
    pub(crate) fn lesson(&mut self, now: u64, over: u64) -> Lesson {
        let (crowd, period) = (&mut self.crowd, self.period);
        for person in self.people.iter_mut().filter(|it| !it.is_judged) {
            let Some(opened_at) = person.opened_at else { continue };
            // All at the same age: who has come would else be counted before who has not.
            if now < opened_at + 2 * period {
                continue;
            }
            person.is_judged = true;
            crowd.opened += 1;
            crowd.users += u32::from(person.first_at.is_some());
            crowd.connections += person.connections;
            crowd.connections_squared += u64::from(person.connections).pow(2);
        }
        self.periods.sort_unstable();
        let within = self.periods.get(self.periods.len() * 9 / 10).copied();
        Lesson {
            crowd: *crowd,
            retries: Retries {
                mailboxes: u32::try_from(self.periods.len()).unwrap_or(u32::MAX),
                within: Span::from_millis(within.unwrap_or(0) / 1_000),
            },
            logins: Some(Logins {
                over: Span::from_millis(over / 1_000),
                first: std::mem::take(&mut self.first),
                again: std::mem::take(&mut self.again),
            }),
            first_reads_micros: std::mem::take(&mut self.first_reads),
            later_reads_micros: std::mem::take(&mut self.later_reads),
        }
    }
}
