//! Redo: what a switch is going to do, written down before the first of it happens.
//!
//! # Invariants
//!
//! * The list is durable before the first step, and every step done twice is done once: a staged file
//!   that is no longer there has taken its place.
//! * What a step replaces or moves is kept first.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, RenameFlags};
use rustix::io::Errno;

use crate::digest::Fingerprint;
use crate::manifest::{ManifestEntry, number};
use crate::refusal::Refusal;
use crate::roots::{Like, Roots, dress, is_kept};
use crate::walk::{Tree, escape, unescape};

/// The first line of the list.
const HEAD: &str = "tidegate-dial-switch 1";

/// One change to the history. Paths are below the mail root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A missing directory.
    MakeDir { path: Vec<u8>, mode: u32, uid: u32, gid: u32 },
    /// A staged file under a name; what has the name is kept below the work directory first.
    Put { staged: u32, path: Vec<u8>, keep: Option<Vec<u8>> },
    /// A file out of the mailbox, to below the work directory.
    Aside { path: Vec<u8>, keep: Vec<u8> },
}

/// A message, or something else, that stays in the store of the dial tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its folder; empty is the inbox.
    pub folder: String,
    /// Its name there.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What a folder must hold afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) folder: Vec<u8>,
    pub(super) before: u64,
    pub(super) after: u64,
    /// Of all its messages: UIDs, names, flags.
    pub(super) digest: String,
}

/// A message that is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Imported {
    /// Its folder and name in the dial tone's store.
    pub(super) from: (Vec<u8>, Vec<u8>),
    /// As the manifest has it from then on.
    pub(super) entry: ManifestEntry,
}

/// All that one round of a switch does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) steps: Vec<Step>,
    pub(super) imported: Vec<Imported>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) expected: Vec<Expected>,
    /// Folders that the history did not have.
    pub(super) made: u64,
    /// The mailbox's stamp when all was done.
    pub(super) stamp: Option<u128>,
}

impl Intent {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut lines = vec![HEAD.to_owned()];
        lines.extend(self.steps.iter().map(Step::to_line));
        lines.extend(self.imported.iter().map(Imported::to_line));
        for it in &self.left_out {
            let why = escape(it.why.as_bytes());
            lines.push(format!("l\t{}\t{}\t{why}", it.folder, it.name));
        }
        for it in &self.expected {
            let (folder, digest) = (escape(&it.folder), &it.digest);
            lines.push(format!("e\t{folder}\t{}\t{}\t{digest}", it.before, it.after));
        }
        lines.push(format!("m\t{}", self.made));
        lines.extend(self.stamp.map(|stamp| format!("s\t{stamp}")));
        let text = lines.join("\n") + "\n";
        let check = blake3::hash(text.as_bytes()).to_hex();
        format!("{text}{check}\n").into_bytes()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let end = text.rfind('\n')? + 1;
        let (text, check) = text.split_at_checked(end)?;
        if blake3::hash(text.as_bytes()).to_hex().as_str() != check {
            return None;
        }
        let mut lines = text.lines();
        (lines.next()? == HEAD).then_some(())?;
        let mut intent = Self::default();
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            match *fields.as_slice() {
                ["i", ..] => intent.imported.push(Imported::parse(&fields)?),
                ["l", folder, name, why] => {
                    let why = String::from_utf8(unescape(why)).ok()?;
                    let (folder, name) = (folder.to_owned(), name.to_owned());
                    intent.left_out.push(LeftOut { folder, name, why });
                }
                ["e", folder, before, after, digest] => intent.expected.push(Expected {
                    folder: unescape(folder),
                    before: number(before.as_bytes())?,
                    after: number(after.as_bytes())?,
                    digest: digest.to_owned(),
                }),
                ["m", made] => intent.made = number(made.as_bytes())?,
                ["s", stamp] => intent.stamp = Some(number(stamp.as_bytes())?),
                _ => intent.steps.push(Step::parse(&fields)?),
            }
        }
        Some(intent)
    }
}

impl Imported {
    fn to_line(&self) -> String {
        let (folder, from) = (escape(&self.from.0), escape(&self.from.1));
        let ManifestEntry { name, uid, size_bytes, fingerprint, .. } = &self.entry;
        let (name, uid) = (escape(name), uid.unwrap_or(0));
        format!("i\t{folder}\t{from}\t{name}\t{uid}\t{size_bytes}\t{fingerprint}")
    }

    fn parse(fields: &[&str]) -> Option<Self> {
        let ["i", folder, from, name, uid, size, fingerprint] = *fields else {
            return None;
        };
        let folder = unescape(folder);
        let uid: u32 = number(uid.as_bytes())?;
        Some(Self {
            from: (folder.clone(), unescape(from)),
            entry: ManifestEntry {
                folder,
                name: unescape(name),
                uid: (uid != 0).then_some(uid),
                size_bytes: number(size.as_bytes())?,
                fingerprint: Fingerprint::parse(fingerprint.as_bytes())?,
            },
        })
    }
}

impl Step {
    fn to_line(&self) -> String {
        match self {
            Self::MakeDir { path, mode, uid, gid } => {
                format!("d\t{}\t{mode}\t{uid}\t{gid}", escape(path))
            }
            Self::Put { staged, path, keep: None } => {
                format!("p\t{staged}\t{}", escape(path))
            }
            Self::Put { staged, path, keep: Some(keep) } => {
                format!("r\t{staged}\t{}\t{}", escape(path), escape(keep))
            }
            Self::Aside { path, keep } => {
                format!("a\t{}\t{}", escape(path), escape(keep))
            }
        }
    }

