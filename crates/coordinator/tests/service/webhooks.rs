//! Receivers of alerts, over real HTTP: what they are told, and that nobody waits for them.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use ring::hmac;
use serde_json::Value;
use tidegate_coordinator::{Config, WebhookConfig};
use tidegate_wire::v1;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::fleet::{Coordinator, Worker, data_dir, rows, until, work_until};

const SECRET: &[u8] = b"a secret of a few words";

/// What a receiver does with a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Takes it.
    Takes,
    /// Answers that it cannot.
    Broken,
    /// Keeps the sender waiting.
    Stuck,
}

/// A letter's body and its signature.
type Letter = (Vec<u8>, String);

/// A receiver of alerts.
#[derive(Clone)]
struct Receiver {
    mood: watch::Sender<Mood>,
    /// Every letter that came, whatever was answered, and its signature.
    letters: Arc<Mutex<Vec<Letter>>>,
    /// The alerts of letters that were taken.
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn new(mood: Mood) -> Self {
        let (mood, _) = watch::channel(mood);
        Self { mood, letters: Arc::default(), taken: Arc::default() }
    }

    async fn listen(&self, listener: TcpListener) {
        let routes =
            Router::new().route("/api/v2/alerts", post(receive)).with_state(self.clone());
        axum::serve(listener, routes).await.unwrap();
    }

