//! Evenings: a coordinator's and its workers' decisions against each other, in one thread,
//! with a mail store that exists only as good and bad mailboxes.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::panic, reason = "a failing test says what it saw")]
#![expect(clippy::indexing_slicing, reason = "fleets of known size")]

#[path = "evening/calendar.rs"]
mod calendar;
#[path = "evening/closing.rs"]
mod closing;
#[path = "evening/dial.rs"]
mod dial;
#[path = "evening/doubt.rs"]
mod doubt;
#[path = "evening/emergency.rs"]
mod emergency;
#[path = "evening/fenced.rs"]
mod fenced;
#[path = "evening/fleet.rs"]
mod fleet;
#[path = "evening/freeze.rs"]
mod freeze;
#[path = "evening/grounds.rs"]
mod grounds;
#[path = "evening/kept_back.rs"]
mod kept_back;
#[path = "evening/overridden.rs"]
mod overridden;
#[path = "evening/permits.rs"]
mod permits;
#[path = "evening/put_back.rs"]
mod put_back;
#[path = "evening/rebuild.rs"]
mod rebuild;
#[path = "evening/reports.rs"]
mod reports;
#[path = "evening/retry.rs"]
mod retry;
#[path = "evening/schedule.rs"]
mod schedule;

use std::sync::Arc;

use tidegate_core::fleet::{
    Generation, Incarnation, JobNumber, NodeNumber, Ordinal, WaveNumber,
};
use tidegate_core::gate::PulseSignal;
use tidegate_core::holding::{Lease, Look};
use tidegate_core::mailbox::{Health, Level, MailboxState};
use tidegate_core::rollout::{
    Event, Finding, Grade, Grades, JobReport, Join, MessageTotals, Phase, Record,
    Refusal, Scope, Sync, Verb,
};

use fleet::{BEAT, Evening, unreadable};

#[test]
fn a_healthy_fleet_comes_back_wave_by_wave() {
    let mut evening = Evening::new(3, 120);

    evening.until(600, Evening::is_finished);

    let allowed = evening.story(|record| {
        let Record::LevelAllowed { wave, level, .. } = record else { return None };
        Some((wave.get(), level.get()))
    });
    assert_eq!(allowed, [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]);
    assert_eq!(evening.open(), 120);
}

#[test]
fn nothing_of_a_later_wave_opens_before_the_wave_before_has_passed() {
    let mut evening = Evening::new(3, 120);

    evening.until(600, |evening| {
        let rollout = &evening.rollout;
        let status = rollout.status(evening.now);
        let current = status.waves.iter().position(|wave| wave.passed.get() < 2);
        let later =
            status.waves.iter().skip(current.unwrap_or(usize::MAX).saturating_add(1));
        assert_eq!(later.map(|wave| wave.open).sum::<u32>(), 0);
        evening.is_finished()
    });
}

#[test]
fn a_sick_node_is_isolated_and_the_others_go_on() {
    let mut evening = Evening::new(3, 120);
    evening.sick = (0..40).map(|key| (NodeNumber::new(1), key)).collect();

    evening.until(600, Evening::is_over);

    let isolated = evening.story(|record| {
        let Record::NodeIsolated { node, .. } = record else { return None };
        Some(node.get())
    });
    assert_eq!(isolated, [1]);
    assert!(evening.is_finished(), "{:?}", evening.rollout.phase());
}

#[test]
fn an_isolated_node_proves_itself_anew_after_a_reclose() {
    let mut evening = Evening::new(3, 120);
    evening.sick = (0..40).map(|key| (NodeNumber::new(1), key)).collect();
    evening.until(600, Evening::is_over);
    let node = Scope::Node(NodeNumber::new(1));

    let refused = evening.operate(Verb::Resume(Some(node)), "hope").unwrap_err();
    evening.sick.clear();
    evening.operate(Verb::Reclose(node), "repaired").unwrap();
    evening.until(20, |evening| evening.rollout.still_open(node) == 0);
    evening.operate(Verb::Resume(Some(node)), "repaired").unwrap();
    evening.operate(Verb::Resume(None), "repaired").unwrap();
    evening.pass(300);

    assert_eq!(refused.code(), "isolation-stands");
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_sick_fleet_halts() {
    let mut evening = Evening::new(3, 120);
    for node in 0..3 {
        evening.sick.extend((0..40).map(|key| (NodeNumber::new(node), key)));
    }

    evening.until(600, Evening::is_over);

    assert!(matches!(evening.rollout.phase(), Phase::Halted { .. }));
}

#[test]
fn a_pause_is_effective_when_every_node_obeys_and_nothing_opens_after_it() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);

    evening.operate(Verb::Pause, "").unwrap();
    evening.until(20, |evening| {
        evening
            .rollout
            .status(evening.now)
            .stop
            .is_some_and(|s| s.unacknowledged.is_empty())
    });
    let open = evening.open();
    evening.pass(60);

    assert_eq!(evening.open(), open);
    evening.operate(Verb::Resume(None), "seen enough").unwrap();
    evening.until(600, Evening::is_finished);
}

