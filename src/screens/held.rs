//! Held: how many mailboxes of a rollout are not open, and where they are.
//!
//! # Invariants
//!
//! * The parts add up to the whole; a mailbox counts once.

use std::fmt;

use tidegate_wire::v1::{Node, NodeState, Rollout};

use crate::console::{safe, thousands};

/// Mailboxes of the plan's waves that are not open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Set aside for a person, wherever they are.
    set_aside: u32,
    /// On nodes that do not take part, with the nodes' state and names.
    out: Vec<(&'static str, u32, Vec<String>)>,
    /// All the others: re-closed by name, or not opened yet.
    others: u32,
}

/// States of nodes whose mailboxes do not open, as words.
const OUT: [(NodeState, &str); 4] = [
    (NodeState::Isolated, "isolated"),
    (NodeState::HeldBack, "re-closed"),
    (NodeState::Silent, "silent"),
    (NodeState::NoWorker, "workerless"),
];

impl Held {
    /// Counts those of `rollout`.
    pub(crate) fn of(rollout: &Rollout) -> Self {
        let open: u32 = rollout.waves.iter().map(|wave| wave.open).sum();
        let set_aside: u32 = rollout.waves.iter().map(|wave| wave.quarantined).sum();
        let mut others = rollout.planned.saturating_sub(open).saturating_sub(set_aside);
        let mut out = Vec::new();
        for (state, word) in OUT {
            let held = |node: &Node| {
                node.planned.saturating_sub(node.open).saturating_sub(node.quarantined)
            };
            let nodes = rollout.nodes.iter().filter(|node| node.state() == state);
            let nodes: Vec<&Node> = nodes.filter(|node| held(node) > 0).collect();
            let count = nodes.iter().map(|node| held(node)).sum::<u32>().min(others);
            if count > 0 {
                others -= count;
                out.push((
                    word,
                    count,
                    nodes.iter().map(|node| safe(&node.name)).collect(),
                ));
            }
        }
        Self { set_aside, out, others }
    }

    /// All of them.
    pub(crate) fn all(&self) -> u32 {
        self.set_aside
            + self.out.iter().map(|(_, count, _)| count).sum::<u32>()
            + self.others
    }
}

impl fmt::Display for Held {
    /// `12 mailboxes are still held: 3 set aside, 9 on isolated stor-02`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.set_aside > 0 {
            parts.push(format!("{} set aside", thousands(self.set_aside)));
        }
        for (word, count, nodes) in &self.out {
            parts.push(format!("{} on {word} {}", thousands(*count), nodes.join(", ")));
        }
        if self.others > 0 {
            let others = thousands(self.others);
            parts.push(format!(
                "{others} not opened yet or re-closed by name (tidegate mailbox show)"
            ));
        }
        let (all, verb) =
            (self.all(), if self.all() == 1 { "mailbox is" } else { "mailboxes are" });
        write!(f, "{} {verb} still held: {}", thousands(all), parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::v1::{Node, NodeState, Rollout, Wave};

    use super::Held;

    #[test]
    fn every_held_mailbox_counts_once_and_says_where_it_is() {
        let rollout = rollout(NodeState::Isolated);

        let held = Held::of(&rollout);

        assert_eq!(held.all(), 12);
        let expected = "12 mailboxes are still held: 3 set aside, 7 on isolated stor-02, \
                        2 not opened yet or re-closed by name (tidegate mailbox show)";
        assert_eq!(held.to_string(), expected);
    }

    #[test]
    fn a_node_that_takes_part_is_not_named() {
        let held = Held::of(&rollout(NodeState::Working)).to_string();

        assert!(!held.contains("stor-02"), "{held}");
    }

    fn rollout(state: NodeState) -> Rollout {
        let wave = Wave { planned: 100, open: 88, quarantined: 3, ..Wave::default() };
        let node = Node {
            name: "stor-02".into(),
            state: state.into(),
            planned: 50,
            open: 42,
            quarantined: 1,
            ..Node::default()
        };
        Rollout {
            planned: 100,
            waves: vec![wave],
            nodes: vec![node],
            ..Rollout::default()
        }
    }
}
