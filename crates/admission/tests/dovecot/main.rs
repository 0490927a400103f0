//! Our files and our endpoint in a real Dovecot: what users see, word for word.
#![expect(clippy::unwrap_used, reason = "a broken test may stop")]

mod gate;
mod site;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use expect_test::expect;
use gate::{Broken, HELD, TOP};
use site::{ANNA, BERT, Edition, NOBODY, PREFETCHED_PASSWORD, Site};
use tidegate_admission::{Language, Notice, Notices, Standing, Window, Zone};
use tidegate_rig::{
    API_KEY, DEBIAN_13_ROOT, PASSWORD, PATIENCE, PROBE, PROBE_PASSWORD, Service, Talk,
    wait_until,
};

/// Less than the shortest of Dovecot's punishments for failed logins.
const AT_ONCE: Duration = Duration::from_millis(1_900);

/// Every test is one for each Dovecot that our files are for.
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
    a_held_user_is_told_to_wait_and_never_that_his_password_is_wrong
    a_user_whom_nobody_knows_looks_like_one_who_is_held
    whoever_does_not_send_his_password_is_not_told_that_it_is_wrong
    a_user_is_told_his_hours_in_his_language
    an_open_user_comes_in_everywhere_and_a_wrong_password_is_called_so
    services_come_back_rung_by_rung_and_go_again_at_the_next_question
    without_a_gate_everybody_waits_and_nobody_slips_through
    after_an_outage_of_the_gate_the_first_who_comes_is_let_in
    an_answer_that_comes_too_late_is_not_taken_for_the_answer_to_another_question
    a_restart_of_the_gate_is_not_noticed_by_those_who_come_afterwards
    postfix_may_check_passwords_of_held_users_and_doveadm_reaches_them
    nobody_is_punished_for_held_users_behind_the_same_address
    the_auth_cache_neither_keeps_anybody_out_nor_lets_anybody_in
    a_provider_whose_passwords_come_with_the_mailbox_keeps_his_way
    the_probes_read_open_mailboxes_and_nothing_else
    the_probes_come_from_this_machine_or_not_at_all
    other_master_users_do_not_get_past_the_gate
    the_worker_finds_doveadm_and_the_counters_where_the_files_put_them
}

#[expect(clippy::print_stderr, reason = "whoever reads the output shall know")]
fn on_debian_13(test: fn(&Edition)) {
    match Edition::debian_13() {
        Some(edition) => test(&edition),
        None => eprintln!("NOT TESTED: no Debian 13, see {DEBIAN_13_ROOT}"),
    }
}

