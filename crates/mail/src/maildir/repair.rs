//! Repair: from two surveys of a mailbox to the acts that make it whole.
//!
//! # Invariants
//!
//! * The same two sides always give the same acts; sides that agree give none.
//! * Every message known to either side ends in exactly one of the counts.

mod whereabouts;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::maildir::control::{self, KeywordTables};
use crate::doubt::DoubtKind;
use crate::finding::{Cause, Finding, Source};
use crate::index::LastFlags;
use crate::ledger::Ledger;
use crate::manifest::{Manifest, ManifestEntry};
use crate::merge::{self, Decision, Evidence, Listing, Verdict};
use crate::digest::Digest;
use crate::judge::{Findings, Rungs};
use crate::maildir::name::MailName;
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::{Act, Like, Side};
use crate::stage::{Bench, Phase};
use crate::maildir::survey::{
    Folder, Mail, Place, Sub, Survey, folder_path, label, survey,
};
use crate::maildir::twin;
use crate::maildir::uidlist::{Known, Lists, Uidlist};
use crate::walk::{Meta, escape};

/// So many different messages to one other address make it the owner's: a storm that swaps
/// bytes one by one does not hit one mailbox twice with the same neighbour's whole mail.
const ALIAS_MESSAGES_MIN: usize = 2;

/// Owner and modes for what has no live file to take them from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home {
    /// The live Maildir, or the snapshot's if the live one is gone.
    meta: Meta,
}

impl Home {
    /// For a file brought back from the snapshot.
    pub(crate) fn file_like(self, snapshot: &Meta) -> Like {
        Like { uid: self.meta.uid, gid: self.meta.gid, ..Like::file(snapshot) }
    }

    /// For a file that neither side has.
    pub(crate) fn new_file(self) -> Like {
        Like { mode: self.meta.mode & 0o666, modified: None, ..Like::file(&self.meta) }
    }

    fn dir(self) -> Like {
        Like { modified: None, ..Like::file(&self.meta) }
    }
}

/// One folder on both sides.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name live, or in the snapshot if it is lost.
    pub(crate) name: Vec<u8>,
    pub(crate) live: Option<Folder>,
    pub(crate) snapshot: Option<Folder>,
    pub(crate) home: Home,
    /// The mail server would refuse the folder for its index.
    pub(crate) index_broken: bool,
    /// Its owner deleted the whole folder.
    given_up: bool,
    lists: Lists,
    findings: HashMap<(Side, usize), Findings>,
    choices: Vec<Choice>,
    doubts: Vec<Finding>,
}

/// One message: its files, and what becomes of it.
#[derive(Debug)]
struct Choice {
    base: Vec<u8>,
    /// Index of the live file taken.
    live: Option<usize>,
    /// Other live files of the same name.
    spare: Vec<usize>,
    /// Index of the snapshot's file taken.
    snapshot: Option<usize>,
    decision: Decision,
    /// The evidence that decided.
    rungs: Rungs,
    /// Case and index of the snapshot's file whose bytes repair it.
    twin: Option<(usize, usize)>,
    /// It comes back although its folder's list has let it go: as new mail.
    regained: bool,
}

#[derive(Debug, Default)]
struct Group {
    live: Vec<usize>,
    snapshot: Vec<usize>,
}

/// What was found out before this run.
#[derive(Debug)]
struct Past<'a> {
    /// Digests of the mailbox's manifest by folder and name.
    recorded: &'a HashMap<(&'a [u8], &'a [u8]), Digest>,
    /// The mailbox was open since, so that missing mail was deleted by its user.
    served: bool,
}

impl Past<'_> {
    fn digest(&self, folder: &[u8], base: &[u8]) -> Option<Digest> {
        self.recorded.get(&(folder, base)).copied()
    }
}

