//! Doubt: a worker says that the coordinator's journal is older than the fleet.

use tidegate_core::fleet::{JobNumber, NodeNumber, WaveNumber};
use tidegate_core::mailbox::MailboxState;
use tidegate_core::rollout::{Event, NodeCondition, Phase, Record, Refusal, Scope, Verb};

use super::fleet::Evening;
use super::rebuild::resume_without;

#[test]
fn one_worker_s_word_that_the_journal_is_old_stops_every_opening_for_good() {
    let mut evening = opening();
    let open = evening.open();

    let refusal = says_more_was_given(&mut evening, 0);
    evening.pass(1);
    let (phase, records) = (evening.rollout.phase().clone(), evening.records.len());
    evening.pass(60);

    let Phase::Paused(action) = phase else { panic!("{phase:?}") };
    assert_eq!(action.by, "tidegate");
    assert!(action.reason.contains("n0"), "{}", action.reason);
    assert!(action.reason.contains(&refusal.to_string()), "{}", action.reason);
    let stories = evening.records.iter().skip(records);
    assert_eq!(stories.filter(|record| record.is_decision()).count(), 0, "said once");
    assert!(evening.open() <= open + 15, "what was permitted may open, no more");
    let open = evening.open();
    evening.restart_coordinator();
    evening.pass(60);
    assert_eq!(evening.open(), open, "a restart opens nothing");
    let unnamed = evening.operate(Verb::Resume(None), "go").unwrap_err();
    assert_eq!(unnamed.code(), "in-doubt");
    resume_without(&mut evening, 0).unwrap();
    evening.until(900, Evening::is_finished);
}

#[test]
fn a_worker_that_is_wrong_keeps_nobody_from_stopping_and_taking_back() {
    let mut evening = opening();
    says_more_was_given(&mut evening, 0);

    let early = evening.operate(Verb::Abort, "not before it is on record").unwrap_err();
    evening.pass(1);
    let wave = Scope::Wave(WaveNumber::new(0));
    evening.operate(Verb::Reclose(wave), "virus").unwrap();
    evening.workers.remove(0);
    evening.until(60, |evening| {
        let first = |job: JobNumber| {
            let jobs = evening.rollout.plan().jobs();
            jobs[job.index()].wave == WaveNumber::new(0)
        };
        let jobs = evening.workers.iter().flat_map(|worker| worker.holding.jobs());
        let mut held =
            jobs.filter(|(job, _)| first(*job)).flat_map(|(_, it)| it.states());
        !held.any(MailboxState::is_open)
    });

    assert_eq!(early.code(), "journal-too-old");
    let status = evening.rollout.status(evening.now);
    assert_eq!(status.nodes[0].condition, NodeCondition::Ahead);
    assert_eq!(status.nodes[1].condition, NodeCondition::Working, "others are heard");
    evening.operate(Verb::Abort, "enough").unwrap();
}

#[test]
fn a_person_overrules_a_worker_that_is_wrong_and_it_is_refused_alone() {
    let mut evening = opening();
    says_more_was_given(&mut evening, 0);
    evening.pass(1);
    let again = |evening: &mut Evening| {
        let worker = &mut evening.workers[0];
        worker.sent += 1;
        let sync = worker.sync(Vec::new());
        evening.coordinate(&Event::Sync(sync)).map_err(|refusal| refusal.code())
    };
    let before = again(&mut evening);

    let unnamed = evening.operate(Verb::Resume(None), "go").unwrap_err();
    let other = resume_without(&mut evening, 1).unwrap_err();
    resume_without(&mut evening, 0).unwrap();
    says_more_was_given(&mut evening, 0);
    let unmoved = evening.rollout.phase().clone();
    let after = again(&mut evening);

    assert!(unnamed.to_string().contains("`n0`"), "{unnamed}");
    assert_eq!((unnamed.code(), other.code()), ("in-doubt", "in-doubt"));
    assert_eq!(before, Err("journal-too-old"), "it takes nothing back by itself");
    assert_eq!(unmoved, Phase::Running, "it has said so before");
    assert_eq!(after, Ok(()), "by then it agrees");
    evening.until(900, Evening::is_finished);
}

#[test]
fn a_second_worker_that_says_so_after_a_person_has_resumed_stops_it_again() {
    let mut evening = opening();
    says_more_was_given(&mut evening, 0);
    evening.pass(1);
    resume_without(&mut evening, 0).unwrap();

    says_more_was_given(&mut evening, 1);
    evening.coordinate(&Event::Tick).unwrap();

    let phase = evening.rollout.phase().clone();
    let Phase::Paused(action) = phase else { panic!("{phase:?}") };
    assert!(action.reason.contains("n1"), "{}", action.reason);
}

pub(crate) fn opening() -> Evening {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 20);
    evening
}

