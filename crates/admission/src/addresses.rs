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
//! * A reader waits for nobody who puts addresses in order, only while one is written.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use twox_hash::XxHash3_64;

/// What is known of an address.
pub(crate) type Value = [u8; 2];

/// Parts that are locked apart. Few, because what is left over of a part's memory when it grows
/// is best used again where parts are large.
const PARTS: usize = 16;

/// Addresses that share a place, on average: looked through in some ten nanoseconds.
const SHARE_A_PLACE: usize = 6;

/// Heaps in which new ones of a part wait for their places, at least.
const HEAPS_MIN: usize = 64;

/// Bytes of a heap when its part is put in order, on average: all of a heap is looked through.
const HEAP_BYTES: usize = 192;

/// So many bytes of new ones get their places, or an eighth of those that have theirs.
const NEW_BYTES_MIN: usize = 16 << 10;

/// Longer ones are rare, and kept as they are; so packing one takes little room.
const PACKED_FROM_MAX: usize = 64;

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
    parts: [Part; PARTS],
    domains: RwLock<HashMap<Box<str>, u32>>,
    long: RwLock<HashMap<Box<str>, Value>>,
    /// Nobody shall know who shares a place with whom.
    seed: u64,
}

/// Addresses that are locked together.
#[derive(Debug, Default)]
struct Part {
    /// Held by whoever changes them.
    changing: Mutex<()>,
    lying: RwLock<Lying>,
}

/// Addresses as they lie, each as its length, its value and itself, packed.
#[derive(Debug)]
struct Lying {
    /// Where each place begins in `placed`.
    starts: Box<[u32]>,
    placed: Box<[u8]>,
    /// Without a place yet.
    heaps: Box<[Vec<u8>]>,
    new_bytes: usize,
}

impl Default for Lying {
    fn default() -> Self {
        let heaps = empty_heaps(0);
        Self { starts: Box::default(), placed: Box::default(), heaps, new_bytes: 0 }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| Part::default()),
            domains: RwLock::default(),
            long: RwLock::default(),
            seed: RandomState::new().hash_one(PARTS),
        }
    }
}

impl Addresses {
    /// What is known of an address.
    pub(crate) fn get(&self, address: &str) -> Option<Value> {
        if address.len() > PACKED_FROM_MAX {
            return read(&self.long).get(address).copied();
        }
        let key = self.key(&read(&self.domains), address)?;
        read(&self.part(key.hash)?.lying).get(&key)
    }

