//! Practice: what the lab says of a mailbox, in the words of what Dovecot shows.
//!
//! # Invariants
//!
//! * Both sides are told in full: no UID, flag, keyword, size or folder is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate_lab::{Fate, MailboxTruth};

use crate::judge::{View, digests};

/// By folder and UID; a message that no list has met yet has none.
pub(crate) type Told = BTreeMap<String, Folder>;

/// One folder as both can tell it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    uid_validity: u32,
    messages: BTreeMap<u32, Message>,
}

#[derive(Debug, PartialEq, Eq)]
struct Message {
    flags: BTreeSet<String>,
    size: u32,
    /// Of the bytes served, CRLF line ends.
    digest: String,
}

/// The first difference of a mailbox, folder by folder and message by message.
pub(crate) fn difference(seen: &Told, wanted: &Told) -> Option<String> {
    let names = |told: &Told| told.keys().cloned().collect::<Vec<_>>();
    if names(seen) != names(wanted) {
        return Some(format!("folders {:?}, not {:?}", names(seen), names(wanted)));
    }
    for (name, folder) in seen {
        let wanted = &wanted[name];
        let uids = folder.messages.keys().chain(wanted.messages.keys());
        for uid in uids {
            let pair = (folder.messages.get(uid), wanted.messages.get(uid));
            if pair.0 != pair.1 {
                return Some(format!(
                    "{name}, UID {uid}: {:?}, not {:?}",
                    pair.0, pair.1
                ));
            }
        }
        if folder != wanted {
            return Some(format!("{name}: {}", folder.uid_validity));
        }
    }
    None
}

/// What Dovecot showed.
pub(crate) fn seen(view: &View) -> Told {
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let message = |(uid, it): (&String, &Value)| {
        let flags = serde_json::from_value(it["flags"].clone()).unwrap();
        let digest = it["digest"].as_str().unwrap().to_owned();
        (uid.parse().unwrap(), Message { flags, size: number(&it["size"]), digest })
    };
    let folder = |(name, it): (&String, &Value)| {
        let messages = it["messages"].as_object().unwrap().iter().map(message).collect();
        (name.clone(), Folder { uid_validity: number(&it["validity"]), messages })
    };
    view["folders"].as_object().unwrap().iter().map(folder).collect()
}

/// What the lab wrote.
pub(crate) fn wanted(mailbox: &MailboxTruth, live: &Path) -> Told {
    let maildir = live.join(&mailbox.path);
    let mut told = Told::new();
    let (mut places, mut files) = (Vec::new(), Vec::new());
    for (number, folder) in mailbox.folders.iter().enumerate() {
        let (name, path) = match folder.name.as_str() {
            "" => ("INBOX".to_owned(), maildir.clone()),
            name => (name.replace('.', "/"), maildir.join(format!(".{name}"))),
        };
        let mut messages = BTreeMap::new();
        let mut unlisted = folder.last_uid;
        let here = mailbox.messages.iter().filter(|it| it.folder == number);
        for message in here.filter(|it| it.fate == Fate::Wanted) {
            let uid = message.uid.unwrap_or_else(|| {
                unlisted += 1;
                unlisted
            });
            files.push(find(&path, &message.name));
            places.push((name.clone(), uid));
            // Dovecot keeps `P`, which other servers write, and shows it to nobody.
            let flags = message.flags.chars().filter(|letter| *letter != 'P');
            let flags = flags.map(|letter| flag(letter).to_owned());
            let keywords = message.keywords.iter().map(|&it| it.to_owned());
            let flags = flags.chain(keywords).collect();
            let size = virtual_size(&message.name);
            let digest = String::new();
            messages.insert(uid, Message { flags, size, digest });
        }
        told.insert(name, Folder { uid_validity: folder.uid_validity, messages });
    }
    for ((name, uid), digest) in places.into_iter().zip(digests(&files)) {
        let folder = told.get_mut(&name).unwrap();
        folder.messages.get_mut(&uid).unwrap().digest = digest;
    }
    told
}

/// The number behind `W=`.
fn virtual_size(name: &str) -> u32 {
    name.split_once("W=").unwrap().1.parse().unwrap()
}

fn flag(letter: char) -> &'static str {
    match letter {
        'D' => "\\Draft",
        'F' => "\\Flagged",
        'R' => "\\Answered",
        'S' => "\\Seen",
        'T' => "\\Deleted",
        letter => panic!("no flag has the letter {letter}"),
    }
}

fn find(folder: &Path, base: &str) -> PathBuf {
    for sub in ["cur", "new"] {
        for entry in fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.split(':').next() == Some(base) {
                return path;
            }
        }
    }
    panic!("{base} is not in {}", folder.display())
}
