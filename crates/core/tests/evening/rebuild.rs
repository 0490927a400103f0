//! Rebuild: a journal that is gone, one that is old, and workers put back to an older state.

use std::sync::Arc;

use tidegate_core::fleet::{Generation, MailboxNumber, NodeNumber, Ordinal, WaveNumber};
use tidegate_core::gate::HaltReason;
use tidegate_core::holding;
use tidegate_core::mailbox::{Health, Level, MailboxState};
use tidegate_core::policy::{Cohort, Selector};
use tidegate_core::rollout::{
    Action, Etag, Event, Join, MessageTotals, NodeCondition, Operate, Phase, Record,
    Refusal, RequestId, Rollout, Scope, Verb,
};

use super::fleet::{Evening, Worker, small_policy, unreadable};

#[test]
fn a_rollout_whose_journal_is_gone_is_made_again_from_what_the_workers_hold() {
    for beats in (5..150).step_by(9) {
        let mut evening = Evening::new(3, 120);
        evening.pass(beats);
        let (open, claims) = (evening.open(), highest_claim(&evening));

        lose_the_journal(&mut evening);
        let refused = evening.operate(Verb::Resume(None), "at once");
        evening.until(200, |evening| evening.rollout.rebuilding().is_none());
        evening.pass(30);

        assert!(matches!(refused, Err(Refusal::NotRecounted { .. })), "{refused:?}");
        assert_eq!(evening.open(), open, "after {beats} beats");
        let issued = evening.story(|record| {
            let Record::JobLeased { generation, .. } = record else { return None };
            Some(*generation)
        });
        assert!(issued.iter().all(|generation| *generation > claims));
        evening.operate(Verb::Resume(None), "all nodes are here").unwrap();
        evening.until(900, Evening::is_finished);
        assert_eq!(evening.open(), 120);
        replays_the_same(&evening);
    }
}

#[test]
fn waves_are_allowed_what_was_seen_and_have_passed_what_later_ones_prove() {
    let mut evening = Evening::new(3, 120);
    let second_opens = |evening: &Evening| {
        let seen = evening.rollout.status(evening.now).waves;
        seen[1].open > 3 && seen[1].allowed == Level::FIRST
    };
    evening.until(600, second_opens);

    lose_the_journal(&mut evening);
    evening.until(200, |evening| evening.rollout.rebuilding().is_none());

    let waves = evening.rollout.status(evening.now).waves;
    let levels: Vec<_> =
        waves.iter().map(|wave| (wave.allowed.get(), wave.passed.get())).collect();
    assert_eq!(levels, [(2, 1), (1, 0), (0, 0)]);
}

#[test]
fn a_node_that_is_left_out_stays_as_it_is_until_somebody_accepts_it() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 40);
    let gone = evening.workers.remove(2);
    let open_there =
        gone.holding.jobs().flat_map(|(_, job)| job.states()).filter(|s| s.is_open());
    let open_there = open_there.count();
    assert!(open_there > 0);

    lose_the_journal(&mut evening);
    evening.pass(40);
    let missing = evening.operate(Verb::Resume(None), "go").unwrap_err();
    resume_without(&mut evening, 2).unwrap();
    evening.pass(40);
    evening.workers.push(gone);
    evening.workers[2].joined = false;
    evening.pass(20);
    let (status, left_open) = (evening.rollout.status(evening.now), open_on(&evening, 2));

    assert!(missing.to_string().contains("missing: `n2`"), "{missing}");
    assert_eq!(status.nodes[2].condition, NodeCondition::LeftOut);
    assert_eq!(left_open, open_there, "nobody has closed anything");
    let twice = evening.operate(Verb::Accept(NodeNumber::new(1)), "mistake").unwrap_err();
    assert!(matches!(twice, Refusal::NothingToAccept { .. }));
    evening.operate(Verb::Accept(NodeNumber::new(2)), "its switch is back").unwrap();
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
    replays_the_same(&evening);
}

