//! Rows in any order become an inventory in its canonical order.
//!
//! # Invariants
//!
//! * A refused row leaves the builder as it was.
//! * Of two rows with one address, or with one path on one node, the second is refused.

use super::index::{GrowingIndex, hash};
use super::{Inventory, Labels, LongField, Row, RowError, Texts, at, index};

/// Local part 64, `@`, domain 255: the longest address mail can carry.
const ADDRESS_BYTES_MAX: usize = 320;
/// A quarter of what Linux accepts, so that folders and file names still fit below it.
const PATH_BYTES_MAX: usize = 1_024;
/// A host name's length.
const NODE_BYTES_MAX: usize = 253;
/// Tiers head columns on a screen.
const TIER_BYTES_MAX: usize = 64;
/// Label keys are column names.
const KEY_BYTES_MAX: usize = 64;
/// Labels are for selecting, not for documents.
const VALUE_BYTES_MAX: usize = 256;
/// Each key costs four bytes a mailbox.
const KEYS_MAX: usize = 64;
/// A number is kept free to mean "none".
const MAILBOXES_MAX: usize = 0xffff_fffe;

/// Collects rows.
#[derive(Default)]
pub struct InventoryBuilder {
    arena: String,
    rows: Vec<Placed>,
    nodes: Dictionary,
    tiers: Dictionary,
    keys: Dictionary,
    values: Dictionary,
    labels: Vec<Vec<u32>>,
    addresses: GrowingIndex,
    paths: GrowingIndex,
    lower: String,
}

/// Where a row's texts are: address, then path.
#[derive(Clone, Copy)]
struct Placed {
    start: u32,
    address: u16,
    path: u16,
    node: u16,
    tier: u16,
}

