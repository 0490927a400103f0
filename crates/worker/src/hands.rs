//! Hands: threads that touch the mail store, so that decisions never wait for a disk.
//!
//! # Invariants
//!
//! * A task is done under the generation it names; the store itself refuses an older one.
//! * Every task comes back as exactly one [`Done`], whatever happened to it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Look, Outcome, ProbeTask, Probed, Settled};
use tidegate_core::share::Ppm;
use tidegate_mail::{ClaimError, Mailbox, PrepareTask, Prepared, Probe, Refusal, Store};

use crate::description::Description;
use crate::findings::{alarm, is_temporary, settled};
use crate::node::UNREADABLE;

/// A piece of work at the store.
#[derive(Debug)]
pub(crate) enum Task {
    /// Keep the description, then claim the store for the job.
    Claim { job: JobNumber, generation: Generation, description: Arc<Description> },
    /// Verify and repair.
    Prepare { job: JobNumber, generation: Generation, mailboxes: Vec<(Ordinal, Mailbox)> },
    /// Look whether held mailboxes are as they were.
    Look { job: JobNumber, generation: Generation, mailboxes: Vec<(Ordinal, Mailbox)> },
    /// Read open mailboxes.
    Probe { tasks: Vec<(ProbeTask, Mailbox)> },
    /// Ask for the free space.
    Measure,
}

/// What came of a task.
#[derive(Debug)]
pub(crate) enum Done {
    /// The store is claimed.
    Claimed { job: JobNumber, generation: Generation, description: Arc<Description> },
    /// A newer claim of this worker came first; there is nothing left to do.
    Overtaken { job: JobNumber, generation: Generation },
    /// Verified; those not in `results` must be tried again.
    Settled {
        job: JobNumber,
        generation: Generation,
        tried: Vec<Ordinal>,
        results: Vec<Settled>,
    },
    /// Looked at.
    Looked { job: JobNumber, generation: Generation, looks: Vec<(Ordinal, Look)> },
    /// Read; latencies in the same order.
    Probed { results: Vec<(ProbeTask, Probed, Option<Duration>)> },
    /// The free share of the live file system.
    Measured(Option<Ppm>),
    /// The store can no longer be trusted to keep what it is given, or belongs to another
    /// worker: nothing more may be done by this process.
    Broken(anyhow::Error),
}

/// How many tasks may wait for each pool: the node only asks for what hands are free for.
const TASKS_MAX: usize = 64;

/// How often a failed probe is repeated before it counts, and how long it waits between:
/// one slow moment of a disk is not a sick mailbox.
const PROBE_ATTEMPTS: u32 = 3;
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// Two pools: one for heavy work, one for quick looks that must not wait behind it.
#[derive(Debug)]
pub(crate) struct Hands {
    heavy: SyncSender<Task>,
    quick: SyncSender<Task>,
}

impl Hands {
    /// Starts `heavy` threads for preparing and `quick` ones for everything else; `done`
    /// hears of every task and says whether anybody still listens.
    pub(crate) fn start(
        hand: &Hand,
        heavy: usize,
        quick: usize,
        done: &(impl Fn(Done) -> bool + Clone + Send + 'static),
    ) -> Self {
        let pool = |name: &str, threads: usize| {
            let (tasks, queue) = sync_channel(TASKS_MAX);
            let queue = Arc::new(Mutex::new(queue));
            for index in 0..threads.max(1) {
                let hand = hand.clone();
                let (queue, done) = (Arc::clone(&queue), done.clone());
                let started = thread::Builder::new()
                    .name(format!("{name}-{index}"))
                    .spawn(move || hand.work(&queue, &done));
                if let Err(error) = started {
                    tracing::error!(%error, "cannot start a thread");
                }
            }
            tasks
        };
        Self { heavy: pool("prepare", heavy), quick: pool("look", quick) }
    }

    /// Hands over a task; back if the pool is full or gone.
    pub(crate) fn give(&self, task: Task) -> Result<(), Task> {
        let pool = match &task {
            Task::Prepare { .. } => &self.heavy,
            Task::Claim { .. }
            | Task::Look { .. }
            | Task::Probe { .. }
            | Task::Measure => &self.quick,
        };
        pool.try_send(task).map_err(|refused| match refused {
            std::sync::mpsc::TrySendError::Full(task)
            | std::sync::mpsc::TrySendError::Disconnected(task) => task,
        })
    }
}

/// What every thread works with.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    /// The mail.
    pub(crate) store: Arc<Store>,
    /// Names this run of the worker in the store's claims.
    pub(crate) holder: String,
    /// Where descriptions are kept.
    pub(crate) descriptions: PathBuf,
}