    /// What is known of each of these. Where their places begin, and then what lies there, is
    /// fetched from memory for all of them at once: waiting for it is most of the work.
    pub(crate) fn get_all<'a>(
        &self,
        addresses: impl ExactSizeIterator<Item = &'a str>,
    ) -> Vec<Option<Value>> {
        let domains = read(&self.domains);
        let parts = self.parts.each_ref().map(|part| read(&part.lying));
        let mut keys = Vec::with_capacity(addresses.len());
        let mut found = Vec::with_capacity(addresses.len());
        for address in addresses {
            found.push(if address.len() > PACKED_FROM_MAX {
                read(&self.long).get(address).copied()
            } else {
                None
            });
            keys.push(self.key(&domains, address));
        }
        let placed = keys.iter().map(|key| {
            let lying: &Lying = parts.get(part_of(key.as_ref()?.hash))?;
            Some((lying, lying.place(key.as_ref()?.hash)))
        });
        let placed: Vec<_> = placed.collect();
        let first = placed.iter().flatten().filter_map(|(lying, place)| {
            // The last one as well: the line behind the first may have to be fetched.
            let last = place.end.saturating_sub(1);
            Some(lying.placed.get(place.start)? ^ lying.placed.get(last)?)
        });
        std::hint::black_box(first.fold(0, |all, byte| all ^ byte));
        for ((key, placed), found) in keys.iter().zip(placed).zip(&mut found) {
            if let (Some(key), Some((lying, place))) = (key, placed) {
                *found = lying.get_in(place, key);
            }
        }
        found
    }

    /// The address, packed; nothing if none of its domain is known.
    fn key(&self, domains: &HashMap<Box<str>, u32>, address: &str) -> Option<Key> {
        let (local, domain) = divide(address);
        let domain = match domain {
            Some(domain) => *domains.get(domain)?,
            None => NO_DOMAIN,
        };
        (address.len() <= PACKED_FROM_MAX).then(|| Key::new(self.seed, local, domain))
    }

    /// Changes what is known of each of these, which was `first` if nothing was. What lies where
    /// they belong is fetched from memory for all of them at once, as many as are given.
    pub(crate) fn change_all<T>(
        &self,
        all: Vec<(impl AsRef<str>, T)>,
        first: Value,
        change: impl Fn(Value, T) -> Value,
    ) {
        let keys = all.iter().map(|(it, _)| self.key_to_keep(it.as_ref()));
        let keys: Vec<_> = keys.collect();
        self.fetch(keys.iter().flatten());
        for ((address, by), key) in all.into_iter().zip(keys) {
            match key {
                Some(key) => {
                    if let Some(part) = self.part(key.hash) {
                        part.change(&key, first, |value| change(value, by), self.seed);
                    }
                }
                None => {
                    let mut long = write(&self.long);
                    let value = long.entry(address.as_ref().into()).or_insert(first);
                    *value = change(*value, by);
                }
            }
        }
    }

    /// Has the processor fetch what lies where these belong.
    fn fetch<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let parts = self.parts.each_ref().map(|part| read(&part.lying));
        let first = keys.filter_map(|key| {
            let lying: &Lying = parts.get(part_of(key.hash))?;
            let place = lying.place(key.hash);
            let heap = lying.heaps.get(heap(key.hash, lying.heaps.len()));
            let placed = lying.placed.get(place.start).copied().unwrap_or(0);
            let last = lying.placed.get(place.end.saturating_sub(1)).copied();
            let new = heap.and_then(|heap| heap.first()).copied().unwrap_or(0);
            Some(placed ^ last.unwrap_or(0) ^ new)
        });
        std::hint::black_box(first.fold(0, |all, byte| all ^ byte));
    }

    /// The address, packed, with a number for its domain; nothing if it is kept as it is.
    fn key_to_keep(&self, address: &str) -> Option<Key> {
        if address.len() > PACKED_FROM_MAX {
            return None;
        }
        let (local, domain) = divide(address);
        let domain = domain.map_or(NO_DOMAIN, |it| self.number(it));
        Some(Key::new(self.seed, local, domain))
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

    fn part(&self, hash: u64) -> Option<&Part> {
        self.parts.get(part_of(hash))
    }
}

/// The part of a hash.
fn part_of(hash: u64) -> usize {
    usize::try_from(hash % PARTS as u64).unwrap_or(0)
}

fn hash(seed: u64, key: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, key)
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
    hash: u64,
}

impl Key {
    fn new(seed: u64, local: &str, domain: u32) -> Self {
        let mut key = Self::packed(local, domain);
        key.hash = hash(seed, key.bytes());
        key
    }

