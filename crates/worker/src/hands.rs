//! Hands: threads that touch the mail store, so that decisions never wait for a disk.
//!
//! # Invariants
//!
//! * A task is done under the generation it names; the store itself refuses an older one.
//! * Every task comes back as exactly one [`Done`], whatever happened to it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Look, ProbeTask, Probed, Settled, Stamp};
use tidegate_core::share::Ppm;
use tidegate_mail::Mailbox;

use crate::description::{Chosen, Description, Shelf};
use crate::store::{Dialling, MailStore, Switching, Telling, Told, Under};

/// A piece of work at the store.
#[derive(Debug)]
pub(crate) enum Task {
    /// Keep the description, then claim the store for the job.
    Claim { job: JobNumber, generation: Generation, description: Arc<Description> },
    /// Verify and repair.
    Prepare { job: JobNumber, generation: Generation, chosen: Chosen },
    /// Look whether held mailboxes are as they were.
    Look { job: JobNumber, generation: Generation, chosen: Chosen },
    /// Replace held mailboxes by empty ones.
    Dial { job: JobNumber, generation: Generation, chosen: Chosen },
    /// Put back histories that were verified at these stamps.
    Switch {
        job: JobNumber,
        generation: Generation,
        mailboxes: Vec<(Ordinal, Mailbox, Stamp)>,
    },
    /// Tell the mail system where mailboxes stand.
    Tell { telling: Telling, chosen: Chosen },
    /// Read open mailboxes of these jobs.
    Probe { jobs: Vec<(Arc<Description>, Vec<ProbeTask>)> },
    /// Ask for the free space.
    Measure,
    /// Ask how high the store is claimed.
    Claims,
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
    /// Looked at; those not in `looks` must be looked at again.
    Looked {
        job: JobNumber,
        generation: Generation,
        tried: Vec<Ordinal>,
        looks: Vec<(Ordinal, Look)>,
    },
    /// Emptied; those not in `results` must be tried again.
    Dialled {
        job: JobNumber,
        generation: Generation,
        tried: Vec<Ordinal>,
        results: Vec<(Ordinal, Dialling)>,
    },
    /// Put back; those not in `results` must be tried again.
    Switched {
        job: JobNumber,
        generation: Generation,
        tried: Vec<Ordinal>,
        results: Vec<(Ordinal, Switching)>,
    },
    /// The mail system has been told.
    Told { telling: Telling, told: Vec<(Ordinal, Told)> },
    /// Read, and how long each took; those not in `results` must be read again.
    Probed { tried: Vec<ProbeTask>, results: Vec<(ProbeTask, Probed, Option<Duration>)> },
    /// The free share of the live file system.
    Measured(Option<Ppm>),
    /// The highest generation that the store is claimed at; nothing if that cannot be read now.
    Found(Option<Generation>),
    /// The store can no longer be trusted to keep what it is given, or belongs to another
    /// worker: nothing more may be done by this process.
    Broken(anyhow::Error),
}

impl Done {
    /// Whether nothing was decided about any mailbox: there was no room, or the claim stands no
    /// more.
    pub(crate) fn is_in_vain(&self) -> bool {
        match self {
            Self::Settled { tried, results, .. } => {
                results.is_empty() && !tried.is_empty()
            }
            Self::Looked { tried, looks, .. } => looks.is_empty() && !tried.is_empty(),
            Self::Dialled { tried, results, .. } => {
                results.is_empty() && !tried.is_empty()
            }
            Self::Switched { tried, results, .. } => {
                results.is_empty() && !tried.is_empty()
            }
            Self::Told { told, .. } => told.iter().all(|(_, told)| *told == Told::NotYet),
            Self::Claimed { .. }
            | Self::Overtaken { .. }
            | Self::Probed { .. }
            | Self::Measured(_)
            | Self::Found(_)
            | Self::Broken(_) => false,
        }
    }
}

/// How many tasks may wait for each pool: the node only asks for what hands are free for.
const TASKS_MAX: usize = 64;

/// Threads that look and probe; they mostly wait for single small reads.
const QUICK_THREADS: usize = 2;

/// Threads that tell the mail system: they wait for its programs, not for disks.
const TELLING_THREADS: usize = 2;

/// Pools of threads: one for heavy work, one for quick looks that must not wait behind it,
/// one for telling, one for dial tones, and one for claims, which must wait behind nothing.
#[derive(Debug)]
pub(crate) struct Hands {
    heavy: SyncSender<Task>,
    quick: SyncSender<Task>,
    telling: SyncSender<Task>,
    dialling: SyncSender<Task>,
    claims: SyncSender<Task>,
}

