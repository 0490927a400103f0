//! Doors: how far each mailbox is open, and what that admits.
//!
//! # Invariants
//!
//! * A service is admitted only to a mailbox that is known and stands on the service's rung
//!   or above it, or has a dial tone that includes the service.
//! * Addresses are compared without regard to ASCII case, as Dovecot lower-cases them.
//! * Describing a mailbox opens it only where that is said; opening and closing it never
//!   forgets its notice.
//! * A reader waits at most for one insertion beside the address that it asks for.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hyper::body::Bytes;

use crate::addresses::{Addresses, Value};
use crate::notice::{
    Language, Notice, Notices, Texts, WINDOW_BITS, WINDOWS_MAX, WindowNumber,
};
use crate::visits::Visits;

/// What may be known of a mailbox's doors; cheap to clone, all clones are one.
#[derive(Debug, Clone)]
pub struct Doors {
    inner: Arc<Inner>,
}

/// Whether a user may use a service now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes; the mail server goes on to its own password check.
    Online,
    /// Not yet; the mail server shows a temporary failure.
    Held,
}

/// Whether a question where a mailbox lies, asked for `service`, is that of a user whose
/// password was right, and not of a delivery or of the mail server itself.
pub(crate) fn is_session(service: &str) -> bool {
    let service = lower_case(service);
    let of_the_server = [ADMINISTRATION, INDEXER, DELIVERY].contains(&service.as_ref());
    !of_the_server && PARTS.iter().all(|(part, _)| *part != service)
}

/// How far one mailbox is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As far as this level of the ladder; level 0 is held.
    Level(u8),
    /// Held by the ladder, while an empty store stands in for it: the services of
    /// [`Doors::set_dial_services`] are admitted.
    DialTone,
}

/// The order in which services come back. Level 1 is the first rung; level 0 is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ladder {
    /// From the first rung up. A service in no rung is never admitted.
    pub rungs: Vec<Rung>,
}

/// One step of the ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// What operators call it, for example `receive`.
    pub name: String,
    /// The mail server's names of what comes back on it: `lmtp`, [`WEBMAIL`], `imap`, `pop3`,
    /// `submission`, `sieve`. `smtp`, for which Postfix has passwords checked, passes by the
    /// shipped gate; where somebody sends it here, it is a service like any other.
    pub services: Vec<String>,
}

/// The service of people who read their mail in a browser: to the mail server it is IMAP
/// like any other, on a port of its own.
pub const WEBMAIL: &str = "webmail";

/// Dovecot's service of administrative calls, such as the restoring worker's own: it has
/// to reach held mailboxes.
const ADMINISTRATION: &str = "doveadm";

/// Dovecot's service that builds search indexes, for whoever is open at all.
const INDEXER: &str = "indexer-worker";

/// Dovecot's service that brings mail.
const DELIVERY: &str = "lmtp";

/// Dovecot's services that are asked by the mail server itself, and what they are part of: a
/// delivery by program, and the question at RCPT whether a delivery would fit.
const PARTS: [(&str, &str); 2] = [("lda", DELIVERY), ("quota-status", DELIVERY)];

#[derive(Debug)]
struct Inner {
    services: RwLock<Services>,
    mailboxes: Addresses,
    texts: RwLock<Texts>,
    visits: Visits,
}

/// What concerns all mailboxes.
#[derive(Debug, Default)]
struct Services {
    /// The level that each service needs; nothing while the ladder is unknown.
    needed: Vec<(String, u8)>,
    dial: Vec<String>,
    webmail_ports: Vec<u16>,
}

/// What concerns one mailbox: a few bytes, as a node has a million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mailbox {
    standing: Standing,
    language: Option<Language>,
    window: Option<WindowNumber>,
}

/// Bits of a standing and of a language, beside those of a window: two bytes in all.
const STANDING_BITS: u32 = 4;
const LANGUAGE_BITS: u32 = u16::BITS - STANDING_BITS - WINDOW_BITS;

