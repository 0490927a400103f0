//! Inventory: the user base, immutable, named by its digest.
//!
//! # Invariants
//!
//! * Numbers are dense and canonical: by node name, then by the bytes of the address.
//! * The same rows in any order give the same inventory and the same digest.
//! * An address is in it once, in lower case; so is a path on a node.
//! * A path stays below its node's mail root: relative, without `.` and `..`.

mod builder;
mod canonical;
mod digest;
mod forms;
mod index;
mod texts;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use thiserror::Error;

use crate::fleet::{MailboxNumber, NodeNumber, TierNumber};
use index::{Index, hash};
use texts::Texts;

pub use builder::{Clash, Clashes, InventoryBuilder};
pub(crate) use digest::Canon;
pub use digest::Digest;
pub(crate) use index::in_order_of_tags;

/// The label that says how many bytes a mailbox has; larger ones are prepared first.
pub const SIZE_BYTES: &str = "size_bytes";

/// Where no label says how many bytes a mailbox has.
const SIZE_UNKNOWN: u64 = u64::MAX;

/// One mailbox as its provider describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The user's address.
    pub address: &'a str,
    /// The storage node that holds the mailbox.
    pub node: &'a str,
    /// The user's tier.
    pub tier: &'a str,
    /// Where the mailbox is below the node's mail root.
    pub path: &'a str,
    /// Further attributes, each key once.
    pub labels: &'a [(&'a str, &'a str)],
}

/// A row cannot be part of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RowError {
    /// No address.
    #[error("the address is empty")]
    EmptyAddress,
    /// No node.
    #[error("the node is empty")]
    EmptyNode,
    /// No tier.
    #[error("the tier is empty")]
    EmptyTier,
    /// No path.
    #[error("the path is empty")]
    EmptyPath,
    /// A label without a key.
    #[error("a label has no name")]
    EmptyLabel,
    /// The address is no `local@domain`.
    #[error("the address is not of the form local@domain")]
    NoAt,
    /// The address has white space in it.
    #[error("the address has white space in it")]
    SpaceInAddress,
    /// The path is absolute or climbs.
    #[error("the path leads outside the mail root (it is absolute or has a `..`)")]
    PathLeavesRoot,
    /// The path has an empty part or a `.`.
    #[error("the path has an empty part or a `.` in it")]
    PathNotPlain,
    /// An earlier row has this address.
    #[error("the address is that of row {first_row} already")]
    DuplicateAddress {
        /// The earlier row, counted from 0 over the rows taken.
        first_row: u32,
    },
    /// An earlier row has this path on the same node.
    #[error("the path on this node is that of row {first_row} already")]
    DuplicatePath {
        /// The earlier row, counted from 0 over the rows taken.
        first_row: u32,
    },
    /// A field is longer than any real one.
    #[error("the {field} has {bytes} bytes, at most {max} are possible")]
    TooLong {
        /// Which field.
        field: LongField,
        /// Its length.
        bytes: usize,
        /// The longest possible.
        max: usize,
    },
    /// A field has a control character in it.
    #[error("the {field} has a control character in it")]
    ControlCharacter {
        /// Which field.
        field: LongField,
    },
    /// A label is given twice.
    #[error("the label `{key}` is given twice")]
    LabelTwice {
        /// Its key.
        key: String,
    },
    /// `size_bytes` is not a whole number.
    #[error("`size_bytes` is `{value}`, which is not a whole number")]
    SizeNotANumber {
        /// What it is.
        value: String,
    },
    /// More tiers than a rollout tells apart.
    #[error("this would be more than {max} tiers")]
    TooManyTiers {
        /// The most there may be.
        max: usize,
    },
    /// More nodes than a rollout tells apart.
    #[error("this would be more than {max} nodes")]
    TooManyNodes {
        /// The most there may be.
        max: usize,
    },
    /// More label keys than are useful.
    #[error("this would be more than {max} different labels")]
    TooManyLabels {
        /// The most there may be.
        max: usize,
    },
    /// Addresses and paths no longer fit.
    #[error("the inventory is full: addresses and paths have 4 GiB together")]
    InventoryFull,
}

