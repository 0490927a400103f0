//! Files: a mail store whose mailboxes this program reads and repairs itself.
//!
//! # Invariants
//!
//! * One slow moment of a disk is not a sick mailbox: a failed probe is repeated.

mod dial;
mod panics;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_core::fleet::{Generation, JobNumber, Ordinal};
use tidegate_core::holding::{Look, Outcome, ProbeTask, Settled, Stamp};
use tidegate_core::rollout::{Grade, Grades, MessageTotals};
use tidegate_core::share::Ppm;
use tidegate_mail::{
    ClaimError, Mailbox, Manifest, Nfs, PrepareTask, Prepared, Probe, Refusal, Store,
    StoreConfig,
};

use crate::findings::{alarm, is_its_own, is_temporary, settled};
use crate::node::UNREADABLE;
use crate::store::{Dialling, MailStore, Switching, Under, by_job, quarantined};
use panics::Panics;

/// How often a failed probe is repeated before it counts, and how long it waits between.
const PROBE_ATTEMPTS: u32 = 3;
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// How often a mailbox is tried that will not stand still, before it is set aside for a
/// person: it must not hold up its wave.
const PREPARE_ATTEMPTS: u32 = 3;

/// Where panics are noted, in the work directory.
const PANICS_DIR: &str = "panics";

/// Where mail is that this program reads and repairs itself.
#[derive(Clone, Debug)]
pub struct Files {
    /// The root of the live mail.
    pub live: PathBuf,
    /// The root of the snapshot, if there is one.
    pub snapshot: Option<PathBuf>,
    /// Files larger than this are not mail, bytes.
    pub file_size_max: u64,
    /// The mail lies on NFS, and whoever takes the node over fences the export first.
    pub nfs_is_fenced: bool,
}

/// The store of [`Files`].
#[derive(Debug)]
pub(crate) struct FileStore {
    store: Store,
    /// Names this run of the worker in the store's claims.
    holder: String,
    /// How often mailboxes were tried in vain under a generation, by their keys.
    attempts: Mutex<BTreeMap<u64, (Generation, u32)>>,
    /// Which mailboxes have brought a hand down.
    panics: Panics,
}

impl FileStore {
    /// Opens it, with `work` beside the live mail.
    pub(crate) fn open(
        files: Files,
        work: PathBuf,
        holder: String,
    ) -> anyhow::Result<Self> {
        let Files { live, snapshot, file_size_max, nfs_is_fenced } = files;
        let notes = work.join(PANICS_DIR);
        let config = StoreConfig { live, snapshot, work, file_size_max };
        let nfs = if nfs_is_fenced { Nfs::Fenced } else { Nfs::Refused };
        let store = Store::open_on(config, nfs).context("open the mail store")?;
        let panics = Panics::open(notes).context("read the notes of panics")?;
        Ok(Self { store, holder, attempts: Mutex::default(), panics })
    }
}

impl MailStore for FileStore {
    fn claim(&self, under: Under) -> anyhow::Result<bool> {
        let Under { job, generation } = under;
        match self.store.claim(job.get(), generation.get(), &self.holder) {
            Ok(()) => Ok(true),
            Err(ClaimError::Fenced { holder, .. }) if holder == self.holder => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("claim {job} at {generation}"))
            }
        }
    }

    fn claimed(&self) -> anyhow::Result<BTreeMap<JobNumber, Generation>> {
        Ok(by_job(self.store.claimed().context("list the claims")?))
    }

    fn prepare(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>> {
        let mut results = Vec::new();
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for (ordinal, mailbox) in mailboxes {
            match self.panics.of(mailbox.key) {
                0 => together.push((ordinal, mailbox)),
                known if known < PREPARE_ATTEMPTS => alone.push(vec![(ordinal, mailbox)]),
                _ => results.push(given_up(ordinal, mailbox.key)),
            }
        }
        for some in std::iter::once(together).chain(alone) {
            results.extend(self.prepare_some(under, some)?);
        }
        Ok(results)
    }

    fn dial(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Dialling)>> {
        self.empty(under, mailboxes)
    }

    fn switch(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox, Stamp)>,
    ) -> anyhow::Result<Vec<(Ordinal, Switching)>> {
        self.put_back(under, mailboxes)
    }

    fn look(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> Vec<(Ordinal, Look)> {
        let Under { job, generation } = under;
        if !self.store.stands(job.get(), generation.get(), &self.holder) {
            // Whoever has claimed it since looks himself.
            return Vec::new();
        }
        let look = |(ordinal, it): &(Ordinal, Mailbox)| (*ordinal, self.look_at(it));
        mailboxes.iter().map(look).collect()
    }

    fn probe(
        &self,
        tasks: &[(ProbeTask, Mailbox)],
    ) -> Vec<(ProbeTask, Outcome, Option<Duration>)> {
        let probed = tasks.iter().map(|(task, mailbox)| {
            let (outcome, took) = self.probe_one(*task, mailbox);
            (*task, outcome, took)
        });
        probed.collect()
    }

    fn free_share(&self) -> Option<Ppm> {
        self.store.free_share_ppm().ok().map(Ppm::new)
    }

    fn verified(&self, mailbox: &Mailbox) -> Option<Manifest> {
        self.store.manifest(mailbox.key).ok().flatten()
    }

    fn uid_validities(&self, mailbox: &Mailbox) -> BTreeMap<Vec<u8>, u32> {
        self.store.uid_validities(mailbox).unwrap_or_else(|refusal| {
            tracing::debug!(%refusal, "no UIDVALIDITY is known");
            BTreeMap::new()
        })
    }
}

