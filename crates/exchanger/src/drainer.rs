//! Drainer: the threads that list the queue and hand messages back, as the drain says.
//!
//! # Invariants
//!
//! * One listing at a time; a few messages are handed back at once.
//! * Nobody waits for the mail server while others want to know something of the drain.
//! * Killed at any moment, nothing is lost: the messages are the mail server's.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tidegate_core::fleet::MailboxNumber;
use tidegate_core::time::Timestamp;
use tidegate_mailserver::queue::Postqueue;
use tidegate_wire::exchanger::QueueReport;

use crate::drain::{Drain, Found, LISTING_TIME_MAX, Millis};
use crate::view::View;

/// Messages handed back at once: each call takes some ten milliseconds.
const HANDS: usize = 4;

/// A mail server that does not take a message within this is not well.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(10);

/// Between two looks at whether the pace allows the next message.
const PACE_LOOK: Duration = Duration::from_millis(10);

/// Without anything to do it is looked again this often.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// How the queue is reached and how fast it may be drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// The mail server's queue.
    pub queue: Postqueue,
    /// Messages a second to one node, whatever the coordinator permits.
    pub per_second_max: u32,
}

/// Drains the queue beside it. Stops when it is dropped.
pub(crate) struct Drainer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    config: DrainConfig,
    delimiters: String,
    base: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    drain: Option<Drain>,
    stopping: bool,
}

/// Tells a drainer what happens; all clones are one.
#[derive(Clone)]
pub(crate) struct Told(Arc<Shared>);

impl Drainer {
    /// Starts the threads; they wait for a view. `delimiters` divide addresses from their
    /// extensions.
    pub(crate) fn start(config: DrainConfig, delimiters: String) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            config,
            delimiters,
            base: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut drainer = Self { shared, threads: Vec::new() };
        drainer.spawn("lister", Shared::list)?;
        for _ in 0..HANDS {
            drainer.spawn("flusher", Shared::flush)?;
        }
        Ok(drainer)
    }

    fn spawn(&mut self, name: &str, work: fn(&Shared)) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || work(&shared)).context("start the drain")?;
        self.threads.push(thread);
        Ok(())
    }

    /// The way to tell it.
    pub(crate) fn told(&self) -> Told {
        Told(Arc::clone(&self.shared))
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so already.
            let _panicked = thread.join();
        }
    }
}

impl Told {
    /// There is a view, or another one.
    pub(crate) fn begin(&self, view: Arc<View>) {
        let drain = Drain::new(view, self.0.config.per_second_max, self.0.now());
        self.0.lock().drain = Some(drain);
        self.0.changed.notify_all();
    }

    /// Mailboxes of the view have opened.
    pub(crate) fn opened(&self, mailboxes: &[MailboxNumber]) {
        let now = self.0.now();
        if let Some(drain) = &mut self.0.lock().drain {
            drain.opened(mailboxes, now);
        }
        self.0.changed.notify_all();
    }

    /// What waits, once that is known.
    pub(crate) fn report(&self, exchanger: &str) -> Option<QueueReport> {
        self.0.lock().drain.as_ref()?.report(exchanger, self.0.now())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.base.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        at_most: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, at_most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lists whenever that is due.
    fn list(&self) {
        while let Some(view) = self.listing_due() {
            let complete = self.list_once(&view);
            let now = self.now();
            if let Some(drain) = self.lock().drain_of(&view) {
                drain.end_listing(complete, now, wall_clock());
            }
            self.changed.notify_all();
        }
    }

    /// Waits until a listing is due, and begins it; nothing at the end.
    fn listing_due(&self) -> Option<Arc<View>> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            let now = self.now();
            let mut pause = IDLE_LOOK;
            if let Some(drain) = &mut state.drain {
                let due = drain.listing_due().unwrap_or(now);
                if due <= now {
                    drain.begin_listing(now, wall_clock());
                    return Some(Arc::clone(drain.view()));
                }
                pause = pause.min(Duration::from_millis(due - now));
            }
            state = self.wait(state, pause);
        }
    }

    fn list_once(&self, view: &Arc<View>) -> bool {
        let listed = self.config.queue.list(LISTING_TIME_MAX, &mut |queued| {
            let found = Found::of(queued, view, &self.delimiters);
            let mut state = self.lock();
            if let Some(drain) = state.drain_of(view) {
                drain.list(&found);
            }
            !state.stopping
        });
        match listed {
            Ok(listing) if listing.unread > 0 => {
                let unread = listing.unread;
                tracing::warn!(unread, "lines of the queue's listing could not be read");
                true
            }
            Ok(_) => true,
            Err(_) if self.lock().stopping => false,
            Err(error) => {
                let error = crate::chain(&error);
                tracing::warn!(error, "the queue could not be listed; tried again soon");
                false
            }
        }
    }

    /// Hands messages back as the pace allows.
    fn flush(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let now = self.now();
            let next = state.drain.as_mut().and_then(|drain| {
                let flush = drain.next_flush(now)?;
                Some((flush, Arc::clone(drain.view())))
            });
            let Some((flush, view)) = next else {
                let planned = state.drain.as_ref().is_some_and(Drain::is_planned);
                state = self.wait(state, if planned { PACE_LOOK } else { IDLE_LOOK });
                continue;
            };
            drop(state);
            let taken = self.config.queue.flush(flush.id, FLUSH_TIME_MAX);
            if let Err(error) = &taken {
                let error = crate::chain(error);
                tracing::warn!(error, "a message could not be handed back; tried again");
            }
            let now = self.now();
            state = self.lock();
            if let Some(drain) = state.drain_of(&view) {
                drain.flushed(flush, taken.is_ok(), now);
            }
        }
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl State {
    /// The drain, if it still drains into `view`.
    fn drain_of(&mut self, view: &Arc<View>) -> Option<&mut Drain> {
        self.drain.as_mut().filter(|drain| Arc::ptr_eq(drain.view(), view))
    }
}