/// Plans everything for one mailbox: stages bytes and acts on `bench`, outcomes in `ledger`.
pub(crate) fn plan(
    bench: &mut Bench<'_>,
    past: &crate::store::Past<'_>,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    let recorded = past.manifest.map(Manifest::digests).unwrap_or_default();
    let maildir = bench.path(b"");
    let live = survey(&bench.roots().live, &maildir)?;
    let snapshot = match &bench.roots().snapshot {
        Some(root) => survey(root, &maildir)?,
        None => None,
    };
    let home = match (&live, &snapshot) {
        (Some(side), _) | (None, Some(side)) => Home { meta: side.meta },
        (None, None) => return Err(Refusal::NotThere { path: escape(&maildir) }),
    };
    // A mailbox whose Maildir is gone was not emptied by its user.
    let past = Past { recorded: &recorded, served: past.served && live.is_some() };
    if live.is_none() {
        make_parents(bench, &maildir, home)?;
    }
    ledger.odd_items(live.as_ref());
    let mut cases = cases(bench, (live, snapshot), home)?;
    read_needed(bench, &mut cases, &past)?;
    let aliases = aliases(&cases);
    forgive(&mut cases, &aliases);
    for case in &mut cases {
        case.decide(&past);
    }
    find_twins(bench, &mut cases)?;
    whereabouts::reconsider(bench, &mut cases, (&past, &aliases))?;
    for index in 0..cases.len() {
        stage_case(bench, &mut cases, index, (&past, ledger))?;
    }
    Ok(())
}

/// Plans the directories down to a lost Maildir.
fn make_parents(
    bench: &mut Bench<'_>,
    maildir: &[u8],
    home: Home,
) -> Result<(), Refusal> {
    let ends = maildir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let ends: Vec<usize> = ends.map(|(at, _)| at).chain([maildir.len()]).collect();
    for end in ends {
        let path = maildir.get(..end).unwrap_or(maildir);
        let there = bench.roots().live.dir_if_there(path);
        if there.map_err(|errno| Refusal::read(path, errno))?.is_some() {
            continue;
        }
        let snapshot = bench.roots().snapshot.as_ref();
        let meta = snapshot.and_then(|root| root.dir(path).ok()?.meta().ok());
        let like =
            meta.map_or(home.dir(), |meta| Like { modified: None, ..Like::file(&meta) });
        bench.act(Phase::Directories, Act::MakeDir { path: path.to_vec(), like });
    }
    Ok(())
}

/// Pairs the folders of both sides: by name, else by GUID, as a renamed folder keeps its GUID.
fn cases(
    bench: &mut Bench<'_>,
    (live, snapshot): (Option<Survey>, Option<Survey>),
    home: Home,
) -> Result<Vec<Case>, Refusal> {
    let live = live.map(|side| side.folders).unwrap_or_default();
    let deleted = control::deleted_folders(bench, live.get(&b""[..]))?;
    let mut snapshot = snapshot.map(|side| side.folders).unwrap_or_default();
    let mut orphans: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (name, folder) in snapshot.iter().filter(|(name, _)| !live.contains_key(*name)) {
        let list = control::uidlist(bench, Side::Snapshot, Some(folder))?;
        if let Some(guid) = list.as_ref().and_then(Uidlist::guid) {
            orphans.insert(guid.to_vec(), name.clone());
        }
    }
    let mut cases = Vec::new();
    for (name, folder) in live {
        let list = control::uidlist(bench, Side::Live, Some(&folder))?;
        let guid = list.as_ref().and_then(Uidlist::guid);
        let other = match snapshot.remove(&name) {
            Some(same_name) => Some(same_name),
            None => guid
                .and_then(|guid| orphans.remove(guid))
                .and_then(|name| snapshot.remove(&name)),
        };
        cases.push(Case::new(bench, (Some(folder), list), other, home)?);
    }
    orphans.retain(|guid, _| deleted.contains(guid));
    let given_up: HashSet<Vec<u8>> = orphans.into_values().collect();
    for (name, folder) in snapshot {
        let mut case = Case::new(bench, (None, None), Some(folder), home)?;
        case.given_up = given_up.contains(&name);
        cases.push(case);
    }
    Ok(cases)
}

