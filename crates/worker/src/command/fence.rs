//! Fence: who may work which job, and the programs that are at it right now.
//!
//! # Invariants
//!
//! * When a claim stands, no program runs for its job under a lower generation, and none
//!   starts again.
//! * One process per work directory: the lock is held by this process and by every program
//!   it has started, so that one that outlives a killed worker still keeps others away.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::fs::FlockOperation;
use rustix::io::FdFlags;
use tidegate_core::fleet::{Generation, JobNumber};
use tidegate_mail::{ClaimError, Claims};

use crate::store::{Under, by_job};

/// How long killed programs may take to be gone at the end: one in the middle of a broken
/// disk's read may never be, and then keeps the lock.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often a lock that is held is tried.
const LOCK_EVERY: Duration = Duration::from_millis(50);

/// The claims of one work directory.
#[derive(Debug)]
pub(crate) struct Fence {
    inside: Mutex<Inside>,
    /// Told whenever a program has ended.
    ended: Condvar,
    /// Names this run of the worker in the claims.
    holder: String,
    _lock: File,
}

#[derive(Debug)]
struct Inside {
    claims: Claims,
    running: Vec<Arc<Run>>,
    stopping: bool,
}

/// A program that runs.
#[derive(Debug)]
struct Run {
    /// Under which claim, if it needs one.
    under: Option<Under>,
    stop: AtomicBool,
}

/// Permission to run a program, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    fence: &'a Fence,
    run: Arc<Run>,
}

impl Permit<'_> {
    /// Set when the program must end.
    pub(crate) fn stop(&self) -> &AtomicBool {
        &self.run.stop
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.fence.inside().running.retain(|run| !Arc::ptr_eq(run, &self.run));
        self.fence.ended.notify_all();
    }
}

impl Fence {
    /// Opens the claims in `work` and locks it.
    ///
    /// Waits at most `patience` for programs that a killed worker has left running.
    pub(crate) fn open(
        work: &Path,
        holder: String,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let lock = lock(&work.join("lock"), patience)
            .with_context(|| format!("lock `{}`", work.display()))?;
        let claims = Claims::open(work.join("claims")).context("open the claims")?;
        let inside = Inside { claims, running: Vec::new(), stopping: false };
        let (inside, ended) = (Mutex::new(inside), Condvar::new());
        Ok(Self { inside, ended, holder, _lock: lock })
    }

    /// Claims a job durably, after everything that runs for it under a lower generation
    /// has been ended. Whether the claim stands; not if this worker has made a newer one.
    pub(crate) fn claim(&self, under: Under) -> anyhow::Result<bool> {
        let Under { job, generation } = under;
        let mut inside = self.inside();
        let older = |run: &&Arc<Run>| {
            run.under.is_some_and(|it| it.job == job && it.generation < generation)
        };
        while inside.running.iter().any(|run| older(&run)) {
            for run in inside.running.iter().filter(older) {
                run.stop.store(true, Ordering::SeqCst);
            }
            inside = self.ended.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        match inside.claims.claim(job.get(), generation.get(), &self.holder) {
            Ok(()) => Ok(true),
            Err(ClaimError::Fenced { holder, .. }) if holder == self.holder => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("claim {job} at {generation}"))
            }
        }
    }

    /// The generations that the claims on disk name.
    pub(crate) fn claimed(&self) -> anyhow::Result<BTreeMap<JobNumber, Generation>> {
        let claimed = self.inside().claims.generations().context("list the claims")?;
        Ok(by_job(claimed))
    }

    /// Permission to run a program under a claim, if that stands.
    pub(crate) fn enter(&self, under: Under) -> Option<Permit<'_>> {
        let inside = self.inside();
        let (job, generation) = (under.job.get(), under.generation.get());
        let stands = inside.claims.holds(job, generation, &self.holder);
        stands.then(|| self.begin(inside, Some(under))).flatten()
    }

    /// Permission to run a program that changes nothing, or only closes.
    pub(crate) fn enter_freely(&self) -> Option<Permit<'_>> {
        self.begin(self.inside(), None)
    }

    /// Ends everything that runs and lets nothing begin any more.
    pub(crate) fn stop(&self) {
        let mut inside = self.inside();
        inside.stopping = true;
        while !inside.running.is_empty() {
            for run in &inside.running {
                run.stop.store(true, Ordering::SeqCst);
            }
            let (after, waited) = self
                .ended
                .wait_timeout(inside, FAREWELL)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                return;
            }
            inside = after;
        }
    }

    fn begin(
        &self,
        mut inside: MutexGuard<'_, Inside>,
        under: Option<Under>,
    ) -> Option<Permit<'_>> {
        if inside.stopping {
            return None;
        }
        let run = Arc::new(Run { under, stop: AtomicBool::new(false) });
        inside.running.push(Arc::clone(&run));
        drop(inside);
        Some(Permit { fence: self, run })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the lock, for this process and all it starts.
fn lock(path: &Path, patience: Duration) -> anyhow::Result<File> {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let deadline = Instant::now() + patience;
    let try_lock = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    let mut taken = try_lock();
    while taken == Err(rustix::io::Errno::WOULDBLOCK) && Instant::now() < deadline {
        thread::sleep(LOCK_EVERY);
        taken = try_lock();
    }
    match taken {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            anyhow::bail!(
                "it is held by process {}, or by a program that this process started and \
                 that still runs; wait for its end, or end it",
                holder.trim()
            );
        }
        Err(errno) => return Err(io::Error::from(errno).into()),
    }
    rustix::io::fcntl_setfd(&file, FdFlags::empty()).map_err(io::Error::from)?;
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use tidegate_core::fleet::{Generation, JobNumber};

    use super::*;

    fn under(job: u32, generation: u64) -> Under {
        Under { job: JobNumber::new(job), generation: Generation::new(generation) }
    }

    #[test]
    fn a_claim_waits_until_older_work_on_its_job_has_ended_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let fence = Fence::open(dir.path(), "a".to_owned(), Duration::ZERO).unwrap();
        assert!(fence.claim(under(1, 5)).unwrap());
        assert!(fence.claim(under(2, 5)).unwrap());
        let (older, other) =
            (fence.enter(under(1, 5)).unwrap(), fence.enter(under(2, 5)).unwrap());

        thread::scope(|scope| {
            let claimed = scope.spawn(|| fence.claim(under(1, 6)).unwrap());
            while !older.stop().load(Ordering::SeqCst) {
                thread::yield_now();
            }
            assert!(!claimed.is_finished());
            drop(older);
            assert!(claimed.join().unwrap());
        });

        assert!(!other.stop().load(Ordering::SeqCst));
        assert!(fence.enter(under(1, 5)).is_none());
        assert!(fence.enter(under(1, 6)).is_some());
        assert!(!fence.claim(under(1, 5)).unwrap());
    }

    #[test]
    fn a_second_worker_is_kept_away_and_told_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Fence::open(dir.path(), "a".to_owned(), Duration::ZERO).unwrap();

        let refused = format!(
            "{:#}",
            Fence::open(dir.path(), "b".to_owned(), Duration::ZERO).unwrap_err()
        );

        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
    }

    #[test]
    fn nothing_begins_after_the_stop() {
        let dir = tempfile::tempdir().unwrap();
        let fence = Fence::open(dir.path(), "a".to_owned(), Duration::ZERO).unwrap();
        fence.stop();

        assert!(fence.enter_freely().is_none());
    }
}
