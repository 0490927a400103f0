//! I9 the right person: no message is in another's mailbox, and work is done on the mailboxes of its
//! own job.

use crate::world::{Checked, World, broken};

const I9: &str = "I9 the right person";

/// A worker has changed a mailbox under a job.
pub(crate) fn check_touch(world: &World, key: u64, job: u32) -> Checked {
    let Some(at) = world.fleet.by_key.get(&key).copied() else {
        return broken(I9, format!("a mailbox that nobody knows was changed: {key:x}"));
    };
    let its = world.fleet.places[at].job;
    if its.get() != job {
        return broken(I9, format!("u{at} of {its} was changed under job {job}"));
    }
    Ok(())
}

/// Every message is its owner's.
pub(crate) fn check_all(world: &World) -> Checked {
    for node in &world.nodes {
        let room = node.room.lock();
        for mailbox in room.boxes.values() {
            let all = mailbox.live.iter().chain(mailbox.beside.iter().flatten());
            let mut foreign = all.filter(|letter| letter.owner != mailbox.owner);
            if let Some(letter) = foreign.next() {
                return broken(
                    I9,
                    format!("message {} is in u{}", letter.id, mailbox.owner),
                );
            }
        }
    }
    Ok(())
}
