//! Peers: what a site would use instead, and which messages their output names.
//!
//! # Invariants
//!
//! * A peer works on the same trees as everybody, with what it needs made beforehand, unmeasured.
//! * A peer that is not installed is left out and named.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pile::{Kind, Message, Pile, Tree, User};

/// A program that finds damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finder {
    /// `rsync -acn`, both trees read.
    Rsync,
    /// `b3sum -c` with a manifest of the snapshot, two at once.
    B3sum,
    /// `diff -rq`, both trees read.
    Diff,
    /// `restic backup --force` of the live tree, and a diff with the snapshot's backup.
    Restic,
    /// `borg create` without its cache of files, and a diff.
    Borg,
}

impl Finder {
    pub(crate) const QUICK: [Self; 3] = [Self::Rsync, Self::B3sum, Self::Diff];
    pub(crate) const SLOW: [Self; 2] = [Self::Restic, Self::Borg];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rsync => "rsync -acn",
            Self::B3sum => "b3sum -c, 2 at once",
            Self::Diff => "diff -rq",
            Self::Restic => "restic backup, diff",
            Self::Borg => "borg create, diff",
        }
    }

    /// Whether it reads the snapshot too, not only what was recorded of it.
    pub(crate) fn reads_both(self) -> bool {
        matches!(self, Self::Rsync | Self::Diff)
    }

    pub(crate) fn is_installed(self) -> bool {
        let program = self.name().split(' ').next().unwrap_or_default();
        let found =
            Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        found.is_ok_and(|found| found.status.success())
    }

    /// What was made while all was well: a manifest or a backup of the snapshot.
    pub(crate) fn make_ready(self, pile: &Pile) -> Result<(), Box<dyn Error>> {
        let dir = self.dir(pile);
        if dir.join("ready").exists() {
            return Ok(());
        }
        fs::create_dir_all(&dir)?;
        let (snapshot, at) = (quoted(&pile.tree(Tree::Snapshot)), quoted(&dir));
        let script = match self {
            Self::Rsync | Self::Diff => "true".to_owned(),
            Self::B3sum => format!(
                "cd {snapshot} && find . -type f -path '*/Maildir/*' \\( -path '*/cur/*' -o \
                 -path '*/new/*' \\) -print0 | sort -z | xargs -0 -n 500 b3sum > {at}/all && \
                 cd {at} && split -n l/2 all part."
            ),
            // A tree is compared under the path that it was backed up with.
            Self::Restic => format!(
                "export RESTIC_PASSWORD=x RESTIC_CACHE_DIR={at}/cache; \
                 restic -q -r {at}/repo init && mv {snapshot} {at}/tree && \
                 restic -q -r {at}/repo backup {at}/tree; code=$?; \
                 mv {at}/tree {snapshot}; exit $code"
            ),
            Self::Borg => format!(
                "export BORG_BASE_DIR={at}/base; borg init -e none {at}/repo && \
                 cd {snapshot} && borg create {at}/repo::snapshot ."
            ),
        };
        let status = Command::new("sh").args(["-c", &script]).status()?;
        if !status.success() {
            return Err(format!("{} cannot be made ready", self.name()).into());
        }
        File::create(dir.join("ready"))?;
        Ok(())
    }

    /// What is measured.
    pub(crate) fn command(self, pile: &Pile, round: usize) -> Command {
        let (snapshot, live) = (pile.tree(Tree::Snapshot), pile.tree(Tree::Damaged));
        let (from, to, at) = (quoted(&snapshot), quoted(&live), quoted(&self.dir(pile)));
        let script = match self {
            Self::Rsync => format!("exec rsync -acni {from}/ {to}/"),
            Self::Diff => format!("exec diff -rq {from} {to}"),
            Self::B3sum => format!(
                "cd {to}; for part in aa ab; do b3sum --num-threads 1 --quiet -c \
                 {at}/part.$part > {at}/out.$part 2>&1 & done; wait; cat {at}/out.*"
            ),
            Self::Restic => format!(
                "export RESTIC_PASSWORD=x RESTIC_CACHE_DIR={at}/cache; mv {to} {at}/tree && \
                 restic -q -r {at}/repo backup --force {at}/tree; mv {at}/tree {to}; \
                 set -- $(restic -q -r {at}/repo snapshots --json | \
                 grep -o '\"short_id\":\"[0-9a-f]*' | cut -d'\"' -f4); \
                 first=$1; shift $(($# - 1)); restic -r {at}/repo diff $first $1"
            ),
            Self::Borg => format!(
                "export BORG_BASE_DIR={at}/base; cd {to} && borg create --files-cache=disabled \
                 {at}/repo::live{round} . && borg diff --content-only {at}/repo::snapshot live{round}"
            ),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    }

    fn dir(self, pile: &Pile) -> PathBuf {
        let name = self.name().split(' ').next().unwrap_or_default();
        pile.root.join("peers").join(name)
    }
}

