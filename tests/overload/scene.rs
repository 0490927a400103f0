//! The scene: a coordinator with a plan, and honest workers that report all the while.
//!
//! # Invariants
//!
//! * The coordinator is the built program, and goes with its scene.
//! * An honest worker that is refused for want of room has failed the test.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tempfile::TempDir;
use tidegate_core::fleet::{Generation, Incarnation, NodeNumber};
use tidegate_core::rollout::{Account, Join, Orders, Sync, Vitals};
use tidegate_core::time::Timestamp;
use tidegate_rig::{FreePorts, LOOPBACK};
use tidegate_trust::{Files, Road};
use tidegate_wire::v1;
use tidegate_wire::v1::operator_service_client::OperatorServiceClient;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tidegate_wire::worker::{Joined, Joining};
use tokio::sync::{Mutex as OneAtATime, MutexGuard};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Longer than anything takes, also on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often a state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often an honest worker reports.
const BEAT: Duration = Duration::from_millis(50);

/// Reports of each honest worker that must be answered while a flood lasts.
const REPORTS: u64 = 10;

/// Mailboxes, over all nodes.
const MAILBOXES: usize = 400;

/// Nodes with an honest worker.
const HONEST: [&str; 2] = ["stor-01", "stor-02"];

/// A node whose worker is not honest.
pub(crate) const MAD: &str = "stor-03";

/// Whoever moves the rollout, reads, and floods; and whoever approves.
pub(crate) const OPERATOR: &str = "anna";
const APPROVER: &str = "berta";

/// Whoever watches on a wall.
const VIEWER: &str = "vera";

/// What a coordinator is run by that decides nothing as long as a file is there.
pub(crate) const HANGS: &[&str] = &["env", "TIDEGATE_HANG_WHILE=hang"];
const HANG: &str = "hang";

static ONE_AT_A_TIME: OneAtATime<()> = OneAtATime::const_new(());

/// Waits for a state.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(LOOK_EVERY);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        look.tick().await;
    }
}

/// Lets this process have a few thousand connections.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8_192, |most| most.min(8_192));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
}

/// A way to a coordinator, with the certificate that is shown there, if one is.
#[derive(Clone)]
pub(crate) struct Way {
    endpoint: Endpoint,
    road: Road,
}

impl Way {
    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        self.road.connect(&self.endpoint).await
    }

    /// A connection that is made when it is used.
    pub(crate) fn connect_lazy(&self) -> Channel {
        self.road.channel(&self.endpoint)
    }
}

/// A coordinator, its plan and its honest workers.
pub(crate) struct Scene {
    /// Whether everybody shows a certificate.
    secured: bool,
    coordinator: Child,
    dir: TempDir,
    address: String,
    operators: String,
    readers: String,
    honest: Vec<Arc<Honest>>,
    working: JoinSet<()>,
    _alone: MutexGuard<'static, ()>,
}

/// A worker that has joined.
#[derive(Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) node: NodeNumber,
    pub(crate) incarnation: u64,
}

/// What became of an honest worker's reports.
#[derive(Default)]
struct Honest {
    answered: AtomicU64,
    orders: AtomicU64,
    refusals: Mutex<Vec<Status>>,
}

impl Scene {
    /// Starts a coordinator, run by these words, applies a plan, and lets workers join.
    pub(crate) async fn start(before: &[&str]) -> Self {
        Self::listening(before, None, false).await
    }

    /// Starts one at which everybody shows a certificate.
    pub(crate) async fn secured() -> Self {
        Self::listening(&[], None, true).await
    }

    /// The same with addresses of their own for operators and readers.
    pub(crate) async fn with_listeners() -> Self {
        let free: [u16; 2] = FreePorts::take(2).hand_over();
        let [operators, readers] = free.map(|port| format!("{LOOPBACK}:{port}"));
        Self::listening(&[], Some((operators, readers)), false).await
    }