impl Case {
    fn new(
        bench: &mut Bench<'_>,
        (live, live_list): (Option<Folder>, Option<Uidlist>),
        snapshot: Option<Folder>,
        home: Home,
    ) -> Result<Self, Refusal> {
        let snapshot_list = control::uidlist(bench, Side::Snapshot, snapshot.as_ref())?;
        let names: HashSet<&[u8]> = live
            .iter()
            .flat_map(|folder| &folder.mails)
            .map(|mail| MailName::parse(&mail.name).base)
            .collect();
        let live_list = live_list.unwrap_or_else(Uidlist::lost);
        let index = control::index(bench, live.as_ref())?;
        let index_broken = index.is_broken();
        let lists = Lists::new(live_list, snapshot_list, (&names, index));
        let name = live.as_ref().or(snapshot.as_ref()).map(|folder| folder.name.clone());
        Ok(Self {
            name: name.unwrap_or_default(),
            live,
            snapshot,
            home,
            index_broken,
            given_up: false,
            lists,
            findings: HashMap::new(),
            choices: Vec::new(),
            doubts: Vec::new(),
        })
    }

    pub(crate) fn doubt(&mut self, kind: DoubtKind, name: &[u8], uid: Option<u32>) {
        self.doubts.push(Finding::new((&self.name, name), uid, Cause::Doubt(kind)));
    }

    /// Its user may have deleted what is missing. Users do not delete mail directories.
    fn was_served(&self, past: &Past<'_>) -> bool {
        let whole = |folder: &Folder| folder.has[..2] == [true, true];
        past.served && self.live.as_ref().is_none_or(whole)
    }

    /// The letters of live messages with the names of the keywords that they had last.
    pub(crate) fn seen_keywords(&self) -> Vec<(Vec<u8>, BTreeSet<Vec<u8>>)> {
        let known = self.lists.known();
        let mails = self.live.iter().flat_map(|folder| &folder.mails);
        let seen = mails.filter_map(|mail| {
            let name = MailName::parse(&mail.name);
            let keywords = self.lists.last_flags(known.uid(name.base))?.keywords?;
            let letters = name.info.unwrap_or_default().to_vec();
            Some((letters, keywords))
        });
        seen.collect()
    }

    /// What is known of a message that is missing live.
    fn listing(&self, base: &[u8], known: &Known<'_>) -> Listing {
        if self.given_up { Listing::Unlisted } else { self.lists.listing(base, known) }
    }

    fn side(&self, side: Side) -> Option<&Folder> {
        match side {
            Side::Live => self.live.as_ref(),
            Side::Snapshot => self.snapshot.as_ref(),
        }
    }

    fn mail(&self, side: Side, index: usize) -> Option<&Mail> {
        self.side(side)?.mails.get(index)
    }

