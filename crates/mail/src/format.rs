//! Format: how a mailbox is stored.
//!
//! # Invariants
//!
//! * The format is read off the directories of each mailbox, so that one node may hold all of them.

use crate::maildir::survey::ENTRIES_MAX;
use crate::refusal::Refusal;
use crate::roots::{Roots, Side};
use crate::walk::{Kind, Tree, escape, join};

/// How a mailbox is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Maildir++: a file per message, flags in its name.
    Maildir,
    /// Dovecot's single-dbox: a file per message, flags in the index.
    Sdbox,
    /// Dovecot's multi-dbox: files of many messages, found by a map.
    Mdbox,
}

impl Format {
    /// The format of the mailbox at `path`, live or else in the snapshot.
    pub(crate) fn of(roots: &Roots, path: &[u8]) -> Result<Self, Refusal> {
        let live = Self::on(&roots.live, path)?;
        let snapshot = match roots.tree(Side::Snapshot) {
            Some(tree) => Self::on(tree, path)?,
            None => None,
        };
        match (live, snapshot) {
            // A multi-dbox that has lost its storage looks like a single one without messages.
            (Some(Self::Sdbox), Some(Self::Mdbox))
                if !Self::has_singles(&roots.live, path) =>
            {
                Ok(Self::Mdbox)
            }
            (Some(Self::Mdbox), Some(Self::Sdbox)) => match &roots.snapshot {
                Some(tree) if Self::has_singles(tree, path) => Self::changed(path),
                Some(_) | None => Ok(Self::Mdbox),
            },
            (Some(live), Some(snapshot)) if live != snapshot => Self::changed(path),
            (Some(format), _) | (None, Some(format)) => Ok(format),
            // A directory that is none must not pass for a mailbox without mail.
            (None, None) => Err(Refusal::NotThere { path: escape(path) }),
        }
    }

    fn changed(path: &[u8]) -> Result<Self, Refusal> {
        let what = "a mailbox that changed its format after the snapshot";
        Err(Refusal::Unsupported { path: escape(path), what })
    }

    /// Whether the inbox has messages of a single-dbox.
    fn has_singles(tree: &Tree, path: &[u8]) -> bool {
        let inbox = tree.dir(&join(path, b"mailboxes/INBOX/dbox-Mails"));
        let names = inbox.and_then(|inbox| inbox.names(ENTRIES_MAX));
        names.unwrap_or_default().iter().any(|name| name.starts_with(b"u."))
    }

    /// Nothing if there is no mailbox, or no sign of its format is left.
    pub(crate) fn on(tree: &Tree, path: &[u8]) -> Result<Option<Self>, Refusal> {
        let home = match tree.dir_if_there(path) {
            Ok(Some(home)) => home,
            Ok(None) => return Ok(None),
            Err(errno) => return Err(Refusal::read(path, errno)),
        };
        let has = |name: &[u8]| match home.look(name) {
            Ok(found) => Ok(matches!(found, Some((Kind::Directory, _)))),
            Err(errno) => Err(Refusal::read(&join(path, name), errno)),
        };
        if has(b"cur")? || has(b"new")? {
            return Ok(Some(Self::Maildir));
        }
        if has(b"storage")? {
            return Ok(Some(Self::Mdbox));
        }
        if has(b"mailboxes")? {
            return Ok(Some(Self::Sdbox));
        }
        let list = home.look(b"dovecot-uidlist");
        let list = list.map_err(|errno| Refusal::read(path, errno))?;
        Ok((list.is_some() || has(b"tmp")?).then_some(Self::Maildir))
    }
}
