//! Crew: how many threads work on a batch of mailboxes.
//!
//! # Invariants
//!
//! * While mail comes from the disk, each batch has as many threads as keep the disk's queue filled.
//! * While it comes from memory, all batches together have one thread a core: more of them only push
//!   each other's bytes out of the caches and wait for the same directories.
//! * Until something is known, it comes from the disk.

use std::num::NonZero;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

use crate::Mailbox;
use crate::judge::BUFFER_BYTES;
use crate::refusal::Refusal;
use crate::walk::escape;

/// Mailboxes of a batch worked on at once: enough to keep a disk's queue filled, few enough that
/// their buffers are a megabyte.
const READERS_MAX: usize = 8;

/// How many points of slowness make a disk: a file that had to be waited for is four, one that came
/// from memory takes one away.
const COLD_FROM: u32 = 8;
const COLD_MAX: u32 = 32;
const WAITED: u32 = 4;

/// Who works on the batches of one store.
#[derive(Debug)]
pub(crate) struct Crew {
    cores: usize,
    batches: AtomicUsize,
    slowness: AtomicU32,
}

impl Crew {
    /// A crew for this machine.
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let (batches, slowness) = (AtomicUsize::new(0), AtomicU32::new(COLD_MAX));
        Self { cores, batches, slowness }
    }

    /// Mail comes from the disk and not from memory.
    pub(crate) fn is_cold(&self) -> bool {
        self.slowness.load(Ordering::Relaxed) >= COLD_FROM
    }

    /// Takes in whether a file had to be waited for. What other threads saw at the same time may be
    /// forgotten; many files come.
    pub(crate) fn saw(&self, waited: bool) {
        let slowness = self.slowness.load(Ordering::Relaxed);
        let now = if waited {
            slowness.saturating_add(WAITED).min(COLD_MAX)
        } else {
            slowness.saturating_sub(1)
        };
        if now != slowness {
            self.slowness.store(now, Ordering::Relaxed);
        }
    }

    /// Nobody can tell where what comes next will come from.
    pub(crate) fn forget(&self) {
        self.slowness.store(COLD_MAX, Ordering::Relaxed);
    }

    fn wanted(&self) -> usize {
        if self.is_cold() {
            return READERS_MAX;
        }
        let batches = self.batches.load(Ordering::Relaxed).max(1);
        self.cores.div_ceil(batches).min(READERS_MAX)
    }

    /// Runs `work` on every mailbox, several at once, each with a reused buffer; results in order.
    pub(crate) fn work<T: Send>(
        &self,
        mailboxes: &[Mailbox],
        work: impl Fn(usize, &Mailbox, &mut [u8]) -> Result<T, Refusal> + Sync,
    ) -> Vec<Result<T, Refusal>> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        let batch = Batch {
            crew: self,
            mailboxes,
            work,
            next: AtomicUsize::new(0),
            working: AtomicUsize::new(1),
            results: mailboxes.iter().map(|_| Mutex::new(None)).collect(),
        };
        thread::scope(|scope| batch.toil(scope, true));
        self.batches.fetch_sub(1, Ordering::Relaxed);
        let taken = batch.results.into_iter().zip(mailboxes).map(|(slot, mailbox)| {
            let result = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
            result.unwrap_or_else(|| Err(Refusal::Busy { path: escape(&mailbox.path) }))
        });
        taken.collect()
    }
}

/// Mailboxes that are worked on together.
struct Batch<'a, T, W> {
    crew: &'a Crew,
    mailboxes: &'a [Mailbox],
    work: W,
    /// The first mailbox that nobody has taken.
    next: AtomicUsize,
    /// Threads that take some.
    working: AtomicUsize,
    results: Vec<Mutex<Option<Result<T, Refusal>>>>,
}

impl<T, W> Batch<'_, T, W>
where
    T: Send,
    W: Fn(usize, &Mailbox, &mut [u8]) -> Result<T, Refusal> + Sync,
{
    /// Works on one mailbox after the other until all are taken, or there are hands enough without
    /// this thread. `first`: it is the one that waits for all.
    fn toil<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, first: bool) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            self.call_others(scope);
            if !first && self.working.load(Ordering::Relaxed) > self.crew.wanted() {
                self.working.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let mailbox = self.mailboxes.get(index);
            let Some((mailbox, slot)) = mailbox.zip(self.results.get(index)) else {
                return;
            };
            let result = (self.work)(index, mailbox, &mut buffer);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    }

    /// Calls for as many threads as are wanted and have something to do.
    fn call_others<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let left = self.mailboxes.len().saturating_sub(self.next.load(Ordering::Relaxed));
        let wanted = self.crew.wanted();
        for _ in 1..left {
            let add = |working| (working < wanted).then_some(working + 1);
            let order = Ordering::Relaxed;
            if self.working.fetch_update(order, order, add).is_err() {
                return;
            }
            scope.spawn(|| self.toil(scope, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn mailboxes(count: u64) -> Vec<Mailbox> {
        let path = b"x".to_vec();
        let one = |key| Mailbox {
            key,
            address: String::new(),
            path: path.clone(),
            served: false,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn results_come_in_the_order_of_the_mailboxes() {
        let crew = Crew::new();
        let mailboxes = mailboxes(100);

        let results = crew.work(&mailboxes, |index, mailbox, _| Ok((index, mailbox.key)));

        let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
        assert_eq!(results, (0..100).map(|key| (key, key as u64)).collect::<Vec<_>>());
    }

    #[test]
    fn a_disk_is_given_many_requests_at_once() {
        let crew = Crew::new();
        // Nobody goes on before all are there.
        let all = Barrier::new(READERS_MAX);

        let results = crew.work(&mailboxes(READERS_MAX as u64), |_, _, _| {
            all.wait();
            Ok(())
        });

        assert!(results.iter().all(Result::is_ok));
    }

    #[test]
    fn memory_is_read_by_one_thread_a_core() {
        let crew = Crew { cores: 2, ..Crew::new() };
        assert_eq!(crew.wanted(), READERS_MAX);

        (0..COLD_MAX).for_each(|_| crew.saw(false));
        assert_eq!(crew.wanted(), 2);

        (0..2).for_each(|_| crew.saw(true));
        assert_eq!(crew.wanted(), READERS_MAX);
    }
}
