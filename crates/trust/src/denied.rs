//! Denied: certificates that are believed no more before their time is over.
//!
//! ```text
//! # anna's laptop, stolen on 23 November
//! 3A:91:…:0C          SHA-256 fingerprint, as `openssl x509 -noout -fingerprint -sha256` tells it
//! 4F2A91              or a serial number, as `openssl x509 -noout -serial` does
//! ```
//!
//! # Invariants
//!
//! * A line that is neither spoils the whole list: nobody is let in because of a slip.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ring::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::files::TrustError;

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 32;

/// Bytes of a serial number, at most (RFC 5280).
const SERIAL_BYTES_MAX: usize = 20;

/// A list of denied certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Denied(BTreeSet<Vec<u8>>);

/// What tells one certificate from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    fingerprint: Vec<u8>,
    serial: Vec<u8>,
}

impl Marks {
    /// Those of the certificate `der`.
    pub(crate) fn of(der: &[u8]) -> Self {
        let serial = X509Certificate::from_der(der)
            .map(|(_, certificate)| plain(certificate.raw_serial()));
        Self {
            fingerprint: digest(&SHA256, der).as_ref().to_vec(),
            serial: serial.unwrap_or_default(),
        }
    }
}

impl Denied {
    /// The list in the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, TrustError> {
        let text = fs::read_to_string(path).map_err(|source| TrustError::Denied {
            path: path.to_owned(),
            line: 0,
            source: Some(source),
        })?;
        let mut denied = BTreeSet::new();
        for (line, number) in text.lines().zip(1..) {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let wrong = || TrustError::Denied {
                path: path.to_owned(),
                line: number,
                source: None,
            };
            denied.insert(mark(entry).ok_or_else(wrong)?);
        }
        Ok(Self(denied))
    }

    /// Whether the certificate with these marks is on it.
    pub(crate) fn has(&self, marks: &Marks) -> bool {
        self.0.contains(&marks.fingerprint) || self.0.contains(&marks.serial)
    }
}

/// A fingerprint or a serial number, with colons or without.
fn mark(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
    let mut digits: Vec<u32> = digits.collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        digits.insert(0, 0);
    }
    let pairs = digits.chunks_exact(2);
    let value = |pair: &[u32]| pair.iter().fold(0, |value, digit| value << 4 | digit);
    let bytes: Option<Vec<u8>> =
        pairs.map(|pair| u8::try_from(value(pair)).ok()).collect();
    let bytes = bytes.filter(|bytes| !bytes.is_empty())?;
    match bytes.len() {
        FINGERPRINT_BYTES => Some(bytes),
        length if length <= SERIAL_BYTES_MAX + 1 => Some(plain(&bytes)),
        _ => None,
    }
}

/// A number without the zeros before it.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    bytes.iter().skip(start).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_openssl_writes_them_and_anything_else_spoils_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("denied.txt");
        let colons = ["3A"; 32].join(":");
        fs::write(&path, format!("# stolen\n{colons}\n004f2a91 # berta\n\n")).unwrap();

        let read = Denied::read(&path).unwrap();

        let marks = |fingerprint: u8, serial: &[u8]| Marks {
            fingerprint: vec![fingerprint; 32],
            serial: serial.to_vec(),
        };
        assert!(read.has(&marks(0x3a, &[1])));
        assert!(read.has(&marks(0, &[0x4f, 0x2a, 0x91])));
        assert!(!read.has(&marks(0, &[0x4f, 0x2a])));
        for slip in ["anna", "3A:9", &"3A".repeat(30)] {
            fs::write(&path, format!("3A91\n{slip}x\n")).unwrap();
            let error = Denied::read(&path).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{error}");
        }
    }
}
