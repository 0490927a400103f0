//! Dovecot: a mail store whose mail is served by the Dovecot beside it.
//!
//! ```text
//! looked at ─ counters are what was verified ─▶ raised on record ─▶ doors open ─▶ cache flushed
//! closed on record, doors closed ─▶ cache flushed ─▶ nobody logged in ─▶ reported as held
//! ```
//!
//! # Invariants
//!
//! * A mailbox is let in only if Dovecot shows what was verified, under the UIDVALIDITY that the
//!   store's own lists have; while Dovecot does not answer, letting in waits.
//! * A mailbox is called held only when Dovecot says that nobody is in it any more.
//! * What the mail is kept in is another's business: everything but doors goes on to the store.

pub(crate) mod counters;
pub(crate) mod doorkeeper;
mod reading;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_admission::Doors;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Look, Outcome, ProbeTask, Settled, Stamp};
use tidegate_core::mailbox::Level;
use tidegate_core::share::Ppm;
use tidegate_mail::{Mailbox, Manifest};
use tidegate_mailserver::doveadm::{
    CommandError, Credential, Doveadm, DoveadmSpec, FolderStatus,
};

use tidegate_secret::Secret;

use crate::store::{Dialling, LetIn, MailStore, Reads, Switching, Telling, Told, Under};
use counters::{difference, shown_name};
use doorkeeper::Doorkeeper;
use reading::{Reading, Unread};

/// Where Dovecot is, and what the worker may do there.
#[derive(Clone, Debug)]
pub struct Dovecot {
    /// Its doveadm HTTP interfaces, one per Dovecot of the node, like `http://127.0.0.1:8080`.
    pub doveadm: Vec<String>,
    /// What opens them.
    pub key: DoveadmKey,
    /// How long deliveries may be under way that were permitted before doors closed.
    pub lmtp_grace: Duration,
    /// Of how many mailboxes in a hundred counters are compared before they are let in.
    pub open_check_percent: u8,
    /// Where IMAP is spoken, for probes and canaries.
    pub imap: Option<SocketAddr>,
    /// Where LMTP is spoken, for canaries.
    pub lmtp: Option<SocketAddr>,
    /// Who may read everybody's mail.
    pub master: Option<Master>,
    /// Ports of Dovecot behind which only webmail sits.
    pub webmail_ports: Vec<u16>,
    /// Its log files.
    pub logs: Vec<PathBuf>,
    /// Where its statistics are, like `http://127.0.0.1:9900/metrics`.
    pub metrics: Option<String>,
}

impl Dovecot {
    /// The way to doveadm.
    pub(crate) fn client(&self) -> Doveadm {
        Doveadm::new(&DoveadmSpec {
            urls: self.doveadm.clone(),
            credential: match self.key.clone() {
                DoveadmKey::ApiKey(key) => Credential::ApiKey(key),
                DoveadmKey::Password(password) => Credential::Password(password),
            },
            deadline: DEADLINE,
        })
    }
}

/// What opens doveadm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoveadmKey {
    /// Dovecot's `doveadm_api_key`.
    ApiKey(Secret<String>),
    /// Dovecot's `doveadm_password`.
    Password(Secret<String>),
}

/// A master user of Dovecot's.
#[derive(Clone, PartialEq, Eq)]
pub struct Master {
    /// The name, without the separator.
    pub user: String,
    /// The password.
    pub password: Secret<String>,
    /// Dovecot's `auth_master_user_separator`.
    pub separator: char,
    /// Of how many open mailboxes in a hundred mail is read.
    pub sample_percent: u8,
}

/// A mailbox of the node's own, written and read again and again.
#[derive(Clone, PartialEq, Eq)]
pub struct Canary {
    /// Its address.
    pub mailbox: String,
    /// Its password.
    pub password: Secret<String>,
    /// How often.
    pub every: Duration,
}

// Secrets are never shown.

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Master({})", self.user)
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Canary({}, {:?})", self.mailbox, self.every)
    }
}

/// One request to Dovecot ends within this: listing every session of a node takes a second.
const DEADLINE: Duration = Duration::from_secs(20);

/// The most mailboxes of one letting in: a look at each takes Dovecot some milliseconds, and
/// the lease must not run out meanwhile.
const LET_IN_TOGETHER: usize = 32;

