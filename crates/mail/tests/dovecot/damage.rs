//! Damage: what a broken storage does to a mailbox of Dovecot's, and what comes of it.
//!
//! # Invariants
//!
//! * Damage is done with Dovecot stopped, to files alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::life::NESTED;

/// One damage and its outcome.
pub(crate) struct Case {
    /// What is done, as a phrase.
    pub(crate) damage: &'static str,
    pub(crate) act: fn(&Sides),
    /// What mail programs see afterwards, compared with before.
    pub(crate) outcome: &'static str,
}

/// Both Maildirs of one user.
pub(crate) struct Sides {
    pub(crate) live: Maildir,
    pub(crate) snapshot: Maildir,
}

/// A Maildir of Dovecot's.
pub(crate) struct Maildir(pub(crate) PathBuf);

impl Maildir {
    fn folder(&self, name: &str) -> PathBuf {
        match name {
            "INBOX" => self.0.clone(),
            name => self.0.join(format!(".{}", name.replace('/', "."))),
        }
    }

    /// The file of a message, by its folder's list.
    fn mail(&self, folder: &str, uid: u32) -> PathBuf {
        let folder = self.folder(folder);
        let list = fs::read_to_string(folder.join("dovecot-uidlist")).unwrap();
        let entry =
            list.lines().skip(1).find(|line| line.starts_with(&format!("{uid} ")));
        let entry = entry.unwrap_or_else(|| panic!("no UID {uid}: {list}"));
        let (_, base) = entry.split_once(" :").unwrap();
        let files = ["cur", "new"].into_iter().flat_map(|sub| {
            fs::read_dir(folder.join(sub)).unwrap().map(|entry| entry.unwrap().path())
        });
        let has_base = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.split(':').next() == Some(base)
        };
        files.into_iter().find(has_base).expect("the list is true")
    }

    fn write(&self, folder: &str, uid: u32, change: impl Fn(&mut Vec<u8>)) {
        overwrite(&self.mail(folder, uid), change);
    }

    fn lose_mail(&self, folder: &str, uid: u32) {
        fs::remove_file(self.mail(folder, uid)).unwrap();
    }

    fn lose(&self, folder: &str, file: &str) {
        fs::remove_file(self.folder(folder).join(file)).unwrap();
    }

    fn change(&self, folder: &str, file: &str, change: impl Fn(&mut Vec<u8>)) {
        overwrite(&self.folder(folder).join(file), change);
    }

    fn lose_directory(&self, folder: &str, sub: &str) {
        fs::remove_dir_all(self.folder(folder).join(sub)).unwrap();
    }

    /// Removes the indexes of every folder.
    fn lose_indexes(&self) {
        for folder in fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()) {
            if is_index(&folder) {
                fs::remove_file(&folder).unwrap();
            } else if folder.is_dir() {
                for file in fs::read_dir(&folder).unwrap() {
                    let file = file.unwrap().path();
                    if is_index(&file) {
                        fs::remove_file(file).unwrap();
                    }
                }
            }
        }
    }
}

fn is_index(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.starts_with("dovecot.index") || name.starts_with("dovecot.list.index")
}

fn overwrite(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn halve(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 2);
}

fn zero(bytes: &mut Vec<u8>) {
    *bytes = vec![0; bytes.len()];
}

