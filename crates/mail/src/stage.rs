//! Stage: everything that can be made ready before the live tree changes.
//!
//! # Invariants
//!
//! * Until the acts are carried out, the live tree has changed by nothing but link counts.
//! * Whatever an act will replace or move is kept, or has a free place to go to, beforehand.
//! * Staged bytes are checked against the digest that was judged while they are written.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::attributes;
use crate::digest::{Digest, Digester};
use crate::judge::fill;
use crate::refusal::Refusal;
use crate::roots::{Act, Like, Roots, Side, dress};
use crate::stamp::weigh;
use crate::walk::{Meta, Reach, escape, join};

/// Control files larger than this are not read: a list of two million messages has half of it.
const CONTROL_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Other names tried where a name is taken among what is kept; more means that the same message was
/// set aside again and again.
const KEPT_NAMES_MAX: u32 = 1000;

/// When an act happens; within one, in the order of staging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Directories,
    Keywords,
    Messages,
    Uidlists,
    Records,
}

/// The workplace for one mailbox.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    roots: &'a Roots,
    live: Reach<'a>,
    /// Path of the Maildir below both roots.
    path: &'a [u8],
    owner: &'a str,
    key: u64,
    generation: u64,
    buffer: &'a mut [u8],
    pub(crate) bytes_read: u64,
    /// The mailbox's stamp as it was read, as a sum; nothing if not all of it is known.
    pub(crate) weight: Option<u128>,
    acts: Vec<(Phase, Act)>,
    /// Where planned acts will put something.
    promised: HashSet<PathBuf>,
    /// Directories for what is kept that are there.
    made: HashSet<PathBuf>,
    /// Names given out for files and trees that are made ready.
    staged: Vec<PathBuf>,
    /// Where a file of our own was made last.
    own: Option<OwnDir>,
    /// Trees that will be moved in, and where to, below the mailbox.
    trees: Vec<(PathBuf, Vec<u8>)>,
    /// What the files in them add to the mailbox's stamp.
    tree_weight: u128,
    /// Their directories, below the mailbox.
    tree_dirs: Vec<Vec<u8>>,
}

/// A directory of our own, open for as long as files are made in it one after the other.
#[derive(Debug)]
struct OwnDir {
    path: PathBuf,
    fd: OwnedFd,
    /// Where it will be below the mailbox, if it is in a tree.
    rel: Option<Vec<u8>>,
}

/// A file of our own that gets the bytes of another one while these are judged.
#[derive(Debug)]
pub(crate) struct Copying {
    file: File,
    like: Like,
    to: PathBuf,
    /// The file system gave it all bytes at once.
    shared: bool,
}

