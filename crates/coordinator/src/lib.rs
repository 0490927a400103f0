//! Carries out the rollout: serves workers, operators and readers.
//!
//! # Invariants
//!
//! * Decide, record, apply, act: what anybody is told has been made durable before.
//! * One thread owns the rollout; everybody else sends it messages or looks at its views.
//! * Without certificates it listens to this machine only.

mod asked;
mod auditing;
mod caller;
mod desk;
pub mod driven;
mod events;
mod exchangers;
mod identity;
mod metrics;
mod names;
mod operators;
mod owner;
mod past;
mod plan_files;
mod prometheus;
mod readers;
mod refused;
mod serve;
mod states;
mod view;
mod webhooks;
mod workers;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_trust::Entrance;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use auditing::Audit;
pub use auditing::AuditConfig;
pub use caller::Shown;
pub use desk::Desk;
use exchangers::Queues;
use identity::Identity;
pub use operators::Operators;
use owner::{Inbox, Owner, Views};
pub use readers::Readers;
use serve::{Listeners, Services};
use tidegate_clock::Clock;
use webhooks::Webhooks;
pub use webhooks::{FACTS, Severity, WebhookConfig};

/// What a coordinator is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it keeps its journal and the inventory; this coordinator's alone.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 for any free one, see [`address_file`].
    pub listen: SocketAddr,
    /// Where it listens for operators instead, who then have connections of their own.
    pub operators_listen: Option<SocketAddr>,
    /// Where it listens for readers as well.
    pub readers_listen: Option<SocketAddr>,
    /// Where it says whether it lives, in plain HTTP to everybody, and nothing else.
    pub probe_listen: Option<SocketAddr>,
    /// The URL of a Prometheus server that the gate's external questions are asked.
    pub prometheus: Option<String>,
    /// Its certificate, and whom it believes; without one it serves this machine only.
    pub tls: Option<tidegate_trust::Files>,
    /// Where what people do is shown to a second place.
    pub audit: AuditConfig,
    /// Who is told what a person should know.
    pub webhooks: Vec<WebhookConfig>,
    /// Its journal is compacted after so many records, if not after as many as usual.
    pub compact_after_records: Option<u64>,
}

/// The file in which a running coordinator says where it listens, as `address:port`.
pub fn address_file(data_dir: &Path) -> PathBuf {
    data_dir.join("address")
}

/// How often the rollout looks at the time if the policy does not ask for more.
const TICK_MAX: Duration = Duration::from_millis(200);

/// Looking more often shows nothing new.
const TICK_MIN: Duration = Duration::from_millis(10);

/// What a coordinator can be asked from within its own process, by whoever shows it.
pub struct Inside {
    /// Answers readers.
    pub readers: Readers,
    /// Does what operators want.
    pub operators: Operators,
    /// Answers the desk.
    pub desk: Desk,
}

/// Pages that are served beside the coordinator.
pub struct Pages {
    /// Where.
    pub listen: SocketAddr,
    /// Makes them, of what they may ask.
    pub routes: Box<dyn FnOnce(Inside) -> axum::Router + Send>,
}

/// The file in which a running coordinator says where its pages are, as `address:port`.
pub fn pages_address_file(data_dir: &Path) -> PathBuf {
    data_dir.join("pages-address")
}

/// Has the loops of this program say in the log how they are, each at its next turn.
pub fn tell_status() {
    tidegate_watchdog::ask();
}

/// Runs a coordinator without pages, as [`run_with`] does.
///
/// # Errors
///
/// As for [`run_with`].
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    run_with(config, None, stop).await
}

/// Runs a coordinator until `stop` is ready. What was acknowledged is durable, so it may
/// as well be killed.
///
/// # Errors
///
/// When it cannot start: the address is refused or taken, the data directory belongs to
/// somebody else, or its journal cannot be trusted. Nothing was changed then.
pub async fn run_with(
    config: Config,
    pages: Option<Pages>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Config {
        data_dir,
        listen,
        operators_listen,
        readers_listen,
        probe_listen,
        prometheus,
        tls,
        audit,
        webhooks,
        compact_after_records,
    } = config;
    let others = operators_listen.iter().chain(&readers_listen);
    let others = others.chain(pages.as_ref().map(|pages| &pages.listen));
    for listen in std::iter::once(&listen).chain(others) {
        check_reach(*listen, tls.is_some())?;
    }
    let entrance = tls.map(Entrance::new).transpose().context("use the certificate")?;
    let clock = Clock::start();
    let (dir, rhythm) = (data_dir.clone(), compact_after_records);
    let past = tokio::task::spawn_blocking(move || past::recover(&dir, clock, rhythm));
    let past = past.await.context("read the data directory")??;
    let audit = Audit::open(&data_dir, &audit).context("open the audit log")?;
    let identity = Identity::of(&data_dir).context("tell this data directory apart")?;
    let webhooks = Webhooks::open(webhooks, &past.clock)?;
    // Left behind by an earlier run that was killed.
    drop(fs::remove_file(address_file(&data_dir)));
    drop(fs::remove_file(pages_address_file(&data_dir)));
    let listeners = Listeners {
        all: bind(listen).await?,
        operators: bind_if(operators_listen).await?,
        readers: bind_if(readers_listen).await?,
        probes: bind_if(probe_listen).await?,
        entrance,
        pages: bind_pages(pages, &data_dir).await?,
    };
    let address = listeners.all.local_addr().context("learn the address")?;

    let queues = Queues::kept_in(&data_dir).context("read who the exchangers are")?;
    let (owner, inbox, views) = Owner::new(past, queues.clone());
    let mut owned = Owned::start(owner, inbox, views)?;
    owned.queues = queues;
    owned.audit = audit;
    owned.identity = identity;
    owned.webhooks = webhooks;
    owned.prometheus = prometheus.as_deref().map(prometheus::Server::new);
    publish_address(&address_file(&data_dir), address)?;
    tracing::info!(%address, "coordinator serving");
    tidegate_watchdog::ready();

    let served = owned.serve(listeners, stop).await;
    // A file that stays behind names an address where nobody answers.
    drop(fs::remove_file(address_file(&data_dir)));
    drop(fs::remove_file(pages_address_file(&data_dir)));
    tracing::info!("coordinator stopped");
    served
}

