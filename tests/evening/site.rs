//! A provider in small: three storage nodes with real Dovecots, and all of Tidegate's programs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tidegate_lab::{LabSpec, Provider};
use tidegate_rig::{
    API_KEY, Dovecot, DovecotSpec, Format, FreePorts, Keeper, PASSWORD, PROBE,
    PROBE_PASSWORD, Service, Talk, User, hand_over, open_directory,
};
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::{ListMailboxesRequest, Mailbox, Preparation};

/// How many mailboxes, on how many nodes.
pub(crate) const MAILBOXES: u32 = 300;
const NODES: u32 = 3;

/// Nothing of this size takes longer, even on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(4);

/// After so long the transcript shows what is waited for.
const IMPATIENCE: Duration = Duration::from_secs(20);

const POLICY: &str = include_str!("policy.toml");

/// Everything that runs, and what it is asked and says.
pub(crate) struct Site {
    // Ended in this order.
    programs: BTreeMap<String, Keeper>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) provider: Provider,
    coordinator: u16,
    started: Instant,
    said: RefCell<String>,
    dir: TempDir,
}

/// A storage node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) dovecot: Dovecot,
    admission: u16,
}

impl Site {
    /// Builds the provider, breaks it, and starts everything; no plan is applied yet.
    pub(crate) fn start(seed: u64) -> Self {
        let dir = open_directory();
        let spec = LabSpec {
            mailboxes: MAILBOXES,
            nodes: NODES,
            messages: 6,
            seed,
            damage: 50_000,
        };
        let root = dir.path().join("provider");
        let provider = tidegate_lab::build(&root, &spec, &mut |_| ()).unwrap();
        let [coordinator] = FreePorts::take(1).hand_over();
        let nodes =
            (0..provider.nodes.len()).map(|index| Node::prepare(&provider, index));
        let nodes = nodes.collect();
        let (started, said) = (Instant::now(), RefCell::default());
        let programs = BTreeMap::new();
        let mut site =
            Self { programs, nodes, provider, coordinator, started, said, dir };
        let expected = site.client(&["expect", root.to_str().unwrap()], "");
        fs::write(site.path("expected.json"), expected).unwrap();
        site.write_configs();
        hand_over(site.dir.path());
        for node in &mut site.nodes {
            node.dovecot.resume();
        }
        site.run("coordinator");
        for node in 1..=NODES {
            site.run(&format!("worker-{node}"));
        }
        site.wait("the coordinator answers", |site| site.tidegate(&["status"]).0 == 3);
        site
    }

    /// Writes a file beside all the others.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Every user's address.
    pub(crate) fn users(&self) -> impl Iterator<Item = String> {
        self.provider.truth.mailboxes.iter().map(|it| it.address.clone())
    }

    /// A user whose mail is on a node.
    pub(crate) fn somebody_on(&self, node: &str) -> String {
        self.users().find(|user| self.node(user).name == node).unwrap()
    }

