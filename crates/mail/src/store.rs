//! Store: one node's mail, and the right to change it.
//!
//! # Invariants
//!
//! * One store per work directory: a lock holds off a second one for as long as this one lives.
//! * Nothing is called prepared before it is durable: stage all, flush, switch all, flush.
//! * After a failed flush this store prepares nothing any more.
//! * Whoever switches holds a claim that no higher one can replace before the switch is done.

pub(crate) mod record;
mod switch;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::FlockOperation;

use crate::claim::{ClaimError, Claims};
use crate::crew::Crew;
use crate::dbox;
use crate::dial;
use crate::elsewhere::Elsewhere;
use crate::finding::{Finding, FindingList, list_path};
use crate::format::Format;
use crate::grade::Grade;
use crate::intent::Intents;
use crate::ledger::{Ledger, MessageCounts};
use crate::maildir;
use crate::manifest::Manifest;
use crate::probe::{Probe, Target};
use crate::refusal::Refusal;
use crate::roots::{Act, Fuse, Roots};
use crate::spool::{Earlier, Place, Spool};
use crate::stage::{Bench, Phase};
use crate::stamp::{Stamp, stamp};
use crate::walk::{Tree, escape};
use switch::Planned;

/// Parts of a mailbox's path: far more than any layout has.
pub(crate) const PATH_PARTS_MAX: usize = 32;

/// Bytes of one part of a path: the limit of file systems.
const NAME_BYTES_MAX: usize = 255;

/// `f_type` of NFS, where locks can be lost.
const NFS_MAGIC: i64 = 0x6969;

/// Where one node's mail is.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The live mail root.
    pub live: PathBuf,
    /// The snapshot's mail root, read only.
    pub snapshot: Option<PathBuf>,
    /// Our own directory on the live root's file system, outside both roots.
    pub work: PathBuf,
    /// Files larger than this are no messages.
    pub file_size_max: u64,
}

/// Whether the work directory may lie on NFS, where locks can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nfs {
    /// No.
    Refused,
    /// Yes: before another host takes the store over, this one is cut off from the export.
    Fenced,
}

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A root cannot be opened as a directory.
    #[error("open the {what} directory `{}`", path.display())]
    Root {
        /// `live`, `snapshot` or `work`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Renames must be able to reach the live root.
    #[error("`{}` is not on the file system of `{}`", work.display(), live.display())]
    OtherFileSystem {
        /// The work directory.
        work: PathBuf,
        /// The live root.
        live: PathBuf,
    },
    /// Neither of the trees may be inside another.
    #[error("`{}` and `{}` are one inside the other", inner.display(), outer.display())]
    Nested {
        /// The one inside.
        inner: PathBuf,
        /// The one around it.
        outer: PathBuf,
    },
    /// Something of ours in the work directory cannot be used.
    #[error("use `{}`; everything in it must belong to the user that runs this", path.display())]
    Own {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Locks can be lost there.
    #[error(
        "the work directory `{}` is on NFS, where locks can be lost; use a local file system",
        path.display()
    )]
    Nfs {
        /// The work directory.
        path: PathBuf,
    },
    /// What an earlier run was about to change cannot be read.
    #[error(
        "read `{}`, which says what an earlier run was about to change; without that file its \
         mailboxes are judged by what is there",
        path.display()
    )]
    Intent {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process works on this store.
    #[error("the store is held by {}", holder(*pid))]
    Held {
        /// The process, if it could be read.
        pid: Option<u32>,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A flush failed: what was written may be lost, whatever the disk says later. Nothing of the batch
/// may be called prepared, and this store must not be used again.
#[derive(Debug, thiserror::Error)]
#[error("make the batch durable")]
pub struct FlushFailed {
    /// Why.
    pub source: io::Error,
}

/// A manifest cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the manifest of mailbox {key}")]
pub struct ManifestError {
    /// The mailbox's key.
    pub key: u64,
    /// Why.
    pub source: io::Error,
}

/// A mailbox of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// A stable number that names it inside the work directory.
    pub key: u64,
    /// Its owner's address.
    pub address: String,
    /// Its Maildir, below both roots.
    pub path: Vec<u8>,
    /// It has been open since its manifest was made.
    pub served: bool,
}

impl Mailbox {
    /// `text` without this mailbox's own path, which mostly is its owner's address: whoever is told
    /// something of a mailbox knows which one it is, and what they are told is kept in journals.
    pub fn unnamed(&self, text: &str) -> String {
        let path = escape(&self.path);
        if path.is_empty() {
            return text.to_owned();
        }
        text.replace(&format!("`{path}`"), "its path").replace(&path, "…")
    }

    /// The key of the mailbox at `path`: eight bytes of the path's BLAKE3, so that what was recorded
    /// of it before any rollout is found again by every rollout.
    pub fn key_of(path: &[u8]) -> u64 {
        let digest = blake3::hash(path);
        let (head, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
        u64::from_be_bytes(*head)
    }
}

/// A batch to prepare under a claim.
#[derive(Debug, Clone, Copy)]
pub struct PrepareTask<'a> {
    /// The job.
    pub job: u32,
    /// The generation it was claimed under.
    pub generation: u64,
    /// Who claimed it.
    pub holder: &'a str,
    /// The mailboxes.
    pub mailboxes: &'a [Mailbox],
}

/// A mailbox whose good messages are in place, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its stamp right afterwards.
    pub stamp: Stamp,
    /// How its messages ended.
    pub counts: MessageCounts,
    /// Everything that is not served.
    pub set_aside: Vec<Finding>,
    /// Everything that was decided without proof.
    pub doubts: Vec<Finding>,
    /// BLAKE3 of its manifest.
    pub manifest_digest: [u8; 32],
    /// Bytes read for it.
    pub bytes_read: u64,
}

