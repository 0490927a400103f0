//! A rollout over mutual TLS: a coordinator, two workers and people as real processes, with
//! certificates that `tidegate init` makes.
//!
//! # Invariants
//!
//! * Only the built program is used, as a shell would.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const POLICY: &str = include_str!("../deploy/config/lab-policy-small.toml");
const PATIENCE: Duration = Duration::from_mins(2);
const NODES: [&str; 2] = ["stor-01", "stor-02"];
const MAILBOXES: usize = 6;

#[test]
fn a_rollout_finishes_over_mutual_tls_and_only_the_right_people_move_it() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    for node in NODES {
        site.start(node);
    }

    let files = ["--inventory", "users.csv", "--policy", "policy.toml", "--yes"];
    let by_viewer = site.tidegate("vera", &[&["apply"], files.as_slice()].concat());
    let alone = site.tidegate("anna", &[&["apply"], files.as_slice()].concat());
    site.approve(&alone);
    let by_operator = site.tidegate("anna", &[&["apply"], files.as_slice()].concat());
    let reason = "a look, for user0@example.org";
    let pause = ["pause", "--no-wait", "--by", "mallory", "--reason", reason];
    let stopped = site.tidegate("anna", &pause);
    let resume = ["resume", "--reason", "looked"];
    let unapproved = site.tidegate("anna", &resume);
    let waiting = text(&site.tidegate("vera", &["status"]).stdout);
    site.approve(&unapproved);
    let resumed = site.tidegate("anna", &resume);
    let watch = ["wait", "--for", "finished", "--timeout", "120"];
    let finished = site.tidegate("vera", &watch);
    let seen = site.tidegate("vera", &["status"]);
    let paused = site.tidegate("vera", &["pause"]);
    let found = site.tidegate("dora", &["mailbox", "show", "user0@example.org"]);
    let events = site.tidegate("anna", &["events", "-o", "jsonl"]);

    let (log, _) = site.audit();
    assert!(log.contains("\"who\":\"vera\",\"roles\":[\"viewer\"]"), "{log}");
    assert!(log.contains("\"call\":\"look-up\",\"about\":\"mbx:"), "{log}");
    assert!(
        log.contains("\"call\":\"pause\",\"about\":\"because: a look, for mbx:"),
        "{log}"
    );
    assert!(!log.contains("user0@example.org"), "{log}");
    let calls = ["\"apply\"", "\"approve\"", "\"pause\"", "\"resume\""];
    assert!(calls.iter().all(|call| log.contains(call)), "{log}");
    assert_eq!(by_viewer.status.code(), Some(77), "{}", text(&by_viewer.stderr));
    let told = text(&by_viewer.stderr);
    assert!(
        told.contains("vera (viewer) may not do this: it is for: operator"),
        "{told}"
    );
    assert_eq!((alone.status.code(), unapproved.status.code()), (Some(3), Some(3)));
    assert!(
        waiting.contains("waits:    anna asks to resume (looked), until "),
        "{waiting}"
    );
    let whom = "any approver but anna: `tidegate approve resume --if-match ";
    assert!(waiting.contains(whom), "{waiting}");
    assert_eq!(by_operator.status.code(), Some(0), "{}", text(&by_operator.stderr));
    assert_eq!(finished.status.code(), Some(0), "{}", site.all_logs(&finished));
    assert!(text(&seen.stdout).contains("FINISHED"), "{}", text(&seen.stdout));
    assert_eq!(paused.status.code(), Some(77));
    assert_eq!(found.status.code(), Some(0), "{}", text(&found.stderr));
    assert_eq!((stopped.status.code(), resumed.status.code()), (Some(0), Some(0)));
    let events = text(&events.stdout);
    // Under the name of the certificate, whatever name is given.
    assert!(events.contains("\"by\":\"anna\",\"code\":\"paused\""), "{events}");
    assert!(!events.contains("mallory"), "{events}");
    assert!(
        events.contains("resumed by anna: looked; approved by berta: fine"),
        "{events}"
    );
}

