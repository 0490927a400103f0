//! Manifest: what the mailboxes of a node hold, recorded while all is well and held against it.
//!
//! # Invariants
//!
//! * No mail is changed. A list made elsewhere is taken over whole or not at all.
//! * Every mailbox that could not be worked on is counted, and the first ones are named with the
//!   reason.

mod import;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tidegate_mail::{Compared, Mailbox, Mailboxes, Recorded, Refusal, Store};
use tidegate_mail::{StoreConfig, StoreError};

use crate::cli::{Manifest, NodeMailboxes};
use crate::config::Worker;
use crate::console::{self, safe, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::findings::{files, worker};
use crate::inventory_file;
use crate::progress::{self, Progress};
use crate::screens::say;
use crate::telemetry::Chain;

/// As many refusals as a person reads before mending the cause.
const REFUSALS_SHOWN_MAX: u64 = 100;

/// Mailboxes between two flushes: what is done again if the machine stops.
const SETTLE_EVERY: u64 = 1_000;

/// More threads than this wait for the same disk.
const THREADS_MAX: usize = 16;

/// Carries out `tidegate manifest`.
pub(crate) fn run(verb: &Manifest) -> Outcome {
    match verb {
        Manifest::Make(args) => make(args),
        Manifest::Import(args) => import::run(args),
        Manifest::Verify(args) => verify(args),
    }
}

fn make(args: &NodeMailboxes) -> Outcome {
    let worker = worker(&args.config)?;
    let store = open(&worker)?;
    let form = args.progress.form;
    let (messages, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let faulty = AtomicU64::new(0);
    let progress = Progress::begin(form, "Recording", (None, "mailboxes"));
    let tally = each(mailboxes(args, &worker)?, &progress, |mailbox, done| {
        let recorded: Recorded = store.record(mailbox)?;
        messages.fetch_add(recorded.messages, Ordering::Relaxed);
        bytes.fetch_add(recorded.bytes, Ordering::Relaxed);
        if recorded.faulty > 0 {
            faulty.fetch_add(recorded.faulty, Ordering::Relaxed);
            let (path, count) = (shown(&mailbox.path), thousands(recorded.faulty));
            console::tell(format_args!("{path}: {count} messages are not good"));
        }
        if done.is_multiple_of(SETTLE_EVERY) {
            settle(&store)?;
        }
        Ok(())
    })?;
    drop(progress);
    settle(&store)?;
    console::data_line(format_args!(
        "recorded {} messages, {} MiB, in {} mailboxes; {} messages are not good; {} mailboxes \
         could not be recorded",
        thousands(messages.into_inner()),
        thousands(bytes.into_inner() >> 20),
        thousands(tally.done),
        thousands(faulty.into_inner()),
        thousands(tally.refused),
    ))?;
    Ok(tally.exit())
}

fn verify(args: &NodeMailboxes) -> Outcome {
    let worker = worker(&args.config)?;
    let store = open(&worker)?;
    let form = args.progress.form;
    let sum = Mutex::new((Compared::default(), 0_u64, 0_u64));
    let progress = Progress::begin(form, "Comparing", (None, "mailboxes"));
    let tally = each(mailboxes(args, &worker)?, &progress, |mailbox, _| {
        let compared = store.compare(mailbox)?;
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, bad, unknown) = &mut *sum;
        let Some(compared) = compared else {
            *unknown += 1;
            return Ok(());
        };
        all.intact += compared.intact;
        all.newer += compared.newer;
        all.gone += compared.gone;
        *bad += compared.findings.len() as u64;
        if !compared.findings.is_empty() || compared.gone > 0 {
            progress::aside(|| console::data(differences(mailbox, &compared)))?;
        }
        Ok(())
    })?;
    drop(progress);
    let (all, bad, unknown) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    console::tell(format_args!(
        "{} mailboxes: {} messages as recorded, {} newer, {} gone, {} bad; {} mailboxes were never \
         recorded, {} could not be read",
        thousands(tally.done),
        thousands(all.intact),
        thousands(all.newer),
        thousands(all.gone),
        thousands(bad),
        thousands(unknown),
        thousands(tally.refused),
    ));
    Ok(if bad > 0 { Exit::Failed } else { tally.exit() })
}

/// A mailbox that is not as it was recorded, for people.
fn differences(mailbox: &Mailbox, compared: &Compared) -> String {
    let mut text = format!(
        "{}: {} as recorded, {} newer, {} gone, {} bad\n",
        shown(&mailbox.path),
        thousands(compared.intact),
        thousands(compared.newer),
        thousands(compared.gone),
        thousands(compared.findings.len() as u64),
    );
    for finding in &compared.findings {
        let folder = if finding.folder.is_empty() { "INBOX" } else { &finding.folder };
        let uid = finding.uid.map_or_else(String::new, |uid| format!(" UID {uid}"));
        let (name, cause) = (safe(&finding.name), finding.cause);
        let folder = safe(folder);
        say!(text, "  {folder}{uid} {name}: {cause} ({})\n", cause.code());
    }
    text
}

/// The node's store, without its snapshot: what only that has is not held.
///
/// # Errors
///
/// [`Exit::Later`] while a worker has it, else [`Exit::Config`].
fn open(worker: &Worker) -> Result<Store, Failure> {
    let files = files(worker)?;
    // Only the directory itself: a mistyped path must not start with nothing recorded.
    match std::fs::create_dir(&worker.work) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            let context = format!("create work directory `{}`", worker.work.display());
            let error = anyhow::Error::new(error).context(context);
            return Err(Failure::new(Exit::Config, error).help("create its parent first"));
        }
        Ok(()) | Err(_) => {}
    }
    let store = Store::open(StoreConfig {
        live: files.live.clone(),
        snapshot: None,
        work: worker.work.clone(),
        file_size_max: files.file_size_max,
    });
    store.map_err(|error| match error {
        StoreError::Held { .. } => Failure::new(Exit::Later, error).help(
            "stop the worker of this node first; what is open stays open without it",
        ),
        StoreError::Own { .. } => Failure::new(Exit::Config, error).help(
            "`chown -R` the work directory to that user, and run this as the worker does",
        ),
        StoreError::Intent { .. } => Failure::new(Exit::Failed, error).help(
            "try once more; else move that file out of the work directory and keep it",
        ),
        StoreError::Root { .. }
        | StoreError::OtherFileSystem { .. }
        | StoreError::Nested { .. }
        | StoreError::Nfs { .. } => Failure::new(Exit::Config, error)
            .help("it is named in the configuration, as the worker uses it"),
    })
}

