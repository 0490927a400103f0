//! Folders: which folders a mailbox had, as `dovecot.list.index` tells.
//!
//! # Invariants
//!
//! * It is Dovecot's memory, made anew when it is lost: what it names was there once.
//! * A folder whose name cannot be read with those it is below of is not named; names are bounded
//!   like those of files.

use std::collections::HashMap;

use super::words::{array, word};
use super::{Index, Rare};

/// Folders of one mailbox that are counted; more are an attack or an accident.
const FOLDERS_MAX: usize = 20_000;

/// A name is one directory, or part of one.
const NAME_BYTES_MAX: usize = 255;

/// Dovecot allows no longer names, with all folders that one is below of.
const PATH_BYTES_MAX: usize = 4096;

/// Flags of folders that do not exist, or hold other folders only.
const NONEXISTENT: u8 = 4;
const NOT_SELECTABLE: u8 = 16;

/// A folder that Dovecot knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedFolder {
    /// Its name as in the file system (modified UTF-7), with those it is below of.
    pub(crate) path: Vec<Vec<u8>>,
    pub(crate) guid: Option<[u8; 16]>,
    pub(crate) uid_validity: Option<u32>,
    /// What it held when a client asked last, if one has asked.
    pub(crate) messages: Option<u32>,
    pub(crate) next_uid: Option<u32>,
}

impl ListedFolder {
    /// The directory of the folder in a Maildir++ without the leading dot; empty is the inbox.
    pub(crate) fn maildir(&self) -> Vec<u8> {
        match &*self.path {
            [inbox] if inbox.eq_ignore_ascii_case(b"INBOX") => Vec::new(),
            path => path.join(&b'.'),
        }
    }

    /// Its GUID as UID lists have it.
    pub(crate) fn guid_digits(&self) -> Option<Vec<u8>> {
        let guid = u128::from_be_bytes(self.guid?);
        Some(format!("{guid:032x}").into_bytes())
    }

    /// The directory of the folder below `mailboxes` of a dbox.
    pub(crate) fn dbox(&self) -> Vec<u8> {
        self.path.join(&b'/')
    }
}

impl Index {
    /// The folders that can hold mail, if this is a list of folders that can be read.
    pub(crate) fn folders(&self) -> Option<Vec<ListedFolder>> {
        let names = names(self.head(b"list")?)?;
        let listed = || {
            let mails = self.mails.iter().take(FOLDERS_MAX);
            mails
                .filter_map(|(uid, mail)| Some((*uid, mail.flags, mail.rare.as_deref()?)))
        };
        let places: HashMap<u32, Place> =
            listed().filter_map(|(uid, _, rare)| Some((uid, Place::of(rare)?))).collect();
        let folder = |(uid, flags, rare): (u32, u8, &Rare)| {
            let holds_mail = flags & (NONEXISTENT | NOT_SELECTABLE) == 0;
            let path = path(uid, &places, &names).filter(|_| holds_mail)?;
            Some(ListedFolder::new(path, rare))
        };
        Some(listed().filter_map(folder).collect())
    }
}

impl ListedFolder {
    fn new(path: Vec<Vec<u8>>, rare: &Rare) -> Self {
        let some = |number: Option<u32>| number.filter(|it| *it != 0);
        let next_uid = some(word(&rare.status, 12));
        Self {
            path,
            guid: array(&rare.list, 8).filter(|guid| *guid != [0; 16]),
            uid_validity: some(word(&rare.list, 24)),
            messages: next_uid.and_then(|_| word(&rare.status, 0)),
            next_uid,
        }
    }
}

/// Where a folder stands among the others.
#[derive(Clone, Copy)]
struct Place {
    name: u32,
    /// The number of the folder that it is in, or zero.
    parent: u32,
}

impl Place {
    fn of(rare: &Rare) -> Option<Self> {
        Some(Self { name: word(&rare.list, 0)?, parent: word(&rare.list, 4)? })
    }
}

/// The names from the first folder down to this one, if all are known.
fn path(
    uid: u32,
    places: &HashMap<u32, Place>,
    names: &HashMap<u32, &[u8]>,
) -> Option<Vec<Vec<u8>>> {
    let (mut path, mut bytes) = (Vec::new(), 0);
    let mut next = uid;
    while next != 0 {
        let place = places.get(&next)?;
        let name = names.get(&place.name)?;
        bytes += name.len() + 1;
        if bytes > PATH_BYTES_MAX {
            return None;
        }
        path.push(name.to_vec());
        next = place.parent;
    }
    path.reverse();
    Some(path)
}

/// A mark, then rising numbers, each with a name that ends in a zero; number zero ends them.
fn names(head: &[u8]) -> Option<HashMap<u32, &[u8]>> {
    let mut rest = head.get(1..)?;
    let mut names = HashMap::new();
    while let Some(id) = word(rest, 0).filter(|id| *id != 0) {
        rest = rest.get(4..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let name = rest.get(..end).filter(|name| is_name(name))?;
        names.insert(id, name);
        rest = rest.get(end + 1..)?;
    }
    Some(names)
}

fn is_name(name: &[u8]) -> bool {
    let dots = matches!(name, b"" | b"." | b"..");
    !dots && name.len() <= NAME_BYTES_MAX && !name.contains(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_folder_below_itself_and_one_without_a_name_have_no_path() {
        let place = |name, parent| Place { name, parent };
        let places = HashMap::from([
            (1, place(1, 0)),
            (2, place(2, 1)),
            (3, place(1, 4)),
            (4, place(2, 3)),
            (5, place(9, 0)),
            (6, place(1, 77)),
        ]);
        let names = names(b"\0\x01\0\0\0Work\0\x02\0\0\x002024\0\0\0\0\0").unwrap();

        let paths: Vec<_> = (1..=6).map(|uid| path(uid, &places, &names)).collect();

        let work = vec![b"Work".to_vec()];
        let below = vec![b"Work".to_vec(), b"2024".to_vec()];
        assert_eq!(paths, [Some(work), Some(below), None, None, None, None]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_no_names() {
        for name in ["", ".", "..", "a/b", &"x".repeat(256)] {
            assert_eq!(names(&[b"\0\x01\0\0\0", name.as_bytes(), &[0]].concat()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_names(bytes: Vec<u8>) {
            let _ = names(&bytes);
        }
    }
}
