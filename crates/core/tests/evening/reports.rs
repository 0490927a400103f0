//! Reports that come late, twice, in another order, or say what cannot be.

use proptest::prelude::*;
use tidegate_core::fleet::{Generation, Incarnation, JobNumber, NodeNumber, Ordinal};
use tidegate_core::holding::{Holding, Lease, Outcome, Probed, Record as Noted, Room};
use tidegate_core::mailbox::{Health, Level, MailboxState, Preparation};
use tidegate_core::rollout::{Event, JobReport, MessageTotals, Record, Sync};
use tidegate_core::time::Span;

use super::fleet::{Evening, unreadable};
use super::rebuild::{asking, lose_the_journal};

/// How a report differs from an honest one.
#[derive(Clone, Copy, Debug)]
struct Twist {
    generation: i64,
    incarnation: u64,
    sequence: i64,
    node: u16,
    job: u32,
    ordinal: u16,
    state: MailboxState,
}

fn states() -> impl Strategy<Value = MailboxState> {
    let bytes: Vec<MailboxState> =
        (0..=u8::MAX).filter_map(|byte| MailboxState::unpack(byte).ok()).collect();
    proptest::sample::select(bytes)
}

fn twists() -> impl Strategy<Value = Twist> {
    (-3..3_i64, 0..3_u64, -3..3_i64, 0..3_u16, 0..12_u32, 0..40_u16, states()).prop_map(
        |(generation, incarnation, sequence, node, job, ordinal, state)| Twist {
            generation,
            incarnation,
            sequence,
            node,
            job,
            ordinal,
            state,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn only_the_present_run_of_the_present_generation_is_believed(
        beats in 4..90_u32,
        twists in proptest::collection::vec(twists(), 1..24),
    ) {
        let mut evening = Evening::new(3, 120);
        evening.pass(beats);
        for twist in twists {
            let sync = twisted(&evening, twist);
            let before = evening.rollout.clone();
            let step = evening.rollout.decide(&Event::Sync(sync.clone()), evening.now);
            let honest = before.worker_of(sync.node) == Some(sync.incarnation);
            prop_assert!(honest || step.records.is_empty());
            for record in &step.records {
                prop_assert!(may_follow(&evening, &sync, record), "{record:?}");
            }
            for record in step.records {
                evening.rollout.apply(&record);
                evening.records.push(record);
            }
            // The same thing told again is no news.
            let again = evening.rollout.decide(&Event::Sync(sync), evening.now);
            let facts = |it: &&Record| matches!(it, Record::FactsReported { .. });
            prop_assert_eq!(again.records.iter().filter(facts).count(), 0);
        }
    }

    #[test]
    fn bad_health_stays_until_the_generation_or_the_mailbox_has_changed(
        states in proptest::collection::vec(states(), 2..20),
    ) {
        let mut worst = Health::Unproven;
        let mut known = MailboxState::HELD;
        for news in states {
            let merged = known.merge(news);
            worst = if news.is_open() { worst.max(merged.health) } else { Health::Unproven };
            if known.health >= Health::Failed && news.is_open() {
                prop_assert!(merged.health >= known.health);
            }
            prop_assert!(!merged.is_open() || merged.preparation == Preparation::Prepared);
            prop_assert_eq!(merged.merge(news), merged, "told twice");
            known = merged;
        }
        prop_assert!(worst >= known.health);
    }
}

#[test]
fn a_mailbox_that_could_not_be_read_is_read_again_in_case_its_mail_is_altered() {
    let mut evening = Evening::new(1, 120);
    evening.until(600, |evening| evening.open() > 5);
    let worker = &mut evening.workers[0];
    let (job, held) = worker.holding.jobs().next().unwrap();
    let (generation, ordinal) = (held.generation(), Ordinal::new(0));
    let level = held.state(ordinal).unwrap().level;
    let read_as = |holding: &mut Holding, outcome, now| {
        let probed = vec![Probed { ordinal, level, mature: true, outcome }];
        holding.probed(job, generation, probed, now)
    };
    let failed = Outcome::Unreadable(unreadable(ordinal));
    let noted = read_as(&mut worker.holding, failed.clone(), evening.now);
    worker.remember(noted);
    let later = evening.now + Span::from_secs(3_600);
    let lease = Lease { now: later, until: later };
    let room = Room { probe: 100, ..Room::default() };
    let soaks = worker.plan.policy().soaks();

    let work = worker.holding.work(lease, &soaks, room, &|_, _| false);
    let again = read_as(&mut worker.holding, failed, later);
    let altered =
        read_as(&mut worker.holding, Outcome::Altered(unreadable(ordinal)), later);

    assert!(work.probe.iter().any(|task| (task.job, task.ordinal) == (job, ordinal)));
    assert_eq!(again, None, "nothing new");
    let Some(Noted::HealthNoted { healths, .. }) = altered else { panic!("{altered:?}") };
    assert_eq!(healths, [(ordinal, Health::IntegrityFailed)]);
}

#[test]
fn a_report_from_before_a_node_has_joined_is_no_part_of_what_it_tells_to_a_rebuild() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 40);
    let worker = &mut evening.workers[0];
    worker.sent += 1;
    let told = worker.holding.report(500);
    worker.holding.confirmed(&told);
    // All that it holds was confirmed by the coordinator whose journal is gone.
    let late = worker.sync(Vec::new());
    let account = late.account.clone().unwrap();
    assert_eq!((account.untold, account.answered > 0), (0, true));

    lose_the_journal(&mut evening);
    let ask = asking(&evening.workers[0]);
    evening.coordinate(&Event::Join(ask)).unwrap();
    let refused = evening.coordinate(&Event::Sync(late)).unwrap_err();

    assert_eq!(refused.code(), "not-the-worker");
    assert_eq!(evening.rollout.rebuilding().unwrap().told, 0);
    evening.until(60, |evening| evening.rollout.rebuilding().is_none());
    let status = evening.rollout.status(evening.now);
    let known: u32 = status.nodes.iter().map(|node| node.open).sum();
    assert_eq!(known as usize, evening.open());
}