/// The most mailboxes of one closing: it is only noted, for the doorkeeper.
const CLOSE_TOGETHER: usize = 1_024;

/// A mail store behind the doors of a Dovecot.
#[derive(Debug)]
pub(crate) struct AtDovecot {
    store: Arc<dyn MailStore>,
    doveadm: Arc<Doveadm>,
    doorkeeper: Doorkeeper,
    reading: Option<Reading>,
    open_check_percent: u8,
}

impl AtDovecot {
    /// Puts `store` behind the doors of Dovecot.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(crate) fn new(
        store: Arc<dyn MailStore>,
        dovecot: &Dovecot,
        doors: Doors,
    ) -> anyhow::Result<Self> {
        let doveadm = Arc::new(dovecot.client());
        let watched = Arc::clone(&doveadm);
        let reading = Reading::new(dovecot, doors.clone());
        let doorkeeper = Doorkeeper::start(watched, doors, dovecot.lmtp_grace)?;
        let open_check_percent = dovecot.open_check_percent;
        Ok(Self { store, doveadm, doorkeeper, reading, open_check_percent })
    }

    /// Whether this mailbox is one of the share that is compared. Always the same ones, so
    /// that whoever had to wait does not slip through later.
    fn is_compared(&self, mailbox: &Mailbox) -> bool {
        mailbox.key % 100 < u64::from(self.open_check_percent)
    }

    fn close(&self, mailboxes: &[(Ordinal, Mailbox)]) -> Vec<(Ordinal, Told)> {
        let addresses = mailboxes.iter().map(|(_, it)| it.address.as_str());
        let out = self.doorkeeper.close(addresses);
        let told = mailboxes.iter().zip(out).map(|((ordinal, _), is_out)| {
            (*ordinal, if is_out { Told::Done } else { Told::NotYet })
        });
        told.collect()
    }

    fn let_in(&self, mailboxes: &[(Ordinal, Mailbox)]) -> Vec<(Ordinal, Told)> {
        let (compared, free): (Vec<_>, Vec<_>) =
            mailboxes.iter().partition(|(_, mailbox)| self.is_compared(mailbox));
        for (_, mailbox) in &free {
            self.note_inbox(mailbox, &[]);
        }
        let mut told: Vec<(Ordinal, Told)> =
            free.into_iter().map(|(ordinal, _)| (*ordinal, Told::Done)).collect();
        if compared.is_empty() {
            return told;
        }
        let addresses: Vec<&str> =
            compared.iter().map(|(_, mailbox)| mailbox.address.as_str()).collect();
        // Before Dovecot looks: it may begin a list anew that it does not like.
        let validities: Vec<_> =
            compared.iter().map(|(_, it)| self.store.uid_validities(it)).collect();
        let shown = match self.doveadm.mailbox_status(&addresses) {
            Ok(shown) => shown,
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::debug!(error, mailboxes = compared.len(), "letting in waits");
                told.extend(compared.iter().map(|(ordinal, _)| (*ordinal, Told::NotYet)));
                return told;
            }
        };
        told.extend(compared.into_iter().zip(validities).zip(shown).map(
            |(((ordinal, mailbox), validities), shown)| {
                (*ordinal, self.compare(mailbox, &validities, shown))
            },
        ));
        let waiting = told.iter().filter(|(_, told)| *told == Told::NotYet).count();
        if waiting > 0 {
            tracing::warn!(
                waiting,
                action = "see Dovecot's log if it lasts",
                "the mail server does not show mailboxes as they were verified; they wait"
            );
        }
        told
    }

    /// Remembers for later reading which UIDVALIDITY the inbox has.
    fn note_inbox(&self, mailbox: &Mailbox, shown: &[FolderStatus]) {
        let Some(reading) = &self.reading else { return };
        let inbox = shown.iter().find(|folder| shown_name(&folder.name).is_empty());
        reading.lets_in(mailbox, inbox.map(|inbox| inbox.uid_validity));
    }

    fn compare(
        &self,
        mailbox: &Mailbox,
        validities: &BTreeMap<Vec<u8>, u32>,
        shown: Result<Vec<FolderStatus>, CommandError>,
    ) -> Told {
        let refuse =
            |code: &str, reason: String| Told::Refused { code: code.to_owned(), reason };
        let shown = match shown {
            Ok(shown) => shown,
            Err(CommandError::NoSuchUser) => {
                let reason = "the mail server does not know the user: mail would bounce";
                return refuse("no-such-user", reason.to_owned());
            }
            Err(CommandError::ManyUsers) => {
                let reason = "the address has a wildcard, which the mail server's tools take \
                              for many users: look at it yourself";
                return refuse("address-has-wildcard", reason.to_owned());
            }
            Err(
                CommandError::NotFound
                | CommandError::Temporary
                | CommandError::UnknownCommand
                | CommandError::Exit(_),
            ) => return Told::NotYet,
        };
        self.note_inbox(mailbox, &shown);
        let Some(manifest) = self.store.verified(mailbox) else { return Told::Done };
        match difference(&manifest, validities, &shown) {
            None => Told::Done,
            // Something has come in since: the next look finds the mailbox changed.
            Some(difference) if difference.may_be_news() => Told::NotYet,
            Some(difference) => refuse(difference.code(), difference.to_string()),
        }
    }
}

