//! Import: lists of digests that other programs made while the store was healthy.
//!
//! What `sha256sum` and `b3sum` write, also with `--tag`, one file per line
//! (<https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html>).
//!
//! # Invariants
//!
//! * A path is below the directory in which the list was made, or the line is an error.
//! * A line that is not understood is told with its number; those after it are still read.

use std::io::{self, BufRead, Read as _};

use crate::digest::{Fingerprint, FingerprintKind, from_hex};

/// The longest path of Linux with every byte escaped, and its digest.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// A file and what it was known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedLine {
    /// Path below the directory in which the list was made, without a leading `./`.
    pub path: Vec<u8>,
    /// Digest of the file's bytes as they are stored.
    pub fingerprint: Fingerprint,
}

/// Why a line of a list was not understood.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The disk did not give it. Nothing more is read.
    #[error("read line {line} of the list")]
    Unreadable {
        /// Counted from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// No digest and path.
    #[error("find a digest and a path in line {line} of the list")]
    Malformed {
        /// Counted from 1.
        line: u64,
    },
    /// The path is absolute, or leads out by `..`.
    #[error("follow the path in line {line} of the list, which leads outside")]
    Outside {
        /// Counted from 1.
        line: u64,
    },
}

/// The lines of a list, one by one.
pub struct Import<R> {
    source: R,
    kind: FingerprintKind,
    line: u64,
    done: bool,
}

impl<R: BufRead> Import<R> {
    /// Lines of a list of `kind`: the digests of both programs look alike.
    pub fn begin(source: R, kind: FingerprintKind) -> Self {
        Self { source, kind, line: 0, done: false }
    }
}

impl<R: BufRead> Iterator for Import<R> {
    type Item = Result<ImportedLine, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        self.line += 1;
        let line = self.line;
        let mut bytes = Vec::new();
        let mut source = (&mut self.source).take(LINE_BYTES_MAX);
        match source.read_until(b'\n', &mut bytes) {
            Ok(0) => {
                self.done = true;
                return None;
            }
            Ok(_) => {}
            Err(source) => {
                self.done = true;
                return Some(Err(ImportError::Unreadable { line, source }));
            }
        }
        // Longer than any line can be: what follows would be taken for lines.
        let is_whole = bytes.ends_with(b"\n");
        self.done = !is_whole && bytes.len() as u64 == LINE_BYTES_MAX;
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let parsed = parse(bytes, self.kind).ok_or(ImportError::Malformed { line });
        Some(parsed.and_then(|parsed| {
            let inside = is_inside(&parsed.path);
            inside.then_some(parsed).ok_or(ImportError::Outside { line })
        }))
    }
}

fn parse(line: &[u8], kind: FingerprintKind) -> Option<ImportedLine> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (path, digits) = match tagged(line, kind) {
        Some(parts) => parts,
        None => plain(line, kind)?,
    };
    let path = if is_escaped { unescape(path)? } else { path.to_vec() };
    let mut path = &*path;
    while let Some(rest) = path.strip_prefix(b"./") {
        path = rest;
    }
    let fingerprint = match kind {
        FingerprintKind::Xxh3 => Fingerprint::Xxh3(from_hex(digits)?),
        FingerprintKind::Sha256 => Fingerprint::Sha256(from_hex(digits)?),
        FingerprintKind::Blake3 => Fingerprint::Blake3(from_hex(digits)?),
    };
    (!path.is_empty()).then(|| ImportedLine { path: path.to_vec(), fingerprint })
}

/// `<digest>`, a blank, a blank or `*`, and the path.
fn plain(line: &[u8], kind: FingerprintKind) -> Option<(&[u8], &[u8])> {
    let (digits, rest) = line.split_at_checked(kind.digits())?;
    let path = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
    Some((path, digits))
}

/// `SHA256 (<path>) = <digest>`
fn tagged(line: &[u8], kind: FingerprintKind) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(kind.tag())?.strip_prefix(b" (")?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(kind.digits())?)?;
    Some((rest.strip_suffix(b") = ")?, digits))
}

