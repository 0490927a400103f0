//! Kept back: what was re-closed before it had ever been open is not forgotten with the journal.

use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::mailbox::Level;
use tidegate_core::rollout::{Scope, Verb};

use super::fleet::Evening;
use super::rebuild::{lose_the_journal, resume_without};

const LAST: Scope = Scope::Wave(WaveNumber::new(2));
const NODE: Scope = Scope::Node(NodeNumber::new(2));

#[test]
fn what_was_re_closed_before_it_had_ever_been_open_is_kept_closed_by_a_rebuild() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let mailbox = never_open(&evening, 0);
    let by_name = Scope::Mailbox(mailbox);
    for scope in [LAST, NODE, by_name] {
        evening.operate(Verb::Reclose(scope), "not them").unwrap();
    }
    evening.pass(10);
    // What is known only to memory is forgotten here.
    (0..3).for_each(|index| evening.restart_worker(index));

    lose_the_journal(&mut evening);
    evening.until(200, |evening| evening.rollout.rebuilding().is_none());
    evening.operate(Verb::Resume(None), "all have told").unwrap();
    evening.pass(600);

    let status = evening.rollout.status(evening.now);
    assert_eq!(status.waves[2].allowed, Level::HELD);
    assert_eq!(open_in(&evening, LAST), 0);
    assert_eq!(open_in(&evening, NODE), 0);
    assert_eq!(open_in(&evening, by_name), 0);
    assert!(evening.open() > 5, "the others go on");
    for scope in [LAST, NODE, by_name] {
        evening.operate(Verb::Resume(Some(scope)), "them too").unwrap();
    }
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn what_was_resumed_is_not_kept_back_by_a_rebuild() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    evening.operate(Verb::Reclose(LAST), "not them").unwrap();
    evening.pass(10);
    evening.operate(Verb::Resume(Some(LAST)), "them too").unwrap();
    evening.operate(Verb::Resume(None), "go").unwrap();
    evening.pass(10);

    lose_the_journal(&mut evening);
    evening.until(200, |evening| evening.rollout.rebuilding().is_none());
    evening.operate(Verb::Resume(None), "all have told").unwrap();

    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn what_only_a_node_that_was_left_out_remembers_is_kept_back_there_when_it_is_accepted() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    let mailbox = never_open(&evening, 2);
    let by_name = Scope::Mailbox(mailbox);
    evening.operate(Verb::Reclose(by_name), "not this one").unwrap();
    evening.pass(10);
    let gone = evening.workers.remove(2);

    lose_the_journal(&mut evening);
    evening.pass(40);
    resume_without(&mut evening, 2).unwrap();
    evening.workers.push(gone);
    evening.workers[2].joined = false;
    evening.operate(Verb::Accept(NodeNumber::new(2)), "its switch is back").unwrap();
    evening.until(900, |evening| evening.open() == 119);
    evening.pass(60);

    assert_eq!(open_in(&evening, by_name), 0);
}

/// A mailbox of the last wave on a node.
fn never_open(evening: &Evening, node: u16) -> MailboxNumber {
    let plan = evening.rollout.plan();
    let mut jobs = plan.jobs().iter();
    let last = WaveNumber::new(2);
    let job = jobs.find(|job| job.wave == last && job.node == NodeNumber::new(node));
    plan.members(job.unwrap().number)[0]
}

fn open_in(evening: &Evening, scope: Scope) -> u32 {
    evening.rollout.still_open(scope)
}
