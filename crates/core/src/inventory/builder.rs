//! Rows in any order become an inventory in its canonical order.
//!
//! # Invariants
//!
//! * A refused row leaves the builder as it was.
//! * Of rows with one address, or with one path on one node, none is lost quietly: nothing is
//!   finished, and all but the first are named.

mod check;
mod finish;
mod quick;

use super::forms::{KnownForm, form_of};
use super::index::{GrowingIndex, hash};
use super::texts::Texts;
use super::{Inventory, Labels, Row, RowError, SIZE_BYTES, SIZE_UNKNOWN, at, index};

/// Each key costs four bytes a mailbox.
const KEYS_MAX: usize = 64;
/// A number is kept free to mean "none".
const MAILBOXES_MAX: u32 = 0xffff_fffe;

/// Collects rows.
#[derive(Default)]
pub struct InventoryBuilder {
    piles: Vec<Pile>,
    nodes: Dictionary,
    tiers: Dictionary,
    keys: Dictionary,
    values: Dictionary,
    forms: Dictionary,
    rows: u32,
    address_bytes: usize,
    lower: String,
    form: String,
    /// A few forms that were met more than once.
    forms_known: Vec<KnownForm>,
    /// The keys of the labels of the last row that was looked at carefully.
    labels_known: Vec<String>,
}

/// What is known of a row that can be in an inventory.
struct Known {
    node: u32,
    tier: u32,
    form: u32,
    size: Option<u64>,
}

/// The rows of one node, in the order of their arrival.
#[derive(Default)]
struct Pile {
    /// All addresses, one after the other.
    arena: String,
    mailboxes: Vec<Mailbox>,
    /// Whether the size of any is known.
    sized: bool,
    /// By key; shorter than the rest where the last have none.
    labels: Vec<Vec<u32>>,
}

/// What is looked up together when mailboxes are brought in order.
struct Mailbox {
    /// Where its address ends.
    end: u32,
    /// Which row of all it was.
    row: u32,
    form: u32,
    tier: u8,
    /// [`SIZE_UNKNOWN`] where no label says it.
    size: u64,
}

/// A row that cannot be in an inventory together with an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// Which row, counted from 0 over the rows taken.
    pub row: u32,
    /// Why: [`RowError::DuplicateAddress`] or [`RowError::DuplicatePath`].
    pub error: RowError,
}

/// Rows of which one address, or one path on one node, is that of an earlier row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {}: {}", .first.row, .first.error)]
pub struct Clashes {
    /// The first of them.
    first: Clash,
    /// All others, in order.
    rest: Vec<Clash>,
}