impl Copying {
    /// Where to read what is judged, if that is the copy itself: of bytes that were shared, those count
    /// that it has.
    pub(crate) fn shared(&mut self) -> Option<&mut File> {
        self.shared.then_some(&mut self.file)
    }
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        roots: &'a Roots,
        mailbox: &'a crate::Mailbox,
        generation: u64,
        buffer: &'a mut [u8],
    ) -> Self {
        let (path, owner, key) = (&*mailbox.path, &*mailbox.address, mailbox.key);
        Self {
            roots,
            live: Reach::new(&roots.live),
            path,
            owner,
            key,
            generation,
            buffer,
            bytes_read: 0,
            weight: None,
            acts: Vec::new(),
            promised: HashSet::new(),
            made: HashSet::new(),
            staged: Vec::new(),
            own: None,
            trees: Vec::new(),
            tree_weight: 0,
            tree_dirs: Vec::new(),
        }
    }

    /// The acts in order.
    pub(crate) fn take_acts(&mut self) -> Vec<Act> {
        let mut acts = std::mem::take(&mut self.acts);
        acts.sort_by_key(|(phase, _)| *phase);
        acts.into_iter().map(|(_, act)| act).collect()
    }

    /// What the trees that are moved in add to the mailbox's stamp: their files, and which directories.
    pub(crate) fn take_trees(&mut self) -> (u128, Vec<Vec<u8>>) {
        (self.tree_weight, std::mem::take(&mut self.tree_dirs))
    }

    /// Where things were made ready; acts take most of them from there.
    pub(crate) fn take_staged(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.staged)
    }

    pub(crate) fn roots(&self) -> &'a Roots {
        self.roots
    }

    /// The address of the mailbox's owner.
    pub(crate) fn owner(&self) -> &'a str {
        self.owner
    }

    /// Remembers the bytes of a good message of this mailbox.
    pub(crate) fn remember(&self, digest: Digest) {
        self.roots.elsewhere.remember(digest, self.key);
    }

    /// Another mailbox of the node has a message with these bytes, as far as is remembered.
    pub(crate) fn stands_elsewhere(&self, digest: Digest) -> bool {
        self.roots.elsewhere.knows(digest, self.key)
    }

    /// The path of something in the Maildir, below the root.
    pub(crate) fn path(&self, rel: &[u8]) -> Vec<u8> {
        join(self.path, rel)
    }

    pub(crate) fn act(&mut self, phase: Phase, act: Act) {
        self.acts.push((phase, act));
    }

    /// Reads a control file whole; nothing if it is not there or too large to be one.
    pub(crate) fn control(
        &mut self,
        side: Side,
        rel: &[u8],
        meta: Option<&Meta>,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        if meta.is_none_or(|meta| meta.size > CONTROL_BYTES_MAX) {
            return Ok(None);
        }
        let path = self.path(rel);
        let room = meta.map_or(0, |meta| usize::try_from(meta.size).unwrap_or(0));
        // One more byte, so that its end is seen without growing.
        let mut bytes = Vec::with_capacity(room + 1);
        let file = match self.open(side, &path) {
            Err(Refusal::Unreadable { .. }) => return Ok(None),
            result => result?,
        };
        let read = file.take(CONTROL_BYTES_MAX).read_to_end(&mut bytes);
        self.bytes_read += bytes.len() as u64;
        Ok(read.ok().map(|_| bytes))
    }

    /// Opens a control file; nothing if it is not there, too large to be one, or not given by the
    /// disk.
    pub(crate) fn open_control(
        &mut self,
        side: Side,
        rel: &[u8],
        meta: Option<&Meta>,
    ) -> Result<Option<File>, Refusal> {
        let Some(meta) = meta.filter(|meta| meta.size <= CONTROL_BYTES_MAX) else {
            return Ok(None);
        };
        match self.open(side, &self.path(rel)) {
            Err(Refusal::Unreadable { .. }) => Ok(None),
            result => {
                self.bytes_read += meta.size;
                result.map(Some)
            }
        }
    }

    /// The one buffer for everything that is read.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        self.buffer
    }

    /// Whether the first bytes of a file are all zero.
    pub(crate) fn begins_with_zeros(
        &mut self,
        rel: &[u8],
        length: usize,
    ) -> Result<bool, Refusal> {
        let mut file = self.open(Side::Live, &self.path(rel))?;
        let head = self.buffer.get_mut(..length).unwrap_or_default();
        let filled = fill(&mut file, head).unwrap_or(0);
        Ok(filled > 0 && head.iter().take(filled).all(|byte| *byte == 0))
    }

    /// Opens a file of a mailbox for reading.
    pub(crate) fn open_mail(&self, (side, rel): (Side, &[u8])) -> Result<File, Refusal> {
        self.open(side, &self.path(rel))
    }

    fn open(&self, side: Side, path: &[u8]) -> Result<File, Refusal> {
        let tree = self.roots.tree(side);
        let tree = tree.ok_or_else(|| Refusal::NotThere { path: escape(path) })?;
        let (file, _) = tree.file(path).map_err(|errno| Refusal::read(path, errno))?;
        Ok(file)
    }

    /// Copies a message that was judged to `to`, a new file of our own, where the file system can by
    /// sharing its bytes. `like` is asked with the file that is copied; `as_live`: the live file whose
    /// attributes it gets instead of those of the copied one.
    pub(crate) fn stage_copy(
        &mut self,
        (side, rel): (Side, &[u8]),
        (digest, as_live): (Digest, Option<&[u8]>),
        like: &dyn Fn(&Meta) -> Like,
        to: &Path,
    ) -> Result<(), Refusal> {
        let path = self.path(rel);
        let tree = self.roots.tree(side);
        let tree = tree.ok_or_else(|| Refusal::NotThere { path: escape(&path) })?;
        let (mut source, meta) =
            tree.file(&path).map_err(|errno| Refusal::read(&path, errno))?;
        let file = self.create(to, Some(like(&meta)));
        let mut file = file.map_err(|error| Refusal::write(&path, error))?;
        let shared = rustix::fs::ioctl_ficlone(&file, &source).is_ok();
        let mut hasher = Digester::default();
        loop {
            let length = fill(&mut source, self.buffer);
            let length =
                length.map_err(|source| Refusal::unreadable(escape(&path), source))?;
            let chunk = self.buffer.get(..length).unwrap_or_default();
            hasher.update(chunk);
            if !shared {
                file.write_all(chunk).map_err(|error| Refusal::write(&path, error))?;
            }
            self.bytes_read += length as u64;
            if length < self.buffer.len() {
                break;
            }
        }
        if hasher.finish() != digest {
            return Err(Refusal::Changed { path: escape(&path) });
        }
        // One that cannot be opened has none to give.
        let live = as_live.and_then(|rel| self.open_mail((Side::Live, rel)).ok());
        let source = live.as_ref().unwrap_or(&source);
        let done = self.complete(&file, Some(like(&meta)), (to, Some(source)));
        done.map_err(|error| Refusal::write(&path, error))
    }

    /// Writes the first bytes of the buffer to `to`, a new file of our own. `source`: the file that they
    /// are from.
    pub(crate) fn stage_buffer(
        &mut self,
        (length, source): (usize, &File),
        like: Like,
        to: &Path,
    ) -> Result<(), Refusal> {
        let mut write = || -> io::Result<()> {
            let mut file = self.create(to, Some(like))?;
            file.write_all(self.buffer.get(..length).unwrap_or_default())?;
            self.complete(&file, Some(like), (to, Some(source)))
        };
        own(write(), "staging")
    }

    /// Writes bytes to `to`, a new file of our own.
    pub(crate) fn stage_whole(
        &mut self,
        bytes: &[u8],
        like: Option<Like>,
        to: &Path,
    ) -> Result<(), Refusal> {
        let mut write = || -> io::Result<()> {
            let mut file = self.create(to, like)?;
            file.write_all(bytes)?;
            self.complete(&file, like, (to, None))
        };
        own(write(), "staging")
    }

    /// Begins a copy of `source` at `to`, a new file of our own.
    pub(crate) fn begin_copy(
        &mut self,
        source: &File,
        like: Like,
        to: PathBuf,
    ) -> Result<Copying, Refusal> {
        let file = own(self.create(&to, Some(like)), "staging")?;
        let shared = rustix::fs::ioctl_ficlone(&file, source).is_ok();
        Ok(Copying { file, like, to, shared })
    }

    /// Writes the first bytes of the buffer to a copy, unless it has them.
    pub(crate) fn go_on_copying(
        &mut self,
        copy: &mut Copying,
        length: usize,
    ) -> Result<(), Refusal> {
        if copy.shared {
            return Ok(());
        }
        let bytes = self.buffer.get(..length).unwrap_or_default();
        own(copy.file.write_all(bytes), "staging")
    }

    /// Gives a complete copy of `source` what else a file has; where it is.
    pub(crate) fn end_copy(
        &mut self,
        copy: Copying,
        source: &File,
    ) -> Result<PathBuf, Refusal> {
        let Copying { file, like, to, shared: _ } = copy;
        own(self.complete(&file, Some(like), (&to, Some(source))), "staging")?;
        Ok(to)
    }

    /// Removes a copy that is not wanted.
    pub(crate) fn give_up_copy(&mut self, copy: &Copying) -> Result<(), Refusal> {
        self.forget(&copy.to);
        own(self.roots.discard(std::slice::from_ref(&copy.to)), "staging")
    }

    /// Writes what `write` gives to `to`, a new file of our own.
    pub(crate) fn stage_with(
        &mut self,
        to: &Path,
        like: Option<Like>,
        write: &mut dyn FnMut(&mut io::BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), Refusal> {
        let mut make = || -> io::Result<()> {
            let mut file = io::BufWriter::new(self.create(to, like)?);
            write(&mut file)?;
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            self.complete(&file, like, (to, None))
        };
        own(make(), "staging")
    }

    /// Writes bytes into the staging directory.
    pub(crate) fn stage_bytes(
        &mut self,
        bytes: &[u8],
        like: Option<Like>,
    ) -> Result<PathBuf, Refusal> {
        let staged = self.next_staged();
        self.stage_whole(bytes, like, &staged)?;
        Ok(staged)
    }

    /// A new directory, to be filled and then moved into the mail as a whole. `rel`: where to, below
    /// the mailbox.
    pub(crate) fn tree(&mut self, like: Like, rel: &[u8]) -> Result<PathBuf, Refusal> {
        let tree = self.next_staged();
        own(self.roots.make_own_dir(&tree, like), "staging")?;
        self.trees.push((tree.clone(), rel.to_vec()));
        self.tree_dirs.push(rel.to_vec());
        Ok(tree)
    }

    /// A directory in such a tree.
    pub(crate) fn tree_dir(
        &mut self,
        tree: &Path,
        name: &[u8],
        like: Like,
    ) -> Result<PathBuf, Refusal> {
        let dir = tree.join(OsStr::from_bytes(name));
        own(self.roots.make_own_dir(&dir, like), "staging")?;
        self.tree_dirs.extend(self.rel_of(&dir));
        Ok(dir)
    }

    /// Where something in a tree will be below the mailbox.
    fn rel_of(&self, path: &Path) -> Option<Vec<u8>> {
        self.trees.iter().find_map(|(tree, rel)| {
            let below = path.strip_prefix(tree).ok()?;
            Some(join(rel, below.as_os_str().as_bytes()))
        })
    }

    /// Makes a file of our own.
    fn create(&mut self, to: &Path, like: Option<Like>) -> io::Result<File> {
        let (Some(dir), Some(name)) = (to.parent(), to.file_name()) else {
            return Err(rustix::io::Errno::INVAL.into());
        };
        if self.own.as_ref().is_none_or(|own| own.path != dir) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(dir, flags, Mode::empty())?;
            let (path, rel) = (dir.to_owned(), self.rel_of(dir));
            self.own = Some(OwnDir { path, fd, rel });
        }
        let own = self.own.as_ref().ok_or(rustix::io::Errno::NOENT)?;
        self.roots.create_in((&own.fd, name), like)
    }

    /// Gives a file of our own, which has all its bytes, what else it is to have: of `like`, and the
    /// attributes of `source`.
    fn complete(
        &mut self,
        file: &File,
        like: Option<Like>,
        (to, source): (&Path, Option<&File>),
    ) -> io::Result<()> {
        let mut meta = like.map(|like| dress(file, like)).transpose()?;
        if let Some(source) = source
            && attributes::copy(source, file)?
        {
            meta = None;
        }
        let own = self.own.as_ref().filter(|own| Some(&*own.path) == to.parent());
        let rel = match own {
            Some(own) => own.rel.clone(),
            None => to.parent().and_then(|dir| self.rel_of(dir)),
        };
        if let Some((dir, name)) = rel.zip(to.file_name()) {
            let meta = match meta {
                Some(meta) => meta,
                None => Meta::of(&rustix::fs::fstat(file)?),
            };
            let weight = weigh(&dir, name.as_bytes(), &meta);
            self.tree_weight = self.tree_weight.wrapping_add(weight);
        }
        Ok(())
    }

    /// Gives a directory of our own the attributes of the snapshot's directory at `rel`, if that is
    /// there.
    pub(crate) fn dress_tree(&self, dir: &Path, rel: &[u8]) -> Result<(), Refusal> {
        let path = self.path(rel);
        let snapshot = self.roots.snapshot.as_ref();
        let Some(from) = snapshot.and_then(|root| root.dir(&path).ok()) else {
            return Ok(());
        };
        let copy = || -> io::Result<()> {
            if !attributes::has_some(&from)? {
                return Ok(());
            }
            attributes::copy(&from, &File::open(dir)?).map(|_| ())
        };
        copy().map_err(|error| Refusal::write(&path, error))
    }

    /// Gives a staged file the attributes of a file of the mailbox.
    pub(crate) fn dress_staged(
        &self,
        staged: &Path,
        from: (Side, &[u8]),
    ) -> Result<(), Refusal> {
        let source = match self.open_mail(from) {
            // It has none to give.
            Err(Refusal::Unreadable { .. }) => return Ok(()),
            source => source?,
        };
        let copied = File::options().write(true).open(staged);
        let copied = copied.and_then(|staged| attributes::copy(&source, &staged));
        copied.map_err(|error| Refusal::write(&self.path(from.1), error)).map(|_| ())
    }

    /// The live file at `rel`, as it is now.
    pub(crate) fn look(&self, rel: &[u8]) -> Result<Meta, Refusal> {
        let path = self.path(rel);
        let (dir, name) = rel_split(&path);
        let found = self.roots.live.dir(&dir).and_then(|dir| dir.look(&name));
        match found {
            Ok(Some((_, meta))) => Ok(meta),
            Ok(None) => Err(Refusal::Changed { path: escape(&path) }),
            Err(errno) => Err(Refusal::read(&path, errno)),
        }
    }

    /// A name for a file or tree of our own: nothing stands there.
    pub(crate) fn next_staged(&mut self) -> PathBuf {
        let staged = self.roots.staged(self.generation);
        self.staged.push(staged.clone());
        staged
    }

    /// Forgets a name for which nothing was made.
    pub(crate) fn forget(&mut self, staged: &Path) {
        self.staged.retain(|it| it != staged);
    }

    /// Keeps the live file at `rel` in the mailbox, below `label`, then plans the staged bytes in
    /// its place.
    pub(crate) fn replace(
        &mut self,
        phase: Phase,
        (label, rel): (&[u8], &[u8]),
        meta: &Meta,
        staged: PathBuf,
    ) -> Result<(), Refusal> {
        let (dir, name) = rel_split(rel);
        let (dir, kept) = (self.path(&dir), self.dir_in("kept", label)?);
        self.keep_in(&kept, (&dir, &name))
            .map_err(|error| Refusal::write(&join(&dir, &name), error))?;
        self.act(phase, Act::Put { staged, dir, name, replaces: Some(*meta) });
        Ok(())
    }

    /// Keeps a live file in `kept`, under the first name that is free or its own already.
    fn keep_in(&mut self, kept: &Path, (dir, name): (&[u8], &[u8])) -> io::Result<()> {
        let live = self.live.dir(dir)?;
        for to in kept_names(kept, name).filter(|to| !self.promised.contains(to)) {
            match self.roots.keep_at((live, name), &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                kept => return kept,
            }
        }
        Err(too_often())
    }

    /// Plans the way of the live file at `rel` out of the mail tree, to below `label` in `bin`;
    /// where it will be, below the work directory.
    pub(crate) fn aside(
        &mut self,
        bin: &str,
        (label, rel): (&[u8], &[u8]),
        meta: &Meta,
    ) -> Result<String, Refusal> {
        let (dir, name) = rel_split(rel);
        let (dir, bin) = (self.path(&dir), self.dir_in(bin, label)?);
        let to = self.free_name(&bin, &name)?;
        let below = to.strip_prefix(&self.roots.work).unwrap_or(&to);
        let below = escape(below.as_os_str().as_bytes());
        self.promised.insert(to.clone());
        self.act(Phase::Messages, Act::Aside { dir, name, meta: *meta, to });
        Ok(below)
    }

    /// Writes a file of our own at once, under a name that appears complete or not at all.
    pub(crate) fn write_own(&mut self, bytes: &[u8], to: &Path) -> Result<(), Refusal> {
        let staged = self.stage_bytes(bytes, None)?;
        own(self.roots.record(&staged, to), "work")?;
        self.forget(&staged);
        Ok(())
    }

    pub(crate) fn dir_in(&mut self, bin: &str, label: &[u8]) -> Result<PathBuf, Refusal> {
        let dir = self
            .roots
            .work
            .join(bin)
            .join(format!("g{}", self.generation))
            .join(self.key.to_string())
            .join(OsStr::from_bytes(label));
        if !self.made.contains(&dir) {
            own(self.roots.make_own_dirs(&dir), bin)?;
            self.made.insert(dir.clone());
        }
        Ok(dir)
    }

    /// A name in `dir` that is free, and that no earlier act of this plan will take.
    fn free_name(&self, dir: &Path, name: &[u8]) -> Result<PathBuf, Refusal> {
        let is_free = |path: &PathBuf| {
            !self.promised.contains(path) && fs::symlink_metadata(path).is_err()
        };
        let free = kept_names(dir, name).find(is_free);
        free.ok_or_else(|| Refusal::write(name, too_often()))
    }
}

