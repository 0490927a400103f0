//! Postfix: Debian's, as a mail exchanger of its own, for as long as a test runs.
//!
//! # Invariants
//!
//! * Everything of it is in [`Postfix::dir`]; the machine's own Postfix, if there is one, is
//!   not touched.
//! * It sends nothing to the world: it refuses what is not for its domains, and drops its own
//!   notices to senders.
//! * What a test adds comes last, and so counts more than what is there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::keeper::{Keeper, need, open_directory, wait_until};
use crate::ports::FreePorts;
use crate::talk::{PATIENCE, Talk};

const MASTER: &str = "/usr/lib/postfix/sbin/master";

const POSTQUEUE: &str = "/usr/sbin/postqueue";

/// The user that Debian's Postfix runs as.
const USER: &str = "postfix";

/// Free ports are found before Postfix takes them, and somebody may be quicker.
const STARTS_MAX: usize = 5;

/// Directories of the queue that are Postfix's alone.
const PRIVATE_DIRS: [&str; 12] = [
    "incoming", "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold",
    "private", "saved", "trace", "data",
];

/// A Postfix. It is stopped when the value goes.
#[derive(Debug)]
pub struct Postfix {
    keeper: Option<Keeper>,
    smtp_port: u16,
    spec: PostfixSpec,
    dir: TempDir,
}

/// What it is.
#[derive(Debug, Clone, Default)]
pub struct PostfixSpec {
    /// Domains that it takes mail for: everybody in them exists, unless `main` says who does.
    pub domains: Vec<String>,
    /// Where their mail goes, for example `lmtp:inet:127.0.0.1:2424`; empty if the test's
    /// own lines say it.
    pub transport: String,
    /// Lines for `main.cf`.
    pub main: String,
    /// Lines for `master.cf`.
    pub master: String,
}

/// A message to send.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// To whom; each gets an answer of its own.
    pub to: &'a [&'a str],
    /// All of it.
    pub message: &'a [u8],
}

/// What Postfix said to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// To each recipient.
    pub to: Vec<String>,
    /// To the message itself; nothing when it took no recipient.
    pub end: Option<String>,
}

impl Postfix {
    /// Starts one, and returns when it takes mail. Needs root, as Postfix does.
    pub fn start(spec: &PostfixSpec) -> Self {
        let mut postfix = Self::prepare(spec);
        for start in 1.. {
            let Err(said) = postfix.try_start() else { return postfix };
            let taken = said.contains("in use") && start < STARTS_MAX;
            assert!(taken, "postfix does not start:\n{said}");
            postfix.smtp_port = free_port();
        }
        unreachable!("the last start ends in an assertion")
    }

    /// Makes all that one needs, with its port. [`Self::resume`] starts it.
    pub fn prepare(spec: &PostfixSpec) -> Self {
        need(MASTER, "postfix");
        let root = rustix::process::geteuid().is_root();
        assert!(
            root,
            "Postfix is started by root alone, and these tests need a real one"
        );
        let dir = open_directory();
        let postfix =
            Self { keeper: None, smtp_port: free_port(), spec: spec.clone(), dir };
        postfix.make_directories();
        postfix
    }

    /// Starts it again, with the queue as it is and all that was added since.
    pub fn resume(&mut self) {
        if self.keeper.is_none()
            && let Err(said) = self.try_start()
        {
            panic!("postfix does not start again:\n{said}");
        }
    }

    /// Stops it.
    pub fn stop(&mut self) {
        self.keeper = None;
    }

    /// Adds lines to `main.cf`, and makes it read them anew if it runs.
    pub fn add_main(&mut self, lines: &str) {
        self.spec.main.push_str(lines);
        self.spec.main.push('\n');
        self.write();
        if let Some(keeper) = &self.keeper {
            keeper.signal(Signal::HUP);
        }
    }

    /// Where it takes mail.
    pub fn smtp_port(&self) -> u16 {
        self.smtp_port
    }

