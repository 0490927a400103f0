//! Manifest: the messages of a mailbox as they were when it was prepared.
//!
//! # Invariants
//!
//! * One line per message, sorted by folder and name: the same mailbox gives the same bytes, and
//!   the digest of those bytes names the state.
//! * A manifest that does not read back completely is an error, never half believed: its last line
//!   tells how many there are and their digest.
//! * Read and written line by line, so that memory does not grow with the mailbox.

mod import;

use std::io::{self, BufRead, Read as _, Write};

use crate::digest::{Digester, Fingerprint, from_hex, to_hex};

pub use import::{Import, ImportError, ImportedLine};

const FIRST_LINE: &[u8] = b"tidegate-manifest 3\n";

/// First field of the last line.
const LAST_LINE: &[u8] = b"end";

/// A folder's path and a name, every byte escaped, fit.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What a mailbox holds: the evidence for reports and for later repairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The messages, sorted by folder and name.
    pub entries: Vec<ManifestEntry>,
}

/// One good message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestEntry {
    /// Folder; empty is the inbox, otherwise without the leading dot.
    pub folder: Vec<u8>,
    /// Base name.
    pub name: Vec<u8>,
    /// UID, if the folder's list has given one.
    pub uid: Option<u32>,
    /// Bytes of the message.
    pub size_bytes: u64,
    /// What its bytes are known by.
    pub fingerprint: Fingerprint,
}

impl Manifest {
    /// As it goes to disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = ManifestWriter::begin(Vec::new());
        for entry in &self.entries {
            writer = writer.and_then(|mut writer| writer.add(entry).map(|()| writer));
        }
        writer.and_then(ManifestWriter::end).unwrap_or_default()
    }

    /// Reads what [`Manifest::to_bytes`] wrote; nothing if it is not exactly that.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let entries = ManifestReader::begin(bytes).collect::<Result<_, _>>().ok()?;
        Some(Self { entries })
    }
}

/// A manifest could not be read to its end. None of it may be believed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestLineError {
    /// The disk did not give it.
    #[error("read line {line} of the manifest")]
    Unreadable {
        /// Counted from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Not a line of a manifest.
    #[error("understand line {line} of the manifest")]
    Malformed {
        /// Counted from 1.
        line: u64,
    },
    /// It ends before its last line.
    #[error("find the end of the manifest after line {line}")]
    Cut {
        /// Counted from 1.
        line: u64,
    },
    /// Its lines are not those that were written.
    #[error("match the manifest with the digest in line {line}")]
    Altered {
        /// Counted from 1.
        line: u64,
    },
}

/// The entries of a manifest, one by one. An error is the last item, and spoils all before it.
pub struct ManifestReader<R> {
    source: R,
    line: u64,
    hasher: Digester,
    done: bool,
    bytes: Vec<u8>,
}

impl<R: BufRead> ManifestReader<R> {
    /// Reads nothing yet.
    pub fn begin(source: R) -> Self {
        let (hasher, bytes) = (Digester::default(), Vec::new());
        Self { source, line: 0, hasher, done: false, bytes }
    }

    /// The next entry; nothing after the last line.
    fn advance(&mut self) -> Result<Option<ManifestEntry>, ManifestLineError> {
        if self.line == 0 {
            if self.read_line()? != FIRST_LINE {
                return Err(ManifestLineError::Malformed { line: 1 });
            }
            self.hasher.update(FIRST_LINE);
        }
        self.read_line()?;
        let line = self.line;
        let malformed = ManifestLineError::Malformed { line };
        let text = self.bytes.strip_suffix(b"\n").unwrap_or_default();
        let fields: Vec<&[u8]> = text.split(|byte| *byte == b'\t').collect();
        match *fields {
            [folder, uid, name, size, fingerprint] => {
                let entry = entry([folder, uid, name, size, fingerprint]);
                self.hasher.update(&self.bytes);
                entry.map(Some).ok_or(malformed)
            }
            [LAST_LINE, count, digits] => {
                let count: u64 = number(count).ok_or(malformed)?;
                // Of all lines but this one.
                if count.checked_add(2) != Some(line)
                    || from_hex(digits) != Some(self.hasher.finish())
                {
                    return Err(ManifestLineError::Altered { line });
                }
                let rest = self.source.fill_buf();
                let rest = rest
                    .map_err(|source| ManifestLineError::Unreadable { line, source })?;
                let is_end = rest.is_empty();
                is_end
                    .then_some(None)
                    .ok_or(ManifestLineError::Malformed { line: line + 1 })
            }
            _ => Err(malformed),
        }
    }

