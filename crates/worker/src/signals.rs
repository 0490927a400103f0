//! Signals: how the mail system of this node feels, listened to by threads of their own.
//!
//! ```text
//! Dovecot's statistics ─┐
//! disk and pressure ────┼─▶ felt every ten seconds ─▶ pace of opening
//! canary, sessions ─────┴─▶ good and bad minutes ───▶ vitals ─▶ gate
//! Dovecot's log ──────────▶ complaints about a user ─▶ his mailbox has failed
//! ```
//!
//! # Invariants
//!
//! * What has a source and does not answer is missing, never good.
//! * No source keeps another waiting for longer than its patience; the canary has a thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidegate_core::gate::{PulseLimits, PulseSignal, Pulses};
use tidegate_core::pace::{Felt, Sense};
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;
use tidegate_mailserver::canary::{Canary, Step};
use tidegate_mailserver::doveadm::Doveadm;
use tidegate_mailserver::log::{Complaint, LogFollower};
use tidegate_mailserver::metrics::{Activity, Scrape};
use tidegate_mailserver::pressure::{Disk, DiskCounters, Kernel, Resource};

/// How often logs are read and it is seen what is due.
const TICK: Duration = Duration::from_secs(1);

/// How often it is told what users feel: as often as the pace follows.
const FEEL_EVERY: Duration = Duration::from_secs(10);

/// A page of statistics that takes longer is none.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(5);

/// One round of the canary may take so long, then it has failed.
const CANARY_PATIENCE: Duration = Duration::from_secs(20);

/// Complaints of one look that are passed on; a log with more says the same again and again.
const COMPLAINTS_MAX: usize = 256;

/// Dovecot's statistics about password databases.
const PASSDB: &str = "dovecot_passdb";

/// What there is to be listened to.
#[derive(Debug)]
pub(crate) struct Sources {
    /// For the sessions.
    pub(crate) doveadm: Option<Arc<Doveadm>>,
    /// The page of Dovecot's statistics.
    pub(crate) metrics: Option<String>,
    /// Dovecot's log files.
    pub(crate) logs: Vec<PathBuf>,
    /// The directory of the mail, whose disk counts.
    pub(crate) live: Option<PathBuf>,
    /// The node's own mailbox.
    pub(crate) canary: Option<Rounds>,
}

impl Sources {
    /// The signals that have a source, nothing shown yet: one that never answers is missed.
    pub(crate) fn expected(&self) -> Pulses {
        use PulseSignal as S;
        let metrics = [
            S::LoginLatency,
            S::CommandLatency,
            S::CommandErrors,
            S::DeliveryLatency,
            S::DeliveryRefusals,
            S::StorageErrors,
        ];
        let kernel = Kernel::default();
        let disk = self.live.as_ref().and_then(|live| kernel.disk_of(live));
        let sources = [
            (self.metrics.is_some(), &metrics[..]),
            (self.canary.is_some(), &[S::Canary, S::CanaryLatency]),
            (self.doveadm.is_some(), &[S::Connections]),
            (disk.is_some(), &[S::DiskLatency]),
            (waited(&kernel).is_some(), &[S::IoPressure]),
        ];
        let mut expected = Pulses::default();
        let with_source = sources.iter().filter(|(has, _)| *has);
        with_source.flat_map(|(_, signals)| *signals).for_each(|it| expected.expect(*it));
        expected
    }
}

/// Rounds of the canary.
#[derive(Clone)]
pub(crate) struct Rounds {
    /// The mailbox and the way to it.
    pub(crate) canary: Canary,
    /// How often.
    pub(crate) every: Duration,
}

impl std::fmt::Debug for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rounds").field("every", &self.every).finish_non_exhaustive()
    }
}

impl Rounds {
    /// Rounds through the mailbox of `told` at `imap` and `lmtp`, for `node`.
    pub(crate) fn new(
        told: &crate::Canary,
        (imap, lmtp): (std::net::SocketAddr, std::net::SocketAddr),
        node: &str,
    ) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let canary = Canary {
            lmtp,
            imap,
            user: told.mailbox.clone(),
            login: told.mailbox.clone(),
            password: told.password.clone(),
            name: node.chars().map(plain).collect(),
            patience: CANARY_PATIENCE,
        };
        Self { canary, every: told.every }
    }
}

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// What users feel, when that was due.
    pub(crate) felt: Option<Felt>,
    /// All minutes so far, when one has ended.
    pub(crate) pulses: Option<Pulses>,
    /// New complaints that name somebody.
    pub(crate) complaints: Vec<Complaint>,
}