    /// All its files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What `postqueue -c` wants.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        let read = |name| fs::read(self.dir.path().join(name)).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        text(read("says")) + &text(read("log/mail.log"))
    }

    /// Lines of the log that say something.
    pub fn logged(&self, words: &str) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| line.contains(words))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until the log says something, and returns the first line that does.
    pub fn wait_for_log(&self, words: &str) -> String {
        let mut found = None;
        let said = wait_until(PATIENCE, || {
            found = self.logged(words).into_iter().next();
            found.is_some()
        });
        assert!(said, "no {words:?} in the log:\n{}", self.log());
        found.unwrap_or_default()
    }

    /// Runs `postqueue` on its queue.
    pub fn postqueue(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(POSTQUEUE);
        command.arg("-c").arg(self.config_dir()).args(arguments).output().unwrap()
    }

    /// Its queue, a line of JSON for each message.
    pub fn queue(&self) -> Vec<String> {
        let listed = self.postqueue(&["-j"]);
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
    }

    /// Waits until its queue is as wanted, and returns it.
    pub fn wait_for_queue(&self, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut queue = Vec::new();
        let so = wait_until(PATIENCE, || {
            queue = self.queue();
            is_so(&queue)
        });
        assert!(so, "the queue is {queue:#?}\n{}", self.log());
        queue
    }

    /// A conversation that has come as far as a sender.
    pub fn smtp(&self) -> Talk {
        let mut talk = Talk::connect(self.smtp_port);
        talk.expect("220 ");
        talk.send("EHLO client.example.net");
        while talk.expect("250").starts_with("250-") {}
        talk.say("MAIL FROM:<sender@example.net>", "250 ");
        talk
    }

    /// Sends a message, as another mail server would.
    pub fn send(&self, letter: Letter<'_>) -> Said {
        let mut talk = self.smtp();
        let to = letter.to.iter().map(|to| talk.ask(&format!("RCPT TO:<{to}>")));
        let to: Vec<String> = to.collect();
        if !to.iter().any(|said| said.starts_with("250 ")) {
            return Said { to, end: None };
        }
        talk.say("DATA", "354 ");
        talk.send_message(letter.message);
        Said { to, end: Some(talk.read()) }
    }

    fn make_directories(&self) {
        let dir = self.dir.path();
        for name in ["etc", "log", "spool", "spool/pid"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let make = |name: &str, group: &str, mode: &str| {
            let mut install = Command::new("install");
            install.args(["-d", "-o", USER, "-g", group, "-m", mode]);
            let made = install.arg(dir.join("spool").join(name)).status().unwrap();
            assert!(made.success(), "make the queue's directory {name}");
        };
        for name in PRIVATE_DIRS {
            make(name, USER, "0700");
        }
        make("maildrop", "postdrop", "0730");
        make("public", "postdrop", "0710");
        fs::set_permissions(dir.join("log"), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn try_start(&mut self) -> Result<(), String> {
        self.write();
        let heard = self.log().len();
        let config = self.config_dir();
        // Its keeper has made it the head of a process group already, which it only takes so.
        let arguments = ["-c", config.to_str().unwrap(), "-d"];
        let keeper =
            Keeper::start_as_is(MASTER, &arguments, &self.dir.path().join("says"));
        let news = || self.log().get(heard..).unwrap_or_default().to_owned();
        let up =
            wait_until(PATIENCE, || news().contains("daemon started") || !keeper.lives());
        let said = news();
        if up && keeper.lives() && !said.contains("fatal:") {
            // The first connection starts what takes mail.
            Talk::connect(self.smtp_port).expect("220 ");
            self.keeper = Some(keeper);
            return Ok(());
        }
        Err(said)
    }

    fn write(&self) {
        let etc = self.config_dir();
        fs::write(etc.join("main.cf"), self.main_cf()).unwrap();
        fs::write(etc.join("master.cf"), self.master_cf()).unwrap();
    }

    fn main_cf(&self) -> String {
        let dir = self.dir.path().display();
        let PostfixSpec { domains, transport, main, .. } = &self.spec;
        let transport = if transport.is_empty() {
            String::new()
        } else {
            format!("virtual_transport = {transport}\n")
        };
        format!(
            "compatibility_level = 3.6\n\
             config_directory = {dir}/etc\n\
             queue_directory = {dir}/spool\n\
             data_directory = {dir}/spool/data\n\
             maillog_file = {dir}/log/mail.log\n\
             maillog_file_prefixes = {dir}\n\
             multi_instance_name = postfix-rig\n\
             syslog_name = postfix-rig\n\
             myhostname = mx.rig.example\n\
             mydestination =\n\
             inet_interfaces = 127.0.0.1\n\
             inet_protocols = ipv4\n\
             smtp_dns_support_level = disabled\n\
             default_transport = discard\n\
             smtpd_relay_restrictions = reject_unauth_destination\n\
             alias_maps =\n\
             alias_database =\n\
             virtual_mailbox_domains = {domains}\n\
             virtual_mailbox_maps = static:ok\n\
             {transport}{main}\n",
            domains = domains.join(", "),
        )
    }

    fn master_cf(&self) -> String {
        format!(
            "127.0.0.1:{port} inet n - n - - smtpd\n\
             postlog unix-dgram n - n - 1 postlogd\n\
             pickup unix n - n 60 1 pickup\n\
             cleanup unix n - n - 0 cleanup\n\
             qmgr unix n - n 300 1 qmgr\n\
             rewrite unix - - n - - trivial-rewrite\n\
             bounce unix - - n - 0 bounce\n\
             defer unix - - n - 0 bounce\n\
             trace unix - - n - 0 bounce\n\
             flush unix n - n 1000? 0 flush\n\
             proxymap unix - - n - - proxymap\n\
             smtp unix - - n - - smtp\n\
             showq unix n - n - - showq\n\
             error unix - - n - - error\n\
             retry unix - - n - - error\n\
             discard unix - - n - - discard\n\
             lmtp unix - - n - - lmtp\n\
             anvil unix - - n - 1 anvil\n\
             scache unix - - n - 1 scache\n\
             {master}\n",
            port = self.smtp_port,
            master = self.spec.master,
        )
    }
}

fn free_port() -> u16 {
    let [port] = FreePorts::take(1).hand_over();
    port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PostfixSpec {
        PostfixSpec {
            domains: vec!["example.org".to_owned()],
            transport: "lmtp:inet:127.0.0.1:1".to_owned(),
            ..PostfixSpec::default()
        }
    }

    #[test]
    fn it_takes_mail_and_keeps_what_it_cannot_deliver_also_over_a_restart() {
        let mut postfix = Postfix::start(&spec());
        let to = &["anna@example.org", "anna@example.net"];
        let said = postfix.send(Letter { to, message: b"Subject: hello\n\nhello\n" });
        assert!(said.to[0].starts_with("250 "), "{said:?}");
        assert!(said.to[1].starts_with("554 "), "{said:?}");
        assert!(said.end.unwrap().starts_with("250 "));
        let waits = |queue: &[String]| {
            queue.len() == 1 && queue[0].contains("Connection refused")
        };
        postfix.wait_for_queue(waits);

        postfix.stop();
        postfix.resume();

        postfix.wait_for_queue(waits);
        assert_eq!(postfix.logged("fatal:"), Vec::<String>::new());
    }

    #[test]
    fn several_run_side_by_side() {
        let [one, other] = [(); 2].map(|()| Postfix::start(&spec()));
        one.send(Letter { to: &["anna@example.org"], message: b"\nhello\n" });

        // A message that moves from one queue to another may be listed in both.
        one.wait_for_queue(|queue| queue.len() == 1);
        assert_eq!(other.queue(), Vec::<String>::new());
    }
}
