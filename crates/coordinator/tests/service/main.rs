//! The coordinator as everybody meets it: over gRPC on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod compacted;
mod exchangers;
mod fleet;
mod full_disk;
mod operators;
mod pages;
mod prometheus;
mod rebuild;
mod schedule;
mod shared;
mod webhooks;

use std::time::Duration;

use fleet::{
    Coordinator, TOP, Worker, data_dir, plan_of, refusal, rows, until, upload, work_until,
};
use tidegate_coordinator::{Config, run};
use tidegate_core::fleet::{Generation, Incarnation, JobNumber, MailboxNumber};
use tidegate_core::mailbox::{Health, Level, MailboxState, Preparation};
use tidegate_core::rollout::Join;
use tidegate_core::time::Timestamp;
use tidegate_journal::{Journal, Kind};
use tidegate_wire::scope::ScopeName;
use tidegate_wire::v1;
use tidegate_wire::worker::{CONTRACT, Joining};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn every_wave_opens_after_the_one_before_and_the_rollout_finishes() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let plan = coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();

    let is_finished =
        |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    let workers = &mut [&mut one, &mut two];
    let rollout = work_until(&coordinator, workers, "it is finished", is_finished).await;

    assert_eq!(rollout.plan_digest, plan.digest().to_string());
    assert_eq!((rollout.planned, rollout.excluded), (20, 1));
    assert_eq!(one.open() + two.open(), 20);
    let waves: Vec<_> =
        rollout.waves.iter().map(|w| (w.planned, w.open, w.passed)).collect();
    assert_eq!(waves, [(4, 4, 2), (16, 16, 2)]);
    assert_eq!(rollout.totals.unwrap().intact, 200);
    assert!(rollout.finish_time.is_some());
    assert_eq!(
        codes_of_the_story(&coordinator).await,
        [
            "node-joined",
            "node-joined",
            "level-allowed",
            "expanded",
            "level-allowed",
            "expanded",
            "level-allowed",
            "expanded",
            "level-allowed",
            "expanded",
            "finished"
        ]
    );
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_plan_workers_and_readers_are_told_to_wait() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;

    let worker = Worker::join(&coordinator, "n1", 1).await.err().unwrap();
    let reader = coordinator.reader().get_rollout(v1::GetRolloutRequest {}).await;
    let watcher = coordinator.reader().watch_rollout(v1::WatchRolloutRequest {}).await;

    let text = "no plan has been applied yet".to_owned();
    assert_eq!(refusal(&worker), (Code::FailedPrecondition, "no-plan".to_owned(), text));
    assert_eq!(reader.unwrap_err().code(), Code::NotFound);
    assert_eq!(watcher.unwrap_err().code(), Code::NotFound);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_one_worker_until_its_lease_runs_out() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut first = Worker::join(&coordinator, "n1", 11).await.unwrap();
    first.beat().await;

    let second = Worker::join(&coordinator, "n1", 12).await.err().unwrap();
    let stranger = Worker::join(&coordinator, "n9", 13).await.err().unwrap();
    let heir = until("the lease has run out", async || {
        Worker::join(&coordinator, "n1", 14).await.ok()
    });
    let mut heir = heir.await;
    heir.beat().await;
    let late = first.report().await.unwrap_err();

    assert_eq!(
        (second.code(), stranger.code()),
        (Code::Aborted, Code::FailedPrecondition)
    );
    assert_eq!(
        refusal(&stranger).2,
        "no node `n9` in this plan; its nodes are `n1`, `n2`"
    );
    assert_eq!(refusal(&late).1, "not-the-worker");
    assert_eq!(heir.jobs.len(), first.jobs.len());
    for (job, held) in &heir.jobs {
        assert!(held.generation > first.jobs[job].generation, "{job} is fenced");
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_of_an_older_generation_change_nothing() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut worker = Worker::join(&coordinator, "n1", 11).await.unwrap();
    worker.beat().await;
    for job in worker.jobs.values_mut() {
        job.generation = Generation::new(job.generation.get() - 1);
        let failed = MailboxState {
            preparation: Preparation::Prepared,
            level: Level::FIRST,
            health: Health::IntegrityFailed,
            dial_tone: false,
        };
        job.states.fill(failed);
    }

    worker.report().await.unwrap();

    let rollout = coordinator.rollout().await;
    assert_eq!(rollout.state(), v1::RolloutState::Running);
    assert_eq!(rollout.nodes.iter().map(|node| node.open + node.failed).sum::<u32>(), 0);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_effective_once_every_node_obeys_it() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let opening = |rollout: &v1::Rollout| rollout.waves.iter().any(|wave| wave.open > 0);
    work_until(&coordinator, &mut [&mut one, &mut two], "something is open", opening)
        .await;

    let reason = String::new();
    let request = v1::PauseRequest { by: "ann".to_owned(), reason, ..Default::default() };
    let answer =
        coordinator.operator().pause(request.clone()).await.unwrap().into_inner();
    let again = coordinator.operator().pause(request).await.unwrap_err();
    let asked = coordinator.rollout().await;
    one.beat().await;
    two.beat().await;
    let open = one.open() + two.open();
    one.beat().await;
    two.beat().await;
    let obeyed = paused_effectively(&coordinator).await;

    let stop = asked.stop.clone().unwrap();
    assert!(!stop.effective);
    assert_eq!(stop.unacknowledged, ["n1", "n2"]);
    assert!((1..=6).contains(&stop.may_still_open), "{stop:?}");
    assert_eq!(asked.state(), v1::RolloutState::Paused);
    assert_eq!(asked.orders_version, answer.orders_version);
    assert_eq!(refusal(&again).1, "already");
    assert!(!one.orders.may_open && !two.orders.may_open);
    assert_eq!(obeyed.stop.unwrap().may_still_open, 0);
    assert_eq!(one.open() + two.open(), open, "nothing opens after the pause");

    let request =
        v1::ResumeRequest { by: "ann".to_owned(), ..v1::ResumeRequest::default() };
    let silent = coordinator.operator().resume(request.clone()).await.unwrap_err();
    let request = v1::ResumeRequest { reason: "all is well".to_owned(), ..request };
    coordinator.operator().resume(request).await.unwrap();

    assert_eq!(
        (silent.code(), refusal(&silent).1),
        (Code::InvalidArgument, "reason-missing".to_owned())
    );
    let is_finished =
        |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    work_until(&coordinator, &mut [&mut one, &mut two], "it is finished", is_finished)
        .await;
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reclosed_wave_closes_under_new_generations_and_waits_for_a_person() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let passed = |rollout: &v1::Rollout| rollout.waves[0].passed == u32::from(TOP.get());
    work_until(&coordinator, &mut [&mut one, &mut two], "the canary passed", passed)
        .await;
    let before = one.jobs[&JobNumber::new(0)].generation;

    let unknown = reclose(&coordinator, ScopeName::Wave("all-9".to_owned())).await;
    reclose(&coordinator, ScopeName::Wave("all-1".to_owned())).await.unwrap();
    let closed = |rollout: &v1::Rollout| rollout.waves[0].open == 0;
    let workers = &mut [&mut one, &mut two];
    let rollout = work_until(&coordinator, workers, "the canary is closed", closed).await;

    assert_eq!(
        refusal(&unknown.unwrap_err()),
        (
            Code::NotFound,
            "unknown-name".to_owned(),
            "no wave `all-9` in this plan; there are `all-1`, `all-2`".to_owned()
        )
    );
    assert_eq!(rollout.waves[0].state(), v1::WaveState::HeldBack);
    assert_eq!(rollout.state(), v1::RolloutState::Paused);
    assert!(one.jobs[&JobNumber::new(0)].generation > before);

    for scope in [Some(ScopeName::Wave("0".to_owned())), None] {
        let request = v1::ResumeRequest {
            by: "ann".to_owned(),
            reason: "mended".to_owned(),
            scope: scope.map(v1::Scope::from),
            ..Default::default()
        };
        coordinator.operator().resume(request).await.unwrap();
    }
    let is_finished =
        |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    let workers = &mut [&mut one, &mut two];
    work_until(&coordinator, workers, "it is finished", is_finished).await;
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_finished_rollout_sees_that_a_part_of_it_is_reclosed() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let is_finished =
        |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    work_until(&coordinator, &mut [&mut one, &mut two], "it is finished", is_finished)
        .await;

    let request = v1::WatchRolloutRequest {};
    let mut seen =
        coordinator.reader().watch_rollout(request).await.unwrap().into_inner();
    let first = seen.message().await.unwrap().unwrap();
    reclose(&coordinator, ScopeName::Node("n2".to_owned())).await.unwrap();
    let paused = loop {
        let next = seen.message().await.unwrap().expect("the stream goes on");
        if !is_finished(&next) {
            break next;
        }
    };

    assert!(is_finished(&first));
    assert_eq!(paused.state(), v1::RolloutState::Paused);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integrity_failure_halts_and_says_why() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let opening = |rollout: &v1::Rollout| rollout.waves.iter().any(|wave| wave.open > 0);
    work_until(&coordinator, &mut [&mut one, &mut two], "something is open", opening)
        .await;

    spoil(&mut one);
    one.report().await.unwrap();
    let rollout = until("the gate halts", async || {
        let rollout = coordinator.rollout().await;
        (rollout.state() == v1::RolloutState::Halted).then_some(rollout)
    });
    let rollout = rollout.await;
    let request = v1::ResumeRequest {
        by: "ann".to_owned(),
        reason: "hope".to_owned(),
        scope: None,
        ..Default::default()
    };
    let stands = coordinator.operator().resume(request).await.unwrap_err();

    assert_eq!(rollout.why[0].code, "halted");
    assert!(rollout.why[0].text.contains("first on node `n1`"), "{:?}", rollout.why);
    assert_eq!(rollout.waves[0].gate.as_ref().unwrap().verdict, "halt");
    assert_eq!(refusal(&stands).1, "halt-stands");

    coordinator.kill().await;
    let coordinator = Coordinator::start_again(dir.path()).await;
    assert_eq!(coordinator.rollout().await.state(), v1::RolloutState::Halted);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_coordinator_comes_back_as_it_was_and_goes_on() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let passed = |rollout: &v1::Rollout| rollout.waves[0].passed > 0;
    work_until(&coordinator, &mut [&mut one, &mut two], "a level passed", passed).await;
    let request = v1::PauseRequest {
        by: "ann".to_owned(),
        reason: "tea".to_owned(),
        ..Default::default()
    };
    coordinator.operator().pause(request).await.unwrap();
    let before = coordinator.rollout().await;
    let story = codes_of_the_story(&coordinator).await;

    coordinator.kill().await;
    let coordinator = Coordinator::start_again(dir.path()).await;
    let after = coordinator.rollout().await;

    assert_eq!(remembered(&after), remembered(&before));
    assert_eq!(codes_of_the_story(&coordinator).await, story);

    one.reconnect(&coordinator);
    two.reconnect(&coordinator);
    let reason = "tea is over".to_owned();
    let request =
        v1::ResumeRequest { by: "ann".to_owned(), reason, ..Default::default() };
    coordinator.operator().resume(request).await.unwrap();
    let is_finished =
        |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    work_until(&coordinator, &mut [&mut one, &mut two], "it is finished", is_finished)
        .await;
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_applied_once_and_only_as_it_was_seen() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let seen = plan_of(&rows(20)).digest().to_string();
    let mut operator = coordinator.operator();
    let mut apply = async |parts| operator.apply(tokio_stream::iter(parts)).await;

    let stale = apply(upload(&seen, rows(21))).await.unwrap_err();
    let mut twice = rows(20);
    twice.push(twice[3].clone());
    let bad = apply(upload(&seen, twice)).await.unwrap_err();
    let headless = apply(upload(&seen, rows(20)).split_off(1)).await.unwrap_err();
    let applied = apply(upload(&seen, rows(20))).await.unwrap().into_inner();
    let again = apply(upload(&seen, rows(20))).await.unwrap_err();
    let other = plan_of(&rows(21)).digest().to_string();
    let another = apply(upload(&other, rows(21))).await.unwrap_err();

    assert_eq!(
        (stale.code(), refusal(&stale).1),
        (Code::Aborted, "stale-plan".to_owned())
    );
    assert_eq!(
        bad.message(),
        "1 rows of the inventory cannot be taken; nothing was applied\n\
         row 22: the address is that of row 3 already"
    );
    assert_eq!(headless.code(), Code::InvalidArgument);
    assert_eq!((applied.mailboxes, applied.waves), (20, 2));
    assert_eq!(again.code(), Code::AlreadyExists);
    assert!(again.message().starts_with("this plan was applied at 2"), "{again}");
    assert_eq!(refusal(&another).1, "another-plan");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_canary_is_a_users_mailbox_is_refused() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let ask = async |canary: &str| {
        let join = Join {
            node: "n1".to_owned(),
            incarnation: Incarnation::new(5),
            claimed_max: Generation::new(0),
            orders_seen: 0,
            journaled: None,
            store_claimed: Generation::default(),
        };
        let (clock, canary) = (Timestamp::default(), Some(canary.to_owned()));
        let joining = Joining { join, rollout: None, clock, canary };
        coordinator.workers().join(v1::JoinRequest::from(joining)).await
    };
    let user =
        plan_of(&rows(20)).inventory().address(MailboxNumber::new(3)).to_uppercase();

    let refused = ask(&user).await.unwrap_err();

    assert_eq!(refused.code(), Code::FailedPrecondition);
    let code = refused.metadata().get("tidegate-code").unwrap();
    assert_eq!(code.to_str().unwrap(), "canary-in-plan");
    assert!(refused.message().contains("[canary] of worker.toml"), "{refused:?}");
    assert!(!refused.message().contains('@'), "{refused:?}");
    ask("canary-n1@example.org").await.unwrap();
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_another_rollout_is_refused() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;

    let join = Join {
        node: "n1".to_owned(),
        incarnation: Incarnation::new(5),
        claimed_max: Generation::new(0),
        orders_seen: 0,
        journaled: None,
        store_claimed: Generation::default(),
    };
    let other = plan_of(&rows(21)).digest();
    let clock = Timestamp::default();
    let rollout = Some(other);
    let joining = Joining { join: join.clone(), rollout, clock, canary: None };
    let foreign = coordinator.workers().join(v1::JoinRequest::from(joining)).await;
    let ahead = Join { claimed_max: Generation::new(99), ..join };
    let joining = Joining { join: ahead, rollout: None, clock, canary: None };
    let request = v1::JoinRequest::from(joining);
    let ahead = coordinator.workers().join(request.clone()).await;
    let newer = v1::JoinRequest { contract: CONTRACT + 1, ..request };
    let newer = coordinator.workers().join(newer).await.unwrap_err();

    assert_eq!(newer.code(), Code::InvalidArgument);
    assert!(newer.message().contains("the same version"), "{}", newer.message());
    let [foreign, ahead] = [foreign, ahead].map(|answer| answer.unwrap_err());
    assert_eq!(
        (foreign.code(), ahead.code()),
        (Code::FailedPrecondition, Code::FailedPrecondition)
    );
    assert_eq!(
        (refusal(&foreign).1, refusal(&ahead).1),
        ("other-rollout".to_owned(), "journal-too-old".to_owned())
    );
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_described_only_to_the_worker_that_holds_it() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let plan = coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    one.beat().await;
    two.beat().await;
    let job = *one.jobs.keys().next().unwrap();

    let own = one.fetch(job).await.unwrap().mailboxes;
    let own: Vec<_> = own.into_iter().map(|mailbox| mailbox.number).collect();
    let others = two.fetch(job).await.unwrap_err();
    one.incarnation = Incarnation::new(99);
    let stranger = one.fetch(job).await.unwrap_err();

    assert_eq!(own, plan.members(job));
    assert_eq!(refusal(&others).1, "not-its-job");
    assert_eq!(refusal(&stranger).1, "not-the-worker");
    assert_ne!(one.node(), two.node());
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_find_mailboxes_findings_and_pages() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    one.quarantine_first = true;
    one.beat().await;
    one.beat().await;
    let mut reader = coordinator.reader();

    let request = v1::GetMailboxRequest { address: "USER00@a.it".to_owned() };
    let gone = reader.get_mailbox(request).await.unwrap().into_inner();
    let wanted = v1::ListMailboxesRequest {
        preparation: v1::Preparation::Quarantined.into(),
        ..v1::ListMailboxesRequest::default()
    };
    let quarantined = reader.list_mailboxes(wanted).await.unwrap().into_inner().mailboxes;
    let wanted = v1::ListFindingsRequest { node: "n1".to_owned(), ..Default::default() };
    let findings = reader.list_findings(wanted).await.unwrap().into_inner().findings;
    let wanted = v1::ListFindingsRequest { node: "n2".to_owned(), ..Default::default() };
    let elsewhere = reader.list_findings(wanted).await.unwrap().into_inner().findings;
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListMailboxesRequest {
            page_size: 8,
            page_token,
            ..v1::ListMailboxesRequest::default()
        };
        let page = reader.list_mailboxes(request).await.unwrap().into_inner();
        pages.push(page.mailboxes.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!((gone.excluded.as_str(), gone.wave.as_str()), ("moved away", ""));
    assert_eq!(quarantined.len(), one.jobs.len());
    assert_eq!(quarantined[0].why[0].code, "quarantined");
    assert_eq!(quarantined[0].findings[0].code, "unreadable");
    assert_eq!(findings.len(), one.jobs.len());
    let [mut found, mut listed] = [
        findings.iter().map(|found| &found.address).collect::<Vec<_>>(),
        quarantined.iter().map(|mailbox| &mailbox.address).collect(),
    ];
    found.sort_unstable();
    listed.sort_unstable();
    assert_eq!(found, listed);
    assert_eq!(elsewhere.len(), 0);
    assert_eq!(pages, [8, 8, 5]);
    let request = v1::ListEventsRequest { page_token: "x".to_owned(), page_size: 0 };
    let wrong = reader.list_events(request).await.unwrap_err();
    assert_eq!(wrong.message(), "field `page_token` cannot be `x`");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_end_and_then_the_stream_ends() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut reader = coordinator.reader();
    let mut news =
        reader.watch_rollout(v1::WatchRolloutRequest {}).await.unwrap().into_inner();

    let first = news.message().await.unwrap().unwrap();
    let request = v1::AbortRequest {
        by: "ann".to_owned(),
        reason: "enough".to_owned(),
        ..Default::default()
    };
    coordinator.operator().abort(request).await.unwrap();
    let mut last = first.clone();
    while let Some(newer) = news.message().await.unwrap() {
        last = newer;
    }

    assert_eq!(first.state(), v1::RolloutState::Running);
    assert_eq!(last.state(), v1::RolloutState::Aborted);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_tells_the_watchers_and_does_not_wait_for_them() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut reader = coordinator.reader();
    let mut news =
        reader.watch_rollout(v1::WatchRolloutRequest {}).await.unwrap().into_inner();
    news.message().await.unwrap().unwrap();

    coordinator.stop().await;
    let farewell = loop {
        if let Err(status) = news.message().await {
            break status;
        }
    };

    assert_eq!(farewell.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_trusted_is_refused() {
    let of_another = data_dir();
    let kind = Kind { name: "worker".to_owned(), format: 1, id: [7; 16] };
    drop(Journal::open(&of_another.path().join("journal"), &kind).unwrap());
    let without_inventory = data_dir();
    let coordinator = Coordinator::start(without_inventory.path()).await;
    coordinator.apply(rows(20)).await;
    coordinator.stop().await;
    for file in std::fs::read_dir(without_inventory.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            std::fs::remove_file(path).unwrap();
        }
    }

    let foreign = start_error(of_another.path(), "127.0.0.1:0").await;
    let incomplete = start_error(without_inventory.path(), "127.0.0.1:0").await;
    let public = start_error(of_another.path(), "0.0.0.0:0").await;

    assert!(foreign.contains("it is the worker journal 07070707"), "{foreign}");
    assert!(incomplete.contains("put it back from a copy"), "{incomplete}");
    assert!(public.starts_with("cannot listen on 0.0.0.0:0: without certif"), "{public}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_served_beside_the_contracts() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;

    let request = tonic_health::pb::HealthCheckRequest {
        service: "tidegate.v1.WorkerService".to_owned(),
    };
    let health = HealthClient::new(coordinator.channel()).check(request).await.unwrap();
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(coordinator.channel())
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;

    assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("no list of services: {answer:?}")
    };
    let names: Vec<String> =
        list.service.into_iter().map(|service| service.name).collect();
    for service in ["OperatorService", "ProgressService", "WorkerService"] {
        assert!(names.contains(&format!("tidegate.v1.{service}")), "{names:?}");
    }
    coordinator.stop().await;
}

async fn reclose(
    coordinator: &Coordinator,
    scope: ScopeName,
) -> Result<tonic::Response<v1::ActionResponse>, tonic::Status> {
    let request = v1::RecloseRequest {
        by: "ann".to_owned(),
        reason: "complaints".to_owned(),
        scope: Some(scope.into()),
        ..Default::default()
    };
    coordinator.operator().reclose(request).await
}

async fn codes_of_the_story(coordinator: &Coordinator) -> Vec<String> {
    let request = v1::ListEventsRequest::default();
    let events = coordinator.reader().list_events(request).await.unwrap().into_inner();
    events.events.into_iter().map(|event| event.code).collect()
}

async fn paused_effectively(coordinator: &Coordinator) -> v1::Rollout {
    until("the pause is effective", async || {
        let rollout = coordinator.rollout().await;
        rollout.stop.as_ref().is_some_and(|stop| stop.effective).then_some(rollout)
    })
    .await
}

/// Makes one open mailbox show altered mail.
fn spoil(worker: &mut Worker) {
    let states = worker.jobs.values_mut().flat_map(|job| &mut job.states);
    let open: Option<&mut MailboxState> =
        states.into_iter().find(|state| state.is_open());
    open.unwrap().health = Health::IntegrityFailed;
}

/// A view without what is only heard, and without the time.
fn remembered(rollout: &v1::Rollout) -> v1::Rollout {
    let mut rollout = rollout.clone();
    rollout.at_time = None;
    rollout.stop = None;
    for node in &mut rollout.nodes {
        node.heard_time = None;
        node.vitals = None;
    }
    for wave in &mut rollout.waves {
        wave.gate = None;
    }
    rollout
}

/// Why a coordinator does not start there.
async fn start_error(dir: &std::path::Path, listen: &str) -> String {
    let listen = listen.parse().unwrap();
    let config = Config {
        data_dir: dir.to_owned(),
        listen,
        operators_listen: None,
        readers_listen: None,
        probe_listen: None,
        prometheus: None,
        tls: None,
        audit: tidegate_coordinator::AuditConfig::default(),
        webhooks: Vec::new(),
        compact_after_records: None,
    };
    let ran = tokio::time::timeout(
        Duration::from_secs(30),
        run(config, std::future::pending()),
    );
    format!("{:#}", ran.await.unwrap().unwrap_err())
}
