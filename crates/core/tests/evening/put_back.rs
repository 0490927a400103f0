//! Put back: machines that go back to an older state while a rollout is made again.

use tidegate_core::fleet::{MailboxNumber, NodeNumber};
use tidegate_core::holding;
use tidegate_core::rollout::{Event, Join, NodeCondition, Operate, Refusal, Scope, Verb};

use super::fleet::{Evening, Worker};
use super::rebuild::{
    asking, join, lose_the_journal, open_on, put_back, replays_the_same, resume_without,
};

/// The node that is put back; node 2 is away, so that the rebuild waits.
const NODE: NodeNumber = NodeNumber::new(1);

#[test]
fn a_worker_put_back_after_it_told_a_rebuild_is_turned_away_until_it_is_accepted() {
    for older in older_states() {
        let (mut evening, gone) = told();
        let open = open_on(&evening, 1);
        older(&mut evening);

        let refused = join(&mut evening, 1);
        let (told, missing) = shown(&evening);

        assert!(open > open_on(&evening, 1), "it is older");
        assert_eq!(refused.code(), "worker-too-old", "{refused}");
        assert!(refused.to_string().contains("tidegate accept n1"), "{refused}");
        assert_eq!((told, missing), (2, vec![NodeNumber::new(2)]), "what it told stands");
        evening.restart_coordinator();
        pass_a_lease(&mut evening);
        assert_eq!(join(&mut evening, 1), refused, "a restart forgets nothing of it");

        accept(&mut evening);
        evening.pass(20);
        assert_eq!(shown(&evening), (2, vec![NodeNumber::new(2)]), "it told anew");
        all_comes_back(evening, gone);
    }
}

#[test]
fn what_an_older_state_tells_to_a_rebuild_is_closed_before_anything_else() {
    for older in older_states() {
        let (mut evening, _gone) = told();
        older(&mut evening);
        join(&mut evening, 1);
        accept(&mut evening);
        evening.pass(20);

        resume_without(&mut evening, 2).unwrap();
        let at_once = evening.rollout.still_open(Scope::Node(NODE));
        evening.operate(Verb::Pause, "look").unwrap();
        evening.pass(20);

        assert!(at_once > 0, "it may hold open what is not known to be");
        assert_eq!(evening.rollout.still_open(Scope::Node(NODE)), 0);
        assert_eq!(open_on(&evening, 1), 0, "nothing of it was verified anew");
        replays_the_same(&evening);
    }
}

#[test]
fn leaving_a_node_out_does_not_make_an_older_state_of_it_good() {
    let (mut evening, gone) = told();
    // A run that has joined and told nothing yet.
    evening.restart_worker(1);
    pass_a_lease(&mut evening);
    evening.coordinate(&Event::Join(asking(&evening.workers[1]))).unwrap();
    leave_out(&mut evening, &[NODE, gone.node]);
    put_back(&mut evening, 1, 1);
    pass_a_lease(&mut evening);
    assert!(matches!(join(&mut evening, 1), Refusal::LeftOut { .. }));

    evening.operate(Verb::Accept(NODE), "it is back").unwrap();
    let refused = join(&mut evening, 1);

    assert_eq!(refused.code(), "worker-too-old", "{refused}");
    accept(&mut evening);
    evening.until(60, |evening| evening.rollout.still_open(Scope::Node(NODE)) == 0);
    replays_the_same(&evening);
}

#[test]
fn a_rebuild_that_ends_with_what_a_node_told_closes_the_older_state_that_comes_after() {
    for older in older_states() {
        let (mut evening, gone) = told();
        older(&mut evening);
        resume_without(&mut evening, 2).unwrap();
        pass_a_lease(&mut evening);

        let refused = join(&mut evening, 1);

        assert_eq!(refused.code(), "worker-too-old", "{refused}");
        accept(&mut evening);
        all_comes_back(evening, gone);
    }
}

