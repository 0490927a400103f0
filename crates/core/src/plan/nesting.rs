//! Nesting: no mailbox may lie inside another one of its node, or one person's folders would
//! be another person's mail.

use crate::fleet::MailboxNumber;
use crate::inventory::Inventory;

/// The first two mailboxes of one node of which the second lies inside the first.
pub(super) fn nested(inventory: &Inventory) -> Option<(MailboxNumber, MailboxNumber)> {
    let mut by_path: Vec<MailboxNumber> = inventory.mailboxes().collect();
    // With the slash that ends every directory, whatever lies inside a path follows it.
    by_path.sort_unstable_by(|a, b| {
        let key = |mailbox: MailboxNumber| {
            (inventory.node(mailbox), inventory.path(mailbox).bytes().chain([b'/']))
        };
        let ((node_a, path_a), (node_b, path_b)) = (key(*a), key(*b));
        node_a.cmp(&node_b).then_with(|| path_a.cmp(path_b))
    });
    by_path.array_windows().find_map(|[outer, inner]| {
        let inside = inventory
            .path(*inner)
            .strip_prefix(inventory.path(*outer))
            .is_some_and(|rest| rest.starts_with('/'));
        (inside && inventory.node(*outer) == inventory.node(*inner))
            .then_some((*outer, *inner))
    })
}