    fn read_line(&mut self) -> Result<&[u8], ManifestLineError> {
        self.line += 1;
        self.bytes.clear();
        let mut source = (&mut self.source).take(LINE_BYTES_MAX);
        if let Err(source) = source.read_until(b'\n', &mut self.bytes) {
            return Err(ManifestLineError::Unreadable { line: self.line, source });
        }
        if !self.bytes.ends_with(b"\n") {
            return Err(ManifestLineError::Cut { line: self.line - 1 });
        }
        Ok(&self.bytes)
    }
}

impl<R: BufRead> Iterator for ManifestReader<R> {
    type Item = Result<ManifestEntry, ManifestLineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.advance().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

/// A manifest on its way out, entry by entry.
pub struct ManifestWriter<W> {
    to: W,
    count: u64,
    hasher: Digester,
    line: Vec<u8>,
}

impl<W: Write> ManifestWriter<W> {
    /// Writes the first line.
    ///
    /// # Errors
    ///
    /// What writing gave.
    pub fn begin(to: W) -> io::Result<Self> {
        let (hasher, line) = (Digester::default(), FIRST_LINE.to_vec());
        let mut writer = Self { to, count: 0, hasher, line };
        writer.write_line()?;
        Ok(writer)
    }

    /// Writes the next entry; they come sorted by folder and name.
    ///
    /// # Errors
    ///
    /// What writing gave. The manifest must be given up.
    pub fn add(&mut self, entry: &ManifestEntry) -> io::Result<()> {
        self.line.clear();
        push_escaped(&mut self.line, &entry.folder);
        self.line.push(b'\t');
        match entry.uid {
            Some(uid) => push_number(&mut self.line, u64::from(uid)),
            None => self.line.push(b'-'),
        }
        self.line.push(b'\t');
        push_escaped(&mut self.line, &entry.name);
        self.line.push(b'\t');
        push_number(&mut self.line, entry.size_bytes);
        self.line.push(b'\t');
        entry.fingerprint.push_to(&mut self.line);
        self.line.push(b'\n');
        self.count += 1;
        self.write_line()
    }

    /// Writes the last line; what was written to.
    ///
    /// # Errors
    ///
    /// What writing gave. The manifest must be given up.
    pub fn end(mut self) -> io::Result<W> {
        let (count, digest) = (self.count, to_hex(&self.hasher.finish()));
        self.line.clear();
        self.line.extend_from_slice(LAST_LINE);
        writeln!(self.line, "\t{count}\t{digest}")?;
        self.write_line()?;
        Ok(self.to)
    }

