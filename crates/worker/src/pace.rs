//! Pace: how many mailboxes may open now, so that the node's users are served as they come.
//!
//! # Invariants
//!
//! * Before the coordinator has said how fast, nothing may open.
//! * What is felt before that is not lost.
//! * What was counted on one level says nothing of another: mail may come in where nobody reads.

use std::time::Duration;

use tidegate_admission::{Counted, Visits};
use tidegate_core::mailbox::Level;
use tidegate_core::pace::{self, Crowd, Felt, Lesson, Logins, PaceReport, Retries};
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::worker::NodeSettings;

use crate::store::Reads;

/// How often it learns: as often as the rate follows what is felt.
const LEARN_EVERY: Span = Span::from_secs(10);

/// The pace of this node.
#[derive(Debug)]
pub(crate) struct Pace {
    salt: u64,
    controller: Option<pace::Pace>,
    /// The node's part of what all nodes together may open, thousandths in a second.
    part: Option<u32>,
    felt: Option<(Felt, Timestamp)>,
    /// The highest level that anything on the node may come to.
    level: Level,
    learned_at: Option<Timestamp>,
}

impl Pace {
    /// The pace of `node`, which knows no limits yet. Nodes of different names open their
    /// batches at different instants.
    pub(crate) fn of(node: &str) -> Self {
        let digest = blake3::hash(node.as_bytes());
        let first = digest.as_bytes().iter().take(8);
        let salt = first.fold(0, |salt, byte| salt << 8 | u64::from(*byte));
        let (controller, part, felt) = (None, None, None);
        Self { salt, controller, part, felt, level: Level::HELD, learned_at: None }
    }

    /// Grants what has become due by `now`.
    pub(crate) fn fill(&mut self, settings: &NodeSettings, now: Timestamp) {
        let own = settings.open_per_second;
        let controller = self
            .controller
            .get_or_insert_with(|| pace::Pace::new(settings.pace, own, self.salt));
        if let Some((felt, at)) = self.felt.take() {
            controller.feel(&felt, at);
        }
        let limit = u64::from(own) * 1_000;
        controller.limit_to(self.part.map_or(limit, |part| limit.min(u64::from(part))));
        controller.fill(now);
    }

    /// Mailboxes may come to this level; on a higher one than before others come in than those
    /// who were counted.
    pub(crate) fn open_up_to(&mut self, level: Level) {
        let before = std::mem::replace(&mut self.level, level);
        if level > before
            && let Some(controller) = &mut self.controller
        {
            controller.begin_anew();
        }
    }

    /// Whether it has not learned for a while.
    pub(crate) fn is_lesson_due(&self, now: Timestamp) -> bool {
        self.learned_at.is_none_or(|at| now.since(at) >= LEARN_EVERY)
    }

    /// Learns from who came, and from how long reading took.
    pub(crate) fn learn(
        &mut self,
        settings: &NodeSettings,
        visits: &Visits,
        reads: Reads,
        now: Timestamp,
    ) {
        let before = self.learned_at.replace(now);
        let Some(controller) = &mut self.controller else { return };
        let counted = visits.count(self.level.get());
        let over = before.map(|before| now.since(before));
        controller.learn(&lesson(counted, over, reads), now);
        // Whoever is slower than was assumed must not be taken for somebody who stays away.
        let learned = controller.report().basis.map(|basis| basis.retry);
        let period = settings.pace.retry.max(learned.unwrap_or_default());
        visits.set_period(Duration::from_millis(period.millis()));
    }

    /// How many mailboxes may open now.
    pub(crate) fn whole(&self) -> usize {
        self.controller.as_ref().map_or(0, pace::Pace::whole)
    }

    /// Takes off what is being opened.
    pub(crate) fn spend(&mut self, openings: usize) {
        if let Some(controller) = &mut self.controller {
            controller.spend(openings);
        }
    }

    /// Remembers what the node's users feel now.
    pub(crate) fn feel(&mut self, felt: &Felt, now: Timestamp) {
        match &mut self.controller {
            Some(controller) => controller.feel(felt, now),
            None => self.felt = Some((*felt, now)),
        }
    }