    fn place(&self, side: Side, index: usize) -> Option<Place<'_>> {
        let folder = self.side(side)?;
        Some(Place { side, folder: &folder.name, mail: folder.mails.get(index)? })
    }

    fn groups(&self) -> BTreeMap<Vec<u8>, Group> {
        let mut groups: BTreeMap<Vec<u8>, Group> = BTreeMap::new();
        for side in [Side::Live, Side::Snapshot] {
            let mails = self.side(side).map(|folder| &*folder.mails).unwrap_or_default();
            for (index, mail) in mails.iter().enumerate() {
                let base = MailName::parse(&mail.name).base.to_vec();
                let group = groups.entry(base).or_default();
                match side {
                    Side::Live => group.live.push(index),
                    Side::Snapshot => group.snapshot.push(index),
                }
            }
        }
        groups
    }

    /// The file to take among several of one name: good before bad, `cur` before `new`.
    fn pick(
        &self,
        side: Side,
        among: &[usize],
        recorded: Option<Digest>,
    ) -> Option<usize> {
        let rank = |index: &usize| {
            let findings = self.findings.get(&(side, *index));
            let mail = self.mail(side, *index);
            let as_recorded = recorded.is_some()
                && findings.is_some_and(|findings| findings.digest == recorded);
            let good = findings.is_none_or(|findings| findings.fault().is_none());
            let place =
                mail.map_or((Sub::Tmp, Vec::new()), |it| (it.sub, it.name.clone()));
            (!as_recorded, !good, place)
        };
        among.iter().copied().min_by_key(rank)
    }

    /// Books what its user has deleted and neither the snapshot nor the UID list knows, and all of
    /// a deleted folder.
    fn book_deletions(&self, past: &Past<'_>, ledger: &mut Ledger) {
        let known = self.lists.known();
        let folder_is_there = self.live.is_some();
        let held: HashSet<&[u8]> = self
            .choices
            .iter()
            .filter(|_| folder_is_there)
            .map(|choice| &*choice.base)
            .collect();
        for (folder, base) in past.recorded.keys().filter(|(it, _)| *it == self.name) {
            let listed = folder_is_there && known.uid(base).is_some();
            if !held.contains(base) && !listed {
                ledger.deleted((folder, base));
            }
        }
    }

    fn decide(&mut self, past: &Past<'_>) {
        let mut choices = Vec::new();
        let known = self.lists.known();
        for (base, group) in self.groups() {
            let recorded = past.digest(&self.name, &base);
            let live = self.pick(Side::Live, &group.live, recorded);
            let snapshot = self.pick(Side::Snapshot, &group.snapshot, recorded);
            let read = |index| self.findings.get(&(Side::Snapshot, index));
            let evidence = Evidence {
                live: live.and_then(|index| self.findings.get(&(Side::Live, index))),
                snapshot: match snapshot {
                    Some(index) => {
                        read(index).map_or(merge::Side::Unread, merge::Side::Read)
                    }
                    None => merge::Side::Absent,
                },
                recorded: recorded.map(Into::into),
                listing: self.listing(&base, &known),
                served: self.was_served(past),
            };
            let Verdict { decision, rungs } = merge::decide(&evidence);
            let mut spare = group.live;
            spare.retain(|index| Some(*index) != live);
            let (twin, regained) = (None, false);
            choices.push(Choice {
                base,
                live,
                spare,
                snapshot,
                decision,
                rungs,
                twin,
                regained,
            });
        }
        self.choices = choices;
    }
}

/// Reads what the decisions need, each byte once: all live files, then those of the snapshot that
/// can still change something, each side in the order of its inodes.
fn read_needed(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    past: &Past<'_>,
) -> Result<(), Refusal> {
    let mut wanted = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let mails = case.live.iter().flat_map(|folder| folder.mails.iter().enumerate());
        wanted.extend(mails.map(|(index, mail)| (mail.meta.inode, at, index)));
    }
    read(bench, cases, Side::Live, wanted)?;
    let mut wanted = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let known = case.lists.known();
        for (base, group) in case.groups() {
            let recorded = past.digest(&case.name, &base);
            let settled = if group.live.is_empty() {
                case.was_served(past) || case.listing(&base, &known) == Listing::Unlisted
            } else {
                recorded.is_some()
                    && group.live.iter().any(|index| {
                        let findings = case.findings.get(&(Side::Live, *index));
                        findings.is_some_and(|it| it.digest == recorded)
                    })
            };
            if settled {
                continue;
            }
            let mail = |index: &usize| Some((case.mail(Side::Snapshot, *index)?, *index));
            let mails = group.snapshot.iter().filter_map(mail);
            wanted.extend(mails.map(|(mail, index)| (mail.meta.inode, at, index)));
        }
    }
    read(bench, cases, Side::Snapshot, wanted)
}

