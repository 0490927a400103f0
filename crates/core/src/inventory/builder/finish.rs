//! Piles of rows become columns, node after node, so that little is there twice.

use super::super::forms::fill;
use super::super::index::{Index, hash, parts, tag, tagged};
use super::super::texts::Texts;
use super::super::{Columns, Inventory, Labels, RowError, SIZE_UNKNOWN, at, index};
use super::{Clash, Clashes, InventoryBuilder, Pile, Renumbered};

/// The inventory of all rows.
///
/// # Errors
///
/// [`Clashes`] when rows cannot be together.
pub(super) fn finish(builder: InventoryBuilder) -> Result<Inventory, Clashes> {
    let InventoryBuilder { piles, nodes, tiers, keys, values, forms, .. } = builder;
    let (node_names, node_ranks) = nodes.sorted();
    let (tier_names, tier_ranks) = tiers.sorted();
    let (keys, key_ranks) = keys.sorted();
    let count = index(builder.rows);
    let mut gathered = Gathered {
        addresses: Texts::with_capacity(builder.address_bytes, count),
        rows: Vec::with_capacity(count),
        tiers: Vec::with_capacity(count),
        forms: Vec::with_capacity(count),
        sizes: Vec::new(),
        labels: vec![Vec::new(); keys.len()],
        clashes: Vec::new(),
        tier_ranks,
        key_ranks,
        form_numbers: Renumbered::new(&forms),
        path: [String::new(), String::new()],
    };
    let mut by_rank: Vec<_> = piles.into_iter().zip(&node_ranks).collect();
    by_rank.sort_unstable_by_key(|(_, rank)| **rank);
    let mut node_starts = vec![0];
    for (pile, _) in by_rank {
        gathered.add(&pile);
        node_starts.push(u32::try_from(gathered.rows.len()).unwrap_or(u32::MAX));
    }

    let find = gathered.find();
    if let Some(clashes) = in_order(std::mem::take(&mut gathered.clashes)) {
        return Err(clashes);
    }
    let Gathered { addresses, tiers, forms, mut sizes, labels, form_numbers, .. } =
        gathered;
    if !sizes.is_empty() {
        sizes.resize(count, SIZE_UNKNOWN);
    }
    let mut value_numbers = Renumbered::new(&values);
    let mut columns = labels;
    for column in &mut columns {
        column.resize(count, Labels::NONE);
    }
    for cell in columns.iter_mut().flatten().filter(|cell| **cell != Labels::NONE) {
        *cell = value_numbers.number(*cell);
    }
    let form_texts = form_numbers.texts;
    let labels = Labels { keys, columns, values: value_numbers.texts };
    Ok(Inventory::new(
        Columns {
            addresses,
            node_names,
            node_starts,
            tier_names,
            tiers,
            forms,
            form_texts,
            sizes,
            labels,
        },
        find,
    ))
}

/// Columns in canonical order, as far as they have come.
struct Gathered<'a> {
    addresses: Texts,
    rows: Vec<u32>,
    tiers: Vec<u8>,
    forms: Vec<u32>,
    sizes: Vec<u64>,
    /// By the rank of the key, shorter than the rest where the last have none.
    labels: Vec<Vec<u32>>,
    clashes: Vec<Clash>,
    tier_ranks: Vec<u32>,
    key_ranks: Vec<u32>,
    form_numbers: Renumbered<'a>,
    path: [String; 2],
}