#[test]
fn a_reclosed_wave_is_held_again_and_can_be_opened_again() {
    let mut evening = Evening::new(3, 120);
    let first = Scope::Wave(WaveNumber::new(0));
    evening.until(600, |evening| evening.story_has(2));

    evening.operate(Verb::Reclose(first), "complaints").unwrap();
    evening.until(20, |evening| evening.rollout.still_open(first) == 0);

    assert!(matches!(evening.rollout.phase(), Phase::Paused(_)));
    evening.operate(Verb::Resume(Some(first)), "looked at").unwrap();
    evening.operate(Verb::Resume(None), "looked at").unwrap();
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn what_was_reclosed_closes_even_if_it_is_resumed_before_the_worker_has_heard() {
    let mut evening = Evening::new(3, 120);
    let first = Scope::Wave(WaveNumber::new(0));
    evening.until(600, |evening| evening.story_has(2));
    let closed = |evening: &Evening| {
        use tidegate_core::holding::Record::Closed;
        let records = evening.workers.iter().flat_map(|worker| &worker.records);
        let closings = records.filter_map(|record| {
            let Closed { ordinals, .. } = record else { return None };
            Some(ordinals.len())
        });
        closings.sum::<usize>()
    };

    evening.operate(Verb::Reclose(first), "complaints").unwrap();
    evening.operate(Verb::Resume(Some(first)), "too early").unwrap();
    evening.operate(Verb::Resume(None), "too early").unwrap();
    evening.until(900, Evening::is_finished);

    assert_eq!(closed(&evening), 12, "every mailbox of the wave was closed once");
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_worker_that_joins_a_paused_rollout_leaves_the_pause_effective() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let effective = |evening: &Evening| {
        evening
            .rollout
            .status(evening.now)
            .stop
            .is_some_and(|s| s.unacknowledged.is_empty())
    };
    evening.operate(Verb::Pause, "").unwrap();
    evening.until(20, effective);

    evening.restart_worker(1);
    for _ in 0..60 {
        evening.pass(1);
        assert!(effective(&evening));
    }
}

#[test]
fn what_comes_back_after_the_end_can_be_paused() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, Evening::is_finished);
    let node = Scope::Node(NodeNumber::new(1));
    evening.operate(Verb::Reclose(node), "disks").unwrap();
    evening.until(20, |evening| evening.rollout.still_open(node) == 0);
    evening.operate(Verb::Resume(Some(node)), "replaced").unwrap();
    evening.operate(Verb::Resume(None), "replaced").unwrap();
    evening.until(20, Evening::is_finished);

    evening.operate(Verb::Pause, "").unwrap();
    evening.until(20, |evening| {
        evening
            .rollout
            .status(evening.now)
            .stop
            .is_some_and(|s| s.unacknowledged.is_empty())
    });
    let open = evening.open();
    evening.pass(60);

    assert_eq!(evening.open(), open);
    assert!(open < 120);
    evening.operate(Verb::Resume(None), "go on").unwrap();
    evening.until(120, |evening| evening.open() == 120);
}

#[test]
fn one_reclosed_mailbox_stays_held_until_it_is_resumed() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, Evening::is_finished);
    let plan = Arc::clone(evening.rollout.plan());
    let mailbox = Scope::Mailbox(plan.members(JobNumber::new(0))[0]);

    evening.operate(Verb::Reclose(mailbox), "wrong person").unwrap();
    evening.until(20, |evening| evening.rollout.still_open(mailbox) == 0);
    evening.pass(60);

    assert_eq!(evening.open(), 119);
    evening.operate(Verb::Resume(Some(mailbox)), "solved").unwrap();
    evening.until(60, |evening| evening.open() == 120);
}

