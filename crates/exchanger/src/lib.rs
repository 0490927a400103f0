//! Stands beside a mail exchanger: tells it where mail goes now, and drains its queue as
//! mailboxes open.
//!
//! ```text
//! coordinator ─ watch ─▶ view ─▶ answers ◀─ socketmap, policy ─ Postfix
//!      ▲                  │ ╲                                      ▲
//!      └── report ── drain ◀┘ kept on disk                         │
//!                      └──────────── postqueue -j, -i ─────────────┘
//! ```
//!
//! # Invariants
//!
//! * It decides nothing about mailboxes: it repeats what the coordinator told last.
//! * Mail is never lost or refused by it: what is held waits, what is not known is told to
//!   come later, and the queue is the mail server's own.
//! * Answers wait for nobody: not for the coordinator, the disk or the queue.

mod answer;
mod directory;
mod drain;
mod drainer;
mod follow;
mod kept;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tidegate_admission::{Transport, policy, socketmap};
use tidegate_trust::{Files, Road, check_url};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

pub use answer::{Hops, NODE_PLACE};
pub use drainer::DrainConfig;
pub use tidegate_mailserver::queue::Postqueue;

use answer::Answers;
use drainer::Drainer;
use follow::Follower;
use kept::Kept;
use view::{Newest, View};

/// What an exchanger must be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its own name, for people.
    pub name: String,
    /// The coordinator's URL, like `http://host:7443`.
    pub coordinator: String,
    /// Its certificate, and whom it believes; none for a coordinator on this machine.
    pub tls: Option<Files>,
    /// Where it keeps what it was told; nothing to keep nothing.
    pub state_dir: Option<PathBuf>,
    /// Where Postfix asks for transports.
    pub socketmap_listen: SocketAddr,
    /// Where Postfix asks whether to take mail, if it does.
    pub policy_listen: Option<SocketAddr>,
    /// How Postfix reaches the nodes.
    pub hops: Hops,
    /// What divides an address from its extension, as `recipient_delimiter` of Postfix.
    pub delimiters: String,
    /// What is not known open becomes unknown when the coordinator has been silent for so
    /// long.
    pub silence_max: Duration,
    /// The queue to drain, if it is to be drained.
    pub drain: Option<DrainConfig>,
}

/// What was told is kept this soon after it has changed.
const KEEP_EVERY: Duration = Duration::from_secs(2);

/// Without changes it is kept this often, to remember when the coordinator was last heard.
const KEEP_ANYWAY: Duration = Duration::from_mins(1);

/// Runs an exchanger until `stop`.
///
/// # Errors
///
/// Says what was tried, on what, and what to do.
pub async fn run(
    config: Config,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let newest = Newest::nothing();
    let drain = |drain| Drainer::start(drain, config.delimiters.clone());
    let drainer = config.drain.clone().map(drain).transpose()?;
    let kept = match config.state_dir.clone() {
        Some(dir) => Some(remember(dir, &newest, drainer.as_ref()).await?),
        None => None,
    };
    check_url(&config.coordinator, config.tls.is_some())?;
    let road = Road::new(config.tls.clone()).context("use the certificate")?;
    let client = follow::client(&config.coordinator, &road)?;
    let answers = Answers {
        newest: newest.clone(),
        hops: config.hops.clone(),
        delimiters: config.delimiters.clone(),
        silence_max: config.silence_max,
        routes: RwLock::default(),
    };
    let (serving, say_stop) = serve(&config, Arc::new(answers)).await?;
    let follower = Follower {
        client: client.clone(),
        exchanger: config.name.clone(),
        newest: newest.clone(),
        drain: drainer.as_ref().map(Drainer::told),
    };
    let reporting = async {
        match drainer.as_ref().map(Drainer::told) {
            Some(drain) => follow::report(client, config.name.clone(), drain).await,
            None => std::future::pending().await,
        }
    };
    let keeping = async {
        match &kept {
            Some(kept) => keep(kept, &newest).await,
            None => std::future::pending().await,
        }
    };
    let mut serving = pin!(serving);
    tidegate_watchdog::ready();
    // Nothing is lost with the arms that did not come: what was told is told again, and what
    // is kept on disk is whole at any moment.
    let ended = tokio::select! {
        () = stop => None,
        served = &mut serving => Some(served),
        () = follower.run() => None,
        () = reporting => None,
        () = keeping => None,
    };
    say_stop.send_replace(true);
    let served = match ended {
        Some(served) => served,
        None => serving.await,
    };
    // Waits for a listing under way, which is broken off.
    tokio::task::spawn_blocking(move || drop(drainer)).await.context("end the drain")?;
    served
}

