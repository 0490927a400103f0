//! Carries out a node's orders: prepares, opens and probes its mailboxes.
//!
//! ```text
//! coordinator ◀─ session ─▶ owner ─▶ hands ─▶ mail store
//!                             │
//!                 journal ◀───┴───▶ admission ◀─ mail server
//! ```
//!
//! The mail store is files that this program reads and repairs itself, or anything behind a
//! program that its owner wrote; such a one may be told of openings, and then has its say in
//! them before they are recorded.
//!
//! # Invariants
//!
//! * One process per node: the journal, the store and the coordinator each refuse a second.
//! * Admission answers from what the journal holds, with or without the coordinator.
//! * Without a valid lease nothing opens; what is open stays open.

mod command;
mod description;
mod dovecot;
pub mod driven;
mod files;
mod findings;
mod gauges;
mod hands;
mod herald;
mod node;
mod pace;
mod session;
mod shown;
mod signals;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{fs, io, thread};

use anyhow::Context as _;
use tidegate_admission::{Doors, Ladder, Standing};
use tidegate_core::fleet::Incarnation;
use tidegate_core::gate::Pulses;
use tidegate_journal::{Journal, Kind, Rhythm};
use tidegate_trust::{Road, check_url};
use tidegate_wire::worker::NodeSettings;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

pub use tidegate_admission::{
    ALWAYS_DOWN, ALWAYS_SLOW, Language, Notice, Notices, UnknownLanguage, UnknownZone,
    Window, Zone,
};

pub use command::{Command, Limits};
pub use dovecot::{Canary, DoveadmKey, Dovecot, Master};
pub use files::Files;
pub use gauges::METRICS_ADDRESS_FILE;

use command::CommandStore;
use dovecot::AtDovecot;
use files::FileStore;
use hands::{Hand, Hands};
use node::{Given, Input, Node};
use session::{Identity, Session};
use signals::{Rounds, Sources};
use store::MailStore;
use tidegate_clock::Clock;

/// What a worker must be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name as in the inventory.
    pub node: String,
    /// The coordinator's URL, like `http://host:7443`.
    pub coordinator: String,
    /// Its certificate, and whom it believes; none for a coordinator on this machine.
    pub tls: Option<tidegate_trust::Files>,
    /// Where the worker keeps its journal; one directory per node.
    pub state_dir: PathBuf,
    /// What the node's mail is kept in.
    pub mail: Mail,
    /// Where claims are kept, and what is staged or kept aside: one directory per node.
    /// Beside files, on their file system, but outside of them.
    pub work: PathBuf,
    /// Where admission is served; loopback only.
    pub admission_listen: SocketAddr,
    /// Where it shows how it is, for Prometheus; loopback only, and nowhere if not said.
    pub metrics_listen: Option<SocketAddr>,
    /// The Dovecot that serves the mail; without it nobody is disconnected, and what it shows
    /// is not compared.
    pub dovecot: Option<Dovecot>,
    /// How the node's own mailbox is written and read.
    pub canary: Option<Canary>,
    /// What held users are told until the rollout says it.
    pub notices: Notices,
    /// Its journal is compacted after so many records, if not after as many as usual.
    pub compact_after_records: Option<u64>,
}

/// What a node's mail is kept in.
#[derive(Clone, Debug)]
pub enum Mail {
    /// Files that the worker reads and repairs itself.
    Files(Files),
    /// Anything, behind a program that its owner wrote.
    Command(Command),
    /// What the caller has made, to measure what everything else costs; no configuration names
    /// it.
    Given(Arc<dyn MailStore>),
}

/// How many inputs may wait for the owner: more than the hands and the session together
/// can have on their way.
const INPUTS_MAX: usize = 1_024;

/// Whether a job that the worker with this state directory has claimed names the mailbox of
/// `address`.
///
/// # Errors
///
/// The file system's.
pub fn has_mailbox(state_dir: &Path, address: &str) -> io::Result<bool> {
    description::names(&state_dir.join(DESCRIPTIONS_DIR), address)
}

/// Where descriptions of jobs are kept, in the state directory.
const DESCRIPTIONS_DIR: &str = "jobs";

/// How long the owner may take to finish its turn at the end.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(5);

/// The file that tells where admission listens, in the state directory.
pub const ADMISSION_ADDRESS_FILE: &str = "admission-address";

/// Has the loops of this program say in the log how they are, each at its next turn.
pub fn tell_status() {
    tidegate_watchdog::ask();
}

