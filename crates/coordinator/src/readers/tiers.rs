//! Tiers: how far each is, and which hash slots come in which waves.
//!
//! # Invariants
//!
//! * Nothing here depends on which addresses there are, only on how many: whoever has the answer
//!   cannot tell an address that exists from one that does not.

use tidegate_core::mailbox::Preparation;
use tidegate_core::plan::{Plan, Wave};
use tidegate_core::policy::{Cohort, Share};
use tidegate_core::share::Ppm;
use tidegate_wire::v1;

use crate::states::States;

/// All slots there are.
const SLOTS: u32 = Ppm::WHOLE.parts();

/// All tiers of `plan`, as far as `states` says.
pub(super) fn tiers(plan: &Plan, states: &States) -> v1::ListTiersResponse {
    let inventory = plan.inventory();
    let rungs = plan.policy().ladder.len();
    let mut tiers: Vec<v1::Tier> = inventory
        .tier_names()
        .iter()
        .map(|name| v1::Tier {
            name: name.clone(),
            reached: vec![0; rungs],
            spans: spans(plan, name),
            ..v1::Tier::default()
        })
        .collect();
    for (tier, size) in plan.waves().iter().flat_map(|wave| &wave.by_tier) {
        if let Some(tier) = tiers.get_mut(tier.index()) {
            tier.planned += size;
        }
    }
    for mailbox in inventory.mailboxes() {
        let state = states.seen(mailbox).state;
        let Some(tier) = tiers.get_mut(inventory.tier(mailbox).index()) else { continue };
        for reached in tier.reached.iter_mut().take(state.level.index()) {
            *reached += 1;
        }
        tier.quarantined += u32::from(state.preparation == Preparation::Quarantined);
    }
    v1::ListTiersResponse { tiers, hash_seed: plan.hash_seed() }
}

/// Where addresses of `tier` may come, cohort after cohort.
fn spans(plan: &Plan, tier: &str) -> Vec<v1::SlotSpan> {
    let mut spans = Vec::new();
    let mut shared_before = 0;
    for (number, cohort) in plan.policy().cohorts.iter().enumerate() {
        if !may_have(cohort, tier) {
            continue;
        }
        let waves = plan.waves().iter().filter(|it| it.cohort.index() == number);
        let waves: Vec<&Wave> = waves.collect();
        spans.extend(spans_of(cohort, &waves, shared_before));
        if let Some(Share { from, to }) = cohort.select.share {
            shared_before += to.parts() - from.parts();
        }
    }
    spans
}

/// Whether a mailbox of `tier` may be in `cohort`, as far as its selector says.
fn may_have(cohort: &Cohort, tier: &str) -> bool {
    let tiers = &cohort.select.tiers;
    cohort.select.rest || tiers.is_empty() || tiers.iter().any(|it| it == tier)
}

/// The slots of a cohort's waves. On each node they take its mailboxes in the order of their
/// hash, so a wave's slots are about its place among the waves; what earlier cohorts took out of
/// the order, and chance, may move that, but hardly beyond the margin.
fn spans_of(cohort: &Cohort, waves: &[&Wave], shared_before: u32) -> Vec<v1::SlotSpan> {
    let (first, end) = match cohort.select.share {
        Some(Share { from, to }) => (from.parts(), to.parts()),
        None => (0, SLOTS),
    };
    let size: u64 = waves.iter().map(|wave| u64::from(wave.size)).sum();
    let width = u64::from(end - first);
    let margin = if waves.len() == 1 {
        end - first
    } else {
        chance(waves).saturating_add(shared_before)
    };
    let mut before = 0_u64;
    let spans = waves.iter().map(|wave| {
        let place = |at: u64| {
            let inside = width * at / size.max(1);
            first + u32::try_from(inside).unwrap_or(end - first)
        };
        let from = place(before);
        before += u64::from(wave.size);
        v1::SlotSpan {
            from_ppm: from.saturating_sub(margin).max(first),
            to_ppm: place(before).saturating_add(margin).min(end),
            wave: u32::from(wave.number.get()),
        }
    });
    spans.collect()
}

/// Five standard deviations of a mailbox's rank on the node with the fewest, in slots.
fn chance(waves: &[&Wave]) -> u32 {
    let mut by_node = std::collections::BTreeMap::new();
    for (node, size) in waves.iter().flat_map(|wave| &wave.by_node) {
        *by_node.entry(*node).or_insert(0_u64) += u64::from(*size);
    }
    let fewest = by_node.values().min().copied().unwrap_or(1).max(1);
    let slots = u64::from(SLOTS) * 5 / 2 / fewest.isqrt().max(1);
    u32::try_from(slots).unwrap_or(SLOTS).min(SLOTS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_core::inventory::{InventoryBuilder, Row};
    use tidegate_core::plan::plan;
    use tidegate_wire::policy_file;

    use super::*;

    const POLICY: &str = "name = \"p\"\n[[cohort]]\nname = \"canary\"\n\
        select = { tier = [\"free\"], share = \"0 % to 5 %\" }\n\
        [[cohort]]\nname = \"rest\"\nselect = { rest = true }\ncanary = 500\n\
        [gate]\nmode = \"every-mailbox\"\n";

    #[test]
    fn who_exists_changes_nothing_only_how_many_do() {
        let one = spans(&plan_of(&(0..8_000).collect::<Vec<_>>()), "free");
        let other = spans(&plan_of(&(8_000..16_000).collect::<Vec<_>>()), "free");

        // How many fall into the share is chance, so only the cohort that is left is moved.
        let moved = |(a, b): (&v1::SlotSpan, &v1::SlotSpan)| {
            a.from_ppm.abs_diff(b.from_ppm).max(a.to_ppm.abs_diff(b.to_ppm))
        };
        assert_eq!(one.len(), other.len());
        assert!(
            one.iter().zip(&other).map(moved).max() < Some(5_000),
            "{one:?} {other:?}"
        );
    }

    #[test]
    fn every_mailbox_is_in_a_wave_that_its_slot_and_tier_name() {
        let plan = plan_of(&(0..8_000).collect::<Vec<_>>());
        let inventory = plan.inventory();

        let misled = inventory.mailboxes().filter(|mailbox| {
            let address = inventory.address(*mailbox);
            let hash = twox_hash::XxHash3_64::oneshot_with_seed(
                plan.hash_seed(),
                address.as_bytes(),
            );
            let slot = (u128::from(hash) * u128::from(SLOTS)) >> 64;
            let slot = u32::try_from(slot).unwrap();
            let wave = plan.waves().iter().find(|wave| plan.is_in(wave, *mailbox));
            let wave = u32::from(wave.unwrap().number.get());
            let tier = inventory.tier_name(inventory.tier(*mailbox));
            !spans(&plan, tier).iter().any(|span| {
                span.wave == wave && (span.from_ppm..span.to_ppm).contains(&slot)
            })
        });

        assert_eq!(misled.count(), 0);
    }

    fn plan_of(users: &[u32]) -> Plan {
        let mut builder = InventoryBuilder::new();
        for user in users {
            let row = Row {
                address: &format!("user{user}@example.org"),
                node: ["stor-01", "stor-02"][usize::from(user % 2 == 1)],
                tier: if user % 5 == 0 { "paid" } else { "free" },
                path: &format!("example.org/user{user}"),
                labels: &[],
            };
            builder.push(row).unwrap();
        }
        let inventory = Arc::new(builder.finish().unwrap());
        let policy = Arc::new(policy_file::parse("policy", POLICY).unwrap());
        plan(&inventory, &policy).unwrap()
    }
}
