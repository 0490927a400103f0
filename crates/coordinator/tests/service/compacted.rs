//! A coordinator that goes on from a snapshot.

use std::path::Path;
use std::sync::Arc;

use tidegate_core::plan::Plan;
use tidegate_core::rollout::Rollout;
use tidegate_journal::{Journal, Kind, Snapshot, verify};
use tidegate_wire::record::{decode_plan_applied, decode_record, is_story};
use tidegate_wire::snapshot::{OfRollout, encode_rollout};
use tidegate_wire::v1;

use super::codes_of_the_story;
use super::fleet::{Coordinator, Worker, data_dir, rows, until, work_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_start_from_a_snapshot_forgets_nothing() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let plan = Arc::new(coordinator.apply(rows(20)).await);
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let opening = |rollout: &v1::Rollout| rollout.waves.iter().any(|wave| wave.open > 0);
    work_until(&coordinator, &mut [&mut one, &mut two], "something is open", opening)
        .await;
    coordinator.stop().await;
    // Of every record a start from records alone has told.
    let coordinator = Coordinator::start(dir.path()).await;
    let before = (coordinator.rollout().await, codes_of_the_story(&coordinator).await);
    coordinator.stop().await;

    let covered = compact(&dir.path().join("journal"), &plan).await;
    let coordinator = Coordinator::start(dir.path()).await;
    let after = (coordinator.rollout().await, codes_of_the_story(&coordinator).await);

    assert!(covered > 0);
    assert_eq!(remembered(after.0), remembered(before.0));
    assert_eq!(after.1, before.1);
    coordinator.stop().await;
}

/// Compacts the journal at `dir` as its coordinator does when it has grown.
async fn compact(dir: &Path, plan: &Arc<Plan>) -> u64 {
    let kind = Kind { name: "coordinator".to_owned(), format: 1, id: [0; 16] };
    let journal = Journal::open(dir, &kind).unwrap();
    let mut payloads = journal.replay().map(|entry| entry.unwrap().payload);
    let applied = decode_plan_applied(&payloads.next().unwrap()).unwrap();
    let mut rollout = Rollout::new(Arc::clone(plan), applied.at, applied.at);
    for payload in payloads {
        rollout.apply(&decode_record(&payload, plan.policy()).unwrap());
    }
    let (plan, at) = (plan.digest(), applied.at);
    let snapshot = OfRollout { plan, at, rollout: rollout.snapshot().unwrap() };
    let (covers, body) = (journal.head(), encode_rollout(&snapshot));
    journal.appender().compact(Snapshot { covers, body, is_story }).unwrap();
    until("the journal is compacted", async || {
        (!journal.appender().is_compacting()).then_some(())
    })
    .await;
    drop(journal);
    verify(dir).unwrap().compacted.unwrap().records
}

/// What does not change by itself while time passes.
fn remembered(rollout: v1::Rollout) -> impl PartialEq + std::fmt::Debug {
    let waves = rollout
        .waves
        .into_iter()
        .map(|wave| (wave.planned, wave.level, wave.open, wave.passed));
    let nodes = rollout.nodes.into_iter().map(|node| (node.open, node.failed));
    let (waves, nodes) = (waves.collect::<Vec<_>>(), nodes.collect::<Vec<_>>());
    (rollout.plan_digest, rollout.planned, rollout.totals, rollout.etag, waves, nodes)
}