    async fn listening(
        before: &[&str],
        others: Option<(String, String)>,
        secured: bool,
    ) -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let dir = TempDir::with_prefix("tidegate-overload-").unwrap();
        let config = "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\nlog = \"warn\"\n";
        let listeners = others.as_ref().map_or(String::new(), |(operators, readers)| {
            format!(
                "operators_listen = \"{operators}\"\nreaders_listen = \"{readers}\"\n"
            )
        });
        let tls = if secured { make_certificates(dir.path()) } else { "" };
        let config = format!("{config}{listeners}{tls}");
        fs::write(dir.path().join("coordinator.toml"), config).unwrap();
        let coordinator = spawn(dir.path(), before);
        let at = dir.path().join("data/address");
        let address = || fs::read_to_string(&at).unwrap_or_default();
        until("it listens", || address().contains(':')).await;
        let address = address().trim().to_owned();
        let same = || (address.clone(), address.clone());
        let (operators, readers) = others.unwrap_or_else(same);
        apply(dir.path(), &operators, secured);
        let mut scene = Self {
            secured,
            coordinator,
            dir,
            address,
            operators,
            readers,
            honest: Vec::new(),
            working: JoinSet::new(),
            _alone: alone,
        };
        for node in HONEST {
            let taken = scene.join(node).await;
            let honest = Arc::new(Honest::default());
            scene.honest.push(Arc::clone(&honest));
            let channel = scene.worker_of(node).connect().await.unwrap();
            scene.working.spawn(honest.work(channel, taken));
        }
        until("they work", || scene.honest.iter().all(|it| it.has_told(1))).await;
        scene
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A watcher's connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        self.way(&self.readers, VIEWER).connect().await.unwrap()
    }

    /// Where workers come; with the certificate of one that is not honest.
    pub(crate) fn endpoint(&self) -> Way {
        self.worker_of(MAD)
    }

    /// Where the worker of `node` comes.
    fn worker_of(&self, node: &str) -> Way {
        self.way(&self.address, &format!("worker-{node}"))
    }

    /// Where operators come.
    pub(crate) fn for_operators(&self) -> Way {
        self.way(&self.operators, OPERATOR)
    }

    /// Where readers come.
    pub(crate) fn for_readers(&self) -> Way {
        self.way(&self.readers, OPERATOR)
    }

    fn way(&self, address: &str, who: &str) -> Way {
        let scheme = if self.secured { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).unwrap();
        let files = self.secured.then(|| self.certificate_of(who));
        Way { endpoint, road: Road::new(files).unwrap() }
    }

    /// The certificate of `who`.
    pub(crate) fn certificate_of(&self, who: &str) -> Files {
        let pki = self.dir.path().join("pki");
        Files {
            certificate: pki.join(format!("{who}.pem")),
            key: pki.join(format!("{who}.key")),
            ca: pki.join("ca.pem"),
            denied: None,
            trust_domain: None,
        }
    }

    /// Whether everybody shows a certificate.
    pub(crate) fn is_secured(&self) -> bool {
        self.secured
    }

    /// What the coordinator has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// From now on it decides nothing.
    pub(crate) fn hang(&self) {
        fs::write(self.dir.path().join(HANG), []).unwrap();
    }

    /// It decides again.
    pub(crate) fn go_on(&self) {
        fs::remove_file(self.dir.path().join(HANG)).unwrap();
    }

    /// Waits until honest workers are answered again, whatever they were told meanwhile.
    pub(crate) async fn goes_on(&self) {
        let told: Vec<u64> = self.honest.iter().map(|it| it.told()).collect();
        until("honest workers are answered again", || {
            let mut all = self.honest.iter().zip(&told);
            all.all(|(it, before)| it.has_told(before + REPORTS))
        })
        .await;
    }

    /// How the rollout stands.
    pub(crate) async fn state(&self) -> v1::RolloutState {
        let mut client = ProgressServiceClient::new(self.channel().await);
        let rollout = client.get_rollout(v1::GetRolloutRequest {}).await.unwrap();
        rollout.into_inner().state()
    }

    /// Waits until it stands so.
    pub(crate) async fn until_it_is(&self, state: v1::RolloutState) {
        let deadline = Instant::now() + PATIENCE;
        while self.state().await != state {
            assert!(Instant::now() < deadline, "never: {state:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Who has asked for what, and how it ended.
    pub(crate) fn audit(&self) -> String {
        fs::read_to_string(self.dir.path().join("data/audit.jsonl")).unwrap()
    }

    /// Watches until the first answer or refusal.
    pub(crate) async fn watch_once(&self) -> Result<(), Status> {
        let mut client = ProgressServiceClient::new(self.channel().await);
        let mut answers =
            client.watch_rollout(v1::WatchRolloutRequest {}).await?.into_inner();
        answers.message().await.map(drop)
    }

    /// Takes up a node.
    pub(crate) async fn join(&self, node: &str) -> Taken {
        let incarnation = 7;
        let channel = self.worker_of(node).connect().await.unwrap();
        let mut client = WorkerServiceClient::new(channel);
        let answer = client.join(joining(node, incarnation)).await.unwrap();
        let joined = Joined::try_from(answer.into_inner()).unwrap();
        Taken { node: joined.node, incarnation }
    }

    /// While the flood lasts: reports are answered, a pause reaches every honest worker, and
    /// memory is bounded.
    pub(crate) async fn stands(&self, what: &str, memory_mib_max: u64) {
        let told: Vec<u64> = self.honest.iter().map(|it| it.told()).collect();
        until("honest workers are answered", || {
            let mut all = self.honest.iter().zip(&told);
            all.all(|(it, before)| it.has_told(before + REPORTS))
        })
        .await;
        let began = Instant::now();
        let channel = self.for_operators().connect().await.unwrap();
        let mut operator = OperatorServiceClient::new(channel);
        let pause = v1::PauseRequest { by: "anna".to_owned(), ..Default::default() };
        let answer = operator.pause(pause).await;
        let asked = began.elapsed();
        let version = match answer {
            Ok(recorded) => recorded.into_inner().orders_version,
            // One of the flood's own pauses is in force.
            Err(refused) if refused.code() == Code::FailedPrecondition => 0,
            Err(refused) => panic!("pause: {refused}"),
        };
        until("the pause reaches them", || {
            self.honest.iter().all(|it| it.obeys(version))
        })
        .await;
        let obeyed = began.elapsed();

        let memory = self.memory_mib();
        eprintln!(
            "{what}: at most {memory} MiB; a pause was answered after {} ms, obeyed after {} ms",
            asked.as_millis(),
            obeyed.as_millis()
        );
        for honest in &self.honest {
            let refusals = honest.refusals.lock().unwrap();
            assert!(refusals.is_empty(), "{what}: {refusals:?}");
        }
        assert!(memory <= memory_mib_max, "{what}: {memory} MiB");
    }

    /// Leaves the coordinator so many free file descriptors; says below which number its own
    /// must be.
    pub(crate) fn leave_descriptors(&self, left: usize) -> usize {
        // Numbers far above the others may have been inherited.
        let open: BTreeSet<usize> = self.open_descriptors().collect();
        let last = (0..).filter(|number| !open.contains(number)).nth(left - 1).unwrap();
        let limit = Some(u64::try_from(last + 1).unwrap());
        let pid = Pid::from_child(&self.coordinator);
        let limit = Rlimit { current: limit, maximum: limit };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
        last + 1
    }

    /// Whether the coordinator uses every number below `limit`.
    pub(crate) fn uses_all_descriptors(&self, limit: usize) -> bool {
        self.open_descriptors().filter(|number| *number < limit).count() == limit
    }

    /// How many file descriptors the coordinator has open.
    pub(crate) fn descriptors(&self) -> usize {
        self.open_descriptors().count()
    }

    fn open_descriptors(&self) -> impl Iterator<Item = usize> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        open.map(|it| it.unwrap().file_name().to_str().unwrap().parse().unwrap())
    }

    /// How busy the coordinator's processors are while honest workers are answered so many
    /// times, in parts of a hundred of one of them.
    pub(crate) async fn busy_percent(&self, reports: u64) -> u128 {
        let told: Vec<u64> = self.honest.iter().map(|it| it.told()).collect();
        let (began, before) = (Instant::now(), self.processor_time());
        until("honest workers are answered", || {
            let mut all = self.honest.iter().zip(&told);
            all.all(|(it, before)| it.has_told(before + reports))
        })
        .await;
        let spent = self.processor_time().checked_sub(before).unwrap();
        spent.as_millis() * 100 / began.elapsed().as_millis()
    }

    /// The time of processors that the coordinator has had.
    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Its name may hold anything; what follows are numbers, the twelfth and thirteenth of
        // which are ticks of its own and of the kernel for it.
        let (_, numbers) = stat.rsplit_once(')').unwrap();
        let ticks = numbers.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|it| it.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1_000 / clock_ticks_per_second())
    }

    /// The most memory that the coordinator has had.
    fn memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1_024
    }

    fn pid(&self) -> u32 {
        self.coordinator.id()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _gone = self.coordinator.kill();
        let _status = self.coordinator.wait();
        if std::thread::panicking() {
            for honest in &self.honest {
                let refusals = honest.refusals.lock().unwrap();
                eprintln!("answered {}, refused {refusals:?}", honest.told());
            }
            eprintln!("{}", self.log());
        }
    }
}

