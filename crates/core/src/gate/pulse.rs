//! Pulse: how a node's mail system has felt, minute by minute.
//!
//! Every minute each signal is measured once and is either within its limit or above it. So
//! latencies, shares and ages all become the same thing, good and bad minutes, and one test
//! judges them all.
//!
//! # Invariants
//!
//! * Counts only rise while a worker runs; what has been told twice changes nothing.
//! * A minute in which a signal could not be measured is no good minute: it counts as silent.
//! * A signal that is not here has no source on the node; one whose source fails stays here.

use std::fmt;

use crate::time::Span;

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $bad:literal;)*) => {
        /// What is measured of a node's mail system.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum PulseSignal {
            $($(#[$doc])* $name,)*
        }

        impl PulseSignal {
            /// All of them, in the order in which they are shown and kept. New ones come last.
            pub const ALL: [Self; 12] = [$(Self::$name),*];

            /// The stable name.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// What its bad minutes are, as people say it.
            pub(super) const fn bad_minutes(self) -> &'static str {
                match self {
                    $(Self::$name => $bad,)*
                }
            }
        }
    };
}

signals! {
    /// The 95th percentile of logins, milliseconds.
    LoginLatency = "login-latency", "minutes with slow logins";
    /// The 95th percentile of what mail programs ask (SELECT, FETCH, STATUS), milliseconds.
    CommandLatency = "command-latency", "minutes with slow answers";
    /// The share of commands answered NO or BAD, parts per million.
    CommandErrors = "command-errors", "minutes with failing commands";
    /// The 95th percentile of deliveries, milliseconds.
    DeliveryLatency = "delivery-latency", "minutes with slow deliveries";
    /// The share of deliveries refused for good (5xx), parts per million: these bounce.
    DeliveryRefusals = "delivery-refusals", "minutes with refused deliveries";
    /// Errors that the mail system met in stores, in that minute.
    StorageErrors = "storage-errors", "minutes with errors in stores";
    /// What a read or write waits for on average, milliseconds.
    DiskLatency = "disk-latency", "minutes with a slow disk";
    /// The share of time in which everything waited for the disk, parts per million.
    IoPressure = "io-pressure", "minutes with everything waiting for the disk";
    /// Connections of users that stand.
    Connections = "connections", "minutes with too many connections";
    /// Rounds of the canary mailboxes that failed: mail could not be delivered, or not read.
    Canary = "canary", "minutes in which the canary failed";
    /// How long a canary's round took, milliseconds.
    CanaryLatency = "canary-latency", "minutes with a slow canary";
    /// The age of the oldest mail that waits for an open mailbox, seconds.
    QueueAge = "queue-age", "minutes with old mail in the queue";
}

/// In which unit a signal is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PulseUnit {
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Parts per million.
    Parts,
    /// A plain number.
    Count,
}

impl PulseSignal {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The signal called `code`.
    pub fn named(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.code() == code)
    }

    /// Its place in [`PulseSignal::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its unit.
    pub const fn unit(self) -> PulseUnit {
        match self {
            Self::LoginLatency
            | Self::CommandLatency
            | Self::DeliveryLatency
            | Self::DiskLatency
            | Self::CanaryLatency => PulseUnit::Millis,
            Self::QueueAge => PulseUnit::Seconds,
            Self::CommandErrors | Self::DeliveryRefusals | Self::IoPressure => {
                PulseUnit::Parts
            }
            Self::StorageErrors | Self::Connections | Self::Canary => PulseUnit::Count,
        }
    }

    /// Whether its bad minutes are harm that users see, so that they halt; the others only
    /// hold: a busy node is a reason to wait, not to stop. Commands that fail only hold as
    /// well: one program that repeats a wrong command could stop everybody's return.
    pub const fn halts(self) -> bool {
        matches!(self, Self::DeliveryRefusals | Self::Canary)
    }

    /// `value` with its unit, as people say it.
    pub fn show(self, value: u32) -> impl fmt::Display {
        Shown { unit: self.unit(), value }
    }
}

impl fmt::Display for PulseSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