impl FileStore {
    fn prepare_some(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox)>,
    ) -> anyhow::Result<Vec<Settled>> {
        if mailboxes.is_empty() {
            return Ok(Vec::new());
        }
        let (tried, mailboxes): (Vec<Ordinal>, Vec<Mailbox>) =
            mailboxes.into_iter().unzip();
        let keys: Vec<u64> = mailboxes.iter().map(|mailbox| mailbox.key).collect();
        let results = self.panics.watch(&keys, || {
            self.settle_dial(under, &mailboxes)?;
            let results = self.store.prepare(&PrepareTask {
                job: under.job.get(),
                generation: under.generation.get(),
                holder: &self.holder,
                mailboxes: &mailboxes,
            })?;
            Ok::<_, anyhow::Error>(results)
        })?;
        for key in &keys {
            self.panics.forget(*key);
        }
        warn_of_delays(&results);
        let results = tried.iter().zip(&mailboxes).zip(results);
        let results = results.filter_map(|((ordinal, mailbox), result)| {
            let attempts = self.attempts(under.generation, mailbox.key, &result);
            settled((*ordinal, mailbox), result, attempts >= PREPARE_ATTEMPTS)
        });
        Ok(results.collect())
    }

    /// How often this mailbox was tried in vain under this generation, for a cause of its own.
    fn attempts(
        &self,
        generation: Generation,
        key: u64,
        result: &Result<Prepared, Refusal>,
    ) -> u32 {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if !result.as_ref().is_err_and(is_its_own) {
            attempts.remove(&key);
            return 0;
        }
        let known = attempts.entry(key).or_insert((generation, 0));
        if known.0 != generation {
            *known = (generation, 0);
        }
        known.1 += 1;
        known.1
    }

    fn probe_one(
        &self,
        task: ProbeTask,
        mailbox: &Mailbox,
    ) -> (Outcome, Option<Duration>) {
        let mut outcome = Outcome::Read;
        for attempt in 0..PROBE_ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PROBE_PAUSE);
            }
            let seed = u64::from(task.ordinal.get()) << 8 | u64::from(attempt);
            let reason = match self.store.probe(mailbox, seed) {
                Probe::Healthy { latency } => return (Outcome::Read, Some(latency)),
                Probe::Unreadable { what } => mailbox.unnamed(&what),
                Probe::Altered { what } => {
                    let what = mailbox.unnamed(&what);
                    return (Outcome::Altered(alarm(task, "altered", what)), None);
                }
                Probe::Foreign => {
                    let text = "mail of somebody else".to_owned();
                    return (Outcome::Altered(alarm(task, "foreign", text)), None);
                }
            };
            outcome = Outcome::Unreadable(alarm(task, UNREADABLE, reason));
        }
        (outcome, None)
    }
}

