//! A provider with mbox files on two nodes, a coordinator and two workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_rig::FreePorts;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::{ListMailboxesRequest, Mailbox};

/// No run of this size takes longer, even on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(4);

const POLICY: &str = r#"
name = "mbox"
hash_seed = "mbox"

[[ladder]]
name = "receive"
services = ["lmtp"]

[[ladder]]
name = "read"
services = ["imap"]

[[cohort]]
name = "all"
select = { rest = true }
canary = 12
growth = "x2"
wave_max = 10_000

[gate]
mode = "every-mailbox"
failures_max = 0
soak = "300 ms"
report_age_max = "2 s"
unknown_after = "60 s"
disk_free_min = "0.1 %"
escalate_after = "5 min"

# Two of forty are set aside on purpose.
[gate.preparation]
p_ok = "10 %"
p_bad = "50 %"

[limits]
prepare_ahead = 60
prepare_threads = 2
open_per_second = 30
permit_window = 8
lease = "3 s"
beat = "100 ms"
job_mailboxes = 64
"#;

/// What is wrong with a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Bytes in the middle are zeros.
    Zeros,
    /// The end is missing.
    Truncated,
    /// The file is missing.
    Missing,
    /// Live and snapshot are damaged.
    BothSides,
    /// The mail system cannot let its owner in.
    NotLetIn,
    /// Nothing: mail has come since the snapshot.
    Newer,
}

pub(crate) struct Site {
    dir: TempDir,
    port: u16,
    count: usize,
    newer: BTreeSet<usize>,
    running: BTreeMap<String, Child>,
}

impl Site {
    /// Builds healthy mailboxes, odd ones on the second node.
    pub(crate) fn new(count: usize) -> Self {
        let dir = TempDir::with_prefix("tidegate-mbox-").unwrap();
        let [port] = FreePorts::take(1).hand_over();
        let (newer, running) = (BTreeSet::new(), BTreeMap::new());
        let site = Self { dir, port, count, newer, running };
        for node in 0..2 {
            for part in ["live", "snapshot", "aside", "gate", "work"] {
                fs::create_dir_all(site.node(node).join(part)).unwrap();
            }
            for part in ["live", "snapshot"] {
                fs::create_dir(site.node(node).join(part).join("u")).unwrap();
            }
        }
        for index in 0..count {
            fs::write(site.live_path(index), content(index)).unwrap();
            fs::write(site.snapshot_path(index), content(index)).unwrap();
        }
        for node in 0..2 {
            // One sidecar per file, as its owner would make them.
            let mut shell = Command::new("sh");
            shell.args(["-c", "for f in u/*; do sha256sum $f >$f.sha256; done"]);
            let made = shell.current_dir(site.node(node).join("snapshot")).status();
            assert!(made.unwrap().success());
        }
        site.write_configs();
        site
    }

    /// Damages a mailbox.
    pub(crate) fn make(&mut self, index: usize, trouble: Trouble) {
        let path = self.live_path(index);
        let mut live = content(index);
        match trouble {
            Trouble::Zeros => {
                zero(&mut live);
                fs::write(path, live).unwrap();
            }
            Trouble::Truncated => {
                live.truncate(50);
                fs::write(path, live).unwrap();
            }
            Trouble::Missing => fs::remove_file(path).unwrap(),
            Trouble::BothSides => {
                zero(&mut live);
                fs::write(path, &live).unwrap();
                fs::write(self.snapshot_path(index), live).unwrap();
            }
            Trouble::NotLetIn => {
                let flag = self.node(index % 2).join("gate").join(self.address(index));
                fs::create_dir(flag).unwrap();
            }
            Trouble::Newer => {
                self.newer.insert(index);
                fs::write(path, self.right(index)).unwrap();
            }
        }
    }

    /// What a mailbox must hold in the end.
    pub(crate) fn right(&self, index: usize) -> Vec<u8> {
        let mut right = content(index);
        if self.newer.contains(&index) {
            right.extend(b"From since\nSubject: newer\n\nnewer\n");
        }
        right
    }

