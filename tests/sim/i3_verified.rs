//! I3 verified before open: on durable record, under the present generation, at the content that a
//! last look has found.

use crate::mailroom::wide;
use crate::world::{Checked, World, broken};

const I3: &str = "I3 verified before open";

/// A mailbox's doors open.
pub(crate) fn check_opening(world: &World, run: u64, at: usize, level: u8) -> Checked {
    if level == 0 || world.oracle.seen[at].level > 0 {
        return Ok(());
    }
    let place = &world.fleet.places[at];
    let diary = &world.oracle.diaries[place.node];
    let noted = diary.of(place.job, place.ordinal);
    let claimed = diary.claims.get(&place.job).copied().unwrap_or(0);
    // One that was open before its doors' program died, or was claimed anew since.
    let Some((generation, stamp)) = noted.verified else {
        return broken(I3, format!("u{at} opens, its verification is not on record"));
    };
    if generation > claimed {
        return broken(
            I3,
            format!("u{at}: verified at {generation}, claimed at {claimed}"),
        );
    }
    let room = world.nodes[place.node].room.lock();
    let Some(mailbox) = room.boxes.get(&place.key) else { return Ok(()) };
    let Some((looked_at, seen, _)) = mailbox.looked else {
        return broken(I3, format!("u{at} opens without a look"));
    };
    if wide(seen) != stamp {
        return broken(
            I3,
            format!("u{at} (run {run}) opens, but the look found a change"),
        );
    }
    if mailbox.stamp != seen && mailbox.changed_at < looked_at {
        return broken(I3, format!("u{at} opens changed by our own hand after the look"));
    }
    Ok(())
}