impl InventoryBuilder {
    /// A builder without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows it has taken.
    pub fn len(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// Whether it has taken none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes one row. The address is kept in lower case, the path without trailing
    /// slashes; a label without a value is no label.
    ///
    /// # Errors
    ///
    /// [`RowError`] when the row cannot be part of this inventory. The builder is as before.
    pub fn push(&mut self, row: Row<'_>) -> Result<(), RowError> {
        let path = row.path.trim_end_matches('/');
        check_texts(&Row { path, ..row })?;
        let mut lower = std::mem::take(&mut self.lower);
        lower_case(row.address, &mut lower);
        let taken = self.push_checked(&Row { address: &lower, path, ..row });
        self.lower = lower;
        taken
    }

    fn push_checked(&mut self, row: &Row<'_>) -> Result<(), RowError> {
        let address_hash = hash(&[row.address.as_bytes()]);
        let path_hash = hash(&[row.node.as_bytes(), row.path.as_bytes()]);
        self.check_new(row, address_hash, path_hash)?;
        let placed = self.place(row)?;

        let number = self.len();
        self.addresses.insert(address_hash, number);
        self.paths.insert(path_hash, number);
        self.arena.push_str(row.address);
        self.arena.push_str(row.path);
        self.rows.push(placed);
        for (key, value) in row.labels.iter().filter(|(_, value)| !value.is_empty()) {
            self.push_label(number, key, value);
        }
        Ok(())
    }

    fn check_new(
        &self,
        row: &Row<'_>,
        address_hash: u64,
        path_hash: u64,
    ) -> Result<(), RowError> {
        let same_address = |number| self.address(number) == row.address;
        if let Some(first_row) = self.addresses.find(address_hash, same_address) {
            return Err(RowError::DuplicateAddress { first_row });
        }
        let same_path =
            |number| self.path(number) == row.path && self.node(number) == row.node;
        if let Some(first_row) = self.paths.find(path_hash, same_path) {
            return Err(RowError::DuplicatePath { first_row });
        }
        let fresh = |(key, value): &&(&str, &str)| {
            !value.is_empty() && self.keys.find(key).is_none()
        };
        if self.keys.len() + row.labels.iter().filter(fresh).count() > KEYS_MAX {
            return Err(RowError::TooManyLabels { max: KEYS_MAX });
        }
        Ok(())
    }

    fn place(&mut self, row: &Row<'_>) -> Result<Placed, RowError> {
        let full = || RowError::InventoryFull;
        let texts = self.arena.len() + row.address.len() + row.path.len();
        u32::try_from(texts).map_err(|_| full())?;
        if self.rows.len() >= MAILBOXES_MAX {
            return Err(full());
        }
        let (tier, node) = (self.tiers.find(row.tier), self.nodes.find(row.node));
        let (tiers_max, nodes_max) = (usize::from(u8::MAX) + 1, usize::from(u16::MAX));
        if tier.is_none() && self.tiers.len() >= tiers_max {
            return Err(RowError::TooManyTiers { max: tiers_max });
        }
        if node.is_none() && self.nodes.len() >= nodes_max {
            return Err(RowError::TooManyNodes { max: nodes_max });
        }
        let tier = tier.unwrap_or_else(|| self.tiers.add(row.tier));
        let node = node.unwrap_or_else(|| self.nodes.add(row.node));
        Ok(Placed {
            start: u32::try_from(self.arena.len()).map_err(|_| full())?,
            address: u16::try_from(row.address.len()).map_err(|_| full())?,
            path: u16::try_from(row.path.len()).map_err(|_| full())?,
            tier: u16::try_from(tier).map_err(|_| full())?,
            node: u16::try_from(node).map_err(|_| full())?,
        })
    }

    fn push_label(&mut self, number: u32, key: &str, value: &str) {
        let key = index(self.keys.intern(key));
        let value = self.values.intern(value);
        if self.labels.len() <= key {
            self.labels.resize_with(key + 1, Vec::new);
        }
        if let Some(column) = self.labels.get_mut(key) {
            column.resize(index(number) + 1, Labels::NONE);
            if let Some(cell) = column.last_mut() {
                *cell = value;
            }
        }
    }

    fn address(&self, number: u32) -> &str {
        let Some(row) = at(&self.rows, number) else { return "" };
        let start = index(row.start);
        self.arena.get(start..start + usize::from(row.address)).unwrap_or_default()
    }

    fn path(&self, number: u32) -> &str {
        let Some(row) = at(&self.rows, number) else { return "" };
        let start = index(row.start) + usize::from(row.address);
        self.arena.get(start..start + usize::from(row.path)).unwrap_or_default()
    }

    fn node(&self, number: u32) -> &str {
        at(&self.rows, number).map_or("", |row| self.nodes.text(u32::from(row.node)))
    }

    /// The inventory: by node name, then address.
    pub fn finish(self) -> Inventory {
        let (node_names, node_ranks) = self.nodes.sorted();
        let (tier_names, tier_ranks) = self.tiers.sorted();
        let (keys, key_ranks) = self.keys.sorted();
        let order = self.canonical_order(&node_ranks);
        let rank = |ranks: &[u32], number: u16| {
            at(ranks, u32::from(number)).copied().unwrap_or(0)
        };

        let mut texts = Texts::with_capacity(self.arena.len(), order.len() * 2);
        let mut tiers = Vec::with_capacity(order.len());
        let mut node_starts = vec![0_u32; node_names.len() + 1];
        let mut renumbered = vec![0_u32; order.len()];
        for (new, old) in (0_u32..).zip(&order) {
            let Some(row) = at(&self.rows, *old) else { continue };
            texts.push(self.address(*old));
            texts.push(self.path(*old));
            tiers.push(u8::try_from(rank(&tier_ranks, row.tier)).unwrap_or(0));
            let node = index(rank(&node_ranks, row.node));
            if let Some(end) = node_starts.get_mut(node + 1) {
                *end = new + 1;
            }
            if let Some(number) = renumbered.get_mut(index(*old)) {
                *number = new;
            }
        }

        let mut columns = vec![Vec::new(); keys.len()];
        for (column, rank) in self.labels.iter().zip(&key_ranks) {
            let cell = |old: &u32| at(column, *old).copied().unwrap_or(Labels::NONE);
            if let Some(sorted) = columns.get_mut(index(*rank)) {
                *sorted = order.iter().map(cell).collect();
            }
        }
        let labels = Labels { keys, columns, values: self.values.texts };
        let find = self.addresses.finish(&renumbered);
        Inventory::new(super::Parts {
            texts,
            node_names,
            node_starts,
            tier_names,
            tiers,
            labels,
            find,
        })
    }

    /// The rows' numbers by node name, then address.
    fn canonical_order(&self, node_ranks: &[u32]) -> Vec<u32> {
        let mut nodes = vec![Vec::new(); node_ranks.len()];
        for (number, row) in (0_u32..).zip(&self.rows) {
            let rank = at(node_ranks, u32::from(row.node)).copied().unwrap_or(0);
            if let Some(node) = nodes.get_mut(index(rank)) {
                node.push(number);
            }
        }
        let mut order = Vec::with_capacity(self.rows.len());
        for node in nodes {
            // Most addresses differ within their first bytes: so few are looked up again.
            let head = |number| (head(self.address(number)), number);
            let mut keys: Vec<_> = node.into_iter().map(head).collect();
            keys.sort_unstable_by(|left, right| {
                let rest = || self.address(left.1).cmp(self.address(right.1));
                left.0.cmp(&right.0).then_with(rest)
            });
            order.extend(keys.into_iter().map(|(_, number)| number));
        }
        order
    }
}

impl std::fmt::Debug for InventoryBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InventoryBuilder")
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// Distinct texts, numbered in the order of their arrival.
#[derive(Default)]
struct Dictionary {
    texts: Texts,
    index: GrowingIndex,
    last: u32,
}

impl Dictionary {
    fn len(&self) -> usize {
        self.texts.len()
    }

