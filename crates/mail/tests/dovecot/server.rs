//! Server: a real Dovecot of its own, on loopback, for as long as a test runs.
//!
//! # Invariants
//!
//! * It is stopped when the value goes, and by the kernel if the test's thread dies first.
//! * It never runs as root: as root, it is started as Debian's user for mail.
//! * Every line that it logs is kept.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use tidegate_rig::FreePorts;

use crate::clients::{Imap, PATIENCE, Port, deliver};
use crate::kind::Kind;

/// The password of every user.
pub(crate) const PASSWORD: &str = "pw";

/// Free ports are found before Dovecot takes them, and somebody may be quicker.
const STARTS_MAX: usize = 5;

/// A running Dovecot.
pub(crate) struct Dovecot {
    master: Child,
    log: Option<JoinHandle<Vec<String>>>,
    ports: Ports,
    config: PathBuf,
}

/// What it serves: everything below one root.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    /// Where its own files may be.
    pub(crate) dir: &'a Path,
    /// The mail root; a user's home is `<domain>/<name>` below it.
    pub(crate) root: &'a Path,
    pub(crate) indexes: Indexes,
    pub(crate) users: &'a [User],
}

/// A user, who logs in with an address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) address: String,
    pub(crate) kind: Kind,
}

impl User {
    /// The mailbox, below the mail root.
    pub(crate) fn path(&self) -> String {
        let (name, domain) = self.address.split_once('@').unwrap();
        format!("{domain}/{name}/{}", self.kind.directory())
    }
}

/// How Dovecot keeps its indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indexes {
    /// All that happened is in the log, as in a small or young mailbox.
    Logged,
    /// The index itself is written often, and the log goes on from it.
    Written,
}

#[derive(Clone, Copy)]
struct Ports {
    imap: Port,
    pop3: Port,
    lmtp: Port,
}

impl Dovecot {
    pub(crate) fn start(site: Site<'_>) -> Self {
        for start in 1.. {
            let ports = Ports::free();
            let config = write_config(site, ports);
            let mut master = master(&config);
            let stderr = master.stderr.take().unwrap();
            let (ready, is_ready) = mpsc::sync_channel(1);
            let log = thread::spawn(move || read_log(stderr, &ready));
            if is_up(&is_ready) {
                return Self { master, log: Some(log), ports, config };
            }
            terminate(&mut master);
            let said = log.join().unwrap().join("\n");
            let once_more = said.contains("in use") && start < STARTS_MAX;
            assert!(once_more, "dovecot does not start:\n{said}");
        }
        unreachable!("the last start ends in an assertion")
    }

    pub(crate) fn imap(&self, user: &str) -> Imap {
        Imap::login(self.ports.imap, user)
    }

    /// The ports of IMAP and POP3.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.ports.imap.0, self.ports.pop3.0]
    }

    /// Runs `doveadm` beside it.
    pub(crate) fn doveadm(&self, arguments: &[&str]) {
        let mut command = as_mail_user();
        command.arg("/usr/bin/doveadm").arg("-c").arg(&self.config).args(arguments);
        run(&mut command);
    }

    /// Delivers messages over LMTP, or tells what the server said instead of taking them.
    pub(crate) fn deliver(&self, user: &str, messages: &[Vec<u8>]) -> Result<(), String> {
        deliver(self.ports.lmtp, user, messages)
    }

    /// Stops it, and returns the lines of its log that complain.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.end()
    }

    fn end(&mut self) -> Vec<String> {
        let Some(log) = self.log.take() else { return Vec::new() };
        terminate(&mut self.master);
        let words = ["Error", "Warning", "Fatal", "Panic", "orrupt"];
        let complains = |line: &String| {
            let stopped = line.contains("master: Warning: Killed with signal 15");
            !stopped && words.iter().any(|word| line.contains(word))
        };
        let mut lines = log.join().unwrap();
        lines.retain(complains);
        lines
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        for complaint in self.end() {
            println!("{complaint}");
        }
    }
}

