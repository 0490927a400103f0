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
        is_installed(self.name())
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
    /// `rclone copy --checksum`, then a sync.
    Rclone,
    /// `restic restore` of a backup of the snapshot, then a sync.
    Restic,
    /// `borg extract` of a backup of the snapshot, then a sync.
    Borg,
    /// Dovecot's `dsync`, one way, user by user, then a sync.
    Dsync,
}

impl Mender {
    pub(crate) const SLOW: [Self; 4] =
        [Self::Rclone, Self::Restic, Self::Borg, Self::Dsync];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cp => "cp -a + sync",
            Self::Rsync => "rsync -a + sync",
            Self::RsyncSums => "rsync -ac + sync",
            Self::Rclone => "rclone copy --checksum + sync",
            Self::Restic => "restic restore + sync",
            Self::Borg => "borg extract + sync",
            Self::Dsync => "doveadm sync -1 + sync",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        is_installed(self.name())
    }

    /// Makes what it needs beside the two trees: a backup, or a copy that it may write to.
    pub(crate) fn make_ready(self, pile: &Pile) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Cp | Self::Rsync | Self::RsyncSums | Self::Rclone => Ok(()),
            Self::Restic => Finder::Restic.make_ready(pile),
            Self::Borg => Finder::Borg.make_ready(pile),
            Self::Dsync => self.make_dsync_ready(pile),
        }
    }

    /// It takes its lists anew into the snapshot, and works for nobody who is root.
    fn make_dsync_ready(self, pile: &Pile) -> Result<(), Box<dyn Error>> {
        let (dir, snapshot) = (self.dir(pile), pile.tree(Tree::Snapshot));
        fs::create_dir_all(&dir)?;
        let (at, from) = (quoted(&dir), quoted(&snapshot));
        // An empty GUID, as some lists of the pile have, makes it abort.
        let script = format!(
            "cd {at} && rm -rf snapshot base log && cp -a {from} snapshot && mkdir base && \
             touch log && find snapshot -name dovecot-uidlist -exec \
             sed -i '1s/ G00000000000000000000000000000000/ G{GUID}/' {{}} + && \
             printf '%s\n' 'mail_uid = mail' 'mail_gid = mail' 'first_valid_uid = 1' \
             'first_valid_gid = 1' 'ssl = no' 'stats_writer_socket_path =' \
             'namespace inbox {{' 'inbox = yes' 'separator = .' '}}' > conf && \
             echo base_dir = {at}/base >> conf && echo log_path = {at}/log >> conf && \
             chown -R mail:mail snapshot base log"
        );
        let status = Command::new("sh").args(["-c", &script]).status()?;
        if status.success() { Ok(()) } else { Err("dsync cannot be made ready".into()) }
    }

    /// What brings a live tree to what the snapshot has.
    pub(crate) fn command(self, pile: &Pile, live: &Path, from: &Path) -> Command {
        let (from, to) = (quoted(from), quoted(live));
        let restic = quoted(&Finder::Restic.dir(pile));
        let (borg, dsync) = (quoted(&Finder::Borg.dir(pile)), quoted(&self.dir(pile)));
        let list = quoted(&pile.list());
        let script = match self {
            Self::Cp => format!("cp -a {from}/. {to}/"),
            Self::Rsync => format!("rsync -a {from}/ {to}/"),
            Self::RsyncSums => format!("rsync -ac {from}/ {to}/"),
            Self::Rclone => format!("rclone copy --checksum --links {from} {to}"),
            // It puts a tree where it was, below a directory.
            Self::Restic => format!(
                "export RESTIC_PASSWORD=x RESTIC_CACHE_DIR={restic}/cache; \
                 set -- $(restic -q -r {restic}/repo snapshots --json | \
                 grep -o '\"short_id\":\"[0-9a-f]*' | cut -d'\"' -f4); \
                 mkdir -p {to}-under{restic} && mv {to} {to}-under{restic}/tree && \
                 restic -q -r {restic}/repo restore $1 --target {to}-under; \
                 mv {to}-under{restic}/tree {to}"
            ),
            Self::Borg => format!(
                "export BORG_BASE_DIR={borg}/base; cd {to} && \
                 borg extract {borg}/repo::snapshot"
            ),
            Self::Dsync => format!(
                "export USER=mail HOME={dsync}; cut -f2 {list} | while read -r path; do \
                 doveadm -c {dsync}/conf -o mail_location=maildir:{to}/$path \
                 sync -1 -R maildir:{dsync}/snapshot/$path 2>> {dsync}/errors; done; true"
            ),
        };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{script} && sync -f {to}")]);
        command
    }

    fn dir(self, pile: &Pile) -> PathBuf {
        let name = self.name().split(' ').next().unwrap_or_default();
        pile.root.join("peers").join(name)
    }
}

/// Stands for an empty one.
const GUID: &str = "0123456789abcdef0123456789abcdef";

/// Whether the program that a name begins with is there.
fn is_installed(name: &str) -> bool {
    let program = name.split(' ').next().unwrap_or_default();
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|found| found.status.success())
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