#[test]
fn a_halt_is_not_waited_out() {
    let mut evening = Evening::new(3, 120);
    for node in 0..3 {
        evening.sick.extend((0..40).map(|key| (NodeNumber::new(node), key)));
    }
    evening.until(600, Evening::is_over);

    let refused = evening.operate(Verb::Resume(None), "hope").unwrap_err();

    assert_eq!(refused.code(), "halt-stands");
}

#[test]
fn a_restarted_worker_opens_nothing_twice_and_loses_nothing() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let open = evening.open();

    evening.restart_worker(1);
    evening.pass(1);

    assert!(evening.open() >= open);
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn what_a_worker_measured_before_its_restart_is_missed_until_it_is_measured_again() {
    let mut evening = Evening::new(3, 120);
    evening.pass(4);
    let mut sync = evening.workers[0].sync(Vec::new());
    (0..3).for_each(|_| sync.vitals.pulses.note(PulseSignal::Canary, 0, 0));
    evening.rollout.hear(&sync, evening.now);

    evening.restart_worker(0);
    let worker = &evening.workers[0];
    let join = Join {
        node: "n0".to_owned(),
        incarnation: worker.incarnation,
        claimed_max: worker.holding.generation_max(),
        orders_seen: 0,
        journaled: None,
        store_claimed: Generation::default(),
    };
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    evening.coordinate(&Event::Join(join)).unwrap();

    let evidence = evening.rollout.evidence(WaveNumber::new(0), evening.now);
    let pulse = evidence.nodes[0].pulses.get(PulseSignal::Canary);
    assert_eq!(pulse.map(|it| (it.minutes, it.silent)), Some((0, 0)));
    assert_eq!(evidence.nodes[1].pulses.get(PulseSignal::Canary), None);
}

#[test]
fn a_coordinator_that_replays_its_records_is_the_same() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 30);
    let before = evening.rollout.status(evening.now);

    evening.restart_coordinator();

    let after = evening.rollout.status(evening.now);
    let counts = |status: &tidegate_core::rollout::RolloutStatus| {
        let waves =
            status.waves.iter().map(|w| (w.passed, w.allowed, w.open, w.prepared));
        waves.collect::<Vec<_>>()
    };
    assert_eq!(counts(&before), counts(&after));
    evening.until(900, Evening::is_finished);
}

#[test]
fn a_silent_worker_opens_nothing_when_its_lease_has_ended() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);

    evening.cut = true;
    let lease = evening.rollout.plan().policy().limits.lease;
    evening.now = evening.now + lease;
    let open = evening.open();
    evening.pass(60);

    assert_eq!(evening.open(), open);
    evening.cut = false;
    evening.until(900, Evening::is_finished);
}

#[test]
fn a_second_worker_is_refused_while_the_first_is_heard() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);

    let second = Event::Join(Join {
        node: "n0".to_owned(),
        incarnation: Incarnation::new(99),
        claimed_max: Generation::default(),
        orders_seen: 0,
        journaled: None,
        store_claimed: Generation::default(),
    });
    let refused = evening.rollout.decide(&second, evening.now).refusal;

    assert!(matches!(refused, Some(Refusal::NodeTaken { .. })));
}

#[test]
fn a_coordinator_older_than_its_fleet_refuses_to_lead() {
    let evening = Evening::new(3, 120);

    let join = Event::Join(Join {
        node: "n0".to_owned(),
        incarnation: Incarnation::new(99),
        claimed_max: Generation::new(1_000),
        orders_seen: 0,
        journaled: None,
        store_claimed: Generation::default(),
    });
    let refused = evening.rollout.decide(&join, evening.now).refusal;

    assert!(matches!(refused, Some(Refusal::JournalTooOld { .. })));
}

#[test]
fn a_coordinator_that_has_forgotten_generations_is_not_reported_to() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let mut sync = evening.workers[0].sync(Vec::new());
    sync.claimed_max = Generation::new(1_000);

    let refused = evening.rollout.decide(&Event::Sync(sync), evening.now).refusal;

    assert!(matches!(refused, Some(Refusal::JournalTooOld { .. })));
}