#[test]
fn what_was_re_closed_before_the_journal_was_lost_waits_for_a_person_afterwards() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| {
        evening.rollout.status(evening.now).waves[1].allowed > Level::HELD
    });
    evening.operate(Verb::Reclose(Scope::Wave(WaveNumber::new(0))), "bad").unwrap();
    evening.until(60, |evening| {
        evening.rollout.still_open(Scope::Wave(WaveNumber::new(0))) == 0
    });

    lose_the_journal(&mut evening);
    evening.until(200, |evening| evening.rollout.rebuilding().is_none());
    evening.operate(Verb::Resume(None), "go").unwrap();
    evening.pass(100);

    assert_eq!(evening.rollout.still_open(Scope::Wave(WaveNumber::new(0))), 0);
    evening.operate(Verb::Resume(Some(Scope::Wave(WaveNumber::new(0)))), "ok").unwrap();
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_worker_that_was_put_back_to_an_older_state_does_nothing_until_it_is_accepted() {
    for kept in [0, 1, 2] {
        let mut evening = Evening::new(3, 120);
        evening.until(600, |evening| evening.open() > 20);
        // A re-close takes new generations everywhere, which the older state knows nothing of.
        let node = NodeNumber::new(1);
        evening.operate(Verb::Reclose(Scope::Node(node)), "disk").unwrap();
        evening.until(60, |evening| evening.rollout.still_open(Scope::Node(node)) == 0);
        evening.operate(Verb::Resume(Some(Scope::Node(node))), "mended").unwrap();
        evening.operate(Verb::Resume(None), "mended").unwrap();
        evening.until(300, |evening| open_on(evening, 1) > 5);

        put_back(&mut evening, 1, kept);
        evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
        let records = evening.workers[1].records.len();
        let early = evening.operate(Verb::Accept(node), "too early").unwrap_err();
        let refused = join(&mut evening, 1);
        evening.pass(20);

        assert!(matches!(early, Refusal::NothingToAccept { .. }));
        assert!(matches!(refused, Refusal::WorkerTooOld { .. }), "{refused:?}");
        assert_eq!(evening.workers[1].records.len(), records, "it did something");
        evening.rollout.turn_away(node);
        evening.operate(Verb::Accept(node), "the backup of yesterday").unwrap();
        evening.until(60, |evening| evening.rollout.still_open(Scope::Node(node)) == 0);
        evening.until(900, Evening::is_finished);
        assert_eq!(evening.open(), 120);
        replays_the_same(&evening);
    }
}

#[test]
fn a_worker_that_was_put_back_within_its_generations_is_turned_away_as_well() {
    let mut evening = Evening::new(3, 120);
    let node = NodeNumber::new(1);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    let claims = evening.workers[1].holding.generation_max();

    let records = &mut evening.workers[1].records;
    let is_claim =
        |record: &holding::Record| matches!(record, holding::Record::JobClaimed { .. });
    let end = records.iter().rposition(is_claim).unwrap() + 1;
    assert!(end < records.len());
    records.truncate(end);
    evening.restart_worker(1);
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    let refused = join(&mut evening, 1);

    assert_eq!(evening.workers[1].holding.generation_max(), claims);
    assert!(matches!(refused, Refusal::WorkerJournalTooOld { .. }), "{refused:?}");
    assert_eq!(refused.code(), "worker-too-old");
    evening.restart_coordinator();
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    assert_eq!(join(&mut evening, 1), refused, "a restart forgets nothing of it");
    evening.rollout.turn_away(node);
    evening.operate(Verb::Accept(node), "the backup of this noon").unwrap();
    evening.until(60, |evening| evening.rollout.still_open(Scope::Node(node)) == 0);
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
    replays_the_same(&evening);
}

#[test]
fn whoever_was_turned_away_is_forgotten_when_the_rightful_run_speaks() {
    let mut evening = Evening::new(3, 120);
    let node = NodeNumber::new(1);
    evening.until(600, |evening| open_on(evening, 1) > 5);

    evening.rollout.turn_away(node);
    evening.pass(2);

    let refused = evening.operate(Verb::Accept(node), "too late").unwrap_err();
    assert!(matches!(refused, Refusal::NothingToAccept { .. }), "{refused:?}");
}

