//! Map: where every message is, and how many folders hold it.
//!
//! # Invariants
//!
//! * A map that is true stays as it is; counts that are too high only keep bytes too long.
//! * A message that no folder holds is in a map written anew with a count of none, so that it does not
//!   come back.
//! * A message keeps its UID in the map where it is known.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::dbox::folder::{UID_GAP, new_number};
use crate::dbox::known::{Known, Trust};
use crate::dbox::multi::compose::Placed;
use crate::dbox::multi::items::Item;
use crate::index::{Index, MapEntry, MapState};

/// The map as it is to be.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) uid_validity: u32,
    /// UIDs in the map, by item.
    pub(crate) uids: HashMap<usize, u32>,
    /// The log to be written, if the map there is not true.
    pub(crate) state: Option<MapState>,
}

/// What the map is made of.
pub(crate) struct Sources<'a> {
    pub(crate) now: &'a Known,
    pub(crate) once: &'a Known,
    /// UIDVALIDITY of the map that folders name.
    pub(crate) uid_validity: Option<u32>,
    pub(crate) items: &'a [Item],
    pub(crate) placed: &'a [Placed],
    /// When the oldest message came.
    pub(crate) created: u32,
}

type Places = HashMap<(u32, u64), u32>;

impl Sources<'_> {
    /// Makes out what the map is to be.
    pub(crate) fn map(&self) -> Map {
        let indexes = [self.now, self.once].map(|known| known.index.as_ref());
        let known = indexes.into_iter().flatten().map(|index| index.uid_validity);
        let uid_validity = match self.now.trust {
            Trust::Whole => indexes[0].map(|index| index.uid_validity),
            Trust::Once | Trust::Nothing => self.uid_validity,
        };
        let uid_validity =
            uid_validity.or_else(|| known.into_iter().next()).unwrap_or(self.created);
        if let Some(uids) = self.uids_of_true_map() {
            return Map { uid_validity, uids, state: None };
        }
        let (uids, entries) = self.assign(indexes);
        let highest = |index: &Index| index.highest_file_id();
        let files = self.placed.iter().map(|placed| placed.file);
        let files = files.chain(indexes.into_iter().flatten().filter_map(highest));
        let before = indexes[0].map_or(0, |index| index.index_id);
        let next_uid = self.next_uid(indexes);
        let text = format!("map {before} {uid_validity} {next_uid} {}", entries.len());
        let state = MapState {
            index_id: new_number(text.as_bytes(), before),
            created: self.created,
            uid_validity,
            next_uid,
            highest_file_id: files.max().unwrap_or(0),
            entries: entries.into_iter().collect(),
        };
        Map { uid_validity, uids, state: Some(state) }
    }

    /// The UIDs of all messages, if the map is whole, and true of each.
    fn uids_of_true_map(&self) -> Option<HashMap<usize, u32>> {
        let index = self.now.index.as_ref().filter(|_| self.now.trust == Trust::Whole)?;
        let mut uids = HashMap::new();
        let mut places: HashSet<(u32, u64)> = HashSet::new();
        for placed in self.placed {
            places.insert((placed.file, placed.start));
            let Some(at) = placed.item else { continue };
            let item = self.items.get(at)?;
            let uid = item.map_uid?;
            let entry = index.map_entry(uid)?;
            let there = (entry.file_id, u64::from(entry.offset), u64::from(entry.size));
            if there != (placed.file, placed.start, placed.size)
                || entry.refcount < item.holders
            {
                return None;
            }
            uids.insert(at, uid);
        }
        let is_there = |(_, entry): (u32, MapEntry)| {
            places.contains(&(entry.file_id, u64::from(entry.offset)))
        };
        index.map_entries().all(is_there).then_some(uids)
    }

    fn next_uid(&self, indexes: [Option<&Index>; 2]) -> u32 {
        let [now, _] = indexes;
        if let Some(index) = now.filter(|_| self.now.trust == Trust::Whole) {
            return index.next_uid;
        }
        let known = indexes.into_iter().flatten().map(|index| index.next_uid);
        let named = self.items.iter().filter_map(|item| item.map_uid);
        let next = known.chain(named.map(|uid| uid.saturating_add(1))).max();
        next.unwrap_or(1).saturating_add(UID_GAP)
    }

    fn assign(
        &self,
        indexes: [Option<&Index>; 2],
    ) -> (HashMap<usize, u32>, BTreeMap<u32, MapEntry>) {
        let places = |index: &Index| -> Places {
            let place = |(uid, entry): (u32, MapEntry)| {
                ((entry.file_id, u64::from(entry.offset)), uid)
            };
            index.map_entries().map(place).collect()
        };
        let [now, once] = indexes.map(|index| index.map(places).unwrap_or_default());
        let mut next = self.next_uid(indexes);
        let (mut uids, mut entries) = (HashMap::new(), BTreeMap::new());
        let named: HashSet<u32> =
            self.items.iter().filter_map(|item| item.map_uid).collect();
        let mut homeless = Vec::new();
        for placed in self.placed {
            let item = placed.item.and_then(|at| self.items.get(at));
            let by_place = || now.get(&placed.was).or_else(|| once.get(&placed.was));
            let uid = match item {
                Some(item) => item.map_uid,
                None if self.now.trust == Trust::Whole => match now.get(&placed.was) {
                    Some(uid) => Some(*uid),
                    // The map never had it.
                    None => continue,
                },
                None => by_place().copied().filter(|uid| !named.contains(uid)),
            };
            match uid {
                Some(uid) if !entries.contains_key(&uid) => {
                    entries.insert(uid, entry(placed, item));
                    uids.extend(placed.item.map(|at| (at, uid)));
                }
                Some(_) | None => homeless.push((placed, item)),
            }
        }
        for (placed, item) in homeless {
            entries.insert(next, entry(placed, item));
            uids.extend(placed.item.map(|at| (at, next)));
            next = next.saturating_add(1);
        }
        (uids, entries)
    }
}

/// Offsets and sizes have 32 bits in every map; no file that Dovecot writes is larger.
fn entry(placed: &Placed, item: Option<&Item>) -> MapEntry {
    MapEntry {
        file_id: placed.file,
        offset: u32::try_from(placed.start).unwrap_or(u32::MAX),
        size: u32::try_from(placed.size).unwrap_or(u32::MAX),
        refcount: item.map_or(0, |item| item.holders),
    }
}
