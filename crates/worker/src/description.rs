//! Descriptions: which mailboxes a job has, kept beside the journal so that admission can
//! answer and work can go on without the coordinator.
//!
//! Beside them lies the note that this node was turned away.
//!
//! # Invariants
//!
//! * A description is named by its job and its digest, and never changes.
//! * It is on disk before the journal speaks of its job.
//! * The note outlives whatever is put in the journal's place: it lies where the claims do.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tidegate_core::fleet::{JobNumber, Ordinal};
use tidegate_core::policy::{Language, Window};
use tidegate_mail::Mailbox;
use tidegate_wire::worker::{JobMailbox, JobPart};
use tidegate_wire::worker_record::{decode_description, encode_description};

/// Keeps descriptions.
pub trait Shelf: Debug + Send + Sync {
    /// Makes the description of `job` with this digest durable.
    ///
    /// # Errors
    ///
    /// The file system's; then nothing may be claimed.
    fn keep(&self, job: JobNumber, digest: [u8; 32], bytes: &[u8]) -> io::Result<()>;

    /// The bytes of the description of `job` with this digest, as far as they are there.
    ///
    /// # Errors
    ///
    /// The file system's.
    fn read(&self, job: JobNumber, digest: [u8; 32]) -> io::Result<Vec<u8>>;

    /// Notes, durably, that this node was turned away, or that it goes by orders again.
    ///
    /// # Errors
    ///
    /// The file system's; then nobody knows which of the two the next run will read.
    fn note_turned_away(&self, turned_away: bool) -> io::Result<()>;

    /// Whether this node was turned away and has not gone by orders since.
    ///
    /// # Errors
    ///
    /// The file system's; then nobody may be let in.
    fn was_turned_away(&self) -> io::Result<bool>;
}

/// Descriptions in files of one directory.
#[derive(Debug)]
pub(crate) struct Files {
    /// Where descriptions lie.
    pub(crate) jobs: PathBuf,
    /// Where the note lies that this node was turned away: beside the store's claims.
    pub(crate) work: PathBuf,
}

/// The note's name in the work directory.
const TURNED_AWAY_FILE: &str = "turned-away";

/// What the note tells a person who finds it.
const TURNED_AWAY: &str = "The coordinator knows more of this node than its journal does. \
     Until it has accepted the node again and its orders are obeyed, nobody is let in here. \
     The worker removes this file by itself.\n";

impl Shelf for Files {
    fn keep(&self, job: JobNumber, digest: [u8; 32], bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.jobs)?;
        let path = file(&self.jobs, job, digest);
        let temporary = path.with_extension("new");
        let mut out = File::create(&temporary)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.jobs)?.sync_all()
    }

    fn read(&self, job: JobNumber, digest: [u8; 32]) -> io::Result<Vec<u8>> {
        let path = file(&self.jobs, job, digest);
        fs::read(&path).map_err(|error| {
            let text = format!("`{}`: {error}", path.display());
            io::Error::new(error.kind(), text)
        })
    }

    fn note_turned_away(&self, turned_away: bool) -> io::Result<()> {
        let path = self.work.join(TURNED_AWAY_FILE);
        if turned_away {
            let mut note = File::create(&path)?;
            note.write_all(TURNED_AWAY.as_bytes())?;
            note.sync_all()?;
        } else {
            fs::remove_file(&path)?;
        }
        File::open(&self.work)?.sync_all()
    }

    fn was_turned_away(&self) -> io::Result<bool> {
        // A note that was cut off in the middle is one, too.
        self.work.join(TURNED_AWAY_FILE).try_exists()
    }
}

/// The mailboxes of a job, by ordinal.
#[derive(Debug)]
pub(crate) struct Description {
    /// The digest of its bytes.
    pub(crate) digest: [u8; 32],
    mailboxes: Vec<JobMailbox>,
    /// What the store calls them.
    keys: Vec<u64>,
    expected: Option<Window>,
}

