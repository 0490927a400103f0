//! Debian's Postfix with the lines we ship: what waits, what is delivered, and what would be
//! lost if the traps were stepped into.
//!
//! # Invariants
//!
//! * Postfix judges: its log, its queue and what arrives at the node, not our own words.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod coordinator;
mod sink;
mod site;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use site::{MAIN, MASTER, Site};
use tidegate_admission::{Doors, Ladder, Rung, Standing};
use tidegate_rig::{
    Dovecot, DovecotSpec, Format, LOOPBACK, PATIENCE, Postfix, PostfixSpec, User,
    wait_until,
};

const ANNA: &str = "anna@example.org";
const BERT: &str = "bert@example.org";
const CARLA: &str = "carla@example.org";

#[test]
fn mail_for_a_held_mailbox_waits_and_arrives_once_within_seconds_of_its_opening() {
    let site = Site::start();
    site.ready();
    let said = site.send(&[ANNA], "one");
    assert!(said.to[0].starts_with("250 ") && said.end.unwrap().starts_with("250 "));
    site.send(&["Anna+shops@Example.ORG"], "two");
    site.waiting(2);
    let reported = wait_until(PATIENCE, || {
        site.coordinator.report().is_some_and(|report| {
            report.waves.first().is_some_and(|queue| {
                (queue.messages, queue.open_recipients) == (2, 0)
                    && queue.oldest_at.is_some()
            })
        })
    });
    assert!(reported, "{:?}", site.coordinator.report());
    assert_eq!(site.sink.refused(), 0, "a held mailbox's node is not even asked");

    site.sink.open("Anna+shops@Example.ORG");
    site.open(ANNA);

    let both = wait_until(Duration::from_secs(20), || site.postfix.queue().is_empty());
    assert!(both, "{}", site.postfix.log());
    assert_eq!(site.sink.delivered(ANNA), ["one"]);
    assert_eq!(site.sink.delivered("Anna+shops@Example.ORG"), ["two"]);
    let drained = wait_until(PATIENCE, || {
        site.coordinator.report().is_some_and(|report| {
            report.waves.first().is_some_and(|it| (it.messages, it.flushed) == (0, 2))
        })
    });
    assert!(drained, "{:?}", site.coordinator.report());
    site.nothing_bounced();
}

#[test]
fn what_comes_after_the_opening_is_delivered_at_once_and_after_a_reclose_waits_again() {
    let site = Site::start();
    site.ready();
    site.open(ANNA);
    let goes = || {
        site.send(&[ANNA], "probe").end.is_some() && site.sink.delivered(ANNA).len() > 1
    };
    assert!(wait_until(PATIENCE, goes), "{}", site.postfix.log());

    // As Tidegate closes: first no more mail comes, then the mailbox closes.
    site.coordinator.hold(ANNA);
    let held = wait_until(PATIENCE, || {
        site.send(&[ANNA], "late");
        site.postfix.queue().iter().any(|it| it.contains("deferred transport"))
    });
    assert!(held, "{}", site.postfix.log());
    site.sink.hold(ANNA);
    site.send(&[ANNA], "later");
    let before = site.sink.delivered(ANNA).len();
    site.open(ANNA);

    assert!(wait_until(PATIENCE, || site.postfix.queue().is_empty()));
    let got = site.sink.delivered(ANNA);
    assert!(got.len() > before);
    assert_eq!(got.iter().filter(|subject| *subject == "later").count(), 1);
    let sent = site.postfix.logged("status=sent").len();
    assert_eq!(sent, got.len(), "each was delivered once");
    site.nothing_bounced();
}

#[test]
fn a_message_for_several_reaches_each_when_their_mailbox_opens() {
    let site = Site::start();
    site.ready();
    site.open(ANNA);
    site.ready();
    site.send(&[ANNA, BERT, CARLA], "all");
    site.wait_delivered(ANNA, &["all"]);

    site.open(BERT);
    site.wait_delivered(BERT, &["all"]);
    site.open(CARLA);
    site.wait_delivered(CARLA, &["all"]);

    assert!(wait_until(PATIENCE, || site.postfix.queue().is_empty()));
    assert_eq!(site.sink.delivered(ANNA), ["all"]);
    assert_eq!(site.sink.delivered(BERT), ["all"]);
    site.nothing_bounced();
}

