//! Doors: how far each mailbox is open, and what that admits.
//!
//! # Invariants
//!
//! * A service is admitted only to a mailbox that is known and stands on the service's rung
//!   or above it.
//! * Addresses are compared without regard to ASCII case, as Dovecot lower-cases them.
//! * A reader waits at most for one insertion into its own shard.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

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
    /// The mail server's names of what comes back on it, for example `lmtp`.
    pub services: Vec<String>,
}

/// Dovecot's service of administrative calls, such as the restoring worker's own: it has
/// to reach held mailboxes.
const ADMINISTRATION: &str = "doveadm";

/// Maps that are locked apart, so that one insertion holds up few readers: more than any
/// machine has cores.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Inner {
    /// The level that each service needs; nothing while the ladder is unknown.
    needed: RwLock<HashMap<String, u8>>,
    shards: Vec<RwLock<HashMap<Box<str>, u8>>>,
    hasher: RandomState,
}

impl Doors {
    /// Doors of which none is known yet, so all are held.
    pub fn new(ladder: Ladder) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        let (needed, hasher) = (RwLock::new(ladder.into_needed()), RandomState::new());
        Self { inner: Arc::new(Inner { needed, shards, hasher }) }
    }

    /// Replaces the ladder. Until one is known, every service is held for everybody.
    pub fn set_ladder(&self, ladder: Ladder) {
        let mut needed =
            self.inner.needed.write().unwrap_or_else(PoisonError::into_inner);
        *needed = ladder.into_needed();
    }

    /// Sets the level of each address; 0 holds it.
    pub fn set(&self, changes: impl IntoIterator<Item = (Box<str>, u8)>) {
        for (mut address, level) in changes {
            address.make_ascii_lowercase();
            if let Some(shard) = self.shard(&address) {
                let mut levels = shard.write().unwrap_or_else(PoisonError::into_inner);
                levels.insert(address, level);
            }
        }
    }

    /// The level of a mailbox, if it is known.
    pub fn level(&self, address: &str) -> Option<u8> {
        let address = lower_case(address);
        let shard = self.shard(&address)?;
        let levels = shard.read().unwrap_or_else(PoisonError::into_inner);
        levels.get(address.as_ref()).copied()
    }

    /// Whether the user at `address` may use `service` now.
    pub fn answer(&self, service: &str, address: &str) -> Answer {
        let service = lower_case(service);
        if service == ADMINISTRATION {
            return Answer::Online;
        }
        let needed = self.inner.needed.read().unwrap_or_else(PoisonError::into_inner);
        let needed = needed.get(service.as_ref()).copied();
        match (needed, self.level(address)) {
            (Some(needed), Some(level)) if level >= needed => Answer::Online,
            _ => Answer::Held,
        }
    }

    fn shard(&self, address: &str) -> Option<&RwLock<HashMap<Box<str>, u8>>> {
        let hash = self.inner.hasher.hash_one(address);
        let index = hash % self.inner.shards.len() as u64;
        self.inner.shards.get(usize::try_from(index).ok()?)
    }
}

impl Ladder {
    /// The level that each service needs: its lowest rung. Rungs beyond the highest level
    /// cannot be reached, and their services are never admitted.
    fn into_needed(self) -> HashMap<String, u8> {
        let mut needed = HashMap::new();
        for (level, rung) in (1..=u8::MAX).zip(self.rungs) {
            for mut service in rung.services {
                service.make_ascii_lowercase();
                needed.entry(service).or_insert(level);
            }
        }
        debug_assert!(needed.values().all(|level| *level > 0));
        needed
    }
}

fn lower_case(text: &str) -> Cow<'_, str> {
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
    fn an_unknown_address_is_held_for_every_service() {
        let doors = Doors::new(ladder());

        assert_eq!(doors.level("nobody@example.org"), None);
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
        doors.set([("anna@EXAMPLE.org".into(), 0)]);
        assert_eq!(doors.level("Anna@example.org"), Some(0));
    }

    #[test]
    fn a_change_is_seen_by_every_clone() {
        let doors = doors_at(2);
        let clone = doors.clone();

        doors.set([("anna@example.org".into(), 0)]);

        assert_eq!(clone.answer("lmtp", "anna@example.org"), Answer::Held);
    }

    #[test]
    fn a_ladder_that_becomes_known_later_admits_from_then_on() {
        let doors = Doors::new(Ladder::default());
        doors.set([("anna@example.org".into(), 2)]);
        assert_eq!(doors.answer("imap", "anna@example.org"), Answer::Held);

        doors.set_ladder(ladder());

        assert_eq!(doors.answer("imap", "anna@example.org"), Answer::Online);
    }

    #[test]
    fn readers_and_a_writer_of_many_addresses_do_not_disturb_each_other() {
        let doors = doors_at(2);
        let address = |n: u32| format!("user{n}@example.org").into_boxed_str();

        std::thread::scope(|scope| {
            scope.spawn(|| doors.set((0..20_000).map(|n| (address(n), 1))));
            scope.spawn(|| {
                for _ in 0..20_000 {
                    assert_eq!(doors.answer("imap", "anna@example.org"), Answer::Online);
                }
            });
        });

        assert!((0..20_000).all(|n| doors.level(&address(n)) == Some(1)));
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
        doors.set([("Anna@example.org".into(), level)]);
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