/// Runs a worker until `stop`, or until going on would be unsafe.
///
/// # Errors
///
/// Says what was tried, on what, and what to do. Everything acknowledged is on disk.
pub async fn run(
    config: Config,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let road = road(&config)?;
    let clock = Clock::start();
    let journal = open_journal(&config)?;
    let (incarnation, doors) = (incarnation(), open_doors(&config));
    let store = open_store(&config, format!("{:016x}", incarnation.get()))?;
    let store = behind_doors(store, &config, &doors)?;
    let _ending = Ending(Arc::clone(&store));

    let (inputs, queue) = sync_channel(INPUTS_MAX);
    let node = {
        let heard = inputs.clone();
        let inputs = inputs.clone();
        let shelf = Arc::new(description::Files {
            jobs: config.state_dir.join(DESCRIPTIONS_DIR),
            work: config.work.clone(),
        });
        let hand = Hand { store: Arc::clone(&store), shelf: shelf.clone() };
        let given = Given {
            node: config.node.clone(),
            clock: clock.clone(),
            journal: Box::new(journal),
            doors: doors.clone(),
            shelf,
            store: Arc::clone(&store),
            hands: Box::new(move |threads| {
                let inputs = inputs.clone();
                let done = move |done| inputs.send(Input::Done(Box::new(done))).is_ok();
                Hands::start(&hand, threads, &done)
            }),
            listen: listen_to(&config, heard),
        };
        Node::recover(given, queue)?
    };
    let (node, _shown) = shown(node, &config, &clock).await?;
    let remembered = node.remembered();
    let canary = config.canary.as_ref().map(|canary| canary.mailbox.clone());
    let (name, way) = (config.node.clone(), (config.coordinator.as_str(), &road));
    let identity = Identity { node: name, incarnation, remembered, canary };
    let session = Session::new(way, identity, clock, inputs.clone())?;

    let listener = listen(&config).await?;
    let (closing, closed) = oneshot::channel::<()>();
    let admission =
        tokio::spawn(tidegate_admission::serve(listener, doors, async move {
            // Dropped or sent, both mean the end.
            let _end = closed.await;
        }));
    let (ended, mut end) = oneshot::channel();
    thread::Builder::new()
        .name("owner".to_owned())
        .spawn(move || {
            // Nobody waits any more when the program is already ending.
            let _unheard = ended.send(node.run());
        })
        .context("start the owner")?;

    tidegate_watchdog::ready();
    let mut result = tokio::select! {
        // Cancel-safe: the owner is told to stop below, whichever arm wins; the session
        // holds nothing that is not told again.
        () = stop => Ok(()),
        result = &mut end => return result.unwrap_or_else(|_| Err(owner_gone())),
        result = session.run() => result,
    };
    tidegate_watchdog::stopping();
    if inputs.try_send(Input::Stop).is_ok() {
        // A turn that does not end in time is cut off like a kill: nothing is lost.
        let _late = tokio::time::timeout(FAREWELL, end).await;
    } else if let Ok(Ok(Err(error))) = tokio::time::timeout(FAREWELL, end).await {
        // The session ended because the owner had; the owner knows why.
        result = Err(error);
    }
    drop(closing);
    admission.await.context("end admission")?.context("serve admission")?;
    result
}

/// The node, and what shows how it is where that is wanted.
async fn shown(
    node: Node,
    config: &Config,
    clock: &Clock,
) -> anyhow::Result<(Node, Option<gauges::Shown>)> {
    let Some(address) = config.metrics_listen else { return Ok((node, None)) };
    let (to, newest) = watch::channel(None);
    let of = (config.node.as_str(), config.state_dir.as_path());
    let shown = gauges::show(of, address, (newest, clock.clone())).await?;
    Ok((node.shown_to(to), Some(shown)))
}

