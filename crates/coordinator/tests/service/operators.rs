//! Operators who ask twice, and operators who want different things at the same time.

use tidegate_wire::scope::ScopeName;
use tidegate_wire::v1;
use tonic::{Code, Status};

use super::fleet::{
    Coordinator, Worker, data_dir, plan_of, refusal, rows, upload, work_until,
};
use super::{codes_of_the_story, reclose};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_twice_under_one_id_is_done_once_and_answered_the_same() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;

    let first = pause(&coordinator, "a").await.unwrap();
    let again = pause(&coordinator, "a").await.unwrap();
    let (resumed, _) = resume(&coordinator, "b", &first.etag).await.unwrap();
    let late = pause(&coordinator, "a").await.unwrap();
    coordinator.kill().await;
    let coordinator = Coordinator::start_again(dir.path()).await;
    let after_restart = pause(&coordinator, "a").await.unwrap();
    let (resumed_again, _) = resume(&coordinator, "b", &first.etag).await.unwrap();

    assert_eq!([&again, &late, &after_restart], [&first; 3]);
    assert_eq!(resumed_again, resumed);
    let mut story = codes_of_the_story(&coordinator).await;
    story.retain(|code| code != "level-allowed");
    assert_eq!(story, ["paused", "resumed"]);
    assert_eq!(coordinator.rollout().await.state(), v1::RolloutState::Running);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_not_lent_to_another_request() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let paused = pause(&coordinator, "a").await.unwrap();

    let other = resume(&coordinator, "a", &paused.etag).await.unwrap_err();
    let long = pause(&coordinator, &"x".repeat(65)).await.unwrap_err();
    let no_etag = resume(&coordinator, "b", "yesterday").await.unwrap_err();

    assert_eq!(refusal(&other).1, "request-reused");
    assert_eq!(other.code(), Code::InvalidArgument);
    assert_eq!(
        (long.code(), no_etag.code()),
        (Code::InvalidArgument, Code::InvalidArgument)
    );
    let story = codes_of_the_story(&coordinator).await;
    assert!(!story.contains(&"resumed".to_owned()), "{story:?}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_who_reclose_the_same_wave_one_is_told_of_the_other() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let is_open = |rollout: &v1::Rollout| rollout.waves[0].open > 0;
    let workers = &mut [&mut one, &mut two];
    let seen = work_until(&coordinator, workers, "something is open", is_open).await.etag;

    let asks = ["ann", "bob"].map(|by| {
        let mut operator = coordinator.operator();
        let request = v1::RecloseRequest {
            by: by.to_owned(),
            reason: "complaints".to_owned(),
            request_id: format!("{by}-1"),
            etag: seen.clone(),
            scope: Some(ScopeName::Wave("0".to_owned()).into()),
        };
        async move { operator.reclose(request).await.map(|_| by) }
    });
    let [ann, bob] = asks;
    let (ann, bob) = tokio::join!(ann, bob);

    let (winner, loser) = match (ann, bob) {
        (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
        both => panic!("one wins: {both:?}"),
    };
    let (code, name, text) = refusal(&loser);
    assert_eq!((code, name.as_str()), (Code::Aborted, "conflict"));
    assert!(text.contains(&format!("re-closed by {winner}: complaints at 20")), "{text}");
    assert!(text.ends_with("nothing was done"), "{text}");
    let story = codes_of_the_story(&coordinator).await;
    assert_eq!(story.iter().filter(|code| *code == "reclosed").count(), 1);
    // Having looked again, the other one may do it all the same.
    reclose(&coordinator, ScopeName::Wave("0".to_owned())).await.unwrap();
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_wins_over_any_conflict_and_what_the_plan_does_is_none() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let before = coordinator.rollout().await.etag;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let is_open = |rollout: &v1::Rollout| rollout.waves[0].open > 0;
    let workers = &mut [&mut one, &mut two];
    work_until(&coordinator, workers, "something is open", is_open).await;

    let paused = pause(&coordinator, "a").await.unwrap();
    let stale = resume(&coordinator, "b", &before).await.unwrap_err();
    let resumed = resume(&coordinator, "c", &paused.etag).await;

    assert_ne!(before, paused.etag);
    assert_eq!(refusal(&stale).1, "conflict");
    assert!(stale.message().contains("paused by ann: tea at "), "{}", stale.message());
    assert!(resumed.is_ok());
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_applied_again_under_the_same_id_is_answered_as_the_first_time() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    let digest = plan_of(&rows(20)).digest().to_string();
    let parts = |id: &str| {
        let mut parts = upload(&digest, rows(20));
        if let Some(v1::apply_request::Part::Header(header)) = &mut parts[0].part {
            header.request_id = id.to_owned();
        }
        tokio_stream::iter(parts)
    };

    let first = coordinator.operator().apply(parts("a")).await.unwrap().into_inner();
    let again = coordinator.operator().apply(parts("a")).await.unwrap().into_inner();
    coordinator.kill().await;
    let coordinator = Coordinator::start_again(dir.path()).await;
    let after_restart = coordinator.operator().apply(parts("a")).await.unwrap();
    let other = coordinator.operator().apply(parts("b")).await.unwrap_err();

    assert_eq!([&again, &after_restart.into_inner()], [&first; 2]);
    assert_eq!(refusal(&other).1, "applied-before");
    coordinator.stop().await;
}

async fn pause(
    coordinator: &Coordinator,
    id: &str,
) -> Result<v1::ActionResponse, Status> {
    let (by, reason) = ("ann".to_owned(), "tea".to_owned());
    let request_id = id.to_owned();
    let request = v1::PauseRequest { by, reason, request_id, without: Vec::new() };
    Ok(coordinator.operator().pause(request).await?.into_inner())
}

async fn resume(
    coordinator: &Coordinator,
    id: &str,
    seen: &str,
) -> Result<(v1::ActionResponse, String), Status> {
    let request = v1::ResumeRequest {
        by: "bob".to_owned(),
        reason: "all is well".to_owned(),
        request_id: id.to_owned(),
        etag: seen.to_owned(),
        ..Default::default()
    };
    let answer = coordinator.operator().resume(request).await?.into_inner();
    Ok((answer.clone(), answer.etag))
}
