//! Anchors: what the log's newest digest was at some time, for a second place.
//!
//! An anchor is a line of words, so that a line of a program's log is as good as a file of them:
//! `audit-anchor 2 SEQUENCE DIGEST MILLIS SIGNATURE`, with `-` where there is no key.
//!
//! # Invariants
//!
//! * Whoever has not the private key makes no anchor that is believed; the public one, which
//!   verifies, makes none.

use std::fs;
use std::io;
use std::path::Path;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use tidegate_secret::Secret;

use crate::Hex;
use crate::log::{Head, written};

/// So many records after the last anchor there is another one.
pub const ANCHOR_EVERY_RECORDS: u64 = 500;

/// What begins an anchor.
const WORD: &str = "audit-anchor";
const VERSION: &str = "2";
const NO_SIGNATURE: &str = "-";

/// What is signed begins with this, so that no signature is one of something else.
const CONTEXT: &str = "tidegate audit anchor 2026-11 v2";

/// What stands before the 32 bytes of a public Ed25519 key in its PEM file (RFC 8410).
const PUBLIC_KEY_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The private key that anchors are signed with: Ed25519.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key in the PEM file at `path`: PKCS #8, as `tidegate init` and `openssl genpkey
    /// -algorithm ed25519` write it.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no such key.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = Secret::read(path)?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.expose());
        let mut key = key.map_err(|_| io::Error::other("it is no private key in PEM"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
        zeroize::Zeroize::zeroize(&mut key);
        let pair = pair.map_err(|_| io::Error::other("it is no private Ed25519 key"))?;
        Ok(Self(pair))
    }

    /// The key that believes its anchors.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }

    /// Signs a digest of something that is no anchor; `of` says of what, so that nobody can take
    /// it for anything else.
    pub fn sign(&self, of: &str, digest: &str) -> Hex {
        hex(self.0.sign(statement(of, digest).as_bytes()).as_ref())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// The public key that tells anchors from forgeries; it makes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The key in the PEM file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no such key.
    pub fn read(path: &Path) -> io::Result<Self> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(&fs::read(path)?);
        let key = key.map_err(|_| io::Error::other("it is no public key in PEM"))?;
        let key = key.strip_prefix(&PUBLIC_KEY_HEAD);
        let key = key.filter(|key| key.len() == 32).map(<[u8]>::to_vec);
        key.map(Self).ok_or_else(|| io::Error::other("it is no public Ed25519 key"))
    }

    /// Whether [`SigningKey::sign`] gave this signature.
    pub fn has_signed(&self, of: &str, digest: &str, signature: &str) -> bool {
        bytes(signature).is_some_and(|signature| {
            let key = UnparsedPublicKey::new(&ED25519, &self.0);
            key.verify(statement(of, digest).as_bytes(), &signature).is_ok()
        })
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
    signature: Option<Hex>,
}

impl Anchor {
    pub(crate) fn new(head: &Head, at_millis: u64, key: Option<&SigningKey>) -> Self {
        let (sequence, digest) = (head.sequence, head.digest.clone());
        let mut anchor = Self { sequence, digest, at_millis, signature: None };
        anchor.signature = key.map(|key| hex(key.0.sign(&anchor.signed()).as_ref()));
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
        let signature: Hex = words.next()?.chars().take_while(is_digit).collect();
        let signature = (!signature.is_empty()).then_some(signature);
        Some(Self { sequence, digest, at_millis, signature })
    }

    /// Whether it was signed with the private part of this key.
    pub(crate) fn is_of(&self, key: &PublicKey) -> bool {
        let signature = self.signature.as_deref().and_then(bytes);
        signature.is_some_and(|signature| {
            let key = UnparsedPublicKey::new(&ED25519, &key.0);
            key.verify(&self.signed(), &signature).is_ok()
        })
    }

    /// When it was made, as people write it.
    pub(crate) fn time(&self) -> String {
        written(self.at_millis)
    }

    fn signed(&self) -> Vec<u8> {
        let Self { sequence, digest, at_millis, .. } = self;
        format!("{CONTEXT} {sequence} {digest} {at_millis}").into_bytes()
    }
}

impl std::fmt::Display for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sequence, digest, at_millis, signature } = self;
        let signature = signature.as_deref().unwrap_or(NO_SIGNATURE);
        write!(f, "{WORD} {VERSION} {sequence} {digest} {at_millis} {signature}")
    }
}

/// What is signed; no anchor begins so.
fn statement(of: &str, digest: &str) -> String {
    format!("{of}: {digest}")
}

fn hex(bytes: &[u8]) -> Hex {
    bytes.iter().fold(Hex::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| pair.iter().fold(0, |value, digit| value << 4 | digit))
        .map(|value| u8::try_from(value).ok())
        .collect()
}
