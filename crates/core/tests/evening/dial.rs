//! Dial tones through an evening: what stops them, and what does not.
//!
//! # Invariants
//!
//! * A dial tone is counted where it rings: at the workers.

use tidegate_core::fleet::{NodeNumber, Ordinal, WaveNumber};
use tidegate_core::holding::{Dial, DialStep, Record};
use tidegate_core::rollout::{Phase, Record as Told, Scope, Verb};

use crate::fleet::{Evening, small_policy};

/// Mailboxes of the first wave, that is on its way to open, and of the second.
const CANARY: usize = 12;

#[test]
fn a_reclosed_dial_tone_ends_even_if_it_is_resumed_before_the_worker_has_heard() {
    let mut evening = Evening::under(ringing_policy());
    evening.until(60, |evening| ringing(evening) >= 2 * CANARY);
    let before = ended(&evening);
    let second = Scope::Wave(WaveNumber::new(1));
    let members = members_of(&evening, 1);

    evening.operate(Verb::Reclose(second), "wrong store").unwrap();
    evening.operate(Verb::Resume(Some(second)), "too early").unwrap();
    evening.operate(Verb::Resume(None), "too early").unwrap();
    evening.until(60, |evening| ended(evening) >= before + members);

    evening.until(900, Evening::is_finished);
    assert_eq!((ringing(&evening), evening.open()), (0, 120));
}

#[test]
fn an_abort_and_a_halt_leave_dial_tones_standing_and_begin_none() {
    let mut aborted = Evening::under(ringing_policy());
    aborted.until(60, |evening| ringing(evening) >= CANARY);
    let before = aborted.rollout.phase().clone();
    aborted.operate(Verb::Abort, "enough").unwrap();
    aborted.pass(2);
    let standing = ringing(&aborted);
    aborted.pass(60);
    assert!(matches!(before, Phase::Running));
    assert!(standing >= CANARY);
    assert_eq!(ringing(&aborted), standing);

    let mut halted = Evening::under(ringing_policy());
    for node in 0..3 {
        halted.sick.extend((0..40).map(|key| (NodeNumber::new(node), key)));
    }
    halted.until(600, |evening| matches!(evening.rollout.phase(), Phase::Halted { .. }));
    halted.pass(2);
    let standing = ringing(&halted);
    halted.pass(60);
    assert!(standing > 0, "later waves have their dial tone");
    assert_eq!(ringing(&halted), standing);
}

#[test]
fn the_dial_tones_of_an_isolated_node_stand_and_a_reclose_ends_them() {
    let mut evening = Evening::under(ringing_policy());
    let node = NodeNumber::new(1);
    evening.sick = (0..40).map(|key| (node, key)).collect();
    let isolated = |evening: &Evening| {
        let isolates = |record: &Told| matches!(record, Told::NodeIsolated { node: it, .. } if *it == node);
        evening.rollout.history().iter().any(isolates)
    };
    evening.until(600, isolated);
    evening.pass(2);
    let standing = ringing_on(&evening, node);
    evening.until(900, Evening::is_over);
    assert!(standing > 0, "its later waves have their dial tone");
    assert_eq!(ringing_on(&evening, node), standing);

    evening.operate(Verb::Reclose(Scope::Node(node)), "repaired").unwrap();
    evening.until(60, |evening| ringing_on(evening, node) == 0);
}

/// Everybody has a dial tone until his wave opens.
fn ringing_policy() -> tidegate_core::policy::Policy {
    let mut policy = small_policy();
    policy.cohorts[0].dial_tone = vec!["webmail".to_owned()];
    policy
}

fn members_of(evening: &Evening, wave: u16) -> usize {
    let plan = evening.rollout.plan();
    let jobs = plan.jobs().iter().filter(|job| job.wave == WaveNumber::new(wave));
    jobs.map(|job| usize::from(job.size)).sum()
}

fn ringing(evening: &Evening) -> usize {
    (0..3).map(|node| ringing_on(evening, NodeNumber::new(node))).sum()
}

fn ringing_on(evening: &Evening, node: NodeNumber) -> usize {
    let jobs = evening.workers[node.index()].holding.jobs();
    let all = jobs.flat_map(|(_, job)| {
        (0..).map(Ordinal::new).zip(job.states()).map(|(it, _)| job.dial(it))
    });
    all.filter(|dial| *dial == Dial::On).count()
}

/// Dial tones that ended, by the workers' journals.
fn ended(evening: &Evening) -> usize {
    let records = evening.workers.iter().flat_map(|worker| &worker.records);
    let ends = records.filter_map(|record| {
        let Record::DialTone { step: DialStep::Ended, ordinals, .. } = record else {
            return None;
        };
        Some(ordinals.len())
    });
    ends.sum()
}
