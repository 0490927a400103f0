//! Digest: what tells the bytes of two messages apart.
//!
//! XXH3 with 128 bits, big endian (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>). It
//! guards against faults, not against forgers: who can write to the mail can write to our records too.
//! At the size of mail it costs an eighth of a cryptographic digest, so that reading stays the limit.

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

/// As text: lower case hexadecimal.
pub(crate) fn to_hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(digest.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
    fn bytes_in_pieces_and_at_once_give_one_digest() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        let mut pieces = Digester::default();
        bytes.chunks(77).for_each(|piece| pieces.update(piece));

        assert_eq!(pieces.finish(), Digester::of(&bytes));
        assert_eq!(from_hex(to_hex(&pieces.finish()).as_bytes()), Some(pieces.finish()));
    }
}
