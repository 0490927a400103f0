//! Dial tone: an empty mailbox at once, its history beside it, and both made one later.
//!
//! [`Store::dial_start`] moves a live mailbox aside whole and puts an empty one in its place, which its
//! user may receive and send mail with. [`Store::prepare`] and the others work on the history from then
//! on, where it stands beside. [`Store::dial_switch`] imports the mail of the dial tone into the history
//! and puts that back: the small into the big, so that UIDs, UIDVALIDITY, flags and GUIDs of the history
//! stay and nobody downloads it again.
//!
//! ```text
//! history/<path>                    the mailbox's history; the dial tone's store while they change places
//! dial/<key>/state                  there is a dial tone
//! dial/<key>/carried/               filters and subscriptions as they went into it
//! dial/<key>/round/                 files made ready, and `acts`, what is to be done with them
//! dial/<key>/done-<number>/         a round that was done
//! dialled/<key>/<number>/           when it is over: `store`, what the dial tone held, whole;
//!                                   `replaced-<round>`, files of the history that got others;
//!                                   `switched`, what was done; `rounds`, what was in `dial/<key>`
//! ```
//!
//! # Why not `doveadm import`
//!
//! It may not be repeated, and what it had done when it was killed can only be guessed. Here all files
//! are staged and all steps written down before the first one: whoever comes after a crash goes through
//! the list again, and a staged file that is gone has taken its place. And nothing but files is needed:
//! no binary, configuration or user of the mail server.
//!
//! # Invariants
//!
//! * What happened is read off the disk alone; every call again, after whatever crash, goes on.
//! * Every message of the dial tone is imported once, with a UID above all of its folder in the history;
//!   messages of the history stay as they are, which is looked at before the switch counts as done.
//! * Nothing is deleted or overwritten: both stores are whole somewhere at any time.
//! * Once the first step of a switch is written down, the dial tone is over: the mailbox stays closed
//!   until the switch is done.

pub(crate) mod beside;
mod dbox;
mod maildir;
mod redo;
mod round;
#[cfg(test)]
mod trials;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::attributes;
use crate::format::Format;
use crate::judge::BUFFER_BYTES;
use crate::manifest::number;
use crate::refusal::Refusal;
use crate::roots::{Like, Roots, Side};
use crate::stage::Bench;
use crate::stamp::{Stamp, stamp};
use crate::store::{
    FlushFailed, Mailbox, PrepareTask, Store, check_path, fenced, manifest_path,
};
use crate::walk::{Kind, Meta, Tree, escape, unescape};

use beside::{Items, best, collect, own_tree};
pub use redo::LeftOut;
use redo::{Intent, below, is_absent, make_dir, read_own, split, write_own};
use round::{Round, View, differing, round_dir};

/// Stands in the mailbox of a dial tone, so that it is known from its history.
const MARK: &[u8] = b"tidegate-dial";

/// What a person reads who finds the mark.
const MARK_TEXT: &str =
    "This mailbox is a dial tone: what it held before is being prepared beside.\n";

/// The first line of the state.
const HEAD: &str = "tidegate-dial 1";

/// Names what a round copies: no claim has it.
const NO_GENERATION: u64 = 0;

/// Steps of one switch, each of them durable before the next: some ten, and three more for each round
/// that finds mail which came late. With more, somebody is at work in there.
const STEPS_MAX: u32 = 40;

/// How far a mailbox's dial tone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialState {
    /// It has none.
    None,
    /// Begun, and not to the end: to be begun again.
    Begun,
    /// The empty store stands in the mailbox's place.
    Dialled,
    /// The switch was begun: the mailbox must stay closed until it is done.
    Switching,
}

/// A mailbox whose history is back, with the mail of its dial tone in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// Its stamp right afterwards; as it is now, if it never had a dial tone.
    pub stamp: Stamp,
    /// Messages of the dial tone that are in the history now.
    pub imported: u64,
    /// Folders that the history had not.
    pub folders_made: u64,
    /// What is in the dial tone's store alone.
    pub left_out: Vec<LeftOut>,
    /// Folders that got mail: how many messages they held before, and hold now.
    pub folders: Vec<(String, u64, u64)>,
    /// Where the dial tone's store is kept, below the work directory; empty if there was none.
    pub kept_at: PathBuf,
}

