//! Single: sdbox, a file for each message, all else in the index.
//!
//! # Invariants
//!
//! * A message is its folder and GUID; its UID is the name of its file, which no other message gets.
//! * What the index says was expunged stays so; a message that it cannot speak of comes back.
//! * A file whose message is not good is not listed by the index from the same run on.

mod twins;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::dbox::aliases::Aliases;
use crate::dbox::control;
use crate::dbox::desk::{Desk, Mail};
use crate::dbox::file::Guid;
use crate::dbox::folder::{Case, Home, cases};
use crate::dbox::judged::Judged;
use crate::dbox::known::Trust;
use crate::dbox::memory;
use crate::dbox::record::Recorded;
use crate::dbox::survey::{Survey, mail_path};
use crate::digest::{Digest, from_hex, to_hex};
use crate::doubt::DoubtKind;
use crate::finding::Finding;
use crate::index::{Index, Kind, Record};
use crate::judge::{Depth, Findings, Rungs};
use crate::ledger::Ledger;
use crate::manifest::ManifestEntry;
use crate::merge::{self, Decision, Evidence, Listing, Verdict, decide};
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::{Like, Side};
use crate::stage::Phase;
use crate::walk::Meta;

use twins::Twin;

/// Plans everything for one mailbox.
pub(crate) fn plan(
    desk: &mut Desk<'_, '_>,
    (mut live, mut snapshot): (Option<Survey>, Option<Survey>),
    (home, recorded): (Home, &Recorded<'_>),
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    control::stage(desk, (live.as_ref(), snapshot.as_ref()), (home, ledger))?;
    let mut aliases = Aliases::default();
    let mut mails = Vec::new();
    let cases = cases(desk, live.as_mut(), snapshot.as_mut())?;
    for case in &cases {
        mails.push(read_live(desk, case, &mut aliases)?);
    }
    let mut folders = Vec::new();
    for (case, mails) in cases.iter().zip(mails) {
        let mut folder = Plan::new(case, mails, recorded, home);
        folder.read_snapshot(desk, &mut aliases)?;
        folders.push(folder);
    }
    twins::find(desk, &mut folders)?;
    let census = Census::of(&folders);
    for folder in &mut folders {
        folder.stage(desk, (&aliases, &census), ledger)?;
    }
    if !recorded.served {
        memory::name_lost_folders(&cases, &HashSet::new(), ledger);
    }
    memory::recall(desk, &cases, ledger)
}

type Mails = BTreeMap<u32, Seen>;

/// A message's file that was read.
struct Seen {
    guid: Option<Guid>,
    /// Seconds since 1970.
    received: Option<u32>,
    /// Bytes of the message, as stored.
    size: u64,
    judged: Judged,
}

impl Seen {
    fn new(mail: Mail) -> Self {
        let Mail { guid, received, size, findings } = mail;
        Self { guid, received, size, judged: Judged::new(findings) }
    }

    /// Its bytes are those of another message.
    fn is_another(&mut self) {
        self.judged.has_fault(Reason::Altered);
    }
}

/// Reads all messages of a live folder, in the order of the disk.
fn read_live(
    desk: &mut Desk<'_, '_>,
    case: &Case,
    aliases: &mut Aliases,
) -> Result<Mails, Refusal> {
    let files = case.live.iter().flat_map(|folder| &folder.mails);
    let mut files: Vec<_> = files.map(|(uid, meta)| (meta.inode, *uid, meta)).collect();
    files.sort_unstable_by_key(|(inode, uid, _)| (*inode, *uid));
    let mut mails = Mails::new();
    for (_, uid, meta) in files {
        let mail = desk.read_single(
            (Side::Live, &mail_path(&case.name, uid)),
            meta,
            Depth::Quick,
        )?;
        aliases.learn(mail.guid, &mail.findings);
        mails.insert(uid, Seen::new(mail));
    }
    Ok(mails)
}

/// Which messages stand anywhere, on each side.
struct Census {
    live: HashSet<Guid>,
    once: HashSet<Guid>,
}

impl Census {
    fn of(folders: &[Plan<'_>]) -> Self {
        let guids = |mails: &Mails| -> Vec<Guid> {
            mails.values().filter_map(|mail| mail.guid).collect()
        };
        Self {
            live: folders.iter().flat_map(|it| guids(&it.live)).collect(),
            once: folders.iter().flat_map(|it| guids(&it.snapshot)).collect(),
        }
    }
}

/// The plan for one folder.
struct Plan<'a> {
    case: &'a Case,
    recorded: &'a Recorded<'a>,
    home: Home,
    /// What was read of the live files, by UID.
    live: Mails,
    /// What was read of the snapshot's, by UID.
    snapshot: Mails,
    /// Messages of the snapshot that get new UIDs, and the UIDs that they had.
    origin: BTreeMap<u32, u32>,
    /// UIDs that are not those of the same message in the snapshot.
    moved: HashSet<u32>,
    /// Files of moved messages, in the folders that they were moved from.
    twins: BTreeMap<u32, Twin>,
    /// What the index is to hold.
    wished: BTreeMap<u32, Record>,
    /// Live files that leave, after the index has let them go.
    leaving: Vec<Leaving>,
}

/// A live file that is not served any more.
struct Leaving {
    uid: u32,
    meta: Meta,
    name: Vec<u8>,
    why: (Reason, Rungs),
}

impl<'a> Plan<'a> {
    fn new(case: &'a Case, live: Mails, recorded: &'a Recorded<'a>, home: Home) -> Self {
        Self {
            case,
            recorded,
            home,
            live,
            snapshot: Mails::new(),
            origin: BTreeMap::new(),
            moved: HashSet::new(),
            twins: BTreeMap::new(),
            wished: BTreeMap::new(),
            leaving: Vec::new(),
        }
    }

    /// The UIDs that the live index has, or what of it can be read.
    fn listed(&self) -> impl Iterator<Item = u32> + '_ {
        let records = self.case.known.index.iter().flat_map(Index::records);
        records.map(|record| record.uid)
    }

    /// Its directory.
    fn folder(&self) -> &[u8] {
        &self.case.name
    }

    /// Live messages that are not good and that the snapshot does not have here.
    fn bad_alone(&self) -> impl Iterator<Item = u32> + '_ {
        let bad = self.live.iter().filter(|(_, mail)| mail.judged.fault().is_some());
        bad.map(|(uid, _)| *uid).filter(|uid| self.origin(*uid).is_none())
    }

    /// The snapshot's files that are not here any more.
    fn moved_away(&self) -> impl Iterator<Item = (Vec<u8>, Meta)> + '_ {
        let files = self.case.snapshot.iter().flat_map(|(name, folder)| {
            folder
                .mails
                .iter()
                .map(move |(uid, meta)| (*uid, mail_path(name, *uid), *meta))
        });
        files.filter(|(uid, ..)| !self.live.contains_key(uid)).map(|it| (it.1, it.2))
    }

    fn live_file(&self, uid: u32) -> Option<(&Seen, Meta)> {
        let meta = self.case.live.as_ref()?.mails.get(&uid)?;
        Some((self.live.get(&uid)?, *meta))
    }

    fn take_twin(&mut self, uid: u32, twin: Twin, mail: Mail) {
        self.twins.insert(uid, twin);
        self.snapshot.insert(uid, Seen::new(mail));
    }

    /// Reads the snapshot's files that can still change something.
    fn read_snapshot(
        &mut self,
        desk: &mut Desk<'_, '_>,
        aliases: &mut Aliases,
    ) -> Result<(), Refusal> {
        let Some((name, folder)) = &self.case.snapshot else { return Ok(()) };
        if self.case.given_up {
            return Ok(());
        }
        let mut wanted: Vec<_> = folder
            .mails
            .iter()
            .filter(|(uid, _)| !self.is_settled(**uid))
            .map(|(uid, meta)| (meta.inode, *uid, *meta))
            .collect();
        wanted.sort_unstable_by_key(|(inode, uid, _)| (*inode, *uid));
        for (_, uid, meta) in wanted {
            let mail = desk.read_single(
                (Side::Snapshot, &mail_path(name, uid)),
                &meta,
                Depth::Quick,
            )?;
            aliases.learn(mail.guid, &mail.findings);
            self.snapshot.insert(uid, Seen::new(mail));
        }
        Ok(())
    }

    /// The snapshot's file would not change the decision.
    fn is_settled(&self, uid: u32) -> bool {
        match self.live.get(&uid) {
            Some(mail) => {
                let recorded = self.digest(mail.guid);
                let guid = self.recorded.guid(self.case.report_name(), uid);
                recorded.is_some()
                    && recorded == mail.judged.digest()
                    && guid == mail.guid
                    && self.case.shares_uids()
            }
            None => {
                let listing = self.listing(uid);
                listing == Listing::Unlisted || self.is_served(listing)
            }
        }
    }

    fn digest(&self, guid: Option<Guid>) -> Option<Digest> {
        self.recorded.digest(guid?)
    }

    fn listing(&self, uid: u32) -> Listing {
        if self.case.live.is_none() {
            return Listing::Listed;
        }
        let has_file = self.live.contains_key(&uid);
        match self.case.known.listing(uid, has_file) {
            // In another UIDVALIDITY, nobody expunged the message of old.
            Listing::Unlisted if !has_file && !self.case.shares_uids() => {
                Listing::Unknown
            }
            listing @ (Listing::Listed | Listing::Unlisted | Listing::Unknown) => listing,
        }
    }

    /// Its user may have deleted what is missing, unless the index still has it.
    fn is_served(&self, listing: Listing) -> bool {
        self.recorded.served && listing != Listing::Listed
    }

    fn stage(
        &mut self,
        desk: &mut Desk<'_, '_>,
        (aliases, census): (&Aliases, &Census),
        ledger: &mut Ledger,
    ) -> Result<(), Refusal> {
        if self.case.given_up {
            for record in self.case.known_once.index.iter().flat_map(Index::records) {
                let name = self.name(record.uid);
                ledger.deleted((self.case.report_name(), &name));
            }
            return Ok(());
        }
        if self.case.is_name_only() {
            return Ok(());
        }
        self.case.stage_dirs(desk, self.home)?;
        self.set_odd_aside(desk, ledger)?;
        self.separate();
        self.find_strays(census);
        for mail in self.live.values_mut().chain(self.snapshot.values_mut()) {
            if let Judged::Other(findings) = &mut mail.judged {
                aliases.forgive(findings);
            }
        }
        let files =
            [self.case.live.as_ref(), self.case.snapshot.as_ref().map(|it| &it.1)];
        let files = files.into_iter().flatten().flat_map(|it| it.mails.keys());
        let files = files.chain(self.origin.keys()).copied();
        let uids: BTreeSet<u32> = files.chain(self.listed()).collect();
        for uid in uids {
            self.decide(desk, uid, (aliases, ledger))?;
        }
        self.stage_index(desk, ledger)?;
        for Leaving { uid, meta, name, why: (reason, rungs) } in
            std::mem::take(&mut self.leaving)
        {
            let rel = mail_path(&self.case.name, uid);
            let kept =
                desk.bench.aside("quarantine", (&self.case.label(), &rel), &meta)?;
            let at = (self.case.report_name(), &*name);
            let kept = Some((meta.size, kept));
            let finding = ledger.set_aside(at, Some(uid), reason, kept);
            self.tell(finding, uid, rungs);
        }
        self.case.stage_stale(desk)
    }

    /// Marks messages whose file holds the bytes of another one.
    ///
    /// A copy of a message within its folder has its GUID too, and is a link to the same file.
    fn find_strays(&mut self, census: &Census) {
        let inode = |uid: &u32| Some(self.case.live.as_ref()?.mails.get(uid)?.inode);
        let mut owners: HashMap<Guid, Vec<(u32, Option<u64>)>> = HashMap::new();
        for (uid, mail) in &self.live {
            if let Some(guid) = mail.guid {
                owners.entry(guid).or_default().push((*uid, inode(uid)));
            }
        }
        let once = |uid: u32| self.snapshot.get(&uid).and_then(|mail| mail.guid);
        let folder = self.case.report_name();
        let mut strays: HashSet<u32> = HashSet::new();
        for (guid, owners) in owners.iter().filter(|(_, owners)| owners.len() > 1) {
            let expected = |uid| once(uid).or_else(|| self.recorded.guid(folder, uid));
            let own = |it: &&(u32, Option<u64>)| expected(it.0) == Some(*guid);
            let mut real: Vec<_> = owners.iter().filter(own).collect();
            if real.is_empty() {
                real.extend(owners.first());
            }
            let files: Vec<_> = real.iter().map(|(_, inode)| *inode).collect();
            let others = owners.iter().filter(|it| !real.contains(it));
            let others = others.filter(|(_, inode)| !files.contains(inode));
            strays.extend(others.map(|(uid, _)| *uid));
        }
        let mut once_owners: HashMap<Guid, usize> = HashMap::new();
        for guid in self.snapshot.values().filter_map(|mail| mail.guid) {
            *once_owners.entry(guid).or_default() += 1;
        }
        for (uid, mail) in &mut self.live {
            let once = self.snapshot.get_mut(uid);
            if strays.contains(uid) {
                mail.is_another();
            } else if let (Some(once), Some(guid)) = (once, mail.guid)
                && let Some(other) = once.guid.filter(|other| *other != guid)
            {
                // Whose message stands in its own place elsewhere has been written over this one.
                let twice = once_owners.get(&other).is_some_and(|count| *count > 1);
                let is_live = census.live.contains(&other);
                if twice || is_live && !census.once.contains(&guid) {
                    once.is_another();
                } else {
                    mail.is_another();
                }
            }
        }
    }

    /// Gives new UIDs to messages of the snapshot whose UIDs are others' by now.
    ///
    /// That happens where the mail server has lost an index and begun another UIDVALIDITY.
    fn separate(&mut self) {
        if self.case.shares_uids() {
            return;
        }
        let here: HashSet<Guid> = self.live.values().filter_map(|it| it.guid).collect();
        let highest = self.live.keys().chain(self.snapshot.keys()).max();
        let mut next = self.case.next_uid(highest.copied().unwrap_or(0));
        let others = self.snapshot.iter().filter(|(uid, once)| {
            let live = self.live.get(uid);
            live.is_some_and(|live| live.guid.is_some() && live.guid != once.guid)
                || once.guid.is_some_and(|guid| here.contains(&guid)) && live.is_none()
        });
        for uid in others.map(|(uid, _)| *uid).collect::<Vec<_>>() {
            let Some(mail) = self.snapshot.remove(&uid) else { continue };
            self.moved.insert(uid);
            if mail.guid.is_none_or(|guid| here.contains(&guid)) {
                continue;
            }
            self.snapshot.insert(next, mail);
            self.origin.insert(next, uid);
            next = next.saturating_add(1);
        }
    }

    /// The UID of a message in the snapshot.
    fn origin(&self, uid: u32) -> Option<u32> {
        let folder = &self.case.snapshot.as_ref()?.1;
        let same = folder.mails.contains_key(&uid) && !self.moved.contains(&uid);
        self.origin.get(&uid).copied().or(same.then_some(uid))
    }

    /// The name of a message: its GUID, or that of its file if none is known.
    fn name(&self, uid: u32) -> Vec<u8> {
        let once = self.snapshot.get(&uid);
        let once = once.filter(|it| it.judged.fault() != Some(Reason::Altered));
        let live = self.live.get(&uid);
        let live = live.filter(|it| it.judged.fault() != Some(Reason::Altered));
        let seen = live.or(once).and_then(|mail| mail.guid);
        let seen = seen.or_else(|| once.and_then(|mail| mail.guid));
        let folder = self.case.report_name();
        match seen.or_else(|| self.recorded.guid(folder, uid)) {
            Some(guid) => to_hex(&guid).into_bytes(),
            None => format!("u.{uid}").into_bytes(),
        }
    }

    fn decide(
        &mut self,
        desk: &mut Desk<'_, '_>,
        uid: u32,
        (aliases, ledger): (&Aliases, &mut Ledger),
    ) -> Result<(), Refusal> {
        let listing = self.listing(uid);
        let name = self.name(uid);
        let folder = self.case.report_name().to_vec();
        let (live, once) = (self.live.get(&uid), self.snapshot.get(&uid));
        let in_snapshot = self.origin(uid).is_some() || self.twins.contains_key(&uid);
        let guid = from_hex(&name);
        let weigh = |live: Option<&Findings>, once: Option<&Findings>| {
            decide(&Evidence {
                live,
                snapshot: match once {
                    Some(findings) => merge::Side::Read(findings),
                    None if in_snapshot => merge::Side::Unread,
                    None => merge::Side::Absent,
                },
                recorded: self.digest(guid).map(Into::into),
                listing,
                served: self.is_served(listing),
            })
        };
        let findings = |seen: Option<&Seen>| seen.map(|seen| seen.judged.findings());
        let mut verdict = weigh(findings(live).as_ref(), findings(once).as_ref());
        if verdict.decision == (Decision::Repair { doubtful: true }) {
            // Nothing tells at first sight: a closer look at both.
            let [live, once] = self.read_closely(desk, uid, aliases)?;
            verdict = weigh(live.as_ref(), once.as_ref());
        }
        if listing == Listing::Unlisted && live.is_some() {
            // Expunged, and its file is still there.
            if let Decision::SetAside(reason) = verdict.decision {
                self.leave(uid, name, (reason, verdict.rungs));
            } else {
                ledger.deleted((&folder, &name));
            }
            return Ok(());
        }
        self.carry_out(desk, (uid, name), (verdict, ledger))
    }

    /// Reads both sides' files of a message once more.
    fn read_closely(
        &self,
        desk: &mut Desk<'_, '_>,
        uid: u32,
        aliases: &Aliases,
    ) -> Result<[Option<Findings>; 2], Refusal> {
        let live = self.live_file(uid).map(|it| (mail_path(&self.case.name, uid), it.1));
        let mut seen = [None, None];
        let sides = [(Side::Live, live), (Side::Snapshot, self.source(uid))];
        for (seen, (side, file)) in seen.iter_mut().zip(sides) {
            let Some((path, meta)) = file else { continue };
            let mut mail = desk.read_single((side, &path), &meta, Depth::Deep)?;
            aliases.forgive(&mut mail.findings);
            *seen = Some(mail.findings);
        }
        Ok(seen)
    }

    fn leave(&mut self, uid: u32, name: Vec<u8>, why: (Reason, Rungs)) {
        let meta = self.case.live.as_ref().and_then(|it| it.mails.get(&uid));
        if let Some(meta) = meta {
            self.leaving.push(Leaving { uid, meta: *meta, name, why });
        }
    }

    fn carry_out(
        &mut self,
        desk: &mut Desk<'_, '_>,
        (uid, name): (u32, Vec<u8>),
        (verdict, ledger): (Verdict, &mut Ledger),
    ) -> Result<(), Refusal> {
        let folder = self.case.report_name().to_vec();
        let doubt = match verdict.decision {
            Decision::Repair { .. } if self.twins.contains_key(&uid) => {
                Some(DoubtKind::RepairedFromTwin)
            }
            Decision::Repair { doubtful: true } => Some(DoubtKind::BothLookGood),
            Decision::Return { doubtful: true } => Some(DoubtKind::DeletionUnproved),
            Decision::Intact
            | Decision::Newer
            | Decision::Repair { .. }
            | Decision::Return { .. }
            | Decision::Deleted
            | Decision::SetAside(_)
            | Decision::Lost(_) => None,
        };
        if let Some(kind) = doubt {
            let finding = ledger.doubt(&folder, &name, Some(uid), kind);
            self.tell(finding, uid, verdict.rungs);
        }
        let good = match verdict.decision {
            Decision::Intact | Decision::Newer => {
                ledger.kept(verdict.decision == Decision::Newer);
                self.live.get(&uid)
            }
            Decision::Repair { .. } => {
                ledger.counts.repaired += 1;
                self.bring(desk, uid)?;
                self.snapshot.get(&uid)
            }
            Decision::Return { .. } => {
                ledger.counts.returned += 1;
                self.bring(desk, uid)?;
                self.snapshot.get(&uid)
            }
            Decision::Deleted => {
                ledger.deleted((&folder, &name));
                None
            }
            Decision::SetAside(reason) => {
                self.leave(uid, name.clone(), (reason, verdict.rungs));
                None
            }
            Decision::Lost(reason) => {
                let finding = ledger.lost((&folder, &name), Some(uid), reason);
                self.tell(finding, uid, verdict.rungs);
                None
            }
        };
        let Some(mail) = good else { return Ok(()) };
        if let Some(digest) = mail.judged.digest() {
            let (uid, size_bytes) = (Some(uid), mail.size);
            let fingerprint = digest.into();
            ledger.good(ManifestEntry { folder, name, uid, size_bytes, fingerprint });
        }
        let here = Some(uid).filter(|uid| !self.moved.contains(uid));
        let once = self.origin.get(&uid).copied().or(here);
        let record = self.case.record(uid, once).unwrap_or_default();
        self.wished.insert(uid, Record { uid, ..record });
        Ok(())
    }

    /// Adds what is known of a message to what is told of it.
    fn tell(&self, finding: &mut Finding, uid: u32, rungs: Rungs) {
        let read = self.live.get(&uid).into_iter().chain(self.snapshot.get(&uid));
        let received = read.into_iter().find_map(|mail| mail.received);
        finding.received = received.map(u64::from);
        finding.rungs = rungs;
    }

    /// The snapshot's file of a message.
    fn source(&self, uid: u32) -> Option<(Vec<u8>, Meta)> {
        if let Some(twin) = self.twins.get(&uid) {
            return Some((twin.path.clone(), twin.meta));
        }
        let (name, folder) = self.case.snapshot.as_ref()?;
        let origin = self.origin(uid)?;
        Some((mail_path(name, origin), *folder.mails.get(&origin)?))
    }

    /// Stages the snapshot's file under the live name.
    fn bring(&self, desk: &mut Desk<'_, '_>, uid: u32) -> Result<(), Refusal> {
        let Some((path, meta)) = self.source(uid) else { return Ok(()) };
        let live = self.case.live.as_ref().and_then(|it| it.mails.get(&uid));
        let like = live.map_or_else(
            || self.home.file_like(&meta),
            |live| Like { modified: Some(meta.modified), ..Like::file(live) },
        );
        let digest = self.snapshot.get(&uid).and_then(|mail| mail.judged.digest());
        let from = (Side::Snapshot, &*path);
        let staged = desk.stage_single(from, (&meta, digest), like)?;
        let at = (&*self.case.label(), &*mail_path(&self.case.name, uid));
        desk.put(Phase::Messages, at, live, staged)
    }

    fn set_odd_aside(
        &mut self,
        desk: &mut Desk<'_, '_>,
        ledger: &mut Ledger,
    ) -> Result<(), Refusal> {
        for (uid, meta) in self.case.live.iter().flat_map(|it| &it.odd_mails) {
            let rel = mail_path(&self.case.name, *uid);
            let label = self.case.label();
            let kept = desk.bench.aside("quarantine", (&label, &rel), meta)?;
            let name = format!("u.{uid}");
            let at = (self.case.report_name(), name.as_bytes());
            ledger.set_aside(at, Some(*uid), Reason::NotRegular, Some((0, kept)));
        }
        Ok(())
    }

    /// Writes the index anew where it would not serve exactly what is good.
    fn stage_index(
        &self,
        desk: &mut Desk<'_, '_>,
        ledger: &mut Ledger,
    ) -> Result<(), Refusal> {
        let known = &self.case.known;
        let serves = self.listed().eq(self.wished.keys().copied());
        if known.trust == Trust::Whole && serves {
            return Ok(());
        }
        if self.case.is_blank(self.wished.is_empty()) {
            return Ok(());
        }
        let received = self.live.values().chain(self.snapshot.values());
        let received = received.filter_map(|mail| mail.received).min();
        let created = received.unwrap_or(1).max(1);
        let records = self.wished.values().cloned().collect();
        let state = self.case.state(records, created);
        // Before the messages: what it lists without a file comes back on the next run.
        let log = (&state, Kind::Sdbox, Phase::Keywords);
        self.case.stage_index(desk, log, (self.home, ledger))
    }
}