/// The names that something may have in `dir`, the best one first.
fn kept_names(dir: &Path, name: &[u8]) -> impl Iterator<Item = PathBuf> {
    (0..KEPT_NAMES_MAX).map(move |attempt| {
        let mut candidate = name.to_vec();
        if attempt > 0 {
            candidate.extend_from_slice(format!("~{attempt}").as_bytes());
        }
        dir.join(OsString::from_vec(candidate))
    })
}

fn too_often() -> io::Error {
    io::Error::other("kept too often")
}

fn own<T>(result: io::Result<T>, what: &str) -> Result<T, Refusal> {
    result.map_err(|error| match Refusal::write(what.as_bytes(), error) {
        // Nothing of ours changes by itself; the cause must be seen.
        Refusal::Changed { path } => {
            let source = io::Error::other("the work directory was changed");
            Refusal::Unwritable { path, source }
        }
        refusal @ (Refusal::NoSpace { .. }
        | Refusal::Exhausted { .. }
        | Refusal::Unwritable { .. }
        | Refusal::NotThere { .. }
        | Refusal::SymbolicLink { .. }
        | Refusal::NotRegular { .. }
        | Refusal::LeavesRoot { .. }
        | Refusal::BadPath { .. }
        | Refusal::Unreadable { .. }
        | Refusal::Unsupported { .. }
        | Refusal::TooManyEntries { .. }
        | Refusal::Busy { .. }
        | Refusal::Fenced { .. }) => refusal,
    })
}

fn rel_split(path: &[u8]) -> (Vec<u8>, Vec<u8>) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => {
            let (dir, name) = path.split_at(at);
            (dir.to_vec(), name.get(1..).unwrap_or_default().to_vec())
        }
        None => (Vec::new(), path.to_vec()),
    }
}