impl Store {
    /// How far the mailbox's dial tone is.
    ///
    /// # Errors
    ///
    /// Its state is there and cannot be read.
    pub fn dial_state(&self, mailbox: &Mailbox) -> Result<DialState, Refusal> {
        if std::ptr::eq(self.roots_of(mailbox), &raw const self.roots) {
            return Ok(DialState::None);
        }
        let dial = Dial::new(self, mailbox);
        Ok(match dial.state()? {
            None => DialState::None,
            Some(State { dialled: false, .. }) => DialState::Begun,
            Some(_) if dial.is_switching()? => DialState::Switching,
            Some(_) => DialState::Dialled,
        })
    }

    /// Moves mailboxes aside, each whole, and puts empty ones in their places. They must be closed, and
    /// nobody inside. Those that have a dial tone are left as they are.
    ///
    /// # Errors
    ///
    /// [`FlushFailed`] if durability is not certain: nothing of the batch may be opened.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general enough in its lifetimes"
    )]
    pub fn dial_start(
        &self,
        task: &PrepareTask<'_>,
    ) -> Result<Vec<Result<(), Refusal>>, FlushFailed> {
        self.dial(task, |dial, made| dial.begin(made))
    }

    /// Imports the mail of dial tones into their histories and puts these back. The mailboxes must be
    /// prepared and closed, and nobody inside. For those that were switched before, tells what was done;
    /// nothing was, for those that never had a dial tone.
    ///
    /// # Errors
    ///
    /// [`FlushFailed`] if durability is not certain: nothing of the batch may be opened.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is not general enough in its lifetimes"
    )]
    pub fn dial_switch(
        &self,
        task: &PrepareTask<'_>,
    ) -> Result<Vec<Result<Switched, Refusal>>, FlushFailed> {
        self.dial(task, |dial, now| dial.switch(now))
    }

    /// Takes all mailboxes from step to step, and makes each step durable before the next.
    fn dial<S: Default + Send, T: Send>(
        &self,
        task: &PrepareTask<'_>,
        step: impl Fn(&Dial<'_>, S) -> Result<Next<S, T>, Refusal> + Sync,
    ) -> Result<Vec<Result<T, Refusal>>, FlushFailed> {
        self.refuse_after_failed_flush()?;
        // A higher claim waits until this is over, so that nobody else changes these mailboxes.
        let claims = self.claims.read().unwrap_or_else(PoisonError::into_inner);
        if !claims.holds(task.job, task.generation, task.holder) {
            return Ok(fenced(task));
        }
        let seats = self.take_seats(task);
        let start = |(mailbox, seat): (&Mailbox, &bool)| {
            if !seat {
                return Err(busy(mailbox));
            }
            check_path(&mailbox.path).map(|()| Next::Step(S::default()))
        };
        let mut all: Vec<Result<Next<S, T>, Refusal>> =
            task.mailboxes.iter().zip(&seats).map(start).collect();
        let mut result = Ok(());
        for _ in 0..STEPS_MAX {
            if !all.iter().flatten().any(|next| matches!(next, Next::Step(_))) {
                break;
            }
            let before: Vec<_> = all.into_iter().map(|it| Mutex::new(Some(it))).collect();
            all = self.roots.crew.work(task.mailboxes, |index, mailbox, _| {
                let taken = before.get(index).and_then(|it| {
                    it.lock().unwrap_or_else(PoisonError::into_inner).take()
                });
                match taken.ok_or_else(|| busy(mailbox))?? {
                    Next::Step(now) => step(&Dial::new(self, mailbox), now),
                    done @ Next::Done(_) => Ok(done),
                }
            });
            result = self.flush();
            if result.is_err() {
                break;
            }
        }
        self.leave_seats(task, &seats);
        drop(claims);
        result?;
        let ended = all.into_iter().zip(task.mailboxes).map(|(it, mailbox)| match it? {
            Next::Done(done) => Ok(done),
            Next::Step(_) => Err(Refusal::Changed { path: escape(&mailbox.path) }),
        });
        Ok(ended.collect())
    }

    /// The trees in which a mailbox is worked on: its history's while it has a dial tone.
    pub(crate) fn roots_of(&self, mailbox: &Mailbox) -> &Roots {
        let dialled = self.dialled.lock().unwrap_or_else(PoisonError::into_inner);
        if dialled.contains(&mailbox.key) { &self.beside } else { &self.roots }
    }

    /// Refuses a mailbox of which it is not settled where its history is, or that is on its way back.
    pub(crate) fn check_dial(&self, mailbox: &Mailbox) -> Result<(), Refusal> {
        if std::ptr::eq(self.roots_of(mailbox), &raw const self.roots) {
            return Ok(());
        }
        match self.dial_state(mailbox)? {
            DialState::Dialled | DialState::None => Ok(()),
            // To be ended first by who has begun it.
            DialState::Begun | DialState::Switching => Err(busy(mailbox)),
        }
    }
}

