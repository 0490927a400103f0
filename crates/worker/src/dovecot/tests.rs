//! Closing under fire: a real Dovecot with the shipped gate, people logged in, and mail coming in
//! all the while.
//!
//! `TIDEGATE_RECLOSE=10000,300` closes so many mailboxes with so many people logged in.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_admission::{Doors, Ladder, Rung, Standing};
use tidegate_mailserver::doveadm::{Credential, Doveadm, DoveadmSpec};
use tidegate_rig::{
    API_KEY, DEBIAN_13_ROOT, Debian13, Dovecot, DovecotSpec, Format, LOOPBACK, PASSWORD,
    PATIENCE, Service, User, debian_13_root, wait_until,
};

use super::doorkeeper::Doorkeeper;

mod opening;

/// A node must be closed again within this.
const RECLOSE_MAX: Duration = Duration::from_mins(1);

/// A delivery takes so long: longer than anything else needs.
const SLOW: Duration = Duration::from_secs(5);

#[test]
fn a_node_is_closed_under_fire_and_every_accepted_message_is_there_once() {
    let (mailboxes, logged_in) = size();
    let site = Site::open(mailboxes);
    let doveadm = site.doveadm();
    let keeper = Doorkeeper::start(
        Arc::clone(&doveadm),
        site.doors.clone(),
        Duration::from_secs(30),
    );
    let keeper = keeper.unwrap();
    let sessions: Vec<_> = (0..logged_in)
        .map(|n| {
            let service = if n % 4 == 3 { Service::Pop3 } else { Service::Imap };
            let (answer, talk) = site.dovecot.login(service, &address(n), PASSWORD);
            assert!(answer.contains("OK"), "{answer}");
            talk
        })
        .collect();
    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == logged_in));

    let fire = Fire::default();
    let took = thread::scope(|scope| {
        for deliverer in 0..2 {
            let (site, fire) = (&site, &fire);
            scope.spawn(move || fire.deliver(site, deliverer));
        }
        close_under(&fire, &site, &keeper)
    });

    assert_eq!(doveadm.who().unwrap(), []);
    for mut talk in sessions {
        while talk.try_read().is_some() {}
    }
    let mut accepted = fire.accepted.into_inner().unwrap();
    accepted.push("slow".to_owned());
    let once: BTreeMap<String, usize> = accepted.into_iter().map(|id| (id, 1)).collect();
    assert_eq!(messages(site.dovecot.root()), once);
    print(&format!(
        "{mailboxes} mailboxes closed in {:.1} s with {logged_in} people logged in; {} \
         messages delivered meanwhile, each there once",
        took.as_secs_f64(),
        once.len()
    ));
}

