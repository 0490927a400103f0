//! Anchors: what the log's newest digest was at some time, for a second place.
//!
//! An anchor is a line of words, so that a line of a program's log is as good as a file of them:
//! `audit-anchor 1 SEQUENCE DIGEST MILLIS MAC`, with `-` where there is no key.
//!
//! # Invariants
//!
//! * Whoever has not the key makes no anchor that is believed.

use std::fs;
use std::io;
use std::path::Path;

use crate::Hex;
use crate::log::Head;

/// So many records after the last anchor there is another one.
pub const ANCHOR_EVERY_RECORDS: u64 = 500;

/// What begins an anchor.
const WORD: &str = "audit-anchor";
const VERSION: &str = "1";
const NO_MAC: &str = "-";

/// What the key is used for.
const CONTEXT: &str = "tidegate audit anchor 2026-11 v1";

/// A shorter one could be guessed.
const KEY_BYTES_MIN: usize = 16;

/// The key that anchors are made with.
#[derive(Clone)]
pub struct MacKey([u8; 32]);

impl MacKey {
    /// The key in the file at `path`: any bytes, at least 16.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is too short.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        if bytes.trim_ascii().len() < KEY_BYTES_MIN {
            return Err(io::Error::other("the key is shorter than 16 bytes"));
        }
        Ok(Self(blake3::derive_key(CONTEXT, bytes.trim_ascii())))
    }
}

/// The log's head at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The newest record then.
    pub sequence: u64,
    /// Its digest.
    pub digest: Hex,
    at_millis: u64,
    mac: Option<Hex>,
}

impl Anchor {
    pub(crate) fn new(head: &Head, at_millis: u64, key: Option<&MacKey>) -> Self {
        let (sequence, digest) = (head.sequence, head.digest.clone());
        let mut anchor = Self { sequence, digest, at_millis, mac: None };
        anchor.mac = key.map(|key| anchor.mac(key));
        anchor
    }

    /// The anchor in a line, whatever else stands before it.
    pub(crate) fn find(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(WORD)?;
        let mut words = rest.split_whitespace();
        if words.next()? != VERSION {
            return None;
        }
        let (sequence, digest) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        let at_millis = words.next()?.parse().ok()?;
        // Whatever a program's log has put behind it is none of it.
        let is_digit = |c: &char| c.is_ascii_hexdigit();
        let mac: Hex = words.next()?.chars().take_while(is_digit).collect();
        let mac = (!mac.is_empty()).then_some(mac);
        Some(Self { sequence, digest, at_millis, mac })
    }

    /// Whether it was made with this key.
    pub(crate) fn is_of(&self, key: &MacKey) -> bool {
        // Compared as digests, in constant time.
        let theirs = self.mac.as_deref().and_then(|mac| blake3::Hash::from_hex(mac).ok());
        theirs.is_some_and(|theirs| theirs == self.keyed(key))
    }

    fn mac(&self, key: &MacKey) -> Hex {
        crate::hex(&self.keyed(key))
    }

    fn keyed(&self, key: &MacKey) -> blake3::Hash {
        let Self { sequence, digest, at_millis, .. } = self;
        blake3::keyed_hash(&key.0, format!("{sequence} {digest} {at_millis}").as_bytes())
    }
}

impl std::fmt::Display for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sequence, digest, at_millis, mac } = self;
        let mac = mac.as_deref().unwrap_or(NO_MAC);
        write!(f, "{WORD} {VERSION} {sequence} {digest} {at_millis} {mac}")
    }
}
