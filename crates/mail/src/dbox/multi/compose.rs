//! Compose: files of messages made whole from the good messages of both sides.
//!
//! # Invariants
//!
//! * A file in which nothing is wrong is not touched.
//! * Messages keep their places where they can, so that the map stays true.
//! * A message that is not good is in no composed file.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::path::Path;

use crate::dbox::desk::{Desk, Piece};
use crate::dbox::file::{Guid, Head, Region, Scanner};
use crate::dbox::folder::Home;
use crate::dbox::known::{Known, Trust};
use crate::dbox::multi::items::{Item, Sides};
use crate::dbox::multi::storage::{Held, Storage};
use crate::dbox::survey::{Files, STORAGE, storage_path};
use crate::index::Index;
use crate::judge::Depth;
use crate::merge::Decision;
use crate::refusal::Refusal;
use crate::roots::{Like, Side};
use crate::stage::Phase;
use crate::walk::escape;

/// The first line of a file of which neither side has it.
const HEAD_BYTES: u64 = 16;

/// A message's place when all is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) file: u32,
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// Which message it is, if a folder holds it.
    pub(crate) item: Option<usize>,
    /// Where the map had it.
    pub(crate) was: (u32, u64),
}

/// What all files are to hold.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) placed: Vec<Placed>,
    composed: BTreeMap<u32, Composed>,
}

/// A file that is written anew.
#[derive(Debug)]
struct Composed {
    head: Piece,
    slots: Vec<Slot>,
}

/// A message in a file that is written anew.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Where it should begin.
    key: u64,
    side: Side,
    place: usize,
    item: Option<usize>,
    /// Where it begins.
    start: u64,
}

/// Decides what all files are to hold.
pub(crate) fn layout(items: &[Item], sides: Sides<'_>, map: &Known) -> Layout {
    let mut slots: BTreeMap<u32, Vec<Slot>> = BTreeMap::new();
    let mut dirty: BTreeSet<u32> = BTreeSet::new();
    let mut taken: HashSet<usize> = HashSet::new();
    for (number, item) in items.iter().enumerate() {
        taken.extend(item.live);
        let at = item.live.and_then(|place| sides.live.held.get(place));
        if let Decision::SetAside(_) = item.verdict.decision {
            dirty.extend(at.map(|held| held.file));
        }
        let Some((side, place, _)) = item.served() else { continue };
        let Some((file, key)) = item.home(sides) else { continue };
        if side == Side::Snapshot {
            dirty.insert(file);
        }
        let slot = Slot { key, side, place, item: Some(number), start: key };
        slots.entry(file).or_default().push(slot);
    }
    for (number, file) in &sides.live.files {
        if file.head.is_none() || !file.damaged.is_empty() {
            dirty.insert(*number);
        }
    }
    let files: BTreeSet<u32> =
        slots.keys().chain(sides.live.files.keys()).copied().collect();
    let of_map = PlacesOfMap::new(map, &dirty);
    let mut layout = Layout::default();
    for file in files {
        let mut slots = slots.remove(&file).unwrap_or_default();
        slots.extend(spare(sides.live, Side::Live, file, |place, _| {
            !taken.contains(&place)
        }));
        if dirty.contains(&file) {
            slots.extend(spare(sides.once, Side::Snapshot, file, |_, held| {
                of_map.may_hold(held) && is_missing(sides, held)
            }));
            let head = head(sides, file);
            let composed = compose(head, slots, sides);
            layout.place(file, &composed.slots, sides);
            layout.composed.insert(file, composed);
        } else {
            slots.sort_by_key(|slot| slot.key);
            layout.place(file, &slots, sides);
        }
    }
    layout
}

/// Messages of a file that no folder holds.
fn spare(
    storage: &Storage,
    side: Side,
    file: u32,
    wanted: impl Fn(usize, &Held) -> bool,
) -> Vec<Slot> {
    let held = storage.in_file(file).filter(|(place, held)| wanted(*place, held));
    let slot = |(place, held): (usize, &Held)| {
        let key = held.message.start;
        Slot { key, side, place, item: None, start: key }
    };
    held.map(slot).collect()
}

