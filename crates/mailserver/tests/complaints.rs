//! What Dovecot counts and logs when something is wrong, and when nothing is.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what cannot be done here fails the test"
)]

use std::fs::{self, File};
use std::path::Path;

use tidegate_mailserver::log::{Complaint, ComplaintKind, LogFollower};
use tidegate_mailserver::metrics::{Activity, Scrape};
use tidegate_rig::{
    Dovecot, DovecotSpec, Format, LOOPBACK, PASSWORD, PATIENCE, Service, User, wait_until,
};

#[test]
fn metrics_move_with_what_users_do() {
    let dovecot = start();
    let user = address(Format::Maildir);
    let before = scrape(&dovecot);
    for _ in 0..5 {
        deliver(&dovecot, &user);
    }
    assert!(dovecot.rcpt("nobody@example.org").starts_with("550 "));
    let (answer, _) = dovecot.login(Service::Imap, &user, "wrong");
    assert!(answer.starts_with("a NO"), "{answer}");
    let mut imap = dovecot.imap(&user);
    imap.command("SELECT INBOX");
    imap.command("FETCH 1:* BODY.PEEK[]");
    imap.try_command("STATUS nowhere (MESSAGES)", b"").unwrap_err();

    let now = activity(&dovecot, &before, |now| {
        now.commands >= Some(3) && now.deliveries >= Some(5) && now.refusals >= Some(1)
    });

    assert_eq!((now.lookups, now.login_failures), (Some(2), Some(1)));
    assert_eq!((now.commands, now.command_errors), (Some(3), Some(1)));
    assert_eq!(
        (now.deliveries, now.refusals, now.deferrals),
        (Some(5), Some(1), Some(0))
    );
    assert_eq!(now.storage_errors, Some(0));
    for p95 in [now.lookup_p95, now.command_p95, now.delivery_p95] {
        assert!(p95.is_some_and(|it| it < PATIENCE), "{now:?}");
    }
    let later = scrape(&dovecot);
    assert_eq!(later.since(&later).activity().deliveries, Some(0));
}

#[test]
fn a_truncated_message_is_counted_and_its_owner_is_named() {
    let dovecot = start();
    let mut follower = LogFollower::from_end(&dovecot.log_file()).unwrap();
    for format in Format::ALL {
        let user = address(format);
        let before = scrape(&dovecot);
        deliver(&dovecot, &user);
        truncate(&dovecot.root().join("example.org").join(format.name()));
        let (answer, mut talk) = dovecot.login(Service::Imap, &user, PASSWORD);
        assert!(answer.starts_with("a OK"), "{answer}");
        talk.send("b SELECT INBOX");
        talk.send("c FETCH 1 BODY.PEEK[]");
        while talk.try_read().is_some_and(|line| !line.starts_with("c ")) {}

        let now = activity(&dovecot, &before, |now| now.storage_errors >= Some(1));
        let complaint = wait_for(&mut follower, |_| true);

        assert!(now.storage_errors.is_some_and(|it| it < 10), "{now:?}");
        assert_eq!(complaint.user.as_deref(), Some(user.as_str()), "{complaint:?}");
        assert_eq!(complaint.service, "imap");
        let kinds = [ComplaintKind::BrokenSize, ComplaintKind::Corrupted];
        assert!(kinds.contains(&complaint.kind), "{complaint:?}");
        while follower.look(&mut |_| {}).unwrap().lines > 0 {}
    }
}

#[test]
fn a_log_is_followed_over_its_rotation() {
    let dovecot = start();
    let user = address(Format::Sdbox);
    let path = dovecot.log_file();
    let mut follower = LogFollower::from_end(&path).unwrap();
    deliver(&dovecot, &user);
    remove_mail(&dovecot.root().join("example.org").join("sdbox"));

    fs::rename(&path, path.with_extension("log.1")).unwrap();
    let doveadm = dovecot.doveadm(&["log", "reopen"]);

    assert_eq!(doveadm, Ok(String::new()));
    assert!(wait_until(PATIENCE, || path.exists()));
    let mut imap = dovecot.imap(&user);
    imap.command("SELECT INBOX");
    let _ = imap.try_command("FETCH 1 BODY.PEEK[]", b"");
    let complaint = wait_for(&mut follower, |it| it.kind == ComplaintKind::Lost);
    assert_eq!(complaint.user, Some(user));
}

fn start() -> Dovecot {
    let config = "auth_failure_delay = 0\nservice anvil {\n \
                  unix_listener anvil-auth-penalty {\n mode = 0\n }\n}\n";
    let users = Format::ALL.map(|format| User::new(&address(format), format)).to_vec();
    Dovecot::start(&DovecotSpec {
        users,
        config: config.to_owned(),
        ..DovecotSpec::default()
    })
}

fn address(format: Format) -> String {
    format!("{}@example.org", format.name())
}

fn deliver(dovecot: &Dovecot, user: &str) {
    let message = format!("Subject: x\n\n{}", "a line like any other\n".repeat(2000));
    let answer = dovecot.deliver(user, message.as_bytes());
    assert!(answer.starts_with("250 "), "{answer}");
}

fn scrape(dovecot: &Dovecot) -> Scrape {
    let url = format!("http://{LOOPBACK}:{}/metrics", dovecot.ports().metrics);
    Scrape::get(&url, PATIENCE).unwrap()
}

/// What was counted since then, as soon as it is enough: Dovecot counts a little later.
fn activity(
    dovecot: &Dovecot,
    before: &Scrape,
    enough: impl Fn(&Activity) -> bool,
) -> Activity {
    let mut now = Activity::default();
    let came = wait_until(PATIENCE, || {
        now = scrape(dovecot).since(before).activity();
        enough(&now)
    });
    assert!(came, "{now:?}");
    now
}

fn wait_for(
    follower: &mut LogFollower,
    wanted: impl Fn(&Complaint) -> bool,
) -> Complaint {
    let mut found = None;
    let came = wait_until(PATIENCE, || {
        let look = follower.look(&mut |it| {
            if found.is_none() && wanted(&it) {
                found = Some(it);
            }
        });
        look.unwrap();
        found.is_some()
    });
    assert!(came, "nobody complains");
    found.unwrap()
}

/// The only file with mail in it.
fn mail_file(mailbox: &Path) -> std::path::PathBuf {
    let mut waiting = vec![mailbox.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else if fs::metadata(&path).unwrap().len() > 40_000 {
                return path;
            }
        }
    }
    panic!("no mail in {}", mailbox.display());
}

fn truncate(mailbox: &Path) {
    let file = File::options().write(true).open(mail_file(mailbox)).unwrap();
    file.set_len(10_000).unwrap();
}

fn remove_mail(mailbox: &Path) {
    fs::remove_file(mail_file(mailbox)).unwrap();
}