/// A worker reports that it has obeyed orders that were never given.
fn says_more_was_given(evening: &mut Evening, index: usize) -> Refusal {
    let worker = &mut evening.workers[index];
    worker.sent += 1;
    let mut sync = worker.sync(Vec::new());
    sync.orders_obeyed += 1_000;
    let refusal = evening.coordinate(&Event::Sync(sync)).unwrap_err();
    let node = NodeNumber::new(u16::try_from(index).unwrap());
    evening.rollout.doubt(node, &refusal);
    refusal
}

#[test]
fn reports_that_an_older_journal_lacks_are_told_anew_and_a_person_goes_on() {
    let mut evening = opening();
    let node = NodeNumber::new(0);
    forgets_reports(&mut evening);

    evening.beat(0);
    evening.coordinate(&Event::Tick).unwrap();
    let at_once = evening.rollout.status(evening.now).nodes[0].condition;
    let early = evening.operate(Verb::Resume(None), "go").unwrap_err();
    let Phase::Paused(action) = evening.rollout.phase().clone() else { panic!() };
    let open = evening.open();
    evening.pass(3);

    assert_eq!(at_once, NodeCondition::Recounting);
    assert_eq!(early.code(), "not-recounted");
    assert!(early.to_string().contains("`n0`"), "{early}");
    assert_eq!(action.by, "tidegate, for a recount");
    assert!(action.reason.contains("`n0`"), "{}", action.reason);
    let told = evening.rollout.status(evening.now);
    assert_eq!(told.nodes[0].condition, NodeCondition::Working);
    let held = evening.workers[0].holding.jobs().flat_map(|(_, job)| job.states());
    let open_there = held.filter(|state| state.is_open()).count();
    assert_eq!(told.nodes[usize::from(node.get())].open as usize, open_there);
    evening.pass(20);
    assert!(evening.open() <= open + 15, "what was permitted may open, no more");
    evening.operate(Verb::Resume(None), "all have told").unwrap();
    evening.until(900, Evening::is_finished);
}

#[test]
fn a_node_that_never_tells_anew_is_gone_on_without_also_after_a_restart() {
    let mut evening = opening();
    forgets_reports(&mut evening);
    evening.beat(0);
    evening.coordinate(&Event::Tick).unwrap();
    evening.restart_coordinator();
    evening.workers.remove(0);
    evening.pass(20);

    let waits = evening.operate(Verb::Resume(None), "go").unwrap_err();
    let without = resume_without(&mut evening, 0);

    assert_eq!(waits.code(), "not-recounted");
    assert_eq!(without, Ok(()));
    assert_eq!(evening.rollout.phase(), &Phase::Running);
}

#[test]
fn what_a_node_tells_under_a_generation_taken_back_is_not_all_that_it_tells_anew() {
    let mut evening = opening();
    forgets_reports(&mut evening);
    evening.beat(0);
    evening.coordinate(&Event::Tick).unwrap();
    // It has not heard of the new generations when it tells.
    let wave = Scope::Wave(WaveNumber::new(0));
    evening.operate(Verb::Reclose(wave), "bad").unwrap();
    let worker = &mut evening.workers[0];
    worker.holding.forget_orders();
    worker.sent += 1;
    let mut sync = worker.sync(worker.holding.report(500));
    sync.account.as_mut().unwrap().recorded = 0;
    assert_eq!(sync.account.as_ref().unwrap().untold, 0, "it tells everything");
    evening.coordinate(&Event::Sync(sync.clone())).unwrap();
    evening.rollout.hear(&sync, evening.now);

    let shown = evening.rollout.status(evening.now).nodes[0].condition;
    let open = evening.rollout.still_open(wave);
    let early = evening.operate(Verb::Resume(None), "go").unwrap_err();
    evening.pass(10);

    assert_eq!(shown, NodeCondition::Recounting);
    assert!(open >= 4, "nothing of it is known of node 0: {open}");
    assert_eq!(early.code(), "not-recounted");
    let told = evening.rollout.status(evening.now).nodes[0].condition;
    assert_eq!(told, NodeCondition::Working);
    assert_eq!(evening.rollout.still_open(wave), 0);
    evening.operate(Verb::Resume(Some(wave)), "good again").unwrap();
    evening.operate(Verb::Resume(None), "all have told").unwrap();
    evening.until(900, Evening::is_finished);
}

/// The journal is put back to what it was before node 0 reported last; no decision is lost.
pub(crate) fn forgets_reports(evening: &mut Evening) {
    for _ in 0..600 {
        evening.pass(1);
        let is_fact = |it: &&Record| matches!(it, Record::FactsReported { .. });
        let tail = evening.records.iter().rev().take_while(is_fact).count();
        let from = evening.records.len() - tail;
        let of_node = |it: &Record| {
            let Record::FactsReported { job, .. } = it else { return false };
            evening.rollout.plan().jobs()[job.index()].node == NodeNumber::new(0)
        };
        if let Some(first) = evening.records[from..].iter().position(of_node) {
            evening.records.truncate(from + first);
            return evening.restart_coordinator();
        }
    }
    panic!("node 0 tells nothing");
}
