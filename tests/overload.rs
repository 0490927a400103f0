//! Overload: floods of every kind against a real coordinator. While they last, honest workers are
//! answered, a pause reaches them, and memory stays bounded.
//!
//! # Invariants
//!
//! * Nothing is measured in time: a pause is waited for while the flood goes on.
//! * One flood at a time.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::panic, reason = "a test may say why it failed")]
#![expect(clippy::print_stderr, reason = "how much memory a flood took is worth knowing")]

#[path = "overload/deaf.rs"]
mod deaf;
#[path = "overload/defaults.rs"]
mod defaults;
#[path = "overload/floods.rs"]
mod floods;
#[path = "overload/frames.rs"]
mod frames;
#[path = "overload/hanging.rs"]
mod hanging;
#[path = "overload/scene.rs"]
mod scene;

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::{Code, Request};

use tidegate_wire::v1;
use tidegate_wire::v1::operator_service_client::OperatorServiceClient;
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;

use defaults::Defaults;
use floods::{Flood, MALFORMED, UNKNOWN, ask};
use frames::{Attack, Attackers};
use hanging::{Patient, refused};
use scene::{HANGS, MAD, Scene, joining, raise_descriptors, until};

/// The most memory of a coordinator with a thousand watchers, each over a connection of its
/// own, plain or with TLS: some 30 to 45 kB of buffers each, besides what it holds.
const MANY_WATCHERS_MIB: u64 = 200;

/// The most memory under any other flood: some hundred calls with some hundred kilobytes each.
const FLOODED_MIB: u64 = 200;

/// File descriptors that a coordinator is left for a crowd that needs more.
const DESCRIPTORS_LEFT: usize = 8;

/// How often honest workers are answered, three seconds or more, while none is free.
const REPORTS_WITHOUT_DESCRIPTORS: u64 = 60;

/// How busy a coordinator is that only serves two workers, with much to spare. One that tries
/// without a pause to take a connection in has a processor for itself.
const BUSY_PERCENT_MAX: u128 = 40;

/// Calls that nobody answers.
const UNANSWERED: usize = 40;

/// Calls given up one by one that must be borne.
const GIVEN_UP: u64 = 20_000;

/// Clients that never read.
const DEAF: usize = 40;