fn read(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    side: Side,
    mut wanted: Vec<(u64, usize, usize)>,
) -> Result<(), Refusal> {
    wanted.sort_unstable();
    for (_, at, index) in wanted {
        let Some(case) = cases.get_mut(at) else { continue };
        let Some(place) = case.place(side, index) else { continue };
        let findings = judge(bench, place)?;
        case.findings.insert((side, index), findings);
    }
    Ok(())
}

/// Messages told apart by base name and header.
type Letters = HashSet<(Vec<u8>, Option<Digest>)>;

/// The owner's other addresses.
///
/// Storage faults swap messages one by one; an address that several whole and different
/// messages of a mailbox were delivered to is an alias or a collected account.
fn aliases(cases: &[Case]) -> HashSet<Box<[u8]>> {
    let mut seen: HashMap<Box<[u8]>, Letters> = HashMap::new();
    for case in cases {
        for ((side, index), findings) in &case.findings {
            if let Some((address, mail)) =
                findings.only_stranger().zip(case.mail(*side, *index))
            {
                let base = MailName::parse(&mail.name).base.to_vec();
                seen.entry(address.into()).or_default().insert((base, findings.header));
            }
        }
    }
    seen.retain(|_, mails| {
        let names: HashSet<&[u8]> =
            mails.iter().map(|(base, _)| base.as_slice()).collect();
        let headers: HashSet<_> = mails.iter().map(|(_, header)| header).collect();
        names.len().min(headers.len()) >= ALIAS_MESSAGES_MIN
    });
    seen.into_keys().collect()
}

/// Forgives recipients who are the owner under another address.
fn forgive(cases: &mut [Case], aliases: &HashSet<Box<[u8]>>) {
    for findings in cases.iter_mut().flat_map(|case| case.findings.values_mut()) {
        let known = findings.stranger.as_ref().is_some_and(|it| aliases.contains(it));
        if known {
            findings.forgive_stranger();
        }
    }
}

/// Looks for the origin of bad messages that only the live side has.
fn find_twins(bench: &mut Bench<'_>, cases: &mut [Case]) -> Result<(), Refusal> {
    let mut bad = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        for (index, choice) in case.choices.iter().enumerate() {
            let alone = choice.snapshot.is_none() && choice.live.is_some();
            if alone && matches!(choice.decision, Decision::SetAside(_)) {
                bad.push((at, index));
            }
        }
    }
    if bad.is_empty() {
        return Ok(());
    }
    let origins = origins(cases);
    for (at, index) in bad {
        let found = find_twin(bench, cases, (at, index), &origins)?;
        let choice = cases.get_mut(at).and_then(|case| case.choices.get_mut(index));
        if let Some(choice) = choice {
            choice.twin = found;
        }
    }
    Ok(())
}

type Origins = HashMap<(u64, u64), Vec<(usize, usize)>>;

/// The snapshot's messages that are not in their place live, by both sizes.
fn origins(cases: &[Case]) -> Origins {
    let mut origins = Origins::new();
    for (at, case) in cases.iter().enumerate() {
        for choice in case.choices.iter().filter(|choice| choice.live.is_none()) {
            let name = MailName::parse(&choice.base);
            let sizes = name.size.zip(name.virtual_size);
            if let Some((sizes, index)) = sizes.zip(choice.snapshot) {
                origins.entry(sizes).or_default().push((at, index));
            }
        }
    }
    origins
}