struct Shown {
    unit: PulseUnit,
    value: u32,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            PulseUnit::Millis if self.value < 10_000 => write!(f, "{} ms", self.value),
            PulseUnit::Millis => Span::from_millis(u64::from(self.value)).fmt(f),
            PulseUnit::Seconds => Span::from_secs(u64::from(self.value)).fmt(f),
            PulseUnit::Parts => crate::share::Ppm::new(self.value).fmt(f),
            PulseUnit::Count => self.value.fmt(f),
        }
    }
}

/// What one signal has shown since the worker started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The signal.
    pub signal: PulseSignal,
    /// Minutes in which it was measured.
    pub minutes: u32,
    /// Of these, those in which it was above its limit.
    pub minutes_bad: u32,
    /// The newest value, in the signal's unit.
    pub latest: u32,
    /// Minutes since it could last be measured; 0 while its source answers.
    pub silent: u32,
}

/// The signals that have a source on a node, each with what it has shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pulses {
    counts: [Option<Counts>; PulseSignal::COUNT],
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Counts {
    minutes: u32,
    bad: u32,
    latest: u32,
    silent: u32,
}

impl Pulses {
    /// Whether no signal has a source.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(Option::is_none)
    }

    /// What `signal` has shown, if it has a source.
    pub fn get(&self, signal: PulseSignal) -> Option<Pulse> {
        let counts = (*self.counts.get(signal.index())?)?;
        let Counts { minutes, bad, latest, silent } = counts;
        Some(Pulse { signal, minutes, minutes_bad: bad, latest, silent })
    }

    /// All that have a source, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Pulse> + '_ {
        PulseSignal::ALL.into_iter().filter_map(|signal| self.get(signal))
    }

    /// Says that `signal` has a source, which may not have answered yet.
    pub fn expect(&mut self, signal: PulseSignal) {
        self.counts_mut(signal, |_| {});
    }

    /// The same sources, of which nothing has been shown yet.
    #[must_use]
    pub fn sources(&self) -> Self {
        Self { counts: self.counts.map(|counts| counts.map(|_| Counts::default())) }
    }

    /// The same, of which nothing has been heard for so many minutes more.
    #[must_use]
    pub fn unheard_for(&self, minutes: u32) -> Self {
        let unheard = |counts: Counts| Counts {
            silent: counts.silent.saturating_add(minutes),
            ..counts
        };
        Self { counts: self.counts.map(|counts| counts.map(unheard)) }
    }

    /// Counts a minute in which `signal` was `value`, bad if that is above `limit`.
    ///
    /// A minute without any traffic is `0`: nobody waited. That the service works at all is
    /// what the canary says.
    pub fn note(&mut self, signal: PulseSignal, value: u32, limit: u32) {
        self.counts_mut(signal, |counts| {
            counts.minutes = counts.minutes.saturating_add(1);
            counts.bad = counts.bad.saturating_add(u32::from(value > limit));
            counts.latest = value;
            counts.silent = 0;
        });
    }

    /// Counts a minute in which `signal` could not be measured.
    pub fn miss(&mut self, signal: PulseSignal) {
        self.counts_mut(signal, |counts| counts.silent = counts.silent.saturating_add(1));
    }

    /// Puts `pulse` in the place of what was known of its signal.
    pub fn set(&mut self, pulse: Pulse) {
        let Pulse { signal, minutes, minutes_bad: bad, latest, silent } = pulse;
        self.counts_mut(signal, |counts| {
            *counts = Counts { minutes, bad, latest, silent };
        });
    }

    /// What has been shown since `earlier`, which the same run of the worker has shown. If
    /// it cannot have, everything is new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.counts.iter().zip(&earlier.counts);
        let fell = |(now, then): (&Option<Counts>, &Option<Counts>)| match (now, then) {
            (Some(now), Some(then)) => now.minutes < then.minutes || now.bad < then.bad,
            (None, Some(_)) => true,
            (Some(_) | None, None) => false,
        };
        if pairs.clone().any(fell) {
            return *self;
        }
        let mut news = *self;
        for (new, then) in news.counts.iter_mut().zip(&earlier.counts) {
            if let (Some(new), Some(then)) = (new, then) {
                new.minutes = new.minutes.saturating_sub(then.minutes);
                new.bad = new.bad.saturating_sub(then.bad).min(new.minutes);
            }
        }
        news
    }

    fn counts_mut(&mut self, signal: PulseSignal, change: impl FnOnce(&mut Counts)) {
        if let Some(counts) = self.counts.get_mut(signal.index()) {
            change(counts.get_or_insert_default());
        }
    }
}

