//! Traces: what a collector is told of one command, from real programs, in OTLP.
//!
//! # Invariants
//!
//! * The collector decodes what OpenTelemetry's own contract says.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may say no more than that it failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tempfile::TempDir;
use tidegate_rig::{Collector, FreePorts, LOOPBACK, wait_until};
use tonic_prost::prost::Message as _;

const POLICY: &str = include_str!("../deploy/config/lab-policy-small.toml");

/// Longer than programs take to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_collector_sees_one_command_across_three_programs_and_nobodys_address() {
    let collector = Collector::start();
    let site = Site::start(collector.url());
    site.types(collector.url(), "apply --yes --inventory users.csv --policy policy.toml");
    site.types("", "wait --for node=stor-01:working --timeout 60");

    site.types(collector.url(), "mailbox show anna@example.org");
    let paused = site.types(collector.url(), "pause --reason anna@example.org");
    assert!(text(&paused.stdout).contains("effective"), "{paused:?}");
    let is_whole = || {
        let spans = spans_of(&collector);
        let pause = spans.iter().find(|span| span.name == "tidegate pause");
        pause.is_some_and(|pause| {
            let of_it = spans.iter().filter(|span| span.trace == pause.trace);
            of_it.filter(|span| span.name == "obey orders").count() == 1
        })
    };
    let whole = wait_until(PATIENCE, is_whole);
    let spans = spans_of(&collector);
    assert!(whole, "{spans:#?}");

    let pause = spans.iter().find(|span| span.name == "tidegate pause").unwrap();
    let of_it: Vec<&Span> = spans.iter().filter(|it| it.trace == pause.trace).collect();
    let found = |program: &str, name: &str| {
        let mut found =
            of_it.iter().filter(|it| it.program == program && it.name == name);
        *found.next().unwrap_or_else(|| panic!("no {name} of {program}: {of_it:#?}"))
    };
    let method = "tidegate.v1.OperatorService/Pause";
    let sent = found("tidegate", method);
    let served = found("tidegate-coordinator", method);
    let obeyed = found("tidegate-worker", "obey orders");
    assert_eq!(sent.parent, pause.id);
    assert_eq!(served.parent, sent.id);
    assert_eq!(obeyed.parent, served.id);
    assert_eq!(served.says["rpc.system.name"], "grpc");
    assert_eq!(served.says["rpc.method"], method);
    assert_eq!(served.says["rpc.response.status_code"], "Ok");
    assert_eq!(obeyed.says["tidegate.node"], "stor-01");

    // What a person did not begin is in no trace, and nobody is named.
    let roots = spans.iter().filter(|span| span.parent.is_empty());
    let others: Vec<&Span> =
        roots.filter(|span| !span.name.starts_with("tidegate ")).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(!has(&collector, "anna"), "a span names somebody");
    assert!(has(&collector, "tidegate mailbox show"), "that command was traced as well");
}

#[test]
fn without_a_collector_a_command_ends_as_ever() {
    let [port] = FreePorts::take(1).hand_over();
    let free = format!("{LOOPBACK}:{port}");
    let dir = TempDir::with_prefix("tidegate-traces-").unwrap();
    let explain = |collector: &str| {
        Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["explain", "paused"])
            .current_dir(dir.path())
            .env("TIDEGATE_TRACES", collector)
            .output()
            .unwrap()
    };

    let away = explain(&format!("http://{free}"));
    let wrong = explain("collector");

    assert_eq!(away.status.code(), Some(0), "{}", text(&away.stderr));
    assert_eq!(text(&away.stderr), "");
    assert_eq!(wrong.status.code(), Some(64));
    assert!(text(&wrong.stderr).contains("no address of a collector"));
}

/// A span as it arrived.
#[derive(Clone, Debug)]
struct Span {
    program: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    says: BTreeMap<String, String>,
}

/// The bodies of all that the collector was sent.
fn bodies(collector: &Collector) -> impl Iterator<Item = Vec<u8>> {
    collector.taken().into_iter().map(|it| {
        assert_eq!(it.asked, "POST /v1/traces");
        it.body
    })
}

fn has(collector: &Collector, words: &str) -> bool {
    let holds =
        |body: Vec<u8>| body.windows(words.len()).any(|part| part == words.as_bytes());
    bodies(collector).any(holds)
}

fn spans_of(collector: &Collector) -> Vec<Span> {
    let mut spans = Vec::new();
    for body in bodies(collector) {
        let told = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        for program in told.resource_spans {
            let resource = words(program.resource.unwrap().attributes);
            let sent = program.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(sent.map(|span| Span {
                program: resource["service.name"].clone(),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
                says: words(span.attributes),
            }));
        }
    }
    spans
}

/// Attributes as text.
fn words(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|it| (it.key, text(it.value))).collect()
}

/// A coordinator and the worker of its only node.
struct Site {
    dir: TempDir,
    programs: Vec<Child>,
    url: String,
}

impl Site {
    fn start(collector: &str) -> Self {
        let dir = TempDir::with_prefix("tidegate-traces-").unwrap();
        let at = |name: &str| dir.path().join(name);
        for side in ["live", "snapshot"] {
            for part in ["cur", "new", "tmp"] {
                fs::create_dir_all(at(side).join("anna/Maildir").join(part)).unwrap();
            }
            let letter = at(side).join("anna/Maildir/cur/1.M1.host,S=24:2,S");
            fs::write(letter, "Subject: hello\n\nHow do?\n").unwrap();
        }
        let users =
            "address,node,tier,path\nanna@example.org,stor-01,free,anna/Maildir\n";
        fs::write(at("users.csv"), users).unwrap();
        fs::write(at("policy.toml"), POLICY).unwrap();
        let config = format!(
            "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\ntraces = \"{collector}\"\n"
        );
        fs::write(at("coordinator.toml"), config).unwrap();
        let mut site = Self { dir, programs: Vec::new(), url: String::new() };
        site.run("coordinator");
        let address = site.dir.path().join("data/address");
        assert!(wait_until(PATIENCE, || address.exists()), "no coordinator");
        site.url = format!("http://{}", fs::read_to_string(address).unwrap().trim());
        let config = format!(
            "node = \"stor-01\"\ncoordinator = \"{}\"\nstate_dir = \"state\"\n\
             live = \"live\"\nsnapshot = \"snapshot\"\nwork = \"work\"\n\
             admission_listen = \"127.0.0.1:0\"\ntraces = \"{collector}\"\n",
            site.url
        );
        fs::write(site.dir.path().join("worker.toml"), config).unwrap();
        site.run("worker");
        site
    }

    fn run(&mut self, program: &str) {
        let config = format!("{program}.toml");
        let log =
            fs::File::create(self.dir.path().join(format!("{program}.log"))).unwrap();
        let child = tidegate(self.dir.path())
            .args([program, "--config", &config, "--stop-with-stdin"])
            .stdin(Stdio::piped())
            .stderr(log)
            .spawn();
        self.programs.push(child.unwrap());
    }

    fn types(&self, collector: &str, line: &str) -> Output {
        let done = tidegate(self.dir.path())
            .args(line.split(' '))
            .env("TIDEGATE_COORDINATOR", &self.url)
            .env("TIDEGATE_TRACES", collector)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(0), "{line}: {}", text(&done.stderr));
        done
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for mut program in self.programs.drain(..).rev() {
            // Its stdin ends, so it stops in order.
            drop(program.stdin.take());
            let _ended = program.wait();
        }
    }
}

fn tidegate(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.current_dir(dir).env_remove("TIDEGATE_LOG").env_remove("TIDEGATE_TRACES");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
