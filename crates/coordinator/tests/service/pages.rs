//! Pages over plain HTTP, asked by a real Prometheus and by whoever watches processes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tidegate_coordinator::address_file;
use tidegate_rig::{Prometheus, need, wait_until};
use tidegate_wire::v1;

use crate::fleet::{Coordinator, Worker, data_dir, rows, work_until};

/// Longer than a page takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/prometheus");

const DASHBOARD: &str = include_str!("../../../../deploy/grafana/tidegate-overview.json");

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_the_rollout_and_answers_the_dashboard() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let workers = &mut [&mut one, &mut two];
    let finished = |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    work_until(&coordinator, workers, "it is finished", finished).await;

    let prometheus = Prometheus::start(port(dir.path()));
    let is_finished =
        || value(&prometheus, "tidegate_rollout_state{state=\"finished\"}") == Some(1.0);
    let scraped = wait_until(PATIENCE, is_finished);
    let open = value(&prometheus, "sum(tidegate_wave_mailboxes{is=\"open\"})");
    let intact = value(&prometheus, "tidegate_messages{outcome=\"intact\"}");

    assert!(scraped, "{}", get(dir.path(), "/metrics").1);
    assert_eq!((open, intact), (Some(20.0), Some(200.0)));
    for expression in expressions(DASHBOARD) {
        let answer = ask(&prometheus, &expression);
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_in_the_page_and_in_the_alerts() {
    need("/usr/bin/promtool", "prometheus");
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    coordinator.apply(rows(20)).await;
    let mut worker = Worker::join(&coordinator, "n1", 11).await.unwrap();
    worker.beat().await;

    let (_, page) = get(dir.path(), "/metrics");
    let of_page = promtool(&["check", "metrics"], &page);
    let of_alerts = promtool(&["check", "rules", "tidegate-alerts.yml"], "");
    let of_tests = promtool(&["test", "rules", "tidegate-alerts.test.yml"], "");

    assert_eq!(of_page, (true, String::new()), "{page}");
    assert!(of_alerts.0, "{}", of_alerts.1);
    assert!(of_tests.0, "{}", of_tests.1);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_is_alive_and_ready_also_before_a_plan() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;

    let before = [get(dir.path(), "/livez"), get(dir.path(), "/readyz")];
    coordinator.apply(rows(20)).await;
    let after = [get(dir.path(), "/livez"), get(dir.path(), "/readyz")];

    for pages in [before, after] {
        assert_eq!(pages, [(200, "alive\n".to_owned()), (200, "ready\n".to_owned())]);
    }
    coordinator.stop().await;
}

/// All queries of a dashboard.
fn expressions(dashboard: &str) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let list = |of: &Value, name| of.get(name).unwrap().as_array().unwrap().clone();
    let panels = list(&dashboard, "panels");
    let targets = panels.iter().flat_map(|panel| list(panel, "targets"));
    let expressions: Vec<_> = targets
        .map(|target| target.get("expr").unwrap().as_str().unwrap().to_owned())
        .collect();
    assert!(expressions.len() > 20, "{expressions:?}");
    expressions
}

/// The one value that `query` has.
fn value(prometheus: &Prometheus, query: &str) -> Option<f64> {
    let answer = ask(prometheus, query);
    answer.pointer("/data/result/0/value/1")?.as_str()?.parse().ok()
}

fn ask(prometheus: &Prometheus, query: &str) -> Value {
    let url = format!("{}/api/v1/query", prometheus.url());
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = agent.get(&url).query("query", query).call().unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

/// Runs promtool beside the alerts: whether it was content, and what it complained about.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut tool = Command::new("/usr/bin/promtool")
        .args(arguments)
        .current_dir(ALERTS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    (said.status.success(), String::from_utf8(said.stderr).unwrap())
}

/// The status and the text of a page.
fn get(dir: &Path, path: &str) -> (u16, String) {
    let mut talk = TcpStream::connect(("127.0.0.1", port(dir))).unwrap();
    write!(talk, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    talk.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.to_owned())
}

fn port(dir: &Path) -> u16 {
    let address = fs::read_to_string(address_file(dir)).unwrap();
    address.trim().rsplit(':').next().unwrap().parse().unwrap()
}