    /// Remembers how much of what all nodes may open this one may, thousandths in a second.
    pub(crate) fn take_part(&mut self, open_millis_per_second: Option<u32>) {
        self.part = open_millis_per_second;
    }

    /// How fast it is, and why.
    pub(crate) fn report(&self) -> Option<PaceReport> {
        self.controller.as_ref().map(pace::Pace::report)
    }
}

/// What was counted, in words of the pace. The first count is of no certain time.
fn lesson(counted: Counted, over: Option<Span>, reads: Reads) -> Lesson {
    let Counted { crowd, waiting, came_again_within, first, again, is_complete } =
        counted;
    let within = u64::try_from(came_again_within.as_millis()).unwrap_or(u64::MAX);
    let over = over.filter(|_| is_complete);
    Lesson {
        crowd: Crowd {
            opened: crowd.opened,
            users: crowd.users,
            connections: crowd.connections,
            connections_squared: crowd.connections_squared,
        },
        retries: Retries { mailboxes: waiting, within: Span::from_millis(within) },
        logins: over.map(|over| Logins { over, first, again }),
        first_reads_micros: reads.first,
        later_reads_micros: reads.later,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::gate::GatePolicy;
    use tidegate_core::pace::{PaceBasis, PacePolicy, Population};
    use tidegate_wire::worker::NodeNotice;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn who_came_to_one_level_is_believed_there_and_nowhere_else() {
        let (visits, settings) = (Visits::default(), settings());
        let mut pace = Pace::of("stor-01");
        pace.open_up_to(Level::FIRST);
        pace.fill(&settings, START);
        // A first lesson says how soon programs look here: within a millisecond.
        pace.learn(&settings, &visits, Reads::default(), START);
        let addresses: Vec<String> =
            (0..200).map(|n| format!("user{n}@example.org")).collect();
        visits.opened(addresses.iter().map(String::as_str), Level::FIRST.get());

        // Two milliseconds later everybody has had time to come.
        let mut now = START;
        let counted = loop {
            now = now + LEARN_EVERY;
            assert!(pace.is_lesson_due(now));
            pace.learn(&settings, &visits, Reads::default(), now);
            let basis = basis(&pace);
            if basis.counted > 0 {
                break basis;
            }
        };

        assert_eq!(counted.counted, 200);
        assert!(counted.population.active < Population::UNKNOWN.active);
        pace.open_up_to(Level::FIRST.above());
        pace.learn(&settings, &visits, Reads::default(), now + LEARN_EVERY);
        assert_eq!(basis(&pace).population, Population::UNKNOWN);
        pace.open_up_to(Level::FIRST);
        pace.learn(&settings, &visits, Reads::default(), now + LEARN_EVERY);
        assert_eq!(basis(&pace).counted, 200);
    }

    #[test]
    fn logins_of_which_some_were_not_counted_teach_nothing() {
        let counted = Counted { first: 3, again: 4, ..Counted::default() };
        let over = Some(LEARN_EVERY);

        let whole = Counted { is_complete: true, ..counted };

        assert_eq!(lesson(counted, over, Reads::default()).logins, None);
        assert_eq!(lesson(whole, None, Reads::default()).logins, None);
        let logins = Logins { over: LEARN_EVERY, first: 3, again: 4 };
        assert_eq!(lesson(whole, over, Reads::default()).logins, Some(logins));
    }

    fn basis(pace: &Pace) -> PaceBasis {
        pace.report().and_then(|report| report.basis).expect("it has been filled")
    }

    fn settings() -> NodeSettings {
        let retry = Span::from_millis(1);
        NodeSettings {
            ladder: Vec::new(),
            soak: Span::ZERO,
            slow_after: Span::ZERO,
            open_per_second: 20,
            prepare_threads: 1,
            notice: NodeNotice::default(),
            dial_services: Vec::new(),
            pulse_limits: GatePolicy::DEFAULT.signals.limits(),
            pace: PacePolicy { retry, ..PacePolicy::DEFAULT },
        }
    }
}