/// The keys of the mailboxes that have a dial tone.
pub(crate) fn dialled(work: &Path) -> io::Result<HashSet<u64>> {
    let mut keys = HashSet::new();
    for entry in fs::read_dir(work.join("dial"))? {
        let entry = entry?;
        let key = number(entry.file_name().as_bytes());
        if let Some(key) = key.filter(|_| entry.path().join("state").exists()) {
            keys.insert(key);
        }
    }
    Ok(keys)
}

/// What a mailbox does next.
enum Next<S, T> {
    /// A step, once all before it is durable.
    Step(S),
    Done(T),
}

/// Where a switch is, as far as the disk does not tell.
#[derive(Default, Clone, Copy)]
enum Now {
    /// Whatever the disk tells.
    #[default]
    Look,
    /// A round is made ready, and durable.
    Staged,
    /// All steps of a round are done, and durable.
    Redone,
    /// The dial tone's store is away, and what was done is written down.
    Away,
}

/// What is recorded of a dial tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// How many the mailbox has had, with this one.
    number: u64,
    /// The empty store stands in the mailbox's place.
    dialled: bool,
}

/// One mailbox's.
struct Dial<'a> {
    store: &'a Store,
    mailbox: &'a Mailbox,
    dir: PathBuf,
}

impl<'a> Dial<'a> {
    fn new(store: &'a Store, mailbox: &'a Mailbox) -> Self {
        let dir = store.roots.work.join("dial").join(mailbox.key.to_string());
        Self { store, mailbox, dir }
    }