    /// Whether it has taken an alert of this name, over or not.
    fn has(&self, name: &str, over: bool) -> Option<Value> {
        let taken = self.taken.lock().unwrap();
        let is_it = |alert: &&Value| {
            let called = alert.pointer("/labels/alertname").and_then(Value::as_str);
            called == Some(name) && alert.get("endsAt").is_some() == over
        };
        taken.iter().find(is_it).cloned()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let signature =
        headers.get("tidegate-signature").unwrap().to_str().unwrap().to_owned();
    receiver.letters.lock().unwrap().push((body.to_vec(), signature));
    let mut mood = receiver.mood.subscribe();
    let mood = *mood.wait_for(|mood| *mood != Mood::Stuck).await.unwrap();
    if mood == Mood::Broken {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let alerts: Vec<Value> = serde_json::from_slice(&body).unwrap();
    receiver.taken.lock().unwrap().extend(alerts);
    StatusCode::OK
}

/// A coordinator on `dir` that tells whoever listens on these ports.
async fn start(dir: &Path, ports: &[u16]) -> Coordinator {
    let key = dir.join("webhook.key");
    std::fs::write(&key, SECRET).unwrap();
    let webhook = |port: &u16| WebhookConfig {
        url: format!("http://127.0.0.1:{port}/api/v2/alerts"),
        key: key.clone(),
        repeat: Duration::from_mins(1),
        link: "https://ops.example.org/".to_owned(),
        advice: |code| Some(format!("look at {code}")),
    };
    let webhooks = ports.iter().map(webhook).collect();
    Coordinator::start_with(Config { webhooks, ..Coordinator::config(dir) }).await
}

async fn pause(coordinator: &Coordinator, reason: &str) {
    let request = v1::PauseRequest {
        by: "ann".to_owned(),
        reason: reason.to_owned(),
        ..Default::default()
    };
    coordinator.operator().pause(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_is_told_what_is_so_when_it_is_back() {
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    // Nobody listens there for now.
    drop(place);
    let dir = data_dir();
    let coordinator = start(dir.path(), &[address.port()]).await;
    coordinator.apply(rows(20)).await;
    pause(&coordinator, "eve@example.org complains").await;

    let receiver = Receiver::new(Mood::Broken);
    let listener = TcpListener::bind(address).await.unwrap();
    let serving = receiver.clone();
    tokio::spawn(async move { serving.listen(listener).await });
    until("it was refused", async || {
        (receiver.letters.lock().unwrap().len() > 1).then_some(())
    })
    .await;
    receiver.mood.send_replace(Mood::Takes);
    let paused =
        until("it is told", async || receiver.has("TidegatePaused", false)).await;
    let request = v1::ResumeRequest {
        by: "ann".to_owned(),
        reason: "gone".to_owned(),
        ..Default::default()
    };
    coordinator.operator().resume(request).await.unwrap();
    until("the end is told", async || receiver.has("TidegatePaused", true)).await;

    assert_eq!(paused["labels"]["code"], "paused");
    assert_eq!(paused["labels"]["severity"], "warning");
    assert_eq!(paused["annotations"]["description"], "look at paused");
    assert_eq!(paused["generatorURL"], "https://ops.example.org/");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    for (body, signature) in receiver.letters.lock().unwrap().iter() {
        let (time, tag) = signature.split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let signed = [time.as_bytes(), b".", body].concat();
        let tag: Vec<u8> = (0..tag.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap())
            .collect();
        hmac::verify(&key, &signed, &tag).unwrap();
        let text = String::from_utf8_lossy(body);
        assert!(!text.contains('@') && !text.contains("complains"), "{text}");
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_receiver_that_does_not_answer() {
    let (stuck, quick) = (Receiver::new(Mood::Stuck), Receiver::new(Mood::Takes));
    let mut ports = Vec::new();
    for receiver in [&stuck, &quick] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        ports.push(listener.local_addr().unwrap().port());
        let serving = receiver.clone();
        tokio::spawn(async move { serving.listen(listener).await });
    }
    let dir = data_dir();
    let coordinator = start(dir.path(), &ports).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let workers = &mut [&mut one, &mut two];

    // The stuck one holds a letter from the first wave on, and never answers.
    pause(&coordinator, "").await;
    until("one letter is held", async || {
        (!stuck.letters.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    let request = v1::ResumeRequest {
        by: "ann".to_owned(),
        reason: "gone".to_owned(),
        ..Default::default()
    };
    coordinator.operator().resume(request).await.unwrap();
    let finished = |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    work_until(&coordinator, workers, "it is finished", finished).await;
    until("the quick one knows", async || quick.has("TidegateFinished", false)).await;
    let ended =
        until("and of the waves", async || quick.has("TidegateWaveEnded", true)).await;

    assert_eq!(ended["labels"]["severity"], "info");
    assert!(stuck.taken.lock().unwrap().is_empty(), "it held its letter all the while");
    stuck.mood.send_replace(Mood::Takes);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mailboxes_that_are_set_aside_are_told_by_wave_and_by_number() {
    let receiver = Receiver::new(Mood::Takes);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = receiver.clone();
    tokio::spawn(async move { serving.listen(listener).await });
    let dir = data_dir();
    let coordinator = start(dir.path(), &[port]).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    one.quarantine_first = true;
    let workers = &mut [&mut one, &mut two];

    let set_aside =
        |rollout: &v1::Rollout| rollout.waves.iter().any(|wave| wave.quarantined > 0);
    work_until(&coordinator, workers, "some are set aside", set_aside).await;
    let told =
        until("it is told", async || receiver.has("TidegateQuarantined", false)).await;

    assert!(told["labels"]["wave"].as_str().is_some_and(|wave| !wave.is_empty()));
    let summary = told["annotations"]["summary"].as_str().unwrap();
    assert!(summary.contains("mailboxes of wave"), "{summary}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_does_not_start_with_a_key_that_could_be_guessed() {
    let dir = data_dir();
    let key = dir.path().join("webhook.key");
    std::fs::write(&key, "short").unwrap();
    let url = "http://127.0.0.1:1/".to_owned();
    let (repeat, link) = (Duration::from_mins(1), String::new());
    let webhooks = vec![WebhookConfig { url, key, repeat, link, advice: |_| None }];

    let config = Config { webhooks, ..Coordinator::config(dir.path()) };
    let refused = tidegate_coordinator::run(config, std::future::pending()).await;

    let why = format!("{:#}", refused.unwrap_err());
    assert!(why.contains("shorter than 16 bytes"), "{why}");
}