/// The live file has lost what the snapshot has there.
fn is_missing(sides: Sides<'_>, held: &Held) -> bool {
    let lost = !sides.live.files.contains_key(&held.file)
        || sides.live.damage_at(held.file, held.message.start).is_some();
    let guid: Option<Guid> = held.message.trailer.guid;
    lost && guid.is_some_and(|guid| sides.live.find(&guid).is_none())
}

/// Where a whole map has messages.
struct PlacesOfMap {
    starts: Option<HashSet<(u32, u64)>>,
}

impl PlacesOfMap {
    /// Of the files that are written anew.
    fn new(map: &Known, dirty: &BTreeSet<u32>) -> Self {
        let whole = map.index.as_ref().filter(|_| map.trust == Trust::Whole);
        let starts = |index: &Index| {
            let entries = index.map_entries().map(|(_, entry)| entry);
            let here = entries.filter(|entry| dirty.contains(&entry.file_id));
            here.map(|entry| (entry.file_id, u64::from(entry.offset))).collect()
        };
        Self { starts: whole.map(starts) }
    }

    fn may_hold(&self, held: &Held) -> bool {
        let place = (held.file, held.message.start);
        self.starts.as_ref().is_none_or(|it| it.contains(&place))
    }
}

fn head(sides: Sides<'_>, file: u32) -> (Piece, u64) {
    let of = |storage: &Storage| storage.files.get(&file).and_then(|it| it.head);
    let part = |side, head: Head| {
        let rel = storage_path(file);
        (Piece::Part { side, rel, range: 0..head.size }, head.size)
    };
    if let Some(head) = of(sides.live) {
        return part(Side::Live, head);
    }
    if let Some(head) = of(sides.once) {
        return part(Side::Snapshot, head);
    }
    let received = [sides.live, sides.once].into_iter().flat_map(|storage| {
        storage.in_file(file).filter_map(|(_, held)| held.message.trailer.received)
    });
    let created = received.min().unwrap_or(1);
    let line = format!("2 M1e C{created:08x}\n").into_bytes();
    (Piece::Bytes(line), HEAD_BYTES)
}

fn compose(
    (head, head_size): (Piece, u64),
    mut slots: Vec<Slot>,
    sides: Sides<'_>,
) -> Composed {
    slots.sort_by_key(|slot| (slot.key, slot.item.is_none()));
    drop_overlaps(&mut slots, sides);
    if !lay(&mut slots, head_size, sides) {
        // What nobody holds would only be in the way.
        slots.retain(|slot| slot.item.is_some());
        lay(&mut slots, head_size, sides);
    }
    Composed { head, slots }
}

/// Drops what no folder holds where it stands in the place of what one holds.
fn drop_overlaps(slots: &mut Vec<Slot>, sides: Sides<'_>) {
    let held = slots.iter().filter(|slot| slot.item.is_some());
    let ranges: Vec<(u64, u64)> =
        held.map(|slot| (slot.key, slot.key + size(slot, sides))).collect();
    slots.retain(|slot| {
        let (from, to) = (slot.key, slot.key + size(slot, sides));
        // Ranges are by their beginnings: only the last one before our end can reach us, or one
        // that is as wrong as the map that named it.
        let before = ranges.partition_point(|range| range.0 < to);
        let last = before.checked_sub(1).and_then(|at| ranges.get(at));
        slot.item.is_some() || last.is_none_or(|range| range.1 <= from)
    });
}

/// Gives every slot its place; whether all are where they should be.
fn lay(slots: &mut [Slot], head_size: u64, sides: Sides<'_>) -> bool {
    let mut at = head_size;
    let mut as_wished = true;
    for slot in slots {
        slot.start = at;
        as_wished &= slot.start == slot.key;
        at += size(slot, sides);
    }
    as_wished
}

