//! I6 a stop stops: once a stop is shown as effective nothing opens; once a part is shown as closed
//! all of it is held; a worker whose lease is over opens nothing; and nobody is permitted to while the
//! rollout is frozen, or after the end of a window that holds or, over a step, freezes.

use tidegate_coordinator::driven::Driven;
use tidegate_core::fleet::JobNumber;
use tidegate_core::policy::calendar::{AtEnd, open_until};
use tidegate_core::rollout::Orders;
use tidegate_core::time::Timestamp;

use crate::world::{Checked, World, broken};

const I6: &str = "I6 a stop stops";

/// A mailbox's doors open.
pub(crate) fn check_opening(world: &World, run: u64, at: usize) -> Checked {
    let further = world.oracle.seen[at].level > 0;
    let started = world.workers.get(&run).is_some_and(|it| it.heard_sent.is_none());
    if further && started {
        // It was recorded before this run started, and its owner was in already.
        return Ok(());
    }
    if let Some(since) = world.oracle.stopped {
        let text = format!("u{at} opens, the stop was shown as effective at {since} ms");
        return broken(I6, text);
    }
    check_lease(world, run, at)
}

/// The lease in true time, from when the newest answered report was sent.
fn check_lease(world: &World, run: u64, at: usize) -> Checked {
    let Some(worker) = world.workers.get(&run) else { return Ok(()) };
    // What clocks may stray, and what a slow disk adds between a look at the clock and the door.
    let lease = world.fleet.lease + world.fleet.lease / 200 + 100;
    match worker.heard_sent {
        Some(sent) if world.now <= sent + lease => Ok(()),
        heard => {
            let text =
                format!("u{at} opens at {}, heard for reports of {heard:?}", world.now);
            broken(I6, text)
        }
    }
}

/// Orders leave: they permit nothing while nothing may open.
pub(crate) fn check_permits(world: &World, orders: &Orders) -> Checked {
    let named = orders.jobs.iter().flat_map(|order| order.named.iter().flatten()).count();
    if let Some(by) = &world.oracle.chronicle.frozen
        && (orders.may_open || named > 0)
    {
        return broken(I6, format!("{named} may open, {by} has frozen everything"));
    }
    let Some(now) = world.coordinator.driven.as_ref().map(Driven::now) else {
        return Ok(());
    };
    // Appends may take long: it may have been decided when it was asked, or by now.
    let asked = world.coordinator.asked_at;
    let is_over = |at| {
        let calendar = &world.fleet.plan.policy().calendar;
        let holds = calendar.iter().filter(|rule| rule.at_end == AtEnd::Hold);
        open_until(holds, at).is_none()
    };
    if named > 0 && is_over(asked) && is_over(now) {
        return broken(I6, format!("{named} may open at {now:?}, after every window"));
    }
    for order in
        orders.jobs.iter().filter(|order| order.named.iter().any(|it| !it.is_empty()))
    {
        if let Some(closed) = unfrozen_since(world, order.job, asked.min(now)) {
            let text =
                format!("job {:?} may open, the window ended at {closed:?}", order.job);
            return broken(I6, text);
        }
    }
    Ok(())
}

/// When the window ended that should have frozen everything over the step of `job`.
fn unfrozen_since(world: &World, job: JobNumber, at: Timestamp) -> Option<Timestamp> {
    let plan = &world.fleet.plan;
    let wave = plan.jobs().get(job.index())?.wave;
    let chronicle = &world.oracle.chronicle;
    let climb = chronicle.climbs.get(wave.index())?;
    let rules = plan.policy().calendar.iter();
    let rules = rules.filter(|rule| rule.at_end == AtEnd::Freeze);
    let mut ended = rules.filter(|rule| rule.open_until(at).is_none());
    ended.find_map(|rule| {
        let closed = rule.closed_at(at)?;
        let frozen = chronicle.frozen_by_calendar_at.is_some_and(|it| it >= closed);
        let climbing = climb.allowed > climb.passed && climb.allowed_at < closed;
        (climbing && !frozen).then_some(closed)
    })
}

/// The mail system was told to let somebody in.
pub(crate) fn check_let_in(
    world: &World,
    key: u64,
    generation: u64,
    level: u8,
) -> Checked {
    let Some(at) = world.fleet.by_key.get(&key).copied() else { return Ok(()) };
    let place = &world.fleet.places[at];
    let granted = world.oracle.granted.get(&(place.job, generation)).copied();
    let recorded = world.oracle.diaries[place.node].of(place.job, place.ordinal).level;
    let permitted = granted.is_some_and(|(highest, _)| highest >= level);
    if !permitted && recorded < level {
        return broken(
            I6,
            format!("u{at} is let in to {level}, permitted was {granted:?}"),
        );
    }
    if world.oracle.stopped.is_some() && recorded == 0 {
        return broken(
            I6,
            format!("u{at} is let in after a stop was shown as effective"),
        );
    }
    Ok(())
}

/// What is shown as closed is closed.
pub(crate) fn check_closed(world: &World) -> Checked {
    for scope in &world.oracle.closed {
        for at in world.fleet.members(*scope) {
            let seen = world.oracle.seen[at];
            if world.nodes[world.fleet.places[at].node].unaware {
                continue;
            }
            if seen.level > 0 || seen.dial {
                return broken(
                    I6,
                    format!("u{at} is open, {scope:?} is shown as closed"),
                );
            }
            let place = &world.fleet.places[at];
            let room = world.nodes[place.node].room.lock();
            let let_in = room.boxes.get(&place.key).map_or(0, |it| it.let_in.0);
            if room.hears && let_in > 0 && !world.nodes[place.node].untold {
                return broken(
                    I6,
                    format!("u{at} is let in, {scope:?} is shown as closed"),
                );
            }
        }
    }
    Ok(())
}