    /// What follows the `@` of the users' addresses.
    pub(crate) fn domains(&self) -> Vec<String> {
        let domain = |user: String| user.split_once('@').unwrap().1.to_owned();
        let domains: BTreeSet<String> = self.users().map(domain).collect();
        domains.into_iter().collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_configs(&self) {
        fs::write(self.path("policy.toml"), POLICY).unwrap();
        let coordinator = format!(
            "data_dir = \"coordinator\"\nlisten = \"127.0.0.1:{}\"\n",
            self.coordinator
        );
        fs::write(self.path("coordinator.toml"), coordinator).unwrap();
        fs::write(self.path("api-key"), API_KEY).unwrap();
        fs::write(self.path("probe-password"), PROBE_PASSWORD).unwrap();
        for (number, (node, dirs)) in
            (1..).zip(self.nodes.iter().zip(&self.provider.nodes))
        {
            let ports = node.dovecot.ports();
            let config = format!(
                "node = \"{name}\"\ncoordinator = \"{url}\"\nstate_dir = \"state-{number}\"\n\
                 live = \"{live}\"\nsnapshot = \"{snapshot}\"\nwork = \"{work}\"\n\
                 admission_listen = \"127.0.0.1:{admission}\"\n\
                 [dovecot]\ndoveadm = [\"http://127.0.0.1:{doveadm}\"]\n\
                 key_file = \"api-key\"\nlmtp_grace_seconds = 8\nopen_check_percent = 100\n\
                 imap = \"127.0.0.1:{imap}\"\nlmtp = \"127.0.0.1:{lmtp}\"\n\
                 webmail_ports = [{webmail}]\nlogs = [\"{log}\"]\n\
                 metrics = \"http://127.0.0.1:{metrics}/metrics\"\n\
                 master = {{ user = \"{PROBE}\", password_file = \"probe-password\", \
                 sample_percent = 50 }}\n\
                 [notice]\nlanguage = \"en\"\nzone = \"Europe/Rome\"\n",
                name = node.name,
                url = self.url(),
                live = dirs.live.display(),
                snapshot = dirs.snapshot.display(),
                work = dirs.work.display(),
                admission = node.admission,
                doveadm = ports.doveadm_http,
                imap = ports.imap,
                lmtp = ports.lmtp,
                webmail = ports.imap_webmail,
                log = node.dovecot.log_file().display(),
                metrics = ports.metrics,
            );
            fs::write(self.path(&format!("worker-{number}.toml")), config).unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.coordinator)
    }

    /// Starts one of Tidegate's programs, by the name of its configuration.
    pub(crate) fn run(&mut self, name: &str) {
        let verb = name.split('-').next().unwrap();
        let config = self.path(&format!("{name}.toml"));
        let says = self.path(&format!("{name}.log"));
        let arguments = [verb, "--config", config.to_str().unwrap()];
        let program = env!("CARGO_BIN_EXE_tidegate");
        // Whoever lists a queue that is not the machine's own has to be root.
        let keeper = match verb {
            "mx" => Keeper::start_as_is(program, &arguments, &says),
            _ => Keeper::start(program, &arguments, &says),
        };
        self.programs.insert(name.to_owned(), keeper);
    }

    /// Kills one of them, as a machine does that loses its power.
    pub(crate) fn kill(&mut self, name: &str) {
        self.programs.remove(name).unwrap().kill();
    }

    /// Runs a verb: its exit code, and what it said.
    pub(crate) fn tidegate(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(arguments).env("TIDEGATE_COORDINATOR", self.url());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs a verb that must succeed, and shows it.
    pub(crate) fn operate(&self, arguments: &[&str]) -> String {
        self.say(&format!("$ tidegate {}", arguments.join(" ")));
        let (code, said) = self.tidegate(arguments);
        assert_eq!(code, 0, "{said}\n{}", self.logs());
        said
    }

    pub(crate) fn apply(&self) {
        let inventory = self.provider.inventory_csv.to_str().unwrap().to_owned();
        let policy = self.path("policy.toml");
        let arguments = ["apply", "--yes", "--inventory", &inventory, "--policy"];
        let said = self.operate(&[&arguments[..], &[policy.to_str().unwrap()]].concat());
        self.say(said.lines().next().unwrap_or_default());
    }

    /// The rollout as programs see it.
    pub(crate) fn status(&self) -> Value {
        let (_, said) = self.tidegate(&["status", "-o", "json"]);
        serde_json::from_str(said.lines().next().unwrap_or_default())
            .or_else(|_| serde_json::from_str(&said))
            .unwrap_or(Value::Null)
    }

    /// Addresses of mailboxes that stand on `level` or above.
    pub(crate) fn open(&self, level: u32) -> Vec<String> {
        let mailboxes = self.mailboxes().into_iter();
        mailboxes.filter(|it| it.level >= level).map(|it| it.address).collect()
    }

    /// Addresses of mailboxes that wait for a person.
    pub(crate) fn set_aside(&self) -> Vec<String> {
        let aside = |it: &Mailbox| it.preparation() == Preparation::Quarantined;
        let mailboxes = self.mailboxes().into_iter();
        mailboxes.filter(aside).map(|it| it.address).collect()
    }

    /// Every mailbox, as gRPC clients see it.
    pub(crate) fn mailboxes(&self) -> Vec<Mailbox> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let mut client = ProgressServiceClient::connect(self.url()).await.unwrap();
            let request = ListMailboxesRequest { page_size: 1_000, ..Default::default() };
            let page = client.list_mailboxes(request).await.unwrap().into_inner();
            assert!(page.next_page_token.is_empty(), "an evening has few mailboxes");
            page.mailboxes
        })
    }

    /// The node of an address.
    pub(crate) fn node(&self, address: &str) -> &Node {
        &self.nodes[self.provider.mailbox(address).unwrap().node]
    }

    /// Waits until something is so.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let (mut asked, deadline) = (Instant::now(), Instant::now() + PATIENCE);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.logs());
            if asked.elapsed() > IMPATIENCE {
                asked = Instant::now();
                self.say(&format!(
                    "still waiting: {what}\n{}",
                    self.tidegate(&["status"]).1
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// One line of the transcript.
    pub(crate) fn say(&self, line: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut said = self.said.borrow_mut();
        writeln!(said, "{seconds:6.1} s  {line}").unwrap();
        // Shown by `--nocapture`.
        #[expect(clippy::print_stdout, reason = "the transcript is for people")]
        {
            println!("{seconds:6.1} s  {line}");
        }
    }

    fn logs(&self) -> String {
        let mut logs = self.tidegate(&["status"]).1;
        for name in self.programs.keys() {
            let log =
                fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(15);
            writeln!(logs, "--- {name}\n{}", lines[tail..].join("\n")).unwrap();
        }
        logs
    }

    /// Counts over IMAP, with a program that shares nothing with ours.
    pub(crate) fn count(
        &self,
        users: &[String],
        sent: &BTreeMap<String, Vec<String>>,
    ) -> Value {
        let ports: BTreeMap<&String, u16> = users
            .iter()
            .map(|user| (user, self.node(user).dovecot.ports().imap))
            .collect();
        let asked = serde_json::json!({
            "expected": self.path("expected.json"), "users": ports, "sent": sent,
        });
        let answer = self.client(&["count", PASSWORD], &asked.to_string());
        serde_json::from_str(&answer).unwrap()
    }

    fn client(&self, arguments: &[&str], input: &str) -> String {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evening/client.py");
        let mut command = Command::new("python3");
        command.arg(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("apt-get install python3");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "client.py {arguments:?}\n{}", self.logs());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Node {
    fn prepare(provider: &Provider, index: usize) -> Self {
        let dirs = &provider.nodes[index];
        let here = provider.truth.mailboxes.iter().filter(|it| it.node == index);
        let users = here.map(|it| User::new(&it.address, Format::Maildir).at(&it.path));
        let spec = DovecotSpec {
            name: dirs.name.clone(),
            users: users.collect(),
            root: Some(dirs.live.clone()),
            ..DovecotSpec::default()
        };
        let [admission] = FreePorts::take(1).hand_over();
        let mut dovecot = Dovecot::prepare(&spec);
        let gate = dovecot.gate(admission);
        dovecot.add_config(&format!("{gate}auth_failure_delay = 0\n"));
        Self { name: dirs.name.clone(), dovecot, admission }
    }

    /// What each service answers a user with the right password, and LMTP his mail.
    pub(crate) fn replies(&self, user: &str) -> Vec<String> {
        let logins = Service::ALL.into_iter().map(|service| {
            let (answer, talk): (String, Talk) =
                self.dovecot.login(service, user, PASSWORD);
            drop(talk);
            format!("{service:?}: {answer}")
        });
        let mut replies: Vec<String> = logins.collect();
        replies.push(format!("Lmtp: {}", self.dovecot.rcpt(user)));
        replies
    }
}
