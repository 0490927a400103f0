//! Metrics: how far the rollout is, for Prometheus, as `OpenMetrics` text
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! # Invariants
//!
//! * A page is what readers see at that instant; `tidegate_view_timestamp_seconds` says which.
//! * Labels are names of waves, nodes, signals and exchangers, and words of the contract; never
//!   anything of a mailbox.
//! * A state is one series for each word there is, 1 for the one it is in, so that no alert waits
//!   for a series that does not exist yet.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_core::gate::{Standing, Verdict};
use tidegate_core::time::Timestamp;
use tidegate_wire::protocol::instant;
use tidegate_wire::v1::{self, NodeState, RolloutState, WaveState};

use crate::asked::Asked;

const MILLION: f64 = 1e6;

/// The page for `rollout`, or for a coordinator without one, of which this was `asked`.
pub(crate) fn page(rollout: Option<&v1::Rollout>, asked: &Asked) -> String {
    let mut page = Page::default();
    let mut build = page.family("tidegate_build_info", "The version that runs; always 1");
    build.set(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let help = "How long readers' questions take here, by method";
    page.0.register("tidegate_question_seconds", help, asked.series());
    if let Some(rollout) = rollout {
        page.rollout(rollout);
        page.outcome(rollout);
        page.waves(&rollout.waves);
        page.forecasts(&rollout.waves);
        page.gates(&rollout.waves);
        page.queues(rollout);
        page.nodes(&rollout.nodes);
        page.vitals(&rollout.nodes);
    }
    page.text()
}

/// A page that is being made.
#[derive(Default)]
struct Page(Registry);

/// The series of one name.
struct Series(Family<Vec<(&'static str, String)>, Gauge<f64, AtomicU64>>);

impl Series {
    fn set(&mut self, labels: &[(&'static str, &str)], value: impl Into<f64>) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.0.get_or_create(&labels).set(value.into());
    }

    /// One series for each of `words`, of which `is` is true.
    fn set_state<'a>(
        &mut self,
        labels: &[(&'static str, &str)],
        (name, words): (&'static str, impl IntoIterator<Item = &'a str>),
        is: &str,
    ) {
        for word in words {
            let labels: Vec<_> = labels.iter().copied().chain([(name, word)]).collect();
            self.set(&labels, u8::from(word == is));
        }
    }
}

impl Page {
    fn family(&mut self, name: &str, help: &str) -> Series {
        let family = Family::default();
        self.0.register(name, help, family.clone());
        Series(family)
    }

    fn text(&self) -> String {
        let mut page = String::new();
        // Writing into a string cannot fail.
        let _written = text::encode(&mut page, &self.0);
        page
    }

    fn rollout(&mut self, rollout: &v1::Rollout) {
        let names = [
            ("rollout", rollout.name.as_str()),
            ("plan", rollout.plan_digest.get(..12).unwrap_or_default()),
        ];
        let help = "The rollout's name and the beginning of its plan's digest; always 1";
        self.family("tidegate_rollout_info", help).set(&names, 1);
        let words = words(|number| RolloutState::try_from(number).ok());
        let help = "Whether the rollout is in this state";
        let is = word(rollout.state().as_str_name());
        let words = words.iter().map(String::as_str);
        self.family("tidegate_rollout_state", help).set_state(&[], ("state", words), &is);
        let times = [
            (
                "tidegate_view_timestamp_seconds",
                "When this page was true",
                rollout.at_time,
            ),
            (
                "tidegate_rollout_start_timestamp_seconds",
                "When the plan was applied",
                rollout.start_time,
            ),
            (
                "tidegate_rollout_finish_timestamp_seconds",
                "When the last wave had passed the top of the ladder",
                rollout.finish_time,
            ),
        ];
        for (name, help, time) in times {
            if let Some(at) = time.as_ref().and_then(instant) {
                self.family(name, help).set(&[], seconds(at));
            }
        }
        let mut mailboxes = self.family(
            "tidegate_mailboxes",
            "Mailboxes of the inventory, by whether a wave contains them",
        );
        mailboxes.set(&[("plan", "in-waves")], rollout.planned);
        mailboxes.set(&[("plan", "excluded")], rollout.excluded);
        let missing = rollout.rebuild.as_ref().map_or(0, |rebuild| rebuild.missing.len());
        let help =
            "Nodes that have yet to tell what they hold, while a rollout is made again";
        self.family("tidegate_rebuild_missing_nodes", help).set(&[], exact(missing));
        self.stop(rollout.stop.as_ref());
    }

    fn stop(&mut self, stop: Option<&v1::Stop>) {
        let stop = stop
            .cloned()
            .unwrap_or_else(|| v1::Stop { effective: true, ..v1::Stop::default() });
        let help = "Nodes that have not acknowledged the stop and may still open mailboxes; 0 \
                    without a stop";
        let waits = stop.unacknowledged.len();
        self.family("tidegate_stop_unacknowledged_nodes", help).set(&[], exact(waits));
        let help =
            "The most mailboxes that may still open although everything was stopped";
        self.family("tidegate_stop_may_still_open_mailboxes", help)
            .set(&[], stop.may_still_open);
    }

    fn outcome(&mut self, rollout: &v1::Rollout) {
        let totals = rollout.totals.unwrap_or_default();
        let messages = [
            ("intact", totals.intact),
            ("repaired", totals.repaired),
            ("returned", totals.returned),
            ("newer", totals.newer),
            ("deleted", totals.deleted),
            ("set-aside", totals.set_aside),
            ("lost", totals.lost),
        ];
        let mut family = self.family(
            "tidegate_messages",
            "Messages of prepared mailboxes, by what became of them",
        );
        for (outcome, count) in messages {
            family.set(&[("outcome", outcome)], exact(count));
        }
        let help = "Decisions about messages without proof, and odd things found";
        self.family("tidegate_doubts", help).set(&[], exact(totals.doubts));
        let help = "Bytes of mail read while verifying";
        self.family("tidegate_read_bytes", help).set(&[], exact(totals.bytes_read));
        let grades = totals.grades.unwrap_or_default();
        let grades = [
            ("perfect", grades.perfect),
            ("good", grades.good),
            ("investigate", grades.investigate),
            ("poor", grades.poor),
        ];
        let mut family = self.family(
            "tidegate_graded_mailboxes",
            "Prepared mailboxes, by how well they came back",
        );
        for (grade, count) in grades {
            family.set(&[("grade", grade)], count);
        }
    }

    fn waves(&mut self, waves: &[v1::Wave]) {
        let mut states =
            self.family("tidegate_wave_state", "Whether the wave is in this state");
        let words = words(|number| WaveState::try_from(number).ok());
        for wave in waves {
            let is = word(wave.state().as_str_name());
            let words = words.iter().map(String::as_str);
            states.set_state(&[("wave", &wave.name)], ("state", words), &is);
        }
        let help = "The level of the service ladder that the wave is allowed or has passed; 0 \
                    is held";
        let mut levels = self.family("tidegate_wave_level", help);
        for wave in waves {
            levels.set(&[("wave", &wave.name), ("is", "allowed")], wave.level);
            levels.set(&[("wave", &wave.name), ("is", "passed")], wave.passed);
        }
        let mut allowed = self.family(
            "tidegate_wave_allowed_timestamp_seconds",
            "When the wave's level was allowed; absent while it waits",
        );
        for wave in waves {
            if let Some(at) = wave.allowed_time.as_ref().and_then(instant) {
                allowed.set(&[("wave", &wave.name)], seconds(at));
            }
        }
        let help =
            "Mailboxes of the wave that are so; one mailbox may be counted as several";
        let mut mailboxes = self.family("tidegate_wave_mailboxes", help);
        for wave in waves {
            let counts = [
                ("planned", wave.planned),
                ("prepared", wave.prepared),
                ("quarantined", wave.quarantined),
                ("open", wave.open),
                ("opened", wave.opened),
                ("mature", wave.mature),
                ("failed", wave.failed),
                ("dial-tone", wave.dial_tones),
                ("closing", wave.closing),
            ];
            for (is, count) in counts {
                mailboxes.set(&[("wave", &wave.name), ("is", is)], count);
            }
        }
    }

    fn forecasts(&mut self, waves: &[v1::Wave]) {
        let help = "When the wave will stand on the top of the ladder: before p10 and after p90 \
                    once in ten times each; absent where that cannot be told";
        let mut forecasts = self.family("tidegate_wave_forecast_timestamp_seconds", help);
        let finishes = waves.iter().filter_map(|it| Some((&it.name, it.finish?)));
        for (wave, v1::Forecast { p10_time, p50_time, p90_time }) in finishes {
            for (bound, time) in [("p10", p10_time), ("p50", p50_time), ("p90", p90_time)]
            {
                if let Some(at) = time.as_ref().and_then(instant) {
                    forecasts.set(&[("wave", wave), ("bound", bound)], seconds(at));
                }
            }
        }
    }

    fn gates(&mut self, waves: &[v1::Wave]) {
        let gates =
            || waves.iter().filter_map(|wave| Some((&wave.name, wave.gate.as_ref()?)));
        let help =
            "Whether the gate says this about the wave's level; absent while it waits";
        let mut verdicts = self.family("tidegate_gate_verdict", help);
        for (wave, gate) in gates() {
            verdicts.set_state(
                &[("wave", wave)],
                ("verdict", Verdict::CODES),
                &gate.verdict,
            );
        }
        let help = "Whether the signal stands so in the wave's gate";
        let mut standings = self.family("tidegate_gate_signal_standing", help);
        for (wave, gate) in gates() {
            for signal in &gate.signals {
                let labels = [("wave", wave.as_str()), ("signal", signal.name.as_str())];
                let words = Standing::ALL.map(Standing::code);
                standings.set_state(&labels, ("standing", words), &signal.standing);
            }
        }
        let help = "What the wave's gate counts for the signal: failures, samples, and the good \
                    ones that it still needs";
        let mut samples = self.family("tidegate_gate_samples", help);
        for (wave, gate) in gates() {
            for signal in &gate.signals {
                let counts = [
                    ("failed", signal.failed),
                    ("opened", signal.opened),
                    ("mature", signal.mature),
                    ("missing", signal.missing),
                ];
                for (is, count) in counts {
                    samples.set(
                        &[("wave", wave), ("signal", &signal.name), ("is", is)],
                        count,
                    );
                }
            }
        }
        let help = "Signals that no node has a source for, so that nobody looks at them";
        let mut unmeasured = self.family("tidegate_gate_unmeasured_signals", help);
        for (wave, gate) in gates() {
            unmeasured.set(&[("wave", wave)], exact(gate.unmeasured.len()));
        }
    }

    fn queues(&mut self, rollout: &v1::Rollout) {
        let queues = || {
            rollout
                .waves
                .iter()
                .filter_map(|wave| Some((&wave.name, wave.queue.as_ref()?)))
        };
        let help =
            "Messages for the wave in the queues of all mail exchangers that report";
        let mut messages = self.family("tidegate_queue_messages", help);
        for (wave, queue) in queues() {
            messages.set(&[("wave", wave)], exact(queue.messages));
        }
        let help = "Recipients of queued messages whose mailbox takes mail now";
        let mut recipients = self.family("tidegate_queue_open_recipients", help);
        for (wave, queue) in queues() {
            recipients.set(&[("wave", wave)], exact(queue.open_recipients));
        }
        let help =
            "When the oldest message for the wave arrived; absent without messages";
        let mut oldest = self.family("tidegate_queue_oldest_timestamp_seconds", help);
        for (wave, queue) in queues() {
            if let Some(at) = queue.oldest_time.as_ref().and_then(instant) {
                oldest.set(&[("wave", wave)], seconds(at));
            }
        }
        let help = "Whether the mail exchanger has reported within the last minute";
        let mut reports = self.family("tidegate_exchanger_reports", help);
        for exchanger in &rollout.exchangers {
            reports.set(&[("exchanger", &exchanger.name)], u8::from(!exchanger.silent));
        }
        let help = "Messages in the mail exchanger's queue when it was last listed";
        let mut messages = self.family("tidegate_exchanger_messages", help);
        for exchanger in &rollout.exchangers {
            messages.set(&[("exchanger", &exchanger.name)], exact(exchanger.messages));
        }
    }

    fn nodes(&mut self, nodes: &[v1::Node]) {
        let mut states =
            self.family("tidegate_node_state", "Whether the node is in this state");
        let words = words(|number| NodeState::try_from(number).ok());
        for node in nodes {
            let is = word(node.state().as_str_name());
            let words = words.iter().map(String::as_str);
            states.set_state(&[("node", &node.name)], ("state", words), &is);
        }
        let help =
            "When the node was last heard; absent if not since the coordinator started";
        let mut heard = self.family("tidegate_node_heard_timestamp_seconds", help);
        for node in nodes {
            if let Some(at) = node.heard_time.as_ref().and_then(instant) {
                heard.set(&[("node", &node.name)], seconds(at));
            }
        }
        let help =
            "Mailboxes of the node that are so; one mailbox may be counted as several";
        let mut mailboxes = self.family("tidegate_node_mailboxes", help);
        for node in nodes {
            let counts = [
                ("planned", node.planned),
                ("prepared", node.prepared),
                ("quarantined", node.quarantined),
                ("open", node.open),
                ("failed", node.failed),
                ("dial-tone", node.dial_tones),
                ("closing", node.closing),
            ];
            for (is, count) in counts {
                mailboxes.set(&[("node", &node.name), ("is", is)], count);
            }
        }
        let help = "Messages a second that the node may get out of all queues";
        let mut drain = self.family("tidegate_node_drain_messages_per_second", help);
        for node in nodes {
            drain.set(&[("node", &node.name)], node.drain_per_second);
        }
    }

    fn vitals(&mut self, nodes: &[v1::Node]) {
        let vitals =
            || nodes.iter().filter_map(|node| Some((&node.name, node.vitals.as_ref()?)));
        let help = "Probes of opened mailboxes since the worker started; `slow` are those above \
                    the policy's limit";
        let mut probes = self.family("tidegate_node_probes", help);
        for (node, vitals) in vitals() {
            probes.set(&[("node", node), ("is", "all")], vitals.probes);
            probes.set(&[("node", node), ("is", "slow")], vitals.probes_slow);
        }
        let help = "Median time of the newest probes";
        let mut probe = self.family("tidegate_node_probe_seconds", help);
        for (node, vitals) in vitals() {
            probe.set(&[("node", node)], f64::from(vitals.probe_micros) / MILLION);
        }
        let help = "Mailboxes that could not be read since the worker started";
        let mut errors = self.family("tidegate_node_unreadable_mailboxes", help);
        for (node, vitals) in vitals() {
            errors.set(&[("node", node)], vitals.read_errors);
        }
        let help = "How often the worker was kept from acting since it started, by a newer claim \
                    or by its lease";
        let mut fenced = self.family("tidegate_node_fenced", help);
        for (node, vitals) in vitals() {
            fenced.set(&[("node", node)], vitals.fenced);
        }
        let help = "Free share of the live file system; absent if unknown";
        let mut free = self.family("tidegate_node_disk_free_ratio", help);
        for (node, vitals) in vitals() {
            if let Some(ppm) = vitals.disk_free_ppm {
                free.set(&[("node", node)], f64::from(ppm) / MILLION);
            }
        }
        let help =
            "Mailboxes a second that the node opens at most; absent before it knows";
        let mut pace = self.family("tidegate_node_pace_mailboxes_per_second", help);
        for (node, vitals) in vitals() {
            if let Some(it) = &vitals.pace {
                pace.set(&[("node", node)], f64::from(it.millis_per_second) / 1e3);
            }
        }
        let help = "Minutes in which the node's signal was above its limit since the worker \
                    started";
        let mut bad = self.family("tidegate_node_signal_bad_minutes", help);
        for (node, vitals) in vitals() {
            for pulse in &vitals.pulses {
                bad.set(&[("node", node), ("signal", &pulse.signal)], pulse.minutes_bad);
            }
        }
    }
}

/// All words of an enumeration but the one that is never sent.
fn words<E: Named>(of: impl Fn(i32) -> Option<E>) -> Vec<String> {
    (1..).map_while(of).map(|it| word(it.name())).collect()
}

/// An enumeration of the contract.
trait Named {
    fn name(&self) -> &'static str;
}

macro_rules! named {
    ($($of:ty),*) => {$(
        impl Named for $of {
            fn name(&self) -> &'static str {
                self.as_str_name()
            }
        }
    )*};
}

named!(RolloutState, WaveState, NodeState);

/// The word for a value of the contract: `NODE_STATE_NO_WORKER` is `no-worker`.
fn word(name: &str) -> String {
    let word = name.split_once("_STATE_").map_or(name, |(_, word)| word);
    word.to_lowercase().replace('_', "-")
}

fn seconds(at: Timestamp) -> f64 {
    exact(at.millis()) / 1e3
}

/// Counts here are far below 2^53, up to which they are exact.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn exact(count: impl TryInto<i64>) -> f64 {
    count.try_into().unwrap_or(i64::MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tidegate_wire::protocol::timestamp;

    fn rollout() -> v1::Rollout {
        let signal = v1::Signal {
            name: "probe".to_owned(),
            failed: 1,
            standing: "open".to_owned(),
            ..v1::Signal::default()
        };
        let wave = v1::Wave {
            name: "first".to_owned(),
            state: WaveState::HeldBack.into(),
            planned: 7,
            gate: Some(v1::Gate {
                verdict: "hold".to_owned(),
                signals: vec![signal],
                ..v1::Gate::default()
            }),
            ..v1::Wave::default()
        };
        let node = v1::Node {
            name: "stor\"1\\\n".to_owned(),
            state: NodeState::NoWorker.into(),
            ..v1::Node::default()
        };
        v1::Rollout {
            name: "evening".to_owned(),
            plan_digest: "0123456789abcdef".to_owned(),
            state: RolloutState::Halted.into(),
            waves: vec![wave],
            nodes: vec![node],
            ..v1::Rollout::default()
        }
    }

    fn lines(beginning: &str) -> Vec<String> {
        let page = page(Some(&rollout()), &Asked::default());
        let mut lines: Vec<String> = page
            .lines()
            .filter(|line| line.starts_with(beginning))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_state_has_a_series_for_each_word_of_the_contract() {
        assert_eq!(
            lines("tidegate_rollout_state{"),
            [
                r#"tidegate_rollout_state{state="aborted"} 0.0"#,
                r#"tidegate_rollout_state{state="finished"} 0.0"#,
                r#"tidegate_rollout_state{state="halted"} 1.0"#,
                r#"tidegate_rollout_state{state="paused"} 0.0"#,
                r#"tidegate_rollout_state{state="running"} 0.0"#,
            ]
        );
        assert!(lines("tidegate_wave_state").contains(
            &r#"tidegate_wave_state{wave="first",state="held-back"} 1.0"#.to_owned()
        ));
    }

    #[test]
    fn a_name_of_a_node_cannot_break_the_page() {
        assert!(
            lines("tidegate_node_state").contains(
                &r#"tidegate_node_state{node="stor\"1\\\n",state="no-worker"} 1.0"#
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_gate_shows_its_verdict_and_its_numbers() {
        assert!(lines("tidegate_gate").contains(
            &r#"tidegate_gate_verdict{wave="first",verdict="hold"} 1.0"#.to_owned()
        ));
        assert!(
            lines("tidegate_gate").contains(
                &r#"tidegate_gate_samples{wave="first",signal="probe",is="failed"} 1.0"#
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_forecast_is_a_band_and_where_there_is_none_it_is_absent() {
        let page = page(Some(&full()), &Asked::default());

        let series =
            "tidegate_wave_forecast_timestamp_seconds{wave=\"first\",bound=\"p90\"}";
        assert!(page.contains(&format!("\n{series} 1.5\n")), "{page}");
        assert_eq!(lines("tidegate_wave_forecast"), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_told_by_node_and_by_wave_at_once() {
        let page = page(Some(&full()), &Asked::default());

        // So that the series grow with the nodes and with the waves, and not with their product.
        let both = page.lines().filter(|it| it.contains("node=") && it.contains("wave="));
        assert_eq!(both.collect::<Vec<_>>(), Vec::<&str>::new());
    }

    /// What alerts and the dashboard ask for.
    const ASKED: [&str; 2] = [
        include_str!("../../../deploy/prometheus/tidegate-alerts.yml"),
        include_str!("../../../deploy/grafana/tidegate-overview.json"),
    ];

    const RUNBOOK: &str = include_str!("../../../deploy/README.md");

    /// The names of metrics in a text, but for those that workers and the public page show
    /// themselves.
    fn names(text: &str) -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_ours = |word: &&str| {
            let elsewhere = ["tidegate_worker_", "tidegate_public_"];
            word.starts_with("tidegate_")
                && !elsewhere.iter().any(|it| word.starts_with(it))
        };
        let words = text.split(|c| !is_part(c)).filter(is_ours);
        words.map(str::to_owned).collect()
    }

    /// The names of all metrics that there are.
    fn all() -> BTreeSet<String> {
        let page = page(Some(&full()), &Asked::default());
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }

    /// A rollout in which nothing is absent.
    fn full() -> v1::Rollout {
        let time = || Some(timestamp(Timestamp::from_millis(1_500)));
        let mut rollout = rollout();
        rollout.start_time = time();
        rollout.at_time = time();
        rollout.finish_time = time();
        rollout.exchangers = vec![v1::Exchanger::default()];
        for wave in &mut rollout.waves {
            wave.allowed_time = time();
            wave.finish = Some(v1::Forecast {
                p10_time: time(),
                p50_time: time(),
                p90_time: time(),
            });
            wave.queue = Some(v1::Queue { oldest_time: time(), ..v1::Queue::default() });
        }
        for node in &mut rollout.nodes {
            node.heard_time = time();
            node.vitals = Some(v1::Vitals {
                disk_free_ppm: Some(1),
                pace: Some(v1::Pace::default()),
                pulses: vec![v1::Pulse::default()],
                ..v1::Vitals::default()
            });
        }
        rollout
    }

    #[test]
    fn alerts_and_the_dashboard_ask_for_nothing_that_does_not_exist() {
        let all = all();

        for text in ASKED {
            let asked = names(text);
            assert!(asked.len() > 5, "{asked:?}");
            assert_eq!(asked.difference(&all).collect::<Vec<_>>(), Vec::<&String>::new());
        }
    }

    #[test]
    fn the_runbook_explains_every_metric_and_every_alert() {
        let explained = names(RUNBOOK);
        let alerts =
            ASKED[0].lines().filter_map(|line| line.trim().strip_prefix("- alert: "));

        assert_eq!(
            all().difference(&explained).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
        for alert in alerts {
            assert!(RUNBOOK.contains(&format!("`{alert}`")), "{alert} is not explained");
        }
    }

    #[test]
    fn without_a_rollout_only_the_version_is_told() {
        let version = env!("CARGO_PKG_VERSION");

        let page = page(None, &Asked::default());

        let series =
            page.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
        assert_eq!(series, [format!("tidegate_build_info{{version=\"{version}\"}} 1.0")]);
        assert!(page.ends_with("# EOF\n"));
    }
}
