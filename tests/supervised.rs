//! Programs under a supervisor: what systemd is told, and how hardened the shipped units are.
//!
//! # Invariants
//!
//! * Only the built program is used, with a socket in systemd's place; systemd's own tool judges
//!   the units.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tidegate_rig::{FreePorts, need};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What systemd would allow: the loop is fed three times as often.
const WATCHDOG_USEC: &str = "900000";

/// A stopped program is silent for so long, several times the pause between two feedings.
const SILENCE: Duration = Duration::from_secs(2);

/// As hardened as this, in points of `systemd-analyze security`; 10 is not at all.
const EXPOSURE_MAX: f64 = 1.5;

#[test]
fn a_coordinator_is_ready_when_it_serves_and_its_own_loop_feeds_the_watchdog() {
    let desk = TempDir::new().unwrap();
    let config = desk.path().join("coordinator.toml");
    fs::write(&config, "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n").unwrap();
    let mut supervised = Supervised::start(desk.path(), "coordinator", &config);

    supervised.wait_for("READY=1");
    assert!(desk.path().join("data/address").exists(), "ready before it serves");
    let fed = supervised.wait_for("WATCHDOG=1");
    assert!(fed.contains("STATUS=no plan has been applied"), "{fed}");
    supervised.assert_that_it_answers(desk.path(), &["no plan has been applied"]);
    supervised.assert_that_a_stopped_program_is_not_fed();
    supervised.end();
}

