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
use std::sync::Arc;

use tidegate_core::fleet::{JobNumber, MailboxNumber, Ordinal};
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

/// The mailboxes of a job, by ordinal, close together: a node has a million of them.
#[derive(Debug)]
pub(crate) struct Description {
    /// The digest of its bytes.
    pub(crate) digest: [u8; 32],
    /// Each mailbox's address, and its path behind it.
    texts: Box<str>,
    rows: Box<[Row]>,
    expected: Option<Window>,
}

/// One mailbox of a description.
#[derive(Clone, Copy, Debug)]
struct Row {
    number: MailboxNumber,
    /// Where its address begins among the texts, where its path does, and where that ends.
    address: u32,
    path: u32,
    language: Option<Language>,
}

impl Description {
    /// The description that the coordinator has told.
    pub(crate) fn new(told: &JobPart) -> Self {
        let digest = *blake3::hash(&encode_description(told)).as_bytes();
        Self::of(told, digest)
    }

    fn of(told: &JobPart, digest: [u8; 32]) -> Self {
        let length = told.mailboxes.iter().map(|it| it.address.len() + it.path.len());
        let mut texts = String::with_capacity(length.sum());
        // A job has 65,535 mailboxes at most, and texts are shorter than messages may be.
        let end = |texts: &str| u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let rows = told.mailboxes.iter().map(|mailbox| {
            let JobMailbox { number, address, path, language } = mailbox;
            let begin = end(&texts);
            texts.push_str(address);
            let middle = end(&texts);
            texts.push_str(path);
            Row { number: *number, address: begin, path: middle, language: *language }
        });
        let rows = rows.collect();
        Self { digest, texts: texts.into(), rows, expected: told.expected }
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
        Ok(Self::of(&told, digest))
    }

    /// Makes it durable.
    ///
    /// # Errors
    ///
    /// The shelf's; then nothing may be claimed.
    pub(crate) fn write(&self, shelf: &dyn Shelf, job: JobNumber) -> io::Result<()> {
        let mailboxes = self.ordinals().filter_map(|ordinal| {
            let (row, (address, path)) = (self.row(ordinal)?, self.texts(ordinal)?);
            let (address, path) = (address.to_owned(), path.to_owned());
            let Row { number, language, .. } = *row;
            Some(JobMailbox { number, address, path, language })
        });
        let told = JobPart { mailboxes: mailboxes.collect(), expected: self.expected };
        shelf.keep(job, self.digest, &encode_description(&told))
    }

    /// How many mailboxes.
    pub(crate) fn len(&self) -> u16 {
        u16::try_from(self.rows.len()).unwrap_or(u16::MAX)
    }

    /// The owner's address.
    pub(crate) fn address(&self, ordinal: Ordinal) -> Option<&str> {
        self.texts(ordinal).map(|(address, _)| address)
    }

    /// The mailbox of this address, as Dovecot writes it.
    pub(crate) fn ordinal(&self, address: &str) -> Option<Ordinal> {
        let is_it = |at: &Ordinal| {
            self.address(*at).is_some_and(|it| it.eq_ignore_ascii_case(address))
        };
        self.ordinals().find(is_it)
    }

    /// The language in which its owner is told to wait; nothing for the default.
    pub(crate) fn language(&self, ordinal: Ordinal) -> Option<Language> {
        self.row(ordinal)?.language
    }

    /// When its mailboxes are expected back.
    pub(crate) fn expected(&self) -> Option<Window> {
        self.expected
    }

    /// The mailbox as the store knows it.
    pub(crate) fn mailbox(&self, ordinal: Ordinal, served: bool) -> Option<Mailbox> {
        let (address, path) = self.texts(ordinal)?;
        let path = path.as_bytes().to_vec();
        let (key, address) = (Mailbox::key_of(&path), address.to_owned());
        Some(Mailbox { key, address, path, served })
    }

    fn ordinals(&self) -> impl Iterator<Item = Ordinal> {
        (0..self.len()).map(Ordinal::new)
    }

    fn row(&self, ordinal: Ordinal) -> Option<&Row> {
        self.rows.get(ordinal.index())
    }

    /// The address and the path of a mailbox.
    fn texts(&self, ordinal: Ordinal) -> Option<(&str, &str)> {
        let at = |place: u32| usize::try_from(place).ok();
        let (row, next) = (self.row(ordinal)?, self.rows.get(ordinal.index() + 1));
        let (begin, middle) = (at(row.address)?, at(row.path)?);
        let end = next.map_or(Some(self.texts.len()), |next| at(next.address))?;
        Some((self.texts.get(begin..middle)?, self.texts.get(middle..end)?))
    }
}

/// Mailboxes of a job that a hand shall take. The hand makes them: the owner has more to do, and
/// memory that one thread takes and another gives back costs both of them.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    description: Arc<Description>,
    /// Which, and whether they have been open since they were first verified.
    places: Vec<(Ordinal, bool)>,
}

impl Chosen {
    /// These of a description.
    pub(crate) fn of(
        description: Arc<Description>,
        places: Vec<(Ordinal, bool)>,
    ) -> Self {
        Self { description, places }
    }

    /// Their places.
    pub(crate) fn ordinals(&self) -> Vec<Ordinal> {
        self.places.iter().map(|(ordinal, _)| *ordinal).collect()
    }

    /// The mailboxes as the store knows them.
    pub(crate) fn mailboxes(&self) -> Vec<(Ordinal, Mailbox)> {
        let known = self.places.iter().filter_map(|(ordinal, served)| {
            Some((*ordinal, self.description.mailbox(*ordinal, *served)?))
        });
        known.collect()
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_description_is_written_and_read_as_it_was_told() {
        let dir = TempDir::new().unwrap();
        let (jobs, work) = (dir.path().join("jobs"), dir.path().to_owned());
        let shelf = Files { jobs, work };
        let mailbox = |number: u32, address: &str, path: &str, language| JobMailbox {
            number: MailboxNumber::new(number),
            address: address.to_owned(),
            path: path.to_owned(),
            language,
        };
        let italian = Language::of_tag("it");
        let told = [
            mailbox(7, "anna@example.org", "a/anna", italian),
            mailbox(3, "b@example.org", "b", None),
            mailbox(9, "z\u{fc}rich@example.org", "z/\u{fc}", None),
        ];
        let part = JobPart { mailboxes: told.to_vec(), expected: None };
        let job = JobNumber::new(1);

        let description = Description::new(&part);
        description.write(&shelf, job).unwrap();
        let read = Description::read(&shelf, job, description.digest).unwrap();

        let bytes = shelf.read(job, description.digest).unwrap();
        assert_eq!(decode_description(&bytes).unwrap(), part);
        assert_eq!(read.len(), 3);
        for (at, told) in (0..).map(Ordinal::new).zip(&told) {
            let mailbox = read.mailbox(at, true).unwrap();
            assert_eq!(mailbox.address, told.address);
            assert_eq!(mailbox.path, told.path.as_bytes());
            assert_eq!(mailbox.key, Mailbox::key_of(told.path.as_bytes()));
            assert_eq!(read.language(at), told.language);
            assert_eq!(
                read.ordinal(&told.address.to_uppercase().replace('\u{dc}', "\u{fc}")),
                Some(at)
            );
        }
        assert!(read.mailbox(Ordinal::new(3), true).is_none());
        assert_eq!(read.ordinal("nobody@example.org"), None);
    }
}
