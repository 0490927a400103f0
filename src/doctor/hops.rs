//! Hops: is there a way from Postfix to every node, or would it send mail back?
//!
//! # Invariants
//!
//! * Names are looked up where Postfix looks: in the DNS alone, and nowhere but in its root,
//!   unless it is told otherwise. This machine's search list finds more than Postfix does.
//! * A name that is not found is wrong also where Postfix is told to keep what it refuses: the
//!   mail of that node does not arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use tidegate_exchanger::Hops;

use super::chart::{Chart, Trouble};

/// Names looked up at a time: a server that does not answer costs seconds for each.
const LOOKUPS_AT_A_TIME: usize = 16;

/// How many of the nodes that have no way are named.
const NAMED_MAX: usize = 5;

/// What is known of the nodes.
pub(super) enum Nodes {
    /// All that the plan has.
    Planned(Vec<String>),
    /// The coordinator answers, and has no plan yet.
    NoPlan,
    /// The coordinator was not reached.
    Unknown,
}

/// Where Postfix looks for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// In the DNS alone: its own default.
    Dns,
    /// There, and also with the domains behind it that `/etc/resolv.conf` lists.
    Searched,
    /// Also in `/etc/hosts`, as other programs do.
    Native,
}

impl Lookup {
    /// By `lmtp_host_lookup` and `lmtp_dns_resolver_options`.
    pub(super) fn of(places: &str, resolver: &str) -> Self {
        let has = |list: &str, name| list.split([',', ' ', '\t']).any(|it| it == name);
        if has(places, "native") {
            Self::Native
        } else if has(resolver, "res_defnames") || has(resolver, "res_dnsrch") {
            Self::Searched
        } else {
            Self::Dns
        }
    }

    /// The name as the resolver must be asked for it.
    fn asked(self, name: &str) -> String {
        let dot = if self == Self::Dns && !name.ends_with('.') { "." } else { "" };
        format!("{name}{dot}")
    }

    fn finds(self, name: &str) -> bool {
        let mut command = Command::new("getent");
        if self != Self::Native {
            command.args(["-s", "dns"]);
        }
        let name = self.asked(name);
        command.args(["ahosts", &name]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|it| it.success())
    }
}

/// Looks up the next hop of every node.
pub(super) fn look(chart: &mut Chart, hops: &Hops, nodes: &Nodes, lookup: Lookup) {
    let check = "mx.next_hop";
    let all: BTreeSet<&str> = match nodes {
        Nodes::Planned(nodes) => nodes.iter().map(String::as_str).collect(),
        Nodes::NoPlan | Nodes::Unknown => hops.nodes.keys().map(String::as_str).collect(),
    };
    if let Some(node) = all.iter().find(|node| hops.hop(node).is_none()) {
        let trouble = Trouble::new(
            format!("node {node} has no next hop"),
            "all mail for it is told to come later, also when its mailboxes are open",
            format!("add `{node} = \"inet:[ADDRESS]:24\"` to [next_hop.nodes]"),
        );
        return chart.fail(check, trouble);
    }
    let hop_of = |node: &str| hops.hop(node).unwrap_or_default();
    let ways: BTreeMap<&str, String> =
        all.iter().map(|node| (*node, hop_of(node))).collect();
    let lost = lost(&ways, lookup);
    if !lost.is_empty() {
        return chart.fail(check, not_found(&lost, lookup));
    }
    if let Some((node, path)) = ways.iter().find_map(|(node, way)| {
        let path = way.strip_prefix("unix:").filter(|it| it.starts_with('/'))?;
        (!Path::new(path).exists()).then_some((node, path))
    }) {
        let trouble = Trouble::new(
            format!("node {node}: there is no `{path}`"),
            "its mail waits, also when its mailboxes are open",
            "start Dovecot's LMTP, or correct [next_hop]",
        );
        return chart.fail(check, trouble);
    }
    if hops.template.is_some() && !matches!(nodes, Nodes::Planned(_)) {
        let trouble = Trouble::new(
            "the template was not tried: the names of the nodes are not known yet",
            "a node whose name is not in the DNS gets no mail",
            "run it again with the coordinator running and the plan applied",
        );
        return chart.warn(check, trouble);
    }
    chart.ok(check, format!("{} nodes have a next hop, and it is found", ways.len()));
}