#[test]
fn a_log_that_was_cut_is_found_by_its_anchors() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    site.tidegate("anna", &["pause"]);
    site.stop();

    let (log, sound) = site.audit();
    let cut: Vec<&str> = log.lines().collect();
    let cut = cut[..cut.len() - 1].join("\n") + "\n";
    fs::write(site.path("data/audit.jsonl"), cut).unwrap();
    let (_, found) = site.audit();

    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert!(text(&sound.stdout).contains("all sound"), "{sound:?}");
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found.stdout).contains("it was truncated"), "{found:?}");
}

#[test]
fn nobody_approves_what_they_ask_for_themselves() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    let files = ["--inventory", "users.csv", "--policy", "policy.toml", "--yes"];
    let apply = [&["apply"], files.as_slice()].concat();

    // She may do both, though not together.
    let refused = site.tidegate("carla", &apply);
    let command = command_in(&refused);
    let own =
        site.tidegate("carla", &command.iter().map(String::as_str).collect::<Vec<_>>());
    let still = site.tidegate("carla", &apply);
    let by_another = site.tidegate("anna", &apply);

    assert_eq!(own.status.code(), Some(0), "{}", text(&own.stderr));
    assert_eq!(still.status.code(), Some(3), "{still:?}");
    assert!(
        text(&still.stderr).contains("nobody approves what they ask for"),
        "{still:?}"
    );
    assert_eq!(by_another.status.code(), Some(0), "{}", text(&by_another.stderr));
}

#[test]
fn two_people_let_a_wave_pass_that_its_gate_holds_for_want_of_samples() {
    let mut site = Site::new();
    // Nobody logs in, and the gate asks for somebody who does.
    let policy = POLICY.replace("[gate]\n", "[gate]\nsessions_min = 1\n");
    fs::write(site.path("policy.toml"), policy).unwrap();
    site.start("coordinator");
    site.know_the_address();
    for node in NODES {
        site.start(node);
    }
    let files = ["--inventory", "users.csv", "--policy", "policy.toml", "--yes"];
    let apply = [&["apply"], files.as_slice()].concat();
    site.approve(&site.tidegate("anna", &apply));
    site.tidegate("anna", &apply);
    let held = || {
        let told = site.tidegate("vera", &["status", "-o", "json"]);
        text(&told.stdout).contains("tidegate expand ")
    };
    let deadline = Instant::now() + PATIENCE;
    while !held() {
        assert!(Instant::now() < deadline, "{}", site.log("coordinator"));
        std::thread::sleep(Duration::from_millis(100));
    }

    let expand = ["expand", "0", "--reason", "everybody sleeps"];
    let by_viewer = site.tidegate("vera", &expand);
    let alone = site.tidegate("anna", &expand);
    let waiting = text(&site.tidegate("vera", &["status"]).stdout);
    let own = command_in(&site.tidegate("carla", &expand));
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    site.tidegate("carla", &own);
    let by_herself = site.tidegate("carla", &expand);
    let done = site.tidegate("anna", &expand);
    let stale = command_in(&alone);
    let stale: Vec<&str> = stale.iter().map(String::as_str).collect();
    let on_old_evidence = site.tidegate("berta", &stale);
    let (log, _) = site.audit();
    site.stop();
    site.start("coordinator");
    site.know_the_address();
    let events = text(&site.tidegate("anna", &["events", "-o", "jsonl"]).stdout);

    assert_eq!(by_viewer.status.code(), Some(77), "{by_viewer:?}");
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
    let asked = "anna asks to expand 0 (everybody sleeps), until ";
    assert!(waiting.contains(asked), "{waiting}");
    let whom = "any approver but anna: `tidegate approve expand 0 --if-match ";
    assert!(waiting.contains(whom), "{waiting}");
    assert_eq!(by_herself.status.code(), Some(3), "{by_herself:?}");
    assert_eq!(done.status.code(), Some(0), "{}", site.all_logs(&done));
    assert_eq!(on_old_evidence.status.code(), Some(4), "{on_old_evidence:?}");
    let told = "although its gate held it, overridden by anna: everybody sleeps; \
                approved by carla: fine";
    assert!(events.contains(told), "{events}");
    let about = "\"call\":\"expand\",\"about\":\"wave 0 because: everybody sleeps\"";
    assert!(log.contains(about), "{log}");
}

