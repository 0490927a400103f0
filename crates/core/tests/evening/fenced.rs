//! Fenced: a store that somebody has claimed higher than the coordinator knows of.

use std::sync::Arc;

use tidegate_core::fleet::{Generation, Incarnation, JobNumber};
use tidegate_core::rollout::{Event, Join, Record, Refusal};

use super::fleet::Evening;
use super::rebuild::{asking, highest_claim, open_on, replays_the_same};

#[test]
fn a_store_that_was_claimed_beyond_this_journal_fences_its_node_no_longer_than_it_is_untold()
 {
    for restarted in [false, true] {
        let mut evening = Evening::new(3, 120);
        evening.until(600, |evening| open_on(evening, 1) > 5);
        // A hand with orders of a journal that is gone has claimed late.
        let late = Generation::new(highest_claim(&evening).get() + 50);
        let at = evening.records.len();

        if restarted {
            evening.restart_worker(1);
            evening.now = evening.now + evening.rollout.plan().policy().limits.lease;
            let ask = Join { store_claimed: late, ..asking(&evening.workers[1]) };
            evening.coordinate(&Event::Join(ask)).unwrap();
        } else {
            tells_of(&mut evening, late).unwrap();
        }
        let issued = issued_since(&evening, at);
        tells_of(&mut evening, late).unwrap();
        let again = issued_since(&evening, at);

        let jobs = evening.workers[1].holding.jobs().count();
        assert_eq!((issued.len(), again.len()), (jobs, jobs), "it is told once");
        assert!(issued.iter().all(|(_, generation)| *generation > late), "{issued:?}");
        let plan = Arc::clone(evening.rollout.plan());
        let elsewhere =
            issued.iter().find(|(job, _)| plan.jobs()[job.index()].node.get() != 1);
        assert_eq!(elsewhere, None);
        evening.until(900, Evening::is_finished);
        assert_eq!(evening.open(), 120);
        replays_the_same(&evening);
    }
}

#[test]
fn whoever_has_lost_its_node_gets_nothing_for_the_claims_that_it_tells_of() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    let late = Generation::new(highest_claim(&evening).get() + 50);
    let records = evening.records.len();

    evening.workers[1].incarnation = Incarnation::new(77);
    let told = tells_of(&mut evening, late).unwrap_err();
    let ask = Join { store_claimed: late, ..asking(&evening.workers[1]) };
    let joins = evening.coordinate(&Event::Join(ask)).unwrap_err();

    assert_eq!((told.code(), joins.code()), ("not-the-worker", "node-taken"));
    assert_eq!(evening.records.len(), records);
}

#[test]
fn a_worker_whose_store_another_has_claimed_since_knows_that_it_was_given_up() {
    let mut evening = Evening::new(3, 120);
    evening.until(600, |evening| open_on(evening, 1) > 5);
    let holding = &evening.workers[1].holding;
    let own = holding.generation_max();

    let shown = [(own, own), (own.next(), own), (own.next(), own.next())]
        .map(|(claimed, ordered)| holding.is_given_up(claimed, ordered));

    assert_eq!(shown, [false, true, false], "its own hands claim what it has orders for");
    assert!(!holding.is_given_up(own, Generation::default()), "it knows its own claims");
}

/// The worker of node 1 reports, and tells how high its store is claimed.
fn tells_of(evening: &mut Evening, store_claimed: Generation) -> Result<(), Refusal> {
    let worker = &mut evening.workers[1];
    worker.sent += 1;
    let mut sync = worker.sync(Vec::new());
    sync.account.as_mut().unwrap().store_claimed = store_claimed;
    evening.coordinate(&Event::Sync(sync))
}

/// Jobs leased since there were so many records.
fn issued_since(evening: &Evening, records: usize) -> Vec<(JobNumber, Generation)> {
    let leases = evening.records[records..].iter().filter_map(|record| {
        let Record::JobLeased { job, generation, .. } = record else { return None };
        Some((*job, *generation))
    });
    leases.collect()
}