    fn text(&self, number: u32) -> &str {
        self.texts.get(index(number))
    }

    fn find(&self, text: &str) -> Option<u32> {
        // Files come sorted by node more often than not.
        if self.len() > 0 && self.text(self.last) == text {
            return Some(self.last);
        }
        self.index.find(hash(&[text.as_bytes()]), |number| self.text(number) == text)
    }

    fn intern(&mut self, text: &str) -> u32 {
        self.last = self.find(text).unwrap_or_else(|| self.add(text));
        self.last
    }

    /// Adds a text that is not in it.
    fn add(&mut self, text: &str) -> u32 {
        let number = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.texts.push(text);
        self.index.insert(hash(&[text.as_bytes()]), number);
        number
    }

    /// The texts in order, and for each number its place in that order.
    fn sorted(&self) -> (Vec<String>, Vec<u32>) {
        let mut order: Vec<u32> =
            (0..u32::try_from(self.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by(|left, right| self.text(*left).cmp(self.text(*right)));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in (0_u32..).zip(&order) {
            if let Some(slot) = ranks.get_mut(index(*number)) {
                *slot = rank;
            }
        }
        (order.into_iter().map(|number| self.text(number).to_owned()).collect(), ranks)
    }
}

/// What can be said of a row without knowing the others.
fn check_texts(row: &Row<'_>) -> Result<(), RowError> {
    check_field(LongField::Address, row.address, ADDRESS_BYTES_MAX)?;
    check_field(LongField::Node, row.node, NODE_BYTES_MAX)?;
    check_field(LongField::Tier, row.tier, TIER_BYTES_MAX)?;
    check_field(LongField::Path, row.path, PATH_BYTES_MAX)?;
    match row.address.rsplit_once('@') {
        None | Some(("", _) | (_, "")) => return Err(RowError::NoAt),
        Some(_) if has_space(row.address) => {
            return Err(RowError::SpaceInAddress);
        }
        Some(_) => {}
    }
    check_path(row.path)?;
    for (place, (key, value)) in row.labels.iter().enumerate() {
        check_field(LongField::LabelKey, key, KEY_BYTES_MAX)?;
        check_label(row, place, key, value)?;
    }
    Ok(())
}

fn check_label(
    row: &Row<'_>,
    place: usize,
    key: &str,
    value: &str,
) -> Result<(), RowError> {
    if row.labels.iter().take(place).any(|(earlier, _)| *earlier == key) {
        return Err(RowError::LabelTwice { key: key.to_owned() });
    }
    if value.is_empty() {
        return Ok(());
    }
    check_field(LongField::LabelValue, value, VALUE_BYTES_MAX)?;
    if key == super::SIZE_BYTES && value.parse::<u64>().is_err() {
        return Err(RowError::SizeNotANumber { value: value.to_owned() });
    }
    Ok(())
}

fn check_field(field: LongField, text: &str, max: usize) -> Result<(), RowError> {
    if text.is_empty() {
        return Err(match field {
            LongField::Address => RowError::EmptyAddress,
            LongField::Node => RowError::EmptyNode,
            LongField::Tier => RowError::EmptyTier,
            LongField::Path => RowError::EmptyPath,
            LongField::LabelKey | LongField::LabelValue => RowError::EmptyLabel,
        });
    }
    if text.len() > max {
        return Err(RowError::TooLong { field, bytes: text.len(), max });
    }
    // Without leaving early, many bytes are looked at together.
    let control = |found: bool, byte: u8| found | byte.is_ascii_control();
    if text.bytes().fold(false, control) {
        return Err(RowError::ControlCharacter { field });
    }
    Ok(())
}

/// Whether there is white space in a text without control characters.
fn has_space(text: &str) -> bool {
    if text.is_ascii() {
        return text.as_bytes().contains(&b' ');
    }
    text.contains(char::is_whitespace)
}

fn check_path(path: &str) -> Result<(), RowError> {
    if path.starts_with('/') {
        return Err(RowError::PathLeavesRoot);
    }
    let mut plain = true;
    for part in path.as_bytes().split(|byte| *byte == b'/') {
        match part {
            b".." => return Err(RowError::PathLeavesRoot),
            b"" | b"." => plain = false,
            _ => {}
        }
    }
    if plain { Ok(()) } else { Err(RowError::PathNotPlain) }
}

/// The first bytes of an address, in its order.
fn head(address: &str) -> u128 {
    let mut head = [0; 16];
    head.iter_mut().zip(address.as_bytes()).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(head)
}

fn lower_case(address: &str, lower: &mut String) {
    lower.clear();
    if address.is_ascii() {
        lower.push_str(address);
        lower.make_ascii_lowercase();
    } else {
        lower.extend(address.chars().flat_map(char::to_lowercase));
    }
}
