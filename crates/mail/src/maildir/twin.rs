//! Twin: repairing a moved message from the place it was moved from.
//!
//! # Invariants
//!
//! * Every byte of the damaged file is the twin's byte at that offset, or zero, and at least one
//!   whole piece that is not zero agrees: nothing else counts as proof.
//! * If messages with different bytes agree alike, none is taken.

use std::io::{self, Read};

use crate::judge::{BUFFER_BYTES, fill};

/// The piece that must agree.
const SECTOR_BYTES: usize = 512;

/// A message shorter than a sector, or cut within one, must agree for at least this long.
const AGREEING_BYTES_MIN: usize = 64;

/// Whether `whole` may be what `damaged` was before the fault.
pub(crate) fn agrees(damaged: &mut impl Read, whole: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut proved = false;
    loop {
        let found = fill(damaged, &mut left)?;
        let expected = fill(whole, &mut right)?;
        let (Some(found_bytes), Some(expected_bytes)) =
            (left.get(..found), right.get(..found))
        else {
            return Ok(false);
        };
        if found > expected {
            return Ok(false);
        }
        let pieces =
            found_bytes.chunks(SECTOR_BYTES).zip(expected_bytes.chunks(SECTOR_BYTES));
        for (piece, twin) in pieces {
            if piece == twin {
                proved |= piece.len() >= AGREEING_BYTES_MIN && !piece.contains(&0);
            } else if piece
                .iter()
                .zip(twin)
                .any(|(byte, twin)| byte != twin && *byte != 0)
            {
                return Ok(false);
            }
        }
        if found < left.len() {
            return Ok(proved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(damaged: &[u8], expected: bool) {
        let whole = whole();
        assert_eq!(agrees(&mut &*damaged, &mut &*whole).unwrap(), expected);
    }

    fn whole() -> Vec<u8> {
        b"Subject: a message\n".repeat(120)
    }

    #[test]
    fn a_cut_or_zeroed_copy_agrees() {
        let mut zeroed = whole();
        zeroed[512..1024].fill(0);

        check(&whole()[..700], true);
        check(&whole()[..100], true);
        check(&zeroed, true);
    }

    #[test]
    fn a_copy_with_another_byte_or_without_any_proof_does_not() {
        let mut other = whole();
        other[1500] = b'X';

        check(&other, false);
        check(&[0; 2000], false);
        check(b"", false);
        check(&whole().repeat(2), false);
    }
}