/// A field with a longest length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongField {
    /// The address.
    Address,
    /// The node's name.
    Node,
    /// The tier's name.
    Tier,
    /// The path.
    Path,
    /// A label's key.
    LabelKey,
    /// A label's value.
    LabelValue,
}

impl fmt::Display for LongField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Node => "node",
            Self::Tier => "tier",
            Self::Path => "path",
            Self::LabelKey => "label's name",
            Self::LabelValue => "label's value",
        })
    }
}

/// The user base.
#[derive(Clone)]
pub struct Inventory {
    columns: Columns,
    find: Index,
    digest: Digest,
}

/// One value or more of each mailbox, in the order of the mailboxes.
#[derive(Clone)]
struct Columns {
    addresses: Texts,
    node_names: Vec<String>,
    /// The first mailbox of each node, and one more for the end.
    node_starts: Vec<u32>,
    tier_names: Vec<String>,
    tiers: Vec<u8>,
    /// The number of the form of each path.
    forms: Vec<u32>,
    form_texts: Texts,
    /// Empty where no size is known.
    sizes: Vec<u64>,
    labels: Labels,
}

impl Inventory {
    fn new(columns: Columns, find: Index) -> Self {
        debug_assert_eq!(columns.node_starts.len(), columns.node_names.len() + 1);
        debug_assert!(columns.node_starts.is_sorted());
        let digest = columns.digest();
        Self { columns, find, digest }
    }

    /// How many mailboxes it has.
    pub fn len(&self) -> u32 {
        u32::try_from(self.columns.tiers.len()).unwrap_or(u32::MAX)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.columns.tiers.is_empty()
    }

    /// Its name: the same on every machine for the same rows in any order.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its mailboxes, in order.
    pub fn mailboxes(&self) -> impl ExactSizeIterator<Item = MailboxNumber> + use<> {
        (0..self.len()).map(MailboxNumber::new)
    }

    /// The address, in lower case; empty for a number that is not in it.
    pub fn address(&self, mailbox: MailboxNumber) -> &str {
        self.columns.addresses.get(mailbox.index())
    }

    /// The part of the address behind the last `@`.
    pub fn domain(&self, mailbox: MailboxNumber) -> &str {
        self.address(mailbox).rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Where the mailbox is below the node's mail root.
    pub fn path(&self, mailbox: MailboxNumber) -> String {
        let mut path = String::new();
        self.path_into(mailbox, &mut path);
        path
    }

    /// Writes where the mailbox is below the node's mail root into `path`.
    pub fn path_into(&self, mailbox: MailboxNumber, path: &mut String) {
        let form = self.columns.forms.get(mailbox.index()).copied().unwrap_or(0);
        let form = self.columns.form_texts.get(index(form));
        forms::fill(form, self.address(mailbox), path);
    }

    /// Says how many parts the path of a mailbox has.
    pub(crate) fn path_depths(&self) -> impl Fn(MailboxNumber) -> usize {
        let Columns { addresses, forms, form_texts, .. } = &self.columns;
        let slashes = addresses.arena().contains('/');
        let of_form = |form| forms::depth(form_texts.get(form), "");
        let depths: Vec<usize> = (0..form_texts.len()).map(of_form).collect();
        move |mailbox| {
            let form = forms.get(mailbox.index()).copied().unwrap_or(0);
            // An address with slashes adds parts of its own.
            if slashes {
                forms::depth(form_texts.get(index(form)), self.address(mailbox))
            } else {
                at(&depths, form).copied().unwrap_or(0)
            }
        }
    }

    /// The node that holds the mailbox.
    pub fn node(&self, mailbox: MailboxNumber) -> NodeNumber {
        let starts = &self.columns.node_starts;
        let after = starts.partition_point(|start| *start <= mailbox.get());
        NodeNumber::new(u16::try_from(after.saturating_sub(1)).unwrap_or(u16::MAX))
    }

    /// The user's tier.
    pub fn tier(&self, mailbox: MailboxNumber) -> TierNumber {
        TierNumber::new(self.columns.tiers.get(mailbox.index()).copied().unwrap_or(0))
    }

    /// The value of a label, if the mailbox has it.
    pub fn label(&self, mailbox: MailboxNumber, key: &str) -> Option<Cow<'_, str>> {
        if key == SIZE_BYTES {
            return self.size_bytes(mailbox).map(|size| size.to_string().into());
        }
        self.columns.labels.get(mailbox, key).map(Cow::Borrowed)
    }

