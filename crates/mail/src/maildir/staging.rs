//! Staging: everything that becomes of a folder, made ready.
//!
//! # Invariants
//!
//! * A folder or mailbox that is gone is put together beside the mail and moved in by one rename.
//! * Each message is booked in the ledger exactly once.

use std::path::Path;

use super::case::{Case, Choice, Fate, returns_to};
use super::control::{self, KeywordTables};
use super::name::MailName;
use super::repair::Past;
use super::survey::{Sub, folder_path, mail_path};
use super::table::Row;
use crate::doubt::DoubtKind;
use crate::finding::Source;
use crate::index::LastFlags;
use crate::ledger::Ledger;
use crate::manifest::ManifestEntry;
use crate::merge::Decision;
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::roots::{Act, Like, Side};
use crate::stage::{Bench, Phase};
use crate::walk::join;

/// Plans a lost Maildir: all of it is put together in one tree.
pub(super) fn plan_maildir(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    maildir: &[u8],
) -> Result<(), Refusal> {
    let Some(home) = cases.first().map(|case| case.home) else { return Ok(()) };
    make_parents(bench, maildir, home.dir())?;
    let tree = bench.tree(home.dir(), b"")?;
    for case in cases.iter_mut().filter(|case| !case.given_up) {
        let folder = folder_path(&case.name);
        let place = if folder.is_empty() {
            tree.clone()
        } else {
            bench.tree_dir(&tree, &folder, home.dir())?
        };
        make_mail_dirs(bench, (&place, &folder), home.dir())?;
        case.tree = Some(place);
    }
    bench.act(Phase::Directories, Act::PutTree { staged: tree, path: maildir.to_vec() });
    Ok(())
}

/// Plans the folders that are lost: each is put together in a tree of its own.
pub(super) fn plan_folders(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    past: Past,
) -> Result<(), Refusal> {
    for case in cases.iter_mut().filter(|case| case.live.is_none()) {
        let deleted = case.given_up || past.served;
        if deleted || case.name.is_empty() {
            continue;
        }
        let like = case.home.dir();
        let folder = folder_path(&case.name);
        let tree = bench.tree(like, &folder)?;
        make_mail_dirs(bench, (&tree, &folder), like)?;
        let path = bench.path(&folder);
        // What is no directory and has its name is for a person to look at.
        let there = bench.roots().live.dir_if_there(&path);
        there.map_err(|errno| Refusal::read(&path, errno))?;
        bench.act(Phase::Directories, Act::PutTree { staged: tree.clone(), path });
        case.tree = Some(tree);
    }
    Ok(())
}

/// Makes the mail directories of a folder, all with the attributes that the snapshot's have.
fn make_mail_dirs(
    bench: &mut Bench<'_>,
    (tree, folder): (&Path, &[u8]),
    like: Like,
) -> Result<(), Refusal> {
    bench.dress_tree(tree, folder)?;
    for sub in Sub::ALL {
        let dir = bench.tree_dir(tree, sub.name(), like)?;
        bench.dress_tree(&dir, &join(folder, sub.name()))?;
    }
    Ok(())
}

/// Plans the directories above a lost Maildir.
fn make_parents(
    bench: &mut Bench<'_>,
    maildir: &[u8],
    home: Like,
) -> Result<(), Refusal> {
    let ends = maildir.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let ends: Vec<usize> = ends.map(|(at, _)| at).collect();
    for end in ends {
        let path = maildir.get(..end).unwrap_or(maildir);
        let there = bench.roots().live.dir_if_there(path);
        if there.map_err(|errno| Refusal::read(path, errno))?.is_some() {
            continue;
        }
        let snapshot = bench.roots().snapshot.as_ref();
        let meta = snapshot.and_then(|root| root.dir(path).ok()?.meta().ok());
        let like = meta.map_or(home, |meta| Like { modified: None, ..Like::file(&meta) });
        bench.act(Phase::Directories, Act::MakeDir { path: path.to_vec(), like });
    }
    Ok(())
}