fn find_twin(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    (at, index): (usize, usize),
    origins: &Origins,
) -> Result<Option<(usize, usize)>, Refusal> {
    let Some((sizes, live)) = cases.get(at).and_then(|case| {
        let choice = case.choices.get(index)?;
        let name = MailName::parse(&choice.base);
        Some((name.size.zip(name.virtual_size)?, choice.live?))
    }) else {
        return Ok(None);
    };
    let mut found: Option<((usize, usize), Option<Digest>)> = None;
    for (origin, mail) in origins.get(&sizes).into_iter().flatten().copied() {
        let Some(case) = cases.get_mut(origin) else { continue };
        if !case.findings.contains_key(&(Side::Snapshot, mail)) {
            let Some(place) = case.place(Side::Snapshot, mail) else { continue };
            let findings = judge(bench, place)?;
            case.findings.insert((Side::Snapshot, mail), findings);
        }
        let Some(findings) = case.findings.get(&(Side::Snapshot, mail)) else { continue };
        let digest = findings.digest;
        if findings.fault().is_some() || digest.is_none() {
            continue;
        }
        let whole = cases.get(origin).and_then(|it| it.place(Side::Snapshot, mail));
        let damaged = cases.get(at).and_then(|it| it.place(Side::Live, live));
        let Some((whole, damaged)) = whole.zip(damaged) else { continue };
        let (mut whole, mut damaged) =
            (open_mail(bench, whole)?, open_mail(bench, damaged)?);
        if !twin::agrees(&mut damaged, &mut whole).unwrap_or(false) {
            continue;
        }
        match found {
            Some((_, other)) if other != digest => return Ok(None),
            Some(_) => {}
            None => found = Some(((origin, mail), digest)),
        }
    }
    Ok(found.map(|(place, _)| place))
}

