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

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_core::fleet::{JobNumber, MailboxNumber, Ordinal};
use tidegate_core::policy::{Language, Window};
use tidegate_mail::Mailbox;
use tidegate_wire::worker::{JobMailbox, JobPart};
use tidegate_wire::worker_record::{InPieces, decode_description, encode_description};

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
    /// The mailboxes, packed one behind the other: see [`One`].
    packed: Box<[u8]>,
    /// Where each of [`TOGETHER`] mailboxes begin there.
    begins: Box<[u32]>,
    mailboxes: u16,
    shapes: Box<[Shape]>,
    expected: Option<Window>,
}

/// One mailbox of a description, as it is packed: the number of its shape; how long its name is,
/// twice, and one more if its path is its own; how long that is; how far its own number is from
/// that of the mailbox before; its name and its path. Numbers as LEB128.
#[derive(Clone, Copy, Debug)]
struct One<'a> {
    shape: u64,
    name: &'a [u8],
    path: &'a [u8],
    step: i64,
}

/// Mailboxes of which only the first can be found at once: a place takes as much memory as a third
/// of a mailbox.
const TOGETHER: usize = 4;

/// What many mailboxes have in common: most are `NAME@DOMAIN` and lie at `DOMAIN/NAME` or the like.
#[derive(Clone, Debug)]
struct Shape {
    /// What follows the name in the address.
    domain: Box<str>,
    /// What stands before and behind the name in the path; nothing if the path is the mailbox's
    /// own.
    around: Option<(Box<str>, Box<str>)>,
    language: Option<Language>,
}

/// Shapes of one description, but for those that fit every mailbox: what hardly any have in
/// common takes more memory than it saves.
const SHAPES_MAX: usize = 256;

impl Description {
    /// The description that the coordinator has told.
    pub(crate) fn new(told: &JobPart) -> Self {
        let mut description = Self::of(told);
        description.digest = *blake3::hash(&description.bytes()).as_bytes();
        description
    }