    fn packed(local: &str, domain: u32) -> Self {
        let bytes = [0; PACKED_FROM_MAX + DOMAIN_BYTES_MAX];
        let mut key = Self { bytes, length: 0, hash: 0 };
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
    let last = key.last()?;
    let mut at = 0;
    while let Some(length) = all.get(at) {
        let (begin, end) = (at + HEAD, at + HEAD + usize::from(*length));
        // Many are as long, and begin alike.
        let may_be = usize::from(*length) == key.len() && all.get(end - 1) == Some(last);
        if may_be && all.get(begin..end) == Some(key) {
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
    fn change(
        &self,
        key: &Key,
        first: Value,
        change: impl FnOnce(Value) -> Value,
        seed: u64,
    ) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = {
            let mut lying = write(&self.lying);
            match lying.value(key) {
                Some(value) => *value = change(*value),
                None => lying.add(key, change(first)),
            }
            lying.new_bytes >= new_bytes_max(lying.placed.len())
        };
        if crowded {
            let in_order = read(&self.lying).in_order(seed);
            *write(&self.lying) = in_order;
        }
    }
}

impl Lying {
    fn get(&self, key: &Key) -> Option<Value> {
        self.get_in(self.place(key.hash), key)
    }

    /// What is known of an address whose place this is.
    fn get_in(&self, place: std::ops::Range<usize>, key: &Key) -> Option<Value> {
        let value = |all: &[u8]| {
            let at = find(all, key.bytes())?;
            all.get(at..)?.first_chunk().copied()
        };
        let placed = self.placed.get(place).unwrap_or_default();
        value(placed).or_else(|| {
            // Most of the time there are no new ones.
            let at = heap(key.hash, self.heaps.len());
            let heap = self.heaps.get(at).filter(|_| self.new_bytes > 0);
            value(heap?)
        })
    }

    /// The value of an address that is there.
    fn value(&mut self, key: &Key) -> Option<&mut Value> {
        let place = self.place(key.hash);
        let placed = self.placed.get_mut(place).unwrap_or_default();
        let found = match find(placed, key.bytes()) {
            Some(at) => placed.get_mut(at..),
            None => {
                let at = heap(key.hash, self.heaps.len());
                let heap = self.heaps.get_mut(at)?;
                find(heap, key.bytes()).and_then(|at| heap.get_mut(at..))
            }
        };
        found?.first_chunk_mut()
    }

    fn add(&mut self, key: &Key, value: Value) {
        let at = heap(key.hash, self.heaps.len());
        let (Ok(length), Some(heap)) = (u8::try_from(key.length), self.heaps.get_mut(at))
        else {
            return;
        };
        let bytes = HEAD + key.length;
        if heap.capacity() - heap.len() < bytes {
            // Not twice as much, as vectors grow by themselves.
            heap.reserve_exact(bytes + heap.len() / 8);
        }
        heap.push(length);
        heap.extend(value);
        heap.extend(key.bytes());
        self.new_bytes += bytes;
    }

    /// The same, with a place for every address.
    fn in_order(&self, seed: u64) -> Self {
        let heaps = self.heaps.iter().map(Vec::as_slice);
        let all = || std::iter::once(&*self.placed).chain(heaps.clone()).flat_map(each);
        let places = (all().count() / SHARE_A_PLACE).max(1);
        let place_of = |one: &[u8]| place(hash(seed, key_of(one)), places);
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
        let mut placed = vec![0; self.placed.len() + self.new_bytes].into_boxed_slice();
        let mut next = starts.clone();
        for one in all() {
            let Some(next) = next.get_mut(place_of(one)) else { continue };
            let begin = *next as usize;
            if let Some(room) = placed.get_mut(begin..begin + one.len()) {
                room.copy_from_slice(one);
            }
            *next += u32::try_from(one.len()).unwrap_or(0);
        }
        let heaps = empty_heaps(placed.len());
        Self { starts, placed, heaps, new_bytes: 0 }
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

/// So many bytes may be without their places beside those that have them.
fn new_bytes_max(placed: usize) -> usize {
    NEW_BYTES_MIN.max(placed / 8)
}

/// Heaps for what may come beside so many bytes that have their places.
fn empty_heaps(placed: usize) -> Box<[Vec<u8>]> {
    let heaps = HEAPS_MIN.max(new_bytes_max(placed) / HEAP_BYTES);
    (0..heaps).map(|_| Vec::new()).collect()
}

/// Which of so many heaps is that of a hash.
fn heap(hash: u64, heaps: usize) -> usize {
    let heaps = u64::try_from(heaps).unwrap_or(1).max(1);
    usize::try_from(hash / PARTS as u64 % heaps).unwrap_or(0)
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
            let [a, b, _, _] = n.to_le_bytes();
            [a, b]
        };

        for n in (0..50_000).step_by(100) {
            let some = (n..n + 100).map(|n| (name(n), n)).collect();
            addresses.change_all(some, [0; 2], |_, n| value(n));
        }
        // Whoever comes twice is changed twice.
        let third = (0..50_000).step_by(3).chain([3, 6]);
        let third = third.map(|n| (name(n), ())).collect();
        addresses.change_all(third, [0; 2], |[a, b], ()| [a.wrapping_add(77), b]);

        let kept = |n: u32| {
            let [a, b] = value(n);
            let times = if n == 3 || n == 6 { 2 } else { u8::from(n.is_multiple_of(3)) };
            Some([a.wrapping_add(times.wrapping_mul(77)), b])
        };
        assert!((0..50_000).all(|n| addresses.get(&name(n)) == kept(n)));
        let together: Vec<_> = (49_990..50_010).map(name).collect();
        let found = addresses.get_all(together.iter().map(String::as_str));
        let expected = (49_990..50_010).map(|n| kept(n).filter(|_| n < 50_000));
        assert_eq!(found, expected.collect::<Vec<_>>());
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
            [0, 1, 63, 64, 8_191, 8_192, u32::MAX]
                .map(|domain| Key::packed(local, domain))
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

        let told = all.iter().zip(1..).map(|(address, value)| (*address, value));
        addresses.change_all(told.collect(), [0; 2], |_, value| [value, 0]);

        let kept: Vec<_> = all.iter().map(|it| addresses.get(it)).collect();
        let expected: Vec<_> = (1..=12).map(|value| Some([value, 0])).collect();
        assert_eq!(kept, expected);
        assert_eq!(addresses.get_all(all.into_iter()), expected);
        assert_eq!(addresses.get("anna@example.com"), None);
    }
}
