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
    // Most have no number in them, and some are told thousands of times a second.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    let mut in_command = false;
    for word in text.split(' ') {
        let kind = words.last().map_or("", String::as_str);
        let quote = if in_command { "" } else { "`" };
        let named = name_of(kind, word, quote, plan);
        in_command ^= word.matches('`').count() % 2 == 1;
        words.push(named.unwrap_or_else(|| word.to_owned()));
    }
    words.join(" ")
}

/// The name behind a number, with what followed the number.
fn name_of(kind: &str, word: &str, quote: &str, plan: &Plan) -> Option<String> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = word.split_at_checked(digits)?;
    let inventory = plan.inventory();
    let name = match kind {
        "node" => inventory.node_name(NodeNumber::new(number.parse().ok()?)),
        "tier" => inventory.tier_name(TierNumber::new(number.parse().ok()?)),
        "wave" => plan.waves().get(number.parse::<usize>().ok()?)?.name.as_str(),
        _ => return None,
    };
    (!name.is_empty()).then(|| format!("{quote}{name}{quote}{rest}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use tidegate_core::inventory::{InventoryBuilder, Row};
    use tidegate_core::plan::plan;
    use tidegate_wire::policy_file;

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

    fn small_plan() -> Plan {
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
}