#[test]
fn a_node_is_not_taken_from_a_worker_that_is_at_work() {
    let mut evening = Evening::new(3, 120);
    let node = NodeNumber::new(1);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    let lease = evening.rollout.plan().policy().limits.lease;

    // As when a copy of the machine knocks with the number of the run that is at work.
    evening.rollout.turn_away(node);
    let shown = evening.rollout.status(evening.now).nodes[1].condition;
    let refused = evening.operate(Verb::Accept(node), "the old one").unwrap_err();
    evening.now = evening.now + lease;
    let later = evening.rollout.status(evening.now).nodes[1].condition;

    assert_eq!(shown, NodeCondition::Working);
    assert_eq!(refused.code(), "node-at-work");
    assert!(refused.to_string().contains("stop that one"), "{refused}");
    assert_eq!(later, NodeCondition::TurnedAway);
    evening.operate(Verb::Accept(node), "the one at work is gone").unwrap();
}

#[test]
fn whoever_was_turned_away_is_forgotten_when_the_rightful_run_joins_again() {
    let mut evening = Evening::new(3, 120);
    let node = NodeNumber::new(1);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    evening.rollout.turn_away(node);

    evening.rollout.welcome(node);

    let refused = evening.operate(Verb::Accept(node), "too late").unwrap_err();
    assert!(matches!(refused, Refusal::NothingToAccept { .. }), "{refused:?}");
}

#[test]
fn a_rejoin_takes_no_finding_off_the_list_before_it_is_told_again() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    let jobs = evening.workers[1].holding.jobs();
    let (job, generation) =
        jobs.map(|(job, held)| (job, held.generation())).next().unwrap();
    let finding = unreadable(Ordinal::new(0));
    evening.rollout.apply(&Record::FactsReported {
        job,
        generation,
        sequence: 0,
        journaled: 0,
        facts: Vec::new(),
        totals: MessageTotals::default(),
        findings: vec![finding.clone()],
        at: evening.now,
    });

    evening.restart_worker(1);
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    let worker = &evening.workers[1];
    let ask = asking(worker);
    evening.coordinate(&Event::Join(ask)).unwrap();

    assert_eq!(evening.rollout.findings(job), [finding]);
    evening.pass(10);
    assert_eq!(evening.rollout.findings(job), [], "the worker knows nothing of it");
}

#[test]
fn claims_that_outlive_a_worker_s_journal_outlive_the_coordinator_s_too() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 20);
    let kept = Generation::new(highest_claim(&evening).get() + 50);

    lose_the_journal(&mut evening);
    let store_claimed = kept;
    let ask = Join {
        claimed_max: Generation::default(),
        store_claimed,
        ..asking(&evening.workers[1])
    };
    evening.coordinate(&Event::Join(ask)).unwrap();

    evening.until(200, |evening| evening.rollout.rebuilding().is_none());
    let issued = evening.story(|record| {
        let Record::JobLeased { generation, .. } = record else { return None };
        Some(*generation)
    });
    assert!(!issued.is_empty());
    assert!(issued.iter().all(|generation| *generation > kept));
}

#[test]
fn a_coordinator_put_back_to_an_older_state_is_obeyed_by_nobody() {
    let mut seen = 0;
    for beats in (10..120).step_by(7) {
        let mut evening = Evening::new(3, 120);
        evening.pass(beats);
        let backup = evening.records.len();
        evening.pass(25);
        let told = |record: &Record| matches!(record, Record::LevelAllowed { .. });
        if !evening.records[backup..].iter().any(told) {
            continue;
        }
        seen += 1;

        evening.records.truncate(backup);
        evening.restart_coordinator();
        let worker = &mut evening.workers[0];
        worker.sent += 1;
        let sync = worker.sync(worker.holding.report(50));
        let step = evening.rollout.decide(&Event::Sync(sync), evening.now);

        let refusal = step.refusal.map(|refusal| refusal.code());
        assert_eq!(refusal, Some("journal-too-old"), "after {beats} beats");
    }
    assert!(seen > 3);
}

