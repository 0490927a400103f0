//! Storm: breaks a living mailbox, mostly on its live side.
//!
//! # Invariants
//!
//! * A bit is flipped only where the snapshot is intact.
//! * A uidlist is never cut at the end of a line: what is left can be seen to be cut.
//! * Whatever the storm does is counted, per kind and side.

use crate::chance::Chance;
use crate::life::{Life, ListState, Message, Side};
use crate::truth::Damage;

/// The unit in which disks lose bytes.
const BLOCK_BYTES: usize = 4096;
/// A whole folder, `cur` or Maildir is lost this much more rarely than a message.
const TREE_RARITY: u32 = 40;
/// A uidlist or keyword list is lost this much more rarely than a message.
const LIST_RARITY: u32 = 10;

/// Strikes `life`: `ppm` of its messages, and lists and folders in proportion. `donor` is
/// a letter of somebody else.
pub(crate) fn strike(life: &mut Life, ppm: u32, donor: Option<&[u8]>, dice: &mut Chance) {
    if dice.hits(ppm / TREE_RARITY) {
        life.maildir = false;
        life.tally.push((Damage::MaildirMissing, Side::Live));
        for message in &mut life.messages {
            message.live = None;
        }
        for folder in &mut life.folders {
            folder.live.exists = false;
        }
    } else {
        for place in 0..life.folders.len() {
            strike_folder(life, place, ppm, dice);
        }
    }
    for index in 0..life.messages.len() {
        if dice.hits(ppm) {
            strike_message(life, index, donor, dice);
        }
    }
}

fn strike_folder(life: &mut Life, place: usize, ppm: u32, dice: &mut Chance) {
    let Some(folder) = life.folders.get_mut(place) else { return };
    let mut of_folder =
        life.messages.iter_mut().filter(|message| message.folder == place);
    if place != 0 && dice.hits(ppm / TREE_RARITY) {
        folder.live.exists = false;
        of_folder.for_each(|message| message.live = None);
        life.tally.push((Damage::FolderMissing, Side::Live));
        return;
    }
    if dice.hits(ppm / TREE_RARITY) {
        let new = of_folder
            .any(|message| message.live.as_ref().is_some_and(|leaf| leaf.in_new))
            && dice.percent(40);
        folder.live.without = Some(if new { "new" } else { "cur" });
        for message in life.messages.iter_mut().filter(|message| message.folder == place)
        {
            message.live.take_if(|leaf| leaf.in_new == new);
        }
        life.tally.push((Damage::CurOrNewMissing, Side::Live));
    }
    if dice.hits(ppm / LIST_RARITY) {
        let text = folder.live.list_text(folder.uid_validity, &folder.guid);
        folder.live.list = match dice.below(3) {
            0 => ListState::Lost,
            1 => ListState::Zeroed,
            _ => cut(&text, dice),
        };
        let damage = match folder.live.list {
            ListState::Zeroed => Damage::ListZeroed,
            ListState::Cut(_) => Damage::ListCut,
            ListState::Lost | ListState::Whole => Damage::ListLost,
        };
        life.tally.push((damage, Side::Live));
    }
    if !folder.live.keywords.is_empty() && dice.hits(ppm / LIST_RARITY) {
        folder.live.keywords_lost = true;
        life.tally.push((Damage::KeywordsLost, Side::Live));
    }
}

/// Cuts a list in the middle of a line.
fn cut(text: &str, dice: &mut Chance) -> ListState {
    let mut left = dice.index(text.len());
    // `left` bytes stay. Neither the last of them nor the next may be a line end, or the
    // line before would look whole.
    let at = |place: usize| text.as_bytes().get(place).copied();
    while left > 0
        && (at(left - 1) == Some(b'\n') || matches!(at(left), Some(b'\n') | None))
    {
        left -= 1;
    }
    if left == 0 { ListState::Lost } else { ListState::Cut(left) }
}

fn strike_message(
    life: &mut Life,
    index: usize,
    donor: Option<&[u8]>,
    dice: &mut Chance,
) {
    let Some(message) = life.messages.get_mut(index) else { return };
    let Some(bytes) = life.letters.get(message.letter) else { return };
    let roll = dice.below(100);
    let snapshot = message.snapshot.is_some() && roll < 11;
    let live = message.live.is_some() && (roll == 0 || !snapshot);
    if snapshot {
        let damage = kind(false, donor.is_some(), dice);
        hit(message, Side::Snapshot, damage, bytes, (donor, dice));
        life.tally.push((damage, Side::Snapshot));
    }
    if live {
        let witnessed =
            message.snapshot.as_ref().is_some_and(|leaf| leaf.damage.is_none());
        let damage = kind(witnessed, donor.is_some(), dice);
        hit(message, Side::Live, damage, bytes, (donor, dice));
        life.tally.push((damage, Side::Live));
    }
}

