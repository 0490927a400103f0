//! Kept: the view on disk, so that an exchanger that starts while the coordinator is away
//! still knows who is open.
//!
//! # Invariants
//!
//! * A file is read only as a whole and with its checksum right; a damaged one is as good as
//!   none, and is left for a person to look at.
//! * A file is replaced, never changed: a crash leaves the old one or the new one.
//! * Doors belong to the directory of the same plan, or count for nothing.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_core::fleet::{MailboxNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_wire::exchanger::DirectoryHead;

use crate::directory::{Builder, Directory, DirectoryError};
use crate::view::View;

/// Begins the file of a directory.
const DIRECTORY: &[u8; 20] = b"tidegate directory 1";

/// Begins the file of doors.
const DOORS: &[u8; 20] = b"tidegate mx doors  1";

/// No name or address is longer.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// No plan has more waves or nodes.
const NAMES_MAX: u32 = 1 << 16;

/// Bytes of a digest at a file's end, and of a plan's name.
const DIGEST_BYTES: usize = 32;

/// Bytes read or written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where the view is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    dir: PathBuf,
}

/// What could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// The file system refuses.
    #[error("use `{path}`")]
    Io {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("`{path}` is damaged: {what}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file is whole and makes no directory.
    #[error("`{path}` holds no directory")]
    Directory {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: DirectoryError,
    },
}

/// What was kept.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The view.
    pub(crate) view: View,
    /// How long ago the coordinator was last heard.
    pub(crate) heard_ago: Duration,
}

impl Kept {
    /// Keeps in `dir`, which is made if it is not there.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// What was kept; nothing before the first time.
    pub(crate) fn load(&self) -> Result<Option<Loaded>, KeptError> {
        let Some(directory) = self.load_directory()? else { return Ok(None) };
        let Some((plan, heard, bits)) = self.load_doors()? else { return Ok(None) };
        if plan != directory.plan() {
            return Ok(None);
        }
        let view = View::held(directory.into());
        view.set_run(MailboxNumber::new(0), &bits);
        // A wall clock that was set back makes it new, never old: what is held is then kept
        // for longer, which loses nothing.
        let heard_ago = SystemTime::now().duration_since(heard).unwrap_or_default();
        Ok(Some(Loaded { view, heard_ago }))
    }

    /// Keeps who there is.
    pub(crate) fn keep_directory(&self, directory: &Directory) -> Result<(), KeptError> {
        self.replace("directory", |to| {
            to.write_all(DIRECTORY)?;
            let head = directory.head();
            to.write_all(head.plan.bytes())?;
            write_number(to, head.waves.len())?;
            head.waves.iter().try_for_each(|wave| write_text(to, wave))?;
            write_number(to, head.nodes.len())?;
            for (name, mailboxes) in &head.nodes {
                write_text(to, name)?;
                to.write_all(&mailboxes.to_le_bytes())?;
            }
            let mailboxes = (0..).take(directory.len()).map(MailboxNumber::new);
            for mailbox in mailboxes {
                write_text(to, directory.address(mailbox))?;
                let wave = directory.wave(mailbox);
                let wave = wave.map_or(0, |wave| u32::from(wave.get()) + 1);
                to.write_all(&wave.to_le_bytes())?;
            }
            Ok(())
        })
    }

    /// Keeps who is open, as told at `heard`.
    pub(crate) fn keep_doors(
        &self,
        view: &View,
        heard: SystemTime,
    ) -> Result<(), KeptError> {
        let heard = heard.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let heard = u64::try_from(heard).unwrap_or(u64::MAX);
        self.replace("doors", |to| {
            to.write_all(DOORS)?;
            to.write_all(view.directory().plan().bytes())?;
            to.write_all(&heard.to_le_bytes())?;
            let bits = view.bits();
            write_number(to, bits.len())?;
            to.write_all(&bits)
        })
    }

