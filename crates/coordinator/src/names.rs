//! Names for numbers: the core counts nodes, tiers and waves, people call them by name.
//!
//! # Invariants
//!
//! * A number that the plan does not know stays as it is.

use tidegate_core::fleet::{NodeNumber, TierNumber};
use tidegate_core::plan::Plan;

/// `text` as the core wrote it, with the names of `plan`: ``node `mail-3` `` for `node 2`.
/// Inside a command, which is quoted already, a name stands without quotes.
pub(crate) fn with_names(text: &str, plan: &Plan) -> String {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let mut named = String::with_capacity(text.len() * 2);
    let (mut rest, mut in_command) = (text, false);
    // Looked for by their digits: most texts have none, and some are told thousands of times a
    // second.
    while let Some(place) = rest.bytes().position(is_digit) {
        let (before, from) = rest.split_at(place);
        let end = from.bytes().position(|byte| !is_digit(byte)).unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        named.push_str(before);
        in_command ^= before.bytes().filter(|byte| *byte == b'`').count() % 2 == 1;
        match name_of(before, number, plan) {
            Some(name) => {
                let quote = if in_command { "" } else { "`" };
                named.extend([quote, name, quote]);
            }
            None => named.push_str(number),
        }
        rest = after;
    }
    named.push_str(rest);
    named
}

/// The name of what has this number, by the word that ends `before` it.
fn name_of<'a>(before: &str, number: &str, plan: &'a Plan) -> Option<&'a str> {
    let inventory = plan.inventory();
    let name = match before.strip_suffix(' ')?.rsplit(' ').next()? {
        "node" => inventory.node_name(NodeNumber::new(number.parse().ok()?)),
        "tier" => inventory.tier_name(TierNumber::new(number.parse().ok()?)),
        "wave" => plan.waves().get(number.parse::<usize>().ok()?)?.name.as_str(),
        _ => return None,
    };
    (!name.is_empty()).then_some(name)
}

/// A plan of one mailbox, for tests.
#[cfg(test)]
pub(crate) fn small_plan() -> Plan {
    use std::sync::Arc;

    use tidegate_core::inventory::{InventoryBuilder, Row};
    use tidegate_core::plan::plan;
    use tidegate_wire::policy_file;

    let mut builder = InventoryBuilder::new();
    let address = "ann@a.it";
    let row = Row { address, node: "n1", tier: "free", path: "ann", labels: &[] };
    builder.push(row).unwrap();
    let policy = "name = \"x\"\n[[ladder]]\nname = \"all\"\nservices = [\"imap\"]\n\
                  [[cohort]]\nname = \"all\"\nselect.rest = true\n\
                  [gate]\nmode = \"every-mailbox\"\n";
    let policy = policy_file::parse("x", policy).unwrap();
    plan(&Arc::new(builder.finish().unwrap()), &Arc::new(policy)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_nodes_tiers_and_waves_become_names() {
        let text = "tier 0 has 3 of 30, first on node 0; wave 0 waits, node 7 is unknown";

        let named = with_names(text, &small_plan());

        let expected = "tier `free` has 3 of 30, first on node `n1`; wave `all-1` waits, node 7 is unknown";
        assert_eq!(named, expected);
    }

    #[test]
    fn inside_a_quoted_command_a_name_stands_without_quotes() {
        let text = "failed on node 0; first (`tidegate reclose wave 0`), then wave 0";

        let named = with_names(text, &small_plan());

        let expected = "failed on node `n1`; first (`tidegate reclose wave all-1`), then wave `all-1`";
        assert_eq!(named, expected);
    }
}
