//! Grounds: what leave to go on was given on.

use tidegate_core::fleet::NodeNumber;
use tidegate_core::rollout::Verb;

use super::fleet::Evening;

#[test]
fn what_speaks_against_going_on_changes_when_it_gets_worse_and_not_with_time() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| evening.open() > 5);
    evening.operate(Verb::Pause, "a look").unwrap();
    let seen = evening.rollout.grounds(evening.now);

    evening.pass(10);
    let later = evening.rollout.grounds(evening.now);
    evening.restart_coordinator();
    let restarted = evening.rollout.grounds(evening.now);
    evening.sick = (0..120).map(|it| (NodeNumber::new(it % 3), u32::from(it))).collect();
    evening.pass(100);
    let worse = evening.rollout.grounds(evening.now);

    assert_eq!((later, restarted), (seen, seen));
    assert_ne!(worse, seen, "mailboxes that are open already have failed");
}
