//! Queues: what exchangers say waits in theirs, newest report of each.
//!
//! # Invariants
//!
//! * Of what waits nothing is remembered over a restart: exchangers tell it again within
//!   seconds. Who has reported is remembered until a person forgets it.
//! * A report that has grown old is counted no more; its exchanger is named as silent.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::fleet::{NodeNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_core::time::Timestamp;
use tidegate_wire::exchanger::{QueueReport, WaveQueue};
use tidegate_wire::protocol::timestamp;
use tidegate_wire::v1;

use super::EXCHANGERS_MAX;
use super::known::Known;

/// An exchanger reports every few seconds; one that has not for so long is silent.
const SILENT_AFTER: Duration = Duration::from_mins(1);

/// The newest reports; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    reports: BTreeMap<String, Reported>,
    known: Known,
}

#[derive(Debug)]
struct Reported {
    at: Instant,
    report: QueueReport,
}

impl Queues {
    /// No reports yet, of exchangers whose names are kept in `data_dir`.
    ///
    /// # Errors
    ///
    /// The names cannot be read.
    pub(crate) fn kept_in(data_dir: &Path) -> io::Result<Self> {
        let known = Known::in_file(data_dir.join("exchangers"))?;
        let inner = Inner { reports: BTreeMap::new(), known };
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report in place of the exchanger's last one; `false` when there are too many
    /// exchangers already.
    pub(crate) fn take(&self, report: QueueReport, at: Instant) -> bool {
        let Inner { reports, known } = &mut *self.lock();
        if !known.note(&report.exchanger, EXCHANGERS_MAX) {
            return false;
        }
        reports.insert(report.exchanger.clone(), Reported { at, report });
        true
    }

    /// For how long mail has waited that could be delivered; nothing where there has never
    /// been an exchanger. `was_measured` says that there has been one before this program
    /// began to remember them.
    pub(crate) fn waits(
        &self,
        plan: Digest,
        was_measured: bool,
        now: Instant,
    ) -> Option<Waits> {
        let Inner { reports, known } = &mut *self.lock();
        known.forget_removed();
        reports.retain(|name, old| !old.is_silent(now) || known.knows(name));
        let ours = || reports.values().filter(|reported| reported.report.plan == plan);
        let fresh = || ours().filter(|reported| !reported.is_silent(now));
        let told: Vec<&str> =
            fresh().map(|reported| reported.report.exchanger.as_str()).collect();
        let expected = !known.is_empty() || (was_measured && !known.is_kept());
        if ours().next().is_none() && !expected {
            return None;
        }
        let is_whole =
            ours().count() == told.len() && !told.is_empty() && known.are_all_in(&told);
        let fresh = fresh();
        let mut seconds = BTreeMap::new();
        for (node, waited) in fresh.flat_map(|reported| &reported.report.nodes) {
            let longest: &mut u32 = seconds.entry(*node).or_default();
            *longest = (*longest).max(*waited);
        }
        Some(Waits { seconds, is_whole })
    }

    /// Says in `rollout` what waits for each wave, and in whose queue.
    pub(crate) fn show_in(&self, rollout: &mut v1::Rollout, now: Instant) {
        let Inner { reports, known } = &*self.lock();
        let ours = || {
            reports.values().filter(|reported| {
                reported.report.plan.to_string() == rollout.plan_digest
            })
        };
        let mut exchangers: Vec<v1::Exchanger> =
            ours().map(|reported| reported.shown(now)).collect();
        let told: Vec<&str> = reports.keys().map(String::as_str).collect();
        exchangers.extend(known.not_in(&told).map(|name| v1::Exchanger {
            name: name.to_owned(),
            silent: true,
            ..v1::Exchanger::default()
        }));
        let mut waves: BTreeMap<WaveNumber, WaveQueue> = BTreeMap::new();
        let fresh = ours().filter(|reported| !reported.is_silent(now));
        for queue in fresh.flat_map(|reported| &reported.report.waves) {
            let sum = waves.entry(queue.wave).or_default();
            *sum = plus(*sum, *queue);
        }
        for wave in &mut rollout.waves {
            let number = u16::try_from(wave.number).ok().map(WaveNumber::new);
            wave.queue = number.and_then(|number| waves.get(&number)).map(shown);
        }
        rollout.exchangers = exchangers;
    }
}

/// For how long mail has waited that could be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    /// Seconds, by node where there is any such mail.
    pub(crate) seconds: BTreeMap<NodeNumber, u32>,
    /// Whether every exchanger has said so lately; one that is silent may have older mail.
    pub(crate) is_whole: bool,
}

