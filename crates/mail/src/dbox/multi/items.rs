//! Items: each message once, however many folders hold it, and what becomes of it.
//!
//! # Invariants
//!
//! * A message is its GUID; where it stands is found by the map, else by its GUID.
//! * Bytes that stand in a message's place under another GUID are its bytes only if no folder holds
//!   that GUID, and then they are damaged.

use std::collections::{HashMap, HashSet};

use crate::dbox::aliases::Aliases;
use crate::dbox::desk::Desk;
use crate::dbox::file::{Damaged, Guid};
use crate::dbox::judged::Judged;
use crate::dbox::known::Known;
use crate::dbox::multi::storage::{BodyReader, Storage};
use crate::dbox::multi::wants::Want;
use crate::dbox::record::Recorded;
use crate::index::MapEntry;
use crate::judge::{Depth, Findings};
use crate::merge::{self, Decision, Evidence, Listing, Verdict, decide};
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::Side;

/// A message that some folder holds.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) guid: Guid,
    pub(crate) map_uid: Option<u32>,
    /// Where the map says that it is.
    pub(crate) entry: Option<MapEntry>,
    /// How many times folders hold it.
    pub(crate) holders: u16,
    listing: Listing,
    /// Its place among those held, on each side.
    pub(crate) live: Option<usize>,
    pub(crate) once: Option<usize>,
    /// The bytes in its place are not those of a message, or of another one.
    pub(crate) damaged: Option<Damaged>,
    is_another: bool,
    live_seen: Option<Judged>,
    once_seen: Option<Judged>,
    pub(crate) verdict: Verdict,
}

/// Both sides' messages.
#[derive(Clone, Copy)]
pub(crate) struct Sides<'a> {
    pub(crate) live: &'a Storage,
    pub(crate) once: &'a Storage,
}

impl Item {
    /// What is served of it: bytes of which side, and their digest.
    pub(crate) fn served(&self) -> Option<(Side, usize, [u8; 16])> {
        let (side, place, seen) = match self.verdict.decision {
            Decision::Intact | Decision::Newer => {
                (Side::Live, self.live, &self.live_seen)
            }
            Decision::Repair { .. } | Decision::Return { .. } => {
                (Side::Snapshot, self.once, &self.once_seen)
            }
            Decision::Deleted | Decision::SetAside(_) | Decision::Lost(_) => return None,
        };
        Some((side, place?, seen.as_ref()?.digest()?))
    }

    /// Where its bytes are to stand: as now, else as the map has it, else as in the snapshot.
    pub(crate) fn home(&self, sides: Sides<'_>) -> Option<(u32, u64)> {
        let place = |storage: &Storage, place: Option<usize>| {
            let held = storage.held.get(place?)?;
            Some((held.file, held.message.start))
        };
        let entry = self.entry.map(|entry| (entry.file_id, u64::from(entry.offset)));
        place(sides.live, self.live).or(entry).or_else(|| place(sides.once, self.once))
    }
}

/// Finds every message that is wanted, on both sides.
pub(crate) fn find(wants: &[Want], map: &Known, sides: Sides<'_>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut known: HashMap<Guid, usize> = HashMap::new();
    for want in wants {
        let Some(guid) = want.guid else { continue };
        let at = *known.entry(guid).or_insert_with(|| {
            items.push(Item::new(guid));
            items.len() - 1
        });
        let Some(item) = items.get_mut(at) else { continue };
        item.holders = item.holders.saturating_add(1);
        item.map_uid = item.map_uid.or(want.map_uid);
        if want.listing == Listing::Listed {
            item.listing = Listing::Listed;
        }
    }
    let wanted: HashSet<Guid> = known.into_keys().collect();
    for item in &mut items {
        item.resolve(map, sides, &wanted);
    }
    items
}

impl Item {
    fn new(guid: Guid) -> Self {
        Self {
            guid,
            map_uid: None,
            entry: None,
            holders: 0,
            listing: Listing::Unknown,
            live: None,
            once: None,
            damaged: None,
            is_another: false,
            live_seen: None,
            once_seen: None,
            verdict: Verdict {
                decision: Decision::Lost(Reason::Missing),
                rungs: crate::judge::Rungs::NONE,
            },
        }
    }

