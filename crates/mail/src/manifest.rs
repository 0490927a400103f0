//! Manifest: the messages of a mailbox as they were when it was prepared.
//!
//! # Invariants
//!
//! * One line per message, sorted by folder and name: the same mailbox gives the same bytes, and
//!   the digest of those bytes names the state.
//! * A manifest that does not read back completely is an error, never half believed.

use std::collections::HashMap;

use crate::digest::{Digest, from_hex, to_hex};

const FIRST_LINE: &[u8] = b"tidegate-manifest 2";

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
    /// XXH3-128 of its bytes, big endian.
    pub digest: [u8; 16],
}

impl Manifest {
    /// As it goes to disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = FIRST_LINE.to_vec();
        bytes.push(b'\n');
        for entry in &self.entries {
            push_escaped(&mut bytes, &entry.folder);
            bytes.push(b'\t');
            match entry.uid {
                Some(uid) => bytes.extend_from_slice(uid.to_string().as_bytes()),
                None => bytes.push(b'-'),
            }
            bytes.push(b'\t');
            push_escaped(&mut bytes, &entry.name);
            bytes.push(b'\t');
            bytes.extend_from_slice(entry.size_bytes.to_string().as_bytes());
            bytes.push(b'\t');
            bytes.extend_from_slice(to_hex(&entry.digest).as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// Reads what [`Manifest::to_bytes`] wrote; nothing if it is not exactly that.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let entries = lines.map(entry).collect::<Option<Vec<_>>>()?;
        Some(Self { entries })
    }

    /// Digests by folder and base name.
    pub(crate) fn digests(&self) -> HashMap<(&[u8], &[u8]), Digest> {
        let key = |entry: &ManifestEntry| entry.digest;
        self.entries.iter().map(|it| ((&*it.folder, &*it.name), key(it))).collect()
    }
}

fn entry(line: &[u8]) -> Option<ManifestEntry> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let folder = unescape(fields.next()?)?;
    let uid = match fields.next()? {
        b"-" => None,
        digits => Some(number(digits)?),
    };
    let name = unescape(fields.next()?)?;
    let size_bytes = number(fields.next()?)?;
    let digest = from_hex(fields.next()?)?;
    if fields.next().is_some() {
        return None;
    }
    Some(ManifestEntry { folder, name, uid, size_bytes, digest })
}

/// A plain decimal number, without sign or blanks.
pub(crate) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Bytes that are not plain text, and `%`, as `%XX`.
pub(crate) fn push_escaped(to: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'%' {
            to.push(*byte);
        } else {
            to.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

/// The bytes behind `%XX`; nothing if an escape is broken.
pub(crate) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
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
                digest: crate::digest::Digester::of(b"abc"),
            }],
        };

        expect_test::expect![[r"
            tidegate-manifest 2
            Archive.2024	7	1.a%20b%25,S=3	3	06b05ab6733a618578af5f94892f3950
        "]]
        .assert_eq(&String::from_utf8(manifest.to_bytes()).unwrap());
    }

    #[test]
    fn a_cut_manifest_is_none() {
        assert_eq!(Manifest::parse(b"tidegate-manifest 2\nx\t1\ty\t"), None);
        assert_eq!(Manifest::parse(b""), None);
    }

    proptest! {
        #[test]
        fn any_names_read_back(
            folder: Vec<u8>, name: Vec<u8>, uid: Option<u32>, size_bytes: u64,
        ) {
            let digest = crate::digest::Digester::of(&name);
            let entry = ManifestEntry { folder, name, uid, size_bytes, digest };
            let manifest = Manifest { entries: vec![entry] };
            prop_assert_eq!(Manifest::parse(&manifest.to_bytes()), Some(manifest));
        }

        #[test]
        fn any_bytes_can_be_parsed(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes);
        }
    }
}
