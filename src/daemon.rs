//! Daemons: runs a coordinator, a worker, or both, until a signal asks them to stop.
//!
//! # Invariants
//!
//! * SIGTERM and SIGINT end a program in order; it never needs them to be safe. SIGUSR1 has it say
//!   in its log how it is.
//! * A failure is logged once, with its whole chain, and ends with a code that tells a
//!   wrong file from a failure worth a restart.

use std::cell::Cell;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_coordinator::{Inside, Pages, Shown};
use tidegate_journal::{AppendError, StoreError};
use tidegate_pages::operations::{Door, House};
use tidegate_pages::visitor::{Role, Visitor, WhoSent};
use tidegate_trace::Program;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::cli::Daemon;
use crate::config::{self, CoordinatorFile, SoloFile, WorkerFile};
use crate::confine::{self, Confinement};
use crate::exit::{Exit, Failure, Outcome};
use crate::telemetry;

/// How often the address is looked for while a coordinator starts.
const ADDRESS_EVERY: Duration = Duration::from_millis(20);

/// How long a worker without its coordinator may take to end: a batch at the store under way
/// is finished first.
const WORKER_STOP_MAX: Duration = Duration::from_secs(30);

/// Carries out `tidegate coordinator`.
pub(crate) async fn coordinator(args: &Daemon) -> Outcome {
    let file = CoordinatorFile::read(&args.config)?;
    start_log(&file.log, "tidegate-coordinator", None)?;
    let stop = stop_asked(args.stop_with_stdin, tidegate_coordinator::tell_status)?;
    let pages = pages(file.coordinator.pages.as_ref());
    let config = coordinator_config(file.coordinator);
    ended(tidegate_coordinator::run_with(config, pages, stop).await)
}

/// What a worker is told. From here on it writes beneath its own directories alone; its threads
/// begin later, for it holds only for those.
pub(crate) fn confined(args: &Daemon) -> Result<WorkerFile, Failure> {
    let file = WorkerFile::read(&args.config)?;
    let directories = confine::directories(&file.worker);
    let confinement = directories.map(|it| confine::to(&it)).transpose()?;
    // It may have a thread of its own, for traces.
    start_log(&file.log, "tidegate-worker", Some(&file.worker.node))?;
    tell(confinement);
    Ok(file)
}

/// The same of a worker with its coordinator.
pub(crate) fn confined_solo(args: &Daemon) -> Result<SoloFile, Failure> {
    let file = SoloFile::read(&args.config)?;
    let directories = confine::directories(&file.worker);
    let directories = directories.map(|it| it.and_of(&file.coordinator));
    let confinement = directories.map(|it| confine::to(&it)).transpose()?;
    start_log(&file.log, "tidegate-solo", Some(&file.worker.node))?;
    tell(confinement);
    Ok(file)
}

fn tell(confinement: Option<Confinement>) {
    let Some(confinement) = confinement else {
        tracing::info!("not confined: the program of [store] may have to write anywhere");
        return;
    };
    let told = confine::told(confinement);
    match confinement {
        Confinement::Full | Confinement::ButTruncation => tracing::info!("{told}"),
        Confinement::None => tracing::warn!("{told}"),
    }
}

/// Carries out `tidegate worker`.
pub(crate) async fn worker(args: &Daemon, file: WorkerFile) -> Outcome {
    let stop = stop_asked(args.stop_with_stdin, tidegate_worker::tell_status)?;
    let mut config = worker_config(file.worker, file.coordinator);
    config.tls = file.tls;
    ended(tidegate_worker::run(config, stop).await)
}

/// Carries out `tidegate solo`: the worker starts when the coordinator listens, and ends
/// before it does.
pub(crate) async fn solo(args: &Daemon, file: SoloFile) -> Outcome {
    let stop = stop_asked(args.stop_with_stdin, tidegate_worker::tell_status)?;
    let data_dir = file.coordinator.data_dir.clone();
    forget_address(&data_dir)?;
    let (ask_coordinator, coordinator_asked) = watch::channel(false);
    let pages = pages(file.coordinator.pages.as_ref());
    let coordinator = tidegate_coordinator::run_with(
        coordinator_config(file.coordinator),
        pages,
        asked(coordinator_asked),
    );
    let mut coordinator = pin!(coordinator);
    let (ask_worker, worker_asked) = watch::channel(false);
    let began = Cell::new(false);
    let worker = async {
        let url = format!("http://{}", wait_for_address(&data_dir).await);
        began.set(true);
        tidegate_worker::run(worker_config(file.worker, url), asked(worker_asked)).await
    };
    let mut worker = pin!(worker);
    let mut stop = pin!(stop);
    let worker_result = tokio::select! {
        // Whichever ends first, the others are asked to end below; none is dropped halfway.
        result = &mut coordinator => {
            ask_worker.send_replace(true);
            let worker_result = last_of_worker(began.get(), worker).await;
            return ended(result.context("run the coordinator").and(worker_result));
        }
        result = &mut worker => result,
        () = &mut stop => {
            ask_worker.send_replace(true);
            worker_ended_or_never_began(&data_dir, worker).await
        }
    };
    ask_coordinator.send_replace(true);
    let coordinator_result = coordinator.await;
    ended(worker_result.context("run the worker").and(coordinator_result))
}

/// Waits for the worker, unless the coordinator never came up for it.
async fn worker_ended_or_never_began(
    data_dir: &Path,
    worker: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    if address(data_dir).is_none() {
        return Ok(());
    }
    worker.await
}