impl Prepared {
    /// How well it came back.
    pub fn grade(&self) -> Grade {
        Grade::of(self.set_aside.iter().chain(&self.doubts))
    }
}

/// One node's mail.
#[derive(Debug)]
pub struct Store {
    pub(crate) roots: Roots,
    /// The histories of mailboxes that have a dial tone, in place of the live tree.
    pub(crate) beside: Roots,
    /// The keys of these mailboxes.
    pub(crate) dialled: Mutex<HashSet<u64>>,
    pub(crate) claims: RwLock<Claims>,
    intents: Intents,
    busy: Mutex<HashSet<u64>>,
    flush_failed: AtomicBool,
    /// Held for the life of the store.
    _lock: File,
}

impl Store {
    /// Opens the store and locks it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing but the lock file and our own directories has been touched.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        Self::open_on(config, Nfs::Refused)
    }

    /// Opens the store and locks it, perhaps on NFS.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub fn open_on(config: StoreConfig, nfs: Nfs) -> Result<Self, StoreError> {
        let live = open_root("live", &config.live)?;
        let snapshot = match &config.snapshot {
            Some(path) => Some(open_root("snapshot", path)?),
            None => None,
        };
        let work = open_root("work", &config.work)?;
        refuse_nfs(nfs, &config.work, &work)?;
        check_layout(&config, &live, &work)?;
        let own = |name: &str| {
            let path = config.work.join(name);
            move |source| StoreError::Own { path, source }
        };
        let lock = lock(&config.work.join("lock")).map_err(own("lock"))?;
        let lock = lock.map_err(|pid| StoreError::Held { pid })?;
        let intents = Intents::open(&config.work)
            .map_err(|(path, source)| StoreError::Intent { path, source })?;
        let named =
            intents.clear(&config.work.join("staging")).map_err(own("staging"))?;
        let claims = Claims::open(config.work.join("claims")).map_err(own("claims"))?;
        for name in [
            "kept",
            "quarantine",
            "findings",
            "manifests",
            "staging",
            "history",
            "dial",
            "dialled",
        ] {
            fs::create_dir_all(config.work.join(name)).map_err(own(name))?;
        }
        let history = Tree::root(&config.work.join("history")).map_err(own("history"))?;
        let dialled = dial::dialled(&config.work).map_err(own("dialled"))?;
        let once = match &config.snapshot {
            Some(path) => Some(open_root("snapshot", path)?),
            None => None,
        };
        let (work, file_size_max) = (config.work, config.file_size_max);
        let roots = Roots {
            live,
            snapshot,
            work,
            file_size_max,
            elsewhere: Arc::new(Elsewhere::default()),
            crew: Arc::new(Crew::new()),
            staged: Arc::new(AtomicU64::new(named + 1)),
            fuse: Arc::new(Fuse::default()),
        };
        let beside = roots.with(history, once);
        Ok(Self {
            roots,
            beside,
            dialled: Mutex::new(dialled),
            claims: RwLock::new(claims),
            intents,
            busy: Mutex::default(),
            flush_failed: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// Fences the store: whoever claimed the job under a lower generation changes nothing from here
    /// on. Waits for a switch under way.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]; the caller must not work on the job.
    pub fn claim(
        &self,
        job: u32,
        generation: u64,
        holder: &str,
    ) -> Result<(), ClaimError> {
        let mut claims = self.claims.write().unwrap_or_else(PoisonError::into_inner);
        claims.claim(job, generation, holder)
    }

    /// The generations that the claims on disk name, by job.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn claimed(&self) -> io::Result<BTreeMap<u32, u64>> {
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        claims.generations()
    }

    /// Verifies and repairs a batch of mailboxes and makes the result durable.
    ///
    /// # Errors
    ///
    /// [`FlushFailed`] if durability is not certain: nothing of the batch may be called prepared.
    pub fn prepare(
        &self,
        task: &PrepareTask<'_>,
    ) -> Result<Vec<Result<Prepared, Refusal>>, FlushFailed> {
        self.refuse_after_failed_flush()?;
        if !self.holds(task) {
            return Ok(fenced(task));
        }
        let seats = self.take_seats(task);
        let result = self.prepare_seated(task, &seats);
        self.leave_seats(task, &seats);
        result
    }

    fn prepare_seated(
        &self,
        task: &PrepareTask<'_>,
        seats: &[bool],
    ) -> Result<Vec<Result<Prepared, Refusal>>, FlushFailed> {
        let resumed = self.resume(task, seats)?;
        let plans = self.roots.crew.work(task.mailboxes, |index, mailbox, buffer| {
            if seats.get(index) != Some(&true) {
                return Err(Refusal::Busy { path: escape(&mailbox.path) });
            }
            resumed.check(index)?;
            self.plan(task, mailbox, buffer)
        });
        self.finish(task, plans, &resumed)
    }

    /// Stamps a mailbox: equal stamps mean that nothing has changed.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it cannot be looked at.
    pub fn stamp(&self, mailbox: &Mailbox) -> Result<Stamp, Refusal> {
        check_path(&mailbox.path)?;
        stamp(&self.roots_of(mailbox).live, &mailbox.path)
    }

    /// Reads a mailbox as its user's mail program would, and compares with its manifest.
    pub fn probe(&self, mailbox: &Mailbox, seed: u64) -> Probe {
        if let Err(refusal) = check_path(&mailbox.path) {
            return Probe::Unreadable { what: refusal.to_string() };
        }
        let manifest = match self.manifest(mailbox.key) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Probe::Unreadable { what: "no manifest".to_owned() },
            Err(error) => return Probe::Unreadable { what: error.to_string() },
        };
        let (root, path, owner) =
            (&self.roots_of(mailbox).live, &*mailbox.path, &*mailbox.address);
        Target { root, path, owner, manifest: &manifest }.probe(seed)
    }

    /// The free share of the live file system, in parts per million.
    ///
    /// # Errors
    ///
    /// The file system cannot be asked.
    pub fn free_share_ppm(&self) -> io::Result<u32> {
        let answer = rustix::fs::fstatvfs(&self.roots.live)?;
        let total = u128::from(answer.f_blocks).max(1);
        let free = u128::from(answer.f_bavail) * 1_000_000 / total;
        Ok(u32::try_from(free.min(1_000_000)).unwrap_or(1_000_000))
    }

    /// What was found about a mailbox: all of it.
    ///
    /// # Errors
    ///
    /// The list is there and cannot be read.
    pub fn findings(&self, key: u64) -> io::Result<Vec<Finding>> {
        match fs::read(list_path(&self.roots.work, key)) {
            Ok(bytes) => Ok(FindingList::parse(&bytes)?.findings),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The manifest of a mailbox, if it was ever prepared.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] if it is there and cannot be read.
    pub fn manifest(&self, key: u64) -> Result<Option<Manifest>, ManifestError> {
        let read = match fs::read(manifest_path(&self.roots, key)) {
            Ok(bytes) => Manifest::parse(&bytes).map(Some).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "not a manifest")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        read.map_err(|source| ManifestError { key, source })
    }

    /// Stops all changes after `acts` more, as a crash would.
    #[cfg(test)]
    pub(crate) fn fuse(&self) -> &Fuse {
        &self.roots.fuse
    }

    /// After a failed flush, nothing more is done with this store.
    pub(crate) fn refuse_after_failed_flush(&self) -> Result<(), FlushFailed> {
        if self.flush_failed.load(Ordering::SeqCst) {
            let source = io::Error::other("an earlier flush failed");
            return Err(FlushFailed { source });
        }
        Ok(())
    }

    /// Whether exactly this claim stands, here and on disk.
    pub fn stands(&self, job: u32, generation: u64, holder: &str) -> bool {
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        claims.holds(job, generation, holder)
    }

    fn holds(&self, task: &PrepareTask<'_>) -> bool {
        self.stands(task.job, task.generation, task.holder)
    }

    /// Which mailboxes of the batch this call may work on.
    pub(crate) fn take_seats(&self, task: &PrepareTask<'_>) -> Vec<bool> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        task.mailboxes.iter().map(|mailbox| busy.insert(mailbox.key)).collect()
    }

    pub(crate) fn leave_seats(&self, task: &PrepareTask<'_>, seats: &[bool]) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for (mailbox, _) in task.mailboxes.iter().zip(seats).filter(|(_, seat)| **seat) {
            busy.remove(&mailbox.key);
        }
    }

    fn plan(
        &self,
        task: &PrepareTask<'_>,
        mailbox: &Mailbox,
        buffer: &mut [u8],
    ) -> Result<Planned, Refusal> {
        check_path(&mailbox.path)?;
        self.check_dial(mailbox)?;
        let mut bench =
            Bench::new(self.roots_of(mailbox), mailbox, task.generation, buffer);
        let planned = self.plan_at(&mut bench, mailbox);
        if planned.is_err() {
            // What stays is removed by the next opening.
            let _ = self.roots.discard(&bench.take_staged());
        }
        planned
    }

    fn plan_at(
        &self,
        bench: &mut Bench<'_>,
        mailbox: &Mailbox,
    ) -> Result<Planned, Refusal> {
        let unreadable = |what: &str, source| {
            Refusal::unreadable(format!("{what} of mailbox {}", mailbox.key), source)
        };
        let earlier = self.findings(mailbox.key);
        let earlier = earlier.map_err(|error| unreadable("findings", error))?;
        let format = Format::of(bench.roots(), &mailbox.path)?;
        if format != Format::Maildir {
            self.roots.crew.forget();
        }
        let recorded = manifest_path(&self.roots, mailbox.key);
        let recorded = Earlier::open(&recorded);
        let recorded = recorded.map_err(|error| unreadable("manifest", error))?;
        let served = mailbox.served && recorded.is_some();
        let manifest = match format {
            Format::Maildir => None,
            Format::Sdbox | Format::Mdbox => self
                .manifest(mailbox.key)
                .map_err(|error| unreadable("manifest", error.source))?,
        };
        let past =
            Past { recorded: recorded.as_ref(), manifest: manifest.as_ref(), served };
        // An index written anew has forgotten what was lost.
        let remembers = served || format != Format::Maildir;
        let staged = bench.next_staged();
        let spool = Spool::new(staged.clone());
        let mut ledger = Ledger::new(earlier.clone(), remembers, spool);
        ledger.look_for_kept(&self.roots.work);
        examine(bench, format, &past, &mut ledger)?;
        let set_aside = ledger.close();
        let doubts = ledger.take_doubts();
        let findings = [&*set_aside, &*doubts].concat();
        if findings != earlier {
            let (address, path) = (mailbox.address.clone(), mailbox.path.clone());
            let list = FindingList { address, path, findings };
            bench
                .write_own(&list.to_bytes(), &list_path(&self.roots.work, mailbox.key))?;
        }
        let (counts, bytes_read) = (ledger.counts, bench.bytes_read);
        let spooled = ledger.manifest();
        let spooled = spooled.map_err(|error| Refusal::write(b"manifest", error))?;
        let manifest_digest = spooled.digest;
        if recorded.is_none_or(|recorded| recorded.digest() != Some(manifest_digest)) {
            if let Place::Memory(bytes) = spooled.place {
                bench.stage_whole(&bytes, None, &staged)?;
            }
            let to = manifest_path(&self.roots, mailbox.key);
            bench.act(Phase::Records, Act::Record { staged, to });
        } else if matches!(spooled.place, Place::Memory(_)) {
            bench.forget(&staged);
        }
        let (tree_weight, tree_dirs) = bench.take_trees();
        let weight = bench.weight.map(|weight| weight.wrapping_add(tree_weight));
        let (acts, staged) = (bench.take_acts(), bench.take_staged());
        Ok(Planned {
            weight,
            tree_dirs,
            acts,
            staged,
            counts,
            set_aside,
            doubts,
            manifest_digest,
            bytes_read,
        })
    }

    pub(crate) fn flush(&self) -> Result<(), FlushFailed> {
        self.roots.flush().map_err(|source| {
            self.flush_failed.store(true, Ordering::SeqCst);
            FlushFailed { source }
        })
    }
}

