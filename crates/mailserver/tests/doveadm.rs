//! Doveadm against real Dovecots, of both editions.
#![expect(clippy::unwrap_used, reason = "a broken test may stop")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_mailserver::doveadm::{
    AtLeast, CommandError, Credential, Doveadm, DoveadmError, DoveadmSpec, Flush, Session,
};
use tidegate_rig::{
    API_KEY, DEBIAN_13_ROOT, Debian13, Dovecot, DovecotPorts, DovecotSpec, Format, Imap,
    LOOPBACK, PASSWORD, PATIENCE, Service, User, debian_13_root, wait_until,
};

/// Every test is one for each Dovecot that we know.
macro_rules! on_both_editions {
    ($($name:ident)*) => {
        mod debian_12 {
            $(#[test] fn $name() {
                super::$name(&super::Edition::Debian12);
            })*
        }
        mod debian_13 {
            $(#[test] fn $name() {
                super::on_debian_13(super::$name);
            })*
        }
    };
}

on_both_editions! {
    whoever_is_logged_in_is_listed_and_can_be_disconnected
    counters_are_shown_and_raised
    a_user_is_told_as_the_userdb_has_it
    a_thousand_names_are_flushed_from_the_auth_cache
    several_dovecots_of_a_node_are_asked_together
    a_delivery_under_way_keeps_lmtp_busy
    who_cannot_be_asked_is_an_error_and_not_an_empty_list
    a_wildcard_in_a_name_disconnects_nobody_else
}

/// The Dovecots.
enum Edition {
    /// 2.3, as this machine has it installed.
    Debian12,
    /// 2.4, in this root directory.
    Debian13(PathBuf),
}

#[expect(clippy::print_stderr, reason = "what is not tested is said")]
fn on_debian_13(test: fn(&Edition)) {
    match debian_13_root() {
        Some(root) => test(&Edition::Debian13(root)),
        None => eprintln!("NOT TESTED: no Debian 13, see {DEBIAN_13_ROOT}"),
    }
}

fn whoever_is_logged_in_is_listed_and_can_be_disconnected(edition: &Edition) {
    let dovecot = Server::start(edition, &["ann", "bob", "carl"]);
    let doveadm = doveadm(&dovecot);
    let mut ann = dovecot.imap("ann@example.org");
    let (_, bob) = dovecot.ports().login(Service::Pop3, "bob@example.org", "pw");
    let (_, again) = dovecot.ports().login(Service::Pop3, "bob@example.org", "pw");

    let session = |user: &str, service: &str| Session {
        user: user.to_owned(),
        service: service.to_owned(),
    };
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 3));
    let mut who = doveadm.who().unwrap();
    who.sort();
    let bobs = session("bob@example.org", "pop3");
    assert_eq!(who, [session("ann@example.org", "imap"), bobs.clone(), bobs]);

    doveadm.kick(&["bob@example.org", "carl@example.org"], false).unwrap();
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 1), "bob stays");
    ann.command("NOOP");
    drop((bob, again));
}

fn counters_are_shown_and_raised(edition: &Edition) {
    let dovecot = Server::start(edition, &["ann"]);
    let doveadm = doveadm(&dovecot);
    dovecot.ports().deliver("ann@example.org", b"Subject: one\r\n\r\nfirst\r\n");
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

fn a_user_is_told_as_the_userdb_has_it(edition: &Edition) {
    let dovecot = Server::start(edition, &["ann"]);

    let told =
        doveadm(&dovecot).users(&["nobody@example.org", "ann@example.org"]).unwrap();

    let homes: Vec<_> =
        told.iter().map(|it| it.as_ref().map(|it| it.contains_key("home"))).collect();
    assert_eq!(homes, [None, Some(true)]);
}

fn a_thousand_names_are_flushed_from_the_auth_cache(edition: &Edition) {
    let dovecot =
        Server::with(edition, &["ann", "bob"], &|inside| cached(edition, inside));
    let doveadm = doveadm(&dovecot);
    drop((dovecot.imap("ann@example.org"), dovecot.imap("bob@example.org")));

    let names: Vec<String> = (0..1_000).map(|n| format!("user{n}@example.org")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("bob@example.org");
    let flushed = [Flush::Users(&names), Flush::Users(&names), Flush::All]
        .map(|flush| doveadm.auth_cache_flush(flush).unwrap() >= 1);
    // 2.4 is not asked at all: its interface breaks down at this command.
    let wanted = matches!(edition, Edition::Debian12);
    assert_eq!(flushed, [wanted, false, wanted]);
    let complaints = ["BUG", "Panic"].map(|word| dovecot.log().contains(word));
    assert_eq!(complaints, [false, false], "{}", dovecot.log());
}

fn several_dovecots_of_a_node_are_asked_together(edition: &Edition) {
    let (one, mut other) =
        (Server::start(edition, &["ann"]), Server::start(edition, &["ann"]));
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

fn a_delivery_under_way_keeps_lmtp_busy(edition: &Edition) {
    let dovecot = Server::start(edition, &["ann"]);
    let doveadm = doveadm(&dovecot);

    let mut delivery = dovecot.ports().lmtp();
    delivery.say("RCPT TO:<ann@example.org>", "250 ");
    assert!(wait_until(PATIENCE, || doveadm.busy("lmtp").unwrap() == Some(1)));
    delivery.say("RSET", "250 ");
    delivery.say("QUIT", "221 ");

    assert!(wait_until(PATIENCE, || doveadm.busy("lmtp").unwrap() == Some(0)));
    assert_eq!(doveadm.busy("no-such-service").unwrap(), None);
}

fn who_cannot_be_asked_is_an_error_and_not_an_empty_list(edition: &Edition) {
    let mut dovecot = Server::start(edition, &[]);
    let mut wrong = spec_of(&dovecot);
    wrong.credential = Credential::ApiKey("wrong".into());

    let refused = Doveadm::new(&wrong).who();
    assert!(
        matches!(refused, Err(DoveadmError::Refused { status: 401, .. })),
        "{refused:?}"
    );
    dovecot.stop();
    let silent = doveadm(&dovecot).who();
    assert!(matches!(silent, Err(DoveadmError::Silent { .. })), "{silent:?}");
}

fn a_wildcard_in_a_name_disconnects_nobody_else(edition: &Edition) {
    let anybody = |_: &Path| "auth_username_chars =\n".to_owned();
    let dovecot = Server::with(edition, &["ann?", "anna", "bob"], &anybody);
    let doveadm = doveadm(&dovecot);
    let odd = dovecot.imap("ann?@example.org");
    let mut anna = dovecot.imap("anna@example.org");
    let bob = dovecot.imap("bob@example.org");
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 3));

    let left = doveadm.kick(&["ann?@example.org", "bob@example.org"], true).unwrap();

    assert_eq!(left, 1, "anna would be disconnected too");
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 2), "bob stays");
    anna.command("NOOP");
    drop(anna);
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 1));
    assert_eq!(doveadm.kick(&["ann?@example.org"], true).unwrap(), 0);
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().is_empty()));
    let shown = doveadm.mailbox_status(&["ann?@example.org", "bob@example.org"]);
    let shown = shown.unwrap();
    assert!(matches!(&shown[..], [Err(CommandError::ManyUsers), Ok(_)]), "{shown:?}");
    drop((odd, bob));
}

