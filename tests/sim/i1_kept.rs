//! I1 kept: every message that a side holds intact is served once, and no bad one ever is.

use tidegate_core::mailbox::Health;

use crate::diary::number;
use crate::world::{Checked, World, broken};

const I1: &str = "I1 kept";

/// A mailbox opens: its user must find everything, and nothing that is bad.
pub(crate) fn check_opening(world: &World, at: usize, level: u8) -> Checked {
    let place = &world.fleet.places[at];
    let room = world.nodes[place.node].room.lock();
    let Some(mailbox) = room.boxes.get(&place.key) else { return Ok(()) };
    // Whoever touched it after the last look could not be seen.
    let looked = mailbox.looked.map_or(0, |(looked, ..)| looked);
    if level == 0 || world.oracle.seen[at].level > 0 || mailbox.changed_at >= looked {
        return Ok(());
    }
    if mailbox.beside.is_some() {
        return broken(I1, format!("u{at} opens while its history is beside"));
    }
    // What went bad where it lay, with nothing else changed, is seen only by whoever reads it.
    let visible = |id: u32| !mailbox.rotten.contains(&id);
    let mut bad = mailbox.live.iter().filter(|it| !it.sound && visible(it.id));
    if let Some(bad) = bad.next() {
        return broken(I1, format!("u{at} opens with the bad message {}", bad.id));
    }
    let missing =
        mailbox.due.iter().find(|id| !mailbox.live.iter().any(|it| it.id == **id));
    match missing {
        Some(id) => broken(I1, format!("u{at} opens without message {id}")),
        None => Ok(()),
    }
}

/// No message may have gone, and none may be there twice.
pub(crate) fn check_all(world: &World) -> Checked {
    for (node, it) in world.nodes.iter().enumerate() {
        let room = it.room.lock();
        for mailbox in room.boxes.values() {
            let all = mailbox.live.iter().chain(mailbox.beside.iter().flatten());
            let mut ids: Vec<u32> = all.map(|letter| letter.id).collect();
            ids.sort_unstable();
            if let Some([id, _]) = ids.array_windows().find(|[one, next]| one == next) {
                return broken(I1, format!("n{node}: message {id} is there twice"));
            }
            let snapshot = |id: u32| mailbox.snapshot.iter().any(|it| it.id == id);
            let gone = mailbox
                .due
                .iter()
                .find(|id| ids.binary_search(id).is_err() && !snapshot(**id));
            if let Some(id) = gone {
                return broken(I1, format!("n{node}: message {id} has gone"));
            }
        }
    }
    Ok(())
}

/// When all is well, everything due is served, or its mailbox waits for a person.
pub(crate) fn check_end(world: &World) -> Checked {
    for (at, place) in world.fleet.places.iter().enumerate() {
        let room = world.nodes[place.node].room.lock();
        let Some(mailbox) = room.boxes.get(&place.key) else { continue };
        let level = world.oracle.seen[at].level;
        let noted = world.oracle.diaries[place.node].of(place.job, place.ordinal);
        // What goes bad when nothing moves any more is told, and a person's.
        let told = noted.health == number(Health::IntegrityFailed);
        if level == 0 || told {
            continue;
        }
        let served = |id: &u32| mailbox.live.iter().any(|it| it.id == *id && it.sound);
        if let Some(id) = mailbox.due.iter().find(|id| !served(id)) {
            return broken(I1, format!("u{at} is open without message {id} in the end"));
        }
    }
    Ok(())
}

/// A message arrives whose delivery was admitted before the mailbox was moved.
pub(crate) fn lost_in_a_move(at: usize, id: u32) -> Checked {
    broken(I1, format!("u{at} was moved while message {id} was on its way in"))
}