#[test]
fn what_persons_have_re_closed_is_not_forgotten_with_the_state_that_knew_it() {
    let mut evening = Evening::new(3, 120);
    evening.until(900, |evening| open_on(evening, 1) > 14);
    let image = evening.workers[1].records.clone();
    let mailbox = evening.rollout.plan().inventory().on_node(NODE).next().unwrap();
    let scope = Scope::Mailbox(MailboxNumber::new(mailbox));
    evening.operate(Verb::Reclose(scope), "its owner asked").unwrap();
    evening.pass(10);
    let gone = evening.workers.remove(2);
    lose_the_journal(&mut evening);
    evening.until(60, |evening| shown(evening).0 == 2);

    evening.workers[1].records = image;
    evening.restart_worker(1);
    pass_a_lease(&mut evening);
    join(&mut evening, 1);
    accept(&mut evening);
    evening.pass(20);
    evening.workers.push(Worker { joined: false, ..gone });
    evening.until(60, |evening| evening.rollout.rebuilding().is_none());
    evening.operate(Verb::Resume(None), "go").unwrap();
    evening.until(900, |evening| evening.open() == 119);

    assert_eq!(evening.rollout.still_open(scope), 0);
    evening.operate(Verb::Resume(Some(scope)), "they may").unwrap();
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
}

#[test]
fn a_worker_that_told_a_rebuild_may_be_restarted_as_it_is() {
    let (mut evening, _gone) = told();

    evening.restart_worker(1);
    pass_a_lease(&mut evening);
    evening.pass(20);

    assert_eq!(shown(&evening), (2, vec![NodeNumber::new(2)]));
    replays_the_same(&evening);
}

#[test]
fn a_rebuild_that_is_put_back_waits_for_everybody_who_had_told_it() {
    let (mut evening, gone) = told();
    let open = open_on(&evening, 0) + open_on(&evening, 1) + gone_open(&gone);
    let backup = evening.records.len();
    evening.workers.push(Worker { joined: false, ..gone });
    evening.until(60, |evening| evening.rollout.rebuilding().is_none());
    evening.operate(Verb::Resume(None), "all nodes are here").unwrap();
    evening.until(60, |evening| evening.open() > open);

    evening.records.truncate(backup);
    evening.restart_coordinator();
    let away = evening.workers.remove(0);
    evening.pass(60);
    let (told, missing) = shown(&evening);
    evening.workers.insert(0, Worker { joined: false, ..away });
    evening.until(60, |evening| evening.rollout.rebuilding().is_none());

    assert_eq!((told, missing), (2, vec![NodeNumber::new(0)]));
    let status = evening.rollout.status(evening.now);
    let known: u32 = status.nodes.iter().map(|node| node.open).sum();
    assert_eq!(known as usize, evening.open());
    replays_the_same(&evening);
}

#[test]
fn whoever_told_a_rebuild_that_was_put_back_and_does_not_come_can_be_left_out() {
    let (mut evening, _gone) = told();
    evening.restart_coordinator();
    evening.workers.remove(0);
    evening.pass(60);

    leave_out(&mut evening, &[NodeNumber::new(0), NodeNumber::new(2)]);

    let status = evening.rollout.status(evening.now);
    assert_eq!(status.nodes[0].condition, NodeCondition::LeftOut);
    assert_eq!(evening.rollout.rebuilding(), None);
    evening.pass(20);
    replays_the_same(&evening);
}

#[test]
fn whoever_has_told_nothing_may_have_any_journal() {
    let (mut evening, _gone) = told();
    let records = evening.workers[1].records.len() as u64;
    lose_the_journal(&mut evening);
    let ask = asking(&evening.workers[1]);
    evening
        .coordinate(&Event::Join(Join { journaled: Some(records + 9), ..ask }))
        .unwrap();

    evening.restart_worker(1);
    pass_a_lease(&mut evening);
    evening.pass(20);

    assert_eq!(shown(&evening), (2, vec![NodeNumber::new(2)]));
}