    /// All but the digest.
    fn of(told: &JobPart) -> Self {
        let mut shapes: HashMap<Common<'_>, u16> = HashMap::new();
        let (mut packed, mut begins) = (Vec::new(), Vec::new());
        let mut before = 0;
        for (place, mailbox) in told.mailboxes.iter().enumerate() {
            if place % TOGETHER == 0 {
                // A job has 65,535 mailboxes at most, and texts are shorter than messages may be.
                begins.push(u32::try_from(packed.len()).unwrap_or(u32::MAX));
            }
            let next = shapes.len();
            let (common, texts_own) = match Common::of(mailbox) {
                (common, own) if next < SHAPES_MAX || shapes.contains_key(&common) => {
                    (common, own)
                }
                _ => Common::hardly_any(mailbox),
            };
            let next = u16::try_from(next).unwrap_or(u16::MAX);
            let shape = u64::from(*shapes.entry(common).or_insert(next));
            let (name, path) = (texts_own.0.as_bytes(), texts_own.1.as_bytes());
            let number = i64::from(mailbox.number.get());
            One { shape, name, path, step: number - before }.pack(&mut packed);
            before = number;
        }
        let mut in_order: Vec<(u16, Common<'_>)> =
            shapes.into_iter().map(|(common, number)| (number, common)).collect();
        in_order.sort_unstable_by_key(|(number, _)| *number);
        let shapes = in_order.into_iter().map(|(_, common)| common.into()).collect();
        Self {
            digest: [0; 32],
            packed: packed.into(),
            begins: begins.into(),
            mailboxes: u16::try_from(told.mailboxes.len()).unwrap_or(u16::MAX),
            shapes,
            expected: told.expected,
        }
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
        Ok(Self { digest, ..Self::of(&told) })
    }

    /// Makes it durable.
    ///
    /// # Errors
    ///
    /// The shelf's; then nothing may be claimed.
    pub(crate) fn write(&self, shelf: &dyn Shelf, job: JobNumber) -> io::Result<()> {
        shelf.keep(job, self.digest, &self.bytes())
    }

    /// What is kept of it.
    fn bytes(&self) -> Vec<u8> {
        let mut number = 0;
        let mailboxes = self.all().filter_map(|one| {
            number += one.step;
            let number = MailboxNumber::new(u32::try_from(number).ok()?);
            let (name, path, shape) = self.parts(one)?;
            let (address, path) = (shape.address(name), shape.path(name, path));
            Some(InPieces { number, address, path, language: shape.language })
        });
        encode_description(mailboxes, self.expected)
    }

    /// How many mailboxes.
    pub(crate) fn len(&self) -> u16 {
        self.mailboxes
    }

    /// The owner's address.
    pub(crate) fn address(&self, ordinal: Ordinal) -> Option<String> {
        let (name, _, shape) = self.parts(self.one(ordinal)?)?;
        Some(shape.address(name).concat())
    }

    /// Writes the owner's address behind what is there.
    pub(crate) fn tell(&self, ordinal: Ordinal, to: &mut String) -> Option<()> {
        let (name, _, shape) = self.parts(self.one(ordinal)?)?;
        to.extend(shape.address(name));
        Some(())
    }

    /// The mailbox of this address, as Dovecot writes it.
    pub(crate) fn ordinal(&self, address: &str) -> Option<Ordinal> {
        let is_it = |(name, _, shape): (&str, &str, &Shape)| {
            let (own, domain) =
                address.as_bytes().split_at_checked(name.len()).unwrap_or_default();
            own.eq_ignore_ascii_case(name.as_bytes())
                && domain.eq_ignore_ascii_case(shape.domain.as_bytes())
        };
        let mut all = (0..).map(Ordinal::new).zip(self.all());
        all.find(|(_, one)| self.parts(*one).is_some_and(is_it))
            .map(|(ordinal, _)| ordinal)
    }

    /// The language in which its owner is told to wait; nothing for the default.
    pub(crate) fn language(&self, ordinal: Ordinal) -> Option<Language> {
        self.parts(self.one(ordinal)?)?.2.language
    }

    /// When its mailboxes are expected back.
    pub(crate) fn expected(&self) -> Option<Window> {
        self.expected
    }

    /// The mailbox as the store knows it.
    pub(crate) fn mailbox(&self, ordinal: Ordinal, served: bool) -> Option<Mailbox> {
        let (name, path, shape) = self.parts(self.one(ordinal)?)?;
        let address = shape.address(name).concat();
        let path = shape.path(name, path).concat().into_bytes();
        Some(Mailbox { key: Mailbox::key_of(&path), address, path, served })
    }

    /// One mailbox, as it is packed.
    fn one(&self, ordinal: Ordinal) -> Option<One<'_>> {
        let begin = *self.begins.get(ordinal.index() / TOGETHER)?;
        let mut rest = self.packed.get(usize::try_from(begin).ok()?..)?;
        for _ in 0..ordinal.index() % TOGETHER {
            (_, rest) = One::first_of(rest)?;
        }
        One::first_of(rest).map(|(one, _)| one)
    }

    /// All of them, in order.
    fn all(&self) -> impl Iterator<Item = One<'_>> {
        let mut rest = &*self.packed;
        std::iter::from_fn(move || {
            let (one, behind) = One::first_of(rest)?;
            rest = behind;
            Some(one)
        })
    }

    /// The name of a mailbox, the path if that is its own, and what it has in common with
    /// others.
    fn parts<'a>(&'a self, one: One<'a>) -> Option<(&'a str, &'a str, &'a Shape)> {
        let shape = self.shapes.get(usize::try_from(one.shape).ok()?)?;
        Some((str::from_utf8(one.name).ok()?, str::from_utf8(one.path).ok()?, shape))
    }
}

impl<'a> One<'a> {
    fn pack(self, to: &mut Vec<u8>) {
        let Self { shape, name, path, step } = self;
        push_number(to, shape);
        push_number(to, (name.len() as u64) << 1 | u64::from(!path.is_empty()));
        if !path.is_empty() {
            push_number(to, path.len() as u64);
        }
        // Steps back are as short as steps forward.
        push_number(to, (step << 1 ^ step >> 63).cast_unsigned());
        to.extend_from_slice(name);
        to.extend_from_slice(path);
    }

