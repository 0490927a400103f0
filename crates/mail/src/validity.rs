//! Validity: the UIDVALIDITY of each folder, as the live mailbox's own lists have it.
//!
//! # Invariants
//!
//! * Nothing is derived: a folder whose list is not there, or not whole, is left out.
//! * Bounded: of a Maildir's list the first line is read; of an index no more than by a probe.

use std::collections::BTreeMap;
use std::io::BufReader;

use crate::dbox::known::FOLDER;
use crate::dbox::probe::read_once;
use crate::dbox::survey::{MAILBOXES, MAILS, folder_path, report_name};
use crate::format::Format;
use crate::index::Reading;
use crate::maildir::survey::ENTRIES_MAX;
use crate::maildir::uidlist::Reader;
use crate::refusal::Refusal;
use crate::store::{Mailbox, Store, check_path};
use crate::walk::{Kind, Tree, join};

/// Folders of one mailbox that are looked at; those beyond are left out.
const FOLDERS_MAX: usize = 10_000;

/// Folders in folders: more than any layout has.
const DEPTH_MAX: usize = 32;

/// The UIDVALIDITY of folders by their names in manifests.
type Validities = BTreeMap<Vec<u8>, u32>;

impl Store {
    /// The UIDVALIDITY of each folder whose live list tells it, by its name in manifests. A mail
    /// program that meets another one forgets all that it has fetched of the folder.
    ///
    /// What stands at the mailbox's place is read, also while that is a dial tone. Lists that the
    /// mail server keeps elsewhere (`INDEX=`, `CONTROL=`) are not found, and their folders left out.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the mailbox itself cannot be listed.
    pub fn uid_validities(&self, mailbox: &Mailbox) -> Result<Validities, Refusal> {
        check_path(&mailbox.path)?;
        let (root, path) = (&self.roots.live, &*mailbox.path);
        let refuse = |errno| Refusal::read(path, errno);
        let mut found = Validities::new();
        match Format::on(root, path)? {
            None => {}
            Some(Format::Maildir) => {
                let home = root.dir(path).map_err(refuse)?;
                let names = home.names(ENTRIES_MAX).map_err(refuse)?;
                let folders = names.iter().filter_map(|name| name.strip_prefix(b"."));
                let folders = folders.filter(|folder| !folder.is_empty());
                for folder in [&b""[..]].into_iter().chain(folders).take(FOLDERS_MAX) {
                    found.extend(of_maildir(&home, folder).map(|it| (folder.into(), it)));
                }
            }
            Some(Format::Sdbox | Format::Mdbox) => {
                let home = root.dir(path).map_err(refuse)?;
                let mut names = Vec::new();
                if let Some(dir) = home.dir_if_there(MAILBOXES).map_err(refuse)? {
                    dbox_folders(&dir, b"", &mut names, 0);
                }
                for folder in names {
                    let told = of_dbox(&home, &folder);
                    found.extend(told.map(|it| (report_name(&folder).to_vec(), it)));
                }
            }
        }
        Ok(found)
    }
}

/// What the first line of a folder's `dovecot-uidlist` says.
fn of_maildir(home: &Tree, folder: &[u8]) -> Option<u32> {
    let dir = crate::maildir::survey::folder_path(folder);
    let (file, _) = home.file(&join(&dir, b"dovecot-uidlist")).ok()?;
    Reader::new(BufReader::new(file)).uid_validity()
}

/// What a folder's index says, if all its files fit together.
fn of_dbox(home: &Tree, folder: &[u8]) -> Option<u32> {
    match read_once(home, &folder_path(folder), FOLDER).ok()?? {
        Reading::Whole(index) => Some(index.uid_validity).filter(|it| *it > 0),
        Reading::Stale(_) | Reading::Broken(_) | Reading::Silent => None,
    }
}

/// Folders in and below a directory, by their own directories; what cannot be listed is left out.
fn dbox_folders(dir: &Tree, name: &[u8], found: &mut Vec<Vec<u8>>, depth: usize) {
    let seen = dir.list(ENTRIES_MAX).unwrap_or_default();
    for entry in seen.into_iter().filter(|entry| entry.kind == Kind::Directory) {
        if found.len() >= FOLDERS_MAX || depth > DEPTH_MAX {
            return;
        }
        if entry.name == MAILS && !name.is_empty() {
            found.push(name.to_vec());
        } else if let Ok(below) = dir.dir(&entry.name) {
            dbox_folders(&below, &join(name, &entry.name), found, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::dbox::doveadm::Life;

    #[test]
    fn a_maildirs_lists_tell_what_its_mail_server_shows() {
        let life = Life::new("maildir");
        assert_eq!(told(&life), shown(&life, &[(b"", "INBOX"), ARCHIVE_OF_MAILDIR]));

        let list = life.mail(".Archive.2024/dovecot-uidlist");
        fs::write(&list, b"3 V17").unwrap();
        let empty = life.mail(".Empty");
        fs::create_dir(&empty).unwrap();
        // Dovecot may look into it, and makes what it misses there.
        let owner = fs::metadata(life.mail("")).unwrap();
        std::os::unix::fs::chown(&empty, Some(owner.uid()), Some(owner.gid())).unwrap();

        assert_eq!(
            told(&life),
            shown(&life, &[(b"", "INBOX")]),
            "a line without its end"
        );
        fs::remove_dir_all(empty).unwrap();
        fs::remove_file(&list).unwrap();
        std::os::unix::fs::symlink("../dovecot-uidlist", &list).unwrap();
        assert_eq!(told(&life).len(), 1, "no link is followed");
    }

    #[test]
    fn an_sdbox_tells_by_its_indexes_what_its_mail_server_shows() {
        told_by_indexes(&Life::new("sdbox"));
    }

    #[test]
    fn an_mdbox_tells_by_its_indexes_what_its_mail_server_shows() {
        told_by_indexes(&Life::new("mdbox"));
    }

    fn told_by_indexes(life: &Life) {
        let (inbox, archive) = ((&b""[..], "INBOX"), (&b"Archive/2024"[..], ARCHIVE));
        assert_eq!(told(life), shown(life, &[inbox, archive]));

        let expected = shown(life, &[archive]);
        let length = fs::metadata(life.mail(INBOX_LOG)).unwrap().len();
        life.cut(INBOX_LOG, length - 3);

        assert_eq!(told(life), expected, "a log that ends inside a record tells nothing");
    }

    const ARCHIVE: &str = "Archive/2024";
    const ARCHIVE_OF_MAILDIR: (&[u8], &str) = (b"Archive.2024", ARCHIVE);
    const INBOX_LOG: &str = "mailboxes/INBOX/dbox-Mails/dovecot.index.log";

    fn told(life: &Life) -> Validities {
        life.store().uid_validities(&Life::mailbox(false)).unwrap()
    }

    fn shown(life: &Life, folders: &[(&[u8], &str)]) -> Validities {
        let validity = |folder: &str| {
            let line = ["-f", "tab", "mailbox", "status", "uidvalidity", folder];
            let line = life.run(&line, "");
            line.trim().rsplit(['\t', '\n']).next().unwrap().parse().unwrap()
        };
        folders.iter().map(|(name, shown)| (name.to_vec(), validity(shown))).collect()
    }
}
