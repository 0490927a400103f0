//! The doctor beside real servers: a healthy installation is well, and everything that is
//! broken is found by the check that is for it.
//!
//! # Invariants
//!
//! * Dovecot and Postfix have the files we ship; only places are changed in them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may say no more than that it failed"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_rig::{
    Dovecot, DovecotSpec, Format, FreePorts, LOOPBACK, PASSWORD, PATIENCE, Postfix,
    PostfixSpec, User, hand_over, open_directory, wait_until,
};

/// A user of Dovecot's who is in no inventory.
const PATIENT: &str = "tidegate-doctor@example.org";
/// A user whose mailbox is in the plan, and held.
const HELD: &str = "anna@example.org";

const API_KEY: &str = "5e55a11";

#[test]
fn a_healthy_node_is_well() {
    let node = Node::start();
    let site = Site::start(&node, &|text| text);

    let seen = site.doctor(&node);

    assert_eq!(seen.bad(), [] as [&str; 0], "{seen:#?}");
    assert_eq!(seen.exit, 0);
    for check in [
        "held.imap",
        "held.webmail",
        "held.pop3",
        "held.submission",
        "held.sieve",
        "held.lmtp",
        "closed.imap",
        "closed.webmail",
        "closed.pop3",
        "closed.submission",
        "closed.sieve",
        "closed.lmtp",
        "late.imap",
        "late.lmtp",
        "sasl",
        "gate.mailbox",
        "doveadm",
        "metrics",
        "logs",
        "coordinator",
        "worker.admission",
        "worker.journal",
    ] {
        assert!(seen.checks.iter().any(|(name, _)| name == check), "{check}: {seen:#?}");
    }
    for secret in [PASSWORD, API_KEY] {
        let quoted = format!("`{secret}`");
        assert!(!seen.text.contains(&quoted) && !seen.text.contains(API_KEY), "{secret}");
    }
}

/// What a break does to Dovecot's configuration.
type Break = fn(String) -> String;

#[test]
fn what_is_broken_in_dovecot_is_found_by_its_check() {
    let node = Node::start();
    let table: [(&str, Break, &[&str]); 8] = [
        (
            "the gate left out for POP3",
            |text| without_block(&text, "protocol pop3 {"),
            &["FAIL closed.pop3", "FAIL gate.pop3", "FAIL held.pop3"],
        ),
        (
            "the provider's passdb before the gate's",
            |text| text.replacen("protocol imap {\n", "protocol imap {\nUSERS_PASSDB", 1),
            // Whom it lets in is thrown out by the gate's userdb, with or without a word.
            &["FAIL gate.imap"],
        ),
        (
            "the provider's userdb before the gate's",
            |text| format!("USERS_USERDB{text}"),
            &["FAIL gate.mailbox", "FAIL held.lmtp"],
        ),
        (
            "a userdb that goes on when the worker does not answer",
            |text| text.replace("  result_internalfail = return-fail\n", ""),
            &["FAIL gate.mailbox"],
        ),
        (
            "a passdb that verifies everybody, and goes on",
            |text| {
                format!(
                    "passdb {{\n  driver = static\n  args = nopassword=y\n  result_success = continue\n}}\n{text}"
                )
            },
            &["FAIL gate.passwordless"],
        ),
        (
            "one gate for all protocols",
            |text| {
                let script =
                    text.split("args = file=").nth(1).unwrap().split(' ').next().unwrap();
                format!(
                    "{text}\npassdb {{\n  driver = lua\n  args = file={script} cache_key=%u%{{session}}\n  deny = yes\n}}\n"
                )
            },
            &["FAIL gate.sasl", "FAIL sasl"],
        ),
        (
            "the penalty for failed log-ins",
            |text| text.replace("    mode = 0\n", "    mode = 0600\n"),
            &["warn gate.penalty"],
        ),
        (
            "another doveadm key",
            |text| format!("{text}\ndoveadm_api_key = other\n"),
            &["FAIL doveadm"],
        ),
    ];
    for (what, broken, wanted) in table {
        let site = Site::start(&node, &broken);

        let seen = site.doctor(&node);

        for check in wanted {
            assert!(seen.bad().contains(check), "{what}: {check} in {seen:#?}");
        }
        let fails = wanted.iter().any(|it| it.starts_with("FAIL"));
        assert_eq!(seen.exit, i32::from(fails), "{what}: {seen:#?}");
    }
}

