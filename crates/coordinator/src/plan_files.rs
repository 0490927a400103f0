//! The inventory and the plan on disk, beside the journal that names them.
//!
//! `inventory-DIGEST.bin` holds the bytes of [`Inventory::write`], `plan-DIGEST.bin` those of
//! [`Plan::write`].
//!
//! # Invariants
//!
//! * The files are complete and durable before anything names them.
//! * What is read back has the digest by which it was asked for, or is not used.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tidegate_core::inventory::{Digest, Inventory};
use tidegate_core::plan::{Plan, PlanRead};
use tidegate_core::policy::Policy;
use tidegate_core::stored::Damage;

/// The inventory or the plan cannot be kept, or cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// The file could not be made durable.
    #[error("write {kind} `{}`", .path.display())]
    Write {
        /// What is in it.
        kind: FileKind,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be opened.
    #[error("open {kind} `{}`; put it back from a copy of the data directory", .path.display())]
    Open {
        /// What is in it.
        kind: FileKind,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged.
    #[error("read {kind} `{}`; put it back from a copy of the data directory", .path.display())]
    Read {
        /// What is in it.
        kind: FileKind,
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
    /// It is another one.
    #[error(
        "read {kind} `{}`: its content is {found}; \
         put it back from a copy of the data directory",
        .path.display()
    )]
    OtherDigest {
        /// What is in it.
        kind: FileKind,
        /// Which file.
        path: PathBuf,
        /// What it is.
        found: Digest,
    },
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// An inventory.
    Inventory,
    /// A plan.
    Plan,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inventory => "inventory",
            Self::Plan => "plan",
        })
    }
}

/// Keeps `plan` and its inventory in `dir`, under their digests.
///
/// # Errors
///
/// [`PlanFileError::Write`]; nothing may name the files then.
pub(crate) fn write(dir: &Path, plan: &Plan) -> Result<(), PlanFileError> {
    let inventory = plan.inventory();
    let file = Place::of(dir, FileKind::Inventory, inventory.digest());
    file.write(dir, |file| inventory.write(file))?;
    let file = Place::of(dir, FileKind::Plan, plan.digest());
    file.write(dir, |file| plan.write(file))
}

/// The inventory called `digest`.
///
/// # Errors
///
/// [`PlanFileError`] when it is not there, damaged or another one.
pub(crate) fn read_inventory(
    dir: &Path,
    digest: Digest,
) -> Result<Inventory, PlanFileError> {
    let place = Place::of(dir, FileKind::Inventory, digest);
    let (mut file, bytes) = place.open()?;
    // It reads large portions itself.
    let inventory =
        Inventory::read(&mut file, bytes).map_err(|damage| place.damaged(damage))?;
    place.checked(inventory.digest(), digest).map(|()| inventory)
}

/// What is in the plan called `digest`.
///
/// # Errors
///
/// [`PlanFileError`] when it is not there or damaged.
pub(crate) fn read_plan(dir: &Path, digest: Digest) -> Result<PlanRead, PlanFileError> {
    let place = Place::of(dir, FileKind::Plan, digest);
    let (mut file, bytes) = place.open()?;
    PlanRead::read(&mut file, bytes).map_err(|damage| place.damaged(damage))
}

/// The plan called `digest`, which was read, of `inventory` and `policy`.
///
/// # Errors
///
/// [`PlanFileError`] when it is another one.
pub(crate) fn whole_plan(
    dir: &Path,
    digest: Digest,
    read: PlanRead,
    (inventory, policy): (&Arc<Inventory>, &Arc<Policy>),
) -> Result<Plan, PlanFileError> {
    let place = Place::of(dir, FileKind::Plan, digest);
    let plan = read.of(inventory, policy).map_err(|damage| place.damaged(damage))?;
    place.checked(plan.digest(), digest).map(|()| plan)
}