#[test]
fn a_worker_is_ready_without_a_coordinator_and_its_own_loop_feeds_the_watchdog() {
    let desk = TempDir::new().unwrap();
    let [nobody, admission] = FreePorts::take(2).hand_over();
    for dir in ["live", "snapshot"] {
        fs::create_dir(desk.path().join(dir)).unwrap();
    }
    let config = desk.path().join("worker.toml");
    let text = format!(
        "node = \"stor-01\"\ncoordinator = \"http://127.0.0.1:{nobody}\"\nstate_dir = \"state\"\n\
         live = \"live\"\nsnapshot = \"snapshot\"\nwork = \"work\"\n\
         admission_listen = \"127.0.0.1:{admission}\"\nmetrics_listen = \"127.0.0.1:0\"\n"
    );
    fs::write(&config, text).unwrap();
    let mut supervised = Supervised::start(desk.path(), "worker", &config);

    supervised.wait_for("READY=1");
    let fed = supervised.wait_for("WATCHDOG=1");
    assert!(fed.contains("STATUS=knows no rollout"), "{fed}");
    let address = fs::read_to_string(desk.path().join("state/metrics-address")).unwrap();
    let get = |page: &str| {
        let answer = ureq::get(format!("http://{}{page}", address.trim())).call();
        answer.unwrap().body_mut().read_to_string().unwrap()
    };
    assert_eq!(get("/livez"), "alive\n");
    assert_eq!(get("/readyz"), "alive\n");
    let metrics = get("/metrics");
    let shown = |line: &str| metrics.lines().any(|it| it == line);
    assert!(shown("tidegate_worker_info{node=\"stor-01\"} 1.0"), "{metrics}");
    assert!(shown("tidegate_worker_lease_seconds{} 0.0"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    supervised.assert_that_it_answers(desk.path(), &["knows no rollout", "claimed=0"]);
    supervised.assert_that_a_stopped_program_is_not_fed();
    supervised.end();
}

#[test]
fn a_coordinator_with_its_worker_writes_beneath_their_directories_and_does_its_work() {
    let desk = TempDir::new().unwrap();
    let [listen, admission] = FreePorts::take(2).hand_over();
    for dir in ["live/anna", "snapshot/anna", "elsewhere"] {
        fs::create_dir_all(desk.path().join(dir)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(desk.path().join(name), text).unwrap();
    write(
        "solo.toml",
        &format!(
            "[coordinator]\ndata_dir = \"data\"\nlisten = \"127.0.0.1:{listen}\"\n\
             [coordinator.audit]\nanchors = \"elsewhere/anchors\"\n\
             [worker]\nnode = \"stor-01\"\nstate_dir = \"state\"\nlive = \"live\"\n\
             snapshot = \"snapshot\"\nwork = \"work\"\n\
             admission_listen = \"127.0.0.1:{admission}\"\n"
        ),
    );
    write("users.csv", "address,node,tier,path\nanna@example.org,stor-01,free,anna\n");
    write("policy.toml", include_str!("../deploy/config/lab-policy-small.toml"));
    let config = desk.path().join("solo.toml");
    let mut supervised = Supervised::start(desk.path(), "solo", &config);
    supervised.wait_for("READY=1");

    let files = ["--inventory", "users.csv", "--policy", "policy.toml"];
    let applied = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["apply", "--yes", "--coordinator"])
        .arg(format!("http://127.0.0.1:{listen}"))
        .args(files)
        .current_dir(desk.path())
        .output()
        .unwrap();
    supervised.wait_for("STATUS=");
    let whole = ["status of a wave", "status of a node", "node=\"stor-01\"", "claimed="];
    supervised.assert_that_it_answers(desk.path(), &whole);
    supervised.end();

    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let read = |name: &str| fs::read_to_string(desk.path().join(name)).unwrap();
    let log = read("log");
    let told = ["writes only beneath its own directories", "this kernel has no Landlock"];
    assert!(told.iter().any(|it| log.contains(it)), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    assert!(read("elsewhere/anchors").contains("audit-anchor"), "{log}");
}

#[test]
fn the_shipped_units_are_hardened() {
    need("/usr/bin/systemd-analyze", "systemd");
    for unit in ["coordinator", "worker", "mx"] {
        let path = format!(
            "{}/deploy/systemd/tidegate-{unit}.service",
            env!("CARGO_MANIFEST_DIR")
        );

        let said = Command::new("/usr/bin/systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &path])
            .output()
            .unwrap();

        let said = String::from_utf8(said.stdout).unwrap();
        let exposure = said.lines().find_map(|line| {
            let (_, points) = line.split_once("exposure level for ")?;
            points.split_once(": ")?.1.split(' ').next()?.parse::<f64>().ok()
        });
        assert!(
            exposure.is_some_and(|it| it <= EXPOSURE_MAX),
            "{unit}: {exposure:?}\n{said}"
        );
    }
}

/// A program and the socket on which it tells how it is.
struct Supervised {
    child: Child,
    socket: UnixDatagram,
}

impl Supervised {
    fn start(desk: &Path, verb: &str, config: &Path) -> Self {
        let path = desk.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg(verb)
            .arg("--config")
            .arg(config)
            .arg("--stop-with-stdin")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", WATCHDOG_USEC)
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(desk.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, socket }
    }

    /// The next message with `words` in it.
    fn wait_for(&mut self, words: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{words} was not said");
            let has_ended = self.child.try_wait().unwrap().is_some();
            let said = self.hear(left.min(Duration::from_secs(1)));
            // What it said last is still to be heard.
            assert!(said.is_some() || !has_ended, "it ended before {words}");
            if let Some(said) = said.filter(|said| said.contains(words)) {
                return said;
            }
        }
    }

    fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 4_096];
        let length = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(message.get(..length)?).into_owned())
    }

    fn assert_that_a_stopped_program_is_not_fed(&mut self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        // What was said before.
        while self.hear(Duration::from_millis(100)).is_some() {}
        let said = self.hear(SILENCE);
        kill_process(pid, Signal::CONT).unwrap();
        assert_eq!(said, None);
        self.wait_for("WATCHDOG=1");
    }

    /// Asks it by SIGUSR1 how it is: it goes on, and says all of `words` in its log.
    fn assert_that_it_answers(&mut self, desk: &Path, words: &[&str]) {
        let read = || fs::read_to_string(desk.join("log")).unwrap();
        let before = read().len();
        kill_process(Pid::from_child(&self.child), Signal::USR1).unwrap();
        let until = Instant::now() + PATIENCE;
        let is_whole = |log: &str| {
            let new = log.get(before..).unwrap_or_default();
            new.contains("SIGUSR1") && words.iter().all(|it| new.contains(it))
        };
        while !is_whole(&read()) {
            assert!(Instant::now() < until, "{words:?} was not answered:\n{}", read());
            // It goes on, and so is fed.
            self.wait_for("WATCHDOG=1");
        }
    }

    /// Asks it to stop, and hears that it does.
    fn end(mut self) {
        drop(self.child.stdin.take());
        self.wait_for("STOPPING=1");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