#[test]
fn claims_of_one_node_do_not_vouch_for_those_of_another() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 20);
    let issued =
        |evening: &Evening, index: usize| evening.workers[index].holding.generation_max();
    let (first, last) = (issued(&evening, 0), issued(&evening, 2));
    assert!(first < last, "the test wants an order: {first} {last}");

    let worker = &mut evening.workers[0];
    worker.sent += 1;
    let mut sync = worker.sync(Vec::new());
    sync.claimed_max = last;
    let step = evening.rollout.decide(&Event::Sync(sync), evening.now);

    assert!(matches!(step.refusal, Some(Refusal::JournalTooOld { .. })));
}

#[test]
fn a_node_that_is_accepted_later_keeps_open_what_only_it_has_of_its_wave() {
    let mut policy = small_policy();
    let select = Selector { nodes: vec!["n2".to_owned()], ..Selector::default() };
    let all = policy.cohorts[0].clone();
    policy.cohorts.insert(0, Cohort { name: "here".to_owned(), select, ..all });
    let mut evening = Evening::under(policy);
    let on_top = |evening: &Evening| {
        let jobs = evening.workers[2].holding.jobs();
        jobs.flat_map(|(_, job)| job.states()).filter(|it| it.level.get() == 2).count()
    };
    evening.until(600, |evening| on_top(evening) > 6);
    let gone = evening.workers.remove(2);
    assert_eq!(evening.open(), 0, "the others come later");

    lose_the_journal(&mut evening);
    evening.pass(40);
    resume_without(&mut evening, 2).unwrap();
    evening.pass(5);
    evening.workers.push(gone);
    evening.workers[2].joined = false;
    let high = on_top(&evening);
    evening.operate(Verb::Accept(NodeNumber::new(2)), "its switch is back").unwrap();
    for _ in 0..60 {
        evening.pass(1);
        assert!(on_top(&evening) >= high, "somebody was thrown out");
    }

    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
    replays_the_same(&evening);
}

#[test]
fn what_an_older_state_holds_open_is_closed_when_it_is_accepted() {
    let mut evening = Evening::new(3, 120);
    evening.until(900, |evening| open_on(evening, 1) > 14);
    let image = evening.workers[1].records.clone();
    let node = NodeNumber::new(1);
    evening.operate(Verb::Reclose(Scope::Node(node)), "disk").unwrap();
    evening.until(60, |evening| evening.rollout.still_open(Scope::Node(node)) == 0);
    evening.operate(Verb::Resume(Some(Scope::Node(node))), "mended").unwrap();
    evening.pass(30);
    assert_eq!(open_on(&evening, 1), 0, "it is still paused");

    evening.workers[1].records = image;
    evening.restart_worker(1);
    assert!(open_on(&evening, 1) > 14);
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    assert!(matches!(join(&mut evening, 1), Refusal::WorkerTooOld { .. }));
    evening.rollout.turn_away(node);
    evening.operate(Verb::Accept(node), "the backup of yesterday").unwrap();
    evening.pass(20);

    assert_eq!(open_on(&evening, 1), 0, "nothing of it was verified anew");
    evening.operate(Verb::Resume(None), "go").unwrap();
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
    replays_the_same(&evening);
}

