//! Spool: a manifest on its way out, of however many messages.
//!
//! # Invariants
//!
//! * A manifest of an ordinary mailbox stays in memory; a larger one goes to a file of our own as it
//!   grows.
//! * The lines are sorted, in whatever order they come; they come nearly sorted.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::manifest::{ManifestEntry, ManifestReader, ManifestWriter};

/// What stays in memory: the manifest of ten thousand messages.
const MEMORY_BYTES_MAX: usize = 1 << 20;

/// A manifest that is being written.
pub(crate) struct Spool {
    /// Where it goes if it grows.
    path: PathBuf,
    writer: Option<ManifestWriter<Sink>>,
    last: Option<(Vec<u8>, Vec<u8>)>,
    late: Vec<ManifestEntry>,
    failed: Option<io::Error>,
}

/// A manifest that is complete.
pub(crate) struct Spooled {
    /// BLAKE3 of its bytes.
    pub(crate) digest: [u8; 32],
    pub(crate) place: Place,
}

/// Where a complete manifest is.
pub(crate) enum Place {
    Memory(Vec<u8>),
    File(PathBuf),
}

impl Spool {
    /// Nothing written; `path` is free.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, writer: None, last: None, late: Vec::new(), failed: None }
    }

    /// Takes in one message.
    pub(crate) fn add(&mut self, entry: ManifestEntry) {
        let key = (entry.folder.as_slice(), entry.name.as_slice());
        let before =
            |last: &(Vec<u8>, Vec<u8>)| key < (last.0.as_slice(), last.1.as_slice());
        if self.last.as_ref().is_some_and(before) {
            self.late.push(entry);
            return;
        }
        if let Err(error) = self.write(&entry) {
            self.failed.get_or_insert(error);
        }
        self.last = Some((entry.folder, entry.name));
    }

    fn write(&mut self, entry: &ManifestEntry) -> io::Result<()> {
        if self.writer.is_none() {
            self.writer = Some(ManifestWriter::begin(Sink::new(self.path.clone()))?);
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.add(entry))
    }

    /// Completes the manifest.
    pub(crate) fn end(mut self) -> io::Result<Spooled> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => ManifestWriter::begin(Sink::new(self.path.clone()))?,
        };
        let sink = writer.end()?;
        let late = std::mem::take(&mut self.late);
        let sink = if late.is_empty() { sink } else { merge(sink, late, &self.path)? };
        let (digest, place) = match sink.file {
            None => (blake3::hash(&sink.bytes), Place::Memory(sink.bytes)),
            Some(mut file) => {
                file.flush()?;
                (sink.hasher.finalize(), Place::File(self.path))
            }
        };
        Ok(Spooled { digest: *digest.as_bytes(), place })
    }
}

/// A manifest of an earlier run, read as often as needed.
pub(crate) struct Earlier {
    path: PathBuf,
    digest: Cell<Option<[u8; 32]>>,
}

impl Earlier {
    /// The manifest at `path`, if there is one.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let there = path.try_exists()?;
        let (path, digest) = (path.to_owned(), Cell::new(None));
        Ok(there.then_some(Self { path, digest }))
    }

    /// Shows every entry. After an error none of them may be believed.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(ManifestEntry)) -> io::Result<()> {
        let (source, hasher) = (File::open(&self.path)?, blake3::Hasher::new());
        let mut source = BufReader::new(Hashed { source, hasher });
        for entry in ManifestReader::begin(&mut source) {
            visit(entry.map_err(io::Error::other)?);
        }
        let digest = source.into_inner().hasher.finalize();
        self.digest.set(Some(*digest.as_bytes()));
        Ok(())
    }

    /// BLAKE3 of its bytes; nothing if it was not read.
    pub(crate) fn digest(&self) -> Option<[u8; 32]> {
        self.digest.get()
    }
}

struct Hashed<R> {
    source: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.hasher.update(buffer.get(..length).unwrap_or_default());
        Ok(length)
    }
}

/// Writes what is sorted and what came late once more, together.
fn merge(sink: Sink, mut late: Vec<ManifestEntry>, path: &Path) -> io::Result<Sink> {
    late.sort();
    let mut late = late.into_iter().peekable();
    let aside = path.with_extension("sorted");
    let mut writer = ManifestWriter::begin(Sink::new(aside.clone()))?;
    let source: Box<dyn Read> = match sink.file {
        None => Box::new(io::Cursor::new(sink.bytes)),
        Some(mut file) => {
            file.flush()?;
            Box::new(File::open(path)?)
        }
    };
    for entry in ManifestReader::begin(BufReader::new(source)) {
        let entry = entry.map_err(io::Error::other)?;
        while let Some(earlier) = late.next_if(|late| *late < entry) {
            writer.add(&earlier)?;
        }
        writer.add(&entry)?;
    }
    late.try_for_each(|entry| writer.add(&entry))?;
    let sink = writer.end()?;
    if sink.file.is_some() {
        std::fs::rename(&aside, path)?;
    }
    Ok(sink)
}

/// Bytes in memory, or in a file once they are many.
struct Sink {
    path: PathBuf,
    bytes: Vec<u8>,
    file: Option<BufWriter<File>>,
    /// Of what is in the file: line by line is slower than many at once.
    hasher: blake3::Hasher,
}

impl Sink {
    fn new(path: PathBuf) -> Self {
        Self { path, bytes: Vec::new(), file: None, hasher: blake3::Hasher::new() }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut self.file {
            self.hasher.update(bytes);
            file.write_all(bytes)?;
            return Ok(bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > MEMORY_BYTES_MAX {
            let bytes = std::mem::take(&mut self.bytes);
            self.hasher.update(&bytes);
            let mut file = BufWriter::new(File::create(&self.path)?);
            file.write_all(&bytes)?;
            self.file = Some(file);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;
    use crate::digest::Digester;

    fn entry(number: u32) -> ManifestEntry {
        let name = format!("{number:06}.M1P1.host,S=3").into_bytes();
        let fingerprint = Digester::of(&name).into();
        ManifestEntry { folder: Vec::new(), name, uid: None, size_bytes: 3, fingerprint }
    }

    fn check(numbers: impl Iterator<Item = u32>, many: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::new(path.clone());
        let mut entries: Vec<ManifestEntry> = numbers.map(entry).collect();
        entries.iter().cloned().for_each(|entry| spool.add(entry));
        entries.sort();

        let spooled = spool.end().unwrap();

        let bytes = match spooled.place {
            Place::Memory(bytes) if !many => bytes,
            Place::File(path) if many => std::fs::read(path).unwrap(),
            Place::Memory(_) | Place::File(_) => panic!("it is not where it should be"),
        };
        assert_eq!(spooled.digest, *blake3::hash(&bytes).as_bytes());
        assert_eq!(Manifest::parse(&bytes), Some(Manifest { entries }));
    }

    #[test]
    fn few_lines_stay_in_memory_and_many_go_to_a_file() {
        check(0..0, false);
        check(0..50, false);
        check(0..20_000, true);
    }

    #[test]
    fn lines_that_come_late_are_sorted_in() {
        check((0..50).rev(), false);
        check((0..20_000).map(|number| number ^ 1), true);
    }
}
