//! Addresses: something small about each of very many, in little memory.
//!
//! An address is packed into about two bytes for three letters and one for its domain, and lies
//! among a dozen others whose hash is alike. Whoever asks looks through these few.
//!
//! # Invariants
//!
//! * An address is found by all of its bytes, never by a hash alone: nobody is taken for
//!   somebody else.
//! * Two addresses are never packed alike.
//! * A reader waits at most while one part is put in order, some ten microseconds, and only if
//!   it asks for an address of that part.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is known of an address.
pub(crate) type Value = [u8; 3];

/// Parts that are locked apart: small enough to be put in order quickly.
const PARTS: usize = 512;

/// Addresses that share a place, on average: looked through in some ten nanoseconds.
const SHARE_A_PLACE: usize = 12;

/// New ones lie in no order until they are so many bytes, or an eighth of the others.
const NEW_BYTES_MIN: usize = 512;

/// Longer ones are rare, and kept as they are; so the length of a packed one fits a byte.
const PACKED_FROM_MAX: usize = 240;

/// Bytes of the number of a domain, at most.
const DOMAIN_BYTES_MAX: usize = 5;

/// One more than there are letters that are packed by three into two bytes: instead of the third
/// of three.
const BASE: u16 = 40;

/// A byte that is no such letter.
const NO_LETTER: u8 = u8::MAX;

/// The number of a letter that is packed.
const fn letter(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => byte - b'a',
        b'0'..=b'9' => byte - b'0' + 26,
        b'.' => 36,
        b'_' => 37,
        b'-' => 38,
        _ => NO_LETTER,
    }
}

/// Something about each of very many addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    parts: Box<[RwLock<Part>]>,
    domains: RwLock<HashMap<Box<str>, u32>>,
    long: RwLock<HashMap<Box<str>, Value>>,
    hasher: RandomState,
}

/// Addresses that are locked together, each as its length, its value and itself, packed.
#[derive(Debug, Default)]
struct Part {
    /// Where each place begins in `placed`.
    starts: Box<[u32]>,
    placed: Box<[u8]>,
    /// Not put in order yet.
    new: Vec<u8>,
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| RwLock::default()).collect(),
            domains: RwLock::default(),
            long: RwLock::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Addresses {
    /// What is known of an address.
    pub(crate) fn get(&self, address: &str) -> Option<Value> {
        if address.len() > PACKED_FROM_MAX {
            return read(&self.long).get(address).copied();
        }
        let (local, domain) = divide(address);
        let domain = match domain {
            Some(domain) => *read(&self.domains).get(domain)?,
            None => NO_DOMAIN,
        };
        let key = Key::new(local, domain);
        let hash = self.hasher.hash_one(key.bytes());
        read(self.part(hash)?).get(key.bytes(), hash)
    }

    /// Changes what is known of an address, which was `first` if nothing was.
    pub(crate) fn change(
        &self,
        address: &str,
        first: Value,
        change: impl FnOnce(Value) -> Value,
    ) {
        if address.len() > PACKED_FROM_MAX {
            let mut long = write(&self.long);
            let value = long.entry(address.into()).or_insert(first);
            *value = change(*value);
            return;
        }
        let (local, domain) = divide(address);
        let key = Key::new(local, domain.map_or(NO_DOMAIN, |it| self.number(it)));
        let hash = self.hasher.hash_one(key.bytes());
        let Some(part) = self.part(hash) else { return };
        write(part).change((key.bytes(), hash), first, change, &self.hasher);
    }

    /// The number of a domain, which may be new.
    fn number(&self, domain: &str) -> u32 {
        if let Some(number) = read(&self.domains).get(domain) {
            return *number;
        }
        let mut domains = write(&self.domains);
        let next = u32::try_from(domains.len()).unwrap_or(u32::MAX) + NO_DOMAIN + 1;
        *domains.entry(domain.into()).or_insert(next)
    }

    fn part(&self, hash: u64) -> Option<&RwLock<Part>> {
        let index = hash % self.parts.len() as u64;
        self.parts.get(usize::try_from(index).ok()?)
    }
}