#[test]
fn altered_mail_that_was_found_halts_what_is_made_again() {
    for without in [false, true] {
        let mut evening = Evening::new(3, 120);
        evening.until(900, |evening| evening.open() > 20);
        shows_altered_mail(&mut evening, 0);

        if without {
            evening.workers.remove(2);
        }
        lose_the_journal(&mut evening);
        evening.pass(40);
        if without {
            resume_without(&mut evening, 2).unwrap();
        }
        let again = evening.operate(Verb::Resume(None), "go").unwrap_err();

        let phase = evening.rollout.phase().clone();
        let Phase::Halted { reason: HaltReason::Integrity { node, .. }, wave, .. } =
            phase
        else {
            panic!("{phase:?}")
        };
        assert_eq!((node, wave), (NodeNumber::new(0), WaveNumber::new(0)));
        assert!(matches!(again, Refusal::HaltStands { .. }), "{again:?}");
        evening.operate(Verb::Reclose(Scope::Wave(wave)), "as it says").unwrap();
        evening.operate(Verb::Resume(None), "re-closed").unwrap();
        replays_the_same(&evening);
    }
}

#[test]
fn numbers_that_nobody_can_have_counted_to_are_never_on_record() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 20);
    lose_the_journal(&mut evening);
    let worker = &evening.workers[0];
    let join = |claimed, orders_seen| Join {
        claimed_max: Generation::new(claimed),
        orders_seen,
        ..asking(worker)
    };
    let sync = worker.sync(worker.holding.report(50));
    let mut events = vec![Event::Join(join(u64::MAX, 0)), Event::Join(join(0, 1 << 60))];
    let store_claimed = Generation::new(u64::MAX);
    events.push(Event::Join(Join { store_claimed, ..asking(worker) }));
    let mut far = sync.clone();
    far.sequence = u64::MAX;
    events.push(Event::Sync(far));
    let mut far = sync;
    far.reports[0].generation = Generation::new(u64::MAX - 1);
    events.push(Event::Sync(far));

    for event in events {
        let step = evening.rollout.decide(&event, evening.now);

        assert_eq!(step.refusal.map(|it| it.code()), Some("impossible-number"));
        assert!(step.records.is_empty());
    }
    evening.until(200, |evening| evening.rollout.rebuilding().is_none());
}

#[test]
fn a_node_nobody_has_heard_cannot_be_re_closed_but_its_waves_can() {
    let mut evening = left_out();
    let node = NodeNumber::new(2);
    let mailbox = evening.rollout.plan().inventory().on_node(node).next().unwrap();

    for scope in [Scope::Node(node), Scope::Mailbox(MailboxNumber::new(mailbox))] {
        let refused = evening.operate(Verb::Reclose(scope), "bad").unwrap_err();
        assert!(refused.to_string().contains("tidegate accept n2"), "{refused}");
    }
    let wave = Scope::Wave(WaveNumber::new(0));
    evening.operate(Verb::Reclose(wave), "bad").unwrap();
    evening.operate(Verb::Accept(node), "it is back").unwrap();
    evening.pass(60);

    let first = evening.rollout.plan().jobs().iter().filter(|job| job.wave.get() == 0);
    for job in first.filter(|job| job.node == node) {
        let held = evening.workers[2].holding.job(job.number).unwrap();
        assert!(held.states().all(|state| !state.is_open()), "it was re-closed");
    }
}

#[test]
fn what_was_told_to_a_rebuild_that_is_put_back_is_told_again() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 40);
    lose_the_journal(&mut evening);
    evening.until(40, |evening| evening.rollout.rebuilding().is_none());
    let is_found = |record: &Record| matches!(record, Record::MailboxesFound { .. });
    let joined = evening.records.iter().position(is_found).unwrap();

    evening.records.truncate(joined);
    evening.restart_coordinator();
    evening.until(40, |evening| evening.rollout.rebuilding().is_none());

    let status = evening.rollout.status(evening.now);
    let known: u32 = status.nodes.iter().map(|node| node.open).sum();
    assert_eq!(known as usize, evening.open());
}

