//! Others' measurements, asked of a real Prometheus server that scrapes an exporter.

use tidegate_core::inventory::{InventoryBuilder, Row};
use tidegate_core::plan::plan;
use tidegate_rig::{Exporter, Prometheus};
use tidegate_wire::{policy_file, v1};

use crate::fleet::{Coordinator, POLICY, Worker, data_dir, rows, upload, work_until};

/// A wave passes while the shared database is at most half busy.
const ASKS: &str = r#"
[gate.signals]
window = "1 min"

[[gate.external]]
name = "auth-db"
query = "max(auth_db_busy)"
max = 0.5
every = "100 ms"
age_max = "2 s"
# So coarse that a minute of trouble is soon outweighed.
p_ok = "40 %"
p_bad = "60 %"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_waits_for_what_others_measure_and_for_those_who_measure_it() {
    let exporter = Exporter::start("auth_db_busy 0.9\n");
    let mut prometheus = Prometheus::start(exporter.port());
    let dir = data_dir();
    let coordinator = Coordinator::start_asking(dir.path(), Some(prometheus.url())).await;
    apply_asking(&coordinator).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let workers = &mut [&mut one, &mut two];

    let busy = holds_for("out-of-bounds", "`auth-db` is 0.9, must be at most 0.5");
    work_until(&coordinator, workers, "it holds for a busy database", busy).await;

    prometheus.stop();
    let gone = holds_for("no-answer", "`auth-db` was last answered");
    work_until(&coordinator, workers, "it holds for the silent server", gone).await;

    exporter.say("auth_db_busy 0.1\n");
    prometheus.start_again();
    let finished = |rollout: &v1::Rollout| rollout.state() == v1::RolloutState::Finished;
    let rollout = work_until(&coordinator, workers, "it is finished", finished).await;

    assert_eq!(rollout.waves.iter().map(|wave| wave.open).sum::<u32>(), 8);
    coordinator.stop().await;

    // Every Expand is in the journal with its answers, and leads to the same verdict again.
    let again = Coordinator::start_again(dir.path()).await;
    assert_eq!(again.rollout().await.state(), v1::RolloutState::Finished);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_to_ask_nothing_follows_the_first_wave() {
    let dir = data_dir();
    let coordinator = Coordinator::start(dir.path()).await;
    apply_asking(&coordinator).await;
    let mut one = Worker::join(&coordinator, "n1", 11).await.unwrap();
    let mut two = Worker::join(&coordinator, "n2", 22).await.unwrap();
    let workers = &mut [&mut one, &mut two];

    let unanswered = holds_for("no-answer", "`auth-db` has not been answered yet");
    let rollout =
        work_until(&coordinator, workers, "it holds without a server", unanswered).await;

    assert_eq!(rollout.waves.iter().map(|wave| wave.passed).max(), Some(0));
    coordinator.stop().await;
}

/// Whether the first wave is open, and its gate waits for this alone, or for its statistics
/// besides.
fn holds_for(code: &str, text: &str) -> impl Fn(&v1::Rollout) -> bool + use<> {
    let (code, text) = (code.to_owned(), text.to_owned());
    move |rollout| {
        let Some(gate) = rollout.waves.first().and_then(|wave| wave.gate.as_ref()) else {
            return false;
        };
        let is_it = |why: &v1::Why| why.code == code && why.text.starts_with(&text);
        gate.verdict == "hold"
            && rollout.waves.iter().any(|wave| wave.open > 0)
            && gate.reasons.iter().any(is_it)
    }
}

/// Applies eight mailboxes under a policy that asks.
async fn apply_asking(coordinator: &Coordinator) {
    let policy = POLICY.replace("[limits]", &format!("{ASKS}\n[limits]"));
    apply_under(coordinator, policy).await;
}

/// Applies eight mailboxes under `policy`.
pub(crate) async fn apply_under(coordinator: &Coordinator, policy: String) {
    let rows = rows(8);
    let mut builder = InventoryBuilder::new();
    for row in &rows {
        let labels: Vec<(&str, &str)> = row
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let v1::InventoryRow { address, node, tier, path, .. } = row;
        builder.push(Row { address, node, tier, path, labels: &labels }).unwrap();
    }
    let parsed = policy_file::parse("asks.toml", &policy).unwrap();
    let planned = plan(&builder.finish().unwrap().into(), &parsed.into()).unwrap();
    let mut parts = upload(&planned.digest().to_string(), rows);
    let header = parts.iter_mut().find_map(|request| match &mut request.part {
        Some(v1::apply_request::Part::Header(header)) => Some(header),
        Some(v1::apply_request::Part::Rows(_)) | None => None,
    });
    header.unwrap().policy_toml = policy;
    coordinator.operator().apply(tokio_stream::iter(parts)).await.unwrap();
}
