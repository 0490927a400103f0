//! Who is selected by what.
//!
//! # Invariants
//!
//! * A mailbox belongs to the first cohort that selects it, unless it is excluded before.
//! * A hash slot depends on the seed and the address only.

use std::collections::BTreeSet;
use std::ops::Range;

use super::Exclusion;
use crate::fleet::MailboxNumber;
use crate::inventory::Inventory;
use crate::policy::{Policy, Selector};
use crate::share::Ppm;

/// What becomes of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It comes with this cohort.
    Cohort(u16),
    /// It stays held.
    Excluded(Exclusion),
}

/// A policy's selectors, looked up in an inventory.
pub(super) struct Selection<'a> {
    rules: Vec<(Fate, Rule<'a>)>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(inventory: &Inventory, policy: &'a Policy) -> Self {
        let excludes = (0_u16..).zip(&policy.exclude).map(|(place, exclude)| {
            let fate = Fate::Excluded(Exclusion::Policy(place));
            (fate, Rule::new(inventory, &exclude.select))
        });
        let cohorts = (0_u16..).zip(&policy.cohorts).map(|(place, cohort)| {
            (Fate::Cohort(place), Rule::new(inventory, &cohort.select))
        });
        Self { rules: excludes.chain(cohorts).collect() }
    }

    /// What becomes of a mailbox.
    pub(super) fn fate(
        &self,
        inventory: &Inventory,
        mailbox: MailboxNumber,
        hash: u64,
    ) -> Fate {
        let mut rules = self.rules.iter();
        let found = rules.find(|(_, rule)| rule.selects(inventory, mailbox, hash));
        found.map_or(Fate::Excluded(Exclusion::NoCohort), |(fate, _)| *fate)
    }
}

/// A selector with numbers for names.
struct Rule<'a> {
    select: &'a Selector,
    tiers: Vec<bool>,
    nodes: Vec<bool>,
    domains: BTreeSet<String>,
}

impl<'a> Rule<'a> {
    fn new(inventory: &Inventory, select: &'a Selector) -> Self {
        let among = |names: &[String], chosen: &[String]| {
            names.iter().map(|name| chosen.contains(name)).collect()
        };
        Self {
            select,
            tiers: among(inventory.tier_names(), &select.tiers),
            nodes: among(inventory.node_names(), &select.nodes),
            domains: select.domains.iter().map(|name| name.to_lowercase()).collect(),
        }
    }

    fn selects(&self, inventory: &Inventory, mailbox: MailboxNumber, hash: u64) -> bool {
        let Selector { tiers, domains, nodes, labels, share, rest } = self.select;
        let chosen = |flags: &[bool], place: usize| flags.get(place) == Some(&true);
        let label = |(key, values): (&String, &Vec<String>)| {
            let value = inventory.label(mailbox, key);
            value.is_some_and(|value| values.iter().any(|chosen| **chosen == *value))
        };
        *rest
            || (tiers.is_empty() || chosen(&self.tiers, inventory.tier(mailbox).index()))
                && (nodes.is_empty()
                    || chosen(&self.nodes, inventory.node(mailbox).index()))
                && share.is_none_or(|share| (share.from..share.to).contains(&slot(hash)))
                && labels.iter().all(label)
                && (domains.is_empty()
                    || self.domains.contains(inventory.domain(mailbox)))
    }
}

/// The seed of XXH3-64 that `text` stands for: the first eight bytes of its BLAKE3.
pub(super) fn seed(text: &str) -> u64 {
    let seed = blake3::hash(text.as_bytes());
    seed.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
}

/// The hashes of some mailboxes' addresses under `seed`: XXH3-64.
pub(super) fn hashes(
    inventory: &Inventory,
    mailboxes: Range<u32>,
    seed: u64,
) -> Vec<u64> {
    let hash = |mailbox| {
        let address = inventory.address(MailboxNumber::new(mailbox)).as_bytes();
        twox_hash::XxHash3_64::oneshot_with_seed(seed, address)
    };
    mailboxes.map(hash).collect()
}

/// The slot of a hash, of a million.
fn slot(hash: u64) -> Ppm {
    let slot = (u128::from(hash) * u128::from(Ppm::WHOLE.parts())) >> 64;
    Ppm::new(u32::try_from(slot).unwrap_or(0))
}
