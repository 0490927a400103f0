//! A provider of two nodes, its programs, and everything that they say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tidegate_rig::{Collector, FreePorts};

use crate::others::EXCHANGER;

/// What ends a program that broke.
const SIGABRT: i32 = 6;

/// A part of every address and of every path, and of nothing else.
pub(crate) const CANARY: &str = "kanarienvogel7f3a";

/// The storage nodes.
pub(crate) const NODES: [&str; 2] = ["stor-01", "stor-02"];

const STATUS: &str = include_str!("../../deploy/config/status.toml");
const POLICY: &str = include_str!("../../deploy/config/lab-policy-small.toml");
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const MAILBOXES: usize = 24;

/// Everything that runs, and what it is asked.
pub(crate) struct Site {
    dir: TempDir,
    running: BTreeMap<String, Child>,
    admission: BTreeMap<String, u16>,
    pub(crate) socketmap: u16,
    pub(crate) url: String,
    /// Takes alerts and traces.
    pub(crate) collector: Collector,
}

impl Site {
    /// Builds and breaks mailboxes; nothing runs yet.
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("tidegate-private-").unwrap();
        let free = || {
            let [port] = FreePorts::take(1).hand_over();
            port
        };
        let admission = NODES.map(|node| (node.to_owned(), free())).into_iter().collect();
        let site = Self {
            dir,
            running: BTreeMap::new(),
            admission,
            socketmap: free(),
            url: String::new(),
            collector: Collector::start(),
        };
        let mut inventory = "address,node,tier,path,language\n".to_owned();
        for user in 0..MAILBOXES {
            let node = NODES[user % NODES.len()];
            let name = format!("user{user}-{CANARY}");
            writeln!(inventory, "{name}@post.example,{node},paid,post.example/{name},it")
                .unwrap();
            for part in ["live", "snapshot"] {
                let path = site.path(node).join(part).join("post.example").join(&name);
                make_maildir(&path, &name);
            }
            Self::trouble(user, &site.path(node).join("live/post.example").join(&name));
        }
        fs::write(site.path("users.csv"), inventory).unwrap();
        // Damage is what is looked for here, not the gate.
        let policy =
            format!("{POLICY}\n[gate.preparation]\np_ok = \"40 %\"\np_bad = \"80 %\"\n");
        fs::write(site.path("policy.toml"), policy).unwrap();
        let people = "--operator ann --approver ben --desk ann";
        let args =
            format!("init pki --node stor-01 --node stor-02 --exchanger mx1 {people}");
        let made = site.command(&args.split(' ').collect::<Vec<_>>()).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let config = format!(
            "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n{}[pages]\n\
             listen = \"127.0.0.1:0\"\n{}",
            site.tells(),
            tls("coordinator")
        );
        fs::write(site.path("coordinator.toml"), config).unwrap();
        site
    }

    /// What is wrong with some.
    fn trouble(user: usize, live: &Path) {
        let first =
            || fs::read_dir(live.join("cur")).unwrap().next().unwrap().unwrap().path();
        match user % 8 {
            0 => fs::write(first(), "").unwrap(),
            1 => fs::write(first(), vec![0; 200]).unwrap(),
            2 => fs::remove_dir_all(live).unwrap(),
            3 => {
                symlink("/etc/passwd", live.join("cur/1700000009.M9P9.host,S=9:2,S"))
                    .unwrap();
            }
            4 => {
                // Nothing of it can be read, and its snapshot neither.
                fs::remove_dir_all(live).unwrap();
                fs::write(live, "not a directory").unwrap();
            }
            5 => fs::write(live.join("dovecot-uidlist"), "nonsense\n").unwrap(),
            _ => {}
        }
    }

    /// Once the coordinator listens, workers are told where.
    pub(crate) fn know_the_address(&mut self) {
        let address = fs::read_to_string(self.path("data/address")).unwrap();
        self.url = format!("https://{}", address.trim());
        for node in NODES {
            let config = format!(
                "node = \"{node}\"\ncoordinator = \"{}\"\nstate_dir = \"{node}/state\"\n\
                 live = \"{node}/live\"\nsnapshot = \"{node}/snapshot\"\n\
                 work = \"{node}/work\"\nadmission_listen = \"127.0.0.1:{}\"\n\
                 traces = \"{}\"\n{}",
                self.url,
                self.admission[node],
                self.collector.url(),
                tls(&format!("worker-{node}")),
            );
            fs::write(self.path(&format!("{node}.toml")), config).unwrap();
        }
        self.configure_exchanger();
    }

    /// Starts a program; its log goes on where it was.
    pub(crate) fn start(&mut self, name: &str) {
        let verb = if NODES.contains(&name) { "worker" } else { name };
        let serves = |site: &Self| site.log(name).matches("coordinator serving").count();
        let before = serves(self);
        let log =
            File::options().create(true).append(true).open(self.log_path(name)).unwrap();
        let child = self
            .command(&[verb, "--config", &format!("{name}.toml"), "--stop-with-stdin"])
            .env("TIDEGATE_BREAK_WITH", self.path(&format!("{name}.break")))
            .stdin(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running.insert(name.to_owned(), child);
        let deadline = Instant::now() + PATIENCE;
        while name == "coordinator" && serves(self) == before {
            assert!(Instant::now() < deadline, "{}", self.log(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills a program.
    pub(crate) fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Lets a program break while it holds an address, and waits until that has ended it.
    pub(crate) fn crash(&mut self, name: &str) {
        let held = format!("user2-{CANARY}@post.example is not there");
        let file = self.path(&format!("{name}.break"));
        fs::write(self.path("held"), held).unwrap();
        fs::rename(self.path("held"), &file).unwrap();
        let mut child = self.running.remove(name).unwrap();
        // Waiting would end its stdin, and it would stop in order.
        let stdin = child.stdin.take();
        let status = child.wait().unwrap();
        drop(stdin);
        fs::remove_file(file).unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "{}", self.log(name));
    }

    /// Ends everything in order.
    pub(crate) fn stop(&mut self) {
        for child in self.running.values_mut() {
            // Its stdin ends, so it stops in order.
            drop(child.stdin.take());
            drop(child.wait());
        }
        self.running.clear();
    }

    /// Starts the rollout, with a second person's leave.
    pub(crate) fn apply(&self) -> Output {
        let files = ["--inventory", "users.csv", "--policy", "policy.toml"];
        let apply = [&["apply", "--yes"], files.as_slice()].concat();
        self.approve(&self.tidegate(&apply));
        self.tidegate(&apply)
    }

    /// A second person gives the leave that `refused` asks for.
    pub(crate) fn approve(&self, refused: &Output) {
        let said = text(&refused.stderr);
        let command = said.split('`').find(|it| it.starts_with("tidegate approve "));
        assert!(command.is_some(), "nothing to approve: {said}");
        let words = command.unwrap().replace("'…'", "seen");
        let words: Vec<&str> = words.split(' ').skip(1).collect();
        let approved = self.command_of("ben", &words).output().unwrap();
        assert!(approved.status.success(), "{}", text(&approved.stderr));
    }

    /// Looks somebody up for the desk.
    pub(crate) fn desk(&self, ticket: &str) -> Output {
        let address = format!("user1-{CANARY}@post.example");
        self.tidegate(&["desk", "lookup", &address, "--ticket", ticket, "--by", "ann"])
    }

    /// Asks as mail servers do, also what nobody should ask.
    pub(crate) fn ask_admission(&self) {
        for node in NODES {
            for path in [
                format!("/gate/passdb/imap/user0-{CANARY}@post.example"),
                format!("/gate/userdb/lmtp/nobody-{CANARY}@post.example"),
                format!("/gate/passdb/nonsense/user1-{CANARY}@post.example"),
            ] {
                drop(http(self.admission[node], &path));
            }
        }
    }

    /// A page of the coordinator's.
    pub(crate) fn page(&self, path: &str) -> String {
        self.https(port(&self.url), path).unwrap()
    }

    /// What an operator sees in a browser.
    pub(crate) fn operations_page(&self) -> String {
        let address = fs::read_to_string(self.path("data/pages-address")).unwrap();
        self.https(port(address.trim()), "/?lang=en").unwrap()
    }

    /// All logs.
    pub(crate) fn logs(&self) -> String {
        let names = ["coordinator", EXCHANGER].into_iter().chain(NODES);
        names.map(|name| self.log(name)).collect()
    }

    /// A journal as text.
    pub(crate) fn journal(&self, dir: &str) -> String {
        let exported = self.tidegate(&["journal", "export", dir]);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        text(&exported.stdout)
    }

    /// Who did and looked at what.
    pub(crate) fn audit(&self) -> String {
        fs::read_to_string(self.path("data/audit.jsonl")).unwrap()
    }

    /// What waits for a second person; nothing where nothing ever did.
    pub(crate) fn waiting(&self) -> String {
        fs::read_to_string(self.path("data/waiting.json")).unwrap_or_default()
    }

    /// The coordinator's files in which the key of pseudonyms stands.
    pub(crate) fn files_with_the_key(&self) -> Vec<String> {
        let key = fs::read(self.path("data/pseudonym.key")).unwrap();
        let (mut found, mut folders) = (Vec::new(), vec![self.path("data")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read(&path).unwrap().windows(key.len()).any(|it| it == key)
                {
                    found.push(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found
    }

    /// What programs keep for themselves in which somebody is named, byte for byte: all but the
    /// inventory, each node's own part of it, and the mail exchanger's.
    pub(crate) fn files_that_name_somebody(&self) -> Vec<String> {
        let names = |path: &Path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let inventories = ["inventory-", "job-", "directory"];
            !inventories.iter().any(|it| name.starts_with(it))
        };
        let state = NODES.iter().chain(&[EXCHANGER]);
        let state = state.map(|name| self.path(name).join("state"));
        let (mut found, mut folders) = (Vec::new(), vec![self.path("data")]);
        folders.extend(state);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if names(&path) {
                    let content = fs::read(&path).unwrap();
                    let mut parts = content.windows(CANARY.len());
                    if parts.any(|it| it.eq_ignore_ascii_case(CANARY.as_bytes())) {
                        found.push(path.display().to_string());
                    }
                }
            }
        }
        found
    }

    /// The files of the public page, written now.
    pub(crate) fn public_page(&self) -> String {
        fs::write(self.path("status.toml"), STATUS).unwrap();
        let build = ["status-page", "build", "--site", "status.toml", "--to", "page"];
        let built = self.tidegate(&build);
        assert!(built.status.success(), "{}", text(&built.stderr));
        let files = ["it/index.html", "en/index.html", "it/text.html", "en/feed.atom"];
        let tools = ["api/v2/summary.json", "tidegate.public.v1.json"];
        let files = files.into_iter().chain(tools);
        files.map(|it| fs::read_to_string(self.path("page").join(it)).unwrap()).collect()
    }

    /// Makes pseudonyms unknowable for ever.
    pub(crate) fn destroy_the_key(&self) {
        fs::remove_file(self.path("data/pseudonym.key")).unwrap();
    }

    /// Gives a command, as an operator.
    pub(crate) fn tidegate(&self, args: &[&str]) -> Output {
        self.command_of("ann", args).output().unwrap()
    }

    fn command_of(&self, person: &str, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.env("TIDEGATE_COORDINATOR", &self.url);
        let own = |end: &str| self.path(&format!("pki/{person}.{end}"));
        command.env("TIDEGATE_CERTIFICATE", own("pem")).env("TIDEGATE_KEY", own("key"));
        command.env("TIDEGATE_CA", self.path("pki/ca.pem"));
        command.env("TIDEGATE_TRACES", self.collector.url());
        command
    }

    /// A page, shown to an operator with a certificate.
    fn https(&self, port: u16, path: &str) -> std::io::Result<String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let file = |name: &str| self.path("pki").join(name);
        roots.add(CertificateDer::from_pem_file(file("ca.pem")).unwrap()).unwrap();
        let own = vec![CertificateDer::from_pem_file(file("ann.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(file("ann.key")).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(own, key)
            .unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        ask(rustls::StreamOwned::new(connection, tcp), path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_remove("TIDEGATE_LOG").env("RUST_BACKTRACE", "1");
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

fn make_maildir(path: &Path, user: &str) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(path.join(part)).unwrap();
    }
    for number in 0..3 {
        let message = format!(
            "From: friend-{CANARY}@else.example\r\nTo: {user}@post.example\r\n\
             Subject: {CANARY} {number}\r\n\r\nSome words.\r\n"
        );
        let name = format!("170000000{number}.M1P1.host,S={}:2,S", message.len());
        fs::write(path.join("cur").join(name), message).unwrap();
    }
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

pub(crate) fn tls(name: &str) -> String {
    format!(
        "[tls]\ncertificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\nca = \"pki/ca.pem\"\n"
    )
}

fn http(port: u16, path: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    ask(stream, path)
}

fn ask(mut stream: impl Read + Write, path: &str) -> std::io::Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a program said.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
