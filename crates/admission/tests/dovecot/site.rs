//! A Dovecot that is set up with the files we ship, as its operator would.
//!
//! # Invariants
//!
//! * What stands in front of it are the shipped files, and what a test adds.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate_rig::{
    Debian13, Dovecot, DovecotPorts, DovecotSpec, Format, PASSWORD, Service, User,
    debian_13_root, hand_over, mail_user,
};

use crate::gate::Gate;

/// Anna's password where the provider's passdb tells the mailbox as well.
pub(crate) const PREFETCHED_PASSWORD: &str = "other-pw";

/// A user who exists, and may stand anywhere.
pub(crate) const ANNA: &str = "anna@example.org";
/// Another.
pub(crate) const BERT: &str = "bert@example.org";
/// An address that neither we nor the provider know.
pub(crate) const NOBODY: &str = "nobody@example.org";

/// The Dovecots that our files are for.
#[derive(Debug, Clone)]
pub(crate) enum Edition {
    /// 2.3, as this machine has it installed.
    Debian12,
    /// 2.4, in this root directory.
    Debian13(PathBuf),
}

/// Dovecot and the gate it asks.
pub(crate) struct Site {
    pub(crate) gate: Gate,
    server: Server,
}

enum Server {
    Debian12(Dovecot),
    Debian13(Debian13),
}

impl Site {
    /// Dovecot with our files, which does not let anybody wait after a failure; all
    /// mailboxes are unknown to the gate.
    pub(crate) fn start(edition: &Edition) -> Self {
        Self::with(edition, edition.no_delay())
    }

    /// The same with a few lines of the provider's instead.
    pub(crate) fn with(edition: &Edition, config: &str) -> Self {
        let gate = Gate::start();
        let users = [ANNA, BERT];
        let mut server = match edition {
            Edition::Debian12 => {
                let users =
                    users.map(|address| User::new(address, Format::Maildir)).to_vec();
                let spec =
                    DovecotSpec { users, relay_port: relay(), ..DovecotSpec::default() };
                Server::Debian12(Dovecot::prepare(&spec))
            }
            Edition::Debian13(root) => {
                Server::Debian13(Debian13::prepare(root.clone(), &users, relay()))
            }
        };
        gate.doors.set_webmail_ports(vec![server.ports().imap_webmail]);
        server.prefetch();
        let inside = format!("{}/", server.dir_inside());
        let config = config.replace("/etc/dovecot/", &inside);
        let config = format!("{}{config}", server.gate(gate.port()));
        match &mut server {
            Server::Debian12(dovecot) => {
                dovecot.add_config(&config);
                dovecot.resume();
            }
            Server::Debian13(dovecot) => dovecot.start(&config),
        }
        Self { gate, server }
    }

    pub(crate) fn ports(&self) -> DovecotPorts {
        self.server.ports()
    }

    /// Where the installed files are.
    pub(crate) fn dir(&self) -> &Path {
        self.server.dir()
    }

    pub(crate) fn doveadm(&self, arguments: &[&str]) -> Result<String, String> {
        match &self.server {
            Server::Debian12(dovecot) => dovecot.doveadm(arguments),
            Server::Debian13(dovecot) => dovecot.doveadm(arguments),
        }
    }

    /// What a login is answered, its tag and capabilities left out, and also times, which
    /// are never the same.
    pub(crate) fn login(&self, service: Service, user: &str, password: &str) -> String {
        let (answer, talk) = self.ports().login(service, user, password);
        drop(talk);
        tidy(&answer)
    }

    /// What LMTP answers when a user is named as recipient.
    pub(crate) fn rcpt(&self, user: &str) -> String {
        self.ports().rcpt(user)
    }

    /// What every service answers a user with the right password, and LMTP his mail.
    pub(crate) fn replies(&self, user: &str) -> String {
        let mut text = String::new();
        for service in Service::ALL {
            let answer = self.login(service, user, PASSWORD);
            writeln!(text, "{service:?}: {answer}").unwrap();
        }
        text + "Lmtp: " + &self.rcpt(user)
    }
}