#[test]
fn what_is_told_of_a_mailbox_replaces_what_was_told_of_it_before() {
    let mut evening = Evening::new(1, 40);
    evening.until(600, |evening| evening.open() > 5);
    let (job, ordinal) = (JobNumber::new(0), Ordinal::new(0));
    let mut all = evening.workers[0].holding.clone();
    all.forget_orders();
    let mut tell = |name: &str| {
        let mut report = all.report(1);
        let finding = Finding { name: name.to_owned(), ..unreadable(ordinal) };
        report[0].findings = if name.is_empty() { Vec::new() } else { vec![finding] };
        let mut sync = evening.workers[0].sync(report);
        sync.sequence = 1 << 40;
        evening.coordinate(&Event::Sync(sync)).unwrap();
        let findings = evening.rollout.findings(job);
        findings.iter().map(|finding| finding.name.clone()).collect::<Vec<_>>()
    };

    let told = [tell("first"), tell("second"), tell("second"), tell("")];

    assert_eq!(told, [vec!["first"], vec!["second"], vec!["second"], vec![]]);
}

#[test]
fn facts_of_an_older_generation_change_nothing() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let worker = &evening.workers[0];
    let mut all = worker.holding.clone();
    all.forget_orders();
    let stale = all.report(10_000);
    evening.operate(Verb::Reclose(Scope::Node(NodeNumber::new(0))), "test").unwrap();
    let before = evening.rollout.status(evening.now);

    let sync = evening.workers[0].sync(stale);
    let step = evening.rollout.decide(&Event::Sync(sync), evening.now);

    assert!(!step.records.iter().any(|r| matches!(r, Record::FactsReported { .. })));
    assert_eq!(before.nodes[0].open, evening.rollout.status(evening.now).nodes[0].open);
}

#[test]
fn bad_news_outlast_a_restart_and_a_report_that_was_sent_before_them() {
    let mut evening = Evening::new(1, 120);
    evening.until(600, |evening| evening.open() > 5);
    let before = evening.workers[0].sync(Vec::new());
    let (job, held) = evening.workers[0].holding.jobs().next().unwrap();
    let generation = held.generation();
    let tell = |sequence, state| {
        let facts = vec![(Ordinal::new(0), state)];
        let (totals, findings) = (MessageTotals::default(), Vec::new());
        let report = JobReport { job, generation, facts, totals, findings };
        Sync { sequence, reports: vec![report], ..before.clone() }
    };
    let open = MailboxState { level: Level::FIRST, ..MailboxState::unpack(1).unwrap() };
    let bad = MailboxState { health: Health::Failed, ..open };
    let (first, second) = (before.sequence + 1, before.sequence + 2);
    evening
        .rollout
        .decide(&Event::Sync(tell(second, bad)), evening.now)
        .records
        .iter()
        .for_each(|record| evening.rollout.apply(record));
    evening.rollout.wake(evening.now);

    let late = tell(first, MailboxState::HELD);
    let step = evening.rollout.decide(&Event::Sync(late), evening.now);

    assert_eq!(step.records, []);
}

#[test]
fn a_mailbox_that_is_taken_back_while_it_is_looked_at_does_not_open() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.story_has(0) && evening.settled() == 120);
    let now = evening.now;
    let worker = &mut evening.workers[0];
    let mut orders = evening.rollout.orders(worker.node);
    assert!(orders.may_open && orders.jobs[0].open_below > 0);
    worker.holding.hear(orders.clone());
    let (job, generation) = (orders.jobs[0].job, orders.jobs[0].generation);

    orders.version += 1;
    orders.jobs[0].generation = Generation::new(1_000);
    orders.jobs[0].held_back = vec![Ordinal::new(0)];
    worker.holding.hear(orders);
    let lease = Lease { now, until: now + BEAT };
    let looks = [(Ordinal::new(0), Look::Stamp([7; 16]))];
    let records = worker.holding.looked(job, generation, &looks, lease);

    assert_eq!(records, []);
}

#[test]
fn a_raised_mailbox_is_shown_only_while_the_word_holds() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let worker = &mut evening.workers[0];
    let (job, held) = worker.holding.jobs().next().unwrap();
    let place = held.states().position(MailboxState::is_open).unwrap();
    let ordinal = Ordinal::new(u16::try_from(place).unwrap());
    let lease = Lease { now: evening.now, until: evening.now + BEAT };

    let while_it_runs = worker.holding.may_stand(job, ordinal, lease);
    let late = Lease { now: lease.until, ..lease };
    let after_its_end = worker.holding.may_stand(job, ordinal, late);
    worker.holding.suspend();
    let after_a_stop = worker.holding.may_stand(job, ordinal, lease);

    assert_eq!((while_it_runs, after_its_end, after_a_stop), (true, false, false));
}