#[test]
fn a_rebuild_can_end_without_a_node_and_stay_paused() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 40);
    evening.workers.remove(2);
    lose_the_journal(&mut evening);
    evening.pass(40);
    let node = Scope::Node(NodeNumber::new(0));
    let refused = evening.operate(Verb::Reclose(node), "early").unwrap_err();

    let nobody = evening.operate(Verb::Pause, "paused already").unwrap_err();
    let ended = asked(Verb::Pause, "r1", &[2]);
    evening.coordinate(&Event::Operate(ended.clone())).unwrap();
    evening.coordinate(&Event::Operate(ended)).unwrap();
    let other = evening.coordinate(&Event::Operate(asked(Verb::Pause, "r1", &[1])));

    assert!(matches!(refused, Refusal::NotRecounted { .. }));
    assert!(matches!(nobody, Refusal::Already { phase: "paused" }));
    assert!(matches!(other, Err(Refusal::RequestReused { .. })), "{other:?}");
    assert!(evening.rollout.rebuilding().is_none());
    assert!(matches!(evening.rollout.phase(), Phase::Paused(_)));
    evening.operate(Verb::Reclose(node), "bad").unwrap();
    evening.until(60, |evening| evening.rollout.still_open(node) == 0);
    replays_the_same(&evening);
}

#[test]
fn whoever_ends_a_rebuild_is_on_record_whatever_follows_from_it() {
    for (verb, aborted) in
        [(Verb::Resume(None), false), (Verb::Pause, false), (Verb::Pause, true)]
    {
        let mut evening = Evening::new(3, 120);
        evening.until(900, |evening| evening.open() > 20);
        shows_altered_mail(&mut evening, 0);
        evening.workers.remove(2);
        lose_the_journal(&mut evening);
        evening.pass(40);
        if aborted {
            evening.operate(Verb::Abort, "enough").unwrap();
        }

        evening.coordinate(&Event::Operate(asked(verb, "r1", &[2]))).unwrap();
        let again = evening.coordinate(&Event::Operate(asked(verb, "r1", &[2])));
        let other = evening.coordinate(&Event::Operate(asked(verb, "r1", &[1])));

        let told = evening.rollout.history().iter().rev().find_map(Record::asked);
        let (action, what) = told.unwrap();
        assert_eq!((action.by.as_str(), action.reason.as_str()), ("op", "it is dead"));
        assert_eq!((what, again), (verb, Ok(())));
        assert!(matches!(other, Err(Refusal::RequestReused { .. })), "{other:?}");
        let phase = evening.rollout.phase();
        assert_eq!(matches!(phase, Phase::Halted { .. }), !aborted, "{phase:?}");
        replays_the_same(&evening);
    }
}

#[test]
fn a_request_that_left_a_node_out_is_not_the_one_that_did_not() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 40);
    evening.workers.remove(2);
    lose_the_journal(&mut evening);
    evening.pass(40);
    let mut resume = |without: &[u16]| {
        let operate = asked(Verb::Resume(None), "r1", without);
        evening.coordinate(&Event::Operate(operate))
    };

    assert_eq!(resume(&[2]), Ok(()));
    assert_eq!(resume(&[2]), Ok(()), "asked twice");
    assert!(matches!(resume(&[]), Err(Refusal::RequestReused { .. })));
    evening.restart_coordinator();
    let again = evening.coordinate(&Event::Operate(asked(Verb::Resume(None), "r1", &[])));
    assert!(matches!(again, Err(Refusal::RequestReused { .. })));
}

#[test]
fn a_node_is_accepted_after_the_end_and_what_it_held_open_stays_open_or_is_closed() {
    let mut evening = left_out();
    evening.operate(Verb::Abort, "enough").unwrap();
    let open = open_on(&evening, 2);
    evening.operate(Verb::Accept(NodeNumber::new(2)), "its switch is back").unwrap();
    evening.pass(60);
    assert_eq!(open_on(&evening, 2), open, "as it stands");

    put_back(&mut evening, 1, 1);
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    assert!(matches!(join(&mut evening, 1), Refusal::WorkerTooOld { .. }));
    let node = NodeNumber::new(1);
    evening.rollout.turn_away(node);
    evening.operate(Verb::Accept(node), "the backup of yesterday").unwrap();
    evening.pass(60);

    assert!(matches!(evening.rollout.phase(), Phase::Aborted(_)));
    assert_eq!(open_on(&evening, 1), 0, "nothing opens any more");
    assert_eq!(evening.rollout.still_open(Scope::Node(node)), 0);
}