/// Mailboxes whose places are fetched from memory together: what they take has room near the
/// processor.
const CHANGED_TOGETHER: usize = 64;

/// Instead of a level.
const DIAL_TONE: u8 = (1 << STANDING_BITS) - 1;

/// Instead of a window's number.
const NO_WINDOW: WindowNumber = WINDOWS_MAX;

impl Mailbox {
    const HELD: Self =
        Self { standing: Standing::Level(0), language: None, window: None };

    /// As few bytes as possible, for a node has a million of them.
    fn pack(self) -> Value {
        let standing = match self.standing {
            // Ladders have seven rungs at most.
            Standing::Level(level) => level.min(DIAL_TONE - 1),
            Standing::DialTone => DIAL_TONE,
        };
        let language = match self.language {
            None => 0,
            Some(Language::English) => 1,
            Some(Language::Italian) => 2,
        };
        let window = self.window.unwrap_or(NO_WINDOW);
        let above = window << LANGUAGE_BITS | language;
        (above << STANDING_BITS | u16::from(standing)).to_le_bytes()
    }

    fn unpack(packed: Value) -> Self {
        let [low, _] = packed;
        let above = u16::from_le_bytes(packed) >> STANDING_BITS;
        let window = above >> LANGUAGE_BITS;
        Self {
            standing: match low & DIAL_TONE {
                DIAL_TONE => Standing::DialTone,
                level => Standing::Level(level),
            },
            language: match above & ((1 << LANGUAGE_BITS) - 1) {
                1 => Some(Language::English),
                2 => Some(Language::Italian),
                _ => None,
            },
            window: Some(window).filter(|window| *window != NO_WINDOW),
        }
    }
}

