//! Dovecot: Debian's, with all its services, for as long as a test runs.
//!
//! # Invariants
//!
//! * All its files are in [`Dovecot::dir`]; only mail may lie elsewhere, where the test says.
//! * Its ports stay the same when it is stopped and started again.
//! * What a test adds to its configuration comes before every passdb and userdb.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use crate::keeper::{
    Keeper, MailUser, hand_over, mail_user, need, open_directory, wait_until,
};
use crate::ports::FreePorts;
use crate::shipped::Place;
use crate::talk::{Imap, PATIENCE, Talk};

/// The password of every user.
pub const PASSWORD: &str = "pw";

/// The master user, who logs in as `user*probe`.
pub const MASTER: &str = "probe";

/// The master user's password.
pub const MASTER_PASSWORD: &str = "probepw";

/// What doveadm's HTTP interface wants to hear.
pub const API_KEY: &str = "5e55a11";

/// Free ports are found before Dovecot takes them, and somebody may be quicker.
const STARTS_MAX: usize = 5;

/// How many complaints of the log a failing test shows.
const COMPLAINTS_SHOWN_MAX: usize = 40;

/// What of Debian's is needed, and the package that brings it.
const NEEDS: [(&str, &str); 6] = [
    (DOVECOT, "dovecot-core"),
    ("/usr/lib/dovecot/imap", "dovecot-imapd"),
    ("/usr/lib/dovecot/pop3", "dovecot-pop3d"),
    ("/usr/lib/dovecot/submission", "dovecot-submissiond"),
    ("/usr/lib/dovecot/managesieve", "dovecot-managesieved"),
    ("/usr/lib/dovecot/lmtp", "dovecot-lmtpd"),
];

const DOVECOT: &str = "/usr/sbin/dovecot";

/// What Dovecot needs to run Lua scripts, where the configuration has one.
const LUA: (&str, &str) =
    ("/usr/lib/dovecot/modules/auth/libauthdb_lua.so", "dovecot-auth-lua");

/// The words with which the master says that it listens on every port.
pub(crate) const UP: &str = "starting up for";

/// A Dovecot. It is stopped when the value goes.
#[derive(Debug)]
pub struct Dovecot {
    keeper: Option<Keeper>,
    ports: DovecotPorts,
    spec: DovecotSpec,
    root: PathBuf,
    dir: TempDir,
}

/// What it serves.
#[derive(Debug, Clone, Default)]
pub struct DovecotSpec {
    /// What it calls itself; several may have the same name. Empty is `node`.
    pub name: String,
    /// Who has mail.
    pub users: Vec<User>,
    /// The mail root; without it, mail lies in a directory of the rig's.
    pub root: Option<PathBuf>,
    /// What comes in front of passdb and userdb.
    pub config: String,
    /// Where submission relays to. It breaks off after the login when nobody listens there.
    pub relay_port: u16,
}

/// A user, who logs in with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The address.
    pub address: String,
    /// How mail is stored.
    pub format: Format,
    /// The mailbox below the mail root, without blanks.
    pub path: String,
}

/// How a mailbox is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// A file for each message, named after its flags.
    Maildir,
    /// A file for each message, and an index that knows the flags.
    Sdbox,
    /// Many messages to a file.
    Mdbox,
}

/// Where it listens, on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DovecotPorts {
    /// IMAP for mail programs.
    pub imap: u16,
    /// IMAP for webmail.
    pub imap_webmail: u16,
    /// POP3.
    pub pop3: u16,
    /// Submission.
    pub submission: u16,
    /// `ManageSieve`.
    pub sieve: u16,
    /// LMTP.
    pub lmtp: u16,
    /// doveadm's HTTP interface.
    pub doveadm_http: u16,
    /// `/metrics`.
    pub metrics: u16,
}

/// What a user logs in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// IMAP, as mail programs use it.
    Imap,
    /// IMAP, as webmail uses it.
    Webmail,
    /// POP3.
    Pop3,
    /// Sending mail.
    Submission,
    /// Filter scripts.
    Sieve,
}