pub(crate) fn fenced<T>(task: &PrepareTask<'_>) -> Vec<Result<T, Refusal>> {
    let (job, generation) = (task.job, task.generation);
    let refuse = |_| Err(Refusal::Fenced { job, generation });
    task.mailboxes.iter().map(refuse).collect()
}

/// Finds out what is wrong with a mailbox, and plans what would make it right.
fn examine(
    bench: &mut Bench<'_>,
    format: Format,
    past: &Past<'_>,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    match format {
        Format::Maildir => maildir::plan(bench, past, ledger),
        Format::Sdbox | Format::Mdbox => dbox::plan(bench, format, past, ledger),
    }
}

/// What was found out about a mailbox before this run.
#[derive(Clone, Copy)]
pub(crate) struct Past<'a> {
    /// What it held when it was last prepared, line by line.
    pub(crate) recorded: Option<&'a Earlier>,
    /// The same at once, where the format wants it so.
    pub(crate) manifest: Option<&'a Manifest>,
    /// It was open since, so that missing mail was deleted by its user.
    pub(crate) served: bool,
}

pub(crate) fn manifest_path(roots: &Roots, key: u64) -> PathBuf {
    roots.work.join("manifests").join(key.to_string())
}

/// A mailbox's path is plain names, one below the other.
pub(crate) fn check_path(path: &[u8]) -> Result<(), Refusal> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let plain = |part: &&[u8]| {
        let special = part.is_empty() || *part == b"." || *part == b"..";
        !special && part.len() <= NAME_BYTES_MAX && !part.contains(&0)
    };
    if parts.len() <= PATH_PARTS_MAX && parts.iter().all(plain) {
        Ok(())
    } else {
        Err(Refusal::BadPath { path: escape(path) })
    }
}

