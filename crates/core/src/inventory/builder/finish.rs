//! Piles of rows become columns, node after node, so that little is there twice.

use super::super::forms::{fill, tells_address};
use super::super::index::{Index, hash, in_order_of_tags, parts, tag};
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
    let sizes = if piles.iter().any(|pile| pile.sized) { count } else { 0 };
    let mut gathered = Gathered {
        addresses: Texts::with_capacity(builder.address_bytes, count),
        rows: Vec::with_capacity(count),
        tiers: Vec::with_capacity(count),
        forms: Vec::with_capacity(count),
        sizes: Vec::with_capacity(sizes),
        labels: vec![Vec::new(); keys.len()],
        clashes: Vec::new(),
        tier_ranks,
        key_ranks,
        form_numbers: Renumbered::new(&forms),
        keys: Vec::new(),
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
    /// Shorter than the rest where the last have none.
    sizes: Vec<u64>,
    /// By the rank of the key, shorter than the rest where the last have none.
    labels: Vec<Vec<u32>>,
    clashes: Vec<Clash>,
    tier_ranks: Vec<u32>,
    key_ranks: Vec<u32>,
    form_numbers: Renumbered<'a>,
    keys: Vec<u128>,
    path: [String; 2],
}

impl Gathered<'_> {
    /// Adds the rows of the next node.
    fn add(&mut self, pile: &Pile) {
        let before = self.rows.len();
        if pile.sized {
            self.sizes.resize(before, SIZE_UNKNOWN);
        }
        let mut keys = std::mem::take(&mut self.keys);
        pile.order(&mut keys);
        let form = pile.mailboxes.first().map_or(0, |first| first.form);
        let mut forms_differ = false;
        for keys in keys.chunks(FETCHED_TOGETHER) {
            pile.fetch(keys);
            for place in keys.iter().map(|key| place(*key)) {
                let Some(mailbox) = at(&pile.mailboxes, place) else { continue };
                self.addresses.push(pile.address(index(place)));
                self.rows.push(mailbox.row);
                let rank = at(&self.tier_ranks, mailbox.tier.into());
                let rank = rank.copied().unwrap_or(0);
                self.tiers.push(u8::try_from(rank).unwrap_or(0));
                forms_differ |= mailbox.form != form;
                self.forms.push(self.form_numbers.number(mailbox.form));
                if pile.sized {
                    self.sizes.push(mailbox.size);
                }
            }
        }
        for (column, rank) in pile.labels.iter().zip(&self.key_ranks) {
            let Some(to) = self.labels.get_mut(index(*rank)) else { continue };
            if !column.is_empty() {
                to.resize(before, Labels::NONE);
                let cell = |place| at(column, place).copied();
                let order = keys.iter().map(|key| place(*key));
                to.extend(order.map(|it| cell(it).unwrap_or(Labels::NONE)));
            }
        }
        self.keys = keys;
        // With such a form one path is one address, and addresses are looked at anyway.
        if forms_differ || !tells_address(self.form_numbers.from.text(form)) {
            self.find_paths(pile);
        }
    }

    /// Finds the rows of a node with one path.
    fn find_paths(&mut self, pile: &Pile) {
        let [left, right] = &mut self.path;
        let forms = self.form_numbers.from;
        let path = |place: u32, path: &mut String| {
            let form = at(&pile.mailboxes, place).map_or(0, |it| it.form);
            fill(forms.text(form), pile.address(index(place)), path);
        };
        let places = 0..u32::try_from(pile.mailboxes.len()).unwrap_or(u32::MAX);
        let tags = places.map(|place| {
            path(place, left);
            tag(hash(left.as_bytes()))
        });
        let tags: Vec<u32> = tags.collect();
        let tags = in_order_of_tags(tags.len(), || tags.iter().copied());
        let mut same = |a: u32, b: u32| {
            path(a, left);
            path(b, right);
            left == right
        };
        let row = |place: u32| at(&pile.mailboxes, place).map_or(0, |it| it.row);
        let found = all_but_first(repeats(&tags, &mut same), row);
        self.clashes.extend(found.into_iter().map(|(row, first_row)| {
            let error = RowError::DuplicatePath { first_row };
            Clash { row, error }
        }));
    }

    /// The index of the addresses; finds those that are there twice.
    fn find(&mut self) -> Index {
        let addresses = &self.addresses;
        let tag = |place| tag(hash(addresses.get(place).as_bytes()));
        // Twice the hash is less than to keep it.
        let tags = in_order_of_tags(addresses.len(), || (0..addresses.len()).map(tag));
        let mut same = |a, b| addresses.get(index(a)) == addresses.get(index(b));
        let row = |number: u32| at(&self.rows, number).copied().unwrap_or(0);
        let found = all_but_first(repeats(&tags, &mut same), row);
        self.clashes.extend(found.into_iter().map(|(row, first_row)| {
            let error = RowError::DuplicateAddress { first_row };
            Clash { row, error }
        }));
        self.rows = Vec::new();
        Index::of(&tags)
    }
}