    fn resolve(&mut self, map: &Known, sides: Sides<'_>, wanted: &HashSet<Guid>) {
        let entry = map.index.as_ref().zip(self.map_uid);
        self.entry = entry.and_then(|(index, map_uid)| index.map_entry(map_uid));
        let place = self.entry.map(|entry| (entry.file_id, u64::from(entry.offset)));
        let there = place.and_then(|(file, start)| sides.live.at(file, start));
        let guid = there.and_then(|place| sides.live.guid(place));
        if guid == Some(self.guid) {
            self.live = there;
        } else if let Some(elsewhere) = sides.live.find(&self.guid) {
            self.live = Some(elsewhere);
        } else if there.is_some() && guid.is_none_or(|guid| !wanted.contains(&guid)) {
            (self.live, self.is_another) = (there, true);
        } else if let Some((file, start)) = place {
            self.damaged = sides.live.damage_at(file, start);
        }
        self.once = sides.once.find(&self.guid);
    }
}

/// Reads what the decisions need, each byte once and in the order of the files, and decides.
pub(crate) fn judge(
    desk: &mut Desk<'_, '_>,
    items: &mut [Item],
    sides: Sides<'_>,
    recorded: &Recorded<'_>,
) -> Result<(), Refusal> {
    let mut aliases = Aliases::default();
    let mut order: Vec<(usize, usize)> = items
        .iter()
        .enumerate()
        .filter_map(|(at, item)| Some((item.live?, at)))
        .collect();
    order.sort_unstable();
    let mut reader = BodyReader::new(Side::Live);
    for (place, at) in order {
        let Some((item, held)) = items.get_mut(at).zip(sides.live.held.get(place)) else {
            continue;
        };
        let mut findings = reader.judge(desk, held, Depth::Quick)?;
        if item.is_another {
            findings.faults.insert(0, Reason::Altered);
            findings.digest = None;
        }
        aliases.learn(Some(item.guid), &findings);
        item.live_seen = Some(Judged::new(findings));
    }
    for item in items.iter_mut() {
        if let Some((damaged, entry)) = item.damaged.zip(item.entry) {
            let reason = reader.reason(desk, entry.file_id, &damaged)?;
            item.live_seen = Some(Judged::new(Findings::unread(reason)));
        }
    }
    let settled = |item: &Item| {
        let digest = recorded.digest(item.guid);
        let seen = item.live_seen.as_ref().and_then(|seen| seen.findings().digest);
        digest.is_some() && seen == digest
    };
    let mut order: Vec<(usize, usize)> = items
        .iter()
        .enumerate()
        .filter(|(_, item)| !settled(item))
        .filter_map(|(at, item)| Some((item.once?, at)))
        .collect();
    order.sort_unstable();
    let mut reader = BodyReader::new(Side::Snapshot);
    for (place, at) in order {
        let Some((item, held)) = items.get_mut(at).zip(sides.once.held.get(place)) else {
            continue;
        };
        let findings = reader.judge(desk, held, Depth::Quick)?;
        aliases.learn(Some(item.guid), &findings);
        item.once_seen = Some(Judged::new(findings));
    }
    for item in items {
        item.decide(desk, sides, (&aliases, recorded))?;
    }
    Ok(())
}

impl Item {
    fn decide(
        &mut self,
        desk: &mut Desk<'_, '_>,
        sides: Sides<'_>,
        (aliases, recorded): (&Aliases, &Recorded<'_>),
    ) -> Result<(), Refusal> {
        let mut seen = [&self.live_seen, &self.once_seen]
            .map(|seen| seen.as_ref().map(Judged::findings));
        seen.iter_mut().flatten().for_each(|findings| aliases.forgive(findings));
        let [live, once] = &seen;
        self.verdict = self.weigh(live.as_ref(), once.as_ref(), recorded);
        let doubtful = self.verdict.decision == Decision::Repair { doubtful: true };
        if let (true, Some(live), Some(once)) = (doubtful, self.live, self.once) {
            // Nothing tells at first sight: a closer look at both.
            let held = sides.live.held.get(live).zip(sides.once.held.get(once));
            if let Some((live, once)) = held {
                let live = BodyReader::new(Side::Live).judge(desk, live, Depth::Deep)?;
                let once =
                    BodyReader::new(Side::Snapshot).judge(desk, once, Depth::Deep)?;
                seen = [Some(live), Some(once)];
                seen.iter_mut().flatten().for_each(|it| aliases.forgive(it));
                let [live, once] = &seen;
                self.verdict = self.weigh(live.as_ref(), once.as_ref(), recorded);
            }
        }
        Ok(())
    }

    fn weigh(
        &self,
        live: Option<&Findings>,
        once: Option<&Findings>,
        recorded: &Recorded<'_>,
    ) -> Verdict {
        decide(&Evidence {
            live,
            snapshot: match once {
                Some(findings) => merge::Side::Read(findings),
                None if self.once.is_some() => merge::Side::Unread,
                None => merge::Side::Absent,
            },
            recorded: recorded.digest(self.guid).map(Into::into),
            listing: self.listing,
            served: recorded.served && self.listing != Listing::Listed,
        })
    }
}
