//! A fleet of real processes on a practice provider, for tests that break it.
//!
//! # Invariants
//!
//! * A fleet that goes away takes its processes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_lab::{LabSpec, Provider};
use tidegate_rig::{FreePorts, LOOPBACK};
use tidegate_trust::{Files, Road};
use tonic::transport::{Channel, Endpoint};

/// The lease of the test's policy.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// Whoever moves the rollout, and whoever approves it, where certificates tell people apart.
const OPERATOR: &str = "anna";
const APPROVER: &str = "berta";

/// No run of this size takes longer, even on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(150);

/// How long a program may take to end by itself.
const END_MAX: Duration = Duration::from_secs(40);

const POLICY: &str = r#"
name = "recovery"
hash_seed = "recovery"

[[ladder]]
name = "webmail"
services = ["lmtp", "webmail"]

[[ladder]]
name = "apps"
services = ["imap", "pop3", "submission", "sieve"]

[[cohort]]
name = "all"
select = { rest = true }
canary = 20
growth = "x2"
wave_max = 10_000

[gate]
mode = "every-mailbox"
failures_max = 0
soak = "500 ms"
report_age_max = "1 s"
unknown_after = "60 s"
disk_free_min = "0.1 %"
escalate_after = "5 min"

# A provider this small loses whole mailboxes to the storm; they are set aside, and that
# must not stop the test.
[gate.preparation]
p_ok = "10 %"
p_bad = "50 %"

[limits]
prepare_ahead = 60
prepare_threads = 2
open_per_second = 30
permit_window = 8
lease = "2 s"
beat = "100 ms"
job_mailboxes = 64
"#;

/// One of the fleet's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Which {
    Coordinator,
    Worker(usize),
}

/// What a fleet stands on.
pub(crate) struct Ground {
    /// Names the provider.
    pub(crate) seed: u64,
    /// Its mailboxes.
    pub(crate) mailboxes: u32,
    /// Its nodes, one worker each.
    pub(crate) nodes: u32,
    /// Where the coordinator keeps its journal; in the fleet's directory if not said.
    pub(crate) coordinator: Option<PathBuf>,
    /// Where the first worker keeps its journal.
    pub(crate) state: Option<PathBuf>,
    /// Where the provider is built.
    pub(crate) provider: Option<PathBuf>,
    /// Words before a program's own: what runs it.
    pub(crate) before: BTreeMap<Which, Vec<String>>,
    /// How programs reach each other; by the loopback if not said.
    pub(crate) roads: Option<Roads>,
    /// Whether everybody shows a certificate, as they must beyond one machine.
    pub(crate) secured: bool,
    /// After how many records journals are compacted; the usual number if not said.
    pub(crate) compact_after: Option<u64>,
}

/// How programs reach each other.
#[derive(Clone)]
pub(crate) struct Roads {
    /// Where the coordinator listens.
    pub(crate) listen: String,
    /// Where it is for everybody.
    pub(crate) to_all: String,
    /// Where it is for the first worker.
    pub(crate) to_first: String,
}

impl Ground {
    /// The ordinary ground.
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            seed,
            mailboxes: 90,
            nodes: 3,
            coordinator: None,
            state: None,
            provider: None,
            before: BTreeMap::new(),
            roads: None,
            secured: false,
            compact_after: None,
        }
    }

    /// A smaller one, where two workers show as much as three.
    pub(crate) fn small(seed: u64) -> Self {
        Self { mailboxes: 50, nodes: 2, ..Self::of(seed) }
    }

    fn roads(&self) -> Roads {
        self.roads.clone().unwrap_or_else(|| {
            let [port] = FreePorts::take(1).hand_over();
            let listen = format!("{LOOPBACK}:{port}");
            Roads { to_all: listen.clone(), to_first: listen.clone(), listen }
        })
    }
}

/// A practice provider, a coordinator and its workers, with a rollout under way.
pub(crate) struct Fleet {
    dir: TempDir,
    ground: Ground,
    roads: Roads,
    provider: Provider,
    running: BTreeMap<Which, Child>,
}

impl Fleet {
    /// Builds the ordinary provider, starts everything and applies the plan.
    pub(crate) fn start(seed: u64) -> Self {
        Self::on(Ground::of(seed))
    }

    /// Builds a provider on this ground, starts everything and applies the plan.
    pub(crate) fn on(ground: Ground) -> Self {
        let mut fleet = Self::built(ground);
        for which in fleet.all() {
            fleet.restart(which);
        }
        fleet.apply();
        fleet
    }