    fn path(&self) -> &'a [u8] {
        &self.mailbox.path
    }

    /// The tree that has the mailbox's place in the mail.
    fn live(&self) -> &'a Tree {
        &self.store.roots.live
    }

    /// The tree that has its history while it has a dial tone.
    fn aside(&self) -> &'a Tree {
        &self.store.beside.live
    }

    fn history(&self) -> PathBuf {
        below(&self.store.roots.work.join("history"), self.path())
    }

    /// Where all goes that is left of a dial tone, below the work directory.
    fn dialled(&self, state: State) -> PathBuf {
        let key = self.mailbox.key.to_string();
        Path::new("dialled").join(key).join(state.number.to_string())
    }

    fn own<T>(&self, result: io::Result<T>) -> Result<T, Refusal> {
        result.map_err(|source| {
            let path = format!("dial tone of mailbox {}", self.mailbox.key);
            match Errno::from_io_error(&source) {
                Some(Errno::NOSPC | Errno::DQUOT) => Refusal::NoSpace { path },
                Some(_) | None => Refusal::Unwritable { path, source },
            }
        })
    }

    fn state(&self) -> Result<Option<State>, Refusal> {
        let damaged = |source| {
            Refusal::unreadable(
                format!("dial tone of mailbox {}", self.mailbox.key),
                source,
            )
        };
        let bytes = read_own(&self.dir.join("state")).map_err(damaged)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let state = State::parse(&bytes, self.path());
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a state");
        state.map(Some).ok_or_else(|| damaged(invalid()))
    }

    fn record(&self, state: State) -> Result<(), Refusal> {
        let bytes = state.to_bytes(self.path());
        self.own(write_own(&self.store.roots, &bytes, &self.dir.join("state")))?;
        let mut dialled =
            self.store.dialled.lock().unwrap_or_else(PoisonError::into_inner);
        dialled.insert(self.mailbox.key);
        Ok(())
    }

    /// Whether the first step of a switch was written down.
    fn is_switching(&self) -> Result<bool, Refusal> {
        let acts = self.own(is_absent(&round_dir(&self.dir).join("acts")))?;
        Ok(!acts || !self.own(is_absent(&self.dir.join("done-1")))?)
    }

    fn has_mark(&self, root: &Tree) -> Result<bool, Refusal> {
        let refuse = |errno| Refusal::read(self.path(), errno);
        let Some(home) = root.dir_if_there(self.path()).map_err(refuse)? else {
            return Ok(false);
        };
        let found = home.look(MARK).map_err(refuse)?;
        Ok(matches!(found, Some((Kind::File, _))))
    }

    /// The next step of beginning. `made`: the empty mailbox is ready, and durable.
    fn begin(&self, made: bool) -> Result<Next<bool, ()>, Refusal> {
        match self.state()? {
            Some(State { dialled: true, .. }) if self.is_switching()? => {
                return Err(unsupported(self.mailbox, "a switch that is not done"));
            }
            Some(State { dialled: true, .. }) => return Ok(Next::Done(())),
            Some(state) if self.has_mark(self.live())? => {
                self.record(State { dialled: true, ..state })?;
            }
            Some(_) => self.put_empty()?,
            None if made => {
                let number = self.last()?.map_or(1, |last| last.saturating_add(1));
                self.record(State { number, dialled: false })?;
            }
            None => self.make_empty()?,
        }
        Ok(Next::Step(true))
    }

    /// Makes the empty mailbox ready, with what its user has set up.
    fn make_empty(&self) -> Result<(), Refusal> {
        let (roots, path) = (&self.store.roots, self.path());
        self.own(roots.clear_own_dir(&self.dir))?;
        let (home, meta) = self.model()?;
        let snapshot = match &roots.snapshot {
            Some(tree) => collect(tree, path)?,
            None => Items::new(),
        };
        let items = best(collect(self.live(), path)?, snapshot);
        let make = || {
            roots.make_own_dirs(&self.dir)?;
            let like = Like { modified: None, ..Like::file(&meta) };
            let fresh = self.dir.join("fresh");
            roots.make_own_dir(&fresh, like)?;
            attributes::copy(&home, &File::open(&fresh)?)?;
            beside::write(roots, &items, &fresh)?;
            write_own(roots, MARK_TEXT.as_bytes(), &below(&fresh, MARK))?;
            let carried = self.dir.join("carried");
            roots.make_own_dirs(&carried)?;
            beside::write(roots, &items, &carried)
        };
        self.own(make())
    }

    /// The directory that the empty one is like: the live one, or else the snapshot's.
    fn model(&self) -> Result<(Tree, Meta), Refusal> {
        let refuse = |errno| Refusal::read(self.path(), errno);
        let roots = &self.store.roots;
        for tree in [Some(&roots.live), roots.snapshot.as_ref()].into_iter().flatten() {
            if let Some(home) = tree.dir_if_there(self.path()).map_err(refuse)? {
                let meta = home.meta().map_err(refuse)?;
                return Ok((home, meta));
            }
        }
        Err(Refusal::NotThere { path: escape(self.path()) })
    }

    /// Puts the empty mailbox in its place, and what stood there beside.
    fn put_empty(&self) -> Result<(), Refusal> {
        let roots = &self.store.roots;
        let (fresh, history) = (self.dir.join("fresh"), self.history());
        if !self.own(is_absent(&fresh))? {
            if let Some(parent) = history.parent() {
                self.own(roots.make_own_dirs(parent))?;
            }
            self.own(self.rename(&fresh, &history))?;
        }
        if !self.has_mark(self.aside())? {
            return Err(Refusal::Changed { path: escape(self.path()) });
        }
        self.make_parents()?;
        self.exchange()
    }

    /// Makes the directories on the way to the mailbox, if they are gone.
    fn make_parents(&self) -> Result<(), Refusal> {
        let (parent, _) = split(self.path());
        let ends = parent.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).chain([parent.len()]).collect();
        for path in ends.into_iter().filter_map(|end| parent.get(..end)) {
            let refuse = |errno| Refusal::read(path, errno);
            if path.is_empty()
                || self.live().dir_if_there(path).map_err(refuse)?.is_some()
            {
                continue;
            }
            let snapshot = self.store.roots.snapshot.as_ref();
            let once = snapshot.and_then(|tree| tree.dir(path).ok()?.meta().ok());
            let meta = match once {
                Some(meta) => meta,
                None => self
                    .aside()
                    .dir(self.path())
                    .and_then(|it| it.meta())
                    .map_err(refuse)?,
            };
            let like = Like { modified: None, ..Like::file(&meta) };
            let made = make_dir(&self.store.roots, self.live(), path, like);
            made.map_err(|error| Refusal::write(path, error))?;
        }
        Ok(())
    }

    /// Lets the store beside and the one in the mailbox's place change places, at once.
    fn exchange(&self) -> Result<(), Refusal> {
        let (parent, name) = split(self.path());
        let refuse = |errno| Refusal::read(self.path(), errno);
        let here = self.live().dir(parent).map_err(refuse)?;
        let there = self.aside().dir(parent).map_err(refuse)?;
        let flags = match here.look(name).map_err(refuse)? {
            Some((Kind::Directory, _)) => RenameFlags::EXCHANGE,
            Some(_) => return Err(refuse(Errno::NOTDIR)),
            None => RenameFlags::NOREPLACE,
        };
        self.own(self.store.roots.fuse.burn())?;
        let renamed = rustix::fs::renameat_with(&there, name, &here, name, flags);
        renamed.map_err(|errno| Refusal::write(self.path(), errno.into()))
    }

    /// Renames within the work directory; nothing is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.store.roots.fuse.burn()?;
        let flags = RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
    }

    /// The next step of a switch.
    fn switch(&self, now: Now) -> Result<Next<Now, Switched>, Refusal> {
        let Some(state) = self.state()? else {
            return self.summary().map(Next::Done);
        };
        if !state.dialled {
            return Ok(match self.begin(true)? {
                Next::Step(_) | Next::Done(()) => Next::Step(Now::Look),
            });
        }
        let round = round_dir(&self.dir);
        let home = self.store.roots.work.join(self.dialled(state));
        match now {
            Now::Look => {}
            Now::Staged => {
                let acts =
                    self.store.roots.record(&round.join("acts.new"), &round.join("acts"));
                self.own(acts)?;
                return Ok(Next::Step(Now::Look));
            }
            Now::Redone => {
                self.end_round(&round)?;
                return Ok(Next::Step(Now::Look));
            }
            Now::Away => return self.end(state),
        }
        if !self.own(is_absent(&home.join("store")))? {
            self.write_summary(&home)?;
            return Ok(Next::Step(Now::Away));
        }
        if let Some(acts) = self.own(read_own(&round.join("acts")))? {
            let intent = self.parse(&acts)?;
            for step in &intent.steps {
                step.carry_out(&self.sides()?, &round)?;
            }
            return Ok(Next::Step(Now::Redone));
        }
        let exchanged = self.has_mark(self.aside())?;
        if !exchanged && !self.own(is_absent(&self.dir.join("done-1")))? {
            if !self.has_mark(self.live())? {
                return Err(Refusal::Changed { path: escape(self.path()) });
            }
            self.exchange()?;
            return Ok(Next::Step(Now::Look));
        }
        if self.plan(state)? || !exchanged {
            return Ok(Next::Step(Now::Staged));
        }
        if let Some(parent) = home.parent() {
            self.own(self.store.roots.make_own_dirs(parent))?;
        }
        self.own(self.store.roots.make_own_dirs(&home))?;
        self.own(self.rename(&self.history(), &home.join("store")))?;
        Ok(Next::Step(Now::Look))
    }

    /// The history as the live side, and the dial tone's store as the other.
    fn sides(&self) -> Result<Roots, Refusal> {
        let (history, dialled) = if self.has_mark(self.aside())? {
            (self.live(), self.aside())
        } else {
            (self.aside(), self.live())
        };
        let again = |tree: &Tree| {
            tree.dir(b"").map_err(|errno| Refusal::read(self.path(), errno))
        };
        Ok(self.store.roots.with(again(history)?, Some(again(dialled)?)))
    }

    /// Makes the next round ready; whether there is anything to do.
    fn plan(&self, state: State) -> Result<bool, Refusal> {
        let (roots, dir) = (self.sides()?, round_dir(&self.dir));
        self.own(roots.clear_own_dir(&dir))?;
        self.own(roots.make_own_dirs(&dir))?;
        let done = self.done()?;
        let taken: HashSet<(Vec<u8>, Vec<u8>)> =
            done.iter().flat_map(|it| &it.imported).map(|it| it.from.clone()).collect();
        let kept = self.dialled(state).join(format!("replaced-{}", done.len() + 1));
        let kept = kept.as_os_str().as_bytes().to_vec();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut bench = Bench::new(&roots, self.mailbox, NO_GENERATION, &mut buffer);
        let format = self.format(&roots)?;
        let before = view(&mut bench, format)?;
        let mut round = Round::new(&mut bench, &taken, (&dir, kept));
        let dialled = roots.snapshot.as_ref();
        let has_mail = match dialled {
            Some(tree) => Format::on(tree, self.path())?.is_some(),
            None => false,
        };
        match format {
            _ if !has_mail => {}
            Format::Maildir => maildir::plan(&mut round)?,
            Format::Sdbox | Format::Mdbox => dbox::plan(&mut round, format)?,
        }
        self.plan_beside(&mut round)?;
        let intent = round.end(&before);
        let something = !intent.steps.is_empty();
        let written = fs::write(dir.join("acts.new"), intent.to_bytes());
        self.own(roots.fuse.burn().and(written))?;
        Ok(something)
    }

    /// The format of the history, which must be that of the dial tone's store too.
    fn format(&self, roots: &Roots) -> Result<Format, Refusal> {
        let not_there = || Refusal::NotThere { path: escape(self.path()) };
        let history = Format::on(&roots.live, self.path())?.ok_or_else(not_there)?;
        let dialled = match &roots.snapshot {
            Some(tree) => Format::on(tree, self.path())?,
            None => None,
        };
        if dialled.is_some_and(|format| format != history) {
            let what = "dial-tone mail in another format than the mailbox's history";
            return Err(unsupported(self.mailbox, what));
        }
        Ok(history)
    }

    fn plan_beside(&self, round: &mut Round<'_, '_>) -> Result<(), Refusal> {
        let carried = match self.own(own_tree(&self.dir.join("carried")))? {
            Some(tree) => collect(&tree, b"")?,
            None => Items::new(),
        };
        let roots = round.roots();
        let side = |side| match roots.tree(side) {
            Some(tree) => collect(tree, self.path()),
            None => Ok(Items::new()),
        };
        let (dialled, history) = (side(Side::Snapshot)?, side(Side::Live)?);
        beside::plan(round, &carried, (&dialled, &history))
    }

    /// Looks whether the history is as it should be, and counts the round as done.
    fn end_round(&self, round: &Path) -> Result<(), Refusal> {
        let acts = self.own(read_own(&round.join("acts")))?.unwrap_or_default();
        let intent = self.parse(&acts)?;
        let roots = self.sides()?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut bench = Bench::new(&roots, self.mailbox, NO_GENERATION, &mut buffer);
        let format = self.format(&roots)?;
        let differing = differing(&intent.expected, &view(&mut bench, format)?);
        if !differing.is_empty() {
            let source = io::Error::other(format!(
                "after the import, these folders are not as they should be: {}",
                differing.join(", ")
            ));
            return Err(Refusal::unreadable(escape(self.path()), source));
        }
        let number = self.done()?.len() + 1;
        self.own(self.rename(round, &self.dir.join(format!("done-{number}"))))
    }

    /// The rounds that were done.
    fn done(&self) -> Result<Vec<Intent>, Refusal> {
        let mut done = Vec::new();
        loop {
            let acts = self.dir.join(format!("done-{}", done.len() + 1)).join("acts");
            match self.own(read_own(&acts))? {
                Some(bytes) => done.push(self.parse(&bytes)?),
                None => return Ok(done),
            }
        }
    }

    fn parse(&self, acts: &[u8]) -> Result<Intent, Refusal> {
        Intent::parse(acts).ok_or_else(|| Refusal::Unreadable {
            path: format!("dial tone of mailbox {}", self.mailbox.key),
            source: io::Error::new(io::ErrorKind::InvalidData, "not a list of steps"),
        })
    }

    /// Writes down what was done, all rounds together.
    fn write_summary(&self, home: &Path) -> Result<(), Refusal> {
        let mut whole = Intent::default();
        for mut intent in self.done()? {
            whole.imported.append(&mut intent.imported);
            whole.expected.append(&mut intent.expected);
            whole.made += intent.made;
            intent.left_out.retain(|it| !whole.left_out.contains(it));
            whole.left_out.append(&mut intent.left_out);
        }
        self.add_to_manifest(&whole)?;
        let stamp = stamp(self.live(), self.path())?;
        whole.stamp = Some(u128::from_be_bytes(stamp.0));
        let to = home.join("switched");
        self.own(write_own(&self.store.roots, &whole.to_bytes(), &to))
    }

    /// What was imported is held from now on, like all that was prepared.
    fn add_to_manifest(&self, whole: &Intent) -> Result<(), Refusal> {
        let manifest = self.store.manifest(self.mailbox.key);
        let manifest = manifest.map_err(|error| {
            let what = format!("manifest of mailbox {}", self.mailbox.key);
            Refusal::unreadable(what, error.source)
        })?;
        let Some(mut manifest) = manifest else { return Ok(()) };
        manifest.entries.extend(whole.imported.iter().map(|it| it.entry.clone()));
        manifest.entries.sort();
        manifest.entries.dedup();
        let to = manifest_path(&self.store.roots, self.mailbox.key);
        self.own(write_own(&self.store.roots, &manifest.to_bytes(), &to))
    }

    /// Forgets the dial tone.
    fn end(&self, state: State) -> Result<Next<Now, Switched>, Refusal> {
        let gone = self.store.roots.work.join(self.dialled(state)).join("rounds");
        self.own(self.rename(&self.dir, &gone))?;
        let mut dialled =
            self.store.dialled.lock().unwrap_or_else(PoisonError::into_inner);
        dialled.remove(&self.mailbox.key);
        drop(dialled);
        Ok(Next::Step(Now::Look))
    }

    /// The last dial tone that is over.
    fn last(&self) -> Result<Option<u64>, Refusal> {
        let key = self.mailbox.key.to_string();
        let of_mailbox = self.store.roots.work.join("dialled").join(key);
        let entries = match fs::read_dir(of_mailbox) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => self.own(entries)?,
        };
        let mut last = None;
        for entry in entries {
            let name = self.own(entry)?.file_name();
            last = last.max(number(name.as_bytes()));
        }
        Ok(last)
    }

    /// What the last switch did; nothing, if there was none.
    fn summary(&self) -> Result<Switched, Refusal> {
        let mut intent = Intent::default();
        let mut kept_at = PathBuf::new();
        if let Some(number) = self.last()? {
            let home = self.dialled(State { number, dialled: true });
            let switched = self.store.roots.work.join(&home).join("switched");
            let bytes = self.own(read_own(&switched))?.unwrap_or_default();
            intent = self.parse(&bytes)?;
            kept_at = home.join("store");
        }
        let stamp = match intent.stamp {
            Some(stamp) => Stamp(stamp.to_be_bytes()),
            None => stamp(self.live(), self.path())?,
        };
        let folder = |it: redo::Expected| (escape(&it.folder), it.before, it.after);
        Ok(Switched {
            stamp,
            imported: intent.imported.len() as u64,
            folders_made: intent.made,
            left_out: intent.left_out,
            folders: intent.expected.into_iter().map(folder).collect(),
            kept_at,
        })
    }
}