    /// All labels of a mailbox, by key.
    pub fn labels(
        &self,
        mailbox: MailboxNumber,
    ) -> impl Iterator<Item = (&str, Cow<'_, str>)> + '_ {
        self.label_keys()
            .filter_map(move |key| self.label(mailbox, key).map(|value| (key, value)))
    }

    /// How many bytes the mailbox has, where its label says so.
    pub fn size_bytes(&self, mailbox: MailboxNumber) -> Option<u64> {
        let size = self.columns.sizes.get(mailbox.index()).copied();
        size.filter(|size| *size != SIZE_UNKNOWN)
    }

    /// Whether it is known of any mailbox how many bytes it has.
    pub fn has_sizes(&self) -> bool {
        !self.columns.sizes.is_empty()
    }

    /// The mailbox with this address, in any case.
    pub fn find(&self, address: &str) -> Option<MailboxNumber> {
        let lower = address.to_lowercase();
        let same = |number| self.address(MailboxNumber::new(number)) == lower;
        self.find.find(hash(lower.as_bytes()), same).map(MailboxNumber::new)
    }

    /// The nodes' names; a [`NodeNumber`] counts them.
    pub fn node_names(&self) -> &[String] {
        &self.columns.node_names
    }

    /// The name of a node; empty for a number that is not in it.
    pub fn node_name(&self, node: NodeNumber) -> &str {
        self.columns.node_names.get(node.index()).map_or("", String::as_str)
    }

    /// The node with this name.
    pub fn find_node(&self, name: &str) -> Option<NodeNumber> {
        let place =
            self.columns.node_names.binary_search_by(|node| node.as_str().cmp(name));
        place.ok().and_then(|place| u16::try_from(place).ok()).map(NodeNumber::new)
    }

    /// The tiers' names; a [`TierNumber`] counts them.
    pub fn tier_names(&self) -> &[String] {
        &self.columns.tier_names
    }

    /// The name of a tier; empty for a number that is not in it.
    pub fn tier_name(&self, tier: TierNumber) -> &str {
        self.columns.tier_names.get(tier.index()).map_or("", String::as_str)
    }

    /// The keys of all labels, in order.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        let keys = &self.columns.labels.keys;
        let before = keys.partition_point(|key| key.as_str() < SIZE_BYTES);
        let (before, after) = keys.split_at(before);
        let sizes = self.has_sizes().then_some(SIZE_BYTES);
        let text = String::as_str;
        before.iter().map(text).chain(sizes).chain(after.iter().map(text))
    }

    /// The numbers of a node's mailboxes.
    pub fn on_node(&self, node: NodeNumber) -> Range<u32> {
        let start = |place: usize| self.columns.node_starts.get(place).copied();
        match (start(node.index()), start(node.index() + 1)) {
            (Some(start), Some(end)) => start..end,
            (None | Some(_), None | Some(_)) => 0..0,
        }
    }

    /// One mailbox with all that is known of it, to send or to write down.
    pub fn row(&self, mailbox: MailboxNumber) -> FullRow<'_> {
        FullRow {
            address: self.address(mailbox),
            node: self.node_name(self.node(mailbox)),
            tier: self.tier_name(self.tier(mailbox)),
            path: self.path(mailbox),
            labels: self.labels(mailbox).collect(),
        }
    }

    /// All mailboxes, in order. Pushed into a builder they give this inventory again.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = FullRow<'_>> + '_ {
        self.mailboxes().map(|mailbox| self.row(mailbox))
    }
}

impl fmt::Debug for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inventory")
            .field("mailboxes", &self.len())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A row taken out of an inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullRow<'a> {
    /// The user's address, in lower case.
    pub address: &'a str,
    /// The storage node that holds the mailbox.
    pub node: &'a str,
    /// The user's tier.
    pub tier: &'a str,
    /// Where the mailbox is below the node's mail root.
    pub path: String,
    /// Further attributes, by key.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
}