    /// Builds a provider on this ground and starts nothing.
    pub(crate) fn built(ground: Ground) -> Self {
        let dir = TempDir::with_prefix("tidegate-recovery-").unwrap();
        let Ground { mailboxes, nodes, seed, .. } = ground;
        let spec = LabSpec { mailboxes, nodes, messages: 8, seed, damage: 100_000 };
        let at = ground.provider.clone().unwrap_or_else(|| dir.path().join("provider"));
        let provider = tidegate_lab::build(&at, &spec, &mut |_| ()).unwrap();
        let roads = ground.roads();
        let fleet = Self { dir, ground, roads, provider, running: BTreeMap::new() };
        fleet.make_certificates();
        fleet.write_configs();
        fleet.expect();
        fleet
    }

    /// Waits until the coordinator listens, and applies the plan.
    pub(crate) fn apply(&self) {
        self.wait("the coordinator listens", |fleet| {
            TcpStream::connect(&fleet.roads.to_all).is_ok()
        });
        let (inventory, policy) = self.inputs();
        self.tidegate(
            &["apply", "--yes", "--inventory", &inventory, "--policy", &policy],
            0,
        );
    }

    pub(crate) fn inputs(&self) -> (String, String) {
        (text(&self.provider.inventory_csv), text(&self.path("policy.toml")))
    }

    fn write_configs(&self) {
        fs::write(self.path("policy.toml"), POLICY).unwrap();
        let data = text(&self.coordinator_dir());
        let listen = &self.roads.listen;
        let rhythm = self.ground.compact_after;
        let rhythm = rhythm.map(|it| format!("compact_after_records = {it}\n"));
        let rhythm = rhythm.unwrap_or_default();
        let tls = self.tls("coordinator");
        let config =
            format!("data_dir = \"{data}\"\nlisten = \"{listen}\"\n{rhythm}{tls}");
        fs::write(self.path("coordinator.toml"), config).unwrap();
        for (index, node) in self.provider.nodes.iter().enumerate() {
            let road = if index == 0 { &self.roads.to_first } else { &self.roads.to_all };
            let config = format!(
                "node = \"{}\"\ncoordinator = \"{}://{road}\"\nstate_dir = \"{}\"\n\
                 live = \"{}\"\nsnapshot = \"{}\"\nwork = \"{}\"\nformat = \"maildir\"\n\
                 admission_listen = \"127.0.0.1:0\"\n{rhythm}{}",
                node.name,
                self.scheme(),
                text(&self.state_dir(index)),
                text(&node.live),
                text(&node.snapshot),
                text(&node.work),
                self.tls(&format!("worker-{}", node.name)),
            );
            fs::write(self.path(&format!("worker-{index}.toml")), config).unwrap();
        }
    }

