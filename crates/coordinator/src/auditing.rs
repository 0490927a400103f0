//! Auditing: every call that moves the rollout and every look at single mailboxes is written
//! down, and the log's head is shown to a second place.
//!
//! # Invariants
//!
//! * A call is on the log before it is carried out and before it is answered. Where that fails
//!   nothing is done but what stops or closes.
//! * Flushing the log for an anchor keeps nobody from writing it.
//! * Addresses are written as pseudonyms; why somebody acted is in the journal.
//! * Every 500 records or 60 s there is an anchor: in the program's own log, and in a file
//!   elsewhere and at a collector of logs if they were named.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tidegate_audit::{LOG_FILE, Log, Note, Pseudonyms, SigningKey, tell_syslog};
use tokio::sync::Notify;
use tonic::Status;

use crate::caller::Caller;
use crate::refused::{Refused, chain, code_of_status};

/// An anchor is never older than this, unless nothing has happened since.
const ANCHOR_EVERY: Duration = Duration::from_mins(1);

/// What addresses are made unknowable with; destroying it makes them so for ever.
const PSEUDONYM_KEY: &str = "pseudonym.key";

/// How a call begins on the log, and how it ends well.
const ASKED: &str = "asked";
const DONE: &str = "done";

/// How one ends whose caller has gone, or whose time was over, before it was answered.
const GIVEN_UP: &str = "given-up";

/// Where the audit log is anchored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// A file elsewhere, to which anchors are appended.
    pub anchors: Option<PathBuf>,
    /// The socket of a collector of logs, which is told of each.
    pub syslog: Option<PathBuf>,
    /// The private key that they are signed with.
    pub key: Option<PathBuf>,
}

/// The audit log; cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit(Option<Arc<Open>>);

struct Open {
    log: Mutex<Log>,
    pseudonyms: Pseudonyms,
    anchors: Option<PathBuf>,
    syslog: Option<PathBuf>,
    key: Option<SigningKey>,
    /// Told when there should be an anchor.
    due: Notify,
    /// Held while an anchor is made, so that they come in their order.
    anchoring: Mutex<()>,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It stops or closes: nothing may keep it from that.
    Stops,
    /// Anything else.
    Other,
}

impl Audit {
    /// No log, for whoever drives a coordinator without a disk.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The log in `data_dir`.
    pub(crate) fn open(data_dir: &Path, config: &AuditConfig) -> anyhow::Result<Self> {
        let key = config.key.as_deref().map(|path| {
            SigningKey::read(path)
                .with_context(|| format!("read the audit key `{}`", path.display()))
        });
        let pseudonyms = data_dir.join(PSEUDONYM_KEY);
        let open = Open {
            log: Mutex::new(Log::open(&data_dir.join(LOG_FILE), now())?),
            pseudonyms: Pseudonyms::open(&pseudonyms)
                .with_context(|| format!("use `{}`", pseudonyms.display()))?,
            anchors: config.anchors.clone(),
            syslog: config.syslog.clone(),
            key: key.transpose()?,
            due: Notify::new(),
            anchoring: Mutex::default(),
        };
        Ok(Self(Some(Arc::new(open))))
    }

    /// What is written instead of `address`.
    pub(crate) fn pseudonym(&self, address: &str) -> String {
        self.0.as_ref().map_or_else(String::new, |open| open.pseudonyms.of(address))
    }

    /// Writes down that `caller` has called something, and how it ended.
    ///
    /// # Errors
    ///
    /// [`Refused::NotAudited`].
    pub(crate) fn note(
        &self,
        caller: &Caller,
        (call, about): (&str, &str),
        outcome: &str,
    ) -> Result<(), Refused> {
        let Some(open) = &self.0 else { return Ok(()) };
        let (who, roles) = caller.on_record();
        let (at_millis, roles) = (now(), roles.as_slice());
        let note = Note { at_millis, who, roles, call, about, outcome };
        let mut log = lock(&open.log);
        let noted = log.note(note);
        if log.wants_anchor() {
            open.due.notify_one();
        }
        drop(log);
        noted.map_err(|error| {
            tracing::error!(error = chain(&error), "the audit log cannot be written");
            Refused::NotAudited
        })
    }

    /// Does what `caller` has called, between two records of it.
    ///
    /// # Errors
    ///
    /// Those of `act`; [`Refused::NotAudited`] for whatever does not stop.
    pub(crate) async fn around<T>(
        &self,
        caller: &Caller,
        (call, about): (&str, &str),
        effect: Effect,
        act: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let asked = self.note(caller, (call, about), ASKED);
        if effect == Effect::Other {
            asked?;
        }
        let mut ending = Ending { audit: self, caller, call, about, answered: false };
        let answer = act.await;
        ending.answered = true;
        let outcome = match &answer {
            Ok(_) => DONE,
            Err(status) => code_of_status(status),
        };
        // It is on the log that it was asked for, and in the journal that it was done.
        drop(self.note(caller, (call, about), outcome));
        answer
    }

    /// Anchors the log for as long as it is polled.
    pub(crate) async fn keep_anchoring(self) {
        let Some(open) = self.0 else { return std::future::pending().await };
        loop {
            // Cancel-safe, both: a notice that comes meanwhile is kept.
            tokio::select! {
                () = open.due.notified() => {}
                () = tokio::time::sleep(ANCHOR_EVERY) => {}
            }
            let open = Arc::clone(&open);
            // A thread that was lost anchors the next time.
            drop(tokio::task::spawn_blocking(move || open.anchor()).await);
        }
    }

    /// Anchors what has come since, at the end.
    pub(crate) fn anchor_now(&self) {
        if let Some(open) = &self.0 {
            open.anchor();
        }
    }
}

/// Writes down the end of a call that is dropped before its answer.
struct Ending<'a> {
    audit: &'a Audit,
    caller: &'a Caller,
    call: &'a str,
    about: &'a str,
    answered: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // As for an answer: it is on the log that it was asked for.
            drop(self.audit.note(self.caller, (self.call, self.about), GIVEN_UP));
        }
    }
}

impl Open {
    fn anchor(&self) {
        let _anchoring = lock(&self.anchoring);
        let Some(due) = lock(&self.log).due() else { return };
        let anchor = match due.flush(now(), self.key.as_ref()) {
            Ok(anchor) => anchor,
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "the audit log cannot be anchored"
                );
                return;
            }
        };
        lock(&self.log).anchored(&anchor);
        tracing::info!("{anchor}");
        if let Some(socket) = &self.syslog
            && let Err(error) = tell_syslog(socket, &anchor)
        {
            let path = socket.display();
            tracing::error!(%error, %path, "the collector of logs was not told of an anchor");
        }
        let Some(path) = &self.anchors else { return };
        let file = OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| {
            file.write_all(format!("{anchor}\n").as_bytes())?;
            file.sync_data()
        });
        if let Err(error) = written {
            let path = path.display();
            tracing::error!(%error, %path, "the audit log is anchored in this log alone");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
