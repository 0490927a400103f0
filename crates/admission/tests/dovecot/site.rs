//! A Dovecot that is set up with the files we ship, as its operator would.
//!
//! # Invariants
//!
//! * Of the shipped files only addresses of things are changed: ports and directories.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tidegate_rig::{Dovecot, DovecotSpec, Format, PASSWORD, Service, User, hand_over};

use crate::gate::Gate;

/// The probes' master user and his password.
pub(crate) const PROBE: &str = "tidegate-probe";
pub(crate) const PROBE_PASSWORD: &str = "probe-secret";

/// The key of doveadm's HTTP interface, as in the shipped key file.
pub(crate) const API_KEY: &str = "5e55a11";

/// A user who exists, and may stand anywhere.
pub(crate) const ANNA: &str = "anna@example.org";
/// Another.
pub(crate) const BERT: &str = "bert@example.org";
/// An address that neither we nor the provider know.
pub(crate) const NOBODY: &str = "nobody@example.org";

/// Dovecot and the gate it asks.
pub(crate) struct Site {
    pub(crate) gate: Gate,
    pub(crate) dovecot: Dovecot,
}

impl Site {
    /// Dovecot with our files, which does not let anybody wait after a failure; all
    /// mailboxes are unknown to the gate.
    pub(crate) fn start() -> Self {
        Self::with("auth_failure_delay = 0\n")
    }

    /// The same with a few lines of the provider's.
    pub(crate) fn with(config: &str) -> Self {
        let users =
            [ANNA, BERT].map(|address| User::new(address, Format::Maildir)).to_vec();
        // Submission logs in to its relay with the answer, so there must be one.
        let relay = relay();
        let spec = DovecotSpec { users, relay_port: relay, ..DovecotSpec::default() };
        let mut dovecot = Dovecot::prepare(&spec);
        let gate = Gate::start();
        gate.doors.set_webmail_ports(vec![dovecot.ports().imap_webmail]);
        install(&dovecot, &gate);
        dovecot.add_config(&format!("{}\n{config}", shipped_config(&dovecot)));
        dovecot.resume();
        Self { gate, dovecot }
    }

    /// What a login is answered, its tag and capabilities left out, and also times, which
    /// are never the same.
    pub(crate) fn login(&self, service: Service, user: &str, password: &str) -> String {
        let (answer, talk) = self.dovecot.login(service, user, password);
        drop(talk);
        tidy(&answer)
    }

    /// What every service answers a user with the right password, and LMTP his mail.
    pub(crate) fn replies(&self, user: &str) -> String {
        let mut text = String::new();
        for service in Service::ALL {
            let answer = self.login(service, user, PASSWORD);
            writeln!(text, "{service:?}: {answer}").unwrap();
        }
        text + "Lmtp: " + &self.dovecot.rcpt(user)
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

fn shipped(name: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/dovecot").join(name);
    fs::read_to_string(path).unwrap()
}

fn shipped_config(dovecot: &Dovecot) -> String {
    let ports = dovecot.ports();
    let dir = dovecot.dir().display().to_string();
    shipped("tidegate-2.3.conf")
        .replace("/etc/dovecot/", &format!("{dir}/"))
        .replace("10144", &ports.imap_webmail.to_string())
        .replace("10380", &ports.doveadm_http.to_string())
        .replace("10490", &ports.metrics.to_string())
}

/// The files that the configuration names.
fn install(dovecot: &Dovecot, gate: &Gate) {
    let script = shipped("tidegate.lua").replace("10390", &gate.port().to_string());
    let probe = format!(
        "{PROBE}:{{PLAIN}}{PROBE_PASSWORD}::::::allow_nets=127.0.0.1/32,::1/128\n"
    );
    for (name, text) in [
        ("tidegate.lua", script.as_str()),
        ("tidegate-api-key", API_KEY),
        ("tidegate-probe", &probe),
    ] {
        fs::write(dovecot.dir().join(name), text).unwrap();
    }
    hand_over(dovecot.dir());
}

/// A relay that greets whoever calls and says yes to everything.
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