#[test]
fn what_an_accepted_node_may_hold_open_counts_as_closing_where_all_was_known_to_be_closed()
 {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    let (wave, node) = (WaveNumber::new(0), NodeNumber::new(1));
    evening.operate(Verb::Reclose(Scope::Wave(wave)), "bad").unwrap();
    evening.until(60, |evening| evening.rollout.still_open(Scope::Wave(wave)) == 0);
    let closing = |evening: &Evening| {
        let status = evening.rollout.status(evening.now);
        (status.waves[0].closing > 0, status.nodes[1].closing > 0)
    };
    assert_eq!(closing(&evening), (false, false));

    put_back(&mut evening, 1, 1);
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
    assert!(matches!(join(&mut evening, 1), Refusal::WorkerTooOld { .. }));
    evening.rollout.turn_away(node);
    evening.operate(Verb::Accept(node), "the backup of yesterday").unwrap();

    assert_eq!(closing(&evening), (true, true), "its state may be older");
    assert!(evening.rollout.still_open(Scope::Wave(wave)) > 0);
    evening.pass(60);
    assert_eq!(closing(&evening), (false, false), "it has said otherwise");
    assert_eq!(evening.rollout.still_open(Scope::Wave(wave)), 0);
}

#[test]
fn a_stop_is_not_effective_while_nobody_knows_what_a_node_goes_by() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 20);
    lose_the_journal(&mut evening);

    let at_once = evening.rollout.status(evening.now).stop.unwrap();
    evening.cut = true;
    let lease = evening.rollout.plan().policy().limits.lease;
    let later = evening.rollout.status(evening.now + lease).stop.unwrap();
    evening.cut = false;
    evening.until(20, |evening| {
        let stop = evening.rollout.status(evening.now).stop.unwrap();
        stop.unacknowledged.is_empty() && stop.lapsed.is_empty()
    });

    assert_eq!((at_once.nodes, at_once.unacknowledged.len()), (3, 3));
    assert_eq!(at_once.may_still_open, 15, "a window on each");
    assert_eq!((later.unacknowledged.len(), later.lapsed.len()), (0, 3));
}

#[test]
fn decisions_of_a_future_that_is_lost_are_answered_with_those_there_are() {
    let mut evening = Evening::new(3, 120);
    evening.operate(Verb::Pause, "look").unwrap();
    let now = evening.rollout.etag();
    let seen = Some(Etag { decisions: now.decisions + 3, ..now });
    let resume = Operate { seen, ..asked(Verb::Resume(None), "r1", &[]) };

    let refused = evening.coordinate(&Event::Operate(resume)).unwrap_err();

    let Refusal::Conflict { changes, .. } = refused else { panic!("{refused:?}") };
    assert!(matches!(changes[..], [Record::Paused(_)]));
}

/// An evening in which node 2 was left out of a rebuild, and is back.
fn left_out() -> Evening {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 40);
    let gone = evening.workers.remove(2);
    lose_the_journal(&mut evening);
    evening.pass(40);
    resume_without(&mut evening, 2).unwrap();
    evening.workers.push(gone);
    evening.workers[2].joined = false;
    evening.pass(5);
    evening
}

fn asked(verb: Verb, request: &str, without: &[u16]) -> Operate {
    let (by, reason) = ("op".to_owned(), "it is dead".to_owned());
    let without = without.iter().copied().map(NodeNumber::new).collect();
    let request = RequestId::new(request);
    Operate { without, request, ..Operate::new(by, reason, verb) }
}