    /// Where operators reach the coordinator.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.roads.to_all)
    }

    /// A connection to the coordinator, in the operator's name.
    pub(crate) fn channel(&self) -> Channel {
        let pki = self.path("pki");
        let files = self.ground.secured.then(|| Files {
            certificate: pki.join(format!("{OPERATOR}.pem")),
            key: pki.join(format!("{OPERATOR}.key")),
            ca: pki.join("ca.pem"),
            trust_domain: None,
            denied: None,
        });
        let endpoint = Endpoint::from_shared(self.url()).unwrap();
        Road::new(files).unwrap().channel(&endpoint)
    }

    fn scheme(&self) -> &str {
        if self.ground.secured { "https" } else { "http" }
    }

    /// Certificates for all programs, and for two people, where the road leads elsewhere.
    fn make_certificates(&self) {
        if !self.ground.secured {
            return;
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("init").arg(self.path("pki"));
        for node in &self.provider.nodes {
            command.args(["--node", &node.name]);
        }
        command.args(["--operator", OPERATOR, "--approver", APPROVER]);
        assert!(command.output().unwrap().status.success());
    }

    /// The table of a configuration that names somebody's certificate.
    fn tls(&self, name: &str) -> String {
        if !self.ground.secured {
            return String::new();
        }
        let pki = text(&self.path("pki"));
        format!(
            "[tls]\ncertificate = \"{pki}/{name}.pem\"\nkey = \"{pki}/{name}.key\"\n\
             ca = \"{pki}/ca.pem\"\n"
        )
    }

    pub(crate) fn coordinator_address(&self) -> &str {
        &self.roads.listen
    }

    /// A path in the fleet's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn provider(&self) -> &Provider {
        &self.provider
    }

    pub(crate) fn coordinator_dir(&self) -> PathBuf {
        self.ground.coordinator.clone().unwrap_or_else(|| self.path("coordinator"))
    }

    pub(crate) fn state_dir(&self, index: usize) -> PathBuf {
        let own = || self.path("state").join(index.to_string());
        self.ground.state.clone().filter(|_| index == 0).unwrap_or_else(own)
    }

    /// Changes what runs a program from its next start on; nothing runs it alone.
    pub(crate) fn run_by(&mut self, which: Which, words: &[&str]) {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        self.ground.before.insert(which, words);
    }

    fn command(&self, which: Which) -> Command {
        let (verb, config) = match which {
            Which::Coordinator => ("coordinator", "coordinator.toml".to_owned()),
            Which::Worker(index) => ("worker", format!("worker-{index}.toml")),
        };
        let before = self.ground.before.get(&which).map_or(&[][..], Vec::as_slice);
        let program = env!("CARGO_BIN_EXE_tidegate").to_owned();
        let mut words = before.iter().chain(std::iter::once(&program));
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args([verb, "--config"]).arg(self.path(&config));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a program that is not running.
    pub(crate) fn restart(&mut self, which: Which) {
        let log = self.path(&format!("{which:?}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = self.command(which).stderr(log).spawn().unwrap();
        self.running.insert(which, child);
    }

    /// Starts again whatever has ended by itself, and gives it.
    pub(crate) fn restart_ended(&mut self) -> Vec<Which> {
        let mut ended = Vec::new();
        for (which, child) in &mut self.running {
            if child.try_wait().unwrap().is_some() {
                ended.push(*which);
            }
        }
        for which in &ended {
            self.running.remove(which);
            self.restart(*which);
        }
        ended
    }

    /// Kills a program as the kernel would: no farewell. It may have ended already.
    pub(crate) fn kill(&mut self, which: Which) {
        let Some(mut child) = self.running.remove(&which) else { return };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn kill_and_restart(&mut self, which: Which) {
        self.kill(which);
        self.restart(which);
    }

    pub(crate) fn signal(&self, which: Which, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(which), signal).unwrap();
    }

    pub(crate) fn pid(&self, which: Which) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.running.get(&which).unwrap())
    }

    /// How a program ended, if it has.
    pub(crate) fn ended(&mut self, which: Which) -> Option<ExitStatus> {
        self.running.get_mut(&which)?.try_wait().unwrap()
    }

    /// Waits until a program has ended by itself.
    pub(crate) fn ends(&mut self, which: Which) -> ExitStatus {
        let deadline = Instant::now() + END_MAX;
        loop {
            if let Some(status) = self.ended(which) {
                self.running.remove(&which);
                return status;
            }
            let late = Instant::now() > deadline;
            assert!(!late, "{which:?} does not end\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a state.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until some mailbox lets its user in.
    pub(crate) fn wait_for_openings(&self) {
        self.wait("something is open", |fleet| !fleet.admitted().is_empty());
    }

    /// Waits until the rollout has finished.
    pub(crate) fn finish(&self) {
        self.wait("the rollout finishes", |fleet| {
            let (_, said) = fleet.run(&["status", "-o", "json"]);
            assert!(!said.contains("\"halted\""), "{said}\n{}", fleet.logs());
            said.contains("\"finished\"")
        });
    }

    pub(crate) fn logs(&self) -> String {
        let status = self.run(&["status"]).1;
        let logs = self.all().into_iter().map(|which| {
            let log = self.log(which);
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            format!(
                "--- {which:?}\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        });
        format!("{status}\n{}", logs.collect::<Vec<_>>().join("\n"))
    }

    /// Runs a verb and demands its exit code.
    pub(crate) fn tidegate(&self, args: &[&str], code: i32) -> String {
        let (exit, said) = self.run(args);
        assert_eq!(exit, Some(code), "{args:?} said:\n{said}\n{}", self.logs());
        said
    }

    /// Whether a verb does what it should.
    pub(crate) fn tidegate_ok(&self, args: &[&str]) -> bool {
        self.run(args).0 == Some(0)
    }

    /// What a program has said so far.
    pub(crate) fn log(&self, which: Which) -> String {
        fs::read_to_string(self.path(&format!("{which:?}.log"))).unwrap_or_default()
    }

    /// Runs a verb; how it ends, and what it says. What needs a second person gets one.
    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let (code, said) = self.run_as(OPERATOR, args);
        let asked = said.split('`').nth(1).and_then(|it| it.strip_prefix("tidegate "));
        let Some(approve) = asked.filter(|it| it.starts_with("approve ")) else {
            return (code, said);
        };
        let approve = approve.replace("'…'", "seen");
        let approved = self.run_as(APPROVER, &approve.split(' ').collect::<Vec<_>>());
        assert_eq!(approved.0, Some(0), "{}", approved.1);
        self.run_as(OPERATOR, args)
    }

    fn run_as(&self, who: &str, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).env("TIDEGATE_COORDINATOR", self.url()).stdin(Stdio::null());
        if self.ground.secured {
            let pki = self.path("pki");
            command.env("TIDEGATE_CERTIFICATE", pki.join(format!("{who}.pem")));
            command.env("TIDEGATE_KEY", pki.join(format!("{who}.key")));
            command.env("TIDEGATE_CA", pki.join("ca.pem"));
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn apply_again(&self) -> String {
        let (inventory, policy) = self.inputs();
        let args = ["apply", "--yes", "--inventory", &inventory, "--policy", &policy];
        let (exit, said) = self.run(&args);
        assert_ne!(exit, Some(0), "{said}");
        said
    }

    /// Starts another worker for the first node with a changed configuration, and gives
    /// what it says when it ends.
    pub(crate) fn second_worker(
        &self,
        name: &str,
        change: impl Fn(String) -> String,
    ) -> String {
        let config = fs::read_to_string(self.path("worker-0.toml")).unwrap();
        let path = self.path(&format!("{name}.toml"));
        fs::write(&path, change(config)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        refuses(command.args(["worker", "--config"]).arg(path))
    }

    /// Starts another coordinator on the same port, with a directory of its own.
    pub(crate) fn second_coordinator(&self) -> String {
        let config = fs::read_to_string(self.path("coordinator.toml")).unwrap();
        let path = self.path("second.toml");
        fs::write(&path, config.replace("/coordinator\"", "/coordinator-2\"")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        refuses(command.args(["coordinator", "--config"]).arg(path))
    }

    pub(crate) fn fails_to_start(&self, which: Which) -> String {
        refuses(&mut self.command(which))
    }

    /// Addresses that the nodes' own admission lets use webmail now.
    pub(crate) fn admitted(&self) -> BTreeSet<String> {
        (0..self.provider.nodes.len()).flat_map(|index| self.admitted_on(index)).collect()
    }

    /// Whether the admission of one node answers.
    pub(crate) fn answers_on(&self, index: usize) -> bool {
        let at = fs::read_to_string(self.state_dir(index).join("admission-address"));
        let address = self.addresses_on(index).into_iter().next();
        let asked = at.ok().zip(address).and_then(|(at, it)| ask(at.trim(), &it));
        asked.is_some_and(|answer| answer.starts_with("HTTP/1.1 "))
    }

    /// Those of one node.
    pub(crate) fn admitted_on(&self, index: usize) -> BTreeSet<String> {
        let at = fs::read_to_string(self.state_dir(index).join("admission-address"));
        let Ok(at) = at else { return BTreeSet::new() };
        let online = |address: &String| {
            ask(at.trim(), address).is_some_and(|answer| answer.contains("online"))
        };
        self.addresses_on(index).into_iter().filter(online).collect()
    }

    /// The addresses of one node.
    pub(crate) fn addresses_on(&self, index: usize) -> BTreeSet<String> {
        let node = &self.provider.nodes.get(index).unwrap().name;
        let here = self.addresses().into_iter().filter(|(_, of)| of == node);
        here.map(|(address, _)| address).collect()
    }

    /// Every address of the inventory with its node.
    fn addresses(&self) -> BTreeMap<String, String> {
        let inventory = fs::read_to_string(&self.provider.inventory_csv).unwrap();
        let rows = inventory.lines().skip(1).map(|line| {
            let mut fields = line.split(',').map(str::to_owned);
            (fields.next().unwrap(), fields.next().unwrap())
        });
        rows.collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself already.
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// Copies a directory of plain files and directories.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn ask(at: &str, address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(LEASE)).ok()?;
    let request = format!(
        "GET /gate/passdb/webmail/{address} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// What a program says that must refuse to run.
fn refuses(command: &mut Command) -> String {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + END_MAX;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some_and(|code| code != 0), "did not refuse: {said}");
    said
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