/// Stages one folder: its directories, messages and control files.
pub(super) fn stage_case(
    bench: &mut Bench<'_>,
    cases: &mut [Case],
    index: usize,
    (past, ledger): (Past, &mut Ledger),
) -> Result<(), Refusal> {
    let Some(case) = cases.get(index) else { return Ok(()) };
    if case.given_up {
        let held = case.table.iter().filter(|row| case.table.is_held(*row));
        held.for_each(|row| ledger.deleted((&case.name, case.table.base(row))));
        return Ok(());
    }
    if past.served {
        book_deletions(case, ledger);
        if case.live.is_none() && !case.name.is_empty() {
            return Ok(());
        }
    }
    make_missing_dirs(bench, case);
    let mut keywords = KeywordTables::read(bench, case)?;
    let rebuilt = rebuild(bench, case)?;
    let final_uid = |row: Row| match &rebuilt {
        None => case.table.uid(Side::Live, row),
        Some(uids) => usize::try_from(row)
            .ok()
            .and_then(|at| uids.get(at).copied())
            .filter(|uid| *uid > 0),
    };
    stage_spares(bench, case, ledger)?;
    stage_odd(bench, case, ledger)?;
    for row in case.table.sorted() {
        let uid = final_uid(row);
        if !case.table.is_held(row) {
            if let Some(uid) = uid {
                let served = case.was_served(past);
                ledger.listed_only(&case.name, case.table.base(row), uid, served);
            }
            continue;
        }
        stage_message(bench, (cases, case, row), uid, (&mut keywords, ledger))?;
    }
    keywords.stage(bench, case)?;
    if rebuilt.is_some() && !case.lists.is_sound() {
        ledger.doubt(&case.name, b"", None, DoubtKind::UidlistRebuilt);
    }
    if case.live.is_none() {
        ledger.doubt(&case.name, b"", None, DoubtKind::FolderReturned);
    }
    let Some(case) = cases.get_mut(index) else { return Ok(()) };
    control::stage_others(bench, case)?;
    ledger.doubts.append(&mut case.doubts);
    Ok(())
}

/// Books what its user has deleted and neither the snapshot nor the UID list knows, and all of
/// a deleted folder.
fn book_deletions(case: &Case, ledger: &mut Ledger) {
    let folder_is_there = case.live.is_some();
    for row in case.table.iter().filter(|row| case.table.recorded(*row).is_some()) {
        let held = folder_is_there && case.table.is_held(row);
        let listed = folder_is_there && case.lists.uid(&case.table, row).is_some();
        if !held && !listed {
            ledger.deleted((&case.name, case.table.base(row)));
        }
    }
}

fn make_missing_dirs(bench: &mut Bench<'_>, case: &Case) {
    let Some(live) = &case.live else { return };
    let like = case.home.dir();
    for (sub, _) in Sub::ALL.into_iter().zip(live.has).filter(|(_, has)| !has) {
        let path = bench.path(&join(&folder_path(&case.name), sub.name()));
        bench.act(Phase::Directories, Act::MakeDir { path, like });
    }
}

/// Stages a new UID list if one is needed; the final UIDs by row.
fn rebuild(bench: &mut Bench<'_>, case: &Case) -> Result<Option<Vec<u32>>, Refusal> {
    let regained = case.choices.iter().filter(|(_, choice)| choice.regained);
    let mut regained: Vec<Row> = regained.map(|(row, _)| *row).collect();
    regained.sort_by_key(|row| case.table.base(*row));
    if !case.lists.needs_rebuilding(!regained.is_empty()) {
        return Ok(None);
    }
    let mut live = control::uidlist(bench, Side::Live, case.live.as_ref())?;
    let mut snapshot = control::uidlist(bench, Side::Snapshot, case.snapshot.as_ref())?;
    let present = |row| case.is_present(row);
    let rows = (&case.table, &present as &dyn Fn(Row) -> bool, &*regained);
    let mut uids = Vec::new();
    control::stage_uidlist(bench, case, &mut |to| {
        uids = case.lists.rebuild((live.take(), snapshot.take()), rows, to)?;
        Ok(())
    })?;
    Ok(Some(uids))
}

/// Keeps all files but one of each message that stands several times.
fn stage_spares(
    bench: &mut Bench<'_>,
    case: &Case,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    for (_, row, slot) in &case.table.spare {
        let name = case.table.name(*row, *slot);
        let rel = mail_path(&case.name, slot.sub, &name);
        let meta = bench.look(&rel)?;
        bench.aside("kept", (&folder_path(&case.name), &rel), &meta)?;
        let uid = case.lists.uid(&case.table, *row);
        ledger.doubt(&case.name, case.table.base(*row), uid, DoubtKind::Twice);
    }
    Ok(())
}