#[test]
fn a_full_flush_of_what_is_held_loses_nothing() {
    let site = Site::start();
    site.ready();
    site.send(&[ANNA, BERT], "one");
    site.send(&[CARLA], "two");
    site.waiting(2);

    for round in 1..=3 {
        // What is still being tried is not flushed.
        let refused = || {
            assert!(site.postfix.postqueue(&["-f"]).status.success());
            site.sink.refused() >= 3 * round
        };
        assert!(wait_until(PATIENCE, refused), "{}", site.postfix.log());
        let settled = |queue: &[String]| queue.iter().all(|it| it.contains("said: 451"));
        site.postfix.wait_for_queue(settled);
    }

    site.postfix.wait_for_queue(|queue| {
        queue.len() == 2 && queue.iter().all(|it| it.contains("\"deferred\""))
    });
    site.nothing_bounced();
    for address in [ANNA, BERT, CARLA] {
        site.open(address);
    }
    site.wait_delivered(ANNA, &["one"]);
    site.wait_delivered(BERT, &["one"]);
    site.wait_delivered(CARLA, &["two"]);
}

#[test]
fn before_anything_was_told_recipients_are_asked_to_come_later_and_nothing_is_lost() {
    let mut site = Site::start();
    site.exchanger = None;
    site.coordinator.stop();
    let down = site.postfix.smtp().ask(&format!("RCPT TO:<{ANNA}>"));
    site.begin();
    let unknown = || site.postfix.smtp().ask(&format!("RCPT TO:<{ANNA}>"));
    assert!(wait_until(PATIENCE, || unknown().starts_with("451 4.3.0")), "{}", unknown());
    assert!(down.starts_with("451 "), "{down}");

    site.coordinator.resume();

    site.ready();
    site.nothing_bounced();
}

#[test]
fn mail_in_the_queue_waits_while_nobody_answers_and_is_delivered_later() {
    let mut site = Site::start();
    site.ready();
    // Two, so that Postfix cannot answer itself from what it asked last.
    site.send(&[ANNA, CARLA], "one");
    site.waiting(1);
    site.exchanger = None;
    assert!(site.postfix.postqueue(&["-f"]).status.success());
    site.postfix.wait_for_log("lookup error");
    site.open(ANNA);

    site.begin();

    site.wait_delivered(ANNA, &["one"]);
    site.nothing_bounced();
}

#[test]
fn an_exchanger_that_is_started_without_its_coordinator_knows_what_it_was_told() {
    let mut site = Site::that_keeps();
    site.ready();
    site.open(ANNA);
    let dir = site.config.state_dir.clone().unwrap();
    let doors = || fs::read(dir.join("doors")).unwrap_or_default();
    assert!(wait_until(PATIENCE, || !doors().is_empty()));
    let before = doors();
    site.open(BERT);
    assert!(wait_until(PATIENCE, || doors() != before), "a change is kept");
    site.exchanger = None;
    site.coordinator.stop();

    site.begin();

    site.ready();
    site.send(&[BERT], "open");
    site.send(&[CARLA], "held");
    site.wait_delivered(BERT, &["open"]);
    site.waiting(1);
    site.coordinator.resume();
    site.open(CARLA);
    site.wait_delivered(CARLA, &["held"]);
    assert_eq!(site.coordinator.directories_told(), 1, "it is not told again");
}

#[test]
fn a_damaged_file_is_as_good_as_none() {
    let mut site = Site::that_keeps();
    site.ready();
    let dir = site.config.state_dir.clone().unwrap();
    assert!(wait_until(PATIENCE, || dir.join("doors").exists()));
    site.exchanger = None;
    site.coordinator.stop();
    let mut damaged = fs::read(dir.join("directory")).unwrap();
    damaged[100] ^= 1;
    fs::write(dir.join("directory"), damaged).unwrap();

    site.begin();

    let said = || site.postfix.smtp().ask(&format!("RCPT TO:<{ANNA}>"));
    assert!(wait_until(PATIENCE, || said().starts_with("451 4.3.0")), "{}", said());
    site.coordinator.resume();
    assert!(wait_until(PATIENCE, || site.coordinator.directories_told() == 2));
    site.ready();
}

#[test]
fn after_a_long_silence_what_is_held_is_told_to_come_later_and_what_is_open_is_delivered()
{
    let mut site =
        Site::with(MAIN, |config, _| config.silence_max = Duration::from_secs(2));
    site.ready();
    site.open(ANNA);
    let heard = || site.lookup(ANNA).starts_with("OK open:");
    assert!(wait_until(PATIENCE, heard), "{}", site.lookup(ANNA));

    site.coordinator.stop();

    // Postfix is asked only then: it remembers answers.
    let silent = || site.lookup(BERT).starts_with("TEMP ");
    assert!(wait_until(PATIENCE, silent), "{}", site.lookup(BERT));
    let said = site.postfix.smtp().ask(&format!("RCPT TO:<{BERT}>"));
    assert!(said.starts_with("451 4.3.0"), "{said}");
    site.send(&[ANNA], "one");
    site.wait_delivered(ANNA, &["one"]);
    site.coordinator.resume();
    site.ready();
    site.nothing_bounced();
}