impl Honest {
    async fn work(self: Arc<Self>, channel: Channel, taken: Taken) {
        let mut client = WorkerServiceClient::new(channel);
        let mut beat = tokio::time::interval(BEAT);
        let mut sequence = 0;
        loop {
            beat.tick().await;
            sequence += 1;
            let obeyed = self.orders.load(Ordering::Relaxed);
            let report = report(taken, sequence, obeyed);
            match client.sync(Request::new(report)).await {
                Ok(answer) => {
                    let orders = Orders::try_from(answer.into_inner()).unwrap();
                    self.orders.store(orders.version, Ordering::Relaxed);
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) => self.refusals.lock().unwrap().push(status),
            }
        }
    }

    fn told(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn has_told(&self, reports: u64) -> bool {
        self.told() >= reports
    }

    fn obeys(&self, version: u64) -> bool {
        self.orders.load(Ordering::Relaxed) >= version
    }
}

/// What a worker asks that wants to take up `node`.
pub(crate) fn joining(node: &str, incarnation: u64) -> v1::JoinRequest {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    v1::JoinRequest::from(Joining {
        join: Join {
            node: node.to_owned(),
            incarnation: Incarnation::new(incarnation),
            claimed_max: Generation::default(),
            orders_seen: 0,
            journaled: Some(1),
            store_claimed: Generation::default(),
        },
        rollout: None,
        clock: Timestamp::from_millis(now.as_millis().try_into().unwrap()),
        canary: None,
    })
}

/// A report without facts.
pub(crate) fn report(taken: Taken, sequence: u64, orders_obeyed: u64) -> v1::SyncRequest {
    v1::SyncRequest::from(Sync {
        node: taken.node,
        incarnation: Incarnation::new(taken.incarnation),
        sequence,
        orders_obeyed,
        claimed_max: Generation::default(),
        reports: Vec::new(),
        vitals: Vitals::default(),
        account: Some(Account { journaled: Some(1), ..Account::default() }),
    })
}

fn spawn(dir: &Path, before: &[&str]) -> Child {
    let program = env!("CARGO_BIN_EXE_tidegate");
    let mut words = before.iter().copied().chain([program]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["coordinator", "--config", "coordinator.toml"]);
    let log = File::create(dir.join("log")).unwrap();
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

/// Makes certificates for everybody; says how the coordinator is told of its own.
fn make_certificates(dir: &Path) -> &'static str {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["init", "pki", "--operator", OPERATOR, "--approver", APPROVER]);
    command.args(["--viewer", VIEWER]);
    for node in HONEST.iter().chain([&MAD]) {
        command.args(["--node", node]);
    }
    assert!(command.current_dir(dir).output().unwrap().status.success());
    "[tls]\ncertificate = \"pki/coordinator.pem\"\nkey = \"pki/coordinator.key\"\n\
     ca = \"pki/ca.pem\"\n"
}

fn apply(dir: &Path, address: &str, secured: bool) {
    let rows = (0..MAILBOXES).map(|number| {
        let node = number % 4 + 1;
        format!("user{number}@example.org,stor-0{node},free,example.org/user{number}\n")
    });
    let inventory = format!("address,node,tier,path\n{}", rows.collect::<String>());
    fs::write(dir.join("inventory.csv"), inventory).unwrap();
    let policy = include_str!("../../deploy/config/lab-policy-small.toml");
    fs::write(dir.join("policy.toml"), policy).unwrap();
    let tidegate = |who: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).current_dir(dir).stdin(Stdio::null());
        let scheme = if secured { "https" } else { "http" };
        command.env("TIDEGATE_COORDINATOR", format!("{scheme}://{address}"));
        if secured {
            command.env("TIDEGATE_CERTIFICATE", format!("pki/{who}.pem"));
            command.env("TIDEGATE_KEY", format!("pki/{who}.key"));
            command.env("TIDEGATE_CA", "pki/ca.pem");
        }
        command.output().unwrap()
    };
    let apply =
        ["apply", "--yes", "--inventory", "inventory.csv", "--policy", "policy.toml"];
    if secured {
        let refused = tidegate(OPERATOR, &apply);
        let told = String::from_utf8_lossy(&refused.stderr);
        let digest = told.split("approve apply ").nth(1).unwrap();
        let digest = digest.split(' ').next().unwrap();
        tidegate(APPROVER, &["approve", "apply", digest, "--reason", "read"]);
    }
    let output = tidegate(OPERATOR, &apply);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
