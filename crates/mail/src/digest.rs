//! Digest: what tells the bytes of two messages apart.
//!
//! XXH3 with 128 bits, big endian (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>). It
//! guards against faults, not against forgers: who can write to the mail can write to our records too.
//! At the size of mail it costs an eighth of a cryptographic digest, so that reading stays the limit.

use std::fmt;

use twox_hash::XxHash3_128;

/// A digest of a message's bytes.
pub(crate) type Digest = [u8; 16];

/// A digest in the making.
#[derive(Clone, Default)]
pub(crate) struct Digester(XxHash3_128);

impl Digester {
    /// The digest of bytes that are all at hand.
    pub(crate) fn of(bytes: &[u8]) -> Digest {
        XxHash3_128::oneshot(bytes).to_be_bytes()
    }

    /// Takes in the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The digest of everything taken in.
    pub(crate) fn finish(&self) -> Digest {
        self.0.finish_128().to_be_bytes()
    }
}

/// Our own fingerprint of a message that comes in parts.
#[derive(Clone, Default)]
pub struct Fingerprinter(Digester);

impl Fingerprinter {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of everything taken in.
    pub fn finish(&self) -> Fingerprint {
        Fingerprint::Xxh3(self.0.finish())
    }
}

/// What some program recorded of a file's bytes, to know them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fingerprint {
    /// Our own: of the plain message, however it is stored.
    Xxh3([u8; 16]),
    /// As `sha256sum` makes it.
    Sha256([u8; 32]),
    /// As `b3sum` makes it.
    Blake3([u8; 32]),
}

/// By what a fingerprint is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FingerprintKind {
    /// XXH3-128, as we make it.
    Xxh3,
    /// SHA-256.
    Sha256,
    /// BLAKE3 with 32 bytes.
    Blake3,
}

impl Fingerprint {
    pub(crate) fn kind(&self) -> FingerprintKind {
        match self {
            Self::Xxh3(_) => FingerprintKind::Xxh3,
            Self::Sha256(_) => FingerprintKind::Sha256,
            Self::Blake3(_) => FingerprintKind::Blake3,
        }
    }

    /// Reads what its `Display` wrote.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let colon = text.iter().position(|byte| *byte == b':')?;
        let (kind, digits) = (text.get(..colon)?, text.get(colon + 1..)?);
        match kind {
            b"xxh3" => from_hex(digits).map(Self::Xxh3),
            b"sha256" => from_hex(digits).map(Self::Sha256),
            b"blake3" => from_hex(digits).map(Self::Blake3),
            _ => None,
        }
    }

    /// Adds it as text.
    pub(crate) fn push_to(&self, text: &mut Vec<u8>) {
        let (kind, bytes): (&[u8], &[u8]) = match self {
            Self::Xxh3(digest) => (b"xxh3:", digest),
            Self::Sha256(digest) => (b"sha256:", digest),
            Self::Blake3(digest) => (b"blake3:", digest),
        };
        text.extend_from_slice(kind);
        text.extend(hex(bytes));
    }
}

impl From<Digest> for Fingerprint {
    fn from(digest: Digest) -> Self {
        Self::Xxh3(digest)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.push_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// As text: lower case hexadecimal.
pub(crate) fn to_hex(digest: &[u8]) -> String {
    hex(digest).map(char::from).collect()
}

/// Lower case hexadecimal digits.
fn hex(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + (half - 10) };
    bytes.iter().flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)])
}

/// The bytes behind hexadecimal digits of either case; nothing if they are not exactly that.
pub(crate) fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of nothing is in the specification's own test vectors.
    #[test]
    fn digests_are_those_of_the_specification() {
        let nothing = to_hex(&Digester::default().finish());

        assert_eq!(nothing, "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn a_fingerprint_names_its_maker_and_reads_back() {
        let nothing = Fingerprint::from(Digester::of(b""));
        let all = [nothing, Fingerprint::Sha256([7; 32]), Fingerprint::Blake3([255; 32])];

        assert_eq!(nothing.to_string(), "xxh3:99aa06d3014798d86001c324468d497f");
        for it in all {
            assert_eq!(Fingerprint::parse(it.to_string().as_bytes()), Some(it));
        }
        assert_eq!(Fingerprint::parse(b"sha256:99aa"), None);
        assert_eq!(Fingerprint::parse(b"md5:99aa06d3014798d86001c324468d497f"), None);
    }

    #[test]
    fn bytes_in_pieces_and_at_once_give_one_digest() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        let mut pieces = Digester::default();
        bytes.chunks(77).for_each(|piece| pieces.update(piece));

        assert_eq!(pieces.finish(), Digester::of(&bytes));
        assert_eq!(from_hex(to_hex(&pieces.finish()).as_bytes()), Some(pieces.finish()));
    }
}
