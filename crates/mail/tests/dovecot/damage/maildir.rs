//! Damage to a Maildir.
//!
//! # Invariants
//!
//! * Messages are named by folder and UID; the folder's own list says which file that is.

use std::fs;
use std::path::PathBuf;

use super::{Place, Row, SAME, Side, entries, halve, overwrite, zero};
use crate::life::NESTED;

/// Every damage to a Maildir that Dovecot was seen to meet, and more.
pub(crate) const ROWS: &[Row] = &[
    Row {
        damage: "none",
        act: |_| {},
        cells: &[(Place::Live, SAME), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "mail truncated to half",
        act: |it| it.write("INBOX", 4, halve),
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, SAME),
            (Place::Both, "17 same, 1 lost and named"),
        ],
    },
    Row {
        damage: "mail empty",
        act: |it| it.write("INBOX", 3, Vec::clear),
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, SAME),
            (Place::Both, "17 same, 1 lost and named"),
        ],
    },
    Row {
        damage: "bytes behind a mail's end",
        act: |it| it.write("INBOX", 3, |bytes| bytes.extend_from_slice(b"more\n")),
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, SAME),
            (Place::Both, "17 same, 1 lost and named"),
        ],
    },
    Row {
        damage: "a block of zeros in a mail's body",
        act: |it| it.write("INBOX", 4, |bytes| bytes[4096..8192].fill(0)),
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, SAME),
            (Place::Both, "17 same, 1 lost and named"),
        ],
    },
    Row {
        damage: "first block of a mail zeros",
        act: |it| it.write("INBOX", 4, |bytes| bytes[..4096].fill(0)),
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, SAME),
            (Place::Both, "17 same, 1 lost and named"),
        ],
    },
    Row {
        damage: "mails all zeros, in the inbox and in a folder",
        act: |it| {
            it.write("INBOX", 2, zero);
            it.write(NESTED, 1, zero);
        },
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, SAME),
            (Place::Both, "15 same, 3 lost and named"),
        ],
    },
    Row {
        damage: "another mail's bytes of the same length",
        act: |it| {
            let other = fs::read(it.mail("INBOX", 3)).unwrap();
            it.write("INBOX", 2, |bytes| bytes.clone_from(&other));
        },
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, "16 same, 2 other bytes and said"),
        ],
    },
    Row {
        damage: "another mail's bytes of another length",
        act: |it| {
            let other = fs::read(it.mail("INBOX", 9)).unwrap();
            it.write("INBOX", 2, |bytes| bytes.clone_from(&other));
        },
        cells: &[(Place::Live, SAME), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "one bit flipped",
        act: |it| it.write("INBOX", 1, |bytes| bytes[1500] ^= 1),
        cells: &[(Place::Live, SAME), (Place::Snapshot, "18 same")],
    },
    Row {
        damage: "mails lost",
        act: |it| {
            it.lose_mail("INBOX", 2);
            it.lose_mail("INBOX", 10);
            it.lose_mail("&ANw-bung", 1);
        },
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, SAME),
            (Place::Both, "15 same, 3 lost and named"),
        ],
    },
    Row {
        damage: "a mail lost whose flags were changed after the snapshot",
        act: |it| it.lose_mail("INBOX", 3),
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "a mail lost that came after the snapshot",
        act: |it| it.lose_mail("INBOX", 11),
        cells: &[(Place::Live, "17 same, 1 lost and named")],
    },
    Row {
        damage: "a mail truncated that came after the snapshot",
        act: |it| it.write("INBOX", 11, halve),
        cells: &[(Place::Live, "17 same, 1 lost and named")],
    },
    Row {
        damage: "a mail truncated that was moved after the snapshot",
        act: |it| it.write("Archive", 3, halve),
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "a mail truncated in a folder that was renamed after the snapshot",
        act: |it| it.write("Archive/Old", 1, halve),
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "cur lost",
        act: |it| it.lose("cur"),
        cells: &[(Place::Live, "15 same, 3 lost and named"), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "new lost",
        act: |it| it.lose("new"),
        cells: &[(Place::Live, "17 same, 1 lost and named")],
    },
    Row {
        damage: "uidlist lost",
        act: |it| it.lose("dovecot-uidlist"),
        cells: &[(Place::Live, "14 same, 4 new UID"), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "uidlist zero-filled",
        act: |it| it.change("dovecot-uidlist", zero),
        cells: &[(Place::Live, "14 same, 4 new UID"), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "uidlist cut in half",
        act: |it| it.change("dovecot-uidlist", halve),
        cells: &[(Place::Live, "14 same, 4 new UID"), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "uidlist and indexes lost",
        act: |it| {
            it.lose("dovecot-uidlist");
            it.lose_indexes();
        },
        cells: &[(Place::Live, "14 same, 2 back though deleted and said, 4 new UID")],
    },
    Row {
        damage: "uidlists, keywords and indexes of two folders lost",
        act: |it| {
            for folder in ["", ".&ANw-bung/"] {
                it.lose(&format!("{folder}dovecot-uidlist"));
                it.lose(&format!("{folder}dovecot-keywords"));
            }
            it.lose_indexes();
        },
        cells: &[(
            Place::Live,
            "13 same, 2 back though deleted and said, 3 new UID, 1 new UID and other flags, 1 other flags and said",
        )],
    },
    Row {
        damage: "indexes lost",
        act: |it| it.lose_indexes(),
        cells: &[
            (Place::Live, "18 same"),
            (Place::Snapshot, SAME),
            (Place::Both, "18 same, 3 HIGHESTMODSEQ FELL"),
        ],
    },
    Row {
        damage: "index log zero-filled",
        act: |it| it.change("dovecot.index.log", zero),
        cells: &[(Place::Live, "18 same"), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "index log cut in half",
        act: |it| it.change("dovecot.index.log", halve),
        cells: &[(Place::Live, "18 same"), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "index cache zero-filled",
        act: |it| it.change("dovecot.index.cache", zero),
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "keywords lost in a folder without new ones",
        act: |it| it.lose(".&ANw-bung/dovecot-keywords"),
        cells: &[(Place::Live, SAME), (Place::Snapshot, SAME)],
    },
    Row {
        damage: "keywords zero-filled, one of them new since the snapshot",
        act: |it| it.change("dovecot-keywords", zero),
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "folders lost",
        act: |it| {
            it.lose(".&ANw-bung");
            it.lose(".Entw&APw-rfe.Tag &- Nacht");
        },
        cells: &[(Place::Live, "18 same, 1 back with new UID though deleted and said")],
    },
    Row {
        damage: "a folder lost that got mail after the snapshot",
        act: |it| it.lose(".Archive"),
        cells: &[(
            Place::Live,
            "16 same, 1 back where it was moved from, 1 back with new UID though deleted and said, 1 other flags and said",
        )],
    },
    Row {
        damage: "subscriptions lost",
        act: |it| it.lose("subscriptions"),
        cells: &[
            (Place::Live, SAME),
            (Place::Snapshot, "18 same, 1 back with new UID though deleted and said"),
        ],
    },
    Row {
        damage: "one name in cur and in new",
        act: |it| {
            let mail = it.mail("INBOX", 2);
            let name = mail.file_name().unwrap().to_str().unwrap();
            let base = name.split(':').next().unwrap();
            fs::copy(&mail, it.0.join("new").join(base)).unwrap();
        },
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "the whole Maildir lost",
        act: |it| it.lose(""),
        cells: &[(
            Place::Live,
            "8 same, 2 FOLDER GONE, 2 back though deleted and said, 2 folder back and said, 3 other flags and said, 5 vanished with a folder and said",
        )],
    },
    Row {
        damage: "a mail zeros here, half of it there",
        act: |it| it.write("INBOX", 2, zero),
        cells: &[(
            Place::Apart(|it| it.write("INBOX", 2, halve)),
            "16 same, 2 lost and named",
        )],
    },
    Row {
        damage: "mails damaged and lost, other ones there",
        act: |it| {
            it.write("INBOX", 1, |bytes| bytes[1500] ^= 1);
            it.write("INBOX", 9, halve);
            it.lose_mail(NESTED, 1);
            it.lose("dovecot-uidlist");
        },
        cells: &[(
            Place::Apart(|it| {
                it.write("INBOX", 3, halve);
                it.write("INBOX", 10, zero);
                it.lose_mail("INBOX", 4);
                it.lose(".Archive/dovecot-uidlist");
            }),
            "14 same, 4 new UID",
        )],
    },
    Row {
        damage: "mails and a list damaged, a mail lost",
        act: |it| {
            it.write("INBOX", 2, halve);
            it.write("INBOX", 3, zero);
            it.lose_mail("INBOX", 4);
            it.lose(".Archive/dovecot-uidlist");
        },
        cells: &[(Place::Snapshot, SAME)],
    },
    Row {
        damage: "a mail under a name that nobody knows",
        act: |it| {
            let mail = it.mail("INBOX", 2);
            fs::rename(&mail, it.0.join("cur/12345")).unwrap();
        },
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "tmp lost in all folders",
        act: |it| {
            for folder in ["", ".Archive/", ".&ANw-bung/"] {
                it.lose(&format!("{folder}tmp"));
            }
        },
        cells: &[(Place::Live, SAME)],
    },
    Row {
        damage: "the log of deleted folders lost",
        act: |it| it.lose("dovecot.mailbox.log"),
        cells: &[(
            Place::Live,
            "18 same, 1 back with new UID though deleted and said, 1 folder back and said",
        )],
    },
];

impl Side {
    fn directory(&self, folder: &str) -> PathBuf {
        match folder {
            "INBOX" => self.0.clone(),
            name => self.0.join(format!(".{}", name.replace('/', "."))),
        }
    }

    /// The file of a message, by its folder's list.
    pub(super) fn mail(&self, folder: &str, uid: u32) -> PathBuf {
        let folder = self.directory(folder);
        let list = fs::read_to_string(folder.join("dovecot-uidlist")).unwrap();
        let entry =
            list.lines().skip(1).find(|line| line.starts_with(&format!("{uid} ")));
        let entry = entry.unwrap_or_else(|| panic!("no UID {uid}: {list}"));
        let (_, base) = entry.split_once(" :").unwrap();
        let files = ["cur", "new"].into_iter().flat_map(|sub| entries(&folder.join(sub)));
        let has_base = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.split(':').next() == Some(base)
        };
        files.into_iter().find(has_base).expect("the list is true")
    }

    pub(super) fn write(&self, folder: &str, uid: u32, change: impl Fn(&mut Vec<u8>)) {
        overwrite(&self.mail(folder, uid), change);
    }

    pub(super) fn lose_mail(&self, folder: &str, uid: u32) {
        fs::remove_file(self.mail(folder, uid)).unwrap();
    }

    fn lose_indexes(&self) {
        self.lose_all("dovecot.index");
        self.lose_all("dovecot.list.index");
    }
}