fn check_reach(listen: SocketAddr, has_certificate: bool) -> anyhow::Result<()> {
    if !has_certificate && !listen.ip().is_loopback() {
        bail!(
            "cannot listen on {listen}: without certificates only this machine is served; name \
             certificate, key and ca in [tls] (`tidegate init` makes them for a lab), or use \
             127.0.0.1"
        );
    }
    Ok(())
}

async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let why = || format!("listen on {listen}; is another coordinator running?");
    TcpListener::bind(listen).await.with_context(why)
}

async fn bind_if(listen: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match listen {
        Some(listen) => Ok(Some(bind(listen).await?)),
        None => Ok(None),
    }
}

async fn bind_pages(
    pages: Option<Pages>,
    data_dir: &Path,
) -> anyhow::Result<Option<(TcpListener, serve::MakePages)>> {
    let Some(Pages { listen, routes }) = pages else { return Ok(None) };
    let listener = bind(listen).await?;
    let address = listener.local_addr().context("learn the address of the pages")?;
    publish_address(&pages_address_file(data_dir), address)?;
    tracing::info!(%address, "pages serving");
    Ok(Some((listener, routes)))
}

/// An owner on its thread.
struct Owned {
    inbox: Inbox,
    views: Views,
    /// What exchangers report.
    queues: Queues,
    /// Who is asked what others measure.
    prometheus: Option<prometheus::Server>,
    /// Where it is written down who does what.
    audit: Audit,
    /// Which data directory this is.
    identity: Identity,
    /// Who is told what a person should know.
    webhooks: Webhooks,
    /// Closes when the thread has ended and let go of the journal.
    ended: oneshot::Receiver<()>,
}

impl Owned {
    fn start(owner: Owner, inbox: Inbox, views: Views) -> anyhow::Result<Self> {
        let (ending, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("owner".to_owned())
            .spawn(move || {
                // Dropped last, however the owner ends.
                let _ending = ending;
                owner.run();
            })
            .context("start the owner's thread")?;
        Ok(Self {
            inbox,
            views,
            queues: Queues::default(),
            prometheus: None,
            audit: Audit::none(),
            identity: Identity::none(),
            webhooks: Webhooks::default(),
            ended,
        })
    }

    /// Serves until `stop`, or until the owner has failed.
    async fn serve(
        &mut self,
        listeners: Listeners,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let (say_stop, stopping) = watch::channel(false);
        let (inbox, views) = (self.inbox.clone(), self.views.clone());
        let mut ticking = JoinSet::new();
        ticking.spawn(tick(inbox.clone(), views.clone()));
        if let Some(server) = self.prometheus.clone() {
            ticking.spawn(server.keep_asking(inbox.clone(), views.clone()));
        }
        ticking.spawn(self.webhooks.clone().keep_telling(views.clone()));
        let (queues, audit) = (self.queues.clone(), self.audit.clone());
        ticking.spawn(audit.clone().keep_anchoring());
        let desk = Desk::new(views.clone(), audit.clone());
        let identity = self.identity.clone();
        let services = Services { inbox, views, stopping, queues, audit, identity, desk };
        let mut serving = pin!(serve::serve(listeners, services));
        // None is polled again after it was ready.
        tokio::select! {
            () = stop => {
                tidegate_watchdog::stopping();
                say_stop.send_replace(true);
                serving.await?;
            }
            served = &mut serving => served?,
            _ = &mut self.ended => bail!(
                "the owner of the rollout ended unexpectedly; start again, nothing \
                 acknowledged is lost"
            ),
        }
        self.audit.anchor_now();
        self.inbox.stop();
        // Ready when the thread has ended.
        drop((&mut self.ended).await);
        Ok(())
    }
}

impl Drop for Owned {
    /// Whoever stops waiting for the coordinator wants it to end.
    fn drop(&mut self) {
        self.inbox.stop();
    }
}

/// Tells the owner that time passes, twice a beat.
async fn tick(inbox: Inbox, views: Views) {
    loop {
        let beat = views.borrow().as_ref().map(|view| view.plan().policy().limits.beat);
        let pause =
            beat.map_or(TICK_MAX, |beat| Duration::from_millis(beat.millis() / 2));
        tokio::time::sleep(pause.clamp(TICK_MIN, TICK_MAX)).await;
        inbox.tick();
    }
}

/// Writes the address so that a reader sees all of it or none.
fn publish_address(path: &Path, address: SocketAddr) -> anyhow::Result<()> {
    let staged = path.with_extension("tmp");
    let write = || {
        let mut file = fs::File::create(&staged)?;
        writeln!(file, "{address}")?;
        drop(file);
        fs::rename(&staged, path)
    };
    write().with_context(|| format!("write `{}`", path.display()))
}
