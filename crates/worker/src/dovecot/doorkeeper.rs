//! Doorkeeper: nobody stays in a mailbox whose doors are closed.
//!
//! ```text
//! doors closed ─▶ auth cache flushed ─▶ who ─▶ kick ─▶ who … ─▶ deliveries in flight are over ─▶ out
//! ```
//!
//! # Invariants
//!
//! * A mailbox is called out only by a look that was begun after its doors were closed, its
//!   user's entries had left the auth cache, and deliveries begun before had their time.
//! * As long as Dovecot does not answer, nobody is called out.
//! * Whoever is known and held and logged in all the same is disconnected, however that came
//!   about: what is right is looked at again and again, not remembered.
//! * However many mailboxes are closed, a round costs one look, and commands only for those
//!   who are logged in.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate_admission::{Doors, Standing};
use tidegate_mailserver::doveadm::{Doveadm, DoveadmError, Flush};

/// How often it is looked for held people who are logged in, when nothing is being closed.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// The first pause between two looks while mailboxes are being closed, and the longest: whoever
/// was disconnected has gone within milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);

/// The first pause when Dovecot does not answer, and the longest: an engineer who has started
/// it again should not wait.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// From so many names on the whole auth cache is flushed: Dovecot goes through all of its cache
/// for every thirty names, and answers nobody meanwhile.
const NAMES_MAX: usize = 1_000;

/// Whoever is still there after so many requests shares a process with others, and is
/// disconnected together with them.
const PATIENCE_ROUNDS: u32 = 3;

/// A login or delivery that was admitted just before the doors closed shows itself within this.
const SHOWS_WITHIN: Duration = Duration::from_secs(2);

/// Watches over the doors of one node. Ends with the value.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    doveadm: Arc<Doveadm>,
    doors: Doors,
    lmtp_grace: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closing: HashMap<Box<str>, Closing>,
    stale: Stale,
    stopping: bool,
}

/// A mailbox whose doors are closed.
#[derive(Clone, Copy, Debug, Default)]
struct Closing {
    /// Since when Dovecot asks again: its doors were closed before, and its user's entries
    /// have left the auth cache.
    since: Option<Instant>,
    /// How often it was asked to disconnect its user.
    asked: u32,
    /// Nobody is in any more.
    out: bool,
}

/// Whose entries in the auth cache are older than their doors.
#[derive(Debug, Default)]
enum Stale {
    #[default]
    Nobody,
    Names(BTreeSet<Box<str>>),
    Everybody,
}

