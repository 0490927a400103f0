//! Intent: what a batch is about to change, written down before the first of it changes.
//!
//! Half of the changes are no evidence: a message that is back in its folder looks as if it had never
//! been away, and mail that was set aside no longer tells what else may be missing. So whoever comes
//! after a stop first brings a mailbox to the end that was decided, and only then judges it again.
//!
//! # Invariants
//!
//! * An intent gets its name once what it needs is durable; under another name it is void, and nothing
//!   was done of it.
//! * Every act done twice is done once: a staged file that is no longer there has taken its place, and
//!   so has a file that is where it was to be kept.
//! * Where a mailbox is not as the acts left it, none of them is done any more: it is judged anew.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ledger::MessageCounts;
use crate::manifest::number;
use crate::refusal::Refusal;
use crate::roots::{Act, Like, Roots};
use crate::walk::{Meta, escape, join, unescape};

/// Where they are, below the work directory.
const DIR: &str = "intents";

/// The first line.
const HEAD: &str = "tidegate-intent 1";

/// Ends the name of one that is not durable yet.
const DRAFT: &str = "draft";

/// What is left to do for one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) acts: Vec<Act>,
    /// How its messages end by them.
    pub(crate) counts: MessageCounts,
}

/// One mailbox of a batch: its key, its acts, and how its messages end by them.
pub(crate) type Planned<'a> = (u64, &'a [Act], MessageCounts);

/// The intents of one store.
#[derive(Debug)]
pub(crate) struct Intents {
    dir: PathBuf,
    /// How many names were given out.
    named: AtomicU64,
    /// What an earlier run left, by the mailbox's key, with the file that has it.
    left: Mutex<HashMap<u64, (PathBuf, Left)>>,
}

impl Intents {
    /// Reads what an earlier process left in the work directory.
    ///
    /// # Errors
    ///
    /// What cannot be read, and why; nothing may be judged then.
    pub(crate) fn open(work: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let dir = work.join(DIR);
        let refuse = |error| (dir.clone(), error);
        fs::create_dir_all(&dir).map_err(refuse)?;
        let (mut left, mut named) = (HashMap::new(), 0);
        for entry in fs::read_dir(&dir).map_err(refuse)? {
            let path = entry.map_err(refuse)?.path();
            let name = path.file_name().and_then(OsStr::to_str);
            let Some(name) = name.and_then(|name| number::<u64>(name.as_bytes())) else {
                // A draft: nothing was done of it.
                fs::remove_file(&path).map_err(|error| (path, error))?;
                continue;
            };
            named = named.max(name);
            let all = read(&path, work).map_err(|error| (path.clone(), error))?;
            left.extend(all.into_iter().map(|(key, it)| (key, (path.clone(), it))));
        }
        let (named, left) = (AtomicU64::new(named + 1), Mutex::new(left));
        Ok(Self { dir, named, left })
    }

    /// Removes from the staging directory what an earlier process left there and no intent names; the
    /// highest number in what stays.
    pub(crate) fn clear(&self, staging: &Path) -> io::Result<u64> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let acts = left.values().flat_map(|(_, left)| &left.acts);
        let needed: HashSet<&Path> = acts.filter_map(Act::staged).collect();
        fs::create_dir_all(staging)?;
        let mut highest = 0;
        for entry in fs::read_dir(staging)? {
            let entry = entry?;
            let path = entry.path();
            if needed.contains(&*path) {
                let name =
                    path.as_os_str().as_bytes().rsplit(|byte| *byte == b'-').next();
                highest = highest.max(name.and_then(number).unwrap_or(0));
            } else if entry.file_type()?.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(highest)
    }