fn root_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Root { what, path: path.to_owned(), source }
}

fn open_root(what: &'static str, path: &Path) -> Result<Tree, StoreError> {
    Tree::root(path).map_err(|source| root_error(what, path, source))
}

fn refuse_nfs(nfs: Nfs, path: &Path, work: &Tree) -> Result<(), StoreError> {
    let kind = rustix::fs::fstatfs(work);
    let kind = kind.map_err(|error| root_error("work", path, error.into()))?.f_type;
    if kind == NFS_MAGIC && nfs == Nfs::Refused {
        return Err(StoreError::Nfs { path: path.to_owned() });
    }
    Ok(())
}

fn check_layout(
    config: &StoreConfig,
    live: &Tree,
    work: &Tree,
) -> Result<(), StoreError> {
    let failed =
        |error: rustix::io::Errno| root_error("work", &config.work, error.into());
    let device = |tree: &Tree| rustix::fs::fstat(tree).map(|stat| stat.st_dev);
    if device(live).map_err(failed)? != device(work).map_err(failed)? {
        let (work, live) = (config.work.clone(), config.live.clone());
        return Err(StoreError::OtherFileSystem { work, live });
    }
    let mut trees = vec![("live", &config.live), ("work", &config.work)];
    trees.extend(config.snapshot.as_ref().map(|path| ("snapshot", path)));
    let mut real = Vec::new();
    for (what, path) in trees {
        real.push(
            fs::canonicalize(path).map_err(|source| root_error(what, path, source))?,
        );
    }
    for (at, outer) in real.iter().enumerate() {
        let others = real.iter().enumerate().filter(|(other, _)| *other != at);
        if let Some((_, inner)) = others.into_iter().find(|(_, it)| it.starts_with(outer))
        {
            let (inner, outer) = (inner.clone(), outer.clone());
            return Err(StoreError::Nested { inner, outer });
        }
    }
    Ok(())
}

/// Takes the lock; the inner error is the process that holds it.
fn lock(path: &Path) -> io::Result<Result<File, Option<u32>>> {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Ok(Err(text.trim().parse().ok()));
        }
        Err(errno) => return Err(errno.into()),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}
