//! The rig's Dovecot, as tests will use it.

use std::fs;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tidegate_rig::{
    Dovecot, DovecotSpec, Format, Imap, LOOPBACK, MASTER_PASSWORD, PASSWORD, Service,
    User,
};

/// Somebody in each format.
fn spec() -> DovecotSpec {
    let users = Format::ALL.map(|format| User::new(&address(format), format)).to_vec();
    DovecotSpec { users, ..DovecotSpec::default() }
}

fn address(format: Format) -> String {
    format!("{}@example.org", format.name())
}

#[test]
fn every_service_takes_the_right_password_and_no_other() {
    // Guessers of passwords are kept waiting, and so would be this test.
    let config = "auth_failure_delay = 0\n\
                  service anvil {\n unix_listener anvil-auth-penalty {\n mode = 0\n }\n}\n";
    let dovecot = Dovecot::start(&DovecotSpec { config: config.to_owned(), ..spec() });
    let user = address(Format::Maildir);

    for (service, good, bad) in [
        (Service::Imap, "a OK", "a NO [AUTHENTICATIONFAILED]"),
        (Service::Webmail, "a OK", "a NO [AUTHENTICATIONFAILED]"),
        (Service::Pop3, "+OK", "-ERR [AUTH]"),
        (Service::Submission, "235 2.7.0", "535 5.7.8"),
        (Service::Sieve, "OK", "NO \"Auth"),
    ] {
        let (refused, _) = dovecot.login(service, &user, "wrong");
        assert!(refused.starts_with(bad), "{service:?}: {refused}");
        let (taken, _) = dovecot.login(service, &user, PASSWORD);
        assert!(taken.starts_with(good), "{service:?}: {taken}");
    }
    assert!(dovecot.rcpt(&user).starts_with("250 2.1.5"));
    assert!(dovecot.rcpt("nobody@example.org").starts_with("550 5.1.1"));
}

#[test]
fn mail_is_delivered_in_every_format_and_read_by_its_owner_and_the_master_user() {
    let dovecot = Dovecot::start(&spec());
    for format in Format::ALL {
        let user = address(format);
        let answer = dovecot.deliver(&user, b"Subject: one\n\n.\nbody\n");
        assert!(answer.starts_with("250 2.0.0"), "{answer}");
        let master = format!("{user}*probe");
        for mut imap in [
            dovecot.imap(&user),
            Imap::login(dovecot.ports().imap, &master, MASTER_PASSWORD),
        ] {
            imap.command("EXAMINE INBOX");
            let answers = imap.command("FETCH 1 BODY.PEEK[TEXT]");
            let literals: Vec<_> =
                answers.iter().filter_map(|it| it.literal.as_deref()).collect();
            assert_eq!(literals, [b".\r\nbody\r\n"]);
        }
        let mailbox = format!("example.org/{0}/{1}", format.name(), format.directory());
        assert!(dovecot.root().join(mailbox).is_dir());
    }
    assert!(dovecot.log().contains("saved mail to INBOX"));
}

#[test]
fn three_run_side_by_side_and_one_stops_and_comes_back_on_its_ports() {
    let mut nodes = ["stor-01", "stor-02", "stor-03"]
        .map(|name| Dovecot::start(&DovecotSpec { name: name.to_owned(), ..spec() }));
    let user = address(Format::Sdbox);
    assert!(nodes[1].deliver(&user, b"Subject: two\n\n").starts_with("250 "));

    nodes[1].stop();

    assert!(TcpStream::connect((LOOPBACK, nodes[1].ports().imap)).is_err());
    for other in [&nodes[0], &nodes[2]] {
        let seen = other.imap(&user).command("STATUS INBOX (MESSAGES)");
        assert_eq!(seen[0].text, "* STATUS INBOX (MESSAGES 0)");
    }
    nodes[1].resume();
    let seen = nodes[1].imap(&user).command("STATUS INBOX (MESSAGES)");
    assert_eq!(seen[0].text, "* STATUS INBOX (MESSAGES 1)");
}

#[test]
fn added_configuration_comes_before_the_passdb() {
    let mut dovecot = Dovecot::start(&spec());
    let denied = dovecot.dir().join("denied");
    let user = address(Format::Maildir);
    let line = format!("{user}:::::::nopassword nodelay reason=[UNAVAILABLE]\n");
    fs::write(&denied, line).unwrap();

    dovecot.add_config(&format!(
        "passdb {{\n driver = passwd-file\n args = username_format=%u {}\n deny = yes\n}}",
        denied.display()
    ));

    let (answer, _) = dovecot.login(Service::Imap, &user, PASSWORD);
    assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{answer}");
    let (answer, _) = dovecot.login(Service::Imap, &address(Format::Mdbox), PASSWORD);
    assert!(answer.starts_with("a OK"), "{answer}");
}

#[test]
fn it_is_gone_when_a_test_panics_and_says_why_it_cannot_start() {
    let mut port = 0;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let dovecot = Dovecot::start(&spec());
        port = dovecot.ports().imap;
        assert!(TcpStream::connect((LOOPBACK, port)).is_ok());
        dovecot.imap("nobody@example.org");
    }));
    assert!(panicked.is_err());
    assert!(TcpStream::connect((LOOPBACK, port)).is_err());

    let broken = DovecotSpec { config: "nonsense = yes\n".to_owned(), ..spec() };
    let said = catch_unwind(|| Dovecot::start(&broken)).unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.contains("Unknown setting: nonsense"), "{said}");
}
