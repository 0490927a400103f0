//! I4 one hand: generations only rise, each is issued once, and whoever holds a lower one opens
//! nothing.

use tidegate_core::rollout::Record;

use crate::oracle::Holder;
use crate::world::{Checked, World, broken};

const I4: &str = "I4 one hand";

/// A generation is issued, or a node changes hands.
pub(crate) fn check_issued(world: &World, record: &Record) -> Checked {
    let mut issued = world.oracle.chronicle.issued;
    let mut rises = |generation: u64| {
        if generation <= issued {
            return broken(I4, format!("generation {generation} after {issued}"));
        }
        issued = generation;
        Ok(())
    };
    match record {
        Record::JobLeased { job, generation, incarnation, .. } => {
            let node = World::number(world.node_of(*job));
            let holder = world.oracle.holders.get(&node).map(|it| it.incarnation);
            if holder != Some(incarnation.get()) {
                return broken(
                    I4,
                    format!("{job} is leased to {incarnation}, not to the holder"),
                );
            }
            rises(generation.get())
        }
        Record::Retried { generation, .. } => rises(generation.get()),
        Record::Reclosed { generations, scope, .. } => {
            generations.iter().try_for_each(|(_, generation)| rises(generation.get()))?;
            // Closing takes a new generation for every job that a worker has.
            for at in world.fleet.members(*scope) {
                let job = world.fleet.places[at].job;
                let leased = world.oracle.chronicle.leased.contains_key(&job);
                if leased && !generations.iter().any(|(of, _)| *of == job) {
                    return broken(
                        I4,
                        format!("{job} is re-closed under its old generation"),
                    );
                }
            }
            Ok(())
        }
        Record::NodeJoined { node, incarnation, .. } => {
            check_joined(world, *node, incarnation.get())
        }
        _ => Ok(()),
    }
}

/// A node goes to another worker only when the lease of the one before is over.
fn check_joined(
    world: &World,
    node: tidegate_core::fleet::NodeNumber,
    incarnation: u64,
) -> Checked {
    let Some(Holder { incarnation: holder, heard, .. }) =
        world.oracle.holders.get(&node).copied()
    else {
        return Ok(());
    };
    // A coordinator's clock may be a little fast.
    let lease = world.fleet.lease - world.fleet.lease / 100;
    if holder != incarnation && world.now.saturating_sub(heard) < lease {
        let text = format!("{node} goes to {incarnation:x} while {holder:x} has a lease");
        return broken(I4, text);
    }
    Ok(())
}

/// Doors open under the claim that is in force at the store.
pub(crate) fn check_opening(world: &World, run: u64, at: usize) -> Checked {
    let place = &world.fleet.places[at];
    let claimed = world.oracle.diaries[place.node].claims.get(&place.job).copied();
    let room = world.nodes[place.node].room.lock();
    let (held, _) = room.claims.get(&place.job.get()).cloned().unwrap_or_default();
    if claimed.unwrap_or(0) < held {
        // Whoever has just claimed may not have recorded it yet; an older order still holds.
        let issued = world.oracle.chronicle.leased.get(&place.job);
        let holder = issued.is_some_and(|(_, by)| {
            world.workers.get(&run).is_some_and(|it| it.incarnation == *by)
        });
        if !holder {
            return broken(
                I4,
                format!("u{at} opens under {claimed:?}, the store is at {held}"),
            );
        }
    }
    Ok(())
}