fn settle(store: &Store) -> Result<(), Failure> {
    store.settle().map_err(|error| {
        Failure::new(Exit::Failed, error).help("the disk does not keep what it is given")
    })
}

/// The mailboxes of the node: those in the inventory, or those that are found.
fn mailboxes(
    args: &NodeMailboxes,
    worker: &Worker,
) -> Result<Box<dyn Iterator<Item = Result<Mailbox, Refusal>> + Send>, Failure> {
    let Some(file) = &args.inventory else {
        let found = Mailboxes::below(&files(worker)?.live)
            .map_err(|error| Failure::new(Exit::Config, error))?;
        return Ok(Box::new(found.map(|path| Ok(mailbox(String::new(), path?)))));
    };
    let inventory =
        inventory_file::open(file, |it| progress::reading(it, args.progress.form))
            .map_err(|error| Failure::new(Exit::Input, error))?
            .inventory;
    let Some(node) = inventory.find_node(&worker.node) else {
        let (node, known) = (&worker.node, inventory.node_names().join(", "));
        let text = format!("`{}` has no mailbox of node `{node}`", file.display());
        return Err(Failure::text(Exit::Input, text).help(format!(
            "it has the nodes {known}; the node's name is in the configuration"
        )));
    };
    let all: Vec<_> =
        inventory.mailboxes().filter(|it| inventory.node(*it) == node).collect();
    Ok(Box::new(all.into_iter().map(move |number| {
        let (address, path) = (inventory.address(number), inventory.path(number));
        Ok(mailbox(address.to_owned(), path.into_bytes()))
    })))
}

fn mailbox(address: String, path: Vec<u8>) -> Mailbox {
    Mailbox { key: Mailbox::key_of(&path), address, path, served: false }
}

/// How many mailboxes were worked on.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    done: u64,
    refused: u64,
}

impl Tally {
    fn exit(self) -> Exit {
        if self.refused > 0 { Exit::Failed } else { Exit::Done }
    }
}

/// Why work on one mailbox ended.
enum Stop {
    /// This mailbox cannot be worked on; others can.
    Refused(Refusal),
    /// Nothing more can be done.
    Failed(Failure),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Works on all mailboxes, several at once; `work` hears how many are done already.
fn each(
    mailboxes: Box<dyn Iterator<Item = Result<Mailbox, Refusal>> + Send>,
    progress: &Progress,
    work: impl Fn(&Mailbox, u64) -> Result<(), Stop> + Sync,
) -> Result<Tally, Failure> {
    let threads =
        thread::available_parallelism().map_or(1, |it| it.get().min(THREADS_MAX));
    let (queue, state) = (Mutex::new(mailboxes), Mutex::new((Tally::default(), None)));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next =
                        queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let done = {
                        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.1.is_none().then_some(state.0.done)
                    };
                    let Some((next, done)) = next.zip(done) else { return };
                    let worked =
                        next.map_err(Stop::Refused).and_then(|it| work(&it, done));
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    progress.add(1);
                    match worked {
                        Ok(()) => state.0.done += 1,
                        Err(Stop::Refused(refusal)) => refuse(&mut state.0, &refusal),
                        Err(Stop::Failed(failure)) => state.1 = Some(failure),
                    }
                }
            });
        }
    });
    let (tally, failure) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(tally), Err)
}

fn refuse(tally: &mut Tally, refusal: &Refusal) {
    tally.refused += 1;
    if tally.refused <= REFUSALS_SHOWN_MAX {
        console::tell(format_args!("cannot {} ({})", Chain(refusal), refusal.code()));
    }
}

fn shown(path: &[u8]) -> impl fmt::Display + use<> {
    safe(&String::from_utf8_lossy(path))
}

/// Adds what to do to an error of reading `file`.
fn unreadable(file: &Path, error: std::io::Error) -> Failure {
    let error = anyhow::Error::new(error).context(format!("read `{}`", file.display()));
    Failure::new(Exit::Input, error)
}