fn kind(witnessed: bool, foreigners: bool, dice: &mut Chance) -> Damage {
    match dice.below(100) {
        0..=17 => Damage::Truncated,
        18..=25 => Damage::Empty,
        26..=37 => Damage::ZeroFilled,
        38..=51 => Damage::ZeroBlocks,
        52..=63 if witnessed => Damage::BitFlipped,
        64..=71 if foreigners => Damage::Foreign,
        72..=77 if foreigners => Damage::ForeignSameSize,
        _ => Damage::Missing,
    }
}

fn hit(
    message: &mut Message,
    side: Side,
    damage: Damage,
    bytes: &[u8],
    (donor, dice): (Option<&[u8]>, &mut Chance),
) {
    let leaf = match side {
        Side::Live => &mut message.live,
        Side::Snapshot => &mut message.snapshot,
    };
    if damage == Damage::Missing {
        *leaf = None;
    } else if let Some(leaf) = leaf {
        leaf.damage = Some((damage, ruined(damage, bytes, donor.unwrap_or(b"?"), dice)));
    }
}

/// What is left of `bytes`.
fn ruined(damage: Damage, bytes: &[u8], donor: &[u8], dice: &mut Chance) -> Vec<u8> {
    let mut left = bytes.to_vec();
    match damage {
        Damage::Truncated => {
            let blocks = left.len() / BLOCK_BYTES;
            let at = if blocks > 0 && dice.percent(50) {
                (1 + dice.index(blocks)) * BLOCK_BYTES
            } else {
                1 + dice.index(left.len().saturating_sub(1))
            };
            left.truncate(at.min(left.len().saturating_sub(1)));
        }
        Damage::Empty => left.clear(),
        Damage::ZeroBlocks => {
            let blocks = left.len().div_ceil(BLOCK_BYTES);
            for _ in 0..dice.between(1, 3) {
                let first = dice.index(blocks) * BLOCK_BYTES;
                let last = left.len().min(first + BLOCK_BYTES);
                left.get_mut(first..last).unwrap_or_default().fill(0);
            }
        }
        Damage::BitFlipped => {
            let place = dice.index(left.len());
            if let Some(byte) = left.get_mut(place) {
                *byte ^= 1 << dice.below(8);
            }
        }
        Damage::Foreign => left = donor.to_vec(),
        Damage::ForeignSameSize => {
            let size = left.len();
            left = donor.iter().copied().cycle().take(size).collect();
        }
        Damage::ZeroFilled
        | Damage::Missing
        | Damage::FolderMissing
        | Damage::CurOrNewMissing
        | Damage::MaildirMissing
        | Damage::ListLost
        | Damage::ListCut
        | Damage::ListZeroed
        | Damage::KeywordsLost
        | Damage::Link
        | Damage::Fifo
        | Damage::Directory => left.fill(0),
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = &[b'x'; 9_000];
    const OTHER: &[u8] = b"Delivered-To: somebody@else.example\n\nhello\n";

    #[test]
    fn every_kind_leaves_other_bytes() {
        let mut dice = Chance::new(1, "storm", 0);

        for damage in [
            Damage::Truncated,
            Damage::Empty,
            Damage::ZeroFilled,
            Damage::ZeroBlocks,
            Damage::BitFlipped,
            Damage::Foreign,
            Damage::ForeignSameSize,
        ] {
            for _ in 0..50 {
                assert_ne!(ruined(damage, MAIL, OTHER, &mut dice), MAIL, "{damage}");
            }
        }
    }

    #[test]
    fn a_cut_list_can_be_seen_to_be_cut() {
        let text = "3 V1 N3 G0\n1 :a,S=1\n2 :b,S=2\n";
        let mut dice = Chance::new(1, "cut", 0);

        for _ in 0..200 {
            if let ListState::Cut(left) = cut(text, &mut dice) {
                assert_ne!(text.as_bytes()[left - 1], b'\n');
                assert_ne!(text.as_bytes()[left], b'\n');
            }
        }
    }
}
