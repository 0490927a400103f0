//! Permits: what may still open after a stop, against what does.

use std::collections::BTreeMap;

use tidegate_core::fleet::{JobNumber, NodeNumber, Ordinal};
use tidegate_core::mailbox::Level;
use tidegate_core::rollout::Verb;

use super::fleet::{BEAT, Evening};

/// As in the small policy.
const WINDOW: u32 = 5;

#[test]
fn no_more_opens_after_a_pause_that_nobody_hears_than_was_said() {
    let mut at_most = 0;
    for beats in 2..130 {
        let mut evening = Evening::new(3, 120);
        evening.pass(beats);
        hear_orders(&mut evening);
        let Ok(()) = evening.operate(Verb::Pause, "") else { continue };

        let (said, risen) = opens_unheard(&mut evening);

        assert!(risen <= said, "after {beats} beats: {risen} opened, {said} were said");
        assert!(said <= 3 * WINDOW, "after {beats} beats: {said}");
        at_most = at_most.max(risen);
    }
    assert!(at_most > 3, "the test has seen mailboxes open: {at_most}");
}

#[test]
fn a_coordinator_that_has_restarted_says_no_less_than_opens() {
    let mut at_most = 0;
    for beats in 2..130 {
        let mut evening = Evening::new(3, 120);
        evening.pass(beats);
        hear_orders(&mut evening);
        evening.restart_coordinator();
        let Ok(()) = evening.operate(Verb::Pause, "") else { continue };

        let (said, risen) = opens_unheard(&mut evening);

        assert!(risen <= said, "after {beats} beats: {risen} opened, {said} were said");
        at_most = at_most.max(risen);
    }
    assert!(at_most > 3, "the test has seen mailboxes open: {at_most}");
}

#[test]
fn a_node_gets_no_permit_before_it_goes_by_an_answer_of_this_run() {
    let mut evening = Evening::new(3, 120);
    let node = NodeNumber::new(0);
    let named = |evening: &Evening| -> usize {
        let orders = evening.rollout.orders(node).jobs;
        orders.iter().map(|order| order.named.as_ref().map_or(0, Vec::len)).sum()
    };
    evening.until(600, |evening| named(evening) > 0);

    evening.restart_coordinator();

    assert_eq!(named(&evening), 0);
    evening.until(60, |evening| named(evening) > 0);
    evening.until(900, Evening::is_finished);
}

#[test]
fn a_node_that_is_not_heard_is_told_apart_from_one_that_is_slow() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    evening.operate(Verb::Pause, "").unwrap();
    let heard = |evening: &Evening| {
        let stop = evening.rollout.status(evening.now).stop.unwrap();
        (stop.nodes, stop.unacknowledged.len(), stop.unreachable.len(), stop.lapsed.len())
    };
    let at_once = heard(&evening);

    evening.cut = true;
    let limits = evening.rollout.plan().policy().limits;
    (0..4).for_each(|_| evening.now = evening.now + limits.beat);
    let later = heard(&evening);
    evening.now = evening.now + limits.lease;
    let at_last = heard(&evening);

    assert_eq!(at_once, (3, 3, 0, 0));
    assert_eq!(later, (3, 3, 3, 0));
    assert_eq!(at_last, (3, 0, 0, 3));
}

/// All workers hear new orders and have not acted on them yet.
fn hear_orders(evening: &mut Evening) {
    evening.now = evening.now + BEAT;
    (0..evening.workers.len()).for_each(|index| evening.beat(index));
}

/// Cuts all workers off and lets them go on: how many mailboxes were said to open, and how many
/// did.
fn opens_unheard(evening: &mut Evening) -> (u32, u32) {
    let stop = evening.rollout.status(evening.now).stop.unwrap();
    let before = levels(evening);
    evening.cut = true;
    evening.pass(60);
    let risen = levels(evening)
        .into_iter()
        .filter(|(place, level)| before.get(place).copied().unwrap_or_default() < *level);
    (stop.may_still_open, u32::try_from(risen.count()).unwrap())
}

fn levels(evening: &Evening) -> BTreeMap<(JobNumber, Ordinal), Level> {
    let jobs = evening.workers.iter().flat_map(|worker| worker.holding.jobs());
    let states = jobs.flat_map(|(job, held)| {
        let states = (0..).map(Ordinal::new).zip(held.states());
        states.map(move |(ordinal, state)| ((job, ordinal), state.level))
    });
    states.collect()
}