/// Closes all mailboxes while mail comes in, and sees that none does afterwards.
fn close_under(fire: &Fire, site: &Site, keeper: &Doorkeeper) -> Duration {
    assert!(wait_until(PATIENCE, || fire.accepted() > 20));
    // Permitted before the doors close, and not over.
    let mut slow = Some(site.dovecot.lmtp());
    if let Some(slow) = &mut slow {
        slow.say(&format!("RCPT TO:<{}>", address(0)), "250 ");
    }

    let started = Instant::now();
    site.stand(Standing::Level(0));
    let addresses: Vec<String> = (0..site.mailboxes).map(address).collect();
    let mut waiting: Vec<&str> = addresses.iter().map(String::as_str).collect();
    while !waiting.is_empty() {
        assert!(started.elapsed() < RECLOSE_MAX, "{} are in", waiting.len());
        let out = keeper.close(waiting.iter().copied());
        assert!(slow.is_none() || !out.contains(&true), "a delivery is under way");
        let mut out = out.into_iter();
        waiting.retain(|_| out.next() == Some(false));
        if started.elapsed() > SLOW
            && let Some(mut slow) = slow.take()
        {
            slow.say("DATA", "354 ");
            slow.send_message(b"Subject: slow\r\nMessage-ID: <slow>\r\n\r\nslow\r\n");
            assert!(slow.read().starts_with("250 "));
            slow.send("QUIT");
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    let took = started.elapsed();

    let there = messages(site.dovecot.root());
    let refused = fire.refused.load(Ordering::SeqCst);
    let more = || fire.refused.load(Ordering::SeqCst) > refused + 20;
    assert!(wait_until(PATIENCE, more));
    fire.over.store(true, Ordering::SeqCst);
    assert_eq!(messages(site.dovecot.root()), there, "mail came into a closed node");
    took
}

#[expect(clippy::print_stdout, reason = "a figure that somebody asked for")]
fn print(figures: &str) {
    println!("{figures}");
}

#[test]
fn nobody_is_called_out_while_dovecot_does_not_answer() {
    let mut site = Site::open(3);
    let doveadm = site.doveadm();
    let keeper =
        Doorkeeper::start(doveadm, site.doors.clone(), Duration::from_millis(200))
            .unwrap();
    site.dovecot.stop();
    site.stand(Standing::Level(0));
    let addresses: Vec<String> = (0..3).map(address).collect();
    let ask = || keeper.close(addresses.iter().map(String::as_str));

    assert!(!wait_until(Duration::from_secs(2), || ask().contains(&true)));
    site.dovecot.resume();

    let mut out = 0;
    assert!(wait_until(PATIENCE, || {
        out += ask().iter().filter(|out| **out).count();
        out >= 3
    }));
}

#[test]
fn nobody_is_called_out_sooner_than_a_login_shows_itself() {
    let site = Site::open(1);
    let keeper =
        Doorkeeper::start(site.doveadm(), site.doors.clone(), Duration::ZERO).unwrap();
    site.stand(Standing::Level(0));

    let closed_at = Instant::now();
    assert!(wait_until(PATIENCE, || keeper.close([address(0).as_str()]) == [true]));

    // An admitted login that `who` does not list yet is still somebody inside.
    assert!(closed_at.elapsed() >= Duration::from_secs(2));
}

#[test]
fn held_people_who_are_logged_in_all_the_same_are_disconnected() {
    let site = Site::open(2);
    let doveadm = site.doveadm();
    let mut sessions: Vec<_> = (0..2).map(|n| site.dovecot.imap(&address(n))).collect();
    // As when the worker was stopped in the middle of a closing.
    site.doors.set([(address(1), Standing::Level(0))]);

    let grace = Duration::from_secs(1);
    let _keeper = Doorkeeper::start(Arc::clone(&doveadm), site.doors.clone(), grace);

    assert!(wait_until(PATIENCE, || doveadm.who().unwrap().len() == 1));
    sessions[0].command("NOOP");
}

#[test]
fn dovecot_2_4_is_closed_under_people_who_are_logged_in_as_well() {
    let Some(root) = debian_13_root() else {
        return print(&format!("NOT TESTED: no Debian 13, see {DEBIAN_13_ROOT}"));
    };
    let addresses: Vec<String> = (0..3).map(address).collect();
    let users: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut dovecot = Debian13::prepare(root, &users, 1);
    let (_gate, doors, port) = gate();
    let lines = dovecot.gate(port);
    dovecot.start(&format!("{lines}auth_cache_size = 20M\n"));
    let url = format!("http://{LOOPBACK}:{}", dovecot.ports().doveadm_http);
    let credential = Credential::ApiKey(API_KEY.into());
    let deadline = Duration::from_secs(30);
    let doveadm =
        Arc::new(Doveadm::new(&DoveadmSpec { urls: vec![url], credential, deadline }));
    let stand = |level| {
        let level = Standing::Level(level);
        doors.set(addresses.iter().map(|address| (address.as_str(), level)));
    };
    stand(3);
    let answers = |user: &str| dovecot.ports().login(Service::Imap, user, PASSWORD);
    let (said, inside) = answers(users[0]);
    assert!(said.contains("OK"), "{said}");
    let keeper =
        Doorkeeper::start(Arc::clone(&doveadm), doors.clone(), Duration::from_secs(3));
    let keeper = keeper.unwrap();

    stand(0);
    let mut waiting = users.clone();
    let out = wait_until(PATIENCE, || {
        let mut out = keeper.close(waiting.iter().copied()).into_iter();
        waiting.retain(|_| out.next() == Some(false));
        waiting.is_empty()
    });

    assert!(out, "{waiting:?} are in\n{}", dovecot.log());
    assert_eq!(doveadm.who().unwrap(), []);
    let mut inside = inside;
    assert!(inside.try_read().is_none_or(|end| end.starts_with("* BYE")));
    assert!(answers(users[0]).0.contains("[UNAVAILABLE]"));
    stand(3);
    assert!(answers(users[0]).0.contains("OK"), "whoever opens again is let in at once");
    assert!(!dovecot.log().contains("Panic"), "{}", dovecot.log());
}

/// How many mailboxes, and how many people logged in.
fn size() -> (usize, usize) {
    let Ok(size) = std::env::var("TIDEGATE_RECLOSE") else { return (400, 24) };
    let (mailboxes, people) = size.split_once(',').expect("two numbers");
    (mailboxes.parse().unwrap(), people.parse().unwrap())
}

fn address(n: usize) -> String {
    format!("user{n}@example.org")
}

/// Mail that comes in.
#[derive(Default)]
struct Fire {
    over: AtomicBool,
    accepted: std::sync::Mutex<Vec<String>>,
    refused: AtomicUsize,
}

impl Fire {
    fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    /// Delivers to one after the other until it is over.
    fn deliver(&self, site: &Site, deliverer: usize) {
        for n in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let id = format!("{deliverer}-{n}");
            let text = format!("Message-ID: <{id}>\r\nSubject: {id}\r\n\r\n{id}\r\n");
            let user = address((n * 2 + deliverer) % site.mailboxes);
            let answer = site.dovecot.deliver(&user, text.as_bytes());
            if answer.starts_with("250 ") {
                self.accepted.lock().unwrap().push(id);
            } else {
                assert!(answer.starts_with("451 "), "{answer}");
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Doors behind a gate at a port of loopback, for as long as its runtime is there.
fn gate() -> (tokio::runtime::Runtime, Doors, u16) {
    let rungs = [("receive", "lmtp"), ("read", "imap"), ("old", "pop3")];
    let rungs = rungs.map(|(name, service)| Rung {
        name: name.to_owned(),
        services: vec![service.to_owned()],
    });
    let doors = Doors::new(Ladder { rungs: rungs.into() });
    let gate = tokio::runtime::Runtime::new().unwrap();
    let any = SocketAddr::from((LOOPBACK, 0));
    let listener = gate.block_on(tokio::net::TcpListener::bind(any)).unwrap();
    let port = listener.local_addr().unwrap().port();
    gate.spawn(tidegate_admission::serve(
        listener,
        doors.clone(),
        std::future::pending(),
    ));
    (gate, doors, port)
}

/// A Dovecot with the shipped gate, and the doors that it asks for.
struct Site {
    dovecot: Dovecot,
    doors: Doors,
    mailboxes: usize,
    _gate: tokio::runtime::Runtime,
}

impl Site {
    /// All mailboxes are open.
    fn open(mailboxes: usize) -> Self {
        let users = (0..mailboxes).map(|n| User::new(&address(n), Format::Maildir));
        Self::serving(&DovecotSpec { users: users.collect(), ..DovecotSpec::default() })
    }

    /// All mailboxes are open.
    fn serving(spec: &DovecotSpec) -> Self {
        let mailboxes = spec.users.len();
        let mut dovecot = Dovecot::prepare(spec);
        let (gate, doors, port) = gate();
        let gate_lines = dovecot.gate(port);
        dovecot.add_config(&format!("{gate_lines}auth_cache_size = 20M\n"));
        dovecot.resume();
        let site = Self { dovecot, doors, mailboxes, _gate: gate };
        site.stand(Standing::Level(3));
        site
    }

    fn stand(&self, standing: Standing) {
        self.doors.set((0..self.mailboxes).map(|n| (address(n), standing)));
    }

    fn doveadm(&self) -> Arc<Doveadm> {
        Arc::new(Doveadm::new(&DoveadmSpec {
            urls: vec![format!(
                "http://{LOOPBACK}:{}",
                self.dovecot.ports().doveadm_http
            )],
            credential: Credential::ApiKey(API_KEY.into()),
            deadline: Duration::from_secs(30),
        }))
    }
}

/// How often each message is there, by the name in its `Message-ID`.
fn messages(root: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|it| it.is_dir());
            if is_dir {
                dirs.push(entry.path());
            } else if dir.ends_with("new") || dir.ends_with("cur") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let id =
                    text.split_once("Message-ID: <").and_then(|it| it.1.split_once('>'));
                *found.entry(id.unwrap_or_default().0.to_owned()).or_default() += 1;
            }
        }
    }
    found
}