impl Description {
    /// The description that the coordinator has told.
    pub(crate) fn new(told: JobPart) -> Self {
        let digest = *blake3::hash(&encode_description(&told)).as_bytes();
        Self::of(told, digest)
    }

    fn of(told: JobPart, digest: [u8; 32]) -> Self {
        let JobPart { mailboxes, expected } = told;
        let keys = mailboxes.iter().map(|it| Mailbox::key_of(it.path.as_bytes()));
        Self { digest, keys: keys.collect(), mailboxes, expected }
    }

    /// Reads the description of `job` with `digest`.
    ///
    /// # Errors
    ///
    /// The shelf's own, or `InvalidData` when it is not the one that was written.
    pub(crate) fn read(
        shelf: &dyn Shelf,
        job: JobNumber,
        digest: [u8; 32],
    ) -> io::Result<Self> {
        let bytes = shelf.read(job, digest)?;
        let wrong = |what: &str| {
            let text =
                format!("the description of {job} {what}; restore it from a backup");
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        if *blake3::hash(&bytes).as_bytes() != digest {
            return Err(wrong("is damaged"));
        }
        let told = decode_description(&bytes).map_err(|_| wrong("is none"))?;
        Ok(Self::of(told, digest))
    }

    /// Makes it durable.
    ///
    /// # Errors
    ///
    /// The shelf's; then nothing may be claimed.
    pub(crate) fn write(&self, shelf: &dyn Shelf, job: JobNumber) -> io::Result<()> {
        let (mailboxes, expected) = (self.mailboxes.clone(), self.expected);
        let bytes = encode_description(&JobPart { mailboxes, expected });
        shelf.keep(job, self.digest, &bytes)
    }

    /// How many mailboxes.
    pub(crate) fn len(&self) -> u16 {
        u16::try_from(self.mailboxes.len()).unwrap_or(u16::MAX)
    }

    /// The owner's address.
    pub(crate) fn address(&self, ordinal: Ordinal) -> Option<&str> {
        self.mailboxes.get(ordinal.index()).map(|mailbox| mailbox.address.as_str())
    }

    /// The mailbox of this address, as Dovecot writes it.
    pub(crate) fn ordinal(&self, address: &str) -> Option<Ordinal> {
        let is_it = |mailbox: &JobMailbox| mailbox.address.eq_ignore_ascii_case(address);
        let at = self.mailboxes.iter().position(is_it)?;
        u16::try_from(at).ok().map(Ordinal::new)
    }

    /// The language in which its owner is told to wait; nothing for the default.
    pub(crate) fn language(&self, ordinal: Ordinal) -> Option<Language> {
        self.mailboxes.get(ordinal.index()).and_then(|mailbox| mailbox.language)
    }

    /// When its mailboxes are expected back.
    pub(crate) fn expected(&self) -> Option<Window> {
        self.expected
    }

    /// The mailbox as the store knows it.
    pub(crate) fn mailbox(&self, ordinal: Ordinal, served: bool) -> Option<Mailbox> {
        let (mailbox, key) =
            (self.mailboxes.get(ordinal.index())?, self.keys.get(ordinal.index())?);
        Some(Mailbox {
            key: *key,
            address: mailbox.address.clone(),
            path: mailbox.path.clone().into_bytes(),
            served,
        })
    }
}

/// Whether a description in `dir` names the mailbox of `address`, in any case of letters.
///
/// # Errors
///
/// The directory's, if it is there; files that are no descriptions name nobody.
pub(crate) fn names(dir: &Path, address: &str) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let told = decode_description(&fs::read(entry?.path())?).unwrap_or_default();
        let named = |mailbox: &JobMailbox| mailbox.address.eq_ignore_ascii_case(address);
        if told.mailboxes.iter().any(named) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn file(dir: &Path, job: JobNumber, digest: [u8; 32]) -> PathBuf {
    let digest = blake3::Hash::from_bytes(digest).to_hex();
    dir.join(format!("job-{}-{}", job.get(), digest.get(..16).unwrap_or_default()))
}