    /// Writes down what is about to be done; nothing if that is nothing but records of our own.
    pub(crate) fn draft<'a>(
        &self,
        roots: &Roots,
        planned: impl Iterator<Item = Planned<'a>>,
    ) -> io::Result<Option<Draft>> {
        let is_change = |act: &Act| !matches!(act, Act::Record { .. });
        let mut planned =
            planned.filter(|(_, acts, _)| acts.iter().any(is_change)).peekable();
        if planned.peek().is_none() {
            return Ok(None);
        }
        let name = self.named.fetch_add(1, Ordering::Relaxed).to_string();
        let to = self.dir.join(name);
        let draft = Draft { path: to.with_extension(DRAFT), to };
        let written = write(roots, &draft.path, planned);
        if written.is_err() {
            // The next opening removes it.
            let _ = roots.discard(std::slice::from_ref(&draft.path));
        }
        written.map(|()| Some(draft))
    }

    /// What an earlier run left to do for a mailbox.
    pub(crate) fn take(&self, key: u64) -> Option<(PathBuf, Left)> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
    }

    /// Remembers what is left to do for a mailbox.
    pub(crate) fn leave(&self, key: u64, (path, left): (PathBuf, Left)) {
        let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key, (path, left));
    }

    /// Removes an intent, unless something of it is left to do.
    pub(crate) fn settle(&self, roots: &Roots, path: &Path) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.values().all(|(other, _)| other != path) {
            // What stays is done: the next run finds nothing to do for it.
            let _ = roots.discard(&[path.to_owned()]);
        }
    }
}

/// An intent that is written, and not durable yet.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    to: PathBuf,
}

impl Draft {
    /// Gives it its name: what it needs is durable. Where it is.
    pub(crate) fn publish(self, roots: &Roots) -> io::Result<PathBuf> {
        roots.record(&self.path, &self.to)?;
        Ok(self.to)
    }

    /// Removes it: nothing will be done of it.
    pub(crate) fn withdraw(self, roots: &Roots) {
        // The next opening removes what stays.
        let _ = roots.discard(&[self.path]);
    }
}

impl Left {
    /// Does what is not done yet; whether all could be done. If not, the mailbox is not as the acts
    /// left it, and nothing was done.
    pub(crate) fn carry_out(&self, roots: &Roots) -> Result<bool, Refusal> {
        let mut freed = HashSet::new();
        let mut due = Vec::new();
        for act in &self.acts {
            match standing(roots, act, &mut freed)? {
                Standing::Done => {}
                Standing::Due => due.push(act),
                Standing::Void => return Ok(false),
            }
        }
        let mut live = crate::walk::Reach::new(&roots.live);
        due.into_iter().try_for_each(|act| roots.carry_out(act, &mut live))?;
        Ok(true)
    }

    /// What was made ready for it.
    pub(crate) fn staged(&self) -> Vec<PathBuf> {
        self.acts.iter().filter_map(Act::staged).map(Path::to_owned).collect()
    }
}

enum Standing {
    Done,
    Due,
    /// Something else happened there.
    Void,
}

/// How far an act is. `freed`: names that earlier acts are going to free.
fn standing(
    roots: &Roots,
    act: &Act,
    freed: &mut HashSet<Vec<u8>>,
) -> Result<Standing, Refusal> {
    if let Some(staged) = act.staged()
        && !is_there(staged)?
    {
        return Ok(Standing::Done);
    }
    let is_as = |dir: &[u8], name: &[u8], judged: Option<&Meta>| {
        let path = join(dir, name);
        let refuse = |errno| Refusal::read(&path, errno);
        let found = match roots.live.dir_if_there(dir).map_err(refuse)? {
            Some(dir) => dir.look(name).map_err(refuse)?,
            None => None,
        };
        Ok(match (found, judged) {
            (Some((_, now)), Some(judged)) => now.same_bytes_as(judged),
            (Some(_), None) => freed.contains(&path),
            (None, judged) => judged.is_none(),
        })
    };
    let fits = match act {
        Act::Put { dir, name, replaces, .. } => is_as(dir, name, replaces.as_ref())?,
        Act::PutTree { path, .. } => {
            let refuse = |errno| Refusal::read(path, errno);
            roots.live.dir_if_there(path).map_err(refuse)?.is_none()
        }
        Act::Aside { to, .. } if is_there(to)? => return Ok(Standing::Done),
        Act::Aside { dir, name, meta, .. } => {
            let fits = is_as(dir, name, Some(meta))?;
            freed.insert(join(dir, name));
            fits
        }
        Act::MakeDir { .. } | Act::Touch { .. } | Act::Record { .. } => true,
    };
    Ok(if fits { Standing::Due } else { Standing::Void })
}

