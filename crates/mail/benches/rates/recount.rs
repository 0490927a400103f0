//! Recount: what a tree holds now, against what was planned; knows nothing of how it was repaired.
//!
//! # Invariants
//!
//! * Right means: in its folder, under its base name, once, bit for bit.
//! * Every planned message is counted once, and every file in the tree is accounted for.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::pile::{Kind, Message, Pile, Tree, User, folder_dir};

/// How the messages of a tree stand.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Recount {
    /// Per kind: planned, and right at the end.
    pub(crate) kinds: BTreeMap<Kind, (u64, u64)>,
    /// Messages that some side held intact and that are gone.
    pub(crate) lost: u64,
    /// Messages that stand more than once.
    pub(crate) duplicated: u64,
    /// Messages that are served with other bytes than theirs.
    pub(crate) damaged: u64,
    /// Messages that their user had deleted and that are there again.
    pub(crate) resurrected: u64,
    /// Right messages whose flags are not the newest.
    pub(crate) old_flags: u64,
    /// Right messages whose UID is not what it was.
    pub(crate) other_uid: u64,
    /// Files under names that were never planned.
    pub(crate) strange: u64,
}

impl fmt::Display for Recount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (planned, right) =
            self.kinds.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        write!(
            f,
            "{right} of {planned} right; {} lost, {} duplicated, {} damaged and served, \
             {} deleted came back, {} with old flags, {} with another UID, {} strange",
            self.lost,
            self.duplicated,
            self.damaged,
            self.resurrected,
            self.old_flags,
            self.other_uid,
            self.strange
        )
    }
}

/// Counts the mailboxes whose path begins with `prefix`; `before` is what the tree began with.
pub(crate) fn recount(
    pile: &Pile,
    live: &Path,
    prefix: &str,
    before: Tree,
) -> io::Result<Recount> {
    let mut counted = Recount::default();
    let users = pile.users.iter().filter(|user| user.path().starts_with(prefix));
    for user in users {
        let maildir = live.join(user.path());
        let mut folders: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
        for message in &user.messages {
            folders.entry(message.folder).or_default().push(message);
        }
        for (folder, messages) in folders {
            let dir = maildir.join(folder_dir(folder));
            counted.folder(pile, (user, &messages), &dir, before)?;
        }
    }
    Ok(counted)
}

impl Recount {
    fn folder(
        &mut self,
        pile: &Pile,
        (user, messages): (&User, &[&Message]),
        dir: &Path,
        before: Tree,
    ) -> io::Result<()> {
        let mut files = files(dir)?;
        let uids = uids(dir);
        for message in messages {
            let found = files.remove(&message.base).unwrap_or_default();
            let from_snapshot = before == Tree::Snapshot;
            let is_newest = if from_snapshot { Tree::Snapshot } else { Tree::Sound };
            let kind = match (from_snapshot, message.kind) {
                (true, Kind::New) => continue,
                (true, Kind::SnapshotBad | Kind::BothBad) => Kind::BothBad,
                (true, _) => Kind::LostUser,
                (false, kind) => kind,
            };
            let right = self.message(pile, (user, message, kind), (dir, &found))?;
            let entry = self.kinds.entry(kind).or_default();
            entry.0 += 1;
            entry.1 += u64::from(right);
            if right && !found.is_empty() {
                let newest = found.iter().any(|it| *it == message.file(is_newest));
                self.old_flags += u64::from(!newest);
                let uid = uids.get(&message.base);
                self.other_uid += u64::from(uid != Some(&message.uid));
            }
        }
        self.strange += files.len() as u64;
        Ok(())
    }

    /// Whether a message stands as it should.
    fn message(
        &mut self,
        pile: &Pile,
        (user, message, kind): (&User, &Message, Kind),
        (dir, found): (&Path, &[String]),
    ) -> io::Result<bool> {
        if kind == Kind::Deleted {
            self.resurrected += u64::from(!found.is_empty());
            return Ok(found.is_empty());
        }
        if found.is_empty() {
            self.lost += u64::from(kind != Kind::BothBad);
            // No side has it intact: it must not be served.
            return Ok(kind == Kind::BothBad);
        }
        let bytes = pile.bytes(user, message);
        let mut all_right = true;
        for file in found {
            all_right &= fs::read(dir.join(file))? == bytes;
        }
        self.duplicated += u64::from(found.len() > 1);
        self.damaged += u64::from(!all_right);
        Ok(all_right && found.len() == 1)
    }
}

/// `cur/` or `new/` and file name, by base name.
fn files(dir: &Path) -> io::Result<HashMap<String, Vec<String>>> {
    let mut files: HashMap<String, Vec<String>> = HashMap::new();
    for sub in ["cur", "new"] {
        let entries = match fs::read_dir(dir.join(sub)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let base = name.split(':').next().unwrap_or(&name).to_owned();
            files.entry(base).or_default().push(format!("{sub}/{name}"));
        }
    }
    Ok(files)
}

/// UIDs by base name.
fn uids(dir: &Path) -> HashMap<String, u32> {
    let text = fs::read_to_string(dir.join("dovecot-uidlist")).unwrap_or_default();
    let lines = text.lines().skip(1);
    let entry = |line: &str| {
        let (left, name) = line.split_once(':')?;
        Some((name.to_owned(), left.split(' ').next()?.parse().ok()?))
    };
    lines.filter_map(entry).collect()
}
