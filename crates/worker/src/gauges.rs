//! Gauges: what a worker shows of itself to Prometheus and to whoever restarts it.
//!
//! ```text
//! owner ─▶ newest gauges ─▶ /metrics  /livez  /readyz      (loopback only)
//! ```
//!
//! # Invariants
//!
//! * The owner leaves its gauges and goes on: whoever asks, and how often, never slows it.
//! * Labels name nothing of a mailbox.
//! * The worker is alive while its loop turns; that the coordinator is away is no reason to
//!   restart it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_core::holding::Tally;
use tidegate_core::rollout::Vitals;
use tidegate_core::time::{Span, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use tidegate_clock::Clock;

/// How often the owner leaves new gauges, at most.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// A loop that has not turned for so long stands still; it turns many times a second.
const STANDS_STILL_AFTER: Span = Span::from_secs(60);

/// The file that tells where gauges are shown, in the state directory.
pub const METRICS_ADDRESS_FILE: &str = "metrics-address";

/// As the specification of `OpenMetrics` has it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MILLION: f64 = 1e6;

/// How a worker is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    /// When its loop left them.
    pub(crate) at: Timestamp,
    /// How long it may still open without hearing from the coordinator.
    pub(crate) lease: Span,
    /// Whether the coordinator has turned it away.
    pub(crate) turned_away: bool,
    /// Jobs that it has claimed.
    pub(crate) jobs: usize,
    /// How its mailboxes are.
    pub(crate) tally: Tally,
    /// Mailboxes that its hands are at.
    pub(crate) in_hand: usize,
    /// How it feels.
    pub(crate) vitals: Vitals,
}

/// The newest gauges; nothing before the loop has turned.
pub(crate) type Newest = watch::Receiver<Option<Gauges>>;

/// Shows gauges until it is dropped.
pub(crate) struct Shown {
    _end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Shows the `newest` gauges of `node` at `address`; tells in `state_dir` where that is.
///
/// # Errors
///
/// When the address is taken, or the file cannot be written.
pub(crate) async fn show(
    (node, state_dir): (&str, &Path),
    address: SocketAddr,
    (newest, clock): (Newest, Clock),
) -> anyhow::Result<Shown> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("show metrics at {address}"))?;
    let bound = listener.local_addr().context("learn the address of the metrics")?;
    fs::write(state_dir.join(METRICS_ADDRESS_FILE), format!("{bound}\n"))
        .context("write the address of the metrics")?;
    let at = At { node: node.to_owned(), newest, clock };
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(live))
        .with_state(at);
    let (end, ended) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let stopped = async { drop(ended.await) };
        if let Err(error) =
            axum::serve(listener, routes).with_graceful_shutdown(stopped).await
        {
            tracing::warn!(%error, "metrics are not shown any more");
        }
    });
    tracing::info!(address = %bound, "metrics shown");
    Ok(Shown { _end: end, task })
}

/// What pages are made from.
#[derive(Clone)]
struct At {
    node: String,
    newest: Newest,
    clock: Clock,
}

async fn metrics(State(At { node, newest, .. }): State<At>) -> Response {
    let page = page(&node, newest.borrow().as_ref());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], page).into_response()
}

async fn live(State(At { newest, clock, .. }): State<At>) -> (StatusCode, &'static str) {
    let at = newest.borrow().as_ref().map(|gauges| gauges.at);
    match at {
        None => (StatusCode::SERVICE_UNAVAILABLE, "its loop has not turned yet\n"),
        Some(at) if clock.now().since(at) > STANDS_STILL_AFTER => {
            (StatusCode::SERVICE_UNAVAILABLE, "its loop stands still\n")
        }
        Some(_) => (StatusCode::OK, "alive\n"),
    }
}

/// The page of the worker of `node`.
fn page(node: &str, gauges: Option<&Gauges>) -> String {
    let mut page = Page::default();
    page.set(
        "tidegate_build_info",
        "The version that runs; always 1",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1,
    );
    page.set(
        "tidegate_worker_info",
        "The node that it works; always 1",
        &[("node", node)],
        1,
    );
    if let Some(gauges) = gauges {
        page.gauges(gauges);
    }
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _written = text::encode(&mut text, &page.0);
    text
}

/// A page that is being made.
#[derive(Default)]
struct Page(Registry);

type Series = Family<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>;

impl Page {
    fn family(&mut self, name: &str, help: &str) -> Series {
        let series = Series::default();
        self.0.register(name, help, series.clone());
        series
    }