#[test]
fn an_emergency_needs_a_second_person_and_what_passes_under_it_is_marked() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    // Nothing passes within an hour, but in an emergency.
    let patient = POLICY.replace("soak = \"1 s\"", "soak = \"1 h\"");
    let policy = format!("{patient}\n[emergency]\nsoak = \"1 s\"\n");
    fs::write(site.path("policy.toml"), policy).unwrap();
    for node in NODES {
        site.start(node);
    }
    let files = ["--inventory", "users.csv", "--policy", "policy.toml", "--yes"];
    let apply = [&["apply"], files.as_slice()].concat();
    site.approve(&site.tidegate("anna", &apply));
    site.tidegate("anna", &apply);

    let begin = ["emergency", "begin", "--lasts", "60", "--reason", "elections"];
    let by_viewer = site.tidegate("vera", &begin);
    let alone = site.tidegate("anna", &begin);
    let waiting = text(&site.tidegate("vera", &["status"]).stdout);
    let longer = ["emergency", "begin", "--lasts", "90", "--reason", "elections"];
    site.approve(&site.tidegate("anna", &begin));
    let for_longer = site.tidegate("anna", &longer);
    let begun = site.tidegate("anna", &begin);
    let told = text(&site.tidegate("vera", &["status"]).stdout);
    let deadline = Instant::now() + PATIENCE;
    let mut waves = String::new();
    while !waves.contains("passed under the emergency profile") {
        assert!(Instant::now() < deadline, "{}", site.log("coordinator"));
        std::thread::sleep(Duration::from_millis(100));
        waves = text(&site.tidegate("vera", &["wave", "list"]).stdout);
    }
    let ended = site.tidegate("berta", &["emergency", "end"]);
    let over = site.tidegate("berta", &["emergency", "end"]);
    let events = text(&site.tidegate("anna", &["events", "-o", "jsonl"]).stdout);

    assert_eq!(by_viewer.status.code(), Some(77), "{by_viewer:?}");
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
    let asked = "anna asks to emergency --lasts 60 (elections), until ";
    assert!(waiting.contains(asked), "{waiting}");
    assert_eq!(for_longer.status.code(), Some(3), "{for_longer:?}");
    assert_eq!(begun.status.code(), Some(0), "{}", site.all_logs(&begun));
    assert!(told.contains("emergency: all waves until "), "{told}");
    assert!(told.contains("by anna, approved by berta (elections)"), "{told}");
    assert_eq!(ended.status.code(), Some(0), "an approver may end it: {ended:?}");
    assert_eq!(over.status.code(), Some(3), "{over:?}");
    assert!(
        events.contains("under the emergency profile for 60 min, by anna"),
        "{events}"
    );
    assert!(events.contains("the emergency profile was ended by berta"), "{events}");
}

