//! I2 nothing destroyed: what restoring replaces is kept aside, and open mailboxes are left alone.

use crate::world::{Checked, World, broken};

const I2: &str = "I2 nothing destroyed";

/// A worker has changed a mailbox: nobody may be in it.
pub(crate) fn check_touch(world: &World, key: u64, what: &str) -> Checked {
    let Some(at) = world.fleet.by_key.get(&key).copied() else { return Ok(()) };
    let seen = world.oracle.seen[at];
    // A history beside a dial tone is nobody's place.
    if seen.level > 0 || seen.dial && what != "restored" {
        return broken(I2, format!("u{at} was {what} while somebody is in it"));
    }
    Ok(())
}

/// Whatever was ever live is live, beside or aside.
pub(crate) fn check_all(world: &World) -> Checked {
    for (node, it) in world.nodes.iter().enumerate() {
        let room = it.room.lock();
        for mailbox in room.boxes.values() {
            let all = mailbox.live.iter().chain(mailbox.beside.iter().flatten());
            let there: Vec<u32> = all.map(|letter| letter.id).collect();
            let kept = |id: &u32| there.contains(id) || mailbox.aside.contains(id);
            if let Some(id) = mailbox.ever.iter().find(|id| !kept(id)) {
                return broken(I2, format!("n{node}: nothing is left of message {id}"));
            }
        }
    }
    Ok(())
}
