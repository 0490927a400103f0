//! Replies: what people and other servers are really told, service by service.
//!
//! # Invariants
//!
//! * Nobody who is tried here ever gets in where all is well, and no message is handed over.
//! * A right and a wrong password look the same while a mailbox is held.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_mailserver::reception::{self, Delivery, Service, Visitor};
use tidegate_mailserver::{ConversationError, ConversationFault};
use tidegate_worker::{ALWAYS_DOWN, ALWAYS_SLOW};

use super::chart::{Chart, Trouble};
use super::doveconf::Doveconf;
use crate::config::{Doctor, Patient, Worker};
use crate::telemetry::Chain;

/// A held user is told so within this.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Where Dovecot answers nothing but a failure of its own, it waits two seconds before it does,
/// so that nobody can guess quickly.
const AFTER_DELAY: Duration = Duration::from_secs(3);
/// Whoever is told nothing for so long is told nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Dovecot's words when the gate did not answer, in place of ours.
const NO_GATE: &str = "Temporary authentication failure";

/// A wrong password, for a user whose right one makes no difference.
const WRONG: &str = "tidegate-doctor-wrong-password";

/// Where one service is.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    kind: Kind,
    address: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Login(Service),
    Lmtp,
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// As it must be.
    Held,
    /// As it must be, but without the gate's own words.
    Failure,
    /// The user is in, or his mail.
    Admitted,
    /// The user is told that his password is wrong.
    WrongPassword,
    /// For good; mail bounces.
    Permanent,
    /// Not without encryption.
    NotInClear,
    /// Anything else.
    Odd,
}

/// Tries every service as a held user, and as users for whom the gate is out of order.
pub(super) fn look(chart: &mut Chart, conf: &Doveconf, worker: &Worker) {
    let Some(patient) = &worker.doctor.patient else {
        let trouble = Trouble::new(
            "there is no user to try it with",
            "what held users are told is not known",
            "add a table [doctor] with `user` and `password_file` to worker.toml",
        );
        return chart.warn("held", trouble);
    };
    let ways = ways(chart, conf, worker);
    std::thread::scope(|scope| {
        let tried: Vec<_> =
            ways.iter().map(|way| scope.spawn(|| try_way(*way, patient))).collect();
        for one in tried {
            chart.append(one.join().unwrap_or_default());
        }
    });
    // One after the other: the gate lets only one question at a time be late.
    for way in ways.iter().filter(|it| ["imap", "lmtp"].contains(&it.name)) {
        out_of_order(chart, *way, ALWAYS_SLOW, patient);
    }
    sasl(chart, &worker.doctor, patient);
}

/// The services that Dovecot serves, and where; those of which that is not known are noted.
fn ways(chart: &mut Chart, conf: &Doveconf, worker: &Worker) -> Vec<Way> {
    let Worker { dovecot, doctor, .. } = worker;
    let imap = dovecot.as_ref().and_then(|it| it.imap);
    let lmtp = dovecot.as_ref().and_then(|it| it.lmtp);
    let port = dovecot.as_ref().and_then(|it| it.webmail_ports.first().copied());
    let beside = imap.zip(port).map(|(imap, port)| SocketAddr::new(imap.ip(), port));
    let webmail = doctor.webmail.or(beside);
    let login = Kind::Login;
    let all = [
        ("imap", login(Service::Imap), imap, "`imap` to [dovecot]"),
        ("pop3", login(Service::Pop3), doctor.pop3, "`pop3` to [doctor]"),
        (
            "submission",
            login(Service::Submission),
            doctor.submission,
            "`submission` to [doctor]",
        ),
        ("sieve", login(Service::Sieve), doctor.sieve, "`sieve` to [doctor]"),
        ("lmtp", Kind::Lmtp, lmtp, "`lmtp` to [dovecot]"),
    ];
    let mut ways = Vec::new();
    if let Some(address) = webmail {
        ways.push(Way { name: "webmail", kind: login(Service::Imap), address });
    }
    for (name, kind, address, key) in all {
        match address {
            Some(address) => ways.push(Way { name, kind, address }),
            None if !conf.serves(name) => chart.ok(format!("held.{name}"), "not served"),
            None => chart.warn(
                format!("held.{name}"),
                Trouble::new(
                    "not tried: it is not known where it is",
                    "what held users are told there is not known",
                    format!(
                        "add {key} in worker.toml, such as `{name} = \"127.0.0.1:PORT\"`"
                    ),
                ),
            ),
        }
    }
    ways
}

fn try_way(way: Way, patient: &Patient) -> Chart {
    let mut chart = Chart::default();
    held(&mut chart, way, patient);
    out_of_order(&mut chart, way, ALWAYS_DOWN, patient);
    chart
}