impl Dovecot {
    /// Starts one, and returns when it listens everywhere.
    pub fn start(spec: &DovecotSpec) -> Self {
        let mut dovecot = Self::prepare(spec);
        for start in 1.. {
            let Err(said) = dovecot.try_start() else { return dovecot };
            let taken = said.contains("in use") && start < STARTS_MAX;
            assert!(taken, "dovecot does not start:\n{said}");
            dovecot.ports = DovecotPorts::free();
        }
        unreachable!("the last start ends in an assertion")
    }

    /// Makes all that one needs, with its ports, for a test that must know them before it
    /// starts. [`Self::resume`] starts it.
    pub fn prepare(spec: &DovecotSpec) -> Self {
        for (path, package) in NEEDS {
            need(path, package);
        }
        let dir = open_directory();
        let root = spec.root.clone().unwrap_or_else(|| dir.path().join("mail"));
        for path in [&root, &dir.path().join("run")] {
            fs::create_dir_all(path).unwrap();
        }
        hand_over(dir.path());
        if spec.root.is_some() {
            check_way(&root);
        }
        let ports = DovecotPorts::free();
        Self { keeper: None, ports, spec: spec.clone(), root, dir }
    }

    /// Starts it again, with all that was added since.
    pub fn resume(&mut self) {
        if self.keeper.is_none()
            && let Err(said) = self.try_start()
        {
            panic!("dovecot does not start again:\n{said}");
        }
    }

    /// Stops it, as the machine's administrator would; connections end.
    pub fn stop(&mut self) {
        self.keeper = None;
    }

