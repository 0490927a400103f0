//! Nesting: no mailbox may lie inside another one of its node, or one person's folders would
//! be another person's mail.
//!
//! # Invariants
//!
//! * Paths of one depth cannot lie inside each other; so where a node's mailboxes all have the
//!   same, no path is compared.

use std::collections::HashMap;
use std::ops::Range;

use crate::fleet::{MailboxNumber, NodeNumber};
use crate::inventory::Inventory;

/// The first two mailboxes of one node of which the second lies inside the first.
pub(super) fn nested(inventory: &Inventory) -> Option<(MailboxNumber, MailboxNumber)> {
    let depth = inventory.path_depths();
    let nodes = 0..u16::try_from(inventory.node_names().len()).unwrap_or(u16::MAX);
    nodes.map(|node| inventory.on_node(NodeNumber::new(node))).find_map(|mailboxes| {
        let depths = Depths::of(&depth, &mailboxes)?;
        let shorter = mailboxes.clone().map(MailboxNumber::new);
        let shorter = shorter.filter(|mailbox| depth(*mailbox) < depths.most);
        let outer = shorter.map(|mailbox| (inventory.path(mailbox), mailbox)).collect();
        nested_among(inventory, mailboxes, (depths.least, outer))
    })
}

/// How many parts the paths of a node have.
#[derive(Clone, Copy)]
struct Depths {
    least: usize,
    most: usize,
}

impl Depths {
    /// Those of some mailboxes; nothing if all have the same.
    fn of(
        depth: impl Fn(MailboxNumber) -> usize,
        mailboxes: &Range<u32>,
    ) -> Option<Self> {
        let mut depths = Self { least: usize::MAX, most: 0 };
        for mailbox in mailboxes.clone().map(MailboxNumber::new) {
            let depth = depth(mailbox);
            depths.least = depths.least.min(depth);
            depths.most = depths.most.max(depth);
        }
        (depths.least < depths.most).then_some(depths)
    }
}

/// The same on one node, of whose paths the shorter ones are `outer`, with at least so many parts.
fn nested_among(
    inventory: &Inventory,
    mailboxes: Range<u32>,
    (least, outer): (usize, HashMap<String, MailboxNumber>),
) -> Option<(MailboxNumber, MailboxNumber)> {
    let mut path = String::new();
    let mut pairs = mailboxes.map(MailboxNumber::new).filter_map(|inner| {
        inventory.path_into(inner, &mut path);
        let ends = path.match_indices('/').map(|(end, _)| end);
        // A path with fewer parts than any has no mailbox.
        let mut ends = ends.skip(least.saturating_sub(1));
        let found = ends.find_map(|end| outer.get(path.get(..end)?))?;
        Some((*found, inner))
    });
    pairs.next()
}
