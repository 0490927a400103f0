//! Rebuild: a journal that is gone, one that is old, and workers put back to an older state.

use std::sync::Arc;

use tidegate_core::fleet::{Generation, NodeNumber, Ordinal, WaveNumber};
use tidegate_core::mailbox::Level;
use tidegate_core::rollout::{
    Action, Event, Join, MessageTotals, Operate, Record, Refusal, Rollout, Scope, Verb,
};

use super::fleet::{Evening, Worker, unreadable};

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
    assert_eq!(status.nodes[2].condition, tidegate_core::rollout::NodeCondition::LeftOut);
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
    let is_claim = |record: &tidegate_core::holding::Record| {
        matches!(record, tidegate_core::holding::Record::JobClaimed { .. })
    };
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

fn lose_the_journal(evening: &mut Evening) {
    let plan = Arc::clone(evening.rollout.plan());
    evening.started = evening.now;
    evening.rollout = Rollout::new(plan, evening.now, evening.now);
    evening.records.clear();
    let (by, reason) = ("op".to_owned(), "its disk is gone".to_owned());
    let begun = Action { by, reason, at: evening.now, request: None };
    let begun = Record::RebuildBegun(begun);
    evening.rollout.apply(&begun);
    evening.records.push(begun);
    evening.workers.iter_mut().for_each(|worker| worker.joined = false);
}

fn resume_without(evening: &mut Evening, node: u16) -> Result<(), Refusal> {
    let (by, reason) = ("op".to_owned(), "it is dead".to_owned());
    let without = vec![NodeNumber::new(node)];
    let operate = Operate { without, ..Operate::new(by, reason, Verb::Resume(None)) };
    evening.coordinate(&Event::Operate(operate))
}

/// The worker's journal is put back to the first claims that it made.
fn put_back(evening: &mut Evening, index: usize, claims: usize) {
    let records = &mut evening.workers[index].records;
    let is_claim = |record: &tidegate_core::holding::Record| {
        matches!(record, tidegate_core::holding::Record::JobClaimed { .. })
    };
    let mut places = (0..records.len()).filter(|place| is_claim(&records[*place]));
    let end = places.nth(claims).unwrap();
    records.truncate(end);
    evening.restart_worker(index);
}

fn join(evening: &mut Evening, index: usize) -> Refusal {
    let ask = asking(&evening.workers[index]);
    evening.coordinate(&Event::Join(ask)).unwrap_err()
}

fn asking(worker: &Worker) -> Join {
    Join {
        node: format!("n{}", worker.node.get()),
        incarnation: worker.incarnation,
        claimed_max: worker.holding.generation_max(),
        orders_seen: 0,
        journaled: Some(worker.records.len() as u64),
        store_claimed: Generation::default(),
    }
}

fn open_on(evening: &Evening, index: usize) -> usize {
    let jobs = evening.workers[index].holding.jobs();
    jobs.flat_map(|(_, job)| job.states()).filter(|state| state.is_open()).count()
}

fn highest_claim(evening: &Evening) -> Generation {
    let claims = evening.workers.iter().map(|worker| worker.holding.generation_max());
    claims.max().unwrap()
}

/// What a restart makes of the records is what there is.
fn replays_the_same(evening: &Evening) {
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