/// Listens until nobody wants to be told any more.
///
/// # Errors
///
/// No thread can be started.
pub(crate) fn listen(
    sources: Sources,
    limits: PulseLimits,
    tell: impl Fn(Heard) -> bool + Send + 'static,
) -> anyhow::Result<()> {
    let tally = Arc::new(Mutex::new(Tally::default()));
    if let Some(rounds) = sources.canary.clone() {
        let tally = Arc::downgrade(&tally);
        let fly = move || {
            while let Some(tally) = tally.upgrade() {
                let started = Instant::now();
                let round = rounds.canary.round();
                lock(&tally).note(&round);
                drop(tally);
                thread::sleep(rounds.every.saturating_sub(started.elapsed()));
            }
        };
        let canary = thread::Builder::new().name("canary".to_owned());
        canary.spawn(fly).context("start the canary")?;
    }
    let mut listener = Listener::new(sources, limits, tally);
    let listening = move || {
        listener.begin();
        while tell(listener.listen()) {
            thread::sleep(TICK);
        }
    };
    let signals = thread::Builder::new().name("signals".to_owned());
    signals.spawn(listening).context("start listening to the mail system")?;
    Ok(())
}

/// What the canary has met since it was last asked.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    rounds: u32,
    failed: u32,
    slowest: Duration,
    /// Of the newest good round.
    login: Option<Duration>,
}

impl Tally {
    fn note(&mut self, round: &tidegate_mailserver::canary::Round) {
        self.rounds += 1;
        match &round.end {
            Ok(()) => {
                let took = round.timings.iter().map(|(_, took)| *took).sum();
                self.slowest = self.slowest.max(took);
                let login = round.timings.iter().find(|(step, _)| *step == Step::Login);
                self.login = login.map(|(_, took)| *took);
            }
            Err(error) => {
                self.failed += 1;
                self.login = None;
                let action = "see whether mail can be delivered and read on this node";
                tracing::warn!(%error, action, "the canary has failed");
            }
        }
    }
}

/// One thread's state.
#[derive(Debug)]
struct Listener {
    // What it was given.
    sources: Sources,
    limits: PulseLimits,
    kernel: Kernel,
    disk: Option<Disk>,
    tally: Arc<Mutex<Tally>>,

    // What it remembers.
    logs: Vec<LogFollower>,
    pulses: Pulses,
    felt_at: Instant,
    felt_page: Option<Scrape>,
    minute_at: Instant,
    minute_page: Option<Scrape>,
    minute_disk: Option<DiskCounters>,
    minute_waited: Option<Duration>,
    is_silent: bool,
}

impl Listener {
    fn new(sources: Sources, limits: PulseLimits, tally: Arc<Mutex<Tally>>) -> Self {
        let kernel = Kernel::default();
        let disk = sources.live.as_ref().and_then(|live| kernel.disk_of(live));
        let now = Instant::now();
        Self {
            logs: followers(&sources.logs),
            limits,
            disk,
            tally,
            pulses: sources.expected(),
            felt_at: now,
            felt_page: None,
            minute_at: now,
            minute_page: None,
            minute_disk: disk.and_then(|disk| kernel.counters(disk)),
            minute_waited: waited(&kernel),
            is_silent: false,
            kernel,
            sources,
        }
    }

    /// Takes the first pages, from which is counted. Whoever starts this does not wait for it.
    fn begin(&mut self) {
        self.felt_page = self.scrape();
        self.minute_page.clone_from(&self.felt_page);
    }

    fn listen(&mut self) -> Heard {
        let complaints = self.complaints();
        let felt = (self.felt_at.elapsed() >= FEEL_EVERY).then(|| self.feel());
        let minute = Duration::from_millis(self.limits.every.millis().max(1));
        let pulses = (self.minute_at.elapsed() >= minute).then(|| self.minute());
        Heard { felt, pulses, complaints }
    }

