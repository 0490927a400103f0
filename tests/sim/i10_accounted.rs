//! I10 accounted: programs think exactly what their records say, and readers are shown just that.

use tidegate_coordinator::driven::ShownOf;
use tidegate_core::holding::Dial;
use tidegate_core::rollout::{Known, Rollout};
use tidegate_core::time::Timestamp;

use crate::diary::number;
use crate::world::{Checked, World, broken};

const I10: &str = "I10 accounted";

/// The coordinator and all workers.
pub(crate) fn check(world: &mut World) -> Checked {
    check_coordinator(world)?;
    check_shown(world)?;
    let runs: Vec<u64> = world.nodes.iter().filter_map(|node| node.run).collect();
    runs.into_iter().try_for_each(|run| check_worker(world, run))
}

/// The rollout against the replay of what is on disk.
pub(crate) fn check_coordinator(world: &mut World) -> Checked {
    let Some(live) = world.coordinator.driven.as_ref().and_then(|it| it.rollout()) else {
        return Ok(());
    };
    let now = Timestamp::default();
    let disk = world.coordinator.disk.lock();
    let replay = &mut world.oracle.replay;
    let Some(replayed) = replay.further(disk.records(), &world.fleet.plan) else {
        return broken(I10, "there is a rollout, and nothing on disk".to_owned());
    };
    if replayed.phase() != live.phase() {
        let text = format!(
            "the rollout is {:?}, its records say {:?}",
            live.phase(),
            replayed.phase()
        );
        return broken(I10, text);
    }
    for place in &world.fleet.places {
        let (one, other) =
            (live.mailbox_state(place.mailbox), replayed.mailbox_state(place.mailbox));
        if one != other {
            return broken(
                I10,
                format!("{} is {one:?}, its records say {other:?}", place.mailbox),
            );
        }
    }
    let told = |rollout: &Rollout| {
        let status = rollout.status(now);
        let waves = status
            .waves
            .iter()
            .map(|it| (it.allowed, it.passed, it.open, it.quarantined));
        (status.orders_version, status.totals, waves.collect::<Vec<_>>())
    };
    let (one, other) = (told(live), told(replayed));
    if one != other {
        return broken(I10, format!("counts are {one:?}, records say {other:?}"));
    }
    // Everything that is remembered, whether it was replayed from a snapshot or lived through.
    let same = live.snapshot() == replayed.snapshot()
        && live.history() == replayed.history()
        && live.etag() == replayed.etag();
    if !same {
        let text =
            format!("{:?}, records say {:?}", live.snapshot(), replayed.snapshot());
        return broken(I10, text);
    }
    Ok(())
}

/// What readers are shown of each mailbox, beside the loop, against what the loop knows of it.
fn check_shown(world: &World) -> Checked {
    let Some(driven) = &world.coordinator.driven else { return Ok(()) };
    let Some(live) = driven.rollout() else { return Ok(()) };
    world.fleet.places.iter().try_for_each(|place| {
        let known = live.known(place.mailbox);
        let plain = known == Known::plain(known.state);
        let receives = live.receives(place.mailbox);
        let told = ShownOf { state: known.state, plain, receives };
        match driven.shown_of(place.mailbox) {
            Some(shown) if shown != told => {
                broken(I10, format!("{} is {told:?}, shown as {shown:?}", place.address))
            }
            Some(_) | None => Ok(()),
        }
    })
}

/// What a worker holds against what its disk says.
fn check_worker(world: &mut World, run: u64) -> Checked {
    let Some(worker) = world.workers.get(&run) else { return Ok(()) };
    let disk = world.nodes[worker.node].disk.lock();
    let replay = &mut world.oracle.memories[worker.node];
    let replayed = replay.further(disk.records()).snapshot();
    drop(disk);
    let remembered = worker.driven.holding().snapshot();
    if remembered != replayed {
        return broken(I10, format!("{remembered:?} is held, {replayed:?} on disk"));
    }
    let diary = &world.oracle.diaries[worker.node];
    let holding = worker.driven.holding();
    for place in world.fleet.places.iter().filter(|it| it.node == worker.node) {
        let Some(held) = holding.job(place.job) else { continue };
        let Some(state) = held.state(place.ordinal) else { continue };
        let noted = diary.of(place.job, place.ordinal);
        let dial = held.dial(place.ordinal) == Dial::On;
        let claimed = diary.claims.get(&place.job).copied().unwrap_or(0);
        let same = state.level.get() == noted.level
            && number(state.health) == noted.health
            && dial == noted.dial
            && held.generation().get() == claimed;
        if !same {
            let text = format!("{}: {state:?} is held, {noted:?} on disk", place.address);
            return broken(I10, text);
        }
    }
    Ok(())
}