#[test]
fn what_is_broken_on_the_node_is_found_by_its_check() {
    let mut node = Node::start();
    let site = Site::start(&node, &|text| text);

    let key = site.dovecot.dir().join("doveadm-key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(site.doctor(&node).bad(), ["FAIL worker.secrets"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let config = site.config(&node).replace(
        &format!("work = \"{}\"", node.dir.path().join("work").display()),
        &format!("work = \"{}\"", memory.path().display()),
    );
    let seen = site.doctor_with(&config);
    assert!(seen.bad().contains(&"FAIL worker.one_disk"), "{seen:#?}");

    let config = site.config(&node).replace(
        &format!("state_dir = \"{}\"", node.dir.path().join("state").display()),
        &format!("state_dir = \"{}\"", memory.path().display()),
    );
    let seen = site.doctor_with(&config);
    assert!(seen.bad().contains(&"FAIL worker.state.disk"), "{seen:#?}");

    let other = format!("{}:{}", LOOPBACK, node.admission + 1);
    let config = site.config(&node).replace(&node.admission_address(), &other);
    let seen = site.doctor_with(&config);
    assert!(seen.bad().contains(&"FAIL gate.script"), "{seen:#?}");

    node.coordinator = None;
    let seen = site.doctor(&node);
    assert_eq!(seen.bad(), ["FAIL coordinator"], "{seen:#?}");

    node.worker = None;
    let seen = site.doctor(&node);
    for check in ["FAIL worker.admission", "FAIL held.imap", "FAIL held.pop3"] {
        assert!(seen.bad().contains(&check), "{check} in {seen:#?}");
    }
    // Everybody waits, as it must be; only the words are Dovecot's.
    assert!(!seen.bad().iter().any(|it| it.contains("closed.")), "{seen:#?}");
}

#[test]
fn a_coordinator_is_looked_at_whether_it_runs_or_not() {
    let mut node = Node::start();
    let config = node.dir.path().join("coordinator.toml");

    let running = doctor(&config, &[]);
    node.coordinator = None;
    let stopped = doctor(&config, &[]);

    assert_eq!((running.bad(), stopped.bad()), (Vec::new(), Vec::new()), "{running:#?}");
    assert_ne!(running.text, stopped.text);
}

#[test]
fn what_is_broken_in_postfix_is_found_by_its_check() {
    let node = Node::start();
    node.apply();
    let [socketmap, lmtp] = FreePorts::take(2).hand_over();
    let shipped = |name: &str| {
        let text = fs::read_to_string(deploy().join("postfix").join(name)).unwrap();
        text.replace("10391", &socketmap.to_string())
    };
    let spec = PostfixSpec {
        domains: vec!["example.org".to_owned()],
        main: shipped("main.cf"),
        master: shipped("master.cf"),
        ..PostfixSpec::default()
    };
    let healthy = Postfix::start(&spec);
    let config = |postfix: &Postfix| {
        let path = node.dir.path().join("mx.toml");
        let text = format!(
            "name = \"mx1\"\ncoordinator = \"{}\"\nsocketmap_listen = \"127.0.0.1:{socketmap}\"\n\
             [next_hop.nodes]\nstor-01 = \"inet:127.0.0.1:{lmtp}\"\n\
             [drain]\nconfig_dir = \"{}\"\n",
            node.url(),
            postfix.config_dir().display(),
        );
        fs::write(&path, text).unwrap();
        path
    };
    let _mx = Program::start("mx", &config(&healthy));
    let look = |postfix: &Postfix| {
        let smtp = format!("127.0.0.1:{}", postfix.smtp_port());
        doctor(&config(postfix), &["--held", HELD, "--smtp", &smtp])
    };
    let mut seen = look(&healthy);
    wait_until(PATIENCE, || {
        seen = look(&healthy);
        seen.bad().is_empty()
    });
    assert_eq!(seen.bad(), [] as [&str; 0], "{seen:#?}");
    drop(healthy);

    for (main, master, wanted) in [
        (
            "maximal_queue_lifetime = 5d\nbounce_queue_lifetime = 5d\n",
            true,
            "warn postfix.lifetime",
        ),
        ("delay_warning_time = 4h\n", true, "warn postfix.delay_warning"),
        ("transport_maps =\n", true, "FAIL postfix.transport"),
        ("defer_transports =\n", true, "FAIL postfix.defer"),
        ("queue_minfree = 0\n", true, "warn postfix.minfree"),
        ("", false, "FAIL postfix.held"),
        ("smtpd_recipient_restrictions = reject\n", true, "FAIL postfix.accepts"),
    ] {
        let mut spec = spec.clone();
        spec.main.push_str(main);
        if !master {
            spec.master.clear();
        }
        let postfix = Postfix::start(&spec);

        let seen = look(&postfix);

        assert!(seen.bad().contains(&wanted), "{wanted} in {seen:#?}");
    }
}