/// One of the worker's open mailboxes of the first wave has shown altered mail.
fn shows_altered_mail(evening: &mut Evening, index: usize) {
    let first = |number: tidegate_core::fleet::JobNumber| {
        evening.rollout.plan().jobs()[number.index()].wave == WaveNumber::new(0)
    };
    let mut jobs = evening.workers[index].holding.jobs().filter(|(it, _)| first(*it));
    let (job, held) = jobs.next().unwrap();
    let open = held.states().position(MailboxState::is_open).unwrap();
    let generation = held.generation();
    drop(jobs);
    let place = Ordinal::new(u16::try_from(open).unwrap());
    let noted = holding::Record::HealthNoted {
        job,
        generation,
        healths: vec![(place, Health::IntegrityFailed)],
        findings: Vec::new(),
        at: evening.now,
    };
    evening.workers[index].remember([noted]);
}

pub(super) fn lose_the_journal(evening: &mut Evening) {
    let plan = Arc::clone(evening.rollout.plan());
    evening.started = evening.now;
    evening.rollout = Rollout::new(plan, evening.now, evening.now);
    evening.records.clear();
    let (by, reason) = ("op".to_owned(), "its disk is gone".to_owned());
    let (at, request, approved) = (evening.now, None, None);
    let begun = Action { by, reason, at, request, approved };
    let begun = Record::RebuildBegun(begun);
    evening.rollout.apply(&begun);
    evening.records.push(begun);
    evening.workers.iter_mut().for_each(|worker| worker.joined = false);
}

pub(super) fn resume_without(evening: &mut Evening, node: u16) -> Result<(), Refusal> {
    let (by, reason) = ("op".to_owned(), "it is dead".to_owned());
    let without = vec![NodeNumber::new(node)];
    let operate = Operate { without, ..Operate::new(by, reason, Verb::Resume(None)) };
    evening.coordinate(&Event::Operate(operate))
}

/// The worker's journal is put back to the first claims that it made.
pub(super) fn put_back(evening: &mut Evening, index: usize, claims: usize) {
    let records = &mut evening.workers[index].records;
    let is_claim =
        |record: &holding::Record| matches!(record, holding::Record::JobClaimed { .. });
    let mut places = (0..records.len()).filter(|place| is_claim(&records[*place]));
    let end = places.nth(claims).unwrap();
    records.truncate(end);
    evening.restart_worker(index);
}

pub(super) fn join(evening: &mut Evening, index: usize) -> Refusal {
    let ask = asking(&evening.workers[index]);
    evening.coordinate(&Event::Join(ask)).unwrap_err()
}

pub(super) fn asking(worker: &Worker) -> Join {
    Join {
        node: format!("n{}", worker.node.get()),
        incarnation: worker.incarnation,
        claimed_max: worker.holding.generation_max(),
        orders_seen: 0,
        journaled: Some(worker.records.len() as u64),
        store_claimed: Generation::default(),
    }
}

pub(super) fn open_on(evening: &Evening, index: usize) -> usize {
    let jobs = evening.workers[index].holding.jobs();
    jobs.flat_map(|(_, job)| job.states()).filter(|state| state.is_open()).count()
}

pub(crate) fn highest_claim(evening: &Evening) -> Generation {
    let claims = evening.workers.iter().map(|worker| worker.holding.generation_max());
    claims.max().unwrap()
}

/// What a restart makes of the records is what there is.
pub(super) fn replays_the_same(evening: &Evening) {
    let plan = Arc::clone(evening.rollout.plan());
    let mut again = Rollout::new(plan, evening.started, evening.now);
    evening.records.iter().for_each(|record| again.apply(record));

    let jobs = evening.rollout.plan().jobs();
    for node in (0..3).map(NodeNumber::new) {
        assert_eq!(again.worker_of(node), evening.rollout.worker_of(node));
    }
    for job in jobs {
        for mailbox in evening.rollout.plan().members(job.number) {
            let states = [&again, &evening.rollout].map(|it| it.mailbox_state(*mailbox));
            assert_eq!(states[0], states[1]);
        }
    }
    assert_eq!(again.etag(), evening.rollout.etag());
    assert_eq!(again.answer_to(None), evening.rollout.answer_to(None));
}