/// Ends what runs outside this process, whichever way the worker ends.
struct Ending(Arc<dyn MailStore>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The way to the coordinator.
fn road(config: &Config) -> anyhow::Result<Road> {
    check_url(&config.coordinator, config.tls.is_some())?;
    Road::new(config.tls.clone()).context("use the certificate")
}

fn owner_gone() -> anyhow::Error {
    anyhow::anyhow!("the owner of the node panicked; see the log before this line")
}

fn open_journal(config: &Config) -> anyhow::Result<Journal> {
    fs::create_dir_all(&config.state_dir).with_context(|| {
        format!("create state directory `{}`", config.state_dir.display())
    })?;
    let kind = Kind { name: "worker".to_owned(), format: 1, id: node_id(&config.node) };
    let dir = config.state_dir.join("journal");
    let journal = Journal::open(&dir, &kind)
        .with_context(|| format!("open the journal of node `{}`", config.node))?;
    let records = config.compact_after_records.unwrap_or(Rhythm::USUAL.records);
    Ok(journal.compacted_in(Rhythm { records, bytes: TAIL_BYTES_MAX }))
}

/// Bytes of records behind a snapshot, at most: three times what a coordinator lets come together.
/// With a third of this a node of a million wrote half as much again to its disk. A start of such
/// a node takes 1.4 seconds of CPU in all.
const TAIL_BYTES_MAX: u64 = 24 << 20;

fn open_store(config: &Config, holder: String) -> anyhow::Result<Arc<dyn MailStore>> {
    // Only the directory itself: a mistyped path must not start with an empty quarantine.
    let made = match fs::create_dir(&config.work) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    made.with_context(|| format!("create work directory `{}`", config.work.display()))?;
    Ok(match config.mail.clone() {
        Mail::Files(files) => {
            Arc::new(FileStore::open(files, config.work.clone(), holder)?)
        }
        Mail::Command(command) => {
            Arc::new(CommandStore::open(command, &config.work, &config.node, holder)?)
        }
        Mail::Given(store) => store,
    })
}

/// Doors of which none is known yet.
fn open_doors(config: &Config) -> Doors {
    let doors = Doors::new(Ladder::default());
    doors.set_notices(config.notices.clone());
    if let Some(dovecot) = &config.dovecot {
        doors.set_webmail_ports(dovecot.webmail_ports.clone());
    }
    if let Some(canary) = &config.canary {
        // Above every rung: it must tell how the mail system is before anybody is let in.
        doors.set([(canary.mailbox.as_str(), Standing::Level(u8::MAX))]);
    }
    doors
}

/// `store` behind the doors of the mail server, where that can be told of them.
fn behind_doors(
    store: Arc<dyn MailStore>,
    config: &Config,
    doors: &Doors,
) -> anyhow::Result<Arc<dyn MailStore>> {
    match &config.dovecot {
        Some(dovecot) => Ok(Arc::new(AtDovecot::new(store, dovecot, doors.clone())?)),
        None => {
            if matches!(config.mail, Mail::Files(_)) {
                tracing::warn!(
                    action = "add a table [dovecot] to the configuration",
                    "admission is the only door: whoever is logged in when a mailbox is \
                     closed stays in it"
                );
            }
            Ok(store)
        }
    }
}

/// Starts listening to the mail system at the first call, if it is known where that is.
fn listen_to(
    config: &Config,
    inputs: SyncSender<Input>,
) -> Box<dyn FnMut(&NodeSettings) -> Pulses + Send> {
    let Some(dovecot) = &config.dovecot else { return Box::new(|_| Pulses::default()) };
    let canary = config.canary.as_ref().zip(dovecot.imap.zip(dovecot.lmtp));
    let mut sources = Some(Sources {
        doveadm: Some(Arc::new(dovecot.client())),
        metrics: dovecot.metrics.clone(),
        logs: dovecot.logs.clone(),
        live: match &config.mail {
            Mail::Files(files) => Some(files.live.clone()),
            Mail::Command(_) | Mail::Given(_) => None,
        },
        canary: canary.map(|(canary, at)| Rounds::new(canary, at, &config.node)),
    });
    Box::new(move |settings| {
        let Some(sources) = sources.take() else { return Pulses::default() };
        let expected = sources.expected();
        let inputs = inputs.clone();
        let tell = move |heard| inputs.send(Input::Felt(Box::new(heard))).is_ok();
        if let Err(error) = signals::listen(sources, settings.pulse_limits, tell) {
            let error = format!("{error:#}");
            tracing::error!(error, action = "restart", "cannot hear the mail system");
        }
        expected
    })
}

/// A journal is bound to its node by this.
fn node_id(node: &str) -> [u8; 16] {
    let digest = blake3::hash(node.as_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
    id
}

/// A number that no other run has: from the kernel's randomness through the hasher of std.
fn incarnation() -> Incarnation {
    use std::hash::{BuildHasher, RandomState};
    let time = std::time::SystemTime::now();
    Incarnation::new(RandomState::new().hash_one((time, std::process::id())).max(1))
}

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.admission_listen;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("listen for admission at {address}; is another worker running?")
    })?;
    let bound = listener.local_addr().context("learn the admission address")?;
    publish_address(&config.state_dir, bound).context("write the admission address")?;
    Ok(listener)
}

fn publish_address(dir: &Path, address: SocketAddr) -> io::Result<()> {
    let path = dir.join(ADMISSION_ADDRESS_FILE);
    let temporary = path.with_extension("new");
    fs::write(&temporary, format!("{address}\n"))?;
    fs::rename(temporary, path)
}