impl Hand {
    fn work(&self, queue: &Mutex<Receiver<Task>>, done: &dyn Fn(Done) -> bool) {
        loop {
            let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            let carried_out = catch_unwind(AssertUnwindSafe(|| self.carry_out(task)));
            let panicked =
                |_| Done::Broken(anyhow::anyhow!("a hand panicked at the store"));
            if !done(carried_out.unwrap_or_else(panicked)) {
                return;
            }
        }
    }

    fn carry_out(&self, task: Task) -> Done {
        match task {
            Task::Claim { job, generation, description } => {
                match self.claim(job, generation, &description) {
                    Ok(true) => Done::Claimed { job, generation, description },
                    Ok(false) => Done::Overtaken { job, generation },
                    Err(error) => Done::Broken(error),
                }
            }
            Task::Prepare { job, generation, mailboxes } => {
                self.prepare(job, generation, mailboxes)
            }
            Task::Look { job, generation, mailboxes } => {
                let looks = mailboxes.iter().map(|(ordinal, mailbox)| {
                    let look = match self.store.stamp(mailbox) {
                        Ok(stamp) => Look::Stamp(stamp.0),
                        Err(_) => Look::Impossible,
                    };
                    (*ordinal, look)
                });
                Done::Looked { job, generation, looks: looks.collect() }
            }
            Task::Probe { tasks } => Done::Probed {
                results: tasks
                    .iter()
                    .map(|(task, mailbox)| self.probe(*task, mailbox))
                    .collect(),
            },
            Task::Measure => {
                Done::Measured(self.store.free_share_ppm().ok().map(Ppm::new))
            }
        }
    }

    /// Whether the claim stands; not if this worker has made a newer one meanwhile.
    fn claim(
        &self,
        job: JobNumber,
        generation: Generation,
        description: &Description,
    ) -> anyhow::Result<bool> {
        description.write(&self.descriptions, job).context("keep a job's mailboxes")?;
        let claimed = self.store.claim(job.get(), generation.get(), &self.holder);
        match claimed {
            Ok(()) => Ok(true),
            Err(ClaimError::Fenced { holder, .. }) if holder == self.holder => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("claim {job} at {generation}"))
            }
        }
    }

    fn prepare(
        &self,
        job: JobNumber,
        generation: Generation,
        mailboxes: Vec<(Ordinal, Mailbox)>,
    ) -> Done {
        let (tried, mailboxes): (Vec<Ordinal>, Vec<Mailbox>) =
            mailboxes.into_iter().unzip();
        let prepared = self.store.prepare(&PrepareTask {
            job: job.get(),
            generation: generation.get(),
            holder: &self.holder,
            mailboxes: &mailboxes,
        });
        match prepared {
            Ok(results) => {
                warn_of_delays(&results);
                let results = tried
                    .iter()
                    .zip(results)
                    .filter_map(|(ordinal, result)| settled(*ordinal, result));
                Done::Settled { job, generation, results: results.collect(), tried }
            }
            Err(error) => Done::Broken(error.into()),
        }
    }

    fn probe(
        &self,
        task: ProbeTask,
        mailbox: &Mailbox,
    ) -> (ProbeTask, Probed, Option<Duration>) {
        let mut outcome = Outcome::Read;
        let mut took = None;
        for attempt in 0..PROBE_ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PROBE_PAUSE);
            }
            let seed = u64::from(task.ordinal.get()) << 8 | u64::from(attempt);
            let (code, reason) = match self.store.probe(mailbox, seed) {
                Probe::Healthy { latency } => {
                    took = Some(latency);
                    outcome = Outcome::Read;
                    break;
                }
                Probe::Unreadable { what } => (UNREADABLE, what),
                Probe::Altered { what } => {
                    outcome = Outcome::Altered(alarm(task, "altered", what));
                    break;
                }
                Probe::Foreign => {
                    let text = "mail of somebody else".to_owned();
                    outcome = Outcome::Altered(alarm(task, "foreign", text));
                    break;
                }
            };
            outcome = Outcome::Unreadable(alarm(task, code, reason));
        }
        let probed = Probed {
            ordinal: task.ordinal,
            level: task.level,
            mature: task.mature,
            outcome,
        };
        (task, probed, took)
    }
}

/// Says once for a batch what keeps mailboxes waiting; each is tried again by itself.
fn warn_of_delays(results: &[Result<Prepared, Refusal>]) {
    let refusals = results.iter().filter_map(|result| result.as_ref().err());
    let mut delayed: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals.filter(|refusal| is_temporary(refusal)) {
        *delayed.entry(refusal.code()).or_default() += 1;
    }
    for (code, mailboxes) in delayed {
        let action = if code == "no-space" {
            "free space on the file system of the live mail"
        } else {
            "none: they are tried again"
        };
        tracing::warn!(code, mailboxes, action, "mailboxes must be prepared later");
    }
}
