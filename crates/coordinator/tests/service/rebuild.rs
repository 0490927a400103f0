//! A coordinator whose journal is gone, and workers that still hold mailboxes.

use std::path::Path;

use tidegate_core::fleet::Generation;
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Account, Join, Sync};
use tidegate_core::time::Timestamp;
use tidegate_wire::v1;
use tidegate_wire::worker::Joining;
use tonic::{Code, Status};

use super::codes_of_the_story;
use super::exchangers::Watched;
use super::fleet::{
    Coordinator, Worker, data_dir, refusal, rows, until, upload, work_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_journal_is_rebuilt_and_not_begun_anew() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let plan = coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let is_open = |rollout: &v1::Rollout| rollout.waves[0].open > 1;
    let workers = &mut [&mut one, &mut two];
    work_until(&coordinator, workers, "something is open", is_open).await;
    let open = one.open() + two.open();
    coordinator.kill().await;

    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let knocking = join(&coordinator, &mut one, "n1", &plan).await.unwrap_err();
    let begun_anew = apply(&coordinator, &plan, "").await.unwrap_err();
    apply(&coordinator, &plan, "the disk is gone").await.unwrap();
    join(&coordinator, &mut one, "n1", &plan).await.unwrap();
    tell_all(&mut one).await;
    let early = resume(&coordinator, &[]).await.unwrap_err();
    let halfway = coordinator.rollout().await;
    let watching_halfway = Watched::begin(&coordinator, None).await.err().unwrap();
    join(&coordinator, &mut two, "n2", &plan).await.unwrap();
    tell_all(&mut two).await;
    let told = until("every node has told", async || {
        let rollout = coordinator.rollout().await;
        rollout.rebuild.is_none().then_some(rollout)
    });
    let told = told.await;
    let mut watched = Watched::begin(&coordinator, None).await.unwrap();
    watched.until(|watched| watched.complete).await;

    assert_eq!(refusal(&watching_halfway).1, "rebuilding");
    assert_eq!(watching_halfway.code(), Code::Unavailable);
    assert_eq!(u32::try_from(watched.open.len()), Ok(open), "mail goes on where it went");
    assert_eq!(refusal(&knocking).1, "no-plan");
    assert_eq!(refusal(&begun_anew).1, "has-begun");
    assert!(begun_anew.message().contains("`n1`"), "{}", begun_anew.message());
    assert_eq!(refusal(&early).1, "not-recounted");
    assert_eq!(early.code(), Code::FailedPrecondition);
    let rebuild = halfway.rebuild.unwrap();
    assert_eq!((rebuild.told, rebuild.missing), (1, vec!["n2".to_owned()]));
    assert_eq!(halfway.why[0].code, "rebuilding");
    assert_eq!(told.waves.iter().map(|wave| wave.open).sum::<u32>(), open);
    assert_eq!(told.state(), v1::RolloutState::Paused);
    let story = codes_of_the_story(&coordinator).await;
    assert_eq!(story[0], "rebuild-begun");
    assert_eq!(story.last().unwrap(), "rebuilt");
    resume(&coordinator, &[]).await.unwrap();
    let workers = &mut [&mut one, &mut two];
    let is_finished =
        |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    work_until(&coordinator, workers, "it is finished", is_finished).await;
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_goes_on_after_a_kill_and_without_a_node_that_is_named() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let plan = coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    one.beat().await;
    one.beat().await;
    coordinator.kill().await;

    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    apply(&coordinator, &plan, "the disk is gone").await.unwrap();
    join(&coordinator, &mut one, "n1", &plan).await.unwrap();
    tell_all(&mut one).await;
    coordinator.kill().await;
    let coordinator = Coordinator::start_again(dir.path()).await;
    let restarted = coordinator.rollout().await;
    join(&coordinator, &mut one, "n1", &plan).await.unwrap();
    tell_all(&mut one).await;
    let waiting = coordinator.rollout().await;
    resume(&coordinator, &["n2"]).await.unwrap();
    let late = Worker::join(&coordinator, "n2", 23).await.err().unwrap();
    let request = v1::AcceptRequest {
        by: "ann".to_owned(),
        reason: "its switch is back".to_owned(),
        node: "n2".to_owned(),
        ..Default::default()
    };
    coordinator.operator().accept(request.clone()).await.unwrap();
    let twice = coordinator.operator().accept(request).await.unwrap_err();

    assert_eq!(restarted.rebuild.unwrap().missing, ["n1", "n2"], "all tell it anew");
    assert_eq!(waiting.rebuild.unwrap().missing, ["n2"]);
    assert_eq!(refusal(&late).1, "left-out");
    assert_eq!(refusal(&twice).1, "nothing-to-accept");
    assert!(Worker::join(&coordinator, "n2", 24).await.is_ok());
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_knows_less_than_it_has_told_is_turned_away() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    one.beat().await;
    one.beat().await;

    let turned_away = until("the lease has run out", async || {
        let refused = Worker::join(&coordinator, "n1", 12).await.err()?;
        (refused.code() != Code::Aborted).then_some(refused)
    });
    let turned_away = turned_away.await;
    let shown = until("it is shown", async || {
        let rollout = coordinator.rollout().await;
        (rollout.nodes[0].state() == v1::NodeState::TurnedAway).then_some(())
    });
    shown.await;
    let request = v1::AcceptRequest {
        by: "ann".to_owned(),
        reason: "the backup of yesterday".to_owned(),
        node: "n1".to_owned(),
        ..Default::default()
    };
    coordinator.operator().accept(request).await.unwrap();

    assert_eq!(refusal(&turned_away).1, "worker-too-old");
    assert!(Worker::join(&coordinator, "n1", 13).await.is_ok());
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_lacks_reports_it_acknowledged_is_told_them_anew() {
    let (dir, kept) = (data_dir(), data_dir());
    let (journal, copy) = (dir.path().join("journal"), kept.path().join("journal"));
    let coordinator = Coordinator::start(dir.path()).await;
    let plan = coordinator.apply(rows(20)).await;
    let mut worker = Worker::join(&coordinator, "n1", 11).await.unwrap();
    worker.beat().await;
    coordinator.stop().await;
    copy_files(&journal, &copy);
    let coordinator = Coordinator::start(dir.path()).await;
    worker.reconnect(&coordinator);
    let recorded = reports(&mut worker, 5, 0).await.unwrap();
    coordinator.stop().await;

    std::fs::remove_dir_all(&journal).unwrap();
    copy_files(&copy, &journal);
    let coordinator = Coordinator::start(dir.path()).await;
    worker.reconnect(&coordinator);
    let refused = reports(&mut worker, 6, recorded).await.unwrap_err();
    let paused = until("it is shown", async || {
        let rollout = coordinator.rollout().await;
        (rollout.state() == v1::RolloutState::Paused).then_some(rollout)
    });
    let paused = paused.await;
    let early = resume(&coordinator, &[]).await.unwrap_err();
    join(&coordinator, &mut worker, "n1", &plan).await.unwrap();
    let again = reports(&mut worker, 7, 0).await.unwrap();

    assert_eq!((recorded, again), (5, 7));
    assert_eq!((refused.code(), &*refusal(&refused).1), (Code::Aborted, "reports-lost"));
    assert_eq!(paused.nodes[0].state(), v1::NodeState::Recounting);
    assert_eq!(refusal(&early).1, "not-recounted");
    resume(&coordinator, &[]).await.unwrap();
    coordinator.stop().await;
}

/// Reports with this number, after it has been told that so much is on record; what is then.
async fn reports(worker: &mut Worker, sequence: u64, told: u64) -> Result<u64, Status> {
    let account = Some(Account { recorded: told, ..Account::default() });
    let claimed_max = claimed(worker);
    let sync = Sync { account, claimed_max, sequence, ..worker.sync() };
    let orders = worker.client.sync(v1::SyncRequest::from(sync)).await?.into_inner();
    Ok(orders.recorded)
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, entry) = (entry.as_ref().unwrap().path(), entry.as_ref().unwrap());
        let target = to.join(entry.file_name());
        if path.is_dir() {
            copy_files(&path, &target);
        } else {
            std::fs::copy(path, target).unwrap();
        }
    }
}

