//! A fleet of real processes on a practice provider, for tests that break it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_lab::{LabSpec, Listed, MailboxEnd, Provider, Told};
use tidegate_wire::v1::Preparation;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::{
    FindingKind, ListFindingsRequest, ListMailboxesRequest, Mailbox,
};

/// The lease of the test's policy.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// No run of this size takes longer, even on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(150);

const NODES: u32 = 3;

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

impl Which {
    pub(crate) fn all() -> [Self; 4] {
        [Self::Coordinator, Self::Worker(0), Self::Worker(1), Self::Worker(2)]
    }
}

/// A practice provider, a coordinator and three workers, with a rollout under way.
pub(crate) struct Fleet {
    dir: TempDir,
    provider: Provider,
    port: u16,
    running: BTreeMap<Which, Child>,
}

impl Fleet {
    /// Builds the provider, starts everything and applies the plan.
    pub(crate) fn start(seed: u64) -> Self {
        let dir = TempDir::with_prefix("tidegate-recovery-").unwrap();
        let spec =
            LabSpec { mailboxes: 90, nodes: NODES, messages: 8, seed, damage: 100_000 };
        let provider =
            tidegate_lab::build(&dir.path().join("provider"), &spec, &mut |_| ())
                .unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut fleet = Self { dir, provider, port, running: BTreeMap::new() };
        fleet.write_configs();
        for which in Which::all() {
            fleet.restart(which);
        }
        fleet.wait("the coordinator listens", |fleet| {
            TcpStream::connect(("127.0.0.1", fleet.port)).is_ok()
        });
        let (inventory, policy) = fleet.inputs();
        fleet.tidegate(
            &["apply", "--yes", "--inventory", &inventory, "--policy", &policy],
            0,
        );
        fleet
    }

    pub(crate) fn inputs(&self) -> (String, String) {
        let policy = self.dir.path().join("policy.toml");
        (text(&self.provider.inventory_csv), text(&policy))
    }

    fn write_configs(&self) {
        let root = self.dir.path();
        fs::write(root.join("policy.toml"), POLICY).unwrap();
        let data = text(&self.coordinator_dir());
        let config =
            format!("data_dir = \"{data}\"\nlisten = \"127.0.0.1:{}\"\n", self.port);
        fs::write(root.join("coordinator.toml"), config).unwrap();
        for (index, node) in self.provider.nodes.iter().enumerate() {
            let config = format!(
                "node = \"{}\"\ncoordinator = \"{}\"\nstate_dir = \"{}/state/{index}\"\n\
                 live = \"{}\"\nsnapshot = \"{}\"\nwork = \"{}\"\nformat = \"maildir\"\n\
                 admission_listen = \"127.0.0.1:0\"\n",
                node.name,
                self.url(),
                text(root),
                text(&node.live),
                text(&node.snapshot),
                text(&node.work),
            );
            fs::write(root.join(format!("worker-{index}.toml")), config).unwrap();
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn coordinator_port(&self) -> u16 {
        self.port
    }

    pub(crate) fn worker_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("state/{index}"))
    }

    pub(crate) fn coordinator_dir(&self) -> PathBuf {
        self.dir.path().join("coordinator")
    }