/// A coordinator and a worker, as their own programs.
struct Node {
    dir: TempDir,
    port: u16,
    admission: u16,
    coordinator: Option<Program>,
    worker: Option<Program>,
}

impl Node {
    fn start() -> Self {
        let dir = open_directory();
        let [port, admission] = FreePorts::take(2).hand_over();
        for name in ["state", "work", "data", "mail"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            let mode = if name == "mail" { 0o755 } else { 0o700 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        hand_over(dir.path());
        let mut node = Self { dir, port, admission, coordinator: None, worker: None };
        let coordinator = format!("data_dir = \"data\"\nlisten = \"127.0.0.1:{port}\"\n");
        let coordinator = node.file("coordinator.toml", &coordinator);
        let worker = node.file("worker-run.toml", &node.worker_lines());
        node.coordinator = Some(Program::start("coordinator", &coordinator));
        node.worker = Some(Program::start("worker", &worker));
        for port in [port, admission] {
            let listens = || std::net::TcpStream::connect((LOOPBACK, port)).is_ok();
            assert!(wait_until(PATIENCE, listens), "nobody listens at {port}");
        }
        node
    }

    /// Starts a rollout that gets nowhere: there is no mail.
    fn apply(&self) {
        let inventory =
            "address,node,tier,path\nanna@example.org,stor-01,free,example.org/anna\n";
        let inventory = self.file("users.csv", inventory);
        let policy = deploy().join("config/lab-policy-small.toml");
        let url = self.url();
        let applied = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["apply", "--yes", "--coordinator", &url, "--inventory"])
            .arg(inventory)
            .arg("--policy")
            .arg(policy)
            .output()
            .unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn worker_lines(&self) -> String {
        let dir = |name: &str| self.dir.path().join(name).display().to_string();
        format!(
            "node = \"stor-01\"\ncoordinator = \"{}\"\nstate_dir = \"{}\"\nlive = \"{}\"\n\
             work = \"{}\"\nadmission_listen = \"{}\"\n",
            self.url(),
            dir("state"),
            dir("mail"),
            dir("work"),
            self.admission_address(),
        )
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn admission_address(&self) -> String {
        format!("127.0.0.1:{}", self.admission)
    }
}

/// A Dovecot with our files, and the doctor's configuration for it.
struct Site {
    dovecot: Dovecot,
}

impl Site {
    fn start(node: &Node, broken: &dyn Fn(String) -> String) -> Self {
        let users = vec![User::new(PATIENT, Format::Maildir)];
        let mut dovecot =
            Dovecot::prepare(&DovecotSpec { users, ..DovecotSpec::default() });
        let (dir, ports) = (dovecot.dir().to_owned(), dovecot.ports());
        let own = dir.display().to_string();
        let read =
            |name: &str| fs::read_to_string(deploy().join("dovecot").join(name)).unwrap();
        let config = read("tidegate-2.3.conf")
            .replace("/etc/dovecot/", &format!("{own}/"))
            .replace("10144", &ports.imap_webmail.to_string())
            .replace("10380", &ports.doveadm_http.to_string())
            .replace("10490", &ports.metrics.to_string());
        let databases = |kind: &str, scheme: &str| {
            format!(
                "{kind} {{\n  driver = passwd-file\n  args = {scheme}username_format=%u {own}/users\n}}\n"
            )
        };
        let config = broken(config)
            .replace("USERS_PASSDB", &databases("passdb", "scheme=PLAIN "))
            .replace("USERS_USERDB", &databases("userdb", ""));
        let files = [
            (
                "tidegate.lua",
                read("tidegate.lua").replace("10390", &node.admission.to_string()),
                0o644,
            ),
            ("tidegate-secret.conf", format!("doveadm_api_key = {API_KEY}\n"), 0o600),
            ("tidegate-probe", "tidegate-probe:{PLAIN}x\n".to_owned(), 0o640),
            ("doveadm-key", API_KEY.to_owned(), 0o600),
            ("doctor-password", PASSWORD.to_owned(), 0o600),
        ];
        for (name, text, mode) in files {
            fs::write(dir.join(name), text).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode))
                .unwrap();
        }
        hand_over(&dir);
        dovecot.add_config(&format!("auth_failure_delay = 0\n{config}"));
        dovecot.resume();
        // The rig's own file of master users.
        let masters = fs::Permissions::from_mode(0o640);
        fs::set_permissions(dir.join("masters"), masters).unwrap();
        hand_over(&dir);
        Self { dovecot }
    }

    fn config(&self, node: &Node) -> String {
        let (dir, ports) = (self.dovecot.dir().display(), self.dovecot.ports());
        let mut text = node.worker_lines();
        write!(
            text,
            "[dovecot]\ndoveadm = [\"http://127.0.0.1:{}\"]\nkey_file = \"{dir}/doveadm-key\"\n\
             imap = \"127.0.0.1:{}\"\nlmtp = \"127.0.0.1:{}\"\nwebmail_ports = [{}]\n\
             logs = [\"{dir}/dovecot.log\"]\nmetrics = \"http://127.0.0.1:{}/metrics\"\n\
             [doctor]\nuser = \"{PATIENT}\"\npassword_file = \"{dir}/doctor-password\"\n\
             pop3 = \"127.0.0.1:{}\"\nsubmission = \"127.0.0.1:{}\"\nsieve = \"127.0.0.1:{}\"\n\
             dovecot_config = \"{dir}/dovecot.conf\"\n",
            ports.doveadm_http,
            ports.imap,
            ports.lmtp,
            ports.imap_webmail,
            ports.metrics,
            ports.pop3,
            ports.submission,
            ports.sieve,
        )
        .unwrap();
        text
    }

    fn doctor(&self, node: &Node) -> Seen {
        self.doctor_with(&self.config(node))
    }

    fn doctor_with(&self, config: &str) -> Seen {
        let path = self.dovecot.dir().join("worker.toml");
        fs::write(&path, config).unwrap();
        doctor(&path, &[])
    }
}

/// What the doctor says.
struct Seen {
    exit: i32,
    checks: Vec<(String, String)>,
    text: String,
}

impl Seen {
    /// The checks that are not well. How full the disk of whoever runs the tests is does not
    /// count.
    fn bad(&self) -> Vec<&str> {
        let bad = self
            .checks
            .iter()
            .filter(|(_, state)| !state.starts_with("ok"))
            .filter(|(name, _)| !name.ends_with("room"));
        bad.map(|(_, state)| state.as_str()).collect()
    }
}

impl std::fmt::Debug for Seen {
    /// What is not well, with all its words.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json: Value = serde_json::from_str(&self.text).unwrap();
        let checks = json["checks"].as_array().unwrap().iter();
        f.debug_list().entries(checks.filter(|it| it["state"] != "ok")).finish()
    }
}

fn doctor(config: &Path, more: &[&str]) -> Seen {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["doctor", "-o", "json", "--config"])
        .arg(config)
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8(output.stdout).unwrap();
    let json: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{said}{text}"));
    let name = |check: &Value| {
        let text = |key: &str| check[key].as_str().unwrap().to_owned();
        let (name, state) = (text("check"), text("state"));
        let state = if state == "fail" { "FAIL".to_owned() } else { state };
        (name.clone(), format!("{state} {name}"))
    };
    let checks = json["checks"].as_array().unwrap().iter().map(name).collect();
    Seen { exit: output.status.code().unwrap(), checks, text }
}

/// One of our programs, which ends with this value.
struct Program {
    child: Child,
}

impl Program {
    fn start(verb: &str, config: &Path) -> Self {
        let log = fs::File::create(config.with_extension("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args([verb, "--stop-with-stdin", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A text without the first block that begins with this line.
fn without_block(text: &str, head: &str) -> String {
    let start = text.find(head).unwrap();
    let end = start + text[start..].find("\n}\n").unwrap() + 3;
    format!("{}{}", &text[..start], &text[end..])
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}