    fn write_line(&mut self) -> io::Result<()> {
        self.hasher.update(&self.line);
        self.to.write_all(&self.line)
    }
}

fn entry([folder, uid, name, size, fingerprint]: [&[u8]; 5]) -> Option<ManifestEntry> {
    let uid = match uid {
        b"-" => None,
        digits => Some(number(digits)?),
    };
    Some(ManifestEntry {
        folder: unescape(folder)?,
        name: unescape(name)?,
        uid,
        size_bytes: number(size)?,
        fingerprint: Fingerprint::parse(fingerprint)?,
    })
}

/// A plain decimal number, without sign or blanks.
pub(crate) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A number as decimal digits; a manifest has two for each message.
fn push_number(to: &mut Vec<u8>, number: u64) {
    let start = to.len();
    let mut rest = number;
    loop {
        to.push(b'0' + u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.get_mut(start..).unwrap_or_default().reverse();
}

/// Bytes that are not plain text, and `%`, as `%XX`.
pub(crate) fn push_escaped(to: &mut Vec<u8>, bytes: &[u8]) {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'%';
    if bytes.iter().all(is_plain) {
        return to.extend_from_slice(bytes);
    }
    for byte in bytes {
        if is_plain(byte) {
            to.push(*byte);
        } else {
            to.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// The bytes behind `%XX`; nothing if an escape is broken.
pub(crate) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    if !text.contains(&b'%') {
        return Some(text.to_vec());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let high = char::from(*rest.next()?).to_digit(16)?;
        let low = char::from(*rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_manifest_is_plain_text_with_a_version() {
        let manifest = Manifest {
            entries: vec![ManifestEntry {
                folder: b"Archive.2024".to_vec(),
                name: b"1.a b%,S=3".to_vec(),
                uid: Some(7),
                size_bytes: 3,
                fingerprint: Digester::of(b"abc").into(),
            }],
        };

        expect_test::expect![[r"
            tidegate-manifest 3
            Archive.2024	7	1.a%20b%25,S=3	3	xxh3:06b05ab6733a618578af5f94892f3950
            end	1	92dc25dc68527879943efea8854f80a0
        "]]
        .assert_eq(&String::from_utf8(manifest.to_bytes()).unwrap());
    }

    fn manifest(names: &[&str]) -> Manifest {
        let entry = |name: &&str| ManifestEntry {
            folder: b"end".to_vec(),
            name: name.as_bytes().to_vec(),
            uid: None,
            size_bytes: 5,
            fingerprint: Fingerprint::Sha256([9; 32]),
        };
        Manifest { entries: names.iter().map(entry).collect() }
    }

    #[test]
    fn a_manifest_that_is_cut_anywhere_is_none() {
        let bytes = manifest(&["a", "b"]).to_bytes();

        for length in 0..bytes.len() {
            assert_eq!(Manifest::parse(&bytes[..length]), None, "{length}");
        }
        assert_eq!(Manifest::parse(&[&*bytes, b"\n"].concat()), None);
    }

    #[test]
    fn a_manifest_with_another_bit_anywhere_is_none() {
        let bytes = manifest(&["a", "b"]).to_bytes();

        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(Manifest::parse(&other), None, "{at}");
        }
    }

    #[test]
    fn what_cannot_be_read_of_a_manifest_is_named_by_its_line() {
        let text = |bytes: &[u8]| {
            let read = ManifestReader::begin(bytes).find_map(Result::err);
            read.map(|error| error.to_string())
        };
        let good = manifest(&["a", "b"]).to_bytes();
        let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
        let said = |lines: &[&[u8]]| text(&lines.concat());
        let some = |text: &str| Some(text.to_owned());

        assert_eq!(text(&good), None);
        assert_eq!(text(b"x\n"), some("understand line 1 of the manifest"));
        assert_eq!(said(&lines[..2]), some("find the end of the manifest after line 2"));
        let without = [lines[0], lines[1], lines[3]];
        assert_eq!(said(&without), some("match the manifest with the digest in line 3"));
        let odd = [lines[0], b"a\tb\n"];
        assert_eq!(said(&odd), some("understand line 2 of the manifest"));
    }

    proptest! {
        #[test]
        fn any_names_read_back(
            folder: Vec<u8>, name: Vec<u8>, uid: Option<u32>, size_bytes: u64,
        ) {
            let fingerprint = Digester::of(&name).into();
            let entry = ManifestEntry { folder, name, uid, size_bytes, fingerprint };
            let manifest = Manifest { entries: vec![entry] };
            prop_assert_eq!(Manifest::parse(&manifest.to_bytes()), Some(manifest));
        }

        #[test]
        fn any_bytes_can_be_parsed(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes);
        }
    }
}
