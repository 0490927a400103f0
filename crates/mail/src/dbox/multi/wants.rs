//! Wants: which messages each folder is to hold.
//!
//! # Invariants
//!
//! * A whole index is believed: what it does not list was expunged.
//! * Where an index is not whole, the map's counts tell what its folder still held: a message that no
//!   folder holds was expunged from all.
//! * What neither tells comes back, and is doubted.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::dbox::file::Guid;
use crate::dbox::folder::Case;
use crate::dbox::known::{Known, Trust};
use crate::dbox::multi::storage::Storage;
use crate::dbox::survey::report_name;
use crate::index::{Index, MapEntry, Record};
use crate::merge::Listing;

/// A message that a folder is to hold.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// The folder, among the cases.
    pub(crate) case: usize,
    pub(crate) uid: u32,
    pub(crate) guid: Option<Guid>,
    pub(crate) map_uid: Option<u32>,
    pub(crate) listing: Listing,
}

/// What all folders are to hold, and what was let go.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    /// By folder and UID.
    pub(crate) wants: Vec<Want>,
    /// Expunged since the snapshot: folder, GUID and UID.
    pub(crate) expunged: Vec<(usize, Option<Guid>, u32)>,
}

/// The sources of what folders held.
pub(crate) struct Sources<'a> {
    pub(crate) cases: &'a [Case],
    pub(crate) map: &'a Known,
    pub(crate) live: &'a Storage,
    pub(crate) once: &'a Storage,
}

impl Sources<'_> {
    /// Finds out what all folders are to hold.
    pub(crate) fn wants(&self) -> Wants {
        let mut wants = Wants::default();
        let mut left = Left::new(self.map);
        for (at, case) in self.cases.iter().enumerate() {
            if case.given_up {
                wants.expunge(at, case.known_once.index.as_ref());
            } else if case.known.trust == Trust::Whole {
                self.whole(at, case, &mut wants, &mut left);
            }
        }
        let broken = |case: &Case| !case.given_up && case.known.trust != Trust::Whole;
        let broken = self.cases.iter().enumerate().filter(|(_, case)| broken(case));
        let broken: Vec<(usize, &Case)> = broken.collect();
        let mut next: HashMap<usize, u32> = HashMap::new();
        for (at, case) in &broken {
            let highest = self.remembered(*at, case, &mut wants, &mut left);
            next.insert(*at, case.next_uid(highest));
        }
        for (guid, map_uid, at) in self.strays(&broken, &wants, &mut left) {
            let Some(next) = next.get_mut(&at) else { continue };
            let listing = match self.map.trust {
                Trust::Whole => Listing::Listed,
                Trust::Once | Trust::Nothing => Listing::Unknown,
            };
            let guid = Some(guid);
            wants.wants.push(Want { case: at, uid: *next, guid, map_uid, listing });
            *next = next.saturating_add(1);
        }
        wants.wants.sort_by_key(|want| (want.case, want.uid));
        wants
    }

    /// A folder with a whole index.
    fn whole(&self, at: usize, case: &Case, wants: &mut Wants, left: &mut Left) {
        let Some(index) = &case.known.index else { return };
        for record in index.records() {
            left.take(record.map_uid);
            wants.wants.push(self.want(at, &record, Listing::Listed));
        }
        if !case.shares_uids() {
            return;
        }
        for record in case.known_once.index.iter().flat_map(Index::records) {
            if index.holds(record.uid) == Some(false) {
                wants.expunged.push((at, record.guid, record.uid));
            }
        }
    }

    /// A folder whose index is not whole, or that is gone: what was known of it once. The highest
    /// UID among it.
    fn remembered(
        &self,
        at: usize,
        case: &Case,
        wants: &mut Wants,
        left: &mut Left,
    ) -> u32 {
        let mut records: BTreeMap<u32, Record> = BTreeMap::new();
        for known in [&case.known_once, &case.known] {
            let all = known.index.iter().flat_map(Index::records);
            records.extend(all.map(|record| (record.uid, record)));
        }
        let highest = records.keys().next_back().copied().unwrap_or(0);
        for (uid, record) in records {
            let expunged = case.known.index.as_ref().and_then(|it| it.holds(uid));
            let listing = match (expunged, left.take(record.map_uid)) {
                (Some(false), _) | (_, Some(false)) => {
                    wants.expunged.push((at, record.guid, uid));
                    continue;
                }
                (_, Some(true)) => Listing::Listed,
                (_, None) if case.live.is_none() => Listing::Listed,
                (_, None) => Listing::Unknown,
            };
            wants.wants.push(self.want(at, &record, listing));
        }
        highest
    }

    fn want(&self, case: usize, record: &Record, listing: Listing) -> Want {
        let place = || {
            let entry = self.map.index.as_ref()?.map_entry(record.map_uid?)?;
            self.live.at(entry.file_id, u64::from(entry.offset))
        };
        let guid = record.guid.or_else(|| self.live.guid(place()?));
        let (uid, map_uid) = (record.uid, record.map_uid);
        Want { case, uid, guid, map_uid, listing }
    }

    /// Messages that a folder without a whole index must have held, by GUID and UID in the map.
    fn strays(
        &self,
        broken: &[(usize, &Case)],
        wants: &Wants,
        left: &mut Left,
    ) -> Vec<(Guid, Option<u32>, usize)> {
        let wanted: HashSet<Guid> = wants.wants.iter().filter_map(|it| it.guid).collect();
        let mut strays = Vec::new();
        if self.map.trust == Trust::Whole {
            let held = wants.wants.iter().filter_map(|it| Some((it.case, it.guid?)));
            let mut held: HashSet<(usize, Guid)> = held.collect();
            let mut missing = missing(broken, wants);
            let places = self.places_of_map();
            // Those that say where they belong, before those of which it must be guessed.
            for by_name in [true, false] {
                for (map_uid, place, guid) in &places {
                    loop {
                        let holds = |at| held.contains(&(at, *guid));
                        let guess = Some(&missing).filter(|_| !by_name);
                        let at = self.target((broken, guess), *place, holds);
                        let Some(at) = at else { break };
                        if left.take(Some(*map_uid)) != Some(true) {
                            break;
                        }
                        held.insert((at, *guid));
                        missing.entry(at).and_modify(|count| *count -= 1);
                        strays.push((*guid, Some(*map_uid), at));
                    }
                }
            }
            strays.sort_by_key(|(_, map_uid, _)| *map_uid);
            return strays;
        }
        let gone: HashSet<Guid> = wants.expunged.iter().filter_map(|it| it.1).collect();
        for (place, held) in self.live.held.iter().enumerate() {
            let name = self.live.folder(place);
            let at = broken.iter().find(|(_, case)| Some(&*case.name) == name);
            if let Some(((at, _), guid)) = at.zip(held.message.trailer.guid)
                && !wanted.contains(&guid)
                && !gone.contains(&guid)
                && self.once.find(&guid).is_none()
            {
                strays.push((guid, None, *at));
            }
        }
        strays
    }
}

