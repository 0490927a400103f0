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

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_rig::{
    API_KEY, DEBIAN_13_ROOT, Debian13, Dovecot, DovecotPorts, DovecotSpec, Format,
    FreePorts, LOOPBACK, PASSWORD, PATIENCE, Postfix, PostfixSpec, User, debian_13_root,
    hand_over, open_directory, wait_until,
};

/// A user of Dovecot's who is in no inventory.
const PATIENT: &str = "tidegate-doctor@example.org";
/// A user whose mailbox is in the plan, and held.
const HELD: &str = "anna@example.org";

#[test]
fn a_healthy_node_is_well() {
    let node = Node::start();
    let site = Site::start(&node, &|text| text);

    let seen = site.doctor(&node);

    assert_eq!(seen.bad(), [] as [&str; 0], "{seen:#?}");
    assert_eq!(seen.exit, 0);
    for check in CHECKS {
        assert!(seen.checks.iter().any(|(name, _)| name == check), "{check}: {seen:#?}");
    }
    for secret in [PASSWORD, API_KEY] {
        let quoted = format!("`{secret}`");
        assert!(!seen.text.contains(&quoted) && !seen.text.contains(API_KEY), "{secret}");
    }
}

/// What is looked at on every node, beside its disks.
const CHECKS: [&str; 23] = [
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
    "worker.secrets.read",
];

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

    node.apply();
    for (canary, wanted) in [(HELD, true), ("canary@example.org", false)] {
        let canary = format!(
            "[canary]\nmailbox = \"{canary}\"\npassword_file = \"{}\"\n",
            site.dovecot.dir().join("doctor-password").display()
        );
        let seen = site.doctor_with(&format!("{}{canary}", site.config(&node)));
        let found = seen.bad().contains(&"FAIL worker.canary");
        assert_eq!(found, wanted, "{canary}: {seen:#?}");
    }

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
fn what_only_root_may_read_is_found_before_the_worker_starts() {
    let mut node = Node::start();
    // Its directories are of the user that it would run as.
    node.worker = None;
    let site = Site::start(&node, &|text| text);
    let of_root = |name: &str| {
        let path = site.dovecot.dir().join(name);
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let checks = ["FAIL worker.secrets.read", "FAIL logs"];
    let found = |seen: &Seen| checks.map(|check| seen.bad().contains(&check));

    let before = site.doctor(&node);
    of_root("doctor-password");
    let secret = site.doctor(&node);
    of_root("dovecot.log");
    let both = site.doctor(&node);

    assert_eq!(found(&before), [false, false], "{before:#?}");
    assert_eq!(found(&secret), [true, false], "{secret:#?}");
    assert_eq!(found(&both), [true, true], "{both:#?}");
}

#[test]
fn dovecot_2_4_is_looked_at_as_well_whole_and_broken() {
    let Some(root) = debian_13_root() else {
        return say(&format!("NOT TESTED: no Debian 13, see {DEBIAN_13_ROOT}"));
    };
    let node = Node::start_in(tempfile::Builder::new().tempdir_in(root.join("tmp")));
    let healthy = Site13::start(&node, &root, &|text| text).doctor(&node);
    // It is a directory, not a machine.
    let machine = "warn worker.pressure";
    let bad: Vec<&str> = healthy.bad().into_iter().filter(|it| *it != machine).collect();
    assert_eq!(bad, [] as [&str; 0], "{healthy:#?}");
    for check in CHECKS {
        let is_there = healthy.checks.iter().any(|(name, _)| name == check);
        assert!(is_there, "{check}: {healthy:#?}");
    }

    for (what, broken, wanted) in BREAKS_OF_2_4 {
        let seen = Site13::start(&node, &root, &broken).doctor(&node);

        for check in wanted {
            assert!(seen.bad().contains(check), "{what}: {check} in {seen:#?}");
        }
        assert_eq!(seen.exit, 1, "{what}: {seen:#?}");
    }
}

/// What can be wrong with 2.4.
const BREAKS_OF_2_4: [(&str, Break, &[&str]); 6] = [
    (
        "the gate left out for POP3",
        |text| without_block(&text, "protocol pop3 {"),
        &["FAIL closed.pop3", "FAIL gate.pop3", "FAIL held.pop3"],
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
                "passdb anybody {{\n  driver = static\n  fields {{\n    nopassword = yes\n  }}\n  \
                 result_success = continue\n}}\n{text}"
            )
        },
        &["FAIL gate.passwordless"],
    ),
    (
        "an auth cache that keeps the gate's answers",
        |text| {
            format!(
                "auth_cache_size = 10M\n{}",
                text.replace("use_cache = no", "use_cache = yes")
            )
        },
        &["FAIL gate.cache"],
    ),
    (
        "one gate for all protocols",
        |text| {
            let script = text.split("lua_file = ").nth(1).unwrap();
            let script = script.split('\n').next().unwrap();
            format!(
                "{text}\npassdb all {{\n  driver = lua\n  lua_file = {script}\n  deny = yes\n  use_cache = no\n}}\n"
            )
        },
        &["FAIL gate.sasl", "FAIL sasl"],
    ),
    (
        "another doveadm key, and the penalty for failed log-ins",
        |text| {
            format!(
                "{}\ndoveadm_api_key = other\n",
                text.replace("    mode = 0\n", "    mode = 0600\n")
            )
        },
        &["FAIL doveadm", "warn gate.penalty"],
    ),
];