impl Doors {
    /// Doors of which none is known yet, so all are held.
    pub fn new(ladder: Ladder) -> Self {
        let services = Services { needed: ladder.into_needed(), ..Services::default() };
        let inner = Inner {
            services: RwLock::new(services),
            mailboxes: Addresses::default(),
            texts: RwLock::default(),
            visits: Visits::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Replaces the ladder. Until one is known, every service is held for everybody.
    pub fn set_ladder(&self, ladder: Ladder) {
        write(&self.inner.services).needed = ladder.into_needed();
    }

    /// Sets what a dial tone admits; nothing until then.
    pub fn set_dial_services(&self, services: Vec<String>) {
        write(&self.inner.services).dial =
            services.into_iter().map(|service| service.to_ascii_lowercase()).collect();
    }

    /// Sets the mail server's ports behind which only webmail sits.
    pub fn set_webmail_ports(&self, ports: Vec<u16>) {
        write(&self.inner.services).webmail_ports = ports;
    }

    /// Sets what users are told by default.
    pub fn set_notices(&self, notices: Notices) {
        write(&self.inner.texts).set_notices(notices);
    }

    /// Sets how far each address is open.
    pub fn set(&self, changes: impl IntoIterator<Item = (impl AsRef<str>, Standing)>) {
        self.change(changes, |mailbox, standing| Mailbox { standing, ..mailbox });
    }

    /// Sets what each user is told while he is held, and how far his address is open where
    /// that is said. An address that was not known before is held.
    pub fn describe(
        &self,
        mailboxes: impl IntoIterator<Item = (impl AsRef<str>, Option<Standing>, Notice)>,
    ) {
        let changes = mailboxes.into_iter().map(|(address, standing, notice)| {
            let Notice { language, back } = notice;
            let window = back.and_then(|window| write(&self.inner.texts).number(window));
            (address, (standing, language, window))
        });
        self.change(changes, |mailbox, (standing, language, window)| {
            let standing = standing.unwrap_or(mailbox.standing);
            Mailbox { standing, language, window }
        });
    }

    /// How far a mailbox is open, if it is known.
    pub fn standing(&self, address: &str) -> Option<Standing> {
        self.mailbox(&lower_case(address)).map(|mailbox| mailbox.standing)
    }

    /// Whether the user at `address` may use `service` now.
    pub fn answer(&self, service: &str, address: &str) -> Answer {
        let service = lower_case(service);
        if service == ADMINISTRATION {
            return Answer::Online;
        }
        let mailbox = self.mailbox(&lower_case(address));
        read(&self.inner.services).answer(&service, mailbox)
    }

    /// Whether each of these users may use `service` now; quicker than one by one.
    pub fn answers<'a>(
        &self,
        service: &str,
        lower_case_addresses: impl ExactSizeIterator<Item = &'a str>,
    ) -> Vec<Answer> {
        let service = lower_case(service);
        if service == ADMINISTRATION {
            return lower_case_addresses.map(|_| Answer::Online).collect();
        }
        let known = self.inner.mailboxes.get_all(lower_case_addresses).into_iter();
        let services = read(&self.inner.services);
        let mailboxes = known.map(|value| value.map(Mailbox::unpack));
        mailboxes.map(|mailbox| services.answer(&service, mailbox)).collect()
    }

    /// Who comes.
    pub fn visits(&self) -> &Visits {
        &self.inner.visits
    }

    /// What somebody really uses who asks the mail server for `service` at `port`.
    pub fn service_at<'a>(&self, service: &'a str, port: Option<u16>) -> &'a str {
        match port {
            Some(port) if read(&self.inner.services).webmail_ports.contains(&port) => {
                WEBMAIL
            }
            _ => service,
        }
    }

    /// The body of the answer about somebody who is held. Unknown users are told the
    /// default, so that they look like held ones.
    pub(crate) fn held(&self, address: &str, now_unix: i64) -> Bytes {
        let mailbox = self.mailbox(&lower_case(address)).unwrap_or(Mailbox::HELD);
        read(&self.inner.texts).held(mailbox.language, mailbox.window, now_unix)
    }

    fn mailbox(&self, lower_case_address: &str) -> Option<Mailbox> {
        self.inner.mailboxes.get(lower_case_address).map(Mailbox::unpack)
    }

    fn change<T>(
        &self,
        changes: impl IntoIterator<Item = (impl AsRef<str>, T)>,
        change: impl Fn(Mailbox, T) -> Mailbox,
    ) {
        let mut changes = changes.into_iter();
        loop {
            let some = changes.by_ref().take(CHANGED_TOGETHER);
            let (addresses, by): (Vec<_>, Vec<_>) = some.unzip();
            if addresses.is_empty() {
                return;
            }
            let addresses = addresses.iter().map(|address| lower_case(address.as_ref()));
            let some = addresses.zip(by).collect();
            let held = Mailbox::HELD.pack();
            self.inner.mailboxes.change_all(some, held, |value, by| {
                change(Mailbox::unpack(value), by).pack()
            });
        }
    }
}

impl Services {
    /// What is answered to whoever wants `service` of a mailbox, if it is known.
    fn answer(&self, service: &str, mailbox: Option<Mailbox>) -> Answer {
        let part = PARTS.iter().find(|(part, _)| *part == service);
        let service = part.map_or(service, |(_, whole)| whole);
        match mailbox {
            Some(mailbox) if self.admit(service, mailbox.standing) => Answer::Online,
            Some(_) | None => Answer::Held,
        }
    }

    fn admit(&self, service: &str, standing: Standing) -> bool {
        match standing {
            Standing::Level(level) if service == INDEXER => {
                level > 0 && !self.needed.is_empty()
            }
            Standing::Level(level) => {
                let needed = self.needed.iter().find(|(name, _)| name == service);
                needed.is_some_and(|(_, needed)| level >= *needed)
            }
            Standing::DialTone if service == INDEXER => !self.dial.is_empty(),
            Standing::DialTone => self.dial.iter().any(|name| name == service),
        }
    }
}