/// A report of one mailbox with something wrong with it, perhaps.
fn twisted(evening: &Evening, twist: Twist) -> Sync {
    let worker = &evening.workers[usize::from(twist.node)];
    let job = JobNumber::new(twist.job);
    let held = worker
        .holding
        .job(job)
        .map_or(Generation::default(), tidegate_core::holding::HeldJob::generation);
    let generation = held.get().saturating_add_signed(twist.generation).max(1);
    let facts = vec![(Ordinal::new(twist.ordinal), twist.state)];
    let report = JobReport {
        job,
        generation: Generation::new(generation),
        facts,
        totals: MessageTotals::default(),
        findings: Vec::new(),
    };
    let mut sync = worker.sync(vec![report]);
    sync.node = NodeNumber::new(twist.node);
    sync.incarnation = Incarnation::new(worker.incarnation.get() + twist.incarnation);
    sync.sequence = worker.sent.saturating_add_signed(twist.sequence);
    sync
}

/// Whether a report may lead to this record.
fn may_follow(evening: &Evening, sync: &Sync, record: &Record) -> bool {
    if let Record::JobLeased { incarnation, .. } = record {
        return *incarnation == sync.incarnation;
    }
    let Record::FactsReported { job, generation, facts, .. } = record else {
        return false;
    };
    let plan = evening.rollout.plan();
    let orders = evening.rollout.orders(sync.node).jobs;
    let current = orders.iter().find(|order| order.job == *job);
    let size = plan.members(*job).len();
    current.is_some_and(|order| order.generation == *generation)
        && plan.jobs()[job.index()].node == sync.node
        && facts.iter().all(|(ordinal, _)| ordinal.index() < size)
        && facts.iter().all(|(_, state)| state.level <= Level::MAX)
}
