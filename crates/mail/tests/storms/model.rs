//! Model: what must be true of a mailbox after a storm.
//!
//! # Invariants
//!
//! * It knows the whole messages, what their owners did and what the storm left; it asks the engine for
//!   nothing but what it says about its decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use tidegate_mail::{DoubtKind, Finding, Prepared};

use crate::world::{Account, LIVE, Mail, SNAPSHOT, VALIDITY, Worth, Wreck, unpacked};

/// Files by path, with their bytes.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// Every file below a directory of one root.
pub(crate) fn files(root: &Path, side: &str, below: &str) -> Files {
    let (mut files, top) = (Files::new(), root.join(side).join(below));
    let mut dirs = vec![top.clone()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let rel = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
                files.insert(rel, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// One mailbox after the storm was weathered.
pub(crate) struct After<'a> {
    /// Its live files before.
    pub(crate) before: &'a Files,
    pub(crate) live: &'a Files,
    /// Everything in the work directory.
    pub(crate) work: &'a Files,
    pub(crate) prepared: &'a Prepared,
}

pub(crate) struct Model<'a> {
    pub(crate) account: &'a Account,
    pub(crate) after: After<'a>,
}

impl Model<'_> {
    pub(crate) fn check(&self) {
        self.check_kept();
        for (at, mail) in self.account.mails.iter().enumerate() {
            self.check_mail(at, mail);
        }
        self.check_nothing_else();
        for folder in 0..self.account.folders.len() {
            self.check_uids(folder);
        }
    }

    /// Whatever bytes were there are there still, or kept.
    fn check_kept(&self) {
        let live = self.after.live.values();
        let there: BTreeSet<&Vec<u8>> = live.chain(self.after.work.values()).collect();
        for (path, bytes) in self.after.before {
            assert!(there.contains(bytes), "{path} is destroyed; {}", self.tell());
        }
    }

    fn check_mail(&self, at: usize, mail: &Mail) {
        let served = self.served(mail);
        let tell = || {
            let worth = (mail.worth(LIVE), mail.worth(SNAPSHOT));
            let served: Vec<_> =
                served.iter().map(|(path, bytes)| (path, mail.worth_of(bytes))).collect();
            let gone = (mail.gone, mail.moved_to);
            format!(
                "{at} {} of folder {}: {worth:?}, {gone:?}, served: {served:?}; {}",
                mail.base,
                mail.folder,
                self.tell()
            )
        };
        let truth = served.iter().any(|(_, bytes)| mail.worth_of(bytes) == Worth::Good);
        let as_seen = served.iter().all(|(_, it)| mail.worth_of(it) != Worth::Bad);
        assert!(as_seen, "plainly damaged and served: {}", tell());
        assert!(served.len() <= 1 + usize::from(self.is_torn(mail)), "twice: {}", tell());
        if mail.gone {
            let said = self.is_said(mail) || self.is_torn(mail);
            assert!(served.is_empty() || said, "back without a word: {}", tell());
            // Mail that no list ever had may have been lost before anybody saw it.
            let place = &self.account.folders[mail.folder];
            let listed =
                place.list[SNAPSHOT] == Wreck::None && mail.uid[SNAPSHOT].is_some();
            let is_proved = listed && self.is_calm();
            assert!(served.is_empty() || !is_proved, "back for no reason: {}", tell());
            let Some(to) = mail.moved_to.map(|to| &self.account.mails[to]) else {
                return;
            };
            let is_good = |worth| worth == Worth::Good;
            let kept = is_good(mail.worth(SNAPSHOT)) || is_good(to.worth(LIVE));
            let moved = self.served(to);
            let moved = moved.iter().any(|(_, bytes)| to.worth_of(bytes) != Worth::Bad);
            // Another message's file may have its bytes.
            let is_it = |bytes: &Vec<u8>| mail.worth_of(bytes) == Worth::Good;
            let moved = moved || self.after.live.values().any(is_it);
            assert!(to.gone || !kept || truth || moved, "lost by its move: {}", tell());
            return;
        }
        let said = |kind| self.doubted(mail, kind);
        let is_doubted = (said(DoubtKind::BothLookGood)
            || mail.second.is_some() && said(DoubtKind::Twice))
            && self.keeps(&mail.plain);
        match (mail.worth(LIVE), mail.worth(SNAPSHOT)) {
            (Worth::Good, Worth::Subtle) => {
                assert!(truth || is_doubted, "altered: {}", tell());
            }
            (Worth::Good, _) | (Worth::Bad | Worth::Absent, Worth::Good) => {
                let is_second = mail.second.is_some() && is_doubted;
                assert!(truth || is_second, "not served: {}", tell());
            }
            (Worth::Subtle, Worth::Good) => {
                assert!(truth || self.is_said(mail), "not repaired: {}", tell());
            }
            (Worth::Bad, _) => {
                assert!(!served.is_empty() || self.is_said(mail), "unsaid: {}", tell());
            }
            (Worth::Subtle | Worth::Absent, _) => {
                let list = self.account.folders[mail.folder].list[LIVE] == Wreck::None;
                let listed =
                    list && mail.uid[LIVE].is_some() && self.has_list(mail.folder);
                let said = !served.is_empty() || self.is_said(mail);
                assert!(said || !listed, "lost without a word: {}", tell());
            }
        }
        self.check_name(mail);
    }

    /// What is good stays where it is, with its flags.
    fn check_name(&self, mail: &Mail) {
        let only = mail.second.is_none();
        if let (Worth::Good, Some(file), true) =
            (mail.worth(LIVE), &mail.file[LIVE], only)
        {
            let folder = self.account.folders[mail.folder].names[LIVE].clone().unwrap();
            let name = format!("{}/{}{}", file.sub, mail.base, file.info);
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            assert!(self.after.live.contains_key(&path), "renamed: {}", self.tell());
        }
    }

    /// No message stands anywhere that did not stand there before.
    fn check_nothing_else(&self) {
        let mut known = BTreeSet::new();
        for mail in &self.account.mails {
            for name in self.account.folders[mail.folder].names.iter().flatten() {
                known.insert((name.as_str(), mail.base.as_str()));
            }
        }
        for path in
            self.after.live.keys().filter(|path| !self.after.before.contains_key(*path))
        {
            if let Some((folder, base)) = place(path) {
                assert!(known.contains(&(folder, base)), "{path}; {}", self.tell());
            }
        }
    }

    /// No UID ever names another message, and none is lost where a list knew it.
    fn check_uids(&self, folder: usize) {
        let account = self.account;
        let place = &account.folders[folder];
        let name = place.names[LIVE].as_ref().or(place.names[SNAPSHOT].as_ref()).unwrap();
        let path = if name.is_empty() {
            "dovecot-uidlist".to_owned()
        } else {
            format!("{name}/dovecot-uidlist")
        };
        let torn = account.mails.iter().any(|it| it.folder == folder && self.is_torn(it));
        let Some(list) = self.after.live.get(&path).filter(|_| !torn) else { return };
        let Ok(list) = std::str::from_utf8(list) else { return };
        let tell = || format!("folder {folder}: {list}; {}", self.tell());
        let head = format!("3 V{VALIDITY} ");
        assert!(list.starts_with(&head) || !self.knows_validity(folder), "{}", tell());
        let mut before: BTreeMap<u32, &str> = BTreeMap::new();
        for mail in account.mails.iter().filter(|mail| mail.folder == folder) {
            before.extend(mail.uid.iter().flatten().map(|uid| (*uid, &*mail.base)));
        }
        let mut now: BTreeMap<&str, u32> = BTreeMap::new();
        let mut last = 0;
        for line in list.lines().skip(1) {
            let Some((uid, base)) = line.split_once(" :") else { continue };
            let Ok(uid) = uid.parse() else { continue };
            assert!(uid > last, "not in order: {}", tell());
            last = uid;
            let known = before.get(&uid).is_none_or(|known| *known == base);
            assert!(known, "{uid} names another message: {}", tell());
            assert!(now.insert(base, uid).is_none(), "{base} twice: {}", tell());
        }
        let whole = place.list[LIVE] == Wreck::None && self.has_list(folder);
        for mail in
            account.mails.iter().filter(|mail| mail.folder == folder && !mail.gone)
        {
            let known =
                |side: usize| mail.uid[side].filter(|_| place.list[side] == Wreck::None);
            let in_snapshot =
                || known(SNAPSHOT).filter(|_| place.dir[SNAPSHOT] == Wreck::None);
            let uid = if whole { known(LIVE) } else { in_snapshot() };
            let is_served =
                self.served(mail).iter().any(|(path, _)| path.starts_with(name.as_str()));
            if let Some(uid) = uid.filter(|_| is_served) {
                assert_eq!(now.get(&*mail.base), Some(&uid), "lost its UID: {}", tell());
            }
        }
    }

    fn knows_validity(&self, folder: usize) -> bool {
        let place = &self.account.folders[folder];
        let whole = |side: usize| {
            place.list[side] == Wreck::None && place.dir[side] == Wreck::None
        };
        whole(SNAPSHOT) && place.names[SNAPSHOT].is_some()
            || whole(LIVE) && self.has_list(folder)
    }

    /// The folder's live directory was not lost.
    fn has_list(&self, folder: usize) -> bool {
        self.account.maildir == Wreck::None
            && self.account.folders[folder].dir[LIVE] == Wreck::None
    }

    /// The folder was renamed and lost its name's proof: both may stand now.
    fn is_torn(&self, mail: &Mail) -> bool {
        let folder = &self.account.folders[mail.folder];
        let renamed =
            folder.names[SNAPSHOT].is_some() && folder.names[0] != folder.names[1];
        let damaged = folder.list != [Wreck::None; 2] || folder.dir != [Wreck::None; 2];
        renamed && (damaged || self.account.maildir != Wreck::None)
    }

    /// No place is lost that something may have been moved to.
    fn is_calm(&self) -> bool {
        let whole = |folder: &crate::world::Folder| {
            folder.list[LIVE] == Wreck::None && folder.dir[LIVE] == Wreck::None
        };
        let lost = |mail: &Mail| {
            let newer = mail.uid[SNAPSHOT].is_none() && !mail.gone;
            newer && mail.worth(LIVE) != Worth::Good
        };
        self.account.maildir == Wreck::None
            && self.account.folders.iter().all(whole)
            && !self.account.mails.iter().any(lost)
    }

    fn served(&self, mail: &Mail) -> Vec<(&String, &Vec<u8>)> {
        let names = &self.account.folders[mail.folder].names;
        let is_it = |path: &str| {
            let is_in = |folder: &str| names.iter().flatten().any(|name| name == folder);
            place(path).is_some_and(|(folder, base)| is_in(folder) && base == mail.base)
        };
        self.after.live.iter().filter(|(path, _)| is_it(path)).collect()
    }

    fn about<'b>(&'b self, mail: &'b Mail) -> impl Iterator<Item = &'b Finding> {
        let names = &self.account.folders[mail.folder].names;
        let all = self.after.prepared.set_aside.iter().chain(&self.after.prepared.doubts);
        all.filter(move |it| {
            let folder = format!(".{}", it.folder);
            let is_in = |name: &String| {
                *name == folder || name.is_empty() && it.folder.is_empty()
            };
            names.iter().flatten().any(is_in) && it.name == mail.base
        })
    }

    fn is_said(&self, mail: &Mail) -> bool {
        self.about(mail).next().is_some()
    }

    fn doubted(&self, mail: &Mail, kind: DoubtKind) -> bool {
        self.about(mail).any(|it| it.doubt() == Some(kind))
    }

    fn keeps(&self, plain: &[u8]) -> bool {
        self.after.work.values().any(|it| unpacked(it).is_some_and(|it| it == plain))
    }

    fn tell(&self) -> String {
        let said = |it: &Finding| (it.folder.clone(), it.name.clone(), it.cause);
        let all = self.after.prepared.set_aside.iter().chain(&self.after.prepared.doubts);
        let said: Vec<_> = all.map(said).collect();
        format!("{} {:#?} {:?}", self.account.path, self.account.story, said)
    }
}

/// Folder and base name of a message's path.
fn place(path: &str) -> Option<(&str, &str)> {
    let (dir, name) = path.rsplit_once('/')?;
    let (folder, sub) = dir.rsplit_once('/').unwrap_or(("", dir));
    let is_mail = matches!(sub, "cur" | "new");
    is_mail.then(|| (folder, name.split(':').next().unwrap_or(name)))
}