#[test]
fn what_waits_for_a_second_person_is_still_shown_after_a_restart_and_leave_is_not_kept() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    let files = ["--inventory", "users.csv", "--policy", "policy.toml", "--yes"];
    let apply = [&["apply"], files.as_slice()].concat();
    site.approve(&site.tidegate("anna", &apply));
    site.tidegate("anna", &apply);
    site.tidegate("anna", &["pause", "--no-wait"]);
    let resume = ["resume", "--reason", "looked"];
    site.approve(&site.tidegate("anna", &["resume", "--reason", "first"]));

    site.stop();
    site.start("coordinator");
    site.know_the_address();
    let told = site.tidegate("vera", &["status", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    let by_old_leave = site.tidegate("anna", &resume);
    let mut stale = command_in(&by_old_leave);
    let evidence = stale.iter().position(|it| it == "--evidence").unwrap() + 1;
    stale[evidence] = "00".repeat(12);
    let stale: Vec<&str> = stale.iter().map(String::as_str).collect();
    let on_old_evidence = site.tidegate("berta", &stale);
    site.approve(&by_old_leave);
    let resumed = site.tidegate("anna", &resume);

    let waiting = &told["waiting"][0];
    assert_eq!(waiting["by"], "anna", "{told:#}");
    assert_eq!(waiting["what"], "resume");
    assert_eq!(waiting["evidence_changed"], false);
    assert_eq!(by_old_leave.status.code(), Some(3), "{by_old_leave:?}");
    assert_eq!(on_old_evidence.status.code(), Some(4), "{on_old_evidence:?}");
    let said = text(&on_old_evidence.stderr);
    assert!(said.contains("the evidence has changed since you looked"), "{said}");
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
}

#[test]
fn a_worker_with_another_nodes_certificate_gets_no_mailboxes() {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    let config = site.path("stor-01.toml");
    let stolen =
        fs::read_to_string(&config).unwrap().replace("worker-stor-01", "worker-stor-02");
    fs::write(&config, stolen).unwrap();

    site.start("stor-01");

    site.until("stor-01", "the certificate is another node's");
}

#[test]
fn whoever_comes_with_another_authoritys_certificate_or_without_tls_is_told_what_to_look_at()
 {
    let mut site = Site::new();
    site.start("coordinator");
    site.know_the_address();
    let made = tidegate(site.dir.path(), &["init", "other", "--operator", "anna"]);
    assert!({ made }.output().unwrap().status.success());
    let status = |url: &str, certificate: &str| {
        let mut status = tidegate(site.dir.path(), &["status", "--coordinator", url]);
        status.env("TIDEGATE_CERTIFICATE", format!("{certificate}/anna.pem"));
        status.env("TIDEGATE_KEY", format!("{certificate}/anna.key"));
        status.env("TIDEGATE_CA", "pki/ca.pem").output().unwrap()
    };

    let other = status(&site.url, "other");
    let plain = tidegate(
        site.dir.path(),
        &["status", "--coordinator", &site.url.replace("https", "http")],
    );
    let plain = { plain }.output().unwrap();

    let told = text(&other.stderr);
    assert_eq!(other.status.code(), Some(69), "{told}");
    assert!(told.contains("is the certificate of the authority"), "{told}");
    let told = text(&plain.stderr);
    assert_eq!(plain.status.code(), Some(69), "{told}");
    assert!(told.contains("does it want `https://` and a certificate?"), "{told}");
}

#[test]
fn an_authority_is_made_once_with_keys_for_their_owner_alone() {
    let dir = TempDir::new().unwrap();
    let init = |more: &[&str]| {
        let pki = dir.path().join("pki").display().to_string();
        tidegate(dir.path(), &[&["init", &pki], more].concat()).output().unwrap()
    };

    let first = init(&["--node", "stor-01", "--operator", "anna", "--approver", "anna"]);
    let again = init(&[]);
    let same = init(&["--add", "--node", "stor-01"]);
    let more = init(&["--add", "--node", "stor-02"]);

    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let told = text(&first.stdout);
    let roles = "spiffe://tidegate.example/operator/anna \
                 spiffe://tidegate.example/approver/anna";
    assert!(told.contains(roles), "{told}");
    assert!(told.contains("[tls]") && told.contains("TIDEGATE_CERTIFICATE="), "{told}");
    assert_eq!((again.status.code(), same.status.code()), (Some(3), Some(3)));
    assert!(text(&again.stderr).contains("nothing is overwritten"), "{again:?}");
    assert_eq!(more.status.code(), Some(0), "{}", text(&more.stderr));
    let old = fs::read(dir.path().join("pki/coordinator.pem")).unwrap();
    for file in ["coordinator.pem", "coordinator.key"] {
        fs::remove_file(dir.path().join("pki").join(file)).unwrap();
    }
    let renewed = init(&["--add"]);
    assert_eq!(renewed.status.code(), Some(0), "{}", text(&renewed.stderr));
    assert_ne!(fs::read(dir.path().join("pki/coordinator.pem")).unwrap(), old);
    for key in ["ca.key", "coordinator.key", "worker-stor-01.key", "anna.key"] {
        let found = fs::metadata(dir.path().join("pki").join(key)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{key}");
    }
}

#[test]
fn before_the_first_anchor_whoever_verifies_is_told_that_there_is_none() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("audit.jsonl"), "").unwrap();
    let verify = ["audit", "verify", "audit.jsonl", "--anchors", "anchors"];

    let told = tidegate(dir.path(), &verify).output().unwrap();

    assert_eq!(told.status.code(), Some(65));
    let told = text(&told.stderr);
    assert!(told.contains("there are no anchors at `anchors`"), "{told}");
    assert!(told.contains("until then verify without --anchors"), "{told}");
}