fn held<'a>(slot: &Slot, sides: Sides<'a>) -> Option<&'a Held> {
    match slot.side {
        Side::Live => sides.live.held.get(slot.place),
        Side::Snapshot => sides.once.held.get(slot.place),
    }
}

fn size(slot: &Slot, sides: Sides<'_>) -> u64 {
    held(slot, sides).map_or(0, |held| held.message.end - held.message.start)
}

impl Layout {
    fn place(&mut self, file: u32, slots: &[Slot], sides: Sides<'_>) {
        for slot in slots {
            self.placed.push(Placed {
                file,
                start: slot.start,
                size: size(slot, sides),
                item: slot.item,
                was: (file, slot.key),
            });
        }
    }

    /// Stages all files that are written anew.
    pub(crate) fn stage(
        &self,
        desk: &mut Desk<'_, '_>,
        (items, sides): (&[Item], Sides<'_>),
        (storage, home): (Option<&Files>, Home),
    ) -> Result<(), Refusal> {
        for (file, composed) in &self.composed {
            let rel = storage_path(*file);
            let live = storage.and_then(|storage| storage.mails.get(file));
            if composed.slots.is_empty() {
                if let Some(meta) = live {
                    desk.bench.aside("kept", (STORAGE, &rel), meta)?;
                }
                continue;
            }
            let once = sides.once.files.get(file).map(|file| home.file_like(&file.meta));
            let like = live.map(Like::file).or(once).unwrap_or_else(|| home.new_file());
            let staged = desk.stage_pieces(&composed.pieces(sides), like)?;
            composed.check(desk, &staged, (items, sides)).map_err(|refusal| {
                refusal.unwrap_or_else(|| Refusal::Changed {
                    path: escape(&desk.bench.path(&rel)),
                })
            })?;
            desk.put(Phase::Messages, (STORAGE, &rel), live, staged)?;
        }
        Ok(())
    }
}

impl Composed {
    /// Neighbours that stand together in one file are one piece.
    fn pieces(&self, sides: Sides<'_>) -> Vec<Piece> {
        let mut pieces = vec![self.head.clone()];
        for slot in &self.slots {
            let Some(held) = held(slot, sides) else { continue };
            let next = held.message.start..held.message.end;
            let (next_side, next_rel) = (slot.side, storage_path(held.file));
            match pieces.last_mut() {
                Some(Piece::Part { side, rel, range })
                    if (*side, &**rel, range.end)
                        == (next_side, &*next_rel, next.start) =>
                {
                    range.end = next.end;
                }
                _ => pieces.push(Piece::Part {
                    side: next_side,
                    rel: next_rel,
                    range: next,
                }),
            }
        }
        pieces
    }

    /// Reads a staged file again: it must hold exactly its messages, and the bytes decided on.
    fn check(
        &self,
        desk: &mut Desk<'_, '_>,
        staged: &Path,
        (items, sides): (&[Item], Sides<'_>),
    ) -> Result<(), Option<Refusal>> {
        let unreadable = |error| Some(Refusal::write(b"staging", error));
        let file = File::open(staged).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut scanner = Scanner::open(&file, length).map_err(unreadable)?;
        for slot in &self.slots {
            let Some(Region::Message(message)) = scanner.next().map_err(unreadable)?
            else {
                return Err(None);
            };
            let guid = held(slot, sides).and_then(|held| held.message.trailer.guid);
            if message.start != slot.start || message.trailer.guid != guid {
                return Err(None);
            }
            let wished = slot.item.and_then(|at| items.get(at)?.served());
            let Some((Side::Snapshot, _, digest)) = wished else { continue };
            let found = desk.read_body(&file, &message, Depth::Quick);
            if found.ok().and_then(|findings| findings.digest) != Some(digest) {
                return Err(None);
            }
        }
        match scanner.next().map_err(unreadable)? {
            None => Ok(()),
            Some(_) => Err(None),
        }
    }
}