#[test]
fn who_exists_is_said_by_the_providers_own_map() {
    let own = "virtual_mailbox_maps = inline:{ { anna@example.org = ok }, { new@example.org = ok } }\n";
    let site = Site::with(&format!("{MAIN}\n{own}"), |_, _| {});
    let said = |to: &str| site.postfix.smtp().ask(&format!("RCPT TO:<{to}>"));
    assert!(wait_until(PATIENCE, || said(ANNA).starts_with("250 ")), "{}", said(ANNA));

    assert!(
        said("nobody@example.org").starts_with("550 5.1.1"),
        "Postfix's own map says so"
    );
    assert!(said("new@example.org").starts_with("250 "), "he came after the inventory");
    site.sink.open("new@example.org");
    site.send(&["new@example.org"], "welcome");
    site.wait_delivered("new@example.org", &["welcome"]);
}

#[test]
fn the_other_way_leaves_mail_for_held_mailboxes_with_its_sender() {
    let mut site = Site::that_defers();
    site.ready();
    site.open(ANNA);
    let open = || site.send(&[ANNA, BERT], "both").to[0].starts_with("250 ");
    assert!(wait_until(PATIENCE, open));

    let said = site.send(&[ANNA, BERT], "again");

    assert!(said.to[0].starts_with("250 "), "{said:?}");
    assert_eq!(
        said.to[1],
        "450 4.2.1 <bert@example.org>: Recipient address rejected: Mailbox is being restored, \
         please try again later"
    );
    // Two connections may deliver them at the same time.
    let delivered = || {
        let mut delivered = site.sink.delivered(ANNA);
        delivered.sort_unstable();
        delivered
    };
    assert!(
        wait_until(PATIENCE, || delivered() == ["again", "both"]),
        "{:?}",
        delivered()
    );
    site.exchanger = None;
    let down = site.postfix.smtp().ask(&format!("RCPT TO:<{ANNA}>"));
    assert!(down.starts_with("451 4.3.5"), "{down}");
    site.nothing_bounced();
}

#[test]
fn a_real_dovecot_that_holds_refuses_for_now_and_gets_each_message_once_when_open() {
    let Gated { dovecot, doors, _gate } = Gated::start();
    let hop = format!("inet:127.0.0.1:{}", dovecot.ports().lmtp);
    let site = Site::with(MAIN, |config, _| {
        config.hops.nodes.insert("n1".to_owned(), hop);
    });
    site.ready();
    for number in 0..20 {
        site.send(&[ANNA], &format!("letter {number:02}"));
    }
    site.waiting(20);
    // What has come in just now is not in the first flush.
    let all_refused = wait_until(PATIENCE, || {
        assert!(site.postfix.postqueue(&["-f"]).status.success());
        let queue = site.postfix.queue();
        queue.len() == 20 && queue.iter().all(|it| it.contains("said: 451 4.3.0"))
    });
    assert!(all_refused, "{}", site.postfix.log());

    doors.set([(ANNA, Standing::Level(1))]);
    site.coordinator.open(ANNA);

    assert!(
        wait_until(PATIENCE, || site.postfix.queue().is_empty()),
        "{}",
        site.postfix.log()
    );
    let counted =
        dovecot.doveadm(&["mailbox", "status", "-u", ANNA, "messages", "INBOX"]);
    assert_eq!(counted.unwrap().trim(), "INBOX messages=20");
    let subjects =
        dovecot.doveadm(&["fetch", "-u", ANNA, "hdr.subject", "mailbox", "INBOX"]);
    let subjects = subjects.unwrap();
    assert!((0..20).all(|number| subjects.contains(&format!("letter {number:02}"))));
    site.nothing_bounced();
}