impl MailStore for AtDovecot {
    fn claim(&self, under: Under) -> anyhow::Result<bool> {
        self.store.claim(under)
    }

    fn claimed(&self) -> anyhow::Result<BTreeMap<JobNumber, Generation>> {
        self.store.claimed()
    }

    fn prepare(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>> {
        self.store.prepare(under, mailboxes)
    }

    fn dial(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Dialling)>> {
        self.store.dial(under, mailboxes)
    }

    fn switch(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox, Stamp)>,
    ) -> anyhow::Result<Vec<(Ordinal, Switching)>> {
        self.store.switch(under, mailboxes)
    }

    fn look(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> Vec<(Ordinal, Look)> {
        self.store.look(under, mailboxes)
    }

    fn probe(
        &self,
        tasks: &[(ProbeTask, Mailbox)],
    ) -> Vec<(ProbeTask, Outcome, Option<Duration>)> {
        let probed = self.store.probe(tasks);
        let Some(reading) = &self.reading else { return probed };
        let read = probed.into_iter().filter_map(|(task, outcome, took)| {
            let mailbox = tasks.iter().find(|(asked, _)| *asked == task);
            let Some((_, mailbox)) = mailbox.filter(|(_, it)| reading.wants(it)) else {
                return Some((task, outcome, took));
            };
            let manifest = self.store.verified(mailbox);
            match manifest {
                // What the store has found wrong needs no second witness.
                Some(manifest) if outcome == Outcome::Read => {
                    let outcome = match reading.read(task, mailbox, &manifest) {
                        Ok(outcome) => outcome,
                        Err(Unread::NoWayIn) => outcome,
                        Err(Unread::Later) => return None,
                    };
                    let took = took.filter(|_| outcome == Outcome::Read);
                    Some((task, outcome, took))
                }
                Some(_) | None => Some((task, outcome, took)),
            }
        });
        read.collect()
    }

    fn reads(&self) -> Reads {
        self.reading.as_ref().map_or_else(Reads::default, Reading::take_reads)
    }

    fn free_share(&self) -> Option<Ppm> {
        self.store.free_share()
    }

    fn hears(&self) -> bool {
        true
    }

    fn tell_together(&self, level: Level) -> usize {
        if level == Level::HELD { CLOSE_TOGETHER } else { LET_IN_TOGETHER }
    }

    fn tell(
        &self,
        telling: &Telling,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Told)>> {
        if telling.level == Level::HELD {
            return Ok(self.close(mailboxes));
        }
        if telling.from_held && !telling.recorded {
            return Ok(self.let_in(mailboxes));
        }
        Ok(mailboxes.iter().map(|(ordinal, _)| (*ordinal, Told::Done)).collect())
    }

    fn opened(&self, addresses: &[&str]) {
        self.doorkeeper.opened(addresses);
    }

    fn verified(&self, mailbox: &Mailbox) -> Option<Manifest> {
        self.store.verified(mailbox)
    }

    fn uid_validities(&self, mailbox: &Mailbox) -> BTreeMap<Vec<u8>, u32> {
        self.store.uid_validities(mailbox)
    }

    fn maybe_open(&self) -> Vec<LetIn> {
        self.store.maybe_open()
    }

    fn stop(&self) {
        self.store.stop();
    }
}

#[cfg(test)]
mod tests;