/// What will be asked for, read by threads of its own while the journal is: a data directory
/// has one rollout, and the names of its files say which.
pub(crate) struct Ahead {
    inventory: Option<JoinHandle<Option<Inventory>>>,
    plan: Option<JoinHandle<Option<PlanRead>>>,
}

impl Ahead {
    /// Begins to read the inventory and the plan in `dir`, if there is one of each.
    pub(crate) fn begin(dir: &Path) -> Self {
        let inventory = only(dir, FileKind::Inventory).and_then(|digest| {
            let dir = dir.to_owned();
            begin(move || read_inventory(&dir, digest).ok())
        });
        let plan = only(dir, FileKind::Plan).and_then(|digest| {
            let dir = dir.to_owned();
            begin(move || read_plan(&dir, digest).ok())
        });
        Self { inventory, plan }
    }

    /// What has been read of both; nothing of what could not be, which whoever needs it reads
    /// again, and is told why.
    pub(crate) fn end(self) -> (Option<Inventory>, Option<PlanRead>) {
        let Self { inventory, plan } = self;
        (inventory.and_then(ended), plan.and_then(ended))
    }
}

fn begin<T: Send + 'static>(
    read: impl FnOnce() -> Option<T> + Send + 'static,
) -> Option<JoinHandle<Option<T>>> {
    std::thread::Builder::new().name("read ahead".to_owned()).spawn(read).ok()
}

fn ended<T>(reading: JoinHandle<Option<T>>) -> Option<T> {
    reading.join().ok().flatten()
}

/// The digest in the name of the only file of this kind in `dir`.
fn only(dir: &Path, kind: FileKind) -> Option<Digest> {
    let names = fs::read_dir(dir).ok()?.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let name = name.to_str()?.strip_prefix(&format!("{kind}-"))?;
        Digest::from_hex(name.strip_suffix(".bin")?)
    });
    let mut names = names.fuse();
    let name = names.next()?;
    names.next().is_none().then_some(name)
}

/// One of the files.
struct Place {
    kind: FileKind,
    path: PathBuf,
}

impl Place {
    fn of(dir: &Path, kind: FileKind, digest: Digest) -> Self {
        Self { kind, path: dir.join(format!("{kind}-{digest}.bin")) }
    }