/// The number of the domain of an address without one.
const NO_DOMAIN: u32 = 0;

fn divide(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (address, None),
    }
}

/// An address, packed.
struct Key {
    bytes: [u8; PACKED_FROM_MAX + DOMAIN_BYTES_MAX],
    length: usize,
}

impl Key {
    fn new(local: &str, domain: u32) -> Self {
        let mut key = Self { bytes: [0; PACKED_FROM_MAX + DOMAIN_BYTES_MAX], length: 0 };
        let letters = local.bytes().all(|byte| letter(byte) != NO_LETTER);
        key.push_number(u64::from(domain) << 1 | u64::from(letters));
        if !letters {
            local.bytes().for_each(|byte| key.push(byte));
            return key;
        }
        let wide = |byte: u8| u16::from(letter(byte));
        for three in local.as_bytes().chunks(3) {
            let packed = match *three {
                [a] => {
                    key.push(letter(a));
                    continue;
                }
                [a, b] => (wide(a) * BASE + wide(b)) * BASE + (BASE - 1),
                [a, b, c] => (wide(a) * BASE + wide(b)) * BASE + wide(c),
                _ => continue,
            };
            packed.to_be_bytes().into_iter().for_each(|byte| key.push(byte));
        }
        key
    }

    /// Seven bits in a byte, the lowest first; the last one is below 128.
    fn push_number(&mut self, mut number: u64) {
        let low = |number: u64| number.to_le_bytes()[0] & 0x7f;
        while number >= 1 << 7 {
            self.push(low(number) | 1 << 7);
            number >>= 7;
        }
        self.push(low(number));
    }

    fn push(&mut self, byte: u8) {
        // It has room for the longest domain's number and the longest address.
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Bytes before an address.
const HEAD: usize = 1 + size_of::<Value>();

/// Where the value of this one begins among `all`.
fn find(all: &[u8], key: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(length) = all.get(at) {
        let (begin, end) = (at + HEAD, at + HEAD + usize::from(*length));
        if usize::from(*length) == key.len() && all.get(begin..end) == Some(key) {
            return Some(at + 1);
        }
        at = end;
    }
    None
}

/// Each of `all`, with its head.
fn each(all: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let (one, behind) = rest.split_at_checked(HEAD + usize::from(*rest.first()?))?;
        rest = behind;
        Some(one)
    })
}

/// The address of one with its head.
fn key_of(one: &[u8]) -> &[u8] {
    one.get(HEAD..).unwrap_or_default()
}

impl Part {
    fn get(&self, key: &[u8], hash: u64) -> Option<Value> {
        let value = |all: &[u8]| {
            let at = find(all, key)?;
            all.get(at..)?.first_chunk().copied()
        };
        let placed = self.placed.get(self.place(hash)).unwrap_or_default();
        value(placed).or_else(|| value(&self.new))
    }

    fn change(
        &mut self,
        (key, hash): (&[u8], u64),
        first: Value,
        change: impl FnOnce(Value) -> Value,
        hasher: &RandomState,
    ) {
        let place = self.place(hash);
        let placed = self.placed.get_mut(place).unwrap_or_default();
        let found = match find(placed, key) {
            Some(at) => placed.get_mut(at..),
            None => find(&self.new, key).and_then(|at| self.new.get_mut(at..)),
        };
        if let Some(value) = found.and_then(<[u8]>::first_chunk_mut::<3>) {
            *value = change(*value);
            return;
        }
        let Ok(length) = u8::try_from(key.len()) else { return };
        self.new.push(length);
        self.new.extend(change(first));
        self.new.extend(key);
        if self.new.len() >= NEW_BYTES_MIN.max(self.placed.len() / 8) {
            self.put_in_order(hasher);
        }
    }