/// Hands a tree to the user that Dovecot runs as.
pub(crate) fn hand_over(tree: &Path) {
    let (user, group) = mail_user();
    run(Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(tree));
}

/// Copies a tree with owners, modes and times.
pub(crate) fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// A directory that other users may enter.
pub(crate) fn open_directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

impl Ports {
    fn free() -> Self {
        let [imap, pop3, lmtp] = FreePorts::take(3).hand_over();
        Self { imap: Port(imap), pop3: Port(pop3), lmtp: Port(lmtp) }
    }
}

/// User and group that Dovecot runs as.
fn mail_user() -> (String, String) {
    let ask = |what| {
        let output = Command::new("id").arg(what).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    if rustix::process::geteuid().is_root() {
        ("mail".to_owned(), "mail".to_owned())
    } else {
        (ask("-un"), ask("-gn"))
    }
}

/// A command to which the program is still to be added.
fn as_mail_user() -> Command {
    let (user, group) = mail_user();
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "TERM"]);
    command
}

fn master(config: &Path) -> Child {
    let dovecot = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"];
    let dovecot = dovecot.into_iter().find(|path| Path::new(path).exists()).expect(
        "Dovecot judges these tests: apt-get install dovecot-core dovecot-imapd \
         dovecot-lmtpd dovecot-pop3d",
    );
    let version = Command::new(dovecot).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    assert!(
        version.starts_with("2.3."),
        "these tests speak to Dovecot 2.3, not {version}"
    );
    let mut command = as_mail_user();
    command.args([dovecot, "-F", "-c"]).arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Ends the master, which ends all others; it may have ended already.
fn terminate(master: &mut Child) {
    let pid = i32::try_from(master.id()).ok().and_then(Pid::from_raw);
    let _ = kill_process(pid.unwrap(), Signal::TERM);
    master.wait().unwrap();
}

fn read_log(stderr: ChildStderr, ready: &mpsc::SyncSender<()>) -> Vec<String> {
    let mut lines = Vec::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
        if line.contains("starting up") {
            let _ = ready.try_send(());
        }
        lines.push(line);
    }
    lines
}

/// Listens to the log: the line comes when all ports are taken; an end without it means failure.
fn is_up(ready: &Receiver<()>) -> bool {
    ready.recv_timeout(PATIENCE).is_ok()
}

fn write_config(site: Site<'_>, ports: Ports) -> PathBuf {
    let (user, group) = mail_user();
    let Ports { imap, pop3, lmtp } = ports;
    let run = site.dir.join("run");
    fs::create_dir_all(&run).unwrap();
    hand_over(&run);
    let users = site.dir.join("users");
    fs::write(&users, users_file(site)).unwrap();
    let rewrite = match site.indexes {
        Indexes::Logged => "128 k",
        Indexes::Written => "256 B",
    };
    let mut text = include_str!("dovecot.conf").to_owned();
    for (name, value) in [
        ("user", user),
        ("group", group),
        ("users", users.display().to_string()),
        ("run", run.display().to_string()),
        ("rewrite", rewrite.to_owned()),
        ("password", PASSWORD.to_owned()),
        ("imap", imap.0.to_string()),
        ("pop3", pop3.0.to_string()),
        ("lmtp", lmtp.0.to_string()),
    ] {
        text = text.replace(&format!("@{name}@"), &value);
    }
    let path = site.dir.join("dovecot.conf");
    fs::write(&path, text).unwrap();
    path
}

/// One line per user: who owns the mail, where it is, and how it is stored.
fn users_file(site: Site<'_>) -> String {
    let (user, group) = mail_user();
    let mut text = String::new();
    for it in site.users {
        let (name, domain) = it.address.split_once('@').unwrap();
        let home = site.root.join(domain).join(name);
        let (address, home, fields) = (&it.address, home.display(), it.kind.fields());
        writeln!(text, "{address}::{user}:{group}::{home}::{fields}").unwrap();
    }
    text
}