/// Recalls what an earlier run has kept.
async fn remember(
    dir: PathBuf,
    newest: &Newest,
    drainer: Option<&Drainer>,
) -> anyhow::Result<Kept> {
    let kept = Kept::open(&dir)
        .with_context(|| format!("use the state directory `{}`", dir.display()))?;
    let loading = kept.clone();
    let loaded = tokio::task::spawn_blocking(move || loading.load());
    match loaded.await.context("read what was kept")? {
        Ok(Some(loaded)) => {
            let view = Arc::new(loaded.view);
            let mailboxes = view.directory().len();
            let heard_ago_seconds = loaded.heard_ago.as_secs();
            tracing::info!(mailboxes, heard_ago_seconds, "what was kept is known again");
            newest.heard(loaded.heard_ago);
            newest.replace(Arc::clone(&view));
            if let Some(drainer) = drainer {
                drainer.told().begin(view);
            }
        }
        Ok(None) => {}
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(
                error,
                "what was kept cannot be used; mail is told to come later until the \
                 coordinator has told everything again"
            );
        }
    }
    Ok(kept)
}

/// Answers Postfix until it is told to stop.
async fn serve(
    config: &Config,
    transport: Arc<dyn Transport>,
) -> anyhow::Result<(impl Future<Output = anyhow::Result<()>> + use<>, watch::Sender<bool>)>
{
    let listen = async |address: SocketAddr| {
        TcpListener::bind(address).await.with_context(|| {
            format!("listen for Postfix at {address}; does another program?")
        })
    };
    let (say_stop, stopping) = watch::channel(false);
    let stop = move || {
        let mut stopping = stopping.clone();
        async move {
            // A sender that is gone means the end, too.
            let _ended = stopping.wait_for(|stopping| *stopping).await;
        }
    };
    let maps = listen(config.socketmap_listen).await?;
    let policies = match config.policy_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    tracing::info!(address = %config.socketmap_listen, "answering Postfix");
    let maps = socketmap::serve(maps, Arc::clone(&transport), stop());
    let policies = async move {
        match policies {
            Some(listener) => policy::serve(listener, transport, stop()).await,
            None => Ok(()),
        }
    };
    let both = async move {
        let (maps, policies) = tokio::join!(maps, policies);
        maps.context("answer Postfix's socketmap")?;
        policies.context("answer Postfix's policy requests")
    };
    Ok((both, say_stop))
}

/// Keeps the newest view on disk for as long as it is polled.
async fn keep(kept: &Kept, newest: &Newest) {
    let mut written: Option<(Arc<View>, u64)> = None;
    let mut since = tokio::time::Instant::now();
    loop {
        sleep(KEEP_EVERY).await;
        let Some(view) = newest.view() else { continue };
        let version = view.version();
        let same = written.as_ref().filter(|(of, _)| Arc::ptr_eq(of, &view));
        let is_news = same.is_none_or(|(_, of)| *of != version);
        if !is_news && since.elapsed() < KEEP_ANYWAY {
            continue;
        }
        since = tokio::time::Instant::now();
        let heard = SystemTime::now() - newest.silence().unwrap_or_default();
        let (kept, of, again) = (kept.clone(), Arc::clone(&view), same.is_some());
        let writing = tokio::task::spawn_blocking(move || {
            if !again {
                kept.keep_directory(of.directory())?;
            }
            kept.keep_doors(&of, heard)
        });
        match writing.await {
            Ok(Ok(())) => written = Some((view, version)),
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::warn!(error, "what the coordinator told is not kept on disk");
            }
            Err(_) => tracing::warn!("keeping what the coordinator told has failed"),
        }
    }
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