/// A column of value numbers for each key.
#[derive(Clone)]
struct Labels {
    keys: Vec<String>,
    columns: Vec<Vec<u32>>,
    values: Texts,
}

impl Labels {
    /// The mailbox does not have this label.
    const NONE: u32 = u32::MAX;

    fn get(&self, mailbox: MailboxNumber, key: &str) -> Option<&str> {
        let place = self.keys.binary_search_by(|known| known.as_str().cmp(key)).ok()?;
        self.value(self.columns.get(place)?, mailbox)
    }

    fn value(&self, column: &[u32], mailbox: MailboxNumber) -> Option<&str> {
        let value = column.get(mailbox.index()).filter(|value| **value != Self::NONE)?;
        Some(self.values.get(index(*value)))
    }
}

/// A long number as an index.
fn wide(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number as an index.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The thing with this number.
fn at<T>(things: &[T], number: u32) -> Option<&T> {
    things.get(index(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [Row<'_>; 4] = [
        Row {
            labels: &[("size_bytes", "7"), ("country", "it")],
            ..row("a@b.it", "n2", "a")
        },
        row("A@a.it", "n2", "b"),
        Row { tier: "paid", labels: &[("country", "")], ..row("c@a.it", "n1", "a/c/") },
        Row { labels: &[("country", "it")], ..row("\u{c4}@a.it", "n10", "x") },
    ];

    #[test]
    fn rows_in_any_order_give_the_same_inventory() {
        let inventory = build(ROWS);
        let mut reversed = ROWS;
        reversed.reverse();

        let again = build(reversed);

        assert_eq!(again.digest(), inventory.digest());
        assert!(again.rows().eq(inventory.rows()));
    }

    #[test]
    fn mailboxes_are_numbered_by_node_then_address() {
        let inventory = build(ROWS);

        let addresses: Vec<_> = inventory.rows().map(|row| row.address).collect();

        assert_eq!(addresses, ["c@a.it", "\u{e4}@a.it", "a@a.it", "a@b.it"]);
        assert_eq!(inventory.node_names(), ["n1", "n10", "n2"]);
        assert_eq!(inventory.on_node(NodeNumber::new(2)), 2..4);
        assert_eq!(inventory.on_node(NodeNumber::new(3)), 0..0);
        assert_eq!(inventory.node(MailboxNumber::new(1)), NodeNumber::new(1));
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let inventory = build(ROWS);
        let found = inventory.find("A@B.it").map(|mailbox| inventory.row(mailbox));

        assert_eq!(
            found,
            Some(FullRow {
                address: "a@b.it",
                node: "n2",
                tier: "free",
                path: "a".to_owned(),
                labels: vec![("country", "it".into()), ("size_bytes", "7".into())],
            })
        );
        assert_eq!(inventory.find("nobody@b.it"), None);
        assert_eq!(inventory.path(MailboxNumber::new(0)), "a/c");
        assert_eq!(inventory.domain(MailboxNumber::new(0)), "a.it");
        assert_eq!(inventory.size_bytes(MailboxNumber::new(3)), Some(7));
        assert_eq!(inventory.label(MailboxNumber::new(0), "country"), None);
    }

    #[test]
    fn an_inventory_taken_apart_builds_again() {
        let inventory = build(ROWS);
        let mut builder = InventoryBuilder::new();

        for FullRow { address, node, tier, path, labels } in inventory.rows() {
            let labels: Vec<_> =
                labels.iter().map(|(key, value)| (*key, value.as_ref())).collect();
            let row = Row { address, node, tier, path: &path, labels: &labels };
            builder.push(row).unwrap();
        }
        let again = builder.finish().unwrap();

        assert_eq!(again.digest(), inventory.digest());
    }

    #[test]
    fn any_difference_changes_the_digest() {
        let all = build(ROWS).digest();
        let mut moved = ROWS;
        moved[1].node = "n1";

        assert_ne!(build(moved).digest(), all);
        assert_ne!(build(ROWS.into_iter().skip(1)).digest(), all);
        assert_ne!(build([]).digest(), all);
    }

    #[test]
    fn many_mailboxes_are_all_found() {
        let names: Vec<_> = (0..5_000).map(|i| format!("user{i}@example.org")).collect();
        let inventory = build(names.iter().map(|name| row(name, "n", name)));

        let found = names.iter().filter(|name| {
            let mailbox = inventory.find(name);
            mailbox.is_some_and(|mailbox| inventory.address(mailbox) == name.as_str())
        });

        assert_eq!(found.count(), 5_000);
    }

    #[test]
    fn a_row_that_cannot_be_is_refused_with_its_reason() {
        let good = row("a@b.it", "n", "p");
        let long = "x".repeat(400);

        check(Row { address: "", ..good }, "the address is empty");
        check(
            Row { address: "a", ..good },
            "the address is not of the form local@domain",
        );
        check(
            Row { address: "@b", ..good },
            "the address is not of the form local@domain",
        );
        check(Row { address: "a b@c", ..good }, "the address has white space in it");
        check(
            Row { address: "a\0@c", ..good },
            "the address has a control character in it",
        );
        check(Row { node: "", ..good }, "the node is empty");
        check(
            Row { node: &long, ..good },
            "the node has 400 bytes, at most 253 are possible",
        );
        check(Row { tier: "", ..good }, "the tier is empty");
        check(Row { path: "/", ..good }, "the path is empty");
        check(
            Row { path: "/etc", ..good },
            "the path leads outside the mail root (it is absolute or has a `..`)",
        );
        check(
            Row { path: "a/../../b", ..good },
            "the path leads outside the mail root (it is absolute or has a `..`)",
        );
        check(Row { path: "a//b", ..good }, "the path has an empty part or a `.` in it");
        check(
            Row { labels: &[("size_bytes", "1 GB")], ..good },
            "`size_bytes` is `1 GB`, which is not a whole number",
        );
        check(
            Row { labels: &[("a", "1"), ("a", "2")], ..good },
            "the label `a` is given twice",
        );
    }

    #[test]
    fn rows_that_cannot_be_together_are_named_with_the_first_of_them() {
        let again = [
            row("A@a.IT", "n9", "p"),
            row("new@a.it", "n2", "b/"),
            row("a@A.it", "n2", "b"),
        ];

        assert_eq!(
            clashes(ROWS.into_iter().chain(again)),
            [
                "4: the address is that of row 1 already",
                "5: the path on this node is that of row 1 already",
                "6: the address is that of row 1 already",
            ]
        );
    }

    #[test]
    fn all_rows_of_an_address_but_the_first_are_named_wherever_they_are() {
        let rows = [
            row("b@a.it", "n2", "1"),
            row("a@a.it", "n2", "2"),
            row("a@a.it", "n3", "3"),
            row("a@a.it", "n1", "4"),
            // The second path has another form.
            row("anna@a.it", "n1", "anna"),
            row("c@a.it", "n1", "anna"),
        ];

        assert_eq!(
            clashes(rows),
            [
                "2: the address is that of row 1 already",
                "3: the address is that of row 1 already",
                "5: the path on this node is that of row 4 already",
            ]
        );
    }

    /// What stands in the way of an inventory of these rows.
    fn clashes<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> Vec<String> {
        let mut builder = InventoryBuilder::new();
        for row in rows {
            builder.push(row).unwrap();
        }
        let clashes = builder.finish().unwrap_err();
        clashes.iter().map(|it| format!("{}: {}", it.row, it.error)).collect()
    }

    fn check(bad: Row<'_>, reason: &str) {
        let mut builder = InventoryBuilder::new();
        for row in ROWS {
            builder.push(row).unwrap();
        }

        let refused = builder.push(bad).unwrap_err();

        assert_eq!(refused.to_string(), reason);
        assert_eq!(builder.finish().unwrap().digest(), build(ROWS).digest());
    }

    fn build<'a>(rows: impl IntoIterator<Item = Row<'a>>) -> Inventory {
        let mut builder = InventoryBuilder::new();
        rows.into_iter().for_each(|row| builder.push(row).unwrap());
        builder.finish().unwrap()
    }

    const fn row<'a>(address: &'a str, node: &'a str, path: &'a str) -> Row<'a> {
        Row { address, node, tier: "free", path, labels: &[] }
    }
}
