//! Doveadm against a real Dovecot.

use std::time::Duration;

use tidegate_mailserver::doveadm::{
    AtLeast, CommandError, Credential, Doveadm, DoveadmError, DoveadmSpec, Flush, Session,
};
use tidegate_rig::{
    API_KEY, Dovecot, DovecotSpec, Format, LOOPBACK, PATIENCE, Service, User, wait_until,
};

/// A Lua passdb and userdb in front of all others, whose answers the auth cache keeps.
const CACHED: &str = "auth_cache_size = 20M\n\
    passdb {\n driver = lua\n args = file=@script@ blocking=no cache_key=%u\n}\n";

const SCRIPT: &str = "function auth_passdb_lookup(request)\n\
    return dovecot.auth.PASSDB_RESULT_OK, { password = \"pw\" }\nend\n";

#[test]
fn whoever_is_logged_in_is_listed_and_can_be_disconnected() {
    let dovecot = Dovecot::start(&spec(&["ann", "bob", "carl"]));
    let doveadm = doveadm(&dovecot);
    let mut ann = dovecot.imap("ann@example.org");
    let (_, bob) = dovecot.login(Service::Pop3, "bob@example.org", "pw");
    let (_, again) = dovecot.login(Service::Pop3, "bob@example.org", "pw");

    let session = |user: &str, service: &str| Session {
        user: user.to_owned(),
        service: service.to_owned(),
    };
    let mut who = doveadm.who().unwrap();
    who.sort();
    let bobs = session("bob@example.org", "pop3");
    assert_eq!(who, [session("ann@example.org", "imap"), bobs.clone(), bobs]);

    doveadm.kick(&["bob@example.org", "carl@example.org"], false).unwrap();
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 1), "bob stays");
    ann.command("NOOP");
    drop((bob, again));
}

#[test]
fn counters_are_shown_and_raised() {
    let dovecot = Dovecot::start(&spec(&["ann"]));
    let doveadm = doveadm(&dovecot);
    dovecot.deliver("ann@example.org", b"Subject: one\r\n\r\nfirst\r\n");
    dovecot
        .doveadm(&["mailbox", "create", "-u", "ann@example.org", "Post/Ämter"])
        .unwrap();

    let least = AtLeast { uid_next: Some(500), modseq: Some(700) };
    doveadm.mailbox_update("ann@example.org", "INBOX", least).unwrap();
    let all = doveadm.mailbox_status(&["ann@example.org", "nobody@example.org"]).unwrap();

    let [Ok(folders), Err(CommandError::NoSuchUser)] = &all[..] else {
        unreachable!("{all:?}")
    };
    let mut shown: Vec<_> =
        folders.iter().map(|it| (it.name.as_str(), it.messages, it.uid_next)).collect();
    shown.sort_unstable();
    assert_eq!(shown, [("INBOX", 1, 500), ("Post/Ämter", 0, 1)]);
    assert!(folders.iter().all(|folder| folder.uid_validity > 0));
}

#[test]
fn a_user_is_told_as_the_userdb_has_it() {
    let dovecot = Dovecot::start(&spec(&["ann"]));

    let told =
        doveadm(&dovecot).users(&["nobody@example.org", "ann@example.org"]).unwrap();

    let homes: Vec<_> =
        told.iter().map(|it| it.as_ref().map(|it| it.contains_key("home"))).collect();
    assert_eq!(homes, [None, Some(true)]);
}

#[test]
fn a_thousand_names_are_flushed_from_the_auth_cache() {
    let dir = tidegate_rig::open_directory();
    let script = dir.path().join("cached.lua");
    std::fs::write(&script, SCRIPT).unwrap();
    let config = CACHED.replace("@script@", script.to_str().unwrap());
    let dovecot = Dovecot::start(&DovecotSpec { config, ..spec(&["ann", "bob"]) });
    let doveadm = doveadm(&dovecot);
    drop((dovecot.imap("ann@example.org"), dovecot.imap("bob@example.org")));

    let names: Vec<String> = (0..1_000).map(|n| format!("user{n}@example.org")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("bob@example.org");
    assert!(doveadm.auth_cache_flush(Flush::Users(&names)).unwrap() >= 1);
    assert_eq!(doveadm.auth_cache_flush(Flush::Users(&names)).unwrap(), 0);
    assert!(doveadm.auth_cache_flush(Flush::All).unwrap() >= 1);
    assert!(!dovecot.log().contains("BUG"), "{}", dovecot.log());
}

#[test]
fn several_dovecots_of_a_node_are_asked_together() {
    let (one, mut other) =
        (Dovecot::start(&spec(&["ann"])), Dovecot::start(&spec(&["ann"])));
    let mut both = spec_of(&one);
    both.urls.extend(spec_of(&other).urls);
    let doveadm = Doveadm::new(&both);
    let sessions = (one.imap("ann@example.org"), other.imap("ann@example.org"));

    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 2));
    doveadm.kick(&["ann@example.org"], false).unwrap();
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().is_empty()));
    assert_eq!(doveadm.busy("lmtp").unwrap(), Some(0));
    drop(sessions);

    other.stop();
    assert!(doveadm.who().is_err(), "one that is silent may have anybody");
}

#[test]
fn a_delivery_under_way_keeps_lmtp_busy() {
    let dovecot = Dovecot::start(&spec(&["ann"]));
    let doveadm = doveadm(&dovecot);

    let mut delivery = dovecot.lmtp();
    delivery.say("RCPT TO:<ann@example.org>", "250 ");
    assert!(wait_until(PATIENCE, || doveadm.busy("lmtp").unwrap() == Some(1)));
    delivery.say("RSET", "250 ");
    delivery.say("QUIT", "221 ");

    assert!(wait_until(PATIENCE, || doveadm.busy("lmtp").unwrap() == Some(0)));
    assert_eq!(doveadm.busy("no-such-service").unwrap(), None);
}

#[test]
fn who_cannot_be_asked_is_an_error_and_not_an_empty_list() {
    let mut dovecot = Dovecot::start(&spec(&[]));
    let mut wrong = spec_of(&dovecot);
    wrong.credential = Credential::ApiKey("wrong".to_owned());

    let refused = Doveadm::new(&wrong).who();
    assert!(
        matches!(refused, Err(DoveadmError::Refused { status: 401, .. })),
        "{refused:?}"
    );
    dovecot.stop();
    let silent = doveadm(&dovecot).who();
    assert!(matches!(silent, Err(DoveadmError::Silent { .. })), "{silent:?}");
}

fn spec(names: &[&str]) -> DovecotSpec {
    let user = |name: &&str| User::new(&format!("{name}@example.org"), Format::Maildir);
    DovecotSpec { users: names.iter().map(user).collect(), ..DovecotSpec::default() }
}

fn doveadm(dovecot: &Dovecot) -> Doveadm {
    Doveadm::new(&spec_of(dovecot))
}

fn spec_of(dovecot: &Dovecot) -> DoveadmSpec {
    DoveadmSpec {
        urls: vec![format!("http://{LOOPBACK}:{}", dovecot.ports().doveadm_http)],
        credential: Credential::ApiKey(API_KEY.to_owned()),
        deadline: Duration::from_secs(30),
    }
}