impl Sources<'_> {
    /// The messages that a map names and that are there: UID in the map, place, GUID.
    fn places_of_map(&self) -> Vec<(u32, usize, Guid)> {
        let entries = self.map.index.iter().flat_map(Index::map_entries);
        let place = |(map_uid, entry): (u32, MapEntry)| {
            let place = self.live.at(entry.file_id, u64::from(entry.offset))?;
            Some((map_uid, place, self.live.guid(place)?))
        };
        entries.filter_map(place).collect()
    }

    /// The folder that must have held a message: the one that it was delivered to; where that may be
    /// guessed, the one that misses most, else the inbox or any. `holds`: it is known to.
    fn target(
        &self,
        (broken, missing): (&[(usize, &Case)], Option<&Missing>),
        place: usize,
        holds: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let free: Vec<_> = broken.iter().filter(|(at, _)| !holds(*at)).collect();
        let Some(missing) = missing else {
            let name = self.live.folder(place);
            let by_name = free.iter().find(|(_, case)| Some(&*case.name) == name);
            return by_name.map(|(at, _)| *at);
        };
        let count = |at: &usize| missing.get(at).copied().unwrap_or(0);
        let by_count = free.iter().rev().max_by_key(|(at, _)| count(at));
        let by_count = by_count.filter(|(at, _)| count(at) > 0);
        let inbox = free.iter().find(|(_, case)| report_name(&case.name).is_empty());
        by_count.or(inbox).or(free.first()).map(|(at, _)| *at)
    }
}

/// How many messages folders held by the mail server's list of them, and are not found so far.
type Missing = HashMap<usize, i64>;

fn missing(broken: &[(usize, &Case)], wants: &Wants) -> Missing {
    let listed = |case: &Case| case.known.listed.as_ref()?.messages;
    let counts = broken.iter().filter_map(|(at, case)| Some((*at, listed(case)?.into())));
    let mut missing: Missing = counts.collect();
    for want in &wants.wants {
        missing.entry(want.case).and_modify(|count| *count -= 1);
    }
    missing
}

impl Wants {
    fn expunge(&mut self, at: usize, index: Option<&Index>) {
        let records = index.into_iter().flat_map(Index::records);
        self.expunged.extend(records.map(|record| (at, record.guid, record.uid)));
    }
}

/// How many folders are still to be found for each message of a whole map.
struct Left {
    counts: Option<HashMap<u32, u16>>,
}

impl Left {
    fn new(map: &Known) -> Self {
        let whole = map.index.as_ref().filter(|_| map.trust == Trust::Whole);
        let counts = |index: &Index| {
            index.map_entries().map(|(uid, entry)| (uid, entry.refcount)).collect()
        };
        Self { counts: whole.map(counts) }
    }

    /// Finds one folder of a message; whether there was one to find, if the map can tell.
    fn take(&mut self, map_uid: Option<u32>) -> Option<bool> {
        let left = self.counts.as_mut()?.entry(map_uid?).or_default();
        let found = *left > 0;
        *left = left.saturating_sub(1);
        Some(found)
    }
}