async fn apply(coordinator: &Coordinator, plan: &Plan, why: &str) -> Result<(), Status> {
    let mut parts = upload(&plan.digest().to_string(), rows(20));
    let first = parts.first_mut().and_then(|first| first.part.as_mut());
    if let Some(v1::apply_request::Part::Header(header)) = first {
        header.rebuild = !why.is_empty();
        why.clone_into(&mut header.reason);
    }
    coordinator.operator().apply(tokio_stream::iter(parts)).await.map(drop)
}

/// The same worker asks again, of a coordinator that does not know it.
async fn join(
    coordinator: &Coordinator,
    worker: &mut Worker,
    node: &str,
    plan: &Plan,
) -> Result<(), Status> {
    worker.reconnect(coordinator);
    let join = Join {
        node: node.to_owned(),
        incarnation: worker.incarnation,
        claimed_max: claimed(worker),
        orders_seen: worker.orders.version,
        journaled: None,
        store_claimed: Generation::default(),
    };
    let (rollout, clock) = (Some(plan.digest()), Timestamp::default());
    let joining = Joining { join, rollout, clock, canary: None };
    coordinator.workers().join(v1::JoinRequest::from(joining)).await?;
    worker.orders.version = 0;
    Ok(())
}

async fn tell_all(worker: &mut Worker) {
    let account = Some(Account::default());
    let sync = Sync { account, claimed_max: claimed(worker), ..worker.sync() };
    worker.tell(sync).await.unwrap();
}

fn claimed(worker: &Worker) -> Generation {
    worker.jobs.values().map(|job| job.generation).max().unwrap_or_default()
}

async fn resume(coordinator: &Coordinator, without: &[&str]) -> Result<(), Status> {
    let request = v1::ResumeRequest {
        by: "ann".to_owned(),
        reason: "all that can be is here".to_owned(),
        without: without.iter().map(|node| (*node).to_owned()).collect(),
        ..Default::default()
    };
    coordinator.operator().resume(request).await.map(drop)
}