    fn command(&self, which: Which) -> Command {
        let (verb, config) = match which {
            Which::Coordinator => ("coordinator", "coordinator.toml".to_owned()),
            Which::Worker(index) => ("worker", format!("worker-{index}.toml")),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args([verb, "--config"]).arg(self.dir.path().join(config));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a program that is not running.
    pub(crate) fn restart(&mut self, which: Which) {
        let log = self.dir.path().join(format!("{which:?}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = self.command(which).stderr(log).spawn().unwrap();
        self.running.insert(which, child);
    }

    /// Kills a program as the kernel would: no farewell.
    pub(crate) fn kill(&mut self, which: Which) {
        let mut child = self.running.remove(&which).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn kill_and_restart(&mut self, which: Which) {
        self.kill(which);
        self.restart(which);
    }

    pub(crate) fn signal(&self, which: Which, signal: rustix::process::Signal) {
        let child = self.running.get(&which).unwrap();
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for a state.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        let status = self.run(&["status"]).1;
        let logs = Which::all().map(|which| {
            let log = self.log(which);
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            format!(
                "--- {which:?}\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        });
        format!("{status}\n{}", logs.join("\n"))
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
        fs::read_to_string(self.dir.path().join(format!("{which:?}.log")))
            .unwrap_or_default()
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).env("TIDEGATE_COORDINATOR", self.url()).stdin(Stdio::null());
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
        let config = fs::read_to_string(self.dir.path().join("worker-0.toml")).unwrap();
        let path = self.dir.path().join(format!("{name}.toml"));
        fs::write(&path, change(config)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        ends(command.args(["worker", "--config"]).arg(path))
    }

    /// Starts another coordinator on the same port, with a directory of its own.
    pub(crate) fn second_coordinator(&self) -> String {
        let config =
            fs::read_to_string(self.dir.path().join("coordinator.toml")).unwrap();
        let path = self.dir.path().join("second.toml");
        fs::write(&path, config.replace("/coordinator\"", "/coordinator-2\"")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        ends(command.args(["coordinator", "--config"]).arg(path))
    }

    pub(crate) fn fails_to_start(&self, which: Which) -> String {
        ends(&mut self.command(which))
    }

    /// Addresses that the nodes' own admission lets use webmail now.
    pub(crate) fn admitted(&self) -> BTreeSet<String> {
        let addresses = self.addresses();
        let mut admitted = BTreeSet::new();
        for (index, node) in self.provider.nodes.iter().enumerate() {
            let file = self.dir.path().join(format!("state/{index}/admission-address"));
            let Ok(at) = fs::read_to_string(file) else { continue };
            let here = addresses.iter().filter(|(_, of)| **of == node.name);
            for (address, _) in here {
                if ask(at.trim(), address).is_some_and(|answer| answer.contains("online"))
                {
                    admitted.insert(address.clone());
                }
            }
        }
        admitted
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

    /// Waits until the rollout has finished, and gives every mailbox.
    pub(crate) fn finish(&self) -> Vec<Mailbox> {
        self.wait("the rollout finishes", |fleet| {
            let (_, said) = fleet.run(&["status", "-o", "json"]);
            assert!(!said.contains("\"halted\""), "{said}\n{}", fleet.logs());
            said.contains("\"finished\"")
        });
        self.mailboxes()
    }

    fn mailboxes(&self) -> Vec<Mailbox> {
        runtime().block_on(async {
            let mut client = ProgressServiceClient::connect(self.url()).await.unwrap();
            let mut all = Vec::new();
            let mut request =
                ListMailboxesRequest { page_size: 1_000, ..Default::default() };
            loop {
                let page =
                    client.list_mailboxes(request.clone()).await.unwrap().into_inner();
                all.extend(page.mailboxes);
                if page.next_page_token.is_empty() {
                    return all;
                }
                request.page_token = page.next_page_token;
            }
        })
    }

    fn listed(&self) -> Vec<Listed> {
        runtime().block_on(async {
            let mut client = ProgressServiceClient::connect(self.url()).await.unwrap();
            let mut all = Vec::new();
            let mut request =
                ListFindingsRequest { page_size: 1_000, ..Default::default() };
            loop {
                let page =
                    client.list_findings(request.clone()).await.unwrap().into_inner();
                let aside = page.findings.into_iter().filter_map(|found| {
                    let finding = found.finding?;
                    let kind = finding.kind();
                    matches!(kind, FindingKind::SetAside | FindingKind::Lost).then(|| {
                        Listed {
                            address: found.address,
                            folder: finding.folder,
                            name: finding.name,
                            reason: finding.reason,
                        }
                    })
                });
                all.extend(aside);
                if page.next_page_token.is_empty() {
                    return all;
                }
                request.page_token = page.next_page_token;
            }
        })
    }

    /// Counts every message in the stores, and demands that all is right.
    pub(crate) fn recount(&self, end: &[Mailbox]) {
        let states = end.iter().map(|mailbox| {
            let end = match mailbox.preparation() {
                Preparation::Prepared => MailboxEnd::Restored,
                Preparation::Quarantined => MailboxEnd::SetAside,
                Preparation::Waiting | Preparation::Unspecified => MailboxEnd::Untouched,
            };
            (mailbox.address.clone(), end)
        });
        let told = Told { states: states.collect(), set_aside: self.listed() };
        let recount = tidegate_lab::recount(&self.provider, &told).unwrap();
        assert!(recount.is_clean(), "{recount}\n{}", self.logs());
        let (restored, set_aside, untouched) = recount.mailboxes;
        assert_eq!(untouched, 0, "{recount}");
        assert!(set_aside * 20 <= restored, "too many set aside: {recount}");
        eprint!("{recount}");
    }

    /// Reads the workers' journals: every raise follows a settling under the same
    /// generation, and no mailbox is raised twice to one level without being closed.
    pub(crate) fn never_opened_unverified_or_twice(&mut self) {
        for index in 0..self.provider.nodes.len() {
            self.kill(Which::Worker(index));
            let dir = self.dir.path().join(format!("state/{index}/journal"));
            let mut exported = Vec::new();
            tidegate_journal::export(&dir, &mut exported).unwrap();
            check_journal(&String::from_utf8(exported).unwrap());
        }
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

/// A step of a small generator: the same seed gives the same run.
pub(crate) fn chance(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn check_journal(exported: &str) {
    use tidegate_core::holding::Record;
    use tidegate_wire::worker_record::{Entry, decode_entry};
    let mut verified = BTreeMap::new();
    let mut levels: BTreeMap<_, u8> = BTreeMap::new();
    for line in exported.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(payload) = value.get("payload").and_then(serde_json::Value::as_str)
        else {
            continue;
        };
        let Entry::Record(record) = decode_entry(&unhex(payload)).unwrap() else {
            continue;
        };
        match record {
            Record::Settled { job, generation, mailboxes, .. } => {
                for settled in mailboxes.iter().filter(|settled| settled.stamp.is_some())
                {
                    verified.insert((job, settled.ordinal), generation);
                }
            }
            Record::Raised { job, generation, level, ordinals, .. } => {
                for ordinal in ordinals {
                    let before = levels.insert((job, ordinal), level.get()).unwrap_or(0);
                    assert!(
                        before < level.get(),
                        "{job} {ordinal} raised twice to {level}"
                    );
                    if before == 0 {
                        let under = verified.get(&(job, ordinal));
                        assert_eq!(
                            under,
                            Some(&generation),
                            "{job} {ordinal} opened unverified"
                        );
                    }
                }
            }
            Record::Closed { job, ordinals, .. } => {
                for ordinal in ordinals {
                    levels.insert((job, ordinal), 0);
                    verified.remove(&(job, ordinal));
                }
            }
            Record::Unsettled { job, ordinals, .. } => {
                for ordinal in ordinals {
                    verified.remove(&(job, ordinal));
                }
            }
            Record::JobClaimed { .. }
            | Record::HealthNoted { .. }
            | Record::DialTone { .. }
            | Record::DialToneSwitched { .. } => {}
        }
    }
    assert!(!levels.is_empty(), "the journal tells of no opening");
}

fn unhex(text: &str) -> Vec<u8> {
    let digits =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(digits).collect()
}

fn ask(at: &str, address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(at).ok()?;
    let request = format!(
        "GET /gate/passdb/webmail/{address} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// What a program says that must end by itself.
fn ends(command: &mut Command) -> String {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
