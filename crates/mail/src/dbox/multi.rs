//! Multi: mdbox, files of many messages, a map of them, and folders that name them by the map.
//!
//! # Invariants
//!
//! * A message is its GUID: it is read and decided once, however many folders hold it.
//! * A message that is not good is in no file, in no map and in no folder from the same run on; its
//!   bytes are kept.
//! * Files are written before the map, and the map before the folders: whatever a crash leaves, folders
//!   still name every message by its GUID, and the next run finds it.

mod compose;
mod items;
mod map;
mod storage;
mod wants;

use std::collections::{BTreeMap, HashMap};

use crate::dbox::control;
use crate::dbox::desk::{Desk, Piece};
use crate::dbox::file::Guid;
use crate::dbox::folder::{Case, Home, cases, make_dirs, stage_log};
use crate::dbox::known::{Known, MAP, Trust};
use crate::dbox::memory;
use crate::dbox::record::Recorded;
use crate::dbox::survey::{Files, STORAGE, Survey, storage_path};
use crate::digest::{Fingerprint, to_hex};
use crate::doubt::DoubtKind;
use crate::finding::Finding;
use crate::index::{Index, Kind, Record, write_map};
use crate::ledger::Ledger;
use crate::manifest::ManifestEntry;
use crate::merge::{Decision, Listing};
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::Side;
use crate::stage::Phase;
use crate::walk::escape;

use items::{Item, Sides};
use map::Map;
use storage::{Held, Storage};
use wants::{Sources, Want, Wants};