fn is_there(path: &Path) -> Result<bool, Refusal> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(Refusal::unreadable(escape(path.as_os_str().as_bytes()), error))
        }
    }
}

fn write<'a>(
    roots: &Roots,
    path: &Path,
    planned: impl Iterator<Item = Planned<'a>>,
) -> io::Result<()> {
    let mut file = BufWriter::new(roots.create(path, None)?);
    let mut check = blake3::Hasher::new();
    let mut put = |line: String| {
        check.update(line.as_bytes()).update(b"\n");
        writeln!(file, "{line}")
    };
    put(HEAD.to_owned())?;
    for (key, acts, counts) in planned {
        let MessageCounts { intact, repaired, returned, newer, deleted, set_aside, lost } =
            counts;
        put(format!(
            "b\t{key}\t{intact}\t{repaired}\t{returned}\t{newer}\t{deleted}\t{set_aside}\t{lost}"
        ))?;
        for act in acts {
            put(to_line(act, &roots.work))?;
        }
    }
    writeln!(file, "{}", check.finalize().to_hex())?;
    file.flush()
}

fn to_line(act: &Act, work: &Path) -> String {
    let own = |path: &Path| {
        escape(path.strip_prefix(work).unwrap_or(path).as_os_str().as_bytes())
    };
    match act {
        Act::MakeDir { path, like: Like { mode, uid, gid, modified: _ } } => {
            format!("d\t{}\t{mode}\t{uid}\t{gid}", escape(path))
        }
        Act::Put { staged, dir, name, replaces } => {
            let (staged, dir, name) = (own(staged), escape(dir), escape(name));
            let replaces = replaces.as_ref().map_or_else(|| "-".to_owned(), to_field);
            format!("p\t{staged}\t{dir}\t{name}\t{replaces}")
        }
        Act::PutTree { staged, path } => {
            format!("t\t{}\t{}", own(staged), escape(path))
        }
        Act::Aside { dir, name, meta, to } => {
            let (dir, name, meta) = (escape(dir), escape(name), to_field(meta));
            format!("a\t{dir}\t{name}\t{meta}\t{}", own(to))
        }
        Act::Touch { dir, name } => format!("c\t{}\t{}", escape(dir), escape(name)),
        Act::Record { staged, to } => format!("r\t{}\t{}", own(staged), own(to)),
    }
}

/// What tells whether a file has still the bytes that were judged.
fn to_field(meta: &Meta) -> String {
    let (seconds, nanoseconds) = meta.modified;
    format!("{}:{}:{seconds}:{nanoseconds}", meta.inode, meta.size)
}

