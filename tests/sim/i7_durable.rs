//! I7 acknowledged is durable: whatever leaves a program is on its disk.

use tidegate_core::mailbox::Preparation;
use tidegate_core::rollout::{Orders, Sync};

use crate::diary::number;
use crate::world::{Checked, World, broken};

const I7: &str = "I7 acknowledged is durable";

/// A worker's report leaves: every fact in it is what its disk says.
pub(crate) fn check_report(world: &World, node: usize, sync: &Sync) -> Checked {
    let diary = &world.oracle.diaries[node];
    for report in &sync.reports {
        let claimed = diary.claims.get(&report.job).copied().unwrap_or(0);
        if claimed != report.generation.get() {
            let text = format!(
                "{} told at {}, on disk is {claimed}",
                report.job, report.generation
            );
            return broken(I7, text);
        }
        for (ordinal, state) in &report.facts {
            let noted = diary.of(report.job, *ordinal);
            let prepared = noted.verified.is_some_and(|(of, _)| of == claimed);
            let quarantined = noted.aside == Some(claimed);
            let wrong = state.level.get() != noted.level
                || number(state.health) != noted.health
                || state.dial_tone != noted.dial
                || state.preparation == Preparation::Quarantined && !quarantined
                || state.preparation == Preparation::Prepared
                    && noted.level == 0
                    && !prepared;
            if wrong {
                let text = format!(
                    "{} {ordinal}: {state:?} is told, {noted:?} on disk",
                    report.job
                );
                return broken(I7, text);
            }
        }
    }
    Ok(())
}

/// Orders leave: every generation in them is on the coordinator's disk.
pub(crate) fn check_orders(world: &World, orders: &Orders) -> Checked {
    for order in &orders.jobs {
        let leased =
            world.oracle.chronicle.leased.get(&order.job).map_or(0, |(it, _)| *it);
        if order.generation.get() != leased {
            let text = format!(
                "{} ordered at {}, on disk is {leased}",
                order.job, order.generation
            );
            return broken(I7, text);
        }
    }
    Ok(())
}

/// Doors open: that is on the node's disk.
pub(crate) fn check_opening(world: &World, at: usize, level: u8, dial: bool) -> Checked {
    let place = &world.fleet.places[at];
    let noted = world.oracle.diaries[place.node].of(place.job, place.ordinal);
    if level > noted.level || dial && !noted.dial {
        return broken(
            I7,
            format!("u{at} opens to {level}, dial tone {dial}; {noted:?} on disk"),
        );
    }
    Ok(())
}

/// An operator was told that it is done: that is on the coordinator's disk.
pub(crate) fn check_action(world: &World, reason: &str) -> Checked {
    if world.oracle.chronicle.reasons.contains(reason) {
        return Ok(());
    }
    broken(I7, format!("`{reason}` was acknowledged and is not on disk"))
}