/// Waits for a worker that has been asked to end because its coordinator has. One that has
/// not begun never will.
async fn last_of_worker(
    began: bool,
    worker: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    if !began {
        return Ok(());
    }
    timeout(WORKER_STOP_MAX, worker)
        .await
        .context("wait for the worker to end")?
        .context("run the worker")
}

/// Where the coordinator with this data directory listens, once it does.
pub(crate) async fn wait_for_address(data_dir: &Path) -> String {
    loop {
        if let Some(address) = address(data_dir) {
            return address;
        }
        tokio::time::sleep(ADDRESS_EVERY).await;
    }
}

/// Removes what an earlier run said about where it listens.
///
/// # Errors
///
/// When it is there and cannot be removed.
pub(crate) fn forget_address(data_dir: &Path) -> anyhow::Result<()> {
    let path = tidegate_coordinator::address_file(data_dir);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove `{}`", path.display())),
    }
}

fn address(data_dir: &Path) -> Option<String> {
    let text =
        std::fs::read_to_string(tidegate_coordinator::address_file(data_dir)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn coordinator_config(config: config::Coordinator) -> tidegate_coordinator::Config {
    let config::Coordinator {
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
        pages: _,
    } = config;
    tidegate_coordinator::Config {
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
    }
}

/// The operations page beside a coordinator, if it is wanted.
fn pages(config: Option<&config::Pages>) -> Option<Pages> {
    let config = config?;
    let door = Door::new(config.hosts.clone());
    let routes = move |Inside { readers, operators, desk }| {
        let who_sent: WhoSent =
            |sender| Shown::by(sender).map_or_else(Visitor::local, holder);
        House { readers, operators, desk, who_sent, door }.routes()
    };
    Some(Pages { listen: config.listen, routes: Box::new(routes) })
}

/// Whoever shows a certificate.
fn holder(shown: Shown) -> Visitor {
    let roles = shown.roles.into_iter().filter_map(Role::named).collect();
    Visitor { name: Some(shown.name), roles }
}

fn worker_config(config: config::Worker, coordinator: String) -> tidegate_worker::Config {
    tidegate_worker::Config {
        node: config.node,
        coordinator,
        tls: None,
        state_dir: config.state_dir,
        mail: config.mail,
        work: config.work,
        admission_listen: config.admission_listen,
        metrics_listen: config.metrics_listen,
        dovecot: config.dovecot,
        canary: config.canary,
        notices: config.notices,
        compact_after_records: config.compact_after_records,
    }
}

/// Starts the log of the program called `name`, on `node` if it stands on one.
///
/// # Errors
///
/// [`Exit::Config`].
pub(crate) fn start_log(
    log: &config::Log,
    name: &str,
    node: Option<&str>,
) -> Result<(), Failure> {
    let program = Program { name, version: telemetry::VERSION, node };
    telemetry::start(log, &program).map_err(|error| Failure::new(Exit::Config, error))
}

pub(crate) fn ended(result: anyhow::Result<()>) -> Outcome {
    match result {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            tracing::error!(error = %telemetry::Chain(error.as_ref()), "stopped");
            let exit = if is_not_kept(&error) { Exit::NotKept } else { Exit::Failed };
            Err(Failure::new(exit, error))
        }
    }
}

/// Whether a journal could not be written, or a disk is full or broken.
fn is_not_kept(error: &anyhow::Error) -> bool {
    let full =
        [ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem, ErrorKind::QuotaExceeded];
    error.chain().any(|cause| {
        cause.is::<AppendError>()
            || cause.downcast_ref::<StoreError>().is_some_and(StoreError::is_of_the_disk)
            || cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| full.contains(&e.kind()) || is_broken(e))
    })
}

/// Whether the disk can neither be read nor written.
fn is_broken(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

async fn asked(mut ask: watch::Receiver<bool>) {
    // A sender that is gone asks, too.
    let _ = ask.wait_for(|asked| *asked).await;
}

/// Completes when the program is asked to stop: by a signal, or by the end of stdin if
/// whoever started it wants it so. Until then `answer` is called whenever SIGUSR1 asks how it is.
///
/// # Errors
///
/// When signals cannot be listened for.
pub(crate) fn stop_asked(
    with_stdin: bool,
    answer: fn(),
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let mut term = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let (ended, end) = oneshot::channel::<()>();
    let mut asked = signal(SignalKind::user_defined1()).context("listen for SIGUSR1")?;
    let watched = if with_stdin { Some(watch_stdin(ended)?) } else { None };
    Ok(async move {
        let stdin_ended = async {
            match watched {
                Some(_) => drop(end.await),
                None => std::future::pending().await,
            }
        };
        let answers = async {
            while asked.recv().await.is_some() {
                tracing::info!("asked for its status by SIGUSR1");
                answer();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // Nothing is lost with the arms that did not come.
            () = answers => {}
            _ = term.recv() => tracing::info!("stopping on SIGTERM"),
            _ = int.recv() => tracing::info!("stopping on SIGINT"),
            () = stdin_ended => tracing::info!("stopping with its starter"),
        }
    })
}

/// Reads stdin to its end on a thread of its own: a runtime would wait for such a read.
fn watch_stdin(
    ended: oneshot::Sender<()>,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut sink = [0; 64];
            while std::io::stdin().read(&mut sink).is_ok_and(|read| read > 0) {}
            // Nobody listens any more when the program is ending already.
            let _unheard = ended.send(());
        })
        .context("watch stdin")
}