#[test]
fn what_was_permitted_counts_as_open_until_its_worker_says_otherwise() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.workers[0].holding.jobs().count() > 0);
    let plan = Arc::clone(evening.rollout.plan());
    let mailbox = Scope::Mailbox(plan.members(JobNumber::new(0))[0]);
    assert_eq!(evening.rollout.still_open(mailbox), 0);

    evening.operate(Verb::Reclose(mailbox), "wrong person").unwrap();
    let at_once = evening.rollout.still_open(mailbox);
    evening.pass(4);

    assert_eq!(at_once, 1);
    assert_eq!(evening.rollout.still_open(mailbox), 0);
}

#[test]
fn a_coordinator_that_has_just_woken_has_heard_nobody() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);

    evening.restart_coordinator();

    let heard = evening.rollout.status(evening.now).nodes;
    assert!(heard.iter().all(|node| node.heard_at.is_none()));
    evening.cut = true;
    let expanded = |evening: &Evening| {
        let is = |r: &Record| matches!(r, Record::Expanded { .. }).then_some(());
        evening.story(is).len()
    };
    let before = expanded(&evening);
    evening.pass(60);
    assert_eq!(expanded(&evening), before);
}

#[test]
fn totals_that_no_store_can_have_stop_nobody() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    for index in 0..2 {
        let mut all = evening.workers[index].holding.clone();
        all.forget_orders();
        let mut reports = all.report(10_000);
        for report in &mut reports {
            report.totals.intact = u64::MAX;
        }
        let sync = evening.workers[index].sync(reports);
        evening.coordinate(&Event::Sync(sync)).unwrap();
    }

    let totals = evening.rollout.status(evening.now).totals;

    assert_eq!(totals.intact, u64::MAX);
    assert_eq!(totals.served(), u64::MAX);
}

#[test]
fn a_wave_tells_the_grades_of_its_settled_mailboxes_and_the_worst_of_them() {
    let mut evening = Evening::new(3, 120);

    evening.until(600, Evening::is_finished);

    let status = evening.rollout.status(evening.now);
    for wave in &status.waves {
        let Grades { perfect, investigate, .. } = wave.grades;
        assert_eq!(perfect + investigate, wave.prepared);
        assert_eq!(wave.grades.worst(), Some(Grade::Investigate));
    }
    let all = status.waves.iter().map(|wave| wave.grades);
    assert_eq!(all.fold(Grades::default(), Grades::plus), status.totals.grades);
}

#[test]
fn a_report_that_comes_after_a_newer_one_changes_nothing() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let mut all = evening.workers[0].holding.clone();
    all.forget_orders();
    let mut late = evening.workers[0].sync(all.report(10_000));
    late.sequence = 4;
    for (_, state) in &mut late.reports[0].facts {
        *state = MailboxState::HELD;
    }
    let mut newer = evening.workers[0].sync(Vec::new());
    newer.sequence = 5;

    evening.rollout.hear(&newer, evening.now);
    let step = evening.rollout.decide(&Event::Sync(late), evening.now);

    assert_eq!(step.records, []);
}

#[test]
fn a_node_that_comes_back_after_the_end_is_still_watched() {
    let mut evening = Evening::new(3, 120);
    let node = NodeNumber::new(1);
    evening.sick = (0..40).map(|key| (node, key)).collect();
    evening.until(600, Evening::is_finished);

    evening.operate(Verb::Reclose(Scope::Node(node)), "repaired").unwrap();
    evening.until(20, |evening| evening.rollout.still_open(Scope::Node(node)) == 0);
    evening.operate(Verb::Resume(Some(Scope::Node(node))), "repaired").unwrap();
    evening.operate(Verb::Resume(None), "repaired").unwrap();
    evening.pass(200);

    let isolated = evening.story(|record| {
        let Record::NodeIsolated { node, .. } = record else { return None };
        Some(node.get())
    });
    assert_eq!(isolated, [1, 1]);
}
