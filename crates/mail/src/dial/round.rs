//! Round: everything that one round of a switch needs, made ready beside the history.
//!
//! The history is [`Side::Live`] here and the store of the dial tone [`Side::Snapshot`], whichever of
//! both stands at the mailbox's place in the mail tree.
//!
//! # Invariants
//!
//! * Until the list of steps is durable, neither store has changed by anything but link counts.

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::redo::{Expected, Imported, Intent, LeftOut, Step, link};
use crate::digest::{Digester, to_hex};
use crate::manifest::ManifestEntry;
use crate::refusal::Refusal;
use crate::roots::{Like, Roots, Side, dress};
use crate::stage::Bench;
use crate::walk::{Meta, escape, join};

/// The messages of every folder, a line for each.
pub(super) type View = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// The workplace for one round.
pub(super) struct Round<'b, 'a> {
    pub(super) bench: &'b mut Bench<'a>,
    /// Folder and name of what earlier rounds imported.
    pub(super) taken: &'b HashSet<(Vec<u8>, Vec<u8>)>,
    pub(super) intent: Intent,
    /// Where files are staged, each under a number.
    dir: &'b Path,
    /// Where what is replaced is kept, below the work directory.
    kept: Vec<u8>,
    staged: u32,
    /// Lines that folders get.
    added: View,
}

impl<'b, 'a> Round<'b, 'a> {
    pub(super) fn new(
        bench: &'b mut Bench<'a>,
        taken: &'b HashSet<(Vec<u8>, Vec<u8>)>,
        (dir, kept): (&'b Path, Vec<u8>),
    ) -> Self {
        let (intent, added) = (Intent::default(), View::new());
        Self { bench, taken, intent, dir, kept, staged: 0, added }
    }

    pub(super) fn roots(&self) -> &'a Roots {
        self.bench.roots()
    }

    /// Whether an earlier round imported it.
    pub(super) fn is_taken(&self, folder: &[u8], name: &[u8]) -> bool {
        self.taken.contains(&(folder.to_vec(), name.to_vec()))
    }

    /// Books a message that is imported. `from`: its name in the dial tone's store; `line`: as the
    /// history will show it.
    pub(super) fn import(&mut self, from: &[u8], entry: ManifestEntry, line: Vec<u8>) {
        let folder = entry.folder.clone();
        let from = (folder.clone(), from.to_vec());
        self.intent.imported.push(Imported { from, entry });
        self.added.entry(folder).or_default().push(line);
    }

    /// Books what stays where it is.
    pub(super) fn leave_out(&mut self, (folder, name): (&[u8], &[u8]), why: &str) {
        let (folder, name, why) = (escape(folder), escape(name), why.to_owned());
        self.intent.left_out.push(LeftOut { folder, name, why });
    }

    /// Plans a directory of the history, if it is not there.
    pub(super) fn make_dir(&mut self, rel: &[u8], like: &Meta) {
        let path = self.bench.path(rel);
        let (mode, uid, gid) = (like.mode, like.uid, like.gid);
        self.intent.steps.push(Step::MakeDir { path, mode, uid, gid });
    }

    /// Plans a link to a file of the dial tone's store.
    pub(super) fn put_link(&mut self, from: &[u8], to: &[u8]) -> Result<(), Refusal> {
        let (from, staged) = (self.bench.path(from), self.next());
        let Some(tree) = self.roots().tree(Side::Snapshot) else {
            return Err(Refusal::NotThere { path: escape(&from) });
        };
        let at = self.dir.join(staged.to_string());
        let linked = link(self.roots(), (tree, &from), &at);
        linked.map_err(|error| Refusal::write(&from, error))?;
        self.put(staged, to, false);
        Ok(())
    }

    /// Plans bytes under a name. `replaces`: a file has it.
    pub(super) fn put_bytes(
        &mut self,
        bytes: &[u8],
        (to, like): (&[u8], Like),
        replaces: bool,
    ) -> Result<(), Refusal> {
        let staged = self.next();
        let at = self.dir.join(staged.to_string());
        let write = || {
            let mut file = self.roots().create(&at, Some(like))?;
            file.write_all(bytes)?;
            dress(&file, like).map(|_| ())
        };
        write().map_err(|error| Refusal::write(to, error))?;
        self.put(staged, to, replaces);
        Ok(())
    }

    /// Plans a link of its own to somewhere, as a mail server made one.
    pub(super) fn put_symlink(
        &mut self,
        target: &[u8],
        (to, like): (&[u8], Like),
        replaces: bool,
    ) -> Result<(), Refusal> {
        let staged = self.next();
        let at = self.dir.join(staged.to_string());
        super::beside::symlink(self.roots(), target, (&at, like))
            .map_err(|error| Refusal::write(to, error))?;
        self.put(staged, to, replaces);
        Ok(())
    }

    /// Plans a file that was staged elsewhere under a new name.
    pub(super) fn put_staged(&mut self, file: &Path, to: &[u8]) -> Result<(), Refusal> {
        let staged = self.next();
        let moved = self.roots().record(file, &self.dir.join(staged.to_string()));
        moved.map_err(|error| Refusal::write(to, error))?;
        self.put(staged, to, false);
        Ok(())
    }

    /// Plans a file out of the history.
    pub(super) fn aside(&mut self, rel: &[u8]) {
        let (path, keep) = (self.bench.path(rel), join(&self.kept, rel));
        self.intent.steps.push(Step::Aside { path, keep });
    }

    fn put(&mut self, staged: u32, rel: &[u8], replaces: bool) {
        let keep = replaces.then(|| join(&self.kept, rel));
        let path = self.bench.path(rel);
        self.intent.steps.push(Step::Put { staged, path, keep });
    }

    fn next(&mut self) -> u32 {
        self.staged += 1;
        self.staged
    }

    /// The whole intent, with what the folders that change must hold afterwards. `before`: what all hold.
    pub(super) fn end(mut self, before: &View) -> Intent {
        let mut expected = Vec::new();
        for (folder, added) in std::mem::take(&mut self.added) {
            let held = before.get(&folder).cloned().unwrap_or_default();
            let count = held.len() as u64;
            let after = [held, added].concat();
            expected.push(expect(folder, count, after));
        }
        self.intent.expected = expected;
        self.intent
    }
}

/// What a folder with these lines is.
fn expect(folder: Vec<u8>, before: u64, mut lines: Vec<Vec<u8>>) -> Expected {
    lines.sort();
    let digest = to_hex(&Digester::of(&lines.join(&b'\n')));
    Expected { folder, before, after: lines.len() as u64, digest }
}

/// The folders that are not as they are expected to be.
pub(super) fn differing(expected: &[Expected], now: &View) -> Vec<String> {
    let differs = |it: &&Expected| {
        let lines = now.get(&it.folder).cloned().unwrap_or_default();
        expect(it.folder.clone(), it.before, lines) != **it
    };
    expected.iter().filter(differs).map(|it| escape(&it.folder)).collect()
}

/// Where one round of a mailbox's switch is made ready, and where it is once it is done.
pub(super) fn round_dir(dial: &Path) -> PathBuf {
    dial.join("round")
}