    fn write(
        &self,
        dir: &Path,
        content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), PlanFileError> {
        let write = || {
            let staged = self.path.with_extension("tmp");
            let mut options = OpenOptions::new();
            // Addresses are nobody else's business.
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = BufWriter::new(options.open(&staged)?);
            content(&mut file)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&staged, &self.path)?;
            File::open(dir)?.sync_all()
        };
        let (kind, path) = (self.kind, self.path.clone());
        write().map_err(|source| PlanFileError::Write { kind, path, source })
    }

    fn open(&self) -> Result<(File, u64), PlanFileError> {
        let open = || {
            let file = File::open(&self.path)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        let (kind, path) = (self.kind, self.path.clone());
        open().map_err(|source| PlanFileError::Open { kind, path, source })
    }

    fn damaged(&self, source: Damage) -> PlanFileError {
        PlanFileError::Read { kind: self.kind, path: self.path.clone(), source }
    }

    fn checked(&self, found: Digest, digest: Digest) -> Result<(), PlanFileError> {
        if found == digest {
            return Ok(());
        }
        let (kind, path) = (self.kind, self.path.clone());
        Err(PlanFileError::OtherDigest { kind, path, found })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::inventory::{InventoryBuilder, Row};
    use tidegate_core::plan::plan;
    use tidegate_wire::policy_file;

    use super::*;

    const POLICY: &str = "\
name = \"small\"
gate.mode = \"every-mailbox\"
[[cohort]]
name = \"all\"
select.rest = true
canary = 1
";

    #[test]
    fn a_plan_and_its_inventory_survive_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let plan = small_plan();

        write(dir.path(), &plan).unwrap();
        let inventory = read_inventory(dir.path(), plan.inventory().digest()).unwrap();
        let inventory = Arc::new(inventory);
        let again = read_plan(dir.path(), plan.digest()).unwrap();
        let both = (&inventory, plan.policy());
        let again = whole_plan(dir.path(), plan.digest(), again, both).unwrap();

        assert!(inventory.rows().eq(plan.inventory().rows()));
        assert_eq!(inventory.find("BOB@a.it"), plan.inventory().find("bob@a.it"));
        assert_eq!(again.waves(), plan.waves());
        assert_eq!(again.jobs(), plan.jobs());
        assert!(inventory.mailboxes().all(|it| again.place(it) == plan.place(it)));
    }

    #[test]
    fn what_is_read_ahead_is_what_lies_there_alone_and_whole() {
        let (dir, plan) = (tempfile::tempdir().unwrap(), small_plan());
        let digests = || {
            let (inventory, plan) = Ahead::begin(dir.path()).end();
            (inventory.map(|it| it.digest()), plan.is_some())
        };
        assert_eq!(digests(), (None, false));

        write(dir.path(), &plan).unwrap();
        assert_eq!(digests(), (Some(plan.inventory().digest()), true));

        let [inventory, kept] = both(dir.path(), &plan);
        fs::write(&kept, "something else").unwrap();
        let other = inventory.with_file_name(format!("inventory-{}.bin", plan.digest()));
        fs::copy(&inventory, other).unwrap();
        assert_eq!(digests(), (None, false));
    }

    #[test]
    fn a_flipped_byte_anywhere_is_noticed() {
        let (dir, plan) = (tempfile::tempdir().unwrap(), small_plan());
        write(dir.path(), &plan).unwrap();

        for path in both(dir.path(), &plan) {
            let whole = fs::read(&path).unwrap();
            for place in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[place] ^= 0x01;
                fs::write(&path, bytes).unwrap();

                assert!(read(dir.path(), &plan).is_err(), "{}: {place}", path.display());
            }
            fs::write(&path, whole).unwrap();
        }
        assert!(read(dir.path(), &plan).is_ok());
    }

    #[test]
    fn a_cut_or_lengthened_file_is_noticed() {
        let (dir, plan) = (tempfile::tempdir().unwrap(), small_plan());
        write(dir.path(), &plan).unwrap();

        for path in both(dir.path(), &plan) {
            let whole = fs::read(&path).unwrap();
            for length in 0..whole.len() {
                fs::write(&path, &whole[..length]).unwrap();
                assert!(read(dir.path(), &plan).is_err());
            }
            fs::write(&path, [whole.as_slice(), &[0]].concat()).unwrap();
            assert!(read(dir.path(), &plan).is_err());
            fs::write(&path, whole).unwrap();
        }
    }

    fn both(dir: &Path, plan: &Plan) -> [PathBuf; 2] {
        [
            Place::of(dir, FileKind::Inventory, plan.inventory().digest()).path,
            Place::of(dir, FileKind::Plan, plan.digest()).path,
        ]
    }

    fn read(dir: &Path, plan: &Plan) -> Result<Plan, PlanFileError> {
        let inventory = Arc::new(read_inventory(dir, plan.inventory().digest())?);
        let read = read_plan(dir, plan.digest())?;
        whole_plan(dir, plan.digest(), read, (&inventory, plan.policy()))
    }

    fn small_plan() -> Plan {
        let mut builder = InventoryBuilder::new();
        for (address, labels) in [
            ("ann@a.it", &[("size_bytes", "7"), ("country", "it")][..]),
            ("bob@a.it", &[]),
        ] {
            let path = address;
            let row = Row { address, node: "n1", tier: "free", path, labels };
            builder.push(row).unwrap();
        }
        let policy = policy_file::parse("policy.toml", POLICY).unwrap();
        plan(&Arc::new(builder.finish().unwrap()), &Arc::new(policy)).unwrap()
    }
}