    /// The first of those that are packed there, and the others.
    fn first_of(packed: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (shape, rest) = first_number(packed)?;
        let (length, rest) = first_number(rest)?;
        let (path_bytes, rest) =
            if length & 1 == 0 { (0, rest) } else { first_number(rest)? };
        let (step, rest) = first_number(rest)?;
        let (name, rest) = rest.split_at_checked(usize::try_from(length >> 1).ok()?)?;
        let (path, rest) = rest.split_at_checked(usize::try_from(path_bytes).ok()?)?;
        let step = (step >> 1).cast_signed() ^ -(step & 1).cast_signed();
        Some((Self { shape, name, path, step }, rest))
    }
}

fn push_number(to: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

/// The number that begins there, and what is behind it.
fn first_number(packed: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut rest) = (0, packed);
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        rest = behind;
        if byte & 0x80 == 0 {
            return Some((number, rest));
        }
    }
    None
}

impl Shape {
    /// The address of this name, in pieces.
    fn address<'a>(&'a self, name: &'a str) -> [&'a str; 2] {
        [name, &self.domain]
    }

    /// Where the mailbox of this name lies, in pieces; at `own` if there is nothing in common.
    fn path<'a>(&'a self, name: &'a str, own: &'a str) -> [&'a str; 3] {
        match &self.around {
            Some((before, behind)) => [before, name, behind],
            None => [own, "", ""],
        }
    }
}

/// The shape of one mailbox, of which no other may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Common<'a> {
    domain: &'a str,
    around: Option<(&'a str, &'a str)>,
    language: Option<Language>,
}

impl<'a> Common<'a> {
    /// The shape of a mailbox whose path has its name in it, or at least whose domain others
    /// have as well; and its own texts.
    fn of(mailbox: &'a JobMailbox) -> (Self, (&'a str, &'a str)) {
        let JobMailbox { address, path, language, .. } = mailbox;
        let at = address.rfind('@').filter(|at| *at > 0);
        let Some((name, domain)) = at.and_then(|at| address.split_at_checked(at)) else {
            return Self::hardly_any(mailbox);
        };
        let around = path.split_once(name);
        let own = if around.is_some() { "" } else { path };
        (Self { domain, around, language: *language }, (name, own))
    }

    /// The shape that has nothing but the language in common with others.
    fn hardly_any(mailbox: &'a JobMailbox) -> (Self, (&'a str, &'a str)) {
        let JobMailbox { address, path, language, .. } = mailbox;
        (Self { domain: "", around: None, language: *language }, (address, path))
    }
}

impl From<Common<'_>> for Shape {
    fn from(Common { domain, around, language }: Common<'_>) -> Self {
        let around = around.map(|(before, behind)| (before.into(), behind.into()));
        Self { domain: domain.into(), around, language }
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
            mailbox(4, "c@example.org", "example.org/c/Maildir", None),
            mailbox(5, "cc@example.org", "example.org/cc/Maildir", italian),
            mailbox(6, "nobody", "nobody", None),
            mailbox(8, "@example.org", "x", None),
        ];
        let part = JobPart { mailboxes: told.to_vec(), expected: None };
        let job = JobNumber::new(1);

        let description = Description::new(&part);
        description.write(&shelf, job).unwrap();
        let read = Description::read(&shelf, job, description.digest).unwrap();

        let bytes = shelf.read(job, description.digest).unwrap();
        assert_eq!(decode_description(&bytes).unwrap(), part);
        assert_eq!(usize::from(read.len()), told.len());
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
        assert!(read.mailbox(Ordinal::new(7), true).is_none());
        assert_eq!(read.ordinal("nobody@example.org"), None);
    }

    #[test]
    fn mailboxes_that_have_nothing_in_common_are_described_as_well() {
        let mailbox = |number: u32| JobMailbox {
            number: MailboxNumber::new(number),
            address: format!("user{number}@domain{number}.example"),
            path: format!("{}/user{number}", number % 1_000),
            language: None,
        };
        let mailboxes: Vec<_> = (0..3_000).map(mailbox).collect();
        let part = JobPart { mailboxes: mailboxes.clone(), expected: None };

        let description = Description::new(&part);

        assert!(description.shapes.len() <= SHAPES_MAX + 1);
        for (at, told) in (0..).map(Ordinal::new).zip(&mailboxes) {
            let kept = description.mailbox(at, true).unwrap();
            assert_eq!(kept.address, told.address);
            assert_eq!(kept.path, told.path.as_bytes());
        }
    }
}