/// Sets aside what stands among the messages and is none.
fn stage_odd(
    bench: &mut Bench<'_>,
    case: &Case,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    for (sub, name) in case.live.iter().flat_map(|folder| &folder.odd) {
        let rel = mail_path(&case.name, *sub, name);
        let meta = bench.look(&rel)?;
        let kept = bench.aside("quarantine", (&folder_path(&case.name), &rel), &meta)?;
        let row = case.table.find(MailName::parse(name).base);
        let uid = row.and_then(|row| case.lists.uid(&case.table, row));
        let kept = Some((0, kept));
        ledger.set_aside((&case.name, name), uid, Reason::NotRegular, kept);
    }
    Ok(())
}

/// Stages one message and books its outcome. `final_uid`: in the list as it will be.
fn stage_message(
    bench: &mut Bench<'_>,
    (cases, case, row): (&[Case], &Case, Row),
    final_uid: Option<u32>,
    (keywords, ledger): (&mut KeywordTables, &mut Ledger),
) -> Result<(), Refusal> {
    let good = match case.fate(row) {
        Fate::Listed => false,
        Fate::Deleted => {
            ledger.deleted((&case.name, case.table.base(row)));
            false
        }
        fate @ (Fate::Intact | Fate::Newer) => {
            ledger.kept(fate == Fate::Newer);
            true
        }
        Fate::Chosen => {
            let uid = final_uid.or_else(|| case.lists.uid(&case.table, row));
            let Some(choice) = case.choices.get(&row) else { return Ok(()) };
            let one = Chosen { cases, case, row, choice, uid };
            one.stage(bench, (keywords, ledger))?
        }
    };
    let side = match case.choices.get(&row).map(|choice| (choice.decision, choice.twin)) {
        None => Some((case, Side::Live, row)),
        Some((Decision::SetAside(_), Some((origin, twin)))) => {
            cases.get(origin).map(|case| (case, Side::Snapshot, twin))
        }
        Some(_) => Some((case, Side::Snapshot, row)),
    };
    let bytes = side.and_then(|(case, side, row)| {
        let findings = case.findings(side, row)?;
        Some((findings.size, findings.digest?))
    });
    if let Some((size_bytes, digest)) = bytes.filter(|_| good) {
        let (folder, name) = (case.name.clone(), case.table.base(row).to_vec());
        bench.remember(digest);
        let (uid, fingerprint) = (final_uid, digest.into());
        ledger.good(ManifestEntry { folder, name, uid, size_bytes, fingerprint });
    }
    Ok(())
}

/// A message of which something must be done.
struct Chosen<'a> {
    cases: &'a [Case],
    case: &'a Case,
    row: Row,
    choice: &'a Choice,
    /// For reports.
    uid: Option<u32>,
}