/// Plans everything for one mailbox.
pub(crate) fn plan(
    desk: &mut Desk<'_, '_>,
    (mut live, mut snapshot): (Option<Survey>, Option<Survey>),
    (home, recorded): (Home, &Recorded<'_>),
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    control::stage(desk, (live.as_ref(), snapshot.as_ref()), (home, ledger))?;
    let cases = cases(desk, live.as_mut(), snapshot.as_mut())?;
    let files =
        [&live, &snapshot].map(|it| it.as_ref().and_then(|it| it.storage.as_ref()));
    let [now, once] = files;
    let stores = [
        Storage::scan(desk, Side::Live, now)?,
        Storage::scan(desk, Side::Snapshot, once)?,
    ];
    let uid_validity = named_validity(&cases);
    let map = read_map(desk, Side::Live, now)?.unless_another(uid_validity);
    let map_once = read_map(desk, Side::Snapshot, once)?;
    let [live, once] = &stores;
    let sides = Sides { live, once };
    let wants = Sources { cases: &cases, map: &map, live, once }.wants();
    if !recorded.served {
        let returned = wants.wants.iter().map(|want| want.case).collect();
        memory::name_lost_folders(&cases, &returned, ledger);
    }
    let mut items = items::find(&wants.wants, &map, sides);
    items::judge(desk, &mut items, sides, recorded)?;
    let layout = compose::layout(&items, sides, &map);
    let created = oldest(sides);
    let (now_known, once_known) = (&map, &map_once);
    let placed = &layout.placed;
    let items = &*items;
    let wished = map::Sources {
        now: now_known,
        once: once_known,
        uid_validity,
        items,
        placed,
        created,
    }
    .map();
    let mut plan = Plan { cases: &cases, items, sides, wished, created, home };
    set_odd_aside(desk, now, ledger)?;
    if now.is_none() {
        make_dirs(desk, STORAGE, home)?;
    }
    let kept = plan.keep_bad(desk)?;
    layout.stage(desk, (items, sides), (now, home))?;
    plan.stage_map(desk, (now, &map), ledger)?;
    plan.book(&wants, (&kept, recorded), ledger);
    plan.stage_folders(desk, &wants, ledger)?;
    memory::recall(desk, &cases, ledger)
}

/// The UIDVALIDITY of the map that most whole folders name.
fn named_validity(cases: &[Case]) -> Option<u32> {
    let named = |known: &Known| known.index.as_ref().and_then(Index::map_uid_validity);
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.known.trust == Trust::Whole) {
        if let Some(validity) = named(&case.known) {
            *counts.entry(validity).or_default() += 1;
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    let once = || cases.iter().find_map(|case| named(&case.known_once));
    most.map(|(validity, _)| validity).or_else(once)
}

fn read_map(
    desk: &mut Desk<'_, '_>,
    side: Side,
    files: Option<&Files>,
) -> Result<Known, Refusal> {
    match files {
        Some(files) => Known::read(desk, side, (STORAGE, MAP), files),
        None => Ok(Known::nothing()),
    }
}

/// When the oldest message came.
fn oldest(sides: Sides<'_>) -> u32 {
    let held = sides.live.held.iter().chain(&sides.once.held);
    let received = held.filter_map(|held| held.message.trailer.received);
    received.min().unwrap_or(1).max(1)
}

/// Where the bytes of messages that are not served are kept, by item: how many, and where.
type Kept = HashMap<usize, (u64, String)>;

struct Plan<'a> {
    cases: &'a [Case],
    items: &'a [Item],
    sides: Sides<'a>,
    wished: Map,
    created: u32,
    home: Home,
}

impl Plan<'_> {
    /// Copies bytes that are not served out of their files, at once: the files change later.
    fn keep_bad(&self, desk: &mut Desk<'_, '_>) -> Result<Kept, Refusal> {
        let mut kept = Kept::new();
        for (at, item) in self.items.iter().enumerate() {
            let Decision::SetAside(_) = item.verdict.decision else { continue };
            let held = item.live.and_then(|place| self.sides.live.held.get(place));
            let (file, range) = match (held, item.entry, item.damaged) {
                (Some(Held { file, message, .. }), ..) => {
                    (*file, message.start..message.end)
                }
                (None, Some(entry), Some(damaged)) => {
                    let from = u64::from(entry.offset);
                    let to = from.saturating_add(u64::from(entry.size));
                    let length = self.sides.live.files.get(&entry.file_id);
                    let length = length.map_or(damaged.end, |file| file.meta.size);
                    (entry.file_id, from..to.min(length))
                }
                (None, ..) => continue,
            };
            let size = range.end.saturating_sub(range.start);
            let rel = storage_path(file);
            let part = Piece::Part { side: Side::Live, rel, range };
            let like = self.home.new_file();
            let staged = desk.stage_pieces(&[part], like)?;
            let name = to_hex(&item.guid);
            kept.insert(at, (size, desk.keep(&staged, (STORAGE, &name))?));
        }
        Ok(kept)
    }

    fn stage_map(
        &self,
        desk: &mut Desk<'_, '_>,
        (files, map): (Option<&Files>, &Known),
        ledger: &mut Ledger,
    ) -> Result<(), Refusal> {
        let control = files.map(|files| &files.control);
        if let Some(state) = &self.wished.state {
            let empty = state.entries.is_empty() && map.trust == Trust::Nothing;
            if empty && !map.damaged {
                return Ok(());
            }
            let bytes = write_map(state);
            let at = (STORAGE, MAP, STORAGE);
            stage_log(desk, Phase::Messages, at, control, (&bytes, self.home))?;
            if map.damaged || map.trust != Trust::Whole {
                ledger.doubt(b"", MAP, None, DoubtKind::IndexDamaged);
            }
            return Ok(());
        }
        for (name, meta) in &map.stale {
            let rel = crate::walk::join(STORAGE, name);
            desk.bench.aside("kept", (STORAGE, &rel), meta)?;
        }
        Ok(())
    }

    /// Books every message in every folder that held it.
    fn book(
        &self,
        wants: &Wants,
        (kept, recorded): (&Kept, &Recorded<'_>),
        ledger: &mut Ledger,
    ) {
        let folder = |at: usize| self.cases.get(at).map_or(&b""[..], Case::report_name);
        for (case, guid, uid) in &wants.expunged {
            ledger.deleted((folder(*case), &name(*guid, *uid)));
        }
        let by_guid = self.by_guid();
        for want in &wants.wants {
            let folder = folder(want.case);
            let guid = want.guid.or_else(|| recorded.guid(folder, want.uid));
            let name = name(guid, want.uid);
            let found = want.guid.and_then(|guid| by_guid.get(&guid).copied());
            match found.and_then(|at| Some((at, self.items.get(at)?))) {
                Some(found) => {
                    self.book_want((want, found), (folder, &name), kept, ledger);
                }
                None => {
                    ledger.lost((folder, &name), Some(want.uid), Reason::Missing);
                }
            }
        }
    }

    fn by_guid(&self) -> HashMap<Guid, usize> {
        self.items.iter().enumerate().map(|(at, item)| (item.guid, at)).collect()
    }

    fn book_want(
        &self,
        (want, (at, item)): (&Want, (usize, &Item)),
        (folder, name): (&[u8], &[u8]),
        kept: &Kept,
        ledger: &mut Ledger,
    ) {
        let uid = Some(want.uid);
        match item.verdict.decision {
            Decision::Intact => ledger.kept(false),
            Decision::Newer => ledger.kept(true),
            Decision::Repair { doubtful } => {
                ledger.counts.repaired += 1;
                if doubtful {
                    let finding =
                        ledger.doubt(folder, name, uid, DoubtKind::BothLookGood);
                    self.tell(finding, item);
                }
            }
            Decision::Return { .. } => ledger.counts.returned += 1,
            Decision::Deleted => ledger.deleted((folder, name)),
            Decision::SetAside(reason) => {
                let kept = kept.get(&at).cloned();
                let finding = ledger.set_aside((folder, name), uid, reason, kept);
                self.tell(finding, item);
            }
            Decision::Lost(reason) => {
                let finding = ledger.lost((folder, name), uid, reason);
                self.tell(finding, item);
            }
        }
        let Some((side, place, digest)) = item.served() else { return };
        if want.listing == Listing::Unknown {
            let finding = ledger.doubt(folder, name, uid, DoubtKind::DeletionUnproved);
            self.tell(finding, item);
        }
        let held = match side {
            Side::Live => self.sides.live.held.get(place),
            Side::Snapshot => self.sides.once.held.get(place),
        };
        let (folder, name) = (folder.to_vec(), name.to_vec());
        let size_bytes = held.map_or(0, |held| held.message.size);
        let fingerprint = Fingerprint::Xxh3(digest);
        ledger.good(ManifestEntry { folder, name, uid, size_bytes, fingerprint });
    }

    /// Adds what is known of a message to what is told of it.
    fn tell(&self, finding: &mut Finding, item: &Item) {
        let live = item.live.and_then(|place| self.sides.live.held.get(place));
        let once = item.once.and_then(|place| self.sides.once.held.get(place));
        let received = live.or(once).and_then(|held| held.message.trailer.received);
        finding.received = received.map(u64::from);
        finding.rungs = item.verdict.rungs;
    }

    /// Writes the indexes of folders anew that would not serve exactly what is good.
    fn stage_folders(
        &mut self,
        desk: &mut Desk<'_, '_>,
        wants: &Wants,
        ledger: &mut Ledger,
    ) -> Result<(), Refusal> {
        let by_guid = self.by_guid();
        let mut wants = wants.wants.iter().peekable();
        for (at, case) in self.cases.iter().enumerate() {
            let mut served: Vec<(u32, u32, usize)> = Vec::new();
            while let Some(want) = wants.next_if(|want| want.case == at) {
                let item = want.guid.and_then(|guid| by_guid.get(&guid).copied());
                let uid =
                    item.and_then(|item| Some((self.wished.uids.get(&item)?, item)));
                served.extend(uid.map(|(map_uid, item)| (want.uid, *map_uid, item)));
            }
            if case.given_up || case.is_name_only() && served.is_empty() {
                continue;
            }
            case.stage_dirs(desk, self.home)?;
            let known = &case.known;
            let listed = known.index.iter().flat_map(Index::records);
            let named = known.index.as_ref().and_then(Index::map_uid_validity);
            let true_so_far = known.trust == Trust::Whole
                && (named == Some(self.wished.uid_validity) || served.is_empty())
                && served
                    .iter()
                    .map(|it| (it.0, Some(it.1)))
                    .eq(listed.map(|record| (record.uid, record.map_uid)));
            if true_so_far {
                case.stage_stale(desk)?;
                continue;
            }
            if case.is_blank(served.is_empty()) {
                continue;
            }
            let record = |(uid, map_uid, item): (u32, u32, usize)| {
                let known = case.record(uid, Some(uid));
                let item = self.items.get(item);
                let received = item.and_then(|item| self.received(item));
                let record = known.unwrap_or_default();
                Record {
                    uid,
                    map_uid: Some(map_uid),
                    save_date: record.save_date.or(received),
                    guid: item.map(|item| item.guid),
                    ..record
                }
            };
            let records = served.into_iter().map(record).collect();
            let mut state = case.state(records, self.created);
            state.map_uid_validity = self.wished.uid_validity;
            let log = (&state, Kind::Mdbox, Phase::Messages);
            case.stage_index(desk, log, (self.home, ledger))?;
        }
        Ok(())
    }

    fn received(&self, item: &Item) -> Option<u32> {
        let live = item.live.and_then(|place| self.sides.live.held.get(place));
        let once = item.once.and_then(|place| self.sides.once.held.get(place));
        live.or(once)?.message.trailer.received
    }
}

/// Plans what is no file out of the place of one.
fn set_odd_aside(
    desk: &mut Desk<'_, '_>,
    files: Option<&Files>,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    for (number, meta) in files.into_iter().flat_map(|files| &files.odd_mails) {
        let rel = storage_path(*number);
        let kept = desk.bench.aside("quarantine", (STORAGE, &rel), meta)?;
        let at = (STORAGE, format!("m.{number}"));
        let at = (at.0, at.1.as_bytes());
        ledger.set_aside(at, None, Reason::NotRegular, Some((0, kept)));
    }
    Ok(())
}

/// The name of a message: its GUID, or what is known of it.
fn name(guid: Option<Guid>, uid: u32) -> Vec<u8> {
    match guid {
        Some(guid) => to_hex(&guid).into_bytes(),
        None => escape(format!("uid.{uid}").as_bytes()).into_bytes(),
    }
}