/// What the history holds.
fn view(bench: &mut Bench<'_>, format: Format) -> Result<View, Refusal> {
    match format {
        Format::Maildir => maildir::view(bench, Side::Live),
        Format::Sdbox | Format::Mdbox => dbox::view(bench, Side::Live, format),
    }
}

impl State {
    fn to_bytes(self, path: &[u8]) -> Vec<u8> {
        let phase = if self.dialled { "dialled" } else { "begun" };
        let path = escape(path);
        let text = format!("{HEAD}\n{}\n{phase}\n{path}\n", self.number);
        let check = blake3::hash(text.as_bytes()).to_hex();
        format!("{text}{check}\n").into_bytes()
    }

    fn parse(bytes: &[u8], path: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let (text, check) = text.split_at_checked(text.rfind('\n')? + 1)?;
        if blake3::hash(text.as_bytes()).to_hex().as_str() != check {
            return None;
        }
        let mut lines = text.lines();
        (lines.next()? == HEAD).then_some(())?;
        let number = number(lines.next()?.as_bytes())?;
        let dialled = match lines.next()? {
            "dialled" => true,
            "begun" => false,
            _ => return None,
        };
        (unescape(lines.next()?) == path).then_some(Self { number, dialled })
    }
}

fn busy(mailbox: &Mailbox) -> Refusal {
    Refusal::Busy { path: escape(&mailbox.path) }
}

fn unsupported(mailbox: &Mailbox, what: &'static str) -> Refusal {
    Refusal::Unsupported { path: escape(&mailbox.path), what }
}