impl Chosen<'_> {
    /// Stages it and books its outcome; whether it stands good in the folder then.
    fn stage(
        &self,
        bench: &mut Bench<'_>,
        (keywords, ledger): (&mut KeywordTables, &mut Ledger),
    ) -> Result<bool, Refusal> {
        let (case, row) = (self.case, self.row);
        let at = (&*case.name, case.table.base(row));
        let rungs = case.table.rungs(row);
        match self.choice.decision {
            Decision::Intact | Decision::Newer | Decision::Deleted => return Ok(false),
            Decision::Repair { doubtful } => {
                ledger.counts.repaired += 1;
                if doubtful {
                    let kind = DoubtKind::BothLookGood;
                    ledger.doubt(at.0, at.1, self.uid, kind).rungs = rungs;
                }
                self.repair(bench, (case, row))?;
            }
            Decision::Return { doubtful } => {
                ledger.counts.returned += 1;
                if doubtful {
                    let kind = DoubtKind::DeletionUnproved;
                    ledger.doubt(at.0, at.1, self.uid, kind).rungs = rungs;
                }
                self.bring_back(bench, keywords)?;
            }
            Decision::SetAside(reason) => return self.set_aside(bench, reason, ledger),
            Decision::Lost(reason) => {
                ledger.lost(at, self.uid, reason).rungs = rungs;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts the snapshot's bytes of a message in place of the live ones.
    fn repair(
        &self,
        bench: &mut Bench<'_>,
        (source, mail): (&Case, Row),
    ) -> Result<(), Refusal> {
        let (case, row) = (self.case, self.row);
        let live = case.rel(Side::Live, row);
        let from = source.rel(Side::Snapshot, mail);
        let digest = source.findings(Side::Snapshot, mail).and_then(|it| it.raw);
        let Some(((live, from), digest)) = live.zip(from).zip(digest) else {
            return Ok(());
        };
        let seen = case.seen.get(&(Side::Live, row)).and_then(|seen| seen.meta);
        let meta = match seen {
            Some(meta) => meta,
            None => bench.look(&live)?,
        };
        let staged = bench.next_staged();
        let like = |_: &_| Like::file(&meta);
        let like_live = (digest, Some(&*live));
        bench.stage_copy((Side::Snapshot, &from), like_live, &like, &staged)?;
        bench.replace(Phase::Messages, (&folder_path(&case.name), &live), &meta, staged)
    }

    /// Puts the snapshot's file of a message back.
    fn bring_back(
        &self,
        bench: &mut Bench<'_>,
        keywords: &mut KeywordTables,
    ) -> Result<(), Refusal> {
        let (case, row) = (self.case, self.row);
        let slot = case.table.slot(Side::Snapshot, row);
        let digest = case.findings(Side::Snapshot, row).and_then(|it| it.raw);
        let from = case.rel(Side::Snapshot, row);
        let Some(((slot, from), digest)) = slot.zip(from).zip(digest) else {
            return Ok(());
        };
        let staged = match (case.staged.get(&row), case.place_in_tree(row)) {
            (Some(staged), _) => staged.clone(),
            (None, place) => {
                let to = place.unwrap_or_else(|| bench.next_staged());
                let like = |meta: &_| case.home.file_like(meta);
                bench.stage_copy((Side::Snapshot, &from), (digest, None), &like, &to)?;
                to
            }
        };
        if case.tree.is_some() {
            return Ok(());
        }
        let name = case.table.name(row, slot);
        let name =
            flagged(&MailName::parse(&name), case.lists.last_flags(self.uid), keywords);
        let sub = join(&folder_path(&case.name), returns_to(&name, slot.sub).name());
        let dir = bench.path(&sub);
        bench.act(Phase::Messages, Act::Put { staged, dir, name, replaces: None });
        Ok(())
    }

    /// Takes a bad message out of the folder, or repairs it from where it was moved from.
    fn set_aside(
        &self,
        bench: &mut Bench<'_>,
        reason: Reason,
        ledger: &mut Ledger,
    ) -> Result<bool, Refusal> {
        let (case, row) = (self.case, self.row);
        let at = (&*case.name, case.table.base(row));
        let origin = self
            .choice
            .twin
            .and_then(|(origin, mail)| Some((self.cases.get(origin)?, mail)));
        if let Some(origin) = origin {
            ledger.counts.repaired += 1;
            ledger.doubt(at.0, at.1, self.uid, DoubtKind::RepairedFromTwin);
            self.repair(bench, origin)?;
            return Ok(true);
        }
        let Some(rel) = case.rel(Side::Live, row) else { return Ok(false) };
        let seen = case.seen.get(&(Side::Live, row)).and_then(|seen| seen.meta);
        let meta = match seen {
            Some(meta) => meta,
            None => bench.look(&rel)?,
        };
        let kept_at =
            bench.aside("quarantine", (&folder_path(&case.name), &rel), &meta)?;
        let kept = Some((meta.size, kept_at));
        let finding = ledger.set_aside(at, self.uid, reason, kept);
        finding.rungs = case.table.rungs(row);
        finding.received = finding.received.or(u64::try_from(meta.modified.0).ok());
        if case.table.slot(Side::Snapshot, row).is_some() {
            finding.source = Source::CopyDamaged;
        }
        Ok(false)
    }
}

/// The name with the flags that the message had last, if they are known.
fn flagged(
    name: &MailName<'_>,
    flags: Option<LastFlags>,
    keywords: &mut KeywordTables,
) -> Vec<u8> {
    match flags {
        None => name.with_flags(None, |letter| keywords.translate(letter)),
        Some(LastFlags { letters, keywords: None }) => {
            name.with_flags(Some(&letters), |letter| keywords.translate(letter))
        }
        Some(LastFlags { mut letters, keywords: Some(names) }) => {
            letters.extend(names.iter().filter_map(|name| keywords.letter_of(name)));
            name.with_flags(Some(&letters), |_| None)
        }
    }
}