/// The nodes whose next hop is a name that is not found, with the names.
fn lost<'a>(
    ways: &'a BTreeMap<&'a str, String>,
    lookup: Lookup,
) -> Vec<(&'a str, &'a str)> {
    let named: Vec<(&str, &str)> =
        ways.iter().filter_map(|(node, way)| Some((*node, name_in(way)?))).collect();
    let mut lost = Vec::new();
    for some in named.chunks(LOOKUPS_AT_A_TIME) {
        thread::scope(|scope| {
            let asked: Vec<_> = some
                .iter()
                .map(|(_, name)| scope.spawn(move || lookup.finds(name)))
                .collect();
            for (one, asked) in some.iter().zip(asked) {
                if !asked.join().unwrap_or(false) {
                    lost.push(*one);
                }
            }
        });
    }
    lost
}

fn not_found(lost: &[(&str, &str)], lookup: Lookup) -> Trouble {
    let mut named: Vec<String> = lost
        .iter()
        .take(NAMED_MAX)
        .map(|(node, name)| format!("`{name}` (node {node})"))
        .collect();
    if lost.len() > NAMED_MAX {
        named.push(format!("and {} more", lost.len() - NAMED_MAX));
    }
    let place = match lookup {
        Lookup::Dns => {
            "the DNS as it stands, without a search list, where alone Postfix looks"
        }
        Lookup::Searched => "the DNS, where alone Postfix looks",
        Lookup::Native => "the DNS and /etc/hosts",
    };
    Trouble::new(
        format!("{} is not in {place}", named.join(", ")),
        "Postfix sends the mail of these nodes BACK TO ITS SENDERS, unless the transport has \
         soft_bounce=yes, and then it waits for ever",
        "write the address instead: `stor-01 = \"inet:[10.0.0.1]:24\"` in [next_hop.nodes]; or \
         put the name into the DNS",
    )
}

/// The name in `inet:name:24`, where there is one.
fn name_in(way: &str) -> Option<&str> {
    let place = way.strip_prefix("inet:")?;
    let host = if let Some(inside) = place.strip_prefix('[') {
        inside.split(']').next()?
    } else {
        place.rsplit_once(':').map_or(place, |(host, _)| host)
    };
    let address = host.strip_prefix("ipv6:").or(host.strip_prefix("IPv6:"));
    address.unwrap_or(host).parse::<IpAddr>().is_err().then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_looked_up() {
        let names = [
            "inet:stor-01:24",
            "inet:[stor-01]:24",
            "inet:10.0.0.1:24",
            "inet:[10.0.0.1]:24",
            "inet:[ipv6:fd00::1]:24",
            "unix:/run/dovecot/lmtp",
        ];

        assert_eq!(
            names.map(name_in),
            [Some("stor-01"), Some("stor-01"), None, None, None, None]
        );
    }

    #[test]
    fn postfix_looks_into_hosts_and_search_lists_only_when_told_so() {
        let settings = [
            ("dns", ""),
            ("", "edns0"),
            ("dns, native", ""),
            ("native", "res_dnsrch"),
            ("dns", "res_defnames"),
            ("", "edns0, res_dnsrch"),
        ];

        let lookups = settings.map(|(places, resolver)| Lookup::of(places, resolver));

        let [dns, searched, native] = [Lookup::Dns, Lookup::Searched, Lookup::Native];
        assert_eq!(lookups, [dns, dns, native, native, searched, searched]);
        assert_eq!(
            [dns, searched, native].map(|lookup| lookup.asked("stor-01")),
            ["stor-01.", "stor-01", "stor-01"]
        );
        assert_eq!(dns.asked("stor-01.a.it."), "stor-01.a.it.");
    }
}