    pub(crate) fn live(&self, index: usize) -> Vec<u8> {
        fs::read(self.live_path(index)).unwrap_or_default()
    }

    pub(crate) fn live_path(&self, index: usize) -> PathBuf {
        self.node(index % 2).join("live").join(path(index))
    }

    fn snapshot_path(&self, index: usize) -> PathBuf {
        self.node(index % 2).join("snapshot").join(path(index))
    }

    fn node(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("stor-{node}"))
    }

    #[expect(clippy::unused_self, reason = "asked of the site")]
    pub(crate) fn address(&self, index: usize) -> String {
        format!("user{index}@example.org")
    }

    #[expect(clippy::unused_self, reason = "asked of the site")]
    pub(crate) fn node_of(&self, address: &str) -> usize {
        let number = address.strip_prefix("user").unwrap().split('@').next().unwrap();
        number.parse::<usize>().unwrap() % 2
    }

    /// Whose flags stand in the gates.
    pub(crate) fn let_in(&self) -> BTreeSet<String> {
        let mut open = BTreeSet::new();
        for node in 0..2 {
            let Ok(flags) = fs::read_dir(self.node(node).join("gate")) else { continue };
            for flag in flags.map(Result::unwrap) {
                let name = flag.file_name().into_string().unwrap();
                let is_file = flag.file_type().is_ok_and(|kind| kind.is_file());
                if is_file && !name.starts_with('.') {
                    open.insert(name);
                }
            }
        }
        open
    }

    pub(crate) fn flag(&self, index: usize) -> String {
        let flag = self.node(index % 2).join("gate").join(self.address(index));
        fs::read_to_string(flag).unwrap()
    }

    /// How many damaged files were kept.
    pub(crate) fn kept_aside(&self) -> usize {
        let kept = |node| fs::read_dir(self.node(node).join("aside")).unwrap().count();
        kept(0) + kept(1)
    }

    /// Takes the gates away, so that the program cannot do anything, or brings them back.
    pub(crate) fn hide_gate(&self, hide: bool) {
        for node in 0..2 {
            let (gate, hidden) =
                (self.node(node).join("gate"), self.node(node).join("hidden"));
            let (from, to) = if hide { (gate, hidden) } else { (hidden, gate) };
            fs::rename(from, to).unwrap();
        }
    }

    fn write_configs(&self) {
        let root = self.dir.path();
        fs::write(root.join("policy.toml"), POLICY).unwrap();
        let rows = (0..self.count).map(|index| {
            format!("{},stor-{},free,{}\n", self.address(index), index % 2, path(index))
        });
        let inventory = format!("address,node,tier,path\n{}", rows.collect::<String>());
        fs::write(root.join("inventory.csv"), inventory).unwrap();
        let config = format!(
            "data_dir = \"{}/coordinator\"\nlisten = \"127.0.0.1:{}\"\n",
            root.display(),
            self.port
        );
        fs::write(root.join("coordinator.toml"), config).unwrap();
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/mbox-store");
        for node in 0..2 {
            let here = self.node(node);
            let here = here.display();
            let config = format!(
                "node = \"stor-{node}\"\ncoordinator = \"{}\"\n\
                 state_dir = \"{here}/state\"\nwork = \"{here}/work\"\n\
                 admission_listen = \"127.0.0.1:0\"\n\n[store]\nkind = \"command\"\n\
                 batch = 8\nprogram = [\"{example}\", \"--live\", \"{here}/live\", \
                 \"--snapshot\", \"{here}/snapshot\", \"--aside\", \"{here}/aside\", \
                 \"--gate\", \"{here}/gate\"]\n",
                self.url(),
            );
            fs::write(root.join(format!("worker-{node}.toml")), config).unwrap();
        }
    }

    /// Starts everything and applies the plan.
    pub(crate) fn start(&mut self) {
        for name in ["coordinator", "worker-0", "worker-1"] {
            self.launch(name);
        }
        self.wait("the coordinator listens", |site| {
            TcpStream::connect(("127.0.0.1", site.port)).is_ok()
        });
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let (inventory, policy) = (file("inventory.csv"), file("policy.toml"));
        let args = ["apply", "--yes", "--inventory", &inventory, "--policy", &policy];
        self.tidegate(&args, 0);
    }

    fn launch(&mut self, name: &str) {
        let log = self.dir.path().join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let verb = name.split('-').next().unwrap();
        command.args([verb, "--config"]);
        command.arg(self.dir.path().join(format!("{name}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.running.insert(name.to_owned(), command.spawn().unwrap());
    }

    pub(crate) fn kill_and_restart(&mut self, worker: usize) {
        self.kill(worker);
        self.restart(worker);
    }

    pub(crate) fn restart(&mut self, worker: usize) {
        self.launch(&format!("worker-{worker}"));
    }

    /// Loses a worker's journal.
    pub(crate) fn forget_state(&self, worker: usize) {
        fs::remove_dir_all(self.node(worker).join("state")).unwrap();
    }

    /// Kills a worker as the kernel would, and waits until all that it had started has
    /// ended, too.
    pub(crate) fn kill(&mut self, worker: usize) {
        let name = format!("worker-{worker}");
        let mut child = self.running.remove(&name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let lock = File::open(self.node(worker).join("work/lock")).unwrap();
        self.wait("the killed worker's calls have ended", |_| {
            use rustix::fs::FlockOperation;
            let taken =
                rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive);
            taken.is_ok()
        });
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits for a state.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn worker_logs(&self) -> [String; 2] {
        [0, 1].map(|node| self.log(&format!("worker-{node}")))
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(format!("{name}.log")))
            .unwrap_or_default()
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self) -> String {
        let status = self.run(&["status"]).1;
        let logs = ["coordinator", "worker-0", "worker-1"].map(|name| {
            let log = self.log(name);
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            format!(
                "--- {name}\n{}",
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

    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).env("TIDEGATE_COORDINATOR", self.url()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    pub(crate) fn has_finished(&self) -> bool {
        self.run(&["status", "-o", "json"]).1.contains("\"finished\"")
    }

    /// Waits until the rollout has finished, and gives every mailbox. Meanwhile nobody is
    /// reported as open who is not let in.
    pub(crate) fn finish(&self) -> Vec<Mailbox> {
        self.wait("the rollout finishes", |site| {
            let reported = site.reported_open();
            let open = site.let_in();
            assert!(reported.is_subset(&open), "{reported:?}\n{open:?}\n{}", site.logs());
            let (_, said) = site.run(&["status", "-o", "json"]);
            assert!(!said.contains("\"halted\""), "{said}\n{}", site.logs());
            said.contains("\"finished\"")
        });
        self.mailboxes()
    }

    /// Who is open by the coordinator's word.
    pub(crate) fn reported_open(&self) -> BTreeSet<String> {
        let mailboxes = self.mailboxes().into_iter();
        mailboxes.filter(|it| it.level > 0).map(|it| it.address).collect()
    }

    pub(crate) fn mailboxes(&self) -> Vec<Mailbox> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = ProgressServiceClient::connect(self.url()).await.unwrap();
            let request = ListMailboxesRequest { page_size: 1_000, ..Default::default() };
            client.list_mailboxes(request).await.unwrap().into_inner().mailboxes
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself already.
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

fn zero(live: &mut [u8]) {
    live.iter_mut().skip(30).take(10).for_each(|byte| *byte = 0);
}

fn path(index: usize) -> String {
    format!("u/user{index}.mbox")
}

fn content(index: usize) -> Vec<u8> {
    let messages = (0..3).map(|number| {
        format!(
            "From sender\nTo: user{index}@example.org\nSubject: {number}\n\nmail {number} \
             of user {index}\n\n"
        )
    });
    messages.collect::<String>().into_bytes()
}