/// A program that repairs or restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mender {
    /// `cp -a`, then a sync.
    Cp,
    /// `rsync -a`, then a sync.
    Rsync,
    /// `rsync -ac`, then a sync.
    RsyncSums,
}

impl Mender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cp => "cp -a + sync",
            Self::Rsync => "rsync -a + sync",
            Self::RsyncSums => "rsync -ac + sync",
        }
    }

    pub(crate) fn command(self, from: &Path, to: &Path) -> Command {
        let (from, to) = (quoted(from), quoted(to));
        let script = match self {
            Self::Cp => format!("cp -a {from}/. {to}/ && sync -f {to}"),
            Self::Rsync => format!("rsync -a {from}/ {to}/ && sync -f {to}"),
            Self::RsyncSums => format!("rsync -ac {from}/ {to}/ && sync -f {to}"),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

/// How many messages of each kind are named in a program's output.
pub(crate) fn named(pile: &Pile, output: &str) -> BTreeMap<Kind, u64> {
    let index = Index::new(pile);
    let mut found = BTreeSet::new();
    for line in output.lines() {
        index.names(line, &mut found);
    }
    let mut kinds = BTreeMap::new();
    for (_, _, kind) in found {
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// Messages by user, folder and base name.
struct Index<'a> {
    users: BTreeMap<usize, &'a User>,
    messages: BTreeMap<(usize, &'a str, &'a str), &'a Message>,
}

impl<'a> Index<'a> {
    fn new(pile: &'a Pile) -> Self {
        let users = pile.users.iter().map(|user| (user.number, user)).collect();
        let all = pile.users.iter().flat_map(|user| {
            let messages = user.messages.iter();
            messages.map(move |it| ((user.number, it.folder, &*it.base), it))
        });
        Self { users, messages: all.collect() }
    }

    /// Adds what a line names: messages, or all of a mailbox that is gone.
    fn names(&self, line: &str, found: &mut BTreeSet<(usize, u32, Kind)>) {
        // `diff`: "Only in DIR: NAME".
        let line = match line.strip_prefix("Only in ") {
            Some(rest) => rest.replacen(": ", "/", 1),
            None => line.to_owned(),
        };
        let Some((_, tail)) = line.split_once("/u") else { return };
        let Some(number) = tail.get(..5).and_then(|digits| digits.parse().ok()) else {
            return;
        };
        let Some(rest) = tail.get(5..).and_then(|it| it.strip_prefix("/Maildir")) else {
            return;
        };
        let mail = rest.split_once("/cur/").or_else(|| rest.split_once("/new/"));
        if let Some((folder, name)) = mail {
            let folder = folder.trim_start_matches(['/', '.']);
            let base = name.split([':', ' ']).next().unwrap_or(name);
            if let Some(message) = self.messages.get(&(number, folder, base)) {
                found.insert((number, message.uid ^ folder_number(folder), message.kind));
            }
        } else if rest.is_empty() {
            let lost = self.users.get(&number).filter(|user| user.is_lost());
            for it in lost.into_iter().flat_map(|user| &user.messages) {
                found.insert((number, it.uid ^ folder_number(it.folder), it.kind));
            }
        }
    }
}

/// Tells the folders of one user apart, above all UIDs.
fn folder_number(folder: &str) -> u32 {
    folder.bytes().next().map_or(0, u32::from) << 24
}