#[test]
fn beyond_this_machine_nothing_is_served_or_called_without_certificates() {
    let dir = TempDir::new().unwrap();
    let config = "data_dir = \"data\"\nlisten = \"0.0.0.0:0\"\n";
    fs::write(dir.path().join("coordinator.toml"), config).unwrap();

    let served = tidegate(dir.path(), &["coordinator", "--config", "coordinator.toml"]);
    let served = { served }.output().unwrap();
    let called = ["status", "--coordinator", "http://192.0.2.1:7443"];
    let called = tidegate(dir.path(), &called).output().unwrap();

    assert_eq!(served.status.code(), Some(1));
    assert!(text(&served.stderr).contains("without certificates only this machine"));
    assert_eq!(called.status.code(), Some(64));
    assert!(
        text(&called.stderr).contains("beyond this machine without TLS"),
        "{called:?}"
    );
}

/// A provider of two nodes and its programs.
struct Site {
    dir: TempDir,
    running: Vec<Child>,
    url: String,
}

impl Site {
    fn new() -> Self {
        let dir = TempDir::with_prefix("tidegate-secure-").unwrap();
        let site = Self { dir, running: Vec::new(), url: String::new() };
        let mut inventory = "address,node,tier,path\n".to_owned();
        for user in 0..MAILBOXES {
            let node = *NODES.iter().cycle().nth(user).unwrap();
            writeln!(inventory, "user{user}@example.org,{node},paid,user{user}").unwrap();
            for part in ["live", "snapshot"] {
                make_maildir(&site.path(node).join(part).join(format!("user{user}")));
            }
        }
        fs::write(site.path("users.csv"), inventory).unwrap();
        fs::write(site.path("policy.toml"), POLICY).unwrap();

        let people = "--operator anna --operator carla --approver carla --approver berta --viewer vera --desk dora";
        let nodes = "--node stor-01 --node stor-02";
        let args = format!("init pki {nodes} {people}");
        let args: Vec<&str> = args.split(' ').collect();
        let made = tidegate(site.dir.path(), &args).output().unwrap();
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        // All addresses: it may, because it has a certificate.
        let config = format!(
            "data_dir = \"data\"\nlisten = \"0.0.0.0:0\"\n\
             [audit]\nanchors = \"anchors\"\nkey = \"pki/audit.key\"\n{}",
            tls("coordinator")
        );
        fs::write(site.path("coordinator.toml"), config).unwrap();
        site
    }