/// As many mailboxes as memory answers for at once.
const FETCHED_TOGETHER: usize = 64;
/// What few addresses are longer than.
const USUAL_BYTES: usize = 32;

impl Pile {
    /// Asks memory for some mailboxes and their addresses, without waiting for one before the
    /// next is asked for.
    fn fetch(&self, keys: &[u128]) {
        let arena = self.arena.as_bytes();
        let mut ends = [0; FETCHED_TOGETHER];
        for (end, key) in ends.iter_mut().zip(keys) {
            *end = at(&self.mailboxes, place(*key)).map_or(0, |mailbox| mailbox.end);
        }
        let byte = |place: usize| arena.get(place).copied().unwrap_or(0);
        let seen = ends.iter().map(|end| index(*end)).fold(0, |seen, end| {
            seen ^ byte(end.saturating_sub(1)) ^ byte(end.saturating_sub(USUAL_BYTES))
        });
        std::hint::black_box(seen);
    }

    /// Fills `keys` with the places of its mailboxes in the order of their addresses.
    fn order(&self, keys: &mut Vec<u128>) {
        // Behind what all have in common, most addresses differ within a few bytes: so few are
        // looked up again.
        let common = self.common();
        let arena = self.arena.as_bytes();
        let mut start = 0;
        keys.clear();
        keys.extend((0_u32..).zip(&self.mailboxes).map(|(place, mailbox)| {
            let end = index(mailbox.end);
            let head = head(arena, start + common, end);
            start = end;
            head | u128::from(place)
        }));
        keys.sort_unstable();
        let address = |key: u128| self.address(index(place(key)));
        for run in keys.chunk_by_mut(|left, right| left >> 32 == right >> 32) {
            if run.len() > 1 {
                run.sort_unstable_by(|left, right| {
                    address(*left).cmp(address(*right)).then(left.cmp(right))
                });
            }
        }
    }

    /// With how many bytes all addresses begin.
    fn common(&self) -> usize {
        let mut common = self.address(0).as_bytes();
        for place in 1..self.mailboxes.len() {
            let address = self.address(place).as_bytes();
            if !address.starts_with(common) {
                let same = common.iter().zip(address).take_while(|(a, b)| a == b).count();
                common = common.get(..same).unwrap_or_default();
            }
        }
        common.len()
    }
}

/// The place in a key.
fn place(key: u128) -> u32 {
    u32::try_from(key & u128::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// The first twelve bytes of those from `start` to `end`, in the upper part of a number that has
/// their order. No address has a byte that is zero.
fn head(bytes: &[u8], start: usize, end: usize) -> u128 {
    let mut head = [0; 16];
    match bytes.get(start..).and_then(<[u8]>::first_chunk) {
        Some(whole) => head = *whole,
        None => {
            let rest = bytes.get(start..).unwrap_or_default();
            head.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        }
    }
    let length = u32::try_from(end.saturating_sub(start).min(12)).unwrap_or(0);
    let kept = u128::MAX.checked_shl(128 - 8 * length).unwrap_or(0);
    u128::from_be_bytes(head) & kept
}

/// Pairs of numbers that are the same, the least of each with every other; `tags` are sorted.
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

/// Of each that is there more than once all rows but the first, with the first.
fn all_but_first(
    mut pairs: Vec<(u32, u32)>,
    row: impl Fn(u32) -> u32,
) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    pairs.sort_unstable();
    for same in pairs.chunk_by(|left, right| left.0 == right.0) {
        let one = same.first().map(|pair| row(pair.0));
        let rows = || one.into_iter().chain(same.iter().map(|pair| row(pair.1)));
        let first = rows().min().unwrap_or(0);
        found.extend(rows().filter(|row| *row != first).map(|row| (row, first)));
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