    /// Stops it as a machine does that loses its power.
    pub fn kill(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.kill();
        }
    }

    /// Stops and starts it.
    pub fn restart(&mut self) {
        self.stop();
        self.resume();
    }

    /// Adds to the configuration, before every passdb and userdb, and restarts it if it runs.
    pub fn add_config(&mut self, text: &str) {
        self.spec.config.push_str(text);
        self.spec.config.push('\n');
        if self.keeper.take().is_some() {
            self.resume();
        }
    }

    /// Adds users, and restarts it if it runs.
    pub fn add_users(&mut self, users: impl IntoIterator<Item = User>) {
        self.spec.users.extend(users);
        if self.keeper.take().is_some() {
            self.resume();
        }
    }

    /// Where it listens.
    pub fn ports(&self) -> DovecotPorts {
        self.ports
    }

    /// All its files. Everybody may read there; a test may add its own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The mail root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file for `doveadm -c`.
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("dovecot.conf")
    }

    /// The file that it logs to.
    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("dovecot.log")
    }

    /// All that it has logged, in this file and what could not go there.
    pub fn log(&self) -> String {
        let read = |name| {
            let bytes = fs::read(self.dir.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        read("says") + &read("dovecot.log")
    }

    /// Waits until the log says something, and returns the first line that does.
    pub fn wait_for_log(&self, words: &str) -> String {
        let mut found = None;
        let said = wait_until(PATIENCE, || {
            found = self.log().lines().find(|it| it.contains(words)).map(str::to_owned);
            found.is_some()
        });
        assert!(said, "no {words:?} in the log:\n{}", self.log());
        found.unwrap_or_default()
    }

    /// Runs `doveadm` beside it.
    ///
    /// # Errors
    ///
    /// What it printed, when it failed.
    pub fn doveadm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = MailUser::command("/usr/bin/doveadm", &["-c"]);
        let output = command.arg(self.config_file()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }

    /// Puts the files that we ship in front of it, asking a worker at this port of loopback,
    /// and returns the lines to add. Only ports and directories are changed in them.
    pub fn gate(&self, admission: u16) -> String {
        let place = Place {
            lines: "tidegate-2.3.conf",
            dir: self.dir(),
            inside: &self.dir().display().to_string(),
            ports: self.ports,
        };
        place.install(admission)
    }

    /// Logs in with the wanted password, which must succeed.
    pub fn imap(&self, user: &str) -> Imap {
        Imap::login(self.ports.imap, user, PASSWORD)
    }

    /// Logs in to a service, and returns the line that answers, and the conversation.
    pub fn login(&self, service: Service, user: &str, password: &str) -> (String, Talk) {
        self.ports.login(service, user, password)
    }

    /// What LMTP answers when a user is named as recipient.
    pub fn rcpt(&self, user: &str) -> String {
        self.ports.rcpt(user)
    }

    /// Delivers one message, and returns the line that ends it: of DATA, or of RCPT when that
    /// was refused.
    pub fn deliver(&self, user: &str, message: &[u8]) -> String {
        self.ports.deliver(user, message)
    }

    /// A conversation that has come as far as a sender.
    pub fn lmtp(&self) -> Talk {
        self.ports.lmtp()
    }

    fn try_start(&mut self) -> Result<(), String> {
        self.write();
        let heard = self.log().len();
        let config = self.config_file();
        let config = config.to_str().unwrap();
        let says = self.dir.path().join("says");
        let keeper = Keeper::start(DOVECOT, &["-F", "-c", config], &says);
        let news = || self.log().get(heard..).unwrap_or_default().to_owned();
        let up = wait_until(PATIENCE, || news().contains(UP) || !keeper.lives());
        let said = news();
        if up && keeper.lives() && said.contains(UP) {
            // The helpers that every service needs come up with the first one.
            Talk::connect(self.ports.imap).expect("* OK");
            self.keeper = Some(keeper);
            return Ok(());
        }
        Err(said)
    }

    fn write(&self) {
        let added = &self.spec.config;
        if added.contains("driver = lua") {
            need(LUA.0, LUA.1);
        }
        let dir = self.dir.path();
        fs::write(dir.join("added.conf"), added).unwrap();
        fs::write(dir.join("masters"), format!("{MASTER}:{MASTER_PASSWORD}\n")).unwrap();
        fs::write(dir.join("users"), self.users_file()).unwrap();
        fs::write(self.config_file(), self.config_text()).unwrap();
    }

    fn config_text(&self) -> String {
        let MailUser { name: user, group } = mail_user();
        let name = if self.spec.name.is_empty() {
            "node".to_owned()
        } else {
            self.spec.name.clone()
        };
        let ports = self.ports;
        let mut text = include_str!("dovecot.conf").to_owned();
        for (blank, value) in [
            ("user", user),
            ("group", group),
            ("name", name),
            ("dir", self.dir.path().display().to_string()),
            ("api_key", API_KEY.to_owned()),
            ("relay", self.spec.relay_port.max(1).to_string()),
            ("imap", ports.imap.to_string()),
            ("imap_webmail", ports.imap_webmail.to_string()),
            ("pop3", ports.pop3.to_string()),
            ("submission", ports.submission.to_string()),
            ("sieve", ports.sieve.to_string()),
            ("lmtp", ports.lmtp.to_string()),
            ("doveadm_http", ports.doveadm_http.to_string()),
            ("metrics", ports.metrics.to_string()),
        ] {
            text = text.replace(&format!("@{blank}@"), &value);
        }
        text
    }

    /// One line per user: the password, who owns the mail, where it is, and how it is stored.
    fn users_file(&self) -> String {
        let MailUser { name: owner, group } = mail_user();
        let mut text = String::new();
        for User { address, format, path } in &self.spec.users {
            let mailbox = self.root.join(path);
            let home = mailbox.parent().unwrap_or(&self.root).display();
            let (format, mailbox) = (format.name(), mailbox.display());
            writeln!(
                text,
                "{address}:{PASSWORD}:{owner}:{group}::{home}::userdb_mail={format}:{mailbox}"
            )
            .unwrap();
        }
        text
    }
}

impl Drop for Dovecot {
    /// A test that fails shows what Dovecot had to say.
    #[expect(clippy::print_stderr, reason = "a failing test's output is for people")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let words = [": Warning: ", ": Error: ", ": Fatal: ", ": Panic: "];
        let log = self.log();
        let complains = |line: &&str| words.iter().any(|word| line.contains(word));
        let lines: Vec<_> = log.lines().filter(complains).collect();
        let last = lines.len().saturating_sub(COMPLAINTS_SHOWN_MAX);
        for line in lines.iter().skip(last) {
            eprintln!("dovecot: {line}");
        }
    }
}