/// A held user is told to wait, whatever password he gives.
fn held(chart: &mut Chart, way: Way, patient: &Patient) {
    let check = format!("held.{}", way.name);
    let mut quickest = PATIENCE;
    let mut words = String::new();
    let passwords = match way.kind {
        Kind::Login(_) => &[patient.password.expose().as_str(), WRONG][..],
        Kind::Lmtp => &[""],
    };
    for (password, which) in passwords.iter().zip(["the right", "a wrong"]) {
        let start = Instant::now();
        let said = match way.ask(&patient.user, password) {
            Ok(said) => said,
            Err(error) => return chart.fail(check, way.silent(&error)),
        };
        quickest = quickest.min(start.elapsed());
        let answer = way.judge(&said);
        if answer == Answer::NotInClear {
            let trouble = Trouble::new(
                format!("`{said}`"),
                "passwords are not taken without encryption, so this could not be tried",
                "let the doctor come from this machine: login_trusted_networks, or ssl = yes",
            );
            return chart.warn(check, trouble);
        }
        if answer != Answer::Held {
            let tried = if way.kind == Kind::Lmtp { "as recipient" } else { which };
            return chart.fail(check, answer.trouble(tried, &said));
        }
        words = said;
    }
    let limit =
        if way.has_own_words() || way.kind == Kind::Lmtp { AT_ONCE } else { AFTER_DELAY };
    let seen = format!("`{words}` after {} ms", quickest.as_millis());
    if quickest > limit {
        let means = "people and their programs wait, and so do others behind them";
        let remedy = "look for load on this node, and at auth_failure_delay";
        return chart.warn(check, Trouble::new(seen, means, remedy));
    }
    chart.ok(check, seen);
}

/// Nobody slips through when the gate does not answer, or answers late.
fn out_of_order(chart: &mut Chart, way: Way, local: &'static str, patient: &Patient) {
    let how = if local == ALWAYS_SLOW { "late" } else { "closed" };
    let check = format!("{how}.{}", way.name);
    let domain = patient.user.rsplit('@').next().unwrap_or_default();
    let user = format!("{local}@{domain}");
    let said = match way.ask(&user, patient.password.expose()) {
        Ok(said) => said,
        Err(error) => return chart.fail(check, way.silent(&error)),
    };
    match way.judge(&said) {
        Answer::Held | Answer::Failure => chart.ok(check, format!("`{said}`")),
        Answer::NotInClear => {}
        answer @ (Answer::Admitted
        | Answer::WrongPassword
        | Answer::Permanent
        | Answer::Odd) => {
            let Meaning { means, .. } = answer.meaning();
            let trouble = Trouble::new(
                format!("when the gate is out of order: `{said}`"),
                means,
                "the gate is passed by: see the checks `gate.*`, then reload Dovecot",
            );
            chart.fail(check, trouble);
        }
    }
}

/// Postfix may check the password of a held user.
fn sasl(chart: &mut Chart, doctor: &Doctor, patient: &Patient) {
    let check = "sasl";
    let remedy_run = "run this as root, and see whether Dovecot runs";
    let (exit, said) = match auth_test(doctor, patient) {
        Ok(tested) => tested,
        Err(error) => {
            let seen = format!("doveadm cannot be run: {error}");
            let means = "whether Postfix's SASL works for held users is not known";
            return chart.warn(check, Trouble::new(seen, means, remedy_run));
        }
    };
    if said.contains("auth succeeded") {
        return chart.ok(check, "Postfix may check the password of a held user");
    }
    let trouble = if exit == Some(EX_TEMPFAIL) || said.contains("temp") {
        Trouble::new(
            "Postfix's SASL is told of a temporary failure for a held user",
            "Postfix makes 535 of it, and people are asked for a new password",
            "take the gate's passdb out of `smtp`: one block per protocol",
        )
    } else {
        Trouble::new(
            "Dovecot does not take the test user's password for `smtp`",
            "people who are held cannot send, or the password file is not right",
            "compare `password_file` of [doctor] with what Dovecot knows of this user",
        )
    };
    chart.fail(check, trouble);
}