#[test]
fn a_next_hop_that_is_nowhere_bounces_from_other_transports_and_never_from_ours() {
    let nowhere = |transport: &str, address: &str| {
        format!("{{ {address} = {transport}:inet:nowhere.invalid:24 }}")
    };
    let postfix = Postfix::start(&PostfixSpec {
        domains: vec!["example.org".to_owned()],
        transport: "lmtp:inet:127.0.0.1:1".to_owned(),
        main: format!(
            "transport_maps = inline:{{ {}, {}, {} }}\ndefer_transports = held",
            nowhere("lmtp", ANNA),
            nowhere("open", BERT),
            nowhere("held", CARLA),
        ),
        master: MASTER.to_owned(),
    });
    for to in [ANNA, BERT, CARLA] {
        let letter = tidegate_rig::Letter { to: &[to], message: b"Subject: x\n\nx\n" };
        assert!(postfix.send(letter).end.unwrap().starts_with("250 "));
    }

    postfix.wait_for_log("status=bounced");
    postfix.wait_for_log("to=<bert@example.org>, relay=none");
    // Whoever flushes everything finds out what is wrong with what is held.
    postfix.wait_for_queue(|queue| {
        queue.iter().any(|it| it.contains(CARLA) && it.contains("deferred transport"))
    });
    assert!(postfix.postqueue(&["-f"]).status.success());
    postfix.wait_for_log("to=<carla@example.org>, relay=none, delay=");
    let queue = postfix.wait_for_queue(|queue| {
        queue.len() == 2 && queue.iter().all(|it| it.contains("nowhere.invalid"))
    });

    assert!(queue.iter().all(|it| !it.contains(ANNA)), "{queue:?}");
    let bounced = postfix.logged("status=bounced");
    assert!(bounced.iter().all(|it| it.contains(ANNA)), "{bounced:?}");
    assert!(!postfix.logged("status=SOFTBOUNCE").is_empty(), "{}", postfix.log());
}

#[test]
fn the_traps_of_postfix_are_as_we_know_them() {
    let trapped = |transport: &str, more: &str| {
        Postfix::start(&PostfixSpec {
            domains: vec!["example.org".to_owned()],
            transport: "lmtp:inet:127.0.0.1:1".to_owned(),
            main: format!(
                "transport_maps = inline:{{ {{ {ANNA} = {transport} }} }}\n\
                 defer_transports = held\n{more}"
            ),
            master: "held unix - - n - - lmtp\n".to_owned(),
        })
    };
    let send = |postfix: &Postfix| {
        let to = &[ANNA];
        postfix.send(tidegate_rig::Letter { to, message: b"Subject: x\n\nx\n" }).to[0]
            .clone()
    };

    // Without a next hop, a flush asks DNS for the recipient's domain, and the mail is lost.
    let no_hop = trapped("held:", "");
    assert!(send(&no_hop).starts_with("250 "));
    no_hop.wait_for_log("deferred transport");
    assert!(no_hop.postqueue(&["-f"]).status.success());
    no_hop.wait_for_log("status=bounced");
    no_hop.wait_for_log("non-delivery notification");

    // The retry transport is refused at once: the sender keeps the mail.
    let retry = trapped("retry:4.2.1 being restored", "");
    assert!(send(&retry).starts_with("450 4.2.1"), "{}", send(&retry));

    // What waits for longer than the queue's lifetime goes back.
    let short = "maximal_queue_lifetime = 1s\nbounce_queue_lifetime = 1s\n\
                 minimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n";
    let late = trapped("held:inet:127.0.0.1:1", short);
    assert!(send(&late).starts_with("250 "));
    let expired = wait_until(PATIENCE, || {
        late.postqueue(&["-f"]);
        !late.logged("status=expired, returned to sender").is_empty()
    });
    assert!(expired, "{}", late.log());
}

/// A Dovecot with the shipped gate, and the doors that it asks for. Its gate lives as long as
/// the runtime.
struct Gated {
    dovecot: Dovecot,
    doors: Doors,
    _gate: tokio::runtime::Runtime,
}

impl Gated {
    fn start() -> Self {
        let users = vec![User::new(ANNA, Format::Maildir)];
        let mut dovecot =
            Dovecot::prepare(&DovecotSpec { users, ..DovecotSpec::default() });
        let receive =
            Rung { name: "receive".to_owned(), services: vec!["lmtp".to_owned()] };
        let doors = Doors::new(Ladder { rungs: vec![receive] });
        let gate = tokio::runtime::Runtime::new().unwrap();
        let any = SocketAddr::from((LOOPBACK, 0));
        let listener = gate.block_on(tokio::net::TcpListener::bind(any)).unwrap();
        let port = listener.local_addr().unwrap().port();
        gate.spawn(tidegate_admission::serve(
            listener,
            doors.clone(),
            std::future::pending(),
        ));
        let lines = dovecot.gate(port);
        dovecot.add_config(&lines);
        dovecot.resume();
        Self { dovecot, doors, _gate: gate }
    }
}