impl User {
    /// A user whose mailbox is `<domain>/<name>/Maildir`, or `sdbox`, or `mdbox`.
    pub fn new(address: &str, format: Format) -> Self {
        let (name, domain) = address.split_once('@').expect("users have addresses");
        let path = format!("{domain}/{name}/{}", format.directory());
        Self { address: address.to_owned(), format, path }
    }

    /// The same user with the mailbox elsewhere below the mail root.
    #[must_use]
    pub fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Maildir, Self::Sdbox, Self::Mdbox];

    /// What Dovecot calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Maildir => "maildir",
            Self::Sdbox => "sdbox",
            Self::Mdbox => "mdbox",
        }
    }

    /// The directory of a mailbox, in its owner's home.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Maildir => "Maildir",
            Self::Sdbox | Self::Mdbox => self.name(),
        }
    }
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Imap, Self::Webmail, Self::Pop3, Self::Submission, Self::Sieve];
}

impl DovecotPorts {
    pub(crate) fn free() -> Self {
        let [imap, imap_webmail, pop3, submission, sieve, lmtp, doveadm_http, metrics] =
            FreePorts::take(8).hand_over();
        Self { imap, imap_webmail, pop3, submission, sieve, lmtp, doveadm_http, metrics }
    }

    /// Logs in to a service, and returns the line that answers, and the conversation.
    pub fn login(self, service: Service, user: &str, password: &str) -> (String, Talk) {
        let mut talk = Talk::connect(self.of(service));
        let plain = STANDARD.encode(format!("\0{user}\0{password}"));
        let answer = match service {
            Service::Imap | Service::Webmail => {
                talk.expect("* OK");
                talk.ask(&format!("a LOGIN {user} {password}"))
            }
            Service::Pop3 => {
                talk.expect("+OK");
                talk.say(&format!("USER {user}"), "+OK");
                talk.ask(&format!("PASS {password}"))
            }
            Service::Submission => {
                talk.expect("220 ");
                talk.send("EHLO client.example.net");
                while talk.expect("250").starts_with("250-") {}
                talk.ask(&format!("AUTH PLAIN {plain}"))
            }
            Service::Sieve => {
                while talk.read().starts_with('"') {}
                talk.ask(&format!("AUTHENTICATE \"PLAIN\" \"{plain}\""))
            }
        };
        (answer, talk)
    }

    /// What LMTP answers when a user is named as recipient.
    pub fn rcpt(self, user: &str) -> String {
        self.lmtp().ask(&format!("RCPT TO:<{user}>"))
    }

    /// Delivers one message, and returns the line that ends it: of DATA, or of RCPT when that
    /// was refused.
    pub fn deliver(self, user: &str, message: &[u8]) -> String {
        let mut talk = self.lmtp();
        let answer = talk.ask(&format!("RCPT TO:<{user}>"));
        if !answer.starts_with("250 ") {
            return answer;
        }
        talk.say("DATA", "354 ");
        talk.send_message(message);
        talk.read()
    }

    /// A conversation that has come as far as a sender.
    pub fn lmtp(self) -> Talk {
        let mut talk = Talk::connect(self.lmtp);
        talk.expect("220 ");
        talk.send("LHLO mx.example.org");
        while talk.expect("250").starts_with("250-") {}
        talk.say("MAIL FROM:<sender@example.net>", "250 ");
        talk
    }

    /// The port of a service.
    pub fn of(self, service: Service) -> u16 {
        match service {
            Service::Imap => self.imap,
            Service::Webmail => self.imap_webmail,
            Service::Pop3 => self.pop3,
            Service::Submission => self.submission,
            Service::Sieve => self.sieve,
        }
    }
}

/// Fails when the mail user cannot get to the mail root, which else shows in odd places.
fn check_way(root: &Path) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let closed = root
        .ancestors()
        .skip(1)
        .find(|dir| fs::metadata(dir).is_ok_and(|found| found.mode() & 0o001 == 0));
    if let Some(dir) = closed {
        panic!("the user for mail may not enter {}: chmod o+x it", dir.display());
    }
}