impl Ladder {
    /// The level that each service needs: its lowest rung. Rungs beyond the highest level
    /// cannot be reached, and their services are never admitted.
    fn into_needed(self) -> Vec<(String, u8)> {
        let mut needed: Vec<(String, u8)> = Vec::new();
        for (level, rung) in (1..=u8::MAX).zip(self.rungs) {
            for mut service in rung.services {
                service.make_ascii_lowercase();
                if needed.iter().all(|(name, _)| *name != service) {
                    needed.push((service, level));
                }
            }
        }
        debug_assert!(needed.iter().all(|(_, level)| *level > 0));
        needed
    }
}

// Whoever panicked while holding one of the locks left single values, each of them whole.

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[test]
    fn each_level_admits_its_rung_and_those_below() {
        check(0, &expect!["lmtp held, imap held, pop3 held, sieve held"]);
        check(1, &expect!["lmtp online, imap held, pop3 held, sieve held"]);
        check(2, &expect!["lmtp online, imap online, pop3 online, sieve held"]);
        check(3, &expect!["lmtp online, imap online, pop3 online, sieve held"]);
    }

    #[test]
    fn a_mailbox_is_what_it_was_after_it_was_packed() {
        let levels = (0..DIAL_TONE).map(Standing::Level);
        let standings = levels.chain([Standing::DialTone]);
        let languages = [None, Some(Language::English), Some(Language::Italian)];
        let windows = [None, Some(0), Some(255), Some(256), Some(NO_WINDOW - 1)];
        let each = standings.flat_map(|standing| {
            languages.into_iter().flat_map(move |language| {
                windows.map(|window| Mailbox { standing, language, window })
            })
        });

        let kept = each.map(|mailbox| Mailbox::unpack(mailbox.pack()) == mailbox);

        assert!(kept.into_iter().all(|same| same));
    }

    #[test]
    fn an_unknown_address_is_held_for_every_service() {
        let doors = Doors::new(ladder());

        assert_eq!(doors.standing("nobody@example.org"), None);
        assert_eq!(doors.answer("lmtp", "nobody@example.org"), Answer::Held);
        assert_eq!(doors.answer("imap", ""), Answer::Held);
    }

    #[test]
    fn administration_reaches_held_and_unknown_mailboxes() {
        let doors = doors_at(0);

        assert_eq!(doors.answer("doveadm", "anna@example.org"), Answer::Online);
        assert_eq!(doors.answer("doveadm", "nobody@example.org"), Answer::Online);
    }

    #[test]
    fn case_makes_no_other_address() {
        let doors = doors_at(1);

        assert_eq!(doors.answer("LMTP", "ANNA@Example.ORG"), Answer::Online);
        doors.set([("anna@EXAMPLE.org", Standing::Level(0))]);
        assert_eq!(doors.standing("Anna@example.org"), Some(Standing::Level(0)));
    }

    #[test]
    fn a_change_is_seen_by_every_clone() {
        let doors = doors_at(2);
        let clone = doors.clone();

        doors.set([("anna@example.org", Standing::Level(0))]);

        assert_eq!(clone.answer("lmtp", "anna@example.org"), Answer::Held);
    }

    #[test]
    fn a_ladder_that_becomes_known_later_admits_from_then_on() {
        let doors = Doors::new(Ladder::default());
        doors.set([("anna@example.org", Standing::Level(2))]);
        assert_eq!(doors.answer("imap", "anna@example.org"), Answer::Held);

        doors.set_ladder(ladder());

        assert_eq!(doors.answer("imap", "anna@example.org"), Answer::Online);
    }

    #[test]
    fn readers_and_a_writer_of_many_addresses_do_not_disturb_each_other() {
        let doors = doors_at(2);
        let address = |n: u32| format!("user{n}@example.org").into_boxed_str();

        std::thread::scope(|scope| {
            scope.spawn(|| {
                doors.set((0..20_000).map(|n| (address(n), Standing::Level(1))));
            });
            scope.spawn(|| {
                for _ in 0..20_000 {
                    assert_eq!(doors.answer("imap", "anna@example.org"), Answer::Online);
                }
            });
        });

        assert!(
            (0..20_000).all(|n| doors.standing(&address(n)) == Some(Standing::Level(1)))
        );
    }

    #[test]
    fn a_dial_tone_admits_its_services_and_no_rung() {
        let doors = doors_at(2);
        doors.set_dial_services(vec!["LMTP".to_owned(), WEBMAIL.to_owned()]);

        doors.set([("anna@example.org", Standing::DialTone)]);

        assert_eq!(doors.answer("lmtp", "anna@example.org"), Answer::Online);
        assert_eq!(doors.answer(WEBMAIL, "anna@example.org"), Answer::Online);
        assert_eq!(doors.answer("imap", "anna@example.org"), Answer::Held);
        doors.set_dial_services(Vec::new());
        assert_eq!(doors.answer("lmtp", "anna@example.org"), Answer::Held);
    }

    #[test]
    fn describing_never_opens_and_opening_never_forgets() {
        let doors = doors_at(1);
        let notice = Notice { language: Some(Language::Italian), back: None };
        let others = doors.held("nobody@example.org", 0);

        doors.describe([
            ("anna@example.org", None, notice),
            ("berta@example.org", None, notice),
        ]);
        doors.set([("ANNA@example.org", Standing::Level(0))]);

        assert_eq!(doors.standing("berta@example.org"), Some(Standing::Level(0)));
        assert_eq!(doors.standing("anna@example.org"), Some(Standing::Level(0)));
        assert_ne!(doors.held("anna@example.org", 0), others);
        assert_eq!(doors.held("Anna@example.org", 0), doors.held("berta@example.org", 0));
    }

    #[test]
    fn what_the_mail_server_asks_for_itself_follows_the_users_services() {
        let doors = doors_at(0);
        let anna = "anna@example.org";
        let ask =
            || ["lda", "quota-status", "indexer-worker"].map(|it| doors.answer(it, anna));
        assert_eq!(ask(), [Answer::Held; 3]);

        doors.set([(anna, Standing::Level(1))]);
        assert_eq!(ask(), [Answer::Online; 3]);

        doors.set([(anna, Standing::DialTone)]);
        assert_eq!(ask(), [Answer::Held; 3]);
        doors.set_dial_services(vec!["lmtp".to_owned()]);
        assert_eq!(ask(), [Answer::Online; 3]);
    }

    #[test]
    fn a_port_of_webmail_makes_webmail_of_any_service() {
        let doors = doors_at(1);
        doors.set_webmail_ports(vec![10_144]);

        assert_eq!(doors.service_at("imap", Some(10_144)), WEBMAIL);
        assert_eq!(doors.service_at("sieve", Some(10_144)), WEBMAIL);
        assert_eq!(doors.service_at("imap", Some(143)), "imap");
        assert_eq!(doors.service_at("imap", None), "imap");
    }

    fn check(level: u8, expected: &Expect) {
        let doors = doors_at(level);
        let say = |service| match doors.answer(service, "anna@example.org") {
            Answer::Online => format!("{service} online"),
            Answer::Held => format!("{service} held"),
        };
        expected.assert_eq(&["lmtp", "imap", "pop3", "sieve"].map(say).join(", "));
    }

    fn doors_at(level: u8) -> Doors {
        let doors = Doors::new(ladder());
        doors.set([("Anna@example.org", Standing::Level(level))]);
        doors
    }

    fn ladder() -> Ladder {
        let rung = |name: &str, services: &[&str]| Rung {
            name: name.to_owned(),
            services: services.iter().map(|&service| service.to_owned()).collect(),
        };
        let rungs =
            vec![rung("receive", &["lmtp"]), rung("read", &["imap", "pop3", "lmtp"])];
        Ladder { rungs }
    }
}