    fn load_directory(&self) -> Result<Option<Directory>, KeptError> {
        let Some(mut from) = self.read("directory", DIRECTORY)? else { return Ok(None) };
        let plan = from.plan()?;
        let waves = (0..from.count()?).map(|_| from.text()).collect::<Result<_, _>>()?;
        let mut nodes = Vec::new();
        for _ in 0..from.count()? {
            nodes.push((from.text()?, from.number()?));
        }
        let mailboxes: u64 = nodes.iter().map(|(_, count)| u64::from(*count)).sum();
        let path = from.path.clone();
        let wrong = |source| KeptError::Directory { path: path.clone(), source };
        let head = DirectoryHead { plan, waves, nodes, follows: true };
        let mut builder = Builder::new(head).map_err(wrong)?;
        for _ in 0..mailboxes {
            let address = from.text()?;
            let wave =
                u16::try_from(from.number()?).map_err(|_| from.damaged("a wave"))?;
            let wave = wave.checked_sub(1).map(WaveNumber::new);
            builder.push(&address, wave).map_err(wrong)?;
        }
        from.end()?;
        builder.finish().map(Some).map_err(wrong)
    }

    fn load_doors(&self) -> Result<Option<(Digest, SystemTime, Vec<u8>)>, KeptError> {
        let Some(mut from) = self.read("doors", DOORS)? else { return Ok(None) };
        let plan = from.plan()?;
        let mut millis = [0; 8];
        from.bytes(&mut millis)?;
        let heard = UNIX_EPOCH + Duration::from_millis(u64::from_le_bytes(millis));
        let length = from.number()?;
        let mut bits = Vec::new();
        for _ in 0..length {
            let mut byte = [0];
            from.bytes(&mut byte)?;
            bits.extend(byte);
        }
        from.end()?;
        Ok(Some((plan, heard, bits)))
    }

    fn read(&self, name: &str, magic: &[u8]) -> Result<Option<Reading>, KeptError> {
        let path = self.dir.join(name);
        let shown = path.display().to_string();
        let file = match File::open(&path) {
            Ok(file) => BufReader::with_capacity(BUFFER_BYTES, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeptError::Io { path: shown, source }),
        };
        let digest = blake3::Hasher::new();
        let mut from = Reading { path: shown, file, digest };
        let mut begins = vec![0; magic.len()];
        from.bytes(&mut begins)?;
        if begins == magic { Ok(Some(from)) } else { Err(from.damaged("its beginning")) }
    }

    fn replace(
        &self,
        name: &str,
        write: impl FnOnce(&mut Writing) -> io::Result<()>,
    ) -> Result<(), KeptError> {
        let path = self.dir.join(name);
        let staged = path.with_extension("new");
        let written = (|| {
            let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&staged)?);
            let mut to = Writing { file, digest: blake3::Hasher::new() };
            write(&mut to)?;
            let digest = to.digest.finalize();
            to.file.write_all(digest.as_bytes())?;
            let file = to.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            fs::rename(&staged, &path)?;
            File::open(&self.dir)?.sync_all()
        })();
        let path = path.display().to_string();
        written.map_err(|source| KeptError::Io { path, source })
    }
}

/// A file that is being written, with the digest of what went into it.
struct Writing {
    file: BufWriter<File>,
    digest: blake3::Hasher,
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write_number(to: &mut Writing, number: usize) -> io::Result<()> {
    let number = u32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&number.to_le_bytes())
}

fn write_text(to: &mut Writing, text: &str) -> io::Result<()> {
    let length = u16::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(text.as_bytes())
}

/// A file that is being read, with the digest of what came out of it.
struct Reading {
    path: String,
    file: BufReader<File>,
    digest: blake3::Hasher,
}

impl Reading {
    fn damaged(&self, what: &'static str) -> KeptError {
        KeptError::Damaged { path: self.path.clone(), what }
    }