/// `doveadm auth test` reads the password from where nobody else can see it.
fn auth_test(
    doctor: &Doctor,
    patient: &Patient,
) -> std::io::Result<(Option<i32>, String)> {
    let mut child = Command::new("doveadm")
        .arg("-c")
        .arg(&doctor.dovecot_config)
        .args(["auth", "test", "-x", "service=smtp", &patient.user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Whoever does not want to hear it says why on the other side.
        let _ = writeln!(input, "{}", patient.password.expose());
    }
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// `EX_TEMPFAIL`.
const EX_TEMPFAIL: i32 = 75;

impl Way {
    fn ask(self, user: &str, password: &str) -> Result<String, ConversationError> {
        let deadline = Instant::now() + PATIENCE;
        match self.kind {
            Kind::Login(service) => {
                let visitor = Visitor { user, password };
                reception::login(service, self.address, visitor, deadline)
            }
            Kind::Lmtp => {
                reception::recipient(Delivery::Lmtp, self.address, user, deadline)
            }
        }
    }

    /// Whether the gate's words reach the user here.
    fn has_own_words(self) -> bool {
        matches!(self.kind, Kind::Login(Service::Imap | Service::Pop3))
    }

    fn judge(self, said: &str) -> Answer {
        let held = match self.kind {
            Kind::Login(Service::Imap) => "NO [UNAVAILABLE]",
            Kind::Login(Service::Pop3) => "-ERR [SYS/TEMP]",
            Kind::Login(Service::Submission) => "454 4.7.0",
            Kind::Login(Service::Sieve) => "NO (TRYLATER)",
            Kind::Lmtp => "451 4.3.0",
        };
        let starts = |words: &[&str]| words.iter().any(|it| said.starts_with(it));
        let has = |words: &[&str]| words.iter().any(|it| said.contains(it));
        if said.starts_with(held) {
            let is_bare = self.has_own_words() && said.contains(NO_GATE);
            return if is_bare { Answer::Failure } else { Answer::Held };
        }
        if starts(&["OK", "+OK", "235", "250"]) {
            return Answer::Admitted;
        }
        if has(&["[PRIVACYREQUIRED]", "(ENCRYPT-NEEDED)", "Plaintext", "Cleartext"])
            || starts(&["538", "530"])
        {
            return Answer::NotInClear;
        }
        if starts(&["535"])
            || has(&["[AUTHENTICATIONFAILED]", "[AUTH]", "Authentication failed"])
        {
            return Answer::WrongPassword;
        }
        if starts(&["5"]) {
            return Answer::Permanent;
        }
        Answer::Odd
    }

    fn silent(self, error: &ConversationError) -> Trouble {
        let seen = Chain(error).to_string();
        if matches!(error.cause, ConversationFault::HungUp) {
            return Trouble::new(
                seen,
                "people are cut off without a word: they are let in, and stopped behind it",
                "the gate must be the first passdb: see the checks `gate.*`, and Dovecot's log",
            );
        }
        let remedy =
            format!("does Dovecot run, and is {} its {}?", self.address, self.name);
        Trouble::new(seen, "people get no answer at all", remedy)
    }
}

/// What an answer means, and what to do.
struct Meaning {
    means: &'static str,
    remedy: &'static str,
}

impl Answer {
    fn meaning(self) -> Meaning {
        let (means, remedy) = match self {
            Self::Admitted => (
                "held mailboxes are open on this service",
                "see the checks `gate.*`; is the test user in an inventory? then take another",
            ),
            Self::WrongPassword => (
                "people are told that their password is wrong, and change it",
                "see the checks `gate.*`, then reload Dovecot",
            ),
            Self::Permanent => (
                "mail bounces, and programs give up for good",
                "see the checks `gate.*`; does Dovecot know the test user?",
            ),
            Self::Failure => (
                "the gate does not answer: everybody is kept out",
                "start the worker; see the checks `worker.admission` and `gate.script`",
            ),
            Self::Held | Self::NotInClear | Self::Odd => (
                "nobody knows what mail programs make of this",
                "see the checks `gate.*`, and Dovecot's log",
            ),
        };
        Meaning { means, remedy }
    }

    fn trouble(self, tried: &str, said: &str) -> Trouble {
        let Meaning { means, remedy } = self.meaning();
        let with = if tried == "as recipient" {
            tried.to_owned()
        } else {
            format!("with {tried} password")
        };
        Trouble::new(format!("a held user, {with}: `{said}`"), means, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_dovecot_are_judged() {
        use Answer::{Admitted, Failure, Held, NotInClear, Permanent, WrongPassword};
        let way = |kind| Way { name: "x", kind, address: ([127, 0, 0, 1], 1).into() };
        let login = Kind::Login;
        for (kind, said, wanted) in [
            (
                login(Service::Imap),
                "NO [UNAVAILABLE] Your mailbox is being restored",
                Held,
            ),
            (
                login(Service::Imap),
                "NO [UNAVAILABLE] Temporary authentication failure. [x:1]",
                Failure,
            ),
            (login(Service::Imap), "OK [CAPABILITY IMAP4rev1] Logged in", Admitted),
            (
                login(Service::Imap),
                "NO [AUTHENTICATIONFAILED] Authentication failed.",
                WrongPassword,
            ),
            (
                login(Service::Imap),
                "NO [PRIVACYREQUIRED] Plaintext authentication disallowed",
                NotInClear,
            ),
            (
                login(Service::Pop3),
                "-ERR [SYS/TEMP] Your mailbox is being restored",
                Held,
            ),
            (login(Service::Pop3), "-ERR [AUTH] Authentication failed.", WrongPassword),
            (
                login(Service::Submission),
                "454 4.7.0 Temporary authentication failure.",
                Held,
            ),
            (
                login(Service::Submission),
                "535 5.7.8 Authentication failed.",
                WrongPassword,
            ),
            (
                login(Service::Sieve),
                "NO (TRYLATER) \"Temporary authentication failure.\"",
                Held,
            ),
            (login(Service::Sieve), "NO \"Authentication failed.\"", WrongPassword),
            (Kind::Lmtp, "451 4.3.0 <a@example.org> Temporary internal error", Held),
            (Kind::Lmtp, "550 5.1.1 <a@example.org> User doesn't exist", Permanent),
            (Kind::Lmtp, "250 2.1.5 OK", Admitted),
        ] {
            assert_eq!(way(kind).judge(said), wanted, "{said}");
        }
    }
}