#[expect(clippy::print_stderr, reason = "what is not tested is said")]
fn say(text: &str) {
    eprintln!("{text}");
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

/// Lines for main.cf, whether ours are in master.cf, and the check that finds it.
const BREAKS_OF_POSTFIX: [(&str, bool, &str); 8] = [
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
    ("", false, "FAIL postfix.soft_bounce"),
    ("smtpd_recipient_restrictions = reject\n", true, "FAIL postfix.accepts"),
];

/// Next hops that lead nowhere.
const LOST_HOPS: [&str; 5] = [
    "template = \"inet:{node}.nowhere.invalid:24\"",
    "nodes = { stor-01 = \"inet:[nowhere.invalid]:24\" }",
    "nodes = { stor-02 = \"inet:127.0.0.1:24\" }",
    "nodes = { stor-01 = \"unix:/nowhere/lmtp\" }",
    // This machine's own file knows it, and Postfix does not look there.
    "nodes = { stor-01 = \"inet:localhost:24\" }",
];

#[test]
fn what_is_broken_in_postfix_is_found_by_its_check() {
    let node = Node::start();
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
    let config = |postfix: &Postfix, hops: &str| {
        let path = node.dir.path().join("mx.toml");
        let text = format!(
            "name = \"mx1\"\ncoordinator = \"{}\"\nsocketmap_listen = \"127.0.0.1:{socketmap}\"\n\
             [next_hop]\n{hops}\n[drain]\nconfig_dir = \"{}\"\n",
            node.url(),
            postfix.config_dir().display(),
        );
        fs::write(&path, text).unwrap();
        path
    };
    let known = format!("nodes = {{ stor-01 = \"inet:127.0.0.1:{lmtp}\" }}");
    let _mx = Program::start("mx", &config(&healthy, &known));
    let look_with = |postfix: &Postfix, hops: &str| {
        let smtp = format!("127.0.0.1:{}", postfix.smtp_port());
        doctor(&config(postfix, hops), &["--held", HELD, "--smtp", &smtp])
    };
    let look = |postfix: &Postfix| look_with(postfix, &known);
    let answers = || std::net::TcpStream::connect((LOOPBACK, socketmap)).is_ok();
    assert!(wait_until(PATIENCE, answers), "nobody answers Postfix");
    let early = look(&healthy);
    assert!(early.bad().contains(&"FAIL mx.answers"), "{early:#?}");
    assert!(early.text.contains("no plan is applied yet"), "{early:#?}");
    node.apply();
    let mut seen = look(&healthy);
    wait_until(PATIENCE, || {
        seen = look(&healthy);
        seen.bad().is_empty()
    });
    assert_eq!(seen.bad(), [] as [&str; 0], "{seen:#?}");
    for hops in LOST_HOPS {
        let seen = look_with(&healthy, hops);

        assert!(seen.bad().contains(&"FAIL mx.next_hop"), "{hops}: {seen:#?}");
    }
    drop(healthy);

    for (main, master, wanted) in BREAKS_OF_POSTFIX {
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
        Self::start_in(Ok(open_directory()))
    }

    fn start_in(dir: std::io::Result<TempDir>) -> Self {
        let dir = dir.unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
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
        let dir = dovecot.dir().to_owned();
        let own = dir.display().to_string();
        let config = dovecot.gate(node.admission);
        let databases = |kind: &str, scheme: &str| {
            format!(
                "{kind} {{\n  driver = passwd-file\n  args = {scheme}username_format=%u {own}/users\n}}\n"
            )
        };
        let config = broken(config)
            .replace("USERS_PASSDB", &databases("passdb", "scheme=PLAIN "))
            .replace("USERS_USERDB", &databases("userdb", ""));
        write_secrets(&dir);
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
        let dir = self.dovecot.dir().display().to_string();
        node.worker_lines() + &dovecot_lines(&dir, self.dovecot.ports())
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

/// A Dovecot 2.4 with our files, and a doctor in its root directory.
struct Site13 {
    dovecot: Debian13,
}

impl Site13 {
    fn start(node: &Node, root: &Path, broken: &dyn Fn(String) -> String) -> Self {
        let mut dovecot = Debian13::prepare(root.to_owned(), &[PATIENT], 1);
        let config = broken(dovecot.gate(node.admission));
        let dir = dovecot.dir().to_owned();
        write_secrets(&dir);
        let masters = fs::Permissions::from_mode(0o640);
        fs::set_permissions(dir.join("masters"), masters).unwrap();
        let program = dir.join("tidegate");
        if fs::hard_link(env!("CARGO_BIN_EXE_tidegate"), &program).is_err() {
            fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).unwrap();
        }
        dovecot.start(&format!("auth_failure_delay = 0\n{config}"));
        Self { dovecot }
    }

    fn doctor(&self, node: &Node) -> Seen {
        let (root, inside) = (self.dovecot.root(), self.dovecot.dir_inside());
        // The node's directories as they are called in there.
        let node = node.worker_lines().replace(root.to_str().unwrap(), "");
        let config = node + &dovecot_lines(&inside, self.dovecot.ports());
        fs::write(self.dovecot.dir().join("worker.toml"), config).unwrap();
        let mut command = Command::new("chroot");
        command.arg(root).arg(format!("{inside}/tidegate"));
        command.args(["doctor", "-o", "json", "--config"]);
        Seen::of(command.arg(format!("{inside}/worker.toml")))
    }
}

/// The doctor's and the worker's secrets.
fn write_secrets(dir: &Path) {
    for (name, text) in [("doveadm-key", API_KEY), ("doctor-password", PASSWORD)] {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    hand_over(dir);
}

/// What `worker.toml` says of a Dovecot whose files are in this directory.
fn dovecot_lines(dir: &str, ports: DovecotPorts) -> String {
    format!(
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

impl Seen {
    /// What a doctor says who answers in JSON.
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
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
        Self { exit: output.status.code().unwrap(), checks, text }
    }
}

fn doctor(config: &Path, more: &[&str]) -> Seen {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    Seen::of(command.args(["doctor", "-o", "json", "--config"]).arg(config).args(more))
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