/// Watchers that are served at once.
const WATCHERS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_are_served_and_one_more_is_refused() {
    raise_descriptors();
    let scene = Scene::start(&[]).await;

    let watchers = Flood::of_watchers(&scene, WATCHERS).await;
    watchers.until_all_have_seen(&scene, 2).await;
    let one_more = scene.watch_once().await;

    assert_eq!(one_more.unwrap_err().code(), Code::ResourceExhausted);
    scene.stands("1,000 watchers", MANY_WATCHERS_MIB).await;
    watchers.until_all_have_seen(&scene, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_a_thousand_watchers_are_served_and_one_more_is_refused() {
    raise_descriptors();
    let scene = Scene::secured().await;

    let watchers = Flood::of_watchers(&scene, WATCHERS).await;
    watchers.until_all_have_seen(&scene, 2).await;
    let one_more = scene.watch_once().await;

    assert_eq!(one_more.unwrap_err().code(), Code::ResourceExhausted);
    scene.stands("with certificates, 1,000 watchers", MANY_WATCHERS_MIB).await;
    watchers.until_all_have_seen(&scene, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tonics_defaults_let_through_the_coordinator_does_not() {
    raise_descriptors();
    let scene = Scene::start(&[]).await;
    let defaults = Defaults::start().await;

    let table = defaults.beside(&scene).await;

    for row in &table {
        eprintln!("| {} | {} | {} |", row.attack, row.defaults, row.ours);
    }
    // What whoever is cut is told besides is for people.
    let outcome = |told: &str| told.split(':').next().unwrap().to_owned();
    let before: Vec<String> = table.iter().map(|row| outcome(&row.defaults)).collect();
    let ours: Vec<String> = table.iter().map(|row| outcome(&row.ours)).collect();
    let (held, dropped) = ("200 held", "0 held");
    let taken = "taken";
    assert_eq!(before, [held, held, "no limit", taken, "cut", "cut", taken, taken]);
    assert_eq!(ours, [dropped, dropped, "128", "refused", "cut", "cut", "cut", "cut"]);
    scene.stands("beside tonic's defaults", FLOODED_MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_cost_nobody_anything_and_are_cut() {
    let scene = Scene::start(&[]).await;

    let deaf = Flood::of_deaf_readers(&scene, DEAF);

    scene.stands("clients that never read", FLOODED_MIB).await;
    until("they are cut", || deaf.ended() == DEAF).await;
    assert!(scene.log().contains("a watcher that reads nothing was cut"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_floods_with_frames_is_cut_and_keeps_nobody_out() {
    let scene = Scene::start(&[]).await;
    stands_frames(&scene, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_whoever_floods_with_frames_is_cut_and_keeps_nobody_out() {
    let scene = Scene::secured().await;
    stands_frames(&scene, "with certificates, ").await;
}

async fn stands_frames(scene: &Scene, how: &str) {
    let mut farewells = Vec::new();
    for (attack, what) in [
        (Attack::RapidReset, "calls given up at once"),
        (Attack::Continuations, "headers without end"),
        (Attack::UnfinishedBodies, "1,000 calls with unfinished messages"),
    ] {
        let attackers = Attackers::loose(scene, attack);
        scene.stands(&format!("{how}{what}"), FLOODED_MIB).await;
        farewells.push(attackers.until_cut().await);
    }

    for (said, expected) in farewells.iter().zip([
        "too_many_resets",
        "too_many_continuations",
        "too_many_internal_resets",
    ]) {
        assert!(said.iter().any(|it| it == expected), "{expected}: {farewells:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_and_settings_is_answered_and_keeps_nobody_out() {
    let scene = Scene::start(&[]).await;
    stands_questions(&scene, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_pings_and_settings_are_answered_and_keep_nobody_out() {
    let scene = Scene::secured().await;
    stands_questions(&scene, "with certificates, ").await;
}

async fn stands_questions(scene: &Scene, how: &str) {
    for (attack, what) in [
        (Attack::Pings, "200,000 pings and more"),
        (Attack::Settings, "200,000 settings and more"),
    ] {
        let attackers = Attackers::loose(scene, attack);
        attackers.until_acknowledged(200_000).await;
        scene.stands(&format!("{how}{what}"), FLOODED_MIB).await;
        // Whoever never calls does not stay.
        attackers.until_cut().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_given_up_one_by_one_keep_nobody_out_and_leave_nothing() {
    let scene = Scene::start(&[]).await;
    let attackers = Attackers::loose(&scene, Attack::PacedReset);

    attackers.until_acknowledged(GIVEN_UP).await;
    scene.stands("20,000 calls given up one by one", FLOODED_MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_calls_given_up_one_by_one_keep_nobody_out_either() {
    let scene = Scene::secured().await;
    let attackers = Attackers::loose(&scene, Attack::PacedReset);

    attackers.until_acknowledged(GIVEN_UP).await;
    scene.stands("with certificates, 20,000 given up one by one", FLOODED_MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_decided_every_call_is_answered_in_the_end() {
    let scene = Scene::start(HANGS).await;
    scene.hang();

    let mut calls = JoinSet::new();
    for _ in 0..UNANSWERED {
        let channel = scene.for_operators().connect().await.unwrap();
        calls.spawn(async move {
            let resume = v1::ResumeRequest {
                by: "anna".to_owned(),
                reason: "why not".to_owned(),
                ..Default::default()
            };
            OperatorServiceClient::new(channel).resume(resume).await.map(drop)
        });
    }
    let mut codes = Vec::new();
    while let Some(answer) = calls.join_next().await {
        codes.push(code(answer.unwrap()));
    }
    scene.go_on();

    // As many as there is room for wait; the others are told at once.
    let waited = codes.iter().filter(|it| **it == Code::DeadlineExceeded).count();
    let refused = codes.iter().filter(|it| **it == Code::ResourceExhausted).count();
    eprintln!("{waited} told that it takes too long, {refused} refused");
    assert_eq!((waited, waited + refused), (32, UNANSWERED), "{codes:?}");
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_how_long_they_wait_is_told_by_then_and_nothing_opens_behind_them() {
    let scene = Scene::start(HANGS).await;
    let way = Patient(scene.address().to_owned());
    let origin = format!("http://{}", scene.address()).parse().unwrap();
    let mut operator = OperatorServiceClient::with_origin(way, origin);
    let (by, reason) = ("anna".to_owned(), "why not".to_owned());
    let pause = v1::PauseRequest { by: by.clone(), ..Default::default() };
    let resume = v1::ResumeRequest {
        by: by.clone(),
        reason: reason.clone(),
        ..Default::default()
    };
    let thaw = v1::ThawRequest { by, reason, ..Default::default() };
    let (soon, late) = (Duration::from_millis(500), Duration::from_mins(1));

    scene.hang();
    let paused = operator.pause(within(soon, pause)).await;
    scene.go_on();
    scene.until_it_is(v1::RolloutState::Paused).await;
    scene.hang();
    let resumed = operator.resume(within(soon, resume)).await;
    scene.go_on();
    // It waits behind the one that was given up.
    let thawed = operator.thaw(within(late, thaw)).await;

    let over = (Code::DeadlineExceeded, "deadline-over".to_owned());
    assert_eq!([refused(paused), refused(resumed)], [over.clone(), over]);
    assert_eq!(refused(thawed), (Code::FailedPrecondition, "not-frozen".to_owned()));
    assert_eq!(scene.state().await, v1::RolloutState::Paused, "stopped, and not resumed");
    let audit = scene.audit();
    assert_eq!(audit.matches("\"outcome\":\"given-up\"").count(), 2, "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_dropped_and_keep_nobody_out() {
    raise_descriptors();
    let scene = Scene::start(&[]).await;

    let mut crowd: Vec<TcpStream> =
        (0..600).map(|_| TcpStream::connect(scene.address()).unwrap()).collect();
    for stream in &crowd {
        stream.set_nonblocking(true).unwrap();
    }

    scene.stands("600 silent connections", FLOODED_MIB).await;
    let is_dropped = |stream: &mut TcpStream| match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    until("all are dropped", || {
        crowd.retain_mut(|stream| !is_dropped(stream));
        crowd.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_descriptor_it_serves_who_is_there_and_does_not_spin() {
    let scene = Scene::start(&[]).await;
    let limit = scene.leave_descriptors(DESCRIPTORS_LEFT);

    // Watchers are never idle, so that none of them makes room.
    let watching = Arc::<AtomicUsize>::default();
    let mut watchers: Vec<_> = Vec::new();
    while watchers.len() < 3 * limit {
        let connection = scene.channel().await;
        watchers.push(tokio::spawn(Flood::watch(connection, Arc::clone(&watching))));
    }
    let is_full = || {
        watching.load(Ordering::Relaxed) >= DESCRIPTORS_LEFT
            && scene.uses_all_descriptors(limit)
    };
    until("no descriptor is free", is_full).await;
    let late = scene.for_readers().connect().await.unwrap();
    let late = tokio::spawn(ask(late));
    let busy = scene.busy_percent(REPORTS_WITHOUT_DESCRIPTORS).await;
    let kept_waiting = !late.is_finished() && is_full();
    for watcher in watchers {
        watcher.abort();
    }

    eprintln!("no descriptor is free: {busy} % of a processor");
    assert!(kept_waiting, "all descriptors were taken");
    assert!(busy <= BUSY_PERCENT_MAX, "{busy} % of a processor");
    assert_eq!(code(late.await.unwrap()), Code::Ok, "it is served once there is room");
    scene.stands("after no descriptor was free", FLOODED_MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_descriptors_from_the_start_a_crowd_never_takes_the_last() {
    let few = ["sh", "-c", "ulimit -n 128; exec \"$@\"", "sh"];
    let scene = Scene::start(&few).await;

    let crowd: Vec<TcpStream> =
        (0..600).map(|_| TcpStream::connect(scene.address()).unwrap()).collect();
    let questions = Flood::of_questions(&scene);

    questions.until_refused(50).await;
    scene.stands("128 descriptors, silent connections and readers", FLOODED_MIB).await;
    let opened = scene.descriptors();
    drop(crowd);
    assert!(opened < 128, "{opened} descriptors");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_reports_of_a_worker_that_has_gone_mad_is_its_own_trouble() {
    let scene = Scene::start(&[]).await;
    let mad = scene.join(MAD).await;

    let flood = Flood::of_reports(&scene, mad);

    flood.until_refused(200).await;
    scene.stands("reports of a mad worker", FLOODED_MIB).await;
    // Connections that one worker has too many are cut besides.
    assert!(flood.codes().contains(&Code::ResourceExhausted), "{:?}", flood.codes());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostors_reports_are_refused_before_they_reach_the_rollout() {
    let scene = Scene::start(&[]).await;
    let mut impostor = scene.join("stor-03").await;
    impostor.incarnation += 1;

    let flood = Flood::of_reports(&scene, impostor);

    flood.until_refused(200).await;
    scene.stands("reports of an impostor", FLOODED_MIB).await;
    let codes = flood.codes();
    assert!(codes.contains(&Code::Aborted), "{codes:?}");
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_and_keep_nobody_out() {
    let scene = Scene::start(&[]).await;

    let floods = [
        Flood::of_oversized(&scene),
        Flood::of_malformed(&scene),
        Flood::of_unknown_nodes(&scene),
    ];

    for flood in &floods {
        flood.until_refused(50).await;
    }
    scene.stands("oversized, malformed, unknown", FLOODED_MIB).await;
    // Whoever sends on after the refusal has its connection cut besides.
    for (flood, codes) in floods.iter().zip([&[Code::OutOfRange][..], MALFORMED, UNKNOWN])
    {
        let seen = flood.codes();
        assert!(codes.iter().any(|code| seen.contains(code)), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_no_flood_costs_more_than_it_may_either() {
    raise_descriptors();
    let scene = Scene::secured().await;

    let questions = Flood::of_questions(&scene);
    questions.until_refused(50).await;
    scene.stands("with certificates, readers who ask without end", FLOODED_MIB).await;
    drop(questions);
    let mad = scene.join(MAD).await;
    let reports = Flood::of_reports(&scene, mad);
    reports.until_refused(200).await;
    scene.stands("with certificates, reports of a mad worker", FLOODED_MIB).await;
    drop(reports);
    let bad = [Flood::of_oversized(&scene), Flood::of_malformed(&scene)];
    for flood in &bad {
        flood.until_refused(50).await;
    }
    scene.stands("with certificates, oversized, malformed", FLOODED_MIB).await;
    drop(bad);
    // They show none, and never say a word.
    let crowd: Vec<TcpStream> =
        (0..600).map(|_| TcpStream::connect(scene.address()).unwrap()).collect();
    scene.stands("with certificates, 600 silent connections", FLOODED_MIB).await;
    drop(crowd);
    let deaf = Flood::of_deaf_readers(&scene, DEAF);
    scene.stands("with certificates, clients that never read", FLOODED_MIB).await;

    until("they are cut", || deaf.ended() == DEAF).await;
    let strangers = Flood::of_unknown_nodes(&scene);
    strangers.until_refused(50).await;
    let codes = strangers.codes();
    assert!(codes.contains(&Code::PermissionDenied), "another node's: {codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_slow_disk_reports_and_a_pause_still_pass_readers_and_operators() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: there is no strace that slows a disk down");
        return;
    }
    let slow = "inject=fdatasync:delay_enter=300000";
    let trace =
        ["strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", slow];
    let scene = Scene::start(&trace).await;

    let operators = Flood::of_resumptions(&scene);
    // One of them alone is answered too fast, without the disk, to be more than there is room for.
    let readers = [(); 3].map(|()| Flood::of_questions(&scene));

    operators.until_refused(50).await;
    for flood in &readers {
        flood.until_refused(50).await;
    }
    scene.stands("a slow disk, operators and readers", FLOODED_MIB).await;
    for flood in readers.iter().chain([&operators]) {
        assert!(flood.codes().contains(&Code::ResourceExhausted), "{:?}", flood.codes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_serves_its_callers_and_no_others() {
    let scene = Scene::with_listeners().await;
    let mut seen = Vec::new();

    for at in [scene.endpoint(), scene.for_operators(), scene.for_readers()] {
        let channel = at.connect().await.unwrap();
        let mut worker = WorkerServiceClient::new(channel.clone());
        let joins = worker.join(joining("stor-04", 9)).await.map(drop);
        let mut operator = OperatorServiceClient::new(channel.clone());
        let pause = v1::PauseRequest { by: "anna".to_owned(), ..Default::default() };
        let pauses = operator.pause(pause).await.map(drop);
        seen.push([joins, pauses, ask(channel).await].map(code));
    }

    let (ok, no) = (Code::Ok, Code::Unimplemented);
    assert_eq!(seen, [[ok, no, no], [no, ok, ok], [no, no, ok]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_one_address_keeps_nobody_out_at_another() {
    raise_descriptors();
    let scene = Scene::with_listeners().await;

    let crowd = Flood::of_questions(&scene);

    crowd.until_refused(50).await;
    assert!(crowd.codes().contains(&Code::ResourceExhausted), "{:?}", crowd.codes());
    for _ in 0..20 {
        let operators = scene.for_operators().connect().await.unwrap();
        assert_eq!(code(ask(operators).await), Code::Ok, "operators read, too");
    }
    scene.stands("readers at an address of their own", FLOODED_MIB).await;
}

/// The call of somebody who waits for so long.
fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

fn code(answer: Result<(), tonic::Status>) -> Code {
    answer.map_or_else(|status| status.code(), |()| Code::Ok)
}