impl Clashes {
    /// All of them, in the order of the rows.
    pub fn iter(&self) -> impl Iterator<Item = &Clash> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl InventoryBuilder {
    /// A builder without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows it has taken.
    pub fn len(&self) -> u32 {
        self.rows
    }

    /// Whether it has taken none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes one row. The address is kept in lower case, the path without trailing slashes, a
    /// size without leading zeros; a label without a value is no label.
    ///
    /// # Errors
    ///
    /// [`RowError`] when the row can be part of no inventory, or does not fit. The builder is as
    /// before. Rows that cannot be together are found at the end.
    pub fn push(&mut self, row: Row<'_>) -> Result<(), RowError> {
        let row = Row { path: row.path.trim_end_matches('/'), ..row };
        if let Some(known) = self.quick(&row) {
            return self.take(&row, &known);
        }
        let size = check::row(&row)?;
        let mut lower = std::mem::take(&mut self.lower);
        lower_case(row.address, &mut lower);
        let taken = self.push_checked(&Row { address: &lower, ..row }, size);
        self.lower = lower;
        taken
    }

    fn push_checked(&mut self, row: &Row<'_>, size: Option<u64>) -> Result<(), RowError> {
        self.check_room(row)?;
        let (node, tier) = self.names(row)?;
        form_of(row.path, row.address, &mut self.form);
        let forms = self.forms.len();
        let form = self.forms.intern(&self.form);
        self.remember_labels(row);
        if forms == self.forms.len() {
            self.remember_form(form);
        }
        self.take(row, &Known { node, tier, form, size })
    }

    /// Takes a row in lower case.
    fn take(&mut self, row: &Row<'_>, known: &Known) -> Result<(), RowError> {
        self.check_room(row)?;
        let Known { node, tier, form, size } = *known;
        (self.nodes.last, self.tiers.last) = (node, tier);
        let pile = index(node);
        if self.piles.len() <= pile {
            self.piles.resize_with(pile + 1, Pile::default);
        }
        let Some(pile) = self.piles.get_mut(pile) else { return Ok(()) };
        let labels = row
            .labels
            .iter()
            .filter(|(key, value)| !value.is_empty() && *key != SIZE_BYTES);
        for (key, value) in labels {
            let (key, value) = (self.keys.intern(key), self.values.intern(value));
            pile.push_label(index(key), value);
        }
        pile.arena.push_str(row.address);
        pile.sized |= size.is_some();
        pile.mailboxes.push(Mailbox {
            end: u32::try_from(pile.arena.len()).unwrap_or(u32::MAX),
            row: self.rows,
            form,
            tier: u8::try_from(tier).unwrap_or(u8::MAX),
            size: size.unwrap_or(SIZE_UNKNOWN),
        });
        self.address_bytes += row.address.len();
        self.rows += 1;
        Ok(())
    }

    /// Whether there is room for one more.
    fn check_room(&self, row: &Row<'_>) -> Result<(), RowError> {
        let fresh = |(key, value): &&(&str, &str)| {
            !value.is_empty() && *key != SIZE_BYTES && self.keys.find(key).is_none()
        };
        if self.keys.len() + row.labels.iter().filter(fresh).count() > KEYS_MAX {
            return Err(RowError::TooManyLabels { max: KEYS_MAX });
        }
        if self.rows >= MAILBOXES_MAX
            || self.address_bytes + row.address.len() > Texts::BYTES_MAX
            || self.forms.texts.bytes() + row.path.len() > Texts::BYTES_MAX
        {
            return Err(RowError::InventoryFull);
        }
        Ok(())
    }

    /// The numbers of node and tier.
    fn names(&mut self, row: &Row<'_>) -> Result<(u32, u32), RowError> {
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
        Ok((node, tier))
    }

    /// The inventory: by node name, then address.
    ///
    /// # Errors
    ///
    /// [`Clashes`] when rows cannot be together.
    pub fn finish(self) -> Result<Inventory, Clashes> {
        finish::finish(self)
    }
}

impl Pile {
    /// The address of a mailbox.
    fn address(&self, place: usize) -> &str {
        let end = |place: usize| self.mailboxes.get(place).map_or(0, |it| index(it.end));
        let start = place.checked_sub(1).map_or(0, end);
        self.arena.get(start..end(place)).unwrap_or_default()
    }

    fn push_label(&mut self, key: usize, value: u32) {
        if self.labels.len() <= key {
            self.labels.resize_with(key + 1, Vec::new);
        }
        if let Some(column) = self.labels.get_mut(key) {
            column.resize(self.mailboxes.len(), Labels::NONE);
            column.push(value);
        }
    }
}

impl std::fmt::Debug for InventoryBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InventoryBuilder")
            .field("rows", &self.rows)
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
        // Files come sorted by node more often than not, and most paths have one form.
        if self.len() > 0 && self.text(self.last) == text {
            return Some(self.last);
        }
        self.index.find(hash(text.as_bytes()), |number| self.text(number) == text)
    }

    fn intern(&mut self, text: &str) -> u32 {
        self.last = self.find(text).unwrap_or_else(|| self.add(text));
        self.last
    }

    /// Adds a text that is not in it.
    fn add(&mut self, text: &str) -> u32 {
        let number = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.texts.push(text);
        self.index.insert(hash(text.as_bytes()), number);
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

/// Numbers given out anew, in the order in which they are first met.
struct Renumbered<'a> {
    from: &'a Dictionary,
    new: Vec<u32>,
    texts: Texts,
}

impl<'a> Renumbered<'a> {
    const UNMET: u32 = u32::MAX;

    fn new(from: &'a Dictionary) -> Self {
        let texts = Texts::with_capacity(from.texts.bytes(), from.len());
        Self { from, new: vec![Self::UNMET; from.len()], texts }
    }

    fn number(&mut self, old: u32) -> u32 {
        let known = at(&self.new, old).copied().unwrap_or(Self::UNMET);
        if known != Self::UNMET {
            return known;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(self.from.text(old));
        if let Some(slot) = self.new.get_mut(index(old)) {
            *slot = number;
        }
        number
    }
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