impl Edition {
    /// 2.4, if there is one here.
    pub(crate) fn debian_13() -> Option<Self> {
        debian_13_root().map(Self::Debian13)
    }

    /// A passdb of the provider's that tells where the mailbox is, and the userdb that goes
    /// with it.
    pub(crate) fn prefetch(&self) -> &'static str {
        match self {
            Self::Debian12 => {
                "passdb {\n driver = passwd-file\n args = username_format=%u /etc/dovecot/prefetch\n}\n\
                 userdb {\n driver = prefetch\n}\n"
            }
            Self::Debian13(_) => {
                "passdb prefetched {\n driver = passwd-file\n passwd_file_path = /etc/dovecot/prefetch\n}\n\
                 userdb prefetch {\n}\n"
            }
        }
    }

    /// How this one is told not to let guessers wait, which would hold up tests.
    pub(crate) fn no_delay(&self) -> &'static str {
        match self {
            Self::Debian12 => "auth_failure_delay = 0\n",
            Self::Debian13(_) => {
                "auth_failure_delay = 0\nauth_internal_failure_delay = 0\n"
            }
        }
    }
}

impl Server {
    fn ports(&self) -> DovecotPorts {
        match self {
            Self::Debian12(dovecot) => dovecot.ports(),
            Self::Debian13(dovecot) => dovecot.ports(),
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Self::Debian12(dovecot) => dovecot.dir(),
            Self::Debian13(dovecot) => dovecot.dir(),
        }
    }

    /// The files that we ship, and the lines to add.
    fn gate(&self, admission: u16) -> String {
        match self {
            Self::Debian12(dovecot) => dovecot.gate(admission),
            Self::Debian13(dovecot) => dovecot.gate(admission),
        }
    }

    /// Its own directory, as it sees it.
    fn dir_inside(&self) -> String {
        match self {
            Self::Debian12(dovecot) => dovecot.dir().display().to_string(),
            Self::Debian13(dovecot) => dovecot.dir_inside(),
        }
    }

    /// Users of the provider's whose passdb tells the mailbox as well.
    fn prefetch(&self) {
        let home = format!("{}/prefetched", self.dir_inside());
        let mail = match self {
            Self::Debian12(_) => "userdb_mail=maildir:~/Maildir",
            Self::Debian13(_) => "",
        };
        let prefetch = format!(
            "{ANNA}:{{PLAIN}}{PREFETCHED_PASSWORD}::::::userdb_uid={user} \
             userdb_gid={group} userdb_home={home} {mail}\n",
            user = mail_user().name,
            group = mail_user().group
        );
        fs::write(self.dir().join("prefetch"), prefetch).unwrap();
        hand_over(self.dir());
    }
}

/// Without what differs from run to run.
fn tidy(answer: &str) -> String {
    let answer = match (answer.find("[CAPABILITY"), answer.find("] Logged in")) {
        (Some(start), Some(end)) => format!("{}{}", &answer[..start], &answer[end + 2..]),
        _ => answer.to_owned(),
    };
    // The machine's name and the time.
    match answer.split_once("failure. [") {
        Some((before, after)) => {
            format!(
                "{before}failure.{}",
                after.split_once(']').map_or("", |(_, rest)| rest)
            )
        }
        None => answer,
    }
}

/// A relay that greets whoever calls and says yes to everything: submission logs in to its
/// own before it answers a login.
fn relay() -> u16 {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for caller in listener.incoming() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut caller = BufReader::new(caller?);
                caller.get_mut().write_all(b"220 relay ESMTP\r\n")?;
                let mut line = String::new();
                while caller.read_line(&mut line)? > 0 {
                    caller.get_mut().write_all(b"250 relay\r\n")?;
                    line.clear();
                }
                Ok(())
            });
        }
    });
    port
}