impl FingerprintKind {
    fn digits(self) -> usize {
        match self {
            Self::Xxh3 => 32,
            Self::Sha256 | Self::Blake3 => 64,
        }
    }

    fn tag(self) -> &'static [u8] {
        match self {
            Self::Xxh3 => b"XXH3",
            Self::Sha256 => b"SHA256",
            Self::Blake3 => b"BLAKE3",
        }
    }
}

/// The path behind `\n`, `\r` and `\\`; nothing if there is another escape.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match *byte {
            b'\\' => match *rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some(bytes)
}

fn is_inside(path: &[u8]) -> bool {
    !path.starts_with(b"/") && path.split(|byte| *byte == b'/').all(|part| part != b"..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    use crate::digest::to_hex;
    use proptest::prelude::*;

    const SHA256: &str =
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn check(list: &str, expected: &expect_test::Expect) {
        let mut text = String::new();
        for item in Import::begin(list.as_bytes(), FingerprintKind::Sha256) {
            match item {
                Ok(line) => {
                    let path = line.path.escape_ascii();
                    let digest = line.fingerprint.to_string();
                    writeln!(text, "{path} {}", &digest[..13]).unwrap();
                }
                Err(error) => writeln!(text, "cannot {error}").unwrap(),
            }
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn lists_of_every_style_give_paths_and_fingerprints() {
        let list = format!(
            "{SHA256}  anna/Maildir/cur/1.a:2,S\n\
             {SHA256} *./anna/2.b\n\
             \\{SHA256}  a\\nb\\\\c\n\
             SHA256 (anna/3 (x) = y) = {SHA256}\n\
             {SHA256}  last without end"
        );
        check(
            &list,
            &expect_test::expect![[r"
                anna/Maildir/cur/1.a:2,S sha256:ba7816
                anna/2.b sha256:ba7816
                a\nb\\c sha256:ba7816
                anna/3 (x) = y sha256:ba7816
                last without end sha256:ba7816
            "]],
        );
    }

    #[test]
    fn what_is_not_understood_is_told_by_its_line_and_the_rest_is_read() {
        let list = format!(
            "{SHA256}  a\n\nba78  b\n{SHA256}  /etc/passwd\n{SHA256}  a/../../b\n\
             {SHA256}  \n\\{SHA256}  a\\x\n{SHA256}  z\n"
        );
        check(
            &list,
            &expect_test::expect![[r"
                a sha256:ba7816
                cannot find a digest and a path in line 2 of the list
                cannot find a digest and a path in line 3 of the list
                cannot follow the path in line 4 of the list, which leads outside
                cannot follow the path in line 5 of the list, which leads outside
                cannot find a digest and a path in line 6 of the list
                cannot find a digest and a path in line 7 of the list
                z sha256:ba7816
            "]],
        );
    }

    #[test]
    fn a_line_without_end_is_not_read_forever() {
        let endless = io::BufReader::new(io::repeat(b'a'));

        let items: Vec<_> = Import::begin(endless, FingerprintKind::Blake3).collect();

        assert!(matches!(*items, [Err(ImportError::Malformed { line: 1 })]));
    }

    proptest! {
        #[test]
        fn any_path_reads_back(path in "[^\0/.]{1,20}", digest: [u8; 32]) {
            let escaped = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
            let mark = if escaped == path { "" } else { "\\" };
            let list = format!("{mark}{}  {escaped}\n", to_hex(&digest));

            let items = Import::begin(list.as_bytes(), FingerprintKind::Blake3);
            let read: Vec<_> = items.map(Result::unwrap).collect();

            let (path, fingerprint) = (path.into_bytes(), Fingerprint::Blake3(digest));
            prop_assert_eq!(read, [ImportedLine { path, fingerprint }]);
        }

        #[test]
        fn any_bytes_can_be_imported(bytes: Vec<u8>) {
            Import::begin(&*bytes, FingerprintKind::Sha256).for_each(drop);
        }
    }
}