    fn failed(&self, source: io::Error) -> KeptError {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            return self.damaged("it is too short");
        }
        KeptError::Io { path: self.path.clone(), source }
    }

    fn bytes(&mut self, into: &mut [u8]) -> Result<(), KeptError> {
        self.file.read_exact(into).map_err(|source| self.failed(source))?;
        self.digest.update(into);
        Ok(())
    }

    fn number(&mut self) -> Result<u32, KeptError> {
        let mut bytes = [0; 4];
        self.bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn count(&mut self) -> Result<u32, KeptError> {
        let count = self.number()?;
        if count > NAMES_MAX { Err(self.damaged("a count")) } else { Ok(count) }
    }

    fn text(&mut self) -> Result<String, KeptError> {
        let mut length = [0; 2];
        self.bytes(&mut length)?;
        let length = usize::from(u16::from_le_bytes(length));
        if length > TEXT_BYTES_MAX {
            return Err(self.damaged("a length"));
        }
        let mut bytes = vec![0; length];
        self.bytes(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| self.damaged("a text"))
    }

    fn plan(&mut self) -> Result<Digest, KeptError> {
        let mut bytes = [0; DIGEST_BYTES];
        self.bytes(&mut bytes)?;
        Ok(Digest::new(bytes))
    }

    /// Compares the digest, which is the last thing in the file.
    fn end(mut self) -> Result<(), KeptError> {
        let digest = self.digest.finalize();
        let mut written = [0; DIGEST_BYTES];
        self.file.read_exact(&mut written).map_err(|source| self.failed(source))?;
        if blake3::Hash::from(written) != digest {
            return Err(self.damaged("its checksum"));
        }
        let mut more = [0];
        match self.file.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("it is too long")),
            Err(source) => Err(self.failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::view;

    #[test]
    fn what_was_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(&dir.path().join("mx")).unwrap();
        assert!(kept.load().unwrap().is_none());
        let view = view(100);
        view.set(MailboxNumber::new(77), true);
        let heard = SystemTime::now() - Duration::from_mins(5);

        kept.keep_directory(view.directory()).unwrap();
        kept.keep_doors(&view, heard).unwrap();

        let loaded = kept.load().unwrap().unwrap();
        assert_eq!(loaded.view.bits(), view.bits());
        assert_eq!(loaded.view.directory().head(), view.directory().head());
        let again = loaded.view.directory().find("user77@example.org");
        assert_eq!(again, Some(MailboxNumber::new(77)));
        assert_eq!(loaded.heard_ago.as_secs(), 300);
    }

    #[test]
    fn whatever_byte_is_damaged_or_missing_the_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path()).unwrap();
        let view = view(10);
        kept.keep_directory(view.directory()).unwrap();
        kept.keep_doors(&view, SystemTime::now()).unwrap();

        for name in ["directory", "doors"] {
            let path = dir.path().join(name);
            let whole = fs::read(&path).unwrap();
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                *damaged.get_mut(at).unwrap() ^= 0x10;
                fs::write(&path, damaged).unwrap();
                assert!(kept.load().is_err(), "{name}, byte {at}");
                fs::write(&path, whole.get(..at).unwrap()).unwrap();
                assert!(kept.load().is_err(), "{name}, cut at {at}");
            }
            fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
            assert!(kept.load().is_err(), "{name}, one byte more");
            fs::write(&path, whole).unwrap();
        }
        assert!(kept.load().unwrap().is_some());
    }

    #[test]
    fn doors_of_another_plan_count_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path()).unwrap();
        let view = view(10);
        kept.keep_directory(view.directory()).unwrap();
        let other = DirectoryHead { plan: Digest::new([9; 32]), ..empty() };
        let other = View::held(Builder::new(other).unwrap().finish().unwrap().into());

        kept.keep_doors(&other, SystemTime::now()).unwrap();

        assert!(kept.load().unwrap().is_none());
    }

    fn empty() -> DirectoryHead {
        let (waves, nodes) = (Vec::new(), Vec::new());
        DirectoryHead { plan: Digest::new([7; 32]), waves, nodes, follows: true }
    }
}