    fn complaints(&mut self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        for log in &mut self.logs {
            let looked = log.look(&mut |complaint: Complaint| {
                let text = &complaint.text;
                tracing::debug!(kind = ?complaint.kind, text, "the mail server complains");
                if complaint.user.is_some() && complaints.len() < COMPLAINTS_MAX {
                    complaints.push(complaint);
                }
            });
            if let Err(error) = looked {
                tracing::debug!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "no log"
                );
            }
        }
        complaints
    }

    fn feel(&mut self) -> Felt {
        let seconds = self.felt_at.elapsed().as_secs().max(1);
        self.felt_at = Instant::now();
        let page = self.scrape();
        let change = match (&page, &self.felt_page) {
            (Some(now), Some(then)) => Some(now.since(then)),
            _ => None,
        };
        self.felt_page = page;
        let has = self.sources.metrics.is_some();
        let logins = change.as_ref().and_then(|change| {
            let is_let_in =
                |labels: &Labels| labels.get("result").is_some_and(|it| it == "ok");
            change.histogram(PASSDB, is_let_in)
        });
        let activity =
            change.as_ref().map(tidegate_mailserver::metrics::Change::activity);
        let login = logins.as_ref().map(|logins| {
            let slowest = logins.quantile(0.95).map_or(0.0, |it| it.estimate);
            Duration::from_secs_f64(slowest)
        });
        // Where nobody logs in, only the canary knows how long that takes.
        let login = login.max(lock(&self.tally).login);
        let rate =
            logins.map(|it| u32::try_from(it.count() / seconds).unwrap_or(u32::MAX));
        let command = activity.and_then(|it| it.commands.map(|_| it.command_p95));
        let pressure = self.kernel.pressure(Resource::Io).and_then(|it| it.full);
        Felt {
            login_p95: sense(has || self.sources.canary.is_some(), login.map(span)),
            command_p95: sense(has, command.map(|it| span(it.unwrap_or_default()))),
            shed: Sense::Absent,
            io_pressure: sense(
                self.minute_waited.is_some(),
                pressure.map(|it| percent(it.avg10_percent)),
            ),
            logins_per_second: sense(has, rate),
        }
    }

    /// Ends a minute.
    fn minute(&mut self) -> Pulses {
        let length = self.minute_at.elapsed();
        self.minute_at = Instant::now();
        self.statistics();
        self.machine(length);
        if let Some(doveadm) = &self.sources.doveadm {
            let sessions = doveadm.who().ok().map(|sessions| sessions.len() as u64);
            self.note(PulseSignal::Connections, sessions);
        }
        if self.sources.canary.is_some() {
            let tally = std::mem::take(&mut *lock(&self.tally));
            lock(&self.tally).login = tally.login;
            let some = |value| (tally.rounds > 0).then_some(value);
            let good = tally.rounds > tally.failed;
            self.note(PulseSignal::Canary, some(u64::from(tally.failed)));
            let took = good.then(|| millis(tally.slowest));
            self.note(PulseSignal::CanaryLatency, took);
        }
        self.pulses
    }

    /// What Dovecot has counted in this minute.
    fn statistics(&mut self) {
        if self.sources.metrics.is_none() {
            return;
        }
        let page = self.scrape();
        let change = match (&page, &self.minute_page) {
            (Some(now), Some(then)) => Some(now.since(then)),
            _ => None,
        };
        self.minute_page = page;
        let activity = change.map(|change| change.activity());
        let of =
            |value: &dyn Fn(&Activity) -> Option<u64>| activity.as_ref().and_then(value);
        // A metric that is there without events: nobody waited.
        let slow = |count: Option<u64>, p95: Option<Duration>| {
            count.map(|_| millis(p95.unwrap_or_default()))
        };
        let values = [
            (PulseSignal::LoginLatency, of(&|it| slow(it.lookups, it.lookup_p95))),
            (PulseSignal::CommandLatency, of(&|it| slow(it.commands, it.command_p95))),
            (
                PulseSignal::CommandErrors,
                of(&|it| Some(part(it.command_errors?, it.commands?))),
            ),
            (
                PulseSignal::DeliveryLatency,
                of(&|it| slow(it.deliveries, it.delivery_p95)),
            ),
            (
                PulseSignal::DeliveryRefusals,
                of(&|it| Some(part(it.refusals?, it.deliveries? + it.refusals?))),
            ),
            (PulseSignal::StorageErrors, of(&|it| it.storage_errors)),
        ];
        for (signal, value) in values {
            self.note(signal, value);
        }
    }

    /// What the machine has waited for in this minute.
    fn machine(&mut self, length: Duration) {
        if let Some(disk) = self.disk {
            let now = self.kernel.counters(disk);
            let work = now.zip(self.minute_disk).map(|(now, then)| now.since(then));
            let waited = work.map(|work| whole(work.await_ms.unwrap_or(0.0)));
            self.minute_disk = now;
            self.note(PulseSignal::DiskLatency, waited);
        }
        if let Some(then) = self.minute_waited {
            let now = waited(&self.kernel);
            let share =
                now.map(|now| part(millis(now.saturating_sub(then)), millis(length)));
            self.minute_waited = now.or(Some(then));
            self.note(PulseSignal::IoPressure, share);
        }
    }

    fn note(&mut self, signal: PulseSignal, value: Option<u64>) {
        match value {
            Some(value) => {
                let value = u32::try_from(value).unwrap_or(u32::MAX);
                self.pulses.note(signal, value, self.limits.limit(signal));
            }
            None => self.pulses.miss(signal),
        }
    }

    fn scrape(&mut self) -> Option<Scrape> {
        let url = self.sources.metrics.as_ref()?;
        match Scrape::get(url, SCRAPE_PATIENCE) {
            Ok(page) => {
                self.is_silent = false;
                Some(page)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    let action = "see whether Dovecot runs, and `metrics` in [dovecot]";
                    tracing::warn!(
                        error,
                        action,
                        "the mail server's statistics are missing"
                    );
                }
                None
            }
        }
    }
}