/// A mailbox at which hands have panicked too often waits for a person.
fn given_up(ordinal: Ordinal, key: u64) -> Settled {
    let note = panics::name_of(key);
    tracing::error!(
        note,
        action = "keep the mailbox for whoever mends this program, then remove the note",
        "a mailbox brings this program down: it is set aside"
    );
    let reason = format!(
        "preparing it has brought the worker down {PREPARE_ATTEMPTS} times; it is tried again \
         once `{PANICS_DIR}/{note}` in the directory `work` is removed and the worker restarted"
    );
    Settled {
        ordinal,
        stamp: None,
        totals: MessageTotals { grades: Grades::one(Grade::Poor), ..Default::default() },
        findings: vec![quarantined(ordinal, "panicked".to_owned(), reason)],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_that_has_brought_three_hands_down_is_set_aside_and_the_others_are_prepared()
     {
        let dir = tempfile::tempdir().unwrap();
        let (live, work) = (dir.path().join("live"), dir.path().join("work"));
        let mailboxes: Vec<(Ordinal, Mailbox)> = (0..3)
            .map(|place| {
                let path = format!("user{place}");
                std::fs::create_dir_all(live.join(&path).join("cur")).unwrap();
                let (key, address) = (u64::from(place), format!("{path}@example.org"));
                let path = path.into_bytes();
                let mailbox = Mailbox { key, address, path, served: false };
                (Ordinal::new(place), mailbox)
            })
            .collect();
        std::fs::create_dir_all(work.join(PANICS_DIR)).unwrap();
        let note = |key, count: &str| {
            std::fs::write(work.join(PANICS_DIR).join(panics::name_of(key)), count)
                .unwrap();
        };
        note(1, "3");
        note(2, "2");

        let files =
            Files { live, snapshot: None, file_size_max: 99, nfs_is_fenced: false };
        let store = FileStore::open(files, work.clone(), "run".to_owned()).unwrap();
        let job = JobNumber::new(1);
        let under = Under { job, generation: Generation::new(5) };
        assert!(store.claim(under).unwrap());
        let settled = store.prepare(under, mailboxes).unwrap();

        assert_eq!(store.claimed().unwrap(), BTreeMap::from([(job, under.generation)]));
        let codes = settled.iter().flat_map(|it| &it.findings).map(|it| it.code.as_str());
        assert_eq!(codes.collect::<Vec<_>>(), ["panicked"]);
        let prepared = settled.iter().filter(|it| it.stamp.is_some());
        assert_eq!(prepared.count(), 2);
        let left: Vec<u32> = (0..3).map(|key| store.panics.of(key)).collect();
        assert_eq!(left, [0, 3, 0]);
    }

    #[test]
    fn a_claim_of_somebody_who_came_past_the_lock_is_told_and_respected() {
        let dir = tempfile::tempdir().unwrap();
        let open = |node: &str, holder: &str| {
            let (live, work) = (dir.path().join(node), dir.path().join("of").join(node));
            std::fs::create_dir_all(live.join("user0/cur")).unwrap();
            std::fs::create_dir_all(&work).unwrap();
            let files =
                Files { live, snapshot: None, file_size_max: 99, nfs_is_fenced: false };
            FileStore::open(files, work, holder.to_owned()).unwrap()
        };
        let (key, address) = (0, "user0@example.org".to_owned());
        let path = b"user0".to_vec();
        let mailbox = Mailbox { key, address, path, served: false };
        let all = vec![(Ordinal::new(0), mailbox)];
        let job = JobNumber::new(1);
        let under = |generation| Under { job, generation: Generation::new(generation) };
        let store = open("node", "at-work");
        assert!(store.claim(under(5)).unwrap());
        assert_eq!(store.look(under(5), &all).len(), 1);

        // By a lock of its own, as behind another kernel.
        assert!(open("elsewhere", "given-up").claim(under(9)).unwrap());
        let claim = |node: &str| dir.path().join("of").join(node).join("claims/1");
        std::fs::copy(claim("elsewhere"), claim("node")).unwrap();

        assert_eq!(
            store.claimed().unwrap(),
            BTreeMap::from([(job, under(9).generation)])
        );
        assert!(store.look(under(5), &all).is_empty());
        assert!(store.prepare(under(5), all.clone()).unwrap().is_empty());
        let refused = store.claim(under(7)).unwrap_err();
        assert!(format!("{refused:#}").contains("given-up"), "{refused:#}");
        drop(store);
        let store = open("node", "the next run");
        assert!(store.claim(under(10)).unwrap());
        assert_eq!(store.look(under(10), &all).len(), 1);
    }

    #[test]
    fn what_somebody_else_has_left_in_the_work_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (live, work) = (dir.path().join("live"), dir.path().join("work"));
        std::fs::create_dir(&live).unwrap();
        std::fs::create_dir(&work).unwrap();
        std::fs::write(work.join("staging"), "in the way").unwrap();

        let files =
            Files { live, snapshot: None, file_size_max: 1, nfs_is_fenced: false };
        let error = FileStore::open(files, work, "run".to_owned()).unwrap_err();

        let said = format!("{error:#}");
        assert!(said.contains("/work/staging`"), "{said}");
        assert!(said.contains("must belong to the user"), "{said}");
    }
}