/// A Lua passdb in front of all others, whose answers the auth cache keeps.
fn cached(edition: &Edition, inside: &Path) -> String {
    let script = inside.join("cached.lua");
    let script = script.display();
    match edition {
        Edition::Debian12 => format!(
            "auth_cache_size = 20M\n\
             passdb {{\n driver = lua\n args = file={script} blocking=no cache_key=%u\n}}\n"
        ),
        Edition::Debian13(_) => format!(
            "auth_cache_size = 20M\n\
             passdb cached {{\n driver = lua\n lua_file = {script}\n}}\n"
        ),
    }
}

const SCRIPT: &str = "function auth_passdb_lookup(request)\n\
    return dovecot.auth.PASSDB_RESULT_OK, { password = \"pw\" }\nend\n";

/// A Dovecot with doveadm's interface.
enum Server {
    Debian12(Dovecot),
    Debian13(Debian13),
}

impl Server {
    fn start(edition: &Edition, names: &[&str]) -> Self {
        Self::with(edition, names, &|_| String::new())
    }

    /// With more lines, which may name files in its directory as it sees it.
    fn with(edition: &Edition, names: &[&str], lines: &dyn Fn(&Path) -> String) -> Self {
        let addresses: Vec<String> =
            names.iter().map(|name| format!("{name}@example.org")).collect();
        match edition {
            Edition::Debian12 => {
                let users = addresses.iter().map(|it| User::new(it, Format::Maildir));
                let users = users.collect();
                let mut dovecot =
                    Dovecot::prepare(&DovecotSpec { users, ..DovecotSpec::default() });
                std::fs::write(dovecot.dir().join("cached.lua"), SCRIPT).unwrap();
                let lines = lines(dovecot.dir());
                dovecot.add_config(&lines);
                dovecot.resume();
                Self::Debian12(dovecot)
            }
            Edition::Debian13(root) => {
                let users: Vec<&str> = addresses.iter().map(String::as_str).collect();
                let mut dovecot = Debian13::prepare(root.clone(), &users, 1);
                std::fs::write(dovecot.dir().join("cached.lua"), SCRIPT).unwrap();
                let listener = format!(
                    "service doveadm {{\n inet_listener http {{\n  listen = 127.0.0.1\n  \
                     port = {}\n }}\n}}\n",
                    dovecot.ports().doveadm_http
                );
                let lines = lines(Path::new(&dovecot.dir_inside()));
                dovecot.start(&(listener + &lines));
                Self::Debian13(dovecot)
            }
        }
    }

    fn ports(&self) -> DovecotPorts {
        match self {
            Self::Debian12(dovecot) => dovecot.ports(),
            Self::Debian13(dovecot) => dovecot.ports(),
        }
    }

    fn imap(&self, user: &str) -> Imap {
        Imap::login(self.ports().imap, user, PASSWORD)
    }

    fn doveadm(&self, arguments: &[&str]) -> Result<String, String> {
        match self {
            Self::Debian12(dovecot) => dovecot.doveadm(arguments),
            Self::Debian13(dovecot) => dovecot.doveadm(arguments),
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Debian12(dovecot) => dovecot.log(),
            Self::Debian13(dovecot) => dovecot.log(),
        }
    }

    fn stop(&mut self) {
        match self {
            Self::Debian12(dovecot) => dovecot.stop(),
            Self::Debian13(dovecot) => dovecot.stop(),
        }
    }
}

fn doveadm(dovecot: &Server) -> Doveadm {
    Doveadm::new(&spec_of(dovecot))
}

fn spec_of(dovecot: &Server) -> DoveadmSpec {
    DoveadmSpec {
        urls: vec![format!("http://{LOOPBACK}:{}", dovecot.ports().doveadm_http)],
        credential: Credential::ApiKey(API_KEY.into()),
        deadline: Duration::from_secs(30),
    }
}