    fn parse(fields: &[&str]) -> Option<Self> {
        Some(match *fields {
            ["d", path, mode, uid, gid] => {
                let path = unescape(path);
                let [mode, uid, gid] = [mode, uid, gid].map(|it| number(it.as_bytes()));
                Self::MakeDir { path, mode: mode?, uid: uid?, gid: gid? }
            }
            ["p", staged, path] => {
                let staged = number(staged.as_bytes())?;
                Self::Put { staged, path: unescape(path), keep: None }
            }
            ["r", staged, path, keep] => {
                let staged = number(staged.as_bytes())?;
                let keep = Some(unescape(keep));
                Self::Put { staged, path: unescape(path), keep }
            }
            ["a", path, keep] => {
                Self::Aside { path: unescape(path), keep: unescape(keep) }
            }
            _ => return None,
        })
    }

    /// Carries the step out, unless it was. `round`: where files are staged.
    pub(super) fn carry_out(&self, roots: &Roots, round: &Path) -> Result<(), Refusal> {
        let (Self::MakeDir { path, .. }
        | Self::Put { path, .. }
        | Self::Aside { path, .. }) = self;
        let done = match self {
            Self::MakeDir { path, mode, uid, gid } => {
                let like = Like { mode: *mode, uid: *uid, gid: *gid, modified: None };
                make_dir(roots, &roots.live, path, like)
            }
            Self::Put { staged, path, keep } => {
                let staged = round.join(staged.to_string());
                put(roots, &staged, path, keep.as_deref())
            }
            Self::Aside { path, keep } => aside(roots, path, keep),
        };
        done.map_err(|error| Refusal::write(path, error))
    }
}

/// Makes a directory below a root, if it is not there, and gives it its owner and mode.
pub(super) fn make_dir(
    roots: &Roots,
    root: &Tree,
    path: &[u8],
    like: Like,
) -> io::Result<()> {
    let (parent, name) = split(path);
    roots.fuse.burn()?;
    let parent = root.dir(parent)?;
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let dir = parent.dir(name)?;
    let dir = File::from(rustix::io::dup(&dir)?);
    dress(&dir, like).map(|_| ())
}

fn put(roots: &Roots, staged: &Path, path: &[u8], keep: Option<&[u8]>) -> io::Result<()> {
    if is_absent(staged)? {
        return Ok(());
    }
    let (dir, name) = split(path);
    let flags = match keep {
        Some(keep) => {
            let to = roots.work.join(OsStr::from_bytes(keep));
            if let Some(parent) = to.parent() {
                roots.make_own_dirs(parent)?;
            }
            roots.keep((dir, name), &to)?;
            RenameFlags::empty()
        }
        None => RenameFlags::NOREPLACE,
    };
    roots.fuse.burn()?;
    let dir = roots.live.dir(dir)?;
    Ok(rustix::fs::renameat_with(CWD, staged, &dir, name, flags)?)
}

fn aside(roots: &Roots, path: &[u8], keep: &[u8]) -> io::Result<()> {
    let (dir, name) = split(path);
    let to = roots.work.join(OsStr::from_bytes(keep));
    if let Some(parent) = to.parent() {
        roots.make_own_dirs(parent)?;
    }
    let dir = roots.live.dir(dir)?;
    if dir.look(name)?.is_none() && !is_absent(&to)? {
        return Ok(());
    }
    roots.fuse.burn()?;
    Ok(rustix::fs::renameat_with(&dir, name, CWD, &to, RenameFlags::NOREPLACE)?)
}

/// Links the file at `from`, below a root, to a new name of our own.
pub(super) fn link(
    roots: &Roots,
    (root, from): (&Tree, &[u8]),
    to: &Path,
) -> io::Result<()> {
    let (dir, name) = split(from);
    let dir = root.dir(dir)?;
    roots.fuse.burn()?;
    match rustix::fs::linkat(&dir, name, CWD, to, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if is_kept((&dir, name), to)? => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes a file of our own that appears whole or not at all.
pub(super) fn write_own(roots: &Roots, bytes: &[u8], to: &Path) -> io::Result<()> {
    let staged = to.with_extension("new");
    roots.fuse.burn()?;
    fs::write(&staged, bytes)?;
    roots.record(&staged, to)
}

/// Reads a file of our own, if it is there.
pub(super) fn read_own(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_absent(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Parent and last part of a relative path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => {
            let (parent, name) = path.split_at(at);
            (parent, name.get(1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

/// A path of our own for bytes that name one.
pub(super) fn below(dir: &Path, rel: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(rel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_is_read_again_and_damage_is_seen() {
        let name = b"1.a\tb\\\xff".to_vec();
        let intent = Intent {
            steps: vec![
                Step::MakeDir { path: name.clone(), mode: 0o700, uid: 5, gid: 6 },
                Step::Put { staged: 1, path: name.clone(), keep: None },
                Step::Put { staged: 2, path: name.clone(), keep: Some(name.clone()) },
                Step::Aside { path: name.clone(), keep: name.clone() },
            ],
            imported: vec![Imported {
                from: (Vec::new(), name.clone()),
                entry: ManifestEntry {
                    folder: Vec::new(),
                    name: name.clone(),
                    uid: Some(7),
                    size_bytes: 8,
                    fingerprint: Fingerprint::Xxh3([9; 16]),
                },
            }],
            left_out: vec![LeftOut {
                folder: String::new(),
                name: escape(&name),
                why: "so\tit is".to_owned(),
            }],
            expected: vec![Expected {
                folder: name,
                before: 1,
                after: 2,
                digest: "d".to_owned(),
            }],
            made: 3,
            stamp: Some(4),
        };

        let bytes = intent.to_bytes();

        assert_eq!(Intent::parse(&bytes), Some(intent));
        assert_eq!(Intent::parse(bytes.get(..bytes.len() - 9).unwrap()), None);
        assert_eq!(Intent::parse(b""), None);
    }
}