/// Stages one folder: its directories, messages and control files.
fn stage_case(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    index: usize,
    (past, ledger): (&Past<'_>, &mut Ledger),
) -> Result<(), Refusal> {
    let Some(case) = cases.get(index) else { return Ok(()) };
    if case.given_up {
        case.choices.iter().for_each(|it| ledger.deleted((&case.name, &it.base)));
        return Ok(());
    }
    if past.served {
        case.book_deletions(past, ledger);
        if case.live.is_none() && !case.name.is_empty() {
            return Ok(());
        }
    }
    stage_dirs(bench, case);
    let mut keywords = KeywordTables::read(bench, case)?;
    let present: HashSet<&[u8]> = case
        .choices
        .iter()
        .filter(|choice| {
            choice.live.is_some() || matches!(choice.decision, Decision::Return { .. })
        })
        .map(|choice| &*choice.base)
        .collect();
    let regained = case.choices.iter().filter(|choice| choice.regained);
    let regained = regained.map(|choice| &*choice.base).collect();
    let rebuilt = case.lists.rebuilt(&present, &regained);
    let (known, uids) = (case.lists.known(), case.lists.final_uids(rebuilt.as_ref()));
    let uid = |base: &[u8]| uids.get(base).copied().or_else(|| known.uid(base));
    for choice in &case.choices {
        let uid = (uid(&choice.base), uids.get(&*choice.base).copied());
        stage_choice(bench, (cases, case, choice), uid, (&mut keywords, ledger))?;
    }
    let held: HashSet<&[u8]> = case.choices.iter().map(|choice| &*choice.base).collect();
    for (name, uid) in uids.iter().filter(|(name, _)| !held.contains(*name)) {
        ledger.listed_only(&case.name, name, *uid, case.was_served(past));
    }
    for odd in case.live.iter().flat_map(|folder| &folder.odd) {
        let rel = rel(&case.name, odd);
        let kept = bench.aside("quarantine", (&label(&case.name), &rel), &odd.meta)?;
        let uid = uid(MailName::parse(&odd.name).base);
        ledger.set_aside(
            (&case.name, &odd.name),
            uid,
            Reason::NotRegular,
            Some((0, kept)),
        );
    }
    keywords.stage(bench, case)?;
    if let Some(rebuilt) = &rebuilt {
        control::stage_uidlist(bench, case, rebuilt)?;
        if !case.lists.is_sound() {
            ledger.doubt(&case.name, b"", None, DoubtKind::UidlistRebuilt);
        }
    }
    if case.live.is_none() && !case.name.is_empty() {
        ledger.doubt(&case.name, b"", None, DoubtKind::FolderReturned);
    }
    drop((known, uids));
    let Some(case) = cases.get_mut(index) else { return Ok(()) };
    control::stage_others(bench, case)?;
    ledger.doubts.append(&mut case.doubts);
    Ok(())
}

fn stage_dirs(bench: &mut Bench<'_>, case: &Case) {
    let like = case.home.dir();
    if case.live.is_none() && !case.name.is_empty() {
        let path = bench.path(&folder_path(&case.name));
        bench.act(Phase::Directories, Act::MakeDir { path, like });
    }
    let has = case.live.as_ref().map_or([false; 3], |folder| folder.has);
    for (sub, _) in Sub::ALL.into_iter().zip(has).filter(|(_, has)| !has) {
        let rel = crate::walk::join(&folder_path(&case.name), sub.name());
        let path = bench.path(&rel);
        bench.act(Phase::Directories, Act::MakeDir { path, like });
    }
}

/// Stages one message and books its outcome. `uids`: for reports, and of the final list.
fn stage_choice(
    bench: &mut Bench<'_>,
    (cases, case, choice): (&[Case], &Case, &Choice),
    (uid, final_uid): (Option<u32>, Option<u32>),
    (keywords, ledger): (&mut KeywordTables, &mut Ledger),
) -> Result<(), Refusal> {
    let at = (&*case.name, &*choice.base);
    for spare in &choice.spare {
        let Some(mail) = case.mail(Side::Live, *spare) else { continue };
        let from = (&*label(&case.name), &*rel(&case.name, mail));
        bench.aside("kept", from, &mail.meta)?;
        ledger.doubt(at.0, at.1, uid, DoubtKind::Twice);
    }
    let live = choice.live.and_then(|index| case.place(Side::Live, index));
    let snapshot = choice.snapshot.and_then(|index| case.place(Side::Snapshot, index));
    let seen = |side, index: Option<usize>| case.findings.get(&(side, index?))?.digest;
    let good = match choice.decision {
        Decision::Intact | Decision::Newer => {
            ledger.kept(choice.decision == Decision::Newer);
            live.map(|it| it.mail.meta.size).zip(seen(Side::Live, choice.live))
        }
        Decision::Repair { doubtful } => {
            let digest = seen(Side::Snapshot, choice.snapshot);
            ledger.counts.repaired += 1;
            if doubtful {
                ledger.doubt(at.0, at.1, uid, DoubtKind::BothLookGood).rungs = choice.rungs;
            }
            stage_repair(bench, case, live.zip(snapshot).zip(digest))?
        }
        Decision::Return { doubtful } => {
            let digest = seen(Side::Snapshot, choice.snapshot);
            ledger.counts.returned += 1;
            if doubtful {
                let doubt = ledger.doubt(at.0, at.1, uid, DoubtKind::DeletionUnproved);
                doubt.rungs = choice.rungs;
            }
            let flags = case.lists.last_flags(uid);
            stage_return(bench, case, snapshot.zip(digest), (flags, keywords))?
        }
        Decision::Deleted => {
            ledger.deleted(at);
            None
        }
        Decision::SetAside(reason) => {
            stage_set_aside(bench, (cases, case, choice), uid, (reason, ledger))?
        }
        Decision::Lost(reason) => {
            ledger.lost(at, uid, reason).rungs = choice.rungs;
            None
        }
    };
    if let Some((size_bytes, digest)) = good {
        let (folder, name) = (at.0.to_vec(), at.1.to_vec());
        ledger.good(ManifestEntry { folder, name, uid: final_uid, size_bytes, digest });
    }
    Ok(())
}

fn rel(folder: &[u8], mail: &Mail) -> Vec<u8> {
    Place { side: Side::Live, folder, mail }.rel()
}

/// Reads and judges one message.
fn judge(bench: &mut Bench<'_>, place: Place<'_>) -> Result<Findings, Refusal> {
    let promise = MailName::parse(&place.mail.name).promise();
    bench.judge((place.side, &place.rel()), place.mail.meta.size, promise)
}

fn open_mail(bench: &Bench<'_>, place: Place<'_>) -> Result<std::fs::File, Refusal> {
    bench.open_mail((place.side, &place.rel()))
}

type Good = Option<(u64, Digest)>;

fn stage_repair(
    bench: &mut Bench<'_>,
    case: &Case,
    files: Option<((Place<'_>, Place<'_>), Digest)>,
) -> Result<Good, Refusal> {
    let Some(((live, source), digest)) = files else { return Ok(None) };
    let staged = bench.stage_copy((source.side, &source.rel()), digest, Like::file(&live.mail.meta))?;
    let at = (&*label(&case.name), &*live.rel());
    bench.replace(Phase::Messages, at, &live.mail.meta, staged)?;
    Ok(Some((source.mail.meta.size, digest)))
}

fn stage_return(
    bench: &mut Bench<'_>,
    case: &Case,
    file: Option<(Place<'_>, Digest)>,
    (flags, keywords): (Option<LastFlags>, &mut KeywordTables),
) -> Result<Good, Refusal> {
    let Some((source, digest)) = file else { return Ok(None) };
    let like = case.home.file_like(&source.mail.meta);
    let staged = bench.stage_copy((source.side, &source.rel()), digest, like)?;
    let name = MailName::parse(&source.mail.name);
    let name = match flags {
        None => name.with_flags(None, |letter| keywords.translate(letter)),
        Some(LastFlags { letters, keywords: None }) => {
            name.with_flags(Some(&letters), |letter| keywords.translate(letter))
        }
        Some(LastFlags { mut letters, keywords: Some(names) }) => {
            letters.extend(names.iter().filter_map(|name| keywords.letter_of(name)));
            name.with_flags(Some(&letters), |_| None)
        }
    };
    let flagged = !name.ends_with(b":2,") && name.contains(&b':');
    let sub = if flagged { Sub::Cur } else { source.mail.sub };
    let sub = crate::walk::join(&folder_path(&case.name), sub.name());
    let dir = bench.path(&sub);
    bench.act(Phase::Messages, Act::Put { staged, dir, name, replaces: None });
    Ok(Some((source.mail.meta.size, digest)))
}

fn stage_set_aside(
    bench: &mut Bench<'_>,
    (cases, case, choice): (&[Case], &Case, &Choice),
    uid: Option<u32>,
    (reason, ledger): (Reason, &mut Ledger),
) -> Result<Good, Refusal> {
    let Some(live) = choice.live.and_then(|index| case.place(Side::Live, index)) else {
        return Ok(None);
    };
    let twin = choice.twin.and_then(|(origin, index)| {
        let origin = cases.get(origin)?;
        let digest = origin.findings.get(&(Side::Snapshot, index))?.digest?;
        Some(((live, origin.place(Side::Snapshot, index)?), digest))
    });
    if twin.is_some() {
        ledger.counts.repaired += 1;
        ledger.doubt(&case.name, &choice.base, uid, DoubtKind::RepairedFromTwin);
        return stage_repair(bench, case, twin);
    }
    let at = (&*label(&case.name), &*live.rel());
    let kept_at = bench.aside("quarantine", at, &live.mail.meta)?;
    let kept = Some((live.mail.meta.size, kept_at));
    let finding = ledger.set_aside((&case.name, &choice.base), uid, reason, kept);
    finding.rungs = choice.rungs;
    finding.received = finding.received.or(u64::try_from(live.mail.meta.modified.0).ok());
    if choice.snapshot.is_some() {
        finding.source = Source::CopyDamaged;
    }
    Ok(None)
}