impl FromIterator<Pulse> for Pulses {
    fn from_iter<I: IntoIterator<Item = Pulse>>(pulses: I) -> Self {
        let mut all = Self::default();
        pulses.into_iter().for_each(|pulse| all.set(pulse));
        all
    }
}

impl fmt::Debug for Pulses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.iter().map(|pulse| {
            let Pulse { minutes, minutes_bad, latest, silent, .. } = pulse;
            (pulse.signal.code(), [minutes, minutes_bad, latest, silent])
        });
        f.debug_map().entries(each).finish()
    }
}

/// From which value on a minute is a bad one, and how long a minute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PulseLimits {
    /// How long a minute is: a minute, except where somebody cannot wait for that.
    pub every: Span,
    /// By [`PulseSignal::index`]; a value above it is bad.
    pub limits: [u32; PulseSignal::COUNT],
}

impl PulseLimits {
    /// Above which value `signal` is bad.
    pub fn limit(&self, signal: PulseSignal) -> u32 {
        self.limits.get(signal.index()).copied().unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_names_its_signal() {
        for signal in PulseSignal::ALL {
            assert_eq!(PulseSignal::named(signal.code()), Some(signal));
            assert_eq!(PulseSignal::ALL[signal.index()], signal);
        }
        assert_eq!(PulseSignal::named("pulse"), None);
    }

    #[test]
    fn minutes_above_the_limit_are_bad_and_those_not_measured_are_none() {
        let mut pulses = Pulses::default();
        pulses.expect(PulseSignal::Canary);
        pulses.note(PulseSignal::LoginLatency, 400, 500);
        pulses.note(PulseSignal::LoginLatency, 501, 500);
        pulses.miss(PulseSignal::LoginLatency);
        pulses.miss(PulseSignal::LoginLatency);

        let shown = format!("{pulses:?}");

        assert_eq!(shown, r#"{"login-latency": [2, 1, 501, 2], "canary": [0, 0, 0, 0]}"#);
    }

    #[test]
    fn whoever_is_not_heard_any_more_vouches_for_nothing() {
        let mut pulses = Pulses::default();
        pulses.note(PulseSignal::Canary, 0, 0);
        pulses.miss(PulseSignal::Canary);

        let shown = [pulses.unheard_for(0), pulses.unheard_for(5), pulses.sources()]
            .map(|pulses| format!("{pulses:?}"));

        let expected = ["[1, 0, 0, 1]", "[1, 0, 0, 6]", "[0, 0, 0, 0]"]
            .map(|counts| format!(r#"{{"canary": {counts}}}"#));
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_new_is_counted_from_where_the_same_run_stood() {
        let (mut before, mut after) = (Pulses::default(), Pulses::default());
        (0..10).for_each(|_| before.note(PulseSignal::DiskLatency, 200, 100));
        (0..12).for_each(|_| after.note(PulseSignal::DiskLatency, 200, 100));
        let mut restarted = Pulses::default();
        restarted.note(PulseSignal::DiskLatency, 1, 100);

        let minutes = |pulses: Pulses| {
            pulses.get(PulseSignal::DiskLatency).map(|it| (it.minutes, it.minutes_bad))
        };

        assert_eq!(minutes(after.since(&before)), Some((2, 2)));
        assert_eq!(minutes(after.since(&Pulses::default())), Some((12, 12)));
        assert_eq!(minutes(restarted.since(&before)), Some((1, 0)));
    }

    #[test]
    fn values_are_shown_with_their_units() {
        let shown = [
            PulseSignal::LoginLatency.show(2_500).to_string(),
            PulseSignal::CanaryLatency.show(75_000).to_string(),
            PulseSignal::QueueAge.show(5_400).to_string(),
            PulseSignal::CommandErrors.show(50_000).to_string(),
            PulseSignal::Connections.show(40_000).to_string(),
        ];

        assert_eq!(shown, ["2500 ms", "1 min 15 s", "1 h 30 min", "5 %", "40000"]);
    }
}