impl Hands {
    /// Starts `heavy` threads for preparing, and those for everything else; `done` hears of
    /// every task and says whether anybody still listens.
    pub(crate) fn start(
        hand: &Hand,
        heavy: usize,
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
        Self {
            heavy: pool("prepare", heavy),
            quick: pool("look", QUICK_THREADS),
            telling: pool("tell", TELLING_THREADS),
            dialling: pool("dial", 1),
            claims: pool("claim", 1),
        }
    }

    /// Hands of somebody else, who takes all tasks from one queue.
    pub(crate) fn driven(tasks: &SyncSender<Task>) -> Self {
        let queue = || tasks.clone();
        Self {
            heavy: queue(),
            quick: queue(),
            telling: queue(),
            dialling: queue(),
            claims: queue(),
        }
    }

    /// Hands over a task; back if the pool is full or gone.
    pub(crate) fn give(&self, task: Task) -> Result<(), Task> {
        let pool = match &task {
            Task::Prepare { .. } => &self.heavy,
            Task::Claim { .. } => &self.claims,
            Task::Tell { .. } => &self.telling,
            Task::Dial { .. } | Task::Switch { .. } => &self.dialling,
            Task::Look { .. } | Task::Probe { .. } | Task::Measure | Task::Claims => {
                &self.quick
            }
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
    pub(crate) store: Arc<dyn MailStore>,
    /// Where descriptions are kept.
    pub(crate) shelf: Arc<dyn Shelf>,
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

    /// Does one task.
    pub(crate) fn carry_out(&self, task: Task) -> Done {
        match task {
            Task::Claim { job, generation, description } => {
                match self.claim(job, generation, &description) {
                    Ok(true) => Done::Claimed { job, generation, description },
                    Ok(false) => Done::Overtaken { job, generation },
                    Err(error) => Done::Broken(error),
                }
            }
            Task::Prepare { job, generation, chosen } => {
                let tried = chosen.ordinals();
                match self.store.prepare(Under { job, generation }, chosen.mailboxes()) {
                    Ok(results) => Done::Settled { job, generation, tried, results },
                    Err(error) => Done::Broken(error),
                }
            }
            Task::Look { job, generation, chosen } => {
                let (tried, mailboxes) = (chosen.ordinals(), chosen.mailboxes());
                let looks = self.store.look(Under { job, generation }, &mailboxes);
                Done::Looked { job, generation, tried, looks }
            }
            Task::Dial { job, generation, chosen } => {
                let (tried, mailboxes) = (chosen.ordinals(), chosen.mailboxes());
                match self.store.dial(Under { job, generation }, &mailboxes) {
                    Ok(results) => Done::Dialled { job, generation, tried, results },
                    Err(error) => Done::Broken(error),
                }
            }
            Task::Switch { job, generation, mailboxes } => {
                let tried = mailboxes.iter().map(|(ordinal, ..)| *ordinal).collect();
                match self.store.switch(Under { job, generation }, mailboxes) {
                    Ok(results) => Done::Switched { job, generation, tried, results },
                    Err(error) => Done::Broken(error),
                }
            }
            Task::Tell { telling, chosen } => {
                match self.store.tell(&telling, &chosen.mailboxes()) {
                    Ok(told) => Done::Told { telling, told },
                    Err(error) => Done::Broken(error),
                }
            }
            Task::Probe { jobs } => {
                let tried = jobs.iter().flat_map(|(_, tasks)| tasks).copied().collect();
                let known = jobs.iter().flat_map(|(description, tasks)| {
                    tasks.iter().filter_map(|task| {
                        Some((*task, description.mailbox(task.ordinal, true)?))
                    })
                });
                let known: Vec<(ProbeTask, Mailbox)> = known.collect();
                let results =
                    self.store.probe(&known).into_iter().map(|(task, outcome, took)| {
                        let ProbeTask { ordinal, level, mature, .. } = task;
                        (task, Probed { ordinal, level, mature, outcome }, took)
                    });
                Done::Probed { tried, results: results.collect() }
            }
            Task::Measure => Done::Measured(self.store.free_share()),
            Task::Claims => {
                let claimed = self.store.claimed().ok();
                Done::Found(claimed.and_then(|claimed| claimed.into_values().max()))
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
        description.write(&*self.shelf, job).context("keep a job's mailboxes")?;
        self.store.claim(Under { job, generation })
    }
}