/// Every damage to a Maildir that Dovecot was seen to meet, and more.
pub(crate) const CASES: &[Case] = &[
    Case { damage: "none", act: |_| {}, outcome: "18 same" },
    Case {
        damage: "mail truncated to half",
        act: |it| it.live.write("INBOX", 4, halve),
        outcome: "18 same",
    },
    Case {
        damage: "mail empty",
        act: |it| it.live.write("INBOX", 3, Vec::clear),
        outcome: "18 same",
    },
    Case {
        damage: "bytes behind a mail's end",
        act: |it| it.live.write("INBOX", 3, |bytes| bytes.extend_from_slice(b"more\n")),
        outcome: "18 same",
    },
    Case {
        damage: "a block of zeros in a mail's body",
        act: |it| it.live.write("INBOX", 4, |bytes| bytes[4096..8192].fill(0)),
        outcome: "18 same",
    },
    Case {
        damage: "first block of a mail zeros",
        act: |it| it.live.write("INBOX", 4, |bytes| bytes[..4096].fill(0)),
        outcome: "18 same",
    },
    Case {
        damage: "mails all zeros, in the inbox and in a folder",
        act: |it| {
            it.live.write("INBOX", 2, zero);
            it.live.write(NESTED, 1, zero);
        },
        outcome: "18 same",
    },
    Case {
        damage: "another mail's bytes of the same length",
        act: |it| {
            let other = fs::read(it.live.mail("INBOX", 3)).unwrap();
            it.live.write("INBOX", 2, |bytes| bytes.clone_from(&other));
        },
        outcome: "18 same",
    },
    Case {
        damage: "another mail's bytes of another length",
        act: |it| {
            let other = fs::read(it.live.mail("INBOX", 9)).unwrap();
            it.live.write("INBOX", 2, |bytes| bytes.clone_from(&other));
        },
        outcome: "18 same",
    },
    Case {
        damage: "one bit flipped",
        act: |it| it.live.write("INBOX", 1, |bytes| bytes[1500] ^= 1),
        outcome: "18 same",
    },
    Case {
        damage: "mails lost",
        act: |it| {
            it.live.lose_mail("INBOX", 2);
            it.live.lose_mail("INBOX", 10);
            it.live.lose_mail("&ANw-bung", 1);
        },
        outcome: "18 same",
    },
    Case {
        damage: "a mail lost whose flags were changed after the snapshot",
        act: |it| it.live.lose_mail("INBOX", 3),
        outcome: "18 same",
    },
    Case {
        damage: "a mail lost that came after the snapshot",
        act: |it| it.live.lose_mail("INBOX", 11),
        outcome: "17 same, 1 lost and named",
    },
    Case {
        damage: "a mail truncated that came after the snapshot",
        act: |it| it.live.write("INBOX", 11, halve),
        outcome: "17 same, 1 lost and named",
    },
    Case {
        damage: "a mail truncated that was moved after the snapshot",
        act: |it| it.live.write("Archive", 3, halve),
        outcome: "18 same",
    },
    Case {
        damage: "a mail truncated in a folder that was renamed after the snapshot",
        act: |it| it.live.write("Archive/Old", 1, halve),
        outcome: "18 same",
    },
    Case {
        damage: "cur lost",
        act: |it| it.live.lose_directory("INBOX", "cur"),
        outcome: "15 same, 3 lost and named",
    },
    Case {
        damage: "new lost",
        act: |it| it.live.lose_directory("INBOX", "new"),
        outcome: "17 same, 1 lost and named",
    },
    Case {
        damage: "uidlist lost",
        act: |it| it.live.lose("INBOX", "dovecot-uidlist"),
        outcome: "14 same, 4 new UID",
    },
    Case {
        damage: "uidlist zero-filled",
        act: |it| it.live.change("INBOX", "dovecot-uidlist", zero),
        outcome: "14 same, 4 new UID",
    },
    Case {
        damage: "uidlist cut in half",
        act: |it| it.live.change("INBOX", "dovecot-uidlist", halve),
        outcome: "14 same, 4 new UID",
    },
    Case {
        damage: "uidlist and indexes lost",
        act: |it| {
            it.live.lose("INBOX", "dovecot-uidlist");
            it.live.lose_indexes();
        },
        outcome: "14 same, 2 back though deleted, 4 new UID",
    },
    Case {
        damage: "uidlists, keywords and indexes of two folders lost",
        act: |it| {
            for folder in ["INBOX", "&ANw-bung"] {
                it.live.lose(folder, "dovecot-uidlist");
                it.live.lose(folder, "dovecot-keywords");
            }
            it.live.lose_indexes();
        },
        outcome: "13 same, 2 back though deleted, 3 new UID, 1 new UID and other flags, 1 other flags",
    },
    Case { damage: "indexes lost", act: |it| it.live.lose_indexes(), outcome: "18 same" },
    Case {
        damage: "index log zero-filled",
        act: |it| it.live.change("INBOX", "dovecot.index.log", zero),
        outcome: "18 same",
    },
    Case {
        damage: "index log cut in half",
        act: |it| it.live.change("INBOX", "dovecot.index.log", halve),
        outcome: "18 same",
    },
    Case {
        damage: "index cache zero-filled",
        act: |it| it.live.change("INBOX", "dovecot.index.cache", zero),
        outcome: "18 same",
    },
    Case {
        damage: "keywords lost in a folder without new ones",
        act: |it| it.live.lose("&ANw-bung", "dovecot-keywords"),
        outcome: "18 same",
    },
    Case {
        damage: "keywords zero-filled, one of them new since the snapshot",
        act: |it| it.live.change("INBOX", "dovecot-keywords", zero),
        outcome: "18 same",
    },
    Case {
        damage: "folders lost",
        act: |it| {
            it.live.lose_directory("&ANw-bung", "");
            it.live.lose_directory(NESTED, "");
        },
        outcome: "18 same, 1 back though deleted, with new UID",
    },
    Case {
        damage: "a folder lost that got mail after the snapshot",
        act: |it| it.live.lose_directory("Archive", ""),
        outcome: "16 same, 1 back though deleted, with new UID, 1 back where it was moved from, 1 other flags",
    },
    Case {
        damage: "subscriptions lost",
        act: |it| it.live.lose("INBOX", "subscriptions"),
        outcome: "18 same",
    },
    Case {
        damage: "one name in cur and in new",
        act: |it| {
            let mail = it.live.mail("INBOX", 2);
            let name = mail.file_name().unwrap().to_str().unwrap();
            let base = name.split(':').next().unwrap();
            fs::copy(&mail, it.live.0.join("new").join(base)).unwrap();
        },
        outcome: "18 same",
    },
    Case {
        damage: "the whole Maildir lost",
        act: |it| fs::remove_dir_all(&it.live.0).unwrap(),
        outcome: "8 same, 2 FOLDER GONE, 5 VANISHED, 2 back though deleted, 2 folder back though deleted, 3 other flags",
    },
    Case {
        damage: "a mail damaged on both sides",
        act: |it| {
            it.live.write("INBOX", 2, zero);
            it.snapshot.write("INBOX", 2, halve);
        },
        outcome: "16 same, 2 lost and named",
    },
    Case {
        damage: "only the snapshot damaged",
        act: |it| {
            it.snapshot.write("INBOX", 2, halve);
            it.snapshot.write("INBOX", 3, zero);
            it.snapshot.lose_mail("INBOX", 4);
            it.snapshot.lose("Archive", "dovecot-uidlist");
        },
        outcome: "18 same",
    },
];