impl Reported {
    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= SILENT_AFTER
    }

    fn shown(&self, now: Instant) -> v1::Exchanger {
        let report = &self.report;
        let messages = report.waves.iter().map(|wave| wave.messages);
        v1::Exchanger {
            name: report.exchanger.clone(),
            silent: self.is_silent(now),
            listed_time: Some(timestamp(report.listed_at)),
            messages: messages.fold(report.elsewhere_messages, u64::saturating_add),
        }
    }
}

fn shown(queue: &WaveQueue) -> v1::Queue {
    v1::Queue {
        messages: queue.messages,
        recipients: queue.recipients,
        open_recipients: queue.open_recipients,
        oldest_time: queue.oldest_at.map(timestamp),
        flushed: queue.flushed,
        flushed_per_second: queue.flushed_per_second,
        left: queue.left,
    }
}

/// The sum over two exchangers, as far as numbers go.
fn plus(a: WaveQueue, b: WaveQueue) -> WaveQueue {
    let oldest: [Option<Timestamp>; 2] = [a.oldest_at, b.oldest_at];
    WaveQueue {
        wave: b.wave,
        messages: a.messages.saturating_add(b.messages),
        recipients: a.recipients.saturating_add(b.recipients),
        open_recipients: a.open_recipients.saturating_add(b.open_recipients),
        oldest_at: oldest.into_iter().flatten().min(),
        flushed: a.flushed.saturating_add(b.flushed),
        flushed_per_second: a.flushed_per_second.saturating_add(b.flushed_per_second),
        left: a.left.saturating_add(b.left),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn queues_of_several_exchangers_add_up_by_wave() {
        let queues = Queues::default();
        let now = Instant::now();
        queues.take(report("mx1", 3, 2_000), now);
        queues.take(report("mx2", 4, 1_000), now);
        queues.take(report("mx2", 5, 1_500), now);
        let mut rollout = rollout();

        queues.show_in(&mut rollout, now);

        let queue = rollout.waves.get(1).and_then(|wave| wave.queue).unwrap();
        let oldest = queue.oldest_time.map(|time| time.seconds);
        assert_eq!((queue.messages, oldest), (8, Some(1)));
        assert_eq!(rollout.waves.first().map(|wave| wave.queue.is_some()), Some(false));
        let names = rollout.exchangers.iter().map(|it| (it.name.as_str(), it.messages));
        assert_eq!(names.collect::<Vec<_>>(), [("mx1", 3), ("mx2", 5)]);
    }

    #[test]
    fn reports_about_another_plan_are_not_shown() {
        let queues = Queues::default();
        queues.take(report("mx1", 3, 2_000), Instant::now());
        let mut rollout = v1::Rollout { plan_digest: "00".repeat(32), ..rollout() };

        queues.show_in(&mut rollout, Instant::now());

        assert!(rollout.exchangers.is_empty());
    }

    #[test]
    fn the_longest_wait_of_a_node_counts_and_one_silent_exchanger_leaves_it_open() {
        let (queues, now) = (Queues::default(), Instant::now());
        assert_eq!(queues.waits(plan(), false, now), None);
        queues.take(report("mx1", 30, 0), now);
        queues.take(report("mx2", 70, 0), now);
        let waits = |seconds: &[u32], is_whole| {
            let seconds = seconds.iter().map(|it| (NodeNumber::new(1), *it)).collect();
            Some(Waits { seconds, is_whole })
        };

        let shown = |at| queues.waits(plan(), false, at);
        assert_eq!(shown(now), waits(&[70], true));
        let later = now + SILENT_AFTER;
        assert_eq!(shown(later), waits(&[], false));
        queues.take(report("mx1", 40, 0), later);
        assert_eq!(shown(later), waits(&[40], false));
        queues.take(report("mx2", 10, 0), later);
        assert_eq!(shown(later), waits(&[40], true));
    }

    #[test]
    fn an_exchanger_that_has_reported_is_missed_after_a_day_and_after_a_restart() {
        let (dir, now) = (TempDir::new().unwrap(), Instant::now());
        let is_whole = |queues: &Queues, at| {
            queues.waits(plan(), false, at).map(|waits| waits.is_whole)
        };
        let queues = Queues::kept_in(dir.path()).unwrap();
        assert_eq!(is_whole(&queues, now), None);
        queues.take(report("mx1", 1, 0), now);
        queues.take(report("mx2", 1, 0), now);
        let two_days_later = now + Duration::from_hours(48);
        queues.take(report("mx1", 1, 0), two_days_later);
        assert_eq!(is_whole(&queues, two_days_later), Some(false));

        let queues = Queues::kept_in(dir.path()).unwrap();
        let mut rollout = rollout();
        queues.show_in(&mut rollout, now);
        let shown = rollout.exchangers.iter().map(|it| (it.name.as_str(), it.silent));
        assert_eq!(shown.collect::<Vec<_>>(), [("mx1", true), ("mx2", true)]);
        assert_eq!(is_whole(&queues, now), Some(false));
        queues.take(report("mx1", 1, 0), now);
        assert_eq!(is_whole(&queues, now), Some(false));
        // A person takes the other one's line out.
        std::fs::write(dir.path().join("exchangers"), "mx1\n").unwrap();
        assert_eq!(is_whole(&queues, now), Some(true));
    }

    #[test]
    fn what_the_journal_shows_to_have_been_measured_is_missed_where_no_name_was_kept() {
        let (dir, now) = (TempDir::new().unwrap(), Instant::now());
        let queues = Queues::kept_in(dir.path()).unwrap();
        let is_whole = || queues.waits(plan(), true, now).map(|waits| waits.is_whole);

        assert_eq!(is_whole(), Some(false));
        std::fs::write(dir.path().join("exchangers"), "").unwrap();
        assert_eq!(is_whole(), None);
    }

    #[test]
    fn a_silent_exchanger_is_named_and_counted_no_more() {
        let (queues, now) = (Queues::default(), Instant::now());
        queues.take(report("mx1", 3, 2_000), now);
        let mut rollout = rollout();

        queues.show_in(&mut rollout, now + SILENT_AFTER);

        assert_eq!(rollout.exchangers.first().map(|it| it.silent), Some(true));
        assert!(rollout.waves.iter().all(|wave| wave.queue.is_none()));
    }

    fn report(name: &str, messages: u64, oldest_millis: u64) -> QueueReport {
        QueueReport {
            exchanger: name.to_owned(),
            plan: plan(),
            listed_at: Timestamp::default(),
            waves: vec![WaveQueue {
                wave: WaveNumber::new(1),
                messages,
                recipients: messages,
                oldest_at: Some(Timestamp::from_millis(oldest_millis)),
                ..WaveQueue::default()
            }],
            elsewhere_messages: 0,
            nodes: vec![(NodeNumber::new(1), u32::try_from(messages).unwrap())],
        }
    }

    fn rollout() -> v1::Rollout {
        let wave = |number| v1::Wave { number, ..v1::Wave::default() };
        v1::Rollout {
            plan_digest: plan().to_string(),
            waves: vec![wave(0), wave(1)],
            ..v1::Rollout::default()
        }
    }

    fn plan() -> Digest {
        Digest::from_hex(&"5a".repeat(32)).unwrap()
    }
}
