//! An inventory as bytes: what its digest is of, and what a file of it holds.
//!
//! ```text
//! "tidegate inventory 2\n"
//! node names: texts      first mailbox of each node, and the end: u32 each
//! tier names: texts      tier of each mailbox: u8 each
//! addresses: texts       in lower case, by node, then by their bytes
//! forms: texts           form of each mailbox's path: u32 each
//! sizes known: u8        if 1: bytes of each mailbox: u64 each, all bits set for unknown
//! label keys: texts      label values: texts      of each key the value of each mailbox: u32
//!                        each, all bits set for none
//! --- here ends what the digest is of ---
//! index: number of slots: u32      slots: u32 each
//! BLAKE3 of the index: 32 bytes
//!
//! texts: their number: u32, where each ends: u32 each, then all of them in UTF-8
//! ```
//!
//! Numbers have the lowest byte first. Forms and values are numbered in the order in which the
//! mailboxes first have them.
//!
//! # Invariants
//!
//! * The same rows in any order give the same bytes.
//! * What is read is what was written, or an error.

use std::io::{self, Read, Write};

use super::index::{FREE, Index};
use super::texts::Texts;
use super::{Columns, Digest, Inventory, Labels};
use crate::stored::{Damage, PORTION_BYTES, Source, numbered, u32s, u64s};

const MAGIC: &[u8] = b"tidegate inventory 2\n";

impl Inventory {
    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// Those of `to`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut failed = Ok(());
        self.columns.canonical(&mut |bytes| {
            if failed.is_ok() {
                failed = to.write_all(bytes);
            }
        });
        failed?;
        let mut index = Vec::with_capacity(PORTION_BYTES);
        let mut hasher = blake3::Hasher::new();
        let mut failed = Ok(());
        numbered(self.find.slots(), &mut index, &mut |bytes| {
            hasher.update(bytes);
            if failed.is_ok() {
                failed = to.write_all(bytes);
            }
        });
        failed?;
        to.write_all(hasher.finalize().as_bytes())
    }

    /// Reads one that has `bytes` bytes. Its digest says which one it is.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it was never written.
    pub fn read(from: &mut impl Read, bytes: u64) -> Result<Self, Damage> {
        let mut from = Source::new(from, bytes);
        let columns = Columns::read(&mut from)?;
        let digest = from.digest();
        let slots = from.count()?;
        let slots: Vec<u32> = from.u32s(slots)?;
        let index_digest = *from.digest().bytes();
        let mut told = [0; 32];
        from.exactly(&mut told)?;
        let count = u32::try_from(columns.tiers.len()).unwrap_or(u32::MAX);
        if told != index_digest || slots.iter().any(|it| *it >= count && *it != FREE) {
            return Err(Damage::Part { part: "slots" });
        }
        from.end()?;
        Ok(Self { columns, find: Index::with_slots(count, slots), digest })
    }
}

impl Columns {
    /// The digest of the canonical bytes.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        self.canonical(&mut |bytes| {
            hasher.update(bytes);
        });
        Digest::new(*hasher.finalize().as_bytes())
    }

    fn read(from: &mut Source<'_, impl Read>) -> Result<Self, Damage> {
        from.magic(MAGIC)?;
        let node_names = names(from, "node names")?;
        let node_starts = from.u32s(node_names.len() + 1)?;
        let count = node_starts.last().map_or(0, |end| super::index(*end));
        if !node_starts.is_sorted() {
            return Err(Damage::Part { part: "nodes" });
        }
        let tier_names = names(from, "tier names")?;
        let tiers = from.bytes(count)?;
        let addresses = read_texts(from, "addresses")?;
        let form_texts = read_texts(from, "forms")?;
        let forms = from.u32s(count)?;
        let sizes = match from.bytes(1)?.first() {
            Some(1) => from.u64s(count)?,
            Some(_) | None => Vec::new(),
        };
        let keys = names(from, "label keys")?;
        let values = read_texts(from, "label values")?;
        let columns = keys.iter().map(|_| from.u32s(count)).collect::<Result<_, _>>()?;
        if addresses.len() != count {
            return Err(Damage::Part { part: "addresses" });
        }
        let labels = Labels { keys, columns, values };
        Ok(Self {
            addresses,
            node_names,
            node_starts,
            tier_names,
            tiers,
            forms,
            form_texts,
            sizes,
            labels,
        })
    }

    /// Hands the canonical bytes to `to`, one portion after the other.
    fn canonical(&self, to: &mut impl FnMut(&[u8])) {
        let mut portion = Vec::with_capacity(PORTION_BYTES);
        let portion = &mut portion;
        to(MAGIC);
        texts(&all(&self.node_names), portion, to);
        u32s(&self.node_starts, portion, to);
        texts(&all(&self.tier_names), portion, to);
        to(&self.tiers);
        texts(&self.addresses, portion, to);
        texts(&self.form_texts, portion, to);
        u32s(&self.forms, portion, to);
        to(&[u8::from(!self.sizes.is_empty())]);
        u64s(&self.sizes, portion, to);
        texts(&all(&self.labels.keys), portion, to);
        texts(&self.labels.values, portion, to);
        self.labels.columns.iter().for_each(|column| u32s(column, portion, to));
    }
}

fn all(names: &[String]) -> Texts {
    let mut texts = Texts::default();
    for name in names {
        texts.push(name);
    }
    texts
}

fn texts(texts: &Texts, portion: &mut Vec<u8>, to: &mut impl FnMut(&[u8])) {
    numbered(texts.ends(), portion, to);
    to(texts.arena().as_bytes());
}

fn names(
    from: &mut Source<'_, impl Read>,
    part: &'static str,
) -> Result<Vec<String>, Damage> {
    let texts = read_texts(from, part)?;
    Ok((0..texts.len()).map(|place| texts.get(place).to_owned()).collect())
}

fn read_texts(
    from: &mut Source<'_, impl Read>,
    part: &'static str,
) -> Result<Texts, Damage> {
    let damaged = || Damage::Part { part };
    let count = from.count()?;
    let ends = from.u32s(count)?;
    let bytes = ends.last().map_or(0, |end| super::index(*end));
    let arena = String::from_utf8(from.bytes(bytes)?).map_err(|_| damaged())?;
    Texts::of(arena, ends).ok_or_else(damaged)
}