#[test]
fn a_coordinator_put_back_to_before_a_resume_does_not_take_the_node_for_closed() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    let node = Scope::Node(NODE);
    evening.operate(Verb::Reclose(node), "bad").unwrap();
    evening.until(60, |evening| evening.rollout.still_open(node) == 0);
    let kept = evening.records.len();
    evening.operate(Verb::Resume(Some(node)), "mended").unwrap();
    evening.operate(Verb::Resume(None), "go on").unwrap();
    evening.until(60, |evening| open_on(evening, 1) > 0);

    evening.records.truncate(kept);
    evening.restart_coordinator();
    // A run that does not know what was on record before.
    evening.restart_worker(1);
    pass_a_lease(&mut evening);
    evening.coordinate(&Event::Join(asking(&evening.workers[1]))).unwrap();
    let shown = evening.rollout.still_open(node);
    evening.pass(60);

    assert!(shown > 0, "it has told nothing yet");
    assert_eq!(open_on(&evening, 1), 0);
    assert_eq!(evening.rollout.still_open(node), 0);
    replays_the_same(&evening);
}

fn gone_open(gone: &Worker) -> usize {
    let jobs = gone.holding.jobs();
    jobs.flat_map(|(_, job)| job.states()).filter(|state| state.is_open()).count()
}

/// A rebuild in which all but node 2 have told.
fn told() -> (Evening, Worker) {
    let mut evening = Evening::new(3, 120);
    evening.until(900, |evening| open_on(evening, 1) > 14);
    let gone = evening.workers.remove(2);
    lose_the_journal(&mut evening);
    evening.until(60, |evening| shown(evening).0 == 2);
    (evening, gone)
}

/// The rest of the fleet comes, and everything opens.
fn all_comes_back(mut evening: Evening, gone: Worker) {
    evening.workers.push(Worker { joined: false, ..gone });
    if evening.rollout.rebuilding().is_some() {
        evening.until(60, |evening| evening.rollout.rebuilding().is_none());
        evening.operate(Verb::Resume(None), "all nodes are here").unwrap();
    } else {
        evening.operate(Verb::Accept(NodeNumber::new(2)), "it is back").unwrap();
    }
    evening.until(900, Evening::is_finished);
    assert_eq!(evening.open(), 120);
    replays_the_same(&evening);
}

fn leave_out(evening: &mut Evening, nodes: &[NodeNumber]) {
    let (by, reason) = ("op".to_owned(), "they are dead".to_owned());
    let without = nodes.to_vec();
    let operate = Operate { without, ..Operate::new(by, reason, Verb::Pause) };
    evening.coordinate(&Event::Operate(operate)).unwrap();
}

/// Ways of being older: by claims, and by less than that.
fn older_states() -> [fn(&mut Evening); 3] {
    let within_its_claims = |evening: &mut Evening| {
        let records = &mut evening.workers[1].records;
        let raised =
            |record: &holding::Record| matches!(record, holding::Record::Raised { .. });
        let end = records.iter().rposition(raised).unwrap();
        records.truncate(end);
        evening.restart_worker(1);
        pass_a_lease(evening);
    };
    let at_its_first_claim = |evening: &mut Evening| {
        put_back(evening, 1, 1);
        pass_a_lease(evening);
    };
    let with_nothing = |evening: &mut Evening| {
        evening.workers[1].records.clear();
        evening.restart_worker(1);
        pass_a_lease(evening);
    };
    [within_its_claims, at_its_first_claim, with_nothing]
}

fn pass_a_lease(evening: &mut Evening) {
    evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
}

/// Nodes that have told, and those that have not.
fn shown(evening: &Evening) -> (usize, Vec<NodeNumber>) {
    let rebuild = evening.rollout.rebuilding().unwrap();
    (rebuild.told, rebuild.missing)
}

fn accept(evening: &mut Evening) {
    evening.rollout.turn_away(NODE);
    let shown = evening.rollout.status(evening.now).nodes[1].condition;
    assert_eq!(shown, NodeCondition::TurnedAway);
    evening.operate(Verb::Accept(NODE), "the backup of yesterday").unwrap();
}