impl Gathered<'_> {
    /// Adds the rows of the next node.
    fn add(&mut self, pile: &Pile) {
        self.find_paths(pile);
        let before = self.rows.len();
        let order = pile.order();
        for place in &order {
            let place = index(*place);
            self.addresses.push(pile.addresses.get(place));
            self.rows.push(pile.rows.get(place).copied().unwrap_or(0));
            let tier = pile.tiers.get(place).copied().unwrap_or(0);
            let rank = at(&self.tier_ranks, tier.into()).copied().unwrap_or(0);
            self.tiers.push(u8::try_from(rank).unwrap_or(0));
            let form = pile.forms.get(place).copied().unwrap_or(0);
            self.forms.push(self.form_numbers.number(form));
        }
        if !pile.sizes.is_empty() {
            self.sizes.resize(before, SIZE_UNKNOWN);
            let size = |place: &u32| at(&pile.sizes, *place).copied();
            self.sizes.extend(order.iter().map(|it| size(it).unwrap_or(SIZE_UNKNOWN)));
        }
        for (column, rank) in pile.labels.iter().zip(&self.key_ranks) {
            let Some(to) = self.labels.get_mut(index(*rank)) else { continue };
            if !column.is_empty() {
                to.resize(before, Labels::NONE);
                let cell = |place: &u32| at(column, *place).copied();
                to.extend(order.iter().map(|it| cell(it).unwrap_or(Labels::NONE)));
            }
        }
    }

    /// Finds the rows of a node with one path.
    fn find_paths(&mut self, pile: &Pile) {
        let tags = (0_u32..).zip(&pile.path_tags);
        let mut tags: Vec<u64> = tags.map(|(place, tag)| tagged(*tag, place)).collect();
        tags.sort_unstable();
        let [left, right] = &mut self.path;
        let form = |place: u32| {
            let form = at(&pile.forms, place).copied().unwrap_or(0);
            (self.form_numbers.from.text(form), pile.addresses.get(index(place)))
        };
        let mut same = |a: u32, b: u32| {
            let ((form_a, address_a), (form_b, address_b)) = (form(a), form(b));
            fill(form_a, address_a, left);
            fill(form_b, address_b, right);
            left == right
        };
        let row = |place: u32| at(&pile.rows, place).copied().unwrap_or(0);
        for (first, again) in repeats(&tags, &mut same) {
            let error = RowError::DuplicatePath { first_row: row(first) };
            self.clashes.push(Clash { row: row(again), error });
        }
    }

    /// The index of the addresses; finds those that are there twice.
    fn find(&mut self) -> Index {
        let addresses = &self.addresses;
        let mut tags: Vec<u64> = Vec::with_capacity(addresses.len());
        for place in 0..addresses.len() {
            let number = u32::try_from(place).unwrap_or(u32::MAX);
            tags.push(tagged(tag(hash(addresses.get(place).as_bytes())), number));
        }
        tags.sort_unstable();
        let mut same = |a, b| addresses.get(index(a)) == addresses.get(index(b));
        let row = |number: u32| at(&self.rows, number).copied().unwrap_or(0);
        for (one, other) in repeats(&tags, &mut same) {
            let (one, other) = (row(one), row(other));
            let error = RowError::DuplicateAddress { first_row: one.min(other) };
            self.clashes.push(Clash { row: one.max(other), error });
        }
        Index::of(&tags)
    }
}

impl Pile {
    /// Its places by address.
    fn order(&self) -> Vec<u32> {
        // Most addresses differ within their first bytes: so few are looked up again.
        let keys = (0_u32..).zip(0..self.rows.len());
        let mut keys: Vec<_> =
            keys.map(|(place, at)| (head(self.addresses.get(at)), place)).collect();
        keys.sort_unstable_by(|left, right| {
            let address = |place: u32| self.addresses.get(index(place));
            let rest =
                || address(left.1).cmp(address(right.1)).then(left.1.cmp(&right.1));
            left.0.cmp(&right.0).then_with(rest)
        });
        keys.into_iter().map(|(_, place)| place).collect()
    }
}

/// Pairs of numbers that are the same, the first of each with every other; `tags` are sorted.
fn repeats(tags: &[u64], same: &mut impl FnMut(u32, u32) -> bool) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for run in tags.chunk_by(|left, right| parts(*left).0 == parts(*right).0) {
        for (place, word) in run.iter().enumerate().skip(1) {
            let number = parts(*word).1;
            let mut earlier = run.iter().take(place).map(|word| parts(*word).1);
            if let Some(first) = earlier.find(|first| same(*first, number)) {
                found.push((first, number));
            }
        }
    }
    found
}

/// Clashes in the order of the rows, one for each row.
fn in_order(mut clashes: Vec<Clash>) -> Option<Clashes> {
    let kind = |clash: &Clash| matches!(clash.error, RowError::DuplicatePath { .. });
    clashes.sort_by_key(|clash| (clash.row, kind(clash)));
    clashes.dedup_by_key(|clash| clash.row);
    let mut clashes = clashes.into_iter();
    let first = clashes.next()?;
    Some(Clashes { first, rest: clashes.collect() })
}

/// The first bytes of an address, in its order.
fn head(address: &str) -> u128 {
    let mut head = [0; 16];
    head.iter_mut().zip(address.as_bytes()).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(head)
}