/// Reads an intent that got its name.
fn read(path: &Path, work: &Path) -> io::Result<Vec<(u64, Left)>> {
    let damaged = || {
        let why = format!("`{}` is damaged", path.display());
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    let mut lines = BufReader::new(fs::File::open(path)?).lines();
    let mut check = blake3::Hasher::new();
    let mut all: Vec<(u64, Left)> = Vec::new();
    let mut line = lines.next().transpose()?.ok_or_else(damaged)?;
    if line != HEAD {
        return Err(damaged());
    }
    loop {
        check.update(line.as_bytes()).update(b"\n");
        line = lines.next().transpose()?.ok_or_else(damaged)?;
        if !line.contains('\t') {
            break;
        }
        if let Some(head) = line.strip_prefix("b\t") {
            all.push(parse_head(head).ok_or_else(damaged)?);
        } else {
            let (_, left) = all.last_mut().ok_or_else(damaged)?;
            left.acts.push(parse_act(&line, work).ok_or_else(damaged)?);
        }
    }
    let is_whole = line == check.finalize().to_hex().as_str();
    (is_whole && lines.next().is_none()).then_some(all).ok_or_else(damaged)
}

fn parse_head(line: &str) -> Option<(u64, Left)> {
    let fields: Option<Vec<u64>> =
        line.split('\t').map(|field| number(field.as_bytes())).collect();
    let [key, intact, repaired, returned, newer, deleted, set_aside, lost] =
        fields?.try_into().ok()?;
    let counts =
        MessageCounts { intact, repaired, returned, newer, deleted, set_aside, lost };
    Some((key, Left { acts: Vec::new(), counts }))
}

fn parse_act(line: &str, work: &Path) -> Option<Act> {
    let own = |field: &str| work.join(OsStr::from_bytes(&unescape(field)));
    let fields: Vec<&str> = line.split('\t').collect();
    Some(match *fields.as_slice() {
        ["d", path, mode, uid, gid] => {
            let part = |field: &str| number(field.as_bytes());
            let (mode, uid, gid) = (part(mode)?, part(uid)?, part(gid)?);
            let like = Like { mode, uid, gid, modified: None };
            Act::MakeDir { path: unescape(path), like }
        }
        ["p", staged, dir, name, replaces] => {
            let replaces = match replaces {
                "-" => None,
                field => Some(parse_meta(field)?),
            };
            let (dir, name) = (unescape(dir), unescape(name));
            Act::Put { staged: own(staged), dir, name, replaces }
        }
        ["t", staged, path] => Act::PutTree { staged: own(staged), path: unescape(path) },
        ["a", dir, name, meta, to] => {
            let (dir, name) = (unescape(dir), unescape(name));
            Act::Aside { dir, name, meta: parse_meta(meta)?, to: own(to) }
        }
        ["c", dir, name] => Act::Touch { dir: unescape(dir), name: unescape(name) },
        ["r", staged, to] => Act::Record { staged: own(staged), to: own(to) },
        _ => return None,
    })
}

fn parse_meta(field: &str) -> Option<Meta> {
    let mut parts = field.split(':');
    let (inode, size) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let modified = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    // The rest tells nothing of bytes.
    let (mode, uid, gid, changed) = (0, 0, 0, modified);
    let meta = Meta { inode, size, mode, uid, gid, modified, changed };
    parts.next().is_none().then_some(meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORK: &str = "/srv/work";

    fn check(act: &Act) {
        let line = to_line(act, Path::new(WORK));

        assert!(!line.contains('\n'), "{line}");
        let read = parse_act(&line, Path::new(WORK)).unwrap();
        assert_eq!(to_line(&read, Path::new(WORK)), line);
        assert_eq!(read.staged(), act.staged());
    }

    fn meta() -> Meta {
        let (modified, changed) = ((-5, 17), (9, 9));
        Meta { inode: 7, size: 4, mode: 0o600, uid: 1, gid: 2, modified, changed }
    }

    proptest! {
        #[test]
        fn every_act_reads_back_whatever_its_names_are(
            dir in "[^\0/]{1,9}", name in prop::collection::vec(1_u8.., 1..20),
        ) {
            let (dir, staged) = (dir.into_bytes(), Path::new(WORK).join("staging/g1-2"));
            let name: Vec<u8> = name.into_iter().filter(|byte| *byte != b'/').collect();
            let to = Path::new(WORK).join("kept").join(OsStr::from_bytes(&name));
            let like = Like { mode: 0o700, uid: 5, gid: 6, modified: None };
            check(&Act::MakeDir { path: join(&dir, &name), like });
            for replaces in [None, Some(meta())] {
                let (staged, dir, name) = (staged.clone(), dir.clone(), name.clone());
                check(&Act::Put { staged, dir, name, replaces });
            }
            check(&Act::PutTree { staged: staged.clone(), path: name.clone() });
            check(&Act::Touch { dir: dir.clone(), name: name.clone() });
            check(&Act::Record { staged, to: to.clone() });
            check(&Act::Aside { dir, name, meta: meta(), to });
        }
    }

    #[test]
    fn what_tells_of_bytes_reads_back() {
        let read = parse_meta(&to_field(&meta())).unwrap();

        assert!(read.same_bytes_as(&meta()));
        assert!(parse_meta("7:4:5").is_none());
    }
}