fn a_held_user_is_told_to_wait_and_never_that_his_password_is_wrong(edition: &Edition) {
    let site = Site::start(edition);
    site.gate.set(ANNA, HELD);

    expect![[r#"
        Imap: a NO [UNAVAILABLE] Your mailbox is being restored and will be back soon. Your password has not changed.
        Webmail: a NO [UNAVAILABLE] Your mailbox is being restored and will be back soon. Your password has not changed.
        Pop3: -ERR [SYS/TEMP] Your mailbox is being restored and will be back soon. Your password has not changed.
        Submission: 454 4.7.0 Temporary authentication failure.
        Sieve: NO (TRYLATER) "Temporary authentication failure."
        Lmtp: 451 4.3.0 <anna@example.org> Temporary internal error"#]].assert_eq(&site.replies(ANNA));

    for service in Service::ALL {
        let right = site.login(service, ANNA, PASSWORD);
        let wrong = site.login(service, ANNA, "wrong");
        assert_eq!(right, wrong, "{service:?}");
    }
}

fn a_user_whom_nobody_knows_looks_like_one_who_is_held(edition: &Edition) {
    let site = Site::start(edition);
    site.gate.set(ANNA, HELD);

    assert_eq!(site.replies(NOBODY).replace("nobody", "anna"), site.replies(ANNA));
}

fn whoever_does_not_send_his_password_is_not_told_that_it_is_wrong(edition: &Edition) {
    let mechanisms = "auth_mechanisms = plain login cram-md5\n";
    let site = Site::with(edition, &format!("{mechanisms}{}", edition.no_delay()));
    site.gate.set(ANNA, HELD);
    site.gate.set(BERT, TOP);
    // A digest of no password at all: for held users it does not matter.
    let login = |user: &str| {
        let mut talk = Talk::connect(site.ports().imap);
        talk.expect("* OK");
        talk.say("a AUTHENTICATE CRAM-MD5", "+ ");
        talk.ask(&STANDARD.encode(format!("{user} {}", "0".repeat(32))))
    };

    for user in [ANNA, NOBODY] {
        let answer = login(user);
        assert!(answer.starts_with("a NO [UNAVAILABLE] Temporary"), "{answer}");
    }
    assert_eq!(login(BERT), "a NO [AUTHENTICATIONFAILED] Authentication failed.");
}

fn a_user_is_told_his_hours_in_his_language(edition: &Edition) {
    let site = Site::start(edition);
    site.gate.doors.set_notices(Notices {
        default_language: Language::Italian,
        zone: Some(Zone::named("Europe/Rome").unwrap()),
    });
    // 14:00 to 18:00 on a day far ahead, as the gate goes by the real clock.
    let back = Some(Window { from_unix: 4_924_933_200, to_unix: 4_924_947_600 });
    let english = Some(Language::English);
    site.gate.doors.describe([
        (ANNA, None, Notice { language: None, back }),
        (BERT, None, Notice { language: english, back }),
    ]);

    let told = [Service::Imap, Service::Pop3].map(|service| {
        [ANNA, BERT].map(|user| site.login(service, user, PASSWORD)).join("\n")
    });

    expect![[r"
        a NO [UNAVAILABLE] Stiamo ripristinando la casella di posta: il ritorno in servizio si prevede tra le ore 14:00 e le 18:00 del 24 gennaio. La password resta la stessa.
        a NO [UNAVAILABLE] Your mailbox is being restored and is expected back between 14:00 and 18:00 on 24 January. Your password has not changed.
        -ERR [SYS/TEMP] Stiamo ripristinando la casella di posta: il ritorno in servizio si prevede tra le ore 14:00 e le 18:00 del 24 gennaio. La password resta la stessa.
        -ERR [SYS/TEMP] Your mailbox is being restored and is expected back between 14:00 and 18:00 on 24 January. Your password has not changed."]].assert_eq(&told.join("\n"));
}

fn an_open_user_comes_in_everywhere_and_a_wrong_password_is_called_so(edition: &Edition) {
    let site = Site::start(edition);
    site.gate.set(ANNA, TOP);

    expect![[r#"
        Imap: a OK Logged in
        Webmail: a OK Logged in
        Pop3: +OK Logged in.
        Submission: 235 2.7.0 Logged in.
        Sieve: OK "Logged in."
        Lmtp: 250 2.1.5 OK"#]]
    .assert_eq(&site.replies(ANNA));

    assert_eq!(site.rcpt("Anna+news@Example.org"), "250 2.1.5 OK");
    let wrong = Service::ALL.map(|service| site.login(service, ANNA, "wrong"));
    expect![[r#"
        a NO [AUTHENTICATIONFAILED] Authentication failed.
        a NO [AUTHENTICATIONFAILED] Authentication failed.
        -ERR [AUTH] Authentication failed.
        535 5.7.8 Authentication failed.
        NO "Authentication failed.""#]]
    .assert_eq(&wrong.join("\n"));
}

fn services_come_back_rung_by_rung_and_go_again_at_the_next_question(edition: &Edition) {
    let site = Site::start(edition);
    let admitted = || {
        let replies = site.replies(ANNA);
        let good = |line: &&str| {
            [": a OK", ": +OK", ": 235", ": OK", ": 250"]
                .iter()
                .any(|ok| line.contains(ok))
        };
        let names =
            replies.lines().filter(good).filter_map(|line| line.split(':').next());
        names.collect::<Vec<_>>().join(" ")
    };

    let mut seen = String::new();
    for standing in [0, 1, 2, 3, 4, 2, 0].map(Standing::Level) {
        site.gate.set(ANNA, standing);
        writeln!(seen, "{standing:?}: {}", admitted()).unwrap();
    }
    site.gate.doors.set_dial_services(vec!["lmtp".to_owned(), "webmail".to_owned()]);
    site.gate.set(ANNA, Standing::DialTone);
    writeln!(seen, "dial tone: {}", admitted()).unwrap();

    expect![[r"
        Level(0): 
        Level(1): Lmtp
        Level(2): Webmail Lmtp
        Level(3): Imap Webmail Pop3 Submission Lmtp
        Level(4): Imap Webmail Pop3 Submission Sieve Lmtp
        Level(2): Webmail Lmtp
        Level(0): 
        dial tone: Webmail Lmtp
    "]]
    .assert_eq(&seen);
}

fn without_a_gate_everybody_waits_and_nobody_slips_through(edition: &Edition) {
    let mut site = Site::start(edition);
    site.gate.set(ANNA, TOP);
    let open = site.replies(ANNA);

    site.gate.stop();
    let waiting = site.replies(ANNA);
    expect![[r#"
        Imap: a NO [UNAVAILABLE] Temporary authentication failure.
        Webmail: a NO [UNAVAILABLE] Temporary authentication failure.
        Pop3: -ERR [SYS/TEMP] Temporary authentication failure.
        Submission: 454 4.7.0 Temporary authentication failure.
        Sieve: NO (TRYLATER) "Temporary authentication failure."
        Lmtp: 451 4.3.0 <anna@example.org> Temporary internal error"#]]
    .assert_eq(&waiting);
    assert_eq!(site.replies(NOBODY).replace("nobody", "anna"), waiting);

    for how in [Broken::Status500, Broken::Nonsense, Broken::Silent] {
        site.gate.break_down(how);
        assert_eq!(site.replies(ANNA), waiting, "{how:?}");
    }

    site.gate.resume();
    assert_eq!(site.replies(ANNA), open);
}

fn after_an_outage_of_the_gate_the_first_who_comes_is_let_in(edition: &Edition) {
    let mut site = Site::start(edition);
    site.gate.set(ANNA, TOP);

    for _ in 0..3 {
        site.gate.stop();
        for _ in 0..8 {
            assert!(site.rcpt(ANNA).starts_with("451 4.3.0"));
        }
        let answer = site.login(Service::Pop3, ANNA, PASSWORD);
        assert!(answer.starts_with("-ERR [SYS/TEMP]"), "{answer}");
        site.gate.resume();

        assert_eq!(site.rcpt(ANNA), "250 2.1.5 OK");
        assert_eq!(site.login(Service::Pop3, ANNA, PASSWORD), "+OK Logged in.");
    }
}

fn an_answer_that_comes_too_late_is_not_taken_for_the_answer_to_another_question(
    edition: &Edition,
) {
    let mut site = Site::start(edition);
    site.gate.break_down(Broken::Late);

    for _ in 0..4 {
        for user in [ANNA, BERT] {
            let answer = site.login(Service::Imap, user, PASSWORD);
            assert!(answer.starts_with("a NO [UNAVAILABLE]"), "{answer}");
        }
    }

    site.gate.set(ANNA, TOP);
    site.gate.resume();
    assert_eq!(site.login(Service::Imap, ANNA, PASSWORD), "a OK Logged in");
}

fn a_restart_of_the_gate_is_not_noticed_by_those_who_come_afterwards(edition: &Edition) {
    let mut site = Site::start(edition);
    site.gate.set(ANNA, TOP);
    site.gate.set(BERT, HELD);
    let (open, held) = (site.replies(ANNA), site.replies(BERT));

    for _ in 0..3 {
        site.gate.resume();

        assert_eq!(site.replies(ANNA), open);
        assert_eq!(site.replies(BERT), held);
    }
}

fn postfix_may_check_passwords_of_held_users_and_doveadm_reaches_them(edition: &Edition) {
    let mut site = Site::start(edition);
    site.gate.set(ANNA, HELD);
    let smtp =
        |password| site.doveadm(&["auth", "test", "-x", "service=smtp", ANNA, password]);
    let status =
        |user| site.doveadm(&["mailbox", "status", "-u", user, "messages", "INBOX"]);

    assert!(smtp(PASSWORD).unwrap().contains("auth succeeded"));
    assert!(smtp("wrong").unwrap_err().contains("auth failed"));
    assert_eq!(status(ANNA).unwrap(), "INBOX messages=0\n");
    assert!(status(NOBODY).unwrap_err().contains("User doesn't exist"));

    site.gate.stop();
    assert!(
        site.doveadm(&["auth", "test", "-x", "service=smtp", ANNA, PASSWORD]).is_ok()
    );
}

fn nobody_is_punished_for_held_users_behind_the_same_address(edition: &Edition) {
    // With all the delays that Dovecot has.
    let site = Site::with(edition, "");
    site.gate.set(ANNA, HELD);
    site.gate.set(BERT, TOP);
    for _ in 0..12 {
        site.login(Service::Imap, ANNA, PASSWORD);
        site.login(Service::Pop3, ANNA, PASSWORD);
    }
    site.login(Service::Submission, ANNA, PASSWORD);
    site.login(Service::Sieve, ANNA, PASSWORD);

    for service in Service::ALL {
        let start = Instant::now();
        site.login(service, BERT, PASSWORD);
        assert!(start.elapsed() < AT_ONCE, "{service:?}: {:?}", start.elapsed());
    }
}

fn the_auth_cache_neither_keeps_anybody_out_nor_lets_anybody_in(edition: &Edition) {
    let cache = "auth_cache_size = 10M\nauth_cache_negative_ttl = 1 hour\n";
    let site = Site::with(edition, &format!("{cache}{}", edition.no_delay()));
    let imap = || site.login(Service::Imap, ANNA, PASSWORD);
    let webmail = || site.login(Service::Webmail, ANNA, PASSWORD);

    for (standing, by_imap, by_webmail) in [
        (HELD, "a NO [UNAVAILABLE]", "a NO [UNAVAILABLE]"),
        (Standing::Level(2), "a NO [UNAVAILABLE]", "a OK"),
        (TOP, "a OK", "a OK"),
        (HELD, "a NO [UNAVAILABLE]", "a NO [UNAVAILABLE]"),
    ] {
        site.gate.set(ANNA, standing);
        for _ in 0..2 {
            assert!(webmail().starts_with(by_webmail), "{standing:?}: {}", webmail());
            assert!(imap().starts_with(by_imap), "{standing:?}: {}", imap());
        }
    }
    let flushed = site.doveadm(&["auth", "cache", "flush", ANNA]).unwrap();
    assert!(flushed.contains("cache entries flushed"), "{flushed}");
    assert!(imap().starts_with("a NO [UNAVAILABLE]"));
}

fn a_provider_whose_passwords_come_with_the_mailbox_keeps_his_way(edition: &Edition) {
    let config = edition.prefetch();
    let site = Site::with(edition, &format!("{config}{}", edition.no_delay()));
    let login = |service| site.login(service, ANNA, PREFETCHED_PASSWORD);

    site.gate.set(ANNA, HELD);
    assert!(login(Service::Imap).starts_with("a NO [UNAVAILABLE]"));
    assert!(!site.dir().join("prefetched").exists());

    site.gate.set(ANNA, TOP);
    assert_eq!(login(Service::Imap), "a OK Logged in");
    assert_eq!(login(Service::Pop3), "+OK Logged in.");
    let mailbox = site.dir().join("prefetched/Maildir");
    assert!(wait_until(PATIENCE, || mailbox.exists()));
    assert_eq!(site.rcpt(ANNA), "250 2.1.5 OK");

    site.gate.set(ANNA, Standing::Level(1));
    assert!(login(Service::Imap).starts_with("a NO [UNAVAILABLE]"));
}

fn the_probes_read_open_mailboxes_and_nothing_else(edition: &Edition) {
    let site = Site::start(edition);
    let probe = |service, user: &str, password: &str| {
        site.login(service, &format!("{user}*{PROBE}"), password)
    };
    site.gate.set(ANNA, TOP);
    site.gate.set(BERT, HELD);

    assert_eq!(probe(Service::Imap, ANNA, PROBE_PASSWORD), "a OK Logged in");
    let mut refused = String::new();
    for (user, password) in
        [(ANNA, "wrong"), (BERT, PROBE_PASSWORD), (NOBODY, PROBE_PASSWORD)]
    {
        writeln!(refused, "{user}: {}", probe(Service::Imap, user, password)).unwrap();
    }
    for service in [Service::Pop3, Service::Submission, Service::Sieve] {
        writeln!(refused, "{service:?}: {}", probe(service, ANNA, PROBE_PASSWORD))
            .unwrap();
    }
    expect![[r#"
        anna@example.org: a NO [AUTHENTICATIONFAILED] Authentication failed.
        bert@example.org: a NO [AUTHORIZATIONFAILED] [UNAVAILABLE] Your mailbox is being restored and will be back soon. Your password has not changed.
        nobody@example.org: a NO [AUTHORIZATIONFAILED] [UNAVAILABLE] Your mailbox is being restored and will be back soon. Your password has not changed.
        Pop3: -ERR [AUTH] Authentication failed.
        Submission: 535 5.7.8 Authentication failed.
        Sieve: NO "Authentication failed."
    "#]].assert_eq(&refused);

    // Known to us, not to the provider.
    site.gate.set(NOBODY, TOP);
    assert!(probe(Service::Imap, NOBODY, PROBE_PASSWORD).starts_with("a NO"));
}

fn the_probes_come_from_this_machine_or_not_at_all(edition: &Edition) {
    let site = Site::start(edition);
    site.gate.set(ANNA, TOP);
    let file = site.dir().join(PROBE);
    let text = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, text.replace("127.0.0.1/32", "192.0.2.1/32")).unwrap();
    site.doveadm(&["reload"]).unwrap();

    let login = || site.login(Service::Imap, &format!("{ANNA}*{PROBE}"), PROBE_PASSWORD);
    assert!(wait_until(PATIENCE, || login().starts_with("a NO")));
}

fn other_master_users_do_not_get_past_the_gate(edition: &Edition) {
    // As many webmails and support desks have them: valid for everybody, without a lookup.
    let site = Site::start(edition);
    let login = || {
        let master = format!("{ANNA}*{}", tidegate_rig::MASTER);
        let password = tidegate_rig::MASTER_PASSWORD;
        let mut talk = Talk::connect(site.ports().imap);
        talk.expect("* OK");
        talk.send(&format!("a LOGIN {master} {password}"));
        talk.try_read()
    };
    site.gate.set(ANNA, TOP);
    assert!(login().is_some_and(|answer| answer.starts_with("a OK")));

    site.gate.set(ANNA, HELD);
    for _ in 0..5 {
        let answer = login();
        assert!(!answer.as_ref().is_some_and(|it| it.starts_with("a OK")), "{answer:?}");
    }
}

fn the_worker_finds_doveadm_and_the_counters_where_the_files_put_them(edition: &Edition) {
    let site = Site::start(edition);
    site.gate.set(ANNA, TOP);
    site.login(Service::Imap, ANNA, PASSWORD);
    site.rcpt(ANNA);
    let ports = site.ports();

    let metrics = get(ports.metrics, "/metrics", "");
    let key = STANDARD.encode(API_KEY);
    let commands = |key: &str| {
        get(
            ports.doveadm_http,
            "/doveadm/v1",
            &format!("Authorization: X-Dovecot-API {key}\r\n"),
        )
    };

    for name in ["auth_failures", "passdb", "userdb", "imap_command", "lmtp_cmd"] {
        assert!(metrics.contains(&format!("dovecot_{name}_")), "{name}:\n{metrics}");
    }
    assert!(commands(&key).starts_with("HTTP/1.1 200"), "{}", commands(&key));
    assert!(commands("").starts_with("HTTP/1.1 401"), "{}", commands(""));
}

fn get(port: u16, path: &str, header: &str) -> String {
    let mut talk = Talk::connect(port);
    talk.send(&format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}"
    ));
    let mut text = String::new();
    while let Some(line) = talk.try_read() {
        text += &line;
        text.push('\n');
    }
    text
}