    /// Gives every address its place.
    fn put_in_order(&mut self, hasher: &RandomState) {
        let new = std::mem::take(&mut self.new);
        let all = || each(&self.placed).chain(each(&new));
        let places = (all().count() / SHARE_A_PLACE).max(1);
        let place_of = |one: &[u8]| place(hasher.hash_one(key_of(one)), places);
        let mut starts = vec![0_u32; places + 1].into_boxed_slice();
        for one in all() {
            if let Some(end) = starts.get_mut(place_of(one) + 1) {
                *end += u32::try_from(one.len()).unwrap_or(0);
            }
        }
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut placed = vec![0; self.placed.len() + new.len()].into_boxed_slice();
        let mut next = starts.clone();
        for one in all() {
            let Some(next) = next.get_mut(place_of(one)) else { continue };
            let begin = *next as usize;
            if let Some(room) = placed.get_mut(begin..begin + one.len()) {
                room.copy_from_slice(one);
            }
            *next += u32::try_from(one.len()).unwrap_or(0);
        }
        (self.starts, self.placed) = (starts, placed);
    }

    /// Where addresses with this hash lie.
    fn place(&self, hash: u64) -> std::ops::Range<usize> {
        let places = self.starts.len().saturating_sub(1);
        let at = place(hash, places);
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(start), Some(end)) => *start as usize..*end as usize,
            (None | Some(_), None | Some(_)) => 0..0,
        }
    }
}

/// The place of a hash, by its upper half: the lower one tells the part.
fn place(hash: u64, places: usize) -> usize {
    let places = u64::try_from(places).unwrap_or(0);
    usize::try_from((hash >> 32).saturating_mul(places) >> 32).unwrap_or(0)
}

// Whoever panicked while holding one of the locks left it whole.

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_many_addresses_keeps_its_own_value() {
        let addresses = Addresses::default();
        let name = |n: u32| format!("user.{n:x}@provider{}.example", n % 7);
        let value = |n: u32| {
            let [a, b, c, _] = n.to_le_bytes();
            [a, b, c]
        };

        for n in 0..50_000 {
            addresses.change(&name(n), [0; 3], |_| value(n));
        }
        for n in (0..50_000).step_by(3) {
            addresses.change(&name(n), [0; 3], |[a, b, _]| [a, b, 77]);
        }

        let kept = |n: u32| {
            let [a, b, c] = value(n);
            Some(if n.is_multiple_of(3) { [a, b, 77] } else { [a, b, c] })
        };
        assert!((0..50_000).all(|n| addresses.get(&name(n)) == kept(n)));
        assert!((50_000..60_000).all(|n| addresses.get(&name(n)).is_none()));
    }

    #[test]
    fn no_two_addresses_are_packed_alike() {
        let letters = ["", "a", "b", "-", "aa", "a-", "-a", "ab", "A", "+", "ä", "@"];
        let mut locals: Vec<String> = vec![String::new()];
        for _ in 0..4 {
            let longer = locals
                .iter()
                .flat_map(|it| letters.map(|letter| format!("{it}{letter}")));
            locals = longer.collect();
            locals.sort_unstable();
            locals.dedup();
        }
        let keys = locals.iter().flat_map(|local| {
            [0, 1, 63, 64, 8_191, 8_192, u32::MAX].map(|domain| Key::new(local, domain))
        });

        let mut packed: Vec<Vec<u8>> = keys.map(|key| key.bytes().to_vec()).collect();
        let all = packed.len();
        packed.sort_unstable();
        packed.dedup();

        assert_eq!(packed.len(), all);
    }

    #[test]
    fn addresses_of_every_kind_and_length_are_kept_apart() {
        let addresses = Addresses::default();
        let long = "x".repeat(PACKED_FROM_MAX);
        let all = [
            "anna@example.org",
            "anna@example.net",
            "anna",
            "anna@",
            "@example.org",
            "",
            "a@b@example.org",
            "Anna+x@example.org",
            "grüße@example.org",
            &format!("{long}@example.org"),
            &format!("{long}y@example.org"),
            &long,
        ];

        for (value, address) in (1..).zip(all) {
            addresses.change(address, [0; 3], |_| [value, 0, 0]);
        }

        let kept: Vec<_> = all.iter().map(|it| addresses.get(it)).collect();
        let expected: Vec<_> = (1..=12).map(|value| Some([value, 0, 0])).collect();
        assert_eq!(kept, expected);
        assert_eq!(addresses.get("anna@example.com"), None);
    }
}