    fn set(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&'static str, &str)],
        value: impl Into<f64>,
    ) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.family(name, help).get_or_create(&labels.collect()).set(value.into());
    }

    fn gauges(&mut self, gauges: &Gauges) {
        let Gauges { at, lease, turned_away, jobs, tally, in_hand, vitals } = gauges;
        let help = "When the loop that decides left these numbers";
        self.set(
            "tidegate_worker_turn_timestamp_seconds",
            help,
            &[],
            seconds(at.millis()),
        );
        let help =
            "How long it may still open mailboxes without hearing from the coordinator";
        self.set("tidegate_worker_lease_seconds", help, &[], seconds(lease.millis()));
        let help =
            "Whether the coordinator has turned it away, so that it lets nobody in";
        self.set("tidegate_worker_turned_away", help, &[], u8::from(*turned_away));
        self.set("tidegate_worker_jobs", "Jobs that it has claimed", &[], exact(*jobs));
        let help = "Mailboxes of its jobs that are so; one may be counted as several";
        let mailboxes = self.family("tidegate_worker_mailboxes", help);
        for (is, count) in [
            ("claimed", tally.claimed),
            ("waiting", tally.waiting),
            ("open", tally.open),
            ("quarantined", tally.set_aside),
            ("dial-tone", tally.dialled),
        ] {
            mailboxes.get_or_create(&vec![("is", is.to_owned())]).set(f64::from(count));
        }
        let help = "Mailboxes that its hands are at now";
        self.set("tidegate_worker_mailboxes_in_hand", help, &[], exact(*in_hand));
        self.vitals(vitals);
    }

    fn vitals(&mut self, vitals: &Vitals) {
        let help = "Probes of opened mailboxes since it started, by whether they were slower \
                    than the policy's limit";
        let probes = self.family("tidegate_worker_probes", help);
        let slow = vitals.probes_slow;
        let quick = vitals.probes.saturating_sub(slow);
        for (is, count) in [("slow", slow), ("quick", quick)] {
            probes.get_or_create(&vec![("is", is.to_owned())]).set(f64::from(count));
        }
        let help = "Median time of the newest probes";
        let probe = f64::from(vitals.probe_micros) / MILLION;
        self.set("tidegate_worker_probe_seconds", help, &[], probe);
        let help = "Mailboxes that could not be read since it started";
        self.set("tidegate_worker_unreadable_mailboxes", help, &[], vitals.read_errors);
        let help = "How often it was kept from acting since it started";
        self.set("tidegate_worker_fenced", help, &[], vitals.fenced);
        if let Some(free) = vitals.disk_free {
            let help = "Free share of the file system with the mail";
            let free = f64::from(free.parts()) / MILLION;
            self.set("tidegate_worker_disk_free_ratio", help, &[], free);
        }
        if let Some(pace) = &vitals.pace {
            let help = "Mailboxes a second that it opens at most";
            let pace = f64::from(pace.millis_per_second) / 1e3;
            self.set("tidegate_worker_pace_mailboxes_per_second", help, &[], pace);
        }
    }
}

fn seconds(millis: u64) -> f64 {
    exact(millis) / 1e3
}

/// Counts here are far below 2^53, up to which they are exact.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn exact(count: impl TryInto<i64>) -> f64 {
    count.try_into().unwrap_or(i64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use tidegate_core::pace::{PaceReport, PaceWhy};
    use tidegate_core::share::Ppm;
    use tidegate_rig::need;

    use super::*;

    /// Gauges in which nothing is absent.
    fn full() -> Gauges {
        let pace = PaceReport {
            millis_per_second: 2_500,
            why: PaceWhy::Unfelt,
            login_p95_millis: 0,
            basis: None,
        };
        let vitals = Vitals {
            probes: 7,
            probes_slow: 2,
            disk_free: Some(Ppm::new(250_000)),
            pace: Some(pace),
            ..Vitals::default()
        };
        let tally = Tally { claimed: 9, waiting: 3, open: 5, set_aside: 1, dialled: 0 };
        let at = Timestamp::from_millis(1_500);
        Gauges { at, tally, vitals, lease: Span::from_secs(19), ..Gauges::default() }
    }

    #[test]
    fn the_page_has_the_numbers_and_promtool_finds_nothing_in_it() {
        need("/usr/bin/promtool", "prometheus");

        let page = page("stor\"1", Some(&full()));

        for line in [
            r#"tidegate_worker_info{node="stor\"1"} 1.0"#,
            r#"tidegate_worker_mailboxes{is="open"} 5.0"#,
            r#"tidegate_worker_probes{is="quick"} 5.0"#,
            "tidegate_worker_lease_seconds{} 19.0",
            "tidegate_worker_turn_timestamp_seconds{} 1.5",
            "tidegate_worker_disk_free_ratio{} 0.25",
            "tidegate_worker_pace_mailboxes_per_second{} 2.5",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
        let mut tool = Command::new("/usr/bin/promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        tool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let said = tool.wait_with_output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    }

    /// The names in a text that are a worker's own.
    fn names(text: &str) -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.split(|c| !is_part(c));
        let words = words.filter(|word| word.starts_with("tidegate_worker_"));
        words.map(str::to_owned).collect()
    }

    #[test]
    fn alerts_and_the_dashboard_ask_for_what_there_is_and_the_runbook_explains_all_of_it()
    {
        let page = page("stor-01", Some(&full()));
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let all: BTreeSet<String> = types
            .filter_map(|line| line.split(' ').next())
            .filter(|name| name.starts_with("tidegate_worker_"))
            .map(str::to_owned)
            .collect();

        let nothing = Vec::<&String>::new();
        for text in [
            include_str!("../../../deploy/prometheus/tidegate-alerts.yml"),
            include_str!("../../../deploy/grafana/tidegate-overview.json"),
        ] {
            let asked = names(text);
            assert!(!asked.is_empty());
            assert_eq!(asked.difference(&all).collect::<Vec<_>>(), nothing);
        }
        let explained = names(include_str!("../../../deploy/README.md"));
        assert_eq!(all.difference(&explained).collect::<Vec<_>>(), nothing);
    }
}