type Labels = std::collections::BTreeMap<String, String>;

fn followers(logs: &[PathBuf]) -> Vec<LogFollower> {
    let followers = logs.iter().filter_map(|path| match LogFollower::from_end(path) {
        Ok(follower) => Some(follower),
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::new(error));
            let action = "let the worker's user read it, for example by the group `adm`";
            tracing::warn!(error, action, "a log of the mail server is not followed");
            None
        }
    });
    followers.collect()
}

/// How long everything has waited for the disk since the machine started.
fn waited(kernel: &Kernel) -> Option<Duration> {
    Some(kernel.pressure(Resource::Io)?.full?.total)
}

fn sense<T>(has_source: bool, value: Option<T>) -> Sense<T> {
    match value {
        Some(value) => Sense::Known(value),
        None if has_source => Sense::Missing,
        None => Sense::Absent,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn span(duration: Duration) -> Span {
    Span::from_millis(millis(duration))
}

/// `some` of `all` in parts per million; nothing of nothing is none.
fn part(some: u64, all: u64) -> u64 {
    let parts = u128::from(some) * 1_000_000 / u128::from(all.max(1));
    u64::try_from(parts).unwrap_or(u64::MAX)
}

/// Percent as the kernel writes it.
fn percent(percent: f64) -> Ppm {
    Ppm::new(u32::try_from(whole(percent * 10_000.0)).unwrap_or(u32::MAX).min(1_000_000))
}

/// The whole part of a number that is not negative.
fn whole(number: f64) -> u64 {
    Duration::try_from_secs_f64(number).map_or(0, |it| it.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_source_is_expected_before_it_has_answered() {
        let sources = Sources {
            doveadm: None,
            metrics: Some("http://127.0.0.1:1/metrics".to_owned()),
            logs: Vec::new(),
            live: None,
            canary: None,
        };

        let expected = sources.expected();

        let counts = |signal| expected.get(signal).map(|it| (it.minutes, it.silent));
        assert_eq!(counts(PulseSignal::CommandErrors), Some((0, 0)));
        assert_eq!(counts(PulseSignal::Canary), None);
    }
}