impl Doorkeeper {
    /// Starts watching.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(crate) fn start(
        doveadm: Arc<Doveadm>,
        doors: Doors,
        lmtp_grace: Duration,
    ) -> anyhow::Result<Self> {
        let shared = Shared {
            doveadm,
            doors,
            lmtp_grace,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        let shared = Arc::new(shared);
        let watching = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("doorkeeper".to_owned())
            .spawn(move || watching.watch())
            .context("start the doorkeeper")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether nobody is in any more, for each of these mailboxes, whose doors are closed. Ask
    /// again until it is so; once it was said it is forgotten.
    pub(crate) fn close<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Vec<bool> {
        let mut state = self.shared.state();
        let mut is_new = false;
        let out = addresses.into_iter().map(|address| {
            let address = lower_case(address);
            match state.closing.get(&address) {
                Some(closing) if closing.out => {
                    state.closing.remove(&address);
                    true
                }
                Some(_) => false,
                None => {
                    is_new = true;
                    state.stale.add(address.clone());
                    state.closing.insert(address, Closing::default());
                    false
                }
            }
        });
        let out = out.collect();
        drop(state);
        if is_new {
            self.shared.changed.notify_all();
        }
        out
    }

    /// The doors of these mailboxes have opened further; Dovecot may still remember that they
    /// were closed.
    pub(crate) fn opened(&self, addresses: &[&str]) {
        let mut state = self.shared.state();
        for address in addresses {
            state.stale.add(lower_case(address));
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_all();
        // A request under way ends by its deadline; nobody needs its answer.
        drop(self.thread.take());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rounds without end.
    fn watch(&self) {
        let mut pause = LOOK_AGAIN;
        let mut silent = None;
        loop {
            let wait = match self.round() {
                Ok(()) => {
                    if silent.take().is_some() {
                        tracing::info!("doveadm answers again");
                        pause = LOOK_AGAIN;
                    }
                    pause = (pause * 2).min(LOOK_AGAIN_MAX);
                    if self.is_closing() { pause } else { SWEEP_EVERY }
                }
                Err(error) => {
                    let backoff = silent.map_or(BACKOFF, |last: Duration| last * 2);
                    let backoff = backoff.min(BACKOFF_MAX);
                    if silent.replace(backoff).is_none() {
                        tracing::warn!(
                            error = format!("{:#}", anyhow::Error::new(error)),
                            action = "see whether Dovecot runs and `doveadm` is right",
                            "who is logged in cannot be told; what is closed is not \
                             reported as held, and nothing opens"
                        );
                    }
                    backoff
                }
            };
            let woken = match self.wait(wait, silent.is_some()) {
                Woken::Stop => return,
                Woken::News => true,
                Woken::Late => false,
            };
            if woken {
                pause = LOOK_AGAIN;
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.state().closing.values().any(|closing| !closing.out)
    }

    /// Sleeps; shorter if there is news, but for a Dovecot that must be left alone.
    fn wait(&self, at_most: Duration, undisturbed: bool) -> Woken {
        let until = Instant::now() + at_most;
        let mut state = self.state();
        loop {
            if state.stopping {
                return Woken::Stop;
            }
            if !undisturbed && !state.stale.is_empty() {
                return Woken::News;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::Late;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Forgets, looks, disconnects, and calls out who has gone.
    fn round(&self) -> Result<(), DoveadmError> {
        self.flush()?;
        let looked_at = Instant::now();
        let sessions = self.doveadm.who()?;
        let present: BTreeSet<Box<str>> =
            sessions.iter().map(|session| lower_case(&session.user)).collect();
        self.disconnect(&present)?;
        let in_flight = self.deliveries_may_be_in_flight(looked_at)?;
        // However soon deliveries are over: who has logged in shows later.
        let grace = if in_flight { self.lmtp_grace } else { SHOWS_WITHIN };
        let needed = grace.max(SHOWS_WITHIN);
        for (address, closing) in &mut self.state().closing {
            let had_time = closing.age(looked_at).is_some_and(|age| age >= needed);
            closing.out |= had_time && !present.contains(address);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DoveadmError> {
        let stale = std::mem::take(&mut self.state().stale);
        let flushed = match &stale {
            Stale::Nobody => return Ok(()),
            Stale::Everybody => self.doveadm.auth_cache_flush(Flush::All),
            Stale::Names(names) => {
                let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
                self.doveadm.auth_cache_flush(Flush::Users(&names))
            }
        };
        let mut state = self.state();
        if let Err(error) = flushed {
            state.stale.merge(stale);
            return Err(error);
        }
        let now = Instant::now();
        let State { closing, stale: again, .. } = &mut *state;
        for (address, closing) in closing {
            // Whoever came while Dovecot was asked is asked about once more.
            if stale.contains(address) && !again.contains(address) {
                closing.since.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// Disconnects who is there and is held.
    fn disconnect(&self, present: &BTreeSet<Box<str>>) -> Result<(), DoveadmError> {
        let (mut gently, mut firmly) = (Vec::new(), Vec::new());
        {
            let mut state = self.state();
            for user in present {
                match state.closing.get_mut(user) {
                    Some(closing) => {
                        closing.asked += 1;
                        if closing.asked > PATIENCE_ROUNDS {
                            firmly.push(&**user);
                        } else {
                            gently.push(&**user);
                        }
                    }
                    None if self.doors.standing(user) == Some(Standing::Level(0)) => {
                        gently.push(user);
                    }
                    None => {}
                }
            }
        }
        for (users, force) in [(gently, false), (firmly, true)] {
            if !users.is_empty() {
                let left = self.doveadm.kick(&users, force)?;
                if left > 0 {
                    tracing::warn!(
                        users = left,
                        action =
                            "disconnect them by hand, with those whom their names fit",
                        "held people stay connected: their addresses have wildcards"
                    );
                }
                tracing::debug!(users = users.len(), force, "held people disconnected");
            }
        }
        Ok(())
    }

    /// Whether LMTP may still be taking in what it was permitted before doors closed. It has no
    /// log-in to be listed by: where its processes serve one client at a time and none does, no
    /// delivery is under way; otherwise nobody can tell.
    fn deliveries_may_be_in_flight(
        &self,
        looked_at: Instant,
    ) -> Result<bool, DoveadmError> {
        let shown = |closing: &Closing| {
            let waits = |age| age >= SHOWS_WITHIN && age < self.lmtp_grace;
            !closing.out && closing.age(looked_at).is_some_and(waits)
        };
        if !self.state().closing.values().any(shown) {
            return Ok(true);
        }
        Ok(self.doveadm.busy("lmtp")? != Some(0))
    }
}

impl Closing {
    fn age(&self, at: Instant) -> Option<Duration> {
        self.since.map(|since| at.saturating_duration_since(since))
    }
}

enum Woken {
    Stop,
    News,
    Late,
}

impl Stale {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Names(names) => names.contains(name),
            Self::Everybody => true,
        }
    }

    fn add(&mut self, name: Box<str>) {
        match self {
            Self::Nobody => *self = Self::Names(BTreeSet::from([name])),
            Self::Names(names) if names.len() < NAMES_MAX => {
                names.insert(name);
            }
            Self::Names(_) => *self = Self::Everybody,
            Self::Everybody => {}
        }
    }

    fn merge(&mut self, other: Self) {
        match other {
            Self::Nobody => {}
            Self::Names(names) => names.into_iter().for_each(|name| self.add(name)),
            Self::Everybody => *self = Self::Everybody,
        }
    }
}

/// As Dovecot writes addresses.
fn lower_case(address: &str) -> Box<str> {
    address.to_ascii_lowercase().into_boxed_str()
}
