//! Discover: the mailboxes below a mail root, found by their directories.
//!
//! # Invariants
//!
//! * Nothing is changed and no link is followed; what cannot be looked at is told, not skipped.
//! * A mailbox is told once, and nothing inside it; memory holds the directories on the way to it.

use std::path::Path;

use rustix::io::Errno;

use crate::refusal::Refusal;
use crate::store::{PATH_PARTS_MAX, StoreError};
use crate::walk::{Kind, Tree, join};

/// Entries of one directory on the way: the mailboxes of a domain that has all of a country's.
const ENTRIES_MAX: usize = 10_000_000;

/// The mailboxes below a root, in the order of their paths; an error is a directory that cannot be
/// looked at.
#[derive(Debug)]
pub struct Mailboxes {
    root: Tree,
    /// Directories still to be looked at; the next one last.
    waiting: Vec<Vec<u8>>,
}

impl Mailboxes {
    /// Those below `root`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Root`] if it cannot be opened.
    pub fn below(root: &Path) -> Result<Self, StoreError> {
        let tree = Tree::root(root).map_err(|source| StoreError::Root {
            what: "live",
            path: root.to_owned(),
            source,
        })?;
        Ok(Self { root: tree, waiting: vec![Vec::new()] })
    }

    /// Whether there is a mailbox; otherwise its directories wait for their turn.
    fn visit(&mut self, path: &[u8]) -> Result<bool, Errno> {
        let Some(dir) = self.root.dir_if_there(path)? else { return Ok(false) };
        let is_dir = |name: &[u8]| {
            let found = dir.look(name)?;
            Ok::<bool, Errno>(matches!(found, Some((Kind::Directory, _))))
        };
        // All of what a format makes, so that people may be called `new` or `storage`.
        let is_maildir = is_dir(b"cur")? && is_dir(b"new")? && is_dir(b"tmp")?;
        if !path.is_empty() && (is_maildir || is_dbox(&dir)?) {
            return Ok(true);
        }
        let parts = path.split(|byte| *byte == b'/').count();
        if parts >= PATH_PARTS_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let mut names = dir.names(ENTRIES_MAX)?;
        names.sort_unstable_by(|one, other| other.cmp(one));
        for name in names {
            if is_dir(&name)? {
                self.waiting.push(join(path, &name));
            }
        }
        Ok(false)
    }
}

impl Iterator for Mailboxes {
    type Item = Result<Vec<u8>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(path) = self.waiting.pop() {
            match self.visit(&path) {
                Ok(true) => return Some(Ok(path)),
                Ok(false) => {}
                Err(errno) => return Some(Err(Refusal::read(&path, errno))),
            }
        }
        None
    }
}

/// `mailboxes/<folder>/dbox-Mails`, as Dovecot makes it for both kinds of dbox.
fn is_dbox(dir: &Tree) -> Result<bool, Errno> {
    let inbox = match dir.dir_if_there(b"mailboxes/INBOX/dbox-Mails") {
        Err(Errno::NOTDIR | Errno::LOOP) => None,
        found => found?,
    };
    Ok(inbox.is_some())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::walk::escape;

    #[test]
    fn mailboxes_of_every_format_are_found_once_and_nothing_inside_them() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(root.path().join(path)).unwrap();
        for dir in ["cur", "new", "tmp", ".Sent/cur", ".Sent/new", ".Sent/tmp"] {
            make(&format!("a.org/ann/Maildir/{dir}"));
            make(&format!("a.org/new/{dir}"));
        }
        make("b.org/bob/sdbox/mailboxes/INBOX/dbox-Mails");
        make("b.org/storage/mdbox/mailboxes/INBOX/dbox-Mails");
        make("b.org/storage/mdbox/storage");
        make("empty/cur");
        std::os::unix::fs::symlink("a.org", root.path().join("link")).unwrap();

        let found = Mailboxes::below(root.path()).unwrap();

        let found: Vec<String> = found.map(|it| escape(&it.unwrap())).collect();
        let expected =
            ["a.org/ann/Maildir", "a.org/new", "b.org/bob/sdbox", "b.org/storage/mdbox"];
        assert_eq!(found, expected);
        assert!(Mailboxes::below(&root.path().join("nowhere")).is_err());
    }
}