    /// Once the coordinator listens, workers are told where.
    fn know_the_address(&mut self) {
        let address = fs::read_to_string(self.path("data/address")).unwrap();
        let address = address.trim().replace("0.0.0.0", "127.0.0.1");
        self.url = format!("https://{address}");
        for node in NODES {
            let config = format!(
                "node = \"{node}\"\ncoordinator = \"{}\"\nstate_dir = \"{node}/state\"\n\
                 live = \"{node}/live\"\nsnapshot = \"{node}/snapshot\"\n\
                 work = \"{node}/work\"\nadmission_listen = \"127.0.0.1:0\"\n{}",
                self.url,
                tls(&format!("worker-{node}"))
            );
            fs::write(self.path(&format!("{node}.toml")), config).unwrap();
        }
    }

    fn start(&mut self, name: &str) {
        let verb = if name == "coordinator" { name } else { "worker" };
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        let config = format!("{name}.toml");
        let args = [verb, "--config", &config, "--stop-with-stdin"];
        let child = tidegate(self.dir.path(), &args)
            .stdin(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running.push(child);
        if name == "coordinator" {
            self.until(name, "coordinator serving");
        }
    }

    fn until(&self, name: &str, said: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log(name).contains(said) {
            assert!(Instant::now() < deadline, "no `{said}`:\n{}", self.log(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap()
    }

    fn all_logs(&self, output: &Output) -> String {
        let logs = ["coordinator"].iter().chain(&NODES).map(|name| self.log(name));
        format!("{}\n{}", text(&output.stderr), logs.collect::<Vec<_>>().join("\n"))
    }

    /// What somebody with a certificate of theirs is told.
    fn tidegate(&self, who: &str, args: &[&str]) -> Output {
        tidegate(self.dir.path(), args)
            .env("TIDEGATE_COORDINATOR", &self.url)
            .env("TIDEGATE_CERTIFICATE", format!("pki/{who}.pem"))
            .env("TIDEGATE_KEY", format!("pki/{who}.key"))
            .env("TIDEGATE_CA", "pki/ca.pem")
            .output()
            .unwrap()
    }

    /// The audit log, and what its check says.
    fn audit(&self) -> (String, Output) {
        let log = "data/audit.jsonl";
        // Programs end in order when they are stopped, and before that may not have anchored yet.
        let anchors =
            if self.path("anchors").exists() { "anchors" } else { "coordinator.log" };
        let args =
            ["audit", "verify", log, "--anchors", anchors, "--key", "pki/audit.pub"];
        let verified = tidegate(self.dir.path(), &args).output().unwrap();
        (fs::read_to_string(self.path(log)).unwrap(), verified)
    }

    fn stop(&mut self) {
        for child in &mut self.running {
            // Its stdin ends, so it stops in order.
            drop(child.stdin.take());
            drop(child.wait());
        }
        self.running.clear();
    }

    /// The second person types what the refusal says.
    fn approve(&self, refused: &Output) {
        let command = command_in(refused);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let approved = self.tidegate("berta", &command);
        assert_eq!(approved.status.code(), Some(0), "{}", text(&approved.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

fn tidegate(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(args).current_dir(dir).stdin(Stdio::null()).env_remove("TIDEGATE_LOG");
    command
}

/// The command that a refusal names, with a reason.
fn command_in(refused: &Output) -> Vec<String> {
    let told = text(&refused.stderr);
    let command = told.split('`').nth(1).expect("it names a command");
    let words = command.replace("'…'", "fine");
    words.split(' ').skip(1).map(str::to_owned).collect()
}

fn tls(name: &str) -> String {
    format!(
        "[tls]\ncertificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\nca = \"pki/ca.pem\"\n"
    )
}

fn make_maildir(path: &Path) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(path.join(part)).unwrap();
    }
    for number in 0..3 {
        let message = format!("Subject: {number}\r\n\r\nSome words.\r\n");
        let name = format!("170000000{number}.M1P1.host,S={}:2,S", message.len());
        fs::write(path.join("cur").join(name), message).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
