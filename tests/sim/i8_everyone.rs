//! I8 everyone exactly once: the counts that are shown add up to the inventory.

use tidegate_coordinator::driven::Driven;

use crate::world::{Checked, World, broken};

const I8: &str = "I8 everyone exactly once";

/// What readers are shown.
pub(crate) fn check(world: &World) -> Checked {
    let Some(shown) = world.coordinator.driven.as_ref().and_then(Driven::shown) else {
        return Ok(());
    };
    let everybody = world.fleet.plan.inventory().len();
    let in_waves: u32 = shown.waves.iter().map(|wave| wave.planned).sum();
    let on_nodes: u32 = shown.nodes.iter().map(|node| node.planned).sum();
    if shown.planned + shown.excluded != everybody || in_waves != shown.planned {
        let text =
            format!("{in_waves} in waves, {} planned, {everybody} in all", shown.planned);
        return broken(I8, text);
    }
    let open_waves: u32 = shown.waves.iter().map(|wave| wave.open).sum();
    let open_nodes: u32 = shown.nodes.iter().map(|node| node.open).sum();
    if open_waves != open_nodes || on_nodes != shown.planned {
        return broken(I8, format!("{open_waves} open in waves, {open_nodes} on nodes"));
    }
    for wave in &shown.waves {
        if wave.prepared + wave.quarantined > wave.planned || wave.open > wave.prepared {
            return broken(I8, format!("a wave does not add up: {wave:?}"));
        }
    }
    Ok(())
}
