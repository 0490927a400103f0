//! Mutation: what disks, crashes and people who wish us ill do to files.
//!
//! # Invariants
//!
//! * The same seed gives the same bytes.

use super::Chance;

/// Longer ones find no more, only later.
const BYTES_MAX: usize = 16 * 1024;

/// Changes made to one file, at most.
const CHANGES_MAX: usize = 6;

/// Numbers at the borders of what a field can hold.
const NUMBERS: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    1 << 32,
    u64::MAX >> 1,
    u64::MAX,
];

/// A file of `seeds` after some changes.
pub(super) fn mutated(seeds: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut chance = Chance(seed);
    let mut bytes = pick(seeds, &mut chance).to_vec();
    for _ in 0..=chance.below(CHANGES_MAX) {
        change(&mut bytes, seeds, &mut chance);
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn pick<'a>(seeds: &'a [Vec<u8>], chance: &mut Chance) -> &'a [u8] {
    seeds.get(chance.below(seeds.len())).map_or(&[], |seed| &**seed)
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(bytes.len() + 1);
    let end = (at + chance.length()).min(bytes.len());
    match chance.below(15) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes[at..end].fill(0),
        3 => {
            let (from, to) = (at / 512 * 512, (at / 512 * 512 + 512).min(bytes.len()));
            bytes[from..to].fill(0);
        }
        4 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        5 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = chance.next().to_le_bytes()[0];
            }
        }
        6 => overwrite(bytes, at, chance),
        7 => replace_digits(bytes, at, chance),
        8 => {
            let copy = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        9 => {
            let copy = bytes[at..end].repeat(1 + chance.below(40));
            drop(bytes.splice(at..at, copy.into_iter().take(BYTES_MAX)));
        }
        10 => {
            let to = chance.below(bytes.len() + 1);
            let moved: Vec<u8> = bytes.drain(at..end).collect();
            let to = to.min(bytes.len());
            drop(bytes.splice(to..to, moved));
        }
        11 => {
            let other = pick(seeds, chance);
            let from = chance.below(other.len() + 1);
            let to = (from + chance.length()).min(other.len());
            drop(bytes.splice(at..end, other[from..to].iter().copied()));
        }
        12 => {
            let other = pick(seeds, chance);
            let from =
                if chance.below(2) == 0 { at } else { chance.below(other.len() + 1) };
            bytes.truncate(at);
            bytes.extend_from_slice(other.get(from..).unwrap_or_default());
        }
        13 => {
            let odd = b"\n\r\0 :,/\t=;\"%-\xff";
            let byte = odd[chance.below(odd.len())];
            bytes.insert(at, byte);
        }
        _ => {
            let junk: Vec<u8> =
                (0..chance.length()).map(|_| chance.next().to_le_bytes()[0]).collect();
            drop(bytes.splice(at..end, junk));
        }
    }
}

/// Writes a number over bytes, at a place where words stand.
fn overwrite(bytes: &mut [u8], at: usize, chance: &mut Chance) {
    let width = [1, 2, 4, 8][chance.below(4)];
    let mut number = NUMBERS[chance.below(NUMBERS.len())];
    if chance.below(3) == 0 {
        number = chance.below(bytes.len() + 9) as u64;
    }
    let at = if chance.below(4) == 0 { at } else { at / width * width };
    let mut word = number.to_le_bytes();
    if chance.below(4) == 0 {
        word[..width].reverse();
    }
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&word[..width]);
    }
}

/// Writes another number in the place of one that stands there as text.
fn replace_digits(bytes: &mut Vec<u8>, at: usize, chance: &mut Chance) {
    let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
    let Some(from) = bytes[at..].iter().position(is_digit).map(|from| at + from) else {
        return;
    };
    let length = bytes[from..].iter().take_while(|byte| is_digit(byte)).count();
    let number = match chance.below(3) {
        0 => chance.below(100) as u64,
        _ => NUMBERS[chance.below(NUMBERS.len())],
    };
    let text = match chance.below(4) {
        0 => format!("{number:x}"),
        1 => format!("{number:0length$X}"),
        2 => String::new(),
        _ => number.to_string(),
    };
    drop(bytes.splice(from..from + length, text.into_bytes()));
}
